//! R: how a row turns by its position.

pub(crate) mod branches;
pub(crate) mod ggml;
pub mod phase;
pub(crate) mod rotary;
pub(crate) mod scaling;
pub(crate) mod streams;
