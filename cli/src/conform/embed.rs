//! Cases of absolute systems: sinusoidal and learned positions added to embeddings.

use super::work::{Build, EmbedProbe, Expect, Stage, Table, Tolerance, Work, finish, needs, values_of};
use crate::golden::{Entry, Golden, Parameters, Tensors};
use ropewalk::{
    Absolute, Columns, Denominator, Embed, EmbedInputs, Error, Tensor, positions_from, positions_of_ids,
    positions_of_mask,
};

/// x + P\[m\]: positions are derived from past, offset, input_ids and attention_mask as a model does, and compared with
/// the listed ones.
pub fn absolute(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let embeddings = match t.take("embeddings") {
        Some(x) => x,
        None => return needs(format!("the system {}", golden.system)),
    };
    let x = tensor("embeddings", &embeddings, 3)?;
    let [batch, len, _, dim] = x.shape();
    if p.u32("dim").is_some_and(|d| d != dim) {
        return Err(embeddings.wrong("embeddings", "a last dimension of `dim`").into());
    }
    let learned = t.take("position_table").map(|table| tensor("position_table", &table, 2)).transpose()?;
    if let (Some(table), Some(rows)) = (&learned, p.u32("rows"))
        && table.shape()[1] != rows
    {
        let problem = format!("has {} rows", table.shape()[1]);
        return Err(Error::input("position_table", problem, format!("`rows` says {rows}")).into());
    }
    let (past, offset) = (p.u32("past").unwrap_or(0), p.i64("offset").unwrap_or(0));
    let offset = i32::try_from(offset).map_err(|_| Error::input("offset", format!("is {offset}"), "give an i32"))?;
    let mut embed = match &learned {
        Some(table) => Embed::learned(dim, table.shape()[1]),
        None => sinusoidal(&p, dim, &golden.system, offset)?,
    };
    embed.dtype = x.dtype();
    embed.input_scale = first(&p, &["embed_scale", "input_scale", "embedding_scale"]).unwrap_or(1.0);
    embed.position_scale = first(&p, &["alpha", "position_scale"]).unwrap_or(1.0);
    if p.set("scale_embedding") && embed.input_scale == 1.0 {
        embed.input_scale = (dim as f64).sqrt();
    }

    let mut work = Work::default();
    let positions = positions(&p, &mut t, [batch, len], past, offset)?;
    for name in ["positions", "position_ids"] {
        if let Some(listed) = t.take(name) {
            let listed = match listed.shape.as_slice() {
                [n] | [1, n] if *n == len as usize => listed.f64s(name)?.repeat(batch as usize),
                _ => values_of(name, &listed, &[batch, len])?,
            };
            let computed = positions.iter().map(|m| *m as f64).collect();
            work.tables.push(Table { name: name.into(), computed, listed, tolerance: Tolerance::Zero });
        }
    }

    // the table itself, and what is added: x of zeros
    let zeros = |rows: u32, batch: u32| {
        let data = vec![0.0; batch as usize * rows as usize * dim as usize];
        Tensor::bshd(ropewalk::Data::from_f32(embed.dtype, &data), [batch, rows, 1, dim])
    };
    let mut plain = embed.clone();
    plain.input_scale = 1.0;
    let probe = |label, embed: &Embed, x: Tensor, positions: Vec<i32>, expects| {
        let mut inputs = EmbedInputs::new(x, positions);
        inputs.table = learned.clone();
        EmbedProbe { label, embed: embed.clone(), inputs, expects }
    };
    let listed = |name: &str, entry: &Entry, rows: u32, batch: u32, tolerance| {
        Expect::as_is(name, Stage::Embed, entry, &[batch, rows, dim], tolerance)
    };
    if let Some(out) = t.take("expected_out") {
        let expects = vec![listed("expected_out", &out, len, batch, Tolerance::DOUBLE)?];
        work.embeds.push(probe("", &embed, x, positions.clone(), expects));
    }
    if let Some(added) = t.take("expected_positional") {
        let expects = vec![listed("expected_positional", &added, len, batch, Tolerance::DOUBLE)?];
        work.embeds.push(probe("positional", &plain, zeros(len, batch)?, positions, expects));
    }
    // alpha is no part of the table
    plain.position_scale = 1.0;
    for name in ["expected_table", "expected_table_f32"] {
        let Some(table) = t.take(name) else { continue };
        let rows = match table.shape.as_slice() {
            [rows, d] if *rows > 0 && *rows < 1 << 20 && *d == dim as usize => *rows as u32,
            _ => return Err(table.wrong(name, &format!("[rows, {dim}]")).into()),
        };
        if p.u32("rows").is_some_and(|n| rows < n) {
            return Err(table.wrong(name, "at least `rows` rows").into());
        }
        if name == "expected_table" {
            let expects = vec![listed(name, &table, rows, 1, Tolerance::DOUBLE)?];
            work.embeds.push(probe("table", &plain, zeros(rows, 1)?, positions_from(1, rows, 0, 0)?, expects));
        } else {
            let listed = values_of(name, &table, &[rows, dim])?;
            let computed = float32_table(&plain, &listed, rows);
            work.tables.push(Table { name: name.into(), computed, listed, tolerance: Tolerance::DOUBLE });
        }
    }
    finish(&p, t, work)
}

/// A sinusoidal table of float32 angles. How far a float32 frequency is rounded depends on the library that made it: of those
/// within four units of the exact one, and the exact one itself, every frequency is the one that fits its columns best.
fn float32_table(embed: &Embed, listed: &[f64], rows: u32) -> Vec<f64> {
    let Absolute::Sinusoidal { columns, padding_row, .. } = &embed.positions else { return Vec::new() };
    let (dim, frequencies) = (embed.dim as usize, embed.frequencies());
    let sines = frequencies.len();
    let mut table = vec![0.0; listed.len()];
    for (p, exact) in frequencies.iter().enumerate() {
        // an odd width has no cosine for the last sine, or a column of zeros
        let columns_of = match columns {
            Columns::Interleaved => [2 * p, 2 * p + 1],
            _ => [p, sines + p],
        };
        let near = (-4i32..=4).map(|ulp| f32::from_bits((*exact as f32).to_bits().wrapping_add_signed(ulp)));
        let mut best = (f64::INFINITY, Vec::new());
        let angles = near.map(|f| (0..rows).map(|m| (m as f32 * f) as f64).collect::<Vec<f64>>());
        for angles in angles.chain([(0..rows).map(|m| m as f64 * exact).collect()]) {
            let mut values = Vec::new();
            for (c, column) in columns_of.iter().enumerate().filter(|(_, column)| **column < dim) {
                for (m, angle) in angles.iter().enumerate().filter(|(m, _)| *padding_row != Some(*m as i32)) {
                    values.push((m * dim + column, if c == 0 { angle.sin() } else { angle.cos() }));
                }
            }
            // the mean, so that one wrong element does not decide
            let off = values.iter().map(|(at, x)| listed.get(*at).map_or(0.0, |l| (l - x).abs())).sum();
            if off < best.0 {
                best = (off, values);
            }
        }
        best.1.into_iter().for_each(|(at, x)| table[at] = x);
    }
    table
}

/// The first of these parameters that is a number.
fn first(p: &Parameters, names: &[&str]) -> Option<f64> {
    names.iter().find_map(|name| p.f64(name))
}

/// `[batch, len, dim]` (rank 3) or `[rows, dim]` (rank 2) as a tensor of the library.
fn tensor(name: &str, entry: &Entry, rank: usize) -> Build<Tensor> {
    if entry.is_double() {
        return needs("f64 storage");
    }
    if entry.shape.len() != rank {
        return Err(entry.wrong(name, if rank == 3 { "[batch, len, dim]" } else { "[rows, dim]" }).into());
    }
    let [_, batch, len, dim] = entry.shape4(name)?;
    Ok(Tensor::bshd(entry.data(name)?.clone(), [batch, len, 1, dim])?)
}

fn sinusoidal(p: &Parameters, dim: u32, system: &str, offset: i32) -> Build<Embed> {
    let columns = match p.str("layout") {
        Some(text) if text.contains("interleaved") => Columns::Interleaved,
        Some(text) if text.contains("halves") || text.contains('|') => Columns::Halves,
        Some(other) => return needs(format!("the layout `{other}`")),
        None => return Err(Error::input("layout", "is missing", "say `sin|cos halves` or `interleaved`").into()),
    };
    let denominator = match p.str("exponent_denominator").map(|s| s.replace(' ', "")).as_deref() {
        Some("d/2") => Denominator::Half,
        Some("d/2-1") => Denominator::HalfLessOne,
        other => {
            let problem = format!("is {other:?}");
            return Err(Error::input("exponent_denominator", problem, "say `d/2` or `d/2 - 1`").into());
        }
    };
    let mut embed = Embed::sinusoidal(dim, columns, denominator);
    let null = !p.set("padding_idx");
    let padding = match p.i64("padding_idx") {
        // XGLM's padding row is zero whether its padding index is named or not: the row before the first position
        None if null && system.to_lowercase().contains("xglm") => Some(offset as i64 - 1),
        padding => padding,
    };
    if let Absolute::Sinusoidal { base, padding_row, .. } = &mut embed.positions {
        *base = first(p, &["base", "theta", "max_timescale"]).unwrap_or(*base);
        *padding_row = padding.and_then(|row| i32::try_from(row).ok());
    }
    Ok(embed)
}

/// What a model derives: from the ids that are not padding, from an attention mask, or from the index alone.
fn positions(p: &Parameters, t: &mut Tensors, [batch, len]: [u32; 2], past: u32, offset: i32) -> Build<Vec<i32>> {
    let ids = t.take("input_ids").map(|ids| (ids.i32s("input_ids"), ids));
    let mask = t.take("attention_mask");
    let rows = |name: &str, entry: &Entry, len: u32| match entry.shape.as_slice() {
        [b, n] if *b == batch as usize && *n == len as usize => Ok(()),
        _ => Err(entry.wrong(name, &format!("[{batch}, {len}]"))),
    };
    if let (Some((values, entry)), Some(padding)) = (&ids, p.i64("padding_idx")) {
        rows("input_ids", entry, len)?;
        let padding =
            i32::try_from(padding).map_err(|_| Error::input("padding_idx", format!("is {padding}"), "give an i32"))?;
        return Ok(positions_of_ids(values.as_ref().map_err(Clone::clone)?, batch, padding, past)?);
    }
    if let Some(mask) = mask {
        let real = match &mask.values {
            crate::golden::Values::Bool(real) => real.clone(),
            _ => mask.i32s("attention_mask")?.iter().map(|m| *m != 0).collect(),
        };
        // a mask of the new tokens alone: everything before them was real
        let given = mask.shape.last().copied().unwrap_or_default() as u32;
        rows("attention_mask", &mask, if given == len { len } else { past.saturating_add(len) })?;
        if given != len || past == 0 {
            return Ok(positions_of_mask(&real, batch, past, offset)?);
        }
        let of_new = positions_of_mask(&real, batch, 0, offset)?;
        let far = || Error::input("past", format!("is {past}"), "let positions stay below 2^31");
        let moved = of_new.iter().zip(&real).map(|(m, real)| match real {
            true => i32::try_from(*m as i64 + past as i64).map_err(|_| far().into()),
            false => Ok(*m),
        });
        return moved.collect();
    }
    // tokens without ids: a padding index alone starts the count behind it (M2M100, RoBERTa)
    let offset = match p.i64("padding_idx") {
        Some(padding) if offset == 0 => i32::try_from(padding.saturating_add(1)).unwrap_or(offset),
        _ => offset,
    };
    Ok(positions_from(batch, len, past, offset)?)
}
