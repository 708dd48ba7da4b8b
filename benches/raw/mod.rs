//! Layers bound twice: by `Pipeline::bind`, and by hand with raw wgpu calls from what a plan tells everybody (text, bindings, uniforms,
//! dispatches). The second is the control: what wgpu and the driver cost by themselves.
use ropewalk::{Access, Binding, Buffers, CHUNK_STRIDE, Dispatch, Gpu, Pipeline, Plan, Slot, Step, Target, wgpu};

/// A plan bound by hand.
pub struct Raw {
    group: wgpu::BindGroup,
    dispatches: Vec<(wgpu::ComputePipeline, u32, [u32; 3])>,
}

impl Raw {
    pub fn encode(&self, pass: &mut wgpu::ComputePass) {
        for (pipeline, offset, [x, y, z]) in &self.dispatches {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &self.group, &[*offset]);
            pass.dispatch_workgroups(*x, *y, *z);
        }
    }
}

/// Layers of a model that run the same plans: k and v are a layer's own, the other buffers serve all.
pub struct Layers<'a> {
    gpu: &'a Gpu,
    /// Every plan of the first layer, then of the second, ...
    pub ours: Vec<Dispatch>,
    /// The same by hand.
    pub raw: Vec<Raw>,
}

impl<'a> Layers<'a> {
    pub fn new(gpu: &'a Gpu, plans: &[Plan], layers: usize) -> Self {
        let compiled: Vec<_> = plans.iter().map(|plan| Compiled::new(gpu, plan)).collect();
        let shared: Vec<_> = compiled.iter().map(|compiled| compiled.buffers(gpu, |slot| !own(slot))).collect();
        let mut all = Layers { gpu, ours: Vec::new(), raw: Vec::new() };
        for _ in 0..layers {
            for (compiled, shared) in compiled.iter().zip(&shared) {
                let mut buffers = compiled.buffers(gpu, own);
                buffers.extend(shared.iter().cloned());
                all.ours.push(compiled.bind(gpu, &buffers));
                all.raw.push(compiled.bind_raw(gpu, &buffers));
            }
        }
        gpu.finish().expect("the device works");
        all
    }

    /// One step: all layers in one pass, from the encoder to the command buffer, which is not submitted.
    pub fn step(&self, encode: impl FnOnce(&mut wgpu::ComputePass)) -> wgpu::CommandBuffer {
        let mut encoder = self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        encoder.finish()
    }
    pub fn encode_ours(&self, pass: &mut wgpu::ComputePass) {
        self.ours.iter().for_each(|dispatch| dispatch.encode(pass));
    }
    pub fn encode_raw(&self, pass: &mut wgpu::ComputePass) {
        self.raw.iter().for_each(|raw| raw.encode(pass));
    }
}

fn own(slot: Slot) -> bool {
    matches!(slot, Slot::K | Slot::V)
}

/// A plan compiled twice.
pub struct Compiled<'a> {
    plan: &'a Plan,
    ours: Pipeline,
    layout: wgpu::BindGroupLayout,
    raw: Vec<(&'static str, wgpu::ComputePipeline)>,
}

impl<'a> Compiled<'a> {
    pub fn new(gpu: &Gpu, plan: &'a Plan) -> Self {
        let device = gpu.device();
        let entry = |b: &Binding| wgpu::BindGroupLayoutEntry {
            binding: b.binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match b.access {
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    _ => wgpu::BufferBindingType::Uniform,
                },
                has_dynamic_offset: b.access == Access::UniformDynamic,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = plan.bindings().iter().map(entry).collect();
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(plan.wgsl(Target::Native).into()),
        });
        let compile = |entry| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            })
        };
        let raw = plan.entries().into_iter().map(|entry| (entry, compile(entry))).collect();
        Compiled { plan, ours: Pipeline::new(device, plan).expect("a plan that compiles"), layout, raw }
    }

    /// Buffers of the slots that the caller provides, zeros but for the step's words.
    pub fn buffers(&self, gpu: &Gpu, wanted: impl Fn(Slot) -> bool) -> Vec<(Slot, wgpu::Buffer)> {
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut words = vec![0; self.plan.step_layout().words as usize];
        let shape = self.plan.shape();
        let step = Step { q_len: shape.q_len, kv_len: shape.kv_len, ..Step::default() };
        self.plan.step_layout().write(&step, &mut words).expect("a step that fits");
        let mut buffer = |b: &Binding| {
            let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: b.size.next_multiple_of(4).max(16),
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            match b.slot {
                Slot::Step => gpu.queue().write_buffer(&buffer, 0, bytemuck::cast_slice(&words)),
                _ => encoder.clear_buffer(&buffer, 0, None),
            }
            (b.slot, buffer)
        };
        let storage = |b: &&Binding| matches!(b.access, Access::Read | Access::ReadWrite) && wanted(b.slot);
        let buffers = self.plan.bindings().iter().filter(storage).map(&mut buffer).collect();
        gpu.queue().submit([encoder.finish()]);
        buffers
    }

    pub fn bind(&self, gpu: &Gpu, buffers: &[(Slot, wgpu::Buffer)]) -> Dispatch {
        let bound = buffers.iter().fold(Buffers::new(), |all, (slot, buffer)| all.with(*slot, buffer, 0));
        self.ours.bind(gpu.device(), &bound).expect("buffers of the plan's sizes")
    }

    pub fn bind_raw(&self, gpu: &Gpu, buffers: &[(Slot, wgpu::Buffer)]) -> Raw {
        use wgpu::util::DeviceExt;
        let bindings = self.plan.bindings();
        let buffer = |b: &Binding| match buffers.iter().find(|(slot, _)| *slot == b.slot) {
            Some((_, buffer)) => buffer.clone(),
            None => gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents: &self.plan.uniform(b.slot).expect("a uniform of the plan"),
                usage: wgpu::BufferUsages::UNIFORM,
            }),
        };
        let bound: Vec<_> = bindings.iter().map(buffer).collect();
        let entry = |(b, buffer): (&Binding, _)| wgpu::BindGroupEntry {
            binding: b.binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: 0,
                size: wgpu::BufferSize::new(match b.slot {
                    Slot::Chunk => CHUNK_STRIDE,
                    _ => b.size.next_multiple_of(4),
                }),
            }),
        };
        let entries: Vec<_> = bindings.iter().zip(&bound).map(entry).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &self.layout, entries: &entries };
        let pipeline = |entry| self.raw.iter().find(|(name, _)| *name == entry).expect("an entry point").1.clone();
        let chunks = self.plan.chunks().iter().enumerate();
        let dispatch = |(i, c): (usize, &ropewalk::ChunkDispatch)| {
            (pipeline(c.entry), (i as u64 * CHUNK_STRIDE) as u32, c.workgroups)
        };
        Raw { group: gpu.device().create_bind_group(&descriptor), dispatches: chunks.map(dispatch).collect() }
    }
}
