//! Exact phase: the angle of a position as an integer fraction of a turn.
//!
//! `position * inv_freq` in f32 is wrong by 7.8e-3 rad at position 131 072 (theta 10 000). Integers wrap exactly: with
//! `inc = round(inv_freq / 2pi * 2^64)`, `position * inc mod 2^64` is the phase in turns at every 32-bit position, the
//! same on every device. The shaders do this in u32 limbs (`shaders/equation/angle_exact.wgsl`); the reference uses 2^128.
//!
//! The nearest quarter turn and two polynomials (`shaders/equation/angle_sincos.wgsl`) then give cos and sin without the driver's, which
//! WGSL promises to 2^-11, and only near 0.

/// 1 / (2 pi) as a 256-bit fraction, most significant limb first.
const INV_TWO_PI: [u64; 4] =
    [0x28be_60db_9391_054a, 0x7f09_d5f4_7d4d_3770, 0x36d8_a566_4f10_e410, 0x7f94_58ea_f7ae_f158];

/// `round(inv_freq / 2pi * 2^bits) mod 2^bits` for bits <= 128, with `inv_freq` (radians per position, at most 65 536
/// in size) taken as an exact real: the product with 1/2pi keeps 256 bits.
fn turn_increment(inv_freq: f64, bits: u32) -> u128 {
    let x = inv_freq.abs();
    let (mantissa, exponent) = decode(x);
    // product = mantissa * INV_TWO_PI, little-endian limbs, scaled by 2^(exponent - 256)
    let mut product = [0u64; 6];
    let mut carry = 0u128;
    for (i, limb) in INV_TWO_PI.iter().rev().enumerate() {
        let p = mantissa as u128 * *limb as u128 + carry;
        product[i] = p as u64;
        carry = p >> 64;
    }
    product[4] = carry as u64;
    let shift = 256 - exponent - bits as i32;
    let bit = |n: i32| -> u128 {
        match n {
            0..384 => (product[n as usize / 64] >> (n % 64)) as u128 & 1,
            _ => 0,
        }
    };
    let mut inc = (0..bits as i32).fold(0u128, |inc, n| inc | bit(shift + n) << n);
    inc = inc.wrapping_add(bit(shift - 1));
    if inv_freq < 0.0 {
        inc = inc.wrapping_neg();
    }
    if bits == 128 { inc } else { inc & ((1 << bits) - 1) }
}

/// x = mantissa * 2^exponent, exactly.
fn decode(x: f64) -> (u64, i32) {
    let bits = x.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32 & 0x7ff, bits & ((1 << 52) - 1));
    if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) }
}

/// The 64-bit turn increment that the shaders take: `round(inv_freq / 2pi * 2^64)`.
pub fn increment(inv_freq: f64) -> u64 {
    turn_increment(inv_freq, 64) as u64
}

/// The phase that the shaders compute: the upper half of `position * increment mod 2^64`, at most 2^-32 turns
/// (1.5e-9 rad) below the product itself.
pub fn phase(position: i32, increment: u64) -> u32 {
    let (p, hi, lo) = (position as u32, (increment >> 32) as u32, increment as u32);
    let product = p.wrapping_mul(hi).wrapping_add(((p as u64 * lo as u64) >> 32) as u32);
    if position < 0 { product.wrapping_sub(lo) } else { product }
}

/// The reference's own path: cos and sin of `position * inv_freq`, through a 128-bit increment.
pub(crate) struct ExactAngle {
    increment: u128,
}

impl ExactAngle {
    pub(crate) fn new(inv_freq: f64) -> Self {
        ExactAngle { increment: turn_increment(inv_freq, 128) }
    }
    pub(crate) fn cos_sin(&self, position: i32) -> (f64, f64) {
        Self::sum(std::slice::from_ref(self), &[position])
    }
    /// cos and sin of the sum of `position * inv_freq` of several positions.
    pub(crate) fn sum(angles: &[ExactAngle], positions: &[i32]) -> (f64, f64) {
        let one = |(angle, position): (&ExactAngle, &i32)| (*position as i128 as u128).wrapping_mul(angle.increment);
        let turns = angles.iter().zip(positions).map(one).fold(0, u128::wrapping_add) as i128;
        let angle = turns as f64 * 2f64.powi(-128) * std::f64::consts::TAU;
        (angle.cos(), angle.sin())
    }
}
