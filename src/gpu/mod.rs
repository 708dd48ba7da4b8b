//! Runs plans: devices, pipelines, dispatches, the one-call form, and what is kept on disk. wgpu starts here.
//!
//! **Errors and futures.** wgpu's error scopes are a stack of the thread, on the web of the device. `pipeline::scoped` opens and closes
//! them around calls before anything is awaited, so futures take turns without seeing each other's errors. Whatever a call of `Gpu` does on
//! the device stands in such a scope; what no scope caught is the caller's own. `submission` is where a future waits for the device: on the
//! web for its promise; elsewhere it blocks the thread, after others had their turn, since wgpu needs somebody to poll.
//!
//! **A lost device** is told by every call that touches it, an engine's own device too, whose lost callback stays the engine's: wgpu
//! reports a loss to no error scope, but a buffer of a lost device comes neither mapped nor with an error (`turn::is_lost`). `Gpu::open` then gives
//! another device. On the web the callback is the only sign; `Gpu` hears it, `Pipeline` and `Pipelines` do not.
//!
//! **One instance a process**, and one for GL (`adapter`): wgpu numbers handles by instance, so what comes from two cannot be told apart.
//!
//! **Pipelines.** The entry points of a plan share one module and its layouts. `Pipelines` compiles a text once, forgets the least recently
//! used beyond its capacity (`Gpu` sets one, an engine may) and shares layouts between plans. wgpu's pipeline cache goes to disk
//! (`disk`) behind a line with schema, version, wgpu's key, adapter, length and checksum.
//!
//! **The host's cost** of a step is wgpu's: `Dispatch::encode` is three calls a dispatch over what `bind` laid out, and `StepLayout::write`
//! fills the caller's words. `Dispatch::rebind` is one bind group, 10 to 15 us on busy cores (benches/encode.rs). tests/allocations.rs counts what a step allocates beside a control that issues the same wgpu calls by hand
//! (benches/raw) and lets no difference pass; benches/encode.rs times both.
//!
//! Called by the catalogue and by users; it calls everything below.

pub(crate) mod adapter;
pub(crate) mod bind;
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
