//! Attention as two matrix products in register tiles: prefill on GPUs. The floor needs 16 KiB of workgroup memory and no feature.
//!
//! A workgroup takes `tile_q` rows and `tile_k` keys at a time, a lane 8 x 4 of their scores, so `tile_q / 8 * tile_k / 4` lanes.
//! Queries and keys are rotated by dispatches of their own (`prepare_q`, `prepare_k`; keys that need it), into f32 rows in `work`.
//! Workgroup memory, bytes (see `shaders/kernel/tile.wgsl`), with slices of n = 4 chunks of 4 elements, or 8 where they fit:
//!
//! | tile | lanes | P | rows | slices of q and k: 16 (tile_k (n + 1) + n tile_q) | in all, n = 4, 8 | o of a lane: 64, 128, 256 |
//! |---|---|---|---|---|---|---|
//! | 32 x 64 | 64 | 8 192 | 544 | 7 168, 13 312 | 15 904, 22 048 | 32, 64, 128 |
//! | 64 x 32 | 64 | 8 192 | 1 056 | 6 656, 12 800 | 15 904, 22 048 | 64, 128, - |
//! | 64 x 64 | 128 | 16 384 | 1 056 | 9 216, 17 408 | 26 656, 34 848 | 32, 64, 128 |
//! | 128 x 32 | 128 | 16 384 | 2 080 | 10 752, 20 992 | 29 216, 39 456 | 64, 128, - |
//! | 32 x 128 | 128 | 16 384 | 544 | 12 288, 22 528 | 29 216, 39 456 | 16, 32, 64 |
//! | 128 x 64 | 256 | 32 768 | 2 080 | 13 312, - | 48 160, - | 32, 64, 128 |
//!
//! Row maxima go through workgroup memory (`families/reduce_workgroup.wgsl`: two barriers and 2 tile_k / 4 loads a tile, 2 % of its instructions at
//! head_dim 128), or through subgroups where the device has but one size of them (`families/reduce_subgroup.wgsl`).
//!
//! Everything staged is f32, for 16-bit storage too: weights and rotated keys rounded to f16 err by 2^-11, thousands of times what the
//! bounds allow, and values as stored would be exact but take two conversions for 16 multiply-adds.
//!
//! V takes the same slices, as many values as they hold. A lane has besides o 64 registers of S (a sum and its fold), 20 of q and k, some 30
//! more: with 64 of o below 192, so that a multiprocessor of 65 536 registers holds 320 lanes or more; with 128 of o the compiler is at its
//! limit of 255, hence the order of [`candidates`]. All of this is reckoned, not measured.
//!
//! - H200 (132 multiprocessors; 48 KiB for a workgroup, 228 KiB in all): 64 x 64 with slices of 8 takes 34 848 bytes, six fit, registers hold
//!   two or three of 128 lanes. A staged byte of K or V serves 64 rows: 16 multiply-adds, so that 30 TFLOP/s ask 0.9 TB/s of the second
//!   cache. 128 x 64 halves that, at a third of the workgroups.
//! - 32 KiB (Apple, most of AMD through Vulkan, lavapipe): the same with slices of 4. 16 KiB: 32 x 64, or 64 x 32 up to head_dim 64.
//!
//! Measure first on a card: registers and spills of 64 x 64 at head_dim 128 (is `Out` in registers?); the share of `prepare_q` and `prepare_k`
//! (one lane a row: do their rows stay in registers?); slices of 4 against 8; the module with run-time checks, which the table drops.

use crate::equation::relative::RelativeSide;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::plan::budget::{PRODUCT_BYTES, SCRATCH, TILE_FLOP, TILES};
use crate::plan::call::Call;
use crate::plan::family::prepare;
use crate::plan::family::prepare::{ACROSS, Prepared, UNIT_LANES, prepares_keys, workgroups_of_units};
use crate::plan::grid;
use crate::plan::grid::{ChunkDispatch, LaidOut};
use crate::plan::kernel::Kernel;
use crate::plan::pairs::pairs_of_head;
use crate::plan::products::Products;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::plan::user::Cost;
use crate::shader::layout::Slot;

impl<'a> ShaderFiles<'a> {
    /// See family/tile.rs.
    pub(crate) fn tile(&mut self, aligned: bool) {
        self.add("kernel/tile.wgsl", &[Slot::Work]);
        self.add("common/prepared.wgsl", &[]);
        self.work_by_vectors();
        self.tiles(self.spec.packed);
        self.add("common/lse.wgsl", &[]);
        self.add("common/lse_words.wgsl", &[]);
        self.add("common/tile_rows.wgsl", &[]);
        let by_heads = self::prepares_by_heads(self.spec, aligned);
        self.prepares_rows(by_heads);
        self.add("common/online_softmax.wgsl", &[]);
        self.of_scores(aligned);
        let (prepared, complete) = (prepares_keys(self.spec), self::completes_scores(self.spec));
        self.add(if prepared { "families/tile_keys_prepared.wgsl" } else { "families/tile_keys_direct.wgsl" }, &[]);
        self.add(if complete { "families/tile_scores_terms.wgsl" } else { "families/tile_scores_plain.wgsl" }, &[]);
        self.add(if self.subgroups { "families/reduce_subgroup.wgsl" } else { "families/reduce_workgroup.wgsl" }, &[]);
        self.value_rows(aligned);
        self.sink();
        self.out(aligned);
        self.full_range();
    }
}

/// Rows and keys of a lane.
const LANE: [u32; 2] = [8, 4];

/// The most columns of a lane, in 4.
const MAX_VALUE_BLOCKS: u32 = 4;

/// How a tile is divided.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Division {
    key_lanes: u32,
    lanes: u32,
    /// Chunks of 4 elements of q and k in a slice.
    slice_chunks: u32,
    /// Chunks whose products are one sum.
    fold: u32,
    value_blocks: u32,
    /// Values of a slice.
    value_keys: u32,
    /// vec4 of the slices.
    slices: u32,
}

impl Division {
    /// None: the tile does not fit the spec or the device.
    fn new(call: &Call, [tile_q, tile_k]: [u32; 2]) -> Option<Self> {
        let (spec, limits) = (call.spec, call.limits);
        let (chunks, v_chunks) = (spec.head_dim.div_ceil(4), spec.v_head_dim.div_ceil(4));
        let key_lanes = tile_k / LANE[1];
        let lanes = tile_q / LANE[0] * key_lanes;
        let value_blocks = v_chunks.div_ceil(key_lanes);
        if lanes > limits.max_invocations || value_blocks > MAX_VALUE_BLOCKS {
            return None;
        }
        let fixed = 4 * tile_q * tile_k + 16 * tile_q + 32;
        let free = limits.max_workgroup_storage.checked_sub(fixed)? / 16;
        let maxima = tile_q / 4 * (key_lanes + 1);
        let of_slice = |n: u32| tile_k * (n + 1) + n * tile_q;
        let slice_chunks = [8, 4].into_iter().find(|n| *n < chunks + 4 && of_slice(*n) <= free)?;
        let value_row = value_blocks * key_lanes;
        let slices = of_slice(slice_chunks).max(maxima).max(value_row);
        if slices > free {
            return None;
        }
        // sums of d/4 + 3 roundings at most: those of a fold, and of the folds
        let fold = [(16, 4), (8, 2)].into_iter().find(|(least, _)| chunks >= *least).map_or(1, |(_, fold)| fold);
        let value_keys = (slices / value_row).min(tile_k);
        Some(Division { key_lanes, lanes, slice_chunks, fold, value_blocks, value_keys, slices })
    }

    /// Rounds of all loops that an invocation makes; the path of values that are not finite included.
    fn rounds(&self, spec: &Spec, of_score: Cost, [tile_q, tile_k]: [u32; 2], keys: u32) -> u64 {
        let chunks = spec.head_dim.div_ceil(4);
        let stage = (tile_q + tile_k) * self.slice_chunks / self.lanes + 3;
        let products = chunks + chunks.div_ceil(self.fold) + chunks.div_ceil(self.slice_chunks) * stage;
        let values = tile_k + tile_k.div_ceil(self.value_keys) * (self.slices / self.lanes + 3);
        let scores = (LANE[0] * LANE[1]) as u64 * of_score.rounds as u64;
        let tile = products + 4 * LANE[1] + self.key_lanes + values + 2;
        let stray = (LANE[0] * self.value_blocks) as u64 * keys as u64;
        let once = 2 * chunks + spec.head_dim + 3 * spec.v_head_dim + 200;
        keys.div_ceil(tile_k) as u64 * (tile as u64 + scores) + stray + once as u64
    }
}

/// Whether a lane prepares some pairs of a token for all heads, cos and sin made once, instead of a row.
pub(crate) fn prepares_by_heads(spec: &Spec, aligned: bool) -> bool {
    prepare::stands_in_quads(spec, aligned) && !spec.content_bias
}

/// Whether something is done to the products before they are scores.
pub(crate) fn completes_scores(spec: &Spec) -> bool {
    let terms = !spec.bias.is_empty() || spec.dense_bias || !spec.relative.is_empty();
    terms || spec.logits_soft_cap.is_some() || spec.score_mod.is_some()
}

/// Whether maxima go through subgroups: of one known size, whole ones.
pub(crate) fn takes_subgroups(call: &Call, tuning: &Tuning) -> bool {
    let size = call.limits.subgroup_size;
    let lanes = tuning.tile_q / LANE[0] * (tuning.tile_k / LANE[1]);
    tuning.family == Family::Tile && (4..=128).contains(&size) && size.is_power_of_two() && lanes.is_multiple_of(size)
}

/// Products of relative tables that are made beforehand; none where the families that stage tiles do not take a call, or a device has fewer lanes.
pub(crate) fn makes_products(call: &Call, lanes: u32) -> Option<Products> {
    let Call { kernel, spec, shape, limits, .. } = *call;
    if kernel != Kernel::Attention || spec.rotates_values() || spec.linear.is_some() || limits.max_invocations < lanes {
        return None;
    }
    let products = Products::new(kernel, spec, shape, limits, 128);
    let beforehand = |(relative, gathered): (&crate::equation::relative::Relative, &bool)| {
        *gathered && relative.side != RelativeSide::Value
    };
    spec.relative.iter().zip(&products.gathered).all(beforehand).then_some(products)
}

pub(crate) fn candidates(call: &Call) -> Vec<Tuning> {
    let Call { kernel, spec, shape, limits, .. } = *call;
    let Some(products) = makes_products(call, UNIT_LANES) else { return Vec::new() };
    let rows = rows_of(call);
    let keys = grid::key_rows(kernel, spec, shape);
    let suits = |tile: &[u32; 2]| {
        let Some(division) = Division::new(call, *tile) else { return false };
        let flop = tile[0] as f64 * keys as f64 * grid::flop_per_score(spec, call.of_score);
        let scratch = Scratch::new(call, tile[0], &products);
        flop <= budget(call)
            && scratch.fits(call, [1; 3])
            && shape.sequences(spec)[0] <= limits.max_workgroups
            && 4 * products.key * keys as u64 <= PRODUCT_BYTES
            && division.rounds(spec, call.of_score, *tile, keys) <= limits.max_loop_rounds as u64
            // units of keys and of rows, in one dimension of a grid
            && (rows.max(keys as u64) + 64) * spec.head_dim.div_ceil(4) as u64 / tile[0] as u64 <= limits.max_workgroups as u64
    };
    let mut tiles: Vec<_> = TILES.into_iter().filter(suits).collect();
    // the registers of o before the table's order, and no more rows than there are
    tiles.sort_by_key(|[q, k]| {
        let blocks = spec.v_head_dim.div_ceil(k / LANE[1] * 4);
        (blocks > 2, *q > 32 && *q as u64 > rows.next_power_of_two())
    });
    let of = |[tile_q, tile_k]: [u32; 2]| Tuning { tile_q, tile_k, ..Tuning::of(Family::Tile) };
    tiles.into_iter().map(of).collect()
}

/// Rows of a kv head: of the longest sequence.
pub(crate) fn rows_of(call: &Call) -> u64 {
    let len = if call.spec.packed { call.shape.max_seqlen_q } else { call.shape.q_len };
    len as u64 * call.spec.group() as u64
}

/// The grid of tiles of rows: of each sequence; of packed ones, numbered through.
pub(crate) fn grid_of_tiles(call: &Call, tile_q: u32) -> [u64; 3] {
    let Call { spec, shape, .. } = *call;
    let (heads, tile) = (spec.num_kv_heads as u64, tile_q as u64);
    match spec.packed {
        true => [shape.q_len as u64 * spec.group() as u64 / tile + shape.sequences as u64, heads, 1],
        false => [rows_of(call).div_ceil(tile), heads, shape.batch as u64],
    }
}

/// Workgroups that prepare the units of the tokens of some tiles: `tokens` of one sequence, or of each tile by itself. With the constant UNIT_WORKGROUPS,
/// which is those of a tile.
pub(crate) fn workgroups_of_tiles(call: &Call, tiles: u32, tile_q: u32, units: u32, across: u32, lanes: u32) -> u32 {
    let tokens = |tiles: u32| (tiles as u64 * tile_q as u64).div_ceil(call.spec.group() as u64) + 1;
    match call.spec.packed {
        true => tiles.saturating_mul(workgroups_of_units(tokens(1), units, across, lanes) as u32),
        false => workgroups_of_units(tokens(tiles), units, across, lanes) as u32,
    }
}

/// Operations of a dispatch.
pub(crate) fn budget(call: &Call) -> f64 {
    call.limits.max_flop_per_dispatch * if call.limits.cpu { 1.0 } else { TILE_FLOP }
}

/// The largest part of a grid of tiles of rows over all their keys, each workgroup of at most `flop` operations. What masks leave is counted once:
/// as long as a part has all rows of a head, its workgroups have the mean of their work.
pub(crate) fn part_of_rows(
    call: &Call,
    whole: [u64; 3],
    budget: f64,
    flop: f64,
    fits: impl Fn([u64; 3]) -> bool,
) -> [u64; 3] {
    let Call { spec, shape, .. } = *call;
    let pairs = match spec.packed {
        true => shape.q_len as u64 * shape.max_seqlen_k as u64,
        false => shape.batch as u64 * pairs_of_head(spec, shape),
    };
    let all = pairs as f64 * spec.num_heads as f64 * grid::flop_per_score(spec, call.of_score);
    let mean = all / whole.iter().map(|n| *n as f64).product::<f64>();
    let part = grid::largest_part(whole, budget / mean.max(1.0).min(flop), call.limits, &fits);
    if part[0] == whole[0] { part } else { grid::largest_part(whole, budget / flop, call.limits, &fits) }
}

/// Words of `work` for a part of the grid.
pub(crate) struct Scratch {
    /// Of a tile of rows: products, prepared queries.
    pub(crate) tile: [u64; 2],
    /// Of a kv head of a sequence: products of keys; prepared keys, which packed sequences share.
    pub(crate) head: [u64; 2],
    pub(crate) packed: bool,
    /// lse of a tile of rows.
    pub(crate) lse: u64,
}

impl Scratch {
    fn new(call: &Call, tile_q: u32, products: &Products) -> Self {
        let row = 4 * call.spec.head_dim.div_ceil(4) as u64;
        let keys = call.shape.kv_len as u64;
        Scratch {
            tile: [products.query * tile_q as u64, row * tile_q as u64],
            head: [products.key * keys, if prepares_keys(call.spec) { row * keys } else { 0 }],
            lse: tile_q as u64,
            packed: call.spec.packed,
        }
    }
    /// Products of queries, of keys, queries, keys, lse.
    pub(crate) fn words(&self, [x, y, z]: [u64; 3]) -> [u64; SCRATCH] {
        let sequences = if self.packed { 1 } else { z }; // of keys, which stand by tokens
        [
            x * y * z * self.tile[0],
            y * z * self.head[0],
            x * y * z * self.tile[1],
            y * sequences * self.head[1],
            x * y * z * self.lse,
        ]
    }
    pub(crate) fn fits(&self, call: &Call, part: [u64; 3]) -> bool {
        let words = self.words(part);
        // products of relative tables grow with rows times rows of a table: they stay small beside the rest
        let products = 4 * (words[0] + words[1]) <= PRODUCT_BYTES;
        let room = grid::scratch_bytes(call.kernel, call.spec, call.shape, call.limits);
        4 * words.iter().sum::<u64>() <= room && products
    }
}

pub(crate) fn lay_out(call: &Call, tuning: &Tuning) -> Result<LaidOut> {
    let Call { kernel, spec, shape, limits, of_score, .. } = *call;
    let tile = [tuning.tile_q, tuning.tile_k];
    let Some(division) = Division::new(call, tile) else {
        return Err(Error::spec("tuning", format!("{tuning:?} does not fit"), "take one of Tuning::candidates"));
    };
    let products = Products::new(kernel, spec, shape, limits, 128);
    let scratch = Scratch::new(call, tile[0], &products);
    let keys = grid::key_rows(kernel, spec, shape);
    let [sequences, ..] = shape.sequences(spec);
    let grid = grid_of_tiles(call, tile[0]);
    let flop = tile[0] as f64 * keys as f64 * grid::flop_per_score(spec, of_score);
    let rotary_dim = spec.rotary.as_ref().map_or(0, |r| r.rotary_dim);
    let (quads, units) = (rotary_dim / 8, spec.head_dim / 4 - rotary_dim / 8);
    let by_heads = prepares_by_heads(spec, call.aligned);
    let in_units = |tokens: u32| workgroups_of_units(tokens as u64, units, ACROSS, UNIT_LANES) as u32;
    let of_tiles = |n| workgroups_of_tiles(call, n, tile[0], units, ACROSS, UNIT_LANES);
    let fits = |part: [u64; 3]| scratch.fits(call, part) && of_tiles(part[0] as u32) <= limits.max_workgroups;
    let part = part_of_rows(call, grid, budget(call), flop, fits);
    let key_tiles = keys.div_ceil(tile[0]);
    let mut chunks = Vec::new();
    for grid::Cut { first, workgroups: [xn, yn, zn] } in grid::cuts(grid, part, 6)? {
        let mut add = |entry: &'static str, tiles: u32, heads: u32| {
            let of_keys = spec.packed && matches!(entry, "prepare_k" | "relative_keys");
            let workgroups = [tiles, heads, if of_keys { sequences } else { zn }];
            chunks.push(ChunkDispatch { first, keys: [0, shape.kv_len], workgroups, entry, tiles: xn, heads: yn });
        };
        // keys serve every row
        if first[0] == 0 && products.key > 0 {
            add("relative_keys", key_tiles, yn);
        }
        if first[0] == 0 && prepares_keys(spec) {
            let (tiles, heads) = if by_heads { (in_units(keys), 1) } else { (key_tiles, yn) };
            add("prepare_k", tiles, heads);
        }
        if products.query > 0 {
            add("relative_queries", xn, yn);
        }
        let (tiles, heads) = if by_heads { (of_tiles(xn), 1) } else { (xn, yn) };
        add("prepare_q", tiles, heads);
        add("main", xn, yn);
        add("store_lse", xn, yn);
    }
    let scratch = scratch.words(part);
    let mut constants = vec![
        ("LANES", division.lanes),
        ("KEY_LANES", division.key_lanes),
        ("SLICE_CHUNKS", division.slice_chunks),
        ("FOLD", division.fold),
        ("VALUE_BLOCKS", division.value_blocks),
        ("VALUE_KEYS", division.value_keys),
        ("SLICES", division.slices),
    ];
    constants.extend(Prepared { keys: prepares_keys(spec), values: false }.constants(spec));
    if by_heads {
        constants.extend([("ACROSS", ACROSS), ("UNIT_LANES", UNIT_LANES), ("UNITS", units), ("QUADS", quads)]);
    }
    constants.push(("UNIT_WORKGROUPS", of_tiles(1).max(1)));
    let mut label = if prepares_keys(spec) { ".tile.keys-first" } else { ".tile" }.to_string();
    if takes_subgroups(call, tuning) {
        constants
            .extend([("SUBGROUP", limits.subgroup_size), ("REDUCED", limits.subgroup_size.min(division.key_lanes))]);
        label += &format!(".sg{}", limits.subgroup_size);
    }
    Ok(LaidOut { chunks, tile, constants, scratch, products, label, ..LaidOut::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::equation::spec::Spec;
    use crate::inputs::shape::Shape;
    use crate::plan::call::Call;
    use crate::plan::kernel::Kernel;
    use crate::plan::limits::Limits;

    /// What the header's table says, and that every head of every device with the default limits has a tile.
    #[test]
    fn tiles_fit_their_budgets() {
        for d in 1..=crate::equation::defaults::MAX_V_HEAD_DIM {
            let spec = Spec::new(4, 2, d);
            let shape = Shape::new(&spec, 1, 100, 100);
            for (storage, least) in [(16_384, 1), (32_768, 3), (49_152, 4)] {
                // wider heads may be left to others
                let least = if d <= 256 { least } else { 0 };
                let limits = Limits { max_workgroup_storage: storage, ..Limits::default() };
                let (limits, spec) = (&limits, &spec);
                let call = Call {
                    kernel: Kernel::Attention,
                    spec,
                    shape: &shape,
                    limits,
                    aligned: true,
                    of_score: Cost::default(),
                };
                let all = candidates(&call);
                assert!(all.len() >= least, "{d}: {all:?}");
                for tuning in all {
                    let [q, k] = [tuning.tile_q, tuning.tile_k];
                    let x = Division::new(&call, [q, k]).expect("a candidate fits");
                    assert!(4 * q * k + 16 * q + 32 + 16 * x.slices <= storage, "{d}: {x:?}");
                    assert!(x.lanes * 32 == q * k && x.value_keys * x.value_blocks * x.key_lanes <= x.slices);
                    // roundings of a score: the product, a fold's additions, the folds'
                    let chunks = d.div_ceil(4);
                    let whole = chunks / x.slice_chunks * x.slice_chunks.div_ceil(x.fold);
                    let folds = whole + (chunks % x.slice_chunks).div_ceil(x.fold);
                    assert!(4 * x.fold.min(chunks) + folds - 1 <= chunks + 3, "{d}: {folds} folds of {}", x.fold);
                }
            }
        }
    }
}
