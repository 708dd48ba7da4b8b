//! Small calls of a spec, whatever the spec is: plans, and the reference where it takes no time.

use crate::mutate::Draw;
use ropewalk::{
    Angle, AngleTable, Data, Decay, Dense, Embed, EmbedInputs, EmbedShape, Inputs, Kernel, Limits, MaskMod, Plan,
    Positions, Problem, Result, ScoreMod, Shape, Slot, Spec, Step, Target, Tensor, Tuning, check, reference,
};
use std::hint::black_box;

/// The most numbers of an input that the reference gets.
const MOST: u64 = 1 << 14;

pub const KERNELS: [Kernel; 7] = [
    Kernel::Attention,
    Kernel::Scores,
    Kernel::Linear,
    Kernel::RotateQ { in_place: false },
    Kernel::RotateQ { in_place: true },
    Kernel::RotateK { in_place: false },
    Kernel::RotateK { in_place: true },
];

/// Plans a call of the spec, looks at all of the plan, and computes it by the reference where it is tiny.
pub fn calls(draw: &mut Draw, spec: &Spec) -> Result<()> {
    let [batch, q_len, kv_len] = if spec.packed { [1, 3, 5] } else { [1 + draw.below(2) as u32, 2, 5] };
    let mut shape = match spec.packed {
        true => Shape::packed(spec, 2, q_len, kv_len),
        false => Shape::new(spec, batch, q_len, kv_len),
    };
    shape.user_words = 3;
    let limits = if draw.once_in(2) { Limits::default() } else { Limits::default().for_cpu() };
    let kernel = match &spec.linear {
        Some(_) => Kernel::Linear,
        None => *draw.pick(&KERNELS),
    };
    spec.terms();
    let planned = Plan::new(kernel, spec, &shape, &limits).map(|plan| look(draw, &plan));
    if let Some(inputs) = inputs(draw, spec, batch, q_len, kv_len)? {
        compute(draw, spec, &inputs)?;
    }
    planned
}

/// Everything that a plan says.
pub fn look(draw: &mut Draw, plan: &Plan) {
    for slot in [Slot::Params, Slot::Rotary, Slot::Heads, Slot::Chunk] {
        black_box(plan.uniform(slot));
    }
    for target in [Target::Native, Target::Web] {
        black_box(plan.wgsl(target).len());
    }
    black_box((plan.flop(), plan.bytes(), plan.peak_bytes(), plan.visible_pairs()));
    black_box((plan.workspace_size(), plan.state_offsets(), plan.lse_offset(), plan.gate_offset()));
    black_box((plan.entries(), plan.chunks().len(), plan.label().len(), plan.locate(draw.u32() as usize)));
    let layout = plan.step_layout();
    if layout.words < 1 << 16 {
        let mut words = vec![0; layout.words as usize];
        let ids: Vec<i32> = (0..draw.below(40)).map(|i| i as i32).collect();
        let lens = [draw.below(4) as u32, draw.u32()];
        let starts = [0, draw.below(3) as u32, 2, draw.u32()];
        let mut step = Step { q_len: draw.below(3) as u32, kv_len: draw.below(6) as u32, ..Step::default() };
        (step.q_positions, step.k_positions, step.q_segments, step.k_segments) = (&ids, &ids, &ids, &ids);
        (step.kv_lens, step.cu_seqlens_q, step.cu_seqlens_k) = (&lens, &starts[..3], &starts);
        black_box(layout.write(&step, &mut words).is_ok());
    }
}

/// Numbers for every input of a spec, none where they would be many.
pub fn inputs(draw: &mut Draw, spec: &Spec, batch: u32, q_len: u32, kv_len: u32) -> Result<Option<Inputs>> {
    spec.validate()?;
    let width = spec.num_heads as u64 * spec.head_dim.max(spec.v_head_dim) as u64;
    let parameters = spec.parameters();
    let words: u64 = parameters.iter().map(|p| p.len()).sum();
    let features = spec.features() as u64;
    if 16 * width > MOST || words > MOST || width * features > MOST {
        return Ok(None);
    }
    let mut tensor = |len: u32, heads: u32, dim: u32| {
        let values = numbers(draw, batch as usize * len as usize * heads as usize * dim as usize);
        Tensor::bshd(Data::from_f32(spec.dtype, &values), [batch, len, heads, dim])
    };
    let q = tensor(q_len, spec.num_heads, spec.head_dim)?;
    let k = tensor(kv_len, spec.num_kv_heads, spec.head_dim)?;
    let mut inputs = Inputs::new(q, k, tensor(kv_len, spec.num_kv_heads, spec.v_head_dim)?);
    let tokens = |n: u32, of: u32| (n * batch * of) as usize;
    if spec.positions == Positions::Ids {
        let table = spec.rotary.as_ref().is_some_and(|r| r.angle == Angle::Table);
        let far = if table { 1 } else { draw.u32() };
        let ids = |n| (0..n as u32).map(|i| (i % kv_len).wrapping_mul(far) as i32).collect();
        inputs.q_positions = Some(ids(tokens(q_len, spec.position_streams())));
        inputs.k_positions = Some(ids(tokens(kv_len, spec.position_streams())));
    }
    if spec.segments() {
        inputs.q_segments = Some((0..tokens(q_len, 1) as i32).collect());
        inputs.k_segments = Some((0..tokens(kv_len, 1) as i32).collect());
    }
    if spec.packed {
        (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = (Some(vec![0, 1, q_len]), Some(vec![0, 2, kv_len]));
    }
    inputs.kv_lens = spec.kv_lens.then(|| vec![kv_len - 1; batch as usize]);
    for p in parameters {
        inputs.parameters.insert(p.name.clone(), numbers(draw, p.len() as usize));
    }
    let full = [batch, spec.num_heads, q_len, kv_len];
    let elements = full.iter().product::<u32>() as usize;
    if spec.dense_bias {
        inputs.attn_bias = Some(Dense::new(full, numbers(draw, elements))?);
    }
    if spec.mask.dense {
        inputs.mask = Some(Dense::new(full, (0..elements).map(|i| i % 3 != 0).collect())?);
    }
    inputs.gates = spec.gated_bias.then(|| vec![1.5; tokens(q_len, spec.num_heads)]);
    if let Some(rotary) = spec.rotary.as_ref().filter(|r| r.angle == Angle::Table) {
        let n = kv_len as usize * rotary.rotary_dim as usize / 2;
        inputs.angle_table = Some(AngleTable { cos: numbers(draw, n), sin: numbers(draw, n) });
    }
    inputs.score_mod = spec.score_mod.is_some().then(|| ScoreMod::new(2.0, |s, _| s));
    inputs.mask_mod = spec.mask_mod.is_some().then(|| MaskMod::new(|at| at.j != 1));
    let texts = [&spec.score_mod, &spec.mask_mod];
    if texts.into_iter().flatten().any(|text| text.contains("user_")) {
        inputs.user_data = vec![0, 1, 2];
    }
    if let Some(linear) = &spec.linear {
        let rows = (batch * spec.num_kv_heads) as u64 * features;
        let values = rows as usize * spec.v_head_dim as usize;
        inputs.initial_state = linear.initial_state.then(|| vec![0.5; values]);
        inputs.initial_normalizer =
            (linear.initial_state && linear.normalizer.is_some()).then(|| vec![0.5; rows as usize]);
        let each = match linear.decay {
            Some(Decay::Token) => Some(1),
            Some(Decay::Feature) => Some(features as usize),
            _ => None,
        };
        inputs.decay = each.map(|n| vec![-0.5; tokens(kv_len, spec.num_kv_heads) * n]);
        inputs.beta = linear.delta.then(|| vec![0.25; tokens(kv_len, spec.num_kv_heads)]);
    }
    Ok(Some(inputs))
}

/// Mostly ordinary ones.
fn numbers(draw: &mut Draw, n: usize) -> Vec<f32> {
    let mut values: Vec<f32> = (0..n).map(|_| draw.unit()).collect();
    if draw.once_in(4) && n > 0 {
        let at = draw.below(n);
        values[at] = draw.f64() as f32;
    }
    values
}

/// The reference and the bounds of one kernel or another.
pub fn compute(draw: &mut Draw, spec: &Spec, inputs: &Inputs) -> Result<()> {
    let problem = Problem::new(spec, inputs)?;
    let limits = Limits::default();
    let kernel = *draw.pick(&KERNELS);
    if let Ok(plan) = Plan::for_problem(kernel, &problem, &limits) {
        black_box(plan.pack_tables(&inputs.parameters, inputs.angle_table.as_ref())?);
        black_box(Tuning::candidates(kernel, spec, plan.shape(), &limits)?);
    }
    match draw.below(7) {
        _ if spec.linear.is_some() => drop(black_box(check::linear(spec, inputs)?)),
        0 => drop(black_box(reference::scores(spec, inputs)?)),
        1 => drop(black_box(reference::rotate(spec, inputs)?)),
        2 => drop(black_box(check::scores(spec, inputs)?)),
        3 => drop(black_box(check::rotate(spec, inputs)?)),
        4 => {
            let result = reference::attention(spec, inputs)?;
            let narrow = |v: &[f64]| v.iter().map(|x| *x as f32).collect();
            let result =
                reference::Output { out_shape: result.out_shape, out: narrow(&result.out), lse: narrow(&result.lse) };
            black_box(check::verify(spec, inputs, &result, &check::Options::default(), &|_| ())?);
        }
        _ => drop(black_box(check::attention(spec, inputs)?)),
    }
    Ok(())
}

/// The same of an embedding.
pub fn embeds(draw: &mut Draw, embed: &Embed) -> Result<()> {
    black_box((embed.terms(), embed.frequencies(), embed.pack_increments()));
    let (batch, len) = (1 + draw.below(2) as u32, 1 + draw.below(3) as u32);
    let shape = EmbedShape::new(embed, batch, len);
    let plan = Plan::embed(embed, &shape, draw.once_in(2), &Limits::default())?;
    look(draw, &plan);
    let rows = match embed.positions {
        ropewalk::Absolute::Learned { rows } => rows,
        _ => 1,
    };
    if 16 * embed.dim as u64 <= MOST && embed.dim as u64 * rows as u64 <= MOST {
        let tensor = |values: Vec<f32>, shape| Tensor::bshd(Data::from_f32(embed.dtype, &values), shape);
        let x = tensor(numbers(draw, (batch * len * embed.dim) as usize), [batch, len, 1, embed.dim])?;
        let positions = (0..batch * len).map(|i| (i % rows) as i32).collect();
        let mut inputs = EmbedInputs::new(x, positions);
        if let ropewalk::Absolute::Learned { .. } = embed.positions {
            inputs.table = Some(tensor(numbers(draw, (rows * embed.dim) as usize), [1, rows, 1, embed.dim])?);
        }
        black_box(check::embed(embed, &inputs)?);
    }
    Ok(())
}
