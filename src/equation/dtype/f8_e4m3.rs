//! fp8 e4m3 (Micikevicius et al. 2022, OCP's E4M3): a sign, four bits of an exponent from 2^-6 on, three of a significand; the largest number is
//! 448, all ones is NaN, and there is no infinity. Four elements are a block, so that rows are whole words.

use crate::equation::dtype::blocks::{Blocks, Element, byte};
use crate::equation::dtype::off;

pub(crate) const F8_E4M3: Blocks = Blocks {
    elements: 4,
    bytes: 4,
    decode: |block, i| Element { value: widened(byte(block, i)), lost: 0.0 },
    encode: |values| values.iter().map(|x| narrowed(*x)).collect(),
    off: |values| off::e4m3(values),
};

fn widened(bits: u8) -> f64 {
    let (exponent, significand) = ((bits >> 3 & 15) as i32, (bits & 7) as f64);
    let size = match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => significand * 2f64.powi(-9),
        _ => (8.0 + significand) * 2f64.powi(exponent - 10),
    };
    if bits >= 128 { -size } else { size }
}

/// To nearest, ties to even; what is larger than all numbers is the largest.
fn narrowed(x: f32) -> u8 {
    let sign = if x.is_sign_negative() { 128 } else { 0 };
    if x.is_nan() {
        return 127;
    }
    let size = (x.abs() as f64).min(448.0);
    // the unit of the last place, of subnormals 2^-9
    let exponent = if size < 2f64.powi(-6) { -9 } else { (size.log2().floor() as i32).max(-6) - 3 };
    let units = (size / 2f64.powi(exponent)).round_ties_even() as i32; // 16 is the next exponent's 8
    let bits = if exponent == -9 && units < 8 { units } else { (exponent + 9) * 8 + units };
    sign | bits.min(126) as u8
}
