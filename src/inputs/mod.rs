//! One call: host tensors, their shapes, and both checked once against a spec.
//!
//! Called by the reference, plans, checks and the GPU; it calls `equation`.

pub(crate) mod cache;
pub(crate) mod embed;
pub(crate) mod inputs;
pub(crate) mod packed;
pub(crate) mod problem;
pub(crate) mod shape;
pub(crate) mod tensor;
