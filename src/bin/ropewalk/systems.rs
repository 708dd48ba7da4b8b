//! `ropewalk systems`: the table of systems, for terminals, programs and the documentation.

use crate::report;
use clap::ValueEnum;
use ropewalk::Result;
use ropewalk::systems::{System, systems};
use std::process::ExitCode;

/// List every positional system: its terms, variants, source and the golden case that holds it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print Markdown instead: the README's table, or the part of docs/equation.md that describes each system
    #[arg(long, value_enum, value_name = "PART")]
    markdown: Option<Markdown>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Markdown {
    Table,
    Page,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    match (args.markdown, json) {
        (Some(Markdown::Table), _) => report::say(&ropewalk::systems::markdown_table()),
        (Some(Markdown::Page), _) => report::say(&ropewalk::systems::markdown_page()),
        (None, true) => report::json(&systems()),
        (None, false) => print(),
    }
    crate::verdict(true)
}

fn print() {
    let row = |s: &System| {
        let source = format!("{} ({})", s.paper, s.year);
        let variants = s.missing.map_or_else(|| s.variants.to_string(), |why| format!("not supported: {why}"));
        vec![s.name.to_string(), s.symbols(), variants, source, s.golden.join("\n")]
    };
    let header = ["system", "terms", "variants", "source", "golden cases"];
    report::say(&report::table(&header, systems().iter().map(row)).to_string());
    report::say("Formulas, traps and aliases are in --json; `ropewalk plot` draws those that have a picture.");
}
