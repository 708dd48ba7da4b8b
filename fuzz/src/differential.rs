//! A GPU against the reference: attention, scores, rotation, linear attention and embedding, each in place where that exists, by the
//! planned kernel and by others that suit.

use crate::twin::draw::{self, BLOCK, Case, Computed, Draw};
use crate::{Outcome, Ran};
use ropewalk::check::{self, Bounded, Options, Worst};
use ropewalk::{EmbedInputs, Gpu, Inputs, Kernel, Problem, Spec, Tensor, Tuning};

pub fn run(seed: u64, gpus: &[Gpu]) -> Outcome {
    let Case { computed, .. } = draw::case(seed);
    let spec = seed / BLOCK;
    // a block stays on one device, with few kernels: the planned ones of two operations, and one more tuning
    let shared = &mut Draw::new(spec ^ 0xd1ff << 40);
    let gpu = shared.pick(&Vec::from_iter(gpus));
    let salt = shared.word();
    let other = shared.pick(&[
        Kernel::Scores,
        Kernel::RotateQ { in_place: false },
        Kernel::RotateK { in_place: true },
        Kernel::Attention,
    ]);
    let draw = &mut Draw::new(seed ^ 0xd1ff << 40);
    let result = match &computed {
        Computed::Attention { spec, inputs, .. } if spec.linear.is_some() => linear(gpu, spec, inputs),
        Computed::Attention { spec, inputs, .. } => {
            let turns = spec.rotary.is_some() || spec.norm.is_some();
            let rotates = turns && !spec.k_storage().in_blocks();
            let kernel = match (other, draw.int(0..=3)) {
                (Kernel::RotateQ { .. }, 0) if rotates => other,
                // in place, which a norm of all heads refuses
                (Kernel::RotateK { .. }, 0) if rotates && !spec.norm.is_some_and(|norm| norm.all_heads) => other,
                (Kernel::Scores, 0) => other,
                _ => Kernel::Attention,
            };
            let pick = draw.chance(0.6).then_some(salt);
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
    result.map(|judged| judged.ran(spec)).map_err(|problem| format!("{problem}\n  {}", about(&computed)))
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

/// The device with one of the tunings that suit a call, the same one for most calls with the same salt; or with its own choice.
fn forced(gpu: &Gpu, kernel: Kernel, spec: &Spec, inputs: &Inputs, salt: Option<u32>) -> Result<(Gpu, String), String> {
    let mut limits = *gpu.limits();
    let problem = Problem::new(spec, inputs).map_err(|e| e.to_string())?;
    if let Some(salt) = salt {
        let all = Tuning::candidates(kernel, spec, &problem.shape(), &limits).map_err(|e| e.to_string())?;
        let lot = |tuning: &Tuning| {
            let name = tuning.to_string();
            let drawn =
                |text: &str| Draw::new(text.bytes().fold(salt as u64, |n, b| n.wrapping_mul(257) ^ b as u64)).word();
            // a family first, so that those with many tunings come no more often
            (drawn(tuning.family.name()), drawn(&name))
        };
        limits.tuning = all.into_iter().min_by_key(lot);
    }
    let name = limits.tuning.map_or("planned".into(), |tuning| tuning.to_string());
    Ok((gpu.with_limits(limits), name))
}

/// Elements within their bounds, and how many of them had none.
#[derive(Default)]
struct Judged {
    elements: u64,
    unbounded: u64,
}

impl Judged {
    fn and(self, other: Self) -> Self {
        Judged { elements: self.elements + other.elements, unbounded: self.unbounded + other.unbounded }
    }
    fn ran(self, spec: u64) -> Ran {
        let Judged { elements, unbounded } = self;
        let left_out = (elements > 0 && elements == unbounded).then(|| "no element had a bound".into());
        Ran { left_out, elements, unbounded, ..Ran::of(spec) }
    }
}

fn judged(name: &str, worst: &Worst) -> Result<Judged, String> {
    match worst.failures {
        0 => Ok(Judged { elements: worst.elements, unbounded: worst.unbounded }),
        n => Err(format!(
            "{name}: {n} of {} beyond their bounds, the worst at {}: {:e} of {:e}",
            worst.elements, worst.index, worst.error, worst.bound
        )),
    }
}
fn within(name: &str, bounds: &Bounded, found: &[f32]) -> Result<Judged, String> {
    match bounds.value.len() == found.len() {
        true => judged(name, &bounds.worst(found)),
        false => Err(format!("{name}: {} elements in place of {}", found.len(), bounds.value.len())),
    }
}

fn attention(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<Judged, String> {
    let found = gpu.attention(spec, inputs).map_err(|e| e.to_string())?;
    let mut options = Options::default();
    options.max_flop = f64::INFINITY;
    let report = check::verify(spec, inputs, &found, &options, &|_| ()).map_err(|e| e.to_string())?;
    Ok(judged("out", &report.out)?.and(judged("lse", &report.lse)?))
}

fn scores(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<Judged, String> {
    let found = gpu.scores(spec, inputs).map_err(|e| e.to_string())?;
    within("scores", &check::scores(spec, inputs).map_err(|e| e.to_string())?, &found)
}

fn rotate(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<Judged, String> {
    let (q, k) = gpu.rotate(spec, inputs).map_err(|e| e.to_string())?;
    let bounds = check::rotate(spec, inputs).map_err(|e| e.to_string())?;
    Ok(within("rotated q", &bounds.0, &q)?.and(within("rotated k", &bounds.1, &k)?))
}

fn rotate_in_place(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<Judged, String> {
    let mut turned = inputs.clone();
    gpu.rotate_in_place(spec, &mut turned).map_err(|e| e.to_string())?;
    let bounds = check::rotate(spec, inputs).map_err(|e| e.to_string())?;
    let q = within("q in place", &bounds.0, &elements(&turned.q))?;
    Ok(q.and(within("k in place", &bounds.1, &elements(&turned.k))?))
}

fn linear(gpu: &Gpu, spec: &Spec, inputs: &Inputs) -> Result<Judged, String> {
    let found = gpu.linear(spec, inputs).map_err(|e| format!("{}: {e}", gpu.describe()))?;
    let bounds = check::linear(spec, inputs).map_err(|e| e.to_string())?;
    let parts = [
        ("out", &bounds.out, &found.out),
        ("state", &bounds.state, &found.state),
        ("normalizer", &bounds.normalizer, &found.normalizer),
    ];
    let judged = |(name, bounds, found): (&str, &Bounded, &Vec<f32>)| within(name, bounds, found);
    parts.into_iter().map(judged).try_fold(Judged::default(), |sum, part| {
        part.map(|part| sum.and(part)).map_err(|problem| format!("{}: {problem}", gpu.describe()))
    })
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
