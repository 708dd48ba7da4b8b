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
    /// Whether the device was opened with cooperative matrices.
    pub matrices: bool,
}

/// A module, parsed and checked.
pub struct Module {
    module: naga::Module,
    info: naga::valid::ModuleInfo,
}

/// How a buffer of the module is bound.
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

    /// The names of its entry points.
    pub fn entries(&self) -> Vec<String> {
        self.module.entry_points.iter().map(|entry| entry.name.clone()).collect()
    }

    /// Its named constants that are whole numbers.
    pub fn constants(&self) -> BTreeMap<String, u32> {
        let constants =
            self.module.constants.iter().filter_map(|(_, one)| match self.module.global_expressions[one.init] {
                naga::Expression::Literal(naga::Literal::U32(n)) => Some((one.name.clone()?, n)),
                _ => None,
            });
        constants.collect()
    }

    /// Lanes of a workgroup.
    pub fn lanes(&self, entry: &str) -> u32 {
        let entry = self.module.entry_points.iter().find(|one| one.name == entry);
        entry.map_or(0, |entry| entry.workgroup_size.iter().product())
    }

    /// Bytes of workgroup memory that an entry point uses.
    pub fn shared(&self, entry: &str) -> u32 {
        let Some(index) = self.module.entry_points.iter().position(|one| one.name == entry) else { return 0 };
        let used = self.module.global_variables.iter().filter(|(handle, variable)| {
            variable.space == naga::AddressSpace::WorkGroup && !self.info.get_entry_point(index)[*handle].is_empty()
        });
        used.map(|(_, variable)| self.module.types[variable.ty].inner.size(self.module.to_ctx())).sum()
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
        with(facts.matrices, &[Capability::CooperativeMatrixKHR, Capability::VulkanMemoryModel]);

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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
        @group(0) @binding(3) var<storage, read> a: array<f32>;
        @group(0) @binding(9) var<uniform> chunk: vec4<u32>;
        @group(0) @binding(5) var<storage, read_write> b: array<f32>;
        @group(0) @binding(8) var<uniform> params: vec4<u32>;
        var<workgroup> used: array<f32, 64>;
        var<workgroup> other: array<f32, 32>;
        @compute @workgroup_size(8, 4) fn main(@builtin(local_invocation_index) i: u32) {
            used[i] = a[i + chunk.x];
            for (var n = 0u; n < params.x; n++) { b[n] = used[n / params.y]; }
        }
        @compute @workgroup_size(1) fn second() { b[0] = other[1]; }";
    const FACTS: Facts = Facts {
        version: (1, 6),
        f16: true,
        f16_in_interfaces: true,
        subgroups: true,
        robust_buffers: true,
        robust_images: true,
        dot_product: true,
        int8: true,
        matrices: false,
    };

    #[test]
    fn what_a_module_says_of_itself() {
        let module = Module::parse(TEXT).unwrap();
        let buffers = [(3, Buffer::Storage), (5, Buffer::Storage), (8, Buffer::Uniform), (9, Buffer::UniformDynamic)];
        assert_eq!(module.buffers().into_iter().collect::<Vec<_>>(), buffers);
        assert_eq!(module.entries(), ["main", "second"]);
        assert_eq!((module.lanes("main"), module.shared("main"), module.shared("second")), (32, 256, 128));
        let constants =
            Module::parse("const A: u32 = 3u; const B: u32 = A * 2u; const C: f32 = 1.0;").unwrap().constants();
        assert_eq!(constants.into_iter().collect::<Vec<_>>(), [("A".into(), 3), ("B".into(), 6)]);
        assert!(Module::parse("fn").is_err());
    }

    /// OpDecorate of Binding, in the order of variables: numbers as wgpu-hal gives them, without gaps.
    fn bindings(words: &[u32]) -> Vec<u32> {
        let decorations = words.windows(4).filter(|w| w[0] == (4 << 16 | 71) && w[2] == 33);
        decorations.map(|w| w[3]).collect()
    }

    #[test]
    fn checks_and_robustness_change_the_text() {
        let module = Module::parse(TEXT).unwrap();
        let write = |checks, facts: &Facts| module.write("main", checks, facts).unwrap();
        let (checked, bare) = (write(true, &FACTS), write(false, &FACTS));
        assert!(checked.len() > bare.len());
        let fragile = Facts { robust_buffers: false, ..FACTS };
        assert!(write(true, &fragile).len() > checked.len());
        assert_eq!(write(false, &fragile), bare);
        let mut numbers = bindings(&bare);
        numbers.sort();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(bare[1], 0x0001_0600);
    }
}
