//! `ropewalk validate`: what it selects, what it prints, how it ends.

use crate::common;
use ropewalk::case::CaseId;
use ropewalk_cli::litmus;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
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
    // behind the cases the tests of orders, which have no inputs
    let litmus: Vec<&str> = addresses.iter().copied().filter(|address| address.starts_with("litmus/")).collect();
    assert_eq!(litmus, ["litmus/workgroup-memory", "litmus/dispatches", "litmus/subgroup"]);
    for address in &addresses[..addresses.len() - litmus.len()] {
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
    assert!(
        quiet.stdout.contains("1 runs computed again, in an order of seed 1: the same bits each time"),
        "{}",
        quiet.stdout
    );
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
    assert_eq!((&record["seed"], &record["shuffled"]), (&1.into(), &false.into()));
    for case in cases {
        assert_eq!(case["computed"], 2, "{case}");
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
    let second = ["--baseline", &baseline, "--known", &known, "--shuffle", "5", "--report", &at("second")];
    let second = validate(&[&query[..], &second].concat(), &[]);
    assert_eq!(second.code, 0, "{}{}", second.stdout, second.stderr);
    let told = [
        format!("failed before, passed now: {}", cases[0]["address"].as_str().expect("an address")),
        format!("{} cases compared, 1 with another verdict", cases.len() - 1),
        "1 new, 1 missing".into(),
        format!("unexpected pass: {0} of {0} passed that {link} says fail", cases.len()),
    ];
    assert!(told.iter().all(|part| second.stdout.contains(part)), "{told:?}: {}", second.stdout);

    assert!(
        second.stdout.contains("computed again, in an order of seed 5: the same bits each time"),
        "{}",
        second.stdout
    );
    let again: Value = serde_json::from_str(&read("second/record.json")).expect("JSON");
    assert_eq!((&again["seed"], &again["shuffled"], &again["passed"]), (&5.into(), &true.into(), &record["passed"]));
    // the same results in another order
    let results = |record: &Value| -> BTreeMap<String, Value> {
        let cases = record["adapters"][0]["cases"].as_array().expect("a list");
        cases.iter().map(|case| (case["address"].to_string(), case["tensors"].clone())).collect()
    };
    assert_eq!(results(&again), results(&record));
    let order = |record: &Value| -> Vec<String> {
        record["adapters"][0]["cases"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|case| case["address"].to_string())
            .collect()
    };
    assert_ne!(order(&again), order(&record));

    // what is no record, no list, no folder
    let no_folder = at("known.json");
    for args in [["--baseline", &known], ["--known", &baseline], ["--report", &no_folder]] {
        let ran = validate(&[&query[..], &args].concat(), &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
    }
}

/// Each order holds on every adapter, or its kernels are not used there; with the order taken out of the shader's text it is seen to be gone.
#[test]
fn orders_of_memory_hold_and_their_loss_is_found() {
    for gpu in common::opened(&ropewalk::GpuOptions::default()) {
        let name = gpu.describe();
        for litmus in &litmus::ALL {
            let address = litmus.address();
            match litmus.run(&gpu) {
                Ok(found) => assert_eq!((found.wrong, found.words > 1000), (0, true), "{address} on {name}: {found:?}"),
                Err(ropewalk::Error::Limit { .. }) => {
                    common::left_out(&format!("{address}: not on {name}"));
                    continue;
                }
                Err(e) => panic!("{address} on {name}: {e}"),
            }
            for fault in litmus.faults() {
                let found = litmus.run_fault(&gpu, fault).expect("the stand-in runs");
                // only what runs one after the other can be relied on to show it
                match gpu.info().device_type == ropewalk::wgpu::DeviceType::Cpu {
                    true => assert!(found.wrong > 0, "{address} on {name}: {fault} was not seen"),
                    false if found.wrong == 0 => {
                        common::left_out(&format!("{address}: {fault} does not show on {name}"))
                    }
                    false => {}
                }
            }
            assert!(litmus.run_fault(&gpu, "nonsense").is_err());
        }
    }
}

/// They are cases: chosen by words, recorded, judged.
#[test]
fn orders_of_memory_are_cases() {
    if common::gpus().is_empty() {
        return;
    }
    let ran = validate(&["litmus/", "--json", "--verbose", "--default-limits"], &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    // WebGPU's default limits know no subgroups
    assert_eq!(
        (&report["passed"], &report["failed"], &report["skipped"]),
        (&2.into(), &0.into(), &1.into()),
        "{report}"
    );
    let outcome = &report["adapters"][0]["outcomes"][0];
    assert_eq!(
        (outcome["address"].as_str(), outcome["verdict"].as_str()),
        (Some("litmus/workgroup-memory"), Some("passed"))
    );
    assert_eq!(outcome["tensors"]["words"]["elements"], 512 * 256);
}

/// Inputs go out, results come back: right ones, one that is wrong, one of the wrong shape, none.
#[test]
fn results_of_others_are_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = folder.path().join("cases");
    let at = cases.to_str().expect("UTF-8");
    // positions, lengths, parameters, masks, a pool, blocks: as `ropewalk run` reads them
    let addresses = [
        "attention/alibi+kv-lens/q5k33/f32/seed2",
        "attention/shaw+ids/q9k20/f16/seed1",
        "attention/mask+dense/q6k17/f32/seed1",
        "attention/q8_0+gaps/q5k33/f32/seed1",
        "attention/t5+ragged/q9k20/f32/seed1",
    ];
    // as the names stand in an address
    let addresses = addresses.map(|address| address.parse::<CaseId>().expect("an address").to_string());
    for address in addresses.iter().map(String::as_str) {
        let written = validate(&[address, "--write-inputs", at], &[]);
        assert_eq!((written.code, written.stderr.as_str()), (0, ""), "{address}");
        let of_case = cases.join(address);
        let path = |name: &str| of_case.join(name).to_str().expect("UTF-8").to_string();
        let (spec, inputs, output) = (path("spec.json"), path("inputs.safetensors"), path("output.safetensors"));
        let args = ["run", "--reference", "--spec", &spec, "--input", &inputs, "--output", &output];
        let ran = Command::new(env!("CARGO_BIN_EXE_ropewalk")).args(args).output().expect("the program starts");
        assert!(ran.status.success(), "{address}: {}", String::from_utf8_lossy(&ran.stderr));
        let judged = validate(&[address, "--against", at], &[]);
        assert_eq!(judged.code, 0, "{address}: {}{}", judged.stdout, judged.stderr);
        assert!(judged.stdout.contains("out [") && judged.stdout.contains("lse ["), "{}", judged.stdout);
    }

    // one element of out, [sequence, head, token, element], that is off by a hundredth, and a NaN behind it
    let address = addresses[0].as_str();
    let path = cases.join(address).join("output.safetensors");
    let bytes = fs::read(&path).expect("a result");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let out = file.tensor("out").expect("out");
    let shape = out.shape().to_vec();
    assert_eq!((shape.len(), out.dtype()), (4, Dtype::F32));
    let mut data = out.data().to_vec();
    let index = [0, 2, 3, 10];
    let flat = index.iter().zip(&shape).fold(0, |flat, (i, n)| flat * n + i);
    let value = f32::from_le_bytes(data[4 * flat..4 * flat + 4].try_into().expect("four bytes"));
    data[4 * flat..4 * flat + 4].copy_from_slice(&(value + 0.01).to_le_bytes());
    data[4 * flat + 4..4 * flat + 8].copy_from_slice(&f32::NAN.to_le_bytes());
    let other = |name: &str, shape: Vec<usize>| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &data).expect("as many bytes");
        let bytes = safetensors::serialize([(name, view)], None).expect("a file");
        let path = folder.path().join(format!("{}-{shape:?}.safetensors", name.replace('/', "-")));
        fs::write(&path, bytes).expect("it is written");
        path.to_str().expect("UTF-8").to_string()
    };
    for name in ["out".to_string(), format!("{address}/out")] {
        let file = other(&name, shape.clone());
        let judged = validate(&[address, "--json", "--against", &file], &[]);
        assert_eq!(judged.code, 1, "{}{}", judged.stdout, judged.stderr);
        let report: Value = serde_json::from_str(&judged.stdout).expect("JSON");
        let found = &report[0]["tensors"][0];
        assert_eq!(
            (&found["tensor"], &found["outside"], &found["rows_outside"]),
            (&"out".into(), &2.into(), &1.into())
        );
        assert_eq!(found["first"]["index"], serde_json::json!(index));
        assert_eq!(report[0]["not_given"], serde_json::json!(["lse"]));
        assert_eq!(found["worst"]["index"], serde_json::json!([0, 2, 3, 11]));
        assert!((found["first"]["wanted"].as_f64().expect("a number") - value as f64).abs() < 1e-4, "{found}");
    }
    let told = validate(&[address, "--against", &other("out", shape.clone())], &[]);
    assert!(told.code == 1 && told.stdout.contains("first at [0, 2, 3, 10]"), "{}", told.stdout);
    assert!(
        told.stdout.contains("\nnot given, and so not judged: lse of 1 cases\n0 passed, 1 failed"),
        "{}",
        told.stdout
    );
    let [a, b, c, d] = shape[..] else { panic!("{shape:?}") };
    let elsewhere = cases.join("nowhere");
    for (args, message) in [
        (vec!["--against".to_string(), other("out", vec![a, c, b, d])], "--layout bhsd"),
        (vec!["--against".into(), other("o", shape.clone())], "has no result of"),
        (vec!["--against".into(), elsewhere.display().to_string()], "cannot be read"),
        (vec!["--against".into(), at.into(), "--adapter".into(), "all".into()], "cannot be used with"),
        (vec!["--layout".into(), "bshd".into()], "--against"),
    ] {
        let args: Vec<&str> = [address].into_iter().chain(args.iter().map(String::as_str)).collect();
        let ran = validate(&args, &[]);
        assert!(ran.code == 2 && ran.stderr.contains(message), "{args:?}: {} {}", ran.code, ran.stderr);
    }
    let linear = validate(&["linear/control/q5k9/f32/seed1", "--write-inputs", at], &[]);
    assert!(linear.code == 2 && linear.stderr.contains("not computed by `ropewalk run`"), "{}", linear.stderr);
}
