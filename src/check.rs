//! Is a GPU's result right? A bound for every element, derived from the operations that the kernels do, and the
//! comparison with it.
//!
//! Notation: u = 2^-24 (f32 rounds to within u), d = head_dim, hats are computed values.
//!
//! **Sums.** n additions in f32 err by at most g(n) sum |x|, g(n) = u min(n, L sqrt(n)). The first is the worst case, the
//! second Higham and Mary's probabilistic bound (2019) for roundings that are independent and of mean zero: it fails
//! with probability at most 2 n exp(-L^2 / 2). L = 7: below 5e-11 n for each sum. It is used from 50 additions on.
//!
//! **Rotation.** |cos, sin| err by at most 2e-7 (tested at every scale of position), so with h the length of a pair each
//! rotated element errs by e h, e = sqrt(2) (2e-7 + 2u) + 2u. xPos: h holds the magnitude 2^x; its exponent is exact to
//! 2^-31, its fraction (at most 1/2) loses u / 2 in f32, exp2 errs by 8 u, the product by u: 10 u more within the root. Powers are cut
//! at 2^100 and 2^-100, in shader and reference.
//!
//! **Norm.** The row is scaled exactly by a power of two, so its squares stay in f32. Their sum errs by u + g(d/4 + 3), its mean and eps
//! by 4 u more, half of which the root keeps; inverseSqrt errs by 4 u (WGSL: 2 units of the last place), the products by u each: relative to
//! the element e_n = g(d/4 + 3) / 2 + 7.5 u + u for weights. Before the rotation, e becomes e + e_n. After it, the rotation's errors
//! change the length by sqrt(2) e: e becomes (1 + sqrt(2)) e + e_n. What reading subnormals as 0 takes from the row, and from its length, is
//! added. Rows below 1e-30 (eps included), or rotated above 1e30 before their norm, have no bound. A row of zeros is exact.
//!
//! **Scale.** Each of tau and scale_h adds u to q's scale. With z = ln(1 + floor((m + 1) / floor)) tau errs by u (|tau| + |scale| (5 z + 1)): ln_f32
//! by 3 u z, its argument by u, the factor and the product by u z each.
//!
//! **Score.** With A = sum h_q h_k: |t^ - t| <= scale A (e_q + e_k + g(d/4 + 3)), e_q = e + 2u for the scale's roundings.
//! The cap is a contraction and errs by 21 u |cap| + 2 u |t| itself; ALiBi by 4 u |C|; each further term by one rounding, a
//! gate of C by two (its own to f32, the product). A and
//! B, with S = scale sum (|q| + |v|)|e| or scale sum |k||e|: (3 u + g(d/4 + 3)) S, and what q and k lose by flushing.
//!
//! **A sum with one large number.** fl(a + b) lies no farther from a + b than b does from it, since b is itself a number of f32: the error
//! is at most |a|. Of a score whose largest term b is a number that the device has exactly (D, a table's C), with r the sum of the sizes
//! of all other terms and E_r their own errors and those of adding them up, all additions to b err by r + E_r at most, so the score errs by
//! r + 2 E_r, where that is less than the above. And where r + E_r <= 2^-26 |b| every addition gives b back: the device's score is b,
//! exactly, whatever the reference's f64 keeps of the rest. So beside a D of -1e15 the device's q.k is lost, and the check knows it.
//! This assumes that additions of f32 round to nearest: WGSL leaves open to which of the two neighbours, every device known rounds so,
//! and with a whole unit of the last place for each addition a bound would say nothing of such rows.
//!
//! **Infinity.** A score of -inf or +inf from one infinite number of C, or from infinite elements of q and k that are not turned, normed or
//! capped, is the same on the device: it has no error. -inf is floored, +inf makes its row NaN.
//!
//! **The floor** is a contraction: s^ lies between the floored ends of its interval. Scores that stay below [`SCORE_FLOOR`], finfo.min among
//! them, are the same number on both sides, without error. Nothing leaves f32 where the other terms are at most 1e30: half a unit of
//! the last place of the largest f32 is 1e31.
//!
//! **The user's function** f, of which only the closure is known: |f^(s^) - f(s)| <= max |f(s + x) - f(s)| + its stated
//! rounding r, over x in -E, -E/2, E/2, E for a score that errs by E. That is a bound where f is monotone within E of s, or
//! smooth on that scale (E is some 1e-6 of s), or has one step there. A mask decides alike on both sides: its arguments are
//! integers.
//!
//! **Weight.** exp2 errs by (3 + 2|x|) 2^-23 (WGSL), its argument by 3 u (m - s). After r later changes of the running
//! maximum: p^ = p (1 + n_j), n_j = expm1(F_j), F_j = E_s + u (8.8 (m - s_j) + 6 + 7 r). So log p^ lies in an interval around the device's
//! score, and a sum of p^ between the sums of the intervals' ends: with L-, L+ the log of those, W = max(lse - L-, L+ - lse), which is
//! about sum p_j F_j where F is small and at most the largest F. A tile may change the running maximum where the end of an interval in it
//! lies above the starts of all before it.
//!
//! **Result.** With N = sum p_j n_j:
//!
//! ```text
//! |lse^ - lse| <= W + g(l) + max(2^-21, 6 u |lse - m|) + 2 u |lse|                     (log: WGSL's bound)
//! |o^ - o|     <= exp(lse - L-) (sum p_j n_j |v_j| + sum p_j (1 + n_j) (e_j + g(o) |v_j|) + |o| (N + g(l) + 6 u)) + rounding to storage
//! ```
//!
//! The second comes from sum p^_j (v_j - o) = sum p_j (e^x - 1) (v_j - o) with |x| <= F_j, divided by sum p^ >= exp(L-); e_j is what the value
//! of key j is off by, and p^_j at most p_j (1 + n_j) what makes it and the sum's roundings count. It grows without end as
//! scores lose their digits (the score of a row around -1e9 errs by 100 and more). Then there is another: weights w_j = p^_j / sum p^ add up to
//! 1, and each lies between l_j and h_j, the quotients of the ends of its interval and L+ or L-, h_j at most 1. So
//!
//! ```text
//! |o^ - o|     <= max over such w of | sum w_j (v_j - o) | + sum w_j (g(o) + g(l) + 6 u) |v_j|
//! ```
//!
//! a linear program that filling up w from the largest v_j - o on solves. At worst, when nothing is known of the weights, it says that o^ is
//! a mean of the values that may be seen: it is finite, and a sum of values in place of their mean breaks it. The smaller of the two is
//! taken; the second is only computed where N is above 1/16. A sink is a value of 0.
//!
//! E_V counts as one more value of its key, and R_v adds sum p e h_v, here and there. Of packed sequences a row's keys, and the tiles that they fall into, are those of
//! its own sequence.
//!
//! **f16 on matrix units** ([`Arithmetic::F16Matrix`], kernels of the family `coop`; F32 is all of the above and nothing else). Turned q and k
//! are rounded to f16: to nearest, or in any direction (Vulkan leaves that open), so by 2^-10 of themselves, and what is below 2^-14 may be
//! flushed. Their products are exact in f32; how a matrix unit adds them is stated nowhere, some cut off instead of rounding: 2^-22 for
//! each addition, however they are ordered. So
//!
//! ```text
//! |t^ - t| grows by scale ((2 2^-10 + 2^-20 + 2^-22 d) A + 2^-14 (1 + 2^-9) sum (h_q + h_k) + 2^-28 d)
//! |o^ - o| grows by sum p_j |v_j| (2^-10 + 2^-22 (n + n / 32)) + 2^-28 exp(m - lse) sum |v_j|
//! ```
//!
//! with n keys: 2^14 p is rounded, so only weights below 2^-28 of the largest may be flushed. l is a sum of f32. Elements of turned rows
//! above 65504 have no bound.
//!
//! **Splits.** Calls of few rows (`family::decode::may_split`) may be computed in parts of whole tiles, each with a running maximum of its
//! own, merged at the end: what r counts is then the longest chain of changes from any tile on, and one more for the merge, where that
//! is more. A part makes no more additions than the row: its keys, and one for each other part that saw a key.
//!
//! Subnormal elements may be read as 0 and results below 2^-126 flushed to 0: their sizes are added, as long as rotation makes
//! them; so is what rounding to storage left off ([`Tensor::with_residual`]). A sink is one more score, without error and without a
//! value. Everything is multiplied by 1.01 for products of errors. Where numbers near the end of f32 make a bound meaningless,
//! the element counts as `unbounded`, and the report says so.

pub use crate::embed::bounds as embed;
pub use crate::linear::bounds as linear;
use crate::reference::{Prepared, Rotated, Softmax, rows_of};
use crate::tuning::{TILE_Q, tile_k};
use crate::{
    Angle, Dtype, Inputs, NormKind, Output, Problem, Relative, RelativeSide, Result, SCORE_FLOOR, Spec, Tensor,
};
use rayon::prelude::*;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const U: f64 = 1.0 / (1u64 << 24) as f64;
/// L of the probabilistic bound.
const LAMBDA: f64 = 7.0;
/// |cos, sin| error of every angle source that computes.
pub(crate) const TRIG: f64 = 2e-7;
/// Relative error of xPos' magnitude.
pub(crate) const MAGNITUDE: f64 = 10.0 * U;
/// Products of errors.
pub(crate) const SECOND_ORDER: f64 = 1.01;
/// What a number that flushes to 0 is off by, shrinking by a later maximum included.
pub(crate) const UNDERFLOW: f64 = 4.0 / (1u128 << 126) as f64;
/// Smallest bound: numbers that flush to zero on the way.
pub(crate) const TINY: f64 = 1e-36;
/// Above this, an intermediate number may leave f32.
pub(crate) const HUGE: f64 = 1e30;

/// Of a number rounded to f16, in whatever direction.
const F16_ROUNDING: f64 = 1.0 / (1 << 10) as f64;
/// Numbers below it may be flushed when they are rounded to f16.
const F16_FLUSH: f64 = 1.0 / (1 << 14) as f64;
/// Of an addition within a matrix unit, relative to the sum of sizes.
const MATRIX_ADDITION: f64 = 1.0 / (1 << 22) as f64;

/// A sum whose other terms together are this share of the largest, or less, is the largest.
const ABSORBED: f64 = 1.0 / (1 << 26) as f64;
/// N above which weights are bounded by what they add up to.
const FIRST_ORDER: f64 = 1.0 / 16.0;

/// Rounding errors of n additions, relative to the sum of sizes.
pub(crate) fn g(n: f64) -> f64 {
    U * n.min(LAMBDA * n.sqrt())
}

/// Values of the reference, and how far from each a GPU's may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bounded {
    /// The reference.
    pub value: Vec<f64>,
    /// The largest permitted |gpu - value|; infinite where nothing can be said.
    pub bound: Vec<f64>,
}

/// The worst element of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Worst {
    /// The largest error / bound; above 1 is a failure.
    pub ratio: f64,
    /// The error of that element.
    pub error: f64,
    /// Its bound.
    pub bound: f64,
    /// Its index in the row-major tensor.
    pub index: usize,
    /// Elements above their bound.
    pub failures: u64,
    /// Elements compared.
    pub elements: u64,
    /// Elements of which the bound says nothing.
    pub unbounded: u64,
}

impl Worst {
    fn add(&mut self, index: usize, gpu: f64, value: f64, bound: f64) {
        self.elements += 1;
        let same = gpu == value || (gpu.is_nan() && value.is_nan());
        if bound == f64::INFINITY && !same {
            self.unbounded += 1;
            return;
        }
        let error = if same { 0.0 } else { (gpu - value).abs() };
        let ratio = if same {
            0.0
        } else if error.is_finite() && bound > 0.0 {
            error / bound
        } else {
            f64::INFINITY
        };
        if ratio > 1.0 {
            self.failures += 1;
        }
        if ratio > self.ratio || self.elements == 1 {
            (self.ratio, self.error, self.bound, self.index) = (ratio, error, bound, index);
        }
    }
    fn merge(self, other: Worst) -> Worst {
        let worst = if other.ratio > self.ratio || self.elements == 0 { other } else { self };
        Worst {
            failures: self.failures + other.failures,
            elements: self.elements + other.elements,
            unbounded: self.unbounded + other.unbounded,
            ..worst
        }
    }
}

impl Bounded {
    pub(crate) fn push(&mut self, (value, bound): (f64, f64)) {
        self.value.push(value);
        self.bound.push(bound);
    }
    /// Compares a GPU's values: right is |gpu - value| <= bound, or the same infinity, or both NaN.
    pub fn worst(&self, gpu: &[f32]) -> Worst {
        let mut worst = Worst::default();
        if gpu.len() != self.value.len() {
            return Worst { ratio: f64::INFINITY, failures: self.value.len() as u64, ..worst };
        }
        for (i, ((gpu, value), bound)) in gpu.iter().zip(&self.value).zip(&self.bound).enumerate() {
            worst.add(i, *gpu as f64, *value, *bound);
        }
        worst
    }
}

/// The arithmetic whose errors a bound takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Arithmetic {
    /// Everything in f32: what every family but `coop` does.
    #[default]
    F32,
    /// Turned q and k and the weights rounded to f16, products on matrix units that add in f32: the family `coop`.
    F16Matrix,
}

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
        return Err(crate::Error::input(
            "out",
            format!("{} values and {} of lse", gpu.out.len(), gpu.lse.len()),
            format!("the problem has {} and {wanted}", wanted * dim),
        ));
    }
    let rows = sample(&problem, options);
    let bounds = Bounds { arithmetic: options.arithmetic, ..Bounds::new(&problem) };
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

/// Every element of out (`[batch, q_len, num_heads, v_head_dim]`) and lse (`[batch, num_heads, q_len]`).
pub fn attention(spec: &Spec, inputs: &Inputs) -> Result<(Bounded, Bounded)> {
    attention_in(spec, inputs, Arithmetic::F32)
}

/// The same for an arithmetic.
pub fn attention_in(spec: &Spec, inputs: &Inputs, arithmetic: Arithmetic) -> Result<(Bounded, Bounded)> {
    spec.expect_softmax()?;
    let problem = Problem::for_reference(spec, inputs)?;
    let bounds = Bounds { arithmetic, ..Bounds::new(&problem) };
    let (batch, heads, q_len) = (problem.shape.batch, spec.num_heads, problem.shape.q_len);
    let rows: Vec<_> = rows_of(batch, heads, q_len).into_par_iter().map(|[b, h, i]| bounds.row(b, h, i)).collect();
    let (mut out, mut lse) = (Bounded::default(), Bounded::default());
    rows.iter().for_each(|r| lse.push(r.1));
    for b in 0..batch {
        for i in 0..q_len {
            for h in 0..heads {
                rows[((b * heads + h) * q_len + i) as usize].0.iter().for_each(|o| out.push(*o));
            }
        }
    }
    Ok((out, lse))
}

/// Every score, `[batch, num_heads, q_len, capacity]`.
pub fn scores(spec: &Spec, inputs: &Inputs) -> Result<Bounded> {
    spec.expect_softmax()?;
    let problem = Problem::for_reference(spec, inputs)?;
    let bounds = Bounds::new(&problem);
    let rows = rows_of(problem.shape.batch, spec.num_heads, problem.shape.q_len);
    let row = |[b, h, i]: [u32; 3]| {
        // beyond the keys of the row's sequence there is nothing to compute
        let (keys, hidden) = (problem.keys(b, i), (f64::NEG_INFINITY, 0.0));
        let (before, after) = (keys.start as usize, (problem.shape.kv_len - keys.end) as usize);
        let seen = bounds.scores(b, h, i).into_iter().map(|score| (score.s, score.total()));
        std::iter::repeat_n(hidden, before).chain(seen).chain(std::iter::repeat_n(hidden, after))
    };
    let all: Vec<(f64, f64)> = rows.into_par_iter().flat_map_iter(row).collect();
    let (value, bound) = all.into_iter().unzip();
    Ok(Bounded { value, bound })
}

/// Every element of the rotated q and k, rounded to the storage type; rows of k from kv_len on are unbounded.
pub fn rotate(spec: &Spec, inputs: &Inputs) -> Result<(Bounded, Bounded)> {
    let problem = Problem::new(spec, inputs)?;
    if spec.linear.is_some() {
        return crate::linear::rotated(&problem).map(|[q, k]| (q, k));
    }
    let bounds = Bounds::of(&problem, Prepared::without_content_bias(&problem));
    let one = |x: &Rotated, t: &Tensor, used: &dyn Fn(u32) -> u32, lost: &[[f64; 2]]| {
        let [batch, len, heads, dim] = t.shape();
        let mut all = Bounded::default();
        for b in 0..batch {
            for j in 0..len {
                for h in 0..heads {
                    let row = ((b * len + j) * heads + h) as usize;
                    let at = row * dim as usize..(row + 1) * dim as usize;
                    let [lost, off] = lost[row];
                    for (value, size) in x.rows[at.clone()].iter().zip(&x.size[at]) {
                        let bound = (bounds.rotation + off) * *size as f64 + 2.0 * lost;
                        let bound = if j < used(b) { stored(spec.dtype, *value, bound) } else { f64::INFINITY };
                        all.push((*value, bound));
                    }
                }
            }
        }
        all
    };
    let q = one(&bounds.prepared.q, &inputs.q, &|_| u32::MAX, &bounds.q_lost);
    let k = one(&bounds.prepared.k, &inputs.k, &|b| problem.kv_len(b), &bounds.k_lost);
    Ok((q, k))
}

/// Adds the rounding to storage.
pub(crate) fn stored(dtype: Dtype, value: f64, bound: f64) -> f64 {
    let (least, most) = match dtype {
        Dtype::F32 => (TINY, f32::MAX as f64),
        // half of the least subnormal
        Dtype::F16 => (2f64.powi(-25), 65_504.0),
        Dtype::Bf16 => (TINY, 3.3e38),
    };
    let size = value.abs() + bound;
    if size > most { f64::INFINITY } else { SECOND_ORDER * bound + dtype.unit_roundoff() * size + least }
}

/// What each row loses of its elements (the sum of sizes, as in [`flushed`]) and, relative to it, of its length on the way through
/// a norm (that of the `weights` of this name, if any); infinite where nothing can be said.
fn lost(problem: &Problem, t: &Tensor, rotated: &Rotated, flushed: &[f64], weights: Option<&str>) -> Vec<[f64; 2]> {
    let Some((norm, weights)) = problem.spec.norm.as_ref().zip(weights) else {
        return flushed.iter().map(|f| [*f, 0.0]).collect();
    };
    let [batch, len, heads, dim] = t.shape();
    let least = least_normal(t.dtype());
    let weight = match norm.weights {
        true => problem.parameter(weights).iter().fold(0.0f32, |m, w| m.max(w.abs())) as f64,
        false => 1.0,
    };
    let of_mean = if norm.kind == NormKind::Rms { dim as f64 } else { 1.0 };
    let one = |(([b, j, h], factor), flushed): (([u32; 3], &f32), &f64)| {
        let start = t.row_start(b, j, h);
        // how far a rotation before the norm lengthens a row
        let longer = if norm.after_rotation { rotated.gain[(b * len + j) as usize] } else { 1.0 };
        let sizes = || (start..start + dim as usize).map(|i| (t.data().get(i).abs() as f64, t.residual(i).abs()));
        let largest = sizes().fold(0.0, |m, (x, _)| f64::max(m, x));
        let square = |(x, residual): (f64, f64)| if x < least { (x + residual).powi(2) } else { 2.0 * x * residual };
        let off = sizes().map(square).sum::<f64>() * (longer * *factor as f64).powi(2) / (2.0 * of_mean);
        let small = largest > 0.0 && largest.max(norm.least()) < 1e-30;
        if small || (norm.after_rotation && largest * longer > HUGE) || off > 0.01 {
            return [f64::INFINITY; 2];
        }
        let gain = *factor as f64 * weight;
        [gain * flushed + UNDERFLOW * dim as f64 * (gain * longer + 16.0 * (1.0 + weight)), off]
    };
    let rows = rows_of(batch, len, heads);
    rows.into_iter().zip(&rotated.factors).zip(flushed).map(one).collect()
}

/// The sum of the sizes of a row's subnormals, which a device may read as 0, and of what rounding to storage left off, as long
/// as rotation makes them.
fn flushed(t: &Tensor, rotated: &Rotated) -> Vec<f64> {
    let [batch, len, heads, dim] = t.shape();
    let least = least_normal(t.dtype()) as f32;
    let sum = |[b, j, h]: [u32; 3]| {
        let start = t.row_start(b, j, h);
        let lost = |i: usize| match t.data().get(i).abs() {
            x if x < least => x as f64 + t.residual(i).abs(),
            _ => t.residual(i).abs(),
        };
        (start..start + dim as usize).map(lost).sum::<f64>() * rotated.gain[(b * len + j) as usize]
    };
    rows_of(batch, len, heads).into_par_iter().map(sum).collect()
}

pub(crate) fn least_normal(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2f64.powi(-14),
        Dtype::F32 | Dtype::Bf16 => 2f64.powi(-126),
    }
}

/// A score and where a device's is.
#[derive(Debug, Clone, Copy)]
struct Scored {
    /// The reference's; -inf where no one sees it.
    s: f64,
    /// The middle of the device's.
    centre: f64,
    /// How far the device's may be from there.
    error: f64,
}

impl Scored {
    fn seen(&self) -> bool {
        self.s != f64::NEG_INFINITY
    }
    /// How far the device's may be from the reference's.
    fn total(&self) -> f64 {
        if self.centre == self.s { self.error } else { (self.centre - self.s).abs() + self.error }
    }
}

struct Bounds<'a> {
    arithmetic: Arithmetic,
    prepared: Prepared<'a>,
    tile_k: usize,
    /// e: the error of a rotated element, relative to its pair's length.
    rotation: f64,
    q_flushed: Vec<f64>,
    k_flushed: Vec<f64>,
    v_flushed: Vec<f64>,
    /// What the rotated rows lose by it, and relative to their elements by a change of their length: see [`lost`].
    q_lost: Vec<[f64; 2]>,
    k_lost: Vec<[f64; 2]>,
    /// The largest element of rotated k, for products that flush to 0.
    k_largest: f64,
    /// The largest |scale * element| of the tables of A and B together.
    relative_largest: f64,
}

fn relative_largest(problem: &Problem) -> f64 {
    let largest = |(i, r): (usize, &Relative)| {
        let table = problem.parameter(&format!("relative_{i}"));
        let scale = r.scale.unwrap_or(problem.spec.scale()).abs();
        scale * table.iter().filter(|x| x.is_finite()).fold(0.0f32, |m, x| m.max(x.abs())) as f64
    };
    let relative = problem.spec.relative.iter().enumerate();
    relative.filter(|(_, r)| r.side != RelativeSide::Value).map(largest).sum()
}

impl<'a> Bounds<'a> {
    fn new(problem: &'a Problem<'a>) -> Self {
        Self::of(problem, Prepared::new(problem))
    }
    fn of(problem: &'a Problem<'a>, prepared: Prepared<'a>) -> Self {
        let trig = problem.spec.rotary.as_ref().map(|r| {
            let magnitude = if r.xpos.is_some() { MAGNITUDE } else { 0.0 };
            magnitude + if r.angle == Angle::Table { 0.0 } else { TRIG }
        });
        let rotation = trig.map_or(0.0, |trig| 2f64.sqrt() * (trig + 2.0 * U) + 2.0 * U);
        let norm = problem.spec.norm.map_or(0.0, |norm| {
            let e = 0.5 * g(problem.spec.head_dim.div_ceil(4) as f64 + 3.0) + U * if norm.weights { 8.5 } else { 7.5 };
            e + if norm.after_rotation { 2f64.sqrt() * rotation } else { 0.0 }
        });
        let rotation = rotation + norm;
        let (q_flushed, k_flushed) = (flushed(&problem.inputs.q, &prepared.q), flushed(&problem.inputs.k, &prepared.k));
        Bounds {
            arithmetic: Arithmetic::F32,
            tile_k: tile_k(problem.spec, crate::Limits::default().max_workgroup_storage) as usize,
            rotation,
            q_lost: lost(problem, &problem.inputs.q, &prepared.q, &q_flushed, Some("q_norm")),
            k_lost: lost(problem, &problem.inputs.k, &prepared.k, &k_flushed, prepared.keys_turned.then_some("k_norm")),
            q_flushed,
            k_flushed,
            v_flushed: flushed(&problem.inputs.v, &prepared.v),
            k_largest: prepared.k.size.iter().filter(|x| x.is_finite()).fold(0.0f32, |m, x| m.max(*x)) as f64,
            relative_largest: relative_largest(problem),
            prepared,
        }
    }

    /// s(i, .) over the keys of the row's sequence, with bounds.
    fn scores(&self, b: u32, h: u32, i: u32) -> Vec<Scored> {
        let problem = self.prepared.problem;
        let (spec, shape) = (problem.spec, problem.shape);
        let g_head = self.prepared.kv_head(h);
        let q_size = self.prepared.q_row(b, h, i).1;
        let largest = |x: &[f32]| x.iter().fold(0.0f32, |m, x| m.max(*x)) as f64;
        let q_at = ((b * shape.q_len + i) * spec.num_heads + h) as usize;
        let [q_lost, q_off] = self.q_lost[q_at];
        let factor = self.prepared.query_scale(h, i, b).abs();
        let (q_largest, scale) = (largest(q_size), spec.scale().abs() * factor);
        let factors = [spec.temperature.is_some(), spec.head_scale, spec.head_scale_exp.is_some()];
        let factors = factors.into_iter().filter(|f| *f).count() as f64;
        // of tau, times the scale's other factors
        let tau_error = spec.temperature.map_or(0.0, |t| {
            let position = problem.q_position(b, i);
            let tau = t.tau(position);
            let of_head = spec.head_scale.then(|| problem.parameter("head_scale").get(h as usize).copied()).flatten();
            let error = U * (tau.abs() + t.scale.abs() * (5.0 * t.log(position) + 1.0));
            spec.scale().abs() * of_head.map_or(1.0, |s| spec.head_scale_of(s).abs()) * error
        });
        let scale_underflow = if factors > 0.0 { UNDERFLOW * (1.0 + spec.scale().abs()) * (1.0 + factor) } else { 0.0 };
        let additions = spec.head_dim.div_ceil(4) as f64 + 3.0;
        let of_keys = if self.prepared.keys_turned { self.rotation } else { 0.0 };
        let relative = self.rotation + of_keys + (2.0 + factors) * U + g(additions);
        let terms = problem.terms.len() + problem.inputs.attn_bias.is_some() as usize + spec.relative.len();
        let terms = terms as f64 + if spec.gated_bias { 2.0 } else { 0.0 };
        let one = |j: u32| {
            let score = self.prepared.score(b, h, i, j);
            let at = |centre: f64, error: f64| Scored { s: score.s, centre, error };
            if score.s == f64::NEG_INFINITY {
                return at(score.s, 0.0);
            }
            let k_size = self.prepared.k_row(b, g_head, j).1;
            let products = dot_f32(q_size, k_size);
            let sizes = scale * products;
            let k_at = (b as usize * shape.kv_len as usize + j as usize) * spec.num_kv_heads as usize + g_head as usize;
            let [k_lost, k_off] = self.k_lost[k_at];
            let mut error = sizes * (relative + q_off + k_off) + 2.0 * scale * (k_lost * q_largest);
            error += (tau_error + scale_underflow) * products;
            error += UNDERFLOW * scale * spec.head_dim as f64 * (q_largest + 2.0 * self.k_largest);
            error += scale * self.of_matrix_products(q_size, k_size, products);
            if q_lost > 0.0 {
                error += 2.0 * scale * q_lost * largest(k_size);
            }
            if spec.logits_soft_cap.is_some() {
                error += U * (2.0 * score.t.abs() + 21.0 * score.capped.abs());
            }
            if score.relative > 0.0 {
                error += score.relative * (3.0 * U + g(additions));
                let flushed = self.q_flushed[q_at] + self.k_flushed[k_at];
                error += 2.0 * self.relative_largest * (flushed + UNDERFLOW * spec.head_dim as f64);
            }
            let modify = problem.inputs.score_mod.as_ref();
            // r and E_r
            let largest = score.largest.abs();
            let others = score.capped.abs() + score.relative + score.bias;
            let of_others = error + U * (4.0 * score.bias + terms * others) + score.slack;
            let absorbed = others + of_others <= (ABSORBED * largest).min(HUGE) && sizes <= HUGE;
            let infinite = score.plain.is_infinite();
            let same = absorbed || (score.plain == score.t && self.same_infinity([b, h, i, j], scale));
            if infinite && modify.is_none() && factor.max(score.bias + score.relative) <= HUGE && same {
                return at(score.s, 0.0);
            }
            // what the function receives or, without one, what the floor does not cut
            let farthest = if modify.is_some() { score.plain.abs() } else { score.plain };
            let beyond = infinite || score.s > HUGE || (farthest > HUGE && !absorbed);
            let beyond = beyond || sizes + score.bias + score.relative > HUGE || factor > HUGE;
            // a NaN of an infinite loss times 0 says nothing either
            if beyond || (error.is_nan() && !score.s.is_nan()) {
                return at(score.s, f64::INFINITY);
            }
            // the sum of all terms, rounded as any sum is
            error += U * ((4.0 + terms) * (score.bias + largest + score.relative) + terms * score.capped.abs())
                + score.slack;
            let (centre, error) = match absorbed {
                true => (score.largest, TINY),
                false => (score.plain, SECOND_ORDER * error.min(others + 2.0 * of_others) + TINY),
            };
            if let Some(modify) = modify {
                let error = (centre - score.plain).abs() + error;
                let error = modify.error(score.plain, error, &problem.score_at(b, h, i, j));
                return at(score.s, SECOND_ORDER * error + TINY);
            }
            if centre - error < SCORE_FLOOR {
                let [low, middle, high] = [centre - error, centre, centre + error].map(|x| x.max(SCORE_FLOOR));
                return at(middle, (high - middle).max(middle - low));
            }
            at(centre, error)
        };
        problem.keys(b, i).map(one).collect()
    }

    /// Whether a product of infinite elements is the same infinity on the device: none of them meets a number that a device may
    /// flush to 0, and none of the finite products leaves f32. A rotation, a norm, a cap and f16 may make something else of it.
    fn same_infinity(&self, [b, h, i, j]: [u32; 4], scale: f64) -> bool {
        let spec = self.prepared.problem.spec;
        if spec.rotary.is_some()
            || spec.norm.is_some()
            || spec.logits_soft_cap.is_some()
            || self.arithmetic != Arithmetic::F32
        {
            return false;
        }
        let (q, k) = (self.prepared.q_row(b, h, i).0, self.prepared.k_row(b, self.prepared.kv_head(h), j).0);
        let least = f64::max(2.0 * least_normal(spec.dtype), 1.0 / HUGE);
        let mut finite = 0.0;
        let mut one = |(q, k): (&f64, &f64)| {
            let (scaled, q, k) = (scale * q.abs(), q.abs(), k.abs());
            let within = q.is_infinite() || q.max(scaled) <= HUGE;
            if q.is_finite() && k.is_finite() {
                finite += q.max(scaled) * k;
                return within;
            }
            within && q.min(k).min(scaled) >= least
        };
        q.iter().zip(k).all(&mut one) && finite <= HUGE
    }

    /// What rounding to f16, and sums within matrix units, add to a product before its scale.
    fn of_matrix_products(&self, q: &[f32], k: &[f32], products: f64) -> f64 {
        if self.arithmetic == Arithmetic::F32 {
            return 0.0;
        }
        let of_row = |x: &[f32]| x.iter().fold((0.0, 0f32), |(sum, most), x| (sum + *x as f64, most.max(*x)));
        let ((q_sum, q_most), (k_sum, k_most)) = (of_row(q), of_row(k));
        if q_most.max(k_most) > 65_000.0 {
            return f64::INFINITY;
        }
        let d = q.len() as f64;
        let relative = 2.0 * F16_ROUNDING + F16_ROUNDING.powi(2) + MATRIX_ADDITION * d;
        relative * products + F16_FLUSH * (1.0 + 2.0 * F16_ROUNDING) * (q_sum + k_sum) + F16_FLUSH.powi(2) * d
    }

    /// o and lse of a row, each with its bound.
    fn row(&self, b: u32, h: u32, i: u32) -> (Vec<(f64, f64)>, (f64, f64)) {
        let spec = self.prepared.problem.spec;
        let dim = spec.v_head_dim as usize;
        let scores = self.scores(b, h, i);
        let values: Vec<f64> = scores.iter().map(|score| score.s).collect();
        let sink = self.prepared.sink(h);
        let softmax = Softmax::new(&values, sink);
        let lse = softmax.lse();
        if lse == f64::NEG_INFINITY {
            return (vec![(0.0, 0.0); dim], (lse, 0.0));
        }
        let seen = || scores.iter().filter(|score| score.seen());
        let keys = (seen().count() + sink.is_some() as usize) as f64;
        let tiles = scores.len().div_ceil(self.tile_k) as f64;

        let tops = tops(&scores, self.tile_k);
        let mut rescales = changes(sink, &tops);
        if crate::family::decode::may_split(spec, &self.prepared.problem.shape) {
            rescales = f64::max(rescales, longest_chain(&tops) + 1.0);
        }

        // F of every weight, without the score's own error: that of exp and of what multiplies it later
        let top = scores.iter().map(|score| score.centre).chain(sink).fold(f64::NEG_INFINITY, f64::max);
        let of_exp = |centre: f64| U * (8.8 * (top - centre) + 6.0 + 7.0 * rescales);
        // p n, also where p is too small for f64 and n too large
        let wrong = |s: f64, f: f64| match f < 1.0 {
            true => softmax.weight(s) * f.exp_m1(),
            false => (s - softmax.max + f).exp() / softmax.sum,
        };
        // the device's log p, less its maximum, and how far it may be off
        let of_sink = sink.map(|s| (s - top, if s > HUGE { f64::INFINITY } else { of_exp(s) }));
        let of_keys = seen().map(|score| (score.centre - top, score.error + of_exp(score.centre)));
        let logs: Vec<(f64, f64)> = of_keys.chain(of_sink).collect();
        let [least, most] = [-1.0, 1.0].map(|end| {
            let ends: Vec<f64> = logs.iter().map(|(log, f)| log + end * f).collect();
            Softmax::new(&ends, None)
        });
        let from_lse = (top - softmax.max) - softmax.sum.ln();
        let [below, above] = [-(least.lse() + from_lse), most.lse() + from_lse];
        let known = logs.iter().all(|(_, f)| f.is_finite());
        let shift = if known { below.max(above).max(0.0) } else { f64::INFINITY };

        // N; the sink's share of it
        let mut weights = sink.zip(of_sink).map_or(0.0, |(s, (_, f))| wrong(s, f));
        // of the arithmetic on matrix units: relative to a weight, and whatever its size
        let matrix = self.arithmetic == Arithmetic::F16Matrix;
        let of_weight = if matrix { F16_ROUNDING + MATRIX_ADDITION * (scores.len() as f64 + tiles) } else { 0.0 };
        let flushed = if matrix { F16_FLUSH.powi(2) } else { 0.0 };
        let flushed_weight = flushed / softmax.sum;
        let mut additions = keys + 1.0 + rescales;
        // the largest that a weight may be makes what its value is off by, and what its sum rounds
        let (mut o, mut sizes, mut errors) = (vec![0.0; dim], vec![0.0; dim], vec![0.0; dim]);
        let mut lost = vec![false; dim];
        let numbered = || self.prepared.problem.keys(b, i).zip(&scores).filter(|(_, score)| score.seen());
        let mut value = Vec::new();
        for (j, score) in numbered() {
            let p = softmax.weight(score.s);
            let off = wrong(score.s, score.total() + of_exp(score.centre));
            weights += off;
            additions += self.value(&mut value, [b, h, i, j]);
            for (c, Value { x, size, error }) in value.iter().enumerate() {
                o[c] += p * x;
                lost[c] |= x.is_infinite() && p < UNDERFLOW;
                sizes[c] += (p + off) * size;
                // weights and elements that flush to 0
                errors[c] += off * size + (p + off) * (error + of_weight * size);
                errors[c] += (flushed_weight + UNDERFLOW) * size;
            }
        }
        let l_error = g(self.tile_k as f64 + tiles + rescales);
        let shrunk = below.max(0.0).exp();
        let mut bounds: Vec<f64> = (0..dim)
            .map(|c| {
                let of_o = o[c].abs() * (weights + l_error + 6.0 * U);
                let bound = shrunk * (errors[c] + g(additions) * sizes[c] + of_o) + TINY;
                if sizes[c] > HUGE || bound.is_nan() { f64::INFINITY } else { bound }
            })
            .collect();

        if weights > FIRST_ORDER && known {
            // each weight between its ends, the sink's last
            let ends = |(log, f): &(f64, f64)| {
                let low = (log - f - most.max).exp() / most.sum;
                [low, ((log + f - least.max).exp() / least.sum).min(1.0)]
            };
            let ends: Vec<[f64; 2]> = logs.iter().map(ends).collect();
            let rounding = g(additions) + l_error + 6.0 * U + of_weight;
            let mut columns = vec![Vec::with_capacity(ends.len()); dim];
            let mut rest = vec![0.0; dim];
            let mut reached = vec![0.0; dim];
            for ((j, _), [_, high]) in numbered().zip(&ends) {
                self.value(&mut value, [b, h, i, j]);
                for (c, Value { x, size, error }) in value.iter().enumerate() {
                    columns[c].push((x - o[c], rounding * size + error));
                    rest[c] += (flushed + UNDERFLOW) * size;
                    reached[c] += high * size;
                }
            }
            for (c, column) in columns.iter_mut().enumerate() {
                column.extend(sink.map(|_| (-o[c], 0.0)));
                let bound = farthest_mean(&ends, column) + rest[c] + TINY;
                if reached[c] <= HUGE && !bound.is_nan() {
                    bounds[c] = bounds[c].min(bound);
                }
            }
        }
        // whether a weight that may flush to 0 makes NaN or infinity of an infinite value, nothing says
        let out = (0..dim).map(|c| match o[c].is_nan() {
            true => (o[c], if lost[c] { f64::INFINITY } else { 0.0 }),
            false => (o[c], stored(spec.dtype, o[c], bounds[c])),
        });
        let log = (2f64.powi(-21)).max(6.0 * U * softmax.sum.ln().abs());
        let lse_bound = SECOND_ORDER * (shift + l_error + log + 2.0 * U * lse.abs());
        (out.collect(), (lse, if lse.is_nan() { 0.0 } else { lse_bound }))
    }

    /// What a weight of key j multiplies, column by column, into `value`; the additions beyond one that it takes.
    fn value(&self, value: &mut Vec<Value>, [b, h, i, j]: [u32; 4]) -> f64 {
        let problem = self.prepared.problem;
        let (spec, t, g_head) = (problem.spec, &problem.inputs.v, self.prepared.kv_head(h));
        let least = least_normal(spec.dtype);
        let (v, v_size) = self.prepared.v_row(b, g_head, j);
        let start = t.row_start(b, j, g_head);
        let turned = spec.rotates_values();
        let token = b as usize * problem.shape.kv_len as usize + j as usize;
        let row = token * spec.num_kv_heads as usize + g_head as usize;
        let flushed = if turned { 2.0 * self.v_flushed[row] } else { 0.0 };
        value.clear();
        value.extend(v.iter().zip(v_size).enumerate().map(|(c, (x, length))| {
            let subnormal = if x.abs() < least { x.abs() } else { 0.0 };
            let of_turn = if turned { self.rotation * *length as f64 + flushed } else { 0.0 };
            Value { x: *x, size: x.abs(), error: subnormal + t.residual(start + c).abs() + of_turn }
        }));
        let rows = self.prepared.value_rows(b, h, i, j);
        for row in &rows {
            for (value, e) in value.iter_mut().zip(*row) {
                value.x += *e as f64;
                value.size += e.abs() as f64;
            }
        }
        rows.len() as f64
    }
}

/// A column of a key's value, E_V included.
#[derive(Debug, Clone, Copy)]
struct Value {
    x: f64,
    /// The sum of the sizes of what was added up to it.
    size: f64,
    /// How far a device's may be off, roundings of sums aside.
    error: f64,
}

/// The largest |sum w_j x_j| + sum w_j cost_j of weights that add up to 1, each between its ends: what is free goes to the largest first.
fn farthest_mean(ends: &[[f64; 2]], column: &[(f64, f64)]) -> f64 {
    let side = |sign: f64| {
        let mut order: Vec<(f64, [f64; 2])> =
            column.iter().map(|(x, cost)| sign * x + cost).zip(ends.iter().copied()).collect();
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (mut sum, mut free) = (0.0, 1.0);
        for (y, [low, _]) in &order {
            sum += low * y;
            free -= low;
        }
        for (y, [low, high]) in &order {
            let more = (high - low).min(free).max(0.0);
            sum += more * y;
            free -= more;
        }
        sum
    };
    side(1.0).max(side(-1.0))
}

/// The least and the most that the largest score of a tile is on the device.
#[derive(Debug, Clone, Copy)]
struct Top {
    low: f64,
    high: f64,
}

impl Top {
    /// Whether the running maximum may change at a tile after this one.
    fn may_grow_to(self, later: Top) -> bool {
        later.high > self.low
    }
}

/// The tiles of a row that see a key.
fn tops(scores: &[Scored], tile_k: usize) -> Vec<Top> {
    let of_tile = |tile: &[Scored]| {
        let none = Top { low: f64::NEG_INFINITY, high: f64::NEG_INFINITY };
        tile.iter().filter(|score| score.seen()).fold(none, |top, score| Top {
            low: top.low.max(score.centre - score.error),
            high: top.high.max(score.centre + score.error),
        })
    };
    scores.chunks(tile_k).map(of_tile).filter(|top| top.high > f64::NEG_INFINITY).collect()
}

/// The most changes of the running maximum from the sink, or else the first tile, on.
fn changes(sink: Option<f64>, tops: &[Top]) -> f64 {
    let mut all = sink.map(|s| Top { low: s, high: s }).into_iter().chain(tops.iter().copied());
    let Some(mut running) = all.next() else { return 0.0 };
    let mut changes = 0.0;
    for top in all {
        changes += f64::from(running.may_grow_to(top));
        running.low = running.low.max(top.low);
    }
    changes
}

/// The most changes of a running maximum that starts at any tile: from each to the next that it may grow to. From the last tile to the
/// first, with the tiles behind that may be larger than all before them. A tile that is stepped over cannot be a change, and one that is
/// stepped on and is none lies below the running maximum, so that no change is missed.
fn longest_chain(tops: &[Top]) -> f64 {
    let mut larger: Vec<(Top, f64)> = Vec::new(); // ever larger towards the front; the changes from there on
    let mut longest = 0.0;
    for top in tops.iter().rev() {
        let above = larger.partition_point(|(other, _)| top.may_grow_to(*other));
        let changes = above.checked_sub(1).and_then(|next| larger.get(next)).map_or(0.0, |(_, n)| n + 1.0);
        longest = f64::max(longest, changes);
        larger.truncate(larger.partition_point(|(other, _)| other.high > top.high));
        larger.push((*top, changes));
    }
    longest
}

fn dot_f32(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0f32; 16];
    let (a16, b16) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a16.remainder().iter().zip(b16.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a16.zip(b16) {
        for l in 0..16 {
            sums[l] += a[l] * b[l];
        }
    }
    rest as f64 + sums.iter().sum::<f32>() as f64
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
