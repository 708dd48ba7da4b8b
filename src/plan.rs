//! How it is computed: which kernel from which files, tiles, dispatches, workspace. Pure: no device, no shader compiler.

use crate::compose::{Composed, Target};
use crate::family::{Call, SCRATCH};
use crate::layout::{Binding, CHUNK_STRIDE, HEAD_ENTRIES, MAX_PAIRS, Params, ROTARY_ENTRIES, Slot};
use crate::linear::{self, StateLayout};
use crate::packed;
use crate::tables::TableLayout;
use crate::tuning::{CPU_FLOP_PER_DISPATCH, CPU_LOOP_ROUNDS, GPU_FLOP_PER_DISPATCH, Source, TILE_Q, Tuning, Tunings};
use crate::variant::{Files, label, preamble};
use crate::{
    Angle, AngleTable, Bias, Dense, Dtype, Error, Positions, Problem, Result, Shape, Spec, Strides, bias, phase,
    trusted, user,
};
use std::collections::BTreeMap;
use std::ops::Range;

/// What a plan computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// out and lse.
    Attention,
    /// The score matrix, `[batch, num_heads, q_len, kv_len]` f32, -inf where masked.
    Scores,
    /// Linear attention, out and the state: see [`Linear`](crate::Linear).
    Linear,
    /// R(m) q.
    RotateQ {
        /// Into the same buffer (bound as `out`) instead of another.
        in_place: bool,
    },
    /// R(n) k, rows below kv_len.
    RotateK {
        /// Into the same buffer (bound as `out`) instead of another.
        in_place: bool,
    },
    /// x + P\[m\]: see [`Plan::embed`].
    Embed {
        /// Into the same buffer (bound as `out`) instead of another.
        in_place: bool,
    },
}

impl Kernel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kernel::Attention => "attention",
            Kernel::Scores => "scores",
            Kernel::Linear => "linear",
            Kernel::RotateQ { in_place: false } => "rotate_q",
            Kernel::RotateQ { in_place: true } => "rotate_q_in_place",
            Kernel::RotateK { in_place: false } => "rotate_k",
            Kernel::RotateK { in_place: true } => "rotate_k_in_place",
            Kernel::Embed { in_place: false } => "embed",
            Kernel::Embed { in_place: true } => "embed_in_place",
        }
    }
    pub(crate) fn rotates_only(self) -> bool {
        matches!(self, Kernel::RotateQ { .. } | Kernel::RotateK { .. })
    }
    pub(crate) fn in_place(self) -> bool {
        match self {
            Kernel::RotateQ { in_place } | Kernel::RotateK { in_place } | Kernel::Embed { in_place } => in_place,
            Kernel::Attention | Kernel::Scores | Kernel::Linear => false,
        }
    }
}

/// What a plan must respect. [`Limits::default`] is WebGPU's defaults, which every device has.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// `max_storage_buffer_binding_size`, bytes.
    pub max_binding_size: u64,
    /// `max_storage_buffers_per_shader_stage`.
    pub max_storage_buffers: u32,
    /// `max_compute_workgroups_per_dimension`.
    pub max_workgroups: u32,
    /// `max_compute_workgroup_storage_size`, bytes.
    pub max_workgroup_storage: u32,
    /// `max_compute_invocations_per_workgroup`.
    pub max_invocations: u32,
    /// Floating-point operations that one dispatch may hold, so that no watchdog is near.
    pub max_flop_per_dispatch: f64,
    /// Whether loops over a row keep run-time bounds: software adapters compile unrolled ones for seconds.
    pub rolled_loops: bool,
    /// Rounds of all loops that an invocation may make in a dispatch; longer work is cut over keys.
    pub max_loop_rounds: u32,
    /// Whether the adapter is a software one, whose invocations are lanes of a vector register.
    pub cpu: bool,
    /// The size of every subgroup, where the device has the feature and but one size; else 0.
    pub subgroup_size: u32,
    /// Whether shaders may compute in f16.
    pub f16: bool,
    /// Rows of the square matrices (f16 x f16 + f32) of cooperative matrix multiplication: 8, 16, or 0 for none.
    pub cooperative_matrix: u32,
    /// A family and its numbers to take, where they suit, instead of the table's.
    pub tuning: Option<Tuning>,
    /// Winners that were measured on the device: they go before the table, in the buckets that they are for, where they suit.
    pub tunings: Tunings,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_binding_size: 128 << 20,
            max_storage_buffers: 8,
            max_workgroups: 65_535,
            max_workgroup_storage: 16_384,
            max_invocations: 256,
            max_flop_per_dispatch: GPU_FLOP_PER_DISPATCH,
            rolled_loops: false,
            max_loop_rounds: u32::MAX,
            cpu: false,
            subgroup_size: 0,
            f16: false,
            cooperative_matrix: 0,
            tuning: None,
            tunings: Tunings::default(),
        }
    }
}

impl Limits {
    /// For a software adapter: shorter dispatches, rolled loops, a limit on their rounds.
    pub fn for_cpu(self) -> Self {
        Limits {
            max_flop_per_dispatch: CPU_FLOP_PER_DISPATCH,
            rolled_loops: true,
            max_loop_rounds: CPU_LOOP_ROUNDS,
            cpu: true,
            ..self
        }
    }
}

/// Where the caller writes what changes with every step: word offsets into the `step` buffer (u32 words).
///
/// Words 0 and 1 are q_len and kv_len. Positions are i32 bit patterns with the capacity as row stride; mask bits are
/// 32 keys a word, the lowest bit first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct StepLayout {
    /// Words in all.
    pub words: u32,
    /// `[streams, batch, q_capacity]` i32.
    pub q_positions: Option<Range<u32>>,
    /// `[streams, batch, kv_capacity]` i32.
    pub k_positions: Option<Range<u32>>,
    /// `[batch, q_capacity]` i32.
    pub q_segments: Option<Range<u32>>,
    /// `[batch, kv_capacity]` i32.
    pub k_segments: Option<Range<u32>>,
    /// `[batch]` u32.
    pub kv_lens: Option<Range<u32>>,
    /// `[sequences + 1]` u32; a step of fewer sequences repeats the last entry to the end.
    pub cu_seqlens_q: Option<Range<u32>>,
    /// `[sequences + 1]` u32, likewise.
    pub cu_seqlens_k: Option<Range<u32>>,
    /// `[batch or 1, heads or 1, q_capacity or 1, ceil(kv_capacity / 32)]`.
    pub mask: Option<Range<u32>>,
    #[serde(skip)]
    streams: u32,
    #[serde(skip)]
    mask_shape: [u32; 4],
    #[serde(skip)]
    shape: [u32; 3],
    /// `max_seqlen_q` and `max_seqlen_k` of the shape.
    #[serde(skip)]
    max_seqlens: [u32; 2],
    /// Rows of a table that every q position must be one of.
    #[serde(skip)]
    rows: Option<u32>,
}

/// The values of one step, as [`StepLayout::write`] takes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step<'a> {
    /// Query tokens, at most the plan's q_len.
    pub q_len: u32,
    /// Keys in use, at most the plan's kv_len; with kv_lens, an upper bound of them.
    pub kv_len: u32,
    /// Keys in use of every sequence, where `spec.kv_lens`.
    pub kv_lens: &'a [u32],
    /// `[streams, batch, len]` with len from `q_len` to the capacity, where `spec.positions` is `Ids`.
    pub q_positions: &'a [i32],
    /// `[streams, batch, len]` with len from `kv_len` to the capacity, where `spec.positions` is `Ids`.
    pub k_positions: &'a [i32],
    /// `[batch, len]` with len from `q_len` to the capacity, where a term reads segments.
    pub q_segments: &'a [i32],
    /// `[batch, len]` with len from `kv_len` to the capacity, where a term reads segments.
    pub k_segments: &'a [i32],
    /// `[sequences + 1]`, where `spec.packed`: the first token of every sequence in q, then `q_len`. No more sequences than the plan
    /// has, none longer than its `max_seqlen_q`.
    pub cu_seqlens_q: &'a [u32],
    /// The same in k, to `kv_len`.
    pub cu_seqlens_k: &'a [u32],
    /// true: attend, where `spec.mask.dense`; the shape that the plan was made for.
    pub mask: Option<&'a Dense<bool>>,
}

impl StepLayout {
    /// q_positions alone, which must be rows of a table if there is one.
    pub(crate) fn of_positions(words: u32, [batch, len]: [u32; 2], rows: Option<u32>) -> Self {
        StepLayout {
            words,
            q_positions: Some(8..words),
            k_positions: None,
            q_segments: None,
            cu_seqlens_q: None,
            cu_seqlens_k: None,
            max_seqlens: [0; 2],
            k_segments: None,
            streams: 1,
            kv_lens: None,
            mask: None,
            mask_shape: [1; 4],
            shape: [batch, len, 0],
            rows,
        }
    }

    /// Writes a step into `words` (at least `self.words` of them), without allocating. What the spec does not use is an error where it is
    /// given.
    ///
    /// ```
    /// use ropewalk::{Kernel, Limits, Mask, Plan, Shape, Spec, Step};
    /// let mut spec = Spec::new(8, 2, 64);
    /// (spec.packed, spec.mask) = (true, Mask::causal());
    /// // up to 16 sequences, 512 query tokens and 4096 keys in all, of one sequence at most 128 and 1024
    /// let mut shape = Shape::packed(&spec, 16, 512, 4096);
    /// (shape.max_seqlen_q, shape.max_seqlen_k) = (128, 1024);
    /// let plan = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default())?;
    /// let mut words = vec![0; plan.step_layout().words as usize];
    /// // three sequences: a prompt of 100 tokens, and one token each after caches of 300 and 7
    /// let (q, k) = ([0, 100, 101, 102], [0, 100, 400, 407]);
    /// let step = Step { q_len: 102, kv_len: 407, cu_seqlens_q: &q, cu_seqlens_k: &k, ..Step::default() };
    /// plan.step_layout().write(&step, &mut words)?;
    /// let longer = Step { q_len: 200, cu_seqlens_q: &[0, 198, 199, 200], ..step };
    /// let error = plan.step_layout().write(&longer, &mut words).unwrap_err();
    /// assert!(error.to_string().contains("sequence 0 has 198 tokens"));
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    pub fn write(&self, step: &Step, words: &mut [u32]) -> Result<()> {
        let [batch, q_capacity, kv_capacity] = self.shape;
        let Some(words) = words.get_mut(..self.words as usize) else {
            return Err(Error::input("step", format!("{} words", words.len()), format!("give {} of them", self.words)));
        };
        for (name, n, capacity) in [("q_len", step.q_len, q_capacity), ("kv_len", step.kv_len, kv_capacity)] {
            if n > capacity {
                return Err(Error::input(name, format!("{n} of {capacity}"), "plan for a larger shape, or give less"));
            }
        }
        self.check_unused(step)?;
        crate::Embed::check_positions(self.rows, step.q_positions)?;
        words[..8].copy_from_slice(&[step.q_len, step.kv_len, 0, 0, 0, 0, 0, 0]);
        if let Some(at) = &self.kv_lens {
            if step.kv_lens.len() != batch as usize || step.kv_lens.iter().any(|n| *n > step.kv_len) {
                return Err(Error::input(
                    "kv_lens",
                    format!("{:?}", step.kv_lens),
                    format!("give one length for each of {batch} sequences, none above kv_len = {}", step.kv_len),
                ));
            }
            words[at.start as usize..at.end as usize].copy_from_slice(step.kv_lens);
        }
        self.write_sequences(step, words)?;
        let rows = [
            ("q_positions", &self.q_positions, step.q_positions, self.streams, step.q_len, q_capacity),
            ("k_positions", &self.k_positions, step.k_positions, self.streams, step.kv_len, kv_capacity),
            ("q_segments", &self.q_segments, step.q_segments, 1, step.q_len, q_capacity),
            ("k_segments", &self.k_segments, step.k_segments, 1, step.kv_len, kv_capacity),
        ];
        for (name, at, ids, streams, least, capacity) in rows {
            let Some(at) = at else { continue };
            let rows = streams as usize * batch as usize;
            let len = ids.len() / rows;
            if ids.len() != len * rows || len < least as usize || len > capacity as usize {
                return Err(Error::input(
                    name,
                    format!("{} values for {streams} streams of {batch} sequences", ids.len()),
                    format!("give [streams, batch, len] with len from {least} to {capacity}"),
                ));
            }
            for (b, row) in ids.chunks_exact(len.max(1)).enumerate() {
                let start = at.start as usize + b * capacity as usize;
                words[start..start + len].copy_from_slice(bytemuck::cast_slice(row));
            }
        }
        if let Some(at) = &self.mask {
            self.write_mask(step, &mut words[at.start as usize..at.end as usize])?;
        }
        Ok(())
    }

    /// What a step gives, the layout must have.
    fn check_unused(&self, step: &Step) -> Result<()> {
        let unused = [
            ("kv_lens", &self.kv_lens, step.kv_lens.len(), "spec.kv_lens"),
            ("q_positions", &self.q_positions, step.q_positions.len(), "spec.positions ids"),
            ("k_positions", &self.k_positions, step.k_positions.len(), "spec.positions ids"),
            ("q_segments", &self.q_segments, step.q_segments.len(), "an index map over segments"),
            ("k_segments", &self.k_segments, step.k_segments.len(), "an index map over segments"),
            ("cu_seqlens_q", &self.cu_seqlens_q, step.cu_seqlens_q.len(), "spec.packed"),
            ("cu_seqlens_k", &self.cu_seqlens_k, step.cu_seqlens_k.len(), "spec.packed"),
            ("mask", &self.mask, step.mask.map_or(0, |mask| mask.data.len()), "spec.mask.dense"),
        ];
        match unused.into_iter().find(|(_, at, given, _)| at.is_none() && *given > 0) {
            Some((name, _, given, field)) => Err(Error::input(
                name,
                format!("{given} values given"),
                format!("the spec does not read them ({field}): set it, or leave them out"),
            )),
            None => Ok(()),
        }
    }

    fn write_sequences(&self, step: &Step, words: &mut [u32]) -> Result<()> {
        let (Some(at_q), Some(at_k)) = (&self.cu_seqlens_q, &self.cu_seqlens_k) else { return Ok(()) };
        let (q, k) = (step.cu_seqlens_q, step.cu_seqlens_k);
        packed::check(q, k, step.q_len, step.kv_len)?;
        let both = [("cu_seqlens_q", q, at_q, "max_seqlen_q"), ("cu_seqlens_k", k, at_k, "max_seqlen_k")];
        for ((name, starts, at, field), most) in both.into_iter().zip(self.max_seqlens) {
            if starts.len() > at.len() {
                let problem = format!("{} sequences of {}", starts.len() - 1, at.len() - 1);
                return Err(Error::input(name, problem, "plan for a larger shape.sequences, or give fewer"));
            }
            if let Some((s, n)) = packed::lengths(starts).enumerate().find(|(_, n)| *n > most) {
                let help = format!("plan for a larger shape.{field}, which is {most}");
                return Err(Error::input(name, format!("sequence {s} has {n} tokens"), help));
            }
            let total = starts.last().copied().unwrap_or(0);
            let padded = starts.iter().copied().chain(std::iter::repeat(total));
            let to = words.iter_mut().take(at.end as usize).skip(at.start as usize);
            to.zip(padded).for_each(|(word, start)| *word = start);
        }
        Ok(())
    }

    fn write_mask(&self, step: &Step, words: &mut [u32]) -> Result<()> {
        let Some(mask) = step.mask.filter(|m| m.shape == self.mask_shape) else {
            return Err(Error::input(
                "mask",
                format!("shape {:?}", step.mask.map(|m| m.shape)),
                format!("the plan was made for {:?}", self.mask_shape),
            ));
        };
        let keys = self.shape[2];
        let row_words = keys.div_ceil(32) as usize;
        words.fill(0);
        for (r, row) in words.chunks_exact_mut(row_words).enumerate() {
            for j in 0..keys as usize {
                let seen = if mask.shape[3] == 1 { mask.data[r] } else { mask.data[r * keys as usize + j] };
                row[j / 32] |= (seen as u32) << (j % 32);
            }
        }
        Ok(())
    }
}

/// One dispatch of a plan: its part of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkDispatch {
    /// First row tile, kv head and sequence; with `keys` the `chunk` uniform.
    pub first: [u32; 3],
    /// The key rows (of each sequence) that it covers, first and one past the last.
    pub keys: [u32; 2],
    /// Workgroups in x (row tiles), y (kv heads) and z (batch).
    pub workgroups: [u32; 3],
    /// The entry point: `main`, or one that makes products of A or B for the dispatches of `main` behind it.
    pub entry: &'static str,
    /// Row tiles of the part that this dispatch and what runs before it belong to.
    pub(crate) tiles: u32,
    /// Heads of that part.
    pub(crate) heads: u32,
}

/// A kernel chosen and laid out for a spec, a shape and a device's limits.
///
/// ```
/// use ropewalk::{Kernel, Limits, Mask, Pairing, Plan, Rotary, Shape, Spec, Target};
/// let mut spec = Spec::new(32, 8, 128);
/// spec.rotary = Some(Rotary::new(Pairing::Half, 128, 500_000.0));
/// spec.mask = Mask::causal();
/// let shape = Shape::new(&spec, 1, 1, 4096); // decode into a cache of 4096 tokens
/// let plan = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default())?;
/// println!("{}", plan.wgsl(Target::Native));
/// for b in plan.bindings() {
///     println!("@binding({}) {}: {} ({:?}, {} bytes)", b.binding, b.name, b.wgsl_type, b.access, b.size);
/// }
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) kernel: Kernel,
    pub(crate) aligned: bool,
    pub(crate) composed: Composed,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) params: Params,
    pub(crate) rotary: Vec<[u32; 4]>,
    pub(crate) heads: Vec<[f32; 4]>,
    pub(crate) chunks: Vec<ChunkDispatch>,
    pub(crate) step: StepLayout,
    pub(crate) label: String,
    pub(crate) tile: [u32; 2],
    pub(crate) tuning: Tuning,
    pub(crate) source: Source,
    pub(crate) spec: Spec,
    pub(crate) shape: Shape,
    pub(crate) limits: Limits,
}

impl Plan {
    /// Plans `kernel` with the family and numbers of the tuning table (or of `limits.tuning`, where that suits). Errors name the
    /// field of the spec or shape, or the limit that is too small.
    pub fn new(kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits) -> Result<Self> {
        Self::with_tuning(kernel, spec, shape, limits, None)
    }

    /// Plans `kernel` with a family and numbers of the caller's, one of [`Tuning::candidates`]; an error where it does not suit.
    pub fn with_tuning(
        kernel: Kernel,
        spec: &Spec,
        shape: &Shape,
        limits: &Limits,
        tuning: Option<Tuning>,
    ) -> Result<Self> {
        let call = Call::new(kernel, spec, shape, limits)?;
        let aligned = call.aligned;
        if user::reads_data(spec) && shape.user_words == 0 {
            let help = "plan for the words of user_data that score_mod and mask_mod read, 1 or more";
            return Err(Error::spec("shape.user_words", "is 0", help));
        }
        let source = match kernel {
            Kernel::RotateK { .. } => shape.k,
            _ => shape.q,
        };
        let target = if kernel.in_place() { source } else { shape.out };
        check_target(kernel, spec, shape, target)?;
        let (mut params, step) = place(kernel, spec, shape, source, target)?;
        let (mut tuning, source_of_tuning) = match tuning {
            Some(tuning) => (tuning.check(&call)?, Source::Asked),
            None => Tuning::choose(&call),
        };
        let laid = tuning.family.lay_out(&call, &tuning)?;
        let chunks = laid.chunks;
        if let Some(n) = chunks.iter().flat_map(|c| c.workgroups).find(|n| *n > limits.max_workgroups) {
            return Err(Error::limit(
                "max_compute_workgroups_per_dimension",
                format!("a dispatch takes {n} workgroups of {}", limits.max_workgroups),
                "call for fewer tokens at a time",
            ));
        }
        let files = Files::new(&call, &tuning, laid.carry, laid.products.gathered.clone());
        let element = match (kernel, aligned) {
            (_, true) => "Raw4",
            (_, false) => "Raw1",
        };
        let mut bindings = Vec::new();
        // every kind of scratch is whole vectors and starts at one, wherever a caller's buffer starts
        let scratch_words = match laid.scratch.iter().sum::<u64>() {
            0 => 0,
            _ => laid.scratch.iter().map(|words| words.next_multiple_of(4)).sum::<u64>() + 6,
        };
        for slot in &files.slots {
            let (mut elements, bytes) =
                binding_elements(*slot, kernel, spec, shape, source, target, step.words, chunks.len(), laid.carry);
            if *slot == Slot::Work {
                elements += scratch_words as u128;
            }
            let size = binding_size(*slot, elements, bytes, limits)?;
            let element = match (*slot, kernel, spec.dtype, aligned) {
                (Slot::Out, Kernel::Scores, ..) => "u32",
                (Slot::Out, _, Dtype::F16 | Dtype::Bf16, false) => "atomic<u32>",
                _ => element,
            };
            bindings.push(slot.binding(element, size));
        }
        tuning.checks |= !trusted::sizes_fit(&bindings);

        let preamble = preamble(kernel, spec, laid.tile, &laid.constants, &bindings, &files.glue);
        let texts = if kernel.rotates_only() { Vec::new() } else { user::texts(spec) };
        user::apart(&texts, &preamble)?;
        let composed = Composed::new(&preamble, &files.files, &texts);
        // scratch stands behind lse and carried state
        let mut offsets = [0; SCRATCH];
        let mut next = base_words(kernel, spec, shape, laid.carry).next_multiple_of(4);
        for (offset, words) in offsets.iter_mut().zip(laid.scratch) {
            *offset = u32::try_from(next)
                .map_err(|_| Error::limit("work", "more than 2^32 words", "call for fewer sequences at a time"))?;
            next += words.next_multiple_of(4);
        }
        [params.query_products, params.key_products, params.prepared_q, params.prepared_k, params.partials] = offsets;
        [params.splits, params.split_keys] = laid.splits;
        let rotary = rotary_entries(spec);
        let heads = head_entries(spec);
        let mut label = label(kernel, spec, aligned, laid.tile, &laid.label);
        if laid.products.gathered.contains(&true) {
            label.push_str(".gathered");
        }
        Ok(Plan {
            kernel,
            aligned,
            composed,
            bindings,
            params,
            rotary,
            heads,
            chunks,
            step,
            label,
            tile: laid.tile,
            tuning,
            source: source_of_tuning,
            spec: spec.clone(),
            shape: *shape,
            limits: *limits,
        })
    }

    /// What every kernel takes of a device.
    pub(crate) fn check_limits(limits: &Limits) -> Result<()> {
        for (name, have, need) in [
            ("max_compute_workgroup_storage_size", limits.max_workgroup_storage, 16_384),
            ("max_compute_invocations_per_workgroup", limits.max_invocations, TILE_Q),
            ("max_storage_buffers_per_shader_stage", limits.max_storage_buffers, 8),
            ("max_compute_workgroups_per_dimension", limits.max_workgroups, 1),
        ] {
            if have < need {
                let help = "request WebGPU's default limits at least";
                return Err(Error::limit(name, format!("is {have}, the kernels take {need}"), help));
            }
        }
        Ok(())
    }

    /// The plan of the one-call API for a problem.
    pub fn for_problem(kernel: Kernel, problem: &Problem, limits: &Limits) -> Result<Self> {
        let mut shape = problem.shape;
        let inputs = problem.inputs;
        shape.dense = inputs.attn_bias.as_ref().map_or([1; 4], |d| d.shape);
        shape.mask = inputs.mask.as_ref().map_or([1; 4], |d| d.shape);
        shape.angle_rows = problem.angle_rows();
        shape.aligned = [&inputs.q, &inputs.k, &inputs.v].iter().all(|t| t.offset().is_multiple_of(4));
        // rotated rows stand one after the other
        let spec = problem.spec;
        shape.out = match kernel {
            Kernel::RotateQ { .. } => Strides::bshd(shape.q_len, spec.num_heads, spec.head_dim),
            Kernel::RotateK { .. } => Strides::bshd(shape.kv_len, spec.num_kv_heads, spec.head_dim),
            _ => shape.out,
        };
        Self::new(kernel, spec, &shape, limits)
    }

    /// The composed shader; its entry point is `main`, before which some plans run others: [`ChunkDispatch::entry`].
    pub fn wgsl(&self, target: Target) -> &str {
        match target {
            Target::Native => &self.composed.source,
            Target::Web => self.composed.web.as_ref().unwrap_or(&self.composed.source),
        }
    }
    /// The entry points that its dispatches use, `main` among them.
    pub fn entries(&self) -> Vec<&'static str> {
        let mut entries: Vec<_> = self.chunks.iter().map(|c| c.entry).collect();
        entries.sort();
        entries.dedup();
        entries
    }
    /// The file below `shaders/` and the line in it that a line (from 1) of [`Plan::wgsl`] came from.
    pub fn locate(&self, line: usize) -> (&'static str, usize) {
        self.composed.locate(line)
    }
    /// The binding table, all in group 0, in the order of numbers.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }
    /// The entry of a slot, if the variant uses it.
    pub fn binding(&self, slot: Slot) -> Option<&Binding> {
        self.bindings.iter().find(|b| b.slot == slot)
    }
    /// Where the caller writes step values.
    pub fn step_layout(&self) -> &StepLayout {
        &self.step
    }
    /// Bytes of the `work` buffer that the caller provides; 0 where the kernel has none.
    pub fn workspace_size(&self) -> u64 {
        self.binding(Slot::Work).map_or(0, |b| b.size)
    }
    /// Of [`Kernel::Linear`]: the first f32 of S in `work`, `[batch, num_heads, features, v_head_dim]` (the heads that share a
    /// kv head hold the same), and of z behind it, `[batch, num_heads, ceil(v_head_dim / 64), features]`. They stay where they are:
    /// a plan whose spec has `linear.initial_state` goes on from them.
    pub fn state_offsets(&self) -> [u32; 2] {
        [self.params.state_offset, self.params.state_offset + self.params.normalizer]
    }
    /// The first f32 of lse in `work`, where `[batch, num_heads, q_len]` of it stand.
    pub fn lse_offset(&self) -> u32 {
        self.params.lse_offset
    }
    /// Bytes at the start of `work` that hold results: lse, or linear attention's state; the rest is scratch.
    #[cfg(feature = "wgpu")]
    pub(crate) fn work_results(&self) -> u64 {
        match self.kernel {
            Kernel::Attention => 4 * lse_words(&self.spec, &self.shape),
            Kernel::Linear => self.workspace_size(),
            _ => 0,
        }
    }
    /// The first f32 of the gates in `dense`, behind D and the words of a user's functions, where `[batch, num_heads, q_len]` of them stand (`spec.gated_bias`).
    pub fn gate_offset(&self) -> u32 {
        self.params.gate_offset
    }
    /// The dispatches, in order.
    pub fn chunks(&self) -> &[ChunkDispatch] {
        &self.chunks
    }
    /// Kernel, storage, shape constants, slots and tiles, as captures, logs, benches and reports show them.
    pub fn label(&self) -> &str {
        &self.label
    }
    /// Rows and keys of a tile.
    pub fn tile(&self) -> [u32; 2] {
        self.tile
    }
    /// The family and its numbers.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }
    /// Where they come from.
    pub fn tuning_source(&self) -> Source {
        self.source
    }
    /// The spec that was planned.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }
    /// The shape that was planned.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// The limits that it respects; a device must have what it takes of them.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
    /// Whether tensors are read four elements at a time, and must therefore start at a multiple of four elements.
    pub fn aligned(&self) -> bool {
        self.aligned
    }
    /// What the plan computes.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The contents of the `tables` buffer: the parameters of the spec's terms (as [`Inputs`](crate::Inputs) takes
    /// them), bias tables expanded over distances, then cos and sin.
    pub fn pack_tables(
        &self,
        parameters: &BTreeMap<String, Vec<f32>>,
        angles: Option<&AngleTable>,
    ) -> Result<Vec<f32>> {
        let packed = TableLayout::new(&self.spec).pack(&self.spec, parameters, angles)?;
        let want = self.binding(Slot::Tables).map_or(0, |b| b.size as usize / 4);
        if packed.len() < want {
            return Err(Error::input(
                "tables",
                format!("{} values", packed.len()),
                format!("the plan was made for {want}: bias tables and {} angle rows", self.shape.angle_rows),
            ));
        }
        Ok(packed)
    }

    /// The `params`, `chunk`, `rotary` or `heads` uniform as bytes: for engines that are not Rust, and for `bind`.
    pub fn uniform(&self, slot: Slot) -> Option<Vec<u8>> {
        self.binding(slot)?;
        match slot {
            Slot::Params => Some(bytemuck::bytes_of(&self.params).to_vec()),
            Slot::Rotary => Some(bytemuck::cast_slice(&self.rotary).to_vec()),
            Slot::Heads => Some(bytemuck::cast_slice(&self.heads).to_vec()),
            Slot::Chunk => {
                let mut bytes = vec![0u8; self.chunks.len() * CHUNK_STRIDE as usize];
                for (entry, chunk) in bytes.chunks_exact_mut(CHUNK_STRIDE as usize).zip(&self.chunks) {
                    entry[..12].copy_from_slice(bytemuck::cast_slice(&chunk.first));
                    entry[12..20].copy_from_slice(bytemuck::cast_slice(&chunk.keys));
                    entry[20..28].copy_from_slice(bytemuck::cast_slice(&[chunk.tiles, chunk.heads]));
                }
                Some(bytes)
            }
            _ => None,
        }
    }
}

/// See [`aligned`].
pub(crate) fn is_aligned(kernel: Kernel, spec: &Spec, shape: &Shape) -> bool {
    let source = if let Kernel::RotateK { .. } = kernel { shape.k } else { shape.q };
    let target = if kernel.in_place() { source } else { shape.out };
    aligned(kernel, spec, shape, source, target)
}

/// Whether every row starts and ends at a multiple of four elements, so that four are loaded at a time.
fn aligned(kernel: Kernel, spec: &Spec, shape: &Shape, source: Strides, target: Strides) -> bool {
    let fours = |s: &Strides| [s.batch, s.token, s.head].iter().all(|n| n.is_multiple_of(4));
    let dims = spec.head_dim.is_multiple_of(4);
    let rest = match kernel {
        Kernel::Attention | Kernel::Linear => {
            spec.v_head_dim.is_multiple_of(4) && [shape.k, shape.v, shape.out].iter().all(fours)
        }
        Kernel::Scores => fours(&shape.k),
        Kernel::RotateQ { .. } | Kernel::RotateK { .. } | Kernel::Embed { .. } => fours(&target),
    };
    shape.aligned && dims && fours(&source) && rest
}

/// Every offset and stride of a shape that [`Shape::check`] has seen: in `params`, and in the caller's `step`.
fn place(kernel: Kernel, spec: &Spec, shape: &Shape, source: Strides, target: Strides) -> Result<(Params, StepLayout)> {
    let [batch, q_len, kv_len] = [shape.batch, shape.q_len, shape.kv_len];
    let mut next = 8u64;
    let mut take = |wanted: bool, words: u64| -> Result<Option<Range<u32>>> {
        if !wanted {
            return Ok(None);
        }
        let start = next;
        next += words;
        match (u32::try_from(start), u32::try_from(next)) {
            (Ok(start), Ok(end)) => Ok(Some(start..end)),
            _ => Err(Error::limit("step", "more than 2^32 words", "use fewer sequences or broadcast the mask")),
        }
    };
    let ids = spec.positions == Positions::Ids;
    let streams = spec.position_streams();
    let (q_words, k_words) = (batch as u64 * q_len as u64, batch as u64 * kv_len as u64);
    let q_positions = take(ids, streams as u64 * q_words)?;
    let k_positions = take(ids, streams as u64 * k_words)?;
    let q_segments = take(spec.segments(), q_words)?;
    let k_segments = take(spec.segments(), k_words)?;
    let kv_lens = take(spec.kv_lens, batch as u64)?;
    let cu_seqlens_q = take(spec.packed, shape.sequences as u64 + 1)?;
    let cu_seqlens_k = take(spec.packed, shape.sequences as u64 + 1)?;
    let row_words = kv_len.div_ceil(32);
    let [mask_b, mask_h, mask_i, _] = shape.mask;
    let mask = take(spec.mask.dense, [mask_b, mask_h, mask_i, row_words].iter().map(|d| *d as u64).product())?;
    let start = |r: &Option<Range<u32>>| r.as_ref().map_or(0, |r| r.start);
    // the stride of a dimension, 0 where it is broadcast or the tensor is not used
    let stride = |wanted: bool, d: u32, inner: [u32; 3]| {
        let stride = inner.iter().map(|d| *d as u64).product::<u64>();
        match wanted && d != 1 {
            true => u32::try_from(stride).map_err(|_| {
                Error::limit("shape", "a dense tensor of 2^32 elements or more", "broadcast it, or use fewer sequences")
            }),
            false => Ok(0),
        }
    };
    let (dense, bits) = (spec.dense_bias, spec.mask.dense);
    let [dense_b, dense_h, dense_i, dense_j] = shape.dense;
    let table_words = TableLayout::new(spec).words;
    let angle_words = angle_words(spec, shape);
    let (Ok(angle_cos), Ok(angle_sin)) = (u32::try_from(table_words), u32::try_from(table_words + angle_words)) else {
        return Err(Error::limit("tables", "more than 2^32 words", "use smaller bias or angle tables"));
    };
    let gate_offset = u32::try_from(dense_words(spec, shape) + shape.user_words as u64)
        .map_err(|_| Error::limit("dense", "gates behind 2^32 words of bias", "broadcast the dense bias"))?;
    let cap = spec.logits_soft_cap.unwrap_or(1.0);
    let word = |words: u64| {
        u32::try_from(words).map_err(|_| Error::limit("work", "more than 2^32 words", "use fewer sequences"))
    };
    let [normalizer, maximum, state_offset] = match kernel {
        Kernel::Linear => {
            let state = StateLayout::new(spec, batch);
            [state.normalizer, state.maximum, 0]
        }
        _ => [0, 0, lse_words(spec, shape)],
    };
    let params = Params {
        q_capacity: q_len,
        kv_capacity: kv_len,
        num_heads: spec.num_heads,
        group: spec.group(),
        q_offset: 0,
        q_batch: source.batch,
        q_token: source.token,
        q_head: source.head,
        k_offset: 0,
        k_batch: shape.k.batch,
        k_token: shape.k.token,
        k_head: shape.k.head,
        v_offset: 0,
        v_batch: shape.v.batch,
        v_token: shape.v.token,
        v_head: shape.v.head,
        out_offset: 0,
        out_batch: target.batch,
        out_token: target.token,
        out_head: target.head,
        step_q_positions: start(&q_positions),
        step_k_positions: start(&k_positions),
        step_kv_lens: start(&kv_lens),
        step_mask: start(&mask),
        mask_batch: stride(bits, mask_b, [mask_h, mask_i, row_words])?,
        mask_head: stride(bits, mask_h, [mask_i, row_words, 1])?,
        mask_row: stride(bits, mask_i, [row_words, 1, 1])?,
        lse_offset: 0,
        dense_batch: stride(dense, dense_b, [dense_h, dense_i, dense_j])?,
        dense_head: stride(dense, dense_h, [dense_i, dense_j, 1])?,
        dense_row: stride(dense, dense_i, [dense_j, 1, 1])?,
        dense_key: stride(dense, dense_j, [1; 3])?,
        dense_offset: 0,
        angle_cos,
        angle_sin,
        state_offset: word(state_offset)?,
        softmax_scale: if kernel.rotates_only() { 1.0 } else { spec.scale() as f32 },
        soft_cap: cap as f32,
        inv_soft_cap: (1.0 / cap) as f32,
        splits: 0,
        head_chunks: spec.head_dim.div_ceil(4),
        v_chunks: spec.v_head_dim.div_ceil(4),
        pairs: spec.rotary.as_ref().map_or(0, |r| r.rotary_dim / 2),
        head_padded: padded(spec.head_dim),
        v_padded: padded(spec.v_head_dim),
        step_q_segments: start(&q_segments),
        step_k_segments: start(&k_segments),
        batches: batch,
        step_cu_q: start(&cu_seqlens_q),
        step_cu_k: start(&cu_seqlens_k),
        gate_offset,
        partials: 0,
        query_products: 0,
        key_products: 0,
        prepared_q: 0,
        prepared_k: 0,
        user_offset: u32::try_from(dense_words(spec, shape))
            .map_err(|_| Error::limit("dense", "more than 2^32 words before user_data", "broadcast the dense bias"))?,
        user_words: shape.user_words,
        first_batch: shape.first_batch,
        first_head: shape.first_head,
        feature_chunks: spec.features().div_ceil(4),
        normalizer: word(normalizer)?,
        maximum: word(maximum)?,
        split_keys: 0,
    };
    let words = next as u32;
    let shape3 = [batch, q_len, kv_len];
    let layout = StepLayout {
        words,
        q_positions,
        k_positions,
        q_segments,
        k_segments,
        kv_lens,
        cu_seqlens_q,
        cu_seqlens_k,
        mask,
        streams,
        mask_shape: shape.mask,
        shape: shape3,
        max_seqlens: [shape.max_seqlen_q, shape.max_seqlen_k],
        rows: None,
    };
    Ok((params, layout))
}

/// Words of D; the user's stand behind it.
fn dense_words(spec: &Spec, shape: &Shape) -> u64 {
    if spec.dense_bias { shape.dense.iter().map(|n| *n as u64).product() } else { 0 }
}

/// Words of cos, and of sin, in `tables`.
fn angle_words(spec: &Spec, shape: &Shape) -> u64 {
    let table = spec.rotary.as_ref().filter(|r| r.angle == Angle::Table);
    table.map_or(0, |r| shape.angle_rows as u64 * (r.rotary_dim as u64 / 2))
}

/// Rows of a bias term's table in `tables`, for each head.
pub(crate) fn table_rows(bias: &Bias) -> u64 {
    match bias {
        Bias::Table { .. } | Bias::T5 { .. } => {
            let (min, max) = bias::distances(bias);
            (max as i64 - min as i64 + 1) as u64
        }
        Bias::Indexed { .. } | Bias::LogCpb { .. } => bias.index().map_or(0, |index| index.rows()),
        Bias::Kerple { .. } => 2, // p and a
        Bias::Alibi { .. } => 0,
    }
}

/// Rows in place are read and written once.
fn check_target(kernel: Kernel, spec: &Spec, shape: &Shape, target: Strides) -> Result<()> {
    let (field, tokens, heads, dim) = match kernel {
        Kernel::RotateK { in_place: true } => ("shape.k", shape.kv_len, spec.num_kv_heads, spec.head_dim),
        Kernel::RotateQ { in_place: true } => ("shape.q", shape.q_len, spec.num_heads, spec.head_dim),
        // `out` is the caller's to lay out, a tensor of its own
        _ => return Ok(()),
    };
    match target.disjoint(shape.batch, tokens, heads, dim) {
        true => Ok(()),
        false => Err(Error::spec(field, format!("{target:?}: rows of {dim} elements overlap"), OVERLAP)),
    }
}
/// What to do about it.
pub(crate) const OVERLAP: &str = "rows that a kernel writes must be apart: copy the tensor, or compute into another";

/// The bytes of a binding of so many elements. Shaders count elements (of what is no tensor, words) in 32 bits, and `bind` adds those before
/// the caller's first.
pub(crate) fn binding_size(slot: Slot, elements: u128, bytes: u64, limits: &Limits) -> Result<u64> {
    let size = elements * bytes as u128;
    let too_large = |problem: String| {
        let help = "request a larger limit, or call for fewer sequences, heads or tokens at a time";
        Err(Error::limit("max_storage_buffer_binding_size", problem, help))
    };
    if slot.is_storage() && size > limits.max_binding_size as u128 {
        return too_large(format!("{} takes {size} bytes of a binding's {}", slot.name(), limits.max_binding_size));
    }
    match u64::try_from(size) {
        Ok(size) if elements <= u32::MAX as u128 => Ok(size),
        _ => too_large(format!("{} takes {elements} elements, of which shaders index 2^32 - 1", slot.name())),
    }
}

/// Elements of a binding and the bytes of one; of `work` without scratch.
#[allow(clippy::too_many_arguments)] // one match on the slot, over everything that decides a size
fn binding_elements(
    slot: Slot,
    kernel: Kernel,
    spec: &Spec,
    shape: &Shape,
    source: Strides,
    target: Strides,
    step_words: u32,
    chunks: usize,
    carry: bool,
) -> (u128, u64) {
    let [batch, q_len, kv_len] = [shape.batch, shape.q_len, shape.kv_len];
    let tensor =
        |s: Strides, len: u32, heads: u32, dim: u32| (s.extent(batch, len, heads, dim), spec.dtype.size() as u64);
    let words = |words: u64| (words as u128, 4);
    let uniform = |bytes: usize| (bytes as u128, 1);
    let (tokens, heads) = match kernel {
        Kernel::RotateK { .. } => (kv_len, spec.num_kv_heads),
        _ => (q_len, spec.num_heads),
    };
    match slot {
        Slot::Q => tensor(source, tokens, heads, spec.head_dim),
        Slot::K => tensor(shape.k, kv_len, spec.num_kv_heads, spec.head_dim),
        Slot::V => tensor(shape.v, kv_len, spec.num_kv_heads, spec.v_head_dim),
        Slot::Out => match kernel {
            Kernel::Attention | Kernel::Linear => tensor(target, tokens, heads, spec.v_head_dim),
            Kernel::Scores => words(lse_words(spec, shape) * kv_len as u64),
            Kernel::RotateQ { .. } | Kernel::RotateK { .. } | Kernel::Embed { .. } => {
                tensor(target, tokens, heads, spec.head_dim)
            }
        },
        Slot::Work if kernel == Kernel::Linear => words(StateLayout::new(spec, batch).words),
        Slot::Dense if kernel == Kernel::Linear => {
            words(batch as u64 * kv_len as u64 * spec.num_kv_heads as u64 * linear::decay_width(spec))
        }
        Slot::Work => words(base_words(kernel, spec, shape, carry)),
        Slot::Tables => words(TableLayout::new(spec).words + 2 * angle_words(spec, shape)),
        Slot::Dense => {
            let gates = if spec.gated_bias { lse_words(spec, shape) } else { 0 };
            words(dense_words(spec, shape) + shape.user_words as u64 + gates)
        }
        Slot::Step => words(step_words as u64),
        Slot::Params => uniform(size_of::<Params>()),
        Slot::Chunk => uniform(chunks * CHUNK_STRIDE as usize),
        Slot::Rotary => uniform(16 * ROTARY_ENTRIES),
        Slot::Heads => uniform(16 * HEAD_ENTRIES),
    }
}

/// Chunks of four elements in a row, rounded up to the four that a loop takes in a round.
pub(crate) fn padded(dim: u32) -> u32 {
    dim.div_ceil(16) * 4
}

/// Words of `work` before products: lse, and the carried state of every row.
fn base_words(kernel: Kernel, spec: &Spec, shape: &Shape, carry: bool) -> u64 {
    let state = if carry { 4 * spec.v_head_dim.div_ceil(4) as u64 + 4 } else { 0 };
    if kernel == Kernel::Attention { lse_words(spec, shape) * (1 + state) } else { 0 }
}

/// The most dispatches of a plan: their uniforms take 256 bytes each.
pub(crate) const MAX_DISPATCHES: u64 = 1 << 18;

pub(crate) fn too_many_dispatches() -> Error {
    let help = "call for fewer sequences, heads or tokens at a time";
    Error::limit("dispatches", format!("more than {MAX_DISPATCHES} of them"), help)
}

/// Words of lse in `work`; the carried state of a row stands behind them.
pub(crate) fn lse_words(spec: &Spec, shape: &Shape) -> u64 {
    shape.batch as u64 * spec.num_heads as u64 * shape.q_len as u64
}

/// A grid whose workgroups depend on nothing, cut into dispatches that respect the limits of grid and work.
pub(crate) fn cut_grid(grid: [u64; 3], flop_per_workgroup: f64, limits: &Limits) -> Result<Vec<ChunkDispatch>> {
    let budget = ((limits.max_flop_per_dispatch / flop_per_workgroup) as u64).max(1);
    let cap = limits.max_workgroups as u64;
    let x = grid[0].min(budget).min(cap);
    let y = grid[1].min((budget / x).max(1)).min(cap);
    let z = grid[2].min((budget / (x * y)).max(1)).min(cap);
    let by = [x, y, z];
    if grid.iter().zip(by).fold(1u64, |n, (whole, by)| n.saturating_mul(whole.div_ceil(by))) > MAX_DISPATCHES {
        return Err(too_many_dispatches());
    }
    let steps = |n: u64, by: u64| (0..n.div_ceil(by)).map(move |i| (i * by, by.min(n - i * by)));
    let mut chunks = Vec::new();
    for (z0, zn) in steps(grid[2], z) {
        for (y0, yn) in steps(grid[1], y) {
            for (x0, xn) in steps(grid[0], x) {
                let (first, workgroups) = ([x0, y0, z0].map(|n| n as u32), [xn, yn, zn].map(|n| n as u32));
                chunks.push(ChunkDispatch {
                    first,
                    keys: [0, 1],
                    workgroups,
                    entry: "main",
                    tiles: xn as u32,
                    heads: yn as u32,
                });
            }
        }
    }
    Ok(chunks)
}

/// The grid of linear attention, cut; the dispatches of a part follow each other in time.
pub(crate) fn split_times(spec: &Spec, shape: &Shape, limits: &Limits, tile: u32) -> Result<Vec<ChunkDispatch>> {
    let (ranges, flop) = linear::times(spec, shape.q_len, shape.kv_len, tile, limits)?;
    let grid = [linear::v_tiles(spec), spec.num_heads, shape.batch].map(|n| n as u64);
    let parts = cut_grid(grid, flop, limits)?;
    if parts.len() as u64 * ranges.len() as u64 > MAX_DISPATCHES {
        return Err(too_many_dispatches());
    }
    let of_part = |part: ChunkDispatch| ranges.iter().map(move |keys| ChunkDispatch { keys: *keys, ..part });
    Ok(parts.into_iter().flat_map(of_part).collect())
}

fn rotary_entries(spec: &Spec) -> Vec<[u32; 4]> {
    let mut entries = vec![[0; 4]; ROTARY_ENTRIES];
    if let Some(rotary) = &spec.rotary {
        let factor = (rotary.attention_factor as f32).to_bits();
        let frequencies = match rotary.angle {
            Angle::Table => vec![0.0; rotary.rotary_dim as usize / 2],
            _ => rotary.inv_freq(),
        };
        for (entry, f) in entries.iter_mut().zip(frequencies) {
            let inc = phase::increment(f);
            *entry = [(inc >> 32) as u32, inc as u32, (f as f32).to_bits(), factor];
        }
        for (pair, entry) in entries.iter_mut().skip(MAX_PAIRS).take(rotary.rotary_dim as usize / 2).enumerate() {
            // the stream, its highest bit set where xPos grows; |log2 decay| as a 64-bit fraction; the centre
            entry[0] = rotary.stream(pair) as u32;
            if let Some(xpos) = &rotary.xpos {
                let power = xpos.log2_decay(pair, rotary.rotary_dim);
                let inc = (power.abs() * 2f64.powi(64)) as u64;
                entry[0] |= ((power > 0.0) as u32) << 31;
                [entry[1], entry[2], entry[3]] = [(inc >> 32) as u32, inc as u32, xpos.centre as u32];
            }
        }
    }
    entries
}

fn head_entries(spec: &Spec) -> Vec<[f32; 4]> {
    let mut entries = vec![[0.0; 4]; HEAD_ENTRIES];
    for (entry, slope) in entries.iter_mut().zip(spec.bias.iter().flat_map(|b| bias::slopes(b, spec.num_heads))) {
        entry[0] = slope as f32;
    }
    if let Some(gammas) = spec.linear.as_ref().and_then(|l| l.gammas(spec.num_kv_heads)) {
        let of_heads = gammas.into_iter().flat_map(|g| std::iter::repeat_n(g, spec.group() as usize));
        entries.iter_mut().zip(of_heads).for_each(|(entry, gamma)| entry[0] = gamma as f32);
    }
    entries
}
