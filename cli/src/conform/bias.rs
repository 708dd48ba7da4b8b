//! Cases of relative biases beyond one dimension and one kernel: windows (Swin, BEiT), gates (WavLM), log buckets (DeBERTa).
//!
//! What a case lists of a bias (its index, the bias itself, a shift's mask) is compared with a call of its own, in which that
//! term alone makes the scores; none of it is an input.

use super::model::Sizes;
use super::work::{Build, Expect, Probe, Stage, Table, Tolerance, Work, needs};
use crate::golden::{Entry, Golden, Parameters, Tensors};
use ropewalk::{
    Bias, Error, IndexMap, Inputs, KerpleKind, Norm, NormKind, Positions, Spec, Tensor, grid_positions, log_bucket,
    log_cpb_offsets, swin_segments,
};
use serde_json::Value;

/// Whether the case's bias is one of a 2-D window.
pub fn is_window(golden: &Golden) -> bool {
    let (p, t) = (&golden.parameters, &golden.tensors);
    let sides = (p.set("window_size") || p.set("grid")) && !p.set("num_buckets");
    sides && (t.has("bias_table") || t.has("mlp_w1"))
}

/// Swin's, Swin v2's or BEiT's bias, with what the case lists of it.
pub fn window(
    p: &Parameters,
    t: &mut Tensors,
    spec: &mut Spec,
    inputs: &mut Inputs,
    sizes: Sizes,
    work: &mut Work,
) -> Build<Vec<Probe>> {
    let Some(window) = sides(p, "window_size")?.or(sides(p, "grid")?) else {
        return Err(Error::input("window_size", "is missing", "give the sides of the window").into());
    };
    let [height, width] = window;
    let tokens = height as u64 * width as u64;
    let class = sizes.kv_len as u64 == tokens + 1 && !p.set("window_size");
    if sizes.q_len != sizes.kv_len || sizes.kv_len as u64 != tokens + class as u64 {
        let help = format!("give the {tokens} tokens of the window {window:?}");
        return Err(Error::input("q", format!("{} queries over {} keys", sizes.q_len, sizes.kv_len), help).into());
    }
    let index = IndexMap::Grid { height, width, class };
    let mut probes = Vec::new();
    if t.has("mlp_w1") {
        let (w1, b1, w2) = (t.need("mlp_w1")?, t.need("mlp_b1")?, t.need("mlp_w2")?);
        let hidden = b1.shape.iter().product::<usize>();
        if w1.shape != [hidden, 2] || w2.shape != [sizes.heads as usize, hidden] || class {
            return Err(w1.wrong("mlp_w1", "[hidden, 2], mlp_b1 [hidden], mlp_w2 [heads, hidden]").into());
        }
        let pretrained = sides(p, "pretrained_window_size")?.filter(|sides| *sides != [0, 0]);
        spec.bias.push(Bias::LogCpb { height, width, pretrained, hidden: hidden as u32 });
        for (name, entry, of) in [("cpb_w1", w1, "mlp_w1"), ("cpb_b1", b1, "mlp_b1"), ("cpb_w2", w2, "mlp_w2")] {
            inputs.parameters.insert(name.into(), entry.f32s(of)?);
        }
        if let Some(listed) = t.take("relative_coords_table") {
            spec.validate()?;
            let name = "relative_coords_table";
            let computed: Vec<f64> = log_cpb_offsets(height, width, pretrained).into_iter().flatten().collect();
            let listed = match listed.values_len() == computed.len() {
                true => listed.f64s(name)?,
                false => return Err(listed.wrong(name, "[(2 height - 1) (2 width - 1), 2]").into()),
            };
            work.tables.push(Table { name: name.into(), computed, listed, tolerance: Tolerance::DOUBLE });
        }
    } else {
        let table = t.need("bias_table")?;
        if table.shape != [index.rows() as usize, sizes.heads as usize] {
            return Err(table.wrong("bias_table", &format!("[{}, heads]", index.rows())).into());
        }
        spec.bias.push(Bias::Indexed { index });
        inputs.parameters.insert("bias_table".into(), table.f32s("bias_table")?);
    }
    place(spec, inputs, window, class)?;
    if let Some(listed) = t.take("relative_position_index") {
        let rows = (0..index.rows()).map(|row| row as f32).collect();
        let (mut spec, mut inputs) = alone(1, 1, sizes)?;
        spec.bias = vec![Bias::Indexed { index }];
        inputs.parameters.insert("bias_table".into(), rows);
        place(&mut spec, &mut inputs, window, class)?;
        probes.push(scores("index", "relative_position_index", spec, inputs, &listed, &[sizes.q_len, sizes.kv_len])?);
    }
    if let Some(listed) = t.take("expected_bias") {
        let (mut bare, mut its) = alone(1, sizes.heads, sizes)?;
        (bare.bias, its.parameters) = (spec.bias.clone(), inputs.parameters.clone());
        place(&mut bare, &mut its, window, class)?;
        let shape = [sizes.heads, sizes.q_len, sizes.kv_len];
        probes.push(scores("bias", "expected_bias", bare, its, &listed, &shape)?);
    }
    probes.extend(shift(p, t, spec, inputs, window, sizes)?);
    if t.has("logit_scale") {
        cosine(t, spec, inputs)?;
    }
    Ok(probes)
}

/// LeViT: a bias for each absolute offset of two patches, `[heads, rows * columns]`.
pub fn offsets(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    let Some([height, width]) = sides(p, "grid_size")? else {
        return Err(Error::input("grid_size", "is missing", "give rows and columns of patches").into());
    };
    let (tokens, table) = (height as u64 * width as u64, t.need("attention_biases")?);
    if table.shape != [sizes.heads as usize, tokens as usize]
        || [sizes.q_len, sizes.kv_len].map(u64::from) != [tokens; 2]
    {
        return Err(table.wrong("attention_biases", "[heads, rows * columns] of as many tokens").into());
    }
    let index = IndexMap::Grid { height, width, class: false };
    let values = table.f32s("attention_biases")?;
    let apart = |n: u32| (0..2 * n - 1).map(move |d| d.abs_diff(n - 1) as usize);
    let rows = apart(height).flat_map(|dy| apart(width).map(move |dx| dy * width as usize + dx));
    let heads = sizes.heads as usize;
    let expanded = rows.flat_map(|at| (0..heads).map(move |h| h * tokens as usize + at)).map(|at| values[at]).collect();
    spec.bias.push(Bias::Indexed { index });
    inputs.parameters.insert("bias_table".into(), expanded);
    place(spec, inputs, [height, width], false)
}

/// The mask of a shifted window: -100, or what is added several times, between tokens that were no neighbours.
fn shift(
    p: &Parameters,
    t: &mut Tensors,
    spec: &mut Spec,
    inputs: &mut Inputs,
    window: [u32; 2],
    sizes: Sizes,
) -> Build<Option<Probe>> {
    let shift = sides(p, "shift_size")?.unwrap_or([0, 0]);
    let times = p.u32("mask_added_times");
    if shift == [0, 0] && !t.has("attn_bias") {
        return Ok(None);
    }
    let Some(grid) = sides(p, "grid")? else {
        return Err(Error::input("grid", "is missing beside a shift", "give the tokens of the image").into());
    };
    let segments = swin_segments(grid, window, shift)?;
    let windows = (segments.len() as u64 / sizes.kv_len.max(1) as u64) as u32;
    if !sizes.batch.is_multiple_of(windows.max(1)) {
        let help = format!("give whole images of {windows} windows");
        return Err(Error::input("q", format!("{} windows", sizes.batch), help).into());
    }
    // Swin v2's implementation adds the mask twice
    let v2 = matches!(spec.bias.first(), Some(Bias::LogCpb { .. }));
    let times = times.unwrap_or(if v2 { 2 } else { 1 });
    let table = |heads: u32, times: u32| -> Vec<f32> {
        [0.0, -100.0 * times as f32].into_iter().flat_map(|x| vec![x; heads as usize]).collect()
    };
    if shift != [0, 0] && times > 0 {
        let name = if v2 { "bias_table" } else { "bias_table_1" };
        spec.bias.push(Bias::Indexed { index: IndexMap::Segment });
        inputs.parameters.insert(name.into(), table(sizes.heads, times));
        let all = segments.repeat((sizes.batch / windows.max(1)) as usize);
        (inputs.q_segments, inputs.k_segments) = (Some(all.clone()), Some(all));
    }
    let Some(listed) = t.take("attn_bias") else { return Ok(None) };
    let (mut bare, mut its) = alone(windows, 1, sizes)?;
    bare.bias = vec![Bias::Indexed { index: IndexMap::Segment }];
    its.parameters.insert("bias_table".into(), table(1, 1));
    (its.q_segments, its.k_segments) = (Some(segments.clone()), Some(segments));
    Ok(Some(scores("mask", "attn_bias", bare, its, &listed, &[windows, sizes.q_len, sizes.kv_len])?))
}

/// Swin v2's cosine attention: exp(min(logit_scale, ln 100)) <q / |q|, k / |k|>.
fn cosine(t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
    let logit_scale = t.need("logit_scale")?;
    if logit_scale.values_len() != spec.num_heads as usize {
        return Err(logit_scale.wrong("logit_scale", "[heads]").into());
    }
    spec.norm = Some(Norm::new(NormKind::L2, 1e-12));
    (spec.head_scale, spec.head_scale_exp, spec.softmax_scale) = (true, Some(100f64.ln()), Some(1.0));
    inputs.parameters.insert("head_scale".into(), logit_scale.f32s("logit_scale")?);
    Ok(())
}

/// KERPLE's kernels, whose numbers a case lists before their limits.
pub fn kerple(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
    let kind = match p.str("kernel") {
        Some("log") => KerpleKind::Log,
        Some("power") => KerpleKind::Power,
        other => return needs(format!("the kernel {}", other.unwrap_or("that `kernel` does not name"))),
    };
    spec.bias.push(Bias::Kerple { kind, eps: p.f64("eps").unwrap_or(0.01) });
    for (name, listed) in [("kerple_p", "bias_p"), ("kerple_a", "bias_a")] {
        inputs.parameters.insert(name.into(), t.need(listed)?.f32s(listed)?);
    }
    Ok(())
}

/// FIRE's network, whose tensors a case names as we do.
pub fn fire(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
    let eps = p.f64("eps").unwrap_or(1e-6);
    for name in ["fire_c", "fire_l", "fire_w1", "fire_b1", "fire_w2", "fire_b2"] {
        inputs.parameters.insert(name.into(), t.need(name)?.f32s(name)?);
    }
    let hidden = inputs.parameters["fire_w1"].len() as u32;
    spec.bias.push(Bias::Fire { hidden, eps });
    Ok(())
}

/// WavLM's gate: of the sums of the two halves of W h + b, (x, y) after a sigmoid: x (y c - 1) + 2.
pub fn gate(t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<Option<Probe>> {
    let Some(weight) = t.take("gate_weight") else { return Ok(None) };
    let (hidden, constant) = (t.need("hidden")?, t.need("gate_const")?);
    let [units, dim] = weight.shape[..] else { return Err(weight.wrong("gate_weight", "[units, head_dim]").into()) };
    let heads = sizes.heads as usize;
    if hidden.shape != [sizes.batch as usize, sizes.q_len as usize, heads * dim] || dim == 0 {
        return Err(hidden.wrong("hidden", "[batch, q_len, heads * head_dim]").into());
    }
    if constant.values_len() != heads || units == 0 || units % 2 == 1 {
        return Err(constant.wrong("gate_const", "[heads], with an even number of units in gate_weight").into());
    }
    let bias = match t.take("gate_bias") {
        Some(bias) if bias.values_len() == units => bias.f64s("gate_bias")?,
        Some(bias) => return Err(bias.wrong("gate_bias", &format!("[{units}]")).into()),
        None => vec![0.0; units],
    };
    let (weight, hidden) = (weight.f64s("gate_weight")?, hidden.f64s("hidden")?);
    let constant = constant.f64s("gate_const")?;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let unit = |h: &[f64], (w, b): (&[f64], &f64)| w.iter().zip(h).map(|(w, h)| w * h).sum::<f64>() + b;
    let one = |(h, c): (&[f64], &f64)| {
        let layer: Vec<f64> = weight.chunks_exact(dim).zip(&bias).map(|row| unit(h, row)).collect();
        let (x, y) = layer.split_at(units / 2);
        let (x, y) = (sigmoid(x.iter().sum()), sigmoid(y.iter().sum()));
        x * (y * c - 1.0) + 2.0
    };
    // [batch, q_len, heads] -> [batch, heads, q_len]
    let gates: Vec<f64> = hidden.chunks_exact(dim).zip(constant.iter().cycle()).map(one).collect();
    let plane = sizes.q_len as usize * heads;
    let by_head = |of: &[f64]| (0..heads).flat_map(|h| of.iter().skip(h).step_by(heads).copied()).collect::<Vec<_>>();
    spec.gated_bias = true;
    inputs.gates = Some(gates.chunks_exact(plane).flat_map(by_head).collect());
    let Some(listed) = t.take("expected_gated_bias") else { return Ok(None) };
    let (mut bare, mut its) = alone(sizes.batch, sizes.heads, sizes)?;
    (bare.bias, bare.gated_bias) = (spec.bias.clone(), true);
    (its.parameters, its.gates) = (inputs.parameters.clone(), inputs.gates.clone());
    Ok(Some(scores("gated", "expected_gated_bias", bare, its, &listed, &sizes.scores())?))
}

/// DeBERTa's bucket function over a range of distances. The package computes it in f32: where that and f64 differ, by the case's
/// own account, ours may be either.
pub fn log_buckets(p: &Parameters, t: &mut Tensors, distances: &[i32], work: &mut Work) -> Build<()> {
    let name = p.str("tensor").unwrap_or("buckets");
    let (Some(buckets), Some(max_position)) = (p.u32("position_buckets"), p.u32("max_position")) else {
        return Err(Error::input(name, "has no position_buckets and max_position", "add them to `tables`").into());
    };
    let mut spec = Spec::new(1, 1, 1);
    spec.bias = vec![Bias::Indexed { index: IndexMap::LogBucket { buckets, max_position } }];
    spec.validate()?;
    let computed: Vec<f64> = distances.iter().map(|d| log_bucket(*d as i64, buckets, max_position) as f64).collect();
    let mut list = |name: &str| -> Build<Option<Vec<f64>>> {
        let Some(listed) = t.take(name) else { return Ok(None) };
        match listed.values_len() == distances.len() {
            true => Ok(Some(listed.f64s(name)?)),
            false => Err(listed.wrong(name, &format!("[{}]", distances.len())).into()),
        }
    };
    let Some(mut shipped) = list(name)? else {
        return Err(Error::input(name, "is missing from the case", "add the tensor to the file").into());
    };
    let double_name = name.replacen("buckets", "buckets_float64", 1);
    if let Some(mut double) = list(&double_name)? {
        let differing: Vec<usize> = (0..distances.len()).filter(|i| shipped[*i] != double[*i]).collect();
        if p.set("differs_in_float64_at") {
            let listed = p.list("differs_in_float64_at");
            let listed: Vec<f64> = listed.iter().filter_map(Value::as_f64).collect();
            let by_index: Vec<f64> = differing.iter().map(|i| *i as f64).collect();
            let by_distance = differing.iter().filter_map(|i| distances.get(*i)).map(|d| *d as f64).collect();
            let computed = if by_index == listed { by_index } else { by_distance };
            let name = format!("{name}: differs_in_float64_at");
            work.tables.push(Table { name, computed, listed, tolerance: Tolerance::Zero });
        }
        for i in differing {
            let declared = p.list("differs_in_float64_at").iter().filter_map(Value::as_f64);
            let here = [i as f64, distances[i] as f64];
            if declared.into_iter().any(|at| here.contains(&at)) && [shipped[i], double[i]].contains(&computed[i]) {
                (shipped[i], double[i]) = (computed[i], computed[i]);
            }
        }
        let computed = computed.clone();
        work.tables.push(Table { name: double_name, computed, listed: double, tolerance: Tolerance::Zero });
    }
    work.tables.push(Table { name: name.into(), computed, listed: shipped, tolerance: Tolerance::Zero });
    Ok(())
}

/// Two sides that a parameter gives as a number or as a pair.
fn sides(p: &Parameters, name: &str) -> Build<Option<[u32; 2]>> {
    if !p.given(name) {
        return Ok(None);
    }
    let number = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match (p.u32(name), p.list(name)) {
        (Some(n), _) => Ok(Some([n, n])),
        (_, [rows, columns]) => match (number(rows), number(columns)) {
            (Some(rows), Some(columns)) => Ok(Some([rows, columns])),
            _ => needs(format!("{name} of other than whole numbers")),
        },
        _ => Err(Error::input(name, "cannot be read", "give a number or [rows, columns]").into()),
    }
}

/// Queries and keys at the tokens of a window.
fn place(spec: &mut Spec, inputs: &mut Inputs, [height, width]: [u32; 2], class: bool) -> Build<()> {
    let positions = grid_positions(height, width, class, inputs.q.shape()[0])?;
    spec.positions = Positions::Ids;
    (inputs.q_positions, inputs.k_positions) = (Some(positions.clone()), Some(positions));
    Ok(())
}

/// A call whose q, k and v are 0: its scores are its bias.
fn alone(batch: u32, heads: u32, sizes: Sizes) -> Build<(Spec, Inputs)> {
    let zeros = |len: u32| Tensor::bshd(vec![0f32; (batch * len * heads) as usize], [batch, len, heads, 1]);
    let inputs = Inputs::new(zeros(sizes.q_len)?, zeros(sizes.kv_len)?, zeros(sizes.kv_len)?);
    Ok((Spec::new(heads, heads, 1), inputs))
}

fn scores(label: &'static str, name: &str, spec: Spec, inputs: Inputs, listed: &Entry, shape: &[u32]) -> Build<Probe> {
    let expects = vec![Expect::as_is(name, Stage::Scores, listed, shape, Tolerance::DOUBLE)?];
    Ok(Probe { label, spec, inputs, expects, difference: None })
}
