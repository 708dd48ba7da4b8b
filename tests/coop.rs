//! The family `coop`: what suits it, its texts in naga's eyes, and, on adapters with cooperative matrices, results within the bounds of
//! its arithmetic.
#![cfg(feature = "wgpu")]

mod common;
use common::{inputs, left_out};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use ropewalk::check::Arithmetic;
use ropewalk::*;

/// Adapters that were opened with matrices and passed the self-test.
fn devices() -> Vec<Gpu> {
    let mut options = GpuOptions::default();
    options.cooperative_matrix = true;
    let all: Vec<Gpu> = Gpu::all(&options).into_iter().filter_map(Result::ok).collect();
    for gpu in &all {
        match gpu.cooperative_matrix() {
            Ok(size) => assert_eq!(gpu.limits().cooperative_matrix, size),
            Err(why) => {
                assert!(!why.is_empty() && gpu.limits().cooperative_matrix == 0);
                println!("{}: {why}", gpu.describe());
            }
        }
    }
    let with: Vec<Gpu> = all.into_iter().filter(|gpu| gpu.cooperative_matrix().is_ok()).collect();
    if with.is_empty() {
        left_out("no adapter with cooperative matrices");
    }
    with
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
            for tuning in all.into_iter().take(if n == 0 { 3 } else { 1 }) {
                let gpu = tuned(&gpu, tuning);
                let (rows, keys) = (tuning.tile_q.div_ceil(heads / kv_heads), tuning.tile_k);
                let mut largest = 0f64;
                for (q_len, kv_len) in
                    [(1, 1), (rows - 1, keys - 1), (rows, keys), (rows + 1, keys + 1), (7, 3 * keys + 5)]
                {
                    let (q_len, what) = (q_len.max(1), format!("{tuning:?}, d {dim}, q {q_len}, k {kv_len}"));
                    let inputs = inputs(&spec, 2, q_len, kv_len, 5 + n as u64);
                    largest = largest.max(assert_close(&run(&gpu, &spec, &inputs), &spec, &inputs, &what));
                }
                println!("d {dim}, {tuning:?}: {largest:.3} of the bound");
            }
        }
    }
}

/// Masks, terms, caps, sinks, norms, pairings, positions; taken without being forced.
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
    add("no rotation", &|s| s.rotary = None);
    add("interleaved, a part", &|s| s.rotary = Some(Rotary::new(Pairing::Interleaved, 32, 10_000.0)));
    add("window", &|s| (s.mask.window_left, s.mask.causal) = (Some(20), true));
    add("no mask", &|s| s.mask = Mask::default());
    add("cap and alibi", &|s| (s.logits_soft_cap, s.bias) = (Some(20.0), vec![alibi.clone()]));
    add("sink", &|s| s.sink = Some(Sink::Zero));
    add("rotated keys", &|s| s.rotary.as_mut().expect("it has one").keys_rotated = true);
    for gpu in devices() {
        for (name, spec) in &all {
            for (q_len, kv_len) in [(40, 75), (75, 40)] {
                let inputs = inputs(spec, 1, q_len, kv_len, 11);
                let ratio = assert_close(&run(&gpu, spec, &inputs), spec, &inputs, name);
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
        let [want, got] = [&clean, &dirty].map(|inputs| run(&gpu, &spec, inputs));
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
        let want = run(&gpu, &spec, &clean);
        for (dirty, is_nan) in [
            (&overflowed, &(|i: usize, _: usize| i + 60 >= 133) as &dyn Fn(usize, usize) -> bool),
            (&of_d, &|i, h| (i, h) == (70, 1)),
        ] {
            let got = run(&gpu, &spec, dirty);
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
        let first = bits(&run(&gpu, &spec, &inputs));
        for _ in 0..5 {
            assert!(first == bits(&run(&gpu, &spec, &inputs)), "a run differs");
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
        let got = run(&gpu, &spec, &inputs);
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

/// naga takes the texts of both sizes, and refuses one whose matrices have another role.
#[test]
fn texts_are_valid() {
    for (matrix, dim, rolled) in [(8, 64, true), (16, 64, false), (16, 128, false), (8, 256, false)] {
        let spec = spec(4, 2, dim, dim);
        let mut limits = Limits::default();
        (limits.cooperative_matrix, limits.f16, limits.rolled_loops) = (matrix, true, rolled);
        (limits.max_workgroup_storage, limits.matrix_subgroup) = (49_152, 32);
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
