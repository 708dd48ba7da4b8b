//! The only unsafe code: shaders without run-time checks, a pipeline cache from a file, wgpu's experimental features, and a look at a
//! buffer's backend. Each with the argument why it is sound.
//!
//! # Shaders without run-time checks
//!
//! naga adds to every access of a buffer, a workgroup array or a private array a check of the index, to every loop a guard against running
//! forever, and to every integer division one against zero. [`shader_module`] leaves them out for modules whose every file stands in
//! `shader/files.rs` as in bounds, with the kinds of index that it forms; a file that is not there keeps the checks of the whole module.
//! What is read of `step`, which engines write without the host's looking, and of other buffers is never trusted: it is clamped in the
//! shader, or its file keeps its checks. The argument, by the indices that those files form:
//!
//! - **Sequences, kv heads, row tiles**: `chunk` + workgroup id. The host writes `chunk` and the grid from the same list of dispatches
//!   (`ChunkDispatch`), which covers the plan's grid exactly once (`tests/plan.rs`). Tiles of packed sequences are such a number too; the sequence that
//!   `families/tiles_packed` finds for it is below `params.sequences` and the tile below that number, whatever cu_seqlens holds. `decode` and `wide` take splits below `params.splits` for
//!   tiles.
//! - **Rows**: i < `q_length` = min(step\[0\], `params.q_capacity`), of a packed sequence at most `params.max_seqlen_q` and such that its tokens
//!   end at the capacity, whatever cu_seqlens holds (`tensor/sequence_packed`); a row of a tile beyond the last is cut to the last or returns.
//!   Units of tokens (`turns`, `prepare/heads_*`, `prepare/copied_*`) are numbers of lanes divided by UNITS, which the host keeps in 32 bits: `turns` by a check
//!   of its own, `tile` and `block` by what prepared rows, of a vector a unit at least, may take of `work`. Rows of all kinds are bounded by
//!   `Shape::check`.
//! - **Keys**: j < `kv_length` = min(step\[1\], `params.kv_capacity`), with kv_lens the least of both and the sequence's. Ranges of keys
//!   come from the glue's `key_range`, which lies within 0..kv_length whatever the masks make of it; a tile's keys end at its end, and
//!   so do those of a split, which ends at `params.split_keys` of its own too. `scores` goes over `chunk`'s keys, which end at the
//!   capacity, and reads keys below that range's end alone. Keys of packed sequences are bounded as their rows are (`tensor/length_packed`).
//! - **Rows of a pool**: what `step` names, a row or a page, cut to the pool's last (`tensor/cache_slots`, `tensor/cache_pages`); the entry of a
//!   block table is that of a key below `kv_length`, so below the table's width.
//! - **q, k, v, out**: offset + batch, token, head times strides + an element of the row. `params` holds what the plan was made for; the
//!   plan's sizes of bindings are the extents of exactly these tensors, and `bind` refuses a buffer that is smaller. The host's own
//!   products do not wrap: extents are counted in 128 bits (`Strides::extent`), what is multiplied elsewhere `Shape::check` bounds
//!   before, and a size that has no index of 32 bits is an error (`plan::params::binding_size`). Sizes are below 2^32 bytes
//!   ([`sizes_fit`]), so no product of the shader wraps. Offsets of buffers are added on both sides, and `gpu::bind::place` refuses one
//!   with which an index would wrap.
//!   k and v in blocks are read by words: a block is row / its elements of a row that begins at one (`plan::call::check_storage`), a binding holds
//!   all bytes of the blocks of every row and ends at a word, what is read from a half word of a block on ends within it, and the word behind that half word's is only
//!   read where the block reaches into it.
//! - **work**: lse and the state of a row at (batch, head, row) below capacities; sized by the same numbers (`plan::grid::base_words`).
//!   Behind them scratch: prepared rows and keys, products, parts of rows, lse of tiles, each at its sequence, kv head and tile (or key)
//!   counted from `chunk`'s first (`common/tile_place`: the workgroup's own numbers, not what `step` makes of them), below the part's `chunk.tiles` and `chunk.kv_heads`, by which the family sized it (`coop` counts
//!   its workgroups by the grid's own sizes, and takes whole tiles of prepared rows and keys, spare ones included, for which there is room); then a row of a
//!   table, a split, an element. It starts at a whole vector and ends below the binding's end wherever the caller's starts
//!   (`Plan::with_tuning`, `gpu::bind::place`). Nothing that is read of it becomes an index: an engine may write `step` between two
//!   dispatches of a plan.
//! - **tables**: a constant of the preamble + a head or a row that is clamped in the shader to the table's (`equation/term_table`,
//!   `equation/index_distance`, `equation/index_grid`, `equation/index_segment`), or + an element of a row of HEAD_DIM, or + a number of
//!   a head's row (`equation/term_fire`, whose loop ends with the row). `tables` is sized by the layout that made the constants.
//! - **dense**: strides as of tensors, 0 where D is broadcast; gates at (batch, head, row).
//! - **step**: the ranges of `StepLayout`, whose offsets stand in `params`, at a batch, a row or key below its capacity and a stream
//!   that the spec has. Mask bits of a key j: word j / 32 of a row of ceil(capacity / 32).
//! - **rotary, heads**: arrays of constant size in uniforms; pairs and heads are limited by `Spec::validate` to them.
//! - **Workgroup and private arrays**: a lane below TILE_K, a key of a tile, an element of a row below the padded row that the array
//!   has; rotations touch ROTARY_OFFSET..ROTARY_OFFSET + 2 PAIRS, within HEAD_DIM by `Spec::validate`. `tile`'s arrays follow from one
//!   `Division`, those of `block` likewise, those of `decode` and `wide` from one `Form` each: a lane is below LANES (clamped where subgroups number it, so that nothing hangs on their
//!   size), its rows and keys are that number divided. `tile_rows`, the one array whose words become indices, is written whole by
//!   local indices before a barrier. Those of `coop` follow from one `Form`: what the preamble's functions load of matrices, and store, starts at a multiple of a
//!   matrix's rows and columns below the tile's, which are whole matrices, and at the rows of the subgroup that a lane's number divided by the form's lanes of one
//!   tells, whatever subgroups a device has. Rolled loops add `unseen_zero()` to these bounds, which is 0 for every word that `step` may hold.
//! - **Loops** count up to one of these bounds in steps above 0; none waits for memory.
//! - **Divisions** are by `params.group`, at least 1, `params.split_keys`, a tile of keys at least where there are splits, and by
//!   constants of the preamble, which naga refuses where they are 0. Signed ones are by a constant above 0, so nothing overflows.
//!
//! `tests/indices.rs` runs such modules with every index compared with its end, whatever `step` holds.
//!
//! Nothing outside the crate can change `params`, `chunk`, `rotary` or `heads` of a bound dispatch, and a plan's fields are private to it.
//!
//! # The pipeline cache
//!
//! [`pipeline_cache`] hands data to the driver that must come from the same device's `PipelineCache::get_data`. See there.

use crate::shader::files::{keeps_checks, sizes_fit};

/// The module of a plan; without run-time checks where its tuning says so and every index is bounded without them.
#[cfg(feature = "wgpu")]
#[allow(unsafe_code)]
pub(crate) fn shader_module(device: &wgpu::Device, plan: &crate::plan::plan::Plan) -> wgpu::ShaderModule {
    let source = wgpu::ShaderSource::Wgsl(plan.wgsl(crate::shader::compose::Target::Native).into());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(plan.label()), source };
    let files = plan.composed.files();
    if plan.tuning().checks || keeps_checks(&files).is_some() || !sizes_fit(plan.bindings()) {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: the module is composed of the preamble, which the crate writes, and of files that the table says are in bounds (a user's text is no such file); its
    // indices are within their buffers and arrays, its loops end and its divisors are not 0, by the argument at the head of this file. A
    // pipeline runs with buffers that `Pipeline::bind` has checked against the plan's sizes, and with uniforms that it wrote itself;
    // `Pipeline::for_plan` shares it only with plans of the same text and tuning, whose sizes fit too. `Pipeline::warm` dispatches nothing.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// The token with which wgpu opens a device with cooperative matrices.
#[cfg(all(feature = "wgpu", feature = "cooperative-matrix"))]
#[allow(unsafe_code)]
pub(crate) fn experimental_features() -> wgpu::ExperimentalFeatures {
    // SAFETY: the caller accepts that experimental features may have bugs. The one that is asked for with it is
    // EXPERIMENTAL_COOPERATIVE_MATRIX. Of the modules that this crate makes only those of `kernel/coop.wgsl`, and one that asks for the size of subgroups, use it: on
    // blocks that lie within their arrays whatever the inputs, by the argument at the head of this file, and only after a self-test on the device. It takes the cargo
    // feature and the caller's option, both off by default.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// A pipeline cache of a device with `Features::PIPELINE_CACHE`, from what an earlier process saved.
#[cfg(all(feature = "wgpu", not(target_arch = "wasm32")))]
#[allow(unsafe_code)]
pub(crate) fn pipeline_cache(device: &wgpu::Device, saved: Option<crate::gpu::disk::Saved>) -> wgpu::PipelineCache {
    let data = saved.as_ref().map(crate::gpu::disk::Saved::bytes);
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("ropewalk"), data, fallback: true };
    // SAFETY: a `Saved` is made only by `gpu::disk::load`, of bytes that `gpu::disk::save` took from `PipelineCache::get_data`: it
    // compares the file's schema, wgpu's key of the adapter, adapter, driver and this crate's version with the present ones, and length and
    // checksum with those recorded at the time. The file lies in the user's own cache folder, is written whole under another name and
    // then renamed. Whoever can forge it can already run programs as that user. wgpu compares its own header once more, and drivers theirs.
    unsafe { device.create_pipeline_cache(&descriptor) }
}

/// Whether a buffer is one of wgpu's GL backend.
#[cfg(all(feature = "wgpu", any(windows, target_os = "linux", target_os = "android", target_os = "freebsd")))]
#[allow(unsafe_code)]
pub(crate) fn is_on_gl(buffer: &wgpu::Buffer) -> bool {
    // SAFETY: the handle is not used, only whether there is one.
    unsafe { buffer.as_hal::<wgpu::hal::api::Gles>() }.is_some()
}

/// Whether a buffer is one of wgpu's GL backend, which it does not have here.
#[cfg(all(feature = "wgpu", not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd"))))]
pub(crate) fn is_on_gl(_: &wgpu::Buffer) -> bool {
    false
}
