//! Sizes of tensors and plans, whatever numbers they are made of: errors, or what exact arithmetic gives.

use ropewalk::*;

/// The largest, and what products of two of them wrap in 64 bits to few bytes.
const HOSTILE: [u32; 8] = [u32::MAX, u32::MAX - 1, 1 << 31, 1 << 16, 0, 1, (1 << 30) + 16_385, u32::MAX - 65_534];
/// Two at a time.
const PAIRS: [[u32; 2]; 5] = [
    [u32::MAX, u32::MAX],
    [1 << 31, 1 << 31],
    [1 << 16, u32::MAX - 1],
    [(1 << 30) + 16_385, u32::MAX - 65_534],
    [u32::MAX - 65_534, (1 << 30) + 16_385],
];

fn fields(shape: &mut Shape) -> Vec<&mut u32> {
    let Shape { batch, q_len, kv_len, q, k, v, out, new_k, new_v, dense, mask, .. } = shape;
    let mut fields = vec![batch, q_len, kv_len];
    for strides in [q, k, v, out, new_k, new_v] {
        fields.extend([&mut strides.batch, &mut strides.token, &mut strides.head]);
    }
    fields.extend(dense.iter_mut().chain(mask));
    fields.extend([&mut shape.angle_rows, &mut shape.user_words, &mut shape.first_batch, &mut shape.first_head]);
    fields.extend([&mut shape.sequences, &mut shape.max_seqlen_q, &mut shape.max_seqlen_k]);
    fields
}

#[test]
fn all_numbers_of_a_shape_are_tried() {
    let mut shape = Shape::new(&Spec::new(1, 1, 4), 1, 2, 3);
    let mut all = shape;
    fields(&mut all).into_iter().for_each(|field| *field = 987_654_321);
    let numbers = format!("{all:?}").split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).count();
    assert_eq!(numbers, fields(&mut shape).len());
    assert_eq!(format!("{all:?}").matches("987654321").count(), numbers, "{all:?}");
}

/// An engine's cache may be as long as its strides allow; reference and one call turn keys whole, and refuse such a one at once.
#[test]
fn keys_that_strides_repeat_without_end_are_refused() {
    let strides = Strides { batch: 0, token: 0, head: 0 };
    let long = |len: u32| Tensor::strided(vec![0f32; 4], [1, len, 1, 4], strides, 0).unwrap();
    let spec = Spec::new(1, 1, 4);
    let mut linear = spec.clone();
    linear.linear = Some(Linear::new(FeatureMap::Elu));
    let inputs = Inputs::new(long(1), long(1 << 30), long(1 << 30));
    let refused = |error: Error| assert!(error.to_string().contains("elements of key rows"), "{error}");
    refused(Problem::new(&spec, &inputs).unwrap_err());
    refused(reference::attention(&spec, &inputs).unwrap_err());
    refused(check::attention(&spec, &inputs).unwrap_err());
    refused(check::rotate(&spec, &inputs).unwrap_err());
    refused(reference::linear(&linear, &inputs).unwrap_err());
    let mut shape = Shape::new(&spec, 1, 1, 1 << 30);
    (shape.k, shape.v) = (strides, strides);
    let [.., endless] = devices();
    Plan::new(Kernel::Attention, &spec, &shape, &endless).expect("an engine's");
}

/// Every kind of size in some spec, and the kernels that take it.
fn specs() -> Vec<(&'static str, Spec, Vec<Kernel>)> {
    let turns = [false, true].map(|in_place| [Kernel::RotateQ { in_place }, Kernel::RotateK { in_place }]).concat();
    let softmax = [turns.clone(), vec![Kernel::Attention, Kernel::Scores]].concat();
    let mut small = Spec::new(1, 1, 2);
    (small.v_head_dim, small.rotary) = (1, Some(Rotary::new(Pairing::Half, 2, 1e4)));
    let mut plain = Spec::new(8, 2, 64);
    plain.rotary = Some(Rotary::new(Pairing::Half, 64, 1e4));
    let mut many = plain.clone();
    (many.dtype, many.positions, many.kv_lens, many.dense_bias) = (Dtype::F16, Positions::Ids, true, true);
    (many.mask.dense, many.gated_bias, many.bias) = (true, true, vec![Bias::Table { min: -3, max: 5 }]);
    many.rotary.as_mut().expect("it rotates").angle = Angle::Table;
    let mut relative = Spec::new(4, 2, 32);
    relative.relative =
        [RelativeSide::Key, RelativeSide::Query].map(|side| Relative::new(side, IndexMap::distance(-9, 9))).to_vec();
    relative.relative.iter_mut().for_each(|table| table.per_head = true);
    let mut packed = plain.clone();
    packed.packed = true;
    let mut linear = Spec::new(8, 2, 64);
    let mut of = Linear::new(FeatureMap::Elu);
    of.decay = Some(Decay::Feature);
    linear.linear = Some(of);
    vec![
        ("small", small, softmax.clone()),
        ("plain", plain, softmax.clone()),
        ("many", many, softmax.clone()),
        ("relative", relative, vec![Kernel::Attention]),
        ("packed", packed, softmax),
        ("linear", linear, [turns, vec![Kernel::Linear]].concat()),
    ]
}

/// WebGPU's defaults, a software adapter's, and what allows anything at all.
fn devices() -> [Limits; 3] {
    let mut software = Limits::default().for_cpu();
    software.subgroup_size = 8;
    let mut endless = Limits::default();
    (endless.max_binding_size, endless.max_workgroups) = (u64::MAX, u32::MAX);
    (endless.max_flop_per_dispatch, endless.max_workgroup_storage) = (f64::INFINITY, 65_536);
    [Limits::default(), software, endless]
}

fn base(spec: &Spec, [q_len, kv_len]: [u32; 2]) -> Shape {
    let mut shape =
        if spec.packed { Shape::packed(spec, 2, q_len, kv_len) } else { Shape::new(spec, 2, q_len, kv_len) };
    (shape.dense, shape.mask) = ([1; 4], [1; 4]);
    shape
}

/// Bytes of a storage binding, in 128 bits, from the definition of what stands in it; of `work` also from the plan's parts of a grid.
fn bytes(plan: &Plan, slot: Slot) -> u128 {
    let (kernel, spec, shape) = (plan.kernel(), plan.spec(), plan.shape());
    let of = |n: &[u32]| n.iter().map(|n| *n as u128).product::<u128>();
    let four = |n: u32| 4 * n.div_ceil(4) as u128;
    let (batch, heads, kv_heads) = (shape.batch, spec.num_heads, spec.num_kv_heads);
    let tensor = |s: Strides, len: u32, heads: u32, dim: u32| {
        let last = of(&[batch - 1, s.batch]) + of(&[len - 1, s.token]) + of(&[heads - 1, s.head]);
        (last + dim as u128) * spec.dtype.size() as u128
    };
    let in_place = matches!(kernel, Kernel::RotateQ { in_place: true } | Kernel::RotateK { in_place: true });
    let (len, rows, source) = match kernel {
        Kernel::RotateK { .. } => (shape.kv_len, kv_heads, shape.k),
        _ => (shape.q_len, heads, shape.q),
    };
    let rotates = matches!(kernel, Kernel::RotateQ { .. } | Kernel::RotateK { .. });
    let lse = of(&[batch, heads, shape.q_len]);
    match slot {
        Slot::Q => tensor(source, len, rows, spec.head_dim),
        Slot::K => tensor(shape.k, shape.kv_len, kv_heads, spec.head_dim),
        Slot::V => tensor(shape.v, shape.kv_len, kv_heads, spec.v_head_dim),
        Slot::Out if kernel == Kernel::Scores => 4 * lse * shape.kv_len as u128,
        Slot::Out if rotates => tensor(if in_place { source } else { shape.out }, len, rows, spec.head_dim),
        Slot::Out => tensor(shape.out, len, rows, spec.v_head_dim),
        Slot::Dense if kernel == Kernel::Linear => 4 * of(&[batch, shape.kv_len, kv_heads, spec.head_dim]),
        Slot::Dense => 4 * (of(&shape.dense) + shape.user_words as u128 + lse),
        Slot::Step => {
            let ids = of(&[batch, shape.q_len]) + of(&[batch, shape.kv_len]);
            let mut words = 8 + if spec.positions == Positions::Ids { ids } else { 0 };
            words += if spec.kv_lens { batch as u128 } else { 0 };
            words += if spec.packed { 2 * (shape.sequences as u128 + 1) } else { 0 };
            let [b, h, i, _] = shape.mask;
            4 * (words + if spec.mask.dense { of(&[b, h, i, shape.kv_len.div_ceil(32)]) } else { 0 })
        }
        Slot::Tables if spec.relative.is_empty() => {
            let table = 9 * heads as u128 * spec.bias.len() as u128;
            4 * (table + 2 * of(&[shape.angle_rows, 32]))
        }
        Slot::Tables => 4 * 2 * of(&[19, heads, spec.head_dim]),
        Slot::Work if kernel == Kernel::Linear => 4 * of(&[batch, heads, spec.head_dim, spec.v_head_dim]),
        Slot::Work => {
            let main = || plan.chunks().iter().filter(|c| c.entry == "main");
            let [x, y, z] = std::array::from_fn(|i| main().map(|c| c.workgroups[i]).max().expect("a dispatch"));
            let has = |entry: &str| plan.chunks().iter().any(|c| c.entry == entry);
            let (row, part) = (four(spec.head_dim), four(spec.v_head_dim) + 4);
            let tile_q = plan.tile()[0];
            let rows = of(&[x, y, z, tile_q]);
            let scratch = match plan.tuning().family {
                Family::Rows if main().any(|c| c.keys[1] < shape.kv_len) => return 4 * lse * (1 + part),
                Family::Rows => return 4 * lse,
                Family::Decode => {
                    let q_len = if spec.packed { shape.max_seqlen_q } else { shape.q_len };
                    let quads = (q_len * spec.group()).div_ceil(4).next_power_of_two();
                    let splits = main().map(|c| c.first[0] + c.workgroups[0]).max().expect("a dispatch");
                    let keys = if has("prepare_k") { of(&[y, z, shape.kv_len]) * row } else { 0 };
                    vec![of(&[y, z, tile_q]) * row, keys, of(&[y, z, splits, 4 * quads]) * part]
                }
                Family::Wide => {
                    let splits = main().map(|c| c.first[0] + c.workgroups[0]).max().expect("a dispatch");
                    vec![of(&[y, z, splits, tile_q]) * part]
                }
                Family::Block => {
                    let z = if spec.packed { 1 } else { z };
                    let constant = |name: &str| -> u32 {
                        let line = plan.wgsl(Target::Native).lines().find(|l| l.starts_with(&format!("const {name}:")));
                        let value = line.and_then(|l| l.split_once("= ")).expect("a constant").1;
                        value.trim_end_matches("u;").parse().expect("a number")
                    };
                    let row = constant("ROW_PADDED") as u128;
                    assert!(row >= four(spec.head_dim) && row < four(spec.head_dim) + 16);
                    vec![rows * row, of(&[y, z, shape.kv_len.next_multiple_of(plan.tile()[1])]) * row, rows]
                }
                Family::Tile | Family::Lanes => {
                    let z = if spec.packed { 1 } else { z };
                    let keys = if has("prepare_k") { of(&[y, z, shape.kv_len]) * row } else { 0 };
                    vec![rows * row, keys, rows]
                }
                family => panic!("{family:?} has no scratch"),
            };
            // each starts at a whole vector, wherever the caller's buffer starts
            4 * (lse + scratch.iter().map(|words| words.next_multiple_of(4)).sum::<u128>() + 6)
        }
        other => panic!("{other:?} is no storage buffer"),
    }
}

/// A plan whose sizes are the true ones, or an error.
fn planned(about: &str, kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits) -> bool {
    let Ok(plan) = Plan::new(kernel, spec, shape, limits) else { return false };
    let about = || format!("{about}, {kernel:?}, {shape:?}: {}", plan.label());
    for binding in plan.bindings() {
        if !matches!(binding.access, Access::Read | Access::ReadWrite) {
            continue;
        }
        // products made beforehand and copies of scattered values are the kernels' own affair
        let own = !spec.relative.is_empty() || plan.chunks().iter().any(|c| c.entry == "prepare_v");
        if binding.slot == Slot::Work && own {
            assert!(binding.size as u128 >= 4 * shape.batch as u128 * spec.num_heads as u128 * shape.q_len as u128);
        } else {
            assert_eq!(binding.size as u128, bytes(&plan, binding.slot), "{}: {}", binding.name, about());
        }
        assert!(binding.size <= limits.max_binding_size, "{}", about());
        let tensor = matches!(binding.slot, Slot::Q | Slot::K | Slot::V | Slot::Out) && kernel != Kernel::Scores;
        let element = if tensor { spec.dtype.size() as u64 } else { 4 };
        assert!(binding.size / element <= u32::MAX as u64, "elements without an index: {}", about());
        assert!(plan.tuning().checks || binding.size <= u32::MAX as u64, "{}", about());
    }
    assert!(plan.chunks().iter().flat_map(|c| c.workgroups).all(|n| n > 0 && n <= limits.max_workgroups));
    let sizes: u128 = plan.bindings().iter().map(|b| b.size as u128).sum();
    assert_eq!(plan.peak_bytes() as u128, sizes, "{}", about());
    assert!(plan.flop().is_finite() && plan.bytes() > 0, "{}", about());
    if !spec.packed && spec.linear.is_none() {
        let pairs = [shape.batch, spec.num_heads, shape.q_len, shape.kv_len].map(u128::from);
        assert_eq!(plan.visible_pairs() as u128, pairs.iter().product::<u128>(), "{}", about());
    }
    true
}

#[test]
fn sizes_of_a_plan_are_exact_or_an_error_with_any_number_in_a_field_of_a_shape() {
    let (mut tried, mut made) = (0, 0);
    for (name, spec, kernels) in specs() {
        for (kernel, lengths) in kernels.iter().flat_map(|k| [[1, 40], [70, 130]].map(|l| (*k, l))) {
            let shape = base(&spec, lengths);
            assert!(devices().iter().all(|limits| planned(name, kernel, &spec, &shape, limits)));
            for (field, n) in (0..fields(&mut { shape }).len()).flat_map(|f| HOSTILE.map(|n| (f, n))) {
                // in turn: every device meets every field and every number, if not every pair of them
                let limits = devices()[tried % 3];
                let mut shape = shape;
                *fields(&mut shape)[field] = n;
                made += planned(name, kernel, &spec, &shape, &limits) as usize;
                tried += 1;
                shape.aligned = false;
                let _ = Tuning::candidates(kernel, &spec, &shape, &limits);
            }
        }
    }
    assert!(made > tried / 4 && made < tried, "{made} of {tried} shapes have a plan");
}

#[test]
fn sizes_of_a_plan_are_exact_or_an_error_with_any_numbers_in_two_fields_of_a_shape() {
    let (mut tried, mut made) = (0u32, 0);
    for (name, spec, kernels) in specs() {
        let shape = base(&spec, [1, 40]);
        let n = fields(&mut { shape }).len();
        for (a, b) in (0..n).flat_map(|a| (0..a).map(move |b| (a, b))) {
            for [first, second] in PAIRS {
                let mut shape = shape;
                *fields(&mut shape)[a] = first;
                *fields(&mut shape)[b] = second;
                // in turn: every kernel and every device meets every field, if not every pair of them
                let turn = tried as usize;
                let (kernel, limits) = (kernels[turn % kernels.len()], devices()[turn / kernels.len() % 3]);
                made += planned(name, kernel, &spec, &shape, &limits) as u32;
                tried += 1;
            }
        }
    }
    assert!(made > tried / 20 && made < tried, "{made} of {tried} shapes have a plan");
}

/// The numbers that once wrapped to 65 544 bytes, without run-time checks.
#[test]
fn a_cache_that_is_too_large_by_2_to_the_64_is_refused() {
    let (_, spec, _) = specs().remove(0);
    let strides = Strides { batch: u32::MAX - 65_534, token: 2, head: 2 };
    let mut shape = Shape::new(&spec, (1 << 30) + 16_385, 1, 1);
    (shape.q, shape.k, shape.v, shape.out) = (strides, strides, strides, strides);
    for limits in devices() {
        for (_, _, kernels) in specs().into_iter().take(1) {
            for kernel in kernels {
                let error = Plan::new(kernel, &spec, &shape, &limits).expect_err("it ends beyond every buffer");
                assert!(matches!(error, Error::Limit { .. }), "{error}");
            }
        }
    }
}

#[test]
fn sizes_of_an_embedding_are_exact_or_an_error_with_any_numbers_in_its_shape() {
    let mut made = 0;
    for embed in [Embed::learned(20, 9), Embed::sinusoidal(2, Columns::Halves, Denominator::Half)] {
        for (limits, in_place) in devices().into_iter().flat_map(|l| [(l, false), (l, true)]) {
            let base = EmbedShape::new(&embed, 3, 5);
            let set = |shape: &mut EmbedShape, at: usize, n: u32| {
                let EmbedShape { batch, len, x, out, table_row, .. } = shape;
                let fields =
                    [batch, len, &mut x.batch, &mut x.token, &mut x.head, &mut out.batch, &mut out.token, table_row];
                *fields.into_iter().nth(at).expect("a field") = n;
            };
            let pairs = (0..8).flat_map(|a| (0..8).map(move |b| (a, b)));
            for ((a, b), [m, n]) in
                pairs.flat_map(|p| PAIRS.into_iter().chain(HOSTILE.map(|n| [n; 2])).map(move |n| (p, n)))
            {
                let mut shape = base;
                set(&mut shape, a, m);
                set(&mut shape, b, n);
                let Ok(plan) = Plan::embed(&embed, &shape, in_place, &limits) else { continue };
                made += 1;
                let of = |a: u32, b: u32| a as u128 * b as u128;
                let tensor =
                    |s: Strides| 4 * (of(shape.batch - 1, s.batch) + of(shape.len - 1, s.token) + embed.dim as u128);
                for (slot, want) in [
                    (Slot::Q, tensor(shape.x)),
                    (Slot::Out, tensor(if in_place { shape.x } else { shape.out })),
                    (Slot::K, 4 * (of(8, shape.table_row) + embed.dim as u128)),
                    (Slot::Step, 4 * (8 + of(shape.batch, shape.len))),
                ] {
                    let size = plan.binding(slot).map(|b| b.size as u128);
                    assert!(size.is_none_or(|size| size == want), "{slot:?} of {shape:?}: {size:?}, not {want}");
                }
            }
        }
    }
    assert!(made > 100, "{made}");
    assert!(positions_from(u32::MAX, 1 << 30, 0, 0).is_err());
}

#[test]
fn a_tensor_ends_within_its_data() {
    let far = Strides { batch: u32::MAX, token: u32::MAX, head: u32::MAX };
    assert_eq!(far.extent(u32::MAX, u32::MAX, u32::MAX, 64), 3 * ((1u128 << 32) - 2) * ((1 << 32) - 1) + 64);
    // the end of the second wraps to 4 in 64 bits
    for (shape, strides) in [
        ([u32::MAX, u32::MAX, u32::MAX, 1], far),
        ([u32::MAX, 4, 1, 4], Strides { batch: u32::MAX, token: u32::MAX, head: 0 }),
        ([1 << 31, 1 << 31, 1, 1], Strides { batch: u32::MAX, token: u32::MAX, head: 0 }),
    ] {
        let error = Tensor::strided(vec![0f32; 8], shape, strides, 0).expect_err("8 elements").to_string();
        assert!(error.contains("of 8"), "{error}");
    }
    let broadcast = Tensor::strided(vec![0f32; 8], [u32::MAX, 1, 2, 4], Strides { batch: 0, token: 0, head: 4 }, 0);
    assert_eq!(broadcast.expect("no more than 8 elements").row(u32::MAX - 1, 0, 1).count(), 4);
    assert!(Dense::<f32>::new([0, u32::MAX, u32::MAX, u32::MAX], Vec::new()).is_err());
}

/// Queries that are all one row: more results than have an index.
#[test]
fn a_problem_whose_results_have_no_index_is_refused() {
    let spec = Spec::new(1, 1, 4);
    let one =
        |len: u32| Tensor::strided(vec![0f32; 4], [1 << 12, len, 1, 4], Strides { batch: 0, token: 0, head: 0 }, 0);
    let inputs = Inputs::new(one(1 << 20).unwrap(), one(1).unwrap(), one(1).unwrap());
    let error = Problem::new(&spec, &inputs).expect_err("2^34 elements").to_string();
    assert!(error.contains("17179869184 elements of query rows"), "{error}");
    assert!(reference::attention(&spec, &inputs).is_err());
}

/// Only linear attention keeps a state.
#[test]
fn many_sequences_decode_in_one_plan() {
    let spec = Spec::new(32, 8, 128);
    let mut limits = Limits::default();
    limits.max_binding_size = 1 << 31;
    let shape = Shape::new(&spec, 8192, 1, 16);
    assert!(planned("wide", Kernel::Attention, &spec, &shape, &limits));
}

#[cfg(feature = "wgpu")]
mod devices {
    use crate::common;
    use ropewalk::*;

    fn refused(gpu: &Gpu, plan: &Plan, limit: &str, parts: &[&str]) {
        let error = Pipeline::new(gpu.device(), plan).expect_err(plan.label());
        assert!(matches!(&error, Error::Limit { field, .. } if field == limit), "{}: {error}", gpu.describe());
        assert!(parts.iter().all(|part| error.to_string().contains(part)), "{error}");
    }

    /// Limits are the caller's word; a device that has less says which it lacks, before it compiles.
    #[test]
    fn a_plan_that_takes_more_than_the_device_has_is_refused_by_the_name_of_the_limit() {
        let mut spec = Spec::new(8, 2, 64);
        spec.rotary = Some(Rotary::new(Pairing::Half, 64, 1e4));
        for gpu in common::gpus() {
            let plan = |kernel: Kernel, shape: Shape, change: &dyn Fn(&mut Limits)| {
                let mut limits = *gpu.limits();
                (limits.cpu, limits.max_loop_rounds) = (false, u32::MAX);
                change(&mut limits);
                Plan::new(kernel, &spec, &shape, &limits).expect("a plan")
            };
            let shape = Shape::new(&spec, 1, 100, 300);
            let long = Shape::new(&spec, 1, 1, 1 << 21);
            let large = plan(Kernel::Attention, long, &|l| l.max_binding_size = 1 << 32);
            let parts = ["1073741824 bytes of `k`", "the device has 134217728"];
            refused(&gpu, &large, "max_storage_buffer_binding_size", &parts);
            let tile = plan(Kernel::Attention, shape, &|l| l.max_workgroup_storage = 49_152);
            assert!(tile.label().contains(".block"), "{}", tile.label());
            refused(&gpu, &tile, "max_compute_workgroup_storage_size", &["bytes of workgroup memory", "has 16384"]);
            // every row the same one, so that buffers are small
            let mut wide = Shape::new(&spec, 1, 1 << 20, 1);
            (wide.q, wide.out) = (Strides::bshd(0, 0, 0), Strides::bshd(0, 0, 0));
            let turns = plan(Kernel::RotateQ { in_place: false }, wide, &|l| {
                (l.max_workgroups, l.max_flop_per_dispatch) = (u32::MAX, f64::INFINITY);
            });
            let most = turns.chunks()[0].workgroups[0].to_string();
            let parts = [most.as_str(), "workgroups, the device has 65535"];
            match turns.chunks()[0].workgroups[0] > 65_535 {
                true => refused(&gpu, &turns, "max_compute_workgroups_per_dimension", &parts),
                false => panic!("{most} workgroups are too few to try"),
            }
            let lanes = plan(Kernel::Attention, shape, &|l| (l.cpu, l.subgroup_size) = (true, 8));
            assert!(lanes.label().contains(".lanes"), "{}", lanes.label());
            refused(&gpu, &lanes, "subgroups", &["without"]);
            // promised more than there is, and taking no more than there is
            let modest =
                plan(Kernel::Scores, shape, &|l| (l.max_workgroup_storage, l.max_invocations) = (1 << 16, 1024));
            if let Err(Error::Limit { field, problem, .. }) = Pipeline::new(gpu.device(), &modest) {
                panic!("{field}: {problem}");
            }
        }
    }

    #[test]
    fn subgroups_of_another_size_than_limits_state_are_refused() {
        for gpu in common::equipped(|limits| (4..=32).contains(&limits.subgroup_size)) {
            let mut limits = *gpu.limits();
            (limits.cpu, limits.max_loop_rounds) = (false, u32::MAX);
            limits.subgroup_size *= 2;
            let spec = Spec::new(8, 2, 64);
            let shape = Shape::new(&spec, 1, 100, 300);
            let all = Tuning::candidates(Kernel::Attention, &spec, &shape, &limits).expect("a valid spec");
            limits.tuning = all.into_iter().find(|t| t.family == Family::Tile);
            let plan = Plan::new(Kernel::Attention, &spec, &shape, &limits).expect("a plan");
            assert!(plan.label().contains(".sg"), "{}", plan.label());
            let size = gpu.limits().subgroup_size;
            let parts = [format!("takes subgroups of {}, the device has {size} to {size}", limits.subgroup_size)];
            refused(&gpu, &plan, "subgroup_size", &[&parts[0]]);
        }
    }

    /// A pipeline that is shared with a larger plan sees that plan's sizes when it is bound.
    #[test]
    fn a_larger_plan_of_the_same_text_is_refused_when_it_is_bound() {
        let spec = Spec::new(2, 1, 64);
        for gpu in common::gpus() {
            let kernel = Kernel::RotateK { in_place: true };
            let mut limits = *gpu.limits();
            limits.max_binding_size = 1 << 32;
            let plan =
                |kv_len: u32| Plan::new(kernel, &spec, &Shape::new(&spec, 1, 1, kv_len), &limits).expect("a plan");
            let pipeline = Pipeline::new(gpu.device(), &plan(64)).expect("it compiles");
            let larger = pipeline.for_plan(&plan(1 << 22)).expect("the same text");
            let error = larger.bind(gpu.device(), &Buffers::new()).expect_err("1 GiB");
            let expected = "the device has 134217728";
            assert!(matches!(error, Error::Limit { .. }) && error.to_string().contains(expected), "{error}");
        }
    }
}
