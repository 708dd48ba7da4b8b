//! What every mask says of itself that goes by the indices of query and key alone; each is a file beside this one.

use std::ops::Range;

/// A mask of i' and j: the keys that a row sees are a range.
pub(crate) trait Band {
    /// Its field of a spec.
    fn field(&self) -> &'static str;
    /// A word for labels and reports.
    fn label(&self) -> &'static str;
    /// What is wrong with its number, and what to give instead.
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        Ok(())
    }
    /// The keys that a row at i' sees, of all that there might be.
    fn keys(&self, at: i64) -> Range<i64>;
    /// Whether it is j <= i' and nothing else.
    fn causal(&self) -> bool {
        false
    }
    /// Whether rows that follow each other may see ranges that are no continuation of each other, so that tiles of which some row does not see
    /// some key lie anywhere.
    fn jumps(&self) -> bool {
        false
    }
    /// Its file, the beginning of what that declares (`_visible`, `_keys`, `_full`), and its constant.
    fn text(&self) -> Text;
}

/// How a kernel has a mask.
pub(crate) struct Text {
    pub(crate) file: &'static str,
    pub(crate) name: &'static str,
    pub(crate) constant: &'static str,
    pub(crate) value: u32,
}

/// No index exceeds 2^30, so that a wider window is open.
pub(crate) fn reach(keys: u32) -> u32 {
    keys.min((1 << 30) - 1)
}
