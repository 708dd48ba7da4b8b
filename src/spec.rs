//! What is computed: the terms of the equation that a model uses. No shapes of a call, no device.

use crate::linear::Linear;
use crate::scaling::MAX_ROTARY_DIM;
use crate::terms::{IndexMap, Norm, NormKind, Relative, RelativeSide, Sink, Temperature, XPos};
use crate::{Error, Result, bias};
use serde::{Deserialize, Serialize};

/// The version of the spec-file format that this crate reads and writes.
pub const SCHEMA: u32 = 1;
/// The largest `head_dim` and `v_head_dim` of a plan.
pub const MAX_HEAD_DIM: u32 = 256;
/// The largest `num_heads`.
pub const MAX_HEADS: u32 = 1024;

/// The storage type of q, k, v and out. Arithmetic is f32 whatever the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16; needs no device feature, two elements share a word.
    F16,
    /// bfloat16, the upper half of a binary32.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
    /// The largest relative error of one rounding to this type (its unit roundoff).
    pub fn unit_roundoff(self) -> f64 {
        match self {
            Dtype::F32 => 2f64.powi(-24),
            Dtype::F16 => 2f64.powi(-11),
            Dtype::Bf16 => 2f64.powi(-8),
        }
    }
    /// The file of `shaders/tensor/storage_*`.
    pub(crate) fn storage_file(self) -> &'static str {
        match self {
            Dtype::F32 => "tensor/storage_f32.wgsl",
            Dtype::F16 => "tensor/storage_f16.wgsl",
            Dtype::Bf16 => "tensor/storage_bf16.wgsl",
        }
    }
    /// The name used in spec files, labels and shader file names.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}

/// Which elements of the rotary window form the pairs that rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pairing {
    /// Pair `p` is elements `p` and `p + rotary_dim/2` (Llama, Qwen, GPT-NeoX, Phi, Gemma).
    Half,
    /// Pair `p` is elements `2p` and `2p + 1` (RoFormer, GPT-J, Cohere, GLM).
    Interleaved,
    /// Pair `p` is read at `2p` and `2p + 1` and written at `p` and `p + rotary_dim/2` (DeepSeek-V3). Scores
    /// equal those of `Interleaved`, rotated tensors do not.
    InterleavedInHalfOut,
    /// Each half of the window by itself: with h = rotary_dim/2, pairs p below h/2 are elements `p` and `p + h/2`, the others
    /// the same elements of the second half (Gemma 4's vision tower). rotary_dim is a multiple of 4.
    HalfOfHalves,
}

/// Where the angle of a position and a pair comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Angle {
    /// Integer phase from a 64-bit turn increment: |cos, sin| error below 2e-7 at every i32 position.
    #[default]
    Exact,
    /// The angle `f32(position) * f32(inv_freq)` as most frameworks compute it, reduced exactly: for checkpoints
    /// trained against float32 angles.
    Float32,
    /// The caller's cos and sin tables (`[rows, rotary_dim/2]`), indexed by position.
    Table,
}

/// Radians per position of every pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Frequencies {
    /// `theta^(-2p / rotary_dim)` (RoFormer).
    Theta(f64),
    /// Explicit, `rotary_dim / 2` of them: every length extension arrives this way.
    InvFreq(Vec<f64>),
}

/// R(m): the rotation of q and k.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rotary {
    /// Which elements form a pair.
    pub pairing: Pairing,
    /// How many elements rotate; even.
    pub rotary_dim: u32,
    /// The first rotated element of a head (0; MLA rotates the last ones).
    #[serde(default)]
    pub offset: u32,
    /// Radians per position; not used by [`Angle::Table`].
    pub frequencies: Frequencies,
    /// Multiplies cos and sin (YaRN, LongRoPE); scores carry its square. With [`Angle::Table`] it multiplies the
    /// table too.
    #[serde(default = "one")]
    pub attention_factor: f64,
    /// Where angles come from.
    #[serde(default)]
    pub angle: Angle,
    /// The position stream that each pair turns by, 0 to 2; empty: stream 0 for all. [`Rotary::with_sections`] sets them for
    /// m-RoPE, [`Rotary::pixtral`] and its neighbours for pictures.
    #[serde(default)]
    pub streams: Vec<u8>,
    /// A magnitude that decays with distance.
    #[serde(default)]
    pub xpos: Option<XPos>,
    /// R_v: values rotate too, by their key's position, in the same window, without xPos' magnitude (RoFormer's
    /// `rotary_value`).
    #[serde(default)]
    pub values: bool,
    /// k holds R(n) N k already, a cache of rotated keys: attention and scores take it as it is and turn queries alone. What
    /// [`Kernel::RotateK`](crate::Kernel::RotateK) makes for that cache does not depend on it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keys_rotated: bool,
}

fn is_false(x: &bool) -> bool {
    !x
}

fn one() -> f64 {
    1.0
}

impl Rotary {
    /// Rotation of the first `rotary_dim` elements with frequencies `theta^(-2p/rotary_dim)`.
    pub fn new(pairing: Pairing, rotary_dim: u32, theta: f64) -> Self {
        let frequencies = Frequencies::Theta(theta);
        Self::plain(pairing, rotary_dim, frequencies)
    }
    /// Rotation with explicit frequencies, one for each pair.
    pub fn with_inv_freq(pairing: Pairing, inv_freq: Vec<f64>) -> Self {
        let rotary_dim = 2 * inv_freq.len() as u32;
        let frequencies = Frequencies::InvFreq(inv_freq);
        Self::plain(pairing, rotary_dim, frequencies)
    }
    fn plain(pairing: Pairing, rotary_dim: u32, frequencies: Frequencies) -> Self {
        Rotary {
            pairing,
            rotary_dim,
            offset: 0,
            frequencies,
            attention_factor: 1.0,
            angle: Angle::Exact,
            streams: Vec::new(),
            xpos: None,
            values: false,
            keys_rotated: false,
        }
    }
    /// The position stream of a pair.
    pub fn stream(&self, pair: usize) -> usize {
        self.streams.get(pair).map_or(0, |s| *s as usize)
    }
    /// The frequencies, one for each pair, in radians per position; of the first 2^15 pairs, more than a head may have.
    pub fn inv_freq(&self) -> Vec<f64> {
        match &self.frequencies {
            Frequencies::Theta(theta) => (0..self.rotary_dim.min(MAX_ROTARY_DIM) / 2)
                .map(|p| theta.powf(-2.0 * p as f64 / self.rotary_dim as f64))
                .collect(),
            Frequencies::InvFreq(inv_freq) => inv_freq.clone(),
        }
    }
    fn validate(&self, head_dim: u32) -> Result<()> {
        let r = self.rotary_dim;
        if r == 0 || r % 2 == 1 {
            return Err(Error::spec(
                "rotary.rotary_dim",
                format!("is {r}"),
                "give an even number of elements, 2 or more: rotation acts on pairs",
            ));
        }
        if self.pairing == Pairing::HalfOfHalves && !r.is_multiple_of(4) {
            return Err(Error::spec(
                "rotary.rotary_dim",
                format!("is {r}"),
                "give a multiple of 4: each half of the window is cut into pairs by itself",
            ));
        }
        if self.offset.checked_add(r).is_none_or(|end| end > head_dim) {
            return Err(Error::spec(
                "rotary.rotary_dim",
                format!("elements {}..{} of a head of {head_dim}", self.offset, self.offset as u64 + r as u64),
                "let offset + rotary_dim be at most head_dim",
            ));
        }
        if !(1e-30..1e30).contains(&self.attention_factor.abs()) {
            return Err(Error::spec(
                "rotary.attention_factor",
                format!("is {}", self.attention_factor),
                "give a number from 1e-30 to 1e30 in size (1 for plain RoPE)",
            ));
        }
        if !self.streams.is_empty() && self.streams.len() != (r / 2) as usize {
            return Err(Error::spec(
                "rotary.streams",
                format!("holds {} streams", self.streams.len()),
                format!("give one for each of the {} pairs, or none", r / 2),
            ));
        }
        if let Some(stream) = self.streams.iter().find(|s| **s > 2) {
            return Err(Error::spec("rotary.streams", format!("stream {stream}"), "there are at most three, 0 to 2"));
        }
        if let Some(xpos) = &self.xpos
            && !(2.0..=1e9).contains(&xpos.scale_base.abs())
        {
            return Err(Error::spec(
                "rotary.xpos.scale_base",
                format!("is {}", xpos.scale_base),
                "give 2 to 1e9 positions (512 in the paper), below 0 for a growth",
            ));
        }
        if self.angle == Angle::Table {
            return Ok(());
        }
        match &self.frequencies {
            Frequencies::Theta(theta) if !(theta.is_finite() && *theta > 0.0) => Err(Error::spec(
                "rotary.frequencies.theta",
                format!("is {theta}"),
                "give a finite number above 0 (10000 in RoFormer)",
            )),
            Frequencies::InvFreq(f) if f.len() != (r / 2) as usize => Err(Error::spec(
                "rotary.frequencies.inv_freq",
                format!("holds {} frequencies", f.len()),
                format!("give rotary_dim / 2 = {} of them", r / 2),
            )),
            frequencies => match self.inv_freq().iter().position(|x| !x.is_finite() || x.abs() > 65536.0) {
                Some(p) => {
                    let field = match frequencies {
                        Frequencies::Theta(_) => "rotary.frequencies.theta",
                        Frequencies::InvFreq(_) => "rotary.frequencies.inv_freq",
                    };
                    Err(Error::spec(
                        field,
                        format!("entry {p} of inv_freq is {}", self.inv_freq()[p]),
                        "give finite radians per position, at most 65536 in size",
                    ))
                }
                None => Ok(()),
            },
        }
    }
}

/// Where the positions m of queries and n of keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Positions {
    /// n = j, m = i': the queries are the last tokens of the cache, or the first with [`Alignment::TopLeft`].
    #[default]
    Index,
    /// The caller's `q_positions` and `k_positions` (i32), which may repeat or jump. They never decide visibility. Distances n - m beyond
    /// 2^31 - 1 in size are taken as that.
    Ids,
}

/// The closed form of ALiBi's bias (Press et al. 2022).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlibiForm {
    /// slope * (n - m): the paper's form under a causal mask.
    Relative,
    /// -slope * |n - m|: two-sided.
    Symmetric,
    /// slope * n (BLOOM, Falcon): rows differ from `Relative` by a constant, which softmax removes.
    KeyPosition,
    /// slope * (n - (kv_len - 1)) (MPT).
    KeyFromEnd,
}

/// C: a relative bias, added after the cap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Bias {
    /// A table over the relative distance: `table[head, clamp(n - m, min, max) - min]`.
    Table {
        /// The smallest distance n - m that has a row of its own.
        min: i32,
        /// The largest distance n - m that has a row of its own.
        max: i32,
    },
    /// T5's buckets (Raffel et al. 2020): `table[bucket(n - m), head]`, expanded by the host into a table over the
    /// distance.
    T5 {
        /// Rows of the table.
        num_buckets: u32,
        /// The distance from which on all distances share the last bucket.
        max_distance: u32,
        /// Whether keys after the query have buckets of their own (encoders).
        bidirectional: bool,
    },
    /// A slope for each head times a distance.
    Alibi {
        /// The closed form.
        form: AlibiForm,
        /// One for each head; `None`: the paper's geometric series for `num_heads`.
        #[serde(default)]
        slopes: Option<Vec<f32>>,
        /// Multiplies the bias (Falcon: the softmax scale).
        #[serde(default = "one")]
        scale: f64,
    },
    /// A table over an index map: `table[r(m, n), head]` (Swin, BEiT; segments).
    Indexed {
        /// Which row.
        index: IndexMap,
    },
    /// Swin v2's continuous bias of a window (Liu et al. 2022): 16 sigmoid(w2 relu(w1 c + b1)) of the log-spaced offset c
    /// ([`log_cpb_offsets`](crate::log_cpb_offsets)), tabulated by the host in f64 over the rows of [`IndexMap::Grid`]. Parameters:
    /// `cpb_w1` `[hidden, 2]`, `cpb_b1` `[hidden]`, `cpb_w2` `[num_heads, hidden]`.
    LogCpb {
        /// Rows of the window.
        height: u32,
        /// Columns of the window.
        width: u32,
        /// Rows and columns of the window that the model was trained with, which scale the offsets; `None`: those of this one.
        #[serde(default)]
        pretrained: Option<[u32; 2]>,
        /// Units of the hidden layer (512).
        hidden: u32,
    },
    /// KERPLE (Chi et al. 2022): a kernel of the distance |m - n|, with two learned numbers for each head: the parameters
    /// `kerple_p` and `kerple_a`, `[num_heads]`, both taken as at least `eps`. Two-sided, as in the paper; its published code is causal.
    Kerple {
        /// Which kernel.
        kind: KerpleKind,
        /// The least p and a (0.01).
        #[serde(default = "kerple_eps")]
        eps: f64,
    },
}

fn kerple_eps() -> f64 {
    0.01
}

/// KERPLE's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KerpleKind {
    /// -p ln(1 + a |m - n|).
    Log,
    /// -a |m - n|^p, with p at most 2.
    Power,
}

impl Bias {
    /// The index map of a term that has one.
    pub fn index(&self) -> Option<IndexMap> {
        match self {
            Bias::Indexed { index } => Some(*index),
            Bias::LogCpb { height, width, .. } => Some(IndexMap::Grid { height: *height, width: *width, class: false }),
            _ => None,
        }
    }
}

/// How query row i is placed among the keys: i' = i + kv_len - q_len, or i' = i.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Alignment {
    /// i' = i + kv_len - q_len: caches and packed sequences.
    #[default]
    BottomRight,
    /// i' = i: torch's `is_causal`.
    TopLeft,
}

/// Which keys a query sees: by index, never by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Mask {
    /// j <= i'.
    #[serde(default)]
    pub causal: bool,
    /// How i' comes from i.
    #[serde(default)]
    pub alignment: Alignment,
    /// i' - left <= j.
    #[serde(default)]
    pub window_left: Option<u32>,
    /// j <= i' + right.
    #[serde(default)]
    pub window_right: Option<u32>,
    /// floor(j / chunk) = floor(i' / chunk) (Llama 4).
    #[serde(default)]
    pub chunk: Option<u32>,
    /// A boolean tensor `mask` (true: attend) is among the inputs.
    #[serde(default)]
    pub dense: bool,
}

impl Mask {
    /// Every key.
    pub fn none() -> Self {
        Self::default()
    }
    /// j <= i', aligned bottom-right.
    pub fn causal() -> Self {
        Mask { causal: true, ..Self::default() }
    }
    /// How many keys after i' are visible, if that is limited at all.
    pub(crate) fn right(&self) -> Option<u32> {
        match (self.causal, self.window_right) {
            (true, _) => Some(0),
            (false, right) => right,
        }
    }
}

/// What is computed: heads, rotation, scale, cap, bias, mask. Build it with [`Spec::new`] and set fields, or read it
/// from JSON; it can grow without breaking either.
///
/// ```
/// use ropewalk::{Mask, Pairing, Rotary, Spec};
/// let mut spec = Spec::new(32, 8, 128);
/// spec.rotary = Some(Rotary::new(Pairing::Half, 128, 500_000.0));
/// spec.mask = Mask::causal();
/// spec.validate()?;
/// let again = Spec::from_json(&spec.to_json())?;
/// assert_eq!(spec, again);
/// # Ok::<(), ropewalk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Spec {
    /// The version of the file format, [`SCHEMA`].
    pub schema: u32,
    /// H, query heads.
    pub num_heads: u32,
    /// G, key/value heads; divides `num_heads`. Query head h reads kv head `h / (H / G)`.
    pub num_kv_heads: u32,
    /// Elements of one head of q and k, 1 to 256.
    pub head_dim: u32,
    /// Elements of one head of v and out, 1 to 256.
    pub v_head_dim: u32,
    /// Storage of q, k, v, out.
    #[serde(default = "f32_storage")]
    pub dtype: Dtype,
    /// R; `None`: nothing rotates.
    #[serde(default)]
    pub rotary: Option<Rotary>,
    /// Where positions come from.
    #[serde(default)]
    pub positions: Positions,
    /// Multiplies q.k; `None`: 1 / sqrt(head_dim).
    #[serde(default)]
    pub softmax_scale: Option<f64>,
    /// c of c * tanh(x / c), applied to the scaled score before any bias (Gemma 2, ONNX).
    #[serde(default)]
    pub logits_soft_cap: Option<f64>,
    /// C, added in this order.
    #[serde(default)]
    pub bias: Vec<Bias>,
    /// C, all of it, is multiplied by a gate of the query, `gates` among the inputs (WavLM).
    #[serde(default)]
    pub gated_bias: bool,
    /// D: a tensor `attn_bias`, broadcast over batch and heads, is among the inputs. -inf there is a mask.
    #[serde(default)]
    pub dense_bias: bool,
    /// Which keys a query sees.
    #[serde(default)]
    pub mask: Mask,
    /// Every sequence has a kv_len of its own (`kv_lens`).
    #[serde(default)]
    pub kv_lens: bool,
    /// N: a norm of every row of q and k.
    #[serde(default)]
    pub norm: Option<Norm>,
    /// tau: a temperature of the query's position.
    #[serde(default)]
    pub temperature: Option<Temperature>,
    /// scale_h: the parameter `head_scale`, `[num_heads]`, multiplies the softmax scale.
    #[serde(default)]
    pub head_scale: bool,
    /// The parameter `head_scale` holds logarithms: scale_h = exp(min(head_scale, this)), in f64 (Swin v2's `logit_scale`: ln 100).
    #[serde(default)]
    pub head_scale_exp: Option<f64>,
    /// u: the parameter `content_bias`, `[num_heads, head_dim]`, is added to q before the rotation.
    #[serde(default)]
    pub content_bias: bool,
    /// A, B and E_V, in this order; at most 8.
    #[serde(default)]
    pub relative: Vec<Relative>,
    /// One more logit in the softmax's denominator.
    #[serde(default)]
    pub sink: Option<Sink>,
    /// Sequences of different lengths lie one after the other in one batch entry: `cu_seqlens_q` and `cu_seqlens_k` say where.
    /// Each attends within itself; masks and positions by index count from its first token. Not together with `kv_lens`.
    #[serde(default)]
    pub packed: bool,
    /// The user's own function of a score, WGSL: see [`user`](crate::user).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_mod: Option<String>,
    /// The user's own mask, WGSL: see [`user`](crate::user).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_mod: Option<String>,
    /// Linear attention in place of the softmax.
    #[serde(default)]
    pub linear: Option<Linear>,
}

fn f32_storage() -> Dtype {
    Dtype::F32
}

impl Spec {
    /// Plain attention: no rotation, no bias, no mask, f32, `v_head_dim = head_dim`.
    pub fn new(num_heads: u32, num_kv_heads: u32, head_dim: u32) -> Self {
        Spec {
            schema: SCHEMA,
            num_heads,
            num_kv_heads,
            head_dim,
            v_head_dim: head_dim,
            dtype: Dtype::F32,
            rotary: None,
            positions: Positions::Index,
            softmax_scale: None,
            logits_soft_cap: None,
            bias: Vec::new(),
            gated_bias: false,
            dense_bias: false,
            mask: Mask::none(),
            kv_lens: false,
            norm: None,
            temperature: None,
            head_scale: false,
            head_scale_exp: None,
            content_bias: false,
            relative: Vec::new(),
            sink: None,
            packed: false,
            score_mod: None,
            mask_mod: None,
            linear: None,
        }
    }

    /// Reads a spec file. Unknown fields, another schema and contradictions are errors that name the field.
    pub fn from_json(text: &str) -> Result<Self> {
        let spec: Spec = serde_json::from_str(text)
            .map_err(|e| Error::spec("(file)", format!("cannot be read: {e}"), "see `Spec` for the fields"))?;
        spec.validate()?;
        Ok(spec)
    }

    /// Writes a spec file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a spec holds only numbers, strings, lists and maps")
    }

    /// scale_h of a value of the parameter `head_scale`.
    pub(crate) fn head_scale_of(&self, value: f32) -> f64 {
        let value = value as f64;
        match self.head_scale_exp {
            Some(max) if value > max => max.exp(),
            Some(_) => value.exp(),
            None => value,
        }
    }

    /// The scale that multiplies q.k.
    pub fn scale(&self) -> f64 {
        self.softmax_scale.unwrap_or(1.0 / (self.head_dim as f64).sqrt())
    }

    /// Whether k holds rotated keys: [`Rotary::keys_rotated`].
    pub(crate) fn keys_rotated(&self) -> bool {
        self.rotary.as_ref().is_some_and(|r| r.keys_rotated)
    }

    /// Query heads that share a kv head.
    pub fn group(&self) -> u32 {
        self.num_heads / self.num_kv_heads.max(1)
    }

    /// Checks every field; the error names the first that is wrong.
    pub fn validate(&self) -> Result<()> {
        if self.schema != SCHEMA {
            return Err(Error::spec(
                "schema",
                format!("is {}", self.schema),
                format!("this version of ropewalk reads schema {SCHEMA}"),
            ));
        }
        for (field, n) in [("num_heads", self.num_heads), ("num_kv_heads", self.num_kv_heads)] {
            if n == 0 || n > MAX_HEADS {
                return Err(Error::spec(field, format!("is {n}"), format!("give 1 to {MAX_HEADS}")));
            }
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            return Err(Error::spec(
                "num_kv_heads",
                format!("{} does not divide num_heads = {}", self.num_kv_heads, self.num_heads),
                "every kv head must serve the same number of query heads",
            ));
        }
        for (field, d) in [("head_dim", self.head_dim), ("v_head_dim", self.v_head_dim)] {
            if d == 0 || d > MAX_HEAD_DIM {
                return Err(Error::spec(field, format!("is {d}"), format!("give 1 to {MAX_HEAD_DIM}")));
            }
        }
        if let Some(rotary) = &self.rotary {
            rotary.validate(self.head_dim)?;
            if rotary.values && rotary.offset + rotary.rotary_dim > self.v_head_dim {
                return Err(Error::spec(
                    "rotary.values",
                    format!(
                        "is set, but elements {}..{} leave a value of {}",
                        rotary.offset,
                        rotary.offset + rotary.rotary_dim,
                        self.v_head_dim
                    ),
                    "let offset + rotary_dim be at most v_head_dim, or leave values unrotated",
                ));
            }
        }
        if self.keys_rotated() && (self.linear.is_some() || self.relative.iter().any(|r| r.side == RelativeSide::Query))
        {
            return Err(Error::spec(
                "rotary.keys_rotated",
                "is set, but linear attention and relative terms of the side `query` read keys as they were",
                "keep a cache of unrotated keys",
            ));
        }
        if !self.scale().is_finite() || self.scale().abs() > 1e30 {
            return Err(Error::spec(
                "softmax_scale",
                format!("is {}", self.scale()),
                "give a number below 1e30 in size",
            ));
        }
        if let Some(cap) = self.logits_soft_cap
            && !((cap as f32) > 1e-30 && (cap as f32) < 1e30)
        {
            return Err(Error::spec(
                "logits_soft_cap",
                format!("is {cap}"),
                "give a number above 0, or leave it out for no cap",
            ));
        }
        for (i, bias) in self.bias.iter().enumerate() {
            self.validate_bias(i, bias)?;
        }
        if self.bias.iter().filter(|b| matches!(b, Bias::Alibi { .. })).count() > 1 {
            return Err(Error::spec("bias", "holds alibi twice", "add the slopes into one term"));
        }
        if let Some(max) = self.head_scale_exp
            && !(self.head_scale && (-60.0..=60.0).contains(&max))
        {
            let help = "set head_scale too, and give a logarithm from -60 to 60 (ln 100 in Swin v2)";
            return Err(Error::spec("head_scale_exp", format!("is {max}"), help));
        }
        if self.gated_bias && self.bias.is_empty() {
            let help = "add the bias that the gates multiply, or leave it out";
            return Err(Error::spec("gated_bias", "is set without a bias", help));
        }
        if self.mask.chunk == Some(0) {
            return Err(Error::spec("mask.chunk", "is 0", "give the keys of a chunk, or leave it out"));
        }
        if self.packed && self.kv_lens {
            return Err(Error::spec("kv_lens", "is set beside packed", "leave it out: cu_seqlens_k says it"));
        }
        if let Some(linear) = &self.linear {
            linear.validate(self)?;
        }
        self.validate_terms()
    }

    fn validate_bias(&self, i: usize, bias: &Bias) -> Result<()> {
        let field = |name: &str| format!("bias[{i}].{name}");
        if let Some(index) = bias.index() {
            index.validate(&field("index"))?;
        }
        match bias {
            Bias::Table { min, max } => {
                if min > max || (*max as i64 - *min as i64) >= 1 << 24 {
                    return Err(Error::spec(
                        field("table"),
                        format!("distances {min} to {max}"),
                        "let min be at most max, with fewer than 2^24 distances between them",
                    ));
                }
            }
            Bias::T5 { num_buckets, max_distance, bidirectional } => {
                let (buckets, distance) = (*num_buckets, *max_distance);
                let one_side = if *bidirectional { buckets / 2 } else { buckets };
                if one_side < 2 || buckets > 1 << 20 || (*bidirectional && buckets % 2 == 1) {
                    return Err(Error::spec(
                        field("t5.num_buckets"),
                        format!("is {buckets}"),
                        "give at least 2 buckets for each side, an even number for two sides",
                    ));
                }
                if distance <= one_side / 2 || distance > 1 << 20 {
                    return Err(Error::spec(
                        field("t5.max_distance"),
                        format!("is {distance}"),
                        format!(
                            "give more than {} (the distances with buckets of their own), at most 2^20",
                            one_side / 2
                        ),
                    ));
                }
            }
            Bias::Alibi { slopes, scale, .. } => {
                if let Some(slopes) = slopes {
                    if slopes.len() != self.num_heads as usize {
                        return Err(Error::spec(
                            field("alibi.slopes"),
                            format!("holds {} slopes", slopes.len()),
                            format!("give one for each of the {} heads", self.num_heads),
                        ));
                    }
                    if let Some(h) = slopes.iter().position(|s| !s.is_finite()) {
                        return Err(Error::spec(
                            field("alibi.slopes"),
                            format!("slope {h} is {}", slopes[h]),
                            "give finite slopes",
                        ));
                    }
                }
                if !scale.is_finite() || bias::slopes(bias, self.num_heads).iter().any(|s| s.abs() > 1e20) {
                    let help = "let slopes times scale be at most 1e20";
                    return Err(Error::spec(field("alibi.scale"), format!("is {scale}"), help));
                }
            }
            Bias::Indexed { .. } => {}
            Bias::Kerple { eps, .. } => {
                if !(1e-6..=1.0).contains(eps) {
                    let help = "give a number from 1e-6 to 1 (0.01 in the paper's code)";
                    return Err(Error::spec(field("kerple.eps"), format!("is {eps}"), help));
                }
            }
            Bias::LogCpb { height, width, pretrained, hidden } => {
                if *hidden == 0 || 4 * *height as u64 * *width as u64 * *hidden as u64 > 1 << 32 {
                    let help = "give 1 or more (512 in the paper), fewer than 2^32 / (4 height width)";
                    return Err(Error::spec(field("log_cpb.hidden"), format!("is {hidden}"), help));
                }
                if let Some(sides) = pretrained.filter(|sides| sides.iter().any(|n| *n < 2)) {
                    let help = "give sides of 2 or more, or leave it out";
                    return Err(Error::spec(field("log_cpb.pretrained"), format!("is {sides:?}"), help));
                }
            }
        }
        Ok(())
    }

    /// The names of the terms in the equation's order, as reports print them.
    pub fn terms(&self) -> Vec<String> {
        let mut terms = self.linear.as_ref().map(Linear::terms).unwrap_or_default();
        if let Some(r) = &self.rotary {
            let pairing = match r.pairing {
                Pairing::Half => "half",
                Pairing::Interleaved => "interleaved",
                Pairing::InterleavedInHalfOut => "interleaved_in_half_out",
                Pairing::HalfOfHalves => "half_of_halves",
            };
            let angle = match r.angle {
                Angle::Exact => "exact",
                Angle::Float32 => "float32",
                Angle::Table => "table",
            };
            let streams = match r.streams.iter().max() {
                None | Some(0) => String::new(),
                Some(last) => format!(" {} streams", last + 1),
            };
            let xpos = if r.xpos.is_some() { " xpos" } else { "" };
            terms.push(format!("R({pairing} {}/{} {angle}{streams}{xpos})", r.rotary_dim, self.head_dim));
            if r.values {
                terms.push("R_v".into());
            }
            if r.keys_rotated {
                terms.push("keys rotated".into());
            }
        }
        if let Some(norm) = &self.norm {
            let kind = match norm.kind {
                NormKind::Rms => "rms",
                NormKind::L2 => "l2",
            };
            terms.push(format!("N({kind}{})", if norm.after_rotation { " after rotation" } else { "" }));
        }
        for (given, name) in
            [(self.temperature.is_some(), "tau"), (self.head_scale, "scale_h"), (self.content_bias, "u")]
        {
            if given {
                terms.push(name.into());
            }
        }
        if self.logits_soft_cap.is_some() {
            terms.push("cap".into());
        }
        for relative in &self.relative {
            let bias = if relative.query_bias { "+v" } else { "" };
            terms.push(format!("{}({}{bias})", relative.name(), relative.index.name()));
        }
        let gated = if self.gated_bias { "gated " } else { "" };
        for bias in &self.bias {
            let name = match bias {
                Bias::LogCpb { .. } => "log-cpb".into(),
                Bias::Kerple { kind: KerpleKind::Log, .. } => "kerple log".into(),
                Bias::Kerple { kind: KerpleKind::Power, .. } => "kerple power".into(),
                Bias::Indexed { index } => index.name().to_string(),
                Bias::Table { .. } => "table".into(),
                Bias::T5 { .. } => "t5".into(),
                Bias::Alibi { form, .. } => match form {
                    AlibiForm::Relative => "alibi".into(),
                    AlibiForm::Symmetric => "alibi symmetric".into(),
                    AlibiForm::KeyPosition => "alibi key".into(),
                    AlibiForm::KeyFromEnd => "alibi key from end".into(),
                },
            };
            terms.push(format!("C({gated}{name})"));
        }
        if self.dense_bias {
            terms.push("D".into());
        }
        if self.score_mod.is_some() {
            terms.push("score_mod".into());
        }
        if self.mask.causal {
            terms.push(
                match self.mask.alignment {
                    Alignment::BottomRight => "causal",
                    Alignment::TopLeft => "causal top-left",
                }
                .into(),
            );
        }
        if self.mask.window_left.is_some() || (self.mask.window_right.is_some() && !self.mask.causal) {
            terms.push("window".into());
        }
        if self.mask.chunk.is_some() {
            terms.push("chunk".into());
        }
        if self.mask.dense {
            terms.push("mask".into());
        }
        if self.sink.is_some() {
            terms.push("sink".into());
        }
        if self.mask_mod.is_some() {
            terms.push("mask_mod".into());
        }
        if self.kv_lens {
            terms.push("kv_lens".into());
        }
        if self.packed {
            terms.push("packed".into());
        }
        terms
    }
}
