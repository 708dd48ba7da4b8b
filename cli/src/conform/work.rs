//! What a case asks for: calls of the library with what they should give, and tables built on the host.

use crate::golden::{Entry, Parameters, Tensors};
use ropewalk::{Embed, EmbedInputs, Error, Inputs, Spec};

/// A case as work to be done.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Calls; the first one's terms stand in the report.
    pub probes: Vec<Probe>,
    /// Absolute positions added to embeddings.
    pub embeds: Vec<EmbedProbe>,
    /// Values that the host computes: buckets, slopes, frequencies.
    pub tables: Vec<Table>,
    /// What another implementation computed.
    pub peers: Vec<Peer>,
}

/// Another implementation's own numbers, which nothing is refused for.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Whose, and of what.
    pub name: String,
    /// The largest difference from what the case expects.
    pub error: f64,
}

/// One call of `embed`, and what the case lists of its result.
#[derive(Debug, Clone)]
pub struct EmbedProbe {
    /// As of [`Probe`].
    pub label: &'static str,
    /// As a user would write it.
    pub embed: Embed,
    /// Never anything that the case lists for comparison.
    pub inputs: EmbedInputs,
    /// What the case lists, of [`Stage::Embed`].
    pub expects: Vec<Expect>,
}

/// One spec with its inputs, and what the case lists of its result.
#[derive(Debug, Clone)]
pub struct Probe {
    /// In front of the tensors that `--dump` writes; empty for the case's main call.
    pub label: &'static str,
    /// As a user would write it.
    pub spec: Spec,
    /// Never anything that the case lists for comparison.
    pub inputs: Inputs,
    /// What the case lists.
    pub expects: Vec<Expect>,
    /// Of [`Stage::OutDifference`].
    pub difference: Option<Difference>,
}

/// (out of head h - lambda out of head h + heads / 2) scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    pub lambda: f64,
    pub scale: f64,
}

/// What a call computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// `[batch, q_len, num_heads, head_dim]`.
    QRot,
    /// `[batch, capacity, num_kv_heads, head_dim]`.
    KRot,
    /// `[batch, num_heads, q_len, capacity]`.
    Scores,
    /// exp(scores - lse), of the same shape.
    Probs,
    /// `[batch, q_len, num_heads, v_head_dim]`.
    Out,
    /// `[batch, q_len, num_heads, v_head_dim]`, every row divided by its root mean square (RetNet).
    OutNormed,
    /// `[batch, q_len, num_heads / 2, v_head_dim]`: differences of heads' out (differential attention).
    OutDifference,
    /// `[batch, num_heads, q_len]`.
    Lse,
    /// `[batch, len, dim]`, of `embed`.
    Embed,
    /// `[batch, num_kv_heads, features, v_head_dim]`, of linear attention.
    State,
    /// `[batch, num_kv_heads, features]`, of linear attention.
    Normalizer,
}

impl Stage {
    /// The name in reports and dumps.
    pub fn name(self) -> &'static str {
        match self {
            Stage::QRot => "q_rot",
            Stage::KRot => "k_rot",
            Stage::Scores => "scores",
            Stage::Probs => "probs",
            Stage::Out => "out",
            Stage::OutNormed => "out_normed",
            Stage::OutDifference => "out_difference",
            Stage::Lse => "lse",
            Stage::Embed => "embed",
            Stage::State => "state",
            Stage::Normalizer => "normalizer",
        }
    }
}

/// Listed values of one stage, in that stage's order.
#[derive(Debug, Clone)]
pub struct Expect {
    /// The tensor that lists them.
    pub name: String,
    /// What they are compared with.
    pub stage: Stage,
    /// `None`: not compared (the output of a row that sees nothing, say).
    pub listed: Vec<Option<f64>>,
    /// How far an exact computation may be off.
    pub tolerance: Tolerance,
}

/// Listed values that the host computes.
#[derive(Debug, Clone)]
pub struct Table {
    /// The tensor or parameter that lists them.
    pub name: String,
    /// Ours.
    pub computed: Vec<f64>,
    /// The case's.
    pub listed: Vec<f64>,
    /// How far the two may be apart.
    pub tolerance: Tolerance,
}

/// How far a listed value may be from an exact computation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// `t * max(1, |listed|)`.
    Mixed(f64),
    /// `t * |listed|`.
    Relative(f64),
    /// Equal.
    Zero,
}

impl Tolerance {
    /// Of values computed in f64 and rounded to f32 once.
    pub const DOUBLE: Tolerance = Tolerance::Mixed(2e-7);
    /// Of values computed in f32.
    pub const SINGLE: Tolerance = Tolerance::Mixed(1e-6);

    /// Of an operator's output by its type: f32 arithmetic, or four roundings of a half-width type.
    pub fn of_output(listed: &Entry) -> Tolerance {
        match &listed.values {
            crate::golden::Values::Float(data) if data.dtype() != ropewalk::Dtype::F32 => {
                Tolerance::Mixed(4.0 * data.dtype().unit_roundoff())
            }
            _ => Tolerance::SINGLE,
        }
    }
    /// For one listed value.
    pub fn at(self, listed: f64) -> f64 {
        match self {
            Tolerance::Mixed(t) => t * listed.abs().max(1.0),
            Tolerance::Relative(t) => t * listed.abs(),
            Tolerance::Zero => 0.0,
        }
    }
}

/// Why a case cannot be run.
#[derive(Debug, Clone, PartialEq)]
pub enum Unfit {
    /// It needs a term that this version does not have.
    Needs(String),
    /// It contradicts itself.
    Bad(Error),
}

impl From<Error> for Unfit {
    fn from(e: Error) -> Self {
        Unfit::Bad(e)
    }
}

/// Result of turning a case into work.
pub type Build<T> = std::result::Result<T, Unfit>;

/// The case needs what this version does not have.
pub fn needs<T>(what: impl Into<String>) -> Build<T> {
    Err(Unfit::Needs(what.into()))
}

/// Listed values of a `[batch, heads, len, dim]` tensor in the order `[batch, len, heads, dim]`.
pub fn swap_heads<T: Copy>(values: &[T], [batch, heads, len, dim]: [u32; 4]) -> Vec<T> {
    let [batch, heads, len, dim] = [batch, heads, len, dim].map(|n| n as usize);
    let row = move |b, h, i| ((b * heads + h) * len + i) * dim;
    (0..batch)
        .flat_map(|b| (0..len).flat_map(move |i| (0..heads).map(move |h| row(b, h, i))))
        .flat_map(|at| values[at..at + dim].iter().copied())
        .collect()
}

impl Expect {
    /// Of a `[batch, heads, len, dim]` tensor whose stage is `[batch, len, heads, dim]`.
    pub fn heads_first(name: &str, stage: Stage, listed: &Entry, shape: [u32; 4], tolerance: Tolerance) -> Build<Self> {
        let values = values_of(name, listed, &shape)?;
        let listed = swap_heads(&values, shape).into_iter().map(Some).collect();
        Ok(Expect { name: name.into(), stage, listed, tolerance })
    }
    /// Of a tensor in the stage's own order.
    pub fn as_is(name: &str, stage: Stage, listed: &Entry, shape: &[u32], tolerance: Tolerance) -> Build<Self> {
        let listed = values_of(name, listed, shape)?.into_iter().map(Some).collect();
        Ok(Expect { name: name.into(), stage, listed, tolerance })
    }
    /// Rows of `from` values in rows of `to`, where nothing is listed of the rest.
    pub fn widened(mut self, from: u32, to: u32) -> Self {
        let rest = vec![None; to.saturating_sub(from) as usize];
        let rows = self.listed.chunks(from.max(1) as usize);
        self.listed = rows.flat_map(|row| row.iter().chain(&rest).copied()).collect();
        self
    }
    /// Leaves out the values of the rows (`width` values each) that `ignored` names.
    pub fn without(mut self, width: u32, ignored: impl Fn(usize) -> bool) -> Self {
        let rows = self.listed.chunks_mut(width.max(1) as usize).enumerate();
        rows.filter(|(row, _)| ignored(*row)).for_each(|(_, values)| values.fill(None));
        self
    }
}

/// The numbers of a tensor of exactly this shape, ones in front aside.
pub fn values_of(name: &str, listed: &Entry, shape: &[u32]) -> Build<Vec<f64>> {
    let strip = |s: &[usize]| s.iter().copied().skip_while(|n| *n == 1).collect::<Vec<_>>();
    let want: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
    if strip(&listed.shape) != strip(&want) {
        return Err(listed.wrong(name, &format!("shape {want:?}")).into());
    }
    Ok(listed.f64s(name)?)
}

/// ln(1 + exp(x)).
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Ends the building of a case: a tensor that nobody took, or a parameter that nobody read, holds a term that nobody computed.
pub fn finish(parameters: &Parameters, tensors: Tensors, work: Work) -> Build<Work> {
    if let Some(name) = tensors.0.keys().next() {
        return needs(format!("the tensor `{name}`"));
    }
    if work.probes.iter().all(|probe| probe.expects.is_empty()) && work.tables.is_empty() {
        return Err(Error::input("the case", "lists no result", "give expected_out, say, or a table").into());
    }
    let told = |path: &str| TOLD.iter().any(|(name, _)| path == *name || path.starts_with(&format!("{name}.")));
    match parameters.unread().into_iter().find(|path| !told(path)) {
        Some(path) => needs(match path.strip_prefix("attributes.") {
            Some(name) => format!("the attribute {name}"),
            None => format!("the parameter `{path}`"),
        }),
        None => Ok(work),
    }
}

/// Parameters that no computation reads, and why.
const TOLD: &[(&str, &str)] = &[
    ("model", "a name; it decides where a convention is named nowhere else, and is read there"),
    ("q_len", "the tensors' shapes say the same"),
    ("kv_len", "the tensors' shapes say the same"),
    ("batch", "the tensors' shapes say the same"),
    ("opset", "the version of the operator, whose rules its attributes state"),
    ("input_slots", "the names of the tensors say the same"),
    ("output_slots", "the names of the tensors say the same"),
    ("dtypes", "the tensors say the same"),
    ("atol", "the suite's own tolerance; ours is narrower"),
    ("rtol", "the suite's own tolerance; ours is narrower"),
    ("max_abs_inv_freq_relative_difference_f32", "what the package's f32 lost, which is no part of the case"),
    ("relative_pos_entries_that_differ_in_float64", "what the package's f32 changed; the entries are compared"),
    ("attributes.softmax_precision", "in what an operator rounds; a tolerance holds for all"),
    ("attributes.chunk_size", "how an operator cuts its work, which changes no result"),
];
