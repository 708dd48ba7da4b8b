//! q4_1 of ggml: 32 elements in 20 bytes, an f16 d, an f16 m and 32 numbers q of four bits; an element is d q + m.

use crate::equation::dtype::blocks::{Blocks, f16_at, half, inverse, nibble, nibbles, range, shifted};
use crate::equation::dtype::off;

pub(crate) const Q4_1: Blocks = Blocks {
    elements: 32,
    bytes: 20,
    decode: |block, i| shifted(f16_at(block, 0), f16_at(block, 2), nibble(block, 4, i)),
    encode: |values| {
        let [least, most] = range(values);
        let d = (most - least) / 15.0;
        let id = inverse(d);
        let q: Vec<u32> = values.iter().map(|x| (((x - least) * id + 0.5) as i8 as u8 as u32).min(15)).collect();
        half(d).into_iter().chain(half(least)).chain(nibbles(&q)).collect()
    },
    off: |values| off::shifted(values, 15.0),
};
