//! Exact phase: increments, phases, cos and sin against a multi-precision library, on the host and on every adapter.
//!
//! The positions are random ones, those that 32 bits end at, and the adversarial ones of every frequency: continued
//! fractions give the positions below 2^31 whose phase is nearest to an edge of an octant, where the quarter turn
//! changes and where a wrong bit of the increment shows first.

#[cfg(feature = "wgpu")]
use crate::common;

use dashu_float::{ConstCache, Context, FBig, round::mode::HalfEven};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rayon::prelude::*;
use ropewalk::{Data, Inputs, Pairing, Positions, Rotary, Spec, Tensor, phase, reference};
use std::sync::LazyLock;

/// The largest |cos, sin| error that is allowed at any position below 2^31.
const ALLOWED: f64 = 2e-7;

/// The multi-precision side. An f64 product of position and frequency errs 1e-7 at 2^31, so nothing here multiplies in
/// f64.
mod exact {
    use super::*;

    pub type Big = FBig<HalfEven, 2>;
    pub const BITS: usize = 384;
    pub static TWO_PI: LazyLock<Big> = LazyLock::new(|| Big::pi(BITS) * Big::from(2));

    pub fn big(x: f64) -> Big {
        Big::try_from(x).expect("finite").with_precision(BITS).value()
    }
    /// `position * inv_freq`, exactly: 31 + 53 bits.
    pub fn radians(position: i32, inv_freq: f64) -> Big {
        big(position as f64) * big(inv_freq)
    }
    /// The phase in turns, from -1/2 to 1/2, rounded once.
    pub fn turns(radians: &Big) -> f64 {
        let turns = radians / &*TWO_PI;
        (turns.clone() - turns.round()).to_f64().value()
    }
    /// cos and sin to 5e-16: reduced in 384 bits, then f64 at an angle below pi.
    pub fn cos_sin(position: i32, inv_freq: f64) -> [f64; 2] {
        let (s, c) = (turns(&radians(position, inv_freq)) * std::f64::consts::TAU).sin_cos();
        [c, s]
    }
    /// cos and sin by the multi-precision library all the way, in 160 bits.
    pub fn slow_cos_sin(position: i32, inv_freq: f64, cache: &mut ConstCache) -> [f64; 2] {
        let context = Context::<HalfEven>::new(160);
        let (s, c) = context.sin_cos(radians(position, inv_freq).repr(), Some(cache));
        [c, s].map(|x| x.expect("finite").value().to_f64().value())
    }
}

/// Frequencies that tests go through, with a name each. `width` of them.
fn frequency_lists(width: usize) -> Vec<(&'static str, Vec<f64>)> {
    let theta = |dim: u32, theta: f64| Rotary::new(Pairing::Half, dim, theta).inv_freq();
    let mut d64 = theta(64, 1e6);
    d64.extend(theta(64, 1e4).iter().map(|f| -f));
    let mut edges: Vec<f64> = Vec::new();
    // just beside whole parts of a turn, so that every position is near an edge
    for part in [1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0, 16.0] {
        let f = std::f64::consts::TAU / part;
        edges.extend([f, f.next_up(), f.next_down(), -f]);
    }
    edges.extend([0.0, -0.0, 1.0, -1.0, 65536.0, -65536.0, 65535.999999, 1e-3, 1e-9, 1e-18, 1e-300, f64::MIN_POSITIVE]);
    edges.extend([5e-324, 2f64.powi(-64) * std::f64::consts::TAU, 2f64.powi(-65) * std::f64::consts::TAU]);
    let mut rng = StdRng::seed_from_u64(1);
    edges.resize_with(width, || rng.random_range(-4.0..4.0));
    let cut = |mut list: Vec<f64>| {
        list.resize(width, 0.25);
        list
    };
    vec![
        ("theta 1e4, d 128", cut(theta(128, 1e4))),
        ("theta 5e5, d 128", cut(theta(128, 5e5))),
        ("theta 1e6 and, negative, 1e4, d 64", cut(d64)),
        ("edges", cut(edges)),
    ]
}

const FIXED: [i32; 13] = [0, 1, -1, 2, -2, 3, 65_535, 65_536, -65_536, i32::MAX, i32::MAX - 1, i32::MIN, i32::MIN + 1];

/// 2^k and its neighbours.
fn powers_of_two() -> impl Iterator<Item = i32> {
    (1..31).flat_map(|k| [(1 << k) - 1, 1 << k, (1 << k) + 1].map(|p: i32| if k % 3 == 0 { -p } else { p }))
}

/// The positions below 2^31 at which the phase of `inv_freq` is nearest to a multiple of 1/`parts` of a turn, most
/// extreme last: denominators of the convergents of parts * inv_freq / 2 pi.
fn near_edges(inv_freq: f64, parts: u32) -> Vec<i32> {
    let mut x = exact::big(inv_freq.abs()) * exact::Big::from(parts) / &*exact::TWO_PI;
    let (mut last, mut denominator) = (0u64, 1u64);
    let mut found = Vec::new();
    for _ in 0..64 {
        let whole = x.floor();
        let rest = x - whole;
        if rest.to_f64().value() < 1e-60 {
            break;
        }
        x = exact::big(1.0) / rest;
        let Ok(a) = u64::try_from(x.floor().to_int().value()) else { break };
        let next = a.checked_mul(denominator).and_then(|n| n.checked_add(last));
        (last, denominator) = match next {
            Some(next) if next < 1 << 31 => (denominator, next),
            _ => break,
        };
        found.push(denominator as i32);
    }
    found
}

fn random_positions(seed: u64, n: usize) -> Vec<i32> {
    let mut rng = StdRng::seed_from_u64(seed);
    // half of them over all 32 bits, half by size
    (0..n).map(|i| if i % 2 == 0 { rng.random() } else { rng.random::<i32>() >> rng.random_range(0..31) }).collect()
}

/// What the shaders compute, in u32 and f32: `shaders/equation/angle_sincos.wgsl` in Rust.
mod twin {
    /// Multiply-add: separate, or contracted into one rounding, as WGSL permits.
    type MulAdd = fn(f32, f32, f32) -> f32;
    pub fn separate(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
    pub fn contracted(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[allow(clippy::excessive_precision)] // as the shader has them
    pub fn cos_sin_of_phase(phase: u32, fma: MulAdd) -> [f32; 2] {
        let quarter = phase.wrapping_add(0x2000_0000) >> 30;
        let x = phase.wrapping_sub(quarter << 30) as i32 as f32 * 1.4629180792671596e-9;
        let z = x * x;
        let s = fma(x * z, fma(z, fma(z, -0.000194956362278, 0.00833197866306), -0.166666506693), x);
        let tail = fma(z, fma(z, 2.44384516503e-5, -0.00138873675163), 0.0416666468665);
        let c = fma(z * z, tail, fma(-0.5, z, 1.0));
        let turned = if quarter & 1 == 1 { [-s, c] } else { [c, s] };
        if quarter & 2 == 2 { turned.map(|x| -x) } else { turned }
    }
}

#[test]
fn continued_fractions_find_the_edges() {
    for inv_freq in [1.0, 0.8659643233600653, 1e-2, 1.1547819846894582e-4] {
        for parts in [4, 8] {
            let distance = |p: i32| {
                let eighths = exact::turns(&exact::radians(p, inv_freq)) * parts as f64;
                (eighths - eighths.round()).abs()
            };
            let nearest = *near_edges(inv_freq, parts).last().expect("a convergent");
            let random = random_positions(3, 500).into_iter().filter(|p| *p != 0).map(distance);
            let best = random.fold(1.0, f64::min);
            assert!(distance(nearest) < 1e-7 && distance(nearest) < best, "{inv_freq}: {nearest}, {best}");
        }
    }
}

#[test]
fn both_multi_precision_paths_agree() {
    let mut cache = ConstCache::new();
    for (name, list) in frequency_lists(64) {
        for (p, f) in list.iter().enumerate().step_by(5) {
            let edges = near_edges(*f, 8);
            for position in
                FIXED.into_iter().chain(edges.into_iter().rev().take(3)).chain(random_positions(p as u64, 4))
            {
                let (fast, slow) = (exact::cos_sin(position, *f), exact::slow_cos_sin(position, *f, &mut cache));
                for (fast, slow) in fast.iter().zip(slow) {
                    assert!((fast - slow).abs() <= 1e-15, "{name}, {f} at {position}: {fast} and {slow}");
                }
            }
        }
    }
}

#[test]
fn increments_are_rounded_once() {
    let two_64 = exact::big(2f64.powi(64));
    for (name, list) in frequency_lists(512) {
        for f in list {
            let turns = exact::big(f) / &*exact::TWO_PI * &two_64;
            // modulo 2^64, as i128 has room for 65 536 / 2 pi * 2^64
            let want = i128::try_from(turns.round().to_int().value()).expect("below 2^127") as u64;
            assert_eq!(phase::increment(f), want, "{name}: {f:e}");
        }
    }
}

#[test]
fn the_phase_is_the_upper_half_of_the_product() {
    let mut rng = StdRng::seed_from_u64(4);
    for position in FIXED.into_iter().chain(powers_of_two()).chain(random_positions(5, 100_000)) {
        let increment = match rng.random_range(0..4) {
            0 => rng.random_range(0..1 << 20),
            1 => u64::MAX - rng.random_range(0..1 << 20),
            _ => rng.random(),
        };
        let product = (position as i64 as u64).wrapping_mul(increment);
        assert_eq!(phase::phase(position, increment), (product >> 32) as u32, "{position} * {increment:#x}");
    }
}

/// The phase is at most 2^-32 turns (its last bit) below `position * increment`, and an increment is off by at most
/// half of 2^-64 turns.
#[test]
fn the_phase_is_within_its_last_bit() {
    let last_bit = 2f64.powi(-32);
    for (name, list) in frequency_lists(128) {
        let worst = list
            .par_iter()
            .enumerate()
            .flat_map_iter(|(i, f)| {
                let positions = FIXED.into_iter().chain(powers_of_two()).chain(random_positions(i as u64, 100));
                positions.chain(near_edges(*f, 4)).chain(near_edges(*f, 8)).map(move |p| {
                    let found = phase::phase(p, phase::increment(*f)) as f64 * last_bit;
                    let error = found - exact::turns(&exact::radians(p, *f));
                    let error = error - error.round();
                    assert!((-1.25 * last_bit..=0.25 * last_bit).contains(&error), "{name}: {f:e} at {p}: {error:e}");
                    error.abs()
                })
            })
            .reduce(|| 0.0, f64::max);
        println!("{name}: phase off by at most {:.2e} rad", worst * std::f64::consts::TAU);
    }
}

/// The polynomials over all phases, whatever the compiler contracts: with the phase's own 1.9e-9 rad below the limit.
#[test]
fn polynomials_hold_for_every_phase() {
    for (name, fma) in [("separate", twin::separate as fn(f32, f32, f32) -> f32), ("contracted", twin::contracted)] {
        let worst = (0..1u32 << 23)
            .into_par_iter()
            .map(|i| {
                let phase = i.wrapping_mul(0x9e37_79b1); // every 512th phase or so, spread
                let (s, c) = (phase as i32 as f64 * 2f64.powi(-32) * std::f64::consts::TAU).sin_cos();
                let found = twin::cos_sin_of_phase(phase, fma);
                (found[0] as f64 - c).abs().max((found[1] as f64 - s).abs())
            })
            .reduce(|| 0.0, f64::max);
        println!("polynomials, {name} multiply and add: error {worst:.2e}");
        assert!(worst + 1.9e-9 <= ALLOWED, "{name}: {worst:e}");
    }
}

/// A row of 1 and 0 for every pair: rotated, it is cos and sin. Queries stand at `positions`.
fn unit_rows(inv_freq: &[f64], positions: &[i32]) -> (Spec, Inputs) {
    let pairs = inv_freq.len();
    let dim = 2 * pairs as u32;
    let mut spec = Spec::new(1, 1, dim);
    spec.rotary = Some(Rotary::with_inv_freq(Pairing::Half, inv_freq.to_vec()));
    spec.positions = Positions::Ids;
    let row = |n: usize| {
        let values: Vec<f32> = (0..n * 2 * pairs).map(|i| (i % (2 * pairs) < pairs) as u32 as f32).collect();
        Tensor::bshd(Data::F32(values), [1, n as u32, 1, dim]).expect("as many elements as the shape has")
    };
    let mut inputs = Inputs::new(row(positions.len()), row(1), row(1));
    inputs.q_positions = Some(positions.to_vec());
    inputs.k_positions = Some(vec![0]);
    (spec, inputs)
}

/// Positions for one list: the fixed ones, powers of two, the most extreme edges of every frequency, random ones.
fn positions_for(list: &[f64], random: usize) -> Vec<i32> {
    let edges = list.iter().enumerate().flat_map(|(i, f)| {
        let (quarter, eighth) = (near_edges(*f, 4), near_edges(*f, 8));
        let sign = if i % 4 == 3 { -1 } else { 1 };
        [quarter, eighth].into_iter().filter_map(move |e| e.last().map(|p| p * sign))
    });
    let mut positions: Vec<i32> = FIXED.into_iter().chain(powers_of_two()).chain(edges).collect();
    positions.extend(random_positions(7, random));
    positions
}

/// `[position][pair]`, cos and sin.
fn expected(list: &[f64], positions: &[i32]) -> Vec<Vec<[f64; 2]>> {
    positions.par_iter().map(|p| list.iter().map(|f| exact::cos_sin(*p, *f)).collect()).collect()
}

/// The largest error of rotated unit rows, and where.
fn worst_error(rows: impl Fn(usize) -> f64, want: &[Vec<[f64; 2]>], list: &[f64], positions: &[i32]) -> (f64, String) {
    let mut worst = (0.0, String::new());
    let pairs = list.len();
    for (r, row) in want.iter().enumerate() {
        for (p, [c, s]) in row.iter().enumerate() {
            for (what, got, want) in [("cos", rows(2 * r * pairs + p), c), ("sin", rows((2 * r + 1) * pairs + p), s)] {
                let error = (got - want).abs();
                if error.is_nan() || error > worst.0 {
                    worst = (error, format!("{what} of {:e} at {}: {got} for {want}", list[p], positions[r]));
                }
            }
        }
    }
    worst
}

#[test]
fn the_reference_is_exact_at_every_position() {
    for (name, list) in frequency_lists(64) {
        let positions = positions_for(&list, 40);
        let want = expected(&list, &positions);
        let (spec, inputs) = unit_rows(&list, &positions);
        let (q, _) = reference::rotate(&spec, &inputs).expect("a valid problem");
        let (worst, at) = worst_error(|i| q[i], &want, &list, &positions);
        println!("reference, {name}: error {worst:.2e}");
        assert!(worst <= 2e-15, "{name}: {at}");
    }
}

#[cfg(feature = "wgpu")]
mod gpu {
    use super::*;
    use ropewalk::{Angle, AngleTable, Gpu, wgpu};
    use safetensors::SafeTensors;
    use std::borrow::Cow;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// One test at a time: an OpenGL context that a second thread waits for too long is an error of wgpu's.
    fn gpus() -> MutexGuard<'static, Vec<Gpu>> {
        static GPUS: LazyLock<Mutex<Vec<Gpu>>> = LazyLock::new(|| Mutex::new(common::gpus()));
        GPUS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `shaders/equation/angle_float32.wgsl`: the phase of a float32 angle, in one 128-bit product.
    fn phase_of_radians(radians: f32) -> u32 {
        let bits = radians.to_bits();
        let exponent = (bits >> 23 & 0xff) as i32 - 150;
        if exponent < -90 {
            return 0;
        }
        let product = ((bits & 0x7f_ffff) | 0x80_0000) as u128 * 0x28be_60db_9391_054a_7f09_d5f4;
        let phase = product.checked_shr((64 - exponent) as u32).unwrap_or(0) as u32;
        if bits >> 31 == 1 { phase.wrapping_neg() } else { phase }
    }

    /// WGSL lets a compiler contract a multiplication and an addition, so equal bits are shown, not promised: on
    /// software adapters they must be equal, on others the count is printed.
    fn same_bits(gpu: &Gpu, what: &str, different: usize, of: usize) {
        println!("{}: {what}: {different} of {of} bit patterns differ from the twin's", gpu.describe());
        let software = gpu.info().device_type == wgpu::DeviceType::Cpu;
        assert!(!software || different == 0, "{}: {what}: {different} of {of}", gpu.describe());
    }
    /// Signed zeros are alike: WGSL keeps no promise about them.
    fn bits(x: f32) -> u32 {
        (x + 0.0).to_bits()
    }

    #[test]
    fn rotations_are_exact_at_every_position() {
        for (name, list) in frequency_lists(64) {
            let positions = positions_for(&list, 100);
            let want = expected(&list, &positions);
            let (spec, inputs) = unit_rows(&list, &positions);
            for gpu in gpus().iter() {
                let (q, _) = gpu.rotate(&spec, &inputs).expect("rotates");
                let (worst, at) = worst_error(|i| q[i] as f64, &want, &list, &positions);
                println!("{}: {name}: error {worst:.2e}", gpu.describe());
                assert!(worst <= ALLOWED, "{}: {name}: {at}", gpu.describe());
                let increments: Vec<u64> = list.iter().map(|f| phase::increment(*f)).collect();
                let twin = positions.iter().flat_map(|p| {
                    let rows =
                        increments.iter().map(|inc| twin::cos_sin_of_phase(phase::phase(*p, *inc), twin::separate));
                    let rows: Vec<_> = rows.collect();
                    [0, 1].into_iter().flat_map(move |e| rows.iter().map(move |cs| cs[e]).collect::<Vec<_>>())
                });
                let different = q.iter().zip(twin).filter(|(q, t)| bits(**q) != bits(*t)).count();
                same_bits(gpu, name, different, q.len());
            }
        }
    }

    /// The angle files in a module of the test's own: `rotary[i]` and `positions[i]` go in, four words come out.
    fn run_angles(gpu: &Gpu, angle_file: &str, phase: &str, positions: &[i32], rotary: &[[u32; 4]]) -> Vec<[u32; 4]> {
        let source = format!(
            "@group(0) @binding(0) var<storage, read> positions: array<i32>;
             @group(0) @binding(1) var<storage, read> rotary: array<vec4<u32>>;
             @group(0) @binding(2) var<storage, read_write> found: array<vec4<u32>>;
             @compute @workgroup_size(64)
             fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
                 let i = id.x;
                 if (i >= arrayLength(&positions)) {{ return; }}
                 let cs = angle(positions[i], i);
                 found[i] = vec4<u32>({phase}, bitcast<u32>(cs.x), bitcast<u32>(cs.y), 0u);
             }}
             {angle_file}
             {}",
            include_str!("../shaders/equation/angle_sincos.wgsl")
        );
        let (device, queue) = (gpu.device(), gpu.queue());
        let _turn = ropewalk::turn(device);
        let source = wgpu::ShaderSource::Wgsl(Cow::Owned(source));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let size = 16 * positions.len() as u64;
        let make = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let input = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffers = [
            make(size / 4, input),
            make(size, input),
            make(size, wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC),
        ];
        queue.write_buffer(&buffers[0], 0, bytemuck::cast_slice(positions));
        queue.write_buffer(&buffers[1], 0, bytemuck::cast_slice(rotary));
        let staging = make(size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let entries: Vec<_> = (0..)
            .zip(&buffers)
            .map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: b.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
        let mut encoder = device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(positions.len().div_ceil(64) as u32, 1, 1);
        }
        encoder.copy_buffer_to_buffer(&buffers[2], 0, &staging, 0, size);
        queue.submit([encoder.finish()]);
        bytemuck::pod_collect_to_vec(&gpu.read_back(&staging).expect("the device works"))
    }

    #[test]
    fn phase_bits_are_equal_everywhere() {
        // adversarial pairs, then random ones
        let mut cases: Vec<(i32, u64)> = Vec::new();
        for (_, list) in frequency_lists(64) {
            for f in list {
                let edges = [near_edges(f, 4), near_edges(f, 8)].concat();
                let all = FIXED.into_iter().chain(powers_of_two()).chain(edges.iter().copied());
                cases.extend(all.chain(edges.iter().map(|p| -p)).map(|p| (p, phase::increment(f))));
            }
        }
        let mut rng = StdRng::seed_from_u64(8);
        let random = random_positions(9, (1 << 17) - cases.len().min(1 << 16));
        cases.extend(random.into_iter().map(|p| (p, rng.random::<u64>() >> rng.random_range(0..40))));
        assert!(cases.len() > 100_000, "{}", cases.len());
        let positions: Vec<i32> = cases.iter().map(|(p, _)| *p).collect();
        let one = 1f32.to_bits();
        let rotary: Vec<_> = cases.iter().map(|(_, inc)| [(inc >> 32) as u32, *inc as u32, 0, one]).collect();
        for gpu in gpus().iter() {
            let file = include_str!("../shaders/equation/angle_exact.wgsl");
            let found = run_angles(gpu, file, "exact_phase(positions[i], rotary[i].xy)", &positions, &rotary);
            let mut different = 0;
            for (found, (position, increment)) in found.iter().zip(&cases) {
                let phase = phase::phase(*position, *increment);
                assert_eq!(found[0], phase, "{}: {position} * {increment:#x}", gpu.describe());
                let twin = twin::cos_sin_of_phase(phase, twin::separate);
                different += (0..2).filter(|e| bits(f32::from_bits(found[1 + e])) != bits(twin[*e])).count();
            }
            assert_eq!(found.len(), cases.len());
            same_bits(gpu, "cos and sin of exact phases", different, 2 * cases.len());
        }
    }

    /// The angle is the float32 product, whatever its size, and cos and sin are those of that angle.
    #[test]
    fn float32_angles_are_reduced_exactly() {
        let mut rng = StdRng::seed_from_u64(10);
        let mut frequencies: Vec<f32> =
            frequency_lists(64).iter().flat_map(|(_, l)| l.iter().map(|f| *f as f32)).collect();
        frequencies
            .resize_with(400, || f32::from_bits(rng.random_range(0..0x4780_0000u32) | rng.random::<u32>() << 31));
        let mut cases: Vec<(i32, f32)> = Vec::new();
        for (i, f) in frequencies.iter().enumerate() {
            // below 2^24 a position is a float32; above, WGSL leaves the direction of its rounding open
            let small = random_positions(i as u64, 100).into_iter().map(|p| p >> 8);
            let large = powers_of_two().filter(|p| *p as f32 as i64 == *p as i64).chain([i32::MIN, 1 << 30, 3 << 29]);
            cases.extend(small.chain(large).chain([0, 1, -1]).map(|p| (p, *f)));
        }
        let positions: Vec<i32> = cases.iter().map(|(p, _)| *p).collect();
        let rotary: Vec<_> = cases.iter().map(|(_, f)| [0, 0, f.to_bits(), 1f32.to_bits()]).collect();
        for gpu in gpus().iter() {
            let file = include_str!("../shaders/equation/angle_float32.wgsl");
            let product = "phase_of_radians(f32(positions[i]) * bitcast<f32>(rotary[i].z))";
            let found = run_angles(gpu, file, product, &positions, &rotary);
            let (mut different, mut worst) = (0, 0f64);
            for (found, (position, f)) in found.iter().zip(&cases) {
                let radians = *position as f32 * f;
                let phase = phase_of_radians(radians);
                assert_eq!(found[0], phase, "{}: {position} * {f:e}", gpu.describe());
                let twin = twin::cos_sin_of_phase(phase, twin::separate);
                let (s, c) = (radians as f64).sin_cos();
                for (e, want) in [c, s].into_iter().enumerate() {
                    let got = f32::from_bits(found[1 + e]);
                    let error = (got as f64 - want).abs();
                    assert!(error <= ALLOWED, "{}: {position} * {f:e}: {got} for {want}", gpu.describe());
                    worst = worst.max(error);
                    different += (bits(got) != bits(twin[e])) as usize;
                }
            }
            println!("{}: float32 angles: error {worst:.2e}", gpu.describe());
            same_bits(gpu, "cos and sin of float32 angles", different, 2 * cases.len());
        }
    }

    /// The numbers that transformers' rotary modules return, which are cos and sin of a float32 angle.
    #[test]
    fn float32_angles_are_those_of_transformers() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/08_rope_scaling");
        let files = std::fs::read_dir(folder).expect("the golden cases").map(|e| e.expect("a file").path());
        let (mut cases, mut overall) = (0, 0f64);
        for path in files.filter(|p| p.extension().is_some_and(|e| e == "safetensors")) {
            let bytes = std::fs::read(&path).expect("readable");
            let words = |name: &str| -> Vec<u32> {
                let file = SafeTensors::deserialize(&bytes).expect("safetensors");
                let tensor = file.tensor(name).expect("a tensor of every case");
                tensor.data().chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
            };
            let floats = |name: &str| words(name).into_iter().map(f32::from_bits).collect::<Vec<_>>();
            let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
            let parameters = header.metadata().as_ref().expect("metadata")["parameters"].clone();
            let parameters: serde_json::Value = serde_json::from_str(&parameters).expect("JSON");
            let factor = parameters["attention_factor"].as_f64().unwrap_or(1.0);
            let mut inv_freq: Vec<f64> = floats("inv_freq_f32").iter().map(|f| *f as f64).collect();
            let pairs = inv_freq.len();
            // one width, so that one kernel serves all
            inv_freq.resize(128, 0.0);
            let positions: Vec<i32> = words("positions").into_iter().map(|p| p as i32).collect();
            let (mut spec, inputs) = unit_rows(&inv_freq, &positions);
            if let Some(rotary) = &mut spec.rotary {
                (rotary.angle, rotary.attention_factor) = (Angle::Float32, factor);
            }
            let listed = [floats("cos_hf_f32"), floats("sin_hf_f32")];
            for gpu in gpus().iter() {
                let (q, _) = gpu.rotate(&spec, &inputs).expect("rotates");
                let mut worst = 0f64;
                for r in 0..positions.len() {
                    for (e, listed) in listed.iter().enumerate() {
                        for p in 0..pairs {
                            let error = (q[(2 * r + e) * 128 + p] as f64 - listed[r * pairs + p] as f64).abs() / factor;
                            worst = if error <= worst { worst } else { error };
                        }
                    }
                }
                overall = overall.max(worst);
                // theirs: one rounding of cos, one of the product with the factor
                assert!(worst <= ALLOWED + 1.2e-7, "{}: {}: {worst:e}", gpu.describe(), path.display());
            }
            cases += 1;
        }
        println!("float32 angles against transformers: worst {overall:.2e} in {cases} cases");
        assert_eq!(cases, 18);
    }

    /// cos and sin tables come through with their own bits, times the attention factor.
    #[test]
    fn tables_come_through_unchanged() {
        let mut rng = StdRng::seed_from_u64(11);
        let (rows, pairs) = (50u32, 32);
        let mut values = || (0..rows * pairs).map(|_| rng.random_range(-1.5f32..1.5)).collect::<Vec<_>>();
        let table = AngleTable { cos: values(), sin: values() };
        let positions: Vec<i32> = (0..rows as i32).map(|p| p * 7 % rows as i32).collect();
        for factor in [1.0, 1.3465735902799727] {
            let (mut spec, mut inputs) = unit_rows(&vec![0.0; pairs as usize], &positions);
            if let Some(rotary) = &mut spec.rotary {
                (rotary.angle, rotary.attention_factor) = (Angle::Table, factor);
            }
            inputs.angle_table = Some(table.clone());
            for gpu in gpus().iter() {
                let (q, _) = gpu.rotate(&spec, &inputs).expect("rotates");
                for (row, position) in q.chunks_exact(2 * pairs as usize).zip(&positions) {
                    let at = *position as usize * pairs as usize..(*position as usize + 1) * pairs as usize;
                    let want = table.cos[at.clone()].iter().chain(&table.sin[at]).map(|x| x * factor as f32);
                    for (got, want) in row.iter().zip(want) {
                        assert_eq!(bits(*got), bits(want), "{}: row {position}", gpu.describe());
                    }
                }
            }
        }
    }
}
