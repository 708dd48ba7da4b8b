//! The named workloads on the default adapter, from submission to the end: `cargo bench --bench workloads`. `ropewalk bench` checks
//! them, reads the device's own clock and knows its ceilings; this keeps criterion's statistics from run to run.
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ropewalk::workload::{self, Loaded};
use ropewalk::{Gpu, wgpu};
use std::time::{Duration, Instant};

/// One run, waited for.
fn step(loaded: &Loaded, set: usize) {
    let gpu = loaded.gpu();
    // dispatch by dispatch: a software adapter takes seconds for some, a watchdog takes no more than two
    for chunk in 0..loaded.chunks() {
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        loaded.encode_chunk(set, chunk, &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        gpu.queue().submit([encoder.finish()]);
    }
    gpu.wait(None).expect("the device works");
}

fn workloads(criterion: &mut Criterion) {
    let gpu = match Gpu::new() {
        Ok(gpu) => gpu,
        Err(e) => return println!("left out: {e}"),
    };
    let software = gpu.info().device_type == wgpu::DeviceType::Cpu;
    println!("{}", gpu.describe());
    let mut group = criterion.benchmark_group("workload");
    group.sampling_mode(SamplingMode::Flat).sample_size(15).measurement_time(Duration::from_secs(3));
    for workload in workload::all() {
        // seconds to minutes a run
        if software && (workload.name.starts_with("p2") || workload.name.starts_with("p3")) {
            continue;
        }
        let inputs = workload.inputs(1).expect("inputs of a named workload");
        let plans = workload.plans(gpu.limits()).expect("plans of a named workload");
        group.throughput(Throughput::Elements(plans.iter().map(|plan| plan.flop()).sum::<f64>() as u64));
        let loaded = Loaded::new(&gpu, plans, &inputs, 2).expect("a device with room for it");
        step(&loaded, 0);
        group.bench_function(BenchmarkId::from_parameter(&workload.name), |bencher| {
            bencher.iter_custom(|runs| {
                let clock = Instant::now();
                (0..runs as usize).for_each(|run| step(&loaded, run));
                clock.elapsed()
            })
        });
    }
}

criterion_group!(benches, workloads);
criterion_main!(benches);
