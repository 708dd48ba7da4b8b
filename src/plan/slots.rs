//! Which files make up a kernel: what varies is a file in a slot, chosen here where kernels share the slot, else beside the family's
//! `lay_out`. Where several files fill a slot (terms, masks, scales) the functions that join them are written here too.

use crate::equation::bias::term::Argument;
use crate::equation::dtype::Dtype;
use crate::equation::factors::{NormKind, Sink, Steps};
use crate::equation::index::{IndexMap, map as index};
use crate::equation::linear::FeatureMap;
use crate::equation::mask::Alignment;
use crate::equation::mask::band::Text;
use crate::equation::rotary::rotary::{Angle, Pairing, Rotary};
use crate::equation::spec::{Positions, Spec};
use crate::equation::user;
use crate::inputs::cache::Cache;
use crate::plan::kernel::Kernel;
use crate::plan::storage::{out_file, storage_of};
use crate::plan::tables::{TableLayout, bias_name};
use crate::plan::tuning::tuning::Tuning;
use crate::shader::compose::{wgsl_f32, wgsl_i32};
use crate::shader::layout::Slot;
use std::fmt::Write;

/// The choice of files: every variant is one file in one slot.
pub(crate) struct ShaderFiles<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) tuning: Tuning,
    pub(crate) kernel: Kernel,
    pub(crate) cache: Cache,
    pub(crate) files: Vec<&'static str>,
    pub(crate) slots: Vec<Slot>,
    /// Functions that combine several files of one slot: `score_terms`, `visible`, `key_range`.
    pub(crate) glue: String,
    pub(crate) tables: TableLayout,
    pub(crate) gathered: Vec<bool>,
    /// What narrows the keys that all rows of a tile see.
    pub(crate) full_ranges: String,
    /// Lanes exchange within subgroups.
    pub(crate) subgroups: bool,
}

impl<'a> ShaderFiles<'a> {
    pub(crate) fn add(&mut self, file: &'static str, slots: &[Slot]) {
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        self.slots.extend(slots);
    }
    /// What an entry point prepares in `work`, for others to read by vectors.
    pub(crate) fn prepared(&mut self) {
        self.add("common/prepared.wgsl", &[]);
        self.tiles(false);
        self.work_by_vectors();
    }
    /// How tiles of rows are numbered: through all packed sequences, if a family can, else by sequences.
    pub(crate) fn tiles(&mut self, through: bool) {
        self.add("common/tile_place.wgsl", &[]);
        self.add(if through { "families/tiles_packed.wgsl" } else { "families/tiles_batched.wgsl" }, &[]);
    }
    pub(crate) fn work_by_vectors(&mut self) {
        self.glue += "// `work` by vectors; an entry point uses one of the two.\n";
        self.glue += &Slot::Work.binding("f32", 0).declaration().replace("work: array<f32>", "work4: array<vec4<f32>>");
    }
    pub(crate) fn full_range(&mut self) {
        let _ = writeln!(
            self.glue,
            "// The keys that all query rows from `first` to `last` see.\n\
             fn full_range(batch: u32, first: u32, last: u32) -> vec2<u32> {{\n    \
                 var range = vec2<i32>(0, i32(kv_length(batch)));\n{}    \
                 let low = max(range.x, 0);\n    \
                 return vec2<u32>(u32(low), u32(max(range.y, low)));\n\
             }}",
            self.full_ranges
        );
    }
    /// What `scores` and `attention` share.
    pub(crate) fn scores(&mut self, aligned: bool) {
        let branches = self.spec.rotary.as_ref().is_some_and(|r| r.branches.is_some());
        self.add(if branches { "common/k_tile_branches.wgsl" } else { "common/k_tile.wgsl" }, &[]);
        self.add("common/score.wgsl", &[]);
        self.of_scores(aligned);
    }
    /// By which positions queries turn.
    fn branches(&mut self) {
        let Some(branches) = self.spec.rotary.as_ref().and_then(|r| r.branches) else {
            return self.add("common/query_near.wgsl", &[]);
        };
        self.add("common/query_branches.wgsl", &[]);
        let (file, constants) = branches.text();
        self.add(file, &[]);
        for (name, value) in constants {
            let _ = writeln!(self.glue, "const {name}: u32 = {value}u;");
        }
    }
    /// What goes into a score, whatever the kernel.
    pub(crate) fn of_scores(&mut self, aligned: bool) {
        self.add("common/nan.wgsl", &[]);
        match self.spec.places_rows() {
            true => {
                self.add("common/query_placed.wgsl", &[]);
                if !self.spec.norm.is_some_and(|n| n.placed()) {
                    self.add("equation/norm_unplaced.wgsl", &[]);
                }
                let scale =
                    if self.spec.query_scales { "equation/scale_row.wgsl" } else { "equation/scale_row_none.wgsl" };
                self.add(scale, &[]);
                if self.spec.query_scales {
                    self.add("equation/row_number.wgsl", &[Slot::Dense]);
                }
                let [gates, scales, sinks] = self.spec.row_planes().map(|p| p as u32);
                let _ = write!(
                    self.glue,
                    "const SCALE_PLANE: u32 = {gates}u;\nconst SINK_PLANE: u32 = {}u;\n",
                    gates + scales
                );
                let (rows, keys) = (gates + scales + sinks, 2 * self.spec.key_bias as u32);
                let _ = write!(self.glue, "const ROW_PLANES: u32 = {rows}u;\nconst KEY_PLANES: u32 = {keys}u;\n");
            }
            false => {
                self.add("common/query.wgsl", &[]);
                self.branches();
            }
        }
        self.add("common/score_at.wgsl", &[]);
        self.cache();
        self.add(if aligned { "tensor/q_aligned.wgsl" } else { "tensor/q_unaligned.wgsl" }, &[Slot::Q]);
        self.keys(aligned);
        self.sequence();
        self.norm();
        let keys = match (self.spec.keys_rotated(), self.spec.norm.is_some_and(|n| n.placed())) {
            (true, _) => "equation/keys_rotated.wgsl",
            (false, false) => "equation/keys_unrotated.wgsl",
            (false, true) => "equation/keys_unrotated_placed.wgsl",
        };
        self.add(keys, &[]);
        self.content_bias();
        self.scale();
        self.rotation();
        self.q_position();
        self.k_position();
        self.kv_length();
        self.relative();
        let cap_last = self.spec.soft_cap_last;
        self.add(
            match self.spec.logits_soft_cap {
                Some(_) if !cap_last => "equation/cap_tanh.wgsl",
                _ => "equation/cap_none.wgsl",
            },
            &[],
        );
        if self.spec.logits_soft_cap.is_some() {
            self.add("common/tanh.wgsl", &[]);
        }
        self.terms();
        let modified = match (self.spec.score_mod.is_some(), cap_last) {
            (false, false) => "equation/score_mod_none.wgsl",
            (true, false) => "equation/score_mod_user.wgsl",
            (false, true) => "equation/score_mod_capped.wgsl",
            (true, true) => "equation/score_mod_capped_user.wgsl",
        };
        self.add(modified, &[]);
        self.user();
        self.mask();
    }
    /// What the user's functions may call.
    fn user(&mut self) {
        if user::texts(self.spec).is_empty() {
            return;
        }
        self.add("equation/user_at.wgsl", &[]);
        if user::mentions(self.spec, "distance") {
            self.add("equation/term_distance.wgsl", &[]);
        }
        if user::mentions(self.spec, "tanh_f32") {
            self.add("common/tanh.wgsl", &[]);
        }
        if user::reads_data(self.spec) {
            self.add("equation/user_data.wgsl", &[Slot::Dense]);
        }
    }
    pub(crate) fn feature_map(&mut self, features: FeatureMap) {
        if features != FeatureMap::Identity {
            self.add("common/nan.wgsl", &[]);
        }
        match features {
            FeatureMap::Identity => self.add("linear/feature_identity.wgsl", &[]),
            FeatureMap::Elu => self.add("linear/feature_elu.wgsl", &[]),
            FeatureMap::Relu => self.add("linear/feature_relu.wgsl", &[]),
            FeatureMap::Softmax { .. } => {
                self.add("linear/feature_softmax.wgsl", &[]);
                self.table4();
            }
        }
    }
    /// Four pairs at a time.
    pub(crate) fn quads(&mut self) {
        let Some(rotary) = &self.spec.rotary else { return };
        let file = match rotary.pairing {
            Pairing::Half => "prepare/quad_half.wgsl",
            Pairing::HalfOfHalves => "prepare/quad_half_of_halves.wgsl",
            Pairing::Interleaved => "prepare/quad_interleaved.wgsl",
            Pairing::InterleavedInHalfOut => "prepare/quad_interleaved_in_half_out.wgsl",
            // never asked for: `stands_in_quads`
            Pairing::Listed => return,
        };
        self.add(file, &[]);
        self.angles(rotary);
    }
    pub(crate) fn out(&mut self, aligned: bool) {
        let shares_words = storage_of(self.spec, self.kernel, Slot::Out).is_some_and(Dtype::shares_words);
        self.add(out_file(aligned, shares_words), &[Slot::Out]);
    }
    pub(crate) fn rotation(&mut self) {
        self.add("common/row.wgsl", &[]);
        let Some(rotary) = &self.spec.rotary else {
            self.add("tensor/stream_one.wgsl", &[]);
            return self.add("equation/rotary_none.wgsl", &[]);
        };
        if rotary.general() {
            return self.listed_rotation(rotary);
        }
        match rotary.pairing {
            Pairing::Listed => {}
            Pairing::HalfOfHalves => self.add("equation/rotary_half_of_halves.wgsl", &[]),
            Pairing::Half => self.add("equation/rotary_half.wgsl", &[]),
            Pairing::Interleaved => self.add("equation/rotary_interleaved.wgsl", &[]),
            Pairing::InterleavedInHalfOut => self.add("equation/rotary_interleaved_in_half_out.wgsl", &[]),
        }
        self.angles(rotary);
    }
    /// Pairs from a table, by one angle each or by sums.
    fn listed_rotation(&mut self, rotary: &Rotary) {
        self.add("equation/rotary_listed.wgsl", &[Slot::Tables]);
        let Some(sums) = rotary.sums() else {
            self.add("equation/turn_pair.wgsl", &[]);
            return self.angles(rotary);
        };
        self.add("equation/turn_sums.wgsl", &[Slot::Tables, Slot::Rotary]);
        self.add("equation/angle_sincos.wgsl", &[]);
        self.add(if self.several_streams() { "tensor/stream_several.wgsl" } else { "tensor/stream_one.wgsl" }, &[]);
        // a dispatch of frequencies of heads has one kv head: see `rows`
        let head = match (rotary.of_heads(), self.kernel) {
            (false, _) => "0u".into(),
            (true, Kernel::RotateQ { .. }) => format!("chunk.kv_head / {}u", self.spec.group()),
            (true, _) => "chunk.kv_head".into(),
        };
        let stream = if self.several_streams() { "position[s]" } else { "position" };
        let _ = write!(
            self.glue,
            "const TURN_ANGLES: u32 = {}u;\nconst TURN_STREAMS: u32 = {}u;\n\
             fn turning_head() -> u32 {{ return {head}; }}\n\
             fn stream_of(position: Position, s: u32) -> i32 {{ return {stream}; }}\n",
            sums.angles(),
            sums.streams
        );
    }
    /// What turns a pair: its position, angle and magnitude.
    fn angles(&mut self, rotary: &Rotary) {
        self.add(if self.several_streams() { "tensor/stream_several.wgsl" } else { "tensor/stream_one.wgsl" }, &[]);
        match rotary.xpos {
            Some(_) => self.add("equation/magnitude_xpos.wgsl", &[]),
            None => self.add("equation/magnitude_none.wgsl", &[]),
        }
        if rotary.xpos.is_some() {
            self.add("equation/angle_sincos.wgsl", &[]); // its `mul_high`
        }
        match rotary.angle {
            Angle::Exact => self.add("equation/angle_exact.wgsl", &[Slot::Rotary]),
            Angle::Float32 => self.add("equation/angle_float32.wgsl", &[Slot::Rotary]),
            Angle::Table => return self.add("equation/angle_table.wgsl", &[Slot::Rotary, Slot::Tables]),
        }
        self.add("equation/angle_sincos.wgsl", &[]);
    }
    /// Whether pairs turn by different positions.
    fn several_streams(&self) -> bool {
        self.spec.rotary.as_ref().is_some_and(|r| r.last_stream() > 0)
    }
    pub(crate) fn sequence(&mut self) {
        let file = if self.spec.packed { "tensor/sequence_packed.wgsl" } else { "tensor/sequence_batched.wgsl" };
        self.add(file, &[Slot::Step]);
    }
    /// R_o, of whole rows of out.
    pub(crate) fn output(&mut self) {
        let Some(rotary) = self.spec.rotary.as_ref().filter(|rotary| rotary.output) else {
            return self.add("equation/output_plain.wgsl", &[]);
        };
        self.add("equation/output_turned.wgsl", &[Slot::Tables]);
        if rotary.sums().is_none() {
            self.add("equation/turn_pair.wgsl", &[]);
        }
    }
    pub(crate) fn norm(&mut self) {
        if let Some(features) = self.spec.rotates_features() {
            self.feature_map(features);
            return self.add("equation/norm_features.wgsl", &[]);
        }
        let Some(norm) = self.spec.norm else { return self.add("equation/norm_none.wgsl", &[]) };
        self.add(if norm.after_rotation { "equation/norm_after.wgsl" } else { "equation/norm_before.wgsl" }, &[]);
        self.add("common/norm.wgsl", &[]);
        if norm.placed() {
            self.add("equation/norm_placed.wgsl", &[]);
        }
        match norm.kind {
            _ if norm.all_heads => {
                self.add("equation/norm_all_heads.wgsl", &[]);
                let rotates = self.kernel.rotates_only();
                self.add(
                    if rotates { "equation/norm_heads_rotate.wgsl" } else { "equation/norm_heads_scores.wgsl" },
                    &[],
                );
                let centred = norm.kind == NormKind::Layer;
                let mean = if centred { "equation/mean_all_heads.wgsl" } else { "equation/mean_none.wgsl" };
                self.add(mean, &[]);
            }
            NormKind::Rms => self.add("equation/norm_rms.wgsl", &[]),
            NormKind::L2 => self.add("equation/norm_l2.wgsl", &[]),
            NormKind::Layer => self.add("equation/norm_layer.wgsl", &[]),
        }
        match norm.weights {
            true if norm.placed() => {
                self.add("equation/norm_weighted_heads.wgsl", &[Slot::Tables]);
                self.table4();
            }
            true => {
                self.add("equation/norm_weighted.wgsl", &[Slot::Tables]);
                self.table4();
            }
            false => self.add("equation/norm_unweighted.wgsl", &[]),
        }
    }
    fn content_bias(&mut self) {
        match self.spec.content_bias {
            true => {
                self.add("equation/content_bias.wgsl", &[Slot::Tables]);
                self.table4();
            }
            false => self.add("equation/content_none.wgsl", &[]),
        }
    }
    fn scale(&mut self) {
        let mut factors = Vec::new();
        if let Some(temperature) = &self.spec.temperature {
            let file = match temperature.steps {
                Steps::Floor => "equation/scale_temperature.wgsl",
                Steps::None { .. } => "equation/scale_temperature_smooth.wgsl",
            };
            self.add(file, if temperature.per_head { &[Slot::Tables] } else { &[] });
            self.add("common/ln.wgsl", &[]);
            let of = |name: &str| match temperature.per_head {
                true => format!("TEMPERATURE_{name} * tables[TABLE_TEMPERATURE_{name} + head]"),
                false => format!("TEMPERATURE_{name}"),
            };
            factors.push(format!("({} + {} * temperature_log(position))", of("BASE"), of("SCALE")));
        }
        if self.spec.head_scale {
            self.add("equation/scale_head.wgsl", &[Slot::Tables]);
            factors.push("scale_of_head(head)".into());
        }
        if factors.is_empty() {
            return self.add("equation/scale_none.wgsl", &[]);
        }
        let product = factors.join(" * ");
        let _ = writeln!(self.glue, "fn query_scale(head: u32, position: i32) -> f32 {{ return {product}; }}");
    }
    pub(crate) fn values(&mut self) {
        self.add(
            if self.spec.rotates_values() { "equation/value_rotated.wgsl" } else { "equation/value_direct.wgsl" },
            &[],
        );
    }
    pub(crate) fn sink(&mut self) {
        match self.spec.sink {
            None => self.add("equation/sink_none.wgsl", &[]),
            Some(Sink::Zero) => self.add("equation/sink_zero.wgsl", &[]),
            Some(Sink::Learned) => self.add("equation/sink_head.wgsl", &[Slot::Tables]),
            Some(Sink::Query) => {
                self.add("equation/sink_query.wgsl", &[]);
                self.add("equation/row_number.wgsl", &[Slot::Dense]);
            }
        }
    }
    /// Rows of `tables`, four elements at a time.
    pub(crate) fn table4(&mut self) {
        let aligned = self.spec.head_dim.is_multiple_of(4) && self.spec.v_head_dim.is_multiple_of(4);
        self.add(if aligned { "common/table4_aligned.wgsl" } else { "common/table4.wgsl" }, &[Slot::Tables]);
    }
    /// An expression for the row that an index map gives at `at`; below 0: none.
    pub(crate) fn index(&mut self, map: &IndexMap) -> String {
        let (lookup, expression) = (map.lookup(), map.expression());
        let slots: &[Slot] = match (lookup.is_some(), map.last_stream() > 0 || map.segments()) {
            (true, true) => &[Slot::Tables, Slot::Step],
            (true, false) => &[Slot::Tables],
            (false, true) => &[Slot::Step],
            (false, false) => &[],
        };
        expression.files.iter().for_each(|file| self.add(file, slots));
        let first = lookup.map_or(0, |lookup| self.tables.start(&lookup.name));
        let argument = |argument: &index::Argument| match argument {
            index::Argument::Text(text) => text.clone(),
            index::Argument::Int(n) => wgsl_i32(*n),
            index::Argument::Rows => format!("{first}u"),
        };
        let arguments: Vec<String> = expression.arguments.iter().map(argument).collect();
        format!("{}({})", expression.function, arguments.join(", "))
    }
    /// Where rows of k and v stand.
    pub(crate) fn cache(&mut self) {
        let rows = match self.cache {
            Cache::Contiguous => return self.add("tensor/cache_contiguous.wgsl", &[]),
            Cache::Slots { .. } => "tensor/cache_slots.wgsl",
            Cache::Pages { page_size, .. } => {
                let _ = writeln!(self.glue, "const PAGE_SIZE: u32 = {page_size}u;");
                "tensor/cache_pages.wgsl"
            }
        };
        self.add("tensor/cache_pool.wgsl", &[]);
        self.add(rows, &[Slot::Step]);
    }
    pub(crate) fn kv_length(&mut self) {
        let file = match (self.spec.packed, self.spec.kv_lens) {
            (true, _) => "tensor/length_packed.wgsl",
            (false, true) => "tensor/length_per_sequence.wgsl",
            (false, false) => "tensor/length_shared.wgsl",
        };
        self.add(file, &[]);
    }
    pub(crate) fn q_position(&mut self) {
        match self.spec.positions {
            Positions::Index => {
                self.alignment();
                self.add("tensor/position_index_q.wgsl", &[]);
            }
            Positions::Ids if self.several_streams() => self.add("tensor/position_ids_q_several.wgsl", &[]),
            Positions::Ids => self.add("tensor/position_ids_q.wgsl", &[]),
        }
    }
    pub(crate) fn alignment(&mut self) {
        match self.spec.mask.alignment {
            Alignment::BottomRight => {
                self.kv_length();
                self.add("tensor/align_bottom_right.wgsl", &[]);
            }
            Alignment::TopLeft => self.add("tensor/align_top_left.wgsl", &[]),
        }
    }
    pub(crate) fn k_position(&mut self) {
        match self.spec.positions {
            Positions::Index => self.add("tensor/position_index_k.wgsl", &[]),
            Positions::Ids if self.several_streams() => self.add("tensor/position_ids_k_several.wgsl", &[]),
            Positions::Ids => self.add("tensor/position_ids_k.wgsl", &[]),
        }
    }
    /// `score_terms` is the sum of the chosen terms.
    fn terms(&mut self) {
        let mut calls = Vec::new();
        for (i, bias) in self.spec.bias.iter().enumerate() {
            let (term, first) = (bias.term(), self.tables.start(&bias_name(i)));
            let row = term.index().map(|map| self.index(&map)).unwrap_or_default();
            let call = term.kernel();
            let slots: &[Slot] = match (term.table_rows() > 0, term.reads_heads()) {
                (true, true) => &[Slot::Tables, Slot::Heads],
                (true, false) => &[Slot::Tables],
                (false, true) => &[Slot::Heads],
                (false, false) => &[],
            };
            call.files.iter().for_each(|file| self.add(file, slots));
            let argument = |argument: &Argument| match *argument {
                Argument::First => format!("{first}u"),
                Argument::Rows => format!("{}u", term.table_rows()),
                Argument::Row => row.clone(),
                Argument::Int(n) => wgsl_i32(n),
                Argument::Float(x) => wgsl_f32(x),
            };
            let arguments: Vec<String> = ["at".into()].into_iter().chain(call.arguments.iter().map(argument)).collect();
            calls.push(format!("{}({})", call.function, arguments.join(", ")));
        }
        if self.spec.gated_bias {
            self.add("equation/term_gate.wgsl", &[Slot::Dense]);
            calls = vec![format!("gate(at) * ({})", calls.join(" + "))];
        }
        if self.spec.dense_bias {
            self.add("equation/term_dense.wgsl", &[Slot::Dense]);
            calls.push("term_dense(at)".into());
        }
        if self.spec.key_bias {
            self.add("equation/term_key_bias.wgsl", &[Slot::Dense]);
            calls.push("term_key_bias(at)".into());
        }
        if calls.is_empty() {
            self.add("equation/term_none.wgsl", &[]);
        } else {
            let _ = writeln!(self.glue, "fn score_terms(at: ScoreAt) -> f32 {{ return {}; }}", calls.join(" + "));
        }
    }
    /// `visible` is the conjunction of the chosen masks, `key_range` the intersection of their ranges.
    fn mask(&mut self) {
        let mask = &self.spec.mask;
        let mut seen = Vec::new();
        let (mut ranges, mut full) = (String::new(), String::new());
        for band in mask.bands() {
            let Text { file, name, .. } = band.text();
            self.add(file, &[]);
            seen.push(format!("{name}_visible(at)"));
            let rows = "range, q_index(batch, first), q_index(batch, last)";
            let _ = writeln!(ranges, "    range = {name}_keys({rows});");
            let _ = writeln!(full, "    range = {name}_full({rows});");
        }
        if mask.dense {
            self.add("equation/mask_bits.wgsl", &[]);
            seen.push("bits_visible(at)".into());
            full = "    range.y = 0;                                                 // who knows\n".into();
        }
        if self.spec.dense_bias {
            seen.push("dense_visible(at)".into());
            full = "    range.y = 0;                                                 // who knows\n".into();
        }
        if self.spec.mask_mod.is_some() {
            self.add("equation/mask_user.wgsl", &[]);
            seen.push("user_visible(at)".into());
            full = "    range.y = 0;                                                 // who knows\n".into();
        }
        if seen.is_empty() {
            seen.push("true".into());
        }
        self.alignment();
        self.full_ranges = full;
        let _ = write!(
            self.glue,
            "fn visible(at: ScoreAt) -> bool {{ return {}; }}\n\
             // The keys that some query row from `first` to `last` may see.\n\
             fn key_range(batch: u32, first: u32, last: u32) -> vec2<u32> {{\n    \
                 var range = vec2<i32>(0, i32(kv_length(batch)));\n{ranges}    \
                 let low = clamp(range.x, 0, i32(kv_length(batch)));\n    \
                 return vec2<u32>(u32(low), u32(max(range.y, low)));\n\
             }}\n",
            seen.join(" && ")
        );
    }
}
