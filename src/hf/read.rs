//! What every reader of a configuration asks of it.

use crate::error::{Error, Result};
use crate::hf::dict::{Dict, shown};
use serde_json::Value;
use std::borrow::Cow;

/// Which attention of a model is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
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
    /// Which configuration within the file, by its keys: `vision_config`, `thinker_config.text_config`; `None`: the file's own
    /// attention, else its text model's.
    pub part: Option<String>,
    /// The layer, from 0; needed where layers that have attention differ.
    pub layer: Option<u32>,
    /// The longest sequence of the call in tokens, memory included: for the length extensions that depend on it
    /// ([`RopeScaling::Dynamic`](crate::RopeScaling::Dynamic), [`LongRope`](crate::LongRope); `None`: no longer than the
    /// original length), and for XLNet and Transformer-XL without `clamp_len`, whose tables have a row for each distance.
    pub seq_len: Option<u32>,
    /// Which attention; `None`: that of the encoder where the model is one or has one, of the decoder otherwise.
    pub stack: Option<Stack>,
    /// The caller's q and k already carry the model's q/k norm, which the spec then leaves out. The layer norms of
    /// Phi, StableLM and Cohere, and norms over all heads, which are not read from a configuration, need it.
    pub normalized: bool,
    /// Take the storage type from the file's `dtype` or `torch_dtype`, f32 where it says nothing. Otherwise it is f32,
    /// for the caller to set from the tensors.
    pub config_dtype: bool,
    /// The call has token types: XLNet's segment term.
    pub segments: bool,
}

pub(crate) fn parse(json: &str) -> Result<Value> {
    serde_json::from_str(&finite(json))
        .map_err(|e| Error::config("(file)", format!("cannot be read: {e}"), "give a model's config.json"))
}

/// The text with Python's `NaN`, `Infinity` and `-Infinity` as strings: an error where such a number is read, nothing elsewhere.
#[doc(hidden)]
pub fn finite(json: &str) -> Cow<'_, str> {
    const NAMES: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !NAMES.iter().any(|name| json.contains(name)) {
        return json.into();
    }
    let (mut text, mut rest, mut quoted) = (String::with_capacity(json.len() + 16), json, false);
    while let Some(next) = rest.chars().next() {
        let name = NAMES.iter().find(|name| !quoted && rest.starts_with(**name));
        let taken = match (name, next) {
            (Some(name), _) => {
                text.extend(["\"", name, "\""]);
                rest = &rest[name.len()..];
                continue;
            }
            (None, '\\') if quoted => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => next.len_utf8(),
        };
        quoted ^= next == '"';
        let (head, tail) = rest.split_at(taken);
        text.push_str(head);
        rest = tail;
    }
    text.into()
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
