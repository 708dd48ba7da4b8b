//! Few rows over many keys: `shaders/kernel/decode.wgsl`, and `decode_lanes.wgsl` for software adapters with subgroups of 8. The rows
//! that share a kv head stand in one workgroup; the keys are split over workgroups, whose parts `combine` merges in a fixed order.

use crate::equation::rotary::rotary::Pairing;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::shape::Shape;
use crate::plan::budget::SCRATCH;
use crate::plan::call::Call;
use crate::plan::family::prepare;
use crate::plan::family::prepare::{Prepared, prepares_keys};
use crate::plan::grid::{self, ChunkDispatch, Cut, LaidOut, flop_per_score, lse_words};
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::shader::layout::Slot;

impl<'a> ShaderFiles<'a> {
    /// See family/decode.rs.
    pub(crate) fn decode(&mut self, aligned: bool, by_lanes: bool) {
        self.add(if by_lanes { "kernel/decode_lanes.wgsl" } else { "kernel/decode.wgsl" }, &[Slot::Work]);
        for file in ["prepare/rows.wgsl", "kernel/combine.wgsl", "common/part.wgsl", "common/online_softmax.wgsl"] {
            self.add(file, &[]);
        }
        self.prepared();
        self.of_scores(aligned);
        let turns = self::turns(self.spec, aligned, by_lanes);
        match (by_lanes, turns) {
            (true, true) => {
                self.add("families/lane_scores_turned.wgsl", &[]);
                self.quads();
            }
            (true, false) => self.add("families/lane_scores_direct.wgsl", &[]),
            (false, _) => {}
        }
        if !turns {
            let prepared = prepare::prepares_keys(self.spec);
            self.add(if prepared { "families/lane_keys_prepared.wgsl" } else { "families/lane_keys_direct.wgsl" }, &[]);
        }
        self.value_rows(aligned);
        self.sink();
        self.out(aligned);
        self.full_range();
    }
}

/// The most rows (query heads times tokens) of a kv head.
pub(crate) const MAX_ROWS: u32 = 16;

/// Keys of a tile, or the least of one: splits are whole multiples of it.
const TILE_K: u32 = 32;

/// Workgroups of all splits together on a software adapter: some for each of its cores, so that none waits.
const CPU_WORKGROUPS: u64 = 64;

/// The same on a GPU: four for each of the 132 multiprocessors of the largest today. Not yet measured.
const GPU_WORKGROUPS: u64 = 512;

/// The least keys of a split: what a part costs (its registers to memory, a step of `combine`) stays small beside them.
const LEAST_KEYS: u64 = 128;

/// The most splits: `combine` walks over them one after the other.
const MAX_SPLITS: u64 = 128;

/// Bytes of `work` for prepared keys and parts: some heads at a time.
const SCRATCH_BYTES: u64 = 32 << 20;

/// Operations of a dispatch at least allowed on a software adapter: this family reaches some 10 GFLOP/s on two cores.
const CPU_FLOP: f64 = 4e9;

/// Whether a call may be computed in splits; the bounds of `check` ask.
pub(crate) fn may_split(spec: &Spec, shape: &Shape) -> bool {
    let q_len = if spec.packed { shape.max_seqlen_q } else { shape.q_len };
    q_len as u64 * spec.group() as u64 <= MAX_ROWS as u64 && spec.relative.is_empty() && !spec.rotates_values()
}

/// Adapters whose lanes take their neighbours' registers.
pub(crate) fn by_lanes(limits: &Limits) -> bool {
    limits.cpu && limits.subgroup_size == 8
}

/// Nothing turns a product into a score, where every row sees the key.
pub(crate) fn plain(spec: &Spec) -> bool {
    let terms = spec.bias.len() + spec.dense_bias as usize + spec.score_mod.is_some() as usize;
    terms == 0 && spec.logits_soft_cap.is_none()
}

/// Groups of four pairs of a key, and the vec4 outside the rotary window, where cos and sin can be made once for the heads of a key:
/// no norm, and pairs that stand in whole vec4.
pub(crate) fn key_quads(spec: &Spec, aligned: bool) -> Option<[u32; 2]> {
    let rotary = spec.rotary.as_ref().filter(|r| !r.keys_rotated && r.offset.is_multiple_of(4))?;
    let unit = if rotary.pairing == Pairing::HalfOfHalves { 16 } else { 8 };
    let suits = aligned && spec.norm.is_none() && rotary.rotary_dim.is_multiple_of(unit);
    let outside = spec.head_dim.saturating_sub(rotary.rotary_dim) / 4;
    suits.then_some([rotary.rotary_dim / 8, outside])
}

/// Whether keys turn on the way: `families/lane_scores_turned.wgsl`.
pub(crate) fn turns(spec: &Spec, aligned: bool, by_lanes: bool) -> bool {
    by_lanes && key_quads(spec, aligned).is_some()
}

/// Whether a dispatch of its own prepares the keys.
fn keys_first(call: &Call) -> bool {
    prepares_keys(call.spec) && !turns(call.spec, call.aligned, by_lanes(call.limits))
}

/// Sizes of the kernel.
struct Form {
    quads: u32,
    tile_q: u32,
    tile_k: u32,
    /// Of decode.wgsl: lanes, lanes that share a key, lanes that hold the columns of a value.
    lanes: u32,
    parts: u32,
    columns: u32,
    /// Bytes of workgroup memory.
    shared: u32,
}

impl Form {
    fn new(call: &Call) -> Self {
        let Call { spec, shape, limits, .. } = *call;
        let q_len = if spec.packed { shape.max_seqlen_q } else { shape.q_len };
        let quads = (q_len * spec.group()).div_ceil(4).max(1).next_power_of_two();
        let (chunks, v_chunks) = (spec.head_dim.div_ceil(4), spec.v_head_dim.div_ceil(4));
        // lanes prepare rows and keys eight at a time
        let tile_q = (4 * quads).max(8);
        if by_lanes(limits) {
            let shared = 16 * (v_chunks.div_ceil(8) * 32 + TILE_K);
            return Form { quads, tile_q, tile_k: TILE_K, lanes: 8, parts: 1, columns: 8, shared };
        }
        let columns = v_chunks.next_power_of_two();
        // a lane for every column of values above 256 elements
        let (lanes, parts) = match limits.cpu {
            true if columns > 64 => (128, 2),
            true => (64, 1),
            false => (128, 4),
        };
        let tile_k = (256 / quads).max(TILE_K);
        let shared = 16 * (4 * chunks * quads + quads * tile_k + lanes + 8 * quads);
        Form { quads, tile_q, tile_k, lanes, parts, columns, shared }
    }
}

/// The keys of the longest sequence.
fn kv_len(call: &Call) -> u64 {
    if call.spec.packed { call.shape.max_seqlen_k as u64 } else { call.shape.kv_len as u64 }
}

fn sequences(call: &Call) -> u64 {
    if call.spec.packed { call.shape.sequences as u64 } else { call.shape.batch as u64 }
}

/// Words of prepared keys of a kv head.
fn key_words(call: &Call) -> u64 {
    if keys_first(call) { call.shape.kv_len as u64 * row_words(call.spec) } else { 0 }
}

/// Words of a prepared row.
fn row_words(spec: &Spec) -> u64 {
    4 * spec.head_dim.div_ceil(4) as u64
}

/// Words of scratch of some kv heads.
fn scratch_words(call: &Call, form: &Form, splits: u32, heads: u64) -> [u64; SCRATCH] {
    let part_words = 4 * call.spec.v_head_dim.div_ceil(4) as u64 + 4;
    let parts = splits as u64 * 4 * form.quads as u64 * part_words;
    [0, 0, heads * form.tile_q as u64 * row_words(call.spec), heads * key_words(call), heads * parts]
}

/// Rounds of all loops of an invocation for a tile, from above.
fn rounds_of_tile(call: &Call, form: &Form) -> u64 {
    let (q, v) = (call.spec.head_dim.div_ceil(4) as u64, call.spec.v_head_dim.div_ceil(4) as u64);
    let quads = form.quads as u64;
    let per_score = 2 + call.of_score.rounds as u64;
    match by_lanes(call.limits) {
        true => quads * (4 * q + 14 + 16 * per_score + (v / 8 + 1) * 10),
        false => {
            let (tile, lanes) = (form.tile_k as u64, form.lanes as u64);
            let steps = tile * form.parts as u64 / lanes + 1;
            let scores = steps * (1 + (q + 1) * (1 + quads) + quads * (2 + form.parts as u64));
            let own = tile * quads / lanes + 1;
            let values = (tile * form.columns as u64 / lanes + 2) * (2 + quads);
            scores + own * (6 + 4 * per_score) + lanes + quads * 10 + values
        }
    }
}

/// The most splits of a tuning, and the keys of one.
fn split(call: &Call, form: &Form, splits: u32) -> [u32; 2] {
    let keys = kv_len(call).max(1);
    let most = (call.limits.max_loop_rounds as u64 / 2 / rounds_of_tile(call, form)).max(1) * form.tile_k as u64;
    let unit = form.tile_k as u64;
    let size = keys.div_ceil(splits.max(1) as u64).min(most).next_multiple_of(unit);
    let size = if size > most { most } else { size };
    [keys.div_ceil(size) as u32, size as u32]
}

pub(crate) fn candidates(call: &Call) -> Vec<Tuning> {
    let Call { kernel, spec, shape, limits, .. } = *call;
    if kernel != Kernel::Attention || !may_split(spec, shape) {
        return Vec::new();
    }
    let form = Form::new(call);
    // such lanes walk over the keys of a tile by one stride
    if by_lanes(limits) && !shape.cache.runs(form.tile_k) {
        return Vec::new();
    }
    let key_workgroups = shape.kv_len.div_ceil(form.tile_q);
    let keys_fit = !keys_first(call) || (key_workgroups <= limits.max_workgroups && !spec.packed);
    let lanes_fit = form.lanes.max(form.tile_q) <= limits.max_invocations && form.columns <= form.lanes.max(8);
    let loops_fit = rounds_of_tile(call, &form) <= limits.max_loop_rounds as u64;
    if form.shared > limits.max_workgroup_storage || !lanes_fit || !keys_fit || !loops_fit {
        return Vec::new();
    }
    let heads = spec.num_kv_heads as u64 * sequences(call);
    let wanted = if limits.cpu { CPU_WORKGROUPS } else { GPU_WORKGROUPS };
    let most = (kv_len(call).div_ceil(LEAST_KEYS)).min(MAX_SPLITS);
    let guess = wanted.div_ceil(heads.max(1)).min(most).max(1).next_power_of_two() as u32;
    let tuning =
        |splits: u32| Tuning { splits, tile_q: form.tile_q, tile_k: form.tile_k, ..Tuning::of(Family::Decode) };
    let others = (0..=MAX_SPLITS.ilog2()).map(|n| 1 << n).filter(|n| *n != guess);
    let sensible = |n: &u32| (*n as u64 - 1) * (form.tile_k as u64) < kv_len(call).max(1);
    let fits = |n: &u32| {
        let words = scratch_words(call, &form, split(call, &form, *n)[0], 1).iter().sum::<u64>();
        4 * (words + lse_words(spec, shape)) + 128 <= limits.max_binding_size
    };
    std::iter::once(guess).chain(others.filter(sensible)).filter(fits).map(tuning).collect()
}

pub(crate) fn lay_out(call: &Call, tuning: &Tuning) -> Result<LaidOut> {
    let Call { spec, shape, limits, of_score, .. } = *call;
    let form = Form::new(call);
    let [splits, split_keys] = split(call, &form, tuning.splits);
    let rows = 4 * form.quads;
    let words = |heads: u64| scratch_words(call, &form, splits, heads);
    let bytes = |heads: u64| 4 * words(heads).iter().sum::<u64>();
    let whole = [splits as u64, spec.num_kv_heads as u64, sequences(call)];
    let flop = split_keys as f64 * rows as f64 * flop_per_score(spec, of_score);
    let most = if by_lanes(limits) { limits.max_flop_per_dispatch.max(CPU_FLOP) } else { limits.max_flop_per_dispatch };
    let scratch = SCRATCH_BYTES.min(limits.max_binding_size / 2);
    let part = grid::largest_part(whole, most / flop, limits, |[_, y, z]| bytes(y * z) <= scratch);
    let of_keys = shape.kv_len.div_ceil(form.tile_q);
    if (keys_first(call) && of_keys > limits.max_workgroups) || rows > limits.max_workgroups {
        return Err(Error::limit(
            "max_compute_workgroups_per_dimension",
            format!("{of_keys} workgroups of keys and {rows} of rows in one dispatch"),
            "call for fewer tokens at a time",
        ));
    }
    let mut chunks = Vec::new();
    for Cut { first, workgroups: [xn, yn, zn] } in grid::cuts(whole, part, 4)? {
        let mut add = |entry: &'static str, [x, y, z]: [u32; 3], xn: u32| {
            let (keys, workgroups) = ([0, shape.kv_len], [xn, yn, zn]);
            chunks.push(ChunkDispatch { first: [x, y, z], keys, workgroups, entry, tiles: 1, heads: yn });
        };
        let [_, y, z] = first;
        // all splits of a head share what is prepared, and `combine`
        if first[0] == 0 {
            if keys_first(call) {
                add("prepare_k", [0, y, z], of_keys);
            }
            add("prepare_q", [0, y, z], 1);
        }
        add("main", first, xn);
        if (first[0] + xn) as u64 == whole[0] {
            let q_len = if spec.packed { shape.max_seqlen_q } else { shape.q_len };
            add("combine", [0, y, z], q_len * spec.group());
        }
    }
    let mut constants = vec![
        ("ROW_QUADS", form.quads),
        ("ROWS", rows),
        ("PLAIN", plain(spec) as u32),
        ("COMBINE_LANES", if limits.cpu { 8 } else { 64 }),
    ];
    constants.extend(Prepared { keys: keys_first(call), values: false }.constants(spec));
    if !by_lanes(limits) {
        constants.extend([("LANES", form.lanes), ("PARTS", form.parts), ("COLUMNS", form.columns)]);
    }
    let quads = key_quads(spec, call.aligned).filter(|_| turns(spec, call.aligned, by_lanes(limits)));
    if let Some([quads, outside]) = quads {
        constants.extend([("QUADS", quads), ("UNITS", quads + outside)]);
    }
    let prepared = if keys_first(call) { ".keys-first" } else { "" };
    Ok(LaidOut {
        chunks,
        tile: [form.tile_q, form.tile_k],
        constants,
        scratch: words(part[1] * part[2]),
        splits: [splits, split_keys],
        label: format!(".decode{}.s{split_keys}{prepared}", if by_lanes(limits) { "-lanes" } else { "" }),
        ..LaidOut::default()
    })
}
