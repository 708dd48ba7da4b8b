//! The control, the deviations from it, and the numbers: see [`crate::case`].

use crate::equation::bias::{AlibiForm, Bias, KerpleKind};
use crate::equation::dtype::Dtype;
use crate::equation::embed::{Absolute, Columns, Denominator, Embed};
use crate::equation::factors::{Norm, NormKind, Sink, Temperature};
use crate::equation::index::{IndexMap, Outside};
use crate::equation::linear::{Decay, FeatureMap, Linear, Normalizer};
use crate::equation::mask::{Alignment, Mask};
use crate::equation::relative::{Relative, RelativeSide};
use crate::equation::rotary::branches::Branches;
use crate::equation::rotary::rotary::{Angle, Frequencies, Pairing, Rotary, Sums, XPos};
use crate::equation::spec::{Positions, Spec};
use crate::equation::user::{MaskMod, ScoreAt, ScoreMod};
use crate::error::Result;
use crate::inputs::cache::Placement;
use crate::inputs::embed::EmbedInputs;
use crate::inputs::inputs::{AngleTable, Dense, Inputs};
use crate::inputs::tensor::{Data, Strides, Tensor};
use crate::plan::kernel::Kernel;
use std::f64::consts::FRAC_PI_4;
use std::f64::consts::TAU;

/// What of a case is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// out and lse.
    Attention,
    /// The score matrix.
    Scores,
    /// The rotated q and k.
    Rotate,
    /// The rotated q and k, in place, and nothing around their rows changed.
    RotateInPlace,
    /// Linear attention, out and the state: RoFormer's, where no name says otherwise.
    Linear,
    /// x + P\[m\], into another tensor and in place: Vaswani et al.'s sinusoid, where no name says otherwise.
    Embed,
}

impl Op {
    pub(crate) const ALL: [Op; 6] = [Op::Attention, Op::Scores, Op::Rotate, Op::RotateInPlace, Op::Linear, Op::Embed];

    /// The first part of an address.
    pub fn name(self) -> &'static str {
        match self {
            Op::Attention => "attention",
            Op::Scores => "scores",
            Op::Rotate => "rotate",
            Op::RotateInPlace => "rotate-in-place",
            Op::Linear => "linear",
            Op::Embed => "embed",
        }
    }
    /// The kernels that compute it.
    pub fn kernels(self) -> &'static [Kernel] {
        match self {
            Op::Attention => &[Kernel::Attention],
            Op::Scores => &[Kernel::Scores],
            Op::Rotate => &[Kernel::RotateQ { in_place: false }, Kernel::RotateK { in_place: false }],
            Op::RotateInPlace => &[Kernel::RotateQ { in_place: true }, Kernel::RotateK { in_place: true }],
            Op::Linear => &[Kernel::Linear],
            Op::Embed => &[Kernel::Embed { in_place: false }, Kernel::Embed { in_place: true }],
        }
    }
}

/// What a deviation may change. Build order: the spec, then lengths, layouts and values.
pub(crate) struct Draft {
    pub(crate) spec: Spec,
    pub(crate) batch: u32,
    q_len: u32,
    capacity: u32,
    seed: u64,
    kv_len: Option<u32>,
    kv_lens: Option<Vec<u32>>,
    /// The starts of packed sequences in q and in k.
    starts: Option<(Vec<u32>, Vec<u32>)>,
    /// The sequences lie in a pool.
    pool: Option<Place>,
    layout: Layout,
    positions: Ids,
    /// Which of batch, heads, rows, keys the dense bias has in full.
    dense: [bool; 4],
    /// What some of it is: -inf and +inf; 0 for neither.
    infinity: f32,
    mask: [bool; 4],
    hidden: Hidden,
    values: Values,
    score_mod: Option<ScoreMod>,
    mask_mod: Option<MaskMod>,
    user_data: Vec<u32>,
    /// What is added to x; none: the sinusoid of Vaswani et al.
    absolute: Option<Absolute>,
    /// Of x and of P.
    scales: [f64; 2],
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Bshd,
    Bhsd,
    /// q, k and v of a token side by side.
    Packed,
    /// k and v head by head in a cache with room to grow.
    Cache,
    /// A gap of 3 between tokens, the first element at 1.
    Gaps,
    /// Contiguous from element 3.
    Offset,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Slots,
    /// Of so many rows.
    Pages(u32),
}

/// A pool: its rows, and that of each key.
struct Placed {
    placement: Placement,
    pool: u32,
    rows: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq)]
enum Ids {
    /// From -5000 to 5000, some of them repeated: rows of an angle table are never left.
    Near,
    /// All of i32, its ends included.
    Far,
    /// From -1 to 7: a window and what lies around it.
    Grid,
}

#[derive(Clone, Copy, PartialEq)]
enum Hidden {
    /// Three of ten.
    Some,
    /// Every third query row sees nothing.
    Rows,
    /// Every third key, for everybody; its k and v are NaN.
    Nan,
}

#[derive(Clone, Copy, PartialEq)]
enum Values {
    /// Variance 1.
    Noise,
    /// q and k times a power of two.
    Scaled(f32),
    /// One element of one query row is this.
    Query(f32),
    /// One element of one key row is this.
    Key(f32),
    /// Rows of 1 and 0 that turn into cos and sin.
    Unit,
}

/// A named deviation from the control.
pub(crate) struct Deviation {
    /// Deviations of one group exclude each other.
    pub(crate) group: Group,
    pub(crate) name: &'static str,
    pub(crate) apply: fn(&mut Draft),
    /// For the edges of classes alone: never drawn, never listed by itself.
    pub(crate) edge: bool,
}

/// In the order in which deviations apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Model,
    Heads,
    Dims,
    Rotary,
    Angle,
    Positions,
    Scale,
    Cap,
    Bias,
    Dense,
    Window,
    Mask,
    Sequences,
    Length,
    /// Where packed sequences keep keys and values.
    Pool,
    Layout,
    Values,
    Relative,
    Streams,
    XPos,
    RotatedValues,
    OwnScore,
    OwnMask,
    Norm,
    Factor,
    Sink,
    /// Of k and v, beside that of q.
    Storage,
    /// Behind everything that they do not go with.
    Branches,
    Linear,
    Absolute,
    Scales,
}

impl Deviation {
    /// Whether it can change what the operation computes or how; linear attention has no packed sequences, x has one head.
    pub(crate) fn matters_to(&self, op: Op) -> bool {
        let here = self.group.matters_to(op);
        match op {
            // reads what the rotation has written: refused
            Op::RotateInPlace if self.name.ends_with("of-all-heads") => false,
            Op::Embed if self.group == Group::Dims => !self.name.contains('v'),
            Op::Embed if self.group == Group::Layout => ["packed", "gaps", "start3"].contains(&self.name),
            Op::Embed => here,
            // of heads: refused
            Op::Linear => {
                here && !self.embeds_alone() && !["ragged", "sums-"].iter().any(|of| self.name.starts_with(of))
            }
            _ => here && !self.embeds_alone(),
        }
    }

    /// Wider than a head, more sequences than others take, and what nobody else knows.
    pub(crate) fn embeds_alone(&self) -> bool {
        let beyond = ["width", "sequences"].iter().any(|name| self.name.starts_with(name));
        beyond || matches!(self.group, Group::Absolute | Group::Scales)
    }
}

impl Group {
    /// Whether the group can change what the operation computes or how.
    pub(crate) fn matters_to(self, op: Op) -> bool {
        match op {
            Op::Attention => self < Group::Linear,
            Op::Scores => self < Group::Linear && !matches!(self, Group::Values | Group::Sink),
            Op::Embed => matches!(
                self,
                Group::Dims | Group::Positions | Group::Sequences | Group::Layout | Group::Absolute | Group::Scales
            ),
            Op::Linear => matches!(
                self,
                Group::Heads
                    | Group::Dims
                    | Group::Rotary
                    | Group::Angle
                    | Group::Positions
                    | Group::Sequences
                    | Group::Length
                    | Group::Layout
                    | Group::Linear
            ),
            Op::Rotate | Op::RotateInPlace => matches!(
                self,
                Group::Heads
                    | Group::Dims
                    | Group::Rotary
                    | Group::Angle
                    | Group::Positions
                    | Group::Sequences
                    | Group::Length
                    | Group::Layout
                    | Group::Streams
                    | Group::XPos
                    | Group::Norm
            ),
        }
    }
}

pub(crate) const DEVIATIONS: &[Deviation] = {
    use Group::{
        Absolute as AB, Angle as A, Bias as B, Branches as BR, Cap, Dense as D, Dims, Factor, Heads, Layout as L,
        Length, Linear as LI, Mask as M, Model, Norm as N, OwnMask as OM, OwnScore as O, Pool, Positions as P,
        Relative as E, Rotary as R, RotatedValues as RV, Scale, Scales as SC, Sequences, Sink as SK, Storage as ST,
        Streams as S, Values as V, Window as W, XPos as X,
    };
    const fn d(group: Group, name: &'static str, apply: fn(&mut Draft)) -> Deviation {
        Deviation { group, name, apply, edge: false }
    }
    const fn edge(group: Group, name: &'static str, apply: fn(&mut Draft)) -> Deviation {
        Deviation { group, name, apply, edge: true }
    }
    &[
        d(Model, "roformer", |c| c.model(4, 4, 64, Pairing::Interleaved, 64).mask = Mask::none()),
        d(Model, "llama", |c| c.model(8, 2, 128, Pairing::Half, 128).theta(500_000.0)),
        d(Model, "llama-yarn", |c| c.model(4, 4, 128, Pairing::Half, 128).attention_factor(1.3465735902799727)),
        d(Model, "mistral", |c| c.model(8, 2, 128, Pairing::Half, 128).mask.window_left = Some(15)),
        d(Model, "qwen2", |c| c.model(7, 1, 64, Pairing::Half, 64).theta(1e6)),
        d(Model, "gpt-neox", |c| c.model(4, 4, 96, Pairing::Half, 24).theta(1e4)),
        d(Model, "gpt-j", |c| c.model(2, 2, 256, Pairing::Interleaved, 64).theta(1e4)),
        d(Model, "phi", |c| c.model(4, 4, 80, Pairing::Half, 32).theta(1e4)),
        d(Model, "cohere", |c| c.model(8, 2, 128, Pairing::Interleaved, 128).theta(8e6)),
        d(Model, "glm", |c| c.model(8, 1, 128, Pairing::Interleaved, 64).theta(1e4)),
        d(Model, "gemma2", |c| {
            let spec = c.model(4, 2, 256, Pairing::Half, 256);
            (spec.softmax_scale, spec.logits_soft_cap) = (Some(1.0 / 12.0), Some(50.0));
            spec.mask.window_left = Some(15);
        }),
        d(Model, "deepseek-v3", |c| {
            let spec = c.model(4, 4, 192, Pairing::InterleavedInHalfOut, 64);
            (spec.v_head_dim, spec.softmax_scale) = (128, Some(0.1352337788608801));
            spec.offset(128);
        }),
        d(Model, "t5-encoder", |c| c.t5(true)),
        d(Model, "t5-decoder", |c| c.t5(false)),
        d(Model, "bloom", |c| c.unrotated(8, 8, 64).bias = vec![alibi(AlibiForm::KeyPosition, 1.0)]),
        d(Model, "falcon", |c| c.unrotated(7, 1, 64).bias = vec![alibi(AlibiForm::KeyPosition, 0.125)]),
        d(Model, "mpt", |c| c.unrotated(6, 6, 64).bias = vec![alibi(AlibiForm::KeyFromEnd, 1.0)]),
        d(Model, "qwen3", |c| {
            let spec = c.model(8, 2, 128, Pairing::Half, 128);
            spec.norm(NormKind::Rms, 1e-6, true, false);
            spec.theta(1e6);
        }),
        d(Model, "gpt-oss", |c| {
            let spec = c.model(8, 1, 64, Pairing::Half, 64);
            (spec.sink, spec.mask.window_left) = (Some(Sink::Learned), Some(15));
            spec.attention_factor(1.3465735902799727);
        }),
        d(Model, "llama4", |c| {
            let spec = c.model(5, 1, 128, Pairing::Interleaved, 128);
            spec.norm(NormKind::Rms, 1e-5, false, true);
            spec.mask.chunk = Some(20);
        }),
        d(Model, "llama4-nope", |c| c.unrotated(5, 1, 128).temperature = Some(Temperature::new(0.1, 8))),
        //
        d(Heads, "mha", |c| (c.spec.num_heads, c.spec.num_kv_heads) = (4, 4)),
        d(Heads, "mqa", |c| (c.spec.num_heads, c.spec.num_kv_heads) = (4, 1)),
        d(Heads, "one-head", |c| (c.spec.num_heads, c.spec.num_kv_heads) = (1, 1)),
        d(Heads, "gqa3", |c| (c.spec.num_heads, c.spec.num_kv_heads) = (6, 2)),
        d(Heads, "mqa70", |c| (c.spec.num_heads, c.spec.num_kv_heads) = (70, 1)),
        edge(Heads, "heads3", Draft::heads::<3>),
        edge(Heads, "heads5", Draft::heads::<5>),
        edge(Heads, "heads7", Draft::heads::<7>),
        edge(Heads, "heads8", Draft::heads::<8>),
        edge(Heads, "heads9", Draft::heads::<9>),
        edge(Heads, "heads15", Draft::heads::<15>),
        edge(Heads, "heads16", Draft::heads::<16>),
        edge(Heads, "heads17", Draft::heads::<17>),
        edge(Heads, "heads31", Draft::heads::<31>),
        edge(Heads, "heads32", Draft::heads::<32>),
        edge(Heads, "heads33", Draft::heads::<33>),
        edge(Heads, "heads63", Draft::heads::<63>),
        edge(Heads, "heads64", Draft::heads::<64>),
        edge(Heads, "heads65", Draft::heads::<65>),
        edge(Heads, "heads255", Draft::heads::<255>),
        edge(Heads, "heads256", Draft::heads::<256>),
        edge(Heads, "heads257", Draft::heads::<257>),
        //
        d(Dims, "d1", |c| c.dims(1, 1)),
        d(Dims, "d2", |c| c.dims(2, 2)),
        d(Dims, "d3", |c| c.dims(3, 3)),
        d(Dims, "d33", |c| c.dims(33, 33)),
        d(Dims, "d80", |c| c.dims(80, 80)),
        d(Dims, "d128", |c| c.dims(128, 128)),
        d(Dims, "d256", |c| c.dims(256, 256)),
        d(Dims, "d64v1", |c| c.dims(64, 1)),
        d(Dims, "d64v7", |c| c.dims(64, 7)),
        d(Dims, "d64v80", |c| c.dims(64, 80)),
        d(Dims, "d64v256", |c| c.dims(64, 256)),
        d(Dims, "d3v64", |c| c.dims(3, 64)),
        edge(Dims, "d576v512", |c| c.dims(576, 512)),
        d(Dims, "d255v3", |c| c.dims(255, 3)),
        edge(Dims, "d31", Draft::square::<31>),
        edge(Dims, "d32", Draft::square::<32>),
        edge(Dims, "d63", Draft::square::<63>),
        edge(Dims, "d65", Draft::square::<65>),
        edge(Dims, "d95", Draft::square::<95>),
        edge(Dims, "d96", Draft::square::<96>),
        edge(Dims, "d97", Draft::square::<97>),
        edge(Dims, "d127", Draft::square::<127>),
        edge(Dims, "d129", Draft::square::<129>),
        edge(Dims, "d191", Draft::square::<191>),
        edge(Dims, "d192", Draft::square::<192>),
        edge(Dims, "d193", Draft::square::<193>),
        edge(Dims, "d255", Draft::square::<255>),
        edge(Dims, "d257", Draft::square::<257>),
        edge(Dims, "width257", Draft::square::<257>),
        edge(Dims, "width1030", Draft::square::<1030>),
        //
        d(R, "no-rotation", |c| c.spec.rotary = None),
        d(R, "interleaved", |c| c.rotary(Pairing::Interleaved, u32::MAX, 0)),
        d(R, "interleaved-in-half-out", |c| c.rotary(Pairing::InterleavedInHalfOut, u32::MAX, 0)),
        d(R, "partial", |c| c.rotary(Pairing::Half, 32, 0)),
        d(R, "partial-odd", |c| c.rotary(Pairing::Half, 18, 0)),
        d(R, "partial-interleaved", |c| c.rotary(Pairing::Interleaved, 10, 0)),
        d(R, "one-pair", |c| c.rotary(Pairing::Half, 2, 0)),
        d(R, "offset", |c| c.rotary(Pairing::Half, 16, 48)),
        d(R, "offset-odd", |c| c.rotary(Pairing::Half, 14, 7)),
        d(R, "offset-interleaved", |c| c.rotary(Pairing::Interleaved, 14, 5)),
        d(R, "offset-in-half-out", |c| c.rotary(Pairing::InterleavedInHalfOut, 22, 3)),
        d(R, "half-of-halves", |c| c.rotary(Pairing::HalfOfHalves, c.spec.head_dim / 4 * 4, 0)),
        d(R, "offset-half-of-halves", |c| c.rotary(Pairing::HalfOfHalves, 20.min(c.spec.head_dim / 4 * 4), 7)),
        d(R, "listed", |c| c.listed(u32::MAX, 0)),
        d(R, "offset-listed", |c| c.listed(18, 7)),
        //
        d(A, "theta1e6", |c| c.spec.theta(1e6)),
        d(A, "inv-freq", |c| c.inv_freq()),
        d(A, "attention-factor", |c| c.spec.attention_factor(1.3465735902799727)),
        d(A, "float32", |c| c.spec.angle(Angle::Float32)),
        d(A, "angle-table", |c| c.spec.angle(Angle::Table)),
        d(A, "sums", |c| c.sums(3, false, false)),
        d(A, "sums-of-heads", |c| c.sums(1, true, false)),
        d(A, "sums-two-angles", |c| c.sums(2, true, true)),
        //
        d(P, "ids", |c| (c.spec.positions, c.positions) = (Positions::Ids, Ids::Near)),
        d(P, "ids-far", |c| (c.spec.positions, c.positions) = (Positions::Ids, Ids::Far)),
        //
        d(Scale, "scale1", |c| c.spec.softmax_scale = Some(1.0)),
        d(Scale, "scale0", |c| c.spec.softmax_scale = Some(0.0)),
        d(Scale, "scale-negative", |c| c.spec.softmax_scale = Some(-0.1)),
        //
        d(Cap, "cap", |c| c.spec.logits_soft_cap = Some(30.0)),
        d(Cap, "cap-last", |c| (c.spec.logits_soft_cap, c.spec.soft_cap_last) = (Some(5.0), true)),
        d(Cap, "cap-tight", |c| c.spec.logits_soft_cap = Some(0.75)),
        //
        d(B, "table", |c| c.bias(&[Bias::Table { min: -20, max: 11 }])),
        d(B, "table-far", |c| c.bias(&[Bias::Table { min: 5, max: 5 }])),
        d(B, "t5", |c| c.bias(&[Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: false }])),
        d(B, "t5-two-sided", |c| c.bias(&[Bias::T5 { num_buckets: 16, max_distance: 40, bidirectional: true }])),
        d(B, "alibi", |c| c.bias(&[alibi(AlibiForm::Relative, 1.0)])),
        d(B, "alibi-symmetric", |c| c.bias(&[alibi(AlibiForm::Symmetric, 1.0)])),
        d(B, "alibi-key-position", |c| c.bias(&[alibi(AlibiForm::KeyPosition, 1.0)])),
        d(B, "alibi-key-from-end", |c| c.bias(&[alibi(AlibiForm::KeyFromEnd, 1.0)])),
        d(B, "alibi-slopes", |c| {
            let slopes = (0..c.spec.num_heads).map(|h| 0.3 - 0.11 * h as f32).collect();
            c.bias(&[Bias::Alibi { form: AlibiForm::Symmetric, slopes: Some(slopes), scale: 0.5 }]);
        }),
        d(B, "two-tables", |c| {
            let t5 = Bias::T5 { num_buckets: 8, max_distance: 30, bidirectional: true };
            c.bias(&[t5, Bias::Table { min: -7, max: 0 }]);
        }),
        d(B, "table-and-alibi", |c| c.bias(&[Bias::Table { min: -3, max: 9 }, alibi(AlibiForm::Symmetric, 0.25)])),
        d(B, "swin", |c| c.windows(&[grid(6, 4, false), Bias::Indexed { index: IndexMap::Segment }])),
        d(B, "beit", |c| c.windows(&[grid(5, 7, true)])),
        d(B, "swin-v2", |c| {
            let cpb = Bias::LogCpb { height: 7, width: 5, pretrained: Some([12, 9]), hidden: 24 };
            c.windows(&[cpb, Bias::Indexed { index: IndexMap::Segment }]);
        }),
        d(B, "log-buckets", |c| {
            c.bias(&[Bias::Indexed { index: IndexMap::LogBucket { buckets: 12, max_position: 41 } }])
        }),
        d(B, "columns-outside-zero", |c| {
            let index = IndexMap::Distance { min: -3, max: 4, outside: Outside::Zero, stream: 1, reversed: true };
            c.windows(&[Bias::Indexed { index }]);
        }),
        d(B, "wavlm", |c| {
            c.bias(&[Bias::T5 { num_buckets: 20, max_distance: 50, bidirectional: true }]);
            c.spec.gated_bias = true;
        }),
        d(B, "kerple-log", |c| c.bias(&[Bias::Kerple { kind: KerpleKind::Log, eps: 0.01 }])),
        d(B, "fire", |c| c.bias(&[Bias::Fire { hidden: 32, eps: 1e-6 }])),
        d(B, "fire-and-t5", |c| {
            let t5 = Bias::T5 { num_buckets: 8, max_distance: 30, bidirectional: true };
            c.bias(&[Bias::Fire { hidden: 3, eps: 1e-3 }, t5]);
        }),
        d(B, "kerple-power", |c| c.bias(&[Bias::Kerple { kind: KerpleKind::Power, eps: 0.01 }])),
        d(B, "gated-alibi-and-grid", |c| {
            c.windows(&[alibi(AlibiForm::Symmetric, 0.5), grid(3, 9, false)]);
            c.spec.gated_bias = true;
        }),
        //
        d(D, "dense", |c| c.dense(true, true, true, true)),
        d(D, "dense-heads", |c| c.dense(false, true, true, true)),
        d(D, "dense-batch", |c| c.dense(true, false, true, true)),
        d(D, "dense-matrix", |c| c.dense(false, false, true, true)),
        d(D, "dense-rows", |c| c.dense(false, true, true, false)),
        d(D, "dense-keys", |c| c.dense(true, false, false, true)),
        d(D, "key-bias", |c| c.spec.key_bias = true),
        d(D, "dense-one", |c| c.dense(false, false, false, false)),
        d(D, "dense-minus-infinity", |c| {
            c.dense(true, true, true, true);
            c.infinity = f32::NEG_INFINITY;
        }),
        edge(D, "dense-infinity", |c| {
            c.dense(true, true, true, true);
            c.infinity = f32::INFINITY;
        }),
        //
        d(W, "no-mask", |c| c.spec.mask = Mask::none()),
        d(W, "top-left", |c| c.spec.mask.alignment = Alignment::TopLeft),
        d(W, "window", |c| c.spec.mask.window_left = Some(9)),
        d(W, "window-self", |c| c.spec.mask.window_left = Some(0)),
        d(W, "window-open", |c| c.spec.mask.window_left = Some(u32::MAX)),
        d(W, "window-two-sided", |c| c.window(Alignment::BottomRight, Some(7), Some(4))),
        d(W, "window-right", |c| c.window(Alignment::BottomRight, None, Some(3))),
        d(W, "window-left", |c| c.window(Alignment::BottomRight, Some(40), None)),
        d(W, "window-top-left", |c| c.window(Alignment::TopLeft, Some(33), Some(0))),
        d(W, "chunk", |c| c.spec.mask.chunk = Some(16)),
        d(W, "chunk-of-one", |c| c.spec.mask.chunk = Some(1)),
        d(W, "chunk-top-left", |c| (c.spec.mask.alignment, c.spec.mask.chunk) = (Alignment::TopLeft, Some(11))),
        d(W, "chunk-two-sided", |c| (c.spec.mask.causal, c.spec.mask.chunk) = (false, Some(33))),
        d(W, "chunk-open", |c| c.spec.mask.chunk = Some(u32::MAX)),
        //
        d(M, "mask", |c| c.mask([true; 4], Hidden::Some)),
        d(M, "mask-heads", |c| c.mask([false, true, true, true], Hidden::Some)),
        d(M, "mask-batch", |c| c.mask([true, false, true, true], Hidden::Some)),
        d(M, "mask-keys", |c| c.mask([true, false, false, true], Hidden::Some)),
        d(M, "mask-rows", |c| c.mask([false, false, true, false], Hidden::Rows)),
        d(M, "mask-empty-rows", |c| c.mask([true; 4], Hidden::Rows)),
        d(M, "unseen-nan", |c| c.mask([false, false, false, true], Hidden::Nan)),
        //
        edge(Sequences, "one-sequence", |c| c.batch = 1),
        edge(Sequences, "sequences3", |c| c.batch = 3),
        edge(Sequences, "sequences4", |c| c.batch = 4),
        edge(Sequences, "sequences5", |c| c.batch = 5),
        edge(Sequences, "sequences15", |c| c.batch = 15),
        edge(Sequences, "sequences16", |c| c.batch = 16),
        edge(Sequences, "sequences17", |c| c.batch = 17),
        edge(Sequences, "sequences63", |c| c.batch = 63),
        edge(Sequences, "sequences64", |c| c.batch = 64),
        edge(Sequences, "sequences65", |c| c.batch = 65),
        edge(Sequences, "sequences255", |c| c.batch = 255),
        edge(Sequences, "sequences256", |c| c.batch = 256),
        edge(Sequences, "sequences257", |c| c.batch = 257),
        //
        d(Length, "kv-len", |c| c.kv_len = Some((c.capacity * 3 / 4).max(1))),
        d(Length, "kv-len1", |c| c.kv_len = Some(1)),
        d(Length, "kv-len0", |c| c.kv_len = Some(0)),
        d(Length, "kv-lens", |c| {
            (c.batch, c.spec.kv_lens) = (3, true);
            c.kv_lens = Some(vec![c.capacity, c.capacity.div_ceil(2), 0]);
        }),
        d(Length, "ragged", Draft::ragged),
        d(Length, "ragged-decode", |c| {
            let (n, k) = (c.q_len, c.capacity as u64);
            c.packed((0..=n).collect(), (0..=n as u64).map(|i| (i * k / n as u64) as u32).collect());
        }),
        //
        d(Pool, "slots", |c| c.pooled(Place::Slots)),
        d(Pool, "pages1", |c| c.pooled(Place::Pages(1))),
        d(Pool, "pages7", |c| c.pooled(Place::Pages(7))),
        d(Pool, "pages16", |c| c.pooled(Place::Pages(16))),
        //
        d(L, "bhsd", |c| c.layout = Layout::Bhsd),
        d(L, "packed", |c| c.layout = Layout::Packed),
        d(L, "cache", |c| c.layout = Layout::Cache),
        d(L, "gaps", |c| c.layout = Layout::Gaps),
        d(L, "start3", |c| c.layout = Layout::Offset),
        //
        d(V, "peaked", |c| c.values = Values::Scaled(8.0)),
        d(V, "tiny", |c| c.values = Values::Scaled(1.0 / 16384.0)),
        d(V, "nan-query", |c| c.values = Values::Query(f32::NAN)),
        edge(V, "inf-query", |c| c.values = Values::Query(f32::INFINITY)),
        edge(V, "inf-key", |c| c.values = Values::Key(f32::INFINITY)),
        d(V, "unit", |c| {
            c.values = Values::Unit;
            c.portable_frequencies();
        }),
        //
        d(E, "content-bias", |c| c.spec.content_bias = true),
        d(E, "shaw", |c| c.relative(&[(RelativeSide::Key, IndexMap::distance(-9, 9), false)])),
        // A by queries of its own, beside E_V
        d(E, "own-queries", |c| {
            let map = IndexMap::Distance { min: 0, max: 9, outside: Outside::Zero, stream: 0, reversed: true };
            c.relative(&[(RelativeSide::Key, map, true), (RelativeSide::Value, map, false)]);
            c.spec.relative.iter_mut().take(1).for_each(|r| r.own = Some(7));
        }),
        d(E, "shaw-values", |c| {
            let map = IndexMap::distance(-5, 8);
            c.relative(&[(RelativeSide::Key, map, false), (RelativeSide::Value, map, false)]);
        }),
        d(E, "shaw-outside-zero", |c| {
            let map = IndexMap::Distance { min: -4, max: 4, outside: Outside::Zero, stream: 0, reversed: false };
            c.relative(&[(RelativeSide::Key, map, false), (RelativeSide::Value, map, true)]);
        }),
        d(E, "bert-key-query", |c| {
            let map = IndexMap::reversed(-100, 100);
            c.relative(&[(RelativeSide::Key, map, false), (RelativeSide::Query, map, false)]);
        }),
        d(E, "deberta", |c| {
            let map = IndexMap::LogBucket { buckets: 8, max_position: 30 };
            c.relative(&[(RelativeSide::Key, map, true), (RelativeSide::Query, map, true)]);
        }),
        d(E, "transformer-xl", |c| {
            c.relative(&[(RelativeSide::Key, IndexMap::distance(-700, 300), true)]);
            c.spec.content_bias = true;
            c.spec.relative[0].query_bias = true;
        }),
        d(E, "xlnet-segments", |c| {
            let map = IndexMap::distance(-40, 40);
            c.relative(&[(RelativeSide::Key, map, true), (RelativeSide::Key, IndexMap::Segment, true)]);
            c.spec.relative.iter_mut().for_each(|r| r.query_bias = true);
        }),
        d(E, "decomposed", |c| {
            let map = |stream| IndexMap::Distance { min: -6, max: 6, outside: Outside::Clip, stream, reversed: true };
            c.relative(&[(RelativeSide::Key, map(0), false), (RelativeSide::Key, map(1), false)]);
            c.spec.relative.iter_mut().for_each(|r| r.scale = Some(1.0));
            c.spec.positions = Positions::Ids;
        }),
        d(E, "several-tables", |c| {
            let grid = IndexMap::Grid { height: 9, width: 5, class: true };
            c.relative(&[
                (RelativeSide::Key, grid, true),
                (RelativeSide::Query, IndexMap::Segment, false),
                (RelativeSide::Value, IndexMap::reversed(-3, 2), true),
                (RelativeSide::Value, IndexMap::Segment, false),
            ]);
            c.spec.positions = Positions::Ids;
        }),
        //
        d(S, "three-streams", |c| c.streams(|p, _| (p % 3) as u8)),
        d(S, "four-streams", |c| c.streams(|p, _| (p % 4) as u8)),
        d(S, "two-streams", |c| c.streams(|p, pairs| (2 * p < pairs) as u8)),
        //
        d(X, "xpos", |c| c.xpos(512.0, 40)),
        d(X, "xpos-growing", |c| c.xpos(-300.0, -7)),
        // whose powers are cut, with positions far off
        d(X, "xpos-far", |c| c.spec.xpos(XPos::new(64.0, 3))),
        //
        d(RV, "rotated-values", |c| c.rotate_values()),
        d(RV, "rotated-keys", |c| c.rotated_keys()),
        d(RV, "outputs-back", |c| c.turn_outputs()),
        //
        d(O, "own-score", Draft::own_score),
        edge(O, "own-infinity", Draft::own_infinity),
        d(OM, "own-mask", Draft::own_mask),
        //
        d(N, "rms-norm", |c| c.spec.norm(NormKind::Rms, 1e-6, false, false)),
        d(N, "rms-norm-weights", |c| c.spec.norm(NormKind::Rms, 1e-3, true, false)),
        d(N, "rms-norm-after", |c| c.spec.norm(NormKind::Rms, 1e-6, false, true)),
        d(N, "rms-norm-weights-after", |c| c.spec.norm(NormKind::Rms, 0.0, true, true)),
        d(N, "l2-norm", |c| c.spec.norm(NormKind::L2, 1e-12, false, false)),
        d(N, "l2-norm-weights", |c| c.spec.norm(NormKind::L2, 1.0, true, false)),
        d(N, "layer-norm", |c| c.spec.norm(NormKind::Layer, 1e-5, true, false)),
        d(N, "layer-norm-of-heads", |c| c.spec.norm_of_heads(NormKind::Layer, false)),
        d(N, "rms-norm-of-all-heads", |c| c.spec.norm_of_heads(NormKind::Rms, true)),
        d(N, "layer-norm-of-all-heads", |c| c.spec.norm_of_heads(NormKind::Layer, true)),
        d(N, "l2-norm-after", |c| c.spec.norm(NormKind::L2, 1e-6, false, true)),
        //
        d(Factor, "temperature", |c| c.spec.temperature = Some(Temperature::new(0.1, 8))),
        d(Factor, "temperature-falling", |c| c.spec.temperature = Some(Temperature::new(-0.3, 3))),
        d(Factor, "temperature-of-index", |c| c.spec.temperature = Some(Temperature::of_index(0.1, 16))),
        d(Factor, "temperature-log-n", |c| c.spec.temperature = Some(Temperature::log_n(16))),
        d(Factor, "temperature-smooth", |c| c.spec.temperature = Some(Temperature::smooth(0.1, 8))),
        d(Factor, "temperature-of-heads", |c| c.spec.temperature = Some(Temperature::of_heads())),
        d(Factor, "query-scales", |c| c.spec.query_scales = true),
        d(Factor, "head-scale", |c| c.spec.head_scale = true),
        d(Factor, "temperature-and-head-scale", |c| {
            (c.spec.temperature, c.spec.head_scale) = (Some(Temperature::new(0.1, 16)), true);
        }),
        d(Factor, "logit-scale", |c| (c.spec.head_scale, c.spec.head_scale_exp) = (true, Some(1.0))),
        //
        d(SK, "sink-zero", |c| c.spec.sink = Some(Sink::Zero)),
        d(SK, "sink-of-queries", |c| c.spec.sink = Some(Sink::Query)),
        d(SK, "sink", |c| c.spec.sink = Some(Sink::Learned)),
        d(ST, "q8_0", |c| c.stored(Dtype::Q8_0, Dtype::Q8_0)),
        d(ST, "q4_0", |c| c.stored(Dtype::Q4_0, Dtype::Q4_0)),
        d(ST, "q4_1", |c| c.stored(Dtype::Q4_1, Dtype::Q4_1)),
        d(ST, "q5_0", |c| c.stored(Dtype::Q5_0, Dtype::Q5_0)),
        d(ST, "q5_1", |c| c.stored(Dtype::Q5_1, Dtype::Q5_1)),
        d(ST, "iq4_nl", |c| c.stored(Dtype::Iq4Nl, Dtype::Iq4Nl)),
        d(ST, "int8", |c| c.stored(Dtype::Int8, Dtype::Int8)),
        d(ST, "e4m3", |c| c.stored(Dtype::F8E4m3, Dtype::F8E4m3)),
        d(ST, "q8_0-and-q4_0", |c| c.stored(Dtype::Q8_0, Dtype::Q4_0)),
        d(ST, "f16-to-f32", |c| {
            c.stored(Dtype::F16, Dtype::F16);
            c.spec.out_dtype = Some(Dtype::F32);
        }),
        d(ST, "f32-and-q5_1-to-bf16", |c| {
            c.stored(Dtype::F32, Dtype::Q5_1);
            c.spec.out_dtype = Some(Dtype::Bf16);
        }),
        //
        d(BR, "distances-clipped", |c| c.branches(Branches::Clipped { window: 9 })),
        d(BR, "positions-grouped", |c| c.branches(Branches::Grouped { window: 10, group: 3 })),
        //
        d(LI, "linear-bidirectional", |c| {
            c.roformer();
            c.spec.mask.causal = false;
        }),
        d(LI, "linear-plain", |c| {
            c.linear(FeatureMap::Identity);
        }),
        d(LI, "linear-normalized", |c| {
            c.linear(FeatureMap::Elu).normalizer = Some(Normalizer::new(1e-6, 1e-3));
        }),
        d(LI, "linear-relu", |c| {
            let linear = c.linear(FeatureMap::Relu);
            (linear.normalizer, linear.rotate_features) = (Some(Normalizer::new(1e-3, 0.0)), true);
        }),
        d(LI, "linear-performer", |c| {
            let normalizer = Some(Normalizer::new(0.0, 1e-6));
            c.linear(FeatureMap::Softmax { count: 37, eps: 1e-4 }).normalizer = normalizer;
        }),
        d(LI, "linear-performer-bidirectional", |c| {
            let normalizer = Some(Normalizer::new(0.0, 0.0));
            c.linear(FeatureMap::Softmax { count: 64, eps: 1e-4 }).normalizer = normalizer;
            c.spec.mask.causal = false;
        }),
        d(LI, "linear-retention", |c| c.linear(FeatureMap::Identity).decay = Some(Decay::Retention)),
        d(LI, "linear-token", |c| c.linear(FeatureMap::Identity).decay = Some(Decay::Token)),
        d(LI, "linear-feature", |c| {
            let linear = c.linear(FeatureMap::Elu);
            (linear.decay, linear.initial_state) = (Some(Decay::Feature), true);
        }),
        d(LI, "linear-delta", |c| c.linear(FeatureMap::Identity).delta = true),
        d(LI, "linear-gated-delta", |c| {
            let linear = c.linear(FeatureMap::Identity);
            (linear.delta, linear.decay, linear.initial_state) = (true, Some(Decay::Token), true);
        }),
        d(LI, "linear-state", |c| {
            c.roformer();
            c.spec.linear.iter_mut().for_each(|l| l.initial_state = true);
        }),
        //
        d(AB, "sinusoidal-halves", |c| c.sinusoidal(Columns::Halves, Denominator::Half, None)),
        d(AB, "sinusoidal-less-one", |c| c.sinusoidal(Columns::Interleaved, Denominator::HalfLessOne, None)),
        d(AB, "sinusoidal-halves-less-one", |c| c.sinusoidal(Columns::Halves, Denominator::HalfLessOne, None)),
        // at the position of the first token
        d(AB, "sinusoidal-padding", |c| c.sinusoidal(Columns::Interleaved, Denominator::Half, Some(0))),
        d(AB, "learned", |c| c.absolute = Some(Absolute::Learned { rows: c.capacity })),
        //
        d(SC, "input-scale", |c| c.scales = [8.0, 1.0]),
        d(SC, "position-scale", |c| c.scales = [1.0, 0.3]),
        d(SC, "both-scales", |c| c.scales = [5.5, -1.75]),
    ]
};

/// A soft cap, a loop over data, a slope for every other head.
const OWN_SCORE: &str = "fn my_sum(at: ScoreAt) -> f32 {
    var sum = 0.0;
    for (var n = 0u; n < 3u; n++) { sum += user_f32(n) * f32((at.i + n * at.j) & 7u); }
    return sum;
}
fn score_mod(s: f32, at: ScoreAt) -> f32 {
    let far = f32(clamp(distance(at), -50, 50));
    return 20.0 * tanh_f32(s / 20.0) + my_sum(at) + user_f32(3u + (at.batch + at.head) % 2u) * far;
}
";

/// +inf for some keys of some rows.
const OWN_INFINITY: &str = "fn score_mod(s: f32, at: ScoreAt) -> f32 {
    return select(s, user_f32(0u), (3u * at.i + at.head + at.batch) % 5u == 1u && at.j % 9u == 4u);
}
";

/// A stripe of keys, another for every head.
const OWN_MASK: &str = "fn mask_mod(at: ScoreAt) -> bool {
    return (at.i + 2u * at.j + at.head + 3u * at.batch) % 5u != 1u && (at.q_index != 7 || at.k_pos != at.q_pos);
}
";

impl Spec {
    fn norm(&mut self, kind: NormKind, eps: f64, weights: bool, after_rotation: bool) {
        self.norm = Some(Norm { weights, after_rotation, ..Norm::new(kind, eps) });
    }
    fn norm_of_heads(&mut self, kind: NormKind, all_heads: bool) {
        self.norm = Some(Norm { weights: true, weights_of_heads: true, all_heads, ..Norm::new(kind, 1e-5) });
    }
    fn theta(&mut self, theta: f64) {
        if let Some(rotary) = &mut self.rotary {
            rotary.frequencies = Frequencies::Theta(theta);
        }
    }
    fn attention_factor(&mut self, factor: f64) {
        if let Some(rotary) = &mut self.rotary {
            rotary.attention_factor = factor;
        }
    }
    fn offset(&mut self, offset: u32) {
        if let Some(rotary) = &mut self.rotary {
            rotary.offset = offset;
        }
    }
    fn xpos(&mut self, xpos: XPos) {
        if let Some(rotary) = self.rotary.as_mut().filter(|r| r.sums().is_none()) {
            rotary.xpos = Some(xpos);
        }
    }
    fn angle(&mut self, angle: Angle) {
        if let Some(rotary) = &mut self.rotary {
            rotary.angle = angle;
        }
    }
}

fn alibi(form: AlibiForm, scale: f64) -> Bias {
    Bias::Alibi { form, slopes: None, scale }
}

fn grid(height: u32, width: u32, class: bool) -> Bias {
    Bias::Indexed { index: IndexMap::Grid { height, width, class } }
}

impl Draft {
    pub(crate) fn control(q_len: u32, capacity: u32, dtype: Dtype, seed: u64) -> Self {
        let mut draft = Draft {
            spec: Spec { dtype, ..Spec::new(4, 2, 64) },
            batch: 2,
            q_len,
            capacity,
            seed,
            kv_len: None,
            kv_lens: None,
            starts: None,
            pool: None,
            layout: Layout::Bshd,
            positions: Ids::Near,
            dense: [true; 4],
            infinity: 0.0,
            mask: [true; 4],
            hidden: Hidden::Some,
            values: Values::Noise,
            score_mod: None,
            mask_mod: None,
            user_data: Vec::new(),
            absolute: None,
            scales: [1.0; 2],
        };
        draft.model(4, 2, 64, Pairing::Half, 64);
        draft
    }

    fn own_score(&mut self) {
        let words = [0.1f32, 0.2, -0.3, 0.25, -0.0625];
        self.spec.score_mod = Some(OWN_SCORE.into());
        self.user_data = words.iter().map(|x| x.to_bits()).collect();
        let function = move |s: f64, at: &ScoreAt| {
            let word = |n: u32| words.get(n as usize).copied().unwrap_or(0.0) as f64;
            let sum: f64 = (0..3).map(|n| word(n) * ((at.i + n * at.j) & 7) as f64).sum();
            20.0 * (s / 20.0).tanh() + sum + word(3 + (at.batch + at.head) % 2) * at.distance().clamp(-50, 50) as f64
        };
        // the cap as check.rs bounds it; of the rest, at most 4.2 and 12.5 in size, six roundings
        let unit = 2f64.powi(-24);
        let rounding = move |s: f64, _: f64, _: &ScoreAt| unit * (24.0 * s.abs().min(20.0) + 6.0 * (20.0 + 4.2 + 12.5));
        self.score_mod = Some(ScoreMod::new(0.0, function).with_rounding(rounding));
    }
    fn own_infinity(&mut self) {
        self.spec.score_mod = Some(OWN_INFINITY.into());
        self.user_data = vec![f32::INFINITY.to_bits()];
        self.score_mod = Some(ScoreMod::new(0.0, |s, at| {
            if (3 * at.i + at.head + at.batch) % 5 == 1 && at.j % 9 == 4 { f64::INFINITY } else { s }
        }));
    }
    fn own_mask(&mut self) {
        self.spec.mask_mod = Some(OWN_MASK.into());
        self.mask_mod = Some(MaskMod::new(|at| {
            (at.i + 2 * at.j + at.head + 3 * at.batch) % 5 != 1 && (at.q_index != 7 || at.k_pos != at.q_pos)
        }));
    }
    /// Linear attention with a feature map.
    fn linear(&mut self, features: FeatureMap) -> &mut Linear {
        if let Some(rotary) = &mut self.spec.rotary {
            rotary.keys_rotated = false;
        }
        self.spec.linear.insert(Linear::new(features))
    }
    /// Elu features, rotated behind the map, with a denominator.
    pub(crate) fn roformer(&mut self) {
        let rotate = self.spec.rotary.is_some();
        let linear = self.linear(FeatureMap::Elu);
        (linear.rotate_features, linear.normalizer) = (rotate, Some(Normalizer::new(0.0, 0.0)));
    }

    /// A width that leaves d/2 - 1 no room keeps d/2.
    fn sinusoidal(&mut self, columns: Columns, denominator: Denominator, padding_row: Option<i32>) {
        let denominator = if self.spec.head_dim < 4 { Denominator::Half } else { denominator };
        self.absolute = Some(Absolute::Sinusoidal { columns, denominator, base: 1e4, padding_row });
    }
    /// x as a head.
    pub(crate) fn one_head(&mut self) {
        let (dim, positions) = (self.spec.head_dim, self.spec.positions);
        self.unrotated(1, 1, dim).positions = positions;
    }
    /// x is q; the table lies as k. Tokens end at the last position below the capacity, those of a table at one of its rows.
    pub(crate) fn embed(&mut self, inputs: &Inputs) -> Result<(Embed, EmbedInputs)> {
        let mut embed = Embed::sinusoidal(self.spec.head_dim, Columns::Interleaved, Denominator::Half);
        (embed.dtype, [embed.input_scale, embed.position_scale]) = (self.spec.dtype, self.scales);
        if let Some(absolute) = &self.absolute {
            embed.positions = absolute.clone();
        }
        let rows = if let Absolute::Learned { rows } = embed.positions { Some(rows) } else { None };
        let (n, past) = (self.batch * self.q_len, self.capacity.saturating_sub(self.q_len));
        let index = |i: u32| (past + i % self.q_len) % rows.unwrap_or(u32::MAX);
        let positions = match self.spec.positions {
            Positions::Ids => self.ids(Stream::QPositions, n, rows),
            Positions::Index => (0..n).map(|i| index(i) as i32).collect(),
        };
        if let Absolute::Sinusoidal { padding_row: Some(row), .. } = &mut embed.positions {
            *row = positions.first().copied().unwrap_or_default();
        }
        let mut numbers = EmbedInputs::new(inputs.q.clone(), positions);
        if rows.is_some() {
            self.batch = 1;
            numbers.table = Some(self.tensor(Stream::K)?);
        }
        Ok((embed, numbers))
    }

    /// k and v in other types than q, where their rows are whole blocks.
    fn stored(&mut self, k: Dtype, v: Dtype) {
        let fits = |dtype: Dtype, dim: u32| dim.is_multiple_of(dtype.unit());
        self.spec.k_dtype = Some(k).filter(|k| fits(*k, self.spec.head_dim));
        self.spec.v_dtype = Some(v).filter(|v| fits(*v, self.spec.v_head_dim));
    }

    fn unrotated(&mut self, heads: u32, kv_heads: u32, head_dim: u32) -> &mut Spec {
        let dtype = self.spec.dtype;
        self.spec = Spec::new(heads, kv_heads, head_dim);
        (self.spec.dtype, self.spec.mask) = (dtype, Mask::causal());
        &mut self.spec
    }
    fn model(&mut self, heads: u32, kv_heads: u32, head_dim: u32, pairing: Pairing, rotary_dim: u32) -> &mut Spec {
        let spec = self.unrotated(heads, kv_heads, head_dim);
        spec.rotary = Some(Rotary::new(pairing, rotary_dim, 1e4));
        spec
    }
    fn t5(&mut self, bidirectional: bool) {
        let spec = self.unrotated(8, 8, 64);
        spec.softmax_scale = Some(1.0);
        spec.bias = vec![Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional }];
        spec.mask.causal = !bidirectional;
    }
    /// As many heads of queries and of keys.
    fn heads<const N: u32>(&mut self) {
        (self.spec.num_heads, self.spec.num_kv_heads) = (N, N);
    }
    fn square<const N: u32>(&mut self) {
        self.dims(N, N);
    }
    /// Other head dimensions; what rotates is cut to fit.
    fn dims(&mut self, head_dim: u32, v_head_dim: u32) {
        (self.spec.head_dim, self.spec.v_head_dim) = (head_dim, v_head_dim);
        if let Some(Rotary { pairing, .. }) = self.spec.rotary {
            self.rotary(pairing, u32::MAX, 0);
        }
    }
    /// As much of the window as the head has room for.
    fn rotary(&mut self, pairing: Pairing, rotary_dim: u32, offset: u32) {
        let head_dim = self.spec.head_dim;
        let rotary_dim = rotary_dim.min(head_dim / 2 * 2);
        self.spec.rotary = (rotary_dim > 0).then(|| {
            let mut rotary = Rotary::new(pairing, rotary_dim, 1e4);
            rotary.offset = offset.min(head_dim - rotary_dim);
            rotary
        });
    }
    /// Frequencies of every kind: zero, negative, a turn for each position, fast ones.
    fn inv_freq(&mut self) {
        if let Some(rotary) = &mut self.spec.rotary {
            let listed = [1.0, -0.5, 0.0, TAU, 3.0, 1e-3, -1e-9, 65536.0, FRAC_PI_4, 1e-300];
            let pairs = rotary.rotary_dim as usize / 2;
            rotary.frequencies = Frequencies::InvFreq(listed.iter().copied().cycle().take(pairs).collect());
        }
    }
    /// The window's elements paired from both ends.
    fn listed(&mut self, dim: u32, offset: u32) {
        self.rotary(Pairing::Interleaved, dim, offset);
        if let Some(rotary) = &mut self.spec.rotary {
            let last = rotary.rotary_dim - 1;
            rotary.pairs = (0..rotary.rotary_dim / 2).map(|i| [i, last - i]).collect();
            rotary.pairing = Pairing::Listed;
        }
    }
    /// Angles that are sums over so many streams.
    fn sums(&mut self, streams: u8, of_heads: bool, two_angles: bool) {
        let heads = if of_heads && self.spec.linear.is_none() { self.spec.num_kv_heads } else { 1 };
        if let Some(rotary) = &mut self.spec.rotary {
            let pairs = rotary.rotary_dim as usize / 2;
            let listed = [1.0, -0.5, 0.0, TAU, 3.0, 1e-3, -1e-9, 65536.0, FRAC_PI_4, 1e-300, 0.25];
            let n = heads as usize * pairs * streams as usize * if two_angles { 2 } else { 1 };
            let mut sums = Sums::new(heads, streams, listed.iter().copied().cycle().take(n).collect());
            sums.two_angles = two_angles;
            (rotary.frequencies, rotary.streams) = (Frequencies::Sums(sums), Vec::new());
            if streams > 1 {
                self.spec.positions = Positions::Ids;
            }
        }
    }
    /// Powers of theta^(-2 / 64) as products: a machine's powf may differ in the last bit, a product may not.
    fn portable_frequencies(&mut self) {
        if let Some(rotary) = &mut self.spec.rotary
            && let Frequencies::Theta(theta) = rotary.frequencies
        {
            let ratio = if theta > 1e5 { 0.6493816315762113 } else { 0.7498942093324559 };
            let pairs = rotary.rotary_dim as usize / 2;
            let powers = std::iter::successors(Some(1.0), |f| Some(f * ratio));
            rotary.frequencies = Frequencies::InvFreq(powers.take(pairs).collect());
        }
    }
    /// In place of a model's own.
    fn bias(&mut self, bias: &[Bias]) {
        self.spec.bias = bias.to_vec();
    }
    /// Biases of windows, whose tokens stand near each other.
    fn windows(&mut self, bias: &[Bias]) {
        self.bias(bias);
        if self.spec.positions == Positions::Index {
            (self.spec.positions, self.positions) = (Positions::Ids, Ids::Grid);
        }
    }
    fn window(&mut self, alignment: Alignment, left: Option<u32>, right: Option<u32>) {
        self.spec.mask = Mask { alignment, window_left: left, window_right: right, ..Mask::none() };
    }
    /// The stream of pair p of so many.
    fn streams(&mut self, of: fn(usize, usize) -> u8) {
        if let Some(rotary) = &mut self.spec.rotary {
            let pairs = rotary.rotary_dim as usize / 2;
            if rotary.sums().is_none() {
                rotary.streams = (0..pairs).map(|p| of(p, pairs)).collect();
            }
            self.spec.positions = Positions::Ids;
        }
    }
    /// With positions that leave scores within f32.
    fn xpos(&mut self, scale_base: f64, centre: i32) {
        self.spec.xpos(XPos::new(scale_base, centre));
        self.positions = Ids::Near;
    }
    /// Where the window fits the values.
    fn rotate_values(&mut self) {
        if let Some(rotary) = &mut self.spec.rotary {
            rotary.values = rotary.end() <= self.spec.v_head_dim as u64;
        }
    }
    /// Values turn, and outputs back, where the window fits them.
    fn turn_outputs(&mut self) {
        self.rotate_values();
        if let Some(rotary) = &mut self.spec.rotary {
            let two = rotary.sums().is_some_and(|s| s.two_angles);
            rotary.output = rotary.values && rotary.pairing != Pairing::InterleavedInHalfOut && !two;
        }
    }
    /// Where one stream turns q and k and nothing else, by angles that are computed.
    fn branches(&mut self, branches: Branches) {
        let placed = self.spec.places_rows();
        if let Some(rotary) =
            self.spec.rotary.as_mut().filter(|r| !placed && r.angle != Angle::Table && r.sums().is_none())
        {
            (rotary.streams, rotary.xpos) = (Vec::new(), None);
            (rotary.values, rotary.keys_rotated) = (false, false);
            rotary.branches = Some(branches);
        }
    }
    fn rotated_keys(&mut self) {
        let reads_keys = self.spec.relative.iter().any(|r| r.side == RelativeSide::Query);
        if let Some(rotary) = self.spec.rotary.as_mut().filter(|_| !reads_keys) {
            rotary.keys_rotated = true;
        }
    }
    fn relative(&mut self, terms: &[(RelativeSide, IndexMap, bool)]) {
        let term = |(side, index, per_head): &(RelativeSide, IndexMap, bool)| Relative {
            per_head: *per_head,
            ..Relative::new(*side, *index)
        };
        self.spec.relative = terms.iter().map(term).collect();
    }
    fn dense(&mut self, batch: bool, heads: bool, rows: bool, keys: bool) {
        self.spec.dense_bias = true;
        self.dense = [batch, heads, rows, keys];
    }
    fn mask(&mut self, full: [bool; 4], hidden: Hidden) {
        self.spec.mask.dense = true;
        (self.mask, self.hidden) = (full, hidden);
    }

    /// With a sequence that has no query, one that has no key, and one that has neither.
    fn ragged(&mut self) {
        let (q, k) = (self.q_len, self.capacity);
        self.packed(vec![0, q / 4, q / 4, q * 2 / 3, q, q], vec![0, k / 3, k / 2, k / 2, k, k]);
    }
    /// Packed sequences, whose keys and values lie in a pool.
    fn pooled(&mut self, pool: Place) {
        if self.starts.is_none() {
            (self.kv_len, self.kv_lens, self.spec.kv_lens) = (None, None, false);
            self.ragged();
        }
        self.pool = Some(pool);
    }
    /// Where the keys of every sequence stand in the pool, with rows between them that are nobody's.
    fn placed(&self) -> Option<Placed> {
        let starts = self.starts.as_ref().map_or(&[][..], |(_, k)| k);
        let lens = || starts.iter().zip(starts.iter().skip(1)).map(|(start, end)| end - start);
        match self.pool? {
            // the last ones first
            Place::Slots => {
                let pool = lens().map(|len| len + 2).sum::<u32>() + 5;
                let mut end = pool - 3;
                let slots: Vec<u32> = lens()
                    .map(|len| {
                        end -= len + 2;
                        end + 2
                    })
                    .collect();
                let rows = lens().zip(&slots).flat_map(|(len, start)| *start..start + len).collect();
                Some(Placed { placement: Placement::Slots(slots), pool, rows })
            }
            Place::Pages(page_size) => {
                let pages = || lens().map(|len| len.div_ceil(page_size));
                let (width, total) = (pages().max().unwrap_or(0).max(1), pages().sum::<u32>());
                let mut numbers = (0..total).rev().map(|n| n + n / 2 + 1);
                let (mut table, mut rows) = (Vec::new(), Vec::new());
                for (len, pages) in lens().zip(pages()) {
                    let own: Vec<u32> = numbers.by_ref().take(pages as usize).collect();
                    rows.extend(
                        own.iter()
                            .flat_map(|page| (0..page_size).map(move |n| page * page_size + n))
                            .take(len as usize),
                    );
                    // what a sequence does not reach may be anything
                    table.extend(own.into_iter().chain(std::iter::repeat(u32::MAX)).take(width as usize));
                }
                let pool = (total + total / 2 + 2) * page_size;
                Some(Placed { placement: Placement::Pages { page_size, table }, pool, rows })
            }
        }
    }

    /// One batch entry of sequences that start there.
    fn packed(&mut self, q: Vec<u32>, k: Vec<u32>) {
        (self.batch, self.spec.packed) = (1, true);
        self.starts = Some((q, k));
    }
    /// Whether some sequence has more queries than keys, the first of which stands before position 0.
    fn early(&self) -> bool {
        match &self.starts {
            Some((q, k)) => q.windows(2).zip(k.windows(2)).any(|(q, k)| q[1] - q[0] > k[1] - k[0]),
            None => (0..self.batch).any(|b| self.q_len > self.used(b)),
        }
    }

    /// Keys in use of sequence b.
    fn used(&self, b: u32) -> u32 {
        match &self.kv_lens {
            Some(lens) => lens.get(b as usize).copied().unwrap_or(0),
            None => self.kv_len.unwrap_or(self.capacity),
        }
    }
    fn random(&self, stream: Stream) -> Random {
        Random::new(self.seed, stream)
    }

    pub(crate) fn inputs(&mut self) -> Result<Inputs> {
        let table = self.spec.rotary.as_ref().filter(|r| r.angle == Angle::Table).map(|r| r.rotary_dim as usize / 2);
        // the rows of an angle table count from 0, but the first of more queries than keys stands before them
        if table.is_some() && self.early() {
            self.spec.positions = Positions::Ids;
        }
        let rows = self.capacity.max(self.q_len);
        let mut inputs = Inputs::new(self.tensor(Stream::Q)?, self.tensor(Stream::K)?, self.tensor(Stream::V)?);
        (inputs.kv_len, inputs.kv_lens) = (self.kv_len, self.kv_lens.clone());
        (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = self.starts.clone().unzip();
        inputs.placement = self.placed().map(|placed| placed.placement);
        if self.spec.positions == Positions::Ids {
            let table_rows = table.map(|_| rows);
            let batch = self.spec.position_streams() * self.batch;
            inputs.q_positions = Some(self.ids(Stream::QPositions, batch * self.q_len, table_rows));
            inputs.k_positions = Some(self.ids(Stream::KPositions, batch * self.capacity, table_rows));
        }
        if self.spec.segments() {
            let mut random = self.random(Stream::Segments);
            let mut ids = |n: u32| Some((0..n).map(|_| random.below(3) as i32).collect());
            inputs.q_segments = ids(self.batch * self.q_len);
            inputs.k_segments = ids(self.batch * self.capacity);
        }
        (inputs.score_mod, inputs.mask_mod) = (self.score_mod.clone(), self.mask_mod.clone());
        inputs.user_data = self.user_data.clone();
        if let Some(pairs) = table {
            let mut random = self.random(Stream::Angles);
            let mut values = || (0..rows as usize * pairs).map(|_| random.noise()).collect();
            inputs.angle_table = Some(AngleTable { cos: values(), sin: values() });
        }
        let mut random = self.random(Stream::Tables);
        for p in self.spec.parameters() {
            inputs.parameters.insert(p.name.clone(), (0..p.len()).map(|_| random.noise()).collect());
        }
        if self.spec.gated_bias {
            let mut random = self.random(Stream::Gates);
            let rows = self.batch * self.spec.num_heads * self.q_len;
            inputs.gates = Some((0..rows).map(|_| 1.0 + random.noise() as f64).collect());
        }
        let mut random = self.random(Stream::Rows);
        let rows = self.batch * self.spec.num_heads;
        let mut noise = |n: u32, add: f32| (0..n).map(|_| add + random.noise()).collect::<Vec<f32>>();
        inputs.query_scales = self.spec.query_scales.then(|| noise(rows * self.q_len, 1.0));
        inputs.query_sinks = (self.spec.sink == Some(Sink::Query)).then(|| noise(rows * self.q_len, 0.0));
        inputs.relative_queries = self.spec.own_queries().map(|own| noise(rows * self.q_len * own, 0.0));
        inputs.key_bias = self.spec.key_bias.then(|| {
            // sums that have grown
            let steps = noise(rows * self.capacity, -0.7);
            let mut sum = -1000.0;
            steps
                .iter()
                .map(|x| {
                    sum += *x as f64;
                    sum
                })
                .collect()
        });
        self.linear_inputs(&mut inputs);
        if self.spec.dense_bias {
            inputs.attn_bias = Some(self.attn_bias()?);
        }
        if self.spec.mask.dense {
            inputs.mask = Some(self.visible()?);
        }
        Ok(inputs)
    }

    /// States, positive denominators, gates from exp(-0.35) to 1, and beta of which beta |k|^2 stays about 1.
    fn linear_inputs(&self, inputs: &mut Inputs) {
        let Some(linear) = &self.spec.linear else { return };
        let mut random = self.random(Stream::Linear);
        let (rows, features) = (self.batch * self.spec.num_kv_heads, self.spec.features());
        if linear.initial_state {
            inputs.initial_state = Some((0..rows * features * self.spec.v_head_dim).map(|_| random.noise()).collect());
            if linear.normalizer.is_some() {
                inputs.initial_normalizer = Some((0..rows * features).map(|_| random.noise() + 4.0).collect());
            }
        }
        let width = match linear.decay {
            Some(Decay::Token) => 1,
            Some(Decay::Feature) => features,
            _ => 0,
        };
        if width > 0 {
            let g = |random: &mut Random| -0.1 * random.noise().abs();
            inputs.decay = Some((0..rows * self.capacity * width).map(|_| g(&mut random)).collect());
        }
        if linear.delta {
            let beta = |random: &mut Random| random.noise().abs() / features as f32;
            inputs.beta = Some((0..rows * self.capacity).map(|_| beta(&mut random)).collect());
        }
    }

    fn broadcast(&self, full: [bool; 4]) -> [u32; 4] {
        let all = [self.batch, self.spec.num_heads, self.q_len, self.capacity];
        std::array::from_fn(|d| if full[d] { all[d] } else { 1 })
    }
    fn attn_bias(&self) -> Result<Dense<f32>> {
        let shape = self.broadcast(self.dense);
        let keys = shape[3] as usize;
        let mut random = self.random(Stream::Dense);
        let mut value = |i: usize| match self.infinity {
            // the first row of every head sees nothing
            x if x < 0.0 && (random.chance(0.3) || (i / keys).is_multiple_of(shape[2] as usize)) => x,
            // a key of every other row, which it may not see
            x if x > 0.0 && i / keys % 2 == 1 && i % keys == i / keys * 7 % keys => x,
            _ => random.noise(),
        };
        let data = (0..shape.iter().product::<u32>() as usize).map(&mut value).collect();
        Dense::new(shape, data)
    }
    fn visible(&self) -> Result<Dense<bool>> {
        let shape = self.broadcast(self.mask);
        let (rows, keys) = (shape[2] as usize, shape[3] as usize);
        let mut random = self.random(Stream::Mask);
        let seen = |i: usize| match self.hidden {
            Hidden::Some => !random.chance(0.3),
            Hidden::Rows => (i / keys % rows) % 3 != 1 && !(keys > 1 && random.chance(0.3)),
            Hidden::Nan => i % 3 != 1,
        };
        Dense::new(shape, (0..shape.iter().product::<u32>() as usize).map(seen).collect())
    }
    fn ids(&self, stream: Stream, n: u32, table_rows: Option<u32>) -> Vec<i32> {
        let mut random = self.random(stream);
        let ends = [0, i32::MIN, i32::MAX, -1, i32::MIN + 1, i32::MAX - 1, 1, 1 << 24];
        let one = |i: u32| match (table_rows, self.positions) {
            (Some(rows), _) => random.below(rows as u64) as i32,
            (None, Ids::Near) => random.below(1001) as i32 * if random.chance(0.5) { 5 } else { -5 },
            (None, Ids::Far) if i.is_multiple_of(3) => ends[(i as usize / 3) % ends.len()],
            (None, Ids::Far) => random.bits() as i32,
            (None, Ids::Grid) => random.below(9) as i32 - 1,
        };
        (0..n).map(one).collect()
    }

    /// q, k or v in its layout; whatever lies between and beyond its rows is not finite.
    fn tensor(&self, stream: Stream) -> Result<Tensor> {
        let spec = &self.spec;
        let (len, heads, dim) = match stream {
            Stream::Q => (self.q_len, spec.num_heads, spec.head_dim),
            Stream::K => (self.capacity, spec.num_kv_heads, spec.head_dim),
            _ => (self.capacity, spec.num_kv_heads, spec.v_head_dim),
        };
        let tokens = len;
        let placed = self.placed().filter(|_| stream != Stream::Q);
        let len = placed.as_ref().map_or(len, |placed| placed.pool);
        let shape = [self.batch, len, heads, dim];
        let (q_width, k_width) = (spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim);
        let (strides, offset) = match (self.layout, stream) {
            (Layout::Bhsd, _) => (Strides::bhsd(len, heads, dim), 0),
            (Layout::Packed, _) => {
                let token = q_width + k_width + spec.num_kv_heads * spec.v_head_dim;
                let offset = match stream {
                    Stream::Q => 0,
                    Stream::K => q_width,
                    _ => q_width + k_width,
                };
                (Strides { batch: len * token, token, head: dim }, offset)
            }
            (Layout::Cache, Stream::K | Stream::V) => (Strides::bhsd(len + 13, heads, dim), 0),
            (Layout::Gaps, _) => {
                let token = heads * dim + 3;
                (Strides { batch: len * token + 2, token, head: dim }, 1)
            }
            (Layout::Offset, _) => (Strides::bshd(len, heads, dim), 3),
            (Layout::Bshd, _) | (Layout::Cache, _) => (Strides::bshd(len, heads, dim), 0),
        };
        let dtype = match stream {
            Stream::K => spec.k_storage(),
            Stream::V => spec.v_storage(),
            _ => spec.dtype,
        };
        // rows begin at blocks
        let unit = dtype.block(dim)[0];
        let [batch, token, head, offset] =
            [strides.batch, strides.token, strides.head, offset].map(|n| n.next_multiple_of(unit));
        let strides = Strides { batch: batch.max(if self.batch > 1 { len * token } else { 0 }), token, head };
        let total = offset as u128 + strides.extent(self.batch, len, heads, dim) + 5;
        let unread = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let mut data: Vec<f32> = (0..total as usize).map(|i| unread[i % 3]).collect();
        let mut random = self.random(stream);
        let pair =
            spec.rotary.as_ref().map(|r| (0..r.rotary_dim as usize / 2).map(|p| r.pair(p).0[0]).collect::<Vec<_>>());
        for b in 0..self.batch {
            for j in 0..tokens {
                let row = placed.as_ref().map_or(j, |placed| placed.rows[j as usize]);
                let used = stream == Stream::Q || j < self.used(b);
                let hidden = stream != Stream::Q && self.hidden == Hidden::Nan && j % 3 == 1;
                for h in 0..heads {
                    let start = offset + b * strides.batch + row * strides.token + h * strides.head;
                    for (e, x) in data[start as usize..(start + dim) as usize].iter_mut().enumerate() {
                        let noise = random.noise();
                        let middle = [j, h, e as u32] == [tokens / 2, 0, dim / 2];
                        let value = match self.values {
                            Values::Scaled(by) if stream != Stream::V => by * noise,
                            Values::Query(x) if stream == Stream::Q && middle => x,
                            Values::Key(x) if stream == Stream::K && middle => x,
                            Values::Unit if stream != Stream::V => {
                                pair.as_ref().is_some_and(|first| first.contains(&e)) as u32 as f32
                            }
                            _ => noise,
                        };
                        if used && !hidden {
                            *x = value;
                        }
                    }
                }
            }
        }
        Tensor::strided(Data::from_rows(dtype, dim, &data), shape, strides, offset)
    }
}

/// What a sequence of random numbers is for: each has its own, so that a deviation leaves the others as they are.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stream {
    Q = 1,
    K,
    V,
    QPositions,
    KPositions,
    Angles,
    Tables,
    Dense,
    Mask,
    Tail,
    Segments,
    Gates,
    Linear,
    Rows,
}

/// splitmix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        Random(Random(seed.wrapping_mul(31).wrapping_add(stream as u64)).bits())
    }
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    /// Nearly normal with variance 1: the sum of four uniform numbers of 16 bits, in integers up to one product.
    fn noise(&mut self) -> f32 {
        let bits = self.bits();
        let sum: i64 = (0..4).map(|i| (bits >> (16 * i) & 0xffff) as i64).sum();
        (sum - 131_070) as f32 * (1.732_050_8 / 65536.0)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((self.bits() as u128 * n as u128) >> 64) as u64
    }
    fn chance(&mut self, p: f64) -> bool {
        (self.bits() >> 11) as f64 * 2f64.powi(-53) < p
    }
}
