//! `ropewalk bench`: what it refuses, what it prints. No time is asserted.

use crate::common;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("target can be written");
    path
}

/// Exit code, stdout, stderr.
fn bench(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ropewalk"));
    command.env("ROPEWALK_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    let output = command.arg("bench").args(args).envs(env.iter().copied()).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!stderr.contains("panicked"), "{args:?} panicked: {stderr}");
    (output.status.code().expect("the program exits by itself"), stdout, stderr)
}

#[test]
fn bad_arguments_are_named_before_anything_is_measured() {
    let folder = folder("arguments");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("target can be written");
        path.to_str().expect("UTF-8").to_string()
    };
    let broken = file("broken.json", "{\"workload\": \"p1\"}\n");
    let words = file("words.json", "\nno json\n");
    let empty = file("empty.json", "\n");
    for (args, message) in [
        (&["p9"][..], "there is no \"p9\"; name one of p1, p2"),
        (&["p1", "d2-f64"], "there is no \"d2-f64\""),
        (&["p1", "--runs", "0"], "invalid value '0'"),
        (&["p1", "--seconds", "0"], "a number of seconds from 0.001"),
        (&["p1", "--seconds", "nan"], "a number of seconds from 0.001"),
        (&["p1", "--sets", "65"], "invalid value '65'"),
        (&["p1", "--plot", "picture.pdf"], "--plot picture.pdf: does not end in .svg or .png"),
        (&["p1", "--theme", "dark"], "--plot"),
        (&["p1", "--compare", "/no/such/file"], "cannot be read"),
        (&["p1", "--compare", &broken], "line 1: cannot be read: missing field `adapter`"),
        (&["p1", "--compare", &words], "line 2: cannot be read"),
        (&["p1", "--compare", &empty], "holds no result"),
        (&["p1", "--json", "--format", "csv"], "give one of the two"),
        (&["p1", "--format", "sql"], "table, md, csv, json, jsonl"),
        (&["p1", "--fail-above", "1.2"], "--compare <FILE>|--against <PROGRAM>"),
        (&["p1", "--fail-above", "nan", "--compare", &broken], "a number above 0"),
        (&["p1", "--pairs", "2"], "--against"),
        (&["p1", "--against", "/no/such/program", "--compare", &broken], "cannot be used with"),
        (&["p1", "--against", "/no/such/program"], "cannot be run"),
        (&["p1", "--against", "/no/such/program", "--adapter", "all"], "name one adapter"),
    ] {
        let (code, stdout, stderr) = bench(args, &[]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
    }
    // no backend of this name exists outside browsers
    for args in [&["p1"][..], &["p1", "--adapter", "all"]] {
        let (code, stdout, stderr) = bench(args, &[("WGPU_BACKEND", "webgpu")]);
        assert_eq!((code, stdout.as_str()), (3, ""), "{args:?}: {stderr}");
    }
}

/// One decode step, three times: lines, ratios, picture.
#[test]
fn a_workload_is_checked_timed_compared_and_drawn() {
    if common::gpus().is_empty() {
        return;
    }
    let folder = folder("lines");
    let short = ["d2-f16", "--seconds", "0.001", "--runs", "1", "--sets", "2"];
    let with = |more: &[&str]| {
        let args: Vec<&str> = short.iter().chain(more).copied().collect();
        let (code, stdout, stderr) = bench(&args, &[]);
        assert_eq!(code, 0, "{args:?}: {stdout}{stderr}");
        (stdout, stderr)
    };
    let (stdout, _) = with(&["--json"]);
    let line: Value = serde_json::from_str(&stdout).expect("one object on one line");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    for field in ["workload", "adapter", "driver", "kernel", "check", "clock", "version", "date", "bound"] {
        assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {stdout}");
    }
    for field in [
        "median_ms",
        "min_ms",
        "gflops",
        "gbps",
        "ceiling_percent",
        "peak_bytes",
        "compile_ms",
        "runs",
        "sets",
        "dispatches",
        "flop",
        "bytes",
    ] {
        assert!(line[field].as_f64().is_some_and(|x| x > 0.0), "{field}: {stdout}");
    }
    for field in ["copy_gbps", "transfer_gbps", "fma_gflops"] {
        assert!(line["ceilings"][field].as_f64().is_some_and(|x| x > 0.0), "{field}: {stdout}");
    }
    assert!(line["wall"]["median_ms"].as_f64().is_some_and(|x| x > 0.0) && line["spread_percent"].is_number());
    assert_eq!((line["workload"].as_str(), line["checked"].as_bool()), (Some("d2-f16"), Some(true)));
    assert!(line["check"].as_str().is_some_and(|text| text.starts_with("right: 32 of 32 rows")), "{stdout}");
    assert_eq!(line["flop"].as_f64(), Some(32.0 * 4096.0 * 512.0));
    assert!(line["min_ms"].as_f64() <= line["median_ms"].as_f64());
    let gflops = 1e-6 * line["flop"].as_f64().unwrap() / line["median_ms"].as_f64().unwrap();
    assert!((line["gflops"].as_f64().unwrap() / gflops - 1.0).abs() < 1e-9);

    // a file of this line with a thousand times and half its times, and of another workload
    let mut then = line.clone();
    then["median_ms"] = (1e3 * line["median_ms"].as_f64().unwrap()).into();
    then["min_ms"] = (0.5 * line["min_ms"].as_f64().unwrap()).into();
    let mut other = then.clone();
    other["workload"] = "p3-bf16".into();
    let file = folder.join("then.json");
    fs::write(&file, format!("{then}\n{other}\n")).expect("target can be written");
    let picture = folder.join("roofline.svg");
    let paths = [&file, &picture].map(|path| path.to_str().expect("UTF-8"));
    let gate = ["--fail-above", "1"];
    let (stdout, stderr) =
        with(&[&["--format", "json", "--unchecked", "--compare", paths[0], "--plot", paths[1]], &gate[..]].concat());
    let list: Value = serde_json::from_str(&stdout).expect("a list");
    let now = &list[0];
    assert_eq!((now["checked"].as_bool(), now["check"].as_str()), (Some(false), Some("not checked")));
    let ratio = then["median_ms"].as_f64().unwrap() / now["median_ms"].as_f64().unwrap();
    assert!((now["compare"]["median"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-9, "{stdout}");
    assert_eq!(now["compare"]["before_min_ms"], then["min_ms"]);
    assert!(stderr.contains("p3-bf16 on ") && stderr.contains("only in the earlier run"), "{stderr}");

    let svg = fs::read_to_string(&picture).expect("a picture");
    let document = roxmltree::Document::parse(&svg).expect("well-formed");
    let texts = document.descendants().filter(|n| n.tag_name().name() == "text").filter_map(|n| n.text());
    let texts: Vec<&str> = texts.map(str::trim).collect();
    assert!(texts.iter().any(|t| t.starts_with("d2-f16 ")) && texts.contains(&"GFLOP/s"), "{texts:?}");
    assert!(texts.iter().any(|t| t.starts_with("Roofline of ")) && !svg.contains("NaN"), "{texts:?}");

    // the same gate with a record of times that nothing reaches, a list as `--format json` prints it
    let mut quick = line.clone();
    for field in ["median_ms", "min_ms"] {
        quick[field] = 1e-6.into();
    }
    let record = folder.join("record.json");
    fs::write(&record, format!("[{quick}]")).expect("target can be written");
    let record = record.to_str().expect("UTF-8");
    let (code, stdout, stderr) = bench(&[&short[..], &["--unchecked", "--baseline", record], &gate].concat(), &[]);
    assert_eq!(code, 4, "{stdout}{stderr}");
    assert!(stderr.contains("d2-f16 on ") && stderr.contains("TOO SLOW"), "{stderr}");
    for text in
        ["NOT CHECKED", "before / now", "ceilings, measured now: ", "d2-f16  decode", "GFLOP/s: what must be computed"]
    {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
    // a gate without a partner is none
    let (code, stdout, stderr) = bench(&[&["d1"][..], &short[1..], &["--compare", record], &gate].concat(), &[]);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("has nothing to compare d1 on "), "{stderr}");

    // in turn with another program, which here prints what it is told to
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let quick_line = folder.join("quick.json");
        fs::write(&quick_line, quick.to_string()).expect("target can be written");
        let program = folder.join("other");
        fs::write(&program, format!("#!/bin/sh\ncat '{}'\n", quick_line.display())).expect("target can be written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let program = program.to_str().expect("UTF-8");
        let args = ["--json", "--unchecked", "--against", program, "--pairs", "1"];
        let (code, stdout, stderr) = bench(&[&short[..], &args, &gate].concat(), &[]);
        assert_eq!(code, 4, "{stdout}{stderr}");
        let pairs: Value = serde_json::from_str(&stdout).expect("one object on one line");
        assert_eq!((&pairs["kernel"], &pairs["other_kernel"]), (&line["kernel"], &line["kernel"]));
        let ratio = 1e-6 / pairs["median_ms"].as_f64().unwrap();
        assert!((pairs["ratio"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-9 && pairs["ratios"][0] == pairs["ratio"]);
        assert!(stderr.contains("d2-f16 on ") && stderr.contains("times the other's time"), "{stderr}");
    }
}
