//! The configurations within a file: each has a `model_type`, by itself or by the class of the one around it.

use crate::error::Result;
use crate::hf::classes::{Class, class};
use crate::hf::dict::{Dict, shown};
use crate::hf::family::Count;
use crate::hf::models::{Model, lookup};
use crate::hf::read::dictionary;
use serde_json::{Map, Value};

/// One configuration of a file.
pub(crate) struct Part<'a> {
    /// Its keys in the file, empty for the whole: `thinker_config.text_config`.
    pub(crate) path: String,
    /// The keys of its dictionary: those of the one around it where they share one.
    name: String,
    pub(crate) model_type: &'a str,
    pub(crate) map: &'a Map<String, Value>,
    pub(crate) class: Option<&'static Class>,
    /// The row of its type.
    pub(crate) model: Option<&'static Model>,
    /// Whether the file has it; else its class has it so.
    pub(crate) stated: bool,
}

impl<'a> Part<'a> {
    /// The key that says how many layers there are.
    pub(crate) fn count_key(&self) -> &'static str {
        match self.model {
            Some(
                Model::Row(family) | Model::Other(family, _) | Model::Seq2Seq(family, _) | Model::Seq2SeqBy(family, ..),
            ) => match family.count {
                Count::Key(key) | Count::Sum(key) | Count::Either(key, _) | Count::Or(key, _) => key,
                Count::One => "model_type",
            },
            _ => "model_type",
        }
    }
    /// The key that makes layers differ.
    pub(crate) fn differing_key(&self, c: &Dict) -> &'static str {
        let keys = ["layer_types", "layers_block_type", "depths", "scale_attn_by_inverse_layer_idx"];
        keys.into_iter().find(|key| c.has(key)).unwrap_or("model_type")
    }
    pub(crate) fn dict(&self) -> Dict<'a> {
        Dict::new(self.name.clone(), self.map).of(self.class)
    }
}

/// Where the model that reads and writes text stands, in this order.
const TEXT: &[&str] = &[
    "text_config",
    "thinker_config",
    "llm_config",
    "language_config",
    "text_model_config",
    "vlm_config",
    "decoder",
    "decoder_config",
    "text_encoder",
    "text_encoder_config",
    "semantic_config",
    "generator",
    "question_encoder",
    "encoder",
];

/// Everything that a file holds, the whole first, what is nearest to text before the rest.
pub(crate) fn parts<'a>(file: &'a Value) -> Result<Vec<Part<'a>>> {
    let whole = dictionary("", file)?;
    let model_type = whole.need("model_type", whole.text("model_type"))?;
    let mut found = Vec::new();
    add(&mut found, [String::new(), String::new()], model_type, whole.map(), true, 0)?;
    Ok(found)
}

fn add<'a>(
    found: &mut Vec<Part<'a>>,
    [path, name]: [String; 2],
    model_type: &'a str,
    map: &'a Map<String, Value>,
    stated: bool,
    depth: usize,
) -> Result<()> {
    // the class and the row of a newer name
    let known = crate::hf::models::same(model_type);
    // of the class of a name that is not transformers' nothing is known: what its files do not say is missing
    let class = if known == model_type { class(known) } else { None };
    let model = lookup(known);
    let inner = inner(&path, model_type, map, class, model)?;
    found.push(Part { path: path.clone(), name: name.clone(), model_type, map, class, model, stated });
    // further attention that the same dictionary describes
    for (further, model) in crate::hf::models::further(known) {
        let path = if path.is_empty() { further.to_string() } else { format!("{path}.{further}") };
        found.push(Part { path, name: name.clone(), model_type, map, class, model: Some(*model), stated });
    }
    for (key, model_type, own, there) in inner {
        let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        let name = if std::ptr::eq(own, map) { name.clone() } else { path.clone() };
        if depth < 4 {
            add(found, [path, name], model_type, own, stated && there, depth + 1)?;
        }
    }
    Ok(())
}

type Inner<'a> = (&'a str, &'a str, &'a Map<String, Value>, bool);

/// The configurations directly within one: those of the file, and those that its class has without.
fn inner<'a>(
    path: &str,
    model_type: &str,
    map: &'a Map<String, Value>,
    class: Option<&'static Class>,
    model: Option<&'static Model>,
) -> Result<Vec<Inner<'a>>> {
    let mut list: Vec<Inner<'a>> = Vec::new();
    let here = Dict::new(path, map);
    for (key, usual) in class.into_iter().flat_map(|class| &class.parts) {
        let Some(usual) = usual.as_object() else { continue };
        let (absent, any) = (usual.contains_key("absent"), usual.contains_key("any"));
        let expected = usual.get("model_type").and_then(Value::as_str).unwrap_or_default();
        match map.get(key.as_str()) {
            Some(Value::Object(own)) => {
                let name = own.get("model_type").and_then(Value::as_str);
                if let Some(name) = name
                    && name != expected
                    && !any
                    && !expected.is_empty()
                    && crate::hf::models::same(name) != expected
                {
                    let dict = Dict::new(here.field(key), own);
                    let help = format!("here it must be {expected}");
                    return Err(dict.error("model_type", format!("is {}", shown(&name.into())), help));
                }
                match name.unwrap_or(expected) {
                    "" => {}
                    name => list.push((key, name, own, true)),
                }
            }
            Some(value) if !value.is_null() => {
                // a list of configurations, or a name: not one of them
                if key == "text_config" {
                    return Err(here.error(key, format!("is {}", shown(value)), "give a dictionary"));
                }
            }
            // older files have the text model's keys beside the others
            None if key == "text_config" && flat(map) && matches!(model, Some(Model::Composite)) => {
                list.push((key, expected, map, true));
            }
            _ if absent || expected.is_empty() => {}
            _ => list.push((key, expected, usual, false)),
        }
    }
    for (key, value) in map {
        if let Some(own) = value.as_object()
            && let Some(name) = own.get("model_type").and_then(Value::as_str)
            && !list.iter().any(|(known, ..)| known == key)
            && name != model_type
        {
            list.push((key, name, own, true));
        }
    }
    let rank = |key: &str| TEXT.iter().position(|known| *known == key).unwrap_or(TEXT.len());
    list.sort_by_key(|(key, ..)| rank(key));
    Ok(list)
}

fn flat(map: &Map<String, Value>) -> bool {
    map.contains_key("num_attention_heads") && map.contains_key("hidden_size")
}
