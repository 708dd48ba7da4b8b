//! `ropewalk bench`: how fast a checked kernel is, beside what the adapter can do.

mod busy;
mod ceilings;
pub mod checked;
pub mod compare;
mod roofline;
mod table;
pub mod timing;

use crate::plot::{Theme, format};
use crate::report::{self, Bar};
use crate::{files, validate};
use busy::Busy;
use ceilings::{Bound, Ceilings};
use checked::Checked;
use compare::Ratio;
use ropewalk::workload::{self, Loaded, Workload};
use ropewalk::{Error, Gpu, Result, Source, TuningCache, wgpu};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};
use timing::{Budget, Samples, Stopwatch};

/// Check kernels, time them, and set them against the adapter's measured ceilings
///
/// A workload is computed once and compared with the f64 reference (large ones in a seeded sample of rows), then timed by the GPU's
/// timestamps, or by the wall clock where it has none: warmed up, several sets of inputs in turn. Ceilings (copying and f32 multiply-adds)
/// are measured in the same run. With --json there is one object a line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// p1 p2 p3 b1 b2 d1 d2 r1, with -f16 or -bf16 behind for that storage; `all` [default: those in f32, without p3 on
    /// software adapters]
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// The adapter: part of its name, driver or backend, or `all` [default: the best]
    #[arg(long, value_name = "NAME|all")]
    adapter: Option<String>,
    /// Print ratios against an earlier run's --json lines
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Draw the roofline, .svg or .png
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// The background of the picture
    #[arg(long, value_enum, default_value = "light", requires = "plot")]
    theme: Theme,
    /// Seconds of runs for each workload
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// The least runs of a workload, unless they would take ten times the seconds
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Sets of inputs that runs take in turn [default: as many as 256 MiB hold, 2 to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    sets: Option<u32>,
    /// Leave the winners of `ropewalk tune` aside
    #[arg(long)]
    untuned: bool,
    /// Time without a comparison; lines then say that nothing was checked
    #[arg(long)]
    unchecked: bool,
}

pub fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.001..=3600.0).contains(&s) => Ok(s),
        _ => Err("give a number of seconds from 0.001 to 3600".into()),
    }
}

/// Sets of inputs together take about this many bytes, so that no cache holds them.
const SET_BYTES: u64 = 256 << 20;
/// At most.
const MAX_SET_BYTES: u64 = 2 << 30;
pub const SEED: u64 = 1;

/// One result, as `--json` prints it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Line {
    workload: String,
    adapter: String,
    driver: String,
    /// The labels of its plans.
    kernel: String,
    /// Where the numbers of each come from.
    tuning: Vec<Source>,
    /// Whether the results were compared with the reference and found right.
    checked: bool,
    /// What was compared, and the worst error.
    check: String,
    /// Of the device's own time, or of the wall clock's where it has no timestamps.
    median_ms: f64,
    min_ms: f64,
    spread_percent: f64,
    clock: &'static str,
    /// By the host's clock, submission included.
    wall: Option<Samples>,
    runs: usize,
    /// Cores that other processes kept busy meanwhile; none where the system does not say or the time was too short.
    other_cores: Option<f64>,
    /// Runs that were submitted together.
    batch: usize,
    /// Sets of inputs.
    sets: usize,
    dispatches: usize,
    /// Useful operations, in 10^9 a second of the median.
    gflops: f64,
    /// Bytes that must move, in 10^9 a second of the median.
    gbps: f64,
    /// The time that the lower ceiling allows as a share of the median.
    ceiling_percent: f64,
    /// That ceiling.
    bound: Option<Bound>,
    ceilings: Option<Ceilings>,
    flop: f64,
    bytes: u64,
    /// Of the plans' buffers, inputs included.
    peak_bytes: u64,
    /// Making the pipelines, and what the first run took beyond the median: some drivers compile only then.
    compile_ms: f64,
    version: &'static str,
    date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    compare: Option<Ratio>,
    #[serde(skip)]
    what: String,
    #[serde(skip)]
    wrong: bool,
}

/// Runs the command: exit code 1 if a result is wrong.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let (chosen, named) = choose(&args.workloads)?;
    let earlier = args.compare.as_deref().map(compare::read).transpose()?;
    let picture = args.plot.as_ref().map(|out| format("--plot", out).map(|format| (out, format))).transpose()?;
    let mut gpus = validate::open(args.adapter.as_deref(), false)?;
    if !args.untuned {
        gpus = gpus.into_iter().map(tuned).collect();
    }
    let (mut lines, mut left_out) = (Vec::new(), Vec::new());
    for gpu in &gpus {
        let ceilings = {
            let _bar = Bar::spinner("measuring the ceilings");
            ceilings::measure(gpu, args.seconds)?
        };
        let first = lines.len();
        for workload in &chosen {
            if !named && workload.name == "p3" && gpu.info().device_type == wgpu::DeviceType::Cpu {
                report::complain("p3: left out on a software adapter, where it takes minutes; name it to run it");
                continue;
            }
            let mut line = match measure(gpu, workload, &ceilings, args) {
                Ok(line) => line,
                Err(e @ Error::Limit { .. }) => {
                    left_out.push(format!("{}: not on {}: {e}", workload.name, gpu.describe()));
                    continue;
                }
                Err(e) => return Err(e),
            };
            line.compare = earlier.as_deref().and_then(|earlier| compare::ratio(&line, earlier));
            if json {
                report::json_line(&line);
            }
            report::delivered()?;
            lines.push(line);
        }
        if !json {
            table::print(gpu, &ceilings, lines.get(first..).unwrap_or_default());
        }
    }
    left_out.iter().for_each(|why| report::complain(why));
    if let Some(earlier) = &earlier {
        table::print_partners(&lines, earlier);
    }
    if let Some((out, format)) = picture {
        let panels = roofline::panels(&lines);
        let bytes = crate::plot::picture(&panels, args.theme, format)?;
        files::replace("--plot", out, &bytes)?;
        let size = report::bytes(bytes.len() as u64);
        report::complain(&format!("{}: the roofline ({size})", out.display()));
    }
    if lines.is_empty() || (named && !left_out.is_empty()) {
        let problem = left_out.first().cloned().unwrap_or_else(|| "every workload was left out".into());
        return Err(Error::input("WORKLOAD", problem, "name another workload, or another adapter"));
    }
    crate::verdict(!lines.iter().any(|line| line.wrong))
}

/// The device with the winners of `ropewalk tune`.
fn tuned(gpu: Gpu) -> Gpu {
    let (cache, warnings) = TuningCache::load(gpu.info());
    warnings.iter().for_each(|warning| report::complain(warning));
    let mut limits = *gpu.limits();
    limits.tunings = cache.tunings();
    gpu.with_limits(limits)
}

/// The workloads of the arguments, each once, and whether any was named.
pub fn choose(names: &[String]) -> Result<(Vec<Workload>, bool)> {
    let mut chosen: Vec<Workload> = Vec::new();
    let mut add = |workload: Workload| {
        if chosen.iter().all(|c| c.name != workload.name) {
            chosen.push(workload);
        }
    };
    for name in names {
        match name.as_str() {
            "all" => workload::all().into_iter().for_each(&mut add),
            name => add(workload::named(name)?),
        }
    }
    if names.is_empty() {
        workload::NAMES.iter().map(|name| workload::named(name)).collect::<Result<Vec<_>>>()?.into_iter().for_each(add);
    }
    Ok((chosen, !names.is_empty()))
}

/// Compiles, computes once, compares, times, computes once more.
fn measure(gpu: &Gpu, workload: &Workload, ceilings: &Ceilings, args: &Args) -> Result<Line> {
    let clock = Instant::now();
    let plans = workload.plans(gpu.limits())?;
    let planning = clock.elapsed().as_secs_f64();
    let (flop, bytes) = (plans.iter().map(|p| p.flop()).sum::<f64>(), plans.iter().map(|p| p.bytes()).sum::<u64>());
    let peak_bytes: u64 = plans.iter().map(|p| p.peak_bytes()).sum();
    let kernel = plans.iter().map(|p| p.label()).collect::<Vec<_>>().join(" + ");
    let tuning = plans.iter().map(|plan| plan.tuning_source()).collect();
    let sets = args.sets.map_or_else(|| default_sets(peak_bytes), |n| n as usize);
    let bar = Bar::new("loading");
    let inputs = workload.inputs(SEED)?;
    let loaded = Loaded::new(gpu, plans, &inputs, sets)?;
    let stopwatch = Stopwatch::new(gpu);
    let first = stopwatch.first_run(&loaded)?;
    let results = checked::results(&loaded, 0)?;
    drop(bar);

    let mut checked = match args.unchecked {
        true => Checked { passed: false, what: "NOT CHECKED".into(), text: "not checked".into() },
        false => {
            let bar = Bar::new("checking");
            checked::compare(workload, loaded.plans(), &inputs, &results, &|share| bar.set(share))?
        }
    };
    let bar = Bar::new("timing");
    let budget = Budget { seconds: args.seconds, runs: args.runs as usize };
    let busy = Busy::now();
    let timing = stopwatch.time(&loaded, first, budget, &|share| bar.set(share))?;
    let other_cores = busy.and_then(|busy| busy.others());
    drop(bar);

    // what was timed gives the bits that were checked
    loaded.reset(0)?;
    stopwatch.again(&loaded, &timing)?;
    let same = checked::results(&loaded, 0)? == results;
    if !same {
        checked.passed = false;
        checked.text = format!("WRONG: the runs that were timed gave other bits than the first; {}", checked.text);
        checked.what = "other bits when timed".into();
    }

    let best = timing.best();
    let seconds = 1e-3 * best.median_ms;
    let (least, bound) = ceilings.least_seconds(flop, bytes as f64);
    let info = gpu.info();
    let compiling = loaded.compile_time().as_secs_f64() + planning;
    Ok(Line {
        workload: workload.name.clone(),
        adapter: format!("{:?} {}", info.backend, info.name),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        kernel,
        tuning,
        checked: checked.passed,
        check: checked.text,
        median_ms: best.median_ms,
        min_ms: best.min_ms,
        spread_percent: best.spread_percent,
        clock: if timing.gpu.is_some() { "gpu_timestamps" } else { "wall" },
        wall: Some(timing.wall),
        runs: timing.runs,
        other_cores,
        batch: timing.batch,
        sets,
        dispatches: loaded.chunks(),
        gflops: 1e-9 * flop / seconds,
        gbps: 1e-9 * bytes as f64 / seconds,
        ceiling_percent: 100.0 * least / seconds,
        bound: Some(bound),
        ceilings: Some(*ceilings),
        flop,
        bytes,
        peak_bytes,
        compile_ms: 1e3 * compiling + (1e3 * first - timing.wall.median_ms).max(0.0),
        version: env!("CARGO_PKG_VERSION"),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        compare: None,
        what: checked.what,
        // without a comparison, only other bits when timed are wrong
        wrong: if args.unchecked { !same } else { !checked.passed },
    })
}

/// As many as no cache holds, as far as memory goes.
pub fn default_sets(bytes: u64) -> usize {
    let bytes = bytes.max(1);
    SET_BYTES.div_ceil(bytes).clamp(2, 16).min((MAX_SET_BYTES / bytes).max(1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_exceed_caches_and_fit_memory() {
        for (mib, sets) in [(0, 16), (8, 16), (33, 8), (200, 2), (900, 2), (1100, 1), (5000, 1)] {
            assert_eq!(default_sets(mib << 20), sets, "{mib} MiB");
        }
    }
}
