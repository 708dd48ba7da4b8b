//! Which keys a query sees.

use serde::Deserialize;
use serde::Serialize;

/// How query row i is placed among the keys: i' = i + kv_len - q_len, or i' = i.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Alignment {
    /// i' = i + kv_len - q_len: caches and packed sequences.
    #[default]
    BottomRight,
    /// i' = i: torch's `is_causal`.
    TopLeft,
}

/// Which keys a query sees: by index, never by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Mask {
    /// j <= i'.
    #[serde(default)]
    pub causal: bool,
    /// How i' comes from i.
    #[serde(default)]
    pub alignment: Alignment,
    /// i' - left <= j.
    #[serde(default)]
    pub window_left: Option<u32>,
    /// j <= i' + right.
    #[serde(default)]
    pub window_right: Option<u32>,
    /// floor(j / chunk) = floor(i' / chunk) (Llama 4).
    #[serde(default)]
    pub chunk: Option<u32>,
    /// A boolean tensor `mask` (true: attend) is among the inputs.
    #[serde(default)]
    pub dense: bool,
}

impl Mask {
    /// Every key.
    pub fn none() -> Self {
        Self::default()
    }
    /// j <= i', aligned bottom-right.
    pub fn causal() -> Self {
        Mask { causal: true, ..Self::default() }
    }
    /// How many keys after i' are visible, if that is limited at all.
    pub(crate) fn right(&self) -> Option<u32> {
        match (self.causal, self.window_right) {
            (true, _) => Some(0),
            (false, right) => right,
        }
    }
}
