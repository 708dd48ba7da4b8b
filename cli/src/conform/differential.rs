//! Differential attention (Ye et al. 2024, arXiv 2410.05258) as DiffLlama has it: heads h and h + heads / 2 attend to the same values, twice as
//! wide, and out is the difference of the two. One call of attention gives both, over k and v of every query head; the difference is the host's.

use super::packed::agree;
use super::work::{Build, Difference, Table, Tolerance};
use crate::golden::{Entry, Golden, Tensors, Values};
use ropewalk::Error;

/// k of every query head, and v of heads h and h + heads / 2 side by side; nothing where a case has no lambdas.
pub fn expand(mut golden: Golden, tables: &mut Vec<Table>) -> Build<(Golden, Option<Difference>)> {
    let (p, t) = (&golden.parameters, &mut golden.tensors);
    if !t.has("lambda_q1") {
        return Ok((golden, None));
    }
    let Some(lambda_init) = p.f64("lambda_init") else {
        return Err(Error::input("lambda_init", "is missing beside lambda_q1", "add it to the parameters").into());
    };
    let lambda =
        exp_of_product(t, "lambda_q1", "lambda_k1")? - exp_of_product(t, "lambda_q2", "lambda_k2")? + lambda_init;
    if let Some(listed) = p.f64("lambda_full") {
        let (name, computed, listed) = ("lambda_full".into(), vec![lambda], vec![listed]);
        tables.push(Table { name, computed, listed, tolerance: Tolerance::DOUBLE });
    }
    let heads = match t.0.get("q") {
        Some(q) if q.shape.len() == 4 && q.shape[1] > 0 && q.shape[1].is_multiple_of(2) => q.shape[1],
        _ => {
            return Err(
                Error::input("q", "is no [batch, heads, len, dim] of an even number of heads", "give queries").into()
            );
        }
    };
    let (k, v) = (Rows::take(t, "k", heads)?, Rows::take(t, "v", heads)?);
    agree(p, &[("kv_heads", k.heads as u32), ("q_heads", heads as u32)])?;
    let as_k = |rows: &Rows, name: &str| match (rows.batch, rows.heads, rows.len) == (k.batch, k.heads, k.len) {
        true => Ok(()),
        false => Err(Error::input(name, "has other batches, heads or tokens than k", "give as many")),
    };
    as_k(&v, "v")?;
    let (per_head, half) = (heads / k.heads, heads / 2);
    let of_all = |row: &dyn Fn(usize, usize, usize) -> Vec<f64>| -> Vec<f64> {
        let all = (0..k.batch).flat_map(|b| (0..heads).flat_map(move |h| (0..k.len).map(move |j| (b, h, j))));
        all.flat_map(|(b, h, j)| row(b, h, j)).collect()
    };
    let keys = of_all(&|b, h, j| k.row(b, h / per_head, j).to_vec());
    let values = of_all(&|b, h, j| {
        let [first, second] = [h % half, h % half + half].map(|h| v.row(b, h / per_head, j));
        [first, second].concat()
    });
    let entry = |of: &Rows, values: Vec<f64>, dim| Entry {
        shape: vec![k.batch, heads, k.len, dim],
        values: match of.double {
            true => Values::Double(values),
            false => Values::Float(values.iter().map(|x| *x as f32).collect::<Vec<_>>().into()), // they were at most f32
        },
    };
    if t.has("expected_k_rot") {
        let listed = Rows::take(t, "expected_k_rot", heads)?;
        as_k(&listed, "expected_k_rot")?;
        let turned = of_all(&|b, h, j| listed.row(b, h / per_head, j).to_vec());
        t.0.insert("expected_k_rot".into(), entry(&listed, turned, listed.dim));
    }
    t.0.insert("k".into(), entry(&k, keys, k.dim));
    t.0.insert("v".into(), entry(&v, values, 2 * v.dim));
    Ok((golden, Some(Difference { lambda, scale: 1.0 - lambda_init })))
}

/// exp(a . b) of two rows of a case.
fn exp_of_product(t: &mut Tensors, a: &str, b: &str) -> Build<f64> {
    let (x, y) = (t.need(a)?, t.need(b)?);
    if x.shape != y.shape {
        return Err(y.wrong(b, &format!("the shape of {a}")).into());
    }
    Ok(x.f64s(a)?.iter().zip(y.f64s(b)?).map(|(x, y)| x * y).sum::<f64>().exp())
}

/// A tensor `[batch, heads, len, dim]`.
struct Rows {
    batch: usize,
    heads: usize,
    len: usize,
    dim: usize,
    double: bool,
    values: Vec<f64>,
}

impl Rows {
    /// Of kv heads of which each serves the same number of the heads.
    fn take(t: &mut Tensors, name: &str, of_heads: usize) -> Build<Rows> {
        let entry = t.need(name)?;
        match entry.shape[..] {
            [batch, heads, len, dim] if heads > 0 && of_heads.is_multiple_of(heads) => {
                Ok(Rows { batch, heads, len, dim, double: entry.is_double(), values: entry.f64s(name)? })
            }
            _ => Err(entry.wrong(name, "[batch, kv_heads, len, dim], kv_heads dividing the heads of q").into()),
        }
    }
    fn row(&self, b: usize, h: usize, j: usize) -> &[f64] {
        let at = ((b * self.heads + h) * self.len + j) * self.dim;
        &self.values[at..at + self.dim]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Four heads over two kv heads of one token; k is [10, 20], v [1, 2].
    fn case(heads_of_q: usize) -> Golden {
        let entry = |shape: &[usize], values: &[f32]| Entry {
            shape: shape.to_vec(),
            values: Values::Float(values.to_vec().into()),
        };
        let mut tensors = Tensors(Default::default());
        tensors.0.insert("q".into(), entry(&[1, heads_of_q, 1, 1], &vec![1.0; heads_of_q]));
        tensors.0.insert("k".into(), entry(&[1, 2, 1, 1], &[10.0, 20.0]));
        tensors.0.insert("v".into(), entry(&[1, 2, 1, 1], &[1.0, 2.0]));
        for name in ["lambda_q1", "lambda_k1", "lambda_k2"] {
            tensors.0.insert(name.into(), entry(&[2], &[0.5, 0.5]));
        }
        tensors.0.insert("lambda_q2".into(), entry(&[2], &[0.0, 0.0]));
        let parameters = serde_json::Map::from_iter([("lambda_init".into(), json!(0.25))]).into();
        Golden { name: String::new(), system: String::new(), parameters, tensors }
    }

    #[test]
    fn keys_of_every_head_and_values_of_two() {
        let (golden, difference) = expand(case(4), &mut Vec::new()).unwrap();
        let of = |name: &str| golden.tensors.0[name].f64s(name).unwrap();
        assert_eq!(of("k"), [10.0, 10.0, 20.0, 20.0]);
        assert_eq!(of("v"), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        let difference = difference.unwrap();
        assert!(
            (difference.lambda - (0.5f64.exp() - 1.0 + 0.25)).abs() < 1e-15 && difference.scale == 0.75,
            "{difference:?}"
        );
    }

    #[test]
    fn odd_heads_are_refused() {
        assert!(matches!(expand(case(3), &mut Vec::new()), Err(super::super::work::Unfit::Bad(_))));
    }
}
