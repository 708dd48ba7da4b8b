//! One computation: on a GPU or by the reference, timed, counted, checked.

use crate::progress::Bar;
use crate::report;
use rayon::prelude::*;
use ropewalk::{Dtype, Gpu, GpuOptions, Inputs, Output, Problem, Result, Spec, Stats, check, reference};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What computes.
pub enum Engine {
    /// A GPU, or a driver that acts as one.
    Gpu(Box<Gpu>),
    /// The equation in f64 on the CPU.
    Reference,
}

impl Engine {
    /// The best adapter, or the one whose name, driver or backend holds the text; `tuned` with the winners of `ropewalk tune`.
    pub fn gpu(adapter: Option<&str>, tuned: bool) -> Result<Self> {
        let mut options = adapter.map_or_else(GpuOptions::default, GpuOptions::named);
        (options.tuned, options.keep_pipelines) = (tuned, tuned);
        let gpu = Gpu::open(&options)?;
        gpu.warnings().iter().for_each(|warning| report::complain(warning));
        Ok(Engine::Gpu(Box::new(gpu)))
    }
    /// Keeps what was compiled for the next time; a folder that cannot be written is no failure of the work.
    pub fn keep(&self) {
        if let Engine::Gpu(gpu) = self
            && let Err(e) = gpu.save_pipelines()
        {
            report::complain(&format!("pipelines were not kept: {e}"));
        }
    }
    /// In one line, for reports.
    pub fn describe(&self) -> String {
        match self {
            Engine::Gpu(gpu) => gpu.describe(),
            Engine::Reference => "reference, not a GPU: the equation in f64 on the CPU".into(),
        }
    }
    fn attention(&self, spec: &Spec, inputs: &Inputs) -> Result<(Output<f32>, Stats)> {
        if let Engine::Gpu(gpu) = self {
            let bar = Bar::new("computing");
            return gpu.attention_with(spec, inputs, &|share| bar.set(share));
        }
        let _bar = Bar::spinner("computing on the CPU in f64");
        let start = Instant::now();
        let exact = reference::attention(spec, inputs)?;
        let mut stats = Stats::default();
        (stats.kernel, stats.wall_time) = ("reference".into(), start.elapsed());
        let narrow = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect();
        Ok((Output { out_shape: exact.out_shape, out: narrow(exact.out), lse: narrow(exact.lse) }, stats))
    }
}

/// What was done, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// The adapter, or the reference.
    pub adapter: String,
    /// Whether a GPU computed.
    gpu: bool,
    /// The label of the plan.
    pub kernel: String,
    /// Where its numbers come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    tuning: Option<ropewalk::Source>,
    batch: u32,
    /// Of packed sequences, how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequences: Option<u32>,
    q_len: u32,
    kv_len: u32,
    num_heads: u32,
    num_kv_heads: u32,
    head_dim: u32,
    v_head_dim: u32,
    dtype: Dtype,
    dispatches: usize,
    parts: usize,
    seconds: f64,
    clock: Clock,
    compile_seconds: f64,
    /// (query, key) pairs that the masks leave, over all heads.
    visible_pairs: u64,
    gflop: f64,
    gflop_per_second: f64,
    gb_per_second: f64,
    allocated_bytes: u64,
    /// None: not checked.
    pub passed: Option<bool>,
    check: Option<check::Report>,
}

/// What measured the time.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Clock {
    GpuTimestamps,
    Wall,
}

/// Computes attention and, if asked and there is something to check, checks it.
pub fn compute(engine: &Engine, spec: &Spec, inputs: &Inputs, checked: bool) -> Result<(Output<f32>, Figures)> {
    let problem = Problem::new(spec, inputs)?;
    let (output, stats) = engine.attention(spec, inputs)?;
    let gpu = matches!(engine, Engine::Gpu(_));
    // of a user's WGSL there is no closure here that the reference could run
    let twin = (spec.score_mod.is_none() || inputs.score_mod.is_some())
        && (spec.mask_mod.is_none() || inputs.mask_mod.is_some());
    let check = match gpu && checked && twin {
        true => {
            let bar = Bar::new("checking");
            let options = check::Options::default();
            Some(check::verify(spec, inputs, &output, &options, &|share| bar.set(share))?)
        }
        false => None,
    };
    let shape = problem.shape();
    let (time, clock) = match stats.gpu_time {
        Some(t) if t > Duration::ZERO => (t, Clock::GpuTimestamps),
        _ => (stats.wall_time, Clock::Wall),
    };
    let seconds = time.as_secs_f64();
    let visible_pairs = visible_pairs(&problem);
    let dims = (spec.head_dim + spec.v_head_dim) as f64;
    let gflop = 2e-9 * visible_pairs as f64 * dims;
    // q, k, v and out once each: what any kernel must move
    let rows = |len: u32, heads: u32| shape.batch as f64 * len as f64 * heads as f64;
    let of_rows = |k: Dtype, v: Dtype| (k.row_bytes(spec.head_dim) + v.row_bytes(spec.v_head_dim)) as f64;
    let moved = rows(shape.q_len, spec.num_heads) * of_rows(spec.dtype, spec.out_storage())
        + rows(shape.kv_len, spec.num_kv_heads) * of_rows(spec.k_storage(), spec.v_storage());
    let figures = Figures {
        adapter: engine.describe(),
        gpu,
        kernel: stats.kernel,
        tuning: stats.tuning,
        batch: shape.batch,
        sequences: spec.packed.then_some(shape.sequences),
        q_len: shape.q_len,
        kv_len: shape.kv_len,
        num_heads: spec.num_heads,
        num_kv_heads: spec.num_kv_heads,
        head_dim: spec.head_dim,
        v_head_dim: spec.v_head_dim,
        dtype: spec.dtype,
        dispatches: stats.dispatches,
        parts: stats.parts,
        seconds,
        clock,
        compile_seconds: stats.compile_time.as_secs_f64(),
        visible_pairs,
        gflop,
        gflop_per_second: gflop / seconds,
        gb_per_second: 1e-9 * moved / seconds,
        allocated_bytes: stats.allocated_bytes,
        passed: check.as_ref().map(check::Report::passed),
        check,
    };
    Ok((output, figures))
}

/// Pairs that the masks leave, over all sequences and heads.
fn visible_pairs(problem: &Problem) -> u64 {
    let (spec, inputs, shape) = (problem.spec(), problem.inputs(), problem.shape());
    let (mask, heads) = (&spec.mask, spec.num_heads);
    let rows: Vec<(u32, u32)> = (0..shape.batch).flat_map(|b| (0..shape.q_len).map(move |i| (b, i))).collect();
    if inputs.mask.is_none() && inputs.attn_bias.is_none() {
        let right = if mask.causal { Some(0) } else { mask.window_right };
        let seen = |(b, i): (u32, u32)| {
            let (at, end) = (problem.q_index(b, i), problem.keys(b, i).len() as i64);
            let first = mask.window_left.map_or(0, |left| (at - left as i64).max(0));
            let end = right.map_or(end, |right| (at + right as i64 + 1).min(end));
            (end - first).max(0) as u64
        };
        return heads as u64 * rows.into_iter().map(seen).sum::<u64>();
    }
    let per_head = |shape: [u32; 4]| shape[1] > 1;
    let differ = inputs.mask.as_ref().is_some_and(|m| per_head(m.shape()))
        || inputs.attn_bias.as_ref().is_some_and(|d| per_head(d.shape()));
    let (counted, times) = if differ { (heads, 1) } else { (1, heads as u64) };
    let seen = |(b, i): (u32, u32)| {
        (0..counted).map(|h| problem.keys(b, i).filter(|j| problem.visible(b, h, i, *j)).count() as u64).sum::<u64>()
    };
    times * rows.into_par_iter().map(seen).sum::<u64>()
}

impl Figures {
    /// Names and values for people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let clock = match self.clock {
            Clock::GpuTimestamps => "by the GPU's timestamps",
            Clock::Wall => "by the wall clock",
        };
        let mut rows = vec![("adapter", self.adapter.clone()), ("kernel", self.kernel.clone())];
        rows.extend(self.tuning.map(|source| ("tuning", source.to_string())));
        rows.push((
            "problem",
            format!(
                "{}, q_len {}, kv_len {}; {} heads on {} kv heads, head_dim {}, v_head_dim {}, {}",
                match self.sequences {
                    Some(n) => format!("{n} packed sequences"),
                    None => format!("batch {}", self.batch),
                },
                self.q_len,
                self.kv_len,
                self.num_heads,
                self.num_kv_heads,
                self.head_dim,
                self.v_head_dim,
                self.dtype.name()
            ),
        ));
        rows.push(("time", format!("{} {clock}", report::time(self.seconds))));
        if self.gpu {
            let compiled = report::time(self.compile_seconds);
            let work = format!("{} dispatches in {} part(s); {compiled} to compile", self.dispatches, self.parts);
            rows.push(("work", work));
        }
        rows.push((
            "rate",
            format!(
                "{} GFLOP/s, {} GB/s ({} GFLOP: {} visible pairs; q, k, v and out moved once)",
                report::number(self.gflop_per_second),
                report::number(self.gb_per_second),
                report::number(self.gflop),
                self.visible_pairs
            ),
        ));
        if self.gpu {
            rows.push(("memory", format!("{} allocated on the device", report::bytes(self.allocated_bytes))));
        }
        match &self.check {
            Some(check) => {
                let text = check.to_string();
                let name = |i: usize| if i == 0 { "check" } else { "" };
                rows.extend(text.split("; ").enumerate().map(|(i, part)| (name(i), part.to_string())));
            }
            None if self.gpu => rows.push(("check", "NOT CHECKED".into())),
            None => rows.push(("check", "none: this is what GPUs are checked against".into())),
        }
        rows
    }
}
