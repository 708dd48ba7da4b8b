//! Four rows a lane, keys out of the neighbours' registers: `shaders/kernel/lanes.wgsl`. For devices whose invocations are the lanes
//! of a vector register, software adapters with subgroups of 8 or more.

use crate::equation::bias::Bias;
use crate::equation::relative::RelativeSide;
use crate::equation::spec::{Positions, Spec};
use crate::error::Result;
use crate::plan::budget::{LANES_BYTES, LANES_FLOP_PER_DISPATCH, SCRATCH};
use crate::plan::call::Call;
use crate::plan::family::prepare;
use crate::plan::family::prepare::{ACROSS, Prepared, UNIT_LANES, workgroups_of_units};
use crate::plan::grid::{self, ChunkDispatch, Cut, LaidOut, flop_per_score, lse_words};
use crate::plan::kernel::Kernel;
use crate::plan::products::Products;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::shader::layout::Slot;

impl<'a> ShaderFiles<'a> {
    /// See family/lanes.rs.
    pub(crate) fn lanes(&mut self, aligned: bool, prepared: prepare::Prepared) {
        self.add("kernel/lanes.wgsl", &[Slot::Work]);
        self.prepared();
        self.add("common/lse.wgsl", &[]);
        self.add("common/lse_words.wgsl", &[]);
        let by_heads = prepared.by_heads(self.spec, aligned);
        self.prepares_rows(by_heads);
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
        self.add(self::epilogue(self.spec), &[]);
        if matches!(self::epilogue(self.spec), "families/epilogue_cap.wgsl" | "families/epilogue_distance.wgsl") {
            self.add("common/cap4.wgsl", &[]);
        }
        self.value_rows(aligned);
        self.sink();
        self.out(aligned);
        self.full_range();
    }
}

/// Keys of a tile: 32 columns of four rows are what a lane keeps in registers.
const TILE_K: u32 = 32;

/// Whether products of A and B are made out of the neighbours' registers: all rows of a workgroup read the same table.
pub(crate) fn multiplies(spec: &Spec) -> bool {
    spec.relative.iter().all(|r| r.side != RelativeSide::Key || !(r.per_head || r.query_bias) || spec.group() == 1)
}

/// What turns products into scores, a file of `families/epilogue_*`.
pub(crate) fn epilogue(spec: &Spec) -> &'static str {
    let relative = spec.relative.iter().any(|r| r.side != RelativeSide::Value);
    let by_distance = |bias: &Bias| bias.term().is_of_distance();
    let terms = relative || spec.dense_bias || !spec.bias.is_empty() || spec.score_mod.is_some();
    match (terms, spec.logits_soft_cap.is_some()) {
        (false, false) => "families/epilogue_none.wgsl",
        (false, true) => "families/epilogue_cap.wgsl",
        (true, _) => {
            let in_line = spec.group() == 1 && spec.positions == Positions::Index;
            let plain = !relative && !spec.dense_bias && !spec.gated_bias && spec.score_mod.is_none();
            let distances = plain && spec.bias.iter().all(by_distance);
            if in_line && distances { "families/epilogue_distance.wgsl" } else { "families/epilogue_scores.wgsl" }
        }
    }
}

/// Bytes of workgroup memory: o, and the terms of a tile.
fn shared_bytes(spec: &Spec, lanes: u32) -> u32 {
    let terms = match epilogue(spec) {
        "families/epilogue_distance.wgsl" => TILE_K + 3,
        _ => 0,
    };
    4 * lanes * (16 * spec.v_head_dim.div_ceil(4) + terms)
}

/// Rounds of all loops of an invocation of `main`, from above.
fn rounds(call: &Call, tile_q: u32) -> u64 {
    let Call { spec, shape, of_score, .. } = *call;
    let (q, v) = (spec.head_dim.div_ceil(4) as u64, spec.v_head_dim.div_ceil(4) as u64);
    let tiles = shape.kv_len.div_ceil(TILE_K) as u64 + 1;
    let terms = match epilogue(spec) {
        "families/epilogue_scores.wgsl" => TILE_K as u64 + 8,
        "families/epilogue_distance.wgsl" => TILE_K as u64 + 3,
        _ => 0,
    };
    let of_scores = of_score.rounds as u64 * 4 * TILE_K as u64;
    // tiles in which some row does not see some key: at both ends of what a band of rows sees, or anywhere
    let jumps = spec.mask.bands().any(|band| band.jumps());
    let anywhere = spec.mask.dense || spec.dense_bias || spec.mask_mod.is_some() || jumps;
    let mixed = if anywhere { tiles } else { tiles.min(2 * (tile_q as u64 / TILE_K as u64 + 3)) };
    tiles * (q + v + terms + 1 + 2 * of_scores) + mixed * (TILE_K as u64 * (5 + 5 * v) + 4) + 5 * v + 4
}

pub(crate) fn candidates(call: &Call) -> Vec<Tuning> {
    let Call { kernel, spec, shape, limits, .. } = *call;
    let lanes = limits.subgroup_size;
    if kernel != Kernel::Attention || !limits.cpu || !(8..=64).contains(&lanes) {
        return Vec::new();
    }
    let products = Products::new(kernel, spec, shape, limits, 4 * lanes);
    let least = scratch_words(call, &products, 4 * lanes as u64, [1; 3]).iter().sum::<u64>();
    let gathered =
        |(r, gathered): (&crate::equation::relative::Relative, &bool)| r.side != RelativeSide::Value && *gathered;
    let suits = limits.max_invocations >= UNIT_LANES.max(4 * lanes)
        && !spec.packed
        && !spec.rotates_values()
        && spec.relative.iter().zip(&products.gathered).all(gathered)
        && shared_bytes(spec, lanes) <= limits.max_workgroup_storage
        && rounds(call, 4 * lanes) <= limits.max_loop_rounds as u64
        && 4 * (least + lse_words(spec, shape)) + 128 <= limits.max_binding_size;
    let tuning = Tuning { tile_q: 4 * lanes, tile_k: TILE_K, ..Tuning::of(Family::Lanes) };
    if suits { vec![tuning] } else { Vec::new() }
}

/// Words of scratch that a part of the grid takes.
fn scratch_words(call: &Call, products: &Products, tile_q: u64, [x, y, z]: [u64; 3]) -> [u64; SCRATCH] {
    let Call { spec, shape, .. } = *call;
    let kv_len = shape.kv_len as u64;
    let [query, key] = products.words([x, y, z], kv_len);
    let rows = x * y * z * tile_q;
    let prepared = Prepared::of(spec, shape);
    let keys = y * z * kv_len.next_multiple_of(prepared.together() as u64) * prepared.words(spec)[0] as u64;
    [query, key, rows * 4 * spec.head_dim.div_ceil(4) as u64, keys, rows]
}

pub(crate) fn lay_out(call: &Call, tuning: &Tuning) -> Result<LaidOut> {
    let Call { kernel, spec, shape, limits, of_score, .. } = *call;
    let tile_q = tuning.tile_q as u64;
    let products = Products::new(kernel, spec, shape, limits, tuning.tile_q);
    let rows = shape.q_len as u64 * spec.group() as u64;
    let prepared = Prepared::of(spec, shape);
    let whole = [rows.div_ceil(tile_q), spec.num_kv_heads as u64, shape.batch as u64];
    let words = |part: [u64; 3]| scratch_words(call, &products, tile_q, part);
    let bytes = |part: [u64; 3]| 4 * words(part).iter().sum::<u64>();
    let scratch = LANES_BYTES.min(limits.max_binding_size / 2);
    let flop = shape.kv_len as f64 * tile_q as f64 * flop_per_score(spec, of_score);
    let most = limits.max_flop_per_dispatch.max(LANES_FLOP_PER_DISPATCH);
    // whole heads first: they share nothing, and both halves of a causal triangle come along
    let part = grid::largest_part(whole, most / flop, limits, |part| bytes(part) <= scratch);
    let by_heads = prepared.by_heads(spec, call.aligned);
    let (quads, units) =
        spec.rotary.as_ref().map_or((0, 0), |r| (r.rotary_dim / 8, spec.head_dim / 4 - r.rotary_dim / 8));
    let mut chunks = Vec::new();
    for Cut { first, workgroups: [xn, yn, zn] } in grid::cuts(whole, part, 4)? {
        let mut add = |entry: &'static str, tiles: u64, heads: u32| {
            let (keys, workgroups) = ([0, shape.kv_len], [tiles as u32, heads, zn]);
            chunks.push(ChunkDispatch { first, keys, workgroups, entry, tiles: xn, heads: yn });
        };
        // rows a lane each; or units of tokens, which walk over the heads
        let in_units = |tokens: u64| workgroups_of_units(tokens, units, ACROSS, UNIT_LANES);
        let of_keys = (shape.kv_len as u64).div_ceil(tile_q);
        if prepared.keys && first[0] == 0 {
            match by_heads {
                true => add("prepare_k", in_units(shape.kv_len as u64), 1),
                false => add("prepare_k", of_keys, yn),
            }
        }
        if prepared.values && first[0] == 0 {
            let of_values = workgroups_of_units(shape.kv_len as u64, spec.v_head_dim.div_ceil(4), ACROSS, UNIT_LANES);
            add("prepare_v", of_values, 1);
        }
        if products.key > 0 && first[0] == 0 {
            add("relative_keys", of_keys, yn);
        }
        if products.query > 0 {
            add("relative_queries", xn as u64, yn);
        }
        match by_heads {
            true => add("prepare_q", in_units((xn as u64 * tile_q).div_ceil(spec.group() as u64) + 1), 1),
            false => add("prepare_q", xn as u64, yn),
        }
        add("main", xn as u64, yn);
        add("store_lse", xn as u64, yn);
    }
    let of_units = by_heads.then_some([("UNITS", units), ("QUADS", quads)]);
    let label = match (prepared.keys, prepared.values) {
        (true, true) => ".lanes.keys-values-first",
        (true, false) => ".lanes.keys-first",
        (false, true) => ".lanes.values-first",
        (false, false) => ".lanes",
    };
    let constants = [("LANES", tuning.tile_q / 4), ("ACROSS", ACROSS), ("UNIT_LANES", UNIT_LANES)];
    let words = words(part);
    Ok(LaidOut {
        chunks,
        products,
        tile: [tuning.tile_q, TILE_K],
        constants: constants
            .into_iter()
            .chain(prepared.constants(spec))
            .chain(of_units.into_iter().flatten())
            .collect(),
        scratch: words,
        label: label.into(),
        ..LaidOut::default()
    })
}
