//! Rotation alone, cos and sin made once for the heads of a token: a lane owns four pairs of a token and walks over its heads.
//! Rows that are read four elements at a time, without a norm, whose pairs stand in whole vec4.

use crate::equation::rotary::rotary::Pairing;
use crate::error::Result;
use crate::plan::call::Call;
use crate::plan::family::prepare::stands_in_quads;
use crate::plan::grid::{LaidOut, cut_grid};
use crate::plan::kernel::Kernel;
use crate::plan::tuning::tuning::{Family, Tuning};

/// The most lanes of a workgroup.
const LANES: u32 = 256;

/// Tokens whose same units neighbouring lanes take, on a software adapter. Ms for q and k in place (4 096 tokens, 32 + 8 heads x 128,
/// f32, two cores) with 8, and with 1: lavapipe of Mesa 26 19 and 38, of Mesa 25 14 and 11, of Mesa 22 22 and 28.
const CPU_ACROSS: u32 = 8;

/// Heads of a lane on a GPU: enough lanes in flight, little work on angles beside the loads. Not yet measured.
const GPU_HEADS: [u32; 4] = [8, 4, 16, 32];

/// `tile_q` is the tokens that neighbouring lanes take, `tile_k` the heads of a lane, 0 for all.
pub(crate) fn candidates(call: &Call) -> Vec<Tuning> {
    let Some(units) = Units::new(call) else { return Vec::new() };
    let tokens = tokens(call);
    // indices of lanes are u32
    if (tokens + 16) * units.all() as u64 + LANES as u64 > u32::MAX as u64 {
        return Vec::new();
    }
    let tuning = |across: u32, heads: u32| Tuning { tile_q: across, tile_k: heads, ..Tuning::of(Family::Turns) };
    match call.limits.cpu {
        // a token alone would leave the other lanes empty
        true if tokens < CPU_ACROSS as u64 => vec![tuning(1, 0), tuning(CPU_ACROSS, 0)],
        true => vec![tuning(CPU_ACROSS, 0), tuning(1, 0)],
        false => GPU_HEADS.into_iter().chain([0]).map(|heads| tuning(1, heads)).collect(),
    }
}

pub(crate) fn lay_out(call: &Call, tuning: &Tuning) -> Result<LaidOut> {
    let Call { spec, shape, limits, .. } = *call;
    let units = Units::new(call).unwrap_or_default();
    let across = tuning.tile_q.max(1);
    let all_heads = heads(call);
    let most = if tuning.tile_k == 0 { all_heads } else { tuning.tile_k.min(all_heads) };
    let heads = most.min(limits.max_loop_rounds).max(1);
    // on a software adapter one workgroup takes whole tokens, whose cache lines it alone touches
    let lanes = if limits.cpu { (across * units.all()).next_multiple_of(8) } else { 64 };
    let lanes = lanes.min(limits.max_invocations).clamp(1, LANES);
    let batches = if spec.packed { shape.sequences } else { shape.batch };
    let total = tokens(call).next_multiple_of(across as u64) * units.all() as u64;
    let grid = [total.div_ceil(lanes as u64), all_heads.div_ceil(heads) as u64, batches as u64];
    // the angles of four pairs, then 8 elements a head
    let flop = lanes as f64 * (400.0 + 40.0 * heads as f64);
    Ok(LaidOut {
        chunks: cut_grid(grid, flop, limits)?,
        tile: [lanes, 1],
        constants: vec![("ACROSS", across), ("UNITS", units.all()), ("QUADS", units.quads), ("HEADS", heads)],
        label: format!(".turns{across}h{heads}"),
        ..LaidOut::default()
    })
}

/// Rows of the longest sequence.
fn tokens(call: &Call) -> u64 {
    let Call { kernel, spec, shape, .. } = *call;
    let tokens = match (kernel, spec.packed) {
        (Kernel::RotateK { .. }, true) => shape.max_seqlen_k,
        (Kernel::RotateK { .. }, false) => shape.kv_len,
        (_, true) => shape.max_seqlen_q,
        (_, false) => shape.q_len,
    };
    tokens as u64
}

fn heads(call: &Call) -> u32 {
    match call.kernel {
        Kernel::RotateK { .. } => call.spec.num_kv_heads,
        _ => call.spec.num_heads,
    }
}

/// What the lanes of a token are.
#[derive(Default)]
struct Units {
    /// Four pairs each.
    quads: u32,
    /// A vec4 outside the rotary window each.
    copies: u32,
}

impl Units {
    /// None where the pairs do not stand in whole vec4, or the whole row is needed at once.
    fn new(call: &Call) -> Option<Self> {
        let Call { kernel, spec, aligned, .. } = *call;
        let rotary = spec.rotary.as_ref()?;
        let in_place = kernel.in_place();
        let moves = rotary.pairing == Pairing::InterleavedInHalfOut && in_place;
        let rotates = matches!(kernel, Kernel::RotateQ { .. } | Kernel::RotateK { .. });
        let suits = rotates && stands_in_quads(spec, aligned) && !moves;
        let rest = spec.head_dim.saturating_sub(rotary.rotary_dim) / 4;
        suits.then_some(Units { quads: rotary.rotary_dim / 8, copies: if in_place { 0 } else { rest } })
    }
    fn all(&self) -> u32 {
        (self.quads + self.copies).max(1)
    }
}
