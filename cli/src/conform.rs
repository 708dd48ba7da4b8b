//! `ropewalk conform`: golden cases through the reference and the GPU.
//!
//! A case is read ([`crate::golden`]), turned into specs and inputs that a user could have written ([`model`],
//! [`operator`], [`rotation`]), run, and compared: the reference with the listed values within the case's tolerance,
//! the GPU with the reference within the derived bound, and the GPU with the listed values within the sum of both.

mod bias;
mod compare;
mod device;
mod differential;
mod embed;
mod factors;
mod ggml;
mod latent;
mod linear;
pub mod model;
mod operator;
mod packed;
mod relative;
mod rotation;
pub mod work;

use crate::golden;
use crate::report::{complain, delivered, say};
use compare::{Stages, Worst};
use device::Device;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ropewalk::{Error, Result};
use safetensors::{Dtype, tensor::TensorView};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use work::{EmbedProbe, Expect, Probe, Stage, Unfit, Work};

/// Run golden cases through the reference and the GPU and compare every listed value.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Case files, or folders of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The adapter to run on: part of its name, or `all`.
    #[arg(long, value_name = "NAME|all")]
    adapter: Option<String>,
    /// Use the adapter's own limits and features instead of WebGPU's default limits and no features.
    #[arg(long)]
    own_limits: bool,
    /// Leave the GPU out.
    #[arg(long, conflicts_with = "adapter")]
    reference: bool,
    /// Write what was computed to DIR, one safetensors file a case.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

/// What became of a case.
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// One line of the report.
struct Report {
    name: String,
    system: String,
    verdict: Verdict,
    /// The terms of the composed kernel.
    terms: Vec<String>,
    compared: Vec<String>,
    /// What others computed, and how far it is off.
    peers: Vec<work::Peer>,
    /// The worst errors, as fractions of what is allowed.
    reference: f64,
    gpus: Vec<(String, f64)>,
}

/// Runs the command: exit code 1 if a case failed, 2 if a file could not be read as a case.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let files = golden::files(&args.paths)?;
    let (devices, complaints) = match args.reference {
        true => (Vec::new(), Vec::new()),
        false => Device::open(args.adapter.as_deref(), args.own_limits)?,
    };
    complaints.iter().for_each(|e| complain(&format!("left out: {e}")));
    let bar = Bar::new(files.len() as u64);
    if !json {
        let engines = devices.iter().map(|d| d.name.as_str());
        let engines: Vec<&str> = std::iter::once("the reference").chain(engines).collect();
        bar.print(format!("{} cases on {}", files.len(), engines.join(", ")));
    }
    let (mut passed, mut failed, mut skipped, mut unreadable) = (0, 0, 0, 0);
    for file in &files {
        match one(file, &devices, args.dump.as_deref()) {
            Ok(report) => {
                match report.verdict {
                    Verdict::Passed => passed += 1,
                    Verdict::Failed(_) => failed += 1,
                    Verdict::Skipped(_) => skipped += 1,
                }
                bar.print(if json { report.json() } else { report.text() });
            }
            Err(e) => {
                unreadable += 1;
                bar.complain(format!("error: {e}"));
            }
        }
        bar.step();
        delivered()?;
    }
    bar.print(match json {
        true => serde_json::json!({ "passed": passed, "failed": failed, "skipped": skipped }).to_string(),
        false => format!("{passed} passed, {failed} failed, {skipped} skipped"),
    });
    Ok(ExitCode::from(if unreadable > 0 { 2 } else { (failed > 0) as u8 }))
}

/// Reads, runs and compares one case.
fn one(file: &Path, devices: &[Device], dump: Option<&Path>) -> Result<Report> {
    let golden = golden::read(file)?;
    let (name, system) = (golden.name.clone(), golden.system.clone());
    let mut report = Report {
        name,
        system,
        verdict: Verdict::Passed,
        terms: Vec::new(),
        compared: Vec::new(),
        peers: Vec::new(),
        reference: 0.0,
        gpus: Vec::new(),
    };
    let work = match model::build(golden) {
        Ok(work) => work,
        Err(Unfit::Needs(what)) => {
            report.verdict = Verdict::Skipped(what);
            return Ok(report);
        }
        Err(Unfit::Bad(e)) => return Err(in_file(file, e)),
    };
    let embeds = || work.embeds.first().map(|p| p.embed.terms());
    let terms = work.probes.first().map(|p| p.spec.terms()).or_else(embeds);
    report.terms = terms.unwrap_or_else(|| vec!["host tables".into()]);
    report.compared = compared(&work);
    report.peers.clone_from(&work.peers);
    let mut dumped = Dump::default();
    let mut wrong = Vec::new();

    let mut worst = Worst::default();
    for t in &work.tables {
        worst = worst.max(compare::table(&t.name, &t.computed, &t.listed, t.tolerance));
    }
    for probe in &work.probes {
        let found = compare::by_reference(probe).map_err(|e| in_file(file, e))?;
        worst = worst.max(compare::against_listed("reference", probe, &found, |_, _| 0.0));
        dumped.add(probe, "reference", &found, Dtype::F64);
    }
    for probe in &work.embeds {
        let found = compare::embed_by_reference(probe).map_err(|e| in_file(file, e))?;
        worst = worst.max(compare::expected("reference", &probe.expects, &found, |_, _| 0.0));
        dumped.add_embed(probe, "reference", &found, Dtype::F64);
    }
    (report.reference, wrong) = (worst.ratio, wrong.into_iter().chain(worst.wrong).collect());

    for device in devices.iter().filter(|_| !work.probes.is_empty() || !work.embeds.is_empty()) {
        let mut worst = Worst::default();
        let engine = if devices.len() == 1 { "gpu" } else { device.name.as_str() };
        for probe in &work.probes {
            match device.run(probe) {
                Ok(run) => {
                    worst = worst.max(on_device(&probe.expects, &run));
                    dumped.add(probe, engine, &run.device, Dtype::F32);
                }
                Err(e) => worst = worst.max(Worst { ratio: f64::INFINITY, wrong: Some(e.to_string()) }),
            }
        }
        for probe in &work.embeds {
            match device.run_embed(probe) {
                Ok(run) => {
                    worst = worst.max(on_device(&probe.expects, &run));
                    dumped.add_embed(probe, engine, &run.device, Dtype::F32);
                }
                Err(e) => worst = worst.max(Worst { ratio: f64::INFINITY, wrong: Some(e.to_string()) }),
            }
        }
        wrong.extend(worst.wrong.map(|w| format!("{}: {w}", device.name)));
        report.gpus.push((device.name.clone(), worst.ratio));
    }
    if !wrong.is_empty() {
        report.verdict = Verdict::Failed(wrong.join("; "));
    }
    if let Some(folder) = dump {
        dumped.write(&folder.join(format!("{}.safetensors", report.name)))?;
    }
    Ok(report)
}

/// An error of a case, with the file in front.
fn in_file(file: &Path, e: Error) -> Error {
    match e {
        Error::Input { field, problem, help } => {
            Error::Input { field: format!("{}, {field}", file.display()), problem, help }
        }
        other => Error::input(file.display().to_string(), other.to_string(), "correct the case"),
    }
}

/// The GPU against the reference within the bound, and against the case within bound and tolerance.
fn on_device(expects: &[Expect], run: &device::Run) -> Worst {
    let bound = |stage: Stage, i: usize| run.bound.get(&stage).and_then(|b| b.get(i)).copied().unwrap_or(0.0);
    let mut worst = compare::expected("gpu", expects, &run.device, bound);
    for (stage, got) in &run.device {
        let value = run.value.get(stage).map_or(&[][..], Vec::as_slice);
        let what = format!("gpu {} against the reference", stage.name());
        worst = worst.max(match value.len() == got.len() {
            true => Worst::of(&what, got, |i| value.get(i).copied(), |i| bound(*stage, i)),
            false => Worst::missing(&what, got.len(), value.len()),
        });
    }
    worst
}

/// The names of everything that is compared, stages first.
fn compared(work: &Work) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let main = |p: &&Probe| p.label.is_empty();
    let stages = work.probes.iter().filter(main).flat_map(|p| p.expects.iter().map(|e| e.stage.name().to_string()));
    let others = work.probes.iter().filter(|p| !main(p)).flat_map(|p| p.expects.iter().map(|e| e.name.clone()));
    let embeds = work.embeds.iter().flat_map(|p| p.expects.iter().map(|e| e.name.clone()));
    let tables = work.tables.iter().map(|t| t.name.clone());
    for name in stages.chain(others).chain(embeds).chain(tables) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

impl Report {
    fn text(&self) -> String {
        let Report { name, system, .. } = self;
        let worst = || {
            let gpus = self.gpus.iter().map(|(_, ratio)| *ratio).reduce(f64::max);
            let gpu = gpus.map(|ratio| format!(", gpu {ratio:.2}")).unwrap_or_default();
            format!("worst error / tolerance: reference {:.2}{gpu}", self.reference)
        };
        let terms = if self.terms.is_empty() { "no term".into() } else { self.terms.join(" + ") };
        let peers: String = self.peers.iter().map(|p| format!(" | {} off by {:.1e}", p.name, p.error)).collect();
        let did = || format!("{terms} | {} | {}{peers}", self.compared.join(" "), worst());
        match &self.verdict {
            Verdict::Passed => format!("passed  {name} | {system} | {}", did()),
            Verdict::Failed(why) => format!("FAILED  {name} | {system} | {} | {why}", did()),
            Verdict::Skipped(what) => format!("skipped {name} | {system} | skipped: not yet (needs {what})"),
        }
    }
    fn json(&self) -> String {
        let (status, reason) = match &self.verdict {
            Verdict::Passed => ("passed", None),
            Verdict::Failed(why) => ("failed", Some(why.clone())),
            Verdict::Skipped(what) => ("skipped", Some(format!("not yet (needs {what})"))),
        };
        // JSON has no infinity.
        let number = |x: f64| if x.is_finite() { x } else { f64::MAX };
        let gpus =
            self.gpus.iter().map(|(name, worst)| serde_json::json!({ "adapter": name, "worst": number(*worst) }));
        let gpus: Vec<_> = gpus.collect();
        let peers: Vec<_> =
            self.peers.iter().map(|p| serde_json::json!({ "name": p.name, "error": number(p.error) })).collect();
        serde_json::json!({
            "name": self.name, "system": self.system, "status": status, "reason": reason, "terms": self.terms,
            "compared": self.compared, "reference": { "worst": number(self.reference) }, "gpu": gpus, "peers": peers,
        })
        .to_string()
    }
}

/// What was computed for a case, on its way to a file.
#[derive(Default)]
struct Dump {
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

impl Dump {
    fn add(&mut self, probe: &Probe, engine: &str, found: &Stages, dtype: Dtype) {
        let [batch, q_len, heads, dim] = probe.inputs.q.shape().map(|n| n as usize);
        let [_, kv_len, kv_heads, _] = probe.inputs.k.shape().map(|n| n as usize);
        let label = if probe.label.is_empty() { String::new() } else { format!("{}.", probe.label) };
        for (stage, values) in found {
            let shape = match stage {
                Stage::QRot => vec![batch, q_len, heads, dim],
                Stage::KRot => vec![batch, kv_len, kv_heads, dim],
                Stage::Scores | Stage::Probs => vec![batch, heads, q_len, kv_len],
                Stage::Out | Stage::OutNormed => vec![batch, q_len, heads, probe.spec.v_head_dim as usize],
                Stage::OutDifference => vec![batch, q_len, heads / 2, probe.spec.v_head_dim as usize],
                Stage::Lse => vec![batch, heads, q_len],
                Stage::Embed | Stage::State | Stage::Normalizer => vec![values.len()],
            };
            self.push(format!("{label}{engine}.{}", stage.name()), dtype, shape, values);
        }
    }
    fn add_embed(&mut self, probe: &EmbedProbe, engine: &str, found: &Stages, dtype: Dtype) {
        let [batch, len, _, dim] = probe.inputs.x.shape().map(|n| n as usize);
        let label = if probe.label.is_empty() { String::new() } else { format!("{}.", probe.label) };
        for (stage, values) in found {
            self.push(format!("{label}{engine}.{}", stage.name()), dtype, vec![batch, len, dim], values);
        }
    }
    fn push(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, values: &[f64]) {
        let bytes = match dtype {
            Dtype::F64 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        };
        self.tensors.push((name, dtype, shape, bytes));
    }
    /// Writes beside the target first, so that no half-written file stays.
    fn write(&self, path: &Path) -> Result<()> {
        let bad =
            |e: String| Error::input(format!("--dump {}", path.display()), e, "give a folder that can be written");
        let views: std::result::Result<Vec<_>, _> = self
            .tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| TensorView::new(*dtype, shape.clone(), bytes).map(|v| (name, v)))
            .collect();
        let views = views.map_err(|e| bad(e.to_string()))?;
        let bytes = safetensors::serialize(views, None).map_err(|e| bad(e.to_string()))?;
        let part = path.with_extension("part");
        let written = std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))
            .and_then(|()| std::fs::write(&part, bytes))
            .and_then(|()| std::fs::rename(&part, path));
        written.map_err(|e| {
            std::fs::remove_file(&part).ok();
            bad(e.to_string())
        })
    }
}

/// A progress bar on stderr that shows itself after a second, if anybody looks.
struct Bar {
    bar: ProgressBar,
    since: Instant,
}

impl Bar {
    fn new(cases: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(cases), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} cases, {elapsed}") {
            bar.set_style(style);
        }
        Bar { bar, since: Instant::now() }
    }
    fn step(&self) {
        if self.bar.is_hidden() && std::io::stderr().is_terminal() && self.since.elapsed() > Duration::from_secs(1) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(1);
    }
    fn print(&self, line: String) {
        self.bar.suspend(|| say(&line));
    }
    fn complain(&self, line: String) {
        self.bar.suspend(|| complain(&line));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
