//! q5_1 of ggml: 32 elements in 24 bytes, an f16 d, an f16 m, the fifth bits of 32 numbers q in four bytes and their other four bits; an
//! element is d q + m.

use crate::equation::dtype::blocks::{Blocks, f16_at, fifth, fifths, half, inverse, nibble, nibbles, range, shifted};
use crate::equation::dtype::off;

pub(crate) const Q5_1: Blocks = Blocks {
    elements: 32,
    bytes: 24,
    decode: |block, i| shifted(f16_at(block, 0), f16_at(block, 2), nibble(block, 8, i) | fifth(block, 4, i)),
    encode: |values| {
        let [least, most] = range(values);
        let d = (most - least) / 31.0;
        let id = inverse(d);
        let q: Vec<u32> = values.iter().map(|x| ((x - least) * id + 0.5) as u8 as u32).collect();
        half(d).into_iter().chain(half(least)).chain(fifths(&q)).chain(nibbles(&q)).collect()
    },
    off: |values| off::shifted(values, 31.0),
};
