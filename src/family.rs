//! Families of kernels. Each is a file with its own story and says what it takes, how it cuts the work, and what it needs of `work`;
//! [`Tuning::choose`](crate::Tuning) picks among them from spec, shape and device alone.

pub(crate) mod coop;
pub(crate) mod decode;
pub(crate) mod lanes;
mod rows;
pub(crate) mod tile;
pub(crate) mod turns;

use crate::plan::ChunkDispatch;
use crate::products::Products;
use crate::tuning::{Family, Tuning};
use crate::user::Cost;
use crate::{Error, Kernel, Limits, Plan, Result, Shape, Spec, plan, user};

/// Kinds of scratch in `work`: products of queries, products of keys, prepared queries, prepared keys, partial results.
pub(crate) const SCRATCH: usize = 5;

/// What a plan is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) spec: &'a Spec,
    pub(crate) shape: &'a Shape,
    pub(crate) limits: &'a Limits,
    /// Four elements are loaded at a time.
    pub(crate) aligned: bool,
    /// Of the user's own functions.
    pub(crate) user: Cost,
}

impl<'a> Call<'a> {
    /// Of a spec that is valid, a shape whose products are in bounds, and limits that are WebGPU's defaults at least.
    pub(crate) fn new(kernel: Kernel, spec: &'a Spec, shape: &'a Shape, limits: &'a Limits) -> Result<Self> {
        spec.validate()?;
        spec.check_streams()?;
        if let Kernel::Embed { .. } = kernel {
            return Err(Error::spec("kernel", "is embed", "plan it with Plan::embed, which takes an Embed"));
        }
        kernel.suits(spec)?;
        shape.check(spec)?;
        Plan::check_limits(limits)?;
        let (user, aligned) = (user::validate(spec)?, plan::is_aligned(kernel, spec, shape));
        Ok(Call { kernel, spec, shape, limits, aligned, user })
    }
}

/// What a family makes of it.
#[derive(Default)]
pub(crate) struct LaidOut {
    /// The dispatches, in order.
    pub(crate) chunks: Vec<ChunkDispatch>,
    /// Rows and keys of a tile: TILE_Q and TILE_K.
    pub(crate) tile: [u32; 2],
    /// More constants of the preamble.
    pub(crate) constants: Vec<(&'static str, u32)>,
    /// Words of `work` for each kind of scratch.
    pub(crate) scratch: [u64; SCRATCH],
    /// Parts that the keys of a row are split into, and keys of one.
    pub(crate) splits: [u32; 2],
    /// Whether the keys of a row are cut over dispatches, its state carried in `work`.
    pub(crate) carry: bool,
    /// Products of A and B that are made beforehand.
    pub(crate) products: Products,
    /// What the plan's label says of it, each with a dot before it.
    pub(crate) label: String,
}

impl Family {
    /// Every family; what comes first is preferred where the table is silent.
    pub(crate) const ALL: [Family; 6] =
        [Family::Turns, Family::Decode, Family::Coop, Family::Lanes, Family::Tile, Family::Rows];

    /// The tunings of this family that a call may take, the best guess first; none where it does not suit.
    pub(crate) fn candidates(self, call: &Call) -> Vec<Tuning> {
        match self {
            Family::Coop => coop::candidates(call),
            Family::Turns => turns::candidates(call),
            Family::Decode => decode::candidates(call),
            Family::Lanes => lanes::candidates(call),
            Family::Tile => tile::candidates(call),
            Family::Rows => vec![Tuning::of(Family::Rows)],
        }
    }

    pub(crate) fn lay_out(self, call: &Call, tuning: &Tuning) -> Result<LaidOut> {
        match self {
            Family::Coop => coop::lay_out(call, tuning),
            Family::Turns => turns::lay_out(call, tuning),
            Family::Decode => decode::lay_out(call, tuning),
            Family::Lanes => lanes::lay_out(call, tuning),
            Family::Tile => tile::lay_out(call, tuning),
            Family::Rows => rows::lay_out(call),
        }
    }
}
