//! A small kernel of our own on a device.

use super::timing::{Budget, Stopwatch, Work};
use ropewalk::{Error, Gpu, Result, wgpu};

/// A small kernel with its buffers, bound in order.
pub(crate) struct Probe<'a> {
    gpu: &'a Gpu,
    name: &'static str,
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    pub(crate) buffers: Vec<wgpu::Buffer>,
    groups: [u32; 3],
}

impl<'a> Probe<'a> {
    /// Compiles `main` of a text and makes buffers of these sizes for its bindings from 0 on.
    pub(crate) fn new(
        gpu: &'a Gpu,
        name: &'static str,
        text: &str,
        sizes: &[(u64, wgpu::BufferUsages)],
        groups: [u32; 3],
    ) -> Result<Self> {
        let make = |(size, usage): &(u64, wgpu::BufferUsages)| {
            let (label, size, usage) = (Some(name), *size, *usage);
            gpu.device().create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
        };
        Self::over(gpu, name, text, &|| sizes.iter().map(make).collect(), groups)
    }

    /// The same over buffers that others may have too.
    pub(crate) fn over(
        gpu: &'a Gpu,
        name: &'static str,
        text: &str,
        buffers: &dyn Fn() -> Vec<wgpu::Buffer>,
        groups: [u32; 3],
    ) -> Result<Self> {
        let (device, label) = (gpu.device(), Some(name));
        let scopes = [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal]
            .map(|filter| device.push_error_scope(filter));
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffers = buffers();
        let entries: Vec<_> = (0..)
            .zip(&buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label, layout: &layout, entries: &entries });
        let mut first = None;
        for scope in scopes.into_iter().rev() {
            first = pollster::block_on(scope.pop()).or(first);
        }
        match first {
            Some(e) => Err(Error::device(format!("making {name}"), e)),
            None => Ok(Probe { gpu, name, pipeline, group, buffers, groups }),
        }
    }

    pub(crate) fn write(&self, buffer: usize, bytes: &[u8]) {
        if let Some(buffer) = self.buffers.get(buffer) {
            self.gpu.queue().write_buffer(buffer, 0, bytes);
        }
    }

    /// The shortest run.
    pub(crate) fn seconds(&self, stopwatch: &Stopwatch, budget: Budget) -> Result<f64> {
        let first = stopwatch.first_run(self)?;
        let timing = stopwatch.time(self, first, budget, &|_| ())?;
        Ok(1e-3 * timing.best().min_ms)
    }
}

impl Work for Probe<'_> {
    fn label(&self) -> &str {
        self.name
    }
    fn chunks(&self) -> usize {
        1
    }
    fn encode(&self, _: usize, pass: &mut wgpu::ComputePass) {
        let [x, y, z] = self.groups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
    fn encode_chunk(&self, set: usize, _: usize, pass: &mut wgpu::ComputePass) {
        self.encode(set, pass);
    }
}
