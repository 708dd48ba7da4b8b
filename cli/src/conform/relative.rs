//! Cases of systems with embeddings of relative positions: Shaw, Transformer-XL, DeBERTa, decomposed 2-D.

use super::model::Sizes;
use super::packed::agree;
use super::work::{Build, Table, Tolerance, needs, values_of};
use crate::golden::{Entry, Parameters, Tensors};
use ropewalk::{Error, IndexMap, Inputs, Outside, Positions, Relative, RelativeSide, Spec, Temperature, log_bucket};

/// A, B, E_V and u, by the tensors that hold them. Listed encodings join the tables.
pub fn relative(
    system: &str,
    p: &Parameters,
    t: &mut Tensors,
    spec: &mut Spec,
    inputs: &mut Inputs,
    sizes: Sizes,
    tables: &mut Vec<Table>,
) -> Build<()> {
    if t.has("distance_embedding") || t.has("emb_rel_k") {
        shaw(p, t, spec, inputs)?;
    }
    if t.has("relative_keys") {
        horizons(p, t, spec, inputs)?;
    }
    if t.has("relative_states") {
        own_queries(p, t, spec, inputs, sizes)?;
    }
    if t.has("r_proj") {
        transformer_xl(system, p, t, spec, inputs, sizes, tables)?;
    }
    if t.has("pos_key") || t.has("pos_query") {
        deberta(p, t, spec, inputs, sizes)?;
    }
    if t.has("rel_pos_h") && p.has("q_size") {
        pooled(p, t, spec, inputs, sizes)?;
    } else if t.has("rel_pos_h") {
        decomposed(p, t, spec, inputs, sizes)?;
    }
    Ok(())
}

/// Adds a term with its table, `[rows, dim]` or `[rows, heads, dim]`.
fn push(spec: &mut Spec, inputs: &mut Inputs, name: &str, table: &Entry, mut term: Relative) -> Build<()> {
    let dim = if term.side == RelativeSide::Value { spec.v_head_dim } else { spec.head_dim } as usize;
    let rows = term.index.rows() as usize;
    term.per_head = match table.shape[..] {
        [n, d] if n == rows && d == dim => false,
        [n, h, d] if n == rows && d == dim && h == spec.num_heads as usize => true,
        _ => return Err(table.wrong(name, &format!("[{rows}, {dim}] or [{rows}, heads, {dim}]")).into()),
    };
    inputs.parameters.insert(format!("relative_{}", spec.relative.len()), table.f32s(name)?);
    spec.relative.push(term);
    Ok(())
}

/// A bias of the queries, `[heads, dim]`, of the last term.
fn push_bias(spec: &mut Spec, inputs: &mut Inputs, name: &str, bias: &Entry) -> Build<()> {
    let values = per_head(spec, name, bias)?;
    if let Some(term) = spec.relative.last_mut() {
        term.query_bias = true;
        inputs.parameters.insert(format!("relative_bias_{}", spec.relative.len() - 1), values);
    }
    Ok(())
}

fn per_head(spec: &Spec, name: &str, entry: &Entry) -> Build<Vec<f32>> {
    let want = [spec.num_heads as usize, spec.head_dim as usize];
    match entry.shape == want {
        true => Ok(entry.f32s(name)?),
        false => Err(entry.wrong(name, &format!("[heads, head_dim] = {want:?}")).into()),
    }
}

/// Gemma's audio towers: q against the embedding of j - i, within two horizons.
fn horizons(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
    let side = |name: &str| -> Build<i32> {
        match p.u32(name).filter(|n| *n < 1 << 24) {
            Some(n) => Ok(n as i32),
            None => Err(Error::input(name, "is missing or too large", "give the keys of one side").into()),
        }
    };
    let (min, max) = (-side("max_past_horizon")?, side("max_future_horizon")?);
    let _ = p.u32("chunk_size"); // how the package cuts its work
    let index = IndexMap::Distance { min, max, outside: Outside::Zero, stream: 0, reversed: false };
    let mut term = Relative::new(RelativeSide::Key, index);
    term.scale = Some(1.0);
    let table = t.need("relative_keys")?;
    push(spec, inputs, "relative_keys", &table, term)
}

/// Inkling: `relative_states [batch, q_len, heads, d_rel]` are A's own queries, `relative_profiles [d_rel, rel_extent]` its table by i - j, 0
/// beyond; the temperature multiplies both parts of the score.
fn own_queries(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    let (states, profiles) = (t.need("relative_states")?, t.need("relative_profiles")?);
    let [own, rows] = profiles.shape[..] else {
        return Err(profiles.wrong("relative_profiles", "[d_rel, rel_extent]").into());
    };
    agree(p, &[("d_rel", own as u32), ("rel_extent", rows as u32)])?;
    let [batch, q_len, heads] = [sizes.batch, sizes.q_len, sizes.heads].map(|n| n as usize);
    if states.shape != [batch, q_len, heads, own] || rows == 0 {
        return Err(states.wrong("relative_states", "[batch, q_len, heads, d_rel]").into());
    }
    let index = IndexMap::Distance { min: 0, max: rows as i32 - 1, outside: Outside::Zero, stream: 0, reversed: true };
    let mut term = Relative::new(RelativeSide::Key, index);
    (term.scale, term.own) = (Some(1.0), Some(own as u32));
    if let Some(alpha) = p.f64("log_scaling_alpha") {
        let Some(floor) = p.u32("log_scaling_n_floor").filter(|n| (1..1 << 30).contains(n)) else {
            return Err(Error::input("log_scaling_n_floor", "is missing or no length", "give it").into());
        };
        spec.temperature = Some(Temperature::smooth(alpha, floor));
    }
    let first = sizes.kv_len as i32 - sizes.q_len as i32;
    let tau = |i: usize| spec.temperature.map_or(1.0, |tau| tau.tau(first + i as i32));
    let values = states.f32s("relative_states")?;
    let row = |b: usize, h: usize, i: usize| ((b * q_len + i) * heads + h) * own;
    let of = |b: usize, h: usize| (0..q_len).map(move |i| (row(b, h, i), i)).collect::<Vec<_>>();
    let rows_of = (0..batch).flat_map(|b| (0..heads).flat_map(move |h| of(b, h)));
    let scaled =
        rows_of.flat_map(|(at, i)| values[at..at + own].iter().map(move |x| (*x as f64, i)).collect::<Vec<_>>());
    inputs.relative_queries = Some(scaled.map(|(x, i)| (x * tau(i)) as f32).collect());
    let table = profiles.f32s("relative_profiles")?;
    let turned = (0..rows).flat_map(|r| (0..own).map(move |d| d * rows + r)).map(|at| table[at]);
    inputs.parameters.insert(format!("relative_{}", spec.relative.len()), turned.collect());
    spec.relative.push(term);
    Ok(())
}

/// Shaw et al. 2018 and its relatives: clipped, spanning every distance, or zero outside a window.
fn shaw(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs) -> Build<()> {
    let reversed = match p.str("distance") {
        Some("q_pos - k_pos") => true,
        Some("k_pos - q_pos") => false,
        other => return needs(format!("the distance {other:?}")),
    };
    let (mut outside, clip) = (Outside::Clip, p.list("clip"));
    let (low, high) = match (clip, p.i64("clip"), p.i64("window"), p.i64("max_position_embeddings")) {
        ([low, high], ..) => (low.as_i64(), high.as_i64()),
        (_, Some(c), ..) => (c.checked_neg(), Some(c)),
        (_, None, Some(w), _) => {
            outside = match p.str("outside_window") {
                Some("zero") => Outside::Zero,
                other => return needs(format!("outside_window {other:?}")),
            };
            (w.checked_neg(), Some(w))
        }
        (_, None, None, Some(n)) => (1i64.checked_sub(n), n.checked_sub(1)),
        _ => return needs("a relative table without `clip`, `window` or `max_position_embeddings`"),
    };
    let small = |x: Option<i64>| x.and_then(|x| i32::try_from(x).ok());
    let (Some(min), Some(max)) = (small(low), small(high)) else {
        return Err(Error::input("clip", "is out of range", "give distances that fit 32 bits").into());
    };
    // Wav2Vec2-BERT and SpeechT5 name the same ends by their own names
    for (name, end) in [("left", -(min as i64)), ("right", max as i64), ("max_length", max as i64 + 1)] {
        if let Some(said) = p.i64(name).filter(|said| *said != end) {
            return Err(Error::input(name, format!("is {said}, not {end}"), "let it agree with `clip`").into());
        }
    }
    let index = IndexMap::Distance { min, max, outside, stream: 0, reversed };
    let keys = match t.take("emb_rel_k") {
        Some(table) => ("emb_rel_k", table),
        None => ("distance_embedding", t.need("distance_embedding")?),
    };
    push(spec, inputs, keys.0, &keys.1, Relative::new(RelativeSide::Key, index))?;
    match p.str("kind") {
        None | Some("relative_key") => {}
        Some("relative_key_query") => {
            push(spec, inputs, keys.0, &keys.1, Relative::new(RelativeSide::Query, index))?;
        }
        Some(other) => return needs(format!("the kind `{other}`")),
    }
    if p.set("value_embeddings") {
        let values = t.take("emb_rel_v");
        let (name, table) = values.as_ref().map_or((keys.0, &keys.1), |table| ("emb_rel_v", table));
        push(spec, inputs, name, table, Relative::new(RelativeSide::Value, index))?;
    }
    Ok(())
}

/// Transformer-XL (Dai et al. 2019), XLNet, Conformer: u with the content, v with the projected sinusoids. The rows start at
/// different distances: XLNet kv_len, the others kv_len - 1.
fn transformer_xl(
    system: &str,
    p: &Parameters,
    t: &mut Tensors,
    spec: &mut Spec,
    inputs: &mut Inputs,
    sizes: Sizes,
    tables: &mut Vec<Table>,
) -> Build<()> {
    let table = t.need("r_proj")?;
    let rows = table.shape.first().copied().unwrap_or(0);
    match p.str("distance") {
        Some(text) if !text.starts_with("q_pos - k_pos") => return needs(format!("the distance `{text}`")),
        _ => {}
    }
    if p.set("permutation_mask") {
        return needs("a permutation mask");
    }
    if p.bool("segments").is_some_and(|said| said != t.has("seg_ids")) {
        return Err(Error::input("segments", "contradicts the tensors", "give seg_ids where it is true").into());
    }
    if p.given("mem_len") {
        agree(p, &[("mem_len", sizes.kv_len.saturating_sub(sizes.q_len))])?;
    }
    let kind = p.str("attn_type");
    if let Some(other) = kind.filter(|kind| !["bi", "uni"].contains(kind)) {
        return needs(format!("attn_type `{other}`"));
    }
    let xlnet = kind.is_some() || system.to_lowercase().contains("xlnet");
    let conformer = !xlnet && (rows != sizes.kv_len as usize || system.to_lowercase().contains("conformer"));
    let first = sizes.kv_len as i32 - !xlnet as i32; // the distance m - n of row 0
    let Some(last) = i32::try_from(rows).ok().and_then(|n| n.checked_sub(1 + first)) else {
        return Err(table.wrong("r_proj", "fewer than 2^31 rows").into());
    };
    push(spec, inputs, "r_proj", &table, Relative::new(RelativeSide::Key, IndexMap::distance(-first, last)))?;
    let v = t.need("v_bias")?;
    push_bias(spec, inputs, "v_bias", &v)?;
    let u = t.need("u")?;
    spec.content_bias = true;
    inputs.parameters.insert("content_bias".into(), per_head(spec, "u", &u)?);
    if let Some(listed) = t.take("pos_emb") {
        let width = listed.shape.last().copied().unwrap_or(0);
        let clamp = p.i64("clamp_len").filter(|c| *c > 0).unwrap_or(i64::MAX);
        let distance = |row: usize| (first as i64 - row as i64).clamp(-clamp, clamp) as f64;
        let half = width.div_ceil(2).max(1);
        let entry = |row: usize, column: usize| {
            let (pair, cosine) = match conformer {
                true => (column / 2, column % 2 == 1),
                false => (column % half, column >= half),
            };
            let angle = distance(row) * 10000f64.powf(-2.0 * pair as f64 / width as f64);
            if cosine { angle.cos() } else { angle.sin() }
        };
        let computed = (0..rows).flat_map(|row| (0..width).map(move |column| entry(row, column))).collect();
        let listed = values_of("pos_emb", &listed, &[rows as u32, width as u32])?;
        tables.push(Table { name: "pos_emb".into(), computed, listed, tolerance: Tolerance::DOUBLE });
    }
    if let Some(ids) = t.take("seg_ids") {
        let (q_len, kv_len) = (sizes.q_len as usize, sizes.kv_len as usize);
        if ids.shape != [sizes.batch as usize, kv_len] || q_len > kv_len {
            return Err(ids.wrong("seg_ids", "[batch, kv_len], the queries being the last").into());
        }
        let ids = ids.i32s("seg_ids")?;
        let of_queries = ids.chunks(kv_len).flat_map(|row| row[kv_len - q_len..].to_vec()).collect();
        (inputs.q_segments, inputs.k_segments) = (Some(of_queries), Some(ids));
        let (table, bias) = (t.need("seg_embed")?, t.need("seg_bias")?);
        push(spec, inputs, "seg_embed", &table, Relative::new(RelativeSide::Key, IndexMap::Segment))?;
        push_bias(spec, inputs, "seg_bias", &bias)?;
    }
    Ok(())
}

/// DeBERTa (He et al. 2021): content to position, position to content, both by the row of m - n.
fn deberta(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    let buckets = p.i64("position_buckets").filter(|n| *n > 0).and_then(|n| u32::try_from(n).ok());
    let most = p.u32("max_relative_positions");
    let span = p.u32("attention_span").or(buckets).or_else(|| Some(most?.min(sizes.q_len.max(sizes.kv_len))));
    let Some(span) = span.filter(|n| (1..1 << 24).contains(n)) else {
        return Err(Error::input("attention_span", "is missing or too large", "give the rows of one side").into());
    };
    let index = match (buckets, most) {
        (Some(buckets), Some(max_position)) => IndexMap::LogBucket { buckets, max_position },
        (Some(_), None) => {
            return Err(Error::input("max_relative_positions", "is missing from `parameters`", "give it").into());
        }
        (None, _) => IndexMap::reversed(-(span as i32), span as i32 - 1),
    };
    if index.rows() != 2 * span as u64 {
        return Err(Error::input("attention_span", format!("{span}"), "let it be position_buckets").into());
    }
    // which projections made the listed tables
    p.set("share_att_key");
    let types: Vec<&str> = p.list("pos_att_type").iter().filter_map(|x| x.as_str()).collect();
    if let Some(other) = types.iter().find(|name| !["c2p", "p2c"].contains(name)) {
        return needs(format!("the term `{other}`"));
    }
    let sides = [("c2p", "pos_key", RelativeSide::Key), ("p2c", "pos_query", RelativeSide::Query)];
    for (kind, name, side) in sides.into_iter().filter(|(kind, ..)| types.contains(kind)) {
        let mut table = t.need(name).map_err(|_| Error::input(name, "is missing", format!("{kind} reads it")))?;
        // the rows of one side's span, in the middle of a table made for the longest sequence
        let rows = table.shape.first().copied().unwrap_or(0);
        let width: usize = table.shape.iter().skip(1).product();
        let Some(skip) = (rows / 2).checked_sub(span as usize).filter(|_| rows.is_multiple_of(2)) else {
            return Err(table.wrong(name, &format!("at least {} rows, an even number", 2 * span)).into());
        };
        let values = table.f32s(name)?;
        table.shape[0] = 2 * span as usize;
        table.values = crate::golden::Values::Float(ropewalk::Data::F32(
            values.into_iter().skip(skip * width).take(2 * span as usize * width).collect(),
        ));
        push(spec, inputs, name, &table, Relative::new(side, index))?;
    }
    Ok(())
}

/// MViT v2: keys are pooled, so that a step of theirs is several of the queries', and class tokens stand in front, outside of both tables.
fn pooled(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    let sides = |name: &str| -> Build<[u32; 2]> {
        let list: Vec<Option<u32>> = p.list(name).iter().map(|n| u32::try_from(n.as_u64()?).ok()).collect();
        match list[..] {
            [Some(h @ 1..=4096), Some(w @ 1..=4096)] => Ok([h, w]),
            _ => Err(Error::input(name, "is missing or no grid", "give [rows, columns]").into()),
        }
    };
    let (of_q, of_k, class) = (sides("q_size")?, sides("k_size")?, p.u32("class_tokens").unwrap_or(0));
    for (name, [h, w], len) in [("q_size", of_q, sizes.q_len), ("k_size", of_k, sizes.kv_len)] {
        if (h * w).checked_add(class) != Some(len) {
            return Err(Error::input(name, format!("{h} x {w} and {class} more"), format!("the case has {len}")).into());
        }
    }
    let (mut q_ids, mut k_ids) = (Vec::new(), Vec::new());
    for (stream, name) in [(0, "rel_pos_h"), (1, "rel_pos_w")] {
        let (q, k) = (of_q[stream], of_k[stream]);
        // steps of a query and of a key, whole numbers where one side divides the other
        if !q.is_multiple_of(k) && !k.is_multiple_of(q) {
            return needs("grids of queries and keys whose sides do not divide each other");
        }
        let (q_step, k_step) = ((k / q).max(1) as i32, (q / k).max(1) as i32);
        let table = t.need(name)?;
        // rows for the larger side, of which the pooled one may leave some
        let (last, rows) = ((k as i32 - 1) * k_step, table.shape.first().copied().unwrap_or(0) as i32);
        let max = rows - 1 - last;
        if max < (q as i32 - 1) * q_step {
            return Err(table.wrong(name, "a row for every distance").into());
        }
        let index =
            IndexMap::Distance { min: -last, max, outside: Outside::Zero, stream: stream as u8, reversed: true };
        let mut term = Relative::new(RelativeSide::Key, index);
        term.scale = Some(1.0);
        push(spec, inputs, name, &table, term)?;
        let ids = |[h, w]: [u32; 2], step: i32, outside: i32| {
            let of = move |at: u32| (if stream == 0 { at / w } else { at % w }) as i32 * step;
            std::iter::repeat_n(outside, class as usize).chain((0..h * w).map(of)).collect::<Vec<i32>>()
        };
        q_ids.extend(ids(of_q, q_step, 1_000_000).repeat(sizes.batch as usize));
        k_ids.extend(ids(of_k, k_step, -1_000_000).repeat(sizes.batch as usize));
    }
    spec.positions = Positions::Ids;
    (inputs.q_positions, inputs.k_positions) = (Some(q_ids), Some(k_ids));
    Ok(())
}

/// SAM and ViTDet (Li et al. 2022): one table over rows, one over columns, against the query unscaled.
fn decomposed(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    let grid: Vec<Option<u32>> = p.list("grid").iter().map(|n| u32::try_from(n.as_u64()?).ok()).collect();
    let [Some(height), Some(width)] = grid[..] else {
        return Err(Error::input("grid", "is missing from `parameters`", "give [height, width]").into());
    };
    if height as u64 * width as u64 != sizes.kv_len as u64 || sizes.q_len != sizes.kv_len {
        return Err(Error::input("grid", format!("{height} x {width}"), "let it hold every token").into());
    }
    for (stream, name, n) in [(0, "rel_pos_h", height), (1, "rel_pos_w", width)] {
        let far = n as i32 - 1;
        let index = IndexMap::Distance { min: -far, max: far, outside: Outside::Clip, stream, reversed: true };
        let mut term = Relative::new(RelativeSide::Key, index);
        term.scale = Some(1.0);
        let table = t.need(name)?;
        push(spec, inputs, name, &table, term)?;
    }
    let of = |stream: u32| (0..sizes.kv_len).map(move |i| if stream == 0 { i / width } else { i % width } as i32);
    let ids: Vec<i32> =
        (0..2).flat_map(|stream| (0..sizes.batch).flat_map(move |_| of(stream).collect::<Vec<_>>())).collect();
    spec.positions = Positions::Ids;
    (inputs.q_positions, inputs.k_positions) = (Some(ids.clone()), Some(ids));
    Ok(())
}

/// What a case lists of its distances, and that a table which is never clipped spans them all.
pub fn distances(p: &Parameters, t: &mut Tensors, spec: &Spec, inputs: &Inputs, sizes: Sizes) -> Build<Vec<Table>> {
    let Some(term) = spec.relative.first() else { return Ok(Vec::new()) };
    let (q_len, kv_len) = (sizes.q_len as usize, sizes.kv_len as usize);
    let m = |b: usize, i: usize| match &inputs.q_positions {
        Some(ids) => ids[b * q_len + i] as i64,
        None => i as i64 + kv_len as i64 - q_len as i64,
    };
    let n = |b: usize, j: usize| inputs.k_positions.as_ref().map_or(j as i64, |ids| ids[b * kv_len + j] as i64);
    let pairs = |b: usize| (0..q_len).flat_map(move |i| (0..kv_len).map(move |j| (b, i, j)));
    let mut tables = Vec::new();
    if let Some(listed) = t.take("relative_pos") {
        let distance = |(b, i, j)| m(b, i) - n(b, j);
        let row = |at| match term.index {
            IndexMap::LogBucket { buckets, max_position } => log_bucket(distance(at), buckets, max_position),
            _ => distance(at),
        };
        let computed = pairs(0).map(|at| row(at) as f64).collect();
        let listed = values_of("relative_pos", &listed, &[sizes.q_len, sizes.kv_len])?;
        tables.push(Table { name: "relative_pos".into(), computed, listed, tolerance: Tolerance::Zero });
    }
    if let IndexMap::Distance { min, max, stream: 0, reversed, outside: Outside::Clip } = term.index
        && p.has("max_position_embeddings")
        && !p.set("clip")
    {
        let signed = |(b, i, j)| if reversed { m(b, i) - n(b, j) } else { n(b, j) - m(b, i) };
        let shown = |(b, i, j): (usize, usize, usize)| {
            inputs.mask.as_ref().is_none_or(|mask| mask.get([b as u32, 0, i as u32, j as u32]))
        };
        let mut all = (0..sizes.batch as usize).flat_map(pairs);
        if let Some(at) = all.find(|at| shown(*at) && !(min as i64..=max as i64).contains(&signed(*at))) {
            let problem = format!("distance {} of query {} and key {}", signed(at), at.1, at.2);
            let help = format!("the table spans {min} to {max}");
            return Err(Error::input("distance_embedding", problem, help).into());
        }
    }
    Ok(tables)
}
