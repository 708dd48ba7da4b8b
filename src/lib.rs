//! Fused rotary attention.

mod bias;
mod config;
mod error;
mod inputs;
pub mod phase;
pub mod reference;
mod scaling;
mod spec;
mod tensor;

pub use bias::{alibi_slopes, t5_bucket};
pub use config::{ConfigOptions, RopeParameters, Stack, model_types};
pub use error::{Error, Result};
pub use inputs::{AngleTable, Dense, Inputs, Problem, Shape};
pub use reference::Output;
pub use scaling::{LongRope, RopeScaling, Yarn};
pub use spec::{
    AlibiForm, Alignment, Angle, Bias, Dtype, Frequencies, MAX_HEAD_DIM, MAX_HEADS, Mask, Pairing, Positions, Rotary,
    SCHEMA, Spec,
};
pub use tensor::{Data, Strides, Tensor};

/// Scores below this are taken as this, so that no exponent overflows: a key with such a score has weight 0 beside
/// any key above it. (`-inf` in a dense bias is a mask.)
pub const SCORE_FLOOR: f64 = -1e30;
