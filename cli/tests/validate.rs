//! `ropewalk validate`: what it selects, what it prints, how it ends.

use crate::common;
use ropewalk::case::CaseId;
use serde_json::Value;
use std::process::Command;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn validate(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ropewalk"));
    let output = command.arg("validate").args(args).envs(env.iter().copied()).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    Ran { code: output.status.code().expect("it exits by itself"), stdout, stderr }
}

#[test]
fn lists_addresses() {
    let all = validate(&["--list"], &[]);
    assert_eq!((all.code, all.stderr.as_str()), (0, ""));
    let addresses: Vec<&str> = all.stdout.lines().collect();
    assert!(addresses.len() > 300 && addresses[0] == "attention/control/q37k75/f32/seed1", "{}", addresses[0]);
    for address in &addresses {
        assert_eq!(address.parse::<CaseId>().map(|id| id.to_string()).as_deref(), Ok(*address));
    }
    let some = validate(&["--list", "rotate/", "f16"], &[]).stdout;
    assert!(some.lines().count() > 3 && some.lines().all(|l| l.starts_with("rotate/") && l.contains("f16")), "{some}");
    let limited = validate(&["--list", "--limit", "3"], &[]).stdout;
    assert_eq!(limited.lines().collect::<Vec<_>>(), addresses[..3]);
    let random = validate(&["--list", "--random", "60", "scores"], &[]).stdout;
    assert!(random.lines().count() == 60 && random.lines().all(|l| l.starts_with("scores/")), "{random}");
    let json: Vec<String> = serde_json::from_str(&validate(&["--list", "--json"], &[]).stdout).expect("JSON");
    assert_eq!(json, addresses);
}

#[test]
fn unknown_queries_and_missing_adapters_have_their_exit_codes() {
    for (args, code, message) in [
        (&["nonsense"][..], 2, "no case matches \"nonsense\""),
        (&["attention/alibis/q1k1/f32/seed1"], 2, "there is no alibis"),
        (&["attention/control/q1k1/f64/seed1"], 2, "the storage type is unknown"),
        (&["attention/control/q99999k99999/f32/seed1"], 2, "the shape is too large"),
        (&["attention/alibi+t5/q1k1/f32/seed1"], 2, "they exclude each other"),
        (&["attention/control/q1k1/f32/seed1/tiles"], 2, "the kernel is unknown"),
        (&["--family", "tiles"], 2, "give a family (turns, wide, decode, coop, lanes, block, tile, rows)"),
        (&["embed/alibi/q1k1/f32/seed1"], 2, "alibi means nothing to embed"),
        (&["--limit", "0"], 2, "no case matches"),
        (&["--limit", "x"], 2, "invalid value"),
    ] {
        let ran = validate(args, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{args:?}: {}", ran.stderr);
    }
    // no backend of this name exists outside browsers
    for args in [&["control"][..], &["control", "--adapter", "all"], &["control", "--adapter", "none"]] {
        let ran = validate(args, &[("WGPU_BACKEND", "webgpu")]);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn cases_pass_on_every_adapter() {
    let adapters = common::every_adapter().len();
    if adapters == 0 {
        return;
    }
    // an operation, a storage type and a rule each; the addresses are not all among those listed
    for (address, tensors) in [
        ("scores/t5+kv-lens/q5k33/bf16/seed2", &["scores"][..]),
        ("attention/alibi+unseen-nan+gaps/q9k40/f16/seed3", &["out", "lse"]),
        ("rotate/inv-freq+ids-far+unit/q75k75/f32/seed1", &["q", "k"]),
        ("rotate-in-place/d33+kv-lens+gaps/q9k40/bf16/seed4", &["q", "k", "bits around q", "bits around k"]),
        ("embed/d33+start3+learned/q9k40/f16/seed5", &["out", "in place", "bits around x"]),
    ] {
        let ran = validate(&["--adapter", "all", "--default-limits", "--json", "--verbose", address], &[]);
        assert_eq!(ran.code, 0, "{address}: {}{}", ran.stdout, ran.stderr);
        let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(
            (&report["passed"], &report["failed"], &report["skipped"]),
            (&adapters.into(), &0.into(), &0.into())
        );
        let lines = report["adapters"].as_array().expect("a list");
        assert_eq!(lines.len(), adapters);
        for line in lines {
            let outcome = &line["outcomes"][0];
            assert_eq!((outcome["address"].as_str(), outcome["verdict"].as_str()), (Some(address), Some("passed")));
            for tensor in tensors {
                let worst = &outcome["tensors"][tensor];
                assert!(worst["elements"].as_u64() > Some(0) && worst["ratio"].as_f64() <= Some(1.0), "{outcome}");
            }
            // sixteen digits for cos and sin alone
            let bits = address.starts_with("rotate/").then_some(16);
            assert_eq!(line["rotation_bits"].as_str().map(str::len), bits, "{line}");
        }
    }
}

#[test]
fn prints_a_summary_for_people() {
    let Some(gpu) = common::gpus().into_iter().next() else { return };
    let quiet = validate(&["--default-limits", "attention/control/q5k1/f32/seed1"], &[]);
    let (name, code) = (gpu.info().name.clone(), quiet.code);
    assert!(
        code == 0 && quiet.stdout.contains(&name) && quiet.stdout.contains("worst error / bound"),
        "{}",
        quiet.stdout
    );
    assert!(quiet.stdout.ends_with("1 passed, 0 failed, 0 skipped\n"), "{}", quiet.stdout);
    let verbose = validate(&["-v", "--default-limits", "attention/control/q5k1/f32/seed1"], &[]);
    assert!(verbose.stdout.starts_with("passed  attention/control/q5k1/f32/seed1  out "), "{}", verbose.stdout);
}

/// Edges of classes by every family that the adapter offers, and what a family does not take.
#[test]
fn families_are_named_and_counted() {
    if common::gpus().is_empty() {
        return;
    }
    let run = |args: &[&str]| -> Value {
        let ran = validate(&[&["--default-limits", "--json", "--verbose"], args].concat(), &[]);
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.stdout, ran.stderr);
        serde_json::from_str(&ran.stdout).expect("JSON")
    };
    let address = "attention/one-head+d32+one-sequence/q5k129/f32/seed1";
    let report = run(&[&format!("{address}/families")]);
    let line = &report["adapters"][0];
    // the default limits know no subgroups, and so no lanes
    assert_eq!(
        line["families"],
        serde_json::json!({ "block": 1, "decode": 1, "rows": 1, "tile": 1, "wide": 1 }),
        "{line}"
    );
    assert_eq!((&line["cases"], &line["runs"], &report["passed"]), (&1.into(), &5.into(), &5.into()));
    let outcomes = line["outcomes"].as_array().expect("a list");
    let has = |n: usize, address: &str, label: &str| {
        let outcome = &outcomes[n];
        let (found, kernel) = (outcome["address"].as_str().unwrap_or(""), outcome["kernel"].as_str().unwrap_or(""));
        assert!(found.starts_with(address) && kernel.contains(label), "{outcome}");
        found.to_string()
    };
    assert_eq!(has(0, address, ".decode"), address);
    has(1, &format!("{address}/wide-q"), ".wide");
    has(2, &format!("{address}/block-q"), ".block");
    has(4, &format!("{address}/rows"), "attention.f32");
    // the address of a kernel is one of a case
    let tile = has(3, &format!("{address}/tile-q"), ".tile");
    let again = run(&[&tile]);
    assert_eq!(again["adapters"][0]["families"], serde_json::json!({ "tile": 1 }));
    assert_eq!(again["adapters"][0]["outcomes"][0], outcomes[3]);
    // all numbers of each, a family alone, and what it does not take
    let all = run(&[&format!("{address}/tunings")]);
    assert!(all["passed"].as_u64() > Some(4) && all["adapters"][0]["families"] == line["families"], "{all}");
    let alone = run(&["--family", "tile", &format!("{address}/families")]);
    assert_eq!(alone["adapters"][0]["families"], serde_json::json!({ "tile": 1 }));
    let none = validate(&["--default-limits", "--family", "lanes", address], &[]);
    assert!(none.code == 2 && none.stderr.contains("nothing was computed"), "{} {}", none.code, none.stderr);
    // more than a machine holds
    let large = validate(&["attention/heads257+d256/q1k131072/f32/seed1"], &[]);
    assert!(large.code == 2 && large.stderr.contains("head_dim be at most"), "{} {}", large.code, large.stderr);
    let unsuited = run(&[&format!("{address}/lanes")]);
    assert_eq!(
        (&unsuited["skipped"], unsuited["adapters"][0]["families"].as_object().map(|f| f.len())),
        (&1.into(), Some(0))
    );
}

/// The record of a run is read by the programs that it is for, and by a later run.
#[test]
fn a_run_leaves_a_record_that_the_next_compares_with() {
    if common::gpus().is_empty() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let query = ["rotate", "unit", "q75k75"];
    let first = validate(&[&query[..], &["--report", &at("first")]].concat(), &[]);
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);

    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
    let record: Value = serde_json::from_str(&read("first/record.json")).expect("JSON");
    let cases = record["adapters"][0]["cases"].as_array().expect("a list");
    assert!(cases.len() > 3 && record["passed"] == cases.len() && record["failed"] == 0);
    for case in cases {
        let address = case["address"].as_str().expect("an address");
        assert!(address.parse::<CaseId>().is_ok() && case["seconds"].as_f64() > Some(0.0), "{case}");
        assert!(case["tensors"]["q"]["ratio"].as_f64() < Some(1.0) && case["families"][0].is_string(), "{case}");
    }
    let junit = read("first/junit.xml");
    let junit = roxmltree::Document::parse(&junit).expect("XML");
    let suite = junit.descendants().find(|node| node.has_tag_name("testsuite")).expect("a suite");
    let tests: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
    assert_eq!((tests.len(), suite.attribute("failures")), (cases.len(), Some("0")));
    assert_eq!(tests[0].attribute("name"), cases[0]["address"].as_str());
    let page = read("first/record.html");
    assert!(cases.iter().all(|case| page.contains(case["address"].as_str().expect("an address"))));

    // against what it was, with one verdict and one address changed by hand
    let mut changed = record.clone();
    changed["adapters"][0]["cases"][0]["verdict"] = "failed".into();
    changed["adapters"][0]["cases"][1]["address"] = "gone".into();
    std::fs::write(folder.path().join("changed.json"), changed.to_string()).expect("it is written");
    let link = "https://example.org/issue";
    let known = serde_json::json!([{"adapter": record["adapters"][0]["name"], "address": "rotate unit", "link": link}]);
    std::fs::write(folder.path().join("known.json"), known.to_string()).expect("it is written");
    let (baseline, known) = (at("changed.json"), at("known.json"));
    let second = validate(&[&query[..], &["--baseline", &baseline, "--known", &known]].concat(), &[]);
    assert_eq!(second.code, 0, "{}{}", second.stdout, second.stderr);
    let told = [
        format!("failed before, passed now: {}", cases[0]["address"].as_str().expect("an address")),
        format!("{} cases compared, 1 with another verdict", cases.len() - 1),
        "1 new, 1 missing".into(),
        format!("unexpected pass: {0} of {0} passed that {link} says fail", cases.len()),
    ];
    assert!(told.iter().all(|part| second.stdout.contains(part)), "{told:?}: {}", second.stdout);

    // what is no record, no list, no folder
    let no_folder = at("known.json");
    for args in [["--baseline", &known], ["--known", &baseline], ["--report", &no_folder]] {
        let ran = validate(&[&query[..], &args].concat(), &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
    }
}
