//! The rotations of ggml, the library of llama.cpp, by the parameters of its calls (`ggml_rope_ext`, `ggml_rope_multi`).

use crate::equation::rotary::rotary::{Pairing, Rotary};
use crate::equation::rotary::scaling::MAX_ROTARY_DIM;
use crate::error::{Error, Result};
use std::f64::consts::TAU;

/// The modes of ggml's rope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GgmlRopeMode {
    /// GGML_ROPE_TYPE_NORMAL: pairs of neighbours.
    Normal,
    /// GGML_ROPE_TYPE_NEOX: pairs half a window apart.
    Neox,
    /// GGML_ROPE_TYPE_MROPE: as Neox; sections of pairs turn by the streams t, h, w, e in order, over and over.
    Mrope,
    /// GGML_ROPE_TYPE_IMROPE: as Neox; pairs turn by t, h, w in turn, those beyond a stream's section by e.
    Imrope,
    /// GGML_ROPE_TYPE_VISION: pairs half a head apart, `n_dims` of them; sections by t, h, w, e, each with the frequencies from the first on.
    Vision,
}

/// The parameters of a rope of ggml, under ggml's names.
///
/// ```
/// use ropewalk::{GgmlRope, GgmlRopeMode, Pairing};
/// let mut rope = GgmlRope::new(GgmlRopeMode::Neox, 64, 10_000.0);
/// (rope.freq_scale, rope.ext_factor, rope.n_ctx_orig) = (0.125, 1.0, 4096); // YaRN, eight times as long
/// let rotary = rope.rotary(None)?;
/// assert_eq!((rotary.pairing, rotary.rotary_dim), (Pairing::Half, 64));
/// assert!((rotary.attention_factor - (1.0 + 0.1 * 8f64.ln())).abs() < 1e-12);
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct GgmlRope {
    /// Which elements are pairs, and what they turn by.
    pub mode: GgmlRopeMode,
    /// Elements that rotate; of vision half of them.
    pub n_dims: u32,
    /// Pairs of t, h, w and e, of the modes that have streams.
    pub sections: [u32; 4],
    /// The length of training, where `ext_factor` is not 0.
    pub n_ctx_orig: u32,
    /// The base of the frequencies.
    pub freq_base: f64,
    /// What multiplies frequencies: 1 over the factor of a length extension.
    pub freq_scale: f64,
    /// YaRN's share, 0 for none.
    pub ext_factor: f64,
    /// What multiplies cos and sin, beside YaRN's magnitude.
    pub attn_factor: f64,
    /// Turns over `n_ctx_orig` from which on a pair keeps its frequency.
    pub beta_fast: f64,
    /// Turns up to which a pair is interpolated fully.
    pub beta_slow: f64,
}

impl GgmlRope {
    /// Without sections and length extension.
    pub fn new(mode: GgmlRopeMode, n_dims: u32, freq_base: f64) -> Self {
        GgmlRope {
            mode,
            n_dims,
            sections: [0; 4],
            n_ctx_orig: 0,
            freq_base,
            freq_scale: 1.0,
            ext_factor: 0.0,
            attn_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
        }
    }

    /// Pairs that turn.
    fn pairs(&self) -> u32 {
        if self.mode == GgmlRopeMode::Vision { self.n_dims } else { self.n_dims / 2 }
    }

    /// The place of a pair in all sections, which come over and over.
    fn place(&self, pair: u32) -> u64 {
        let all: u64 = self.sections.iter().map(|n| *n as u64).sum();
        pair as u64 % all.max(1)
    }

    /// The section of a pair and its place in that.
    fn section(&self, pair: u32) -> (u8, u32) {
        let mut at = self.place(pair);
        for (stream, n) in (0u8..).zip(self.sections.map(u64::from)) {
            if at < n {
                return (stream, at as u32);
            }
            at -= n;
        }
        (0, pair)
    }

    /// The stream that each pair turns by: 0 t, 1 h, 2 w, 3 e; empty where there is one.
    pub fn streams(&self) -> Vec<u8> {
        let stream = |pair: u32| match self.mode {
            GgmlRopeMode::Imrope => {
                let at = self.place(pair);
                let by = at % 3;
                if at < 3 * self.sections[by as usize] as u64 { by as u8 } else { 3 }
            }
            _ => self.section(pair).0,
        };
        match self.mode {
            GgmlRopeMode::Normal | GgmlRopeMode::Neox => Vec::new(),
            _ => (0..self.pairs()).map(stream).collect(),
        }
    }

    /// The frequency of each pair in radians per position, and the factor of cos and sin. `freq_factors` divide the frequencies, one for each pair.
    ///
    /// # Errors
    /// [`Error::Spec`] for numbers that give none, and for sections or factors of another number of pairs.
    pub fn inv_freq(&self, freq_factors: Option<&[f32]>) -> Result<(Vec<f64>, f64)> {
        let wrong = |field: &str, problem: String, help: &str| Err(Error::spec(field, problem, help));
        if self.n_dims == 0 || self.n_dims % 2 == 1 || self.n_dims > MAX_ROTARY_DIM {
            return wrong("n_dims", format!("is {}", self.n_dims), "give an even number, 2 or more");
        }
        if self.sections.iter().any(|n| *n > MAX_ROTARY_DIM) {
            return wrong("sections", format!("are {:?}", self.sections), "give the pairs of t, h, w and e");
        }
        if !matches!(self.mode, GgmlRopeMode::Normal | GgmlRopeMode::Neox) && self.sections == [0; 4] {
            return wrong("sections", "are 0".into(), "give the pairs of t, h, w and e");
        }
        for (field, x) in [("freq_base", self.freq_base), ("freq_scale", self.freq_scale)] {
            if !(x.is_finite() && x > 0.0) {
                return wrong(field, format!("is {x}"), "give a finite number above 0");
            }
        }
        if let Some(factors) = freq_factors.filter(|factors| factors.len() != self.pairs() as usize) {
            let help = format!("give one for each of the {} pairs", self.pairs());
            return Err(Error::spec("freq_factors", format!("holds {}", factors.len()), help));
        }
        let d = self.n_dims as f64;
        // the pair that turns so many times over the length of training
        let turning = |beta: f64| d * (self.n_ctx_orig as f64 / (beta * TAU)).ln() / (2.0 * self.freq_base.ln());
        let (low, high) = (turning(self.beta_fast).floor().max(0.0), turning(self.beta_slow).ceil().min(d - 1.0));
        let one = |pair: u32| {
            let place = if self.mode == GgmlRopeMode::Vision { self.section(pair).1 } else { pair };
            let factor = freq_factors.and_then(|f| f.get(pair as usize)).map_or(1.0, |f| *f as f64);
            let plain = self.freq_base.powf(-2.0 * place as f64 / d) / factor;
            let ramp = 1.0 - ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            let kept = if self.ext_factor == 0.0 { 0.0 } else { ramp * self.ext_factor };
            self.freq_scale * plain * (1.0 - kept) + plain * kept
        };
        let magnitude = if self.ext_factor == 0.0 { 1.0 } else { 1.0 - 0.1 * self.freq_scale.ln() };
        let all: Vec<f64> = (0..self.pairs()).map(one).collect();
        match all.iter().find(|f| !f.is_finite()) {
            Some(f) => wrong("freq_base", format!("gives the frequency {f}"), "its numbers are too large or too small"),
            None => Ok((all, self.attn_factor * magnitude)),
        }
    }

    /// The rotation. Of the modes that have streams the positions are those of t, h, w and, where a pair turns by it, e.
    ///
    /// # Errors
    /// Those of [`GgmlRope::inv_freq`].
    pub fn rotary(&self, freq_factors: Option<&[f32]>) -> Result<Rotary> {
        let (inv_freq, attention_factor) = self.inv_freq(freq_factors)?;
        let pairing = if self.mode == GgmlRopeMode::Normal { Pairing::Interleaved } else { Pairing::Half };
        let mut rotary = Rotary::with_inv_freq(pairing, inv_freq);
        (rotary.attention_factor, rotary.streams) = (attention_factor, self.streams());
        Ok(rotary)
    }
}
