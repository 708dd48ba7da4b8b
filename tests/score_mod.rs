//! The user's own functions: what is refused and where, and that what is accepted is computed as its closure says.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, noise};
use ropewalk::*;

fn plan(spec: &Spec) -> Result<Plan> {
    Plan::new(Kernel::Attention, spec, &Shape::new(spec, 1, 8, 64), &Limits::default())
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
        (
            format!("fn cap(t: f32) -> f32 {{ return t; }}\n{}", inside("    return cap(s);")),
            1,
            "declared in equation/cap_",
        ),
        (format!("\nstruct Params {{ x: f32 }}\n{}", inside("    return s;")), 2, "declared in common/params.wgsl"),
        (format!("const k_tile = 1;\n{}", inside("    return s;")), 1, "declared in common/k_tile.wgsl"),
        (format!("struct ScoreAt {{ x: f32 }}\n{}", inside("    return s;")), 1, "declared in common/score_at.wgsl"),
        (format!("fn main() {{ }}\n{}", inside("    return s;")), 1, "`main` is declared in "),
        (
            format!("fn distance(x: f32) -> f32 {{ return x; }}\n{}", inside("    return s;")),
            1,
            "declared in equation/term_",
        ),
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
        (format!("fn f(x: f32) -> f32 {{ return f(x); }}\n{}", inside("    return f(s);")), 1, "recursive"),
        ("fn score_mod(s: f32, at: ScoreAt) -> f32 {\n    return score_mod(s, at);\n}".into(), 1, "recursive"),
        // naga panics on these where it writes SPIR-V
        (
            format!(
                "{}fn f(p: ptr<function, f32>) -> f32 {{ return *p; }}",
                inside("    var v = array(s, s);\n    return f(&v[1]);")
            ),
            3,
            "pointer",
        ),
        (
            format!(
                "{}fn f(p: ptr<function, f32>) -> f32 {{ return *p; }}",
                inside("    var v = array(s, s);\n    let p = &v[at.i % 2u];\n    return f(p);")
            ),
            4,
            "pointer",
        ),
        (
            format!(
                "struct My {{ x: f32 }}\nfn f(p: ptr<function, f32>) -> f32 {{ return *p; }}\nfn g(p: ptr<function, My>) -> f32 {{ return f(&(*p).x); }}\n{}",
                inside("    return s;")
            ),
            3,
            "pointer",
        ),
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
        "const N = 23;\nfn f(x: f32) -> f32 {{\n    var y = x;\n    for (var i = 0; i < N; i++) {{ y += x; }}\n    return y;\n}}\n\
         {BODY}    var x = s;\n    for (var i = 0; i < N; i++) {{ x = f(x); }}\n    return x;\n}}"
    );
    refused(&with_score(&text), "score_mod", 7, "rounds of loops");
    assert!(plan(&with_score(&text.replace("N = 23", "N = 22"))).is_ok());
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
    for text in &texts {
        for spec in [with_score(text), with_mask(&text.replace("score_mod(s: f32, ", "mask_mod("))] {
            let shown: String = text.chars().take(200).collect();
            match plan(&spec) {
                Err(Error::Spec { field, .. }) => assert!(field.ends_with("_mod"), "{shown}"),
                Err(other) => panic!("another error, {other}: {shown}"),
                Ok(_) => panic!("accepted: {shown}"),
            }
        }
    }
}

/// The deepest texts that are accepted, on the stack of a small thread.
#[test]
fn deep_texts_fit_a_small_stack() {
    let calls: String = (1..100).map(|i| format!("fn my_{i}(x: f32) -> f32 {{ return my_{}(x); }}\n", i - 1)).collect();
    let texts = [
        format!("{BODY} return {}s{}; }}", "(".repeat(93), ")".repeat(93)),
        format!("{BODY} return {}s; }}", "- ".repeat(92)),
        format!("{BODY} return s{}; }}", "+s".repeat(92)),
        format!("{BODY} return {}s{}; }}", "abs(".repeat(93), ")".repeat(93)),
        format!("{BODY}{}{} return s; }}", "{".repeat(90), "}".repeat(90)),
        format!("{BODY}{}{} return s; }}", "if (at.j > 2u) {".repeat(90), "}".repeat(90)),
        format!("{BODY} if (s > 0.0) {{ }} {} return s; }}", "else if (s > 0.0) { }".repeat(64)),
        format!("{calls}fn my_0(x: f32) -> f32 {{ return x; }}\n{BODY} return my_99(s); }}"),
    ];
    for text in texts {
        let thread = std::thread::Builder::new().stack_size(512 << 10);
        let planned = thread.spawn(move || plan(&with_score(&text)).map(|_| ())).expect("a thread");
        assert_eq!(planned.join().expect("no panic"), Ok(()));
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn right(spec: &Spec, inputs: &Inputs, gpu: &Gpu) -> (bool, bool) {
    let got = gpu.attention(spec, inputs).unwrap();
    let report = check::verify(spec, inputs, &got, &check::Options::default(), &|_| ()).unwrap();
    let scores = check::scores(spec, inputs).unwrap().worst(&gpu.scores(spec, inputs).unwrap());
    println!("{}: {report}; scores {:.3}", gpu.describe(), scores.ratio);
    assert!(scores.unbounded == 0);
    (report.passed(), scores.failures == 0)
}

#[track_caller]
fn agree(spec: &Spec, inputs: &Inputs) {
    for gpu in gpus() {
        assert_eq!(right(spec, inputs, &gpu), (true, true), "{}", gpu.describe());
    }
}

#[track_caller]
fn differ(spec: &Spec, inputs: &Inputs) {
    for gpu in gpus() {
        assert_eq!(right(spec, inputs, &gpu), (false, false), "{}", gpu.describe());
    }
}

fn alibi_text(slopes: &[f64], distance: &str) -> String {
    let slopes: Vec<String> = slopes.iter().map(|s| format!("{:e}", *s as f32)).collect();
    let n = slopes.len();
    format!(
        "const my_slopes = array<f32, {n}>({});\n\
         fn score_mod(s: f32, at: ScoreAt) -> f32 {{ return s + my_slopes[at.head] * f32({distance}); }}\n",
        slopes.join(", ")
    )
}

#[test]
fn alibi_as_score_mod_has_the_built_ins_bits() {
    for (n, (heads, dtype, form, distance)) in [
        (4, Dtype::F32, AlibiForm::Relative, "distance(at)"),
        (6, Dtype::F32, AlibiForm::Symmetric, "-abs(distance(at))"),
        (12, Dtype::Bf16, AlibiForm::Relative, "distance(at)"),
        (6, Dtype::F16, AlibiForm::KeyPosition, "at.k_pos"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut built_in = Spec::new(heads, heads / 2, 32);
        built_in.dtype = dtype;
        built_in.rotary = Some(Rotary::new(Pairing::Half, 32, 1e4));
        built_in.logits_soft_cap = (n % 2 == 1).then_some(20.0);
        built_in.mask = if form == AlibiForm::Relative { Mask::causal() } else { Mask::none() };
        built_in.positions = if n == 1 { Positions::Ids } else { Positions::Index };
        let mut own = built_in.clone();
        built_in.bias = vec![Bias::Alibi { form, slopes: None, scale: 1.0 }];
        let slopes = alibi_slopes(heads);
        own.score_mod = Some(alibi_text(&slopes, distance));
        let mut inputs = inputs(&built_in, 2, 70, 150, n as u64);
        if n == 1 {
            inputs.q_positions = Some((0..2 * 70).map(|i| 1000 - 13 * i).collect());
            inputs.k_positions = Some((0..2 * 150).map(|i| 7 * i).collect());
        }
        for gpu in gpus() {
            let (a, b) = (gpu.attention(&built_in, &inputs).unwrap(), gpu.attention(&own, &inputs).unwrap());
            assert_eq!(bits(&a.out), bits(&b.out), "{} {heads} heads", gpu.describe());
            assert_eq!(bits(&a.lse), bits(&b.lse), "{} {heads} heads", gpu.describe());
            let (a, b) = (gpu.scores(&built_in, &inputs).unwrap(), gpu.scores(&own, &inputs).unwrap());
            assert_eq!(bits(&a), bits(&b), "{} {heads} heads", gpu.describe());
        }
        // and its closure
        let mut twin = inputs.clone();
        twin.score_mod = Some(ScoreMod::new(4.0, move |s, at| {
            let d = match form {
                AlibiForm::Symmetric => -at.distance().abs(),
                AlibiForm::KeyPosition => at.k_pos,
                _ => at.distance(),
            };
            s + slopes[at.head as usize] * d as f64
        }));
        agree(&own, &twin);
    }
}

const SOFT_CAP: &str = "const my_cap = 5.0;
fn score_mod(s: f32, at: ScoreAt) -> f32 { return my_cap * tanh_f32(s / my_cap); }
";

#[test]
fn a_soft_cap_as_score_mod_is_its_closure_and_the_built_in() {
    let mut spec = with_score(SOFT_CAP);
    spec.softmax_scale = Some(1.0);
    spec.mask = Mask::causal();
    let mut inputs = inputs(&spec, 1, 20, 90, 5);
    inputs.score_mod = Some(ScoreMod::new(24.0, |s, _| 5.0 * (s / 5.0).tanh()));
    agree(&spec, &inputs);
    let mut built_in = spec.clone();
    (built_in.score_mod, built_in.logits_soft_cap) = (None, Some(5.0));
    let mut plain = inputs.clone();
    plain.score_mod = None;
    let want = check::scores(&built_in, &plain).unwrap();
    for gpu in gpus() {
        assert_eq!(want.worst(&gpu.scores(&spec, &inputs).unwrap()).failures, 0);
    }
    // a cap that is off by a thousandth
    inputs.score_mod = Some(ScoreMod::new(24.0, |s, _| 5.005 * (s / 5.005).tanh()));
    differ(&spec, &inputs);
}

/// Every field of `at`, a loop, a helper, a struct, and data behind a dense bias.
#[test]
fn every_field_and_the_data_reach_the_function() {
    let text = "struct MyLine { a: f32, b: f32 }
const MY_N = 3;
fn my_line(l: MyLine, x: f32) -> f32 { return l.a + l.b * x; }
fn score_mod(s: f32, at: ScoreAt) -> f32 {
    var sum = s * user_f32(at.head);
    for (var n = 0u; n < u32(MY_N); n++) { sum += user_f32(4u + n) * f32((at.i + n * at.j) % 7u); }
    let line = MyLine(0.25, 0.125);
    return sum + my_line(line, f32(at.batch)) + f32(at.q_index - i32(at.j)) * 0.0625
        + f32(at.q_pos - 2 * at.k_pos) * 0.03125 + f32(user_u32(user_words() - 1u)) + user_f32(1000u);
}";
    let mut spec = Spec::new(4, 2, 16);
    spec.score_mod = Some(text.into());
    spec.positions = Positions::Ids;
    for dense in [false, true] {
        spec.dense_bias = dense;
        let mut inputs = inputs(&spec, 2, 11, 37, 8);
        inputs.q_positions = Some((0..22).map(|i| i * 3 - 20).collect());
        inputs.k_positions = Some((0..74).map(|j| 50 - j).collect());
        if dense {
            inputs.attn_bias = Some(Dense::new([1, 4, 11, 37], noise(4 * 11 * 37, 3)).unwrap());
        }
        let words = [1.0f32, 0.5, 0.75, 1.25, 0.1, 0.2, 0.3];
        inputs.user_data = words.iter().map(|x| x.to_bits()).chain([2]).collect();
        let function = move |swap: bool| {
            move |s: f64, at: &ScoreAt| {
                let word = |i: u32| words[i as usize] as f64;
                let (i, j) = if swap { (at.j, at.i) } else { (at.i, at.j) };
                let sum: f64 = (0..3).map(|n| word(4 + n) * ((i + n * j) % 7) as f64).sum();
                s * word(at.head)
                    + sum
                    + 0.25
                    + 0.125 * at.batch as f64
                    + (at.q_index - at.j as i32) as f64 * 0.0625
                    + (at.q_pos - 2 * at.k_pos) as f64 * 0.03125
                    + 2.0
            }
        };
        let rounding = |s: f64, _: f64, _: &ScoreAt| 12.0 * 2f64.powi(-24) * (s.abs() + 30.0);
        inputs.score_mod = Some(ScoreMod::new(0.0, function(false)).with_rounding(rounding));
        agree(&spec, &inputs);
        inputs.score_mod = Some(ScoreMod::new(0.0, function(true)).with_rounding(rounding));
        differ(&spec, &inputs);
    }
}

/// A tree of drafted tokens: token 0 is the root, parents in the data, ancestors are visible. The keys before the tree are
/// the prompt.
const TREE: &str = "const MY_DEPTH = 8;
fn mask_mod(at: ScoreAt) -> bool {
    let first = at.q_index - i32(at.i);       // the tree's first key
    let key = i32(at.j) - first;
    if (key < 0) { return true; }
    var node = i32(at.i);
    for (var up = 0; up < MY_DEPTH; up++) {
        if (node == key) { return true; }
        node = i32(user_u32(u32(node)));
    }
    return node == key;
}
";

fn ancestors(parents: &[u32], at: &ScoreAt) -> bool {
    let key = at.j as i32 - (at.q_index - at.i as i32);
    let path = std::iter::successors(Some(at.i), |node| Some(parents[*node as usize]));
    key < 0 || path.take(9).any(|node| node as i32 == key)
}

#[test]
fn a_tree_mask_is_its_closure() {
    let parents = [0u32, 0, 0, 1, 1, 2, 3, 3, 6, 8, 9];
    for score_mod in [None, Some(SOFT_CAP)] {
        let mut spec = with_mask(TREE);
        spec.rotary = Some(Rotary::new(Pairing::Half, 16, 1e4));
        let mut inputs = inputs(&spec, 2, 11, 75, 6);
        inputs.user_data = parents.to_vec();
        inputs.mask_mod = Some(MaskMod::new(move |at| ancestors(&parents, at)));
        if let Some(text) = score_mod {
            spec.score_mod = Some(text.into());
            inputs.score_mod = Some(ScoreMod::new(24.0, |s, _| 5.0 * (s / 5.0).tanh()));
        }
        agree(&spec, &inputs);
        let mut other = parents;
        other[7] = 4;
        inputs.mask_mod = Some(MaskMod::new(move |at| ancestors(&other, at)));
        differ(&spec, &inputs);
        // joined to the masks of the spec: causal and the tree, positions in every mask_mod
        spec.mask = Mask::causal();
        spec.mask_mod =
            Some("fn mask_mod(at: ScoreAt) -> bool { return (at.k_pos + at.q_pos + i32(at.head)) % 3 != 0; }".into());
        inputs.user_data = Vec::new();
        inputs.mask_mod = Some(MaskMod::new(|at| (at.k_pos + at.q_pos + at.head as i32) % 3 != 0));
        agree(&spec, &inputs);
        inputs.mask_mod = Some(MaskMod::new(|at| (at.k_pos + at.q_pos + at.head as i32) % 3 != 1));
        differ(&spec, &inputs);
    }
}

/// A problem that is cut into sequences and heads numbers both as a whole one does.
#[test]
fn parts_count_sequences_and_heads_from_the_whole() {
    let mut spec = with_score(
        "fn score_mod(s: f32, at: ScoreAt) -> f32 { return s + f32(at.batch * 8u + at.head) * f32(at.j % 5u) * 0.1; }",
    );
    spec.mask_mod = Some("fn mask_mod(at: ScoreAt) -> bool { return (at.batch + at.head + at.j) % 3u != 0u; }".into());
    let mut inputs = inputs(&spec, 3, 9, 70, 4);
    inputs.score_mod = Some(ScoreMod::new(4.0, |s, at| s + (at.batch * 8 + at.head) as f64 * (at.j % 5) as f64 * 0.1));
    inputs.mask_mod = Some(MaskMod::new(|at| (at.batch + at.head + at.j) % 3 != 0));
    agree(&spec, &inputs);
    for gpu in gpus() {
        let mut limits = *gpu.limits();
        for (binding, parts) in [(9_000, 3), (4_600, 6)] {
            limits.max_binding_size = binding;
            let (cut, stats) = gpu.with_limits(limits).attention_with(&spec, &inputs, &|_| ()).unwrap();
            assert_eq!(stats.parts, parts);
            let whole = gpu.attention(&spec, &inputs).unwrap();
            assert_eq!((bits(&cut.out), bits(&cut.lse)), (bits(&whole.out), bits(&whole.lse)));
        }
    }
}

/// Sequences that lie one after the other: `batch` is the sequence, i and j count in it.
#[test]
fn packed_sequences_count_from_their_own_start() {
    let mut spec = with_score(
        "fn score_mod(s: f32, at: ScoreAt) -> f32 { return s + f32((at.batch + 1u) * (at.i + 2u * at.j) % 11u) * 0.25; }",
    );
    spec.mask_mod = Some("fn mask_mod(at: ScoreAt) -> bool { return (at.i + at.j + at.batch) % 4u != 3u; }".into());
    (spec.packed, spec.mask) = (true, Mask::causal());
    let mut inputs = inputs(&spec, 1, 23, 40, 12);
    (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = (Some(vec![0, 5, 5, 23]), Some(vec![0, 9, 12, 40]));
    inputs.score_mod = Some(ScoreMod::new(3.0, |s, at| s + ((at.batch + 1) * (at.i + 2 * at.j) % 11) as f64 * 0.25));
    inputs.mask_mod = Some(MaskMod::new(|at| (at.i + at.j + at.batch) % 4 != 3));
    agree(&spec, &inputs);
    inputs.mask_mod = Some(MaskMod::new(|at| (at.i + at.j) % 4 != 3));
    differ(&spec, &inputs);
}

/// As many rounds as a text may make, over more keys than a dispatch may then hold on a software adapter.
#[test]
fn long_loops_are_cut_and_repeat_to_the_bit() {
    let text = "fn score_mod(s: f32, at: ScoreAt) -> f32 {
    var x = at.j;
    for (var i = 0u; i < 511u; i++) { x = (x * 1664525u + 1013904223u) % 65521u; }
    return s + f32(x % 16u) * 0.25;
}";
    let mut spec = Spec::new(2, 1, 8);
    spec.score_mod = Some(text.into());
    let mut inputs = inputs(&spec, 1, 3, 700, 4);
    inputs.score_mod = Some(ScoreMod::new(2.0, |s, at| {
        let mut x = at.j;
        for _ in 0..511 {
            x = x.wrapping_mul(1664525).wrapping_add(1013904223) % 65521;
        }
        s + (x % 16) as f64 * 0.25
    }));
    agree(&spec, &inputs);
    for gpu in gpus() {
        let (first, stats) = gpu.attention_with(&spec, &inputs, &|_| ()).unwrap();
        println!("{} dispatches", stats.dispatches);
        let second = gpu.attention(&spec, &inputs).unwrap();
        assert_eq!((bits(&first.out), bits(&first.lse)), (bits(&second.out), bits(&second.lse)));
    }
    let limits = common::with_family(Family::Rows, &spec, &Limits::default().for_cpu());
    let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 3, 700), &limits).unwrap();
    assert!(plan.chunks().len() > 3, "the rounds of the text count");
}

/// NaN stays NaN, +inf is NaN, -inf is the floor; other rows do not notice.
#[test]
fn what_a_function_returns_keeps_the_kernels_rules() {
    let text = |row: &str| {
        format!(
            "{BODY} let my_inf = bitcast<f32>(0x7f800000u | (at.i & 0u)); if (at.i == 2u && at.j == 5u) {{ return {row}; }} return s; }}"
        )
    };
    let spec = |row: &str| with_score(&text(row));
    let plain = Spec::new(4, 2, 16);
    let inputs = inputs(&plain, 1, 6, 20, 9);
    for gpu in gpus() {
        let want = gpu.attention(&plain, &inputs).unwrap();
        for (row, nan) in
            [("my_inf", true), ("bitcast<f32>(0x7fc00000u | (at.i & 0u))", true), ("-my_inf", false), ("-3e38", false)]
        {
            let got = gpu.attention(&spec(row), &inputs).unwrap();
            for i in 0..6 {
                let o = i * 64..(i + 1) * 64;
                match (i == 2, nan) {
                    (true, true) => assert!(got.out[o].iter().all(|x| x.is_nan()), "{row}"),
                    (true, false) => {
                        assert!(got.out[o.clone()].iter().all(|x| x.is_finite()), "{row}");
                        assert!(got.out[o.clone()] != want.out[o], "{row}: the key has no weight");
                    }
                    (false, _) => assert_eq!(bits(&got.out[o.clone()]), bits(&want.out[o]), "{row}"),
                }
            }
        }
        // a function cannot make a NaN vanish
        let mut poisoned = inputs.clone();
        let at = poisoned.q.row_start(0, 3, 1);
        let Data::F32(q) = poisoned.q.data_mut() else { panic!("f32 inputs") };
        q[at] = f32::NAN;
        let got = gpu.attention(&with_score(&format!("{BODY} return 1.0; }}")), &poisoned).unwrap();
        let nans: Vec<usize> = (0..got.out.len()).filter(|i| got.out[*i].is_nan()).map(|i| i / 16).collect();
        assert!(nans.len() == 16 && nans.iter().all(|row| *row == 3 * 4 + 1));
    }
    // and in the reference
    let mut twin = inputs.clone();
    twin.score_mod = Some(ScoreMod::new(0.0, |s, at| if (at.i, at.j) == (2, 5) { f64::INFINITY } else { s }));
    let got = reference::attention(&spec("my_inf"), &twin).unwrap();
    assert_eq!(got.lse.iter().filter(|x| x.is_nan()).count(), 4);
    twin.score_mod = Some(ScoreMod::new(0.0, |s, at| if (at.i, at.j) == (2, 5) { f64::NEG_INFINITY } else { s }));
    agree(&spec("-my_inf"), &twin);
}

#[test]
fn the_check_asks_for_the_closure_and_data_must_be_used() {
    let spec = with_score(SOFT_CAP);
    let inputs = inputs(&spec, 1, 2, 4, 1);
    let message = |e: Result<()>| e.unwrap_err().to_string();
    assert!(message(reference::attention(&spec, &inputs).map(|_| ())).contains("score_mod: has no closure"));
    assert!(message(check::scores(&spec, &inputs).map(|_| ())).contains("score_mod: has no closure"));
    let mask = with_mask("fn mask_mod(at: ScoreAt) -> bool { return true; }");
    assert!(message(check::attention(&mask, &inputs).map(|_| ())).contains("mask_mod: has no closure"));
    assert!(Problem::new(&spec, &inputs).is_ok(), "a GPU needs none");

    let mut extra = inputs.clone();
    extra.user_data = vec![1];
    assert!(message(Problem::new(&spec, &extra).map(|_| ())).contains("user_data: is given, but neither"));
    extra.user_data = Vec::new();
    extra.mask_mod = Some(MaskMod::new(|_| true));
    assert!(message(Problem::new(&spec, &extra).map(|_| ())).contains("mask_mod: is given, but the spec has none"));
    let reads = with_score(&format!("{BODY} return s + user_f32(0u); }}"));
    assert!(message(Problem::new(&reads, &inputs).map(|_| ())).contains("user_data: is missing"));
    assert!(message(plan(&reads).map(|_| ())).contains("shape.user_words: is 0"));
    // a spec file holds the texts
    assert_eq!(Spec::from_json(&spec.to_json()), Ok(spec));
}
