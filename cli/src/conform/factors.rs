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

/// The learned sinks, if the case has them.
pub fn sinks(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
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
