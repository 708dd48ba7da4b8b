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
    table: Option<&'a crate::inputs::inputs::AngleTable>,
}

impl<'a> Angles<'a> {
    pub(crate) fn new(rotary: &'a Rotary, inputs: &'a Inputs) -> Self {
        let inv_freq = rotary.inv_freq();
        let exact = inv_freq.iter().map(|f| ExactAngle::new(*f)).collect();
        Angles { rotary, inv_freq, exact, table: inputs.angle_table.as_ref() }
    }
    pub(crate) fn cos_sin(&self, position: i32, p: usize, side: f64) -> (f64, f64) {
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
