//! Attention on cooperative matrices, f16 x f16 + f32: `shaders/kernel/coop.wgsl`. Only where [`crate::Limits::cooperative_matrix`] says so,
//! which an opened device does after a self-test ([`crate::GpuOptions`]); results are within [`crate::check::Arithmetic::F16Matrix`]'s
//! bounds, not within those of f32.
//!
//! Keys and queries are rotated in f32 while they are staged, a lane a row, and rounded to f16. Workgroup memory, bytes:
//! 2 tile_q (d + 8) + 2 tile_k (max(d, v) + 8) + 4 tile_q (tile_k + 4) + 2 tile_q (tile_k + 8) + 4 tile_q (v + 4) + 4 lanes + 4:
//!
//! | head_dim | 64 | 96 | 128 | 192 | 256 |
//! |---|---|---|---|---|---|
//! | 64 x 32 | 45 572 | 59 908 | 74 244 | - | - |
//! | 32 x 32 | 25 348 | 33 540 | 41 732 | 58 116 | - |
//! | 16 x 32 | 15 236 | 20 356 | 25 476 | 35 716 | 45 956 |
//!
//! so 32 KiB hold heads up to 160, and 48 KiB (most of what Vulkan offers) heads up to 256. Nothing of it was measured on a GPU. Measure
//! first there: whether the self-test passes; the share of staging, where at most tile_k lanes of 128 rotate; O's way through workgroup memory.

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::plan::call::Call;
use crate::plan::grid;
use crate::plan::grid::{ChunkDispatch, LaidOut, cut_grid};
use crate::plan::kernel::Kernel;
use crate::plan::slots::ShaderFiles;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::shader::layout::Slot;
use std::fmt::Write;

impl<'a> ShaderFiles<'a> {
    /// See family/coop.rs.
    pub(crate) fn coop(&mut self, aligned: bool) {
        self.add("kernel/coop.wgsl", &[Slot::Work]);
        self.add("common/online_softmax.wgsl", &[]);
        self.of_scores(aligned);
        self.add(if aligned { "tensor/v_aligned.wgsl" } else { "tensor/v_unaligned.wgsl" }, &[Slot::V]);
        self.sink();
        self.out(aligned);
        self.glue += &self::products(self.spec, self.matrix);
    }
}

/// Lanes of a workgroup: whole subgroups of every size up to 128.
const LANES: u32 = 128;

/// Keys of a tile.
const TILE_K: u32 = 32;

/// Rows of a tile.
const TILES_Q: [u32; 3] = [64, 32, 16];

/// Bytes of workgroup memory.
fn shared_bytes(spec: &Spec, tile_q: u32) -> u32 {
    let (d, v) = (spec.head_dim, spec.v_head_dim);
    let scores = tile_q * (4 * (TILE_K + 4) + 2 * (TILE_K + 8));
    2 * tile_q * (d + 8) + 2 * TILE_K * (d.max(v) + 8) + scores + 4 * tile_q * (v + 4) + 4 * LANES + 4
}

/// Rounds of all loops of an invocation, from above; of stray values too.
fn rounds(call: &Call, tile_q: u32, keys: u32) -> u64 {
    let (spec, limits) = (call.spec, call.limits);
    let (d, v) = (spec.head_dim.div_ceil(4), spec.v_head_dim.div_ceil(4));
    let matrix = limits.cooperative_matrix.max(1);
    let subgroups = LANES.checked_div(limits.subgroup_size).unwrap_or(1).max(1);
    let blocks = tile_q / matrix * (TILE_K / matrix).max(spec.v_head_dim / matrix);
    let parts = LANES / tile_q;
    // load, norms, rotation, store
    let row = 9 * d + 2 * spec.head_dim;
    let tile = row + 2 * (blocks / subgroups + 1) + TILE_K * v / LANES + 2 * TILE_K / parts + parts + 4 * v / parts + 6;
    let scores = (tile_q * TILE_K).div_ceil(LANES) as u64 * call.of_score.rounds as u64;
    let stray = (v.div_ceil(parts) as u64 + 1) * (keys as u64 + 1);
    keys.div_ceil(TILE_K) as u64 * (tile as u64 + scores) + stray + (row + 4 * v + 2 * parts) as u64 + 8
}

pub(crate) fn candidates(call: &Call) -> Vec<Tuning> {
    let Call { kernel, spec, shape, limits, .. } = *call;
    let matrix = limits.cooperative_matrix;
    let fits = |dim: u32| dim.is_multiple_of(16) && dim >= 16;
    let xpos = spec.rotary.as_ref().is_some_and(|r| r.xpos.is_some());
    let suits = kernel == Kernel::Attention
        && matches!(matrix, 8 | 16)
        && limits.f16
        && spec.dtype == Dtype::F16
        && fits(spec.head_dim)
        && fits(spec.v_head_dim)
        && LANES <= limits.max_invocations
        && !(spec.packed || spec.rotates_values() || spec.linear.is_some() || xpos)
        && spec.relative.is_empty()
        && spec.score_mod.is_none()
        && spec.mask_mod.is_none();
    if !suits {
        return Vec::new();
    }
    let rows = shape.q_len as u64 * spec.group() as u64;
    let of = |tile_q: u32| Tuning { tile_q, tile_k: TILE_K, ..Tuning::of(Family::Coop) };
    let takes = |tile_q: &u32| {
        let flop = *tile_q as f64 * shape.kv_len as f64 * grid::flop_per_score(spec, call.of_score);
        shared_bytes(spec, *tile_q) <= limits.max_workgroup_storage
            && flop <= limits.max_flop_per_dispatch
            && rounds(call, *tile_q, shape.kv_len) <= limits.max_loop_rounds as u64
    };
    let mut tiles: Vec<u32> = TILES_Q.into_iter().filter(takes).collect();
    // no more rows than there are
    tiles.sort_by_key(|q| *q > 16 && *q as u64 > rows.next_power_of_two());
    tiles.into_iter().map(of).collect()
}

pub(crate) fn lay_out(call: &Call, tuning: &Tuning) -> Result<LaidOut> {
    let Call { spec, shape, limits, of_score, .. } = *call;
    let rows = shape.q_len as u64 * spec.group() as u64;
    let grid = [rows.div_ceil(tuning.tile_q as u64), spec.num_kv_heads as u64, shape.batch as u64];
    let flop = tuning.tile_q as f64 * shape.kv_len as f64 * grid::flop_per_score(spec, of_score);
    let chunks = cut_grid(grid, flop, limits)?;
    let chunks = chunks.into_iter().map(|c| ChunkDispatch { keys: [0, shape.kv_len], ..c }).collect();
    Ok(LaidOut {
        chunks,
        tile: [tuning.tile_q, TILE_K],
        constants: vec![("LANES", LANES), ("MATRIX", limits.cooperative_matrix)],
        label: format!(".coop{}", limits.cooperative_matrix),
        ..LaidOut::default()
    })
}

/// The matrices' types and the products of a block, unrolled: no matrix is carried by a loop.
pub(crate) fn products(spec: &Spec, matrix: u32) -> String {
    let mut text = String::new();
    for (name, scalar) in [("A", "f16"), ("B", "f16"), ("C", "f32")] {
        let _ = writeln!(text, "alias Matrix{name} = coop_mat{matrix}x{matrix}<{scalar}, {name}>;");
    }
    let mut chain = |head: &str, start: &str, n: u32, a: &dyn Fn(u32) -> String, b: &dyn Fn(u32) -> String| {
        let _ = writeln!(text, "fn {head} -> MatrixC {{\n    let x0 = {start};");
        for i in 0..n {
            let (a, b) = (a(i * matrix), b(i * matrix));
            let _ = writeln!(text, "    let x{} = coopMultiplyAdd({a}, {b}, x{i});", i + 1);
        }
        let _ = writeln!(text, "    return x{n};\n}}");
    };
    // a key is a row of kv_half: K^T by columns, V by rows
    chain(
        "coop_scores(q_at: u32, k_at: u32)",
        "MatrixC()",
        spec.head_dim / matrix,
        &|e| format!("coopLoadT<MatrixA>(&q_half[q_at + {e}u], Q_STRIDE)"),
        &|e| format!("coopLoad<MatrixB>(&kv_half[k_at + {e}u], KV_STRIDE)"),
    );
    chain(
        "coop_values(p_at: u32, v_at: u32, o_at: u32)",
        "coopLoadT<MatrixC>(&o_tile[o_at], O_STRIDE)",
        TILE_K / matrix,
        &|t| format!("coopLoadT<MatrixA>(&p_half[p_at + {t}u], P_STRIDE)"),
        &|t| format!("coopLoadT<MatrixB>(&kv_half[v_at + {t}u * KV_STRIDE], KV_STRIDE)"),
    );
    text
}
