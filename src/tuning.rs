//! Which family of kernels computes a call, with which numbers: winners that were measured here, else the table, each with where
//! it comes from.

mod bucket;
#[cfg(feature = "wgpu")]
mod cache;
mod table;

use crate::family::Call;
use crate::variant::Files;
use crate::{Error, Kernel, Limits, Result, Shape, Spec, trusted};
pub use bucket::{Bucket, Tunings};
#[cfg(feature = "wgpu")]
pub use cache::{TuningCache, Winner};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
pub use table::Source;

/// A family of kernels that compute the same equation: see ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Family {
    /// Both products on cooperative matrices: prefill in f16, where a device was opened with them.
    Coop,
    /// Few rows over many keys, which are split over workgroups: decode.
    Decode,
    /// Four rows a lane of a vector register: prefill on software adapters.
    Lanes,
    /// One lane a row: takes everything.
    Rows,
    /// Register tiles of both products: prefill on GPUs.
    Tile,
    /// Rotation alone: one lane some pairs of a token, over its heads.
    Turns,
}

impl Family {
    /// The name in labels and files.
    pub fn name(self) -> &'static str {
        match self {
            Family::Coop => "coop",
            Family::Decode => "decode",
            Family::Lanes => "lanes",
            Family::Rows => "rows",
            Family::Tile => "tile",
            Family::Turns => "turns",
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

    /// The same without its shader's run-time checks; plans take it only where the host bounds every index.
    pub fn without_checks(self) -> Self {
        Tuning { checks: false, ..self }
    }

    /// Every tuning that a plan may take, the best guess of each family first: what `ropewalk tune` measures and `validate` exercises.
    /// On GPUs each comes with and, where the host bounds every index, without run-time checks; on software adapters only with them,
    /// since dropping them makes some of those slower ([`Tuning::without_checks`] still gives such a one).
    ///
    /// # Errors
    /// Those of [`Plan::new`](crate::Plan::new) for the spec, the shape and the limits.
    pub fn candidates(kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits) -> Result<Vec<Self>> {
        let call = Call::new(kernel, spec, shape, limits)?;
        let all = of_families(&call);
        let without = all.iter().map(|tuning| tuning.without_checks());
        let without: Vec<_> = without.filter(|tuning| !limits.cpu && tuning.suits(&call)).collect();
        Ok(all.into_iter().chain(without).collect())
    }

    /// What a call gets, and where that is written: what `limits` ask for, else the winner of its bucket, else the table's first line
    /// that is about it. What does not suit the call is passed over.
    pub(crate) fn choose(call: &Call) -> (Self, Source) {
        if let Some(wanted) = call.limits.tuning {
            // a family alone, without numbers
            let alone = || Tuning::of_family(call, wanted.family).filter(|_| wanted == Tuning::of(wanted.family));
            if let Some(tuning) = Some(wanted).filter(|t| t.suits(call)).or_else(alone) {
                return (tuning, Source::Asked);
            }
        }
        let stored = || call.limits.tunings.get(&Bucket::of(call));
        if let Some(tuning) = Some(call.limits.tunings).filter(|t| !t.is_empty()).and_then(|_| stored())
            && tuning.suits(call)
        {
            return (tuning, Source::Stored);
        }
        table::choose(call)
    }

    /// What a family alone stands for, with the numbers and the checks of the table; none where it does not suit.
    pub(crate) fn of_family(call: &Call, family: Family) -> Option<Self> {
        table::of_family(call, family)
    }

    /// Itself, where a call may take it.
    pub(crate) fn check(self, call: &Call) -> Result<Self> {
        if self.suits(call) {
            return Ok(self);
        }
        let checked = Tuning { checks: true, ..self };
        let (problem, help) = match checked.suits(call).then(|| self.keeps_checks(call)).flatten() {
            Some((file, why)) => (
                format!("{self:?} drops run-time checks that the shader keeps: {file}: {why}"),
                "take it with checks: true",
            ),
            None => {
                (format!("{self:?} does not suit the spec, the shape or the device"), "take one of Tuning::candidates")
            }
        };
        Err(Error::spec("tuning", problem, help))
    }

    /// Whether a plan may take it.
    pub(crate) fn suits(self, call: &Call) -> bool {
        let checked = Tuning { checks: true, ..self };
        self.family.candidates(call).contains(&checked) && (self.checks || self.keeps_checks(call).is_none())
    }

    /// The first file of its shader that needs run-time checks, and why.
    fn keeps_checks(self, call: &Call) -> Option<(&'static str, &'static str)> {
        match self.family.lay_out(call, &self) {
            Ok(laid) => trusted::keeps_checks(&Files::new(call, &self, laid.carry, laid.products.gathered).files),
            Err(_) => Some(("(plan)", "it cannot be laid out")),
        }
    }
}

/// The candidates of every family, all with run-time checks.
fn of_families(call: &Call) -> Vec<Tuning> {
    Family::ALL.iter().flat_map(|family| family.candidates(call)).collect()
}

/// Rows (and lanes) of a workgroup of `attention`, `scores` and `rotate`. 64 is a multiple of every subgroup size from
/// 4 to 64 and half of the largest; not yet measured on a GPU.
pub(crate) const TILE_Q: u32 = 64;

/// The most keys of a tile; their visibility is one u32.
const MAX_TILE_K: u32 = 32;

/// Multiply-adds and the like (2 for each) that one dispatch may hold, so that it stays well below a watchdog's two
/// seconds. GPU: an integrated one at 8 GFLOP/s would need half a second. CPU adapter: SwiftShader reaches 1 GFLOP/s on
/// two cores with these kernels.
pub(crate) const GPU_FLOP_PER_DISPATCH: f64 = 4e9;
/// See [`GPU_FLOP_PER_DISPATCH`].
pub(crate) const CPU_FLOP_PER_DISPATCH: f64 = 5e8;

/// Of the family `lanes`, which reaches some 50 GFLOP/s on two cores: about half a second, and whole heads at a time.
pub(crate) const LANES_FLOP_PER_DISPATCH: f64 = 32e9;
/// The most bytes of `work` for rows that `lanes` prepares: a part of the grid at a time.
pub(crate) const LANES_BYTES: u64 = 24 << 20;

/// Rounds of all loops that one invocation may make in a dispatch on a software adapter: llvmpipe of Mesa 22 leaves every
/// loop, silently, after 65 535 of them in all (seen with 22.3.6: 896 keys of head_dim 128; Mesa 25 and 26 do not).
pub(crate) const CPU_LOOP_ROUNDS: u32 = 60_000;

/// Keys of a tile for rows of 4 bytes an element, padded to 16 elements: a key's, and its value's where that is staged too.
pub(crate) fn tile_k(spec: &Spec, workgroup_storage: u32) -> u32 {
    let value = if spec.rotates_values() { spec.v_head_dim.div_ceil(16) } else { 0 };
    MAX_TILE_K.min(workgroup_storage / (64 * (spec.head_dim.div_ceil(16) + value)))
}

/// The most rows of a relative table whose products are made beforehand.
pub(crate) const MAX_PRODUCT_ROWS: u64 = 1024;
/// The share of `work` for such products: a part of the grid at a time.
pub(crate) const PRODUCT_BYTES: u64 = 16 << 20;

/// Rows and keys of a tile of the family `tile`, the best guess first: see `family/tile.rs`; not yet measured on a GPU.
pub(crate) const TILES: [[u32; 2]; 6] = [[64, 64], [32, 64], [64, 32], [128, 64], [128, 32], [32, 128]];
/// The same family's operations of a dispatch, in those of [`GPU_FLOP_PER_DISPATCH`]: it is that much faster at least, and smaller
/// dispatches leave a large GPU idle.
pub(crate) const TILE_FLOP: f64 = 8.0;
/// The most of `work` for prepared queries and keys: a part of the grid at a time.
pub(crate) const PREPARED_BYTES: u64 = 24 << 20;
