//! Linear attention as sums over keys, without a state that walks along.

use super::angle::Side;
use super::{Sequence, Sized, Twin, row};
use ropewalk::{Decay, FeatureMap, Inputs, Linear, Spec};

pub struct LinearTwin {
    /// `[batch, q_len, heads, v_dim]`.
    pub out: Vec<Sized>,
    /// `[batch, kv_heads, features, v_dim]`.
    pub state: Vec<Sized>,
    /// `[batch, kv_heads, features]`.
    pub normalizer: Vec<Sized>,
}

/// phi of one element, for the maps that have such.
pub(super) fn simple(map: FeatureMap, x: f64) -> f64 {
    match map {
        FeatureMap::Identity => x,
        FeatureMap::Elu if x < 0.0 => x.exp(),
        FeatureMap::Elu => x + 1.0,
        FeatureMap::Relu if x < 0.0 => 0.0,
        FeatureMap::Relu => x,
        other => panic!("{other:?} is no function of one element"),
    }
}

/// A product of sizes: nothing where one is nothing, and infinite, so that nothing is said, where one is unknown.
fn product(sizes: &[f64]) -> f64 {
    match sizes.contains(&0.0) {
        true => 0.0,
        false if sizes.iter().any(|size| size.is_nan()) => f64::INFINITY,
        false => sizes.iter().product::<f64>().abs(),
    }
}

/// A row's features: what enters the numerator, and the denominator.
struct Features {
    above: Vec<Sized>,
    below: Vec<Sized>,
}

impl Twin<'_> {
    /// phi of rows that share a stabiliser: a query alone, or all keys of a head.
    fn features(&self, linear: &Linear, rows: Vec<(Vec<f64>, [i64; 4])>, side: Side) -> Vec<Features> {
        let sized = |x: &[f64]| {
            let long = super::length(x);
            x.iter().map(|x| Sized::new(*x, long)).collect::<Vec<_>>()
        };
        if let FeatureMap::Softmax { count, eps } = linear.features {
            let dim = self.spec.head_dim as usize;
            let c = (dim as f64).powf(-0.25);
            let w = self.parameter("projection");
            let turned: Vec<Vec<f64>> = rows.into_iter().map(|(x, at)| self.turn(x, at, side, 0)).collect();
            let products = |x: &Vec<f64>| -> Vec<Sized> {
                let of = |f: usize| {
                    let row: Vec<f64> = w[f * dim..(f + 1) * dim].iter().map(|w| *w as f64).collect();
                    let product = super::dot(&row, x);
                    Sized::new(c * product.value, c * product.size)
                };
                (0..count as usize).map(of).collect()
            };
            let all: Vec<Vec<Sized>> = turned.iter().map(products).collect();
            let most = all.iter().flatten().fold(f64::NEG_INFINITY, |most, p| most.max(p.value));
            let far = all.iter().flatten().fold(0.0f64, |far, p| far.max(p.size));
            return turned
                .iter()
                .zip(all)
                .map(|(x, products)| {
                    let half = c * c * x.iter().map(|x| x * x).sum::<f64>() / 2.0;
                    let one = |p: Sized| {
                        let root = (count as f64).sqrt();
                        let value = (p.value - half - most).exp();
                        Sized::new((value + eps) / root, (value * (1.0 + p.size + half + far) + eps) / root)
                    };
                    let phi: Vec<Sized> = products.into_iter().map(one).collect();
                    Features { above: phi.clone(), below: phi }
                })
                .collect();
        }
        let mapped = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| simple(linear.features, *x)).collect() };
        rows.into_iter()
            .map(|(x, at)| {
                if linear.rotate_features {
                    let phi = mapped(&x);
                    Features { above: sized(&self.turn(phi.clone(), at, side, 0)), below: sized(&phi) }
                } else {
                    let turned = self.turn(x, at, side, 0);
                    let long = super::length(&turned);
                    let phi = mapped(&turned).into_iter().map(|x| Sized::new(x, x.abs() + long)).collect::<Vec<_>>();
                    Features { above: phi.clone(), below: phi }
                }
            })
            .collect()
    }

    /// Gamma of a key and feature.
    fn gamma(&self, linear: &Linear, s: &Sequence, j: usize, kv: usize, f: usize) -> f64 {
        let heads = self.spec.num_kv_heads as usize;
        let given = |at: usize| (self.inputs.decay.as_ref().expect("decays")[at] as f64).exp();
        let token = (s.entry * self.capacity + j) * heads + kv;
        match &linear.decay {
            None => 1.0,
            Some(Decay::Retention) => 1.0 - 2f64.powi(-5 - kv as i32),
            Some(Decay::Heads(factors)) => factors[kv],
            Some(Decay::Token) => given(token),
            Some(Decay::Feature) => given(token * self.spec.features() as usize + f),
            other => panic!("the twin does not know {other:?}"),
        }
    }
}

pub fn linear(spec: &Spec, inputs: &Inputs) -> LinearTwin {
    let twin = Twin::new(spec, inputs);
    let linear = spec.linear.as_ref().expect("a spec of linear attention");
    let (features, dim, kv_heads) = (spec.features() as usize, spec.v_head_dim as usize, spec.num_kv_heads as usize);
    let scale = spec.softmax_scale.unwrap_or(1.0 / (spec.head_dim as f64).sqrt());
    let mut all = LinearTwin {
        out: vec![Sized::default(); twin.batch * twin.q_len * twin.heads * dim],
        state: vec![Sized::default(); twin.batch * kv_heads * features * dim],
        normalizer: match &linear.normalizer {
            Some(_) => vec![Sized::default(); twin.batch * kv_heads * features],
            None => vec![],
        },
    };
    for s in twin.sequences() {
        let keys = s.keys.len();
        for kv in 0..kv_heads {
            let rows = s.keys.clone().map(|j| (row(&inputs.k, s.entry, j, kv), twin.n(&s, j))).collect();
            let phi_k = twin.features(linear, rows, Side::Key);
            let of_v = |j: usize| row(&inputs.v, s.entry, j, kv).into_iter().map(|v| Sized::new(v, v.abs())).collect();
            let mut values: Vec<Vec<Sized>> = s.keys.clone().map(of_v).collect();
            // what is left behind so many keys of what stood behind the first of them
            let kept = |f: usize, from: usize, count: usize| -> f64 {
                if linear.decay.is_none() {
                    return 1.0;
                }
                (from..count).map(|t| twin.gamma(linear, &s, t, kv, f)).product()
            };
            // the delta rule: what a key adds is beta (v - what the keys before it, and the given state, left of v under it)
            for j in (0..keys).filter(|_| linear.delta) {
                let beta = inputs.beta.as_ref().expect("betas")[(s.entry * twin.capacity + j) * kv_heads + kv] as f64;
                for e in 0..dim {
                    let mut new = values[j][e];
                    for (f, k) in phi_k[j].above.iter().enumerate() {
                        for (i, earlier) in phi_k[..j].iter().enumerate() {
                            let (kept, x, before) = (kept(f, i + 1, j + 1), earlier.above[f], values[i][e]);
                            // of the value itself: sizes of sizes would grow with every key
                            let size = product(&[kept, k.size, x.size, before.value]);
                            new.add(-kept * k.value * x.value * before.value, size);
                        }
                        if let Some(given) = &inputs.initial_state {
                            let start = given[((s.entry * kv_heads + kv) * features + f) * dim + e] as f64;
                            let kept = kept(f, 0, j + 1);
                            new.add(-kept * k.value * start, product(&[kept, k.size, start]));
                        }
                    }
                    values[j][e] = Sized::new(beta * new.value, product(&[beta, new.size]));
                }
            }
            // S and z of feature f and column e behind so many keys
            let state = |f: usize, e: usize, count: usize| {
                let mut sum = Sized::default();
                for j in 0..count {
                    let (kept, v) = (kept(f, j + 1, count), values[j][e]);
                    let k = phi_k[j].above[f];
                    sum.add(kept * k.value * v.value, product(&[kept, k.size, v.size]));
                }
                if let Some(given) = &inputs.initial_state {
                    let kept = kept(f, 0, count);
                    let start = given[((s.entry * kv_heads + kv) * features + f) * dim + e] as f64;
                    sum.add(kept * start, kept * start.abs());
                }
                sum
            };
            let below = |f: usize, count: usize| {
                let mut sum = Sized::default();
                for k in &phi_k[..count] {
                    sum.add(k.below[f].value, k.below[f].size);
                }
                if let Some(given) = &inputs.initial_normalizer {
                    let start = given[(s.entry * kv_heads + kv) * features + f] as f64;
                    sum.add(start, start.abs());
                }
                sum
            };
            let counts: Vec<usize> = s
                .queries
                .clone()
                .map(|i| if spec.mask.causal { (twin.index(&s, i) + 1).clamp(0, keys as i64) as usize } else { keys })
                .collect();
            for f in 0..features {
                for e in 0..dim {
                    all.state[((s.entry * kv_heads + kv) * features + f) * dim + e] = state(f, e, keys);
                }
                if linear.normalizer.is_some() {
                    all.normalizer[(s.entry * kv_heads + kv) * features + f] = below(f, keys);
                }
            }
            for (i, count) in s.queries.clone().zip(counts) {
                let columns: Vec<Vec<Sized>> =
                    (0..features).map(|f| (0..dim).map(|e| state(f, e, count)).collect()).collect();
                for head in (0..twin.heads).filter(|h| h / spec.group() as usize == kv) {
                    let rows = vec![(row(&inputs.q, s.entry, i, head), twin.m(&s, i))];
                    let phi = twin.features(linear, rows, Side::Query).remove(0);
                    let divisor = linear.normalizer.as_ref().map(|n| {
                        let mut sum = Sized::new(n.eps, n.eps);
                        for (f, q) in phi.below.iter().enumerate() {
                            let z = below(f, count);
                            let (z, size) = (z.value + n.eps_feature, z.size + n.eps_feature);
                            sum.add(scale * q.value * z, (scale * q.size * size).abs());
                        }
                        sum
                    });
                    for e in 0..dim {
                        let mut o = Sized::default();
                        for (q, row) in phi.above.iter().zip(&columns) {
                            let x = row[e];
                            o.add(scale * q.value * x.value, product(&[scale, q.size, x.size]));
                        }
                        if let Some(n) = divisor {
                            o = match n.value {
                                0.0 => Sized::new(0.0, 0.0),
                                x => Sized::new(o.value / x, o.size / x.abs() + (o.value / x).abs() * n.size / x.abs()),
                            };
                        }
                        all.out[((s.entry * twin.q_len + i) * twin.heads + head) * dim + e] = o;
                    }
                }
            }
        }
    }
    all
}
