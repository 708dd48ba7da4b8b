//! Hugging Face configurations: a `config.json` becomes specs. One row a model type.
//!
//! Called by users; it calls `equation`.

pub(crate) mod decoder;
pub(crate) mod dict;
pub(crate) mod hf;
pub(crate) mod other;
pub(crate) mod read;
pub(crate) mod rope;
