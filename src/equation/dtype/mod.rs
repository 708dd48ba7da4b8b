//! Storage types: a file for each whose elements stand in blocks, and the one `match` in `dtype.rs`.

pub(crate) mod blocks;
pub(crate) mod dtype;
mod f8_e4m3;
mod int8;
mod iq4_nl;
mod off;
mod q4_0;
mod q4_1;
mod q5_0;
mod q5_1;
mod q8_0;

pub use dtype::Dtype;
