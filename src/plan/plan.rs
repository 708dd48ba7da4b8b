//! How it is computed: which kernel from which files, tiles, dispatches, workspace. Pure: no device, no shader compiler.

use crate::equation::spec::Spec;
use crate::equation::user;
use crate::error::{Error, Result};
use crate::inputs::cache::Cache;
use crate::inputs::inputs::AngleTable;
use crate::inputs::problem::Problem;
use crate::inputs::shape::Shape;
use crate::inputs::tensor::Strides;
use crate::plan::budget::{SCRATCH, TILE_Q};
use crate::plan::call::{Call, check_target};
#[cfg(feature = "wgpu")]
use crate::plan::grid::lse_words;
use crate::plan::grid::{ChunkDispatch, base_words};
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::params::{assign_offsets, binding_elements, binding_size, head_entries, rotary_entries};
use crate::plan::preamble::{label, preamble};
use crate::plan::slots::ShaderFiles;
use crate::plan::step::StepLayout;
use crate::plan::storage;
use crate::plan::tables::TableLayout;
use crate::plan::tuning::table::Source;
use crate::plan::tuning::tuning::Tuning;
use crate::shader::compose::{Composed, Target};
use crate::shader::files;
use crate::shader::layout::{Access, Binding, CHUNK_STRIDE, Params, Slot};
use std::collections::BTreeMap;

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
        if matches!(kernel, Kernel::RotateK { .. }) && shape.cache != Cache::Contiguous {
            let help = "rotate keys as they come in (Kernel::Append), or keep them unrotated";
            return Err(Error::spec("shape.cache", "is a pool, whose pages sequences may share", help));
        }
        let source = match kernel {
            Kernel::RotateK { .. } => shape.k,
            _ => shape.q,
        };
        let target = if kernel.in_place() { source } else { shape.out };
        check_target(kernel, spec, shape, target)?;
        let (mut params, step) = assign_offsets(kernel, spec, shape, source, target)?;
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
        let files = ShaderFiles::new(&call, &tuning, laid.carry, laid.products.gathered.clone());
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
            let mut binding = slot.binding(&storage::element(spec, kernel, *slot, aligned), size);
            if kernel.writes(*slot) {
                binding.access = Access::ReadWrite;
            }
            bindings.push(binding);
        }
        tuning.checks |= !files::sizes_fit(&bindings);

        let preamble = preamble(kernel, spec, laid.tile, &laid.constants, &bindings, &files.glue);
        let texts = if kernel.rotates_only() { Vec::new() } else { user::texts(spec) };
        crate::plan::user::apart(&texts, &preamble)?;
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
        label.push_str(&shape.cache.label());
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

    /// The same plan, for tensors that lie in one buffer with those that it writes: the bindings of these slots are declared `read_write`, as
    /// WebGPU asks of every binding of a buffer that one dispatch writes. The text is another, so it is compiled on its own; results keep their
    /// bits. `out` and `work` are so declared in every plan, and slots that the plan does not use are passed over. Compilers may then
    /// assume less about loads: name no slot whose tensor has a buffer to itself.
    ///
    /// Browsers refuse `step` here: what may be written cannot decide how often a workgroup meets at a barrier. There it has a buffer that
    /// the plan does not write.
    ///
    /// ```
    /// use ropewalk::{Access, Kernel, Limits, Plan, Shape, Slot, Spec};
    /// let spec = Spec::new(8, 2, 64);
    /// let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 1, 4096), &Limits::default())?;
    /// let plan = plan.share(&[Slot::Q, Slot::K, Slot::V, Slot::Step])?;
    /// assert_eq!(plan.binding(Slot::K).map(|b| b.access), Some(Access::ReadWrite));
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] for a uniform, which the plan owns.
    pub fn share(mut self, slots: &[Slot]) -> Result<Self> {
        if let Some(slot) = slots.iter().find(|slot| !slot.is_storage()) {
            let help = "share q, k, v, tables, dense and step";
            return Err(Error::input(slot.name(), "is a uniform of the plan, in no buffer of the caller's", help));
        }
        let mut names = String::new();
        let read = |b: &&mut Binding| b.access == Access::Read && slots.contains(&b.slot);
        for binding in self.bindings.iter_mut().filter(read) {
            let before = binding.declaration();
            binding.access = Access::ReadWrite;
            self.composed.replace(&before, &binding.declaration());
            names = format!("{names}-{}", binding.name);
        }
        if !names.is_empty() {
            let before = if self.label.contains(".shared") { "" } else { ".shared" };
            self.label = format!("{}{before}{names}", self.label);
        }
        Ok(self)
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
        let mut inputs = problem.inputs();
        // what turns keys of a pool gives them in the order of their sequences
        if kernel.rotates_only() {
            inputs = &problem.inputs;
            (shape.cache, shape.k, shape.v) = (Cache::Contiguous, inputs.k.strides(), inputs.v.strides());
        }
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
    /// The first f32 of the numbers of rows and keys in `dense`, behind D and the words of a user's functions. There stand, as far as the spec
    /// reads them, planes of `[batch, num_heads, q_len]`: gates, `query_scales`, `query_sinks`; then `key_bias` as f32 `[batch, num_heads, kv_len]`
    /// and, likewise, what is left of it; then `relative_queries`. Of [`Kernel::Linear`] `beta` stands there, behind `decay`.
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
