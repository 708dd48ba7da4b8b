//! The kinds of bias as a spec has them, and the one `match` that leads to the file of each.

use crate::equation::bias::alibi::{Alibi, AlibiForm};
use crate::equation::bias::fire::Fire;
use crate::equation::bias::indexed::Indexed;
use crate::equation::bias::kerple::{Kerple, KerpleKind};
use crate::equation::bias::log_cpb::LogCpb;
use crate::equation::bias::t5::T5;
use crate::equation::bias::table::Table;
use crate::equation::bias::term::{Given, Term, Values};
use crate::equation::defaults::one;
use crate::equation::index::IndexMap;
use crate::equation::parameter::Parameter;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// FIRE (Li et al. 2024): `b2[h] + sum over units of w2[h, unit] relu(w1[unit] x + b1[unit])` of
    /// x = ln(1 + |c| |m - n|) / (ln(1 + |c| max(m, |L|)) + eps). Parameters: `fire_c` and `fire_l` `[1]` (L: the threshold, its
    /// multiplier counted in), `fire_w1` and `fire_b1` `[hidden]`, `fire_w2` `[num_heads, hidden]`, `fire_b2` `[num_heads]`. Two-sided, as
    /// the authors' code; positions count from 0.
    Fire {
        /// Units of the hidden layer.
        #[serde(default = "fire_hidden")]
        hidden: u32,
        /// Added to the scale.
        #[serde(default = "fire_eps")]
        eps: f64,
    },
}

fn kerple_eps() -> f64 {
    0.01
}
fn fire_hidden() -> u32 {
    32
}
fn fire_eps() -> f64 {
    1e-6
}

impl Bias {
    /// What its kind says of it.
    pub(crate) fn term(&self) -> Box<dyn Term + '_> {
        match *self {
            Bias::Table { min, max } => Box::new(Table { min, max }),
            Bias::T5 { num_buckets, max_distance, bidirectional } => {
                Box::new(T5 { num_buckets, max_distance, bidirectional })
            }
            Bias::Alibi { form, ref slopes, scale } => Box::new(Alibi { form, slopes: slopes.as_deref(), scale }),
            Bias::Indexed { index } => Box::new(Indexed { index }),
            Bias::LogCpb { height, width, pretrained, hidden } => {
                Box::new(LogCpb { height, width, pretrained, hidden })
            }
            Bias::Kerple { kind, eps } => Box::new(Kerple { kind, eps }),
            Bias::Fire { hidden, eps } => Box::new(Fire { hidden, eps }),
        }
    }

    /// The index map of a term that has one.
    pub fn index(&self) -> Option<IndexMap> {
        self.term().index()
    }

    /// The term of some of the heads; what is no parameter is cut here.
    #[cfg(feature = "wgpu")]
    pub(crate) fn of_heads(&self, heads: u32, some: &std::ops::Range<u32>) -> Bias {
        let mut of = self.clone();
        if let Bias::Alibi { slopes, scale, .. } = &mut of {
            let all = self.term().slopes(heads);
            *slopes = Some(all[some.start as usize..some.end as usize].iter().map(|s| *s as f32).collect());
            *scale = 1.0;
        }
        of
    }
}

/// The parameters of bias terms, in order; a name that comes again is numbered: `bias_table`, `bias_table_1`.
pub(crate) fn parameters(terms: &[Bias], heads: u32) -> Vec<Parameter> {
    let mut used: BTreeMap<&str, u32> = BTreeMap::new();
    let mut numbered = |name: &'static str| {
        let before = used.entry(name).or_default();
        let numbered = if *before == 0 { name.to_string() } else { format!("{name}_{before}") };
        *before += 1;
        numbered
    };
    let wanted = terms.iter().flat_map(|bias| bias.term().parameters(heads));
    wanted.map(|wanted| Parameter::new(numbered(wanted.name), wanted.shape, wanted.heads)).collect()
}

/// Bias terms with the caller's parameters.
pub(crate) fn resolve(terms: &[Bias], heads: u32, given: &BTreeMap<String, Vec<f32>>) -> Result<Vec<Arc<dyn Values>>> {
    let mut wanted = parameters(terms, heads).into_iter();
    let one = |bias: &Bias| {
        let term = bias.term();
        let find = |parameter: Parameter| {
            let found = given.get(&parameter.name);
            match found.filter(|t| t.len() as u64 == parameter.len()) {
                Some(values) => Ok(Given { name: parameter.name, values }),
                None => {
                    let problem = found.map_or("is missing".into(), |t| format!("{} values", t.len()));
                    Err(Error::input(parameter.name, problem, format!("give {:?} of them", parameter.shape)))
                }
            }
        };
        let own = term.parameters(heads).len();
        let of_term = wanted.by_ref().take(own).map(find).collect::<Result<Vec<Given>>>()?;
        term.values(heads, &of_term)
    };
    terms.iter().map(one).collect()
}
