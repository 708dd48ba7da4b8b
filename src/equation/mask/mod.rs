//! Which keys a query sees. A mask that goes by the indices of query and key is one file, which says everything of it; `mask.rs` holds the
//! fields and the one `match`.

pub(crate) mod alignment;
pub(crate) mod band;
pub(crate) mod chunk;
pub(crate) mod left;
pub(crate) mod mask;
pub(crate) mod right;

pub use alignment::Alignment;
pub use mask::Mask;
