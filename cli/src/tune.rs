//! `ropewalk tune`: measures which kernel is fastest on this adapter, and remembers it.

use crate::progress::Bar;
use crate::report;
use crate::workloads::timing::{Budget, Stopwatch, Timing};
use crate::workloads::{self, SEED, checked};
use crate::{bench, validate};
use ropewalk::workload::{Loaded, Workload};
use ropewalk::{Bucket, Error, Gpu, Inputs, Kernel, Limits, Plan, Result, Tuning, TuningCache, Tunings, Winner};
use serde::Serialize;
use std::process::ExitCode;
use std::time::SystemTime;

/// Measure which kernel is fastest on this adapter, and remember it
///
/// Every family and tile size that may take a workload is checked against the reference, then all are timed in alternation. The fastest is
/// stored for calls of its kind (kernel, storage, sizes, terms), by adapter and driver, in the user's cache folder or in $ROPEWALK_CACHE.
/// `run` and `bench` take winners into account; `conform` and `validate` never do.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// p1 p2 p3 b1 b2 d1 d2 r1, with -f16 or -bf16 behind for that storage; `all` [default: those in f32, without p3 on
    /// software adapters]
    #[arg(value_name = "WORKLOAD", conflicts_with_all = ["show", "clear"])]
    workloads: Vec<String>,
    /// The adapter: part of its name, driver or backend, or `all` [default: the best]
    #[arg(long, value_name = "NAME|all")]
    adapter: Option<String>,
    /// Seconds of runs for each kernel of a workload, all candidates together
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = bench::seconds)]
    seconds: f64,
    /// Measure and print, store nothing
    #[arg(long)]
    dry_run: bool,
    /// Also try shaders without run-time checks on software adapters, where they stay otherwise
    #[arg(long)]
    checks: bool,
    /// Print the stored winners
    #[arg(long, conflicts_with_all = ["clear", "dry_run"])]
    show: bool,
    /// Forget the stored winners
    #[arg(long, conflicts_with = "dry_run")]
    clear: bool,
}

/// Rounds of the alternation, at least.
const ROUNDS: usize = 7;
/// A winner is stored where it takes at most this share of what a plan takes without it: less is within what runs differ by.
const BETTER: f64 = 0.97;

/// A candidate, as `--json` prints it.
#[derive(Debug, Clone, Serialize)]
struct Line {
    workload: String,
    kernel: &'static str,
    bucket: String,
    adapter: String,
    label: String,
    tuning: Tuning,
    /// Whether it is what a plan takes without winners.
    default: bool,
    /// Whether it was stored, or would be.
    winner: bool,
    /// Whether its result was found right.
    checked: bool,
    check: String,
    min_ms: Option<f64>,
    median_ms: Option<f64>,
    runs: usize,
    compile_ms: f64,
}

/// Runs the command: exit code 1 if a candidate is wrong.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let (chosen, named) = workloads::choose(&args.workloads)?;
    let gpus = validate::open(args.adapter.as_deref(), false)?;
    if args.show || args.clear {
        return keep(&gpus, args, json);
    }
    let mut wrong = false;
    for gpu in &gpus {
        let (mut cache, warnings) = TuningCache::load(gpu.info());
        warnings.iter().for_each(|warning| report::complain(warning));
        if !json {
            report::say(&gpu.describe());
        }
        'workloads: for workload in &chosen {
            if !named && workload.name == "p3" && gpu.limits().cpu {
                report::complain("p3: left out on a software adapter, where it takes minutes; name it to run it");
                continue;
            }
            let inputs = workload.inputs(SEED)?;
            for kernel in workload.kernels {
                let (lines, winner) = match measure(gpu, workload, *kernel, &inputs, args) {
                    Ok(measured) => measured,
                    Err(e @ Error::Limit { .. }) => {
                        report::complain(&format!("{}: not on {}: {e}", workload.name, gpu.describe()));
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                wrong |= lines.iter().any(|line| !line.checked);
                let bucket = Bucket::new(*kernel, &workload.spec, &workload.shape())?;
                match winner {
                    Some(winner) => cache.insert(&bucket, winner),
                    // what a plan takes anyway is best
                    None => cache.remove(&bucket),
                }
                print(&lines, json);
                // what was measured is kept
                if report::delivered().is_err() {
                    break 'workloads;
                }
            }
        }
        if args.dry_run {
            report::complain("nothing was stored: --dry-run");
        } else {
            let path = cache.save(gpu.info())?;
            let n = TuningCache::load(gpu.info()).0.winners().len();
            report::complain(&format!("{}: {n} winner{}", path.display(), if n == 1 { "" } else { "s" }));
        }
        report::delivered()?;
    }
    crate::verdict(!wrong)
}

/// Checks every candidate of a kernel, times those that are right, and names the winner if it is not what a plan takes anyway.
fn measure(
    gpu: &Gpu,
    workload: &Workload,
    kernel: Kernel,
    inputs: &Inputs,
    args: &Args,
) -> Result<(Vec<Line>, Option<Winner>)> {
    let (spec, shape) = (&workload.spec, workload.shape());
    let mut limits: Limits = *gpu.limits();
    limits.tunings = Tunings::default();
    let usual = *Plan::new(kernel, spec, &shape, &limits)?.tuning();
    let mut candidates = Tuning::candidates(kernel, spec, &shape, &limits)?;
    if args.checks && limits.cpu {
        candidates.extend(candidates.clone().iter().map(|tuning| tuning.without_checks()));
    }
    let plan = |tuning: Tuning| Plan::with_tuning(kernel, spec, &shape, &limits, Some(tuning)).ok();
    let plans: Vec<Plan> = candidates.into_iter().filter_map(plan).collect();
    let bucket = Bucket::new(kernel, spec, &shape)?.to_string();
    let stopwatch = Stopwatch::new(gpu);
    let bar = Bar::new("checking candidates");
    let (mut lines, mut right) = (Vec::new(), Vec::new());
    let count = plans.len();
    for (n, plan) in plans.into_iter().enumerate() {
        let mut line = Line {
            workload: workload.name.clone(),
            kernel: kernel_name(kernel),
            bucket: bucket.clone(),
            adapter: gpu.describe(),
            label: plan.label().to_string(),
            tuning: *plan.tuning(),
            default: *plan.tuning() == usual,
            winner: false,
            checked: false,
            check: String::new(),
            min_ms: None,
            median_ms: None,
            runs: 0,
            compile_ms: 0.0,
        };
        let sets = workloads::default_sets(plan.peak_bytes()).min(2);
        match check(gpu, &stopwatch, workload, plan, inputs, sets, &mut line) {
            Ok((loaded, first)) if line.checked => right.push((lines.len(), loaded, first)),
            Ok(_) => {}
            Err(e) => line.check = format!("failed: {e}"),
        }
        lines.push(line);
        bar.set((n + 1) as f64 / count as f64);
    }
    drop(bar);
    // a device that is lost says so here
    gpu.finish()?;

    let bar = Bar::new("timing candidates");
    let works: Vec<_> = right.iter().map(|(_, loaded, first)| (loaded as _, *first)).collect();
    let budget = Budget { seconds: args.seconds, runs: ROUNDS };
    let timings = stopwatch.alternate(&works, budget, &|share| bar.set(share))?;
    drop(bar);
    for ((at, _, first), timing) in right.iter().zip(&timings) {
        if let Some(line) = lines.get_mut(*at) {
            note(line, timing, *first);
        }
    }
    let winner = choose(&lines).map(|best| {
        let default_ms = lines.iter().find(|line| line.default).and_then(|line| line.min_ms);
        let (ms, date) = (best.min_ms.unwrap_or(0.0), humantime::format_rfc3339_seconds(SystemTime::now()).to_string());
        Winner::new(best.tuning, &workload.name, ms, default_ms.unwrap_or(0.0), date)
    });
    if let Some(winner) = &winner {
        lines.iter_mut().for_each(|line| line.winner = line.tuning == winner.tuning);
    }
    Ok((lines, winner))
}

/// Compiles a candidate, runs it once and compares its result.
fn check<'a>(
    gpu: &'a Gpu,
    stopwatch: &Stopwatch,
    workload: &Workload,
    plan: Plan,
    inputs: &'a Inputs,
    sets: usize,
    line: &mut Line,
) -> Result<(Loaded<'a>, f64)> {
    let loaded = Loaded::new(gpu, vec![plan], inputs, sets)?;
    let first = stopwatch.first_run(&loaded)?;
    let results = checked::results(&loaded, 0)?;
    let found = checked::compare(workload, loaded.plans(), inputs, &results, &|_| ())?;
    (line.checked, line.check) = (found.passed, found.text);
    line.compile_ms = 1e3 * loaded.compile_time().as_secs_f64();
    Ok((loaded, first))
}

fn note(line: &mut Line, timing: &Timing, first: f64) {
    let best = timing.best();
    (line.min_ms, line.median_ms, line.runs) = (Some(best.min_ms), Some(best.median_ms), timing.runs);
    line.compile_ms += (1e3 * first - timing.wall.median_ms).max(0.0);
}

/// The fastest that is right, where it is clearly faster than what a plan takes without it, or where that is not right.
fn choose(lines: &[Line]) -> Option<&Line> {
    let time = |line: &Line| line.min_ms.filter(|_| line.checked);
    let best = lines.iter().filter(|l| time(l).is_some()).min_by(|a, b| {
        let ms = |line: &Line| time(line).unwrap_or(f64::INFINITY);
        ms(a).total_cmp(&ms(b))
    })?;
    // both by its best and by its median: on a machine that others use, one alone may be luck
    let usual = lines.iter().find(|line| line.default && time(line).is_some());
    let better = usual.is_none_or(|usual| {
        let beats = |ms: fn(&Line) -> Option<f64>| ms(best).zip(ms(usual)).is_some_and(|(a, b)| a <= BETTER * b);
        beats(|line| line.min_ms) && beats(|line| line.median_ms)
    });
    (better && !best.default).then_some(best)
}

fn kernel_name(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Attention => "attention",
        Kernel::Scores => "scores",
        Kernel::Linear => "linear",
        Kernel::RotateQ { .. } => "rotate q",
        Kernel::RotateK { .. } => "rotate k",
        Kernel::Append { .. } => "append",
        _ => "embed",
    }
}

/// A table of one kernel's candidates, or a JSON object for each.
fn print(lines: &[Line], json: bool) {
    if json {
        return lines.iter().for_each(report::json_line);
    }
    let Some(first) = lines.first() else { return };
    report::say(&format!("{}, {}: calls of the kind {}", first.workload, first.kernel, first.bucket));
    let usual = lines.iter().find(|line| line.default).and_then(|line| line.min_ms);
    let row = |line: &Line| {
        let ms = |ms: Option<f64>| ms.map_or("-".into(), |ms| report::time(1e-3 * ms));
        let ratio = line.min_ms.zip(usual).map(|(ms, usual)| format!("{:.2}", usual / ms));
        vec![
            line.label.clone(),
            numbers(&line.tuning),
            ms(line.min_ms),
            ms(line.median_ms),
            ratio.unwrap_or("-".into()),
            ms(Some(line.compile_ms)),
            line.runs.to_string(),
            match (line.checked, line.winner, line.default) {
                (false, ..) => "WRONG".into(),
                (true, true, _) => "winner".into(),
                (true, false, true) => "default".into(),
                (true, false, false) => String::new(),
            },
        ]
    };
    let header = ["kernel", "numbers", "best", "median", "default / it", "compile", "runs", ""];
    report::say(&report::table(&header, lines.iter().map(row)).to_string());
    for line in lines.iter().filter(|line| !line.checked) {
        report::say(&format!("{} {}: never stored: {}", line.label, numbers(&line.tuning), line.check));
    }
    if lines.len() == 1 {
        report::say("The only candidate: nothing to choose.");
    } else if !lines.iter().any(|line| line.winner) {
        report::say("Nothing is clearly faster than the default: no winner.");
    }
}

fn numbers(tuning: &Tuning) -> String {
    let sizes = [("rows", tuning.tile_q), ("keys", tuning.tile_k), ("splits", tuning.splits)];
    let mut text = tuning.family.name().to_string();
    for (name, n) in sizes.into_iter().filter(|(_, n)| *n > 0) {
        text += &format!(" {name} {n}");
    }
    text + if tuning.checks { "" } else { " unchecked" }
}

/// A stored winner, as `--json` prints it.
#[derive(Serialize)]
struct Shown<'a> {
    adapter: String,
    bucket: &'a str,
    #[serde(flatten)]
    winner: &'a Winner,
}

/// `--show` and `--clear`.
fn keep(gpus: &[Gpu], args: &Args, json: bool) -> Result<ExitCode> {
    for gpu in gpus {
        let path = TuningCache::path(gpu.info()).map_or("no cache folder".into(), |path| path.display().to_string());
        if args.clear {
            let done = if TuningCache::clear(gpu.info())? { "removed" } else { "there was none" };
            report::complain(&format!("{path}: {done}"));
            continue;
        }
        let (cache, warnings) = TuningCache::load(gpu.info());
        warnings.iter().for_each(|warning| report::complain(warning));
        if json {
            for (bucket, winner) in cache.winners() {
                let shown = Shown { adapter: gpu.describe(), bucket, winner };
                report::json_line(&shown);
            }
            continue;
        }
        report::say(&gpu.describe());
        report::say(&format!("{path}: {}", if cache.winners().is_empty() { "no winners" } else { "winners" }));
        if cache.winners().is_empty() {
            continue;
        }
        let row = |(bucket, winner): (&String, &Winner)| {
            let ms = |ms: f64| report::time(1e-3 * ms);
            let Winner { tuning, workload, date, .. } = winner;
            vec![bucket.clone(), numbers(tuning), workload.clone(), ms(winner.ms), ms(winner.default_ms), date.clone()]
        };
        let header = ["calls", "numbers", "measured as", "best", "default", "when"];
        report::say(&report::table(&header, cache.winners().iter().map(row)).to_string());
    }
    crate::verdict(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ms: Option<f64>, checked: bool, default: bool) -> Line {
        let tuning = Tuning::candidates(
            Kernel::Attention,
            &ropewalk::Spec::new(1, 1, 64),
            &ropewalk::Shape::new(&ropewalk::Spec::new(1, 1, 64), 1, 1, 1),
            &Limits::default(),
        );
        let tuning = tuning.expect("a valid spec").remove(0);
        Line {
            workload: "p1".into(),
            kernel: "attention",
            bucket: String::new(),
            adapter: String::new(),
            label: String::new(),
            tuning,
            default,
            winner: false,
            checked,
            check: String::new(),
            min_ms: ms,
            median_ms: ms,
            runs: 1,
            compile_ms: 0.0,
        }
    }

    #[test]
    fn the_winner_is_right_and_clearly_faster() {
        let chosen = |lines: &[Line]| choose(lines).and_then(|line| line.min_ms);
        let usual = line(Some(10.0), true, true);
        assert_eq!(chosen(&[usual.clone(), line(Some(5.0), true, false)]), Some(5.0));
        // wrong, not timed, hardly faster, the default itself
        assert_eq!(chosen(&[usual.clone(), line(Some(5.0), false, false), line(Some(7.0), true, false)]), Some(7.0));
        assert_eq!(chosen(&[usual.clone(), line(None, true, false)]), None);
        assert_eq!(chosen(&[usual.clone(), line(Some(9.9), true, false)]), None);
        assert_eq!(chosen(&[usual.clone(), line(Some(20.0), true, false)]), None);
        // by its best alone
        let mut lucky = line(Some(5.0), true, false);
        lucky.median_ms = Some(11.0);
        assert_eq!(chosen(&[usual.clone(), lucky]), None);
        // what is usual is wrong: the best of the rest
        assert_eq!(chosen(&[line(Some(1.0), false, true), line(Some(20.0), true, false)]), Some(20.0));
        assert_eq!(chosen(&[]), None);
    }
}
