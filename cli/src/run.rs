//! `ropewalk run`: tensors in a file to a checked result in a file.

use crate::figures::{self, Engine, Figures};
use crate::files::{self, TensorFile};
use crate::report;
use crate::source::Source;
use crate::tensors::{self, Layout};
use ropewalk::{Data, Dtype, Error, Output, Problem, Result};
use safetensors::Dtype as Stored;
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compute attention of a file's tensors, check it, and write the result
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("source").required(true),
    after_help = "`ropewalk run --help` lists the names of the tensors.",
    after_long_help = tensors::help(),
)]
pub struct Args {
    /// Tensors: a safetensors file
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Where `out` and `lse` go: a safetensors file
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// How q, k, v and out lie in the files
    #[arg(long, value_enum, default_value = "bhsd")]
    layout: Layout,
    /// The file's mask stands in the place of the model's own, for models whose mask depends on content
    #[arg(long, value_enum, requires = "config")]
    mask: Option<MaskUse>,
    /// A tensor that may stay unread, though its name speaks of a mask, positions, a bias or sinks
    #[arg(long, value_name = "NAME")]
    ignore: Vec<String>,
    /// The adapter: part of its name, driver or backend [default: the best]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Leave the winners of `ropewalk tune` aside
    #[arg(long)]
    untuned: bool,
    /// Leave out the check against the reference
    #[arg(long)]
    no_check: bool,
    /// Compute on the CPU in f64 instead of on a GPU
    #[arg(long, conflicts_with_all = ["adapter", "no_check"])]
    reference: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum MaskUse {
    Replaces,
}

/// The report, as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    figures: &'a Figures,
    terms: Vec<String>,
    output: String,
    ignored_tensors: Vec<String>,
}

/// Runs the command: exit code 1 if the check fails.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    files::check_writable(&args.output)?;
    if same_file(&args.input, &args.output) {
        let field = format!("--output {}", args.output.display());
        return Err(Error::input(field, "is the input file", "name another file"));
    }
    let file = TensorFile::open(&args.input)?;
    let config = args.source.is_config();
    let longest = if config { Some(tensors::longest(&file, args.layout)?) } else { None };
    let mut spec = args.source.read(longest)?;
    if config {
        tensors::adapt(&mut spec, &file, args.mask.is_some())?;
    }
    let mut inputs = tensors::read(&file, &mut spec, args.layout)?;
    if config {
        tensors::by_position(&mut spec, &mut inputs)?;
    }
    tensors::unread(&file, &args.ignore)?;
    // what is wrong with the input is said before an adapter is looked for
    Problem::new(&spec, &inputs)?;

    let engine = match args.reference {
        true => Engine::Reference,
        false => Engine::gpu(args.adapter.as_deref(), !args.untuned)?,
    };
    let (output, figures) = figures::compute(&engine, &spec, &inputs, !args.no_check)?;
    engine.keep();
    write(args, spec.out_storage(), &output, &figures)?;
    let report = Report {
        figures: &figures,
        terms: spec.terms(),
        output: args.output.display().to_string(),
        ignored_tensors: file.ignored(),
    };
    if json {
        report::json(&report)
    } else {
        report.print()
    }
    crate::verdict(figures.passed != Some(false))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((std::fs::canonicalize(a), std::fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

impl Report<'_> {
    fn print(&self) {
        let mut rows = self.figures.rows();
        rows.push(("output", format!("{}: out, lse", self.output)));
        if !self.ignored_tensors.is_empty() {
            rows.push(("not read", self.ignored_tensors.join(", ")));
        }
        report::pairs(&rows);
    }
}

/// Writes `out` and `lse`, with what they are in the file's metadata.
fn write(args: &Args, dtype: Dtype, output: &Output<f32>, figures: &Figures) -> Result<()> {
    let [batch, q_len, heads, _] = output.out_shape.map(|n| n as usize);
    let (shape, out) = tensors::arranged(&output.out, output.out_shape, args.layout);
    let (out, lse) = (Data::from_f32(dtype, &out), Data::F32(output.lse.clone()));
    let stored = match dtype {
        Dtype::F16 => Stored::F16,
        Dtype::Bf16 => Stored::BF16,
        _ => Stored::F32,
    };
    let check = match figures.passed {
        Some(true) => "passed",
        Some(false) => "FAILED",
        None => "not checked",
    };
    let metadata = [
        ("program", concat!("ropewalk ", env!("CARGO_PKG_VERSION"))),
        ("adapter", &figures.adapter),
        ("kernel", &figures.kernel),
        ("layout", args.layout.name()),
        ("check", check),
    ];
    let metadata: HashMap<_, _> = metadata.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let tensors =
        vec![("out", stored, shape, out.bytes()), ("lse", Stored::F32, vec![batch, heads, q_len], lse.bytes())];
    files::write(&args.output, tensors, metadata)
}
