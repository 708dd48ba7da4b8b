//! The tensors of one embedding.

use crate::equation::embed::{Absolute, Columns, Embed};
use crate::equation::rotary::phase::ExactAngle;
use crate::equation::window::check_tokens;
use crate::error::{Error, Result};
use crate::inputs::tensor::Tensor;

/// The arguments of one call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EmbedInputs {
    /// `[batch, len, 1, dim]`.
    pub x: Tensor,
    /// `[batch, len]`: the row of P for each token, offsets included; see [`positions_from`], [`positions_of_ids`] and
    /// [`positions_of_mask`].
    pub positions: Vec<i32>,
    /// `[1, rows, 1, dim]`, where P is learned.
    pub table: Option<Tensor>,
}

impl EmbedInputs {
    /// x and its positions; set `table` where P is learned.
    pub fn new(x: Tensor, positions: Vec<i32>) -> Self {
        EmbedInputs { x, positions, table: None }
    }
}

/// Positions by index: `past + offset`, `past + offset + 1`, ... for every sequence (BERT and GPT-2: offset 0; XGLM: 2).
pub fn positions_from(batch: u32, len: u32, past: u32, offset: i32) -> Result<Vec<i32>> {
    let last = past as i64 + offset as i64 + len as i64;
    if last > i32::MAX as i64 || offset as i64 + (past as i64) < i32::MIN as i64 {
        return Err(Error::input("positions", format!("end at {last}"), "give a past and an offset below 2^31"));
    }
    check_tokens("positions", &[batch.into(), len.into()])?;
    let row: Vec<i32> = (0..len).map(|i| (past as i64 + i as i64 + offset as i64) as i32).collect();
    Ok(row.repeat(batch as usize))
}

/// Positions that count real tokens (RoBERTa, M2M100): the n-th token that is not `padding` stands at
/// `past + n + padding`, n from 1; padding tokens stand at row `padding`. `ids` is `[batch, len]`.
pub fn positions_of_ids(ids: &[i32], batch: u32, padding: i32, past: u32) -> Result<Vec<i32>> {
    let real: Vec<bool> = ids.iter().map(|id| *id != padding).collect();
    counted(&real, batch, "input_ids", |n, real| if real { n + past as i64 + padding as i64 } else { padding as i64 })
}

/// Positions of an attention mask (OPT): the n-th real token stands at `n - 1 + offset`, n from 1; padding at `offset - 1`.
/// `mask` is `[batch, past + len]`, true for a real token; the positions of the last `len` tokens are given.
pub fn positions_of_mask(mask: &[bool], batch: u32, past: u32, offset: i32) -> Result<Vec<i32>> {
    let all = counted(mask, batch, "attention_mask", |n, real| if real { n } else { 0 } - 1 + offset as i64)?;
    let row = all.len() / batch.max(1) as usize;
    if past as usize > row {
        return Err(Error::input(
            "attention_mask",
            format!("{row} tokens of a sequence, {past} of them past"),
            "give past + len of them",
        ));
    }
    Ok(all.chunks(row.max(1)).flat_map(|r| r.iter().skip(past as usize).copied()).collect())
}

/// `position(n, real)` of every token, n real tokens up to and with it.
fn counted(real: &[bool], batch: u32, name: &str, position: impl Fn(i64, bool) -> i64) -> Result<Vec<i32>> {
    if batch == 0 || !real.len().is_multiple_of(batch as usize) {
        return Err(Error::input(name, format!("{} tokens of {batch} sequences", real.len()), "give [batch, len]"));
    }
    let mut positions = Vec::with_capacity(real.len());
    for row in real.chunks((real.len() / batch as usize).max(1)) {
        let mut n = 0;
        for real in row {
            n += *real as i64;
            let m = position(n, *real);
            positions.push(
                i32::try_from(m)
                    .map_err(|_| Error::input(name, format!("gives position {m}"), "let positions stay below 2^31"))?,
            );
        }
    }
    Ok(positions)
}

/// An embed and inputs that fit each other.
pub(crate) struct EmbedProblem<'a> {
    pub(crate) embed: &'a Embed,
    pub(crate) inputs: &'a EmbedInputs,
    pub(crate) batch: u32,
    pub(crate) len: u32,
    angles: Vec<ExactAngle>,
}

impl<'a> EmbedProblem<'a> {
    /// Checks inputs against the spec; the error names the tensor.
    pub(crate) fn new(embed: &'a Embed, inputs: &'a EmbedInputs) -> Result<Self> {
        embed.validate()?;
        let [batch, len, ..] = inputs.x.shape();
        let expect = |name: &str, t: &Tensor, want: [u32; 4]| {
            if t.dtype() != embed.dtype {
                let help = format!("the spec's dtype is {}: convert one to the other", embed.dtype.name());
                return Err(Error::input(name, format!("is {}", t.dtype().name()), help));
            }
            if t.shape() != want {
                return Err(Error::input(name, format!("{:?}", t.shape()), format!("give {want:?}")));
            }
            t.check_extent(name)
        };
        expect("x", &inputs.x, [batch, len, 1, embed.dim])?;
        match (&inputs.table, embed.rows()) {
            (Some(table), Some(rows)) => expect("table", table, [1, rows, 1, embed.dim])?,
            (None, Some(rows)) => {
                let help = format!("give the learned table [1, {rows}, 1, {}]", embed.dim);
                return Err(Error::input("table", "is missing", help));
            }
            (Some(_), None) => {
                return Err(Error::input("table", "is given, but positions are sinusoidal", "leave it out"));
            }
            (None, None) => {}
        }
        if inputs.positions.len() as u64 != batch as u64 * len as u64 {
            let help = format!("give [batch, len] = [{batch}, {len}] of them");
            return Err(Error::input("positions", format!("{} of them", inputs.positions.len()), help));
        }
        Embed::check_positions(embed.rows(), &inputs.positions)?;
        let angles = embed.frequencies().into_iter().map(ExactAngle::new).collect();
        Ok(EmbedProblem { embed, inputs, batch, len, angles })
    }

    /// P[m].
    fn row(&self, m: i32) -> Vec<f64> {
        let dim = self.embed.dim as usize;
        match (&self.embed.positions, &self.inputs.table) {
            (Absolute::Sinusoidal { columns, padding_row, .. }, _) => {
                let mut row = vec![0.0; dim];
                if *padding_row == Some(m) {
                    return row;
                }
                let (sines, cosines) = self.embed.waves();
                for (p, angle) in self.angles.iter().enumerate() {
                    let (cos, sin) = angle.cos_sin(m);
                    let (s, c) = match columns {
                        Columns::Halves => (p, sines as usize + p),
                        Columns::Interleaved => (2 * p, 2 * p + 1),
                    };
                    row[s] = sin;
                    if p < cosines as usize {
                        row[c] = cos;
                    }
                }
                row
            }
            (Absolute::Learned { .. }, Some(table)) => table.row(0, m as u32, 0).collect(),
            (Absolute::Learned { .. }, None) => vec![0.0; dim],
        }
    }

    /// x and P of every token.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Vec<f64>, Vec<f64>)> + '_ {
        let tokens = (0..self.batch).flat_map(|b| (0..self.len).map(move |i| (b, i)));
        tokens.zip(&self.inputs.positions).map(|((b, i), m)| (self.inputs.x.row(b, i, 0).collect(), self.row(*m)))
    }
}

impl EmbedProblem<'_> {
    /// The plan of the one-call form for tokens `from..to` of sequence b, gathered contiguously.
    #[cfg(feature = "wgpu")]
    pub(crate) fn part(&self, batch: std::ops::Range<u32>, tokens: std::ops::Range<u32>) -> Result<EmbedInputs> {
        let x = &self.inputs.x;
        let dim = self.embed.dim as usize;
        let starts = batch.clone().flat_map(|b| tokens.clone().map(move |i| x.row_start(b, i, 0)));
        let data = x.data().gather(starts, dim);
        let shape = [batch.len() as u32, tokens.len() as u32, 1, self.embed.dim];
        let positions = batch.flat_map(|b| {
            let row = b as usize * self.len as usize;
            self.inputs.positions[row + tokens.start as usize..row + tokens.end as usize].iter().copied()
        });
        Ok(EmbedInputs { x: Tensor::bshd(data, shape)?, positions: positions.collect(), table: None })
    }
}
