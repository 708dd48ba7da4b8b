//! The program: its arguments, its commands, its exit codes.

use crate::{bench, config, conform, demo, devices, plot, report, run as attention, systems, tune, validate, wgsl};
use clap::{Parser, Subcommand};
use ropewalk::{Error, Result};
use std::io::Write;
use std::process::ExitCode;

const EXIT_CODES: &str = "Exit codes: 0 ok; 1 a result is outside its bound; 2 usage, bad input, a failing device or \
                          output that cannot be written; 3 no adapter; 4 `bench --fail-above`: too slow.";

/// Fused rotary attention on any GPU, checked against an f64 reference.
#[derive(Debug, Parser)]
#[command(name = "ropewalk", version, after_help = EXIT_CODES, propagate_version = true)]
struct Cli {
    /// Print JSON for programs instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Devices(devices::Args),
    Run(attention::Args),
    Config(config::Args),
    Conform(conform::Args),
    Validate(validate::Args),
    Wgsl(wgsl::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Tune(tune::Args),
    Systems(systems::Args),
    Plot(plot::Args),
}

/// The program: parses its arguments, runs the command, says what went wrong.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() => {
            e.print().ok();
            return ExitCode::from(2);
        }
        // help or the version
        Err(e) => {
            report::note(e.print().and_then(|()| std::io::stdout().flush()));
            return end(Ok(ExitCode::SUCCESS));
        }
    };
    let done = match &cli.command {
        Command::Devices(args) => devices::run(args, cli.json),
        Command::Run(args) => attention::run(args, cli.json),
        Command::Config(args) => config::run(args, cli.json),
        Command::Conform(args) => conform::run(args, cli.json),
        Command::Validate(args) => validate::run(args, cli.json),
        Command::Wgsl(args) => wgsl::run(args, cli.json),
        Command::Demo(args) => demo::run(args, cli.json),
        Command::Bench(args) => bench::run(args, cli.json),
        Command::Tune(args) => tune::run(args, cli.json),
        Command::Systems(args) => systems::run(args, cli.json),
        Command::Plot(args) => plot::run(args, cli.json),
    };
    end(done)
}

/// Says what went wrong, stdout included; the exit code.
fn end(done: Result<ExitCode>) -> ExitCode {
    let delivered = report::delivered();
    if let Err(error) = &done
        && delivered.as_ref().err() != Some(error)
    {
        report::complain(&format!("error: {error}"));
    }
    match (delivered, done) {
        (Ok(()), Ok(code)) => code,
        (Ok(()), Err(error)) => exit(&error),
        (Err(_), _) if report::closed() => ExitCode::from(CLOSED),
        (Err(error), _) => {
            report::complain(&format!("error: {error}"));
            exit(&error)
        }
    }
}

/// What a shell shows of a program that SIGPIPE has ended.
const CLOSED: u8 = 141;

/// The exit code of a command that could not finish.
fn exit(error: &Error) -> ExitCode {
    ExitCode::from(match error {
        Error::NoAdapter { .. } => 3,
        _ => 2,
    })
}

/// What a command that finished found.
pub fn verdict(passed: bool) -> Result<ExitCode> {
    Ok(ExitCode::from(if passed { 0 } else { 1 }))
}
