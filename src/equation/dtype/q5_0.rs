//! q5_0 of ggml: 32 elements in 22 bytes, an f16 d, the fifth bits of 32 numbers q in four bytes and their other four bits; an element is
//! d (q - 16).

use crate::equation::dtype::blocks::{Blocks, f16_at, fifth, fifths, half, inverse, largest, nibble, nibbles, scaled};
use crate::equation::dtype::off;

pub(crate) const Q5_0: Blocks = Blocks {
    elements: 32,
    bytes: 22,
    decode: |block, i| scaled(f16_at(block, 0), (nibble(block, 6, i) | fifth(block, 2, i)) as i32 - 16),
    encode: |values| {
        let d = largest(values) / -16.0;
        let id = inverse(d);
        let q: Vec<u32> = values.iter().map(|x| ((x * id + 16.5) as i8 as u8 as u32).min(31)).collect();
        half(d).into_iter().chain(fifths(&q)).chain(nibbles(&q)).collect()
    },
    off: |values| off::scaled(values, 16.0, 15.0),
};
