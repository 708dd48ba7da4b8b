//! Linear attention: a state in place of the softmax, O(n d^2) work, O(d v_d) memory a head.
//!
//! ```text
//! S_t = Gamma_t S_{t-1} + k_t^T v_t      z_t = z_{t-1} + k'_t      k = R phi(x) or phi(R x), k' the same without a rotation
//! S_t = Gamma_t S_{t-1} + beta_t k_t^T (v_t - k_t Gamma_t S_{t-1})                           the delta rule
//! o_t = scale q_t S_t / (scale q'_t (z_t + eps_feature) + eps)                               behind phi; without a causal
//!                                                                                            mask t is the last key
//! ```
//!
//! Rotation behind the feature map turns the numerator only (RoFormer, section 3.3, equation 19): the denominator stays
//! positive. Performer rotates before its feature map.

use crate::equation::defaults::is_false;
use serde::Deserialize;
use serde::Serialize;

/// The most features of a feature map.
pub const MAX_FEATURES: u32 = 512;

/// phi: what q and k become, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum FeatureMap {
    /// phi(x) = x (RetNet, ONNX LinearAttention).
    Identity,
    /// elu(x) + 1: x + 1 from 0 on, exp(x) below (Katharopoulos et al. 2020, RoFormer).
    Elu,
    /// max(x, 0) (SANA-Video).
    Relu,
    /// Positive random features of the softmax kernel (Choromanski et al. 2021, Performer), c = head_dim^(-1/4), w the rows of
    /// the parameter `projection` `[count, head_dim]`:
    /// phi_f(x) = count^(-1/2) (exp(c w_f.x - c^2 |x|^2 / 2 - m) + eps), m the largest c w_f.x of a query's own features, or of
    /// all keys' of a head.
    Softmax {
        /// Features.
        count: u32,
        /// 1e-4 in the original code.
        eps: f64,
    },
}

/// The denominator scale q (z + eps_feature) + eps; where it is 0, so is o.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Normalizer {
    /// Added to the denominator.
    #[serde(default)]
    pub eps: f64,
    /// Added to every element of z.
    #[serde(default)]
    pub eps_feature: f64,
}

impl Normalizer {
    /// A denominator with these eps.
    pub fn new(eps: f64, eps_feature: f64) -> Self {
        Normalizer { eps, eps_feature }
    }
}

/// Gamma: what multiplies the state before a key joins it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decay {
    /// 1 - 2^(-5 - g) of kv head g (RetNet).
    Retention,
    /// One factor for each kv head.
    Heads(Vec<f64>),
    /// exp(g) of every token and kv head: the input `decay` is `[batch, capacity, num_kv_heads]`.
    Token,
    /// exp(g) of every token, kv head and feature: the input `decay` is `[batch, capacity, num_kv_heads, features]`.
    Feature,
}

/// The largest head_dim and v_head_dim: a tile holds features and outputs of a row.
pub(crate) const MAX_DIM: u32 = 256;

/// Linear attention in place of the softmax: what [`Kernel::Linear`](crate::Kernel::Linear) computes.
///
/// Of the other fields of a [`Spec`](crate::Spec) it takes heads, dims, storage, rotation, positions, `softmax_scale`, `kv_lens`,
/// `mask.causal` and `mask.alignment`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Linear {
    /// phi.
    pub features: FeatureMap,
    /// R turns phi(x), in the numerator only, instead of x.
    #[serde(default)]
    pub rotate_features: bool,
    /// The denominator; `None`: o = scale q S.
    #[serde(default)]
    pub normalizer: Option<Normalizer>,
    /// Gamma; `None`: nothing is forgotten.
    #[serde(default)]
    pub decay: Option<Decay>,
    /// The delta rule: a key first takes back what the state says of it, S_t = Gamma_t S_{t-1} + beta_t k_t^T (v_t - k_t Gamma_t S_{t-1})
    /// (Schlag et al. 2021; with a decay Yang et al. 2024, Gated Delta Networks; ONNX `delta` and `gated_delta`). The input `beta` is
    /// `[batch, capacity, num_kv_heads]`. Models that make q and k unit vectors do so beforehand. Not beside a normalizer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub delta: bool,
    /// The state to start from is given: `initial_state`, and with a normalizer `initial_normalizer`; in a plan, what `work` holds.
    #[serde(default)]
    pub initial_state: bool,
}

impl Linear {
    /// This feature map and nothing else.
    pub fn new(features: FeatureMap) -> Self {
        Linear { features, rotate_features: false, normalizer: None, decay: None, delta: false, initial_state: false }
    }
    /// Gamma of every kv head, where it does not depend on the token.
    pub(crate) fn gammas(&self, kv_heads: u32) -> Option<Vec<f64>> {
        match self.decay.as_ref()? {
            Decay::Retention => Some((0..kv_heads).map(|g| 1.0 - 2f64.powi(-5 - g as i32)).collect()),
            Decay::Heads(gammas) => Some(gammas.clone()),
            Decay::Token | Decay::Feature => None,
        }
    }
    /// Names for reports and labels.
    pub(crate) fn terms(&self) -> Vec<String> {
        let map = match self.features {
            FeatureMap::Identity => "identity".into(),
            FeatureMap::Elu => "elu".into(),
            FeatureMap::Relu => "relu".into(),
            FeatureMap::Softmax { count, .. } => format!("softmax {count}"),
        };
        let mut terms = vec![format!("linear({map}{})", if self.rotate_features { " rotated after" } else { "" })];
        if self.normalizer.is_some() {
            terms.push("normalizer".into());
        }
        terms.extend(self.decay.as_ref().map(|decay| match decay {
            Decay::Retention | Decay::Heads(_) => "decay(head)".to_string(),
            Decay::Token => "decay(token)".into(),
            Decay::Feature => "decay(feature)".into(),
        }));
        if self.delta {
            terms.push("delta".into());
        }
        if self.initial_state {
            terms.push("state".into());
        }
        terms
    }
}
