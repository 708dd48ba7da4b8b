//! Hugging Face configurations: `config.json` of a model, read into a [`Spec`].

use crate::equation::dtype::Dtype;
use crate::equation::spec::Spec;
use crate::error::{Error, Result};
use crate::hf::classes;
use crate::hf::dict::{Dict, shown};
use crate::hf::family::Family;
use crate::hf::keys;
use crate::hf::layers::Layer;
use crate::hf::models::{MODELS, Model};
use crate::hf::parts::{Part, parts};
use crate::hf::read::{ConfigOptions, Stack, agree, parse};
use serde_json::Value;

/// The `model_type` of every configuration that [`Spec::from_hf_config`] reads.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    let read = |model: &Model| !matches!(model, Model::Refused(_) | Model::Nothing(_));
    MODELS
        .iter()
        .filter(move |(_, model)| read(model))
        .flat_map(|(names, _)| *names)
        .copied()
        .filter(|name| !name.contains('#'))
}

/// Every `model_type` of which the default configuration is known, whether it is read or not.
#[doc(hidden)]
pub fn known_types() -> Vec<&'static str> {
    let mut all: Vec<_> = classes::all().collect();
    all.sort_unstable();
    all
}

/// What [`config_parts`] found of one configuration of a file.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfigPart {
    /// Its keys in the file, empty for the whole: `thinker_config.text_config`.
    pub path: String,
    /// Its type.
    pub model_type: String,
    /// Whether the file has it; else it is what the class of the one around it takes.
    pub stated: bool,
    /// Its attention.
    pub attention: ConfigAttention,
    /// A norm of q and k that is not read is left to the caller: [`ConfigOptions::normalized`].
    pub normalized: bool,
    /// Keys that the file does not have and that were read, with what the class takes for them.
    pub defaults: Vec<(String, Value)>,
}

/// The attention of one configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigAttention {
    /// It has none by itself: why.
    Without(&'static str),
    /// It is not read: why.
    Refused(Error),
    /// Stack by stack the layers: `Ok(None)` has no attention, an error is not read.
    Stacks(Vec<(Stack, Vec<Result<Option<Spec>>>)>),
}

/// Reads all that a `config.json` says of attention: part by part, stack by stack, layer by layer. Of the options it
/// leaves `part`, `stack` and `layer` aside.
///
/// ```
/// let parts = ropewalk::config_parts(r#"{"model_type": "llava"}"#, &Default::default())?;
/// let paths: Vec<&str> = parts.iter().map(|part| part.path.as_str()).collect();
/// assert_eq!(paths, ["", "text_config", "vision_config"]);
/// # Ok::<(), ropewalk::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`](crate::Error::Config): the file is no configuration. What is not read in it stands in the result.
pub fn config_parts(json: &str, options: &ConfigOptions) -> Result<Vec<ConfigPart>> {
    let file = parse(json)?;
    let all = parts(&file)?;
    Ok(all.iter().map(|part| described(part, &all, options)).collect())
}

fn described(part: &Part, all: &[Part], options: &ConfigOptions) -> ConfigPart {
    let mut defaults = Vec::new();
    let mut normalized = false;
    let attention = match part.model {
        Some(Model::Nothing(what)) => ConfigAttention::Without(what),
        Some(Model::Composite) => ConfigAttention::Without("its parts have it"),
        _ => match stacks(part) {
            Err(error) => ConfigAttention::Refused(error),
            Ok(list) => {
                let read = |stack: Stack| {
                    let mut reader = Reader::new(part, all, stack);
                    let mut read = |layer| {
                        reader.layer(options, layer).or_else(|error| {
                            // a norm that is not read is the caller's
                            let mut o = options.clone();
                            o.normalized = !o.normalized;
                            let found = reader.layer(&o, layer).map_err(|_| error)?;
                            normalized |= o.normalized;
                            Ok(found)
                        })
                    };
                    let layers = match layers(part, stack) {
                        Ok(count) => (0..count).map(&mut read).collect(),
                        Err(error) => vec![Err(error)],
                    };
                    defaults.extend(reader.defaults);
                    (stack, layers)
                };
                ConfigAttention::Stacks(list.into_iter().map(read).collect())
            }
        },
    };
    defaults.sort_by(|a: &(String, Value), b| a.0.cmp(&b.0));
    defaults.dedup_by(|a, b| a.0 == b.0);
    let (path, model_type) = (part.path.clone(), part.model_type.to_string());
    ConfigPart { path, model_type, stated: part.stated, attention, normalized, defaults }
}

/// The stacks of a part, its own first; an error where it is not read.
fn stacks(part: &Part) -> Result<Vec<Stack>> {
    let c = part.dict();
    match part.model {
        Some(Model::Row(family) | Model::Other(family, _)) => family.stacks(&c),
        Some(Model::Seq2Seq(..) | Model::Seq2SeqBy(..)) => Ok(vec![Stack::Encoder, Stack::Decoder, Stack::Cross]),
        Some(Model::Nothing(what)) => {
            Err(c.error("model_type", format!("is {}: {what}", part.model_type), "it has no attention"))
        }
        Some(Model::Composite) => Err(c.error("model_type", "has no attention by itself", "name a part")),
        Some(Model::Refused(needs)) => {
            let problem = format!("{} is not supported", shown(&part.model_type.into()));
            Err(c.error("model_type", problem, format!("needs {needs}")))
        }
        None => {
            let start: String = part.model_type.chars().take(4).collect();
            let near: Vec<&str> = model_types().filter(|name| !start.is_empty() && name.starts_with(&start)).collect();
            let nested = if c.has("text_config") { " (of a composite model, give its text_config)" } else { "" };
            let near = if near.is_empty() { String::new() } else { format!(", among them {}", near.join(", ")) };
            let problem = format!("{} is not supported", shown(&part.model_type.into()));
            let help = format!("supported are {} model types{near}{nested}", model_types().count());
            Err(c.error("model_type", problem, help))
        }
    }
}

fn layers(part: &Part, stack: Stack) -> Result<u32> {
    let c = part.dict();
    match part.model {
        Some(Model::Row(family) | Model::Other(family, _)) => family.count(&c),
        Some(Model::Seq2Seq(encoder, decoder) | Model::Seq2SeqBy(encoder, decoder, _)) => match stack {
            Stack::Encoder => encoder.count(&c),
            Stack::Decoder | Stack::Cross => decoder.count(&c),
        },
        _ => Ok(0),
    }
}

/// One stack of a part, of which layers are read one by one.
struct Reader<'p, 'a> {
    part: &'p Part<'a>,
    all: &'p [Part<'a>],
    stack: Stack,
    /// What the class takes where the file says nothing.
    defaults: Vec<(String, Value)>,
    /// The dictionary of layers that have none of their own, and what kind each layer is.
    shared: Option<(Dict<'a>, Vec<Layer>)>,
}

impl<'p, 'a> Reader<'p, 'a> {
    fn new(part: &'p Part<'a>, all: &'p [Part<'a>], stack: Stack) -> Self {
        Reader { part, all, stack, defaults: Vec::new(), shared: None }
    }

    /// The family whose layers these are.
    fn family(&self) -> Option<&'static Family> {
        match (self.part.model?, self.stack) {
            (Model::Row(family) | Model::Other(family, _), _) => Some(family),
            (Model::Seq2Seq(encoder, _) | Model::Seq2SeqBy(encoder, ..), Stack::Encoder) => Some(encoder),
            (Model::Seq2Seq(_, decoder) | Model::Seq2SeqBy(_, decoder, _), _) => Some(decoder),
            _ => None,
        }
    }

    /// Whether layers may differ.
    fn uniform(&self) -> bool {
        let data = matches!(self.part.model, Some(Model::Row(_) | Model::Seq2Seq(..)));
        data && !self.part.map.contains_key("per_layer_config") && self.family().is_some_and(Family::uniform)
    }

    /// One layer, valid, of a file whose other keys say nothing else; `None`: it has no attention.
    fn layer(&mut self, options: &ConfigOptions, layer: u32) -> Result<Option<Spec>> {
        self.read(options, layer).map_err(|error| named(self.part, error))
    }

    fn read(&mut self, options: &ConfigOptions, layer: u32) -> Result<Option<Spec>> {
        let part = self.part;
        let own = part.map.get("per_layer_config").and_then(Value::as_object);
        let own = own.and_then(|map| map.iter().find(|(key, _)| key.parse() == Ok(layer))).map(|(_, own)| own);
        let own = match own {
            Some(Value::Object(own)) => Some(own),
            Some(other) => {
                let problem = format!("is {}", shown(other));
                return Err(part.dict().error(&format!("per_layer_config.{layer}"), problem, "give a dictionary"));
            }
            None => None,
        };
        let fresh = own.is_some() || self.shared.is_none();
        let made = match fresh {
            true => {
                let c = part.dict().at(own);
                c.touch(&["per_layer_config"]);
                let kinds = match (part.model, self.family()) {
                    (Some(Model::Row(_) | Model::Seq2Seq(..)), Some(family)) => family.kinds(&c)?,
                    _ => Vec::new(),
                };
                Some((c, kinds))
            }
            false => None,
        };
        let (c, kinds) = match (&made, &self.shared) {
            (Some((c, kinds)), _) | (None, Some((c, kinds))) => (c, kinds),
            (None, None) => return Ok(None),
        };
        let mut o = options.clone();
        (o.layer, o.stack) = (Some(layer), Some(self.stack));
        let spec = match part.model {
            Some(Model::Row(family)) => family.read(c, &o, self.stack, layer, kinds)?,
            Some(Model::Other(family, read)) => {
                family.touch_all(c);
                Some(read(c, &o)?)
            }
            Some(Model::Seq2Seq(encoder, decoder)) => {
                encoder.touch_all(c);
                decoder.touch_all(c);
                let family = if self.stack == Stack::Encoder { encoder } else { decoder };
                family.read(c, &o, self.stack, layer, kinds)?
            }
            Some(Model::Seq2SeqBy(encoder, decoder, read)) => {
                encoder.touch_all(c);
                decoder.touch_all(c);
                Some(read(c, &o)?)
            }
            _ => None,
        };
        // a layer without attention reads few keys
        if spec.is_some() {
            keys::check(c, part, self.all)?;
        }
        for (key, value) in c.defaulted() {
            if !self.defaults.iter().any(|(known, _)| known == key) {
                self.defaults.push((key.to_string(), value.clone()));
            }
        }
        if let Some(spec) = &spec {
            spec.validate()?;
        }
        if own.is_none() && fresh {
            self.shared = made;
        }
        Ok(spec)
    }
}

impl Spec {
    /// Reads a Hugging Face `config.json`: [`Spec::from_hf_config_with`] and no options.
    ///
    /// ```
    /// use ropewalk::{Mask, Spec};
    /// let spec = Spec::from_hf_config(
    ///     r#"{"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    ///         "rope_theta": 500000.0}"#,
    /// )?;
    /// assert_eq!((spec.num_heads, spec.num_kv_heads, spec.head_dim), (32, 8, 128));
    /// assert_eq!(spec.mask, Mask::causal());
    /// # Ok::<(), ropewalk::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Spec::from_hf_config_with`].
    pub fn from_hf_config(json: &str) -> Result<Spec> {
        Self::from_hf_config_with(json, &ConfigOptions::default())
    }

    /// Reads a Hugging Face `config.json` of one of [`model_types`].
    ///
    /// What the file does not say is what the model's configuration class takes, as transformers 5.24 has it:
    /// [`config_parts`] says which keys those were.
    ///
    /// | from the file | to the spec |
    /// |---|---|
    /// | `num_attention_heads`, `num_key_value_heads`, `head_dim` or `hidden_size` / heads, or what the model calls them | heads and sizes |
    /// | `rope_theta`, or what the model calls it | theta |
    /// | `rope_scaling` or `rope_parameters`, by layer type too | frequencies and attention factor, by [`RopeScaling`](crate::RopeScaling) |
    /// | `mrope_section` | `rotary.streams`, positions by id |
    /// | `partial_rotary_factor`, `rotary_dim`, `qk_rope_head_dim` (latent attention: after the others) | `rotary_dim`, `offset` |
    /// | the model type | pairing, which layers rotate, norm, sinks, plain or two-sided attention |
    /// | `query_pre_attn_scalar`, `attention_multiplier`, `mscale_all_dim`, the model type | `softmax_scale` |
    /// | `attn_logit_softcapping` | `logits_soft_cap` |
    /// | `sliding_window` w, on the layers that have one | `window_left` = w - 1: w keys, the query's own included; encoders: w keys to each side |
    /// | `attention_chunk_size`, `no_rope_layers`, `attn_scale`, `floor_scale`, `use_qk_norm` (Llama 4) | `mask.chunk`; no rotation and `temperature`; `norm` after rotation |
    /// | `layer_types` and the older keys for it | which layers have windows, or no attention |
    /// | `is_causal`: false | no causal mask |
    /// | `rotary_value` (RoFormer) | `rotary.values` |
    /// | `relative_attention_num_buckets`, `relative_attention_max_distance` (T5 and its kin; MPNet: 128) | [`Bias::T5`](crate::Bias::T5) |
    /// | BLOOM; MPT (`alibi_bias_max`); Falcon with `alibi` | [`Bias::Alibi`](crate::Bias::Alibi) |
    /// | `position_embedding_type` (BERT and its kin): `relative_key`, `relative_key_query` | A, B over m - n |
    /// | `pos_att_type`, `position_buckets`, `max_relative_positions` (DeBERTa) | A (c2p), B (p2c), with log buckets from v2 on |
    /// | XLNet (`clamp_len`, `attn_type`), Transformer-XL (`clamp_len`, `mem_len`, `same_length`) | `content_bias`, A with a query bias, segments, window |
    /// | `window_size`, `image_size`, `patch_size` (Swin, BEiT) | [`Bias::Indexed`](crate::Bias::Indexed) over a grid; shifted Swin blocks: one over segments too, `[0, -100]` (Swin v2: -200) for every head; Swin v2: [`Bias::LogCpb`](crate::Bias::LogCpb), cosine `norm`, `head_scale` |
    /// | an indexer (`index_topk`) | `mask.dense`, unless no sequence is longer: its choice is the caller's mask |
    ///
    /// Models with absolute positions add them to the embeddings before the first layer: their attention has no position
    /// term, and the spec is plain. A composite model (Gemma 3, Llama 4, Qwen-VL, ...) gives its text model, or the part
    /// that the options name. Positions are indices unless they have several streams; decoders are causal, aligned
    /// bottom-right. Projections, norms elsewhere and dropout are not part of a spec. Gemma 3 stores the weights of its norm
    /// less 1.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) that names the key: an unknown `model_type` or `rope_type`, an unknown key in a rope
    /// dictionary, a missing size, two keys that disagree, a layer needed or out of range, a feature that no spec has
    /// (a layer norm of q and k, ...), a key that speaks of attention and that this model type does not have.
    /// [`Error::Spec`](crate::Error::Spec) where the result is not a valid spec.
    pub fn from_hf_config_with(json: &str, options: &ConfigOptions) -> Result<Spec> {
        let file = parse(json)?;
        let all = parts(&file)?;
        let part = chosen(&all, options)?;
        let c = part.dict();
        let list = stacks(part)?;
        let stack = match options.stack {
            None => list.first().copied().unwrap_or(Stack::Decoder),
            Some(stack) if list.contains(&stack) => stack,
            Some(stack) => return Err(no_stack(&c, part, stack)),
        };
        let count = layers(part, stack).map_err(|error| named(part, error))?;
        let mut reader = Reader::new(part, &all, stack);
        let uniform = reader.uniform();
        let mut read = |layer| reader.layer(options, layer);
        let spec = match options.layer {
            Some(layer) if layer >= count => {
                let key = part.count_key();
                let problem = format!("means {count} layers, and layer {layer} was asked for");
                return Err(c.error(key, problem, "layers count from 0"));
            }
            Some(layer) => match read(layer)? {
                Some(spec) => spec,
                None => {
                    let problem = format!("has a layer {layer} without attention");
                    return Err(c.error("layer_types", problem, "ask for a layer that has attention"));
                }
            },
            None => {
                let mut first: Option<(u32, Spec)> = None;
                for layer in 0..if uniform { 1 } else { count } {
                    match (read(layer), &first) {
                        (Ok(Some(spec)), None) => first = Some((layer, spec)),
                        (Ok(None), _) => {}
                        (Ok(Some(spec)), Some((_, known))) if spec == *known => {}
                        (Ok(Some(_)), Some(_)) => return Err(differ(&c, part, count)),
                        // layers before it were read
                        (Err(_), Some(_)) => return Err(differ(&c, part, count)),
                        (Err(error), None) => return Err(error),
                    }
                }
                let none = || c.error("layer_types", "has no layer with attention", "there is nothing to read");
                first.ok_or_else(none)?.1
            }
        };
        let mut spec = spec;
        if options.config_dtype {
            let whole = all.first().map(|whole| whole.dict());
            let outside = whole.as_ref().map_or(Ok(None), dtype)?;
            spec.dtype = dtype(&c)?.or(outside).unwrap_or(Dtype::F32);
        }
        Ok(spec)
    }
}

/// An error of a file whose type has another name: which, and that its class is not known.
fn named(part: &Part, error: Error) -> Error {
    let newer = crate::hf::models::same(part.model_type);
    match error {
        Error::Config { field, problem, help } if newer != part.model_type => {
            let help =
                format!("{help} ({} is read as {newer}, and what its class takes is not known)", part.model_type);
            Error::Config { field, problem, help }
        }
        other => other,
    }
}

/// The part that the options name, else the whole, else what is nearest to text in it.
fn chosen<'p, 'a>(all: &'p [Part<'a>], options: &ConfigOptions) -> Result<&'p Part<'a>> {
    let whole = all.first().ok_or_else(|| Error::config("(file)", "is empty", "give a model's config.json"))?;
    match &options.part {
        Some(path) => all.iter().find(|part| part.path == *path).ok_or_else(|| {
            let paths: Vec<&str> = all.iter().map(|part| part.path.as_str()).filter(|path| !path.is_empty()).collect();
            let help = match paths.is_empty() {
                true => "this file has no parts".to_string(),
                false => format!("its parts are {}", paths.join(", ")),
            };
            whole.dict().error(path, "is no part of the file", help)
        }),
        None => {
            let deeper = |part: &Part| matches!(part.model, Some(Model::Composite));
            let mut part = whole;
            // of a model whose encoder is not read the decoder may be
            if let (Some(Model::Refused(_)), Some(stack)) = (whole.model, options.stack) {
                let has = |part: &&Part| stacks(part).is_ok_and(|list| list.contains(&stack));
                part = all.iter().find(|part| part.path.starts_with('#') && has(part)).unwrap_or(whole);
            }
            while deeper(part) {
                let prefix = if part.path.is_empty() { String::new() } else { format!("{}.", part.path) };
                let direct = |inner: &&Part| {
                    inner.path.strip_prefix(&prefix).is_some_and(|rest| !rest.is_empty() && !rest.contains('.'))
                };
                let needs = part.map.get("text_config").is_some_and(Value::is_null);
                // an encoder and a decoder may be two configurations
                let has = |inner: &&Part| {
                    let Some(stack) = options.stack else { return false };
                    deeper(inner) || stacks(inner).is_ok_and(|list| list.contains(&stack))
                };
                let next = all.iter().filter(direct).find(has).or_else(|| all.iter().find(direct));
                match next {
                    Some(next) if !needs => part = next,
                    _ => return Err(part.dict().error("text_config", "is missing", "give the model's parts")),
                }
            }
            Ok(part)
        }
    }
}

fn differ(c: &Dict, part: &Part, count: u32) -> Error {
    let key = part.differing_key(c);
    c.error(key, "means layers that differ", format!("say which layer, 0 to {}", count.max(1) - 1))
}

fn no_stack(c: &Dict, part: &Part, stack: Stack) -> Error {
    let crossing = part.model.is_some_and(|model| {
        let (Model::Row(family) | Model::Other(family, _)) = model else { return false };
        matches!(family.cross, crate::hf::family::Cross::Flag)
    });
    if stack == Stack::Cross && crossing {
        return c.error("add_cross_attention", "is not true", "ask for the stack that the model has");
    }
    if part.map.contains_key("attn_type") {
        return c.error("attn_type", "is another stack", "ask for the stack that the model has");
    }
    let is = match stacks(part).ok().and_then(|list| list.first().copied()) {
        Some(Stack::Encoder) => "an encoder without a decoder",
        _ => "a decoder without an encoder",
    };
    c.error("model_type", format!("is {is}"), "ask for no stack, or for its own")
}

fn dtype(c: &Dict) -> Result<Option<Dtype>> {
    let (new, old) = (c.text("dtype")?, c.text("torch_dtype")?);
    match agree(c, "torch_dtype", new, old)? {
        None => Ok(None),
        Some("float32") => Ok(Some(Dtype::F32)),
        Some("float16") => Ok(Some(Dtype::F16)),
        Some("bfloat16") => Ok(Some(Dtype::Bf16)),
        Some(other) => Err(c.error(
            if new.is_some() { "dtype" } else { "torch_dtype" },
            format!("{other:?} is not a storage type of q, k and v"),
            "give float32, float16 or bfloat16",
        )),
    }
}
