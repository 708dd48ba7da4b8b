//! A GPU's attention compared with the reference, row by row within its bounds, and the report of it.

use crate::check::attention::Bounds;
use crate::check::bound::{Arithmetic, LAMBDA, Worst};
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::plan::budget::TILE_Q;
use crate::reference::attention::{Output, rows_of};
use rayon::prelude::*;
use serde::Serialize;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Above so many floating-point operations of reference work a sample of rows is checked, an eighth of that work.
    pub max_flop: f64,
    /// The least rows of a sample.
    pub min_rows: usize,
    /// Chooses the sample.
    pub seed: u64,
    /// What the result was computed in: [`Arithmetic::F16Matrix`] where the plan's family is `coop`.
    pub arithmetic: Arithmetic,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_flop: 20e9, min_rows: 256, seed: 0, arithmetic: Arithmetic::F32 }
    }
}

/// The outcome of [`verify`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// `out`.
    pub out: Worst,
    /// `lse`.
    pub lse: Worst,
    /// Rows (one head of one query) that were checked.
    pub rows_checked: u64,
    /// Rows that there are.
    pub rows_total: u64,
    /// An upper bound of the probability that the bound of one element is exceeded by a right kernel, roundings being
    /// independent; 0: the bound is the worst case.
    pub failure_probability: f64,
}

impl Report {
    /// No element above its bound, and of out and of lse some element that has one.
    pub fn passed(&self) -> bool {
        [&self.out, &self.lse].iter().all(|w| w.failures == 0 && w.unbounded < w.elements)
    }
    /// Whether only some rows were checked.
    pub fn sampled(&self) -> bool {
        self.rows_checked < self.rows_total
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = match (self.passed(), self.out.failures + self.lse.failures) {
            (true, _) => "right",
            (false, 0) => "NOT CHECKED",
            (false, _) => "WRONG",
        };
        let part = if self.sampled() { " (a seeded sample)" } else { "" };
        write!(f, "{verdict}: {} of {} rows checked{part}", self.rows_checked, self.rows_total)?;
        for (name, w) in [("out", &self.out), ("lse", &self.lse)] {
            write!(f, "; {name}: worst error {:.1e} is {:.3} of its bound {:.1e}", w.error, w.ratio, w.bound)?;
            if w.failures > 0 {
                write!(f, ", {} of {} elements above theirs", w.failures, w.elements)?;
            }
            if w.unbounded > 0 {
                write!(f, ", {} of {} elements NOT CHECKED (too near the end of f32)", w.unbounded, w.elements)?;
            }
        }
        match self.failure_probability {
            0.0 => write!(f, "; worst-case bounds"),
            p => write!(f, "; a right kernel exceeds a bound with probability < {p:.0e} an element"),
        }
    }
}

/// Compares a GPU's attention with the reference; `progress` hears the finished share.
///
/// ```
/// use ropewalk::{check, reference, Inputs, Output, Spec, Tensor};
/// let t = |x: f32| Tensor::bshd(vec![x; 8], [1, 2, 1, 4]);
/// let (spec, inputs) = (Spec::new(1, 1, 4), Inputs::new(t(1.0)?, t(2.0)?, t(3.0)?));
/// let exact = reference::attention(&spec, &inputs)?;
/// let mut gpu = Output {
///     out_shape: exact.out_shape,
///     out: exact.out.iter().map(|x| *x as f32).collect(),
///     lse: exact.lse.iter().map(|x| *x as f32).collect(),
/// };
/// assert!(check::verify(&spec, &inputs, &gpu, &check::Options::default(), &|_| ())?.passed());
/// gpu.out[5] += 1e-3;
/// assert!(!check::verify(&spec, &inputs, &gpu, &check::Options::default(), &|_| ())?.passed());
/// # Ok::<(), ropewalk::Error>(())
/// ```
pub fn verify(
    spec: &Spec,
    inputs: &Inputs,
    gpu: &Output<f32>,
    options: &Options,
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Report> {
    spec.expect_softmax()?;
    let problem = Problem::for_reference(spec, inputs)?;
    let (shape, heads, dim) = (problem.shape, spec.num_heads, spec.v_head_dim as usize);
    let wanted = shape.batch as usize * shape.q_len as usize * heads as usize;
    if gpu.out.len() != wanted * dim || gpu.lse.len() != wanted {
        return Err(crate::error::Error::input(
            "out",
            format!("{} values and {} of lse", gpu.out.len(), gpu.lse.len()),
            format!("the problem has {} and {wanted}", wanted * dim),
        ));
    }
    let rows = sample(&problem, options);
    let bounds = Bounds::new(&problem).within(options.arithmetic);
    let done = AtomicUsize::new(0);
    let compare = |[b, h, i]: &[u32; 3]| {
        let (out, lse) = bounds.row(*b, *h, *i);
        let at = ((*b * shape.q_len + *i) * heads + *h) as usize * dim;
        let mut worst = (Worst::default(), Worst::default());
        for (c, (value, bound)) in out.iter().enumerate() {
            worst.0.add(at + c, gpu.out[at + c] as f64, *value, *bound);
        }
        let at = ((*b * heads + *h) * shape.q_len + *i) as usize;
        worst.1.add(at, gpu.lse[at] as f64, lse.0, lse.1);
        progress((done.fetch_add(1, Ordering::Relaxed) + 1) as f64 / rows.len() as f64);
        worst
    };
    let merge = |a: (Worst, Worst), b: (Worst, Worst)| (a.0.merge(b.0), a.1.merge(b.1));
    let (out, lse) = rows.par_iter().map(compare).reduce(Default::default, merge);
    let longest = (shape.kv_len as f64 + 1.0).max(spec.head_dim.div_ceil(4) as f64 + 3.0);
    let failure_probability =
        if longest > LAMBDA * LAMBDA { 2.0 * longest * (-LAMBDA * LAMBDA / 2.0).exp() } else { 0.0 };
    Ok(Report { out, lse, rows_checked: rows.len() as u64, rows_total: wanted as u64, failure_probability })
}

/// Every row, or where that is too much work: the first, the last, both sides of the edges of sequences and tiles, and
/// seeded others.
fn sample(problem: &Problem, options: &Options) -> Vec<[u32; 3]> {
    let (spec, shape) = (problem.spec, problem.shape);
    let (batch, heads, q_len) = (shape.batch, spec.num_heads, shape.q_len);
    let longest = if spec.packed { shape.max_seqlen_k } else { shape.kv_len };
    let flop_per_row = 2.0 * longest as f64 * (spec.head_dim + spec.v_head_dim) as f64;
    let total = batch as u64 * heads as u64 * q_len as u64;
    let affordable = ((options.max_flop / flop_per_row) as u64).max(options.min_rows as u64);
    if total <= affordable {
        return rows_of(batch, heads, q_len);
    }
    let wanted = (affordable / 8).clamp(options.min_rows as u64, total) as usize;
    let mut state = options.seed;
    let mut random = |n: u32| {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((((z ^ (z >> 31)) >> 32) * n as u64) >> 32) as u32
    };
    let mut rows = vec![[0, 0, 0], [batch - 1, heads - 1, q_len - 1]];
    let tokens = (TILE_Q / spec.group()).max(1); // of a tile
    let sequences: Vec<_> = problem.packing.iter().flat_map(|p| p.spans().map(|(queries, _)| queries)).collect();
    let starts = sequences.iter().map(|s| s.start).filter(|start| (1..q_len).contains(start));
    let edges = |s: &std::ops::Range<u32>| (s.start..s.end).step_by(tokens as usize).skip(1);
    let tiles =
        sequences.iter().flat_map(edges).chain((tokens..if spec.packed { 0 } else { q_len }).step_by(tokens as usize));
    for start in starts.take(wanted / 8).chain(tiles.take(wanted / 4)) {
        let (b, h) = (random(batch), random(heads));
        rows.push([b, h, start - 1]);
        rows.push([b, h, start]);
    }
    while rows.len() < wanted {
        rows.push([random(batch), random(heads), random(q_len)]);
    }
    rows.sort();
    rows.dedup();
    while rows.len() < wanted {
        let row = [random(batch), random(heads), random(q_len)];
        if let Err(at) = rows.binary_search(&row) {
            rows.insert(at, row);
        }
    }
    rows
}
