//! Plans that merge attention over parts of the keys.

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::shape::Shape;
use crate::inputs::tensor::Strides;
use crate::plan::budget::{OVERLAP, TILE_Q};
use crate::plan::grid::{cut_grid, lse_words};
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::params::binding_size;
use crate::plan::plan::Plan;
use crate::plan::step::StepLayout;
use crate::plan::storage;
use crate::shader::compose::Composed;
use crate::shader::layout::{Binding, Params, ROTARY_ENTRIES, Slot};
use std::fmt::Write;

/// The most parts of one merge; the uniform that says where they are has two entries for each.
pub(crate) const MAX_PARTS: usize = 128;

/// Where attention over one part of the keys left out and lse, for [`Plan::merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MergePart {
    /// The first element of its rows in slot `q`.
    pub out_first: u32,
    /// Strides of its rows, in elements.
    pub out: Strides,
    /// The first f32 of its lse in slot `tables`.
    pub lse_first: u32,
    /// Strides of its lse, in f32.
    pub lse: Strides,
}

impl MergePart {
    /// What an attention plan writes, from the first element of its `out` and the first byte of its `work` on. Everywhere lse is
    /// `[batch, num_heads, q_len]` with the plan's q_len, however few tokens a step has.
    pub fn of(plan: &Plan) -> Self {
        let [heads, q_len] = [plan.spec().num_heads, plan.shape().q_len];
        let lse = Strides { batch: heads.saturating_mul(q_len), token: 1, head: q_len };
        MergePart { out_first: 0, out: plan.shape().out, lse_first: plan.lse_offset(), lse }
    }
    /// The same rows where its tokens are the sequences of the others: a shared prefix is one sequence, whose tokens are one of each
    /// sequence that shares it.
    pub fn transposed(mut self) -> Self {
        for strides in [&mut self.out, &mut self.lse] {
            std::mem::swap(&mut strides.batch, &mut strides.token);
        }
        self
    }
    /// The same where the slots begin so many elements of out, and so many f32 of `work`, before what the plan writes.
    pub fn behind(mut self, out: u32, work: u32) -> Self {
        self.out_first = self.out_first.saturating_add(out);
        self.lse_first = self.lse_first.saturating_add(work);
        self
    }
}

/// Shapes and strides of one merge: what a plan is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MergeShape {
    /// Sequences; 1 where they are packed.
    pub batch: u32,
    /// The most query tokens of a step.
    pub q_len: u32,
    /// Strides of out.
    pub out: Strides,
    /// 1 to 128 of them, added up in their order.
    pub parts: Vec<MergePart>,
    /// Whether every tensor starts at a multiple of four elements; set it to false for odd buffer offsets.
    pub aligned: bool,
}

impl MergeShape {
    /// Out contiguous, `[batch, q_len, num_heads, v_head_dim]`.
    pub fn new(spec: &Spec, batch: u32, q_len: u32, parts: Vec<MergePart>) -> Self {
        MergeShape { batch, q_len, out: Strides::bshd(q_len, spec.num_heads, spec.v_head_dim), parts, aligned: true }
    }
}

impl Plan {
    /// Plans [`Kernel::Merge`]: out of the parts in slot `q`, their lse in `tables` (a buffer that was the `work` of their plans), the result in
    /// `out`, its lse at the start of `work`, `[batch, num_heads, q_len]`. Of `step` word 0 alone is read, the query tokens, so that the step of
    /// an attention plan serves. Of `spec` num_heads, v_head_dim and the type of out are read; where it has a sink, one part alone may have counted it.
    ///
    /// ```
    /// use ropewalk::{Kernel, Limits, MergePart, MergeShape, Plan, Shape, Spec};
    /// let spec = Spec::new(8, 2, 64);
    /// // eight sequences of one token each; their first 1024 keys are the same, and stand once
    /// let of = |batch, q_len, kv_len| Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, batch, q_len, kv_len), &Limits::default());
    /// let (prefix, own) = (of(1, 8, 1024)?, of(8, 1, 256)?);
    /// // the slot `q` holds both results, the slot `tables` the work of both, one behind the other
    /// let behind = MergePart::of(&own).behind(8 * 8 * 64, prefix.workspace_size() as u32 / 4);
    /// let shape = MergeShape::new(&spec, 8, 1, vec![MergePart::of(&prefix).transposed(), behind]);
    /// let plan = Plan::merge(&spec, &shape, &Limits::default())?;
    /// assert_eq!(plan.kernel(), Kernel::Merge);
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Spec`] that names the field of the spec or shape: no part or too many, rows of out that overlap, no token;
    /// [`Error::Limit`] where a binding is too large.
    pub fn merge(spec: &Spec, shape: &MergeShape, limits: &Limits) -> Result<Self> {
        spec.validate()?;
        Plan::check_limits(limits)?;
        let [batch, len, heads, dim] = [shape.batch, shape.q_len, spec.num_heads, spec.v_head_dim];
        if batch == 0 || len == 0 || len > 1 << 30 {
            let problem = format!("batch {batch}, q_len {len}");
            return Err(Error::spec("shape", problem, "give each 1 or more, a length of at most 2^30"));
        }
        if shape.parts.is_empty() || shape.parts.len() > MAX_PARTS {
            let problem = format!("are {}", shape.parts.len());
            return Err(Error::spec(
                "shape.parts",
                problem,
                format!("give 1 to {MAX_PARTS}; a result can be a part again"),
            ));
        }
        let out = shape.out;
        if !out.disjoint(batch, len, heads, dim) {
            let problem = format!("{out:?}: rows of {dim} elements overlap");
            return Err(Error::spec("shape.out", problem, OVERLAP));
        }
        let kernel = Kernel::Merge;
        let fours = |n: u32| n.is_multiple_of(4);
        let of_part = |p: &MergePart| [p.out_first, p.out.batch, p.out.token, p.out.head].into_iter().all(fours);
        let strides = [out.batch, out.token, out.head, dim].into_iter().all(fours);
        let aligned = shape.aligned && strides && shape.parts.iter().all(of_part);

        // rows of one head dimension are what the files of q and out know
        let mut rows = Spec::new(heads, heads, dim);
        rows.dtype = spec.out_storage();
        let shares_words = storage::storage_of(&rows, kernel, Slot::Out).is_some_and(Dtype::shares_words);
        let mut files = vec!["kernel/merge.wgsl", "common/params.wgsl", "common/nan.wgsl", "common/ln.wgsl"];
        files.push(storage::source_file(false, aligned, shares_words));
        files.push(storage::out_file(aligned, shares_words));
        let mut slots =
            vec![Slot::Q, Slot::Out, Slot::Work, Slot::Tables, Slot::Step, Slot::Params, Slot::Chunk, Slot::Rotary];
        slots.sort();
        let (storage_files, joined) = storage::joined(&rows, kernel, &slots, aligned);
        files.extend(storage_files);

        let chunks_of_head = dim.div_ceil(4);
        let params = Params {
            q_capacity: len,
            num_heads: heads,
            group: 1,
            out_batch: out.batch,
            out_token: out.token,
            out_head: out.head,
            head_chunks: chunks_of_head,
            splits: shape.parts.len() as u32,
            ..Params::default()
        };
        let mut places = vec![[0; 4]; ROTARY_ENTRIES];
        for (n, part) in shape.parts.iter().enumerate() {
            places[n] = [part.out_first, part.out.batch, part.out.token, part.out.head];
            places[MAX_PARTS + n] = [part.lse_first, part.lse.batch, part.lse.token, part.lse.head];
        }
        let columns = heads as u64 * chunks_of_head as u64;
        let grid = [columns.div_ceil(TILE_Q as u64), len as u64, batch as u64];
        let chunks = cut_grid(grid, 30.0 * shape.parts.len() as f64 * TILE_Q as f64, limits)?;

        let mut planned = Shape::new(&rows, batch, len, 1);
        (planned.out, planned.aligned) = (out, shape.aligned);
        let most = |of: &dyn Fn(&MergePart) -> u128| shape.parts.iter().map(of).max().unwrap_or(0);
        let size = |slot: Slot| match slot {
            Slot::Q => {
                let elements = most(&|p| p.out_first as u128 + p.out.extent(batch, len, heads, dim));
                (elements, rows.dtype.size() as u64)
            }
            Slot::Tables => (most(&|p| p.lse_first as u128 + p.lse.extent(batch, len, heads, 1)), 4),
            Slot::Out => (out.extent(batch, len, heads, dim), rows.dtype.size() as u64),
            Slot::Work => (lse_words(&rows, &planned) as u128, 4),
            Slot::Step => (STEP_WORDS as u128, 4),
            Slot::Params => (size_of::<Params>() as u128, 1),
            Slot::Rotary => (ROTARY_ENTRIES as u128, 16),
            _ => (chunks.len() as u128, crate::shader::layout::CHUNK_STRIDE),
        };
        let mut bindings = Vec::new();
        for slot in slots {
            let (elements, bytes) = size(slot);
            let size = binding_size(slot, elements, bytes, limits)?;
            bindings.push(slot.binding(&storage::element(&rows, kernel, slot, aligned), size));
        }
        let mut label = format!("{}.{}.h{heads}.d{dim}", kernel.name(), rows.dtype.name());
        if !aligned {
            label.push_str(".unaligned");
        }
        let mut step = StepLayout::of_positions(STEP_WORDS, [batch, len], None);
        step.q_positions = None;
        Ok(Plan {
            kernel,
            aligned,
            composed: Composed::new(&(preamble(dim, &bindings) + &joined), &files, &[]),
            bindings,
            params,
            rotary: places,
            heads: Vec::new(),
            chunks,
            step,
            label,
            tile: [TILE_Q, 1],
            tuning: crate::plan::tuning::tuning::Tuning::of(crate::plan::tuning::tuning::Family::Rows),
            source: crate::plan::tuning::table::Source::Only,
            spec: rows,
            shape: planned,
            limits: *limits,
        })
    }
}

/// The words before the first range of a step.
const STEP_WORDS: u32 = 8;

/// Constants and bindings.
fn preamble(dim: u32, bindings: &[Binding]) -> String {
    let mut text = String::from("// Composed by ropewalk. Constants of the spec and the plan:\n");
    let constants = [
        ("HEAD_DIM", dim),
        ("HEAD_CHUNKS", dim.div_ceil(4)),
        ("OUT_DIM", dim),
        ("LSE_ENTRY", MAX_PARTS as u32),
        ("TILE_Q", TILE_Q),
    ];
    for (name, value) in constants {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    text.push_str(crate::plan::preamble::LEVELS);
    bindings.iter().for_each(|b| text.push_str(&b.declaration()));
    text
}
