//! What every reader of a configuration asks of it.

use crate::error::{Error, Result};
use crate::hf::dict::{Dict, shown};
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
    /// The layer, from 0; needed where layers differ (Gemma 2 to 4, GPT-OSS, Llama 4, Cohere 2, Swin, Qwen with a
    /// sliding window).
    pub layer: Option<u32>,
    /// The longest sequence of the call in tokens, memory included: for the length extensions that depend on it
    /// ([`RopeScaling::Dynamic`](crate::RopeScaling::Dynamic), [`LongRope`](crate::LongRope); `None`: no longer than the
    /// original length), and for XLNet and Transformer-XL without `clamp_len`, whose tables have a row for each distance.
    pub seq_len: Option<u32>,
    /// Which attention; `None`: that of the encoder where the model is one or has one, of the decoder otherwise.
    pub stack: Option<Stack>,
    /// The caller's q and k already carry the model's q/k norm, which the spec then leaves out. The layer norms of
    /// Phi, StableLM and Cohere, which no spec has, need it.
    pub normalized: bool,
    /// Take the storage type from the file's `dtype` or `torch_dtype`, f32 where it says nothing. Otherwise it is f32,
    /// for the caller to set from the tensors.
    pub config_dtype: bool,
    /// The call has token types: XLNet's segment term.
    pub segments: bool,
}

pub(crate) fn parse(json: &str) -> Result<Value> {
    serde_json::from_str(json)
        .map_err(|e| Error::config("(file)", format!("cannot be read: {e}"), "give a model's config.json"))
}

pub(crate) fn dictionary<'a>(name: &str, value: &'a Value) -> Result<Dict<'a>> {
    match value.as_object() {
        Some(map) => Ok(Dict::new(name, map)),
        None if name.is_empty() || name == "rope_parameters" => {
            Err(Error::config("(file)", format!("is {}", shown(value)), "give a JSON dictionary"))
        }
        None => Err(Error::config(name, format!("is {}", shown(value)), "give a dictionary")),
    }
}

pub(crate) fn decoder_only(c: &Dict, o: &ConfigOptions) -> Result<()> {
    if c.flag("is_causal")? == Some(false) {
        return Err(c.error("is_causal", "is false", "a decoder that sees the future is not supported"));
    }
    match o.stack {
        None | Some(Stack::Decoder) => Ok(()),
        Some(_) => Err(c.error("model_type", "is a decoder without an encoder", "ask for no stack, or the decoder")),
    }
}

/// The number of layers, where the file says it; the layer asked for must be one of them.
pub(crate) fn layers(c: &Dict, o: &ConfigOptions, key: &'static str) -> Result<Option<u32>> {
    const MOST: u32 = 1 << 16;
    match (c.count(key)?, o.layer) {
        (Some(n), _) if n == 0 || n > MOST => Err(c.error(key, format!("is {n}"), format!("give 1 to {MOST} layers"))),
        (Some(n), Some(layer)) if layer >= n => {
            Err(c.error(key, format!("is {n}, but layer {layer} was asked for"), "layers count from 0"))
        }
        (n, _) => Ok(n),
    }
}

pub(crate) fn quotient(c: &Dict, hidden: &'static str, heads: u32) -> Result<u32> {
    let width = c.need(hidden, c.count(hidden))?;
    match width.checked_rem(heads) {
        Some(0) => Ok(width / heads),
        _ => Err(c.error(hidden, format!("is {width}"), format!("give a multiple of the {heads} heads, or head_dim"))),
    }
}

/// Two places for one value: whichever says it, unless they disagree.
pub(crate) fn agree<T: PartialEq + std::fmt::Display>(
    d: &Dict,
    key: &str,
    a: Option<T>,
    b: Option<T>,
) -> Result<Option<T>> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => {
            Err(d.error(key, format!("is {b} here and {a} elsewhere"), "let them agree, or keep one"))
        }
        (a, b) => Ok(a.or(b)),
    }
}
