//! Hugging Face configurations: a `config.json` becomes specs. One row a kind of attention.
//!
//! Called by users; it calls `equation`.

pub(crate) mod classes;
pub(crate) mod dict;
pub(crate) mod family;
pub(crate) mod hf;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod models;
pub(crate) mod other;
pub(crate) mod parts;
pub(crate) mod patterns;
pub(crate) mod pictures;
pub(crate) mod read;
pub(crate) mod rope;
