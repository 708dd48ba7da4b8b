//! cos and sin of a position.

use crate::equation::rotary::phase::ExactAngle;
use crate::equation::rotary::rotary::{Angle, Rotary};
use crate::inputs::inputs::Inputs;

/// cos and sin of pair p at a position, attention factor included, and xPos' magnitude of a query (side 1), a key (-1) or a
/// value (0: none).
pub(crate) struct Angles<'a> {
    rotary: &'a Rotary,
    inv_freq: Vec<f64>,
    exact: Vec<ExactAngle>,
    pairs: usize,
    table: Option<&'a crate::inputs::inputs::AngleTable>,
}

impl<'a> Angles<'a> {
    pub(crate) fn new(rotary: &'a Rotary, inputs: &'a Inputs) -> Self {
        let inv_freq = rotary.inv_freq();
        let exact = inv_freq.iter().map(|f| ExactAngle::new(*f)).collect();
        let pairs = rotary.rotary_dim as usize / 2;
        Angles { rotary, inv_freq, exact, pairs, table: inputs.angle_table.as_ref() }
    }
    /// cos and sin of the angle of pair p's first element, and of its second's: the same, but where a pair has two angles.
    pub(crate) fn turn(&self, positions: [i32; 4], kv_head: usize, p: usize, side: f64) -> [(f64, f64); 2] {
        let Some(sums) = self.rotary.sums() else {
            return [self.cos_sin(positions[self.rotary.stream(p)], p, side); 2];
        };
        let (streams, factor) = (sums.streams as usize, self.rotary.attention_factor);
        let head = if sums.heads == 1 { 0 } else { kv_head };
        let one = |angle: usize| {
            let at = ((head * self.pairs + p) * sums.angles() + angle) * streams;
            let (c, s) = ExactAngle::sum(&self.exact[at..at + streams], &positions);
            (c * factor, s * factor)
        };
        [one(0), one(sums.angles() - 1)]
    }
    fn cos_sin(&self, position: i32, p: usize, side: f64) -> (f64, f64) {
        let (c, s) = match (self.rotary.angle, self.table) {
            (Angle::Table, Some(table)) => {
                let at = position as usize * (self.rotary.rotary_dim / 2) as usize + p;
                (table.cos[at] as f64, table.sin[at] as f64)
            }
            (Angle::Float32, _) => {
                let angle = (position as f32 * self.inv_freq[p] as f32) as f64;
                (angle.cos(), angle.sin())
            }
            _ => self.exact[p].cos_sin(position),
        };
        let magnitude = self.rotary.xpos.map_or(1.0, |x| x.magnitude(position, p, self.rotary.rotary_dim, side));
        (c * self.rotary.attention_factor * magnitude, s * self.rotary.attention_factor * magnitude)
    }
}
