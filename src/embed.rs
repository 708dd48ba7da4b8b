//! Absolute systems: x_i + P[m], before the projection to q, k and v. A spec of their own, since a row is as wide as the
//! model, and a kernel of their own.
//!
//! ```text
//! out_i = input_scale x_i + position_scale P[m_i]
//!
//! sinusoidal  P[m] = sin(m f_p), cos(m f_p),  f_p = base^(-p / (d/2))  or  base^(-p / (d/2 - 1))    (Vaswani et al. 2017)
//! learned     P[m] = row m of the model's table                                           (BERT, GPT-2, RoBERTa, OPT)
//! ```

use crate::check::{Bounded, TINY, TRIG, U, stored};
use crate::compose::Composed;
use crate::layout::{Params, Slot};
use crate::phase::{self, ExactAngle};
use crate::plan::{StepLayout, binding_size, cut_grid};
use crate::tuning::TILE_Q;
use crate::window::check_tokens;
use crate::{Dtype, Error, Kernel, Limits, Plan, Result, SCHEMA, Shape, Spec, Strides, Tensor};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The largest width of an [`Embed`].
pub const MAX_EMBED_DIM: u32 = 1 << 16;

/// Which column of a sinusoidal row holds what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Columns {
    /// All sines, then all cosines (tensor2tensor, M2M100, Marian, Whisper, GPT-J).
    Halves,
    /// sin, cos, sin, cos, ... (Vaswani et al. 2017, section 3.5; SpeechT5).
    Interleaved,
}

/// What divides p in the exponent of the frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Denominator {
    /// d/2, as in the paper. With an odd d there is one sine more than cosines.
    Half,
    /// d/2 - 1, rounded down (tensor2tensor): the last frequency is exactly 1/base. With an odd d the last column is 0.
    HalfLessOne,
}

/// Where P comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Absolute {
    /// sin and cos of the position: any i32.
    Sinusoidal {
        /// The order of columns.
        columns: Columns,
        /// The exponent's denominator.
        denominator: Denominator,
        /// 10000 in the paper.
        #[serde(default = "ten_thousand")]
        base: f64,
        /// A position whose row is zero (M2M100, XGLM: the padding token's).
        #[serde(default)]
        padding_row: Option<i32>,
    },
    /// A learned table, `table` `[rows, dim]`, is among the inputs. A position beyond it is an error.
    Learned {
        /// Rows of the table, those of offsets included.
        rows: u32,
    },
}

fn ten_thousand() -> f64 {
    10_000.0
}

fn one() -> f64 {
    1.0
}

/// What [`Kernel::Embed`] computes. Read it from JSON, or start from [`Embed::sinusoidal`] or [`Embed::learned`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Embed {
    /// The version of the file format, [`SCHEMA`].
    pub schema: u32,
    /// The model's width, 1 to [`MAX_EMBED_DIM`].
    pub dim: u32,
    /// Storage of x, out and the learned table.
    pub dtype: Dtype,
    /// P.
    pub positions: Absolute,
    /// Multiplies x (sqrt(dim) in Vaswani et al., M2M100, XGLM).
    #[serde(default = "one")]
    pub input_scale: f64,
    /// Multiplies P (SpeechT5's alpha).
    #[serde(default = "one")]
    pub position_scale: f64,
}

/// The arguments of one call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EmbedInputs {
    /// `[batch, len, 1, dim]`.
    pub x: Tensor,
    /// `[batch, len]`: the row of P for each token, offsets included; see [`positions_from`], [`positions_of_ids`] and
    /// [`positions_of_mask`].
    pub positions: Vec<i32>,
    /// `[1, rows, 1, dim]`, where P is learned.
    pub table: Option<Tensor>,
}

impl EmbedInputs {
    /// x and its positions; set `table` where P is learned.
    pub fn new(x: Tensor, positions: Vec<i32>) -> Self {
        EmbedInputs { x, positions, table: None }
    }
}

/// Positions by index: `past + offset`, `past + offset + 1`, ... for every sequence (BERT and GPT-2: offset 0; XGLM: 2).
pub fn positions_from(batch: u32, len: u32, past: u32, offset: i32) -> Result<Vec<i32>> {
    let last = past as i64 + offset as i64 + len as i64;
    if last > i32::MAX as i64 || offset as i64 + (past as i64) < i32::MIN as i64 {
        return Err(Error::input("positions", format!("end at {last}"), "give a past and an offset below 2^31"));
    }
    check_tokens("positions", &[batch.into(), len.into()])?;
    let row: Vec<i32> = (0..len).map(|i| (past as i64 + i as i64 + offset as i64) as i32).collect();
    Ok(row.repeat(batch as usize))
}

/// Positions that count real tokens (RoBERTa, M2M100): the n-th token that is not `padding` stands at
/// `past + n + padding`, n from 1; padding tokens stand at row `padding`. `ids` is `[batch, len]`.
pub fn positions_of_ids(ids: &[i32], batch: u32, padding: i32, past: u32) -> Result<Vec<i32>> {
    let real: Vec<bool> = ids.iter().map(|id| *id != padding).collect();
    counted(&real, batch, "input_ids", |n, real| if real { n + past as i64 + padding as i64 } else { padding as i64 })
}

/// Positions of an attention mask (OPT): the n-th real token stands at `n - 1 + offset`, n from 1; padding at `offset - 1`.
/// `mask` is `[batch, past + len]`, true for a real token; the positions of the last `len` tokens are given.
pub fn positions_of_mask(mask: &[bool], batch: u32, past: u32, offset: i32) -> Result<Vec<i32>> {
    let all = counted(mask, batch, "attention_mask", |n, real| if real { n } else { 0 } - 1 + offset as i64)?;
    let row = all.len() / batch.max(1) as usize;
    if past as usize > row {
        return Err(Error::input(
            "attention_mask",
            format!("{row} tokens of a sequence, {past} of them past"),
            "give past + len of them",
        ));
    }
    Ok(all.chunks(row.max(1)).flat_map(|r| r.iter().skip(past as usize).copied()).collect())
}

/// `position(n, real)` of every token, n real tokens up to and with it.
fn counted(real: &[bool], batch: u32, name: &str, position: impl Fn(i64, bool) -> i64) -> Result<Vec<i32>> {
    if batch == 0 || !real.len().is_multiple_of(batch as usize) {
        return Err(Error::input(name, format!("{} tokens of {batch} sequences", real.len()), "give [batch, len]"));
    }
    let mut positions = Vec::with_capacity(real.len());
    for row in real.chunks((real.len() / batch as usize).max(1)) {
        let mut n = 0;
        for real in row {
            n += *real as i64;
            let m = position(n, *real);
            positions.push(
                i32::try_from(m)
                    .map_err(|_| Error::input(name, format!("gives position {m}"), "let positions stay below 2^31"))?,
            );
        }
    }
    Ok(positions)
}

impl Embed {
    /// Vaswani et al.'s form: base 10000, no padding row, scales 1, f32.
    pub fn sinusoidal(dim: u32, columns: Columns, denominator: Denominator) -> Self {
        Self::new(dim, Absolute::Sinusoidal { columns, denominator, base: 10_000.0, padding_row: None })
    }
    /// A learned table, scales 1, f32.
    pub fn learned(dim: u32, rows: u32) -> Self {
        Self::new(dim, Absolute::Learned { rows })
    }
    fn new(dim: u32, positions: Absolute) -> Self {
        Embed { schema: SCHEMA, dim, dtype: Dtype::F32, positions, input_scale: 1.0, position_scale: 1.0 }
    }

    /// Reads a file of these fields. Unknown fields, another schema and contradictions are errors that name the field.
    pub fn from_json(text: &str) -> Result<Self> {
        let embed: Embed = serde_json::from_str(text)
            .map_err(|e| Error::spec("(file)", format!("cannot be read: {e}"), "see `Embed` for the fields"))?;
        embed.validate()?;
        Ok(embed)
    }

    /// Checks every field; the error names the first that is wrong.
    pub fn validate(&self) -> Result<()> {
        let err = |field: &str, problem: String, help: &str| Err(Error::spec(field, problem, help));
        if self.schema != SCHEMA {
            return err("schema", format!("is {}", self.schema), &format!("this version of ropewalk reads {SCHEMA}"));
        }
        if self.dim == 0 || self.dim > MAX_EMBED_DIM {
            return err("dim", format!("is {}", self.dim), &format!("give 1 to {MAX_EMBED_DIM}"));
        }
        for (field, x) in [("input_scale", self.input_scale), ("position_scale", self.position_scale)] {
            if !x.is_finite() || x.abs() > 1e30 {
                return err(field, format!("is {x}"), "give a number below 1e30 in size");
            }
        }
        match &self.positions {
            Absolute::Learned { rows } if *rows == 0 || *rows > 1 << 30 => {
                err("positions.learned.rows", format!("is {rows}"), "give 1 to 2^30")
            }
            Absolute::Learned { .. } => Ok(()),
            Absolute::Sinusoidal { denominator: Denominator::HalfLessOne, .. } if self.dim < 4 => err(
                "positions.sinusoidal.denominator",
                format!("is d/2 - 1 = {} of dim {}", self.dim / 2 - self.dim.min(2) / 2, self.dim),
                "give a dim of 4 or more, or the denominator half",
            ),
            Absolute::Sinusoidal { base, .. } => {
                let wrong = |f: &f64| !f.is_finite() || *f > 65_536.0;
                match !(base.is_finite() && *base > 0.0) || self.frequencies().iter().any(wrong) {
                    true => err(
                        "positions.sinusoidal.base",
                        format!("is {base}"),
                        "give a finite number above 0 (10000 in the paper) with frequencies up to 65536",
                    ),
                    false => Ok(()),
                }
            }
        }
    }

    /// Radians per position of every frequency; none of a learned table.
    pub fn frequencies(&self) -> Vec<f64> {
        let Absolute::Sinusoidal { denominator, base, .. } = &self.positions else { return Vec::new() };
        let (sines, _) = self.waves();
        let divisor = match denominator {
            Denominator::Half => self.dim as f64 / 2.0,
            Denominator::HalfLessOne => (self.dim / 2) as f64 - 1.0,
        };
        (0..sines).map(|p| base.powf(-(p as f64) / divisor)).collect()
    }

    /// The columns that are sines and those that are cosines.
    fn waves(&self) -> (u32, u32) {
        match &self.positions {
            Absolute::Sinusoidal { denominator: Denominator::Half, .. } => (self.dim.div_ceil(2), self.dim / 2),
            Absolute::Sinusoidal { denominator: Denominator::HalfLessOne, .. } => (self.dim / 2, self.dim / 2),
            Absolute::Learned { .. } => (0, 0),
        }
    }

    /// What the `dense` buffer holds where P is sinusoidal: the phase increment of every frequency, upper and lower word.
    pub fn pack_increments(&self) -> Vec<u32> {
        let words = |f: f64| {
            let inc = phase::increment(f);
            [(inc >> 32) as u32, inc as u32]
        };
        self.frequencies().into_iter().flat_map(words).collect()
    }

    /// The names of the terms, as reports print them.
    pub fn terms(&self) -> Vec<String> {
        let mut terms = vec![match &self.positions {
            Absolute::Sinusoidal { columns, denominator, .. } => {
                let columns = match columns {
                    Columns::Halves => "halves",
                    Columns::Interleaved => "interleaved",
                };
                let denominator = match denominator {
                    Denominator::Half => "d/2",
                    Denominator::HalfLessOne => "d/2-1",
                };
                format!("P(sinusoidal {columns} {denominator})")
            }
            Absolute::Learned { rows } => format!("P(learned {rows})"),
        }];
        if self.input_scale != 1.0 {
            terms.push("input_scale".into());
        }
        if self.position_scale != 1.0 {
            terms.push("position_scale".into());
        }
        terms
    }

    /// An error names the first position that is no row of the table, and the table's size.
    pub(crate) fn check_positions(rows: Option<u32>, positions: &[i32]) -> Result<()> {
        let outside = |rows: u32| positions.iter().position(|m| *m < 0 || *m as u32 >= rows);
        match rows.and_then(|rows| outside(rows).map(|at| (rows, at))) {
            Some((rows, at)) => Err(Error::input(
                "positions",
                format!("token {at} stands at position {}", positions.get(at).copied().unwrap_or_default()),
                format!("the table has {rows} rows, 0 to {}: give a larger table or fewer tokens", rows - 1),
            )),
            None => Ok(()),
        }
    }

    /// Rows of a learned table.
    fn rows(&self) -> Option<u32> {
        match self.positions {
            Absolute::Learned { rows } => Some(rows),
            Absolute::Sinusoidal { .. } => None,
        }
    }
}

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
            return Err(Error::spec(field, problem, crate::plan::OVERLAP));
        }
        let fours = |n: u32| n.is_multiple_of(4);
        let strides = [shape.x.batch, shape.x.token, out.batch, out.token, shape.table_row, embed.dim];
        let aligned = shape.aligned && strides.into_iter().all(fours);
        let narrow = embed.dtype != Dtype::F32;

        let mut files = vec!["kernel/embed.wgsl", "common/params.wgsl", embed.dtype.storage_file()];
        let mut slots = vec![Slot::Out, Slot::Step, Slot::Params, Slot::Chunk];
        match (in_place, aligned, narrow) {
            (false, true, _) => files.push("tensor/q_aligned.wgsl"),
            (false, false, _) => files.push("tensor/q_unaligned.wgsl"),
            (true, true, _) => files.push("tensor/q_in_place_aligned.wgsl"),
            (true, false, false) => files.push("tensor/q_in_place_f32_unaligned.wgsl"),
            (true, false, true) => files.push("tensor/q_in_place_16_unaligned.wgsl"),
        }
        if !in_place {
            slots.push(Slot::Q);
        }
        files.push(match (aligned, narrow) {
            (true, _) => "tensor/out_aligned.wgsl",
            (false, false) => "tensor/out_f32_unaligned.wgsl",
            (false, true) => "tensor/out_16_unaligned.wgsl",
        });
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
            _ => (chunks.len() as u128, crate::CHUNK_STRIDE),
        };
        let mut bindings = Vec::new();
        for slot in slots {
            let (elements, bytes) = size(slot);
            let size = binding_size(slot, elements, bytes, limits)?;
            bindings.push(slot.binding(
                match (slot, aligned) {
                    (Slot::Out, false) if narrow => "atomic<u32>",
                    (_, true) => "Raw4",
                    (_, false) => "Raw1",
                },
                size,
            ));
        }

        let mut label = format!("{}.{}.d{}", kernel.name(), embed.dtype.name(), embed.dim);
        for term in embed.terms() {
            let _ = write!(label, ".{}", term.replace(' ', "-"));
        }
        if !aligned {
            label.push_str(".unaligned");
        }
        let mut spec = Spec::new(1, 1, embed.dim);
        spec.dtype = embed.dtype;
        let mut planned = Shape::new(&spec, batch, len, rows);
        (planned.q, planned.out, planned.k.token, planned.aligned) = (shape.x, out, shape.table_row, shape.aligned);
        Ok(Plan {
            kernel,
            aligned,
            composed: Composed::new(&preamble(embed, &bindings), &files, &[]),
            bindings,
            params,
            rotary: Vec::new(),
            heads: Vec::new(),
            chunks,
            step,
            label,
            tile: [TILE_Q, 1],
            tuning: crate::Tuning::of(crate::Family::Rows),
            source: crate::tuning::Source::Only,
            spec,
            shape: planned,
            limits: *limits,
        })
    }
}

/// Constants and bindings.
fn preamble(embed: &Embed, bindings: &[crate::Binding]) -> String {
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
    let _ = writeln!(text, "const PADDING_ROW: i32 = {};", crate::variant::wgsl_i32(padding.unwrap_or(0)));
    let _ = writeln!(text, "const INPUT_SCALE: f32 = {:e};", embed.input_scale as f32);
    let _ = writeln!(text, "const POSITION_SCALE: f32 = {:e};\n", embed.position_scale as f32);
    bindings.iter().for_each(|b| text.push_str(&b.declaration()));
    text
}

/// An embed and inputs that fit each other.
pub(crate) struct EmbedProblem<'a> {
    pub(crate) embed: &'a Embed,
    pub(crate) inputs: &'a EmbedInputs,
    pub(crate) batch: u32,
    pub(crate) len: u32,
    angles: Vec<ExactAngle>,
}

impl<'a> EmbedProblem<'a> {
    /// Checks inputs against the spec; the error names the tensor.
    pub(crate) fn new(embed: &'a Embed, inputs: &'a EmbedInputs) -> Result<Self> {
        embed.validate()?;
        let [batch, len, ..] = inputs.x.shape();
        let expect = |name: &str, t: &Tensor, want: [u32; 4]| {
            if t.dtype() != embed.dtype {
                let help = format!("the spec's dtype is {}: convert one to the other", embed.dtype.name());
                return Err(Error::input(name, format!("is {}", t.dtype().name()), help));
            }
            if t.shape() != want {
                return Err(Error::input(name, format!("{:?}", t.shape()), format!("give {want:?}")));
            }
            t.check_extent(name)
        };
        expect("x", &inputs.x, [batch, len, 1, embed.dim])?;
        match (&inputs.table, embed.rows()) {
            (Some(table), Some(rows)) => expect("table", table, [1, rows, 1, embed.dim])?,
            (None, Some(rows)) => {
                let help = format!("give the learned table [1, {rows}, 1, {}]", embed.dim);
                return Err(Error::input("table", "is missing", help));
            }
            (Some(_), None) => {
                return Err(Error::input("table", "is given, but positions are sinusoidal", "leave it out"));
            }
            (None, None) => {}
        }
        if inputs.positions.len() as u64 != batch as u64 * len as u64 {
            let help = format!("give [batch, len] = [{batch}, {len}] of them");
            return Err(Error::input("positions", format!("{} of them", inputs.positions.len()), help));
        }
        Embed::check_positions(embed.rows(), &inputs.positions)?;
        let angles = embed.frequencies().into_iter().map(ExactAngle::new).collect();
        Ok(EmbedProblem { embed, inputs, batch, len, angles })
    }

    /// P[m].
    fn row(&self, m: i32) -> Vec<f64> {
        let dim = self.embed.dim as usize;
        match (&self.embed.positions, &self.inputs.table) {
            (Absolute::Sinusoidal { columns, padding_row, .. }, _) => {
                let mut row = vec![0.0; dim];
                if *padding_row == Some(m) {
                    return row;
                }
                let (sines, cosines) = self.embed.waves();
                for (p, angle) in self.angles.iter().enumerate() {
                    let (cos, sin) = angle.cos_sin(m);
                    let (s, c) = match columns {
                        Columns::Halves => (p, sines as usize + p),
                        Columns::Interleaved => (2 * p, 2 * p + 1),
                    };
                    row[s] = sin;
                    if p < cosines as usize {
                        row[c] = cos;
                    }
                }
                row
            }
            (Absolute::Learned { .. }, Some(table)) => table.row(0, m as u32, 0).collect(),
            (Absolute::Learned { .. }, None) => vec![0.0; dim],
        }
    }

    /// x and P of every token.
    fn rows(&self) -> impl Iterator<Item = (Vec<f64>, Vec<f64>)> + '_ {
        let tokens = (0..self.batch).flat_map(|b| (0..self.len).map(move |i| (b, i)));
        tokens.zip(&self.inputs.positions).map(|((b, i), m)| (self.inputs.x.row(b, i, 0).collect(), self.row(*m)))
    }
}

/// input_scale x + position_scale P\[m\] in f64, `[batch, len, dim]`.
///
/// ```
/// use ropewalk::{reference, Columns, Denominator, Embed, EmbedInputs, Tensor};
/// let embed = Embed::sinusoidal(4, Columns::Halves, Denominator::Half);
/// let inputs = EmbedInputs::new(Tensor::bshd(vec![1.0; 4], [1, 1, 1, 4])?, vec![0]);
/// assert_eq!(reference::embed(&embed, &inputs)?, [1.0, 1.0, 2.0, 2.0]); // sin 0 = 0, cos 0 = 1
/// # Ok::<(), ropewalk::Error>(())
/// ```
pub fn reference(embed: &Embed, inputs: &EmbedInputs) -> Result<Vec<f64>> {
    let problem = EmbedProblem::new(embed, inputs)?;
    let (a, b) = (embed.input_scale, embed.position_scale);
    let row = |(x, p): (Vec<f64>, Vec<f64>)| x.into_iter().zip(p).map(move |(x, p)| a * x + b * p);
    Ok(problem.rows().flat_map(row).collect())
}

/// Every element of [`reference::embed`](crate::reference::embed) and how far a GPU may be from it: each sine errs by at most
/// 2e-7, each product by two roundings (of the scale and its own; none where the scale is 1), the sum by one, and storage rounds
/// once more. A subnormal x or table element may be read as 0, and what rounding to storage left off is lost.
pub fn bounds(embed: &Embed, inputs: &EmbedInputs) -> Result<Bounded> {
    let problem = EmbedProblem::new(embed, inputs)?;
    let (a, b) = (embed.input_scale, embed.position_scale);
    let roundings = |scale: f64| if scale == 1.0 { 0.0 } else { 2.0 * U };
    let trig = if embed.rows().is_none() { TRIG } else { 0.0 };
    let mut all = Bounded::default();
    let tokens = (0..problem.batch).flat_map(|b| (0..problem.len).map(move |i| (b, i)));
    for (((x, p), (seq, i)), m) in problem.rows().zip(tokens).zip(&inputs.positions) {
        let x_lost = inputs.x.lost(seq, i, 0);
        let p_lost: Vec<f64> = match &inputs.table {
            Some(table) => table.lost(0, *m as u32, 0).collect(),
            None => vec![0.0; p.len()],
        };
        for (((x, p), x_lost), p_lost) in x.into_iter().zip(p).zip(x_lost).zip(p_lost) {
            let value = a * x + b * p;
            let mut bound = (a * x).abs() * roundings(a) + b.abs() * (trig + p.abs() * roundings(b));
            bound += U * value.abs() + a.abs() * x_lost + b.abs() * p_lost;
            all.value.push(value);
            all.bound.push(if value.is_nan() { 0.0 } else { stored(embed.dtype, value, bound + TINY) });
        }
    }
    Ok(all)
}

impl EmbedProblem<'_> {
    /// The plan of the one-call form for tokens `from..to` of sequence b, gathered contiguously.
    #[cfg(feature = "wgpu")]
    pub(crate) fn part(&self, batch: std::ops::Range<u32>, tokens: std::ops::Range<u32>) -> Result<EmbedInputs> {
        let x = &self.inputs.x;
        let dim = self.embed.dim as usize;
        let starts = batch.clone().flat_map(|b| tokens.clone().map(move |i| x.row_start(b, i, 0)));
        let data = x.data().gather(starts, dim);
        let shape = [batch.len() as u32, tokens.len() as u32, 1, self.embed.dim];
        let positions = batch.flat_map(|b| {
            let row = b as usize * self.len as usize;
            self.inputs.positions[row + tokens.start as usize..row + tokens.end as usize].iter().copied()
        });
        Ok(EmbedInputs { x: Tensor::bshd(data, shape)?, positions: positions.collect(), table: None })
    }
}
