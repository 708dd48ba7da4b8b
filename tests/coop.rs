//! The family `coop`: what suits it, its texts in naga's eyes, and, on adapters with cooperative matrices, results within the bounds of
//! its arithmetic.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{inputs, left_out};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use ropewalk::case::CaseId;
use ropewalk::check::Arithmetic;
use ropewalk::*;
use std::sync::LazyLock;

/// Adapters that were opened with matrices and passed the self-test, once for all tests.
static DEVICES: LazyLock<Vec<Gpu>> = LazyLock::new(|| {
    let mut options = GpuOptions::default();
    options.cooperative_matrix = true;
    let all: Vec<Gpu> = Gpu::all(&options).into_iter().filter_map(Result::ok).collect();
    for gpu in &all {
        match gpu.cooperative_matrix() {
            Ok(size) => assert!(gpu.limits().cooperative_matrix == size && gpu.limits().matrix_subgroup >= 4),
            Err(why) => {
                assert!(!why.is_empty() && gpu.limits().cooperative_matrix == 0);
                println!("{}: {why}", gpu.describe());
            }
        }
    }
    all.into_iter().filter(|gpu| gpu.cooperative_matrix().is_ok()).collect()
});

fn devices() -> &'static [Gpu] {
    if DEVICES.is_empty() {
        left_out("no adapter with cooperative matrices");
    }
    &DEVICES
}

fn spec(heads: u32, kv_heads: u32, dim: u32, v_dim: u32) -> Spec {
    let mut spec = Spec::new(heads, kv_heads, dim);
    (spec.dtype, spec.v_head_dim, spec.mask) = (Dtype::F16, v_dim, Mask::causal());
    spec.rotary = Some(Rotary::new(Pairing::Half, dim, 10_000.0));
    spec
}

fn tilings(spec: &Spec, shape: &Shape, limits: &Limits) -> Vec<Tuning> {
    let all = Tuning::candidates(Kernel::Attention, spec, shape, limits).expect("a valid spec");
    all.into_iter().filter(|t| t.family == Family::Coop).collect()
}

/// The device that takes a tuning.
fn tuned(gpu: &Gpu, tuning: Tuning) -> Gpu {
    let mut limits = *gpu.limits();
    limits.tuning = Some(tuning);
    gpu.with_limits(limits)
}

fn run(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Output<f32> {
    let (out, stats) = gpu.attention_with(spec, inputs, &|_| ()).expect("it runs");
    assert!(stats.kernel.contains(".coop"), "{} is not of the family", stats.kernel);
    out
}

fn assert_close(got: &Output<f32>, spec: &Spec, inputs: &Inputs, what: &str) -> f64 {
    let (out, lse) = check::attention_in(spec, inputs, Arithmetic::F16Matrix).expect("bounds");
    let mut largest = 0f64;
    for (name, worst) in [("out", out.worst(&got.out)), ("lse", lse.worst(&got.lse))] {
        assert!(worst.failures == 0 && worst.unbounded == 0, "{what}, {name}: {worst:?}");
        largest = largest.max(worst.ratio);
    }
    largest
}

/// Heads of several sizes, rows that share a key, every tile, at both sides of the edges of tiles of rows and keys. Random data are no
/// matrix's transpose.
#[test]
fn tiles_within_their_bounds() {
    for gpu in devices() {
        for (n, (dim, v_dim, heads, kv_heads)) in
            [(64, 64, 4, 2), (128, 128, 2, 1), (16, 48, 3, 3), (96, 32, 5, 1), (32, 64, 2, 2)].into_iter().enumerate()
        {
            let spec = spec(heads, kv_heads, dim, v_dim);
            let all = tilings(&spec, &Shape::new(&spec, 1, 100, 100), gpu.limits());
            assert!(!all.is_empty(), "no tile for {dim}");
            // every tile of one head, the first of the others
            for tuning in all.into_iter().take(if n == 0 { usize::MAX } else { 1 }) {
                let gpu = &tuned(gpu, tuning);
                let (rows, keys) = (tuning.tile_q.div_ceil(heads / kv_heads), tuning.tile_k);
                let mut largest = 0f64;
                for (q_len, kv_len) in
                    [(1, 1), (rows - 1, keys - 1), (rows, keys), (rows + 1, keys + 1), (7, 3 * keys + 5)]
                {
                    let (q_len, what) = (q_len.max(1), format!("{tuning:?}, d {dim}, q {q_len}, k {kv_len}"));
                    let inputs = inputs(&spec, 2, q_len, kv_len, 5 + n as u64);
                    largest = largest.max(assert_close(&run(gpu, &spec, &inputs), &spec, &inputs, &what));
                }
                println!("d {dim}, {tuning:?}: {largest:.3} of the bound");
            }
        }
    }
}

/// Every mask and term that the family takes, norms, pairings, positions, layouts and values that are hard, by the catalogue's names; taken without being forced.
#[test]
fn cases_within_their_bounds() {
    let cases = [
        "control/q65k130",
        "d32+no-rotation+no-mask+gqa3/q22k75",
        "d32+interleaved+window+sink/q40k140",
        "d32+interleaved-in-half-out+chunk+cap/q40k140",
        "d32+window-two-sided+t5+kv-lens/q40k75",
        "d32+window-right+kerple-log+bhsd/q37k75",
        "d32+window-left+fire+sink-zero/q37k75",
        "d32+chunk-top-left+two-tables/q75k40",
        "d32+mask-empty-rows+heads7/q40k75",
        "d32+mask+alibi-slopes+ids-far/q37k75",
        "d32+unseen-nan/q37k75",
        "d32+dense-minus-infinity+cap/q37k75",
        "d32+dense-batch+top-left/q40k31",
        "d32+gated-alibi-and-grid/q37k75",
        "d32+rms-norm-weights+cache/q40k131",
        "d32+l2-norm-after+content-bias/q37k75",
        "d32+temperature-and-head-scale+swin/q40k75",
        "d32+rotated-keys+window-self/q40k140",
        "d32+three-streams+gaps/q37k75",
        "d32+peaked+sink+start3/q40k140",
        "d32+nan-query/q37k75",
    ];
    for gpu in devices() {
        for name in cases {
            let address = format!("attention/{name}/f16/seed1");
            let case = address.parse::<CaseId>().and_then(|id| id.build()).unwrap_or_else(|e| panic!("{address}: {e}"));
            let (out, lse) = check::attention_in(&case.spec, &case.inputs, Arithmetic::F16Matrix).expect("bounds");
            let got = run(&tuned(gpu, "coop".parse().expect("a family")), &case.spec, &case.inputs);
            for (what, worst) in [("out", out.worst(&got.out)), ("lse", lse.worst(&got.lse))] {
                assert!(worst.failures == 0, "{name}, {what}: {worst:?}");
                println!("{name}, {what}: {:.3} of the bound, {} unbounded", worst.ratio, worst.unbounded);
            }
        }
    }
}

/// Scores that all lie far below 0, or some beside others, down to the least f32: rows are means of what they see, and lse is the level's.
#[test]
fn rows_of_low_scores_are_means() {
    for gpu in devices() {
        let mut spec = Spec::new(1, 1, 16);
        (spec.dtype, spec.dense_bias) = (Dtype::F16, true);
        for level in [0.0, -1e3, -1e6, -1e12, -1e20, -1e30, -1e37, -9e37, -1e38, -2.5e38, f32::MIN, 1e6, 1e15, 1e29] {
            for every_other in [false, true] {
                let mut inputs = inputs(&spec, 1, 9, 40, 7);
                let v: Vec<f32> =
                    inputs.v.data().to_f32().iter().map(|x| 1.5 + 0.5 * (x / 4.0).clamp(-1.0, 1.0)).collect();
                inputs.v = Tensor::bshd(Data::from_f32(Dtype::F16, &v), [1, 40, 1, 16]).expect("one an index");
                let bias = (0..40).map(|j| if every_other && j % 2 == 1 { 0.0 } else { level }).collect();
                inputs.attn_bias = Some(Dense::new([1, 1, 1, 40], bias).expect("one an index"));
                let what = format!("{level:e}, every other {every_other}");
                let got = run(&tuned(gpu, "coop".parse().expect("a family")), &spec, &inputs);
                let (out, lse) = check::attention_in(&spec, &inputs, Arithmetic::F16Matrix).expect("bounds");
                for worst in [out.worst(&got.out), lse.worst(&got.lse)] {
                    assert!(worst.failures == 0 && worst.unbounded == 0, "{what}: {worst:?}");
                }
                assert!(got.out.iter().all(|x| (0.99..2.01).contains(x)), "{what}: {:?}", got.out);
            }
        }
    }
}

/// What was summed shrinks where a later key has a far larger score, in some rows and not in others, at once and again, and where the first tiles hide all keys.
#[test]
fn maxima_that_grow_from_tile_to_tile() {
    for gpu in devices() {
        for (name, window, sink) in [("causal", None, None), ("window", Some(70), Some(Sink::Zero))] {
            let mut spec = spec(4, 2, 32, 32);
            (spec.rotary, spec.mask.window_left, spec.sink) = (None, window, sink);
            let mut inputs = inputs(&spec, 1, 70, 400, 3);
            let mut k = inputs.k.data().to_f32();
            // the first element of every query is 2 or 0 in turn; of every fortieth key it is larger than of the one before
            k.iter_mut().enumerate().filter(|(at, _)| at % 32 == 0).for_each(|(at, x)| {
                let j = at / 64;
                *x = if j % 40 == 39 { 40.0 * (j / 40 + 1) as f32 } else { 0.0 };
            });
            let mut q = inputs.q.data().to_f32();
            q.iter_mut().enumerate().filter(|(at, _)| at % 32 == 0).for_each(|(at, x)| *x = [2.0, 0.0][at / 32 % 2]);
            inputs.q = Tensor::bshd(Data::from_f32(Dtype::F16, &q), [1, 70, 4, 32]).expect("one an index");
            inputs.k = Tensor::bshd(Data::from_f32(Dtype::F16, &k), [1, 400, 2, 32]).expect("one an index");
            // every tile of one mask, the first of the other
            let all = tilings(&spec, &Shape::new(&spec, 1, 70, 400), gpu.limits());
            for tuning in all.into_iter().take(if sink.is_none() { usize::MAX } else { 1 }) {
                let ratio = assert_close(&run(&tuned(gpu, tuning), &spec, &inputs), &spec, &inputs, name);
                println!("{name}, {tuning:?}: {ratio:.3} of the bound");
            }
        }
    }
}

/// What the table gives without being asked.
#[test]
fn slots_within_their_bounds() {
    let alibi = Bias::Alibi { form: AlibiForm::Relative, slopes: None, scale: 1.0 };
    let plain = spec(4, 2, 64, 64);
    let mut all = vec![("causal", plain.clone())];
    let mut add = |name, change: &dyn Fn(&mut Spec)| {
        let mut spec = plain.clone();
        change(&mut spec);
        all.push((name, spec));
    };
    add("cap and alibi", &|s| (s.logits_soft_cap, s.bias) = (Some(20.0), vec![alibi.clone()]));
    for gpu in devices() {
        for (name, spec) in &all {
            for (q_len, kv_len) in [(40, 75), (75, 40)] {
                let inputs = inputs(spec, 1, q_len, kv_len, 11);
                let ratio = assert_close(&run(gpu, spec, &inputs), spec, &inputs, name);
                println!("{name}: {ratio:.3} of the bound");
            }
        }
    }
}

/// A key that a row does not see has no influence on it, whatever stands in its k and v; one that it sees has, whatever its weight.
#[test]
fn values_that_are_not_finite() {
    for gpu in devices() {
        let spec = spec(2, 1, 64, 64);
        let clean = inputs(&spec, 1, 80, 140, 9);
        let [at_k, at_v] = [133usize, 97];
        let (mut k, mut v) = (clean.k.data().to_f32(), clean.v.data().to_f32());
        k[at_k * 64 + 5] = f32::NAN;
        v[at_v * 64 + 7] = f32::INFINITY;
        v[at_k * 64 + 9] = f32::NAN;
        let tensor = |x: Vec<f32>| Tensor::bshd(Data::from_f32(Dtype::F16, &x), [1, 140, 1, 64]).expect("one an index");
        let mut dirty = clean.clone();
        (dirty.k, dirty.v) = (tensor(k), tensor(v));
        let [want, got] = [&clean, &dirty].map(|inputs| run(gpu, &spec, inputs));
        for i in 0..80usize {
            for (c, (w, g)) in want.out[i * 128..(i + 1) * 128].iter().zip(&got.out[i * 128..]).enumerate() {
                // row i sees keys to i + 60
                match (i + 60 >= at_k, i + 60 >= at_v && c % 64 == 7) {
                    (true, _) => assert!(g.is_nan(), "row {i}, {c}: {g}"),
                    (false, true) => assert_eq!(*g, f32::INFINITY, "row {i}, {c}"),
                    (false, false) => assert_eq!(g.to_bits(), w.to_bits(), "row {i}, {c}"),
                }
            }
        }
    }
}

/// A score of +inf, of a key that overflowed or of D, makes the rows that see it NaN and no other.
#[test]
fn a_score_of_infinity_makes_its_row_nan() {
    for gpu in devices() {
        let mut spec = spec(2, 1, 64, 64);
        (spec.rotary, spec.dense_bias) = (None, true);
        let mut clean = inputs(&spec, 1, 80, 140, 9);
        let tensor = |x: Vec<f32>, shape| Tensor::bshd(Data::from_f32(Dtype::F16, &x), shape).expect("one an index");
        let (mut q, mut k) = (clean.q.data().to_f32(), clean.k.data().to_f32());
        q.iter_mut().step_by(64).for_each(|x| *x = 1.0);
        clean.q = tensor(q, [1, 80, 2, 64]);
        let dense = |x: f32| {
            let mut d = vec![0.0; 2 * 80 * 140];
            // head 1, token 70, key 64
            d[(80 + 70) * 140 + 64] = x;
            Some(Dense::new([1, 2, 80, 140], d).expect("one an index"))
        };
        clean.attn_bias = dense(0.0);
        let (mut overflowed, mut of_d) = (clean.clone(), clean.clone());
        k[133 * 64] = f32::INFINITY;
        overflowed.k = tensor(k, [1, 140, 1, 64]);
        of_d.attn_bias = dense(f32::INFINITY);
        let want = run(gpu, &spec, &clean);
        for (dirty, is_nan) in [
            (&overflowed, &(|i: usize, _: usize| i + 60 >= 133) as &dyn Fn(usize, usize) -> bool),
            (&of_d, &|i, h| (i, h) == (70, 1)),
        ] {
            let got = run(gpu, &spec, dirty);
            let same = |w: f32, g: f32, i, h| if is_nan(i, h) { g.is_nan() } else { w.to_bits() == g.to_bits() };
            for (at, (w, g)) in want.out.iter().zip(&got.out).enumerate() {
                assert!(same(*w, *g, at / 128, at / 64 % 2), "token {}, head {}: {g}", at / 128, at / 64 % 2);
            }
            for (at, (w, g)) in want.lse.iter().zip(&got.lse).enumerate() {
                assert!(same(*w, *g, at % 80, at / 80), "lse of token {}, head {}: {g}", at % 80, at / 80);
            }
        }
    }
}

/// The same bits every time.
#[test]
fn equal_bits_in_repeated_runs() {
    for gpu in devices() {
        let spec = spec(4, 1, 128, 128);
        let inputs = inputs(&spec, 2, 45, 100, 3);
        let bits = |o: &Output<f32>| o.out.iter().chain(&o.lse).map(|x| x.to_bits()).collect::<Vec<_>>();
        let first = bits(&run(gpu, &spec, &inputs));
        for _ in 0..5 {
            assert!(first == bits(&run(gpu, &spec, &inputs)), "a run differs");
        }
    }
}

/// The bounds of f32 say that this arithmetic is another one.
#[test]
fn bounds_of_f32_do_not_hold_and_are_narrower() {
    let spec = spec(2, 1, 64, 64);
    let inputs = inputs(&spec, 1, 40, 64, 2);
    let narrow = check::attention_in(&spec, &inputs, Arithmetic::F32).expect("bounds");
    let wide = check::attention_in(&spec, &inputs, Arithmetic::F16Matrix).expect("bounds");
    assert_eq!(narrow, check::attention(&spec, &inputs).expect("bounds"));
    assert_eq!(narrow.0.value, wide.0.value);
    assert!(narrow.0.bound.iter().zip(&wide.0.bound).all(|(n, w)| n < w));
    assert!(narrow.1.bound.iter().zip(&wide.1.bound).all(|(n, w)| 10.0 * n < *w));
    // a score of this data is some 1 in size: a bound that would let a wrong key or row pass is none
    assert!(wide.0.bound.iter().all(|w| *w < 0.1), "{:?}", wide.0.bound.iter().copied().fold(0.0, f64::max));
    for gpu in devices() {
        let got = run(gpu, &spec, &inputs);
        assert!(narrow.1.worst(&got.lse).failures > 0, "lse is as good as that of f32: widen nothing");
    }
}

/// What a kernel would give that read a block of keys, or of values, by columns instead of rows lies beyond the bounds; so does one that
/// leaves out a block.
#[test]
fn bounds_notice_a_transposed_block() {
    let spec = spec(2, 1, 64, 64);
    let inputs = inputs(&spec, 1, 40, 64, 2);
    let (out, _) = check::attention_in(&spec, &inputs, Arithmetic::F16Matrix).expect("bounds");
    let with = |k: bool, size: usize, transpose: bool| {
        let mut wrong = inputs.clone();
        let tensor = if k { &mut wrong.k } else { &mut wrong.v };
        let right = tensor.data().to_f32();
        let mut data = right.clone();
        // rows 8.., columns 16..
        for r in 0..size {
            for c in 0..size {
                data[(8 + r) * 64 + 16 + c] = if transpose { right[(8 + c) * 64 + 16 + r] } else { 0.0 };
            }
        }
        *tensor = Tensor::bshd(Data::from_f32(Dtype::F16, &data), [1, 64, 1, 64]).expect("one an index");
        reference::attention(&spec, &wrong).expect("it is a problem").out.iter().map(|x| *x as f32).collect::<Vec<_>>()
    };
    // what carries the first tile twice
    let mut twice = inputs.clone();
    let mut v = inputs.v.data().to_f32();
    v[..32 * 64].iter_mut().for_each(|x| *x *= 2.0);
    twice.v = Tensor::bshd(Data::from_f32(Dtype::F16, &v), [1, 64, 1, 64]).expect("one an index");
    let twice: Vec<f32> =
        reference::attention(&spec, &twice).expect("a problem").out.iter().map(|x| *x as f32).collect();
    assert!(out.worst(&twice).failures > 50);
    for (k, size) in [(true, 8), (true, 16), (false, 8), (false, 16)] {
        for transpose in [true, false] {
            assert!(out.worst(&with(k, size, transpose)).failures > 50, "k {k}, {size}, transposed {transpose}");
        }
    }
}

/// No device has them by default; what the family does not take others do.
#[test]
fn only_where_it_was_asked_for() {
    for gpu in Gpu::all(&GpuOptions::default()).into_iter().flatten() {
        let why = gpu.cooperative_matrix().expect_err("nobody asked");
        assert!(why.contains("not asked for") && gpu.limits().cooperative_matrix == 0);
    }
    let mut limits = Limits::default();
    (limits.max_workgroup_storage, limits.f16, limits.matrix_subgroup) = (32_768, true, 32);
    let takes = |spec: &Spec, limits: &Limits| {
        let shape = Shape::new(spec, 1, 40, 40);
        let chosen = Plan::new(Kernel::Attention, spec, &shape, limits).expect("some family takes it").tuning().family;
        let suits = !tilings(spec, &shape, limits).is_empty();
        assert_eq!(chosen == Family::Coop, suits);
        suits
    };
    let f16 = spec(4, 2, 64, 64);
    assert!(!takes(&f16, &limits));
    limits.cooperative_matrix = 16;
    assert!(takes(&f16, &limits));
    let mut none = limits;
    none.f16 = false;
    assert!(!takes(&f16, &none));
    let mut relative = f16.clone();
    relative.relative = vec![Relative::new(RelativeSide::Key, IndexMap::distance(-8, 8))];
    let mut f32 = f16.clone();
    f32.dtype = Dtype::F32;
    for other in [relative, f32, spec(4, 2, 40, 64), spec(4, 2, 64, 40)] {
        assert!(!takes(&other, &limits));
    }
}

/// On a card whose subgroups have 32 or 64 lanes the first tile is the one with the most rows, and one dispatch of `main` has most of a long prefill's work; without
/// the size of subgroups there is no such plan.
#[test]
fn plans_of_long_prefill_take_few_dispatches() {
    let mut limits = Limits::default();
    (limits.cooperative_matrix, limits.f16, limits.max_workgroup_storage) = (16, true, 49_152);
    (limits.max_binding_size, limits.max_flop_per_dispatch) = (1 << 31, 7.5e10);
    let spec = spec(32, 8, 128, 128);
    let plan = |limits: &Limits, tokens| {
        Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, tokens, tokens), limits).expect("a plan")
    };
    assert_ne!(plan(&limits, 4096).tuning().family, Family::Coop);
    for subgroup in [32, 64] {
        limits.matrix_subgroup = subgroup;
        for (tokens, dispatches) in [(4096, 5), (8192, 5), (32_768, 10)] {
            let plan = plan(&limits, tokens);
            assert_eq!((plan.tuning().family, plan.tile()), (Family::Coop, [128, 32]), "{}", plan.label());
            assert!(plan.chunks().len() <= dispatches, "{tokens}: {} dispatches", plan.chunks().len());
            assert!(!plan.tuning().checks, "run-time checks are argued away");
        }
    }
}

/// The kernel's own text has no word of the dialect, which the plan writes.
#[test]
fn the_dialect_stands_apart() {
    let mut limits = Limits::default();
    (limits.cooperative_matrix, limits.matrix_subgroup, limits.f16) = (16, 32, true);
    limits.max_workgroup_storage = 49_152;
    let spec = spec(4, 2, 64, 64);
    let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 100, 100), &limits).expect("a plan");
    let mut found = 0;
    for (n, line) in plan.wgsl(Target::Native).lines().enumerate() {
        let dialect = ["coopLoad", "coopStore", "coopMultiplyAdd", "coop_mat"].iter().any(|word| line.contains(word));
        found += dialect as usize;
        assert!(!dialect || plan.locate(n + 1).0 == "(preamble)", "{:?}: {line}", plan.locate(n + 1));
    }
    assert!(found > 50);
}

/// naga takes the texts of both sizes, and refuses one whose matrices have another role.
#[test]
fn texts_are_valid() {
    let all = [(8, 64, 8, true), (16, 64, 32, false), (16, 128, 32, false), (16, 128, 64, false), (8, 256, 64, false)];
    for (matrix, dim, subgroup, rolled) in all {
        let spec = spec(4, 2, dim, dim);
        let mut limits = Limits::default();
        (limits.cooperative_matrix, limits.f16, limits.rolled_loops) = (matrix, true, rolled);
        (limits.max_workgroup_storage, limits.matrix_subgroup) = (49_152, subgroup);
        let shape = Shape::new(&spec, 1, 100, 100);
        let all = tilings(&spec, &shape, &limits);
        assert!(!all.is_empty());
        for tuning in all {
            let plan = Plan::with_tuning(Kernel::Attention, &spec, &shape, &limits, Some(tuning)).expect("it suits");
            let text = plan.wgsl(Target::Native);
            validate(text).unwrap_or_else(|e| panic!("{}: {e}", plan.label()));
            assert!(validate(&text.replacen("coopLoad<MatrixB>", "coopLoad<MatrixA>", 1)).is_err());
        }
    }
}

fn validate(text: &str) -> std::result::Result<(), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let capabilities = Capabilities::COOPERATIVE_MATRIX
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SUBGROUP;
    Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .map(|_| ())
        .map_err(|e| e.emit_to_string(text))
}
