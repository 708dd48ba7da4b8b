//! The user's own functions: what is refused and where, and that what is accepted is computed as its closure says.
#![cfg(feature = "naga")]

use ropewalk::{Error, Kernel, Limits, Plan, Shape, Spec, Target};
use std::time::{Duration, Instant};

fn plan(spec: &Spec) -> Result<Plan, Error> {
    Plan::new(Kernel::Attention, spec, &with_data(Shape::new(spec, 1, 8, 64)), &Limits::default())
}

fn with_data(shape: Shape) -> Shape {
    shape
}

fn with_score(text: &str) -> Spec {
    let mut spec = Spec::new(4, 2, 16);
    spec.score_mod = Some(text.into());
    spec
}

fn with_mask(text: &str) -> Spec {
    let mut spec = Spec::new(4, 2, 16);
    spec.mask_mod = Some(text.into());
    spec
}

/// The message of a refused text, which is an error of the named field at the given line.
#[track_caller]
fn refused(spec: &Spec, file: &str, line: usize, part: &str) {
    match plan(spec) {
        Err(Error::Spec { field, problem, help }) => {
            assert_eq!(field, file, "{problem}");
            assert!(problem.starts_with(&format!("line {line}, column ")), "wanted line {line}: {problem}");
            assert!(problem.contains(part), "wanted {part:?} in: {problem}");
            assert!(!help.is_empty() && problem.len() < 1000);
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted:\n{:?}", spec.score_mod),
    }
}

const BODY: &str = "fn score_mod(s: f32, at: ScoreAt) -> f32 {\n";

#[test]
fn faults_are_told_at_their_line() {
    let inside = |body: &str| format!("{BODY}{body}\n}}\n");
    for (text, line, part) in [
        // syntax and types
        (inside("    return s +;"), 2, "expected expression"),
        (inside("    let x = ;"), 2, "expected expression"),
        (inside("    return s"), 3, "expected"),
        (inside("    return s + at.j;"), 2, ""),
        (inside("    return at.key;"), 2, "key"),
        (inside("    let x: f32 = 1u;\n    return s;"), 2, ""),
        (inside("    return true;"), 2, ""),
        (inside("\n\n    return vec2<f32>(s).z;"), 4, ""),
        (inside("    let x = nothing;\n    return s;"), 2, "nothing"),
        // the signature
        ("fn other(s: f32, at: ScoreAt) -> f32 { return s; }".into(), 1, "no function `score_mod`"),
        ("\nfn score_mod(s: f32) -> f32 { return s; }".into(), 2, "signature"),
        ("\n\nfn score_mod(at: ScoreAt, s: f32) -> f32 { return s; }".into(), 3, "signature"),
        ("fn score_mod(s: f32, at: ScoreAt) -> bool { return true; }".into(), 1, "signature"),
        ("fn score_mod(s: f32, at: ScoreAt) { }".into(), 1, "signature"),
        ("fn score_mod(s: u32, at: ScoreAt) -> f32 { return 1.0; }".into(), 1, "signature"),
        // names
        (format!("fn cap(t: f32) -> f32 {{ return t; }}\n{}", inside("    return cap(s);")), 1, "declared in cap/"),
        (format!("\nstruct Params {{ x: f32 }}\n{}", inside("    return s;")), 2, "declared in common/params.wgsl"),
        (format!("const k_tile = 1;\n{}", inside("    return s;")), 1, "declared in common/k_tile.wgsl"),
        (format!("struct ScoreAt {{ x: f32 }}\n{}", inside("    return s;")), 1, "declared in common/score_at.wgsl"),
        (format!("fn main() {{ }}\n{}", inside("    return s;")), 1, "declared in kernel/"),
        (format!("fn distance(x: f32) -> f32 {{ return x; }}\n{}", inside("    return s;")), 1, "declared in term/"),
        (format!("fn max(a: f32, b: f32) -> f32 {{ return a; }}\n{}", inside("    return s;")), 1, "WGSL's own"),
        (format!("alias f32 = u32;\n{}", inside("    return s;")), 1, "WGSL's own"),
        (format!("alias vec4 = u32;\n{}", inside("    return s;")), 1, "WGSL's own"),
        (format!("const HEAD_DIM = 1;\n{}", inside("    return s;")), 1, "declared in (preamble)"),
        (format!("const heads = 1;\n{}", inside("    return s;")), 1, "declared in (preamble)"),
        (format!("const a = 1;\nconst a = 2;\n{}", inside("    return s;")), 2, "a"),
        // what is out of reach
        (inside("    return s * params.softmax_scale;"), 2, "params"),
        (inside("    return bitcast<f32>(dense[0]);"), 2, "dense"),
        (inside("    return s * f32(HEAD_DIM);"), 2, "HEAD_DIM"),
        (inside("    return k_tile[0].x;"), 2, "k_tile"),
        (inside("    return cap(s);"), 2, "cap"),
        (inside("    workgroupBarrier();\n    return s;"), 2, "Barrier"),
        (inside("    storageBarrier();\n    return s;"), 2, "Barrier"),
        (inside("    let x = subgroupAdd(s);\n    return x;"), 2, ""),
        (inside("    let x = dpdx(s);\n    return x;"), 2, ""),
        (format!("var<private> p: f32;\n{}", inside("    return p;")), 1, "variable of the module"),
        (format!("\nvar<workgroup> p: f32;\n{}", inside("    return s;")), 2, "variable of the module"),
        (format!("@group(0) @binding(9) var<storage> p: f32;\n{}", inside("    return p;")), 1, "a binding"),
        (format!("override o: f32 = 1.0;\n{}", inside("    return o;")), 1, "override"),
        (format!("@id(1) override o: f32 = 1.0;\n{}", inside("    return o;")), 1, "@id"),
        (format!("enable f16;\n{}", inside("    return s;")), 1, "enable"),
        (format!("diagnostic(off, derivative_uniformity);\n{}", inside("    return s;")), 1, "diagnostic"),
        (format!("{}@compute @workgroup_size(1) fn other() {{ }}", inside("    return s;")), 4, "entry point"),
        (format!("{}fn f() {{ let x = atomicLoad(1); }}", inside("    return s;")), 4, "atomic"),
        (inside("    let x = 1.0lf;\n    return s;"), 2, ""),
        (inside("    let x = 1li;\n    return s;"), 2, ""),
        (inside("    discard;\n    return s;"), 2, ""),
        // recursion
        (format!("fn f(x: f32) -> f32 {{ return f(x); }}\n{}", inside("    return f(s);")), 1, "cyclic"),
        ("fn score_mod(s: f32, at: ScoreAt) -> f32 {\n    return score_mod(s, at);\n}".into(), 1, "cyclic"),
        // sizes
        (inside("    var a: array<f32, 1000000000>;\n    return a[0];"), 2, "array's size"),
        (inside("    var a: array<array<f32, 1024>, 1024>;\n    return a[0][0];"), 0, ""),
    ] {
        if line > 0 {
            refused(&with_score(&text), "score_mod", line, part);
        } else {
            assert!(matches!(plan(&with_score(&text)), Err(Error::Spec { field, .. }) if field == "score_mod"));
        }
    }
    refused(&with_mask("fn mask_mod(at: ScoreAt) -> f32 {\n return 1.0; }"), "mask_mod", 1, "signature");
    refused(&with_mask("fn mask_mod(at: ScoreAt) -> bool {\n\n return 1.0; }"), "mask_mod", 3, "");
}

#[test]
fn both_texts_share_one_module() {
    let mut spec = with_score(&format!("const my_a = 1.0;\n{BODY} return s * my_a; }}"));
    spec.mask_mod = Some("\nconst my_a = 2u;\nfn mask_mod(at: ScoreAt) -> bool { return at.j != my_a; }".into());
    refused(&spec, "mask_mod", 2, "`my_a` is declared in score_mod");
    spec.mask_mod = Some("const my_b = 2u;\nfn mask_mod(at: ScoreAt) -> bool { return at.j != my_b; }".into());
    let plan = plan(&spec).expect("different names");
    let line = 1 + plan.wgsl(Target::Native).lines().position(|l| l.contains("const my_b")).expect("it is there");
    assert_eq!(plan.locate(line), ("mask_mod", 1));
}

#[test]
fn loops_have_constant_bounds() {
    let around = |body: &str| format!("const N = 8;\n{BODY}    var x = s;\n{body}\n    return x;\n}}\n");
    for (good, rounds) in [
        ("    for (var i = 0; i < N; i++) { x += f32(i); }", 8),
        ("    for (var i = 0u; i < 4u; i += 2u) { x += f32(i); }", 2),
        ("    for (var i = -5; i <= N * 2; i = i + 3) { x += f32(i); }", 8),
        ("    for (var i = 7; i >= 0; i--) { x += f32(i); }", 8),
        ("    for (var i: i32 = 9; i > 1; i -= 4) { x += f32(i); }", 2),
        ("    for (var i = 0; i < 4; i++) { for (var j = 0; j < 5; j++) { x += f32(i * j); } }", 24),
        ("    for (var i = 0; i < 4; i++) { if (x > 3.0) { break; } if (x < 0.0) { continue; } x += 1.0; }", 4),
        ("    for (var i = 5; i < 5; i++) { x += 1.0; }", 0),
        ("    for (var i = 0; i < 2; i++) { let i = x; x = i * 2.0; }", 2),
        ("    var i = 3u; for (; i < 10u; i++) { x += 1.0; }", 7),
    ] {
        let plan = plan(&with_score(&around(good)));
        assert!(plan.is_ok(), "{good}: {}", plan.err().map(|e| e.to_string()).unwrap_or_default());
        let _ = rounds;
    }
    for bad in [
        "    while (x < 3.0) { x += 1.0; }",
        "    loop { x += 1.0; if (x > 3.0) { break; } }",
        "    loop { }",
        "    loop { x += 1.0; continuing { break if x > 2.0; } }",
        "    for (;;) { x += 1.0; break; }",
        "    for (var i = 0u; i < at.j; i++) { x += 1.0; }",
        "    for (var i = at.j; i < 4u; i++) { x += 1.0; }",
        "    for (var i = 0; i < 4; i += i32(at.j)) { x += 1.0; }",
        "    for (var i = 0; i < 4; i++) { i = 0; }",
        "    for (var i = 0; i < 4; i++) { i--; }",
        "    for (var i = 0; i < 4; i++) { let p = &i; *p = 0; }",
        "    for (var i = 0; i < 4; i++) { (i) = 0; }",
        "    for (var i = 0; i < 4; i--) { x += 1.0; }",
        "    for (var i = 0; i < 4; i += 0) { x += 1.0; }",
        "    for (var i = 4; i > 0; i++) { x += 1.0; }",
        "    for (var i = 0; i != 4; i += 3) { x += 1.0; }",
        "    for (var i = 0u; i <= 4294967295u; i++) { x += 1.0; }",
        "    for (var i = 2147483640; i <= 2147483647; i++) { x += 1.0; }",
        "    for (var i = 3u; i >= 0u; i--) { x += 1.0; }",
        "    for (var i = 0; i < 4; i *= 2) { x += 1.0; }",
        "    for (var f = 0.0; f < 4.0; f += 1.0) { x += 1.0; }",
        "    for (var i = 0; i < 1000000; i++) { x += 1.0; }",
        "    for (var i = 0; i < 30; i++) { for (var j = 0; j < 30; j++) { x += 1.0; } }",
        "    for (var i = 0; i < 4; i++) { var j = 0; for (; j < 4; j++) { x += 1.0; j = 0; } }",
        "    var i = 0; let y = i; for (; y < 4; i++) { x += 1.0; }",
        "    var i = 0; let y = i; for (; i < 4; i = y + 1) { x += 1.0; }",
        "    var i = 0; loop { if (!(i < 4)) { break; } continuing { if (x > 3.0) { i++; } } }",
        "    for (var i = 0; i < 4; i++) { my_reset(&i); }",
    ] {
        let text = format!("{}fn my_reset(p: ptr<function, i32>) {{ *p = 0; }}\n", around(bad));
        let Err(Error::Spec { field, problem, .. }) = plan(&with_score(&text)) else { panic!("accepted: {bad}") };
        // the function where the sum of its loops is too much, the loop otherwise
        let lines = ["line 2,", "line 4,"];
        assert!(field == "score_mod" && lines.iter().any(|l| problem.starts_with(l)), "{bad}: {problem}");
        assert!(problem.contains("loop"), "{bad}: {problem}");
    }
}

#[test]
fn calls_do_not_multiply_without_end() {
    let mut text = String::from("fn my_0(x: f32) -> f32 { return x * 1.5; }\n");
    for i in 1..40 {
        text += &format!("fn my_{i}(x: f32) -> f32 {{ return my_{}(x) + my_{}(x); }}\n", i - 1, i - 1);
    }
    text += &format!("{BODY} return my_39(s); }}");
    let Err(Error::Spec { problem, .. }) = plan(&with_score(&text)) else { panic!("accepted") };
    assert!(problem.contains("operations with every call written out"), "{problem}");

    let text = format!(
        "const N = 22;\nfn f(x: f32) -> f32 {{\n    var y = x;\n    for (var i = 0; i < N; i++) {{ y += x; }}\n    return y;\n}}\n\
         {BODY}    var x = s;\n    for (var i = 0; i < N; i++) {{ x = f(x); }}\n    return x;\n}}"
    );
    refused(&with_score(&text), "score_mod", 7, "rounds of loops");
    assert!(plan(&with_score(&text.replace("N = 22", "N = 21"))).is_ok());
}

/// Nothing that a text holds may make a plan panic, hang, or let anything but the text's own declarations in.
#[test]
fn hostile_texts_are_refused() {
    let good = format!("{BODY} return s; }}\n");
    let deep = |open: &str, close: &str, n: usize| {
        format!("{BODY} let x = {}1.0{};\n return s; }}", open.repeat(n), close.repeat(n))
    };
    let long = |part: &str, n: usize| format!("{BODY} let x = 1.0{};\n return s; }}", part.repeat(n));
    let mut chain = String::from("const my_0 = 1.0;\n");
    (1..3000).for_each(|i| chain += &format!("const my_{i} = my_{};\n", i - 1));
    let mut structs = String::from("struct My0 { a: array<f32, 1024> }\n");
    (1..40).for_each(|i| structs += &format!("struct My{i} {{ a: My{0}, b: My{0} }}\n", i - 1));
    let mut aliases = String::from("alias My0 = f32;\n");
    (1..40).for_each(|i| aliases += &format!("alias My{i} = array<My{}, 1024>;\n", i - 1));
    let texts = [
        String::new(),
        " ".into(),
        "{".into(),
        "}".into(),
        format!("{good}}}\nfn my_injected() {{ }}"),
        format!("{BODY} return s; }} }} fn my_injected() {{"),
        format!("{BODY} return s; ) }}"),
        format!("{good}/*"),
        format!("{good}/* /* */"),
        format!("{BODY} return s; // }}"),
        format!("{good}// \u{2028} @compute fn x() {{ }}"),
        format!("{good}// \r @compute fn x() {{ }}"),
        format!("{good}\0"),
        format!("{good}\u{85}"),
        format!("{good}\u{feff}"),
        format!("{good}const \u{3b1} = 1.0;"),
        format!("{good}\"\n"),
        format!("{good}#define x"),
        format!("{good}@"),
        format!("{good}@compute"),
        format!("{good}const"),
        format!("{good}fn"),
        format!("{good}const_assert false;"),
        format!("{good}const my_x = array<u32, 4000000000>()[7];"),
        format!("{good}const my_x = 1 / 0;"),
        format!("{good}const my_x = 1 << 4000000000;"),
        format!("{good}alias My = array<My, 2>;"),
        format!("{good}{chain}"),
        format!("{good}{structs}"),
        format!("{structs}{BODY} let x = My39(); return s; }}"),
        format!("{aliases}{BODY} var x: My39; return s; }}"),
        deep("(", ")", 100),
        deep("(", ")", 10_000),
        deep("- ", "", 10_000),
        deep("vec2<f32>(", ").x", 3000),
        deep("array<", ">", 3000),
        long("+1.0", 10_000),
        long(".x", 10_000),
        long("[0]", 10_000),
        long("<1.0", 10_000),
        format!("{BODY}{}{} return s; }}", "{".repeat(10_000), "}".repeat(10_000)),
        format!("{BODY} if (s > 0.0) {{ }} {} return s; }}", "else if (s > 0.0) { }".repeat(2_000)),
        format!("{BODY}{} return s; }}", "if (s > 0.0) { ".repeat(1_000)),
        format!("{good}{}", "/*".repeat(30_000)),
        format!("{good}//{}", " ".repeat(1 << 20)),
        "x".repeat(1 << 20),
        "(".repeat(1 << 16),
        "fn ".repeat(20_000),
        "@".repeat(1 << 16),
    ];
    let start = Instant::now();
    for text in &texts {
        for spec in [with_score(text), with_mask(&text.replace("score_mod(s: f32, ", "mask_mod("))] {
            eprintln!("{}", text.chars().take(90).collect::<String>().replace(char::is_control, " "));
            let shown: String = text.chars().take(200).collect();
            match plan(&spec) {
                Err(Error::Spec { field, .. }) => assert!(field.ends_with("_mod"), "{shown}"),
                Err(other) => panic!("another error, {other}: {shown}"),
                Ok(_) => panic!("accepted: {shown}"),
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// The deepest text that is accepted, on the stack of a small thread.
#[test]
fn accepted_texts_fit_a_small_stack() {
    let texts = [
        format!("{BODY} return {}s{}; }}", "(".repeat(93), ")".repeat(93)),
        format!("{BODY} return {}s; }}", "- ".repeat(92)),
        format!("{BODY} return s{}; }}", "+s".repeat(92)),
        format!("{BODY} return {}s{}; }}", "abs(".repeat(93), ")".repeat(93)),
        format!("{BODY}{}{} return s; }}", "{".repeat(90), "}".repeat(90)),
        format!("{BODY}{}{} return s; }}", "if (at.j > 2u) {".repeat(90), "}".repeat(90)),
        format!("{BODY} if (s > 0.0) {{ }} {} return s; }}", "else if (s > 0.0) { }".repeat(64)),
        (1..120).map(|i| format!("fn my_{i}(x: f32) -> f32 {{ return my_{}(x); }}\n", i - 1)).collect::<String>()
            + &format!("fn my_0(x: f32) -> f32 {{ return x; }}\n{BODY} return my_119(s); }}"),
    ];
    for text in texts {
        let thread = std::thread::Builder::new().stack_size(512 << 10);
        let planned = thread.spawn(move || plan(&with_score(&text)).map(|_| ()).map_err(|e| e.to_string()));
        let result = planned.expect("a thread").join().expect("no panic");
        println!("{result:?}");
    }
}
