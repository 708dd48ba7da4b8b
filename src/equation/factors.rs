//! N, tau, sink: norms, temperature, attention sink.

use crate::equation::defaults::{is_false, one};
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
    /// Every head has weights of its own: `q_norm` is `[num_heads, head_dim]`, `k_norm` `[num_kv_heads, head_dim]` (Cohere).
    #[serde(default, skip_serializing_if = "is_false")]
    pub weights_of_heads: bool,
    /// The mean square (`Rms`), or mean and variance (`Layer`), are those of all heads of a token together (OLMo 2, ESM C). Weights are then of
    /// heads: the model's list of heads x head_dim.
    #[serde(default, skip_serializing_if = "is_false")]
    pub all_heads: bool,
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
    /// (x - mean(x)) / sqrt(var(x) + eps), without an offset (Cohere, ESM C); before the rotation.
    Layer,
}

impl Norm {
    /// A norm of this kind before rotation, without weights.
    pub fn new(kind: NormKind, eps: f64) -> Self {
        Norm { kind, eps, weights: false, after_rotation: false, weights_of_heads: false, all_heads: false }
    }
    /// What the row's root mean square (`Rms`) or length (`L2`) is at least divided by.
    pub(crate) fn least(&self) -> f64 {
        match self.kind {
            NormKind::Rms | NormKind::Layer => self.eps.sqrt(),
            NormKind::L2 => self.eps,
        }
    }
    /// Whether a row is normed by more than itself: by weights of its head, or by other heads.
    pub(crate) fn placed(&self) -> bool {
        self.weights_of_heads || self.all_heads
    }
    /// What is taken from elements, and what the differences are multiplied by: of a row, or of all rows of a token. Rows of zeros stay so (with
    /// eps 0 too); those that hold a NaN or an infinity become NaN.
    pub(crate) fn of<'a>(&self, elements: impl Iterator<Item = &'a f64> + Clone) -> [f64; 2] {
        let n = elements.clone().count() as f64;
        let mean = if self.kind == NormKind::Layer { elements.clone().sum::<f64>() / n } else { 0.0 };
        let square: f64 = elements.map(|x| (x - mean) * (x - mean)).sum();
        let length = match self.kind {
            NormKind::Rms | NormKind::Layer => (square / n + self.eps).sqrt(),
            NormKind::L2 => square.sqrt().max(self.eps),
        };
        let factor = match length {
            _ if !square.is_finite() => f64::NAN,
            0.0 => 1.0,
            length => 1.0 / length,
        };
        [mean, factor]
    }
    /// Normalises a row without its weights and gives the factor.
    pub(crate) fn apply(&self, row: &mut [f64]) -> f64 {
        let [mean, factor] = self.of(row.iter());
        row.iter_mut().for_each(|x| *x = (*x - mean) * factor);
        factor
    }
}

/// tau: multiplies a query's scores by base + scale z, with m of the first position stream and
///
/// ```text
/// z = ln(1 + floor((m + offset) / floor))        steps floor: Llama 4, and with an offset of 0 Ministral 3 and Mistral 4
/// z = ln(max(m + offset, least) / floor)         steps none: scaling by log n, Inkling
/// ```
///
/// Before position 0 z is 0, or ln(least / floor).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Temperature {
    /// The factor of the logarithm (`attn_scale`, 0.1).
    pub scale: f64,
    /// The positions that share a value (`floor_scale`, 8192); what positions are divided by.
    pub floor: u32,
    /// Added to the position: 1 (Llama 4), 0 (Ministral 3: position L - 1 has tau 1).
    #[serde(default = "next", skip_serializing_if = "is_next")]
    pub offset: u32,
    /// Whether quotients are cut off.
    #[serde(default, skip_serializing_if = "Steps::is_floor")]
    pub steps: Steps,
    /// What the logarithm is added to: 1, or 0.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub base: f64,
    /// The parameters `temperature_base` and `temperature_scale`, `[num_heads]`, multiply base and scale (Mistral Large 4).
    #[serde(default, skip_serializing_if = "is_false")]
    pub per_head: bool,
}

fn next() -> u32 {
    1
}

fn is_next(offset: &u32) -> bool {
    *offset == 1
}

fn is_one(base: &f64) -> bool {
    *base == 1.0
}

/// What a temperature makes of a position before the logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Steps {
    /// 1 + floor((m + offset) / floor).
    #[default]
    Floor,
    /// max(m + offset, least) / floor.
    None {
        /// 1 or more.
        least: u32,
    },
}

impl Steps {
    fn is_floor(&self) -> bool {
        *self == Steps::Floor
    }
}

impl Temperature {
    /// Llama 4's `attn_scale` and `floor_scale`.
    pub fn new(scale: f64, floor: u32) -> Self {
        Temperature { scale, floor, offset: 1, steps: Steps::Floor, base: 1.0, per_head: false }
    }
    /// 1 + scale ln(1 + floor(m / floor)) (Ministral 3, Mistral 4: `llama_4_scaling_beta`, `original_max_position_embeddings`).
    pub fn of_index(scale: f64, floor: u32) -> Self {
        Temperature { offset: 0, ..Self::new(scale, floor) }
    }
    /// max(1, ln(m + 1) / ln(length)): scores grow beyond the length of training (Su 2023); length is 2 or more.
    pub fn log_n(length: u32) -> Self {
        let scale = 1.0 / (length.max(2) as f64).ln();
        Temperature { steps: Steps::None { least: length.max(2) }, base: 0.0, ..Self::new(scale, 1) }
    }
    /// 1 + scale ln(max((m + 1) / floor, 1)) (Inkling).
    pub fn smooth(scale: f64, floor: u32) -> Self {
        Temperature { steps: Steps::None { least: floor }, ..Self::new(scale, floor) }
    }
    /// base_h + scale_h ln(m + 1), learned for each head (Mistral Large 4).
    pub fn of_heads() -> Self {
        Temperature { steps: Steps::None { least: 1 }, per_head: true, ..Self::new(1.0, 1) }
    }
    /// The logarithm's argument times what it is divided by, and that.
    fn fraction(&self, position: i32) -> [f64; 2] {
        let at = (position >= 0).then_some(position as u32 as i64 + self.offset as i64);
        match (self.steps, at) {
            (Steps::Floor, at) => [at.map_or(1.0, |at| (1 + at / self.floor.max(1) as i64) as f64), 1.0],
            (Steps::None { least }, at) => [at.unwrap_or(0).max(least as i64) as f64, self.floor.max(1) as f64],
        }
    }
    /// z.
    pub(crate) fn log(&self, position: i32) -> f64 {
        let [x, by] = self.fraction(position);
        (x / by).ln()
    }
    /// How large the logarithms are that a device makes z of.
    pub(crate) fn log_size(&self, position: i32) -> f64 {
        let [x, by] = self.fraction(position);
        x.ln().abs() + by.ln().abs()
    }
    /// tau of a query's position, where the heads share it.
    pub fn tau(&self, position: i32) -> f64 {
        self.of_head(position, [1.0; 2])
    }
    /// The same with a head's factors of base and scale.
    pub(crate) fn of_head(&self, position: i32, [base, scale]: [f64; 2]) -> f64 {
        self.base * base + self.scale * scale * self.log(position)
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
    /// The input `query_sinks`, `[batch, num_heads, q_len]`, finite: a logit of each query and head (Inkling 2).
    Query,
}
