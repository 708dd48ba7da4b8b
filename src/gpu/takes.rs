//! What a plan takes of a device, against what the device has: the limits of a plan are its caller's word.

use crate::error::{Error, Result};
use crate::plan::plan::Plan;
use crate::shader::layout::{Access, Slot};

/// Buffers, workgroups and features.
///
/// # Errors
/// [`Error::Limit`] with the limit's name in WebGPU, what the plan takes and what the device has.
pub(crate) fn check(device: &wgpu::Device, plan: &Plan) -> Result<()> {
    let (has, features) = (device.limits(), device.features());
    let limits = plan.limits();
    let within = |field: &str, what: &str, takes: u64, has: u64| within(plan, field, what, takes, has);
    let mut storage = 0;
    for binding in plan.bindings() {
        let name = format!(" bytes of `{}`", binding.name);
        match binding.access {
            Access::Read | Access::ReadWrite => {
                storage += 1;
                within("max_storage_buffer_binding_size", &name, binding.size, has.max_storage_buffer_binding_size)?;
            }
            Access::Uniform => {
                within("max_uniform_buffer_binding_size", &name, binding.size, has.max_uniform_buffer_binding_size)?;
            }
            Access::UniformDynamic => {}
        }
    }
    let shared = plan.binding(Slot::Step).is_some_and(|b| b.access == Access::ReadWrite);
    if cfg!(target_arch = "wasm32") && shared {
        let problem = "is read-write, and decides how often a workgroup meets at a barrier: browsers refuse that";
        return Err(Error::input("step", problem, "leave it out of Plan::share, and give it another buffer"));
    }
    let buffers = has.max_storage_buffers_per_shader_stage as u64;
    within("max_storage_buffers_per_shader_stage", " storage buffers", storage, buffers)?;
    let workgroups = plan.chunks().iter().flat_map(|chunk| chunk.workgroups).max().unwrap_or(0) as u64;
    let most = has.max_compute_workgroups_per_dimension as u64;
    within("max_compute_workgroups_per_dimension", " workgroups", workgroups, most)?;

    let feature = |wanted: bool, feature: wgpu::Features, name: &str| match wanted && !features.contains(feature) {
        true => Err(missing(name, format!("{} takes it, the device was opened without", plan.label()))),
        false => Ok(()),
    };
    let matrices = plan.composed.takes_matrices();
    feature(matrices, wgpu::Features::SHADER_F16, "shader-f16")?;
    feature(matrices || plan.composed.takes_subgroups(), wgpu::Features::SUBGROUP, "subgroups")?;
    feature(matrices, wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, "cooperative matrices")?;
    let info = device.adapter_info();
    if matrices && !(info.subgroup_min_size..=info.subgroup_max_size).contains(&limits.matrix_subgroup) {
        let [size, least, most] = [limits.matrix_subgroup, info.subgroup_min_size, info.subgroup_max_size];
        let problem =
            format!("{} multiplies matrices in subgroups of {size}, the device has {least} to {most}", plan.label());
        return Err(missing("matrix_subgroup", problem));
    }
    if plan.composed.takes_subgroups() {
        let (size, [least, most]) = (limits.subgroup_size, [info.subgroup_min_size, info.subgroup_max_size]);
        if [least, most] != [size; 2] {
            let problem = format!("{} takes subgroups of {size}, the device has {least} to {most}", plan.label());
            return Err(missing("subgroup_size", problem));
        }
    }
    Ok(())
}

/// What the text itself takes: plans of the same text need it asked once. It is parsed only where the plan was promised more than there is.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_module(device: &wgpu::Device, plan: &Plan) -> Result<()> {
    let (has, limits) = (device.limits(), plan.limits());
    let (most, most_lanes) = (has.max_compute_workgroup_storage_size, has.max_compute_invocations_per_workgroup);
    let promised = limits.max_workgroup_storage > most || limits.max_invocations > most_lanes;
    if let Some([bytes, lanes]) = promised.then(|| of_module(plan)).flatten() {
        let memory = " bytes of workgroup memory";
        within(plan, "max_compute_workgroup_storage_size", memory, bytes, most as u64)?;
        within(plan, "max_compute_invocations_per_workgroup", " invocations", lanes, most_lanes as u64)?;
    }
    Ok(())
}

fn within(plan: &Plan, field: &str, what: &str, takes: u64, has: u64) -> Result<()> {
    match takes > has {
        true => Err(missing(field, format!("{} takes {takes}{what}, the device has {has}", plan.label()))),
        false => Ok(()),
    }
}

fn missing(field: &str, problem: String) -> Error {
    Error::limit(field, problem, "plan with the device's own limits (`Limits::of_device` and `with_features`)")
}

/// Bytes of workgroup memory and invocations of a workgroup, the most of any entry point; none where the text cannot be read.
fn of_module(plan: &Plan) -> Option<[u64; 2]> {
    let module = naga::front::wgsl::parse_str(plan.wgsl(crate::shader::compose::Target::Native)).ok()?;
    let all = (naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
    let info = naga::valid::Validator::new(all.0, all.1).validate(&module).ok()?;
    let mut most = [0, 0];
    for (i, entry) in module.entry_points.iter().enumerate().filter(|(_, e)| plan.entries().contains(&e.name.as_str()))
    {
        let used = module.global_variables.iter().filter(|(handle, variable)| {
            variable.space == naga::AddressSpace::WorkGroup && !info.get_entry_point(i)[*handle].is_empty()
        });
        let bytes: u64 = used.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx()) as u64).sum();
        let lanes: u64 = entry.workgroup_size.iter().map(|n| *n as u64).product();
        most = [most[0].max(bytes), most[1].max(lanes)];
    }
    Some(most)
}
