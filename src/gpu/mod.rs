//! Runs plans: devices, pipelines, dispatches, the one-call form, and what is kept on disk. wgpu starts here.
//!
//! Called by the catalogue and by users; it calls everything below.

pub(crate) mod adapter;
pub(crate) mod clock;
pub(crate) mod device;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod disk;
pub(crate) mod dispatch;
pub(crate) mod folder;
pub(crate) mod loaded;
pub(crate) mod one_call;
pub(crate) mod pipeline;
pub(crate) mod pipelines;
pub(crate) mod submission;
pub(crate) mod takes;
pub(crate) mod trusted;
pub(crate) mod turn;
pub(crate) mod winners;
