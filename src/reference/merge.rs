//! Attention over parts of the keys, merged in f64.

use crate::error::{Error, Result};
use crate::reference::attention::Output;

/// Attention over all keys from attention over parts of them, each key in one part: the weights of a part are exp(lse_p - lse).
///
/// ```
/// use ropewalk::{reference, Inputs, Spec, Tensor};
/// let spec = Spec::new(1, 1, 1);
/// let of = |k: &[f32]| {
///     let keys = || Tensor::bshd(k.to_vec(), [1, k.len() as u32, 1, 1]);
///     reference::attention(&spec, &Inputs::new(Tensor::bshd(vec![1.0], [1, 1, 1, 1])?, keys()?, keys()?))
/// };
/// let merged = reference::merge(&[of(&[0.5, -1.0])?, of(&[2.0])?])?;
/// let whole = of(&[0.5, -1.0, 2.0])?;
/// assert!((merged.out[0] - whole.out[0]).abs() < 1e-15 && (merged.lse[0] - whole.lse[0]).abs() < 1e-15);
/// # Ok::<(), ropewalk::Error>(())
/// ```
///
/// # Errors
/// No part, or parts of different shapes: the error names the part.
pub fn reference<T: Copy + Into<f64>>(parts: &[Output<T>]) -> Result<Output<f64>> {
    let [batch, q_len, heads, dim] = check(parts)?;
    let mut out = vec![0.0; (batch * q_len * heads * dim) as usize];
    let mut lse = vec![f64::NEG_INFINITY; (batch * q_len * heads) as usize];
    for (row, [at, o]) in rows([batch, q_len, heads, dim]).enumerate() {
        let weights = weights(parts, at);
        lse[at] = weights.lse;
        for (p, weight) in weights.of_part.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            let values = &parts[p].out[o..o + dim as usize];
            out[row * dim as usize..].iter_mut().zip(values).for_each(|(to, x)| *to += weight * (*x).into());
        }
    }
    Ok(Output { out_shape: [batch, q_len, heads, dim], out, lse })
}

/// Rows of out in their order: where lse of each stands, and its first element.
pub(crate) fn rows([batch, q_len, heads, dim]: [u32; 4]) -> impl Iterator<Item = [usize; 2]> {
    (0..batch * q_len * heads).map(move |row| {
        let (b, i, h) = (row / (q_len * heads), row / heads % q_len, row % heads);
        [((b * heads + h) * q_len + i) as usize, row as usize * dim as usize]
    })
}

/// Weights of the parts of one row, which add up to 1, and lse of all.
pub(crate) struct Weights {
    pub(crate) of_part: Vec<f64>,
    pub(crate) lse: f64,
    /// How far each part's lse lies below the greatest.
    pub(crate) below: Vec<f64>,
}

/// Below it no row has seen a key: scores are not lower than -1e38.
pub(crate) const UNSEEN: f64 = -2e38;

pub(crate) fn weights<T: Copy + Into<f64>>(parts: &[Output<T>], at: usize) -> Weights {
    let all: Vec<f64> = parts.iter().map(|part| part.lse[at].into()).collect();
    if all.iter().any(|x| x.is_nan() || *x == f64::INFINITY) {
        return Weights { of_part: vec![f64::NAN; all.len()], lse: f64::NAN, below: vec![0.0; all.len()] };
    }
    let most = all.iter().copied().filter(|x| *x > UNSEEN).reduce(f64::max);
    let Some(most) = most else {
        return Weights { of_part: vec![0.0; all.len()], lse: f64::NEG_INFINITY, below: vec![0.0; all.len()] };
    };
    let mut of_part: Vec<f64> = all.iter().map(|x| if *x > UNSEEN { (x - most).exp() } else { 0.0 }).collect();
    let sum: f64 = of_part.iter().sum();
    of_part.iter_mut().for_each(|w| *w /= sum);
    let below = all.iter().map(|x| if *x > UNSEEN { most - x } else { 0.0 }).collect();
    Weights { of_part, lse: most + sum.ln(), below }
}

/// The shape of all parts.
pub(crate) fn check<T>(parts: &[Output<T>]) -> Result<[u32; 4]> {
    let Some(first) = parts.first() else {
        return Err(Error::input("parts", "are none", "give attention over one part of the keys or more"));
    };
    let [batch, q_len, heads, dim] = first.out_shape;
    let rows = [batch, q_len, heads].into_iter().fold(1u64, |all, n| all.saturating_mul(n as u64));
    if rows > u32::MAX as u64 {
        return Err(Error::input("parts", format!("have {rows} rows"), "give at most 2^32 - 1 of them"));
    }
    for (n, part) in parts.iter().enumerate() {
        let lens = [part.out.len() as u64, part.lse.len() as u64];
        if part.out_shape != first.out_shape || lens != [rows.saturating_mul(dim as u64), rows] {
            let problem = format!("{:?}, {} elements, lse of {}", part.out_shape, lens[0], lens[1]);
            return Err(Error::input(format!("parts[{n}]"), problem, "give parts of one shape, with lse of every row"));
        }
    }
    Ok(first.out_shape)
}
