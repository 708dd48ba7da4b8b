//! Cases of operators: ONNX Attention, FlexAttention and RotaryEmbedding, and onnxruntime's GroupQueryAttention,
//! MultiHeadAttention and RotaryEmbedding.

use super::factors;
use super::model::{Sizes, dense, plain};
use super::packed::agree;
use super::work::{Build, Expect, Probe, Stage, Table, Tolerance, Work, finish, needs, swap_heads, values_of};
use crate::golden::{Entry, Golden, Parameters, Tensors, Values};
use ropewalk::{
    Alignment, Angle, AngleTable, Data, Dense, Dtype, Error, Inputs, MAX_HEAD_DIM, Mask, Pairing, Positions, Rotary,
    Sink, Spec, Tensor,
};

/// Elements `[batch, heads, len, dim]`, so that new keys can follow past ones.
#[derive(Clone)]
struct Rows {
    values: Vec<f32>,
    dtype: Dtype,
    shape: [u32; 4],
}

impl Rows {
    /// Of `[batch, heads, len, dim]`, or of `[batch, len, heads * dim]`.
    fn new(name: &str, entry: &Entry, heads: Option<u32>) -> Build<Self> {
        if entry.is_double() {
            return needs("f64 storage");
        }
        let (dtype, values) = (entry.data(name)?.dtype(), entry.f32s(name)?);
        match (entry.shape.len(), entry.shape4(name)?, heads) {
            (4, shape, _) => Ok(Rows { values, dtype, shape }),
            (3, [_, batch, len, width], Some(heads)) if heads > 0 && width % heads == 0 => {
                let dim = width / heads;
                let values = swap_heads(&values, [batch, len, heads, dim]);
                Ok(Rows { values, dtype, shape: [batch, heads, len, dim] })
            }
            _ => {
                Err(entry.wrong(name, "[batch, heads, len, dim], or [batch, len, heads * dim] with heads given").into())
            }
        }
    }
    /// The rows of each head after those of `past`.
    fn after(self, name: &str, past: Option<Rows>) -> Build<Self> {
        let Some(past) = past else { return Ok(self) };
        let ([b, h, old, d], [batch, heads, new, dim]) = (past.shape, self.shape);
        if [b, h, d] != [batch, heads, dim] || past.dtype != self.dtype {
            let want = format!("give [{batch}, {heads}, past, {dim}] of the same type as the new rows");
            return Err(Error::input(name, format!("shape {:?}", past.shape), want).into());
        }
        let (old_len, new_len) = ((old * d) as usize, (new * d) as usize);
        let head = |i: usize| {
            [&past.values[i * old_len..(i + 1) * old_len], &self.values[i * new_len..(i + 1) * new_len]].concat()
        };
        let values = (0..(batch * heads) as usize).flat_map(head).collect();
        Ok(Rows { values, dtype: self.dtype, shape: [batch, heads, old + new, dim] })
    }
    /// With rows of zeros at the end of each head.
    fn with_room(&self, rows: u32) -> Self {
        let [batch, heads, len, dim] = self.shape;
        let (head, room) = ((len * dim) as usize, vec![0.0; (rows * dim) as usize]);
        let heads_of = (0..(batch * heads) as usize).map(|h| &self.values[h * head..(h + 1) * head]);
        let values = heads_of.flat_map(|rows| rows.iter().chain(&room).copied()).collect();
        Rows { values, dtype: self.dtype, shape: [batch, heads, len + rows, dim] }
    }
    fn tensor(&self) -> Build<Tensor> {
        Ok(Tensor::bhsd(Data::from_f32(self.dtype, &self.values), self.shape)?)
    }
    /// The rows that follow `past` moved up to each sequence's own past; zeros where they leave.
    fn packed(mut self, past: u32, past_of: impl Fn(u32) -> u32) -> Self {
        let [batch, heads, len, dim] = self.shape;
        for b in (0..batch).filter(|b| past_of(*b) < past) {
            for head in (b * heads..(b + 1) * heads).map(|h| (h * len * dim) as usize) {
                let [from, to, end] = [past, past_of(b), len].map(|row| head + (row * dim) as usize);
                self.values.copy_within(from..end, to);
                self.values[to + end - from..end].fill(0.0);
            }
        }
        self
    }
    /// As a listed `[batch, heads, len, dim]` should hold it, bit for bit; rows (of a sequence) that are `ignored`
    /// may hold anything.
    fn listed_as(&self, name: &str, listed: &Entry, ignored: impl Fn(usize, usize) -> bool) -> Build<Table> {
        let [_, heads, len, dim] = self.shape.map(|n| n as usize);
        let computed: Vec<f64> = self.values.iter().map(|x| *x as f64).collect();
        let mut listed = values_of(name, listed, &self.shape)?;
        for (row, (listed, computed)) in listed.chunks_mut(dim).zip(computed.chunks(dim)).enumerate() {
            if ignored(row / (heads * len), row % len) {
                listed.copy_from_slice(computed);
            }
        }
        Ok(Table { name: name.into(), computed, listed, tolerance: Tolerance::Zero })
    }
}

/// The operator's input or output in a slot: tensors are called `input_3_attn_mask`, `expected_0_Y`.
pub(super) fn slot(t: &mut Tensors, kind: &str, slot: u32) -> Option<Entry> {
    t.take_prefix(&format!("{kind}_{slot}_"))
}

pub(super) fn need_slot(t: &mut Tensors, number: u32, name: &str) -> Build<Entry> {
    let missing = || Error::input(name, format!("input slot {number} is missing"), "add the tensor to the file");
    Ok(slot(t, "input", number).ok_or_else(missing)?)
}

/// ONNX Attention (opset 23 on), and FlexAttention without a modifier.
pub fn onnx_attention(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let a = p.object("attributes").unwrap_or_default();
    let [q_heads, kv_heads] = ["q_num_heads", "kv_num_heads"].map(|name| a.u32(name));
    let q = Rows::new("Q", &need_slot(&mut t, 0, "Q")?, q_heads)?;
    let k = Rows::new("K", &need_slot(&mut t, 1, "K")?, kv_heads)?;
    let v = Rows::new("V", &need_slot(&mut t, 2, "V")?, kv_heads)?;
    let given = slot(&mut t, "input", 3);
    let past_k = slot(&mut t, "input", 4).map(|e| Rows::new("past_key", &e, None)).transpose()?;
    let past_v = slot(&mut t, "input", 5).map(|e| Rows::new("past_value", &e, None)).transpose()?;
    let past = past_k.as_ref().map_or(0, |k| k.shape[2]);
    let (k, v) = (k.after("past_key", past_k)?, v.after("past_value", past_v)?);

    // Queries may stand beyond the last key: the cache then has room for as many, which nobody sees.
    let room = if past > 0 { (past + q.shape[2]).saturating_sub(k.shape[2]) } else { 0 };
    let (roomy_k, roomy_v) = (k.with_room(room), v.with_room(room));
    let (mut spec, mut inputs, sizes) = plain(q.tensor()?, roomy_k.tensor()?, roomy_v.tensor()?)?;
    spec.softmax_scale = a.f64("scale");
    spec.logits_soft_cap = a.f64("softcap").filter(|cap| *cap != 0.0);
    inputs.kv_lens = slot(&mut t, "input", 6).map(|e| e.u32s("nonpad_kv_seqlen")).transpose()?;
    spec.kv_lens = inputs.kv_lens.is_some();
    let window = |name: &str| a.i64(name).and_then(|w| u32::try_from(w).ok());
    let windows = (window("left_window_size"), window("right_window_size"));
    place_queries(&mut spec, &mut inputs, a.i64("is_causal") == Some(1), windows, past, sizes)?;
    match given {
        Some(m) if matches!(m.values, Values::Bool(_)) => {
            inputs.mask = Some(lengthened("attn_mask", &m, m.bools("attn_mask")?.to_vec(), sizes.kv_len, false)?);
            spec.mask.dense = true;
        }
        Some(m) => {
            inputs.attn_bias =
                Some(lengthened("attn_mask", &m, m.f32s("attn_mask")?, sizes.kv_len, f32::NEG_INFINITY)?);
            spec.dense_bias = true;
        }
        None if room > 0 => {
            let used = (0..sizes.kv_len).map(|j| j < k.shape[2]).collect();
            inputs.mask = Some(Dense::new([1, 1, 1, sizes.kv_len], used)?);
            spec.mask.dense = true;
        }
        None => {}
    }

    let mut work = Work::default();
    let mut expects = Vec::new();
    if let Some(y) = slot(&mut t, "expected", 0) {
        let (tolerance, dim) = (Tolerance::of_output(&y), spec.v_head_dim);
        expects.push(match y.shape.len() {
            4 => Expect::heads_first("Y", Stage::Out, &y, [sizes.batch, sizes.heads, sizes.q_len, dim], tolerance)?,
            _ => Expect::as_is("Y", Stage::Out, &y, &[sizes.batch, sizes.q_len, sizes.heads * dim], tolerance)?,
        });
    }
    for (number, name, rows) in [(1, "present_key", &k), (2, "present_value", &v)] {
        if let Some(listed) = slot(&mut t, "expected", number) {
            work.tables.push(rows.listed_as(name, &listed, |_, _| false)?);
        }
    }
    let mut extra = None;
    let mode = a.i64("qk_matmul_output_mode").unwrap_or(0);
    if let Some(listed) = slot(&mut t, "expected", 3) {
        let tolerance = Tolerance::of_output(&listed);
        let shape = [sizes.batch, sizes.heads, sizes.q_len, k.shape[2]];
        let expect = |stage| -> Build<Expect> {
            let expect = Expect::as_is("qk_matmul_output", stage, &listed, &shape, tolerance)?;
            Ok(expect.widened(k.shape[2], sizes.kv_len))
        };
        match mode {
            // Before the mask and the bias (mode 1) and before the cap too (mode 0): a spec without them.
            mode @ (0 | 1) => {
                let (mut spec, mut inputs) = (spec.clone(), inputs.clone());
                (spec.mask, spec.dense_bias, spec.kv_lens) = (Mask::none(), false, false);
                (inputs.mask, inputs.attn_bias, inputs.kv_lens, inputs.kv_len) = (None, None, None, None);
                if mode == 0 {
                    spec.logits_soft_cap = None;
                }
                extra = Some(Probe {
                    label: "qk_matmul",
                    spec,
                    inputs,
                    expects: vec![expect(Stage::Scores)?],
                    difference: None,
                });
            }
            2 => expects.push(expect(Stage::Scores)?),
            3 => expects.push(expect(Stage::Probs)?),
            mode => return needs(format!("qk_matmul_output_mode {mode}")),
        }
    }
    work.probes.push(Probe { label: "", spec, inputs, expects, difference: None });
    work.probes.extend(extra);
    finish(&p, t, work)
}

/// Causal and window mask of queries that stand `past` keys in (i' = i + past), or at the end of each sequence's keys
/// where these have lengths of their own.
fn place_queries(
    spec: &mut Spec,
    inputs: &mut Inputs,
    causal: bool,
    (left, right): (Option<u32>, Option<u32>),
    past: u32,
    sizes: Sizes,
) -> Build<()> {
    let mask = &mut spec.mask;
    (mask.causal, mask.window_left, mask.window_right) = (causal, left, right);
    let end = past + sizes.q_len;
    mask.alignment = if past == 0 && !spec.kv_lens { Alignment::TopLeft } else { Alignment::BottomRight };
    if past == 0 || spec.kv_lens || end == sizes.kv_len || *mask == Mask::none() {
        return Ok(());
    }
    if !causal || end > sizes.kv_len {
        return needs("queries in the middle of the keys");
    }
    // Keys after the last query are never seen: they are not in use.
    inputs.kv_len = Some(end);
    Ok(())
}

/// A mask whose last dimension may be shorter than the keys: the rest is `hidden`.
fn lengthened<T: Copy>(name: &str, entry: &Entry, values: Vec<T>, kv_len: u32, hidden: T) -> Build<Dense<T>> {
    let [b, h, i, width] = entry.shape4(name)?;
    if width == 0 || width > kv_len {
        return Err(entry.wrong(name, &format!("1 to {kv_len} columns")).into());
    }
    let pad = vec![hidden; (kv_len - width) as usize];
    let values = values.chunks(width as usize).flat_map(|row| row.iter().chain(&pad).copied()).collect();
    Ok(Dense::new([b, h, i, kv_len], values)?)
}

/// An operator's cos and sin caches, with their number of columns.
fn caches(cos: &Entry, sin: &Entry, names: [&str; 2]) -> Build<(Vec<f32>, Vec<f32>, u32)> {
    let columns = cos.shape.last().copied().unwrap_or(0);
    if cos.shape != sin.shape || columns == 0 {
        return Err(sin.wrong(names[1], &format!("the shape of {}, {:?}", names[0], cos.shape)).into());
    }
    let columns = u32::try_from(columns).map_err(|_| cos.wrong(names[0], "fewer columns"))?;
    Ok((cos.f32s(names[0])?, sin.f32s(names[1])?, columns))
}

/// A rotation of `x` (`[batch, heads, len, dim]`) by cached cos and sin, rotated as q and as k.
struct CachedRotation {
    x: Rows,
    pairing: Pairing,
    rotary_dim: u32,
    table: AngleTable,
    /// `[batch, len]` rows of the table.
    positions: Vec<i32>,
}

impl CachedRotation {
    fn work(self, p: &Parameters, t: Tensors, name: &str, listed: &Entry) -> Build<Work> {
        let [batch, heads, len, dim] = self.x.shape;
        if dim > MAX_HEAD_DIM {
            return needs(format!("heads of more than {MAX_HEAD_DIM} elements"));
        }
        let mut spec = Spec::new(heads, heads, dim);
        (spec.dtype, spec.positions) = (self.x.dtype, Positions::Ids);
        spec.rotary = Some(table_rotation(self.pairing, self.rotary_dim));
        let x = self.x.tensor()?;
        let mut inputs = Inputs::new(x.clone(), x.clone(), x);
        inputs.angle_table = Some(self.table);
        (inputs.q_positions, inputs.k_positions) = (Some(self.positions.clone()), Some(self.positions));
        let tolerance = Tolerance::of_output(listed);
        let expect = |stage| match listed.shape.len() {
            3 => Expect::as_is(name, stage, listed, &[batch, len, heads * dim], tolerance),
            _ => Expect::heads_first(name, stage, listed, [batch, heads, len, dim], tolerance),
        };
        let expects = vec![expect(Stage::QRot)?, expect(Stage::KRot)?];
        finish(
            p,
            t,
            Work { probes: vec![Probe { label: "", spec, inputs, expects, difference: None }], ..Work::default() },
        )
    }
}

/// A rotation whose angles are the caller's.
fn table_rotation(pairing: Pairing, rotary_dim: u32) -> Rotary {
    let mut rotary = Rotary::new(pairing, rotary_dim, 1.0);
    rotary.angle = Angle::Table;
    rotary
}

fn pairing(interleaved: bool) -> Pairing {
    if interleaved { Pairing::Interleaved } else { Pairing::Half }
}

/// ONNX RotaryEmbedding: caches `[rows, rotary_dim / 2]` with `position_ids`, or `[batch, len, rotary_dim / 2]`
/// without.
pub fn onnx_rotary(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let a = p.object("attributes").unwrap_or_default();
    let x = Rows::new("input", &need_slot(&mut t, 0, "input")?, a.u32("num_heads"))?;
    let (cos, sin) = (need_slot(&mut t, 1, "cos_cache")?, need_slot(&mut t, 2, "sin_cache")?);
    let (cos, sin, columns) = caches(&cos, &sin, ["cos_cache", "sin_cache"])?;
    let [batch, _, len, dim] = x.shape;
    let positions = match slot(&mut t, "input", 3) {
        Some(ids) => ids.i32s("position_ids")?,
        None => (0..batch * len).map(|row| row as i32).collect(),
    };
    let rotary_dim = a.u32("rotary_embedding_dim").filter(|r| *r > 0).unwrap_or(dim);
    if columns != rotary_dim / 2 {
        let want = format!("give rotary_dim / 2 = {}", rotary_dim / 2);
        return Err(Error::input("cos_cache", format!("{columns} columns"), want).into());
    }
    let Some(listed) = slot(&mut t, "expected", 0) else {
        return Err(Error::input("output", "is missing from the case", "add the tensor to the file").into());
    };
    let pairing = pairing(a.i64("interleaved") == Some(1));
    CachedRotation { x, pairing, rotary_dim, table: AngleTable { cos, sin }, positions }.work(&p, t, "output", &listed)
}

/// com.microsoft.RotaryEmbedding: `positions` hold every token's, or one offset for all.
pub fn ort_rotary(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let entry = t.need("x")?;
    let heads = match (p.u32("head_dim"), entry.shape.last()) {
        (Some(dim), Some(width)) if dim > 0 => Some(*width as u32 / dim),
        _ => None,
    };
    let x = Rows::new("x", &entry, heads)?;
    let (cos, sin, columns) = caches(&t.need("cos")?, &t.need("sin")?, ["cos", "sin"])?;
    let [batch, _, len, _] = x.shape;
    let ids = t.need("positions")?;
    let positions = match (ids.shape.as_slice(), ids.i32s("positions")?.as_slice()) {
        ([1], [offset]) => (0..len).map(|i| offset.saturating_add(i as i32)).collect::<Vec<_>>().repeat(batch as usize),
        (_, all) => all.to_vec(),
    };
    let (interleaved, named) = (p.set("interleaved"), p.str("pairing"));
    let pairing = pairing(interleaved || named == Some("interleaved"));
    agree(&p, &[("rotary_dim", columns.saturating_mul(2))])?;
    // the base of the listed cos and sin
    p.f64("theta");
    let listed = t.need("expected")?;
    let table = AngleTable { cos, sin };
    CachedRotation { x, pairing, rotary_dim: 2 * columns, table, positions }.work(&p, t, "expected", &listed)
}

/// com.microsoft.GroupQueryAttention and MultiHeadAttention: tensors `[batch, len, heads * dim]`, a past
/// `[batch, kv_heads, past, dim]` whose keys are already rotated.
pub fn ort_attention(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let a = p.object("attributes").unwrap_or_default();
    let heads = p.u32("q_heads").or_else(|| p.u32("heads"));
    let kv_heads = p.u32("kv_heads").or(heads);
    let q = Rows::new("q", &t.need("q")?, heads)?;
    let new_k = Rows::new("k", &t.need("k")?, kv_heads)?;
    let new_v = Rows::new("v", &t.need("v")?, kv_heads)?;
    let past_k = t.take("past_key").map(|e| Rows::new("past_key", &e, None)).transpose()?;
    let past_v = t.take("past_value").map(|e| Rows::new("past_value", &e, None)).transpose()?;
    let past = past_k.as_ref().map_or(0, |k| k.shape[2]);
    let new = new_k.shape[2];
    // The keys of each sequence, the new ones included: a shorter past leaves room at the end.
    let lens = t.take("kv_lengths").map(|e| e.u32s("kv_lengths")).transpose()?;
    if let Some(lens) = &lens
        && (lens.len() != q.shape[0] as usize || lens.iter().any(|n| *n > past + new || (past > 0 && *n < new)))
    {
        let want = format!("give each of {} sequences {new} to {} keys", q.shape[0], past + new);
        return Err(Error::input("kv_lengths", format!("{lens:?}"), want).into());
    }
    let past_of = |b: u32| lens.as_ref().map_or(past, |lens| if past > 0 { lens[b as usize] - new } else { 0 });
    let k = new_k.after("past_key", past_k)?.packed(past, past_of);
    let v = new_v.after("past_value", past_v)?.packed(past, past_of);
    let (mut spec, mut inputs, sizes) = plain(q.tensor()?, k.tensor()?, v.tensor()?)?;
    let said = [("head_dim", spec.head_dim), ("v_head_dim", spec.v_head_dim), ("q_len", sizes.q_len), ("past", past)];
    agree(&p, &said)?;
    if p.bool("attn_bias").is_some_and(|said| said != t.has("attn_bias")) {
        return Err(Error::input("attn_bias", "contradicts the tensors", "give the tensor where it is true").into());
    }
    spec.softmax_scale = p.f64("scale").or(a.f64("scale").filter(|scale| *scale != 0.0));
    spec.logits_soft_cap = a.f64("softcap").filter(|cap| *cap != 0.0);
    let left = a.i64("local_window_size").filter(|w| *w > 0).and_then(|w| u32::try_from(w - 1).ok());
    spec.sink = (a.i64("smooth_softmax") == Some(1)).then_some(Sink::Zero);
    factors::sinks(&p, &mut t, &mut spec, &mut inputs, sizes)?;
    spec.kv_lens = lens.is_some();
    place_queries(&mut spec, &mut inputs, p.set("causal"), (left, None), past, sizes)?;
    if past == 0 {
        spec.mask.alignment = Alignment::TopLeft;
    }
    inputs.kv_lens = lens.clone();
    if let Some(m) = t.take("mask") {
        inputs.mask = Some(dense(&m, "mask", |e| Ok(e.bools("mask")?.to_vec()))?);
        spec.mask.dense = true;
    }
    if let Some(d) = t.take("attn_bias") {
        inputs.attn_bias = Some(dense(&d, "attn_bias", |e| e.f32s("attn_bias"))?);
        spec.dense_bias = true;
    }
    let rotates = a.i64("do_rotary") == Some(1);
    if rotates {
        let (mut cos, mut sin, columns) = caches(&t.need("cos")?, &t.need("sin")?, ["cos", "sin"])?;
        // Past keys are rotated already: they get a row of their own that turns by nothing.
        let still = (cos.len() / columns as usize) as i32;
        cos.extend(vec![1.0; columns as usize]);
        sin.extend(vec![0.0; columns as usize]);
        inputs.angle_table = Some(AngleTable { cos, sin });
        spec.rotary = Some(table_rotation(pairing(a.i64("rotary_interleaved") == Some(1)), 2 * columns));
        spec.positions = Positions::Ids;
        let ids = |from: u32, len: u32| (from..from + len).map(|m| m as i32);
        let key = |b: u32, j: i32| match (past_of(b) as i32, (past_of(b) + new) as i32) {
            (from, to) if from <= j && j < to => j,
            _ => still,
        };
        let batches = || 0..sizes.batch;
        inputs.k_positions = Some(batches().flat_map(|b| ids(0, sizes.kv_len).map(move |j| key(b, j))).collect());
        inputs.q_positions = Some(batches().flat_map(|b| ids(past_of(b), sizes.q_len)).collect());
    }

    // Rows beyond a sequence's length mean nothing, nor do the queries there of a prompt padded on the right.
    let beyond = |b: usize, row: usize| lens.as_ref().is_some_and(|lens| row >= lens[b] as usize);
    let mut work = Work::default();
    let mut expects = Vec::new();
    if let Some(out) = t.take("expected_out") {
        let (width, q_len) = (sizes.heads * spec.v_head_dim, sizes.q_len as usize);
        let shape = [sizes.batch, sizes.q_len, width];
        let expect = Expect::as_is("expected_out", Stage::Out, &out, &shape, Tolerance::of_output(&out))?;
        expects.push(expect.without(width, |row| past == 0 && beyond(row / q_len, row % q_len)));
    }
    let kv_len = sizes.kv_len as usize;
    if let Some(listed) = t.take("expected_present_key") {
        let name = "expected_present_key";
        let width = k.shape[1] * k.shape[3];
        if rotates {
            let expect = Expect::heads_first(name, Stage::KRot, &listed, k.shape, Tolerance::of_output(&listed))?;
            expects.push(expect.without(width, |row| beyond(row / kv_len, row % kv_len)));
        } else {
            work.tables.push(k.listed_as(name, &listed, beyond)?);
        }
    }
    if let Some(listed) = t.take("expected_present_value") {
        work.tables.push(v.listed_as("expected_present_value", &listed, beyond)?);
    }
    work.probes.push(Probe { label: "", spec, inputs, expects, difference: None });
    finish(&p, t, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_rows_follow_each_sequences_own_past() {
        let rows =
            |values: &[f32], len: u32| Rows { values: values.to_vec(), dtype: Dtype::F32, shape: [2, 1, len, 1] };
        let all = rows(&[7.0, 8.0], 1).after("past", Some(rows(&[1.0, 2.0, 3.0, 4.0], 2))).unwrap();
        assert_eq!(all.values, [1.0, 2.0, 7.0, 3.0, 4.0, 8.0]);
        let packed = all.packed(2, |b| 1 + b);
        assert_eq!(packed.values, [1.0, 7.0, 0.0, 3.0, 4.0, 8.0]);
        assert_eq!(packed.with_room(1).values, [1.0, 7.0, 0.0, 0.0, 3.0, 4.0, 8.0, 0.0]);
    }

    #[test]
    fn a_short_mask_hides_the_rest() {
        let entry = Entry { shape: vec![2, 2], values: Values::Bool(vec![true, false, false, true]) };
        let mask = lengthened("m", &entry, vec![true, false, false, true], 3, false).unwrap();
        assert_eq!((mask.shape(), mask.data()), ([1, 1, 2, 3], &[true, false, false, false, true, false][..]));
        assert!(lengthened("m", &entry, vec![true, false, false, true], 1, false).is_err());
    }
}
