//! `ropewalk validate`: seeded cases of our own on one or all adapters, against the reference. It needs no files.

use crate::cases::{self, Report, Tally, Verdict};
use crate::files::{self, Kind};
use crate::progress::Bar;
use crate::record::{self, Adapter, Known, Record};
use crate::report;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use ropewalk::case::{CaseId, Kernels};
use ropewalk::{Error, Gpu, GpuOptions, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

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
    /// Write the record of the run to this folder: record.json, record.html, junit.xml
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    report: Option<PathBuf>,
    /// Say what has changed since an earlier run: the record.json of its --report
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    baseline: Option<PathBuf>,
    /// Issues that are known, a JSON list of {"adapter": WORDS, "address": WORDS, "link": WHERE}: failures that one names do not fail the
    /// run, and a pass of all that it names is told
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    known: Option<PathBuf>,
}

fn kernels(text: &str) -> std::result::Result<Kernels, String> {
    match text {
        "all" => Ok(Kernels::Families),
        name => name.parse().map(Kernels::Only).map_err(|e: Error| e.to_string()),
    }
}

/// Runs the command; exit code 1 if a case failed.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let baseline = args.baseline.as_deref().map(baseline).transpose()?;
    let known = args.known.as_deref().map(known).transpose()?.unwrap_or_default();
    if let Some(folder) = &args.report {
        fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
    }
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
    let mut tallies: Vec<Tally> = gpus.iter().map(|gpu| Tally::new(gpu.describe(), clock)).collect();
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
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let adapters = gpus.iter().zip(&tallies).map(|(gpu, tally)| Adapter::new(gpu, tally));
    let mut record = Record::new(adapters.collect(), date);
    let review = record.review(&known);
    let since = baseline.map(|baseline| record.since(&baseline));
    if let Some(folder) = &args.report {
        write(&record, folder)?;
    }
    let report = Report::new(tallies, args.verbose).with(review, since);
    if json {
        report::json(&report)
    } else {
        report::say(&report.text())
    }
    crate::verdict(record.failed == 0)
}

/// Seconds since the first call.
fn clock() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

fn baseline(path: &Path) -> Result<Record> {
    let name = path.display().to_string();
    Record::read(&name, &files::text(path, Kind::Record)?)
}

fn known(path: &Path) -> Result<Vec<Known>> {
    let name = path.display().to_string();
    Known::check(files::json(&name, &files::text(path, Kind::Known)?)?, &name)
}

fn unwritable(folder: &Path, problem: &dyn std::fmt::Display) -> Error {
    let what = format!("--report {}", folder.display());
    Error::input(what, format!("cannot be made: {problem}"), "name a folder, in one that can be written")
}

/// The record, for programs, people and test runners.
fn write(record: &Record, folder: &Path) -> Result<()> {
    let bad = |problem: String| unwritable(folder, &problem);
    let json = serde_json::to_vec_pretty(record).map_err(|e| bad(e.to_string()))?;
    let junit = junit(record).to_string().map_err(|e| bad(e.to_string()))?;
    for (name, bytes) in
        [("record.json", json), ("record.html", record::page(record)?.into_bytes()), ("junit.xml", junit.into_bytes())]
    {
        files::replace("--report", &folder.join(name), &bytes)?;
    }
    Ok(())
}

/// A suite for each adapter. Known failures are skipped tests, as test runners have no word for them.
fn junit(record: &Record) -> quick_junit::Report {
    let mut report = quick_junit::Report::new("ropewalk validate");
    for adapter in &record.adapters {
        let mut suite = TestSuite::new(adapter.name.clone());
        suite.add_property(("driver", adapter.driver_info.as_str()));
        for entry in &adapter.cases {
            let worst = entry.tensors.iter().map(|(name, m)| match m.ratio {
                Some(ratio) => format!("{name}: worst error {ratio:.3} of its bound, {} elements above", m.failures),
                None => format!("{name}: {} elements above their bound, without end", m.failures),
            });
            let said: Vec<String> = worst.chain(entry.reason.clone()).collect();
            let status = match (entry.verdict, &entry.known) {
                (Verdict::Passed, _) => TestCaseStatus::success(),
                (Verdict::Failed, None) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(said.join("; "));
                    status
                }
                (_, known) => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(match known {
                        Some(link) => format!("known: {link}; {}", said.join("; ")),
                        None => said.join("; "),
                    });
                    status
                }
            };
            let mut case = TestCase::new(entry.address.clone(), status);
            case.set_classname(entry.families.first().cloned().unwrap_or_else(|| "validate".into()));
            case.set_time(Duration::from_secs_f64(entry.seconds.max(0.0)));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report
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
