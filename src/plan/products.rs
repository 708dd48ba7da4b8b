//! Which products of A and B are made beforehand and gathered, and how much of `work` they take.
//!
//! With R rows in a table, A costs R products a query beforehand or kv_len where they are used, B costs R a key or q_len a
//! key. The smaller number decides, so that a table that grows with the length (XLNet, BERT) is never multiplied out.

use crate::equation::relative::RelativeSide;
use crate::equation::spec::Spec;
use crate::inputs::shape::Shape;
use crate::plan::budget::{MAX_PRODUCT_ROWS, PRODUCT_BYTES};
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Products {
    /// For each of `spec.relative`.
    pub(crate) gathered: Vec<bool>,
    /// Words for each query row.
    pub(crate) query: u64,
    /// Words for each key of a kv head.
    pub(crate) key: u64,
    /// Rows of a tile.
    tile_q: u64,
}

impl Products {
    pub(crate) fn new(kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits, tile_q: u32) -> Self {
        let gathered = vec![false; spec.relative.len()];
        let mut products = Products { gathered, tile_q: tile_q as u64, ..Products::default() };
        // of packed sequences a dispatch's keys are those of its longest
        if kernel.rotates_only() || spec.packed {
            return products;
        }
        let group = spec.group() as u64;
        // a query of its own is multiplied by `main`
        let all = spec.relative.iter().zip(&mut products.gathered).filter(|(relative, _)| relative.own.is_none());
        for (relative, gathered) in all {
            let rows = relative.index.rows();
            let (words, uses) = match relative.side {
                RelativeSide::Key => (rows, shape.kv_len as u64),
                RelativeSide::Query if relative.per_head => (group * rows, group * shape.q_len as u64),
                RelativeSide::Query => (rows, group * shape.q_len as u64),
                RelativeSide::Value => continue,
            };
            let total = words + if relative.side == RelativeSide::Key { products.query } else { products.key };
            let rounds = total * (spec.head_dim.div_ceil(4) as u64 + 2) + 4 * spec.head_dim as u64;
            // one tile of rows and as many keys must fit the share of `work`
            let tile = 4 * products.tile_q * total;
            if rows <= MAX_PRODUCT_ROWS
                && 2 * words <= uses
                && rounds <= limits.max_loop_rounds as u64
                && tile <= PRODUCT_BYTES / 2
            {
                *gathered = true;
                match relative.side {
                    RelativeSide::Key => products.query += rows,
                    _ => products.key += words,
                }
            }
        }
        products
    }

    /// Words that a part of the grid takes: tiles of rows, kv heads and sequences, keys.
    pub(crate) fn words(&self, [tiles, heads, batch]: [u64; 3], keys: u64) -> [u64; 2] {
        [heads * batch * tiles * self.tile_q * self.query, heads * batch * keys * self.key]
    }
}
