//! How a call is computed: kernel, family, tuning, dispatches, offsets, text. Pure: no device.
//!
//! Called by checks (what a kernel sums), the GPU and the catalogue; it calls `shader`, `inputs` and `equation`.

pub(crate) mod append;
pub(crate) mod budget;
pub(crate) mod call;
pub(crate) mod cost;
pub(crate) mod embed;
pub(crate) mod family;
pub(crate) mod grid;
pub(crate) mod kernel;
pub(crate) mod limits;
pub(crate) mod linear;
pub(crate) mod merge;
pub(crate) mod pairs;
pub(crate) mod params;
pub(crate) mod plan;
pub(crate) mod preamble;
pub(crate) mod products;
pub(crate) mod relative;
pub(crate) mod slots;
pub(crate) mod step;
pub(crate) mod storage;
pub(crate) mod tables;
pub(crate) mod tuning;
pub(crate) mod user;
