//! A pipeline bound to buffers: encoding it cannot fail.

use crate::error::Result;
use crate::gpu::bind::{Frame, bind};
use crate::gpu::turn::Held;
use crate::plan::grid::ChunkDispatch;
use crate::plan::plan::Plan;
use crate::shader::layout::{CHUNK_STRIDE, Slot};
use std::sync::Arc;

/// The caller's buffers by slot, each with an offset in bytes. q, k, v, out, dense and work may start at any element (a
/// plan made with `shape.aligned` asks for multiples of four elements); tables and step at the device's offset alignment,
/// 256 by default. Slots that the plan does not use are ignored.
///
/// Several tensors may lie in one buffer. What is only read may overlap; what the plan writes (`out`, `work`) lies apart from everything
/// else by the bytes that are bound: from each tensor's start, rounded down to the offset alignment, to its end. The plan is then one of
/// [`Plan::share`](crate::Plan::share), which names what else lies in a buffer with `out` or `work`.
///
/// `dense` holds D and, behind it, the words that the user's functions read. `out` receives the result, `work` (`plan.workspace_size()` bytes) lse, `tables` holds what `plan.pack_tables()` gives,
/// `step` what `plan.step_layout()` says, written for every step.
#[derive(Debug, Clone, Default)]
pub struct Buffers<'a> {
    bound: Vec<(Slot, wgpu::BufferBinding<'a>)>,
}

impl<'a> Buffers<'a> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }
    /// The buffer of a slot, from a byte offset to its end; a later one replaces an earlier one.
    pub fn with(self, slot: Slot, buffer: &'a wgpu::Buffer, offset: u64) -> Self {
        self.with_binding(slot, wgpu::BufferBinding { buffer, offset, size: None })
    }
    /// The buffer of a slot, where its size is bounded too.
    pub fn with_binding(mut self, slot: Slot, binding: wgpu::BufferBinding<'a>) -> Self {
        self.bound.retain(|(s, _)| *s != slot);
        self.bound.push((slot, binding));
        self
    }
    pub(crate) fn get(&self, slot: Slot) -> Option<&wgpu::BufferBinding<'a>> {
        self.bound.iter().find(|(s, _)| *s == slot).map(|(_, b)| b)
    }
}

/// A pipeline bound to buffers: encoding it cannot fail, map, poll or submit, and allocates nothing but what wgpu's own calls do.
#[derive(Debug, Clone)]
pub struct Dispatch {
    pub(crate) pipelines: Held<Vec<(&'static str, wgpu::ComputePipeline)>>,
    pub(crate) group: Held<wgpu::BindGroup>,
    pub(crate) frame: Held<Frame>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) chunks: Vec<ChunkDispatch>,
    /// Let go last: the others have the device too, which is to end in its turn.
    pub(crate) device: Held<wgpu::Device>,
}

impl Dispatch {
    /// Binds other buffers of the caller's in place of all of these, for engines whose tensors move from call to call. The uniforms stay,
    /// but for the parameters where a tensor starts at another distance from a multiple of the device's offset alignment: those get a buffer
    /// of their own. What is encoded already keeps the buffers that it was encoded with.
    ///
    /// # Errors
    /// As [`Pipeline::bind`](crate::Pipeline::bind); the dispatch then stays as it was.
    pub fn rebind(&mut self, buffers: &Buffers) -> Result<()> {
        pollster::block_on(self.rebind_async(buffers))
    }
    /// See [`Dispatch::rebind`].
    ///
    /// # Errors
    /// As [`Dispatch::rebind`].
    pub async fn rebind_async(&mut self, buffers: &Buffers<'_>) -> Result<()> {
        let made = bind(&self.device, &self.plan, self.frame.layout(), buffers, Some(&self.frame)).await?;
        (self.group, self.frame) = made;
        Ok(())
    }
    /// Encodes every dispatch into the caller's compute pass.
    pub fn encode(&self, pass: &mut wgpu::ComputePass) {
        for chunk in 0..self.chunks.len() {
            self.encode_chunk(pass, chunk);
        }
    }
    /// How many dispatches there are; each is short enough for a watchdog, all of them may not be.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }
    /// Encodes one of them (counted from 0; others do nothing), for callers that spread long work over submissions.
    pub fn encode_chunk(&self, pass: &mut wgpu::ComputePass, chunk: usize) {
        let Some(ChunkDispatch { workgroups: [x, y, z], entry, .. }) = self.chunks.get(chunk) else { return };
        let Some((_, pipeline)) = self.pipelines.iter().find(|(name, _)| name == entry) else { return };
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &*self.group, &[chunk as u32 * CHUNK_STRIDE as u32]);
        pass.dispatch_workgroups(*x, *y, *z);
    }
}
