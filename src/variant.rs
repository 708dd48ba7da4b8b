//! Which files make up a kernel: every variant is one file in one slot, and one `match` chooses it.

use crate::family::{Call, coop, decode, lanes, tile};
use crate::layout::{Binding, MAX_PAIRS, Slot};
use crate::plan::{Kernel, padded, table_rows};
use crate::tables::{TableLayout, bias_name, lookup_name};
use crate::terms::{IndexMap, NormKind, Outside, RelativeSide, Sink};
use crate::tuning::{Family, Tuning};
use crate::{
    AlibiForm, Alignment, Angle, Bias, Decay, Dtype, FeatureMap, KerpleKind, Linear, Pairing, Positions, Rotary, Spec,
    bias, user,
};
use std::fmt::Write;

/// The choice of files: every variant is one file in one slot.
pub(crate) struct Files<'a> {
    spec: &'a Spec,
    tuning: Tuning,
    kernel: Kernel,
    pub(crate) files: Vec<&'static str>,
    pub(crate) slots: Vec<Slot>,
    /// Functions that combine several files of one slot: `score_terms`, `visible`, `key_range`.
    pub(crate) glue: String,
    tables: TableLayout,
    gathered: Vec<bool>,
    /// What narrows the keys that all rows of a tile see.
    full_ranges: String,
    /// Lanes exchange within subgroups.
    subgroups: bool,
    /// Rows of cooperative matrices.
    matrix: u32,
}

impl<'a> Files<'a> {
    pub(crate) fn new(call: &Call<'a>, tuning: &Tuning, carry: bool, gathered: Vec<bool>) -> Self {
        let Call { kernel, spec, .. } = *call;
        let rolled_loops = call.limits.rolled_loops;
        let tables = TableLayout::new(spec);
        let (files, slots, glue) = (Vec::new(), Vec::new(), String::new());
        let mut files = Files {
            spec,
            tuning: *tuning,
            kernel,
            files,
            slots,
            glue,
            tables,
            gathered,
            full_ranges: String::new(),
            subgroups: tile::takes_subgroups(call, tuning),
            matrix: call.limits.cooperative_matrix,
        };
        files.choose(call);
        if kernel == Kernel::Attention && tuning.family == Family::Rows {
            files.add("common/online_softmax.wgsl", &[]);
            files.add(if carry { "families/carry_work.wgsl" } else { "families/carry_none.wgsl" }, &[]);
        }
        files.add(if rolled_loops { "families/loops_rolled.wgsl" } else { "families/loops_constant.wgsl" }, &[]);
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

    fn choose(&mut self, call: &Call) {
        let Call { kernel, spec, shape, limits, aligned, .. } = *call;
        match kernel {
            Kernel::Attention if self.tuning.family == Family::Coop => self.coop(aligned),
            Kernel::Attention if self.tuning.family == Family::Lanes => {
                self.lanes(aligned, lanes::Prepared::of(spec, shape))
            }
            Kernel::Attention if self.tuning.family == Family::Tile => self.tile(aligned),
            Kernel::Attention if self.tuning.family == Family::Decode => self.decode(aligned, decode::by_lanes(limits)),
            Kernel::Attention => {
                self.add("kernel/attention.wgsl", &[Slot::Work]);
                self.scores(aligned);
                self.add(if aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
                self.values();
                self.sink();
                self.out(aligned);
            }
            Kernel::Linear => self.linear(aligned, limits.rolled_loops),
            Kernel::Scores => {
                self.add("kernel/scores.wgsl", &[Slot::Out]);
                self.scores(aligned);
            }
            Kernel::RotateQ { in_place } => {
                self.add("tensor/token_query.wgsl", &[]);
                self.sequence();
                self.q_position();
                self.rotate_source(aligned, in_place);
            }
            // has a list of its own: see `Plan::embed`
            Kernel::Embed { .. } => return,
            Kernel::RotateK { in_place } => {
                self.add("tensor/token_key.wgsl", &[]);
                self.sequence();
                self.k_position();
                self.kv_length();
                self.rotate_source(aligned, in_place);
            }
        }
        self.add("common/params.wgsl", &[Slot::Params, Slot::Chunk, Slot::Step]);
        self.storage();
    }

    /// See family/coop.rs.
    fn coop(&mut self, aligned: bool) {
        self.add("kernel/coop.wgsl", &[Slot::Work]);
        self.add("common/online_softmax.wgsl", &[]);
        self.of_scores(aligned);
        self.add(if aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
        self.sink();
        self.out(aligned);
        self.glue += &coop::products(self.spec, self.matrix);
    }

    /// See family/decode.rs.
    fn decode(&mut self, aligned: bool, by_lanes: bool) {
        self.add(if by_lanes { "kernel/decode_lanes.wgsl" } else { "kernel/decode.wgsl" }, &[Slot::Work]);
        for file in ["prepare/rows.wgsl", "kernel/combine.wgsl", "common/part.wgsl", "common/online_softmax.wgsl"] {
            self.add(file, &[]);
        }
        self.prepared();
        self.of_scores(aligned);
        let turns = decode::turns(self.spec, aligned, by_lanes);
        match (by_lanes, turns) {
            (true, true) => {
                self.add("families/lane_scores_turned.wgsl", &[]);
                self.quads();
            }
            (true, false) => self.add("families/lane_scores_direct.wgsl", &[]),
            (false, _) => {}
        }
        if !turns {
            let prepared = lanes::prepares_keys(self.spec);
            self.add(if prepared { "families/lane_keys_prepared.wgsl" } else { "families/lane_keys_direct.wgsl" }, &[]);
        }
        self.add(if aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
        self.sink();
        self.out(aligned);
        self.full_range();
    }

    /// See family/lanes.rs.
    fn lanes(&mut self, aligned: bool, prepared: lanes::Prepared) {
        self.add("kernel/lanes.wgsl", &[Slot::Work]);
        self.prepared();
        self.add("common/lse.wgsl", &[]);
        let by_heads = prepared.by_heads(self.spec, aligned);
        self.add(if by_heads { "prepare/heads.wgsl" } else { "prepare/rows.wgsl" }, &[]);
        if by_heads {
            self.quads();
        }
        self.add("families/broadcast_subgroup.wgsl", &[]);
        self.add("common/online_softmax.wgsl", &[]);
        self.of_scores(aligned);
        self.add(
            if prepared.keys { "families/lane_keys_prepared.wgsl" } else { "families/lane_keys_direct.wgsl" },
            &[],
        );
        self.add(
            if prepared.values { "families/lane_values_prepared.wgsl" } else { "families/lane_values_direct.wgsl" },
            &[],
        );
        if prepared.values {
            self.add("prepare/values.wgsl", &[]);
        }
        self.add(lanes::finish(self.spec), &[]);
        if matches!(lanes::finish(self.spec), "families/epilogue_cap.wgsl" | "families/epilogue_distance.wgsl") {
            self.add("common/cap4.wgsl", &[]);
        }
        self.add(if aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
        self.sink();
        self.out(aligned);
        self.full_range();
    }

    /// See family/tile.rs.
    fn tile(&mut self, aligned: bool) {
        self.add("kernel/tile.wgsl", &[Slot::Work]);
        self.prepared();
        self.add("common/lse.wgsl", &[]);
        let by_heads = tile::prepares_by_heads(self.spec, aligned);
        self.add(if by_heads { "prepare/heads.wgsl" } else { "prepare/rows.wgsl" }, &[]);
        if by_heads {
            self.quads();
        }
        self.add("common/online_softmax.wgsl", &[]);
        self.of_scores(aligned);
        let (prepared, complete) = (tile::prepares_keys(self.spec), tile::completes_scores(self.spec));
        self.add(if prepared { "families/tile_keys_prepared.wgsl" } else { "families/tile_keys_direct.wgsl" }, &[]);
        self.add(if complete { "families/tile_scores_terms.wgsl" } else { "families/tile_scores_plain.wgsl" }, &[]);
        self.add(if self.subgroups { "families/reduce_subgroup.wgsl" } else { "families/reduce_workgroup.wgsl" }, &[]);
        self.add(if aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
        self.sink();
        self.out(aligned);
        self.full_range();
    }

    /// What an entry point prepares in `work`, for others to read by vectors.
    fn prepared(&mut self) {
        self.add("common/prepared.wgsl", &[]);
        self.glue += "// `work` by vectors; an entry point uses one of the two.\n";
        self.glue += &Slot::Work.binding("f32", 0).declaration().replace("work: array<f32>", "work4: array<vec4<f32>>");
    }

    fn full_range(&mut self) {
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
    fn scores(&mut self, aligned: bool) {
        self.add("common/k_tile.wgsl", &[]);
        self.of_scores(aligned);
    }

    /// What goes into a score, whatever the kernel.
    fn of_scores(&mut self, aligned: bool) {
        self.add("common/nan.wgsl", &[]);
        self.add("common/query.wgsl", &[]);
        self.add("common/score_at.wgsl", &[]);
        self.add("tensor/cache_contiguous.wgsl", &[]);
        self.add(if aligned { "tensor/q_aligned.wgsl" } else { "tensor/q_unaligned.wgsl" }, &[Slot::Q]);
        self.add(if aligned { "tensor/k_aligned.wgsl" } else { "tensor/k_unaligned.wgsl" }, &[Slot::K]);
        self.sequence();
        self.norm();
        self.add(
            if self.spec.keys_rotated() { "equation/keys_rotated.wgsl" } else { "equation/keys_unrotated.wgsl" },
            &[],
        );
        self.content_bias();
        self.scale();
        self.rotation();
        self.q_position();
        self.k_position();
        self.kv_length();
        self.relative();
        self.add(
            if self.spec.logits_soft_cap.is_some() { "equation/cap_tanh.wgsl" } else { "equation/cap_none.wgsl" },
            &[],
        );
        if self.spec.logits_soft_cap.is_some() {
            self.add("common/tanh.wgsl", &[]);
        }
        self.terms();
        self.add(
            if self.spec.score_mod.is_some() { "equation/score_mod_user.wgsl" } else { "equation/score_mod_none.wgsl" },
            &[],
        );
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

    fn linear(&mut self, aligned: bool, rolled_loops: bool) {
        let Some(linear) = &self.spec.linear else { return };
        self.add("kernel/linear.wgsl", &[Slot::Work]);
        self.add("common/nan.wgsl", &[]);
        self.add(if aligned { "tensor/q_aligned.wgsl" } else { "tensor/q_unaligned.wgsl" }, &[Slot::Q]);
        self.add(if aligned { "tensor/k_aligned.wgsl" } else { "tensor/k_unaligned.wgsl" }, &[Slot::K]);
        self.add(if aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
        self.out(aligned);
        self.add("tensor/cache_contiguous.wgsl", &[]);
        self.sequence();
        self.rotation();
        self.q_position();
        self.k_position();
        self.kv_length();
        match self.spec.mask.causal {
            true => {
                self.alignment();
                self.add("linear/time_causal.wgsl", &[]);
            }
            false => self.add("linear/time_bidirectional.wgsl", &[]),
        }
        self.feature_map(linear.features);
        match linear.features {
            // rotates by itself, before its features
            FeatureMap::Softmax { .. } => self.add("linear/turn_before.wgsl", &[]),
            FeatureMap::Identity | FeatureMap::Elu => {
                self.add("linear/feature_rows.wgsl", &[]);
                self.add(
                    if linear.rotate_features { "linear/turn_after.wgsl" } else { "linear/turn_before.wgsl" },
                    &[],
                );
            }
        }
        self.add(
            if linear.normalizer.is_some() { "linear/normalizer_sum.wgsl" } else { "linear/normalizer_none.wgsl" },
            &[],
        );
        match linear.decay {
            None => self.add("linear/decay_none.wgsl", &[]),
            Some(Decay::Retention | Decay::Heads(_)) => self.add("linear/decay_head.wgsl", &[Slot::Heads]),
            Some(Decay::Token) => self.add("linear/decay_token.wgsl", &[Slot::Dense]),
            Some(Decay::Feature) => self.add("linear/decay_feature.wgsl", &[Slot::Dense]),
        }
        self.add(if linear.initial_state { "linear/state_given.wgsl" } else { "linear/state_empty.wgsl" }, &[]);
        let loops =
            if rolled_loops { "families/loops_features_rolled.wgsl" } else { "families/loops_features_constant.wgsl" };
        self.add(loops, &[]);
    }

    fn feature_map(&mut self, features: FeatureMap) {
        if features != FeatureMap::Identity {
            self.add("common/nan.wgsl", &[]);
        }
        match features {
            FeatureMap::Identity => self.add("linear/feature_identity.wgsl", &[]),
            FeatureMap::Elu => self.add("linear/feature_elu.wgsl", &[]),
            FeatureMap::Softmax { .. } => {
                self.add("linear/feature_softmax.wgsl", &[]);
                self.table4();
            }
        }
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
        if self.tuning.family == Family::Turns {
            self.add("kernel/rotate_heads.wgsl", &[]);
            return self.quads();
        }
        self.add("kernel/rotate.wgsl", &[]);
        self.norm();
        self.rotation();
    }

    /// Four pairs at a time.
    fn quads(&mut self) {
        let Some(rotary) = &self.spec.rotary else { return };
        let file = match rotary.pairing {
            Pairing::Half => "prepare/quad_half.wgsl",
            Pairing::HalfOfHalves => "prepare/quad_half_of_halves.wgsl",
            Pairing::Interleaved => "prepare/quad_interleaved.wgsl",
            Pairing::InterleavedInHalfOut => "prepare/quad_interleaved_in_half_out.wgsl",
        };
        self.add(file, &[]);
        self.angles(rotary);
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
            Dtype::F32 => "tensor/storage_f32.wgsl",
            Dtype::F16 => "tensor/storage_f16.wgsl",
            Dtype::Bf16 => "tensor/storage_bf16.wgsl",
        };
        self.add(file, &[]);
    }

    fn rotation(&mut self) {
        self.add("common/row.wgsl", &[]);
        let Some(rotary) = &self.spec.rotary else {
            self.add("tensor/stream_one.wgsl", &[]);
            return self.add("equation/rotary_none.wgsl", &[]);
        };
        match rotary.pairing {
            Pairing::HalfOfHalves => self.add("equation/rotary_half_of_halves.wgsl", &[]),
            Pairing::Half => self.add("equation/rotary_half.wgsl", &[]),
            Pairing::Interleaved => self.add("equation/rotary_interleaved.wgsl", &[]),
            Pairing::InterleavedInHalfOut => self.add("equation/rotary_interleaved_in_half_out.wgsl", &[]),
        }
        self.angles(rotary);
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
        self.spec.rotary.as_ref().is_some_and(|r| r.streams.iter().any(|s| *s > 0))
    }
    fn sequence(&mut self) {
        let file = if self.spec.packed { "tensor/sequence_packed.wgsl" } else { "tensor/sequence_batched.wgsl" };
        self.add(file, &[Slot::Step]);
    }
    fn norm(&mut self) {
        if let Some(features) = self.spec.rotates_features() {
            self.feature_map(features);
            return self.add("equation/norm_features.wgsl", &[]);
        }
        let Some(norm) = self.spec.norm else { return self.add("equation/norm_none.wgsl", &[]) };
        self.add(if norm.after_rotation { "equation/norm_after.wgsl" } else { "equation/norm_before.wgsl" }, &[]);
        self.add("common/norm.wgsl", &[]);
        match norm.kind {
            NormKind::Rms => self.add("equation/norm_rms.wgsl", &[]),
            NormKind::L2 => self.add("equation/norm_l2.wgsl", &[]),
        }
        match norm.weights {
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
        if self.spec.temperature.is_some() {
            self.add("equation/scale_temperature.wgsl", &[]);
            self.add("common/ln.wgsl", &[]);
            factors.push("temperature(position)");
        }
        if self.spec.head_scale {
            self.add("equation/scale_head.wgsl", &[Slot::Tables]);
            factors.push("scale_of_head(head)");
        }
        if factors.is_empty() {
            return self.add("equation/scale_none.wgsl", &[]);
        }
        let product = factors.join(" * ");
        let _ = writeln!(self.glue, "fn query_scale(head: u32, position: i32) -> f32 {{ return {product}; }}");
    }
    fn values(&mut self) {
        self.add(
            if self.spec.rotates_values() { "equation/value_rotated.wgsl" } else { "equation/value_direct.wgsl" },
            &[],
        );
    }
    fn sink(&mut self) {
        match self.spec.sink {
            None => self.add("equation/sink_none.wgsl", &[]),
            Some(Sink::Zero) => self.add("equation/sink_zero.wgsl", &[]),
            Some(Sink::Learned) => self.add("equation/sink_head.wgsl", &[Slot::Tables]),
        }
    }
    /// Rows of `tables`, four elements at a time.
    fn table4(&mut self) {
        let aligned = self.spec.head_dim.is_multiple_of(4) && self.spec.v_head_dim.is_multiple_of(4);
        self.add(if aligned { "common/table4_aligned.wgsl" } else { "common/table4.wgsl" }, &[Slot::Tables]);
    }

    /// An expression for the row that an index map gives at `at`; below 0: none.
    fn index(&mut self, map: &IndexMap) -> String {
        match *map {
            IndexMap::Distance { min, max, outside, stream, reversed } => {
                self.add("equation/index_distance.wgsl", &[]);
                self.add("equation/term_distance.wgsl", &[]);
                let sign = if reversed { "-" } else { "" };
                let distance = match stream {
                    0 => "distance(at)".to_string(),
                    stream => {
                        self.add("equation/index_streams.wgsl", &[Slot::Step]);
                        format!("stream_distance(at, {stream}u)")
                    }
                };
                let of = match outside {
                    Outside::Clip => "index_clipped",
                    Outside::Zero => "index_inside",
                };
                format!("{of}({sign}{distance}, {}, {})", wgsl_i32(min), wgsl_i32(max))
            }
            IndexMap::LogBucket { .. } => {
                let Some(lookup) = map.lookup() else { return String::new() };
                self.add("equation/index_lookup.wgsl", &[Slot::Tables]);
                self.add("equation/term_distance.wgsl", &[]);
                let first = self.tables.start(&lookup_name(map));
                format!("index_lookup(-distance(at), {first}u, {}, {})", lookup.most, wgsl_i32(lookup.far))
            }
            IndexMap::Grid { height, width, class } => {
                self.add("equation/index_grid.wgsl", &[]);
                self.add("equation/index_streams.wgsl", &[Slot::Step]);
                self.add("equation/term_distance.wgsl", &[]);
                let of = if class { "index_grid_class" } else { "index_grid" };
                format!("{of}(at, {height}, {width})")
            }
            IndexMap::Segment => {
                self.add("equation/index_segment.wgsl", &[Slot::Step]);
                "index_segment(at)".to_string()
            }
        }
    }

    /// `relative_terms` is the sum of A and B, `add_value_terms` adds E_V.
    fn relative(&mut self) {
        let (mut loads, mut terms, mut values) = (String::new(), String::new(), String::new());
        let (mut product_loads, mut query_stores, mut key_stores) = (String::new(), String::new(), String::new());
        let (mut query_multiplied, mut key_multiplied) = (String::new(), String::new());
        let (mut query_products, mut key_products) = (0, 0);
        // the query row without a bias, for the products of `main` and for those made beforehand
        let mut plain = [None; 2];
        let mut query_rows = [0; 2];
        for (i, relative) in self.spec.relative.iter().enumerate() {
            let index = self.index(&relative.index);
            let table = format!("TABLE_RELATIVE_{i}");
            let dim = if relative.side == RelativeSide::Value { "V_HEAD_DIM" } else { "HEAD_DIM" };
            let row = match relative.per_head {
                true => format!("{table} + (u32(row_{i}) * params.num_heads + at.head) * {dim}"),
                false => format!("{table} + u32(row_{i}) * {dim}"),
            };
            let scale = wgsl_f32(relative.scale.unwrap_or(self.spec.scale()));
            let gathered = self.gathered.get(i).copied().unwrap_or(false);
            let rows = relative.index.rows();
            let open = format!("    let row_{i} = {index};\n    if (row_{i} >= 0) {{ ");
            match relative.side {
                RelativeSide::Key => {
                    let (group, loads) = match gathered {
                        true => (1, &mut product_loads),
                        false => (0, &mut loads),
                    };
                    let which = match plain[group].filter(|_| !relative.query_bias) {
                        Some(which) => which,
                        None => {
                            let which = query_rows[group];
                            query_rows[group] += 1;
                            let _ = writeln!(loads, "    load_query_row(rows, {which}u, start);");
                            if relative.query_bias {
                                let bias = format!("TABLE_RELATIVE_BIAS_{i} + head * HEAD_DIM");
                                let _ = writeln!(loads, "    add_query_bias(rows, {which}u, {bias});");
                            } else {
                                plain[group] = Some(which);
                            }
                            which
                        }
                    };
                    if gathered {
                        let _ = writeln!(
                            terms,
                            "{open}sum += product((*rows).products + {query_products}u + u32(row_{i})); }}"
                        );
                        let bias = match relative.query_bias {
                            true => format!("TABLE_RELATIVE_BIAS_{i} + head * HEAD_DIM"),
                            false => "NO_BIAS".into(),
                        };
                        let by = multiplier(relative, &table, "head", rows, &scale, &format!("{query_products}u"));
                        let _ = writeln!(query_multiplied, "    multiply_q(m, {by}, {bias});");
                        let _ = write!(
                            query_stores,
                            "    for (var r = 0u; r < {rows}u; r++) {{\n        let at = start + {query_products}u + r;\n        \
                                 work[at] = {scale} * query_dot(rows, {which}u, {});\n    }}\n",
                            row.replace(&format!("u32(row_{i})"), "r").replace("at.head", "head")
                        );
                        query_products += rows;
                    } else {
                        let _ = writeln!(terms, "{open}sum += {scale} * query_dot(rows, {which}u, {row}); }}");
                    }
                }
                RelativeSide::Query => {
                    if gathered {
                        // of every query head that shares the kv head, where heads have tables of their own
                        let heads = if relative.per_head { self.spec.group() as u64 } else { 1 };
                        let of_head = format!("(at.head % params.group % {heads}u) * {rows}u");
                        let _ = writeln!(
                            terms,
                            "{open}sum += product(key_products(at.batch, at.head / params.group, at.j) + \
                             {key_products}u + {of_head} + u32(row_{i})); }}"
                        );
                        let offset = format!("{key_products}u + h * {rows}u");
                        let by = multiplier(relative, &table, "kv_head * params.group + h", rows, &scale, &offset);
                        let _ = writeln!(
                            key_multiplied,
                            "    for (var h = 0u; h < {heads}u; h++) {{ multiply_k(m, {by}); }}"
                        );
                        let _ = write!(
                            key_stores,
                            "    for (var n = 0u; n < {}u; n++) {{\n        let head = kv_head * params.group + n / {rows}u;\n        \
                                 let r = n % {rows}u;\n        \
                                 work[start + {key_products}u + n] = {scale} * query_dot(rows, 0u, {});\n    }}\n",
                            heads * rows,
                            row.replace(&format!("u32(row_{i})"), "r").replace("at.head", "head")
                        );
                        key_products += heads * rows;
                    } else {
                        let _ = writeln!(terms, "{open}sum += {scale} * key_dot(at, {row}); }}");
                    }
                }
                RelativeSide::Value => {
                    let _ = writeln!(values, "{open}add_value_row(o, p, {row}); }}");
                }
            }
        }
        let products = match query_products > 0 {
            true => "    (*rows).products = query_products(at.batch, head / params.group, packed);\n",
            false => "",
        };
        if query_products + key_products > 0 {
            let by_vectors = matches!(self.tuning.family, Family::Lanes | Family::Tile);
            self.add(if by_vectors { "equation/product_vector.wgsl" } else { "equation/product_word.wgsl" }, &[]);
        }
        if terms.is_empty() {
            self.add("equation/relative_none.wgsl", &[]);
        } else {
            self.add("equation/relative_rows.wgsl", &[Slot::Tables]);
            self.table4();
            let _ = write!(
                self.glue,
                "const QUERY_ROWS: u32 = {}u;\n\
                 fn load_query_rows(rows: ptr<function, QueryRows>, start: u32, at: ScoreAt, packed: u32) {{\n    \
                     let head = at.head;\n{loads}{products}}}\n\
                 fn relative_terms(rows: ptr<function, QueryRows>, at: ScoreAt) -> f32 {{\n    \
                     var sum = 0.0;\n{terms}    return sum;\n}}\n",
                query_rows[0].max(query_rows[1]).max(1)
            );
        }
        if query_products + key_products > 0 && self.tuning.family == Family::Lanes && lanes::multiplies(self.spec) {
            self.add("equation/relative_gathered_lanes.wgsl", &[Slot::Work]);
            let _ = write!(
                self.glue,
                "const QUERY_PRODUCTS: u32 = {query_products}u;\nconst KEY_PRODUCTS: u32 = {key_products}u;\n\
                 fn multiply_queries(m: Multiplied, head: u32) {{\n{query_multiplied}}}\n\
                 fn multiply_keys(m: Multiplied, kv_head: u32) {{\n{key_multiplied}}}\n"
            );
        } else if query_products + key_products > 0 {
            self.add("equation/relative_gathered.wgsl", &[Slot::Work]);
            let _ = write!(
                self.glue,
                "const QUERY_PRODUCTS: u32 = {query_products}u;\nconst KEY_PRODUCTS: u32 = {key_products}u;\n\
                 fn load_product_rows(rows: ptr<function, QueryRows>, start: u32, head: u32) {{\n{product_loads}}}\n\
                 fn store_query_products(rows: ptr<function, QueryRows>, head: u32, start: u32) {{\n{query_stores}}}\n\
                 fn store_key_products(rows: ptr<function, QueryRows>, kv_head: u32, start: u32) {{\n{key_stores}}}\n"
            );
        }
        if self.kernel == Kernel::Attention && self.tuning.family == Family::Rows {
            if values.is_empty() {
                self.add("equation/value_term_none.wgsl", &[]);
            } else {
                self.add("equation/value_term_rows.wgsl", &[Slot::Tables]);
                self.table4();
                let _ = write!(
                    self.glue,
                    "fn add_value_terms(o: ptr<function, OutRow>, p: f32, place: ScoreAt) {{\n    \
                         var at = place;\n    at.k_pos = k_position(at.batch, at.j);\n{values}}}\n"
                );
            }
        }
    }

    fn kv_length(&mut self) {
        let file = match (self.spec.packed, self.spec.kv_lens) {
            (true, _) => "tensor/length_packed.wgsl",
            (false, true) => "tensor/length_per_sequence.wgsl",
            (false, false) => "tensor/length_shared.wgsl",
        };
        self.add(file, &[]);
    }
    fn q_position(&mut self) {
        match self.spec.positions {
            Positions::Index => {
                self.alignment();
                self.add("tensor/position_index_q.wgsl", &[]);
            }
            Positions::Ids if self.several_streams() => self.add("tensor/position_ids_q_several.wgsl", &[]),
            Positions::Ids => self.add("tensor/position_ids_q.wgsl", &[]),
        }
    }
    fn alignment(&mut self) {
        match self.spec.mask.alignment {
            Alignment::BottomRight => {
                self.kv_length();
                self.add("tensor/align_bottom_right.wgsl", &[]);
            }
            Alignment::TopLeft => self.add("tensor/align_top_left.wgsl", &[]),
        }
    }
    fn k_position(&mut self) {
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
            let rows = table_rows(bias);
            let first = self.tables.start(&bias_name(i));
            match bias {
                Bias::Table { .. } | Bias::T5 { .. } => {
                    let (min, max) = bias::distances(bias);
                    self.add("equation/term_table.wgsl", &[Slot::Tables]);
                    self.add("equation/term_distance.wgsl", &[]);
                    calls.push(format!("term_table(at, {first}u, {}, {})", wgsl_i32(min), wgsl_i32(max)));
                }
                Bias::Indexed { .. } | Bias::LogCpb { .. } => {
                    let Some(index) = bias.index() else { continue };
                    let row = self.index(&index);
                    self.add("equation/term_indexed.wgsl", &[Slot::Tables]);
                    calls.push(format!("term_indexed(at, {first}u, {rows}u, {row})"));
                }
                Bias::Kerple { kind, .. } => {
                    let (file, name) = match kind {
                        KerpleKind::Log => ("equation/term_kerple_log.wgsl", "kerple_log"),
                        KerpleKind::Power => ("equation/term_kerple_power.wgsl", "kerple_power"),
                    };
                    self.add(file, &[Slot::Tables]);
                    self.add("equation/term_distance.wgsl", &[]);
                    self.add("common/ln.wgsl", &[]);
                    calls.push(format!("term_{name}(at, {first}u)"));
                }
                Bias::Alibi { form, .. } => {
                    let (file, call) = match form {
                        AlibiForm::Relative => ("equation/term_alibi_relative.wgsl", "term_alibi_relative(at)"),
                        AlibiForm::Symmetric => ("equation/term_alibi_symmetric.wgsl", "term_alibi_symmetric(at)"),
                        AlibiForm::KeyPosition => {
                            ("equation/term_alibi_key_position.wgsl", "term_alibi_key_position(at)")
                        }
                        AlibiForm::KeyFromEnd => {
                            ("equation/term_alibi_key_from_end.wgsl", "term_alibi_key_from_end(at)")
                        }
                    };
                    self.add(file, &[Slot::Heads]);
                    if matches!(form, AlibiForm::Relative | AlibiForm::Symmetric) {
                        self.add("equation/term_distance.wgsl", &[]);
                    }
                    calls.push(call.to_string());
                }
            }
        }
        if self.spec.gated_bias {
            self.add("equation/term_gate.wgsl", &[Slot::Dense]);
            calls = vec![format!("gate(at) * ({})", calls.join(" + "))];
        }
        if self.spec.dense_bias {
            self.add("equation/term_dense.wgsl", &[Slot::Dense]);
            calls.push("term_dense(at)".into());
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
        if mask.right().is_some() {
            self.add("equation/mask_right.wgsl", &[]);
            seen.push("right_visible(at)");
            ranges += "    range = right_keys(range, q_index(batch, first), q_index(batch, last));\n";
            full += "    range = right_full(range, q_index(batch, first), q_index(batch, last));\n";
        }
        if mask.window_left.is_some() {
            self.add("equation/mask_left.wgsl", &[]);
            seen.push("left_visible(at)");
            ranges += "    range = left_keys(range, q_index(batch, first), q_index(batch, last));\n";
            full += "    range = left_full(range, q_index(batch, first), q_index(batch, last));\n";
        }
        if mask.chunk.is_some() {
            self.add("equation/mask_chunk.wgsl", &[]);
            seen.push("chunk_visible(at)");
            ranges += "    range = chunk_of_keys(range, q_index(batch, first), q_index(batch, last));\n";
            full += "    range = chunk_full(range, q_index(batch, first), q_index(batch, last));\n";
        }
        if mask.dense {
            self.add("equation/mask_bits.wgsl", &[]);
            seen.push("bits_visible(at)");
            full = "    range.y = 0;                                                 // who knows\n".into();
        }
        if self.spec.dense_bias {
            seen.push("dense_visible(at)");
            full = "    range.y = 0;                                                 // who knows\n".into();
        }
        if self.spec.mask_mod.is_some() {
            self.add("equation/mask_user.wgsl", &[]);
            seen.push("user_visible(at)");
            full = "    range.y = 0;                                                 // who knows\n".into();
        }
        if seen.is_empty() {
            seen.push("true");
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

/// The rows of a relative table as `equation/relative_gathered_lanes.wgsl` takes them.
fn multiplier(relative: &crate::Relative, table: &str, head: &str, rows: u64, scale: &str, offset: &str) -> String {
    let (start, stride) = match relative.per_head {
        true => (format!("{table} + ({head}) * HEAD_DIM"), "params.num_heads * HEAD_DIM"),
        false => (table.to_string(), "HEAD_DIM"),
    };
    format!("Multiplier({start}, {stride}, {rows}u, {scale}, {offset})")
}

/// An f32 literal.
fn wgsl_f32(x: f64) -> String {
    format!("{:e}f", x as f32)
}

/// An i32 literal; the least one has no literal of its own in WGSL.
pub(crate) fn wgsl_i32(x: i32) -> String {
    if x == i32::MIN { "(-2147483647 - 1)".into() } else { format!("{x}") }
}

/// Constants, bindings and the glue between slots.
pub(crate) fn preamble(
    kernel: Kernel,
    spec: &Spec,
    [tile_q, tile_k]: [u32; 2],
    constants: &[(&'static str, u32)],
    bindings: &[Binding],
    glue: &str,
) -> String {
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
        ("PAIR_ENTRIES", MAX_PAIRS as u32),
        ("POSITION_STREAMS", spec.position_streams()),
        ("TILE_Q", tile_q),
        ("TILE_K", tile_k),
    ]
    .iter()
    .chain(constants)
    {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    let _ = writeln!(text, "const WINDOW_LEFT: i32 = {};", window(spec.mask.window_left));
    let _ = writeln!(text, "const WINDOW_RIGHT: i32 = {};", window(spec.mask.right()));
    if let Some(chunk) = spec.mask.chunk {
        let _ = writeln!(text, "const MASK_CHUNK: i32 = {};", chunk.min(1 << 30));
    }
    if let Some(norm) = &spec.norm {
        let _ = writeln!(text, "const NORM_LEAST: f32 = {};", wgsl_f32(norm.least()));
    }
    if let Some(temperature) = &spec.temperature {
        let _ = writeln!(text, "const TEMPERATURE_SCALE: f32 = {};", wgsl_f32(temperature.scale));
        let _ = writeln!(text, "const TEMPERATURE_FLOOR: u32 = {}u;", temperature.floor);
    }
    for (name, start) in TableLayout::new(spec).constants() {
        let _ = writeln!(text, "const {name}: u32 = {start}u;");
    }
    if let Some(linear) = &spec.linear {
        linear_constants(&mut text, spec, linear, tile_k);
    }
    text.push_str("const SCORE_FLOOR: f32 = -1e38; // scores below this are taken as this\n");
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

/// Constants of linear attention.
fn linear_constants(text: &mut String, spec: &Spec, linear: &Linear, tile: u32) {
    let features = spec.features();
    for (name, value) in [
        ("FEATURES", features),
        ("FEATURE_CHUNKS", features.div_ceil(4)),
        ("TILE_T", tile),
        ("V_TILES", crate::linear::v_tiles(spec)),
    ] {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    let normalizer = linear.normalizer.unwrap_or(crate::Normalizer::new(0.0, 0.0));
    let eps = match linear.features {
        FeatureMap::Softmax { eps, .. } => eps,
        FeatureMap::Identity | FeatureMap::Elu => 0.0,
    };
    for (name, value) in [
        ("EPS", normalizer.eps),
        ("EPS_FEATURE", normalizer.eps_feature),
        ("FEATURE_EPS", eps),
        ("FEATURE_SCALE", (spec.head_dim as f64).powf(-0.25)),
        ("FEATURE_RATIO", (features as f64).powf(-0.5)),
    ] {
        let _ = writeln!(text, "const {name}: f32 = {};", wgsl_f32(value));
    }
}

/// Spells a plan: kernel, storage, head, terms, tiles.
pub(crate) fn label(kernel: Kernel, spec: &Spec, aligned: bool, [tile_q, tile_k]: [u32; 2], family: &str) -> String {
    let mut label = format!("{}.{}.d{}", kernel.name(), spec.dtype.name(), spec.head_dim);
    if spec.v_head_dim != spec.head_dim {
        let _ = write!(label, "v{}", spec.v_head_dim);
    }
    for term in spec.terms() {
        let _ = write!(label, ".{}", term.replace(' ', "-"));
    }
    let _ = write!(label, "{family}.q{tile_q}k{tile_k}");
    if !aligned {
        label.push_str(".unaligned");
    }
    label
}
