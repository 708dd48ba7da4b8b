//! What bounds are made of: unit roundoffs, sums, rounding to storage; and bounds compared with values.

use crate::equation::dtype::Dtype;
use serde::Serialize;

pub(crate) const U: f64 = 1.0 / (1u64 << 24) as f64;

/// L of the probabilistic bound.
pub(crate) const LAMBDA: f64 = 7.0;

/// |cos, sin| error of every angle source that computes.
pub(crate) const TRIG: f64 = 2e-7;

/// 2^-32 of a turn in radians.
pub(crate) const PHASE: f64 = 1.5e-9;

/// Relative error of xPos' magnitude.
pub(crate) const MAGNITUDE: f64 = 10.0 * U;

/// Products of errors.
pub(crate) const SECOND_ORDER: f64 = 1.01;

/// What a number that flushes to 0 is off by, shrinking by a later maximum included.
pub(crate) const UNDERFLOW: f64 = 4.0 / (1u128 << 126) as f64;

/// Smallest bound: numbers that flush to zero on the way.
pub(crate) const TINY: f64 = 1e-36;

/// Above this, an intermediate number may leave f32.
pub(crate) const HUGE: f64 = 1e30;

/// Of a number rounded to f16, in whatever direction.
pub(crate) const F16_ROUNDING: f64 = 1.0 / (1 << 10) as f64;

/// Numbers below it may be flushed when they are rounded to f16.
pub(crate) const F16_FLUSH: f64 = 1.0 / (1 << 14) as f64;

/// Of an addition within a matrix unit, relative to the sum of sizes.
pub(crate) const MATRIX_ADDITION: f64 = 1.0 / (1 << 22) as f64;

/// How far below a row's largest score the maximum of its weights may lie in arithmetic on matrix units: 8 ln 2, and what rounding adds.
pub(crate) const LAZY: f64 = 5.6;

/// What that makes of the errors of exponentials, in u: see the head of `check/mod.rs`.
pub(crate) const LAZY_EXPONENTIALS: f64 = 8.8 * 2.0 * LAZY + 28.0 + 5.0;

/// What a weight of 1 is multiplied by before it is rounded to f16.
pub(crate) const P_UNIT: f64 = 128.0;

/// The least keys of a tile of arithmetic on matrix units.
pub(crate) const MATRIX_TILE: usize = 16;

/// Rounding errors of n additions, relative to the sum of sizes.
pub(crate) fn g(n: f64) -> f64 {
    U * n.min(LAMBDA * n.sqrt())
}

/// Values of the reference, and how far from each a GPU's may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bounded {
    /// The reference.
    pub value: Vec<f64>,
    /// The largest permitted |gpu - value|; infinite where nothing can be said.
    pub bound: Vec<f64>,
}

/// The worst element of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Worst {
    /// The largest error / bound; above 1 is a failure.
    pub ratio: f64,
    /// The error of that element.
    pub error: f64,
    /// Its bound.
    pub bound: f64,
    /// Its index in the row-major tensor.
    pub index: usize,
    /// Elements above their bound.
    pub failures: u64,
    /// Elements compared.
    pub elements: u64,
    /// Elements of which the bound says nothing.
    pub unbounded: u64,
}

impl Worst {
    pub(crate) fn add(&mut self, index: usize, gpu: f64, value: f64, bound: f64) {
        self.elements += 1;
        let same = gpu == value || (gpu.is_nan() && value.is_nan());
        if bound == f64::INFINITY && !same {
            self.unbounded += 1;
            return;
        }
        let error = if same { 0.0 } else { (gpu - value).abs() };
        let ratio = if same {
            0.0
        } else if error.is_finite() && bound > 0.0 {
            error / bound
        } else {
            f64::INFINITY
        };
        if ratio > 1.0 {
            self.failures += 1;
        }
        if ratio > self.ratio || self.elements == 1 {
            (self.ratio, self.error, self.bound, self.index) = (ratio, error, bound, index);
        }
    }
    pub(crate) fn merge(self, other: Worst) -> Worst {
        let worst = if other.ratio > self.ratio || self.elements == 0 { other } else { self };
        Worst {
            failures: self.failures + other.failures,
            elements: self.elements + other.elements,
            unbounded: self.unbounded + other.unbounded,
            ..worst
        }
    }
}

impl Bounded {
    pub(crate) fn push(&mut self, (value, bound): (f64, f64)) {
        self.value.push(value);
        self.bound.push(bound);
    }
    /// Compares a GPU's values: right is |gpu - value| <= bound, or the same infinity, or both NaN.
    pub fn worst(&self, gpu: &[f32]) -> Worst {
        let mut worst = Worst::default();
        if gpu.len() != self.value.len() {
            return Worst { ratio: f64::INFINITY, failures: self.value.len() as u64, ..worst };
        }
        for (i, ((gpu, value), bound)) in gpu.iter().zip(&self.value).zip(&self.bound).enumerate() {
            worst.add(i, *gpu as f64, *value, *bound);
        }
        worst
    }
}

/// The arithmetic whose errors a bound takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Arithmetic {
    /// Everything in f32: what every family but `coop` does.
    #[default]
    F32,
    /// Turned q and k and the weights rounded to f16, products on matrix units that add in f32: the family `coop`.
    F16Matrix,
}

/// Adds the rounding to storage.
pub(crate) fn stored(dtype: Dtype, value: f64, bound: f64) -> f64 {
    let (least, most) = (dtype.subnormal_error().unwrap_or(TINY), dtype.most());
    let size = value.abs() + bound;
    if size > most { f64::INFINITY } else { SECOND_ORDER * bound + dtype.unit_roundoff() * size + least }
}

/// A row with how far each element of a GPU's may be off.
#[derive(Clone, Default)]
pub(crate) struct Row {
    pub(crate) x: Vec<f64>,
    pub(crate) error: Vec<f64>,
}
