//! `cargo xtask peers`: the workloads of `ropewalk bench` in other systems on this machine, in alternation with ours.
//! `benches/peers/README.md` says what each runs and what is timed.

mod options;
mod process;
mod setup;
mod table;

use options::{Options, USAGE};
use process::{Failure, Process};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};
use table::{Group, Row, Times};

use crate::{adapter, cargo};

/// How a peer is started: by a script in an environment of its own, or by a program that cargo builds.
enum Start {
    Python { environment: &'static str, script: &'static str, arguments: &'static [&'static str] },
    Burn,
}

struct Peer {
    name: &'static str,
    title: &'static str,
    /// Whether it opens the GPU, and so runs under `--runner`.
    gpu: bool,
    start: Start,
}

const fn python(environment: &'static str, script: &'static str, arguments: &'static [&'static str]) -> Start {
    Start::Python { environment, script, arguments }
}

const PEERS: [Peer; 5] = [
    Peer {
        name: "ort-webgpu",
        title: "ONNX Runtime WebGPU",
        gpu: true,
        start: python("ort-webgpu", "ort.py", &["webgpu"]),
    },
    Peer { name: "burn", title: "Burn wgpu", gpu: true, start: Start::Burn },
    Peer { name: "ort-cpu", title: "ONNX Runtime CPU", gpu: false, start: python("ort-cpu", "ort.py", &["cpu"]) },
    Peer { name: "torch", title: "PyTorch CPU", gpu: false, start: python("torch", "pytorch.py", &[]) },
    Peer { name: "ggml", title: "ggml CPU", gpu: false, start: python("ggml", "ggml_cpu.py", &[]) },
];

const MACHINE: Peer =
    Peer { name: "machine", title: "machine", gpu: false, start: python("machine", "machine.py", &[]) };
const SGEMM_FLOP: f64 = 2.0 * 2048.0 * 2048.0 * 2048.0;
const COPY_BYTES: f64 = 2.0 * 256.0 * 1024.0 * 1024.0;

const WORKLOADS: [(&str, &str); 5] = [
    ("p1", "prefill, 8 heads x 64, 1 024 queries and keys, causal"),
    ("b1", "p1 with a bias of each head"),
    ("p2", "prefill, 32 / 8 heads x 128, 2 048 queries and keys, causal"),
    ("d1", "decode, 1 query, 4 096 keys, 32 / 8 heads x 128, cache rotated"),
    ("r1", "rotation alone, 4 096 tokens, 32 + 8 heads x 128"),
];

/// What one peer may take in all to build, check and warm its workloads: those that are left share what is left.
const PREPARATION: Duration = Duration::from_secs(300);
const ANSWER: Duration = Duration::from_secs(300);
/// Between turns, for threads that spin after work.
const PAUSE: Duration = Duration::from_millis(100);
/// Cores that other programs used, from which times are not to be trusted.
const BUSY: f64 = 0.15;

pub fn peers(arguments: Vec<OsString>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("xtask: {problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match compare(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Whether ours was checked in every turn of every workload.
fn compare(options: &Options) -> Result<bool, String> {
    let ours = Ours::build(options)?;
    if options.runner.is_empty() && options.ours.is_none() {
        adapter::prepare();
    }
    fs::create_dir_all(setup::cache()).map_err(|error| format!("{}: {error}", setup::cache().display()))?;
    let chosen = PEERS.iter().filter(|peer| options.peers.iter().any(|name| name == peer.name));
    let mut runners: Vec<Runner> = chosen.map(|peer| Runner::new(peer, options)).collect();
    let mut machine = Runner::new(&MACHINE, options);
    let mut rates = Rates::default();
    let mut groups = vec![];
    let mut all_checked = true;
    for (index, workload) in options.workloads.iter().enumerate() {
        let description = WORKLOADS.iter().find(|(name, _)| name == workload).map_or("", |(_, text)| text);
        println!("{workload}: {description}");
        let left = options.workloads.len() - index;
        let mut entries: Vec<Entry> = runners.iter_mut().map(|runner| Entry::prepare(runner, workload, left)).collect();
        let mut turns = OurTurns::default();
        for round in 0..options.rounds {
            rates.measure(&mut machine);
            // Ours is turn 0. Each round begins with another, and every second one goes backwards.
            let mut order: Vec<usize> = (0..=entries.len()).collect();
            order.rotate_left(round % (entries.len() + 1));
            if round % 2 == 1 {
                order.reverse();
            }
            for turn in order {
                thread::sleep(PAUSE);
                match turn.checked_sub(1).and_then(|peer| entries.get_mut(peer)) {
                    None => turns.add(ours.turn(workload, options)),
                    Some(entry) => entry.turn(workload, options),
                }
            }
        }
        all_checked &= turns.failed.is_none();
        rates.others.extend(entries.iter().flat_map(|entry| &entry.others));
        let rows = [turns.row()].into_iter().chain(entries.into_iter().map(Entry::row)).collect();
        groups.push(Group { workload: workload.clone(), rows });
    }
    println!("\n{}", table::text(&groups));
    println!("{rates}");
    if let Some(path) = &options.json {
        let objects = table::json(&groups).into_iter().chain([rates.json()]);
        let lines: String = objects.map(|object| format!("{object}\n")).collect();
        fs::write(path, lines).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(all_checked)
}

/// The program `ropewalk`, built.
struct Ours {
    program: PathBuf,
}

impl Ours {
    fn build(options: &Options) -> Result<Ours, String> {
        if let Some(program) = &options.ours {
            return Ok(Ours { program: program.clone() });
        }
        let mut build = cargo("build");
        build.args(["--bin", "ropewalk", "--message-format=json-render-diagnostics"]).stderr(Stdio::inherit());
        let output = build.output().map_err(|error| format!("cargo build: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut programs = messages.filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)));
        match programs.next_back() {
            Some(program) if output.status.success() => Ok(Ours { program }),
            _ => Err(format!("cargo build: {}", output.status)),
        }
    }

    /// One run of `ropewalk bench`: what it says of the workload.
    fn turn(&self, workload: &str, options: &Options) -> Result<Value, String> {
        let mut bench = under(&options.runner, &self.program);
        bench.args([
            "bench",
            workload,
            "--json",
            "--seconds",
            &options.seconds.to_string(),
            "--runs",
            &options.runs.to_string(),
        ]);
        if let Some(adapter) = &options.adapter {
            bench.args(["--adapter", adapter]);
        }
        let output = bench.stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("{}: {error}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let objects = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut objects = objects.filter(|object| object.get("workload").and_then(Value::as_str) == Some(workload));
        match objects.next() {
            Some(object) if output.status.success() => Ok(object),
            _ => {
                let errors = String::from_utf8_lossy(&output.stderr);
                let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it printed no result");
                Err(format!("{}: {}", output.status, last.trim()))
            }
        }
    }
}

/// What the turns of ours said. The first that failed or was not checked makes a failure of all.
#[derive(Default)]
struct OurTurns {
    runs: usize,
    best: Vec<f64>,
    medians: Vec<f64>,
    who: String,
    note: String,
    failed: Option<String>,
}

impl OurTurns {
    fn add(&mut self, turn: Result<Value, String>) {
        let result = turn.and_then(|line| self.read(&line));
        if let (Err(problem), None) = (result, &self.failed) {
            self.failed = Some(problem);
        }
    }

    fn read(&mut self, line: &Value) -> Result<(), String> {
        let text = |key| line.get(key).and_then(Value::as_str).unwrap_or_default();
        self.who = format!("ropewalk, {}", text("driver"));
        self.note = text("kernel").to_string();
        if line.get("checked") != Some(&Value::Bool(true)) {
            return Err(format!("a turn was not checked, or wrong: {}", text("check")));
        }
        // Theirs are by the wall clock, so ours are too where both clocks were read.
        let clock = line.get("wall").filter(|wall| wall.is_object()).unwrap_or(line);
        let number = |key| clock.get(key).and_then(Value::as_f64).filter(|ms| *ms > 0.0);
        let (Some(best), Some(median)) = (number("min_ms"), number("median_ms")) else {
            return Err("a turn without min_ms and median_ms".into());
        };
        self.best.push(best);
        self.medians.push(median);
        self.runs += line.get("runs").and_then(Value::as_u64).map_or(1, |runs| usize::try_from(runs).unwrap_or(1));
        Ok(())
    }

    fn row(self) -> Row {
        let times = Times::of(&self.best).zip(Times::of(&self.medians));
        let times = times.map(|(best, medians)| Times { runs: self.runs, best: best.best, median: medians.median });
        let outcome = match (self.failed, times) {
            (None, Some(times)) => Ok(times),
            (Some(problem), _) => Err(problem),
            (None, None) => Err("no turn".into()),
        };
        let who = if self.who.is_empty() { "ropewalk".into() } else { self.who };
        Row { who, outcome, verdict: "checked in every turn".into(), note: self.note }
    }
}

/// A peer that is set up, its process, and the time that it may still take to prepare.
struct Runner<'a> {
    peer: &'a Peer,
    command: Result<Vec<OsString>, String>,
    process: Option<Process>,
    version: String,
    preparation: Duration,
}

impl<'a> Runner<'a> {
    fn new(peer: &'a Peer, options: &Options) -> Self {
        let command = match &peer.start {
            Start::Burn => setup::burn().map(|program| vec![program.into()]),
            Start::Python { environment, script, arguments } => setup::environment(environment).map(|python| {
                let script = setup::sources().join(script);
                let arguments = arguments.iter().map(OsString::from);
                [OsString::from(python), script.into()].into_iter().chain(arguments).collect::<Vec<_>>()
            }),
        };
        let runner = if peer.gpu { options.runner.as_slice() } else { &[] };
        let command = command.map(|words| runner.iter().map(OsString::from).chain(words).collect());
        Runner { peer, command, process: None, version: String::new(), preparation: PREPARATION }
    }

    /// Asks the process, which is started where there is none. A process that failed is given up.
    fn ask(&mut self, line: &str, limit: Duration) -> Result<Value, String> {
        let process = match &mut self.process {
            Some(process) => process,
            none => {
                let words = self.command.as_ref().map_err(String::clone)?;
                let mut words = words.iter();
                let mut command = Command::new(words.next().cloned().unwrap_or_default());
                command.args(words).env("PYTHONDONTWRITEBYTECODE", "1");
                let log = setup::cache().join(format!("{}.log", self.peer.name));
                let process = Process::start(command, &log, ANSWER)?;
                self.version = process.version.clone();
                none.insert(process)
            }
        };
        process.ask(line, limit).map_err(|failure| match failure {
            Failure::Said(reason) => reason,
            Failure::Ended(reason) => {
                self.process = None;
                reason
            }
        })
    }
}

/// A peer on one workload.
struct Entry<'a, 'b> {
    runner: &'a mut Runner<'b>,
    ms: Vec<f64>,
    others: Vec<f64>,
    verdict: String,
    note: String,
    failed: Option<String>,
}

impl<'a, 'b> Entry<'a, 'b> {
    /// `left` workloads share what time the peer has left to prepare.
    fn prepare(runner: &'a mut Runner<'b>, workload: &str, left: usize) -> Self {
        let share = runner.preparation / u32::try_from(left).unwrap_or(1).max(1);
        let start = Instant::now();
        let answer = runner.ask(&format!("prepare {workload}"), share);
        runner.preparation = runner.preparation.saturating_sub(start.elapsed());
        let mut entry =
            Entry { runner, ms: vec![], others: vec![], verdict: String::new(), note: String::new(), failed: None };
        match answer {
            Err(reason) => entry.failed = Some(reason),
            Ok(answer) => {
                let text = |key| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
                (entry.verdict, entry.note) = (text("verdict"), text("note"));
            }
        }
        entry
    }

    fn turn(&mut self, workload: &str, options: &Options) {
        if self.failed.is_some() {
            return;
        }
        let line = format!("run {workload} {} {}", options.runs, options.seconds);
        match self.runner.ask(&line, ANSWER) {
            Err(reason) => self.failed = Some(reason),
            Ok(answer) => {
                let times = answer.get("ms").and_then(Value::as_array);
                self.ms.extend(times.into_iter().flatten().filter_map(Value::as_f64));
                self.others.extend(answer.get("other_cores").and_then(Value::as_f64));
            }
        }
    }

    fn row(self) -> Row {
        let who = format!("{} {}", self.runner.peer.title, self.runner.version).trim_end().to_string();
        let outcome = match (self.failed, Times::of(&self.ms)) {
            (None, Some(times)) => Ok(times),
            (Some(reason), _) => Err(reason),
            (None, None) => Err("no times".into()),
        };
        Row { who, outcome, verdict: self.verdict, note: self.note }
    }
}

/// What the machine did between the turns.
#[derive(Default)]
struct Rates {
    sgemm: Vec<f64>,
    copy: Vec<f64>,
    others: Vec<f64>,
    failed: Option<String>,
}

impl Rates {
    fn measure(&mut self, machine: &mut Runner) {
        for (case, times) in [("sgemm", &mut self.sgemm), ("copy", &mut self.copy)] {
            if self.failed.is_some() {
                return;
            }
            if times.is_empty() {
                self.failed = machine.ask(&format!("prepare {case}"), ANSWER).err();
            }
            match machine.ask(&format!("run {case} 3 0.2"), ANSWER) {
                Ok(answer) => {
                    let ms = answer.get("ms").and_then(Value::as_array);
                    times.extend(ms.into_iter().flatten().filter_map(Value::as_f64));
                }
                Err(reason) => self.failed = Some(reason),
            }
        }
    }

    /// Best and median of 10^9 operations, and of 10^9 bytes, a second.
    fn rates(&self) -> Option<[f64; 4]> {
        let (sgemm, copy) = (Times::of(&self.sgemm)?, Times::of(&self.copy)?);
        let rate = |work: f64, ms: f64| work / ms / 1e6;
        Some([
            rate(SGEMM_FLOP, sgemm.best),
            rate(SGEMM_FLOP, sgemm.median),
            rate(COPY_BYTES, copy.best),
            rate(COPY_BYTES, copy.median),
        ])
    }

    fn others(&self) -> Option<f64> {
        table::median(&self.others)
    }

    fn json(&self) -> Value {
        let [sgemm, sgemm_median, copy, copy_median] = self.rates().map_or([None; 4], |rates| rates.map(Some));
        json!({
            "who": "machine", "sgemm_gflops": sgemm, "sgemm_gflops_median": sgemm_median, "copy_gbps": copy,
            "copy_gbps_median": copy_median, "other_cores": self.others(), "failed": self.failed,
        })
    }
}

impl std::fmt::Display for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match (self.rates(), &self.failed) {
            (Some([sgemm, sgemm_median, copy, copy_median]), _) => write!(
                f,
                "machine: 2 048 sgemm {sgemm:.0} GFLOP/s (median {sgemm_median:.0}), copy {copy:.1} GB/s read and \
                 written (median {copy_median:.1}), best of the whole run"
            )?,
            (None, reason) => write!(f, "machine: failed: {}", reason.as_deref().unwrap_or("no times"))?,
        }
        match self.others() {
            Some(others) if others > BUSY => {
                write!(f, "\nOther programs used {others:.2} cores meanwhile (median): the machine was not quiet.")
            }
            _ => Ok(()),
        }
    }
}

/// A program under the command that `--runner` gives.
fn under(runner: &[String], program: &Path) -> Command {
    match runner.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unchecked_turn_fails_ours() {
        // The device's own clock stands outside, the wall clock inside.
        let line = |checked: bool, min: f64| {
            let wall = json!({ "min_ms": min, "median_ms": 2.0 * min });
            json!({ "checked": checked, "check": "3 rows", "min_ms": 0.5, "median_ms": 0.5, "wall": wall, "runs": 4 })
        };
        let row = |lines: &[Value]| {
            let mut turns = OurTurns::default();
            lines.iter().for_each(|line| turns.add(Ok(line.clone())));
            turns.row()
        };
        let checked = row(&[line(true, 3.0), line(true, 1.0), line(true, 2.0)]);
        assert_eq!(checked.outcome, Ok(Times { runs: 12, best: 1.0, median: 4.0 }));
        assert_eq!(
            row(&[line(true, 3.0), line(false, 1.0)]).outcome,
            Err("a turn was not checked, or wrong: 3 rows".into())
        );
        assert!(row(&[json!({ "checked": true, "min_ms": 2.0 })]).outcome.is_err());
        assert!(row(&[]).outcome.is_err());
    }
}
