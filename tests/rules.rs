//! Rules that hold whatever the values: empty rows, NaN, unused cache rows, determinism, memory, the caller's own buffers.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, noise};
use ropewalk::*;
use std::collections::BTreeSet;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_row_that_sees_no_key_is_zero() {
    let mut spec = Spec::new(2, 1, 16);
    spec.mask = Mask::causal();
    // bottom-right: of 9 queries over 4 keys the first 5 see nothing
    let inputs = inputs(&spec, 1, 9, 4, 1);
    let want = reference::attention(&spec, &inputs).unwrap();
    for gpu in gpus() {
        let got = gpu.attention(&spec, &inputs).unwrap();
        for i in 0..9 {
            for h in 0..2 {
                let (lse, out) = (h * 9 + i, (i * 2 + h) * 16);
                assert_eq!(got.lse[lse] == f32::NEG_INFINITY, i < 5, "{} row {i}", gpu.describe());
                assert_eq!(want.lse[lse] == f64::NEG_INFINITY, i < 5);
                assert_eq!(got.out[out..out + 16].iter().all(|x| *x == 0.0), i < 5);
                assert_eq!(want.out[out..out + 16].iter().all(|x| *x == 0.0), i < 5);
            }
        }
    }
}

#[test]
fn nan_in_a_query_stays_in_its_row() {
    let mut spec = Spec::new(2, 2, 16);
    spec.rotary = Some(Rotary::new(Pairing::Half, 16, 1e4));
    spec.logits_soft_cap = Some(4.0);
    let clean = inputs(&spec, 1, 40, 50, 2);
    let mut poisoned = clean.clone();
    let at = poisoned.q.row_start(0, 17, 1) + 3;
    let Data::F32(q) = poisoned.q.data_mut() else { panic!("f32 inputs") };
    q[at] = f32::NAN;
    for gpu in gpus() {
        let (clean, poisoned) = (gpu.attention(&spec, &clean).unwrap(), gpu.attention(&spec, &poisoned).unwrap());
        let row = (17 * 2 + 1) * 16..(17 * 2 + 2) * 16;
        assert!(poisoned.out[row.clone()].iter().all(|x| x.is_nan()), "{}", gpu.describe());
        assert!(poisoned.lse[40 + 17].is_nan());
        for i in (0..clean.out.len()).filter(|i| !row.contains(i)) {
            assert_eq!(clean.out[i].to_bits(), poisoned.out[i].to_bits(), "{} element {i}", gpu.describe());
        }
    }
}

/// What a score is made of, and a place in it.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Token and head of a query.
    Q(u32, u32),
    /// A key.
    K(u32),
    /// Head, token and key of D.
    D(u32, u32, u32),
    /// Token and key that the user's function answers, for every head.
    Mod(u32, u32),
}

/// Attention of 2 heads over one, with values of which one is -inf; of the 12 elements of a head the last does not rotate and is 1 in
/// every query, so that a key's is added to its scores.
struct Poisoned {
    spec: Spec,
    inputs: Inputs,
    /// Tokens and keys.
    len: [u32; 2],
}

impl Poisoned {
    const DIM: u32 = 12;
    const HEADS: u32 = 2;

    fn new(dtype: Dtype, terms: bool, len: [u32; 2]) -> Self {
        let mut spec = Spec::new(Self::HEADS, 1, Self::DIM);
        (spec.dtype, spec.mask, spec.softmax_scale) = (dtype, Mask::causal(), Some(1.0));
        spec.rotary = Some(Rotary::new(Pairing::Half, 8, 1e4));
        let mut inputs = inputs(&spec, 1, len[0], len[1], 17);
        for row in 0..len[0] * Self::HEADS {
            set(&mut inputs.q, row * Self::DIM + 11, 1.0);
        }
        set(&mut inputs.v, Self::DIM * 2 + 5, f32::NEG_INFINITY);
        if terms {
            spec.dense_bias = true;
            let mut d = noise((Self::HEADS * len[0] * len[1]) as usize, 18);
            // masks, which hide what else would poison
            d.iter_mut().step_by(7).for_each(|x| *x = f32::NEG_INFINITY);
            inputs.attn_bias = Some(Dense::new([1, Self::HEADS, len[0], len[1]], d).unwrap());
            let text = "fn score_mod(s: f32, at: ScoreAt) -> f32 {
                return select(s, user_f32(2u), at.i == user_u32(0u) && at.j == user_u32(1u));
            }";
            spec.score_mod = Some(text.into());
            inputs.user_data = vec![u32::MAX, 0, 0];
        }
        Poisoned { spec, inputs, len }
    }

    /// The same with x at places.
    fn with(&self, places: &[Place], x: f32) -> Inputs {
        let mut inputs = self.inputs.clone();
        for place in places {
            match *place {
                Place::Q(i, h) => set(&mut inputs.q, (i * Self::HEADS + h) * Self::DIM + 10, x),
                Place::K(j) => set(&mut inputs.k, j * Self::DIM + 11, x),
                Place::Mod(i, j) => inputs.user_data = vec![i, j, x.to_bits()],
                Place::D(h, i, j) => {
                    inputs.attn_bias = inputs.attn_bias.map(|of| {
                        let mut d = of.data().to_vec();
                        d[((h * self.len[0] + i) * self.len[1] + j) as usize] = x;
                        Dense::new(of.shape(), d).unwrap()
                    });
                }
            }
        }
        inputs
    }

    /// Whether a row sees a score at a place.
    fn reaches(&self, place: Place, i: u32, h: u32) -> bool {
        let before = |j: u32| j + self.len[0] <= i + self.len[1];
        let masked = |j: u32| self.inputs.attn_bias.as_ref().is_some_and(|d| d.get([0, h, i, j]) == f32::NEG_INFINITY);
        match place {
            Place::Q(token, head) => (token, head) == (i, h),
            Place::K(j) => before(j) && !masked(j),
            Place::D(head, token, j) => (head, token) == (h, i) && before(j),
            Place::Mod(token, j) => token == i && before(j) && !masked(j),
        }
    }
}

fn set(t: &mut Tensor, at: u32, x: f32) {
    let at = at as usize;
    match t.data_mut() {
        Data::F32(v) => v[at] = x,
        Data::F16(v) => v[at] = half::f16::from_f32(x),
        Data::Bf16(v) => v[at] = half::bf16::from_f32(x),
        _ => panic!("a storage type that this test does not know"),
    }
}

/// A row that sees a score of NaN or +inf is NaN, wherever that comes from and whoever computes it; every other row keeps its bits.
/// A score of -inf is a low one.
#[test]
fn a_poisoned_score_makes_its_row_nan_in_every_family_and_changes_no_other() {
    let gpus: Vec<Gpu> = gpus().into_iter().chain(common::equipped(|_| true)).collect();
    let (mut families, mut known) = (BTreeSet::new(), BTreeSet::new());
    // more rows than a tile has, then as few as `decode` takes, over keys of several splits
    for (len, few) in [([70, 131], false), ([7, 300], true)] {
        // every tuning in f32 with terms, every family in the others
        for (dtype, terms) in [(Dtype::F32, false), (Dtype::F32, true), (Dtype::F16, true), (Dtype::Bf16, false)] {
            let call = Poisoned::new(dtype, terms, len);
            let [first, last] = [len[1] - len[0], len[1] - 1];
            let keys = [0, 63, 64, first, last];
            let mut places: Vec<Vec<Place>> = keys.map(|j| vec![Place::K(j)]).to_vec();
            places.push(vec![Place::Q(0, 1), Place::Q(len[0] / 2 - 3, 0), Place::Q(len[0] - 1, 1)]);
            if terms {
                places.push((0..5).map(|n| Place::D(n % 2, len[0] - 1 - n, keys[n as usize])).collect());
                places.extend([vec![Place::Mod(0, first)], vec![Place::Mod(len[0] - 1, last)]]);
            }
            let shape = Problem::new(&call.spec, &call.inputs).unwrap().shape();
            for gpu in &gpus {
                let all = Tuning::candidates(Kernel::Attention, &call.spec, &shape, gpu.limits()).unwrap();
                for tuning in all.into_iter().filter(|t| matches!(t.family, Family::Decode | Family::Wide) == few) {
                    let plan =
                        Plan::with_tuning(Kernel::Attention, &call.spec, &shape, gpu.limits(), Some(tuning)).unwrap();
                    let kernel = match (dtype, terms) {
                        (Dtype::F32, true) => format!("{} {tuning}", plan.label()),
                        _ => plan.label().split(".q").next().unwrap_or_default().into(),
                    };
                    families.insert(tuning.family.name());
                    // other limits make no other kernel
                    if !known.insert(format!("{kernel} {dtype:?} {terms} {few} {}", gpu.describe())) {
                        continue;
                    }
                    let mut limits = *gpu.limits();
                    limits.tuning = Some(tuning);
                    let gpu = gpu.with_limits(limits);
                    let clean = gpu.attention(&call.spec, &call.inputs).unwrap();
                    for (n, places) in places.iter().enumerate() {
                        // +inf everywhere, each of the others once
                        let other = [f32::NEG_INFINITY, f32::NAN, -f32::NAN].get(n).copied();
                        for x in [Some(f32::INFINITY), other].into_iter().flatten() {
                            let got = gpu.attention(&call.spec, &call.with(places, x)).unwrap();
                            let what = format!("{x} in {places:?}: {kernel} {dtype:?} on {}", gpu.describe());
                            assert_poisoned(&call, places, x, &clean, &got, &what);
                        }
                    }
                }
            }
        }
    }
    assert!(gpus.is_empty() || families.len() >= 3, "{families:?}");
}

fn assert_poisoned(call: &Poisoned, places: &[Place], x: f32, clean: &Output<f32>, got: &Output<f32>, what: &str) {
    for (i, h) in (0..call.len[0]).flat_map(|i| [(i, 0), (i, 1)]) {
        let lse = (h * call.len[0] + i) as usize;
        let out = ((i * 2 + h) * Poisoned::DIM) as usize;
        let row = |o: &Output<f32>| [&o.out[out..out + Poisoned::DIM as usize], &o.lse[lse..lse + 1]].concat();
        let (clean, got) = (row(clean), row(got));
        match (places.iter().any(|place| call.reaches(*place, i, h)), x == f32::NEG_INFINITY) {
            // a low score
            (true, true) => assert!(got[12].is_finite(), "{what}: row {i} of head {h}: {got:?}"),
            (true, false) => assert!(got.iter().all(|x| x.is_nan()), "{what}: row {i} of head {h}: {got:?}"),
            (false, _) => assert_eq!(bits(&clean), bits(&got), "{what}: row {i} of head {h}"),
        }
    }
}

#[test]
fn keys_that_are_not_seen_change_no_bit() {
    // the cache beyond kv_len, and a value that only later queries may see
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let mut spec = Spec::new(4, 2, 16);
        spec.dtype = dtype;
        spec.rotary = Some(Rotary::new(Pairing::Interleaved, 16, 1e4));
        spec.mask = Mask::causal();
        let mut clean = inputs(&spec, 2, 5, 70, 3);
        clean.kv_len = Some(41);
        let mut poisoned = clean.clone();
        let poison = |t: &mut Tensor, j: u32| {
            let shape = t.shape();
            for (b, h) in (0..shape[0]).flat_map(|b| (0..shape[2]).map(move |h| (b, h))) {
                let start = t.row_start(b, j, h);
                for i in start..start + shape[3] as usize {
                    match t.data_mut() {
                        Data::F32(v) => v[i] = f32::NAN,
                        Data::F16(v) => v[i] = half::f16::NAN,
                        Data::Bf16(v) => v[i] = half::bf16::NAN,
                        _ => panic!("a storage type that this test does not know"),
                    }
                }
            }
        };
        (41..70).for_each(|j| poison(&mut poisoned.k, j));
        (41..70).for_each(|j| poison(&mut poisoned.v, j));
        for gpu in gpus() {
            let want = gpu.attention(&spec, &clean).unwrap();
            let got = gpu.attention(&spec, &poisoned).unwrap();
            assert_eq!(bits(&want.out), bits(&got.out), "{} {dtype:?}", gpu.describe());
            assert_eq!(bits(&want.lse), bits(&got.lse));
            // the last key is for the last query alone
            let mut last = clean.clone();
            poison(&mut last.v, 40);
            let got = gpu.attention(&spec, &last).unwrap();
            for b in 0..2 {
                let rows = b * 5 * 64..(b * 5 + 4) * 64;
                assert_eq!(bits(&want.out[rows.clone()]), bits(&got.out[rows]), "{} {dtype:?}", gpu.describe());
                assert!(got.out[(b * 5 + 4) * 64..(b + 1) * 5 * 64].iter().all(|x| x.is_nan()));
            }
        }
    }
}

#[test]
fn twenty_runs_give_the_same_bits() {
    let mut spec = Spec::new(4, 2, 64);
    spec.rotary = Some(Rotary::new(Pairing::Half, 64, 1e4));
    spec.mask = Mask::causal();
    let inputs = inputs(&spec, 1, 100, 300, 4);
    for gpu in gpus() {
        let first = gpu.attention(&spec, &inputs).unwrap();
        for run in 1..20 {
            let again = gpu.attention(&spec, &inputs).unwrap();
            assert_eq!(bits(&first.out), bits(&again.out), "{} run {run}", gpu.describe());
            assert_eq!(bits(&first.lse), bits(&again.lse));
        }
    }
}

#[test]
fn memory_is_linear_in_length() {
    // 16 384 queries would take a 1 GiB score matrix; one query tile is enough to see what is allocated
    let spec = Spec::new(1, 1, 64);
    let bytes = |n: u32, limits: &Limits| -> u64 {
        let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, n, n), limits).unwrap();
        plan.bindings().iter().map(|b| b.size).sum()
    };
    // q, k, v, out of 4 MiB each and little else
    let rows = bytes(16_384, &common::with_family(Family::Rows, &spec, &Limits::default()));
    assert!(rows < 17 << 20, "{rows} bytes bound");
    // and rows of q and k that are prepared beforehand
    let (half, whole) = (bytes(8192, &Limits::default()), bytes(16_384, &Limits::default()));
    assert!(whole < 26 << 20 && whole < 2 * half + (1 << 20), "{half} and {whole} bytes bound");
}

#[test]
fn keys_cut_over_dispatches_give_the_same_bits() {
    let mut spec = Spec::new(4, 2, 20);
    spec.v_head_dim = 12;
    spec.rotary = Some(Rotary::new(Pairing::Half, 20, 1e4));
    spec.mask = Mask::causal();
    spec.mask.window_left = Some(300);
    spec.kv_lens = true;
    let mut inputs = inputs(&spec, 2, 90, 500, 10);
    inputs.kv_lens = Some(vec![70, 500]); // of the first sequence some rows see nothing, some dispatches no key
    for gpu in gpus() {
        let (whole, uncut) = gpu.attention_with(&spec, &inputs, &|_| ()).unwrap();
        let report = check::verify(&spec, &inputs, &whole, &check::Options::default(), &|_| ()).unwrap();
        assert!(report.passed(), "{}: {report}", gpu.describe());
        for rounds in [1, 2_000] {
            let mut limits = *gpu.limits();
            limits.max_loop_rounds = rounds;
            let (cut, stats) = gpu.with_limits(limits).attention_with(&spec, &inputs, &|_| ()).unwrap();
            assert!(stats.dispatches > uncut.dispatches);
            assert_eq!(bits(&whole.out), bits(&cut.out), "{} {rounds}", gpu.describe());
            assert_eq!(bits(&whole.lse), bits(&cut.lse), "{} {rounds}", gpu.describe());
        }
    }
}

#[test]
fn the_text_that_gpus_get_is_right_too() {
    // constant loop bounds, no limit on rounds: what a plan for a GPU is made of
    let mut spec = Spec::new(2, 1, 20);
    spec.v_head_dim = 9;
    spec.rotary = Some(Rotary::new(Pairing::Half, 12, 1e4));
    spec.mask = Mask::causal();
    let inputs = inputs(&spec, 1, 40, 70, 12);
    for gpu in gpus() {
        let mut limits = Limits::default();
        limits.max_binding_size = gpu.limits().max_binding_size;
        assert!(!limits.rolled_loops);
        let got = gpu.with_limits(limits).attention(&spec, &inputs).unwrap();
        let report = check::verify(&spec, &inputs, &got, &check::Options::default(), &|_| ()).unwrap();
        assert!(report.passed(), "{}: {report}", gpu.describe());
    }
}

#[test]
fn long_rows_are_right() {
    // 2 048 keys of head_dim 128: more rounds of loops than some software drivers make in one dispatch
    let mut spec = Spec::new(1, 1, 128);
    spec.rotary = Some(Rotary::new(Pairing::Half, 128, 5e5));
    let inputs = inputs(&spec, 1, 3, 2048, 11);
    for gpu in gpus() {
        let got = gpu.attention(&spec, &inputs).unwrap();
        let report = check::verify(&spec, &inputs, &got, &check::Options::default(), &|_| ()).unwrap();
        assert!(report.passed(), "{}: {report}", gpu.describe());
        let scores = check::scores(&spec, &inputs).unwrap().worst(&gpu.scores(&spec, &inputs).unwrap());
        assert_eq!(scores.failures, 0, "{}: {scores:?}", gpu.describe());
    }
}

#[test]
fn a_problem_above_the_binding_limit_is_cut() {
    let mut spec = Spec::new(6, 3, 8);
    spec.rotary = Some(Rotary::new(Pairing::Half, 8, 1e4));
    spec.bias = vec![
        Bias::Alibi { form: AlibiForm::Symmetric, slopes: None, scale: 0.5 },
        Bias::T5 { num_buckets: 8, max_distance: 20, bidirectional: true },
        Bias::Table { min: -3, max: 4 },
    ];
    spec.dense_bias = true;
    spec.kv_lens = true;
    let mut inputs = inputs(&spec, 3, 7, 30, 5);
    inputs.parameters.insert("bias_table".into(), noise(8 * 6, 6));
    inputs.parameters.insert("bias_table_1".into(), noise(6 * 8, 7));
    inputs.attn_bias = Some(Dense::new([1, 6, 7, 30], noise(6 * 7 * 30, 8)).unwrap());
    inputs.kv_lens = Some(vec![30, 11, 1]);
    for gpu in gpus() {
        // cut by inputs alone: other families take memory of their own
        let gpu = gpu.with_limits(common::with_family(Family::Rows, &spec, gpu.limits()));
        let whole = gpu.attention(&spec, &inputs).unwrap();
        let small = |bytes| {
            let mut limits = *gpu.limits();
            limits.max_binding_size = bytes;
            limits
        };
        // bytes: k 8 640 (2 880 a sequence, 960 a head of it), D 5 040 (1 680 for the queries of a kv head)
        for (limit, parts) in [(8640, 1), (5100, 3), (3400, 6), (1700, 9)] {
            let (cut, stats) = gpu.with_limits(small(limit)).attention_with(&spec, &inputs, &|_| ()).unwrap();
            assert_eq!(stats.parts, parts, "limit {limit}");
            assert_eq!(bits(&whole.out), bits(&cut.out), "limit {limit}");
            assert_eq!(bits(&whole.lse), bits(&cut.lse), "limit {limit}");
        }
        let error = gpu.with_limits(small(100)).attention(&spec, &inputs).unwrap_err();
        assert!(error.to_string().contains("even one sequence and one kv head"), "{error}");
    }
}

#[test]
fn an_engine_binds_its_own_buffers_at_odd_offsets() {
    // q, k and v of one token side by side (packed QKV), the batch starting 12 bytes into the buffer; out strided too
    let mut spec = Spec::new(2, 1, 10);
    spec.v_head_dim = 6;
    spec.rotary = Some(Rotary::new(Pairing::Interleaved, 10, 1e4));
    spec.mask = Mask::causal();
    let (len, row) = (33u32, 2 * 10 + 10 + 6);
    let values = noise((3 + len * row) as usize, 9);
    let view = |offset: u32, heads: u32, dim: u32| {
        let strides = Strides { batch: len * row, token: row, head: dim };
        Tensor::strided(values.clone(), [1, len, heads, dim], strides, 3 + offset).unwrap()
    };
    let inputs = Inputs::new(view(0, 2, 10), view(20, 1, 10), view(30, 1, 6));
    for gpu in gpus() {
        let got = gpu.attention(&spec, &inputs).unwrap();
        let report = check::verify(&spec, &inputs, &got, &check::Options::default(), &|_| ()).unwrap();
        assert!(report.passed(), "{}: {report}", gpu.describe());
        let errors = [
            Tensor::strided(values.clone(), [1, len, 2, 10], Strides { batch: 0, token: row, head: 10 }, 30),
            Tensor::bshd(values.clone(), [1, 2, 3, 4]),
        ];
        assert!(errors.iter().all(|e| e.is_err()));
    }
}

/// Runs a plan with buffers that hold `contents` and returns the words of `out`.
fn run_bound(gpu: &Gpu, plan: &Plan, contents: &[(Slot, &[u8], u64)], step: &Step) -> Vec<u32> {
    run_and_read(gpu, plan, contents, step, Slot::Out)
}

/// The same of another buffer.
fn run_and_read(gpu: &Gpu, plan: &Plan, contents: &[(Slot, &[u8], u64)], step: &Step, read: Slot) -> Vec<u32> {
    let (device, queue) = (gpu.device(), gpu.queue());
    let _turn = turn(device);
    let make = |bytes: &[u8]| {
        let size = (bytes.len() as u64).next_multiple_of(4);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer =
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let mut padded = bytes.to_vec();
        padded.resize(size as usize, 0);
        queue.write_buffer(&buffer, 0, &padded);
        buffer
    };
    let mut words = vec![0; plan.step_layout().words as usize];
    plan.step_layout().write(step, &mut words).unwrap();
    let step = make(bytemuck::cast_slice(&words));
    let made: Vec<_> = contents.iter().map(|(slot, bytes, offset)| (*slot, make(bytes), *offset)).collect();
    let buffers = made.iter().fold(Buffers::new(), |all, (slot, buffer, offset)| all.with(*slot, buffer, *offset));
    let dispatch = Pipeline::new(device, plan).unwrap().bind(device, &buffers.with(Slot::Step, &step, 0)).unwrap();
    let out = &made.iter().find(|(slot, ..)| *slot == read).unwrap().1;
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: out.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
    encoder.copy_buffer_to_buffer(out, 0, &staging, 0, out.size());
    queue.submit([encoder.finish()]);
    gpu.read_back(&staging).unwrap().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Scratch of `work` is read by vectors, which start at whole ones wherever the buffer starts; lse by words.
#[test]
fn work_starts_anywhere() {
    let mut spec = Spec::new(2, 1, 8);
    spec.rotary = Some(Rotary::new(Pairing::Half, 8, 1e4));
    spec.mask = Mask::causal();
    let (q, k, v) = (noise(7 * 2 * 8, 1), noise(45 * 8, 2), noise(45 * 8, 3));
    let shape = Shape::new(&spec, 1, 7, 45);
    let step = Step { q_len: 7, kv_len: 45, ..Step::default() };
    let out = [0u8; 7 * 2 * 8 * 4];
    let mut families = BTreeSet::new();
    for gpu in gpus().into_iter().chain(common::equipped(|_| true)) {
        let all = Tuning::candidates(Kernel::Attention, &spec, &shape, gpu.limits()).unwrap();
        for family in [Family::Lanes, Family::Block, Family::Tile, Family::Decode, Family::Wide, Family::Rows] {
            let Some(tuning) = all.iter().find(|t| t.family == family) else { continue };
            families.insert(family.name());
            let plan = Plan::with_tuning(Kernel::Attention, &spec, &shape, gpu.limits(), Some(*tuning)).unwrap();
            let results = [0u64, 4, 12, 252].map(|offset| {
                let work = vec![0u8; (plan.workspace_size() + offset) as usize];
                let contents = [
                    (Slot::Q, bytemuck::cast_slice(&q), 0),
                    (Slot::K, bytemuck::cast_slice(&k), 0),
                    (Slot::V, bytemuck::cast_slice(&v), 0),
                    (Slot::Out, &out[..], 0),
                    (Slot::Work, &work[..], offset),
                ];
                let lse = (offset as u32 / 4 + plan.lse_offset()) as usize;
                let words = run_and_read(&gpu, &plan, &contents, &step, Slot::Work);
                (run_bound(&gpu, &plan, &contents, &step), words[lse..lse + 14].to_vec())
            });
            assert!(results[0].0.iter().chain(&results[0].1).all(|word| *word != 0), "{}", plan.label());
            assert!(results.iter().all(|r| *r == results[0]), "{} on {}", plan.label(), gpu.describe());
        }
    }
    assert!(gpus().is_empty() || families.len() >= 3, "{families:?}");
}

/// A host refuses sinks that are not finite; an engine's buffer may hold them.
#[test]
fn a_poisoned_sink_makes_the_rows_of_its_head_nan() {
    let mut spec = Spec::new(2, 1, 8);
    spec.sink = Some(Sink::Learned);
    let (q, k, v) = (noise(7 * 2 * 8, 1), noise(45 * 8, 2), noise(45 * 8, 3));
    let shape = Shape::new(&spec, 1, 7, 45);
    let step = Step { q_len: 7, kv_len: 45, ..Step::default() };
    for gpu in gpus().into_iter().chain(common::equipped(|_| true)) {
        let all = Tuning::candidates(Kernel::Attention, &spec, &shape, gpu.limits()).unwrap();
        for family in [Family::Lanes, Family::Block, Family::Tile, Family::Decode, Family::Wide, Family::Rows] {
            let Some(tuning) = all.iter().find(|t| t.family == family) else { continue };
            let plan = Plan::with_tuning(Kernel::Attention, &spec, &shape, gpu.limits(), Some(*tuning)).unwrap();
            let work = vec![0u8; plan.workspace_size() as usize];
            for poison in [f32::INFINITY, f32::NAN] {
                let sinks = [0.5, poison];
                let contents = [
                    (Slot::Q, bytemuck::cast_slice(&q), 0),
                    (Slot::K, bytemuck::cast_slice(&k), 0),
                    (Slot::V, bytemuck::cast_slice(&v), 0),
                    (Slot::Out, &[0u8; 7 * 2 * 8 * 4][..], 0),
                    (Slot::Work, &work[..], 0),
                    (Slot::Tables, bytemuck::cast_slice(&sinks), 0),
                ];
                let lse = plan.lse_offset() as usize;
                let of_lse = &run_and_read(&gpu, &plan, &contents, &step, Slot::Work)[lse..lse + 14];
                let out = run_bound(&gpu, &plan, &contents, &step);
                let nan = |word: &u32| f32::from_bits(*word).is_nan();
                let what = format!("{poison}: {} on {}", plan.label(), gpu.describe());
                assert!(of_lse.iter().enumerate().all(|(row, word)| nan(word) == (row >= 7)), "{what}");
                assert!(out.iter().enumerate().all(|(at, word)| nan(word) == (at / 8 % 2 == 1)), "{what}");
            }
        }
    }
}

#[test]
fn offsets_count_from_where_the_buffer_is_bound() {
    for gpu in gpus() {
        // in place: the source moves with the target
        let mut spec = Spec::new(1, 1, 4);
        spec.rotary = Some(Rotary::new(Pairing::Half, 4, 1e4));
        let shape = Shape::new(&spec, 1, 1, 1);
        let plan = Plan::new(Kernel::RotateQ { in_place: true }, &spec, &shape, gpu.limits()).unwrap();
        let rows: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let step = Step { q_len: 1, kv_len: 1, ..Step::default() }; // position 0: nothing moves
        let words = run_bound(&gpu, &plan, &[(Slot::Out, bytemuck::cast_slice(&rows), 16)], &step);
        assert_eq!(words, bits(&rows), "{}", gpu.describe());

        // scores are f32 whatever the storage; a view of an odd number of 16-bit elements fits its buffer exactly
        let mut spec = Spec::new(1, 1, 5);
        spec.dtype = Dtype::F16;
        spec.softmax_scale = Some(1.0);
        let mut shape = Shape::new(&spec, 1, 1, 1);
        shape.aligned = false;
        let plan = Plan::new(Kernel::Scores, &spec, &shape, gpu.limits()).unwrap();
        let ones: Vec<half::f16> = (0..12).map(|i| half::f16::from_f32(if i < 7 { f32::NAN } else { 1.0 })).collect();
        let ones = bytemuck::cast_slice(&ones);
        let contents = [(Slot::Q, ones, 14), (Slot::K, ones, 14), (Slot::Out, &[0u8; 32][..], 16)];
        let words = run_bound(&gpu, &plan, &contents, &step);
        assert_eq!(words, [0, 0, 0, 0, 5f32.to_bits(), 0, 0, 0], "{}", gpu.describe());
    }
}

#[test]
fn strided_tensors_above_the_binding_limit_are_gathered() {
    let spec = Spec::new(1, 1, 4);
    let row = 400;
    let values = noise(20 * row, 13);
    let strides = Strides { batch: 0, token: row as u32, head: 4 };
    let view = |offset| Tensor::strided(values.clone(), [1, 20, 1, 4], strides, offset).unwrap();
    let inputs = Inputs::new(view(0), view(4), view(8));
    for gpu in gpus() {
        let mut limits = *gpu.limits();
        limits.max_binding_size = 1024;
        let (whole, cut) = (gpu.attention(&spec, &inputs), gpu.with_limits(limits).attention(&spec, &inputs));
        assert_eq!(bits(&whole.unwrap().out), bits(&cut.unwrap().out), "{}", gpu.describe());
    }
}

#[test]
fn a_check_knows_underflow_and_says_when_it_checked_nothing() {
    let one = |x: Vec<f32>| Tensor::bshd(x.clone(), [1, x.len() as u32, 1, 1]).unwrap();
    let spec = Spec::new(1, 1, 1);
    // the second key's weight, e^-100, may flush to 0 before it meets its value
    let inputs = Inputs::new(one(vec![1.0]), one(vec![0.0, -100.0]), one(vec![0.0, 1e20]));
    for gpu in gpus() {
        let got = gpu.attention(&spec, &inputs).unwrap();
        let report = check::verify(&spec, &inputs, &got, &check::Options::default(), &|_| ()).unwrap();
        assert!(report.passed(), "{}: {report}", gpu.describe());
    }
    // scores beyond f32: no bound says anything, and neither does the verdict
    let inputs = Inputs::new(one(vec![1e30]), one(vec![1e30, 1.0]), one(vec![1.0, 2.0]));
    let nothing = Output { out_shape: [1, 1, 1, 1], out: vec![7.0], lse: vec![f32::NAN] };
    let report = check::verify(&spec, &inputs, &nothing, &check::Options::default(), &|_| ()).unwrap();
    assert!(!report.passed());
    assert!(report.to_string().starts_with("NOT CHECKED"), "{report}");
}

#[test]
fn bind_names_what_is_wrong() {
    let spec = Spec::new(1, 1, 8);
    let shape = Shape::new(&spec, 1, 4, 4);
    for gpu in gpus() {
        let plan = Plan::new(Kernel::Attention, &spec, &shape, gpu.limits()).unwrap();
        let _turn = turn(gpu.device());
        let pipeline = Pipeline::new(gpu.device(), &plan).unwrap();
        let buffer = |size: u64, usage| {
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            gpu.device().create_buffer(&descriptor)
        };
        let storage = wgpu::BufferUsages::STORAGE;
        let all: Vec<_> = (0..6).map(|_| buffer(1024, storage)).collect();
        let without_k = || {
            Buffers::new()
                .with(Slot::Q, &all[0], 0)
                .with(Slot::V, &all[2], 256)
                .with(Slot::Out, &all[3], 512)
                .with(Slot::Work, &all[4], 0)
                .with(Slot::Step, &all[5], 0)
        };
        let good = || without_k().with(Slot::K, &all[1], 16);
        assert!(pipeline.bind(gpu.device(), &good()).is_ok());
        let small = buffer(64, storage);
        let other_usage = buffer(1024, wgpu::BufferUsages::COPY_SRC);
        let wrong: [(&str, Buffers, &str); 6] = [
            ("missing", without_k(), "k: is not bound"),
            ("small", good().with(Slot::V, &small, 0), "v: 64 bytes"),
            ("usage", good().with(Slot::Q, &other_usage, 0), "q: its buffer lacks"),
            ("misaligned", good().with(Slot::Q, &all[0], 4), "q: starts at byte 4"),
            ("step misaligned", good().with(Slot::Step, &all[5], 16), "step: starts at byte 16"),
            ("shared", good().with(Slot::Out, &all[0], 512), "q: is in the buffer of out, which is read-write"),
        ];
        for (name, buffers, message) in wrong {
            let error = pipeline.bind(gpu.device(), &buffers).expect_err(name).to_string();
            assert!(error.contains(message), "{name}: {error}");
        }
    }
}
