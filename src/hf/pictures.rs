//! Towers of pictures and sounds that rotate or have relative positions.

use crate::equation::bias::Bias;
use crate::equation::defaults::MAX_HEAD_DIM;
use crate::equation::factors::{Norm, NormKind};
use crate::equation::index::IndexMap;
use crate::equation::relative::{Relative, RelativeSide};
use crate::equation::rotary::rotary::{Pairing, Rotary};
use crate::equation::rotary::scaling::MAX_ROTARY_DIM;
use crate::equation::spec::{Positions, Spec};
use crate::error::Result;
use crate::hf::dict::Dict;
use crate::hf::other::{biased, longest, sides};
use crate::hf::read::{ConfigOptions, quotient};
use crate::hf::rope::theta;

/// Plain attention of a tower: heads and sizes by the common names.
fn plain(c: &Dict, width: &'static str) -> Result<Spec> {
    let heads = c.need("num_attention_heads", c.count("num_attention_heads"))?;
    if heads == 0 {
        return Err(c.error("num_attention_heads", "is 0", "give 1 or more heads"));
    }
    let kv_heads = c.count("num_key_value_heads")?.unwrap_or(heads);
    let head_dim = c.count("head_dim")?.map_or_else(|| quotient(c, width, heads), Ok)?;
    if head_dim > MAX_ROTARY_DIM {
        return Err(c.error("head_dim", format!("is {head_dim}"), format!("give 1 to {MAX_HEAD_DIM}")));
    }
    Ok(Spec::new(heads, kv_heads, head_dim))
}

/// With a rotation that several position streams turn.
fn turned(mut spec: Spec, rotary: Rotary) -> Result<Spec> {
    spec.rotary = Some(rotary);
    spec.positions = Positions::Ids;
    Ok(spec)
}

/// Qwen2-VL: pairs in halves, rows before columns. Images, and windows where there are some, are sequences that the caller
/// packs.
pub(crate) fn axial(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let rotary = Rotary::qwen2_vl_vision(spec.head_dim, theta(c)?)?;
    turned(spec, rotary)
}

/// The same where the width is `embed_dim`.
pub(crate) fn axial_embed(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "embed_dim")?;
    let rotary = Rotary::qwen2_vl_vision(spec.head_dim, theta(c)?)?;
    turned(spec, rotary)
}

/// Step 3.7: columns before rows.
pub(crate) fn axial_columns(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let mut rotary = Rotary::qwen2_vl_vision(spec.head_dim, theta(c)?)?;
    rotary.streams.iter_mut().for_each(|stream| *stream = 1 - *stream);
    turned(spec, rotary)
}

/// Kimi K2.5: columns and rows by turns.
pub(crate) fn axial_by_turns(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let (theta, d) = (theta(c)?, spec.head_dim);
    let pairs = d / 2;
    let f = (0..pairs).map(|p| theta.powf(-4.0 * (p / 2) as f64 / d as f64)).collect();
    let mut rotary = Rotary::with_inv_freq(Pairing::Half, f);
    rotary.streams = (0..pairs).map(|p| 1 - (p % 2) as u8).collect();
    turned(spec, rotary)
}

/// Inkling 2: interleaved pairs, columns before rows.
pub(crate) fn interleaved_columns(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let rotary = Rotary::llama4_vision(spec.head_dim, theta(c)?)?;
    turned(spec, rotary)
}

/// SAM 3: interleaved pairs, rows before columns.
pub(crate) fn interleaved_rows(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let rotary = Rotary::eva02(spec.head_dim, theta(c)?, None)?;
    turned(spec, rotary)
}

/// MiniMax M3: time, rows and columns, a third of the head each.
pub(crate) fn thirds(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let (theta, each) = (theta(c)?, spec.head_dim / 3 / 2);
    let f = (0..3 * each).map(|p| theta.powf(-((p % each) as f64) / each as f64)).collect();
    let mut rotary = Rotary::with_inv_freq(Pairing::Half, f);
    rotary.streams = (0..3 * each).map(|p| (p / each) as u8).collect();
    turned(spec, rotary)
}

pub(crate) fn pixtral(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let rotary = Rotary::pixtral(spec.head_dim, theta(c)?)?;
    turned(spec, rotary)
}

/// Llama 4: positions count from 1, the class token stands at 0.
pub(crate) fn llama4(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let rotary = Rotary::llama4_vision(spec.head_dim, theta(c)?)?;
    turned(spec, rotary)
}

/// DINOv3, for pictures of the file's size: the frequencies depend on the grid of patches.
pub(crate) fn dinov3(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let spec = plain(c, "hidden_size")?;
    let (rows, columns) = sides(c)?;
    let rotary = Rotary::dinov3(spec.head_dim, theta(c)?, [rows, columns])?;
    // shifts and scales of training
    c.touch(&["pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"]);
    turned(spec, rotary)
}

/// SAM: a term of the row's distance and one of the column's, by the query before its scale. The table of a pair of distances
/// is the sum of the model's two rows. Windows are sequences that the caller cuts.
pub(crate) fn sam(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = plain(c, "hidden_size")?;
    let used = c.flag("use_rel_pos")?.or(c.flag("use_relative_position_embeddings")?).unwrap_or(true);
    let window = c.count("window_size")?.unwrap_or(0);
    let global = c.counts("global_attn_indexes")?.unwrap_or_default();
    let (rows, columns) = sides(c)?;
    if used {
        let whole = window == 0 || global.contains(&o.layer.unwrap_or(0));
        let (height, width) = if whole { (rows, columns) } else { (window, window) };
        let mut relative = Relative::new(RelativeSide::Key, IndexMap::Grid { height, width, class: false });
        relative.scale = Some(1.0);
        spec.relative.push(relative);
        spec.positions = Positions::Ids;
    }
    Ok(spec)
}

/// Transformer-XL's term of Conformers: u and v, a table with a row for each distance of the call; or rotation, or Shaw's.
pub(crate) fn conformer(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = plain(c, "hidden_size")?;
    relative_kind(c, o, &mut spec)?;
    Ok(spec)
}

/// The speech encoder of Seamless M4T.
pub(crate) fn speech(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("speech_encoder_attention_heads", c.count("speech_encoder_attention_heads"))?;
    let mut spec = Spec::new(heads, heads, quotient(c, "hidden_size", heads)?);
    if let Some(chunk) = c.count("speech_encoder_chunk_size")? {
        // all chunks to the left within a limit, which only a mask says
        let (left, n) = (c.count("speech_encoder_left_chunk_num")?, o.seq_len.unwrap_or(u32::MAX));
        c.touch(&["left_max_position_embeddings"]);
        spec.mask.dense = n > chunk;
        let _ = left;
    }
    relative_kind(c, o, &mut spec)?;
    Ok(spec)
}

fn relative_kind(c: &Dict, o: &ConfigOptions, spec: &mut Spec) -> Result<()> {
    c.touch(&["left_max_position_embeddings", "right_max_position_embeddings", "rotary_embedding_base"]);
    match c.text("position_embeddings_type")? {
        Some("relative") => {
            let n = longest(c, o, "position_embeddings_type")?;
            spec.content_bias = true;
            spec.relative.push(biased(IndexMap::distance(1 - n, n - 1)));
        }
        Some("relative_key") => {
            let left = c.need("left_max_position_embeddings", c.count("left_max_position_embeddings"))?;
            let right = c.need("right_max_position_embeddings", c.count("right_max_position_embeddings"))?;
            let index = IndexMap::distance(-(left.min(1 << 20) as i32), right.min(1 << 20) as i32);
            spec.relative.push(Relative::new(RelativeSide::Key, index));
        }
        Some("rotary") => {
            let base = c.number("rotary_embedding_base")?.unwrap_or(10_000.0);
            spec.rotary = Some(Rotary::new(Pairing::Half, spec.head_dim, base));
        }
        None => {}
        Some(other) => {
            let help = "supported are relative, relative_key and rotary";
            return Err(c.error("position_embeddings_type", format!("is {other:?}"), help));
        }
    }
    Ok(())
}

/// Parakeet: Transformer-XL's term.
pub(crate) fn parakeet(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = plain(c, "hidden_size")?;
    let n = longest(c, o, "max_position_embeddings")?;
    spec.content_bias = true;
    spec.relative.push(biased(IndexMap::distance(1 - n, n - 1)));
    Ok(spec)
}

/// FastSpeech 2: the same in an encoder and a decoder.
pub(crate) fn fastspeech(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let key = match o.stack {
        Some(crate::hf::read::Stack::Decoder) => "decoder_num_attention_heads",
        _ => "encoder_num_attention_heads",
    };
    let heads = c.need(key, c.count(key))?;
    let mut spec = Spec::new(heads, heads, quotient(c, "hidden_size", heads)?);
    let n = longest(c, o, "max_source_positions")?;
    spec.content_bias = true;
    spec.relative.push(biased(IndexMap::distance(1 - n, n - 1)));
    Ok(spec)
}

/// WavLM: T5's buckets, multiplied by a gate of the query.
pub(crate) fn wavlm(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let mut spec = plain(c, "hidden_size")?;
    let num_buckets = c.count("num_buckets")?.unwrap_or(320);
    let max_distance = c.count("max_bucket_distance")?.unwrap_or(800);
    spec.bias.push(Bias::T5 { num_buckets, max_distance, bidirectional: true });
    spec.gated_bias = true;
    Ok(spec)
}

/// SpeechT5: Shaw's term of i - j up to a limit, in the encoder.
pub(crate) fn speecht5(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    use crate::hf::read::Stack;
    let encoder = o.stack == Some(Stack::Encoder);
    let key = if encoder { "encoder_attention_heads" } else { "decoder_attention_heads" };
    let heads = c.need(key, c.count(key))?;
    let mut spec = Spec::new(heads, heads, quotient(c, "hidden_size", heads)?);
    let most = c.need("encoder_max_relative_position", c.count("encoder_max_relative_position"))?.min(1 << 20) as i32;
    if encoder {
        let mut relative = Relative::new(RelativeSide::Key, IndexMap::reversed(-most, most - 1));
        // q is scaled before both products
        relative.scale = None;
        spec.relative.push(relative);
    }
    spec.mask.causal = o.stack == Some(Stack::Decoder);
    Ok(spec)
}

/// VITS: Shaw's terms of keys and values within a window; the first and the last row, of what lies beyond, are zero.
pub(crate) fn vits(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let mut spec = plain(c, "hidden_size")?;
    let Some(window) = c.count("window_size")?.filter(|n| *n > 0) else { return Ok(spec) };
    let n = window.min(1 << 20) as i32 + 1;
    for side in [RelativeSide::Key, RelativeSide::Value] {
        spec.relative.push(Relative::new(side, IndexMap::distance(-n, n)));
    }
    Ok(spec)
}

/// Moonshine's streaming encoder: every layer has a window of its own to the left, the query's own key included, and to the
/// right, without its last.
pub(crate) fn moonshine(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = plain(c, "hidden_size")?;
    let windows = match c.get("sliding_windows").map(|list| list.as_array()) {
        None => vec![(16, 4), (16, 4), (16, 0), (16, 0), (16, 4), (16, 4)],
        Some(list) => {
            let pair = |value: &serde_json::Value| {
                let pair = value.as_array()?;
                Some((u32::try_from(pair.first()?.as_u64()?).ok()?, u32::try_from(pair.get(1)?.as_u64()?).ok()?))
            };
            let list: Option<Vec<(u32, u32)>> = list.and_then(|list| list.iter().map(pair).collect());
            c.need("sliding_windows", Ok(list))?
        }
    };
    match windows.get(o.layer.unwrap_or(0) as usize) {
        Some((left, right)) if *left > 0 => {
            spec.mask.window_left = Some(left - 1);
            spec.mask.window_right = Some(right.saturating_sub(1));
            Ok(spec)
        }
        _ => Err(c.error("sliding_windows", "has no window for this layer", "give one for each layer, above 0")),
    }
}

/// DETR with conditions: content and place side by side in q and k of cross-attention.
pub(crate) fn conditional(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    use crate::hf::read::Stack;
    let key = if o.stack == Some(Stack::Encoder) { "encoder_attention_heads" } else { "decoder_attention_heads" };
    let heads = c.need(key, c.count(key))?;
    let head_dim = quotient(c, "hidden_size", heads)?;
    let mut spec = Spec::new(heads, heads, head_dim);
    if o.stack == Some(Stack::Cross) {
        (spec.head_dim, spec.v_head_dim) = (2 * head_dim, head_dim);
    }
    Ok(spec)
}

/// Gemma 4's tower: each half of a head by itself; norms of q and k, scale 1.
pub(crate) fn gemma4(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = plain(c, "hidden_size")?;
    spec.softmax_scale = Some(1.0);
    spec.norm = rms(c, o, "rms_norm_eps")?;
    let rotary = Rotary::gemma4_vision(spec.head_dim, theta(c)?)?;
    turned(spec, rotary)
}

/// LFM3, GLM-OCR: Qwen2-VL's rotation after norms of q and k.
pub(crate) fn axial_normed(c: &Dict, o: &ConfigOptions, eps: &'static str) -> Result<Spec> {
    let mut spec = plain(c, "hidden_size")?;
    spec.norm = rms(c, o, eps)?;
    let rotary = Rotary::qwen2_vl_vision(spec.head_dim, theta(c)?)?;
    turned(spec, rotary)
}

/// Sapiens 2: DINOv3's rotation after norms of q and k.
pub(crate) fn sapiens(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let mut spec = dinov3(c, o)?;
    let by_layer = c.counts("num_key_value_heads_per_layer")?;
    if let Some(n) = by_layer.and_then(|list| list.get(o.layer.unwrap_or(0) as usize).copied()) {
        spec.num_kv_heads = n;
    }
    if c.flag("use_qk_norm")?.unwrap_or(true) {
        spec.norm = rms(c, o, "rms_norm_eps")?;
    }
    Ok(spec)
}

fn rms(c: &Dict, o: &ConfigOptions, key: &'static str) -> Result<Option<Norm>> {
    let mut norm = Norm::new(NormKind::Rms, c.number(key)?.unwrap_or(1e-6));
    norm.weights = true;
    Ok(Some(norm).filter(|_| !o.normalized))
}

/// Granite's speech encoders: blocks of `context_size` frames, which the caller cuts, with Shaw's term of i - j.
pub(crate) fn granite_speech(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("num_attention_heads", c.count("num_attention_heads"))?;
    let head_dim = match c.count("dim_head")?.or(c.count("head_dim")?) {
        Some(d) => d,
        None => quotient(c, "hidden_size", heads)?,
    };
    let mut spec = Spec::new(heads, heads, head_dim);
    let key = if c.class().is_some_and(|class| class.keys.contains_key("max_pos_emb")) {
        "max_pos_emb"
    } else {
        "max_position_embeddings"
    };
    let most = c.need(key, c.count(key))?.min(1 << 20) as i32;
    spec.relative.push(Relative::new(RelativeSide::Key, IndexMap::reversed(-most, most)));
    Ok(spec)
}

/// Hiera, PVT: stages of blocks with heads and widths of their own. Queries may be fewer than keys, or keys fewer than queries:
/// the caller has both. Windows are sequences.
pub(crate) fn stages(
    c: &Dict,
    o: &ConfigOptions,
    [depths, heads, widths]: [&'static str; 3],
    usual: [&[u32]; 3],
) -> Result<Spec> {
    let list = |key: &'static str, usual: &[u32]| -> Result<Vec<u32>> {
        let list = c.counts(key)?.unwrap_or_else(|| usual.to_vec());
        if list.is_empty() { Err(c.error(key, "is missing", "give a number for each stage")) } else { Ok(list) }
    };
    let (depths, heads) = (list(depths, usual[0])?, list(heads, usual[1])?);
    let widths = match c.get(widths).is_some_and(|value| value.is_number()) {
        // doubled from stage to stage
        true => {
            let first = c.need(widths, c.count(widths))?;
            let times = c.number("embed_dim_multiplier")?.unwrap_or(2.0);
            (0..depths.len()).map(|stage| (first as f64 * times.powi(stage as i32)) as u32).collect()
        }
        false => list(widths, usual[2])?,
    };
    let (mut block, mut stage) = (o.layer.unwrap_or(0), 0);
    while depths.get(stage).is_some_and(|depth| block >= *depth) {
        block -= depths[stage];
        stage += 1;
    }
    match (heads.get(stage), widths.get(stage)) {
        (Some(heads), Some(width)) if *heads > 0 && width.is_multiple_of(*heads) => {
            Ok(Spec::new(*heads, *heads, width / heads))
        }
        _ => Err(c.error("depths", format!("has no stage {stage} with heads and a width"), "give one of each")),
    }
}

/// SAM 2 of moving pictures: attention to the memory, interleaved pairs, rows before columns. Keys without a place stand at 0.
pub(crate) fn memory(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("memory_attention_num_attention_heads", c.count("memory_attention_num_attention_heads"))?;
    let rate = c.count("memory_attention_downsample_rate")?.unwrap_or(1).max(1);
    let spec = Spec::new(heads, heads, quotient(c, "memory_attention_hidden_size", heads)? / rate);
    let rope = c.number("memory_attention_rope_theta")?;
    let rotary = Rotary::eva02(spec.head_dim, rope.map_or_else(|| theta(c), Ok)?, None)?;
    turned(spec, rotary)
}

/// BridgeTower: heads of 64 elements, as many as the width holds.
pub(crate) fn sixty_fours(c: &Dict, _: &ConfigOptions) -> Result<Spec> {
    let heads = c.need("hidden_size", c.count("hidden_size"))? / 64;
    Ok(Spec::new(heads.max(1), heads.max(1), 64))
}
