//! A table over the distance, `table[head, clamp(n - m, min, max) - min]`.

use crate::equation::bias::term::{Argument, Given, KernelCall, Place, Term, TermValue, Values, Wanted};
use crate::equation::index::{IndexMap, words};
use crate::error::{Error, Result};
use std::sync::Arc;

/// See [`Bias::Table`](crate::Bias::Table).
pub(crate) struct Table {
    pub(crate) min: i32,
    pub(crate) max: i32,
}

/// `values[head][clamp(n - m, min, max) - min]`.
#[derive(Debug)]
pub(crate) struct OverDistances {
    pub(crate) min: i32,
    pub(crate) max: i32,
    pub(crate) values: Vec<f64>,
}

impl Values for OverDistances {
    fn value(&self, at: &Place) -> TermValue {
        let rows = (self.max - self.min + 1) as usize;
        let row = at.distance().clamp(self.min as i64, self.max as i64) - self.min as i64;
        TermValue::loaded(self.values[at.head as usize * rows + row as usize])
    }
    fn packed(&self) -> Vec<f32> {
        self.values.iter().map(|x| *x as f32).collect()
    }
}

/// The call for a table over distances from min to max.
pub(crate) fn kernel(min: i32, max: i32) -> KernelCall {
    KernelCall {
        files: &["equation/term_table.wgsl", "equation/term_distance.wgsl"],
        function: "term_table",
        arguments: vec![Argument::First, Argument::Int(min), Argument::Int(max)],
    }
}

/// Distances from min to max.
pub(crate) fn rows(min: i32, max: i32) -> u64 {
    (max as i64 - min as i64 + 1) as u64
}

impl Term for Table {
    fn name(&self) -> String {
        "table".into()
    }
    fn validate(&self, _: u32, field: &dyn Fn(&str) -> String) -> Result<()> {
        let Table { min, max } = self;
        if min > max || (*max as i64 - *min as i64) >= 1 << 24 {
            return Err(Error::spec(
                field("table"),
                format!("distances {min} to {max}"),
                "let min be at most max, with fewer than 2^24 distances between them",
            ));
        }
        Ok(())
    }
    fn parameters(&self, heads: u32) -> Vec<Wanted> {
        vec![Wanted::new("bias_table", &[heads, words(IndexMap::distance(self.min, self.max).rows())], Some(0))]
    }
    fn values(&self, _: u32, given: &[Given]) -> Result<Arc<dyn Values>> {
        let values = given.iter().flat_map(|t| t.iter()).map(|x| *x as f64).collect();
        Ok(Arc::new(OverDistances { min: self.min, max: self.max, values }))
    }
    fn table_rows(&self) -> u64 {
        rows(self.min, self.max)
    }
    fn is_of_distance(&self) -> bool {
        true
    }
    fn kernel(&self) -> KernelCall {
        kernel(self.min, self.max)
    }
}
