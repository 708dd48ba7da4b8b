//! Files: text and safetensors in, safetensors out. Nothing that a file says is believed before it is checked.

use crate::report;
use ropewalk::{Data, Dtype, Error, Result};
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype as Stored, serialize};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The largest header of a safetensors file, as the format has it.
const MAX_HEADER: u64 = 100_000_000;

/// A file that is read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `ropewalk::Spec` as JSON.
    Spec,
    /// A model's config.json.
    Config,
    /// What `bench --json` or `--format json` printed.
    Results,
    /// A page that holds the table of systems.
    Page,
    /// A golden case.
    Case,
    /// What `validate --report` wrote.
    Record,
    /// Known issues.
    Known,
}

impl Kind {
    /// What it is called, how many bytes it may have, what to give.
    fn rule(self) -> (&'static str, u64, &'static str) {
        match self {
            Kind::Spec => ("a spec file", 8 << 20, "give a readable JSON file"),
            Kind::Config => ("a config.json", 8 << 20, "give a readable JSON file"),
            Kind::Results => {
                ("a file of results", 64 << 20, "give what `ropewalk bench --json` or `--format json` printed")
            }
            Kind::Page => ("a page", 8 << 20, "give a readable text file"),
            Kind::Record => ("a record", 256 << 20, "give the record.json that `ropewalk validate --report DIR` wrote"),
            Kind::Known => (
                "a list of known issues",
                8 << 20,
                "give a JSON list of {\"adapter\": WORDS, \"address\": WORDS, \"link\": WHERE IT IS TOLD}",
            ),
            Kind::Case => ("a golden case", 256 << 20, "give safetensors with `system` and `parameters`"),
        }
    }
}

/// The bytes of a file. One without an end, such as a device or a pipe, is read up to the limit of its kind.
pub fn bytes(path: &Path, kind: Kind) -> Result<Vec<u8>> {
    let (what, most, help) = kind.rule();
    let bad = |problem: String| Error::input(path.display().to_string(), problem, help);
    let io = |e: std::io::Error| bad(format!("cannot be read: {e}"));
    if kind == Kind::Case {
        regular(path, help)?;
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(io)?;
    match bytes.len() as u64 > most {
        true => Err(bad(format!("is larger than {}, the limit of {what}", report::bytes(most)))),
        false => Ok(bytes),
    }
}

/// Refuses pipes and devices, before opening one waits for its other end.
fn regular(path: &Path, help: &str) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(Error::input(path.display().to_string(), "is not a regular file", help)),
        _ => Ok(()),
    }
}

/// The text of a file.
pub fn text(path: &Path, kind: Kind) -> Result<String> {
    let bad = |e| Error::input(path.display().to_string(), format!("cannot be read: {e}"), kind.rule().2);
    String::from_utf8(bytes(path, kind)?).map_err(bad)
}

/// A value from JSON text; an error names the file, the place and the key near it.
pub fn json<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        let line = text.lines().nth(e.line().saturating_sub(1)).unwrap_or_default();
        let end = (0..=e.column().min(line.len())).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
        let before = text.lines().take(e.line().saturating_sub(1)).chain([&line[..end]]);
        let key = before.filter_map(|l| l.rsplit_once("\":")?.0.rsplit('"').next()).last();
        let near = key.map_or(String::new(), |key| format!(", near the key `{key}`"));
        Error::input(
            name,
            format!("{e}{near}"),
            "correct it there (JSON has no NaN, no infinity and no number beyond 1.8e308)",
        )
    })
}

/// A safetensors file whose tensors are read when they are asked for.
pub struct TensorFile<R> {
    name: String,
    source: RefCell<R>,
    /// Where the tensors' bytes begin.
    start: u64,
    metadata: Metadata,
    read: RefCell<BTreeSet<String>>,
}

impl TensorFile<File> {
    /// Opens a file and checks its header.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        regular(path, "give a safetensors file")?;
        let bad = |problem: String| Error::input(&name, problem, "give a safetensors file");
        let file = File::open(path).map_err(|e| bad(format!("cannot be read: {e}")))?;
        Self::new(name, file)
    }
}

impl<B: AsRef<[u8]>> TensorFile<Cursor<B>> {
    /// A file's bytes.
    pub fn parse(name: &str, bytes: B) -> Result<Self> {
        Self::new(name.to_string(), Cursor::new(bytes))
    }
}

impl<R: Read + Seek> TensorFile<R> {
    fn new(name: String, mut source: R) -> Result<Self> {
        let bad =
            |problem: String| Error::input(&name, problem, "give a whole safetensors file; was its transfer cut off?");
        let io = |e: std::io::Error| bad(format!("cannot be read: {e}"));
        let len = source.seek(SeekFrom::End(0)).and_then(|len| source.rewind().map(|()| len)).map_err(io)?;
        let mut word = [0; 8];
        if len < 8 {
            return Err(bad(format!("is not a safetensors file: it has {len} bytes")));
        }
        source.read_exact(&mut word).map_err(io)?;
        let header = u64::from_le_bytes(word);
        if header > MAX_HEADER || header > len - 8 {
            return Err(bad(format!("is not a safetensors file: a header of {header} bytes in a file of {len}")));
        }
        let mut text = vec![0; header as usize];
        source.read_exact(&mut text).map_err(io)?;
        // `Metadata` checks that the tensors lie one after another, each of the size that its shape and type ask for
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| bad(format!("has a bad header: {e}")))?;
        let (start, data) = (8 + header, metadata.data_len() as u64);
        if len - start != data {
            return Err(bad(format!("has {} bytes of tensors, its header announces {data}", len - start)));
        }
        Ok(TensorFile { name, source: RefCell::new(source), start, metadata, read: RefCell::default() })
    }
    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }
    /// The names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }
    /// Type and shape of a tensor; an error that names it where there is none.
    pub fn info(&self, name: &str, help: &str) -> Result<&TensorInfo> {
        self.metadata.info(name).ok_or_else(|| {
            let names = self.metadata.offset_keys().join(", ");
            Error::input(name, format!("is missing from {}, which holds: {names}", self.name), help)
        })
    }
    /// A tensor's bytes, which the header's check made as many as type and shape ask for.
    fn bytes(&self, name: &str, info: &TensorInfo) -> Result<Vec<u8>> {
        let (from, to) = info.data_offsets;
        let n = to - from;
        let mut bytes = Vec::new();
        // room for the elements too, which are made of the bytes
        bytes.try_reserve_exact(n.saturating_mul(2)).map_err(|_| {
            let size = report::bytes(n as u64);
            Error::input(name, format!("holds {size}, more than memory has room for"), "give a smaller tensor")
        })?;
        let mut source = self.source.borrow_mut();
        let at = source.seek(SeekFrom::Start(self.start + from as u64));
        let read = at.and_then(|_| Read::by_ref(&mut *source).take(n as u64).read_to_end(&mut bytes));
        match read {
            Ok(read) if read == n => bytes.shrink_to_fit(),
            Ok(read) => {
                let problem = format!("ends after {read} of {n} bytes in {}", self.name);
                return Err(Error::input(name, problem, "was its transfer cut off?"));
            }
            Err(e) => return Err(Error::input(name, format!("cannot be read from {}: {e}", self.name), "try again")),
        }
        self.read.borrow_mut().insert(name.to_string());
        Ok(bytes)
    }
    /// Shape and elements of an f32, f16 or bf16 tensor.
    pub fn floats(&self, name: &str, help: &str) -> Result<(Vec<usize>, Data)> {
        let info = self.info(name, help)?;
        let dtype = match info.dtype {
            Stored::F32 => Dtype::F32,
            Stored::F16 => Dtype::F16,
            Stored::BF16 => Dtype::Bf16,
            other => return Err(wrong_type(name, other, "F32, F16 or BF16")),
        };
        Ok((info.shape.clone(), Data::from_bytes(dtype, &self.bytes(name, info)?)))
    }
    /// Shape and elements of an i32 or i64 tensor, every element within i32.
    pub fn integers(&self, name: &str, help: &str) -> Result<(Vec<usize>, Vec<i32>)> {
        let info = self.info(name, help)?;
        let bytes = || self.bytes(name, info);
        let values = match info.dtype {
            Stored::I32 => bytes()?.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect(),
            Stored::I64 => {
                let wide = |b: &[u8; 8]| i64::from_le_bytes(*b);
                let narrow = |x: i64| {
                    i32::try_from(x).map_err(|_| {
                        let limit = format!("give values from {} to {}, the range of i32", i32::MIN, i32::MAX);
                        Error::input(name, format!("holds {x}, which is over the limit"), limit)
                    })
                };
                bytes()?.as_chunks().0.iter().map(wide).map(narrow).collect::<Result<_>>()?
            }
            other => return Err(wrong_type(name, other, "I32 or I64")),
        };
        Ok((info.shape.clone(), values))
    }
    /// Shape and elements of a bool tensor, or of a u8 tensor of 0 and 1.
    pub fn bools(&self, name: &str, help: &str) -> Result<(Vec<usize>, Vec<bool>)> {
        let info = self.info(name, help)?;
        if !matches!(info.dtype, Stored::BOOL | Stored::U8) {
            return Err(wrong_type(name, info.dtype, "BOOL or U8"));
        }
        let bytes = self.bytes(name, info)?;
        match bytes.iter().find(|b| **b > 1) {
            Some(b) => Err(Error::input(name, format!("holds the byte {b}"), "give 0 (hidden) and 1 (attend)")),
            None => Ok((info.shape.clone(), bytes.iter().map(|b| *b == 1).collect())),
        }
    }
    /// Shape and bytes of a u8 tensor.
    pub fn raw(&self, name: &str, help: &str) -> Result<(Vec<usize>, Vec<u8>)> {
        let info = self.info(name, help)?;
        match info.dtype {
            Stored::U8 => Ok((info.shape.clone(), self.bytes(name, info)?)),
            other => Err(wrong_type(name, other, "U8")),
        }
    }
    /// Whether a tensor is of floats.
    pub fn is_float(&self, name: &str) -> bool {
        self.metadata.info(name).is_some_and(|info| matches!(info.dtype, Stored::F32 | Stored::F16 | Stored::BF16))
    }
    /// How many dimensions a tensor has.
    pub fn rank(&self, name: &str) -> usize {
        self.metadata.info(name).map_or(0, |info| info.shape.len())
    }
    /// Shape and elements of a tensor of 0 and 1, whatever its type.
    pub fn flags(&self, name: &str) -> Result<(Vec<usize>, Vec<bool>)> {
        let help = "give 1 (attend) and 0 (hidden)";
        let info = self.info(name, help)?;
        let one = |x: f64| match x {
            1.0 => Ok(true),
            0.0 => Ok(false),
            x => Err(Error::input(name, format!("holds {x}"), help)),
        };
        match info.dtype {
            Stored::BOOL | Stored::U8 => self.bools(name, help),
            Stored::I32 | Stored::I64 => {
                let (shape, values) = self.integers(name, help)?;
                Ok((shape, values.into_iter().map(|x| one(x as f64)).collect::<Result<_>>()?))
            }
            _ => {
                let (shape, data) = self.floats(name, help)?;
                let seen: Vec<bool> = data.to_f32().into_iter().map(|x| one(x as f64)).collect::<Result<_>>()?;
                match seen.contains(&true) {
                    true => Ok((shape, seen)),
                    // all hidden, or nothing added
                    false => Err(Error::input(name, "is of floats and holds only 0", "give it as bool or as integers")),
                }
            }
        }
    }
    /// The tensors that nobody has read, in the file's order.
    pub fn ignored(&self) -> Vec<String> {
        let read = self.read.borrow();
        self.metadata.offset_keys().into_iter().filter(|name| !read.contains(name)).collect()
    }
}

fn wrong_type(name: &str, found: Stored, wanted: &str) -> Error {
    Error::input(name, format!("is of type {found:?}"), format!("store it as {wanted}"))
}

/// The name under which a file is written, beside the target.
fn unfinished(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy();
    Some(path.with_file_name(format!(".{name}.{}.tmp", std::process::id())))
}

/// Whether a file can be made where `path` says, without leaving one: asked before the work, not after it.
pub fn check_writable(path: &Path) -> Result<()> {
    let bad = |problem: String| {
        Error::input(format!("--output {}", path.display()), problem, "name a file in a folder that can be written")
    };
    let path = target(path).map_err(bad)?;
    let Some(probe) = unfinished(&path) else {
        return Err(bad("has no file name".into()));
    };
    let made = OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|_| fs::remove_file(&probe));
    made.map_err(|e| bad(format!("cannot be written: {e}")))
}

/// Where a link leads, so that the file itself is replaced; devices and pipes are refused.
fn target(path: &Path) -> std::result::Result<PathBuf, String> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err("is a folder".into()),
        Ok(found) if !found.is_file() => Err("is not a regular file".into()),
        Ok(_) => fs::canonicalize(path).map_err(|e| e.to_string()),
        Err(_) => Ok(path.to_path_buf()),
    }
}

/// Writes a safetensors file, whole or not at all.
pub fn write(
    path: &Path,
    tensors: Vec<(&str, Stored, Vec<usize>, &[u8])>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let views: std::result::Result<Vec<_>, _> = tensors
        .into_iter()
        .map(|(name, dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).map(|view| (name, view)))
        .collect();
    let bytes = views.and_then(|views| serialize(views, Some(metadata)));
    replace("--output", path, &bytes.map_err(|e| unwritten("--output", path, e))?)
}

fn unwritten(option: &str, path: &Path, problem: impl Display) -> Error {
    Error::input(
        format!("{option} {}", path.display()),
        format!("cannot be written: {problem}"),
        "name a file in a folder that can be written; is the disk full?",
    )
}

/// Writes a file: beside the target under another name, then renamed, so that there is never half a file.
pub fn replace(option: &str, path: &Path, bytes: &[u8]) -> Result<()> {
    let bad = |problem: String| unwritten(option, path, problem);
    let path = target(path).map_err(bad)?;
    let part = unfinished(&path).ok_or_else(|| bad("it has no name".into()))?;
    fs::write(&part, bytes).and_then(|()| fs::rename(&part, &path)).map_err(|e| {
        fs::remove_file(&part).ok();
        bad(e.to_string())
    })
}
