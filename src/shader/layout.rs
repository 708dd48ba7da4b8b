//! The only file with binding numbers, all in group 0. Numbers never shift: a variant that lacks a table leaves a gap. Eight storage
//! buffers, WebGPU's default, hold every term of the equation.
//!
//! | # | name | access | holds |
//! |---|---|---|---|
//! | 0 | q | read | queries; the rows that `rotate` and `embed` start from; out of the parts of `merge` |
//! | 1 | k | read | keys; a learned table of `embed` |
//! | 2 | v | read | values |
//! | 3 | out | read-write | out; scores; rotated rows; in place the rows themselves |
//! | 4 | work | read-write | lse or the state of `linear`, then scratch: see docs/kernels.md |
//! | 5 | tables | read | what the model has learned: biases, E_K, E_Q, E_V, u, v, norms, sinks; lookups; pairs and turns; cos and sin; lse of the parts of `merge` |
//! | 6 | dense | read | D; then the words of a user's functions; then numbers of rows and keys. Decays of `linear`, frequencies of `embed` |
//! | 7 | step | read | lengths, positions of up to four streams, segments, cu_seqlens, mask bits: `plan::step` |
//! | 8 | params | uniform | [`Params`]: strides, offsets, scale, cap |
//! | 9 | chunk | uniform, dynamic | the dispatch's part of the grid and its keys |
//! | 10 | rotary | uniform | of each pair: increment, inv_freq, attention factor; from entry 128 on its stream, xPos. Of each part of `merge`: its place |
//! | 11 | heads | uniform | of each head: ALiBi's slope, or the decay of `linear` |
//! | 12 | new_k | read | of `append`: new rows of k, which is read-write there, as v is |
//! | 13 | new_v | read | of `append`: new rows of v |
//!
//! `Plan::share` declares what is read as read-write, for tensors that lie in one buffer with what is written.
//!
//! Buffers are bound at multiples of the device's offset alignment (256 bytes by default); `bind` passes what is finer on as element
//! offsets in `params`.

use serde::Serialize;

/// A resource of the kernels, all in group 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
#[non_exhaustive]
pub enum Slot {
    /// Queries, or the source of `rotate`.
    Q = 0,
    /// Keys.
    K = 1,
    /// Values.
    V = 2,
    /// The result.
    Out = 3,
    /// Read-write workspace of the caller: lse, and rows that are not finished.
    Work = 4,
    /// Tables of the model: relative biases, cos and sin.
    Tables = 5,
    /// D, the dense additive bias.
    Dense = 6,
    /// What changes with every step, in u32 words: lengths, positions, mask bits.
    Step = 7,
    /// Facts of the plan: strides, offsets, scale.
    Params = 8,
    /// Which part of the grid a dispatch covers; a dynamic offset.
    Chunk = 9,
    /// For each pair: the phase increment, inv_freq, the attention factor; from entry 128 on: the position stream, xPos.
    Rotary = 10,
    /// For each head: slopes.
    Heads = 11,
    /// New rows of k, for [`Kernel::Append`](crate::Kernel::Append).
    NewK = 12,
    /// New rows of v.
    NewV = 13,
}

/// How a shader uses a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
    /// `var<uniform>`.
    Uniform,
    /// `var<uniform>` with a dynamic offset of 256 bytes for each dispatch.
    UniformDynamic,
}

/// One entry of a plan's binding table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Binding {
    /// The resource.
    pub slot: Slot,
    /// `@binding` in group 0.
    pub binding: u32,
    /// The variable's name in the shader.
    pub name: &'static str,
    /// How it is bound.
    pub access: Access,
    /// Its WGSL type.
    pub wgsl_type: String,
    /// Bytes that the plan reads or writes from its start.
    pub size: u64,
}

/// Bytes between the [`Slot::Chunk`] entries of two dispatches: the default alignment of dynamic offsets.
pub const CHUNK_STRIDE: u64 = 256;

/// Pairs of the largest head.
pub(crate) const MAX_PAIRS: usize = crate::equation::defaults::MAX_HEAD_DIM as usize / 2;

/// Entries of the `rotary` uniform, 16 bytes each: the angle of every pair, then stream and magnitude of every pair.
pub(crate) const ROTARY_ENTRIES: usize = 2 * MAX_PAIRS;

/// Entries of the `heads` uniform, 16 bytes each.
pub(crate) const HEAD_ENTRIES: usize = crate::equation::defaults::MAX_HEADS as usize;

impl Slot {
    pub(crate) const ALL: [Slot; 14] = [
        Slot::Q,
        Slot::K,
        Slot::V,
        Slot::Out,
        Slot::Work,
        Slot::Tables,
        Slot::Dense,
        Slot::Step,
        Slot::Params,
        Slot::Chunk,
        Slot::Rotary,
        Slot::Heads,
        Slot::NewK,
        Slot::NewV,
    ];

    /// The variable's name in the shaders.
    pub fn name(self) -> &'static str {
        match self {
            Slot::Q => "q",
            Slot::K => "k",
            Slot::V => "v",
            Slot::Out => "out",
            Slot::Work => "work",
            Slot::Tables => "tables",
            Slot::Dense => "dense",
            Slot::Step => "step",
            Slot::Params => "params",
            Slot::Chunk => "chunk",
            Slot::Rotary => "rotary",
            Slot::Heads => "heads",
            Slot::NewK => "new_k",
            Slot::NewV => "new_v",
        }
    }

    /// Whether it is a storage buffer, the caller's; else a uniform of the plan.
    pub(crate) fn is_storage(self) -> bool {
        !matches!(self, Slot::Params | Slot::Chunk | Slot::Rotary | Slot::Heads)
    }

    /// The entry of a binding table; `element` is the WGSL element type of q, k, v or out.
    pub(crate) fn binding(self, element: &str, size: u64) -> Binding {
        let (access, wgsl_type) = match self {
            Slot::Q | Slot::K | Slot::V | Slot::NewK | Slot::NewV => (Access::Read, format!("array<{element}>")),
            Slot::Out => (Access::ReadWrite, format!("array<{element}>")),
            Slot::Work => (Access::ReadWrite, "array<f32>".into()),
            Slot::Tables => (Access::Read, "array<f32>".into()),
            Slot::Dense | Slot::Step => (Access::Read, "array<u32>".into()),
            Slot::Params => (Access::Uniform, "Params".into()),
            Slot::Chunk => (Access::UniformDynamic, "Chunk".into()),
            Slot::Rotary => (Access::Uniform, format!("array<vec4<u32>, {ROTARY_ENTRIES}>")),
            Slot::Heads => (Access::Uniform, format!("array<vec4<f32>, {HEAD_ENTRIES}>")),
        };
        Binding { slot: self, binding: self as u32, name: self.name(), access, wgsl_type, size }
    }
}

impl Binding {
    /// The declaration in the composed shader.
    pub(crate) fn declaration(&self) -> String {
        let space = match self.access {
            Access::Read => "storage, read",
            Access::ReadWrite => "storage, read_write",
            Access::Uniform | Access::UniformDynamic => "uniform",
        };
        format!("@group(0) @binding({}) var<{space}> {}: {};\n", self.binding, self.name, self.wgsl_type)
    }
}

/// The `params` uniform; `shaders/common/params.wgsl` is its twin, held by a reflection test.
#[derive(Debug, Clone, Copy, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub(crate) q_capacity: u32,
    pub(crate) kv_capacity: u32,
    pub(crate) num_heads: u32,
    pub(crate) group: u32,
    pub(crate) q_offset: u32,
    pub(crate) q_batch: u32,
    pub(crate) q_token: u32,
    pub(crate) q_head: u32,
    pub(crate) k_offset: u32,
    pub(crate) k_batch: u32,
    pub(crate) k_token: u32,
    pub(crate) k_head: u32,
    pub(crate) v_offset: u32,
    pub(crate) v_batch: u32,
    pub(crate) v_token: u32,
    pub(crate) v_head: u32,
    pub(crate) out_offset: u32,
    pub(crate) out_batch: u32,
    pub(crate) out_token: u32,
    pub(crate) out_head: u32,
    pub(crate) step_q_positions: u32,
    pub(crate) step_k_positions: u32,
    pub(crate) step_kv_lens: u32,
    pub(crate) step_mask: u32,
    pub(crate) mask_batch: u32,
    pub(crate) mask_head: u32,
    pub(crate) mask_row: u32,
    pub(crate) lse_offset: u32,
    pub(crate) dense_batch: u32,
    pub(crate) dense_head: u32,
    pub(crate) dense_row: u32,
    pub(crate) dense_key: u32,
    pub(crate) dense_offset: u32,
    pub(crate) angle_cos: u32,
    pub(crate) angle_sin: u32,
    pub(crate) state_offset: u32,
    pub(crate) softmax_scale: f32,
    pub(crate) soft_cap: f32,
    pub(crate) inv_soft_cap: f32,
    pub(crate) splits: u32,
    pub(crate) head_chunks: u32,
    pub(crate) v_chunks: u32,
    pub(crate) pairs: u32,
    pub(crate) head_padded: u32,
    pub(crate) v_padded: u32,
    pub(crate) step_q_segments: u32,
    pub(crate) step_k_segments: u32,
    pub(crate) batches: u32,
    pub(crate) step_cu_q: u32,
    pub(crate) step_cu_k: u32,
    pub(crate) gate_offset: u32,
    pub(crate) partials: u32,
    pub(crate) query_products: u32,
    pub(crate) key_products: u32,
    pub(crate) prepared_q: u32,
    pub(crate) prepared_k: u32,
    pub(crate) user_offset: u32,
    pub(crate) user_words: u32,
    pub(crate) first_batch: u32,
    pub(crate) first_head: u32,
    pub(crate) feature_chunks: u32,
    pub(crate) normalizer: u32,
    pub(crate) maximum: u32,
    pub(crate) split_keys: u32,
    pub(crate) new_k_offset: u32,
    pub(crate) new_k_batch: u32,
    pub(crate) new_k_token: u32,
    pub(crate) new_k_head: u32,
    pub(crate) new_v_offset: u32,
    pub(crate) new_v_batch: u32,
    pub(crate) new_v_token: u32,
    pub(crate) new_v_head: u32,
    pub(crate) max_seqlen_q: u32,
    pub(crate) max_seqlen_k: u32,
    pub(crate) step_cache: u32,
    pub(crate) cache_rows: u32,
    pub(crate) cache_pages: u32,
    pub(crate) cache_width: u32,
    pub(crate) sequences: u32,
}
