//! Linear attention: state, tiles, dispatches, files. A lane keeps one column of S and walks over the tokens in tiles; the keys of a
//! dispatch ([`ChunkDispatch::keys`]) are times. Bidirectional attention is the causal one with all queries after all keys.

use crate::equation::linear::{Decay, FeatureMap};
use crate::equation::spec::Spec;
use crate::error::Result;
use crate::inputs::shape::Shape;
use crate::plan::budget::{MAX_DISPATCHES, too_many_dispatches};
use crate::plan::grid::{ChunkDispatch, cut_grid};
use crate::plan::limits::Limits;
use crate::plan::slots::ShaderFiles;
use crate::shader::layout::Slot;

/// Where the parts of `work` stand, in words: S, then z of every workgroup, then the stabiliser of every workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateLayout {
    pub(crate) normalizer: u64,
    pub(crate) maximum: u64,
    pub(crate) words: u64,
}

impl StateLayout {
    pub(crate) fn new(spec: &Spec, batch: u32) -> Self {
        let units = batch as u64 * spec.num_heads as u64 * v_tiles(spec) as u64;
        let (features, linear) = (spec.features() as u64, spec.linear.as_ref());
        let normalizer = batch as u64 * spec.num_heads as u64 * features * spec.v_head_dim as u64;
        let maximum = normalizer + if linear.is_some_and(|l| l.normalizer.is_some()) { units * features } else { 0 };
        let stabilised = linear.is_some_and(|l| matches!(l.features, FeatureMap::Softmax { .. }));
        StateLayout { normalizer, maximum, words: maximum + if stabilised { units } else { 0 } }
    }
}

/// f32 of every token and kv head in `dense`.
pub(crate) fn decay_width(spec: &Spec) -> u64 {
    match spec.linear.as_ref().and_then(|l| l.decay.as_ref()) {
        Some(Decay::Token) => 1,
        Some(Decay::Feature) => spec.features() as u64,
        _ => 0,
    }
}

/// f32 of every token and kv head behind them: beta of the delta rule.
pub(crate) fn beta_width(spec: &Spec) -> u64 {
    spec.linear.as_ref().is_some_and(|l| l.delta) as u64
}

/// Words of `dense` before those of beta.
pub(crate) fn decay_words(spec: &Spec, shape: &Shape) -> u64 {
    shape.batch as u64 * shape.kv_len as u64 * spec.num_kv_heads as u64 * decay_width(spec)
}

/// Tiles of the columns of v.
pub(crate) fn v_tiles(spec: &Spec) -> u32 {
    spec.v_head_dim.div_ceil(crate::plan::budget::TILE_Q)
}

/// Times of a tile: what workgroup memory holds of features, outputs and what the variant adds.
pub(crate) fn tile_t(spec: &Spec, workgroup_storage: u32) -> u32 {
    let (features, head) = (16 * spec.features().div_ceil(4), 16 * spec.head_dim.div_ceil(4));
    let (mut each, mut once) = (2 * features + 4 * crate::plan::budget::TILE_Q, 0);
    if let Some(linear) = &spec.linear {
        if linear.normalizer.is_some() {
            (each, once) = (each + 4, once + features + 16);
        }
        if let FeatureMap::Softmax { .. } = linear.features {
            each += head + 4;
        }
        each += match linear.decay {
            Some(Decay::Token) => 4,
            Some(Decay::Feature) => features,
            _ => 0,
        };
        each += if linear.delta { 4 } else { 0 };
    }
    // padding between the arrays
    (workgroup_storage.saturating_sub(once + 64) / each).clamp(1, 32)
}

/// Times before the first token: those of the pass over keys for their stabiliser.
pub(crate) fn prepare_times(spec: &Spec, kv_len: u32) -> u64 {
    match spec.linear.as_ref().map(|l| l.features) {
        Some(FeatureMap::Softmax { .. }) => kv_len as u64,
        _ => 0,
    }
}

/// The ranges of time of one workgroup's dispatches, in order, and the work of the longest.
pub(crate) fn times(spec: &Spec, q_len: u32, kv_len: u32, tile: u32, limits: &Limits) -> Result<(Vec<[u32; 2]>, f64)> {
    let chunks = spec.features().div_ceil(4);
    let head = spec.head_dim.div_ceil(4);
    let pairs = spec.rotary.as_ref().map_or(0, |r| r.rotary_dim / 2);
    let linear = spec.linear.as_ref();
    let softmax = linear.is_some_and(|l| matches!(l.features, FeatureMap::Softmax { .. }));
    let normalized = linear.is_some_and(|l| l.normalizer.is_some());
    // rounds of the loops in kernel/linear, feature/, normalizer/, turn/, decay/: once a dispatch, a tile
    let each = tile * chunks / 64 + 1;
    let mut rounds = 6 * head + 2 * pairs + 4 * chunks + tile * (2 * chunks + 2) + 2 * each + tile / 4 + 4;
    if normalized {
        rounds += chunks * (tile + 3) + (chunks / 64 + 1) * tile;
    }
    if softmax {
        rounds += 2 * each * (4 * head + 6) + 4 * head + 2 * chunks;
    }
    let delta = linear.is_some_and(|l| l.delta);
    if delta {
        rounds += tile * chunks;
    }
    let once = 8 * chunks + 200;
    let by_rounds = limits.max_loop_rounds.saturating_sub(once) / rounds;
    let weights = if softmax { 4.0 * (4 * chunks * 4 * head) as f64 } else { 40.0 * 4.0 * head as f64 };
    let update = if delta { 28.0 } else { 20.0 };
    let flop =
        64.0 * update * chunks as f64 + weights + if normalized { (8 * chunks * (tile + 2)) as f64 } else { 0.0 };
    let by_flop = (limits.max_flop_per_dispatch / (flop * tile as f64)).min(1e9) as u32;
    let by = by_rounds.min(by_flop).max(1) as u64 * tile as u64;

    let causal = spec.mask.causal;
    let tokens = if causal { q_len.max(kv_len) as u64 } else { q_len as u64 + kv_len as u64 };
    let prepare = prepare_times(spec, kv_len);
    if (prepare + tokens) / by > MAX_DISPATCHES {
        return Err(too_many_dispatches());
    }
    let cut = |first: u64, end: u64| {
        (first..end).step_by(by as usize).map(move |t| [t as u32, (t + by).min(end) as u32]).collect::<Vec<_>>()
    };
    let mut ranges = cut(0, prepare);
    ranges.extend(cut(prepare, prepare + tokens));
    Ok((ranges, flop * by.min(tokens) as f64))
}

impl<'a> ShaderFiles<'a> {
    pub(crate) fn linear(&mut self, aligned: bool, rolled_loops: bool) {
        let Some(linear) = &self.spec.linear else { return };
        self.add("kernel/linear.wgsl", &[Slot::Work]);
        self.add("common/nan.wgsl", &[]);
        self.add(if aligned { "tensor/q_aligned.wgsl" } else { "tensor/q_unaligned.wgsl" }, &[Slot::Q]);
        self.keys(aligned);
        self.value_rows(aligned);
        self.out(aligned);
        self.cache();
        self.sequence();
        self.rotation();
        self.q_position();
        self.k_position();
        self.kv_length();
        match self.spec.mask.causal {
            true => {
                self.alignment();
                self.add("linear/time_causal.wgsl", &[]);
            }
            false => self.add("linear/time_bidirectional.wgsl", &[]),
        }
        self.feature_map(linear.features);
        match linear.features {
            // rotates by itself, before its features
            FeatureMap::Softmax { .. } => self.add("linear/turn_before.wgsl", &[]),
            FeatureMap::Identity | FeatureMap::Elu | FeatureMap::Relu => {
                self.add("linear/feature_rows.wgsl", &[]);
                self.add(
                    if linear.rotate_features { "linear/turn_after.wgsl" } else { "linear/turn_before.wgsl" },
                    &[],
                );
            }
        }
        self.add(
            if linear.normalizer.is_some() { "linear/normalizer_sum.wgsl" } else { "linear/normalizer_none.wgsl" },
            &[],
        );
        match linear.decay {
            None => self.add("linear/decay_none.wgsl", &[]),
            Some(Decay::Retention | Decay::Heads(_)) => self.add("linear/decay_head.wgsl", &[Slot::Heads]),
            Some(Decay::Token) => self.add("linear/decay_token.wgsl", &[Slot::Dense]),
            Some(Decay::Feature) => self.add("linear/decay_feature.wgsl", &[Slot::Dense]),
        }
        match linear.delta {
            false => self.add("linear/update_sum.wgsl", &[]),
            true => self.add("linear/update_delta.wgsl", &[Slot::Dense]),
        }
        self.add(if linear.initial_state { "linear/state_given.wgsl" } else { "linear/state_empty.wgsl" }, &[]);
        let loops =
            if rolled_loops { "families/loops_features_rolled.wgsl" } else { "families/loops_features_constant.wgsl" };
        self.add(loops, &[]);
    }
}

/// The grid of linear attention, cut; the dispatches of a part follow each other in time.
pub(crate) fn split_times(spec: &Spec, shape: &Shape, limits: &Limits, tile: u32) -> Result<Vec<ChunkDispatch>> {
    let (ranges, flop) = self::times(spec, shape.q_len, shape.kv_len, tile, limits)?;
    let grid = [self::v_tiles(spec), spec.num_heads, shape.batch].map(|n| n as u64);
    let parts = cut_grid(grid, flop, limits)?;
    if parts.len() as u64 * ranges.len() as u64 > MAX_DISPATCHES {
        return Err(too_many_dispatches());
    }
    let of_part = |part: ChunkDispatch| ranges.iter().map(move |keys| ChunkDispatch { keys: *keys, ..part });
    Ok(parts.into_iter().flat_map(of_part).collect())
}
