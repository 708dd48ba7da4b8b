//! Rows rotated, and values copied, by dispatches of their own before `main`: which, by whom, and where they stand. `shaders/prepare/` does it.

use crate::equation::dtype::Dtype;
use crate::equation::rotary::rotary::Pairing;
use crate::equation::spec::Spec;
use crate::inputs::shape::Shape;
use crate::inputs::tensor::Strides;
use crate::plan::call::Call;
use crate::plan::slots::ShaderFiles;

impl ShaderFiles<'_> {
    /// Rows, or four pairs of a token, a lane.
    pub(crate) fn prepares_rows(&mut self, by_heads: bool) {
        if !by_heads {
            return self.add("prepare/rows.wgsl", &[]);
        }
        for file in ["prepare/heads_q.wgsl", "prepare/heads_k.wgsl", "common/units.wgsl"] {
            self.add(file, &[]);
        }
        self.quads();
    }
    /// Rows in the order in which they are staged.
    pub(crate) fn prepares_tiles(&mut self, aligned: bool) {
        let files: &[&'static str] = match Preparing::of(self.spec, aligned) {
            Preparing::Rows => &["prepare/rows.wgsl"],
            Preparing::Turned => &["prepare/heads_q.wgsl", "prepare/heads_k.wgsl", "common/units.wgsl"],
            Preparing::Queries => &["prepare/heads_q.wgsl", "prepare/copied_k.wgsl", "common/units.wgsl"],
            Preparing::Copied => &["prepare/copied_q.wgsl", "prepare/copied_k.wgsl"],
        };
        files.iter().for_each(|file| self.add(file, &[]));
        if files.contains(&"common/units.wgsl") {
            self.quads();
        }
    }
}

/// Tokens whose same units neighbouring lanes prepare.
pub(crate) const ACROSS: u32 = 8;

/// Lanes of a workgroup that prepares units: small ones cost a software adapter more than their work.
pub(crate) const UNIT_LANES: u32 = 128;

/// Workgroups of so many lanes that prepare units of some tokens, the same units of `across` tokens beside each other.
pub(crate) fn workgroups_of_units(tokens: u64, units: u32, across: u32, lanes: u32) -> u64 {
    (tokens.next_multiple_of(across as u64) * units as u64).div_ceil(lanes as u64)
}

/// How rows come into `work` in the order in which they are staged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Preparing {
    /// A lane a row: something needs all of it at once.
    Rows,
    /// Four pairs of a token a lane.
    Turned,
    /// The same of queries, keys as they are.
    Queries,
    /// A vec4 of a token a lane, as it is.
    Copied,
}

impl Preparing {
    pub(crate) fn of(spec: &Spec, aligned: bool) -> Self {
        let plain = spec.norm.is_none() && !spec.content_bias && spec.rotates_features().is_none();
        match (&spec.rotary, prepares_keys(spec)) {
            _ if !plain => Preparing::Rows,
            (None, _) => Preparing::Copied,
            (Some(_), _) if !stands_in_quads(spec, aligned) => Preparing::Rows,
            (Some(_), true) => Preparing::Turned,
            (Some(_), false) => Preparing::Queries,
        }
    }
}

/// Units of queries, and of keys.
pub(crate) fn units(call: &Call) -> [u32; 2] {
    let chunks = call.spec.head_dim.div_ceil(4);
    let turned = chunks - call.spec.rotary.as_ref().map_or(0, |r| r.rotary_dim / 8);
    match Preparing::of(call.spec, call.aligned) {
        Preparing::Turned => [turned; 2],
        Preparing::Queries => [turned, chunks],
        Preparing::Copied | Preparing::Rows => [chunks; 2],
    }
}

/// The least rows that such a copy pays for: several tiles, each of which reads all of it.
const LEAST_SWEPT: u64 = 128;

/// Bytes from a head's first row to its last that a sweep crosses quickly.
const SWEEP_BYTES: u64 = 8 << 20;

/// Whether keys need a norm or a rotation before they meet queries.
pub(crate) fn prepares_keys(spec: &Spec) -> bool {
    (spec.rotary.is_some() || spec.norm.is_some()) && !spec.keys_rotated()
}

/// What stands in `work` before rows meet it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prepared {
    pub(crate) keys: bool,
    pub(crate) values: bool,
}

impl Prepared {
    /// Keys that need a norm or a rotation; and keys and values of heads that stand so far apart that a sweep over the rows of one head
    /// crosses more than a processor's caches and translation buffers cover. Which of the two it is was not measured apart.
    pub(crate) fn of(spec: &Spec, shape: &Shape) -> Self {
        let sweeps = shape.q_len as u64 * spec.group() as u64 >= LEAST_SWEPT;
        let scattered = |strides: &Strides, dtype: Dtype, dim: u32| {
            let [elements, bytes] = dtype.block(dim);
            let bytes = strides.token as u64 * bytes as u64 / elements as u64;
            sweeps && strides.token >= 4 * dim && bytes.saturating_mul(shape.kv_len as u64) > SWEEP_BYTES
        };
        let keys = prepares_keys(spec) || scattered(&shape.k, spec.k_storage(), spec.head_dim);
        Prepared { keys, values: scattered(&shape.v, spec.v_storage(), spec.v_head_dim) }
    }

    /// Words of a key and its value; where the value starts.
    pub(crate) fn words(self, spec: &Spec) -> [u32; 2] {
        let [key, value] = [(self.keys, spec.head_dim), (self.values, spec.v_head_dim)]
            .map(|(prepared, dim)| if prepared { 4 * dim.div_ceil(4) } else { 0 });
        [key + value, key]
    }

    /// Whether rows are prepared by units of four pairs, cos and sin once for all heads: what copies rotated keys does not rotate them.
    pub(crate) fn by_heads(self, spec: &Spec, aligned: bool) -> bool {
        let copies = self.keys && spec.keys_rotated();
        self::stands_in_quads(spec, aligned) && !spec.content_bias && !copies
    }

    /// Keys whose vec4 stand together: in long sweeps what the lanes of a subgroup load at once is one piece of memory. Short ones stay in
    /// a cache anyway, and rows as they are cost Mesa 22 some 2 % less.
    pub(crate) fn together(self) -> u32 {
        if self.values { 8 } else { 1 }
    }

    /// Constants of the preamble.
    pub(crate) fn constants(self, spec: &Spec) -> [(&'static str, u32); 3] {
        let [words, value] = self.words(spec);
        [("KEY_WORDS", words), ("VALUE_WORD", value), ("KEYS_TOGETHER", self.together())]
    }
}

/// Whether rotations are whole units, and nothing else happens to a row.
pub(crate) fn stands_in_quads(spec: &Spec, aligned: bool) -> bool {
    let Some(rotary) = &spec.rotary else { return false };
    let pairs = rotary.rotary_dim / 2;
    let whole = match rotary.pairing {
        Pairing::Half | Pairing::Interleaved | Pairing::InterleavedInHalfOut => pairs.is_multiple_of(4),
        Pairing::HalfOfHalves => pairs.is_multiple_of(8),
        Pairing::Listed => false,
    };
    let plain = spec.norm.is_none() && spec.rotates_features().is_none() && !rotary.general();
    aligned && whole && plain && rotary.offset.is_multiple_of(4) && spec.head_dim.is_multiple_of(4)
}
