//! C: relative biases. Whatever is discontinuous in position (T5's buckets) becomes a table here, on the host.

use crate::{AlibiForm, Bias, Error, Result, Spec};

/// A bias term ready to be evaluated: tables over distances, slopes scaled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TermData {
    /// `values[head][clamp(n - m, min, max) - min]`.
    Table { min: i32, max: i32, values: Vec<f32> },
    /// One slope for each head.
    Alibi { form: AlibiForm, slopes: Vec<f64> },
}

impl TermData {
    /// C_h at positions m and n; `last` is kv_len - 1.
    pub(crate) fn value(&self, head: u32, m: i32, n: i32, last: i64) -> f64 {
        // saturated to 32 bits, as the shaders do
        let saturate = |distance: i64| distance.clamp(-(i32::MAX as i64), i32::MAX as i64);
        let distance = saturate(n as i64 - m as i64);
        match self {
            TermData::Table { min, max, values } => {
                let rows = (max - min + 1) as usize;
                let row = distance.clamp(*min as i64, *max as i64) - *min as i64;
                values[head as usize * rows + row as usize] as f64
            }
            TermData::Alibi { form, slopes } => {
                let x = match form {
                    AlibiForm::Relative => distance,
                    AlibiForm::Symmetric => -distance.abs(),
                    AlibiForm::KeyPosition => n as i64,
                    AlibiForm::KeyFromEnd => saturate(n as i64 - last),
                };
                slopes[head as usize] * x as f64
            }
        }
    }
}

/// Expands the spec's bias terms with the caller's tables.
pub(crate) fn resolve(spec: &Spec, tables: &[Vec<f32>]) -> Result<Vec<TermData>> {
    let heads = spec.num_heads as usize;
    let mut tables = tables.iter().enumerate();
    let mut table = |what: &str, rows: usize| match tables.next() {
        Some((_, t)) if t.len() == rows * heads => Ok(t),
        Some((i, t)) => Err(Error::input(
            if i == 0 { "bias_table".into() } else { format!("bias_table_{i}") },
            format!("{} values", t.len()),
            format!("give {what}: {rows} rows for {heads} heads"),
        )),
        None => Err(Error::input("bias_table", "is missing", format!("give {what}: {rows} rows for {heads} heads"))),
    };
    spec.bias
        .iter()
        .map(|bias| match bias {
            Bias::Table { min, max } => {
                let rows = (max - min + 1) as usize;
                let values = table("[num_heads, max - min + 1]", rows)?.clone();
                Ok(TermData::Table { min: *min, max: *max, values })
            }
            Bias::T5 { num_buckets, max_distance, bidirectional } => {
                let t = table("[num_buckets, num_heads]", *num_buckets as usize)?;
                let (min, max) = distances(bias);
                let bucket = |d: i32| t5_bucket(d, *num_buckets, *max_distance, *bidirectional) as usize;
                let values = (0..heads).flat_map(|h| (min..=max).map(move |d| t[bucket(d) * heads + h])).collect();
                Ok(TermData::Table { min, max, values })
            }
            Bias::Alibi { form, .. } => Ok(TermData::Alibi { form: *form, slopes: slopes(bias, spec.num_heads) }),
        })
        .collect()
}

/// The distances n - m, first and last, that have a row of their own in a term's table.
pub(crate) fn distances(bias: &Bias) -> (i32, i32) {
    match bias {
        Bias::Table { min, max } => (*min, *max),
        Bias::T5 { max_distance, bidirectional, .. } => {
            let far = *max_distance as i32;
            (-far, if *bidirectional { far } else { 0 })
        }
        Bias::Alibi { .. } => (0, 0),
    }
}

/// ALiBi's slopes with their scale; none for other terms.
pub(crate) fn slopes(bias: &Bias, num_heads: u32) -> Vec<f64> {
    match bias {
        Bias::Alibi { slopes: Some(s), scale, .. } => s.iter().map(|s| *s as f64 * scale).collect(),
        Bias::Alibi { slopes: None, scale, .. } => alibi_slopes(num_heads).iter().map(|s| s * scale).collect(),
        Bias::Table { .. } | Bias::T5 { .. } => Vec::new(),
    }
}

/// T5's bucket of the distance `k_position - q_position` (Raffel et al. 2020, section 2.1): distances below half of
/// one side's buckets have a bucket each, larger ones share logarithmically, all from `max_distance` on the last.
///
/// Distances that fall on a bucket's edge belong to the upper bucket, as a correctly rounded logarithm says.
pub fn t5_bucket(distance: i32, num_buckets: u32, max_distance: u32, bidirectional: bool) -> u32 {
    let (n, base, rel) = if bidirectional {
        let n = num_buckets / 2;
        (n, if distance > 0 { n } else { 0 }, distance.unsigned_abs())
    } else {
        (num_buckets, 0, if distance < 0 { distance.unsigned_abs() } else { 0 })
    };
    let max_exact = n / 2;
    if rel < max_exact {
        return base + rel;
    }
    let step = (rel as f64 / max_exact as f64).ln() / (max_distance as f64 / max_exact as f64).ln();
    // 1e-9 lifts a quotient that is an integer but for rounding; no other quotient comes that close.
    let large = max_exact + (step * (n - max_exact) as f64 + 1e-9) as u32;
    base + large.min(n - 1)
}

/// ALiBi's slopes (Press et al. 2022): `2^(-8k/n)` for n heads that are a power of two; else those of the lower power
/// and then every other slope of the doubled one.
pub fn alibi_slopes(num_heads: u32) -> Vec<f64> {
    let lower = 1 << num_heads.max(1).ilog2();
    let slope = |n: u32, k: u32| 2f64.powf(-8.0 * k as f64 / n as f64);
    let mut slopes: Vec<f64> = (1..=lower).map(|k| slope(lower, k)).collect();
    slopes.extend((0..num_heads - lower).map(|k| slope(2 * lower, 2 * k + 1)));
    slopes
}
