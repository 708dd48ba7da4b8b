//! C: relative biases. What is discontinuous in position (T5's buckets) or too long for a shader (Swin v2's network) becomes a table
//! here, on the host. A kind is one file, which says everything of it; `bias.rs` holds the enum and the one `match`.

pub(crate) mod alibi;
pub(crate) mod bias;
pub(crate) mod fire;
pub(crate) mod indexed;
pub(crate) mod kerple;
pub(crate) mod log_cpb;
pub(crate) mod t5;
pub(crate) mod table;
pub(crate) mod term;

pub use alibi::{AlibiForm, alibi_slopes};
pub use bias::Bias;
pub use kerple::KerpleKind;
pub use log_cpb::log_cpb_offsets;
pub use t5::t5_bucket;
