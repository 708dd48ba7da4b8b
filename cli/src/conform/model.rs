//! Cases of models: the parameters and tensors of a case become the spec that a user of that model would write.

use super::work::{Build, Expect, Probe, Stage, Table, Tolerance, Work, finish, needs, values_of};
use super::{bias as terms, differential, embed, factors, ggml, latent, linear, operator, packed, relative, rotation};
use crate::golden::{Entry, Golden, Parameters, Tensors};
use ropewalk::{
    AlibiForm, Alignment, Bias, Dense, Error, Inputs, MAX_HEAD_DIM, MAX_V_HEAD_DIM, Mask, Positions, Problem, Spec,
    Tensor, alibi_slopes, t5_bucket,
};

/// Chooses by operator, tensor names and shapes.
pub fn build(golden: Golden) -> Build<Work> {
    if let Some(what) = missing_term(&golden) {
        return needs(what);
    }
    let has = |name: &str| golden.tensors.has(name);
    let rank = |name: &str| golden.tensors.0.get(name).map(|t| t.shape.len());
    match golden.parameters.str("op") {
        Some("Attention" | "FlexAttention") => operator::onnx_attention(golden),
        Some("RotaryEmbedding") => operator::onnx_rotary(golden),
        Some("LinearAttention") => linear::onnx(golden),
        Some(op) => needs(format!("the operator {op}")),
        None if has("x") && has("cos") => operator::ort_rotary(golden),
        None if has("cu_seqlens_q") || has("cu_seqlens_k") => packed::attention(golden),
        None if rank("q") == Some(3) && rank("k") == Some(3) => operator::ort_attention(golden),
        None if has("embeddings") => embed::absolute(golden),
        None if has("q") && linear::is_linear(&golden) => linear::attention(golden),
        None if has("q") => attention(golden),
        None if has("relative_position") => buckets(golden),
        None if has("inv_freq") && has("positions") => rotation::scaling(golden),
        None if golden.tensors.0.keys().any(|k| k.starts_with("slopes")) => slopes(golden),
        None => needs(format!("the system {}", golden.system)),
    }
}

/// Terms of the equation that `Spec` does not have yet, by the parameter that gives them away.
fn missing_term(golden: &Golden) -> Option<&'static str> {
    const PARAMETERS: &[(&str, &str)] = &[("max_pos", "CoPE")];
    let window = terms::is_window(golden);
    let grid = |name: &str| name == "grid" && (window || golden.tensors.has("rel_pos_h")); // no rotation's
    let parameter = PARAMETERS.iter().find(|(name, _)| golden.parameters.set(name) && !grid(name));
    parameter.map(|(_, what)| *what)
}

/// T5's bucket function over a range of distances.
fn buckets(golden: Golden) -> Build<Work> {
    let mut t = golden.tensors;
    let distances = t.need("relative_position")?.i32s("relative_position")?;
    let mut work = Work::default();
    for p in golden.parameters.objects("tables") {
        if p.set("position_buckets") {
            terms::log_buckets(&p, &mut t, &distances, &mut work)?;
            continue;
        }
        let (Some(name), Some(num_buckets)) = (p.str("tensor"), p.u32("num_buckets")) else {
            return Err(Error::input("tables", "an entry has no tensor or num_buckets", "add them").into());
        };
        if p.f64("differs_in_float64").is_some_and(|n| n != 0.0) {
            return needs("buckets that differ in f64");
        }
        let (Some(max_distance), bidirectional) = (p.u32("max_distance"), p.set("bidirectional")) else {
            return Err(Error::input(name, "has no max_distance", "add it to `tables`").into());
        };
        // A spec's checks keep t5_bucket away from sizes that it cannot divide.
        let mut spec = Spec::new(1, 1, 1);
        spec.bias = vec![Bias::T5 { num_buckets, max_distance, bidirectional }];
        spec.validate()?;
        let bucket = |d: &i32| t5_bucket(*d, num_buckets, max_distance, bidirectional) as f64;
        let computed = distances.iter().map(bucket).collect();
        let listed = values_of(name, &t.need(name)?, &[distances.len() as u32])?;
        work.tables.push(Table { name: name.into(), computed, listed, tolerance: Tolerance::Zero });
    }
    finish(&golden.parameters, t, work)
}

/// ALiBi's slopes for several numbers of heads.
fn slopes(golden: Golden) -> Build<Work> {
    let mut t = golden.tensors;
    let mut work = Work::default();
    while let Some(name) = t.0.keys().find(|k| k.starts_with("slopes")).cloned() {
        let listed = t.need(&name)?.f64s(&name)?;
        if listed.is_empty() || listed.len() > ropewalk::MAX_HEADS as usize {
            return Err(Error::input(name, format!("{} slopes", listed.len()), "give one for each head").into());
        }
        let heads = golden.parameters.list("heads");
        if !heads.is_empty() && !heads.contains(&listed.len().into()) {
            return Err(Error::input(name, format!("{} slopes", listed.len()), "name as many in `heads`").into());
        }
        let computed = alibi_slopes(listed.len() as u32);
        work.tables.push(Table { name, computed, listed, tolerance: Tolerance::DOUBLE });
    }
    finish(&golden.parameters, t, work)
}

/// `[batch, heads, len, dim]` as a tensor of the library, with that shape.
pub fn heads_first(t: &mut Tensors, name: &str) -> Build<(Tensor, [u32; 4])> {
    let entry = t.need(name)?;
    if entry.shape.len() != 4 {
        return Err(entry.wrong(name, "[batch, heads, len, dim]").into());
    }
    let shape = entry.shape4(name)?;
    if entry.is_double() {
        // f32 and what is missing: the reference takes both
        let exact = entry.f64s(name)?;
        let rounded: Vec<f32> = exact.iter().map(|x| *x as f32).collect();
        let residual = exact.iter().zip(&rounded).map(|(x, r)| (x - *r as f64) as f32).collect();
        return Ok((Tensor::bhsd(rounded, shape)?.with_residual(residual)?, shape));
    }
    Ok((Tensor::bhsd(entry.data(name)?.clone(), shape)?, shape))
}

/// The shapes of one attention call.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub batch: u32,
    pub heads: u32,
    pub q_len: u32,
    pub kv_len: u32,
}

impl Sizes {
    /// `[batch, num_heads, q_len, kv_len]`.
    pub fn scores(&self) -> [u32; 4] {
        [self.batch, self.heads, self.q_len, self.kv_len]
    }
}

/// A spec with these tensors and nothing else.
pub fn plain(q: Tensor, k: Tensor, v: Tensor) -> Build<(Spec, Inputs, Sizes)> {
    let [batch, q_len, heads, dim] = q.shape();
    let [_, kv_len, kv_heads, _] = k.shape();
    let v_dim = v.shape()[3];
    if dim > MAX_HEAD_DIM || v_dim > MAX_V_HEAD_DIM {
        return needs(format!("heads of more than {MAX_HEAD_DIM} elements, or values of more than {MAX_V_HEAD_DIM}"));
    }
    let mut spec = Spec::new(heads, kv_heads, dim);
    (spec.v_head_dim, spec.dtype) = (v_dim, q.dtype());
    spec.k_dtype = Some(k.dtype()).filter(|dtype| *dtype != spec.dtype);
    spec.v_dtype = Some(v.dtype()).filter(|dtype| *dtype != spec.dtype);
    Ok((spec, Inputs::new(q, k, v), Sizes { batch, heads, q_len, kv_len }))
}

/// Attention of a model, tensors `[batch, heads, len, dim]`.
fn attention(golden: Golden) -> Build<Work> {
    let window = terms::is_window(&golden);
    let mut work = Work::default();
    let golden = latent::expand(golden, &mut work.tables)?;
    let (golden, difference) = differential::expand(golden, &mut work.tables)?;
    let (system, p, mut t) = (golden.system, golden.parameters, golden.tensors);
    work.peers = ggml::peers(&mut t)?;
    let polar = rotation::polar(&p, &mut t)?;
    factors::scaled_rows(&p, &mut t)?;
    let ((q, q_shape), (k, k_shape)) = (heads_first(&mut t, "q")?, heads_first(&mut t, "k")?);
    let (v, v_shape) = heads_first(&mut t, "v")?;
    let k = ggml::cached(&p, &mut t, "k", k, &mut work.tables)?;
    let v = ggml::cached(&p, &mut t, "v", v, &mut work.tables)?;
    let (mut spec, mut inputs, sizes) = plain(q, k, v)?;
    packed::agree(&p, &[("heads", spec.num_heads), ("q_heads", spec.num_heads)])?;
    if difference.is_none() {
        packed::agree(&p, &[("kv_heads", spec.num_kv_heads), ("v_head_dim", spec.v_head_dim)])?;
    }
    let own_dim = if polar.is_some() { spec.head_dim / 2 } else { spec.head_dim };
    packed::agree(&p, &[("head_dim", own_dim)])?;
    packed::agree(&p, &[("batch", sizes.batch), ("q_len", sizes.q_len), ("kv_len", sizes.kv_len)])?;
    for (name, dtype) in [("k_type", spec.k_storage()), ("v_type", spec.v_storage())] {
        if let Some(other) = p.str(name).filter(|named| *named != dtype.name()) {
            return Err(
                Error::input(name, format!("is {other}, the tensor {}", dtype.name()), "let the two agree").into()
            );
        }
    }
    spec.softmax_scale = p.f64("scale");
    spec.logits_soft_cap = p.f64("softcap");
    spec.soft_cap_last = p.set("softcap_behind_relative");

    spec.rotary = match (ggml::rotary(&p, &mut t, &mut work.tables)?, polar) {
        (Some(rotary), _) | (None, Some(rotary)) => Some(rotary),
        (None, None) => rotation::rotary(&system, &p, &mut t, spec.head_dim, sizes, &mut work.tables)?,
    };
    ggml::sloped_mask(&p, &mut t, &mut spec, &mut inputs, &mut work.tables)?;
    factors::norm(&p, &mut t, &mut spec, &mut inputs)?;
    relative::relative(&system, &p, &mut t, &mut spec, &mut inputs, sizes, &mut work.tables)?;
    let mut probes = Vec::new();
    match window {
        true => probes.extend(terms::window(&p, &mut t, &mut spec, &mut inputs, sizes, &mut work)?),
        false if t.has("attention_biases") => terms::offsets(&p, &mut t, &mut spec, &mut inputs, sizes)?,
        false => bias(&p, &mut t, &mut spec, &mut inputs)?,
    }
    probes.extend(terms::gate(&mut t, &mut spec, &mut inputs, sizes)?);
    factors::temperature(&p, &mut t, &mut spec, &mut inputs)?;
    factors::sinks(&p, &mut t, &mut spec, &mut inputs, sizes)?;
    factors::forgetting(&p, &mut t, &mut spec, &mut inputs, sizes)?;
    let unused = rotation::unused(&p, &mut t, &spec, &mut work.tables)?;
    let unrotated = unused.is_some();
    spec.rotary = spec.rotary.or(unused);
    positions(&p, &mut t, &mut spec, &mut inputs, sizes)?;
    let angles = rotation::angles(&p, &mut t, &spec, &inputs, sizes)?;
    if unrotated {
        spec.rotary = None;
        if spec.bias.is_empty() && spec.relative.is_empty() && spec.temperature.is_none() {
            spec.positions = Positions::Index;
            (inputs.q_positions, inputs.k_positions) = (None, None);
        }
    }
    let given = t.take("mask").map(|m| dense(&m, "mask", |e| Ok(e.bools("mask")?.to_vec()))).transpose()?;
    let kv_lens = t.take("kv_lengths").map(|e| e.u32s("kv_lengths")).transpose()?;
    place_mask(&mut spec, &mut inputs, sizes, &p, given.as_ref(), kv_lens)?;
    if let Some(d) = t.take("attn_bias") {
        if inputs.attn_bias.is_some() {
            return needs("two dense biases, mask_values and attn_bias");
        }
        inputs.attn_bias = Some(dense(&d, "attn_bias", |e| e.f32s("attn_bias"))?);
        spec.dense_bias = true;
        Problem::new(&spec, &inputs)?;
    }
    derived_tables(&mut t, &spec, &inputs, sizes, &mut work.tables)?;
    work.tables.extend(relative::distances(&p, &mut t, &spec, &inputs, sizes)?);

    // Rows that see nothing: what the packages compute there means nothing.
    let shown = |at| given.as_ref().is_none_or(|m| m.get(at));
    let finite = |at| inputs.attn_bias.as_ref().is_none_or(|d| d.get(at) != f32::NEG_INFINITY);
    let empty = |b: u32, h: u32, i: u32| !(0..sizes.kv_len).any(|j| shown([b, h, i, j]) && finite([b, h, i, j]));
    let (heads, q_len) = (sizes.heads as usize, sizes.q_len as usize);
    let of_out = |row: usize| empty((row / heads / q_len) as u32, (row % heads) as u32, (row / heads % q_len) as u32);
    let of_lse = |row: usize| empty((row / q_len / heads) as u32, (row / q_len % heads) as u32, (row % q_len) as u32);
    let tolerance = Tolerance::DOUBLE;
    let (mut expects, mut of_queries) = (Vec::new(), Vec::new());
    for (name, stage, shape) in [("expected_q_rot", Stage::QRot, q_shape), ("expected_k_rot", Stage::KRot, k_shape)] {
        if let Some(listed) = t.take(name) {
            let expect = Expect::heads_first(name, stage, &listed, shape, tolerance)?;
            match stage {
                Stage::QRot if spec.k_storage().in_blocks() => of_queries.push(expect),
                Stage::QRot => expects.push(factors::without_temperature(expect, &spec, &inputs, sizes)?),
                _ => expects.push(expect),
            }
        }
    }
    for (name, stage) in [("expected_scores", Stage::Scores), ("expected_probs", Stage::Probs)] {
        if let Some(listed) = t.take(name) {
            expects.push(Expect::as_is(name, stage, &listed, &sizes.scores(), tolerance)?);
        }
    }
    let of_outs =
        [("expected_out", tolerance), ("expected_diff_out", tolerance), ("expected_out_flex", Tolerance::SINGLE)];
    for (name, tolerance) in of_outs {
        if let Some(listed) = t.take(name) {
            let (stage, heads) = match difference {
                Some(_) if listed.shape4(name)?[1] < sizes.heads => (Stage::OutDifference, sizes.heads / 2),
                _ => (Stage::Out, sizes.heads),
            };
            let shape = [sizes.batch, heads, sizes.q_len, v_shape[3]];
            let ignored = |row: usize| match stage {
                Stage::OutDifference => {
                    let half = heads as usize;
                    let first = row / half * 2 * half + row % half;
                    of_out(first) || of_out(first + half)
                }
                _ => of_out(row),
            };
            expects.push(Expect::heads_first(name, stage, &listed, shape, tolerance)?.without(v_shape[3], ignored));
        }
    }
    if let Some(listed) = t.take("expected_lse") {
        let shape = [sizes.batch, sizes.heads, sizes.q_len];
        expects.push(Expect::as_is("expected_lse", Stage::Lse, &listed, &shape, tolerance)?.without(1, of_lse));
    }
    let values = rotation::values(&mut t, &spec, &inputs, v_shape)?;
    let turned = ggml::queries(&spec, &inputs, of_queries)?;
    work.probes.push(Probe { label: "", spec, inputs, expects, difference });
    work.probes.extend(turned);
    work.probes.extend(angles);
    work.probes.extend(values);
    work.probes.extend(probes);
    finish(&p, t, work)
}

/// T5's table or ALiBi's slopes.
fn bias(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
    if let (Some(num_buckets), Some(max_distance)) = (p.u32("num_buckets"), p.u32("max_distance")) {
        let table = t.need("bias_table")?;
        if table.shape != [num_buckets as usize, spec.num_heads as usize] {
            return Err(table.wrong("bias_table", "[num_buckets, heads]").into());
        }
        let bidirectional = p.set("bidirectional");
        spec.bias.push(Bias::T5 { num_buckets, max_distance, bidirectional });
        inputs.parameters.insert("bias_table".into(), table.f32s("bias_table")?);
    } else if t.has("bias_a") {
        terms::kerple(p, t, spec, inputs)?;
    } else if t.has("fire_w1") {
        terms::fire(p, t, spec, inputs)?;
    } else if t.has("slopes") {
        let form = match () {
            _ if p.set("two_sided") => AlibiForm::Symmetric,
            _ if t.has("position_bias") || p.str("model") == Some("mpt") => AlibiForm::KeyFromEnd,
            _ if t.has("alibi") || t.has("token_mask") => AlibiForm::KeyPosition,
            _ => AlibiForm::Relative,
        };
        // slope_h = 2^(-alibi_bias_max * ...): 8 is the paper's.
        let slopes = p.f64("alibi_bias_max").filter(|max| *max != 8.0);
        let slopes = slopes.map(|max| ggml::slopes(spec.num_heads, max).into_iter().map(|s| s as f32).collect());
        let scale = if p.set("bias_times_scale") { spec.scale() } else { 1.0 };
        spec.bias.push(Bias::Alibi { form, slopes, scale });
    }
    Ok(())
}

/// `q_positions` and `k_positions`, where a term reads them. Padding does not advance BLOOM's and Falcon's.
fn positions(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    if let Some([q, k]) = rotation::positions(p, t, spec, sizes)? {
        spec.positions = Positions::Ids;
        (inputs.q_positions, inputs.k_positions) = (Some(q), Some(k));
        return Ok(());
    }
    let mut listed = |name: &str, len: u32| -> Build<Option<Vec<i32>>> {
        let Some(entry) = t.take(name) else { return Ok(None) };
        let ids = entry.i32s(name)?;
        match entry.shape.as_slice() {
            [batch, n] if *n == len as usize && *batch == sizes.batch as usize => Ok(Some(ids)),
            [1, n] | [n] if *n == len as usize => Ok(Some(ids.repeat(sizes.batch as usize))),
            [_, _] => Err(entry.wrong(name, &format!("[batch, {len}]")).into()),
            _ => needs("several position streams"),
        }
    };
    let (mut q_ids, mut k_ids) = (listed("q_positions", sizes.q_len)?, listed("k_positions", sizes.kv_len)?);
    if let Some(real) = t.take("token_mask") {
        if real.shape != [sizes.batch as usize, sizes.kv_len as usize] {
            return Err(real.wrong("token_mask", "[batch, kv_len]").into());
        }
        let (kv_len, q_len) = (sizes.kv_len as usize, sizes.q_len as usize);
        let mut k: Vec<i32> = Vec::new();
        for row in real.bools("token_mask")?.chunks(kv_len) {
            let before = row.iter().scan(0, |n, real| {
                *n += *real as i32;
                Some((*n - 1) * *real as i32)
            });
            k.extend(before);
        }
        let last = |row: &[i32]| row[kv_len.saturating_sub(q_len)..].to_vec();
        q_ids = (q_len <= kv_len).then(|| k.chunks(kv_len).flat_map(last).collect());
        k_ids = Some(k);
    }
    if spec.rotary.is_none() && spec.bias.is_empty() && spec.relative.is_empty() && spec.temperature.is_none() {
        return Ok(());
    }
    match (q_ids, k_ids) {
        (Some(q), Some(k)) => {
            spec.positions = Positions::Ids;
            (inputs.q_positions, inputs.k_positions) = (Some(q), Some(k));
        }
        (None, None) if inputs.q_positions.is_some() => {}
        (None, None) if p.set("positions") || t.has("positions") => return needs("2-D positions"),
        (None, None) => {}
        _ => return Err(Error::input("q_positions", "without k_positions", "give both or neither").into()),
    }
    Ok(())
}

/// A mask or bias that broadcasts over batch and heads.
pub fn dense<T: Copy>(entry: &Entry, name: &str, read: impl Fn(&Entry) -> ropewalk::Result<Vec<T>>) -> Build<Dense<T>> {
    Ok(Dense::new(entry.shape4(name)?, read(entry)?)?)
}

/// The mask: by index from the parameters, and by the listed mask where that hides more (padding).
///
/// `causal_alignment` decides how queries stand among the keys; where it is not given, bottom-right is tried first.
pub fn place_mask(
    spec: &mut Spec,
    inputs: &mut Inputs,
    sizes: Sizes,
    p: &Parameters,
    given: Option<&Dense<bool>>,
    kv_lens: Option<Vec<u32>>,
) -> Build<()> {
    let alignments: &[Alignment] = match p.str("causal_alignment") {
        Some("top_left") => &[Alignment::TopLeft],
        Some("bottom_right") => &[Alignment::BottomRight],
        Some(other) => return needs(format!("causal_alignment `{other}`")),
        None => &[Alignment::BottomRight, Alignment::TopLeft],
    };
    let causal = p.set("causal");
    let chunk = p.u32("attention_chunk_size");
    let windows = match p.u32("sliding_window") {
        None => vec![(None, None)],
        Some(0) => {
            return Err(Error::input("sliding_window", "is 0", "a query sees at least itself: give 1 or more").into());
        }
        Some(w) if causal => vec![(Some(w - 1), None)],
        Some(w) => vec![(Some(w - 1), None), (Some(w - 1), Some(w - 1)), (Some(w / 2), Some(w / 2))],
    };
    let lens = match kv_lens {
        Some(lens) => vec![Some(lens), None],
        None => vec![None],
    };
    let mut candidates = Vec::new();
    for kv_lens in &lens {
        for alignment in alignments {
            for (window_left, window_right) in &windows {
                let mut mask = Mask::none();
                (mask.causal, mask.alignment) = (causal, *alignment);
                (mask.window_left, mask.window_right) = (*window_left, *window_right);
                mask.chunk = chunk;
                candidates.push((mask, kv_lens.clone()));
            }
        }
    }
    let Some(given) = given else {
        (spec.mask, inputs.kv_lens) = candidates.swap_remove(0);
        spec.kv_lens = inputs.kv_lens.is_some();
        return Ok(());
    };
    if given.shape().iter().zip(sizes.scores()).any(|(have, full)| *have != 1 && *have != full) {
        let want = format!("give a tensor that broadcasts to {:?}", sizes.scores());
        return Err(Error::input("mask", format!("shape {:?}", given.shape()), want).into());
    }
    // The first that hides exactly what the listed mask hides, else the first that hides nothing more.
    let mut partly = None;
    for (mask, kv_lens) in candidates {
        (spec.mask, spec.kv_lens, inputs.kv_lens) = (mask, kv_lens.is_some(), kv_lens);
        match explains(&Problem::new(spec, inputs)?, given, sizes) {
            Explained::Exactly => return Ok(()),
            Explained::Partly => partly = partly.or_else(|| Some((mask, inputs.kv_lens.take()))),
            Explained::Wrongly => {}
        }
    }
    let Some((mask, kv_lens)) = partly else {
        return Err(Error::input("mask", "shows keys that `parameters` hide", "let the two agree").into());
    };
    (spec.mask, spec.kv_lens, inputs.kv_lens) = (mask, kv_lens.is_some(), kv_lens);
    spec.mask.dense = true;
    inputs.mask = Some(given.clone());
    Ok(())
}

/// How a mask by index compares with a listed one.
enum Explained {
    Exactly,
    /// The listed mask hides more.
    Partly,
    /// The listed mask shows a key that the indices hide.
    Wrongly,
}

fn explains(problem: &Problem, given: &Dense<bool>, sizes: Sizes) -> Explained {
    let mut explained = Explained::Exactly;
    for b in 0..given.shape()[0].max(sizes.batch) {
        for h in 0..given.shape()[1] {
            for (i, j) in (0..sizes.q_len).flat_map(|i| (0..sizes.kv_len).map(move |j| (i, j))) {
                match (problem.visible(b, h, i, j), given.get([b, h, i, j])) {
                    (false, true) => return Explained::Wrongly,
                    (true, false) => explained = Explained::Partly,
                    _ => {}
                }
            }
        }
    }
    explained
}

/// What the case lists of the bias: a model's buckets, slopes, and the bias itself.
fn derived_tables(t: &mut Tensors, spec: &Spec, inputs: &Inputs, sizes: Sizes, tables: &mut Vec<Table>) -> Build<()> {
    let [_, _, q_len, kv_len] = sizes.scores();
    let q_at = |b: u32, i: u32| match &inputs.q_positions {
        Some(ids) => ids[(b * q_len + i) as usize] as i64,
        None => i as i64 + kv_len as i64 - q_len as i64,
    };
    let k_at = |b: u32, j: u32| match &inputs.k_positions {
        Some(ids) => ids[(b * kv_len + j) as usize] as i64,
        None => j as i64,
    };
    let pairs = || (0..q_len).flat_map(|i| (0..kv_len).map(move |j| (i, j)));
    match spec.bias.first() {
        Some(Bias::T5 { num_buckets, max_distance, bidirectional }) => {
            let bucket = |(i, j)| {
                let distance = (k_at(0, j) - q_at(0, i)).clamp(i32::MIN as i64, i32::MAX as i64);
                t5_bucket(distance as i32, *num_buckets, *max_distance, *bidirectional)
            };
            if let Some(listed) = t.take("buckets") {
                let computed = pairs().map(|at| bucket(at) as f64).collect();
                let listed = values_of("buckets", &listed, &[q_len, kv_len])?;
                tables.push(Table { name: "buckets".into(), computed, listed, tolerance: Tolerance::Zero });
            }
            if let (Some(listed), Some(table)) = (t.take("expected_bias"), inputs.parameters.get("bias_table")) {
                let row = |at, h: u32| table[(bucket(at) * sizes.heads + h) as usize] as f64;
                let computed = (0..sizes.heads).flat_map(|h| pairs().map(move |at| (at, h))).map(|(at, h)| row(at, h));
                let computed = computed.collect();
                let listed = values_of("expected_bias", &listed, &[1, sizes.heads, q_len, kv_len])?;
                tables.push(Table { name: "expected_bias".into(), computed, listed, tolerance: Tolerance::Zero });
            }
        }
        Some(Bias::Alibi { slopes, .. }) => {
            let slopes = match slopes {
                Some(slopes) => slopes.iter().map(|s| *s as f64).collect(),
                None => alibi_slopes(sizes.heads),
            };
            let heads = || slopes.iter().copied();
            let by_key = |b: u32, from: i64| {
                let keys = move |s: f64| (0..kv_len).map(move |j| (s, k_at(b, j) - from));
                heads().flat_map(keys).collect::<Vec<_>>()
            };
            let products = |pairs: &[(f64, i64)]| pairs.iter().map(|(s, n)| s * *n as f64).collect::<Vec<_>>();
            let alibi: Vec<(f64, i64)> = (0..sizes.batch).flat_map(|b| by_key(b, 0)).collect();
            // Falcon computes this in bf16: slopes that are no powers of two become others.
            let bf16 = |x: f64| half::bf16::from_f64(x).to_f64();
            let rounded: Vec<f64> = alibi.iter().map(|(s, n)| bf16(bf16(*s) * *n as f64)).collect();
            if let Some(listed) = t.0.get("alibi")
                && rounded != products(&alibi)
                && listed.f64s("alibi")? == rounded
            {
                return needs("a bias rounded to bf16");
            }
            let mut push = |name: &str, shape: &[u32], computed: Vec<f64>| -> Build<()> {
                let Some(listed) = t.take(name) else { return Ok(()) };
                let listed = values_of(name, &listed, shape)?;
                tables.push(Table { name: name.into(), computed, listed, tolerance: Tolerance::DOUBLE });
                Ok(())
            };
            push("slopes", &[sizes.heads], slopes.clone())?;
            push("alibi", &[sizes.batch, sizes.heads, kv_len], products(&alibi))?;
            push("position_bias", &[sizes.heads, kv_len], products(&by_key(0, kv_len as i64 - 1)))?;
            let two_sided = heads().flat_map(|s| pairs().map(move |at| (s, at)));
            let two_sided = two_sided.map(|(s, (i, j))| -s * (q_at(0, i) - k_at(0, j)).abs() as f64).collect();
            push("expected_bias", &[sizes.heads, q_len, kv_len], two_sided)?;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen for two sequences, q_len 4, kv_len 10, when the listed mask shows key j to query i of sequence b.
    fn chosen(
        parameters: &str,
        lens: Option<Vec<u32>>,
        shown: impl Fn(u32, u32, u32) -> bool,
    ) -> Build<(Spec, Inputs)> {
        let tensor = |len| Tensor::bshd(vec![0.0f32; 2 * len as usize * 4], [2, len, 1, 4]);
        let (mut spec, mut inputs, sizes) = plain(tensor(4)?, tensor(10)?, tensor(10)?)?;
        let all = (0..2).flat_map(|b| (0..4).flat_map(move |i| (0..10).map(move |j| (b, i, j))));
        let given = Dense::new([2, 1, 4, 10], all.map(|(b, i, j)| shown(b, i, j)).collect())?;
        let p = Parameters::from(serde_json::from_str::<serde_json::Map<_, _>>(parameters).expect("JSON"));
        place_mask(&mut spec, &mut inputs, sizes, &p, Some(&given), lens)?;
        Ok((spec, inputs))
    }

    #[test]
    fn a_mask_by_index_that_explains_everything_stands_alone() {
        let (spec, inputs) = chosen(r#"{"causal": true}"#, None, |_, i, j| j <= i + 6).unwrap();
        assert_eq!((spec.mask, inputs.mask), (Mask::causal(), None));
        let (spec, _) = chosen(r#"{"causal": true}"#, None, |_, i, j| j <= i).unwrap();
        assert_eq!((spec.mask.causal, spec.mask.alignment, spec.mask.dense), (true, Alignment::TopLeft, false));
        let window = r#"{"causal": true, "sliding_window": 3}"#;
        let (spec, _) = chosen(window, None, |_, i, j| j <= i + 6 && j + 3 > i + 6).unwrap();
        assert_eq!((spec.mask.window_left, spec.mask.dense), (Some(2), false));
        let (spec, inputs) = chosen("{}", None, |_, _, _| true).unwrap();
        assert_eq!((spec.mask, inputs.mask), (Mask::none(), None));
    }

    #[test]
    fn padding_is_a_dense_mask_beside_the_indices() {
        let (spec, inputs) = chosen(r#"{"causal": true}"#, None, |b, i, j| j <= i + 6 && j >= 2 * b).unwrap();
        assert_eq!((spec.mask.causal, spec.mask.dense), (true, true));
        assert!(inputs.mask.unwrap().get([0, 0, 0, 0]));
    }

    #[test]
    fn lengths_of_their_own() {
        let lens = [7, 10];
        let shown = |b: u32, i, j| j <= i + lens[b as usize] - 4;
        let (spec, inputs) = chosen(r#"{"causal": true}"#, Some(lens.to_vec()), shown).unwrap();
        assert_eq!((spec.mask, spec.kv_lens, inputs.kv_lens), (Mask::causal(), true, Some(lens.to_vec())));
        // Prompts padded on the right: the first keys are the queries' own.
        let shown = |b: u32, i, j| j <= i && j < lens[b as usize];
        let (spec, _) = chosen(r#"{"causal": true}"#, Some(lens.to_vec()), shown).unwrap();
        assert_eq!((spec.mask.alignment, spec.kv_lens, spec.mask.dense), (Alignment::TopLeft, true, false));
    }

    #[test]
    fn a_mask_that_shows_more_than_the_parameters_is_refused() {
        let refused = chosen(r#"{"causal": true, "causal_alignment": "top_left"}"#, None, |_, i, j| j <= i + 1);
        assert!(matches!(refused, Err(super::super::work::Unfit::Bad(Error::Input { field, .. })) if field == "mask"));
    }
}
