//! A call checked once against its spec: for GPU, reference, bounds.

use crate::equation::bias::bias;
use crate::equation::bias::term::{Place, Values};
use crate::equation::dtype::Dtype;
use crate::equation::factors::Sink;
use crate::equation::linear::Decay;
use crate::equation::mask::Alignment;
use crate::equation::rotary::rotary::Angle;
use crate::equation::spec::{Positions, Spec};
use crate::equation::user;
use crate::equation::user::ScoreAt;
use crate::error::{Error, Result};
use crate::inputs::inputs::{Inputs, MAX_ELEMENTS, MAX_LEN, at_most};
use crate::inputs::packed::Packing;
use crate::inputs::shape::Shape;
use crate::inputs::tensor::Tensor;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A spec and inputs that fit each other: the argument that GPU, reference and check share.
#[derive(Debug, Clone)]
pub struct Problem<'a> {
    pub(crate) spec: &'a Spec,
    /// Over tensors: of a pool, the rows that are named.
    pub(crate) inputs: Cow<'a, Inputs>,
    /// The inputs as they were given, where k and v are a pool.
    pub(crate) placed: Option<&'a Inputs>,
    pub(crate) shape: Shape,
    /// The bias terms with their tables expanded over distances and their slopes scaled.
    pub(crate) terms: Vec<Arc<dyn Values>>,
    /// Where the sequences lie, if they are packed.
    pub(crate) packing: Option<Packing<'a>>,
}

impl<'a> Problem<'a> {
    /// Checks inputs against the spec; the error names the tensor.
    pub fn new(spec: &'a Spec, given: &'a Inputs) -> Result<Self> {
        spec.validate()?;
        let (held, placed) = match given.placement {
            Some(_) => (Cow::Owned(given.gathered(spec)?), Some(given)),
            None => (Cow::Borrowed(given), None),
        };
        let inputs: &Inputs = &held;
        let [batch, q_len, heads, head_dim] = inputs.q.shape();
        let kv_capacity = inputs.k.shape()[1];
        let expect = |name: &str, t: &Tensor, dtype: Dtype, want: [u32; 4]| {
            if t.dtype() != dtype {
                let field = match name {
                    "k" if spec.k_dtype.is_some() => "k_dtype",
                    "v" if spec.v_dtype.is_some() => "v_dtype",
                    _ => "dtype",
                };
                return Err(Error::input(
                    name,
                    format!("is {}", t.dtype().name()),
                    format!("the spec's {field} is {}: convert one to the other", dtype.name()),
                ));
            }
            if t.shape() != want {
                return Err(Error::input(
                    name,
                    format!("[batch, len, heads, dim] = {:?}", t.shape()),
                    format!("the spec and the other tensors ask for {want:?}"),
                ));
            }
            t.check_extent(name)
        };
        let _ = (heads, head_dim);
        expect("q", &inputs.q, spec.dtype, [batch, q_len, spec.num_heads, spec.head_dim])?;
        expect("k", &inputs.k, spec.k_storage(), [batch, kv_capacity, spec.num_kv_heads, spec.head_dim])?;
        expect("v", &inputs.v, spec.v_storage(), [batch, kv_capacity, spec.num_kv_heads, spec.v_head_dim])?;
        for (name, n) in [("q", q_len), ("k", kv_capacity)] {
            if n > MAX_LEN {
                return Err(Error::input(name, format!("{n} tokens"), "give at most 2^30"));
            }
        }

        Self::check_lengths(spec, inputs, batch, kv_capacity)?;
        spec.check_streams()?;
        let packing = Packing::new(spec, given, q_len, kv_capacity)?;
        let streams = spec.position_streams();
        let rows = |name: &str, ids: &Option<Vec<i32>>, wanted: bool, field: &str, streams: u32, len: u32| match ids {
            Some(ids) if !wanted => Err(Error::input(
                name,
                format!("{} values given", ids.len()),
                format!("the spec does not read them ({field}): set it, or leave them out"),
            )),
            Some(ids) if ids.len() as u64 != streams as u64 * batch as u64 * len as u64 => Err(Error::input(
                name,
                format!("{} values", ids.len()),
                format!("give [streams, batch, len] = [{streams}, {batch}, {len}] of them"),
            )),
            None if wanted => {
                let help = format!("give [streams, batch, len] = [{streams}, {batch}, {len}] i32 values");
                Err(Error::input(name, "is missing", help))
            }
            _ => Ok(()),
        };
        let ids = spec.positions == Positions::Ids;
        rows("q_positions", &inputs.q_positions, ids, "spec.positions ids", streams, q_len)?;
        rows("k_positions", &inputs.k_positions, ids, "spec.positions ids", streams, kv_capacity)?;
        let segments = spec.segments();
        rows("q_segments", &inputs.q_segments, segments, "an index map over segments", 1, q_len)?;
        rows("k_segments", &inputs.k_segments, segments, "an index map over segments", 1, kv_capacity)?;
        Self::check_angle_table(spec, inputs, q_len, kv_capacity, packing)?;

        let wanted = spec.parameters();
        for p in &wanted {
            match inputs.parameters.get(&p.name) {
                Some(values) if values.len() as u64 == p.len() => {}
                Some(values) => {
                    return Err(Error::input(
                        p.name.clone(),
                        format!("{} values", values.len()),
                        format!("give {:?} of them", p.shape),
                    ));
                }
                None => return Err(Error::input(p.name.clone(), "is missing", format!("give {:?} values", p.shape))),
            }
        }
        if let Some(name) = inputs.parameters.keys().find(|name| wanted.iter().all(|p| p.name != **name)) {
            return Err(Error::input(
                name.clone(),
                "is given, but the spec does not use it",
                "set the term in the spec, or leave it out",
            ));
        }
        spec.check_parameters(&inputs.parameters)?;
        let terms = bias::resolve(&spec.bias, spec.num_heads, &inputs.parameters)?;

        let full = [batch, spec.num_heads, q_len, kv_capacity];
        let dense = |name: &str, wanted: bool, shape: Option<[u32; 4]>| match shape {
            None if wanted => {
                Err(Error::input(name, "is missing", format!("give a tensor that broadcasts to {full:?}")))
            }
            Some(_) if !wanted => {
                Err(Error::input(name, "is given, but the spec does not use it", "set it in the spec, or leave it out"))
            }
            Some(shape) if shape.iter().zip(full).any(|(s, f)| *s != f && *s != 1) => Err(Error::input(
                name,
                format!("shape {shape:?}"),
                format!("let every dimension be 1 or that of {full:?} [batch, num_heads, q_len, kv_len]"),
            )),
            _ => Ok(()),
        };
        self::check_inputs(spec, inputs, batch, kv_capacity)?;
        dense("attn_bias", spec.dense_bias, inputs.attn_bias.as_ref().map(|d| d.shape))?;
        dense("mask", spec.mask.dense, inputs.mask.as_ref().map(|d| d.shape))?;

        let gates = [batch, spec.num_heads, q_len];
        let problem = match (&inputs.gates, spec.gated_bias) {
            (Some(given), true) if given.len() as u64 == gates.iter().map(|n| *n as u64).product::<u64>() => None,
            (Some(given), true) => Some(format!("{} values", given.len())),
            (Some(_), false) => Some("is given, but the spec does not use it (spec.gated_bias)".into()),
            (None, true) => Some("is missing".into()),
            (None, false) => None,
        };
        if let Some(problem) = problem {
            let help = format!("give [batch, num_heads, q_len] = {gates:?} values where spec.gated_bias, else none");
            return Err(Error::input("gates", problem, help));
        }

        Self::check_rows(spec, inputs, [batch, q_len, kv_capacity])?;

        let mut shape = Shape::new(spec, batch, q_len, kv_capacity);
        shape.q = inputs.q.strides();
        (shape.k, shape.v) = (given.k.strides(), given.v.strides());
        if let Some(placement) = &given.placement {
            shape.cache = placement.cache(given.k.shape()[1]);
        }
        shape.user_words = Self::check_user(spec, inputs)?;
        if let Some(packing) = packing {
            shape.sequences = packing.sequences();
            [shape.max_seqlen_q, shape.max_seqlen_k] = packing.longest();
        }
        shape.check(spec)?;
        // unlike an engine's plan, a problem is turned whole, however little memory its strides repeat
        let keys = [batch, kv_capacity, spec.num_kv_heads, spec.head_dim.max(spec.v_head_dim)];
        at_most("elements of key rows", keys, MAX_ELEMENTS)?;
        Ok(Problem { spec, inputs: held, placed, shape, terms, packing })
    }

    /// The same for the reference, which runs no WGSL: it asks for the closures beside the user's functions.
    pub(crate) fn for_reference(spec: &'a Spec, inputs: &'a Inputs) -> Result<Self> {
        let problem = Self::new(spec, inputs)?;
        let missing = [
            ("score_mod", spec.score_mod.is_some() && inputs.score_mod.is_none()),
            ("mask_mod", spec.mask_mod.is_some() && inputs.mask_mod.is_none()),
        ];
        match missing.iter().find(|(_, missing)| *missing) {
            Some((name, _)) => Err(Error::input(
                *name,
                "has no closure beside it",
                "set it in the inputs: the reference and the check run no WGSL",
            )),
            None => Ok(problem),
        }
    }

    /// Numbers of rows and keys.
    fn check_rows(spec: &Spec, inputs: &Inputs, [batch, q_len, capacity]: [u32; 3]) -> Result<()> {
        let rows = [batch, spec.num_heads, q_len];
        let keys = [batch, spec.num_heads, capacity];
        let own = spec.own_queries();
        let given = |x: &Option<Vec<f32>>| x.as_ref().map(|x| (x.len(), x.iter().all(|x| x.is_finite())));
        let of_keys = inputs.key_bias.as_ref().map(|x| (x.len(), x.iter().all(|x| (*x as f32).is_finite())));
        let sinks = spec.sink == Some(Sink::Query);
        for (name, given, wanted, field, shape, width) in [
            ("query_scales", given(&inputs.query_scales), spec.query_scales, "spec.query_scales", rows, 1),
            ("query_sinks", given(&inputs.query_sinks), sinks, "spec.sink query", rows, 1),
            ("key_bias", of_keys, spec.key_bias, "spec.key_bias", keys, 1),
            (
                "relative_queries",
                given(&inputs.relative_queries),
                own.is_some(),
                "spec.relative own",
                rows,
                own.unwrap_or(1),
            ),
        ] {
            let problem = match given {
                Some(_) if !wanted => format!("is given, but the spec does not use it ({field})"),
                None if wanted => "is missing".into(),
                Some((n, _)) if n as u128 != shape.iter().map(|n| *n as u128).product::<u128>() * width as u128 => {
                    format!("{n} values")
                }
                Some((_, false)) if name != "relative_queries" => "holds a number that is not finite".into(),
                _ => continue,
            };
            let width = if width == 1 { String::new() } else { format!(" x {width}") };
            let help = format!("give {shape:?}{width} finite values where {field}, else none");
            return Err(Error::input(name, problem, help));
        }
        Ok(())
    }

    /// Where a row's numbers stand in a plane `[batch, num_heads, len]`.
    fn row_at(&self, b: u32, h: u32, i: u32, len: u32) -> usize {
        (b as usize * self.spec.num_heads as usize + h as usize) * len as usize + i as usize
    }
    /// The factor of a query's scale.
    pub(crate) fn row_scale(&self, b: u32, h: u32, i: u32) -> f64 {
        let at = self.row_at(b, h, i, self.shape.q_len);
        self.inputs.query_scales.as_ref().map_or(1.0, |all| all.get(at).map_or(1.0, |x| *x as f64))
    }
    /// The logit of a query's sink.
    pub(crate) fn row_sink(&self, b: u32, h: u32, i: u32) -> f64 {
        let at = self.row_at(b, h, i, self.shape.q_len);
        self.inputs.query_sinks.as_ref().map_or(0.0, |all| all.get(at).map_or(0.0, |x| *x as f64))
    }
    /// c_i and c_j.
    pub(crate) fn key_bias(&self, b: u32, h: u32, i: u32, j: u32) -> Option<[f64; 2]> {
        let all = self.inputs.key_bias.as_ref()?;
        let keys = self.keys(b, i);
        let last = keys.len().saturating_sub(1) as i64;
        let own = keys.start + self.q_index(b, i).clamp(0, last) as u32;
        Some([own, j].map(|j| all.get(self.row_at(b, h, j, self.shape.kv_len)).copied().unwrap_or(0.0)))
    }
    /// The query that A has of its own.
    pub(crate) fn own_query(&self, b: u32, h: u32, i: u32) -> impl Iterator<Item = f64> {
        let width = self.spec.own_queries().unwrap_or(0) as usize;
        let at = self.row_at(b, h, i, self.shape.q_len) * width;
        let all = self.inputs.relative_queries.as_ref().and_then(|all| all.get(at..at + width));
        all.unwrap_or_default().iter().map(|x| *x as f64)
    }

    /// Words of the user's data.
    fn check_user(spec: &Spec, inputs: &Inputs) -> Result<u32> {
        let help = "set the WGSL text in the spec, or leave it out";
        for (name, given, wanted) in [
            ("score_mod", inputs.score_mod.is_some(), spec.score_mod.is_some()),
            ("mask_mod", inputs.mask_mod.is_some(), spec.mask_mod.is_some()),
        ] {
            if given && !wanted {
                return Err(Error::input(name, "is given, but the spec has none", help));
            }
        }
        let words = u32::try_from(inputs.user_data.len()).map_err(|_| {
            Error::input("user_data", format!("{} words", inputs.user_data.len()), "give fewer than 2^32")
        })?;
        match (user::reads_data(spec), words) {
            (true, 0) => {
                Err(Error::input("user_data", "is missing", "give the words that score_mod and mask_mod read"))
            }
            (false, 1..) => Err(Error::input(
                "user_data",
                "is given, but neither score_mod nor mask_mod reads it",
                "read it there (user_u32, user_f32), or leave it out",
            )),
            _ => Ok(words),
        }
    }

    fn check_lengths(spec: &Spec, inputs: &Inputs, batch: u32, capacity: u32) -> Result<()> {
        if let Some(n) = inputs.kv_len {
            if spec.kv_lens {
                return Err(Error::input("kv_len", "is given beside kv_lens", "give one of the two"));
            }
            if n > capacity {
                return Err(Error::input(
                    "kv_len",
                    format!("{n} of a capacity of {capacity}"),
                    "give at most the capacity",
                ));
            }
        }
        match &inputs.kv_lens {
            None if spec.kv_lens => {
                Err(Error::input("kv_lens", "is missing", format!("give one length for each of {batch} sequences")))
            }
            Some(_) if !spec.kv_lens => {
                Err(Error::input("kv_lens", "is given, but the spec does not use it", "set spec.kv_lens"))
            }
            Some(lens) if lens.len() != batch as usize => Err(Error::input(
                "kv_lens",
                format!("{} lengths", lens.len()),
                format!("give one for each of {batch} sequences"),
            )),
            Some(lens) => match lens.iter().find(|n| **n > capacity) {
                Some(n) => Err(Error::input(
                    "kv_lens",
                    format!("{n} of a capacity of {capacity}"),
                    "give at most the capacity",
                )),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn check_angle_table(
        spec: &Spec,
        inputs: &Inputs,
        q_len: u32,
        capacity: u32,
        packing: Option<Packing>,
    ) -> Result<()> {
        let Some(rotary) = spec.rotary.as_ref().filter(|r| r.angle == Angle::Table) else {
            return match inputs.angle_table {
                Some(_) => Err(Error::input(
                    "cos",
                    "is given, but the spec computes its angles",
                    "set spec.rotary.angle to table, or leave cos and sin out",
                )),
                None => Ok(()),
            };
        };
        let Some(table) = &inputs.angle_table else {
            return Err(Error::input("cos", "is missing", "give cos and sin tables [rows, rotary_dim / 2]"));
        };
        let pairs = (rotary.rotary_dim / 2) as usize;
        if table.cos.len() != table.sin.len() || !table.cos.len().is_multiple_of(pairs) || table.cos.is_empty() {
            return Err(Error::input(
                "cos",
                format!("{} cos and {} sin values", table.cos.len(), table.sin.len()),
                format!("give [rows, rotary_dim / 2 = {pairs}] of each"),
            ));
        }
        let rows = (table.cos.len() / pairs) as i64;
        let outside = |p: &i32| (*p as i64) < 0 || *p as i64 >= rows;
        for (name, ids) in [("q_positions", &inputs.q_positions), ("k_positions", &inputs.k_positions)] {
            if let Some(p) = ids.as_ref().and_then(|ids| ids.iter().find(|p| outside(p))) {
                return Err(Error::input(
                    name,
                    format!("position {p}"),
                    format!("the table has rows 0 to {}", rows - 1),
                ));
            }
        }
        let [q_len, capacity] = packing.map_or([q_len, capacity], |p| p.longest());
        if spec.positions == Positions::Index && (rows < capacity as i64 || rows < q_len as i64) {
            return Err(Error::input(
                "cos",
                format!("{rows} rows for {capacity} keys and {q_len} queries"),
                "give a row for every position",
            ));
        }
        let shortest = match (&inputs.kv_lens, inputs.kv_len) {
            (Some(lens), _) => lens.iter().copied().min().unwrap_or(0),
            (None, n) => n.unwrap_or(capacity),
        };
        let early = |(q, k): &(Range<u32>, Range<u32>)| q.len() > k.len();
        let (q_len, shortest) = match packing.map(|p| p.spans().find(early)) {
            Some(Some((q, k))) if spec.mask.alignment == Alignment::BottomRight => (q.len() as u32, k.len() as u32),
            Some(_) => (0, 0),
            None => (q_len, shortest),
        };
        if spec.positions == Positions::Index && q_len > shortest {
            return Err(Error::input(
                "q",
                format!("the first of {q_len} queries over {shortest} keys stands before row 0 of the angle table"),
                "give q_positions and k_positions (spec.positions ids), or at most as many queries as keys",
            ));
        }
        Ok(())
    }

    /// Rows of the angle table; 0 without one.
    pub(crate) fn angle_rows(&self) -> u32 {
        match (&self.inputs.angle_table, &self.spec.rotary) {
            (Some(table), Some(rotary)) => {
                u32::try_from(table.cos.len() / (rotary.rotary_dim as usize / 2)).unwrap_or(u32::MAX)
            }
            _ => 0,
        }
    }
    /// The checked spec.
    pub fn spec(&self) -> &Spec {
        self.spec
    }
    /// The checked inputs.
    pub fn inputs(&self) -> &Inputs {
        self.placed.unwrap_or(&self.inputs)
    }
    /// Shapes and strides.
    pub fn shape(&self) -> Shape {
        self.shape
    }
    /// Keys in use of batch entry b: of packed sequences, those of all.
    pub fn kv_len(&self, b: u32) -> u32 {
        match (&self.inputs.kv_lens, self.inputs.kv_len) {
            (Some(lens), _) => lens[b as usize],
            (None, Some(n)) => n,
            (None, None) => self.shape.kv_len,
        }
    }
    /// The key rows that are in use of the sequence of query row i: what masks choose from.
    pub fn keys(&self, b: u32, i: u32) -> Range<u32> {
        self.packing.map_or_else(|| 0..self.kv_len(b), |p| p.of_query(i).1)
    }
    /// i': where query row i stands among the keys of its sequence, counted from their first.
    pub fn q_index(&self, b: u32, i: u32) -> i64 {
        let (queries, keys) = match self.packing {
            Some(packing) => packing.of_query(i),
            None => (0..self.shape.q_len, 0..self.kv_len(b)),
        };
        let i = i as i64 - queries.start as i64;
        match self.spec.mask.alignment {
            Alignment::BottomRight => i + keys.len() as i64 - queries.len() as i64,
            Alignment::TopLeft => i,
        }
    }
    /// m: the position of query row i, in the first stream.
    pub fn q_position(&self, b: u32, i: u32) -> i32 {
        self.q_positions(b, i)[0]
    }
    /// What a head multiplies base and scale of tau by.
    pub(crate) fn temperature(&self, h: u32) -> [f64; 2] {
        if !self.spec.temperature.is_some_and(|t| t.per_head) {
            return [1.0; 2];
        }
        ["temperature_base", "temperature_scale"]
            .map(|name| self.parameter(name).get(h as usize).map_or(1.0, |x| *x as f64))
    }
    /// n: the position of key row j, in the first stream.
    pub fn k_position(&self, b: u32, j: u32) -> i32 {
        self.k_positions(b, j)[0]
    }
    /// The position of query row i in every stream.
    pub(crate) fn q_positions(&self, b: u32, i: u32) -> [i32; 4] {
        match &self.inputs.q_positions {
            Some(ids) => self.streams(ids, b, i, self.shape.q_len),
            None => [self.q_index(b, i) as i32; 4],
        }
    }
    /// The position of key row j in every stream.
    pub(crate) fn k_positions(&self, b: u32, j: u32) -> [i32; 4] {
        match &self.inputs.k_positions {
            Some(ids) => self.streams(ids, b, j, self.shape.kv_len),
            None => [(j - self.packing.map_or(0, |p| p.start_of_key(j))) as i32; 4],
        }
    }
    fn streams(&self, ids: &[i32], b: u32, token: u32, len: u32) -> [i32; 4] {
        let plane = self.shape.batch as usize * len as usize;
        let at = b as usize * len as usize + token as usize;
        std::array::from_fn(|s| ids.get(s * plane + at).copied().unwrap_or(0))
    }
    /// Where a score stands, for its terms.
    pub(crate) fn place(&self, b: u32, h: u32, i: u32, j: u32) -> Place {
        let segment = |ids: &Option<Vec<i32>>, token: u32, len: u32| {
            ids.as_ref().map(|ids| ids[b as usize * len as usize + token as usize])
        };
        let of_q = segment(&self.inputs.q_segments, i, self.shape.q_len);
        let of_k = segment(&self.inputs.k_segments, j, self.shape.kv_len);
        Place {
            batch: b,
            head: h,
            i,
            m: self.q_positions(b, i),
            n: self.k_positions(b, j),
            same_segment: of_q == of_k,
            gate: self.inputs.gates.as_ref().map_or(1.0, |g| {
                let row = (b as usize * self.spec.num_heads as usize + h as usize) * self.shape.q_len as usize;
                g[row + i as usize]
            }),
            last: self.keys(b, i).len() as i64 - 1,
        }
    }
    /// The values of a parameter of the spec; their number was checked.
    pub(crate) fn parameter(&self, name: &str) -> &[f32] {
        self.inputs.parameters.get(name).map_or(&[], |v| v)
    }
    /// Where a score stands, for the user's functions.
    pub(crate) fn score_at(&self, b: u32, h: u32, i: u32, j: u32) -> ScoreAt {
        let (q_index, q_pos, k_pos) = (self.q_index(b, i) as i32, self.q_position(b, i), self.k_position(b, j));
        // packed sequences count by themselves
        let (batch, i, j) = match self.packing {
            Some(packing) => {
                let (queries, keys) = packing.of_query(i);
                (packing.sequence(i), i - queries.start, j.saturating_sub(keys.start))
            }
            None => (b, i, j),
        };
        ScoreAt { batch, head: h, i, j, q_index, q_pos, k_pos }
    }
    /// Whether query row i of head h sees key row j.
    pub fn visible(&self, b: u32, h: u32, i: u32, j: u32) -> bool {
        let mask = &self.spec.mask;
        let keys = self.keys(b, i);
        let (at, j64) = (self.q_index(b, i), j as i64 - keys.start as i64);
        keys.contains(&j)
            && mask.bands().all(|band| band.keys(at).contains(&j64))
            && self.inputs.mask.as_ref().is_none_or(|m| m.get([b, h, i, j]))
            && self.inputs.attn_bias.as_ref().is_none_or(|d| d.get([b, h, i, j]) != f32::NEG_INFINITY)
            && self.inputs.mask_mod.as_ref().is_none_or(|m| m.visible(&self.score_at(b, h, i, j)))
    }
}

/// The inputs of `linear` against the spec.
pub(crate) fn check_inputs(spec: &Spec, inputs: &Inputs, batch: u32, capacity: u32) -> Result<()> {
    let linear = spec.linear.as_ref();
    let (features, kv_heads) = (spec.features() as u64, spec.num_kv_heads as u64);
    let state = linear.is_some_and(|l| l.initial_state);
    let normalizer = state && linear.is_some_and(|l| l.normalizer.is_some());
    let decay = match linear.and_then(|l| l.decay.as_ref()) {
        Some(Decay::Token) => Some(1),
        Some(Decay::Feature) => Some(features),
        _ => None,
    };
    let rows = batch as u64 * kv_heads;
    let wanted = [
        ("initial_state", &inputs.initial_state, state.then_some(rows * features * spec.v_head_dim as u64)),
        ("initial_normalizer", &inputs.initial_normalizer, normalizer.then_some(rows * features)),
        ("decay", &inputs.decay, decay.map(|d| rows * capacity as u64 * d)),
        ("beta", &inputs.beta, linear.is_some_and(|l| l.delta).then_some(rows * capacity as u64)),
    ];
    for (name, given, want) in wanted {
        match (given, want) {
            (Some(x), Some(want)) if x.len() as u64 == want => {}
            (None, None) => {}
            (None, Some(want)) => return Err(Error::input(name, "is missing", format!("give {want} values"))),
            (Some(_), None) => {
                return Err(Error::input(
                    name,
                    "is given, but the spec does not use it",
                    "set it in linear, or leave it out",
                ));
            }
            (Some(x), Some(want)) => {
                return Err(Error::input(name, format!("{} values", x.len()), format!("give {want} of them")));
            }
        }
    }
    Ok(())
}
