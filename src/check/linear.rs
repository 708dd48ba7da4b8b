//! Linear attention: a bound for every element. Values and their errors are carried side by side, by arithmetic that the reference does
//! not share.

use crate::check::bound::{Bounded, HUGE, MAGNITUDE, PHASE, Row, SECOND_ORDER, TINY, TRIG, U, UNDERFLOW, g, stored};
use crate::check::delta::{Column, DeltaStep};
use crate::equation::dtype::Dtype;
use crate::equation::linear::{Decay, FeatureMap, Linear};
use crate::equation::rotary::rotary::{Angle, Rotary};
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::inputs::tensor::Tensor;
use crate::plan::kernel::Kernel;
use crate::reference::angles::Angles;
use rayon::prelude::*;

impl Spec {
    /// Features of q and k: those of `linear`, or `head_dim`.
    pub fn features(&self) -> u32 {
        match self.linear.as_ref().map(|l| l.features) {
            Some(FeatureMap::Softmax { count, .. }) => count,
            _ => self.head_dim,
        }
    }

    /// An error if the spec is one of linear attention.
    pub(crate) fn expect_softmax(&self) -> Result<()> {
        match self.linear {
            Some(_) => {
                Err(Error::spec("linear", "is set where a softmax is asked for", "call `linear`, or leave it out"))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn expect_linear(&self) -> Result<&Linear> {
        self.linear.as_ref().ok_or_else(|| {
            Error::spec(
                "linear",
                "is not set",
                "set the feature map, or call `attention`: this one replaces the softmax",
            )
        })
    }

    /// Whether `rotate` applies phi first.
    pub(crate) fn rotates_features(&self) -> Option<FeatureMap> {
        self.linear.as_ref().filter(|l| l.rotate_features).map(|l| l.features)
    }
}

/// Bounds of everything in a [`LinearOutput`](crate::LinearOutput).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinearBounds {
    /// `out`.
    pub out: Bounded,
    /// `state`.
    pub state: Bounded,
    /// `normalizer`.
    pub normalizer: Bounded,
}

/// The position of a token in every stream, and 1 for a query, -1 for a key (xPos).
type Turn = ([i32; 4], f64);

/// Features of one row: phi before a rotation behind it, and what enters the numerator.
struct Features {
    plain: Row,
    turned: Option<Row>,
}

impl Features {
    fn turned(&self) -> &Row {
        self.turned.as_ref().unwrap_or(&self.plain)
    }
}

struct FeatureRows<'a> {
    problem: &'a Problem<'a>,
    linear: &'a Linear,
    angles: Option<Angles<'a>>,
    gammas: Option<Vec<f64>>,
    /// e: what a rotated element errs by, relative to its pair's length.
    rotation: f64,
}

impl<'a> FeatureRows<'a> {
    fn new(problem: &'a Problem<'a>) -> Result<Self> {
        let spec = problem.spec;
        let trig = spec.rotary.as_ref().map(|r| {
            let magnitude = if r.xpos.is_some() { MAGNITUDE } else { 0.0 };
            // the phase of each stream more is cut off at 2^-32 turns
            let streams = r.sums().map_or(0.0, |s| (s.streams - 1) as f64 * PHASE);
            magnitude + if r.angle == Angle::Table { 0.0 } else { TRIG + streams }
        });
        let linear = spec.expect_linear()?;
        Ok(FeatureRows {
            problem,
            linear,
            gammas: linear.gammas(spec.num_kv_heads),
            angles: spec.rotary.as_ref().map(|r| Angles::new(r, &problem.inputs)),
            rotation: trig.map_or(0.0, |trig| 2f64.sqrt() * (trig + 2.0 * U) + 2.0 * U),
        })
    }

    fn load(&self, t: &Tensor, b: u32, token: u32, head: u32) -> Row {
        Row { x: t.row(b, token, head).collect(), error: t.lost(b, token, head).collect() }
    }

    fn rotate(&self, rotary: &Rotary, row: &Row, (positions, side): Turn) -> Row {
        let mut out = row.clone();
        let Some(angles) = &self.angles else { return out };
        for p in 0..rotary.rotary_dim as usize / 2 {
            let [(c, s), (c_b, s_b)] = angles.turn(positions, 0, p, side);
            let ([a, b], [to_a, to_b]) = rotary.pair(p);
            out.x[to_a] = row.x[a] * c - row.x[b] * s;
            out.x[to_b] = row.x[a] * s_b + row.x[b] * c_b;
            let error = self.rotation * row.x[a].hypot(row.x[b]) + row.error[a].hypot(row.error[b]);
            (out.error[to_a], out.error[to_b]) = (error * c.hypot(s), error * c.hypot(s));
        }
        out
    }

    /// x, rotated if rotation stands before the features.
    fn input(&self, t: &Tensor, at: [u32; 3], turn: Turn) -> Row {
        let row = self.load(t, at[0], at[1], at[2]);
        match &self.problem.spec.rotary {
            Some(rotary) if !self.linear.rotate_features => self.rotate(rotary, &row, turn),
            _ => row,
        }
    }

    /// c w_f.x of every feature, and its error.
    fn projected(&self, row: &Row, count: u32) -> Row {
        let dim = row.x.len();
        let c = (dim as f64).powf(-0.25);
        let weights = self.problem.parameter("projection");
        let mut out = Row::default();
        for w in weights.chunks_exact(dim).take(count as usize) {
            let (mut sum, mut size, mut error) = (0.0, 0.0, 0.0);
            for ((x, e), w) in row.x.iter().zip(&row.error).zip(w) {
                sum += x * *w as f64;
                size += (x * *w as f64).abs();
                error += e * w.abs() as f64;
            }
            out.x.push(c * sum);
            out.error.push(c * (error + size * (g(dim.div_ceil(4) as f64 + 3.0) + 4.0 * U)) + UNDERFLOW * dim as f64);
        }
        out
    }

    /// phi; `most` is the stabiliser of random features (its value and error), a query's own where there is none.
    fn features(&self, row: Row, most: Option<(f64, f64)>) -> Row {
        let exp = |y: f64, error: f64| {
            let value = y.exp();
            (value, value * ((error + U * (8.8 * y.abs() + 6.0)).exp_m1()) + UNDERFLOW)
        };
        match self.linear.features {
            FeatureMap::Identity => row,
            FeatureMap::Elu => {
                let one = |(x, error): (&f64, &f64)| match *x >= 0.0 {
                    true => (x + 1.0, error + U * (x + 1.0)),
                    false if x.is_nan() => (*x, 0.0),
                    false => exp(*x, *error),
                };
                let (x, error) = row.x.iter().zip(&row.error).map(one).unzip();
                Row { x, error }
            }
            // exact, and no farther apart than the arguments
            FeatureMap::Relu => Row { x: row.x.iter().map(|x| if *x < 0.0 { 0.0 } else { *x }).collect(), ..row },
            FeatureMap::Softmax { count, eps } => {
                let dim = row.x.len() as f64;
                let (square, ratio) = (dim.powf(-0.5), (count as f64).powf(-0.5));
                let p = self.projected(&row, count);
                let own = || largest(&p);
                let (most, most_error) = most.unwrap_or_else(own);
                let half = 0.5 * square * row.x.iter().map(|x| x * x).sum::<f64>();
                let of_half = square * row.x.iter().zip(&row.error).map(|(x, e)| x.abs() * e).sum::<f64>()
                    + half * (g(dim / 4.0 + 4.0) + 5.0 * U);
                let one = |(p, error): (&f64, &f64)| {
                    let y = p - half - most;
                    let sizes = 3.0 * U * (p.abs() + half + most.abs());
                    let (value, wrong) = exp(y, error + of_half + most_error + sizes);
                    (ratio * (value + eps), ratio * (wrong + 4.0 * U * (value + eps)))
                };
                let (x, error) = p.x.iter().zip(&p.error).map(one).unzip();
                Row { x, error }
            }
        }
    }

    fn both(&self, plain: Row, turn: Turn) -> Features {
        let turned = match &self.problem.spec.rotary {
            Some(rotary) if self.linear.rotate_features => Some(self.rotate(rotary, &plain, turn)),
            _ => None,
        };
        Features { plain, turned }
    }

    fn query(&self, b: u32, h: u32, i: u32) -> Features {
        let turn = (self.problem.q_positions(b, i), 1.0);
        self.both(self.features(self.input(&self.problem.inputs.q, [b, i, h], turn), None), turn)
    }

    fn key(&self, b: u32, kv_head: u32, j: u32, most: Option<(f64, f64)>) -> Features {
        let turn = (self.problem.k_positions(b, j), -1.0);
        let row = self.input(&self.problem.inputs.k, [b, j, kv_head], turn);
        self.both(self.features(row, most), turn)
    }

    /// The stabiliser of a head's keys.
    fn most(&self, b: u32, kv_head: u32) -> Option<(f64, f64)> {
        let FeatureMap::Softmax { count, .. } = self.linear.features else { return None };
        let each = (0..self.problem.kv_len(b)).map(|j| {
            let row = self.input(&self.problem.inputs.k, [b, j, kv_head], (self.problem.k_positions(b, j), -1.0));
            largest(&self.projected(&row, count))
        });
        Some(each.fold((STABILISER_FLOOR, 0.0), |m, x| (m.0.max(x.0), m.1.max(x.1))))
    }

    /// Gamma of a key, feature by feature, and the relative error of one multiplication with it.
    fn decay(&self, b: u32, kv_head: u32, j: u32, feature: usize) -> Option<(f64, f64)> {
        let (spec, inputs) = (self.problem.spec, &*self.problem.inputs);
        let token = (b as usize * self.problem.shape.kv_len as usize + j as usize) * spec.num_kv_heads as usize;
        let of = |at: usize| inputs.decay.as_ref().and_then(|d| d.get(at)).copied().unwrap_or(0.0) as f64;
        let row = token + kv_head as usize;
        let exp = |x: f64| (x.exp(), U * (8.8 * x.abs() + 8.0));
        match self.linear.decay.as_ref()? {
            Decay::Token => Some(exp(of(row))),
            Decay::Feature => Some(exp(of(row * spec.features() as usize + feature))),
            Decay::Retention | Decay::Heads(_) => Some((*self.gammas.as_ref()?.get(kv_head as usize)?, 2.0 * U)),
        }
    }
}

impl FeatureRows<'_> {
    /// beta of a key, of the delta rule.
    fn beta(&self, b: u32, kv_head: u32, j: u32) -> f64 {
        let inputs = &*self.problem.inputs;
        let token = b as usize * self.problem.shape.kv_len as usize + j as usize;
        let at = token * self.problem.spec.num_kv_heads as usize + kv_head as usize;
        let beta = inputs.beta.as_ref().and_then(|beta| beta.get(at)).copied().unwrap_or(0.0);
        beta as f64
    }
}

/// The least that features are stabilised by; NaN counts for nothing.
const STABILISER_FLOOR: f64 = -3e38;

fn largest(row: &Row) -> (f64, f64) {
    let most = row.x.iter().copied().fold(STABILISER_FLOOR, f64::max);
    (most, row.error.iter().copied().fold(0.0, f64::max))
}

/// A sum over keys: its value, the sum of the sizes of what joined it, and how far a GPU's may be off because of what
/// joined it and of its decay.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    size: f64,
    error: f64,
}

impl Sum {
    fn given(value: f64, least: f64) -> Self {
        Sum { value, size: value.abs(), error: if value.abs() < least { value.abs() } else { 0.0 } }
    }
    fn decay(&mut self, (gamma, relative): (f64, f64)) {
        self.error = gamma * (self.error + relative * self.size) + UNDERFLOW;
        self.value *= gamma;
        self.size *= gamma;
    }
    fn add(&mut self, value: f64, error: f64) {
        self.value += value;
        self.size += value.abs();
        self.error += error;
    }
    /// With the roundings of n additions and of each product.
    fn bound(&self, n: f64) -> f64 {
        self.error + (g(n) + U) * self.size
    }
}

/// One query head of one sequence.
struct HeadResult {
    /// `[q_len, v_head_dim]`.
    out: Vec<(f64, f64)>,
    state: Vec<(f64, f64)>,
    normalizer: Vec<(f64, f64)>,
}

fn head(rows: &FeatureRows, b: u32, h: u32) -> HeadResult {
    let problem = rows.problem;
    let (spec, linear) = (problem.spec, rows.linear);
    let (kv_head, v_dim, n) = (h / spec.group(), spec.v_head_dim as usize, spec.features() as usize);
    let (q_len, kv_len) = (problem.shape.q_len as i64, problem.kv_len(b) as i64);
    let scale = spec.scale();
    let state_of = |given: &Option<Vec<f32>>, words: usize| -> Vec<Sum> {
        let start = (b as usize * spec.num_kv_heads as usize + kv_head as usize) * words;
        let given = given.as_ref().and_then(|g| g.get(start..start + words));
        let f32s = Dtype::F32.least_normal();
        match given {
            Some(given) => given.iter().map(|x| Sum::given(*x as f64, f32s)).collect(),
            None => vec![Sum::default(); words],
        }
    };
    let mut state = state_of(&problem.inputs.initial_state, n * v_dim);
    let column =
        |c: usize| Column::given((0..n).map(|f| state[f * v_dim + c].value).collect(), Dtype::F32.least_normal());
    let mut columns: Vec<Column> = if linear.delta { (0..v_dim).map(column).collect() } else { Vec::new() };
    if linear.delta {
        state.clear();
    }
    let mut z = state_of(&problem.inputs.initial_normalizer, n);
    let most = rows.most(b, kv_head);
    let mut added = 1.0; // keys so far
    let mut result =
        HeadResult { out: vec![(0.0, 0.0); q_len as usize * v_dim], state: Vec::new(), normalizer: Vec::new() };

    let mut query = |i: i64, state: &[Sum], columns: &[Column], z: &[Sum], added: f64| {
        let q = rows.query(b, h, i as u32);
        let turned = q.turned();
        let dot_error = |x: f64, e: f64, s: &Sum| {
            let bound = s.bound(added);
            (x.abs() * bound + e * (s.value.abs() + bound), x.abs() * (s.value.abs() + bound))
        };
        let depth = g((n as f64 / 4.0).ceil() + 4.0) + 3.0 * U;
        let flushed = UNDERFLOW * (n as f64) * (1.0 + added);
        let denominator = linear.normalizer.map(|norm| {
            let (mut sum, mut error, mut size) = (0.0, 0.0, 0.0);
            for ((x, e), z) in q.plain.x.iter().zip(&q.plain.error).zip(z) {
                let mut with_eps = *z;
                with_eps.add(norm.eps_feature, 2.0 * U * norm.eps_feature);
                // a tile's keys are added one by one, then to z: one addition more than keys
                let (wrong, of) = dot_error(*x, *e, &with_eps);
                sum += x * with_eps.value;
                error += wrong + U * x.abs() * with_eps.size;
                size += of;
            }
            let value = scale * sum + norm.eps;
            (value, scale.abs() * (error + depth * size + flushed) + 2.0 * U * (value.abs() + norm.eps))
        });
        for c in 0..v_dim {
            let sums = || {
                let (mut sum, mut error, mut size) = (0.0, 0.0, 0.0);
                for (f, (x, e)) in turned.x.iter().zip(&turned.error).enumerate() {
                    let s = &state[f * v_dim + c];
                    let (wrong, of) = dot_error(*x, *e, s);
                    sum += x * s.value;
                    error += wrong;
                    size += of;
                }
                (sum, error, size)
            };
            let (sum, error, size) = columns.get(c).map_or_else(sums, |column| column.read(turned));
            let (value, error) = (scale * sum, scale.abs() * (error + depth * size + flushed));
            let (value, mut bound) = match denominator {
                None => (value, error),
                Some((0.0, wrong)) => (0.0, if wrong == 0.0 { 0.0 } else { f64::INFINITY }),
                Some((d, wrong)) => {
                    let (o, left) = (value / d, d.abs() - wrong);
                    let bound = (error + o.abs() * wrong) / left + 6.0 * U * o.abs();
                    (o, if left > 0.0 { bound } else { f64::INFINITY })
                }
            };
            if scale.abs() * size > HUGE || bound.is_nan() {
                bound = f64::INFINITY;
            }
            let stored = if value.is_nan() { 0.0 } else { stored(spec.out_storage(), value, bound + TINY) };
            result.out[i as usize * v_dim + c] = (value, stored);
        }
    };

    let offset = match spec.mask.causal {
        true => problem.q_index(b, 0),
        false => kv_len.max(0),
    };
    for time in offset.min(0)..kv_len.max(offset + q_len) {
        if (0..kv_len).contains(&time) {
            let j = time as u32;
            let k = rows.key(b, kv_head, j, most);
            let v: Vec<f64> = problem.inputs.v.row(b, j, kv_head).collect();
            let v_lost: Vec<f64> = problem.inputs.v.lost(b, j, kv_head).collect();
            let turned = k.turned();
            if linear.delta {
                let decays: Vec<_> = (0..n).filter_map(|f| rows.decay(b, kv_head, j, f)).collect();
                let step = DeltaStep { k: turned, decays: &decays, beta: rows.beta(b, kv_head, j) };
                let of_columns = columns.iter_mut().zip(v.iter().zip(&v_lost));
                of_columns.for_each(|(column, (v, lost))| column.step(&step, *v, *lost));
            }
            for (f, z) in z.iter_mut().enumerate() {
                let decay = rows.decay(b, kv_head, j, f);
                // of the delta rule empty
                for (c, s) in state.iter_mut().skip(f * v_dim).take(v_dim).enumerate() {
                    if let Some(decay) = decay {
                        s.decay(decay);
                    }
                    let flushed = turned.x[f].abs() * v_lost[c];
                    s.add(turned.x[f] * v[c], turned.error[f] * v[c].abs() + flushed + UNDERFLOW);
                }
                z.add(k.plain.x[f], k.plain.error[f]);
            }
            added += 1.0;
        }
        if (0..q_len).contains(&(time - offset)) {
            query(time - offset, &state, &columns, &z, added);
        }
    }
    let bounded = |s: &Sum| {
        let bound = SECOND_ORDER * s.bound(added) + TINY;
        match s.value.is_nan() {
            true => (s.value, 0.0),
            false => (s.value, if s.size > HUGE || bound.is_nan() { f64::INFINITY } else { bound }),
        }
    };
    let of_column = |(f, column): (usize, &Column)| {
        let (value, bound) = (column.x[f], SECOND_ORDER * column.error + TINY);
        (value, if value.is_nan() { 0.0 } else { bound })
    };
    result.state = match linear.delta {
        true => (0..n).flat_map(|f| columns.iter().map(move |column| (f, column))).map(of_column).collect(),
        false => state.iter().map(bounded).collect(),
    };
    if linear.normalizer.is_some() {
        result.normalizer = z.iter().map(bounded).collect();
    }
    result
}

fn solve(spec: &Spec, inputs: &Inputs) -> Result<LinearBounds> {
    let problem = Problem::new(spec, inputs)?;
    let rows = FeatureRows::new(&problem)?;
    let (batch, heads, q_len, v_dim) = (problem.shape.batch, spec.num_heads, problem.shape.q_len, spec.v_head_dim);
    let all: Vec<[u32; 2]> = (0..batch).flat_map(|b| (0..heads).map(move |h| [b, h])).collect();
    let results: Vec<HeadResult> = all.par_iter().map(|[b, h]| head(&rows, *b, *h)).collect();
    let mut bounds = LinearBounds::default();
    for b in 0..batch {
        for i in 0..q_len {
            for h in 0..heads {
                let row = (i * v_dim) as usize..((i + 1) * v_dim) as usize;
                results[(b * heads + h) as usize].out[row].iter().for_each(|o| bounds.out.push(*o));
            }
        }
        for g in 0..spec.num_kv_heads {
            let first = &results[(b * heads + g * spec.group()) as usize];
            first.state.iter().for_each(|s| bounds.state.push(*s));
            first.normalizer.iter().for_each(|z| bounds.normalizer.push(*z));
        }
    }
    Ok(bounds)
}

/// Every element of [`reference::linear`](crate::reference::linear) and how far a GPU's may be from it: features err as rows of
/// `rotate` do, and by the exponential's error where there is one; the state sums n keys (g(n) of the sum of sizes, each
/// decay's relative error for every step that a key has stood in it; under the delta rule the length of a column's error is carried through
/// each step); q S sums features; the division errs by its parts. NaN must be NaN.
pub fn bounds(spec: &Spec, inputs: &Inputs) -> Result<LinearBounds> {
    solve(spec, inputs)
}

/// What `rotate` gives for a spec of linear attention: R phi(x) or R x, with bounds; q, then k.
pub(crate) fn rotated(problem: &Problem) -> Result<[Bounded; 2]> {
    let rows = FeatureRows::new(problem)?;
    let spec = problem.spec;
    let one = |t: &Tensor, dtype: Dtype, positions: &dyn Fn(u32, u32) -> Turn, used: &dyn Fn(u32) -> u32| {
        let [batch, len, heads, _] = t.shape();
        let mut all = Bounded::default();
        for b in 0..batch {
            for token in 0..len {
                for h in 0..heads {
                    let at = positions(b, token);
                    let row = rows.input(t, [b, token, h], at);
                    let row = match spec.rotates_features() {
                        Some(_) => rows.both(rows.features(row, None), at).turned.unwrap_or_default(),
                        None => row,
                    };
                    for (x, error) in row.x.iter().zip(&row.error) {
                        let bound = if token < used(b) { stored(dtype, *x, *error) } else { f64::INFINITY };
                        all.push((*x, bound));
                    }
                }
            }
        }
        all
    };
    let q = one(&problem.inputs.q, spec.dtype, &|b, i| (problem.q_positions(b, i), 1.0), &|_| u32::MAX);
    let k = one(&problem.inputs.k, spec.k_storage(), &|b, j| (problem.k_positions(b, j), -1.0), &|b| problem.kv_len(b));
    Ok([q, k])
}

impl Kernel {
    /// Whether the spec suits the kernel.
    pub(crate) fn suits(self, spec: &Spec) -> Result<()> {
        let norm = spec.norm.filter(|norm| norm.placed());
        if norm.is_some_and(|norm| norm.all_heads) && self.in_place() && self.rotates_only() {
            let help = "rotate into another tensor";
            return Err(Error::spec("norm.all_heads", "reads heads that a rotation in place has written", help));
        }
        if norm.is_some() && spec.keys_rotated() && matches!(self, Kernel::Append { .. }) {
            let help = "norm and rotate new keys first (Kernel::RotateK), and append them as they are";
            return Err(Error::spec("norm", "is of heads or of all heads, which `append` does not compute", help));
        }
        match self {
            Kernel::Attention | Kernel::Scores | Kernel::Append { .. } => spec.expect_softmax(),
            Kernel::Linear => spec.expect_linear().map(|_| ()),
            Kernel::RotateQ { .. } | Kernel::RotateK { .. } | Kernel::Embed { .. } | Kernel::Merge => Ok(()),
        }
    }
}
