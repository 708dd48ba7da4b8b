//! Linear attention: a state in place of the softmax, O(n d^2) work, O(d v_d) memory a head.
//!
//! ```text
//! S_t = Gamma_t S_{t-1} + k_t^T v_t      z_t = z_{t-1} + k'_t      k = R phi(x) or phi(R x), k' the same without a rotation
//! o_t = scale q_t S_t / (scale q'_t (z_t + eps_feature) + eps)                               behind phi; without a causal
//!                                                                                            mask t is the last key
//! ```
//!
//! Rotation behind the feature map turns the numerator only (RoFormer, section 3.3, equation 19): the denominator stays
//! positive. Performer rotates before its feature map.

use crate::check::{Bounded, HUGE, MAGNITUDE, SECOND_ORDER, TINY, TRIG, U, UNDERFLOW, g, least_normal, stored};
use crate::plan::{MAX_DISPATCHES, too_many_dispatches};
use crate::reference::Angles;
use crate::{Angle, Error, Inputs, Kernel, Limits, Problem, Result, Rotary, Spec, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The most features of a feature map.
pub const MAX_FEATURES: u32 = 512;

/// phi: what q and k become, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum FeatureMap {
    /// phi(x) = x (RetNet, ONNX LinearAttention).
    Identity,
    /// elu(x) + 1: x + 1 from 0 on, exp(x) below (Katharopoulos et al. 2020, RoFormer).
    Elu,
    /// Positive random features of the softmax kernel (Choromanski et al. 2021, Performer), c = head_dim^(-1/4), w the rows of
    /// the parameter `projection` `[count, head_dim]`:
    /// phi_f(x) = count^(-1/2) (exp(c w_f.x - c^2 |x|^2 / 2 - m) + eps), m the largest c w_f.x of a query's own features, or of
    /// all keys' of a head.
    Softmax {
        /// Features.
        count: u32,
        /// 1e-4 in the original code.
        eps: f64,
    },
}

/// The denominator scale q (z + eps_feature) + eps; where it is 0, so is o.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Normalizer {
    /// Added to the denominator.
    #[serde(default)]
    pub eps: f64,
    /// Added to every element of z.
    #[serde(default)]
    pub eps_feature: f64,
}

impl Normalizer {
    /// A denominator with these eps.
    pub fn new(eps: f64, eps_feature: f64) -> Self {
        Normalizer { eps, eps_feature }
    }
}

/// Gamma: what multiplies the state before a key joins it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decay {
    /// 1 - 2^(-5 - g) of kv head g (RetNet).
    Retention,
    /// One factor for each kv head.
    Heads(Vec<f64>),
    /// exp(g) of every token and kv head: the input `decay` is `[batch, capacity, num_kv_heads]`.
    Token,
    /// exp(g) of every token, kv head and feature: the input `decay` is `[batch, capacity, num_kv_heads, features]`.
    Feature,
}

/// Linear attention in place of the softmax: what [`Kernel::Linear`] computes.
///
/// Of the other fields of a [`Spec`] it takes heads, dims, storage, rotation, positions, `softmax_scale`, `kv_lens`,
/// `mask.causal` and `mask.alignment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Linear {
    /// phi.
    pub features: FeatureMap,
    /// R turns phi(x), in the numerator only, instead of x.
    #[serde(default)]
    pub rotate_features: bool,
    /// The denominator; `None`: o = scale q S.
    #[serde(default)]
    pub normalizer: Option<Normalizer>,
    /// Gamma; `None`: nothing is forgotten.
    #[serde(default)]
    pub decay: Option<Decay>,
    /// The state to start from is given: `initial_state`, and with a normalizer `initial_normalizer`; in a plan, what `work` holds.
    #[serde(default)]
    pub initial_state: bool,
}

impl Linear {
    /// This feature map and nothing else.
    pub fn new(features: FeatureMap) -> Self {
        Linear { features, rotate_features: false, normalizer: None, decay: None, initial_state: false }
    }

    /// Gamma of every kv head, where it does not depend on the token.
    pub(crate) fn gammas(&self, kv_heads: u32) -> Option<Vec<f64>> {
        match self.decay.as_ref()? {
            Decay::Retention => Some((0..kv_heads).map(|g| 1.0 - 2f64.powi(-5 - g as i32)).collect()),
            Decay::Heads(gammas) => Some(gammas.clone()),
            Decay::Token | Decay::Feature => None,
        }
    }

    /// Names for reports and labels.
    pub(crate) fn terms(&self) -> Vec<String> {
        let map = match self.features {
            FeatureMap::Identity => "identity".into(),
            FeatureMap::Elu => "elu".into(),
            FeatureMap::Softmax { count, .. } => format!("softmax {count}"),
        };
        let mut terms = vec![format!("linear({map}{})", if self.rotate_features { " rotated after" } else { "" })];
        if self.normalizer.is_some() {
            terms.push("normalizer".into());
        }
        terms.extend(self.decay.as_ref().map(|decay| match decay {
            Decay::Retention | Decay::Heads(_) => "decay(head)".to_string(),
            Decay::Token => "decay(token)".into(),
            Decay::Feature => "decay(feature)".into(),
        }));
        if self.initial_state {
            terms.push("state".into());
        }
        terms
    }

    pub(crate) fn validate(&self, spec: &Spec) -> Result<()> {
        let err = |field: &str, problem: String, help: &str| Err(Error::spec(format!("linear.{field}"), problem, help));
        let small = |x: f64| x.is_finite() && (0.0..=1e6).contains(&x);
        if let FeatureMap::Softmax { count, eps } = self.features {
            if count == 0 || count > MAX_FEATURES {
                return err("features.softmax.count", format!("is {count}"), &format!("give 1 to {MAX_FEATURES}"));
            }
            if !small(eps) {
                return err("features.softmax.eps", format!("is {eps}"), "give a number from 0 to 1e6 (1e-4)");
            }
            if self.rotate_features {
                let help = "rotate before random features: they have no pairs";
                return err("rotate_features", "is set with features.softmax".into(), help);
            }
        }
        if self.rotate_features && spec.rotary.is_none() {
            return err("rotate_features", "is set without rotary".into(), "give the rotation, or leave it out");
        }
        if let Some(n) = &self.normalizer {
            for (field, x) in [("normalizer.eps", n.eps), ("normalizer.eps_feature", n.eps_feature)] {
                if !small(x) {
                    return err(field, format!("is {x}"), "give a number from 0 to 1e6");
                }
            }
            if self.decay.is_some() {
                return err("normalizer", "is given beside decay".into(), "give one of the two");
            }
        }
        if let Some(gammas) = self.gammas(spec.num_kv_heads) {
            if gammas.len() != spec.num_kv_heads as usize {
                let problem = format!("holds {} factors", gammas.len());
                return err("decay.heads", problem, &format!("give one for each of {} kv heads", spec.num_kv_heads));
            }
            if let Some(x) = gammas.iter().find(|x| !(0.0..=1.0).contains(*x)) {
                return err("decay.heads", format!("holds {x}"), "give factors from 0 to 1");
            }
        }
        let mask = &spec.mask;
        let rotary = spec.rotary.as_ref();
        let others = [
            ("bias", !spec.bias.is_empty()),
            ("dense_bias", spec.dense_bias),
            ("logits_soft_cap", spec.logits_soft_cap.is_some()),
            ("mask.window_left", mask.window_left.is_some()),
            ("mask.window_right", mask.window_right.is_some()),
            ("mask.chunk", mask.chunk.is_some()),
            ("mask.dense", mask.dense),
            ("norm", spec.norm.is_some()),
            ("temperature", spec.temperature.is_some()),
            ("head_scale", spec.head_scale),
            ("content_bias", spec.content_bias),
            ("relative", !spec.relative.is_empty()),
            ("sink", spec.sink.is_some()),
            ("packed", spec.packed),
            ("score_mod", spec.score_mod.is_some()),
            ("mask_mod", spec.mask_mod.is_some()),
            ("gated_bias", spec.gated_bias),
            ("rotary.values", rotary.is_some_and(|r| r.values)),
        ];
        match others.iter().find(|(_, set)| *set) {
            Some((field, _)) => Err(Error::spec(*field, "is set beside linear", "linear attention has no such term")),
            None => Ok(()),
        }
    }
}

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

/// The inputs of `linear` against the spec.
pub(crate) fn check_inputs(spec: &Spec, inputs: &Inputs, batch: u32, capacity: u32) -> Result<()> {
    let linear = spec.linear.as_ref();
    let (features, kv_heads) = (spec.features() as u64, spec.num_kv_heads as u64);
    let state = linear.is_some_and(|l| l.initial_state);
    let normalizer = state && linear.is_some_and(|l| l.normalizer.is_some());
    let decay = match linear.and_then(|l| l.decay.as_ref()) {
        Some(Decay::Token) => Some(1),
        Some(Decay::Feature) => Some(features),
        _ => None,
    };
    let rows = batch as u64 * kv_heads;
    let wanted = [
        ("initial_state", &inputs.initial_state, state.then_some(rows * features * spec.v_head_dim as u64)),
        ("initial_normalizer", &inputs.initial_normalizer, normalizer.then_some(rows * features)),
        ("decay", &inputs.decay, decay.map(|d| rows * capacity as u64 * d)),
    ];
    for (name, given, want) in wanted {
        match (given, want) {
            (Some(x), Some(want)) if x.len() as u64 == want => {}
            (None, None) => {}
            (None, Some(want)) => return Err(Error::input(name, "is missing", format!("give {want} values"))),
            (Some(_), None) => {
                return Err(Error::input(
                    name,
                    "is given, but the spec does not use it",
                    "set it in linear, or leave it out",
                ));
            }
            (Some(x), Some(want)) => {
                return Err(Error::input(name, format!("{} values", x.len()), format!("give {want} of them")));
            }
        }
    }
    Ok(())
}

/// The result of linear attention. `T` is f32 from a GPU and f64 from the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearOutput<T> {
    /// `[batch, q_len, num_heads, v_head_dim]`.
    pub out_shape: [u32; 4],
    /// o, row-major in `out_shape`.
    pub out: Vec<T>,
    /// S after the last key, `[batch, num_kv_heads, features, v_head_dim]`.
    pub state: Vec<T>,
    /// z after the last key, `[batch, num_kv_heads, features]`; empty without a normalizer.
    pub normalizer: Vec<T>,
}

/// Bounds of everything in a [`LinearOutput`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinearBounds {
    /// `out`.
    pub out: Bounded,
    /// `state`.
    pub state: Bounded,
    /// `normalizer`.
    pub normalizer: Bounded,
}

/// A row with how far each element of a GPU's may be off.
#[derive(Clone, Default)]
struct Row {
    x: Vec<f64>,
    error: Vec<f64>,
}

/// The position of a token in every stream, and 1 for a query, -1 for a key (xPos).
type Turn = ([i32; 3], f64);

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

struct Maker<'a> {
    problem: &'a Problem<'a>,
    linear: &'a Linear,
    angles: Option<Angles<'a>>,
    gammas: Option<Vec<f64>>,
    /// e: what a rotated element errs by, relative to its pair's length.
    rotation: f64,
}

impl<'a> Maker<'a> {
    fn new(problem: &'a Problem<'a>) -> Result<Self> {
        let spec = problem.spec;
        let trig = spec.rotary.as_ref().map(|r| {
            let magnitude = if r.xpos.is_some() { MAGNITUDE } else { 0.0 };
            magnitude + if r.angle == Angle::Table { 0.0 } else { TRIG }
        });
        let linear = spec.expect_linear()?;
        Ok(Maker {
            problem,
            linear,
            gammas: linear.gammas(spec.num_kv_heads),
            angles: spec.rotary.as_ref().map(|r| Angles::new(r, problem.inputs)),
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
            let (c, s) = angles.cos_sin(positions[rotary.stream(p)], p, side);
            let ([a, b], [to_a, to_b]) = rotary.pair(p);
            out.x[to_a] = row.x[a] * c - row.x[b] * s;
            out.x[to_b] = row.x[a] * s + row.x[b] * c;
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
        let (spec, inputs) = (self.problem.spec, self.problem.inputs);
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

fn head(maker: &Maker, b: u32, h: u32) -> HeadResult {
    let problem = maker.problem;
    let (spec, linear) = (problem.spec, maker.linear);
    let (kv_head, v_dim, n) = (h / spec.group(), spec.v_head_dim as usize, spec.features() as usize);
    let (q_len, kv_len) = (problem.shape.q_len as i64, problem.kv_len(b) as i64);
    let scale = spec.scale();
    let state_of = |given: &Option<Vec<f32>>, words: usize| -> Vec<Sum> {
        let start = (b as usize * spec.num_kv_heads as usize + kv_head as usize) * words;
        let given = given.as_ref().and_then(|g| g.get(start..start + words));
        let f32s = least_normal(crate::Dtype::F32);
        match given {
            Some(given) => given.iter().map(|x| Sum::given(*x as f64, f32s)).collect(),
            None => vec![Sum::default(); words],
        }
    };
    let mut state = state_of(&problem.inputs.initial_state, n * v_dim);
    let mut z = state_of(&problem.inputs.initial_normalizer, n);
    let most = maker.most(b, kv_head);
    let mut added = 1.0; // keys so far
    let mut result =
        HeadResult { out: vec![(0.0, 0.0); q_len as usize * v_dim], state: Vec::new(), normalizer: Vec::new() };

    let mut query = |i: i64, state: &[Sum], z: &[Sum], added: f64| {
        let q = maker.query(b, h, i as u32);
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
            let (mut sum, mut error, mut size) = (0.0, 0.0, 0.0);
            for (f, (x, e)) in turned.x.iter().zip(&turned.error).enumerate() {
                let s = &state[f * v_dim + c];
                let (wrong, of) = dot_error(*x, *e, s);
                sum += x * s.value;
                error += wrong;
                size += of;
            }
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
            let stored = if value.is_nan() { 0.0 } else { stored(spec.dtype, value, bound + TINY) };
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
            let k = maker.key(b, kv_head, j, most);
            let v: Vec<f64> = problem.inputs.v.row(b, j, kv_head).collect();
            let v_lost: Vec<f64> = problem.inputs.v.lost(b, j, kv_head).collect();
            let turned = k.turned();
            for f in 0..n {
                let decay = maker.decay(b, kv_head, j, f);
                for c in 0..v_dim {
                    let s = &mut state[f * v_dim + c];
                    if let Some(decay) = decay {
                        s.decay(decay);
                    }
                    let flushed = turned.x[f].abs() * v_lost[c];
                    s.add(turned.x[f] * v[c], turned.error[f] * v[c].abs() + flushed + UNDERFLOW);
                }
                z[f].add(k.plain.x[f], k.plain.error[f]);
            }
            added += 1.0;
        }
        if (0..q_len).contains(&(time - offset)) {
            query(time - offset, &state, &z, added);
        }
    }
    let bounded = |s: &Sum| {
        let bound = SECOND_ORDER * s.bound(added) + TINY;
        match s.value.is_nan() {
            true => (s.value, 0.0),
            false => (s.value, if s.size > HUGE || bound.is_nan() { f64::INFINITY } else { bound }),
        }
    };
    result.state = state.iter().map(bounded).collect();
    if linear.normalizer.is_some() {
        result.normalizer = z.iter().map(bounded).collect();
    }
    result
}

fn solve(spec: &Spec, inputs: &Inputs) -> Result<LinearBounds> {
    let problem = Problem::new(spec, inputs)?;
    let maker = Maker::new(&problem)?;
    let (batch, heads, q_len, v_dim) = (problem.shape.batch, spec.num_heads, problem.shape.q_len, spec.v_head_dim);
    let all: Vec<[u32; 2]> = (0..batch).flat_map(|b| (0..heads).map(move |h| [b, h])).collect();
    let results: Vec<HeadResult> = all.par_iter().map(|[b, h]| head(&maker, *b, *h)).collect();
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
/// decay's relative error for every step that a key has stood in it); q S sums features; the division errs by its parts. NaN must be NaN.
pub fn bounds(spec: &Spec, inputs: &Inputs) -> Result<LinearBounds> {
    solve(spec, inputs)
}

/// What `rotate` gives for a spec of linear attention: R phi(x) or R x, with bounds; q, then k.
pub(crate) fn rotated(problem: &Problem) -> Result<[Bounded; 2]> {
    let maker = Maker::new(problem)?;
    let spec = problem.spec;
    let one = |t: &Tensor, positions: &dyn Fn(u32, u32) -> Turn, used: &dyn Fn(u32) -> u32| {
        let [batch, len, heads, _] = t.shape();
        let mut all = Bounded::default();
        for b in 0..batch {
            for token in 0..len {
                for h in 0..heads {
                    let at = positions(b, token);
                    let row = maker.input(t, [b, token, h], at);
                    let row = match spec.rotates_features() {
                        Some(_) => maker.both(maker.features(row, None), at).turned.unwrap_or_default(),
                        None => row,
                    };
                    for (x, error) in row.x.iter().zip(&row.error) {
                        let bound = if token < used(b) { stored(spec.dtype, *x, *error) } else { f64::INFINITY };
                        all.push((*x, bound));
                    }
                }
            }
        }
        all
    };
    let q = one(&problem.inputs.q, &|b, i| (problem.q_positions(b, i), 1.0), &|_| u32::MAX);
    let k = one(&problem.inputs.k, &|b, j| (problem.k_positions(b, j), -1.0), &|b| problem.kv_len(b));
    Ok([q, k])
}

/// Where the parts of `work` stand, in words: S, then z of every workgroup, then the stabiliser of every workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateLayout {
    pub(crate) normalizer: u64,
    pub(crate) maximum: u64,
    pub(crate) words: u64,
}

impl StateLayout {
    pub(crate) fn new(spec: &Spec, batch: u32) -> Self {
        let units = batch as u64 * spec.num_heads as u64 * v_tiles(spec) as u64;
        let (features, linear) = (spec.features() as u64, spec.linear.as_ref());
        let normalizer = batch as u64 * spec.num_heads as u64 * features * spec.v_head_dim as u64;
        let maximum = normalizer + if linear.is_some_and(|l| l.normalizer.is_some()) { units * features } else { 0 };
        let stabilised = linear.is_some_and(|l| matches!(l.features, FeatureMap::Softmax { .. }));
        StateLayout { normalizer, maximum, words: maximum + if stabilised { units } else { 0 } }
    }
}

/// f32 of every token and kv head in `dense`.
pub(crate) fn decay_width(spec: &Spec) -> u64 {
    match spec.linear.as_ref().and_then(|l| l.decay.as_ref()) {
        Some(Decay::Token) => 1,
        Some(Decay::Feature) => spec.features() as u64,
        _ => 0,
    }
}

/// Tiles of the columns of v.
pub(crate) fn v_tiles(spec: &Spec) -> u32 {
    spec.v_head_dim.div_ceil(crate::tuning::TILE_Q)
}

/// Times of a tile: what workgroup memory holds of features, outputs and what the variant adds.
pub(crate) fn tile_t(spec: &Spec, workgroup_storage: u32) -> u32 {
    let (features, head) = (16 * spec.features().div_ceil(4), 16 * spec.head_dim.div_ceil(4));
    let (mut each, mut once) = (2 * features + 4 * crate::tuning::TILE_Q, 0);
    if let Some(linear) = &spec.linear {
        if linear.normalizer.is_some() {
            (each, once) = (each + 4, once + features + 16);
        }
        if let FeatureMap::Softmax { .. } = linear.features {
            each += head + 4;
        }
        each += match linear.decay {
            Some(Decay::Token) => 4,
            Some(Decay::Feature) => features,
            _ => 0,
        };
    }
    // padding between the arrays
    (workgroup_storage.saturating_sub(once + 64) / each).clamp(1, 32)
}

/// Times before the first token: those of the pass over keys for their stabiliser.
pub(crate) fn prepare_times(spec: &Spec, kv_len: u32) -> u64 {
    match spec.linear.as_ref().map(|l| l.features) {
        Some(FeatureMap::Softmax { .. }) => kv_len as u64,
        _ => 0,
    }
}

/// The ranges of time of one workgroup's dispatches, in order, and the work of the longest.
pub(crate) fn times(spec: &Spec, q_len: u32, kv_len: u32, tile: u32, limits: &Limits) -> Result<(Vec<[u32; 2]>, f64)> {
    let chunks = spec.features().div_ceil(4);
    let head = spec.head_dim.div_ceil(4);
    let pairs = spec.rotary.as_ref().map_or(0, |r| r.rotary_dim / 2);
    let linear = spec.linear.as_ref();
    let softmax = linear.is_some_and(|l| matches!(l.features, FeatureMap::Softmax { .. }));
    let normalized = linear.is_some_and(|l| l.normalizer.is_some());
    // rounds of the loops in kernel/linear, feature/, normalizer/, turn/, decay/: once a dispatch, a tile
    let each = tile * chunks / 64 + 1;
    let mut rounds = 6 * head + 2 * pairs + 4 * chunks + tile * (2 * chunks + 2) + 2 * each + tile / 4 + 4;
    if normalized {
        rounds += chunks * (tile + 3) + (chunks / 64 + 1) * tile;
    }
    if softmax {
        rounds += 2 * each * (4 * head + 6) + 4 * head + 2 * chunks;
    }
    let once = 8 * chunks + 200;
    let by_rounds = limits.max_loop_rounds.saturating_sub(once) / rounds;
    let weights = if softmax { 4.0 * (4 * chunks * 4 * head) as f64 } else { 40.0 * 4.0 * head as f64 };
    let flop = 64.0 * 20.0 * chunks as f64 + weights + if normalized { (8 * chunks * (tile + 2)) as f64 } else { 0.0 };
    let by_flop = (limits.max_flop_per_dispatch / (flop * tile as f64)).min(1e9) as u32;
    let by = by_rounds.min(by_flop).max(1) as u64 * tile as u64;

    let causal = spec.mask.causal;
    let tokens = if causal { q_len.max(kv_len) as u64 } else { q_len as u64 + kv_len as u64 };
    let prepare = prepare_times(spec, kv_len);
    if (prepare + tokens) / by > MAX_DISPATCHES {
        return Err(too_many_dispatches());
    }
    let cut = |first: u64, end: u64| {
        (first..end).step_by(by as usize).map(move |t| [t as u32, (t + by).min(end) as u32]).collect::<Vec<_>>()
    };
    let mut ranges = cut(0, prepare);
    ranges.extend(cut(prepare, prepare + tokens));
    Ok((ranges, flop * by.min(tokens) as f64))
}

/// The state of every query head, as `work` holds it, from that of every kv head.
#[cfg(feature = "wgpu")]
pub(crate) fn expand_state(spec: &Spec, inputs: &Inputs, batch: u32, words: usize) -> Vec<f32> {
    let layout = StateLayout::new(spec, batch);
    let (n, v_dim) = (spec.features() as usize, spec.v_head_dim as usize);
    let mut work = vec![0.0; words];
    let heads = (0..batch).flat_map(|b| (0..spec.num_heads).map(move |h| (b, h)));
    for (unit, (b, h)) in heads.enumerate() {
        let kv = b as usize * spec.num_kv_heads as usize + (h / spec.group()) as usize;
        let mut copy = |from: &Option<Vec<f32>>, len: usize, to: usize| {
            let from = from.as_ref().and_then(|s| s.get(kv * len..(kv + 1) * len));
            if let (Some(from), Some(to)) = (from, work.get_mut(to..to + len)) {
                to.copy_from_slice(from);
            }
        };
        copy(&inputs.initial_state, n * v_dim, unit * n * v_dim);
        for tile in 0..v_tiles(spec) as usize {
            let at = (unit * v_tiles(spec) as usize + tile) * n + layout.normalizer as usize;
            copy(&inputs.initial_normalizer, n, at);
        }
    }
    work
}

impl Kernel {
    /// Whether the spec suits the kernel.
    pub(crate) fn suits(self, spec: &Spec) -> Result<()> {
        match self {
            Kernel::Attention | Kernel::Scores => spec.expect_softmax(),
            Kernel::Linear => spec.expect_linear().map(|_| ()),
            Kernel::RotateQ { .. } | Kernel::RotateK { .. } | Kernel::Embed { .. } => Ok(()),
        }
    }
}
