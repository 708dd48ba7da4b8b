//! Attention on the GPU: a cache of keys and values for every layer, and two dispatches that are bound once.

use crate::model::{Model, Specs};
use crate::{Attention, Part, Result};
use ropewalk::{
    Buffers, Cache, Data, Dispatch, Dtype, Gpu, Kernel, Mask, Pairing, Plan, Positions, Shape, Slot, Spec, Step, turn,
    wgpu,
};

/// Where keys and values stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// A tensor with room for every sequence.
    Contiguous,
    /// A pool of rows, those of a sequence behind each other.
    Slots,
    /// A pool of pages of 16 rows.
    Pages,
}

/// When keys are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Keys {
    /// As they enter the cache.
    Rotated,
    /// Whenever they are read.
    Unrotated,
}

/// In which type keys and values are stored; q and out too where it is f32, f16 or bf16, else in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Storage {
    F32,
    F16,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q4_1")]
    Q4_1,
    #[value(name = "q5_0")]
    Q5_0,
    #[value(name = "q5_1")]
    Q5_1,
    #[value(name = "iq4_nl")]
    Iq4Nl,
    Int8,
    #[value(name = "f8_e4m3")]
    F8E4m3,
}

impl Storage {
    /// The library's name of it.
    pub fn dtype(self) -> Dtype {
        match self {
            Storage::F32 => Dtype::F32,
            Storage::F16 => Dtype::F16,
            Storage::Bf16 => Dtype::Bf16,
            Storage::Q8_0 => Dtype::Q8_0,
            Storage::Q4_0 => Dtype::Q4_0,
            Storage::Q4_1 => Dtype::Q4_1,
            Storage::Q5_0 => Dtype::Q5_0,
            Storage::Q5_1 => Dtype::Q5_1,
            Storage::Iq4Nl => Dtype::Iq4Nl,
            Storage::Int8 => Dtype::Int8,
            Storage::F8E4m3 => Dtype::F8E4m3,
        }
    }
}

/// Elements of a row in the cache: in blocks whole ones, with zeros behind the row's own, which change no score and no result.
fn padded(dtype: Dtype, dim: u32) -> u32 {
    let [block, _] = if dtype == Dtype::Int8 { [4, 0] } else { dtype.block(dim) };
    dim.next_multiple_of(block)
}

/// How an engine keeps its keys.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub place: Place,
    pub keys: Keys,
    pub storage: Storage,
}

const PAGE: u32 = 16;
/// Rows between the slots of a pool, which nothing owns.
const GAP: u32 = 3;

/// Keys of a sequence in every layer's cache.
#[derive(Debug, Clone, Default)]
struct Sequence {
    len: u32,
    /// The first row in a pool of rows.
    start: u32,
    pages: Vec<u32>,
}

/// The calls of one layer: k and v in, attention.
struct Calls {
    append: Dispatch,
    attention: Dispatch,
}

/// Plans of one kind of step, and what is bound to them.
struct Stage {
    /// By kind of layer: append, attention.
    plans: Vec<[Plan; 2]>,
    steps: Vec<[wgpu::Buffer; 2]>,
    /// By layer, then by sequence where each has a tensor of its own.
    calls: Vec<Vec<Calls>>,
}

/// What a layer keeps.
struct Layer {
    /// Which of the different specs it has.
    kind: usize,
    k: wgpu::Buffer,
    v: wgpu::Buffer,
}

/// Attention on the GPU.
pub struct Device<'a> {
    gpu: &'a Gpu,
    model: &'a Model,
    options: Options,
    specs: Specs<'a>,
    kinds: Vec<Spec>,
    /// Of each kind head_dim and v_head_dim without padding.
    dims: Vec<[u32; 2]>,
    layers: Vec<Layer>,
    /// Tokens of all parts of a step, and of one of them, at most.
    most: [u32; 2],
    /// The most keys of each sequence.
    capacities: Vec<u32>,
    /// Steps of one token each, steps of more.
    stages: [Option<Stage>; 2],
    scratch: Vec<(Slot, wgpu::Buffer)>,
    sequences: Vec<Sequence>,
    free: Vec<u32>,
    parts: Vec<Part>,
}

impl<'a> Device<'a> {
    /// Caches for sequences of up to so many keys each; the longest step has `most` new tokens, those of one sequence behind it.
    pub fn new(
        gpu: &'a Gpu,
        model: &'a Model,
        options: Options,
        capacities: &[usize],
        most: [usize; 2],
    ) -> Result<Self> {
        let longest = capacities.iter().copied().max().unwrap_or(1);
        let specs = Specs::new(&model.config, model.specs.len(), longest)?;
        if specs.vary && options.keys == Keys::Rotated {
            return Err("--keys rotated: this model's frequencies change with the length, and rotated keys with them; take unrotated".into());
        }
        let capacities: Vec<u32> = capacities.iter().map(|n| *n as u32).collect();
        let mut device = Device {
            gpu,
            model,
            options,
            specs,
            kinds: Vec::new(),
            dims: Vec::new(),
            layers: Vec::new(),
            most: most.map(|n| n as u32),
            stages: [None, None],
            scratch: Vec::new(),
            sequences: vec![Sequence::default(); capacities.len()],
            free: Vec::new(),
            parts: Vec::new(),
            capacities,
        };
        // slots in the other order, pages in an order of no sense
        let mut start = GAP;
        for s in (0..device.sequences.len()).rev() {
            device.sequences[s].start = start;
            start += device.capacities[s] + GAP;
        }
        let pages = device.pages();
        device.free = (0..pages).map(|n| (7 * n + 3) % pages).collect();
        if pages.is_multiple_of(7) {
            device.free = (0..pages).collect();
        }
        let spec_kinds: Vec<Spec> = device.specs.now.clone();
        for spec in &spec_kinds {
            let spec = device.stored(spec)?;
            let rows = device.rows() as u64 * spec.num_kv_heads as u64;
            let of = |dim: u32| device.buffer(rows * device.options.storage.dtype().row_bytes(dim));
            let (k, v) = (of(spec.head_dim), of(spec.v_head_dim));
            device.layers.push(Layer { kind: 0, k, v });
        }
        device.plan()?;
        Ok(device)
    }

    /// The dispatches of a step of this kind.
    pub fn labels(&self) -> Vec<String> {
        let plans = self.stages.iter().flatten().flat_map(|stage| stage.plans.iter().flatten());
        plans.map(|plan| plan.label().to_string()).collect()
    }

    fn one(&self) -> bool {
        self.sequences.len() == 1
    }
    /// Room for the longest sequence, and for a row that is not counted.
    fn room(&self) -> u32 {
        (self.capacities.iter().copied().max().unwrap_or(0) + 1).next_multiple_of(PAGE)
    }
    fn pages(&self) -> u32 {
        self.capacities.iter().map(|n| n.div_ceil(PAGE) + 1).sum()
    }
    /// Rows of a cache.
    fn rows(&self) -> u32 {
        match self.options.place {
            Place::Contiguous => self.room() * self.sequences.len() as u32,
            Place::Slots => GAP + self.capacities.iter().map(|n| n + GAP).sum::<u32>(),
            Place::Pages => self.pages() * PAGE,
        }
    }
    /// A layer's spec as this cache has it.
    fn stored(&self, spec: &Spec) -> Result<Spec> {
        let (mut spec, dtype) = (spec.clone(), self.options.storage.dtype());
        if let Some(rotary) = &mut spec.rotary {
            rotary.keys_rotated = self.options.keys == Keys::Rotated;
        }
        if !dtype.in_blocks() {
            spec.dtype = dtype;
            return Ok(spec);
        }
        (spec.k_dtype, spec.v_dtype) = (Some(dtype), Some(dtype));
        let dims = [spec.head_dim, spec.v_head_dim].map(|dim| padded(dtype, dim));
        if dims[0] != spec.head_dim && spec.norm.is_some() {
            let name = dtype.name();
            return Err(format!("--storage {name}: this model norms rows of {} elements, which zeros behind them would change; take int8 or f8_e4m3", spec.head_dim).into());
        }
        spec.softmax_scale = Some(spec.scale());
        [spec.head_dim, spec.v_head_dim] = dims;
        Ok(spec)
    }
    fn buffer(&self, size: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let size = size.next_multiple_of(4).max(16);
        self.gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }

    /// Plans and dispatches for the specs of now.
    fn plan(&mut self) -> Result<()> {
        self.kinds.clear();
        self.dims.clear();
        for (n, of_layer) in self.specs.now.iter().enumerate() {
            let spec = self.stored(of_layer)?;
            if spec.positions != Positions::Index || spec.mask.dense {
                return Err(format!(
                    "layer {n}: needs positions or a mask of its own, which this example does not make"
                )
                .into());
            }
            self.layers[n].kind = self.kinds.iter().position(|kind| *kind == spec).unwrap_or(self.kinds.len());
            if self.layers[n].kind == self.kinds.len() {
                self.kinds.push(spec);
                self.dims.push([of_layer.head_dim, of_layer.v_head_dim]);
            }
        }
        self.stages = [None, None];
        self.scratch.clear();
        let mut made = Vec::new();
        for many in [false, true] {
            let mut plans = Vec::new();
            for kind in &self.kinds {
                let (spec, shape) = self.shape(kind, many);
                let plan = |kernel| Plan::new(kernel, &spec, &shape, self.gpu.limits());
                plans.push([plan(Kernel::Append { rows: Dtype::F32 })?, plan(Kernel::Attention)?]);
            }
            made.push(plans);
        }
        // what layers share is as large as the largest needs
        for slot in [Slot::Q, Slot::NewK, Slot::NewV, Slot::Out, Slot::Work] {
            let sizes =
                made.iter().flatten().flatten().filter_map(|plan| plan.binding(slot)).map(|binding| binding.size);
            let buffer = self.buffer(sizes.max().unwrap_or(0));
            self.scratch.push((slot, buffer));
        }
        for (many, plans) in made.into_iter().enumerate() {
            self.stages[many] = Some(self.bound(plans, many == 1)?);
        }
        Ok(())
    }

    /// The spec and shape of a step: of one token of each sequence, or of many of some.
    fn shape(&self, kind: &Spec, many: bool) -> (Spec, Shape) {
        let mut spec = kind.clone();
        let sequences = self.sequences.len() as u32;
        if self.options.place == Place::Contiguous {
            let q_len = if many { self.most[1] } else { 1 };
            spec.kv_lens = !many && !self.one();
            let shape = Shape::new(&spec, if spec.kv_lens { sequences } else { 1 }, q_len, self.room());
            return (spec, shape);
        }
        spec.packed = true;
        let tokens = if many { self.most[0] } else { sequences };
        let mut shape = Shape::packed(&spec, sequences, tokens, self.capacities.iter().sum());
        shape.max_seqlen_q = if many { self.most[1] } else { 1 };
        shape.max_seqlen_k = self.capacities.iter().copied().max().unwrap_or(1);
        shape.cache = match self.options.place {
            Place::Slots => Cache::Slots { rows: self.rows() },
            _ => Cache::Pages { pages: self.pages(), page_size: PAGE },
        };
        (spec, shape)
    }

    fn bound(&self, plans: Vec<[Plan; 2]>, many: bool) -> Result<Stage> {
        let (device, queue) = (self.gpu.device(), self.gpu.queue());
        let steps: Vec<[wgpu::Buffer; 2]> = plans
            .iter()
            .map(|both| both.each_ref().map(|plan| self.buffer(4 * plan.step_layout().words as u64)))
            .collect();
        // prompts that have a tensor each are taken in one after the other
        let each = self.options.place == Place::Contiguous && many && !self.one();
        let mut calls = Vec::new();
        for (n, layer) in self.layers.iter().enumerate() {
            let plans = &plans[layer.kind];
            let mut tables = Vec::new();
            for plan in plans {
                let values = match plan.binding(Slot::Tables) {
                    Some(_) => plan.pack_tables(&self.model.parameters[n], None)?,
                    None => Vec::new(),
                };
                let buffer = self.buffer(4 * values.len() as u64);
                queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&values));
                tables.push(buffer);
            }
            let mut of_layer = Vec::new();
            for s in 0..if each { self.sequences.len() } else { 1 } {
                let mut made = Vec::new();
                for (p, plan) in plans.iter().enumerate() {
                    let spec = plan.spec();
                    let rows = s as u64 * self.room() as u64 * spec.num_kv_heads as u64;
                    let offsets = [(spec.k_storage(), spec.head_dim), (spec.v_storage(), spec.v_head_dim)]
                        .map(|(dtype, dim)| rows * dtype.row_bytes(dim));
                    let mut buffers = Buffers::new()
                        .with(Slot::K, &layer.k, offsets[0])
                        .with(Slot::V, &layer.v, offsets[1])
                        .with(Slot::Tables, &tables[p], 0)
                        .with(Slot::Step, &steps[layer.kind][p], 0);
                    for (slot, buffer) in &self.scratch {
                        buffers = buffers.with(*slot, buffer, 0);
                    }
                    made.push(self.gpu.pipelines().get(plan)?.bind(device, &buffers)?);
                }
                let (Some(attention), Some(append)) = (made.pop(), made.pop()) else { continue };
                of_layer.push(Calls { append, attention });
            }
            calls.push(of_layer);
        }
        Ok(Stage { plans, steps, calls })
    }

    /// Whether a step has more than one token of some sequence.
    fn many(&self) -> bool {
        self.parts.iter().any(|part| part.tokens > 1)
    }
    fn scratch(&self, slot: Slot) -> Result<&wgpu::Buffer> {
        let found = self.scratch.iter().find(|(other, _)| *other == slot);
        found.map(|(_, buffer)| buffer).ok_or_else(|| format!("{slot:?}: no plan has it").into())
    }
    /// The row of a step's tensors where each new token stands.
    fn row_of_tokens(&self) -> Vec<usize> {
        let batched = self.options.place == Place::Contiguous && !self.many() && !self.one();
        match batched {
            true => self.parts.iter().map(|part| part.sequence).collect(),
            false => (0..self.parts.iter().map(|part| part.tokens).sum()).collect(),
        }
    }

    fn write_steps(&self) -> Result<()> {
        let starts = |lens: &mut dyn Iterator<Item = u32>| {
            let mut all = vec![0];
            lens.for_each(|n| all.push(all[all.len() - 1] + n));
            all
        };
        let tokens =
            |s: usize| self.parts.iter().filter(|part| part.sequence == s).map(|part| part.tokens as u32).sum::<u32>();
        let count = self.sequences.len();
        let cu_q = starts(&mut (0..count).map(tokens));
        let cu_k = starts(&mut self.sequences.iter().map(|s| s.len));
        let slots: Vec<u32> = self.sequences.iter().map(|s| s.start).collect();
        let width = self.sequences.iter().map(|s| s.pages.len()).max().unwrap_or(0);
        let padded =
            |s: &Sequence| s.pages.iter().copied().chain(std::iter::repeat(u32::MAX)).take(width).collect::<Vec<_>>();
        let table: Vec<u32> = self.sequences.iter().flat_map(padded).collect();
        // a sequence without a token in this step gets a row that is not counted
        let lens: Vec<u32> =
            self.sequences.iter().enumerate().map(|(s, of)| if tokens(s) == 0 { of.len + 1 } else { of.len }).collect();
        let mut step = Step::default();
        match self.options.place {
            Place::Contiguous if self.many() || self.one() => {
                let part = self.parts.first().ok_or("a step: has no tokens")?;
                (step.q_len, step.kv_len) = (part.tokens as u32, self.sequences[part.sequence].len);
            }
            Place::Contiguous => {
                (step.q_len, step.kv_len, step.kv_lens) = (1, lens.iter().copied().max().unwrap_or(0), &lens);
            }
            place => {
                (step.q_len, step.kv_len) = (cu_q[count], cu_k[count]);
                (step.cu_seqlens_q, step.cu_seqlens_k) = (&cu_q, &cu_k);
                if place == Place::Slots { step.slots = &slots } else { step.block_table = &table }
            }
        }
        let stage = self.stages[self.many() as usize].as_ref().ok_or("a step: before any plan")?;
        for (plans, buffers) in stage.plans.iter().zip(&stage.steps) {
            for (plan, buffer) in plans.iter().zip(buffers) {
                let mut words = vec![0; plan.step_layout().words as usize];
                plan.step_layout().write(&step, &mut words)?;
                self.gpu.queue().write_buffer(buffer, 0, bytemuck::cast_slice(&words));
            }
        }
        Ok(())
    }

    fn read(&self, mut encoder: wgpu::CommandEncoder, buffer: &wgpu::Buffer, size: u64) -> Result<Vec<u8>> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = size.next_multiple_of(4);
        let device = self.gpu.device();
        let staging =
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
        self.gpu.queue().submit([encoder.finish()]);
        Ok(self.gpu.read_back(&staging)?)
    }

    /// Turns the rotated keys of all caches n positions back.
    fn turn_back(&self, n: u32) -> Result<()> {
        let rows = self.rows();
        let positions = vec![-(n as i32); rows as usize];
        for layer in &self.layers {
            let mut spec = self.kinds[layer.kind].clone();
            let Some(rotary) = &mut spec.rotary else { continue };
            // what else was done to a key is done
            (rotary.attention_factor, rotary.keys_rotated) = (1.0, false);
            if rotary.pairing == Pairing::InterleavedInHalfOut {
                rotary.pairing = Pairing::Half;
            }
            if spec.norm.is_some_and(|norm| norm.after_rotation) {
                return Err(
                    "--shift with --keys rotated: this model's norm stands after the rotation; take unrotated".into()
                );
            }
            (spec.norm, spec.mask, spec.positions) = (None, Mask::none(), Positions::Ids);
            let shape = Shape::new(&spec, 1, 1, rows);
            let plan = Plan::new(Kernel::RotateK { in_place: true }, &spec, &shape, self.gpu.limits())?;
            let mut words = vec![0; plan.step_layout().words as usize];
            let step = Step { q_len: 1, kv_len: rows, q_positions: &[0], k_positions: &positions, ..Step::default() };
            plan.step_layout().write(&step, &mut words)?;
            let buffer = self.buffer(4 * words.len() as u64);
            self.gpu.queue().write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
            let tables = self.buffer(4);
            let bound =
                Buffers::new().with(Slot::Out, &layer.k, 0).with(Slot::Step, &buffer, 0).with(Slot::Tables, &tables, 0);
            let dispatch = self.gpu.pipelines().get(&plan)?.bind(self.gpu.device(), &bound)?;
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
            self.gpu.queue().submit([encoder.finish()]);
        }
        Ok(())
    }
}

impl Attention for Device<'_> {
    fn begin(&mut self, parts: &[Part]) -> Result<()> {
        for part in parts {
            let sequence = &mut self.sequences[part.sequence];
            sequence.len += part.tokens as u32;
            if self.options.place == Place::Pages {
                while sequence.pages.len() < sequence.len.div_ceil(PAGE) as usize {
                    sequence.pages.push(self.free.pop().ok_or("pages: none is free")?);
                }
            }
        }
        self.parts = parts.to_vec();
        let lens: Vec<usize> = parts.iter().map(|part| self.len(part.sequence)).collect();
        if self.specs.of(lens.into_iter())? {
            self.plan()?;
        }
        let _turn = turn(self.gpu.device());
        self.write_steps()
    }

    fn attend(&mut self, layer: usize, q: &[f64], k: &[f64], v: &[f64]) -> Result<Vec<f64>> {
        let _turn = turn(self.gpu.device());
        let kind = &self.kinds[self.layers[layer].kind];
        let many = self.many();
        let stage = self.stages[many as usize].as_ref().ok_or("a step: before any plan")?;
        let each = stage.calls[layer].len() > 1;
        let calls = &stage.calls[layer][if each { self.parts[0].sequence } else { 0 }];
        let at = self.row_of_tokens();
        let rows = at.iter().max().map_or(0, |last| last + 1);
        let [dim, v_dim] = self.dims[self.layers[layer].kind].map(|n| n as usize);
        let [heads, kv_heads] = [kind.num_heads, kind.num_kv_heads].map(|n| n as usize);
        let [stored, v_stored] = [kind.head_dim, kind.v_head_dim].map(|n| n as usize);
        let tensors = [
            (Slot::Q, q, kind.dtype, heads, [dim, stored]),
            (Slot::NewK, k, Dtype::F32, kv_heads, [dim, stored]),
            (Slot::NewV, v, Dtype::F32, kv_heads, [v_dim, v_stored]),
        ];
        for (slot, values, dtype, heads, [dim, stored]) in tensors {
            let mut placed = vec![0.0f32; rows * heads * stored];
            for (row, values) in at.iter().zip(values.chunks_exact(heads * dim)) {
                let to = placed[row * heads * stored..].chunks_exact_mut(stored);
                for (to, values) in to.zip(values.chunks_exact(dim)) {
                    to.iter_mut().zip(values).for_each(|(to, x)| *to = *x as f32);
                }
            }
            let mut bytes = Data::from_f32(dtype, &placed).bytes().to_vec();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            self.gpu.queue().write_buffer(self.scratch(slot)?, 0, &bytes);
        }
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            calls.append.encode(&mut pass);
            calls.attention.encode(&mut pass);
        }
        let width = heads * v_stored;
        let bytes = self.read(encoder, self.scratch(Slot::Out)?, (rows * width * kind.dtype.size()) as u64)?;
        let out = Data::from_bytes(kind.dtype, &bytes).to_f32();
        let heads = at.iter().flat_map(|row| out[row * width..(row + 1) * width].chunks_exact(v_stored));
        Ok(heads.flat_map(|head| head[..v_dim].iter().map(|x| *x as f64)).collect())
    }

    fn shift(&mut self, n: usize) -> Result<()> {
        let _turn = turn(self.gpu.device());
        let n = n as u32;
        if self.options.place == Place::Pages && !n.is_multiple_of(PAGE) {
            return Err(format!("--shift: is {n}; give a multiple of the {PAGE} rows of a page").into());
        }
        if self.options.keys == Keys::Rotated {
            self.turn_back(n)?;
        }
        match self.options.place {
            Place::Slots => self.sequences.iter_mut().for_each(|sequence| sequence.start += n),
            Place::Pages => {
                for sequence in &mut self.sequences {
                    self.free.extend(sequence.pages.drain(..(n / PAGE) as usize));
                }
            }
            // rows move to the front, by way of another buffer: a copy may not overlap itself
            Place::Contiguous => {
                let room = self.room() as u64;
                let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
                for layer in &self.layers {
                    let kind = &self.kinds[layer.kind];
                    for (buffer, dtype, dim) in
                        [(&layer.k, kind.k_storage(), kind.head_dim), (&layer.v, kind.v_storage(), kind.v_head_dim)]
                    {
                        let row = kind.num_kv_heads as u64 * dtype.row_bytes(dim);
                        let other = self.buffer(buffer.size());
                        encoder.copy_buffer_to_buffer(buffer, 0, &other, 0, buffer.size());
                        for (s, sequence) in self.sequences.iter().enumerate() {
                            let start = s as u64 * room * row;
                            let kept = (sequence.len - n) as u64 * row;
                            encoder.copy_buffer_to_buffer(&other, start + n as u64 * row, buffer, start, kept);
                        }
                    }
                }
                self.gpu.queue().submit([encoder.finish()]);
            }
        }
        self.sequences.iter_mut().for_each(|sequence| sequence.len -= n);
        Ok(())
    }

    fn len(&self, sequence: usize) -> usize {
        self.sequences[sequence].len as usize
    }
}
