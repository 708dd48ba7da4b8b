//! q4_0 of ggml: 32 elements in 18 bytes, an f16 d and 32 numbers q of four bits; an element is d (q - 8).

use crate::equation::dtype::blocks::{Blocks, f16_at, half, inverse, largest, nibble, nibbles, scaled};
use crate::equation::dtype::off;

pub(crate) const Q4_0: Blocks = Blocks {
    elements: 32,
    bytes: 18,
    decode: |block, i| scaled(f16_at(block, 0), nibble(block, 2, i) as i32 - 8),
    encode: |values| {
        let d = largest(values) / -8.0;
        let id = inverse(d);
        let q: Vec<u32> = values.iter().map(|x| ((x * id + 8.5) as i8 as u8 as u32).min(15)).collect();
        half(d).into_iter().chain(nibbles(&q)).collect()
    },
    off: |values| off::scaled(values, 8.0, 7.0),
};
