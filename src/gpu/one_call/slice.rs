//! Problems that exceed a binding limit, cut by sequences, then by kv heads. One kv head of one sequence has to fit; packed sequences are
//! cut by kv heads alone.

use crate::equation::linear::Decay;
use crate::equation::rotary::rotary::Frequencies;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::inputs::{Dense, Inputs};
use crate::inputs::problem::Problem;
use crate::inputs::tensor::Tensor;
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::plan::Plan;
use std::ops::Range;

/// A part of a problem: some sequences, some kv heads with their query heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) batch: Range<u32>,
    pub(crate) kv_heads: Range<u32>,
}

/// The parts that fit the limits, whole sequences first. An error says what one sequence and one kv head take.
pub(crate) fn parts(kernel: Kernel, problem: &Problem, limits: &Limits) -> Result<Vec<Part>> {
    // packed sequences are one batch entry, which is never cut
    let (batch, heads, packed) = (problem.shape.batch, problem.spec.num_kv_heads, problem.spec.packed);
    let fits = |batch: u32, heads: u32| -> Result<()> {
        let part = Part { batch: 0..batch, kv_heads: 0..heads };
        let (spec, shape) = (part_spec(problem.spec, &part), problem.shape);
        let small = |d: [u32; 4]| [d[0].min(batch), d[1].min(spec.num_heads), d[2], d[3]];
        let mut sized = crate::inputs::shape::Shape::new(&spec, batch, shape.q_len, shape.kv_len);
        (sized.sequences, sized.max_seqlen_q, sized.max_seqlen_k) =
            (shape.sequences, shape.max_seqlen_q, shape.max_seqlen_k);
        sized.dense = problem.inputs.attn_bias.as_ref().map_or([1; 4], |d| small(d.shape));
        sized.mask = problem.inputs.mask.as_ref().map_or([1; 4], |d| small(d.shape));
        sized.angle_rows = problem.angle_rows();
        sized.user_words = problem.shape.user_words;
        sized.cache = shape.cache;
        Plan::new(kernel, &spec, &sized, limits).map(|_| ())
    };
    let (sequences, kv_heads) = match largest(batch, |n| fits(n, heads).is_ok()) {
        Some(n) => (n, heads),
        None => match largest(heads, |n| fits(1, n).is_ok()) {
            // a norm of all heads needs them together
            Some(_) if problem.spec.norm.is_some_and(|n| n.all_heads) => {
                return Err(fits(1, heads).err().unwrap_or_else(|| {
                    Error::limit(
                        "shape",
                        "one sequence is too large beside a norm of all heads",
                        "use shorter sequences",
                    )
                }));
            }
            Some(n) => (1, n),
            None => match fits(1, 1) {
                Err(Error::Limit { field, problem, .. }) => {
                    let least = if packed { "kv head of the packed sequences" } else { "sequence and one kv head" };
                    return Err(Error::limit(
                        field,
                        format!("even one {least} is too large: {problem}"),
                        "use shorter sequences, or a device (or requested limits) with a larger binding size",
                    ));
                }
                other => return other.map(|_| Vec::new()),
            },
        },
    };
    let cuts = |n: u32, by: u32| (0..n).step_by(by as usize).map(move |i| i..i.saturating_add(by).min(n));
    Ok(cuts(batch, sequences)
        .flat_map(|b| cuts(heads, kv_heads).map(move |h| Part { batch: b.clone(), kv_heads: h }))
        .collect())
}

/// The largest of 1..=n that fits, if 1 does; what fits, fits with less.
fn largest(n: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
    if fits(n) {
        return Some(n);
    }
    let (mut good, mut bad) = (0, n);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    (good > 0).then_some(good)
}

pub(crate) fn part_spec(spec: &Spec, part: &Part) -> Spec {
    let group = spec.group();
    let heads = part.kv_heads.start * group..part.kv_heads.end * group;
    let mut out = spec.clone();
    out.num_kv_heads = part.kv_heads.len() as u32;
    out.num_heads = heads.len() as u32;
    if let Some(linear) = &mut out.linear
        && let Some(gammas) = linear.gammas(spec.num_kv_heads)
    {
        let span = part.kv_heads.start as usize..part.kv_heads.end as usize;
        linear.decay = Some(Decay::Heads(gammas.get(span).unwrap_or_default().to_vec()));
    }
    if let Some(Frequencies::Sums(sums)) = out.rotary.as_mut().map(|r| &mut r.frequencies)
        && sums.heads > 1
    {
        let width = sums.values.len() / sums.heads as usize;
        let span = part.kv_heads.start as usize * width..part.kv_heads.end as usize * width;
        sums.values = sums.values.get(span).unwrap_or_default().to_vec();
        sums.heads = part.kv_heads.len() as u32;
    }
    for bias in &mut out.bias {
        *bias = bias.of_heads(spec.num_heads, &heads);
    }
    out
}

/// The part's own spec and inputs, contiguous.
pub(crate) fn part(problem: &Problem, part: &Part) -> Result<(Spec, Inputs)> {
    let (spec, inputs) = (problem.spec, &*problem.inputs);
    let group = spec.group();
    let heads = part.kv_heads.start * group..part.kv_heads.end * group;
    let [q_len, kv_len] = [problem.shape.q_len, problem.shape.kv_len];
    let sub = part_spec(spec, part);
    let (keys, pools) = match problem.placed {
        Some(placed) => (placed, 0..1),
        None => (inputs, part.batch.clone()),
    };
    let mut out = Inputs::new(
        tensor_part(&inputs.q, &part.batch, &heads)?,
        tensor_part(&keys.k, &pools, &part.kv_heads)?,
        tensor_part(&keys.v, &pools, &part.kv_heads)?,
    );
    out.placement = keys.placement.clone(); // packed sequences are never cut
    let rows = |ids: &Option<Vec<i32>>, len: u32| {
        let span = part.batch.start as usize * len as usize..part.batch.end as usize * len as usize;
        let stream = problem.shape.batch as usize * len as usize;
        let of_stream = |ids: &[i32]| ids[span.clone()].to_vec();
        ids.as_ref().map(|ids| ids.chunks_exact(stream.max(1)).flat_map(of_stream).collect())
    };
    out.q_segments = rows(&inputs.q_segments, q_len);
    out.k_segments = rows(&inputs.k_segments, kv_len);
    out.cu_seqlens_q = inputs.cu_seqlens_q.clone();
    out.cu_seqlens_k = inputs.cu_seqlens_k.clone();
    out.kv_len = inputs.kv_len;
    out.kv_lens = inputs.kv_lens.as_ref().map(|l| l[part.batch.start as usize..part.batch.end as usize].to_vec());
    out.q_positions = rows(&inputs.q_positions, q_len);
    out.k_positions = rows(&inputs.k_positions, kv_len);
    out.user_data = inputs.user_data.clone();
    out.angle_table = inputs.angle_table.clone();
    out.attn_bias = inputs.attn_bias.as_ref().map(|d| dense_part(d, &part.batch, &heads));
    out.gates = inputs.gates.as_ref().map(|g| {
        let row = |b: u32| (b as usize * spec.num_heads as usize + heads.start as usize) * q_len as usize;
        let len = heads.len() * q_len as usize;
        part.batch.clone().flat_map(|b| g[row(b)..row(b) + len].iter().copied()).collect()
    });
    let rows = |all: &Option<Vec<f32>>, words: usize| {
        let row = |b: u32| (b as usize * spec.num_heads as usize + heads.start as usize) * words;
        let of = |all: &Vec<f32>| {
            let part = part.batch.clone().flat_map(|b| all[row(b)..row(b) + heads.len() * words].iter().copied());
            part.collect::<Vec<f32>>()
        };
        all.as_ref().map(of)
    };
    out.query_scales = rows(&inputs.query_scales, q_len as usize);
    out.query_sinks = rows(&inputs.query_sinks, q_len as usize);
    out.relative_queries = rows(&inputs.relative_queries, q_len as usize * spec.own_queries().unwrap_or(0) as usize);
    out.key_bias = inputs.key_bias.as_ref().map(|all| {
        let row = |b: u32| (b as usize * spec.num_heads as usize + heads.start as usize) * kv_len as usize;
        let len = heads.len() * kv_len as usize;
        part.batch.clone().flat_map(|b| all[row(b)..row(b) + len].iter().copied()).collect()
    });
    out.mask = inputs.mask.as_ref().map(|d| dense_part(d, &part.batch, &heads));
    // rows of kv heads: [batch, num_kv_heads, words], or [batch, capacity, num_kv_heads, words]
    let kv_rows = |given: &Option<Vec<f32>>, tokens: u32| {
        let given = given.as_ref()?;
        let all = problem.shape.batch as usize * tokens as usize * spec.num_kv_heads as usize;
        let words = given.len() / all.max(1);
        let tokens = part.batch.start as usize * tokens as usize..part.batch.end as usize * tokens as usize;
        let row = |t: usize, g: u32| (t * spec.num_kv_heads as usize + g as usize) * words;
        let rows = tokens.flat_map(|t| part.kv_heads.clone().map(move |g| row(t, g)));
        Some(rows.flat_map(|at| given[at..at + words].iter().copied()).collect())
    };
    out.initial_state = kv_rows(&inputs.initial_state, 1);
    out.initial_normalizer = kv_rows(&inputs.initial_normalizer, 1);
    out.decay = kv_rows(&inputs.decay, kv_len);
    out.beta = kv_rows(&inputs.beta, kv_len);
    out.parameters = spec
        .parameters()
        .iter()
        .filter_map(|p| {
            let values = inputs.parameters.get(&p.name)?;
            let values = p.of_heads(values, &heads, spec.num_heads);
            Some((p.name.clone(), values))
        })
        .collect();
    Ok((sub, out))
}

fn tensor_part(t: &Tensor, batch: &Range<u32>, heads: &Range<u32>) -> Result<Tensor> {
    let [_, len, _, dim] = t.shape();
    let starts = batch
        .clone()
        .flat_map(|b| (0..len).flat_map(move |j| heads.clone().map(move |h| (b, j, h))))
        .map(|(b, j, h)| t.row_start(b, j, h));
    let data = t.data().gather(starts, dim as usize);
    Tensor::bshd(data, [batch.len() as u32, len, heads.len() as u32, dim])
}

fn dense_part<T: Copy>(d: &Dense<T>, batch: &Range<u32>, heads: &Range<u32>) -> Dense<T> {
    let [b, h, i, j] = d.shape;
    let pick = |n: u32, r: &Range<u32>| if n == 1 { 0..1 } else { r.clone() };
    let (bs, hs) = (pick(b, batch), pick(h, heads));
    let plane = i as usize * j as usize;
    let data = bs
        .clone()
        .flat_map(|b| hs.clone().map(move |hh| (b * h + hh) as usize * plane))
        .flat_map(|start| d.data[start..start + plane].iter().copied())
        .collect();
    Dense { shape: [bs.len() as u32, hs.len() as u32, i, j], data }
}
