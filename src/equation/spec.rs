//! What is computed: the terms of the equation that a model uses. No shapes of a call, no device.

use crate::equation::bias::Bias;
use crate::equation::bias::bias;
use crate::equation::defaults::{MAX_HEAD_DIM, MAX_HEADS, MAX_V_HEAD_DIM, SCHEMA, is_false};
use crate::equation::dtype::Dtype;
use crate::equation::factors::{Norm, NormKind, Sink, Steps, Temperature};
use crate::equation::index::{IndexMap, words};
use crate::equation::linear::{FeatureMap, Linear, MAX_FEATURES};
use crate::equation::mask::Mask;
use crate::equation::parameter::Parameter;
use crate::equation::relative::{Relative, RelativeSide};
use crate::equation::rotary::rotary::{Angle, Pairing, Rotary};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

impl Linear {
    pub(crate) fn validate(&self, spec: &Spec) -> Result<()> {
        let err = |field: &str, problem: String, help: &str| Err(Error::spec(format!("linear.{field}"), problem, help));
        let small = |x: f64| x.is_finite() && (0.0..=1e6).contains(&x);
        if let FeatureMap::Softmax { count, eps } = self.features {
            if count == 0 || count > MAX_FEATURES {
                return err("features.softmax.count", format!("is {count}"), &format!("give 1 to {MAX_FEATURES}"));
            }
            if !small(eps) {
                return err("features.softmax.eps", format!("is {eps}"), "give a number from 0 to 1e6 (1e-4)");
            }
            if self.rotate_features {
                let help = "rotate before random features: they have no pairs";
                return err("rotate_features", "is set with features.softmax".into(), help);
            }
        }
        if self.rotate_features && spec.rotary.is_none() {
            return err("rotate_features", "is set without rotary".into(), "give the rotation, or leave it out");
        }
        if let Some(n) = &self.normalizer {
            for (field, x) in [("normalizer.eps", n.eps), ("normalizer.eps_feature", n.eps_feature)] {
                if !small(x) {
                    return err(field, format!("is {x}"), "give a number from 0 to 1e6");
                }
            }
            if self.decay.is_some() {
                return err("normalizer", "is given beside decay".into(), "give one of the two");
            }
            if self.delta {
                return err("normalizer", "is given beside delta".into(), "give one of the two");
            }
        }
        if let Some(gammas) = self.gammas(spec.num_kv_heads) {
            if gammas.len() != spec.num_kv_heads as usize {
                let problem = format!("holds {} factors", gammas.len());
                return err("decay.heads", problem, &format!("give one for each of {} kv heads", spec.num_kv_heads));
            }
            if let Some(x) = gammas.iter().find(|x| !(0.0..=1.0).contains(*x)) {
                return err("decay.heads", format!("holds {x}"), "give factors from 0 to 1");
            }
        }
        let mask = &spec.mask;
        let rotary = spec.rotary.as_ref();
        let others = [
            ("bias", !spec.bias.is_empty()),
            ("dense_bias", spec.dense_bias),
            ("logits_soft_cap", spec.logits_soft_cap.is_some()),
            ("mask.window_right", mask.window_right.is_some()),
            ("mask.dense", mask.dense),
            ("norm", spec.norm.is_some()),
            ("temperature", spec.temperature.is_some()),
            ("head_scale", spec.head_scale),
            ("content_bias", spec.content_bias),
            ("relative", !spec.relative.is_empty()),
            ("sink", spec.sink.is_some()),
            ("packed", spec.packed),
            ("score_mod", spec.score_mod.is_some()),
            ("mask_mod", spec.mask_mod.is_some()),
            ("gated_bias", spec.gated_bias),
            ("rotary.values", rotary.is_some_and(|r| r.values)),
            ("rotary.output", rotary.is_some_and(|r| r.output)),
            ("rotary.branches", rotary.is_some_and(|r| r.branches.is_some())),
            ("query_scales", spec.query_scales),
            ("key_bias", spec.key_bias),
            ("rotary.frequencies.sums.heads", rotary.is_some_and(|r| r.of_heads())),
        ];
        let bands = mask.bands().map(|band| (band.field(), !band.causal()));
        match others.into_iter().chain(bands).find(|(_, set)| *set) {
            Some((field, _)) => Err(Error::spec(field, "is set beside linear", "linear attention has no such term")),
            None => Ok(()),
        }
    }
}

/// Where the positions m of queries and n of keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Positions {
    /// n = j, m = i': the queries are the last tokens of the cache, or the first with [`Alignment::TopLeft`](crate::Alignment::TopLeft).
    #[default]
    Index,
    /// The caller's `q_positions` and `k_positions` (i32), which may repeat or jump. They never decide visibility. Distances n - m beyond
    /// 2^31 - 1 in size are taken as that.
    Ids,
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
    /// Elements of one head of q and k, 1 to 576.
    pub head_dim: u32,
    /// Elements of one head of v and out, 1 to 512.
    pub v_head_dim: u32,
    /// Storage of q, and of k, v and out where their fields say nothing else: f32, f16 or bf16.
    #[serde(default = "f32_storage")]
    pub dtype: Dtype,
    /// Storage of k, any type; `None`: that of q.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k_dtype: Option<Dtype>,
    /// Storage of v, any type; `None`: that of q.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v_dtype: Option<Dtype>,
    /// Storage of out, f32, f16 or bf16; `None`: that of q.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_dtype: Option<Dtype>,
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
    /// The cap stands behind every additive term, before the user's function: c tanh((q.k + A + B + C + D) / c) (Gemma 3n's and 4's audio
    /// towers).
    #[serde(default, skip_serializing_if = "is_false")]
    pub soft_cap_last: bool,
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
    /// A factor of each query and head, the input `query_scales`, `[batch, num_heads, q_len]`, multiplies the softmax scale.
    #[serde(default, skip_serializing_if = "is_false")]
    pub query_scales: bool,
    /// c_i - c_j is added to scores, of the input `key_bias`, `[batch, num_heads, capacity]`: sums of the tokens' logarithms of gates
    /// (forgetting attention). c_i is that of the row's own key i', or of the nearest that there is. Devices hold it in two words, so that
    /// differences of large sums keep their digits.
    #[serde(default, skip_serializing_if = "is_false")]
    pub key_bias: bool,
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
            k_dtype: None,
            v_dtype: None,
            out_dtype: None,
            rotary: None,
            positions: Positions::Index,
            softmax_scale: None,
            logits_soft_cap: None,
            soft_cap_last: false,
            bias: Vec::new(),
            gated_bias: false,
            dense_bias: false,
            mask: Mask::none(),
            kv_lens: false,
            norm: None,
            temperature: None,
            query_scales: false,
            key_bias: false,
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

    /// The storage type of k.
    pub fn k_storage(&self) -> Dtype {
        self.k_dtype.unwrap_or(self.dtype)
    }
    /// The storage type of v.
    pub fn v_storage(&self) -> Dtype {
        self.v_dtype.unwrap_or(self.dtype)
    }
    /// The storage type of out.
    pub fn out_storage(&self) -> Dtype {
        self.out_dtype.unwrap_or(self.dtype)
    }
    /// The same with q, k, v and out in one type.
    pub(crate) fn stored_as(&self, dtype: Dtype) -> Spec {
        Spec { dtype, k_dtype: None, v_dtype: None, out_dtype: None, ..self.clone() }
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
        let of = |most: u32| if self.linear.is_some() { crate::equation::linear::MAX_DIM } else { most };
        for (field, d, most) in
            [("head_dim", self.head_dim, of(MAX_HEAD_DIM)), ("v_head_dim", self.v_head_dim, of(MAX_V_HEAD_DIM))]
        {
            if d == 0 || d > most {
                let help = if d > most { ", and project wider rows down before the call" } else { "" };
                return Err(Error::spec(field, format!("is {d}"), format!("give 1 to {most}{help}")));
            }
        }
        self.validate_storage()?;
        if let Some(rotary) = &self.rotary {
            rotary.validate(self.head_dim)?;
            if rotary.branches.is_some() && self.places_rows() {
                let problem = "is set beside numbers of rows, or norms of heads or over all heads";
                return Err(Error::spec("rotary.branches", problem, "leave one of them out"));
            }
            if let Some(sums) = rotary.sums().filter(|s| s.heads != 1 && s.heads != self.num_kv_heads) {
                let help = format!("give 1, or num_kv_heads = {}", self.num_kv_heads);
                return Err(Error::spec("rotary.frequencies.sums.heads", format!("is {}", sums.heads), help));
            }
            if (rotary.values || rotary.output) && rotary.end() > self.v_head_dim as u64 {
                return Err(Error::spec(
                    if rotary.values { "rotary.values" } else { "rotary.output" },
                    format!(
                        "is set, but elements {}..{} leave a value of {}",
                        rotary.offset,
                        rotary.end(),
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
        if self.soft_cap_last && self.logits_soft_cap.is_none() {
            return Err(Error::spec(
                "soft_cap_last",
                "is set without logits_soft_cap",
                "give the cap, or leave it out",
            ));
        }
        for (i, bias) in self.bias.iter().enumerate() {
            bias.term().validate(self.num_heads, &|name| format!("bias[{i}].{name}"))?;
        }
        if self.bias.iter().filter(|b| b.term().reads_heads()).count() > 1 {
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
        for band in self.mask.bands() {
            band.check().map_err(|(problem, help)| Error::spec(band.field(), problem, help))?;
        }
        if self.packed && self.kv_lens {
            return Err(Error::spec("kv_lens", "is set beside packed", "leave it out: cu_seqlens_k says it"));
        }
        if let Some(linear) = &self.linear {
            linear.validate(self)?;
        }
        self.validate_terms()
    }

    /// Types that q, k, v and out can have.
    fn validate_storage(&self) -> Result<()> {
        for (field, dtype) in [("dtype", self.dtype), ("out_dtype", self.out_storage())] {
            if dtype.in_blocks() {
                let help = "give f32, f16 or bf16; k_dtype and v_dtype may be any type";
                return Err(Error::spec(field, format!("is {}", dtype.name()), help));
            }
        }
        for (field, dtype, dim) in
            [("k_dtype", self.k_storage(), self.head_dim), ("v_dtype", self.v_storage(), self.v_head_dim)]
        {
            let unit = dtype.unit();
            if !dim.is_multiple_of(unit) {
                let problem = format!("is {}, of whole blocks of {unit} elements, with heads of {dim}", dtype.name());
                let help = format!("pad rows with zeros to {} elements", dim.next_multiple_of(unit));
                return Err(Error::spec(field, problem, help));
            }
            if dtype.in_blocks() && self.linear.is_some() {
                let problem = format!("is {} for linear attention", dtype.name());
                return Err(Error::spec(field, problem, "give f32, f16 or bf16"));
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
                Pairing::Listed => "listed",
            };
            let angle = match r.angle {
                Angle::Exact => "exact",
                Angle::Float32 => "float32",
                Angle::Table => "table",
            };
            let streams = match (r.sums(), r.last_stream()) {
                (Some(sums), last) => {
                    let of_heads = if r.of_heads() { " of heads" } else { "" };
                    let angles = if sums.two_angles { " two angles" } else { "" };
                    format!(" sums of {} streams{of_heads}{angles}", last + 1)
                }
                (None, 0) => String::new(),
                (None, last) => format!(" {} streams", last + 1),
            };
            let xpos = if r.xpos.is_some() { " xpos" } else { "" };
            terms.push(format!("R({pairing} {}/{} {angle}{streams}{xpos})", r.rotary_dim, self.head_dim));
            if r.values {
                terms.push("R_v".into());
            }
            if r.output {
                terms.push("R_o".into());
            }
            terms.extend(r.branches.map(|branches| branches.label()));
            if r.keys_rotated {
                terms.push("keys rotated".into());
            }
        }
        if let Some(norm) = &self.norm {
            let kind = match norm.kind {
                NormKind::Rms => "rms",
                NormKind::L2 => "l2",
                NormKind::Layer => "layer",
            };
            let after = if norm.after_rotation { " after rotation" } else { "" };
            let all = match (norm.all_heads, norm.weights_of_heads) {
                (true, _) => " of all heads",
                (false, true) => " of heads",
                (false, false) => "",
            };
            terms.push(format!("N({kind}{after}{all})"));
        }
        for (given, name) in [
            (self.temperature.is_some(), "tau"),
            (self.query_scales, "scale_i"),
            (self.head_scale, "scale_h"),
            (self.content_bias, "u"),
        ] {
            if given {
                terms.push(name.into());
            }
        }
        if self.logits_soft_cap.is_some() {
            terms.push(if self.soft_cap_last { "cap last" } else { "cap" }.into());
        }
        for relative in &self.relative {
            let bias = if relative.query_bias { "+v" } else { "" };
            terms.push(format!("{}({}{bias})", relative.name(), relative.index.name()));
        }
        let gated = if self.gated_bias { "gated " } else { "" };
        for bias in &self.bias {
            let name = bias.term().name();
            terms.push(format!("C({gated}{name})"));
        }
        if self.dense_bias {
            terms.push("D".into());
        }
        if self.key_bias {
            terms.push("c".into());
        }
        if self.score_mod.is_some() {
            terms.push("score_mod".into());
        }
        let mut of_masks: Vec<String> = self.mask.bands().map(|band| band.label().into()).collect();
        of_masks.dedup();
        terms.extend(of_masks);
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

impl Spec {
    /// The tensors that the terms of this spec need, in the order in which a plan packs them.
    pub fn parameters(&self) -> Vec<Parameter> {
        let (heads, dim, v_dim) = (self.num_heads, self.head_dim, self.v_head_dim);
        let mut all = bias::parameters(&self.bias, self.num_heads);
        if let Some(crate::equation::linear::FeatureMap::Softmax { count, .. }) =
            self.linear.as_ref().map(|l| l.features)
        {
            all.push(Parameter::new("projection", [count, dim], None));
        }
        if self.sink == Some(Sink::Learned) {
            all.push(Parameter::new("sinks", [heads], Some(0)));
        }
        if self.head_scale {
            all.push(Parameter::new("head_scale", [heads], Some(0)));
        }
        if self.temperature.is_some_and(|t| t.per_head) {
            all.push(Parameter::new("temperature_base", [heads], Some(0)));
            all.push(Parameter::new("temperature_scale", [heads], Some(0)));
        }
        match self.norm.filter(|n| n.weights) {
            Some(norm) if norm.placed() => {
                all.push(Parameter::new("q_norm", [heads, dim], Some(0)));
                all.push(Parameter::new("k_norm", [self.num_kv_heads, dim], Some(0)));
            }
            Some(_) => {
                all.push(Parameter::new("q_norm", [dim], None));
                all.push(Parameter::new("k_norm", [dim], None));
            }
            None => {}
        }
        if self.content_bias {
            all.push(Parameter::new("content_bias", [heads, dim], Some(0)));
        }
        for (i, relative) in self.relative.iter().enumerate() {
            let dim = relative.dim(dim, v_dim);
            let rows = words(relative.index.rows());
            let (n, axis) = if relative.per_head { (heads, Some(1)) } else { (1, None) };
            all.push(Parameter::new(format!("relative_{i}"), [rows, n, dim], axis));
            if relative.query_bias {
                all.push(Parameter::new(format!("relative_bias_{i}"), [heads, self.head_dim], Some(0)));
            }
        }
        all
    }

    /// Refuses values of parameters that no result can be made of: sinks that are not finite. NaN and infinities in other
    /// parameters are data, and go where the equation takes them.
    pub(crate) fn check_parameters(&self, parameters: &BTreeMap<String, Vec<f32>>) -> Result<()> {
        let sinks = parameters.get("sinks").filter(|_| self.sink == Some(Sink::Learned));
        match sinks.and_then(|s| s.iter().enumerate().find(|(_, x)| !x.is_finite())) {
            Some((head, x)) => Err(Error::input(
                "sinks",
                format!("the logit of head {head} is {x}"),
                "give finite logits (a very low one, -1e30, is no sink)",
            )),
            None => Ok(()),
        }
    }

    /// Position streams that rotation and index maps read: 1, or more for m-RoPE and 2-D systems.
    pub fn position_streams(&self) -> u32 {
        let rotary = self.rotary.iter().map(|r| r.last_stream());
        let maps = self.index_maps().map(|m| m.last_stream());
        1 + rotary.chain(maps).max().unwrap_or(0) as u32
    }

    /// Whether some term reads the tokens' segments.
    pub fn segments(&self) -> bool {
        self.index_maps().any(|m| m.segments())
    }

    pub(crate) fn index_maps(&self) -> impl Iterator<Item = IndexMap> {
        let bias = self.bias.iter().filter_map(|b| b.index());
        bias.chain(self.relative.iter().map(|r| r.index))
    }

    /// Whether some term is computed by a lane a row alone: other families step aside.
    pub(crate) fn rows_alone(&self) -> bool {
        self.rotary.as_ref().is_some_and(|r| r.general() || r.output || r.branches.is_some())
            || self.norm.is_some_and(|n| n.placed())
            || self.places_rows()
            || self.soft_cap_last
    }

    /// Whether a dispatch has rows of one kv head, which something asks for.
    pub(crate) fn head_by_head(&self) -> bool {
        self.rotary.as_ref().is_some_and(|r| r.of_heads()) || self.norm.is_some_and(|n| n.placed())
    }

    /// Whether a row reads numbers of its own, or is turned back, by where it stands.
    pub(crate) fn places_rows(&self) -> bool {
        let output = self.rotary.as_ref().is_some_and(|r| r.output);
        let normed = self.norm.is_some_and(|n| n.placed());
        let sinks = self.sink == Some(Sink::Query);
        self.query_scales || self.key_bias || sinks || self.own_queries().is_some() || output || normed
    }

    /// Planes of `[batch, num_heads, q_len]` numbers in `dense`: gates, scales, sinks.
    pub(crate) fn row_planes(&self) -> [bool; 3] {
        [self.gated_bias, self.query_scales, self.sink == Some(Sink::Query)]
    }

    /// Elements of the queries that A has of its own.
    pub(crate) fn own_queries(&self) -> Option<u32> {
        self.relative.iter().find_map(|r| r.own)
    }

    /// Whether values pass through workgroup memory, because a term changes them.
    pub(crate) fn rotates_values(&self) -> bool {
        self.rotary.as_ref().is_some_and(|r| r.values)
    }

    /// Several position streams have no indices that could stand for them.
    pub(crate) fn check_streams(&self) -> Result<()> {
        match (self.position_streams(), self.positions) {
            (1, _) | (_, Positions::Ids) => Ok(()),
            (streams, Positions::Index) => Err(Error::spec(
                "positions",
                format!("is index, but the terms read {streams} streams"),
                "set it to ids and give positions [streams, batch, len]",
            )),
        }
    }

    pub(crate) fn validate_terms(&self) -> Result<()> {
        if let Some(norm) = &self.norm
            && !(norm.eps.is_finite() && (0.0..=1.0).contains(&norm.eps))
        {
            return Err(Error::spec("norm.eps", format!("is {}", norm.eps), "give a number from 0 to 1"));
        }
        if let Some(norm) = &self.norm {
            let wrong = |field: &str, problem: &str, help: &str| {
                Err(Error::spec(format!("norm.{field}"), problem.to_string(), help.to_string()))
            };
            if norm.after_rotation && (norm.placed() || norm.kind == NormKind::Layer) {
                let help = "let it stand before the rotation, or norm every head by its own mean square";
                return wrong(
                    "after_rotation",
                    "is set beside a layer norm, weights of heads or a norm of all heads",
                    help,
                );
            }
            if norm.weights_of_heads && !norm.weights {
                return wrong("weights_of_heads", "is set without weights", "set weights, or leave it out");
            }
            if norm.all_heads && norm.kind == NormKind::L2 {
                return wrong("all_heads", "is set for l2", "give rms or layer");
            }
        }
        if let Some(t) = &self.temperature {
            if !(t.scale.is_finite() && t.scale.abs() <= 1e6) {
                return Err(Error::spec(
                    "temperature.scale",
                    format!("is {}", t.scale),
                    "give a number up to 1e6 in size",
                ));
            }
            if t.floor == 0 || t.floor > 1 << 30 {
                return Err(Error::spec("temperature.floor", format!("is {}", t.floor), "give 1 to 2^30 positions"));
            }
            if t.offset > 1 << 30 {
                return Err(Error::spec(
                    "temperature.offset",
                    format!("is {}", t.offset),
                    "give at most 2^30 positions",
                ));
            }
            if let Steps::None { least } = t.steps
                && !(1..=1 << 30).contains(&least)
            {
                return Err(Error::spec("temperature.steps.none.least", format!("is {least}"), "give 1 to 2^30"));
            }
            if !(t.base.is_finite() && t.base.abs() <= 1e6) {
                return Err(Error::spec(
                    "temperature.base",
                    format!("is {}", t.base),
                    "give a number up to 1e6 in size",
                ));
            }
        }
        if self.relative.len() > 8 {
            return Err(Error::spec("relative", format!("holds {} tables", self.relative.len()), "give at most 8"));
        }
        for (i, relative) in self.relative.iter().enumerate() {
            relative.index.validate(&format!("relative[{i}].index"))?;
            if relative.query_bias && relative.side != RelativeSide::Key {
                return Err(Error::spec(
                    format!("relative[{i}].query_bias"),
                    "is set where no query enters",
                    "it belongs to the side `key`",
                ));
            }
            if let Some(own) = relative.own {
                let alone = self.relative.iter().filter(|r| r.own.is_some()).count() == 1;
                if relative.side != RelativeSide::Key || relative.query_bias || !alone {
                    return Err(Error::spec(
                        format!("relative[{i}].own"),
                        "is set for another side than `key`, beside query_bias, or twice",
                        "give one term of the side `key` a query of its own",
                    ));
                }
                if !(1..=MAX_HEAD_DIM).contains(&own) {
                    let help = format!("give 1 to {MAX_HEAD_DIM} elements");
                    return Err(Error::spec(format!("relative[{i}].own"), format!("is {own}"), help));
                }
            }
            if relative.scale.is_some_and(|s| !(s.is_finite() && s.abs() <= 1e6)) {
                return Err(Error::spec(
                    format!("relative[{i}].scale"),
                    format!("is {:?}", relative.scale),
                    "give a number up to 1e6 in size",
                ));
            }
        }
        let words = self.parameters().iter().fold(0, |words: u64, p| words.saturating_add(p.len()));
        if words > u32::MAX as u64 || self.num_heads > MAX_HEADS {
            return Err(Error::spec("relative", format!("{words} words of parameters"), "use smaller tables"));
        }
        Ok(())
    }
}
