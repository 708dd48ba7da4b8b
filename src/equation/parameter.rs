//! What a model has learned for the terms of its [`Spec`](crate::Spec): [`Parameter`], a named shape. And the lookups that the host
//! makes for index maps.

use crate::equation::index::{IndexMap, log_bucket};
use serde::Serialize;

/// The longest side of a window of [`IndexMap::Grid`].
pub(crate) const MAX_SIDE: u32 = 1 << 11;

/// The row of [`IndexMap::LogBucket`] of a distance m - n.
pub(crate) fn bucket_row(distance: i64, buckets: u32, max_position: u32) -> u32 {
    let n = buckets as i64;
    (log_bucket(distance, buckets, max_position).clamp(-n, n - 1) + n) as u32
}

/// How a device finds the row of a distance m - n that only the host can compute: from a table of the distances from -`most` to `most`,
/// beyond which it takes the nearer end; from `far` down the row is one less.
///
/// No more changes beyond the table: with mid = buckets / 2, above 1, the bucket of `max_position` is 2 mid or more, so the row is the last,
/// on the other side 1 (odd numbers of buckets) or 0. With mid = 1 buckets stay 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) map: IndexMap,
    pub(crate) most: i32,
    pub(crate) far: i32,
}

impl Lookup {
    /// Entries of the table.
    pub(crate) fn len(&self) -> u64 {
        2 * self.most as u64 + 1
    }
    /// The table. Rows are below 2^24, so f32 holds them exactly.
    pub(crate) fn rows(&self) -> Vec<f32> {
        let IndexMap::LogBucket { buckets, max_position } = self.map else { return Vec::new() };
        let most = self.most as i64;
        (-most..=most).map(|d| bucket_row(d, buckets, max_position) as f32).collect()
    }
}

/// A tensor that a model has learned for a term of the spec, f32, an entry of `Inputs::parameters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name in `Inputs::parameters`, in files and in errors.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<u32>,
    /// The axis that counts query heads.
    #[serde(skip)]
    pub(crate) heads: Option<usize>,
}

impl Parameter {
    pub(crate) fn new(name: impl Into<String>, shape: impl Into<Vec<u32>>, heads: Option<usize>) -> Self {
        Parameter { name: name.into(), shape: shape.into(), heads }
    }
    /// Elements, at most 2^64 - 1 of them.
    pub fn len(&self) -> u64 {
        self.shape.iter().fold(1, |elements: u64, n| elements.saturating_mul(*n as u64))
    }
    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The values of some of the heads.
    #[cfg(feature = "wgpu")]
    pub(crate) fn of_heads(&self, values: &[f32], heads: &std::ops::Range<u32>) -> Vec<f32> {
        let Some(axis) = self.heads else { return values.to_vec() };
        let inner: usize = self.shape[axis + 1..].iter().map(|n| *n as usize).product();
        let row = self.shape[axis] as usize * inner;
        let span = heads.start as usize * inner..heads.end as usize * inner;
        values.chunks_exact(row.max(1)).flat_map(|row| row[span.clone()].iter().copied()).collect()
    }
}
