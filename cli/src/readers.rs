//! What the program reads, each kind as a function of its bytes alone: for the fuzzer and the program. Not a stable API.
//!
//! None of them panics, whatever the bytes are.

pub use crate::conform::model::build as case;
pub use crate::conform::work::{Unfit, Work};
pub use crate::files::TensorFile;
pub use crate::golden::{Golden, parse as golden};
pub use crate::source::{config, spec};
pub use crate::tensors::{Layout, adapt, longest, read as inputs};
pub use crate::workloads::compare::{Earlier, parse as results};
