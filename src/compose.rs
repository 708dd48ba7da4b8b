//! Chosen files and a preamble of constants -> one WGSL module. Plain concatenation: WGSL's declarations are
//! order-free, each file comes in once, and a compiler's line number maps back to the author's file.

use crate::layout::Slot;
use crate::user::declarations;
use std::collections::HashMap;
use std::fmt::Write;

macro_rules! shaders {
    ($($path:literal)*) => { &[$(($path, include_str!(concat!("../shaders/", $path)))),*] };
}

/// Every shader file, by its path below `shaders/`.
const FILES: &[(&str, &str)] = shaders! {
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

/// Every name that some shader file declares for its module, and the file: what a user's text must leave alone.
pub(crate) fn declared_names() -> HashMap<String, &'static str> {
    let bindings =
        Slot::ALL.iter().map(|slot| slot.name()).chain(["work4"]).map(|name| (name.to_string(), "(preamble)"));
    let files =
        FILES.iter().flat_map(|(path, text)| declarations(text).into_iter().map(|name| (name.to_string(), *path)));
    // of a name that several files declare, the first
    let mut names = HashMap::new();
    bindings.chain(files).for_each(|(name, file)| {
        names.entry(name).or_insert(file);
    });
    names
}

/// Who compiles the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Target {
    /// naga, through wgpu.
    #[default]
    Native,
    /// Tint and other browser compilers: `enable` lines where a variant needs them: subgroups.
    Web,
}

/// The file that multiplies cooperative matrices.
const MATRICES: &str = "kernel/coop.wgsl";

/// A composed module and where its lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Composed {
    pub(crate) source: String,
    /// The same for [`Target::Web`], where that differs.
    pub(crate) web: Option<String>,
    /// First line (from 1) of every part, and its file.
    parts: Vec<(usize, &'static str)>,
}

impl Composed {
    /// `preamble` holds constants, bindings and the glue between slots; `texts` are the user's own, by name.
    pub(crate) fn new(preamble: &str, files: &[&'static str], texts: &[(&'static str, &str)]) -> Self {
        let mut source = preamble.to_string();
        let mut parts = vec![(1, "(preamble)")];
        let files =
            files.iter().map(|path| *FILES.iter().find(|(p, _)| p == path).expect("plan names only files of FILES"));
        for (path, text) in files.chain(texts.iter().copied()) {
            let _ = write!(source, "\n// ---- {path}\n");
            parts.push((source.lines().count() + 1, path));
            source.push_str(text);
            if !source.ends_with('\n') {
                source.push('\n');
            }
        }
        // naga's own dialect, which no browser knows; on the preamble's first line, so that line numbers stay
        if parts.iter().any(|(_, path)| *path == MATRICES) {
            source.insert_str(0, "enable f16; enable wgpu_cooperative_matrix; ");
        }
        // naga takes no such line, browsers demand it
        let subgroups = ["subgroup_invocation_id", "subgroupBroadcast"].iter().any(|word| source.contains(word));
        let web = subgroups.then(|| format!("enable subgroups; {source}"));
        Composed { source, web, parts }
    }

    /// Whether lanes exchange within subgroups of one size.
    #[cfg(feature = "wgpu")]
    pub(crate) fn takes_subgroups(&self) -> bool {
        self.web.is_some()
    }
    /// Whether it multiplies cooperative matrices, in f16.
    #[cfg(feature = "wgpu")]
    pub(crate) fn takes_matrices(&self) -> bool {
        self.parts.iter().any(|(_, path)| *path == MATRICES)
    }

    /// The files that it is made of, the user's texts by their names.
    #[cfg(feature = "wgpu")]
    pub(crate) fn files(&self) -> Vec<&'static str> {
        self.parts.iter().map(|(_, path)| *path).filter(|path| *path != "(preamble)").collect()
    }

    /// The author's file and line of a line of the composed source.
    pub(crate) fn locate(&self, line: usize) -> (&'static str, usize) {
        let (first, path) = self.parts.iter().rev().find(|(first, _)| *first <= line).unwrap_or(&self.parts[0]);
        (path, line + 1 - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
