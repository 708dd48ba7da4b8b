//! Length extensions: how a trained rotation is stretched to more positions than it has seen.
//!
//! Every extension is a list of frequencies and one factor on cos and sin. Below, d is `rotary_dim`, s the `factor`,
//! L the original length and f_p = theta^(-2p/d) the plain frequency of pair p, in radians per position.

use crate::equation::rotary::rotary::{Pairing, Rotary};
use crate::error::{Error, Result};
use std::f64::consts::TAU;

/// The largest `rotary_dim` for which frequencies are computed.
pub(crate) const MAX_ROTARY_DIM: u32 = 1 << 16;

/// A length extension. The variants carry the names of the `rope_type` of Hugging Face configurations, their fields the
/// names of its keys.
///
/// ```
/// use ropewalk::{Pairing, RopeScaling, Rotary};
/// let llama_3_1 = RopeScaling::Llama3 {
///     factor: 8.0,
///     low_freq_factor: 1.0,
///     high_freq_factor: 4.0,
///     original_max_position_embeddings: 8192,
/// };
/// let (inv_freq, attention_factor) = llama_3_1.inv_freq(500_000.0, 128)?;
/// assert_eq!((inv_freq.len(), inv_freq[0], attention_factor), (64, 1.0, 1.0));
/// assert_eq!(Rotary::scaled(Pairing::Half, 128, 500_000.0, &llama_3_1)?.inv_freq(), inv_freq);
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum RopeScaling {
    /// No extension: f_p (Su et al. 2021, RoFormer, section 3.4).
    #[default]
    Default,
    /// Position interpolation (Chen et al. 2023, "Extending context window of large language models via positional
    /// interpolation"): f_p / s.
    Linear {
        /// s, above 0.
        factor: f64,
    },
    /// NTK-aware base change (bloc97 2023; described in Peng et al. 2023, YaRN, section 3.1): the frequencies of
    /// theta' = theta * s^(d / (d - 2)), which leaves the first pair as it is and divides the last by s.
    Ntk {
        /// s, above 0.
        factor: f64,
    },
    /// Dynamic NTK (emozilla 2023; YaRN, section 3.3): the frequencies of
    /// theta' = theta * (s n / M - (s - 1))^(d / (d - 2)), where n = max(`seq_len`, M).
    Dynamic {
        /// s, above 0.
        factor: f64,
        /// M: up to this length nothing changes.
        max_position_embeddings: u32,
        /// The longest sequence of the call, in tokens; `None`: at most M. All positions of a call turn by the same
        /// frequencies, so keys rotated for another length must not be mixed in.
        seq_len: Option<u32>,
    },
    /// YaRN.
    Yarn(Yarn),
    /// LongRoPE.
    LongRope(LongRope),
    /// Llama 3.1 (Grattafiori et al. 2024, and its published code): by the wavelength w = 2 pi / f_p. w < L / high:
    /// f_p; w > L / low: f_p / s; between them (1 - t) f_p / s + t f_p with t = (L / w - low) / (high - low).
    /// low = high (Llama 4) is a step.
    Llama3 {
        /// s, above 0.
        factor: f64,
        /// low, above 0.
        low_freq_factor: f64,
        /// high, at least low.
        high_freq_factor: f64,
        /// L, the length of training in tokens.
        original_max_position_embeddings: u32,
    },
    /// Gemma 4's global layers: the window is the whole head (d is `head_dim`), but of its d/2 pairs only the first
    /// floor(`partial_rotary_factor` * d / 2) turn, by f_p / s; the others have the frequency 0.
    Proportional {
        /// The share of pairs that turn, above 0, at most 1.
        partial_rotary_factor: f64,
        /// s, above 0; `None`: 1.
        factor: Option<f64>,
    },
}

impl RopeScaling {
    /// The frequencies (`rotary_dim / 2` of them, radians per position) and the factor that multiplies cos and sin.
    ///
    /// # Errors
    /// [`Error::Spec`] that names the field (`scaling.factor`, ...): a number that is not finite or not above 0, a list
    /// of another length than `rotary_dim / 2`, a theta or rotary_dim for which the formula has no value.
    pub fn inv_freq(&self, theta: f64, rotary_dim: u32) -> Result<(Vec<f64>, f64)> {
        positive("theta", theta)?;
        if rotary_dim < 2 || rotary_dim % 2 == 1 || rotary_dim > MAX_ROTARY_DIM {
            return Err(wrong("rotary_dim", rotary_dim, format!("give an even number from 2 to {MAX_ROTARY_DIM}")));
        }
        let d = rotary_dim as f64;
        let plain = |theta: f64| -> Vec<f64> { (0..rotary_dim / 2).map(|p| theta.powf(-2.0 * p as f64 / d)).collect() };
        let divided = |s: f64| -> Vec<f64> { plain(theta).iter().map(|f| f / s).collect() };
        let rebased = |ratio: f64| match rotary_dim {
            2 => Err(wrong("rotary_dim", rotary_dim, "a base change needs 4 or more: its exponent is d / (d - 2)")),
            _ => Ok(plain(theta * ratio.powf(d / (d - 2.0)))),
        };
        let (inv_freq, attention_factor) = match self {
            RopeScaling::Default => (plain(theta), 1.0),
            RopeScaling::Linear { factor } => (divided(positive("factor", *factor)?), 1.0),
            RopeScaling::Ntk { factor } => (rebased(positive("factor", *factor)?)?, 1.0),
            RopeScaling::Dynamic { factor, max_position_embeddings, seq_len } => {
                let s = positive("factor", *factor)?;
                let longest = length("max_position_embeddings", *max_position_embeddings)?;
                let n = seq_len.map_or(longest, |n| longest.max(n as f64));
                (rebased(s * n / longest - (s - 1.0))?, 1.0)
            }
            RopeScaling::Yarn(yarn) => yarn.inv_freq(theta, plain(theta))?,
            RopeScaling::LongRope(long) => long.inv_freq(plain(theta))?,
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let s = positive("factor", *factor)?;
                let low = positive("low_freq_factor", *low_freq_factor)?;
                let high = positive("high_freq_factor", *high_freq_factor)?;
                let original = length("original_max_position_embeddings", *original_max_position_embeddings)?;
                if high < low {
                    return Err(wrong("high_freq_factor", high, format!("give at least low_freq_factor = {low}")));
                }
                let stretch = |f: f64| {
                    let turns = original * f / TAU;
                    match turns {
                        t if t >= high => f,
                        t if t <= low => f / s,
                        t => {
                            let smooth = (t - low) / (high - low);
                            (1.0 - smooth) * f / s + smooth * f
                        }
                    }
                };
                (plain(theta).into_iter().map(stretch).collect(), 1.0)
            }
            RopeScaling::Proportional { partial_rotary_factor, factor } => {
                let share = positive("partial_rotary_factor", *partial_rotary_factor)?;
                if share > 1.0 {
                    return Err(wrong("partial_rotary_factor", share, "give at most 1: the whole head"));
                }
                let mut inv_freq = divided(positive("factor", factor.unwrap_or(1.0))?);
                let turning = (share * d / 2.0) as usize;
                inv_freq.iter_mut().skip(turning).for_each(|f| *f = 0.0);
                (inv_freq, 1.0)
            }
        };
        match inv_freq.iter().position(|f| !f.is_finite()) {
            Some(p) => Err(Error::spec(
                "scaling",
                format!("gives pair {p} the frequency {}", inv_freq.get(p).copied().unwrap_or(f64::NAN)),
                "its numbers are too large or too small",
            )),
            None => Ok((inv_freq, attention_factor)),
        }
    }
}

/// YaRN (Peng et al. 2023, section 3.2): f_p (1 - r_p) + f_p / s * r_p, where r_p is a ramp from 0 to 1 between the
/// pairs that turn `beta_fast` and `beta_slow` times over L tokens: a pair that turns b times has the index
/// d ln(L / (2 pi b)) / (2 ln theta). It does not depend on the current length.
///
/// The attention factor is 0.1 ln s + 1, or, with both mscales, (0.1 mscale ln s + 1) / (0.1 mscale_all_dim ln s + 1);
/// it is 1 for s <= 1. DeepSeek's models multiply their softmax scale by the square of that denominator besides: that
/// belongs to `softmax_scale`, not here.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Yarn {
    /// s, above 0.
    pub factor: f64,
    /// L, the length of training in tokens.
    pub original_max_position_embeddings: u32,
    /// Turns from which on a pair keeps its frequency; `None`: 32.
    pub beta_fast: Option<f64>,
    /// Turns up to which a pair is interpolated fully; `None`: 1.
    pub beta_slow: Option<f64>,
    /// Whether the ends of the ramp are rounded outwards to whole pairs; `None`: true (GPT-OSS: false).
    pub truncate: Option<bool>,
    /// Together with `mscale_all_dim`: see above.
    pub mscale: Option<f64>,
    /// Together with `mscale`: see above.
    pub mscale_all_dim: Option<f64>,
    /// Replaces the computed attention factor.
    pub attention_factor: Option<f64>,
}

impl Yarn {
    /// The paper's constants; set the other fields afterwards.
    pub fn new(factor: f64, original_max_position_embeddings: u32) -> Self {
        Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast: None,
            beta_slow: None,
            truncate: None,
            mscale: None,
            mscale_all_dim: None,
            attention_factor: None,
        }
    }

    fn inv_freq(&self, theta: f64, plain: Vec<f64>) -> Result<(Vec<f64>, f64)> {
        let d = 2.0 * plain.len() as f64;
        let s = positive("factor", self.factor)?;
        let original = length("original_max_position_embeddings", self.original_max_position_embeddings)?;
        let fast = positive("beta_fast", self.beta_fast.unwrap_or(32.0))?;
        let slow = positive("beta_slow", self.beta_slow.unwrap_or(1.0))?;
        if fast < slow {
            return Err(wrong("beta_fast", fast, format!("give at least beta_slow = {slow}")));
        }
        if theta <= 1.0 {
            return Err(wrong("theta", theta, "YaRN needs a theta above 1: it divides by its logarithm"));
        }
        // The pair, as a real number, that turns this often over the original length.
        let pair = |turns: f64| d * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (low, high) = match self.truncate.unwrap_or(true) {
            true => (pair(fast).floor(), pair(slow).ceil()),
            false => (pair(fast), pair(slow)),
        };
        let (low, high) = (low.max(0.0), high.min(d - 1.0));
        if low > high {
            let help = format!("with theta = {theta} no pair turns {slow} to {fast} times over that length");
            return Err(wrong("original_max_position_embeddings", original, help));
        }
        let width = if low == high { 0.001 } else { high - low };
        let inv_freq = plain.iter().enumerate().map(|(p, f)| {
            let ramp = ((p as f64 - low) / width).clamp(0.0, 1.0);
            f / s * ramp + f * (1.0 - ramp)
        });
        let magnitude = |mscale: f64| if s <= 1.0 { 1.0 } else { 0.1 * mscale * s.ln() + 1.0 };
        let computed = match (self.mscale, self.mscale_all_dim) {
            (Some(m), Some(all)) => magnitude(positive("mscale", m)?) / magnitude(positive("mscale_all_dim", all)?),
            (None, None) => magnitude(1.0),
            (Some(m), None) => return Err(wrong("mscale", m, "give mscale_all_dim too, or neither")),
            (None, Some(all)) => return Err(wrong("mscale_all_dim", all, "give mscale too, or neither")),
        };
        Ok((inv_freq.collect(), positive("attention_factor", self.attention_factor.unwrap_or(computed))?))
    }
}

/// LongRoPE (Ding et al. 2024), as Phi-3 uses it: f_p / e_p, where e is `long_factor` for calls longer than L and
/// `short_factor` for others. The attention factor is sqrt(1 + ln s / ln L), at any length; 1 for s <= 1.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LongRope {
    /// e up to L tokens, one for each pair.
    pub short_factor: Vec<f64>,
    /// e beyond L tokens, one for each pair.
    pub long_factor: Vec<f64>,
    /// L, the length of training in tokens.
    pub original_max_position_embeddings: u32,
    /// The extended length, from which s = `max_position_embeddings` / L where `factor` is `None`.
    pub max_position_embeddings: Option<u32>,
    /// s, above 0.
    pub factor: Option<f64>,
    /// Replaces the computed attention factor.
    pub attention_factor: Option<f64>,
    /// The longest sequence of the call, in tokens; `None`: at most L. All positions of a call turn by the same
    /// frequencies, so keys rotated on the other side of L must not be mixed in.
    pub seq_len: Option<u32>,
}

impl LongRope {
    /// Both lists and L; set `factor`, `max_position_embeddings` or `attention_factor`, and `seq_len`, afterwards.
    pub fn new(short_factor: Vec<f64>, long_factor: Vec<f64>, original_max_position_embeddings: u32) -> Self {
        LongRope {
            short_factor,
            long_factor,
            original_max_position_embeddings,
            max_position_embeddings: None,
            factor: None,
            attention_factor: None,
            seq_len: None,
        }
    }

    fn inv_freq(&self, plain: Vec<f64>) -> Result<(Vec<f64>, f64)> {
        let original = length("original_max_position_embeddings", self.original_max_position_embeddings)?;
        for (field, list) in [("short_factor", &self.short_factor), ("long_factor", &self.long_factor)] {
            if list.len() != plain.len() {
                let want = format!("give rotary_dim / 2 = {} of them", plain.len());
                return Err(Error::spec(format!("scaling.{field}"), format!("holds {} factors", list.len()), want));
            }
            for (p, e) in list.iter().enumerate() {
                positive(&format!("{field}[{p}]"), *e)?;
            }
        }
        let long = self.seq_len.is_some_and(|n| n > self.original_max_position_embeddings);
        let factors = if long { &self.long_factor } else { &self.short_factor };
        let inv_freq = plain.iter().zip(factors).map(|(f, e)| f / e).collect();
        let s = match (self.factor, self.max_position_embeddings) {
            (Some(s), _) => Some(positive("factor", s)?),
            (None, Some(n)) => Some(length("max_position_embeddings", n)? / original),
            (None, None) => None,
        };
        let computed = match s {
            Some(s) if s <= 1.0 => Some(1.0),
            Some(s) if original > 1.0 => Some((1.0 + s.ln() / original.ln()).sqrt()),
            _ => None,
        };
        match self.attention_factor.or(computed) {
            Some(a) => Ok((inv_freq, positive("attention_factor", a)?)),
            None => Err(Error::spec(
                "scaling.attention_factor",
                "is missing and cannot be computed",
                "give it, or factor, or max_position_embeddings, and an original length above 1",
            )),
        }
    }
}

impl Rotary {
    /// Rotation of the first `rotary_dim` elements under a length extension: [`RopeScaling::inv_freq`] and its
    /// attention factor.
    ///
    /// # Errors
    /// Those of [`RopeScaling::inv_freq`].
    pub fn scaled(pairing: Pairing, rotary_dim: u32, theta: f64, scaling: &RopeScaling) -> Result<Self> {
        let (inv_freq, attention_factor) = scaling.inv_freq(theta, rotary_dim)?;
        let mut rotary = match scaling {
            RopeScaling::Default => Rotary::new(pairing, rotary_dim, theta),
            _ => Rotary::with_inv_freq(pairing, inv_freq),
        };
        rotary.attention_factor = attention_factor;
        Ok(rotary)
    }
}

fn wrong(field: &str, found: impl std::fmt::Display, help: impl Into<String>) -> Error {
    Error::spec(format!("scaling.{field}"), format!("is {found}"), help)
}

fn positive(field: &str, x: f64) -> Result<f64> {
    match x.is_finite() && x > 0.0 {
        true => Ok(x),
        false => Err(wrong(field, x, "give a finite number above 0")),
    }
}

fn length(field: &str, tokens: u32) -> Result<f64> {
    match tokens {
        0 => Err(wrong(field, tokens, "give a length of 1 token or more")),
        n => Ok(n as f64),
    }
}
