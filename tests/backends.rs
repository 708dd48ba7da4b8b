//! What Direct3D 12, Metal and OpenGL are given for a kernel: each entry point by itself, as wgpu translates it. Every buffer is there
//! once, though `work` is declared twice, by words and by vectors.

use naga::back::{glsl, hlsl, msl, pipeline_constants::process_overrides};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use ropewalk::{Limits, Plan, Target, workload};
use std::collections::BTreeSet;

/// A desktop GPU, WebGPU's defaults, and a software adapter.
fn devices() -> [Limits; 3] {
    let mut gpu = Limits::default();
    (gpu.subgroup_size, gpu.f16) = (32, true);
    let mut cpu = Limits::default().for_cpu();
    cpu.subgroup_size = 8;
    [gpu, Limits::default(), cpu]
}

fn parsed(plan: &Plan) -> (Module, ModuleInfo) {
    let text = plan.wgsl(Target::Native);
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}: {}", plan.label(), e.emit_to_string(text)));
    (module, info)
}

fn translated(module: &Module, info: &ModuleInfo, entry: &str) -> [(&'static str, String); 3] {
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, ..Default::default() };
    let pipeline = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry.to_string())) };
    let mut direct3d = String::new();
    hlsl::Writer::new(&mut direct3d, &options, &pipeline).write(module, info, None).expect("HLSL");

    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    let pipeline =
        msl::PipelineOptions { entry_point: Some((ShaderStage::Compute, entry.to_string())), ..Default::default() };
    let (metal, _) = msl::write_string(module, info, &options, &pipeline).expect("MSL");

    let options = glsl::Options { version: glsl::Version::Desktop(460), ..Default::default() };
    let pipeline =
        glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: entry.to_string(), multiview: None };
    let unchecked = BoundsCheckPolicy::Unchecked;
    let policies =
        BoundsCheckPolicies { index: unchecked, buffer: unchecked, image_load: unchecked, binding_array: unchecked };
    let mut gl = String::new();
    let mut writer = glsl::Writer::new(&mut gl, module, info, &options, &pipeline, policies).expect("GLSL");
    writer.write().expect("GLSL");
    [("HLSL", direct3d), ("MSL", metal), ("GLSL", gl)]
}

#[test]
fn every_entry_point_binds_each_buffer_once() {
    let (mut by_words, mut by_vectors) = (0, 0);
    let mut seen = BTreeSet::new();
    for limits in devices() {
        for plan in workload::all().iter().flat_map(|w| w.plans(&limits).expect("a plan")) {
            if !seen.insert(plan.wgsl(Target::Native).to_string()) {
                continue;
            }
            let (module, info) = parsed(&plan);
            for entry in &module.entry_points {
                let name = format!("{} {}", plan.label(), entry.name);
                let (module, info) =
                    process_overrides(&module, &info, Some((ShaderStage::Compute, &entry.name)), &Default::default())
                        .expect(&name);
                let buffers: Vec<_> = module.global_variables.iter().filter(|(_, g)| g.binding.is_some()).collect();
                let numbers: BTreeSet<u32> =
                    buffers.iter().filter_map(|(_, g)| g.binding.as_ref()).map(|b| b.binding).collect();
                assert_eq!(numbers.len(), buffers.len(), "{name}: a buffer twice");
                let has = |name: &str| buffers.iter().any(|(_, g)| g.name.as_deref() == Some(name));
                by_words += has("work") as u32;
                by_vectors += has("work4") as u32;
                for (language, text) in translated(&module, &info, &entry.name) {
                    let declares =
                        |name: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == name);
                    let declared = match language {
                        // GLSL names blocks by their numbers
                        "GLSL" => text.matches("_group_0_binding_4_cs[]").count(),
                        _ => ["work", "work4_"].into_iter().filter(|name| declares(name)).count(),
                    };
                    assert_eq!(declared, usize::from(has("work") || has("work4")), "{name}: {language}");
                }
            }
        }
    }
    assert!(by_words > 20 && by_vectors > 20, "{by_words} entry points read work by words, {by_vectors} by vectors");
}
