//! Cases for others to compute, and the results of others: inputs as files that `ropewalk run` reads, results judged by the same bounds.

use crate::cases::Verdict;
use crate::files::{self, TensorFile};
use crate::report;
use crate::tensors::{self, Layout};
use ropewalk::case::{Case, CaseId, Op};
use ropewalk::{Error, Result, check};
use serde::Serialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The files of a case, in a folder of its address.
const SPEC: &str = "spec.json";
const INPUTS: &str = "inputs.safetensors";
const OUTPUT: &str = "output.safetensors";

/// Writes the spec and the inputs of a case into a folder, named as its address is.
///
/// # Errors
/// A case that is more than a spec and tensors: a function of the user's, a state, an embedding.
pub fn write(folder: &Path, id: &CaseId, case: &Case) -> Result<PathBuf> {
    let told = match case.op {
        Op::Attention => "attention: out and lse",
        Op::Scores => "the scores before the softmax",
        Op::Rotate => "the rotated q and k",
        _ => {
            let help = "give an address that begins with attention, scores or rotate";
            return Err(Error::input(
                id.to_string(),
                format!("{} is not computed by `ropewalk run`", case.op.name()),
                help,
            ));
        }
    };
    let all = tensors::named(&case.spec, &case.inputs)
        .map_err(|problem| Error::input(id.to_string(), problem, "give another case: `ropewalk validate --list`"))?;
    let folder = folder.join(id.to_string());
    let bad = |e: std::io::Error| {
        let what = format!("--write-inputs {}", folder.display());
        Error::input(what, format!("cannot be made: {e}"), "name a folder, in one that can be written")
    };
    fs::create_dir_all(&folder).map_err(bad)?;
    let spec = serde_json::to_vec_pretty(&case.spec).map_err(|e| bad(e.into()))?;
    files::replace("--write-inputs", &folder.join(SPEC), &spec)?;
    let views = all.iter().map(|t| (t.name.as_str(), t.dtype, t.shape.clone(), t.bytes.as_slice())).collect();
    let metadata = [
        ("program", concat!("ropewalk ", env!("CARGO_PKG_VERSION")).to_string()),
        ("address", id.to_string()),
        ("wanted", told.to_string()),
        ("layout", Layout::Bhsd.name().to_string()),
    ];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
    files::write(&folder.join(INPUTS), views, metadata)?;
    Ok(folder)
}

/// Results that somebody else computed: one file, or a folder with a file for each case.
pub struct Peer {
    path: PathBuf,
    /// Of one file, whose tensors are named by address, or of one case plainly.
    file: Option<TensorFile<File>>,
    layout: Layout,
    /// Whether one case alone is asked for.
    one: bool,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub address: String,
    pub verdict: Verdict,
    pub tensors: Vec<Compared>,
    /// Results of the case that were not given, and so not judged.
    pub not_given: Vec<&'static str>,
}

/// A result compared with its bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub tensor: &'static str,
    pub shape: Vec<usize>,
    pub elements: u64,
    /// Elements outside of their bound, and how many rows of the last dimension have some.
    pub outside: u64,
    pub rows_outside: u64,
    pub rows: u64,
    /// Elements of which the bound says nothing.
    pub unbounded: u64,
    /// The first element outside, and the one that is furthest; of results that are all within, the nearest to its bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Element>,
    pub worst: Option<Element>,
}

/// One element of a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Element {
    /// By dimension, of the file's tensor.
    pub index: Vec<usize>,
    /// null in JSON where it is not finite.
    pub got: f64,
    pub wanted: f64,
    pub bound: f64,
}

impl Peer {
    /// `one`: whether one case alone is asked for.
    pub fn open(path: &Path, layout: Layout, one: bool) -> Result<Self> {
        let file = if path.is_dir() { None } else { Some(TensorFile::open(path)?) };
        Ok(Peer { path: path.to_path_buf(), file, layout, one })
    }

    /// Whether there may be results of a case.
    pub fn has(&self, id: &CaseId) -> bool {
        let address = id.to_string();
        match &self.file {
            Some(file) => {
                self.one
                    || file
                        .names()
                        .iter()
                        .any(|name| name.strip_prefix(&address).is_some_and(|rest| rest.starts_with('/')))
            }
            None => self.path.join(address).join(OUTPUT).exists(),
        }
    }

    /// Judges a case. None: there are no results of it.
    pub fn judge(&self, id: &CaseId, case: &Case, wanted: &[(&'static str, check::Bounded)]) -> Result<Option<Judged>> {
        let address = id.to_string();
        let own = match &self.file {
            Some(_) => None,
            None => {
                let path = self.path.join(&address).join(OUTPUT);
                if !path.exists() {
                    return Ok(None);
                }
                Some(TensorFile::open(&path)?)
            }
        };
        let Some(file) = own.as_ref().or(self.file.as_ref()) else { return Ok(None) };
        let (mut compared, mut not_given) = (Vec::new(), Vec::new());
        for (name, bounded) in wanted {
            let long = format!("{address}/{name}");
            let found = match (file.has(&long), own.is_some() || self.one) {
                (true, _) => long,
                (false, true) if file.has(name) => name.to_string(),
                _ => {
                    not_given.push(*name);
                    continue;
                }
            };
            compared.push(self.compare(file, &found, name, case, bounded)?);
        }
        if compared.is_empty() && (own.is_some() || self.one) {
            let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
            let help = format!("give one of {}, as F32, F16 or BF16", names.join(", "));
            return Err(Error::input(
                format!("--against {}", self.path.display()),
                format!("has no result of {address}"),
                help,
            ));
        }
        let passed = compared.iter().all(|c| c.outside == 0 && c.unbounded < c.elements);
        let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
        Ok((!compared.is_empty()).then_some(Judged { address, verdict, tensors: compared, not_given }))
    }

    /// Tensors of the one file that no case has read.
    pub fn ignored(&self) -> Vec<String> {
        self.file.as_ref().map(TensorFile::ignored).unwrap_or_default()
    }

    fn compare(
        &self,
        file: &TensorFile<File>,
        found: &str,
        name: &'static str,
        case: &Case,
        bounded: &check::Bounded,
    ) -> Result<Compared> {
        let shape = shape(case, name, bounded.value.len());
        // bounds have tokens before heads
        let swapped = shape.len() == 4 && matches!(name, "out" | "q" | "k") && self.layout == Layout::Bhsd;
        let of_file: Vec<usize> = match shape[..] {
            [a, b, c, d] if swapped => vec![a, c, b, d],
            _ => shape.clone(),
        };
        let help = format!("give {of_file:?}, --layout {}", self.layout.name());
        let (given, data) = file.floats(found, &help)?;
        if given != of_file {
            return Err(Error::input(found, format!("has shape {given:?}"), help));
        }
        let got = data.to_f32();
        // where an element of the file stands in the bounds
        let place = |at: usize| match of_file[..] {
            [_, heads, len, dim] if swapped => {
                let (d, i, h, b) = (at % dim, at / dim % len, at / dim / len % heads, at / dim / len / heads);
                ((b * len + i) * heads + h) * dim + d
            }
            _ => at,
        };
        let pick = |of: &[f64]| (0..got.len()).filter_map(|at| of.get(place(at)).copied()).collect::<Vec<f64>>();
        let in_order = check::Bounded { value: pick(&bounded.value), bound: pick(&bounded.bound) };
        let worst = in_order.worst(&got);
        let element = |at: usize| {
            let (got, wanted, bound) = (got.get(at)?, in_order.value.get(at)?, in_order.bound.get(at)?);
            let mut rest = at;
            let mut index: Vec<usize> = of_file
                .iter()
                .rev()
                .map(|n| {
                    let i = rest % n.max(&1);
                    rest /= n.max(&1);
                    i
                })
                .collect();
            index.reverse();
            Some(Element { index, got: *got as f64, wanted: *wanted, bound: *bound })
        };
        // by the same rule, element by element
        let outside = |at: usize| {
            let alone = |of: &[f64]| -> Vec<f64> { of.get(at).copied().into_iter().collect() };
            let one = check::Bounded { value: alone(&in_order.value), bound: alone(&in_order.bound) };
            one.worst(&got.get(at).copied().into_iter().collect::<Vec<f32>>()).failures > 0
        };
        let all: Vec<usize> = match worst.failures {
            0 => Vec::new(),
            _ => (0..got.len()).filter(|at| outside(*at)).collect(),
        };
        let width = of_file.last().copied().unwrap_or(1).max(1);
        let mut rows: Vec<usize> = all.iter().map(|at| at / width).collect();
        rows.dedup();
        Ok(Compared {
            tensor: name,
            elements: worst.elements,
            outside: worst.failures,
            rows_outside: rows.len() as u64,
            rows: (got.len() / width) as u64,
            unbounded: worst.unbounded,
            first: all.first().and_then(|at| element(*at)),
            worst: element(worst.index),
            shape: of_file,
        })
    }
}

/// The shape of a result in the order of its bounds.
fn shape(case: &Case, name: &str, elements: usize) -> Vec<usize> {
    let (spec, inputs) = (&case.spec, &case.inputs);
    let [batch, q_len, heads, _] = inputs.q.shape().map(|n| n as usize);
    let v_dim = spec.v_head_dim as usize;
    let shape = match (case.op, name) {
        (Op::Rotate | Op::RotateInPlace, "q") => inputs.q.shape().map(|n| n as usize).to_vec(),
        (Op::Rotate | Op::RotateInPlace, "k") => inputs.k.shape().map(|n| n as usize).to_vec(),
        (Op::Attention | Op::Linear, "out") => vec![batch, q_len, heads, v_dim],
        (Op::Attention, "lse") => vec![batch, heads, q_len],
        (Op::Scores, "scores") => vec![batch, heads, q_len, elements / (batch * heads * q_len).max(1)],
        _ => vec![elements],
    };
    if shape.iter().product::<usize>() == elements { shape } else { vec![elements] }
}

impl Judged {
    /// For people.
    pub fn text(&self) -> String {
        let verdict = if self.verdict == Verdict::Passed { "passed " } else { "FAILED " };
        let mut said = vec![format!("{verdict} {}", self.address)];
        said.extend(self.tensors.iter().map(|c| format!("  {}", c.text())));
        said.extend(self.not_given.iter().map(|name| format!("  {name} was not given, and so is not judged")));
        said.join("\n")
    }
}

impl Compared {
    fn text(&self) -> String {
        let Compared { tensor, shape, elements, outside, rows_outside, rows, unbounded, .. } = self;
        let element = |e: &Element| {
            let times = (e.got - e.wanted).abs() / e.bound;
            format!(
                "{:?}: {:e}, not {:e} ± {:.1e} ({} of its bound)",
                e.index,
                e.got,
                e.wanted,
                e.bound,
                report::number(times)
            )
        };
        let mut text = format!("{tensor} {shape:?}: {outside} of {elements} elements outside of their bound");
        if *outside > 0 {
            text += &format!(", in {rows_outside} of {rows} rows");
        }
        if *unbounded > 0 {
            text += &format!(", {unbounded} without one");
        }
        match (&self.first, &self.worst) {
            (Some(first), Some(worst)) => {
                text += &format!("\n    first at {}\n    worst at {}", element(first), element(worst))
            }
            (_, Some(worst)) => text += &format!("; nearest at {}", element(worst)),
            _ => {}
        }
        text
    }
}
