//! Merged parts: a bound for every element.
//!
//! A weight w_p = exp(lse_p - m): exp2 errs by (3 + 2 |x|) 2^-23, its argument by 3 u x for x = m - lse_p, in all by e_p = u (8.8 x + 6) of itself. With
//! their shares s_p = w_p / l, N = sum s_p e_p and n parts
//!
//! ```text
//! |lse^ - lse| <= N + g(n) + 3 u |ln l| + 2 u |lse|                                   (ln_f32 errs by 3 u of its value)
//! |o^ - o|     <= sum s_p |o_p| (e_p + g(n) + u) + |o| (N + g(n) + 6 u) + rounding to storage
//! ```
//!
//! out and lse of the parts are taken as they are given: what attention was off by stands in its own bounds.

use crate::check::bound::{Bounded, SECOND_ORDER, TINY, U, UNDERFLOW, g, stored};
use crate::equation::dtype::Dtype;
use crate::error::Result;
use crate::reference::attention::Output;
use crate::reference::merge::{check, rows, weights};

/// Every element of [`reference::merge`](crate::reference::merge) and how far [`Kernel::Merge`](crate::Kernel::Merge) may be from it:
/// out in `[batch, q_len, num_heads, v_head_dim]`, stored as `dtype`, then lse in `[batch, num_heads, q_len]`.
///
/// # Errors
/// As of the reference.
pub fn bounds(dtype: Dtype, parts: &[Output<f32>]) -> Result<(Bounded, Bounded)> {
    let shape = check(parts)?;
    let dim = shape[3] as usize;
    let sums = g(parts.len() as f64);
    let mut out = Bounded::default();
    let all: Vec<[usize; 2]> = rows(shape).collect();
    let mut lse = Bounded { value: vec![0.0; all.len()], bound: vec![0.0; all.len()] };
    for [at, o] in all {
        let weights = weights(parts, at);
        let of_weight: Vec<f64> = weights.below.iter().map(|x| U * (8.8 * x + 6.0)).collect();
        let mean: f64 = weights.of_part.iter().zip(&of_weight).map(|(s, e)| s * e).sum();
        let largest = weights.of_part.iter().copied().fold(0.0, f64::max);
        let log = if largest > 0.0 { -largest.ln() } else { 0.0 };
        lse.value[at] = weights.lse;
        if weights.lse.is_finite() {
            let bound = mean + sums + 3.0 * U * log + 2.0 * U * weights.lse.abs();
            lse.bound[at] = SECOND_ORDER * (bound + parts.len() as f64 * UNDERFLOW) + TINY;
        }
        for d in 0..dim {
            let (mut value, mut bound) = (0.0, TINY);
            for ((part, share), e) in parts.iter().zip(&weights.of_part).zip(&of_weight) {
                // a part that no key is seen of is not read
                if *share != 0.0 {
                    let x = part.out[o + d] as f64;
                    value += share * x;
                    bound += share * x.abs() * (e + sums + U) + UNDERFLOW * (1.0 + x.abs());
                }
            }
            bound += value.abs() * (mean + sums + 6.0 * U);
            out.push((value, if value.is_finite() { stored(dtype, value, bound) } else { 0.0 }));
        }
    }
    Ok((out, lse))
}
