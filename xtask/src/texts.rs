//! `cargo xtask texts BEFORE AFTER [RENAMED]`: are the composed texts of two trees the same?
//!
//! BEFORE and AFTER are folders that `ropewalk wgsl --variants FOLDER` wrote. Texts are paired by file name. RENAMED is a file of lines
//! `old new`: whole words (identifiers, paths of files) that BEFORE has for AFTER's. Nothing else may differ, not a space.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

pub(crate) fn texts(arguments: Vec<OsString>) -> ExitCode {
    let (before, after, renamed) = match arguments.as_slice() {
        [before, after] => (before, after, None),
        [before, after, renamed] => (before, after, Some(renamed)),
        _ => {
            eprintln!("usage: cargo xtask texts BEFORE AFTER [RENAMED]");
            return ExitCode::from(2);
        }
    };
    match compare(before.as_ref(), after.as_ref(), renamed.map(Path::new)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(2)
        }
    }
}

fn compare(before: &Path, after: &Path, renamed: Option<&Path>) -> io::Result<bool> {
    let list = renamed.map(fs::read_to_string).transpose()?.unwrap_or_default();
    let pair = |line| {
        let words = str::split_once(line, ' ');
        words.ok_or_else(|| io::Error::other(format!("RENAMED: {line:?} is not two words with a space between them")))
    };
    let words = list.lines().map(pair).collect::<io::Result<BTreeMap<&str, &str>>>()?;
    let (before, after) = (read(before)?, read(after)?);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let (mut equal, mut renamed, mut different) = (0, 0, 0);
    for name in &names {
        let (Some(old), Some(new)) = (before.get(*name), after.get(*name)) else {
            println!("{name}: only {}", if before.contains_key(*name) { "before" } else { "after" });
            different += 1;
            continue;
        };
        if old == new {
            equal += 1;
        } else if &replaced(old, &words) == new {
            renamed += 1;
        } else {
            let was = replaced(old, &words);
            let mut lines = was.lines().zip(new.lines()).enumerate();
            let first = lines.find(|(_, (a, b))| a != b);
            match first {
                Some((at, (a, b))) => println!("{name}:{}\n  before: {a}\n  after:  {b}", at + 1),
                None => println!("{name}: one is longer"),
            }
            different += 1;
        }
    }
    println!("{} texts: {equal} the same, {renamed} the same but for names, {different} different", names.len());
    Ok(different == 0 && !names.is_empty())
}

/// The text with whole words replaced; a word is of letters, digits, `_`, `/` and `.`.
fn replaced(text: &str, words: &BTreeMap<&str, &str>) -> String {
    let of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.');
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let word = rest.find(|c| !of_word(c)).unwrap_or(rest.len());
        let end = if word == 0 { rest.find(of_word).unwrap_or(rest.len()) } else { word };
        let (part, behind) = rest.split_at(end);
        out.push_str(words.get(part).unwrap_or(&part));
        rest = behind;
    }
    out
}

/// Every text of a folder, by its path in it.
fn read(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "wgsl") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_replaced() {
        let words = BTreeMap::from([("cap/none.wgsl", "equation/cap_none.wgsl"), ("finish", "epilogue")]);
        assert_eq!(
            replaced("// ---- cap/none.wgsl\nfn finish(finished: f32)", &words),
            "// ---- equation/cap_none.wgsl\nfn epilogue(finished: f32)"
        );
    }
}
