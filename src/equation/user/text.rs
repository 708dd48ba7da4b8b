//! What is decided on a text's tokens, before a parser sees it: that it ends where it ends, that no parser's recursion or
//! constant evaluation can be made to explode, and that it declares no name that is taken.

use crate::error::Error;
use std::collections::HashMap;

/// What is wrong with a text, and where in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Fault {
    pub(crate) fn error(self, file: &str) -> Error {
        Error::spec(file, format!("line {}, column {}: {}", self.line, self.column, self.message), self.help)
    }
}

/// What a text may use beside WGSL's built-ins and its own declarations.
pub(crate) const ALLOWED: &str = "a function may use its arguments, its own functions, constants and structs, WGSL's built-in \
                       functions, and distance, tanh_f32, user_u32, user_f32, user_words";

type Result<T> = std::result::Result<T, Fault>;

/// Brackets around an expression and operators in it, together: what a parser's recursion grows with.
const MAX_DEPTH: usize = 96;

/// Declarations of a text; parsers recurse along their dependencies.
const MAX_DECLARATIONS: usize = 128;

/// `else` branches of a text; parsers nest them.
const MAX_ELSE: usize = 64;

/// Elements of an array.
const MAX_ELEMENTS: u64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Word,
    Number,
    /// One character.
    Sign(char),
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    at: usize,
}

impl Token<'_> {
    fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }
}

/// Line and column (in bytes), from 1.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before.len() - start + 1)
}

fn fault(text: &str, at: usize, message: impl Into<String>, help: impl Into<String>) -> Fault {
    let (line, column) = place(text, at);
    Fault { line, column, message: message.into(), help: help.into() }
}

/// Words, numbers and signs; comments are left out.
fn tokens(text: &str) -> Result<Vec<Token<'_>>> {
    let bytes = text.as_bytes();
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let c = byte(at);
        if c == b'/' && byte(at + 1) == b'/' {
            while at < bytes.len() && byte(at) != b'\n' {
                at += 1;
            }
            // other characters that end a line for one compiler and not for another
            let comment = text.get(start..at).unwrap_or_default();
            let comment = comment.strip_suffix('\r').unwrap_or(comment);
            if let Some((i, _)) = comment.char_indices().find(|(_, c)| ends_a_line(*c)) {
                let help = "end the line with a line feed";
                return Err(fault(text, start + i, "an unusual end of line in a comment", help));
            }
        } else if c == b'/' && byte(at + 1) == b'*' {
            let mut depth = 0;
            loop {
                match (byte(at), byte(at + 1)) {
                    (b'/', b'*') => (depth, at) = (depth + 1, at + 2),
                    (b'*', b'/') => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 {
                    break;
                }
                if at >= bytes.len() {
                    return Err(fault(text, start, "a comment that never ends", "close it with */"));
                }
            }
        } else if matches!(c, b' ' | b'\t' | b'\n') || (c == b'\r' && byte(at + 1) == b'\n') {
            at += 1;
        } else if c.is_ascii_alphabetic() || c == b'_' {
            while byte(at).is_ascii_alphanumeric() || byte(at) == b'_' {
                at += 1;
            }
            tokens.push(Token { kind: Kind::Word, text: &text[start..at], at: start });
        } else if c.is_ascii_digit() || (c == b'.' && byte(at + 1).is_ascii_digit()) {
            // a second point begins a member: 1.0.x
            while byte(at).is_ascii_alphanumeric()
                || (byte(at) == b'.' && !text[start..at].contains('.'))
                || (matches!(byte(at), b'+' | b'-') && exponent(text, start, at))
            {
                at += 1;
            }
            tokens.push(Token { kind: Kind::Number, text: &text[start..at], at: start });
        } else if c.is_ascii_punctuation() && !b"#$\"'\\`?".contains(&c) {
            at += 1;
            tokens.push(Token { kind: Kind::Sign(c as char), text: &text[start..at], at: start });
        } else {
            let c = text.get(at..).and_then(|t| t.chars().next()).unwrap_or_default();
            let help = "write ASCII outside comments";
            return Err(fault(text, at, format!("the character {c:?}"), help));
        }
    }
    Ok(tokens)
}

fn ends_a_line(c: char) -> bool {
    matches!(c, '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\0') || c == '\r'
}

/// Whether the sign at `at` belongs to a number's exponent (1e-3, 0x1p+4).
fn exponent(text: &str, start: usize, at: usize) -> bool {
    let number = &text.as_bytes()[start..at];
    let hexadecimal = number.starts_with(b"0x") || number.starts_with(b"0X");
    match number.last() {
        Some(b'e' | b'E') => !hexadecimal,
        Some(b'p' | b'P') => hexadecimal,
        _ => false,
    }
}

/// Whether a text uses one of `names`. A text that cannot be read uses none.
pub(crate) fn mentions(text: &str, names: &[&str]) -> bool {
    tokens(text).is_ok_and(|tokens| tokens.iter().any(|t| t.kind == Kind::Word && names.contains(&t.text)))
}

/// The names of declarations at module scope (functions, constants, variables, structs, aliases) in a shader file.
pub(crate) fn declarations(text: &str) -> Vec<&str> {
    let Ok(tokens) = tokens(text) else { return Vec::new() };
    module_scope(&tokens).into_iter().map(|(_, name)| name.text).collect()
}

/// Keyword and name of every declaration at module scope.
fn module_scope<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<(&'t Token<'a>, &'t Token<'a>)> {
    let mut depth = 0usize;
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 && DECLARING.contains(&token.text) => {
                // var<workgroup> name
                let mut rest = tokens[i + 1..].iter();
                let mut name = rest.next();
                if name.is_some_and(|t| t.is('<')) {
                    name = rest.skip_while(|t| !t.is('>')).nth(1);
                }
                if let Some(name) = name.filter(|n| n.kind == Kind::Word) {
                    found.push((token, name));
                }
            }
            _ => {}
        }
    }
    found
}

const DECLARING: [&str; 7] = ["fn", "const", "struct", "alias", "var", "let", "override"];

/// Checks a text whose module-scope names must differ from `taken` (name, file); gives back what it declares.
pub(crate) fn check<'a>(text: &'a str, taken: &HashMap<String, &'static str>) -> Result<Vec<&'a str>> {
    let tokens = tokens(text)?;
    let declared = module_scope(&tokens);
    balanced(text, &tokens)?;
    forbidden(text, &tokens, &declared)?;
    for (_, name) in &declared {
        if let Some(file) = taken.get(name.text) {
            let help = "choose another name (one that begins with my_ never clashes)";
            return Err(fault(text, name.at, format!("`{}` is declared in {file}", name.text), help));
        }
        if name.text.starts_with("TABLE_") {
            let help = "choose another name: those of a plan's tables begin so";
            return Err(fault(text, name.at, format!("`{}` may be declared in (preamble)", name.text), help));
        }
        if is_built_in(name.text) {
            let help = "choose another name: the kernels use this one";
            return Err(fault(text, name.at, format!("`{}` is a name of WGSL's own", name.text), help));
        }
    }
    if let Some((_, name)) = declared.get(MAX_DECLARATIONS) {
        let help = format!("declare at most {MAX_DECLARATIONS} functions, constants, structs and aliases");
        return Err(fault(text, name.at, format!("{} declarations", declared.len()), help));
    }
    array_sizes(text, &tokens)?;
    Ok(declared.into_iter().map(|(_, name)| name.text).collect())
}

/// Brackets close what they open, and no expression is too deep for a parser.
fn balanced(text: &str, tokens: &[Token]) -> Result<()> {
    struct Open<'t, 'a> {
        token: &'t Token<'a>,
        /// Operators since the last comma or semicolon inside.
        operators: usize,
    }
    let mut open: Vec<Open> = Vec::new();
    let (mut outside, mut total) = (0, 0);
    for token in tokens {
        match token.kind {
            Kind::Sign('(' | '[' | '{') => {
                // an index is an operator too: a[0][0][0]
                if token.is('[') {
                    *open.last_mut().map_or(&mut outside, |o| &mut o.operators) += 1;
                    total += 1;
                }
                open.push(Open { token, operators: 0 });
                total += 1;
            }
            Kind::Sign(closing @ (')' | ']' | '}')) => {
                let opening = match closing {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                match open.pop() {
                    Some(o) if o.token.is(opening) => total -= 1 + o.operators,
                    Some(o) => {
                        let (line, column) = place(text, o.token.at);
                        let message =
                            format!("`{closing}` closes the `{}` of line {line}, column {column}", o.token.text);
                        return Err(fault(text, token.at, message, "close what was opened last"));
                    }
                    None => {
                        let help = "remove it: a text holds whole declarations";
                        return Err(fault(text, token.at, format!("`{closing}` closes nothing"), help));
                    }
                }
                if closing == '}' {
                    let operators = open.last_mut().map_or(&mut outside, |o| &mut o.operators);
                    total -= std::mem::take(operators);
                }
            }
            Kind::Sign(',' | ';') => {
                let operators = open.last_mut().map_or(&mut outside, |o| &mut o.operators);
                total -= std::mem::take(operators);
            }
            Kind::Sign(':' | '@') => {}
            Kind::Sign(_) => {
                *open.last_mut().map_or(&mut outside, |o| &mut o.operators) += 1;
                total += 1;
            }
            Kind::Word | Kind::Number => {}
        }
        if total > MAX_DEPTH {
            let help = format!("let brackets and operators nest at most {MAX_DEPTH} deep: name parts with let");
            return Err(fault(text, token.at, "an expression or a block that is too deep", help));
        }
    }
    match open.last() {
        Some(o) => Err(fault(text, o.token.at, format!("`{}` is never closed", o.token.text), "close it")),
        None => Ok(()),
    }
}

/// What a text may not contain, whatever a parser would say.
fn forbidden(text: &str, tokens: &[Token], declared: &[(&Token, &Token)]) -> Result<()> {
    let word = |i: usize| tokens.get(i).filter(|t| t.kind == Kind::Word).map_or("", |t| t.text);
    let sign = |i: usize, c: char| tokens.get(i).is_some_and(|t| t.is(c));
    let bad = |token: &Token, message: String| Err(fault(text, token.at, message, ALLOWED));
    let names = |keyword: &str| -> Vec<&str> {
        declared.iter().filter(|(k, _)| k.text == keyword).map(|(_, name)| name.text).collect()
    };
    let (functions, structs) = (names("fn"), names("struct"));
    let module_scope: Vec<usize> = declared.iter().map(|(keyword, _)| keyword.at).collect();
    let mut depth = 0usize;
    let mut else_branches = 0;
    // the declaration at module scope that a token belongs to
    let mut within = "";
    for (i, token) in tokens.iter().enumerate() {
        if depth == 0 && module_scope.contains(&token.at) {
            within = token.text;
        }
        match token.kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Kind::Sign('@') => {
                let what = match word(i + 1) {
                    "compute" | "vertex" | "fragment" | "workgroup_size" => "an entry point",
                    "group" | "binding" => "a binding",
                    "id" => "an override",
                    _ => "an attribute",
                };
                return bad(token, format!("@{}: {what} has no place here", word(i + 1)));
            }
            Kind::Word if depth == 0 && token.text == "var" => {
                return bad(token, format!("a variable of the module, `{}`", word(i + 1)));
            }
            Kind::Word if matches!(token.text, "override" | "enable" | "requires" | "diagnostic") => {
                return bad(token, format!("`{}` has no place here", token.text));
            }
            Kind::Word if token.text.ends_with("Barrier") || token.text.starts_with("atomic") => {
                return bad(token, format!("`{}`: invocations do not meet here", token.text));
            }
            Kind::Word if token.text == "else" => {
                else_branches += 1;
                if else_branches > MAX_ELSE {
                    let help = format!("write at most {MAX_ELSE} in a text: use switch, or a table");
                    return Err(fault(text, token.at, "too many `else`", help));
                }
            }
            // nested structs double in size with every level
            Kind::Word if matches!(within, "struct" | "alias") && structs.contains(&token.text) => {
                let own = i > 0 && word(i - 1) == "struct";
                if !own {
                    let help = "let structs hold numbers, vectors, matrices and arrays of them";
                    return Err(fault(
                        text,
                        token.at,
                        format!("the struct `{}` inside another type", token.text),
                        help,
                    ));
                }
            }
            // T(): a parser that folds it writes out every element
            Kind::Word | Kind::Sign('>') if sign(i + 1, '(') && sign(i + 2, ')') => {
                let own = functions.contains(&token.text) || token.text == "user_words";
                let declaring = i > 0 && word(i - 1) == "fn";
                if !own && !declaring {
                    let help = "write the value out, or declare a var without one: it starts as zero";
                    return Err(fault(text, token.at, format!("`{}()` without arguments", token.text), help));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// `array<T, N>`: N is a number, or the name of a constant that is one.
fn array_sizes(text: &str, tokens: &[Token]) -> Result<()> {
    for (i, token) in tokens.iter().enumerate() {
        if token.text != "array" || !tokens.get(i + 1).is_some_and(|t| t.is('<')) {
            continue;
        }
        let mut angles = 0;
        let mut size: &[Token] = &[];
        let mut from = None;
        for (n, t) in tokens.iter().enumerate().skip(i + 1) {
            match t.kind {
                Kind::Sign('<') => angles += 1,
                Kind::Sign('>') => angles -= 1,
                Kind::Sign(',') if angles == 1 => {
                    from.get_or_insert(n + 1);
                }
                Kind::Sign(';' | '{' | '}') => break,
                _ => {}
            }
            if angles == 0 {
                size = from.and_then(|from| tokens.get(from..n)).unwrap_or_default();
                break;
            }
        }
        let value = match size {
            [t] | [t, Token { kind: Kind::Sign(','), .. }] => match t.kind {
                Kind::Number => integer(t.text),
                Kind::Word => constant(tokens, t.text),
                Kind::Sign(_) => None,
            },
            _ => None,
        };
        if !value.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n)) {
            let help = format!(
                "give 1 to {MAX_ELEMENTS} elements, as a number or as a constant that is one (const N = 8;); larger \
                 tables belong in user_data"
            );
            return Err(fault(text, token.at, "an array's size", help));
        }
    }
    Ok(())
}

fn integer(text: &str) -> Option<u64> {
    let text = text.trim_end_matches(['u', 'i']);
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The value of the one `const name = NUMBER;` or `const name: T = NUMBER;` of a text.
fn constant(tokens: &[Token], name: &str) -> Option<u64> {
    let mut values =
        tokens.windows(2).enumerate().filter(|(_, w)| w[0].text == "const" && w[1].text == name).map(|(i, _)| {
            let rest = tokens.get(i + 2..).unwrap_or_default();
            let value = match rest {
                [colon, _, rest @ ..] if colon.is(':') => rest,
                rest => rest,
            };
            match value {
                [equals, number, end, ..] if equals.is('=') && end.is(';') && number.kind == Kind::Number => {
                    integer(number.text)
                }
                _ => None,
            }
        });
    let value = values.next()?;
    if values.next().is_some() { None } else { value }
}

/// WGSL's predeclared types and functions. A declaration at module scope would take their place in the kernels too.
fn is_built_in(name: &str) -> bool {
    let shorthand = |prefix: &str| name.starts_with(prefix) && name.len() <= prefix.len() + 4;
    shorthand("vec")
        || shorthand("mat")
        || name.starts_with("texture_")
        || name.starts_with("texture")
        || name.starts_with("atomic")
        || name.starts_with("subgroup")
        || name.starts_with("quad")
        || name.starts_with("pack")
        || name.starts_with("unpack")
        || name.starts_with("dpd")
        || name.starts_with("fwidth")
        || name.ends_with("Barrier")
        || BUILT_IN.split(' ').any(|built_in| built_in == name)
}

const BUILT_IN: &str = "abs acos acosh all any array arrayLength asin asinh atan atan2 atanh binding_array bitcast bool ceil clamp \
    compute cos cosh countLeadingZeros countOneBits countTrailingZeros cross degrees determinant distance dot \
    dot4I8Packed dot4U8Packed exp exp2 extractBits f16 f32 f64 faceForward firstLeadingBit firstTrailingBit floor \
    fma fract fragment frexp function i32 i64 insertBits inverseSqrt ldexp length log log2 max min mix modf \
    normalize pow private ptr quantizeToF16 radians read read_write reflect refract reverseBits round sampler \
    sampler_comparison saturate select sign sin sinh smoothstep sqrt step storage tan tanh transpose trunc u32 u64 \
    uniform vertex workgroup workgroupUniformLoad write";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn tokens_skip_comments_and_keep_numbers_whole() {
        let words: Vec<_> = tokens("a /* b /* c */ d */ 1e-3+0x1p-2 // e\n.5f-2")
            .map(|t| t.iter().map(|t| t.text).collect())
            .unwrap_or_default();
        assert_eq!(words, ["a", "1e-3", "+", "0x1p-2", ".5f", "-", "2"]);
    }

    #[test]
    fn declarations_are_those_of_the_module() {
        let text = "var<workgroup> a: u32;\nfn b(c: u32) { let d = 1; }\nstruct e { f: u32 }\nalias g = u32; const h: u32 = 1;";
        assert_eq!(declarations(text), ["a", "b", "e", "g", "h"]);
    }

    #[test]
    fn sizes_are_numbers_or_constants_that_are() {
        let check = |text: &str| check(text, &HashMap::new()).is_ok();
        assert!(check("const N: u32 = 8u; alias A = array<array<vec2<f32>, N>, 0x10>; const B = array(1, 2);"));
        for bad in [
            "alias A = array<u32, 4294967295>;",
            "alias A = array<u32, 8 * 1024>;",
            "alias A = array<u32>;",
            "const N = 8; fn f() { const N = 100000; var a: array<u32, N>; }",
            "const M = 100000; const N = M; alias A = array<u32, N>;",
            "alias A = array<u32, 0>;",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }
}
