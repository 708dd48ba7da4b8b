//! Attention: how far rounding may take each element, term by term.

use crate::check::bound::{
    Arithmetic, Bounded, F16_FLUSH, F16_ROUNDING, HUGE, LAZY, LAZY_EXPONENTIALS, MAGNITUDE, MATRIX_ADDITION,
    MATRIX_TILE, P_UNIT, PHASE, SECOND_ORDER, TINY, TRIG, U, UNDERFLOW, g, stored,
};
use crate::equation::defaults::SCORE_FLOOR;
use crate::equation::dtype::Dtype;
use crate::equation::factors::NormKind;
use crate::equation::relative::{Relative, RelativeSide};
use crate::equation::rotary::rotary::Angle;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::inputs::tensor::Tensor;
use crate::plan::budget::tile_k;
use crate::reference::attention::{Prepared, Rotated, Softmax, appended_rows, elements, rows_of, taken};
use rayon::prelude::*;

/// A sum whose other terms together are this share of the largest, or less, is the largest.
const ABSORBED: f64 = 1.0 / (1 << 26) as f64;

/// N above which weights are bounded by what they add up to.
const FIRST_ORDER: f64 = 1.0 / 16.0;

/// Every element of out (`[batch, q_len, num_heads, v_head_dim]`) and lse (`[batch, num_heads, q_len]`).
pub fn attention(spec: &Spec, inputs: &Inputs) -> Result<(Bounded, Bounded)> {
    attention_in(spec, inputs, Arithmetic::F32)
}

/// The same for an arithmetic.
pub fn attention_in(spec: &Spec, inputs: &Inputs, arithmetic: Arithmetic) -> Result<(Bounded, Bounded)> {
    spec.expect_softmax()?;
    let problem = Problem::for_reference(spec, inputs)?;
    let bounds = Bounds::new(&problem).within(arithmetic);
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
    // the one family that computes them folds its sums
    let bounds = Bounds { chained: false, ..Bounds::new(&problem) };
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
    rotated_to(spec, inputs, spec.k_storage())
}

/// The same, k rounded to this type.
fn rotated_to(spec: &Spec, inputs: &Inputs, k_type: Dtype) -> Result<(Bounded, Bounded)> {
    let problem = Problem::new(spec, inputs)?;
    if spec.linear.is_some() {
        return crate::check::linear::rotated(&problem).map(|[q, k]| (q, k));
    }
    let bounds = Bounds::of(&problem, Prepared::without_content_bias(&problem));
    let one = |x: &Rotated, t: &Tensor, dtype: Dtype, used: &dyn Fn(u32) -> u32, lost: &[[f64; 2]]| {
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
                        let bound = if j < used(b) { stored(dtype, *value, bound) } else { f64::INFINITY };
                        all.push((*value, bound));
                    }
                }
            }
        }
        all
    };
    let q = one(&bounds.prepared.q, &inputs.q, spec.dtype, &|_| u32::MAX, &bounds.q_lost);
    let k = one(&bounds.prepared.k, &inputs.k, k_type, &|b| problem.kv_len(b), &bounds.k_lost);
    Ok((q, k))
}

/// Every element that [`Kernel::Append`](crate::Kernel::Append) stores, as [`reference::append`](crate::reference::append) has them: rows of k,
/// then of v. The inputs are of the new rows' type. What is only converted is off by the rounding to storage, and by
/// subnormals that a device reads as 0; no bound is said of rows that are not stored.
///
/// In blocks an element is off by half a step of its block, by the rounding of the block's scale, and by what a device's value is off before it
/// is quantised. What comes as it is has more: the bytes of [`Data::from_rows`](crate::Data::from_rows), where no element is subnormal.
pub fn append(spec: &Spec, inputs: &Inputs) -> Result<(Bounded, Bounded)> {
    let given = spec.stored_as(inputs.k.dtype());
    let rows = appended_rows(&given, inputs)?;
    let copied = |t: &Tensor, to: Dtype| {
        let mut all = Bounded::default();
        for value in elements(t) {
            let small = |dtype: Dtype| if value.abs() < dtype.least_normal() { value.abs() } else { 0.0 };
            let rounded = if given.dtype == to || to.in_blocks() { 0.0 } else { stored(to, value, 0.0) };
            all.push((value, rounded + small(given.dtype).max(small(to))));
        }
        quantised(all, to, t)
    };
    let k = match spec.keys_rotated() {
        false => copied(&inputs.k, spec.k_storage()),
        true if spec.k_storage().in_blocks() => {
            quantised(rotated_to(&given, inputs, Dtype::F32)?.1, spec.k_storage(), &inputs.k)
        }
        true => {
            let mut k = rotate(&given, inputs)?.1;
            if given.dtype != spec.k_storage() {
                let both = k.value.iter().zip(&mut k.bound);
                both.for_each(|(value, bound)| *bound = stored(spec.k_storage(), *value, *bound));
            }
            k
        }
    };
    let of = |all: Bounded, t: &Tensor| {
        let mut bound = taken(&rows, &all.bound, t);
        let width = bound.len() / rows.len().max(1);
        let unknown = rows.iter().enumerate().filter(|(_, row)| row.is_none());
        unknown.for_each(|(n, _)| bound[n * width..(n + 1) * width].fill(f64::INFINITY));
        Bounded { value: taken(&rows, &all.value, t), bound }
    };
    Ok((of(k, &inputs.k), of(copied(&inputs.v, spec.v_storage()), &inputs.v)))
}

/// Adds what quantising to a type in blocks does.
fn quantised(all: Bounded, to: Dtype, t: &Tensor) -> Bounded {
    if !to.in_blocks() {
        return all;
    }
    let [_, _, _, dim] = t.shape();
    let near: Vec<[f64; 2]> = all.value.iter().zip(&all.bound).map(|(value, bound)| [*value, *bound]).collect();
    // rows, whose last block may be shorter
    let bound = near.chunks(dim.max(1) as usize).flat_map(|row| to.off(dim, row)).collect();
    Bounded { value: all.value, bound }
}

/// What each row loses of its elements (the sum of sizes, as in [`flushed`]) and, relative to it, of its length on the way through
/// a norm (that of the `weights` of this name, if any); infinite where nothing can be said.
fn lost(problem: &Problem, t: &Tensor, rotated: &Rotated, flushed: &[f64], weights: Option<&str>) -> Vec<[f64; 2]> {
    let Some((norm, weights)) = problem.spec.norm.as_ref().zip(weights) else {
        return flushed.iter().map(|f| [*f, 0.0]).collect();
    };
    let [batch, len, heads, dim] = t.shape();
    let weight = match norm.weights {
        true => problem.parameter(weights).iter().fold(0.0f32, |m, w| m.max(w.abs())) as f64,
        false => 1.0,
    };
    let of_all = if norm.all_heads { heads } else { 1 };
    let of_mean = if norm.kind == NormKind::L2 { 1.0 } else { (dim * of_all) as f64 };
    let one = |(([b, j, h], factor), flushed): (([u32; 3], &f32), &f64)| {
        let start = t.row_start(b, j, h);
        // how far a rotation before the norm lengthens a row
        let longer = if norm.after_rotation { rotated.gain[(b * len + j) as usize] } else { 1.0 };
        let starts = if norm.all_heads { (0..heads).map(|h| t.row_start(b, j, h)).collect() } else { vec![start] };
        let elements = || starts.iter().flat_map(|start| *start..*start + dim as usize);
        let sizes = || elements().map(|i| (t.data().exact(i).abs(), t.residual(i).abs() + t.data().lost(i)));
        let largest = sizes().fold(0.0, |m, (x, _)| f64::max(m, x));
        // what is lost of a float, which is then read as 0, is all of it; of a block it is either way
        let whole = |x: f64, off: f64| if t.dtype().in_blocks() { x + off } else { off };
        let square = |(x, off): (f64, f64)| if x <= off { whole(x, off).powi(2) } else { 2.0 * x * off };
        let off = sizes().map(square).sum::<f64>() * (longer * *factor as f64).powi(2) / (2.0 * of_mean);
        let small = largest > 0.0 && largest.max(norm.least()) < 1e-30;
        // how far a mean that errs changes the variance: by the square of its error in units of the deviation
        let off = match norm.kind {
            NormKind::Layer => {
                let n = of_mean;
                let mean = sizes().map(|(x, _)| x).sum::<f64>() / n;
                let lost = sizes().map(|(_, off)| off).sum::<f64>() / n;
                let shift = ((2.0 * U + g(n / 4.0 + 3.0)) * mean + lost) * *factor as f64;
                off + shift.powi(2)
            }
            NormKind::Rms | NormKind::L2 => off,
        };
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
    let [batch, len, heads, _] = t.shape();
    let sum = |[b, j, h]: [u32; 3]| t.lost(b, j, h).sum::<f64>() * rotated.gain[(b * len + j) as usize];
    rows_of(batch, len, heads).into_par_iter().map(sum).collect()
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

pub(crate) struct Bounds<'a> {
    pub(crate) arithmetic: Arithmetic,
    /// Whether a product with a key may be one chain of multiply-adds, as in `block`.
    pub(crate) chained: bool,
    pub(crate) prepared: Prepared<'a>,
    pub(crate) tile_k: usize,
    /// e: the error of a rotated element, relative to its pair's length.
    pub(crate) rotation: f64,
    pub(crate) q_flushed: Vec<f64>,
    pub(crate) k_flushed: Vec<f64>,
    pub(crate) v_flushed: Vec<f64>,
    /// What the rotated rows lose by it, and relative to their elements by a change of their length: see [`lost`].
    pub(crate) q_lost: Vec<[f64; 2]>,
    pub(crate) k_lost: Vec<[f64; 2]>,
    /// The largest element of rotated k, for products that flush to 0.
    pub(crate) k_largest: f64,
    /// The largest |scale * element| of the tables of A and B together.
    pub(crate) relative_largest: f64,
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
    pub(crate) fn new(problem: &'a Problem<'a>) -> Self {
        Self::of(problem, Prepared::new(problem))
    }
    /// The same for an arithmetic.
    pub(crate) fn within(self, arithmetic: Arithmetic) -> Self {
        match arithmetic {
            Arithmetic::F32 => self,
            Arithmetic::F16Matrix => Bounds { arithmetic, tile_k: MATRIX_TILE, ..self },
        }
    }
    fn of(problem: &'a Problem<'a>, prepared: Prepared<'a>) -> Self {
        let trig = problem.spec.rotary.as_ref().map(|r| {
            let magnitude = if r.xpos.is_some() { MAGNITUDE } else { 0.0 };
            // the phase of each stream more is cut off at 2^-32 turns
            let streams = r.sums().map_or(0.0, |s| (s.streams - 1) as f64 * PHASE);
            magnitude + if r.angle == Angle::Table { 0.0 } else { TRIG + streams }
        });
        let rotation = trig.map_or(0.0, |trig| 2f64.sqrt() * (trig + 2.0 * U) + 2.0 * U);
        let norm = problem.spec.norm.map_or(0.0, |norm| {
            let spec = problem.spec;
            let rows = if norm.all_heads { spec.num_heads } else { 1 };
            // a layer norm sums twice
            let twice = if norm.kind == NormKind::Layer { 3.0 } else { 1.0 };
            let e = 0.5 * twice * g((rows * spec.head_dim.div_ceil(4)) as f64 + 3.0)
                + U * if norm.weights { 8.5 } else { 7.5 }
                + if norm.kind == NormKind::Layer { 4.0 * U } else { 0.0 };
            e + if norm.after_rotation { 2f64.sqrt() * rotation } else { 0.0 }
        });
        let rotation = rotation + norm;
        let (q_flushed, k_flushed) = (flushed(&problem.inputs.q, &prepared.q), flushed(&problem.inputs.k, &prepared.k));
        Bounds {
            arithmetic: Arithmetic::F32,
            chained: true,
            tile_k: tile_k(problem.spec, crate::plan::limits::Limits::default().max_workgroup_storage) as usize,
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
        let factors = [spec.temperature.is_some(), spec.query_scales, spec.head_scale, spec.head_scale_exp.is_some()];
        let factors = factors.into_iter().filter(|f| *f).count() as f64;
        // of tau, times the scale's other factors
        let tau_error = spec.temperature.map_or(0.0, |t| {
            let position = problem.q_position(b, i);
            let of = problem.temperature(h);
            let tau = t.of_head(position, of);
            let of_head = spec.head_scale.then(|| problem.parameter("head_scale").get(h as usize).copied()).flatten();
            let (base, scale) = (t.base * of[0], t.scale * of[1]);
            // factors of heads are one product more, and a position beyond 2^24 one rounding
            let rounded = if t.per_head { 3.0 } else { 1.0 };
            let error =
                U * (tau.abs() + rounded * base.abs() + scale.abs() * ((4.0 + rounded) * t.log_size(position) + 2.0));
            let of_row = problem.row_scale(b, h, i).abs();
            spec.scale().abs() * of_row * of_head.map_or(1.0, |s| spec.head_scale_of(s).abs()) * error
        });
        let scale_underflow = if factors > 0.0 { UNDERFLOW * (1.0 + spec.scale().abs()) * (1.0 + factor) } else { 0.0 };
        let additions = spec.head_dim.div_ceil(4) as f64 + 3.0;
        let of_keys = if self.prepared.keys_turned { self.rotation } else { 0.0 };
        // of the product with a key: folded, or one chain of multiply-adds, whose products may be rounded too
        let of_product = if self.chained { g(additions).max(g(spec.head_dim as f64) + U) } else { g(additions) };
        let relative = self.rotation + of_keys + (2.0 + factors) * U + of_product;
        let terms = problem.terms.len() + problem.inputs.attn_bias.is_some() as usize + spec.relative.len();
        let terms = terms + spec.key_bias as usize;
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
            error += self.of_matrix_products(q_size, k_size, products, scale);
            if q_lost > 0.0 {
                error += 2.0 * scale * q_lost * largest(k_size);
            }
            if spec.logits_soft_cap.is_some() && !spec.soft_cap_last {
                error += U * (2.0 * score.t.abs() + 21.0 * score.capped.abs());
            }
            if score.relative > 0.0 {
                error += score.relative * (3.0 * U + g(additions.max(spec.own_queries().unwrap_or(0) as f64)));
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
            let same = (absorbed && !spec.soft_cap_last)
                || (score.plain == score.t && self.same_infinity([b, h, i, j], scale));
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
            let cap = spec.logits_soft_cap.filter(|_| spec.soft_cap_last);
            let (centre, error) = match absorbed && cap.is_none() {
                true => (score.largest, TINY),
                false => (score.plain, SECOND_ORDER * error.min(others + 2.0 * of_others) + TINY),
            };
            // a cap behind all terms is a contraction, as the other is
            let (centre, error) = match cap {
                Some(_) => (score.before, error + U * (2.0 * score.plain.abs() + 21.0 * score.before.abs())),
                None => (centre, error),
            };
            if let Some(modify) = modify {
                let error = (centre - score.before).abs() + error;
                let error = modify.error(score.before, error, &problem.score_at(b, h, i, j));
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
        let least =
            [spec.dtype, spec.k_storage()].map(Dtype::least_normal).into_iter().fold(1.0 / (2.0 * HUGE), f64::max)
                * 2.0;
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

    /// What rounding to f16, and sums within matrix units, add to a scaled product.
    fn of_matrix_products(&self, q: &[f32], k: &[f32], products: f64, scale: f64) -> f64 {
        if self.arithmetic == Arithmetic::F32 {
            return 0.0;
        }
        let of_row = |x: &[f32]| x.iter().fold((0.0, 0f32), |(sum, most), x| (sum + *x as f64, most.max(*x)));
        let ((q_sum, q_most), (k_sum, k_most)) = (of_row(q), of_row(k));
        if (scale * q_most as f64).max(k_most as f64) > 65_000.0 {
            return f64::INFINITY;
        }
        let d = q.len() as f64;
        let relative = 2.0 * F16_ROUNDING + F16_ROUNDING.powi(2) + MATRIX_ADDITION * d;
        relative * scale * products
            + F16_FLUSH * (1.0 + 2.0 * F16_ROUNDING) * (scale * q_sum + k_sum)
            + F16_FLUSH.powi(2) * d
    }

    /// o and lse of a row, each with its bound.
    pub(crate) fn row(&self, b: u32, h: u32, i: u32) -> (Vec<(f64, f64)>, (f64, f64)) {
        let spec = self.prepared.problem.spec;
        let dim = spec.v_head_dim as usize;
        let scores = self.scores(b, h, i);
        let values: Vec<f64> = scores.iter().map(|score| score.s).collect();
        let sink = self.prepared.sink(b, h, i);
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
        if crate::plan::family::decode::may_split(spec, &self.prepared.problem.shape) {
            rescales = f64::max(rescales, longest_chain(&tops) + 1.0);
        }

        // F of every weight, without the score's own error: that of exp and of what multiplies it later
        let top = scores.iter().map(|score| score.centre).chain(sink).fold(f64::NEG_INFINITY, f64::max);
        let matrix = self.arithmetic == Arithmetic::F16Matrix;
        let of_lazy = if matrix { LAZY_EXPONENTIALS } else { 0.0 };
        let of_exp = |centre: f64| U * (8.8 * (top - centre) + 6.0 + 7.0 * rescales + of_lazy);
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
        let of_weight = if matrix { F16_ROUNDING + MATRIX_ADDITION * (scores.len() as f64 + tiles) } else { 0.0 };
        let flushed = if matrix { F16_FLUSH / P_UNIT } else { 0.0 };
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
        // R_o turns a row with its errors, and errs itself
        let before = o.clone();
        for ([x, y], longer) in self.prepared.turn_back(b, h, i, &mut o) {
            let length = before[x].hypot(before[y]) + bounds[x].hypot(bounds[y]);
            let bound = longer * (bounds[x].hypot(bounds[y]) + self.rotation * length) + TINY;
            (bounds[x], bounds[y]) = (bound, bound);
            (lost[x], lost[y]) = (lost[x] || lost[y], lost[x] || lost[y]);
        }
        // whether a weight that may flush to 0 makes NaN or infinity of an infinite value, nothing says
        let out = (0..dim).map(|c| match o[c].is_nan() {
            true => (o[c], if lost[c] { f64::INFINITY } else { 0.0 }),
            false => (o[c], stored(spec.out_storage(), o[c], bounds[c])),
        });
        let from_maximum = softmax.sum.ln().abs() + if matrix { LAZY } else { 0.0 };
        let log = (2f64.powi(-21)).max(6.0 * U * from_maximum);
        let lse_bound = SECOND_ORDER * (shift + l_error + log + 2.0 * U * lse.abs());
        (out.collect(), (lse, if lse.is_nan() { 0.0 } else { lse_bound }))
    }

    /// What a weight of key j multiplies, column by column, into `value`; the additions beyond one that it takes.
    fn value(&self, value: &mut Vec<Value>, [b, h, i, j]: [u32; 4]) -> f64 {
        let problem = self.prepared.problem;
        let (spec, t, g_head) = (problem.spec, &problem.inputs.v, self.prepared.kv_head(h));
        let (v, v_size) = self.prepared.v_row(b, g_head, j);
        let turned = spec.rotates_values();
        let token = b as usize * problem.shape.kv_len as usize + j as usize;
        let row = token * spec.num_kv_heads as usize + g_head as usize;
        let flushed = if turned { 2.0 * self.v_flushed[row] } else { 0.0 };
        value.clear();
        value.extend(v.iter().zip(v_size).zip(t.lost(b, j, g_head)).map(|((x, length), lost)| {
            let of_turn = if turned { self.rotation * *length as f64 + flushed } else { 0.0 };
            Value { x: *x, size: x.abs(), error: lost + of_turn }
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
