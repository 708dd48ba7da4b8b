//! N, tau, sink: norms, temperature, attention sink.

use serde::Deserialize;
use serde::Serialize;

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
