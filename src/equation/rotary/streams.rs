//! Rotation by several positions: m-RoPE's sections for text with pictures, rows and columns of a picture's patches. Each
//! system is a choice of stream, frequency and pairing, so that its users need no formula. Coordinates that are no integers become
//! integers by a unit in the frequency (DINOv3: half a patch; EVA-02: a power of two of a patch), so that phases stay exact.

use crate::equation::rotary::rotary::{Frequencies, MAX_STREAMS, Pairing, Rotary, Sums};
use crate::equation::window::{MAX_TOKENS, check_tokens};
use crate::error::{Error, Result};
use std::f64::consts::TAU;

/// How m-RoPE deals a head's pairs to the position streams 0 (time), 1 (height) and 2 (width).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sections {
    /// `[t, h, w]` pairs: the first t turn by time, the next h by height, the last w by width (Qwen2-VL, Qwen2.5-VL, GLM-4V).
    Contiguous,
    /// `[t, h, w]` pairs: time, height, width in turn, the pairs that are left over by time (Qwen3-VL).
    Interleaved,
    /// `[h, w, t]` pairs: height and width in turn, the last t by time (Ernie 4.5 VL).
    Alternating,
}

impl Rotary {
    /// m-RoPE (Wang et al. 2024, Qwen2-VL): deals the pairs to three position streams. Frequencies stay those of the pairs'
    /// indices. Spec and inputs then need positions: `Positions::Ids` and `[3, batch, len]` of them, time first; text has
    /// the same position in all three.
    ///
    /// ```
    /// use ropewalk::{Pairing, Rotary, Sections};
    /// let rotary = Rotary::new(Pairing::Half, 128, 1e6).with_sections(Sections::Contiguous, [16, 24, 24])?;
    /// assert_eq!((rotary.stream(15), rotary.stream(16), rotary.stream(40)), (0, 1, 2));
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Spec`] for `rotary.sections` that do not cover `rotary_dim / 2` pairs in that order.
    pub fn with_sections(mut self, order: Sections, sections: [u32; 3]) -> Result<Self> {
        let pairs = self.rotary_dim / 2;
        let [a, b, c] = sections.map(u64::from);
        let wrong = |help: String| Err(Error::spec("rotary.sections", format!("are {sections:?}"), help));
        if a + b + c != pairs as u64 {
            return wrong(format!("let their sum be rotary_dim / 2 = {pairs}"));
        }
        if self.rotary_dim > crate::equation::defaults::MAX_HEAD_DIM {
            return wrong(format!(
                "rotary_dim is {}: give at most {}",
                self.rotary_dim,
                crate::equation::defaults::MAX_HEAD_DIM
            ));
        }
        let (pairs, a, b, c) = (pairs as usize, a as usize, b as usize, c as usize);
        let stream = |p: usize| match order {
            Sections::Contiguous if p < a => 0,
            Sections::Contiguous if p < a + b => 1,
            Sections::Contiguous => 2,
            Sections::Interleaved if p % 3 == 1 && p < 3 * b => 1,
            Sections::Interleaved if p % 3 == 2 && p < 3 * c => 2,
            Sections::Interleaved => 0,
            Sections::Alternating if p < a + b => 1 + p as u8 % 2,
            Sections::Alternating => 0,
        };
        let streams: Vec<u8> = (0..pairs).map(stream).collect();
        let of = |s: u8| streams.iter().filter(|x| **x == s).count();
        let counted = match order {
            Sections::Alternating => [of(1), of(2), of(0)],
            Sections::Contiguous | Sections::Interleaved => [of(0), of(1), of(2)],
        };
        if counted != [a, b, c] {
            return wrong(format!("{order:?} sections would hold {counted:?} pairs: give those"));
        }
        self.streams = streams;
        Ok(self)
    }

    /// Consecutive axes of a picture or a video, `(elements, theta)` each: the pairs of axis n turn by position stream n with
    /// `theta^(-2i / elements)`. With `Pairing::Interleaved` an axis has consecutive elements (FLUX, Qwen-Image, Wan, HunyuanVideo, Z-Image);
    /// with `Pairing::Half` pairs reach over the whole head, in the axes' order (Cosmos); with `Pairing::Listed` each axis pairs the halves of
    /// its own elements (Allegro). Positions: `Positions::Ids`, `[axes, batch, len]`; fractions by [`fixed_point`] and
    /// [`Rotary::with_units`].
    ///
    /// ```
    /// use ropewalk::{Pairing, Rotary};
    /// let flux = Rotary::axes(&[(16, 1e4), (56, 1e4), (56, 1e4)], Pairing::Interleaved)?;
    /// assert_eq!((flux.rotary_dim, flux.stream(7), flux.stream(8), flux.stream(36)), (128, 0, 1, 2));
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Spec`] for no axis or more than four, an odd or too large number of elements, a theta that is not above 0, another pairing.
    pub fn axes(axes: &[(u32, f64)], pairing: Pairing) -> Result<Self> {
        let err = |problem: String, help: &str| Err(Error::spec("rotary.axes", problem, help));
        let most = crate::equation::defaults::MAX_HEAD_DIM as u64;
        let dim: u64 = axes.iter().map(|(dim, _)| *dim as u64).sum();
        if axes.is_empty() || axes.len() > MAX_STREAMS as usize {
            return err(format!("are {}", axes.len()), "give one to four");
        }
        if let Some((dim, _)) = axes.iter().find(|(dim, _)| *dim == 0 || dim % 2 == 1) {
            return err(
                format!("hold one of {dim} elements"),
                "give an even number, 2 or more: rotation acts on pairs",
            );
        }
        if let Some((_, theta)) = axes.iter().find(|(_, theta)| !(theta.is_finite() && *theta > 0.0)) {
            return err(format!("hold a theta of {theta}"), "give a finite number above 0");
        }
        if dim > most {
            return err(format!("hold {dim} elements"), "let them fit in a head");
        }
        let f = |(dim, theta): &(u32, f64)| {
            let (dim, theta) = (*dim as f64, *theta);
            (0..dim as u32 / 2).map(move |i| theta.powf(-2.0 * i as f64 / dim))
        };
        let mut rotary = Rotary::with_inv_freq(pairing, axes.iter().flat_map(f).collect());
        let of = |(n, (dim, _)): (usize, &(u32, f64))| std::iter::repeat_n(n as u8, *dim as usize / 2);
        rotary.streams = axes.iter().enumerate().flat_map(of).collect();
        match pairing {
            Pairing::Half | Pairing::Interleaved | Pairing::InterleavedInHalfOut => {}
            Pairing::Listed => {
                let mut start = 0;
                for (dim, _) in axes {
                    rotary.pairs.extend((0..dim / 2).map(|i| [start + i, start + i + dim / 2]));
                    start += dim;
                }
            }
            Pairing::HalfOfHalves => return err("pair halves of halves".into(), "give two axes with Pairing::Listed"),
        }
        Ok(rotary)
    }

    /// FLUX (Black Forest Labs 2024): interleaved axes of one theta; FLUX.1 `[16, 56, 56]` and 10 000, FLUX.2 `[32, 32, 32, 32]` and 2 000.
    ///
    /// # Errors
    /// Those of [`Rotary::axes`].
    pub fn flux(dims: &[u32], theta: f64) -> Result<Self> {
        let axes: Vec<(u32, f64)> = dims.iter().map(|dim| (*dim, theta)).collect();
        Self::axes(&axes, Pairing::Interleaved)
    }

    /// Qwen-Image (2025): `[16, 56, 56]` elements by frame, row and column, theta 10 000. Rows and columns count from the picture's middle.
    ///
    /// # Errors
    /// None: they are those of [`Rotary::axes`].
    pub fn qwen_image() -> Result<Self> {
        Self::flux(&[16, 56, 56], 1e4)
    }

    /// Wan (Alibaba 2025): rows and columns have 2 (head_dim / 6) elements each, frames the rest; interleaved, theta 10 000.
    ///
    /// # Errors
    /// Those of [`Rotary::axes`].
    pub fn wan(head_dim: u32) -> Result<Self> {
        Self::flux(&thirds(head_dim), 1e4)
    }

    /// Cosmos (NVIDIA 2025): Wan's axes with half pairing over the whole head, and of each axis theta = 10 000 scale^(dim / (dim - 2)), the
    /// scales of frames, rows and columns. Frames count 24 / fps each: [`Rotary::with_units`].
    ///
    /// # Errors
    /// Those of [`Rotary::axes`]; axes of two elements, whose theta is none.
    pub fn cosmos(head_dim: u32, scales: [f64; 3]) -> Result<Self> {
        let dims = thirds(head_dim);
        let theta = |(dim, scale): (&u32, f64)| (*dim, 1e4 * scale.powf(*dim as f64 / (*dim as f64 - 2.0)));
        let axes: Vec<(u32, f64)> = dims.iter().zip(scales).map(theta).collect();
        Self::axes(&axes, Pairing::Half)
    }

    /// LTX-Video (Lightricks 2024): the rotation acts on the width heads x head_dim, so each head has frequencies of its own. Interleaved pair P
    /// of the width turns by axis (P - pad) % 3 with `theta^(((P - pad) / 3) / (n - 1)) pi / 2`, n = width / 6; the first pad = (width % 6) / 2
    /// pairs stand still. Positions: 2 coordinate / base - 1 of frame, row and column, which are fractions.
    ///
    /// # Errors
    /// [`Error::Spec`] for a width of less than 12, sizes that no head has, a theta that is not above 0.
    pub fn ltx(heads: u32, head_dim: u32, theta: f64) -> Result<Self> {
        let width = heads as u64 * head_dim as u64;
        let sizes =
            head_dim <= crate::equation::defaults::MAX_HEAD_DIM && heads <= crate::equation::defaults::MAX_HEADS;
        if !sizes || head_dim % 2 == 1 || width < 12 {
            let help = "give an even head_dim and 12 elements or more in all";
            return Err(Error::spec("head_dim", format!("is {head_dim}, of {heads} heads"), help));
        }
        positive(theta)?;
        let (pad, n) = (width % 6 / 2, width / 6);
        let mut values = vec![0.0; 3 * width as usize / 2];
        for pair in pad..width / 2 {
            let (axis, step) = ((pair - pad) % 3, (pair - pad) / 3);
            let f = theta.powf(step as f64 / (n - 1) as f64) * std::f64::consts::FRAC_PI_2;
            if let Some(value) = values.get_mut((3 * pair + axis) as usize) {
                *value = f;
            }
        }
        Ok(Self::sums_of(Pairing::Interleaved, head_dim, Sums::new(heads, 3, values)))
    }

    /// Learned frequencies of each head and pair, one for each axis (Mochi; RoPE-ViT's mixed rotation, Heo et al. 2024): `frequencies` is
    /// `[axes, heads, pairs]`, `heads` are kv heads.
    ///
    /// # Errors
    /// [`Error::Spec`] where their number is not axes x heads x pairs.
    pub fn rope_mixed(pairing: Pairing, axes: u8, heads: u32, frequencies: &[f64]) -> Result<Self> {
        let plane = frequencies.len() / (axes.max(1) as usize);
        let pairs = plane / (heads.max(1) as usize);
        let sizes = axes as u128 * heads as u128 * pairs as u128 == frequencies.len() as u128 && pairs > 0;
        if !sizes || axes > MAX_STREAMS || pairs > crate::equation::defaults::MAX_HEAD_DIM as usize / 2 {
            let problem = format!("{} frequencies of {axes} axes and {heads} heads", frequencies.len());
            return Err(Error::spec(
                "rotary.frequencies",
                problem,
                "give axes x heads x pairs of them, one to four axes",
            ));
        }
        let of = |at: usize| (0..axes as usize).filter_map(move |axis| frequencies.get(axis * plane + at).copied());
        let values = (0..plane).flat_map(of).collect();
        Ok(Self::sums_of(pairing, 2 * pairs as u32, Sums::new(heads, axes, values)))
    }

    /// V-JEPA 2 (Assran et al. 2025): three windows of 2 (head_dim / 6) elements, by frame, row and column. In a window of d elements pairs
    /// interleave where the d / 2 frequencies are tiled: element e turns by `theta^(-2 (e mod d/2) / d)`, so the two of a pair turn by different
    /// angles, which is no rotation. Checkpoints were trained so.
    ///
    /// # Errors
    /// [`Error::Spec`] for a head_dim below 6 or larger than a head's, a theta that is not above 0.
    pub fn vjepa2(head_dim: u32, theta: f64) -> Result<Self> {
        let d = 2 * (head_dim / 6);
        if d == 0 || head_dim > crate::equation::defaults::MAX_HEAD_DIM {
            return Err(Error::spec("head_dim", format!("is {head_dim}"), "give 6 elements to those of a head"));
        }
        positive(theta)?;
        let mut values = vec![0.0; 9 * d as usize];
        for e in 0..3 * d {
            let (axis, within) = (e / d, e % d % (d / 2));
            if let Some(value) = values.get_mut((3 * e + axis) as usize) {
                *value = theta.powf(-2.0 * within as f64 / d as f64);
            }
        }
        let mut sums = Sums::new(1, 3, values);
        sums.two_angles = true;
        Ok(Self::sums_of(Pairing::Interleaved, 3 * d, sums))
    }

    fn sums_of(pairing: Pairing, rotary_dim: u32, sums: Sums) -> Self {
        let mut rotary = Rotary::new(pairing, rotary_dim, 1.0);
        rotary.frequencies = Frequencies::Sums(sums);
        rotary
    }

    /// Positions of stream s count units of this size, so that fractions keep their digits: the frequencies are multiplied by it. A stream
    /// without a unit counts ones. See [`fixed_point`].
    pub fn with_units(mut self, units: &[f64]) -> Self {
        let unit = |stream: usize| units.get(stream).copied().unwrap_or(1.0);
        if let Frequencies::Sums(sums) = &mut self.frequencies {
            let streams = sums.streams.max(1) as usize;
            sums.values.iter_mut().enumerate().for_each(|(at, f)| *f *= unit(at % streams));
            return self;
        }
        let scaled = self.inv_freq().into_iter().enumerate().map(|(pair, f)| f * unit(self.stream(pair))).collect();
        self.frequencies = Frequencies::InvFreq(scaled);
        self
    }

    /// Pixtral's vision tower (Agrawal et al. 2024): the first half of the pairs turns by the row (stream 0) with the even ones of the
    /// frequencies `theta^(-2j / head_dim)`, the second by the column (stream 1) with the odd ones. Positions:
    /// [`PatchPositions::grid`].
    ///
    /// # Errors
    /// [`Error::Spec`], like those of the other pictures': a head_dim that is no multiple of 4, a theta that is not above 0.
    pub fn pixtral(head_dim: u32, theta: f64) -> Result<Self> {
        let f = |j: u32| theta.powf(-2.0 * j as f64 / head_dim as f64);
        let half = |first: u32| pairs(head_dim).map(|i| f(2 * i + first)).collect();
        picture(Pairing::Half, head_dim, theta, half(0), half(1), [0, 1])
    }

    /// Qwen2-VL's vision tower: the first half of the pairs turns by the row (stream 0), the second by the column (stream 1), both with
    /// the frequencies `theta^(-4i / head_dim)`. Positions: [`PatchPositions::merged`], or of any order of patches.
    ///
    /// # Errors
    /// Those of [`Rotary::pixtral`].
    pub fn qwen2_vl_vision(head_dim: u32, theta: f64) -> Result<Self> {
        let f = quarter(head_dim, theta, 1.0);
        picture(Pairing::Half, head_dim, theta, f.clone(), f, [0, 1])
    }

    /// Gemma 4's vision tower: each half of the head rotates by itself ([`Pairing::HalfOfHalves`]), the first by the row
    /// (stream 0), the second by the column (stream 1), both with the frequencies `theta^(-4i / head_dim)`. Positions:
    /// [`PatchPositions::grid`].
    ///
    /// # Errors
    /// Those of [`Rotary::pixtral`].
    pub fn gemma4_vision(head_dim: u32, theta: f64) -> Result<Self> {
        let f = quarter(head_dim, theta, 1.0);
        picture(Pairing::HalfOfHalves, head_dim, theta, f.clone(), f, [0, 1])
    }

    /// Llama 4's vision tower: interleaved pairs, the first half of them turns by the column (stream 1), the second by the row
    /// (stream 0), both with the frequencies `theta^(-4i / head_dim)`. Positions: [`PatchPositions::llama4`], which count from 1; the
    /// class token stands at 0 and does not turn.
    ///
    /// # Errors
    /// Those of [`Rotary::pixtral`].
    pub fn llama4_vision(head_dim: u32, theta: f64) -> Result<Self> {
        let f = quarter(head_dim, theta, 1.0);
        picture(Pairing::Interleaved, head_dim, theta, f.clone(), f, [1, 0])
    }

    /// DINOv3 (Simeoni et al. 2025) for a grid of `[rows, columns]` patches: coordinates of patch centres from -1 to 1, times 2 pi, times
    /// `theta^(-4i / head_dim)`. Positions are the integers of [`PatchPositions::dinov3`], twice a patch's distance
    /// from the middle, so the frequencies depend on the grid.
    ///
    /// # Errors
    /// Those of [`Rotary::pixtral`]; a grid without patches.
    pub fn dinov3(head_dim: u32, theta: f64, grid: [u32; 2]) -> Result<Self> {
        patches(grid)?;
        let [rows, columns] = grid.map(|n| quarter(head_dim, theta, TAU / n as f64));
        picture(Pairing::Half, head_dim, theta, rows, columns, [0, 1])
    }

    /// EVA-02 (Fang et al. 2023, as timm has it) of a model pretrained on `reference` `[rows, columns]` of patches: interleaved pairs,
    /// the first half by the row times reference / grid, the second by the column likewise, both with the frequencies
    /// `theta^(-4i / head_dim)`. Without `reference` rows and columns are not rescaled. Positions:
    /// [`PatchPositions::eva02`] with the same `reference`; they count fractions of a patch, so the frequencies do too.
    ///
    /// # Errors
    /// Those of [`Rotary::pixtral`]; a reference without patches, or with sides above 2^20.
    pub fn eva02(head_dim: u32, theta: f64, reference: Option<[u32; 2]>) -> Result<Self> {
        let [rows, columns] = fractions(reference)?.map(|n| quarter(head_dim, theta, 1.0 / n));
        picture(Pairing::Interleaved, head_dim, theta, rows, columns, [0, 1])
    }
}

/// Coordinates that may be fractions as whole numbers of a unit: the largest unit that they all are multiples of (to a few units of the last
/// place), or else a power of two that leaves 30 bits. Give [`Rotary::with_units`] the unit. Numbers that are not finite count as 0.
///
/// ```
/// let (unit, positions) = ropewalk::fixed_point(&[3.0, 4.45, 5.9, 7.35]);
/// assert!((unit - 0.05).abs() < 1e-15);
/// assert_eq!(positions, [60, 89, 118, 147]);
/// ```
pub fn fixed_point(coordinates: &[f64]) -> (f64, Vec<i32>) {
    let finite = |x: &f64| if x.is_finite() { *x } else { 0.0 };
    let all: Vec<f64> = coordinates.iter().map(finite).collect();
    let largest = all.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    if largest == 0.0 {
        return (1.0, vec![0; all.len()]);
    }
    let in_units = |unit: f64| all.iter().map(|x| (x / unit).round() as i32).collect::<Vec<_>>();
    if largest < MAX_TOKENS as f64 && all.iter().all(|x| x.fract() == 0.0) {
        return (1.0, in_units(1.0));
    }
    // Euclid's algorithm over numbers that are rounded
    let gcd = all.iter().fold(0.0f64, |mut a, x| {
        let mut b = x.abs();
        while b > largest * 1e-10 {
            (a, b) = (b, a - b * (a / b).round());
            b = b.abs();
        }
        a
    });
    if gcd > 0.0 && largest / gcd < MAX_TOKENS as f64 {
        let unit = largest / (largest / gcd).round();
        let exact = |x: &f64| ((x / unit).round() * unit - x).abs() <= 8.0 * f64::EPSILON * largest;
        if all.iter().all(exact) {
            return (unit, in_units(unit));
        }
    }
    let unit = 2f64.powi((largest.log2().floor() as i32 - 29).max(-1022));
    (unit, in_units(unit))
}

/// Elements by frame, row and column: rows and columns have 2 (head_dim / 6) each, frames the rest.
fn thirds(head_dim: u32) -> [u32; 3] {
    let third = head_dim / 6 * 2;
    [head_dim - 2 * third, third, third]
}

fn positive(theta: f64) -> Result<()> {
    match theta.is_finite() && theta > 0.0 {
        true => Ok(()),
        false => Err(Error::spec("rotary.frequencies.theta", format!("is {theta}"), "give a finite number above 0")),
    }
}

/// How many parts of a patch EVA-02's positions count: as many as i32 has room for, where the grid is rescaled.
fn fractions(reference: Option<[u32; 2]>) -> Result<[f64; 2]> {
    let Some(reference) = reference else { return Ok([1.0; 2]) };
    patches(reference)?;
    if let Some(n) = reference.iter().find(|n| **n > 1 << 20) {
        return Err(Error::spec("reference", format!("has a side of {n}"), "give at most 2^20 patches"));
    }
    Ok(reference.map(|n| 2f64.powi(30 - n.ilog2() as i32)))
}

/// The pairs of half a head, of no more than [`picture`] takes.
fn pairs(head_dim: u32) -> std::ops::Range<u32> {
    0..head_dim.min(crate::equation::defaults::MAX_HEAD_DIM) / 4
}

/// `theta^(-4i / head_dim)` times a unit, a quarter of the head of them.
fn quarter(head_dim: u32, theta: f64, unit: f64) -> Vec<f64> {
    pairs(head_dim).map(|i| unit * theta.powf(-4.0 * i as f64 / head_dim as f64)).collect()
}

/// Rotation of a whole head, half of its pairs by each of two streams.
fn picture(
    pairing: Pairing,
    head_dim: u32,
    theta: f64,
    first: Vec<f64>,
    second: Vec<f64>,
    [a, b]: [u8; 2],
) -> Result<Rotary> {
    if head_dim == 0 || !head_dim.is_multiple_of(4) || head_dim > crate::equation::defaults::MAX_HEAD_DIM {
        let help = format!(
            "give a multiple of 4 up to {}: rows and columns share the pairs",
            crate::equation::defaults::MAX_HEAD_DIM
        );
        return Err(Error::spec("head_dim", format!("is {head_dim}"), help));
    }
    if !(theta.is_finite() && theta > 0.0) {
        return Err(Error::spec("rotary.frequencies.theta", format!("is {theta}"), "give a finite number above 0"));
    }
    let mut rotary = Rotary::new(pairing, head_dim, theta);
    rotary.streams = [vec![a; first.len()], vec![b; second.len()]].concat();
    rotary.frequencies = Frequencies::InvFreq([first, second].concat());
    Ok(rotary)
}

/// The number of patches of a grid.
fn patches([rows, columns]: [u32; 2]) -> Result<u64> {
    match rows as u64 * columns as u64 {
        0 => Err(Error::spec("grid", format!("is {rows} x {columns}"), "give at least one row and one column")),
        n if n > MAX_TOKENS => {
            Err(Error::spec("grid", format!("holds {n} patches"), format!("give at most {MAX_TOKENS}")))
        }
        n => Ok(n),
    }
}

/// The row (stream 0) and the column (stream 1) of every token of a picture, in the tokens' order.
///
/// ```
/// use ropewalk::PatchPositions;
/// let positions = PatchPositions::grid([2, 3])?.with_prefix(1)?; // a class token in front, unrotated
/// assert_eq!(positions.rows, [0, 0, 0, 0, 1, 1, 1]);
/// assert_eq!(positions.columns, [0, 0, 1, 2, 0, 1, 2]);
/// assert_eq!(positions.for_batch(2)?.len(), 2 * 2 * 7); // what `Inputs::q_positions` takes
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PatchPositions {
    /// Rows.
    pub rows: Vec<i32>,
    /// Columns.
    pub columns: Vec<i32>,
}

impl PatchPositions {
    /// `[rows, columns]` patches, row by row, counted from 0 (Pixtral, Gemma 4).
    ///
    /// # Errors
    /// [`Error::Spec`] for a `grid` without patches, or with more than 2^30.
    pub fn grid(grid: [u32; 2]) -> Result<Self> {
        Self::merged(grid, 1)
    }
    /// The same in blocks of `merge` x `merge` patches, which Qwen2-VL's merger joins: block by block, each row by row.
    ///
    /// # Errors
    /// Those of [`PatchPositions::grid`]; sides that are no multiples of `merge`.
    pub fn merged(grid: [u32; 2], merge: u32) -> Result<Self> {
        patches(grid)?;
        let [rows, columns] = grid;
        if merge == 0 || !rows.is_multiple_of(merge) || !columns.is_multiple_of(merge) {
            let help = format!("let both sides be multiples of merge = {merge}");
            return Err(Error::spec("grid", format!("is {rows} x {columns}"), help));
        }
        let blocks = (0..rows / merge).flat_map(move |y| (0..columns / merge).map(move |x| (y, x)));
        let inside = move || (0..merge).flat_map(move |y| (0..merge).map(move |x| (y, x)));
        let all = blocks.flat_map(move |(y, x)| inside().map(move |(dy, dx)| (merge * y + dy, merge * x + dx)));
        let (rows, columns) = all.map(|(y, x)| (y as i32, x as i32)).unzip();
        Ok(PatchPositions { rows, columns })
    }
    /// DINOv3's, for [`Rotary::dinov3`]: 2 row + 1 - rows, and likewise columns. Its class and register tokens stand in front:
    /// [`PatchPositions::with_prefix`].
    ///
    /// # Errors
    /// Those of [`PatchPositions::grid`].
    pub fn dinov3(grid: [u32; 2]) -> Result<Self> {
        let mut positions = Self::grid(grid)?;
        let [rows, columns] = grid.map(|n| n as i32);
        positions.rows.iter_mut().for_each(|y| *y = 2 * *y + 1 - rows);
        positions.columns.iter_mut().for_each(|x| *x = 2 * *x + 1 - columns);
        Ok(positions)
    }
    /// EVA-02's, for [`Rotary::eva02`] with the same `reference`: row / rows * reference in parts of a patch (2^26 of them for a
    /// reference of 16), and likewise columns. timm computes these coordinates in f32, up to 1e-6 off; they are the same
    /// here, and exact from there on. A class token stands in front: [`PatchPositions::with_prefix`].
    ///
    /// # Errors
    /// Those of [`PatchPositions::grid`] and [`Rotary::eva02`].
    pub fn eva02(grid: [u32; 2], reference: Option<[u32; 2]>) -> Result<Self> {
        let mut positions = Self::grid(grid)?;
        let (Some(of), parts) = (reference, fractions(reference)?) else { return Ok(positions) };
        for (s, stream) in [&mut positions.rows, &mut positions.columns].into_iter().enumerate() {
            for p in stream {
                let coordinate = *p as f32 / grid[s] as f32 * of[s] as f32;
                *p = (coordinate as f64 * parts[s]).round() as i32;
            }
        }
        Ok(positions)
    }
    /// Llama 4's, for [`Rotary::llama4_vision`]: counted from 1, and a class token behind the patches, at 0.
    ///
    /// # Errors
    /// Those of [`PatchPositions::grid`].
    pub fn llama4(grid: [u32; 2]) -> Result<Self> {
        let mut positions = Self::grid(grid)?;
        for stream in [&mut positions.rows, &mut positions.columns] {
            stream.iter_mut().for_each(|p| *p += 1);
            stream.push(0);
        }
        Ok(positions)
    }
    /// With so many tokens in front that do not rotate: their position is 0 in both streams, an angle of 0.
    ///
    /// # Errors
    /// [`Error::Input`] for more than 2^30 tokens in all.
    pub fn with_prefix(self, tokens: u32) -> Result<Self> {
        check_tokens("prefix", &[self.tokens() + tokens as u64])?;
        let before = |stream: Vec<i32>| [vec![0; tokens as usize], stream].concat();
        Ok(PatchPositions { rows: before(self.rows), columns: before(self.columns) })
    }
    /// `[2, batch, tokens]`: the same picture's positions for every sequence, as `Inputs::q_positions` and `k_positions` take
    /// them.
    ///
    /// # Errors
    /// As [`PatchPositions::with_prefix`].
    pub fn for_batch(&self, batch: u32) -> Result<Vec<i32>> {
        check_tokens("batch", &[self.tokens(), batch.into()])?;
        Ok([self.rows.repeat(batch as usize), self.columns.repeat(batch as usize)].concat())
    }
    fn tokens(&self) -> u64 {
        self.rows.len().max(self.columns.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::equation::rotary::rotary::Pairing;
    use crate::equation::rotary::rotary::Rotary;
    use crate::error::Result;
    use std::f64::consts::TAU;

    fn streams(order: Sections, pairs: u32, sections: [u32; 3]) -> Result<Vec<u8>> {
        Ok(Rotary::new(Pairing::Half, 2 * pairs, 1e4).with_sections(order, sections)?.streams)
    }

    #[test]
    fn sections() {
        assert_eq!(streams(Sections::Contiguous, 7, [2, 2, 3]).unwrap(), [0, 0, 1, 1, 2, 2, 2]);
        assert_eq!(streams(Sections::Interleaved, 7, [3, 2, 2]).unwrap(), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(streams(Sections::Interleaved, 8, [4, 2, 2]).unwrap(), [0, 1, 2, 0, 1, 2, 0, 0]);
        assert_eq!(streams(Sections::Alternating, 7, [2, 2, 3]).unwrap(), [1, 2, 1, 2, 0, 0, 0]);
        // one stream has no pair at all
        assert_eq!(streams(Sections::Contiguous, 3, [3, 0, 0]).unwrap(), [0, 0, 0]);
        for (order, pairs, sections) in [
            (Sections::Contiguous, 8, [2, 2, 3]),
            (Sections::Contiguous, 8, [u32::MAX, u32::MAX, 10]),
            (Sections::Interleaved, 8, [2, 3, 3]), // pair 8 would be width's
            (Sections::Alternating, 8, [3, 1, 4]),
        ] {
            let error = streams(order, pairs, sections).expect_err("wrong sections").to_string();
            assert!(error.contains("rotary.sections"), "{error}");
        }
    }

    #[test]
    fn pictures() {
        let pixtral = Rotary::pixtral(8, 16.0).unwrap();
        assert_eq!((pixtral.inv_freq(), pixtral.streams), (vec![1.0, 0.25, 0.5, 0.125], vec![0, 0, 1, 1]));
        let qwen = Rotary::qwen2_vl_vision(8, 16.0).unwrap();
        assert_eq!((qwen.inv_freq(), qwen.streams), (vec![1.0, 0.25, 1.0, 0.25], vec![0, 0, 1, 1]));
        assert_eq!(Rotary::llama4_vision(8, 16.0).unwrap().streams, [1, 1, 0, 0]);
        let eva = Rotary::eva02(4, 1e4, Some([16, 31])).unwrap();
        assert_eq!(eva.inv_freq(), [2f64.powi(-26); 2]);
        assert_eq!(Rotary::eva02(4, 1e4, None).unwrap().inv_freq(), [1.0, 1.0]);
        assert_eq!(Rotary::dinov3(4, 100.0, [2, 5]).unwrap().inv_freq(), [TAU / 2.0, TAU / 5.0]);
        for wrong in [
            Rotary::pixtral(6, 1e4),
            Rotary::qwen2_vl_vision(0, 1e4),
            Rotary::gemma4_vision(1 << 30, 1e4),
            Rotary::llama4_vision(8, 0.0),
            Rotary::pixtral(8, f64::NAN),
            Rotary::dinov3(8, 1e4, [0, 3]),
            Rotary::eva02(8, 1e4, Some([u32::MAX, u32::MAX])),
            Rotary::eva02(8, 1e4, Some([1, 1 << 21])),
        ] {
            wrong.expect_err("refused");
        }
    }

    #[test]
    fn axes() {
        let thirds = Rotary::axes(&[(4, 16.0), (2, 1e4), (4, 16.0)], Pairing::Listed).unwrap();
        assert_eq!(thirds.pairs, [[0, 2], [1, 3], [4, 5], [6, 8], [7, 9]]);
        assert_eq!((thirds.inv_freq(), thirds.streams), (vec![1.0, 0.25, 1.0, 1.0, 0.25], vec![0, 0, 1, 2, 2]));
        let wan = Rotary::wan(44).unwrap();
        assert_eq!((wan.stream(7), wan.stream(8), wan.stream(15)), (0, 1, 2));
        let ltx = Rotary::ltx(2, 8, 1e4).unwrap(); // width 16: two pairs stand still, then the axes in turn
        let sums = ltx.sums().unwrap();
        assert_eq!((sums.of(0, 1, 0, 4), sums.of(0, 2, 0, 4)), (&[0.0; 3][..], &[TAU / 4.0, 0.0, 0.0][..]));
        assert_eq!(sums.of(1, 1, 0, 4)[0], 1e4 * TAU / 4.0);
        let mixed = Rotary::rope_mixed(Pairing::Interleaved, 2, 1, &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(mixed.sums().unwrap().values, [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(mixed.with_units(&[0.5, 10.0]).sums().unwrap().values, [0.5, 30.0, 1.0, 40.0]);
        let jepa = Rotary::vjepa2(26, 16.0).unwrap(); // windows of 8: elements 2 and 3 have frequencies 2 and 3
        assert_eq!(jepa.sums().unwrap().of(0, 1, 1, 12), [16f64.powf(-0.75), 0.0, 0.0]);
        for wrong in [
            Rotary::axes(&[], Pairing::Half),
            Rotary::axes(&[(3, 1e4)], Pairing::Half),
            Rotary::axes(&[(4, 0.0)], Pairing::Half),
            Rotary::axes(&[(4, 1e4); 5], Pairing::Half),
            Rotary::axes(&[(u32::MAX - 1, 1e4); 2], Pairing::Half),
            Rotary::ltx(1, 8, 1e4),
            Rotary::ltx(u32::MAX, u32::MAX - 1, 1e4),
            Rotary::cosmos(6, [2.0; 3]),
            Rotary::rope_mixed(Pairing::Half, 2, 3, &[1.0; 5]),
            Rotary::vjepa2(5, 1e4),
        ] {
            wrong.expect_err("refused");
        }
    }

    #[test]
    fn units() {
        assert_eq!(fixed_point(&[0.0, -3.0, 7.0]), (1.0, vec![0, -3, 7]));
        assert_eq!(fixed_point(&[-1.0, -0.968, -0.9359999999999999]).1, [-125, -121, -117]);
        let (unit, positions) = fixed_point(&[0.1, std::f64::consts::PI, 1e-7]);
        assert!((positions[1] as f64 * unit - std::f64::consts::PI).abs() < 3e-9, "{unit}");
        assert_eq!(fixed_point(&[f64::NAN, f64::INFINITY]), (1.0, vec![0, 0]));
    }

    #[test]
    fn positions() {
        let dino = PatchPositions::dinov3([2, 3]).unwrap().with_prefix(1).unwrap();
        assert_eq!((dino.rows, dino.columns), (vec![0, -1, -1, -1, 1, 1, 1], vec![0, -2, 0, 2, -2, 0, 2]));
        let llama = PatchPositions::llama4([1, 2]).unwrap();
        assert_eq!(llama.for_batch(2).unwrap(), [1, 1, 0, 1, 1, 0, 1, 2, 0, 1, 2, 0]);
        let eva = PatchPositions::eva02([4, 5], Some([16, 31])).unwrap();
        assert_eq!(eva.rows[15], 12 << 26);
        assert_eq!(eva.columns[1], (1f32 / 5.0 * 31.0 * 2f32.powi(26)) as i32);
        assert_eq!(PatchPositions::eva02([2, 2], None), PatchPositions::grid([2, 2]));
        let merged = PatchPositions::merged([2, 4], 2).unwrap();
        assert_eq!((merged.rows, merged.columns), (vec![0, 0, 1, 1, 0, 0, 1, 1], vec![0, 1, 0, 1, 2, 3, 2, 3]));
        for wrong in
            [PatchPositions::grid([0, 1]), PatchPositions::merged([2, 3], 2), PatchPositions::merged([2, 2], 0)]
        {
            wrong.expect_err("refused");
        }
        PatchPositions::grid([u32::MAX, u32::MAX]).expect_err("too many");
        llama.for_batch(u32::MAX).expect_err("too many");
        llama.with_prefix(u32::MAX).expect_err("too many");
    }
}
