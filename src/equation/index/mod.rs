//! r(m, n): which row of a table a pair of positions reads. A map is one file, which says everything of it; `index.rs` holds the enum and the
//! one `match`.

mod distance;
mod grid;
pub(crate) mod index;
mod log_bucket;
pub(crate) mod map;
mod segment;

pub use distance::Outside;
pub(crate) use grid::MAX_SIDE;
pub use index::IndexMap;
pub(crate) use index::words;
pub use log_bucket::log_bucket;
