//! A, B and E_V: embeddings of relative positions.

use crate::equation::index::IndexMap;
use serde::Deserialize;
use serde::Serialize;

/// Which product a relative table enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RelativeSide {
    /// A: `scale * < q_i + v_h, table[r] >`: the query against the relative position (Shaw, Transformer-XL, DeBERTa's
    /// content-to-position).
    Key,
    /// B: `scale * < k_j, table[r] >`: the key against the relative position (DeBERTa's position-to-content, BERT relative_key_query).
    Query,
    /// E_V: `o_i` gains `p_ij table[r]` (Shaw, VITS).
    Value,
}

/// A, B or E_V: a table of embeddings of relative positions, the parameter `relative_I` of the I-th entry of
/// `spec.relative`: `[rows, num_heads or 1, head_dim]`, for values `[.., v_head_dim]`. q and k enter as they come, before norm and rotation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Relative {
    /// Which product.
    pub side: RelativeSide,
    /// Which row.
    pub index: IndexMap,
    /// Whether every query head has a table of its own.
    #[serde(default)]
    pub per_head: bool,
    /// v_h: the parameter `relative_bias_I`, `[num_heads, head_dim]`, is added to q (Transformer-XL); `Key` only.
    #[serde(default)]
    pub query_bias: bool,
    /// Multiplies the product; `None`: the softmax scale. Not used by `Value`.
    #[serde(default)]
    pub scale: Option<f64>,
    /// Elements of a query of its own, 1 to 256, in place of q: the input `relative_queries`, `[batch, num_heads, q_len, own]`, and rows of
    /// the table have as many (Inkling). `Key` only, one term at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<u32>,
}

impl Relative {
    /// One table for all heads, no query bias, scaled as the content is.
    pub fn new(side: RelativeSide, index: IndexMap) -> Self {
        Relative { side, index, per_head: false, query_bias: false, scale: None, own: None }
    }
    /// Elements of a row of the table, in a head of these sizes.
    pub(crate) fn dim(&self, head_dim: u32, v_head_dim: u32) -> u32 {
        match self.side {
            RelativeSide::Value => v_head_dim,
            RelativeSide::Key | RelativeSide::Query => self.own.unwrap_or(head_dim),
        }
    }
    pub(crate) fn name(&self) -> &'static str {
        match self.side {
            RelativeSide::Key => "A",
            RelativeSide::Query => "B",
            RelativeSide::Value => "E_V",
        }
    }
}
