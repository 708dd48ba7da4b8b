//! r(m, n): which row of a table a pair of positions reads.

use crate::error::{Error, Result};
use serde::Deserialize;
use serde::Serialize;

/// What a distance outside the table gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outside {
    /// The nearest row (Shaw).
    #[default]
    Clip,
    /// Nothing (VITS).
    Zero,
}

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
    /// Rows of the table.
    pub fn rows(&self) -> u64 {
        match *self {
            IndexMap::Distance { min, max, .. } => (max as i64 - min as i64 + 1).max(0) as u64,
            IndexMap::LogBucket { buckets, .. } => 2 * buckets as u64,
            IndexMap::Grid { height, width, class } => {
                let span = |n: u32| (2 * n as u64).saturating_sub(1);
                span(height).saturating_mul(span(width)).saturating_add(if class { 3 } else { 0 })
            }
            IndexMap::Segment => 2,
        }
    }
    /// The highest position stream that it reads.
    pub fn last_stream(&self) -> u8 {
        match self {
            IndexMap::Distance { stream, .. } => *stream,
            IndexMap::Grid { .. } => 1,
            IndexMap::LogBucket { .. } | IndexMap::Segment => 0,
        }
    }
    /// Whether it reads the tokens' segments.
    pub fn segments(&self) -> bool {
        *self == IndexMap::Segment
    }

    /// The row of query positions m and key positions n (each of the streams), or none outside.
    pub(crate) fn row(&self, m: [i32; 3], n: [i32; 3], same_segment: bool) -> Option<u32> {
        // saturated to 32 bits, as the shaders do
        let distance = |s: usize| (n[s] as i64 - m[s] as i64).clamp(-(i32::MAX as i64), i32::MAX as i64);
        match *self {
            IndexMap::Distance { min, max, outside, stream, reversed } => {
                let d = distance(stream as usize) * if reversed { -1 } else { 1 };
                let (min, max) = (min as i64, max as i64);
                let inside = outside == Outside::Clip || (min..=max).contains(&d);
                inside.then(|| (d.clamp(min, max) - min) as u32)
            }
            IndexMap::LogBucket { buckets, max_position } => Some(bucket_row(-distance(0), buckets, max_position)),
            IndexMap::Grid { height, width, class } => {
                let plane = (2 * height - 1) * (2 * width - 1);
                match (class && m[0] < 0, class && n[0] < 0) {
                    (true, false) => return Some(plane),
                    (false, true) => return Some(plane + 1),
                    (true, true) => return Some(plane + 2),
                    (false, false) => {}
                }
                let side = |s: usize, n: u32| {
                    let n = n as i64;
                    (-distance(s)).clamp(1 - n, n - 1) + n - 1
                };
                Some((side(0, height) * (2 * width as i64 - 1) + side(1, width)) as u32)
            }
            IndexMap::Segment => Some(!same_segment as u32),
        }
    }

    /// How a device finds the row; none where it computes it.
    pub(crate) fn lookup(&self) -> Option<Lookup> {
        let IndexMap::LogBucket { buckets, max_position } = *self else { return None };
        let most = max_position as i64;
        let last = bucket_row(-most, buckets, max_position);
        // the nearest distance beyond the table with another row, 2^31 if there is none
        let (mut near, mut far) = (most, 1 << 31);
        while far - near > 1 {
            let middle = (near + far) / 2;
            match bucket_row(-middle, buckets, max_position) < last {
                true => far = middle,
                false => near = middle,
            }
        }
        Some(Lookup { map: *self, most: most as i32, far: -far as i32 })
    }

    pub(crate) fn validate(&self, field: &str) -> Result<()> {
        let wrong = |problem: String, help: &str| Err(Error::spec(field, problem, help));
        match *self {
            IndexMap::Distance { min, max, stream, .. } => {
                if min > max || max as i64 - min as i64 >= 1 << 24 {
                    return wrong(
                        format!("distances {min} to {max}"),
                        "let min be at most max, with fewer than 2^24 distances between them",
                    );
                }
                if stream > 2 {
                    return wrong(format!("stream {stream}"), "there are at most three position streams, 0 to 2");
                }
            }
            IndexMap::LogBucket { buckets, max_position } => {
                if !(2..=1 << 16).contains(&buckets) {
                    return wrong(format!("{buckets} buckets"), "give 2 to 65536");
                }
                if max_position as u64 <= buckets as u64 / 2 + 1 || max_position > 1 << 20 {
                    return wrong(
                        format!("max_position {max_position}"),
                        "give more than buckets / 2 + 1, at most 2^20 positions",
                    );
                }
            }
            IndexMap::Grid { height, width, .. } => {
                if !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width) {
                    return wrong(format!("a window of {height} x {width}"), "give sides from 1 to 2048");
                }
            }
            IndexMap::Segment => {}
        }
        Ok(())
    }

    /// A word for labels and reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            IndexMap::Distance { .. } => "distance",
            IndexMap::LogBucket { .. } => "log bucket",
            IndexMap::Grid { .. } => "grid",
            IndexMap::Segment => "segment",
        }
    }
}

/// DeBERTa v2's bucket of a distance (He et al. 2021): itself up to half of the buckets, beyond that
/// sign(d) * (mid + ceil(ln(|d| / mid) / ln((max_position - 1) / mid) * (mid - 1))).
pub fn log_bucket(distance: i64, buckets: u32, max_position: u32) -> i64 {
    let mid = (buckets / 2) as i64;
    let size = distance.unsigned_abs();
    if size <= mid as u64 || mid == 0 {
        return distance;
    }
    let step = (size as f64 / mid as f64).ln() / ((max_position as f64 - 1.0) / mid as f64).ln();
    // 1e-9 lowers a quotient that is an integer but for rounding; no other quotient comes that close.
    let bucket = mid.saturating_add((step * (mid as f64 - 1.0) - 1e-9).ceil() as i64);
    distance.signum() * bucket
}

/// The longest side of a window of [`IndexMap::Grid`].
pub(crate) const MAX_SIDE: u32 = 1 << 11;

/// The row of [`IndexMap::LogBucket`] of a distance m - n.
pub(crate) fn bucket_row(distance: i64, buckets: u32, max_position: u32) -> u32 {
    let n = buckets as i64;
    (log_bucket(distance, buckets, max_position).clamp(-n, n - 1) + n) as u32
}

/// How a device finds the row of a distance m - n that only the host can compute: from a table of the distances from -`most` to `most`,
/// beyond which it takes the nearer end; from `far` down the row is one less.
///
/// No more changes beyond the table: with mid = buckets / 2, above 1, the bucket of `max_position` is 2 mid or more, so the row is the last,
/// on the other side 1 (odd numbers of buckets) or 0. With mid = 1 buckets stay 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) map: IndexMap,
    pub(crate) most: i32,
    pub(crate) far: i32,
}

impl Lookup {
    /// Entries of the table.
    pub(crate) fn len(&self) -> u64 {
        2 * self.most as u64 + 1
    }
    /// The table. Rows are below 2^24, so f32 holds them exactly.
    pub(crate) fn rows(&self) -> Vec<f32> {
        let IndexMap::LogBucket { buckets, max_position } = self.map else { return Vec::new() };
        let most = self.most as i64;
        (-most..=most).map(|d| bucket_row(d, buckets, max_position) as f32).collect()
    }
}

/// A side of a parameter: 2^32 rows and more, which no valid spec has, are as many as a side may hold.
pub(crate) fn words(rows: u64) -> u32 {
    rows.try_into().unwrap_or(u32::MAX)
}
