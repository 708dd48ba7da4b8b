//! A GPU against the reference: attention, scores, rotation, linear attention and embedding, each in place where that exists, by the
//! planned kernel and by others that suit.

use crate::twin::draw::{self, BLOCK, Case, Computed, Draw};
use crate::{Outcome, Ran};
use ropewalk::check::{self, Bounded, Options, Worst};
use ropewalk::{EmbedInputs, Gpu, Inputs, Kernel, Problem, Spec, Tensor, Tuning};

pub fn run(seed: u64, gpus: &[Gpu]) -> Outcome {
    let Case { computed, .. } = draw::case(seed);
    let spec = seed / BLOCK;
    // a block stays on one device, and with few kernels
    let shared = &mut Draw::new(spec ^ 0xd1ff << 40);
    let gpu = shared.pick(&Vec::from_iter(gpus));
    let picks = [shared.word(), shared.word()];
    let draw = &mut Draw::new(seed ^ 0xd1ff << 40);
    let result = match &computed {
        Computed::Attention { spec, inputs, .. } if spec.linear.is_some() => linear(gpu, spec, inputs),
        Computed::Attention { spec, inputs, .. } => {
            let kernel = match draw.int(0..=11) {
                0 => Kernel::Scores,
                1 if spec.rotary.is_some() || spec.norm.is_some() => Kernel::RotateQ { in_place: false },
                2 if spec.rotary.is_some() || spec.norm.is_some() => Kernel::RotateK { in_place: true },
                _ => Kernel::Attention,
            };
            let pick = [None, Some(picks[0]), Some(picks[1])][draw.int(0..=2) as usize];
            forced(gpu, kernel, spec, inputs, pick).and_then(|(gpu, tuning)| {
                let named = |problem: String| format!("{tuning} on {}: {problem}", gpu.describe());
                match kernel {
                    Kernel::Scores => scores(&gpu, spec, inputs),
                    Kernel::RotateQ { .. } => rotate(&gpu, spec, inputs),
                    Kernel::RotateK { .. } => rotate_in_place(&gpu, spec, inputs),
                    _ => attention(&gpu, spec, inputs),
                }
                .map_err(named)
            })
        }
        Computed::Embed { embed, inputs } => {
            let bounds = check::embed(embed, inputs).map_err(|e| e.to_string())?;
            let found = match draw.chance(0.5) {
                true => gpu.embed(embed, inputs),
                false => {
                    let mut inputs: EmbedInputs = (**inputs).clone();
                    gpu.embed_in_place(embed, &mut inputs).map(|()| elements(&inputs.x))
                }
            };
            found.map_err(|e| e.to_string()).and_then(|found| within("embedded", &bounds, &found))
        }
    };
    result.map(|()| Ran { spec, left_out: None }).map_err(|problem| format!("{problem}\n  {}", about(&computed)))
}

/// The case in words.
fn about(computed: &Computed) -> String {
    match computed {
        Computed::Attention { spec, inputs, .. } => {
            let [batch, q_len, ..] = inputs.q.shape();
            let size = format!("batch {batch}, {q_len} queries, {} keys", inputs.k.shape()[1]);
            format!(
                "{} {}/{} heads of {}/{} {}; {size}",
                spec.dtype.name(),
                spec.num_heads,
                spec.num_kv_heads,
                spec.head_dim,
                spec.v_head_dim,
                spec.terms().join(" ")
            )
        }
        Computed::Embed { embed, inputs } => format!("{:?} of {:?}", embed, inputs.x.shape()),
    }
}

/// The device with one of the tunings that suit a call, or with its own choice.
fn forced(gpu: &Gpu, kernel: Kernel, spec: &Spec, inputs: &Inputs, pick: Option<u32>) -> Result<(Gpu, String), String> {
    let mut limits = *gpu.limits();
    let problem = Problem::new(spec, inputs).map_err(|e| e.to_string())?;
    if let Some(pick) = pick {
        let all = Tuning::candidates(kernel, spec, &problem.shape(), &limits).map_err(|e| e.to_string())?;
        limits.tuning = all.get(pick as usize % all.len().max(1)).copied();
    }
    let name = limits.tuning.map_or("planned".into(), |tuning| tuning.to_string());
    Ok((gpu.with_limits(limits), name))
}

fn judged(name: &str, worst: &Worst) -> Result<(), String> {
    match worst.failures {
        0 => Ok(()),
        n => Err(format!(
            "{name}: {n} of {} beyond their bounds, the worst at {}: {:e} of {:e}",
            worst.elements, worst.index, worst.error, worst.bound
        )),
    }
}
fn within(name: &str, bounds: &Bounded, found: &[f32]) -> Result<(), String> {
    match bounds.value.len() == found.len() {
        true => judged(name, &bounds.worst(found)),
        false => Err(format!("{name}: {} elements in place of {}", found.len(), bounds.value.len())),
    }
}

fn attention(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<(), String> {
    let found = gpu.attention(spec, inputs).map_err(|e| e.to_string())?;
    let mut options = Options::default();
    options.max_flop = f64::INFINITY;
    let report = check::verify(spec, inputs, &found, &options, &|_| ()).map_err(|e| e.to_string())?;
    judged("out", &report.out).and(judged("lse", &report.lse))
}

fn scores(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<(), String> {
    let found = gpu.scores(spec, inputs).map_err(|e| e.to_string())?;
    within("scores", &check::scores(spec, inputs).map_err(|e| e.to_string())?, &found)
}

fn rotate(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<(), String> {
    let (q, k) = gpu.rotate(spec, inputs).map_err(|e| e.to_string())?;
    let bounds = check::rotate(spec, inputs).map_err(|e| e.to_string())?;
    within("rotated q", &bounds.0, &q).and(within("rotated k", &bounds.1, &k))
}

fn rotate_in_place(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<(), String> {
    let mut turned = inputs.clone();
    gpu.rotate_in_place(spec, &mut turned).map_err(|e| e.to_string())?;
    let bounds = check::rotate(spec, inputs).map_err(|e| e.to_string())?;
    within("q in place", &bounds.0, &elements(&turned.q)).and(within("k in place", &bounds.1, &elements(&turned.k)))
}

fn linear(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<(), String> {
    let found = gpu.linear(spec, inputs).map_err(|e| format!("{}: {e}", gpu.describe()))?;
    let bounds = check::linear(spec, inputs).map_err(|e| e.to_string())?;
    within("out", &bounds.out, &found.out)
        .and(within("state", &bounds.state, &found.state))
        .and(within("normalizer", &bounds.normalizer, &found.normalizer))
        .map_err(|problem| format!("{}: {problem}", gpu.describe()))
}

/// The elements that a device has, in the order of the shape.
fn elements(tensor: &Tensor) -> Vec<f32> {
    let [batch, len, heads, dim] = tensor.shape();
    let mut all = vec![];
    for (b, t, h) in (0..batch).flat_map(|b| (0..len).flat_map(move |t| (0..heads).map(move |h| (b, t, h)))) {
        let start = tensor.row_start(b, t, h);
        all.extend((start..start + dim as usize).map(|i| tensor.data().get(i)));
    }
    all
}
