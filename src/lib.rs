//! Fused rotary attention.

mod bias;
pub mod check;
mod compose;
mod config;
mod error;
#[cfg(feature = "wgpu")]
mod gpu;
mod inputs;
mod layout;
pub mod phase;
#[cfg(feature = "wgpu")]
mod pipeline;
mod plan;
pub mod reference;
mod scaling;
#[cfg(feature = "wgpu")]
mod slice;
mod spec;
mod tensor;
mod tuning;

pub use bias::{alibi_slopes, t5_bucket};
pub use compose::Target;
pub use config::{ConfigOptions, RopeParameters, Stack, model_types};
pub use error::{Error, Result};
pub use inputs::{AngleTable, Dense, Inputs, Problem, Shape};
pub use layout::{Access, Binding, CHUNK_STRIDE, Slot};
pub use plan::{ChunkDispatch, Kernel, Limits, Plan, Step, StepLayout};
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

#[cfg(feature = "wgpu")]
pub use gpu::{Gpu, GpuOptions, Stats, adapters, describe};
#[cfg(feature = "wgpu")]
pub use pipeline::{Buffers, Dispatch, Pipeline};
#[cfg(feature = "wgpu")]
pub use wgpu;
