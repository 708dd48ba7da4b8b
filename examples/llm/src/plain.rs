//! Attention in f64, row by row, over everything that came: what the device is compared with where transformers has no value. It uses a spec
//! as data, and nothing that ropewalk computes but frequencies.

use crate::model::{Config, Specs};
use crate::{Attention, Part, Result};
use ropewalk::{Alignment, NormKind, Pairing, Rotary, Sink, Spec, Steps};
use std::collections::BTreeMap;

/// Keys and values as they came, `[tokens, kv heads, dim]`.
#[derive(Default, Clone)]
struct Rows {
    k: Vec<f64>,
    v: Vec<f64>,
}

/// Attention in f64.
pub struct Plain<'a> {
    specs: Specs<'a>,
    parameters: &'a [BTreeMap<String, Vec<f32>>],
    /// By layer, then by sequence.
    rows: Vec<Vec<Rows>>,
    lens: Vec<usize>,
    parts: Vec<Part>,
}

impl<'a> Plain<'a> {
    /// Of a model's layers, for so many sequences of up to so many tokens.
    pub fn new(
        config: &'a Config,
        parameters: &'a [BTreeMap<String, Vec<f32>>],
        sequences: usize,
        tokens: usize,
    ) -> Result<Self> {
        let specs = Specs::new(config, parameters.len(), tokens)?;
        let rows = vec![vec![Rows::default(); sequences]; parameters.len()];
        Ok(Plain { specs, parameters, rows, lens: vec![0; sequences], parts: Vec::new() })
    }
}

impl Attention for Plain<'_> {
    fn begin(&mut self, parts: &[Part]) -> Result<()> {
        parts.iter().for_each(|part| self.lens[part.sequence] += part.tokens);
        self.specs.of(parts.iter().map(|part| self.lens[part.sequence]))?;
        self.parts = parts.to_vec();
        Ok(())
    }

    fn attend(&mut self, layer: usize, q: &[f64], k: &[f64], v: &[f64]) -> Result<Vec<f64>> {
        let spec = &self.specs.now[layer];
        let widths =
            [spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim, spec.num_kv_heads * spec.v_head_dim];
        let [q_width, k_width, v_width] = widths.map(|n| n as usize);
        let mut out = Vec::new();
        let mut start = 0;
        for part in &self.parts {
            let new = start..start + part.tokens;
            let rows = &mut self.rows[layer][part.sequence];
            rows.k.extend_from_slice(&k[new.start * k_width..new.end * k_width]);
            rows.v.extend_from_slice(&v[new.start * v_width..new.end * v_width]);
            out.extend(attend(spec, &self.parameters[layer], &q[new.start * q_width..new.end * q_width], rows)?);
            start = new.end;
        }
        Ok(out)
    }

    fn shift(&mut self, n: usize) -> Result<()> {
        for (layer, of_layer) in self.rows.iter_mut().enumerate() {
            let spec = &self.specs.now[layer];
            for rows in of_layer {
                rows.k.drain(..n * (spec.num_kv_heads * spec.head_dim) as usize);
                rows.v.drain(..n * (spec.num_kv_heads * spec.v_head_dim) as usize);
            }
        }
        self.lens.iter_mut().for_each(|len| *len -= n);
        Ok(())
    }

    fn len(&self, sequence: usize) -> usize {
        self.lens[sequence]
    }
}

/// One sequence: the queries are its last tokens.
fn attend(spec: &Spec, parameters: &BTreeMap<String, Vec<f32>>, q: &[f64], rows: &Rows) -> Result<Vec<f64>> {
    let (heads, groups) = (spec.num_heads as usize, spec.num_kv_heads as usize);
    let (dim, v_dim) = (spec.head_dim as usize, spec.v_head_dim as usize);
    let mask = &spec.mask;
    let terms = [
        (!spec.bias.is_empty(), "bias"),
        (spec.dense_bias || spec.gated_bias, "dense_bias"),
        (mask.dense || mask.window_right.is_some() || mask.alignment != Alignment::BottomRight, "mask"),
        (spec.head_scale || spec.content_bias || !spec.relative.is_empty(), "head_scale, content_bias or relative"),
        (spec.score_mod.is_some() || spec.mask_mod.is_some() || spec.linear.is_some(), "score_mod, mask_mod or linear"),
        (spec.query_scales || spec.key_bias || spec.soft_cap_last, "query_scales, key_bias or soft_cap_last"),
        (spec.sink == Some(Sink::Query), "sink"),
        (spec.rotary.as_ref().is_some_and(|r| r.output || r.values), "rotary.output or rotary.values"),
        (
            spec.norm.is_some_and(|n| n.kind == NormKind::Layer || n.weights_of_heads || n.all_heads),
            "norm of kind layer, weights_of_heads or all_heads",
        ),
        (
            spec.temperature.is_some_and(|t| t.steps != Steps::Floor || t.base != 1.0 || t.per_head),
            "temperature but Llama 4's and Ministral 3's",
        ),
    ];
    if let Some((_, term)) = terms.iter().find(|(has, _)| *has) {
        return Err(format!("spec.{term}: attention in f64 lacks it").into());
    }
    let keys = rows.k.len() / (groups * dim);
    let queries = q.len() / (heads * dim);
    let turned = |row: &[f64], name: &str, position: usize| {
        let mut row = row.to_vec();
        let norm = |row: &mut [f64]| {
            let Some(norm) = &spec.norm else { return };
            let square: f64 = row.iter().map(|x| x * x).sum();
            let length = match norm.kind {
                NormKind::L2 => square.sqrt().max(norm.eps),
                _ => (square / dim as f64 + norm.eps).sqrt(),
            };
            let weights = parameters.get(name).filter(|_| norm.weights);
            row.iter_mut().enumerate().for_each(|(d, x)| *x *= weights.map_or(1.0, |w| w[d] as f64) / length);
        };
        let after = spec.norm.is_some_and(|norm| norm.after_rotation);
        if !after {
            norm(&mut row);
        }
        if let Some(rotary) = &spec.rotary {
            turn(&mut row, rotary, position as f64)?;
        }
        if after {
            norm(&mut row);
        }
        Ok::<_, crate::Error>(row)
    };
    let mut turned_keys = Vec::with_capacity(rows.k.len());
    for (n, row) in rows.k.chunks_exact(dim).enumerate() {
        turned_keys.extend(turned(row, "k_norm", n / groups)?);
    }
    let mut out = Vec::with_capacity(queries * heads * v_dim);
    for (n, row) in q.chunks_exact(dim).enumerate() {
        let (i, head) = (keys - queries + n / heads, n % heads);
        let group = head / (heads / groups);
        let row = turned(row, "q_norm", i)?;
        let tau = spec
            .temperature
            .map_or(1.0, |t| 1.0 + t.scale * (1.0 + ((i + t.offset as usize) / t.floor.max(1) as usize) as f64).ln());
        let sees = |j: usize| {
            (!mask.causal || j <= i)
                && mask.window_left.is_none_or(|left| j + left as usize >= i)
                && mask.chunk.is_none_or(|chunk| j / chunk as usize == i / chunk as usize)
        };
        let scores: Vec<(usize, f64)> = (0..keys)
            .filter(|j| sees(*j))
            .map(|j| {
                let key = &turned_keys[(j * groups + group) * dim..][..dim];
                let score = tau * spec.scale() * row.iter().zip(key).map(|(x, y)| x * y).sum::<f64>();
                (j, spec.logits_soft_cap.map_or(score, |cap| cap * (score / cap).tanh()))
            })
            .collect();
        let sink = match spec.sink {
            None => None,
            Some(Sink::Learned) => Some(parameters["sinks"][head] as f64),
            Some(_) => Some(0.0),
        };
        let most = scores.iter().map(|(_, s)| *s).chain(sink).fold(f64::MIN, f64::max);
        let all: f64 = scores.iter().map(|(_, s)| (s - most).exp()).chain(sink.map(|s| (s - most).exp())).sum();
        let mut sum = vec![0.0; v_dim];
        for (j, score) in scores {
            let weight = (score - most).exp() / all;
            let value = &rows.v[(j * groups + group) * v_dim..][..v_dim];
            sum.iter_mut().zip(value).for_each(|(s, v)| *s += weight * v);
        }
        out.extend(sum);
    }
    Ok(out)
}

/// R(m), by the angle in f64.
fn turn(row: &mut [f64], rotary: &Rotary, position: f64) -> Result<()> {
    if rotary.xpos.is_some() || rotary.values || !rotary.streams.is_empty() {
        return Err("spec.rotary: attention in f64 lacks xPos, rotated values and streams".into());
    }
    let half = rotary.rotary_dim as usize / 2;
    for (p, frequency) in rotary.inv_freq().into_iter().enumerate() {
        let at = match rotary.pairing {
            Pairing::Half => [p, p + half],
            // scores are those of pairs that stay
            Pairing::Interleaved | Pairing::InterleavedInHalfOut => [2 * p, 2 * p + 1],
            _ => return Err("spec.rotary.pairing: attention in f64 lacks it".into()),
        };
        let [a, b] = at.map(|d| d + rotary.offset as usize);
        let (sin, cos) = (position * frequency).sin_cos();
        let (x, y) = (row[a] * rotary.attention_factor, row[b] * rotary.attention_factor);
        (row[a], row[b]) = (x * cos - y * sin, x * sin + y * cos);
    }
    Ok(())
}
