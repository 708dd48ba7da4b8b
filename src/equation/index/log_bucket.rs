//! DeBERTa v2's logarithmic buckets.

use crate::equation::index::map::{Argument, Expression, Lookup, Map, Wrong, distance};

/// clamp(bucket(d) + buckets, 0, 2 * buckets - 1) of d = m - n.
pub(crate) struct LogBucket {
    pub(crate) buckets: u32,
    pub(crate) max_position: u32,
}

impl Map for LogBucket {
    fn name(&self) -> &'static str {
        "log bucket"
    }
    fn check(&self) -> Result<(), Wrong> {
        let LogBucket { buckets, max_position } = *self;
        if !(2..=1 << 16).contains(&buckets) {
            return Err((format!("{buckets} buckets"), "give 2 to 65536"));
        }
        if max_position as u64 <= buckets as u64 / 2 + 1 || max_position > 1 << 20 {
            return Err((
                format!("max_position {max_position}"),
                "give more than buckets / 2 + 1, at most 2^20 positions",
            ));
        }
        Ok(())
    }
    fn rows(&self) -> u64 {
        2 * self.buckets as u64
    }
    fn row(&self, m: [i32; 4], n: [i32; 4], _: bool) -> Option<u32> {
        Some(bucket_row(-distance(m, n, 0), [self.buckets, self.max_position]))
    }
    /// No more changes beyond the table than one: with mid = buckets / 2, above 1, the bucket of `max_position` is 2 mid or more, so the row
    /// is the last, on the other side 1 (odd numbers of buckets) or 0. With mid = 1 buckets stay 1.
    fn lookup(&self) -> Option<Lookup> {
        let LogBucket { buckets, max_position } = *self;
        let numbers = [buckets, max_position];
        let most = max_position as i64;
        let last = bucket_row(-most, numbers);
        // the nearest distance beyond the table with another row, 2^31 if there is none
        let (mut near, mut far) = (most, 1 << 31);
        while far - near > 1 {
            let middle = (near + far) / 2;
            match bucket_row(-middle, numbers) < last {
                true => far = middle,
                false => near = middle,
            }
        }
        let name = format!("buckets_{buckets}_{max_position}");
        Some(Lookup { name, row: bucket_row, numbers, most: most as i32, far: -far as i32 })
    }
    fn expression(&self) -> Expression {
        let (most, far) = self.lookup().map_or((0, 0), |lookup| (lookup.most, lookup.far));
        Expression {
            files: vec!["equation/index_lookup.wgsl", "equation/term_distance.wgsl"],
            function: "index_lookup",
            arguments: vec![Argument::text("-distance(at)"), Argument::Rows, Argument::Int(most), Argument::Int(far)],
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

/// The row of a distance m - n, of so many buckets and the `max_position`.
fn bucket_row(distance: i64, [buckets, max_position]: [u32; 2]) -> u32 {
    let n = buckets as i64;
    (log_bucket(distance, buckets, max_position).clamp(-n, n - 1) + n) as u32
}
