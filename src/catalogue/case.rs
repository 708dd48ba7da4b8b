//! Cases of our own: named, seeded, addressable. No files.
//!
//! A case is a control, plus named deviations, a shape, a storage type and a seed, all of them in its address:
//!
//! ```text
//! attention/control/q37k75/f32/seed1                       out and lse of the control
//! scores/t5+kv-lens/q37k75/bf16/seed1                      the score matrix, with two deviations
//! rotate/deepseek-v3/q64k65/f16/seed9                      the rotated q and k
//! rotate-in-place/deepseek-v3/q64k65/f16/seed9             the same where they stand, and nothing else changed
//! embed/learned+gaps/q37k75/bf16/seed1                     x + P[m], into another tensor and in place
//! ```
//!
//! The control has 4 query heads, 2 kv heads, head_dim 64, two sequences, half-split RoPE (theta 10 000) and a causal
//! mask aligned bottom-right. `q37k75` is 37 query tokens over a cache of 75. Every name of [`names`] can be combined with
//! those of other groups by `+`, with any shape, type and seed: such an address need not be among [`all`]. `embed` has names
//! of its own, and takes few of the others: its control is the sinusoid of Vaswani et al., 64 wide, of 37 tokens that end at
//! position 74; a learned table has 75 rows.
//!
//! A sixth part says which of a device's kernels compute the case ([`Kernels`]); without one it is what the planner chooses:
//!
//! ```text
//! attention/one-head+d32+one-sequence/q1k65537/f32/seed1/families      every family that takes it
//! attention/one-head+one-sequence/q65k65/f32/seed1/tunings             with all of their numbers
//! attention/one-head+one-sequence/q65k65/f32/seed1/tile-q64k32         one of them
//! ```
//!
//! **Addresses are stable**: an address names the same spec and the same numbers on every machine, in every version of
//! this crate that knows it. Names may be added, none changes its meaning. The order of [`all`] is fixed too, up to
//! insertions. Numbers come from integers and one f32 multiplication, so they have the same bits everywhere.
//!
//! Whatever a kernel must not read (cache rows beyond kv_len, gaps between strided rows, keys that a mask hides in
//! `unseen-nan`) holds NaN and infinities.
//!
//! ```
//! use ropewalk::case::{self, CaseId};
//! let id: CaseId = "attention/alibi+kv-len/q5k33/f16/seed7".parse()?;
//! let case = id.build()?;
//! let result = ropewalk::reference::attention(&case.spec, &case.inputs)?;
//! assert!(result.out.iter().all(|x| x.is_finite())); // the NaN beyond kv_len are not read
//! assert!(case::matching("rotate/ f16").all(|id| id.to_string().starts_with("rotate/")));
//! # Ok::<(), ropewalk::Error>(())
//! ```

pub use crate::catalogue::draft::Op;
use crate::catalogue::draft::{DEVIATIONS, Deviation, Draft, Group, Random, Stream};
use crate::equation::dtype::Dtype;
use crate::equation::embed::Embed;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::inputs::embed::EmbedInputs;
use crate::inputs::inputs::Inputs;
use crate::inputs::problem::Problem;
use crate::plan::call::Call;
use crate::plan::embed::EmbedShape;
use crate::plan::kernel::Kernel;
use crate::plan::limits::Limits;
use crate::plan::plan::Plan;
use crate::plan::tuning::tuning::Tuning;
use std::fmt;
use std::str::FromStr;

/// Which of a device's kernels compute a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Kernels {
    /// The planner's choice.
    #[default]
    Planned,
    /// The planner's choice, then what every other family that takes the case stands for: the table's line of it, or its best guess.
    Families,
    /// The planner's choice, then all of [`Tuning::candidates`].
    Tunings,
    /// This one.
    Only(Tuning),
}

impl Kernels {
    /// What computes a call on a device of these limits, the planner's choice first (none). `plan` is that choice.
    ///
    /// # Errors
    /// [`Error::Limit`] where one kernel is named that does not suit the call or the device.
    pub fn tunings(self, plan: &Plan, limits: &Limits) -> Result<Vec<Option<Tuning>>> {
        let planned = *plan.tuning();
        let all = match (self, plan.kernel()) {
            (Kernels::Planned, _) => Vec::new(),
            // there is one
            (_, Kernel::Embed { .. }) => vec![planned],
            _ => Tuning::candidates(plan.kernel(), plan.spec(), plan.shape(), limits)?,
        };
        let call = || Call::new(plan.kernel(), plan.spec(), plan.shape(), limits);
        // there is one way to embed
        let best = |family| match all.as_slice() {
            [one] => Ok(Some(*one).filter(|t| t.family == family)),
            _ => Ok(Tuning::of_family(&call()?, family)),
        };
        Ok(match self {
            Kernels::Planned => vec![None],
            Kernels::Tunings => {
                [None].into_iter().chain(all.iter().copied().filter(|t| *t != planned).map(Some)).collect()
            }
            Kernels::Families => {
                let mut chosen = vec![None];
                let mut known = vec![planned.family];
                for tuning in &all {
                    if !known.contains(&tuning.family) {
                        known.push(tuning.family);
                        chosen.push(best(tuning.family)?);
                    }
                }
                chosen
            }
            Kernels::Only(wanted) => {
                let suits = |t: &Tuning| all.contains(t) || call().is_ok_and(|call| t.suits(&call));
                let found = match wanted == (Tuning { checks: wanted.checks, ..Tuning::of(wanted.family) }) {
                    // a family alone, which may have no numbers
                    true if suits(&wanted) => Some(wanted),
                    true => {
                        best(wanted.family)?.map(|t| Tuning { checks: t.checks && wanted.checks, ..t }).filter(suits)
                    }
                    false => Some(wanted).filter(suits),
                };
                let unsuited = || {
                    let help = "give one that the device offers: `/tunings` runs them all";
                    Error::limit("tuning", format!("{wanted} does not suit the case or the device"), help)
                };
                vec![Some(found.ok_or_else(unsuited)?)]
            }
        })
    }
}

/// Spec and inputs of a case.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Case {
    /// The address that it was built from.
    pub address: String,
    /// What is computed.
    pub op: Op,
    /// The terms; of [`Op::Embed`] one head as wide as a row of x.
    pub spec: Spec,
    /// The numbers; of [`Op::Embed`] q is x.
    pub inputs: Inputs,
    /// Of [`Op::Embed`] alone: what is added to x, and the numbers.
    pub embed: Option<(Embed, EmbedInputs)>,
}

impl Case {
    /// The plans of its kernels for a device that takes the case whole, as [`Gpu`](crate::Gpu) makes them.
    ///
    /// # Errors
    /// Those of the plans.
    pub fn plans(&self, limits: &Limits) -> Result<Vec<Plan>> {
        if let Some((embed, inputs)) = &self.embed {
            let shape = EmbedShape::of(&inputs.x, inputs.table.as_ref());
            return [false, true].into_iter().map(|in_place| Plan::embed(embed, &shape, in_place, limits)).collect();
        }
        let problem = Problem::new(&self.spec, &self.inputs)?;
        let plan = |kernel: &Kernel| Plan::for_problem(*kernel, &problem, limits);
        self.op.kernels().iter().map(plan).collect()
    }
}

/// The address of a case, checked; [`CaseId::build`] makes the case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CaseId {
    op: Op,
    /// Indices into [`DEVIATIONS`], ascending, at most one of a group.
    names: Vec<usize>,
    q_len: u32,
    capacity: u32,
    dtype: Dtype,
    seed: u64,
    kernels: Kernels,
}

/// The cases of [`all`] that are drawn at random; [`random`] goes on.
pub const TAIL: u64 = 48;

/// Names that say little of scores.
const ONLY_ROTATED: [&str; 2] = ["unit", "xpos-far"];

/// The most sequences of a case, but for names that say their number.
const BATCHES: u64 = 3;

/// The most of batch x q_len x capacity, and elements of a tensor, so that a case fits a small machine.
const MAX_PLANE: u64 = 1 << 24;

const MAX_ELEMENTS: u64 = 1 << 26;

/// The most of q_len and of capacity.
const MAX_LEN: u32 = 1 << 17;

impl CaseId {
    fn new(op: Op, names: &[&str], q_len: u32, capacity: u32, dtype: Dtype, seed: u64) -> Option<Self> {
        let mut indices = Vec::new();
        for name in names {
            indices.push(DEVIATIONS.iter().position(|d| d.name == *name)?);
        }
        indices.sort_unstable();
        Some(CaseId { op, names: indices, q_len, capacity, dtype, seed, kernels: Kernels::Planned })
    }

    /// The same case by other kernels.
    pub fn with_kernels(self, kernels: Kernels) -> Self {
        CaseId { kernels, ..self }
    }
    /// Which kernels compute it.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// What is computed.
    pub fn op(&self) -> Op {
        self.op
    }
    /// The names of its deviations; none: the control.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.names.iter().filter_map(|i| DEVIATIONS.get(*i)).map(|d| d.name)
    }

    /// Whether the address contains every word of a query.
    pub fn matches(&self, query: &str) -> bool {
        let address = self.to_string();
        query.split_whitespace().all(|word| address.contains(word))
    }

    /// Spec and inputs.
    pub fn build(&self) -> Result<Case> {
        let mut draft = Draft::control(self.q_len, self.capacity, self.dtype, self.seed);
        self.names.iter().filter_map(|i| DEVIATIONS.get(*i)).for_each(|d| (d.apply)(&mut draft));
        if self.op == Op::Linear && draft.spec.linear.is_none() {
            draft.roformer();
        }
        if self.op == Op::Embed {
            draft.one_head();
        }
        let spec = &draft.spec;
        let batches = BATCHES.max(draft.batch as u64);
        let elements = |tokens: u32, heads: u32| {
            batches * tokens as u64 * heads as u64 * spec.head_dim.max(spec.v_head_dim) as u64
        };
        let largest = elements(self.q_len, spec.num_heads).max(elements(self.capacity, spec.num_kv_heads));
        if largest > MAX_ELEMENTS {
            return Err(Error::input(
                format!("{self}"),
                format!("a tensor may take {largest} elements"),
                format!("let tokens x heads x head_dim be at most {}", MAX_ELEMENTS / batches),
            ));
        }
        if batches * self.q_len as u64 * self.capacity as u64 > MAX_PLANE {
            let help = format!("let q x k be at most {}", MAX_PLANE / batches);
            return Err(Error::input(format!("{self}"), format!("{} sequences of such a shape", draft.batch), help));
        }
        let inputs = draft.inputs()?;
        let embed = if self.op == Op::Embed { Some(draft.embed(&inputs)?) } else { None };
        Ok(Case { address: self.to_string(), op: self.op, spec: draft.spec, inputs, embed })
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        let names = if names.is_empty() { "control".into() } else { names.join("+") };
        let (op, dtype) = (self.op.name(), self.dtype.name());
        write!(f, "{op}/{names}/q{}k{}/{dtype}/seed{}", self.q_len, self.capacity, self.seed)?;
        match self.kernels {
            Kernels::Planned => Ok(()),
            Kernels::Families => write!(f, "/families"),
            Kernels::Tunings => write!(f, "/tunings"),
            Kernels::Only(tuning) => write!(f, "/{tuning}"),
        }
    }
}

impl FromStr for CaseId {
    type Err = Error;

    fn from_str(address: &str) -> Result<Self> {
        let wrong = |what: &str, help: String| Error::input("address", format!("{address}: {what}"), help);
        let form = || "write it as attention/alibi+kv-len/q37k75/f16/seed1".to_string();
        let parts: Vec<&str> = address.split('/').collect();
        let (&[op, names, shape, dtype, seed], rest) =
            parts.split_first_chunk().ok_or_else(|| wrong("an address has five parts", form()))?;
        let kernels = match rest {
            [] => Kernels::Planned,
            ["families"] => Kernels::Families,
            ["tunings"] => Kernels::Tunings,
            [tuning] => {
                Kernels::Only(tuning.parse().map_err(|e: Error| wrong("the kernel is unknown", e.to_string()))?)
            }
            _ => return Err(wrong("an address has five parts, or a kernel as the sixth", form())),
        };
        let Some(op) = Op::ALL.into_iter().find(|o| o.name() == op) else {
            return Err(wrong(
                "the first part is unknown",
                format!("give one of {}", Op::ALL.map(Op::name).join(", ")),
            ));
        };
        let dtype = [Dtype::F32, Dtype::F16, Dtype::Bf16].into_iter().find(|d| d.name() == dtype);
        let dtype = dtype.ok_or_else(|| wrong("the storage type is unknown", "give f32, f16 or bf16".into()))?;
        let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n > 0);
        let lengths = shape.strip_prefix('q').and_then(|s| s.split_once('k'));
        let lengths = lengths.and_then(|(q, k)| Some((number(q)?, number(k)?)));
        let (q_len, capacity) = lengths.ok_or_else(|| wrong("the shape cannot be read", form()))?;
        if q_len.max(capacity) > MAX_LEN || BATCHES * q_len as u64 * capacity as u64 > MAX_PLANE {
            return Err(wrong("the shape is too large", format!("let q x k be at most {}", MAX_PLANE / BATCHES)));
        }
        let seed = seed.strip_prefix("seed").and_then(|s| s.parse().ok());
        let seed = seed.ok_or_else(|| wrong("the seed cannot be read", form()))?;
        let mut indices: Vec<usize> = Vec::new();
        for name in names.split('+').filter(|name| *name != "control") {
            let Some(index) = DEVIATIONS.iter().position(|d| d.name == name) else {
                let known: Vec<_> = self::names().collect();
                return Err(wrong(&format!("there is no {name}"), format!("the names are: {}", known.join(" "))));
            };
            let known = &DEVIATIONS[index];
            if !known.matters_to(op) && (op == Op::Embed || known.embeds_alone()) {
                let fit: Vec<_> = DEVIATIONS.iter().filter(|d| d.matters_to(op)).map(|d| d.name).collect();
                let what = format!("{name} means nothing to {}", op.name());
                return Err(wrong(&what, format!("the names that do are: {}", fit.join(" "))));
            }
            let group = |i: &usize| DEVIATIONS[*i].group;
            if let Some(other) = indices.iter().find(|i| group(i) == group(&index)) {
                let help = "they exclude each other: give one of the two".into();
                return Err(wrong(&format!("{} and {name}", DEVIATIONS[*other].name), help));
            }
            indices.push(index);
        }
        indices.sort_unstable();
        Ok(CaseId { op, names: indices, q_len, capacity, dtype, seed, kernels })
    }
}

/// The names that addresses combine, group by group.
pub fn names() -> impl Iterator<Item = &'static str> {
    DEVIATIONS.iter().map(|d| d.name)
}

/// Every case, in a fixed order: the control, one deviation at a time, the storage types, both sides of every tile's
/// edge, models, the edges of the planner's classes and of every family's tiles, and [`TAIL`] random ones.
pub fn all() -> impl Iterator<Item = CaseId> {
    fixed().into_iter().chain(random().take(TAIL as usize))
}

/// The endless random tail: combinations of deviations at random shapes.
pub fn random() -> impl Iterator<Item = CaseId> {
    (1..).filter_map(drawn)
}

/// The cases of [`all`] that match a query, or the case whose whole address it is.
pub fn matching(query: &str) -> impl Iterator<Item = CaseId> {
    let exact: Option<CaseId> = query.trim().parse().ok();
    let listed = if exact.is_some() { None } else { Some(all()) };
    let query = query.to_string();
    exact.into_iter().chain(listed.into_iter().flatten().filter(move |id| id.matches(&query)))
}

fn fixed() -> Vec<CaseId> {
    const OPS: [Op; 3] = [Op::Attention, Op::Scores, Op::Rotate];
    const NARROW: [Dtype; 2] = [Dtype::F16, Dtype::Bf16];
    let mut cases = Vec::new();
    let mut add = |op: Op, names: &[&str], q_len: u32, capacity: u32, dtype: Dtype| {
        cases.extend(CaseId::new(op, names, q_len, capacity, dtype, 1));
    };
    // the control in every storage type
    for op in OPS {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            add(op, &[], 37, 75, dtype);
        }
    }
    // one deviation at a time
    for op in OPS {
        for d in DEVIATIONS.iter().filter(|d| d.matters_to(op) && d.group != Group::Model && !d.edge) {
            // rows of 1 and 0 are for rotations
            if !ONLY_ROTATED.contains(&d.name) {
                add(op, &[d.name], 37, 75, Dtype::F32);
            }
        }
    }
    // cos and sin themselves, whose bits adapters share
    for names in
        [&["unit"][..], &["theta1e6", "ids-far", "unit"], &["inv-freq", "ids-far", "unit"], &["float32", "unit"]]
    {
        add(Op::Rotate, names, 75, 75, Dtype::F32);
    }
    // distances that leave 32 bits
    for name in ["table", "alibi", "alibi-symmetric", "alibi-key-from-end"] {
        add(Op::Scores, &["ids-far", name, "no-mask"], 37, 75, Dtype::F32);
    }
    // xPos at both ends of i32, and where its powers are cut
    for names in [&["ids", "xpos-far"][..], &["ids-far", "xpos-far"], &["ids-far", "xpos-far", "unit"]] {
        add(Op::Rotate, names, 75, 75, Dtype::F32);
    }
    // values that are staged beside keys: tiles of other sizes, values wider and narrower than keys, keys in parts
    for names in [
        &["d256", "rotated-values"][..],
        &["d64v80", "rotated-values"],
        &["d64v7", "one-pair", "rotated-values"],
        &["d33", "offset-interleaved", "rotated-values"],
        &["half-of-halves", "two-streams", "rotated-values"],
        &["float32", "three-streams", "xpos", "rotated-values"],
        &["angle-table", "three-streams", "rotated-values"],
        &["unseen-nan", "gaps", "rotated-values"],
        &["qwen3", "rotated-keys", "cache"],
        &["unseen-nan", "rotated-keys"],
        &["kv-lens", "xpos"],
    ] {
        for dtype in [Dtype::F32, Dtype::F16] {
            add(Op::Attention, names, 37, 75, dtype);
        }
    }
    add(Op::Attention, &["rotated-values"], 5, 4000, Dtype::F32);
    // storage: every path of loads and stores
    for dtype in NARROW {
        for name in
            ["d1", "d3", "d33", "d256", "d64v7", "packed", "cache", "gaps", "start3", "kv-len", "peaked", "tiny"]
        {
            add(Op::Attention, &[name], 37, 75, dtype);
        }
        for name in ["d33", "gaps", "start3", "interleaved-in-half-out", "offset-odd"] {
            add(Op::Rotate, &[name], 37, 75, dtype);
        }
        add(Op::Scores, &["gaps"], 37, 75, dtype);
    }
    // keys and values in types of their own: few rows and many, rotated on the way and before
    for d in DEVIATIONS.iter().filter(|d| d.group == Group::Storage) {
        add(Op::Attention, &[d.name, "cache"], 1, 300, Dtype::F32);
        add(Op::Attention, &[d.name, "llama", "rotated-keys"], 5, 131, Dtype::F16);
    }
    for names in [&["q8_0", "rotated-values"][..], &["q5_1", "shaw"], &["q4_0", "qwen3"], &["int8", "gaps"]] {
        add(Op::Attention, names, 37, 75, Dtype::F32);
    }
    add(Op::Attention, &["d576v512", "mqa"], 1, 40, Dtype::F16);
    add(Op::Attention, &["d576v512", "mqa", "q8_0"], 5, 33, Dtype::F32);
    // both sides of the edges of their tiles
    for (q_len, kv_len) in [(63, 41), (64, 42), (65, 43)] {
        add(Op::Attention, &["d576v512", "mqa", "q8_0"], q_len, kv_len, Dtype::F32);
    }
    for pool in ["slots", "pages7"] {
        add(Op::Attention, &["q8_0", "ragged-decode", pool], 5, 700, Dtype::F32);
        add(Op::Attention, &["q4_1", "ragged", pool], 37, 75, Dtype::F16);
    }
    // more queries than keys: rows that see nothing
    for names in [&[][..], &["top-left"], &["window"], &["angle-table"]] {
        add(Op::Attention, names, 75, 37, Dtype::F32);
    }
    // both sides of the edges of row tiles (64 rows; a row is a query head of a token) and key tiles (32, of d 256: 16)
    for op in [Op::Attention, Op::Scores] {
        for q_len in [1, 63, 64, 65, 127, 128, 129] {
            add(op, &["mha"], q_len, 75, Dtype::F32);
        }
        for q_len in [31, 32, 33] {
            add(op, &[], q_len, 75, Dtype::F32);
        }
        for capacity in [1, 31, 32, 33, 63, 64, 65, 95, 96, 97] {
            add(op, &[], 5, capacity, Dtype::F32);
        }
        for capacity in [15, 16, 17, 31, 32, 33] {
            add(op, &["d256"], 5, capacity, Dtype::F32);
        }
        // words of mask bits, windows and lengths that end beside an edge
        for capacity in [31, 32, 33, 64, 65] {
            add(op, &["mask"], 5, capacity, Dtype::F32);
            add(op, &["window"], 5, capacity, Dtype::F32);
            add(op, &["kv-len"], 5, capacity * 4 / 3 + 1, Dtype::F32);
        }
    }
    // gates behind D, and cut with their sequences and heads
    for op in [Op::Attention, Op::Scores] {
        add(op, &["wavlm", "dense-rows", "mqa", "kv-lens"], 37, 75, Dtype::F32);
    }
    // long rows, whose keys some adapters cut over several dispatches
    for (names, q_len, capacity) in [
        (&[][..], 5, 9000),
        (&["window-left", "kv-lens"], 5, 9000),
        (&["dense-keys", "nan-query"], 5, 9000),
        (&["d256", "no-mask"], 3, 5000),
        (&["d255v3", "kv-len"], 3, 5000),
        (&["sink"], 5, 9000),
        (&["rms-norm-weights", "sink-zero"], 5, 9000),
        (&["ids-far", "temperature"], 37, 75),
    ] {
        add(Op::Attention, names, q_len, capacity, Dtype::F32);
    }
    add(Op::Scores, &[], 5, 9000, Dtype::F32);
    // packed sequences across the edges of tiles, of any kind, in every path of storage
    for names in [&[][..], &["window"], &["window-two-sided"], &["top-left"], &["no-mask"], &["mha", "ids"], &["mqa70"]]
    {
        for lengths in ["ragged", "ragged-decode"] {
            add(Op::Attention, &[names, &[lengths]].concat(), 200, 300, Dtype::F32);
            add(Op::Scores, &[names, &[lengths]].concat(), 70, 150, Dtype::F32);
        }
    }
    for name in ["dense", "mask", "dense-minus-infinity", "alibi-key-from-end", "t5", "angle-table", "d33", "d256"] {
        add(Op::Attention, &[name, "ragged"], 75, 150, Dtype::F32);
    }
    // the same sequences in a pool
    for pool in ["slots", "pages1", "pages7", "pages16"] {
        for (names, q_len, capacity) in [
            (&["ragged"][..], 200, 300),
            (&["ragged-decode"], 5, 700),
            (&["ragged-decode", "rotated-keys"], 5, 700),
            (&["mha", "ids", "ragged"], 75, 150),
            (&["window", "ragged"], 75, 150),
            (&["dense", "mask", "ragged"], 37, 75),
            (&["d33", "ragged"], 37, 75),
            (&["shaw", "ragged"], 37, 75),
        ] {
            add(Op::Attention, &[names, &[pool]].concat(), q_len, capacity, Dtype::F32);
        }
        add(Op::Scores, &["ragged", pool], 70, 150, Dtype::F32);
        add(Op::Attention, &["gaps", "ragged", pool], 37, 75, Dtype::F16);
        add(Op::Attention, &["ragged-decode", pool], 5, 700, Dtype::Bf16);
    }
    for dtype in NARROW {
        add(Op::Attention, &["ragged", "gaps"], 75, 150, dtype);
        add(Op::Rotate, &["ragged", "d33"], 75, 150, dtype);
    }
    add(Op::Attention, &["ragged"], 40, 9000, Dtype::F32);
    for q_len in [63, 64, 65] {
        add(Op::Rotate, &[], q_len, q_len + 1, Dtype::F32);
    }
    // models: prefill, decode, storage
    for d in DEVIATIONS.iter().filter(|d| d.group == Group::Model) {
        add(Op::Attention, &[d.name], 75, 75, Dtype::F32);
        add(Op::Attention, &[d.name], 1, 300, Dtype::F32);
        add(Op::Attention, &[d.name, "cache", "kv-lens"], 5, 131, Dtype::F16);
    }
    // linear attention: systems, then what changes its layout and storage
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        add(Op::Linear, &[], 37, 75, dtype);
    }
    let linear = || DEVIATIONS.iter().filter(|d| d.group == Group::Linear).map(|d| d.name);
    for name in linear() {
        add(Op::Linear, &[name], 75, 75, Dtype::F32);
        add(Op::Linear, &[name, "kv-lens", "gqa3"], 37, 75, Dtype::F16);
    }
    for d in DEVIATIONS.iter().filter(|d| d.matters_to(Op::Linear) && d.group != Group::Linear && !d.edge) {
        add(Op::Linear, &[d.name], 37, 75, Dtype::F32);
    }
    for names in [&["linear-performer", "d33"][..], &["linear-performer", "gaps"], &["linear-feature", "d64v80"]] {
        add(Op::Linear, names, 33, 70, Dtype::Bf16);
    }
    // more queries than keys, and times that some adapters cut over several dispatches
    add(Op::Linear, &["linear-performer"], 75, 37, Dtype::F32);
    add(Op::Linear, &["top-left"], 75, 37, Dtype::F32);
    add(Op::Linear, &["one-head"], 2200, 2200, Dtype::F32);
    add(Op::Linear, &["one-head", "linear-performer"], 700, 900, Dtype::F32);
    // few rows over many keys: both sides of the most rows that are taken together, of the edges of splits, and what joins them
    for (name, q_lens) in [("mha", [15, 16, 17]), ("mqa", [3, 4, 5]), ("gqa3", [1, 5, 6]), ("one-head", [1, 4, 16])] {
        for q_len in q_lens {
            add(Op::Attention, &[name], q_len, 330, Dtype::F32);
        }
    }
    for capacity in [127, 128, 129, 575, 576, 577, 600] {
        add(Op::Attention, &[], 1, capacity, Dtype::F32);
    }
    for names in [
        &["window", "kv-lens"][..],
        &["sink", "peaked"],
        &["sink-zero", "kv-len1"],
        &["alibi", "cap", "rotated-keys"],
        &["t5", "nan-query"],
        &["unseen-nan", "gaps"],
        &["mask", "d33", "start3"],
        &["dense-minus-infinity", "d64v7"],
        &["d256", "offset-in-half-out"],
        &["partial-interleaved", "cache"],
        &["ragged-decode", "rotated-keys"],
        &["rms-norm-weights", "bhsd"],
        &["two-streams", "xpos"],
    ] {
        for (q_len, dtype) in [(1, Dtype::F32), (3, Dtype::F16), (2, Dtype::Bf16)] {
            add(Op::Attention, names, q_len, 450, dtype);
        }
    }
    cases.extend(edges());
    // rotations once more, in place
    let may = |id: &CaseId| {
        id.names().all(|name| DEVIATIONS.iter().any(|d| d.name == name && d.matters_to(Op::RotateInPlace)))
    };
    let rotated = cases.iter().filter(|id| id.op == Op::Rotate && may(id));
    let in_place: Vec<CaseId> = rotated.map(|id| CaseId { op: Op::RotateInPlace, ..id.clone() }).collect();
    cases.extend(in_place);
    // rows that share words with what lies between them and beyond
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for names in [&["d33", "gaps"][..], &["d33", "kv-lens", "bhsd"], &["kv-lens", "gaps"], &["ragged", "packed"]] {
            cases.extend(CaseId::new(Op::RotateInPlace, names, 37, 75, dtype, 1));
        }
    }
    cases.extend(embeds());
    cases
}

/// Absolute systems: every one in every storage type, what changes its layout and storage, both sides of the ends of classes.
fn embeds() -> Vec<CaseId> {
    let mut cases = Vec::new();
    let mut add = |names: &[&str], q_len: u32, capacity: u32, dtype: Dtype| {
        cases.extend(CaseId::new(Op::Embed, names, q_len, capacity, dtype, 1));
    };
    let systems = || DEVIATIONS.iter().filter(|d| d.group == Group::Absolute).map(|d| d.name);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        add(&[], 37, 75, dtype);
        add(&["ids-far", "both-scales", "gaps"], 37, 75, dtype);
        for name in systems() {
            add(&[name], 37, 75, dtype);
            // the last column of an odd width, rows that start at any element
            add(&[name, "d33", "both-scales"], 37, 75, dtype);
            add(&[name, "ids", "start3"], 75, 37, dtype);
        }
        add(&["d33", "gaps"], 37, 75, dtype);
        add(&["learned", "gaps"], 37, 75, dtype);
        add(&["learned", "packed", "ids", "both-scales"], 37, 75, dtype);
    }
    for d in DEVIATIONS.iter().filter(|d| d.matters_to(Op::Embed) && d.group != Group::Absolute && !d.edge) {
        add(&[d.name], 37, 75, Dtype::F32);
    }
    // widths, sequences, tokens, rows of a table
    let small: &[&str] = &["one-sequence"];
    for names in [small, &["one-sequence", "learned"]] {
        for dim in [
            "d31",
            "d32",
            "d33",
            "d63",
            "d65",
            "d95",
            "d96",
            "d97",
            "d127",
            "d128",
            "d129",
            "d191",
            "d192",
            "d193",
            "d255",
            "d256",
            "width257",
            "width1030",
        ] {
            add(&[&[dim], names].concat(), 11, 7, Dtype::F32);
        }
        for n in [8, 64, 256, 1024, 4096, 16_384].into_iter().flat_map(|n| [n - 1, n, n + 1]) {
            add(&[&["d3"], names].concat(), n, 33, Dtype::F32);
        }
    }
    for name in DEVIATIONS.iter().map(|d| d.name).filter(|name| name.starts_with("sequences")) {
        add(&[name, "d3"], 5, 33, Dtype::F32);
    }
    for n in [256, 1024, 4096, 16_384, 65_536].into_iter().flat_map(|n| [n - 1, n, n + 1]) {
        add(&["d3", "learned", "one-sequence"], 5, n, Dtype::F32);
    }
    cases
}

/// Both sides of every end of the planner's classes (`tuning/bucket.rs`) by every family, and of every edge of a tile by every tuning.
/// One head of one sequence, so that lengths are rows.
fn edges() -> Vec<CaseId> {
    use Kernels::{Families, Planned, Tunings};
    let mut cases = Vec::new();
    let mut add = |op: Op, names: &[&str], q_len: u32, capacity: u32, dtype: Dtype, kernels: Kernels| {
        cases.extend(CaseId::new(op, names, q_len, capacity, dtype, 1).map(|id| id.with_kernels(kernels)));
    };
    let sides = |n: u32| [n - 1, n, n + 1];
    let one: &[&str] = &["one-head", "one-sequence"];
    // tiles: edges of rows, of keys for few and for many rows, of both
    for n in [4, 8, 16, 32, 64, 128] {
        sides(n).into_iter().for_each(|q| add(Op::Attention, one, q, 131, Dtype::F32, Tunings));
    }
    for (q, edges) in
        [(1, &[128, 256, 512][..]), (5, &[16, 32, 64, 128, 256]), (13, &[64, 192]), (37, &[16, 32, 64, 128, 256])]
    {
        edges.iter().flat_map(|n| sides(*n)).for_each(|k| add(Op::Attention, one, q, k, Dtype::F32, Tunings));
    }
    for n in [32, 64, 128] {
        sides(n).into_iter().for_each(|n| add(Op::Attention, one, n, n, Dtype::F32, Tunings));
    }
    // three rows a token
    for (q, k) in [(21, 63), (22, 65), (43, 129)] {
        add(Op::Attention, &["gqa3"], q, k, Dtype::F16, Tunings);
    }
    // tiles of fewer keys, for wide heads
    for (dim, tile) in [("d129", 28), ("d192", 21), ("d256", 16)] {
        sides(tile)
            .into_iter()
            .for_each(|k| add(Op::Attention, &[dim, "one-head", "one-sequence"], 5, k, Dtype::F32, Families));
    }
    let few = ["d256", "one-head", "one-sequence"];
    sides(32).into_iter().for_each(|k| add(Op::Attention, &few, 3, k, Dtype::F32, Families));
    // scores of +inf, from wherever they come
    for name in ["inf-query", "inf-key", "dense-infinity", "own-infinity"] {
        let names = ["one-head", "d32", "one-sequence", name];
        add(Op::Attention, &names, 37, 75, Dtype::F32, Tunings);
        add(Op::Attention, &names, 5, 300, Dtype::F32, Tunings);
        add(Op::Attention, &names, 37, 75, Dtype::F16, Families);
        add(Op::Attention, &names, 5, 300, Dtype::Bf16, Families);
    }
    for name in ["dense-infinity", "own-infinity"] {
        add(Op::Scores, &[name], 5, 75, Dtype::F32, Planned);
    }
    // tokens that neighbouring lanes take, and heads of a lane
    for n in [8, 16, 128] {
        sides(n).into_iter().for_each(|q| add(Op::Rotate, one, q, 2 * n - q, Dtype::F32, Tunings));
    }
    for heads in [
        "heads3", "mha", "heads5", "heads7", "heads8", "heads9", "heads15", "heads16", "heads17", "heads31", "heads32",
        "heads33",
    ] {
        add(Op::Rotate, &[heads, "one-sequence"], 9, 7, Dtype::F32, Tunings);
    }
    // classes of head_dim
    for dim in [
        "d31", "d32", "d33", "d63", "", "d65", "d95", "d96", "d97", "d127", "d128", "d129", "d191", "d192", "d193",
        "d255", "d256", "d257",
    ] {
        let names: Vec<&str> = [dim, "one-head", "one-sequence"].into_iter().filter(|name| !name.is_empty()).collect();
        add(Op::Attention, &names, 37, 75, Dtype::F32, Families);
        add(Op::Attention, &names, 5, 75, Dtype::F32, Families);
        add(Op::Scores, &names, 5, 35, Dtype::F32, Planned);
        add(Op::Rotate, &names, 11, 7, Dtype::F32, Families);
        if dim != "d257" {
            add(Op::Linear, &names, 11, 7, Dtype::F32, Planned);
        }
    }
    // of kv heads
    for heads in [
        "heads3", "mha", "heads5", "heads15", "heads16", "heads17", "heads63", "heads64", "heads65", "heads255",
        "heads256", "heads257",
    ] {
        let names = [heads, "d32", "one-sequence"];
        add(Op::Attention, &names, 5, 33, Dtype::F32, Families);
        add(Op::Scores, &names, 5, 33, Dtype::F32, Planned);
        add(Op::Rotate, &names, 5, 3, Dtype::F32, Families);
        add(Op::Linear, &names, 5, 33, Dtype::F32, Planned);
    }
    // of rows, which all see the few keys, and of keys
    let (seen, short) = (["one-head", "d32", "no-mask", "one-sequence"], ["one-head", "d32", "one-sequence"]);
    for n in [8, 64, 256, 1024, 4096, 16_384].into_iter().flat_map(sides) {
        add(Op::Attention, &seen, n, 33, Dtype::F32, Families);
        add(Op::Scores, &seen, n, 33, Dtype::F32, Planned);
        add(Op::Rotate, &short, n, 33, Dtype::F32, Families);
        add(Op::Rotate, &short, 33, n, Dtype::F32, Families);
        add(Op::Linear, &short, n, 33, Dtype::F32, Planned);
    }
    for n in [256, 1024, 4096, 16_384, 65_536].into_iter().flat_map(sides) {
        add(Op::Attention, &short, 1, n, Dtype::F32, Families);
        add(Op::Attention, &short, 17, n, Dtype::F32, Families);
        add(Op::Scores, &short, 5, n, Dtype::F32, Planned);
        add(Op::Linear, &short, 5, n, Dtype::F32, Planned);
    }
    // rows and keys alike, each seeing the keys before it
    for n in [257, 1025] {
        add(Op::Attention, &short, n, n, Dtype::F32, Families);
    }
    cases
}

/// The random case of a seed, if it is not the control.
fn drawn(seed: u64) -> Option<CaseId> {
    let mut random = Random::new(seed, Stream::Tail);
    let mut pick = |n: usize| random.below(n as u64) as usize;
    let op = [Op::Attention, Op::Attention, Op::Attention, Op::Scores, Op::Scores, Op::Rotate][pick(6)];
    let dtype = [Dtype::F32, Dtype::F16, Dtype::Bf16][pick(3)];
    let (q_len, capacity) = (1 + pick(90) as u32, 1 + pick(180) as u32);
    let drawn = || DEVIATIONS.iter().filter(|d| !d.edge);
    let mut groups: Vec<Group> = drawn().map(|d| d.group).filter(|g| g.matters_to(op)).collect();
    groups.dedup();
    let mut names = Vec::new();
    for group in groups {
        let of_group: Vec<&Deviation> =
            drawn().filter(|d| d.group == group && !ONLY_ROTATED.contains(&d.name)).collect();
        if pick(3) == 0 {
            names.push(of_group[pick(of_group.len())].name);
        }
    }
    if names.is_empty() { None } else { CaseId::new(op, &names, q_len, capacity, dtype, seed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::draft::DEVIATIONS;
    use crate::equation::bias::Bias;
    use crate::equation::dtype::Dtype;
    use crate::equation::mask::Mask;
    use crate::equation::rotary::rotary::Pairing;
    use crate::equation::rotary::rotary::Rotary;
    use crate::equation::spec::Spec;
    use crate::inputs::tensor::Tensor;
    use crate::plan::limits::Limits;
    use crate::{check, reference};
    use std::collections::HashSet;

    #[test]
    fn addresses_are_unique_and_read_back() {
        let all: Vec<CaseId> = all().collect();
        let addresses: HashSet<String> = all.iter().map(CaseId::to_string).collect();
        assert_eq!(addresses.len(), all.len());
        for id in &all {
            assert_eq!(id.to_string().parse::<CaseId>().as_ref(), Ok(id));
        }
        assert_eq!(all.iter().rev().take(TAIL as usize).filter(|id| id.seed > 1).count() as u64, TAIL - 1);
        let names: HashSet<&str> = names().collect();
        assert_eq!(names.len(), DEVIATIONS.len());
        assert!(DEVIATIONS.is_sorted_by_key(|d| d.group));
    }

    #[test]
    fn wrong_addresses_say_what_is_wrong() {
        for (address, part) in [
            ("attention", "five parts"),
            ("attend/control/q1k1/f32/seed1", "the first part is unknown"),
            ("attention/alibis/q1k1/f32/seed1", "there is no alibis"),
            ("attention/alibi+t5/q1k1/f32/seed1", "alibi and t5"),
            ("embed/alibi/q1k1/f32/seed1", "alibi means nothing to embed"),
            ("embed/d64v7/q1k1/f32/seed1", "d64v7 means nothing to embed"),
            ("attention/learned/q1k1/f32/seed1", "learned means nothing to attention"),
            ("rotate/width257/q1k1/f32/seed1", "width257 means nothing to rotate"),
            ("embed/learned+sinusoidal-halves/q1k1/f32/seed1", "learned and sinusoidal-halves"),
            ("attention/control/q0k1/f32/seed1", "the shape cannot be read"),
            ("attention/control/q1/f32/seed1", "the shape cannot be read"),
            ("attention/control/q60000k60000/f32/seed1", "the shape is too large"),
            ("attention/control/q4294967295k4294967295/f32/seed1", "the shape is too large"),
            ("attention/control/q1k1/f64/seed1", "the storage type is unknown"),
            ("attention/control/q1k1/f32/seed1/tiles", "the kernel is unknown"),
            ("attention/control/q1k1/f32/seed1/rows/rows", "five parts"),
            ("attention/control/q1k200000/f32/seed1", "the shape is too large"),
            ("attention/control/q1k1/f32/seed-1", "the seed cannot be read"),
        ] {
            let error = address.parse::<CaseId>().expect_err(address).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn queries_select() {
        assert_eq!(matching("attention/alibi+kv-len/q5k33/f16/seed7").count(), 1);
        assert_eq!(matching("").count(), all().count());
        assert!(matching("rotate f16").count() > 3);
        assert_eq!(matching("nonsense").count(), 0);
    }

    #[test]
    fn every_case_is_a_problem_of_its_own() {
        let mut seen = HashSet::new();
        for id in all() {
            let case = id.build().unwrap_or_else(|e| panic!("{id}: {e}"));
            assert_eq!((&case.address, case.op, case.spec.dtype), (&id.to_string(), id.op, id.dtype));
            let plans = case.plans(&Limits::default());
            // without naga a user's function is refused altogether
            if cfg!(feature = "naga") || (case.spec.score_mod.is_none() && case.spec.mask_mod.is_none()) {
                assert_eq!(plans.unwrap_or_else(|e| panic!("{id}: {e}")).len(), id.op.kernels().len());
            }
            let what = case.embed.as_ref().map_or_else(|| case.spec.to_json(), |(embed, _)| format!("{embed:?}"));
            assert!(seen.insert((case.op, what, fingerprint(&case))), "{id} is another case");
        }
    }

    /// FNV-1a of all numbers of a case, whatever bits its NaN have.
    fn fingerprint(case: &Case) -> u64 {
        let inputs = &case.inputs;
        let floats = |values: &[f32]| values.iter().map(|x| x.abs().max(-1.0).to_bits() as u64).collect::<Vec<_>>();
        let signs =
            |values: &[f32]| values.iter().map(|x| (x.is_sign_negative() && !x.is_nan()) as u64).collect::<Vec<_>>();
        let mut words = Vec::new();
        for t in [&inputs.q, &inputs.k, &inputs.v] {
            let strides = t.strides();
            words.extend(t.shape().map(u64::from));
            words.extend([strides.batch, strides.token, strides.head, t.offset()].map(u64::from));
            words.extend(floats(&t.data().to_f32()));
            words.extend(signs(&t.data().to_f32()));
        }
        words.extend(inputs.kv_len.map(u64::from));
        words.extend(inputs.kv_lens.iter().flatten().map(|n| *n as u64));
        words.extend([&inputs.cu_seqlens_q, &inputs.cu_seqlens_k].into_iter().flatten().flatten().map(|n| *n as u64));
        words.extend([&inputs.q_positions, &inputs.k_positions].into_iter().flatten().flatten().map(|p| *p as u64));
        inputs.parameters.values().for_each(|t| words.extend(floats(t)));
        inputs.angle_table.iter().for_each(|t| words.extend(floats(&t.cos).into_iter().chain(floats(&t.sin))));
        words.extend(inputs.gates.iter().flatten().map(|g| g.to_bits()));
        words.extend([&inputs.q_segments, &inputs.k_segments].into_iter().flatten().flatten().map(|s| *s as u64));
        if let Some(dense) = &inputs.attn_bias {
            words.extend(dense.shape.map(u64::from));
            words.extend(floats(&dense.data));
        }
        if let Some(mask) = &inputs.mask {
            words.extend(mask.shape.map(u64::from));
            words.extend(mask.data.iter().map(|seen| *seen as u64));
        }
        if let Some((_, embed)) = &case.embed {
            words.extend(embed.positions.iter().map(|p| *p as u64));
            embed.table.iter().for_each(|t| words.extend(floats(&t.data().to_f32())));
        }
        let bytes = words.iter().flat_map(|w| w.to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ b as u64).wrapping_mul(0x100_0000_01b3))
    }

    /// Addresses are stable: these must never change.
    #[test]
    fn numbers_stay_what_they_are() {
        let mut found = Vec::new();
        for (address, want) in [
            ("attention/control/q37k75/f32/seed1", 0x7322_c8e7_3fc2_7069),
            ("attention/llama/q1k300/f32/seed1", 0x822d_6a86_d616_456e),
            ("rotate/deepseek-v3+gaps/q5k33/f16/seed2", 0xae26_9ac7_ec48_e964),
            ("scores/t5+dense-minus-infinity+mask+kv-lens/q5k33/bf16/seed3", 0x3979_223c_e0a9_ad93),
            ("attention/angle-table+ids/q5k33/f32/seed4", 0x2eb1_0c25_107d_6ced),
            ("rotate/inv-freq+ids-far+unit/q9k7/f32/seed5", 0x8bb0_ca9c_1cf0_ca13),
            ("attention/unseen-nan+packed/q9k7/bf16/seed6", 0x6394_8a8c_0ee9_6c0f),
            ("attention/one-head+d31+one-sequence/q5k75/f32/seed1/families", 0x1b26_ce84_1c26_baa9),
            ("rotate/heads17+one-sequence/q9k7/f32/seed1/tunings", 0xec9c_48e3_02bd_ec8d),
            ("attention/one-head+d32+one-sequence/q1k65537/f32/seed1/decode", 0x9895_36f4_be0b_87a2),
            ("rotate-in-place/deepseek-v3+gaps/q5k33/f16/seed2", 0xae26_9ac7_ec48_e964),
            ("embed/control/q37k75/f32/seed1", 0x0f2b_5f9d_8e1f_9260),
            ("embed/learned+ids+gaps+both-scales/q5k33/bf16/seed2", 0x83e6_5f3a_21ee_7698),
            ("embed/sinusoidal-padding+ids-far+width257/q9k7/f16/seed3", 0xce68_d55f_c71d_16ac),
        ] {
            let case = address.parse::<CaseId>().and_then(|id| id.build()).expect(address);
            found.push((address, fingerprint(&case), want));
        }
        let changed: Vec<_> = found.iter().filter(|(_, found, want)| found != want).collect();
        assert!(changed.is_empty(), "{changed:#x?}");
    }

    #[test]
    fn names_mean_what_they_say() {
        let spec = |address: &str| address.parse::<CaseId>().and_then(|id| id.build()).expect(address).spec;
        let mut control = Spec::new(4, 2, 64);
        control.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
        control.mask = Mask::causal();
        assert_eq!(spec("attention/control/q37k75/f32/seed1"), control);
        let mut deepseek = Spec::new(4, 4, 192);
        (deepseek.v_head_dim, deepseek.dtype, deepseek.kv_lens) = (128, Dtype::F16, true);
        deepseek.softmax_scale = Some(0.1352337788608801);
        let mut rotary = Rotary::new(Pairing::InterleavedInHalfOut, 64, 10_000.0);
        rotary.offset = 128;
        (deepseek.rotary, deepseek.mask) = (Some(rotary), Mask::causal());
        deepseek.bias = vec![Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: false }];
        assert_eq!(spec("scores/kv-lens+t5+deepseek-v3/q5k33/f16/seed2"), deepseek);
    }

    /// The rules about what is not read: no bound and no value of a case is NaN, but where a query is.
    #[test]
    fn what_is_not_read_stays_out() {
        for address in [
            "attention/kv-len/q5k33/f32/seed1",
            "attention/kv-lens+gaps/q5k33/f16/seed1",
            "attention/unseen-nan+packed/q5k33/bf16/seed1",
            "attention/kv-len0+cache/q5k33/f32/seed1",
        ] {
            let case = address.parse::<CaseId>().and_then(|id| id.build()).expect(address);
            let nan = |t: &Tensor| t.data().to_f32().iter().any(|x| x.is_nan());
            assert!(nan(&case.inputs.k) && nan(&case.inputs.v), "{address}");
            let result = reference::attention(&case.spec, &case.inputs).expect(address);
            assert!(result.out.iter().all(|x| x.is_finite()), "{address}");
            let (out, lse) = check::attention(&case.spec, &case.inputs).expect(address);
            assert!(out.bound.iter().chain(&lse.bound).all(|b| b.is_finite()), "{address}");
        }
    }
}
