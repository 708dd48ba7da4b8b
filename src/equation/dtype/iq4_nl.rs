//! iq4_nl of ggml: 32 elements in 18 bytes, an f16 d and 32 numbers q of four bits; an element is d times the number that a table has for q.

use crate::equation::dtype::blocks::{Blocks, f16_at, half, inverse, largest, nibble, nibbles, scaled};
use crate::equation::dtype::off;

/// The table; `shaders/tensor/storage_iq4_nl.wgsl` holds the same.
const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

pub(crate) const IQ4_NL: Blocks = Blocks {
    elements: 32,
    bytes: 18,
    decode: |block, i| {
        let q = nibble(block, 2, i) as usize;
        scaled(f16_at(block, 0), VALUES.get(q).copied().unwrap_or(0) as i32)
    },
    // ggml's search of one step: the table's first number for the largest value, then the d of least squares, weighted by squares
    encode: |values| {
        let id = inverse(largest(values) / VALUES[0] as f32);
        let q: Vec<u32> = values.iter().map(|x| nearest(id * x)).collect();
        let (mut of_x, mut of_q) = (0.0f32, 0.0f32);
        for (x, q) in values.iter().zip(&q) {
            let (value, weight) = (VALUES[*q as usize] as f32, x * x);
            of_x += weight * value * x;
            of_q += weight * value * value;
        }
        let d = if of_q > 0.0 { of_x / of_q } else { 0.0 };
        half(d).into_iter().chain(nibbles(&q)).collect()
    },
    off: |values| off::least_squares(values, &VALUES),
};

/// The number of the table's value next to x, the larger one of two that are as near.
fn nearest(x: f32) -> u32 {
    let above = VALUES.iter().position(|v| x < *v as f32).unwrap_or(VALUES.len());
    match above {
        0 => 0,
        n if n == VALUES.len() => n as u32 - 1,
        n if x - (VALUES[n - 1] as f32) < VALUES[n] as f32 - x => n as u32 - 1,
        n => n as u32,
    }
}
