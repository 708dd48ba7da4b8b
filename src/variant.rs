//! Which files make up a kernel: every variant is one file in one slot, and one `match` chooses it.

use crate::layout::{Binding, Slot};
use crate::plan::{Kernel, padded, table_rows};
use crate::tuning::TILE_Q;
use crate::{AlibiForm, Alignment, Angle, Bias, Dtype, Pairing, Positions, Spec, bias};
use std::fmt::Write;

/// The choice of files: every variant is one file in one slot.
pub(crate) struct Files<'a> {
    spec: &'a Spec,
    pub(crate) files: Vec<&'static str>,
    pub(crate) slots: Vec<Slot>,
    /// Functions that combine several files of one slot: `score_terms`, `visible`, `key_range`.
    pub(crate) glue: String,
}

impl<'a> Files<'a> {
    pub(crate) fn new(spec: &'a Spec, kernel: Kernel, aligned: bool, rolled_loops: bool, carry: bool) -> Self {
        let mut files = Files { spec, files: Vec::new(), slots: Vec::new(), glue: String::new() };
        files.choose(kernel, aligned);
        if kernel == Kernel::Attention {
            files.add("common/online_softmax.wgsl", &[]);
            files.add(if carry { "carry/work.wgsl" } else { "carry/none.wgsl" }, &[]);
        }
        files.add(if rolled_loops { "loops/rolled.wgsl" } else { "loops/constant.wgsl" }, &[]);
        files.slots.sort();
        files.slots.dedup();
        files
    }

    fn add(&mut self, file: &'static str, slots: &[Slot]) {
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        self.slots.extend(slots);
    }

    fn choose(&mut self, kernel: Kernel, aligned: bool) {
        match kernel {
            Kernel::Attention => {
                self.add("kernel/attention.wgsl", &[Slot::Work]);
                self.scores(aligned);
                self.add(if aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
                self.out(aligned);
            }
            Kernel::Scores => {
                self.add("kernel/scores.wgsl", &[Slot::Out]);
                self.scores(aligned);
            }
            Kernel::RotateQ { in_place } => {
                self.add("kernel/rotate.wgsl", &[]);
                self.add("token/query.wgsl", &[]);
                self.q_position();
                self.rotate_source(aligned, in_place);
            }
            // has a list of its own: see `Plan::embed`
            Kernel::Embed { .. } => return,
            Kernel::RotateK { in_place } => {
                self.add("kernel/rotate.wgsl", &[]);
                self.add("token/key.wgsl", &[]);
                self.k_position();
                self.kv_length();
                self.rotate_source(aligned, in_place);
            }
        }
        self.add("common/params.wgsl", &[Slot::Params, Slot::Chunk, Slot::Step]);
        self.storage();
    }

    /// What `scores` and `attention` share.
    fn scores(&mut self, aligned: bool) {
        self.add("common/k_tile.wgsl", &[]);
        self.add("common/score_at.wgsl", &[]);
        self.add("cache/contiguous.wgsl", &[]);
        self.add(if aligned { "tensor/q_aligned.wgsl" } else { "tensor/q_unaligned.wgsl" }, &[Slot::Q]);
        self.add(if aligned { "tensor/k_aligned.wgsl" } else { "tensor/k_unaligned.wgsl" }, &[Slot::K]);
        self.rotation();
        self.q_position();
        self.k_position();
        self.kv_length();
        self.add(if self.spec.logits_soft_cap.is_some() { "cap/tanh.wgsl" } else { "cap/none.wgsl" }, &[]);
        self.terms();
        self.mask();
    }

    fn rotate_source(&mut self, aligned: bool, in_place: bool) {
        let narrow = self.spec.dtype != Dtype::F32;
        let (file, slots): (_, &[Slot]) = match (in_place, aligned, narrow) {
            (false, true, _) => ("tensor/q_aligned.wgsl", &[Slot::Q]),
            (false, false, _) => ("tensor/q_unaligned.wgsl", &[Slot::Q]),
            (true, true, _) => ("tensor/q_in_place_aligned.wgsl", &[]),
            (true, false, false) => ("tensor/q_in_place_f32_unaligned.wgsl", &[]),
            (true, false, true) => ("tensor/q_in_place_16_unaligned.wgsl", &[]),
        };
        self.add(file, slots);
        self.out(aligned);
        self.rotation();
    }

    fn out(&mut self, aligned: bool) {
        let file = match (aligned, self.spec.dtype) {
            (true, _) => "tensor/out_aligned.wgsl",
            (false, Dtype::F32) => "tensor/out_f32_unaligned.wgsl",
            (false, Dtype::F16 | Dtype::Bf16) => "tensor/out_16_unaligned.wgsl",
        };
        self.add(file, &[Slot::Out]);
    }

    fn storage(&mut self) {
        let file = match self.spec.dtype {
            Dtype::F32 => "storage/f32.wgsl",
            Dtype::F16 => "storage/f16.wgsl",
            Dtype::Bf16 => "storage/bf16.wgsl",
        };
        self.add(file, &[]);
    }

    fn rotation(&mut self) {
        self.add("common/row.wgsl", &[]);
        let Some(rotary) = &self.spec.rotary else {
            return self.add("rotary/none.wgsl", &[]);
        };
        let (pairing, angle) = (rotary.pairing, rotary.angle);
        match pairing {
            Pairing::Half => self.add("rotary/half.wgsl", &[]),
            Pairing::Interleaved => self.add("rotary/interleaved.wgsl", &[]),
            Pairing::InterleavedInHalfOut => self.add("rotary/interleaved_in_half_out.wgsl", &[]),
        }
        match angle {
            Angle::Exact => self.add("angle/exact.wgsl", &[Slot::Rotary]),
            Angle::Float32 => self.add("angle/float32.wgsl", &[Slot::Rotary]),
            Angle::Table => return self.add("angle/table.wgsl", &[Slot::Rotary, Slot::Tables]),
        }
        self.add("angle/sincos.wgsl", &[]);
    }

    fn kv_length(&mut self) {
        self.add(if self.spec.kv_lens { "length/per_sequence.wgsl" } else { "length/shared.wgsl" }, &[]);
    }
    fn q_position(&mut self) {
        match self.spec.positions {
            Positions::Index => {
                self.alignment();
                self.add("position/index_q.wgsl", &[]);
            }
            Positions::Ids => self.add("position/ids_q.wgsl", &[]),
        }
    }
    fn alignment(&mut self) {
        match self.spec.mask.alignment {
            Alignment::BottomRight => {
                self.kv_length();
                self.add("align/bottom_right.wgsl", &[]);
            }
            Alignment::TopLeft => self.add("align/top_left.wgsl", &[]),
        }
    }
    fn k_position(&mut self) {
        match self.spec.positions {
            Positions::Index => self.add("position/index_k.wgsl", &[]),
            Positions::Ids => self.add("position/ids_k.wgsl", &[]),
        }
    }

    /// `score_terms` is the sum of the chosen terms.
    fn terms(&mut self) {
        let mut calls = Vec::new();
        let mut first = 0u64;
        for bias in &self.spec.bias {
            let rows = table_rows(bias);
            match bias {
                Bias::Table { .. } | Bias::T5 { .. } => {
                    let (min, max) = bias::distances(bias);
                    self.add("term/table.wgsl", &[Slot::Tables]);
                    self.add("term/distance.wgsl", &[]);
                    calls.push(format!("term_table(at, {first}u, {}, {})", wgsl_i32(min), wgsl_i32(max)));
                    first += rows * self.spec.num_heads as u64;
                }
                Bias::Alibi { form, .. } => {
                    let (file, call) = match form {
                        AlibiForm::Relative => ("term/alibi_relative.wgsl", "term_alibi_relative(at)"),
                        AlibiForm::Symmetric => ("term/alibi_symmetric.wgsl", "term_alibi_symmetric(at)"),
                        AlibiForm::KeyPosition => ("term/alibi_key_position.wgsl", "term_alibi_key_position(at)"),
                        AlibiForm::KeyFromEnd => ("term/alibi_key_from_end.wgsl", "term_alibi_key_from_end(at)"),
                    };
                    self.add(file, &[Slot::Heads]);
                    if matches!(form, AlibiForm::Relative | AlibiForm::Symmetric) {
                        self.add("term/distance.wgsl", &[]);
                    }
                    calls.push(call.to_string());
                }
            }
        }
        if self.spec.dense_bias {
            self.add("term/dense.wgsl", &[Slot::Dense]);
            calls.push("term_dense(at)".into());
        }
        if calls.is_empty() {
            self.add("term/none.wgsl", &[]);
        } else {
            let _ = writeln!(self.glue, "fn score_terms(at: ScoreAt) -> f32 {{ return {}; }}", calls.join(" + "));
        }
    }

    /// `visible` is the conjunction of the chosen masks, `key_range` the intersection of their ranges.
    fn mask(&mut self) {
        let mask = &self.spec.mask;
        let mut seen = Vec::new();
        let mut ranges = String::new();
        if mask.right().is_some() {
            self.add("mask/right.wgsl", &[]);
            seen.push("right_visible(at)");
            ranges += "    range = right_keys(range, q_index(batch, first), q_index(batch, last));\n";
        }
        if mask.window_left.is_some() {
            self.add("mask/left.wgsl", &[]);
            seen.push("left_visible(at)");
            ranges += "    range = left_keys(range, q_index(batch, first), q_index(batch, last));\n";
        }
        if mask.dense {
            self.add("mask/bits.wgsl", &[]);
            seen.push("bits_visible(at)");
        }
        if self.spec.dense_bias {
            seen.push("dense_visible(at)");
        }
        if seen.is_empty() {
            seen.push("true");
        }
        self.alignment();
        let _ = write!(
            self.glue,
            "fn visible(at: ScoreAt) -> bool {{ return {}; }}\n\
             // The keys that some query row from `first` to `last` may see.\n\
             fn key_range(batch: u32, first: u32, last: u32) -> vec2<u32> {{\n    \
                 var range = vec2<i32>(0, i32(kv_length(batch)));\n{ranges}    \
                 let low = max(range.x, 0);\n    \
                 return vec2<u32>(u32(low), u32(max(range.y, low)));\n\
             }}\n",
            seen.join(" && ")
        );
    }
}

/// An i32 literal; the least one has no literal of its own in WGSL.
pub(crate) fn wgsl_i32(x: i32) -> String {
    if x == i32::MIN { "(-2147483647 - 1)".into() } else { format!("{x}") }
}

/// Constants, bindings and the glue between slots.
pub(crate) fn preamble(kernel: Kernel, spec: &Spec, tile_k: u32, bindings: &[Binding], glue: &str) -> String {
    let out_dim = if kernel.rotates_only() { spec.head_dim } else { spec.v_head_dim };
    let (pairs, offset) = spec.rotary.as_ref().map_or((0, 0), |r| (r.rotary_dim / 2, r.offset));
    // no index exceeds 2^30, so a wider window is open
    let window = |n: Option<u32>| n.unwrap_or(0).min((1 << 30) - 1);
    let mut text = String::from("// Composed by ropewalk. Constants of the spec and the plan:\n");
    for (name, value) in [
        ("HEAD_DIM", spec.head_dim),
        ("HEAD_CHUNKS", spec.head_dim.div_ceil(4)),
        ("HEAD_PADDED", padded(spec.head_dim)),
        ("V_HEAD_DIM", spec.v_head_dim),
        ("V_CHUNKS", spec.v_head_dim.div_ceil(4)),
        ("V_PADDED", padded(spec.v_head_dim)),
        ("OUT_DIM", out_dim),
        ("PAIRS", pairs),
        ("ROTARY_OFFSET", offset),
        ("TILE_Q", TILE_Q),
        ("TILE_K", tile_k),
    ] {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    let _ = writeln!(text, "const WINDOW_LEFT: i32 = {};", window(spec.mask.window_left));
    let _ = writeln!(text, "const WINDOW_RIGHT: i32 = {};", window(spec.mask.right()));
    text.push_str("const SCORE_FLOOR: f32 = -1e30; // scores below this are taken as this\n");
    text.push_str("const LSE_EMPTY: f32 = -3e38;   // lse of a row that sees no key; -inf on the host\n");
    text.push_str("const LOG2_E: f32 = 1.44269504;\n\n");
    for binding in bindings {
        text.push_str(&binding.declaration());
    }
    if !glue.is_empty() {
        text.push('\n');
        text.push_str(glue);
    }
    text
}

/// Spells a plan: kernel, storage, head, terms, tiles.
pub(crate) fn label(kernel: Kernel, spec: &Spec, aligned: bool, tile_k: u32) -> String {
    let mut label = format!("{}.{}.d{}", kernel.name(), spec.dtype.name(), spec.head_dim);
    if spec.v_head_dim != spec.head_dim {
        let _ = write!(label, "v{}", spec.v_head_dim);
    }
    for term in spec.terms() {
        let _ = write!(label, ".{}", term.replace(' ', "-"));
    }
    let _ = write!(label, ".q{TILE_Q}k{tile_k}");
    if !aligned {
        label.push_str(".unaligned");
    }
    label
}
