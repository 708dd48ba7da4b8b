//! Golden case files: one `.safetensors` file is one case, with its system and parameters in the metadata.

use crate::files::{self, Kind};
use ropewalk::{Data, Dtype, Error, Result};
use safetensors::{Dtype as Stored, SafeTensors};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// One case as it stands in its file.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The folder and the file's name without its extension: how reports call the case. Decides nothing.
    pub name: String,
    /// `system` of the metadata.
    pub system: String,
    /// `parameters` of the metadata.
    pub parameters: Parameters,
    /// Every tensor by name.
    pub tensors: Tensors,
}

/// A tensor of a file, its elements widened to one of four kinds.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Row-major.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Values,
}

/// The elements of a tensor.
#[derive(Debug, Clone)]
pub enum Values {
    /// f32, f16 or bf16.
    Float(Data),
    /// f64.
    Double(Vec<f64>),
    /// i8 to i64, u8 to u32.
    Int(Vec<i64>),
    /// bool.
    Bool(Vec<bool>),
}

/// Reads a case.
pub fn read(path: &Path) -> Result<Golden> {
    parse(path, &files::bytes(path, Kind::Case)?)
}

/// A case from a file's bytes. What is none, or whose header lies, is an error that says so.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Golden> {
    let help = "give a golden case: safetensors with `system` and `parameters`";
    let bad = |problem: String| Error::input(path.display().to_string(), problem, help);
    let not = |e: safetensors::SafeTensorError| bad(format!("is not a safetensors file: {e}"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(not)?;
    let file = SafeTensors::deserialize(bytes).map_err(not)?;
    let text = |key: &str| {
        let found = header.metadata().as_ref().and_then(|m| m.get(key));
        found.ok_or_else(|| bad(format!("is not a golden case: `{key}` is missing from its metadata")))
    };
    let parameters: Map<String, Value> = serde_json::from_str(text("parameters")?)
        .map_err(|e| bad(format!("holds `parameters` that are not JSON: {e}")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let values = values(view.dtype(), view.data())
            .ok_or_else(|| bad(format!("holds tensor `{name}` of type {:?}, which no case uses", view.dtype())))?;
        tensors.insert(name, Entry { shape: view.shape().to_vec(), values });
    }
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let folder =
        path.parent().and_then(Path::file_name).map(|f| format!("{}/", f.to_string_lossy())).unwrap_or_default();
    Ok(Golden {
        name: format!("{folder}{stem}"),
        system: text("system")?.clone(),
        parameters: parameters.into(),
        tensors: Tensors(tensors),
    })
}

fn values(dtype: Stored, bytes: &[u8]) -> Option<Values> {
    /// Fixed-size pieces of the bytes, each turned into a number.
    fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.chunks_exact(N).filter_map(|c| c.try_into().ok()).map(f).collect()
    }
    Some(match dtype {
        Stored::F32 => Values::Float(Data::from_bytes(Dtype::F32, bytes)),
        Stored::F16 => Values::Float(Data::from_bytes(Dtype::F16, bytes)),
        Stored::BF16 => Values::Float(Data::from_bytes(Dtype::Bf16, bytes)),
        Stored::F64 => Values::Double(each(bytes, f64::from_le_bytes)),
        Stored::I64 => Values::Int(each(bytes, i64::from_le_bytes)),
        Stored::I32 => Values::Int(each(bytes, |b| i32::from_le_bytes(b) as i64)),
        Stored::U32 => Values::Int(each(bytes, |b| u32::from_le_bytes(b) as i64)),
        Stored::I16 => Values::Int(each(bytes, |b| i16::from_le_bytes(b) as i64)),
        Stored::I8 => Values::Int(each(bytes, |b| i8::from_le_bytes(b) as i64)),
        Stored::U8 => Values::Int(each(bytes, |[b]: [u8; 1]| b as i64)),
        Stored::BOOL => Values::Bool(bytes.iter().map(|b| *b != 0).collect()),
        _ => return None,
    })
}

/// Every case file under the paths, in order: a file stands for itself, a folder for the `.safetensors` files in it
/// and below.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        walk(path, &mut found, 0)?;
        if path.is_dir() && found.len() == before {
            return Err(Error::input(
                path.display().to_string(),
                "holds no .safetensors file",
                "give a case file or a folder of them",
            ));
        }
    }
    Ok(found)
}

/// Folders deeper than this are left alone: a link that leads back up ends here.
const MAX_DEPTH: u32 = 16;

fn walk(path: &Path, found: &mut Vec<PathBuf>, depth: u32) -> Result<()> {
    let bad =
        |e: std::io::Error| Error::input(path.display().to_string(), e.to_string(), "give a readable file or folder");
    if !std::fs::metadata(path).map_err(bad)?.is_dir() {
        found.push(path.to_path_buf());
        return Ok(());
    }
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(path).and_then(Iterator::collect);
    let mut entries: Vec<PathBuf> = entries.map_err(bad)?.into_iter().map(|e| e.path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() && depth < MAX_DEPTH || entry.extension().is_some_and(|e| e == "safetensors") {
            walk(&entry, found, depth + 1)?;
        }
    }
    Ok(())
}

/// `parameters`, or an object within them. Who builds a spec reads what it uses; what is left over at the end nobody understood.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    values: Map<String, Value>,
    /// Where the object stands: empty, or a path that ends in a dot.
    path: String,
    /// The paths of what was read, of the whole case.
    read: Rc<RefCell<BTreeSet<String>>>,
}

impl From<Map<String, Value>> for Parameters {
    fn from(values: Map<String, Value>) -> Self {
        Parameters { values, ..Parameters::default() }
    }
}

impl Parameters {
    /// A parameter as `kind` makes of it, read only where it is of that kind.
    fn read<'a, T>(&'a self, name: &str, kind: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = kind(self.values.get(name)?)?;
        self.read.borrow_mut().insert(format!("{}{name}", self.path));
        Some(value)
    }
    /// An object that is read piece by piece.
    fn open(&self, name: &str, values: &Map<String, Value>) -> Parameters {
        let path = format!("{}{name}.", self.path);
        self.read.borrow_mut().insert(path.clone());
        Parameters { values: values.clone(), path, read: self.read.clone() }
    }
    /// Whether there is such a parameter, null or not.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }
    /// Whether there is such a parameter that is not null.
    pub fn given(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| !value.is_null())
    }
    /// Whether the parameter says something: present, and neither null nor false. That alone reads true and false, nothing else.
    pub fn set(&self, name: &str) -> bool {
        self.bool(name).unwrap_or_else(|| self.given(name))
    }
    /// True or false.
    pub fn bool(&self, name: &str) -> Option<bool> {
        self.read(name, Value::as_bool)
    }
    /// A number that is not null.
    pub fn f64(&self, name: &str) -> Option<f64> {
        self.read(name, Value::as_f64)
    }
    /// A whole number from 0.
    pub fn u32(&self, name: &str) -> Option<u32> {
        self.read(name, |value| value.as_u64()?.try_into().ok())
    }
    /// A whole number.
    pub fn i64(&self, name: &str) -> Option<i64> {
        self.read(name, Value::as_i64)
    }
    /// Text.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.read(name, Value::as_str)
    }
    /// A list.
    pub fn list(&self, name: &str) -> &[Value] {
        self.read(name, Value::as_array).map_or(&[], Vec::as_slice)
    }
    /// The objects of a list.
    pub fn objects(&self, name: &str) -> Vec<Parameters> {
        let object = |(n, value): (usize, &Value)| Some(self.open(&format!("{name}[{n}]"), value.as_object()?));
        self.list(name).iter().enumerate().filter_map(object).collect()
    }
    /// An object.
    pub fn object(&self, name: &str) -> Option<Parameters> {
        Some(self.open(name, self.values.get(name)?.as_object()?))
    }
    /// An object as a whole, for a reader that refuses what it does not know.
    pub fn dictionary(&self, name: &str) -> Option<&Map<String, Value>> {
        self.read(name, Value::as_object)
    }
    /// Where everything stands that nobody read; null says nothing.
    pub fn unread(&self) -> Vec<String> {
        fn walk(read: &BTreeSet<String>, path: String, value: &Value, unread: &mut Vec<String>) {
            let opened = |path: &str| read.contains(&format!("{path}."));
            match value {
                Value::Null => {}
                Value::Object(values) if opened(&path) => {
                    values.iter().for_each(|(name, value)| walk(read, format!("{path}.{name}"), value, unread));
                }
                Value::Array(list) if (0..list.len()).any(|n| opened(&format!("{path}[{n}]"))) => {
                    list.iter().enumerate().for_each(|(n, value)| walk(read, format!("{path}[{n}]"), value, unread));
                }
                _ if read.contains(&path) => {}
                _ => unread.push(path),
            }
        }
        let (read, mut unread) = (self.read.borrow(), Vec::new());
        self.values.iter().for_each(|(name, value)| walk(&read, format!("{}{name}", self.path), value, &mut unread));
        unread
    }
}
/// A case's tensors. Who builds a spec takes what it uses; what is left over at the end nobody understood.
#[derive(Debug, Clone)]
pub struct Tensors(pub BTreeMap<String, Entry>);

impl Tensors {
    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
    /// The tensor, if there is one.
    pub fn take(&mut self, name: &str) -> Option<Entry> {
        self.0.remove(name)
    }
    /// The tensor, or an error that names it.
    pub fn need(&mut self, name: &str) -> Result<Entry> {
        self.take(name).ok_or_else(|| Error::input(name, "is missing from the case", "add the tensor to the file"))
    }
    /// The first tensor whose name starts so.
    pub fn take_prefix(&mut self, prefix: &str) -> Option<Entry> {
        let name = self.0.keys().find(|k| k.starts_with(prefix))?.clone();
        self.take(&name)
    }
}

impl Entry {
    /// Elements.
    pub fn values_len(&self) -> usize {
        self.shape.iter().product()
    }
    /// The shape as four numbers, ones in front.
    pub fn shape4(&self, name: &str) -> Result<[u32; 4]> {
        let mut shape = [1; 4];
        if self.shape.len() > 4 {
            return Err(self.wrong(name, "at most 4 dimensions"));
        }
        for (to, from) in shape.iter_mut().rev().zip(self.shape.iter().rev()) {
            *to = u32::try_from(*from).map_err(|_| self.wrong(name, "dimensions below 2^32"))?;
        }
        Ok(shape)
    }
    /// f32, f16 or bf16 elements.
    pub fn data(&self, name: &str) -> Result<&Data> {
        match &self.values {
            Values::Float(data) => Ok(data),
            _ => Err(self.wrong(name, "f32, f16 or bf16 elements")),
        }
    }
    /// Numbers of any type, widened exactly.
    pub fn f64s(&self, name: &str) -> Result<Vec<f64>> {
        match &self.values {
            Values::Float(data) => Ok((0..data.len()).map(|i| data.get(i) as f64).collect()),
            Values::Double(v) => Ok(v.clone()),
            Values::Int(v) => Ok(v.iter().map(|x| *x as f64).collect()),
            Values::Bool(_) => Err(self.wrong(name, "numbers")),
        }
    }
    /// f32, f16 or bf16 elements, widened.
    pub fn f32s(&self, name: &str) -> Result<Vec<f32>> {
        self.data(name).map(Data::to_f32)
    }
    /// Integers that fit i32.
    pub fn i32s(&self, name: &str) -> Result<Vec<i32>> {
        let Values::Int(v) = &self.values else { return Err(self.wrong(name, "integers")) };
        v.iter().map(|x| i32::try_from(*x).map_err(|_| self.wrong(name, "integers below 2^31"))).collect()
    }
    /// Whole numbers that fit u32.
    pub fn u32s(&self, name: &str) -> Result<Vec<u32>> {
        let Values::Int(v) = &self.values else { return Err(self.wrong(name, "integers")) };
        v.iter().map(|x| u32::try_from(*x).map_err(|_| self.wrong(name, "integers from 0, below 2^32"))).collect()
    }
    /// Booleans.
    pub fn bools(&self, name: &str) -> Result<&[bool]> {
        match &self.values {
            Values::Bool(v) => Ok(v),
            _ => Err(self.wrong(name, "booleans")),
        }
    }
    /// Whether the elements are f64, which no kernel stores.
    pub fn is_double(&self) -> bool {
        matches!(self.values, Values::Double(_))
    }
    /// An error about this tensor.
    pub fn wrong(&self, name: &str, want: &str) -> Error {
        let kind = match &self.values {
            Values::Float(data) => data.dtype().name(),
            Values::Double(_) => "f64",
            Values::Int(_) => "integer",
            Values::Bool(_) => "bool",
        };
        Error::input(name, format!("is {kind} {:?}", self.shape), format!("this place wants {want}"))
    }
}
