//! `cargo xtask fuzz`: random cases until the time is over. A case is its kind and its seed: `--kind KIND --seed SEED --cases 1` runs it
//! again. A kind is a file here, an arm of [`Kind::run`] and its name.

mod differential;
mod files;
mod guard;
mod hostile;
mod mutate;
mod small;
mod step;
#[path = "../../tests/twin/mod.rs"]
mod twin;

use clap::{Parser, ValueEnum};
use guard::{Case, Most};
use ropewalk::{Gpu, GpuOptions};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The reference against a second computation of the equation, without a GPU
    Twin,
    /// A GPU against the reference, within derived bounds
    Differential,
    /// Garbage in the buffer `step` of a bound dispatch
    Step,
    /// Mutated files of every kind, as far as they are read
    Files,
    /// Public calls with hostile values
    Hostile,
}

/// What a case was about; `Err` is a failure.
type Outcome = Result<Ran, String>;

struct Ran {
    /// What cases of the same spec share, or of the same kind of file or call.
    spec: u64,
    /// Why there was nothing to try, in the words of a group.
    left_out: Option<String>,
    /// Elements compared with a bound, and those that had none.
    elements: u64,
    unbounded: u64,
}

impl Ran {
    fn of(spec: u64) -> Self {
        Ran { spec, left_out: None, elements: 0, unbounded: 0 }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Twin => "twin",
            Kind::Differential => "differential",
            Kind::Step => "step",
            Kind::Files => "files",
            Kind::Hostile => "hostile",
        }
    }
    fn needs_gpu(self) -> bool {
        match self {
            Kind::Twin | Kind::Files | Kind::Hostile => false,
            Kind::Differential | Kind::Step => true,
        }
    }
    fn run(self, seed: u64, gpus: &[Gpu]) -> Outcome {
        match self {
            Kind::Twin => compare(seed),
            Kind::Differential => differential::run(seed, gpus),
            Kind::Step => step::run(seed, gpus),
            Kind::Files => files::run(seed),
            Kind::Hostile => hostile::run(seed),
        }
    }
    /// What a case is about, in a word or two.
    fn about(self, seed: u64) -> &'static str {
        match self {
            Kind::Twin | Kind::Differential | Kind::Step => "",
            Kind::Files => files::Format::of(seed).name(),
            Kind::Hostile => hostile::name(seed),
        }
    }
    /// What cases share that are counted together.
    fn groups(self) -> &'static str {
        match self {
            Kind::Twin | Kind::Differential | Kind::Step => "specs",
            Kind::Files => "kinds of file",
            Kind::Hostile => "calls",
        }
    }
    /// What a case may take. A mutated file is small, and so is what it gives; a device compiles for minutes.
    fn most(self) -> Most {
        match self {
            Kind::Twin | Kind::Differential | Kind::Step => Most { bytes: usize::MAX, time: Duration::from_secs(300) },
            Kind::Files | Kind::Hostile => Most { bytes: 256 << 20, time: Duration::from_secs(30) },
        }
    }
}

/// Random cases of every kind: specs, shapes, values, files, calls. A failure prints its seed
#[derive(Debug, Parser)]
#[command(name = "cargo xtask fuzz")]
struct Arguments {
    /// Stops after so many seconds, shared by the kinds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The seed of the first case of each kind
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One kind alone
    #[arg(long)]
    kind: Option<Kind>,
    /// So many cases of each kind, however long they take
    #[arg(long)]
    cases: Option<u64>,
    /// Adapters of which a part of the name, driver or backend is this
    #[arg(long)]
    adapter: Option<String>,
    /// A file that holds the running case, for the time after a crash
    #[arg(long, hide = true)]
    running: Option<PathBuf>,
}

/// Cases run on a device before it is opened anew: a device keeps what it compiled.
const FRESH: u64 = 10 * twin::draw::BLOCK;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let kinds: Vec<Kind> = match arguments.kind {
        Some(kind) => vec![kind],
        None => Kind::value_variants().to_vec(),
    };
    guard::start();
    let (mut all, mut failed, mut missing) = (0, 0, false);
    let start = Instant::now();
    for (at, kind) in kinds.iter().enumerate() {
        let name = kind.name();
        // what the kinds before did not need is shared by the rest
        let left = Duration::from_secs(arguments.seconds).saturating_sub(start.elapsed());
        let end = Instant::now() + left / (kinds.len() - at) as u32;
        let (mut seen, mut left_out) = (BTreeSet::new(), BTreeSet::new());
        let (mut cases, mut tried, mut wrong) = (0u64, 0u64, 0u64);
        let (mut elements, mut unbounded) = (0, 0);
        let mut gpus = Vec::new();
        while arguments.cases.map_or_else(|| Instant::now() < end, |most| cases < most) {
            let seed = arguments.seed.wrapping_add(cases);
            if kind.needs_gpu() && (gpus.is_empty() || seed.is_multiple_of(FRESH)) {
                gpus = devices(&arguments, cases == 0);
                if gpus.is_empty() {
                    println!("{name}: no adapter");
                    missing = arguments.kind.is_some() || promised();
                    break;
                }
            }
            cases += 1;
            let case = Case { kind: name, seed, about: kind.about(seed) };
            if let Some(file) = &arguments.running {
                let _ = std::fs::write(file, format!("--kind {name} --seed {seed} --cases 1"));
            }
            let problem = match guard::run(case, kind.most(), || kind.run(seed, &gpus)) {
                Ok(ran) => {
                    tried += u64::from(ran.left_out.is_none());
                    if ran.left_out.is_none() {
                        seen.insert(ran.spec);
                    }
                    left_out.extend(ran.left_out);
                    (elements, unbounded) = (elements + ran.elements, unbounded + ran.unbounded);
                    continue;
                }
                Err(problem) => problem,
            };
            tried += 1;
            wrong += 1;
            println!("{}", case.failed(&problem));
        }
        let (groups, first) = (kind.groups(), arguments.seed);
        println!("{name}: {tried} cases over {} {groups} from seed {first}: {wrong} failed", seen.len());
        if tried < cases {
            println!("  left out: {} of {cases}: {}", cases - tried, Vec::from_iter(left_out).join("; "));
        }
        if elements > 0 {
            let share = 100.0 * unbounded as f64 / elements as f64;
            println!("  {unbounded} of {elements} elements ({share:.1} %) had no bound");
        }
        (all, failed) = (all + tried, failed + wrong);
    }
    println!("{all} cases: {failed} failed");
    if failed == 0 && !missing { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether the environment promises an adapter, so that none is a failure.
fn promised() -> bool {
    let ci = std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    ci || std::env::var_os("ROPEWALK_REQUIRE_ADAPTER").is_some()
}

/// Every adapter twice: with WebGPU's default limits, and with all it has. Why one does not open is said where it is asked for.
fn devices(arguments: &Arguments, say: bool) -> Vec<Gpu> {
    let mut all = vec![];
    for default_limits in [true, false] {
        let mut options = GpuOptions::default();
        options.adapter.clone_from(&arguments.adapter);
        options.default_limits = default_limits;
        for gpu in Gpu::all(&options) {
            match gpu {
                Ok(gpu) => all.push(gpu),
                Err(e) if say => eprintln!("{e}"),
                Err(_) => {}
            }
        }
    }
    all
}

/// The reference against its twin.
fn compare(seed: u64) -> Outcome {
    let found = twin::compare::case(&twin::draw::case(seed)).map_err(|e| e.to_string())?;
    match found.wrong.is_empty() {
        true => Ok(Ran::of(seed / twin::draw::BLOCK)),
        false => Err(found.wrong.join("\n  ")),
    }
}
