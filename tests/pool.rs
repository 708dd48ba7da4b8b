//! Caches in a pool of rows: pages in any order give the bits of tensors, an engine's thousand steps are those of the reference, and wrong placements
//! are named.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, noise};
use rand::{RngExt, SeedableRng};
use ropewalk::*;

fn spec(keys_rotated: bool) -> Spec {
    let mut spec = Spec::new(4, 2, 32);
    (spec.packed, spec.mask) = (true, Mask::causal());
    let mut rotary = Rotary::new(Pairing::Half, 32, 1e4);
    rotary.keys_rotated = keys_rotated;
    spec.rotary = Some(rotary);
    spec
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// A tensor's tokens at rows of a pool, whose others are NaN.
fn scattered(tensor: &Tensor, rows: &[u32], pool: u32) -> Tensor {
    let [_, _, heads, dim] = tensor.shape();
    let width = (heads * dim) as usize;
    let mut data = vec![f32::NAN; pool as usize * width];
    for (token, row) in rows.iter().enumerate() {
        let from = tensor.row_start(0, token as u32, 0);
        (0..width).for_each(|x| data[*row as usize * width + x] = tensor.data().get(from + x));
    }
    Tensor::bshd(data, [1, pool, heads, dim]).expect("a pool")
}

#[test]
fn pages_in_any_order_and_slots_give_the_bits_of_tensors() {
    const PAGE: u32 = 32;
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    for gpu in gpus() {
        for (lengths, rotated) in
            [([[1, 300], [1, 40]], false), ([[1, 300], [1, 40]], true), ([[90, 130], [7, 64]], false)]
        {
            let spec = spec(rotated);
            let starts = |side: usize| vec![0, lengths[0][side], lengths[0][side] + lengths[1][side]];
            let (cu_q, cu_k) = (starts(0), starts(1));
            let mut inputs = common::inputs(&spec, 1, cu_q[2], cu_k[2], 3);
            (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = (Some(cu_q), Some(cu_k));
            let want = gpu.attention(&spec, &inputs).expect("attention over tensors");

            let of_pages = lengths.map(|[_, keys]| keys.div_ceil(PAGE));
            let (pages, width) = (of_pages[0] + of_pages[1] + 3, of_pages[0] + 1);
            for _ in 0..3 {
                let mut free: Vec<u32> = (0..pages).collect();
                let (mut table, mut rows) = (Vec::new(), Vec::new());
                for (n, [_, keys]) in of_pages.iter().zip(lengths) {
                    let own: Vec<u32> = (0..*n).map(|_| free.swap_remove(random.random_range(0..free.len()))).collect();
                    rows.extend((0..keys).map(|j| own[(j / PAGE) as usize] * PAGE + j % PAGE));
                    table.extend(own.into_iter().chain(std::iter::repeat(u32::MAX)).take(width as usize));
                }
                let mut paged = inputs.clone();
                (paged.k, paged.v) =
                    (scattered(&inputs.k, &rows, pages * PAGE), scattered(&inputs.v, &rows, pages * PAGE));
                paged.placement = Some(Placement::Pages { page_size: PAGE, table });
                let got = gpu.attention(&spec, &paged).expect("attention over pages");
                assert!(bits(&got.out) == bits(&want.out) && bits(&got.lse) == bits(&want.lse), "{lengths:?}");
            }

            let slots = [lengths[1][1] + 5, 2];
            let rows: Vec<u32> =
                slots.iter().zip(lengths).flat_map(|(start, [_, keys])| *start..start + keys).collect();
            let mut slotted = inputs.clone();
            (slotted.k, slotted.v) = (scattered(&inputs.k, &rows, 400), scattered(&inputs.v, &rows, 400));
            slotted.placement = Some(Placement::Slots(slots.to_vec()));
            let got = gpu.attention(&spec, &slotted).expect("attention over slots");
            assert!(bits(&got.out) == bits(&want.out) && bits(&got.lse) == bits(&want.lse), "{lengths:?}");
        }
    }
}

const PAGE: u32 = 8;
const PAGES: u32 = 24;
const SEQUENCES: usize = 4;
const MOST: [u32; 2] = [6, 48];

/// A sequence as the engine knows it: pages of the pool, and what every key and value was when it came.
#[derive(Clone, Default)]
struct Sequence {
    pages: Vec<u32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// An engine: its own buffers and pages, two dispatches that are bound once.
struct Engine<'a> {
    gpu: &'a Gpu,
    spec: Spec,
    plans: [Plan; 2],
    dispatches: [Dispatch; 2],
    buffers: Vec<(Slot, wgpu::Buffer)>,
    steps: [wgpu::Buffer; 2],
    sequences: Vec<Sequence>,
    width: usize,
}

impl<'a> Engine<'a> {
    fn new(gpu: &'a Gpu) -> Self {
        let spec = spec(false);
        let mut shape = Shape::packed(&spec, SEQUENCES as u32, SEQUENCES as u32 * MOST[0], SEQUENCES as u32 * MOST[1]);
        [shape.max_seqlen_q, shape.max_seqlen_k] = MOST;
        shape.cache = Cache::Pages { pages: PAGES, page_size: PAGE };
        let kernels = [Kernel::Append { rows: Dtype::F32 }, Kernel::Attention];
        let plans = kernels.map(|kernel| Plan::new(kernel, &spec, &shape, gpu.limits()).expect("a plan"));
        let (device, usage) = (gpu.device(), wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST);
        let make = |size: u64, usage| {
            let descriptor =
                wgpu::BufferDescriptor { label: None, size: size.max(16), usage, mapped_at_creation: false };
            device.create_buffer(&descriptor)
        };
        let steps = [0, 1].map(|n| make(4 * plans[n].step_layout().words as u64, usage));
        let mut buffers: Vec<(Slot, wgpu::Buffer)> = Vec::new();
        for slot in [Slot::Q, Slot::K, Slot::V, Slot::NewK, Slot::NewV, Slot::Out, Slot::Work, Slot::Tables] {
            let size = plans.iter().filter_map(|plan| plan.binding(slot)).map(|b| b.size).max();
            buffers.extend(size.map(|size| (slot, make(size, usage | wgpu::BufferUsages::COPY_SRC))));
        }
        let dispatches = [0, 1].map(|n| {
            let all = buffers.iter().fold(Buffers::new(), |all, (slot, buffer)| all.with(*slot, buffer, 0));
            let pipeline = Pipeline::new(device, &plans[n]).expect("a pipeline");
            pipeline.bind(device, &all.with(Slot::Step, &steps[n], 0)).expect("a dispatch")
        });
        let width = (spec.num_kv_heads * spec.head_dim) as usize;
        let sequences = vec![Sequence::default(); SEQUENCES];
        Engine { gpu, spec, plans, dispatches, buffers, steps, sequences, width }
    }

    fn len(&self, s: usize) -> u32 {
        (self.sequences[s].k.len() / self.width) as u32
    }
    fn buffer(&self, slot: Slot) -> &wgpu::Buffer {
        self.buffers.iter().find(|(s, _)| *s == slot).map(|(_, b)| b).expect("a buffer")
    }
    /// A page that no sequence has.
    fn free_page(&self) -> Option<u32> {
        (0..PAGES).find(|page| self.sequences.iter().all(|s| !s.pages.contains(page)))
    }

    /// Appends new rows and attends, in one pass; out of the call and of the reference, over what the engine remembers.
    fn step(&mut self, q: &[f32], new: [&[f32]; 2], counts: &[u32]) -> (Vec<f32>, Inputs) {
        let mut start = 0;
        for (s, count) in counts.iter().enumerate() {
            let end = start + *count as usize * self.width;
            self.sequences[s].k.extend(&new[0][start..end]);
            self.sequences[s].v.extend(&new[1][start..end]);
            start = end;
        }
        let starts = |lens: &mut dyn Iterator<Item = u32>| {
            let mut all = vec![0];
            lens.for_each(|n| all.push(all[all.len() - 1] + n));
            all
        };
        let cu_q = starts(&mut counts.iter().copied());
        let cu_k = starts(&mut (0..SEQUENCES).map(|s| self.len(s)));
        let columns = (MOST[1] / PAGE) as usize;
        let padded =
            |s: &Sequence| s.pages.iter().copied().chain(std::iter::repeat(u32::MAX)).take(columns).collect::<Vec<_>>();
        let table: Vec<u32> = self.sequences.iter().flat_map(padded).collect();
        let (q_len, kv_len) = (cu_q[SEQUENCES], cu_k[SEQUENCES]);
        let step =
            Step { q_len, kv_len, cu_seqlens_q: &cu_q, cu_seqlens_k: &cu_k, block_table: &table, ..Step::default() };
        let queue = self.gpu.queue();
        let _turn = turn(self.gpu.device());
        for (plan, buffer) in self.plans.iter().zip(&self.steps) {
            let mut words = vec![0; plan.step_layout().words as usize];
            plan.step_layout().write(&step, &mut words).expect("a step");
            queue.write_buffer(buffer, 0, bytemuck::cast_slice(&words));
        }
        for (slot, values) in [(Slot::Q, q), (Slot::NewK, new[0]), (Slot::NewV, new[1])] {
            queue.write_buffer(self.buffer(slot), 0, bytemuck::cast_slice(values));
        }
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.dispatches.iter().for_each(|dispatch| dispatch.encode(&mut pass));
        drop(pass);
        let size = 4 * (q_len * self.spec.num_heads * self.spec.v_head_dim) as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let staging = self.gpu.device().create_buffer(&descriptor);
        encoder.copy_buffer_to_buffer(self.buffer(Slot::Out), 0, &staging, 0, size);
        queue.submit([encoder.finish()]);
        let out = bytemuck::pod_collect_to_vec(&self.gpu.read_back(&staging).expect("bytes"));

        let rows = |of: fn(&Sequence) -> &Vec<f32>| {
            self.sequences.iter().flat_map(|s| of(s).iter().copied()).collect::<Vec<_>>()
        };
        let (heads, kv_heads, dim) = (self.spec.num_heads, self.spec.num_kv_heads, self.spec.head_dim);
        let tensor = |data, len, heads| Tensor::bshd(data, [1, len, heads, dim]).expect("a tensor");
        let (k, v) = (tensor(rows(|s| &s.k), kv_len, kv_heads), tensor(rows(|s| &s.v), kv_len, kv_heads));
        let mut inputs = Inputs::new(tensor(q.to_vec(), q_len, heads), k, v);
        (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = (Some(cu_q), Some(cu_k));
        (out, inputs)
    }
}

/// New rows come, contexts shift by a page, sequences end, and new ones start from pages of others, at the offset that they had or at another:
/// unrotated keys are right wherever they are taken.
#[test]
fn an_engine_appends_shifts_shares_frees_and_reuses_pages() {
    const STEPS: u32 = 1000;
    for gpu in gpus() {
        let mut engine = Engine::new(&gpu);
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(17);
        let mut events = [0; 4];
        let mut checked = 0;
        for step in 0..STEPS {
            let s = random.random_range(0..SEQUENCES);
            let other = random.random_range(0..SEQUENCES);
            match random.random_range(0..12) {
                0 => {
                    engine.sequences[s] = Sequence::default();
                    events[0] += 1;
                }
                1 if !engine.sequences[s].pages.is_empty() && engine.len(s) >= PAGE => {
                    let (rows, own) = (PAGE as usize * engine.width, &mut engine.sequences[s]);
                    own.pages.remove(0);
                    own.k.drain(..rows);
                    own.v.drain(..rows);
                    events[1] += 1;
                }
                2 if s != other && engine.len(other) >= 2 * PAGE => {
                    // whole pages, from the first or from the second on
                    let from = random.random_range(0..2) as usize;
                    let whole = (engine.len(other) / PAGE) as usize;
                    let rows = from * PAGE as usize * engine.width..whole * PAGE as usize * engine.width;
                    let of = &engine.sequences[other];
                    let taken = Sequence {
                        pages: of.pages[from..whole].to_vec(),
                        k: of.k[rows.clone()].to_vec(),
                        v: of.v[rows].to_vec(),
                    };
                    engine.sequences[s] = taken;
                    events[2 + from] += 1;
                }
                _ => {}
            }
            // as many new rows as there is room for
            let mut counts = [0; SEQUENCES];
            for (s, count) in counts.iter_mut().enumerate() {
                let wanted = random.random_range(0..=MOST[0]);
                for _ in 0..wanted {
                    let len = engine.len(s) + *count;
                    if len == MOST[1] {
                        break;
                    }
                    if len.is_multiple_of(PAGE) {
                        let Some(page) = engine.free_page() else { break };
                        engine.sequences[s].pages.push(page);
                    }
                    *count += 1;
                }
            }
            let tokens: u32 = counts.iter().sum();
            if tokens == 0 {
                continue;
            }
            let n = tokens as usize * engine.width;
            let (k, v) = (noise(n, 3 * step as u64), noise(n, 3 * step as u64 + 1));
            let q = noise(2 * n, 3 * step as u64 + 2);
            let (out, inputs) = engine.step(&q, [&k, &v], &counts);
            let (want, _) = check::attention(&engine.spec, &inputs).expect("bounds");
            let worst = want.worst(&out);
            assert!(
                worst.failures == 0 && worst.unbounded == 0 && worst.elements == out.len() as u64,
                "step {step}: {worst:?}"
            );
            checked += 1;
        }
        assert!(checked > STEPS / 2 && events.iter().all(|n| *n > 5), "{checked} steps, {events:?}");
    }
}

#[test]
fn wrong_placements_are_named_and_nothing_is_written() {
    let spec = spec(false);
    let mut shape = Shape::packed(&spec, 3, 6, 60);
    shape.max_seqlen_k = 20;
    let (cu_q, cu_k) = ([0, 1, 3, 4], [0, 10, 30, 33]);
    let base = Step { q_len: 4, kv_len: 33, cu_seqlens_q: &cu_q, cu_seqlens_k: &cu_k, ..Step::default() };
    let with = |cache| {
        let mut pooled = shape;
        pooled.cache = cache;
        pooled
    };
    let refused = |kernel: Kernel, cache: Cache, step: Step, part: &str| {
        let plan = Plan::new(kernel, &spec, &with(cache), &Limits::default()).expect("a plan");
        let mut words = vec![7; plan.step_layout().words as usize];
        let error = plan.step_layout().write(&step, &mut words).expect_err(part).to_string();
        assert!(error.contains(part), "{error:?} lacks {part:?}");
        assert!(words.iter().all(|word| *word == 7), "{part}: something was written");
    };
    let pages = Cache::Pages { pages: 9, page_size: 8 };
    let slots = Cache::Slots { rows: 50 };
    let (attention, append) = (Kernel::Attention, Kernel::Append { rows: Dtype::F32 });
    let table = |table| Step { block_table: table, ..base };
    refused(attention, pages, table(&[0, 1, 2, 3, 4, 9, 5, 6, 7]), "page 2 of sequence 1 is 9, of a pool of 9");
    refused(attention, pages, table(&[0, 1, 2, 3, 4, 5]), "sequence 1 has 20 keys and 2 pages of 8");
    refused(attention, pages, table(&[0, 1, 2, 3, 4]), "5 pages for 3 sequences");
    refused(attention, pages, base, "sequence 0 has 10 keys and 0 pages of 8");
    // key 9 of sequence 0 is the second row of page 1, into which sequence 2 writes its third
    let names = |s: u32, page: u32, t: u32| format!("sequence {s} go to page {page}, where sequence {t} has keys");
    refused(append, pages, table(&[0, 1, 2, 3, 4, 5, 1, 6, 7]), &names(0, 1, 2));
    // sequence 2 alone writes there, where sequence 1 has keys that it does not write
    refused(append, pages, table(&[0, 1, 2, 3, 4, 5, 3, 6, 7]), &names(2, 3, 1));
    // where the other has no row, a page may go on: sequence 1 writes rows 2 and 3 of page 5 behind two rows that sequence 2 has of it
    let behind = Step { kv_len: 32, cu_seqlens_k: &[0, 10, 30, 32], cu_seqlens_q: &[0, 1, 3, 3], q_len: 3, ..base };
    let shared = Step { block_table: &[0, 1, 2, 3, 4, 5, 5, 6, 7], ..behind };
    let plan = Plan::new(append, &spec, &with(pages), &Limits::default()).expect("a plan");
    let mut words = vec![0; plan.step_layout().words as usize];
    plan.step_layout().write(&shared, &mut words).expect("rows of its own");
    let further = Step { kv_len: 33, cu_seqlens_k: &[0, 10, 30, 33], ..shared };
    refused(append, pages, further, &names(1, 5, 2));
    refused(attention, pages, Step { slots: &[0, 10, 30], ..base }, "slots");
    let at = |slots| Step { slots, ..base };
    refused(attention, slots, at(&[0, 9, 40]), "sequences 0 and 1 overlap");
    refused(attention, slots, at(&[0, 31, 20]), "sequence 1 has rows 31 to 50 of a pool of 50");
    refused(attention, slots, at(&[u32::MAX, 10, 30]), "of a pool of 50");
    refused(attention, slots, at(&[0, 10]), "2 of 3 sequences");
    refused(attention, Cache::Contiguous, at(&[0, 10, 30]), "shape.cache slots");
    let planned = |spec: &Spec, kernel, cache| {
        Plan::new(kernel, spec, &with(cache), &Limits::default()).expect_err("refused").to_string()
    };
    let mut batched = spec.clone();
    batched.packed = false;
    assert!(planned(&batched, attention, pages).contains("spec.packed"));
    assert!(planned(&spec, attention, Cache::Pages { pages: 9, page_size: 0 }).contains("shape.cache.page_size"));
    assert!(planned(&spec, attention, Cache::Slots { rows: 0 }).contains("shape.cache.rows"));
    assert!(planned(&spec, Kernel::RotateK { in_place: true }, pages).contains("shape.cache"));
}
