//! Rotation alone: every family and its numbers give the bits of the row kernel, within the bounds of the reference.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, noise};
use ropewalk::*;
use std::collections::BTreeMap;

const Q: Kernel = Kernel::RotateQ { in_place: false };
const K: Kernel = Kernel::RotateK { in_place: false };
const Q_IN_PLACE: Kernel = Kernel::RotateQ { in_place: true };
const K_IN_PLACE: Kernel = Kernel::RotateK { in_place: true };

/// head_dim, rotary_dim, offset.
fn spec(heads: [u32; 2], [head_dim, rotary_dim, offset]: [u32; 3], pairing: Pairing) -> Spec {
    let mut spec = Spec::new(heads[0], heads[1], head_dim);
    let mut rotary = Rotary::new(pairing, rotary_dim, 1e4);
    rotary.offset = offset;
    spec.rotary = Some(rotary);
    spec
}

fn families(kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits) -> Vec<Family> {
    let all = Tuning::candidates(kernel, spec, shape, limits).unwrap().into_iter();
    let mut families: Vec<_> = all.filter(|t| t.checks).map(|t| t.family).collect();
    families.dedup();
    families
}

#[test]
fn turns_serves_pairs_in_whole_fours() {
    let both = [Family::Turns, Family::Rows];
    let served = |kernel: Kernel, dims: [u32; 3], pairing: Pairing, change: &dyn Fn(&mut Spec, &mut Shape)| {
        let mut spec = spec([4, 2], dims, pairing);
        let mut shape = Shape::new(&spec, 2, 9, 20);
        change(&mut spec, &mut shape);
        [Limits::default(), Limits::default().for_cpu()].map(|limits| {
            let families = families(kernel, &spec, &shape, &limits);
            assert!(families == both || families == [Family::Rows], "{families:?}");
            let plan = Plan::new(kernel, &spec, &shape, &limits).unwrap();
            assert_eq!(plan.tuning().family, families[0]);
            assert_eq!(plan.label().contains(".turns"), families[0] == Family::Turns, "{}", plan.label());
            families[0] == Family::Turns
        })
    };
    let as_it_is = |_: &mut Spec, _: &mut Shape| ();
    for kernel in [Q, K, Q_IN_PLACE, K_IN_PLACE] {
        for pairing in [Pairing::Half, Pairing::Interleaved] {
            for dims in [[8, 8, 0], [12, 8, 4], [256, 256, 0], [64, 16, 48]] {
                assert_eq!(served(kernel, dims, pairing, &as_it_is), [true; 2], "{dims:?} {pairing:?}");
            }
            for dims in [[8, 4, 0], [64, 12, 0], [64, 16, 2], [66, 16, 0]] {
                assert_eq!(served(kernel, dims, pairing, &as_it_is), [false; 2], "{dims:?} {pairing:?}");
            }
        }
        assert_eq!(served(kernel, [64, 32, 0], Pairing::HalfOfHalves, &as_it_is), [true; 2]);
        assert_eq!(served(kernel, [64, 24, 0], Pairing::HalfOfHalves, &as_it_is), [false; 2]);
        // lanes write what others read
        let apart = [!kernel_in_place(kernel); 2];
        assert_eq!(served(kernel, [64, 32, 0], Pairing::InterleavedInHalfOut, &as_it_is), apart);
        type Change<'a> = &'a dyn Fn(&mut Spec, &mut Shape);
        let refuses: [Change; 4] = [
            &|spec, _| spec.norm = Some(Norm::new(NormKind::Rms, 1e-6)),
            &|spec, _| spec.rotary = None,
            &|_, shape| shape.aligned = false,
            &|_, shape| {
                for strides in [&mut shape.q, &mut shape.k] {
                    (strides.batch, strides.token) = (strides.batch + 40, strides.token + 2);
                }
            },
        ];
        for change in refuses {
            assert_eq!(served(kernel, [64, 32, 0], Pairing::Half, change), [false; 2]);
        }
    }
    // lanes are numbered in u32: a call of more elements is refused
    let spec = &spec([1, 1], [256, 256, 0], Pairing::Half);
    for (tokens, taken) in [(1 << 23, true), (1 << 24, false)] {
        let mut shape = Shape::new(spec, 1, tokens, 8);
        (shape.q, shape.out) = (Strides { batch: 0, token: 0, head: 4 }, Strides { batch: 0, token: 0, head: 4 });
        let all = Tuning::candidates(Q, spec, &shape, &Limits::default());
        assert_eq!(all.is_ok_and(|all| all[0].family == Family::Turns), taken, "{tokens}");
    }
}

fn kernel_in_place(kernel: Kernel) -> bool {
    [Q_IN_PLACE, K_IN_PLACE].contains(&kernel)
}

#[test]
fn dispatches_cover_units_heads_and_sequences_once() {
    let spec = spec([6, 3], [64, 32, 8], Pairing::Half);
    let (batch, tokens) = (3, 41);
    let shape = Shape::new(&spec, batch, tokens, tokens);
    for (kernel, heads) in [(Q, 6), (K, 3), (Q_IN_PLACE, 6)] {
        for cpu in [false, true] {
            for (flop, groups, rounds) in [(1e9, 65_535, u32::MAX), (1.0, 65_535, u32::MAX), (1e9, 2, 2), (1e5, 5, 1)] {
                let limits = if cpu { Limits::default().for_cpu() } else { Limits::default() };
                let limits = change(limits, |l| {
                    (l.max_flop_per_dispatch, l.max_workgroups, l.max_loop_rounds) = (flop, groups, rounds);
                });
                for tuning in Tuning::candidates(kernel, &spec, &shape, &limits).unwrap() {
                    if tuning.family != Family::Turns {
                        continue;
                    }
                    let plan = Plan::with_tuning(kernel, &spec, &shape, &limits, Some(tuning)).unwrap();
                    let constant = |name: &str| {
                        let line = plan.wgsl(Target::Native).lines().find(|l| l.starts_with(&format!("const {name}:")));
                        let value = line.and_then(|l| l.split(" = ").nth(1)).map(|v| v.trim_end_matches("u;"));
                        value.and_then(|v| v.parse::<u32>().ok()).expect("a constant")
                    };
                    let [lanes, across, units, per_lane] = ["TILE_Q", "ACROSS", "UNITS", "HEADS"].map(constant);
                    assert_eq!(lanes, plan.tile()[0]);
                    assert_eq!(units, 4 + if kernel_in_place(kernel) { 0 } else { 8 });
                    assert!(per_lane <= rounds && lanes <= limits.max_invocations);
                    let mut seen = vec![0; (batch * heads * tokens * units) as usize];
                    for chunk in plan.chunks() {
                        let ([x, y, z], [nx, ny, nz]) = (chunk.first, chunk.workgroups);
                        assert!(nx.max(ny).max(nz) <= groups);
                        assert!(flop > 1.0 || nx * ny * nz == 1);
                        for (b, block) in (z..z + nz).flat_map(|z| (y..y + ny).map(move |y| (z, y))) {
                            for index in x * lanes..(x + nx) * lanes {
                                let i = index / (across * units) * across + index % across;
                                for h in block * per_lane..((block + 1) * per_lane).min(heads) {
                                    let at = ((b * heads + h) * tokens + i) * units + index / across % units;
                                    if i < tokens {
                                        seen[at as usize] += 1;
                                    }
                                }
                            }
                        }
                    }
                    assert!(seen.iter().all(|n| *n == 1), "{tuning:?} {flop} {groups} {rounds}");
                }
            }
        }
    }
}

fn change(mut limits: Limits, change: impl FnOnce(&mut Limits)) -> Limits {
    change(&mut limits);
    limits
}

/// What a plan leaves in `out`, whose buffer begins with `before`.
fn run(gpu: &Gpu, plan: &Plan, source: &[u8], before: &[u8], tables: &[f32], step: &Step) -> Vec<u8> {
    let (device, queue) = (gpu.device(), gpu.queue());
    let _turn = turn(device);
    let make = |bytes: &[u8]| {
        let size = (bytes.len() as u64).next_multiple_of(4).max(16);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let buffer =
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let mut padded = bytes.to_vec();
        padded.resize(size as usize, 0);
        queue.write_buffer(&buffer, 0, &padded);
        buffer
    };
    let mut words = vec![0; plan.step_layout().words as usize];
    plan.step_layout().write(step, &mut words).unwrap();
    let [q, out, tables, step] = [source, before, bytemuck::cast_slice(tables), bytemuck::cast_slice(&words)].map(make);
    let buffers = Buffers::new().with(Slot::Q, &q, 0).with(Slot::Out, &out, 0);
    let buffers = buffers.with(Slot::Tables, &tables, 0).with(Slot::Step, &step, 0);
    let dispatch = Pipeline::new(device, plan).unwrap().bind(device, &buffers).unwrap();
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: out.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
    encoder.copy_buffer_to_buffer(&out, 0, &staging, 0, out.size());
    queue.submit([encoder.finish()]);
    let bytes = gpu.read_back(&staging).unwrap();
    bytes[..before.len()].to_vec()
}

/// Every tuning of a call against the row kernel, bit by bit, the bytes that no row owns included.
#[allow(clippy::too_many_arguments)] // what a call is made of
fn same_bits(
    gpus: &[Gpu],
    name: &str,
    kernel: Kernel,
    spec: &Spec,
    shape: &Shape,
    step: &Step,
    angles: Option<&AngleTable>,
) {
    let (len, heads, strides) = match kernel {
        Kernel::RotateK { .. } => (shape.kv_len, spec.num_kv_heads, shape.k),
        _ => (shape.q_len, spec.num_heads, shape.q),
    };
    let size = |s: Strides| s.extent(shape.batch, len, heads, spec.head_dim) as usize;
    let source = Data::from_f32(spec.dtype, &noise(size(strides), 5)).bytes().to_vec();
    let before = match kernel_in_place(kernel) {
        true => source.clone(),
        false => vec![0x2a; size(shape.out) * spec.dtype.size()],
    };
    for gpu in gpus {
        let tunings = Tuning::candidates(kernel, spec, shape, gpu.limits()).unwrap();
        assert_eq!(tunings[0].family, Family::Turns, "{name}");
        let with = |limits: &Limits, tuning: Tuning| {
            let plan = Plan::with_tuning(kernel, spec, shape, limits, Some(tuning)).unwrap();
            let tables = match angles {
                Some(_) => plan.pack_tables(&BTreeMap::new(), angles).unwrap(),
                None => Vec::new(),
            };
            run(gpu, &plan, &source, &before, &tables, step)
        };
        let rows = *tunings.iter().find(|t| t.family == Family::Rows).expect("rows takes everything");
        let want = with(gpu.limits(), rows);
        assert!(want != before, "{name}: nothing was rotated");
        for tuning in tunings.iter().filter(|t| t.family == Family::Turns) {
            let got = with(gpu.limits(), *tuning);
            let wrong = got.iter().zip(&want).position(|(a, b)| a != b);
            assert_eq!(wrong, None, "{name} {tuning:?}: byte of {}, {}", got.len(), gpu.describe());
        }
        // cut over heads and dispatches
        let small = change(*gpu.limits(), |l| (l.max_flop_per_dispatch, l.max_loop_rounds) = (2e4, 3));
        assert!(with(&small, tunings[0]) == want, "{name}: cut, {}", gpu.describe());
    }
}

#[test]
fn the_bits_are_those_of_the_row_kernel() {
    let gpus = gpus();
    use Pairing::{Half, HalfOfHalves, Interleaved, InterleavedInHalfOut};
    let (f32, f16, bf16) = (Dtype::F32, Dtype::F16, Dtype::Bf16);
    // kernel, heads, dimensions, pairing, storage, batch and tokens
    let cases = [
        (Q_IN_PLACE, [2, 1], [8, 8, 0], Half, f32, [1, 1]),
        (K, [4, 2], [8, 8, 0], Interleaved, f16, [2, 7]),
        (Q, [4, 2], [12, 8, 4], Half, bf16, [1, 8]),
        (K_IN_PLACE, [5, 5], [64, 64, 0], Half, f16, [2, 9]),
        (Q, [8, 2], [64, 64, 0], Interleaved, f32, [1, 63]),
        (Q, [3, 1], [80, 40, 20], Half, f32, [2, 17]),
        (Q_IN_PLACE, [3, 1], [80, 40, 20], Interleaved, bf16, [2, 15]),
        (K, [6, 3], [96, 48, 48], HalfOfHalves, f32, [1, 33]),
        (Q_IN_PLACE, [6, 3], [96, 96, 0], HalfOfHalves, f16, [1, 16]),
        (K, [2, 2], [192, 64, 128], InterleavedInHalfOut, f32, [1, 40]),
        (Q, [2, 2], [64, 64, 0], InterleavedInHalfOut, bf16, [2, 5]),
        (Q_IN_PLACE, [32, 8], [128, 128, 0], Half, f32, [1, 65]),
        (K_IN_PLACE, [32, 8], [128, 128, 0], Half, f32, [1, 64]),
        (Q, [9, 9], [256, 256, 0], Interleaved, f32, [1, 31]),
        (K_IN_PLACE, [2, 1], [256, 32, 0], Half, f16, [1, 257]),
        (Q, [2, 1], [256, 8, 248], Half, bf16, [1, 12]),
    ];
    for (n, (kernel, heads, dims, pairing, dtype, [batch, tokens])) in cases.into_iter().enumerate() {
        let mut spec = spec(heads, dims, pairing);
        spec.dtype = dtype;
        let (q_heads, k_heads, dim) = (heads[0], heads[1], dims[0]);
        let out_heads = if let Kernel::RotateK { .. } = kernel { k_heads } else { q_heads };
        let qkv = (q_heads + 2 * k_heads) * dim;
        let packed = |first: u32| Strides { batch: (tokens + first) * qkv, token: qkv, head: dim };
        // queries stand behind the first keys; the last keys of the capacity are not in use
        let step = Step { q_len: tokens, kv_len: tokens + 1, ..Step::default() };
        let capacity = tokens + if let Kernel::RotateK { .. } = kernel { 3 } else { 1 };
        let layouts = [
            ("bshd", Strides::bshd(capacity, out_heads, dim), Strides::bshd(capacity, out_heads, dim)),
            ("bhsd", Strides::bhsd(capacity, out_heads, dim), Strides::bshd(capacity, out_heads, dim)),
            ("qkv", packed(3), packed(4)),
        ];
        let (layout, source, target) = layouts[n % 3];
        let mut shape = Shape::new(&spec, batch, tokens, tokens + 3);
        (shape.q, shape.k, shape.out) = (source, source, target);
        let name = format!("{kernel:?} {dims:?} {pairing:?} {layout}");
        same_bits(&gpus, &name, kernel, &spec, &shape, &step, None);
    }
}

#[test]
fn angles_positions_and_sequences_keep_the_bits() {
    let gpus = gpus();
    let base = || spec([4, 2], [64, 32, 16], Pairing::Half);
    let tokens = 21;
    let ids: Vec<i32> = (0..6 * tokens).map(|i| i * 7919 % 4001 - 2000).collect();
    let ids_of = |streams: i32| Step {
        q_len: 20,
        kv_len: 19,
        q_positions: &ids[..(2 * streams * tokens) as usize],
        k_positions: &ids[..(2 * streams * tokens) as usize],
        ..Step::default()
    };
    let plain = Step { q_len: 20, kv_len: 19, ..Step::default() };
    let both = |name: &str, spec: &Spec, shape: &Shape, step: &Step, angles: Option<&AngleTable>| {
        same_bits(&gpus, name, Q_IN_PLACE, spec, shape, step, angles);
        let mut apart = *shape;
        apart.out = shape.k;
        same_bits(&gpus, name, K, spec, &apart, step, angles);
    };
    let mut spec = base();
    spec.rotary.as_mut().unwrap().angle = Angle::Float32;
    both("float32", &spec, &Shape::new(&spec, 2, 21, 21), &plain, None);

    spec.positions = Positions::Ids;
    both("ids", &spec, &Shape::new(&spec, 2, 21, 21), &ids_of(1), None);

    let mut spec = base();
    spec.positions = Positions::Ids;
    spec.rotary.as_mut().unwrap().streams = (0..16).map(|p| p % 3).collect();
    both("streams", &spec, &Shape::new(&spec, 2, 21, 21), &ids_of(3), None);

    let mut spec = base();
    spec.rotary.as_mut().unwrap().xpos = Some(XPos::new(16.0, 7));
    both("xpos", &spec, &Shape::new(&spec, 2, 21, 21), &plain, None);

    let mut spec = base();
    spec.rotary.as_mut().unwrap().angle = Angle::Table;
    let table = AngleTable { cos: noise(21 * 16, 8), sin: noise(21 * 16, 9) };
    both("table", &spec, &Shape::new(&spec, 2, 21, 21), &plain, Some(&table));

    let mut spec = base();
    spec.kv_lens = true;
    both("lengths", &spec, &Shape::new(&spec, 2, 21, 21), &Step { kv_lens: &[3, 19], ..plain }, None);

    let mut spec = base();
    spec.packed = true;
    let mut shape = Shape::packed(&spec, 4, 40, 50);
    (shape.max_seqlen_q, shape.max_seqlen_k) = (18, 25);
    let (q, k) = ([0, 17, 17, 35, 36], [0, 24, 25, 25, 49]);
    let step = Step { q_len: 36, kv_len: 49, cu_seqlens_q: &q, cu_seqlens_k: &k, ..Step::default() };
    both("packed", &spec, &shape, &step, None);
}

#[test]
fn rotated_rows_are_within_their_bounds() {
    let gpus = gpus();
    for (n, dtype) in [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().enumerate() {
        for (dims, pairing) in [
            ([64, 64, 0], Pairing::Half),
            ([128, 64, 32], Pairing::Interleaved),
            ([96, 64, 32], Pairing::HalfOfHalves),
            ([192, 64, 128], Pairing::InterleavedInHalfOut),
        ] {
            let mut spec = spec([4, 2], dims, pairing);
            spec.dtype = dtype;
            let inputs = inputs(&spec, 2, 19, 23, 40 + n as u64);
            let (want_q, want_k) = check::rotate(&spec, &inputs).unwrap();
            for gpu in &gpus {
                let (q, k) = gpu.rotate(&spec, &inputs).unwrap();
                for (tensor, worst) in [("q", want_q.worst(&q)), ("k", want_k.worst(&k))] {
                    let name = gpu.describe();
                    assert!(
                        worst.failures == 0 && worst.elements > 0,
                        "{tensor} {dims:?} {pairing:?} {name}: {worst:?}"
                    );
                    assert_eq!(worst.unbounded, 0, "{tensor} {dims:?} {name}");
                }
            }
        }
    }
}

/// The one-call form in place: the bits of the other, in the inputs' own strides; what a binding does not take is refused untouched.
#[test]
fn one_call_in_place() {
    for gpu in gpus() {
        let mut spec = spec([4, 2], [64, 32, 16], Pairing::Half);
        spec.dtype = Dtype::Bf16;
        let mut before = inputs(&spec, 2, 19, 23, 7);
        before.kv_len = Some(20);
        let (q, k) = gpu.rotate(&spec, &before).unwrap();
        let mut after = before.clone();
        gpu.rotate_in_place(&spec, &mut after).unwrap();
        assert_eq!(after.q.data().to_f32(), q, "{}", gpu.describe());
        let (found, given) = (after.k.data().to_f32(), before.k.data().to_f32());
        let row = 2 * 64;
        for (at, x) in found.iter().enumerate() {
            let want = if at / row % 23 < 20 { k[at] } else { given[at] };
            assert_eq!(*x, want, "element {at} of k, {}", gpu.describe());
        }
        let small = change(*gpu.limits(), |l| l.max_binding_size = 16 * row as u64);
        let error = gpu.with_limits(small).rotate_in_place(&spec, &mut after).unwrap_err();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
        assert_eq!((after.q.data().to_f32(), after.k.data().to_f32()), (q, found));
    }
}

/// Rows that share elements are refused where they are written: a sequence stride of 0, heads closer than a row.
#[test]
fn overlapping_rows_are_not_written() {
    let spec = spec([2, 2], [16, 16, 0], Pairing::Half);
    let shape = Shape::new(&spec, 2, 5, 5);
    let limits = Limits::default();
    for wrong in [Strides { batch: 0, ..shape.q }, Strides { head: 15, ..shape.q }, Strides { token: 31, ..shape.q }] {
        let (mut overlap, kernel) = (shape, Kernel::RotateQ { in_place: true });
        overlap.q = wrong;
        let error = Plan::new(kernel, &spec, &overlap, &limits).expect_err("rows overlap").to_string();
        assert!(error.contains("shape.q") && error.contains("overlap"), "{error}");
        // read alone, they may
        assert!(Plan::new(Kernel::RotateQ { in_place: false }, &spec, &overlap, &limits).is_ok());
    }
    // heads outside tokens, gaps, one sequence of any stride
    for right in [Strides::bhsd(5, 2, 16), Strides { batch: 500, token: 40, head: 20 }] {
        let mut apart = shape;
        apart.q = right;
        assert!(Plan::new(Kernel::RotateQ { in_place: true }, &spec, &apart, &limits).is_ok());
    }
    let mut one = Shape::new(&spec, 1, 5, 5);
    one.q.batch = 0;
    assert!(Plan::new(Kernel::RotateQ { in_place: true }, &spec, &one, &limits).is_ok());
}
