//! The dictionary of a rotation: `rope_parameters`, or the older `rope_scaling`.

use crate::equation::factors::Temperature;
use crate::equation::rotary::rotary::{Pairing, Rotary};
use crate::equation::rotary::scaling::{LongRope, MAX_ROTARY_DIM, RopeScaling, Yarn};
use crate::error::{Error, Result};
use crate::hf::dict::{Dict, shown};
use crate::hf::family::{Family, Partial};
use crate::hf::layers::Layer;
use crate::hf::read::{agree, dictionary, parse};
use serde_json::{Map, Value};

/// Lengths, in tokens, that stand outside the rope dictionary.
pub(crate) struct Lengths {
    pub(crate) max: Option<u32>,
    pub(crate) original: Option<u32>,
    pub(crate) seq_len: Option<u32>,
}

/// What a rope dictionary of a configuration says: `rope_parameters`, or the older `rope_scaling`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RopeParameters {
    /// `rope_theta`.
    pub theta: Option<f64>,
    /// `partial_rotary_factor`: the share of a head that rotates. (That of `proportional` is part of `scaling`.)
    pub partial_rotary_factor: Option<f64>,
    /// `rope_type` and its numbers.
    pub scaling: RopeScaling,
}

impl RopeParameters {
    /// Reads one dictionary, such as
    /// `{"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}`. `type` is the older name of `rope_type`, and
    /// `su` that of `longrope`; `ntk` is [`RopeScaling::Ntk`]. `max_position_embeddings` is the configuration's,
    /// which `dynamic` needs, `yarn` where its dictionary lacks the original length, and `longrope` where its lacks a
    /// factor. `seq_len` is the longest sequence of the call, for `dynamic` and `longrope`.
    ///
    /// # Errors
    /// [`Error::Config`] that names an unknown type, an unknown or missing key, or a value of the wrong kind. Whether
    /// the numbers make sense is for [`RopeScaling::inv_freq`] to say.
    pub fn from_json(json: &str, max_position_embeddings: Option<u32>, seq_len: Option<u32>) -> Result<Self> {
        let lengths = Lengths { max: max_position_embeddings, original: None, seq_len };
        Self::read(&dictionary("rope_parameters", &parse(json)?)?, &lengths, false)
    }

    /// `sections`: the model has position streams, whose keys the caller reads; its older files say `mrope` for
    /// `default`, besides or instead of a `rope_type`.
    pub(crate) fn read(d: &Dict, lengths: &Lengths, sections: bool) -> Result<Self> {
        let theta = d.number("rope_theta")?;
        let partial_rotary_factor = d.number("partial_rotary_factor")?;
        let named = |kind| if sections && kind == "mrope" { "default" } else { kind };
        let kind = match (d.text("rope_type")?.map(named), d.text("type")?.map(named)) {
            (Some(new), Some(old)) if new != old => {
                return Err(d.error("type", format!("is {old:?}, but rope_type is {new:?}"), "keep one of them"));
            }
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) if !d.unread().any(|(key, value)| matters(d, "default", key, value)) => "default",
            (None, None) => return Err(d.error("rope_type", "is missing", "name the length extension")),
        };
        let number = |key| d.need(key, d.number(key));
        let scaling = match kind {
            "default" => RopeScaling::Default,
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "ntk" => RopeScaling::Ntk { factor: number("factor")? },
            "dynamic" => RopeScaling::Dynamic {
                factor: number("factor")?,
                max_position_embeddings: lengths.max()?,
                seq_len: lengths.seq_len,
            },
            "yarn" => {
                let original = lengths.original(d)?.map_or_else(|| lengths.max(), Ok)?;
                let factor = match d.number("factor")? {
                    Some(factor) => factor,
                    None if d.has("factor") => lengths.max()? as f64 / original as f64,
                    None => return Err(d.error("factor", "is missing", "give it, or null for the ratio of lengths")),
                };
                RopeScaling::Yarn(Yarn {
                    beta_fast: d.number("beta_fast")?,
                    beta_slow: d.number("beta_slow")?,
                    truncate: d.flag("truncate")?,
                    mscale: d.number("mscale")?,
                    mscale_all_dim: d.number("mscale_all_dim")?,
                    attention_factor: d.number("attention_factor")?,
                    ..Yarn::new(factor, original)
                })
            }
            "longrope" | "su" => {
                let short = d.need("short_factor", d.numbers("short_factor"))?;
                let long = d.need("long_factor", d.numbers("long_factor"))?;
                let original = d.need("original_max_position_embeddings", lengths.original(d))?;
                RopeScaling::LongRope(LongRope {
                    max_position_embeddings: lengths.max,
                    factor: d.number("factor")?,
                    attention_factor: d.number("attention_factor")?,
                    seq_len: lengths.seq_len,
                    ..LongRope::new(short, long, original)
                })
            }
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_position_embeddings: d.need("original_max_position_embeddings", lengths.original(d))?,
            },
            "proportional" => RopeScaling::Proportional {
                partial_rotary_factor: number("partial_rotary_factor")?,
                factor: d.number("factor")?,
            },
            other => {
                return Err(d.error(
                    "rope_type",
                    format!("{} is not supported", shown(&other.into())),
                    "supported are default, linear, ntk, dynamic, yarn, longrope, llama3, proportional",
                ));
            }
        };
        if let Some((key, value)) = d.unread().find(|(key, value)| matters(d, kind, key, value)) {
            let problem = format!("is {}, and rope_type {kind:?} has no such key", shown(value));
            return Err(d.error(key, problem, "remove the key, or correct rope_type"));
        }
        let proportional = matches!(scaling, RopeScaling::Proportional { .. });
        Ok(RopeParameters { theta, partial_rotary_factor: partial_rotary_factor.filter(|_| !proportional), scaling })
    }
}

/// Whether a key that a rope type does not have says anything: a factor of 1, a length beside a rotation without an extension,
/// `finetuned` (a note of how a model was trained) and sections of an older form do not.
fn matters(d: &Dict, kind: &str, key: &str, value: &Value) -> bool {
    let plain = kind == "default";
    match key {
        _ if value.is_null() => false,
        "factor" | "attention_factor" if plain => value.as_f64() != Some(1.0),
        "original_max_position_embeddings" | "max_position_embeddings" => !plain && d.name().is_empty(),
        "beta_fast" | "beta_slow" | "mscale" | "mscale_all_dim" => !plain,
        // names of older forms
        "alpha" => value.as_f64().is_none_or(|x| x != 0.0),
        "finetuned" => !value.is_boolean(),
        // read by `grows`
        "llama_4_scaling_beta" => value.as_f64().is_none(),
        _ => true,
    }
}

impl Lengths {
    fn max(&self) -> Result<u32> {
        self.max.ok_or_else(|| {
            Error::config("max_position_embeddings", "is missing", "the length extension needs it: give it")
        })
    }
    /// The original length: in the dictionary or outside.
    fn original(&self, d: &Dict) -> Result<Option<u32>> {
        agree(d, "original_max_position_embeddings", self.original, d.count("original_max_position_embeddings")?)
    }
}

/// Sliding and full layers with frequencies of their own, in files that have one rope dictionary or none.
#[derive(Clone, Copy)]
pub(crate) enum Local {
    /// They have the same, unless there is a dictionary for each layer type.
    Never,
    /// The key of theta of full and of sliding layers; whether the one dictionary extends sliding layers too.
    Theta { full: &'static str, sliding: &'static str, both: bool },
    /// There must be a dictionary for each layer type, or none.
    Nested,
}

/// Which position stream turns which pair. Numbers are the class's sections where the file has none.
#[derive(Clone, Copy)]
pub(crate) enum Sections {
    Never,
    /// Qwen2-VL: one stream after the other.
    Contiguous(Option<[u32; 3]>),
    /// Qwen3-VL: the streams by turns, as long as their sections last; the rest is stream 0.
    ByTurns([u32; 3]),
    /// Ernie 4.5 VL: streams 1 and 2 by turns, then stream 0; `mrope_section` counts them in this order.
    Ernie([u32; 3]),
}

/// The rotation of a layer, as a file and its class have it.
pub(crate) struct Rope<'f> {
    pub(crate) family: &'f Family,
    pub(crate) kind: Layer,
    pub(crate) seq_len: Option<u32>,
}

/// A dictionary of a file or of its class.
struct Source<'a> {
    name: &'static str,
    map: &'a Map<String, Value>,
    class: bool,
}

impl Rope<'_> {
    /// `None`: the file says that such layers do not rotate.
    pub(crate) fn read(&self, c: &Dict, head_dim: u32) -> Result<Option<Rotary>> {
        let family = self.family;
        if let Some(theta) = family.base {
            // the class has no dictionary
            let whole = RopeParameters { theta: None, partial_rotary_factor: None, scaling: RopeScaling::Default };
            let rotary_dim = self.rotary_dim(c, &whole, false, None, head_dim)?;
            return scaled(c, None, family.pairing, rotary_dim, theta, &RopeScaling::Default).map(Some);
        }
        let lengths = Lengths {
            max: c.count("max_position_embeddings")?,
            original: c.count("original_max_position_embeddings")?,
            seq_len: self.seq_len,
        };
        let class = self.class(c);
        let Some((dict, nested)) = self.dictionary(c)? else { return Ok(None) };
        let new = dict.as_ref().is_some_and(|(d, from_class)| !from_class && d.name().ends_with("rope_parameters"));
        if new && !nested && !matches!(family.local, Local::Never) {
            let help = "give one dictionary for full_attention and one for sliding_attention";
            return Err(c.error("rope_parameters", "is not a dictionary by layer type, and layers differ", help));
        }
        let sliding = self.kind == Layer::Sliding;
        let (mut keys, mut alone) = (family.theta.to_vec(), false);
        if let Local::Theta { full, sliding: local, both } = family.local {
            c.touch(&[full, local]);
            keys = vec![if sliding { local } else { full }];
            alone = sliding && !both;
        }
        // an extension of the full layers alone
        let dict = dict.filter(|(_, from_class)| nested || *from_class || !alone);
        let sections = self.sections(dict.as_ref().map(|(d, _)| d))?;
        let parameters = match &dict {
            Some((dict, _)) => {
                let alpha = if family.alpha { dict.number("alpha")?.filter(|alpha| *alpha != 0.0) } else { None };
                let mscale = match family.longrope_mscale {
                    true => (dict.number("short_mscale")?, dict.number("long_mscale")?),
                    false => (None, None),
                };
                if alpha.is_some() {
                    // left aside beside alpha
                    dict.touch(&["beta_fast", "beta_slow", "mscale", "mscale_all_dim"]);
                }
                let mut found = RopeParameters::read(dict, &lengths, !matches!(family.sections, Sections::Never))?;
                if let (RopeScaling::Dynamic { .. }, Some(factor)) = (&found.scaling, alpha) {
                    found.scaling = RopeScaling::Ntk { factor };
                }
                if let (RopeScaling::LongRope(long), (Some(short), Some(beyond))) = (&mut found.scaling, mscale) {
                    let longer = self.seq_len.is_some_and(|n| n > long.original_max_position_embeddings);
                    long.attention_factor = Some(if longer { beyond } else { short });
                }
                found
            }
            None => RopeParameters { theta: None, partial_rotary_factor: None, scaling: RopeScaling::Default },
        };
        let from_class = dict.as_ref().is_some_and(|(_, from_class)| *from_class);
        let mut theta = parameters.theta.filter(|_| !from_class);
        for key in keys {
            let own = if c.has(key) { c.number(key)? } else { None };
            theta = agree(c, key, theta, own)?;
        }
        let usual = class.and_then(|d| d.get("rope_theta")?.as_f64()).or(parameters.theta);
        let usual = usual.or_else(|| c.class()?.keys.get("rope_theta")?.as_f64());
        let theta = c.need("rope_theta", Ok(theta.or(usual)))?;
        let rotary_dim = self.rotary_dim(c, &parameters, from_class, class, head_dim)?;
        let found = dict.as_ref().map(|(d, _)| d);
        let odd = !rotary_dim.is_multiple_of(2) && rotary_dim < head_dim.min(MAX_ROTARY_DIM);
        let odd = odd && parameters.scaling == RopeScaling::Default;
        let mut rotary = match odd {
            // an odd share of a head: as many pairs as the class makes of it
            true => {
                let f = (0..rotary_dim.div_ceil(2)).map(|p| theta.powf(-2.0 * p as f64 / rotary_dim as f64));
                Rotary::with_inv_freq(family.pairing, f.collect())
            }
            false => scaled(c, found, family.pairing, rotary_dim, theta, &parameters.scaling)?,
        };
        let rotary_dim = rotary.rotary_dim;
        if !matches!(family.sections, Sections::Never) {
            let usual = class.and_then(|d| d.get("mrope_section")?.as_array()?.iter().map(Value::as_f64).collect());
            rotary.streams = self.streams(found.unwrap_or(c), sections.or(usual), rotary_dim / 2)?;
        }
        Ok(Some(rotary))
    }

    /// How many elements of a head rotate.
    fn rotary_dim(
        &self,
        c: &Dict,
        parameters: &RopeParameters,
        from_class: bool,
        class: Option<&Map<String, Value>>,
        head_dim: u32,
    ) -> Result<u32> {
        let proportional = match parameters.scaling {
            RopeScaling::Proportional { partial_rotary_factor, .. } => Some(partial_rotary_factor),
            _ => None,
        };
        if self.family.latent {
            let share = parameters.partial_rotary_factor.filter(|share| !from_class && *share != 1.0);
            let sizes = [c.count("head_dim")?, c.count("qk_nope_head_dim")?.map(|n| n.saturating_add(head_dim))];
            let of = |share: f64| sizes.iter().flatten().any(|n| (*n as f64 * share) as u32 == head_dim);
            return match share {
                Some(share) if !of(share) => {
                    let help = "qk_rope_head_dim says what turns: remove it";
                    Err(c.error("partial_rotary_factor", format!("is {share}"), help))
                }
                _ => Ok(head_dim),
            };
        }
        let keys: &[&'static str] = match self.family.partial {
            Partial::Elements(key) => {
                let share = parameters.partial_rotary_factor.unwrap_or(1.0);
                return Ok(c.count(key)?.unwrap_or((head_dim as f64 * share) as u32));
            }
            Partial::Share(keys) => keys,
            Partial::Never => &["partial_rotary_factor"],
        };
        let mut share = proportional.or(parameters.partial_rotary_factor.filter(|_| !from_class));
        for key in keys {
            let own = if c.has(key) { c.number(key)? } else { None };
            share = agree(c, key, share, own)?;
        }
        if proportional.is_some() {
            return Ok(head_dim);
        }
        if matches!(self.family.partial, Partial::Never) {
            return match share {
                Some(share) if share != 1.0 => {
                    let help = "remove it, or correct model_type";
                    Err(c.error("partial_rotary_factor", format!("is {share}, but here whole heads rotate"), help))
                }
                _ => Ok(head_dim),
            };
        }
        let usual = class.and_then(|d| d.get("partial_rotary_factor")?.as_f64());
        let usual = usual.or(parameters.partial_rotary_factor);
        let usual = usual.or_else(|| keys.iter().find_map(|key| c.class()?.keys.get(*key)?.as_f64()));
        let share = share.or(usual).unwrap_or(1.0);
        match share > 0.0 && share <= 1.0 {
            true => Ok((head_dim as f64 * share) as u32),
            false => Err(c.error("partial_rotary_factor", format!("is {share}"), "give a number above 0, at most 1")),
        }
    }

    /// The dictionary of the file, else of its class; `None`: it is null for this kind of layer. Within: the dictionary with
    /// whether it is the class's, and whether there is one for each layer type.
    #[allow(clippy::type_complexity)]
    fn dictionary<'a>(&self, c: &Dict<'a>) -> Result<Option<(Option<(Dict<'a>, bool)>, bool)>> {
        let Some(source) = source(c)? else { return Ok(Some((None, false))) };
        let wrap = |name: String, map| (Dict::new(c.field(&name), map), source.class);
        if !nested(source.map) {
            return Ok(Some((Some(wrap(source.name.into(), source.map)), false)));
        }
        let known = |key: &String| Layer::named(key).is_some_and(|kind| kind != Layer::Chunked);
        if let Some(key) = source.map.keys().find(|key| !known(key) && source.map[*key].is_object()) {
            let help = "a dictionary by layer type has full_attention and sliding_attention";
            return Err(c.error(&format!("{}.{key}", source.name), "is no layer type", help));
        }
        match self.kind.names().find_map(|name| Some((name, source.map.get(name)?))) {
            Some((name, Value::Object(inner))) => {
                Ok(Some((Some(wrap(format!("{}.{name}", source.name), inner)), true)))
            }
            Some((_, Value::Null)) => Ok(None),
            _ if source.class || matches!(self.kind, Layer::Nothing(_)) => Ok(Some((None, true))),
            _ => Err(c.error(&format!("{}.{}", source.name, self.kind.name()), "is missing", "give a dictionary")),
        }
    }

    /// The class's dictionary for this kind of layer.
    fn class(&self, c: &Dict) -> Option<&'static Map<String, Value>> {
        let whole = c.class()?.keys.get("rope_parameters")?.as_object()?;
        match nested(whole) {
            false => Some(whole),
            true => self.kind.names().find_map(|name| whole.get(name)?.as_object()),
        }
    }

    fn sections(&self, dict: Option<&Dict>) -> Result<Option<Vec<f64>>> {
        let Some(dict) = dict.filter(|_| !matches!(self.family.sections, Sections::Never)) else { return Ok(None) };
        let turns = dict.flag("mrope_interleaved")?;
        let by_turns = matches!(self.family.sections, Sections::ByTurns(_));
        if turns.is_some_and(|turns| turns != by_turns) {
            let problem = format!("is {}, which this model_type is not", !by_turns);
            return Err(dict.error("mrope_interleaved", problem, "remove the key, or correct model_type"));
        }
        dict.numbers("mrope_section")
    }

    /// The position stream of every pair.
    fn streams(&self, d: &Dict, sections: Option<Vec<f64>>, pairs: u32) -> Result<Vec<u8>> {
        let class = match self.family.sections {
            Sections::Never => None,
            Sections::Contiguous(class) => class,
            Sections::ByTurns(class) | Sections::Ernie(class) => Some(class),
        };
        let class = class.map(|list| list.map(f64::from).to_vec());
        let sections = d.need("mrope_section", Ok(sections.or(class.clone())))?;
        let wrong = |help: String| Err(d.error("mrope_section", format!("is {sections:?}"), help));
        let [a, b, last] = sections[..] else {
            return wrong("give three counts of pairs".into());
        };
        let by_turns = matches!(self.family.sections, Sections::ByTurns(_));
        let whole = [a, b, last].iter().all(|n| n.fract() == 0.0 && *n >= 0.0);
        // by turns, what the sections leave is stream 0's
        let usual = class.as_ref() == Some(&sections);
        if !whole || !(a + b + last == pairs as f64 || by_turns && (usual || 3.0 * b.max(last) <= pairs as f64 + 2.0)) {
            return wrong(format!("give three whole counts of pairs, {pairs} together"));
        }
        let [a, b, last] = [a as u32, b as u32, last as u32];
        if matches!(self.family.sections, Sections::Ernie(_)) && a != b {
            return wrong("let the first two, which take turns, be equal".into());
        }
        let stream = |pair: u32| match self.family.sections {
            Sections::Never => 0,
            Sections::Contiguous(_) => (pair >= a) as u8 + (pair >= a + b) as u8,
            Sections::ByTurns(_) => match pair % 3 {
                1 if pair < 3 * b => 1,
                2 if pair < 3 * last => 2,
                _ => 0,
            },
            Sections::Ernie(_) if pair >= a + b => 0,
            Sections::Ernie(_) => 1 + (pair % 2) as u8,
        };
        Ok((0..pairs).map(stream).collect())
    }

    /// DeepSeek: what YaRN multiplies the scale's square root by.
    pub(crate) fn magnitude(&self, c: &Dict) -> Result<Option<f64>> {
        let Some((Some((dict, _)), _)) = self.dictionary(c)? else { return Ok(None) };
        let kind = dict.text("rope_type")?.or(dict.text("type")?);
        let (all, factor) = (dict.number("mscale_all_dim")?, dict.number("factor")?);
        Ok(match (kind, all, factor) {
            (Some(kind), Some(all), Some(factor)) if kind != "default" && all != 0.0 && factor > 1.0 => {
                Some(0.1 * all * factor.ln() + 1.0)
            }
            _ => None,
        })
    }

    /// Ministral 3, Mistral 4: the temperature 1 + beta ln(1 + floor(m / length)); none where no sequence passes the original length, below
    /// which it is 1.
    pub(crate) fn grows(&self, c: &Dict) -> Result<Option<Temperature>> {
        let Some(source) = source(c)? else { return Ok(None) };
        let beta = source.map.get("llama_4_scaling_beta").and_then(Value::as_f64).unwrap_or(0.0);
        let length = source.map.get("original_max_position_embeddings").and_then(Value::as_f64);
        let length = length.or(c.number("max_position_embeddings")?).unwrap_or(0.0);
        match self.seq_len {
            _ if beta == 0.0 => Ok(None),
            Some(n) if n as f64 <= length => Ok(None),
            _ if length.fract() == 0.0 && (1.0..=(1u64 << 30) as f64).contains(&length) => {
                Ok(Some(Temperature::of_index(beta, length as u32)))
            }
            _ => Err(c.error(
                &format!("{}.original_max_position_embeddings", source.name),
                format!("is {length} beside llama_4_scaling_beta"),
                "give whole positions, 1 to 2^30",
            )),
        }
    }
}

/// Theta alone, of towers whose rotation is their own.
pub(crate) fn theta(c: &Dict) -> Result<f64> {
    let mut found = c.number("rope_theta")?;
    if let Some(source) = source(c)? {
        let dict = Dict::new(c.field(source.name), source.map);
        for key in ["rope_type", "type"] {
            if let Some(kind) = dict.text(key)?.filter(|kind| !["axial", "default", "2d"].contains(kind)) {
                return Err(dict.error(key, format!("is {kind:?}"), "here it is axial"));
            }
        }
        found = dict.number("rope_theta")?.or(found);
    }
    c.need("rope_theta", Ok(found))
}

/// Whether a dictionary holds one for each layer type.
fn nested(map: &Map<String, Value>) -> bool {
    map.iter().any(|(key, value)| value.is_object() || value.is_null() && Layer::named(key).is_some())
}

/// The rope dictionary of a file, else of its class.
fn source<'a>(c: &Dict<'a>) -> Result<Option<Source<'a>>> {
    let of = |name: &'static str| c.map().get(name).filter(|value| !value.is_null()).map(|value| (name, value));
    c.touch(&["rope_parameters", "rope_scaling"]);
    let found = match (of("rope_parameters"), of("rope_scaling")) {
        (Some((_, new)), Some((_, old))) if plain(c, new) != plain(c, old) => {
            return Err(c.error("rope_scaling", "differs from rope_parameters", "keep one of them"));
        }
        (new, old) => new.or(old),
    };
    if let Some((name, value)) = found {
        return match value.as_object() {
            None => Err(c.error(name, format!("is {}", shown(value)), "give a dictionary, or null")),
            Some(map) if map.is_empty() => Ok(None),
            Some(map) => Ok(Some(Source { name, map, class: false })),
        };
    }
    let class = c.class().and_then(|class| class.keys.get("rope_parameters")?.as_object());
    Ok(class.map(|map| Source { name: "rope_parameters", map, class: true }))
}

/// A dictionary without what may stand outside it too, and by the newer name of its type: two that say the same are equal.
fn plain(c: &Dict, value: &Value) -> Value {
    let Some(map) = value.as_object() else { return value.clone() };
    let mut map = map.clone();
    map.retain(|_, value| !value.is_null());
    if let Some(old) = map.remove("type") {
        map.entry("rope_type").or_insert(old);
    }
    for key in ["rope_theta", "partial_rotary_factor"] {
        let outside = c.map().get(key).or_else(|| c.map().get("rope_parameters")?.get(key));
        if outside.is_some_and(|outside| map.get(key).is_none_or(|inside| inside == outside)) {
            map.remove(key);
        }
    }
    Value::Object(map)
}

/// A rotation whose errors name the file's keys.
pub(crate) fn scaled(
    c: &Dict,
    dict: Option<&Dict>,
    pairing: Pairing,
    rotary_dim: u32,
    theta: f64,
    scaling: &RopeScaling,
) -> Result<Rotary> {
    Rotary::scaled(pairing, rotary_dim, theta, scaling).map_err(|error| match error {
        Error::Spec { field, problem, help } => match (field.strip_prefix("scaling."), dict) {
            (Some("theta"), _) => c.error("rope_theta", problem, help),
            (Some("rotary_dim"), _) => c.error("rotary_dim", problem, help),
            (Some(key), Some(dict)) => dict.error(key, problem, help),
            _ => Error::Spec { field, problem, help },
        },
        other => other,
    })
}
