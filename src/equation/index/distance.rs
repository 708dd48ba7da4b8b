//! Clipped or cut distances: Shaw, BERT, Transformer-XL, VITS, SAM.

use crate::equation::index::map::{Argument, Expression, Map, Wrong, distance};
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

/// clamp(d, min, max) - min of d = n - m, or of m - n.
pub(crate) struct Distance {
    pub(crate) min: i32,
    pub(crate) max: i32,
    pub(crate) outside: Outside,
    pub(crate) stream: u8,
    pub(crate) reversed: bool,
}

impl Map for Distance {
    fn name(&self) -> &'static str {
        "distance"
    }
    fn check(&self) -> Result<(), Wrong> {
        let Distance { min, max, stream, .. } = *self;
        if min > max || max as i64 - min as i64 >= 1 << 24 {
            let help = "let min be at most max, with fewer than 2^24 distances between them";
            return Err((format!("distances {min} to {max}"), help));
        }
        if stream > 2 {
            return Err((format!("stream {stream}"), "there are at most three position streams, 0 to 2"));
        }
        Ok(())
    }
    fn rows(&self) -> u64 {
        (self.max as i64 - self.min as i64 + 1).max(0) as u64
    }
    fn last_stream(&self) -> u8 {
        self.stream
    }
    fn row(&self, m: [i32; 4], n: [i32; 4], _: bool) -> Option<u32> {
        let d = distance(m, n, self.stream as usize) * if self.reversed { -1 } else { 1 };
        let (min, max) = (self.min as i64, self.max as i64);
        let inside = self.outside == Outside::Clip || (min..=max).contains(&d);
        inside.then(|| (d.clamp(min, max) - min) as u32)
    }
    fn expression(&self) -> Expression {
        let mut files = vec!["equation/index_distance.wgsl", "equation/term_distance.wgsl"];
        let sign = if self.reversed { "-" } else { "" };
        let distance = match self.stream {
            0 => format!("{sign}distance(at)"),
            stream => {
                files.push("equation/index_streams.wgsl");
                format!("{sign}stream_distance(at, {stream}u)")
            }
        };
        let function = match self.outside {
            Outside::Clip => "index_clipped",
            Outside::Zero => "index_inside",
        };
        let arguments = vec![Argument::Text(distance), Argument::Int(self.min), Argument::Int(self.max)];
        Expression { files, function, arguments }
    }
}
