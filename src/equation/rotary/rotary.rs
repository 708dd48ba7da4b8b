//! R: pairing, angle, frequencies, xPos.

use crate::equation::defaults::{is_false, one};
use crate::equation::rotary::scaling::MAX_ROTARY_DIM;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::Serialize;

/// Which elements of the rotary window form the pairs that rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pairing {
    /// Pair `p` is elements `p` and `p + rotary_dim/2` (Llama, Qwen, GPT-NeoX, Phi, Gemma).
    Half,
    /// Pair `p` is elements `2p` and `2p + 1` (RoFormer, GPT-J, Cohere, GLM).
    Interleaved,
    /// Pair `p` is read at `2p` and `2p + 1` and written at `p` and `p + rotary_dim/2` (DeepSeek-V3). Scores
    /// equal those of `Interleaved`, rotated tensors do not.
    InterleavedInHalfOut,
    /// Each half of the window by itself: with h = rotary_dim/2, pairs p below h/2 are elements `p` and `p + h/2`, the others
    /// the same elements of the second half (Gemma 4's vision tower). rotary_dim is a multiple of 4.
    HalfOfHalves,
}

/// Where the angle of a position and a pair comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Angle {
    /// Integer phase from a 64-bit turn increment: |cos, sin| error below 2e-7 at every i32 position.
    #[default]
    Exact,
    /// The angle `f32(position) * f32(inv_freq)` as most frameworks compute it, reduced exactly: for checkpoints
    /// trained against float32 angles.
    Float32,
    /// The caller's cos and sin tables (`[rows, rotary_dim/2]`), indexed by position.
    Table,
}

/// Radians per position of every pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Frequencies {
    /// `theta^(-2p / rotary_dim)` (RoFormer).
    Theta(f64),
    /// Explicit, `rotary_dim / 2` of them: every length extension arrives this way.
    InvFreq(Vec<f64>),
}

/// R(m): the rotation of q and k.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rotary {
    /// Which elements form a pair.
    pub pairing: Pairing,
    /// How many elements rotate; even.
    pub rotary_dim: u32,
    /// The first rotated element of a head (0; MLA rotates the last ones).
    #[serde(default)]
    pub offset: u32,
    /// Radians per position; not used by [`Angle::Table`].
    pub frequencies: Frequencies,
    /// Multiplies cos and sin (YaRN, LongRoPE); scores carry its square. With [`Angle::Table`] it multiplies the
    /// table too.
    #[serde(default = "one")]
    pub attention_factor: f64,
    /// Where angles come from.
    #[serde(default)]
    pub angle: Angle,
    /// The position stream that each pair turns by, 0 to 2; empty: stream 0 for all. [`Rotary::with_sections`] sets them for
    /// m-RoPE, [`Rotary::pixtral`] and its neighbours for pictures.
    #[serde(default)]
    pub streams: Vec<u8>,
    /// A magnitude that decays with distance.
    #[serde(default)]
    pub xpos: Option<XPos>,
    /// R_v: values rotate too, by their key's position, in the same window, without xPos' magnitude (RoFormer's
    /// `rotary_value`).
    #[serde(default)]
    pub values: bool,
    /// k holds R(n) N k already, a cache of rotated keys: attention and scores take it as it is and turn queries alone. What
    /// [`Kernel::RotateK`](crate::Kernel::RotateK) makes for that cache does not depend on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keys_rotated: bool,
}

impl Rotary {
    /// Rotation of the first `rotary_dim` elements with frequencies `theta^(-2p/rotary_dim)`.
    pub fn new(pairing: Pairing, rotary_dim: u32, theta: f64) -> Self {
        let frequencies = Frequencies::Theta(theta);
        Self::plain(pairing, rotary_dim, frequencies)
    }
    /// Rotation with explicit frequencies, one for each pair.
    pub fn with_inv_freq(pairing: Pairing, inv_freq: Vec<f64>) -> Self {
        let rotary_dim = 2 * inv_freq.len() as u32;
        let frequencies = Frequencies::InvFreq(inv_freq);
        Self::plain(pairing, rotary_dim, frequencies)
    }
    fn plain(pairing: Pairing, rotary_dim: u32, frequencies: Frequencies) -> Self {
        Rotary {
            pairing,
            rotary_dim,
            offset: 0,
            frequencies,
            attention_factor: 1.0,
            angle: Angle::Exact,
            streams: Vec::new(),
            xpos: None,
            values: false,
            keys_rotated: false,
        }
    }
    /// The position stream of a pair.
    pub fn stream(&self, pair: usize) -> usize {
        self.streams.get(pair).map_or(0, |s| *s as usize)
    }
    /// The frequencies, one for each pair, in radians per position; of the first 2^15 pairs, more than a head may have.
    pub fn inv_freq(&self) -> Vec<f64> {
        match &self.frequencies {
            Frequencies::Theta(theta) => (0..self.rotary_dim.min(MAX_ROTARY_DIM) / 2)
                .map(|p| theta.powf(-2.0 * p as f64 / self.rotary_dim as f64))
                .collect(),
            Frequencies::InvFreq(inv_freq) => inv_freq.clone(),
        }
    }
    pub(crate) fn validate(&self, head_dim: u32) -> Result<()> {
        let r = self.rotary_dim;
        if r == 0 || r % 2 == 1 {
            return Err(Error::spec(
                "rotary.rotary_dim",
                format!("is {r}"),
                "give an even number of elements, 2 or more: rotation acts on pairs",
            ));
        }
        if self.pairing == Pairing::HalfOfHalves && !r.is_multiple_of(4) {
            return Err(Error::spec(
                "rotary.rotary_dim",
                format!("is {r}"),
                "give a multiple of 4: each half of the window is cut into pairs by itself",
            ));
        }
        if self.offset.checked_add(r).is_none_or(|end| end > head_dim) {
            return Err(Error::spec(
                "rotary.rotary_dim",
                format!("elements {}..{} of a head of {head_dim}", self.offset, self.offset as u64 + r as u64),
                "let offset + rotary_dim be at most head_dim",
            ));
        }
        if !(1e-30..1e30).contains(&self.attention_factor.abs()) {
            return Err(Error::spec(
                "rotary.attention_factor",
                format!("is {}", self.attention_factor),
                "give a number from 1e-30 to 1e30 in size (1 for plain RoPE)",
            ));
        }
        if !self.streams.is_empty() && self.streams.len() != (r / 2) as usize {
            return Err(Error::spec(
                "rotary.streams",
                format!("holds {} streams", self.streams.len()),
                format!("give one for each of the {} pairs, or none", r / 2),
            ));
        }
        if let Some(stream) = self.streams.iter().find(|s| **s > 2) {
            return Err(Error::spec("rotary.streams", format!("stream {stream}"), "there are at most three, 0 to 2"));
        }
        if let Some(xpos) = &self.xpos
            && !(2.0..=1e9).contains(&xpos.scale_base.abs())
        {
            return Err(Error::spec(
                "rotary.xpos.scale_base",
                format!("is {}", xpos.scale_base),
                "give 2 to 1e9 positions (512 in the paper), below 0 for a growth",
            ));
        }
        if self.angle == Angle::Table {
            return Ok(());
        }
        match &self.frequencies {
            Frequencies::Theta(theta) if !(theta.is_finite() && *theta > 0.0) => Err(Error::spec(
                "rotary.frequencies.theta",
                format!("is {theta}"),
                "give a finite number above 0 (10000 in RoFormer)",
            )),
            Frequencies::InvFreq(f) if f.len() != (r / 2) as usize => Err(Error::spec(
                "rotary.frequencies.inv_freq",
                format!("holds {} frequencies", f.len()),
                format!("give rotary_dim / 2 = {} of them", r / 2),
            )),
            frequencies => match self.inv_freq().iter().position(|x| !x.is_finite() || x.abs() > 65536.0) {
                Some(p) => {
                    let field = match frequencies {
                        Frequencies::Theta(_) => "rotary.frequencies.theta",
                        Frequencies::InvFreq(_) => "rotary.frequencies.inv_freq",
                    };
                    Err(Error::spec(
                        field,
                        format!("entry {p} of inv_freq is {}", self.inv_freq()[p]),
                        "give finite radians per position, at most 65536 in size",
                    ))
                }
                None => Ok(()),
            },
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
