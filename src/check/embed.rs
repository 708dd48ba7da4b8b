//! Absolute systems: a bound for every element.

use crate::check::bound::{Bounded, TINY, TRIG, U, stored};
use crate::equation::embed::Embed;
use crate::error::Result;
use crate::inputs::embed::{EmbedInputs, EmbedProblem};

/// Every element of [`reference::embed`](crate::reference::embed) and how far a GPU may be from it: each sine errs by at most
/// 2e-7, each product by two roundings (of the scale and its own; none where the scale is 1), the sum by one, and storage rounds
/// once more. A subnormal x or table element may be read as 0, and what rounding to storage left off is lost.
pub fn bounds(embed: &Embed, inputs: &EmbedInputs) -> Result<Bounded> {
    let problem = EmbedProblem::new(embed, inputs)?;
    let (a, b) = (embed.input_scale, embed.position_scale);
    let roundings = |scale: f64| if scale == 1.0 { 0.0 } else { 2.0 * U };
    let trig = if embed.rows().is_none() { TRIG } else { 0.0 };
    let mut all = Bounded::default();
    let tokens = (0..problem.batch).flat_map(|b| (0..problem.len).map(move |i| (b, i)));
    for (((x, p), (seq, i)), m) in problem.rows().zip(tokens).zip(&inputs.positions) {
        let x_lost = inputs.x.lost(seq, i, 0);
        let p_lost: Vec<f64> = match &inputs.table {
            Some(table) => table.lost(0, *m as u32, 0).collect(),
            None => vec![0.0; p.len()],
        };
        for (((x, p), x_lost), p_lost) in x.into_iter().zip(p).zip(x_lost).zip(p_lost) {
            let value = a * x + b * p;
            let mut bound = (a * x).abs() * roundings(a) + b.abs() * (trig + p.abs() * roundings(b));
            bound += U * value.abs() + a.abs() * x_lost + b.abs() * p_lost;
            all.value.push(value);
            all.bound.push(if value.is_nan() { 0.0 } else { stored(embed.dtype, value, bound + TINY) });
        }
    }
    Ok(all)
}
