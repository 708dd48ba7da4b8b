//! A driver's device, opened for its compiler alone: nothing runs on it.

use crate::Result;
use crate::spirv::{Buffer, Facts, Module};
use ash::vk;
use ropewalk::Limits;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};

pub struct Device {
    device: ash::Device,
    executable: ash::khr::pipeline_executable_properties::Device,
    /// Its name, as the driver has it.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    pub facts: Facts,
    /// What plans are made for.
    pub limits: Limits,
    _instance: ash::Instance,
    _entry: ash::Entry,
}

/// What the compiler says of an entry point: statistics by name, and its listings, each with a name.
pub struct Compiled {
    pub statistics: BTreeMap<String, f64>,
    pub listings: Vec<(String, String)>,
}

fn text(c: &[c_char]) -> String {
    let bytes: Vec<u8> = c.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Device {
    /// The device of a name, of the drivers that the environment names; none where they have none. `plain`: without robust access to buffers.
    pub fn open(is_it: impl Fn(&str) -> bool, plain: bool) -> Result<Option<Self>> {
        // SAFETY: the loader is the system's, and every structure below lives until the call that takes it has returned.
        unsafe {
            let entry = ash::Entry::load()?;
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance = match entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None)
            {
                Err(vk::Result::ERROR_INCOMPATIBLE_DRIVER) => return Ok(None),
                instance => instance?,
            };
            let named = |physical: &vk::PhysicalDevice| {
                is_it(&text(&instance.get_physical_device_properties(*physical).device_name))
            };
            let Some(physical) = instance.enumerate_physical_devices()?.into_iter().find(named) else {
                return Ok(None);
            };
            let extensions = instance.enumerate_device_extension_properties(physical)?;
            let has = |name: &CStr| extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
            let wanted = ash::khr::pipeline_executable_properties::NAME;
            if !has(wanted) {
                return Err("the driver lacks VK_KHR_pipeline_executable_properties".into());
            }

            let mut sizes = vk::PhysicalDeviceSubgroupSizeControlProperties::default();
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut sizes).push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let properties = properties.properties;

            let mut f11 = vk::PhysicalDeviceVulkan11Features::default();
            let mut f12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut f13 = vk::PhysicalDeviceVulkan13Features::default();
            let mut executable = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default();
            let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
            let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
            let mut names = vec![wanted];
            let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut f11).push_next(&mut f12);
            features = features.push_next(&mut f13).push_next(&mut executable);
            if !plain && has(ash::ext::robustness2::NAME) {
                names.push(ash::ext::robustness2::NAME);
                features = features.push_next(&mut robust);
            }
            if has(ash::khr::cooperative_matrix::NAME) {
                names.push(ash::khr::cooperative_matrix::NAME);
                features = features.push_next(&mut matrices);
            }
            // everything that the driver has, robust access to buffers included: wgpu always asks for it
            instance.get_physical_device_features2(physical, &mut features);
            if plain {
                features.features.robust_buffer_access = vk::FALSE;
            }
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
            let info = vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_extension_names(&names);
            let device = instance.create_device(physical, &info.push_next(&mut features), None)?;

            let facts = Facts {
                version: if properties.api_version >= vk::API_VERSION_1_3 { (1, 6) } else { (1, 5) },
                f16: f12.shader_float16 == 1
                    && f11.storage_buffer16_bit_access == 1
                    && f11.uniform_and_storage_buffer16_bit_access == 1,
                f16_in_interfaces: f11.storage_input_output16 == 1,
                subgroups: true,
                robust_buffers: robust.robust_buffer_access2 == 1,
                robust_images: robust.robust_image_access2 == 1 || f13.robust_image_access == 1,
                dot_product: f13.shader_integer_dot_product == 1,
                int8: f12.shader_int8 == 1,
                matrices: matrices.cooperative_matrix == 1,
            };
            let has = &properties.limits;
            let mut limits = Limits::default();
            // as `Limits::of_device` and `with_features` have it of wgpu's limits
            limits.max_binding_size = (has.max_storage_buffer_range as u64).min(i32::MAX as u64 & !3);
            limits.max_workgroup_storage = has.max_compute_shared_memory_size;
            limits.max_invocations = has.max_compute_work_group_invocations;
            let [least, most] = [sizes.min_subgroup_size, sizes.max_subgroup_size];
            limits.subgroup_size = if least == most { least } else { 0 };
            limits.f16 = facts.f16;
            if properties.device_type == vk::PhysicalDeviceType::DISCRETE_GPU {
                limits.max_flop_per_dispatch *= 4.0;
            }
            limits.registers = if properties.vendor_id == 0x8086 { 128 } else { limits.registers };
            Ok(Some(Device {
                executable: ash::khr::pipeline_executable_properties::Device::new(&instance, &device),
                device,
                name: text(&properties.device_name),
                driver: format!("{} {}", text(&driver.driver_name), text(&driver.driver_info)),
                facts,
                limits,
                _instance: instance,
                _entry: entry,
            }))
        }
    }

    /// Compiles an entry point of a module, whose SPIR-V is given, as wgpu has drivers do it.
    pub fn compile(&self, module: &Module, spirv: &[u32], entry: &str) -> Result<Compiled> {
        let kinds = module.buffers().into_values().map(|buffer| match buffer {
            Buffer::Storage => vk::DescriptorType::STORAGE_BUFFER,
            Buffer::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
            Buffer::UniformDynamic => vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC,
        });
        let slot = vk::DescriptorSetLayoutBinding::default().descriptor_count(1);
        let slot = slot.stage_flags(vk::ShaderStageFlags::COMPUTE);
        let slots: Vec<_> = kinds.zip(0..).map(|(kind, number)| slot.binding(number).descriptor_type(kind)).collect();
        let name = CString::new(entry)?;
        // SAFETY: as in `open`; the SPIR-V comes from naga, of a module that naga has checked.
        unsafe {
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&slots);
            let sets = [self.device.create_descriptor_set_layout(&info, None)?];
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = self.device.create_pipeline_layout(&info, None)?;
            let shader = self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(spirv), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .module(shader)
                .name(&name);
            let capture = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = vk::ComputePipelineCreateInfo::default().flags(capture).stage(stage).layout(layout);
            let made = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipeline = made.map_err(|(_, e)| e)?[0];
            let of = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let subgroup = match self.executable.get_pipeline_executable_properties(&of)?.as_slice() {
                [one] => one.subgroup_size,
                several => return Err(format!("{} programs of one entry point", several.len()).into()),
            };
            let of = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
            let statistics = self.executable.get_pipeline_executable_statistics(&of)?;
            let value = |s: &vk::PipelineExecutableStatisticKHR| match s.format {
                vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => s.value.f64,
                vk::PipelineExecutableStatisticFormatKHR::INT64 => s.value.i64 as f64,
                _ => s.value.u64 as f64,
            };
            let mut statistics: BTreeMap<_, _> = statistics.iter().map(|s| (text(&s.name), value(s))).collect();
            statistics.insert("Subgroup Size".into(), subgroup as f64);
            let listings = self.listings(&of)?;
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_shader_module(shader, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(sets[0], None);
            Ok(Compiled { statistics, listings })
        }
    }

    /// # Safety
    /// `of` names a pipeline of this device.
    unsafe fn listings(&self, of: &vk::PipelineExecutableInfoKHR) -> Result<Vec<(String, String)>> {
        let call = self.executable.fp().get_pipeline_executable_internal_representations_khr;
        let mut count = 0;
        // SAFETY: the first call counts, the second one says how long each text is, the third one writes as much.
        unsafe {
            call(self.device.handle(), of, &mut count, std::ptr::null_mut()).result()?;
            let mut all = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            call(self.device.handle(), of, &mut count, all.as_mut_ptr()).result()?;
            let mut texts: Vec<Vec<u8>> = all.iter().map(|one| vec![0; one.data_size]).collect();
            for (one, text) in all.iter_mut().zip(&mut texts) {
                one.p_data = text.as_mut_ptr().cast();
            }
            call(self.device.handle(), of, &mut count, all.as_mut_ptr()).result()?;
            let read = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string();
            Ok(all.iter().zip(&texts).map(|(one, bytes)| (text(&one.name), read(bytes))).collect())
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: nothing of it is used any more.
        unsafe { self.device.destroy_device(None) };
    }
}
