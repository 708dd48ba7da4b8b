//! Public calls with hostile values: what takes numbers, slices or structs of them gives a result or an error.
//!
//! What a call gives may be as large as it was asked to be. Where that is all that a size does, the sizes here are small, or beyond
//! what the call refuses.

use crate::mutate::{self, Draw, Json};
use crate::small::{self, KERNELS};
use crate::{Outcome, Ran};
use ropewalk::case::{self, CaseId};
use ropewalk::{
    Absolute, AlibiForm, AngleTable, Bias, Bucket, Cache, Columns, Data, Denominator, Dense, Dtype, Embed, EmbedInputs,
    EmbedShape, IndexMap, Inputs, Kernel, Limits, LongRope, Norm, NormKind, Pairing, PatchPositions, Placement, Plan,
    Problem, RopeScaling, Rotary, Sections, Shape, Spec, Step, Strides, Temperature, Tensor, Tuning, Tunings, XPos,
    Yarn, alibi_slopes, check, grid_positions, log_bucket, log_cpb_offsets, phase, positions_from, positions_of_ids,
    positions_of_mask, reference, swin_segments, systems, t5_bucket, workload,
};
use std::hint::black_box;
use std::sync::LazyLock;

/// A call; whether it gave a result.
type Call = fn(&mut Draw) -> bool;

/// By name, so that a report says which.
const CALLS: &[(&str, Call)] = &[
    ("Tensor", tensor),
    ("Data", data),
    ("Dense", dense),
    ("Strides", strides),
    ("Plan::new", plan),
    ("Plan::new of a spec that is not checked", spec),
    ("Plan::for_problem", problem),
    ("Plan::embed", embed),
    ("Plan::pack_tables", pack_tables),
    ("StepLayout::write", step),
    ("Tuning::candidates", candidates),
    ("Tuning::parse", tuning),
    ("Bucket", bucket),
    ("Rotary", rotary),
    ("RopeScaling", scaling),
    ("pictures", pictures),
    ("PatchPositions", patches),
    ("positions", positions),
    ("windows", windows),
    ("tables of the host", tables),
    ("IndexMap", index),
    ("phase", phases),
    ("Embed", embed_numbers),
    ("EmbedInputs", embed_inputs),
    ("reference", references),
    ("check::verify", verify),
    ("Bounded::worst", worst),
    ("workload", workloads),
    ("systems", of_systems),
    ("case", cases),
    ("terms", terms),
];

/// One call.
pub fn run(seed: u64) -> Outcome {
    CALLS[turn(seed)].1(&mut Draw::new(seed));
    Ok(Ran::of(turn(seed) as u64))
}

/// The call of a case.
pub fn name(seed: u64) -> &'static str {
    CALLS[turn(seed)].0
}

/// Calls take turns.
fn turn(seed: u64) -> usize {
    (seed % CALLS.len() as u64) as usize
}

/// Specs that use every term.
static SPECS: LazyLock<Vec<Spec>> = LazyLock::new(|| {
    let of = |op: &str, name: &str| {
        let id: CaseId = format!("{op}/{name}/q3k5/f32/seed1").parse().ok()?;
        Some(id.build().ok()?.spec)
    };
    let linear = || case::names().filter_map(|name| of("linear", name));
    case::names().filter_map(|name| of("attention", name)).chain(linear()).collect()
});

fn fours(draw: &mut Draw) -> [u32; 4] {
    std::array::from_fn(|_| if draw.once_in(2) { 1 + draw.below(3) as u32 } else { draw.u32() })
}

/// Numbers, few or none.
fn few(draw: &mut Draw) -> Vec<f32> {
    (0..draw.below(40)).map(|_| draw.f64() as f32).collect()
}

fn dtype(draw: &mut Draw) -> Dtype {
    *draw.pick(&[Dtype::F32, Dtype::F16, Dtype::Bf16])
}

fn any_strides(draw: &mut Draw) -> Strides {
    let [batch, token, head, _] = fours(draw);
    Strides { batch, token, head }
}

/// The shape of a call with up to three fields that are hostile.
fn shape(draw: &mut Draw, spec: &Spec) -> Shape {
    let [q, k] = *draw.pick(&[[2, 5], [1, 64], [64, 64], [1, 4096]]);
    let mut shape = Shape::new(spec, 1 + draw.below(2) as u32, q, k);
    shape.user_words = 3;
    for _ in 0..draw.below(4) {
        let x = draw.u32();
        match draw.below(24) {
            0 => shape.batch = x,
            1 => shape.q_len = x,
            2 => shape.kv_len = x,
            3 => shape.q.batch = x,
            4 => shape.q.token = x,
            5 => shape.q.head = x,
            6 => shape.k.batch = x,
            7 => shape.k.token = x,
            8 => shape.k.head = x,
            9 => shape.v = any_strides(draw),
            10 => shape.out.batch = x,
            11 => shape.out.token = x,
            12 => shape.out.head = x,
            13 => shape.dense = fours(draw),
            14 => shape.mask = fours(draw),
            15 => shape.angle_rows = x,
            16 => shape.user_words = x,
            17 => shape.first_batch = x,
            18 => shape.first_head = x,
            19 => shape.aligned = !shape.aligned,
            20 => shape.sequences = x,
            21 => shape.max_seqlen_q = x,
            22 => shape.max_seqlen_k = x,
            _ => (shape.q, shape.k) = (any_strides(draw), any_strides(draw)),
        }
    }
    shape
}

fn some_tuning(draw: &mut Draw) -> Option<Tuning> {
    let names = ["rows", "tile", "block", "decode", "wide", "lanes", "turns", "coop", "linear"];
    let mut tuning: Tuning = draw.pick(&names).parse().ok()?;
    (tuning.tile_q, tuning.tile_k, tuning.splits) = (draw.u32(), draw.u32(), draw.u32());
    tuning.checks = draw.once_in(2);
    Some(tuning)
}

fn limits(draw: &mut Draw) -> Limits {
    let mut limits = Limits::default();
    if draw.once_in(2) {
        limits = limits.for_cpu();
    }
    for _ in 0..draw.below(3) {
        match draw.below(15) {
            0 => limits.max_binding_size = draw.word() >> draw.below(64),
            1 => limits.max_storage_buffers = draw.u32(),
            2 => limits.max_workgroups = draw.u32(),
            3 => limits.max_workgroup_storage = draw.u32(),
            4 => limits.max_invocations = draw.u32(),
            5 => limits.max_flop_per_dispatch = draw.f64(),
            6 => limits.rolled_loops = !limits.rolled_loops,
            7 => limits.max_loop_rounds = draw.u32(),
            8 => limits.subgroup_size = draw.u32(),
            9 => limits.f16 = !limits.f16,
            10 => limits.cooperative_matrix = draw.u32(),
            11 => limits.tuning = some_tuning(draw),
            12 => limits.max_scratch_bytes = draw.word() >> draw.below(64),
            13 => limits.registers = draw.u32(),
            _ => limits.max_binding_size = u64::MAX,
        }
    }
    limits
}

fn kernel(draw: &mut Draw, spec: &Spec) -> Kernel {
    match &spec.linear {
        Some(_) if !draw.once_in(8) => Kernel::Linear,
        _ if draw.once_in(32) => Kernel::Embed { in_place: draw.once_in(2) },
        _ => *draw.pick(&KERNELS),
    }
}

fn plan(draw: &mut Draw) -> bool {
    let spec = draw.pick(&SPECS).clone();
    let (shape, limits) = (shape(draw, &spec), limits(draw));
    let kernel = kernel(draw, &spec);
    let asked = if draw.once_in(4) { some_tuning(draw) } else { None };
    let planned = Plan::with_tuning(kernel, &spec, &shape, &limits, asked);
    planned.is_ok_and(|plan| {
        small::look(draw, &plan);
        true
    })
}

/// A spec that no file and no `validate` has seen.
fn hostile_spec(draw: &mut Draw) -> Spec {
    let mut spec = draw.pick(&SPECS).clone();
    let parse = |spec: &Spec| Json::parse(spec.to_json().as_bytes()).expect("JSON");
    let other = parse(draw.pick(&SPECS));
    for _ in 0..4 {
        let mut value = parse(&spec);
        mutate::json(draw, &mut value, &other);
        if let Ok(changed) = serde_json::from_slice(&value.bytes()) {
            spec = changed;
            break;
        }
    }
    let x = draw.f64();
    match draw.below(16) {
        0 => spec.softmax_scale = Some(x),
        1 => spec.logits_soft_cap = Some(x),
        2 => spec.head_scale_exp = Some(x),
        3 => spec.temperature = Some(Temperature::new(x, draw.u32())),
        4 => spec.norm = Some(Norm::new(*draw.pick(&[NormKind::Rms, NormKind::L2]), x)),
        5 => spec.rotary = Some(Rotary::new(Pairing::Half, draw.u32(), x)),
        6 => spec.rotary = Some(Rotary::with_inv_freq(Pairing::Interleaved, vec![x; draw.below(40)])),
        7 => spec.rotary.iter_mut().for_each(|r| r.attention_factor = x),
        8 => spec.rotary.iter_mut().for_each(|r| r.xpos = Some(XPos::new(x, i32::MIN))),
        9 => spec.bias.push(Bias::Alibi { form: AlibiForm::Symmetric, slopes: None, scale: x }),
        10 => spec.bias.push(Bias::T5 {
            num_buckets: draw.u32(),
            max_distance: draw.u32(),
            bidirectional: draw.once_in(2),
        }),
        11 => (spec.num_heads, spec.num_kv_heads) = (draw.u32(), draw.u32()),
        12 => (spec.head_dim, spec.v_head_dim) = (draw.u32(), draw.u32()),
        _ => {}
    }
    spec
}

fn spec(draw: &mut Draw) -> bool {
    let spec = hostile_spec(draw);
    black_box((spec.terms(), spec.scale(), spec.group(), spec.features(), spec.position_streams(), spec.segments()));
    black_box((spec.parameters().len(), spec.to_json().len()));
    let mut shape = match draw.once_in(4) {
        true => Shape::packed(&spec, draw.u32(), 3, 5),
        false => shape(draw, &spec),
    };
    if spec.packed {
        shape.cache = cache(draw);
    }
    let kernel = kernel(draw, &spec);
    let planned = Plan::new(kernel, &spec, &shape, &limits(draw));
    black_box(small::calls(draw, &spec).is_ok());
    planned.is_ok()
}

fn problem(draw: &mut Draw) -> bool {
    let (spec, inputs) = mismatched(draw);
    let Ok(problem) = Problem::new(&spec, &inputs) else { return false };
    let kernel = kernel(draw, &spec);
    Plan::for_problem(kernel, &problem, &limits(draw)).is_ok()
}

/// Inputs of a spec, some of them another's.
fn mismatched(draw: &mut Draw) -> (Spec, Inputs) {
    loop {
        let mut spec = draw.pick(&SPECS).clone();
        let [batch, q_len, kv_len] = if spec.packed {
            [1, 3, 5]
        } else {
            [1 + draw.below(2) as u32, 1 + draw.below(3) as u32, 3 + draw.below(9) as u32]
        };
        let Ok(Some(mut inputs)) = small::inputs(draw, &spec, batch, q_len, kv_len) else { continue };
        for _ in 0..draw.below(3) {
            let n = draw.below(30);
            let ids = |draw: &mut Draw| Some((0..n).map(|_| draw.u32() as i32).collect());
            let counts = |draw: &mut Draw| Some((0..n).map(|_| draw.u32()).collect());
            match draw.below(22) {
                19 => inputs.placement = counts(draw).map(Placement::Slots),
                20 => {
                    let table = counts(draw).unwrap_or_default();
                    let page_size = if draw.once_in(2) { draw.below(4) as u32 } else { draw.u32() };
                    inputs.placement = Some(Placement::Pages { page_size, table });
                }
                0 => inputs.kv_len = Some(draw.u32()),
                1 => inputs.kv_lens = counts(draw),
                2 => inputs.q_positions = ids(draw),
                3 => inputs.k_positions = ids(draw),
                4 => inputs.q_segments = ids(draw),
                5 => inputs.k_segments = ids(draw),
                6 => inputs.cu_seqlens_q = counts(draw),
                7 => inputs.cu_seqlens_k = counts(draw),
                8 => {
                    let name = inputs.parameters.keys().next().cloned().unwrap_or_else(|| "sinks".into());
                    inputs.parameters.insert(name, few(draw));
                }
                9 => inputs.parameters.clear(),
                10 => inputs.gates = Some(few(draw).iter().map(|x| *x as f64).collect()),
                11 => inputs.angle_table = Some(AngleTable { cos: few(draw), sin: few(draw) }),
                12 => inputs.user_data = counts(draw).unwrap_or_default(),
                13 => inputs.initial_state = Some(few(draw)),
                14 => inputs.decay = Some(few(draw)),
                15 => inputs.q = inputs.k.clone(),
                16 => inputs.v = inputs.q.clone(),
                17 => inputs.k = Tensor::bshd(vec![0.5; 4], [1, 1, 1, 4]).expect("a tensor"),
                18 => {
                    // fewer elements than the tensor says
                    *inputs.k.data_mut() = Data::F32(few(draw));
                }
                _ => {
                    let shape = [1, 1, 1 + draw.below(3) as u32, 1 + draw.below(6) as u32];
                    let n = shape.iter().product::<u32>() as usize;
                    inputs.attn_bias = Dense::new(shape, vec![draw.f64() as f32; n]).ok();
                }
            }
        }
        if draw.once_in(8) {
            spec = draw.pick(&SPECS).clone();
        }
        return (spec, inputs);
    }
}

fn references(draw: &mut Draw) -> bool {
    let (spec, inputs) = mismatched(draw);
    small::compute(draw, &spec, &inputs).is_ok()
}

fn verify(draw: &mut Draw) -> bool {
    let (spec, inputs) = mismatched(draw);
    let mut options = check::Options::default();
    match draw.below(4) {
        0 => options.max_flop = draw.f64(),
        1 => options.min_rows = draw.word() as usize,
        2 => (options.max_flop, options.min_rows) = (0.0, draw.below(4)),
        _ => options.seed = draw.word(),
    }
    let Ok(right) = reference::attention(&spec, &inputs) else { return false };
    let mut result = reference::Output {
        out_shape: right.out_shape,
        out: vec![0.0; right.out.len()],
        lse: vec![0.0; right.lse.len()],
    };
    match draw.below(4) {
        0 => result.out_shape = fours(draw),
        1 => result.out = few(draw),
        2 => result.lse = few(draw),
        _ => {}
    }
    check::verify(&spec, &inputs, &result, &options, &|_| ()).is_ok_and(|report| !report.to_string().is_empty())
}

fn worst(draw: &mut Draw) -> bool {
    let doubles = |draw: &mut Draw| (0..draw.below(8)).map(|_| draw.f64()).collect::<Vec<_>>();
    let bounded = check::Bounded { value: doubles(draw), bound: doubles(draw) };
    bounded.worst(&few(draw)).failures == 0
}

fn tensor(draw: &mut Draw) -> bool {
    let values = few(draw);
    let n = values.len() as u32;
    let data = Data::from_f32(dtype(draw), &values);
    let shape = match draw.below(3) {
        0 => [1, 1, 1, n],
        1 => [1, n / 4, 2, 2],
        _ => fours(draw),
    };
    let made = match draw.below(3) {
        0 => Tensor::bshd(data, shape),
        1 => Tensor::bhsd(data, shape),
        _ => Tensor::strided(data, shape, any_strides(draw), if draw.once_in(2) { 0 } else { draw.u32() }),
    };
    let Ok(tensor) = made else { return false };
    // every element of an accepted tensor is there
    let [batch, len, heads, _] = tensor.shape();
    let last = [batch - 1, len - 1, heads - 1];
    black_box(tensor.row(last[0], last[1], last[2]).sum::<f64>());
    black_box(tensor.with_residual(few(draw)).is_ok());
    true
}

fn data(draw: &mut Draw) -> bool {
    let bytes: Vec<u8> = (0..draw.below(40)).map(|_| draw.word() as u8).collect();
    let data = Data::from_bytes(dtype(draw), &bytes);
    black_box((data.to_f32(), data.is_empty(), data.bytes().len()));
    data.len() * data.dtype().size() + data.dtype().size() > bytes.len()
}

fn dense(draw: &mut Draw) -> bool {
    let values = few(draw);
    let n = values.len() as u32;
    let shape = match draw.below(3) {
        0 => [1, 1, 1, n],
        1 => [n, 1, 1, 1],
        _ => fours(draw),
    };
    let Ok(dense) = Dense::new(shape, values) else { return false };
    black_box((dense.strides(), dense.shape().contains(&0) || dense.get(shape.map(|n| n - 1)) > 0.0));
    true
}

fn strides(draw: &mut Draw) -> bool {
    let [a, b, c, d] = fours(draw);
    let strides =
        *draw.pick(&[Strides::bshd(a, b, c), Strides::bhsd(a, b, c), Strides { batch: a, token: b, head: c }]);
    let [e, f, g, _] = fours(draw);
    black_box(strides.extent(e, f, g, d));
    true
}

fn some_embed(draw: &mut Draw) -> Embed {
    let dim = if draw.once_in(2) { 8 } else { draw.u32() };
    let columns = *draw.pick(&[Columns::Interleaved, Columns::Halves]);
    let denominator = *draw.pick(&[Denominator::Half, Denominator::HalfLessOne]);
    let mut embed = match draw.below(3) {
        0 => Embed::learned(dim, draw.u32()),
        _ => Embed::sinusoidal(dim, columns, denominator),
    };
    match draw.below(5) {
        0 => embed.input_scale = draw.f64(),
        1 => embed.position_scale = draw.f64(),
        2 => embed.schema = draw.u32(),
        3 => {
            if let Absolute::Sinusoidal { base, padding_row, .. } = &mut embed.positions {
                (*base, *padding_row) = (draw.f64(), Some(draw.u32() as i32));
            }
        }
        _ => {}
    }
    embed
}

fn embed(draw: &mut Draw) -> bool {
    let embed = some_embed(draw);
    let mut shape = EmbedShape::new(&embed, 2, 3);
    for _ in 0..draw.below(3) {
        match draw.below(6) {
            0 => shape.batch = draw.u32(),
            1 => shape.len = draw.u32(),
            2 => shape.x = any_strides(draw),
            3 => shape.out = any_strides(draw),
            4 => shape.table_row = draw.u32(),
            _ => shape.aligned = false,
        }
    }
    let planned = Plan::embed(&embed, &shape, draw.once_in(2), &limits(draw));
    planned.is_ok_and(|plan| {
        small::look(draw, &plan);
        true
    })
}

fn embed_numbers(draw: &mut Draw) -> bool {
    let embed = some_embed(draw);
    embed.validate().is_ok() && small::embeds(draw, &embed).is_ok()
}

fn embed_inputs(draw: &mut Draw) -> bool {
    let embed = some_embed(draw);
    let dim = if embed.dim > 64 { 8 } else { embed.dim.max(1) };
    let tensor = |len: u32| Tensor::bshd(vec![0.5; (len * dim) as usize], [1, len, 1, dim]).expect("a tensor");
    let mut inputs = EmbedInputs::new(tensor(3), (0..draw.below(4)).map(|_| draw.u32() as i32).collect());
    if draw.once_in(2) {
        inputs.table = Some(tensor(1 + draw.below(4) as u32));
    }
    check::embed(&embed, &inputs).is_ok()
}

fn pack_tables(draw: &mut Draw) -> bool {
    let (spec, inputs) = mismatched(draw);
    let shape = Shape::new(&spec, 1, 3, 5);
    let kernel = kernel(draw, &spec);
    let Ok(plan) = Plan::new(kernel, &spec, &shape, &Limits::default()) else { return false };
    plan.pack_tables(&inputs.parameters, inputs.angle_table.as_ref()).is_ok()
}

fn cache(draw: &mut Draw) -> Cache {
    let near = |draw: &mut Draw| if draw.once_in(2) { draw.below(6) as u32 } else { draw.u32() };
    match draw.below(4) {
        0 => Cache::Slots { rows: near(draw) },
        1 => Cache::Pages { pages: near(draw), page_size: near(draw) },
        _ => Cache::Contiguous,
    }
}

fn step(draw: &mut Draw) -> bool {
    let spec = draw.pick(&SPECS).clone();
    let mut shape = match spec.packed {
        true => Shape::packed(&spec, 2, 3, 5),
        false => Shape::new(&spec, 2, 3, 5),
    };
    shape.user_words = 3;
    if spec.packed {
        shape.cache = cache(draw);
    }
    let kernel = kernel(draw, &spec);
    let Ok(plan) = Plan::new(kernel, &spec, &shape, &Limits::default()) else { return false };
    let n = draw.below(40);
    let ids: Vec<i32> = (0..n).map(|_| draw.u32() as i32).collect();
    let counts: Vec<u32> = (0..draw.below(5)).map(|i| if draw.once_in(2) { i as u32 } else { draw.u32() }).collect();
    let near = |draw: &mut Draw| if draw.once_in(2) { draw.below(6) as u32 } else { draw.u32() };
    let mut step = Step { q_len: near(draw), kv_len: near(draw), ..Step::default() };
    let mask = Dense::new([1, 1, 1, n as u32], vec![true; n]).ok();
    for _ in 0..draw.below(6) {
        match draw.below(10) {
            8 => step.slots = &counts,
            9 => step.block_table = &counts,
            0 => step.kv_lens = &counts,
            1 => step.q_positions = &ids,
            2 => step.k_positions = &ids,
            3 => step.q_segments = &ids,
            4 => step.k_segments = &ids,
            5 => step.cu_seqlens_q = &counts,
            6 => step.cu_seqlens_k = &counts,
            _ => step.mask = mask.as_ref(),
        }
    }
    let words = plan.step_layout().words as usize;
    let mut words = vec![0; if draw.once_in(4) { draw.below(words + 1) } else { words }];
    plan.step_layout().write(&step, &mut words).is_ok()
}

fn candidates(draw: &mut Draw) -> bool {
    let spec = if draw.once_in(2) { hostile_spec(draw) } else { draw.pick(&SPECS).clone() };
    let (shape, limits) = (shape(draw, &spec), limits(draw));
    let kernel = kernel(draw, &spec);
    Tuning::candidates(kernel, &spec, &shape, &limits).is_ok()
}

fn tuning(draw: &mut Draw) -> bool {
    let words = [
        "rows",
        "tile",
        "decode",
        "wide",
        "block",
        "lanes",
        "coop",
        "turns",
        "q",
        "k",
        "s",
        "-",
        "unchecked",
        "4294967296",
        "0",
        "00",
        "é",
        "",
    ];
    let text = mutate::words(draw, "tile-q64k32-unchecked", "decode-q16k64s8", &words);
    let Ok(tuning) = text.parse::<Tuning>() else { return false };
    assert_eq!(tuning.to_string().parse::<Tuning>().ok(), Some(tuning));
    true
}

fn bucket(draw: &mut Draw) -> bool {
    let spec = if draw.once_in(2) { hostile_spec(draw) } else { draw.pick(&SPECS).clone() };
    let shape = shape(draw, &spec);
    let kernel = kernel(draw, &spec);
    let Ok(bucket) = Bucket::new(kernel, &spec, &shape) else { return false };
    black_box(Tunings::default().get(&bucket).is_none() && !bucket.to_string().is_empty());
    true
}

fn pairing(draw: &mut Draw) -> Pairing {
    *draw.pick(&[Pairing::Half, Pairing::Interleaved, Pairing::InterleavedInHalfOut, Pairing::HalfOfHalves])
}

fn rotary(draw: &mut Draw) -> bool {
    let dim = if draw.once_in(2) { 2 * draw.below(65) as u32 } else { draw.u32() };
    let rotary = Rotary::new(pairing(draw), dim, draw.f64());
    black_box((rotary.stream(draw.word() as usize), XPos::zeta(draw.below(1 << 20), draw.u32())));
    let order = *draw.pick(&[Sections::Contiguous, Sections::Interleaved, Sections::Alternating]);
    let [a, b, c, _] = fours(draw);
    let sections = match draw.below(3) {
        0 => [dim / 2, 0, 0],
        1 => [dim / 6, dim / 6, (dim / 2) - 2 * (dim / 6)],
        _ => [a, b, c],
    };
    // so many streams as pairs
    dim <= 1 << 16 && rotary.with_sections(order, sections).is_ok()
}

fn scaling(draw: &mut Draw) -> bool {
    let maybe = |draw: &mut Draw| if draw.once_in(2) { None } else { Some(draw.f64()) };
    let list = |draw: &mut Draw| (0..*draw.pick(&[4, 3, 0])).map(|_| draw.f64()).collect::<Vec<f64>>();
    let scaling = match draw.below(8) {
        0 => RopeScaling::Linear { factor: draw.f64() },
        1 => RopeScaling::Ntk { factor: draw.f64() },
        2 => {
            RopeScaling::Dynamic { factor: draw.f64(), max_position_embeddings: draw.u32(), seq_len: Some(draw.u32()) }
        }
        3 | 4 => {
            let mut yarn = Yarn::new(draw.f64(), draw.u32());
            (yarn.beta_fast, yarn.beta_slow, yarn.mscale) = (maybe(draw), maybe(draw), maybe(draw));
            (yarn.mscale_all_dim, yarn.attention_factor, yarn.truncate) =
                (maybe(draw), maybe(draw), Some(draw.once_in(2)));
            RopeScaling::Yarn(yarn)
        }
        5 => {
            let mut long = LongRope::new(list(draw), list(draw), draw.u32());
            (long.factor, long.attention_factor, long.max_position_embeddings) =
                (maybe(draw), maybe(draw), Some(draw.u32()));
            long.seq_len = Some(draw.u32());
            RopeScaling::LongRope(long)
        }
        6 => RopeScaling::Llama3 {
            factor: draw.f64(),
            low_freq_factor: draw.f64(),
            high_freq_factor: draw.f64(),
            original_max_position_embeddings: draw.u32(),
        },
        _ => RopeScaling::Proportional { partial_rotary_factor: draw.f64(), factor: maybe(draw) },
    };
    let dim = if draw.once_in(2) { 8 } else { draw.u32() };
    let theta = if draw.once_in(2) { 1e4 } else { draw.f64() };
    match draw.once_in(2) {
        true => scaling.inv_freq(theta, dim).is_ok(),
        false => Rotary::scaled(pairing(draw), dim, theta, &scaling).is_ok(),
    }
}

fn pictures(draw: &mut Draw) -> bool {
    let dim = if draw.once_in(2) { 4 * draw.below(33) as u32 } else { draw.u32() };
    let (theta, grid) = (draw.f64(), [draw.u32(), draw.u32()]);
    match draw.below(6) {
        0 => Rotary::pixtral(dim, theta),
        1 => Rotary::qwen2_vl_vision(dim, theta),
        2 => Rotary::gemma4_vision(dim, theta),
        3 => Rotary::llama4_vision(dim, theta),
        4 => Rotary::dinov3(dim, theta, grid),
        _ => Rotary::eva02(dim, theta, if draw.once_in(4) { None } else { Some(grid) }),
    }
    .is_ok()
}

/// The most elements that a call is asked to give, or more than it may.
const MOST: u64 = 1 << 20;
/// More are refused.
const REFUSED: u64 = 1 << 30;

/// Sizes whose product is small or refused, whatever stands beside a size of 0.
fn sides<const N: usize>(draw: &mut Draw) -> [u32; N] {
    loop {
        let sides: [u32; N] = std::array::from_fn(|_| draw.u32());
        let product = sides.iter().fold(1u64, |n, side| n.saturating_mul((*side).max(1) as u64));
        if !(MOST..=REFUSED).contains(&product) {
            return sides;
        }
    }
}

fn patches(draw: &mut Draw) -> bool {
    let grid = sides(draw);
    let made = match draw.below(5) {
        0 => PatchPositions::grid(grid),
        1 => PatchPositions::merged(grid, draw.u32()),
        2 => PatchPositions::dinov3(grid),
        3 => PatchPositions::llama4(grid),
        _ => PatchPositions::eva02(grid, if draw.once_in(4) { None } else { Some([draw.u32(), draw.u32()]) }),
    };
    let Ok(positions) = made else { return false };
    let tokens = positions.rows.len() as u64;
    let more = draw.u32();
    match draw.once_in(2) {
        true if (MOST..=REFUSED).contains(&(tokens + more as u64)) => true,
        true => positions.with_prefix(more).is_ok(),
        false if (MOST..=REFUSED).contains(&(tokens * more as u64)) => true,
        false => positions.for_batch(more).is_ok(),
    }
}

fn positions(draw: &mut Draw) -> bool {
    let n = draw.below(20);
    let batch = if draw.once_in(2) { 1 + draw.below(4) as u32 } else { draw.u32() };
    match draw.below(3) {
        0 => {
            let [batch, len] = sides(draw);
            positions_from(batch, len, draw.u32(), draw.u32() as i32).is_ok()
        }
        1 => {
            let ids: Vec<i32> = (0..n).map(|_| draw.below(4) as i32).collect();
            let padding = if draw.once_in(2) { draw.below(4) as i32 } else { draw.u32() as i32 };
            positions_of_ids(&ids, batch, padding, draw.u32()).is_ok()
        }
        _ => {
            let mask: Vec<bool> = (0..n).map(|_| draw.once_in(2)).collect();
            positions_of_mask(&mask, batch, draw.u32(), draw.u32() as i32).is_ok()
        }
    }
}

fn windows(draw: &mut Draw) -> bool {
    if draw.once_in(2) {
        let [height, width, batch] = sides(draw);
        // a token in front of each is one more cell
        let class = (batch as u64) < MOST && draw.once_in(2);
        return grid_positions(height, width, class, batch).is_ok();
    }
    let grid = sides(draw);
    let other = [draw.u32(), draw.u32()];
    let window = *draw.pick(&[grid, [1, 1], other]);
    let shift = if draw.once_in(2) { [0, 0] } else { [draw.u32(), draw.u32()] };
    swin_segments(grid, window, shift).is_ok()
}

fn tables(draw: &mut Draw) -> bool {
    match draw.below(4) {
        0 => !alibi_slopes(draw.u32() >> 12).is_empty(),
        1 => t5_bucket(draw.u32() as i32, draw.u32(), draw.u32(), draw.once_in(2)) > 0,
        2 => {
            let (high, low) = (draw.u32() as i32 as i64, draw.word() as i64);
            log_bucket(if draw.once_in(2) { high } else { low }, draw.u32(), draw.u32()) > 0
        }
        _ => {
            let [height, width] = sides(draw);
            let sides = if draw.once_in(2) { None } else { Some([draw.u32(), draw.u32()]) };
            // as many offsets as asked for
            height as u64 * width as u64 <= MOST / 4 && !log_cpb_offsets(height, width, sides).is_empty()
        }
    }
}

fn index(draw: &mut Draw) -> bool {
    let map = match draw.below(4) {
        0 => IndexMap::distance(draw.u32() as i32, draw.u32() as i32),
        1 => IndexMap::reversed(draw.u32() as i32, draw.u32() as i32),
        2 => IndexMap::LogBucket { buckets: draw.u32(), max_position: draw.u32() },
        _ => IndexMap::Grid { height: draw.u32(), width: draw.u32(), class: draw.once_in(2) },
    };
    black_box((map.rows(), map.last_stream(), map.segments()));
    let mut spec = Spec::new(2, 1, 8);
    spec.bias = vec![Bias::Indexed { index: map }];
    black_box(spec.parameters().iter().map(|p| p.len()).sum::<u64>());
    spec.validate().is_ok() && small::calls(draw, &spec).is_ok()
}

fn phases(draw: &mut Draw) -> bool {
    let increment = phase::increment(draw.f64());
    phase::phase(draw.u32() as i32, increment) > 0
}

fn terms(draw: &mut Draw) -> bool {
    let temperature = Temperature::new(draw.f64(), draw.u32());
    temperature.tau(draw.u32() as i32).is_finite()
}

fn workloads(draw: &mut Draw) -> bool {
    let words = ["p1", "p2", "p3", "b1", "b2", "d1", "d2", "r1", "-", "f16", "bf16", "f32", "é", ""];
    let text = mutate::words(draw, "d1-f16", "r1-bf16", &words);
    let named = workload::named(&text);
    let mut workload = named.clone().unwrap_or_else(|_| workload::named("p1").expect("p1"));
    let [q_len, kv_len] = sides(draw);
    (workload.q_len, workload.kv_len) = if draw.once_in(2) { (1 + q_len % 2, 1 + kv_len % 2) } else { (q_len, kv_len) };
    let rows = q_len.max(kv_len) as u64;
    black_box(workload.plans(&Limits::default()).is_ok());
    // tensors as large as asked for
    if rows <= 64 || rows > 1 << 25 {
        black_box(workload.inputs(draw.word()).is_ok());
    }
    named.is_ok()
}

fn of_systems(draw: &mut Draw) -> bool {
    let system = draw.pick(systems::systems());
    let stretch = systems::Stretch { rotary_dim: draw.u32(), trained: draw.u32(), factor: draw.f64() };
    black_box(systems::system(&mutate::words(draw, system.name, "rope", &["-", "é", ""])).is_some());
    system.scaling(stretch).is_some_and(|scaling| scaling.inv_freq(draw.f64(), draw.u32()).is_ok())
}

fn cases(draw: &mut Draw) -> bool {
    let text = format!("attention/control/q{}k{}/f32/seed{}", draw.u32(), draw.u32(), draw.word());
    let Ok(id) = text.parse::<CaseId>() else { return false };
    let query = draw.u32().to_string();
    black_box(id.matches(&query));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that take any numbers.
    const NEVER_FAIL: [&str; 2] = ["Data", "Strides"];

    #[test]
    fn each_call_gives_results_and_refusals() {
        let mut seen = vec![[0u32; 2]; CALLS.len()];
        for seed in 0..300 * CALLS.len() as u64 {
            let at = turn(seed);
            // enough is seen of it
            if seen[at].contains(&0) {
                seen[at][CALLS[at].1(&mut Draw::new(seed)) as usize] += 1;
            }
        }
        let of = |which: usize| -> Vec<&str> {
            CALLS.iter().zip(&seen).filter(|(_, seen)| seen[which] == 0).map(|((name, _), _)| *name).collect()
        };
        assert_eq!((of(0), of(1)), (NEVER_FAIL.to_vec(), vec![]));
    }
}
