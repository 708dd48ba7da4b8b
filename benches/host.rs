//! What the host pays: once a shape (planning, which validates, composes the shader and lays the buffers out), once a layer's
//! tables, and every step (its words). Microseconds and allocations: `cargo bench --bench host`;
//! what follows once there is a device is in `encode.rs`.
use allocation_counter::measure;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ropewalk::{Bias, Dtype, Kernel, Limits, Mask, Pairing, Plan, Positions, Rotary, Shape, Spec, Step, Target};
use std::hint::black_box;

struct Case {
    name: &'static str,
    spec: Spec,
    q_len: u32,
    kv_len: u32,
}

fn cases() -> Vec<Case> {
    let mut llama = Spec::new(32, 8, 128);
    llama.dtype = Dtype::F16;
    llama.rotary = Some(Rotary::new(Pairing::Half, 128, 500_000.0));
    llama.mask = Mask::causal();
    let mut ids = llama.clone();
    ids.positions = Positions::Ids;
    let mut t5 = Spec::new(12, 12, 64);
    t5.bias = vec![Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: true }];
    vec![
        Case { name: "llama-3-8b, decode at 4096", spec: llama.clone(), q_len: 1, kv_len: 4096 },
        Case { name: "llama-3-8b, prefill of 2048", spec: llama, q_len: 2048, kv_len: 2048 },
        Case { name: "llama-3-8b, position ids", spec: ids, q_len: 2048, kv_len: 2048 },
        Case { name: "t5-base, encoder of 512", spec: t5, q_len: 512, kv_len: 512 },
    ]
}

fn plan(case: &Case) -> Plan {
    let shape = Shape::new(&case.spec, 1, case.q_len, case.kv_len);
    let plan = Plan::new(Kernel::Attention, &case.spec, &shape, &Limits::default()).expect("a valid case");
    assert!(plan.wgsl(Target::Native).contains("fn main("), "{}: no entry point", case.name);
    plan
}

/// Prints what a call allocates; how many that were.
fn allocations(group: &str, case: &Case, mut call: impl FnMut()) -> u64 {
    call();
    let info = measure(call);
    println!(
        "{group}/{}: {} allocations, {} bytes, at most {} at once",
        case.name, info.count_total, info.bytes_total, info.bytes_max
    );
    info.count_total
}

fn planning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for case in cases() {
        // validation, the choice of a kernel, composition and layout: one call, which nothing takes apart
        allocations("plan", &case, || drop(plan(&case)));
        group.bench_function(BenchmarkId::from_parameter(case.name), |bencher| bencher.iter(|| plan(black_box(&case))));
    }
}

fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tables");
    for case in cases().into_iter().filter(|case| !case.spec.bias.is_empty()) {
        let plan = plan(&case);
        let table = [("bias_table".to_string(), vec![0.5; 32 * case.spec.num_heads as usize])].into();
        allocations("tables", &case, || drop(plan.pack_tables(&table, None)));
        group.bench_function(BenchmarkId::from_parameter(case.name), |bencher| {
            bencher.iter(|| plan.pack_tables(black_box(&table), None).expect("a table of 32 buckets"))
        });
    }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    for case in cases() {
        let layout = plan(&case).step_layout().clone();
        let positions: Vec<i32> = (0..case.kv_len as i32).collect();
        let mut step = Step { q_len: case.q_len, kv_len: case.kv_len, ..Step::default() };
        if case.spec.positions == Positions::Ids {
            step.q_positions = &positions;
            step.k_positions = &positions;
        }
        let mut words = vec![0; layout.words as usize];
        let count = allocations("step", &case, || layout.write(&step, &mut words).expect("a step that fits"));
        assert_eq!(count, 0, "{}: a step allocates", case.name);
        group.bench_function(BenchmarkId::from_parameter(case.name), |bencher| {
            bencher.iter(|| layout.write(black_box(&step), black_box(&mut words)).expect("a step that fits"))
        });
    }
}

criterion_group!(benches, planning, tables, steps);
criterion_main!(benches);
