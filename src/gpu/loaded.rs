//! Plans compiled and bound on a device, in several sets of buffers that runs take in turn.

use crate::error::{Error, Result};
use crate::gpu::clock::Clock;
use crate::gpu::device::Gpu;
use crate::gpu::dispatch::{Buffers, Dispatch};
use crate::gpu::pipeline::{Pipeline, filled, scoped};
use crate::gpu::turn::{Held, turn};
use crate::inputs::inputs::Inputs;
use crate::plan::kernel::Kernel;
use crate::plan::plan::Plan;
use crate::plan::step::Step;
use crate::shader::layout::Slot;
use std::time::Duration;

/// Plans compiled and bound to buffers of their own, ready to be run again and again.
///
/// Every set has its own copy of inputs, results and scratch: runs that take the sets in turn find nothing in a cache that an engine,
/// with other layers in between, would not find there.
#[derive(Debug)]
pub struct Loaded<'a> {
    gpu: &'a Gpu,
    inputs: &'a Inputs,
    plans: Vec<Plan>,
    sets: Vec<Vec<Bound>>,
    compile_time: Duration,
}

/// One plan in one set.
#[derive(Debug)]
struct Bound {
    dispatch: Dispatch,
    buffers: Held<Vec<(Slot, wgpu::Buffer)>>,
}

impl<'a> Loaded<'a> {
    /// Compiles the plans and fills `sets` sets of buffers (at least one). The plans are those of one spec and the shape of the inputs: contiguous
    /// tensors, the terms that workloads have.
    ///
    /// # Errors
    /// The device's: compilation, memory.
    pub fn new(gpu: &'a Gpu, plans: Vec<Plan>, inputs: &'a Inputs, sets: usize) -> Result<Self> {
        let clock = Clock::now();
        let pipelines: Vec<_> = plans.iter().map(|plan| Pipeline::new(gpu.device(), plan)).collect::<Result<_>>()?;
        let compile_time = clock.elapsed();
        let mut loaded = Loaded { gpu, inputs, plans, sets: Vec::new(), compile_time };
        for _ in 0..sets.max(1) {
            let set = pipelines.iter().map(|pipeline| loaded.bind(pipeline)).collect::<Result<_>>()?;
            loaded.sets.push(set);
            loaded.reset(loaded.sets.len() - 1)?;
        }
        Ok(loaded)
    }

    fn bind(&self, pipeline: &Pipeline) -> Result<Bound> {
        let (device, plan) = (self.gpu.device(), pipeline.plan());
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let shape = plan.shape();
        let mut step = vec![0; plan.step_layout().words as usize];
        let lengths = Step { q_len: shape.q_len, kv_len: shape.kv_len, ..Step::default() };
        plan.step_layout().write(&lengths, &mut step)?;
        let tables = plan.pack_tables(&self.inputs.parameters, self.inputs.angle_table.as_ref())?;
        let storage = plan.bindings().iter().filter(|b| {
            use crate::shader::layout::Access::{Read, ReadWrite};
            matches!(b.access, Read | ReadWrite)
        });
        let context = "allocating buffers";
        let made = scoped(device, context, || {
            let buffer = |binding: &crate::shader::layout::Binding| {
                let contents: Option<&[u8]> = match binding.slot {
                    Slot::Tables => Some(bytemuck::cast_slice(&tables)),
                    Slot::Step => Some(bytemuck::cast_slice(&step)),
                    slot => self.contents(plan, slot),
                };
                let made = match contents {
                    Some(bytes) => filled(device, binding.name, usage, bytes)?,
                    None => device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some(binding.name),
                        size: binding.size.next_multiple_of(4).max(16),
                        usage,
                        mapped_at_creation: false,
                    }),
                };
                Some((binding.slot, made))
            };
            storage.map(buffer).collect::<Option<Vec<_>>>()
        });
        let Some(buffers) = pollster::block_on(made)? else {
            return Err(Error::out_of_memory(context, "a buffer could not be mapped"));
        };
        let buffers = Held::new(device, buffers);
        let bound = buffers.iter().fold(Buffers::new(), |all, (slot, buffer)| all.with(*slot, buffer, 0));
        let dispatch = pipeline.bind(device, &bound)?;
        Ok(Bound { dispatch, buffers })
    }

    /// What a slot holds before a run, where that is an input.
    fn contents(&self, plan: &Plan, slot: Slot) -> Option<&[u8]> {
        let source = match plan.kernel() {
            Kernel::RotateK { .. } => &self.inputs.k,
            _ => &self.inputs.q,
        };
        let tensor = match slot {
            Slot::Q => source,
            Slot::Out if plan.kernel().in_place() => source,
            Slot::K => &self.inputs.k,
            Slot::V => &self.inputs.v,
            _ => return None,
        };
        Some(tensor.data().bytes())
    }

    /// The device.
    pub fn gpu(&self) -> &'a Gpu {
        self.gpu
    }
    /// The plans, in the order in which they run.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }
    /// Sets of buffers.
    pub fn sets(&self) -> usize {
        self.sets.len()
    }
    /// How long the pipelines took to make; some drivers compile only when they first dispatch.
    pub fn compile_time(&self) -> Duration {
        self.compile_time
    }
    /// Dispatches of all plans.
    pub fn chunks(&self) -> usize {
        self.sets.first().map_or(0, |set| set.iter().map(|b| b.dispatch.chunks()).sum())
    }

    /// Encodes every dispatch of every plan; the set is counted round.
    pub fn encode(&self, set: usize, pass: &mut wgpu::ComputePass) {
        self.set(set).for_each(|bound| bound.dispatch.encode(pass));
    }
    /// Encodes one of all dispatches, for work that is too long for one submission.
    pub fn encode_chunk(&self, set: usize, chunk: usize, pass: &mut wgpu::ComputePass) {
        let mut chunk = chunk;
        for Bound { dispatch, .. } in self.set(set) {
            match chunk.checked_sub(dispatch.chunks()) {
                Some(rest) => chunk = rest,
                None => return dispatch.encode_chunk(pass, chunk),
            }
        }
    }
    fn set(&self, set: usize) -> impl Iterator<Item = &Bound> {
        self.sets.iter().cycle().skip(set % self.sets.len().max(1)).take(1).flatten()
    }

    /// Makes a set as it was before its first run: zeros for results and scratch, the inputs where they are replaced.
    ///
    /// # Errors
    /// The device's.
    pub fn reset(&self, set: usize) -> Result<()> {
        let turn = turn(self.gpu.device());
        let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (bound, plan) in self.set(set).zip(&self.plans) {
            for (slot, buffer) in bound.buffers.iter().filter(|(slot, _)| matches!(slot, Slot::Out | Slot::Work)) {
                match self.contents(plan, *slot) {
                    Some(bytes) => self.gpu.queue().write_buffer(buffer, 0, bytes),
                    None => encoder.clear_buffer(buffer, 0, None),
                }
            }
        }
        self.gpu.queue().submit([encoder.finish()]);
        drop(turn);
        self.gpu.finish()
    }

    /// The bytes of a plan's buffer, up to what the plan binds of it; none where it has none.
    ///
    /// # Errors
    /// The device's.
    pub fn read(&self, set: usize, plan: usize, slot: Slot) -> Result<Vec<u8>> {
        let bound = self.set(set).nth(plan);
        let Some((_, buffer)) = bound.and_then(|b| b.buffers.iter().find(|(s, _)| *s == slot)) else {
            return Ok(Vec::new());
        };
        let device = self.gpu.device();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("reading back"),
            size: buffer.size(),
            usage,
            mapped_at_creation: false,
        };
        let staging = scoped(device, "reading back", || {
            let staging = device.create_buffer(&descriptor);
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
            self.gpu.queue().submit([encoder.finish()]);
            staging
        });
        let staging = Held::new(device, pollster::block_on(staging)?);
        let mut bytes = self.gpu.read_back(&staging)?;
        let size = self.plans.get(plan).and_then(|p| p.binding(slot)).map_or(0, |b| b.size);
        bytes.truncate(size as usize);
        Ok(bytes)
    }
}
