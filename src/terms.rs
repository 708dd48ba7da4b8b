//! The terms of the equation beyond rotation, scale and mask: norms, temperature, sinks, relative rows and their index
//! maps. Each is data of a [`Spec`](crate::Spec); what a model has learned for it is a [`Parameter`].

use crate::{Error, MAX_HEADS, Positions, Result, Spec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// N: a norm of every head's row of q and of k.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Norm {
    /// Which norm.
    pub kind: NormKind,
    /// Added to the mean square (`Rms`); the least length (`L2`).
    pub eps: f64,
    /// Whether the parameters `q_norm` and `k_norm` (`[head_dim]`) multiply the result. Gemma stores them less 1.
    #[serde(default)]
    pub weights: bool,
    /// Whether the norm stands after the rotation (Llama 4) instead of before it (Qwen 3, Gemma 3).
    #[serde(default)]
    pub after_rotation: bool,
}

/// How a row is normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NormKind {
    /// x / sqrt(mean(x^2) + eps) (Qwen 3, Gemma 3, Llama 4).
    Rms,
    /// x / max(|x|, eps): scores are cosines (Swin v2).
    L2,
}

impl Norm {
    /// A norm of this kind before rotation, without weights.
    pub fn new(kind: NormKind, eps: f64) -> Self {
        Norm { kind, eps, weights: false, after_rotation: false }
    }
    /// What the row's root mean square (`Rms`) or length (`L2`) is at least divided by.
    pub(crate) fn least(&self) -> f64 {
        match self.kind {
            NormKind::Rms => self.eps.sqrt(),
            NormKind::L2 => self.eps,
        }
    }
    /// Normalises a row without its weights and gives the factor. A row of zeros stays so (with eps 0 too); one that
    /// holds a NaN or an infinity becomes NaN.
    pub(crate) fn apply(&self, row: &mut [f64]) -> f64 {
        let square: f64 = row.iter().map(|x| x * x).sum();
        let length = match self.kind {
            NormKind::Rms => (square / row.len() as f64 + self.eps).sqrt(),
            NormKind::L2 => square.sqrt().max(self.eps),
        };
        let factor = match length {
            _ if !square.is_finite() => f64::NAN,
            0.0 => 1.0,
            length => 1.0 / length,
        };
        row.iter_mut().for_each(|x| *x *= factor);
        factor
    }
}

/// tau: multiplies a query's scores by 1 + scale * ln(1 + floor((m + 1) / floor)) (Llama 4), with m of the first position
/// stream. Before position 0, where the logarithm has no value, tau is 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Temperature {
    /// The factor of the logarithm (`attn_scale`, 0.1).
    pub scale: f64,
    /// The positions that share a value (`floor_scale`, 8192).
    pub floor: u32,
}

impl Temperature {
    /// Llama 4's `attn_scale` and `floor_scale`.
    pub fn new(scale: f64, floor: u32) -> Self {
        Temperature { scale, floor }
    }
    /// ln(1 + floor((m + 1) / floor)).
    pub(crate) fn log(&self, position: i32) -> f64 {
        if position < 0 { 0.0 } else { (1.0 + ((position as i64 + 1) / self.floor.max(1) as i64) as f64).ln() }
    }
    /// tau of a query's position.
    pub fn tau(&self, position: i32) -> f64 {
        1.0 + self.scale * self.log(position)
    }
}

/// One more logit of every head, in the softmax's denominator only. Logits below -1e38 are taken as -1e38, as scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Sink {
    /// A logit of 0 (onnxruntime's `smooth_softmax`).
    Zero,
    /// The parameter `sinks`, `[num_heads]`, finite (GPT-OSS).
    Learned,
}

/// The longest side of a window of [`IndexMap::Grid`].
pub(crate) const MAX_SIDE: u32 = 1 << 11;

/// What a distance outside the table gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outside {
    /// The nearest row (Shaw).
    #[default]
    Clip,
    /// Nothing (VITS).
    Zero,
}

/// r(m, n): which row of a table a query at m and a key at n read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum IndexMap {
    /// clamp(d, min, max) - min of the distance d = n - m.
    Distance {
        /// The distance of row 0.
        min: i32,
        /// The distance of the last row.
        max: i32,
        /// What lies outside.
        #[serde(default)]
        outside: Outside,
        /// The position stream: 0, or another of several.
        #[serde(default)]
        stream: u8,
        /// d = m - n instead (BERT, SpeechT5, SAM).
        #[serde(default)]
        reversed: bool,
    },
    /// DeBERTa v2's logarithmic buckets of d = m - n: clamp(bucket(d) + buckets, 0, 2 * buckets - 1).
    LogBucket {
        /// Rows of one side (`position_buckets`).
        buckets: u32,
        /// The distance that the last bucket of even `buckets` begins at (`max_relative_positions`); of odd ones one more begins
        /// farther away.
        max_position: u32,
    },
    /// Two-dimensional windows (Swin, BEiT): dy = m_0 - n_0, dx = m_1 - n_1 of the position streams 0 (row) and 1 (column):
    /// (dy + height - 1) * (2 * width - 1) + dx + width - 1.
    Grid {
        /// Rows of the window.
        height: u32,
        /// Columns of the window.
        width: u32,
        /// Three more rows for tokens outside the grid, those with a negative position: from such a token to the grid, from the grid to
        /// it, between two of them (BEiT's class token).
        #[serde(default)]
        class: bool,
    },
    /// 0 for tokens of the same segment, 1 for others (XLNet); needs `q_segments` and `k_segments`.
    Segment,
}

impl IndexMap {
    /// Distances n - m from min to max, clipped.
    pub fn distance(min: i32, max: i32) -> Self {
        IndexMap::Distance { min, max, outside: Outside::Clip, stream: 0, reversed: false }
    }
    /// Distances m - n from min to max, clipped.
    pub fn reversed(min: i32, max: i32) -> Self {
        IndexMap::Distance { min, max, outside: Outside::Clip, stream: 0, reversed: true }
    }
    /// Rows of the table.
    pub fn rows(&self) -> u64 {
        match *self {
            IndexMap::Distance { min, max, .. } => (max as i64 - min as i64 + 1).max(0) as u64,
            IndexMap::LogBucket { buckets, .. } => 2 * buckets as u64,
            IndexMap::Grid { height, width, class } => {
                let span = |n: u32| (2 * n as u64).saturating_sub(1);
                span(height).saturating_mul(span(width)).saturating_add(if class { 3 } else { 0 })
            }
            IndexMap::Segment => 2,
        }
    }
    /// The highest position stream that it reads.
    pub fn last_stream(&self) -> u8 {
        match self {
            IndexMap::Distance { stream, .. } => *stream,
            IndexMap::Grid { .. } => 1,
            IndexMap::LogBucket { .. } | IndexMap::Segment => 0,
        }
    }
    /// Whether it reads the tokens' segments.
    pub fn segments(&self) -> bool {
        *self == IndexMap::Segment
    }

    /// The row of query positions m and key positions n (each of the streams), or none outside.
    pub(crate) fn row(&self, m: [i32; 3], n: [i32; 3], same_segment: bool) -> Option<u32> {
        // saturated to 32 bits, as the shaders do
        let distance = |s: usize| (n[s] as i64 - m[s] as i64).clamp(-(i32::MAX as i64), i32::MAX as i64);
        match *self {
            IndexMap::Distance { min, max, outside, stream, reversed } => {
                let d = distance(stream as usize) * if reversed { -1 } else { 1 };
                let (min, max) = (min as i64, max as i64);
                let inside = outside == Outside::Clip || (min..=max).contains(&d);
                inside.then(|| (d.clamp(min, max) - min) as u32)
            }
            IndexMap::LogBucket { buckets, max_position } => Some(bucket_row(-distance(0), buckets, max_position)),
            IndexMap::Grid { height, width, class } => {
                let plane = (2 * height - 1) * (2 * width - 1);
                match (class && m[0] < 0, class && n[0] < 0) {
                    (true, false) => return Some(plane),
                    (false, true) => return Some(plane + 1),
                    (true, true) => return Some(plane + 2),
                    (false, false) => {}
                }
                let side = |s: usize, n: u32| {
                    let n = n as i64;
                    (-distance(s)).clamp(1 - n, n - 1) + n - 1
                };
                Some((side(0, height) * (2 * width as i64 - 1) + side(1, width)) as u32)
            }
            IndexMap::Segment => Some(!same_segment as u32),
        }
    }

    /// How a device finds the row; none where it computes it.
    pub(crate) fn lookup(&self) -> Option<Lookup> {
        let IndexMap::LogBucket { buckets, max_position } = *self else { return None };
        let most = max_position as i64;
        let last = bucket_row(-most, buckets, max_position);
        // the nearest distance beyond the table with another row, 2^31 if there is none
        let (mut near, mut far) = (most, 1 << 31);
        while far - near > 1 {
            let middle = (near + far) / 2;
            match bucket_row(-middle, buckets, max_position) < last {
                true => far = middle,
                false => near = middle,
            }
        }
        Some(Lookup { map: *self, most: most as i32, far: -far as i32 })
    }

    pub(crate) fn validate(&self, field: &str) -> Result<()> {
        let wrong = |problem: String, help: &str| Err(Error::spec(field, problem, help));
        match *self {
            IndexMap::Distance { min, max, stream, .. } => {
                if min > max || max as i64 - min as i64 >= 1 << 24 {
                    return wrong(
                        format!("distances {min} to {max}"),
                        "let min be at most max, with fewer than 2^24 distances between them",
                    );
                }
                if stream > 2 {
                    return wrong(format!("stream {stream}"), "there are at most three position streams, 0 to 2");
                }
            }
            IndexMap::LogBucket { buckets, max_position } => {
                if !(2..=1 << 16).contains(&buckets) {
                    return wrong(format!("{buckets} buckets"), "give 2 to 65536");
                }
                if max_position as u64 <= buckets as u64 / 2 + 1 || max_position > 1 << 20 {
                    return wrong(
                        format!("max_position {max_position}"),
                        "give more than buckets / 2 + 1, at most 2^20 positions",
                    );
                }
            }
            IndexMap::Grid { height, width, .. } => {
                if !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width) {
                    return wrong(format!("a window of {height} x {width}"), "give sides from 1 to 2048");
                }
            }
            IndexMap::Segment => {}
        }
        Ok(())
    }

    /// A word for labels and reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            IndexMap::Distance { .. } => "distance",
            IndexMap::LogBucket { .. } => "log bucket",
            IndexMap::Grid { .. } => "grid",
            IndexMap::Segment => "segment",
        }
    }
}

/// The row of [`IndexMap::LogBucket`] of a distance m - n.
fn bucket_row(distance: i64, buckets: u32, max_position: u32) -> u32 {
    let n = buckets as i64;
    (log_bucket(distance, buckets, max_position).clamp(-n, n - 1) + n) as u32
}

/// How a device finds the row of a distance m - n that only the host can compute: from a table of the distances from -`most` to `most`,
/// beyond which it takes the nearer end; from `far` down the row is one less.
///
/// No more changes beyond the table: with mid = buckets / 2, above 1, the bucket of `max_position` is 2 mid or more, so the row is the last,
/// on the other side 1 (odd numbers of buckets) or 0. With mid = 1 buckets stay 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lookup {
    map: IndexMap,
    pub(crate) most: i32,
    pub(crate) far: i32,
}

impl Lookup {
    /// Entries of the table.
    pub(crate) fn len(&self) -> u64 {
        2 * self.most as u64 + 1
    }
    /// The table. Rows are below 2^24, so f32 holds them exactly.
    pub(crate) fn rows(&self) -> Vec<f32> {
        let IndexMap::LogBucket { buckets, max_position } = self.map else { return Vec::new() };
        let most = self.most as i64;
        (-most..=most).map(|d| bucket_row(d, buckets, max_position) as f32).collect()
    }
}

/// DeBERTa v2's bucket of a distance (He et al. 2021): itself up to half of the buckets, beyond that
/// sign(d) * (mid + ceil(ln(|d| / mid) / ln((max_position - 1) / mid) * (mid - 1))).
pub fn log_bucket(distance: i64, buckets: u32, max_position: u32) -> i64 {
    let mid = (buckets / 2) as i64;
    let size = distance.unsigned_abs();
    if size <= mid as u64 || mid == 0 {
        return distance;
    }
    let step = (size as f64 / mid as f64).ln() / ((max_position as f64 - 1.0) / mid as f64).ln();
    // 1e-9 lowers a quotient that is an integer but for rounding; no other quotient comes that close.
    let bucket = mid.saturating_add((step * (mid as f64 - 1.0) - 1e-9).ceil() as i64);
    distance.signum() * bucket
}

/// Which product a relative table enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RelativeSide {
    /// A: `scale * < q_i + v_h, table[r] >`: the query against the relative position (Shaw, Transformer-XL, DeBERTa's
    /// content-to-position).
    Key,
    /// B: `scale * < k_j, table[r] >`: the key against the relative position (DeBERTa's position-to-content, BERT relative_key_query).
    Query,
    /// E_V: `o_i` gains `p_ij table[r]` (Shaw, VITS).
    Value,
}

/// A, B or E_V: a table of embeddings of relative positions, the parameter `relative_I` of the I-th entry of
/// `spec.relative`: `[rows, num_heads or 1, head_dim]`, for values `[.., v_head_dim]`. q and k enter as they come, before norm and rotation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Relative {
    /// Which product.
    pub side: RelativeSide,
    /// Which row.
    pub index: IndexMap,
    /// Whether every query head has a table of its own.
    #[serde(default)]
    pub per_head: bool,
    /// v_h: the parameter `relative_bias_I`, `[num_heads, head_dim]`, is added to q (Transformer-XL); `Key` only.
    #[serde(default)]
    pub query_bias: bool,
    /// Multiplies the product; `None`: the softmax scale. Not used by `Value`.
    #[serde(default)]
    pub scale: Option<f64>,
}

impl Relative {
    /// One table for all heads, no query bias, scaled as the content is.
    pub fn new(side: RelativeSide, index: IndexMap) -> Self {
        Relative { side, index, per_head: false, query_bias: false, scale: None }
    }
    pub(crate) fn name(&self) -> &'static str {
        match self.side {
            RelativeSide::Key => "A",
            RelativeSide::Query => "B",
            RelativeSide::Value => "E_V",
        }
    }
}

/// xPos (Sun et al. 2022): pair p of a query at m is multiplied by zeta_p^((m - centre) / scale_base), of a key by the inverse;
/// zeta_p = (2p + 0.4 rotary_dim) / (1.4 rotary_dim).
///
/// Powers are limited to 2^-100 and 2^100, so that no magnitude leaves f32: with a scale_base of 512 positions up to 28 000
/// from the centre are exact, farther ones keep the limit. Choose a centre near the middle of the positions of a call (torchscale,
/// x-transformers and rotary-embedding-torch: half of the sequence).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct XPos {
    /// Positions over which a pair decays by its zeta (512); 2 or more in size.
    pub scale_base: f64,
    /// The position of magnitude 1; scores depend on differences only.
    #[serde(default)]
    pub centre: i32,
}

/// The largest power of 2 that xPos multiplies by.
pub(crate) const XPOS_LIMIT: f64 = 100.0;

impl XPos {
    /// A decay over `scale_base` positions, 1 at `centre`.
    pub fn new(scale_base: f64, centre: i32) -> Self {
        XPos { scale_base, centre }
    }
    /// zeta of a pair, 2/7 to 1.
    pub fn zeta(pair: usize, rotary_dim: u32) -> f64 {
        (2.0 * pair as f64 + 0.4 * rotary_dim as f64) / (1.4 * rotary_dim as f64)
    }
    /// log2 of a pair's decay over one position.
    pub(crate) fn log2_decay(&self, pair: usize, rotary_dim: u32) -> f64 {
        Self::zeta(pair, rotary_dim).log2() / self.scale_base
    }
    /// The magnitude of a pair at a position: of a query for `side` 1, of a key for -1.
    pub(crate) fn magnitude(&self, position: i32, pair: usize, rotary_dim: u32, side: f64) -> f64 {
        let power = (position as f64 - self.centre as f64) * self.log2_decay(pair, rotary_dim);
        (side * power.clamp(-XPOS_LIMIT, XPOS_LIMIT)).exp2()
    }
}

/// A tensor that a model has learned for a term of the spec, f32, an entry of `Inputs::parameters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name in `Inputs::parameters`, in files and in errors.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<u32>,
    /// The axis that counts query heads.
    #[serde(skip)]
    pub(crate) heads: Option<usize>,
}

impl Parameter {
    pub(crate) fn new(name: impl Into<String>, shape: impl Into<Vec<u32>>, heads: Option<usize>) -> Self {
        Parameter { name: name.into(), shape: shape.into(), heads }
    }
    /// Elements, at most 2^64 - 1 of them.
    pub fn len(&self) -> u64 {
        self.shape.iter().fold(1, |elements: u64, n| elements.saturating_mul(*n as u64))
    }
    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The values of some of the heads.
    #[cfg(feature = "wgpu")]
    pub(crate) fn of_heads(&self, values: &[f32], heads: &std::ops::Range<u32>) -> Vec<f32> {
        let Some(axis) = self.heads else { return values.to_vec() };
        let inner: usize = self.shape[axis + 1..].iter().map(|n| *n as usize).product();
        let row = self.shape[axis] as usize * inner;
        let span = heads.start as usize * inner..heads.end as usize * inner;
        values.chunks_exact(row.max(1)).flat_map(|row| row[span.clone()].iter().copied()).collect()
    }
}

impl Spec {
    /// The tensors that the terms of this spec need, in the order in which a plan packs them.
    pub fn parameters(&self) -> Vec<Parameter> {
        let (heads, dim, v_dim) = (self.num_heads, self.head_dim, self.v_head_dim);
        let mut all = crate::bias::parameters(self);
        if let Some(crate::FeatureMap::Softmax { count, .. }) = self.linear.as_ref().map(|l| l.features) {
            all.push(Parameter::new("projection", [count, dim], None));
        }
        if self.sink == Some(Sink::Learned) {
            all.push(Parameter::new("sinks", [heads], Some(0)));
        }
        if self.head_scale {
            all.push(Parameter::new("head_scale", [heads], Some(0)));
        }
        if self.norm.is_some_and(|n| n.weights) {
            all.push(Parameter::new("q_norm", [dim], None));
            all.push(Parameter::new("k_norm", [dim], None));
        }
        if self.content_bias {
            all.push(Parameter::new("content_bias", [heads, dim], Some(0)));
        }
        for (i, relative) in self.relative.iter().enumerate() {
            let dim = if relative.side == RelativeSide::Value { v_dim } else { dim };
            let rows = crate::bias::words(relative.index.rows());
            let (n, axis) = if relative.per_head { (heads, Some(1)) } else { (1, None) };
            all.push(Parameter::new(format!("relative_{i}"), [rows, n, dim], axis));
            if relative.query_bias {
                all.push(Parameter::new(format!("relative_bias_{i}"), [heads, self.head_dim], Some(0)));
            }
        }
        all
    }

    /// Refuses values of parameters that no result can be made of: sinks that are not finite. NaN and infinities in other
    /// parameters are data, and go where the equation takes them.
    pub(crate) fn check_parameters(&self, parameters: &BTreeMap<String, Vec<f32>>) -> Result<()> {
        let sinks = parameters.get("sinks").filter(|_| self.sink == Some(Sink::Learned));
        match sinks.and_then(|s| s.iter().enumerate().find(|(_, x)| !x.is_finite())) {
            Some((head, x)) => Err(Error::input(
                "sinks",
                format!("the logit of head {head} is {x}"),
                "give finite logits (a very low one, -1e30, is no sink)",
            )),
            None => Ok(()),
        }
    }

    /// Position streams that rotation and index maps read: 1, or more for m-RoPE and 2-D systems.
    pub fn position_streams(&self) -> u32 {
        let rotary = self.rotary.iter().flat_map(|r| r.streams.iter().copied());
        let maps = self.index_maps().map(|m| m.last_stream());
        1 + rotary.chain(maps).max().unwrap_or(0) as u32
    }

    /// Whether some term reads the tokens' segments.
    pub fn segments(&self) -> bool {
        self.index_maps().any(|m| m.segments())
    }

    pub(crate) fn index_maps(&self) -> impl Iterator<Item = IndexMap> {
        let bias = self.bias.iter().filter_map(|b| b.index());
        bias.chain(self.relative.iter().map(|r| r.index))
    }

    /// Whether values pass through workgroup memory, because a term changes them.
    pub(crate) fn rotates_values(&self) -> bool {
        self.rotary.as_ref().is_some_and(|r| r.values)
    }

    /// Several position streams have no indices that could stand for them.
    pub(crate) fn check_streams(&self) -> Result<()> {
        match (self.position_streams(), self.positions) {
            (1, _) | (_, Positions::Ids) => Ok(()),
            (streams, Positions::Index) => Err(Error::spec(
                "positions",
                format!("is index, but the terms read {streams} streams"),
                "set it to ids and give positions [streams, batch, len]",
            )),
        }
    }

    pub(crate) fn validate_terms(&self) -> Result<()> {
        if let Some(norm) = &self.norm
            && !(norm.eps.is_finite() && (0.0..=1.0).contains(&norm.eps))
        {
            return Err(Error::spec("norm.eps", format!("is {}", norm.eps), "give a number from 0 to 1"));
        }
        if let Some(t) = &self.temperature {
            if !(t.scale.is_finite() && t.scale.abs() <= 1e6) {
                return Err(Error::spec(
                    "temperature.scale",
                    format!("is {}", t.scale),
                    "give a number up to 1e6 in size",
                ));
            }
            if t.floor == 0 || t.floor > 1 << 30 {
                return Err(Error::spec("temperature.floor", format!("is {}", t.floor), "give 1 to 2^30 positions"));
            }
        }
        if self.relative.len() > 8 {
            return Err(Error::spec("relative", format!("holds {} tables", self.relative.len()), "give at most 8"));
        }
        for (i, relative) in self.relative.iter().enumerate() {
            relative.index.validate(&format!("relative[{i}].index"))?;
            if relative.query_bias && relative.side != RelativeSide::Key {
                return Err(Error::spec(
                    format!("relative[{i}].query_bias"),
                    "is set where no query enters",
                    "it belongs to the side `key`",
                ));
            }
            if relative.scale.is_some_and(|s| !(s.is_finite() && s.abs() <= 1e6)) {
                return Err(Error::spec(
                    format!("relative[{i}].scale"),
                    format!("is {:?}", relative.scale),
                    "give a number up to 1e6 in size",
                ));
            }
        }
        let words = self.parameters().iter().fold(0, |words: u64, p| words.saturating_add(p.len()));
        if words > u32::MAX as u64 || self.num_heads > MAX_HEADS {
            return Err(Error::spec("relative", format!("{words} words of parameters"), "use smaller tables"));
        }
        Ok(())
    }
}
