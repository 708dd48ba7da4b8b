//! What a row of `models` asks a function: which layer is of which kind, where layers turn, scales and sizes that keys say in a model's own way.

use crate::error::Result;
use crate::hf::dict::Dict;
use crate::hf::layers::Layer;

fn list(count: u32, kind: impl Fn(u32) -> Layer) -> Result<Vec<Layer>> {
    Ok((0..count).map(kind).collect())
}

fn sliding_where(count: u32, sliding: impl Fn(u32) -> bool) -> Result<Vec<Layer>> {
    list(count, |i| if sliding(i) { Layer::Sliding } else { Layer::Full })
}

pub(crate) const LINEAR: Layer = Layer::Nothing("linear_attention");

pub(crate) fn all_full(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    list(count, |_| Layer::Full)
}

/// The class's masks leave its window aside.
pub(crate) fn window_aside(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    c.touch(&["sliding_window"]);
    list(count, |_| Layer::Full)
}

pub(crate) fn all_linear(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    list(count, |_| LINEAR)
}

/// Qwen 3 Next: every fourth.
pub(crate) fn layers_by_interval(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    match c.count("full_attention_interval")?.unwrap_or(4) {
        0 => Err(c.error("full_attention_interval", "is 0", "give 1 or more layers")),
        n => list(count, |i| if (i + 1) % n == 0 { Layer::Full } else { LINEAR }),
    }
}

pub(crate) fn gpt2_scale(c: &Dict, head_dim: u32, layer: u32) -> Result<Option<f64>> {
    let mut scale = match c.flag("scale_attn_weights")?.unwrap_or(true) {
        true => None,
        false => Some(1.0),
    };
    if c.flag("scale_attn_by_inverse_layer_idx")?.unwrap_or(false) {
        scale = Some(scale.unwrap_or(1.0 / (head_dim as f64).sqrt()) / (layer as f64 + 1.0));
    }
    Ok(scale)
}

pub(crate) fn multiplier_or_root(c: &Dict, _: u32, _: u32) -> Result<Option<f64>> {
    c.number("attention_multiplier")
}

pub(crate) fn ministral(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let some = c.count("sliding_window")?.is_some();
    sliding_where(count, |_| some)
}

/// Layers that do not rotate have the window, where there is one.
pub(crate) fn smollm3(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let turns = crate::hf::layers::turning(c)?;
    let used = c.flag("use_sliding_window")?.unwrap_or(false) && c.count("sliding_window")?.is_some();
    sliding_where(count, |i| used && !turns(i))
}

/// Layers that attend to pictures alone are another stack's.
pub(crate) fn mllama(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let cross = c.counts("cross_attention_layers")?.unwrap_or_else(|| vec![3, 8, 13, 18, 23, 28, 33, 38]);
    list(count, |i| if cross.contains(&i) { Layer::Nothing("cross_attention") } else { Layer::Full })
}

pub(crate) fn mllama_cross(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let other = |kind| if kind == Layer::Full { Layer::Nothing("self_attention") } else { Layer::Full };
    Ok(mllama(c, count)?.into_iter().map(other).collect())
}

pub(crate) fn minimax_m3(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    // the class leaves it aside
    c.touch(&["rotary_dim"]);
    let freq = c.get("sparse_attention_config").and_then(|d| d.get("sparse_attention_freq")?.as_array());
    if let Some(freq) = freq.filter(|freq| freq.iter().any(|n| n.as_u64() != Some(0))) {
        let problem = format!("marks {} layers", freq.len());
        return Err(c.error(
            "sparse_attention_config.sparse_attention_freq",
            problem,
            "needs an indexer's choice of blocks",
        ));
    }
    list(count, |_| Layer::Full)
}

/// Generated tokens have a window, and see all of the prompt: up to its length that is no limit, beyond the caller's mask says
/// which the prompt is.
pub(crate) fn unlimited(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let some = c.count("sliding_window")?.is_some();
    list(count, |_| if some { Layer::Indexed } else { Layer::Full })
}

pub(crate) fn cohere2_kinds(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let dense = c.count("first_k_dense_replace")?.unwrap_or(0).min(count);
    let first = c.count("prefix_dense_sliding_window_pattern")?.unwrap_or(1).max(1);
    let n = c.count("sliding_window_pattern")?;
    let n = crate::hf::read::agree(c, "_sliding_window_pattern", n, c.count("_sliding_window_pattern")?)?.unwrap_or(4);
    if n == 0 {
        return Err(c.error("sliding_window_pattern", "is 0", "give 1 or more layers"));
    }
    sliding_where(count, |i| match i < dense {
        true => !(i + 1).is_multiple_of(first),
        false => !(i - dense + 1).is_multiple_of(n),
    })
}

/// Layers with a window rotate, and dense ones of a mixture of experts.
pub(crate) fn cohere2(c: &Dict, layer: u32, kind: Layer) -> Result<bool> {
    let dense = match c.texts("mlp_layer_types")? {
        Some(list) => list.get(layer as usize) == Some(&"dense"),
        None => layer < c.count("first_k_dense_replace")?.unwrap_or(0),
    };
    let forced = dense && c.count("prefix_dense_sliding_window_pattern")? == Some(1);
    Ok(kind == Layer::Sliding || forced)
}

pub(crate) fn mimo(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    c.touch(&["attention_value_scale", "swa_num_attention_heads", "swa_head_dim"]);
    sliding_where(count, |i| i != 0 && !(i + 1).is_multiple_of(6))
}

pub(crate) fn flint(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    sliding_where(count, |i| !(i < 2 || i % 4 == 1 || i + 1 == count))
}

/// A number, or letters: L has a window, G has none.
pub(crate) fn exaone4(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    if c.count("sliding_window")?.is_none() {
        c.touch(&["sliding_window_pattern"]);
        return list(count, |_| Layer::Full);
    }
    if c.get("sliding_window_pattern").is_some_and(|value| value.is_string()) {
        let letters = c.text("sliding_window_pattern")?.unwrap_or_default().as_bytes();
        if letters.is_empty() || letters.iter().any(|l| !b"LG".contains(l)) {
            return Err(c.error(
                "sliding_window_pattern",
                "is not of L and G",
                "give letters, or every how many layers",
            ));
        }
        // the last layer sees everything
        return sliding_where(count, |i| letters[i as usize % letters.len()] == b'L' && i + 1 != count);
    }
    match c.count("sliding_window_pattern")?.unwrap_or(4) {
        0 => list(count, |_| Layer::Full),
        n => sliding_where(count, |i| !(i + 1).is_multiple_of(n)),
    }
}

/// Counted from the last one, every fourth sees everything.
pub(crate) fn muse(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    sliding_where(count, |i| !(count - 1 - i).is_multiple_of(4))
}

pub(crate) fn muse_turns(c: &Dict, layer: u32, _: Layer) -> Result<bool> {
    let count = c.count("num_hidden_layers")?.unwrap_or(0);
    Ok(match c.numbers("layer_rope_theta")? {
        Some(list) => list.get(layer as usize).is_some_and(|theta| *theta != 0.0),
        None => !(count.saturating_sub(1 + layer)).is_multiple_of(4),
    })
}

/// A theta for each layer, 0 where it does not rotate; where they differ otherwise is refused.
pub(crate) fn by_layer_theta(c: &Dict, layer: u32, _: Layer) -> Result<bool> {
    let Some(list) = c.numbers("layer_rope_theta")? else { return Ok(true) };
    let own = list.get(layer as usize).copied().unwrap_or(0.0);
    let usual = c.get("rope_parameters").and_then(|d| d.get("rope_theta")?.as_f64()).or(c.number("rope_theta")?);
    if own != 0.0 && usual.is_some_and(|usual| usual != own) {
        let problem = format!("is {own} of layer {layer}, and rope_theta is not");
        return Err(c.error("layer_rope_theta", problem, "let rope_theta be that of the layer"));
    }
    Ok(own != 0.0)
}

pub(crate) fn nope_named(c: &Dict, _: u32, _: Layer) -> Result<bool> {
    Ok(c.text("position_embedding_type")?.is_none_or(|name| name == "rope"))
}

/// Its attention is narrower than its states.
pub(crate) fn mobilebert(c: &Dict, heads: u32) -> Result<u32> {
    match c.flag("use_bottleneck")?.unwrap_or(true) {
        true => Ok(c.count("intra_bottleneck_size")?.unwrap_or(128) / heads),
        false => crate::hf::read::quotient(c, "hidden_size", heads),
    }
}

pub(crate) fn compass(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let some = c.count("sliding_window_pattern")?.unwrap_or(4).max(1);
    sliding_where(count, |i| !(i + 1).is_multiple_of(some))
}

/// Every fourth layer reads the keys that an indexer chooses.
pub(crate) fn qwen4(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let n = c.count("full_attention_interval")?.unwrap_or(4).max(1);
    list(count, |i| if (i + 1).is_multiple_of(n) { Layer::Indexed } else { LINEAR })
}

/// Attention between points and a picture has heads of fewer elements.
pub(crate) fn downsampled(c: &Dict, heads: u32) -> Result<u32> {
    let rate = c.count("attention_downsample_rate")?.unwrap_or(2).max(1);
    Ok(crate::hf::read::quotient(c, "hidden_size", heads)? / rate)
}

/// `attention_types` lists blocks of kinds with how often each repeats: global and local by turns.
pub(crate) fn gpt_neo(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let mut kinds = Vec::new();
    if let Some(groups) = c.get("attention_types") {
        let wrong =
            || c.error("attention_types", "is no list of [[kinds], times]", "give [[[\"global\", \"local\"], 12]]");
        for group in groups.as_array().ok_or_else(wrong)? {
            let names = group.get(0).and_then(|names| names.as_array()).ok_or_else(wrong)?;
            let times = group.get(1).and_then(|n| n.as_u64()).filter(|n| *n <= 65536).ok_or_else(wrong)?;
            for _ in 0..times {
                for name in names {
                    kinds.push(if name.as_str() == Some("local") { Layer::Sliding } else { Layer::Full });
                }
            }
        }
    }
    c.touch(&["attention_layers"]);
    sliding_where(count, |i| match kinds.get(i as usize) {
        Some(kind) => *kind == Layer::Sliding,
        None => i % 2 == 1,
    })
}

/// Zamba: the shared attention reads two layers' states side by side.
pub(crate) fn zamba_dim(c: &Dict, heads: u32) -> Result<u32> {
    match c.count("attention_head_dim")? {
        Some(d) => Ok(d),
        None => Ok(2 * crate::hf::read::quotient(c, "hidden_size", heads)?),
    }
}

pub(crate) fn mem_rope(c: &Dict, _: u32, _: Layer) -> Result<bool> {
    Ok(c.flag("use_mem_rope")?.unwrap_or(false))
}

/// Where no list says it, by the class's own: Zamba 2's seven groups, Zamba's every sixth.
pub(crate) fn zamba(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    match (c.count("attn_layer_period")?, c.count("attn_layer_offset")?) {
        (Some(n), Some(offset)) if n > 0 => {
            list(count, |i| if i > 1 && i % n == offset { Layer::Full } else { LINEAR })
        }
        _ => {
            let full = [6, 12, 18, 24, 30, 36, 42, 47, 51];
            list(count, |i| if full.contains(&i) { Layer::Full } else { LINEAR })
        }
    }
}

/// The last layer of every group.
pub(crate) fn groups(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let n = c.count("layer_group_size")?.unwrap_or(6).max(1);
    list(count, |i| if (i + 1).is_multiple_of(n) { Layer::Full } else { LINEAR })
}

/// A full layer of such a list is one of chosen keys.
pub(crate) fn fourths_indexed(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    list(count, |i| if i % 4 == 3 { Layer::Indexed } else { LINEAR })
}

/// Only a list of the file says it.
pub(crate) fn layers_of_list(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    match c.has("layer_types") {
        true => list(count, |_| Layer::Full),
        false => Err(c.error("layer_types", "is missing", "give one for each layer")),
    }
}

pub(crate) fn jamba(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let period = c.need("attn_layer_period", c.count("attn_layer_period"))?;
    let offset = c.need("attn_layer_offset", c.count("attn_layer_offset"))?;
    match period {
        0 => Err(c.error("attn_layer_period", "is 0", "give 1 or more layers")),
        n => list(count, |i| if i % n == offset { Layer::Full } else { Layer::Nothing("mamba") }),
    }
}

/// Letters: M is a state space, * attention, - a feed-forward, E a mixture of experts.
pub(crate) fn nemotron_h(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    match c.text("hybrid_override_pattern")? {
        Some(letters) => list(count, |i| match letters.as_bytes().get(i as usize) {
            Some(b'*') => Layer::Full,
            _ => Layer::Nothing("mamba"),
        }),
        None => list(count, |i| if i % 4 == 2 { Layer::Full } else { LINEAR }),
    }
}

pub(crate) fn bamba(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let full = c.counts("attn_layer_indices")?.unwrap_or_default();
    list(count, |i| if full.contains(&i) { Layer::Full } else { LINEAR })
}

pub(crate) fn lfm2(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    match c.counts("full_attn_idxs")? {
        Some(full) => list(count, |i| if full.contains(&i) { Layer::Full } else { Layer::Nothing("conv") }),
        None => list(count, |_| Layer::Full),
    }
}

pub(crate) fn lfm3(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    list(count, |i| match i % 4 {
        2 => Layer::Full,
        0 if i > 0 => Layer::Sliding,
        _ => Layer::Nothing("conv"),
    })
}

pub(crate) fn minimax(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    list(count, |i| if i % 2 == 0 { Layer::Full } else { LINEAR })
}

pub(crate) fn olmo_hybrid(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    list(count, |i| if i % 4 == 3 || count < 4 && i + 1 == count { Layer::Full } else { LINEAR })
}

pub(crate) fn lara(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    list(count, |i| match i % 5 {
        0 | 2 => LINEAR,
        3 => Layer::Full,
        _ => Layer::Sliding,
    })
}

pub(crate) fn recurrent(c: &Dict, count: u32) -> Result<Vec<Layer>> {
    let blocks = c.texts("block_types")?.unwrap_or_default();
    list(count, |i| match blocks.get(i as usize % blocks.len().max(1)) {
        Some(&"recurrent") | None => LINEAR,
        _ => Layer::Sliding,
    })
}

pub(crate) fn dots3(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    list(count, |i| if i < 2 || i % 4 == 1 { Layer::Indexed } else { Layer::Sliding })
}

/// Sliding layers have short and long windows by turns, which `per_layer_config` says.
pub(crate) fn neomme(_: &Dict, count: u32) -> Result<Vec<Layer>> {
    sliding_where(count, |i| !((i + 1).is_multiple_of(6) || i + 1 == count))
}
