//! Linear attention in f64, straight: token by token, as the equation has it. Nothing here is known to [`crate::check`], and nothing of
//! its arithmetic is used here, so that each can be tested by the other.

use crate::equation::linear::{Decay, FeatureMap, Linear};
use crate::equation::rotary::rotary::Rotary;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::inputs::tensor::Tensor;
use crate::reference::angles::Angles;
use rayon::prelude::*;

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

/// Linear attention in f64: the twin of `Gpu::linear`.
pub fn reference(spec: &Spec, inputs: &Inputs) -> Result<LinearOutput<f64>> {
    let problem = Problem::new(spec, inputs)?;
    let rows = Rows::new(&problem)?;
    let [batch, q_len, heads] = [problem.shape.batch, problem.shape.q_len, spec.num_heads];
    let all: Vec<[u32; 2]> = (0..batch).flat_map(|b| (0..heads).map(move |h| [b, h])).collect();
    let solved: Vec<Head> = all.par_iter().map(|[b, h]| rows.head(*b, *h)).collect();
    let of = |b: u32, h: u32| &solved[(b * heads + h) as usize];
    let v_dim = spec.v_head_dim as usize;
    let mut output = LinearOutput {
        out_shape: [batch, q_len, heads, spec.v_head_dim],
        out: Vec::new(),
        state: Vec::new(),
        normalizer: Vec::new(),
    };
    for b in 0..batch {
        for i in 0..q_len as usize {
            (0..heads).for_each(|h| output.out.extend(&of(b, h).out[i * v_dim..(i + 1) * v_dim]));
        }
        for g in 0..spec.num_kv_heads {
            let first = of(b, g * spec.group());
            output.state.extend(&first.state);
            if rows.linear.normalizer.is_some() {
                output.normalizer.extend(&first.z);
            }
        }
    }
    Ok(output)
}

/// phi of q (`[batch, q_len, num_heads, features]`) and of k (`[batch, capacity, num_kv_heads, features]`; rows from kv_len on
/// are 0), before a rotation behind phi.
pub fn features(spec: &Spec, inputs: &Inputs) -> Result<(Vec<f64>, Vec<f64>)> {
    let problem = Problem::new(spec, inputs)?;
    let rows = Rows::new(&problem)?;
    let (mut q, mut k) = (Vec::new(), Vec::new());
    for b in 0..problem.shape.batch {
        for i in 0..problem.shape.q_len {
            (0..spec.num_heads).for_each(|h| q.extend(rows.query(b, h, i)));
        }
        let most: Vec<_> = (0..spec.num_kv_heads).map(|g| rows.largest_of_keys(b, g)).collect();
        for j in 0..problem.shape.kv_len {
            for (g, most) in most.iter().enumerate() {
                match j < problem.kv_len(b) {
                    true => k.extend(rows.key(b, g as u32, j, *most)),
                    false => k.extend(std::iter::repeat_n(0.0, spec.features() as usize)),
                }
            }
        }
    }
    Ok((q, k))
}

/// What `rotate` gives for a spec of linear attention: R phi(x) or R x; q, then k.
pub(crate) fn rotated(problem: &Problem) -> Result<(Vec<f64>, Vec<f64>)> {
    let rows = Rows::new(problem)?;
    let all = |t: &Tensor, positions: &dyn Fn(u32, u32) -> [i32; 4], side: f64| {
        let [batch, len, heads, _] = t.shape();
        let mut all = Vec::new();
        for [b, token] in (0..batch).flat_map(|b| (0..len).map(move |token| [b, token])) {
            for h in 0..heads {
                let x: Vec<f64> = t.row(b, token, h).collect();
                let x = if rows.linear.rotate_features { rows.phi(&x, None) } else { x };
                all.extend(rows.turn(&x, positions(b, token), side));
            }
        }
        all
    };
    let q = all(&problem.inputs.q, &|b, i| problem.q_positions(b, i), 1.0);
    let k = all(&problem.inputs.k, &|b, j| problem.k_positions(b, j), -1.0);
    Ok((q, k))
}

/// One query head of one sequence: `[q_len, v_head_dim]`, S and z after the last key.
struct Head {
    out: Vec<f64>,
    state: Vec<f64>,
    z: Vec<f64>,
}

struct Rows<'a> {
    problem: &'a Problem<'a>,
    linear: &'a Linear,
    rotation: Option<(&'a Rotary, Angles<'a>)>,
}

impl<'a> Rows<'a> {
    fn new(problem: &'a Problem<'a>) -> Result<Self> {
        let rotary = problem.spec.rotary.as_ref();
        let rotation = rotary.map(|r| (r, Angles::new(r, &problem.inputs)));
        Ok(Rows { problem, linear: problem.spec.expect_linear()?, rotation })
    }

    /// R x.
    fn turn(&self, x: &[f64], positions: [i32; 4], side: f64) -> Vec<f64> {
        let mut y = x.to_vec();
        if let Some((rotary, angles)) = &self.rotation {
            for p in 0..rotary.rotary_dim as usize / 2 {
                // sums of each head do not go with linear attention
                let [(c, s), (c_b, s_b)] = angles.turn(positions, 0, p, side);
                let ([a, b], [to_a, to_b]) = rotary.pair(p);
                (y[to_a], y[to_b]) = (x[a] * c - x[b] * s, x[a] * s_b + x[b] * c_b);
            }
        }
        y
    }

    /// c w_f.x of every random feature.
    fn projected(&self, x: &[f64], count: u32) -> Vec<f64> {
        let c = (x.len() as f64).powf(-0.25);
        let weights = self.problem.parameter("projection").chunks_exact(x.len()).take(count as usize);
        weights.map(|w| c * w.iter().zip(x).map(|(w, x)| *w as f64 * x).sum::<f64>()).collect()
    }

    /// phi(x); `most` is m of random features, the row's own where there is none.
    fn phi(&self, x: &[f64], most: Option<f64>) -> Vec<f64> {
        match self.linear.features {
            FeatureMap::Identity => x.to_vec(),
            FeatureMap::Elu => x.iter().map(|x| if *x >= 0.0 { x + 1.0 } else { x.exp() }).collect(),
            // a NaN stays one
            FeatureMap::Relu => x.iter().map(|x| if *x < 0.0 { 0.0 } else { *x }).collect(),
            FeatureMap::Softmax { count, eps } => {
                let projected = self.projected(x, count);
                let most = most.unwrap_or_else(|| largest(&projected));
                let half = 0.5 * x.iter().map(|x| x * x).sum::<f64>() / (x.len() as f64).sqrt();
                let one = |y: &f64| ((y - half - most).exp() + eps) / (count as f64).sqrt();
                projected.iter().map(one).collect()
            }
        }
    }

    /// The row that enters phi: rotated, where rotation stands before it.
    fn before(&self, t: &Tensor, [b, token, head]: [u32; 3], positions: [i32; 4], side: f64) -> Vec<f64> {
        let x: Vec<f64> = t.row(b, token, head).collect();
        if self.linear.rotate_features { x } else { self.turn(&x, positions, side) }
    }
    fn query(&self, b: u32, h: u32, i: u32) -> Vec<f64> {
        self.phi(&self.before(&self.problem.inputs.q, [b, i, h], self.problem.q_positions(b, i), 1.0), None)
    }
    fn key(&self, b: u32, g: u32, j: u32, most: Option<f64>) -> Vec<f64> {
        self.phi(&self.before(&self.problem.inputs.k, [b, j, g], self.problem.k_positions(b, j), -1.0), most)
    }
    /// What enters the numerator.
    fn behind(&self, x: &[f64], positions: [i32; 4], side: f64) -> Vec<f64> {
        if self.linear.rotate_features { self.turn(x, positions, side) } else { x.to_vec() }
    }

    /// m of the keys of a head.
    fn largest_of_keys(&self, b: u32, g: u32) -> Option<f64> {
        let FeatureMap::Softmax { count, .. } = self.linear.features else { return None };
        let keys = (0..self.problem.kv_len(b)).map(|j| {
            let x = self.before(&self.problem.inputs.k, [b, j, g], self.problem.k_positions(b, j), -1.0);
            largest(&self.projected(&x, count))
        });
        Some(keys.fold(STABILISER_FLOOR, f64::max))
    }

    /// Gamma of a key, feature by feature.
    fn gamma(&self, b: u32, g: u32, j: u32, feature: usize) -> f64 {
        let (spec, inputs) = (self.problem.spec, &*self.problem.inputs);
        let row = (b as usize * self.problem.shape.kv_len as usize + j as usize) * spec.num_kv_heads as usize;
        let given = |at: usize| inputs.decay.as_ref().and_then(|d| d.get(at)).map_or(1.0, |x| (*x as f64).exp());
        match &self.linear.decay {
            None => 1.0,
            Some(Decay::Retention) => 1.0 - 2f64.powi(-5 - g as i32),
            Some(Decay::Heads(gammas)) => gammas[g as usize],
            Some(Decay::Token) => given(row + g as usize),
            Some(Decay::Feature) => given((row + g as usize) * spec.features() as usize + feature),
        }
    }

    /// beta of a key, of the delta rule.
    fn beta(&self, b: u32, g: u32, j: u32) -> Option<f64> {
        let token = b as usize * self.problem.shape.kv_len as usize + j as usize;
        let at = token * self.problem.spec.num_kv_heads as usize + g as usize;
        let given = self.problem.inputs.beta.as_ref().filter(|_| self.linear.delta)?;
        given.get(at).map(|beta| *beta as f64)
    }

    fn head(&self, b: u32, h: u32) -> Head {
        let (problem, spec) = (self.problem, self.problem.spec);
        let (g, v_dim, n) = (h / spec.group(), spec.v_head_dim as usize, spec.features() as usize);
        let (q_len, kv_len) = (problem.shape.q_len as i64, problem.kv_len(b) as i64);
        let given = |state: &Option<Vec<f32>>, len: usize| {
            let first = (b * spec.num_kv_heads + g) as usize * len;
            let values = state.as_ref().and_then(|s| s.get(first..first + len));
            values.map_or(vec![0.0; len], |values| values.iter().map(|x| *x as f64).collect())
        };
        let mut state = given(&problem.inputs.initial_state, n * v_dim);
        let mut z = given(&problem.inputs.initial_normalizer, n);
        let mut out = vec![0.0; q_len as usize * v_dim];
        let most = self.largest_of_keys(b, g);
        // causal: a query comes behind its own key; else behind all of them
        let first = if spec.mask.causal { problem.q_index(b, 0) } else { kv_len };
        for time in first.min(0)..kv_len.max(first + q_len) {
            if (0..kv_len).contains(&time) {
                let j = time as u32;
                let plain = self.key(b, g, j, most);
                let turned = self.behind(&plain, problem.k_positions(b, j), -1.0);
                let v: Vec<f64> = problem.inputs.v.row(b, j, g).collect();
                for f in 0..n {
                    let gamma = self.gamma(b, g, j, f);
                    state[f * v_dim..(f + 1) * v_dim].iter_mut().for_each(|s| *s *= gamma);
                    z[f] += plain[f];
                }
                for c in 0..v_dim {
                    let new = match self.beta(b, g, j) {
                        Some(beta) => beta * (v[c] - (0..n).map(|f| turned[f] * state[f * v_dim + c]).sum::<f64>()),
                        None => v[c],
                    };
                    (0..n).for_each(|f| state[f * v_dim + c] += turned[f] * new);
                }
            }
            if (0..q_len).contains(&(time - first)) {
                let i = (time - first) as u32;
                let plain = self.query(b, h, i);
                let turned = self.behind(&plain, problem.q_positions(b, i), 1.0);
                let below = self.linear.normalizer.map(|norm| {
                    let sum: f64 = plain.iter().zip(&z).map(|(x, z)| x * (z + norm.eps_feature)).sum();
                    spec.scale() * sum + norm.eps
                });
                for c in 0..v_dim {
                    let above = spec.scale() * (0..n).map(|f| turned[f] * state[f * v_dim + c]).sum::<f64>();
                    out[i as usize * v_dim + c] = match below {
                        None => above,
                        Some(0.0) => 0.0,
                        Some(below) => above / below,
                    };
                }
            }
        }
        Head { out, state, z }
    }
}

/// The least that features are stabilised by; NaN counts for nothing.
const STABILISER_FLOOR: f64 = -3e38;

fn largest(x: &[f64]) -> f64 {
    x.iter().copied().fold(STABILISER_FLOOR, f64::max)
}
