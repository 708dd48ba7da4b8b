//! Every shader file, once: its text, and why its indices are in bounds without run-time checks, or why it keeps them.

use crate::shader::layout::Binding;
use Checks::{Checked, InBounds};
use Index::{Arrays, Dense, Step, Tables, Tensors, Uniforms, Work};

/// The kinds of index whose bounds are argued at the head of `gpu/trusted.rs`, by what they are an index of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Index {
    /// `q`, `k`, `v`, `out`.
    Tensors,
    /// `work`, `work4`, `work_half`.
    Work,
    /// `tables`.
    Tables,
    /// `dense`.
    Dense,
    /// `step`.
    Step,
    /// `rotary`, `heads`.
    Uniforms,
    /// Workgroup and private arrays, vectors.
    Arrays,
}

/// Whether the run-time checks of a module with this file may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    /// They may: the file forms indices of these kinds, each in bounds by the argument, loops that end and divisors that are not 0.
    InBounds(&'static [Index]),
    /// They stay, and why.
    Checked(&'static str),
}

/// A shader file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File {
    /// Below `shaders/`.
    pub(crate) path: &'static str,
    pub(crate) text: &'static str,
    pub(crate) checks: Checks,
}

macro_rules! shaders {
    ($($path:literal: $checks:expr,)*) => {
        &[$(File { path: $path, text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path)), checks: $checks }),*]
    };
}

/// Every file, by path.
pub(crate) const FILES: &[File] = shaders! {
    "common/append_words.wgsl": Checked("nobody has argued its indices yet"),
    "common/block_values.wgsl": Checked("nobody has argued its indices yet"),
    "common/cap4.wgsl": Checked("nobody has argued its indices yet"),
    "common/exact.wgsl": Checked("nobody has argued its indices yet"),
    "common/k_tile.wgsl": InBounds(&[Arrays]),
    "common/k_tile_branches.wgsl": Checked("nobody has argued its indices yet"),
    "common/ln.wgsl": InBounds(&[]),
    "common/lse.wgsl": InBounds(&[Work]),
    "common/lse_halves.wgsl": InBounds(&[Work]),
    "common/lse_words.wgsl": InBounds(&[Work]),
    "common/nan.wgsl": InBounds(&[]),
    "common/norm.wgsl": InBounds(&[Arrays]),
    "common/online_softmax.wgsl": InBounds(&[]),
    "common/params.wgsl": InBounds(&[Step]),
    "common/part.wgsl": InBounds(&[Work, Arrays]),
    "common/prepared.wgsl": InBounds(&[Work]),
    "common/prepared_halves.wgsl": InBounds(&[Work]),
    "common/prepared_tiles.wgsl": InBounds(&[Work]),
    "common/query.wgsl": InBounds(&[Arrays]),
    "common/query_branches.wgsl": Checked("nobody has argued its indices yet"),
    "common/query_near.wgsl": InBounds(&[]),
    "common/query_placed.wgsl": Checked("nobody has argued its indices yet"),
    "common/row.wgsl": InBounds(&[]),
    "common/score.wgsl": InBounds(&[]),
    "common/score_at.wgsl": InBounds(&[]),
    "common/table4.wgsl": InBounds(&[Tables]),
    "common/table4_aligned.wgsl": InBounds(&[Tables]),
    "common/tanh.wgsl": InBounds(&[]),
    "common/tile_place.wgsl": InBounds(&[]),
    "common/tile_rows.wgsl": InBounds(&[Arrays]),
    "common/units.wgsl": InBounds(&[]),
    "embed/halves.wgsl": Checked("nobody has argued its indices yet"),
    "embed/interleaved.wgsl": Checked("nobody has argued its indices yet"),
    "embed/learned.wgsl": Checked("nobody has argued its indices yet"),
    "embed/sinusoidal.wgsl": Checked("nobody has argued its indices yet"),
    "equation/angle_exact.wgsl": InBounds(&[Uniforms]),
    "equation/angle_float32.wgsl": InBounds(&[Uniforms, Arrays]),
    "equation/angle_sincos.wgsl": InBounds(&[]),
    "equation/angle_table.wgsl": Checked("a position, which the caller writes into `step`, is a row of a table"),
    "equation/branch_clipped.wgsl": Checked("nobody has argued its indices yet"),
    "equation/branch_grouped.wgsl": Checked("nobody has argued its indices yet"),
    "equation/cap_none.wgsl": InBounds(&[]),
    "equation/cap_tanh.wgsl": InBounds(&[]),
    "equation/content_bias.wgsl": InBounds(&[Arrays]),
    "equation/content_none.wgsl": InBounds(&[]),
    "equation/index_distance.wgsl": InBounds(&[]),
    "equation/index_grid.wgsl": InBounds(&[]),
    "equation/index_lookup.wgsl": Checked("a number in `tables`, which the caller writes, is a row"),
    "equation/index_segment.wgsl": InBounds(&[Step]),
    "equation/index_streams.wgsl": InBounds(&[Step]),
    "equation/keys_rotated.wgsl": InBounds(&[]),
    "equation/keys_unrotated.wgsl": InBounds(&[]),
    "equation/keys_unrotated_placed.wgsl": Checked("nobody has argued its indices yet"),
    "equation/magnitude_none.wgsl": InBounds(&[]),
    "equation/magnitude_xpos.wgsl": InBounds(&[Uniforms]),
    "equation/mask_bits.wgsl": InBounds(&[Step]),
    "equation/mask_chunk.wgsl": InBounds(&[]),
    "equation/mask_left.wgsl": InBounds(&[]),
    "equation/mask_right.wgsl": InBounds(&[]),
    "equation/mask_user.wgsl": Checked("it calls a user's function"),
    "equation/mean_all_heads.wgsl": Checked("nobody has argued its indices yet"),
    "equation/mean_none.wgsl": Checked("beside files that nobody has argued yet"),
    "equation/norm_after.wgsl": InBounds(&[]),
    "equation/norm_all_heads.wgsl": Checked("nobody has argued its indices yet"),
    "equation/norm_before.wgsl": InBounds(&[]),
    "equation/norm_features.wgsl": Checked("nobody has argued its indices yet"),
    "equation/norm_heads_rotate.wgsl": Checked("nobody has argued its indices yet"),
    "equation/norm_heads_scores.wgsl": Checked("nobody has argued its indices yet"),
    "equation/norm_l2.wgsl": InBounds(&[]),
    "equation/norm_layer.wgsl": InBounds(&[Arrays]),
    "equation/norm_none.wgsl": InBounds(&[]),
    "equation/norm_placed.wgsl": Checked("nobody has argued its indices yet"),
    "equation/norm_rms.wgsl": InBounds(&[]),
    "equation/norm_unplaced.wgsl": Checked("nobody has argued its indices yet"),
    "equation/norm_unweighted.wgsl": InBounds(&[]),
    "equation/norm_weighted.wgsl": InBounds(&[Arrays]),
    "equation/norm_weighted_heads.wgsl": Checked("nobody has argued its indices yet"),
    "equation/output_plain.wgsl": InBounds(&[]),
    "equation/output_turned.wgsl": Checked("nobody has argued its indices yet"),
    "equation/product_vector.wgsl": InBounds(&[Work, Arrays]),
    "equation/product_word.wgsl": InBounds(&[Work]),
    "equation/relative_gathered.wgsl": InBounds(&[Arrays]),
    "equation/relative_gathered_lanes.wgsl": Checked("nobody has argued its indices yet"),
    "equation/relative_none.wgsl": InBounds(&[]),
    "equation/relative_own.wgsl": Checked("nobody has argued its indices yet"),
    "equation/relative_rows.wgsl": InBounds(&[Arrays]),
    "equation/rotary_half.wgsl": InBounds(&[Arrays]),
    "equation/rotary_half_of_halves.wgsl": InBounds(&[Arrays]),
    "equation/rotary_interleaved.wgsl": InBounds(&[Arrays]),
    "equation/rotary_interleaved_in_half_out.wgsl": InBounds(&[Arrays]),
    "equation/rotary_listed.wgsl": Checked("its indices come from a table of the caller's"),
    "equation/rotary_none.wgsl": InBounds(&[]),
    "equation/row_number.wgsl": Checked("nobody has argued its indices yet"),
    "equation/scale_head.wgsl": InBounds(&[Tables]),
    "equation/scale_none.wgsl": InBounds(&[]),
    "equation/scale_row.wgsl": Checked("nobody has argued its indices yet"),
    "equation/scale_row_none.wgsl": Checked("nobody has argued its indices yet"),
    "equation/scale_temperature.wgsl": InBounds(&[]),
    "equation/scale_temperature_smooth.wgsl": InBounds(&[]),
    "equation/score_mod_capped.wgsl": Checked("nobody has argued its indices yet"),
    "equation/score_mod_capped_user.wgsl": Checked("nobody has argued its indices yet"),
    "equation/score_mod_none.wgsl": InBounds(&[]),
    "equation/score_mod_user.wgsl": Checked("it calls a user's function"),
    "equation/sink_head.wgsl": InBounds(&[Tables]),
    "equation/sink_none.wgsl": InBounds(&[]),
    "equation/sink_query.wgsl": Checked("nobody has argued its indices yet"),
    "equation/sink_zero.wgsl": InBounds(&[]),
    "equation/term_alibi_key_from_end.wgsl": InBounds(&[Uniforms]),
    "equation/term_alibi_key_position.wgsl": InBounds(&[Uniforms]),
    "equation/term_alibi_relative.wgsl": InBounds(&[Uniforms]),
    "equation/term_alibi_symmetric.wgsl": InBounds(&[Uniforms]),
    "equation/term_dense.wgsl": InBounds(&[Dense]),
    "equation/term_distance.wgsl": InBounds(&[]),
    "equation/term_fire.wgsl": InBounds(&[Tables]),
    "equation/term_gate.wgsl": InBounds(&[Dense]),
    "equation/term_indexed.wgsl": InBounds(&[Tables]),
    "equation/term_kerple_log.wgsl": InBounds(&[Tables]),
    "equation/term_kerple_power.wgsl": InBounds(&[Tables]),
    "equation/term_key_bias.wgsl": Checked("nobody has argued its indices yet"),
    "equation/term_none.wgsl": InBounds(&[]),
    "equation/term_table.wgsl": InBounds(&[Tables]),
    "equation/turn_pair.wgsl": Checked("it serves `rotary_listed`, whose indices come from a table of the caller's"),
    "equation/turn_sums.wgsl": Checked("its indices depend on a table of the caller's"),
    "equation/user_at.wgsl": Checked("it serves a user's function"),
    "equation/user_data.wgsl": Checked("it serves a user's function"),
    "equation/value_direct.wgsl": InBounds(&[]),
    "equation/value_rotated.wgsl": InBounds(&[Arrays]),
    "equation/value_term_none.wgsl": InBounds(&[]),
    "equation/value_term_rows.wgsl": InBounds(&[Arrays]),
    "families/append_keys_direct.wgsl": Checked("nobody has argued its indices yet"),
    "families/append_keys_staged.wgsl": Checked("nobody has argued its indices yet"),
    "families/broadcast_subgroup.wgsl": Checked("nobody has argued its indices yet"),
    "families/carry_none.wgsl": InBounds(&[]),
    "families/carry_work.wgsl": InBounds(&[Work, Arrays]),
    "families/epilogue_cap.wgsl": Checked("nobody has argued its indices yet"),
    "families/epilogue_distance.wgsl": Checked("nobody has argued its indices yet"),
    "families/epilogue_none.wgsl": Checked("nobody has argued its indices yet"),
    "families/epilogue_scores.wgsl": Checked("nobody has argued its indices yet"),
    "families/lane_keys_direct.wgsl": InBounds(&[]),
    "families/lane_keys_prepared.wgsl": InBounds(&[]),
    "families/lane_scores_direct.wgsl": Checked("nobody has argued its indices yet"),
    "families/lane_scores_turned.wgsl": Checked("nobody has argued its indices yet"),
    "families/lane_values_direct.wgsl": Checked("nobody has argued its indices yet"),
    "families/lane_values_prepared.wgsl": Checked("nobody has argued its indices yet"),
    "families/loops_constant.wgsl": InBounds(&[]),
    "families/loops_features_constant.wgsl": Checked("nobody has argued its indices yet"),
    "families/loops_features_rolled.wgsl": Checked("nobody has argued its indices yet"),
    "families/loops_rolled.wgsl": InBounds(&[]),
    "families/reduce_subgroup.wgsl": InBounds(&[Arrays]),
    "families/reduce_workgroup.wgsl": InBounds(&[Arrays]),
    "families/tile_keys_direct.wgsl": InBounds(&[]),
    "families/tile_keys_prepared.wgsl": InBounds(&[]),
    "families/tile_scores_plain.wgsl": InBounds(&[]),
    "families/tile_scores_terms.wgsl": InBounds(&[]),
    "families/tiles_batched.wgsl": InBounds(&[]),
    "families/tiles_packed.wgsl": InBounds(&[]),
    "families/wide_keys_direct.wgsl": InBounds(&[]),
    "families/wide_keys_turned.wgsl": InBounds(&[]),
    "families/wide_query_direct.wgsl": InBounds(&[]),
    "families/wide_query_turned.wgsl": InBounds(&[]),
    "kernel/append.wgsl": Checked("nobody has argued its indices yet"),
    "kernel/append_blocks.wgsl": Checked("nobody has argued its indices yet"),
    "kernel/attention.wgsl": InBounds(&[Work, Arrays]),
    "kernel/block.wgsl": InBounds(&[Work, Arrays]),
    "kernel/combine.wgsl": InBounds(&[Work]),
    "kernel/combine_wide.wgsl": InBounds(&[Work, Arrays]),
    "kernel/coop.wgsl": InBounds(&[Work, Arrays]),
    "kernel/decode.wgsl": InBounds(&[Arrays]),
    "kernel/decode_lanes.wgsl": Checked("software adapters alone take it, and lose by it: not argued"),
    "kernel/embed.wgsl": Checked("nobody has argued its indices yet"),
    "kernel/lanes.wgsl": Checked("the number of a lane in its subgroup, which the device gives, is an index"),
    "kernel/linear.wgsl": Checked("nobody has argued its indices yet"),
    "kernel/merge.wgsl": Checked("nobody has argued its indices yet"),
    "kernel/rotate.wgsl": InBounds(&[Arrays]),
    "kernel/rotate_heads.wgsl": InBounds(&[]),
    "kernel/scores.wgsl": InBounds(&[Tensors]),
    "kernel/tile.wgsl": InBounds(&[Tensors, Arrays]),
    "kernel/wide.wgsl": InBounds(&[Arrays]),
    "linear/decay_feature.wgsl": Checked("nobody has argued its indices yet"),
    "linear/decay_head.wgsl": Checked("nobody has argued its indices yet"),
    "linear/decay_none.wgsl": Checked("nobody has argued its indices yet"),
    "linear/decay_token.wgsl": Checked("nobody has argued its indices yet"),
    "linear/feature_elu.wgsl": Checked("nobody has argued its indices yet"),
    "linear/feature_identity.wgsl": Checked("nobody has argued its indices yet"),
    "linear/feature_relu.wgsl": Checked("nobody has argued its indices yet"),
    "linear/feature_rows.wgsl": Checked("nobody has argued its indices yet"),
    "linear/feature_softmax.wgsl": Checked("nobody has argued its indices yet"),
    "linear/normalizer_none.wgsl": Checked("nobody has argued its indices yet"),
    "linear/normalizer_sum.wgsl": Checked("nobody has argued its indices yet"),
    "linear/state_empty.wgsl": Checked("nobody has argued its indices yet"),
    "linear/state_given.wgsl": Checked("nobody has argued its indices yet"),
    "linear/time_bidirectional.wgsl": Checked("nobody has argued its indices yet"),
    "linear/time_causal.wgsl": Checked("nobody has argued its indices yet"),
    "linear/turn_after.wgsl": Checked("nobody has argued its indices yet"),
    "linear/turn_before.wgsl": Checked("nobody has argued its indices yet"),
    "linear/update_delta.wgsl": Checked("nobody has argued its indices yet"),
    "linear/update_sum.wgsl": Checked("nobody has argued its indices yet"),
    "prepare/copied_k.wgsl": InBounds(&[]),
    "prepare/copied_q.wgsl": InBounds(&[]),
    "prepare/heads_k.wgsl": InBounds(&[]),
    "prepare/heads_q.wgsl": InBounds(&[]),
    "prepare/quad_half.wgsl": InBounds(&[]),
    "prepare/quad_half_of_halves.wgsl": InBounds(&[]),
    "prepare/quad_interleaved.wgsl": InBounds(&[]),
    "prepare/quad_interleaved_in_half_out.wgsl": InBounds(&[]),
    "prepare/rows.wgsl": InBounds(&[Arrays]),
    "prepare/values.wgsl": Checked("nobody has argued its indices yet"),
    "prepare/values_columns.wgsl": InBounds(&[Work]),
    "tensor/align_bottom_right.wgsl": InBounds(&[]),
    "tensor/align_top_left.wgsl": InBounds(&[]),
    "tensor/append_last.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/cache_contiguous.wgsl": InBounds(&[]),
    "tensor/cache_pages.wgsl": InBounds(&[Step]),
    "tensor/cache_pool.wgsl": InBounds(&[]),
    "tensor/cache_slots.wgsl": InBounds(&[Step]),
    "tensor/k_aligned.wgsl": InBounds(&[Tensors]),
    "tensor/k_blocks.wgsl": InBounds(&[Tensors]),
    "tensor/k_unaligned.wgsl": InBounds(&[Tensors]),
    "tensor/length_packed.wgsl": InBounds(&[Step]),
    "tensor/length_per_sequence.wgsl": InBounds(&[Step]),
    "tensor/length_shared.wgsl": InBounds(&[]),
    "tensor/new_aligned.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/new_unaligned.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/out_16_unaligned.wgsl": InBounds(&[Tensors, Arrays]),
    "tensor/out_aligned.wgsl": InBounds(&[Tensors]),
    "tensor/out_f32_unaligned.wgsl": InBounds(&[Tensors, Arrays]),
    "tensor/position_ids_k.wgsl": InBounds(&[Step]),
    "tensor/position_ids_k_several.wgsl": InBounds(&[Step]),
    "tensor/position_ids_q.wgsl": InBounds(&[Step]),
    "tensor/position_ids_q_several.wgsl": InBounds(&[Step]),
    "tensor/position_index_k.wgsl": InBounds(&[]),
    "tensor/position_index_q.wgsl": InBounds(&[]),
    "tensor/put_16_unaligned.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/put_aligned.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/put_f32_unaligned.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/q_aligned.wgsl": InBounds(&[Tensors]),
    "tensor/q_in_place_16_unaligned.wgsl": InBounds(&[Tensors]),
    "tensor/q_in_place_aligned.wgsl": InBounds(&[Tensors]),
    "tensor/q_in_place_f32_unaligned.wgsl": InBounds(&[Tensors]),
    "tensor/q_unaligned.wgsl": InBounds(&[Tensors]),
    "tensor/quantise_bf16.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_f16.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_f32.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_f8_e4m3.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_int8.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_iq4_nl.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_q4_0.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_q4_1.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_q5_0.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_q5_1.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/quantise_q8_0.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/raw_aligned.wgsl": InBounds(&[Tensors]),
    "tensor/sequence_batched.wgsl": InBounds(&[Step]),
    "tensor/sequence_packed.wgsl": InBounds(&[Step]),
    "tensor/storage_bf16.wgsl": InBounds(&[]),
    "tensor/storage_f16.wgsl": InBounds(&[]),
    "tensor/storage_f32.wgsl": InBounds(&[]),
    "tensor/storage_f8_e4m3.wgsl": InBounds(&[]),
    "tensor/storage_int8.wgsl": InBounds(&[]),
    "tensor/storage_iq4_nl.wgsl": InBounds(&[]),
    "tensor/storage_q4_0.wgsl": InBounds(&[]),
    "tensor/storage_q4_1.wgsl": InBounds(&[]),
    "tensor/storage_q5_0.wgsl": InBounds(&[]),
    "tensor/storage_q5_1.wgsl": InBounds(&[]),
    "tensor/storage_q8_0.wgsl": InBounds(&[]),
    "tensor/stream_one.wgsl": InBounds(&[]),
    "tensor/stream_several.wgsl": InBounds(&[Uniforms]),
    "tensor/token_key.wgsl": InBounds(&[]),
    "tensor/token_key_placed.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/token_query.wgsl": InBounds(&[]),
    "tensor/token_query_placed.wgsl": Checked("nobody has argued its indices yet"),
    "tensor/v_aligned.wgsl": InBounds(&[Tensors]),
    "tensor/v_blocks.wgsl": InBounds(&[Tensors]),
    "tensor/v_unaligned.wgsl": InBounds(&[Tensors]),
};

/// The file of a path; none for the preamble and a user's texts.
pub(crate) fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

/// The text of a shader file; empty where there is none of that name.
#[cfg(any(feature = "naga", test))]
pub(crate) fn text(path: &str) -> &'static str {
    find(path).map_or("", |file| file.text)
}

/// The first of a module's files that keeps its run-time checks, and why; none: no file does.
pub(crate) fn keeps_checks(files: &[&'static str]) -> Option<(&'static str, &'static str)> {
    files.iter().find_map(|path| match find(path).map(|file| file.checks) {
        Some(InBounds(_)) => None,
        Some(Checked(why)) => Some((*path, why)),
        None => Some((*path, "it is no shader file of the crate")),
    })
}

/// Whether every binding ends below 2^32 bytes, so that no index in elements or words wraps. The sizes themselves are exact: see
/// `plan::params::binding_size`.
pub(crate) fn sizes_fit(bindings: &[Binding]) -> bool {
    bindings.iter().all(|b| b.size <= u32::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The files whose checks may go.
    fn in_bounds() -> impl Iterator<Item = (&'static File, &'static [Index])> {
        FILES.iter().filter_map(|file| match file.checks {
            InBounds(kinds) => Some((file, kinds)),
            Checked(_) => None,
        })
    }

    #[test]
    fn every_shader_file_is_listed() {
        fn walk(dir: &std::path::Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).expect("shaders/ can be read") {
                let path = entry.expect("shaders/ can be read").path();
                if path.is_dir() {
                    walk(&path, found);
                } else if path.extension().is_some_and(|e| e == "wgsl") {
                    let components: Vec<_> = path.components().map(|c| c.as_os_str().to_string_lossy()).collect();
                    found.push(components[components.len() - 2..].join("/"));
                }
            }
        }
        let mut found = Vec::new();
        walk(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders"), &mut found);
        found.sort();
        assert_eq!(found, FILES.iter().map(|file| file.path.to_string()).collect::<Vec<_>>());
    }

    /// The table names exactly what a file indexes: with the name before each `[` that holds no constant.
    #[test]
    fn kinds_of_indices_are_those_of_the_text() {
        for (file, kinds) in in_bounds() {
            let code: String =
                file.text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
            let mut found = BTreeSet::new();
            for (at, _) in code.match_indices('[') {
                let before = &code[..at];
                let name = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                let index = code[at + 1..].split(']').next().unwrap_or("");
                let constant = !index.is_empty() && index.trim_end_matches('u').chars().all(|c| c.is_ascii_digit());
                match name {
                    "q" | "k" | "v" | "out" | "new_k" | "new_v" => drop(found.insert(Tensors)),
                    "work" | "work4" | "work_half" => drop(found.insert(Work)),
                    "tables" => drop(found.insert(Tables)),
                    "dense" => drop(found.insert(Dense)),
                    "step" => drop(found.insert(Step)),
                    "rotary" | "heads" => drop(found.insert(Uniforms)),
                    _ if constant => {}
                    _ => drop(found.insert(Arrays)),
                }
            }
            assert_eq!(kinds, found.into_iter().collect::<Vec<_>>(), "{}", file.path);
        }
    }

    /// Whatever a file reads of a buffer that callers write, a file without checks clamps: these may not appear outside of where they are known.
    #[test]
    fn words_of_step_become_indices_only_in_files_that_keep_their_checks() {
        for (File { path: file, text, .. }, _) in in_bounds() {
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
        assert!(self::text("common/params.wgsl").contains("return (x * (x * x - 1u)) & 1u;"));
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
