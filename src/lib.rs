//! Fused rotary attention in WGSL: the rotation of RoPE, the scores with relative bias, softmax and the value sum in one
//! pass, on any GPU that wgpu reaches; and the same equation in f64, which checks every result against a derived bound.
//!
//! ```text
//! s(i,j) = cap( softmax_scale * scale_h * tau_i * < R(m)(N q_i + u_h) , R(n) N k_j > )
//!        + A_i[h,r] + B_j[h,r] + C_h[r] + D[b,h,i,j]             r = r(m,n); where visible, else -inf
//! lse_i  = log( exp(sink_h) + sum_j exp s(i,j) )                natural logarithm
//! o_i    = sum_j exp(s(i,j) - lse_i) ( R_v(n) v_j + E_V[r] )
//! ```
//!
//! For query row i at position m, key row j at position n, query head h: R is the rotation ([`Rotary`]), N a norm ([`Norm`]), u and
//! v content and position biases, tau a temperature ([`Temperature`]), cap(x) = c tanh(x / c) or x; `A = < q + v, E_K[r] >`,
//! `B = < k, E_Q[r] >` and `E_V` embeddings of relative positions ([`Relative`]), C a relative bias ([`Bias`]), r an index map
//! ([`IndexMap`]), D a dense bias, sink one more logit ([`Sink`]). A spec names those that a model uses; the others cost nothing.
//! Masks ([`Mask`]) go by **index**, rotation and bias by
//! **position**. The cap stands before every bias. A row that sees no key gives o = 0 and lse = -inf.
//!
//! Shapes are `[batch, len, heads, d]` with any strides and d contiguous; storage is f32, f16 or bf16, arithmetic f32.
//! The score matrix never exists: memory is O(q_len + kv_len).
//!
//! # In one call
//!
//! ```
//! use ropewalk::{Inputs, Mask, Pairing, Rotary, Spec, Tensor};
//! # #[cfg(feature = "wgpu")] {
//! use ropewalk::{check, Gpu};
//!
//! let mut spec = Spec::new(4, 2, 64); // 4 query heads, 2 kv heads, head_dim 64
//! spec.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
//! spec.mask = Mask::causal();
//!
//! let inputs = Inputs::new(
//!     Tensor::bshd(vec![0.1; 3 * 4 * 64], [1, 3, 4, 64])?, // q: the last 3 of 10 tokens
//!     Tensor::bshd(vec![0.2; 10 * 2 * 64], [1, 10, 2, 64])?,
//!     Tensor::bshd(vec![0.3; 10 * 2 * 64], [1, 10, 2, 64])?,
//! );
//! if let Ok(gpu) = Gpu::new() {
//!     let result = gpu.attention(&spec, &inputs)?;
//!     let report = check::verify(&spec, &inputs, &result, &check::Options::default(), &|_| ())?;
//!     assert!(report.passed(), "{report}");
//! }
//! # }
//! # Ok::<(), ropewalk::Error>(())
//! ```
//!
//! [`reference::attention`] takes the same arguments and gives the same result in f64, without a GPU. On the web, use the
//! `_async` forms: several may be under way at a time. Elsewhere they are [`Send`], and while the device works they block their
//! thread, after the thread's other futures had their turn.
//!
//! # Inside an engine
//!
//! The engine owns the device, the queue, every tensor, the workspace, the encoder, the pass and the submission. After
//! `bind` nothing fails, allocates, maps, polls or submits. `examples/engine.rs` shows several layers over caches with
//! room to grow.
//!
//! ```text
//! pure, no GPU                            slow, once       per layer              per step: cannot fail
//! Spec -validate-> Plan -compose-> WGSL -> Pipeline -----> bind -> Dispatch ----> encode(&mut pass)
//!   |               ^ Shape, Limits        compiled        caller's buffers,      set, set, dispatch
//!   |                                                      byte offsets
//!   +-> reference::attention -> Output -> check <- Output <- read back
//! ```
//!
//! ```
//! # #[cfg(feature = "wgpu")] {
//! use ropewalk::{wgpu, Buffers, Gpu, Kernel, Pipeline, Plan, Shape, Slot, Spec, Step};
//!
//! # let Ok(gpu) = Gpu::new() else { return Ok::<(), ropewalk::Error>(()) };
//! # let (device, queue) = (gpu.device(), gpu.queue());
//! # let limits = *gpu.limits();
//! let spec = Spec::new(8, 2, 64);
//! let shape = Shape::new(&spec, 1, 1, 4096); // decode: one query, a cache of 4096 tokens
//! let plan = Plan::new(Kernel::Attention, &spec, &shape, &limits)?;
//! let pipeline = Pipeline::new(device, &plan)?;
//! # let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
//! # let make = |size| device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
//! # let (q, k, v, out) = (make(2048), make(4096 * 512), make(4096 * 512), make(2048));
//! # let (work, step) = (make(plan.workspace_size()), make(4 * plan.step_layout().words as u64));
//! let buffers = Buffers::new()
//!     .with(Slot::Q, &q, 0)
//!     .with(Slot::K, &k, 0)
//!     .with(Slot::V, &v, 0)
//!     .with(Slot::Out, &out, 0)
//!     .with(Slot::Work, &work, 0)
//!     .with(Slot::Step, &step, 0);
//! let dispatch = pipeline.bind(device, &buffers)?;
//!
//! // every step
//! let mut words = vec![0; plan.step_layout().words as usize];
//! plan.step_layout().write(&Step { q_len: 1, kv_len: 17, ..Step::default() }, &mut words)?;
//! queue.write_buffer(&step, 0, bytemuck::cast_slice(&words));
//! let mut encoder = device.create_command_encoder(&Default::default());
//! {
//!     let mut pass = encoder.begin_compute_pass(&Default::default());
//!     dispatch.encode(&mut pass);
//! }
//! queue.submit([encoder.finish()]);
//! # }
//! # Ok::<(), ropewalk::Error>(())
//! ```
//!
//! Engines that are not Rust take [`Plan::wgsl`], [`Plan::bindings`], [`Plan::step_layout`], [`Plan::uniform`] and
//! [`Plan::chunks`] as text and numbers.
//!
//! # Accuracy
//!
//! Angles are exact ([`phase`]): |cos, sin| errs by less than 2e-7 at every i32 position, where a float32 angle is off by
//! 7.8e-3 rad at position 131 072 (theta 10 000). No use is made of the driver's sin, cos, pow or tanh. [`check`] derives
//! a bound for every element of a result, and says with which probability a right kernel stays within it.
//!
//! # Systems
//!
//! [`systems`] lists every positional system with its terms, source and traps; [`guide`] derives the equation and reads RoPE
//! as a number in base beta.
//!
//! # Features
//!
//! - `wgpu` (default): pipelines, dispatches, `Gpu`; turns on `naga`. Without it: spec, plan, composed WGSL, bindings, reference.
//! - `naga`: plans validate a user's own `score_mod` and `mask_mod` ([`user`]); without it they refuse them.
//!
//! The program `ropewalk` is a crate of its own, `ropewalk-cli`.

// but for `trusted`
#![deny(unsafe_code)]
#![warn(missing_docs)]

// what tests say of the crate from outside holds within it too
#[cfg(test)]
extern crate self as ropewalk;

mod bias;
pub mod case;
pub mod check;
mod compose;
mod config;
mod cost;
#[cfg(feature = "wgpu")]
mod device;
#[cfg(test)]
mod drawn;
mod embed;
mod error;
mod family;
#[cfg(feature = "wgpu")]
mod folder;
#[doc = include_str!("../docs/equation.md")]
pub mod guide {}
#[cfg(feature = "wgpu")]
mod gpu;
mod inputs;
mod layout;
mod linear;
mod packed;
pub mod phase;
#[cfg(feature = "wgpu")]
mod pipeline;
mod plan;
mod products;
pub mod reference;
mod scaling;
#[cfg(feature = "wgpu")]
mod slice;
mod spec;
mod streams;
#[cfg(feature = "wgpu")]
mod submission;
pub mod systems;
mod tables;
mod tensor;
mod terms;
mod trusted;
mod tuning;
pub mod user;
mod variant;
mod window;
pub mod workload;

pub use bias::{alibi_slopes, log_cpb_offsets, t5_bucket};
pub use compose::Target;
pub use config::{ConfigOptions, RopeParameters, Stack, model_types};
pub use embed::{
    Absolute, Columns, Denominator, Embed, EmbedInputs, EmbedShape, MAX_EMBED_DIM, positions_from, positions_of_ids,
    positions_of_mask,
};
pub use error::{Error, Result};
pub use inputs::{AngleTable, Dense, Inputs, Problem, Shape};
pub use layout::{Access, Binding, CHUNK_STRIDE, Slot};
pub use linear::{Decay, FeatureMap, Linear, LinearBounds, LinearOutput, MAX_FEATURES, Normalizer};
pub use plan::{ChunkDispatch, Kernel, Limits, Plan, Step, StepLayout};
pub use reference::Output;
pub use scaling::{LongRope, RopeScaling, Yarn};
pub use spec::{
    AlibiForm, Alignment, Angle, Bias, Dtype, Frequencies, KerpleKind, MAX_HEAD_DIM, MAX_HEADS, Mask, Pairing,
    Positions, Rotary, SCHEMA, Spec,
};
pub use streams::{PatchPositions, Sections};
pub use tensor::{Data, Strides, Tensor};
pub use terms::{
    IndexMap, Norm, NormKind, Outside, Parameter, Relative, RelativeSide, Sink, Temperature, XPos, log_bucket,
};
pub use tuning::{Bucket, Family, Source, Tuning, Tunings};
#[cfg(feature = "wgpu")]
pub use tuning::{TuningCache, Winner};
pub use user::{MaskMod, ScoreAt, ScoreMod};

pub use window::{grid_positions, swin_segments};

/// Scores below this, -1e38 as f32 has it, are taken as this, so that no exponent overflows: a key with such a score has weight 0 beside
/// any key above it. (`-inf` in a dense bias is a mask.)
pub const SCORE_FLOOR: f64 = -1e38f32 as f64;

#[cfg(feature = "wgpu")]
pub use device::{Turn, turn, turn_on};
#[cfg(feature = "wgpu")]
pub use gpu::{Gpu, GpuOptions, Progress, Stats, adapters, describe};
#[cfg(feature = "wgpu")]
pub use pipeline::{Buffers, Dispatch, Pipeline, Pipelines};
#[cfg(all(feature = "wgpu", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub use pipeline::{pipelines_file, saved_pipelines};
#[cfg(feature = "wgpu")]
pub use wgpu;
