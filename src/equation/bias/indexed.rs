//! A table over an index map, `table[r(m, n), head]`.

use crate::equation::bias::term::{Argument, Given, KernelCall, Place, Term, TermValue, Values, Wanted};
use crate::equation::index::{IndexMap, words};
use crate::error::Result;
use std::sync::Arc;

/// See [`Bias::Indexed`](crate::Bias::Indexed).
pub(crate) struct Indexed {
    pub(crate) index: IndexMap,
}

/// `values[head][r(m, n)]`.
#[derive(Debug)]
pub(crate) struct OverRows {
    pub(crate) index: IndexMap,
    pub(crate) values: Vec<f64>,
}

impl Values for OverRows {
    fn value(&self, at: &Place) -> TermValue {
        let row = self.index.row(at.m, at.n, at.same_segment);
        let first = at.head as usize * self.index.rows() as usize;
        TermValue::loaded(row.map_or(0.0, |row| self.values[first + row as usize]))
    }
    fn packed(&self) -> Vec<f32> {
        self.values.iter().map(|x| *x as f32).collect()
    }
}

/// The call for a table over the rows of the term's index map.
pub(crate) fn kernel() -> KernelCall {
    KernelCall {
        files: &["equation/term_indexed.wgsl"],
        function: "term_indexed",
        arguments: vec![Argument::First, Argument::Rows, Argument::Row],
    }
}

impl Term for Indexed {
    fn name(&self) -> String {
        self.index.name().to_string()
    }
    fn validate(&self, _: u32, field: &dyn Fn(&str) -> String) -> Result<()> {
        self.index.validate(&field("index"))
    }
    fn parameters(&self, heads: u32) -> Vec<Wanted> {
        vec![Wanted::new("bias_table", &[words(self.index.rows()), heads], Some(1))]
    }
    fn values(&self, heads: u32, given: &[Given]) -> Result<Arc<dyn Values>> {
        let heads = heads as usize;
        let values = (0..heads).flat_map(|h| given[0].chunks_exact(heads).map(move |row| row[h] as f64)).collect();
        Ok(Arc::new(OverRows { index: self.index, values }))
    }
    fn index(&self) -> Option<IndexMap> {
        Some(self.index)
    }
    fn table_rows(&self) -> u64 {
        self.index.rows()
    }
    fn is_of_distance(&self) -> bool {
        false
    }
    fn kernel(&self) -> KernelCall {
        kernel()
    }
}
