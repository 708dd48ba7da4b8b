//! Every model type: one row a kind of attention, and the types that have it.

use crate::equation::rotary::rotary::Pairing;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::hf::dict::Dict;
use crate::hf::family::{
    BERT, Count, Cross, Family, Fixed, HeadDim, KvHeads, LATENT, LLAMA, PARTIAL, PLAIN, PLAIN_DECODER, Partial, QkNorm,
    Scale, Sees, Sinks, Tau, Turns,
};
use crate::hf::layers::{Kinds, PATTERN};
use crate::hf::patterns::*;
use crate::hf::read::ConfigOptions;
use crate::hf::rope::{Local, Sections};
use crate::hf::{other, pictures};
use std::collections::HashMap;
use std::sync::LazyLock;

/// What a model type is.
pub(crate) enum Model {
    /// One stack of this kind.
    Row(Family),
    /// One stack, whose layers a function reads; the family says stacks, layers and keys.
    Other(Family, fn(&Dict, &ConfigOptions) -> Result<Spec>),
    /// An encoder and a decoder that attends to it.
    Seq2Seq(Family, Family),
    /// The same, read by a function.
    Seq2SeqBy(Family, Family, fn(&Dict, &ConfigOptions) -> Result<Spec>),
    /// The configurations within it have the attention.
    Composite,
    /// It has no attention: what it has.
    Nothing(&'static str),
    /// Its attention is not read: what that needs.
    Refused(&'static str),
}

/// Rows by name.
static ROWS: LazyLock<HashMap<&'static str, &'static Model>> =
    LazyLock::new(|| MODELS.iter().flat_map(|(names, model)| names.iter().map(move |name| (*name, model))).collect());

/// Rows of attention beside a type's first, by that type.
static FURTHER: LazyLock<HashMap<&'static str, Vec<(&'static str, &'static Model)>>> = LazyLock::new(|| {
    let mut found: HashMap<&str, Vec<_>> = HashMap::new();
    for (names, model) in MODELS {
        for name in *names {
            if let Some(at) = name.find('#') {
                found.entry(&name[..at]).or_default().push((&name[at..], model));
            }
        }
    }
    found
});

/// The row of a model type.
pub(crate) fn lookup(name: &str) -> Option<&'static Model> {
    ROWS.get(name).copied()
}

/// Attention of a model type beside its first: rows by the name `type#part`, in the order of the table.
pub(crate) fn further(model_type: &str) -> &'static [(&'static str, &'static Model)] {
    FURTHER.get(model_type).map_or(&[], Vec::as_slice)
}

/// Older names, and those of code that came with a checkpoint, of what is the same attention by the same keys.
const SAME: &[(&str, &str)] = &[
    ("kimi_k2", "deepseek_v3"),
    ("kimi_vl", "kimi_k25"),
    ("RefinedWeb", "falcon"),
    ("RefinedWebModel", "falcon"),
    ("Yi", "llama"),
    ("yi", "llama"),
    ("internlm", "llama"),
    ("internlm2", "llama"),
    ("internlm3", "llama"),
    ("aquila", "llama"),
    ("InternLM2ForCausalLM", "llama"),
    ("deepseek", "llama"),
    ("xverse", "llama"),
    ("orion", "llama"),
    ("minicpm", "llama"),
    ("mistral-large", "mistral"),
    ("gpt-sw3", "gpt2"),
    ("exaone4_5_text", "exaone4"),
    ("smollm", "llama"),
    ("stablelm_epoch", "stablelm"),
    ("stablelm_alpha", "gpt_neox"),
    ("phi-msft", "phi"),
    ("step3_text", "llama"),
    ("iquestcoder", "llama"),
];

/// The newer name of a model type.
pub(crate) fn same(name: &str) -> &str {
    SAME.iter().find(|(older, _)| *older == name).map_or(name, |(_, newer)| newer)
}

const QWEN2: Family = Family { kinds: Kinds::From(Some("use_sliding_window")), ..LLAMA };
const QWEN3: Family = Family { norm: QkNorm::Rms("rms_norm_eps"), ..QWEN2 };
const MROPE: Sections = Sections::Contiguous(Some([16, 24, 24]));
const GLM_MROPE: Sections = Sections::Contiguous(Some([8, 12, 12]));
const GEMMA_LOCAL: Local = Local::Theta { full: "rope_theta", sliding: "rope_local_base_freq", both: false };
const BERT_LOCAL: Local = Local::Theta { full: "global_rope_theta", sliding: "local_rope_theta", both: true };
const GEMMA3: Family = Family {
    local: GEMMA_LOCAL,
    kinds: Kinds::AllBut { n: 6, keys: PATTERN, last: false },
    norm: QkNorm::Rms("rms_norm_eps"),
    scale: Scale::Root("query_pre_attn_scalar"),
    cap: Some("attn_logit_softcapping"),
    bidirectional: true,
    ..LLAMA
};
const GEMMA4: Family = Family {
    theta: &[],
    local: Local::Nested,
    partial: PARTIAL,
    head_dim: HeadDim::ByLayer,
    kinds: Kinds::AllBut { n: 6, keys: PATTERN, last: true },
    norm: QkNorm::Rms("rms_norm_eps"),
    scale: Scale::One,
    bidirectional: true,
    ..LLAMA
};
const COHERE2: Family = Family {
    pairing: Pairing::Interleaved,
    turns: Turns::With(cohere2),
    head_dim: HeadDim::Repeated,
    kinds: Kinds::With(cohere2_kinds),
    norm: QkNorm::LayerNorm(Some("use_qk_norm")),
    fixed: &[
        ("rotary_pct", Fixed::Number(1.0)),
        ("position_embedding_type", Fixed::Text("rope_gptj")),
        ("order_of_interleaved_layers", Fixed::Text("local_attn_first")),
    ],
    ..LLAMA
};
const GRANITE: Family = Family { scale: Scale::Key("attention_multiplier"), ..LLAMA };
const INDEXED: Family = Family { kinds: Kinds::Indexed, ..LATENT };
const HYBRID: Kinds = Kinds::With(layers_by_interval);
const GPT2: Family = Family { scale: Scale::With(gpt2_scale), cross: Cross::Flag, ..PLAIN_DECODER };
const FIRST_OF_FOUR: Kinds = Kinds::AfterFirst { n: 4, keys: &[] };

/// Encoder and decoder with keys of their own.
const fn bart(encoder: bool) -> Family {
    let plain = Family { width: "d_model", cross: Cross::Never, ..PLAIN };
    match encoder {
        true => Family { heads: "encoder_attention_heads", count: Count::Key("encoder_layers"), ..plain },
        false => Family {
            heads: "decoder_attention_heads",
            count: Count::Key("decoder_layers"),
            sees: Sees::Past,
            cross: Cross::Always,
            ..plain
        },
    }
}

/// Attention of pictures' and sounds' towers under other keys.
const fn tower(heads: &'static str, width: &'static str, count: &'static str) -> Family {
    Family { heads, width, count: Count::Key(count), ..PLAIN }
}

/// Every model type that is known.
#[rustfmt::skip]
pub(crate) const MODELS: &[(&[&str], Model)] = &[
    // rotary decoders: half pairs over whole heads
    (&["llama", "arcee", "aria_text", "bitnet", "emu3_text_model", "higgs_audio_v2", "jais2",
       "solar_open", "deepseek_ocr2_text", "seed_oss", "csm", "csm_depth_decoder_model", "voxtral_text"],
        Model::Row(LLAMA)),
    (&["phimoe"], Model::Row(Family { longrope_mscale: true, kinds: Kinds::Every(None), ..LLAMA })),
    (&["nanochat"], Model::Row(Family { backwards: true, norm: QkNorm::BareAfter("rms_norm_eps"), ..LLAMA })),
    (&["apertus", "apertus1p5_text", "hy_v3"], Model::Row(Family { norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA })),
    (&["hunyuan_v1_dense", "hunyuan_v1_moe"],
        Model::Row(Family { norm: QkNorm::After("", "rms_norm_eps"), alpha: true, ..LLAMA })),
    (&["granite", "granitemoe", "granitemoeshared", "granite4_vision_text", "granite_docling_text"], Model::Row(GRANITE)),
    (&["hyperclovax"], Model::Row(Family { scale: Scale::With(multiplier_or_root), ..LLAMA })),
    (&["olmo"], Model::Row(Family { fixed: &[("clip_qkv", Fixed::Absent("limits of q, k and v"))], ..LLAMA })),
    (&["mistral", "mixtral", "starcoder2", "voxtral_realtime_text"],
        Model::Row(Family { kinds: Kinds::Every(None), ..LLAMA })),
    (&["ministral3"], Model::Row(Family { kinds: Kinds::Every(None), temperature: Tau::Ministral, ..LLAMA })),
    (&["ministral"], Model::Row(Family { kinds: Kinds::With(ministral), ..LLAMA })),
    (&["moshi", "kyutai_speech_to_text"], Model::Row(Family { kinds: Kinds::With(window_aside), ..LLAMA })),
    (&["qwen2", "deepseek_ocr2_encoder"], Model::Row(QWEN2)),
    (&["qwen2_moe"], Model::Row(Family { kinds: Kinds::Below, ..LLAMA })),
    (&["qwen3"], Model::Row(QWEN3)),
    (&["qwen3_moe"], Model::Row(Family { kinds: Kinds::Every(Some("use_sliding_window")), ..QWEN3 })),
    (&["dots1"], Model::Row(Family { kinds: Kinds::From(None), ..QWEN3 })),
    (&["smollm3"], Model::Row(Family { kinds: Kinds::With(smollm3), turns: Turns::Listed, ..LLAMA })),
    (&["cwm"], Model::Row(Family { kinds: FIRST_OF_FOUR, ..LLAMA })),
    (&["mllama_text_model"], Model::Row(Family { kinds: Kinds::With(mllama), ..LLAMA })),
    (&["unlimited_ocr_text"], Model::Row(Family { kinds: Kinds::With(unlimited), choice: "sliding_window", ..LLAMA })),
    // part of a head
    (&["gpt_neox", "gpt_neox_japanese"], Model::Row(Family {
        theta: &["rotary_emb_base", "rope_theta"], partial: Partial::Share(&["rotary_pct", "partial_rotary_factor"]),
        head_dim: HeadDim::Quotient, kv_heads: KvHeads::Never, ..LLAMA
    })),
    (&["phi"], Model::Row(Family { partial: PARTIAL, fixed: &[("rotary_dim", Fixed::Share)], norm: QkNorm::LayerNorm(Some("qk_layernorm")), ..LLAMA })),
    (&["persimmon"], Model::Row(Family {
        partial: PARTIAL, kv_heads: KvHeads::Never, head_dim: HeadDim::Quotient,
        norm: QkNorm::LayerNorm(Some("qk_layernorm")), ..LLAMA
    })),
    (&["phi3", "phi4_multimodal"], Model::Row(Family { partial: PARTIAL, kinds: Kinds::Every(None), ..LLAMA })),
    (&["stablelm"], Model::Row(Family {
        partial: Partial::Share(&["partial_rotary_factor", "rope_pct"]), norm: QkNorm::LayerNorm(Some("qk_layernorm")),
        ..LLAMA
    })),
    (&["nemotron"], Model::Row(Family { partial: PARTIAL, ..LLAMA })),
    (&["glm4_moe"], Model::Row(Family {
        head_dim: HeadDim::Floor, partial: PARTIAL, norm: QkNorm::RmsIf("use_qk_norm", "rms_norm_eps"), ..LLAMA
    })),
    (&["minimax_m3_vl_text"], Model::Row(Family {
        partial: PARTIAL, norm: QkNorm::Rms("rms_norm_eps"), kinds: Kinds::With(minimax_m3), ..LLAMA
    })),
    (&["minimax_m2"], Model::Row(Family {
        partial: Partial::Elements("rotary_dim"), norm: QkNorm::Width, ..LLAMA
    })),
    // interleaved pairs
    (&["gptj", "codegen"], Model::Row(Family {
        pairing: Pairing::Interleaved, partial: Partial::Elements("rotary_dim"), kv_heads: KvHeads::Never,
        head_dim: HeadDim::Quotient, base: Some(1e4), theta: &[],
        fixed: &[("scale_attn_weights", Fixed::Flag(true))], ..LLAMA
    })),
    (&["ernie4_5", "ernie4_5_moe", "helium"], Model::Row(Family { pairing: Pairing::Interleaved, ..LLAMA })),
    (&["glm", "glm4"], Model::Row(Family { pairing: Pairing::Interleaved, partial: PARTIAL, ..LLAMA })),
    (&["cohere"], Model::Row(Family {
        pairing: Pairing::Interleaved, norm: QkNorm::LayerNorm(Some("use_qk_norm")), ..LLAMA
    })),
    (&["cohere2"], Model::Row(COHERE2)),
    (&["cohere2_moe"], Model::Row(Family { head_dim: HeadDim::Own, ..COHERE2 })),
    // norms over all heads together
    (&["olmo2", "flex_olmo"], Model::Row(Family { norm: QkNorm::Width, ..LLAMA })),
    (&["olmoe"], Model::Row(Family {
        norm: QkNorm::Width, fixed: &[("clip_qkv", Fixed::Absent("limits of q, k and v"))], ..LLAMA
    })),
    (&["olmo3"], Model::Row(Family {
        norm: QkNorm::Width, kinds: Kinds::AllBut { n: 4, keys: &[], last: false },
        local: Local::Theta { full: "rope_theta", sliding: "rope_theta", both: false }, ..LLAMA
    })),
    // several position streams
    (&["qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "qwen2_5_omni_talker"],
        Model::Row(Family { sections: MROPE, ..QWEN2 })),
    (&["paddleocr_vl_text"], Model::Row(Family { sections: MROPE, ..LLAMA })),
    (&["qwen3_vl_text", "qwen3_vl_moe_text", "qwen3_omni_moe_text", "qwen3_omni_moe_talker_text"], Model::Row(Family {
        sections: Sections::ByTurns([24, 20, 20]), kinds: Kinds::Every(Some("use_sliding_window")),
        head_dim: HeadDim::Floor, ..QWEN3
    })),
    (&["qwen3_omni_moe_talker_code_predictor"], Model::Row(Family { kinds: Kinds::From(None), ..QWEN3 })),
    (&["cosmos3_edge_text"], Model::Row(Family { sections: Sections::ByTurns([24, 20, 20]), ..LLAMA })),
    (&["glm4v_moe_text"], Model::Row(Family { head_dim: HeadDim::Floor, sections: GLM_MROPE, partial: PARTIAL, ..LLAMA })),
    (&["glm4v_text", "glm_ocr_text"], Model::Row(Family {
        sections: GLM_MROPE, partial: PARTIAL, pairing: Pairing::Interleaved, ..LLAMA
    })),
    (&["glm_image_text"], Model::Row(Family { sections: GLM_MROPE, partial: PARTIAL, ..LLAMA })),
    (&["ernie4_5_vl_moe_text"], Model::Row(Family {
        pairing: Pairing::Interleaved, sections: Sections::Ernie([22, 22, 20]), ..LLAMA
    })),
    // windows
    (&["gemma"], Model::Row(Family { prefix: true, ..LLAMA })),
    (&["gemma2", "vaultgemma"], Model::Row(Family {
        kinds: Kinds::AllBut { n: 2, keys: &[], last: false }, scale: Scale::Root("query_pre_attn_scalar"),
        cap: Some("attn_logit_softcapping"), ..LLAMA
    })),
    (&["t5_gemma_module"], Model::Row(Family {
        kinds: Kinds::AllBut { n: 2, keys: &[], last: false }, scale: Scale::Root("query_pre_attn_scalar"),
        cap: Some("attn_logit_softcapping"), sees: Sees::Decoder("is_decoder"), cross: Cross::Decoder, ..LLAMA
    })),
    (&["gemma3_text"], Model::Row(GEMMA3)),
    (&["t5gemma2_text"], Model::Row(Family { bidirectional: false, sees: Sees::All, ..GEMMA3 })),
    (&["t5gemma2_decoder"], Model::Row(Family { bidirectional: false, merged: true, ..GEMMA3 })),
    (&["gemma3n_text"], Model::Row(Family {
        kinds: Kinds::AllBut { n: 5, keys: &[], last: false }, scale: Scale::One, cap: None, bidirectional: false, ..GEMMA3
    })),
    (&["gemma4_text", "gemma4_unified_text"], Model::Row(GEMMA4)),
    (&["embedding_gemma2_text"], Model::Row(Family { bidirectional: false, sees: Sees::All, ..GEMMA4 })),
    (&["gpt_oss"], Model::Row(Family {
        kinds: Kinds::AllBut { n: 2, keys: &[], last: false }, sinks: Sinks::Always, ..LLAMA
    })),
    (&["openai_privacy_filter"], Model::Row(Family {
        kinds: Kinds::Every(None), pairing: Pairing::Interleaved, sinks: Sinks::Always, sees: Sees::All, ..LLAMA
    })),
    (&["granite_swa", "granitemoe_swa"], Model::Row(Family {
        kinds: FIRST_OF_FOUR, sinks: Sinks::Always, turns: Turns::With(by_layer_theta), ..GRANITE
    })),
    (&["mimo_v2_flash"], Model::Row(Family {
        kinds: Kinds::With(mimo), sinks: Sinks::Sliding, local: Local::Nested, partial: PARTIAL,
        value_dim: Some("v_head_dim"), ..LLAMA
    })),
    (&["flint"], Model::Row(Family {
        kinds: Kinds::With(flint), sinks: Sinks::Always, turns: Turns::Sliding, norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA
    })),
    (&["exaone4", "exaone_moe"], Model::Row(Family {
        kinds: Kinds::With(exaone4), turns: Turns::SlidingOrNone, norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA
    })),
    (&["kolibri1"], Model::Row(Family {
        kinds: Kinds::AllBut { n: 5, keys: &[], last: false }, turns: Turns::SlidingOrNone,
        norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA
    })),
    (&["afmoe"], Model::Row(Family {
        kinds: Kinds::AllBut { n: 4, keys: &["global_attn_every_n_layers"], last: false }, turns: Turns::Sliding,
        norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA
    })),
    (&["mellum"], Model::Row(Family {
        kinds: Kinds::With(all_full), local: Local::Nested, norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA
    })),
    (&["laguna"], Model::Row(Family {
        kinds: Kinds::With(all_full), local: Local::Nested, norm: QkNorm::Rms("rms_norm_eps"), partial: PARTIAL,
        heads_by_layer: Some("num_attention_heads_per_layer"), ..LLAMA
    })),
    (&["muse_spark_text", "muse_glimmer_text"], Model::Row(Family {
        kinds: Kinds::With(muse), turns: Turns::With(muse_turns), norm: QkNorm::Bare("rms_norm_eps"),
        scale: Scale::OfNorm("qk_scale_factor"), ..LLAMA
    })),
    (&["llama4_text"], Model::Row(Family {
        pairing: Pairing::Interleaved, turns: Turns::Listed, kinds: Kinds::Chunks, norm: QkNorm::Turned,
        temperature: Tau::Llama4, ..LLAMA
    })),
    (&["zaya"], Model::Row(Family { kinds: Kinds::With(all_full), local: Local::Nested, partial: PARTIAL, ..LLAMA })),
    (&["modernbert-decoder"], Model::Row(Family {
        kinds: Kinds::AfterFirst { n: 3, keys: &["global_attn_every_n_layers"] }, local: BERT_LOCAL, half_window: true,
        window: "local_attention", kv_heads: KvHeads::Never, head_dim: HeadDim::Quotient, ..LLAMA
    })),
    // layers without attention between
    (&["jamba"], Model::Row(Family { kinds: Kinds::With(jamba), turns: Turns::Never, ..LLAMA })),
    (&["nemotron_h"], Model::Row(Family { kinds: Kinds::With(nemotron_h), turns: Turns::Never,
        count: Count::Or("num_hidden_layers", 4), ..LLAMA })),
    (&["falcon_h1"], Model::Row(Family { scale: Scale::Times("key_multiplier"), kinds: Kinds::With(all_full), ..LLAMA })),
    (&["granitemoehybrid"], Model::Row(Family {
        kinds: Kinds::With(all_linear), turns: Turns::With(nope_named), ..GRANITE
    })),
    (&["bamba"], Model::Row(Family { kinds: Kinds::With(bamba), partial: PARTIAL, ..LLAMA })),
    (&["lfm2", "lfm2_moe"], Model::Row(Family { kinds: Kinds::With(lfm2), norm: QkNorm::Rms("norm_eps"), ..LLAMA })),
    (&["lfm3"], Model::Row(Family {
        kinds: Kinds::With(lfm3), norm: QkNorm::Rms("norm_eps"), local: Local::Nested, partial: PARTIAL, ..LLAMA
    })),
    (&["qwen3_next"], Model::Row(Family {
        kinds: HYBRID, partial: PARTIAL, norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA
    })),
    (&["qwen3_5_text", "qwen3_5_moe_text"], Model::Row(Family {
        kinds: HYBRID, partial: PARTIAL, norm: QkNorm::Rms("rms_norm_eps"), sections: Sections::ByTurns([11, 11, 10]), ..LLAMA
    })),
    (&["minimax"], Model::Row(Family { kinds: Kinds::With(minimax), partial: PARTIAL, ..LLAMA })),
    (&["olmo_hybrid"], Model::Row(Family {
        kinds: Kinds::With(olmo_hybrid), norm: QkNorm::Width, ..LLAMA
    })),
    (&["lara_mini"], Model::Row(Family { kinds: Kinds::With(lara), norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA })),
    (&["recurrent_gemma"], Model::Row(Family {
        kinds: Kinds::With(recurrent), partial: PARTIAL, ..LLAMA
    })),
    // latent attention
    (&["deepseek_v2"], Model::Row(Family { pairing: Pairing::Interleaved, ..LATENT })),
    (&["deepseek_v3", "axk1", "glm4_moe_lite", "youtu"], Model::Row(LATENT)),
    (&["longcat_flash"], Model::Row(Family { count: Count::Key("num_layers"), ..LATENT })),
    (&["mistral4"], Model::Row(Family { temperature: Tau::Ministral, ..LATENT })),
    (&["axk2", "deepseek_v32", "glm_moe_dsa"], Model::Row(INDEXED)),
    (&["dots3_note_text"], Model::Row(Family { kinds: Kinds::With(dots3), usual_window: Some(512), local: Local::Nested, theta: &[], ..INDEXED })),
    (&["hy_v4"], Model::Row(Family { pairing: Pairing::Half, sinks: Sinks::Always, ..INDEXED })),
    (&["minicpm3"], Model::Row(Family { pairing: Pairing::Half, ..LATENT })),
    // rotary encoders
    (&["eurobert"], Model::Row(Family { sees: Sees::All, ..LLAMA })),
    (&["pe_audio_encoder", "pe_video_encoder", "pe_audio_video_encoder"], Model::Row(Family {
        sees: Sees::All, pairing: Pairing::Interleaved, norm: QkNorm::Rms("rms_norm_eps"), ..LLAMA
    })),
    (&["nemotron3_5_transcribe_asr_audio", "nemotron3_5_transcribe_word_timestamp"], Model::Row(Family {
        sees: Sees::All, partial: PARTIAL, norm: QkNorm::LayerNorm(None), ..LLAMA
    })),
    (&["cohere_compass_text"], Model::Row(Family {
        kinds: Kinds::With(compass), sections: Sections::ByTurns([24, 20, 20]), local: Local::Nested,
        fixed: &[("rope_parameters", Fixed::Absent("published rotations to compare with"))], ..LLAMA
    })),
    (&["hy_v4_vl_text"], Model::Row(Family {
        pairing: Pairing::Interleaved, sinks: Sinks::Always, sections: Sections::ByTurns([24, 20, 20]), ..INDEXED
    })),
    (&["hrm_text"], Model::Row(Family { kv_heads: KvHeads::Never, ..LLAMA })),
    (&["qwen4_exp_text"], Model::Row(Family {
        kinds: Kinds::With(qwen4), partial: PARTIAL, norm: QkNorm::Rms("rms_norm_eps"), choice: "indexer_topk", ..LLAMA
    })),
    (&["gte", "jina_embeddings_v3", "nomic_bert"], Model::Row(Family {
        sees: Sees::All, kv_heads: KvHeads::Never, ..LLAMA
    })),
    (&["modernbert"], Model::Row(Family {
        kinds: Kinds::AfterFirst { n: 3, keys: &["global_attn_every_n_layers"] }, local: BERT_LOCAL, half_window: true,
        window: "local_attention", sees: Sees::All, kv_heads: KvHeads::Never, head_dim: HeadDim::Quotient, ..LLAMA
    })),
    (&["neomme"], Model::Row(Family {
        kinds: Kinds::With(neomme), local: Local::Nested, theta: &["rope_theta"], partial: PARTIAL, sees: Sees::All,
        norm: QkNorm::Bare("norm_eps"), ..LLAMA
    })),
    (&["esm"], Model::Row(Family {
        turns: Turns::Text("position_embedding_type", "rotary"), sees: Sees::Decoder("is_decoder"), cross: Cross::Flag,
        kv_heads: KvHeads::Never, head_dim: HeadDim::Quotient, scale: Scale::One, ..LLAMA
    })),
    (&["roformer"], Model::Other(BERT, other::roformer)),
    // relative positions and biases
    (&["t5", "mt5", "umt5", "switch_transformers"], Model::Seq2SeqBy(T5, T5_DECODER, other::t5)),
    (&["pix2struct_text_model"],
        Model::Other(Family { sees: Sees::Past, cross: Cross::Always, ..T5 }, other::t5)),
    (&["mpnet"], Model::Other(PLAIN, other::mpnet)),
    (&["bloom"], Model::Other(PLAIN_DECODER, other::bloom)),
    (&["mpt"], Model::Other(PLAIN_DECODER, other::mpt)),
    (&["falcon"], Model::Other(PLAIN_DECODER, other::falcon)),
    (&["deberta"], Model::Other(PLAIN, |c, o| other::deberta(c, o, false))),
    (&["deberta-v2"], Model::Other(PLAIN, |c, o| other::deberta(c, o, true))),
    (&["xlnet"], Model::Other(Family { sees: Sees::Unless("attn_type", "uni"), ..PLAIN }, other::xlnet)),
    (&["transfo-xl"], Model::Other(Family { count: Count::Key("n_layer"), ..PLAIN_DECODER }, other::transfo_xl)),
    (&["swin"], Model::Other(SWIN, |c, o| other::swin(c, o, false, true))),
    (&["swinv2"], Model::Other(SWIN, |c, o| other::swin(c, o, true, true))),
    (&["swin2sr"], Model::Other(SWIN, |c, o| other::swin(c, o, true, false))),
    (&["hiera"], Model::Other(SWIN, |c, o| {
        pictures::stages(c, o, ["depths", "num_heads", "embed_dim"], [&[], &[], &[]])
    })),
    (&["pvt"], Model::Other(SWIN, |c, o| {
        pictures::stages(c, o, ["depths", "num_attention_heads", "hidden_sizes"], [&[], &[], &[]])
    })),
    (&["sam2_hiera_det_model"], Model::Other(Family { count: Count::Or("num_hidden_layers", 12), ..SWIN }, |c, o| {
        let keys = ["blocks_per_stage", "num_attention_heads_per_stage", "embed_dim_per_stage"];
        pictures::stages(c, o, keys, [&[1, 2, 7, 2], &[1, 2, 4, 8], &[96, 192, 384, 768]])
    })),
    (&["sam2_video", "sam3_tracker_video", "edgetam_video"],
        Model::Other(Family { count: Count::Key("memory_attention_num_layers"), ..PLAIN }, pictures::memory)),
    (&["beit"], Model::Other(PLAIN, other::beit)),
    // absolute positions: plain
    (&["bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "data2vec-text", "bert-generation",
       "roberta-prelayernorm", "xlm-roberta-xl", "xmod", "megatron-bert", "rembert", "roc_bert", "bridgetower_text_model"],
        Model::Other(BERT, other::bert)),
    (&["albert", "align_text_model", "canine", "clap_text_model", "flava_image_model",
       "flava_text_model", "flava_multimodal_model", "ibert", "layoutlm", "luke", "markuplm", "splinter",
       "squeezebert", "tapas", "tipsv2_text_model", "vilt", "visual_bert", "distilbert", "siglip_text_model", "audio-spectrogram-transformer",
       "deit", "vit", "vit_mae", "vit_msn", "ijepa", "dinov2", "dinov2_with_registers", "aimv2_vision_model",
       "altclip_vision_model", "blip_vision_model", "chinese_clip_vision_model", "clip_vision_model",
       "clipseg_vision_model", "git_vision_model", "janus_vision_model", "owlv2_vision_model", "owlvit_vision_model",
       "xclip_vision_model", "metaclip_2_vision_model", "siglip_vision_model", "data2vec-audio", "hubert", "unispeech",
       "unispeech-sat", "wav2vec2", "radio", "blip_2_vision_model", "instructblip_vision_model",
       "instructblipvideo_vision_model", "idefics2_vision", "idefics3_vision", "smolvlm_vision", "siglip2_vision_model",
       "siglip2_text_model", "kosmos_2_vision_model", "altclip_text_model", "chinese_clip_text_model", "pixio", "ovis2_vision",
       "dpt", "eomt", "videomt", "granite_docling_vision", "glm_image_vision", "mgp-str", "mllama_vision_model",
       "phi4_multimodal_vision", "yolos", "vitpose_backbone", "vivit", "videomae", "timesformer", "tipsv2_vision_model", "tvp",
       "lw_detr_vit", "rf_detr_dinov2", "sam3_lite_text_text_model", "unlimited_ocr_vision_encoder", 
       "cosmos3_edge_vision", "qwen2_audio_encoder", "voxtral_encoder", "moss_transcribe_diarize_audio",
       "audioflamingo3_encoder", "qwen2_5_omni_audio_encoder", "qwen3_omni_moe_audio_encoder", "qwen3_asr_encoder",
       "omniasr_audio", "fun_asr_nano_encoder", "sew", "minicpm_ocr_vision", "minicpmv4_6_vision", "minicpmv4_7_vision",
       "patchtst", "idefics_vision", "pp_ocrv5_mobile_rec", "pp_ocrv5_server_rec",
       "pp_ocrv6_small_rec"],
        Model::Row(PLAIN)),
    (&["sam3_geometry_encoder", "sam3_lite_text_geometry_encoder"],
        Model::Row(Family { cross: Cross::Always, count: Count::Key("num_layers"), ..PLAIN })),
    (&["sam3_mask_decoder", "sam3_lite_text_mask_decoder"], Model::Row(Family { count: Count::One, ..PLAIN })),
    (&["hunyuan_vl_vision", "hy_v4_vl_vision", "molmo2_vision", "kosmos_2_5_vision_model"],
        Model::Row(Family { kv_heads: KvHeads::Key("num_key_value_heads"), head_dim: HeadDim::Own, ..PLAIN })),
    (&["molmo2_adapter"], Model::Row(Family {
        kv_heads: KvHeads::Key("num_key_value_heads"), head_dim: HeadDim::Own, count: Count::One, ..PLAIN
    })),
    (&["bridgetower_vision_model"], Model::Other(PLAIN, pictures::sixty_fours)),
    (&["internvl_vision", "qianfan_ocr_vision"],
        Model::Row(Family { norm: QkNorm::LayerNorm(Some("use_qk_norm")), ..PLAIN })),
    (&["pix2struct_vision_model"], Model::Row(Family { scale: Scale::One, head_dim: HeadDim::Key("d_kv"), ..PLAIN })),
    (&["videoprism_vision_model"], Model::Row(Family {
        cap: Some("attn_logit_softcapping"), count: Count::Key("num_spatial_layers"), ..PLAIN
    })),
    (&["videoprism_vision_model#temporal"], Model::Row(Family {
        cap: Some("attn_logit_softcapping"), count: Count::Key("num_temporal_layers"), ..PLAIN
    })),
    (&["vit_mae#decoder", "videomae#decoder"],
        Model::Row(tower("decoder_num_attention_heads", "decoder_hidden_size", "decoder_num_hidden_layers"))),
    (&["xclip_vision_model#mit"], Model::Row(tower("mit_num_attention_heads", "mit_hidden_size", "mit_num_hidden_layers"))),
    (&["sam_mask_decoder", "sam2_mask_decoder", "sam_hq_mask_decoder", "edgetam_mask_decoder", "sam2_video_mask_decoder",
       "edgetam_video_mask_decoder", "sam3_tracker_mask_decoder", "sam3_tracker_video_mask_decoder"], Model::Row(PLAIN)),
    (&["sam_mask_decoder#cross", "sam2_mask_decoder#cross", "sam_hq_mask_decoder#cross", "edgetam_mask_decoder#cross",
       "sam2_video_mask_decoder#cross", "edgetam_video_mask_decoder#cross", "sam3_tracker_mask_decoder#cross",
       "sam3_tracker_video_mask_decoder#cross"], Model::Row(Family { head_dim: HeadDim::With(downsampled), ..PLAIN })),
    (&["sam3_detr_encoder", "sam3_detr_decoder", "sam3_lite_text_detr_encoder", "sam3_lite_text_detr_decoder"],
        Model::Row(Family { cross: Cross::Always, ..PLAIN })),
    (&["sam_prompt_encoder", "sam2_prompt_encoder", "sam_hq_prompt_encoder", "edgetam_prompt_encoder",
       "sam2_video_prompt_encoder", "edgetam_video_prompt_encoder", "sam3_tracker_prompt_encoder",
       "sam3_tracker_video_prompt_encoder", "gemma4_unified_vision", "gemma4_unified_audio", "inkling_audio",
       "muse_spark_audio", "fastspeech2_conformer_hifigan", "speecht5_hifigan", "qwen2_5_omni_bigvgan", "flava_image_codebook",
       "sapiens2_head", "rt_detr_resnet", "align_vision_model", "glm_image_vqmodel"],
        Model::Nothing("embeddings and convolutions")),
    (&["resnet", "hgnet_v2", "convnext", "convnextv2", "dac", "encodec", "superpoint", "pp_lcnet", "pp_lcnet_v3", "pp_lcnet_v4",
       "bit", "regnet", "mobilenet_v1", "mobilenet_v2", "efficientnet", "dinov3_convnext", "focalnet", "textnet",
       "poolformer", "univnet", "vibevoice_acoustic_tokenizer", "vibevoice_acoustic_tokenizer_encoder",
       "vibevoice_acoustic_tokenizer_decoder", "vibevoice_diffusion", "xcodec", "higgs_audio_v2_tokenizer", "uvdoc_backbone", "uvdoc",
       "timm_backbone", "timm_wrapper", "gemma3n_vision", "wavtokenizer_encoder"],
        Model::Nothing("convolutions, or a network of timm of which the file has the name alone")),
    (&["mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"], Model::Nothing("a state space or another recurrence")),
    // towers that rotate
    (&["qwen2_5_vl_vision", "qwen2_5_omni_vision_encoder", "qwen3_vl_vision", "qwen3_vl_moe_vision",
       "qwen3_omni_moe_vision_encoder", "qwen3_5_vision", "qwen3_5_moe_vision", "qwen4_exp_vision", "cohere_compass_vision",
       "ernie4_5_vl_moe_vision", "exaone4_5_vision", "glm4v_vision", "glm4v_moe_vision",
       "paddleocr_vl_vision", "video_llama_3_vision", "mlcd_vision_model", "muse_spark_vision",
       "muse_glimmer_vision"], Model::Other(PLAIN, pictures::axial)),
    (&["lfm3_vl_vision"], Model::Other(PLAIN, |c, o| pictures::axial_normed(c, o, "norm_eps"))),
    (&["glm_ocr_vision", "glm5_next_vision", "dots3_note_vision_encoder"],
        Model::Other(PLAIN, |c, o| pictures::axial_normed(c, o, "rms_norm_eps"))),
    (&["gemma4_vision"], Model::Other(PLAIN, pictures::gemma4)),
    (&["sapiens2"], Model::Other(PLAIN, pictures::sapiens)),
    (&["granite_speech_encoder", "granite_speech_plus_encoder", "granite_speech5_encoder"],
        Model::Other(PLAIN, pictures::granite_speech)),
    (&["qwen2_vl_vision"], Model::Other(PLAIN, pictures::axial_embed)),
    (&["step3p5_vision"], Model::Other(PLAIN, pictures::axial_columns)),
    (&["kimi_k25_vision"], Model::Other(PLAIN, pictures::axial_by_turns)),
    (&["inkling2_vision"], Model::Other(PLAIN, pictures::interleaved_columns)),
    (&["sam3_vit_model"], Model::Other(PLAIN, pictures::interleaved_rows)),
    (&["minimax_m3_vl_vision"], Model::Other(PLAIN, pictures::thirds)),
    (&["pixtral"], Model::Other(PLAIN, pictures::pixtral)),
    (&["llama4_vision_model"], Model::Other(PLAIN, pictures::llama4)),
    (&["dinov3_vit", "eomt_dinov3"], Model::Other(PLAIN, pictures::dinov3)),
    (&["sam_vision_model", "sam_hq_vision_model", "got_ocr2_vision", "slanext_vision", "pp_formulanet_vision",
       "deepseek_ocr2_sam_vision_model", "unlimited_ocr_sam_vision_model", "seggpt"], Model::Other(PLAIN, pictures::sam)),
    (&["vitdet"], Model::Row(Family {
        fixed: &[("use_relative_position_embeddings", Fixed::Absent("terms of rows and columns"))], ..PLAIN
    })),
    (&["data2vec-vision"], Model::Other(PLAIN, other::beit)),
    (&["donut-swin", "maskformer-swin"], Model::Other(SWIN, |c, o| other::swin(c, o, false, true))),
    // sounds
    (&["wav2vec2-conformer", "wav2vec2-bert"], Model::Other(PLAIN, pictures::conformer)),
    (&["parakeet_encoder"], Model::Other(PLAIN, pictures::parakeet)),
    (&["wavlm"], Model::Other(PLAIN, pictures::wavlm)),
    (&["sew-d"], Model::Other(PLAIN, |c, o| other::deberta(c, o, true))),
    (&["vits"], Model::Other(PLAIN, pictures::vits)),
    (&["fastspeech2_conformer"], Model::Seq2SeqBy(
        Family { heads: "encoder_num_attention_heads", count: Count::Key("encoder_layers"), ..PLAIN },
        Family { heads: "decoder_num_attention_heads", count: Count::Key("decoder_layers"), cross: Cross::Never, ..PLAIN },
        pictures::fastspeech)),
    (&["speecht5"], Model::Seq2SeqBy(
        Family { width: "hidden_size", ..bart(true) }, Family { width: "hidden_size", ..bart(false) }, pictures::speecht5)),
    (&["seamless_m4t", "seamless_m4t_v2"], Model::Seq2Seq(
        Family { width: "hidden_size", ..bart(true) }, Family { width: "hidden_size", ..bart(false) })),
    (&["seamless_m4t#speech_encoder", "seamless_m4t_v2#speech_encoder"], Model::Other(
        tower("speech_encoder_attention_heads", "hidden_size", "speech_encoder_layers"), pictures::speech)),
    (&["seamless_m4t#t2u", "seamless_m4t_v2#t2u"], Model::Seq2Seq(
        Family { heads: "t2u_encoder_attention_heads", width: "hidden_size", count: Count::Key("t2u_encoder_layers"), ..PLAIN },
        Family { heads: "t2u_decoder_attention_heads", width: "hidden_size", count: Count::Key("t2u_decoder_layers"),
            sees: Sees::Decoder("t2u_is_decoder"), cross: Cross::Always, ..PLAIN })),
    (&["moonshine_streaming_encoder"], Model::Other(PLAIN, pictures::moonshine)),
    (&["moonshine_streaming"], Model::Row(Family { cross: Cross::Always, kv_heads: KvHeads::Never, head_dim: HeadDim::Own, ..MOONSHINE })),
    (&["mimi", "mimi_encoder", "mimi_decoder", "pocket_tts_audio_tokenizer", "pocket_tts_audio_tokenizer_encoder",
       "pocket_tts_audio_tokenizer_decoder", "voxtral_realtime_encoder"],
        Model::Row(Family { kinds: Kinds::Every(None), ..LLAMA })),
    (&["lasr_encoder", "neucodec", "xcodec2"], Model::Row(Family { sees: Sees::All, ..LLAMA })),
    (&["glmasr_encoder", "dots3_note_audio_encoder", "nemotron3_diarization_audio"],
        Model::Row(Family { sees: Sees::All, partial: PARTIAL, ..LLAMA })),
    (&["dia_encoder"], Model::Row(Family { sees: Sees::All, scale: Scale::One, ..LLAMA })),
    (&["dia_decoder"], Model::Row(Family { scale: Scale::One, ..LLAMA })),
    (&["dia_decoder#cross"], Model::Row(Family {
        heads: "cross_num_attention_heads", kv_heads: KvHeads::Key("cross_num_key_value_heads"),
        head_dim: HeadDim::Key("cross_head_dim"), scale: Scale::One, ..PLAIN
    })),
    (&["canary_decoder", "cohere_asr"], Model::Row(Family {
        kv_heads: KvHeads::Key("num_key_value_heads"), head_dim: HeadDim::Own, cross: Cross::Always, ..PLAIN_DECODER
    })),
    (&["pocket_tts", "gradium_phonon_tts"], Model::Row(LLAMA)),
    (&["moshi_depth"], Model::Row(Family {
        kv_heads: KvHeads::Key("num_key_value_heads"), head_dim: HeadDim::Own, ..PLAIN_DECODER
    })),
    (&["musicgen_decoder"], Model::Row(Family { cross: Cross::Always, ..PLAIN_DECODER })),
    (&["musicgen_melody_decoder"], Model::Row(PLAIN_DECODER)),
    (&["pop2piano"], Model::Seq2SeqBy(T5, T5_DECODER, other::t5)),
    (&["speech_to_text", "pp_formulanet_text"], Model::Seq2Seq(bart(true), bart(false))),
    (&["trocr"], Model::Row(Family {
        heads: "decoder_attention_heads", width: "d_model", count: Count::Key("decoder_layers"), cross: Cross::Always,
        ..PLAIN_DECODER
    })),
    // detection
    (&["detr", "table-transformer"], Model::Seq2Seq(bart(true), Family { sees: Sees::All, ..bart(false) })),
    (&["conditional_detr", "dab-detr"], Model::Seq2SeqBy(
        Family { width: "hidden_size", ..bart(true) }, Family { width: "hidden_size", sees: Sees::All, ..bart(false) },
        pictures::conditional)),
    (&["deformable_detr", "rt_detr", "rt_detr_v2", "d_fine", "deimv2", "grounding-dino", "mm-grounding-dino", "omdet-turbo",
       "lw_detr", "rf_detr", "mask2former", "oneformer", "pp_doclayout_v2", "pp_doclayout_v3", "pp_doclayout_v4"],
        Model::Refused("deformable attention: keys at places that the query computes")),
    (&["maskformer"], Model::Composite),
    (&["git"], Model::Refused("pictures that see each other before words that do not")),
    (&["mllama_text_model#cross"], Model::Row(Family {
        kv_heads: KvHeads::Key("num_key_value_heads"), norm: QkNorm::Rms("rms_norm_eps"), kinds: Kinds::With(mllama_cross),
        ..PLAIN
    })),
    (&["blip_text_model"], Model::Row(Family { cross: Cross::Always, ..PLAIN })),
    // layers of words and pictures together
    (&["bridgetower"], Model::Row(Family { cross: Cross::Always, ..PLAIN })),
    (&["xclip#prompts"], Model::Row(tower("prompt_num_attention_heads", "projection_dim", "prompt_layers"))),
    (&["evolla#aligner"], Model::Refused("what aligns it with proteins")),
    (&["aria#projector"], Model::Refused("the queries of its projector, whose heads stand in vision_config")),
    // the same heads read the pictures, as another stack
    (&["kosmos_2_5_text_model", "kosmos_2_text_model"], Model::Row(Family { cross: Cross::Always, ..PLAIN_DECODER })),
    // words
    (&["idefics"], Model::Row(Family { kv_heads: KvHeads::Never, head_dim: HeadDim::Quotient,
        norm: QkNorm::LayerNorm(Some("qk_layer_norms")), ..LLAMA })),
    (&["idefics#cross"], Model::Row(Family { head_dim: HeadDim::Quotient, norm: QkNorm::LayerNorm(Some("qk_layer_norms")), ..PLAIN })),
    (&["idefics_perciever"], Model::Row(Family { head_dim: HeadDim::Key("resampler_head_dim"),
        norm: QkNorm::LayerNorm(Some("qk_layer_norms_perceiver")), ..tower("resampler_n_heads", "hidden_size", "resampler_depth") })),
    (&["idefics2_perceiver"], Model::Row(Family { head_dim: HeadDim::Key("resampler_head_dim"),
        kv_heads: KvHeads::Key("num_key_value_heads"), ..tower("resampler_n_heads", "hidden_size", "resampler_depth") })),
    (&["aimv2_text_model", "groupvit_text_model"], Model::Row(PLAIN_DECODER)),
    (&["decision_transformer"], Model::Row(Family { width: "hidden_size", ..GPT2 })),
    (&["gpt_neo"], Model::Row(Family { kinds: Kinds::With(gpt_neo), window: "window_size", scale: Scale::One, ..PLAIN_DECODER })),
    (&["lxmert"], Model::Row(Family { count: Count::Key("l_layers"), ..PLAIN })),
    (&["lxmert#pictures"], Model::Row(Family { count: Count::Key("r_layers"), ..PLAIN })),
    (&["lxmert#both"], Model::Row(Family { count: Count::Key("x_layers"), cross: Cross::Always, ..PLAIN })),
    (&["fsmt"], Model::Seq2Seq(bart(true), bart(false))),
    (&["prophetnet"], Model::Refused("predicted streams with relative buckets of their own")),
    (&["bigbird_pegasus#decoder", "pegasus_x#decoder", "led#decoder"], Model::Row(bart(false))),
    (&["bigbird_pegasus"], Model::Refused("blocks of random and global keys in its encoder (attention_type block_sparse)")),
    (&["big_bird"], Model::Refused("blocks of random and global keys (attention_type block_sparse)")),
    (&["pegasus_x"], Model::Refused("blocks and global tokens in its encoder")),
    (&["led", "longformer"], Model::Refused("windows with global tokens, which have projections of their own")),
    (&["longt5"], Model::Refused("blocks of neighbours, and global tokens that are sums of blocks")),
    (&["nystromformer"], Model::Refused("landmarks: sums of queries and keys")),
    (&["reformer"], Model::Refused("keys of the same hash")),
    (&["autoformer"], Model::Refused("auto-correlation in place of scores")),
    (&["informer"], Model::Refused("queries chosen by how their scores spread")),
    (&["convbert"], Model::Refused("half of its heads are convolutions of their span")),
    (&["funnel"], Model::Refused("queries that are means of tokens")),
    (&["mra", "yoso"], Model::Refused("scores of blocks, or by hashing")),
    (&["diffllama"], Model::Refused("a difference of two softmaxes")),
    (&["doge"], Model::Refused("a mask that the values compute")),
    // the learned scale of every element of q is part of its norm's weights
    (&["timesfm2_5"], Model::Row(Family { norm: QkNorm::After("", "rms_norm_eps"), scale: Scale::One, ..LLAMA })),
    (&["vjepa2"], Model::Refused("pairs of two angles, which are not read yet")),
    (&["efficientloftr", "lightglue", "superglue"], Model::Refused("positions that are no whole numbers, or none")),
    (&["groupvit_vision_model"], Model::Refused("groups that each token is assigned to")),
    (&["florence_vision"], Model::Refused("attention of channels to channels")),
    (&["hunyuan_vl_text"], Model::Refused("four position streams, which are not read yet")),
    (&["beam"], Model::Refused("a power of the position as temperature")),
    (&["mistral_large4_text"], Model::Refused("a learned temperature, which is not read yet")),
    (&["dory"], Model::Refused("a scale of every element of q")),
    (&["qwen2_5_omni_dit"], Model::Refused("blocks that see blocks before and after them")),
    (&["diffusion_gemma_text"], Model::Refused("another model's keys beside its own")),
    (&["gemma4_unified_assistant", "muse_glimmer_assistant", "gemma4_assistant"], Model::Refused("another model's keys and values")),
    (&["esmfold2"], Model::Refused("attention of pairs of residues")),
    (&["cpmant"], Model::Refused("buckets of segments")),
    (&["nemotron_asr_streaming_encoder"], Model::Refused("chunks of frames with relative positions")),
    (&["inkling_vision"], Model::Refused("merged patches of several sizes")),
    (&["patchtsmixer"], Model::Nothing("gated mixing, unless self_attn is set")),
    (&["clvp_encoder", "clvp_decoder"], Model::Refused("rotation of values and keys in its encoder by positions of 32 elements")),
    (&["blt_patcher", "blt_global_transformer", "blt_local_encoder", "blt_local_decoder", "blt"],
        Model::Refused("masks of patches that another model cuts")),
    (&["gemma3n_audio", "gemma4_audio", "phi4_multimodal_audio"], Model::Refused("chunks with relative positions of their own")),
    (&["inkling_text", "inkling2_text", "inkling2_loop_text"], Model::Refused("relative logits that the token computes, which are not read yet")),
    (&["deepseek_v4"], Model::Refused("compressed keys beside a window")),
    (&["clap_audio_model"], Model::Refused("windows of a spectrogram whose size stands in other keys")),
    (&["layoutlmv2", "layoutlmv3", "udop"], Model::Refused("T5's buckets of places on a page")),
    (&["chameleon"], Model::Row(Family { norm: QkNorm::LayerNorm(None), ..LLAMA })),
    (&["chameleon_vqgan", "emu3_vqgan", "janus_vqgan", "apertus1p5_vision_tokenizer"],
        Model::Refused("one head as wide as its channels, more elements than a head may have")),
    (&["jetmoe"], Model::Refused("heads of experts that read key heads in another order")),
    (&["dbrx"], Model::Other(PLAIN_DECODER, other::dbrx)),
    (&["zamba"], Model::Row(Family { kinds: Kinds::With(zamba), kv_heads: KvHeads::Key("num_key_value_heads"),
        head_dim: HeadDim::With(zamba_dim), scale: Scale::HalfHead, ..PLAIN_DECODER })),
    (&["zamba2"], Model::Row(Family { kinds: Kinds::With(zamba), head_dim: HeadDim::With(zamba_dim), scale: Scale::HalfHead,
        turns: Turns::With(mem_rope), ..LLAMA })),
    (&["molmo2_text"], Model::Row(Family { norm: QkNorm::Rms("rms_norm_eps"),
        fixed: &[("qk_norm_type", Fixed::Text("qwen3")), ("rope_scaling_layers", Fixed::Absent("an extension of some layers"))], ..LLAMA })),
    (&["step3p5"], Model::Row(Family { kinds: Kinds::With(all_full), local: Local::Nested, partial: PARTIAL,
        norm: QkNorm::Rms("rms_norm_eps"), scale: Scale::Root("query_pre_attn_scalar"), ..LLAMA })),
    (&["esmc"], Model::Row(Family { sees: Sees::All, norm: QkNorm::Width, ..LLAMA })),
    (&["ultrabert"], Model::Row(Family { kinds: Kinds::AllBut { n: 3, keys: &[], last: false }, local: Local::Nested,
        sees: Sees::All, ..LLAMA })),
    (&["evolla"], Model::Row(LLAMA)),
    (&["bailing_hybrid"], Model::Row(Family { kinds: Kinds::With(groups), ..LATENT })),
    (&["kimi_linear"], Model::Row(Family { kinds: Kinds::With(layers_of_list), turns: Turns::Never, ..LATENT })),
    (&["glm5_next_text"], Model::Row(Family { kinds: Kinds::With(fourths_indexed), turns: Turns::Never, ..INDEXED })),
    (&["blip_2_qformer", "instructblip_qformer", "instructblipvideo_qformer"], Model::Row(Family { cross: Cross::Always, ..PLAIN })),
    (&["mobilebert"], Model::Row(Family { head_dim: HeadDim::With(mobilebert), ..PLAIN })),
    (&["opt", "biogpt", "ctrl", "metaclip_2_text_model", "xclip_text_model", "clip_text_model", "clipseg_text_model",
       "owlv2_text_model", "owlvit_text_model",   "openai-gpt"],
        Model::Row(PLAIN_DECODER)),
    (&["semantic", "coarse_acoustics"], Model::Row(PLAIN_DECODER)),
    (&["fine_acoustics"], Model::Row(PLAIN)),
    (&["xglm"], Model::Row(Family { cross: Cross::Flag, ..PLAIN_DECODER })),
    (&["videoprism_text_model"], Model::Row(Family { cap: Some("attn_logit_softcapping"), ..PLAIN })),
    (&["gpt2"], Model::Row(GPT2)),
    (&["gpt_bigcode"], Model::Row(Family { kv_heads: KvHeads::One("multi_query"), ..GPT2 })),
    (&["flaubert", "xlm"], Model::Row(Family { sees: Sees::Decoder("causal"), ..PLAIN })),
    (&["bart", "blenderbot", "blenderbot-small", "marian", "mbart", "m2m_100", "mvp", "nllb-moe", "pegasus", "plbart",
       "whisper", "time_series_transformer"],
        Model::Seq2Seq(bart(true), bart(false))),
    (&["moonshine"], Model::Seq2Seq(
        Family { heads: "encoder_num_attention_heads", kv_heads: KvHeads::Key("encoder_num_key_value_heads"),
            count: Count::Key("encoder_num_hidden_layers"), sees: Sees::All, ..MOONSHINE },
        Family { heads: "decoder_num_attention_heads", kv_heads: KvHeads::Key("decoder_num_key_value_heads"),
            count: Count::Key("decoder_num_hidden_layers"), cross: Cross::Always, ..MOONSHINE },
    )),
    // attention of parts alone
    (&["audioflamingo3", "cohere2_vision", "ernie4_5_vl_moe", "exaone4_5", "gemma3", "gemma3n", "gemma4", "glm4v_moe",
       "glm_ocr", "got_ocr2", "idefics3", "kimi_k25", "lfm2_vl", "llama4", "llava", "llava_next", "mistral3", "paddleocr_vl",
       "perception_lm", "pix2struct", "aya_vision", "blip-2", "cosmos3_omni", "deepseek_vl", "deepseek_vl_hybrid", "fast_vlm",
       "fun_asr_nano", "glmasr", "idefics2", "instructblip", "instructblipvideo", "internvl", "janus", "lighton_ocr",
       "llava_next_video", "llava_onevision", "moss_transcribe_diarize", "musicflamingo", "omniasr", "ovis2", "paligemma",
       "qianfan_ocr", "qwen3_asr", "shieldgemma2", "smolvlm", "vibevoice", "vibevoice_asr", "video_llama_3", "vipllava",
       "vision-text-dual-encoder", "voxtral", "aimv2", "align", "altclip", "apertus1p5", "aria", "blip", "chinese_clip",
       "clap", "clip", "clipseg", "clvp", "cohere_compass", "cosmos3_edge", "deepseek_ocr2", "diffusion_gemma", "dots3_note",
       "embedding_gemma2", "emu3", "flava", "florence2", "fuyu", "gemma4_unified", "glm46v", "glm4v", "glm5_next", "glm_image",
       "granite4_vision", "granite_docling", "granite_speech", "granite_speech_plus", "groupvit", "hunyuan_vl", "hy_v4_vl",
       "hyperclovax_vision_v2", "inkling2", "inkling2_loop", "inkling_mm_model", "jev", "kosmos-2", "kosmos-2.5", "lfm3_vl",
       "metaclip_2", "minicpm_ocr", "minicpmv4_6", "minicpmv4_7", "minimax_m3_vl", "mistral_large4", "mllama", "modernvbert",
       "molmo2", "muse_glimmer", "muse_spark", "nemo_speechlm", "nemotron_h_omni", "owlv2", "owlvit", "pe_audio",
       "pe_audio_video", "pe_video", "pp_formulanet", "qwen2_5_omni", "qwen2_5_omni_thinker", "qwen3_5", "qwen3_5_moe",
       "qwen3_omni_moe", "qwen3_omni_moe_thinker", "qwen4_exp", "sam3", "siglip", "siglip2", "step3p7", "t5gemma2",
       "t5gemma2_encoder", "tipsv2", "ultravbert", "unlimited_ocr", "videoprism", "voxtral_realtime", "xclip", "qwen2_5_vl",
       "encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder", "rag", "musicgen", "musicgen_melody", "dia", "canary",
       "parakeet_ctc", "parakeet_rnnt", "parakeet_tdt", "lasr_ctc", "granite_speech5_ctc", "nemotron3_diarization",
       "nemotron3_5_transcribe_audio", "nemotron_asr_streaming", "fastspeech2_conformer_with_hifigan",
       "qwen2_5_omni_token2wav", "deepseek_ocr2_vision", "unlimited_ocr_vision", "edgetam", "edgetam_vision_model", "sam", "sam2",
       "sam2_vision_model", "sam3_vision_model", "sam3_tracker", "sam3_lite_text", "sam_hq", "EvollaModel", "slanext", "slanet", "zoedepth", "bark",
       "chmv2", "qwen3_omni_moe_talker", "colpali", "colqwen2", "colmodernvbert", "tipsv2_dpt",
       "depth_anything", "prompt_depth_anything", "vitpose", "vitmatte", "upernet", "depth_pro", "pi0", "omniasr_ctc", "dpr", "pp_ocrv6_tiny_rec", "qwen2_audio", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "video_llava",
       "t5gemma"],
        Model::Composite),
];

const T5: Family = Family { width: "d_model", heads: "num_heads", count: Count::Key("num_layers"), ..PLAIN };
const T5_DECODER: Family = Family { count: Count::Either("num_decoder_layers", "num_layers"), ..T5 };
const SWIN: Family = Family { count: Count::Sum("depths"), heads: "embed_dim", ..PLAIN };
const MOONSHINE: Family =
    Family { pairing: Pairing::Interleaved, partial: PARTIAL, head_dim: HeadDim::Quotient, ..LLAMA };
