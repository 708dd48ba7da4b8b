//! R: pairing, angle, frequencies, xPos.

use crate::equation::defaults::{is_false, one};
use crate::equation::rotary::branches::Branches;
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
    /// The elements that [`Rotary::pairs`] lists: any two of a head (Allegro's thirds, each of which pairs its halves).
    Listed,
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
    /// Each pair turns by several positions at once, or by frequencies of its head.
    Sums(Sums),
}

/// angle(h, p) = sum over the position streams s of F[h, p, s] m_s, in radians (Mochi, RoPE-ViT's mixed frequencies, LTX-Video's
/// frequencies of each head). Needs [`Angle::Exact`]: the turns of the streams add up as integers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Sums {
    /// F for each kv head, which its query heads share; or 1: one for all.
    pub heads: u32,
    /// Position streams, 1 to 4.
    pub streams: u8,
    /// Each pair has two angles, one for each of its elements: (a, b) becomes (a cos x - b sin x, a sin y + b cos y). That is no
    /// rotation; V-JEPA 2 was trained so.
    #[serde(default, skip_serializing_if = "is_false")]
    pub two_angles: bool,
    /// F, `[heads, pairs, streams]`, or `[heads, pairs, 2, streams]` with two angles, row-major.
    pub values: Vec<f64>,
}

impl Sums {
    /// F `[heads, pairs, streams]`, one angle a pair.
    pub fn new(heads: u32, streams: u8, values: Vec<f64>) -> Self {
        Sums { heads, streams, two_angles: false, values }
    }
    /// Angles of a pair.
    pub(crate) fn angles(&self) -> usize {
        1 + self.two_angles as usize
    }
    /// F of an angle (0, or 1 of two) of a pair, one for each stream. The kv head counts where each has its own.
    #[cfg(test)]
    pub(crate) fn of(&self, head: usize, pair: usize, angle: usize, pairs: usize) -> &[f64] {
        let streams = self.streams as usize;
        let head = if self.heads == 1 { 0 } else { head };
        let at = ((head * pairs + pair) * self.angles() + angle) * streams;
        self.values.get(at..at + streams).unwrap_or_default()
    }
    fn validate(&self, pairs: u32) -> Result<()> {
        let err = |field: &str, problem: String, help: String| {
            Err(Error::spec(format!("rotary.frequencies.sums.{field}"), problem, help))
        };
        if !(1..=MAX_STREAMS).contains(&self.streams) {
            return err("streams", format!("is {}", self.streams), format!("give 1 to {MAX_STREAMS} position streams"));
        }
        let want = self.heads as u64 * pairs as u64 * self.angles() as u64 * self.streams as u64;
        if self.values.len() as u64 != want || want == 0 {
            let help = format!("give heads x pairs x angles x streams = {want} of them, and 1 head or more");
            return err("values", format!("holds {} frequencies", self.values.len()), help);
        }
        match self.values.iter().position(|x| !x.is_finite() || x.abs() > 65536.0) {
            Some(at) => {
                let help = "give finite radians per position, at most 65536 in size";
                err("values", format!("entry {at} is {}", self.values[at]), help.into())
            }
            None => Ok(()),
        }
    }
}

/// The most position streams that rotations read.
pub(crate) const MAX_STREAMS: u8 = 4;

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
    /// The position stream that each pair turns by, 0 to 3; empty: stream 0 for all. [`Rotary::with_sections`] sets them for
    /// m-RoPE, [`Rotary::axes`], [`Rotary::pixtral`] and their neighbours for pictures and video. [`Frequencies::Sums`] names its own.
    #[serde(default)]
    pub streams: Vec<u8>,
    /// The two elements of every pair, counted from `offset`, no element twice: where `pairing` is [`Pairing::Listed`], else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<[u32; 2]>,
    /// A magnitude that decays with distance.
    #[serde(default)]
    pub xpos: Option<XPos>,
    /// R_v: values rotate too, by their key's position, in the same window, without xPos' magnitude (RoFormer's
    /// `rotary_value`).
    #[serde(default)]
    pub values: bool,
    /// R_o: outputs turn back by their query's position, in the same window, so that values enter by m - n (DeepSeek-V4):
    /// o_i = R(-m) sum_j p(i,j) R(n) v_j. The attention factor multiplies them once more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub output: bool,
    /// Far keys turn by other positions than near ones. `rotate` gives near ones. Not beside several streams, xPos, tables of angles, R_v, R_o,
    /// rotated keys, or numbers of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Branches>,
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
            pairs: Vec::new(),
            xpos: None,
            values: false,
            output: false,
            branches: None,
            keys_rotated: false,
        }
    }
    /// The position stream of a pair.
    pub fn stream(&self, pair: usize) -> usize {
        self.streams.get(pair).map_or(0, |s| *s as usize)
    }
    /// The frequencies, one for each pair, in radians per position; of the first 2^15 pairs, more than a head may have. Of
    /// [`Frequencies::Sums`] all of F.
    pub fn inv_freq(&self) -> Vec<f64> {
        match &self.frequencies {
            Frequencies::Theta(theta) => (0..self.rotary_dim.min(MAX_ROTARY_DIM) / 2)
                .map(|p| theta.powf(-2.0 * p as f64 / self.rotary_dim as f64))
                .collect(),
            Frequencies::InvFreq(inv_freq) => inv_freq.clone(),
            Frequencies::Sums(sums) => sums.values.clone(),
        }
    }
    /// The two elements that pair p is read from and the two that it is written to, within a head.
    pub(crate) fn pair(&self, p: usize) -> ([usize; 2], [usize; 2]) {
        let (o, half) = (self.offset as usize, (self.rotary_dim / 2) as usize);
        let (apart, beside) = ([o + p, o + p + half], [o + 2 * p, o + 2 * p + 1]);
        match self.pairing {
            Pairing::Half => (apart, apart),
            Pairing::Interleaved => (beside, beside),
            Pairing::InterleavedInHalfOut => (beside, apart),
            Pairing::HalfOfHalves => {
                let quarter = half / 2;
                let first = o + p + if p < quarter { 0 } else { quarter };
                ([first, first + quarter], [first, first + quarter])
            }
            Pairing::Listed => {
                let pair = self.pairs[p].map(|e| o + e as usize);
                (pair, pair)
            }
        }
    }
    /// F, where the angles are sums.
    pub(crate) fn sums(&self) -> Option<&Sums> {
        match &self.frequencies {
            Frequencies::Sums(sums) => Some(sums),
            Frequencies::Theta(_) | Frequencies::InvFreq(_) => None,
        }
    }
    /// Whether pairs or angles are read from tables of their own: what no kernel does by four pairs.
    pub(crate) fn general(&self) -> bool {
        self.pairing == Pairing::Listed || self.sums().is_some()
    }
    /// Whether kv heads turn by different angles.
    pub(crate) fn of_heads(&self) -> bool {
        self.sums().is_some_and(|sums| sums.heads > 1)
    }
    /// The highest position stream that a pair reads.
    pub(crate) fn last_stream(&self) -> u8 {
        let last = self.streams.iter().copied().max().unwrap_or(0);
        self.sums().map_or(last, |sums| sums.streams.saturating_sub(1))
    }
    /// One past the last rotated element of a head.
    pub(crate) fn end(&self) -> u64 {
        let listed = self.pairs.iter().flatten().map(|e| *e as u64 + 1).max();
        self.offset as u64 + listed.unwrap_or(0).max(if self.pairs.is_empty() { self.rotary_dim as u64 } else { 0 })
    }
    fn validate_pairs(&self, head_dim: u32) -> Result<()> {
        let wrong = |problem: String, help: &str| Err(Error::spec("rotary.pairs", problem, help));
        if self.pairing != Pairing::Listed {
            return match self.pairs.is_empty() {
                true => Ok(()),
                false => wrong(format!("holds {} pairs", self.pairs.len()), "set pairing to listed, or leave them out"),
            };
        }
        if self.pairs.len() as u64 * 2 != self.rotary_dim as u64 {
            let problem = format!("holds {} pairs of {} elements", self.pairs.len(), self.rotary_dim);
            return wrong(problem, "give rotary_dim / 2 of them");
        }
        if self.end() > head_dim as u64 {
            let problem = format!("reaches element {} of a head of {head_dim}", self.end() - 1);
            return wrong(problem, "let offset and every element together stay below head_dim");
        }
        let mut seen: Vec<u32> = self.pairs.iter().flatten().copied().collect();
        seen.sort_unstable();
        match seen.windows(2).find(|w| w[0] == w[1]) {
            Some(w) => wrong(format!("names element {} twice", w[0]), "let every element be in one pair at most"),
            None => Ok(()),
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
        self.validate_pairs(head_dim)?;
        if self.output && (self.pairing == Pairing::InterleavedInHalfOut || self.sums().is_some_and(|s| s.two_angles)) {
            return Err(Error::spec(
                "rotary.output",
                "is set, but pairs are read from other elements than they are written to, or have two angles",
                "leave it out: such rotations are not turned back",
            ));
        }
        if self.pairing != Pairing::Listed && self.offset.checked_add(r).is_none_or(|end| end > head_dim) {
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
        if let Some(stream) = self.streams.iter().find(|s| **s >= MAX_STREAMS) {
            return Err(Error::spec("rotary.streams", format!("stream {stream}"), "there are at most four, 0 to 3"));
        }
        if let Some(branches) = &self.branches {
            branches.validate()?;
            let others = [
                ("rotary.streams", self.last_stream() > 0, "names several streams"),
                ("rotary.frequencies", self.sums().is_some(), "are sums"),
                ("rotary.angle", self.angle == Angle::Table, "is a table"),
                ("rotary.xpos", self.xpos.is_some(), "is set"),
                ("rotary.values", self.values, "is set"),
                ("rotary.output", self.output, "is set"),
                ("rotary.keys_rotated", self.keys_rotated, "is set"),
            ];
            if let Some((field, _, is)) = others.iter().find(|(_, set, _)| *set) {
                let help = "leave it out: branches turn q and k by one position each";
                return Err(Error::spec(*field, format!("{is} beside branches"), help));
            }
        }
        if let Some(sums) = self.sums() {
            let others = [
                ("rotary.angle", self.angle != Angle::Exact, "is not exact"),
                ("rotary.streams", !self.streams.is_empty(), "is set"),
                ("rotary.xpos", self.xpos.is_some(), "is set"),
            ];
            if let Some((field, _, is)) = others.iter().find(|(_, set, _)| *set) {
                let help = "leave it out: sums have exact angles, of all their streams";
                return Err(Error::spec(*field, format!("{is} beside frequencies that are sums"), help));
            }
            return sums.validate(r / 2);
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
                        Frequencies::InvFreq(_) | Frequencies::Sums(_) => "rotary.frequencies.inv_freq",
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
