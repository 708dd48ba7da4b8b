//! What `append_blocks` lays out: which lane writes which blocks of a cache, so that each word has one writer.

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::shape::Shape;
use crate::inputs::tensor::Strides;
use crate::plan::call::Call;

/// Lanes of a workgroup.
const LANES: u32 = 64;

/// Elements of a piece: what a lane quantises at a time.
const PIECE: u32 = 32;

/// How the rows of k, or of v, are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Units {
    /// Heads of a unit: 2 where a row ends within the word in which the next head's begins.
    pub(crate) heads: u32,
    /// Pieces of a row.
    pieces: u32,
    /// Pieces of a lane: 2 where two blocks may share a word.
    together: u32,
}

impl Units {
    /// Of a tensor whose strides suit its type.
    fn of(dtype: Dtype, strides: Strides, dim: u32, kv_heads: u32) -> Option<Self> {
        let pieces = dim.div_ceil(PIECE);
        if !dtype.begins_at_half_words() {
            return Some(Units { heads: 1, pieces, together: 1 });
        }
        let whole = |stride: u32| stride.is_multiple_of(2 * PIECE);
        let heads = match (kv_heads, whole(strides.head), strides.head == dim) {
            (1, ..) | (_, true, _) => 1,
            (_, false, true) => 2,
            (_, false, false) => return None,
        };
        (whole(strides.batch) && whole(strides.token)).then_some(Units { heads, pieces, together: 2 })
    }
    /// Lanes of a token's unit.
    fn parts(self) -> u32 {
        (self.heads * self.pieces).div_ceil(self.together)
    }
    /// Units of a token.
    pub(crate) fn count(self, kv_heads: u32) -> u32 {
        kv_heads.div_ceil(self.heads)
    }

    /// Of k and of v.
    ///
    /// # Errors
    /// The strides of a tensor that let two lanes write one word.
    pub(crate) fn of_caches(spec: &Spec, shape: &Shape) -> Result<[Self; 2]> {
        let one = |field: &'static str, dtype: Dtype, strides: Strides, dim: u32| {
            let units = Units::of(dtype, strides, dim, spec.num_kv_heads);
            let units = units.filter(|units| units.heads == 1 || !spec.head_by_head());
            units.ok_or_else(|| {
                let [elements, bytes] = dtype.block(dim);
                let problem = format!(
                    "{strides:?}: blocks of {bytes} bytes ({}) of different rows share a word, which append cannot write",
                    dtype.name()
                );
                let beside = if spec.head_by_head() { "" } else { " (heads may follow each other instead)" };
                let help = format!(
                    "give multiples of {}, two blocks; rows of {dim} elements {} apart{beside}",
                    2 * elements,
                    dim.next_multiple_of(2 * elements)
                );
                Error::spec(field, problem, help)
            })
        };
        Ok([
            one("shape.k", spec.k_storage(), shape.k, spec.head_dim)?,
            one("shape.v", spec.v_storage(), shape.v, spec.v_head_dim)?,
        ])
    }
}

/// Tokens of a workgroup, and the constants of the kernel.
pub(crate) fn lay_out(call: &Call, [k, v]: [Units; 2]) -> (u32, Vec<(&'static str, u32)>) {
    let Call { spec, limits, .. } = *call;
    // rows of keys that are prepared stand in workgroup memory
    let row = 16 * k.heads * spec.head_dim.div_ceil(4);
    let room = if spec.keys_rotated() { limits.max_workgroup_storage / row } else { LANES };
    let tokens = (LANES / k.parts().max(v.parts())).min(room).max(1);
    let constants = vec![
        ("LANES", LANES),
        ("K_HEADS", k.heads),
        ("K_PIECES", k.pieces),
        ("K_TOGETHER", k.together),
        ("K_PARTS", k.parts()),
        ("V_HEADS", v.heads),
        ("V_PIECES", v.pieces),
        ("V_TOGETHER", v.together),
        ("V_PARTS", v.parts()),
    ];
    (tokens, constants)
}
