//! Which family computes a call, with which numbers.

pub(crate) mod bucket;
pub(crate) mod choose;
pub(crate) mod table;
pub(crate) mod tuning;
