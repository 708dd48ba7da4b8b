//! The tuned numbers, all of them, each with where it comes from.

use crate::family::Call;
use crate::user;
use crate::{Error, Kernel, Limits, Result, Shape, Spec};
use serde::{Deserialize, Serialize};

/// A family of kernels that compute the same equation: see ARCHITECTURE.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Family {
    /// Few rows over many keys, which are split over workgroups: decode.
    Decode,
    /// Four rows a lane of a vector register: prefill on software adapters.
    Lanes,
    /// One lane a row: takes everything.
    Rows,
    /// Rotation alone: one lane some pairs of a token, over its heads.
    Turns,
}

impl Family {
    /// The name in labels and files.
    pub fn name(self) -> &'static str {
        match self {
            Family::Decode => "decode",
            Family::Lanes => "lanes",
            Family::Rows => "rows",
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
    /// Whether the shader keeps its run-time checks.
    pub checks: bool,
}

impl Tuning {
    pub(crate) fn of(family: Family) -> Self {
        Tuning { family, tile_q: 0, tile_k: 0, splits: 0, checks: true }
    }

    /// Every tuning that a plan may take, the best guess of each family first: what `ropewalk tune` measures and `validate` exercises.
    pub fn candidates(kernel: Kernel, spec: &Spec, shape: &Shape, limits: &Limits) -> Result<Vec<Self>> {
        spec.validate()?;
        let user = user::validate(spec)?;
        let aligned = crate::plan::is_aligned(kernel, spec, shape);
        let call = Call { kernel, spec, shape, limits, aligned, user };
        Ok(Family::ALL.iter().flat_map(|family| family.candidates(&call)).collect())
    }

    /// What the table says for a call; `limits.tuning` goes before it where it suits.
    pub(crate) fn choose(call: &Call) -> Self {
        let all: Vec<_> = Family::ALL.iter().flat_map(|family| family.candidates(call)).collect();
        let wanted = call.limits.tuning.filter(|wanted| all.contains(wanted));
        // a family alone, without numbers
        let family = || all.iter().find(|t| call.limits.tuning == Some(Tuning::of(t.family)));
        wanted.or_else(|| family().copied()).or(all.first().copied()).unwrap_or(Tuning::of(Family::Rows))
    }

    pub(crate) fn check(self, call: &Call) -> Result<Self> {
        match self.family.candidates(call).contains(&self) {
            true => Ok(self),
            false => Err(Error::spec(
                "tuning",
                format!("{self:?} does not suit the spec, the shape or the device"),
                "take one of Tuning::candidates",
            )),
        }
    }
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

/// Of the family `lanes`, which reaches some 50 GFLOP/s on two cores.
pub(crate) const LANES_FLOP_PER_DISPATCH: f64 = 8e9;
/// The most bytes of `work` for rows that `lanes` prepares: a part of the grid at a time.
pub(crate) const LANES_BYTES: u64 = 32 << 20;

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
