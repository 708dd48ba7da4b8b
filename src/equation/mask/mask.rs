//! The fields of a spec that say which keys a query sees, and the one `match` over those that go by index.

use crate::equation::mask::alignment::Alignment;
use crate::equation::mask::band::Band;
use crate::equation::mask::chunk::Chunk;
use crate::equation::mask::left::Left;
use crate::equation::mask::right::Right;
use serde::Deserialize;
use serde::Serialize;
use std::ops::{Deref, Range};

/// Which keys a query sees: by index, never by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Mask {
    /// j <= i'.
    #[serde(default)]
    pub causal: bool,
    /// How i' comes from i.
    #[serde(default)]
    pub alignment: Alignment,
    /// i' - left <= j.
    #[serde(default)]
    pub window_left: Option<u32>,
    /// j <= i' + right.
    #[serde(default)]
    pub window_right: Option<u32>,
    /// floor(j / chunk) = floor(i' / chunk) (Llama 4).
    #[serde(default)]
    pub chunk: Option<u32>,
    /// A boolean tensor `mask` (true: attend) is among the inputs.
    #[serde(default)]
    pub dense: bool,
}

impl Mask {
    /// Every key.
    pub fn none() -> Self {
        Self::default()
    }
    /// j <= i', aligned bottom-right.
    pub fn causal() -> Self {
        Mask { causal: true, ..Self::default() }
    }
    /// The masks that go by i' and j alone.
    pub(crate) fn bands(&self) -> impl Iterator<Item = IndexMask> + use<> {
        let window = if self.causal { Some(0) } else { self.window_right };
        let right = window.map(|window| Right { window, causal: self.causal, alignment: self.alignment });
        let left = self.window_left.map(|window| Left { window });
        let chunk = self.chunk.map(|keys| Chunk { keys });
        [right.map(IndexMask::Right), left.map(IndexMask::Left), chunk.map(IndexMask::Chunk)].into_iter().flatten()
    }
    /// The keys of `keys` that a row at i' sees by index; where there is none, a range that ends before it begins may stand for it.
    pub(crate) fn keys(&self, at: i64, keys: Range<i64>) -> Range<i64> {
        self.bands().map(|band| band.keys(at)).fold(keys, |a, b| a.start.max(b.start)..a.end.min(b.end))
    }
}

/// A mask that goes by index.
pub(crate) enum IndexMask {
    Right(Right),
    Left(Left),
    Chunk(Chunk),
}

impl Deref for IndexMask {
    type Target = dyn Band;
    fn deref(&self) -> &Self::Target {
        match self {
            IndexMask::Right(mask) => mask,
            IndexMask::Left(mask) => mask,
            IndexMask::Chunk(mask) => mask,
        }
    }
}
