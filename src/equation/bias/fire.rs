//! FIRE (Li et al. 2024, arXiv 2310.04418): a network of the distance, on a scale that grows with the query's position.

use crate::equation::bias::term::{Argument, Given, KernelCall, Place, Term, TermValue, Values, Wanted};
use crate::error::{Error, Result};
use std::sync::Arc;

/// See [`Bias::Fire`](crate::Bias::Fire).
pub(crate) struct Fire {
    pub(crate) hidden: u32,
    pub(crate) eps: f64,
}

/// The most units: a score goes through all.
const MAX_HIDDEN: u32 = 256;

/// Smaller ones are lost beside the roundings of the logarithm that they are added to.
const LEAST_EPS: f64 = 1e-6;

/// Numbers of a head in front of its units: c, L, b2.
const FRONT: usize = 3;
/// Numbers of a unit: w1, b1, w2.
const UNIT: usize = 3;

/// `[num_heads][FRONT + UNIT hidden]`, as devices read them.
#[derive(Debug)]
struct OfHeads {
    eps: f64,
    row: usize,
    numbers: Vec<f32>,
}

impl Values for OfHeads {
    fn value(&self, at: &Place) -> TermValue {
        let row = &self.numbers[at.head as usize * self.row..(at.head as usize + 1) * self.row];
        let [c, least, b2] = [row[0], row[1], row[2]].map(f64::from);
        let (d, m) = (at.distance().abs() as f64, at.m[0] as f64);
        network(ratio(c, d, m.max(least), self.eps), b2, &row[FRONT..])
    }
    fn packed(&self) -> Vec<f32> {
        self.numbers.clone()
    }
}

/// u, half a unit of the last place of 1.
const U: f64 = 1.0 / (1u64 << 24) as f64;
/// What may be read or written as 0 is smaller.
const TINY: f64 = f32::MIN_POSITIVE as f64;

/// x = ln(1 + c d) / (ln(1 + c scale) + eps) = a / b, and how far a device's a' / b' may be off. 1 + c d errs by 4 u of itself where c d is
/// not 0, so its logarithm by 4 u beside its own 3 u. In b a compiler may add eps to the terms of the logarithm first, of which the
/// largest is below 1 + b: three additions more. |a' / b' - a / b| <= (|a' - a| + x |b' - b|) / b'; the division errs by 2.5 units of the
/// last place, 5 u. b is 16 u at least, its error less than 8 u where it is as small.
fn ratio(c: f64, d: f64, scale: f64, eps: f64) -> (f64, f64) {
    let above = (c * d).ln_1p();
    let below = (c * scale).ln_1p() + eps;
    let error = |ln: f64| if ln == 0.0 { 0.0 } else { U * (4.0 + 3.0 * ln) };
    let x = above / below;
    let of_below = error(below - eps) + 3.0 * U * (1.0 + below);
    let least = below - of_below;
    let of_quotient = (error(above) + x * of_below) / least;
    (x, of_quotient * (1.0 + 6.0 * U) + 6.0 * U * x)
}

/// b2 + sum of w2 relu(w1 x + b1), added in order: a unit errs by |w1| times x's error and three roundings, the sum by a rounding of
/// all for each addition. What flushes to 0, of factors or products, is below 2^-126.
fn network((x, x_error): (f64, f64), b2: f64, units: &[f32]) -> TermValue {
    let (mut value, mut size, mut error) = (b2, b2.abs(), 0.0);
    for unit in units.chunks_exact(UNIT) {
        let [w1, b1, w2] = [unit[0], unit[1], unit[2]].map(f64::from);
        let y = w1 * x + b1;
        let relu = y.max(0.0);
        let of_y = w1.abs() * x_error + 3.0 * U * ((w1 * x).abs() + b1.abs()) + TINY * (2.0 + x + x_error);
        error += w2.abs() * of_y + 2.0 * U * (w2 * relu).abs() + TINY * (1.0 + relu + of_y);
        value += w2 * relu;
        size += w2.abs() * (relu + of_y);
    }
    let additions = (units.len() / UNIT + 1) as f64;
    TermValue { slack: 1.001 * (error + additions * U * size), ..TermValue::computed(value) }
}

impl Term for Fire {
    fn name(&self) -> String {
        "fire".into()
    }
    fn validate(&self, _: u32, field: &dyn Fn(&str) -> String) -> Result<()> {
        if !(1..=MAX_HIDDEN).contains(&self.hidden) {
            let help = format!("give 1 to {MAX_HIDDEN} units (32 in the paper)");
            return Err(Error::spec(field("fire.hidden"), format!("is {}", self.hidden), help));
        }
        if !(LEAST_EPS..=1.0).contains(&self.eps) {
            let help = "give a number from 1e-6 to 1 (1e-6 in the paper's code)";
            return Err(Error::spec(field("fire.eps"), format!("is {}", self.eps), help));
        }
        Ok(())
    }
    fn parameters(&self, heads: u32) -> Vec<Wanted> {
        vec![
            Wanted::new("fire_c", &[1], None),
            Wanted::new("fire_l", &[1], None),
            Wanted::new("fire_w1", &[self.hidden], None),
            Wanted::new("fire_b1", &[self.hidden], None),
            Wanted::new("fire_w2", &[heads, self.hidden], Some(0)),
            Wanted::new("fire_b2", &[heads], Some(0)),
        ]
    }
    fn values(&self, heads: u32, given: &[Given]) -> Result<Arc<dyn Values>> {
        given.iter().try_for_each(Given::check)?;
        let (c, least) = (given[0][0].abs(), given[1][0].abs());
        let [w1, b1, w2, b2] = [2, 3, 4, 5].map(|at| given[at].values);
        let hidden = self.hidden as usize;
        let row = FRONT + UNIT * hidden;
        let of_head = |h: usize| {
            let units = (0..hidden).flat_map(move |u| [w1[u], b1[u], w2[h * hidden + u]]);
            [c, least, b2[h]].into_iter().chain(units)
        };
        Ok(Arc::new(OfHeads {
            eps: self.eps as f32 as f64,
            row,
            numbers: (0..heads as usize).flat_map(of_head).collect(),
        }))
    }
    fn table_rows(&self) -> u64 {
        FRONT as u64 + UNIT as u64 * self.hidden as u64
    }
    /// The scale is the query's.
    fn is_of_distance(&self) -> bool {
        false
    }
    fn rounds(&self) -> u32 {
        self.hidden + 1
    }
    fn operations(&self) -> u32 {
        5 * self.hidden + 60
    }
    fn kernel(&self) -> KernelCall {
        KernelCall {
            files: &["equation/term_fire.wgsl", "equation/term_distance.wgsl", "common/ln.wgsl"],
            function: "term_fire",
            arguments: vec![Argument::First, Argument::Rows, Argument::Float(self.eps)],
        }
    }
}
