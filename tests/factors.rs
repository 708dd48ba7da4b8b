//! Norms, temperature, scales of heads, sinks and chunks: each mutation breaks a bound, extreme rows keep one, and sinks do what
//! a key without a value does.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, noise, sampled};
use ropewalk::*;

type Build = fn(&mut Spec, &mut Inputs);

/// A case with positions 0.., 4 heads over 2, 5 queries at the end of 75 keys.
fn problem(right: Build, seed: u64) -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 64);
    spec.mask = Mask::causal();
    spec.positions = Positions::Ids;
    let mut rotary = Rotary::new(Pairing::Half, 32, 10_000.0);
    rotary.attention_factor = 1.3;
    spec.rotary = Some(rotary);
    let mut inputs = inputs(&spec, 1, 5, 75, seed);
    inputs.q_positions = Some((70..75).collect());
    inputs.k_positions = Some((0..75).collect());
    right(&mut spec, &mut inputs);
    for (i, p) in spec.parameters().iter().enumerate() {
        inputs.parameters.entry(p.name.clone()).or_insert_with(|| noise(p.len() as usize, 100 * seed + 99 + i as u64));
    }
    (spec, inputs)
}

fn norm(kind: NormKind, eps: f64, weights: bool, after_rotation: bool) -> Option<Norm> {
    let mut norm = Norm::new(kind, eps);
    (norm.weights, norm.after_rotation) = (weights, after_rotation);
    Some(norm)
}

fn scaled(t: &Tensor, by: f32) -> Tensor {
    let values: Vec<f32> = t.data().to_f32().iter().map(|x| x * by).collect();
    Tensor::bshd(values, t.shape()).unwrap()
}

/// One more key in front, which everybody sees, with a score of the sink: k is 0, D the sink, v as given.
fn sink_as_key(spec: &mut Spec, inputs: &mut Inputs, v: impl Fn(usize) -> f32) {
    let sinks = inputs.parameters.remove("sinks").unwrap();
    spec.sink = None;
    let in_front = |t: &Tensor, row: &dyn Fn(usize) -> f32| {
        let [_, len, heads, dim] = t.shape();
        let mut values: Vec<f32> = (0..(heads * dim) as usize).map(row).collect();
        values.extend(t.data().to_f32());
        Tensor::bshd(values, [1, len + 1, heads, dim]).unwrap()
    };
    (inputs.k, inputs.v) = (in_front(&inputs.k, &|_| 0.0), in_front(&inputs.v, &v));
    inputs.k_positions.as_mut().unwrap().insert(0, 0);
    let keys = inputs.k.shape()[1];
    let d = sinks.iter().flat_map(|s| (0..keys).map(move |j| if j == 0 { *s } else { 0.0 })).collect();
    spec.dense_bias = true;
    inputs.attn_bias = Some(Dense::new([1, sinks.len() as u32, 1, keys], d).unwrap());
}

const SINK: Build = |spec, _| spec.sink = Some(Sink::Learned);
const CHUNK: Build = |spec, _| spec.mask.chunk = Some(24);
const TAU: Build = |spec, _| (spec.rotary, spec.temperature) = (None, Some(Temperature::new(0.1, 8)));
const HEAD_SCALE: Build = |spec, _| spec.head_scale = true;
const BEFORE: Build = |spec, _| spec.norm = norm(NormKind::Rms, 1e-6, true, false);
const SMALL: Build = |spec, inputs| {
    spec.norm = norm(NormKind::Rms, 1e-6, false, true);
    (inputs.q, inputs.k) = (scaled(&inputs.q, 0.02), scaled(&inputs.k, 0.02));
};
const COSINE: Build = |spec, _| {
    (spec.norm, spec.softmax_scale) = (norm(NormKind::L2, 1e-6, false, false), Some(10.0));
};

const QUERY_SINKS: Build = |spec, inputs| (spec.sink, inputs.query_sinks) = (Some(Sink::Query), Some(noise(20, 3)));
const QUERY_SCALES: Build = |spec, inputs| (spec.query_scales, inputs.query_scales) = (true, Some(noise(20, 4)));
const KEY_BIAS: Build = |spec, inputs| {
    let sum = noise(4 * 75, 5).into_iter().scan(-5e4, |sum, x| {
        *sum -= x.abs() as f64;
        Some(*sum)
    });
    (spec.key_bias, inputs.key_bias) = (true, Some(sum.collect()));
};
const OUTPUT: Build = |spec, _| {
    spec.rotary.iter_mut().for_each(|r| (r.values, r.output) = (true, true));
};
const OWN: Build = |spec, inputs| {
    let mut own = Relative::new(RelativeSide::Key, IndexMap::reversed(0, 20));
    own.own = Some(9);
    (spec.relative, inputs.relative_queries) = (vec![own], Some(noise(20 * 9, 6)));
};
const OF_HEADS: Build = |spec, _| {
    spec.norm = norm(NormKind::Layer, 1e-6, true, false);
    spec.norm.iter_mut().for_each(|n| (n.weights_of_heads, n.all_heads) = (true, true));
};

const MUTATIONS: &[(&str, Build, Build)] = &[
    ("sink counted twice", SINK, |_, inputs| {
        inputs.parameters.get_mut("sinks").unwrap().iter_mut().for_each(|s| *s += std::f32::consts::LN_2);
    }),
    ("sink in the numerator", SINK, |spec, inputs| sink_as_key(spec, inputs, |i| (i % 7) as f32 - 3.0)),
    ("sink left out", SINK, |spec, inputs| {
        spec.sink = None;
        inputs.parameters.clear();
    }),
    ("sink of another head", SINK, |_, inputs| inputs.parameters.get_mut("sinks").unwrap().rotate_left(1)),
    ("a sink of 0", SINK, |spec, inputs| {
        spec.sink = Some(Sink::Zero);
        inputs.parameters.clear();
    }),
    ("chunk longer by one", CHUNK, |spec, _| spec.mask.chunk = Some(25)),
    ("chunk shorter by one", CHUNK, |spec, _| spec.mask.chunk = Some(23)),
    ("chunk of i instead of i'", CHUNK, |spec, _| spec.mask.alignment = Alignment::TopLeft),
    ("floor off by one", TAU, |spec, _| spec.temperature = Some(Temperature::new(0.1, 9))),
    ("m instead of m + 1", TAU, |_, inputs| inputs.q_positions.as_mut().unwrap().iter_mut().for_each(|m| *m -= 1)),
    ("no temperature", TAU, |spec, _| spec.temperature = None),
    ("scale of another head", HEAD_SCALE, |_, inputs| {
        inputs.parameters.get_mut("head_scale").unwrap().rotate_left(1);
    }),
    ("norm after the rotation", BEFORE, |spec, _| spec.norm = norm(NormKind::Rms, 1e-6, true, true)),
    ("weights of q and k exchanged", BEFORE, |_, inputs| {
        let (q, k) = (inputs.parameters["q_norm"].clone(), inputs.parameters["k_norm"].clone());
        inputs.parameters = [("q_norm".to_string(), k), ("k_norm".to_string(), q)].into();
    }),
    ("weights less 1", BEFORE, |_, inputs| inputs.parameters.values_mut().flatten().for_each(|w| *w -= 1.0)),
    ("norm before the rotation", SMALL, |spec, _| spec.norm = norm(NormKind::Rms, 1e-6, false, false)),
    ("eps forgotten", SMALL, |spec, _| spec.norm = norm(NormKind::Rms, 0.0, false, true)),
    ("eps of the sum, not of the mean", SMALL, |spec, _| spec.norm = norm(NormKind::Rms, 1e-6 / 64.0, false, true)),
    ("length instead of root mean square", COSINE, |spec, _| spec.norm = norm(NormKind::Rms, 1e-6, false, false)),
    ("sink of another query", QUERY_SINKS, |_, inputs| inputs.query_sinks.as_mut().unwrap().rotate_left(1)),
    ("factor of another query", QUERY_SCALES, |_, inputs| inputs.query_scales.as_mut().unwrap().rotate_left(1)),
    ("gates summed to the key before", KEY_BIAS, |_, inputs| inputs.key_bias.as_mut().unwrap().rotate_right(1)),
    ("sums of gates as f32", KEY_BIAS, |_, inputs| {
        inputs.key_bias.as_mut().unwrap().iter_mut().for_each(|c| *c = *c as f32 as f64);
    }),
    ("output not turned back", OUTPUT, |spec, _| spec.rotary.iter_mut().for_each(|r| r.output = false)),
    ("own query of another row", OWN, |_, inputs| inputs.relative_queries.as_mut().unwrap().rotate_left(9)),
    ("weights of another head", OF_HEADS, |_, inputs| inputs.parameters.get_mut("q_norm").unwrap().rotate_left(64)),
    ("a norm of each head alone", OF_HEADS, |spec, _| spec.norm.iter_mut().for_each(|n| n.all_heads = false)),
    ("no mean subtracted", OF_HEADS, |spec, _| spec.norm.iter_mut().for_each(|n| n.kind = NormKind::Rms)),
    (
        "m for m + 1 in a temperature without steps",
        |spec, _| spec.temperature = Some(Temperature::log_n(4)),
        |spec, _| {
            spec.temperature.iter_mut().for_each(|t| t.offset = 0);
        },
    ),
    ("cosine scaled by 1 / sqrt(d)", COSINE, |spec, _| spec.softmax_scale = Some(10.0 / 8.0)),
];

#[test]
fn every_mutation_breaks_a_bound() {
    let Some(gpu) = gpus().into_iter().next() else { return };
    for (name, right, mutate) in sampled(4, MUTATIONS) {
        let mut caught = 0;
        for seed in 0..4 {
            let (spec, inputs) = problem(*right, seed);
            let (out, lse) = check::attention(&spec, &inputs).unwrap();
            let clean = gpu.attention(&spec, &inputs).unwrap();
            let failures = |got: &Output<f32>| out.worst(&got.out).failures + lse.worst(&got.lse).failures;
            assert_eq!(failures(&clean), 0, "{name}: the right result breaks a bound");
            let (mut wrong_spec, mut wrong) = (spec.clone(), inputs.clone());
            mutate(&mut wrong_spec, &mut wrong);
            caught += (failures(&gpu.attention(&wrong_spec, &wrong).unwrap()) > 0) as u32;
        }
        println!("{name}: {caught} of 4 caught");
        assert!(caught == 4, "{name}: {caught} of 4 caught");
    }
}

#[test]
fn a_sink_is_a_key_without_a_value() {
    let (spec, inputs) = problem(SINK, 5);
    let (mut spec_k, mut inputs_k) = (spec.clone(), inputs.clone());
    sink_as_key(&mut spec_k, &mut inputs_k, |_| 0.0);
    let exact = reference::attention(&spec_k, &inputs_k).unwrap();
    let ours = reference::attention(&spec, &inputs).unwrap();
    for (a, b) in ours.out.iter().chain(&ours.lse).zip(exact.out.iter().chain(&exact.lse)) {
        assert!((a - b).abs() < 1e-13);
    }
    for gpu in gpus() {
        let (out, lse) = check::attention(&spec_k, &inputs_k).unwrap();
        let got = gpu.attention(&spec, &inputs).unwrap();
        assert_eq!(out.worst(&got.out).failures + lse.worst(&got.lse).failures, 0, "{}", gpu.describe());
    }
}

/// Sinks from far below the floor of scores to far above all of them; rows with and without keys.
#[test]
fn sinks_of_every_size() {
    let sinks = vec![-3e38, -1e20, 0.5, 1e20];
    let gpus = gpus();
    for kv_len in [75, 0] {
        let (spec, mut inputs) = problem(SINK, 6);
        inputs.kv_len = Some(kv_len);
        inputs.parameters.insert("sinks".into(), sinks.clone());
        let (out, lse) = check::attention(&spec, &inputs).unwrap();
        let floor = lse.value[..5].iter().all(|x| *x > SCORE_FLOOR) || kv_len == 0;
        assert!(floor && lse.value[15..].iter().all(|x| *x == 1e20f32 as f64));
        assert!(out.bound.iter().chain(&lse.bound).all(|b| b.is_finite()));
        for gpu in &gpus {
            let got = gpu.attention(&spec, &inputs).unwrap();
            assert_eq!(out.worst(&got.out).failures + lse.worst(&got.lse).failures, 0, "{}", gpu.describe());
            if kv_len == 0 {
                assert!(got.out.iter().all(|o| *o == 0.0));
                assert!((got.lse[10] - 0.5).abs() <= 5e-7 && got.lse[0] == SCORE_FLOOR as f32, "{:?}", got.lse);
            }
        }
    }
}

#[test]
fn sinks_that_are_not_finite_are_refused() {
    for sink in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (spec, mut inputs) = problem(SINK, 7);
        inputs.parameters.insert("sinks".into(), vec![0.0, 1.0, sink, 0.0]);
        let Err(Error::Input { field, problem, .. }) = reference::attention(&spec, &inputs) else { panic!("{sink}") };
        assert!(field == "sinks" && problem.contains("head 2"), "{problem}");
        let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 5, 75), &Limits::default()).unwrap();
        assert!(plan.pack_tables(&inputs.parameters, None).is_err());
    }
}

/// Squares of these rows leave f32 in both directions; the bound still says something about all of them.
#[test]
fn norms_of_rows_of_every_size() {
    let gpus: Vec<Gpu> = gpus().into_iter().take(1).collect();
    let sizes = [(1e30, 1e-25, 0.0), (1e-28, 1e25, 1e-12), (1e22, 1e22, 1e-6), (1e-12, 1e-30, 1e-6)];
    for (q_size, k_size, eps) in sampled(4, sizes) {
        for kind in [NormKind::Rms, NormKind::L2] {
            for (weights, after) in [(kind == NormKind::L2, true), (kind == NormKind::Rms, false)] {
                let (mut spec, mut inputs) = problem(|_, _| (), 8);
                spec.norm = norm(kind, eps, weights, after);
                // a rotation of 1e30 has no bound
                let q_size = if after { f32::min(q_size, 1e28) } else { q_size };
                (inputs.q, inputs.k) = (scaled(&inputs.q, q_size), scaled(&inputs.k, k_size));
                for name in ["q_norm", "k_norm"].iter().filter(|_| weights) {
                    inputs.parameters.insert(name.to_string(), noise(64, 9));
                }
                let (q, k) = check::rotate(&spec, &inputs).unwrap();
                let (out, lse) = check::attention(&spec, &inputs).unwrap();
                for b in [&q, &k, &out, &lse] {
                    assert!(b.bound.iter().all(|b| b.is_finite()), "{kind:?} {q_size} {k_size} {after}");
                }
                for gpu in &gpus {
                    let (got_q, got_k) = gpu.rotate(&spec, &inputs).unwrap();
                    let got = gpu.attention(&spec, &inputs).unwrap();
                    for w in [q.worst(&got_q), k.worst(&got_k), out.worst(&got.out), lse.worst(&got.lse)] {
                        assert_eq!(w.failures, 0, "{kind:?} {q_size} {k_size} {after}: {w:?}");
                    }
                }
            }
        }
    }
}

/// A NaN or an infinity takes its row and no other; a row of zeros stays one.
#[test]
fn what_a_norm_cannot_divide_stays_within_its_row() {
    for gpu in gpus().into_iter().take(1) {
        let (rms, l2) = (NormKind::Rms, NormKind::L2);
        for (kind, eps, after) in [(rms, 0.0, false), (l2, 0.0, true), (rms, 1e-6, true), (l2, 1e-6, false)] {
            let (mut spec, mut inputs) = problem(|_, _| (), 10);
            spec.norm = norm(kind, eps, false, after);
            let mut values = inputs.q.data().to_f32();
            (values[64 + 3], values[3 * 64 + 60]) = (f32::NAN, f32::INFINITY);
            values[2 * 64..3 * 64].fill(0.0);
            inputs.q = Tensor::bshd(values, inputs.q.shape()).unwrap();
            let (q, _) = gpu.rotate(&spec, &inputs).unwrap();
            let (bounds, _) = check::rotate(&spec, &inputs).unwrap();
            assert!(q[64..128].iter().chain(&q[192..256]).all(|x| x.is_nan()), "{kind:?} {after}");
            assert!(q[128..192].iter().all(|x| *x == 0.0), "{kind:?} {after}");
            assert_eq!(bounds.worst(&q).failures, 0, "{kind:?} {after}");
            let (out, lse) = check::attention(&spec, &inputs).unwrap();
            let got = gpu.attention(&spec, &inputs).unwrap();
            assert_eq!(out.worst(&got.out).failures + lse.worst(&got.lse).failures, 0);
            let nan: Vec<bool> = got.lse.iter().map(|x| x.is_nan()).collect();
            let want: Vec<bool> = (0..20).map(|row| row == 5 || row == 15).collect();
            assert_eq!(nan, want, "{kind:?} {after}");
        }
    }
}

/// tau itself, at positions of every scale: q and k are 1.
#[test]
fn temperature_at_every_position() {
    let mut spec = Spec::new(1, 1, 1);
    (spec.positions, spec.softmax_scale) = (Positions::Ids, Some(1.0));
    let mut positions: Vec<i32> = (0..31).flat_map(|b| (-40..40).map(move |d| (1i32 << b).wrapping_add(d))).collect();
    positions.extend([i32::MAX, i32::MAX - 1, i32::MIN, -1, -8]);
    let rows = positions.len() as u32;
    let one = |len: u32| Tensor::bshd(vec![1.0f32; len as usize], [1, len, 1, 1]).unwrap();
    let mut inputs = Inputs::new(one(rows), one(1), one(1));
    (inputs.q_positions, inputs.k_positions) = (Some(positions.clone()), Some(vec![0]));
    let gpus = gpus();
    for (scale, floor) in [(0.1, 8192), (1.0, 1), (1e6, 1), (-0.3, 8)] {
        spec.temperature = Some(Temperature::new(scale, floor));
        let want = check::scores(&spec, &inputs).unwrap();
        assert_eq!(want.value[want.value.len() - 3..], [1.0, 1.0, 1.0]);
        for gpu in &gpus {
            let worst = want.worst(&gpu.scores(&spec, &inputs).unwrap());
            println!("{}: scale {scale}, floor {floor}: {:.3} of the bound", gpu.describe(), worst.ratio);
            assert_eq!(worst.failures, 0, "{worst:?}");
        }
    }
}
