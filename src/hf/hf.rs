//! Hugging Face configurations: `config.json` of a model, read into a [`Spec`].

use crate::equation::dtype::Dtype;
use crate::equation::rotary::rotary::Pairing;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::hf::decoder::{
    Cap, Dictionary, Family, Fixed, HeadDim, KvHeads, LLAMA, PARTIAL, Partial, QkNorm, Scale, Sections, Turns, Windows,
};
use crate::hf::dict::{Dict, shown};
use crate::hf::other;
use crate::hf::read::{ConfigOptions, agree, dictionary, parse};
use serde_json::Value;

enum Model {
    Decoder(Family),
    /// Whose text model is the dictionary `text_config`, of this type; `flat`: older files have no such dictionary, and
    /// their own keys are the text model's.
    Composite {
        text: &'static str,
        flat: bool,
    },
    /// DeepSeek's latent attention.
    Latent(Pairing),
    Other(fn(&Dict, &ConfigOptions) -> Result<Spec>),
}

/// Every `model_type` that is read.
#[rustfmt::skip]
const MODELS: &[(&str, Model)] = &[
    ("llama", Model::Decoder(LLAMA)),
    ("mistral", Model::Decoder(Family {
        kv_heads: KvHeads::Class(8), windows: Windows::Every { may_miss: false }, ..LLAMA
    })),
    ("mixtral", Model::Decoder(Family {
        theta: Some(1e6), kv_heads: KvHeads::Class(8), windows: Windows::Every { may_miss: true }, ..LLAMA
    })),
    ("qwen2", Model::Decoder(QWEN2)),
    ("qwen3", Model::Decoder(QWEN3)),
    ("qwen2_vl", Model::Composite { text: "qwen2_vl_text", flat: true }),
    ("qwen2_vl_text", Model::Decoder(Family { theta: None, sections: Sections::Contiguous, ..QWEN2 })),
    ("qwen2_5_vl", Model::Composite { text: "qwen2_5_vl_text", flat: true }),
    ("qwen2_5_vl_text", Model::Decoder(Family { theta: None, sections: Sections::Contiguous, ..QWEN2 })),
    ("qwen3_vl", Model::Composite { text: "qwen3_vl_text", flat: false }),
    ("qwen3_vl_text", Model::Decoder(Family {
        theta: None, sections: Sections::ByTurns, windows: Windows::Never, ..QWEN3
    })),
    ("ernie4_5_vl_moe", Model::Composite { text: "ernie4_5_vl_moe_text", flat: false }),
    ("ernie4_5_vl_moe_text", Model::Decoder(Family {
        pairing: Pairing::Interleaved, theta: Some(500_000.0), sections: Sections::Ernie, kv_heads: KvHeads::Class(4),
        ..LLAMA
    })),
    ("gpt_neox", Model::Decoder(Family {
        theta_keys: &["rotary_emb_base", "rope_theta"],
        partial: Partial::Required(&["rotary_pct", "partial_rotary_factor"]),
        head_dim: HeadDim::Quotient, kv_heads: KvHeads::Never, ..LLAMA
    })),
    ("phi", Model::Decoder(Family {
        partial: Partial::Required(PARTIAL), norm: QkNorm::LayerNorm("qk_layernorm"),
        fixed: &[("rotary_dim", Fixed::RotaryDim)], ..LLAMA
    })),
    ("phi3", Model::Decoder(Family {
        partial: Partial::Optional, windows: Windows::Every { may_miss: true }, ..LLAMA
    })),
    ("stablelm", Model::Decoder(Family {
        partial: Partial::Required(&["partial_rotary_factor", "rope_pct"]),
        kv_heads: KvHeads::Class(32), norm: QkNorm::LayerNorm("qk_layernorm"), ..LLAMA
    })),
    ("cohere", Model::Decoder(Family {
        pairing: Pairing::Interleaved, theta: None, norm: QkNorm::LayerNorm("use_qk_norm"), ..LLAMA
    })),
    ("cohere2", Model::Decoder(Family {
        pairing: Pairing::Interleaved, theta: None, turns: Turns::Sliding, head_dim: HeadDim::Repeated,
        windows: Windows::AllBut(4), norm: QkNorm::LayerNorm("use_qk_norm"),
        fixed: &[
            ("rotary_pct", Fixed::Number(1.0)), ("position_embedding_type", Fixed::Text("rope_gptj")),
            ("order_of_interleaved_layers", Fixed::Text("local_attn_first")),
        ], ..LLAMA
    })),
    ("glm", Model::Decoder(Family {
        pairing: Pairing::Interleaved, partial: Partial::Required(PARTIAL), head_dim: HeadDim::Required,
        kv_heads: KvHeads::Class(2), ..LLAMA
    })),
    ("gemma", Model::Decoder(Family { head_dim: HeadDim::Required, kv_heads: KvHeads::Class(16), ..LLAMA })),
    ("gemma2", Model::Decoder(Family {
        head_dim: HeadDim::Required, kv_heads: KvHeads::Class(4), windows: Windows::AllBut(2),
        scale: Scale::QueryPreAttnScalar, cap: Cap::Required, ..LLAMA
    })),
    ("gemma3", Model::Composite { text: "gemma3_text", flat: false }),
    ("gemma3_text", Model::Decoder(Family {
        theta: Some(1e6), dictionary: Dictionary::Local, head_dim: HeadDim::Required, kv_heads: KvHeads::Class(4),
        windows: Windows::AllBut(6), norm: QkNorm::Rms(1e-6), scale: Scale::QueryPreAttnScalar, cap: Cap::Optional,
        bidirectional: true, ..LLAMA
    })),
    ("gemma4", Model::Composite { text: "gemma4_text", flat: false }),
    // "vision" lets the tokens of one image see each other: a dense mask that the caller adds.
    ("gemma4_text", Model::Decoder(Family {
        theta: None, theta_keys: &[], dictionary: Dictionary::ByLayer, partial: Partial::Optional,
        head_dim: HeadDim::ByLayer, kv_heads: KvHeads::Class(4), windows: Windows::AllBut(6), norm: QkNorm::Rms(1e-6),
        scale: Scale::One, fixed: &[("use_bidirectional_attention", Fixed::Text("vision"))], ..LLAMA
    })),
    ("gpt_oss", Model::Decoder(Family {
        theta: Some(150_000.0), dictionary: Dictionary::Required, head_dim: HeadDim::Required,
        kv_heads: KvHeads::Class(8), windows: Windows::AllBut(2), sinks: true, ..LLAMA
    })),
    ("llama4", Model::Composite { text: "llama4_text", flat: false }),
    ("llama4_text", Model::Decoder(Family {
        pairing: Pairing::Interleaved, theta: Some(500_000.0), turns: Turns::Listed, head_dim: HeadDim::Required,
        kv_heads: KvHeads::Class(8), windows: Windows::Chunks, norm: QkNorm::AfterRotation, ..LLAMA
    })),
    ("deepseek_v2", Model::Latent(Pairing::Interleaved)),
    ("deepseek_v3", Model::Latent(Pairing::InterleavedInHalfOut)),
    ("gptj", Model::Other(other::gptj)),
    ("falcon", Model::Other(other::falcon)),
    ("roformer", Model::Other(other::roformer)),
    ("t5", Model::Other(other::t5)),
    ("mt5", Model::Other(other::t5)),
    ("umt5", Model::Other(other::t5)),
    ("pix2struct", Model::Composite { text: "pix2struct_text_model", flat: false }),
    ("pix2struct_text_model", Model::Other(other::pix2struct)),
    ("mpnet", Model::Other(other::mpnet)),
    ("bloom", Model::Other(other::bloom)),
    ("mpt", Model::Other(other::mpt)),
    ("gpt2", Model::Other(other::gpt2)),
    ("opt", Model::Other(other::opt)),
    ("bert", Model::Other(other::bert)),
    ("roberta", Model::Other(other::bert)),
    ("xlm-roberta", Model::Other(other::bert)),
    ("deberta", Model::Other(|c, o| other::deberta(c, o, false))),
    ("deberta-v2", Model::Other(|c, o| other::deberta(c, o, true))),
    ("xlnet", Model::Other(other::xlnet)),
    ("transfo-xl", Model::Other(other::transfo_xl)),
    ("swin", Model::Other(|c, o| other::swin(c, o, false))),
    ("swinv2", Model::Other(|c, o| other::swin(c, o, true))),
    ("beit", Model::Other(other::beit)),
];

const QWEN2: Family = Family { kv_heads: KvHeads::Class(32), windows: Windows::From, ..LLAMA };

const QWEN3: Family = Family { head_dim: HeadDim::Required, norm: QkNorm::Rms(1e-6), ..QWEN2 };

/// Keys that change attention in some model. One that is set (neither `null` nor `false`) and that the family does not
/// read is an error: the file means something that the spec would not do.
const ATTENTION_KEYS: &[&str] = &[
    "alibi",
    "attention_chunk_size",
    "attention_multiplier",
    "attn_config",
    "attn_logit_softcapping",
    "attn_temperature_tuning",
    "clamp_len",
    "freq_allocation",
    "global_head_dim",
    "head_dim",
    "kv_lora_rank",
    "layer_types",
    "mrope_section",
    "multi_query",
    "new_decoder_architecture",
    "no_rope_layer_interval",
    "no_rope_layers",
    "num_global_key_value_heads",
    "num_key_value_heads",
    "num_kv_heads",
    "partial_rotary_factor",
    "per_layer_config",
    "pos_att_type",
    "position_buckets",
    "qk_layernorm",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "query_pre_attn_scalar",
    "relative_attention",
    "relative_attention_max_distance",
    "relative_attention_num_buckets",
    "rope_3d",
    "rope_interleave",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_pct",
    "rope_ratio",
    "rope_scaling",
    "rope_theta",
    "rotary_dim",
    "rotary_emb_base",
    "rotary_pct",
    "rotary_value",
    "scale_attn_by_inverse_layer_idx",
    "sliding_window",
    "sliding_window_pattern",
    "talking_head",
    "use_bidirectional_attention",
    "use_logn_attn",
    "use_qk_norm",
    "use_relative_position_bias",
    "use_shared_relative_position_bias",
    "use_sliding_window",
];

/// The `model_type` of every configuration that [`Spec::from_hf_config`] reads.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(name, _)| *name)
}

impl Spec {
    /// Reads a Hugging Face `config.json`: [`Spec::from_hf_config_with`] and no options.
    ///
    /// ```
    /// use ropewalk::{Mask, Spec};
    /// let spec = Spec::from_hf_config(
    ///     r#"{"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    ///         "rope_theta": 500000.0}"#,
    /// )?;
    /// assert_eq!((spec.num_heads, spec.num_kv_heads, spec.head_dim), (32, 8, 128));
    /// assert_eq!(spec.mask, Mask::causal());
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Spec::from_hf_config_with`].
    pub fn from_hf_config(json: &str) -> Result<Spec> {
        Self::from_hf_config_with(json, &ConfigOptions::default())
    }

    /// Reads a Hugging Face `config.json` of one of [`model_types`].
    ///
    /// | from the file | to the spec |
    /// |---|---|
    /// | `num_attention_heads`, `num_key_value_heads`, `head_dim` or `hidden_size` / heads, or what the model calls them | heads and sizes |
    /// | `rope_theta` (GPT-NeoX: `rotary_emb_base`; GPT-J, RoFormer: 10 000) | theta |
    /// | `rope_scaling` or `rope_parameters`, by layer type too | frequencies and attention factor, by [`RopeScaling`](crate::RopeScaling) |
    /// | `mrope_section` (Qwen2-VL: in a row; Qwen3-VL, Ernie 4.5 VL: by turns) | `rotary.streams`, positions by id |
    /// | `partial_rotary_factor` (GPT-NeoX: `rotary_pct`), `rotary_dim` (GPT-J), `qk_rope_head_dim` (DeepSeek: after the others) | `rotary_dim`, `offset` |
    /// | the family | pairing: interleaved for GPT-J, RoFormer, Cohere, GLM, Ernie, Llama 4, DeepSeek-V2; read so and written in halves for DeepSeek-V3 (`rope_interleave`); half for the others |
    /// | `query_pre_attn_scalar` (Gemma 2, 3), `mscale_all_dim` (DeepSeek), the family (T5, Gemma 4: 1; DeBERTa: its terms) | `softmax_scale` |
    /// | `attn_logit_softcapping` (Gemma 2, 3) | `logits_soft_cap` |
    /// | `sliding_window` w, on the layers that have one | `window_left` = w - 1: w keys, the query's own included |
    /// | `attention_chunk_size`, `no_rope_layers`, `attn_scale`, `floor_scale`, `use_qk_norm` (Llama 4) | `mask.chunk`; no rotation and `temperature`; `norm` after rotation |
    /// | Qwen 3, Gemma 3 and 4 | `norm` before rotation, with weights; Gemma 3 stores them less 1. Gemma 4's norm of v is the caller's |
    /// | GPT-OSS | `sink` |
    /// | `rotary_value` (RoFormer) | `rotary.values` |
    /// | `relative_attention_num_buckets`, `relative_attention_max_distance` (T5, Pix2Struct; MPNet: 128) | [`Bias::T5`](crate::Bias::T5) |
    /// | BLOOM; MPT (`alibi_bias_max`); Falcon with `alibi` | [`Bias::Alibi`](crate::Bias::Alibi) |
    /// | `position_embedding_type` (BERT, RoBERTa): `relative_key`, `relative_key_query` | A, B over m - n |
    /// | `pos_att_type`, `position_buckets`, `max_relative_positions` (DeBERTa) | A (c2p), B (p2c), with log buckets from v2 on |
    /// | XLNet (`clamp_len`, `attn_type`), Transformer-XL (`clamp_len`, `mem_len`, `same_length`) | `content_bias`, A with a query bias, segments, window |
    /// | `window_size`, `image_size`, `patch_size` (Swin, BEiT) | [`Bias::Indexed`](crate::Bias::Indexed) over a grid; shifted Swin blocks: one over segments too, `[0, -100]` (Swin v2: -200) for every head; Swin v2: [`Bias::LogCpb`](crate::Bias::LogCpb), cosine `norm`, `head_scale` |
    ///
    /// BERT and RoBERTa with absolute positions, GPT-2 and OPT add them to the embeddings before the first layer: their
    /// attention has no position term, and the spec is plain. A composite model (Gemma 3, Llama 4, Qwen-VL, ...) gives
    /// its text model. Positions are indices unless they have several streams; decoders are causal, aligned
    /// bottom-right. Projections, norms elsewhere and dropout are not part of a spec.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the key: an unknown `model_type` or `rope_type`, an unknown key in a rope
    /// dictionary, a missing size, two keys that disagree, a layer needed or out of range, a feature that no spec has
    /// (a layer norm of q and k, ...). [`Error::Spec`](crate::Error::Spec) where the result is not a valid spec (heads of more than 256
    /// elements: Gemma 4's global layers).
    pub fn from_hf_config_with(json: &str, options: &ConfigOptions) -> Result<Spec> {
        let file = parse(json)?;
        let whole = dictionary("", &file)?;
        let (model_type, model) = model(&whole, None)?;
        let (c, text, model) = match model {
            Model::Composite { text, flat } => match whole.get("text_config") {
                None if *flat => (dictionary("", &file)?, *text, lookup(text)),
                None => return Err(whole.error("text_config", "is missing", format!("{model_type} has one"))),
                Some(value) => {
                    let c = dictionary("text_config", value)?;
                    let (text, model) = self::model(&c, Some(text))?;
                    (c, text, Some(model))
                }
            },
            model => (dictionary("", &file)?, model_type, Some(model)),
        };
        let mut spec = match model {
            Some(Model::Decoder(family)) => family.read(&c, options)?,
            Some(Model::Latent(pairing)) => other::mla(&c, options, *pairing)?,
            Some(Model::Other(read)) => read(&c, options)?,
            Some(Model::Composite { .. }) | None => {
                return Err(c.error("model_type", format!("is {text} within {model_type}"), "give the text model"));
            }
        };
        let matters = |key: &str, value: &Value| {
            ATTENTION_KEYS.contains(&key) && !matches!(value, Value::Null | Value::Bool(false))
        };
        if let Some((key, value)) = c.unread().find(|(key, value)| matters(key, value)) {
            return Err(c.error(
                key,
                format!("is {}, which {text} does not have", shown(value)),
                "remove the key, or correct model_type",
            ));
        }
        let beside = |(key, value): &(&str, &Value)| matters(key, value) && c.peek(key) != Some(*value);
        if let Some((key, value)) = whole.unread().find(beside) {
            let help = "keep the text model's, in text_config";
            return Err(whole.error(key, format!("is {} beside text_config", shown(value)), help));
        }
        if options.config_dtype {
            spec.dtype = dtype(&c)?.or(dtype(&whole)?).unwrap_or(Dtype::F32);
        }
        spec.validate()?;
        Ok(spec)
    }
}

fn lookup(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|(known, _)| *known == name).map(|(_, model)| model)
}

/// The model that a dictionary names; within another, which has one kind of text model, it may be left out.
fn model<'a>(c: &Dict<'a>, text: Option<&'static str>) -> Result<(&'a str, &'static Model)> {
    let name = c.need("model_type", c.text("model_type").map(|name| name.or(text)))?;
    if let Some(text) = text
        && name != text
    {
        return Err(c.error("model_type", format!("is {}", shown(&name.into())), format!("here it must be {text}")));
    }
    lookup(name).map(|model| (name, model)).ok_or_else(|| {
        let known: Vec<&str> = model_types().collect();
        let nested = if c.has("text_config") { " (of a composite model, give its text_config)" } else { "" };
        let problem = format!("{} is not supported", shown(&name.into()));
        c.error("model_type", problem, format!("supported are {}{nested}", known.join(", ")))
    })
}

fn dtype(c: &Dict) -> Result<Option<Dtype>> {
    let (new, old) = (c.text("dtype")?, c.text("torch_dtype")?);
    match agree(c, "torch_dtype", new, old)? {
        None => Ok(None),
        Some("float32") => Ok(Some(Dtype::F32)),
        Some("float16") => Ok(Some(Dtype::F16)),
        Some("bfloat16") => Ok(Some(Dtype::Bf16)),
        Some(other) => Err(c.error(
            if new.is_some() { "dtype" } else { "torch_dtype" },
            format!("{other:?} is not a storage type of q, k and v"),
            "give float32, float16 or bfloat16",
        )),
    }
}
