//! DeepSeek's latent attention: a case that lists what the cache holds becomes one of k and v.

use super::packed::agree;
use super::work::{Build, Table, Tolerance, values_of};
use crate::golden::{Entry, Golden, Values};
use ropewalk::Error;

/// DeepSeek's latent attention: k and v from what the cache holds, in f64. Keys end with the rotary part that all heads share. The
/// listed v joins the tables.
pub fn expand(mut golden: Golden, tables: &mut Vec<Table>) -> Build<Golden> {
    let (p, t) = (&golden.parameters, &mut golden.tensors);
    let Some(latent) = t.take("c_kv") else { return Ok(golden) };
    let (up, shared) = (t.need("w_kv_b")?, t.need("k_pe")?);
    let [_, heads, _, q_dim] = match t.0.get("q") {
        Some(q) if q.shape.len() == 4 => q.shape4("q")?.map(|n| n as usize),
        _ => return Err(Error::input("q", "is no [batch, heads, len, dim]", "give queries").into()),
    };
    let ([batch, len, rank], [pe_batch, pe_len, rope]) = match (latent.shape.as_slice(), shared.shape.as_slice()) {
        ([b, n, r], [pb, pn, d]) => ([*b, *n, *r], [*pb, *pn, *d]),
        _ => return Err(latent.wrong("c_kv", "[batch, kv_len, rank], beside k_pe [batch, kv_len, rope_dim]").into()),
    };
    let nope = q_dim.checked_sub(rope).filter(|nope| p.u32("nope_dim").is_none_or(|n| n as usize == *nope));
    let (Some(nope), true) = (nope, [pe_batch, pe_len] == [batch, len]) else {
        return Err(shared.wrong("k_pe", "[batch, kv_len, rope_dim], with nope_dim + rope_dim elements in q").into());
    };
    agree(p, &[("kv_lora_rank", rank as u32)])?;
    let of_head = up.shape.first().copied().unwrap_or(0) / heads.max(1);
    let Some(v_dim) = of_head.checked_sub(nope).filter(|n| *n > 0 && up.shape == [heads * of_head, rank]) else {
        return Err(up.wrong("w_kv_b", "[heads * (nope_dim + v_head_dim), kv_lora_rank]").into());
    };
    let (c, w, pe) = (latent.f64s("c_kv")?, up.f64s("w_kv_b")?, shared.f64s("k_pe")?);
    let (mut k, mut v) = (Vec::new(), Vec::new());
    for b in 0..batch {
        for h in 0..heads {
            for j in 0..len {
                let token = b * len + j;
                let row = &c[token * rank..(token + 1) * rank];
                let product = |r: usize| -> f64 {
                    let of_row = &w[(h * of_head + r) * rank..(h * of_head + r + 1) * rank];
                    row.iter().zip(of_row).map(|(c, w)| c * w).sum()
                };
                k.extend((0..nope).map(product));
                k.extend_from_slice(&pe[token * rope..(token + 1) * rope]);
                v.extend((nope..of_head).map(product));
            }
        }
    }
    let shape = [batch, heads, len, v_dim].map(|n| n as u32);
    if let Some(listed) = t.take("expected_v") {
        let listed = values_of("expected_v", &listed, &shape)?;
        let (name, tolerance) = ("expected_v".into(), Tolerance::DOUBLE);
        tables.push(Table { name, computed: v.clone(), listed, tolerance });
    }
    let entry =
        |values: Vec<f64>, dim: usize| Entry { shape: vec![batch, heads, len, dim], values: Values::Double(values) };
    t.0.insert("k".into(), entry(k, nope + rope));
    t.0.insert("v".into(), entry(v, v_dim));
    Ok(golden)
}
