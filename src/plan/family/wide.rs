//! Few rows over many keys on GPUs: `shaders/kernel/wide.wgsl`. The rows that share a kv head stand in one workgroup; the keys are split over
//! workgroups, whose parts `combine` merges in a fixed order: two dispatches, whatever turns. Queries, and keys of a cache that holds them unrotated,
//! turn in registers.
//!
//! Loads of a lane, 16 of keys and 16 of values in f32 at head_dim 128, are asked for before the first is used. By that number a tile is
//! cut: 128 keys at head_dim 64, 64 at 128, 32 at 256.

use crate::error::Result;
use crate::plan::budget::{SCRATCH, WIDE_FLOP};
use crate::plan::call::Call;
use crate::plan::family::decode;
use crate::plan::family::prepare::{prepares_keys, stands_in_quads};
use crate::plan::grid;
use crate::plan::grid::{ChunkDispatch, LaidOut, flop_per_score, lse_words};
use crate::plan::kernel::Kernel;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::shader::layout::Slot;

impl<'a> ShaderFiles<'a> {
    /// See family/wide.rs.
    pub(crate) fn wide(&mut self) {
        self.add("kernel/wide.wgsl", &[Slot::Work, Slot::V, Slot::Q, Slot::K]);
        for file in
            ["kernel/combine_wide.wgsl", "common/part.wgsl", "common/online_softmax.wgsl", "tensor/raw_aligned.wgsl"]
        {
            self.add(file, &[]);
        }
        self.work_by_vectors();
        self.of_scores(true);
        let turns = self.spec.rotary.is_some();
        self.add(if turns { "families/wide_query_turned.wgsl" } else { "families/wide_query_direct.wgsl" }, &[]);
        let keys_turn = prepares_keys(self.spec);
        self.add(if keys_turn { "families/wide_keys_turned.wgsl" } else { "families/wide_keys_direct.wgsl" }, &[]);
        if turns {
            self.add("common/units.wgsl", &[]);
            self.quads();
        }
        self.sink();
        self.out(true);
        self.full_range();
    }
}

/// Lanes of a workgroup.
const LANES: u32 = 128;

/// Loads of keys, and of values, of a lane for a tile, at most: with 256 registers, and with 128.
const LOADS: [u32; 2] = [16, 8];

/// The most passes over the keys of a tile: a lane's sums of one stand in workgroup memory together.
const MAX_PASSES: u32 = 4;

/// The most parts of a row: `combine` keeps their weights in workgroup memory, where the lanes of `main` keep four vec4 each.
const MAX_SPLITS: u32 = 3 * LANES;

/// Workgroups beyond which a part takes several tiles: ten rounds of the largest card today.
const WORKGROUPS: u64 = 4096;

/// Sizes of the kernel.
struct Form {
    quads: u32,
    tile_k: u32,
    /// Lanes that share a key; that hold the columns of a value.
    parts: u32,
    columns: u32,
    /// Of a query: units; of these four pairs each, the others a vec4.
    units: u32,
    turning: u32,
    /// Of a key: units of two vec4; of a lane.
    key_units: u32,
    lane_units: u32,
    /// Bytes of workgroup memory.
    shared: u32,
}

impl Form {
    /// None where rows do not stand in whole vec4, or something needs a whole row at once.
    fn new(call: &Call, loads: u32) -> Option<Self> {
        let Call { spec, shape, aligned, .. } = *call;
        let in_units = spec.rotary.is_none() || stands_in_quads(spec, aligned);
        if !aligned || !in_units || spec.norm.is_some() || spec.content_bias {
            return None;
        }
        let q_len = if spec.packed { shape.max_seqlen_q } else { shape.q_len };
        let quads = (q_len * spec.group()).div_ceil(4).max(1).next_power_of_two();
        let (chunks, v_chunks) = (spec.head_dim / 4, spec.v_head_dim / 4);
        let turning = spec.rotary.as_ref().map_or(0, |r| r.rotary_dim / 8);
        let outside = chunks - 2 * turning;
        let key_units = if prepares_keys(spec) { turning + outside.div_ceil(2) } else { chunks.div_ceil(2) };
        let columns = v_chunks.next_power_of_two();
        // the fewest lanes of a key whose loads are not too many, so that a pass has keys enough
        let of_lane = |parts: u32| key_units.div_ceil(parts);
        let parts =
            [1, 2, 4, 8, 16].into_iter().find(|parts| 2 * of_lane(*parts) * MAX_PASSES <= LOADS[0]).unwrap_or(16);
        let lane_units = of_lane(parts);
        let keys = LANES / parts;
        let by_keys = (loads / (2 * lane_units)).clamp(1, MAX_PASSES) * keys;
        let by_values = loads * (LANES / columns.min(LANES));
        let tile_k = by_keys.min(by_values.next_multiple_of(keys)).min(LANES);
        // a power of two of passes, so that tiles divide what other tiles do
        let tile_k = keys * (1 << (tile_k / keys).max(1).ilog2());
        let form =
            Form { quads, tile_k, parts, columns, units: turning + outside, turning, key_units, lane_units, shared: 0 };
        let vectors = form.q_rows() * (chunks + 1) + 4 * LANES + LANES;
        let fits = columns <= LANES && (8..=LANES).contains(&tile_k) && tile_k >= LANES / columns;
        fits.then_some(Form { shared: 16 * vectors, ..form })
    }

    /// With the loads that a device's registers have room for, then with others.
    fn all(call: &Call) -> Vec<Self> {
        let [many, few] = LOADS;
        let loads = if call.limits.registers >= 256 { [many, few] } else { [few, many] };
        let mut forms: Vec<_> = loads.into_iter().filter_map(|loads| Self::new(call, loads)).collect();
        forms.dedup_by_key(|form| form.tile_k);
        // where it is computed to be checked, and takes seconds to compile, one is enough
        forms.truncate(if call.limits.cpu { 1 } else { 2 });
        forms.retain(|form| {
            let loops_fit = form.rounds_of_tile(call) <= call.limits.max_loop_rounds as u64;
            loops_fit && form.shared <= call.limits.max_workgroup_storage
        });
        forms
    }

    fn rows(&self) -> u32 {
        4 * self.quads
    }

    /// Units of queries of a lane.
    fn q_items(&self) -> u32 {
        (self.rows() * self.units).div_ceil(LANES)
    }

    /// Rows that the items of all lanes reach.
    fn q_rows(&self) -> u32 {
        (self.q_items() * LANES).div_ceil(self.units)
    }

    fn passes(&self) -> u32 {
        self.tile_k * self.parts / LANES
    }

    /// Rounds of all loops of an invocation for a tile, from above.
    fn rounds_of_tile(&self, call: &Call) -> u64 {
        let (rows, passes) = (self.rows() as u64, self.passes() as u64);
        let loads = 2 * self.q_items() as u64 + 2 * passes * (2 + self.lane_units as u64);
        let products = self.lane_units as u64 * (1 + passes + rows * (1 + passes)) + rows * passes;
        let finish = self.quads as u64 * (30 + passes + self.parts as u64 + 8 * (2 + call.of_score.rounds as u64));
        let values = 2 * (self.tile_k * self.columns / LANES) as u64 * (1 + 2 * rows);
        loads + products + finish + self.tile_k as u64 + values
    }
}

/// The keys of the longest sequence.
fn kv_len(call: &Call) -> u64 {
    if call.spec.packed { call.shape.max_seqlen_k as u64 } else { call.shape.kv_len as u64 }
}

fn sequences(call: &Call) -> u64 {
    if call.spec.packed { call.shape.sequences as u64 } else { call.shape.batch as u64 }
}

/// Words of `work` of some kv heads.
fn scratch_words(call: &Call, form: &Form, splits: u32, heads: u64) -> [u64; SCRATCH] {
    let part_words = 4 * call.spec.v_head_dim.div_ceil(4) as u64 + 4;
    [0, 0, 0, 0, heads * splits as u64 * form.rows() as u64 * part_words]
}

/// The parts of a tuning, and the keys of one: whole tiles, within the rounds of loops that a device allows.
fn split(call: &Call, form: &Form, splits: u32) -> [u32; 2] {
    let keys = kv_len(call).max(1);
    let unit = form.tile_k as u64;
    let most = (call.limits.max_loop_rounds as u64 / 2 / form.rounds_of_tile(call)).max(1) * unit;
    let size = keys.div_ceil(splits.max(1) as u64).next_multiple_of(unit).min(most);
    [keys.div_ceil(size) as u32, size as u32]
}

pub(crate) fn candidates(call: &Call) -> Vec<Tuning> {
    let Call { kernel, spec, shape, limits, .. } = *call;
    if kernel != Kernel::Attention || !decode::may_split(spec, shape) {
        return Vec::new();
    }
    // it keeps keys and values in registers as they are stored
    let in_blocks = spec.k_storage().in_blocks() || spec.v_storage().in_blocks();
    if LANES > limits.max_invocations || in_blocks {
        return Vec::new();
    }
    Form::all(call).iter().flat_map(|form| of_form(call, form)).collect()
}

/// Every number of splits, the best guess first.
fn of_form(call: &Call, form: &Form) -> Vec<Tuning> {
    let heads = call.spec.num_kv_heads as u64 * sequences(call);
    let tiles = kv_len(call).max(1).div_ceil(form.tile_k as u64);
    let of_part = (tiles * heads).div_ceil(WORKGROUPS).max(tiles.div_ceil(MAX_SPLITS as u64));
    let guess = tiles.div_ceil(of_part) as u32;
    let most = tiles.next_power_of_two().max(2);
    let others = (0..=MAX_SPLITS.ilog2()).map(|n| 1 << n).filter(|n| *n != guess && (*n as u64) < most);
    let fits = |n: &u32| {
        let parts = split(call, form, *n)[0];
        let words = scratch_words(call, form, parts, 1).iter().sum::<u64>();
        parts <= MAX_SPLITS && 4 * (words + lse_words(call.spec, call.shape)) + 128 <= call.limits.max_binding_size
    };
    let tuning = |splits: u32| Tuning { splits, tile_q: form.rows(), tile_k: form.tile_k, ..Tuning::of(Family::Wide) };
    std::iter::once(guess).chain(others).filter(fits).map(tuning).collect()
}

pub(crate) fn lay_out(call: &Call, tuning: &Tuning) -> Result<LaidOut> {
    let Call { spec, shape, limits, of_score, .. } = *call;
    let forms = Form::all(call);
    let form = forms.iter().find(|form| form.tile_k == tuning.tile_k).ok_or_else(|| tuning.misfit())?;
    let [splits, split_keys] = split(call, form, tuning.splits);
    let words = |heads: u64| scratch_words(call, form, splits, heads);
    let whole = [splits as u64, spec.num_kv_heads as u64, sequences(call)];
    let flop = split_keys as f64 * form.rows() as f64 * flop_per_score(spec, of_score);
    let budget = limits.max_flop_per_dispatch * if limits.cpu { 1.0 } else { WIDE_FLOP };
    let room = grid::scratch_bytes(call.kernel, spec, shape, limits);
    let fits = |[_, y, z]: [u64; 3]| 4 * words(y * z).iter().sum::<u64>() <= room;
    let part = grid::largest_part(whole, budget / flop, limits, fits);
    let cuts = grid::cuts(whole, part, 2)?;
    let q_len = if spec.packed { shape.max_seqlen_q } else { shape.q_len };
    let mut chunks = Vec::new();
    for parts_of_heads in cuts.chunk_by(|a, b| a.first[1..] == b.first[1..]) {
        let [_, heads, sequences] = parts_of_heads[0].workgroups;
        let mut add = |entry: &'static str, x: u32, xn: u32| {
            let [_, y, z] = parts_of_heads[0].first;
            let (first, workgroups) = ([x, y, z], [xn, heads, sequences]);
            chunks.push(ChunkDispatch { first, keys: [0, shape.kv_len], workgroups, entry, tiles: 1, heads });
        };
        for cut in parts_of_heads {
            add("main", cut.first[0], cut.workgroups[0]);
        }
        add("combine", 0, q_len * spec.group());
    }
    let one_mask = q_len == 1 && !spec.mask.dense && !spec.dense_bias && spec.mask_mod.is_none();
    let outside = form.units - form.turning;
    let exact = match prepares_keys(spec) {
        true => outside == 0,
        false => spec.head_dim.is_multiple_of(8),
    } && form.key_units.is_multiple_of(form.parts);
    let constants = vec![
        ("LANES", LANES),
        ("ROW_QUADS", form.quads),
        ("ROWS", form.rows()),
        ("PARTS", form.parts),
        ("COLUMNS", form.columns),
        ("UNITS", form.units),
        ("QUADS", form.turning),
        ("OUTSIDE", outside),
        ("Q_ITEMS", form.q_items()),
        ("Q_ROWS", form.q_rows()),
        ("KEY_UNITS", form.key_units),
        ("LANE_UNITS", form.lane_units),
        ("EXACT", exact as u32),
        ("PLAIN", (decode::plain(spec) && !spec.mask.dense && spec.mask_mod.is_none()) as u32),
        ("ONE_MASK", one_mask as u32),
        ("ONE_TOKEN", (q_len == 1) as u32),
        ("MAX_SPLITS", MAX_SPLITS),
    ];
    let turned = if prepares_keys(spec) { ".turned" } else { "" };
    Ok(LaidOut {
        chunks,
        tile: [form.rows(), form.tile_k],
        constants,
        scratch: words(part[1] * part[2]),
        splits: [splits, split_keys],
        label: format!(".wide.s{split_keys}{turned}"),
        ..LaidOut::default()
    })
}
