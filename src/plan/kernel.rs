//! What a plan computes, whoever computes it.

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
            Kernel::Embed { in_place: false } => "embed",
            Kernel::Embed { in_place: true } => "embed_in_place",
        }
    }
    pub(crate) fn rotates_only(self) -> bool {
        matches!(self, Kernel::RotateQ { .. } | Kernel::RotateK { .. })
    }
    pub(crate) fn in_place(self) -> bool {
        match self {
            Kernel::RotateQ { in_place } | Kernel::RotateK { in_place } | Kernel::Embed { in_place } => in_place,
            Kernel::Attention | Kernel::Scores | Kernel::Linear => false,
        }
    }
}
