//! C: relative biases. Whatever is discontinuous in position (T5's buckets) or too long for a shader (Swin v2's network) becomes a
//! table here, on the host.

use crate::equation::defaults::{MAX_HEADS, one};
use crate::equation::index::IndexMap;
use crate::equation::parameter::{MAX_SIDE, Parameter};
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// A bias term ready to be evaluated: tables over rows of an index map, slopes scaled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TermData {
    /// `values[head][clamp(n - m, min, max) - min]`.
    Table { min: i32, max: i32, values: Vec<f64> },
    /// `values[head][r(m, n)]`.
    Indexed { index: IndexMap, values: Vec<f64> },
    /// p and a of each head, within their limits.
    Kerple { kind: KerpleKind, p: Vec<f64>, a: Vec<f64> },
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
    /// The query's gate; 1 where C has none.
    pub(crate) gate: f64,
    /// kv_len - 1.
    pub(crate) last: i64,
}

/// A term's value and a bound of the device's error beyond 4 u |value|.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TermValue {
    pub(crate) value: f64,
    pub(crate) slack: f64,
    /// The device has this very number: it loads it, and f32 holds it.
    pub(crate) exact: bool,
}

impl TermValue {
    fn computed(value: f64) -> Self {
        TermValue { value, slack: 0.0, exact: false }
    }
    fn loaded(value: f64) -> Self {
        TermValue { value, slack: 0.0, exact: value as f32 as f64 == value }
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
                TermValue::loaded(values[at.head as usize * rows + row as usize])
            }
            TermData::Indexed { index, values } => {
                let row = index.row(at.m, at.n, at.same_segment);
                TermValue::loaded(
                    row.map_or(0.0, |row| values[at.head as usize * index.rows() as usize + row as usize]),
                )
            }
            TermData::Kerple { kind, p, a } => {
                kerple(*kind, p[at.head as usize], a[at.head as usize], distance.abs() as f64)
            }
            TermData::Alibi { form, slopes } => {
                let x = match form {
                    AlibiForm::Relative => distance,
                    AlibiForm::Symmetric => -distance.abs(),
                    AlibiForm::KeyPosition => n as i64,
                    AlibiForm::KeyFromEnd => saturate(n as i64 - at.last),
                };
                TermValue::computed(slopes[at.head as usize] * x as f64)
            }
        }
    }

    /// What stands in `tables`, `[num_heads, rows]`; nothing for closed forms.
    pub(crate) fn packed(&self) -> Vec<f32> {
        match self {
            TermData::Table { values, .. } | TermData::Indexed { values, .. } => {
                values.iter().map(|x| *x as f32).collect()
            }
            TermData::Kerple { p, a, .. } => p.iter().zip(a).flat_map(|(p, a)| [*p as f32, *a as f32]).collect(),
            TermData::Alibi { .. } => Vec::new(), // in the uniform `heads`
        }
    }
}

/// A side of a parameter: 2^32 rows and more, which no valid spec has, are as many as a side may hold.
pub(crate) fn words(rows: u64) -> u32 {
    rows.try_into().unwrap_or(u32::MAX)
}

/// The parameters of the bias terms, in the spec's order; a name that comes again is numbered: `bias_table`, `bias_table_1`.
pub(crate) fn parameters(spec: &Spec) -> Vec<Parameter> {
    let heads = spec.num_heads;
    let mut all: Vec<Parameter> = Vec::new();
    let mut used: BTreeMap<&str, u32> = BTreeMap::new();
    let mut add = |name: &'static str, shape: &[u32], axis: Option<usize>| {
        let before = used.entry(name).or_default();
        let numbered = if *before == 0 { name.into() } else { format!("{name}_{before}") };
        *before += 1;
        all.push(Parameter::new(numbered, shape, axis));
    };
    for bias in &spec.bias {
        match bias {
            Bias::Table { min, max } => {
                add("bias_table", &[heads, words(IndexMap::distance(*min, *max).rows())], Some(0));
            }
            Bias::T5 { num_buckets, .. } => add("bias_table", &[*num_buckets, heads], Some(1)),
            Bias::Indexed { index } => add("bias_table", &[words(index.rows()), heads], Some(1)),
            Bias::LogCpb { hidden, .. } => {
                add("cpb_w1", &[*hidden, 2], None);
                add("cpb_b1", &[*hidden], None);
                add("cpb_w2", &[heads, *hidden], Some(0));
            }
            Bias::Kerple { .. } => {
                add("kerple_p", &[heads], Some(0));
                add("kerple_a", &[heads], Some(0));
            }
            Bias::Alibi { .. } => {}
        }
    }
    all
}

/// Expands the spec's bias terms with the caller's parameters.
pub(crate) fn resolve(spec: &Spec, given: &BTreeMap<String, Vec<f32>>) -> Result<Vec<TermData>> {
    let heads = spec.num_heads as usize;
    let wanted = parameters(spec);
    let mut wanted = wanted.iter();
    let mut next = || -> Result<&Vec<f32>> {
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
                let values = next()?.iter().map(|x| *x as f64).collect();
                Ok(TermData::Table { min: *min, max: *max, values })
            }
            Bias::T5 { num_buckets, max_distance, bidirectional } => {
                let t = next()?;
                let (min, max) = distances(bias);
                let bucket = |d: i32| t5_bucket(d, *num_buckets, *max_distance, *bidirectional) as usize;
                let values =
                    (0..heads).flat_map(|h| (min..=max).map(move |d| t[bucket(d) * heads + h] as f64)).collect();
                Ok(TermData::Table { min, max, values })
            }
            Bias::Indexed { index } => {
                let t = next()?;
                let values = (0..heads).flat_map(|h| t.chunks_exact(heads).map(move |row| row[h] as f64)).collect();
                Ok(TermData::Indexed { index: *index, values })
            }
            Bias::LogCpb { height, width, pretrained, .. } => {
                let (w1, b1, w2) = (next()?, next()?, next()?);
                let values = log_cpb(&log_cpb_offsets(*height, *width, *pretrained), w1, b1, w2);
                Ok(TermData::Indexed { index: IndexMap::Grid { height: *height, width: *width, class: false }, values })
            }
            Bias::Kerple { kind, eps } => {
                let (p, a) = (next()?, next()?);
                if let Some(x) = p.iter().chain(a).find(|x| !x.is_finite() || x.abs() > 1e10) {
                    return Err(Error::input("kerple_p", format!("or kerple_a holds {x}"), "give numbers up to 1e10"));
                }
                let most = if *kind == KerpleKind::Power { 2.0 } else { f64::MAX };
                let p = p.iter().map(|p| (*p as f64).clamp(*eps, most)).collect();
                Ok(TermData::Kerple { kind: *kind, p, a: a.iter().map(|a| (*a as f64).max(*eps)).collect() })
            }
            Bias::Alibi { form, .. } => Ok(TermData::Alibi { form: *form, slopes: slopes(bias, spec.num_heads) }),
        })
        .collect()
}

/// The distances n - m, first and last, that have a row of their own in a term's table; of no account for other terms.
pub(crate) fn distances(bias: &Bias) -> (i32, i32) {
    match bias {
        Bias::Table { min, max } => (*min, *max),
        Bias::T5 { max_distance, bidirectional, .. } => {
            let far = *max_distance as i32;
            (-far, if *bidirectional { far } else { 0 })
        }
        _ => (0, 0),
    }
}

/// ALiBi's slopes with their scale; none for other terms.
pub(crate) fn slopes(bias: &Bias, num_heads: u32) -> Vec<f64> {
    match bias {
        Bias::Alibi { slopes: Some(s), scale, .. } => s.iter().map(|s| *s as f64 * scale).collect(),
        Bias::Alibi { slopes: None, scale, .. } => alibi_slopes(num_heads).iter().map(|s| s * scale).collect(),
        _ => Vec::new(),
    }
}

/// T5's bucket of the distance `k_position - q_position` (Raffel et al. 2020, section 2.1): distances below half of
/// one side's buckets have a bucket each, larger ones share logarithmically, all from `max_distance` on the last.
///
/// Distances that fall on a bucket's edge belong to the upper bucket, as a correctly rounded logarithm says. Where a side has no
/// bucket all distances have bucket 0.
pub fn t5_bucket(distance: i32, num_buckets: u32, max_distance: u32, bidirectional: bool) -> u32 {
    let (n, base, rel) = if bidirectional {
        let n = num_buckets / 2;
        (n, if distance > 0 { n } else { 0 }, distance.unsigned_abs())
    } else {
        (num_buckets, 0, if distance < 0 { distance.unsigned_abs() } else { 0 })
    };
    let Some(last) = n.checked_sub(1) else { return 0 };
    let max_exact = n / 2;
    if rel < max_exact {
        return base + rel;
    }
    let step = (rel as f64 / max_exact as f64).ln() / (max_distance as f64 / max_exact as f64).ln();
    // 1e-9 lifts a quotient that is an integer but for rounding; no other quotient comes that close.
    let large = max_exact.saturating_add((step * (n - max_exact) as f64 + 1e-9) as u32);
    base + large.min(last)
}

/// Swin v2's log-spaced offsets (Liu et al. 2022, section 3.3) of a window, one for each row of [`IndexMap::Grid`]: of the row
/// offset and of the column offset, sign(c) log2(1 + |c|) / log2(8) with c = 8 delta / (side - 1). `pretrained` gives the sides of
/// the window that the model was trained with. None for a window that no index map takes: of sides above 2048.
pub fn log_cpb_offsets(height: u32, width: u32, pretrained: Option<[u32; 2]>) -> Vec<[f64; 2]> {
    if height.max(width) > MAX_SIDE {
        return Vec::new();
    }
    let [rows, columns] = pretrained.unwrap_or([height, width]);
    let axis = |size: u32, side: u32| {
        let most = size as i64 - 1;
        let spaced = move |delta: i64| {
            let c = 8.0 * delta as f64 / (side as f64 - 1.0).max(1.0);
            c.signum() * (1.0 + c.abs()).log2() / 3.0
        };
        (-most..=most).map(spaced)
    };
    axis(height, rows).flat_map(|y| axis(width, columns).map(move |x| [y, x])).collect()
}

/// 16 sigmoid(w2 relu(w1 c + b1)) of every offset c, `[num_heads, offsets]`.
fn log_cpb(offsets: &[[f64; 2]], w1: &[f32], b1: &[f32], w2: &[f32]) -> Vec<f64> {
    let unit = |[y, x]: [f64; 2], (w, b): (&[f32], &f32)| (w[0] as f64 * y + w[1] as f64 * x + *b as f64).max(0.0);
    let layer = |c: &[f64; 2]| w1.chunks_exact(2).zip(b1).map(|wb| unit(*c, wb)).collect::<Vec<f64>>();
    let hidden: Vec<Vec<f64>> = offsets.iter().map(layer).collect();
    let head = |w: &[f32]| {
        let value = |x: &Vec<f64>| 16.0 / (1.0 + (-x.iter().zip(w).map(|(x, w)| x * *w as f64).sum::<f64>()).exp());
        hidden.iter().map(value).collect::<Vec<f64>>()
    };
    w2.chunks_exact(b1.len().max(1)).flat_map(head).collect()
}

/// KERPLE's kernel of a distance d >= 0. The device's errors, with u = 2^-24:
///
/// - log: 1 + a d by 4 u of itself, so the logarithm by 4 u beside its own 3 u and the two roundings of p;
/// - power: the exponent p log2 d, in 2^-24: p log2 x by 15 u (x in [1, 2] from d by u, ln by 3 u, three products), what is cut off
///   by 4 u, in all 19 u ln 2 < 14 u of the power; exp2 by 5 ulp = 10 u, a and two products 3 u.
fn kerple(kind: KerpleKind, p: f64, a: f64, d: f64) -> TermValue {
    let u = 2f64.powi(-24);
    match kind {
        KerpleKind::Log => {
            let value = -p * (a * d).ln_1p();
            TermValue { slack: u * (4.0 * p + value.abs()), ..TermValue::computed(value) }
        }
        KerpleKind::Power => {
            let value = -a * d.powf(p);
            TermValue { slack: 24.0 * u * value.abs(), ..TermValue::computed(value) }
        }
    }
}

/// ALiBi's slopes (Press et al. 2022): `2^(-8k/n)` for n heads that are a power of two; else those of the lower power
/// and then every other slope of the doubled one. None for more heads than [`MAX_HEADS`](crate::MAX_HEADS).
pub fn alibi_slopes(num_heads: u32) -> Vec<f64> {
    if !(1..=MAX_HEADS).contains(&num_heads) {
        return Vec::new();
    }
    let lower = 1 << num_heads.ilog2();
    let slope = |n: u32, k: u32| 2f64.powf(-8.0 * k as f64 / n as f64);
    let mut slopes: Vec<f64> = (1..=lower).map(|k| slope(lower, k)).collect();
    slopes.extend((0..num_heads - lower).map(|k| slope(2 * lower, 2 * k + 1)));
    slopes
}

/// The closed form of ALiBi's bias (Press et al. 2022).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlibiForm {
    /// slope * (n - m): the paper's form under a causal mask.
    Relative,
    /// -slope * |n - m|: two-sided.
    Symmetric,
    /// slope * n (BLOOM, Falcon): rows differ from `Relative` by a constant, which softmax removes.
    KeyPosition,
    /// slope * (n - (kv_len - 1)) (MPT).
    KeyFromEnd,
}

/// C: a relative bias, added after the cap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Bias {
    /// A table over the relative distance: `table[head, clamp(n - m, min, max) - min]`.
    Table {
        /// The smallest distance n - m that has a row of its own.
        min: i32,
        /// The largest distance n - m that has a row of its own.
        max: i32,
    },
    /// T5's buckets (Raffel et al. 2020): `table[bucket(n - m), head]`, expanded by the host into a table over the
    /// distance.
    T5 {
        /// Rows of the table.
        num_buckets: u32,
        /// The distance from which on all distances share the last bucket.
        max_distance: u32,
        /// Whether keys after the query have buckets of their own (encoders).
        bidirectional: bool,
    },
    /// A slope for each head times a distance.
    Alibi {
        /// The closed form.
        form: AlibiForm,
        /// One for each head; `None`: the paper's geometric series for `num_heads`.
        #[serde(default)]
        slopes: Option<Vec<f32>>,
        /// Multiplies the bias (Falcon: the softmax scale).
        #[serde(default = "one")]
        scale: f64,
    },
    /// A table over an index map: `table[r(m, n), head]` (Swin, BEiT; segments).
    Indexed {
        /// Which row.
        index: IndexMap,
    },
    /// Swin v2's continuous bias of a window (Liu et al. 2022): 16 sigmoid(w2 relu(w1 c + b1)) of the log-spaced offset c
    /// ([`log_cpb_offsets`](crate::log_cpb_offsets)), tabulated by the host in f64 over the rows of [`IndexMap::Grid`]. Parameters:
    /// `cpb_w1` `[hidden, 2]`, `cpb_b1` `[hidden]`, `cpb_w2` `[num_heads, hidden]`.
    LogCpb {
        /// Rows of the window.
        height: u32,
        /// Columns of the window.
        width: u32,
        /// Rows and columns of the window that the model was trained with, which scale the offsets; `None`: those of this one.
        #[serde(default)]
        pretrained: Option<[u32; 2]>,
        /// Units of the hidden layer (512).
        hidden: u32,
    },
    /// KERPLE (Chi et al. 2022): a kernel of the distance |m - n|, with two learned numbers for each head: the parameters
    /// `kerple_p` and `kerple_a`, `[num_heads]`, both taken as at least `eps`. Two-sided, as in the paper; its published code is causal.
    Kerple {
        /// Which kernel.
        kind: KerpleKind,
        /// The least p and a (0.01).
        #[serde(default = "kerple_eps")]
        eps: f64,
    },
}

fn kerple_eps() -> f64 {
    0.01
}

/// KERPLE's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KerpleKind {
    /// -p ln(1 + a |m - n|).
    Log,
    /// -a |m - n|^p, with p at most 2.
    Power,
}

impl Bias {
    /// The index map of a term that has one.
    pub fn index(&self) -> Option<IndexMap> {
        match self {
            Bias::Indexed { index } => Some(*index),
            Bias::LogCpb { height, width, .. } => Some(IndexMap::Grid { height: *height, width: *width, class: false }),
            _ => None,
        }
    }
}
