//! Elements in blocks, as k and v may hold them: what every such type has in common.
//!
//! Blocks of ggml's types begin at multiples of two bytes; their numbers are little-endian. What an element means is a real number, which the
//! reference takes exactly.

use crate::equation::dtype::off::Near;
use half::f16;

/// An element of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Element {
    /// What it means.
    pub(crate) value: f64,
    /// How far a device's may be from it: a scale that is a subnormal f16 may be read as 0, a sum is rounded to f32.
    pub(crate) lost: f64,
}

/// A type whose elements stand in blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    /// Elements of a block; 0: those of a row.
    pub(crate) elements: u32,
    /// Bytes of a block; of a row's, what stands in front of its elements, a byte each.
    pub(crate) bytes: u32,
    /// Of a block, its element.
    pub(crate) decode: fn(&[u8], usize) -> Element,
    /// A block of these values.
    pub(crate) encode: fn(&[f32]) -> Vec<u8>,
    /// How far from these values a device's block may be: see [`off`](crate::equation::dtype::off).
    pub(crate) off: fn(&[Near]) -> Vec<f64>,
}

impl Blocks {
    /// Elements and bytes of a block where rows have so many elements.
    pub(crate) fn of_rows(&self, dim: u32) -> [u32; 2] {
        match self.elements {
            0 => [dim.max(1), self.bytes.saturating_add(dim.max(1))],
            elements => [elements, self.bytes],
        }
    }
}

/// f16 from two bytes at a place of a block; 0 behind its end.
pub(crate) fn f16_at(block: &[u8], at: usize) -> f64 {
    f16::from_le_bytes([byte(block, at), byte(block, at + 1)]).to_f64()
}

pub(crate) fn byte(block: &[u8], at: usize) -> u8 {
    block.get(at).copied().unwrap_or(0)
}

/// The number of four bits of element i: the first sixteen elements stand in the low halves of sixteen bytes, the others in the high ones.
pub(crate) fn nibble(block: &[u8], first: usize, i: usize) -> u32 {
    (byte(block, first + i % 16) >> (4 * (i / 16))) as u32 & 15
}

/// The fifth bit of element i, of 32 of them.
pub(crate) fn fifth(block: &[u8], first: usize, i: usize) -> u32 {
    (byte(block, first + i / 8) as u32 >> (i % 8) & 1) << 4
}

/// d q, exact in f32.
pub(crate) fn scaled(d: f64, q: i32) -> Element {
    let value = d * q as f64;
    Element { value, lost: if flushes(d) { value.abs() } else { 0.0 } }
}

/// d q + m, rounded to f32 once.
pub(crate) fn shifted(d: f64, m: f64, q: u32) -> Element {
    let (product, rounding) = (d * q as f64, 1.0 / (1u64 << 24) as f64);
    let value = product + m;
    let small = |x: f64, size: f64| if flushes(x) { size.abs() } else { 0.0 };
    let lost = small(d, product) + small(m, m);
    Element { value, lost: lost + rounding * (value.abs() + lost) }
}

/// Whether a device may read it as 0.
fn flushes(x: f64) -> bool {
    x.abs() < 2f64.powi(-14)
}

/// The value that is largest in size, the first of several; 0 of nothing.
pub(crate) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, x| if x.abs() > most.abs() { *x } else { most })
}

/// The least and the largest value, the first of equal ones; infinities the wrong way round of nothing. NaN are passed over.
pub(crate) fn range(values: &[f32]) -> [f32; 2] {
    let wider =
        |[least, most]: [f32; 2], x: &f32| [if *x < least { *x } else { least }, if *x > most { *x } else { most }];
    values.iter().fold([f32::INFINITY, f32::NEG_INFINITY], wider)
}

/// 1 / d, 0 for 0.
pub(crate) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Two bytes of f16; one NaN for all of them.
pub(crate) fn half(x: f32) -> [u8; 2] {
    if x.is_nan() { f16::NAN.to_le_bytes() } else { f16::from_f32(x).to_le_bytes() }
}

/// Sixteen bytes of 32 numbers of four bits, as [`nibble`] reads them.
pub(crate) fn nibbles(q: &[u32]) -> impl Iterator<Item = u8> + '_ {
    let at = |i: usize| (q.get(i).copied().unwrap_or(0) & 15) as u8;
    (0..16).map(move |i| at(i) | at(i + 16) << 4)
}

/// Four bytes of the fifth bits of 32 numbers, as [`fifth`] reads them.
pub(crate) fn fifths(q: &[u32]) -> [u8; 4] {
    q.iter().enumerate().fold(0u32, |bits, (i, q)| bits | (q >> 4 & 1) << (i % 32)).to_le_bytes()
}
