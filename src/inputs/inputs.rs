//! The arguments of one call, for GPU and reference alike. `problem` checks them against the spec.

use crate::equation::user::{MaskMod, ScoreMod};
use crate::error::{Error, Result};
use crate::inputs::cache::Placement;
use crate::inputs::tensor::Tensor;
use std::collections::BTreeMap;

/// D or a boolean mask: `[batch, num_heads, q_len, kv_len]`, where every dimension may be 1 and is then broadcast.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense<T> {
    pub(crate) shape: [u32; 4],
    pub(crate) data: Vec<T>,
}

impl<T: Copy> Dense<T> {
    /// Checks that there is one element for each index.
    pub fn new(shape: [u32; 4], data: Vec<T>) -> Result<Self> {
        let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64));
        if elements != Some(data.len() as u64) || data.is_empty() || data.len() > u32::MAX as usize {
            return Err(Error::input(
                "dense",
                format!("{} elements for shape {shape:?}", data.len()),
                "give exactly one element for each index, at least one and fewer than 2^32",
            ));
        }
        Ok(Dense { shape, data })
    }
    /// Each is 1 or the full size.
    pub fn shape(&self) -> [u32; 4] {
        self.shape
    }
    /// Row-major.
    pub fn data(&self) -> &[T] {
        &self.data
    }
    /// Element strides, 0 where a dimension is broadcast.
    pub fn strides(&self) -> [u32; 4] {
        let [b, h, i, j] = self.shape;
        let full = [h * i * j, i * j, j, 1];
        std::array::from_fn(|d| if [b, h, i, j][d] == 1 { 0 } else { full[d] })
    }
    /// The element of `[b, h, i, j]`.
    pub fn get(&self, at: [u32; 4]) -> T {
        let index: usize = self.strides().iter().zip(at).map(|(s, i)| *s as usize * i as usize).sum();
        self.data[index]
    }
}

/// cos and sin of every table row, `[rows, rotary_dim / 2]`; a position is a row.
#[derive(Debug, Clone, PartialEq)]
pub struct AngleTable {
    /// cos, row-major.
    pub cos: Vec<f32>,
    /// sin, row-major.
    pub sin: Vec<f32>,
}

/// The arguments of one call. Fill the fields that the spec asks for; leave the others `None` or empty.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inputs {
    /// `[batch, q_len, num_heads, head_dim]`.
    pub q: Tensor,
    /// `[batch, capacity, num_kv_heads, head_dim]`; rows from kv_len on are never read into a result.
    pub k: Tensor,
    /// `[batch, capacity, num_kv_heads, v_head_dim]`.
    pub v: Tensor,
    /// Where the keys of every sequence stand, where k and v are a pool of rows, `[1, rows, num_kv_heads, dim]`. All else is then as of a call
    /// whose k and v are [`Inputs::gathered`].
    pub placement: Option<Placement>,
    /// Keys in use, at most the capacity; `None`: all. Not together with `kv_lens`.
    pub kv_len: Option<u32>,
    /// `[batch]`: keys in use of every sequence, where `spec.kv_lens`.
    pub kv_lens: Option<Vec<u32>>,
    /// `[streams, batch, q_len]`, where `spec.positions` is `Ids`; `spec.position_streams()` says how many streams.
    pub q_positions: Option<Vec<i32>>,
    /// `[streams, batch, capacity]`, where `spec.positions` is `Ids`.
    pub k_positions: Option<Vec<i32>>,
    /// `[batch, q_len]`: the segment of every query, where a term reads it (`spec.segments()`).
    pub q_segments: Option<Vec<i32>>,
    /// `[batch, capacity]`: the segment of every key.
    pub k_segments: Option<Vec<i32>>,
    /// The first token of every sequence in q and one past the last, `[sequences + 1]`, where `spec.packed`: from 0 to q's
    /// tokens, never decreasing. q, k and v have one batch entry then.
    pub cu_seqlens_q: Option<Vec<u32>>,
    /// The same in k and v, for the same sequences.
    pub cu_seqlens_k: Option<Vec<u32>>,
    /// What the model has learned, by name: the tensors that [`Spec::parameters`](crate::Spec::parameters) lists.
    pub parameters: BTreeMap<String, Vec<f32>>,
    /// D, where `spec.dense_bias`.
    pub attn_bias: Option<Dense<f32>>,
    /// `[batch, num_heads, q_len]`: what multiplies C, where `spec.gated_bias`. f32 on devices.
    pub gates: Option<Vec<f64>>,
    /// `[batch, num_heads, q_len]`: factors of the softmax scale, where `spec.query_scales`.
    pub query_scales: Option<Vec<f32>>,
    /// `[batch, num_heads, q_len]`: finite logits in the denominator, where `spec.sink` is `Query`.
    pub query_sinks: Option<Vec<f32>>,
    /// `[batch, num_heads, capacity]`: c, where `spec.key_bias`. Two f32 words on devices.
    pub key_bias: Option<Vec<f64>>,
    /// `[batch, num_heads, q_len, own]`, where a term of `spec.relative` has a query of its own.
    pub relative_queries: Option<Vec<f32>>,
    /// true: attend; where `spec.mask.dense`.
    pub mask: Option<Dense<bool>>,
    /// Where the rotation's angle source is `Table`.
    pub angle_table: Option<AngleTable>,
    /// The twin of `spec.score_mod`, for the reference and the check alone.
    pub score_mod: Option<ScoreMod>,
    /// The twin of `spec.mask_mod`, for the reference and the check alone.
    pub mask_mod: Option<MaskMod>,
    /// The words that `user_u32` and `user_f32` read in `spec.score_mod` and `spec.mask_mod`; empty where they read none.
    pub user_data: Vec<u32>,
    /// S before the first key, `[batch, num_kv_heads, features, v_head_dim]`, where `spec.linear` starts from a state.
    pub initial_state: Option<Vec<f32>>,
    /// z before the first key, `[batch, num_kv_heads, features]`, where it has a normalizer too.
    pub initial_normalizer: Option<Vec<f32>>,
    /// g of every token, `[batch, capacity, num_kv_heads]` or `[.., features]`, where `spec.linear.decay` reads it.
    pub decay: Option<Vec<f32>>,
    /// beta of every token, `[batch, capacity, num_kv_heads]`, where `spec.linear.delta` reads it.
    pub beta: Option<Vec<f32>>,
}

impl Inputs {
    /// The three tensors; set the other fields afterwards.
    pub fn new(q: Tensor, k: Tensor, v: Tensor) -> Self {
        Inputs {
            q,
            k,
            v,
            placement: None,
            kv_len: None,
            kv_lens: None,
            q_positions: None,
            k_positions: None,
            q_segments: None,
            k_segments: None,
            cu_seqlens_q: None,
            cu_seqlens_k: None,
            parameters: BTreeMap::new(),
            attn_bias: None,
            gates: None,
            query_scales: None,
            query_sinks: None,
            key_bias: None,
            relative_queries: None,
            mask: None,
            angle_table: None,
            score_mod: None,
            mask_mod: None,
            user_data: Vec::new(),
            initial_state: None,
            initial_normalizer: None,
            decay: None,
            beta: None,
        }
    }
}

/// The most tokens of q, and of k: the difference of two positions by index, and a sum of two such, is an i32.
pub(crate) const MAX_LEN: u32 = 1 << 30;

/// The most rows of a grid.
pub(crate) const MAX_ROWS: u128 = 1 << 40;

/// The most elements of q, and of the k and the v that reference and one call take.
pub(crate) const MAX_ELEMENTS: u128 = u32::MAX as u128;

/// Sizes whose product is within a limit.
pub(crate) fn at_most(what: &str, sizes: [u32; 4], most: u128) -> Result<()> {
    match sizes.into_iter().map(u128::from).product::<u128>() {
        n if n > most => {
            let help = "call for fewer sequences, heads or tokens at a time";
            Err(Error::limit("shape", format!("{n} {what}, of at most {most}"), help))
        }
        _ => Ok(()),
    }
}
