//! Tensors of a safetensors file by their names.

use crate::Result;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A tensor, row-major.
#[derive(Debug, Clone)]
pub struct Values {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: Vec<f64>,
}

/// A file, or several of one model.
#[derive(Debug, Default)]
pub struct Tensors {
    all: BTreeMap<String, Values>,
    /// Text beside the tensors.
    pub metadata: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

impl Tensors {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let bytes = std::fs::read(path).map_err(|e| named(&e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| named(&e))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| named(&e))?;
        let mut all = BTreeMap::new();
        for (name, tensor) in file.tensors() {
            let data = tensor.data();
            let data: Vec<f64> = match tensor.dtype() {
                Dtype::F64 => chunks(data).map(f64::from_le_bytes).collect(),
                Dtype::F32 => chunks(data).map(|b| f32::from_le_bytes(b) as f64).collect(),
                Dtype::BF16 => chunks(data).map(|b: [u8; 2]| f32::from_le_bytes([0, 0, b[0], b[1]]) as f64).collect(),
                Dtype::I64 => chunks(data).map(|b| i64::from_le_bytes(b) as f64).collect(),
                Dtype::I32 => chunks(data).map(|b| i32::from_le_bytes(b) as f64).collect(),
                Dtype::U32 => chunks(data).map(|b| u32::from_le_bytes(b) as f64).collect(),
                other => {
                    return Err(named(&format!("{name} is {other:?}; give f64, f32, bf16, i64, i32 or u32")).into());
                }
            };
            all.insert(name, Values { shape: tensor.shape().to_vec(), data });
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Tensors { all, metadata, taken: BTreeSet::new() })
    }
    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(String::as_str)
    }
    /// The tensor of this name, if there is one.
    pub fn find(&mut self, name: &str) -> Option<Values> {
        let found = self.all.get(name).cloned();
        if found.is_some() {
            self.taken.insert(name.to_string());
        }
        found
    }
    /// The tensor of this name.
    pub fn get(&mut self, name: &str) -> Result<Values> {
        self.find(name).ok_or_else(|| format!("tensor {name}: is not in the file").into())
    }
    /// The first of several names that is there.
    pub fn first(&mut self, names: &[String]) -> Result<Values> {
        let found = names.iter().find(|name| self.has(name)).cloned();
        found.map_or_else(|| Err(format!("tensors {names:?}: none is in the file").into()), |name| self.get(&name))
    }
    /// What nothing has asked for.
    pub fn left(&self) -> Vec<&str> {
        self.all.keys().filter(|name| !self.taken.contains(*name)).map(String::as_str).collect()
    }
}

fn chunks<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.chunks_exact(N).map(|b| b.try_into().unwrap_or([0; N]))
}
