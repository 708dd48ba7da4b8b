//! Norms, temperature and sinks of a model's case.

use super::model::Sizes;
use super::work::{Build, Expect, needs};
use crate::golden::{Parameters, Tensors};
use ropewalk::{Error, Inputs, Norm, NormKind, Problem, Sink, Spec, Temperature};

/// N: Llama 4's norm after the rotation, or learned weights before it (Qwen 3; Gemma 3 lists them less 1).
pub fn norm(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
    let after = p.f64("qk_l2norm_eps").map(|eps| {
        let mut norm = Norm::new(NormKind::Rms, eps);
        norm.after_rotation = true;
        norm
    });
    for (tensors, all_heads) in [(["q_norm_heads", "k_norm_heads"], false), (["q_norm_all", "k_norm_all"], true)] {
        if tensors.iter().any(|name| t.has(name)) {
            return match after {
                Some(_) => needs("a norm of heads before the rotation and one after it"),
                None => norm_of_heads(p, t, spec, inputs, tensors, all_heads),
            };
        }
    }
    let weights = ["q_norm", "k_norm"].map(|name| t.take(name).map(|w| (name, w)));
    spec.norm = match weights {
        [None, None] => after,
        [Some(q), Some(k)] if after.is_none() => {
            let Some(eps) = ["qk_norm_eps", "rms_norm_eps", "norm_eps", "eps"].iter().find_map(|name| p.f64(name))
            else {
                return needs("the eps of a norm of q and k");
            };
            let less_1 = p.str("model").is_some_and(|m| m == "gemma3" || m.starts_with("gemma3_"));
            for (name, w) in [q, k] {
                if w.shape != [spec.head_dim as usize] {
                    return Err(w.wrong(name, "[head_dim]").into());
                }
                let values = w.f32s(name)?.into_iter().map(|w| if less_1 { 1.0 + w } else { w });
                inputs.parameters.insert(name.into(), values.collect());
            }
            let mut norm = Norm::new(NormKind::Rms, eps);
            norm.weights = true;
            Some(norm)
        }
        [Some(_), Some(_)] => return needs("two norms of q and k"),
        _ => return Err(Error::input("q_norm", "without k_norm, or k_norm without it", "give both or neither").into()),
    };
    Ok(())
}

/// Weights of each head, or a norm over all heads: `[heads, head_dim]`, or as many in a row. Its kind is what the case names, or else what
/// the model has: Cohere a layer norm.
fn norm_of_heads(
    p: &Parameters,
    t: &mut Tensors,
    spec: &mut Spec,
    inputs: &mut Inputs,
    tensors: [&str; 2],
    all_heads: bool,
) -> Build<()> {
    let eps = ["qk_norm_eps", "rms_norm_eps", "norm_eps", "layer_norm_eps", "eps"].iter().find_map(|name| p.f64(name));
    let Some(eps) = eps else { return needs("the eps of a norm of q and k") };
    let said = p.str("qk_norm").unwrap_or_default().to_lowercase();
    let model = p.str("model").unwrap_or_default().to_lowercase();
    let layer = ["cohere", "stablelm", "chameleon"].iter().any(|name| model.starts_with(name));
    let kind = match () {
        _ if said.contains("layer") => NormKind::Layer,
        _ if said.contains("rms") || (said.is_empty() && !layer) => NormKind::Rms,
        _ if said.is_empty() => NormKind::Layer,
        _ => return needs(format!("the norm `{said}`")),
    };
    for (name, tensor, heads) in [("q_norm", tensors[0], spec.num_heads), ("k_norm", tensors[1], spec.num_kv_heads)] {
        let (weights, want) = (t.need(tensor)?, (heads * spec.head_dim) as usize);
        if weights.values_len() != want {
            return Err(weights.wrong(tensor, &format!("{want} weights")).into());
        }
        inputs.parameters.insert(name.into(), weights.f32s(tensor)?);
    }
    let mut norm = Norm::new(kind, eps);
    (norm.weights, norm.weights_of_heads, norm.all_heads) = (true, !all_heads, all_heads);
    spec.norm = Some(norm);
    Ok(())
}

/// tau: Ministral 3's, Mistral Large 4's, or Llama 4's on the layers that do not rotate.
pub fn temperature(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
    let whole = |name: &str| -> Build<u32> {
        match p.u32(name).filter(|n| (1..=1 << 30).contains(n)) {
            Some(n) => Ok(n),
            None => Err(Error::input(name, "is missing or no length", "give whole positions, 1 or more").into()),
        }
    };
    if let Some(beta) = p.f64("llama_4_scaling_beta") {
        spec.temperature = Some(Temperature::of_index(beta, whole("original_max_position_embeddings")?));
        return Ok(());
    }
    if p.given("training_length") {
        spec.temperature = Some(Temperature::log_n(whole("training_length")?));
        return Ok(());
    }
    if p.set("log_temperature_per_head") {
        for (tensor, name) in [("tau_bias", "temperature_base"), ("tau_scale", "temperature_scale")] {
            let values = t.need(tensor)?;
            if values.shape != [spec.num_heads as usize] {
                return Err(values.wrong(tensor, "[q_heads]").into());
            }
            inputs.parameters.insert(name.into(), values.f32s(tensor)?);
        }
        spec.temperature = Some(Temperature::of_heads());
        return Ok(());
    }
    if !p.given("attn_temperature_tuning") {
        return Ok(()); // without it the numbers may mean something else
    }
    // read on the layers that rotate too, which have the numbers without a temperature
    let (tuned, rotates) = (p.set("attn_temperature_tuning"), p.set("use_rope") || spec.rotary.is_some());
    let number = |name: &str| p.f64(name).ok_or_else(|| Error::input(name, "is missing from `parameters`", "give it"));
    let numbers = (number("attn_scale"), number("floor_scale"));
    if !tuned || rotates {
        return Ok(());
    }
    let (scale, floor) = (numbers.0?, numbers.1?);
    if floor.fract() != 0.0 || !(1.0..=1e9).contains(&floor) {
        return Err(Error::input("floor_scale", format!("is {floor}"), "give whole positions, 1 or more").into());
    }
    spec.temperature = Some(Temperature::new(scale, floor as u32));
    Ok(())
}

/// Rows of q and k that a model multiplies before they meet: by numbers, and q by the softplus of one for each element (Gemma's audio
/// towers).
pub fn scaled_rows(p: &Parameters, t: &mut Tensors) -> Build<()> {
    let scales = [p.f64("q_scale"), p.f64("k_scale")];
    if scales == [None, None] && !t.has("per_dim_scale") {
        return Ok(());
    }
    let of_element = t.take("per_dim_scale").map(|s| s.f64s("per_dim_scale")).transpose()?;
    for (name, scale) in ["q", "k"].into_iter().zip(scales) {
        let mut entry = t.need(name)?;
        let dim = entry.shape.last().copied().unwrap_or(0);
        if let Some(n) = of_element.as_ref().map(Vec::len).filter(|n| *n != dim) {
            let problem = format!("holds {n} values for rows of {dim}");
            return Err(Error::input("per_dim_scale", problem, "give one for each element").into());
        }
        let factor = |at: usize| {
            let own =
                of_element.as_ref().filter(|_| name == "q").map_or(1.0, |s| super::work::softplus(s[at % dim.max(1)]));
            own * scale.unwrap_or(1.0)
        };
        let rows = entry.f64s(name)?.into_iter().enumerate().map(|(at, x)| x * factor(at));
        entry.values = crate::golden::Values::Double(rows.collect());
        t.0.insert(name.into(), entry);
    }
    Ok(())
}

/// Sums of the tokens' logarithms of gates, `log_gate [batch, kv_len, q_heads]` (forgetting attention).
pub fn forgetting(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    if !p.set("forget_gate") {
        return Ok(());
    }
    let (gates, want) = (t.need("log_gate")?, [sizes.batch, sizes.kv_len, sizes.heads].map(|n| n as usize));
    if gates.shape != want {
        return Err(gates.wrong("log_gate", "[batch, kv_len, q_heads]").into());
    }
    let ([batch, len, heads], values) = (want, gates.f64s("log_gate")?);
    let sums = |(b, h): (usize, usize)| {
        let at = move |j: usize| (b * len + j) * heads + h;
        (0..len)
            .scan(0.0, |sum, j| {
                *sum += values[at(j)];
                Some(*sum)
            })
            .collect::<Vec<f64>>()
    };
    inputs.key_bias = Some((0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))).flat_map(sums).collect());
    spec.key_bias = true;
    Ok(())
}

/// The learned sinks, or those of each query, if the case has them.
pub fn sinks(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    if p.set("query_sinks") {
        let sinks = t.need("query_sinks")?;
        if sinks.shape != [sizes.batch, sizes.heads, sizes.q_len].map(|n| n as usize) {
            return Err(sinks.wrong("query_sinks", "[batch, q_heads, q_len]").into());
        }
        inputs.query_sinks = Some(sinks.f32s("query_sinks")?);
        spec.sink = Some(Sink::Query);
        return Ok(());
    }
    let wanted = ["sinks", "head_sink"].iter().any(|name| p.set(name));
    let refused = ["sinks", "head_sink"].iter().any(|name| p.bool(name) == Some(false));
    if !wanted && !t.has("sinks") {
        return Ok(());
    }
    if !wanted && refused {
        return Err(
            Error::input("sinks", "are listed, but `parameters` say that there are none", "let the two agree").into()
        );
    }
    let sinks = t.need("sinks")?;
    if sinks.shape != [spec.num_heads as usize] {
        return Err(sinks.wrong("sinks", "[q_heads]").into());
    }
    inputs.parameters.insert("sinks".into(), sinks.f32s("sinks")?);
    spec.sink = Some(Sink::Learned);
    Ok(())
}

/// Queries that are listed with their temperature, without it: `rotate` gives R(m) N q.
pub fn without_temperature(mut expect: Expect, spec: &Spec, inputs: &Inputs, sizes: Sizes) -> Build<Expect> {
    let Some(temperature) = spec.temperature else { return Ok(expect) };
    let problem = Problem::new(spec, inputs)?;
    let width = (sizes.heads * spec.head_dim) as usize;
    for (token, row) in expect.listed.chunks_mut(width.max(1)).enumerate() {
        let (b, i) = (token as u32 / sizes.q_len, token as u32 % sizes.q_len);
        let tau = temperature.tau(problem.q_position(b, i));
        row.iter_mut().flatten().for_each(|x| *x /= tau);
    }
    Ok(expect)
}
