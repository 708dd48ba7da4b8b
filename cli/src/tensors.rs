//! The published table of tensor names, and the reading of [`Inputs`] by it.

use crate::files::TensorFile;
use ropewalk::{
    Angle, AngleTable, Blocks, Dense, Dtype, Error, Inputs, Mask, Parameter, Positions, Result, Sink, Spec, Tensor,
};
use safetensors::Dtype as Stored;
use std::collections::BTreeMap;
use std::io::{Read, Seek};

/// A tensor that `run` reads.
pub struct Name {
    /// In the file.
    pub name: &'static str,
    /// Its dimensions.
    pub shape: &'static str,
    /// The types that it may have in the file.
    pub types: &'static str,
    /// What it is, and when it is read.
    pub meaning: &'static str,
}

const fn name(name: &'static str, shape: &'static str, types: &'static str, meaning: &'static str) -> Name {
    Name { name, shape, types, meaning }
}

const FLOAT: &str = "F32 F16 BF16";
const INTEGER: &str = "I32 I64";
/// Blocks are rows of bytes, of the type that the spec names.
const CACHE: &str = "F32 F16 BF16, U8";

/// Every name.
pub const NAMES: &[Name] = &[
    name("q", "[batch, heads, q_len, head_dim]", FLOAT, "queries"),
    name("k", "[batch, kv_heads, kv_len, head_dim]", CACHE, "keys, of a type of their own"),
    name("v", "[batch, kv_heads, kv_len, v_head_dim]", CACHE, "values, likewise"),
    name(
        "q_positions",
        "[batch or 1, q_len]",
        INTEGER,
        "positions of the queries: where spec.positions is ids; [streams, batch, q_len] of several streams",
    ),
    name("k_positions", "[batch or 1, kv_len]", INTEGER, "positions of the keys, likewise"),
    name(
        "position_ids",
        "[batch or 1, kv_len]",
        INTEGER,
        "stands for both: of the keys, and in its last q_len columns of the queries; [streams, batch, kv_len] of several streams",
    ),
    name("kv_len", "[]", INTEGER, "keys in use of a longer cache; all where it is missing"),
    name("kv_lens", "[batch]", INTEGER, "keys in use of every sequence: where spec.kv_lens"),
    name(
        "cu_seqlens_q",
        "[sequences + 1]",
        INTEGER,
        "first token of every sequence in q, then q_len: where spec.packed (batch 1, sequences one after the other)",
    ),
    name("cu_seqlens_k", "[sequences + 1]", INTEGER, "the same in k and v, then kv_len"),
    name(
        "bias_table",
        "[num_buckets, heads], [rows, heads] or [heads, distances]",
        FLOAT,
        "of the first t5, indexed or table term of spec.bias; bias_table_1 of the second, and so on",
    ),
    name(
        "relative_0",
        "[rows, heads or 1, dim]",
        FLOAT,
        "of spec.relative's first entry; relative_1 of the second, ...",
    ),
    name("relative_bias_0", "[heads, head_dim]", FLOAT, "v of an entry with query_bias"),
    name("content_bias", "[heads, head_dim]", FLOAT, "u: where spec.content_bias"),
    name("sinks", "[heads]", FLOAT, "where spec.sink is learned"),
    name("head_scale", "[heads]", FLOAT, "where spec.head_scale"),
    name("q_norm", "[head_dim]", FLOAT, "where spec.norm has weights; k_norm of the keys"),
    name("kerple_p", "[heads]", FLOAT, "of a kerple term, with kerple_a"),
    name(
        "fire_w1",
        "[hidden]",
        FLOAT,
        "of a fire term, with fire_b1 [hidden], fire_w2 [heads, hidden], fire_b2 [heads], fire_c and fire_l [1]",
    ),
    name("cpb_w1", "[hidden, 2]", FLOAT, "of a log_cpb term, with cpb_b1 [hidden] and cpb_w2 [heads, hidden]"),
    name("q_segments", "[batch, q_len]", INTEGER, "segments of the queries: where a term reads them"),
    name("k_segments", "[batch, kv_len]", INTEGER, "segments of the keys, likewise"),
    name("gates", "[batch, heads, q_len]", FLOAT, "multiply the relative bias: where spec.gated_bias"),
    name("query_scales", "[batch, heads, q_len]", FLOAT, "multiply the scale: where spec.query_scales"),
    name("query_sinks", "[batch, heads, q_len]", FLOAT, "where spec.sink is query"),
    name("key_bias", "[batch, heads, kv_len]", FLOAT, "c of c_i - c_j: where spec.key_bias"),
    name(
        "relative_queries",
        "[batch, heads, q_len, own]",
        FLOAT,
        "where an entry of spec.relative has a query of its own",
    ),
    name("attn_bias", "[batch, heads, q_len, kv_len]", FLOAT, "added to the scores: where spec.dense_bias"),
    name("mask", "[batch, heads, q_len, kv_len]", "BOOL U8", "true (1): attend; where spec.mask.dense"),
    name(
        "attention_mask",
        "[batch, kv_len] or [batch, 1, q_len, kv_len]",
        "BOOL U8 I32 I64 F32 F16 BF16",
        "as transformers has it, beside --config: keys that are seen (1), or in floats what is added to the scores",
    ),
    name("token_type_ids", "[batch, kv_len]", INTEGER, "stands for both segments, beside --config"),
    name("cos", "[rows, rotary_dim / 2]", FLOAT, "where spec.rotary.angle is table"),
    name("sin", "[rows, rotary_dim / 2]", FLOAT, "likewise"),
];

/// The table and its rules, as `run --help` prints them.
pub fn help() -> String {
    let mut text = String::from("Tensors of the input file:\n");
    for n in NAMES {
        text +=
            &format!("  {:12}  {}  {}\n                  {}\n", n.name, n.shape, n.types.replace(' ', "|"), n.meaning);
    }
    text + "\n\
        q, k, v and out are laid out as --layout says: bhsd as above, bshd with heads and tokens swapped. Dimensions of\n\
        attn_bias and mask may be 1 or left out in front (2 to 4 of them). Positions must fit 32 bits. A spec file says\n\
        itself which tensors are read. The spec of a --config reads what there is of positions, kv_lens, cu_seqlens,\n\
        attention_mask, attn_bias and mask, beside the model's own mask (causal, window), or in its place with --mask replaces. There\n\
        the model's mask goes by position where positions are given and differ from each other. A tensor with mask, position, bias\n\
        or sink in its name that nothing reads is an error, unless --ignore names it; all others are left alone. With kv_lens the\n\
        queries are the last tokens of their sequence; sequences padded on the right want a mask.\n\
        The output file holds `out` (in q's layout with v_head_dim, of q's type or spec.out_dtype) and `lse` [batch, heads, q_len] F32."
}

/// How q, k, v and out lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// [batch, heads, tokens, dim]
    Bhsd,
    /// [batch, tokens, heads, dim]
    Bshd,
}

impl Layout {
    /// The name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Bhsd => "bhsd",
            Layout::Bshd => "bshd",
        }
    }
    fn dimensions(self) -> &'static str {
        match self {
            Layout::Bhsd => "[batch, heads, tokens, dim] (--layout bhsd)",
            Layout::Bshd => "[batch, tokens, heads, dim] (--layout bshd)",
        }
    }
}

/// A model's spec reads what the file has.
pub fn adapt<R: Read + Seek>(spec: &mut Spec, file: &TensorFile<R>, replaces: bool) -> Result<()> {
    if replaces {
        spec.mask = Mask::none();
    }
    let given = ["q_positions", "k_positions", "position_ids"].iter().any(|name| file.has(name));
    if given {
        spec.positions = Positions::Ids;
    } else if spec.position_streams() > 1 {
        // words alone: every stream counts tokens
        spec.positions = Positions::Index;
        if let Some(rotary) = &mut spec.rotary {
            rotary.streams.clear();
        }
    }
    spec.kv_lens = file.has("kv_lens");
    spec.packed |= file.has("cu_seqlens_q") || file.has("cu_seqlens_k");
    spec.dense_bias |= file.has("attn_bias");
    spec.mask.dense |= file.has("mask");
    if file.has("attention_mask") {
        match file.is_float("attention_mask") && file.rank("attention_mask") != 2 {
            true if file.has("attn_bias") => {
                let help = "add one to the other, or leave one out with --ignore";
                return Err(Error::input("attention_mask", "is of floats beside attn_bias", help));
            }
            true => spec.dense_bias = true,
            false => spec.mask.dense = true,
        }
    }
    match replaces && !spec.mask.dense && !spec.dense_bias {
        true => Err(Error::input("--mask replaces", "finds no mask in the file", "give mask or attention_mask")),
        false => Ok(()),
    }
}

/// A model's own mask goes by position where positions are given and they see other keys than indices would: ring caches, chunks of
/// sequences that are padded on the left. Documents whose positions begin anew do not see each other.
pub fn by_position(spec: &mut Spec, inputs: &mut Inputs) -> Result<()> {
    let mask = spec.mask;
    let own = mask.causal || mask.window_left.is_some() || mask.window_right.is_some() || mask.chunk.is_some();
    let (Some(q_ids), Some(k_ids)) = (&inputs.q_positions, &inputs.k_positions) else { return Ok(()) };
    if !own || spec.packed || spec.kv_lens || inputs.kv_len.is_some() || spec.position_streams() > 1 {
        return Ok(());
    }
    let ([batch, q_len, ..], kv_len) = (inputs.q.shape(), inputs.k.shape()[1]);
    let (batch, q_len, kv_len) = (batch as usize, q_len as usize, kv_len as usize);
    // positions that are indices and a constant see what indices see, but for chunks
    let first = kv_len as i64 - q_len as i64;
    let constant = (0..batch).all(|b| {
        let (q, k) = (&q_ids[b * q_len..][..q_len], &k_ids[b * kv_len..][..kv_len]);
        let shift = k.first().map_or(0, |n| *n as i64);
        k.iter().zip(0..).all(|(n, j): (_, i64)| *n as i64 == j + shift)
            && q.iter().zip(first..).all(|(m, row)| *m as i64 == row + shift)
            && mask.chunk.is_none_or(|chunk| shift.rem_euclid(chunk as i64) == 0)
    });
    if constant {
        return Ok(());
    }
    if batch as u64 * q_len as u64 * kv_len as u64 > 1 << 31 {
        let help = "give a whole mask with --mask replaces, or fewer queries";
        return Err(Error::input("position_ids", "make a mask of more than 2^31 elements", help));
    }
    let sees = |m: i64, n: i64| {
        (!mask.causal || n <= m)
            && mask.window_left.is_none_or(|left| n + left as i64 >= m)
            && mask.window_right.is_none_or(|right| n <= m + right as i64)
            && mask.chunk.is_none_or(|chunk| n.div_euclid(chunk as i64) == m.div_euclid(chunk as i64))
    };
    let given = |b: usize, i: usize, j: usize| inputs.mask.as_ref().is_none_or(|dense| at(dense, [b, 0, i, j]));
    let (mut differ, mut seen) = (None, vec![false; batch * q_len * kv_len]);
    for b in 0..batch {
        let (q, k) = (&q_ids[b * q_len..][..q_len], &k_ids[b * kv_len..][..kv_len]);
        for i in 0..q_len {
            let row = i as i64 + kv_len as i64 - q_len as i64;
            for j in 0..kv_len {
                if given(b, i, j) {
                    let (by_index, by_position) = (sees(row, j as i64), sees(q[i] as i64, k[j] as i64));
                    seen[(b * q_len + i) * kv_len + j] = by_position;
                    if by_index != by_position {
                        differ = differ.or(Some((b, i, j)));
                    }
                }
            }
        }
    }
    let Some((b, i, j)) = differ else { return Ok(()) };
    for b in 0..batch {
        let (q, k) = (&q_ids[b * q_len..][..q_len], &k_ids[b * kv_len..][..kv_len]);
        let used = |j: &usize| (0..q_len).any(|i| given(b, i, *j));
        let mut positions: Vec<i32> = (0..kv_len).filter(used).map(|j| k[j]).collect();
        positions.sort_unstable();
        if positions.windows(2).all(|pair| pair[0] != pair[1]) {
            continue;
        }
        // documents side by side: every run of positions begins at 0, and the queries are the last tokens
        let mut documents = Vec::with_capacity(kv_len);
        for (j, n) in k.iter().enumerate() {
            let goes_on = j > 0 && k[j - 1].checked_add(1) == Some(*n);
            documents.push(documents.last().map_or(0, |last: &usize| last + !goes_on as usize));
            if !goes_on && *n != 0 || !k.ends_with(q) {
                return Err(Error::input(
                    "position_ids",
                    format!("repeat in sequence {b}, and by position the model's mask is another than by index"),
                    "give cu_seqlens_q and cu_seqlens_k of documents that lie side by side, or a whole mask with --mask replaces",
                ));
            }
        }
        for i in 0..q_len {
            for j in 0..kv_len {
                seen[(b * q_len + i) * kv_len + j] &= documents[j] == documents[kv_len - q_len + i];
            }
        }
    }
    if inputs.mask.as_ref().is_some_and(|dense| dense.shape()[1] != 1) {
        let problem =
            format!("has a plane for each head, and key {j} of query {i} of sequence {b} is seen by position only");
        return Err(Error::input("mask", problem, "give a whole mask with --mask replaces"));
    }
    spec.mask = Mask::none();
    spec.mask.dense = true;
    inputs.mask = Some(Dense::new([batch as u32, 1, q_len as u32, kv_len as u32], seen)?);
    Ok(())
}

/// A tensor that nobody read and whose name says that it bears on attention.
pub fn unread<R: Read + Seek>(file: &TensorFile<R>, ignore: &[String]) -> Result<()> {
    let words = ["mask", "position", "bias", "sink"];
    let matters = |name: &String| {
        let lower = name.to_lowercase();
        // what a golden case compares with
        !lower.starts_with("expected_") && words.iter().any(|word| lower.contains(word)) && !ignore.contains(name)
    };
    match file.ignored().into_iter().find(matters) {
        Some(name) => {
            let help = "the spec does not use it: leave it out, or say --ignore NAME (`ropewalk run --help` lists what is read)";
            Err(Error::input(name, "is not read", help))
        }
        None => Ok(()),
    }
}

/// The longest sequence of the file in tokens, by positions where it has them.
pub fn longest<R: Read + Seek>(file: &TensorFile<R>, layout: Layout) -> Result<u32> {
    for name in ["k_positions", "position_ids"] {
        if file.has(name) {
            let last = file.integers(name, "")?.1.into_iter().max().unwrap_or(0);
            return Ok(last.max(0) as u32 + 1);
        }
    }
    if file.has("cu_seqlens_k") {
        let starts = file.integers("cu_seqlens_k", "")?.1;
        let lengths = starts.iter().zip(starts.iter().skip(1)).map(|(start, end)| end.saturating_sub(*start));
        return Ok(lengths.max().unwrap_or(0).max(1) as u32);
    }
    for name in ["kv_lens", "kv_len"] {
        if file.has(name) {
            return Ok(file.integers(name, "")?.1.into_iter().max().unwrap_or(0).max(1) as u32);
        }
    }
    Ok(tensor(file, "k", layout)?.shape()[1])
}

/// Reads what the spec asks for; the spec's storage types become those of the tensors. k and v in blocks are U8, rows of bytes, and the spec says which type they are.
pub fn read<R: Read + Seek>(file: &TensorFile<R>, spec: &mut Spec, layout: Layout) -> Result<Inputs> {
    let q = tensor(file, "q", layout)?;
    let k = stored(file, "k", layout, spec.k_dtype, spec.head_dim)?;
    let v = stored(file, "v", layout, spec.v_dtype, spec.v_head_dim)?;
    spec.dtype = q.dtype();
    spec.k_dtype = Some(k.dtype()).filter(|dtype| *dtype != spec.dtype);
    spec.v_dtype = Some(v.dtype()).filter(|dtype| *dtype != spec.dtype);
    let ([batch, q_len, ..], kv_len) = (q.shape(), k.shape()[1]);
    let mut inputs = Inputs::new(q, k, v);
    if spec.positions == Positions::Ids {
        if spec.packed && q_len != kv_len && file.has("position_ids") {
            let help = "give q_positions and k_positions: the queries of packed sequences are not the last tokens";
            return Err(Error::input("position_ids", "is given for packed sequences", help));
        }
        let (q_ids, k_ids) = match spec.position_streams() {
            1 => positions(file, batch, q_len, kv_len)?,
            n => streams(file, n, [batch, q_len, kv_len])?,
        };
        (inputs.q_positions, inputs.k_positions) = (Some(q_ids), Some(k_ids));
    }
    if spec.kv_lens {
        inputs.kv_lens = Some(lengths(file, "kv_lens", batch as usize)?);
    } else if file.has("kv_len") {
        inputs.kv_len = lengths(file, "kv_len", 1)?.first().copied();
    }
    if spec.packed {
        inputs.cu_seqlens_q = Some(starts(file, "cu_seqlens_q")?);
        inputs.cu_seqlens_k = Some(starts(file, "cu_seqlens_k")?);
    }
    if spec.segments() && file.has("token_type_ids") && !file.has("q_segments") {
        let (rows, last) = (batch as usize, q_len as usize);
        inputs.q_segments = Some(ids(file, "token_type_ids", rows, kv_len as usize, last)?);
        inputs.k_segments = Some(ids(file, "token_type_ids", rows, kv_len as usize, kv_len as usize)?);
    } else if spec.segments() {
        inputs.q_segments = Some(whole(file, "q_segments", [1, batch, q_len])?);
        inputs.k_segments = Some(whole(file, "k_segments", [1, batch, kv_len])?);
    }
    if spec.gated_bias {
        let want = [batch, spec.num_heads, q_len].map(|n| n as usize);
        let help = format!("give [batch, heads, q_len] = {want:?}, as spec.gated_bias wants it");
        let (shape, data) = file.floats("gates", &help)?;
        if shape != want {
            return Err(wrong_shape("gates", &shape, &help));
        }
        inputs.gates = Some(data.to_f32().into_iter().map(f64::from).collect());
    }
    let rows = |name: &str, wanted: bool, last: &[u32]| -> Result<Option<Vec<f32>>> {
        if !wanted {
            return Ok(None);
        }
        let want: Vec<usize> = [batch, spec.num_heads].iter().chain(last).map(|n| *n as usize).collect();
        let help = format!("give {want:?}, as the spec wants it");
        let (shape, data) = file.floats(name, &help)?;
        if shape != want {
            return Err(wrong_shape(name, &shape, &help));
        }
        Ok(Some(data.to_f32()))
    };
    let own = spec.relative.iter().find_map(|r| r.own);
    inputs.query_scales = rows("query_scales", spec.query_scales, &[q_len])?;
    inputs.query_sinks = rows("query_sinks", spec.sink == Some(Sink::Query), &[q_len])?;
    inputs.relative_queries = rows("relative_queries", own.is_some(), &[q_len, own.unwrap_or(1)])?;
    let c = rows("key_bias", spec.key_bias, &[kv_len])?;
    inputs.key_bias = c.map(|c| c.into_iter().map(f64::from).collect());
    inputs.parameters = parameters(file, spec)?;
    let wanted = "it broadcasts to [batch, heads, q_len, kv_len]";
    let sizes = [batch, spec.num_heads, q_len, kv_len];
    if spec.dense_bias {
        let own = file.has("attn_bias") || !file.has("attention_mask");
        let name = if own { "attn_bias" } else { "attention_mask" };
        let (shape, data) = file.floats(name, wanted)?;
        inputs.attn_bias = Some(dense(name, &shape, data.to_f32(), sizes)?);
    }
    if spec.mask.dense {
        let own = file.has("mask") || !file.has("attention_mask");
        if own {
            let (shape, data) = file.bools("mask", wanted)?;
            inputs.mask = Some(dense("mask", &shape, data, sizes)?);
        }
        if file.has("attention_mask") && (!spec.dense_bias || file.has("attn_bias")) {
            let keys = attention_mask(file, sizes)?;
            inputs.mask = Some(match inputs.mask.take() {
                None => keys,
                Some(mask) => both(&mask, &keys)?,
            });
        }
    }
    if let Some(rotary) = spec.rotary.as_ref().filter(|r| r.angle == Angle::Table) {
        let pairs = rotary.rotary_dim as usize / 2;
        let table = |name: &str| {
            let help = format!("give [rows, rotary_dim / 2 = {pairs}], as spec.rotary.angle = table wants it");
            let (shape, data) = file.floats(name, &help)?;
            match shape[..] {
                [_, n] if n == pairs => Ok(data.to_f32()),
                _ => Err(wrong_shape(name, &shape, &help)),
            }
        };
        inputs.angle_table = Some(AngleTable { cos: table("cos")?, sin: table("sin")? });
    }
    Ok(inputs)
}

fn wrong_shape(name: &str, shape: &[usize], help: &str) -> Error {
    Error::input(name, format!("has rank {}, shape {shape:?}", shape.len()), help)
}

/// q, k or v.
fn tensor<R: Read + Seek>(file: &TensorFile<R>, name: &str, layout: Layout) -> Result<Tensor> {
    let help = format!("give {}", layout.dimensions());
    let (shape, data) = file.floats(name, &help)?;
    let [Ok(a), Ok(b), Ok(c), Ok(d)] = small(&shape)[..] else {
        return Err(wrong_shape(name, &shape, &help));
    };
    if data.is_empty() {
        return Err(Error::input(
            name,
            format!("shape {shape:?} is empty"),
            "give at least one token, head and element",
        ));
    }
    let made = match layout {
        Layout::Bhsd => Tensor::bhsd(data, [a, b, c, d]),
        Layout::Bshd => Tensor::bshd(data, [a, b, c, d]),
    };
    made.map_err(|e| match e {
        Error::Input { problem, help, .. } => Error::input(name, problem, help),
        other => other,
    })
}

/// Rows of k or v: floats, or bytes of a type in blocks that the spec names.
fn stored<R: Read + Seek>(
    file: &TensorFile<R>,
    name: &str,
    layout: Layout,
    dtype: Option<Dtype>,
    dim: u32,
) -> Result<Tensor> {
    let Some(dtype) = dtype.filter(|dtype| dtype.in_blocks()) else { return tensor(file, name, layout) };
    let row = dtype.row_bytes(dim);
    let help = format!("give {} with {row} bytes of {} in place of {dim} elements", layout.dimensions(), dtype.name());
    let (shape, bytes) = file.raw(name, &help)?;
    let [Ok(a), Ok(b), Ok(c), Ok(width)] = small(&shape)[..] else {
        return Err(wrong_shape(name, &shape, &help));
    };
    if width as u64 != row || bytes.is_empty() {
        return Err(wrong_shape(name, &shape, &help));
    }
    let blocks = Blocks::new(dtype, dim, bytes)?;
    match layout {
        Layout::Bhsd => Tensor::bhsd(blocks, [a, b, c, dim]),
        Layout::Bshd => Tensor::bshd(blocks, [a, b, c, dim]),
    }
}

/// Dimensions as u32.
fn small(shape: &[usize]) -> Vec<std::result::Result<u32, std::num::TryFromIntError>> {
    shape.iter().map(|n| u32::try_from(*n)).collect()
}

/// Positions of queries and keys, `[batch, len]` each.
fn positions<R: Read + Seek>(
    file: &TensorFile<R>,
    batch: u32,
    q_len: u32,
    kv_len: u32,
) -> Result<(Vec<i32>, Vec<i32>)> {
    let (batch, q_len, kv_len) = (batch as usize, q_len as usize, kv_len as usize);
    let both = file.has("position_ids");
    let q = match !both || file.has("q_positions") {
        true => ids(file, "q_positions", batch, q_len, q_len)?,
        false if file.integers("position_ids", "")?.0.last() == Some(&q_len) => {
            ids(file, "position_ids", batch, q_len, q_len)?
        }
        false => ids(file, "position_ids", batch, kv_len, q_len)?,
    };
    let name = if !both || file.has("k_positions") { "k_positions" } else { "position_ids" };
    Ok((q, ids(file, name, batch, kv_len, kv_len)?))
}

/// The last `take` columns of a tensor of positions, `[len]`, `[1, len]` or `[batch, len]`, for every sequence.
fn ids<R: Read + Seek>(file: &TensorFile<R>, name: &str, batch: usize, len: usize, take: usize) -> Result<Vec<i32>> {
    let help = format!("give [batch = {batch} or 1, {len}] positions, or let the spec count them");
    let (shape, values) = file.integers(name, &help)?;
    let rows = match shape[..] {
        [n] | [1, n] if n == len => 1,
        [b, n] if n == len && b == batch => batch,
        _ => return Err(wrong_shape(name, &shape, &help)),
    };
    let Some(skip) = len.checked_sub(take) else {
        return Err(Error::input(name, format!("{len} positions for {take} queries"), "give q_positions too"));
    };
    let row = |b: usize| values.chunks_exact(len).nth(b % rows).unwrap_or_default().get(skip..).unwrap_or_default();
    Ok((0..batch).flat_map(|b| row(b).iter().copied()).collect())
}

/// Integers of exactly this shape, a one in front aside.
fn whole<R: Read + Seek>(file: &TensorFile<R>, name: &str, want: [u32; 3]) -> Result<Vec<i32>> {
    let want = want.map(|n| n as usize);
    let help = format!("give {want:?}, or without a 1 in front");
    let (shape, values) = file.integers(name, &help)?;
    let fits = shape == want || (want[0] == 1 && shape == want[1..]);
    if fits { Ok(values) } else { Err(wrong_shape(name, &shape, &help)) }
}

/// `n` numbers of keys.
fn lengths<R: Read + Seek>(file: &TensorFile<R>, name: &str, n: usize) -> Result<Vec<u32>> {
    let help = format!("give {n} number(s) of keys in use, one for each sequence");
    let (shape, values) = file.integers(name, &help)?;
    if values.len() != n || shape.len() > 1 {
        return Err(wrong_shape(name, &shape, &help));
    }
    let length = |x: &i32| u32::try_from(*x).map_err(|_| Error::input(name, format!("holds {x}"), "give 0 or more"));
    values.iter().map(length).collect()
}

/// The first token of every sequence, then the number of tokens.
fn starts<R: Read + Seek>(file: &TensorFile<R>, name: &str) -> Result<Vec<u32>> {
    let help = "give [sequences + 1]: the first token of every sequence, then the number of tokens";
    let (shape, values) = file.integers(name, help)?;
    if shape.len() != 1 {
        return Err(wrong_shape(name, &shape, help));
    }
    let start = |(i, x): (usize, &i32)| {
        u32::try_from(*x).map_err(|_| Error::input(name, format!("entry {i} is {x}"), "give 0 or more"))
    };
    values.iter().enumerate().map(start).collect()
}

/// What the spec's terms have learned; dimensions are checked here, since only files have them.
fn parameters<R: Read + Seek>(file: &TensorFile<R>, spec: &Spec) -> Result<BTreeMap<String, Vec<f32>>> {
    let read = |p: Parameter| {
        let want: Vec<usize> = p.shape.iter().map(|n| *n as usize).collect();
        let help = format!("give {want:?} for the spec's terms");
        let (shape, data) = file.floats(&p.name, &help)?;
        if shape == want { Ok((p.name, data.to_f32())) } else { Err(wrong_shape(&p.name, &shape, &help)) }
    };
    spec.parameters().into_iter().map(read).collect()
}

/// The mask of transformers: [batch, kv_len], or of 4 dimensions; 1 (true) is seen.
fn attention_mask<R: Read + Seek>(file: &TensorFile<R>, sizes: [u32; 4]) -> Result<Dense<bool>> {
    let name = "attention_mask";
    let (shape, seen) = file.flags(name)?;
    let [batch, _, q_len, kv_len] = sizes.map(|n| n as usize);
    let full = match shape[..] {
        [b, n] if b == batch && n == kv_len => [b, 1, 1, n],
        [1, n] if n == kv_len => [1, 1, 1, n],
        [b, 1, q, n] if b == batch && n == kv_len && (q == q_len || q == 1) => [b, 1, q, n],
        _ => {
            let help = format!("give [batch, kv_len] = [{batch}, {kv_len}], or [batch, 1, q_len, kv_len]");
            return Err(wrong_shape(name, &shape, &help));
        }
    };
    Dense::new(full.map(|n| n as u32), seen).map_err(|_| wrong_shape(name, &shape, "give a whole tensor"))
}

/// An element, broadcast.
fn at(dense: &Dense<bool>, index: [usize; 4]) -> bool {
    let place: usize = dense.strides().iter().zip(index).map(|(stride, i)| *stride as usize * i).sum();
    dense.data().get(place).copied().unwrap_or(false)
}

/// Where both see.
fn both(a: &Dense<bool>, b: &Dense<bool>) -> Result<Dense<bool>> {
    let shape: [u32; 4] = std::array::from_fn(|at| a.shape()[at].max(b.shape()[at]));
    let [n0, n1, n2, n3] = shape.map(|n| n as usize);
    let mut seen = Vec::with_capacity(n0 * n1 * n2 * n3);
    for i in 0..n0 {
        for j in 0..n1 {
            for k in 0..n2 {
                seen.extend((0..n3).map(|l| at(a, [i, j, k, l]) && at(b, [i, j, k, l])));
            }
        }
    }
    Dense::new(shape, seen)
}

/// Positions of several streams: [streams, batch, len], or [batch, len] for all of them; `position_ids` stands for both.
fn streams<R: Read + Seek>(
    file: &TensorFile<R>,
    n: u32,
    [batch, q_len, kv_len]: [u32; 3],
) -> Result<(Vec<i32>, Vec<i32>)> {
    let read = |name: &str, len: u32, take: u32| -> Result<Vec<i32>> {
        let help = format!("give [streams = {n}, batch = {batch}, {len}], or [batch, {len}] for all streams");
        let (shape, values) = file.integers(name, &help)?;
        let [n, batch, len, take] = [n, batch, len, take].map(|n| n as usize);
        let one = match shape[..] {
            [a, l] if l == len && a == n && a == batch && n > 1 => {
                let help = "give [streams, batch, len]";
                let problem = format!("has shape {shape:?}: one row a stream, or one a sequence of the batch");
                return Err(Error::input(name, problem, help));
            }
            [a, b, l] if a == n && b == batch && l == len => false,
            [a, l] if a == n && batch == 1 && l == len => false,
            [b, l] if b == batch && l == len => true,
            [l] if batch == 1 && l == len => true,
            _ => return Err(wrong_shape(name, &shape, &help)),
        };
        let rows: Vec<&[i32]> = values.chunks_exact(len).map(|row| row.get(len - take..).unwrap_or_default()).collect();
        let each = (0..n * batch).map(|at| rows.get(if one { at % batch } else { at }).copied().unwrap_or_default());
        Ok(each.flatten().copied().collect())
    };
    let both = file.has("position_ids");
    let name = |own: &'static str| if both && !file.has(own) { "position_ids" } else { own };
    let k = read(name("k_positions"), kv_len, kv_len)?;
    let q = match name("q_positions") {
        "position_ids" if q_len <= kv_len => read("position_ids", kv_len, q_len)?,
        own => read(own, q_len, q_len)?,
    };
    Ok((q, k))
}

/// A tensor of 2 to 4 dimensions, ones in front. `sizes`: batch, heads, queries, keys.
fn dense<T: Copy>(name: &str, shape: &[usize], data: Vec<T>, sizes: [u32; 4]) -> Result<Dense<T>> {
    let help = "give 2 to 4 dimensions that broadcast to [batch, heads, q_len, kv_len]";
    let [batch, heads, q_len, kv_len] = sizes.map(|n| n as usize);
    let twice = match *shape {
        [a, n] if a == batch && a == q_len && a > 1 && n == kv_len => Some("[batch, kv_len] or [q_len, kv_len]"),
        [a, q, n] if a == batch && a == heads && a > 1 && q == q_len && n == kv_len => {
            Some("[batch, q_len, kv_len] or [heads, q_len, kv_len]")
        }
        _ => None,
    };
    if let Some(readings) = twice {
        let help = "give 4 dimensions, ones where it is broadcast";
        return Err(Error::input(name, format!("has shape {shape:?}, which may be {readings}"), help));
    }
    let full = match small(shape)[..] {
        [Ok(i), Ok(j)] => [1, 1, i, j],
        [Ok(h), Ok(i), Ok(j)] => [1, h, i, j],
        [Ok(b), Ok(h), Ok(i), Ok(j)] => [b, h, i, j],
        _ => return Err(wrong_shape(name, shape, help)),
    };
    if u32::try_from(data.len()).is_err() {
        return Err(Error::input(name, format!("shape {shape:?}"), "give fewer than 2^32 elements: broadcast it"));
    }
    Dense::new(full, data).map_err(|_| wrong_shape(name, shape, help))
}

/// A tensor to be written.
pub struct Named {
    pub name: String,
    pub dtype: Stored,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// What [`read`] reads, of a spec and inputs, q, k and v as [`Layout::Bhsd`]; or what there is that no file holds.
pub fn named(spec: &Spec, inputs: &Inputs) -> std::result::Result<Vec<Named>, String> {
    let held = [
        ("a score_mod", spec.score_mod.is_some()),
        ("a mask_mod", spec.mask_mod.is_some()),
        ("linear attention", spec.linear.is_some()),
        ("words of the user's", !inputs.user_data.is_empty()),
    ];
    if let Some((what, _)) = held.iter().find(|(_, held)| *held) {
        return Err(format!("has {what}, which no file of tensors holds"));
    }
    let inputs = &inputs.gathered(spec).map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    for (name, tensor) in [("q", &inputs.q), ("k", &inputs.k), ("v", &inputs.v)] {
        let [batch, len, heads, dim] = tensor.shape();
        let dtype = tensor.dtype();
        let (row, [elements, bytes]) = (dtype.row_bytes(dim) as usize, dtype.block(dim).map(|n| n as usize));
        let starts = (0..batch).flat_map(|b| (0..heads).flat_map(move |h| (0..len).map(move |j| (b, j, h))));
        let rows = starts.map(|(b, j, h)| tensor.row_start(b, j, h) / elements.max(1) * bytes);
        let data: Vec<u8> =
            rows.flat_map(|at| tensor.data().bytes().get(at..at + row).unwrap_or_default()).copied().collect();
        let (stored, last) = match dtype {
            Dtype::F32 => (Stored::F32, dim as usize),
            Dtype::F16 => (Stored::F16, dim as usize),
            Dtype::Bf16 => (Stored::BF16, dim as usize),
            _ => (Stored::U8, row),
        };
        let shape = vec![batch as usize, heads as usize, len as usize, last];
        all.push(Named { name: name.into(), dtype: stored, shape, bytes: data });
    }
    let [batch, q_len, heads, _] = inputs.q.shape().map(|n| n as usize);
    let kv_len = inputs.k.shape()[1] as usize;
    let mut add = |name: &str, dtype: Stored, shape: Vec<usize>, bytes: Vec<u8>| {
        all.push(Named { name: name.into(), dtype, shape, bytes });
    };
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let integers = |values: &[i32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let counts = |values: &[u32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let exact = |name: &str, values: &[f64]| match values.iter().find(|x| **x as f32 as f64 != **x && !x.is_nan()) {
        Some(x) => Err(format!("has {x:e} in {name}, which f32 does not hold")),
        None => Ok(values.iter().map(|x| *x as f32).collect::<Vec<f32>>()),
    };
    for (name, ids, len) in [("q_positions", &inputs.q_positions, q_len), ("k_positions", &inputs.k_positions, kv_len)]
    {
        if let Some(ids) = ids {
            let streams = ids.len() / (batch * len).max(1);
            let shape = if streams == 1 { vec![batch, len] } else { vec![streams, batch, len] };
            add(name, Stored::I32, shape, integers(ids));
        }
    }
    for (name, ids, len) in [("q_segments", &inputs.q_segments, q_len), ("k_segments", &inputs.k_segments, kv_len)] {
        if let Some(ids) = ids {
            add(name, Stored::I32, vec![batch, len], integers(ids));
        }
    }
    if let Some(n) = inputs.kv_len {
        add("kv_len", Stored::I32, Vec::new(), counts(&[n]));
    }
    for (name, numbers) in
        [("kv_lens", &inputs.kv_lens), ("cu_seqlens_q", &inputs.cu_seqlens_q), ("cu_seqlens_k", &inputs.cu_seqlens_k)]
    {
        if let Some(numbers) = numbers {
            add(name, Stored::I32, vec![numbers.len()], counts(numbers));
        }
    }
    let rows = vec![batch, heads, q_len];
    if let Some(gates) = &inputs.gates {
        add("gates", Stored::F32, rows.clone(), floats(&exact("gates", gates)?));
    }
    for (name, values) in [("query_scales", &inputs.query_scales), ("query_sinks", &inputs.query_sinks)] {
        if let Some(values) = values {
            add(name, Stored::F32, rows.clone(), floats(values));
        }
    }
    if let Some(values) = &inputs.relative_queries {
        let own = values.len() / (batch * heads * q_len).max(1);
        add("relative_queries", Stored::F32, vec![batch, heads, q_len, own], floats(values));
    }
    if let Some(c) = &inputs.key_bias {
        add("key_bias", Stored::F32, vec![batch, heads, kv_len], floats(&exact("key_bias", c)?));
    }
    if let Some(bias) = &inputs.attn_bias {
        add("attn_bias", Stored::F32, bias.shape().map(|n| n as usize).to_vec(), floats(bias.data()));
    }
    if let Some(mask) = &inputs.mask {
        let bytes = mask.data().iter().map(|seen| *seen as u8).collect();
        add("mask", Stored::BOOL, mask.shape().map(|n| n as usize).to_vec(), bytes);
    }
    for parameter in spec.parameters() {
        let values = inputs.parameters.get(&parameter.name).map(Vec::as_slice).unwrap_or_default();
        let shape = parameter.shape.iter().map(|n| *n as usize).collect();
        add(&parameter.name, Stored::F32, shape, floats(values));
    }
    if let (Some(table), Some(rotary)) = (&inputs.angle_table, &spec.rotary) {
        let pairs = rotary.rotary_dim as usize / 2;
        for (name, values) in [("cos", &table.cos), ("sin", &table.sin)] {
            add(name, Stored::F32, vec![values.len() / pairs.max(1), pairs], floats(values));
        }
    }
    Ok(all)
}

/// `[batch, len, heads, dim]` elements in the order of a layout.
pub fn arranged(out: &[f32], shape: [u32; 4], layout: Layout) -> (Vec<usize>, Vec<f32>) {
    let [batch, len, heads, dim] = shape.map(|n| n as usize);
    match layout {
        Layout::Bshd => (vec![batch, len, heads, dim], out.to_vec()),
        Layout::Bhsd => {
            let rows = (0..batch).flat_map(|b| (0..heads).flat_map(move |h| (0..len).map(move |i| (b, i, h))));
            let row = |(b, i, h): (usize, usize, usize)| out.chunks_exact(dim).nth((b * len + i) * heads + h);
            (vec![batch, heads, len, dim], rows.filter_map(row).flatten().copied().collect())
        }
    }
}
