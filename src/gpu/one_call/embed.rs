//! The one-call form of [`Kernel::Embed`](crate::Kernel::Embed).

use crate::equation::embed::Embed;
use crate::error::{Error, Result};
use crate::gpu::device::{Content, Gpu, Stats};
use crate::gpu::one_call::one_call::{source_slot, zeros};
use crate::inputs::embed::{EmbedInputs, EmbedProblem};
use crate::inputs::tensor::{Data, Tensor};
use crate::plan::embed::EmbedShape;
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::plan::Plan;
use crate::plan::step::Step;
use crate::shader::layout::Slot;

impl Gpu {
    /// input_scale x + position_scale P\[m\], `[batch, len, dim]`: the twin of [`reference::embed`](crate::reference::embed).
    pub fn embed(&self, embed: &Embed, inputs: &EmbedInputs) -> Result<Vec<f32>> {
        pollster::block_on(self.embed_async(embed, inputs)).map(|(out, _)| out)
    }

    /// See [`Gpu::embed`]; with figures.
    pub async fn embed_async(&self, embed: &Embed, inputs: &EmbedInputs) -> Result<(Vec<f32>, Stats)> {
        let problem = EmbedProblem::new(embed, inputs)?;
        let (batch, len, dim) = (problem.batch, problem.len, embed.dim as usize);
        let (kernel, table) = (Kernel::Embed { in_place: false }, inputs.table.as_ref());
        let mut stats = Stats::default();
        // a half-width result of an odd length has a spare element at the end
        let values = |bytes: &[u8], tokens: usize| {
            let mut values = Data::from_bytes(embed.dtype, bytes).to_f32();
            values.truncate(tokens * dim);
            values
        };
        // what fits as it lies is taken as it lies; else parts are gathered
        match self.embed_part(embed, kernel, inputs, table, &mut stats).await {
            Ok(bytes) => {
                stats.parts = 1;
                return Ok((values(&bytes, batch as usize * len as usize), stats));
            }
            Err(Error::Limit { .. }) => stats = Stats::default(),
            Err(e) => return Err(e),
        }
        let (sequences, tokens) = part_size(embed, batch, len, table.map(|t| t.strides().token), &self.limits)?;
        let mut out = zeros([batch, len, 1, embed.dim])?;
        let cuts = |n: u32, by: u32| (0..n).step_by(by as usize).map(move |i| i..i.saturating_add(by).min(n));
        for b in cuts(batch, sequences) {
            for i in cuts(len, tokens) {
                let part = problem.part(b.clone(), i.clone())?;
                let bytes = self.embed_part(embed, kernel, &part, table, &mut stats).await?;
                let values = values(&bytes, b.len() * i.len());
                stats.parts += 1;
                for (row, values) in values.chunks_exact(i.len() * dim).enumerate() {
                    let start = ((b.start as usize + row) * len as usize + i.start as usize) * dim;
                    out[start..start + values.len()].copy_from_slice(values);
                }
            }
        }
        Ok((out, stats))
    }

    /// What stands in `out` afterwards; the table of a part is the whole's.
    pub(crate) async fn embed_part(
        &self,
        embed: &Embed,
        kernel: Kernel,
        part: &EmbedInputs,
        table: Option<&Tensor>,
        stats: &mut Stats,
    ) -> Result<Vec<u8>> {
        let plan = Plan::embed(embed, &EmbedShape::of(&part.x, table), kernel.in_place(), &self.limits)?;
        let mut step = vec![0; plan.step_layout().words as usize];
        let (q_len, q_positions) = (part.x.shape()[1], &part.positions);
        plan.step_layout().write(&Step { q_len, q_positions, ..Step::default() }, &mut step)?;
        let increments = embed.pack_increments();
        let element = embed.dtype.size() as u64;
        let mut contents = vec![
            Content {
                slot: source_slot(kernel),
                bytes: part.x.data().bytes(),
                offset: part.x.offset() as u64 * element,
            },
            Content { slot: Slot::Dense, bytes: bytemuck::cast_slice(&increments), offset: 0 },
            Content { slot: Slot::Step, bytes: bytemuck::cast_slice(&step), offset: 0 },
        ];
        if let Some(t) = table {
            contents.push(Content { slot: Slot::K, bytes: t.data().bytes(), offset: t.offset() as u64 * element });
        }
        let mut results = self.execute(&plan, &contents, stats, &|_| ()).await?;
        results.remove(&Slot::Out).ok_or_else(|| Error::device("embedding", "no result"))
    }
}

/// How many sequences, and how many tokens of each, fit one call.
fn part_size(embed: &Embed, batch: u32, len: u32, table_row: Option<u32>, limits: &Limits) -> Result<(u32, u32)> {
    let fits = |batch: u32, len: u32| {
        let mut shape = EmbedShape::new(embed, batch, len);
        shape.table_row = table_row.unwrap_or(embed.dim);
        Plan::embed(embed, &shape, false, limits).map(|_| ())
    };
    let halved = |n: u32| std::iter::successors(Some(n), |n| (*n > 1).then(|| n.div_ceil(2)));
    if let Some(b) = halved(batch).find(|b| fits(*b, len).is_ok()) {
        return Ok((b, len));
    }
    match halved(len).find(|n| fits(1, *n).is_ok()) {
        Some(n) => Ok((1, n)),
        None => fits(1, 1).map(|()| (1, 1)),
    }
}
