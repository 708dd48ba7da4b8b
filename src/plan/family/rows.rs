//! One lane a row: every kernel, every spec, every device. What no other family takes.

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::inputs::shape::Shape;
use crate::plan::append::{self, Units};
use crate::plan::budget::{MAX_DISPATCHES, PRODUCT_BYTES, TILE_Q, tile_k, too_many_dispatches};
use crate::plan::call::Call;
use crate::plan::grid::{ChunkDispatch, LaidOut, flop_per_score, key_rows};
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::linear;
use crate::plan::linear::split_times;
use crate::plan::products::Products;
use crate::plan::slots::ShaderFiles;
use crate::plan::storage::{source_file, storage_of};
use crate::plan::tuning::tuning::Family;
use crate::plan::user::Cost;
use crate::shader::layout::Slot;
use std::fmt::Write;

impl<'a> ShaderFiles<'a> {
    pub(crate) fn append(&mut self, aligned: bool) {
        let shares_words = storage_of(self.spec, self.kernel, Slot::K).is_some_and(Dtype::shares_words);
        let new = if aligned { "tensor/new_aligned.wgsl" } else { "tensor/new_unaligned.wgsl" };
        let put = match (aligned, shares_words) {
            (true, _) => "tensor/put_aligned.wgsl",
            (false, false) => "tensor/put_f32_unaligned.wgsl",
            (false, true) => "tensor/put_16_unaligned.wgsl",
        };
        self.add("tensor/append_last.wgsl", &[]);
        self.cache();
        self.add(new, &[Slot::NewK, Slot::NewV]);
        self.sequence();
        self.kv_length();
        match self.kernel.appends_blocks(self.spec) {
            true => self.append_blocks(),
            false => {
                self.add("kernel/append.wgsl", &[]);
                self.add(put, &[Slot::K, Slot::V]);
            }
        }
        // where attention takes keys as they are, they are prepared here; where it prepares them, they are stored as they come
        if self.spec.keys_rotated() {
            self.add("equation/keys_unrotated.wgsl", &[]);
            self.norm();
            self.rotation();
            self.k_position();
        } else {
            self.add("equation/keys_rotated.wgsl", &[]);
            self.add("common/row.wgsl", &[]);
        }
    }
    fn append_blocks(&mut self) {
        self.add("kernel/append_blocks.wgsl", &[Slot::K, Slot::V]);
        let keys = match self.spec.keys_rotated() {
            true => "families/append_keys_staged.wgsl",
            false => "families/append_keys_direct.wgsl",
        };
        self.add(keys, &[]);
        for file in ["common/append_words.wgsl", "common/block_values.wgsl", "common/exact.wgsl"] {
            self.add(file, &[]);
        }
        let stored = [self.spec.k_storage(), self.spec.v_storage()];
        stored.into_iter().for_each(|dtype| self.add(dtype.quantise_file(), &[]));
        self.add("tensor/storage_f16.wgsl", &[]); // d and m
        let one = |dtype: Dtype, dim: &str| format!("quantise_{}(row, c, {dim})", dtype.name());
        let body = match stored {
            [k, v] if k == v => format!("{};", one(k, "select(HEAD_DIM, V_HEAD_DIM, writes_v)")),
            [k, v] => format!("if (writes_v) {{ {}; }} else {{ {}; }}", one(v, "V_HEAD_DIM"), one(k, "HEAD_DIM")),
        };
        let _ = write!(self.glue, "// A piece of a row, from vec4 c on.\nfn quantise(row: u32, c: u32) {{ {body} }}\n");
    }
    pub(crate) fn rotate_source(&mut self, aligned: bool, in_place: bool) {
        let shares_words = storage_of(self.spec, self.kernel, Slot::Out).is_some_and(Dtype::shares_words);
        let slots: &[Slot] = if in_place { &[] } else { &[Slot::Q] };
        self.add(source_file(in_place, aligned, shares_words), slots);
        self.out(aligned);
        if self.tuning.family == Family::Turns {
            self.add("kernel/rotate_heads.wgsl", &[]);
            return self.quads();
        }
        self.add("kernel/rotate.wgsl", &[]);
        self.norm();
        self.rotation();
    }
}

pub(crate) fn lay_out(call: &Call) -> Result<LaidOut> {
    let Call { kernel, spec, shape, limits, of_score, .. } = *call;
    let tile_k = match kernel {
        Kernel::Linear => linear::tile_t(spec, limits.max_workgroup_storage),
        _ => tile_k(spec, limits.max_workgroup_storage),
    };
    let products = Products::new(kernel, spec, shape, limits, TILE_Q);
    if kernel.appends_blocks(spec) {
        let units = Units::of_caches(spec, shape)?;
        let (tile_q, constants) = append::lay_out(call, units);
        let grid = Grid { tile_q, append: Some(units), products: &products };
        let (chunks, _) = split(kernel, spec, shape, limits, tile_k, &grid, of_score)?;
        return Ok(LaidOut { chunks, constants, tile: [tile_q, tile_k], ..LaidOut::default() });
    }
    let grid = Grid { tile_q: TILE_Q, append: None, products: &products };
    let (chunks, [query, key]) = split(kernel, spec, shape, limits, tile_k, &grid, of_score)?;
    let carry = kernel == Kernel::Attention && chunks.iter().any(|c| c.keys[1] < shape.kv_len);
    let scratch = [query, key, 0, 0, 0];
    Ok(LaidOut { chunks, products, carry, scratch, tile: [TILE_Q, tile_k], ..LaidOut::default() })
}

/// The most keys of a dispatch: what the limits allow one workgroup, in whole tiles.
fn keys_per_dispatch(kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits, tile_k: u32, of_score: Cost) -> u32 {
    let (q, v) = (spec.head_dim.div_ceil(4), spec.v_head_dim.div_ceil(4));
    let pairs = spec
        .rotary
        .as_ref()
        .map_or(0, |r| r.rotary_dim / 2 * (1 + r.sums().map_or(0, |sums| sums.angles() as u32 * sums.streams as u32)));
    let branches = spec.rotary.as_ref().is_some_and(|r| r.branches.is_some());
    // rows turn twice, and no loop goes by four
    let pairs = if branches { 2 * pairs } else { pairs };
    let relative = spec.relative.len() as u32;
    let staged = if spec.rotates_values() { 3 * v + pairs } else { 0 };
    let (rows, products) = (2 * q * relative, q.max(v) * relative + spec.own_queries().unwrap_or(0));
    let norm = spec.norm.map_or(0, |norm| {
        let rows = if norm.all_heads { spec.num_heads } else { 1 };
        (3 * rows + 1) * q + if norm.weights { q } else { 0 }
    });
    let far = if branches { 4 * q + norm } else { 0 };
    // rounds of the loops in kernel/, common/k_tile, carry/, relative/, value_term/, norm/: once a dispatch, a tile, a key
    let (once, tile, key) = match kernel {
        Kernel::Attention => (
            3 * q + pairs + 4 * v + rows + norm + far,
            2 * q + pairs + v / 4 + 3 + staged + norm + far,
            q / 4 + v / 4 + 4 + products + if branches { q } else { 0 },
        ),
        Kernel::Scores => (
            3 * q + pairs + rows + norm + far,
            2 * q + pairs + 2 + norm + far,
            q / 4 + 2 + products + if branches { q } else { 0 },
        ),
        Kernel::RotateQ { .. }
        | Kernel::RotateK { .. }
        | Kernel::Append { .. }
        | Kernel::Embed { .. }
        | Kernel::Merge
        | Kernel::Linear => return shape.kv_len,
    };
    let rows = key_rows(kernel, spec, shape);
    let by_rounds = limits.max_loop_rounds.saturating_sub(once) / (tile + tile_k * (key + of_score.rounds));
    let flop_per_tile = (TILE_Q * tile_k) as f64 * flop_per_score(spec, of_score);
    let by_flop = (limits.max_flop_per_dispatch / flop_per_tile) as u32;
    by_rounds.min(by_flop).max(1).saturating_mul(tile_k).min(rows)
}

/// What the grid of a call is made of.
struct Grid<'a> {
    /// Rows of a workgroup.
    tile_q: u32,
    /// Of `append_blocks`: how rows of k and of v are written.
    append: Option<[Units; 2]>,
    products: &'a Products,
}

/// Operations that quantising an element takes, in integers.
const QUANTISE: f64 = 200.0;

/// The grid, cut into dispatches that respect the limits of grid, work and loops. Those of the same rows follow each other
/// in the order of keys.
///
/// Products of A and B are made in front of the dispatches that gather them, a part of the grid at a time; also returns the
/// words that the largest part takes.
fn split(
    kernel: Kernel,
    spec: &Spec,
    shape: &Shape,
    limits: &Limits,
    tile_k: u32,
    of_call: &Grid,
    of_score: Cost,
) -> Result<(Vec<ChunkDispatch>, [u64; 2])> {
    let products = of_call.products;
    if kernel == Kernel::Linear {
        return Ok((split_times(spec, shape, limits, tile_k)?, [0; 2]));
    }
    let mut keys = keys_per_dispatch(kernel, spec, shape, limits, tile_k, of_score);
    if let Some(fit) = (PRODUCT_BYTES / 8).checked_div(products.key) {
        keys = keys.min((fit as u32 / tile_k * tile_k).max(tile_k));
    }
    let [q_len, kv_len, sequences] = match spec.packed {
        true => [shape.max_seqlen_q, shape.max_seqlen_k, shape.sequences],
        false => [shape.q_len, shape.kv_len, shape.batch],
    };
    let (rows, heads, flop_per_row) = match kernel {
        Kernel::Attention | Kernel::Scores => {
            (q_len as u64 * spec.group() as u64, spec.num_kv_heads, keys as f64 * flop_per_score(spec, of_score))
        }
        Kernel::RotateQ { .. } | Kernel::Embed { .. } | Kernel::Merge | Kernel::Linear => {
            (q_len as u64, spec.num_heads, 20.0 * spec.head_dim as f64)
        }
        // of k, then of v
        Kernel::Append { .. } => {
            let kv_heads = spec.num_kv_heads;
            let heads = of_call.append.map_or(2 * kv_heads, |[k, v]| k.count(kv_heads) + v.count(kv_heads));
            let most = of_call.append.map_or(1, |[k, v]| k.heads.max(v.heads));
            let of_element = 20.0 + if of_call.append.is_some() { QUANTISE } else { 0.0 };
            (q_len as u64, heads, of_element * (most * spec.head_dim.max(spec.v_head_dim)) as f64)
        }
        Kernel::RotateK { .. } => (kv_len as u64, spec.num_kv_heads, 20.0 * spec.head_dim as f64),
    };
    let grid = [rows.div_ceil(of_call.tile_q as u64), heads as u64, sequences as u64];
    let budget = ((limits.max_flop_per_dispatch / (flop_per_row * of_call.tile_q as f64)) as u64).max(1);
    let cap = limits.max_workgroups as u64;
    let bytes = |x: u64, y: u64, z: u64| 4 * products.words([x, y, z], keys as u64).iter().sum::<u64>();
    // all packed sequences together have no more keys than there are, however long the longest is
    let together = match spec.packed && kernel == Kernel::Attention {
        true => grid[2].min((shape.kv_len as u64).div_ceil(keys.max(1) as u64)),
        false => u64::MAX,
    };
    let all_at_once = together <= budget;
    let column = if all_at_once { together } else { 1 };
    let mut x = grid[0].min(budget / column).min(cap);
    if products.query > 0 {
        x = x.min((PRODUCT_BYTES / 2 / bytes(1, 1, 1).saturating_sub(bytes(0, 1, 1)).max(1)).max(1));
    }
    let mut y = grid[1].min((budget / (column * x)).max(1)).min(cap);
    if spec.head_by_head() {
        y = 1; // `chunk.kv_head` is the head whose frequencies and weights its rows have
    }
    y = y.min((PRODUCT_BYTES / bytes(x, 1, 1).max(1)).max(1));
    let mut z = grid[2].min(if all_at_once { cap } else { (budget / (x * y)).max(1) }).min(cap);
    z = z.min((PRODUCT_BYTES / bytes(x, y, 1).max(1)).max(1));
    let steps = |n: u64, by: u64| (0..n.div_ceil(by)).map(move |i| (i * by, by.min(n - i * by)));
    let by = [x, y, z, keys as u64];
    let key_rows = key_rows(kernel, spec, shape) as u64;
    let whole = [grid[0], grid[1], grid[2], key_rows];
    let cuts = whole.iter().zip(by).fold(1u64, |n, (whole, by)| n.saturating_mul(whole.div_ceil(by)));
    if cuts > MAX_DISPATCHES {
        return Err(too_many_dispatches());
    }
    let mut chunks = Vec::new();
    for (z0, zn) in steps(grid[2], z) {
        for (y0, yn) in steps(grid[1], y) {
            for (x0, xn) in steps(grid[0], x) {
                for (k0, kn) in steps(key_rows, keys as u64) {
                    let mut add = |entry: &'static str, tiles: u64| {
                        let first = [x0 as u32, y0 as u32, z0 as u32];
                        let workgroups = [tiles as u32, yn as u32, zn as u32];
                        // the last dispatch of a row tile ends at the capacity, which `families/carry_*` knows it by
                        let end = if k0 + kn == key_rows { shape.kv_len } else { (k0 + kn) as u32 };
                        chunks.push(ChunkDispatch {
                            first,
                            keys: [k0 as u32, end],
                            workgroups,
                            entry,
                            tiles: xn as u32,
                            heads: yn as u32,
                        });
                    };
                    if products.query > 0 && k0 == 0 {
                        add("relative_queries", xn);
                    }
                    if products.key > 0 {
                        add("relative_keys", kn.div_ceil(TILE_Q as u64));
                    }
                    add("main", xn);
                }
            }
        }
    }
    Ok((chunks, products.words([x, y, z], keys as u64)))
}
