//! Models that are not one rotary decoder of the usual kind: MLA, absolute and relative positions, ALiBi, windows of
//! images.

use crate::equation::bias::{AlibiForm, Bias};
use crate::equation::factors::{Norm, NormKind};
use crate::equation::index::IndexMap;
use crate::equation::mask::Mask;
use crate::equation::relative::{Relative, RelativeSide};
use crate::equation::rotary::rotary::{Frequencies, Pairing, Rotary};
use crate::equation::spec::{Positions, Spec};
use crate::error::Result;
use crate::hf::dict::{Dict, shown};
use crate::hf::family::LLAMA;
use crate::hf::layers::Layer;
use crate::hf::read::{ConfigOptions, Stack, agree, quotient};
use crate::hf::rope::Rope;

/// RoFormer: interleaved, whole heads, theta 10 000, values too where the file says so.
pub(crate) fn roformer(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = encoder(c, o)?;
    let mut rotary = Rotary::new(Pairing::Interleaved, spec.head_dim, 10_000.0);
    rotary.values = c.flag("rotary_value")?.unwrap_or(false);
    spec.rotary = Some(rotary).filter(|_| o.stack != Some(Stack::Cross));
    Ok(spec)
}

/// T5, mT5, UMT5: no rotation, scale 1, a bucketed bias in self-attention.
pub(crate) fn t5(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let stack = o.stack.unwrap_or(Stack::Encoder);
    t5_attention(c, stack)
}

fn t5_attention(c: &Dict, stack: Stack) -> Result<Spec> {
    let heads = c.need("num_heads", c.count("num_heads"))?;
    let mut spec = Spec::new(heads, heads, c.need("d_kv", c.count("d_kv"))?);
    spec.softmax_scale = Some(1.0);
    spec.mask.causal = stack == Stack::Decoder;
    let num_buckets = c.count("relative_attention_num_buckets")?.unwrap_or(32);
    let max_distance = c.count("relative_attention_max_distance")?.unwrap_or(128);
    if stack != Stack::Cross {
        spec.bias.push(Bias::T5 { num_buckets, max_distance, bidirectional: stack == Stack::Encoder });
    }
    Ok(spec)
}

/// MPNet: T5's buckets (128 tokens, one table for all layers) with the usual scale.
pub(crate) fn mpnet(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = encoder(c, o)?;
    let num_buckets = c.count("relative_attention_num_buckets")?.unwrap_or(32);
    spec.bias.push(Bias::T5 { num_buckets, max_distance: 128, bidirectional: true });
    Ok(spec)
}

/// BLOOM: ALiBi by the key's position.
pub(crate) fn bloom(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let key = either(c, "num_attention_heads", "n_head");
    let heads = c.need(key, c.count(key))?;
    let mut spec = Spec::new(heads, heads, quotient(c, either(c, "hidden_size", "n_embed"), heads)?);
    spec.bias.push(Bias::Alibi { form: AlibiForm::KeyPosition, slopes: None, scale: 1.0 });
    spec.mask = Mask::causal();
    Ok(spec)
}

/// MPT: ALiBi from the last key on.
pub(crate) fn mpt(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("n_heads", c.count("n_heads"))?;
    let mut spec = Spec::new(heads, heads, quotient(c, "d_model", heads)?);
    static EMPTY: std::sync::LazyLock<serde_json::Value> = std::sync::LazyLock::new(|| serde_json::json!({}));
    let attention = c.get("attn_config").unwrap_or(&EMPTY);
    let Some(map) = attention.as_object() else {
        return Err(c.error("attn_config", format!("is {}", shown(attention)), "give a dictionary"));
    };
    let a = Dict::new(c.field("attn_config"), map);
    if let Some(kind) = a.text("attn_type")?.filter(|kind| *kind != "multihead_attention") {
        return Err(a.error("attn_type", format!("is {kind:?}"), "supported is multihead_attention"));
    }
    for key in ["prefix_lm", "attn_uses_sequence_id", "qk_ln", "qk_gn", "rope"] {
        if a.flag(key)?.unwrap_or(false) && !(key.starts_with("qk") && o.normalized) {
            return Err(a.error(key, "is true", "such an attention is not supported"));
        }
    }
    if let Some(window) = a.number("sliding_window_size")?.filter(|w| *w != -1.0) {
        return Err(a.error("sliding_window_size", format!("is {window}"), "supported is -1"));
    }
    if !a.flag("alibi")?.unwrap_or(true) {
        return Err(a.error("alibi", "is false", "supported are models with ALiBi"));
    }
    let most = a.number("alibi_bias_max")?.unwrap_or(8.0);
    if !(most.is_finite() && (0.0..=64.0).contains(&most)) {
        return Err(a.error("alibi_bias_max", format!("is {most}"), "give a number from 0 to 64"));
    }
    // 2^(-most i / n) for the power of two n from heads on; of more slopes than heads, every second one comes first.
    let n = heads.min(1 << 16).next_power_of_two();
    let slope = |i: u32| (-most * i as f64 / n as f64).exp2() as f32;
    let order = (1..=n / 2).map(|i| 2 * i).chain((0..n / 2).map(|i| 2 * i + 1));
    let slopes: Vec<f32> = match n == heads {
        true => (1..=n).map(slope).collect(),
        false => order.map(slope).take(heads as usize).collect(),
    };
    spec.bias.push(Bias::Alibi { form: AlibiForm::KeyFromEnd, slopes: (most != 8.0).then_some(slopes), scale: 1.0 });
    spec.softmax_scale = a.number("softmax_scale")?;
    spec.mask = Mask::causal();
    Ok(spec)
}

/// Falcon: half pairs over whole heads, or ALiBi that is scaled as the scores are.
pub(crate) fn falcon(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let key = either(c, "num_attention_heads", "n_head");
    let heads = c.need(key, c.count(key))?;
    let new = c.flag("new_decoder_architecture")?.unwrap_or(false);
    let listed = c.count(either(c, "num_kv_heads", "n_head_kv"))?;
    let kv_heads = match new {
        true => listed.unwrap_or(heads),
        false if c.need("multi_query", c.flag("multi_query"))? => 1,
        false => heads,
    };
    let _ = c.flag("multi_query")?;
    let head_dim = quotient(c, either(c, "hidden_size", "n_embed"), heads)?;
    let mut spec = Spec::new(heads, kv_heads, head_dim);
    spec.mask = Mask::causal();
    let rope = Rope { family: &LLAMA, kind: Layer::Full, seq_len: o.seq_len };
    let rotary = rope.read(c, head_dim)?;
    if c.need("alibi", c.flag("alibi"))? {
        if rotary.is_some_and(|rotary| matches!(rotary.frequencies, Frequencies::InvFreq(_))) {
            return Err(c.error("alibi", "is true beside a rotation's length extension", "remove one of them"));
        }
        let scale = 1.0 / (head_dim as f64).sqrt();
        spec.bias.push(Bias::Alibi { form: AlibiForm::KeyPosition, slopes: None, scale });
    } else {
        spec.rotary = rotary;
    }
    Ok(spec)
}

/// BERT and RoBERTa: positions are added to the embeddings, unless `position_embedding_type` is one of Shaw's kind.
/// Both tables of `relative_key_query` are the model's one `distance_embedding`.
pub(crate) fn bert(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = encoder(c, o)?;
    let kind = c.text("position_embedding_type")?.unwrap_or("absolute");
    let sides: &[RelativeSide] = match kind {
        "absolute" => &[],
        "relative_key" => &[RelativeSide::Key],
        "relative_key_query" => &[RelativeSide::Key, RelativeSide::Query],
        other => {
            let help = "supported are absolute, relative_key and relative_key_query";
            return Err(c.error("position_embedding_type", format!("is {}", shown(&other.into())), help));
        }
    };
    if !sides.is_empty() && o.stack != Some(Stack::Cross) {
        let most = c.need("max_position_embeddings", c.count("max_position_embeddings"))?;
        let index = reversed(c, "max_position_embeddings", most, 1)?;
        spec.relative = sides.iter().map(|side| Relative::new(*side, index)).collect();
    }
    Ok(spec)
}

/// DeBERTa v1 and v2/v3: content to position (A) and position to content (B); both read the row of m - n. The tables
/// are the caller's projections of `rel_embeddings`, by the content's weights where `share_att_key`.
pub(crate) fn deberta(c: &Dict, o: &ConfigOptions, buckets: bool) -> Result<Spec> {
    let mut spec = encoder(c, o)?;
    if buckets && let Some(d) = c.count("attention_head_size")? {
        (spec.head_dim, spec.v_head_dim) = (d, d);
    }
    if c.flag("talking_head")?.unwrap_or(false) {
        return Err(c.error("talking_head", "is true", "such an attention is not supported"));
    }
    let kinds: Vec<&str> = match c.get("pos_att_type") {
        Some(value) if value.is_string() => c.text("pos_att_type")?.unwrap_or_default().split('|').collect(),
        _ => c.texts("pos_att_type")?.unwrap_or_default(),
    };
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.trim()).filter(|kind| !kind.is_empty()).collect();
    if let Some((at, kind)) = kinds
        .iter()
        .enumerate()
        .find(|(at, kind)| !["c2p", "p2c"].contains(kind) || kinds.iter().take(*at).any(|other| other == *kind))
    {
        let problem = format!("has {} at {at}", shown(&(*kind).into()));
        return Err(c.error("pos_att_type", problem, "supported are c2p and p2c, each once"));
    }
    spec.softmax_scale = Some(1.0 / (spec.head_dim as f64 * (1 + kinds.len()) as f64).sqrt());
    let most = c.number("max_relative_positions")?;
    let longest = c.count("max_position_embeddings")?;
    let count = c.number("position_buckets")?.filter(|n| *n > 0.0);
    let _ = c.flag("share_att_key")?;
    if !c.flag("relative_attention")?.unwrap_or(false) {
        return Ok(spec);
    }
    let most = match most {
        Some(n) if n >= 1.0 => n,
        _ => c.need("max_position_embeddings", Ok(longest))? as f64,
    };
    if most > (1 << 20) as f64 || most.fract() != 0.0 {
        return Err(c.error("max_relative_positions", format!("is {most}"), "give whole positions, at most 2^20"));
    }
    let index = match count.filter(|_| buckets) {
        Some(n) if n.fract() == 0.0 && n <= (1 << 16) as f64 => {
            IndexMap::LogBucket { buckets: n as u32, max_position: most as u32 }
        }
        Some(n) => return Err(c.error("position_buckets", format!("is {n}"), "give a whole number, at most 65536")),
        // Rows -most..most - 1: the shorter span of a shorter sequence reads the same rows.
        None => IndexMap::reversed(-(most as i32), most as i32 - 1),
    };
    // In the order of the two terms, whatever the file's: relative_0 is c2p.
    for (kind, side) in [("c2p", RelativeSide::Key), ("p2c", RelativeSide::Query)] {
        if kinds.contains(&kind) {
            let mut relative = Relative::new(side, index);
            relative.per_head = true;
            spec.relative.push(relative);
        }
    }
    Ok(spec)
}

/// XLNet: u (`r_w_bias`) with the content, v (`r_r_bias`) with the distance, `r_s_bias` with the segment. Row of a
/// distance i' - j: n - (i' - j), where n is the option `seq_len`; with `clamp_len`, rows for -clamp_len to clamp_len.
pub(crate) fn xlnet(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("n_head", c.count("n_head"))?;
    let head_dim = quotient(c, "d_model", heads)?;
    let head_dim = agree(c, "d_head", Some(head_dim), c.count("d_head")?)?.unwrap_or(head_dim);
    let mut spec = Spec::new(heads, heads, head_dim);
    let causal = match c.need("attn_type", c.text("attn_type"))? {
        "bi" => false,
        "uni" => true,
        other => {
            let problem = format!("is {}", shown(&other.into()));
            return Err(c.error("attn_type", problem, "supported are bi and uni"));
        }
    };
    let stack = if causal { Stack::Decoder } else { Stack::Encoder };
    if o.stack.is_some_and(|wanted| wanted != stack) {
        return Err(c.error("attn_type", "is another stack", "ask for the stack that the model has"));
    }
    if c.flag("bi_data")?.unwrap_or(false) {
        return Err(c.error("bi_data", "is true", "a batch of both directions is not supported"));
    }
    if c.flag("same_length")?.unwrap_or(false) && causal {
        return Err(c.error("same_length", "is true", "its window depends on the memory of the call: set it to false"));
    }
    spec.mask.causal = causal;
    let index = match c.number("clamp_len")?.filter(|n| *n > 0.0) {
        Some(n) => clamped(c, n, true)?,
        None => {
            let n = longest(c, o, "clamp_len")?;
            IndexMap::distance(-n, n - 1)
        }
    };
    spec.content_bias = true;
    spec.relative.push(biased(index));
    if o.segments {
        spec.relative.push(biased(IndexMap::Segment));
    }
    Ok(spec)
}

/// Transformer-XL: as XLNet's, causal; row r is the distance that many rows from the end. `same_length`: every query
/// sees `mem_len` keys.
pub(crate) fn transfo_xl(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("n_head", c.count("n_head"))?;
    let mut spec = Spec::new(heads, heads, c.need("d_head", c.count("d_head"))?);
    if let Some(kind) = c.number("attn_type")?.filter(|kind| *kind != 0.0) {
        return Err(c.error("attn_type", format!("is {kind}"), "supported is 0"));
    }
    spec.mask = Mask::causal();
    let memory = c.count("mem_len")?;
    if c.need("same_length", c.flag("same_length"))? {
        match c.need("mem_len", Ok(memory))? {
            0 => return Err(c.error("mem_len", "is 0, and same_length is true", "no query would see a key")),
            n => spec.mask.window_left = Some(n - 1),
        }
    }
    let index = match c.need("clamp_len", c.number("clamp_len"))? {
        n if n > 0.0 => clamped(c, n, false)?,
        _ => IndexMap::distance(1 - longest(c, o, "clamp_len")?, 0),
    };
    spec.content_bias = true;
    spec.relative.push(biased(index));
    Ok(spec)
}

/// Swin: windows of `window_size`, two-dimensional bias. Blocks with an odd number within their stage are shifted,
/// which adds a dense mask that depends on the window. Version 2: cosine attention with a learned scale for each head
/// (the parameter `head_scale` is exp(min(logit_scale, ln 100))) and a bias by its `continuous_position_bias_mlp`, whose
/// hidden layer has 512 units in every published model. `merged`: a stage has half the patches of the one before, each
/// twice as wide.
pub(crate) fn swin(c: &Dict, o: &ConfigOptions, cosine: bool, merged: bool) -> Result<Spec> {
    if o.stack.is_some_and(|stack| stack != Stack::Encoder) {
        return Err(c.error("model_type", "is an encoder", "ask for no stack, or the encoder"));
    }
    let depths = c.need("depths", c.counts("depths"))?;
    let heads = c.need("num_heads", c.counts("num_heads"))?;
    if depths.len() != heads.len() || depths.is_empty() || depths.len() > 16 {
        return Err(c.error("num_heads", format!("has {} stages", heads.len()), "give one entry for each of depths"));
    }
    let Some(layer) = o.layer else {
        return Err(c.error("depths", "means layers that differ", "say which layer"));
    };
    let mut block = layer;
    let stage = depths.iter().position(|depth| {
        let inside = block < *depth;
        block -= if inside { 0 } else { *depth };
        inside
    });
    let Some(stage) = stage else {
        return Err(c.error("depths", format!("{depths:?} has no layer {layer}"), "layers count from 0"));
    };
    let heads = heads.get(stage).copied().unwrap_or(0);
    let width = c.need("embed_dim", c.count("embed_dim"))?.checked_mul(if merged { 1 << stage } else { 1 });
    let Some(head_dim) = width.filter(|w| w.checked_rem(heads) == Some(0)).map(|w| w / heads) else {
        let help = format!("let embed_dim * 2^stage be a multiple of the stage's {heads} heads");
        return Err(c.error("embed_dim", format!("does not fit stage {stage}"), help));
    };
    let mut spec = Spec::new(heads, heads, head_dim);
    let window = c.need("window_size", c.count("window_size"))?;
    let (rows, columns) = sides(c)?;
    let resolution = [rows, columns].map(|n| if merged { n.div_ceil(1 << stage) } else { n });
    let least = resolution[0].min(resolution[1]);
    if window == 0 || (least < window && !cosine) {
        return Err(c.error(
            "window_size",
            format!("is {window}, but stage {stage} has {} x {} patches", resolution[0], resolution[1]),
            "let the window fit",
        ));
    }
    let (height, width) = (window.min(resolution[0]), window.min(resolution[1]));
    spec.bias.push(match cosine {
        true => Bias::LogCpb { height, width, pretrained: pretrained(c, depths.len(), stage)?, hidden: 512 },
        false => Bias::Indexed { index: IndexMap::Grid { height, width, class: false } },
    });
    spec.positions = Positions::Ids;
    let shifted = block % 2 == 1
        && window > 1
        && match cosine {
            true => resolution.iter().any(|n| *n > window),
            false => least > window,
        };
    if shifted {
        // -100, Swin v2's code twice, between patches that the shift brought together
        spec.bias.push(Bias::Indexed { index: IndexMap::Segment });
    }
    if cosine {
        // The least length that the original divides by.
        spec.norm = Some(Norm::new(NormKind::L2, 1e-12));
        (spec.softmax_scale, spec.head_scale) = (Some(1.0), true);
    }
    Ok(spec)
}

/// Swin v2: the window that a stage was trained with, where it was another.
fn pretrained(c: &Dict, stages: usize, stage: usize) -> Result<Option<[u32; 2]>> {
    match c.counts("pretrained_window_sizes")? {
        Some(list) if list.len() != stages => {
            let problem = format!("has {} stages", list.len());
            Err(c.error("pretrained_window_sizes", problem, "give one entry for each of depths, 0 for none"))
        }
        list => Ok(list.and_then(|list| list.get(stage).copied()).filter(|n| *n > 0).map(|n| [n, n])),
    }
}

/// BEiT: a two-dimensional bias over the image's patches and one class token (row and column position -1).
pub(crate) fn beit(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = encoder(c, o)?;
    let own = c.flag("use_relative_position_bias")?.unwrap_or(false);
    if c.flag("use_shared_relative_position_bias")?.unwrap_or(false) || own {
        let (height, width) = sides(c)?;
        spec.bias.push(Bias::Indexed { index: IndexMap::Grid { height, width, class: true } });
        spec.positions = Positions::Ids;
    }
    Ok(spec)
}

/// Plain attention of an encoder, or of a decoder where the file says so.
fn encoder(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("num_attention_heads", c.count("num_attention_heads"))?;
    let causal = c.flag("is_decoder")?.unwrap_or(false);
    let cross = crossing(c, o)?;
    let stack = if causal { Stack::Decoder } else { Stack::Encoder };
    if !cross && o.stack.is_some_and(|wanted| wanted != stack) {
        return Err(c.error("is_decoder", format!("is {causal}"), "ask for the stack that the model has"));
    }
    let mut spec = Spec::new(heads, heads, quotient(c, "hidden_size", heads)?);
    spec.mask.causal = causal && !cross;
    Ok(spec)
}

/// Whether the cross-attention of a model that has one is asked for.
fn crossing(c: &Dict, o: &ConfigOptions) -> Result<bool> {
    let has = c.flag("add_cross_attention")?.unwrap_or(false);
    match o.stack == Some(Stack::Cross) {
        true if !has => Err(c.error("add_cross_attention", "is not true", "ask for the stack that the model has")),
        asked => Ok(asked),
    }
}

/// The one of two names for a key that stands there.
fn either(c: &Dict, first: &'static str, second: &'static str) -> &'static str {
    let other = c.has(second) && !(c.has(first) && c.get(first).is_some());
    if other { second } else { first }
}

/// A table over m - n with `most - less` distances to each side of 0.
fn reversed(c: &Dict, key: &str, most: u32, less: i32) -> Result<IndexMap> {
    match most {
        1..=0x10_0000 => Ok(IndexMap::reversed(less - most as i32, most as i32 - less)),
        _ => Err(c.error(key, format!("is {most}"), "give 1 to 2^20 positions")),
    }
}

/// A table over n - m up to `clamp_len`, to the future too where it is visible.
fn clamped(c: &Dict, n: f64, both: bool) -> Result<IndexMap> {
    match n.fract() == 0.0 && n <= (1 << 20) as f64 {
        true => Ok(IndexMap::distance(-(n as i32), if both { n as i32 } else { 0 })),
        false => Err(c.error("clamp_len", format!("is {n}"), "give whole positions, at most 2^20, or -1")),
    }
}

/// The option `seq_len`, where a table has a row for every distance.
pub(crate) fn longest(c: &Dict, o: &ConfigOptions, key: &str) -> Result<i32> {
    match o.seq_len {
        Some(n @ 1..=0x10_0000) => Ok(n as i32),
        _ => Err(c.error(
            key,
            "does not limit distances, and a table has a row for each",
            "say the longest sequence, memory included, with the option `seq_len` (1 to 2^20)",
        )),
    }
}

/// A table of Transformer-XL's kind: for each head, with a bias of the query.
pub(crate) fn biased(index: IndexMap) -> Relative {
    let mut relative = Relative::new(RelativeSide::Key, index);
    (relative.per_head, relative.query_bias) = (true, true);
    relative
}

/// Patches of an image: rows, columns.
pub(crate) fn sides(c: &Dict) -> Result<(u32, u32)> {
    let pair = |key: &'static str| -> Result<(u32, u32)> {
        let sides = match c.get(key) {
            Some(value) if value.is_array() => c.counts(key)?.unwrap_or_default(),
            _ => vec![c.need(key, c.count(key))?; 2],
        };
        match sides[..] {
            [rows, columns] if rows > 0 && columns > 0 => Ok((rows, columns)),
            _ => Err(c.error(key, format!("is {sides:?}"), "give one side, or rows and columns, above 0")),
        }
    };
    let (image, patch) = (pair("image_size")?, pair("patch_size")?);
    match (image.0 / patch.0, image.1 / patch.1) {
        (rows @ 1..=2048, columns @ 1..=2048) => Ok((rows, columns)),
        (rows, columns) => Err(c.error("image_size", format!("gives {rows} x {columns} patches"), "give 1 to 2048")),
    }
}

/// DBRX: kv heads, theta and limits stand in `attn_config`.
pub(crate) fn dbrx(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("num_attention_heads", c.count("num_attention_heads"))?;
    let head_dim = quotient(c, "hidden_size", heads)?;
    let mut kv_heads = heads;
    let mut theta = None;
    if let Some(map) = c.get("attn_config").and_then(|value| value.as_object()) {
        let a = Dict::new(c.field("attn_config"), map);
        kv_heads = a.count("kv_n_heads")?.unwrap_or(1);
        theta = a.number("rope_theta")?;
        if let Some(limit) = a.number("clip_qkv")? {
            return Err(a.error(
                "clip_qkv",
                format!("is {limit}"),
                "needs limits of q, k and v: give them limited, and null",
            ));
        }
    } else if c.class().is_some() {
        kv_heads = 1;
    }
    let mut spec = Spec::new(heads, kv_heads, head_dim);
    let rope = Rope { family: &LLAMA, kind: Layer::Full, seq_len: o.seq_len };
    spec.rotary = match theta {
        Some(theta) => Some(Rotary::new(Pairing::Half, head_dim, theta)),
        None => rope.read(c, head_dim)?,
    };
    spec.mask = Mask::causal();
    Ok(spec)
}
