//! The enum of index maps, and the one `match` over it.

use crate::equation::index::distance::{Distance, Outside};
use crate::equation::index::grid::Grid;
use crate::equation::index::log_bucket::LogBucket;
use crate::equation::index::map::{Expression, Lookup, Map};
use crate::equation::index::segment::Segment;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::Serialize;

/// r(m, n): which row of a table a query at m and a key at n read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum IndexMap {
    /// clamp(d, min, max) - min of the distance d = n - m.
    Distance {
        /// The distance of row 0.
        min: i32,
        /// The distance of the last row.
        max: i32,
        /// What lies outside.
        #[serde(default)]
        outside: Outside,
        /// The position stream: 0, or another of several.
        #[serde(default)]
        stream: u8,
        /// d = m - n instead (BERT, SpeechT5, SAM).
        #[serde(default)]
        reversed: bool,
    },
    /// DeBERTa v2's logarithmic buckets of d = m - n: clamp(bucket(d) + buckets, 0, 2 * buckets - 1).
    LogBucket {
        /// Rows of one side (`position_buckets`).
        buckets: u32,
        /// The distance that the last bucket of even `buckets` begins at (`max_relative_positions`); of odd ones one more begins
        /// farther away.
        max_position: u32,
    },
    /// Two-dimensional windows (Swin, BEiT): dy = m_0 - n_0, dx = m_1 - n_1 of the position streams 0 (row) and 1 (column):
    /// (dy + height - 1) * (2 * width - 1) + dx + width - 1.
    Grid {
        /// Rows of the window.
        height: u32,
        /// Columns of the window.
        width: u32,
        /// Three more rows for tokens outside the grid, those with a negative position: from such a token to the grid, from the grid to
        /// it, between two of them (BEiT's class token).
        #[serde(default)]
        class: bool,
    },
    /// 0 for tokens of the same segment, 1 for others (XLNet); needs `q_segments` and `k_segments`.
    Segment,
}

impl IndexMap {
    /// Distances n - m from min to max, clipped.
    pub fn distance(min: i32, max: i32) -> Self {
        IndexMap::Distance { min, max, outside: Outside::Clip, stream: 0, reversed: false }
    }
    /// Distances m - n from min to max, clipped.
    pub fn reversed(min: i32, max: i32) -> Self {
        IndexMap::Distance { min, max, outside: Outside::Clip, stream: 0, reversed: true }
    }

    /// Asks the map of its kind: the one match. Nothing is allocated, since the reference asks for every score.
    fn ask<R>(&self, question: impl FnOnce(&dyn Map) -> R) -> R {
        match *self {
            IndexMap::Distance { min, max, outside, stream, reversed } => {
                question(&Distance { min, max, outside, stream, reversed })
            }
            IndexMap::LogBucket { buckets, max_position } => question(&LogBucket { buckets, max_position }),
            IndexMap::Grid { height, width, class } => question(&Grid { height, width, class }),
            IndexMap::Segment => question(&Segment),
        }
    }

    /// Rows of the table.
    pub fn rows(&self) -> u64 {
        self.ask(|map| map.rows())
    }
    /// The highest position stream that it reads.
    pub fn last_stream(&self) -> u8 {
        self.ask(|map| map.last_stream())
    }
    /// Whether it reads the tokens' segments.
    pub fn segments(&self) -> bool {
        self.ask(|map| map.segments())
    }
    /// The row of query positions m and key positions n (each of the streams), or none outside.
    pub(crate) fn row(&self, m: [i32; 4], n: [i32; 4], same_segment: bool) -> Option<u32> {
        self.ask(|map| map.row(m, n, same_segment))
    }
    /// How a device finds the row; none where it computes it.
    pub(crate) fn lookup(&self) -> Option<Lookup> {
        self.ask(|map| map.lookup())
    }
    /// What a kernel calls.
    pub(crate) fn expression(&self) -> Expression {
        self.ask(|map| map.expression())
    }
    pub(crate) fn validate(&self, field: &str) -> Result<()> {
        self.ask(|map| map.check()).map_err(|(problem, help)| Error::spec(field, problem, help))
    }
    /// A word for labels and reports.
    pub(crate) fn name(&self) -> &'static str {
        self.ask(|map| map.name())
    }
}

/// A side of a parameter: 2^32 rows and more, which no valid spec has, are as many as a side may hold.
pub(crate) fn words(rows: u64) -> u32 {
    rows.try_into().unwrap_or(u32::MAX)
}
