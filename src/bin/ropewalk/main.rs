//! The command line. (Only `conform` for now: to be replaced by the full set of subcommands.)

mod conform;
mod golden;

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// Run golden cases through the reference and the GPU and compare every listed value.
    Conform(conform::Args),
}

fn main() -> ExitCode {
    let Command::Conform(args) = Command::parse();
    conform::run(&args).unwrap_or_else(|e| {
        eprintln!("error: {e}");
        ExitCode::from(if matches!(e, ropewalk::Error::NoAdapter { .. }) { 3 } else { 2 })
    })
}
