//! The one-call form: host tensors in, host tensors out. It uploads, cuts what exceeds a binding (`slice`), submits each dispatch by
//! itself, so that no watchdog is near, and reads back.

pub(crate) mod embed;
pub(crate) mod in_place;
pub(crate) mod linear;
pub(crate) mod matrix;
pub(crate) mod one_call;
pub(crate) mod open;
pub(crate) mod slice;
