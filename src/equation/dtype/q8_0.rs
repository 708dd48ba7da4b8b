//! q8_0 of ggml: 32 elements in 34 bytes, an f16 d and 32 i8 q; an element is d q.

use crate::equation::dtype::blocks::{Blocks, byte, f16_at, half, inverse, largest, scaled};
use crate::equation::dtype::off;

pub(crate) const Q8_0: Blocks = Blocks {
    elements: 32,
    bytes: 34,
    decode: |block, i| scaled(f16_at(block, 0), byte(block, 2 + i) as i8 as i32),
    encode: |values| {
        let d = largest(values).abs() / 127.0;
        let id = inverse(d);
        let q = values.iter().map(|x| (x * id).round() as i8 as u8);
        half(d).into_iter().chain(q).collect()
    },
    off: |values| off::scaled(values, 127.0, 127.0),
};
