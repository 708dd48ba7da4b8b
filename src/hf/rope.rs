//! The dictionary of a rotation: `rope_parameters`, or the older `rope_scaling`.

use crate::equation::rotary::scaling::{LongRope, RopeScaling, Yarn};
use crate::error::{Error, Result};
use crate::hf::dict::{Dict, shown};
use crate::hf::read::{agree, dictionary, parse};
use serde_json::Value;

/// What kind of layer, where a model has several.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Layer {
    Full,
    Sliding,
    Chunked,
}

const LAYERS: [Layer; 3] = [Layer::Full, Layer::Sliding, Layer::Chunked];

impl Layer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Layer::Full => "full_attention",
            Layer::Sliding => "sliding_attention",
            Layer::Chunked => "chunked_attention",
        }
    }
    pub(crate) fn named(name: &str) -> Option<Layer> {
        LAYERS.into_iter().find(|layer| layer.name() == name)
    }
}

/// Lengths, in tokens, that stand outside the rope dictionary.
pub(crate) struct Lengths {
    pub(crate) max: Option<u32>,
    pub(crate) original: Option<u32>,
    pub(crate) seq_len: Option<u32>,
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
        Self::read(&dictionary("rope_parameters", &parse(json)?)?, &lengths, false)
    }

    /// `sections`: the model has position streams, whose keys the caller reads; its older files say `mrope` for
    /// `default`, besides or instead of a `rope_type`.
    pub(crate) fn read(d: &Dict, lengths: &Lengths, sections: bool) -> Result<Self> {
        let theta = d.number("rope_theta")?;
        let partial_rotary_factor = d.number("partial_rotary_factor")?;
        let named = |kind| if sections && kind == "mrope" { "default" } else { kind };
        let kind = match (d.text("rope_type")?.map(named), d.text("type")?.map(named)) {
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
pub(crate) fn rope_dictionary<'a>(c: &Dict<'a>, layer: Layer) -> Result<(Option<Dict<'a>>, bool)> {
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
        return Ok((Some(Dict::new(c.field(name), map)), false));
    }
    if let Some(key) = map.keys().find(|key| *key != Layer::Full.name() && *key != Layer::Sliding.name()) {
        let help = "a dictionary by layer type has full_attention and sliding_attention";
        return Err(c.error(&format!("{name}.{key}"), "is no layer type", help));
    }
    match map.get(layer.name()) {
        Some(Value::Object(inner)) => Ok((Some(Dict::new(c.field(&format!("{name}.{}", layer.name())), inner)), true)),
        _ => Err(c.error(&format!("{name}.{}", layer.name()), "is missing", "give a dictionary")),
    }
}
