//! Hugging Face configurations: `config.json` of a model, read into a [`Spec`].

mod dict;

use crate::{Bias, Dtype, Error, LongRope, Mask, Pairing, Result, RopeScaling, Rotary, Spec, Yarn};
use dict::{Dict, shown};
use serde_json::Value;

/// Which attention of a model is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stack {
    /// Self-attention of the encoder: every key is visible.
    Encoder,
    /// Self-attention of the decoder: causal.
    Decoder,
    /// The decoder's attention to the encoder's output: no positions, no mask.
    Cross,
}

/// What a configuration leaves open. Start with [`ConfigOptions::default`] and set fields.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ConfigOptions {
    /// The layer, from 0; needed where layers differ (Gemma 2 and 3, Qwen with a sliding window).
    pub layer: Option<u32>,
    /// The longest sequence of the call in tokens, for the length extensions that depend on it
    /// ([`RopeScaling::Dynamic`], [`LongRope`]); `None`: no longer than the original length.
    pub seq_len: Option<u32>,
    /// Which attention; `None`: the encoder of T5 and RoFormer (a RoFormer with `is_decoder`: the decoder), the decoder
    /// of all others.
    pub stack: Option<Stack>,
    /// The caller's q and k already carry the model's q/k norm (Qwen 3, Gemma 3), which a [`Spec`] cannot express yet.
    pub normalized: bool,
    /// Take the storage type from the file's `dtype` or `torch_dtype`, f32 where it says nothing. Otherwise it is f32,
    /// for the caller to set from the tensors.
    pub config_dtype: bool,
}

/// A model family that is one rotary decoder; defaults are those of the model's class wherever they describe every
/// published model of the family. What differs between checkpoints must be in the file.
struct Family {
    pairing: Pairing,
    /// The class's `rope_theta`; `None`: must be in the file.
    theta: Option<f64>,
    /// The keys that may hold theta outside the rope dictionary.
    theta_keys: &'static [&'static str],
    /// Gemma 3: sliding layers have a theta of their own, and no length extension.
    local_theta: bool,
    partial: Partial,
    head_dim: HeadDim,
    kv_heads: KvHeads,
    windows: Windows,
    norm: Norm,
    /// Gemma 2 and 3: the scale is `query_pre_attn_scalar^-0.5`.
    query_pre_attn_scalar: bool,
    cap: Cap,
}

/// How much of a head rotates.
enum Partial {
    /// All of it.
    Never,
    /// As the file says, else all of it.
    Optional,
    /// As the file says, by one of these keys.
    Required(&'static [&'static str]),
}
enum HeadDim {
    /// `hidden_size / num_attention_heads`.
    Quotient,
    /// `head_dim`, else the quotient.
    Optional,
    /// `head_dim`: the class has a constant of its own for it.
    Required,
}
enum KvHeads {
    /// There is no such key: as many as query heads.
    Never,
    /// As many as query heads, unless the file says otherwise.
    Same,
    /// The class's own constant is this: a file without the key is ambiguous unless it has as many query heads.
    Class(u32),
}
enum Windows {
    Never,
    /// Every layer, where `sliding_window` is a number; `may_miss`: a missing key means none.
    Every {
        may_miss: bool,
    },
    /// Layers from `max_window_layers` on, where `use_sliding_window`.
    From,
    /// All layers but every n-th.
    AllBut(u32),
}
enum Norm {
    Never,
    Always,
    /// Where this key is true.
    Key(&'static str),
}
enum Cap {
    Never,
    Optional,
    Required,
}

const LLAMA: Family = Family {
    pairing: Pairing::Half,
    theta: Some(10_000.0),
    theta_keys: &["rope_theta"],
    local_theta: false,
    partial: Partial::Never,
    head_dim: HeadDim::Optional,
    kv_heads: KvHeads::Same,
    windows: Windows::Never,
    norm: Norm::Never,
    query_pre_attn_scalar: false,
    cap: Cap::Never,
};

enum Model {
    Decoder(Family),
    GptJ,
    RoFormer,
    T5,
}

const PARTIAL: &[&str] = &["partial_rotary_factor"];

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
    ("qwen2", Model::Decoder(Family { kv_heads: KvHeads::Class(32), windows: Windows::From, ..LLAMA })),
    ("qwen3", Model::Decoder(Family {
        head_dim: HeadDim::Required, kv_heads: KvHeads::Class(32), windows: Windows::From, norm: Norm::Always, ..LLAMA
    })),
    ("gpt_neox", Model::Decoder(Family {
        theta_keys: &["rotary_emb_base", "rope_theta"],
        partial: Partial::Required(&["rotary_pct", "partial_rotary_factor"]),
        head_dim: HeadDim::Quotient, kv_heads: KvHeads::Never, ..LLAMA
    })),
    ("phi", Model::Decoder(Family {
        partial: Partial::Required(PARTIAL), norm: Norm::Key("qk_layernorm"), ..LLAMA
    })),
    ("phi3", Model::Decoder(Family {
        partial: Partial::Optional, windows: Windows::Every { may_miss: true }, ..LLAMA
    })),
    ("stablelm", Model::Decoder(Family {
        partial: Partial::Required(&["partial_rotary_factor", "rope_pct"]),
        kv_heads: KvHeads::Class(32), norm: Norm::Key("qk_layernorm"), ..LLAMA
    })),
    ("cohere", Model::Decoder(Family {
        pairing: Pairing::Interleaved, theta: None, norm: Norm::Key("use_qk_norm"), ..LLAMA
    })),
    ("glm", Model::Decoder(Family {
        pairing: Pairing::Interleaved, partial: Partial::Required(PARTIAL), head_dim: HeadDim::Required,
        kv_heads: KvHeads::Class(2), ..LLAMA
    })),
    ("gemma", Model::Decoder(Family { head_dim: HeadDim::Required, kv_heads: KvHeads::Class(16), ..LLAMA })),
    ("gemma2", Model::Decoder(Family {
        head_dim: HeadDim::Required, kv_heads: KvHeads::Class(4), windows: Windows::AllBut(2),
        query_pre_attn_scalar: true, cap: Cap::Required, ..LLAMA
    })),
    ("gemma3_text", Model::Decoder(Family {
        theta: Some(1e6), local_theta: true, head_dim: HeadDim::Required, kv_heads: KvHeads::Class(4),
        windows: Windows::AllBut(6), norm: Norm::Always, query_pre_attn_scalar: true, cap: Cap::Optional, ..LLAMA
    })),
    ("gptj", Model::GptJ),
    ("roformer", Model::RoFormer),
    ("t5", Model::T5),
    ("mt5", Model::T5),
    ("umt5", Model::T5),
];

/// Keys that change attention in some model. One that is set (neither `null` nor `false`) and that the family does not
/// read is an error: the file means something that the spec would not do.
const ATTENTION_KEYS: &[&str] = &[
    "alibi",
    "attention_chunk_size",
    "attention_multiplier",
    "attn_logit_softcapping",
    "attn_temperature_tuning",
    "head_dim",
    "layer_types",
    "no_rope_layer_interval",
    "no_rope_layers",
    "num_key_value_heads",
    "partial_rotary_factor",
    "qk_layernorm",
    "query_pre_attn_scalar",
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
    "sliding_window",
    "sliding_window_pattern",
    "use_bidirectional_attention",
    "use_logn_attn",
    "use_qk_norm",
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
    /// | `num_attention_heads`, `num_key_value_heads`, `head_dim` or `hidden_size` / heads (GPT-J: `n_head`, `n_embd`; T5: `num_heads`, `d_kv`) | heads and sizes |
    /// | `rope_theta` (GPT-NeoX: `rotary_emb_base`; GPT-J, RoFormer: 10 000) | theta |
    /// | `rope_scaling` or `rope_parameters`, by layer type too | frequencies and attention factor, by [`RopeScaling`] |
    /// | `partial_rotary_factor` (GPT-NeoX: `rotary_pct`), `rotary_dim` (GPT-J) | `rotary_dim` |
    /// | the family | pairing: interleaved for GPT-J, RoFormer, Cohere, GLM; half for the others |
    /// | `query_pre_attn_scalar` (Gemma 2, 3), the family (T5: 1) | `softmax_scale` |
    /// | `attn_logit_softcapping` (Gemma 2, 3) | `logits_soft_cap` |
    /// | `sliding_window` w, on the layers that have one | `window_left` = w - 1: w keys, the query's own included |
    /// | `relative_attention_num_buckets`, `relative_attention_max_distance` (T5) | [`Bias::T5`] |
    ///
    /// Positions are indices; decoders are causal, aligned bottom-right. The projections, norms and dropout of a model
    /// are not part of a spec.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key: an unknown `model_type` or `rope_type`, an unknown key in a rope
    /// dictionary, a missing size, two keys that disagree, a layer needed or out of range, a feature that a spec does
    /// not have yet (q/k norm, rotated values, ...). [`Error::Spec`] where the result is not a valid spec.
    pub fn from_hf_config_with(json: &str, options: &ConfigOptions) -> Result<Spec> {
        let file = parse(json)?;
        let c = dictionary("", &file)?;
        let model_type = c.need("model_type", c.text("model_type"))?;
        let Some((_, model)) = MODELS.iter().find(|(name, _)| *name == model_type) else {
            let known: Vec<&str> = model_types().collect();
            let nested = if c.has("text_config") { " (of a composite model, give its text_config)" } else { "" };
            return Err(c.error(
                "model_type",
                format!("{} is not supported", shown(&model_type.into())),
                format!("supported are {}{nested}", known.join(", ")),
            ));
        };
        let mut spec = match model {
            Model::Decoder(family) => family.read(&c, options)?,
            Model::GptJ => gptj(&c, options)?,
            Model::RoFormer => roformer(&c, options)?,
            Model::T5 => t5(&c, options)?,
        };
        let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        if let Some((key, value)) = c.unread().find(|(key, value)| ATTENTION_KEYS.contains(key) && set(value)) {
            return Err(c.error(
                key,
                format!("is {}, which {model_type} does not have", shown(value)),
                "remove the key, or correct model_type",
            ));
        }
        if options.config_dtype {
            spec.dtype = dtype(&c)?;
        }
        spec.validate()?;
        Ok(spec)
    }
}

impl Family {
    fn read(&self, c: &Dict, o: &ConfigOptions) -> Result<Spec> {
        decoder_only(c, o)?;
        let heads = c.need("num_attention_heads", c.count("num_attention_heads"))?;
        let head_dim = match self.head_dim {
            HeadDim::Quotient => quotient(c, "hidden_size", heads)?,
            HeadDim::Optional => match c.count("head_dim")? {
                Some(d) => d,
                None => quotient(c, "hidden_size", heads)?,
            },
            HeadDim::Required => c.need("head_dim", c.count("head_dim"))?,
        };
        let mut spec = Spec::new(heads, self.kv_heads(c, heads)?, head_dim);
        let (layer, window) = self.layer(c, o)?;
        spec.rotary = Some(self.rotary(c, o, layer, head_dim)?);
        spec.mask = Mask { window_left: window.map(|w| w - 1), ..Mask::causal() };
        if self.query_pre_attn_scalar {
            let scalar = c.need("query_pre_attn_scalar", c.number("query_pre_attn_scalar"))?;
            if !(scalar.is_finite() && scalar > 0.0) {
                return Err(c.error("query_pre_attn_scalar", format!("is {scalar}"), "give a number above 0"));
            }
            spec.softmax_scale = Some(1.0 / scalar.sqrt());
        }
        spec.logits_soft_cap = match self.cap {
            Cap::Never => None,
            Cap::Required if !c.has("attn_logit_softcapping") => {
                return Err(c.error("attn_logit_softcapping", "is missing", "give the cap, or null for none"));
            }
            Cap::Optional | Cap::Required => c.number("attn_logit_softcapping")?,
        };
        let normed = match self.norm {
            Norm::Never => None,
            Norm::Always => Some("model_type"),
            Norm::Key(key) => c.flag(key)?.unwrap_or(false).then_some(key),
        };
        match normed {
            Some(key) if !o.normalized => Err(c.error(
                key,
                "means a norm of q and k before their rotation, which is not supported yet",
                "apply the norm to q and k first, and say so with the option `normalized`",
            )),
            _ => Ok(spec),
        }
    }

    fn kv_heads(&self, c: &Dict, heads: u32) -> Result<u32> {
        let key = "num_key_value_heads";
        match self.kv_heads {
            KvHeads::Never => Ok(heads),
            KvHeads::Class(n) if n != heads && !c.has(key) => Err(c.error(
                key,
                "is missing",
                format!("the model's class would take {n}: give it, or null for num_attention_heads = {heads}"),
            )),
            KvHeads::Same | KvHeads::Class(_) => Ok(c.count(key)?.unwrap_or(heads)),
        }
    }

    /// What kind of layer the options name, and its window in keys.
    fn layer(&self, c: &Dict, o: &ConfigOptions) -> Result<(Layer, Option<u32>)> {
        let layers = layers(c, o, "num_hidden_layers")?;
        let sliding_from = match self.windows {
            Windows::From if c.flag("use_sliding_window")?.unwrap_or(false) => {
                Some(c.need("max_window_layers", c.count("max_window_layers"))?)
            }
            _ => None,
        };
        let window = match self.windows {
            Windows::Never => None,
            Windows::Every { may_miss } if !may_miss && !c.has("sliding_window") => {
                return Err(c.error("sliding_window", "is missing", "give the window in tokens, or null for none"));
            }
            Windows::From => {
                c.get("sliding_window").and(sliding_from).map_or(Ok(None), |_| c.count("sliding_window"))?
            }
            Windows::Every { .. } | Windows::AllBut(_) => c.count("sliding_window")?,
        };
        if window == Some(0) {
            return Err(c.error("sliding_window", "is 0", "give 1 or more tokens, or null for none"));
        }
        let period = match self.windows {
            Windows::AllBut(n) => c.count("sliding_window_pattern")?.unwrap_or(n),
            _ => 1,
        };
        if period == 0 {
            return Err(c.error("sliding_window_pattern", "is 0", "give 1 or more layers"));
        }
        let by_family = |layer: u32| {
            let sliding = match self.windows {
                Windows::Never => false,
                Windows::Every { .. } => window.is_some(),
                Windows::From => sliding_from.is_some_and(|from| layer >= from),
                Windows::AllBut(_) => !(layer as u64 + 1).is_multiple_of(period as u64),
            };
            if sliding { Layer::Sliding } else { Layer::Full }
        };

        let listed = c.texts("layer_types")?.map(|types| self.layer_types(c, &types, by_family)).transpose()?;
        let count = match (&listed, layers) {
            (Some(list), Some(n)) if list.len() != n as usize => {
                let problem = format!("lists {} layers of num_hidden_layers = {n}", list.len());
                return Err(c.error("layer_types", problem, "give one for each layer"));
            }
            (Some(list), _) => Some(list.len() as u32),
            (None, n) => n,
        };
        let kind = |layer: u32| match &listed {
            Some(list) => list.get(layer as usize).copied(),
            None => Some(by_family(layer)),
        };
        let alike = matches!(self.windows, Windows::Never | Windows::Every { .. }) && listed.is_none();
        let chosen = match (o.layer, count) {
            (Some(layer), _) => kind(layer),
            (None, _) if alike => kind(0),
            (None, Some(n)) => kind(0).filter(|first| (1..n).all(|layer| kind(layer) == Some(*first))),
            (None, None) => None,
        };
        let Some(chosen) = chosen else {
            let (problem, help) = match (o.layer, count) {
                (Some(layer), _) => (format!("has no layer {layer}"), "layers count from 0".into()),
                (None, Some(n)) => {
                    ("means layers that differ".into(), format!("say which layer, 0 to {}", n.max(1) - 1))
                }
                (None, None) => ("does not say how many layers there are".into(), "say which layer".into()),
            };
            return Err(c.error(if listed.is_some() { "layer_types" } else { "model_type" }, problem, help));
        };
        match (chosen, window) {
            (Layer::Full, _) => Ok((chosen, None)),
            (Layer::Sliding, Some(w)) => Ok((chosen, Some(w))),
            (Layer::Sliding, None) => Err(c.error(
                "sliding_window",
                "is missing for a layer with a sliding window",
                "give the window in tokens (and use_sliding_window, where the model has it)",
            )),
        }
    }

    /// The listed kinds; those of a family whose layers are all alike must be what the family would say.
    fn layer_types(&self, c: &Dict, types: &[&str], by_family: impl Fn(u32) -> Layer) -> Result<Vec<Layer>> {
        let free = matches!(self.windows, Windows::From | Windows::AllBut(_));
        let kind = |(at, name): (usize, &&str)| {
            let found = LAYERS.into_iter().find(|layer| layer.name() == *name);
            found.filter(|found| free || *found == by_family(at as u32)).ok_or_else(|| {
                let expected = if free { "full_attention or sliding_attention" } else { by_family(at as u32).name() };
                c.error(
                    "layer_types",
                    format!("calls layer {at} {}", shown(&(*name).into())),
                    format!("supported here is {expected}"),
                )
            })
        };
        types.iter().enumerate().map(kind).collect()
    }

    fn rotary(&self, c: &Dict, o: &ConfigOptions, layer: Layer, head_dim: u32) -> Result<Rotary> {
        let lengths = Lengths {
            max: c.count("max_position_embeddings")?,
            original: c.count("original_max_position_embeddings")?,
            seq_len: o.seq_len,
        };
        let (dict, nested) = rope_dictionary(c, layer)?;
        if self.local_theta && !nested && dict.as_ref().is_some_and(|d| d.name() == "rope_parameters") {
            let help = "give one dictionary for full_attention and one for sliding_attention";
            return Err(c.error("rope_parameters", "is one dictionary for layers that differ", help));
        }
        let local = self.local_theta && layer == Layer::Sliding;
        let dict = dict.filter(|_| nested || !local);
        let parameters = match &dict {
            Some(dict) => RopeParameters::read(dict, &lengths)?,
            None => RopeParameters { theta: None, partial_rotary_factor: None, scaling: RopeScaling::Default },
        };
        let mut theta = parameters.theta;
        let theta_keys = if local { &["rope_local_base_freq"] } else { self.theta_keys };
        for key in theta_keys {
            theta = agree(c, key, theta, c.number(key)?)?;
        }
        if self.local_theta {
            let _ = (c.get("rope_theta"), c.get("rope_local_base_freq"));
        }
        let default = if local { Some(10_000.0) } else { self.theta };
        let theta = c.need("rope_theta", Ok(theta.or(default)))?;

        let proportional = match parameters.scaling {
            RopeScaling::Proportional { partial_rotary_factor, .. } => Some(partial_rotary_factor),
            _ => None,
        };
        let keys = if let Partial::Required(keys) = self.partial { keys } else { PARTIAL };
        let mut share = proportional.or(parameters.partial_rotary_factor);
        for key in keys {
            share = agree(c, key, share, c.number(key)?)?;
        }
        let share = match (proportional, &self.partial, share) {
            (Some(_), ..) => 1.0,
            (None, Partial::Never, Some(share)) if share != 1.0 => {
                let help = "remove it, or correct model_type";
                return Err(c.error("partial_rotary_factor", format!("is {share}, but here whole heads rotate"), help));
            }
            (None, Partial::Required(keys), None) => {
                let key = keys.first().copied().unwrap_or("partial_rotary_factor");
                return Err(c.error(key, "is missing", "give the share of a head that rotates, 1 for all of it"));
            }
            (None, _, share) => share.unwrap_or(1.0),
        };
        if !(share > 0.0 && share <= 1.0) {
            return Err(c.error("partial_rotary_factor", format!("is {share}"), "give a number above 0, at most 1"));
        }
        let rotary_dim = (head_dim as f64 * share) as u32;
        Rotary::scaled(self.pairing, rotary_dim, theta, &parameters.scaling).map_err(|error| match error {
            Error::Spec { field, problem, help } => match (field.strip_prefix("scaling."), &dict) {
                (Some("theta"), _) => c.error("rope_theta", problem, help),
                (Some("rotary_dim"), _) => c.error("rotary_dim", problem, help),
                (Some(key), Some(dict)) => dict.error(key, problem, help),
                _ => Error::Spec { field, problem, help },
            },
            other => other,
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Layer {
    Full,
    Sliding,
}
const LAYERS: [Layer; 2] = [Layer::Full, Layer::Sliding];

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Layer::Full => "full_attention",
            Layer::Sliding => "sliding_attention",
        }
    }
}

/// Lengths, in tokens, that stand outside the rope dictionary.
struct Lengths {
    max: Option<u32>,
    original: Option<u32>,
    seq_len: Option<u32>,
}

/// What a rope dictionary of a configuration says: `rope_parameters`, or the older `rope_scaling`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RopeParameters {
    /// `rope_theta`.
    pub theta: Option<f64>,
    /// `partial_rotary_factor`: the share of a head that rotates. (That of `proportional` is part of `scaling`.)
    pub partial_rotary_factor: Option<f64>,
    /// `rope_type` and its numbers.
    pub scaling: RopeScaling,
}

impl RopeParameters {
    /// Reads one dictionary, such as
    /// `{"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}`. `type` is the older name of `rope_type`, and
    /// `su` that of `longrope`; `ntk` is [`RopeScaling::Ntk`]. `max_position_embeddings` is the configuration's,
    /// which `dynamic` needs, `yarn` where its dictionary lacks the original length, and `longrope` where its lacks a
    /// factor. `seq_len` is the longest sequence of the call, for `dynamic` and `longrope`.
    ///
    /// # Errors
    /// [`Error::Config`] that names an unknown type, an unknown or missing key, or a value of the wrong kind. Whether
    /// the numbers make sense is for [`RopeScaling::inv_freq`] to say.
    pub fn from_json(json: &str, max_position_embeddings: Option<u32>, seq_len: Option<u32>) -> Result<Self> {
        let lengths = Lengths { max: max_position_embeddings, original: None, seq_len };
        Self::read(&dictionary("rope_parameters", &parse(json)?)?, &lengths)
    }

    fn read(d: &Dict, lengths: &Lengths) -> Result<Self> {
        let theta = d.number("rope_theta")?;
        let partial_rotary_factor = d.number("partial_rotary_factor")?;
        let kind = match (d.text("rope_type")?, d.text("type")?) {
            (Some(new), Some(old)) if new != old => {
                return Err(d.error("type", format!("is {old:?}, but rope_type is {new:?}"), "keep one of them"));
            }
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) if d.unread().next().is_none() => "default",
            (None, None) => return Err(d.error("rope_type", "is missing", "name the length extension")),
        };
        let number = |key| d.need(key, d.number(key));
        let scaling = match kind {
            "default" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "ntk" => RopeScaling::Ntk { factor: number("factor")? },
            "dynamic" => RopeScaling::Dynamic {
                factor: number("factor")?,
                max_position_embeddings: lengths.max()?,
                seq_len: lengths.seq_len,
            },
            "yarn" => {
                let original = lengths.original(d)?.map_or_else(|| lengths.max(), Ok)?;
                let factor = match d.number("factor")? {
                    Some(factor) => factor,
                    None if d.has("factor") => lengths.max()? as f64 / original as f64,
                    None => return Err(d.error("factor", "is missing", "give it, or null for the ratio of lengths")),
                };
                RopeScaling::Yarn(Yarn {
                    beta_fast: d.number("beta_fast")?,
                    beta_slow: d.number("beta_slow")?,
                    truncate: d.flag("truncate")?,
                    mscale: d.number("mscale")?,
                    mscale_all_dim: d.number("mscale_all_dim")?,
                    attention_factor: d.number("attention_factor")?,
                    ..Yarn::new(factor, original)
                })
            }
            "longrope" | "su" => {
                let short = d.need("short_factor", d.numbers("short_factor"))?;
                let long = d.need("long_factor", d.numbers("long_factor"))?;
                let original = d.need("original_max_position_embeddings", lengths.original(d))?;
                RopeScaling::LongRope(LongRope {
                    max_position_embeddings: lengths.max,
                    factor: d.number("factor")?,
                    attention_factor: d.number("attention_factor")?,
                    seq_len: lengths.seq_len,
                    ..LongRope::new(short, long, original)
                })
            }
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_position_embeddings: d.need("original_max_position_embeddings", lengths.original(d))?,
            },
            "proportional" => RopeScaling::Proportional {
                partial_rotary_factor: number("partial_rotary_factor")?,
                factor: d.number("factor")?,
            },
            other => {
                return Err(d.error(
                    "rope_type",
                    format!("{} is not supported", shown(&other.into())),
                    "supported are default, linear, ntk, dynamic, yarn, longrope, llama3, proportional",
                ));
            }
        };
        if let Some((key, value)) = d.unread().next() {
            let problem = format!("is {}, and rope_type {kind:?} has no such key", shown(value));
            return Err(d.error(key, problem, "remove the key, or correct rope_type"));
        }
        let proportional = matches!(scaling, RopeScaling::Proportional { .. });
        Ok(RopeParameters { theta, partial_rotary_factor: partial_rotary_factor.filter(|_| !proportional), scaling })
    }
}

impl Lengths {
    fn max(&self) -> Result<u32> {
        self.max.ok_or_else(|| {
            Error::config("max_position_embeddings", "is missing", "the length extension needs it: give it")
        })
    }
    /// The original length: in the dictionary or outside.
    fn original(&self, d: &Dict) -> Result<Option<u32>> {
        agree(d, "original_max_position_embeddings", self.original, d.count("original_max_position_embeddings")?)
    }
}

/// The rope dictionary of a layer, and whether there is one for each layer type.
fn rope_dictionary<'a>(c: &Dict<'a>, layer: Layer) -> Result<(Option<Dict<'a>>, bool)> {
    let (name, value) = match (c.get("rope_parameters"), c.get("rope_scaling")) {
        (Some(new), Some(old)) if new != old => {
            return Err(c.error("rope_scaling", "differs from rope_parameters", "keep one of them"));
        }
        (Some(new), _) => ("rope_parameters", new),
        (None, Some(old)) => ("rope_scaling", old),
        (None, None) => return Ok((None, false)),
    };
    let Some(map) = value.as_object() else {
        return Err(c.error(name, format!("is {}", shown(value)), "give a dictionary, or null"));
    };
    if map.is_empty() {
        return Ok((None, false));
    }
    if !map.values().any(Value::is_object) {
        return Ok((Some(Dict::new(name, map)), false));
    }
    if let Some(key) = map.keys().find(|key| LAYERS.into_iter().all(|layer| layer.name() != *key)) {
        let help = "a dictionary by layer type has full_attention and sliding_attention";
        return Err(c.error(&format!("{name}.{key}"), "is no layer type", help));
    }
    match map.get(layer.name()) {
        Some(Value::Object(inner)) => Ok((Some(Dict::new(format!("{name}.{}", layer.name()), inner)), true)),
        _ => Err(c.error(&format!("{name}.{}", layer.name()), "is missing", "give a dictionary")),
    }
}

/// GPT-J: interleaved, on the first `rotary_dim` elements, theta 10 000.
fn gptj(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    decoder_only(c, o)?;
    layers(c, o, "n_layer")?;
    let heads = c.need("n_head", c.count("n_head"))?;
    let rotary_dim = c.need("rotary_dim", c.count("rotary_dim"))?;
    let mut spec = Spec::new(heads, heads, quotient(c, "n_embd", heads)?);
    spec.rotary = Some(Rotary::new(Pairing::Interleaved, rotary_dim, 10_000.0));
    spec.mask = Mask::causal();
    Ok(spec)
}

/// RoFormer: interleaved, whole heads, theta 10 000, an encoder unless the file says otherwise.
fn roformer(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    layers(c, o, "num_hidden_layers")?;
    let heads = c.need("num_attention_heads", c.count("num_attention_heads"))?;
    let head_dim = quotient(c, "hidden_size", heads)?;
    let causal = c.flag("is_decoder")?.unwrap_or(false);
    let stack = if causal { Stack::Decoder } else { Stack::Encoder };
    if o.stack.is_some_and(|wanted| wanted != stack) {
        return Err(c.error("is_decoder", format!("is {causal}"), "ask for the stack that the model has"));
    }
    if c.flag("rotary_value")?.unwrap_or(false) {
        let help = "a spec rotates q and k only: such a model cannot be run";
        return Err(c.error("rotary_value", "means rotated values, which are not supported yet", help));
    }
    let mut spec = Spec::new(heads, heads, head_dim);
    spec.rotary = Some(Rotary::new(Pairing::Interleaved, head_dim, 10_000.0));
    spec.mask.causal = causal;
    Ok(spec)
}

/// T5, mT5, UMT5: no rotation, scale 1, a bucketed bias in self-attention.
fn t5(c: &Dict, o: &ConfigOptions) -> Result<Spec> {
    let stack = o.stack.unwrap_or(Stack::Encoder);
    let decoder_layers = c.has("num_decoder_layers") && stack != Stack::Encoder;
    layers(c, o, if decoder_layers { "num_decoder_layers" } else { "num_layers" })?;
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

fn parse(json: &str) -> Result<Value> {
    serde_json::from_str(json)
        .map_err(|e| Error::config("(file)", format!("cannot be read: {e}"), "give a model's config.json"))
}

fn dictionary<'a>(name: &str, value: &'a Value) -> Result<Dict<'a>> {
    match value.as_object() {
        Some(map) => Ok(Dict::new(name, map)),
        None => Err(Error::config("(file)", format!("is {}", shown(value)), "give a JSON dictionary")),
    }
}

fn decoder_only(c: &Dict, o: &ConfigOptions) -> Result<()> {
    match o.stack {
        None | Some(Stack::Decoder) => Ok(()),
        Some(_) => Err(c.error("model_type", "is a decoder without an encoder", "ask for no stack, or the decoder")),
    }
}

/// The number of layers, where the file says it; the layer asked for must be one of them.
fn layers(c: &Dict, o: &ConfigOptions, key: &'static str) -> Result<Option<u32>> {
    const MOST: u32 = 1 << 16;
    match (c.count(key)?, o.layer) {
        (Some(n), _) if n == 0 || n > MOST => Err(c.error(key, format!("is {n}"), format!("give 1 to {MOST} layers"))),
        (Some(n), Some(layer)) if layer >= n => {
            Err(c.error(key, format!("is {n}, but layer {layer} was asked for"), "layers count from 0"))
        }
        (n, _) => Ok(n),
    }
}

fn quotient(c: &Dict, hidden: &'static str, heads: u32) -> Result<u32> {
    let width = c.need(hidden, c.count(hidden))?;
    match width.checked_rem(heads) {
        Some(0) => Ok(width / heads),
        _ => Err(c.error(hidden, format!("is {width}"), format!("give a multiple of the {heads} heads, or head_dim"))),
    }
}

/// Two places for one value: whichever says it, unless they disagree.
fn agree<T: PartialEq + std::fmt::Display>(d: &Dict, key: &str, a: Option<T>, b: Option<T>) -> Result<Option<T>> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => {
            Err(d.error(key, format!("is {b} here and {a} elsewhere"), "let them agree, or keep one"))
        }
        (a, b) => Ok(a.or(b)),
    }
}

fn dtype(c: &Dict) -> Result<Dtype> {
    let (new, old) = (c.text("dtype")?, c.text("torch_dtype")?);
    match agree(c, "torch_dtype", new, old)? {
        None | Some("float32") => Ok(Dtype::F32),
        Some("float16") => Ok(Dtype::F16),
        Some("bfloat16") => Ok(Dtype::Bf16),
        Some(other) => Err(c.error(
            if new.is_some() { "dtype" } else { "torch_dtype" },
            format!("{other:?} is not a storage type of q, k and v"),
            "give float32, float16 or bfloat16",
        )),
    }
}
