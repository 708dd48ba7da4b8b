//! What kind of attention each layer of a model has.

use crate::error::Result;
use crate::hf::dict::{Dict, shown};

/// What a layer sees.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Layer {
    Full,
    Sliding,
    Chunked,
    /// Full, of the keys that an indexer chooses.
    Indexed,
    /// No attention: the name of what it has instead.
    Nothing(&'static str),
}

/// Every name of `layer_types`, those of older files too.
const NAMES: &[(&str, Layer)] = &[
    ("full_attention", Layer::Full),
    ("sliding_attention", Layer::Sliding),
    ("chunked_attention", Layer::Chunked),
    ("indexed_attention", Layer::Indexed),
    ("reference_sliding_attention", Layer::Indexed),
    ("attention", Layer::Full),
    ("hybrid", Layer::Full),
    ("hybrid_sliding", Layer::Sliding),
    ("linear_attention", Layer::Nothing("linear_attention")),
    ("conv", Layer::Nothing("conv")),
    ("mamba", Layer::Nothing("mamba")),
    ("mamba2", Layer::Nothing("mamba2")),
    ("recurrent", Layer::Nothing("recurrent")),
    ("moe", Layer::Nothing("moe")),
    ("mlp", Layer::Nothing("mlp")),
    ("short_conv", Layer::Nothing("short_conv")),
];

impl Layer {
    /// Its first name.
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
    /// Its names in a rope dictionary by layer type.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(_, kind)| *kind == self).map(|(name, _)| *name)
    }
    pub(crate) fn named(name: &str) -> Option<Layer> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

/// How a class makes the list where the file has none.
#[derive(Clone, Copy)]
pub(crate) enum Kinds {
    /// All of them see everything.
    Alike,
    /// All of them have a window, where the file has a number for it (and this flag is set).
    Every(Option<&'static str>),
    /// Qwen 2: those from `max_window_layers` on, where there is a window (and this flag is set).
    From(Option<&'static str>),
    /// Qwen 2 MoE: every second one below `max_window_layers`, where `use_sliding_window`.
    Below,
    /// All but every n-th have a window; the number may stand under these keys. `last`: the last one sees everything.
    AllBut { n: u32, keys: &'static [&'static str], last: bool },
    /// All but the first of every n have a window.
    AfterFirst { n: u32, keys: &'static [&'static str] },
    /// Llama 4: layers that rotate see chunks.
    Chunks,
    /// Every layer's keys are chosen by an indexer.
    Indexed,
    /// As a function says.
    With(fn(&Dict, u32) -> Result<Vec<Layer>>),
}

pub(crate) const PATTERN: &[&str] = &["sliding_window_pattern", "_sliding_window_pattern"];

impl Kinds {
    /// The list of the file.
    pub(crate) fn listed<'a>(&self, c: &Dict<'a>) -> Result<Option<Vec<&'a str>>> {
        for key in ["layer_types", "layers_block_type"] {
            if let Some(list) = c.texts(key)? {
                return Ok(Some(list));
            }
        }
        Ok(None)
    }

    pub(crate) fn read(&self, c: &Dict, count: u32, window: &'static str) -> Result<Vec<Layer>> {
        let own = self.by_class(c, count, window)?;
        let Some(names) = self.listed(c)? else { return Ok(own) };
        if names.len() < count as usize {
            let problem = format!("lists {} layers of {count}", names.len());
            return Err(c.error("layer_types", problem, "give one for each layer"));
        }
        let fixed = matches!(self, Kinds::Alike | Kinds::Every(_));
        let kinds = names.iter().enumerate().take(count as usize).map(|(at, name)| {
            let kind = Layer::named(name).filter(|kind| match self {
                _ if fixed => own.get(at) == Some(kind),
                Kinds::Chunks => *kind != Layer::Sliding,
                Kinds::From(_) | Kinds::Below | Kinds::AllBut { .. } | Kinds::AfterFirst { .. } => {
                    matches!(kind, Layer::Full | Layer::Sliding)
                }
                _ => true,
            });
            kind.ok_or_else(|| {
                let expected = match own.get(at) {
                    Some(own) if fixed => own.name().to_string(),
                    _ if matches!(self, Kinds::Chunks) => "full_attention or chunked_attention".into(),
                    _ => "full_attention or sliding_attention".into(),
                };
                let problem = format!("calls layer {at} {}", shown(&(*name).into()));
                c.error("layer_types", problem, format!("supported here is {expected}"))
            })
        });
        let kinds: Vec<Layer> = kinds.collect::<Result<_>>()?;
        if matches!(self, Kinds::AllBut { last: true, .. }) && kinds.last() != Some(&Layer::Full) {
            let help = "end with full_attention, which the class puts there";
            return Err(c.error("layer_types", "ends with another layer than full_attention", help));
        }
        Ok(kinds)
    }

    fn by_class(&self, c: &Dict, count: u32, window: &'static str) -> Result<Vec<Layer>> {
        let period = |keys: &'static [&'static str], n: u32| -> Result<u32> {
            let mut found: Option<u32> = None;
            for key in keys {
                let next = c.count(key)?;
                if found.is_some() && next.is_some() && found != next {
                    return Err(c.error(key, "differs from the other key for it", "keep one of them"));
                }
                found = found.or(next);
                if found == Some(0) {
                    return Err(c.error(key, "is 0", "give 1 or more layers"));
                }
            }
            Ok(found.unwrap_or(n))
        };
        let layers = |sliding: &dyn Fn(u32) -> bool| {
            (0..count).map(|i| if sliding(i) { Layer::Sliding } else { Layer::Full }).collect()
        };
        Ok(match *self {
            Kinds::Alike => layers(&|_| false),
            Kinds::Indexed => vec![Layer::Indexed; count as usize],
            Kinds::Every(flag) => {
                let some = c.count(window)?.is_some() && set(c, flag)?;
                layers(&|_| some)
            }
            Kinds::From(flag) => {
                let used = c.count(window)?.is_some() && set(c, flag)?;
                let from = c.count("max_window_layers")?;
                let from = if used { c.need("max_window_layers", Ok(from))? } else { 0 };
                layers(&|i| used && i >= from)
            }
            Kinds::Below => {
                let used = c.count(window)?.is_some() && set(c, Some("use_sliding_window"))?;
                let from = c.count("max_window_layers")?.unwrap_or(count);
                layers(&|i| used && i % 2 == 0 && i < from)
            }
            Kinds::AllBut { n, keys, last } => {
                let n = period(keys, n)?;
                layers(&|i| !((i as u64 + 1).is_multiple_of(n as u64) || last && i + 1 == count))
            }
            Kinds::AfterFirst { n, keys } => {
                let n = period(keys, n)?;
                layers(&|i| !i.is_multiple_of(n))
            }
            Kinds::Chunks => {
                let turns = turning(c)?;
                let chunked = c.count("attention_chunk_size")?.is_some();
                let kind = |i| if chunked && turns(i) { Layer::Chunked } else { Layer::Full };
                (0..count).map(kind).collect()
            }
            Kinds::With(read) => read(c, count)?,
        })
    }
}

fn set(c: &Dict, flag: Option<&'static str>) -> Result<bool> {
    flag.map_or(Ok(true), |flag| Ok(c.flag(flag)?.unwrap_or(false)))
}

/// Whether a layer rotates, by `no_rope_layers` (1: it does) or `no_rope_layer_interval`.
pub(crate) fn turning(c: &Dict) -> Result<impl Fn(u32) -> bool + use<>> {
    let list = c.numbers("no_rope_layers")?.filter(|list| !list.is_empty());
    let interval = c.count("no_rope_layer_interval")?.unwrap_or(4);
    if interval == 0 {
        return Err(c.error("no_rope_layer_interval", "is 0", "give 1 or more layers"));
    }
    if let Some(list) = &list {
        let layers = c.count("num_hidden_layers")?.map_or(list.len(), |n| n as usize);
        if list.len() < layers || list.iter().any(|x| *x != 0.0 && *x != 1.0) {
            return Err(c.error(
                "no_rope_layers",
                format!("holds {} entries for {layers} layers, or others than 0 and 1", list.len()),
                "give 1 for each layer that rotates and 0 for each other",
            ));
        }
    }
    Ok(move |layer: u32| match &list {
        Some(list) => list.get(layer as usize).is_some_and(|x| *x == 1.0),
        None => !(layer as u64 + 1).is_multiple_of(interval as u64),
    })
}
