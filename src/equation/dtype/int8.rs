//! int8 with one scale a row and head: an f32 d in front of the row's i8 q; an element is d q.

use crate::equation::dtype::blocks::{Blocks, Element, byte, inverse, largest};
use crate::equation::dtype::off;

pub(crate) const INT8: Blocks = Blocks {
    elements: 0,
    bytes: 4,
    decode: |block, i| {
        let d = f32::from_le_bytes([0, 1, 2, 3].map(|at| byte(block, at)));
        let value = d as f64 * (byte(block, 4 + i) as i8) as f64;
        let flushed =
            if value.abs() < f32::MIN_POSITIVE as f64 || d.abs() < f32::MIN_POSITIVE { value.abs() } else { 0.0 };
        Element { value, lost: flushed + value.abs() / (1u64 << 24) as f64 }
    },
    encode: |values| {
        let d = largest(values).abs() / 127.0;
        let id = inverse(d);
        let q = values.iter().map(|x| (x * id).round() as i8 as u8);
        d.to_le_bytes().into_iter().chain(q).collect()
    },
    off: |values| off::rows(values),
};
