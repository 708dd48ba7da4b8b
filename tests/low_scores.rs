//! Rows whose scores are huge: finite masks of -1e9, -1e15 or the least f32, alone or beside others. Weights add up to 1 whatever the size
//! of the scores, and every such row is checked.

#[cfg(feature = "wgpu")]
use crate::common;
use ropewalk::*;

const KEYS: usize = 9;
const DIM: usize = 16;
const LEVELS: [f32; 13] = [0.0, -1e3, -1e6, -1e9, -1e12, -1e15, -1e20, -1e30, -1e35, f32::MIN, 1e6, 1e15, 1e29];

/// Reproducible numbers from -1 to 1.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Three queries with a dense bias; values from 1 to 2, so that a sum of them is no mean.
fn problem(size: f32, bias: impl Fn(usize) -> f32) -> (Spec, Inputs) {
    problem_of(3, size, bias)
}

fn problem_of(queries: usize, size: f32, bias: impl Fn(usize) -> f32) -> (Spec, Inputs) {
    let mut spec = Spec::new(1, 1, DIM as u32);
    spec.dense_bias = true;
    let rows = |n: usize, seed: u32, of: &dyn Fn(f32) -> f32| {
        let values: Vec<f32> = noise(n * DIM, seed).into_iter().map(of).collect();
        Tensor::bshd(values, [1, n as u32, 1, DIM as u32]).unwrap()
    };
    let (q, k) = (rows(queries, 1, &|x| size * x), rows(KEYS, 2, &|x| 3.0 * x));
    let mut inputs = Inputs::new(q, k, rows(KEYS, 3, &|x| 1.5 + 0.5 * x));
    let bias = (0..KEYS).map(bias).collect();
    inputs.attn_bias = Some(Dense::new([1, 1, 1, KEYS as u32], bias).unwrap());
    (spec, inputs)
}

/// What f32 makes of it, without any trick but the subtraction of the maximum; `weight` mutates.
fn in_f32(spec: &Spec, inputs: &Inputs, weight: impl Fn(f32, f32) -> f32) -> Output<f32> {
    let row = |t: &Tensor, i: u32| t.row(0, i, 0).map(|x| x as f32).collect::<Vec<_>>();
    let (mut out, mut lse) = (Vec::new(), Vec::new());
    for i in 0..3 {
        let q = row(&inputs.q, i);
        let score = |j: usize| {
            let product: f32 = q.iter().zip(row(&inputs.k, j as u32)).map(|(q, k)| q * spec.scale() as f32 * k).sum();
            (product + inputs.attn_bias.as_ref().unwrap().get([0, 0, 0, j as u32])).max(SCORE_FLOOR as f32)
        };
        let s: Vec<f32> = (0..KEYS).map(score).collect();
        let max = s.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = s.iter().map(|s| (s - max).exp()).sum();
        lse.push(max + sum.ln());
        for c in 0..DIM {
            out.push((0..KEYS).map(|j| weight((s[j] - max).exp(), sum) * row(&inputs.v, j as u32)[c]).sum());
        }
    }
    Output { out_shape: [1, 3, 1, DIM as u32], out, lse }
}

fn verify(spec: &Spec, inputs: &Inputs, got: &Output<f32>) -> check::Report {
    check::verify(spec, inputs, got, &check::Options::default(), &|_| ()).unwrap()
}

/// All keys on a level, or every other one.
fn problems() -> impl Iterator<Item = (String, Spec, Inputs)> {
    problems_of(3)
}

fn problems_of(queries: usize) -> impl Iterator<Item = (String, Spec, Inputs)> {
    let levels = LEVELS.into_iter().flat_map(|level| [0.0, 0.01, 1.0].map(|size| (level, size)));
    levels.flat_map(move |(level, size)| {
        let all = (format!("all at {level:e}, queries of {size}"), problem_of(queries, size, |_| level));
        let every_other = |j: usize| if j.is_multiple_of(2) { level } else { 0.0 };
        let some = (format!("some at {level:e}, queries of {size}"), problem_of(queries, size, every_other));
        [all, some].map(|(name, (spec, inputs))| (name, spec, inputs))
    })
}

#[test]
fn rows_of_huge_scores_are_means_of_their_values() {
    for level in LEVELS {
        let (spec, inputs) = problem(0.0, |_| level);
        let got = reference::attention(&spec, &inputs).unwrap();
        for c in 0..DIM {
            let mean = (0..KEYS as u32).map(|j| inputs.v.row(0, j, 0).nth(c).unwrap()).sum::<f64>() / KEYS as f64;
            assert!((got.out[c] - mean).abs() < 1e-12, "{level:e}: {} for {mean}", got.out[c]);
        }
    }
    for (name, spec, inputs) in problems() {
        let got = reference::attention(&spec, &inputs).unwrap();
        assert!(got.out.iter().all(|o| (1.0..2.0).contains(o)), "{name}: {:?}", got.out);
    }
}

#[test]
fn rows_of_huge_scores_are_checked_and_wrong_ones_found() {
    for (name, spec, inputs) in problems() {
        let right = in_f32(&spec, &inputs, |p, sum| p / sum);
        let report = verify(&spec, &inputs, &right);
        assert!(report.passed(), "{name}: {report}");
        assert_eq!((report.out.unbounded, report.lse.unbounded), (0, 0), "{name}: {report}");
        // the sum of the values that are seen in place of their mean, where there is more than one
        let (out, lse) = check::attention(&spec, &inputs).unwrap();
        assert!(out.bound.iter().all(|b| *b < 1.01), "{name}: {:?}", out.bound);
        assert!(lse.value.iter().zip(&lse.bound).all(|(lse, b)| *b < 1e-5 * lse.abs().max(1.0)), "{name}: {lse:?}");
        let summed = in_f32(&spec, &inputs, |p, _| p);
        if right.out != summed.out {
            assert_eq!(verify(&spec, &inputs, &summed).out.failures, (3 * DIM) as u64, "{name}");
        }
        // what is exactly known, or known well, finds less
        let known = ["0e0", "-1e3", "-1e12", "-1e15", "-1e20", "-1e30", "-1e35", "-3.4028235e38"];
        if known.iter().any(|level| name.contains(&format!("at {level},"))) || name.ends_with(" 0") {
            let scaled = in_f32(&spec, &inputs, |p, sum| 1.05 * p / sum);
            let report = verify(&spec, &inputs, &scaled);
            assert!(!report.passed(), "{name}: {report}");
        }
    }
}

#[test]
fn no_right_row_of_mixed_sizes_is_called_wrong() {
    let mut random = noise(1 << 15, 4).into_iter().map(|x| 0.5 + 0.5 * x as f64);
    let mut random = || random.next().unwrap();
    for _ in 0..1000 {
        let size = [0.0, 1e-3, 0.1, 1.0, 10.0, 1e4, 1e8][(random() * 6.99) as usize];
        let exponent = random() * 40.0 - 3.0;
        let sign = if random() < 0.15 && exponent < 28.0 { 1.0 } else { -1.0 };
        let (level, kind) = (sign * 10f64.powf(exponent).min(f32::MAX as f64), (random() * 3.99) as u32);
        let one = |r: f64| match kind {
            0 => level,
            1 => level * (1.0 - 1e-6 * r),
            2 if r < 0.5 => 0.0,
            2 => level,
            _ => level * r,
        };
        let bias: Vec<f32> = (0..KEYS).map(|_| one(random()) as f32).collect();
        let (spec, inputs) = problem(size, |j| bias[j]);
        let report = verify(&spec, &inputs, &in_f32(&spec, &inputs, |p, sum| p / sum));
        assert!(report.passed(), "queries of {size}, {bias:?}: {report}");
        assert_eq!((report.out.unbounded, report.lse.unbounded), (0, 0), "queries of {size}, {bias:?}: {report}");
    }
}

/// A score that f32 may put above another counts with what it may weigh, however little that is in f64.
#[test]
fn a_weight_that_cancellation_hides_is_not_taken_for_zero() {
    let one = |x: &[f32], dim: u32| Tensor::bshd(x.to_vec(), [1, x.len() as u32 / dim, 1, dim]).unwrap();
    let mut spec = Spec::new(1, 1, 2);
    (spec.v_head_dim, spec.softmax_scale) = (1, Some(1.0));
    let next = -f32::from_bits(1f32.to_bits() + 1);
    let inputs = Inputs::new(one(&[1e15, 1e15], 2), one(&[1.0, next, 0.0, 0.0], 2), one(&[1.0, 0.0], 1));
    let (out, lse) = check::attention(&spec, &inputs).unwrap();
    assert_eq!(out.value, [0.0]);
    // -1.2e8 in f64, anything up to 7e8 in f32
    assert!((0.9..1.1).contains(&out.bound[0]) && (1e8..1e10).contains(&lse.bound[0]), "{out:?} {lse:?}");
}

/// A function of one's own receives what f32 makes of a score, and is checked with it.
#[test]
fn rows_of_huge_scores_are_checked_behind_a_score_mod() {
    for (name, mut spec, mut inputs) in problems() {
        spec.score_mod = Some("fn score_mod(s: f32, at: ScoreAt) -> f32 { return s; }".into());
        inputs.score_mod = Some(ScoreMod::new(0.0, |s, _| s));
        let report = verify(&spec, &inputs, &in_f32(&spec, &inputs, |p, sum| p / sum));
        assert!(report.passed() && report.out.unbounded + report.lse.unbounded == 0, "{name}: {report}");
        let halved = in_f32(&spec, &inputs, |p, sum| 0.5 * p / sum);
        assert!(name.contains(" 1e") || !verify(&spec, &inputs, &halved).passed(), "{name}");
    }
}

/// -inf is the floor and +inf makes its row NaN, whatever they come from.
#[test]
fn rows_of_infinite_scores_are_checked() {
    for infinity in [f32::INFINITY, f32::NEG_INFINITY] {
        for place in 0..3 {
            let (spec, mut inputs) = problem(1.0, |j| if place == 2 && j == 4 { infinity } else { 0.5 });
            let tensor = if place == 0 { &mut inputs.q } else { &mut inputs.k };
            if let (Data::F32(x), 0..2) = (tensor.data_mut(), place) {
                x[DIM + 3] = infinity;
            }
            let (out, lse) = check::attention(&spec, &inputs).unwrap();
            assert!(out.bound.iter().chain(&lse.bound).all(|b| *b < 1e-3), "{infinity} at {place}: {out:?} {lse:?}");
            let right = in_f32(&spec, &inputs, |p, sum| p / sum);
            let report = verify(&spec, &inputs, &right);
            assert!(report.passed() && report.out.unbounded == 0, "{infinity} at {place}: {report}");
            let nan = Output { out: vec![f32::NAN; right.out.len()], lse: right.lse.clone(), ..right };
            let all = out.value.iter().all(|o| o.is_nan());
            assert!(all || !verify(&spec, &inputs, &nan).passed(), "{infinity} at {place}");
        }
    }
    // a device may read what is subnormal as 0, and make NaN of it
    let (spec, mut inputs) = problem(0.0, |_| 0.0);
    for (tensor, x) in [(&mut inputs.q, -1e-39), (&mut inputs.k, f32::INFINITY)] {
        if let Data::F32(all) = tensor.data_mut() {
            all[3] = x;
        }
    }
    assert_eq!(check::attention(&spec, &inputs).unwrap().0.bound[0], f64::INFINITY);
}

#[cfg(feature = "wgpu")]
#[test]
fn every_kernel_gets_rows_of_huge_scores_right() {
    let gpus: Vec<Gpu> = common::gpus().into_iter().chain(common::equipped(|_| true)).collect();
    let mut families = std::collections::BTreeSet::new();
    for gpu in common::sampled(2, &gpus) {
        for queries in [3, 70] {
            let (spec, inputs) = problem_of(queries, 0.0, |_| 0.0);
            let shape = Problem::new(&spec, &inputs).unwrap().shape();
            let mut all = Tuning::candidates(Kernel::Attention, &spec, &shape, gpu.limits()).unwrap();
            // one tuning of each family
            all.sort_by_key(|tuning| tuning.family.name());
            all.dedup_by_key(|tuning| tuning.family.name());
            for tuning in all {
                families.insert(tuning.family.name());
                let mut limits = *gpu.limits();
                limits.tuning = Some(tuning);
                let gpu = gpu.with_limits(limits);
                for (name, spec, inputs) in problems_of(queries) {
                    let got = gpu.attention(&spec, &inputs).unwrap();
                    let report = verify(&spec, &inputs, &got);
                    let right = report.passed() && report.out.unbounded + report.lse.unbounded == 0;
                    assert!(right, "{tuning} on {}, {queries} queries, {name}: {report}", gpu.describe());
                }
            }
        }
    }
    assert!(gpus.is_empty() || families.len() >= 3, "{families:?}");
}
