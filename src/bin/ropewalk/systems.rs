//! `ropewalk systems`: the table of systems, for terminals, programs and the documentation.

use crate::{files, report};
use clap::ValueEnum;
use ropewalk::systems::{System, markdown_page, markdown_table, systems};
use ropewalk::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// List every positional system: its terms, variants, source and the golden case that holds it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print Markdown instead: the README's table, or the part of docs/equation.md that describes each system
    #[arg(long, value_enum, value_name = "PART")]
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
        (None, true) => report::json(&systems()),
        (None, false) => print(),
    }
    crate::verdict(true)
}

/// Replaces what stands between the two comments of a file.
fn put(path: &Path, text: &str) -> Result<()> {
    let old = files::text(path)?;
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

fn print() {
    let row = |s: &System| {
        let source = format!("{} ({})", s.paper, s.year);
        let variants = s.missing.unwrap_or(s.variants).to_string();
        vec![s.name.to_string(), s.symbols(), variants, source, s.golden.join("\n")]
    };
    let header = ["system", "terms", "variants", "source", "golden cases"];
    report::say(&report::table(&header, systems().iter().map(row)).to_string());
    report::say("Formulas, traps and aliases are in --json; `ropewalk plot` draws those that have a picture.");
}
