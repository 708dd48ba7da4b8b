//! C: relative biases. Whatever is discontinuous in position (T5's buckets) becomes a table here, on the host.

use crate::terms::{IndexMap, Parameter};
use crate::{AlibiForm, Bias, Error, Result, Spec};
use std::collections::BTreeMap;

/// A bias term ready to be evaluated: tables over rows of an index map, slopes scaled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TermData {
    /// `values[head][clamp(n - m, min, max) - min]`.
    Table { min: i32, max: i32, values: Vec<f64> },
    /// `values[head][r(m, n)]`.
    Indexed { index: IndexMap, values: Vec<f64> },
    /// One slope for each head.
    Alibi { form: AlibiForm, slopes: Vec<f64> },
}

/// Where a score stands, as terms of the reference ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) batch: u32,
    pub(crate) head: u32,
    /// Query row.
    pub(crate) i: u32,
    /// m and n of every stream.
    pub(crate) m: [i32; 3],
    pub(crate) n: [i32; 3],
    pub(crate) same_segment: bool,
    /// kv_len - 1.
    pub(crate) last: i64,
}

/// A term's value and a bound of the device's error beyond 4 u |value|.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TermValue {
    pub(crate) value: f64,
    pub(crate) slack: f64,
}

impl From<f64> for TermValue {
    fn from(value: f64) -> Self {
        TermValue { value, slack: 0.0 }
    }
}

impl TermData {
    /// C_h.
    pub(crate) fn value(&self, at: &Place) -> TermValue {
        // saturated to 32 bits, as the shaders do
        let saturate = |distance: i64| distance.clamp(-(i32::MAX as i64), i32::MAX as i64);
        let (m, n) = (at.m[0], at.n[0]);
        let distance = saturate(n as i64 - m as i64);
        match self {
            TermData::Table { min, max, values } => {
                let rows = (max - min + 1) as usize;
                let row = distance.clamp(*min as i64, *max as i64) - *min as i64;
                values[at.head as usize * rows + row as usize].into()
            }
            TermData::Indexed { index, values } => {
                let row = index.row(at.m, at.n, at.same_segment);
                row.map_or(0.0, |row| values[at.head as usize * index.rows() as usize + row as usize]).into()
            }
            TermData::Alibi { form, slopes } => {
                let x = match form {
                    AlibiForm::Relative => distance,
                    AlibiForm::Symmetric => -distance.abs(),
                    AlibiForm::KeyPosition => n as i64,
                    AlibiForm::KeyFromEnd => saturate(n as i64 - at.last),
                };
                (slopes[at.head as usize] * x as f64).into()
            }
        }
    }

    /// What stands in `tables`, `[num_heads, rows]`; nothing for closed forms.
    pub(crate) fn packed(&self) -> Vec<f32> {
        match self {
            TermData::Table { values, .. } | TermData::Indexed { values, .. } => {
                values.iter().map(|x| *x as f32).collect()
            }
            TermData::Alibi { .. } => Vec::new(),
        }
    }
}

/// The parameters of the bias terms, in the spec's order: `bias_table`, `bias_table_1`, ...
pub(crate) fn parameters(spec: &Spec) -> Vec<Parameter> {
    let heads = spec.num_heads;
    let mut tables = 0;
    let mut table = |shape: [u32; 2], axis: usize| {
        let name = if tables == 0 { "bias_table".into() } else { format!("bias_table_{tables}") };
        tables += 1;
        Parameter::new(name, shape, Some(axis))
    };
    spec.bias
        .iter()
        .filter_map(|bias| match bias {
            Bias::Table { min, max } => Some(table([heads, (*max as i64 - *min as i64 + 1) as u32], 0)),
            Bias::T5 { num_buckets, .. } => Some(table([*num_buckets, heads], 1)),
            Bias::Indexed { index } => Some(table([index.rows() as u32, heads], 1)),
            Bias::Alibi { .. } => None,
        })
        .collect()
}

/// Expands the spec's bias terms with the caller's parameters.
pub(crate) fn resolve(spec: &Spec, given: &BTreeMap<String, Vec<f32>>) -> Result<Vec<TermData>> {
    let heads = spec.num_heads as usize;
    let wanted = parameters(spec);
    let mut wanted = wanted.iter();
    let mut table = || -> Result<&Vec<f32>> {
        let parameter = wanted.next();
        let found = parameter.and_then(|p| given.get(&p.name).filter(|t| t.len() as u64 == p.len()));
        found.ok_or_else(|| {
            let (name, shape) = parameter.map_or(("bias_table", &[][..]), |p| (&p.name, &p.shape));
            let problem = match given.get(name) {
                Some(t) => format!("{} values", t.len()),
                None => "is missing".into(),
            };
            Error::input(name, problem, format!("give {shape:?} of them"))
        })
    };
    spec.bias
        .iter()
        .map(|bias| match bias {
            Bias::Table { min, max } => {
                let values = table()?.iter().map(|x| *x as f64).collect();
                Ok(TermData::Table { min: *min, max: *max, values })
            }
            Bias::T5 { num_buckets, max_distance, bidirectional } => {
                let t = table()?;
                let (min, max) = distances(bias);
                let bucket = |d: i32| t5_bucket(d, *num_buckets, *max_distance, *bidirectional) as usize;
                let values =
                    (0..heads).flat_map(|h| (min..=max).map(move |d| t[bucket(d) * heads + h] as f64)).collect();
                Ok(TermData::Table { min, max, values })
            }
            Bias::Indexed { index } => {
                let t = table()?;
                let values = (0..heads).flat_map(|h| t.chunks_exact(heads).map(move |row| row[h] as f64)).collect();
                Ok(TermData::Indexed { index: *index, values })
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
        Bias::Indexed { .. } | Bias::Alibi { .. } => (0, 0),
    }
}

/// ALiBi's slopes with their scale; none for other terms.
pub(crate) fn slopes(bias: &Bias, num_heads: u32) -> Vec<f64> {
    match bias {
        Bias::Alibi { slopes: Some(s), scale, .. } => s.iter().map(|s| *s as f64 * scale).collect(),
        Bias::Alibi { slopes: None, scale, .. } => alibi_slopes(num_heads).iter().map(|s| s * scale).collect(),
        Bias::Table { .. } | Bias::T5 { .. } | Bias::Indexed { .. } => Vec::new(),
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
