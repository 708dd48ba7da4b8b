//! What is computed: the terms that a model uses, as data, with the values that need nothing else. No shape of a call, no device, no text.
//!
//! Anything may call it; it calls `error` alone.

pub(crate) mod bias;
pub(crate) mod defaults;
pub(crate) mod dtype;
pub(crate) mod embed;
pub(crate) mod factors;
pub(crate) mod index;
pub(crate) mod linear;
pub(crate) mod mask;
pub(crate) mod parameter;
pub(crate) mod relative;
pub(crate) mod rotary;
pub(crate) mod spec;
pub mod user;
pub(crate) mod window;
