//! `ropewalk validate`: seeded cases of our own on one or all adapters, against the reference. It needs no files.

use crate::cases::{self, Report, Tally, Verdict};
use crate::progress::Bar;
use crate::report;
use ropewalk::case::{CaseId, Kernels};
use ropewalk::{Error, Gpu, GpuOptions, Result};
use std::process::ExitCode;

/// Run seeded cases on one or all adapters against the reference
///
/// A case passes if every element is within its derived bound; in place, also if no bit around the rows has changed. Cases at the edges of
/// the planner's classes and of tiles are computed by every family of kernels that the adapter offers for them (addresses that end in
/// /families), or by every tuning (/tunings). cos and sin are also compared bit by bit between adapters: equal bits are shown, not demanded.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Words that the address of a case contains, or one whole address, such as attention/alibi/q37k75/f16/seed1; none:
    /// every case
    query: Vec<String>,
    /// The adapter: part of its name, driver or backend, or `all` [default: the best]
    #[arg(long, value_name = "NAME|all")]
    adapter: Option<String>,
    /// Use WebGPU's default limits and no features, whatever the adapter has
    #[arg(long)]
    default_limits: bool,
    /// The family of kernels that computes: `all`, or one, such as tile (cases that it does not take are left out) [default: what the
    /// address says, else the planner's choice]
    #[arg(long, value_name = "NAME|all", value_parser = kernels)]
    family: Option<Kernels>,
    /// Stop after N cases
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Draw N random cases instead of the listed ones
    #[arg(long, value_name = "N", conflicts_with = "limit")]
    random: Option<usize>,
    /// Print a line for every case and adapter, not only for failures
    #[arg(long, short)]
    verbose: bool,
    /// Print the addresses, run nothing
    #[arg(long)]
    list: bool,
}

fn kernels(text: &str) -> std::result::Result<Kernels, String> {
    match text {
        "all" => Ok(Kernels::Families),
        name => name.parse().map(Kernels::Only).map_err(|e: Error| e.to_string()),
    }
}

/// Runs the command; exit code 1 if a case failed.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let cases = cases::select(&args.query.join(" "), args.random, args.limit)?;
    if args.list {
        let addresses: Vec<String> = cases.iter().map(CaseId::to_string).collect();
        if json {
            report::json(&addresses)
        } else {
            addresses.iter().for_each(|address| report::say(address))
        }
        return crate::verdict(true);
    }
    let gpus = open(args.adapter.as_deref(), args.default_limits)?;
    let mut tallies: Vec<Tally> = gpus.iter().map(|gpu| Tally::new(gpu.describe())).collect();
    let bar = Bar::new("validating");
    for (done, id) in cases.iter().enumerate() {
        bar.set(done as f64 / cases.len() as f64);
        let case = id.build()?;
        let wanted = cases::expected(&case)?;
        for (gpu, tally) in gpus.iter().zip(&mut tallies) {
            let adapter = tally.adapter.clone();
            pollster::block_on(tally.run(gpu, id, &case, &wanted, args.family, &mut |outcome| {
                if !json && (args.verbose || outcome.verdict == Verdict::Failed) {
                    bar.say(&format!("{} [{adapter}]", outcome.line()));
                }
                report::delivered()
            }))?;
        }
    }
    drop(bar);
    if tallies.iter().all(|tally| tally.outcomes.is_empty()) {
        return Err(Error::input(
            "--family",
            "no adapter takes it for any of these cases, so nothing was computed",
            "`ropewalk validate -v` without it names the kernels that are computed",
        ));
    }
    let report = Report::new(tallies, args.verbose);
    if json {
        report::json(&report)
    } else {
        report::say(&report.text())
    }
    crate::verdict(report.failed == 0)
}

/// The adapter of a name, the best or all; those that do not open are told.
pub fn open(adapter: Option<&str>, default_limits: bool) -> Result<Vec<Gpu>> {
    let mut options = GpuOptions::default();
    options.default_limits = default_limits;
    if adapter != Some("all") {
        options.adapter = adapter.map(String::from);
        return Ok(vec![Gpu::open(&options)?]);
    }
    let mut gpus = Vec::new();
    let mut last = None;
    for gpu in Gpu::all(&options) {
        match gpu {
            Ok(gpu) => gpus.push(gpu),
            Err(e) => {
                report::complain(&format!("left out: {e}"));
                last = Some(e);
            }
        }
    }
    match (gpus.is_empty(), last) {
        (false, _) => Ok(gpus),
        (true, Some(e)) => Err(e),
        // says that there is none, and what to do
        (true, None) => Gpu::open(&options).map(|gpu| vec![gpu]),
    }
}
