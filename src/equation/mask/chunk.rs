//! Keys of the same chunk as i' (Llama 4).

use crate::equation::mask::band::{Band, Text};
use std::ops::Range;

/// floor(j / keys) = floor(i' / keys).
pub(crate) struct Chunk {
    pub(crate) keys: u32,
}

impl Band for Chunk {
    fn field(&self) -> &'static str {
        "mask.chunk"
    }
    fn label(&self) -> &'static str {
        "chunk"
    }
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.keys == 0 { Err(("is 0", "give the keys of a chunk, or leave it out")) } else { Ok(()) }
    }
    fn keys(&self, at: i64) -> Range<i64> {
        let keys = self.keys.max(1) as i64;
        let first = at.div_euclid(keys) * keys;
        first..first + keys
    }
    fn jumps(&self) -> bool {
        true
    }
    fn text(&self) -> Text {
        let value = self.keys.min(1 << 30);
        Text { file: "equation/mask_chunk.wgsl", name: "same_chunk", constant: "MASK_CHUNK", value }
    }
}
