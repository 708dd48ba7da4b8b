//! Time of work on a device: warmed up, many runs, the sets of buffers taken in turn.

use ropewalk::workload::Loaded;
use ropewalk::{Error, Gpu, Result, wgpu};
use serde::Serialize;
use std::time::Instant;

/// Work of this many seconds goes into one command buffer; longer work is submitted dispatch by dispatch, so that no watchdog sees it
/// as one.
const ONE_SUBMISSION: f64 = 0.5;
/// Short runs are submitted together until they take this many seconds, so that the device is never idle between them.
const BATCH: f64 = 5e-3;
const MAX_BATCH: usize = 32;
/// The most runs that are timed.
const MAX_RUNS: usize = 1000;
/// The least number of runs may take this many times the budget.
const PATIENCE: f64 = 10.0;

/// In alternation, a work that takes this many times the fastest is not run again after so many rounds.
const BEHIND: f64 = 2.0;
const BEHIND_ROUNDS: usize = 3;

/// What can be run again and again.
pub trait Work {
    /// Its name in captures.
    fn label(&self) -> &str;
    /// Dispatches of a run.
    fn chunks(&self) -> usize;
    /// All of them; sets of buffers are counted round.
    fn encode(&self, set: usize, pass: &mut wgpu::ComputePass);
    /// One of them.
    fn encode_chunk(&self, set: usize, chunk: usize, pass: &mut wgpu::ComputePass);
}

impl Work for Loaded<'_> {
    fn label(&self) -> &str {
        self.plans().first().map_or("", |plan| plan.label())
    }
    fn chunks(&self) -> usize {
        Loaded::chunks(self)
    }
    fn encode(&self, set: usize, pass: &mut wgpu::ComputePass) {
        Loaded::encode(self, set, pass);
    }
    fn encode_chunk(&self, set: usize, chunk: usize, pass: &mut wgpu::ComputePass) {
        Loaded::encode_chunk(self, set, chunk, pass);
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Seconds of runs.
    pub seconds: f64,
    /// The least runs, unless they would take far longer than that.
    pub runs: usize,
}

/// Milliseconds of one run, over many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Samples {
    pub median_ms: f64,
    pub min_ms: f64,
    /// From the 10th to the 90th percentile, in percent of the median.
    pub spread_percent: f64,
}

impl Samples {
    /// None: there are none.
    pub fn new(mut ms: Vec<f64>) -> Option<Self> {
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| ms.get((share * ms.len().saturating_sub(1) as f64).round() as usize).copied();
        let (low, high, min_ms) = (at(0.1)?, at(0.9)?, at(0.0)?);
        // of an even number the mean of the two in the middle
        let median_ms = (ms.get((ms.len() - 1) / 2)? + ms.get(ms.len() / 2)?) / 2.0;
        Some(Samples { median_ms, min_ms, spread_percent: 100.0 * (high - low) / median_ms })
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// By the device's timestamps, where it has them.
    pub gpu: Option<Samples>,
    /// By the host's clock, submission and waiting included; shared out where runs are submitted together.
    pub wall: Samples,
    pub runs: usize,
    /// Runs that were submitted together.
    pub batch: usize,
    /// Whether a run is one command buffer.
    pub whole: bool,
}

impl Timing {
    /// The device's own time, or else the host's.
    pub fn best(&self) -> Samples {
        self.gpu.unwrap_or(self.wall)
    }
}

/// Runs work on one device.
pub struct Stopwatch<'a> {
    gpu: &'a Gpu,
    timer: Option<Timer>,
}

struct Timer {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

impl<'a> Stopwatch<'a> {
    pub fn new(gpu: &'a Gpu) -> Self {
        let device = gpu.device();
        let timer = device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| {
            let count = 2 * MAX_BATCH as u32;
            let ty = wgpu::QueryType::Timestamp;
            let set = device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("bench"), ty, count });
            let make = |usage| {
                let (label, size) = (Some("bench"), 8 * count as u64);
                device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
            };
            let resolved = make(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
            let staging = make(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
            Timer { set, resolved, staging }
        });
        Stopwatch { gpu, timer }
    }

    /// One run of the first set, submitted dispatch by dispatch: seconds by the host's clock.
    pub fn first_run(&self, work: &dyn Work) -> Result<f64> {
        self.gpu.finish()?;
        let clock = Instant::now();
        self.submit(work, 0, 0, false)?;
        self.gpu.wait(None)?;
        let seconds = clock.elapsed().as_secs_f64();
        self.gpu.finish()?; // a lost device, beside the clock
        Ok(seconds)
    }

    /// One more run of the first set, in the form that was timed.
    pub fn again(&self, work: &dyn Work, timing: &Timing) -> Result<()> {
        self.submit(work, 0, 0, timing.whole)?;
        self.gpu.finish()
    }

    /// Times work that has run once, in `first` seconds, compilation included.
    pub fn time(&self, work: &dyn Work, first: f64, budget: Budget, progress: &dyn Fn(f64)) -> Result<Timing> {
        let cap = PATIENCE * budget.seconds.max(1e-3);
        let mut estimate = first;
        if first > ONE_SUBMISSION && first < cap {
            // most of it may have been the compiler
            estimate = self.batch(work, 1, 1, false)?.0;
        }
        let whole = estimate < ONE_SUBMISSION;
        let mut next = 2;
        let clock = Instant::now();
        while whole && (next < 5 || clock.elapsed().as_secs_f64() < 0.1 * budget.seconds) && next < MAX_RUNS {
            estimate = self.batch(work, next, 1, whole)?.0;
            next += 1;
        }
        let batch = if whole { ((BATCH / estimate.max(1e-9)).ceil() as usize).clamp(1, MAX_BATCH) } else { 1 };
        let (mut gpu, mut wall) = (Vec::new(), Vec::new());
        let clock = Instant::now();
        loop {
            let (seconds, ticks) = self.batch(work, next, batch, whole)?;
            next += batch;
            wall.extend(std::iter::repeat_n(1e3 * seconds, batch));
            gpu.extend(ticks);
            let spent = clock.elapsed().as_secs_f64();
            progress((spent / budget.seconds).min(wall.len() as f64 / budget.runs.max(1) as f64).min(1.0));
            let enough = wall.len() >= budget.runs && spent >= budget.seconds;
            if enough || wall.len() >= MAX_RUNS || spent + seconds > cap {
                break;
            }
        }
        let runs = wall.len();
        // a device that gives no usable stamp for some run is timed by the host
        let gpu = if gpu.len() == runs { Samples::new(gpu) } else { None };
        let none = || Error::device("timing", "no run was timed");
        Ok(Timing { gpu, wall: Samples::new(wall).ok_or_else(none)?, runs, batch, whole })
    }

    /// Times several works in alternation, each having run once in the given seconds, so that whatever else the machine does strikes all of
    /// them alike. One that is far behind the fastest is dropped after a few rounds.
    pub fn alternate(&self, works: &[(&dyn Work, f64)], budget: Budget, progress: &dyn Fn(f64)) -> Result<Vec<Timing>> {
        struct Runner<'a> {
            work: &'a dyn Work,
            whole: bool,
            batch: usize,
            next: usize,
            gpu: Vec<f64>,
            wall: Vec<f64>,
        }
        let mut runners = Vec::new();
        for (work, first) in works {
            let whole = *first < ONE_SUBMISSION;
            let estimate = self.batch(*work, 1, 1, whole)?.0;
            let whole = estimate < ONE_SUBMISSION;
            let batch = if whole { ((BATCH / estimate.max(1e-9)).ceil() as usize).clamp(1, MAX_BATCH) } else { 1 };
            runners.push(Runner { work: *work, whole, batch, next: 2, gpu: Vec::new(), wall: Vec::new() });
        }
        let least = |ms: &[f64]| ms.iter().copied().fold(f64::INFINITY, f64::min);
        let clock = Instant::now();
        for round in 0..MAX_RUNS {
            let best = runners.iter().map(|r| least(&r.wall)).fold(f64::INFINITY, f64::min);
            for r in runners.iter_mut().filter(|r| round < BEHIND_ROUNDS || least(&r.wall) < BEHIND * best) {
                let (seconds, ticks) = self.batch(r.work, r.next, r.batch, r.whole)?;
                r.next += r.batch;
                r.wall.extend(std::iter::repeat_n(1e3 * seconds, r.batch));
                r.gpu.extend(ticks);
            }
            let spent = clock.elapsed().as_secs_f64();
            progress((spent / budget.seconds).min(1.0));
            let enough = round + 1 >= budget.runs && spent >= budget.seconds;
            if enough || spent > PATIENCE * budget.seconds {
                break;
            }
        }
        let timing = |r: Runner| {
            let runs = r.wall.len();
            let gpu = if r.gpu.len() == runs { Samples::new(r.gpu) } else { None };
            let none = || Error::device("timing", "no run was timed");
            Ok(Timing { gpu, wall: Samples::new(r.wall).ok_or_else(none)?, runs, batch: r.batch, whole: r.whole })
        };
        runners.into_iter().map(timing).collect()
    }

    /// Runs submitted together: seconds of one by the host, milliseconds of each by the device.
    fn batch(&self, work: &dyn Work, first: usize, runs: usize, whole: bool) -> Result<(f64, Vec<f64>)> {
        let clock = Instant::now();
        for run in 0..runs {
            self.submit(work, first + run, run, whole)?;
        }
        self.gpu.wait(None)?;
        let seconds = clock.elapsed().as_secs_f64() / runs as f64;
        self.gpu.finish()?; // a lost device, beside the clock
        Ok((seconds, self.ticks(runs)?))
    }

    fn ticks(&self, runs: usize) -> Result<Vec<f64>> {
        let Some(timer) = &self.timer else { return Ok(Vec::new()) };
        let (device, queue) = (self.gpu.device(), self.gpu.queue());
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.resolve_query_set(&timer.set, 0..2 * runs as u32, &timer.resolved, 0);
        encoder.copy_buffer_to_buffer(&timer.resolved, 0, &timer.staging, 0, 16 * runs as u64);
        queue.submit([encoder.finish()]);
        let bytes = self.gpu.read_back(&timer.staging)?;
        let stamps: Vec<u64> =
            bytes.chunks_exact(8).take(2 * runs).filter_map(|b| b.try_into().ok().map(u64::from_le_bytes)).collect();
        let period = queue.get_timestamp_period() as f64;
        let ms = |pair: &[u64]| match pair {
            [from, to] if to > from => Some((to - from) as f64 * period * 1e-6),
            _ => None,
        };
        Ok(stamps.chunks_exact(2).filter_map(ms).collect())
    }

    /// Submits a run whose stamps go into the given pair: one command buffer, or one for each dispatch, the next being encoded while
    /// one runs. Submissions of a queue do not overlap, so that a run's stamps are its own.
    fn submit(&self, work: &dyn Work, set: usize, pair: usize, whole: bool) -> Result<()> {
        let (device, queue) = (self.gpu.device(), self.gpu.queue());
        let parts = if whole { 1 } else { work.chunks() };
        let mut before = None;
        for part in 0..parts {
            let (first, last) = (part == 0, part + 1 == parts);
            let timestamp_writes = self.timer.as_ref().filter(|_| first || last).map(|timer| {
                let index = 2 * pair as u32;
                wgpu::ComputePassTimestampWrites {
                    query_set: &timer.set,
                    beginning_of_pass_write_index: first.then_some(index),
                    end_of_pass_write_index: last.then_some(index + 1),
                }
            });
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            {
                let label = Some(work.label());
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes });
                match whole {
                    true => work.encode(set, &mut pass),
                    false => work.encode_chunk(set, part, &mut pass),
                }
            }
            let index = queue.submit([encoder.finish()]);
            if let Some(previous) = before.replace(index).filter(|_| !whole) {
                self.gpu.wait(Some(previous))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_order_statistics() {
        let ms = |n: usize| (0..n).map(|i| 1.0 + ((7 * i) % n) as f64).collect::<Vec<_>>();
        let odd = Samples::new(ms(11)).expect("samples");
        assert_eq!((odd.median_ms, odd.min_ms), (6.0, 1.0));
        assert!((odd.spread_percent - 100.0 * 8.0 / 6.0).abs() < 1e-9, "{odd:?}");
        let even = Samples::new(ms(10)).expect("samples");
        assert_eq!((even.median_ms, even.min_ms), (5.5, 1.0));
        let one = Samples::new(vec![3.0]).expect("samples");
        assert_eq!((one.median_ms, one.min_ms, one.spread_percent), (3.0, 3.0, 0.0));
        assert_eq!(Samples::new(Vec::new()), None);
    }
}
