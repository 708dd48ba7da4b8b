//! Plans of absolute systems.

use crate::equation::dtype::Dtype;
use crate::equation::embed::{Absolute, Columns, Embed};
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::shape::Shape;
use crate::inputs::tensor::{Strides, Tensor};
use crate::plan::budget::TILE_Q;
use crate::plan::grid::cut_grid;
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::params::binding_size;
use crate::plan::plan::Plan;
use crate::plan::step::StepLayout;
use crate::plan::storage;
use crate::shader::compose::Composed;
use crate::shader::layout::{Params, Slot};
use std::fmt::Write;

/// Shapes and strides of one kind of call: what a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EmbedShape {
    /// Sequences.
    pub batch: u32,
    /// The most tokens of a step.
    pub len: u32,
    /// Strides of x; `head` is not used.
    pub x: Strides,
    /// Strides of out; `head` is not used.
    pub out: Strides,
    /// Elements from one row of a learned table to the next.
    pub table_row: u32,
    /// Whether every tensor starts at a multiple of four elements; set it to false for odd buffer offsets.
    pub aligned: bool,
}

impl EmbedShape {
    /// Contiguous `[batch, len, dim]` everywhere.
    pub fn new(embed: &Embed, batch: u32, len: u32) -> Self {
        let strides = Strides::bshd(len, 1, embed.dim);
        EmbedShape { batch, len, x: strides, out: strides, table_row: embed.dim, aligned: true }
    }
    /// x and a learned table as they lie, out contiguous.
    pub fn of(x: &Tensor, table: Option<&Tensor>) -> Self {
        let [batch, len, _, dim] = x.shape();
        let aligned = [Some(x), table].into_iter().flatten().all(|t| t.offset().is_multiple_of(4));
        let table_row = table.map_or(dim, |t| t.strides().token);
        EmbedShape { batch, len, x: x.strides(), out: Strides::bshd(len, 1, dim), table_row, aligned }
    }
}

impl Plan {
    /// Plans [`Kernel::Embed`]: x in slot `q` (in place: in `out`), the learned table in `k`, what
    /// [`Embed::pack_increments`] gives in `dense`, positions in `step`. [`Plan::spec`] of such a plan is one head of `dim`
    /// elements, and [`Plan::shape`] has the table's rows as kv_len.
    pub fn embed(embed: &Embed, shape: &EmbedShape, in_place: bool, limits: &Limits) -> Result<Self> {
        embed.validate()?;
        Plan::check_limits(limits)?;
        let [batch, len] = [shape.batch, shape.len];
        if batch == 0 || len == 0 || len > 1 << 30 {
            let problem = format!("batch {batch}, len {len}");
            return Err(Error::spec("shape", problem, "give each 1 or more, a length of at most 2^30"));
        }
        let kernel = Kernel::Embed { in_place };
        let (field, out) = if in_place { ("shape.x", shape.x) } else { ("shape.out", shape.out) };
        if !out.disjoint(batch, len, 1, embed.dim) {
            let problem = format!("{out:?}: rows of {} elements overlap", embed.dim);
            return Err(Error::spec(field, problem, crate::plan::budget::OVERLAP));
        }
        let fours = |n: u32| n.is_multiple_of(4);
        let strides = [shape.x.batch, shape.x.token, out.batch, out.token, shape.table_row, embed.dim];
        let aligned = shape.aligned && strides.into_iter().all(fours);
        let mut spec = Spec::new(1, 1, embed.dim);
        spec.dtype = embed.dtype;

        let shares_words = storage::storage_of(&spec, kernel, Slot::Out).is_some_and(Dtype::shares_words);
        let mut files = vec!["kernel/embed.wgsl", "common/params.wgsl"];
        let mut slots = vec![Slot::Out, Slot::Step, Slot::Params, Slot::Chunk];
        files.push(storage::source_file(in_place, aligned, shares_words));
        if !in_place {
            slots.push(Slot::Q);
        }
        files.push(storage::out_file(aligned, shares_words));
        match &embed.positions {
            Absolute::Learned { .. } => {
                files.push("embed/learned.wgsl");
                files.push(if aligned { "tensor/k_aligned.wgsl" } else { "tensor/k_unaligned.wgsl" });
                slots.push(Slot::K);
            }
            Absolute::Sinusoidal { columns, .. } => {
                files.push("embed/sinusoidal.wgsl");
                files.push(match columns {
                    Columns::Halves => "embed/halves.wgsl",
                    Columns::Interleaved => "embed/interleaved.wgsl",
                });
                files.push("equation/angle_sincos.wgsl");
                slots.push(Slot::Dense);
            }
        }
        slots.sort();
        let (storage_files, joined) = storage::joined(&spec, kernel, &slots, aligned);
        files.extend(storage_files);

        let params = Params {
            q_capacity: len,
            num_heads: 1,
            group: 1,
            q_batch: shape.x.batch,
            q_token: shape.x.token,
            k_token: shape.table_row,
            out_batch: out.batch,
            out_token: out.token,
            step_q_positions: 8,
            head_chunks: embed.dim.div_ceil(4),
            ..Params::default()
        };
        let words = 8 + batch as u64 * len as u64;
        let Ok(words) = u32::try_from(words) else {
            return Err(Error::limit("step", format!("{words} words"), "use fewer sequences"));
        };
        let step = StepLayout::of_positions(words, [batch, len], embed.rows());
        let grid = [embed.dim.div_ceil(4 * TILE_Q) as u64, len as u64, batch as u64];
        // some 100 operations for each sine
        let chunks = cut_grid(grid, 400.0 * TILE_Q as f64, limits)?;

        let rows = embed.rows().unwrap_or(1);
        let tensor = |s: Strides, batch: u32, len: u32| (s.extent(batch, len, 1, embed.dim), embed.dtype.size() as u64);
        let size = |slot: Slot| match slot {
            Slot::Q => tensor(shape.x, batch, len),
            Slot::Out => tensor(out, batch, len),
            Slot::K => tensor(Strides { batch: 0, token: shape.table_row, head: 0 }, 1, rows),
            Slot::Dense => (2 * embed.waves().0 as u128, 4),
            Slot::Step => (words as u128, 4),
            Slot::Params => (size_of::<Params>() as u128, 1),
            _ => (chunks.len() as u128, crate::shader::layout::CHUNK_STRIDE),
        };
        let mut bindings = Vec::new();
        for slot in slots {
            let (elements, bytes) = size(slot);
            let size = binding_size(slot, elements, bytes, limits)?;
            bindings.push(slot.binding(&storage::element(&spec, kernel, slot, aligned), size));
        }

        let mut label = format!("{}.{}.d{}", kernel.name(), embed.dtype.name(), embed.dim);
        for term in embed.terms() {
            let _ = write!(label, ".{}", term.replace(' ', "-"));
        }
        if !aligned {
            label.push_str(".unaligned");
        }
        let mut planned = Shape::new(&spec, batch, len, rows);
        (planned.q, planned.out, planned.k.token, planned.aligned) = (shape.x, out, shape.table_row, shape.aligned);
        Ok(Plan {
            kernel,
            aligned,
            composed: Composed::new(&(preamble(embed, &bindings) + &joined), &files, &[]),
            bindings,
            params,
            rotary: Vec::new(),
            heads: Vec::new(),
            chunks,
            step,
            label,
            tile: [TILE_Q, 1],
            tuning: crate::plan::tuning::tuning::Tuning::of(crate::plan::tuning::tuning::Family::Rows),
            source: crate::plan::tuning::table::Source::Only,
            spec,
            shape: planned,
            limits: *limits,
        })
    }
}

/// Constants and bindings.
fn preamble(embed: &Embed, bindings: &[crate::shader::layout::Binding]) -> String {
    let (sines, cosines) = embed.waves();
    let padding = match embed.positions {
        Absolute::Sinusoidal { padding_row, .. } => padding_row,
        Absolute::Learned { .. } => None,
    };
    let mut text = String::from("// Composed by ropewalk. Constants of the spec and the plan:\n");
    for (name, value) in [
        ("HEAD_DIM", embed.dim),
        ("HEAD_CHUNKS", embed.dim.div_ceil(4)),
        ("OUT_DIM", embed.dim),
        ("SINES", sines),
        ("COSINES", cosines),
        ("TILE_Q", TILE_Q),
    ] {
        let _ = writeln!(text, "const {name}: u32 = {value}u;");
    }
    let _ = writeln!(text, "const HAS_PADDING_ROW: bool = {};", padding.is_some());
    let _ = writeln!(text, "const PADDING_ROW: i32 = {};", crate::shader::compose::wgsl_i32(padding.unwrap_or(0)));
    let _ = writeln!(text, "const INPUT_SCALE: f32 = {:e};", embed.input_scale as f32);
    let _ = writeln!(text, "const POSITION_SCALE: f32 = {:e};\n", embed.position_scale as f32);
    bindings.iter().for_each(|b| text.push_str(&b.declaration()));
    text
}
