//! Attention in f64: scores, softmax and the value sum, row by row.

use crate::equation::bias::term::Place;
use crate::equation::defaults::SCORE_FLOOR;
use crate::equation::factors::{Norm, NormKind, Sink};
use crate::equation::mask::Alignment;
use crate::equation::relative::RelativeSide;
use crate::equation::rotary::rotary::Rotary;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::inputs::tensor::Tensor;
use crate::reference::angles::Angles;
use crate::reference::linear::rotated as rotated_linear;
use rayon::prelude::*;

/// The unit roundoff of f32.
const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// The result of attention. `T` is f32 from a GPU (values of the storage type, widened) and f64 from the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Output<T> {
    /// `[batch, q_len, num_heads, v_head_dim]`.
    pub out_shape: [u32; 4],
    /// o, row-major in `out_shape`; zeros for a row that sees no key.
    pub out: Vec<T>,
    /// `[batch, num_heads, q_len]`, natural logarithm; -inf for a row that sees no key.
    pub lse: Vec<T>,
}

/// Attention in f64.
///
/// ```
/// use ropewalk::{reference, Inputs, Spec, Tensor};
/// let one = |x: f32| Tensor::bshd(vec![x; 4], [1, 1, 1, 4]);
/// let inputs = Inputs::new(one(1.0)?, one(2.0)?, one(3.0)?);
/// let result = reference::attention(&Spec::new(1, 1, 4), &inputs)?;
/// assert_eq!(result.out, [3.0; 4]); // one key: its value
/// assert_eq!(result.lse, [4.0]); // 4 * 1 * 2 / sqrt(4)
/// # Ok::<(), ropewalk::Error>(())
/// ```
pub fn attention(spec: &Spec, inputs: &Inputs) -> Result<Output<f64>> {
    spec.expect_softmax()?;
    let problem = Problem::for_reference(spec, inputs)?;
    let prepared = Prepared::new(&problem);
    let [batch, q_len, heads] = [problem.shape.batch, problem.shape.q_len, spec.num_heads];
    let rows: Vec<Row> = rows_of(batch, heads, q_len).into_par_iter().map(|[b, h, i]| prepared.row(b, h, i)).collect();
    let lse = rows.iter().map(|r| r.lse).collect();
    let at = |b: u32, h: u32, i: u32| ((b * heads + h) * q_len + i) as usize;
    let out = (0..batch)
        .flat_map(|b| (0..q_len).flat_map(move |i| (0..heads).map(move |h| at(b, h, i))))
        .flat_map(|r| rows[r].out.iter().copied())
        .collect();
    Ok(Output { out_shape: [batch, q_len, heads, spec.v_head_dim], out, lse })
}

/// The scores that the softmax receives, `[batch, num_heads, q_len, capacity]`; -inf where masked.
pub fn scores(spec: &Spec, inputs: &Inputs) -> Result<Vec<f64>> {
    spec.expect_softmax()?;
    let problem = Problem::for_reference(spec, inputs)?;
    let prepared = Prepared::new(&problem);
    let rows = rows_of(problem.shape.batch, spec.num_heads, problem.shape.q_len);
    Ok(rows.into_par_iter().flat_map_iter(|[b, h, i]| prepared.scores(b, h, i)).collect())
}

/// The rotated q (`[batch, q_len, num_heads, head_dim]`) and k (`[batch, capacity, num_kv_heads, head_dim]`).
pub fn rotate(spec: &Spec, inputs: &Inputs) -> Result<(Vec<f64>, Vec<f64>)> {
    let problem = Problem::new(spec, inputs)?;
    if spec.linear.is_some() {
        return rotated_linear(&problem);
    }
    let prepared = Prepared::without_content_bias(&problem);
    Ok((prepared.q.rows, prepared.k.rows))
}

/// What [`Kernel::Append`](crate::Kernel::Append) stores of a call's last keys: rows of k (`[batch, q_len, num_kv_heads, head_dim]`), normed and
/// rotated where the cache holds rotated keys, and rows of v (`[batch, q_len, num_kv_heads, v_head_dim]`). The inputs are those of attention after
/// it, their k and v not yet prepared. A query token that is no key of its sequence has zeros.
pub fn append(spec: &Spec, inputs: &Inputs) -> Result<(Vec<f64>, Vec<f64>)> {
    let k = match spec.keys_rotated() {
        true => rotate(spec, inputs)?.1,
        false => elements(&inputs.k),
    };
    let rows = appended_rows(spec, inputs)?;
    Ok((taken(&rows, &k, &inputs.k), taken(&rows, &elements(&inputs.v), &inputs.v)))
}

/// Of every query token the row of k that it is; none where its sequence has no such key.
pub(crate) fn appended_rows(spec: &Spec, inputs: &Inputs) -> Result<Vec<Option<usize>>> {
    spec.expect_softmax()?;
    let mut spec = spec.clone();
    spec.mask.alignment = Alignment::BottomRight;
    let problem = Problem::new(&spec, inputs)?;
    let [batch, q_len, kv_len] = [problem.shape.batch, problem.shape.q_len, problem.shape.kv_len];
    let row = |b: u32, i: u32| {
        let in_sequence = u32::try_from(problem.q_index(b, i)).ok()?;
        Some((b * kv_len + problem.keys(b, i).start + in_sequence) as usize)
    };
    Ok((0..batch).flat_map(|b| (0..q_len).map(move |i| [b, i])).map(|[b, i]| row(b, i)).collect())
}

/// Every element of a tensor, row-major.
pub(crate) fn elements(t: &Tensor) -> Vec<f64> {
    let [batch, len, heads, _] = t.shape();
    let rows = (0..batch).flat_map(|b| (0..len).flat_map(move |j| (0..heads).map(move |h| [b, j, h])));
    rows.flat_map(|[b, j, h]| t.row(b, j, h).collect::<Vec<_>>()).collect()
}

/// Tokens of what has a tensor's shape, row-major; zeros for none.
pub(crate) fn taken(rows: &[Option<usize>], all: &[f64], t: &Tensor) -> Vec<f64> {
    let [_, _, heads, dim] = t.shape();
    let width = (heads * dim) as usize;
    let zeros = vec![0.0; width];
    rows.iter().flat_map(|row| row.map_or(&zeros[..], |row| &all[row * width..(row + 1) * width])).copied().collect()
}

/// Every (batch, head, query row), row-major.
pub(crate) fn rows_of(batch: u32, heads: u32, q_len: u32) -> Vec<[u32; 3]> {
    (0..batch).flat_map(|b| (0..heads).flat_map(move |h| (0..q_len).map(move |i| [b, h, i]))).collect()
}

/// Rows of q, k or v, rotated, and for the check the length of each element's pair (the element itself where nothing
/// rotates): no rotation error exceeds a multiple of it.
pub(crate) struct Rotated {
    pub(crate) rows: Vec<f64>,
    pub(crate) size: Vec<f32>,
    /// How much longer a token's pairs may become, 1 or more.
    pub(crate) gain: Vec<f64>,
    /// What its norm multiplied each row by, weights aside; 1 without a norm.
    pub(crate) factors: Vec<f32>,
    heads: usize,
    len: usize,
    dim: usize,
}

impl Rotated {
    /// `norm` comes with its weights, `[dim]` or none; `bias`, `[heads, dim]`, is added before the rotation; `side` is 1 for q,
    /// -1 for k, 0 for v; `group` heads share the angles of a kv head.
    #[allow(clippy::too_many_arguments)] // what may happen to a row
    fn new(
        t: &Tensor,
        norm: Option<(&Norm, &[f32])>,
        bias: Option<&[f32]>,
        rotation: Option<(&Rotary, &Angles)>,
        side: f64,
        group: u32,
        positions: impl Fn(u32, u32) -> [i32; 4] + Sync,
    ) -> Self {
        let [batch, len, heads, dim] = t.shape();
        let tokens: Vec<[u32; 2]> = (0..batch).flat_map(|b| (0..len).map(move |j| [b, j])).collect();
        let width = (heads * dim) as usize;
        let mut rows = vec![0.0; tokens.len() * width];
        let mut size = vec![0f32; tokens.len() * width];
        let mut gain = vec![1f64; tokens.len()];
        let mut factors = vec![1f32; tokens.len() * heads as usize];
        let normalise = |x: &mut [f64], after: bool| match norm.filter(|(norm, _)| norm.after_rotation == after) {
            None => None,
            Some((norm, weights)) => {
                let factor = norm.apply(x);
                x.iter_mut().zip(weights).for_each(|(x, w)| *x *= *w as f64);
                Some((factor as f32, weights))
            }
        };
        let chunks = rows.par_chunks_mut(width).zip(size.par_chunks_mut(width));
        let chunks = chunks.zip(factors.par_chunks_mut(heads as usize)).zip(&mut gain).zip(&tokens);
        chunks.for_each(|((((rows, size), factors), gain), [b, j])| {
            let turns = |h: u32| match rotation {
                None => Vec::new(),
                Some((r, angles)) => {
                    let (at, kv_head) = (positions(*b, *j), h as usize / group.max(1) as usize);
                    (0..r.rotary_dim as usize / 2).map(|p| angles.turn(at, kv_head, p, side)).collect::<Vec<_>>()
                }
            };
            let of_heads = rotation.is_some_and(|(r, _)| r.of_heads());
            let mut angles = turns(0);
            // two angles of a pair may make it longer by sqrt(2)
            let two = rotation.is_some_and(|(r, _)| r.sums().is_some_and(|s| s.two_angles));
            let most = if two { std::f64::consts::SQRT_2 } else { 1.0 };
            *gain = angles.iter().fold(1.0, |gain, [(c, s), _]| c.hypot(*s).max(gain)) * most;
            let all: Vec<f64> = match norm {
                Some((norm, _)) if norm.all_heads => {
                    (0..heads).flat_map(|h| t.row(*b, *j, h).collect::<Vec<_>>()).collect()
                }
                _ => Vec::new(),
            };
            for h in 0..heads {
                if of_heads && h > 0 {
                    angles = turns(h);
                }
                let mut x: Vec<f64> = t.row(*b, *j, h).collect();
                // what the mean of a layer norm is made of errs as it does
                let mut spread = vec![0.0; dim as usize];
                match norm {
                    Some((norm, weights)) if norm.placed() || norm.kind == NormKind::Layer => {
                        let over: &[f64] = if norm.all_heads { &all } else { &x };
                        let [mean, factor] = norm.of(over.iter());
                        let size = over.iter().map(|x| x.abs()).sum::<f64>() / over.len().max(1) as f64;
                        let of =
                            if norm.placed() { weights.get((h * dim) as usize..).unwrap_or_default() } else { weights };
                        let of = of.iter().map(|w| *w as f64).chain(std::iter::repeat(1.0));
                        for ((x, spread), w) in x.iter_mut().zip(&mut spread).zip(of) {
                            *x = (*x - mean) * factor * w;
                            if norm.kind == NormKind::Layer {
                                *spread = (size * factor * w).abs();
                            }
                        }
                        factors[h as usize] = factor as f32;
                    }
                    _ => {
                        if let Some((factor, _)) = normalise(&mut x, false) {
                            factors[h as usize] = factor;
                        }
                    }
                }
                let normed = x.clone();
                if let Some(bias) = bias {
                    x.iter_mut().zip(&bias[(h * dim) as usize..]).for_each(|(x, u)| *x += *u as f64);
                }
                // the norm's error is relative to N x, however much of it u cancels
                let largest = |(x, n): (&f64, &f64)| if norm.is_some() { x.abs().max(n.abs()) } else { x.abs() };
                let sizes: Vec<f64> =
                    x.iter().zip(&normed).map(largest).zip(&spread).map(|(size, s)| size + s).collect();
                let at = (h * dim) as usize..((h + 1) * dim) as usize;
                let (y, size) = (&mut rows[at.clone()], &mut size[at]);
                y.copy_from_slice(&x);
                size.iter_mut().zip(&sizes).for_each(|(to, s)| *to = *s as f32);
                for (p, [(c, s), (c_b, s_b)]) in angles.iter().enumerate() {
                    let ([a, b], [to_a, to_b]) = rotation.expect("angles come from a rotation").0.pair(p);
                    y[to_a] = x[a] * c - x[b] * s;
                    y[to_b] = x[a] * s_b + x[b] * c_b;
                    let length = (sizes[a].hypot(sizes[b]) * c.hypot(*s)) as f32;
                    (size[to_a], size[to_b]) = (length, length);
                }
                if let Some((factor, weights)) = normalise(y, true) {
                    factors[h as usize] = factor;
                    size.iter_mut().for_each(|s| *s *= factor);
                    size.iter_mut().zip(weights).for_each(|(s, w)| *s *= w.abs());
                }
            }
        });
        Rotated { rows, size, gain, factors, heads: heads as usize, len: len as usize, dim: dim as usize }
    }
    fn at(&self, b: u32, token: u32, head: u32) -> std::ops::Range<usize> {
        let start = ((b as usize * self.len + token as usize) * self.heads + head as usize) * self.dim;
        start..start + self.dim
    }
}

/// One score and what the check needs to bound its error.
pub(crate) struct Score {
    /// What the softmax receives; -inf where masked.
    pub(crate) s: f64,
    /// The scaled dot product before the cap.
    pub(crate) t: f64,
    /// After the cap.
    pub(crate) capped: f64,
    /// sum |C| + sum |D|, without `largest`.
    pub(crate) bias: f64,
    /// The sizes of the products in A and B, sum |x| |table| times scale.
    pub(crate) relative: f64,
    /// What closed forms of C may be off by, beyond roundings of their value.
    pub(crate) slack: f64,
    /// The largest of the numbers in C and D that the device has exactly; 0 if there is none.
    pub(crate) largest: f64,
    /// Before a cap behind it, the user's function and the floor.
    pub(crate) plain: f64,
    /// Before the user's function and the floor.
    pub(crate) before: f64,
}

/// One query row's result.
pub(crate) struct Row {
    pub(crate) out: Vec<f64>,
    pub(crate) lse: f64,
}

/// A problem with q and k, and where they rotate v, rotated.
pub(crate) struct Prepared<'a> {
    pub(crate) problem: &'a Problem<'a>,
    pub(crate) q: Rotated,
    pub(crate) k: Rotated,
    pub(crate) v: Rotated,
    /// q and k for far keys.
    far: Option<[Rotated; 2]>,
    /// Whether `k` was normed and rotated here, not before.
    pub(crate) keys_turned: bool,
    angles: Option<Angles<'a>>,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(problem: &'a Problem<'a>) -> Self {
        let bias = problem.spec.content_bias.then(|| problem.parameter("content_bias"));
        Self::with(problem, bias, !problem.spec.keys_rotated())
    }
    /// What `rotate` gives: u belongs to the score, and keys rotate even for a cache of rotated ones.
    pub(crate) fn without_content_bias(problem: &'a Problem<'a>) -> Self {
        Self::with(problem, None, true)
    }
    fn with(problem: &'a Problem<'a>, bias: Option<&[f32]>, keys_turned: bool) -> Self {
        let (spec, inputs) = (problem.spec, &*problem.inputs);
        let angles = spec.rotary.as_ref().map(|r| Angles::new(r, &problem.inputs));
        let rotation = spec.rotary.as_ref().zip(angles.as_ref());
        let norm = |weights: &str| {
            let weights = move |n: &'a Norm| if n.weights { problem.parameter(weights) } else { &[] };
            spec.norm.as_ref().map(|n| (n, weights(n)))
        };
        let q = Rotated::new(&inputs.q, norm("q_norm"), bias, rotation, 1.0, spec.group(), |b, i| {
            problem.q_positions(b, i)
        });
        let (norm_k, rotation_k) = if keys_turned { (norm("k_norm"), rotation) } else { (None, None) };
        let k = Rotated::new(&inputs.k, norm_k, None, rotation_k, -1.0, 1, |b, j| problem.k_positions(b, j));
        let far = spec.rotary.as_ref().and_then(|r| r.branches).map(|branches| {
            let (q, k) = (&inputs.q, &inputs.k);
            // one stream
            let m = |b, i| problem.q_positions(b, i).map(|m| branches.query(m));
            let n = |b, j| problem.k_positions(b, j).map(|n| branches.key(n));
            [
                Rotated::new(q, norm("q_norm"), bias, rotation, 1.0, spec.group(), m),
                Rotated::new(k, norm("k_norm"), None, rotation, -1.0, 1, n),
            ]
        });
        let of_values = rotation.filter(|(r, _)| r.values);
        let v = Rotated::new(&inputs.v, None, None, of_values, 0.0, 1, |b, j| problem.k_positions(b, j));
        Prepared { problem, q, k, v, far, keys_turned, angles }
    }

    /// The kv head that query head h reads.
    pub(crate) fn kv_head(&self, h: u32) -> u32 {
        h / self.problem.spec.group()
    }
    pub(crate) fn q_row(&self, b: u32, h: u32, i: u32) -> (&[f64], &[f32]) {
        let at = self.q.at(b, i, h);
        (&self.q.rows[at.clone()], &self.q.size[at])
    }
    pub(crate) fn k_row(&self, b: u32, g: u32, j: u32) -> (&[f64], &[f32]) {
        let at = self.k.at(b, j, g);
        (&self.k.rows[at.clone()], &self.k.size[at])
    }
    pub(crate) fn v_row(&self, b: u32, g: u32, j: u32) -> (&[f64], &[f32]) {
        let at = self.v.at(b, j, g);
        (&self.v.rows[at.clone()], &self.v.size[at])
    }

    /// The rows whose product is the score of a query and a key.
    fn turned(&self, b: u32, h: u32, i: u32, j: u32) -> (&[f64], &[f64]) {
        let (problem, g) = (self.problem, self.kv_head(h));
        let branches = problem.spec.rotary.as_ref().and_then(|r| r.branches);
        match branches.zip(self.far.as_ref()) {
            Some((branches, [q, k])) if branches.far(problem.q_position(b, i), problem.k_position(b, j)) => {
                (&q.rows[q.at(b, i, h)], &k.rows[k.at(b, j, g)])
            }
            _ => (self.q_row(b, h, i).0, self.k_row(b, g, j).0),
        }
    }

    /// s(i,j).
    pub(crate) fn score(&self, b: u32, h: u32, i: u32, j: u32) -> Score {
        let (problem, spec) = (self.problem, self.problem.spec);
        if !problem.visible(b, h, i, j) {
            return Score {
                s: f64::NEG_INFINITY,
                t: 0.0,
                capped: 0.0,
                bias: 0.0,
                relative: 0.0,
                slack: 0.0,
                largest: 0.0,
                plain: 0.0,
                before: 0.0,
            };
        }
        let (q, k) = self.turned(b, h, i, j);
        let t = spec.scale() * self.query_scale(h, i, b) * dot(q, k);
        let capped = match spec.logits_soft_cap {
            Some(c) if !spec.soft_cap_last => c * (t / c).tanh(),
            _ => t,
        };
        let (mut s, mut bias, mut slack, mut relative, mut largest) = (capped, 0.0, 0.0, 0.0, 0.0f64);
        if !(problem.terms.is_empty() && spec.relative.is_empty()) {
            let place = problem.place(b, h, i, j);
            for (value, size) in self.relative(&place, j) {
                s += value;
                relative += size;
            }
            for term in &problem.terms {
                let c = term.value(&place);
                s += place.gate * c.value;
                slack += place.gate.abs() * c.slack;
                match c.exact && !spec.gated_bias && c.value.abs() > largest.abs() {
                    true => bias += std::mem::replace(&mut largest, c.value).abs(),
                    false => bias += (place.gate * c.value).abs(),
                }
            }
        }
        if let Some(dense) = &problem.inputs.attn_bias {
            let d = dense.get([b, h, i, j]) as f64;
            s += d;
            match d.abs() > largest.abs() {
                true => bias += std::mem::replace(&mut largest, d).abs(),
                false => bias += d.abs(),
            }
        }
        if let Some([own, key]) = problem.key_bias(b, h, i, j) {
            s += own - key;
            bias += (own - key).abs();
            // of the second words, and of the difference of the first
            slack += 4.0 * UNIT * UNIT * (own.abs() + key.abs()) + 2.0 * UNIT * (own - key).abs();
        }
        let plain = s;
        if let Some(c) = spec.logits_soft_cap.filter(|_| spec.soft_cap_last) {
            s = c * (s / c).tanh();
        }
        let before = s;
        if let Some(modify) = problem.inputs.score_mod.as_ref().filter(|_| !s.is_nan()) {
            s = modify.value(s, &problem.score_at(b, h, i, j));
        }
        if s < SCORE_FLOOR {
            s = SCORE_FLOOR;
        }
        Score { s, t, capped, bias, relative, slack, largest, plain, before }
    }

    /// scale_h * tau_i.
    pub(crate) fn query_scale(&self, h: u32, i: u32, b: u32) -> f64 {
        let (problem, spec) = (self.problem, self.problem.spec);
        let tau = spec.temperature.map_or(1.0, |t| t.of_head(problem.q_position(b, i), problem.temperature(h)));
        let tau = tau * problem.row_scale(b, h, i);
        match spec.head_scale {
            true => tau * problem.parameter("head_scale").get(h as usize).map_or(1.0, |s| spec.head_scale_of(*s)),
            false => tau,
        }
    }
    /// The logit of a row's sink.
    pub(crate) fn sink(&self, b: u32, h: u32, i: u32) -> Option<f64> {
        let learned = || self.problem.parameter("sinks").get(h as usize).map_or(0.0, |s| *s as f64);
        self.problem.spec.sink.map(|sink| match sink {
            Sink::Zero => 0.0,
            Sink::Learned => learned().max(SCORE_FLOOR),
            Sink::Query => self.problem.row_sink(b, h, i).max(SCORE_FLOOR),
        })
    }

    /// A and B of a score, each with the sum of the sizes of its products.
    fn relative(&self, at: &Place, j: u32) -> Vec<(f64, f64)> {
        let (problem, spec) = (self.problem, self.problem.spec);
        let mut terms = Vec::new();
        for (i, relative) in spec.relative.iter().enumerate() {
            let Some(row) = self.relative_row(i, at) else { continue };
            let scale = relative.scale.unwrap_or(spec.scale());
            let bias = match relative.query_bias {
                true => problem.parameter(&format!("relative_bias_{i}")),
                false => &[],
            };
            let v = bias.iter().skip((at.head * spec.head_dim) as usize).copied().chain(std::iter::repeat(0.0));
            let (inputs, kv_head) = (&*problem.inputs, self.kv_head(at.head));
            let product = |x: &mut dyn Iterator<Item = f64>| {
                let (mut sum, mut size) = (0.0, 0.0);
                for ((x, e), v) in x.zip(row).zip(v) {
                    sum += (x + v as f64) * *e as f64;
                    size += (x.abs() + v.abs() as f64) * e.abs() as f64;
                }
                (scale * sum, scale.abs() * size)
            };
            match relative.side {
                RelativeSide::Key if relative.own.is_some() => {
                    terms.push(product(&mut problem.own_query(at.batch, at.head, at.i)))
                }
                RelativeSide::Key => terms.push(product(&mut inputs.q.row(at.batch, at.i, at.head))),
                RelativeSide::Query => terms.push(product(&mut inputs.k.row(at.batch, j, kv_head))),
                RelativeSide::Value => {}
            }
        }
        terms
    }

    /// The row of the i-th relative table at a place; none outside of it.
    fn relative_row(&self, i: usize, at: &Place) -> Option<&'a [f32]> {
        let spec = self.problem.spec;
        let relative = spec.relative.get(i)?;
        let dim = relative.dim(spec.head_dim, spec.v_head_dim) as usize;
        let (heads, head) = if relative.per_head { (spec.num_heads as usize, at.head as usize) } else { (1, 0) };
        let row = relative.index.row(at.m, at.n, at.same_segment)? as usize;
        self.problem.parameter(&format!("relative_{i}")).get((row * heads + head) * dim..(row * heads + head + 1) * dim)
    }

    /// The embeddings that join the value of key j.
    pub(crate) fn value_rows(&self, b: u32, h: u32, i: u32, j: u32) -> Vec<&'a [f32]> {
        let relative = self.problem.spec.relative.iter().enumerate();
        let values = relative.filter(|(_, r)| r.side == RelativeSide::Value);
        let mut place = None;
        values
            .filter_map(|(n, _)| self.relative_row(n, place.get_or_insert_with(|| self.problem.place(b, h, i, j))))
            .collect()
    }

    /// s(i, .) over the whole capacity.
    pub(crate) fn scores(&self, b: u32, h: u32, i: u32) -> Vec<f64> {
        (0..self.problem.shape.kv_len).map(|j| self.score(b, h, i, j).s).collect()
    }

    /// R(-m) of a row of out, where the spec has R_o; the pairs of elements that it turned, with how much longer they may have become.
    pub(crate) fn turn_back(&self, b: u32, h: u32, i: u32, out: &mut [f64]) -> Vec<([usize; 2], f64)> {
        let Some((rotary, angles)) = self.problem.spec.rotary.as_ref().filter(|r| r.output).zip(self.angles.as_ref())
        else {
            return Vec::new();
        };
        let at = self.problem.q_positions(b, i);
        let mut turn = |p: usize| {
            let [(c, s), _] = angles.turn(at, self.kv_head(h) as usize, p, 0.0);
            let [x, y] = rotary.pair(p).1;
            (out[x], out[y]) = (out[x] * c + out[y] * s, out[y] * c - out[x] * s);
            ([x, y], c.hypot(s))
        };
        (0..rotary.rotary_dim as usize / 2).map(&mut turn).collect()
    }

    /// o_i and lse_i.
    pub(crate) fn row(&self, b: u32, h: u32, i: u32) -> Row {
        let keys = self.problem.keys(b, i);
        let s: Vec<f64> = keys.clone().map(|j| self.score(b, h, i, j).s).collect();
        let softmax = Softmax::new(&s, self.sink(b, h, i));
        let mut out = vec![0.0; self.problem.spec.v_head_dim as usize];
        for (j, s) in keys.zip(&s).filter(|(_, s)| **s != f64::NEG_INFINITY) {
            let p = softmax.weight(*s);
            out.iter_mut().zip(self.v_row(b, self.kv_head(h), j).0).for_each(|(o, v)| *o += p * v);
            for row in self.value_rows(b, h, i, j) {
                out.iter_mut().zip(row).for_each(|(o, e)| *o += p * *e as f64);
            }
        }
        self.turn_back(b, h, i, &mut out);
        Row { out, lse: softmax.lse() }
    }
}

/// The softmax of scores and a sink.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Softmax {
    /// The largest score; -inf of nothing, NaN if any score is.
    pub(crate) max: f64,
    /// sum exp(s - max).
    pub(crate) sum: f64,
}

impl Softmax {
    pub(crate) fn new(s: &[f64], sink: Option<f64>) -> Self {
        let all = || s.iter().copied().chain(sink);
        let max = all().fold(f64::NEG_INFINITY, |m, x| if x > m || x.is_nan() { x } else { m });
        let sum = if max == f64::NEG_INFINITY { 0.0 } else { all().map(|s| (s - max).exp()).sum::<f64>() };
        Softmax { max, sum }
    }
    /// The weight of a score. Not exp(s - lse): beside a score of 1e15 the logarithm of the sum is lost.
    pub(crate) fn weight(&self, s: f64) -> f64 {
        (s - self.max).exp() / self.sum
    }
    /// log sum exp; -inf of nothing, NaN if any score is.
    pub(crate) fn lse(&self) -> f64 {
        if self.max == f64::NEG_INFINITY { self.max } else { self.max + self.sum.ln() }
    }
}

/// Eight partial sums: fast, and closer to the exact sum than one.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for l in 0..8 {
            sums[l] += a[l] * b[l];
        }
    }
    rest + sums.iter().sum::<f64>()
}
