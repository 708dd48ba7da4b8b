//! Numbers that bound a dispatch: rows and keys of a tile, work, bytes, loop rounds.

use crate::equation::spec::Spec;
use crate::error::Error;

/// Rows (and lanes) of a workgroup of `attention`, `scores` and `rotate`. 64 is a multiple of every subgroup size from
/// 4 to 64 and half of the largest; not yet measured on a GPU.
pub(crate) const TILE_Q: u32 = 64;

/// The most keys of a tile; their visibility is one u32.
const MAX_TILE_K: u32 = 32;

/// Seconds that a dispatch is planned for at most, a quarter of what the shortest watchdog waits (Windows: two seconds).
const DISPATCH_SECONDS: f64 = 0.5;

/// Floating-point operations a second that the kernels are assumed to reach at least, by kind of GPU: a twentieth of the peak of small ones of the
/// kind (a discrete card of 24 TFLOP/s, an integrated one of 2). Not yet measured. The families `block`, `tile` and `wide`; others have an eighth
/// of it ([`TILE_FLOP`]).
pub(crate) const DISCRETE_RATE: f64 = 1.2e12;

/// See [`DISCRETE_RATE`].
#[cfg(feature = "wgpu")]
pub(crate) const INTEGRATED_RATE: f64 = 1e11;

/// Of a GPU that does not say what it is: a quarter of a discrete one's.
pub(crate) const UNKNOWN_RATE: f64 = DISCRETE_RATE / 4.0;

/// Operations (2 for a multiply-add) that a dispatch may hold, of a family without a factor of its own.
pub(crate) const fn flop_per_dispatch(rate: f64) -> f64 {
    DISPATCH_SECONDS * rate / TILE_FLOP
}

/// The same of a software adapter: SwiftShader reaches 1 GFLOP/s on two cores with these kernels.
pub(crate) const CPU_FLOP_PER_DISPATCH: f64 = 5e8;

/// Of the family `lanes`, which reaches some 50 GFLOP/s on two cores: about half a second, and whole heads at a time.
pub(crate) const LANES_FLOP_PER_DISPATCH: f64 = 32e9;

/// The most bytes of `work` for rows that `lanes` prepares: a part of the grid at a time.
pub(crate) const LANES_BYTES: u64 = 24 << 20;

/// Rounds of all loops that one invocation may make in a dispatch on a software adapter: llvmpipe of Mesa 22 leaves every
/// loop, silently, after 65 535 of them in all (seen with 22.3.6: 896 keys of head_dim 128; Mesa 25 and 26 do not).
pub(crate) const CPU_LOOP_ROUNDS: u32 = 60_000;

/// Keys of a tile for rows of 4 bytes an element, padded to 16 elements: a key's, twice where it turns in two ways, and its value's where that
/// is staged too.
pub(crate) fn tile_k(spec: &Spec, workgroup_storage: u32) -> u32 {
    let value = if spec.rotates_values() { spec.v_head_dim.div_ceil(16) } else { 0 };
    let turns = if spec.rotary.as_ref().is_some_and(|r| r.branches.is_some()) { 2 } else { 1 };
    MAX_TILE_K.min(workgroup_storage / (64 * (turns * spec.head_dim.div_ceil(16) + value)))
}

/// The most rows of a relative table whose products are made beforehand.
pub(crate) const MAX_PRODUCT_ROWS: u64 = 1024;

/// The share of `work` for such products: a part of the grid at a time.
pub(crate) const PRODUCT_BYTES: u64 = 16 << 20;

/// Rows and keys of a tile of the family `tile`, the best guess first: see `family/tile.rs`; not yet measured on a GPU.
pub(crate) const TILES: [[u32; 2]; 6] = [[64, 64], [32, 64], [64, 32], [128, 64], [128, 32], [32, 128]];

/// The operations of a dispatch of `tile` and `block` on a GPU, in those of other families: they are that much faster at least.
pub(crate) const TILE_FLOP: f64 = 8.0;

/// The same of the family `coop`: eight times the rate of multiply-adds, where matrix units have 8 to 16 times that of all others.
pub(crate) const COOP_FLOP: f64 = 64.0;

/// The same of the family `wide`, which memory bounds: 150 GFLOP of its kind read 75 GB at most, and few rows far less.
pub(crate) const WIDE_FLOP: f64 = 8.0;

/// Kinds of scratch in `work`: products of queries, products of keys, prepared queries, prepared keys, partial results.
pub(crate) const SCRATCH: usize = 5;

/// What to do about it.
pub(crate) const OVERLAP: &str = "rows that a kernel writes must be apart: copy the tensor, or compute into another";

/// The most dispatches of a plan: their uniforms take 256 bytes each.
pub(crate) const MAX_DISPATCHES: u64 = 1 << 18;

pub(crate) fn too_many_dispatches() -> Error {
    let help = "call for fewer sequences, heads or tokens at a time";
    Error::limit("dispatches", format!("more than {MAX_DISPATCHES} of them"), help)
}
