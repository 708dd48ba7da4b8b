//! Model families that are one rotary decoder.

use crate::equation::factors::{Norm, NormKind, Sink, Temperature};
use crate::equation::mask::Mask;
use crate::equation::rotary::rotary::{Pairing, Rotary};
use crate::equation::rotary::scaling::RopeScaling;
use crate::equation::spec::{Positions, Spec};
use crate::error::{Error, Result};
use crate::hf::dict::{Dict, shown};
use crate::hf::read::{ConfigOptions, agree, decoder_only, layers, quotient};
use crate::hf::rope::{Layer, Lengths, RopeParameters, rope_dictionary};

/// What a family's files mean; defaults are those of the model's class wherever they describe every published model of
/// the family. What differs between checkpoints must be in the file.
pub(crate) struct Family {
    pub(crate) pairing: Pairing,
    /// The class's `rope_theta`; `None`: must be in the file.
    pub(crate) theta: Option<f64>,
    /// The keys that may hold theta outside the rope dictionary.
    pub(crate) theta_keys: &'static [&'static str],
    pub(crate) dictionary: Dictionary,
    pub(crate) partial: Partial,
    pub(crate) sections: Sections,
    pub(crate) turns: Turns,
    pub(crate) head_dim: HeadDim,
    pub(crate) kv_heads: KvHeads,
    pub(crate) windows: Windows,
    pub(crate) norm: QkNorm,
    pub(crate) scale: Scale,
    pub(crate) cap: Cap,
    /// Gemma 3: `use_bidirectional_attention` makes it an encoder.
    pub(crate) bidirectional: bool,
    /// GPT-OSS: one learned logit for each head.
    pub(crate) sinks: bool,
    /// Keys that published files carry and that must say what the family does anyway.
    pub(crate) fixed: &'static [(&'static str, Fixed)],
}

/// Where frequencies come from.
#[derive(PartialEq)]
pub(crate) enum Dictionary {
    /// One dictionary, or none.
    Optional,
    /// One dictionary: the class has a length extension of its own.
    Required,
    /// Gemma 3: sliding layers have a theta of their own and no length extension, or a dictionary of their own.
    Local,
    /// Gemma 4: one for each layer type.
    ByLayer,
}

/// How much of a head rotates.
pub(crate) enum Partial {
    /// All of it.
    Never,
    /// As the file says, else all of it.
    Optional,
    /// As the file says, by one of these keys.
    Required(&'static [&'static str]),
}

/// Which position stream turns which pair.
#[derive(PartialEq)]
pub(crate) enum Sections {
    Never,
    /// Qwen2-VL: the sections of `mrope_section`, one stream after the other.
    Contiguous,
    /// Qwen3-VL: the streams by turns, as long as their sections last; the rest is stream 0.
    ByTurns,
    /// Ernie 4.5 VL: streams 1 and 2 by turns, then stream 0; `mrope_section` counts them in this order.
    Ernie,
}

/// Which layers rotate.
#[derive(PartialEq)]
pub(crate) enum Turns {
    All,
    /// Cohere 2: those with a window.
    Sliding,
    /// Llama 4: those with a 1 in `no_rope_layers`, or all but every n-th.
    Listed,
}

pub(crate) enum HeadDim {
    /// `hidden_size / num_attention_heads`.
    Quotient,
    /// `hidden_size / num_attention_heads`, which `head_dim` may repeat.
    Repeated,
    /// `head_dim`, else the quotient.
    Optional,
    /// `head_dim`: the class has a constant of its own for it.
    Required,
    /// Gemma 4: `head_dim`, and `global_head_dim` and `num_global_key_value_heads` for layers that see everything.
    ByLayer,
}

pub(crate) enum KvHeads {
    /// There is no such key: as many as query heads.
    Never,
    /// As many as query heads, unless the file says otherwise.
    Same,
    /// The class's own constant is this: a file without the key is ambiguous unless it has as many query heads.
    Class(u32),
}

#[derive(PartialEq)]
pub(crate) enum Windows {
    Never,
    /// Every layer, where `sliding_window` is a number; `may_miss`: a missing key means none.
    Every {
        may_miss: bool,
    },
    /// Layers from `max_window_layers` on, where `use_sliding_window`.
    From,
    /// All layers but every n-th.
    AllBut(u32),
    /// Llama 4: layers that rotate see chunks of `attention_chunk_size`.
    Chunks,
}

pub(crate) enum QkNorm {
    Never,
    /// RMS with weights, before rotation; the eps of the class.
    Rms(f64),
    /// Llama 4: RMS without weights, after rotation, where `use_qk_norm`.
    AfterRotation,
    /// A layer norm where this key is true, which a spec cannot express.
    LayerNorm(&'static str),
}

pub(crate) enum Scale {
    /// 1 / sqrt(head_dim).
    HeadDim,
    /// `query_pre_attn_scalar^-0.5`.
    QueryPreAttnScalar,
    One,
}

pub(crate) enum Cap {
    Never,
    Optional,
    Required,
}

pub(crate) enum Fixed {
    Number(f64),
    Text(&'static str),
    /// The number of elements that rotate.
    RotaryDim,
}

pub(crate) const LLAMA: Family = Family {
    pairing: Pairing::Half,
    theta: Some(10_000.0),
    theta_keys: &["rope_theta"],
    dictionary: Dictionary::Optional,
    partial: Partial::Never,
    sections: Sections::Never,
    turns: Turns::All,
    head_dim: HeadDim::Optional,
    kv_heads: KvHeads::Same,
    windows: Windows::Never,
    norm: QkNorm::Never,
    scale: Scale::HeadDim,
    cap: Cap::Never,
    bidirectional: false,
    sinks: false,
    fixed: &[],
};

pub(crate) const PARTIAL: &[&str] = &["partial_rotary_factor"];

impl Family {
    pub(crate) fn read(&self, c: &Dict, o: &ConfigOptions) -> Result<Spec> {
        decoder_only(c, o)?;
        let heads = c.need("num_attention_heads", c.count("num_attention_heads"))?;
        let (layer, window) = self.layer(c, o)?;
        let turning = match self.turns {
            Turns::All => true,
            Turns::Sliding => layer == Layer::Sliding,
            Turns::Listed => self.listed(c)?.is_none_or(|turns| turns(o.layer.unwrap_or(0))),
        };
        let (head_dim, kv_heads) = self.sizes(c, o, heads, layer)?;
        let mut spec = Spec::new(heads, kv_heads, head_dim);
        let rotary = self.rotary(c, o, layer, head_dim)?;
        let rotary_dim = rotary.rotary_dim;
        spec.rotary = turning.then_some(rotary);
        if spec.position_streams() > 1 {
            spec.positions = Positions::Ids;
        }
        spec.mask = match layer {
            Layer::Full => Mask::causal(),
            Layer::Sliding => Mask { window_left: window.map(|w| w - 1), ..Mask::causal() },
            Layer::Chunked => Mask { chunk: window, ..Mask::causal() },
        };
        if self.bidirectional && c.flag("use_bidirectional_attention")?.unwrap_or(false) {
            // The class keeps half the window to each side.
            let side = spec.mask.window_left.map(|w| w.div_ceil(2));
            spec.mask = Mask { window_left: side, window_right: side, ..Mask::none() };
        }
        spec.softmax_scale = match self.scale {
            Scale::HeadDim => None,
            Scale::One => Some(1.0),
            Scale::QueryPreAttnScalar => {
                let scalar = c.need("query_pre_attn_scalar", c.number("query_pre_attn_scalar"))?;
                if !(scalar.is_finite() && scalar > 0.0) {
                    return Err(c.error("query_pre_attn_scalar", format!("is {scalar}"), "give a number above 0"));
                }
                Some(1.0 / scalar.sqrt())
            }
        };
        spec.logits_soft_cap = match self.cap {
            Cap::Never => None,
            Cap::Required if !c.has("attn_logit_softcapping") => {
                return Err(c.error("attn_logit_softcapping", "is missing", "give the cap, or null for none"));
            }
            Cap::Optional | Cap::Required => c.number("attn_logit_softcapping")?,
        };
        spec.norm = self.norm(c, o, turning)?;
        if self.turns == Turns::Listed {
            spec.temperature = temperature(c)?.filter(|_| !turning);
        }
        spec.sink = self.sinks.then_some(Sink::Learned);
        for (key, fixed) in self.fixed {
            fixed.check(c, key, rotary_dim)?;
        }
        Ok(spec)
    }

    /// `head_dim` and the key/value heads.
    fn sizes(&self, c: &Dict, o: &ConfigOptions, heads: u32, layer: Layer) -> Result<(u32, u32)> {
        let given = match self.head_dim {
            HeadDim::Quotient => None,
            _ => c.count("head_dim")?,
        };
        let kv_heads = self.kv_heads(c, heads)?;
        Ok(match (&self.head_dim, given) {
            (HeadDim::Repeated, Some(d)) => {
                let quotient = quotient(c, "hidden_size", heads)?;
                if d != quotient {
                    let problem = format!("is {d}, but the class takes hidden_size / num_attention_heads = {quotient}");
                    return Err(c.error("head_dim", problem, "let them agree, or correct model_type"));
                }
                (d, kv_heads)
            }
            (HeadDim::Required | HeadDim::ByLayer, None) => (c.need("head_dim", Ok(None))?, kv_heads),
            (HeadDim::ByLayer, Some(d)) => global_sizes(c, o, layer, d, kv_heads)?,
            (_, Some(d)) => (d, kv_heads),
            (_, None) => (quotient(c, "hidden_size", heads)?, kv_heads),
        })
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

    fn norm(&self, c: &Dict, o: &ConfigOptions, turning: bool) -> Result<Option<Norm>> {
        let norm = match self.norm {
            QkNorm::Never => None,
            QkNorm::Rms(eps) => {
                let mut norm = Norm::new(NormKind::Rms, c.number("rms_norm_eps")?.unwrap_or(eps));
                norm.weights = true;
                Some(norm)
            }
            QkNorm::AfterRotation => {
                let mut norm = Norm::new(NormKind::Rms, c.need("rms_norm_eps", c.number("rms_norm_eps"))?);
                norm.after_rotation = true;
                let used = c.need("use_qk_norm", c.flag("use_qk_norm"))?;
                (used && turning).then_some(norm)
            }
            QkNorm::LayerNorm(key) => {
                if c.flag(key)?.unwrap_or(false) && !o.normalized {
                    return Err(c.error(
                        key,
                        "means a layer norm of q and k before their rotation, which no spec has",
                        "apply the norm to q and k first, and say so with the option `normalized`",
                    ));
                }
                None
            }
        };
        Ok(norm.filter(|_| !o.normalized))
    }

    /// What kind of layer the options name, and its window or chunk in keys.
    fn layer(&self, c: &Dict, o: &ConfigOptions) -> Result<(Layer, Option<u32>)> {
        let layers = layers(c, o, "num_hidden_layers")?;
        let sliding_from = match self.windows {
            Windows::From if c.flag("use_sliding_window")?.unwrap_or(false) => {
                Some(c.need("max_window_layers", c.count("max_window_layers"))?)
            }
            _ => None,
        };
        let width = if self.windows == Windows::Chunks { "attention_chunk_size" } else { "sliding_window" };
        let window = match self.windows {
            Windows::Never => None,
            Windows::Every { may_miss } if !may_miss && !c.has("sliding_window") => {
                return Err(c.error("sliding_window", "is missing", "give the window in tokens, or null for none"));
            }
            Windows::From => {
                c.get("sliding_window").and(sliding_from).map_or(Ok(None), |_| c.count("sliding_window"))?
            }
            Windows::Every { .. } | Windows::AllBut(_) | Windows::Chunks => c.count(width)?,
        };
        if window == Some(0) {
            return Err(c.error(width, "is 0", "give 1 or more tokens, or null for none"));
        }
        let period = match self.windows {
            Windows::AllBut(n) => {
                let period = c.count("sliding_window_pattern")?;
                agree(c, "_sliding_window_pattern", period, c.count("_sliding_window_pattern")?)?.unwrap_or(n)
            }
            _ => 1,
        };
        if period == 0 {
            return Err(c.error("sliding_window_pattern", "is 0", "give 1 or more layers"));
        }
        let turns = if self.turns == Turns::Listed { self.listed(c)? } else { None };
        let by_family = |layer: u32| match self.windows {
            Windows::Every { .. } if window.is_some() => Layer::Sliding,
            Windows::From if sliding_from.is_some_and(|from| layer >= from) => Layer::Sliding,
            Windows::AllBut(_) if !(layer as u64 + 1).is_multiple_of(period as u64) => Layer::Sliding,
            Windows::Chunks if turns.as_ref().is_none_or(|turns| turns(layer)) => Layer::Chunked,
            _ => Layer::Full,
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
        let last = count.and_then(|n| kind(n.checked_sub(1)?));
        if matches!(self.head_dim, HeadDim::ByLayer) && last.is_some_and(|last| last != Layer::Full) {
            let help = "end with full_attention, which the class puts there";
            return Err(c.error("layer_types", "ends with another layer than full_attention", help));
        }
        // Two layers of a kind may differ in what `no_rope_layers` says of them.
        let whole = |layer: u32| kind(layer).map(|kind| (kind, turns.as_ref().is_none_or(|turns| turns(layer))));
        let alike = matches!(self.windows, Windows::Never | Windows::Every { .. }) && listed.is_none();
        let chosen = match (o.layer, count) {
            (Some(layer), _) => kind(layer),
            (None, _) if alike => kind(0),
            (None, Some(n)) => kind(0).filter(|_| (1..n).all(|layer| whole(layer) == whole(0))),
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
            (Layer::Sliding | Layer::Chunked, Some(w)) => Ok((chosen, Some(w))),
            (Layer::Sliding, None) => Err(c.error(
                "sliding_window",
                "is missing for a layer with a sliding window",
                "give the window in tokens (and use_sliding_window, where the model has it)",
            )),
            (Layer::Chunked, None) => {
                Err(c.error("attention_chunk_size", "is missing for a layer with chunks", "give the chunk in tokens"))
            }
        }
    }

    /// The listed kinds; those of a family whose layers are all alike must be what the family would say.
    fn layer_types(&self, c: &Dict, types: &[&str], by_family: impl Fn(u32) -> Layer) -> Result<Vec<Layer>> {
        let free: &[Layer] = match self.windows {
            Windows::From | Windows::AllBut(_) => &[Layer::Full, Layer::Sliding],
            Windows::Chunks => &[Layer::Full, Layer::Chunked],
            Windows::Never | Windows::Every { .. } => &[],
        };
        let kind = |(at, name): (usize, &&str)| {
            let allowed = |found: &Layer| match free.is_empty() {
                true => *found == by_family(at as u32),
                false => free.contains(found),
            };
            Layer::named(name).filter(allowed).ok_or_else(|| {
                let expected = match free {
                    [a, b] => format!("{} or {}", a.name(), b.name()),
                    _ => by_family(at as u32).name().into(),
                };
                c.error(
                    "layer_types",
                    format!("calls layer {at} {}", shown(&(*name).into())),
                    format!("supported here is {expected}"),
                )
            })
        };
        types.iter().enumerate().map(kind).collect()
    }

    /// Llama 4: whether a layer rotates, by `no_rope_layers` (1: it does) or `no_rope_layer_interval`.
    fn listed(&self, c: &Dict) -> Result<Option<impl Fn(u32) -> bool + use<>>> {
        let list = c.numbers("no_rope_layers")?.filter(|list| !list.is_empty());
        let interval = c.count("no_rope_layer_interval")?.unwrap_or(4);
        if interval == 0 {
            return Err(c.error("no_rope_layer_interval", "is 0", "give 1 or more layers"));
        }
        if let Some(list) = &list {
            let layers = c.count("num_hidden_layers")?.map_or(list.len(), |n| n as usize);
            if list.len() < layers || list.iter().any(|x| *x != 0.0 && *x != 1.0) {
                return Err(c.error(
                    "no_rope_layers",
                    format!("holds {} entries for {layers} layers, or others than 0 and 1", list.len()),
                    "give 1 for each layer that rotates and 0 for each other",
                ));
            }
        }
        Ok(Some(move |layer: u32| match &list {
            Some(list) => list.get(layer as usize).is_some_and(|x| *x == 1.0),
            None => !(layer as u64 + 1).is_multiple_of(interval as u64),
        }))
    }

    fn rotary(&self, c: &Dict, o: &ConfigOptions, layer: Layer, head_dim: u32) -> Result<Rotary> {
        let lengths = Lengths {
            max: c.count("max_position_embeddings")?,
            original: c.count("original_max_position_embeddings")?,
            seq_len: o.seq_len,
        };
        let (dict, nested) = rope_dictionary(c, layer)?;
        let local_theta = self.dictionary == Dictionary::Local;
        let new = dict.as_ref().is_some_and(|d| d.name().ends_with("rope_parameters"));
        if !nested && (local_theta && new || self.dictionary == Dictionary::ByLayer) {
            let help = "give one dictionary for full_attention and one for sliding_attention";
            return Err(c.error("rope_parameters", "is not a dictionary by layer type, and layers differ", help));
        }
        if dict.is_none() && self.dictionary == Dictionary::Required {
            return Err(c.error(
                "rope_scaling",
                "is missing",
                "give the dictionary, {\"rope_type\": \"default\"} for none",
            ));
        }
        let local = local_theta && layer == Layer::Sliding;
        let dict = dict.filter(|_| nested || !local);
        let sections = match &dict {
            Some(dict) if self.sections != Sections::Never => {
                let turns = dict.flag("mrope_interleaved")?;
                let by_turns = self.sections == Sections::ByTurns;
                if turns.is_some_and(|turns| turns != by_turns) {
                    let problem = format!("is {}, which this model_type is not", !by_turns);
                    return Err(dict.error("mrope_interleaved", problem, "remove the key, or correct model_type"));
                }
                dict.numbers("mrope_section")?
            }
            _ => None,
        };
        let parameters = match &dict {
            Some(dict) => RopeParameters::read(dict, &lengths, self.sections != Sections::Never)?,
            None => RopeParameters { theta: None, partial_rotary_factor: None, scaling: RopeScaling::Default },
        };
        let mut theta = parameters.theta;
        let theta_keys = if local { &["rope_local_base_freq"] } else { self.theta_keys };
        for key in theta_keys {
            theta = agree(c, key, theta, c.number(key)?)?;
        }
        if local_theta {
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
        let mut rotary = scaled(c, dict.as_ref(), self.pairing, rotary_dim, theta, &parameters.scaling)?;
        if self.sections != Sections::Never {
            rotary.streams = self.streams(dict.as_ref().unwrap_or(c), sections, rotary_dim / 2)?;
        }
        Ok(rotary)
    }

    /// The position stream of every pair.
    fn streams(&self, d: &Dict, sections: Option<Vec<f64>>, pairs: u32) -> Result<Vec<u8>> {
        // Every published Ernie 4.5 VL has these, and the class's own files leave them out.
        let class = (self.sections == Sections::Ernie).then(|| vec![22.0, 22.0, 20.0]);
        let sections = d.need("mrope_section", Ok(sections.or(class)))?;
        let wrong = |help: String| Err(d.error("mrope_section", format!("is {sections:?}"), help));
        let [a, b, last] = sections[..] else {
            return wrong("give three counts of pairs".into());
        };
        if [a, b, last].iter().any(|n| n.fract() != 0.0 || *n < 0.0) || a + b + last != pairs as f64 {
            return wrong(format!("give three whole counts of pairs, {pairs} together"));
        }
        let [a, b, last] = [a as u32, b as u32, last as u32];
        if self.sections == Sections::Ernie && a != b {
            return wrong("let the first two, which take turns, be equal".into());
        }
        let stream = |pair: u32| match self.sections {
            Sections::Never => 0,
            Sections::Contiguous => (pair >= a) as u8 + (pair >= a + b) as u8,
            Sections::ByTurns => match pair % 3 {
                1 if pair < 3 * b => 1,
                2 if pair < 3 * last => 2,
                _ => 0,
            },
            Sections::Ernie if pair >= a + b => 0,
            Sections::Ernie => 1 + (pair % 2) as u8,
        };
        Ok((0..pairs).map(stream).collect())
    }
}

/// A rotation whose errors name the file's keys.
pub(crate) fn scaled(
    c: &Dict,
    dict: Option<&Dict>,
    pairing: Pairing,
    rotary_dim: u32,
    theta: f64,
    scaling: &RopeScaling,
) -> Result<Rotary> {
    Rotary::scaled(pairing, rotary_dim, theta, scaling).map_err(|error| match error {
        Error::Spec { field, problem, help } => match (field.strip_prefix("scaling."), dict) {
            (Some("theta"), _) => c.error("rope_theta", problem, help),
            (Some("rotary_dim"), _) => c.error("rotary_dim", problem, help),
            (Some(key), Some(dict)) => dict.error(key, problem, help),
            _ => Error::Spec { field, problem, help },
        },
        other => other,
    })
}

/// Llama 4: on unless switched off; older files say it with a number.
fn temperature(c: &Dict) -> Result<Option<Temperature>> {
    let on = match c.get("attn_temperature_tuning") {
        Some(value) if value.is_number() => c.number("attn_temperature_tuning")? != Some(0.0),
        _ => c.flag("attn_temperature_tuning")?.unwrap_or(true),
    };
    let scale = c.number("attn_scale")?.unwrap_or(0.1);
    let floor = c.count("floor_scale")?.unwrap_or(8192);
    Ok(on.then(|| Temperature::new(scale, floor)))
}

/// Gemma 4: sizes of a layer that sees everything, by the older keys or by `per_layer_config`; k and v of layers that
/// share them (`num_kv_shared_layers`) are the caller's to pass again.
fn global_sizes(c: &Dict, o: &ConfigOptions, layer: Layer, head_dim: u32, kv_heads: u32) -> Result<(u32, u32)> {
    let global_dim = c.count("global_head_dim")?;
    let global_heads = c.count("num_global_key_value_heads")?;
    let shared = c.flag("attention_k_eq_v")?.unwrap_or(false);
    if let Some(layers) = c.get("per_layer_config") {
        let at = o.layer.unwrap_or(0) as usize;
        let Some(map) = layers.as_object() else {
            return Err(c.error("per_layer_config", format!("is {}", shown(layers)), "give a dictionary by layer"));
        };
        let Some((key, own)) = map.iter().find(|(key, _)| key.parse() == Ok(at)) else {
            return Ok((head_dim, kv_heads));
        };
        let name = c.field(&format!("per_layer_config.{key}"));
        let Some(own) = own.as_object() else {
            return Err(Error::config(name, format!("is {}", shown(own)), "give a dictionary"));
        };
        let own = Dict::new(name, own);
        let sizes = (own.count("head_dim")?.unwrap_or(head_dim), own.count("num_key_value_heads")?.unwrap_or(kv_heads));
        return match own.unread().next() {
            Some((key, value)) => Err(own.error(key, format!("is {}", shown(value)), "only sizes may differ by layer")),
            None => Ok(sizes),
        };
    }
    match layer {
        Layer::Full => {
            Ok((c.need("global_head_dim", Ok(global_dim))?, global_heads.filter(|_| shared).unwrap_or(kv_heads)))
        }
        Layer::Sliding | Layer::Chunked => Ok((head_dim, kv_heads)),
    }
}

impl Fixed {
    fn check(&self, c: &Dict, key: &'static str, rotary_dim: u32) -> Result<()> {
        let agrees = match self {
            Fixed::Number(n) => c.number(key)?.is_none_or(|x| x == *n),
            Fixed::Text(text) => c.text(key)?.is_none_or(|x| x == *text),
            Fixed::RotaryDim => c.count(key)?.is_none_or(|x| x == rotary_dim),
        };
        if agrees {
            return Ok(());
        }
        let expected = match self {
            Fixed::Number(n) => n.to_string(),
            Fixed::Text(text) => text.to_string(),
            Fixed::RotaryDim => rotary_dim.to_string(),
        };
        let found = c.get(key).map(shown).unwrap_or_default();
        Err(c.error(key, format!("is {found}"), format!("this model_type has {expected}")))
    }
}
