//! `ropewalk systems`: the table of systems, for terminals, programs and the documentation.

use crate::{files, report};
use clap::ValueEnum;
use ropewalk::systems::{System, markdown_page, markdown_table, system, systems};
use ropewalk::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// List every positional system: its terms, variants, source and the golden case that holds it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Systems to describe in full; without one: a line for each
    #[arg(value_name = "SYSTEM")]
    systems: Vec<String>,
    /// Print Markdown instead: the README's table, or the part of docs/equation.md that describes each system
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "systems")]
    markdown: Option<Markdown>,
    /// Put the Markdown into FILE instead, between the two comments that say where it belongs
    #[arg(long, value_name = "FILE", requires = "markdown")]
    into: Option<PathBuf>,
}

const START: &str = "<!-- systems: written by ";
const END: &str = "<!-- end of systems -->";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Markdown {
    Table,
    Page,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let markdown = args.markdown.map(|part| match part {
        Markdown::Table => markdown_table(),
        Markdown::Page => markdown_page(),
    });
    match (markdown, json) {
        (Some(text), _) => match &args.into {
            Some(path) => put(path, &text)?,
            None => report::say(&text),
        },
        (None, true) if args.systems.is_empty() => report::json(&systems()),
        (None, true) => report::json(&chosen(&args.systems)?),
        (None, false) if args.systems.is_empty() => print(),
        (None, false) => chosen(&args.systems)?.iter().for_each(|s| describe(s)),
    }
    crate::verdict(true)
}

/// Replaces what stands between the two comments of a file.
fn put(path: &Path, text: &str) -> Result<()> {
    let old = files::text(path, files::Kind::Page)?;
    let place = old.find(START).and_then(|start| {
        let from = start + old.get(start..)?.find('\n')? + 1;
        let to = from + old.get(from..)?.find(END)?;
        Some((old.get(..from)?, old.get(to..)?))
    });
    let Some((before, after)) = place else {
        let problem = format!("has no line that starts with `{START}`, or no `{END}` after it");
        return Err(Error::input(format!("--into {}", path.display()), problem, "put both comments where it belongs"));
    };
    files::replace("--into", path, format!("{before}{text}\n{after}").as_bytes())
}

/// The systems of some names.
fn chosen(names: &[String]) -> Result<Vec<&'static System>> {
    names.iter().map(|name| system(name).ok_or_else(|| unknown(name, systems().iter()))).collect()
}

/// An unknown name: the nearest one, and those that would do.
pub fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a System>) -> Error {
    let names: Vec<&str> = known.map(|s| s.name).collect();
    let all = systems().iter().flat_map(|s| std::iter::once(&s.name).chain(s.aliases).map(move |n| (*n, s.name)));
    let near = all.map(|(n, own)| (distance(&name.to_lowercase(), n), own)).min();
    let guess = match near {
        Some((changes, own)) if changes <= 2 => format!("did you mean {own}? "),
        _ => String::new(),
    };
    let help = format!("{guess}There are: {}", names.join(", "));
    Error::input(format!("SYSTEM {name}"), "is no system of the table", help)
}

/// How many letters must be put in, taken out or changed to make one word of another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut last = i + 1;
        let mut next = vec![last];
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = [pair.first(), pair.last()].map(|n| n.copied().unwrap_or_default());
            last = (diagonal + usize::from(x != *y)).min(above + 1).min(last + 1);
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn describe(s: &System) {
    report::say(&format!("{} ({})", s.title, s.name));
    report::pairs(&[
        ("formula", s.formula.to_string()),
        ("terms", s.symbols()),
        ("of the four products", s.place.to_string()),
        ("covered", s.missing.unwrap_or(s.variants).to_string()),
        ("from", format!("{}, {}", s.paper, s.year)),
        ("golden cases", s.golden.join(", ")),
        ("traps", s.traps.to_string()),
        ("other names", s.aliases.join(", ")),
    ]);
    report::say("");
}

fn print() {
    let row = |s: &System| {
        let author = s.paper.split(',').next().unwrap_or_default();
        let from = format!("{author} {}", s.year);
        let case = s.golden.first().copied().unwrap_or_default();
        [s.name, &s.symbols(), s.missing.unwrap_or(s.variants), &from, case].map(String::from).to_vec()
    };
    let header = ["system", "terms", "variants", "from", "a golden case"];
    report::say(&report::table(&header, systems().iter().map(row)).to_string());
    report::say("`ropewalk systems NAME` describes one in full; `ropewalk plot NAME` draws it.");
}
