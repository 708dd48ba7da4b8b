//! What is decided on naga's representation: types, the signature, what a function may do, bounds of its loops, its cost.

use crate::equation::user::Role;
use crate::equation::user::text::{ALLOWED, Fault};
use crate::plan::user::Cost;
use crate::shader::files;
use naga::BinaryOperator;
use naga::Block;
use naga::Expression;
use naga::Function;
use naga::Handle;
use naga::Literal;
use naga::LocalVariable;
use naga::Module;
use naga::ScalarKind;
use naga::Span;
use naga::Statement;
use naga::TypeInner;
use naga::valid::Capabilities;
use naga::valid::ModuleInfo;
use naga::valid::ValidationFlags;
use naga::valid::Validator;

/// Rounds of all loops in a call. With 32 keys of a tile this stays within what a software adapter allows a dispatch.
const MAX_ROUNDS: u64 = 512;

/// Operations in a call, loops counted.
const MAX_OPERATIONS: u64 = 65_536;

/// Operations of a text with its functions written out where they are called: what a driver compiles.
const MAX_WRITTEN_OUT: u64 = 16_384;

/// Bytes of a value.
const MAX_TYPE: u32 = 4096;

/// Bytes of all variables of a call.
const MAX_VARIABLES: u64 = 16_384;

/// What a helper of the kernel is counted as.
const HELPER: u64 = 32;

/// Parses and validates a text alone, behind declarations of what it may use.
pub(crate) fn validate(text: &str, role: Role) -> Result<Cost, Fault> {
    let source = format!("{}\n{HELPERS}{text}\n", files::text("common/score_at.wgsl"));
    let before = source.len() - text.len() - 1;
    let checked = std::panic::catch_unwind(|| Checked::new(&source, before, role)?.cost());
    checked.unwrap_or_else(|_| {
        let (message, help) = ("naga panicked on this text".into(), "simplify it, and report it with the text".into());
        Err(Fault { line: 1, column: 1, message, help })
    })
}

/// The kernel's helpers, by their signatures.
const HELPERS: &str = "fn distance(at: ScoreAt) -> i32 { return at.k_pos; }
fn tanh_f32(x: f32) -> f32 { return x; }
fn user_u32(i: u32) -> u32 { return i; }
fn user_f32(i: u32) -> f32 { return f32(i); }
fn user_words() -> u32 { return 1u; }
";

/// A module that naga accepts.
struct Checked<'a> {
    source: &'a str,
    /// Bytes of `source` before the user's text.
    before: usize,
    role: Role,
    module: Module,
    info: ModuleInfo,
}

/// What one function costs, the functions that it calls included.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    rounds: u64,
    operations: u64,
    written_out: u64,
    variables: u64,
}

impl Weight {
    /// `times` rounds of a loop over `self`.
    fn repeated(self, times: u64) -> Weight {
        Weight {
            rounds: times.saturating_mul(self.rounds.saturating_add(1)),
            operations: times.saturating_mul(self.operations.saturating_add(4)),
            ..self
        }
    }
    fn add(&mut self, other: Weight) {
        self.rounds = self.rounds.saturating_add(other.rounds);
        self.operations = self.operations.saturating_add(other.operations);
        self.written_out = self.written_out.saturating_add(other.written_out);
        self.variables = self.variables.saturating_add(other.variables);
    }
}

impl<'a> Checked<'a> {
    fn new(source: &'a str, before: usize, role: Role) -> Result<Self, Fault> {
        let module = naga::front::wgsl::parse_str(source).map_err(|e| {
            // the first label that stands somewhere
            let label = e.labels().find(|(span, _)| span.to_range().is_some());
            let message = match label.filter(|(_, label)| !label.is_empty()) {
                Some((_, label)) => format!("{} ({label})", e.message()),
                None => e.message().to_string(),
            };
            at(source, before, label.map(|(span, _)| span), message)
        })?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).map_err(|e| {
            let mut message = e.to_string();
            let mut cause = std::error::Error::source(e.as_inner());
            while let Some(inner) = cause {
                message += &format!(": {inner}");
                cause = inner.source();
            }
            // of a function and an expression in it, the expression
            let narrow = |span: &Span| span.to_range().map_or(usize::MAX, |r| r.len());
            at(source, before, e.spans().map(|(span, _)| *span).min_by_key(narrow), message)
        })?;
        Ok(Checked { source, before, role, module, info })
    }

    fn fault(&self, span: Span, message: impl Into<String>) -> Fault {
        at(self.source, self.before, Some(span), message.into())
    }
    fn helped(&self, span: Span, message: impl Into<String>, help: impl Into<String>) -> Fault {
        Fault { help: help.into(), ..self.fault(span, message) }
    }

    fn cost(&self) -> Result<Cost, Fault> {
        let module = &self.module;
        if let Some(entry) = module.entry_points.first() {
            let span = Span::default();
            return Err(self.fault(span, format!("`{}` is an entry point", entry.name)));
        }
        if let Some((handle, variable)) = module.global_variables.iter().next() {
            let name = variable.name.as_deref().unwrap_or_default();
            let span = module.global_variables.get_span(handle);
            return Err(self.fault(span, format!("a variable of the module, `{name}`")));
        }
        if let Some((handle, _)) = module.overrides.iter().next() {
            return Err(self.fault(module.overrides.get_span(handle), "an override has no place here"));
        }
        self.types()?;
        self.signature()?;
        let mut weights: Vec<Weight> = Vec::new();
        let mut own = Weight::default();
        for (handle, function) in module.functions.iter() {
            let span = module.functions.get_span(handle);
            if span.to_range().is_none_or(|r| r.start < self.before) {
                weights.push(Weight { operations: HELPER, written_out: HELPER, ..Weight::default() });
                continue;
            }
            let weight = Walk { checked: self, function, handle, weights: &weights }.weigh()?;
            let name = function.name.as_deref().unwrap_or_default();
            for (found, most, what, help) in [
                (weight.rounds, MAX_ROUNDS, "rounds of loops in a call", "loop less"),
                (weight.operations, MAX_OPERATIONS, "operations in a call", "compute less for each score"),
                (
                    weight.written_out,
                    MAX_WRITTEN_OUT,
                    "operations with every call written out, as drivers do",
                    "call less: calls of functions that call others multiply",
                ),
                (weight.variables, MAX_VARIABLES, "bytes of variables", "let variables and constant arrays be smaller"),
            ] {
                if found > most {
                    return Err(self.helped(span, format!("`{name}` takes {found} {what}, {most} are allowed"), help));
                }
            }
            if name == self.role.name() {
                own = weight;
            }
            weights.push(weight);
        }
        Ok(Cost { rounds: own.rounds as u32, operations: own.operations as u32 })
    }

    /// Numbers, vectors, matrices, arrays and structs of them, in 32 bits.
    fn types(&self) -> Result<(), Fault> {
        for (handle, ty) in self.module.types.iter() {
            let good = match ty.inner {
                TypeInner::Scalar(s) | TypeInner::Vector { scalar: s, .. } | TypeInner::Matrix { scalar: s, .. } => {
                    s.kind == ScalarKind::Bool || s.width == 4
                }
                TypeInner::Array { size: naga::ArraySize::Constant(_), .. } | TypeInner::Struct { .. } => true,
                TypeInner::Pointer { space, .. } | TypeInner::ValuePointer { space, .. } => {
                    space == naga::AddressSpace::Function
                }
                _ => false,
            };
            let span = self.module.types.get_span(handle);
            if !good {
                let help = "use bool, i32, u32, f32, their vectors and matrices, arrays of a constant size, structs";
                return Err(self.helped(span, "a type that has no place here", help));
            }
            let size = ty.inner.try_size(self.module.to_ctx()).unwrap_or(u32::MAX);
            if size > MAX_TYPE {
                let help = format!("let it take at most {MAX_TYPE}; larger tables belong in user_data");
                return Err(self.helped(span, format!("a type of {size} bytes"), help));
            }
        }
        Ok(())
    }

    /// The function that the kernel calls.
    fn signature(&self) -> Result<(), Fault> {
        let (name, signature) = (self.role.name(), self.role.signature());
        let help = format!("declare {signature}");
        let named = |f: &Function| f.name.as_deref() == Some(name);
        let Some((handle, function)) = self.module.functions.iter().find(|(_, f)| named(f)) else {
            let message = format!("there is no function `{name}`");
            return Err(Fault { line: 1, column: 1, message, help });
        };
        let inner = |ty: Handle<naga::Type>| &self.module.types[ty];
        let f32_type = |ty| inner(ty).inner == TypeInner::Scalar(naga::Scalar::F32);
        let bool_type = |ty| inner(ty).inner == TypeInner::Scalar(naga::Scalar::BOOL);
        let place = |ty| inner(ty).name.as_deref() == Some("ScoreAt");
        let result = function.result.as_ref().map(|r| r.ty);
        let right = match (self.role, function.arguments.as_slice()) {
            (Role::Score, [s, at]) => f32_type(s.ty) && place(at.ty) && result.is_some_and(f32_type),
            (Role::Mask, [at]) => place(at.ty) && result.is_some_and(bool_type),
            _ => false,
        };
        match right {
            true => Ok(()),
            false => {
                let span = self.module.functions.get_span(handle);
                Err(self.helped(span, format!("`{name}` has another signature than the kernel calls"), help))
            }
        }
    }
}

/// The user's place of a span in the source; what lies outside the text is its first line or its last.
fn at(source: &str, before: usize, span: Option<Span>, message: String) -> Fault {
    let text = source.get(before..).unwrap_or_default();
    let start = span.and_then(|s| s.to_range()).map_or(0, |r| r.start.saturating_sub(before));
    let (line, column) = crate::equation::user::text::place(text, start.min(text.trim_end().len()));
    Fault { line, column, message, help: ALLOWED.into() }
}

/// One function on the way through its statements.
struct Walk<'a> {
    checked: &'a Checked<'a>,
    function: &'a Function,
    handle: Handle<Function>,
    /// Of the functions before it, which are all that it can call.
    weights: &'a [Weight],
}

impl Walk<'_> {
    fn weigh(&self) -> Result<Weight, Fault> {
        let mut weight = self.block(&self.function.body)?;
        for (_, variable) in self.function.local_variables.iter() {
            weight.variables =
                weight.variables.saturating_add(self.size(&self.checked.module.types[variable.ty].inner));
        }
        Ok(weight)
    }

    fn size(&self, inner: &TypeInner) -> u64 {
        match inner {
            TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => 4,
            inner => inner.try_size(self.checked.module.to_ctx()).unwrap_or(u32::MAX) as u64,
        }
    }

    fn fault(&self, span: Span, message: impl Into<String>) -> Fault {
        self.checked.fault(span, message)
    }

    fn block(&self, block: &Block) -> Result<Weight, Fault> {
        let mut weight = Weight::default();
        for (statement, span) in block.span_iter() {
            weight.add(self.statement(statement, *span)?);
        }
        Ok(weight)
    }

    fn statement(&self, statement: &Statement, span: Span) -> Result<Weight, Fault> {
        let one = Weight { operations: 1, written_out: 1, ..Weight::default() };
        let mut weight = one;
        match statement {
            Statement::Emit(range) => {
                for expression in range.clone() {
                    weight.add(self.expression(expression)?);
                }
            }
            Statement::Block(block) => weight.add(self.block(block)?),
            Statement::If { accept, reject, .. } => {
                weight.add(self.block(accept)?);
                weight.add(self.block(reject)?);
            }
            Statement::Switch { cases, .. } => {
                for case in cases {
                    weight.add(one);
                    weight.add(self.block(&case.body)?);
                }
            }
            Statement::Loop { body, continuing, .. } => {
                let times = self.rounds(statement, span)?;
                let mut inside = self.block(body)?;
                inside.add(self.block(continuing)?);
                weight.add(inside.repeated(times));
            }
            Statement::Break | Statement::Continue | Statement::Return { .. } | Statement::Store { .. } => {}
            Statement::Call { function, arguments, .. } => {
                arguments.iter().try_for_each(|argument| self.whole(*argument, span))?;
                let called = self.weights.get(function.index()).copied();
                weight.add(called.ok_or_else(|| self.fault(span, "a call of a function that stands later"))?);
            }
            _ => return Err(self.fault(span, "a statement that has no place here")),
        }
        Ok(weight)
    }

    /// naga validates a pointer to a part of a variable as an argument, then panics where it writes SPIR-V (wgpu issue 6875).
    fn whole(&self, argument: Handle<Expression>, span: Span) -> Result<(), Fault> {
        let points = self.checked.info[self.handle][argument].ty.inner_with(&self.checked.module.types).pointer_space();
        let expression = &self.function.expressions[argument];
        match (points, expression) {
            (None, _) | (_, Expression::LocalVariable(_) | Expression::FunctionArgument(_)) => Ok(()),
            _ => {
                let help = "hand over a pointer to the whole variable, or copy the part into a variable of its own";
                Err(self.checked.helped(
                    span,
                    "a pointer to a part of a variable handed to a function, which not every backend can compile",
                    help,
                ))
            }
        }
    }

    fn expression(&self, handle: Handle<Expression>) -> Result<Weight, Fault> {
        let module = &self.checked.module;
        let expression = &self.function.expressions[handle];
        let inner = |h: Handle<Expression>| self.checked.info[self.handle][h].ty.inner_with(&module.types);
        let mut weight = Weight::default();
        match expression {
            Expression::Access { base, .. } => {
                // an array that is a value, indexed at run time: compilers put it into a variable
                if matches!(inner(*base), TypeInner::Array { .. } | TypeInner::Matrix { .. }) {
                    let size = self.size(inner(*base));
                    let words = size / 4;
                    weight = Weight { variables: size, operations: words, written_out: words, rounds: 0 };
                }
            }
            Expression::Literal(_)
            | Expression::Constant(_)
            | Expression::ZeroValue(_)
            | Expression::Compose { .. }
            | Expression::AccessIndex { .. }
            | Expression::Splat { .. }
            | Expression::Swizzle { .. }
            | Expression::FunctionArgument(_)
            | Expression::LocalVariable(_)
            | Expression::Load { .. }
            | Expression::Unary { .. }
            | Expression::Binary { .. }
            | Expression::Select { .. }
            | Expression::Relational { .. }
            | Expression::Math { .. }
            | Expression::As { .. }
            | Expression::CallResult(_) => {}
            _ => {
                let span = self.function.expressions.get_span(handle);
                return Err(self.fault(span, "an expression that has no place here"));
            }
        }
        let words = (self.size(inner(handle)) / 4).max(1);
        weight.add(Weight { operations: words, written_out: words, ..Weight::default() });
        Ok(weight)
    }

    /// How often a loop goes round at most. It must begin with `if (!(i < B)) { break; }`, end with `i += C`, with B and
    /// C constant, and change i nowhere else but to constants outside.
    fn rounds(&self, statement: &Statement, span: Span) -> Result<u64, Fault> {
        let help = "write for (var i = A; i < B; i += C) with constants A, B and C, and leave i alone in the body";
        let bad =
            |message: &str| self.checked.helped(span, format!("a loop without a constant bound: {message}"), help);
        let Statement::Loop { body, continuing, break_if: None } = statement else {
            return Err(bad("`break if` is not a bound that can be counted"));
        };
        let first = body.iter().find(|s| !matches!(s, Statement::Emit(_)));
        let Some(Statement::If { condition, accept, reject }) = first else {
            return Err(bad("it does not begin with its condition"));
        };
        if !accept.is_empty() || !matches!(reject.iter().as_slice(), [Statement::Break]) {
            return Err(bad("it does not begin with its condition"));
        }
        let Expression::Binary { op, left, right } = self.function.expressions[*condition] else {
            return Err(bad("its condition is not a comparison"));
        };
        let leading = body.iter().take_while(|s| matches!(s, Statement::Emit(_)));
        let Some(counter) = self.loaded(left).filter(|_| emitted(leading).any(|e| e == left)) else {
            return Err(bad("its condition does not begin with its counter, a variable"));
        };
        let Some(bound) = self.integer(right) else {
            return Err(bad("what its counter is compared with is not constant"));
        };

        // every change of the counter
        let mut inside = Vec::new();
        self.stores(body, counter, &mut inside)?;
        self.stores(continuing, counter, &mut inside)?;
        let mut all = Vec::new();
        self.stores(&self.function.body, counter, &mut all)?;
        let [step] = inside.as_slice() else {
            return Err(bad("its counter is changed in its body, or not at all"));
        };
        // at the top level of its end, from a value that is read there
        let at_end = |s: &Statement| matches!(s, Statement::Store { pointer, value } if self.variable(*pointer) == Some(counter) && value == step);
        if !continuing.iter().any(at_end) {
            return Err(bad("its counter is not changed at its end"));
        }
        let fresh = |h: Handle<Expression>| emitted(continuing.iter()).any(|e| e == h);
        let by = match self.function.expressions[*step] {
            Expression::Binary { op: BinaryOperator::Add, left, right }
                if fresh(left) && self.loaded(left) == Some(counter) =>
            {
                self.integer(right)
            }
            Expression::Binary { op: BinaryOperator::Subtract, left, right }
                if fresh(left) && self.loaded(left) == Some(counter) =>
            {
                self.integer(right).map(|c| -c)
            }
            _ => None,
        };
        let Some(by) = by else {
            return Err(bad("its counter does not change by a constant"));
        };
        // naga stores what a declaration inside a loop says; elsewhere a declaration without a value means 0
        let declared = self.function.local_variables[counter].init;
        let mut starts = vec![declared.map_or(Some(0), |init| self.integer(init))];
        starts.extend(all.iter().filter(|value| *value != step).map(|value| self.integer(*value)));
        let Some(starts) = starts.into_iter().collect::<Option<Vec<i64>>>() else {
            return Err(bad("its counter does not start at a constant"));
        };

        let (low, high) = match self.checked.module.types[self.function.local_variables[counter].ty].inner {
            TypeInner::Scalar(naga::Scalar { kind: ScalarKind::Uint, width: 4 }) => (0, u32::MAX as i64),
            _ => (i32::MIN as i64, i32::MAX as i64),
        };
        let mut most = 0;
        for start in starts {
            // a distance to go, in whole steps; the counter must not wrap on the last
            let (distance, step) = match op {
                BinaryOperator::Less => (bound - start, by),
                BinaryOperator::LessEqual => (bound - start + 1, by),
                BinaryOperator::Greater => (start - bound, -by),
                BinaryOperator::GreaterEqual => (start - bound + 1, -by),
                _ => return Err(bad("its condition is none of <, <=, >, >=")),
            };
            if distance <= 0 {
                continue;
            }
            let times = if step > 0 { (distance + step - 1) / step } else { i64::MAX };
            if step <= 0 || !(low..=high).contains(&(start + times * by)) {
                return Err(bad("its counter never reaches the bound"));
            }
            most = most.max(times as u64);
        }
        Ok(most)
    }

    fn variable(&self, pointer: Handle<Expression>) -> Option<Handle<LocalVariable>> {
        match self.function.expressions[pointer] {
            Expression::LocalVariable(variable) => Some(variable),
            _ => None,
        }
    }

    fn loaded(&self, handle: Handle<Expression>) -> Option<Handle<LocalVariable>> {
        match self.function.expressions[handle] {
            Expression::Load { pointer } => self.variable(pointer),
            _ => None,
        }
    }

    /// The value of a constant integer.
    fn integer(&self, handle: Handle<Expression>) -> Option<i64> {
        let mut expression = &self.function.expressions[handle];
        if let Expression::Constant(constant) = expression {
            expression = &self.checked.module.global_expressions[self.checked.module.constants[*constant].init];
        }
        match expression {
            Expression::Literal(Literal::I32(x)) => Some(*x as i64),
            Expression::Literal(Literal::U32(x)) => Some(*x as i64),
            Expression::ZeroValue(_) => Some(0),
            _ => None,
        }
    }

    /// What is stored to `counter` in a block, deep; an error where it is handed to a function.
    fn stores(
        &self,
        block: &Block,
        counter: Handle<LocalVariable>,
        found: &mut Vec<Handle<Expression>>,
    ) -> Result<(), Fault> {
        for (statement, span) in block.span_iter() {
            match statement {
                Statement::Store { pointer, value } if self.variable(*pointer) == Some(counter) => found.push(*value),
                Statement::Call { arguments, .. } if arguments.iter().any(|a| self.variable(*a) == Some(counter)) => {
                    let help = "hand over a copy of it";
                    return Err(self.checked.helped(
                        *span,
                        "a loop's counter handed to a function that may change it",
                        help,
                    ));
                }
                Statement::Block(block) => self.stores(block, counter, found)?,
                Statement::If { accept, reject, .. } => {
                    self.stores(accept, counter, found)?;
                    self.stores(reject, counter, found)?;
                }
                Statement::Switch { cases, .. } => {
                    for case in cases {
                        self.stores(&case.body, counter, found)?;
                    }
                }
                Statement::Loop { body, continuing, .. } => {
                    self.stores(body, counter, found)?;
                    self.stores(continuing, counter, found)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The expressions that a block's own statements evaluate.
fn emitted<'a>(statements: impl Iterator<Item = &'a Statement>) -> impl Iterator<Item = Handle<Expression>> {
    statements.filter_map(|s| if let Statement::Emit(range) = s { Some(range.clone()) } else { None }).flatten()
}
