//! Attention over parts of the keys, merged: within its bounds whatever the parts hold, and right for a prefix that stands once for many
//! sequences.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, noise};
use ropewalk::*;

/// Uploads, runs and reads back: out, then lse as the host has it.
struct Bench<'a> {
    gpu: &'a Gpu,
}

impl Bench<'_> {
    fn buffer(&self, bytes: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let size = bytes.next_multiple_of(4).max(16);
        self.gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }
    fn filled(&self, bytes: &[u8]) -> wgpu::Buffer {
        let buffer = self.buffer(bytes.len() as u64);
        let mut padded = bytes.to_vec();
        padded.resize(buffer.size() as usize, 0);
        self.gpu.queue().write_buffer(&buffer, 0, &padded);
        buffer
    }
    fn step(&self, plan: &Plan, step: &Step) -> wgpu::Buffer {
        let mut words = vec![0; plan.step_layout().words as usize];
        plan.step_layout().write(step, &mut words).expect("a step");
        self.filled(bytemuck::cast_slice(&words))
    }
    fn encode(&self, plan: &Plan, buffers: &Buffers) {
        let pipeline = self.gpu.pipelines().get(plan).expect("a pipeline");
        let dispatch = pipeline.bind(self.gpu.device(), buffers).expect("a dispatch");
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
        self.gpu.queue().submit([encoder.finish()]);
    }
    fn read(&self, buffer: &wgpu::Buffer) -> Vec<u8> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
        let staging = self.gpu.device().create_buffer(&descriptor);
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        self.gpu.queue().submit([encoder.finish()]);
        self.gpu.read_back(&staging).expect("bytes")
    }
    fn floats(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.read(buffer))
    }
}

/// lse of the device as the host has it.
fn host(lse: &[f32]) -> Vec<f32> {
    lse.iter().map(|x| if *x < -2e38 { f32::NEG_INFINITY } else { *x }).collect()
}

fn check(name: &str, dtype: Dtype, parts: &[Output<f32>], out: &[f32], lse: &[f32]) {
    let (want_out, want_lse) = check::merge(dtype, parts).expect("bounds");
    let reference = reference::merge(parts).expect("a reference");
    let same = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-12 * b.abs() || a.is_nan() && b.is_nan();
    assert!(want_out.value.iter().zip(&reference.out).all(|(a, b)| same(*a, *b)), "{name}: bounds of other values");
    assert!(want_lse.value.iter().zip(&reference.lse).all(|(a, b)| same(*a, *b)), "{name}: bounds of another lse");
    for (what, want, got) in [("out", want_out, out), ("lse", want_lse, lse)] {
        let worst = want.worst(got);
        assert!(worst.failures == 0 && worst.unbounded == 0 && worst.elements > 0, "{name}, {what}: {worst:?}");
    }
}

/// Parts of noise, with rows that some part or none sees a key of, NaN in rows that count for nothing, and lse far apart; tokens beyond the step's
/// are not touched.
#[test]
fn parts_merge_within_their_bounds() {
    for (dim, dtype) in [(16, Dtype::F32), (7, Dtype::F16)] {
        let [batch, capacity, q_len, heads, count] = [2, 3, 2, 3, 3u32];
        let mut spec = Spec::new(heads, heads, dim);
        spec.dtype = dtype;
        let shape = [batch, capacity, heads, dim];
        let rows = (batch * capacity * heads) as usize;
        let parts: Vec<Output<f32>> = (0..count)
            .map(|p| {
                let values = Data::from_f32(dtype, &noise(rows * dim as usize, 5 + p as u64));
                let mut part = Output { out_shape: shape, out: values.to_f32(), lse: noise(rows, 50 + p as u64) };
                part.lse.iter_mut().enumerate().for_each(|(n, x)| *x *= [1.0, 30.0, 1e4, 1e-3][(n + p as usize) % 4]);
                part
            })
            .map(|mut part| {
                // [batch, heads, tokens]: of rows 0 and 1 a part sees nothing, whatever it holds; row 6 sees nothing at all, row 12 is poisoned
                for unseen in [0, 1, 6] {
                    part.lse[unseen] = -3e38;
                }
                part
            })
            .collect();
        let mut parts = parts;
        (parts[1].lse[0], parts[2].lse[1], parts[0].lse[12]) = (0.5, -3.0, f32::NAN);
        let one = (heads * dim) as usize;
        parts[0].out[..dim as usize].fill(f32::NAN);

        // behind each other with a gap, as an engine may have them
        let gap = 8;
        let stride = rows as u32 * dim + gap;
        let mut values = vec![0.0f32; (count * stride) as usize];
        let mut lse = vec![0.0f32; count as usize * (rows + 5)];
        for (p, part) in parts.iter().enumerate() {
            values[p * stride as usize..][..part.out.len()].copy_from_slice(&part.out);
            lse[p * (rows + 5)..][..rows].copy_from_slice(&part.lse);
        }
        let whole = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, batch, capacity, 4), &Limits::default());
        let places = (0..count)
            .map(|p| MergePart::of(whole.as_ref().expect("a plan")).behind(p * stride, p * (rows as u32 + 5)));
        let merge = MergeShape::new(&spec, batch, capacity, places.collect());
        for gpu in gpus() {
            let plan = Plan::merge(&spec, &merge, gpu.limits()).expect("a plan");
            let name = format!("{} on {}", plan.label(), gpu.describe());
            let _turn = turn(gpu.device());
            let bench = Bench { gpu: &gpu };
            let q = bench.filled(Data::from_f32(dtype, &values).bytes());
            let tables = bench.filled(bytemuck::cast_slice(&lse));
            let before = vec![9.0; rows * dim as usize];
            let out = bench.filled(Data::from_f32(dtype, &before).bytes());
            let work = bench.filled(bytemuck::cast_slice(&vec![9.0f32; rows]));
            let step = bench.step(&plan, &Step { q_len, ..Step::default() });
            let buffers = Buffers::new()
                .with(Slot::Q, &q, 0)
                .with(Slot::Tables, &tables, 0)
                .with(Slot::Out, &out, 0)
                .with(Slot::Work, &work, 0)
                .with(Slot::Step, &step, 0);
            bench.encode(&plan, &buffers);
            let mut got = Data::from_bytes(dtype, &bench.read(&out)).to_f32();
            got.truncate(rows * dim as usize);
            let mut got_lse = bench.floats(&work);
            // what is behind the step's tokens stays as it was
            for b in 0..batch as usize {
                let (token, at) = (one, (b * capacity as usize + q_len as usize) * one);
                assert!(got[at..at + token].iter().all(|x| *x == 9.0), "{name}: a token too many");
                for h in 0..heads as usize {
                    assert_eq!(got_lse[(b * heads as usize + h) * capacity as usize + 2], 9.0, "{name}");
                }
            }
            // compared as if all tokens were there
            let full = reference::merge(&parts).expect("a reference");
            for (n, x) in got.iter_mut().enumerate() {
                if n / one % capacity as usize >= q_len as usize {
                    *x = Data::from_f32(dtype, &[full.out[n] as f32]).to_f32()[0];
                }
            }
            for (n, x) in got_lse.iter_mut().enumerate() {
                if n % capacity as usize >= q_len as usize {
                    *x = full.lse[n] as f32;
                }
            }
            check(&name, dtype, &parts, &got, &host(&got_lse));
        }
    }
}

/// A prefix of 24 keys stands once and is computed once for five sequences; each has keys of its own. Merged it is attention over both.
#[test]
fn a_shared_prefix_is_computed_once() {
    let (sequences, prefix, heads, dim) = (5u32, 24u32, 4u32, 16u32);
    let own = [1u32, 7, 3, 12, 5];
    let mut spec = Spec::new(heads, 2, dim);
    spec.rotary = Some(Rotary::new(Pairing::Half, dim, 10_000.0));
    spec.positions = Positions::Ids;
    let mut spec_own = spec.clone();
    spec_own.kv_lens = true;
    let capacity = 12;
    let row = 2 * dim;
    let q = noise((sequences * heads * dim) as usize, 1);
    let keys = [noise((prefix * row) as usize, 2), noise((prefix * row) as usize, 3)];
    let tails = [noise((sequences * capacity * row) as usize, 4), noise((sequences * capacity * row) as usize, 5)];
    let positions: Vec<i32> = own.iter().map(|n| (prefix + n) as i32 - 1).collect();
    for gpu in gpus() {
        let of = |spec: &Spec, batch, q_len, kv_len| {
            Plan::new(Kernel::Attention, spec, &Shape::new(spec, batch, q_len, kv_len), gpu.limits()).expect("a plan")
        };
        // of the prefix the sequences are tokens of one sequence
        let plans = [of(&spec, 1, sequences, prefix), of(&spec_own, sequences, 1, capacity)];
        let rows = sequences * heads * dim;
        let work_words = plans[0].workspace_size().next_multiple_of(256) as u32 / 4;
        let parts = vec![MergePart::of(&plans[0]).transposed(), MergePart::of(&plans[1]).behind(rows, work_words)];
        let merge = Plan::merge(&spec, &MergeShape::new(&spec, sequences, 1, parts), gpu.limits()).expect("a plan");
        let _turn = turn(gpu.device());
        let bench = Bench { gpu: &gpu };
        let both = bench.buffer(8 * rows as u64);
        let work = bench.buffer(4 * work_words as u64 + plans[1].workspace_size());
        let queries = bench.filled(bytemuck::cast_slice(&q));
        let of_prefix: Vec<i32> = (0..prefix as i32).collect();
        let of_own: Vec<i32> = (0..sequences).flat_map(|_| (0..capacity).map(|j| (prefix + j) as i32)).collect();
        let steps = [
            Step {
                q_len: sequences,
                kv_len: prefix,
                q_positions: &positions,
                k_positions: &of_prefix,
                ..Step::default()
            },
            Step {
                q_len: 1,
                kv_len: capacity,
                kv_lens: &own,
                q_positions: &positions,
                k_positions: &of_own,
                ..Step::default()
            },
        ];
        let mut last = None;
        for (n, (plan, [k, v])) in plans.iter().zip([&keys, &tails]).enumerate() {
            let [k, v] = [k, v].map(|x| bench.filled(bytemuck::cast_slice(x)));
            let step = bench.step(plan, &steps[n]);
            let buffers = Buffers::new()
                .with(Slot::Q, &queries, 0)
                .with(Slot::K, &k, 0)
                .with(Slot::V, &v, 0)
                .with(Slot::Out, &both, 4 * (n as u32 * rows) as u64)
                .with(Slot::Work, &work, 4 * (n as u32 * work_words) as u64)
                .with(Slot::Step, &step, 0);
            bench.encode(plan, &buffers);
            last = Some(step);
        }
        let (out, lse) = (bench.buffer(4 * rows as u64), bench.buffer(4 * (sequences * heads) as u64));
        let step = last.expect("a step");
        let buffers = Buffers::new()
            .with(Slot::Q, &both, 0)
            .with(Slot::Tables, &work, 0)
            .with(Slot::Out, &out, 0)
            .with(Slot::Work, &lse, 0)
            .with(Slot::Step, &step, 0);
        bench.encode(&merge, &buffers);
        let (got, got_lse) = (bench.floats(&out), bench.floats(&lse));

        // the kernel, by what the parts left
        let (outs, works) = (bench.floats(&both), bench.floats(&work));
        let shape = [sequences, 1, heads, dim];
        let at = |n: u32| works[plans[n as usize].lse_offset() as usize + (n * work_words) as usize..].to_vec();
        let turned = (0..sequences).flat_map(|b| (0..heads).map(move |h| h * sequences + b));
        let (prefix_lse, own_lse) = (at(0), at(1));
        let parts = [
            Output {
                out_shape: shape,
                out: outs[..rows as usize].to_vec(),
                lse: turned.map(|i| prefix_lse[i as usize]).collect(),
            },
            Output {
                out_shape: shape,
                out: outs[rows as usize..].to_vec(),
                lse: own_lse[..(sequences * heads) as usize].to_vec(),
            },
        ];
        check(&format!("{} on {}", merge.label(), gpu.describe()), Dtype::F32, &parts, &got, &got_lse);

        // attention over everything, a sequence at a time
        for (b, n) in own.iter().enumerate() {
            let all = |of: &[Vec<f32>; 2], i: usize| of[i].clone();
            let tail = |i: usize| tails[i][b * (capacity * row) as usize..][..(n * row) as usize].to_vec();
            let joined =
                |i: usize| Tensor::bshd([all(&keys, i), tail(i)].concat(), [1, prefix + n, 2, dim]).expect("a tensor");
            let query = q[b * (heads * dim) as usize..][..(heads * dim) as usize].to_vec();
            let mut inputs =
                Inputs::new(Tensor::bshd(query, [1, 1, heads, dim]).expect("a tensor"), joined(0), joined(1));
            inputs.q_positions = Some(vec![positions[b]]);
            inputs.k_positions = Some((0..(prefix + n) as i32).collect());
            let want = reference::attention(&spec, &inputs).expect("a reference");
            let off = |got: &[f32], want: &[f64]| {
                assert!(got.iter().all(|x| x.is_finite()), "{got:?}");
                got.iter().zip(want).map(|(a, b)| (*a as f64 - b).abs()).fold(0.0, f64::max)
            };
            let worst =
                off(&got[b * (heads * dim) as usize..], &want.out).max(off(&got_lse[b * heads as usize..], &want.lse));
            assert!(worst < 2e-6, "sequence {b}: {worst:e}");
        }
    }
}

#[test]
fn what_cannot_be_merged_is_named() {
    let spec = Spec::new(4, 4, 8);
    let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 2, 8), &Limits::default()).expect("a plan");
    let part = MergePart::of(&plan);
    let refused = |shape: &MergeShape| Plan::merge(&spec, shape, &Limits::default()).expect_err("refused").to_string();
    assert!(refused(&MergeShape::new(&spec, 1, 2, Vec::new())).contains("shape.parts: are 0"));
    assert!(refused(&MergeShape::new(&spec, 1, 2, vec![part; 129])).contains("give 1 to 128"));
    assert!(refused(&MergeShape::new(&spec, 1, 0, vec![part])).contains("q_len 0"));
    assert!(refused(&MergeShape::new(&spec, 1, 2, vec![part.behind(u32::MAX, 0)])).contains("q takes"));
    let mut flat = MergeShape::new(&spec, 1, 2, vec![part]);
    flat.out.token = 0;
    assert!(refused(&flat).contains("shape.out"));
    let direct = Plan::new(Kernel::Merge, &spec, &Shape::new(&spec, 1, 2, 8), &Limits::default());
    assert!(direct.expect_err("refused").to_string().contains("Plan::merge"));
    let part = |rows: usize| Output { out_shape: [1, 1, 2, 2], out: vec![0.0f32; 4], lse: vec![0.0; rows] };
    assert!(reference::merge::<f32>(&[]).expect_err("refused").to_string().contains("parts: are none"));
    let error = check::merge(Dtype::F32, &[part(2), part(3)]).expect_err("refused").to_string();
    assert!(error.contains("parts[1]"), "{error}");
}
