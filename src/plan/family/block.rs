//! Attention as two matrix products in blocks of registers: prefill on GPUs. `shaders/kernel/block.wgsl`.
//!
//! A workgroup takes `tile_q` rows and `tile_k` keys at a time, a lane 8 x 8 of their scores (4 x 4 where a lane has 128 registers, 4 x 8 where
//! values are wide), which stay in its registers through the softmax. Queries and keys are rotated, or copied, by dispatches of their own into f32
//! rows in `work`, in the order in which they are staged, so that staging is a copy. Sums of S are chains of head_dim multiply-adds: a second set of sums
//! to fold them into would be 64 registers.
//!
//! Workgroup memory, bytes: slices of 16 elements and P of 64 keys where they fit, else of 8 and 32.
//!
//! | tile | block | lanes | slices | P | in all, and with the smaller ones | registers of S and O at head_dim 64, 128, 256 |
//! |---|---|---|---|---|---|---|
//! | 64 x 128 | 8 x 8 | 128 | 12 288 | 17 408 | 30 720, 15 872 | 96, 128, - |
//! | 64 x 128 | 4 x 8 | 256 | 12 288 | 17 408 | 30 720, - | -, -, 96 |
//! | 64 x 64 | 4 x 4 | 256 | 8 192 | 17 408 | 26 624, - | 32, 48, 80 |
//! | 32 x 128 | 8 x 8 | 64 | 10 240 | 9 216 | 19 968, 10 240 | 96, 128, - |
//! | 32 x 64 | 4 x 4 | 128 | 6 144 | 9 216 | 15 872, - | 32, 48, 80 |

use crate::equation::spec::Spec;
use crate::error::Result;
use crate::plan::budget::PRODUCT_BYTES;
use crate::plan::call::Call;
use crate::plan::family::prepare::{Preparing, units, workgroups_of_units};
use crate::plan::family::tile::{
    Scratch, budget, completes_scores, grid_of_tiles, makes_products, part_of_rows, rows_of, workgroups_of_tiles,
};
use crate::plan::grid;
use crate::plan::grid::{ChunkDispatch, LaidOut};
use crate::plan::products::Products;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::shader::layout::Slot;

impl<'a> ShaderFiles<'a> {
    /// See family/block.rs.
    pub(crate) fn block(&mut self, aligned: bool) {
        self.add("kernel/block.wgsl", &[Slot::Work]);
        self.add("common/prepared_tiles.wgsl", &[]);
        self.work_by_vectors();
        self.tiles(self.spec.packed);
        self.add("common/lse.wgsl", &[]);
        self.add("common/lse_words.wgsl", &[]);
        self.add("common/tile_rows.wgsl", &[]);
        self.prepares_tiles(aligned);
        self.add("common/online_softmax.wgsl", &[]);
        self.of_scores(aligned);
        let complete = completes_scores(self.spec);
        self.add(if complete { "families/tile_scores_terms.wgsl" } else { "families/tile_scores_plain.wgsl" }, &[]);
        self.value_rows(aligned);
        self.sink();
        self.out(aligned);
        self.full_range();
    }
}

/// Tokens whose same units neighbouring lanes prepare: the slots of 64 keys.
const ACROSS: u32 = 64;

/// Lanes of a workgroup that prepares units.
const UNIT_LANES: u32 = 256;

/// Rows and keys of a tile, in fours of a lane: rows, keys.
const FORMS: [([u32; 2], [u32; 2]); 5] =
    [([64, 128], [2, 2]), ([64, 128], [1, 2]), ([64, 64], [1, 1]), ([32, 128], [2, 2]), ([32, 64], [1, 1])];

/// How a tile is divided.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Division {
    tile: [u32; 2],
    /// Fours of rows, keys and columns of a lane.
    blocks: [u32; 3],
    lanes: u32,
    /// Elements, and values, of a slice.
    slice_dim: u32,
    slice_keys: u32,
    /// Keys whose weights are staged at a time.
    p_keys: u32,
    /// vec4 of the slices, and of P.
    slices: u32,
    p_vectors: u32,
}

impl Division {
    /// None: the tile does not fit the spec or the device.
    fn new(call: &Call, tile: [u32; 2], [rows, keys]: [u32; 2]) -> Option<Self> {
        let (spec, limits) = (call.spec, call.limits);
        let columns = spec.v_head_dim.div_ceil(64);
        let lanes = 4 * tile[0] / rows;
        // of O 64 registers at most, and the block that has more rows where both fit
        if lanes > limits.max_invocations || rows * columns > 4 || (rows == 1 && keys == 2 && columns <= 2) {
            return None;
        }
        let [rows4, keys4] = tile.map(|n| n / 4);
        let sizes = [(16, 64), (16, 32), (8, 32)].into_iter();
        let fitting =
            sizes.filter(|(dim, _)| (dim * rows4).is_multiple_of(lanes) && (dim * keys4).is_multiple_of(lanes));
        fitting
            .filter_map(|(slice_dim, p_keys)| {
                let of_rows = slice_dim * (rows4 + keys4);
                let mut values = [16, 8, 4].into_iter().filter(|n| (n * 16 * columns).is_multiple_of(lanes));
                let slice_keys = values.clone().find(|n| n * 16 * columns <= of_rows).or(values.next_back())?;
                let slices = of_rows.max(slice_keys * 16 * columns);
                let p_vectors = (p_keys * (rows4 + 1)).max(17 * rows4);
                let bytes = 16 * (slices + p_vectors + tile[0]) + 16;
                let blocks = [rows, keys, columns];
                let division = Division { tile, blocks, lanes, slice_dim, slice_keys, p_keys, slices, p_vectors };
                (bytes <= limits.max_workgroup_storage).then_some(division)
            })
            .next()
    }

    /// The best guess first.
    fn all(call: &Call) -> Vec<Self> {
        let mut all: Vec<_> = FORMS.iter().filter_map(|(tile, blocks)| Self::new(call, *tile, *blocks)).collect();
        let rows = rows_of(call).next_power_of_two();
        let few = call.limits.registers < 256;
        if call.limits.cpu && all.len() > 2 {
            // where they are computed to be checked, and take seconds to compile: the largest block and the smallest
            all.drain(1..all.len() - 1);
        }
        all.sort_by_key(|d| (few && d.blocks[1] > 1, d.tile[0] > 32 && d.tile[0] as u64 > rows));
        all
    }

    /// Elements of a prepared row: whole slices.
    fn row_padded(&self, spec: &Spec) -> u32 {
        (4 * spec.head_dim.div_ceil(4)).next_multiple_of(self.slice_dim)
    }

    /// Rounds of all loops that an invocation makes, from above; the path of values that are not finite included.
    fn rounds(&self, call: &Call, keys: u32) -> u64 {
        let [rows, key_blocks, columns] = self.blocks.map(u64::from);
        let per_score = 2 + call.of_score.rounds as u64;
        let products = self.row_padded(call.spec) as u64 * (2 + 5 * key_blocks * (1 + rows) + rows);
        let scores = 16 * rows * key_blocks * (12 + per_score);
        let values = self.tile[1] as u64 * (4 + rows + 5 * columns * (1 + rows));
        let stray = 4 * rows * columns * keys as u64;
        let once = (4 * call.spec.head_dim + 2 * self.tile[0] + 400) as u64;
        (keys.div_ceil(self.tile[1]) as u64 + 1) * (products + scores + values) + stray + once
    }
}

pub(crate) fn candidates(call: &Call) -> Vec<Tuning> {
    let Call { kernel, spec, shape, limits, .. } = *call;
    let Some(products) = makes_products(call, UNIT_LANES) else { return Vec::new() };
    let keys = grid::key_rows(kernel, spec, shape);
    let suits = |division: &Division| {
        let flop = division.tile[0] as f64 * keys as f64 * grid::flop_per_score(spec, call.of_score);
        let tokens = if spec.packed { shape.max_seqlen_q } else { shape.q_len };
        let [of_q, of_k] = [(tokens, 0), (keys, 1)]
            .map(|(n, i)| workgroups_of_units(n as u64 + 64, units(call)[i], ACROSS, UNIT_LANES));
        flop <= budget(call)
            && scratch(call, division, &products).fits(call, [1; 3])
            && shape.sequences(spec)[0] <= limits.max_workgroups
            && 4 * products.key * keys as u64 <= PRODUCT_BYTES
            && division.rounds(call, keys) <= limits.max_loop_rounds as u64
            && of_q.max(of_k).max(keys.div_ceil(division.tile[0]) as u64) <= limits.max_workgroups as u64
    };
    let of = |d: Division| Tuning { tile_q: d.tile[0], tile_k: d.tile[1], ..Tuning::of(Family::Block) };
    Division::all(call).into_iter().filter(suits).map(of).collect()
}

fn scratch(call: &Call, division: &Division, products: &Products) -> Scratch {
    let row = division.row_padded(call.spec) as u64;
    let [tile_q, tile_k] = division.tile.map(u64::from);
    let keys = call.shape.kv_len as u64;
    Scratch {
        tile: [products.query * tile_q, row * tile_q],
        head: [products.key * keys, row * keys.next_multiple_of(tile_k)],
        lse: tile_q,
        packed: call.spec.packed,
    }
}

pub(crate) fn lay_out(call: &Call, tuning: &Tuning) -> Result<LaidOut> {
    let Call { kernel, spec, shape, .. } = *call;
    let tile = [tuning.tile_q, tuning.tile_k];
    let all = Division::all(call);
    let division = all.iter().find(|division| division.tile == tile).ok_or_else(|| tuning.misfit())?;
    let products = makes_products(call, UNIT_LANES).ok_or_else(|| tuning.misfit())?;
    let scratch = scratch(call, division, &products);
    let keys = grid::key_rows(kernel, spec, shape);
    let [sequences, ..] = shape.sequences(spec);
    let whole = grid_of_tiles(call, tile[0]);
    let flop = tile[0] as f64 * keys as f64 * grid::flop_per_score(spec, call.of_score);
    let rows = Preparing::of(spec, call.aligned) == Preparing::Rows;
    let [q_units, k_units] = units(call);
    let in_units = |tokens: u32, units: u32| workgroups_of_units(tokens as u64, units, ACROSS, UNIT_LANES) as u32;
    let of_tiles = |n| workgroups_of_tiles(call, n, tile[0], q_units, ACROSS, UNIT_LANES);
    let fits = |part: [u64; 3]| scratch.fits(call, part) && of_tiles(part[0] as u32) <= call.limits.max_workgroups;
    let part = part_of_rows(call, whole, budget(call), flop, fits);
    let key_tiles = keys.div_ceil(tile[0]);
    let mut chunks = Vec::new();
    for grid::Cut { first, workgroups: [xn, yn, zn] } in grid::cuts(whole, part, 6)? {
        let mut add = |entry: &'static str, tiles: u32, heads: u32| {
            let of_keys = spec.packed && matches!(entry, "prepare_k" | "relative_keys");
            let workgroups = [tiles, heads, if of_keys { sequences } else { zn }];
            chunks.push(ChunkDispatch { first, keys: [0, shape.kv_len], workgroups, entry, tiles: xn, heads: yn });
        };
        // keys serve every row
        if first[0] == 0 && products.key > 0 {
            add("relative_keys", key_tiles, yn);
        }
        if first[0] == 0 {
            let (tiles, heads) = if rows { (key_tiles, yn) } else { (in_units(keys, k_units), 1) };
            add("prepare_k", tiles, heads);
        }
        if products.query > 0 {
            add("relative_queries", xn, yn);
        }
        let (tiles, heads) = if rows { (xn, yn) } else { (of_tiles(xn), 1) };
        add("prepare_q", tiles, heads);
        add("main", xn, yn);
        add("store_lse", xn, yn);
    }
    let [row_blocks, key_blocks, column_blocks] = division.blocks;
    let plain = !completes_scores(spec) && !spec.mask.dense && spec.mask_mod.is_none();
    let constants = vec![
        ("LANES", division.lanes),
        ("ROW_BLOCKS", row_blocks),
        ("KEY_BLOCKS", key_blocks),
        ("COLUMN_BLOCKS", column_blocks),
        ("SLICE_DIM", division.slice_dim),
        ("SLICE_KEYS", division.slice_keys),
        ("P_KEYS", division.p_keys),
        ("SLICES", division.slices),
        ("P_VECTORS", division.p_vectors),
        ("ROW_PADDED", division.row_padded(spec)),
        ("PLAIN", plain as u32),
        ("ACROSS", ACROSS),
        ("UNIT_LANES", UNIT_LANES),
        ("UNITS", q_units),
        ("UNIT_WORKGROUPS", of_tiles(1).max(1)),
        ("QUADS", spec.rotary.as_ref().map_or(0, |r| r.rotary_dim / 8)),
    ];
    let label = format!(".block{}x{}", 4 * row_blocks, 4 * key_blocks);
    Ok(LaidOut { chunks, tile, constants, scratch: scratch.words(part), products, label, ..LaidOut::default() })
}
