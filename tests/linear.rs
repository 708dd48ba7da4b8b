//! Linear attention: the recurrence against sums over keys, the GPU within its bound, states that go on, and mutations.

use ropewalk::{
    Alignment, Data, Decay, Dtype, Error, FeatureMap, Inputs, Kernel, Limits, Linear, Mask, Normalizer, Pairing, Plan,
    Positions, Rotary, Shape, Spec, Tensor, XPos, check, reference,
};

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 2.0 * next()).collect()
}

fn tensor(dtype: Dtype, shape: [u32; 4], seed: u64) -> Tensor {
    let n = shape.iter().product::<u32>() as usize;
    Tensor::bshd(Data::from_f32(dtype, &noise(n, seed)), shape).unwrap()
}

/// Inputs with everything that the spec asks for.
fn inputs(spec: &Spec, batch: u32, q_len: u32, kv_len: u32) -> Inputs {
    let mut inputs = Inputs::new(
        tensor(spec.dtype, [batch, q_len, spec.num_heads, spec.head_dim], 1),
        tensor(spec.dtype, [batch, kv_len, spec.num_kv_heads, spec.head_dim], 2),
        tensor(spec.dtype, [batch, kv_len, spec.num_kv_heads, spec.v_head_dim], 3),
    );
    for (i, p) in spec.parameters().iter().enumerate() {
        inputs.parameters.insert(p.name.clone(), noise(p.len() as usize, 10 + i as u64));
    }
    let rows = (batch * spec.num_kv_heads) as usize;
    if let Some(linear) = &spec.linear {
        if linear.initial_state {
            inputs.initial_state = Some(noise(rows * (spec.features() * spec.v_head_dim) as usize, 4));
            if linear.normalizer.is_some() {
                let positive = noise(rows * spec.features() as usize, 5).iter().map(|x| x + 1.5).collect();
                inputs.initial_normalizer = Some(positive);
            }
        }
        let width = match linear.decay {
            Some(Decay::Token) => 1,
            Some(Decay::Feature) => spec.features() as usize,
            _ => 0,
        };
        if width > 0 {
            let g = noise(rows * kv_len as usize * width, 6).iter().map(|x| 0.2 * x - 0.2).collect();
            inputs.decay = Some(g);
        }
        if linear.delta {
            let beta = noise(rows * kv_len as usize, 7).iter().map(|x| 0.1 * x.abs() + 0.01).collect();
            inputs.beta = Some(beta);
        }
    }
    if spec.kv_lens {
        inputs.kv_lens = Some((0..batch).map(|b| kv_len - 3 * b).collect());
    }
    if spec.positions == Positions::Ids {
        let ids = |len: u32| (0..batch * len).map(|i| (i as i32 * 7919) % 100_000 - 500).collect::<Vec<_>>();
        (inputs.q_positions, inputs.k_positions) = (Some(ids(q_len)), Some(ids(kv_len)));
    }
    inputs
}

fn with(features: FeatureMap, set: impl Fn(&mut Linear, &mut Spec)) -> Spec {
    let mut spec = Spec::new(4, 2, 16);
    spec.v_head_dim = 20;
    spec.rotary = Some(Rotary::new(Pairing::Interleaved, 16, 10_000.0));
    spec.softmax_scale = Some(1.0);
    spec.mask = Mask::causal();
    let mut linear = Linear::new(features);
    set(&mut linear, &mut spec);
    spec.linear = Some(linear);
    spec
}

const PERFORMER: FeatureMap = FeatureMap::Softmax { count: 22, eps: 1e-4 };

/// Systems: RoFormer, linear attention with and without a denominator, Performer, retention, gates of tokens and features.
fn specs() -> Vec<(&'static str, Spec)> {
    let roformer = |causal: bool| {
        with(FeatureMap::Elu, move |l, s| {
            (l.rotate_features, l.normalizer, s.mask.causal) = (true, Some(Normalizer::new(0.0, 0.0)), causal);
        })
    };
    let performer = |causal: bool| {
        with(PERFORMER, move |l, s| {
            (l.normalizer, s.mask.causal) = (Some(Normalizer::new(0.0, if causal { 1e-6 } else { 0.0 })), causal);
        })
    };
    vec![
        ("roformer causal", roformer(true)),
        ("roformer", roformer(false)),
        ("performer causal", performer(true)),
        ("performer", performer(false)),
        ("plain", with(FeatureMap::Identity, |_, s| s.softmax_scale = Some(0.25))),
        ("elu before", with(FeatureMap::Elu, |l, _| l.normalizer = Some(Normalizer::new(1e-10, 0.0)))),
        ("retention", with(FeatureMap::Identity, |l, _| l.decay = Some(Decay::Retention))),
        (
            "retention with xPos",
            with(FeatureMap::Identity, |l, s| {
                l.decay = Some(Decay::Retention);
                s.rotary.iter_mut().for_each(|r| r.xpos = Some(XPos::new(512.0, 4)));
            }),
        ),
        (
            "heads",
            with(FeatureMap::Elu, |l, s| {
                (l.decay, l.rotate_features) = (Some(Decay::Heads(vec![0.5, 1.0])), true);
                s.positions = Positions::Ids;
            }),
        ),
        (
            "token",
            with(FeatureMap::Identity, |l, s| {
                (l.decay, l.initial_state, s.rotary) = (Some(Decay::Token), true, None);
            }),
        ),
        ("feature", with(FeatureMap::Elu, |l, _| (l.decay, l.initial_state) = (Some(Decay::Feature), true))),
        ("delta", with(FeatureMap::Identity, |l, _| l.delta = true)),
        (
            "gated delta",
            with(FeatureMap::Identity, |l, s| {
                (l.delta, l.decay, l.initial_state, s.rotary) = (true, Some(Decay::Token), true, None);
            }),
        ),
        (
            "delta of features",
            with(FeatureMap::Elu, |l, _| {
                (l.delta, l.decay, l.rotate_features) = (true, Some(Decay::Feature), true);
            }),
        ),
        (
            "state and normalizer",
            with(FeatureMap::Elu, |l, _| {
                (l.normalizer, l.initial_state) = (Some(Normalizer::new(1e-6, 1e-6)), true);
            }),
        ),
        (
            "lengths",
            with(FeatureMap::Elu, |l, s| {
                (l.normalizer, s.kv_lens, s.mask.alignment) =
                    (Some(Normalizer::new(0.0, 0.0)), true, Alignment::TopLeft);
            }),
        ),
        (
            "performer lengths",
            with(PERFORMER, |l, s| {
                (l.normalizer, s.kv_lens, s.mask.causal) = (Some(Normalizer::new(0.0, 0.0)), true, false);
            }),
        ),
    ]
}

fn row(t: &[f64], heads: u32, dim: u32, token: u32, head: u32) -> &[f64] {
    let at = ((token * heads + head) * dim) as usize;
    &t[at..at + dim as usize]
}

/// The recurrence is a sum over keys with weights: o_i = sum_j w_ij v_j / sum_j w'_ij.
#[test]
fn the_recurrence_is_a_sum_over_keys() {
    for (name, spec) in specs() {
        let given = inputs(&spec, 1, 9, 9);
        if given.initial_state.is_some() || given.decay.is_some() || given.beta.is_some() || spec.kv_lens {
            continue;
        }
        let linear = spec.linear.as_ref().unwrap();
        let found = reference::linear(&spec, &given).unwrap();
        let (phi_q, phi_k) = reference::features(&spec, &given).unwrap();
        let (q, k) = match linear.rotate_features {
            true => reference::rotate(&spec, &given).unwrap(),
            false => (phi_q.clone(), phi_k.clone()),
        };
        let n = spec.features();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for h in 0..4u32 {
            let g = h / 2;
            let gamma = match &linear.decay {
                Some(Decay::Retention) => 1.0 - 2f64.powi(-5 - g as i32),
                Some(Decay::Heads(gammas)) => gammas[g as usize],
                _ => 1.0,
            };
            for i in 0..9u32 {
                let keys = if spec.mask.causal { i + 1 } else { 9 };
                let (mut o, mut below) = (vec![0.0; 20], 0.0);
                for j in 0..keys {
                    let w =
                        spec.scale() * dot(row(&q, 4, n, i, h), row(&k, 2, n, j, g)) * gamma.powi(i as i32 - j as i32);
                    let v: Vec<f64> = given.v.row(0, j, g).collect();
                    o.iter_mut().zip(v).for_each(|(o, v)| *o += w * v);
                    below += spec.scale() * dot(row(&phi_q, 4, n, i, h), row(&phi_k, 2, n, j, g));
                }
                if let Some(norm) = &linear.normalizer {
                    let sum: f64 = row(&phi_q, 4, n, i, h).iter().sum();
                    let below = below + spec.scale() * norm.eps_feature * sum + norm.eps;
                    o.iter_mut().for_each(|o| *o /= below);
                }
                for (found, o) in row(&found.out, 4, 20, i, h).iter().zip(&o) {
                    assert!((found - o).abs() < 1e-9 * o.abs().max(1.0), "{name} [{i},{h}]: {found} {o}");
                }
            }
        }
    }
}

/// The reference and the values that bounds stand around are computed apart: they agree to f64's rounding, and what is changed in one
/// alone is seen by the other.
#[test]
fn the_reference_and_the_bounds_check_each_other() {
    let apart = |a: &[f64], b: &[f64]| {
        assert_eq!(a.len(), b.len());
        let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-11 * a.abs().max(1.0);
        a.iter().zip(b).any(far)
    };
    for (name, spec) in specs() {
        let given = inputs(&spec, 2, 9, 9);
        let (right, bounds) = (reference::linear(&spec, &given).unwrap(), check::linear(&spec, &given).unwrap());
        let differ = |out: &ropewalk::LinearOutput<f64>| {
            apart(&out.out, &bounds.out.value)
                || apart(&out.state, &bounds.state.value)
                || apart(&out.normalizer, &bounds.normalizer.value)
        };
        assert!(!differ(&right), "{name}");
        let (q, k) = reference::rotate(&spec, &given).unwrap();
        let (bq, bk) = check::rotate(&spec, &given).unwrap();
        assert!(!apart(&q, &bq.value) && !apart(&k, &bk.value), "{name}: rotate");
        let tensors: [fn(&mut Inputs) -> &mut Tensor; 3] = [|g| &mut g.q, |g| &mut g.k, |g| &mut g.v];
        for tensor in tensors {
            let mut changed = given.clone();
            let t = tensor(&mut changed);
            let mut values: Vec<f32> = (0..2 * 9)
                .flat_map(|row| (0..t.shape()[2]).map(move |h| [row, h]))
                .flat_map(|[row, h]| t.row(row / 9, row % 9, h).map(|x| x as f32).collect::<Vec<_>>())
                .collect();
            values.iter_mut().for_each(|x| *x *= 1.0 + 1e-6);
            *t = Tensor::bshd(values, t.shape()).unwrap();
            assert!(differ(&reference::linear(&spec, &changed).unwrap()), "{name}");
        }
    }
}

/// A call in two halves, the state handed on, is one call.
#[test]
fn a_state_goes_on() {
    for (name, spec) in specs() {
        if !spec.mask.causal || spec.kv_lens || spec.positions == Positions::Ids || name.starts_with("performer") {
            continue;
        }
        let (mut whole, mut given) = (spec.clone(), inputs(&spec, 1, 8, 8));
        let ids = |from: i32, to: i32| Some((from..to).collect::<Vec<i32>>());
        whole.positions = Positions::Ids;
        (given.q_positions, given.k_positions) = (ids(0, 8), ids(0, 8));
        let all = reference::linear(&whole, &given).unwrap();
        let half = |first: usize| {
            let cut = |t: &Tensor| {
                let [_, _, heads, dim] = t.shape();
                let rows = t.data().to_f32()[first * (heads * dim) as usize..][..4 * (heads * dim) as usize].to_vec();
                Tensor::bshd(rows, [1, 4, heads, dim]).unwrap()
            };
            let mut half = Inputs::new(cut(&given.q), cut(&given.k), cut(&given.v));
            half.parameters = given.parameters.clone();
            let of = |all: &Option<Vec<f32>>| {
                all.as_ref().map(|d| d[first * d.len() / 8..(first + 4) * d.len() / 8].to_vec())
            };
            (half.decay, half.beta) = (of(&given.decay), of(&given.beta));
            let positions = ids(first as i32, first as i32 + 4);
            (half.q_positions, half.k_positions) = (positions.clone(), positions);
            half
        };
        let mut first = half(0);
        (first.initial_state, first.initial_normalizer) =
            (given.initial_state.clone(), given.initial_normalizer.clone());
        let begun = reference::linear(&whole, &first).unwrap();
        let mut second = half(4);
        whole.linear.as_mut().unwrap().initial_state = true;
        let f32s = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<_>>();
        second.initial_state = Some(f32s(&begun.state));
        second.initial_normalizer = (!begun.normalizer.is_empty()).then(|| f32s(&begun.normalizer));
        let ended = reference::linear(&whole, &second).unwrap();
        let both = begun.out.iter().chain(&ended.out);
        for (a, b) in all.out.iter().zip(both).chain(all.state.iter().zip(&ended.state)) {
            assert!((a - b).abs() < 1e-5 * a.abs().max(1.0), "{name}: {a} {b}");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let field = |e: Error| match e {
        Error::Spec { field, .. } | Error::Input { field, .. } => field,
        other => panic!("{other}"),
    };
    let (_, spec) = specs().remove(0);
    let given = inputs(&spec, 1, 3, 3);
    let limits = Limits::default();
    let plan = |kernel, spec: &Spec| Plan::new(kernel, spec, &Shape::new(spec, 1, 3, 3), &limits);
    assert_eq!(field(plan(Kernel::Attention, &spec).unwrap_err()), "linear");
    assert_eq!(field(plan(Kernel::Scores, &spec).unwrap_err()), "linear");
    assert_eq!(field(reference::attention(&spec, &given).unwrap_err()), "linear");
    assert_eq!(field(reference::scores(&spec, &given).unwrap_err()), "linear");
    assert_eq!(field(check::attention(&spec, &given).unwrap_err()), "linear");
    let mut softmax = spec.clone();
    softmax.linear = None;
    assert_eq!(field(plan(Kernel::Linear, &softmax).unwrap_err()), "linear");
    assert_eq!(field(reference::linear(&softmax, &given).unwrap_err()), "linear");

    let wrong = |set: &dyn Fn(&mut Spec, &mut Linear)| {
        let mut spec = spec.clone();
        let mut linear = spec.linear.clone().unwrap();
        set(&mut spec, &mut linear);
        spec.linear = Some(linear);
        field(spec.validate().unwrap_err())
    };
    assert_eq!(wrong(&|s, _| s.mask.window_left = Some(3)), "mask.window_left");
    assert_eq!(wrong(&|s, _| s.logits_soft_cap = Some(3.0)), "logits_soft_cap");
    assert_eq!(wrong(&|s, _| s.dense_bias = true), "dense_bias");
    assert_eq!(wrong(&|s, _| s.rotary = None), "linear.rotate_features");
    assert_eq!(wrong(&|_, l| l.features = PERFORMER), "linear.rotate_features");
    assert_eq!(wrong(&|_, l| l.decay = Some(Decay::Retention)), "linear.normalizer");
    assert_eq!(wrong(&|_, l| l.delta = true), "linear.normalizer");
    assert_eq!(wrong(&|_, l| (l.normalizer, l.decay) = (None, Some(Decay::Heads(vec![0.5])))), "linear.decay.heads");
    assert_eq!(
        wrong(&|_, l| (l.normalizer, l.decay) = (None, Some(Decay::Heads(vec![0.5, 2.0])))),
        "linear.decay.heads"
    );
    assert_eq!(wrong(&|_, l| l.normalizer = Some(Normalizer::new(f64::NAN, 0.0))), "linear.normalizer.eps");
    assert_eq!(Spec::from_json(&spec.to_json()).unwrap(), spec);

    let missing = |name: &str, set: &dyn Fn(&mut Linear)| {
        let mut spec = spec.clone();
        spec.linear.as_mut().into_iter().for_each(set);
        assert_eq!(field(reference::linear(&spec, &given).unwrap_err()), name);
    };
    missing("initial_state", &|l| l.initial_state = true);
    missing("decay", &|l| (l.normalizer, l.decay) = (None, Some(Decay::Token)));
    missing("beta", &|l| (l.normalizer, l.delta) = (None, true));
    missing("projection", &|l| (l.rotate_features, l.features) = (false, PERFORMER));
    let mut unused = given.clone();
    unused.initial_state = Some(vec![0.0; 4]);
    assert_eq!(field(reference::linear(&spec, &unused).unwrap_err()), "initial_state");
}

/// Each of these errors must leave the bound of some element.
#[test]
fn mutations_leave_the_bound() {
    let f32s = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<_>>();
    for (name, spec) in specs() {
        let given = inputs(&spec, 2, 9, 9);
        let bounds = check::linear(&spec, &given).unwrap();
        let breaks = |spec: &Spec, given: &Inputs| {
            let wrong = reference::linear(spec, given).unwrap();
            bounds.out.worst(&f32s(&wrong.out)).failures > 0
        };
        assert!(!breaks(&spec, &given), "{name}");
        let right = reference::linear(&spec, &given).unwrap();
        assert_eq!(bounds.state.worst(&f32s(&right.state)).failures, 0, "{name}");
        assert_eq!(bounds.normalizer.worst(&f32s(&right.normalizer)).failures, 0, "{name}");

        let mut wrong = spec.clone();
        if let Some(rotary) = &mut wrong.rotary {
            // the sign of the sine of queries: positions run backwards
            let mut reversed = given.clone();
            let (mut ids, positions) = (spec.clone(), |len: i32| (0..2).flat_map(|_| 0..len).collect::<Vec<i32>>());
            ids.positions = Positions::Ids;
            if spec.positions == Positions::Index {
                (reversed.q_positions, reversed.k_positions) =
                    (Some(positions(9).iter().map(|m| -m).collect()), Some(positions(9)));
                assert!(breaks(&ids, &reversed), "{name}: sign of the sine");
                reversed.q_positions = Some(positions(9).iter().map(|m| m + 1).collect());
                assert!(breaks(&ids, &reversed), "{name}: position off by one");
            }
            rotary.pairing = Pairing::Half;
            assert!(breaks(&wrong, &given), "{name}: pairing");
        }
        let linear = spec.linear.clone().unwrap();
        let changed = |set: &dyn Fn(&mut Linear)| {
            let mut spec = spec.clone();
            spec.linear.as_mut().into_iter().for_each(set);
            spec
        };
        if linear.rotate_features && linear.normalizer.is_some() {
            // the same numerator over a rotated denominator
            let mut rotated = changed(&|l| (l.rotate_features, l.features) = (false, FeatureMap::Identity));
            rotated.positions = Positions::Ids;
            let (q, k) = reference::features(&spec, &given).unwrap();
            let mut features = given.clone();
            features.q = Tensor::bshd(f32s(&q), given.q.shape()).unwrap();
            features.k = Tensor::bshd(f32s(&k), given.k.shape()).unwrap();
            let ids: Vec<i32> = (0..2).flat_map(|_| 0..9).collect();
            (features.q_positions, features.k_positions) = (Some(ids.clone()), Some(ids));
            assert!(breaks(&rotated, &features), "{name}: denominator rotated");
        }
        match &linear.decay {
            Some(Decay::Token | Decay::Feature) => {
                let mut late = given.clone();
                let g = late.decay.as_mut().unwrap();
                let token = g.len() / 18;
                g.rotate_right(token);
                assert!(breaks(&spec, &late), "{name}: decay off by one step");
            }
            Some(_) => {
                // the decay applied to the new key too
                let gammas = match &linear.decay {
                    Some(Decay::Heads(gammas)) => gammas.clone(),
                    _ => (0..2).map(|g| 1.0 - 2f64.powi(-5 - g)).collect(),
                };
                let wrong = reference::linear(&spec, &given).unwrap();
                let each = |(at, o): (usize, &f64)| (o * gammas[at / 20 % 4 / 2]) as f32;
                let late: Vec<f32> = wrong.out.iter().enumerate().map(each).collect();
                assert!(bounds.out.worst(&late).failures > 0, "{name}: decay off by one step");
                assert!(breaks(&changed(&|l| l.decay = None), &given), "{name}: no decay");
            }
            None => {}
        }
        if linear.delta {
            let mut late = given.clone();
            late.beta.iter_mut().for_each(|beta| beta.rotate_right(2));
            assert!(breaks(&spec, &late), "{name}: beta off by one step");
            late.beta.iter_mut().flatten().for_each(|beta| *beta = 1.0);
            assert!(breaks(&spec, &late), "{name}: beta left out");
            let kept = changed(&|l| l.delta = false);
            let mut plain = given.clone();
            // nothing is taken back: beta k v joins
            let beta = plain.beta.take().unwrap();
            let v = given.v.data().to_f32();
            let v = v.iter().zip(0..).map(|(v, at): (_, usize)| v * beta[at / 20]).collect::<Vec<f32>>();
            plain.v = Tensor::bshd(v, given.v.shape()).unwrap();
            assert!(breaks(&kept, &plain), "{name}: nothing is taken back");
        }
        if linear.initial_state {
            let mut lost = given.clone();
            lost.initial_state.iter_mut().flatten().for_each(|x| *x = 0.0);
            assert!(breaks(&spec, &lost), "{name}: state not carried");
        }
        if linear.initial_state && linear.normalizer.is_some() {
            let mut lost = given.clone();
            lost.initial_normalizer.iter_mut().flatten().for_each(|x| *x = 0.0);
            assert!(breaks(&spec, &lost), "{name}: normalizer not carried");
        }
        if let FeatureMap::Softmax { count, .. } = linear.features {
            let other = changed(&|l| l.features = FeatureMap::Softmax { count, eps: 2e-4 });
            assert!(breaks(&other, &given), "{name}: eps of features");
        }
        let mut other = spec.clone();
        other.mask.causal = !other.mask.causal;
        assert!(breaks(&other, &given), "{name}: causality");
    }
}

#[cfg(feature = "wgpu")]
mod gpu {
    use super::*;
    use crate::common::sampled;
    use ropewalk::{Gpu, GpuOptions};

    fn gpu() -> Gpu {
        let mut options = GpuOptions::default();
        options.default_limits = true;
        Gpu::open(&options).expect("an adapter; install mesa-vulkan-drivers for a software one")
    }

    fn passes(gpu: &Gpu, name: &str, spec: &Spec, given: &Inputs) -> f64 {
        let found = gpu.linear(spec, given).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bounds = check::linear(spec, given).unwrap();
        let mut worst = 0f64;
        for (what, bounds, found) in [
            ("out", &bounds.out, &found.out),
            ("state", &bounds.state, &found.state),
            ("normalizer", &bounds.normalizer, &found.normalizer),
        ] {
            let w = bounds.worst(found);
            assert_eq!(w.failures, 0, "{name} {what}: {w:?}");
            assert!(w.unbounded * 4 <= w.elements, "{name} {what}: {w:?}");
            worst = worst.max(w.ratio);
        }
        worst
    }

    #[test]
    fn every_system_within_its_bound() {
        let gpu = gpu();
        for (name, spec) in specs() {
            let ratio = passes(&gpu, name, &spec, &inputs(&spec, 2, 45, 45));
            println!("{name}: {ratio:.3} of the bound");
        }
    }

    #[test]
    fn storage_sizes_and_lengths() {
        let gpu = gpu();
        let sizes = [(Dtype::F16, 18, 7), (Dtype::Bf16, 8, 70), (Dtype::F32, 6, 128)];
        for (n, (name, spec)) in sampled(4, specs().into_iter().enumerate()) {
            // in turn, since drivers compile each anew
            for (dtype, dim, v_dim) in [sizes[n % 3], sizes[(n + 1) % 3]].into_iter().take(1 + (n < 3) as usize) {
                let mut spec = spec.clone();
                (spec.dtype, spec.head_dim, spec.v_head_dim) = (dtype, dim, v_dim);
                if let Some(rotary) = &mut spec.rotary {
                    rotary.rotary_dim = 6;
                }
                // queries fewer than keys, and (top-left, and bottom-right with nothing to see) more
                for (q_len, kv_len) in [(5, 33), (12, 7)] {
                    passes(&gpu, name, &spec, &inputs(&spec, 2, q_len, kv_len));
                }
            }
        }
    }

    /// Cut over dispatches, sequences and heads: the same bits.
    #[test]
    fn cuts_change_nothing() {
        let gpu = gpu();
        for (name, spec) in sampled(4, specs()) {
            let given = inputs(&spec, 2, 70, 70);
            let whole = gpu.linear(&spec, &given).unwrap();
            let mut limits = *gpu.limits();
            limits.max_loop_rounds = 1;
            let cut = gpu.with_limits(limits);
            let (found, stats) = pollster::block_on(cut.linear_async(&spec, &given, &|_| ())).unwrap();
            assert!(stats.dispatches > 2, "{name}: {stats:?}");
            assert!(found == whole, "{name}: cut in time");
            let mut limits = *gpu.limits();
            limits.max_binding_size = 12_000;
            let (found, stats) =
                pollster::block_on(gpu.with_limits(limits).linear_async(&spec, &given, &|_| ())).unwrap();
            assert!(stats.parts > 1, "{name}: {stats:?}");
            assert!(found == whole, "{name}: cut in parts");
        }
    }

    #[test]
    fn rotated_features_within_their_bound() {
        let gpu = gpu();
        for (name, spec) in specs() {
            let given = inputs(&spec, 2, 7, 9);
            let (q, k) = gpu.rotate(&spec, &given).unwrap();
            let (q_bounds, k_bounds) = check::rotate(&spec, &given).unwrap();
            assert_eq!((q_bounds.worst(&q).failures, k_bounds.worst(&k).failures), (0, 0), "{name}");
        }
    }

    /// What is not finite makes NaN of what the reference says, and of nothing else.
    #[test]
    fn poison_is_nan_where_the_reference_has_it() {
        let gpu = gpu();
        for (name, spec) in specs() {
            let good = inputs(&spec, 2, 9, 11);
            let clean = reference::linear(&spec, &good).unwrap();
            assert!(clean.out.iter().all(|o| o.is_finite()), "{name}");
            for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for place in 0..7 {
                    let mut given = good.clone();
                    let all = match place {
                        0..3 => {
                            let tensor = [&mut given.q, &mut given.k, &mut given.v].into_iter().nth(place).unwrap();
                            let Data::F32(all) = tensor.data_mut() else { panic!("of f32") };
                            Some(all)
                        }
                        3 => given.decay.as_mut(),
                        4 => given.initial_state.as_mut(),
                        5 => given.beta.as_mut(),
                        _ => given.initial_normalizer.as_mut(),
                    };
                    let Some(all) = all else { continue };
                    let at = all.len() / 3;
                    all[at] = x;
                    let found = gpu.linear(&spec, &given).unwrap();
                    let bounds = check::linear(&spec, &given).unwrap();
                    let mut nan = 0;
                    for (part, bounds, found) in [
                        ("out", &bounds.out, &found.out),
                        ("state", &bounds.state, &found.state),
                        ("normalizer", &bounds.normalizer, &found.normalizer),
                    ] {
                        let w = bounds.worst(found);
                        assert_eq!(w.failures, 0, "{name}, {x} in {place}: {part} {w:?}");
                        assert!(bounds.value.iter().zip(&bounds.bound).all(|(x, b)| !x.is_nan() || *b == 0.0));
                        nan += bounds.value.iter().filter(|x| x.is_nan()).count();
                    }
                    assert!(nan > 0 || x.is_infinite(), "{name}, {x} in {place}");
                }
            }
        }
    }

    /// NaN of one head or one later token stays there.
    #[test]
    fn nan_stays_in_its_head_and_future() {
        let gpu = gpu();
        let (name, spec) = specs().remove(0);
        let mut given = inputs(&spec, 1, 10, 10);
        if let Data::F32(k) = given.k.data_mut() {
            k[(6 * 2 + 1) * 16 + 3] = f32::NAN;
        }
        let found = gpu.linear(&spec, &given).unwrap();
        for (at, o) in found.out.iter().enumerate() {
            let (token, head) = (at / 80, at / 20 % 4);
            assert_eq!(o.is_nan(), token >= 6 && head >= 2, "{name} [{token},{head}]: {o}");
        }
    }
}
