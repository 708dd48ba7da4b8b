//! What an adapter can do at most, measured: copying and multiply-adds, by small kernels of our own.

use super::probe::Probe;
use super::timing::{Budget, Stopwatch};
use ropewalk::{Gpu, Result, wgpu};
use serde::Serialize;
use std::fmt::Write;
use std::time::Instant;

/// The most that an adapter reached, the best of several kernels and runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// 10^9 bytes a second read and written together, by a kernel from buffer to buffer.
    pub copy_gbps: f64,
    /// The same by the driver's own copy command, which is no kernel's ceiling: on a software adapter it is the host's memcpy.
    pub transfer_gbps: f64,
    /// 10^9 f32 operations a second in multiply-adds.
    pub fma_gflops: f64,
    /// The same on matrix units; none where the adapter shows none, or no kernel here uses them.
    pub matrix_gflops: Option<f64>,
}

/// Which ceiling is the lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    Compute,
    Memory,
}

impl Bound {
    pub fn name(self) -> &'static str {
        match self {
            Bound::Compute => "compute",
            Bound::Memory => "memory",
        }
    }
}

impl Ceilings {
    /// The highest rate of arithmetic.
    pub fn compute(&self) -> f64 {
        self.matrix_gflops.map_or(self.fma_gflops, |matrix| matrix.max(self.fma_gflops))
    }
    /// Seconds that work takes at least, and which ceiling says so.
    pub fn least_seconds(&self, flop: f64, bytes: f64) -> (f64, Bound) {
        let (compute, memory) = (1e-9 * flop / self.compute(), 1e-9 * bytes / self.copy_gbps);
        if compute > memory { (compute, Bound::Compute) } else { (memory, Bound::Memory) }
    }
}

/// WebGPU's default binding.
const COPY_BYTES: u64 = 128 << 20;
/// Copies in one submission, so that its own cost does not show.
const TRANSFERS: u32 = 4;
/// Runs of each kernel, at least.
const RUNS: usize = 5;
/// Seconds of them.
const SECONDS: f64 = 0.1;
/// Invocations of a workgroup.
const WIDTH: u32 = 64;
/// Multiply-adds of one accumulator in a round of the loop.
const UNROLLED: u32 = 4;
/// An f32 run takes about this many seconds.
const FMA_SECONDS: f64 = 0.02;
/// Rounds of the loop of a first run.
const ROUNDS: u32 = 256;
/// llvmpipe of Mesa 22 leaves loops at 65 535 rounds.
const MAX_ROUNDS: u32 = 60_000;

/// Measures all of them, in fewer seconds where workloads are given few.
pub fn measure(gpu: &Gpu, seconds: f64) -> Result<Ceilings> {
    let budget = Budget { seconds: SECONDS.min(seconds), runs: RUNS };
    let stopwatch = Stopwatch::new(gpu);
    Ok(Ceilings {
        copy_gbps: copy(gpu, &stopwatch, budget)?,
        transfer_gbps: transfer(gpu)?,
        fma_gflops: fma(gpu, &stopwatch, budget)?,
        matrix_gflops: matrix(gpu, &stopwatch, budget)?,
    })
}

/// A copy's shape: what one invocation takes.
#[derive(Debug, Clone, Copy)]
struct CopyShape {
    /// Invocations of a workgroup.
    width: u32,
    /// Neighbouring elements of 16 bytes that an invocation copies at a time.
    run: u32,
    /// How often it does so, in a loop.
    rounds: u32,
    /// Whether what it copies is one block; else the workgroup walks on together.
    own_block: bool,
}

impl CopyShape {
    const fn new(width: u32, run: u32, rounds: u32, own_block: bool) -> Self {
        CopyShape { width, run, rounds, own_block }
    }
}

/// The first two are for GPUs, which join the accesses of neighbours; the others for software adapters, to which a workgroup is expensive
/// and a lane likes whole cache lines.
const COPY_SHAPES: [CopyShape; 6] = [
    CopyShape::new(64, 1, 1, false),
    CopyShape::new(64, 4, 1, false),
    CopyShape::new(64, 4, 16, false),
    CopyShape::new(64, 4, 64, true),
    CopyShape::new(8, 4, 64, true),
    CopyShape::new(8, 8, 64, true),
];

/// Larger than caches; where they are larger, so is the buffer, and a copy takes long beside its launch.
fn copy_bytes(gpu: &Gpu) -> u64 {
    let limits = gpu.device().limits();
    let wanted = match gpu.info().device_type {
        wgpu::DeviceType::DiscreteGpu => 4 * COPY_BYTES,
        _ => COPY_BYTES,
    };
    wanted.min(limits.max_storage_buffer_binding_size).min(limits.max_buffer_size) & !0xf_ffff
}

/// Every element read once and written once, in several shapes.
fn copy(gpu: &Gpu, stopwatch: &Stopwatch, budget: Budget) -> Result<f64> {
    let (bytes, most) = (copy_bytes(gpu), gpu.device().limits().max_compute_workgroups_per_dimension);
    let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let mut best: f64 = 0.0;
    for shape in COPY_SHAPES {
        let (text, groups) = copy_text(bytes, shape, most);
        let buffers = [(bytes, storage), (bytes, storage), (16, uniform)];
        let probe = Probe::new(gpu, "copy", &text, &buffers, groups)?;
        probe.write(2, &[shape.rounds, 0, 0, 0].map(u32::to_le_bytes).concat());
        best = best.max(2e-9 * bytes as f64 / probe.seconds(stopwatch, budget)?);
    }
    Ok(best)
}
/// The kernel, and its grid.
fn copy_text(bytes: u64, shape: CopyShape, most: u32) -> (String, [u32; 3]) {
    let CopyShape { width, run, rounds, own_block } = shape;
    let each = width * run * rounds;
    let groups = (bytes / 16) as u32 / each;
    let x = groups.min(most);
    let (lane, step) = match own_block {
        true => (run * rounds, run),
        false => (run, width * run),
    };
    let copies: String = (0..run).map(|n| format!("            copied[at + {n}u] = source[at + {n}u];\n")).collect();
    let text = format!(
        "@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;\n\
         @group(0) @binding(1) var<storage, read_write> copied: array<vec4<f32>>;\n\
         @group(0) @binding(2) var<uniform> rounds: vec4<u32>;\n\
         @compute @workgroup_size({width})\n\
         fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {{\n    \
             let n = group.y * {x}u + group.x;\n    \
             if (n < {groups}u) {{\n        var at = n * {each}u + lane * {lane}u;\n        \
             for (var i = 0u; i < rounds.x; i++) {{\n{copies}            at += {step}u;\n        }}\n    }}\n}}\n"
    );
    (text, [x, groups.div_ceil(x), 1])
}

/// The driver's own copy of a buffer, by the host's clock.
fn transfer(gpu: &Gpu) -> Result<f64> {
    let (device, queue) = (gpu.device(), gpu.queue());
    let size = copy_bytes(gpu);
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: Some("copy"), size, usage, mapped_at_creation: false };
    let [source, copied] = [&descriptor; 2].map(|descriptor| device.create_buffer(descriptor));
    let mut least = f64::INFINITY;
    for _ in 0..=RUNS {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        (0..TRANSFERS).for_each(|_| encoder.copy_buffer_to_buffer(&source, 0, &copied, 0, size));
        let clock = Instant::now();
        queue.submit([encoder.finish()]);
        gpu.wait(None)?;
        least = least.min(clock.elapsed().as_secs_f64());
    }
    gpu.finish()?; // a lost device, beside the clock
    Ok(2e-9 * size as f64 * TRANSFERS as f64 / least)
}

/// Independent chains of multiply-adds in registers, several widths of them, written as `fma` and as a product and a sum.
fn fma(gpu: &Gpu, stopwatch: &Stopwatch, budget: Budget) -> Result<f64> {
    let groups = if gpu.info().device_type == wgpu::DeviceType::Cpu { 64 } else { 4096 };
    let mut best: f64 = 0.0;
    for fused in [true, false] {
        for chains in [2, 3, 8] {
            let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let sums = (16 * (WIDTH * groups) as u64, wgpu::BufferUsages::STORAGE);
            let text = fma_text(chains, fused);
            let probe = Probe::new(gpu, "fma", &text, &[(16, uniform), sums], [groups, 1, 1])?;
            let set = |rounds: u32| {
                let words = [rounds, 0.5f32.to_bits(), 1f32.to_bits(), 0];
                probe.write(0, &words.map(u32::to_le_bytes).concat());
            };
            // once to compile it, once to see how fast it is
            set(ROUNDS);
            stopwatch.first_run(&probe)?;
            let seen = stopwatch.first_run(&probe)?.max(1e-9);
            let rounds = ((ROUNDS as f64 * FMA_SECONDS / seen) as u32).clamp(ROUNDS, MAX_ROUNDS);
            set(rounds);
            let flop = 8.0 * (chains * UNROLLED * rounds) as f64 * (WIDTH * groups) as f64;
            best = best.max(1e-9 * flop / probe.seconds(stopwatch, budget)?);
        }
    }
    Ok(best)
}

fn fma_text(chains: u32, fused: bool) -> String {
    let mut text = format!(
        "struct Params {{ rounds: u32, factor: f32, addend: f32, unused: u32 }}\n\
         @group(0) @binding(0) var<uniform> params: Params;\n\
         @group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>;\n\
         @compute @workgroup_size({WIDTH})\n\
         fn main(@builtin(global_invocation_id) id: vec3<u32>) {{\n    \
             let m = vec4<f32>(params.factor);\n    let c = vec4<f32>(params.addend);\n    let x = f32(id.x);\n"
    );
    let each = |text: &mut String, line: &dyn Fn(u32) -> String| {
        (0..chains).for_each(|n| {
            let _ = writeln!(text, "{}", line(n));
        })
    };
    each(&mut text, &|n| format!("    var a{n} = vec4<f32>(x + {n}.0, x + {n}.25, x + {n}.5, x + {n}.75);"));
    text += "    for (var i = 0u; i < params.rounds; i++) {\n";
    for _ in 0..UNROLLED {
        each(&mut text, &|n| match fused {
            true => format!("        a{n} = fma(a{n}, m, c);"),
            false => format!("        a{n} = a{n} * m + c;"),
        });
    }
    text += "    }\n    var sum = a0;\n";
    each(&mut text, &|n| if n > 0 { format!("    sum += a{n};") } else { String::new() });
    text += "    sums[id.x] = sum;\n}\n";
    text
}

/// Of cooperative matrices; no kernel here measures them yet.
fn matrix(_gpu: &Gpu, _stopwatch: &Stopwatch, _budget: Budget) -> Result<Option<f64>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_ceiling_bounds() {
        let mut ceilings = Ceilings { copy_gbps: 10.0, transfer_gbps: 20.0, fma_gflops: 50.0, matrix_gflops: None };
        assert_eq!(ceilings.least_seconds(50e9, 1e9), (1.0, Bound::Compute));
        assert_eq!(ceilings.least_seconds(1e9, 20e9), (2.0, Bound::Memory));
        ceilings.matrix_gflops = Some(500.0);
        assert_eq!(ceilings.least_seconds(50e9, 0.5e9), (0.1, Bound::Compute));
    }
}
