//! `ropewalk devices`: what this machine has, and which kernel each adapter would get.

use crate::report;
use ropewalk::wgpu::{self, Features};
use ropewalk::{Dtype, Error, Gpu, GpuOptions, Kernel, Mask, Pairing, Plan, Result, Rotary, Shape, Spec};
use serde::Serialize;
use std::process::ExitCode;

/// List every adapter of every backend, with what matters to the kernels
#[derive(Debug, clap::Args)]
pub struct Args {}

/// One adapter, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Device {
    name: String,
    backend: String,
    driver: String,
    device_type: String,
    vendor_id: u32,
    device_id: u32,
    max_binding_bytes: u64,
    max_buffer_bytes: u64,
    storage_buffers: u32,
    workgroup_bytes: u32,
    invocations: u32,
    workgroups: u32,
    offset_alignment: u32,
    f16: bool,
    /// None: no subgroups.
    subgroup_sizes: Option<[u32; 2]>,
    timestamps: bool,
    /// 0: none.
    immediate_bytes: u32,
    cooperative_matrix: Vec<String>,
    /// The label of a typical plan.
    kernel: Option<String>,
    /// Why there is none.
    error: Option<String>,
}

/// Runs the command: exit code 3 if no adapter opens.
pub fn run(_: &Args, json: bool) -> Result<ExitCode> {
    let (spec, shape) = typical();
    let devices: Vec<Device> = pollster::block_on(async {
        let mut devices = Vec::new();
        for adapter in ropewalk::adapters().await {
            let opened = Gpu::from_adapter(&adapter, &GpuOptions::default()).await;
            let plan = opened.and_then(|gpu| Plan::new(Kernel::Attention, &spec, &shape, gpu.limits()));
            devices.push(Device::new(&adapter, plan));
        }
        devices
    });
    if json {
        report::json(&devices);
    } else if !devices.is_empty() {
        print(&devices);
    }
    if devices.iter().any(|d| d.kernel.is_some()) {
        return crate::verdict(true);
    }
    Err(Error::NoAdapter {
        problem: if devices.is_empty() { "this machine shows none" } else { "none of them opens" }.into(),
        help: "install a Vulkan driver (Debian: mesa-vulkan-drivers, a software one), or compute on the CPU with \
               `ropewalk run --reference`"
            .into(),
    })
}

/// A layer of Llama 3 8B, f16, over 2 048 tokens.
fn typical() -> (Spec, Shape) {
    let mut spec = Spec::new(32, 8, 128);
    spec.dtype = Dtype::F16;
    spec.rotary = Some(Rotary::new(Pairing::Half, 128, 500_000.0));
    spec.mask = Mask::causal();
    let shape = Shape::new(&spec, 1, 2048, 2048);
    (spec, shape)
}

impl Device {
    fn new(adapter: &wgpu::Adapter, plan: Result<Plan>) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let matrices = if features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            adapter.cooperative_matrix_properties()
        } else {
            Vec::new()
        };
        let matrix = |m: &wgpu::CooperativeMatrixProperties| {
            format!("{}x{}x{} {:?} -> {:?}", m.m_size, m.n_size, m.k_size, m.ab_type, m.cr_type).to_lowercase()
        };
        let has = |feature: Features| features.contains(feature);
        Device {
            name: info.name,
            backend: format!("{:?}", info.backend),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            device_type: format!("{:?}", info.device_type),
            vendor_id: info.vendor,
            device_id: info.device,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
            workgroups: limits.max_compute_workgroups_per_dimension,
            offset_alignment: limits.min_storage_buffer_offset_alignment,
            f16: has(Features::SHADER_F16),
            subgroup_sizes: has(Features::SUBGROUP).then_some([info.subgroup_min_size, info.subgroup_max_size]),
            timestamps: has(Features::TIMESTAMP_QUERY),
            immediate_bytes: if has(Features::IMMEDIATES) { limits.max_immediate_size } else { 0 },
            cooperative_matrix: matrices.iter().map(matrix).collect(),
            kernel: plan.as_ref().ok().map(|p| p.label().to_string()),
            error: plan.err().map(|e| e.to_string()),
        }
    }
}

/// A column for each adapter.
fn print(devices: &[Device]) {
    let row = |name: &str, value: &dyn Fn(&Device) -> String| {
        std::iter::once(name.to_string()).chain(devices.iter().map(value)).collect::<Vec<_>>()
    };
    let yes = |has: bool| if has { "yes" } else { "no" }.to_string();
    let none = |text: String| if text.is_empty() { "none".to_string() } else { text };
    let rows = vec![
        row("backend", &|d| d.backend.clone()),
        row("driver", &|d| d.driver.clone()),
        row("type", &|d| d.device_type.clone()),
        row("largest binding", &|d| report::bytes(d.max_binding_bytes)),
        row("largest buffer", &|d| report::bytes(d.max_buffer_bytes)),
        row("storage buffers", &|d| d.storage_buffers.to_string()),
        row("workgroup memory", &|d| report::bytes(d.workgroup_bytes as u64)),
        row("invocations", &|d| d.invocations.to_string()),
        row("workgroups", &|d| d.workgroups.to_string()),
        row("offset alignment", &|d| d.offset_alignment.to_string()),
        row("f16 arithmetic", &|d| yes(d.f16)),
        row("subgroups", &|d| d.subgroup_sizes.map_or("none".into(), |[min, max]| format!("{min} to {max}"))),
        row("timestamps", &|d| yes(d.timestamps)),
        row("immediates", &|d| {
            none(if d.immediate_bytes > 0 { format!("{} B", d.immediate_bytes) } else { String::new() })
        }),
        row("cooperative matrix", &|d| none(d.cooperative_matrix.join("\n"))),
        row("kernel", &|d| d.kernel.as_ref().or(d.error.as_ref()).cloned().unwrap_or_default()),
    ];
    let names: Vec<&str> = std::iter::once("adapter").chain(devices.iter().map(|d| d.name.as_str())).collect();
    report::say(&report::table(&names, rows).to_string());
    report::say(
        "`kernel` is what a layer of Llama 3 8B gets: f16, causal, 2 048 tokens. `--adapter` takes part of a name,",
    );
    report::say("driver or backend, in any case.");
}
