//! The one-call form of [`Kernel::Linear`].

use crate::equation::spec::Spec;
use crate::error::Result;
use crate::gpu::device::{Gpu, Progress, Stats};
use crate::gpu::one_call::one_call::zeros;
use crate::gpu::one_call::slice;
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::plan::kernel::Kernel;
use crate::plan::linear::{StateLayout, v_tiles};
use crate::reference::linear::LinearOutput;

impl Gpu {
    /// Linear attention: the twin of [`reference::linear`](crate::reference::linear).
    pub fn linear(&self, spec: &Spec, inputs: &Inputs) -> Result<LinearOutput<f32>> {
        pollster::block_on(self.linear_async(spec, inputs, &|_| ())).map(|(output, _)| output)
    }

    /// See [`Gpu::linear`]; with figures. `progress` hears the finished share of the dispatches.
    pub async fn linear_async(
        &self,
        spec: &Spec,
        inputs: &Inputs,
        progress: &Progress<'_>,
    ) -> Result<(LinearOutput<f32>, Stats)> {
        let problem = Problem::new(spec, inputs)?;
        slice::parts(Kernel::Linear, &problem, &self.limits)?; // before anything large is allocated
        let [batch, q_len] = [problem.shape.batch, problem.shape.q_len];
        let (heads, dim, features) = (spec.num_heads, spec.v_head_dim, spec.features());
        let normalized = spec.linear.as_ref().is_some_and(|l| l.normalizer.is_some());
        let mut output = LinearOutput {
            out_shape: [batch, q_len, heads, dim],
            out: zeros([batch, q_len, heads, dim])?,
            state: zeros([batch, spec.num_kv_heads, features, dim])?,
            normalizer: zeros([batch, spec.num_kv_heads, if normalized { features } else { 0 }, 1])?,
        };
        let (row, state_len, z_len) = (dim as usize, (features * dim) as usize, features as usize);
        let stats = self
            .run(Kernel::Linear, &problem, progress, &mut |part, run| {
                let group = spec.group();
                let n = part.kv_heads.len() as u32 * group;
                let layout = StateLayout::new(&slice::part_spec(spec, part), part.batch.len() as u32);
                for (bi, b) in part.batch.clone().enumerate() {
                    for i in 0..q_len {
                        let from = ((bi as u32 * q_len + i) * n * dim) as usize;
                        let to = ((b * q_len + i) * heads + part.kv_heads.start * group) as usize * row;
                        let len = n as usize * row;
                        output.out[to..to + len].copy_from_slice(&run.out[from..from + len]);
                    }
                    for (gi, g) in part.kv_heads.clone().enumerate() {
                        // the heads that share a kv head hold the same state: the first one's
                        let unit = bi * n as usize + gi * group as usize;
                        let to = (b * spec.num_kv_heads + g) as usize;
                        output.state[to * state_len..(to + 1) * state_len]
                            .copy_from_slice(&run.lse[unit * state_len..(unit + 1) * state_len]);
                        if normalized {
                            let from = layout.normalizer as usize + unit * v_tiles(spec) as usize * z_len;
                            output.normalizer[to * z_len..(to + 1) * z_len]
                                .copy_from_slice(&run.lse[from..from + z_len]);
                        }
                    }
                }
            })
            .await?;
        Ok((output, stats))
    }
}
