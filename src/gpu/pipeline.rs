//! A compiled plan, and its binding to the caller's buffers.

use crate::error::{Error, Result};
use crate::gpu::bind::bind;
use crate::gpu::clock::Clock;
use crate::gpu::dispatch::{Buffers, Dispatch};
use crate::gpu::submission::Submission;
use crate::gpu::turn::{Held, is_lost, turn};
use crate::gpu::{takes, trusted};
use crate::plan::plan::Plan;
use crate::shader::layout::{Access, CHUNK_STRIDE};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// A compiled plan.
///
/// Compilation may take from milliseconds to seconds, by driver: do it once for each spec. A plan of another shape with
/// the same text shares it, see [`Pipeline::for_plan`].
#[derive(Debug, Clone)]
pub struct Pipeline {
    plan: Arc<Plan>,
    /// One for each entry point that the plan dispatches.
    pipelines: Held<Vec<(&'static str, wgpu::ComputePipeline)>>,
    layout: wgpu::BindGroupLayout,
    compile_time: Duration,
    /// Let go last: `layout` has the device too, which is to end in its turn.
    device: Held<wgpu::Device>,
}

/// Layouts made so far: those of plans with the same bindings are one.
#[derive(Debug, Default)]
pub(crate) struct Layouts(Mutex<Vec<Layout>>);

#[derive(Debug, Clone)]
struct Layout {
    entries: Vec<wgpu::BindGroupLayoutEntry>,
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

impl Layouts {
    fn known(&self) -> MutexGuard<'_, Vec<Layout>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The layout of a plan's bindings: a known one or a new one, to be kept when it is known to have no error.
    fn of(&self, device: &wgpu::Device, plan: &Plan) -> Layout {
        let entries: Vec<_> = plan
            .bindings()
            .iter()
            .map(|b| wgpu::BindGroupLayoutEntry {
                binding: b.binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match b.access {
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                        Access::Uniform | Access::UniformDynamic => wgpu::BufferBindingType::Uniform,
                    },
                    has_dynamic_offset: b.access == Access::UniformDynamic,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        if let Some(layout) = self.known().iter().find(|known| known.entries == entries) {
            return layout.clone();
        }
        let label = Some("ropewalk");
        let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&group)],
            immediate_size: 0,
        });
        Layout { entries, group, pipeline }
    }
    fn keep(&self, layout: &Layout) {
        let mut known = self.known();
        if !known.iter().any(|known| known.entries == layout.entries) {
            known.push(layout.clone());
        }
    }
}

/// Runs wgpu calls in turn, with their errors captured, a lost device among them. The scopes are closed when this returns, since they are a stack of the thread, on the
/// web of the device: what another future does before the result is awaited stays outside of them.
pub(crate) fn scoped<T>(
    device: &wgpu::Device,
    context: &str,
    calls: impl FnOnce() -> T,
) -> impl Future<Output = Result<T>> {
    let _turn = turn(device);
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let result = Held::new(device, calls());
    let (internal, validation, memory) = (internal.pop(), validation.pop(), memory.pop());
    async move {
        let errors = [internal.await, validation.await, memory.await];
        if is_lost(device).await {
            return Err(Error::device_lost(context, None));
        }
        match errors.into_iter().flatten().next() {
            Some(e) => Err(Error::of_wgpu(context, e)),
            None => Ok(result.into_inner()),
        }
    }
}

impl Pipeline {
    /// Compiles a plan, waiting for the compiler.
    ///
    /// # Errors
    /// [`Error::Limit`] where the plan takes more than the device has, by the limit's name; else the device's.
    pub fn new(device: &wgpu::Device, plan: &Plan) -> Result<Self> {
        pollster::block_on(Self::new_async(device, plan))
    }

    /// Compiles a plan.
    pub async fn new_async(device: &wgpu::Device, plan: &Plan) -> Result<Self> {
        Self::made(device, plan, &Layouts::default(), None).await
    }

    pub(crate) async fn made(
        device: &wgpu::Device,
        plan: &Plan,
        layouts: &Layouts,
        cache: Option<&wgpu::PipelineCache>,
    ) -> Result<Self> {
        takes::check(device, plan)?;
        takes::check_module(device, plan)?;
        let clock = Clock::now();
        let context = format!("compiling {}", plan.label());
        let made = scoped(device, &context, || {
            let module = trusted::shader_module(device, plan);
            let layout = layouts.of(device, plan);
            let compile = |entry: &'static str| {
                device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(plan.label()),
                    layout: Some(&layout.pipeline),
                    module: &module,
                    entry_point: Some(entry),
                    // every tile is written before it is read, and zeroing it takes some drivers seconds to compile
                    compilation_options: wgpu::PipelineCompilationOptions {
                        zero_initialize_workgroup_memory: false,
                        ..Default::default()
                    },
                    cache,
                })
            };
            (plan.entries().into_iter().map(|entry| (entry, compile(entry))).collect(), layout)
        });
        let (pipelines, layout) = made.await?;
        layouts.keep(&layout);
        let (device, pipelines) = (Held::new(device, device.clone()), Held::new(device, pipelines));
        Ok(Pipeline {
            plan: Arc::new(plan.clone()),
            pipelines,
            layout: layout.group,
            compile_time: clock.elapsed(),
            device,
        })
    }

    /// How long the device took to make it. Some drivers compile only when it first runs: see [`Pipeline::warm`].
    pub fn compile_time(&self) -> Duration {
        self.compile_time
    }

    /// Runs every entry point once over an empty grid, so that drivers which compile at the first dispatch do so now, and waits for it. Reads and writes nothing of the caller's. How long that took: with [`Pipeline::compile_time`] the whole cost.
    ///
    /// # Errors
    /// The device's.
    pub fn warm(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Duration> {
        pollster::block_on(self.warm_async(device, queue))
    }

    /// See [`Pipeline::warm`].
    ///
    /// # Errors
    /// The device's.
    pub async fn warm_async(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Duration> {
        let clock = Clock::now();
        self.check_device(device)?;
        let context = format!("warming {}", self.plan.label());
        let label = Some("ropewalk, warming");
        let submitted = scoped(device, &context, || {
            // as small as the shader's types allow
            let buffers = self.plan.bindings().iter().map(|b| {
                let (size, usage) = match b.access {
                    Access::Uniform => (b.size, wgpu::BufferUsages::UNIFORM),
                    Access::UniformDynamic => (CHUNK_STRIDE, wgpu::BufferUsages::UNIFORM),
                    Access::Read | Access::ReadWrite => (256, wgpu::BufferUsages::STORAGE),
                };
                let size = size.next_multiple_of(16);
                let buffer =
                    device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false });
                (b.binding, buffer)
            });
            let buffers: Vec<_> = buffers.collect();
            let binding = |buffer| {
                let size = std::num::NonZeroU64::new(wgpu::Buffer::size(buffer));
                wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size })
            };
            let entries: Vec<_> = buffers
                .iter()
                .map(|(number, buffer)| wgpu::BindGroupEntry { binding: *number, resource: binding(buffer) })
                .collect();
            let descriptor = wgpu::BindGroupDescriptor { label, layout: &self.layout, entries: &entries };
            let group = device.create_bind_group(&descriptor);
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label });
            {
                let descriptor = wgpu::ComputePassDescriptor { label, timestamp_writes: None };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                for (_, pipeline) in self.pipelines.iter() {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, &group, &[0]);
                    pass.dispatch_workgroups(0, 0, 0);
                }
            }
            Submission::new(queue, encoder.finish())
        });
        let done = submitted.await?.done(device, None).await;
        let time = clock.elapsed();
        match is_lost(device).await {
            true => Err(Error::device_lost(context, None)),
            false => done.map(|()| time),
        }
    }

    /// The same compiled shader for a plan of another shape; an error if its text or its run-time checks differ.
    pub fn for_plan(&self, plan: &Plan) -> Result<Self> {
        let same_text =
            plan.wgsl(crate::shader::compose::Target::Native) == self.plan.wgsl(crate::shader::compose::Target::Native);
        if !same_text || plan.tuning().checks != self.plan.tuning().checks {
            return Err(Error::spec(
                "plan",
                format!("{} differs from {}", plan.label(), self.plan.label()),
                "compile a pipeline of its own",
            ));
        }
        Ok(Pipeline { plan: Arc::new(plan.clone()), ..self.clone() })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Binds the caller's buffers. Allocates the small uniforms of the plan; everything else is the caller's. Errors name
    /// the buffer.
    ///
    /// Device and buffers are of one [`wgpu::Instance`], as all are whose adapters come from this crate: wgpu numbers them by instance, and
    /// takes a buffer of another one for its own of that number.
    pub fn bind(&self, device: &wgpu::Device, buffers: &Buffers) -> Result<Dispatch> {
        pollster::block_on(self.bind_async(device, buffers))
    }

    /// See [`Pipeline::bind`].
    pub async fn bind_async(&self, device: &wgpu::Device, buffers: &Buffers<'_>) -> Result<Dispatch> {
        self.check_device(device)?;
        takes::check(device, &self.plan)?;
        let (group, frame) = bind(device, &self.plan, &self.layout, buffers, None).await?;
        Ok(Dispatch {
            pipelines: self.pipelines.clone(),
            group,
            frame,
            plan: self.plan.clone(),
            chunks: self.plan.chunks().to_vec(),
            device: self.device.clone(),
        })
    }

    fn check_device(&self, device: &wgpu::Device) -> Result<()> {
        let same = *device == *self.device && device.adapter_info().backend == self.device.adapter_info().backend;
        match same {
            true => Ok(()),
            false => Err(Error::input(
                "device",
                format!("is not the one that {} was compiled on", self.plan.label()),
                "compile it on every device that runs it",
            )),
        }
    }
}

/// A buffer with contents; `None` if it could not be mapped (an error scope holds the reason).
pub(crate) fn filled(
    device: &wgpu::Device,
    label: &str,
    usage: wgpu::BufferUsages,
    contents: &[u8],
) -> Option<wgpu::Buffer> {
    let size = (contents.len() as u64).next_multiple_of(4).max(16);
    let buffer =
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: true });
    {
        let mut view = buffer.get_mapped_range_mut(..).ok()?;
        view.slice(..contents.len()).copy_from_slice(contents);
    }
    buffer.unmap();
    Some(buffer)
}
