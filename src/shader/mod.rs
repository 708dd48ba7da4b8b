//! Text: every shader file, the bindings that all share, and how files become one module.
//!
//! Called by plans and the GPU; it calls `equation`.

pub(crate) mod compose;
pub(crate) mod dialect;
pub(crate) mod files;
pub(crate) mod layout;
