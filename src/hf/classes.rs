//! What a model's configuration class takes where the file says nothing: `classes.jsonl`, which `xtask/classes.py` writes.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

/// One class.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Class {
    /// The class's own name of a common key: `num_attention_heads` is GPT-2's `n_head`.
    #[serde(default)]
    pub(crate) names: HashMap<String, String>,
    /// Defaults of the keys that speak of attention; `null` depends on other keys.
    #[serde(default)]
    pub(crate) keys: Map<String, Value>,
    /// The configurations within it: their `model_type`, and what they have otherwise than their own class. `absent`: only
    /// where the file has one.
    #[serde(default)]
    pub(crate) parts: Map<String, Value>,
}

type Table = HashMap<&'static str, (&'static str, OnceLock<Class>)>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let name = |line: &'static str| line.strip_prefix("{\"type\":\"")?.split('"').next();
    let lines = include_str!("classes.jsonl").lines();
    lines.filter_map(|line| Some((name(line)?, (line, OnceLock::new())))).collect()
});

/// The class of a model type.
pub(crate) fn class(model_type: &str) -> Option<&'static Class> {
    let (line, class) = TABLE.get(model_type)?;
    Some(class.get_or_init(|| serde_json::from_str(line).unwrap_or_default()))
}

/// Every model type of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    TABLE.keys().copied()
}
