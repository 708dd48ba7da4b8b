//! Cooperative matrices: whether an adapter has them, and whether they multiply.
//!
//! wgpu calls them experimental, and the memory model of what it writes is not settled, so a device that was asked for them first
//! computes a small attention and compares it with the reference. Where that fails, it goes on without them and says why.

use crate::check::attention::attention_in;
use crate::check::bound::Arithmetic;
use crate::equation::dtype::Dtype;
use crate::equation::mask::Mask;
use crate::equation::rotary::rotary::{Pairing, Rotary};
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::gpu::adapter::GpuOptions;
use crate::gpu::device::{Gpu, NOT_ASKED};
use crate::inputs::inputs::Inputs;
use crate::inputs::tensor::{Data, Tensor};
use crate::plan::limits::Limits;
use crate::plan::tuning::tuning::{Family, Tuning};
use crate::reference::attention::Output;

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
    // the writers of HLSL and GLSL do not know such modules
    if !matches!(backend, wgpu::Backend::Vulkan | wgpu::Backend::Metal) {
        return Err(format!("wgpu has them on Vulkan and Metal, not on {backend:?}"));
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
            Ok(size) => {
                let limits = Limits { cooperative_matrix: size, ..self.limits };
                self.self_test(limits, spoil).await.map(|()| size)
            }
            Err(why) => Err(why),
        };
        self.limits.cooperative_matrix = self.matrix.as_ref().map_or(0, |size| *size);
    }

    async fn self_test(&self, limits: Limits, spoil: &Spoil) -> std::result::Result<(), String> {
        let limits = Limits { tuning: Some(Tuning::of(Family::Coop)), ..limits };
        for (spec, inputs) in problems().map_err(|e| format!("the self-test could not be made: {e}"))? {
            let ran = self.with_limits(limits).attention_async(&spec, &inputs, &|_| ()).await;
            let (mut output, stats) = ran.map_err(|e| format!("the self-test did not run: {e}"))?;
            if !stats.kernel.contains(".coop") {
                return Err(format!("the device has too little for such a kernel; the self-test got {}", stats.kernel));
            }
            spoil(&mut output);
            let bounds = attention_in(&spec, &inputs, Arithmetic::F16Matrix);
            let (out, lse) = bounds.map_err(|e| format!("the self-test has no bounds: {e}"))?;
            for (name, worst) in [("out", out.worst(&output.out)), ("lse", lse.worst(&output.lse))] {
                if worst.failures > 0 || worst.unbounded > 0 {
                    let (n, of, ratio) = (worst.failures, worst.elements, worst.ratio);
                    return Err(format!(
                        "the self-test failed: {n} of {of} elements of {name} beyond their bounds, one {ratio:.1} times"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Small attentions with tiles that are not full, of rows and of keys; no matrix of them is its own transpose.
fn problems() -> Result<Vec<(Spec, Inputs)>> {
    let mut causal = Spec::new(6, 2, 64);
    (causal.dtype, causal.mask) = (Dtype::F16, Mask::causal());
    causal.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
    let mut wide = Spec::new(2, 1, 32);
    (wide.dtype, wide.v_head_dim) = (Dtype::F16, 48);
    let mut all = Vec::new();
    for (spec, q_len, kv_len) in [(causal, 37, 75), (wide, 9, 40)] {
        let mut state = 1u64;
        // Knuth's MMIX generator; its upper bits
        let mut next = |_: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let mut tensor = |len: u32, heads: u32, dim: u32| {
            let values: Vec<f32> = (0..(len * heads * dim) as usize).map(&mut next).map(|x| 1.7 * x).collect();
            Tensor::bshd(Data::from_f32(Dtype::F16, &values), [1, len, heads, dim])
        };
        let q = tensor(q_len, spec.num_heads, spec.head_dim)?;
        let k = tensor(kv_len, spec.num_kv_heads, spec.head_dim)?;
        let v = tensor(kv_len, spec.num_kv_heads, spec.v_head_dim)?;
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
