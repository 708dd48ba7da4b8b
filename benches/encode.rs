//! What the host pays on the default adapter to bind a layer and to encode a step: `cargo bench --bench encode`
//!
//! A step here is 32 layers in one compute pass. An *encoded step* of attention is one layer of it: all dispatches of one bound plan (of r1:
//! of two, q and k). `encode` is the calls of `Dispatch::encode`, `all` is everything from the encoder to the command buffer that an engine
//! would submit, most of which wgpu does at the end. The control is the same wgpu calls by hand.
//!
//! First a table, both in alternation. It ends with an error where a step of ours allocates anything that the control does not, where the
//! calls of a layer take 20 us or more, or where for kernels of every token all of it does. Then criterion's statistics.
mod raw;

use allocation_counter::measure;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raw::{Compiled, Layers};
use ropewalk::{Buffers, Gpu, wgpu, workload};
use std::time::{Duration, Instant};

const LAYERS: usize = 32;
/// Steps of each of the two in the table.
const ROUNDS: usize = 200;
/// Microseconds that one layer of a step may take.
const MOST: f64 = 20.0;
/// llama-3-8b over 4096 keys with rotated and with raw keys, its prefill, a small one, one with several entry points, rotation in place;
/// whether it runs for every token.
const PLANS: [(&str, bool); 6] =
    [("d1-f16", true), ("d2-f16", true), ("p2-f16", false), ("p1", false), ("b2", false), ("r1-f16", true)];

/// What one of the two costs: microseconds a layer, best and median; allocations and bytes a step.
struct Cost {
    encode: [f64; 2],
    whole: [f64; 2],
    allocations: [i64; 2],
}

/// Steps of one of the two.
#[derive(Default)]
struct Runs {
    encode: Vec<Duration>,
    whole: Vec<Duration>,
    allocations: Vec<[i64; 2]>,
}

impl Runs {
    fn add(&mut self, layers: &Layers, calls: impl Fn(&mut wgpu::ComputePass)) {
        let (start, mut encode) = (Instant::now(), Duration::ZERO);
        let commands = layers.step(|pass| {
            let start = Instant::now();
            calls(pass);
            encode = start.elapsed();
        });
        self.whole.push(start.elapsed());
        self.encode.push(encode);
        drop(commands);
        self.allocations.push(allocations(|| drop(layers.step(&calls))));
    }
    fn cost(self) -> Cost {
        let us = |mut times: Vec<Duration>| {
            times.sort();
            [times[0], times[times.len() / 2]].map(|time| time.as_secs_f64() * 1e6 / LAYERS as f64)
        };
        Cost { encode: us(self.encode), whole: us(self.whole), allocations: self.allocations[ROUNDS - 1] }
    }
}

/// Of this thread: how many, bytes.
fn allocations(calls: impl FnOnce()) -> [i64; 2] {
    let info = measure(calls);
    [info.count_total, info.bytes_total].map(|n| n as i64)
}

impl std::ops::Sub for &Cost {
    type Output = Cost;
    fn sub(self, other: &Cost) -> Cost {
        let less = |a: [f64; 2], b: [f64; 2]| [a[0] - b[0], a[1] - b[1]];
        let [count, bytes] = self.allocations;
        Cost {
            encode: less(self.encode, other.encode),
            whole: less(self.whole, other.whole),
            allocations: [count - other.allocations[0], bytes - other.allocations[1]],
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Cost { encode, whole, allocations } = self;
        let step = whole.map(|us| us * LAYERS as f64);
        write!(
            f,
            "{:8.2} {:8.2}   {:8.2} {:8.2}   {:8.0} {:8.0}",
            encode[0], encode[1], whole[0], whole[1], step[0], step[1]
        )?;
        write!(f, "   {:6} {:9}", allocations[0], allocations[1])
    }
}

/// Three lines of the table; whether they keep the promise.
fn compare(name: &str, every_token: bool, layers: &Layers) -> bool {
    let (mut ours, mut control) = (Runs::default(), Runs::default());
    for _ in 0..ROUNDS {
        ours.add(layers, |pass| layers.encode_ours(pass));
        control.add(layers, |pass| layers.encode_raw(pass));
    }
    // wgpu's pools grow in the first steps
    let equal = ours.allocations[ROUNDS / 2..] == control.allocations[ROUNDS / 2..];
    let dispatches = layers.ours.iter().map(|dispatch| dispatch.chunks()).sum::<usize>() / LAYERS;
    let (ours, control) = (ours.cost(), control.cost());
    println!("{name:8} {dispatches:4}  ropewalk    {ours}");
    println!("{:15}control     {control}", "");
    println!("{:15}difference  {}", "", &ours - &control);
    equal && ours.encode[0] < MOST && (!every_token || ours.whole[0] < MOST)
}

fn encoding(criterion: &mut Criterion) {
    let gpu = match Gpu::new() {
        Ok(gpu) => gpu,
        Err(e) => return println!("left out: {e}"),
    };
    println!("{}, {LAYERS} layers a step", gpu.describe());
    println!(
        "                              us a layer, encode  us a layer, all     us a step, all      allocations a step"
    );
    println!(
        "         dispatches               best   median       best   median       best   median    count     bytes"
    );
    let layers = |name| {
        let plans = workload::named(name).and_then(|workload| workload.plans(gpu.limits())).expect("a named workload");
        Layers::new(&gpu, &plans, LAYERS)
    };
    let broken: Vec<_> = PLANS.into_iter().filter(|(name, often)| !compare(name, *often, &layers(name))).collect();
    assert!(broken.is_empty(), "{broken:?}: a step of ours allocates, or takes {MOST} us a layer");

    let mut group = criterion.benchmark_group("encode");
    group.measurement_time(Duration::from_secs(2)).throughput(Throughput::Elements(LAYERS as u64));
    for (name, _) in PLANS {
        let layers = layers(name);
        let mut bench = |who, encode: &dyn Fn(&mut wgpu::ComputePass)| {
            group.bench_function(BenchmarkId::new(name, who), |bencher| {
                bencher.iter_custom(|steps| {
                    let timed = |_| {
                        let start = Instant::now();
                        let _commands = layers.step(encode);
                        start.elapsed() // before they are dropped
                    };
                    (0..steps).map(timed).sum()
                })
            });
        };
        bench("ropewalk", &|pass| layers.encode_ours(pass));
        bench("control", &|pass| layers.encode_raw(pass));
    }
}

/// Once a layer; in rebinding, for engines whose tensors move, once a call.
fn binding(criterion: &mut Criterion) {
    let Ok(gpu) = Gpu::new() else { return };
    let mut group = criterion.benchmark_group("bind");
    group.measurement_time(Duration::from_secs(2));
    for (name, _) in PLANS {
        let plans = workload::named(name).and_then(|workload| workload.plans(gpu.limits())).expect("a named workload");
        let compiled = Compiled::new(&gpu, &plans[0]);
        let buffers = compiled.buffers(&gpu, |_| true);
        let other = compiled.buffers(&gpu, |_| true);
        let dispatch = std::cell::RefCell::new(compiled.bind(&gpu, &buffers));
        let turn = std::cell::Cell::new(false);
        let rebind = || {
            turn.set(!turn.get());
            let to = if turn.get() { &other } else { &buffers };
            let bound = to.iter().fold(Buffers::new(), |all, (slot, buffer)| all.with(*slot, buffer, 0));
            dispatch.borrow_mut().rebind(&bound).expect("buffers of the plan's sizes");
        };
        let mut bench = |who, bind: &dyn Fn()| {
            // tables of wgpu grow now and then
            let [count, bytes] = (0..5).map(|_| allocations(bind)).min().expect("five of them");
            println!("bind/{name}/{who}: {count} allocations, {bytes} bytes");
            group.bench_function(BenchmarkId::new(name, who), |bencher| {
                bencher.iter_custom(|times| {
                    let timed = |i| {
                        let start = Instant::now();
                        bind();
                        let time = start.elapsed();
                        if i % 64 == 0 {
                            // the uniforms' contents wait for a submission
                            gpu.queue().submit([]);
                            gpu.finish().expect("the device works");
                        }
                        time
                    };
                    (0..times).map(timed).sum()
                })
            });
        };
        bench("ropewalk", &|| drop(compiled.bind(&gpu, &buffers)));
        bench("control", &|| drop(compiled.bind_raw(&gpu, &buffers)));
        bench("rebind", &rebind);
    }
}

criterion_group!(benches, encoding, binding);
criterion_main!(benches);
