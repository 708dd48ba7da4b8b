//! What a plan computes, whoever computes it.

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::shader::layout::Slot;

/// What a plan computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// out and lse.
    Attention,
    /// The score matrix, `[batch, num_heads, q_len, kv_len]` f32, -inf where masked.
    Scores,
    /// Linear attention, out and the state: see [`Linear`](crate::Linear).
    Linear,
    /// R(m) q.
    RotateQ {
        /// Into the same buffer (bound as `out`) instead of another.
        in_place: bool,
    },
    /// R(n) k, rows below kv_len.
    RotateK {
        /// Into the same buffer (bound as `out`) instead of another.
        in_place: bool,
    },
    /// New rows into the caches k and v. The query tokens of a step are its last keys, so `kv_len` counts them, and
    /// the `step` of an attention plan of the same spec and shape serves both. Keys are normed and rotated where `rotary.keys_rotated`, else
    /// they are stored as they come; values always are.
    Append {
        /// The type of the new rows: f32 or the type in which they are stored; f32, f16 or bf16 where they are stored in blocks.
        rows: Dtype,
    },
    /// Attention over parts of the keys becomes attention over all: see [`Plan::merge`](crate::Plan::merge).
    Merge,
    /// x + P\[m\]: see [`Plan::embed`](crate::Plan::embed).
    Embed {
        /// Into the same buffer (bound as `out`) instead of another.
        in_place: bool,
    },
}

impl Kernel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kernel::Attention => "attention",
            Kernel::Scores => "scores",
            Kernel::Linear => "linear",
            Kernel::RotateQ { in_place: false } => "rotate_q",
            Kernel::RotateQ { in_place: true } => "rotate_q_in_place",
            Kernel::RotateK { in_place: false } => "rotate_k",
            Kernel::RotateK { in_place: true } => "rotate_k_in_place",
            Kernel::Append { rows: Dtype::F32 } => "append_f32",
            Kernel::Append { rows: Dtype::F16 } => "append_f16",
            Kernel::Append { rows: Dtype::Bf16 } => "append_bf16",
            Kernel::Append { .. } => "append",
            Kernel::Merge => "merge",
            Kernel::Embed { in_place: false } => "embed",
            Kernel::Embed { in_place: true } => "embed_in_place",
        }
    }
    /// Rows of q and k, without scores.
    pub(crate) fn rotates_only(self) -> bool {
        matches!(self, Kernel::RotateQ { .. } | Kernel::RotateK { .. } | Kernel::Append { .. })
    }
    /// The type of new rows; that of the spec where there are none.
    pub(crate) fn new_rows(self, spec: &Spec) -> Dtype {
        if let Kernel::Append { rows } = self { rows } else { spec.dtype }
    }
    /// Whether it quantises: `kernel/append_blocks`.
    pub(crate) fn appends_blocks(self, spec: &Spec) -> bool {
        matches!(self, Kernel::Append { .. }) && [spec.k_storage(), spec.v_storage()].into_iter().any(Dtype::in_blocks)
    }
    /// Whether it writes what a binding holds.
    pub(crate) fn writes(self, slot: Slot) -> bool {
        match slot {
            Slot::Out | Slot::Work => true,
            Slot::K | Slot::V => matches!(self, Kernel::Append { .. }),
            _ => false,
        }
    }
    pub(crate) fn in_place(self) -> bool {
        match self {
            Kernel::RotateQ { in_place } | Kernel::RotateK { in_place } | Kernel::Embed { in_place } => in_place,
            Kernel::Attention | Kernel::Scores | Kernel::Linear | Kernel::Append { .. } | Kernel::Merge => false,
        }
    }
}
