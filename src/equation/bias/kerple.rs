//! KERPLE (Chi et al. 2022): a kernel of the distance with two learned numbers for each head.

use crate::equation::bias::term::{Argument, Given, KernelCall, Place, Term, TermValue, Values, Wanted};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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

/// See [`Bias::Kerple`](crate::Bias::Kerple).
pub(crate) struct Kerple {
    pub(crate) kind: KerpleKind,
    pub(crate) eps: f64,
}

/// p and a of each head, within their limits.
#[derive(Debug)]
struct OfHeads {
    kind: KerpleKind,
    p: Vec<f64>,
    a: Vec<f64>,
}

impl Values for OfHeads {
    fn value(&self, at: &Place) -> TermValue {
        kerple(self.kind, self.p[at.head as usize], self.a[at.head as usize], at.distance().abs() as f64)
    }
    fn packed(&self) -> Vec<f32> {
        self.p.iter().zip(&self.a).flat_map(|(p, a)| [*p as f32, *a as f32]).collect()
    }
}

impl Term for Kerple {
    fn name(&self) -> String {
        match self.kind {
            KerpleKind::Log => "kerple log".into(),
            KerpleKind::Power => "kerple power".into(),
        }
    }
    fn validate(&self, _: u32, field: &dyn Fn(&str) -> String) -> Result<()> {
        if !(1e-6..=1.0).contains(&self.eps) {
            let help = "give a number from 1e-6 to 1 (0.01 in the paper's code)";
            return Err(Error::spec(field("kerple.eps"), format!("is {}", self.eps), help));
        }
        Ok(())
    }
    fn parameters(&self, heads: u32) -> Vec<Wanted> {
        vec![Wanted::new("kerple_p", &[heads], Some(0)), Wanted::new("kerple_a", &[heads], Some(0))]
    }
    fn values(&self, _: u32, given: &[Given]) -> Result<Arc<dyn Values>> {
        given.iter().try_for_each(Given::check)?;
        let (p, a) = (&given[0], &given[1]);
        let most = if self.kind == KerpleKind::Power { 2.0 } else { f64::MAX };
        let p = p.iter().map(|p| (*p as f64).clamp(self.eps, most)).collect();
        let a = a.iter().map(|a| (*a as f64).max(self.eps)).collect();
        Ok(Arc::new(OfHeads { kind: self.kind, p, a }))
    }
    fn table_rows(&self) -> u64 {
        2 // p and a
    }
    fn is_of_distance(&self) -> bool {
        true
    }
    fn kernel(&self) -> KernelCall {
        let (files, function): (&'static [&'static str], _) = match self.kind {
            KerpleKind::Log => {
                (&["equation/term_kerple_log.wgsl", "equation/term_distance.wgsl", "common/ln.wgsl"], "term_kerple_log")
            }
            KerpleKind::Power => (
                &["equation/term_kerple_power.wgsl", "equation/term_distance.wgsl", "common/ln.wgsl"],
                "term_kerple_power",
            ),
        };
        KernelCall { files, function, arguments: vec![Argument::First] }
    }
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
