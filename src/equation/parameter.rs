//! What a model has learned for a term of a spec.

use serde::Serialize;

/// A tensor that a model has learned for a term of the spec, f32, an entry of `Inputs::parameters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name in `Inputs::parameters`, in files and in errors.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<u32>,
    /// The axis that counts query heads, or kv heads.
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
    /// The values of some of the `num_heads` query heads, whole groups of them where the axis counts kv heads.
    #[cfg(feature = "wgpu")]
    pub(crate) fn of_heads(&self, values: &[f32], heads: &std::ops::Range<u32>, num_heads: u32) -> Vec<f32> {
        let Some(axis) = self.heads else { return values.to_vec() };
        let inner: usize = self.shape[axis + 1..].iter().map(|n| *n as usize).product();
        let row = self.shape[axis] as usize * inner;
        let at = |head: u32| (head as u64 * self.shape[axis] as u64 / num_heads as u64) as usize * inner;
        let span = at(heads.start)..at(heads.end);
        values.chunks_exact(row.max(1)).flat_map(|row| row[span.clone()].iter().copied()).collect()
    }
}
