//! The one-call form of [`Kernel::Embed`](crate::Kernel::Embed).

use super::{Content, Gpu, Stats, zeros};
use crate::embed::EmbedProblem;
use crate::{Data, Embed, EmbedInputs, EmbedShape, Error, Limits, Plan, Result, Slot, Step};

impl Gpu {
    /// input_scale x + position_scale P\[m\], `[batch, len, dim]`: the twin of [`reference::embed`](crate::reference::embed).
    pub fn embed(&self, embed: &Embed, inputs: &EmbedInputs) -> Result<Vec<f32>> {
        pollster::block_on(self.embed_async(embed, inputs)).map(|(out, _)| out)
    }

    /// See [`Gpu::embed`]; with figures.
    pub async fn embed_async(&self, embed: &Embed, inputs: &EmbedInputs) -> Result<(Vec<f32>, Stats)> {
        let problem = EmbedProblem::new(embed, inputs)?;
        let (batch, len, dim) = (problem.batch, problem.len, embed.dim as usize);
        let (sequences, tokens) =
            part_size(embed, batch, len, inputs.table.as_ref().map(|t| t.strides().token), &self.limits)?;
        let mut out = zeros([batch, len, 1, embed.dim])?;
        let mut stats = Stats::default();
        let cuts = |n: u32, by: u32| (0..n).step_by(by as usize).map(move |i| i..(i + by).min(n));
        for b in cuts(batch, sequences) {
            for i in cuts(len, tokens) {
                let part = problem.part(b.clone(), i.clone())?;
                let values = self.embed_part(embed, &part, inputs, &mut stats).await?;
                stats.parts += 1;
                for (row, values) in values.chunks_exact(i.len() * dim).enumerate() {
                    let start = ((b.start as usize + row) * len as usize + i.start as usize) * dim;
                    out[start..start + values.len()].copy_from_slice(values);
                }
            }
        }
        Ok((out, stats))
    }

    async fn embed_part(
        &self,
        embed: &Embed,
        part: &EmbedInputs,
        whole: &EmbedInputs,
        stats: &mut Stats,
    ) -> Result<Vec<f32>> {
        let [batch, len, ..] = part.x.shape();
        let mut shape = EmbedShape::new(embed, batch, len);
        let table = whole.table.as_ref();
        if let Some(table) = table {
            (shape.table_row, shape.aligned) = (table.strides().token, table.offset().is_multiple_of(4));
        }
        let plan = Plan::embed(embed, &shape, false, &self.limits)?;
        let mut step = vec![0; plan.step_layout().words as usize];
        let q_positions = &part.positions;
        plan.step_layout().write(&Step { q_len: len, q_positions, ..Step::default() }, &mut step)?;
        let increments = embed.pack_increments();
        let element = embed.dtype.size() as u64;
        let mut contents = vec![
            Content { slot: Slot::Q, bytes: part.x.data().bytes(), offset: 0 },
            Content { slot: Slot::Dense, bytes: bytemuck::cast_slice(&increments), offset: 0 },
            Content { slot: Slot::Step, bytes: bytemuck::cast_slice(&step), offset: 0 },
        ];
        if let Some(t) = table {
            contents.push(Content { slot: Slot::K, bytes: t.data().bytes(), offset: t.offset() as u64 * element });
        }
        let results = self.execute(&plan, &contents, stats, &|_| ()).await?;
        match results.get(&Slot::Out) {
            // a half-width result of an odd length has a spare element at the end
            Some(bytes) => {
                let mut values = Data::from_bytes(embed.dtype, bytes).to_f32();
                values.truncate(batch as usize * len as usize * embed.dim as usize);
                Ok(values)
            }
            None => Err(Error::device("embedding", "no result")),
        }
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
