//! Where queries stand among the keys.

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
