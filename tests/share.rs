//! Tensors in one buffer, as engines with arenas have them: the bits of separate buffers, nothing written beside the results, overlaps refused.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, noise};
use ropewalk::*;
use std::collections::{BTreeMap, BTreeSet};

/// A plan, what its buffers hold, a step.
struct Run {
    plan: Plan,
    contents: Vec<(Slot, Vec<u8>)>,
}

/// What may be shared beside what every plan declares as read-write.
const READ: [Slot; 6] = [Slot::Q, Slot::K, Slot::V, Slot::Tables, Slot::Dense, Slot::Step];
/// What gaps hold: NaN in every storage.
const GAP: u8 = 0xff;

impl Run {
    fn new(plan: Plan, step: &Step, tables: &[f32]) -> Self {
        let mut words = vec![0; plan.step_layout().words as usize];
        plan.step_layout().write(step, &mut words).expect("a step of the plan");
        let contents = plan.bindings().iter().filter_map(|b| {
            let n = b.size as usize;
            let values = || noise(n / 2 + 1, b.binding as u64);
            let bytes = match b.slot {
                Slot::Params | Slot::Chunk | Slot::Rotary | Slot::Heads => return None,
                Slot::Step => bytemuck::cast_slice(&words).to_vec(),
                Slot::Tables => bytemuck::cast_slice(tables).to_vec(),
                Slot::Dense => bytemuck::cast_slice(&values()).to_vec(),
                // rows in place are rows; results are written over zeros
                Slot::Out if plan.kernel() != (Kernel::RotateQ { in_place: true }) => vec![0; n],
                Slot::Work => vec![0; n],
                _ => Data::from_f32(plan.spec().dtype, &values()).bytes().to_vec(),
            };
            Some((b.slot, bytes[..n].to_vec()))
        });
        let contents = contents.collect();
        Run { plan, contents }
    }

    /// The bytes of all tensors after a run in which each lies where `place` says: in a buffer, at a byte.
    fn tensors(&self, gpu: &Gpu, plan: &Plan, place: &dyn Fn(usize) -> (usize, u64)) -> Vec<(Slot, Vec<u8>)> {
        let (device, queue) = (gpu.device(), gpu.queue());
        let _turn = turn(device);
        let places: Vec<_> = (0..self.contents.len()).map(place).collect();
        let count = places.iter().map(|(buffer, _)| buffer + 1).max().expect("a tensor");
        let mut filled = vec![Vec::new(); count];
        for ((_, bytes), (buffer, at)) in self.contents.iter().zip(&places) {
            let all: &mut Vec<u8> = &mut filled[*buffer];
            let end = *at as usize + bytes.len();
            all.resize(all.len().max(end.next_multiple_of(4) + 8), GAP);
            all[*at as usize..end].copy_from_slice(bytes);
        }
        let make = |bytes: &Vec<u8>, usage| {
            let size = bytes.len() as u64;
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            let buffer = device.create_buffer(&descriptor);
            if !usage.contains(wgpu::BufferUsages::MAP_READ) {
                queue.write_buffer(&buffer, 0, bytes);
            }
            buffer
        };
        let (storage, to, from) =
            (wgpu::BufferUsages::STORAGE, wgpu::BufferUsages::COPY_DST, wgpu::BufferUsages::COPY_SRC);
        let made: Vec<_> = filled.iter().map(|bytes| make(bytes, storage | to | from)).collect();
        let staging: Vec<_> = filled.iter().map(|bytes| make(bytes, wgpu::BufferUsages::MAP_READ | to)).collect();
        let slots = self.contents.iter().zip(&places);
        let buffers = slots.fold(Buffers::new(), |all, ((slot, _), (buffer, at))| all.with(*slot, &made[*buffer], *at));
        let pipeline = Pipeline::new(device, plan).expect("a pipeline");
        let dispatch = pipeline.bind(device, &buffers).unwrap_or_else(|e| panic!("{}: {e}", plan.label()));
        let mut encoder = device.create_command_encoder(&Default::default());
        dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
        for (from, to) in made.iter().zip(&staging) {
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        queue.submit([encoder.finish()]);
        let mut read: Vec<_> = staging.iter().map(|b| gpu.read_back(b).expect("bytes")).collect();
        let tensors = self.contents.iter().zip(&places).map(|((slot, bytes), (buffer, at))| {
            let range = *at as usize..*at as usize + bytes.len();
            let got = read[*buffer][range.clone()].to_vec();
            read[*buffer][range].fill(GAP);
            (*slot, got)
        });
        let tensors = tensors.collect();
        assert!(read.iter().flatten().all(|byte| *byte == GAP), "{}: written beside a tensor", plan.label());
        tensors
    }

    /// A binding starts at a multiple of the device's alignment, a tensor at any element.
    fn same_in_one_buffer(&self, gpu: &Gpu) {
        let shared = self.plan.clone().share(&READ).expect("no uniform");
        assert!(shared.label().contains(".shared-"), "{}", shared.label());
        let alignment = gpu.device().limits().min_storage_buffer_offset_alignment as u64;
        let mut next = 0;
        let mut at = Vec::new();
        for (n, (slot, bytes)) in self.contents.iter().enumerate() {
            let element =
                if matches!(slot, Slot::Dense | Slot::Work) { 4 } else { self.plan.spec().dtype.size() as u64 };
            let odd = match slot {
                Slot::Tables | Slot::Step => 0,
                Slot::Work | Slot::Dense => 3 * element,
                Slot::Out if self.plan.kernel() == Kernel::Scores => 12,
                _ if self.plan.aligned() => 4 * element,
                _ => (2 * n as u64 + 1) * element,
            };
            at.push(next + odd);
            next = (next + odd + bytes.len() as u64).next_multiple_of(alignment) + n as u64 % 2 * alignment;
        }
        let apart = self.tensors(gpu, &self.plan, &|n| (n, 0));
        let together = self.tensors(gpu, &shared, &|n| (0, at[n]));
        for ((slot, a), (_, b)) in apart.iter().zip(&together) {
            let scratch = *slot == Slot::Work && self.plan.kernel() != Kernel::Linear;
            // lse stands before scratch, which starts at a whole vector of the buffer
            let n = if scratch {
                4 * (self.plan.shape().batch * self.plan.spec().num_heads * self.plan.shape().q_len) as usize
            } else {
                a.len()
            };
            assert!(a[..n] == b[..n], "{slot:?} of {} on {}", shared.label(), gpu.describe());
        }
        let before = self.contents.iter().find(|(slot, _)| *slot == Slot::Out).expect("a result");
        let after = together.iter().find(|(slot, _)| *slot == Slot::Out).expect("a result");
        assert!(before.1 != after.1, "{}: nothing written", shared.label());
    }
}

/// Every family of attention, in every storage, aligned or not.
#[test]
fn attention_in_one_buffer_has_the_bits_of_separate_ones() {
    let mut families = BTreeSet::new();
    for (dtype, aligned) in [(Dtype::F32, true), (Dtype::F16, true), (Dtype::Bf16, false)] {
        // subgroups once
        let equipped =
            if dtype == Dtype::F32 { common::equipped(|limits| limits.subgroup_size > 0) } else { Vec::new() };
        for gpu in gpus().into_iter().chain(equipped) {
            let mut spec = Spec::new(4, 2, 16);
            spec.rotary = Some(Rotary::new(Pairing::Half, 16, 1e4));
            (spec.mask, spec.dtype) = (Mask::causal(), dtype);
            let lengths: &[u32] = match dtype {
                Dtype::F32 => &[1, 7],
                Dtype::F16 => &[1],
                _ => &[7],
            };
            for q_len in lengths.iter().copied() {
                let mut shape = Shape::new(&spec, 1, q_len, 45);
                shape.aligned = aligned;
                let step = Step { q_len, kv_len: 41, ..Step::default() };
                let all = Tuning::candidates(Kernel::Attention, &spec, &shape, gpu.limits()).expect("a valid spec");
                for family in [Family::Lanes, Family::Tile, Family::Decode, Family::Wide, Family::Rows] {
                    let Some(tuning) = all.iter().find(|t| t.family == family) else { continue };
                    families.insert(family.name());
                    let plan = Plan::with_tuning(Kernel::Attention, &spec, &shape, gpu.limits(), Some(*tuning));
                    Run::new(plan.expect("a candidate"), &step, &[]).same_in_one_buffer(&gpu);
                }
            }
        }
    }
    assert!(gpus().is_empty() || families.len() >= 3, "{families:?}");
}

/// Tables, a dense bias, lengths and positions of the step; scores, rotations, linear attention.
#[test]
fn every_slot_in_one_buffer_has_the_bits_of_separate_ones() {
    let mut spec = Spec::new(4, 2, 16);
    spec.rotary = Some(Rotary::new(Pairing::Interleaved, 16, 1e4));
    spec.bias.push(Bias::Table { min: -8, max: 8 });
    (spec.dense_bias, spec.kv_lens, spec.positions) = (true, true, Positions::Ids);
    let (q_positions, k_positions): (Vec<i32>, Vec<i32>) = ((100..110).collect(), (50..116).collect());
    let lens = [20, 31];
    let step = Step {
        q_len: 5,
        kv_len: 31,
        kv_lens: &lens,
        q_positions: &q_positions,
        k_positions: &k_positions,
        ..Step::default()
    };
    let parameters: BTreeMap<String, Vec<f32>> = spec
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), noise(p.shape.iter().product::<u32>() as usize, 90)))
        .collect();
    let shape = Shape::new(&spec, 2, 5, 33);
    let mut packed = Spec::new(4, 2, 16);
    (packed.packed, packed.mask) = (true, Mask::causal());
    let (cu_q, cu_k) = ([0, 3, 5], [0, 20, 31]);
    let sequences = Step { q_len: 5, kv_len: 31, cu_seqlens_q: &cu_q, cu_seqlens_k: &cu_k, ..Step::default() };
    let mut linear = Spec::new(4, 2, 16);
    linear.linear = Some(Linear::new(FeatureMap::Elu));
    for gpu in gpus() {
        let limits = gpu.limits();
        for kernel in [Kernel::Attention, Kernel::Scores] {
            let plan = Plan::new(kernel, &spec, &shape, limits).expect("a plan");
            let tables = plan.pack_tables(&parameters, None).expect("its tables");
            Run::new(plan, &step, &tables).same_in_one_buffer(&gpu);
        }
        let mut turns = Spec::new(4, 2, 16);
        turns.rotary = spec.rotary.clone();
        let mut shape = Shape::new(&turns, 2, 5, 33);
        shape.out = shape.k;
        let step = Step { q_len: 5, kv_len: 31, ..Step::default() };
        for kernel in [Kernel::RotateK { in_place: false }, Kernel::RotateQ { in_place: true }] {
            Run::new(Plan::new(kernel, &turns, &shape, limits).expect("a plan"), &step, &[]).same_in_one_buffer(&gpu);
        }
        let shape = Shape::packed(&packed, 2, 5, 33);
        let plan = Plan::new(Kernel::Attention, &packed, &shape, limits).expect("a plan");
        Run::new(plan, &sequences, &[]).same_in_one_buffer(&gpu);
        let shape = Shape::new(&linear, 2, 33, 33);
        let step = Step { q_len: 33, kv_len: 33, ..Step::default() };
        let plan = Plan::new(Kernel::Linear, &linear, &shape, limits).expect("a plan");
        Run::new(plan, &step, &[]).same_in_one_buffer(&gpu);
    }
}

/// Which bytes are bound decides, from a multiple of the alignment on: what a plan writes lies apart from everything else.
#[test]
fn overlaps_are_refused_with_their_bytes() {
    let spec = Spec::new(1, 1, 8);
    let shape = Shape::new(&spec, 1, 4, 4); // 128 bytes of every tensor
    for gpu in gpus() {
        let device = gpu.device();
        assert_eq!(device.limits().min_storage_buffer_offset_alignment, 256);
        let alone = Plan::new(Kernel::Attention, &spec, &shape, gpu.limits()).expect("a plan");
        let every = alone.clone().share(&READ).expect("no uniform");
        let some = alone.clone().share(&[Slot::Q, Slot::K]).expect("no uniform").share(&[Slot::V]).expect("no uniform");
        assert!(some.label().ends_with(".shared-q-k-v"), "{}", some.label());
        let _turn = turn(device);
        let usage = wgpu::BufferUsages::STORAGE;
        let make = |size| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let (arena, step, other) = (make(1 << 14), make(1024), make(1024));
        let bind = |plan: &Plan, [q, k, v, out, work, step_at]: [u64; 6]| {
            let buffers = Buffers::new().with(Slot::Q, &arena, q).with(Slot::K, &arena, k).with(Slot::V, &arena, v);
            let buffers = buffers.with(Slot::Out, &arena, out).with(Slot::Work, &arena, work);
            let step = if step_at == 1 { (&step, 0) } else { (&arena, step_at) };
            let buffers = buffers.with(Slot::Step, step.0, step.1);
            Pipeline::new(device, plan).expect("a pipeline").bind(device, &buffers)
        };
        assert!(bind(&every, [0, 256, 512, 768, 1024, 8192]).is_ok());
        assert!(bind(&some, [0, 256, 512, 768, 1024, 1]).is_ok());
        // out ends at the byte where a multiple of 256 begins
        assert!(bind(&every, [0, 256, 512, 896, 1024, 8192]).is_ok());
        // what is only read may lie on itself: q, k and v of one token side by side
        let row = Plan::new(Kernel::Attention, &spec, &shape, gpu.limits()).and_then(|p| p.share(&READ));
        assert!(bind(&row.expect("a plan"), [0, 32, 64, 768, 1024, 8192]).is_ok());

        let of = |bytes: [u64; 2], name: &str, others: [u64; 2]| {
            let [[a, b], [c, d]] = [bytes, others];
            format!("is bound to bytes {a} to {b} of a buffer, {name} to bytes {c} to {d} of it")
        };
        let work = every.workspace_size();
        let step_bytes = 4 * every.step_layout().words as u64;
        let wrong = [
            ("out on k", &every, [0, 256, 512, 256, 1024, 8192], "out", of([256, 384], "k", [256, 384])),
            // apart by a byte or more, but not where bindings begin
            ("out ends in v's unit", &every, [0, 2048, 528, 400, 1024, 8192], "out", of([256, 528], "v", [512, 656])),
            ("k begins in out's unit", &every, [0, 896, 512, 768, 1024, 8192], "out", of([768, 896], "k", [768, 1024])),
            (
                "work on step",
                &every,
                [0, 256, 512, 768, 1024, 1024],
                "work",
                of([1024, 1024 + work], "step", [1024, 1024 + step_bytes]),
            ),
            (
                "work on out",
                &every,
                [0, 256, 512, 1040, 1024, 8192],
                "work",
                of([1024, 1024 + work], "out", [1024, 1168]),
            ),
            ("step alone is read", &some, [0, 256, 512, 768, 1024, 8192], "step", "naming step".into()),
            ("nothing is shared", &alone, [0, 256, 512, 768, 1024, 1], "q", "naming q".into()),
        ];
        for (what, plan, places, name, problem) in wrong {
            let error = bind(plan, places).expect_err(what).to_string();
            assert!(error.starts_with(&format!("input {name}: ")) && error.contains(&problem), "{what}: {error}");
        }
        // in a buffer that is not written, reading alone is enough
        let buffers = Buffers::new().with(Slot::Q, &other, 0).with(Slot::K, &other, 0).with(Slot::V, &other, 256);
        let buffers = buffers.with(Slot::Out, &arena, 0).with(Slot::Work, &arena, 256).with(Slot::Step, &other, 512);
        assert!(Pipeline::new(device, &alone).expect("a pipeline").bind(device, &buffers).is_ok());
        // but not one declared to be written
        let mixed = alone.clone().share(&[Slot::Q]).expect("no uniform");
        let error = Pipeline::new(device, &mixed).expect("a pipeline").bind(device, &buffers).expect_err("mixed");
        assert!(error.to_string().contains("naming k"), "{error}");
        let error = alone.share(&[Slot::Params]).expect_err("a uniform").to_string();
        assert!(error.contains("params: is a uniform of the plan"), "{error}");
    }
}
