//! The names of the families, and a family with its numbers as text.

use crate::error::{Error, Result};
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// A family of kernels that compute the same equation: docs/kernels.md lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Family {
    /// Both products in blocks of registers: prefill on GPUs.
    Block,
    /// Both products on cooperative matrices: prefill in f16, where a device was opened with them.
    Coop,
    /// Few rows over many keys, which are split over workgroups: decode.
    Decode,
    /// Four rows a lane of a vector register: prefill on software adapters.
    Lanes,
    /// One lane a row: takes everything.
    Rows,
    /// Register tiles of both products, scores in workgroup memory: prefill on GPUs where `block` does not fit.
    Tile,
    /// Rotation alone: one lane some pairs of a token, over its heads.
    Turns,
    /// Few rows over many keys, every load of a tile on its way at once: decode on GPUs.
    Wide,
}

impl Family {
    /// The name in labels and files.
    pub fn name(self) -> &'static str {
        match self {
            Family::Block => "block",
            Family::Coop => "coop",
            Family::Decode => "decode",
            Family::Lanes => "lanes",
            Family::Rows => "rows",
            Family::Tile => "tile",
            Family::Turns => "turns",
            Family::Wide => "wide",
        }
    }
}

/// A family and its numbers; 0 where a family has no such number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tuning {
    /// The family.
    pub family: Family,
    /// Rows of a workgroup.
    pub tile_q: u32,
    /// Keys of a tile.
    pub tile_k: u32,
    /// Parts that the keys of a row are split into, at most.
    pub splits: u32,
    /// Whether the shader keeps its run-time checks: of indices, loops and integer divisions.
    pub checks: bool,
}

/// The family with its numbers, as addresses of cases have it: `rows`, `tile-q64k32`, `decode-q8k32s16-unchecked`.
impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.family.name())?;
        let numbers = [("q", self.tile_q), ("k", self.tile_k), ("s", self.splits)];
        let mut dash = "-";
        for (name, n) in numbers.into_iter().filter(|(_, n)| *n > 0) {
            write!(f, "{}{name}{n}", std::mem::take(&mut dash))?;
        }
        if self.checks { Ok(()) } else { write!(f, "-unchecked") }
    }
}

/// A family alone stands for its best guess.
impl FromStr for Tuning {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let mut parts = text.split('-').peekable();
            let family = parts.next()?;
            let mut tuning = Tuning::of(Family::ALL.into_iter().find(|f| f.name() == family)?);
            if let Some(numbers) = parts.next_if(|part| *part != "unchecked") {
                let mut rest = numbers;
                let of = [('q', &mut tuning.tile_q), ('k', &mut tuning.tile_k), ('s', &mut tuning.splits)];
                for (name, to) in of {
                    if let Some(number) = rest.strip_prefix(name) {
                        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
                        let (digits, behind) = number.split_at(end);
                        (*to, rest) = (digits.parse().ok()?, behind);
                    }
                }
                (rest.is_empty() && numbers != rest).then_some(())?;
            }
            tuning.checks = parts.next().is_none_or(|part| part != "unchecked");
            // one spelling each
            (tuning.to_string() == text).then_some(tuning)
        };
        read().ok_or_else(|| {
            let families: Vec<_> = Family::ALL.iter().map(|f| f.name()).collect();
            let help = format!("give a family ({}), or one with its numbers, as in tile-q64k32", families.join(", "));
            Error::input("tuning", format!("{text:?} cannot be read"), help)
        })
    }
}

impl Tuning {
    pub(crate) fn of(family: Family) -> Self {
        Tuning { family, tile_q: 0, tile_k: 0, splits: 0, checks: true }
    }
    /// It was never a candidate of a call.
    pub(crate) fn misfit(&self) -> Error {
        Error::spec("tuning", format!("{self:?} does not fit"), "take one of Tuning::candidates")
    }
    /// The same without its shader's run-time checks; plans take it only where the host bounds every index.
    pub fn without_checks(self) -> Self {
        Tuning { checks: false, ..self }
    }
}
