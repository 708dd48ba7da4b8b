//! The one-call forms of rotations and embeddings in place.

use crate::equation::embed::Embed;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::gpu::device::{Gpu, Stats};
use crate::inputs::embed::EmbedInputs;
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::inputs::tensor::{Data, Tensor};
use crate::plan::kernel::Kernel;
use crate::plan::plan::Plan;
use crate::shader::layout::Slot;

impl Gpu {
    /// As [`Gpu::rotate`], in place: rotated rows of q and k replace those of the inputs, in their strides. What else their data
    /// holds, keys from kv_len on among it, stays bit by bit; residuals of q and k are gone.
    ///
    /// # Errors
    /// As [`Gpu::rotate`]; also [`Error::Limit`] where a tensor is more than a binding takes, since it is not cut,
    /// and [`Error::Spec`] where rows overlap. The inputs are then as they were.
    pub fn rotate_in_place(&self, spec: &Spec, inputs: &mut Inputs) -> Result<()> {
        pollster::block_on(self.rotate_in_place_async(spec, inputs))
    }
    /// See [`Gpu::rotate_in_place`].
    pub async fn rotate_in_place_async(&self, spec: &Spec, inputs: &mut Inputs) -> Result<()> {
        let problem = Problem::new(spec, inputs)?;
        let (q, k) = (Kernel::RotateQ { in_place: true }, Kernel::RotateK { in_place: true });
        for kernel in [q, k] {
            Plan::for_problem(kernel, &problem, &self.limits)?; // before anything runs
        }
        let mut stats = Stats::default();
        let mut both = [None, None];
        for ((kernel, given), turned) in [(q, &inputs.q), (k, &inputs.k)].into_iter().zip(&mut both) {
            let mut results = self.run_bytes(kernel, &problem, &mut stats, &|_| ()).await?;
            *turned = Some(replaced(given, results.remove(&Slot::Out))?);
        }
        if let [Some(q), Some(k)] = both {
            (inputs.q, inputs.k) = (q, k);
        }
        Ok(())
    }

    /// As [`Gpu::embed`], in place: the rows of x are replaced, in their strides. What else its data holds stays bit by bit.
    ///
    /// # Errors
    /// As [`Gpu::embed`]; also [`Error::Limit`] where x is more than a binding takes, since it is not cut, and
    /// [`Error::Spec`] where rows overlap. The inputs are then as they were.
    pub fn embed_in_place(&self, embed: &Embed, inputs: &mut EmbedInputs) -> Result<()> {
        pollster::block_on(self.embed_in_place_async(embed, inputs))
    }
    /// See [`Gpu::embed_in_place`].
    pub async fn embed_in_place_async(&self, embed: &Embed, inputs: &mut EmbedInputs) -> Result<()> {
        crate::inputs::embed::EmbedProblem::new(embed, inputs)?;
        let kernel = Kernel::Embed { in_place: true };
        let bytes = self.embed_part(embed, kernel, inputs, inputs.table.as_ref(), &mut Stats::default()).await?;
        inputs.x = replaced(&inputs.x, Some(bytes))?;
        Ok(())
    }
}

/// The tensor with other data.
fn replaced(tensor: &Tensor, bytes: Option<Vec<u8>>) -> Result<Tensor> {
    let given = tensor.data().bytes().len();
    match bytes.as_ref().and_then(|bytes| bytes.get(..given)) {
        Some(bytes) => {
            Tensor::strided(Data::from_bytes(tensor.dtype(), bytes), tensor.shape(), tensor.strides(), tensor.offset())
        }
        None => Err(Error::device("computing in place", "no result")),
    }
}
