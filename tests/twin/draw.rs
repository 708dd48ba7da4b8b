//! Random cases. A case is its seed: seeds that share a block of [`BLOCK`] share a spec and the layout of its tensors, so that a device
//! compiles once for them; lengths, values and positions are a seed's own.

use super::user;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ropewalk::{
    Absolute, AlibiForm, Alignment, Angle, AngleTable, Bias, Branches, Columns, Data, Decay, Denominator, Dense, Dtype,
    Embed, EmbedInputs, FeatureMap, Frequencies, IndexMap, Inputs, KerpleKind, Linear, LongRope, Norm, NormKind,
    Normalizer, Outside, Pairing, Placement, Positions, Relative, RelativeSide, RopeScaling, Rotary, Sections, Sink,
    Spec, Steps, Strides, Sums, Temperature, Tensor, XPos, Yarn,
};
use std::ops::RangeInclusive;

/// Cases that share a spec.
pub const BLOCK: u64 = 20;

/// A drawn case.
pub struct Case {
    pub seed: u64,
    pub computed: Computed,
}

pub enum Computed {
    Attention {
        spec: Box<Spec>,
        inputs: Box<Inputs>,
        /// Where the frequencies come from, with theta.
        scaling: Option<(RopeScaling, f64)>,
    },
    Embed {
        embed: Box<Embed>,
        inputs: Box<EmbedInputs>,
    },
}

/// What the cases of a block share.
pub enum Drawn {
    Attention { spec: Box<Spec>, scaling: Option<(RopeScaling, f64)> },
    Embed(Box<Embed>),
}

struct Layout {
    /// 0: [batch, len, heads, dim]; 1: [batch, heads, len, dim]; 2: with gaps.
    kind: u32,
    gap: u32,
    offset: u32,
    /// Which dimensions of D and of the mask are broadcast.
    broadcast: [[bool; 4]; 2],
}

/// Random numbers.
pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Draw(ChaCha8Rng::seed_from_u64(seed))
    }
    pub fn chance(&mut self, share: f64) -> bool {
        self.0.random_bool(share)
    }
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.0.random_range(0..of.len())].clone()
    }
    /// 0..n in some order.
    fn order(&mut self, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        all.shuffle(&mut self.0);
        all
    }
    pub fn int(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.0.random_range(range)
    }
    pub fn signed(&mut self, range: RangeInclusive<i32>) -> i32 {
        self.0.random_range(range)
    }
    pub fn word(&mut self) -> u32 {
        self.0.random()
    }
    pub fn real(&mut self, from: f64, to: f64) -> f64 {
        self.0.random_range(from..=to)
    }
    fn maybe<T>(&mut self, share: f64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance(share).then(|| make(self))
    }
    /// Uniform, with a variance of size^2.
    fn noise(&mut self, n: usize, size: f32) -> Vec<f32> {
        (0..n).map(|_| size * self.0.random_range(-1.732f32..1.732)).collect()
    }
}

fn scaling(draw: &mut Draw, pairs: usize) -> RopeScaling {
    let factor = draw.pick(&[0.5, 1.0, 2.0, 4.0, 8.0, 32.0, 1.7]);
    let list = |draw: &mut Draw| (0..pairs).map(|_| draw.real(0.5, 20.0)).collect::<Vec<_>>();
    match draw.int(0..=7) {
        0 => RopeScaling::Default,
        1 => RopeScaling::Linear { factor },
        2 => RopeScaling::Ntk { factor },
        3 => RopeScaling::Dynamic {
            factor: factor.max(1.0),
            max_position_embeddings: draw.int(16..=4096),
            seq_len: draw.maybe(0.7, |d| d.int(1..=16384)),
        },
        4 => {
            let mut yarn = Yarn::new(factor, draw.int(64..=8192));
            yarn.beta_fast = draw.maybe(0.3, |d| d.real(8.0, 64.0));
            yarn.beta_slow = draw.maybe(0.3, |d| d.real(0.5, 4.0));
            yarn.truncate = draw.maybe(0.5, |d| d.chance(0.5));
            if draw.chance(0.4) {
                yarn.mscale = Some(draw.real(0.5, 1.5));
                yarn.mscale_all_dim = Some(draw.real(0.5, 1.5));
            }
            yarn.attention_factor = draw.maybe(0.2, |d| d.real(0.5, 2.0));
            RopeScaling::Yarn(yarn)
        }
        5 => {
            let (short, long) = (list(draw), list(draw));
            let mut scaling = LongRope::new(short, long, draw.int(64..=8192));
            scaling.seq_len = draw.maybe(0.7, |d| d.int(1..=16384));
            match draw.int(0..=2) {
                0 => scaling.factor = Some(factor),
                1 => scaling.max_position_embeddings = Some(draw.int(64..=131072)),
                _ => scaling.attention_factor = Some(draw.real(0.5, 2.0)),
            }
            RopeScaling::LongRope(scaling)
        }
        6 => {
            let low = draw.real(0.5, 2.0);
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: if draw.chance(0.2) { low } else { low * draw.real(1.1, 6.0) },
                original_max_position_embeddings: draw.int(64..=8192),
            }
        }
        _ => RopeScaling::Proportional {
            partial_rotary_factor: draw.real(0.05, 1.0),
            factor: draw.maybe(0.5, |_| factor),
        },
    }
}

/// A rotation of part of a head, and how its frequencies came about.
fn rotary(
    draw: &mut Draw,
    head_dim: u32,
    v_head_dim: u32,
    kv_heads: u32,
) -> Option<(Rotary, Option<(RopeScaling, f64)>)> {
    if head_dim < 2 {
        return None;
    }
    let mut pairing =
        draw.pick(&[Pairing::Half, Pairing::Interleaved, Pairing::InterleavedInHalfOut, Pairing::HalfOfHalves]);
    if head_dim < 4 {
        pairing = Pairing::Half;
    }
    let unit = if pairing == Pairing::HalfOfHalves { 4 } else { 2 };
    let most = head_dim / unit;
    let dim = unit * if draw.chance(0.6) { most } else { draw.int(1..=most) };
    let theta = draw.pick(&[10_000.0, 500_000.0, 100.0, 3.0]);
    let pairs = dim as usize / 2;
    let mut from = None;
    let mut rotary = match draw.int(0..=3) {
        0 => {
            let list =
                (0..pairs).map(|_| draw.pick(&[0.0, 1.0, -0.3, 1e-4, 2.5, std::f64::consts::TAU, 65536.0])).collect();
            Rotary::with_inv_freq(pairing, list)
        }
        1 => {
            let scaling = scaling(draw, pairs);
            match Rotary::scaled(pairing, dim, theta, &scaling) {
                Ok(rotary) => {
                    from = Some((scaling, theta));
                    rotary
                }
                Err(_) => Rotary::new(pairing, dim, theta),
            }
        }
        _ => Rotary::new(pairing, dim, theta),
    };
    rotary.offset = if draw.chance(0.5) { 0 } else { draw.int(0..=head_dim - dim) };
    if from.is_none() && draw.chance(0.3) {
        rotary.attention_factor = draw.pick(&[1.2, 0.5, -1.0]);
    }
    rotary.angle = draw.pick(&[Angle::Exact, Angle::Exact, Angle::Exact, Angle::Float32, Angle::Table]);
    if draw.chance(0.25) {
        let streams = draw.int(1..=3);
        rotary.streams = (0..pairs).map(|_| draw.int(0..=streams) as u8).collect();
        let third = pairs as u32 / 3;
        let order = draw.pick(&[Sections::Contiguous, Sections::Interleaved]);
        if let (true, Ok(dealt)) =
            (draw.chance(0.5), rotary.clone().with_sections(order, [pairs as u32 - 2 * third, third, third]))
        {
            rotary = dealt;
        }
    }
    rotary.xpos = draw.maybe(0.15, |d| XPos::new(d.pick(&[512.0, 8.0, -64.0, 2.0]), d.signed(-20..=20)));
    rotary.values = rotary.offset + dim <= v_head_dim && draw.chance(0.2);
    rotary.keys_rotated = draw.chance(0.15);
    let reads_as_it_writes = rotary.pairing != Pairing::InterleavedInHalfOut;
    rotary.output = reads_as_it_writes && rotary.offset + dim <= v_head_dim && draw.chance(0.15);
    if draw.chance(0.12) {
        listed(draw, &mut rotary);
    }
    if draw.chance(0.12) {
        sums(draw, &mut rotary, kv_heads);
        from = None;
    }
    if draw.chance(0.1) && rotary.angle != Angle::Table && !matches!(rotary.frequencies, Frequencies::Sums(_)) {
        (rotary.streams, rotary.xpos) = (Vec::new(), None);
        (rotary.values, rotary.output, rotary.keys_rotated) = (false, false, false);
        let window = draw.pick(&[1, 3, 17]);
        rotary.branches = Some(match draw.chance(0.5) {
            true => Branches::Clipped { window },
            false => Branches::Grouped { window, group: draw.pick(&[2, 5]) },
        });
    }
    Some((rotary, from))
}

/// The same window, its elements paired at random.
fn listed(draw: &mut Draw, rotary: &mut Rotary) {
    let mut elements: Vec<u32> = (0..rotary.rotary_dim).collect();
    elements.shuffle(&mut draw.0);
    rotary.pairs = elements.chunks(2).map(|pair| [pair[0], pair[1]]).collect();
    rotary.pairing = Pairing::Listed;
}

/// Angles that are sums over streams, of all heads or of each kv head.
fn sums(draw: &mut Draw, rotary: &mut Rotary, kv_heads: u32) {
    let (heads, streams) = (draw.pick(&[1, kv_heads]), draw.int(1..=4) as u8);
    let two_angles = !rotary.output && draw.chance(0.3);
    let n = (heads * rotary.rotary_dim / 2) as usize * streams as usize * if two_angles { 2 } else { 1 };
    let values = (0..n).map(|_| draw.pick(&[0.0, 1.0, -0.3, 1e-4, 2.5, 17.0])).collect();
    let mut all = Sums::new(heads, streams, values);
    all.two_angles = two_angles;
    rotary.frequencies = Frequencies::Sums(all);
    (rotary.angle, rotary.xpos) = (Angle::Exact, None);
    rotary.streams.clear();
}

/// A map whose windows hold the positions that [`positions`] draws.
fn index(draw: &mut Draw) -> IndexMap {
    match draw.int(0..=5) {
        0 | 1 => IndexMap::Distance {
            min: draw.signed(-40..=3),
            max: draw.signed(3..=40),
            outside: draw.pick(&[Outside::Clip, Outside::Zero]),
            stream: if draw.chance(0.7) { 0 } else { draw.int(1..=2) as u8 },
            reversed: draw.chance(0.5),
        },
        2 | 3 => {
            let buckets = draw.int(2..=40);
            IndexMap::LogBucket { buckets, max_position: buckets / 2 + 2 + draw.int(0..=100) }
        }
        4 => IndexMap::Grid { height: draw.int(1..=9), width: draw.int(1..=9), class: draw.chance(0.5) },
        _ => IndexMap::Segment,
    }
}

fn bias(draw: &mut Draw, heads: u32, alibi: bool) -> Bias {
    match draw.int(if alibi { 0..=7 } else { 1..=7 }) {
        0 => Bias::Alibi {
            form: draw.pick(&[
                AlibiForm::Relative,
                AlibiForm::Symmetric,
                AlibiForm::KeyPosition,
                AlibiForm::KeyFromEnd,
            ]),
            slopes: draw.maybe(0.4, |d| d.noise(heads as usize, 0.3)),
            scale: if draw.chance(0.5) { 1.0 } else { draw.real(-1.0, 1.0) },
        },
        1 => Bias::Table { min: draw.signed(-40..=5), max: draw.signed(5..=40) },
        2 => {
            let bidirectional = draw.chance(0.5);
            let side = draw.int(2..=32);
            let max_distance = side / 2 + 1 + draw.int(0..=128);
            Bias::T5 { num_buckets: if bidirectional { 2 * side } else { side }, max_distance, bidirectional }
        }
        3 | 4 => Bias::Indexed { index: index(draw) },
        5 => Bias::LogCpb {
            height: draw.int(1..=7),
            width: draw.int(1..=7),
            pretrained: draw.maybe(0.4, |d| [d.int(2..=16), d.int(2..=16)]),
            hidden: draw.int(1..=12),
        },
        6 => Bias::Fire { hidden: draw.int(1..=40), eps: draw.pick(&[1e-6, 1e-2, 1.0]) },
        _ => {
            Bias::Kerple { kind: draw.pick(&[KerpleKind::Log, KerpleKind::Power]), eps: draw.pick(&[0.01, 1e-6, 0.5]) }
        }
    }
}

fn linear(draw: &mut Draw, spec: &mut Spec) {
    let features = match draw.int(0..=3) {
        0 => FeatureMap::Identity,
        1 => FeatureMap::Elu,
        2 => FeatureMap::Relu,
        _ => FeatureMap::Softmax { count: draw.int(1..=40), eps: draw.pick(&[1e-4, 0.0]) },
    };
    let mut linear = Linear::new(features);
    let random = matches!(features, FeatureMap::Softmax { .. });
    linear.rotate_features = spec.rotary.is_some() && !random && draw.chance(0.5);
    if draw.chance(0.5) {
        let eps = draw.pick(&[0.0, 1e-6, 0.5]);
        linear.normalizer = Some(Normalizer::new(eps, draw.pick(&[0.0, 1e-6, 0.1])));
    } else {
        linear.decay = draw.maybe(0.8, |d| match d.int(0..=3) {
            0 => Decay::Retention,
            1 => Decay::Heads((0..spec.num_kv_heads).map(|_| d.pick(&[0.0, 1.0, 0.5, 0.97])).collect()),
            2 => Decay::Token,
            _ => Decay::Feature,
        });
        linear.delta = draw.chance(0.4);
    }
    linear.initial_state = draw.chance(0.4);
    if let Some(rotary) = &mut spec.rotary {
        (rotary.values, rotary.output, rotary.keys_rotated) = (false, false, false);
        if let Frequencies::Sums(sums) = &mut rotary.frequencies {
            sums.values.truncate(sums.values.len() / sums.heads as usize);
            sums.heads = 1;
        }
    }
    spec.linear = Some(linear);
}

/// The spec of a block.
pub fn drawn(block: u64) -> Drawn {
    let draw = &mut Draw::new(block ^ 0x5bec << 40);
    if draw.chance(0.06) {
        return Drawn::Embed(Box::new(embed(draw)));
    }
    loop {
        let (spec, scaling) = attention(draw);
        // every field alone is in range; what excludes each other is drawn again
        if spec.validate().is_ok() {
            return Drawn::Attention { spec: Box::new(spec), scaling };
        }
    }
}

fn embed(draw: &mut Draw) -> Embed {
    let dim = draw.pick(&[1, 4, 5, 16, 33, 64, 130]);
    let mut embed = if draw.chance(0.3) {
        Embed::learned(dim, draw.int(1..=70))
    } else {
        let denominator = if dim < 4 || draw.chance(0.5) { Denominator::Half } else { Denominator::HalfLessOne };
        let mut embed = Embed::sinusoidal(dim, draw.pick(&[Columns::Halves, Columns::Interleaved]), denominator);
        if let Absolute::Sinusoidal { base, padding_row, .. } = &mut embed.positions {
            *base = draw.pick(&[10_000.0, 500.0, 2.0]);
            *padding_row = draw.maybe(0.4, |d| d.signed(-1..=3));
        }
        embed
    };
    embed.dtype = draw.pick(&[Dtype::F32, Dtype::F16, Dtype::Bf16]);
    embed.input_scale = draw.pick(&[1.0, 8.0, 0.0, -0.7]);
    embed.position_scale = draw.pick(&[1.0, 0.3, -2.0]);
    embed
}

fn attention(draw: &mut Draw) -> (Spec, Option<(RopeScaling, f64)>) {
    let (kv_heads, group) = (draw.int(1..=3), draw.pick(&[1, 1, 2, 3, 4, 8]));
    let head_dim = match draw.int(0..=9) {
        0 => draw.pick(&[64, 80, 96, 128, 256]),
        _ => draw.pick(&[1, 2, 3, 4, 5, 8, 12, 16, 16, 20, 32, 32, 33, 40]),
    };
    let mut spec = Spec::new(kv_heads * group, kv_heads, head_dim);
    if draw.chance(0.3) {
        spec.v_head_dim = draw.pick(&[1, 4, 7, 8, 16, 24, 33, 64]);
    }
    spec.dtype = draw.pick(&[Dtype::F32, Dtype::F32, Dtype::F16, Dtype::Bf16]);
    let mut scaling = None;
    if draw.chance(0.65)
        && let Some((rotary, from)) = rotary(draw, head_dim, spec.v_head_dim, spec.num_kv_heads)
    {
        (spec.rotary, scaling) = (Some(rotary), from);
    }
    spec.softmax_scale = draw.maybe(0.3, |d| d.pick(&[0.05, 1.0, -0.2, 0.0]));
    spec.mask.causal = draw.chance(0.5);
    if draw.chance(0.3) {
        spec.mask.alignment = Alignment::TopLeft;
    }
    spec.kv_lens = draw.chance(0.2);
    if draw.chance(0.12) {
        linear(draw, &mut spec);
    } else {
        spec.mask.window_left = draw.maybe(0.2, |d| d.pick(&[0, 1, 5, 31, 32, 40, u32::MAX]));
        spec.mask.window_right = draw.maybe(0.15, |d| d.pick(&[0, 2, 7, 33, u32::MAX]));
        spec.mask.chunk = draw.maybe(0.12, |d| d.pick(&[1, 3, 16, 32, 50, u32::MAX]));
        spec.mask.dense = draw.chance(0.15);
        spec.logits_soft_cap = draw.maybe(0.15, |d| d.pick(&[1.5, 20.0, 50.0]));
        for _ in 0..draw.pick(&[0, 0, 0, 1, 1, 2]) {
            let alibi = !spec.bias.iter().any(|b| matches!(b, Bias::Alibi { .. }));
            let bias = bias(draw, spec.num_heads, alibi);
            spec.bias.push(bias);
        }
        spec.gated_bias = !spec.bias.is_empty() && draw.chance(0.25);
        spec.dense_bias = draw.chance(0.2);
        spec.norm = draw.maybe(0.2, |d| {
            let kind = d.pick(&[NormKind::Rms, NormKind::L2, NormKind::Layer]);
            let mut norm = Norm::new(kind, d.pick(&[1e-6, 1e-3, 0.0]));
            (norm.weights, norm.after_rotation) = (d.chance(0.5), d.chance(0.4) && kind != NormKind::Layer);
            if !norm.after_rotation && d.chance(0.4) {
                (norm.weights_of_heads, norm.all_heads) =
                    (norm.weights && d.chance(0.5), kind != NormKind::L2 && d.chance(0.5));
            }
            norm
        });
        spec.temperature = draw.maybe(0.15, |d| {
            let mut tau = Temperature::new(d.pick(&[0.1, -0.3]), d.pick(&[1, 3, 16, 8192]));
            (tau.offset, tau.base, tau.per_head) =
                (d.pick(&[1, 1, 0, 7]), d.pick(&[1.0, 1.0, 0.0, -0.5]), d.chance(0.3));
            if d.chance(0.4) {
                tau.steps = Steps::None { least: d.pick(&[1, 5, 16]) };
            }
            tau
        });
        spec.query_scales = draw.chance(0.08);
        spec.key_bias = draw.chance(0.08);
        spec.soft_cap_last = spec.logits_soft_cap.is_some() && draw.chance(0.3);
        spec.head_scale = draw.chance(0.12);
        if spec.head_scale {
            spec.head_scale_exp = draw.maybe(0.5, |d| d.pick(&[4.605170185988092, 1.0]));
        }
        spec.content_bias = draw.chance(0.12);
        for _ in 0..draw.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 3]) {
            let side = draw.pick(&[RelativeSide::Key, RelativeSide::Query, RelativeSide::Value]);
            let mut relative = Relative::new(side, index(draw));
            let owned = spec.relative.iter().any(|r| r.own.is_some());
            relative.own = (side == RelativeSide::Key && !owned && draw.chance(0.15)).then(|| draw.int(1..=40));
            relative.per_head = draw.chance(0.4);
            relative.query_bias = side == RelativeSide::Key && relative.own.is_none() && draw.chance(0.3);
            relative.scale = draw.maybe(0.4, |d| d.pick(&[0.5, 1.0, -0.1]));
            spec.relative.push(relative);
        }
        spec.sink = draw.maybe(0.15, |d| d.pick(&[Sink::Zero, Sink::Learned, Sink::Query]));
        spec.packed = !spec.kv_lens && draw.chance(0.12);
        spec.score_mod = draw.maybe(0.12, |d| d.pick(&user::SCORES).0.to_string());
        spec.mask_mod = draw.maybe(0.1, |d| d.pick(&user::MASKS).0.to_string());
    }
    if spec.position_streams() > 1 || draw.chance(0.4) {
        spec.positions = Positions::Ids;
    }
    // types of their own; of rows that are not whole blocks a float
    if draw.chance(0.3) {
        let float = [Dtype::F32, Dtype::F16, Dtype::Bf16];
        let any = if spec.linear.is_some() { &float[..] } else { &Dtype::ALL[..] };
        let one = |draw: &mut Draw, dim: u32| {
            let dtype = draw.pick(any);
            let unit = match dtype.block(dim)[0] {
                32 => 32,
                1 => 1,
                _ => 4,
            };
            if dim.is_multiple_of(unit) { dtype } else { draw.pick(&float) }
        };
        spec.k_dtype = Some(one(draw, head_dim)).filter(|_| draw.chance(0.8));
        spec.v_dtype = Some(one(draw, spec.v_head_dim)).filter(|_| draw.chance(0.8));
        spec.out_dtype = draw.maybe(0.3, |d| d.pick(&[Dtype::F32, Dtype::F16, Dtype::Bf16]));
    }
    (spec, scaling)
}

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let drawn = drawn(seed / BLOCK);
    // the layout is the block's
    let shared = &mut Draw::new((seed / BLOCK) ^ 0x1a07 << 40);
    let mut flags = |share: f64| -> [bool; 4] { std::array::from_fn(|_| shared.chance(share)) };
    let broadcast = [flags(0.4), flags(0.4)];
    let kind = shared.pick(&[0, 0, 0, 1, 2]);
    let layout = Layout { kind, gap: shared.pick(&[4, 8, 3]), offset: shared.pick(&[0, 4, 1]), broadcast };
    let draw = &mut Draw::new(seed ^ 0xca5e << 40);
    let computed = match drawn {
        Drawn::Attention { spec, scaling } => {
            let inputs = Box::new(inputs(draw, &spec, &layout));
            Computed::Attention { spec, inputs, scaling }
        }
        Drawn::Embed(embed) => {
            let inputs = Box::new(embed_inputs(draw, &embed, &layout));
            Computed::Embed { embed, inputs }
        }
    };
    Case { seed, computed }
}

/// Random elements, but for some that are given: (sequence, token, head, element) and value.
fn tensor(
    draw: &mut Draw,
    layout: &Layout,
    dtype: Dtype,
    shape: [u32; 4],
    size: f32,
    given: &[([u32; 4], f32)],
) -> Tensor {
    let [batch, len, heads, dim] = shape;
    let (strides, offset) = match layout.kind {
        0 => (Strides::bshd(len, heads, dim), 0),
        1 => (Strides::bhsd(len, heads, dim), 0),
        _ => {
            let head = dim + layout.gap;
            let token = head * heads + layout.gap;
            (Strides { batch: token * len + layout.gap, token, head }, layout.offset)
        }
    };
    // rows begin at blocks
    let unit = dtype.block(dim)[0];
    let [head, offset] = [strides.head, offset].map(|n| n.next_multiple_of(unit));
    let strides = match (unit, layout.kind) {
        (1, _) | (_, 0..=1) => strides,
        _ => Strides { batch: head * heads * len, token: head * heads, head },
    };
    let elements = offset as usize + strides.extent(batch, len, heads, dim) as usize;
    let elements = elements.next_multiple_of(unit as usize);
    let mut values = draw.noise(elements, size);
    for ([b, t, h, d], value) in given {
        values[(offset + b * strides.batch + t * strides.token + h * strides.head + d) as usize] = *value;
    }
    let data = Data::from_rows(dtype, dim, &values);
    let tensor = Tensor::strided(data, shape, strides, offset).expect("elements for every index");
    if draw.chance(0.9) {
        return tensor;
    }
    let left = |(i, x): (usize, &f32)| Some(x - tensor.data().get(i)).filter(|x| x.is_finite()).unwrap_or(0.0) + 1e-9;
    let residual = values.iter().enumerate().map(left).collect();
    tensor.with_residual(residual).expect("one for each element")
}

/// A length: mostly short, at times at the edge of a tile.
fn length(draw: &mut Draw, most: u32) -> u32 {
    match draw.int(0..=9) {
        0 => 1,
        1 | 2 => draw.pick(&[15, 16, 17, 31, 32, 33, 63, 64, 65, 66, 96, 127, 128, 129]).min(most),
        _ => draw.int(1..=40.min(most)),
    }
}

/// What models put into D for keys that no one should see.
const LOW: [f32; 4] = [f32::MIN, -1e9, -1e15, -1e30];

/// What a visible or an invisible element may be.
const ODD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn inputs(draw: &mut Draw, spec: &Spec, layout: &Layout) -> Inputs {
    let table = spec.rotary.as_ref().is_some_and(|r| r.angle == Angle::Table);
    // positions of a table are its rows: no query stands before the first key then
    let behind = table && spec.positions == Positions::Index;
    let wide = spec.head_dim > 64 || spec.num_heads > 12;
    let heavy = matches!(spec.linear.as_ref().map(|l| &l.decay), Some(Some(_)));
    let most = if heavy {
        24
    } else if wide {
        40
    } else {
        130
    };
    let mut batch = draw.pick(&[1, 1, 2, 3]);
    let mut kv_len = length(draw, most);
    let mut q_len = if draw.chance(0.6) { draw.int(1..=8) } else { length(draw, most.min(70)) };
    if behind {
        q_len = q_len.min(kv_len);
    }
    let mut starts = None;
    if spec.packed {
        batch = 1;
        let (mut q, mut k) = (vec![0], vec![0]);
        for _ in 0..draw.int(1..=4) {
            let keys = if draw.chance(0.15) { 0 } else { draw.int(1..=30) };
            let queries = if draw.chance(0.15) { 0 } else { draw.int(1..=20) };
            let queries = if behind { queries.min(keys) } else { queries };
            q.push(q[q.len() - 1] + queries);
            k.push(k[k.len() - 1] + keys);
        }
        // tensors have a token
        let (last_q, last_k) = (q.len() - 1, k.len() - 1);
        if q[last_q] == 0 || k[last_k] == 0 {
            q[last_q] += 1;
            k[last_k] += 1;
        }
        (q_len, kv_len) = (q[last_q], k[last_k]);
        starts = Some((q, k));
    }
    let spare = if spec.packed || draw.chance(0.5) { 0 } else { draw.int(1..=9) };
    let capacity = kv_len + spare;
    let shortest = if behind { q_len } else { 0 };
    let lens: Vec<u32> = (0..batch)
        .map(|_| if spec.kv_lens && draw.chance(0.6) { draw.int(shortest..=capacity) } else { kv_len })
        .collect();

    // keys that are not in use may be anything
    let mut odd: [Vec<([u32; 4], f32)>; 3] = Default::default();
    let dims = [spec.head_dim, spec.head_dim, spec.v_head_dim];
    let heads = [spec.num_heads, spec.num_kv_heads, spec.num_kv_heads];
    if !spec.packed && draw.chance(0.5) {
        let value = draw.pick(&ODD);
        for (b, len) in lens.iter().enumerate() {
            for (t, side) in (*len..capacity).flat_map(|t| [(t, 1), (t, 2)]) {
                let at = |h| (0..dims[side]).map(move |d| ([b as u32, t, h, d], value));
                odd[side].extend((0..heads[side]).flat_map(at));
            }
        }
    }
    let poisoned = draw.chance(0.08);
    if poisoned && draw.chance(0.7) {
        let side = draw.int(0..=2) as usize;
        let tokens = if side == 0 { q_len } else { kv_len };
        let at = [
            draw.int(0..=batch - 1),
            draw.int(0..=tokens - 1),
            draw.int(0..=heads[side] - 1),
            draw.int(0..=dims[side] - 1),
        ];
        odd[side].push((at, draw.pick(&ODD)));
    }
    let size = draw.pick(&[1.0, 1.0, 1.0, 0.1, 4.0, 0.0]);
    let q = tensor(draw, layout, spec.dtype, [batch, q_len, heads[0], dims[0]], size, &odd[0]);
    let k = tensor(draw, layout, spec.k_storage(), [batch, capacity, heads[1], dims[1]], 1.0, &odd[1]);
    let v = tensor(draw, layout, spec.v_storage(), [batch, capacity, heads[2], dims[2]], 1.0, &odd[2]);
    let mut inputs = Inputs::new(q, k, v);
    if let Some((q, k)) = starts {
        if draw.chance(0.5) {
            pool(draw, &mut inputs, &k);
        }
        (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = (Some(q), Some(k));
    } else if spec.kv_lens {
        inputs.kv_lens = Some(lens);
    } else if spare > 0 {
        inputs.kv_len = Some(kv_len);
    } else if !behind && draw.chance(0.2) {
        inputs.kv_len = Some(draw.int(0..=kv_len));
    }
    let rows = q_len.max(capacity) + draw.int(0..=8);
    if spec.positions == Positions::Ids {
        let limits = Limited { rows: table.then_some(rows), window: window(spec), class: class(spec) };
        let streams = spec.position_streams();
        let (q, k) = positions(draw, &limits, streams, batch, q_len, capacity);
        (inputs.q_positions, inputs.k_positions) = (Some(q), Some(k));
    }
    if spec.segments() {
        let mut some = |n: u32| Some((0..n).map(|_| draw.signed(-1..=1)).collect());
        (inputs.q_segments, inputs.k_segments) = (some(batch * q_len), some(batch * capacity));
    }
    for p in spec.parameters() {
        let n = p.len() as usize;
        let name = p.name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
        let near_one = |draw: &mut Draw| draw.noise(n, 0.2).into_iter().map(|x| 1.0 + x).collect();
        let values = match name {
            "q_norm" | "k_norm" => near_one(draw),
            "head_scale" if spec.head_scale_exp.is_some() => draw.noise(n, 1.5),
            "head_scale" => near_one(draw),
            "fire_c" => draw.noise(n, 0.5).into_iter().map(|x| x * x).collect(),
            "fire_l" => draw.noise(n, 100.0),
            "kerple_p" | "kerple_a" => draw.noise(n, 0.7).into_iter().map(|x| x + 0.6).collect(),
            "relative" | "relative_bias" => draw.noise(n, 0.3),
            "sinks" => {
                let size = draw.pick(&[1.0, 10.0]);
                draw.noise(n, size)
            }
            _ => draw.noise(n, 1.0),
        };
        inputs.parameters.insert(p.name.clone(), values);
    }
    let full = [batch, spec.num_heads, q_len, capacity];
    let cut = |of: [bool; 4]| -> [u32; 4] { std::array::from_fn(|d| if of[d] { 1 } else { full[d] }) };
    if spec.dense_bias {
        let shape = cut(layout.broadcast[0]);
        let n = shape.iter().product::<u32>() as usize;
        let mut values = draw.noise(n, 1.0);
        match draw.int(0..=5) {
            0 => values.iter_mut().for_each(|x| *x = if *x > 0.5 { f32::NEG_INFINITY } else { *x }),
            1 => {
                let low = draw.pick(&LOW);
                values.iter_mut().for_each(|x| *x = if *x > 0.0 { low } else { *x });
            }
            2 => {
                let low = draw.pick(&LOW);
                values.fill(draw.pick(&[low, low, f32::NEG_INFINITY]));
            }
            _ => {}
        }
        if poisoned {
            values[draw.int(0..=n as u32 - 1) as usize] = draw.pick(&ODD);
        }
        inputs.attn_bias = Some(Dense::new(shape, values).expect("one for each index"));
    }
    if spec.mask.dense {
        let shape = cut(layout.broadcast[1]);
        let share = draw.pick(&[0.7, 0.97, 0.1]);
        let values = (0..shape.iter().product::<u32>()).map(|_| draw.chance(share)).collect();
        inputs.mask = Some(Dense::new(shape, values).expect("one for each index"));
    }
    if spec.gated_bias {
        let gates = draw.noise((batch * spec.num_heads * q_len) as usize, 1.0);
        inputs.gates = Some(gates.into_iter().map(|x| x as f64 / 3.0).collect());
    }
    let planes = batch * spec.num_heads;
    let one = |draw: &mut Draw, n: u32| draw.noise(n as usize, 1.0);
    if spec.query_scales {
        inputs.query_scales = Some(one(draw, planes * q_len));
    }
    if spec.sink == Some(Sink::Query) {
        inputs.query_sinks = Some(one(draw, planes * q_len));
    }
    if let Some(own) = spec.relative.iter().find_map(|r| r.own) {
        inputs.relative_queries = Some(one(draw, planes * q_len * own));
    }
    if spec.key_bias {
        let steps = one(draw, planes * capacity);
        inputs.key_bias = Some(
            steps
                .iter()
                .scan(0.0, |sum, x| {
                    *sum += *x as f64 / 3.0;
                    Some(*sum)
                })
                .collect(),
        );
    }
    if let Some(rotary) = spec.rotary.as_ref().filter(|_| table) {
        let angles = draw.noise((rows * rotary.rotary_dim / 2) as usize, 3.0);
        let (sin, cos) = angles.iter().map(|x| x.sin_cos()).unzip();
        inputs.angle_table = Some(AngleTable { cos, sin });
    }
    if [&spec.score_mod, &spec.mask_mod].into_iter().flatten().any(|text| user::reads_data(text)) {
        let n = draw.int(1..=50) as usize;
        inputs.user_data = draw.noise(n, 1.0).into_iter().map(f32::to_bits).collect();
    }
    user::close(spec, &mut inputs);
    if let Some(linear) = &spec.linear {
        let states = (batch * spec.num_kv_heads * spec.features()) as usize;
        if linear.initial_state {
            inputs.initial_state = Some(draw.noise(states * spec.v_head_dim as usize, 1.0));
            if linear.normalizer.is_some() {
                inputs.initial_normalizer = Some(draw.noise(states, 0.3).into_iter().map(|x| x + 1.0).collect());
            }
        }
        let width = match linear.decay {
            Some(Decay::Token) => 1,
            Some(Decay::Feature) => spec.features(),
            _ => 0,
        };
        if width > 0 {
            let n = (batch * capacity * spec.num_kv_heads * width) as usize;
            inputs.decay = Some(draw.noise(n, 0.1).into_iter().map(|x| x - 0.2).collect());
        }
        if linear.delta {
            // beta |k|^2 mostly below 2, beyond which states grow with every key
            let n = (batch * capacity * spec.num_kv_heads) as usize;
            let most = 0.5 / spec.features() as f32;
            inputs.beta = Some(draw.noise(n, most).into_iter().map(|x| x + most).collect());
        }
    }
    inputs
}

/// What positions must keep to.
struct Limited {
    /// Rows of an angle table.
    rows: Option<u32>,
    /// The smallest window of the index maps.
    window: Option<[u32; 2]>,
    /// Whether there may be a token outside of every window.
    class: bool,
}

/// The windows of the spec's maps.
fn grids(spec: &Spec) -> Vec<(u32, u32, bool)> {
    let maps = spec.bias.iter().filter_map(|b| b.index()).chain(spec.relative.iter().map(|r| r.index));
    maps.filter_map(|map| match map {
        IndexMap::Grid { height, width, class } => Some((height, width, class)),
        _ => None,
    })
    .collect()
}
fn window(spec: &Spec) -> Option<[u32; 2]> {
    grids(spec).into_iter().map(|(h, w, _)| [h, w]).reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1])])
}
fn class(spec: &Spec) -> bool {
    grids(spec).iter().all(|(.., class)| *class)
}

fn positions(
    draw: &mut Draw,
    limits: &Limited,
    streams: u32,
    batch: u32,
    q_len: u32,
    capacity: u32,
) -> (Vec<i32>, Vec<i32>) {
    let rows = limits.rows.map_or(i32::MAX, |rows| rows as i32);
    let (mut q, mut k) = (vec![], vec![]);
    let kind = draw.int(0..=4);
    let far = draw.pick(&[0, 1 << 20, i32::MAX - 200, i32::MIN + 200, -70]);
    for stream in 0..streams {
        let side =
            limits.window.map(|window| window.get(stream as usize).map_or(rows, |side| (*side as i32).min(rows)));
        let mut one = |i: u32, len: u32| match side {
            Some(side) => draw.signed(0..=side - 1),
            None if limits.rows.is_some() => draw.signed(0..=rows - 1),
            None => match kind {
                // consecutive, the queries last
                0 | 1 => far + (i + capacity.saturating_sub(len)) as i32,
                2 => far + draw.signed(-30..=30),
                3 => draw.pick(&[0, 5, 5, -3, 1000]),
                _ => draw.signed(i32::MIN..=i32::MAX),
            },
        };
        q.extend((0..batch).flat_map(|_| 0..q_len).map(|i| one(i, q_len)).collect::<Vec<_>>());
        k.extend((0..batch).flat_map(|_| 0..capacity).map(|i| one(i, capacity)).collect::<Vec<_>>());
    }
    if limits.window.is_some() && limits.class && limits.rows.is_none() {
        let mut outer = |ids: &mut Vec<i32>, tokens: usize| {
            for token in (0..tokens).filter(|_| draw.chance(0.15)).collect::<Vec<_>>() {
                (0..streams as usize).for_each(|s| ids[s * tokens + token] = -1);
            }
        };
        outer(&mut q, (batch * q_len) as usize);
        outer(&mut k, (batch * capacity) as usize);
    }
    (q, k)
}

fn embed_inputs(draw: &mut Draw, embed: &Embed, layout: &Layout) -> EmbedInputs {
    let (batch, len) = (draw.int(1..=3), length(draw, 130));
    let x = tensor(draw, layout, embed.dtype, [batch, len, 1, embed.dim], 1.0, &[]);
    let tokens = 0..batch * len;
    let far = draw.pick(&[0, 0, 1 << 20, i32::MAX - 200, i32::MIN + 200, -70]);
    let (table, positions) = match &embed.positions {
        Absolute::Learned { rows } => {
            let table = tensor(draw, layout, embed.dtype, [1, *rows, 1, embed.dim], 1.0, &[]);
            (Some(table), tokens.map(|_| draw.int(0..=rows - 1) as i32).collect())
        }
        _ if draw.chance(0.5) => (None, tokens.map(|i| far + (i % len) as i32).collect()),
        _ => (None, tokens.map(|_| draw.signed(-4..=300)).collect::<Vec<_>>()),
    };
    let mut inputs = EmbedInputs::new(x, positions);
    inputs.table = table;
    inputs
}

/// The same keys and values somewhere in a pool, whose other rows are NaN.
fn pool(draw: &mut Draw, inputs: &mut Inputs, starts: &[u32]) {
    let lens: Vec<u32> = starts.windows(2).map(|k| k[1] - k[0]).collect();
    let mut rows = Vec::new();
    let capacity;
    if draw.chance(0.5) {
        let (mut slots, mut next) = (vec![0; lens.len()], 0);
        for s in draw.order(lens.len()) {
            next += draw.int(0..=3);
            slots[s] = next;
            next += lens[s];
        }
        for (start, len) in slots.iter().zip(&lens) {
            rows.extend(*start..start + len);
        }
        capacity = next + draw.int(1..=3);
        inputs.placement = Some(Placement::Slots(slots));
    } else {
        let page_size = draw.pick(&[1, 2, 3, 8, 16]);
        let width = lens.iter().map(|n| n.div_ceil(page_size)).max().unwrap_or(0) + draw.int(0..=1);
        let used: u32 = lens.iter().map(|n| n.div_ceil(page_size)).sum();
        let pages = used + draw.int(1..=3);
        let mut free = draw.order(pages as usize).into_iter();
        let mut table = Vec::new();
        for len in &lens {
            let own: Vec<u32> = free.by_ref().take(len.div_ceil(page_size) as usize).map(|page| page as u32).collect();
            rows.extend((0..*len).map(|j| own[(j / page_size) as usize] * page_size + j % page_size));
            table.extend(own.iter().copied().chain(std::iter::repeat(u32::MAX)).take(width.max(1) as usize));
        }
        capacity = pages * page_size;
        inputs.placement = Some(Placement::Pages { page_size, table });
    }
    for tensor in [&mut inputs.k, &mut inputs.v] {
        let [_, tokens, heads, dim] = tensor.shape();
        let mut data = vec![f32::NAN; (capacity * heads * dim) as usize];
        for (token, row) in (0..tokens).zip(&rows) {
            for h in 0..heads {
                let to = ((row * heads + h) * dim) as usize;
                let from = tensor.row_start(0, token, h);
                (0..dim as usize).for_each(|d| data[to + d] = tensor.data().get(from + d));
            }
        }
        let data = Data::from_rows(tensor.dtype(), dim, &data);
        *tensor = Tensor::bshd(data, [1, capacity, heads, dim]).expect("a pool");
    }
}
