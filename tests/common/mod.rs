//! What the tests share: an adapter (or the reason why not), seeded inputs.
#![allow(dead_code)]
use rand::{RngExt, SeedableRng};
use ropewalk::{Data, Family, Gpu, GpuOptions, Inputs, Kernel, Limits, Shape, Spec, Tensor, Tuning, wgpu};
use std::io::Write;

/// Every adapter with these options, but for those of OpenGL whose device is there by another road too: `tests/gl.rs` takes those.
pub fn opened(options: &GpuOptions) -> Vec<Gpu> {
    let all: Vec<Gpu> = Gpu::all(options).into_iter().filter_map(Result::ok).collect();
    let (gl, others): (Vec<Gpu>, Vec<Gpu>) = all.into_iter().partition(|gpu| gpu.info().backend == wgpu::Backend::Gl);
    let same = |gl: &Gpu, other: &Gpu| {
        let (a, b) = (gl.info(), other.info());
        a.name.contains(&b.name)
            || b.name.contains(&a.name)
            || (a.vendor != 0 && [a.vendor, a.device] == [b.vendor, b.device])
    };
    let alone = gl.into_iter().filter(|gl| !others.iter().any(|other| same(gl, other))).collect::<Vec<_>>();
    others.into_iter().chain(alone).collect()
}

/// [`opened`] with WebGPU's default limits and no features. None: the test is left out and says so, unless the environment promises an
/// adapter (`ROPEWALK_REQUIRE_ADAPTER`).
pub fn gpus() -> Vec<Gpu> {
    promised(opened(&default_limits()))
}

/// The same, those of OpenGL too.
pub fn every_adapter() -> Vec<Gpu> {
    promised(Gpu::all(&default_limits()).into_iter().filter_map(Result::ok).collect())
}

fn default_limits() -> GpuOptions {
    let mut options = GpuOptions::default();
    options.default_limits = true;
    options
}

fn promised(gpus: Vec<Gpu>) -> Vec<Gpu> {
    if gpus.is_empty() {
        assert!(std::env::var_os("ROPEWALK_REQUIRE_ADAPTER").is_none(), "an adapter was promised, none opens");
        left_out("no adapter");
    }
    gpus
}

/// [`opened`] with all that the adapters have, where the limits suit.
pub fn equipped(suits: fn(&Limits) -> bool) -> Vec<Gpu> {
    let gpus: Vec<Gpu> = opened(&GpuOptions::default()).into_iter().filter(|gpu| suits(gpu.limits())).collect();
    if gpus.is_empty() {
        left_out("no adapter with what it takes");
    }
    gpus
}

/// The same limits, under which attention takes the family of this name where that suits.
pub fn with_family(family: Family, spec: &Spec, limits: &Limits) -> Limits {
    let mut plain = *limits;
    plain.tuning = None;
    let shape = Shape::new(spec, 1, 1, 1);
    let all = Tuning::candidates(Kernel::Attention, spec, &shape, &plain).expect("a valid spec");
    plain.tuning = all.into_iter().find(|tuning| tuning.family == family);
    assert!(plain.tuning.is_some(), "{family:?} does not suit");
    plain
}

/// Of a list of cases each of which a driver compiles for seconds: all, or, where `ROPEWALK_SAMPLE` holds a number, the one of every n that this
/// number names, at least one (`cargo xtask test` sets it, `cargo xtask test --all` does not). What is left out is said.
pub fn sampled<T>(n: usize, cases: impl IntoIterator<Item = T>) -> Vec<T> {
    let cases: Vec<T> = cases.into_iter().collect();
    let n = n.min(cases.len());
    cases.into_iter().enumerate().filter(|(at, _)| in_sample(n, *at)).map(|(_, case)| case).collect()
}

/// Whether the case `at` of a list, one of n of which is sampled, runs.
pub fn in_sample(n: usize, at: usize) -> bool {
    let runs = sample().is_none_or(|of| at % n == of % n);
    if !runs {
        left_out(&format!("of every {n} cases {}, since ROPEWALK_SAMPLE is set", n - 1));
    }
    runs
}

fn sample() -> Option<usize> {
    let value = std::env::var_os("ROPEWALK_SAMPLE")?;
    let number = value.to_str().and_then(|value| value.parse().ok());
    Some(number.unwrap_or_else(|| panic!("ROPEWALK_SAMPLE is {value:?}, no number")))
}

/// Says that the running test is left out: in its output, and in the file that `ROPEWALK_LEFT_OUT` names, from which
/// `cargo xtask test` prints them all.
pub fn left_out(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    print!("LEFT OUT: {line}");
    if let Some(path) = std::env::var_os("ROPEWALK_LEFT_OUT") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("ROPEWALK_LEFT_OUT names a file to append to");
    }
}

/// n values, uniform with variance 1: products and sums look like those of a normalised model.
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.732f32..1.732)).collect()
}

/// q, k, v for a spec, contiguous.
pub fn inputs(spec: &Spec, batch: u32, q_len: u32, kv_len: u32, seed: u64) -> Inputs {
    let tensor = |len: u32, heads: u32, dim: u32, salt: u64| {
        let values = noise((batch * len * heads * dim) as usize, seed * 3 + salt);
        Tensor::bshd(Data::from_f32(spec.dtype, &values), [batch, len, heads, dim]).expect("one element an index")
    };
    Inputs::new(
        tensor(q_len, spec.num_heads, spec.head_dim, 0),
        tensor(kv_len, spec.num_kv_heads, spec.head_dim, 1),
        tensor(kv_len, spec.num_kv_heads, spec.v_head_dim, 2),
    )
}
