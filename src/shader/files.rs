//! Every shader file: its text, and why its run-time checks may go.

use crate::shader::layout::Binding;

macro_rules! shaders {
    ($($path:literal)*) => { &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path)))),*] };
}

/// Every shader file, by its path below `shaders/`.
pub(crate) const FILES: &[(&str, &str)] = shaders! {
    "common/cap4.wgsl"
    "common/k_tile.wgsl"
    "common/ln.wgsl"
    "common/lse.wgsl"
    "common/nan.wgsl"
    "common/norm.wgsl"
    "common/online_softmax.wgsl"
    "common/params.wgsl"
    "common/part.wgsl"
    "common/prepared.wgsl"
    "common/query.wgsl"
    "common/row.wgsl"
    "common/score_at.wgsl"
    "common/table4.wgsl"
    "common/table4_aligned.wgsl"
    "common/tanh.wgsl"
    "embed/halves.wgsl"
    "embed/interleaved.wgsl"
    "embed/learned.wgsl"
    "embed/sinusoidal.wgsl"
    "equation/angle_exact.wgsl" "equation/angle_float32.wgsl" "equation/angle_sincos.wgsl" "equation/angle_table.wgsl"
    "equation/cap_none.wgsl" "equation/cap_tanh.wgsl"
    "equation/content_bias.wgsl" "equation/content_none.wgsl"
    "equation/index_distance.wgsl" "equation/index_grid.wgsl" "equation/index_lookup.wgsl" "equation/index_segment.wgsl"
    "equation/index_streams.wgsl"
    "equation/keys_rotated.wgsl" "equation/keys_unrotated.wgsl"
    "equation/magnitude_none.wgsl" "equation/magnitude_xpos.wgsl"
    "equation/mask_bits.wgsl" "equation/mask_chunk.wgsl" "equation/mask_left.wgsl" "equation/mask_right.wgsl"
    "equation/mask_user.wgsl"
    "equation/norm_after.wgsl" "equation/norm_before.wgsl" "equation/norm_features.wgsl" "equation/norm_l2.wgsl"
    "equation/norm_none.wgsl" "equation/norm_rms.wgsl" "equation/norm_unweighted.wgsl" "equation/norm_weighted.wgsl"
    "equation/product_vector.wgsl" "equation/product_word.wgsl"
    "equation/relative_gathered.wgsl" "equation/relative_gathered_lanes.wgsl" "equation/relative_none.wgsl"
    "equation/relative_rows.wgsl"
    "equation/rotary_half.wgsl" "equation/rotary_half_of_halves.wgsl" "equation/rotary_interleaved.wgsl"
    "equation/rotary_interleaved_in_half_out.wgsl" "equation/rotary_none.wgsl"
    "equation/scale_head.wgsl" "equation/scale_none.wgsl" "equation/scale_temperature.wgsl"
    "equation/score_mod_none.wgsl" "equation/score_mod_user.wgsl"
    "equation/sink_head.wgsl" "equation/sink_none.wgsl" "equation/sink_zero.wgsl"
    "equation/term_alibi_key_from_end.wgsl" "equation/term_alibi_key_position.wgsl" "equation/term_alibi_relative.wgsl"
    "equation/term_alibi_symmetric.wgsl" "equation/term_dense.wgsl" "equation/term_distance.wgsl" "equation/term_gate.wgsl"
    "equation/term_indexed.wgsl" "equation/term_kerple_log.wgsl" "equation/term_kerple_power.wgsl" "equation/term_none.wgsl"
    "equation/term_table.wgsl"
    "equation/user_at.wgsl" "equation/user_data.wgsl"
    "equation/value_direct.wgsl" "equation/value_rotated.wgsl" "equation/value_term_none.wgsl" "equation/value_term_rows.wgsl"
    "families/broadcast_subgroup.wgsl"
    "families/carry_none.wgsl" "families/carry_work.wgsl"
    "families/epilogue_cap.wgsl" "families/epilogue_distance.wgsl" "families/epilogue_none.wgsl" "families/epilogue_scores.wgsl"
    "families/lane_keys_direct.wgsl" "families/lane_keys_prepared.wgsl" "families/lane_scores_direct.wgsl"
    "families/lane_scores_turned.wgsl" "families/lane_values_direct.wgsl" "families/lane_values_prepared.wgsl"
    "families/loops_constant.wgsl" "families/loops_features_constant.wgsl" "families/loops_features_rolled.wgsl"
    "families/loops_rolled.wgsl"
    "families/reduce_subgroup.wgsl" "families/reduce_workgroup.wgsl"
    "families/tile_keys_direct.wgsl" "families/tile_keys_prepared.wgsl" "families/tile_scores_plain.wgsl"
    "families/tile_scores_terms.wgsl"
    "kernel/attention.wgsl"
    "kernel/combine.wgsl"
    "kernel/coop.wgsl"
    "kernel/decode.wgsl"
    "kernel/decode_lanes.wgsl"
    "kernel/embed.wgsl"
    "kernel/lanes.wgsl"
    "kernel/linear.wgsl"
    "kernel/rotate.wgsl"
    "kernel/rotate_heads.wgsl"
    "kernel/scores.wgsl"
    "kernel/tile.wgsl"
    "linear/decay_feature.wgsl" "linear/decay_head.wgsl" "linear/decay_none.wgsl" "linear/decay_token.wgsl"
    "linear/feature_elu.wgsl" "linear/feature_identity.wgsl" "linear/feature_rows.wgsl" "linear/feature_softmax.wgsl"
    "linear/normalizer_none.wgsl" "linear/normalizer_sum.wgsl"
    "linear/state_empty.wgsl" "linear/state_given.wgsl"
    "linear/time_bidirectional.wgsl" "linear/time_causal.wgsl"
    "linear/turn_after.wgsl" "linear/turn_before.wgsl"
    "prepare/heads.wgsl"
    "prepare/quad_half.wgsl" "prepare/quad_half_of_halves.wgsl" "prepare/quad_interleaved.wgsl"
    "prepare/quad_interleaved_in_half_out.wgsl"
    "prepare/rows.wgsl"
    "prepare/values.wgsl"
    "tensor/align_bottom_right.wgsl" "tensor/align_top_left.wgsl"
    "tensor/cache_contiguous.wgsl"
    "tensor/k_aligned.wgsl" "tensor/k_unaligned.wgsl"
    "tensor/length_packed.wgsl" "tensor/length_per_sequence.wgsl" "tensor/length_shared.wgsl"
    "tensor/out_16_unaligned.wgsl" "tensor/out_aligned.wgsl" "tensor/out_f32_unaligned.wgsl"
    "tensor/position_ids_k.wgsl" "tensor/position_ids_k_several.wgsl" "tensor/position_ids_q.wgsl"
    "tensor/position_ids_q_several.wgsl" "tensor/position_index_k.wgsl" "tensor/position_index_q.wgsl"
    "tensor/q_aligned.wgsl" "tensor/q_in_place_16_unaligned.wgsl" "tensor/q_in_place_aligned.wgsl"
    "tensor/q_in_place_f32_unaligned.wgsl" "tensor/q_unaligned.wgsl"
    "tensor/sequence_batched.wgsl" "tensor/sequence_packed.wgsl"
    "tensor/storage_bf16.wgsl" "tensor/storage_f16.wgsl" "tensor/storage_f32.wgsl"
    "tensor/stream_one.wgsl" "tensor/stream_several.wgsl"
    "tensor/token_key.wgsl" "tensor/token_query.wgsl"
    "tensor/v_aligned.wgsl" "tensor/v_unaligned.wgsl"
};

/// The text of a shader file; empty where there is none of that name.
#[cfg(any(feature = "naga", test))]
pub(crate) fn file(path: &str) -> &'static str {
    FILES.iter().find(|(p, _)| *p == path).map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shader::compose::Composed;

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
        assert_eq!(found, FILES.iter().map(|(p, _)| p.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn lines_map_back_to_files() {
        let composed = Composed::new(
            "const A = 1;\n",
            &["equation/cap_none.wgsl", "equation/term_none.wgsl"],
            &[("score_mod", "\n// two\nfn a() {}")],
        );
        let line = composed.source.lines().position(|l| l.contains("fn score_terms")).expect("it is there") + 1;
        assert_eq!(composed.locate(line), ("equation/term_none.wgsl", 2));
        assert_eq!(composed.locate(1), ("(preamble)", 1));
        assert_eq!(composed.locate(composed.source.lines().count()), ("score_mod", 3));
    }
}

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

#[cfg(test)]
mod more_tests {
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
            assert!(!self::file(file).is_empty(), "{file} is no shader file");
        }
    }

    /// Whatever a file reads of a buffer that callers write, an argued one clamps: these may not appear outside of where they are known.
    #[test]
    fn words_of_step_become_indices_only_in_files_that_keep_their_checks() {
        for file in ARGUED {
            let text = self::file(file);
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
        assert!(self::file("common/params.wgsl").contains("return (x * (x * x - 1u)) & 1u;"));
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
