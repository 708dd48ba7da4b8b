//! Absolute systems in f64, straight.

use crate::equation::embed::Embed;
use crate::error::Result;
use crate::inputs::embed::{EmbedInputs, EmbedProblem};

/// input_scale x + position_scale P\[m\] in f64, `[batch, len, dim]`.
///
/// ```
/// use ropewalk::{reference, Columns, Denominator, Embed, EmbedInputs, Tensor};
/// let embed = Embed::sinusoidal(4, Columns::Halves, Denominator::Half);
/// let inputs = EmbedInputs::new(Tensor::bshd(vec![1.0; 4], [1, 1, 1, 4])?, vec![0]);
/// assert_eq!(reference::embed(&embed, &inputs)?, [1.0, 1.0, 2.0, 2.0]); // sin 0 = 0, cos 0 = 1
/// # Ok::<(), ropewalk::Error>(())
/// ```
pub fn reference(embed: &Embed, inputs: &EmbedInputs) -> Result<Vec<f64>> {
    let problem = EmbedProblem::new(embed, inputs)?;
    let (a, b) = (embed.input_scale, embed.position_scale);
    let row = |(x, p): (Vec<f64>, Vec<f64>)| x.into_iter().zip(p).map(move |(x, p)| a * x + b * p);
    Ok(problem.rows().flat_map(row).collect())
}
