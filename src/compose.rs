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
    "align/bottom_right.wgsl" "align/top_left.wgsl"
    "angle/exact.wgsl" "angle/float32.wgsl" "angle/sincos.wgsl" "angle/table.wgsl"
    "cache/contiguous.wgsl"
    "cap/none.wgsl" "cap/tanh.wgsl"
    "carry/none.wgsl" "carry/work.wgsl"
    "common/cap4.wgsl" "common/k_tile.wgsl" "common/ln.wgsl" "common/lse.wgsl" "common/nan.wgsl" "common/norm.wgsl" "common/online_softmax.wgsl" "common/params.wgsl" "common/part.wgsl"
    "common/prepared.wgsl" "common/query.wgsl" "common/row.wgsl" "common/score_at.wgsl" "common/table4.wgsl" "common/table4_aligned.wgsl" "common/tanh.wgsl"
    "content/bias.wgsl" "content/none.wgsl"
    "decay/feature.wgsl" "decay/head.wgsl" "decay/none.wgsl" "decay/token.wgsl"
    "embed/halves.wgsl" "embed/interleaved.wgsl" "embed/learned.wgsl" "embed/sinusoidal.wgsl"
    "feature/elu.wgsl" "feature/identity.wgsl" "feature/rows.wgsl" "feature/softmax.wgsl"
    "finish/cap.wgsl" "finish/distance.wgsl" "finish/none.wgsl" "finish/scores.wgsl"
    "index/distance.wgsl" "index/grid.wgsl" "index/lookup.wgsl" "index/segment.wgsl" "index/streams.wgsl"
    "kernel/attention.wgsl" "kernel/combine.wgsl" "kernel/coop.wgsl" "kernel/decode.wgsl" "kernel/decode_lanes.wgsl"
    "kernel/embed.wgsl" "kernel/lanes.wgsl" "kernel/linear.wgsl" "kernel/rotate.wgsl" "kernel/rotate_heads.wgsl" "kernel/scores.wgsl"
    "kernel/tile.wgsl"
    "keys/rotated.wgsl" "keys/unrotated.wgsl"
    "lane_keys/direct.wgsl" "lane_keys/prepared.wgsl"
    "lane_scores/direct.wgsl" "lane_scores/turned.wgsl"
    "lane_values/direct.wgsl" "lane_values/prepared.wgsl"
    "length/packed.wgsl" "length/per_sequence.wgsl" "length/shared.wgsl"
    "loops/constant.wgsl" "loops/features_constant.wgsl" "loops/features_rolled.wgsl" "loops/rolled.wgsl"
    "magnitude/none.wgsl" "magnitude/xpos.wgsl"
    "mask/bits.wgsl" "mask/chunk.wgsl" "mask/left.wgsl" "mask/right.wgsl" "mask/user.wgsl"
    "norm/after.wgsl" "norm/before.wgsl" "norm/features.wgsl" "norm/l2.wgsl" "norm/none.wgsl" "norm/rms.wgsl"
    "norm/unweighted.wgsl" "norm/weighted.wgsl"
    "normalizer/none.wgsl" "normalizer/sum.wgsl"
    "position/ids_k.wgsl" "position/ids_k_several.wgsl" "position/ids_q.wgsl" "position/ids_q_several.wgsl"
    "position/index_k.wgsl" "position/index_q.wgsl"
    "prepare/heads.wgsl" "prepare/rows.wgsl" "prepare/values.wgsl"
    "product/vector.wgsl" "product/word.wgsl"
    "quad/half.wgsl" "quad/half_of_halves.wgsl" "quad/interleaved.wgsl" "quad/interleaved_in_half_out.wgsl"
    "reduce/subgroup.wgsl" "reduce/workgroup.wgsl"
    "relative/gathered.wgsl" "relative/gathered_lanes.wgsl" "relative/none.wgsl" "relative/rows.wgsl"
    "rotary/half.wgsl" "rotary/half_of_halves.wgsl" "rotary/interleaved.wgsl" "rotary/interleaved_in_half_out.wgsl"
    "rotary/none.wgsl"
    "scale/head.wgsl" "scale/none.wgsl" "scale/temperature.wgsl"
    "score_mod/none.wgsl" "score_mod/user.wgsl"
    "sequence/batched.wgsl" "sequence/packed.wgsl"
    "sink/head.wgsl" "sink/none.wgsl" "sink/zero.wgsl"
    "spread/subgroup.wgsl"
    "state/empty.wgsl" "state/given.wgsl"
    "storage/bf16.wgsl" "storage/f16.wgsl" "storage/f32.wgsl"
    "stream/one.wgsl" "stream/several.wgsl"
    "tensor/k_aligned.wgsl" "tensor/k_unaligned.wgsl" "tensor/out_16_unaligned.wgsl" "tensor/out_aligned.wgsl"
    "tensor/out_f32_unaligned.wgsl" "tensor/q_aligned.wgsl" "tensor/q_in_place_16_unaligned.wgsl"
    "tensor/q_in_place_aligned.wgsl" "tensor/q_in_place_f32_unaligned.wgsl" "tensor/q_unaligned.wgsl"
    "tensor/v_aligned.wgsl" "tensor/v_unaligned.wgsl"
    "term/alibi_key_from_end.wgsl" "term/alibi_key_position.wgsl" "term/alibi_relative.wgsl"
    "term/alibi_symmetric.wgsl" "term/dense.wgsl" "term/distance.wgsl" "term/gate.wgsl" "term/indexed.wgsl"
    "term/kerple_log.wgsl" "term/kerple_power.wgsl" "term/none.wgsl" "term/table.wgsl"
    "tile_keys/direct.wgsl" "tile_keys/prepared.wgsl"
    "tile_scores/plain.wgsl" "tile_scores/terms.wgsl"
    "time/bidirectional.wgsl" "time/causal.wgsl"
    "token/key.wgsl" "token/query.wgsl"
    "turn/after.wgsl" "turn/before.wgsl"
    "user/at.wgsl" "user/data.wgsl"
    "value/direct.wgsl" "value/rotated.wgsl"
    "value_term/none.wgsl" "value_term/rows.wgsl"
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
            &["cap/none.wgsl", "term/none.wgsl"],
            &[("score_mod", "\n// two\nfn a() {}")],
        );
        let line = composed.source.lines().position(|l| l.contains("fn score_terms")).expect("it is there") + 1;
        assert_eq!(composed.locate(line), ("term/none.wgsl", 2));
        assert_eq!(composed.locate(1), ("(preamble)", 1));
        assert_eq!(composed.locate(composed.source.lines().count()), ("score_mod", 3));
    }
}
