//! Index maps and closed forms of positions: buckets are decided in whole numbers, not by logarithms.

use ropewalk::{IndexMap, Outside};
use std::cmp::Ordering;

/// base^n and products of such, as long as they need to be.
fn power(factors: &[(u64, u32)]) -> Vec<u32> {
    let mut limbs = vec![1u32];
    for (base, times) in factors {
        for _ in 0..*times {
            let mut carry = 0u128;
            for limb in &mut limbs {
                let x = *limb as u128 * *base as u128 + carry;
                *limb = x as u32;
                carry = x >> 32;
            }
            while carry > 0 {
                limbs.push(carry as u32);
                carry >>= 32;
            }
        }
    }
    while limbs.last() == Some(&0) {
        limbs.pop();
    }
    limbs
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

/// (d / from)^steps against (to / from)^t, for d, from, to above 0: which side of the t-th edge d lies on.
fn edge(d: u64, from: u64, to: u64, steps: u32, t: u32) -> Ordering {
    compare(&power(&[(d, steps), (from, t)]), &power(&[(to, t), (from, steps)]))
}

/// log(d / from) / log(to / from) steps, cut off; exact on edges.
fn steps_below(d: u64, from: u64, to: u64, steps: u32) -> u32 {
    let guess = (d as f64 / from as f64).ln() / (to as f64 / from as f64).ln() * steps as f64;
    let near = guess.round();
    if (guess - near).abs() > 1e-6 {
        return guess.floor() as u32;
    }
    let t = near as u32;
    if edge(d, from, to, steps, t) == Ordering::Less { t - 1 } else { t }
}

/// The same rounded up.
fn steps_above(d: u64, from: u64, to: u64, steps: u32) -> u32 {
    let guess = (d as f64 / from as f64).ln() / (to as f64 / from as f64).ln() * steps as f64;
    let near = guess.round();
    if (guess - near).abs() > 1e-6 {
        return guess.ceil() as u32;
    }
    let t = near as u32;
    if edge(d, from, to, steps, t) == Ordering::Greater { t + 1 } else { t }
}

/// T5's bucket of n - m.
pub fn t5(distance: i64, buckets: u32, max_distance: u32, two_sided: bool) -> usize {
    let side = if two_sided { buckets / 2 } else { buckets };
    let start = if two_sided && distance > 0 { side } else { 0 };
    let d = if two_sided { distance.unsigned_abs() } else { (-distance).max(0) as u64 };
    let own = side / 2;
    let bucket = if d < own as u64 {
        d as u32
    } else if d >= max_distance as u64 {
        side - 1
    } else {
        (own + steps_below(d, own as u64, max_distance as u64, side - own)).min(side - 1)
    };
    (start + bucket) as usize
}

/// DeBERTa v2's bucket of m - n, before it is moved to a row.
pub fn log_bucket(distance: i64, buckets: u32, max_position: u32) -> i64 {
    let middle = (buckets / 2) as i64;
    let d = distance.abs();
    if d <= middle {
        return distance;
    }
    let far = middle + steps_above(d as u64, middle as u64, max_position as u64 - 1, middle as u32 - 1) as i64;
    far * distance.signum()
}

/// n - m, which positions far apart saturate.
pub fn distance(m: i64, n: i64) -> i64 {
    (n - m).clamp(-(i32::MAX as i64), i32::MAX as i64)
}

/// r(m, n), or none where the pair has no row.
pub fn row(map: &IndexMap, m: [i64; 4], n: [i64; 4], same_segment: bool) -> Option<usize> {
    match map {
        IndexMap::Distance { min, max, outside, stream, reversed } => {
            let s = *stream as usize;
            let d = if *reversed { m[s] - n[s] } else { n[s] - m[s] };
            let (min, max) = (*min as i64, *max as i64);
            match outside {
                Outside::Zero if d < min || d > max => None,
                Outside::Zero | Outside::Clip => Some((d.clamp(min, max) - min) as usize),
                other => panic!("the twin does not know {other:?}"),
            }
        }
        IndexMap::LogBucket { buckets, max_position } => {
            let b = *buckets as i64;
            Some((log_bucket(m[0] - n[0], *buckets, *max_position) + b).clamp(0, 2 * b - 1) as usize)
        }
        IndexMap::Grid { height, width, class } => {
            let (h, w) = (*height as i64, *width as i64);
            let inside = (2 * h - 1) * (2 * w - 1);
            if *class {
                let outer = |p: [i64; 4]| p[0] < 0 || p[1] < 0;
                match (outer(m), outer(n)) {
                    (true, false) => return Some(inside as usize),
                    (false, true) => return Some(inside as usize + 1),
                    (true, true) => return Some(inside as usize + 2),
                    (false, false) => {}
                }
            }
            let (dy, dx) = (m[0] - n[0], m[1] - n[1]);
            (dy.abs() < h && dx.abs() < w).then(|| ((dy + h - 1) * (2 * w - 1) + dx + w - 1) as usize)
        }
        IndexMap::Segment => Some(if same_segment { 0 } else { 1 }),
        other => panic!("the twin does not know {other:?}"),
    }
}

/// ALiBi's slopes of Press et al.
pub fn slopes(heads: u32) -> Vec<f64> {
    let lower = 1u32 << heads.ilog2();
    let series = |n: u32, k: u32| (-8.0 * k as f64 / n as f64).exp2();
    let first = (1..=lower).map(|k| series(lower, k));
    first.chain((0..heads - lower).map(|k| series(2 * lower, 2 * k + 1))).collect()
}

/// Swin v2's offset of delta in a window of which the trained side is given.
pub fn log_offset(delta: i64, side: u32) -> f64 {
    if delta == 0 {
        return 0.0;
    }
    let c = 8.0 * delta as f64 / (side as f64 - 1.0);
    c.signum() * (1.0 + c.abs()).log2() / 3.0
}
