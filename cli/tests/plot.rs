//! `ropewalk plot` and `ropewalk systems`: pictures of everything that has one, and errors that help.

use crate::common;
use ropewalk::systems::systems;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plot").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("target can be written");
    path
}

/// Exit code, stdout, stderr.
fn ropewalk(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ropewalk")).args(args).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!stderr.contains("panicked"), "{args:?} panicked: {stderr}");
    (output.status.code().expect("the program exits by itself"), stdout, stderr)
}

fn refused(args: &[&str]) -> String {
    let (code, stdout, stderr) = ropewalk(args);
    assert_eq!(code, 2, "{args:?}: {stdout}{stderr}");
    stderr
}

/// The systems that a refusal lists as those with a picture.
fn drawable() -> Vec<&'static str> {
    let message = refused(&["plot", "no such system", "--out", "x.svg"]);
    let names: Vec<&str> = systems().iter().map(|s| s.name).filter(|n| message.contains(&format!(" {n}"))).collect();
    assert!(names.len() >= 15, "{message}");
    names
}

/// The texts of a picture: it parses, has a size, and no coordinate is lost.
fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).expect("well-formed");
    let root = document.root_element();
    assert!(root.has_tag_name(("http://www.w3.org/2000/svg", "svg")) && root.attribute("viewBox").is_some());
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    let texts = document.descendants().filter(|n| n.tag_name().name() == "text").filter_map(|n| n.text());
    texts.map(|t| t.trim().to_string()).collect()
}

#[test]
fn every_system_with_a_picture_is_drawn() {
    let folder = folder("every");
    for name in drawable() {
        let file = folder.join(format!("{name}.svg"));
        let path = file.to_str().unwrap();
        let (code, stdout, stderr) = ropewalk(&["plot", name, "--out", path, "--positions", "30"]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{name}");
        assert!(stdout.starts_with(path), "{stdout}");
        let svg = fs::read_to_string(&file).unwrap();
        let (_, numbers, _) = ropewalk(&["plot", name, "--json", "--positions", "30"]);
        let numbers: Value = serde_json::from_str(&numbers).unwrap();
        let panel = numbers["panels"][0].as_object().unwrap().values().next().unwrap();
        let texts = texts(&svg);
        for label in [&panel["title"], &panel["x"]["label"], &panel["y"]["label"]] {
            assert!(texts.iter().any(|t| t == label.as_str().unwrap()), "{name}: {label} is not among {texts:?}");
        }
        assert!(texts.len() > 10, "{name}: ticks are missing, {texts:?}");
        assert!(svg.len() < 400_000, "{name}: {} bytes", svg.len());
    }
}

#[test]
fn length_extensions_share_a_panel_with_a_legend() {
    let file = folder("extensions").join("decay.svg");
    let (code, _, stderr) = ropewalk(&["plot", "extensions", "--out", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    let texts = texts(&fs::read_to_string(&file).unwrap());
    for label in
        ["RoPE, no extension", "YaRN", "LongRoPE", "Llama 3.1", "dynamic NTK", "trained: 4096", "extended: 32768"]
    {
        assert!(texts.iter().any(|t| t == label), "{label} is not among {texts:?}");
    }
}

/// The README's pictures hold what the commands beside them draw (labels, ticks, legends; the last digit of a coordinate is the
/// platform's).
#[test]
fn pictures_of_the_readme_are_up_to_date() {
    let folder = folder("readme");
    let (Some(readme), Some(docs)) = (common::repository("README.md"), common::repository("docs")) else { return };
    let readme = fs::read_to_string(readme).unwrap();
    for (name, command) in
        [("bias", "t5 alibi --positions 32"), ("decay", "extensions"), ("phase", "rope --kind phase")]
    {
        for theme in ["light", "dark"] {
            let file = folder.join(format!("{name}-{theme}.svg"));
            let args = ["plot", "--theme", theme, "--out", file.to_str().unwrap()];
            let (code, _, stderr) = ropewalk(&args.into_iter().chain(command.split(' ')).collect::<Vec<_>>());
            assert_eq!(code, 0, "{stderr}");
            let stored = format!("docs/{name}-{theme}.svg");
            let old = docs.join(format!("{name}-{theme}.svg"));
            assert!(readme.contains(&stored), "{stored}");
            let [new, old] = [file, old].map(|f| texts(&fs::read_to_string(f).unwrap()));
            assert_eq!(new, old, "run `ropewalk plot {command} --theme {theme} --out {stored}`");
        }
    }
}

#[test]
fn png_in_both_themes() {
    let folder = folder("themes");
    let mut pictures = Vec::new();
    for theme in ["light", "dark"] {
        let file = folder.join(format!("{theme}.png"));
        let args = ["plot", "t5", "alibi", "--theme", theme, "--positions", "20", "--out", file.to_str().unwrap()];
        let (code, _, stderr) = ropewalk(&args);
        assert_eq!(code, 0, "{stderr}");
        let bytes = fs::read(&file).unwrap();
        assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
        let size = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert!(size(16) > 2 * size(20), "two panels side by side: {} x {}", size(16), size(20));
        pictures.push(bytes);
    }
    assert_ne!(pictures[0], pictures[1]);
}

#[test]
fn the_same_command_draws_the_same_bytes() {
    let folder = folder("same");
    let draw = |name: &str| {
        let file = folder.join(name);
        ropewalk(&["plot", "rope", "--kind", "phase", "--out", file.to_str().unwrap()]);
        fs::read(file).unwrap()
    };
    assert_eq!(draw("a.svg"), draw("b.svg"));
}

#[test]
fn refusals_name_what_would_do() {
    let folder = folder("refusals");
    let out = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let svg = out("x.svg");
    let near = refused(&["plot", "alibbi", "--out", &svg]);
    assert!(near.contains("SYSTEM alibbi") && near.contains("did you mean alibi?") && near.contains("t5, "), "{near}");
    let far = refused(&["plot", "nothing like it", "--out", &svg]);
    assert!(!far.contains("did you mean") && far.contains("alibi"), "{far}");
    let none = refused(&["plot", "cope", "--out", &svg]);
    assert!(none.contains("has no picture") && none.contains("alibi"), "{none}");
    let kind = refused(&["plot", "t5", "--kind", "decay", "--out", &svg]);
    assert!(kind.contains("no picture of kind decay") && kind.contains("it has: bias"), "{kind}");
    for name in ["x.pdf", "x", "svg", "x.svg.txt"] {
        let ending = refused(&["plot", "t5", "--out", &out(name)]);
        assert!(ending.contains("--out") && ending.contains(".svg or .png"), "{ending}");
    }
    assert!(refused(&["plot", "t5"]).contains("--out"));
    assert!(refused(&["plot", "alibi", "--head", "4", "--out", &svg]).contains("give 0 to 3"));
    for (option, value) in [
        ("--positions", "1"),
        ("--positions", "100000"),
        ("--dims", "5"),
        ("--dims", "2"),
        ("--theta", "nan"),
        ("--theta", "1"),
        ("--factor", "inf"),
        ("--factor", "0.5"),
        ("--trained", "1"),
    ] {
        let message = refused(&["plot", "rope", option, value, "--out", &svg]);
        assert!(message.contains(option), "{option} {value}: {message}");
    }
    let missing = refused(&["plot", "t5", "--out", &out("no/folder/x.svg")]);
    assert!(missing.contains("--out") && missing.contains("cannot be written"), "{missing}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "a refusal leaves no file");
}

#[test]
fn extreme_options_still_draw() {
    let folder = folder("extreme");
    let file = folder.join("x.svg");
    for args in [
        &["rope", "--kind", "similarity", "--positions", "2", "--dims", "4"][..],
        &["rope", "--kind", "encoding", "--theta", "1e12", "--dims", "256"],
        &["extensions", "--factor", "1"],
        &["extensions", "--factor", "1024", "--trained", "1048576"],
        &["yarn", "--kind", "phase", "rope"],
        &["alibi", "--positions", "2"],
        &["swin", "beit", "sam", "--positions", "2"],
    ] {
        let args: Vec<&str> = ["plot", "--out", file.to_str().unwrap()].iter().chain(args).copied().collect();
        let (code, _, stderr) = ropewalk(&args);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        texts(&fs::read_to_string(&file).unwrap());
    }
}

#[test]
fn systems_are_listed_described_and_printed_as_json() {
    let (code, list, _) = ropewalk(&["systems"]);
    assert_eq!(code, 0);
    let (_, json, _) = ropewalk(&["systems", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), systems().len());
    for (row, s) in json.as_array().unwrap().iter().zip(systems()) {
        assert_eq!((row["name"].as_str(), row["year"].as_u64()), (Some(s.name), Some(s.year as u64)));
        assert!(list.contains(s.name), "{}", s.name);
    }
    let (_, one, _) = ropewalk(&["systems", "BLOOM"]);
    assert!(one.starts_with("ALiBi (alibi)") && one.contains("slope_h") && one.contains("Press et al."), "{one}");
    let (_, one, _) = ropewalk(&["systems", "t5", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&one).unwrap()[0]["golden"][0], "05_t5/t5_encoder_bidirectional");
    let unknown = refused(&["systems", "shav"]);
    assert!(unknown.contains("did you mean shaw?") && unknown.contains("cope"), "{unknown}");
}

#[test]
fn markdown_goes_between_its_comments_or_nowhere() {
    let folder = folder("markdown");
    let file = folder.join("page.md");
    let path = file.to_str().unwrap();
    fs::write(&file, "before\n<!-- systems: written by x -->\nold\n<!-- end of systems -->\nafter\n").unwrap();
    let (code, _, stderr) = ropewalk(&["systems", "--markdown", "table", "--into", path]);
    assert_eq!(code, 0, "{stderr}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("before\n<!-- systems: written by x -->\n| system |"), "{text}");
    assert!(text.ends_with("|\n<!-- end of systems -->\nafter\n") && !text.contains("old"), "{text}");
    fs::write(&file, "<!-- end of systems -->\n<!-- systems: written by x -->\n").unwrap();
    let message = refused(&["systems", "--markdown", "page", "--into", path]);
    assert!(message.contains("--into") && message.contains("no `<!-- end of systems -->` after it"), "{message}");
}
