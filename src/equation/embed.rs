//! Absolute systems: x_i + P[m], before the projection to q, k and v. A spec of their own, since a row is as wide as the
//! model, and a kernel of their own.
//!
//! ```text
//! out_i = input_scale x_i + position_scale P[m_i]
//!
//! sinusoidal  P[m] = sin(m f_p), cos(m f_p),  f_p = base^(-p / (d/2))  or  base^(-p / (d/2 - 1))    (Vaswani et al. 2017)
//! learned     P[m] = row m of the model's table                                           (BERT, GPT-2, RoBERTa, OPT)
//! ```

use crate::equation::defaults::SCHEMA;
use crate::equation::dtype::Dtype;
use crate::equation::rotary::phase;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::Serialize;

/// The largest width of an [`Embed`].
pub const MAX_EMBED_DIM: u32 = 1 << 16;

/// Which column of a sinusoidal row holds what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Columns {
    /// All sines, then all cosines (tensor2tensor, M2M100, Marian, Whisper, GPT-J).
    Halves,
    /// sin, cos, sin, cos, ... (Vaswani et al. 2017, section 3.5; SpeechT5).
    Interleaved,
}

/// What divides p in the exponent of the frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Denominator {
    /// d/2, as in the paper. With an odd d there is one sine more than cosines.
    Half,
    /// d/2 - 1, rounded down (tensor2tensor): the last frequency is exactly 1/base. With an odd d the last column is 0.
    HalfLessOne,
}

/// Where P comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Absolute {
    /// sin and cos of the position: any i32.
    Sinusoidal {
        /// The order of columns.
        columns: Columns,
        /// The exponent's denominator.
        denominator: Denominator,
        /// 10000 in the paper.
        #[serde(default = "ten_thousand")]
        base: f64,
        /// A position whose row is zero (M2M100, XGLM: the padding token's).
        #[serde(default)]
        padding_row: Option<i32>,
    },
    /// A learned table, `table` `[rows, dim]`, is among the inputs. A position beyond it is an error.
    Learned {
        /// Rows of the table, those of offsets included.
        rows: u32,
    },
}

fn ten_thousand() -> f64 {
    10_000.0
}

fn one() -> f64 {
    1.0
}

/// What [`Kernel::Embed`](crate::Kernel::Embed) computes. Read it from JSON, or start from [`Embed::sinusoidal`] or [`Embed::learned`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Embed {
    /// The version of the file format, [`SCHEMA`].
    pub schema: u32,
    /// The model's width, 1 to [`MAX_EMBED_DIM`].
    pub dim: u32,
    /// Storage of x, out and the learned table.
    pub dtype: Dtype,
    /// P.
    pub positions: Absolute,
    /// Multiplies x (sqrt(dim) in Vaswani et al., M2M100, XGLM).
    #[serde(default = "one")]
    pub input_scale: f64,
    /// Multiplies P (SpeechT5's alpha).
    #[serde(default = "one")]
    pub position_scale: f64,
}

impl Embed {
    /// Vaswani et al.'s form: base 10000, no padding row, scales 1, f32.
    pub fn sinusoidal(dim: u32, columns: Columns, denominator: Denominator) -> Self {
        Self::new(dim, Absolute::Sinusoidal { columns, denominator, base: 10_000.0, padding_row: None })
    }
    /// A learned table, scales 1, f32.
    pub fn learned(dim: u32, rows: u32) -> Self {
        Self::new(dim, Absolute::Learned { rows })
    }
    fn new(dim: u32, positions: Absolute) -> Self {
        Embed { schema: SCHEMA, dim, dtype: Dtype::F32, positions, input_scale: 1.0, position_scale: 1.0 }
    }

    /// Reads a file of these fields. Unknown fields, another schema and contradictions are errors that name the field.
    pub fn from_json(text: &str) -> Result<Self> {
        let embed: Embed = serde_json::from_str(text)
            .map_err(|e| Error::spec("(file)", format!("cannot be read: {e}"), "see `Embed` for the fields"))?;
        embed.validate()?;
        Ok(embed)
    }

    /// Checks every field; the error names the first that is wrong.
    pub fn validate(&self) -> Result<()> {
        let err = |field: &str, problem: String, help: &str| Err(Error::spec(field, problem, help));
        if self.schema != SCHEMA {
            return err("schema", format!("is {}", self.schema), &format!("this version of ropewalk reads {SCHEMA}"));
        }
        if self.dim == 0 || self.dim > MAX_EMBED_DIM {
            return err("dim", format!("is {}", self.dim), &format!("give 1 to {MAX_EMBED_DIM}"));
        }
        if self.dtype.in_blocks() {
            return err("dtype", format!("is {}", self.dtype.name()), "give f32, f16 or bf16");
        }
        for (field, x) in [("input_scale", self.input_scale), ("position_scale", self.position_scale)] {
            if !x.is_finite() || x.abs() > 1e30 {
                return err(field, format!("is {x}"), "give a number below 1e30 in size");
            }
        }
        match &self.positions {
            Absolute::Learned { rows } if *rows == 0 || *rows > 1 << 30 => {
                err("positions.learned.rows", format!("is {rows}"), "give 1 to 2^30")
            }
            Absolute::Learned { .. } => Ok(()),
            Absolute::Sinusoidal { denominator: Denominator::HalfLessOne, .. } if self.dim < 4 => err(
                "positions.sinusoidal.denominator",
                format!("is d/2 - 1 = {} of dim {}", self.dim / 2 - self.dim.min(2) / 2, self.dim),
                "give a dim of 4 or more, or the denominator half",
            ),
            Absolute::Sinusoidal { base, .. } => {
                let wrong = |f: &f64| !f.is_finite() || *f > 65_536.0;
                match !(base.is_finite() && *base > 0.0) || self.frequencies().iter().any(wrong) {
                    true => err(
                        "positions.sinusoidal.base",
                        format!("is {base}"),
                        "give a finite number above 0 (10000 in the paper) with frequencies up to 65536",
                    ),
                    false => Ok(()),
                }
            }
        }
    }

    /// Radians per position of every frequency; none of a learned table.
    pub fn frequencies(&self) -> Vec<f64> {
        let Absolute::Sinusoidal { denominator, base, .. } = &self.positions else { return Vec::new() };
        let (sines, _) = self.waves();
        let divisor = match denominator {
            Denominator::Half => self.dim as f64 / 2.0,
            Denominator::HalfLessOne => (self.dim / 2) as f64 - 1.0,
        };
        (0..sines).map(|p| base.powf(-(p as f64) / divisor)).collect()
    }

    /// The columns that are sines and those that are cosines.
    pub(crate) fn waves(&self) -> (u32, u32) {
        match &self.positions {
            Absolute::Sinusoidal { denominator: Denominator::Half, .. } => (self.dim.div_ceil(2), self.dim / 2),
            Absolute::Sinusoidal { denominator: Denominator::HalfLessOne, .. } => (self.dim / 2, self.dim / 2),
            Absolute::Learned { .. } => (0, 0),
        }
    }

    /// What the `dense` buffer holds where P is sinusoidal: the phase increment of every frequency, upper and lower word.
    pub fn pack_increments(&self) -> Vec<u32> {
        let words = |f: f64| {
            let inc = phase::increment(f);
            [(inc >> 32) as u32, inc as u32]
        };
        self.frequencies().into_iter().flat_map(words).collect()
    }

    /// The names of the terms, as reports print them.
    pub fn terms(&self) -> Vec<String> {
        let mut terms = vec![match &self.positions {
            Absolute::Sinusoidal { columns, denominator, .. } => {
                let columns = match columns {
                    Columns::Halves => "halves",
                    Columns::Interleaved => "interleaved",
                };
                let denominator = match denominator {
                    Denominator::Half => "d/2",
                    Denominator::HalfLessOne => "d/2-1",
                };
                format!("P(sinusoidal {columns} {denominator})")
            }
            Absolute::Learned { rows } => format!("P(learned {rows})"),
        }];
        if self.input_scale != 1.0 {
            terms.push("input_scale".into());
        }
        if self.position_scale != 1.0 {
            terms.push("position_scale".into());
        }
        terms
    }

    /// An error names the first position that is no row of the table, and the table's size.
    pub(crate) fn check_positions(rows: Option<u32>, positions: &[i32]) -> Result<()> {
        let outside = |rows: u32| positions.iter().position(|m| *m < 0 || *m as u32 >= rows);
        match rows.and_then(|rows| outside(rows).map(|at| (rows, at))) {
            Some((rows, at)) => Err(Error::input(
                "positions",
                format!("token {at} stands at position {}", positions.get(at).copied().unwrap_or_default()),
                format!("the table has {rows} rows, 0 to {}: give a larger table or fewer tokens", rows - 1),
            )),
            None => Ok(()),
        }
    }

    /// Rows of a learned table.
    pub(crate) fn rows(&self) -> Option<u32> {
        match self.positions {
            Absolute::Learned { rows } => Some(rows),
            Absolute::Sinusoidal { .. } => None,
        }
    }
}
