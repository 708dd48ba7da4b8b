//! Cooperative matrices: whether an adapter has them, and whether they multiply.
//!
//! wgpu calls them experimental, and the memory model of what it writes is not settled, so a device that was asked for them first
//! tells how large the subgroups are that multiply them, then computes attentions and compares them with the reference. Where that fails, it goes on without
//! them and says why.

use crate::check::attention::attention_in;
use crate::check::bound::Arithmetic;
use crate::equation::dtype::Dtype;
use crate::equation::mask::Mask;
use crate::equation::rotary::rotary::{Pairing, Rotary};
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::gpu::adapter::GpuOptions;
use crate::gpu::device::{Gpu, NOT_ASKED};
use crate::gpu::pipeline::scoped;
use crate::gpu::submission::Submission;
use crate::inputs::inputs::Inputs;
use crate::inputs::tensor::{Data, Tensor};
use crate::plan::limits::Limits;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::reference::attention::Output;
use crate::shader::dialect;
use crate::shader::dialect::{MatrixShape, Role};

/// What a device with them is opened with.
pub(crate) struct Wanted {
    /// Rows of a matrix.
    pub(crate) size: u32,
    features: wgpu::Features,
    experimental: wgpu::ExperimentalFeatures,
}

impl Wanted {
    pub(crate) fn descriptor<'a>(&self, plain: &wgpu::DeviceDescriptor<'a>) -> wgpu::DeviceDescriptor<'a> {
        wgpu::DeviceDescriptor {
            required_features: plain.required_features | self.features,
            experimental_features: self.experimental,
            ..plain.clone()
        }
    }
}

/// What to ask for, or why not.
#[cfg(not(feature = "cooperative-matrix"))]
pub(crate) fn wanted(_: &wgpu::Adapter, options: &GpuOptions) -> std::result::Result<Wanted, String> {
    Err(if options.cooperative_matrix {
        "ropewalk was built without the cargo feature cooperative-matrix".into()
    } else {
        NOT_ASKED.into()
    })
}

/// What to ask for, or why not.
#[cfg(feature = "cooperative-matrix")]
pub(crate) fn wanted(adapter: &wgpu::Adapter, options: &GpuOptions) -> std::result::Result<Wanted, String> {
    let features =
        wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    let backend = adapter.get_info().backend;
    if !options.cooperative_matrix {
        return Err(NOT_ASKED.into());
    }
    if options.default_limits {
        return Err("default_limits asks for no features at all".into());
    }
    // the writers of HLSL and GLSL do not know such modules, and that of Metal loads no matrix from an array of vectors
    if backend != wgpu::Backend::Vulkan {
        return Err(format!("kernels here take them on Vulkan, not on {backend:?}"));
    }
    let missing = features - adapter.features();
    if !missing.is_empty() {
        return Err(format!("the adapter lacks {missing}"));
    }
    let has = adapter.cooperative_matrix_properties();
    let exact = |n: &u32| {
        has.iter().any(|p| {
            [p.m_size, p.n_size, p.k_size] == [*n; 3]
                && p.ab_type == wgpu::CooperativeScalarType::F16
                && p.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    // the larger: fewer instructions
    match [16, 8].into_iter().find(exact) {
        Some(size) => Ok(Wanted { size, features, experimental: crate::gpu::trusted::experimental_features() }),
        None => Err(format!("the adapter multiplies no f16 by f16 into f32 in squares of 8 or 16: {has:?}")),
    }
}

/// What tests put between a result and its check.
pub(crate) type Spoil = dyn Fn(&mut Output<f32>) + Sync;

pub(crate) fn untouched(_: &mut Output<f32>) {}

impl Gpu {
    /// Rows (8 or 16) of the cooperative matrices that f16 attention is computed with; else why it is not: not asked for, not there, or
    /// a self-test that failed when the device was opened.
    pub fn cooperative_matrix(&self) -> std::result::Result<u32, &str> {
        self.matrix.as_ref().copied().map_err(String::as_str)
    }

    /// Uses matrices of a size if they pass the self-test.
    pub(crate) async fn take_matrix(&mut self, size: std::result::Result<u32, String>, spoil: &Spoil) {
        self.matrix = match size {
            Ok(size) => match self.matrix_limits(size, spoil).await {
                Ok(limits) => {
                    self.limits = limits;
                    Ok(size)
                }
                Err(why) => Err(why),
            },
            Err(why) => Err(why),
        };
        if self.matrix.is_err() {
            (self.limits.cooperative_matrix, self.limits.matrix_subgroup) = (0, 0);
        }
    }

    /// The limits with matrices, of a device that passes.
    async fn matrix_limits(&self, size: u32, spoil: &Spoil) -> std::result::Result<Limits, String> {
        let mut subgroup = self.matrix_subgroup(size, 4 * 32).await?;
        // larger ones take a larger workgroup, for which the driver may choose another size
        if subgroup > 32 {
            let again = self.matrix_subgroup(size, 4 * subgroup).await?;
            if again != subgroup {
                return Err(format!("its subgroups have {subgroup} lanes in one workgroup and {again} in another"));
            }
            subgroup = again;
        }
        let limits = Limits { cooperative_matrix: size, matrix_subgroup: subgroup, ..self.limits };
        self.self_test(limits, spoil).await.map(|()| limits)
    }

    /// Lanes of the subgroups of a workgroup of so many that multiplies matrices.
    async fn matrix_subgroup(&self, size: u32, lanes: u32) -> std::result::Result<u32, String> {
        let most = self.limits.max_invocations;
        if lanes > most {
            return Err(format!("its workgroups have at most {most} lanes, matrices take {lanes}"));
        }
        let told = async || -> Result<Vec<u8>> {
            let (submission, read) = scoped(self.device(), "asking for the size of subgroups", || {
                let device = self.device();
                let buffer = |size: u64, usage| {
                    let label = Some("ropewalk, subgroups");
                    device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
                };
                let source = wgpu::ShaderSource::Wgsl(telling(size, lanes).into());
                let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
                let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some("ropewalk, subgroups"),
                    layout: None,
                    module: &module,
                    entry_point: Some("main"),
                    compilation_options: Default::default(),
                    cache: None,
                });
                let bytes = 4 * lanes as u64;
                let source = buffer(2 * (size * size) as u64, wgpu::BufferUsages::STORAGE);
                let told = buffer(bytes, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
                let read = buffer(bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
                let layout = &pipeline.get_bind_group_layout(0);
                let entries = &[(0, &source), (1, &told)]
                    .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
                let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries });
                let mut encoder = device.create_command_encoder(&Default::default());
                {
                    let mut pass = encoder.begin_compute_pass(&Default::default());
                    pass.set_pipeline(&pipeline);
                    pass.set_bind_group(0, &group, &[]);
                    pass.dispatch_workgroups(1, 1, 1);
                }
                encoder.copy_buffer_to_buffer(&told, 0, &read, 0, bytes);
                (Submission::new(self.queue(), encoder.finish()), read)
            })
            .await?;
            submission.done(self.device(), self.timeout).await?;
            self.read(&read).await
        };
        let bytes = told().await.map_err(|e| format!("its subgroups could not be asked for their size: {e}"))?;
        let sizes: Vec<u32> = bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect();
        match sizes.first() {
            Some(0) | None => Err("lanes of its workgroups stand in another order than their numbers".into()),
            Some(first) if sizes.iter().any(|size| size != first) => {
                Err(format!("the subgroups of a workgroup differ in size: {sizes:?}"))
            }
            Some(first) => Ok(*first),
        }
    }

    async fn self_test(&self, limits: Limits, spoil: &Spoil) -> std::result::Result<(), String> {
        let limits = Limits { tuning: Some(Tuning::of(Family::Coop)), ..limits };
        for (spec, inputs) in problems().map_err(|e| format!("the self-test could not be made: {e}"))? {
            let bounds = attention_in(&spec, &inputs, Arithmetic::F16Matrix);
            let (out, lse) = bounds.map_err(|e| format!("the self-test has no bounds: {e}"))?;
            for _ in 0..RUNS {
                let ran = self.with_limits(limits).attention_async(&spec, &inputs, &|_| ()).await;
                let (mut output, stats) = ran.map_err(|e| format!("the self-test did not run: {e}"))?;
                if !stats.kernel.contains(".coop") {
                    let got = stats.kernel;
                    return Err(format!("the device has too little for such a kernel; the self-test got {got}"));
                }
                spoil(&mut output);
                for (name, worst) in [("out", out.worst(&output.out)), ("lse", lse.worst(&output.lse))] {
                    if worst.failures > 0 || worst.unbounded > 0 {
                        let (n, of, ratio) = (worst.failures, worst.elements, worst.ratio);
                        return Err(format!(
                            "the self-test failed: {n} of {of} elements of {name} beyond their bounds, one {ratio:.1} times"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// How often the self-test computes each attention: what drivers order wrongly may come out right once.
const RUNS: usize = 3;

/// A kernel that multiplies two matrices, so that a driver chooses subgroups as for kernels that do, and tells each lane their size; 0 where a
/// lane's number is not its own within the subgroup, behind the lanes of those before.
fn telling(size: u32, lanes: u32) -> String {
    let [stride, fours] = [size / 4, size * size / 4].map(|n| format!("{n}u"));
    let [left, right] = [Role::Left, Role::Right].map(|role| dialect::load(role, "source", "0u", &stride));
    let sum = dialect::multiply_add(&left, &right, &dialect::zero(Role::Sum));
    let store = dialect::store("sum", "sums", "0u", &stride);
    format!(
        "{}{}\
         @group(0) @binding(0) var<storage, read> source: array<vec4<f16>>;\n\
         @group(0) @binding(1) var<storage, read_write> told: array<u32>;\n\
         var<workgroup> sums: array<vec4<f32>, {fours}>;\n\
         @compute @workgroup_size({lanes})\n\
         fn main(\n    \
             @builtin(local_invocation_index) lane: u32, @builtin(subgroup_size) size: u32,\n    \
             @builtin(subgroup_id) number: u32, @builtin(subgroup_invocation_id) own: u32,\n\
         ) {{\n    \
             let sum = {sum};\n    {store}\n    workgroupBarrier();\n    \
             told[lane] = select(0u, size, lane == number * size + own) + u32(sums[lane % {fours}].x);\n\
         }}\n",
        dialect::ENABLE,
        dialect::types(MatrixShape::square(size)),
    )
}

/// Attentions with tiles that are not full, of rows and of keys; some with sums that are carried over 16 tiles of keys, and with keys that grow, so that what was
/// summed shrinks in between. No matrix of them is its own transpose.
fn problems() -> Result<Vec<(Spec, Inputs)>> {
    let mut causal = Spec::new(6, 2, 64);
    (causal.dtype, causal.mask) = (Dtype::F16, Mask::causal());
    causal.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
    let mut wide = Spec::new(2, 1, 32);
    (wide.dtype, wide.v_head_dim) = (Dtype::F16, 48);
    let mut deep = Spec::new(2, 1, 128);
    (deep.dtype, deep.mask) = (Dtype::F16, Mask::causal());
    deep.rotary = Some(Rotary::new(Pairing::Half, 128, 10_000.0));
    let mut all = Vec::new();
    // tokens, keys, and what each quarter of the keys adds to their size
    let sizes = [
        (causal.clone(), 37, 75, 0.0),
        (wide, 9, 40, 0.0),
        (causal.clone(), 70, 512, 0.0),
        (causal, 70, 512, 3.0),
        (deep.clone(), 70, 512, 0.0),
        (deep, 70, 512, 3.0),
    ];
    for (spec, q_len, kv_len, growth) in sizes {
        let mut state = 1u64;
        // Knuth's MMIX generator; its upper bits
        let mut next = |_: u32| -> f32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let mut tensor = |len: u32, heads: u32, dim: u32, growth: f32| {
            let row = heads * dim;
            let size = |at: u32| 1.7 * (1.0 + growth * (4 * (at / row) / len) as f32);
            let values: Vec<f32> = (0..len * row).map(|at| size(at) * next(at)).collect();
            Tensor::bshd(Data::from_f32(Dtype::F16, &values), [1, len, heads, dim])
        };
        let q = tensor(q_len, spec.num_heads, spec.head_dim, 0.0)?;
        let k = tensor(kv_len, spec.num_kv_heads, spec.head_dim, growth)?;
        let v = tensor(kv_len, spec.num_kv_heads, spec.v_head_dim, 0.0)?;
        all.push((spec, Inputs::new(q, k, v)));
    }
    Ok(all)
}

#[cfg(all(test, feature = "cooperative-matrix"))]
mod tests {
    use super::*;
    use crate::gpu::adapter::GpuOptions;
    use crate::gpu::device::Gpu;

    /// A device whose matrices err goes on without them: an element that is a little off, two rows that change places.
    #[test]
    fn a_failing_self_test_falls_back() {
        let options = GpuOptions { cooperative_matrix: true, ..GpuOptions::default() };
        let gpus = Gpu::all(&options).into_iter().flatten();
        let Some(mut gpu) = gpus.into_iter().find(|gpu| gpu.cooperative_matrix().is_ok()) else {
            return println!("LEFT OUT: no adapter with cooperative matrices");
        };
        let size = gpu.limits.cooperative_matrix;
        assert!(matches!(size, 8 | 16));
        let (causal, _) = problems().expect("they are made").swap_remove(0);
        let row = causal.v_head_dim as usize;
        let one: &Spoil = &|output| output.out[777] += 0.1;
        let places: &Spoil = &move |output| (0..row).for_each(|c| output.out.swap(20 * row + c, 21 * row + c));
        let lse: &Spoil = &|output| output.lse[5] *= 1.5;
        for spoil in [one, places, lse] {
            pollster::block_on(gpu.take_matrix(Ok(size), spoil));
            let why = gpu.cooperative_matrix().expect_err("it failed");
            assert!(why.contains("the self-test failed"), "{why}");
            assert_eq!(gpu.limits.cooperative_matrix, 0);
        }
        pollster::block_on(gpu.take_matrix(Ok(size), &untouched));
        assert_eq!((gpu.cooperative_matrix(), gpu.limits.cooperative_matrix), (Ok(size), size));
    }
}
