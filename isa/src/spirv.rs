//! SPIR-V as wgpu-hal's Vulkan back end writes it.

use crate::Result;
use naga::back::spv::{self, Capability};
use naga::proc::BoundsCheckPolicy::{Restrict, Unchecked};
use std::collections::BTreeMap;

/// What wgpu-hal asks a device before it writes.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub version: (u8, u8),
    pub f16: bool,
    pub f16_in_interfaces: bool,
    pub subgroups: bool,
    pub robust_buffers: bool,
    pub robust_images: bool,
    pub dot_product: bool,
    pub int8: bool,
}

/// A module, parsed and checked.
pub struct Module {
    pub module: naga::Module,
    info: naga::valid::ModuleInfo,
}

/// A buffer of the module: its number in the layout, and whether it is a uniform with a dynamic offset, a uniform, or storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    Storage,
    Uniform,
    UniformDynamic,
}

impl Module {
    pub fn parse(wgsl: &str) -> Result<Self> {
        let mut options = naga::front::wgsl::Options::new();
        options.capabilities = naga::valid::Capabilities::all();
        let parsed = naga::front::wgsl::Frontend::new_with_options(options).parse(wgsl);
        let module = parsed.map_err(|e| e.emit_to_string(wgsl))?;
        let all = (naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
        let checked = naga::valid::Validator::new(all.0, all.1).validate(&module);
        let info = checked.map_err(|e| e.emit_to_string(wgsl))?;
        Ok(Module { module, info })
    }

    /// The buffers of group 0 in the order of their numbers in the text; wgpu-hal numbers them anew in this order.
    pub fn buffers(&self) -> BTreeMap<u32, Buffer> {
        let variables = self.module.global_variables.iter();
        let buffers = variables.filter_map(|(_, variable)| {
            let binding = variable.binding.as_ref()?.binding;
            match variable.space {
                naga::AddressSpace::Storage { .. } => Some((binding, Buffer::Storage)),
                naga::AddressSpace::Uniform if variable.name.as_deref() == Some("chunk") => {
                    Some((binding, Buffer::UniformDynamic))
                }
                naga::AddressSpace::Uniform => Some((binding, Buffer::Uniform)),
                _ => None,
            }
        });
        buffers.collect()
    }

    /// One entry point, with or without run-time checks, workgroup memory not zeroed: as `Pipeline` asks for it. The same as
    /// `adapter.rs` and `device.rs` (`compile_stage`) of wgpu-hal 30.
    pub fn write(&self, entry: &str, checks: bool, facts: &Facts) -> Result<Vec<u32>> {
        let mut capabilities = vec![
            Capability::Shader,
            Capability::Matrix,
            Capability::Sampled1D,
            Capability::Image1D,
            Capability::ImageQuery,
            Capability::DerivativeControl,
            Capability::StorageImageExtendedFormats,
        ];
        let mut with = |has: bool, more: &[Capability]| capabilities.extend(more.iter().copied().filter(|_| has));
        with(
            facts.subgroups,
            &[
                Capability::GroupNonUniform,
                Capability::GroupNonUniformVote,
                Capability::GroupNonUniformArithmetic,
                Capability::GroupNonUniformBallot,
                Capability::GroupNonUniformShuffle,
                Capability::GroupNonUniformShuffleRelative,
                Capability::GroupNonUniformQuad,
            ],
        );
        with(facts.f16, &[Capability::Float16]);
        with(
            facts.dot_product,
            &[
                Capability::DotProductInputAllKHR,
                Capability::DotProductInput4x8BitKHR,
                Capability::DotProductInput4x8BitPackedKHR,
                Capability::DotProductKHR,
            ],
        );
        with(facts.int8, &[Capability::Int8]);
        let matrices = self.module.types.iter().any(|(_, t)| matches!(t.inner, naga::TypeInner::CooperativeMatrix { .. }));
        with(matrices, &[Capability::CooperativeMatrixKHR, Capability::VulkanMemoryModel]);

        let numbers = self.buffers().into_keys().zip(0..);
        let place = |(from, to): (u32, u32)| {
            let to = spv::BindingInfo { descriptor_set: 0, binding: to, binding_array_size: None };
            (naga::ResourceBinding { group: 0, binding: from }, to)
        };
        let policy = |checked| if checks && checked { Restrict } else { Unchecked };
        let options = spv::Options {
            lang_version: facts.version,
            flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
            capabilities: Some(capabilities.into_iter().collect()),
            bounds_check_policies: naga::proc::BoundsCheckPolicies {
                index: policy(true),
                buffer: policy(!facts.robust_buffers),
                image_load: policy(!facts.robust_images),
                binding_array: Unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: checks,
            emit_int_div_checks: checks,
            use_storage_input_output_16: facts.f16 && facts.f16_in_interfaces,
            fake_missing_bindings: false,
            binding_map: numbers.map(place).collect(),
            ..Default::default()
        };
        let pipeline = spv::PipelineOptions { entry_point: entry.into(), shader_stage: naga::ShaderStage::Compute };
        Ok(spv::write_vec(&self.module, &self.info, &options, Some(&pipeline))?)
    }
}
