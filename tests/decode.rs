//! Few rows over many keys: every split, every form of the kernels, both sides of every boundary.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, in_sample, inputs, noise, opened, sampled};
use ropewalk::*;
use std::sync::OnceLock;

/// Every adapter with WebGPU's default limits, and with all that it has; opened once, so that tests share pipelines.
fn adapters() -> &'static [Gpu] {
    static ALL: OnceLock<Vec<Gpu>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = gpus();
        if !all.is_empty() {
            all.extend(opened(&GpuOptions::default()));
        }
        sampled(2, all)
    })
}

fn spec(heads: u32, kv_heads: u32, dim: u32) -> Spec {
    let mut spec = Spec::new(heads, kv_heads, dim);
    spec.mask = Mask::causal();
    spec
}

fn rotated(mut spec: Spec, pairing: Pairing, dim: u32) -> Spec {
    spec.rotary = Some(Rotary::new(pairing, dim, 1e4));
    spec
}

fn of_few_rows(family: Family) -> bool {
    matches!(family, Family::Decode | Family::Wide)
}

/// What the families may take of a call.
fn tunings(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Vec<Tuning> {
    let problem = Problem::new(spec, inputs).unwrap();
    let all = Tuning::candidates(Kernel::Attention, spec, &problem.shape(), gpu.limits()).unwrap();
    all.into_iter().filter(|t| of_few_rows(t.family)).collect()
}

fn forced(gpu: &Gpu, tuning: Tuning) -> Gpu {
    let mut limits = *gpu.limits();
    limits.tuning = Some(tuning);
    gpu.with_limits(limits)
}

fn run(gpu: &Gpu, spec: &Spec, inputs: &Inputs, tuning: Tuning) -> Output<f32> {
    let (got, stats) = forced(gpu, tuning).attention_with(spec, inputs, &|_| ()).unwrap();
    assert!([".decode", ".wide"].iter().any(|of| stats.kernel.contains(of)), "{}", stats.kernel);
    got
}

/// Which tunings of a call.
#[derive(Clone, Copy)]
enum Which {
    /// The most splits.
    Most,
    /// The best guess, the most and the fewest splits.
    Ends,
    Every,
}

/// Runs some tunings on every adapter and checks every element.
fn check(spec: &Spec, inputs: &Inputs, which: Which) {
    check_on(adapters(), None, spec, inputs, which);
}

/// The n-th of many calls: adapters and families in turn, since drivers take seconds to compile each of them.
fn check_in_turn(n: usize, spec: &Spec, inputs: &Inputs, which: Which) {
    if !in_sample(3, n) {
        return;
    }
    let all = adapters();
    let one = if all.is_empty() { all } else { std::slice::from_ref(&all[n / 2 % all.len()]) };
    check_on(one, Some(n), spec, inputs, which);
}

fn check_on(gpus: &[Gpu], turn: Option<usize>, spec: &Spec, inputs: &Inputs, which: Which) {
    for gpu in gpus {
        let all = tunings(gpu, spec, inputs);
        assert!(!all.is_empty(), "{}: {spec:?}", gpu.describe());
        let mut some: Vec<Tuning> = Vec::new();
        let families: Vec<_> = all.chunk_by(|a, b| a.family == b.family).collect();
        let in_turn = turn.map(|n| n % families.len());
        for (_, all) in families.iter().enumerate().filter(|(at, _)| in_turn.is_none_or(|n| n == *at)) {
            let ends = [Some(&all[0]), all.iter().min_by_key(|t| t.splits), all.iter().max_by_key(|t| t.splits)];
            some.extend(match which {
                Which::Most => ends[2].into_iter().copied().collect(),
                Which::Ends => ends.into_iter().flatten().copied().collect(),
                Which::Every => all.to_vec(),
            });
        }
        some.dedup();
        for tuning in some {
            let got = run(gpu, spec, inputs, tuning);
            let report = check::verify(spec, inputs, &got, &check::Options::default(), &|_| ()).unwrap();
            assert!(
                report.passed(),
                "{}: {tuning:?}: {:?}: {report}",
                gpu.describe(),
                Problem::new(spec, inputs).unwrap().shape()
            );
        }
    }
}

fn bits(output: &Output<f32>) -> Vec<u32> {
    output.out.iter().chain(&output.lse).map(|x| x.to_bits()).collect()
}

#[test]
fn lengths_on_both_sides_of_splits_and_tiles() {
    for kv_len in [1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 700] {
        check(&spec(4, 1, 20), &inputs(&spec(4, 1, 20), 1, 1, kv_len, kv_len as u64), Which::Every);
    }
    let long = spec(2, 1, 8);
    for kv_len in [4095, 4097] {
        check(&long, &inputs(&long, 1, 1, kv_len, 5), Which::Ends);
    }
}

#[test]
fn groups_and_queries_up_to_the_most_rows() {
    for (heads, kv_heads) in sampled(2, [(2, 2), (4, 1), (7, 1), (8, 1), (6, 2), (16, 1)]) {
        for q_len in (1..=4).filter(|q_len| q_len * heads / kv_heads <= 16) {
            let spec = rotated(spec(heads, kv_heads, 12), Pairing::Half, 12);
            check(&spec, &inputs(&spec, 2, q_len, 150, q_len as u64), Which::Ends);
        }
    }
    // one row more is another family's
    let (few, many) = (spec(8, 1, 12), spec(17, 1, 12));
    for gpu in adapters() {
        assert!(!tunings(gpu, &few, &inputs(&few, 1, 2, 50, 0)).is_empty());
        assert!(tunings(gpu, &few, &inputs(&few, 1, 3, 50, 0)).is_empty());
        assert!(tunings(gpu, &many, &inputs(&many, 1, 1, 50, 0)).is_empty());
    }
}

#[test]
fn every_kind_of_head_rotation_and_storage() {
    let mut n = 0;
    let mut check = |spec: &Spec, inputs: &Inputs| {
        check_in_turn(n, spec, inputs, Which::Most);
        n += 1;
    };
    for (dim, v_dim) in [(1, 3), (33, 7), (36, 80), (256, 256)] {
        let mut spec = spec(4, 2, dim);
        spec.v_head_dim = v_dim;
        check(&spec, &inputs(&spec, 1, 2, 100, dim as u64));
    }
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let mut spec = rotated(spec(4, 2, 32), Pairing::Interleaved, 16);
        spec.dtype = dtype;
        self::check(&spec, &inputs(&spec, 1, 2, 100, 3), Which::Most);
        (spec.head_dim, spec.v_head_dim) = (33, 7);
        self::check(&spec, &inputs(&spec, 1, 2, 100, 3), Which::Most);
    }
    // four pairs at a time, and where they do not stand in whole vec4 or a norm comes first; the offset, rotated caches
    let pairings = [Pairing::Half, Pairing::Interleaved, Pairing::InterleavedInHalfOut, Pairing::HalfOfHalves];
    for (pairing, rotary_dim, offset) in pairings.into_iter().flat_map(|p| [(p, 32, 8), (p, 20, 5)]) {
        let mut spec = rotated(spec(4, 2, 48), pairing, rotary_dim);
        let rotary = spec.rotary.as_mut().unwrap();
        (rotary.offset, rotary.keys_rotated) = (offset, false);
        check(&spec, &inputs(&spec, 2, 1, 70, 4));
        spec.norm = Some(Norm::new(NormKind::Rms, 1e-6));
        check(&spec, &inputs(&spec, 2, 1, 70, 4));
        spec.norm = None;
        spec.rotary.as_mut().unwrap().keys_rotated = true;
        check(&spec, &inputs(&spec, 2, 1, 70, 4));
    }
}

#[test]
fn masks_terms_and_sinks() {
    let alibi = |form| Bias::Alibi { form, slopes: None, scale: 1.0 };
    type Change = (&'static str, fn(&mut Spec));
    let changes: [Change; 9] = [
        ("window", |s| s.mask.window_left = Some(40)),
        ("window of one", |s| s.mask.window_left = Some(0)),
        ("chunk", |s| s.mask.chunk = Some(50)),
        ("no mask", |s| s.mask = Mask::none()),
        ("top left", |s| s.mask.alignment = Alignment::TopLeft),
        ("cap", |s| s.logits_soft_cap = Some(2.0)),
        ("sink", |s| s.sink = Some(Sink::Learned)),
        ("zero sink and window", |s| (s.sink, s.mask.window_left) = (Some(Sink::Zero), Some(33))),
        ("table", |s| s.bias = vec![Bias::Table { min: -30, max: 0 }]),
    ];
    for (n, (name, change)) in changes.into_iter().enumerate() {
        let mut spec = spec(6, 2, 16);
        change(&mut spec);
        let mut inputs = inputs(&spec, 2, 3, 200, 7);
        for p in spec.parameters() {
            inputs.parameters.insert(p.name.clone(), noise(p.len() as usize, 8));
        }
        println!("{name}");
        check_in_turn(n, &spec, &inputs, Which::Ends);
    }
    for form in [AlibiForm::Relative, AlibiForm::KeyFromEnd] {
        let mut spec = spec(6, 2, 16);
        spec.bias = vec![alibi(form)];
        check(&spec, &inputs(&spec, 1, 3, 200, 7), Which::Ends);
    }
    // embeddings of relative positions are another family's
    let mut relative = spec(4, 2, 16);
    relative.relative = vec![Relative::new(RelativeSide::Key, IndexMap::distance(-4, 4))];
    let shape = Shape::new(&relative, 1, 1, 64);
    let all = Tuning::candidates(Kernel::Attention, &relative, &shape, &Limits::default()).unwrap();
    assert!(all.iter().all(|t| !of_few_rows(t.family)) && !all.is_empty());
}

/// The smallest scores grow to the end, so that every split begins far below what the row's maximum was before it.
#[test]
fn maxima_that_rise_within_every_split() {
    let spec = spec(1, 1, 4);
    let mut inputs = inputs(&spec, 1, 1, 512, 1);
    inputs.q = Tensor::bshd(vec![2.0; 4], [1, 1, 1, 4]).unwrap();
    let steps = |j: usize| if j < 32 { 8.0 } else { (j % 128 / 32) as f32 * 1.5 - 6.0 };
    let keys: Vec<f32> = (0..512 * 4).map(|n| steps(n / 4)).collect();
    inputs.k = Tensor::bshd(keys, [1, 512, 1, 4]).unwrap();
    check(&spec, &inputs, Which::Every);
}

/// Of one token, whose heads all see the same keys, and of two.
#[test]
fn keys_that_no_row_sees_change_no_bit() {
    unseen_keys_change_no_bit(1);
    unseen_keys_change_no_bit(2);
}

fn unseen_keys_change_no_bit(q_len: u32) {
    let mut spec = spec(4, 2, 16);
    spec.mask.window_left = Some(70);
    let mut clean = inputs(&spec, 1, q_len, 300, 9);
    let poison = |t: &Tensor, value: f32| {
        let [_, len, heads, dim] = t.shape();
        let row = |j, h| t.row(0, j, h).map(|x| x as f32).collect::<Vec<_>>();
        let seen = |j: u32| (228..290).contains(&j);
        let values = (0..len).flat_map(|j| (0..heads).map(move |h| (j, h)));
        let values = values.flat_map(|(j, h)| if seen(j) { row(j, h) } else { vec![value; dim as usize] });
        Tensor::bshd(values.collect::<Vec<_>>(), t.shape()).unwrap()
    };
    // the last ten keys are not in use; the window of the last row begins at 219, of one before it at 218
    clean.kv_len = Some(290);
    let mut spoiled = clean.clone();
    for value in [f32::NAN, f32::INFINITY] {
        let keep = |t: &Tensor| {
            let spoiled = poison(t, value);
            let [_, len, heads, dim] = t.shape();
            let pick = |j: u32| if (218..228).contains(&j) { t } else { &spoiled };
            let rows = (0..len).flat_map(|j| (0..heads).map(move |h| (j, h)));
            let values: Vec<f32> =
                rows.flat_map(|(j, h)| pick(j).row(0, j, h).map(|x| x as f32).collect::<Vec<_>>()).collect();
            Tensor::bshd(values, [1, len, heads, dim]).unwrap()
        };
        (spoiled.k, spoiled.v) = (keep(&clean.k), keep(&clean.v));
        for gpu in adapters() {
            for tuning in tunings(gpu, &spec, &clean) {
                let (a, b) = (run(gpu, &spec, &clean, tuning), run(gpu, &spec, &spoiled, tuning));
                assert_eq!(bits(&a), bits(&b), "{}: {tuning:?}, {value}", gpu.describe());
            }
        }
    }
}

/// A key that one row of a token sees and another does not: its NaN value reaches the one alone.
#[test]
fn values_reach_the_rows_that_see_them() {
    let spec = spec(2, 1, 8);
    let mut inputs = inputs(&spec, 1, 3, 97, 2);
    let mut values = noise(97 * 8, 3);
    values[96 * 8..].fill(f32::NAN);
    inputs.v = Tensor::bshd(values, [1, 97, 1, 8]).unwrap();
    for gpu in adapters() {
        for tuning in tunings(gpu, &spec, &inputs) {
            let got = run(gpu, &spec, &inputs, tuning);
            for (i, rows) in got.out.chunks(2 * 8).enumerate() {
                assert!(rows.iter().all(|x| x.is_nan() == (i == 2)), "{}: {tuning:?}: token {i}", gpu.describe());
            }
        }
    }
}

#[test]
fn a_nan_score_makes_its_row_nan_in_every_split() {
    let spec = spec(4, 1, 8);
    for j in [0, 40, 299] {
        let mut inputs = inputs(&spec, 1, 1, 300, 2);
        let mut keys = noise(300 * 8, 3);
        keys[j * 8 + 3] = f32::NAN;
        inputs.k = Tensor::bshd(keys, [1, 300, 1, 8]).unwrap();
        for gpu in adapters() {
            for tuning in tunings(gpu, &spec, &inputs) {
                let got = run(gpu, &spec, &inputs, tuning);
                assert!(got.out.iter().chain(&got.lse).all(|x| x.is_nan()), "{}: {tuning:?}: {j}", gpu.describe());
            }
        }
    }
}

#[test]
fn short_steps_of_a_long_plan_and_rows_without_keys() {
    let mut spec = rotated(spec(4, 2, 16), Pairing::Half, 16);
    spec.kv_lens = true;
    spec.sink = Some(Sink::Zero);
    for lens in sampled(2, [[1, 0], [31, 33], [128, 129], [600, 2]]) {
        let mut inputs = inputs(&spec, 2, 1, 600, 4);
        inputs.kv_lens = Some(lens.to_vec());
        check(&spec, &inputs, Which::Every);
    }
    spec.sink = None;
    let mut inputs = inputs(&spec, 2, 1, 600, 4);
    inputs.kv_lens = Some(vec![0, 40]);
    for gpu in adapters() {
        for tuning in tunings(gpu, &spec, &inputs) {
            let got = run(gpu, &spec, &inputs, tuning);
            let empty = &got.out[..4 * 16];
            assert!(empty.iter().all(|x| *x == 0.0) && got.lse[..4].iter().all(|x| *x == f32::NEG_INFINITY));
        }
    }
}

#[test]
fn packed_sequences() {
    let mut spec = spec(4, 2, 16);
    spec.packed = true;
    let mut inputs = inputs(&spec, 1, 6, 400, 11);
    (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = (Some(vec![0, 1, 1, 4, 6]), Some(vec![0, 33, 40, 360, 400]));
    check(&spec, &inputs, Which::Every);
}

#[test]
fn twenty_runs_give_the_same_bits() {
    let spec = rotated(spec(8, 2, 32), Pairing::Half, 32);
    let inputs = inputs(&spec, 1, 2, 500, 6);
    for gpu in adapters() {
        let tuning = tunings(gpu, &spec, &inputs)[0];
        let first = bits(&run(gpu, &spec, &inputs, tuning));
        assert!((1..20).all(|_| bits(&run(gpu, &spec, &inputs, tuning)) == first), "{}", gpu.describe());
    }
}

#[test]
fn plans_cover_every_split_once_within_the_limits() {
    let spec = rotated(spec(8, 4, 64), Pairing::Half, 64);
    let shape = Shape::new(&spec, 3, 1, 5000);
    for (flop, groups, cpu) in [(1.0, 65_535, false), (1e12, 5_000, true), (1e7, 700, true)] {
        let mut limits = Limits::default();
        (limits.max_flop_per_dispatch, limits.max_workgroups) = (flop, groups);
        (limits.cpu, limits.subgroup_size) = (cpu, if cpu { 8 } else { 0 });
        let all = Tuning::candidates(Kernel::Attention, &spec, &shape, &limits).unwrap();
        for tuning in all.into_iter().filter(|t| of_few_rows(t.family)) {
            let plan = Plan::with_tuning(Kernel::Attention, &spec, &shape, &limits, Some(tuning)).unwrap();
            let mut seen = std::collections::BTreeMap::new();
            let mut combined = 0;
            for chunk in plan.chunks() {
                let ([x, y, z], [nx, ny, nz]) = (chunk.first, chunk.workgroups);
                assert!(nx.max(ny).max(nz) <= groups, "{chunk:?}");
                match chunk.entry {
                    "main" => (z..z + nz).for_each(|z| {
                        (y..y + ny).for_each(|y| (x..x + nx).for_each(|x| *seen.entry((z, y, x)).or_insert(0) += 1))
                    }),
                    "combine" => combined += ny * nz,
                    entry => assert!(["prepare_q", "prepare_k"].contains(&entry)),
                }
            }
            let splits = seen.keys().map(|(_, _, x)| x + 1).max().unwrap();
            assert!(splits <= tuning.splits && seen.len() as u32 == 12 * splits, "{tuning:?}");
            assert!(seen.values().all(|n| *n == 1) && combined == 12);
        }
    }
}
