//! What every kind of bias says of itself; each is a file beside this one.

use crate::equation::index::IndexMap;
use crate::error::{Error, Result};
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

/// Where a score stands, as terms of the reference ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) batch: u32,
    pub(crate) head: u32,
    /// Query row.
    pub(crate) i: u32,
    /// m and n of every stream.
    pub(crate) m: [i32; 4],
    pub(crate) n: [i32; 4],
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
    pub(crate) fn computed(value: f64) -> Self {
        TermValue { value, slack: 0.0, exact: false }
    }
    pub(crate) fn loaded(value: f64) -> Self {
        TermValue { value, slack: 0.0, exact: value as f32 as f64 == value }
    }
}

/// Distances saturate to 32 bits, as in the shaders.
pub(crate) fn saturated(distance: i64) -> i64 {
    distance.clamp(-(i32::MAX as i64), i32::MAX as i64)
}

impl Place {
    /// n - m of the first stream.
    pub(crate) fn distance(&self) -> i64 {
        saturated(self.n[0] as i64 - self.m[0] as i64)
    }
}

/// A term with the caller's parameters: what the reference evaluates and what devices read of it.
pub(crate) trait Values: Debug + Send + Sync {
    /// C_h of a score.
    fn value(&self, at: &Place) -> TermValue;
    /// What stands in `tables`: `[num_heads, rows]` of [`Term::table_rows`].
    fn packed(&self) -> Vec<f32> {
        Vec::new()
    }
}

/// A parameter of a term.
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<u32>,
    /// The axis of heads, where there is one.
    pub(crate) heads: Option<usize>,
}

impl Wanted {
    pub(crate) fn new(name: &'static str, shape: &[u32], heads: Option<usize>) -> Self {
        Wanted { name, shape: shape.to_vec(), heads }
    }
}

/// A parameter as the caller gives it.
pub(crate) struct Given<'a> {
    /// With its number, where its name comes again.
    pub(crate) name: String,
    pub(crate) values: &'a [f32],
}

impl Given<'_> {
    /// # Errors
    /// The first value that is not finite or above 1e10.
    pub(crate) fn check(&self) -> Result<()> {
        match self.values.iter().find(|x| !x.is_finite() || x.abs() > 1e10) {
            Some(x) => Err(Error::input(self.name.clone(), format!("holds {x}"), "give numbers up to 1e10")),
            None => Ok(()),
        }
    }
}

impl Deref for Given<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.values
    }
}

/// The call of a term in WGSL, `function(at, ...)`.
pub(crate) struct KernelCall {
    /// The files that it takes, its own first.
    pub(crate) files: &'static [&'static str],
    pub(crate) function: &'static str,
    /// Behind `at`.
    pub(crate) arguments: Vec<Argument>,
}

/// An argument of a [`KernelCall`].
pub(crate) enum Argument {
    /// Where the term's rows begin in `tables`.
    First,
    /// Rows of a head.
    Rows,
    /// The row that the term's index map gives.
    Row,
    /// A number.
    Int(i32),
    /// A number.
    Float(f64),
}

/// A kind of bias: its parameters, limits, value, error and kernel.
pub(crate) trait Term {
    /// As reports name it.
    fn name(&self) -> String;

    /// # Errors
    /// What does not suit; `field` names a field of the term in a spec file.
    fn validate(&self, heads: u32, field: &dyn Fn(&str) -> String) -> Result<()>;

    /// Its parameters, in the order in which [`Term::values`] takes them.
    fn parameters(&self, heads: u32) -> Vec<Wanted>;

    /// The term with parameters, each of the length that it wants.
    fn values(&self, heads: u32, given: &[Given]) -> Result<Arc<dyn Values>>;

    /// Its index map, where it has one.
    fn index(&self) -> Option<IndexMap> {
        None
    }
    /// Numbers in `tables` for each head.
    fn table_rows(&self) -> u64;

    /// Whether it reads a number of each head in the uniform `heads`, which one term alone may.
    fn reads_heads(&self) -> bool {
        false
    }
    /// That number; none where it does not.
    fn slopes(&self, _heads: u32) -> Vec<f64> {
        Vec::new()
    }
    /// Whether scores of one distance n - m have one value.
    fn is_of_distance(&self) -> bool;

    /// Rounds of loops in a call of its function.
    fn rounds(&self) -> u32 {
        0
    }
    /// Operations of a call, loops counted, where they are more than a few.
    fn operations(&self) -> u32 {
        0
    }

    fn kernel(&self) -> KernelCall;
}
