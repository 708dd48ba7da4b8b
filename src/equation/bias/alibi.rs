//! ALiBi (Press et al. 2022): a slope for each head times a distance.

use crate::equation::bias::term::{Given, KernelCall, Place, Term, TermValue, Values, Wanted, saturated};
use crate::equation::defaults::MAX_HEADS;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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

/// See [`Bias::Alibi`](crate::Bias::Alibi).
pub(crate) struct Alibi<'a> {
    pub(crate) form: AlibiForm,
    pub(crate) slopes: Option<&'a [f32]>,
    pub(crate) scale: f64,
}

#[derive(Debug)]
struct Slopes {
    form: AlibiForm,
    slopes: Vec<f64>,
}

impl Values for Slopes {
    fn value(&self, at: &Place) -> TermValue {
        let n = at.n[0] as i64;
        let x = match self.form {
            AlibiForm::Relative => at.distance(),
            AlibiForm::Symmetric => -at.distance().abs(),
            AlibiForm::KeyPosition => n,
            AlibiForm::KeyFromEnd => saturated(n - at.last),
        };
        TermValue::computed(self.slopes[at.head as usize] * x as f64)
    }
}

impl Term for Alibi<'_> {
    fn name(&self) -> String {
        match self.form {
            AlibiForm::Relative => "alibi".into(),
            AlibiForm::Symmetric => "alibi symmetric".into(),
            AlibiForm::KeyPosition => "alibi key".into(),
            AlibiForm::KeyFromEnd => "alibi key from end".into(),
        }
    }
    fn validate(&self, heads: u32, field: &dyn Fn(&str) -> String) -> Result<()> {
        if let Some(slopes) = self.slopes {
            if slopes.len() != heads as usize {
                return Err(Error::spec(
                    field("alibi.slopes"),
                    format!("holds {} slopes", slopes.len()),
                    format!("give one for each of the {heads} heads"),
                ));
            }
            if let Some(h) = slopes.iter().position(|s| !s.is_finite()) {
                let problem = format!("slope {h} is {}", slopes[h]);
                return Err(Error::spec(field("alibi.slopes"), problem, "give finite slopes"));
            }
        }
        if !self.scale.is_finite() || self.slopes(heads).iter().any(|s| s.abs() > 1e20) {
            let help = "let slopes times scale be at most 1e20";
            return Err(Error::spec(field("alibi.scale"), format!("is {}", self.scale), help));
        }
        Ok(())
    }
    fn parameters(&self, _: u32) -> Vec<Wanted> {
        Vec::new()
    }
    fn values(&self, heads: u32, _: &[Given]) -> Result<Arc<dyn Values>> {
        Ok(Arc::new(Slopes { form: self.form, slopes: self.slopes(heads) }))
    }
    fn table_rows(&self) -> u64 {
        0
    }
    fn reads_heads(&self) -> bool {
        true
    }
    fn slopes(&self, heads: u32) -> Vec<f64> {
        match self.slopes {
            Some(slopes) => slopes.iter().map(|s| *s as f64 * self.scale).collect(),
            None => alibi_slopes(heads).iter().map(|s| s * self.scale).collect(),
        }
    }
    /// The key's position moves with the distance; counted from the end it does not.
    fn is_of_distance(&self) -> bool {
        matches!(self.form, AlibiForm::Relative | AlibiForm::Symmetric)
    }
    fn kernel(&self) -> KernelCall {
        let (files, function): (&'static [&'static str], _) = match self.form {
            AlibiForm::Relative => {
                (&["equation/term_alibi_relative.wgsl", "equation/term_distance.wgsl"], "term_alibi_relative")
            }
            AlibiForm::Symmetric => {
                (&["equation/term_alibi_symmetric.wgsl", "equation/term_distance.wgsl"], "term_alibi_symmetric")
            }
            AlibiForm::KeyPosition => (&["equation/term_alibi_key_position.wgsl"], "term_alibi_key_position"),
            AlibiForm::KeyFromEnd => (&["equation/term_alibi_key_from_end.wgsl"], "term_alibi_key_from_end"),
        };
        KernelCall { files, function, arguments: Vec::new() }
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
