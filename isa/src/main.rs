//! `cargo xtask isa`: the default plans' kernels through vendors' own compilers, on a machine without their cards. See docs/isa.md.

mod card;
mod compile;
mod device;
mod driver;
mod listing;
mod model;
mod record;
mod report;
mod spirv;

use card::Card;
use clap::Parser;
use driver::Problem;
use record::Record;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What vendors' compilers make of the kernels: registers, spills, scratch, loops, loads in flight
///
/// Every entry point of the default plan of each workload goes through the card's own compiler in Mesa; nothing runs. AMD's navi21 and
/// vega10 take no more than RADV of Mesa 22 to 25, as distributions have it; other cards take Mesa's shims, see docs/isa.md.
#[derive(Parser)]
#[command(bin_name = "cargo xtask isa")]
struct Arguments {
    /// p1 p2 p3 b1 b2 d1 d2 r1, with -f16 or -bf16 behind for that storage, or a file of composed WGSL that you have edited [default: all]
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// h100 ada ampere navi31 navi21 gfx1150 vega10 dg2 bmg tgl [default: navi21 vega10; with --shims h100 ada navi31 navi21 vega10 dg2 bmg]
    #[arg(long = "card", value_name = "CARD", value_parser = |name: &str| Card::named(name).ok_or("there is no such card"))]
    cards: Vec<Card>,
    /// The folder of Mesa's shims (lib*_noop_drm_shim.so), and of its Vulkan drivers where they are not the system's
    #[arg(long, value_name = "FOLDER")]
    shims: Option<PathBuf>,
    /// Plan with cooperative matrices of 16 rows, where the driver has them
    #[arg(long, conflicts_with_all = ["record", "check"])]
    matrix: bool,
    /// Without robust access to buffers, which wgpu always asks for: Mesa's NAK splits wide loads for it, NVIDIA's own compiler is another
    #[arg(long, conflicts_with_all = ["record", "check"])]
    plain: bool,
    /// Print JSON for programs, a card a line
    #[arg(long)]
    json: bool,
    /// Compare with the record of the same card and compiler in benches/isa; worse ends with exit code 1
    #[arg(long, conflicts_with_all = ["record", "json"])]
    check: bool,
    /// Print predicted times and shares instead, by the model of docs/model.md
    #[arg(long, conflicts_with_all = ["record", "check"])]
    predict: bool,
    /// Write that record
    #[arg(long)]
    record: bool,
    /// Write composed texts, SPIR-V and the compilers' listings to a folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Compile in this process, for the driver that the environment names, and write figures to a file
    #[arg(long, hide = true, value_name = "FILE")]
    compile_to: Option<PathBuf>,
}

impl Arguments {
    fn options(&self) -> compile::Options {
        compile::Options { matrix: self.matrix, plain: self.plain }
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.workloads.is_empty() {
        arguments.workloads = ropewalk::workload::all().into_iter().map(|workload| workload.name).collect();
    }
    let done = match (&arguments.compile_to, arguments.cards.first()) {
        (Some(file), Some(card)) => compile_here(card, file, &arguments).map(|()| ExitCode::SUCCESS),
        _ => cards(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("isa: {error}");
        ExitCode::from(2)
    })
}

fn compile_here(card: &Card, file: &Path, arguments: &Arguments) -> Result<()> {
    let run = compile::run(card, &arguments.workloads, arguments.options(), arguments.keep.as_deref())?;
    Ok(std::fs::write(file, serde_json::to_string(&run)?)?)
}

/// Where records are.
fn records() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).join("benches/isa")
}

/// 0; 1 where something is worse than its record, 2 where a card could not be compiled for.
fn cards(arguments: &Arguments) -> Result<ExitCode> {
    for name in &arguments.workloads {
        match name.ends_with(".wgsl") {
            true if arguments.check || arguments.record => {
                return Err(format!("{name}: records are of workloads").into());
            }
            true => {}
            false => drop(ropewalk::workload::named(name)?),
        }
    }
    let shims = arguments.shims.as_deref();
    let cards = if arguments.cards.is_empty() { Card::usual(shims.is_some()) } else { arguments.cards.clone() };
    let (mut worse, mut missing, mut failed) = (false, false, false);
    for card in cards {
        match driver::compile(&card, shims, &arguments.workloads, arguments.options(), arguments.keep.as_deref()) {
            Ok(run) if arguments.check => worse |= check(&run)?,
            Ok(run) if arguments.predict => {
                let predictions = model::predict(&run);
                if arguments.json {
                    println!("{}", serde_json::to_string(&predictions)?);
                } else {
                    println!(
                        "{} by {}: predictions\n{}\n",
                        run.card,
                        run.compiler(),
                        report::predictions(&predictions)
                    );
                }
            }
            Ok(run) => {
                if arguments.json {
                    println!("{}", serde_json::to_string(&run)?);
                } else {
                    println!("{}: {}, {}\n{}\n", run.card, run.driver, run.device, report::table(&run));
                }
                if arguments.record {
                    eprintln!("{}", Record::write(&records(), &run)?.display());
                }
            }
            Err(Problem::Missing(what)) if arguments.check => println!("left out: {what}"),
            Err(Problem::Missing(what)) => {
                eprintln!("{what}");
                missing = true;
            }
            Err(Problem::Failed(what)) => {
                eprintln!("{what}");
                failed = true;
            }
        }
    }
    if missing {
        eprintln!("{}", driver::WAYS_OUT);
    }
    Ok(ExitCode::from(if worse {
        1
    } else if missing || failed {
        2
    } else {
        0
    }))
}

/// Whether a run is worse than its record.
fn check(run: &compile::Run) -> Result<bool> {
    let name = format!("{} by {}", run.card, run.compiler());
    let Some(record) = Record::read(&records(), run)? else {
        println!("{name}: no record");
        return Ok(false);
    };
    let verdict = record.compare(run);
    verdict.worse.iter().for_each(|line| println!("{name}: WORSE: {line}"));
    verdict.better.iter().for_each(|line| println!("{name}: better: {line}"));
    println!(
        "{name}: {} entry points, {} worse, {} better",
        run.entries.len(),
        verdict.worse.len(),
        verdict.better.len()
    );
    if !verdict.worse.is_empty() {
        println!("where that is meant: cargo xtask isa --record, with the reason in the commit");
    }
    Ok(!verdict.worse.is_empty())
}
