//! Which keys of a file matter: those that nobody read and that speak of attention are an error, unless a rule says why they change
//! nothing.

use crate::error::Result;
use crate::hf::dict::{Dict, shown};
use crate::hf::parts::Part;
use serde_json::Value;

/// A key with one of these in its name speaks of attention.
const WORDS: &[&str] = &[
    "attention",
    "attn",
    "rope",
    "rotary",
    "mask",
    "window",
    "chunk",
    "alibi",
    "position",
    "causal",
    "bidirection",
    "sliding",
    "qk_",
    "_kv",
    "kv_",
    "theta",
    "relative",
    "layer_types",
    "softcap",
    "sink",
    "swa_",
    "logn",
];

/// Keys with such a word that do not reach the equation, each with its reason.
const BESIDE: &[(&str, &str)] = &[
    ("final_logit_softcapping", "of the words' logits"),
    ("cross_attention_hidden_size", "a width of the projections"),
    ("cross_attention_frequency", "which layers attend to the pictures: the caller has their keys"),
    ("attention_type", "how an encoder's keys are chosen, which is another stack's"),
    ("encoder_attention_heads", "another stack's"),
    ("decoder_attention_heads", "another stack's"),
    ("masked_softmax_fusion", "how it is computed"),
    ("rotary", "a flag of GPT-J's files, which always rotates"),
    ("offset_alibi", "left aside by the class"),
    ("use_qkv_bias", "a bias of the projections"),
    ("scalable_attention", "a note of UMT5's files"),
    ("mask_token", "a token of training"),
    ("is_causal_lm", "a name"),
    ("attention_bias", "a bias of the projections, which the caller applies"),
    ("attention_qkv_bias", "a bias of the projections"),
    ("attention_out_bias", "a bias of the projection of the output"),
    ("attention_in_multiplier", "multiplies what the projections read"),
    ("attention_out_multiplier", "multiplies the output"),
    ("attention_dropout", "training only"),
    ("attention_dropout_rate", "training only"),
    ("attention_probs_dropout_prob", "training only"),
    ("attn_dropout", "training only"),
    ("attn_dropout_prob", "training only"),
    ("attn_pdrop", "training only"),
    ("attn_implementation", "how it is computed"),
    ("_attn_implementation", "how it is computed"),
    ("_attn_implementation_autoset", "how it is computed"),
    ("_attn_implementation_internal", "how it is computed"),
    ("_flash_attn_2_enabled", "how it is computed"),
    ("use_flash_attn", "how it is computed"),
    ("use_flash_attention", "how it is computed"),
    ("deterministic_flash_attn", "how it is computed"),
    ("attention_softmax_in_fp32", "how it is computed"),
    ("scale_attention_softmax_in_fp32", "how it is computed"),
    ("reorder_and_upcast_attn", "how it is computed"),
    ("output_attentions", "what the model returns"),
    ("output_router_logits", "what the model returns"),
    ("use_cache_kv", "how keys are stored"),
    ("mask_token_id", "a token"),
    ("mask_index", "a token"),
    ("image_mask_token_id", "a token"),
    ("mask_feature_length", "training only"),
    ("mask_feature_min_masks", "training only"),
    ("mask_feature_prob", "training only"),
    ("mask_time_length", "training only"),
    ("mask_time_min_masks", "training only"),
    ("mask_time_prob", "training only"),
    ("mask_ratio", "training only"),
    ("mask_loss_coefficient", "training only"),
    ("use_mask_token", "a token of training"),
    ("chunk_size_feed_forward", "how the feed-forward is computed"),
    ("max_position_embeddings", "a limit of length"),
    ("n_positions", "a limit of length"),
    ("initial_context_length", "a limit of length"),
    ("max_source_positions", "a limit of length"),
    ("max_target_positions", "a limit of length"),
    ("max_2d_position_embeddings", "a limit of length"),
    ("position_biased_input", "positions of the embedding"),
    ("use_absolute_position_embeddings", "positions of the embedding"),
    ("num_position_embeddings", "positions of the embedding"),
    ("dropout_positions", "training only"),
    ("position_id_per_seconds", "how positions are counted, which the caller does"),
    ("position_embedding", "positions of the embedding"),
    ("attention_hidden_size", "a width of the projections"),
    ("num_kv_shared_layers", "which layers give k and v again: the caller does"),
    ("attention_k_eq_v", "which projections k and v come from"),
    ("kv_sharing_modes", "which layers give k and v again: the caller does"),
    ("sliding_window_size", "read under its newer name"),
    ("transformers.js_config", "how another program runs it"),
    ("kv_cache_dtype", "how keys are stored"),
    ("qkv_bias", "a bias of the projections"),
    ("mlp_layer_types", "the feed-forward"),
    ("mtp_layer_types", "heads that predict further tokens, which are not read"),
    ("mtp_mlp_layer_types", "heads that predict further tokens, which are not read"),
    ("position_embedding_type", "positions of the embedding, where the model type has no others"),
    ("index_n_heads", "the indexer, whose choice is the caller's mask"),
    ("index_head_dim", "the indexer, whose choice is the caller's mask"),
    ("index_kv_heads", "the indexer, whose choice is the caller's mask"),
];

/// Whether a key's name speaks of attention.
fn speaks(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // other layers than attention
    if ["mamba_", "linear_", "ssm_", "conv_", "mtp_"].iter().any(|prefix| key.starts_with(prefix)) {
        return false;
    }
    WORDS.iter().any(|word| key.contains(word)) || EXACT.contains(&key.as_str())
}

/// Keys without such a word that change attention in some model.
const EXACT: &[&str] = &[
    "clamp_len",
    "freq_allocation",
    "global_head_dim",
    "head_dim",
    "multi_query",
    "new_decoder_architecture",
    "pos_att_type",
    "query_pre_attn_scalar",
    "talking_head",
    "key_multiplier",
    "clip_qkv",
    "v_head_dim",
    "qk_norm",
    "num_key_value_heads",
];

/// Whether a value says nothing: null, false, nothing listed.
fn empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// What the file says and nobody read.
pub(crate) fn check(c: &Dict, part: &Part, all: &[Part]) -> Result<()> {
    let matters =
        |key: &str, value: &Value| speaks(key) && !empty(value) && !BESIDE.iter().any(|(known, _)| *known == key);
    let usual = |c: &Dict, key: &str, value: &Value| {
        c.class().is_some_and(|class| class.keys.get(key) == Some(value) || class.parts.contains_key(key))
    };
    // switched off with the windows themselves
    let off = |key: &str| {
        ["sliding_window", "max_window_layers"].contains(&key)
            && part.map.get("use_sliding_window").and_then(Value::as_bool) == Some(false)
    };
    let inner = |value: &Value| value.get("model_type").is_some();
    let odd =
        |(key, value): &(&str, &Value)| matters(key, value) && !usual(c, key, value) && !off(key) && !inner(value);
    if let Some((key, value)) = c.unread().find(odd) {
        return Err(c.error(
            key,
            format!("is {}, which {} does not have", shown(value), part.model_type),
            "remove the key, or correct model_type",
        ));
    }
    // keys beside a part say the same as the part, or nothing
    for outer in all.iter().filter(|outer| within(part, outer)) {
        let whole = outer.dict();
        let beside = |(key, value): &(&str, &Value)| {
            let said = c.peek(key) == Some(*value) || c.peek(key).is_none() && usual(c, key, value);
            let declared =
                outer.class.is_some_and(|class| class.keys.contains_key(*key) || class.parts.contains_key(*key));
            let off = *key == "sliding_window" && outer.map.get("use_sliding_window") == Some(&Value::Bool(false));
            matters(key, value) && !said && !declared && !off && !value.is_object()
        };
        if let Some((key, value)) = whole.unread().find(beside) {
            let name = part.path.rsplit('.').next().unwrap_or_default();
            let help = format!("keep the part's, in {name}");
            return Err(whole.error(key, format!("is {} beside {name}", shown(value)), help));
        }
    }
    Ok(())
}

/// Whether a part lies within another of the same file, which has no attention of its own.
fn within(part: &Part, outer: &Part) -> bool {
    let inside = outer.path.is_empty() || part.path.starts_with(&format!("{}.", outer.path));
    part.path != outer.path
        && inside
        && part.stated
        && !std::ptr::eq(part.map, outer.map)
        && matches!(outer.model, Some(crate::hf::models::Model::Composite))
        && part.path.ends_with("text_config")
}
