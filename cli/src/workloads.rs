//! Workloads: chosen by name, computed, compared with the reference, timed, told.
//!
//! Timing asks the host's clock and waits for the device, which a page in a browser cannot.

mod ceilings;
pub mod checked;
pub mod columns;
pub mod compare;
pub(crate) mod probe;
pub mod roofline;
pub mod table;
pub mod timing;

pub use ceilings::{Bound, Ceilings, measure as ceilings};
use checked::Checked;
use compare::Ratio;
use ropewalk::workload::{self, Loaded, Workload};
use ropewalk::{Gpu, Result, Source};
use serde::Serialize;
use std::time::Instant;
use timing::{Budget, Samples, Stopwatch};

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
    pub other_cores: Option<f64>,
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
    pub date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<Ratio>,
    #[serde(skip)]
    what: String,
    #[serde(skip)]
    pub wrong: bool,
}

#[cfg(test)]
impl Line {
    /// One that nobody measured.
    pub fn made(workload: &str, adapter: &str, median_ms: f64, min_ms: f64) -> Self {
        let (workload, adapter) = (workload.into(), adapter.into());
        Line { workload, adapter, kernel: "attention".into(), median_ms, min_ms, ..Line::default() }
    }
}

impl Line {
    /// The adapter as a line calls it.
    pub fn adapter_of(gpu: &Gpu) -> String {
        format!("{:?} {}", gpu.info().backend, gpu.info().name)
    }
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
            "ggml" => workload::ggml().into_iter().for_each(&mut add),
            name => add(workload::named(name)?),
        }
    }
    if names.is_empty() {
        workload::NAMES.iter().map(|name| workload::named(name)).collect::<Result<Vec<_>>>()?.into_iter().for_each(add);
    }
    Ok((chosen, !names.is_empty()))
}

/// How a workload is measured.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    pub budget: Budget,
    /// Sets of inputs that runs take in turn; none: as many as no cache holds.
    pub sets: Option<u32>,
    /// Whether results are compared with the reference.
    pub checked: bool,
}

/// What a measurement is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Loading,
    Checking,
    Timing,
    /// Computing once more, for the bits of what was timed.
    Again,
}

/// Compiles, computes once, compares, times, computes once more. `progress` hears each stage at its begin, and the finished share.
/// `date` and `other_cores` of the line are the caller's to fill in.
pub fn measure(
    gpu: &Gpu,
    workload: &Workload,
    ceilings: &Ceilings,
    how: &Measure,
    progress: &(dyn Fn(Stage, f64) + Sync),
) -> Result<Line> {
    let clock = Instant::now();
    let plans = workload.plans(gpu.limits())?;
    let planning = clock.elapsed().as_secs_f64();
    let (flop, bytes) = (plans.iter().map(|p| p.flop()).sum::<f64>(), plans.iter().map(|p| p.bytes()).sum::<u64>());
    let peak_bytes: u64 = plans.iter().map(|p| p.peak_bytes()).sum();
    let kernel = plans.iter().map(|p| p.label()).collect::<Vec<_>>().join(" + ");
    let tuning = plans.iter().map(|plan| plan.tuning_source()).collect();
    let sets = how.sets.map_or_else(|| default_sets(peak_bytes), |n| n as usize);
    progress(Stage::Loading, 0.0);
    let inputs = workload.inputs(SEED)?;
    let loaded = Loaded::new(gpu, plans, &inputs, sets)?;
    let stopwatch = Stopwatch::new(gpu);
    let first = stopwatch.first_run(&loaded)?;
    let results = checked::results(&loaded, 0)?;

    let mut checked = match how.checked {
        false => Checked { passed: false, what: "NOT CHECKED".into(), text: "not checked".into() },
        true => {
            progress(Stage::Checking, 0.0);
            checked::compare(workload, loaded.plans(), &inputs, &results, &|share| progress(Stage::Checking, share))?
        }
    };
    progress(Stage::Timing, 0.0);
    let timing = stopwatch.time(&loaded, first, how.budget, &|share| progress(Stage::Timing, share))?;
    progress(Stage::Again, 0.0);

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
        adapter: Line::adapter_of(gpu),
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
        other_cores: None,
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
        date: String::new(),
        compare: None,
        what: checked.what,
        // without a comparison, only other bits when timed are wrong
        wrong: if how.checked { !checked.passed } else { !same },
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
