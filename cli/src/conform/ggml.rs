//! Cases of ggml, the library of llama.cpp: its ropes by their parameters, caches as it lays them out, masks times slopes, and its own numbers.

use super::work::{Build, Expect, Peer, Probe, Table, Tolerance, needs, values_of};
use crate::golden::{Parameters, Tensors, Values};
use ropewalk::{Blocks, Data, Dense, Dtype, Error, GgmlRope, GgmlRopeMode, Inputs, Rotary, Spec, Tensor};

/// What a peer computed for a case stands behind its name.
const PEER: &str = "ggml_";

/// A peer's own numbers, and how far they are from what is expected. What it was given, a mask in its own form, says nothing new.
pub fn peers(t: &mut Tensors) -> Build<Vec<Peer>> {
    t.take("ggml_mask");
    let names: Vec<String> = t.0.keys().filter(|name| name.starts_with(PEER)).cloned().collect();
    let mut peers = Vec::new();
    for name in names {
        let stage = name.strip_prefix(PEER).unwrap_or(&name);
        // nobody's numbers: it is told as not read
        let Some(expected) = t.0.get(&format!("expected_{stage}")).cloned() else { continue };
        let own = t.need(&name)?;
        if expected.shape != own.shape {
            return Err(own.wrong(&name, &format!("shape {:?}", expected.shape)).into());
        }
        let pairs = own.f64s(&name)?.into_iter().zip(expected.f64s("expected")?);
        let off = |(a, b): (f64, f64)| match a == b || (a.is_nan() && b.is_nan()) {
            true => 0.0,
            false if a.is_nan() || b.is_nan() => f64::INFINITY,
            false => (a - b).abs(),
        };
        let error = pairs.map(off).fold(0.0, f64::max);
        peers.push(Peer { name: format!("ggml {stage}"), error });
    }
    Ok(peers)
}

/// The tensor in its cache's storage, where the case lists one: its values are compared with those listed beside it.
pub fn cached(p: &Parameters, t: &mut Tensors, name: &str, listed: Tensor, tables: &mut Vec<Table>) -> Build<Tensor> {
    let (kind, cache) = (p.str(&format!("{name}_type")), format!("{name}_cache"));
    let Some(entry) = t.take(&cache) else { return Ok(listed) };
    let dtype = match (kind, kind.and_then(Dtype::named)) {
        (_, Some(dtype)) => dtype,
        (Some(kind), None) => return needs(format!("storage in {kind}")),
        (None, None) => return Err(Error::input(cache, format!("stands without {name}_type"), "name its type").into()),
    };
    let [batch, len, heads, dim] = listed.shape();
    let shape = [batch, heads, len, dim];
    let wanted = match dtype.in_blocks() {
        true => [batch, heads, len, dtype.row_bytes(dim) as u32],
        false => shape,
    };
    if entry.shape4(&cache)? != wanted {
        return Err(entry.wrong(&cache, &format!("{wanted:?} for rows of {dim} in {}", dtype.name())).into());
    }
    let data = match &entry.values {
        Values::Float(data) if data.dtype() == dtype => data.clone(),
        Values::Int(bytes) if dtype.in_blocks() => {
            let bytes: Option<Vec<u8>> = bytes.iter().map(|b| u8::try_from(*b).ok()).collect();
            let bytes = bytes.ok_or_else(|| entry.wrong(&cache, "bytes"))?;
            Data::from(Blocks::new(dtype, dim, bytes)?)
        }
        _ => return Err(entry.wrong(&cache, dtype.name()).into()),
    };
    let tensor = Tensor::bhsd(data, shape)?;
    // f32 holds the exact values, rounded where they are a sum
    let values = |t: &Tensor| (0..t.data().len()).map(|i| t.data().get(i) as f64).collect::<Vec<_>>();
    let (computed, listed) = (values(&tensor), values(&listed));
    tables.push(Table { name: cache, computed, listed, tolerance: Tolerance::Zero });
    Ok(tensor)
}

/// `mask_values` times the slope of a head: D.
pub fn sloped_mask(
    p: &Parameters,
    t: &mut Tensors,
    spec: &mut Spec,
    inputs: &mut Inputs,
    tables: &mut Vec<Table>,
) -> Build<()> {
    let Some(mask) = t.take("mask_values") else { return Ok(()) };
    let Some(max_bias) = p.f64("alibi_bias_max") else {
        let help = "give it, or call the tensor attn_bias";
        return Err(Error::input("mask_values", "stands without alibi_bias_max", help).into());
    };
    let slopes = self::slopes(spec.num_heads, max_bias);
    if let Some(listed) = t.take("slopes") {
        let (computed, listed) = (slopes.clone(), values_of("slopes", &listed, &[spec.num_heads])?);
        tables.push(Table { name: "slopes".into(), computed, listed, tolerance: Tolerance::DOUBLE });
    }
    let [batch, heads, rows, keys] = mask.shape4("mask_values")?;
    if heads != 1 && heads != spec.num_heads {
        return Err(mask.wrong("mask_values", "one head or all of them").into());
    }
    let values = mask.f64s("mask_values")?;
    let plane = rows as usize * keys as usize;
    let mut all = Vec::new();
    for b in 0..batch as usize {
        for (h, slope) in slopes.iter().enumerate() {
            let first = (b * heads as usize + if heads == 1 { 0 } else { h }) * plane;
            all.extend(values[first..first + plane].iter().map(|x| (slope * x) as f32));
        }
    }
    inputs.attn_bias = Some(Dense::new([batch, spec.num_heads, rows, keys], all)?);
    spec.dense_bias = true;
    Ok(())
}

/// ALiBi's slopes with another exponent than 8.
pub fn slopes(heads: u32, max_bias: f64) -> Vec<f64> {
    ropewalk::alibi_slopes(heads).into_iter().map(|s| s.powf(max_bias / 8.0)).collect()
}

/// The rotation of a call of ggml's, compared with the streams that the case lists. Streams that are the same become one, and one that stands
/// at 0 turns nothing.
pub fn rotary(p: &Parameters, t: &mut Tensors, tables: &mut Vec<Table>) -> Build<Option<Rotary>> {
    let Some(call) = p.object("ggml_rope") else { return Ok(None) };
    let number = |name: &str| {
        call.f64(name)
            .ok_or_else(|| Error::input(format!("ggml_rope.{name}"), "is missing", "give all of ggml's parameters"))
    };
    let mode = match call.str("mode") {
        Some("normal") => GgmlRopeMode::Normal,
        Some("neox") => GgmlRopeMode::Neox,
        Some("mrope") => GgmlRopeMode::Mrope,
        Some("imrope") => GgmlRopeMode::Imrope,
        Some("vision") => GgmlRopeMode::Vision,
        other => return needs(format!("the rope mode {}", other.unwrap_or("that `ggml_rope.mode` does not name"))),
    };
    let whole = |name: &str| -> ropewalk::Result<u32> {
        call.u32(name).ok_or_else(|| Error::input(format!("ggml_rope.{name}"), "is missing", "give a whole number"))
    };
    let mut rope = GgmlRope::new(mode, whole("n_dims")?, number("freq_base")?);
    let sections: Option<Vec<u32>> = call.list("sections").iter().map(|n| u32::try_from(n.as_u64()?).ok()).collect();
    match sections.and_then(|list| <[u32; 4]>::try_from(list).ok()) {
        Some(sections) => rope.sections = sections,
        None => return Err(Error::input("ggml_rope.sections", "cannot be read", "give 4 whole numbers").into()),
    }
    rope.n_ctx_orig = whole("n_ctx_orig")?;
    rope.freq_scale = number("freq_scale")?;
    rope.ext_factor = number("ext_factor")?;
    rope.attn_factor = number("attn_factor")?;
    rope.beta_fast = number("beta_fast")?;
    rope.beta_slow = number("beta_slow")?;
    let factors = t.take("freq_factors").map(|e| e.f32s("freq_factors")).transpose()?;
    let mut rotary = rope.rotary(factors.as_deref())?;
    rotary.keys_rotated = p.set("keys_rotated");

    if p.given("pair_streams") {
        let listed: Option<Vec<f64>> = p.list("pair_streams").iter().map(serde_json::Value::as_f64).collect();
        let Some(listed) = listed else {
            return Err(Error::input("pair_streams", "cannot be read", "give a stream for each pair").into());
        };
        let computed = rotary.streams.iter().map(|s| *s as f64).collect();
        tables.push(Table { name: "pair_streams".into(), computed, listed, tolerance: Tolerance::Zero });
    }
    if let Some(listed) = t.take("inv_freq") {
        let computed = rotary.inv_freq();
        let tolerance = Tolerance::Relative(if listed.is_double() { 1e-12 } else { 2f64.powi(-23) });
        let listed = values_of("inv_freq", &listed, &[computed.len() as u32])?;
        tables.push(Table { name: "inv_freq".into(), computed, listed, tolerance });
    }
    if let Some(listed) = p.f64("attention_factor") {
        let (computed, tolerance) = (vec![rotary.attention_factor], Tolerance::Relative(1e-12));
        tables.push(Table { name: "attention_factor".into(), computed, listed: vec![listed], tolerance });
    }
    // the same in other words
    let same = |name: &str, computed: f64| match p.f64(name) {
        Some(listed) if listed != computed => {
            Err(Error::input(name, format!("is {listed}, but ggml_rope says {computed}"), "let the two agree"))
        }
        _ => Ok(()),
    };
    same("theta", rope.freq_base)?;
    same("rotary_dim", rotary.rotary_dim as f64)?;
    let words = match rotary.pairing {
        ropewalk::Pairing::Interleaved => "interleaved",
        _ => "half",
    };
    if let Some(other) = p.str("pairing").filter(|pairing| *pairing != words) {
        let problem = format!("is {other}, but ggml_rope.mode says {words}");
        return Err(Error::input("pairing", problem, "let the two agree").into());
    }
    let parts = p.list("mrope_section");
    let same_parts = |(part, of): (&serde_json::Value, u32)| part.as_u64() == Some(of as u64);
    let agree = parts.len() <= 4 && parts.iter().zip(rope.sections).all(same_parts);
    if !parts.is_empty() && !agree {
        let problem = format!("is {parts:?}, but ggml_rope says {:?}", rope.sections);
        return Err(Error::input("mrope_section", problem, "let the two agree").into());
    }
    if p.given("pair_streams") {
        let _ = p.str("mrope_layout"); // the same in words
    }
    if let Some(dictionary) = p.dictionary("rope_parameters") {
        let json = serde_json::Value::Object(dictionary.clone()).to_string();
        let said = match ropewalk::RopeParameters::from_json(&json, p.u32("max_position_embeddings"), None) {
            Err(e @ Error::Config { .. }) => return needs(format!("a length extension: {e}")),
            other => other?,
        };
        let theta = said.theta.unwrap_or(rope.freq_base);
        let (listed, factor) = said.scaling.inv_freq(theta, rotary.rotary_dim)?;
        let (computed, tolerance) = (vec![rotary.attention_factor], Tolerance::Relative(1e-12));
        tables.push(Table {
            name: "attention_factor of rope_parameters".into(),
            computed,
            listed: vec![factor],
            tolerance,
        });
        let (name, computed) = ("rope_parameters".into(), rotary.inv_freq());
        tables.push(Table { name, computed, listed, tolerance: Tolerance::Relative(1e-12) });
    }
    one_of_each(t, &mut rotary)?;
    Ok(Some(rotary))
}

/// Streams of other positions each.
fn one_of_each(t: &mut Tensors, rotary: &mut Rotary) -> Build<()> {
    let lists = |name: &str| t.0.get(name).filter(|e| e.shape.len() == 3).map(|e| (e.shape.clone(), e.i32s(name)));
    let (Some((q_shape, q)), Some((k_shape, k))) = (lists("q_positions"), lists("k_positions")) else { return Ok(()) };
    let (q, k) = (q?, k?);
    let row = |all: &[i32], shape: &[usize], stream: u8| -> Option<Vec<i32>> {
        let n = shape[1] * shape[2];
        all.get(stream as usize * n..(stream as usize + 1) * n).map(<[i32]>::to_vec)
    };
    let mut kept: Vec<(Vec<i32>, Vec<i32>)> = Vec::new();
    let (mut streams, mut inv_freq) = (Vec::new(), rotary.inv_freq());
    for (pair, stream) in rotary.streams.iter().enumerate() {
        let (Some(q), Some(k)) = (row(&q, &q_shape, *stream), row(&k, &k_shape, *stream)) else {
            let problem = format!("has no stream {stream}, by which pair {pair} turns");
            return Err(Error::input("q_positions", problem, "give [streams, batch, len] of queries and keys").into());
        };
        if q.iter().chain(&k).all(|position| *position == 0) {
            inv_freq[pair] = 0.0;
            streams.push(0);
            continue;
        }
        let known = kept.iter().position(|both| (&both.0, &both.1) == (&q, &k));
        streams.push(known.unwrap_or(kept.len()) as u8);
        if known.is_none() {
            kept.push((q, k));
        }
    }
    if kept.is_empty() {
        return Ok(());
    }
    rotary.streams = streams;
    rotary.frequencies = ropewalk::Frequencies::InvFreq(inv_freq);
    let mut put = |name: &str, shape: &[usize], rows: Vec<i64>| {
        if let Some(entry) = t.0.get_mut(name) {
            (entry.shape, entry.values) = (vec![kept.len(), shape[1], shape[2]], Values::Int(rows));
        }
    };
    let (of_q, of_k): (Vec<Vec<i32>>, Vec<Vec<i32>>) = kept.iter().cloned().unzip();
    let rows = |all: Vec<Vec<i32>>| all.into_iter().flatten().map(i64::from).collect();
    put("q_positions", &q_shape, rows(of_q));
    put("k_positions", &k_shape, rows(of_k));
    Ok(())
}

/// Rotated queries beside keys that no kernel rotates: a call whose keys are in the queries' type.
pub fn queries(spec: &Spec, inputs: &Inputs, expects: Vec<Expect>) -> Build<Option<Probe>> {
    if expects.is_empty() {
        return Ok(None);
    }
    let (mut spec, mut inputs) = (spec.clone(), inputs.clone());
    (spec.k_dtype, spec.v_dtype) = (None, None);
    let plain = |t: &Tensor| {
        let data = Data::from_f32(Dtype::F32, &t.data().to_f32());
        Tensor::strided(data, t.shape(), t.strides(), t.offset())
    };
    spec.dtype = Dtype::F32;
    (inputs.q, inputs.k, inputs.v) = (plain(&inputs.q)?, plain(&inputs.k)?, plain(&inputs.v)?);
    Ok(Some(Probe { label: "queries", spec, inputs, expects, difference: None }))
}
