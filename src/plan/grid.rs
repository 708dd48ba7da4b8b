//! Dispatches: a grid cut to the limits; one cutter for all families but `rows`, whose keys may be cut too.

use crate::equation::spec::Spec;
use crate::error::Result;
use crate::inputs::shape::Shape;
use crate::plan::budget::{MAX_DISPATCHES, SCRATCH, too_many_dispatches};
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::products::Products;
use crate::plan::user::Cost;

/// What a family makes of it.
#[derive(Default)]
pub(crate) struct LaidOut {
    /// The dispatches, in order.
    pub(crate) chunks: Vec<ChunkDispatch>,
    /// Rows and keys of a tile: TILE_Q and TILE_K.
    pub(crate) tile: [u32; 2],
    /// More constants of the preamble.
    pub(crate) constants: Vec<(&'static str, u32)>,
    /// Words of `work` for each kind of scratch.
    pub(crate) scratch: [u64; SCRATCH],
    /// Parts that the keys of a row are split into, and keys of one.
    pub(crate) splits: [u32; 2],
    /// Whether the keys of a row are cut over dispatches, its state carried in `work`.
    pub(crate) carry: bool,
    /// Products of A and B that are made beforehand.
    pub(crate) products: Products,
    /// What the plan's label says of it, each with a dot before it.
    pub(crate) label: String,
}

/// One dispatch of a plan: its part of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkDispatch {
    /// First row tile, kv head and sequence; with `keys` the `chunk` uniform.
    pub first: [u32; 3],
    /// The key rows (of each sequence) that it covers, first and one past the last.
    pub keys: [u32; 2],
    /// Workgroups in x (row tiles), y (kv heads) and z (batch).
    pub workgroups: [u32; 3],
    /// The entry point: `main`, or one that makes products of A or B for the dispatches of `main` behind it.
    pub entry: &'static str,
    /// Row tiles of the part that this dispatch and what runs before it belong to.
    pub(crate) tiles: u32,
    /// Heads of that part.
    pub(crate) heads: u32,
}

/// Chunks of four elements in a row, rounded up to the four that a loop takes in a round.
pub(crate) fn padded(dim: u32) -> u32 {
    dim.div_ceil(16) * 4
}

/// Words of `work` before products: lse, and the carried state of every row.
pub(crate) fn base_words(kernel: Kernel, spec: &Spec, shape: &Shape, carry: bool) -> u64 {
    let state = if carry { 4 * spec.v_head_dim.div_ceil(4) as u64 + 4 } else { 0 };
    if kernel == Kernel::Attention { lse_words(spec, shape) * (1 + state) } else { 0 }
}

/// Words of lse in `work`; the carried state of a row stands behind them.
pub(crate) fn lse_words(spec: &Spec, shape: &Shape) -> u64 {
    shape.batch as u64 * spec.num_heads as u64 * shape.q_len as u64
}

/// A grid whose workgroups depend on nothing, cut into dispatches that respect the limits of grid and work.
pub(crate) fn cut_grid(grid: [u64; 3], flop_per_workgroup: f64, limits: &Limits) -> Result<Vec<ChunkDispatch>> {
    let part = largest_part(grid, limits.max_flop_per_dispatch / flop_per_workgroup, limits, |_| true);
    let whole = |Cut { first, workgroups }: Cut| {
        let [tiles, heads, _] = workgroups;
        ChunkDispatch { first, keys: [0, 1], workgroups, entry: "main", tiles, heads }
    };
    Ok(cuts(grid, part, 1)?.into_iter().map(whole).collect())
}

/// Bytes that scratch in `work` may take: what an engine allows, as far as a binding reaches behind the results.
pub(crate) fn scratch_bytes(kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits) -> u64 {
    let results = 4 * base_words(kernel, spec, shape, false) + 128;
    limits.max_scratch_bytes.min(limits.max_binding_size.saturating_sub(results))
}

/// The largest part of a grid, rows (or splits) first, then heads, then sequences: at most so many workgroups, and what `fits`. Of several
/// parts none is much smaller than the others.
pub(crate) fn largest_part(
    grid: [u64; 3],
    workgroups: f64,
    limits: &Limits,
    fits: impl Fn([u64; 3]) -> bool,
) -> [u64; 3] {
    let most = (workgroups as u64).max(1);
    let mut part = [1; 3];
    for axis in 0..3 {
        let others: u64 = part.iter().product();
        part[axis] = grid[axis].min(most / others).min(limits.max_workgroups as u64).max(1);
        while part[axis] > 1 && !fits(part) {
            part[axis] = part[axis].div_ceil(2);
        }
        part[axis] = grid[axis].max(1).div_ceil(grid[axis].max(1).div_ceil(part[axis]));
    }
    part
}

/// A part of a grid: where it starts, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cut {
    pub(crate) first: [u32; 3],
    pub(crate) workgroups: [u32; 3],
}

/// A grid in such parts, rows innermost; `dispatches` for each part.
pub(crate) fn cuts(grid: [u64; 3], part: [u64; 3], dispatches: u64) -> Result<Vec<Cut>> {
    let parts = grid.iter().zip(part).fold(1u64, |n, (whole, by)| n.saturating_mul(whole.div_ceil(by)));
    if parts.saturating_mul(dispatches) > MAX_DISPATCHES {
        return Err(too_many_dispatches());
    }
    let steps = |axis: usize| {
        let (whole, by) = (grid[axis], part[axis]);
        (0..whole.div_ceil(by)).map(move |i| [i * by, by.min(whole - i * by)].map(|n| n as u32))
    };
    let mut all = Vec::new();
    for [z, zn] in steps(2) {
        for [y, yn] in steps(1) {
            all.extend(steps(0).map(|[x, xn]| Cut { first: [x, y, z], workgroups: [xn, yn, zn] }));
        }
    }
    Ok(all)
}

/// Operations of a score and its value: products of the content and of each relative table, the value, the user's function.
pub(crate) fn flop_per_score(spec: &Spec, of_score: Cost) -> f64 {
    let dims = spec.head_dim * (1 + spec.relative.len() as u32) + spec.v_head_dim;
    2.0 * (dims + of_score.operations) as f64
}

/// The key rows that the dispatches of a row tile go over: those of the longest sequence; for scores, which fill whole rows, all.
pub(crate) fn key_rows(kernel: Kernel, spec: &Spec, shape: &Shape) -> u32 {
    if spec.packed && kernel == Kernel::Attention { shape.max_seqlen_k } else { shape.kv_len }
}
