//! Attention on cooperative matrices, f16 x f16 + f32: `shaders/kernel/coop.wgsl`. Only where [`crate::Limits::cooperative_matrix`] says so,
//! which an opened device does after a self-test ([`crate::GpuOptions`]); results are within [`crate::check::Arithmetic::F16Matrix`]'s
//! bounds, not within those of f32.
//!
//! Queries, keys and values come prepared, by dispatches before: rotated in f32, rounded to f16, in the order in which they are staged. Q and O stay in matrices over the
//! whole loop over keys, so what limits a tile is registers: of a lane (head_dim / 2 + v_head_dim) rows / subgroup for them, with 32 rows
//!
//! | head_dim | 64 | 96 | 128 | 192 | 256 |
//! |---|---|---|---|---|---|
//! | subgroups of 32 | 96 | 144 | 192 | 16 rows: 144 | 16 rows: 192 |
//! | subgroups of 64 | 48 | 72 | 96 | 144 | 192 |
//!
//! Workgroup memory, bytes: 16 (tile_k (d / 8 + 1) + v (tile_k / 8 + 1) + tile_q (tile_k / 4 + 1) + tile_q (tile_k / 8 + 1)) + 8:
//!
//! | head_dim | 64 | 96 | 128 | 192 | 256 |
//! |---|---|---|---|---|---|
//! | 128 x 32 | 38 408 | 43 016 | 47 624 | 56 840 | 66 056 |
//! | 128 x 16 | 21 768 | 24 328 | 26 888 | 32 008 | 37 128 |
//! | 64 x 32 | 24 072 | 28 680 | 33 288 | 42 504 | 51 720 |
//! | 64 x 16 | 13 576 | 16 136 | 18 696 | 23 816 | 28 936 |

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::plan::budget::COOP_FLOP;
use crate::plan::call::Call;
use crate::plan::family::prepare::{ACROSS, Preparing, units, workgroups_of_units};
use crate::plan::family::tile::{Scratch, completes_scores, part_of_rows, rows_of};
use crate::plan::grid;
use crate::plan::grid::{ChunkDispatch, LaidOut};
use crate::plan::kernel::Kernel;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::shader::dialect;
use crate::shader::dialect::{MatrixShape, Role};
use crate::shader::layout::Slot;
use std::ops::Range;

impl<'a> ShaderFiles<'a> {
    /// See family/coop.rs.
    pub(crate) fn coop(&mut self, call: &Call) {
        self.add("kernel/coop.wgsl", &[Slot::Work]);
        self.add("common/prepared_halves.wgsl", &[]);
        self.glue +=
            &Slot::Work.binding("f32", 0).declaration().replace("work: array<f32>", "work_half: array<vec4<f16>>");
        self.tiles(false);
        self.add("common/lse.wgsl", &[]);
        self.add("common/lse_halves.wgsl", &[]);
        self.add("common/tile_rows.wgsl", &[]);
        self.prepares_tiles(call.aligned);
        self.add("prepare/values_columns.wgsl", &[]);
        self.add("common/online_softmax.wgsl", &[]);
        self.of_scores(call.aligned);
        self.add(if call.aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
        self.sink();
        self.out(call.aligned);
        self.full_range();
        if let Some(form) = Form::new(call, [self.tuning.tile_q, self.tuning.tile_k]) {
            self.glue += &form.products(self.spec);
        }
    }
}

/// Subgroups of a workgroup.
const SUBGROUPS: u32 = 4;

/// Lanes of a workgroup that prepares units.
const UNIT_LANES: u32 = 256;

/// Rows of a subgroup, and keys of a tile.
const FORMS: [[u32; 2]; 6] = [[32, 32], [32, 16], [16, 32], [16, 16], [8, 32], [8, 16]];

/// How a tile is divided.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Form {
    shape: MatrixShape,
    /// Rows of a subgroup.
    rows: u32,
    keys: u32,
    /// Lanes that share the subgroup's matrices: a row is one lane's at least, so where subgroups are smaller than that, several compute the same.
    subgroup: u32,
}

impl Form {
    /// None: the tile does not fit the spec or the device.
    fn new(call: &Call, [tile_q, tile_k]: [u32; 2]) -> Option<Self> {
        let (spec, limits) = (call.spec, call.limits);
        let [rows, keys] = FORMS.into_iter().find(|[rows, keys]| [SUBGROUPS * rows, *keys] == [tile_q, tile_k])?;
        let has = limits.matrix_subgroup;
        if !matches!(limits.cooperative_matrix, 8 | 16) || !(4..=128).contains(&has) || !has.is_power_of_two() {
            return None;
        }
        let shape = MatrixShape::square(limits.cooperative_matrix);
        let form = Form { shape, rows, keys, subgroup: has.max(rows) };
        let whole = |n: u32, of: u32| n.is_multiple_of(of);
        let blocks = whole(rows, shape.m) && whole(keys, shape.n) && whole(keys, shape.k);
        let lanes = whole(keys / 4, form.parts()) && form.lanes() <= limits.max_invocations;
        let registers = rows * (spec.head_dim / 2 + spec.v_head_dim) / form.subgroup;
        let held = limits.cpu || registers <= limits.registers / 4 * 3;
        (blocks && lanes && held && form.shared_bytes(spec) <= limits.max_workgroup_storage).then_some(form)
    }

    fn tile(&self) -> [u32; 2] {
        [SUBGROUPS * self.rows, self.keys]
    }
    fn lanes(&self) -> u32 {
        SUBGROUPS * self.subgroup
    }
    /// Lanes of a row.
    fn parts(&self) -> u32 {
        self.subgroup / self.rows
    }
    /// Bytes of workgroup memory.
    fn shared_bytes(&self, spec: &Spec) -> u32 {
        let [rows, keys] = self.tile();
        let vectors = keys * (spec.head_dim / 8 + 1) + spec.v_head_dim * (keys / 8 + 1);
        16 * (vectors + rows * (keys / 4 + 1) + rows * (keys / 8 + 1)) + 8
    }

    /// Rounds of all loops of an invocation, from above; of stray values too.
    fn rounds(&self, call: &Call, keys: u32) -> u64 {
        let (spec, own) = (call.spec, self.keys / 4 / self.parts());
        let staged = self.keys * (spec.head_dim + spec.v_head_dim) / 8 / self.lanes() + 2;
        let shrunk = own * (spec.v_head_dim.div_ceil(self.keys) + 5);
        let tile = (2 * staged + shrunk + 16) as u64 + own as u64 * 4 * (1 + call.of_score.rounds as u64);
        let stray = (spec.v_head_dim / 4 / self.parts() + 1) as u64 * (keys as u64 + 1);
        (keys.div_ceil(self.keys) as u64 + 1) * tile + stray + (4 * spec.head_dim + spec.v_head_dim + 400) as u64
    }

    /// The matrices, and what is done with them. Those of Q and O belong to the invocation; each has a name, since a matrix that is indexed may end in memory.
    fn products(&self, spec: &Spec) -> String {
        let MatrixShape { m, n, k } = self.shape;
        let [rows, keys, deep] = [self.rows / m, self.keys / n, self.keys / k];
        let [inner, columns] = [spec.head_dim / k, spec.v_head_dim / n];
        // where a subgroup's rows begin
        let mine = |stride: &str| format!("lane / {}u * {}u * {stride}", self.subgroup, self.rows);
        let mut text = format!("// Cooperative matrices.\n{}", dialect::types(self.shape));
        let mut line = |line: String| {
            text += &line;
            text.push('\n');
        };
        for r in 0..rows {
            (0..inner).for_each(|c| line(format!("var<private> q{r}_{c}: {};", dialect::name(Role::Left))));
            (0..columns).for_each(|c| line(format!("var<private> o{r}_{c}: {};", dialect::name(Role::Sum))));
        }

        line("// Q, from four `at` of `work_half` on.".into());
        line("fn coop_queries(lane: u32, at: u32) {".into());
        line(format!("    let source = at + {};", mine("Q_STRIDE")));
        for r in 0..rows {
            for c in 0..inner {
                let at = format!("source + {}u * Q_STRIDE + {}u", r * m, c * k / 4);
                line(format!("    q{r}_{c} = {};", dialect::load(Role::Left, "work_half", &at, "Q_STRIDE")));
            }
        }
        line("}".into());

        line("// S = Q K^T, to s_tile.".into());
        line("fn coop_scores(lane: u32) {".into());
        line(format!("    let to = {};", mine("S_STRIDE")));
        for b in 0..keys {
            for c in 0..inner {
                let at = format!("{}u * K_STRIDE + {}u", b * n, c * k / 4);
                line(format!("    let k{b}_{c} = {};", dialect::load(Role::Right, "k_tile", &at, "K_STRIDE")));
                for r in 0..rows {
                    let before = if c == 0 { dialect::zero(Role::Sum) } else { format!("s{r}_{b}_{}", c - 1) };
                    let next = dialect::multiply_add(&format!("q{r}_{c}"), &format!("k{b}_{c}"), &before);
                    line(format!("    let s{r}_{b}_{c} = {next};"));
                }
            }
        }
        for r in 0..rows {
            for b in 0..keys {
                let at = format!("to + {}u * S_STRIDE + {}u", r * m, b * n / 4);
                line(format!("    {}", dialect::store(&format!("s{r}_{b}_{}", inner - 1), "s_tile", &at, "S_STRIDE")));
            }
        }
        line("}".into());

        // as many columns of O as s_tile has, at a time
        let groups = || (0..columns).step_by(keys as usize).map(|c| c..(c + keys).min(columns));
        let of_group = |group: &Range<u32>, act: fn(&str, &str) -> String| -> String {
            let each = (0..rows).flat_map(|r| group.clone().map(move |c| (r, c)));
            let one = |(r, c): (u32, u32)| {
                let at = format!("at + {}u * S_STRIDE + {}u", r * m, (c - group.start) * n / 4);
                format!("    {}\n", act(&format!("o{r}_{c}"), &at))
            };
            each.map(one).collect()
        };
        let stored = |o: &str, at: &str| dialect::store(o, "s_tile", at, "S_STRIDE");
        let loaded = |o: &str, at: &str| format!("{o} = {};", dialect::load(Role::Sum, "s_tile", at, "S_STRIDE"));
        line("// O, its rows times what their lanes say.".into());
        line("fn coop_rescale(lane: u32, shrink: f32) {".into());
        line(format!("    let at = {};", mine("S_STRIDE")));
        for group in groups() {
            line(format!("    workgroupBarrier();\n{}    workgroupBarrier();", of_group(&group, stored)));
            line("    shrink_columns(lane, shrink);".into());
            line(format!("    workgroupBarrier();\n{}", of_group(&group, loaded)));
        }
        line("}".into());

        line("// O += P V.".into());
        line("fn coop_values(lane: u32) {".into());
        line(format!("    let source = {};", mine("P_STRIDE")));
        for t in 0..deep {
            for r in 0..rows {
                let at = format!("source + {}u * P_STRIDE + {}u", r * m, t * k / 4);
                line(format!("    let p{r}_{t} = {};", dialect::load(Role::Left, "p_tile", &at, "P_STRIDE")));
            }
            for c in 0..columns {
                let at = format!("{}u * V_STRIDE + {}u", c * n, t * k / 4);
                line(format!("    let v{t}_{c} = {};", dialect::load(Role::Right, "v_tile", &at, "V_STRIDE")));
                for r in 0..rows {
                    let o = format!("o{r}_{c}");
                    let next = dialect::multiply_add(&format!("p{r}_{t}"), &format!("v{t}_{c}"), &o);
                    line(format!("    {o} = {next};"));
                }
            }
        }
        line("}".into());

        line("// O, to where the caller finds it.".into());
        line("fn coop_outputs(lane: u32, here: TilePlace, inv: f32) {".into());
        line(format!("    let at = {};", mine("S_STRIDE")));
        for group in groups() {
            line(format!("    workgroupBarrier();\n{}    workgroupBarrier();", of_group(&group, stored)));
            line(format!("    put_columns(lane, {}u, here, inv);", group.start * n / 4));
        }
        line("}".into());
        text
    }
}

/// Operations of a dispatch.
fn budget(call: &Call) -> f64 {
    call.limits.max_flop_per_dispatch * if call.limits.cpu { 1.0 } else { COOP_FLOP }
}

pub(crate) fn candidates(call: &Call) -> Vec<Tuning> {
    let Call { kernel, spec, shape, limits, .. } = *call;
    let fits = |dim: u32| dim.is_multiple_of(16) && dim >= 16;
    let xpos = spec.rotary.as_ref().is_some_and(|r| r.xpos.is_some());
    let suits = kernel == Kernel::Attention
        && limits.cooperative_matrix > 0
        && limits.f16
        && [spec.dtype, spec.k_storage(), spec.v_storage(), spec.out_storage()] == [Dtype::F16; 4]
        && fits(spec.head_dim)
        && fits(spec.v_head_dim)
        && UNIT_LANES <= limits.max_invocations
        && !(spec.packed || spec.rotates_values() || spec.linear.is_some() || xpos)
        && spec.relative.is_empty()
        && spec.score_mod.is_none()
        && spec.mask_mod.is_none();
    if !suits {
        return Vec::new();
    }
    let takes = |form: &Form| {
        let [tile_q, tile_k] = form.tile();
        let flop = tile_q as f64 * shape.kv_len as f64 * grid::flop_per_score(spec, call.of_score);
        let [of_q, of_k] = [(shape.q_len, 0), (shape.kv_len, 1)]
            .map(|(n, i)| workgroups_of_units(n as u64 + 1, units(call)[i], ACROSS, UNIT_LANES));
        flop <= budget(call)
            && scratch(call, form).fits(call, [1; 3])
            && form.rounds(call, shape.kv_len) <= limits.max_loop_rounds as u64
            && of_q.max(of_k).max(shape.kv_len.div_ceil(tile_k) as u64) <= limits.max_workgroups as u64
    };
    let of = |[rows, keys]: [u32; 2]| Form::new(call, [SUBGROUPS * rows, keys]);
    let mut forms: Vec<Form> = FORMS.into_iter().filter_map(of).filter(takes).collect();
    // no more rows than there are; a software adapter whose subgroups are small computes what is shared once for each, and takes seconds to compile what is unrolled
    let rows = rows_of(call).next_power_of_two();
    let more = |form: &Form| form.rows > 8 && (SUBGROUPS * form.rows) as u64 > rows;
    forms.sort_by_key(|form| (limits.cpu.then_some((form.subgroup > limits.matrix_subgroup, form.keys)), more(form)));
    let tuning = |form: Form| Tuning { tile_q: form.tile()[0], tile_k: form.keys, ..Tuning::of(Family::Coop) };
    forms.into_iter().map(tuning).collect()
}

/// Rows of queries, two elements a word; tiles of keys and values, each with a vector more.
fn scratch(call: &Call, form: &Form) -> Scratch {
    let (spec, [tile_q, tile_k]) = (call.spec, form.tile().map(u64::from));
    let [d, v] = [spec.head_dim, spec.v_head_dim].map(u64::from);
    let tiles = (call.shape.kv_len as u64).div_ceil(tile_k);
    Scratch { tile: [0, d / 2 * tile_q], head: [0, tiles * ((d + v) / 2 * tile_k + 4)], lse: 2 * tile_q, packed: false }
}

pub(crate) fn lay_out(call: &Call, tuning: &Tuning) -> Result<LaidOut> {
    let Call { spec, shape, of_score, .. } = *call;
    let form = Form::new(call, [tuning.tile_q, tuning.tile_k]).ok_or_else(|| tuning.misfit())?;
    let (tile, scratch) = (form.tile(), scratch(call, &form));
    let whole = [rows_of(call).div_ceil(tile[0] as u64), spec.num_kv_heads as u64, shape.batch as u64];
    let flop = tile[0] as f64 * shape.kv_len as f64 * grid::flop_per_score(spec, of_score);
    let part = part_of_rows(call, whole, budget(call), flop, |part| scratch.fits(call, part));
    let rows = Preparing::of(spec, call.aligned) == Preparing::Rows;
    let [q_units, k_units] = units(call);
    let in_units = |tokens: u32, units: u32| workgroups_of_units(tokens as u64, units, ACROSS, UNIT_LANES) as u32;
    let mut chunks = Vec::new();
    for grid::Cut { first, workgroups: [xn, yn, zn] } in grid::cuts(whole, part, 5)? {
        let mut add = |entry: &'static str, tiles: u32, heads: u32| {
            let workgroups = [tiles, heads, zn];
            chunks.push(ChunkDispatch { first, keys: [0, shape.kv_len], workgroups, entry, tiles: xn, heads: yn });
        };
        // keys and values serve every row
        if first[0] == 0 {
            let (tiles, heads) =
                if rows { (shape.kv_len.div_ceil(tile[0]), yn) } else { (in_units(shape.kv_len, k_units), 1) };
            add("prepare_k", tiles, heads);
            add("prepare_v", shape.kv_len.div_ceil(tile[1]), yn);
        }
        let tokens = (xn * tile[0]).div_ceil(spec.group()) + 1;
        let (tiles, heads) = if rows { (xn, yn) } else { (in_units(tokens, q_units), 1) };
        add("prepare_q", tiles, heads);
        add("main", xn, yn);
        add("store_lse", xn, yn);
    }
    let plain = !completes_scores(spec) && !spec.mask.dense;
    let constants = vec![
        ("LANES", form.lanes()),
        ("PARTS", form.parts()),
        ("PLAIN", plain as u32),
        ("ACROSS", ACROSS),
        ("UNIT_LANES", UNIT_LANES),
        ("UNITS", q_units),
        ("QUADS", spec.rotary.as_ref().map_or(0, |r| r.rotary_dim / 8)),
    ];
    let MatrixShape { m, n, k } = form.shape;
    let label = format!(".coop{m}x{n}x{k}.sg{}", form.subgroup);
    Ok(LaidOut { chunks, tile, constants, scratch: scratch.words(part), label, ..LaidOut::default() })
}
