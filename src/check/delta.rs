//! The state of linear attention under the delta rule, with a bound of each column.

use crate::check::bound::{HUGE, Row, U, UNDERFLOW, g};
use crate::equation::dtype::Dtype;

/// A column of the state under the delta rule. How far a GPU's column e is from the value is bounded by its length, since a step takes it
/// to (I - beta k k^T) Gamma e, which is no longer where beta |k|^2 <= 2, while the sum of its elements' sizes may be.
#[derive(Clone)]
pub(crate) struct Column {
    pub(crate) x: Vec<f64>,
    pub(crate) error: f64,
}

/// A token's numbers under the delta rule.
pub(crate) struct DeltaStep<'a> {
    pub(crate) k: &'a Row,
    /// Gamma of each feature and the relative error of one multiplication with it; empty where nothing is forgotten.
    pub(crate) decays: &'a [(f64, f64)],
    pub(crate) beta: f64,
}

fn length<'a>(x: impl IntoIterator<Item = &'a f64>) -> f64 {
    x.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

impl Column {
    pub(crate) fn given(x: Vec<f64>, least: f64) -> Self {
        let flushed: Vec<f64> = x.iter().copied().filter(|x| x.abs() < least).collect();
        Column { error: length(&flushed), x }
    }
    /// S <- Gamma S + beta k (v - k Gamma S); `lost`: what a device may lose of v.
    pub(crate) fn step(&mut self, &DeltaStep { k, decays, beta }: &DeltaStep, v: f64, lost: f64) {
        let n = self.x.len() as f64;
        let least = UNDERFLOW * n;
        if !decays.is_empty() {
            let (most, relative) = decays.iter().fold((0.0, 0.0), |m, d| (f64::max(m.0, d.0), f64::max(m.1, d.1)));
            self.error = most * (self.error + relative * (length(&self.x) + self.error)) + least;
            self.x.iter_mut().zip(decays).for_each(|(x, (gamma, _))| *x *= gamma);
        }
        let (long, wrong, here) = (length(&k.x), length(&k.error), length(&self.x) + self.error);
        let said: f64 = k.x.iter().zip(&self.x).map(|(k, s)| k * s).sum();
        let new = beta * (v - said);
        // of k S, of beta (v - k S), and of what k and S already err by
        let sum = (long + wrong) * here * (g((n / 4.0).ceil() + 4.0) + U);
        let rounded = beta.abs() * (sum + 3.0 * U * (v.abs() + lost + (long + wrong) * here)) + least;
        let flushed = if beta.abs() < Dtype::F32.least_normal() { v.abs() + (long + wrong) * here } else { 0.0 };
        let inherited = beta.abs() * (lost + wrong * here + flushed);
        let size = new.abs() + inherited + rounded + beta.abs() * long * self.error;
        let kept = f64::max(1.0, (1.0 - beta * long * long).abs());
        let added = long * (inherited + rounded) + wrong * size;
        let rounding = 2.0 * U * (here + (long + wrong) * size) + least;
        self.error = kept * self.error + added + rounding;
        self.x.iter_mut().zip(&k.x).for_each(|(s, k)| *s += k * new);
        let largest = here + (long + wrong) * size;
        if self.error.is_nan() || largest.is_nan() || largest > HUGE {
            self.error = f64::INFINITY;
        }
    }
    /// q S: its value, how far a device's may be from it, and the size of what is summed.
    pub(crate) fn read(&self, q: &Row) -> (f64, f64, f64) {
        let (long, wrong, here) = (length(&q.x), length(&q.error), length(&self.x) + self.error);
        let sum = q.x.iter().zip(&self.x).map(|(q, s)| q * s).sum();
        (sum, long * self.error + wrong * here, (long + wrong) * here)
    }
}
