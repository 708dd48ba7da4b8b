//! A JSON dictionary that remembers which keys were read, so that what nobody read can be named.

use crate::error::{Error, Result};
use serde_json::Map;
use serde_json::Value;
use std::cell::RefCell;

/// One dictionary of a configuration. A `null` counts as an absent key.
pub(crate) struct Dict<'a> {
    /// The key under which it stands; empty for the whole file.
    name: String,
    map: &'a Map<String, Value>,
    read: RefCell<Vec<&'static str>>,
}

impl<'a> Dict<'a> {
    pub(crate) fn new(name: impl Into<String>, map: &'a Map<String, Value>) -> Self {
        Dict { name: name.into(), map, read: RefCell::default() }
    }
    /// The key with those of the dictionaries around it.
    pub(crate) fn field(&self, key: &str) -> String {
        if self.name.is_empty() { key.into() } else { format!("{}.{key}", self.name) }
    }
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
    pub(crate) fn error(&self, key: &str, problem: impl Into<String>, help: impl Into<String>) -> Error {
        Error::config(self.field(key), problem, help)
    }
    /// Whether the key stands there, `null` included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }
    /// The value, without noting that it was read.
    pub(crate) fn peek(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }
    pub(crate) fn get(&self, key: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().push(key);
        self.map.get(key).filter(|value| !value.is_null())
    }
    /// A key that nobody read, with its value.
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
