//! The families of kernels: each one way to compute a call.

pub(crate) mod block;
pub(crate) mod coop;
pub(crate) mod decode;
pub(crate) mod family;
pub(crate) mod lanes;
pub(crate) mod prepare;
pub(crate) mod rows;
pub(crate) mod tile;
pub(crate) mod turns;
pub(crate) mod wide;
