//! New rows appended to caches of k and v: within their bounds at the rows that the step names, and no other byte of the caches touched.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, noise};
use ropewalk::*;

/// A call of attention whose last keys are new.
struct Call {
    spec: Spec,
    shape: Shape,
    /// The type of the new rows.
    rows: Dtype,
    q_len: u32,
    kv_len: u32,
    kv_lens: Vec<u32>,
    cu: Option<[Vec<u32>; 2]>,
    k_positions: Vec<i32>,
    /// Where each row of each sequence stands in a pool.
    placed: Vec<Vec<u32>>,
    /// What the step says of it: first rows, or pages.
    placement: Vec<u32>,
    /// Whether new rows have any bits that f32 may have.
    hostile: bool,
}

/// Elements before the new rows in their buffers.
const BEFORE: u32 = 8;

/// Elements before a cache in its buffer: whole words, whole vec4.
fn front(dtype: Dtype, dim: u32) -> u32 {
    if dtype.in_blocks() { 2 * dtype.block(dim)[0] } else { BEFORE }
}

/// Bytes before an element that begins a row.
fn bytes_before(dtype: Dtype, dim: u32, element: u32) -> usize {
    let [elements, bytes] = dtype.block(dim);
    (element / elements * bytes) as usize
}

/// A row of a tensor, zeros of both signs too.
fn row_of(from: &Tensor, [b, j, h]: [u32; 3]) -> Vec<f32> {
    let start = from.row_start(b, j, h);
    (start..start + from.shape()[3] as usize).map(|i| from.data().get(i)).collect()
}

/// A row of a cache as numbers.
fn read_row(dtype: Dtype, dim: u32, bytes: &[u8]) -> Vec<f32> {
    match dtype.in_blocks() {
        true => Data::from(Blocks::new(dtype, dim, bytes.to_vec()).expect("whole blocks")).to_f32(),
        false => Data::from_bytes(dtype, bytes).to_f32(),
    }
}

/// What quantisers stumble over: halves of every step, equal sizes of both signs, zeros of both signs, subnormals, the largest numbers, infinities,
/// NaN; blocks of one kind and of all.
fn hostile(n: usize, seed: u64) -> Vec<f32> {
    let random = noise(n, seed);
    let one = |(i, x): (usize, &f32)| {
        let bits = (x.to_bits() ^ (i as u32).wrapping_mul(2_654_435_761)).wrapping_mul(0x9e37_79b1);
        let step = (bits >> 8 & 511) as f32 / 2.0 - 128.0;
        match i / 32 % 11 {
            0 => f32::from_bits(bits),
            1 => step,
            2 => step * 0.037,
            3 => [4.0, -4.0, 3.75, 0.25, -0.25, 0.0, -0.0, 1.0][bits as usize % 8],
            4 => f32::from_bits(bits & 0x807f_ffff),
            5 => [0.0, -0.0][bits as usize % 2],
            6 => {
                f32::from_bits(bits & 0x83ff_ffff | 0x7c00_0000)
                    * if bits.is_multiple_of(7) { f32::INFINITY } else { 1.0 }
            }
            7 => {
                if bits.is_multiple_of(5) {
                    f32::NAN
                } else {
                    *x
                }
            }
            8 => f32::from_bits(bits & 0x83ff_ffff),
            9 => x * 2f32.powi(-14 - (i / 32 % 7) as i32 * 3),
            _ => [448.0, 463.9, 17.0, 19.0, 0.007_812_5, 0.010_742_188, -0.000_976_562_5, 0.002_929_687_5]
                [bits as usize % 8],
        }
    };
    random.iter().enumerate().map(one).collect()
}

impl Call {
    fn new(spec: &Spec, rows: Dtype, batch: u32, [q_len, kv_len]: [u32; 2], capacity: [u32; 2]) -> Self {
        let shape = Shape::new(spec, batch, capacity[0], capacity[1]);
        let (spec, kv_lens) = (spec.clone(), Vec::new());
        let (cu, k_positions, placed, placement) = (None, Vec::new(), Vec::new(), Vec::new());
        Call { spec, shape, rows, q_len, kv_len, kv_lens, cu, k_positions, placed, placement, hostile: false }
    }
    fn step(&self) -> Step<'_> {
        let mut step = Step { q_len: self.q_len, kv_len: self.kv_len, kv_lens: &self.kv_lens, ..Step::default() };
        if let Some([q, k]) = &self.cu {
            (step.cu_seqlens_q, step.cu_seqlens_k) = (q, k);
        }
        match self.shape.cache {
            Cache::Slots { .. } => step.slots = &self.placement,
            Cache::Pages { .. } => step.block_table = &self.placement,
            _ => {}
        }
        if !self.k_positions.is_empty() {
            // those of queries, which the layout has too, are not read
            (step.k_positions, step.q_positions) = (&self.k_positions, &self.k_positions[..self.q_positions()]);
        }
        step
    }
    fn q_positions(&self) -> usize {
        (self.shape.batch * self.q_len) as usize
    }
    /// The row of the cache that the i-th new token becomes, counted by hand.
    fn key(&self, b: u32, i: u32) -> u32 {
        match &self.cu {
            Some([q, k]) => {
                let s = (0..q.len() - 1).find(|s| q[s + 1] > i).expect("a sequence");
                k[s + 1] - (q[s + 1] - i)
            }
            None => self.kv_lens.get(b as usize).copied().unwrap_or(self.kv_len) - self.q_len + i,
        }
    }
    /// The row of the cache's tensor in which that stands.
    fn place(&self, b: u32, i: u32) -> u32 {
        let key = self.key(b, i);
        let Some([_, k]) = self.cu.as_ref().filter(|_| !self.placed.is_empty()) else { return key };
        let s = (0..k.len() - 1).find(|s| k[s + 1] > key).expect("a sequence");
        self.placed[s][(key - k[s]) as usize]
    }
    /// q, k and v of the whole call, in the type of the new rows.
    fn inputs(&self) -> Inputs {
        let mut wide = self.spec.clone();
        (wide.dtype, wide.k_dtype, wide.v_dtype) = (self.rows, None, None);
        // packed sequences fill their tensor
        let kv_len = if self.cu.is_some() { self.kv_len } else { self.shape.kv_len };
        let batch = self.shape.batch;
        let mut inputs = common::inputs(&wide, batch, self.q_len, kv_len, 11);
        inputs.kv_lens = (!self.kv_lens.is_empty()).then(|| self.kv_lens.clone());
        inputs.kv_len = inputs.kv_lens.is_none().then_some(self.kv_len);
        if let Some([q, k]) = &self.cu {
            (inputs.cu_seqlens_q, inputs.cu_seqlens_k, inputs.kv_len) = (Some(q.clone()), Some(k.clone()), None);
        }
        if !self.k_positions.is_empty() {
            inputs.k_positions = Some(self.k_positions.clone());
            inputs.q_positions = Some(self.k_positions[..self.q_positions()].to_vec());
        }
        if self.hostile {
            for (tensor, seed) in [(&mut inputs.k, 31), (&mut inputs.v, 32)] {
                let shape = tensor.shape();
                let values = hostile(shape.iter().product::<u32>() as usize, seed);
                *tensor = Tensor::bshd(Data::from_f32(self.rows, &values), shape).expect("rows");
            }
        }
        for parameter in self.spec.parameters() {
            inputs.parameters.insert(parameter.name, noise(parameter.shape.iter().product::<u32>() as usize, 3));
        }
        inputs
    }

    /// Appends and compares; the caches are then as they should be.
    fn check(&self, gpu: &Gpu, name: &str) {
        let Call { spec, shape, rows, .. } = self;
        let plan = Plan::new(Kernel::Append { rows: *rows }, spec, shape, gpu.limits()).expect("a plan");
        let name = format!("{name}: {} on {}", plan.label(), gpu.describe());
        let inputs = self.inputs();
        let (want_k, want_v) = check::append(spec, &inputs).expect("bounds");
        let mut given = spec.clone();
        (given.dtype, given.k_dtype, given.v_dtype) = (*rows, None, None);
        let (k, v) = reference::append(&given, &inputs).expect("a reference");
        let same =
            |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()) && a.len() == b.len();
        assert!(same(&want_k.value, &k) && same(&want_v.value, &v), "{name}: bounds of other values");
        let (batch, heads) = (shape.batch, spec.num_kv_heads);
        // the new rows where the strides say, whatever else lies between them
        let new = |from: &Tensor, strides: Strides, dim: u32| {
            let len = BEFORE as u64 + strides.extent(batch, shape.q_len, heads, dim) as u64;
            let mut all = vec![f32::NAN; len as usize];
            for (b, i, h) in tokens(batch, self.q_len, heads) {
                let at = (BEFORE + b * strides.batch + i * strides.token + h * strides.head) as usize;
                let row = row_of(from, [b, self.key(b, i), h]);
                row.into_iter().enumerate().for_each(|(d, x)| all[at + d] = x);
            }
            Data::from_f32(*rows, &all).bytes().to_vec()
        };
        let types = [spec.k_storage(), spec.v_storage()];
        let pool = shape.cache.rows().map_or([batch, shape.kv_len], |rows| [1, rows]);
        let cache = |dtype: Dtype, strides: Strides, dim: u32, seed| {
            let after = if dtype.in_blocks() { dtype.block(dim)[0] } else { 4 };
            let len = (front(dtype, dim) + after) as u64 + strides.extent(pool[0], pool[1], heads, dim) as u64;
            Data::from_rows(dtype, dim, &noise(len as usize, seed)).bytes().to_vec()
        };
        let (device, queue) = (gpu.device(), gpu.queue());
        let _turn = turn(device);
        let make = |bytes: &[u8], usage| {
            let size = (bytes.len() as u64).next_multiple_of(4).max(16);
            let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
            let buffer = device.create_buffer(&descriptor);
            if !usage.contains(wgpu::BufferUsages::MAP_READ) {
                let mut padded = bytes.to_vec();
                padded.resize(size as usize, 0);
                queue.write_buffer(&buffer, 0, &padded);
            }
            buffer
        };
        let (to, from) = (wgpu::BufferUsages::COPY_DST, wgpu::BufferUsages::COPY_SRC);
        let storage = |bytes: &[u8]| make(bytes, wgpu::BufferUsages::STORAGE | to | from);
        let mut words = vec![0; plan.step_layout().words as usize];
        plan.step_layout().write(&self.step(), &mut words).unwrap_or_else(|e| panic!("{name}: {e}"));
        let tables = match plan.binding(Slot::Tables) {
            Some(_) => plan.pack_tables(&inputs.parameters, None).expect("tables"),
            None => vec![0.0; 4],
        };
        let before = [cache(types[0], shape.k, spec.head_dim, 21), cache(types[1], shape.v, spec.v_head_dim, 22)];
        let buffers = [
            (Slot::NewK, storage(&new(&inputs.k, shape.new_k, spec.head_dim))),
            (Slot::NewV, storage(&new(&inputs.v, shape.new_v, spec.v_head_dim))),
            (Slot::K, storage(&before[0])),
            (Slot::V, storage(&before[1])),
            (Slot::Tables, storage(bytemuck::cast_slice(&tables))),
            (Slot::Step, storage(bytemuck::cast_slice(&words))),
        ];
        let bound = buffers.iter().fold(Buffers::new(), |all, (slot, buffer)| {
            let bytes = match slot {
                Slot::NewK | Slot::NewV => BEFORE as usize * rows.size(),
                Slot::K => bytes_before(types[0], spec.head_dim, front(types[0], spec.head_dim)),
                Slot::V => bytes_before(types[1], spec.v_head_dim, front(types[1], spec.v_head_dim)),
                _ => 0,
            };
            all.with(*slot, buffer, bytes as u64)
        });
        let dispatch = Pipeline::new(device, &plan).and_then(|p| p.bind(device, &bound));
        let dispatch = dispatch.unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut encoder = device.create_command_encoder(&Default::default());
        dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
        let staging = [&buffers[2].1, &buffers[3].1].map(|buffer| {
            let staging = make(&vec![0; buffer.size() as usize], wgpu::BufferUsages::MAP_READ | to);
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
            staging
        });
        queue.submit([encoder.finish()]);
        let caches = [
            (types[0], shape.k, spec.head_dim, (want_k, &inputs.k), "k"),
            (types[1], shape.v, spec.v_head_dim, (want_v, &inputs.v), "v"),
        ];
        for (((dtype, strides, dim, (want, given), tensor), staging), mut rest) in
            caches.into_iter().zip(&staging).zip(before)
        {
            let got = gpu.read_back(staging).expect("bytes");
            let got = &got[..rest.len()];
            let as_it_comes = tensor == "v" || !spec.rotary.as_ref().is_some_and(|r| r.keys_rotated);
            let mut appended = Vec::new();
            for (b, i, h) in tokens(batch, self.q_len, heads) {
                let at = front(dtype, dim) + b * strides.batch + self.place(b, i) * strides.token + h * strides.head;
                let start = bytes_before(dtype, dim, at);
                let row = start..start + dtype.row_bytes(dim) as usize;
                if dtype.in_blocks() && as_it_comes {
                    let values = row_of(given, [b, self.key(b, i), h]);
                    let host = Data::from_rows(dtype, dim, &values);
                    assert!(got[row.clone()] == *host.bytes(), "{name} {tensor}: {values:?}");
                }
                appended.extend(read_row(dtype, dim, &got[row.clone()]));
                rest[row.clone()].copy_from_slice(&got[row]);
            }
            if !self.hostile {
                let worst = want.worst(&appended);
                assert!(
                    worst.failures == 0 && worst.elements > 0 && worst.unbounded == 0,
                    "{name} {tensor}: {worst:?}"
                );
            }
            assert!(got == rest, "{name} {tensor}: written beside the new rows");
        }
    }
}

/// Batch entry, token and head of every row, row-major.
fn tokens(batch: u32, len: u32, heads: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    (0..batch).flat_map(move |b| (0..len).flat_map(move |i| (0..heads).map(move |h| (b, i, h))))
}

fn spec([head_dim, v_head_dim]: [u32; 2], dtype: Dtype, rotated: bool) -> Spec {
    let mut spec = Spec::new(4, 2, head_dim);
    (spec.v_head_dim, spec.dtype, spec.mask) = (v_head_dim, dtype, Mask::causal());
    let mut rotary = Rotary::new(Pairing::Half, head_dim / 4 * 2, 1e4);
    (rotary.offset, rotary.keys_rotated) = (head_dim - head_dim / 4 * 2, rotated);
    spec.rotary = Some(rotary);
    spec
}

/// Each type of rows into each type of cache, in whole vec4 and in odd rows, prepared or as they come.
#[test]
fn rows_are_converted_rotated_and_stored_where_the_step_says() {
    for gpu in gpus() {
        for (rows, dtype) in [
            (Dtype::F32, Dtype::F32),
            (Dtype::F32, Dtype::F16),
            (Dtype::F16, Dtype::F16),
            (Dtype::F32, Dtype::Bf16),
            (Dtype::Bf16, Dtype::Bf16),
        ] {
            for (dims, rotated) in [([32, 16], true), ([10, 7], true), ([32, 16], false), ([11, 6], false)] {
                let spec = spec(dims, dtype, rotated);
                let mut call = Call::new(&spec, rows, 2, [5, 23], [70, 90]);
                call.check(&gpu, "contiguous");
                // new rows side by side as one projection gives them; caches by heads, with room between
                let [d, dv] = dims.map(|n| if n.is_multiple_of(4) { n } else { n + 1 });
                let token = 2 * (d + dv);
                call.shape.new_k = Strides { batch: 70 * token, token, head: d };
                call.shape.new_v = Strides { batch: 70 * token, token, head: dv };
                call.shape.k = Strides { batch: 2 * 91 * d, token: d, head: 91 * d };
                call.shape.v = Strides { batch: 2 * 90 * dv + 4, token: dv, head: 90 * dv };
                call.check(&gpu, "strided");
            }
        }
    }
}

/// Lengths of their own, positions of the caller's, norms, packed sequences, a call that is cut into dispatches.
#[test]
fn lengths_positions_norms_and_sequences_are_those_of_attention() {
    for gpu in gpus() {
        let mut lens = spec([32, 16], Dtype::F16, true);
        (lens.kv_lens, lens.positions) = (true, Positions::Ids);
        let mut norm = Norm::new(NormKind::Rms, 1e-6);
        norm.weights = true;
        lens.norm = Some(norm);
        let mut call = Call::new(&lens, Dtype::F32, 3, [4, 30], [6, 33]);
        call.kv_lens = vec![4, 30, 17];
        call.k_positions = (0..3 * 33).map(|n| 1000 - 7 * n).collect();
        call.check(&gpu, "lengths, positions, norm");

        let mut packed = spec([32, 16], Dtype::F32, true);
        packed.packed = true;
        let mut call = Call::new(&packed, Dtype::F32, 1, [9, 40], [12, 50]);
        call.shape = Shape::packed(&packed, 4, 12, 50);
        call.cu = Some([vec![0, 5, 6, 9], vec![0, 20, 37, 40]]);
        call.check(&gpu, "packed");

        let mut limits = *gpu.limits();
        limits.max_flop_per_dispatch = 1.0;
        let cut = gpu.with_limits(limits);
        let call = Call::new(&spec([32, 16], Dtype::F32, true), Dtype::F32, 2, [70, 80], [70, 90]);
        let plan = Plan::new(Kernel::Append { rows: Dtype::F32 }, &call.spec, &call.shape, cut.limits());
        assert!(plan.expect("a plan").chunks().len() > 4);
        call.check(&cut, "cut");
    }
}

/// The bytes of the host's quantiser, whatever the values: every type, rows of an odd number of blocks.
#[test]
fn blocks_have_the_bytes_of_the_host_for_all_values() {
    for gpu in gpus() {
        for (k, v) in [
            (Dtype::Q8_0, Dtype::Q4_0),
            (Dtype::Q4_1, Dtype::Q5_0),
            (Dtype::Q5_1, Dtype::Iq4Nl),
            (Dtype::Int8, Dtype::F8E4m3),
        ] {
            let mut spec = spec([96, 96], Dtype::F32, false);
            (spec.k_dtype, spec.v_dtype) = (Some(k), Some(v));
            let mut call = Call::new(&spec, Dtype::F32, 2, [61, 70], [64, 70]);
            call.hostile = true;
            call.check(&gpu, "hostile");
        }
    }
}

/// Rotated keys of blocks, rows of 16 bits and of odd strides, floats beside blocks, strides with room between, pools; an odd number of heads.
#[test]
fn blocks_are_written_into_every_cache() {
    for gpu in gpus() {
        let stored = |dims, k, v, rotated| {
            let mut spec = spec(dims, Dtype::F32, rotated);
            (spec.num_heads, spec.num_kv_heads, spec.k_dtype, spec.v_dtype) = (6, 3, Some(k), Some(v));
            spec
        };
        // three heads of an odd number of blocks: two of them share a word, the third begins at a whole one
        let mut spec = stored([96, 64], Dtype::Q8_0, Dtype::Q5_0, true);
        (spec.kv_lens, spec.norm) = (true, Some(Norm::new(NormKind::Rms, 1e-6)));
        let mut call = Call::new(&spec, Dtype::F16, 2, [5, 23], [7, 30]);
        call.kv_lens = vec![23, 5];
        call.shape.k = Strides { batch: 30 * 320, token: 320, head: 96 };
        call.check(&gpu, "two heads together");
        // the same rows by heads, with room between, and new rows that are not aligned
        call.shape.k = Strides { batch: 3 * 31 * 128, token: 128, head: 31 * 128 };
        call.shape.v = Strides { batch: 3 * 31 * 64, token: 64, head: 31 * 64 };
        call.shape.new_k = Strides { batch: 7 * 3 * 101, token: 3 * 101, head: 101 };
        call.check(&gpu, "by heads");

        let mut spec = stored([64, 36], Dtype::Q4_1, Dtype::Bf16, true);
        spec.packed = true;
        let mut call = Call::new(&spec, Dtype::F32, 1, [9, 40], [12, 50]);
        call.shape = Shape::packed(&spec, 4, 12, 50);
        call.cu = Some([vec![0, 5, 6, 9], vec![0, 20, 37, 40]]);
        call.check(&gpu, "packed");
        call.shape.cache = Cache::Slots { rows: 60 };
        call.placed = vec![(33..53).collect(), (3..20).collect(), (25..28).collect()];
        call.placement = vec![33, 3, 25];
        call.check(&gpu, "slots");
        call.shape.cache = Cache::Pages { pages: 9, page_size: 8 };
        let of_pages = |pages: &[u32], len: u32| (0..len).map(|j| pages[j as usize / 8] * 8 + j % 8).collect();
        call.placement = vec![4, 0, 7, 2, 8, 5, 1, 6, 3];
        call.placed = call.placement.chunks(3).zip([20, 17, 3]).map(|(pages, len)| of_pages(pages, len)).collect();
        call.check(&gpu, "pages");
    }
}

/// Strides and offsets by which two lanes would write one word.
#[test]
fn blocks_that_share_words_are_refused_with_the_way_out() {
    let of = |heads: u32, dim: u32| {
        let mut spec = Spec::new(2 * heads, heads, dim);
        (spec.k_dtype, spec.v_dtype) = (Some(Dtype::Q8_0), Some(Dtype::Q5_1));
        let shape = Shape::new(&spec, 2, 8, 20);
        (spec, shape)
    };
    let plan = |spec: &Spec, shape: &Shape, rows| Plan::new(Kernel::Append { rows }, spec, shape, &Limits::default());
    for (heads, dim, suits) in [(2, 96, true), (4, 32, true), (1, 96, false), (3, 96, false), (3, 128, true)] {
        let (spec, mut shape) = of(heads, dim);
        let made = plan(&spec, &shape, Dtype::F32);
        assert_eq!(made.is_ok(), suits, "{heads} heads of {dim}");
        let Err(error) = made else { continue };
        let error = error.to_string();
        assert!(
            error.contains("shape.k") && error.contains("multiples of 64") && error.contains("128 apart"),
            "{error}"
        );
        shape.k.token = (heads * dim).next_multiple_of(64);
        shape.k.batch = 20 * shape.k.token;
        assert!(plan(&spec, &shape, Dtype::Bf16).is_ok(), "{heads} heads of {dim}");
        shape.k.head += 32;
        assert_eq!(plan(&spec, &shape, Dtype::F32).is_ok(), heads == 1, "{shape:?}");
    }
    let (spec, shape) = of(2, 64);
    let error = plan(&spec, &shape, Dtype::Q8_0).expect_err("rows in blocks").to_string();
    assert!(error.contains("appends rows in q8_0") && error.contains("f32, f16 or bf16"), "{error}");
    // values of floats beside blocks are whole words
    let (mut spec, _) = of(2, 64);
    (spec.v_dtype, spec.v_head_dim) = (Some(Dtype::F16), 7);
    let error = plan(&spec, &Shape::new(&spec, 1, 8, 20), Dtype::F32).expect_err("7 of 16 bits").to_string();
    assert!(error.contains("v_dtype") && error.contains("multiples of four elements"), "{error}");
}

/// What no cache has room for, the host refuses; words that it did not write reach no other row.
#[test]
fn what_does_not_fit_is_refused_and_never_written() {
    let plain = spec([32, 16], Dtype::F32, true);
    let append = Kernel::Append { rows: Dtype::F32 };
    let shape = Shape::new(&plain, 1, 8, 20);
    let plan = Plan::new(append, &plain, &shape, &Limits::default()).expect("a plan");
    let mut words = vec![0; plan.step_layout().words as usize];
    let error = |step: Step, plan: &Plan, words: &mut Vec<u32>| {
        words.resize(plan.step_layout().words as usize, 0);
        plan.step_layout().write(&step, words).expect_err("it does not fit").to_string()
    };
    let step = |q_len, kv_len| Step { q_len, kv_len, ..Step::default() };
    assert!(plan.step_layout().write(&step(8, 20), &mut words).is_ok());
    assert!(plan.step_layout().write(&step(8, 8), &mut words).is_ok());
    assert!(error(step(3, 21), &plan, &mut words).contains("kv_len: 21 of 20"));
    assert!(error(step(8, 7), &plan, &mut words).contains("sequence 0 has 7 keys, and 8 new rows"));
    let mut lens = plain.clone();
    lens.kv_lens = true;
    let two = Plan::new(append, &lens, &Shape::new(&lens, 2, 8, 20), &Limits::default()).expect("a plan");
    let short = Step { kv_lens: &[20, 4], ..step(5, 20) };
    assert!(error(short, &two, &mut words).contains("sequence 1 has 4 keys, and 5 new rows"));
    // the step of attention, of the same spec and shape, is the same
    let attention = Plan::new(Kernel::Attention, &plain, &shape, &Limits::default()).expect("a plan");
    assert_eq!(attention.step_layout().words, plan.step_layout().words);
    assert!(attention.step_layout().write(&step(8, 7), &mut words).is_ok());

    let mut halves = plain.clone();
    halves.dtype = Dtype::F16;
    let (mut narrow, mut repeated) = (shape, Shape::new(&plain, 2, 8, 20));
    (narrow.k.token, repeated.v.batch) = (16, 0);
    for (kernel, spec, shape, message) in [
        (Kernel::Append { rows: Dtype::Bf16 }, &halves, shape, "kernel"),
        (append, &plain, narrow, "shape.k"),
        (append, &plain, repeated, "shape.v"),
    ] {
        let error = Plan::new(kernel, spec, &shape, &Limits::default()).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }

    for gpu in gpus() {
        let (device, queue) = (gpu.device(), gpu.queue());
        let _turn = turn(device);
        let plan = Plan::new(append, &plain, &shape, gpu.limits()).expect("a plan");
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let storage = plan.bindings().iter().filter(|b| matches!(b.access, Access::Read | Access::ReadWrite));
        let made: Vec<_> = storage
            .map(|b| {
                // two rows more than the plan's
                let size = b.size + 2 * 2 * 32 * 4;
                let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
                let buffer = device.create_buffer(&descriptor);
                let marks =
                    vec![if matches!(b.slot, Slot::NewK | Slot::NewV) { 2.0f32 } else { 1.0 }; size as usize / 4];
                queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&marks));
                (b.slot, buffer, b.size)
            })
            .collect();
        let bound = made.iter().fold(Buffers::new(), |all, (slot, buffer, size)| {
            let size = std::num::NonZeroU64::new(size.next_multiple_of(4));
            all.with_binding(*slot, wgpu::BufferBinding { buffer, offset: 0, size })
        });
        let dispatch = Pipeline::new(device, &plan).and_then(|p| p.bind(device, &bound)).expect("bound");
        let of = |slot| made.iter().find(|(s, ..)| *s == slot).map(|(_, buffer, _)| buffer).expect("a buffer");
        for (q_len, kv_len, rows) in [(8u32, 7u32, 0..7usize), (u32::MAX, u32::MAX, 12..20), (3, u32::MAX, 17..20)] {
            let marks = vec![1.0f32; of(Slot::V).size() as usize / 4];
            queue.write_buffer(of(Slot::V), 0, bytemuck::cast_slice(&marks));
            queue.write_buffer(of(Slot::Step), 0, bytemuck::cast_slice(&[q_len, kv_len]));
            let size = of(Slot::V).size();
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let staging =
                device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
            let mut encoder = device.create_command_encoder(&Default::default());
            dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
            encoder.copy_buffer_to_buffer(of(Slot::V), 0, &staging, 0, size);
            queue.submit([encoder.finish()]);
            let bytes = gpu.read_back(&staging).expect("bytes");
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            let row = 2 * 16;
            for (at, x) in values.iter().enumerate() {
                let want = if rows.contains(&(at / row)) { 2.0 } else { 1.0 };
                assert_eq!(*x, want, "q_len {q_len}, kv_len {kv_len}: element {at} on {}", gpu.describe());
            }
        }
    }
}
