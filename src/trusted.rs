//! The only unsafe code: shaders without run-time checks, a pipeline cache from a file, wgpu's experimental features, and a look at a
//! buffer's backend. Each with the argument why it is sound.
//!
//! # Shaders without run-time checks
//!
//! naga adds to every access of a buffer, a workgroup array or a private array a check of the index, to every loop a guard against running
//! forever, and to every integer division one against zero. [`shader_module`] leaves them out for modules whose every file stands in
//! [`ARGUED`]; a file that is not there keeps the checks of the whole module. What is read of `step`, which engines write without the
//! host's looking, and of other buffers is never trusted: it is clamped in the shader, or its file keeps its checks. The argument, by the
//! indices that those files form:
//!
//! - **Sequences, kv heads, row tiles**: `chunk` + workgroup id. The host writes `chunk` and the grid from the same list of dispatches
//!   (`ChunkDispatch`), which covers the plan's grid exactly once (`tests/plan.rs`). `decode` takes splits below `params.splits` for
//!   tiles.
//! - **Rows**: i < `q_length` = min(step\[0\], `params.q_capacity`); a row of a tile beyond the last is cut to the last or returns.
//!   Units of tokens (`turns`, `prepare/heads`) are numbers of lanes divided by UNITS, which the host keeps in 32 bits: `turns` by a check
//!   of its own, `tile` by what prepared rows, of a vector a unit at least, may take of `work`. Rows of all kinds are bounded by
//!   `Shape::check`.
//! - **Keys**: j < `kv_length` = min(step\[1\], `params.kv_capacity`), with kv_lens the least of both and the sequence's. Ranges of keys
//!   come from the glue's `key_range`, which lies within 0..kv_length whatever the masks make of it; a tile's keys end at its end, and
//!   so do those of a split, which ends at `params.split_keys` of its own too. `scores` goes over `chunk`'s keys, which end at the
//!   capacity, and reads keys below that range's end alone.
//! - **q, k, v, out**: offset + batch, token, head times strides + an element of the row. `params` holds what the plan was made for; the
//!   plan's sizes of bindings are the extents of exactly these tensors, and `bind` refuses a buffer that is smaller. The host's own products
//!   do not wrap: extents are counted in 128 bits (`Strides::extent`), what is multiplied elsewhere `Shape::check` bounds before, and a
//!   size that has no index of 32 bits is an error (`plan::binding_size`). Sizes are below 2^32 bytes ([`sizes_fit`]), so no product of
//!   the shader wraps. Offsets of buffers are added on both sides, and `Pipeline::place` refuses one with which an index would wrap.
//! - **work**: lse and the state of a row at (batch, head, row) below capacities; sized by the same numbers (`plan::base_words`). Behind
//!   them scratch: prepared rows and keys, products, parts of rows, lse of tiles, each at its sequence, kv head and tile (or key)
//!   counted from `chunk`'s first, below the part's `chunk.tiles` and `chunk.kv_heads`, by which the family sized it; then a row of a
//!   table, a split, an element. It starts at a whole vector and ends below the binding's end wherever the caller's starts
//!   (`Plan::with_tuning`, `Pipeline::place`). Nothing that is read of it becomes an index: an engine may write `step` between two
//!   dispatches of a plan.
//! - **tables**: a constant of the preamble + a head or a row that is clamped in the shader to the table's (`equation/term_table`,
//!   `equation/index_distance`, `equation/index_grid`, `equation/index_segment`), or + an element of a row of HEAD_DIM. `tables` is sized by the layout that made
//!   the constants.
//! - **dense**: strides as of tensors, 0 where D is broadcast; gates at (batch, head, row).
//! - **step**: the ranges of `StepLayout`, whose offsets stand in `params`, at a batch, a row or key below its capacity and a stream
//!   that the spec has. Mask bits of a key j: word j / 32 of a row of ceil(capacity / 32).
//! - **rotary, heads**: arrays of constant size in uniforms; pairs and heads are limited by `Spec::validate` to them.
//! - **Workgroup and private arrays**: a lane below TILE_K, a key of a tile, an element of a row below the padded row that the array
//!   has; rotations touch ROTARY_OFFSET..ROTARY_OFFSET + 2 PAIRS, within HEAD_DIM by `Spec::validate`. `tile`'s arrays follow from one
//!   `Division`, `decode`'s from one `Form`: a lane is below LANES (clamped where subgroups number it, so that nothing hangs on their
//!   size), its rows and keys are that number divided. `tile_rows`, the one array whose words become indices, is written whole by
//!   local indices before a barrier. Rolled loops add `unseen_zero()` to these bounds, which is 0 for every word that `step` may hold.
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

use crate::Binding;

/// Files whose every index is argued above.
const ARGUED: &[&str] = &[
    "common/k_tile.wgsl",
    "common/ln.wgsl",
    "common/lse.wgsl",
    "common/nan.wgsl",
    "common/norm.wgsl",
    "common/online_softmax.wgsl",
    "common/params.wgsl",
    "common/part.wgsl",
    "common/prepared.wgsl",
    "common/query.wgsl",
    "common/row.wgsl",
    "common/score_at.wgsl",
    "common/table4.wgsl",
    "common/table4_aligned.wgsl",
    "common/tanh.wgsl",
    "equation/angle_exact.wgsl",
    "equation/angle_float32.wgsl",
    "equation/angle_sincos.wgsl",
    "equation/cap_none.wgsl",
    "equation/cap_tanh.wgsl",
    "equation/content_bias.wgsl",
    "equation/content_none.wgsl",
    "equation/index_distance.wgsl",
    "equation/index_grid.wgsl",
    "equation/index_segment.wgsl",
    "equation/index_streams.wgsl",
    "equation/keys_rotated.wgsl",
    "equation/keys_unrotated.wgsl",
    "equation/magnitude_none.wgsl",
    "equation/magnitude_xpos.wgsl",
    "equation/mask_bits.wgsl",
    "equation/mask_chunk.wgsl",
    "equation/mask_left.wgsl",
    "equation/mask_right.wgsl",
    "equation/norm_after.wgsl",
    "equation/norm_before.wgsl",
    "equation/norm_l2.wgsl",
    "equation/norm_none.wgsl",
    "equation/norm_rms.wgsl",
    "equation/norm_unweighted.wgsl",
    "equation/norm_weighted.wgsl",
    "equation/product_vector.wgsl",
    "equation/product_word.wgsl",
    "equation/relative_gathered.wgsl",
    "equation/relative_none.wgsl",
    "equation/relative_rows.wgsl",
    "equation/rotary_half.wgsl",
    "equation/rotary_half_of_halves.wgsl",
    "equation/rotary_interleaved.wgsl",
    "equation/rotary_interleaved_in_half_out.wgsl",
    "equation/rotary_none.wgsl",
    "equation/scale_head.wgsl",
    "equation/scale_none.wgsl",
    "equation/scale_temperature.wgsl",
    "equation/score_mod_none.wgsl",
    "equation/sink_head.wgsl",
    "equation/sink_none.wgsl",
    "equation/sink_zero.wgsl",
    "equation/term_alibi_key_from_end.wgsl",
    "equation/term_alibi_key_position.wgsl",
    "equation/term_alibi_relative.wgsl",
    "equation/term_alibi_symmetric.wgsl",
    "equation/term_dense.wgsl",
    "equation/term_distance.wgsl",
    "equation/term_gate.wgsl",
    "equation/term_indexed.wgsl",
    "equation/term_kerple_log.wgsl",
    "equation/term_kerple_power.wgsl",
    "equation/term_none.wgsl",
    "equation/term_table.wgsl",
    "equation/value_direct.wgsl",
    "equation/value_rotated.wgsl",
    "equation/value_term_none.wgsl",
    "equation/value_term_rows.wgsl",
    "families/carry_none.wgsl",
    "families/carry_work.wgsl",
    "families/lane_keys_direct.wgsl",
    "families/lane_keys_prepared.wgsl",
    "families/loops_constant.wgsl",
    "families/loops_rolled.wgsl",
    "families/reduce_subgroup.wgsl",
    "families/reduce_workgroup.wgsl",
    "families/tile_keys_direct.wgsl",
    "families/tile_keys_prepared.wgsl",
    "families/tile_scores_plain.wgsl",
    "families/tile_scores_terms.wgsl",
    "kernel/attention.wgsl",
    "kernel/combine.wgsl",
    "kernel/decode.wgsl",
    "kernel/rotate.wgsl",
    "kernel/rotate_heads.wgsl",
    "kernel/scores.wgsl",
    "kernel/tile.wgsl",
    "prepare/heads.wgsl",
    "prepare/quad_half.wgsl",
    "prepare/quad_half_of_halves.wgsl",
    "prepare/quad_interleaved.wgsl",
    "prepare/quad_interleaved_in_half_out.wgsl",
    "prepare/rows.wgsl",
    "tensor/align_bottom_right.wgsl",
    "tensor/align_top_left.wgsl",
    "tensor/cache_contiguous.wgsl",
    "tensor/k_aligned.wgsl",
    "tensor/k_unaligned.wgsl",
    "tensor/length_per_sequence.wgsl",
    "tensor/length_shared.wgsl",
    "tensor/out_16_unaligned.wgsl",
    "tensor/out_aligned.wgsl",
    "tensor/out_f32_unaligned.wgsl",
    "tensor/position_ids_k.wgsl",
    "tensor/position_ids_k_several.wgsl",
    "tensor/position_ids_q.wgsl",
    "tensor/position_ids_q_several.wgsl",
    "tensor/position_index_k.wgsl",
    "tensor/position_index_q.wgsl",
    "tensor/q_aligned.wgsl",
    "tensor/q_in_place_16_unaligned.wgsl",
    "tensor/q_in_place_aligned.wgsl",
    "tensor/q_in_place_f32_unaligned.wgsl",
    "tensor/q_unaligned.wgsl",
    "tensor/sequence_batched.wgsl",
    "tensor/storage_bf16.wgsl",
    "tensor/storage_f16.wgsl",
    "tensor/storage_f32.wgsl",
    "tensor/stream_one.wgsl",
    "tensor/stream_several.wgsl",
    "tensor/token_key.wgsl",
    "tensor/token_query.wgsl",
    "tensor/v_aligned.wgsl",
    "tensor/v_unaligned.wgsl",
];

/// Files that need run-time checks, and why.
const KEPT: &[(&str, &str)] = &[
    ("kernel/coop.wgsl", "what matrices load and store is not argued"),
    ("kernel/decode_lanes.wgsl", "software adapters alone take it, and lose by it: not argued"),
    ("kernel/lanes.wgsl", "the number of a lane in its subgroup, which the device gives, is an index"),
    ("equation/angle_table.wgsl", "a position, which the caller writes into `step`, is a row of a table"),
    ("equation/index_lookup.wgsl", "a number in `tables`, which the caller writes, is a row"),
    ("tensor/length_packed.wgsl", "lengths are differences of cu_seqlens, which the caller writes into `step`"),
    ("tensor/sequence_packed.wgsl", "tokens stand where cu_seqlens says, which the caller writes into `step`"),
    ("equation/mask_user.wgsl", "it calls a user's function"),
    ("equation/score_mod_user.wgsl", "it calls a user's function"),
    ("equation/user_at.wgsl", "it serves a user's function"),
    ("equation/user_data.wgsl", "it serves a user's function"),
];

/// The first of a module's files that needs run-time checks, and why; none: nothing does.
pub(crate) fn keeps_checks(files: &[&'static str]) -> Option<(&'static str, &'static str)> {
    let file = *files.iter().find(|file| !ARGUED.contains(file))?;
    let why = KEPT.iter().find(|(kept, _)| *kept == file).map(|(_, why)| *why);
    Some((file, why.unwrap_or("nobody has argued its indices yet")))
}

/// Whether every binding ends below 2^32 bytes, so that no index in elements or words wraps. The sizes themselves are exact: see
/// `plan::binding_size`.
pub(crate) fn sizes_fit(bindings: &[Binding]) -> bool {
    bindings.iter().all(|b| b.size <= u32::MAX as u64)
}

/// The module of a plan; without run-time checks where its tuning says so and every index is bounded without them.
#[cfg(feature = "wgpu")]
#[allow(unsafe_code)]
pub(crate) fn shader_module(device: &wgpu::Device, plan: &crate::Plan) -> wgpu::ShaderModule {
    let source = wgpu::ShaderSource::Wgsl(plan.wgsl(crate::Target::Native).into());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(plan.label()), source };
    let files = plan.composed.files();
    if plan.tuning().checks || keeps_checks(&files).is_some() || !sizes_fit(plan.bindings()) {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: the module is composed of the preamble, which the crate writes, and of files of ARGUED (a user's text is no such file); its
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
    // EXPERIMENTAL_COOPERATIVE_MATRIX. Of the modules that this crate makes only those of `kernel/coop.wgsl` use it: with run-time checks, on
    // blocks that lie within constant workgroup arrays whatever the inputs (`family::coop::products`; rows and columns are multiples of
    // MATRIX), and only after a self-test on the device. It takes the cargo feature and the caller's option, both off by default.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// A pipeline cache of a device with `Features::PIPELINE_CACHE`, from what an earlier process saved.
#[cfg(all(feature = "wgpu", not(target_arch = "wasm32")))]
#[allow(unsafe_code)]
pub(crate) fn pipeline_cache(device: &wgpu::Device, saved: Option<crate::pipeline::Saved>) -> wgpu::PipelineCache {
    let data = saved.as_ref().map(crate::pipeline::Saved::bytes);
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("ropewalk"), data, fallback: true };
    // SAFETY: a `Saved` is made only by `pipeline::disk::load`, of bytes that `pipeline::disk::save` took from `PipelineCache::get_data`: it
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_shader_files_each_once() {
        let all: Vec<&str> = ARGUED.iter().copied().chain(KEPT.iter().map(|(file, _)| *file)).collect();
        let mut sorted = all.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), all.len());
        assert!(ARGUED.is_sorted());
        for file in all {
            assert!(!crate::compose::file(file).is_empty(), "{file} is no shader file");
        }
    }

    /// Whatever a file reads of a buffer that callers write, an argued one clamps: these may not appear outside of where they are known.
    #[test]
    fn words_of_step_become_indices_only_in_files_that_keep_their_checks() {
        for file in ARGUED {
            let text = crate::compose::file(file);
            assert!(!text.contains("params.step_cu_"), "{file} reads cu_seqlens");
            for line in text.lines().filter(|line| line.contains("step[")) {
                // the last is half of `unseen_zero`
                let safe = ["min(step[", "bitcast<i32>(step[", "let x = step[0];"].iter().any(|s| line.contains(s));
                let known = ["equation/mask_bits.wgsl", "equation/index_segment.wgsl"].contains(file);
                assert!(safe || known, "{file}: {line}");
            }
        }
    }

    #[test]
    fn the_unseen_zero_is_0_for_every_word() {
        assert!(crate::compose::file("common/params.wgsl").contains("return (x * (x * x - 1u)) & 1u;"));
        let zero = |x: u32| x.wrapping_mul(x.wrapping_mul(x).wrapping_sub(1)) & 1;
        // its lowest bit depends on that of x alone, as products and differences of integers mod 2^32 do
        for x in (0..70_000).chain((0..70_000).map(|x| u32::MAX - x)) {
            assert_eq!(zero(x), 0, "{x}");
        }
    }

    #[test]
    fn an_unknown_file_keeps_its_checks() {
        assert_eq!(keeps_checks(&["equation/cap_none.wgsl", "equation/term_none.wgsl"]), None);
        let (file, why) = keeps_checks(&["equation/cap_none.wgsl", "kernel/linear.wgsl"]).expect("it is not argued");
        assert_eq!((file, why), ("kernel/linear.wgsl", "nobody has argued its indices yet"));
        let (file, why) = keeps_checks(&["score_mod"]).expect("a user's text");
        assert!(file == "score_mod" && !why.is_empty());
    }
}
