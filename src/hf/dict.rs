//! A JSON dictionary that remembers which keys were read, so that what nobody read can be named.

use crate::error::{Error, Result};
use crate::hf::classes::Class;
use serde_json::Map;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// One dictionary of a configuration. A `null` counts as an absent key; a key that the file does not have is what its class
/// takes.
pub(crate) struct Dict<'a> {
    /// The key under which it stands; empty for the whole file.
    name: String,
    map: &'a Map<String, Value>,
    class: Option<&'static Class>,
    /// What one layer has otherwise: its `per_layer_config`.
    layer: Option<&'a Map<String, Value>>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Dict<'a> {
    pub(crate) fn new(name: impl Into<String>, map: &'a Map<String, Value>) -> Self {
        Dict { name: name.into(), map, class: None, layer: None, read: RefCell::default() }
    }
    /// With what a class takes for the keys that are not there.
    pub(crate) fn of(self, class: Option<&'static Class>) -> Self {
        Dict { class, ..self }
    }
    /// With what one layer has otherwise.
    pub(crate) fn at(self, layer: Option<&'a Map<String, Value>>) -> Self {
        Dict { layer, ..self }
    }
    pub(crate) fn class(&self) -> Option<&'static Class> {
        self.class
    }
    /// The key with those of the dictionaries around it.
    pub(crate) fn field(&self, key: &str) -> String {
        if self.name.is_empty() { key.into() } else { format!("{}.{key}", self.name) }
    }
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
    pub(crate) fn map(&self) -> &'a Map<String, Value> {
        self.map
    }
    /// An error of a key, by the name that the file or the class has for it.
    pub(crate) fn error(&self, key: &str, problem: impl Into<String>, help: impl Into<String>) -> Error {
        let other = self.own_name(key).filter(|other| !self.map.contains_key(key) || self.map.contains_key(*other));
        Error::config(self.field(other.unwrap_or(key)), problem, help)
    }
    /// The class's own name of a common key, or the common name of its own.
    fn own_name(&self, key: &str) -> Option<&'static str> {
        let names = &self.class?.names;
        let common = || names.iter().find(|(_, own)| *own == key).map(|(common, _)| common);
        names.get(key).or_else(common).map(String::as_str)
    }
    /// Whether the file has the key, `null` included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key) || self.own_name(key).is_some_and(|other| self.map.contains_key(other))
    }
    /// The file's value, without noting that it was read.
    pub(crate) fn peek(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }
    pub(crate) fn get(&self, key: &'static str) -> Option<&'a Value> {
        let other = self.own_name(key);
        self.read.borrow_mut().extend([Some(key), other].into_iter().flatten());
        // the file's own spelling before the class's
        let of = |map: &'a Map<String, Value>| map.get(key).or_else(|| map.get(other?));
        let found = self.layer.and_then(of).or_else(|| of(self.map)).or_else(|| of(&self.class?.keys));
        found.filter(|value| !value.is_null())
    }
    /// Keys that were read and that the file does not have, with what the class takes.
    pub(crate) fn defaulted(&self) -> Vec<(&'static str, &'static Value)> {
        let Some(class) = self.class else { return Vec::new() };
        let read = self.read.borrow();
        let there = |key: &str| self.has(key) || self.map.contains_key(key);
        let own = |key: &&'static str| Some((*key, class.keys.get(*key).filter(|value| !value.is_null())?));
        read.iter().filter(|key| !there(key)).filter_map(own).collect()
    }
    /// Notes that keys were read.
    pub(crate) fn touch(&self, keys: &[&'static str]) {
        keys.iter().for_each(|key| {
            self.get(key);
        });
    }
    /// A key of the file that nobody read, with its value.
    pub(crate) fn unread(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let read = self.read.borrow().clone();
        self.map.iter().map(|(key, value)| (key.as_str(), value)).filter(move |(key, _)| !read.contains(key))
    }

    fn typed<T>(&self, key: &'static str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(x) => Ok(Some(x)),
                None => Err(self.error(key, format!("is {}", shown(value)), format!("give {what}"))),
            },
        }
    }
    pub(crate) fn number(&self, key: &'static str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }
    pub(crate) fn count(&self, key: &'static str) -> Result<Option<u32>> {
        self.typed(key, "a whole number of at least 0, below 2^32", |value| match (value.as_u64(), value.as_f64()) {
            (Some(n), _) => u32::try_from(n).ok(),
            (None, Some(x)) if x.fract() == 0.0 && (0.0..=u32::MAX as f64).contains(&x) => Some(x as u32),
            _ => None,
        })
    }
    pub(crate) fn flag(&self, key: &'static str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }
    pub(crate) fn text(&self, key: &'static str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }
    pub(crate) fn numbers(&self, key: &'static str) -> Result<Option<Vec<f64>>> {
        self.typed(key, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }
    pub(crate) fn counts(&self, key: &'static str) -> Result<Option<Vec<u32>>> {
        self.typed(key, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(|n| u32::try_from(n.as_u64()?).ok()).collect()
        })
    }
    pub(crate) fn texts(&self, key: &'static str) -> Result<Option<Vec<&'a str>>> {
        self.typed(key, "a list of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }
    /// The value, or an error that the key is missing.
    pub(crate) fn need<T>(&self, key: &'static str, value: Result<Option<T>>) -> Result<T> {
        value?.ok_or_else(|| self.error(key, "is missing", "the configuration must say it"))
    }
}

/// A value as errors print it: not more than a line of it.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
