//! Numbers of the format: what a field is that a spec file does not name, and what a spec may hold.

/// The version of the spec-file format that this crate reads and writes.
pub const SCHEMA: u32 = 1;

/// The largest `head_dim` of a plan: absorbed latent attention (MLA) has 512 + 64.
pub const MAX_HEAD_DIM: u32 = 576;

/// The largest `v_head_dim` of a plan.
pub const MAX_V_HEAD_DIM: u32 = 512;

/// The largest `num_heads`.
pub const MAX_HEADS: u32 = 1024;

pub(crate) fn is_false(x: &bool) -> bool {
    !x
}

pub(crate) fn one() -> f64 {
    1.0
}

/// Scores below this, -1e38 as f32 has it, are taken as this, so that no exponent overflows: a key with such a score has weight 0 beside
/// any key above it. (`-inf` in a dense bias is a mask.)
pub const SCORE_FLOOR: f64 = -1e38f32 as f64;
