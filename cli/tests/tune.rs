//! `ropewalk tune`: measures, stores, shows and clears. No time is asserted.

use crate::common;
use std::fs;
use std::path::Path;
use std::process::Command;

fn ropewalk(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ropewalk"));
    let output = command.args(args).env("ROPEWALK_CACHE", folder).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    (output.status.code().expect("it exits by itself"), stdout, stderr)
}

#[test]
fn tune_measures_stores_shows_and_clears() {
    if common::gpus().is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let json =
        |out: &str| -> Vec<serde_json::Value> { out.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let (code, out, err) = ropewalk(folder.path(), &["tune", "r1", "--seconds", "0.01", "--dry-run", "--json"]);
    assert_eq!(code, 0, "{err}");
    let lines = json(&out);
    for kernel in ["rotate q", "rotate k"] {
        let of: Vec<_> = lines.iter().filter(|line| line["kernel"] == kernel).collect();
        assert!(!of.is_empty() && of.iter().filter(|line| line["default"] == true).count() == 1, "{out}");
        assert!(of.iter().filter(|line| line["winner"] == true).count() <= 1);
        for line in of {
            assert_eq!(line["checked"], true, "{line}");
            assert!(line["min_ms"].as_f64().unwrap() <= line["median_ms"].as_f64().unwrap(), "{line}");
        }
    }
    assert!(err.contains("--dry-run") && fs::read_dir(folder.path()).unwrap().count() == 0, "{err}");

    let (code, _, err) = ropewalk(folder.path(), &["tune", "r1", "--seconds", "0.01"]);
    assert_eq!(code, 0, "{err}");
    let mut files = fs::read_dir(folder.path().join("tuning")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|file| file.extension().is_some_and(|e| e == "json")).unwrap();
    assert!(err.contains(&file.display().to_string()), "{err}");

    // a winner of somebody's hand: shown, taken by bench, said so; and what a damaged file does
    let winners = |text: &str| {
        let mut file_json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        file_json["winners"] = serde_json::from_str(text).unwrap();
        fs::write(&file, file_json.to_string()).unwrap();
    };
    let bucket = lines.iter().find(|line| line["kernel"] == "rotate q").unwrap();
    let (bucket, tuning) = (bucket["bucket"].as_str().unwrap(), &bucket["tuning"]);
    winners(&format!(
        "{{\"{bucket}\": {{\"tuning\": {tuning}, \"workload\": \"r1\", \"ms\": 1, \"default_ms\": 2, \"date\": \"today\"}}}}"
    ));
    let (code, out, _) = ropewalk(folder.path(), &["tune", "--show"]);
    assert!(code == 0 && out.contains(bucket) && out.contains("today"), "{out}");
    let bench = ["bench", "r1", "--seconds", "0.001", "--runs", "1", "--sets", "1", "--unchecked", "--json"];
    let (code, out, err) = ropewalk(folder.path(), &bench);
    assert!(code == 0 && json(&out)[0]["tuning"][0] == "stored", "{out}{err}");
    fs::write(&file, "nonsense").unwrap();
    let (code, out, err) = ropewalk(folder.path(), &bench);
    assert!(code == 0 && err.contains("ignored") && json(&out)[0]["tuning"][0].get("table").is_some(), "{err}");

    let (code, _, err) = ropewalk(folder.path(), &["tune", "--clear"]);
    assert!(code == 0 && err.contains("removed") && !file.exists(), "{err}");
    let (code, _, err) = ropewalk(folder.path(), &["tune", "--clear"]);
    assert!(code == 0 && err.contains("there was none"), "{err}");
    let (code, out, _) = ropewalk(folder.path(), &["tune", "--show"]);
    assert!(code == 0 && out.contains("no winners"), "{out}");
}

#[test]
fn tune_refuses_what_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    for (args, says) in [
        (&["tune", "p9"][..], "there is no \"p9\""),
        (&["tune", "--seconds", "0"], "0.001 to 3600"),
        (&["tune", "p1", "--show"], "cannot be used with"),
        (&["tune", "--show", "--clear"], "cannot be used with"),
        (&["tune", "--clear", "--dry-run"], "cannot be used with"),
    ] {
        let (code, _, err) = ropewalk(folder.path(), args);
        assert!(code == 2 && err.contains(says), "{args:?}: {err}");
    }
}
