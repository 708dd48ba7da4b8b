//! A kind of attention as data: what the model types of one row of [`MODELS`](crate::hf::models::MODELS) have in common.

use crate::equation::factors::{Norm, NormKind, Sink, Temperature};
use crate::equation::mask::Mask;
use crate::equation::rotary::rotary::{Frequencies, Pairing};
use crate::equation::spec::{Positions, Spec};
use crate::error::Result;
use crate::hf::dict::{Dict, shown};
use crate::hf::layers::{Kinds, Layer};
use crate::hf::read::{ConfigOptions, Stack, quotient};
use crate::hf::rope::{Local, Rope, Sections};

/// One kind of attention. Keys are the common names, which a class may have under others; what a file does not say is what
/// its class takes.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    /// Query heads.
    pub(crate) heads: &'static str,
    /// Query heads of every layer, where layers have their own.
    pub(crate) heads_by_layer: Option<&'static str>,
    pub(crate) kv_heads: KvHeads,
    pub(crate) width: &'static str,
    pub(crate) head_dim: HeadDim,
    /// Elements of a value, where they are others than those of a key.
    pub(crate) value_dim: Option<&'static str>,
    pub(crate) count: Count,
    pub(crate) sees: Sees,
    pub(crate) cross: Cross,
    pub(crate) kinds: Kinds,
    /// The key of the window in tokens.
    pub(crate) window: &'static str,
    /// The window where neither the file nor the class has one.
    pub(crate) usual_window: Option<u32>,
    pub(crate) turns: Turns,
    pub(crate) pairing: Pairing,
    /// The keys that may hold theta outside the rope dictionary.
    pub(crate) theta: &'static [&'static str],
    pub(crate) local: Local,
    pub(crate) partial: Partial,
    pub(crate) sections: Sections,
    /// Theta where neither the file nor the class has one.
    pub(crate) base: Option<f64>,
    /// Hunyuan: `alpha` of a dynamic extension is a factor for every length.
    pub(crate) alpha: bool,
    /// Phi-3.5-MoE: the attention factor of LongRoPE is `short_mscale` or `long_mscale`.
    pub(crate) longrope_mscale: bool,
    /// An indexer's choice: the key of how many keys it takes.
    pub(crate) choice: &'static str,
    /// nanochat: the angle's sign is the other one.
    pub(crate) backwards: bool,
    pub(crate) norm: QkNorm,
    pub(crate) scale: Scale,
    /// The key of the soft cap.
    pub(crate) cap: Option<&'static str>,
    pub(crate) sinks: Sinks,
    pub(crate) temperature: Tau,
    /// Gemma 3: `use_bidirectional_attention` makes it an encoder, Gemma 4's "all" too.
    pub(crate) bidirectional: bool,
    /// PaliGemma: with that flag a picture and a prompt see each other, which the caller's mask says.
    pub(crate) prefix: bool,
    /// T5Gemma 2's decoder: another model's keys stand beside its own in one softmax. They are not rotated (their position is
    /// 0), and the caller's mask says which are seen.
    pub(crate) merged: bool,
    /// DeepSeek's latent attention: `qk_nope_head_dim` elements of a head that stay, then `qk_rope_head_dim` that turn. Those
    /// of k are one row, which the caller repeats for every head.
    pub(crate) latent: bool,
    /// The window is half of its key.
    pub(crate) half_window: bool,
    /// Keys that must say what the family does anyway.
    pub(crate) fixed: &'static [(&'static str, Fixed)],
}

/// How many layers there are.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Key(&'static str),
    /// The first of two keys that is there.
    Either(&'static str, &'static str),
    /// The sum of a list: stages.
    Sum(&'static str),
    /// There is one, without a key.
    One,
    /// This key, else so many.
    Or(&'static str, u32),
}

/// Which keys a query sees.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sees {
    /// Those before it.
    Past,
    /// All, windows to both sides.
    All,
    /// All, unless this flag is set.
    Decoder(&'static str),
    /// All, unless a key holds this text.
    Unless(&'static str, &'static str),
}

/// Whether the decoder attends to another model's output.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Cross {
    Never,
    /// Where `add_cross_attention`.
    Flag,
    /// Where it is a decoder.
    Decoder,
    Always,
}

/// How much of a head rotates.
#[derive(Clone, Copy)]
pub(crate) enum Partial {
    /// All of it.
    Never,
    /// As these keys, the dictionary or the class say.
    Share(&'static [&'static str]),
    /// So many elements, as this key says.
    Elements(&'static str),
}

/// Which layers rotate.
#[derive(Clone, Copy)]
pub(crate) enum Turns {
    Never,
    All,
    /// Cohere 2: those with a window or chunk.
    Sliding,
    /// EXAONE 4: those with a window, or all where there is none.
    SlidingOrNone,
    /// Llama 4, SmolLM 3: those with a 1 in `no_rope_layers`, or all but every n-th.
    Listed,
    /// Where a key holds this text.
    Text(&'static str, &'static str),
    /// As a function says.
    With(fn(&Dict, u32, Layer) -> Result<bool>),
}

#[derive(Clone, Copy)]
pub(crate) enum HeadDim {
    /// `width / heads`.
    Quotient,
    /// The quotient, which `head_dim` may repeat.
    Repeated,
    /// `head_dim`, else the quotient.
    Own,
    /// The same, the quotient rounded down, as the class does.
    Floor,
    /// This key, else the quotient.
    Key(&'static str),
    /// Gemma 4: `head_dim`, and `global_head_dim` and `num_global_key_value_heads` for layers that see everything.
    ByLayer,
    /// As a function says.
    With(fn(&Dict, u32) -> Result<u32>),
}

#[derive(Clone, Copy)]
pub(crate) enum KvHeads {
    /// As many as query heads.
    Never,
    /// This key, else as many as query heads.
    Key(&'static str),
    /// One where this flag is set.
    One(&'static str),
}

#[derive(Clone, Copy)]
pub(crate) enum QkNorm {
    Never,
    /// RMS with weights before the rotation; the key of eps.
    Rms(&'static str),
    /// The same where a flag says so.
    RmsIf(&'static str, &'static str),
    /// The same without weights.
    Bare(&'static str),
    /// RMS with weights after the rotation, where a flag says so.
    After(&'static str, &'static str),
    /// The same without weights; nothing to ask.
    BareAfter(&'static str),
    /// Llama 4: RMS without weights, after rotation, where `use_qk_norm`.
    Turned,
    /// Over all heads together, which a spec cannot express.
    Width,
    /// A layer norm, which a spec cannot express; where this key is true, if there is one.
    LayerNorm(Option<&'static str>),
}

#[derive(Clone, Copy)]
pub(crate) enum Scale {
    /// 1 / sqrt(head_dim).
    HeadDim,
    One,
    /// This key to the power of -1/2, else of head_dim.
    Root(&'static str),
    /// This key.
    Key(&'static str),
    /// This key times 1 / sqrt(head_dim).
    Times(&'static str),
    /// sqrt(2 / head_dim): Zamba 2.
    HalfHead,
    /// This key times 1 / sqrt(head_dim), as part of the norm of q.
    OfNorm(&'static str),
    /// As a function says.
    With(fn(&Dict, u32, u32) -> Result<Option<f64>>),
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sinks {
    Never,
    Always,
    Sliding,
}

/// The temperature of a query's position.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Tau {
    Never,
    /// Llama 4: layers that do not rotate.
    Llama4,
    /// Ministral 3: 1 + beta ln(1 + floor(m / original length)), by `llama_4_scaling_beta` of the dictionary.
    Ministral,
}

#[derive(Clone, Copy)]
pub(crate) enum Fixed {
    Number(f64),
    Text(&'static str),
    Flag(bool),
    /// The elements that rotate.
    Share,
    /// What this is needs a term that there is not: any value but null, false, 0 and an empty list is refused.
    Absent(&'static str),
}

/// A rotary decoder.
pub(crate) const LLAMA: Family = Family {
    heads: "num_attention_heads",
    heads_by_layer: None,
    kv_heads: KvHeads::Key("num_key_value_heads"),
    width: "hidden_size",
    head_dim: HeadDim::Own,
    value_dim: None,
    count: Count::Key("num_hidden_layers"),
    sees: Sees::Past,
    cross: Cross::Never,
    kinds: Kinds::Alike,
    window: "sliding_window",
    usual_window: None,
    turns: Turns::All,
    pairing: Pairing::Half,
    theta: &["rope_theta"],
    local: Local::Never,
    partial: Partial::Never,
    sections: Sections::Never,
    base: None,
    alpha: false,
    longrope_mscale: false,
    choice: "index_topk",
    backwards: false,
    norm: QkNorm::Never,
    scale: Scale::HeadDim,
    cap: None,
    sinks: Sinks::Never,
    temperature: Tau::Never,
    bidirectional: false,
    prefix: false,
    merged: false,
    latent: false,
    half_window: false,
    fixed: &[],
};

/// DeepSeek-V3.
pub(crate) const LATENT: Family = Family {
    kv_heads: KvHeads::Never,
    latent: true,
    pairing: Pairing::InterleavedInHalfOut,
    head_dim: HeadDim::With(latent_dim),
    value_dim: Some("v_head_dim"),
    ..LLAMA
};

/// Attention without a position term that sees everything: absolute positions stand in the embeddings.
pub(crate) const PLAIN: Family =
    Family { kv_heads: KvHeads::Never, head_dim: HeadDim::Quotient, sees: Sees::All, turns: Turns::Never, ..LLAMA };

/// The same of a decoder.
pub(crate) const PLAIN_DECODER: Family = Family { sees: Sees::Past, ..PLAIN };

/// BERT: a decoder where `is_decoder`, with cross-attention where `add_cross_attention`.
pub(crate) const BERT: Family = Family { sees: Sees::Decoder("is_decoder"), cross: Cross::Flag, ..PLAIN };

pub(crate) const PARTIAL: Partial = Partial::Share(&["partial_rotary_factor"]);

impl Family {
    /// The stacks that a file means.
    pub(crate) fn stacks(&self, c: &Dict) -> Result<Vec<Stack>> {
        let own = match self.sees {
            Sees::Past => Stack::Decoder,
            Sees::All => Stack::Encoder,
            Sees::Decoder(key) => match c.flag(key)?.unwrap_or(false) {
                true => Stack::Decoder,
                false => Stack::Encoder,
            },
            Sees::Unless(key, text) => match c.get(key).and_then(|value| value.as_str()) == Some(text) {
                true => Stack::Decoder,
                false => Stack::Encoder,
            },
        };
        let cross = match self.cross {
            Cross::Never => false,
            Cross::Flag => c.flag("add_cross_attention")?.unwrap_or(false),
            Cross::Decoder => own == Stack::Decoder,
            Cross::Always => true,
        };
        Ok([Some(own), cross.then_some(Stack::Cross)].into_iter().flatten().collect())
    }

    pub(crate) fn count(&self, c: &Dict) -> Result<u32> {
        const MOST: u32 = 1 << 12;
        let (key, n) = match self.count {
            Count::One => return Ok(1),
            Count::Or(key, n) => (key, c.count(key)?.unwrap_or(n)),
            Count::Either(key, other) => match c.count(key)? {
                Some(n) => (key, n),
                None => (other, c.need(other, c.count(other))?),
            },
            Count::Key(key) => match c.count(key)? {
                Some(n) => (key, n),
                None => match self.kinds.listed(c)? {
                    Some(list) => ("layer_types", list.len() as u32),
                    None => (key, c.need(key, Ok(None))?),
                },
            },
            Count::Sum(key) => {
                let list = c.need(key, c.counts(key))?;
                (key, list.iter().fold(0u32, |sum, n| sum.saturating_add(*n)))
            }
        };
        match n {
            0 => Err(c.error(key, "is 0", "give 1 or more layers")),
            n if n > MOST => Err(c.error(key, format!("is {n}"), format!("give 1 to {MOST} layers"))),
            n => Ok(n),
        }
    }

    /// Whether no layer can differ from the first, but by a dictionary of its own.
    pub(crate) fn uniform(&self) -> bool {
        matches!(self.kinds, Kinds::Alike | Kinds::Indexed | Kinds::Every(_))
            && matches!(self.turns, Turns::All | Turns::Never | Turns::Text(..))
            && !matches!(self.scale, Scale::With(_))
            && self.heads_by_layer.is_none()
    }

    /// What kind every layer is.
    pub(crate) fn kinds(&self, c: &Dict) -> Result<Vec<Layer>> {
        self.kinds.read(c, self.count(c)?, self.window)
    }

    /// The attention of a layer; `None`: it has none.
    pub(crate) fn read(
        &self,
        c: &Dict,
        o: &ConfigOptions,
        stack: Stack,
        layer: u32,
        kinds: &[Layer],
    ) -> Result<Option<Spec>> {
        self.touch(c);
        let kind = kinds.get(layer as usize).copied().unwrap_or(Layer::Full);
        let window = self.width_of(c, kind)?;
        if let Layer::Nothing(_) = kind {
            return Ok(None);
        }
        let heads = self.heads(c, layer)?;
        let (head_dim, kv_heads) = self.sizes(c, heads, kind)?;
        let mut spec = Spec::new(heads, kv_heads, head_dim);
        if let Some(key) = self.value_dim {
            let usual = c.class().and_then(|class| class.keys.get(key)).is_some_and(|value| !value.is_null());
            spec.v_head_dim = match c.count(key)? {
                Some(d) => d,
                None if self.latent && usual => c.need(key, Ok(None))?,
                None if self.latent => quotient(c, self.width, heads)?,
                None => head_dim,
            };
        }
        let cross = stack == Stack::Cross;
        let turning = !cross && self.turning(c, kind, layer)?;
        let rope = Rope { family: self, kind, seq_len: o.seq_len };
        let turned = if self.latent { latent_turns(c, heads)? } else { head_dim };
        // what the file says of a rotation is checked where a layer has none, too
        let rotary = match self.turns {
            Turns::Never => None,
            _ => rope.read(c, turned)?,
        };
        spec.rotary = rotary.filter(|_| turning);
        if self.backwards
            && let Some(rotary) = &mut spec.rotary
        {
            rotary.frequencies = Frequencies::InvFreq(rotary.inv_freq().iter().map(|f| -f).collect());
        }
        if spec.position_streams() > 1 || self.merged {
            spec.positions = Positions::Ids;
        }
        spec.mask = if cross { Mask::none() } else { self.mask(c, kind, window)? };
        if kind == Layer::Indexed && !cross {
            let most = c.count(self.choice)?;
            // up to so many keys the indexer takes all; beyond, its choice is the caller's mask
            spec.mask.dense = o.seq_len.zip(most).is_none_or(|(n, most)| n > most);
        }
        if let Some(rotary) = &mut spec.rotary
            && self.latent
        {
            rotary.offset = head_dim - turned;
            rotary.pairing = match (self.pairing, c.flag("rope_interleave")?) {
                (Pairing::InterleavedInHalfOut, Some(false)) => Pairing::Half,
                (Pairing::Interleaved, Some(false)) => {
                    let help = "this model_type has interleaved pairs only";
                    return Err(c.error("rope_interleave", "is false", help));
                }
                (pairing, _) => pairing,
            };
        }
        spec.softmax_scale = match self.latent {
            true => rope.magnitude(c)?.map(|m| m * m / (head_dim as f64).sqrt()),
            false => match self.scale {
                Scale::OfNorm(key) if o.normalized => {
                    c.touch(&[key]);
                    None
                }
                _ => self.scale(c, head_dim, layer)?,
            },
        };
        spec.logits_soft_cap = match self.cap {
            Some(key) => c.number(key)?,
            None => None,
        };
        spec.norm = self.norm(c, o, turning)?;
        spec.temperature = match self.temperature {
            Tau::Never => None,
            Tau::Llama4 => temperature(c)?.filter(|_| !turning && !cross),
            Tau::Ministral => rope.grows(c)?,
        };
        spec.sink = match self.sinks {
            Sinks::Never => None,
            Sinks::Always => Some(Sink::Learned),
            Sinks::Sliding => (kind == Layer::Sliding).then_some(Sink::Learned),
        };
        for (key, fixed) in self.fixed {
            fixed.check(c, key, spec.rotary.as_ref().map(|r| r.rotary_dim))?;
        }
        Ok(Some(spec))
    }

    /// Keys that belong to the row and that one layer or stack may not ask for.
    fn touch(&self, c: &Dict) {
        if self.half_window {
            c.touch(&["sliding_window"]);
        }
        c.touch(&["max_position_embeddings", "is_causal", "layer_types", self.width]);
        if !matches!(self.kinds, Kinds::Alike | Kinds::Indexed | Kinds::Chunks) {
            c.touch(&[self.window]);
        }
        if let Kinds::Every(Some(flag)) = self.kinds {
            // the class has no such key: all layers have the window, or none
            c.touch(&[flag, "max_window_layers"]);
        }
        if !matches!(self.norm, QkNorm::Never) {
            c.touch(&["rms_norm_eps", "use_qk_norm"]);
        }
    }

    /// All keys of a row that a function reads, or of a stack that was not asked for.
    pub(crate) fn touch_all(&self, c: &Dict) {
        self.touch(c);
        c.touch(&[self.heads, self.width, "head_dim", "is_decoder", "add_cross_attention"]);
        match self.count {
            Count::Key(key) | Count::Sum(key) => c.touch(&[key]),
            Count::Either(key, other) => c.touch(&[key, other]),
            Count::Or(key, _) => c.touch(&[key]),
            Count::One => {}
        }
        if let KvHeads::Key(key) | KvHeads::One(key) = self.kv_heads {
            c.touch(&[key]);
        }
    }

    fn heads(&self, c: &Dict, layer: u32) -> Result<u32> {
        let all = c.count(self.heads)?;
        let own = match self.heads_by_layer {
            Some(key) => c.counts(key)?.and_then(|list| list.get(layer as usize).copied()),
            None => None,
        };
        match c.need(self.heads, Ok(own.or(all)))? {
            0 => Err(c.error(self.heads, "is 0", "give 1 or more heads")),
            heads => Ok(heads),
        }
    }

    /// `head_dim` and the key/value heads.
    fn sizes(&self, c: &Dict, heads: u32, kind: Layer) -> Result<(u32, u32)> {
        let kv_heads = match self.kv_heads {
            KvHeads::Never => heads,
            KvHeads::Key(key) => c.count(key)?.unwrap_or(heads),
            KvHeads::One(key) => match c.need(key, c.flag(key)).inspect(|_| c.touch(&["num_key_value_heads"]))? {
                true => 1,
                false => heads,
            },
        };
        let whole = || quotient(c, self.width, heads);
        let head_dim = match self.head_dim {
            HeadDim::Quotient => whole()?,
            HeadDim::Own => c.count("head_dim")?.map_or_else(whole, Ok)?,
            HeadDim::Floor => match (c.count("head_dim")?, c.count(self.width)?) {
                (Some(d), _) => d,
                (None, width) => c.need(self.width, Ok(width))? / heads,
            },
            HeadDim::Key(key) => c.count(key)?.map_or_else(whole, Ok)?,
            HeadDim::With(read) => read(c, heads)?,
            HeadDim::Repeated => match (c.count("head_dim")?, whole()?) {
                (Some(d), quotient) if d != quotient => {
                    let problem = format!("is {d}, but the class takes {} / {} = {quotient}", self.width, self.heads);
                    return Err(c.error("head_dim", problem, "let them agree, or correct model_type"));
                }
                (_, quotient) => quotient,
            },
            HeadDim::ByLayer => {
                let (local, global) = (c.need("head_dim", c.count("head_dim"))?, c.count("global_head_dim")?);
                let global_heads = c.count("num_global_key_value_heads")?;
                let shared = c.flag("attention_k_eq_v")?.unwrap_or(true);
                // sizes of layers that see everything, by the older keys; `per_layer_config` says them of each
                if kind != Layer::Sliding && !c.has("per_layer_config") {
                    let heads = global_heads.filter(|_| shared).unwrap_or(kv_heads);
                    return Ok((global.unwrap_or(512), heads));
                }
                local
            }
        };
        Ok((head_dim, kv_heads))
    }

    fn turning(&self, c: &Dict, kind: Layer, layer: u32) -> Result<bool> {
        Ok(match self.turns {
            Turns::Never => false,
            Turns::All => true,
            Turns::Sliding => matches!(kind, Layer::Sliding | Layer::Chunked),
            Turns::SlidingOrNone => kind == Layer::Sliding || c.count(self.window)?.is_none(),
            Turns::Listed => crate::hf::layers::turning(c)?(layer),
            Turns::Text(key, text) => c.text(key)? == Some(text),
            Turns::With(turns) => turns(c, layer, kind)?,
        })
    }

    /// The window or chunk of a layer, in tokens.
    fn width_of(&self, c: &Dict, kind: Layer) -> Result<Option<u32>> {
        let key = if kind == Layer::Chunked { "attention_chunk_size" } else { self.window };
        let off = match self.kinds {
            Kinds::From(Some(flag)) => !c.flag(flag)?.unwrap_or(false),
            _ => false,
        };
        let width = match kind {
            Layer::Sliding if off => None,
            Layer::Sliding => c.count(key)?.or(self.usual_window),
            Layer::Chunked => c.count(key)?,
            _ => return Ok(None),
        };
        match width {
            Some(0) => Err(c.error(key, "is 0", "give 1 or more tokens, or null for none")),
            None => Err(c.error(
                key,
                format!("is missing for a layer of {}", kind.name()),
                "give its tokens (and use_sliding_window, where the model has it)",
            )),
            // the class halves the key where the file has no window by its newer name
            Some(n) if self.half_window => Ok(Some(c.count("sliding_window")?.unwrap_or(n / 2))),
            width => Ok(width),
        }
    }

    fn mask(&self, c: &Dict, kind: Layer, width: Option<u32>) -> Result<Mask> {
        let causal = c.flag("is_causal")?;
        let (mut sees, mut halved) = (self.sees, false);
        if let Sees::Decoder(key) = sees {
            sees = if c.flag(key)?.unwrap_or(false) { Sees::Past } else { Sees::All };
        }
        if self.bidirectional {
            let both = match c.get("use_bidirectional_attention") {
                Some(value) if value.is_string() => {
                    // "vision" lets the tokens of one image see each other: a mask that the caller gives
                    match c.text("use_bidirectional_attention")?.unwrap_or_default() {
                        "all" => true,
                        "vision" => false,
                        _ => {
                            let problem = format!("is {}", shown(value));
                            return Err(c.error("use_bidirectional_attention", problem, "give \"all\" or \"vision\""));
                        }
                    }
                }
                _ => c.flag("use_bidirectional_attention")?.unwrap_or(false),
            };
            if both {
                (sees, halved) = (Sees::All, true);
            }
        }
        if self.merged {
            return Ok(Mask { dense: true, ..Mask::none() });
        }
        if self.prefix && c.flag("use_bidirectional_attention")?.unwrap_or(false) {
            return Ok(Mask { dense: true, ..Mask::none() });
        }
        match (causal, sees) {
            (Some(true), Sees::All) if !halved => {
                return Err(c.error("is_causal", "is true, and this model_type sees everything", "remove it"));
            }
            (Some(false), Sees::Past) if matches!(kind, Layer::Sliding | Layer::Chunked) => {
                let help = "whether its windows reach into the future is not known: ask for a layer without one";
                return Err(c.error("is_causal", "is false for a layer with a window or chunk", help));
            }
            (Some(false), Sees::Past) => sees = Sees::All,
            _ => {}
        }
        let mask = if sees == Sees::Past { Mask::causal() } else { Mask::none() };
        Ok(match (kind, width, sees) {
            (Layer::Chunked, chunk, _) => Mask { chunk, ..mask },
            (Layer::Sliding, Some(w), Sees::Past) => Mask { window_left: Some(w - 1), ..mask },
            (Layer::Sliding, Some(w), _) => {
                // Gemma keeps half the window to each side
                let side = Some(if halved { (w - 1).div_ceil(2) } else { w });
                Mask { window_left: side, window_right: side, ..mask }
            }
            _ => mask,
        })
    }

    fn scale(&self, c: &Dict, head_dim: u32, layer: u32) -> Result<Option<f64>> {
        let root = 1.0 / (head_dim as f64).sqrt();
        let positive = |key: &'static str| -> Result<Option<f64>> {
            match c.number(key)? {
                Some(x) if !(x.is_finite() && x > 0.0) => Err(c.error(key, format!("is {x}"), "give a number above 0")),
                x => Ok(x),
            }
        };
        Ok(match self.scale {
            Scale::HeadDim => None,
            Scale::One => Some(1.0),
            Scale::Root(key) => positive(key)?.map(|x| 1.0 / x.sqrt()),
            Scale::Key(key) => Some(c.need(key, c.number(key))?),
            Scale::Times(key) | Scale::OfNorm(key) => {
                let x = c.need(key, c.number(key))?;
                Some(x * root).filter(|_| x != 1.0)
            }
            Scale::HalfHead => Some((2.0 / head_dim as f64).sqrt()),
            Scale::With(read) => read(c, head_dim, layer)?,
        })
    }

    fn norm(&self, c: &Dict, o: &ConfigOptions, turning: bool) -> Result<Option<Norm>> {
        let eps = |key: &'static str| c.need(key, c.number(key));
        let rms = |key, weights, after_rotation| -> Result<Option<Norm>> {
            let mut norm = Norm::new(NormKind::Rms, eps(key)?);
            (norm.weights, norm.after_rotation) = (weights, after_rotation);
            Ok(Some(norm))
        };
        let beyond = |key: &str, what: &str| {
            let help =
                "set `norm` of the spec, or apply the norm to q and k first and say so with the option `normalized`";
            Err(c.error(key, format!("means {what}, which is not read from a configuration"), help))
        };
        let norm = match self.norm {
            QkNorm::Never => None,
            QkNorm::Rms(key) => rms(key, true, false)?,
            QkNorm::Bare(key) => rms(key, false, false)?,
            QkNorm::RmsIf(flag, key) if c.flag(flag)?.unwrap_or(false) => rms(key, true, false)?,
            QkNorm::After(flag, key) if flag.is_empty() || c.flag(flag)?.unwrap_or(true) => {
                if o.normalized {
                    let help = "give q and k as they are before the rotation: the spec has the norm";
                    return Err(c.error("model_type", "has a weighted norm after the rotation", help));
                }
                rms(key, true, true)?
            }
            QkNorm::RmsIf(..) | QkNorm::After(..) => None,
            QkNorm::BareAfter(key) => rms(key, false, true)?,
            QkNorm::Turned => {
                let norm = rms("rms_norm_eps", false, true)?;
                let used = c.need("use_qk_norm", c.flag("use_qk_norm"))?;
                norm.filter(|_| used && turning)
            }
            QkNorm::Width if !o.normalized => {
                return beyond("model_type", "a norm of q and k over all heads together");
            }
            QkNorm::LayerNorm(Some(key)) if c.flag(key)?.unwrap_or(false) && !o.normalized => {
                return beyond(key, "a layer norm of q and k before their rotation");
            }
            QkNorm::LayerNorm(None) if !o.normalized => {
                return beyond("model_type", "a layer norm of q and k");
            }
            QkNorm::Width | QkNorm::LayerNorm(_) => None,
        };
        Ok(norm.filter(|_| !o.normalized))
    }
}

/// Elements of a head of q and k.
fn latent_dim(c: &Dict, _heads: u32) -> Result<u32> {
    let still = c.need("qk_nope_head_dim", c.count("qk_nope_head_dim"))?;
    let turning = c.need("qk_rope_head_dim", c.count("qk_rope_head_dim"))?;
    still
        .checked_add(turning)
        .ok_or_else(|| c.error("qk_nope_head_dim", format!("is {still}"), "give the elements of a head"))
}

/// Elements of a head that turn; what else the file says of sizes must agree.
fn latent_turns(c: &Dict, heads: u32) -> Result<u32> {
    let (head_dim, turning) = (latent_dim(c, heads)?, c.count("qk_rope_head_dim")?.unwrap_or(0));
    for (key, allowed) in [
        ("qk_head_dim", [head_dim, head_dim]),
        ("head_dim", [turning, head_dim]),
        ("num_key_value_heads", [heads, heads]),
    ] {
        let usual = |n: &u32| c.class().and_then(|class| class.keys.get(key)?.as_u64()) == Some(*n as u64);
        let own = if c.has(key) { c.count(key)?.filter(|n| !usual(n)) } else { None };
        if let Some(n) = own.filter(|n| !allowed.contains(n)) {
            let [a, b] = allowed;
            let other = if a == b { String::new() } else { format!(" or {b}") };
            return Err(c.error(key, format!("is {n}"), format!("with the other keys it must be {a}{other}")));
        }
    }
    // ranks belong to the projections
    c.touch(&[
        "kv_lora_rank",
        "q_lora_rank",
        "v_head_dim",
        "num_key_value_heads",
        "rope_interleave",
        "partial_rotary_factor",
    ]);
    Ok(turning)
}

/// Llama 4: on unless switched off; older files say it with a number.
fn temperature(c: &Dict) -> Result<Option<Temperature>> {
    let on = match c.get("attn_temperature_tuning") {
        Some(value) if value.is_number() => c.number("attn_temperature_tuning")? != Some(0.0),
        _ => c.flag("attn_temperature_tuning")?.unwrap_or(true),
    };
    let scale = c.number("attn_scale")?.unwrap_or(0.1);
    let floor = c.count("floor_scale")?.unwrap_or(8192);
    Ok(on.then(|| Temperature::new(scale, floor)))
}

impl Fixed {
    fn check(&self, c: &Dict, key: &'static str, rotary_dim: Option<u32>) -> Result<()> {
        let Some(value) = c.get(key) else { return Ok(()) };
        let (agrees, expected) = match self {
            Fixed::Number(n) => (value.as_f64() == Some(*n), n.to_string()),
            Fixed::Text(text) => (value.as_str() == Some(text), text.to_string()),
            Fixed::Flag(flag) => (value.as_bool() == Some(*flag), flag.to_string()),
            Fixed::Share => (value.as_u64() == rotary_dim.map(u64::from), format!("{}", rotary_dim.unwrap_or(0))),
            Fixed::Absent(_) => {
                let empty = value.as_array().is_some_and(Vec::is_empty);
                (value.as_bool() == Some(false) || value.as_f64() == Some(0.0) || empty, "none".into())
            }
        };
        match (agrees, self) {
            (true, _) => Ok(()),
            (false, Fixed::Absent(what)) => Err(c.error(key, format!("is {}", shown(value)), format!("needs {what}"))),
            (false, _) => Err(c.error(key, format!("is {}", shown(value)), format!("this model_type has {expected}"))),
        }
    }
}
