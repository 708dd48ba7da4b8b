//! The documents against the code, as far as a program can tell: one spelling of the equation, paths that exist, constants and slots of the
//! shaders, rooms, commands, limits.

use ropewalk::{Limits, MAX_HEAD_DIM, MAX_HEADS, Target, workload};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The documents whose paths are looked up.
const DOCUMENTS: [&str; 5] =
    ["ARCHITECTURE.md", "README.md", "docs/engines.md", "docs/kernels.md", "shaders/README.md"];
/// Where the equation stands.
const EQUATIONS: [&str; 5] = ["ARCHITECTURE.md", "README.md", "docs/equation.md", "src/lib.rs", "src/reference/mod.rs"];
/// Folders that paths begin with; so do those below `shaders/`.
const FOLDERS: [&str; 9] = ["benches", "cli", "docs", "examples", "fuzz", "shaders", "src", "tests", "xtask"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the whole repository is here: a published package has no `cli/`.
fn is_whole() -> bool {
    let whole = root().join("cli").is_dir();
    if !whole {
        println!("LEFT OUT: no cli/ (a published package has none)");
    }
    whole
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

/// The files below a folder that end with `.ext`.
fn files(folder: &Path, ext: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            found.extend(files(&path, ext));
        } else if path.extension().is_some_and(|e| e == ext) {
            found.push(path);
        }
    }
    found
}

/// Every file of `shaders/`, as `folder/name.wgsl`.
fn shaders() -> Vec<String> {
    let folder = root().join("shaders");
    let found = files(&folder, "wgsl");
    let below = found.iter().filter_map(|path| path.strip_prefix(&folder).ok());
    below.map(|path| path.to_string_lossy().replace('\\', "/")).collect()
}

/// The lines of the equation, without what stands in front of each in a document.
fn equation(file: &str) -> Vec<String> {
    let text = read(file);
    let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix("//!").unwrap_or(line)).collect();
    let starts: Vec<usize> =
        (0..lines.len()).filter(|n| lines[*n].trim_start().starts_with("s(i,j) = cap( ")).collect();
    assert_eq!(starts.len(), 1, "{file} has the equation {} times", starts.len());
    let first = starts[0];
    let indent = lines[first].len() - lines[first].trim_start().len();
    let rest = lines[first..].iter().map(|line| line.get(indent..).unwrap_or_default());
    rest.take_while(|line| !line.trim().is_empty() && !line.starts_with("```")).map(String::from).collect()
}

#[test]
fn the_equation_has_one_spelling() {
    let spelled = equation(EQUATIONS[0]);
    let left: Vec<&str> = spelled.iter().filter_map(|line| line.split([' ', '+']).next()).collect();
    assert_eq!(left, ["s(i,j)", "", "s(i,j)", "lse_i", "o_i"], "{spelled:#?}");
    for file in EQUATIONS {
        assert_eq!(equation(file), spelled, "{file} spells the equation in another way than {}", EQUATIONS[0]);
    }
}

/// What stands in backticks outside of blocks.
fn quoted(file: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut in_block = false;
    for line in read(file).lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    assert!(prose.matches('`').count().is_multiple_of(2), "{file}: a backtick without its partner");
    prose.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// `a/{b,c}` is `a/b` and `a/c`.
fn alternatives(pattern: &str) -> Vec<String> {
    let parts = pattern.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    match parts {
        Some((before, (inner, after))) => inner.split(',').map(|one| format!("{before}{one}{after}")).collect(),
        None => vec![pattern.to_string()],
    }
}

/// Whether a name is what a pattern says, in which one `*` stands for anything.
fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => {
            name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
        }
        None => name == pattern,
    }
}

/// Whether a path below a folder exists; each part of it may have a `*`.
fn exists(folder: &Path, pattern: &str) -> bool {
    let mut found = vec![folder.to_path_buf()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let within = |folder: &PathBuf| -> Vec<PathBuf> {
            names(folder).iter().filter(|name| is_like(name, part)).map(|name| folder.join(name)).collect()
        };
        found = found.iter().flat_map(within).collect();
    }
    !found.is_empty()
}

#[test]
fn every_path_of_the_documents_exists() {
    if !is_whole() {
        return;
    }
    let slots = names(&root().join("shaders"));
    let mut seen = 0;
    let mut missing = Vec::new();
    for file in DOCUMENTS {
        for path in quoted(file).iter().filter(|text| !text.contains(char::is_whitespace)) {
            let Some((first, _)) = path.split_once('/') else { continue };
            let folder = match (FOLDERS.contains(&first), slots.iter().any(|slot| slot == first)) {
                (true, _) => root().to_path_buf(),
                (false, true) => root().join("shaders"),
                (false, false) => continue,
            };
            for one in alternatives(path) {
                seen += 1;
                if !exists(&folder, &one) && !exists(&folder, &format!("{one}.wgsl")) {
                    missing.push(format!("{file}: {one}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such files:\n{}", missing.join("\n"));
    assert!(seen > 100, "{seen} paths in all documents");
}

/// The rows of the table below a heading, each as its cells.
fn table(file: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(file);
    let (_, below) = text.split_once(heading).unwrap_or_else(|| panic!("{file} has no table {heading}"));
    let rows = below.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect()).collect()
}

/// Names in capitals that a text declares as WGSL constants, each behind one of `starts`.
fn constants<'a>(text: &'a str, starts: &[&str]) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for start in starts {
        for (at, _) in text.match_indices(start) {
            let rest = &text[at + start.len()..];
            let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
            let name = &rest[..end.unwrap_or(rest.len())];
            if name.len() > 1 {
                found.insert(name);
            }
        }
    }
    found
}

/// The constants that plans write in front of a module: what the sources of `src/plan` spell, `("NAME", value)` or `const NAME:` in a
/// text, and what plans of the workloads hold.
fn declared() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for path in files(&root().join("src/plan"), "rs") {
        let text = std::fs::read_to_string(&path).expect("a source file can be read");
        // a list of pairs, whose names end at a quote and a comma
        for name in constants(&text, &["(\""]) {
            if text.contains(&format!("(\"{name}\", ")) {
                all.insert(name.to_string());
            }
        }
        for name in constants(&text, &["\"const ", "\\nconst "]) {
            if text.contains(&format!("const {name}: ")) {
                all.insert(name.to_string());
            }
        }
    }
    // of masks and branches, in their files
    let branches = root().join("src/equation/rotary/branches.rs");
    for path in files(&root().join("src/equation/mask"), "rs").into_iter().chain([branches]) {
        let text = std::fs::read_to_string(&path).expect("a source file can be read");
        all.extend(constants(&text, &["constant: \"", "(\""]).into_iter().map(String::from));
    }
    let mut software = Limits::default().for_cpu();
    software.subgroup_size = 8;
    for limits in [Limits::default(), software] {
        for plan in workload::all().iter().flat_map(|workload| workload.plans(&limits).expect("a plan")) {
            let text = plan.wgsl(Target::Native);
            let preamble = text.split("\n// ---- ").next().unwrap_or_default();
            all.extend(constants(preamble, &["\nconst "]).into_iter().map(String::from));
        }
    }
    all
}

#[test]
fn every_constant_of_the_preamble_is_in_the_table() {
    let declared = declared();
    assert!(declared.len() > 50, "{declared:?}");
    let rows = table("shaders/README.md", "| constant | meaning |");
    let named: BTreeSet<String> = rows.iter().flat_map(|row| row[0].split(", ").map(String::from)).collect();
    let missing: Vec<_> = declared.iter().filter(|name| !named.iter().any(|of| is_like(name, of))).collect();
    assert!(missing.is_empty(), "shaders/README.md lacks {missing:?}");
    let stale = named.iter().filter(|of| !of.contains('*') && !declared.contains(*of));
    let stale: Vec<_> = stale.collect();
    assert!(stale.is_empty(), "shaders/README.md names {stale:?}, which no plan declares");
}

#[test]
fn every_shader_file_has_a_slot() {
    let rows = table("shaders/README.md", "| slot | contract |");
    let of_row =
        |row: &Vec<String>| -> Vec<String> { row[0].split('`').skip(1).step_by(2).flat_map(alternatives).collect() };
    let slots: Vec<String> = rows.iter().flat_map(of_row).collect();
    let belongs = |file: &str, slot: &str| match slot.strip_suffix('/') {
        Some(folder) => file.split_once('/').is_some_and(|(first, _)| first == folder),
        None => is_like(file, slot) || is_like(file, &format!("{slot}.wgsl")),
    };
    let files = shaders();
    let alone: Vec<_> = files.iter().filter(|file| !slots.iter().any(|slot| belongs(file, slot))).collect();
    assert!(alone.is_empty(), "shaders/README.md has no slot for {alone:?}");
    let empty: Vec<_> = slots.iter().filter(|slot| !files.iter().any(|file| belongs(file, slot))).collect();
    assert!(empty.is_empty(), "shaders/README.md has slots without files: {empty:?}");
}

#[test]
fn the_rooms_stand_in_their_order() {
    let order = read("tests/order.rs");
    let (_, order) = order.split_once("const ORDER").expect("tests/order.rs says the order");
    let (order, _) = order.split_once("\n];").expect("the order ends");
    let order: Vec<&str> = order.split('"').skip(1).step_by(2).collect();
    let rows = table("ARCHITECTURE.md", "| room | what it holds |");
    let rooms: Vec<&str> = rows
        .iter()
        .map(|row| row[0].trim_matches('`').trim_start_matches("src/").trim_end_matches('/').trim_end_matches(".rs"))
        .collect();
    assert_eq!(rooms, order, "ARCHITECTURE.md's rooms and tests/order.rs");
}

#[test]
fn the_readme_lists_every_command() {
    if !is_whole() {
        return;
    }
    let program = read("cli/src/program.rs");
    let arms = program.lines().filter_map(|line| line.trim().strip_prefix("Command::")?.split_once('('));
    let commands: BTreeSet<String> = arms.map(|(name, _)| name.to_lowercase()).collect();
    assert!(commands.len() > 5, "{commands:?}");
    let rows = table("README.md", "| command | what it does |");
    let word = |row: &Vec<String>| row[0].split([' ', '`']).filter(|word| !word.is_empty()).nth(1).map(String::from);
    let listed: BTreeSet<String> = rows.iter().filter_map(word).collect();
    assert_eq!(listed, commands);
}

#[test]
fn the_readme_tells_the_limits() {
    let spaced = |n: u32| if n < 1000 { n.to_string() } else { format!("{} {:03}", n / 1000, n % 1000) };
    let limits = format!("head_dim up to {}, up to {} heads", spaced(MAX_HEAD_DIM), spaced(MAX_HEADS));
    assert!(read("README.md").contains(&limits), "README.md lacks: {limits}");
}
