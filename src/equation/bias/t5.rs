//! T5's buckets (Raffel et al. 2020), expanded by the host into a table over the distance.

use crate::equation::bias::table::{self, OverDistances};
use crate::equation::bias::term::{Given, KernelCall, Term, Values, Wanted};
use crate::error::{Error, Result};
use std::sync::Arc;

/// See [`Bias::T5`](crate::Bias::T5).
pub(crate) struct T5 {
    pub(crate) num_buckets: u32,
    pub(crate) max_distance: u32,
    pub(crate) bidirectional: bool,
}

impl T5 {
    /// The distances n - m, first and last, that have a row of their own.
    pub(crate) fn distances(&self) -> (i32, i32) {
        let far = self.max_distance as i32;
        (-far, if self.bidirectional { far } else { 0 })
    }
}

impl Term for T5 {
    fn name(&self) -> String {
        "t5".into()
    }
    fn validate(&self, _: u32, field: &dyn Fn(&str) -> String) -> Result<()> {
        let (buckets, distance) = (self.num_buckets, self.max_distance);
        let one_side = if self.bidirectional { buckets / 2 } else { buckets };
        if one_side < 2 || buckets > 1 << 20 || (self.bidirectional && buckets % 2 == 1) {
            return Err(Error::spec(
                field("t5.num_buckets"),
                format!("is {buckets}"),
                "give at least 2 buckets for each side, an even number for two sides",
            ));
        }
        if distance <= one_side / 2 || distance > 1 << 20 {
            return Err(Error::spec(
                field("t5.max_distance"),
                format!("is {distance}"),
                format!("give more than {} (the distances with buckets of their own), at most 2^20", one_side / 2),
            ));
        }
        Ok(())
    }
    fn parameters(&self, heads: u32) -> Vec<Wanted> {
        vec![Wanted::new("bias_table", &[self.num_buckets, heads], Some(1))]
    }
    fn values(&self, heads: u32, given: &[Given]) -> Result<Arc<dyn Values>> {
        let ((min, max), heads) = (self.distances(), heads as usize);
        let bucket = |d: i32| t5_bucket(d, self.num_buckets, self.max_distance, self.bidirectional) as usize;
        let of_head = |h: usize| (min..=max).map(move |d| given[0][bucket(d) * heads + h] as f64);
        Ok(Arc::new(OverDistances { min, max, values: (0..heads).flat_map(of_head).collect() }))
    }
    fn table_rows(&self) -> u64 {
        let (min, max) = self.distances();
        table::rows(min, max)
    }
    fn is_of_distance(&self) -> bool {
        true
    }
    fn kernel(&self) -> KernelCall {
        let (min, max) = self.distances();
        table::kernel(min, max)
    }
}

/// T5's bucket of the distance `k_position - q_position` (Raffel et al. 2020, section 2.1): distances below half of
/// one side's buckets have a bucket each, larger ones share logarithmically, all from `max_distance` on the last.
///
/// Distances that fall on a bucket's edge belong to the upper bucket, as a correctly rounded logarithm says. Where a side has no
/// bucket all distances have bucket 0.
pub fn t5_bucket(distance: i32, num_buckets: u32, max_distance: u32, bidirectional: bool) -> u32 {
    let (n, base, rel) = if bidirectional {
        let n = num_buckets / 2;
        (n, if distance > 0 { n } else { 0 }, distance.unsigned_abs())
    } else {
        (num_buckets, 0, if distance < 0 { distance.unsigned_abs() } else { 0 })
    };
    let Some(last) = n.checked_sub(1) else { return 0 };
    let max_exact = n / 2;
    if rel < max_exact {
        return base + rel;
    }
    let step = (rel as f64 / max_exact as f64).ln() / (max_distance as f64 / max_exact as f64).ln();
    // 1e-9 lifts a quotient that is an integer but for rounding; no other quotient comes that close.
    let large = max_exact.saturating_add((step * (n - max_exact) as f64 + 1e-9) as u32);
    base + large.min(last)
}
