//! `ropewalk bench`: how fast a checked kernel is, beside what the adapter can do.

mod against;
mod busy;
mod form;

use crate::pictures::{Theme, format, picture};
use crate::progress::Bar;
use crate::workloads::timing::Budget;
use crate::workloads::{self, Ceilings, Line, Measure, Stage, compare, roofline, table};
use crate::{files, report, validate};
use busy::Busy;
use form::Form;
use ropewalk::workload::Workload;
use ropewalk::{Error, Gpu, Result, TuningCache, wgpu};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::SystemTime;

/// Check kernels, time them, and set them against the adapter's measured ceilings
///
/// A workload is computed once and compared with the f64 reference (large ones in a seeded sample of rows), then timed by the GPU's
/// timestamps, or by the wall clock where it has none: warmed up, several sets of inputs in turn. Ceilings (copying and f32 multiply-adds)
/// are measured in the same run. With --json there is one object a line.
///
/// With --fail-above the exit code is 4 where a workload is slower than the ratio allows: than in the run that --compare names, or than
/// with the program that --against names.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// p1 p2 p3 b1 b2 d1 d2 r1, with -f16 or -bf16 behind for that storage; `all`; g128r4k8b1 and the like: ggml's
    /// shapes, heads of 64 or 128, 1 or 4 a kv head, 4, 8 or 16 thousand keys, 1, 4 or 512 queries; `ggml` [default:
    /// those in f32, without p3 on software adapters]
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
    /// The adapter: part of its name, driver or backend, or `all` [default: the best]
    #[arg(long, value_name = "NAME|all")]
    adapter: Option<String>,
    /// How results are printed [default: table]
    #[arg(long, value_enum, value_name = "FORM")]
    format: Option<Form>,
    /// Print ratios against an earlier run: what --json or --format json printed
    #[arg(long, value_name = "FILE", visible_alias = "baseline", group = "other")]
    compare: Option<PathBuf>,
    /// Run each workload by this program too, in turn with its other builds, and print the ratios
    #[arg(long, value_name = "PROGRAM", group = "other", conflicts_with_all = ["format", "plot"])]
    against: Option<PathBuf>,
    /// Pairs of runs with --against
    #[arg(long, value_name = "N", default_value_t = 5, requires = "against", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// End with exit code 4 where a median takes more than this many times the other one
    #[arg(long, value_name = "RATIO", requires = "other", value_parser = ratio)]
    fail_above: Option<f64>,
    /// Draw the roofline, .svg or .png
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// The background of the picture
    #[arg(long, value_enum, default_value = "light", requires = "plot")]
    theme: Theme,
    /// Seconds of runs for each workload
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// The least runs of a workload, unless they would take ten times the seconds
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Sets of inputs that runs take in turn [default: as many as 256 MiB hold, 2 to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    sets: Option<u32>,
    /// Leave the winners of `ropewalk tune` aside
    #[arg(long)]
    untuned: bool,
    /// Time without a comparison; lines then say that nothing was checked
    #[arg(long)]
    unchecked: bool,
}

pub fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.001..=3600.0).contains(&s) => Ok(s),
        _ => Err("give a number of seconds from 0.001 to 3600".into()),
    }
}

fn ratio(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() && ratio > 0.0 => Ok(ratio),
        _ => Err("give a number above 0, such as 1.2".into()),
    }
}

/// The exit code of a run that is too slow.
const TOO_SLOW: u8 = 4;

/// 1 where a result is wrong, else that of a run that is too slow, where it is.
fn verdict(wrong: bool, slow: bool) -> Result<ExitCode> {
    match (wrong, slow) {
        (false, true) => Ok(ExitCode::from(TOO_SLOW)),
        (wrong, _) => crate::verdict(!wrong),
    }
}

/// Runs the command: exit code 1 if a result is wrong.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let form = Form::of(args.format, json)?;
    let (chosen, named) = workloads::choose(&args.workloads)?;
    if let Some(program) = &args.against {
        return against::run(args, program, &chosen, named, json);
    }
    let before = args.compare.as_deref().map(earlier).transpose()?;
    let plot = args.plot.as_ref().map(|out| format("--plot", out).map(|format| (out, format))).transpose()?;
    let mut gpus = validate::open(args.adapter.as_deref(), false)?;
    if !args.untuned {
        gpus = gpus.into_iter().map(tuned).collect();
    }
    let left = |gpu: &Gpu, workload: &Workload| {
        !named && workload.name == "p3" && gpu.info().device_type == wgpu::DeviceType::Cpu
    };
    if let (Some(before), Some(_)) = (&before, args.fail_above) {
        comparable(&gpus, &chosen, before, &left)?;
    }
    let (mut lines, mut left_out) = (Vec::new(), Vec::new());
    for gpu in &gpus {
        let ceilings = {
            let _bar = Bar::spinner("measuring the ceilings");
            workloads::ceilings(gpu, args.seconds)?
        };
        let first = lines.len();
        for workload in &chosen {
            if left(gpu, workload) {
                report::complain("p3: left out on a software adapter, where it takes minutes; name it to run it");
                continue;
            }
            let mut line = match measure(gpu, workload, &ceilings, args) {
                Ok(line) => line,
                Err(e @ Error::Limit { .. }) => {
                    left_out.push(format!("{}: not on {}: {e}", workload.name, gpu.describe()));
                    continue;
                }
                Err(e) => return Err(e),
            };
            line.compare = before.as_deref().and_then(|before| compare::ratio(&line, before));
            if form == Form::Jsonl {
                report::json_line(&line);
            }
            report::delivered()?;
            lines.push(line);
        }
        if form == Form::Table {
            report::say(&table::text(gpu, &ceilings, lines.get(first..).unwrap_or_default()));
        }
    }
    form.all(&lines)?;
    left_out.iter().for_each(|why| report::complain(why));
    let partners = before.map(|before| table::partners(&lines, &before)).unwrap_or_default();
    partners.iter().for_each(|line| report::complain(line));
    if let Some((out, format)) = plot {
        let panels = roofline::panels(&lines);
        let bytes = picture(&panels, args.theme, format)?;
        files::replace("--plot", out, &bytes)?;
        let size = report::bytes(bytes.len() as u64);
        report::complain(&format!("{}: the roofline ({size})", out.display()));
    }
    if lines.is_empty() || (named && !left_out.is_empty()) {
        let problem = left_out.first().cloned().unwrap_or_else(|| "every workload was left out".into());
        return Err(Error::input("WORKLOAD", problem, "name another workload, or another adapter"));
    }
    let slow: Vec<String> =
        args.fail_above.iter().flat_map(|most| lines.iter().filter_map(|line| compare::slower(line, *most))).collect();
    slow.iter().for_each(|why| report::complain(why));
    verdict(lines.iter().any(|line| line.wrong), !slow.is_empty())
}

/// Refuses, before anything is measured, a comparison that some workload has no part in.
fn comparable(
    gpus: &[Gpu],
    chosen: &[Workload],
    before: &[compare::Earlier],
    left: &dyn Fn(&Gpu, &Workload) -> bool,
) -> Result<()> {
    for (gpu, workload) in gpus.iter().flat_map(|gpu| chosen.iter().map(move |workload| (gpu, workload))) {
        let adapter = Line::adapter_of(gpu);
        if !left(gpu, workload) && !compare::knows(before, &workload.name, &adapter) {
            let problem = format!("has nothing to compare {} on {adapter} with", workload.name);
            return Err(Error::input(
                "--compare",
                problem,
                "name workloads and an adapter of that run, or measure them anew",
            ));
        }
    }
    Ok(())
}

/// The device with the winners of `ropewalk tune`.
fn tuned(gpu: Gpu) -> Gpu {
    let (cache, warnings) = TuningCache::load(gpu.info());
    warnings.iter().for_each(|warning| report::complain(warning));
    let mut limits = *gpu.limits();
    limits.tunings = cache.tunings();
    gpu.with_limits(limits)
}

/// The results of an earlier run's file.
fn earlier(path: &Path) -> Result<Vec<compare::Earlier>> {
    compare::parse(&format!("--compare {}", path.display()), &files::text(path, files::Kind::Results)?)
}

/// One result, with a bar for what is being done, the date, and how busy others kept the machine while it was timed.
fn measure(gpu: &Gpu, workload: &Workload, ceilings: &Ceilings, args: &Args) -> Result<Line> {
    let budget = Budget { seconds: args.seconds, runs: args.runs as usize };
    let how = Measure { budget, sets: args.sets, checked: !args.unchecked };
    let at: Mutex<Watch> = Mutex::default();
    let result = workloads::measure(gpu, workload, ceilings, &how, &|stage, share| {
        if let Ok(mut watch) = at.lock() {
            watch.hear(stage, share);
        }
    });
    let mut line = result?;
    line.other_cores = at.into_inner().ok().and_then(|watch| watch.other_cores);
    line.date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    Ok(line)
}

/// What is watched during a measurement.
#[derive(Default)]
struct Watch {
    bar: Option<(Stage, Bar)>,
    busy: Option<Busy>,
    other_cores: Option<f64>,
}

impl Watch {
    fn hear(&mut self, stage: Stage, share: f64) {
        if self.bar.as_ref().is_none_or(|(of, _)| *of != stage) {
            self.bar = None; // it is gone before the next one comes
            let name = match stage {
                Stage::Loading => Some("loading"),
                Stage::Checking => Some("checking"),
                Stage::Timing => Some("timing"),
                Stage::Again => None,
            };
            match stage {
                Stage::Timing => self.busy = Busy::now(),
                Stage::Again => self.other_cores = self.busy.take().and_then(|busy| busy.others()),
                _ => {}
            }
            self.bar = name.map(|name| (stage, Bar::new(name)));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set(share);
        }
    }
}
