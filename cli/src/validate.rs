//! `ropewalk validate`: seeded cases of our own on one or all adapters, against the reference. It needs no files.

use crate::cases::{self, Kept, Outcome, Report, Tally, Verdict};
use crate::files::{self, Kind};
use crate::litmus::{self, Litmus};
use crate::progress::Bar;
use crate::record::{self, Adapter, Known, Record};
use crate::replay::{self, Peer};
use crate::report;
use crate::tensors::Layout;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use ropewalk::case::{Case, CaseId, Kernels};
use ropewalk::{Error, Gpu, GpuOptions, Result, wgpu};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Run seeded cases on one or all adapters against the reference
///
/// A case passes if every element is within its derived bound, and if it has the same bits when it is computed again, after other cases; in
/// place, also if no bit around the rows has changed. Cases at the edges of the planner's classes and of tiles are computed by every
/// family of kernels that the adapter offers for them (addresses that end in /families), or by every tuning (/tunings). cos and sin are also
/// compared bit by bit between adapters: equal bits are shown, not demanded. The cases litmus/... test the orders of memory that the kernels
/// rely on: barriers of a workgroup, dispatches of a pass, exchange within subgroups.
///
/// Results of somebody else: `--write-inputs cases ADDRESS` writes cases/ADDRESS/spec.json and inputs.safetensors, as `ropewalk run` reads them; what
/// another program computes of them goes to cases/ADDRESS/output.safetensors, and `--against cases ADDRESS` judges it.
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
    /// Compute in an order drawn from this seed [default: first in the listed order, then again in one of seed 1]
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Also cases that fill a large device, three times each [default: in runs of every case, on adapters that are no CPU]
    #[arg(long)]
    fill: bool,
    /// Write the inputs of the chosen cases to this folder, run nothing
    #[arg(long, value_name = "DIR", conflicts_with_all = RUNS)]
    write_inputs: Option<PathBuf>,
    /// Judge results that somebody else computed, run nothing: a safetensors file whose tensors are called ADDRESS/out and the like (of one
    /// case also out), or the folder of --write-inputs with the output.safetensors of its cases
    #[arg(long, value_name = "PATH", conflicts_with_all = RUNS, conflicts_with = "write_inputs")]
    against: Option<PathBuf>,
    /// How out, q and k lie in the results of --against
    #[arg(long, value_enum, default_value = "bhsd", requires = "against")]
    layout: Layout,
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

/// What says how cases are run.
const RUNS: [&str; 9] =
    ["adapter", "default_limits", "family", "shuffle", "fill", "list", "report", "baseline", "known"];

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
    let chosen = Chosen::new(args)?;
    if let Some(folder) = &args.write_inputs {
        return write_inputs(&chosen.cases, folder, json);
    }
    if let Some(path) = &args.against {
        return against(args, &chosen.cases, path, json);
    }
    if args.list {
        let addresses = chosen.addresses();
        if json {
            report::json(&addresses)
        } else {
            addresses.iter().for_each(|address| report::say(address))
        }
        return crate::verdict(true);
    }
    let gpus = open(args.adapter.as_deref(), args.default_limits)?;
    let mut tallies: Vec<Tally> = gpus.iter().map(|gpu| Tally::new(gpu.describe(), clock)).collect();
    let seed = args.shuffle.unwrap_or(SEED);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let bar = Bar::new("validating");
    let say = |outcome: &Outcome, adapter: &str| {
        if !json && (args.verbose || outcome.verdict == Verdict::Failed) {
            bar.say(&format!("{} [{adapter}]", outcome.line()));
        }
        report::delivered()
    };
    for (gpu, tally) in gpus.iter().zip(&mut tallies) {
        for litmus in &chosen.litmus {
            let outcome = litmus.outcome(gpu, clock);
            say(&outcome, &tally.adapter)?;
            tally.add(outcome);
        }
    }
    let mut cases: Vec<(&CaseId, bool)> = chosen.cases.iter().map(|id| (id, false)).collect();
    cases.extend(chosen.filling.iter().map(|id| (id, true)));
    if args.shuffle.is_some() {
        cases.shuffle(&mut random);
    }
    let mut waiting = Waiting::default();
    for (done, (id, fills)) in cases.iter().enumerate() {
        bar.set(done as f64 / cases.len() as f64);
        let wanted_by = |gpu: &Gpu| !fills || args.fill || gpu.info().device_type != wgpu::DeviceType::Cpu;
        if !gpus.iter().any(wanted_by) {
            continue;
        }
        let case = Rc::new(id.build()?);
        let wanted = cases::expected(&case)?;
        for (n, (gpu, tally)) in gpus.iter().zip(&mut tallies).enumerate().filter(|(_, (gpu, _))| wanted_by(gpu)) {
            let adapter = tally.adapter.clone();
            let kept = pollster::block_on(
                tally.run(gpu, id, &case, &wanted, args.family, &mut |outcome| say(outcome, &adapter)),
            )?;
            waiting.push(n, &case, kept, if *fills { 2 } else { 1 });
        }
        if waiting.is_full() {
            waiting.again(&gpus, &mut tallies, &mut random, &say)?;
        }
    }
    waiting.again(&gpus, &mut tallies, &mut random, &say)?;
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
    let mut record = Record::new(adapters.collect(), date, seed, args.shuffle.is_some());
    let review = record.review(&known);
    let since = baseline.map(|baseline| record.since(&baseline));
    if let Some(folder) = &args.report {
        write(&record, folder)?;
    }
    let report = Report::new(tallies, args.verbose, seed).with(review, since);
    if json {
        report::json(&report)
    } else {
        report::say(&report.text())
    }
    crate::verdict(record.failed == 0)
}

/// The seed of the order in which runs are computed again.
const SEED: u64 = 1;

/// What the arguments choose.
struct Chosen {
    cases: Vec<CaseId>,
    /// Cases that fill a device, after all others.
    filling: Vec<CaseId>,
    litmus: Vec<&'static Litmus>,
}

impl Chosen {
    fn new(args: &Args) -> Result<Self> {
        let query = args.query.join(" ");
        // random cases are nothing else, and neither are those for others
        let alone =
            args.random.is_some() || args.write_inputs.is_some() || args.against.is_some() || args.family.is_some();
        let litmus = if alone || args.limit.is_some() { Vec::new() } else { litmus::matching(&query) };
        let fills = !alone && (args.fill || (query.is_empty() && args.limit.is_none()));
        let filling = if fills { cases::filling()? } else { Vec::new() };
        let filling: Vec<CaseId> = filling.into_iter().filter(|id| id.matches(&query)).collect();
        let cases = match cases::select(&query, args.random, args.limit) {
            Err(_) if !litmus.is_empty() || !filling.is_empty() => Vec::new(),
            cases => cases?,
        };
        Ok(Chosen { cases, filling, litmus })
    }

    fn addresses(&self) -> Vec<String> {
        let litmus = self.litmus.iter().map(|litmus| litmus.address());
        self.cases.iter().chain(&self.filling).map(CaseId::to_string).chain(litmus).collect()
    }
}

/// Runs that are to be computed again, after others, while their pipelines are still there.
#[derive(Default)]
struct Waiting {
    /// The adapter's number, the case, what was computed, and how often it is to be computed again.
    runs: Vec<(usize, Rc<Case>, Kept, u32)>,
    floats: usize,
}

/// So many wait at most; an adapter keeps 32 pipelines, of some runs two.
const WAITING: usize = 14;
/// And so many values.
const WAITING_FLOATS: usize = 1 << 26;

impl Waiting {
    fn push(&mut self, adapter: usize, case: &Rc<Case>, kept: Vec<Kept>, times: u32) {
        let inputs = &case.inputs;
        let held: usize = [&inputs.q, &inputs.k, &inputs.v].iter().map(|t| t.data().len()).sum();
        self.floats += held + kept.iter().map(Kept::len).sum::<usize>();
        self.runs.extend(kept.into_iter().map(|kept| (adapter, case.clone(), kept, times)));
    }

    fn is_full(&self) -> bool {
        self.runs.len() >= WAITING || self.floats >= WAITING_FLOATS
    }

    /// Computes all of them again, in an order of its own.
    fn again(
        &mut self,
        gpus: &[Gpu],
        tallies: &mut [Tally],
        random: &mut ChaCha8Rng,
        say: &dyn Fn(&Outcome, &str) -> Result<()>,
    ) -> Result<()> {
        while !self.runs.is_empty() {
            self.runs.shuffle(random);
            for (n, case, kept, times) in &mut self.runs {
                let (Some(gpu), Some(tally)) = (gpus.get(*n), tallies.get_mut(*n)) else { continue };
                let adapter = tally.adapter.clone();
                pollster::block_on(tally.again(gpu, case, kept, &mut |outcome| say(outcome, &adapter)))?;
                *times -= 1;
            }
            self.runs.retain(|(.., times)| *times > 0);
        }
        self.floats = 0;
        Ok(())
    }
}

/// Writes the inputs of cases; those of one that cannot be written are an error, of many they are left out.
fn write_inputs(cases: &[CaseId], folder: &Path, json: bool) -> Result<ExitCode> {
    let mut written = Vec::new();
    for id in cases {
        match replay::write(folder, id, &id.build()?) {
            Ok(folder) => written.push(folder.display().to_string()),
            Err(e) if cases.len() == 1 => return Err(e),
            Err(e) => report::complain(&format!("left out: {e}")),
        }
        report::delivered()?;
    }
    match json {
        true => report::json(&written),
        false => written.iter().for_each(|folder| report::say(folder)),
    }
    match written.is_empty() {
        true => Err(Error::input("QUERY", "matches no case that can be written", "give attention, scores or rotate")),
        false => crate::verdict(true),
    }
}

/// Judges the results of somebody else: exit code 1 where an element is outside of its bound.
fn against(args: &Args, cases: &[CaseId], path: &Path, json: bool) -> Result<ExitCode> {
    let peer = Peer::open(path, args.layout, cases.len() == 1)?;
    let mut all = Vec::new();
    for id in cases {
        // the reference is asked for what there is
        if peer.has(id) {
            let case = id.build()?;
            all.extend(peer.judge(id, &case, &cases::expected(&case)?)?);
        }
    }
    if all.is_empty() {
        let help = "call tensors ADDRESS/out, or put them as cases/ADDRESS/output.safetensors beside what --write-inputs wrote";
        return Err(Error::input(format!("--against {}", path.display()), "has no result of these cases", help));
    }
    let ignored = peer.ignored();
    if !ignored.is_empty() {
        report::complain(&format!("not read: {}", ignored.join(", ")));
    }
    match json {
        true => report::json(&all),
        false => all
            .iter()
            .filter(|judged| args.verbose || cases.len() == 1 || judged.verdict == Verdict::Failed)
            .for_each(|judged| report::say(&judged.text())),
    }
    let failed = all.iter().filter(|judged| judged.verdict == Verdict::Failed).count();
    if !json {
        let mut not_given = BTreeMap::new();
        all.iter().flat_map(|judged| &judged.not_given).for_each(|name| *not_given.entry(name).or_insert(0) += 1);
        for (name, cases) in not_given {
            report::say(&format!("not given, and so not judged: {name} of {cases} cases"));
        }
        report::say(&format!("{} passed, {failed} failed", all.len() - failed));
    }
    crate::verdict(failed == 0)
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
