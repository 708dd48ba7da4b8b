//! Fused rotary attention in WGSL: the rotation of RoPE, the scores with relative bias, softmax and the value sum in one
//! pass, on any GPU that wgpu reaches; and the same equation in f64, which checks every result against a derived bound.
//!
//! ```text
//! s(i,j) = cap( softmax_scale scale_h tau_i < R(m) (N q_i + u_h), R(n) N k_j > )
//!        + A_i[h,r] + B_j[h,r] + gate_i C_h[r] + D[b,h,i,j] + c_i - c_j        r = r(m,n)
//! s(i,j) = score_mod( s(i,j), b, h, i, j, m, n )                   where visible, else -inf
//! lse_i  = log( exp(sink_h) + sum_j exp(s(i,j)) )                  natural logarithm
//! o_i    = R_o(-m) sum_j exp(s(i,j) - lse_i) ( R_v(n) v_j + E_V[r] )
//! ```
//!
//! For query row i at position m, key row j at position n, query head h of batch entry b: R is the rotation ([`Rotary`]), N a norm before
//! or after it ([`Norm`]), u a content bias, tau a temperature ([`Temperature`]), cap(x) = c tanh(x / c) or x; `A = < q + v, E_K[r] >`,
//! `B = < k, E_Q[r] >` and `E_V` embeddings of relative positions ([`Relative`]), A and B of q and k as they come, with scales of their own;
//! C a relative bias ([`Bias`]), multiplied by a gate of each query and head where a spec has one, r an index map ([`IndexMap`]), D a dense bias,
//! score_mod the user's own function ([`ScoreMod`]), sink one more logit ([`Sink`]). A spec names those that a model uses; the others are left
//! out of the kernel. Masks ([`Mask`]) go by **index**, rotation and bias by **position**. The cap stands before every bias. A row that sees
//! no key gives o = 0 and lse = -inf, or its sink.
//!
//! Shapes are `[batch, len, heads, d]` with any strides and d contiguous; storage is f32, f16 or bf16, arithmetic f32.
//! Attention never stores the score matrix: memory is O(q_len + kv_len).
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
//! - `wgpu` (default): pipelines, dispatches, `Gpu`; turns on `naga`. Without it: spec, plan, composed WGSL, bindings, reference, bounds.
//! - `naga`: plans validate a user's own `score_mod` and `mask_mod` ([`user`]); without it they refuse them.
//! - `cooperative-matrix`: experimental; devices may be opened with cooperative matrices, for attention in f16.
//!
//! The program `ropewalk` is a crate of its own, `ropewalk-cli`.

// the main noun of a room stands in the file of its name
#![allow(clippy::module_inception)]
// but for `gpu::trusted`
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod catalogue;
pub mod check;
mod equation;
mod error;
#[cfg(feature = "wgpu")]
mod gpu;
#[doc = include_str!("../docs/equation.md")]
pub mod guide {}
mod hf;
mod inputs;
mod plan;
pub mod reference;
mod shader;

// what tests say of the crate from outside holds within it too
#[cfg(test)]
extern crate self as ropewalk;

pub use catalogue::{case, systems, workload};
pub use check::linear::LinearBounds;
pub use equation::bias::{AlibiForm, Bias, KerpleKind, alibi_slopes, log_cpb_offsets, t5_bucket};
pub use equation::defaults::{MAX_HEAD_DIM, MAX_HEADS, MAX_V_HEAD_DIM, SCHEMA, SCORE_FLOOR};
pub use equation::dtype::Dtype;
pub use equation::embed::{Absolute, Columns, Denominator, Embed, MAX_EMBED_DIM};
pub use equation::factors::{Norm, NormKind, Sink, Steps, Temperature};
pub use equation::index::{IndexMap, Outside, log_bucket};
pub use equation::linear::{Decay, FeatureMap, Linear, MAX_FEATURES, Normalizer};
pub use equation::mask::{Alignment, Mask};
pub use equation::parameter::Parameter;
pub use equation::relative::{Relative, RelativeSide};
pub use equation::rotary::branches::Branches;
pub use equation::rotary::ggml::{GgmlRope, GgmlRopeMode};
pub use equation::rotary::phase;
pub use equation::rotary::rotary::{Angle, Frequencies, Pairing, Rotary, Sums, XPos};
pub use equation::rotary::scaling::{LongRope, RopeScaling, Yarn};
pub use equation::rotary::streams::{PatchPositions, Sections, fixed_point};
pub use equation::spec::{Positions, Spec};
pub use equation::user;
pub use equation::user::{MaskMod, ScoreAt, ScoreMod};
pub use equation::window::{grid_positions, swin_segments};
pub use error::{Error, Result};
#[cfg(feature = "wgpu")]
pub use gpu::adapter::{GpuOptions, adapters, describe};
#[cfg(feature = "wgpu")]
pub use gpu::device::{Gpu, Progress, Stats};
#[cfg(all(feature = "wgpu", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub use gpu::disk::{pipelines_file, saved_pipelines};
#[cfg(feature = "wgpu")]
pub use gpu::dispatch::{Buffers, Dispatch};
#[cfg(feature = "wgpu")]
pub use gpu::pipeline::Pipeline;
#[cfg(feature = "wgpu")]
pub use gpu::pipelines::Pipelines;
#[cfg(feature = "wgpu")]
pub use gpu::turn::{Turn, turn, turn_on};
#[cfg(feature = "wgpu")]
pub use gpu::winners::{TuningCache, Winner};
pub use hf::hf::{ConfigAttention, ConfigPart, config_parts, known_types, model_types};
pub use hf::read::{ConfigOptions, Stack, finite};
pub use hf::rope::RopeParameters;
pub use inputs::cache::{Cache, Placement};
pub use inputs::embed::{EmbedInputs, positions_from, positions_of_ids, positions_of_mask};
pub use inputs::inputs::{AngleTable, Dense, Inputs};
pub use inputs::problem::Problem;
pub use inputs::shape::Shape;
pub use inputs::tensor::{Blocks, Data, Strides, Tensor};
pub use plan::embed::EmbedShape;
pub use plan::grid::ChunkDispatch;
pub use plan::kernel::Kernel;
pub use plan::limits::Limits;
pub use plan::merge::{MergePart, MergeShape};
pub use plan::plan::Plan;
pub use plan::step::{Step, StepLayout};
pub use plan::tuning::bucket::{Bucket, Tunings};
pub use plan::tuning::table::Source;
pub use plan::tuning::tuning::{Family, Tuning};
pub use reference::attention::Output;
pub use reference::linear::LinearOutput;
pub use shader::compose::Target;
pub use shader::layout::{Access, Binding, CHUNK_STRIDE, Slot};
#[cfg(feature = "wgpu")]
pub use wgpu;
