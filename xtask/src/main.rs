//! `cargo xtask demo` runs the main job, `cargo xtask test` the tests, `cargo xtask fuzz` random cases, each on a machine that has only a
//! Rust toolchain: all look for a GPU driver first, and install Mesa's software driver where Linux has none. `cargo xtask isa` shows what
//! GPU vendors' compilers make of the kernels, `cargo xtask peers` sets our times against those of other systems on the same machine.

mod adapter;
mod dawn;
mod peers;
mod texts;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;
use std::{env, fs, io};

const USAGE: &str = "usage: cargo xtask demo [ARGUMENTS OF ropewalk demo]
       cargo xtask test [--all]
       cargo xtask fuzz [OPTIONS]
       cargo xtask isa [OPTIONS] [WORKLOAD]...
       cargo xtask peers [OPTIONS]
       cargo xtask texts BEFORE AFTER [RENAMED]

demo  builds the command line and runs `ropewalk demo` on the best adapter, or on the CPU reference where there is none
test  runs the tests of every feature set, the examples, and with node and npm the composed shaders through Tint, and the library as
      WebAssembly on Dawn. Of long lists of cases, each of which a driver compiles for seconds, it takes a sample, which the environment's
      ROPEWALK_SAMPLE (0, 1, ...) chooses; with --all every case
fuzz  runs random cases for a minute, GPU against reference, reference against a second one, and more: `fuzz --help`
isa   shows what vendors' compilers make of the kernels, on a machine without their cards: `isa --help`, docs/isa.md
peers runs the workloads of `ropewalk bench` in other systems, in alternation with ours, and prints ratios: `peers --help`
texts compares two folders of `ropewalk wgsl --variants FOLDER`, of two states of the shaders: the same but for words that RENAMED lists

On Linux without a working Vulkan driver all but isa and texts install Mesa's software driver with the system's package manager, as root
or with passwordless sudo; otherwise they print the command.";

/// Which sample of long lists of cases tests take; unset: every case.
const SAMPLE: &str = "ROPEWALK_SAMPLE";

/// Whether a step passed, or why it was left out or failed.
enum Outcome {
    Passed,
    LeftOut(String),
    Failed(String),
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let command = arguments.next();
    let rest: Vec<OsString> = arguments.collect();
    match command.as_ref().and_then(|name| name.to_str()) {
        Some("demo") => demo(rest),
        Some("test") if rest.is_empty() => test(false),
        Some("test") if rest == ["--all"] => test(true),
        Some("fuzz") => fuzz(rest),
        Some("isa") => isa(rest),
        Some("peers") => peers::peers(rest),
        Some("texts") => texts::texts(rest),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Passes the exit code of `ropewalk demo` on.
fn demo(mut arguments: Vec<OsString>) -> ExitCode {
    if let Err(problem) = run(&mut cargo("build")) {
        eprintln!("xtask: {problem}");
        return ExitCode::FAILURE;
    }
    let reference = arguments.iter().any(|argument| argument == "--reference");
    if !reference && !adapter::prepare() {
        println!("No adapter was found: the demo runs on the CPU reference.");
        arguments.push("--reference".into());
    }
    match ropewalk().arg("demo").args(arguments).status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("xtask: ropewalk demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn test(all: bool) -> ExitCode {
    let start = Instant::now();
    let heading = |title: &str| println!("\n=== {title} (after {} s)", start.elapsed().as_secs());

    heading("build");
    // the same features, so that the second makes little anew: what users build, and the program
    if let Err(problem) = run(cargo("test").arg("--no-run")).and_then(|()| run(&mut cargo("build"))) {
        eprintln!("xtask: {problem}");
        return ExitCode::FAILURE;
    }
    heading("adapter");
    let adapter = adapter::prepare();
    println!("{}", if adapter { "an adapter is ready" } else { "no adapter: what needs one is left out" });

    let mut outcomes = vec![];
    let sample = env::var(SAMPLE).unwrap_or_else(|_| "0".into());
    heading(&match all {
        true => "library, command line, integration and documentation tests: every case".to_string(),
        false => format!("library, command line, integration and documentation tests: of long lists sample {sample}"),
    });
    let left_out = target().join("left_out.txt");
    let _ = fs::remove_file(&left_out);
    let mut tests = cargo("test");
    tests.arg("--no-fail-fast").env("ROPEWALK_LEFT_OUT", &left_out);
    match all {
        true => tests.env_remove(SAMPLE),
        false => tests.env(SAMPLE, sample),
    };
    match adapter {
        true => tests.env("ROPEWALK_REQUIRE_ADAPTER", "1"),
        false => tests.env_remove("ROPEWALK_REQUIRE_ADAPTER"),
    };
    outcomes.push(outcome(run(&mut tests)));
    let named = fs::read_to_string(&left_out).unwrap_or_default();
    let names: BTreeSet<&str> = named.lines().collect();
    outcomes.extend(names.into_iter().map(|line| Outcome::LeftOut(format!("test {line}"))));

    heading("examples");
    for (name, opens_gpu) in examples() {
        if opens_gpu && !adapter {
            outcomes.push(Outcome::LeftOut(format!("example {name}: no adapter")));
            continue;
        }
        let result = run(cargo("run").args(["--quiet", "--example", &name]).stdout(Stdio::null()));
        println!("example {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        outcomes.push(outcome(result));
    }

    heading("the library without features");
    // what it is for there: configurations, plans and texts, what is refused. Its other code is the same, and every test is linted so.
    // Nothing there runs for long, so it is not optimised, which builds it in a third of the time
    let mut bare = cargo("test");
    bare.args([
        "--config",
        "profile.release.package.ropewalk.opt-level=0",
        "--package",
        "ropewalk",
        "--no-default-features",
    ]);
    bare.args(["--no-fail-fast", "--test", "suite", "--", "config::", "hostile::", "plan::", "tuning::"]);
    outcomes.push(outcome(run(&mut bare)));

    heading("every composed shader through Tint");
    outcomes.push(dawn::shaders());

    heading("the library as WebAssembly on Dawn");
    outcomes.push(dawn::web());

    println!();
    let mut failures = 0;
    for outcome in outcomes {
        match outcome {
            Outcome::Passed => {}
            Outcome::LeftOut(what) => println!("left out: {what}"),
            Outcome::Failed(what) => {
                println!("FAILED: {what}");
                failures += 1;
            }
        }
    }
    let verdict = if failures == 0 { "passed" } else { "FAILED" };
    println!("cargo xtask test: {verdict} in {} s", start.elapsed().as_secs());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Passes the exit code of the program `ropewalk-fuzz` on, and says which case it died in.
fn fuzz(arguments: Vec<OsString>) -> ExitCode {
    let package = ["--quiet", "--package", "ropewalk-fuzz"];
    // the command line is asked for adapters
    if let Err(problem) = run(&mut cargo("build")).and_then(|()| run(cargo("build").args(package))) {
        eprintln!("xtask: {problem}");
        return ExitCode::FAILURE;
    }
    let help = arguments.iter().any(|argument| argument == "--help" || argument == "-h");
    if !help && !adapter::prepare() {
        println!("No adapter was found: what needs one is left out.");
    }
    let running = target().join("fuzz-running.txt");
    let _ = fs::remove_file(&running);
    let mut program = cargo("run");
    program.args(package);
    match program.arg("--").args(arguments).arg("--running").arg(&running).status() {
        Ok(status) if status.code().is_some_and(|code| code < 100) => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        died => {
            let case = fs::read_to_string(&running).unwrap_or_default();
            eprintln!("xtask: ropewalk-fuzz died ({died:?}); again: cargo xtask fuzz {case}");
            ExitCode::FAILURE
        }
    }
}

/// Passes the exit code of the program `ropewalk-isa` on, which needs drivers' compilers and no adapter.
fn isa(arguments: Vec<OsString>) -> ExitCode {
    let mut program = cargo("run");
    program.args(["--quiet", "--package", "ropewalk-isa", "--"]).args(arguments);
    match program.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("xtask: ropewalk-isa: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The programs in `examples/`, and whether they open a `Gpu`.
fn examples() -> Vec<(String, bool)> {
    let files = root().join("examples").read_dir().into_iter().flatten().flatten();
    let sources = files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let mut examples: Vec<_> = sources
        .filter_map(|path| {
            let opens_gpu = fs::read_to_string(&path).ok()?.contains("Gpu::");
            Some((path.file_stem()?.to_str()?.to_string(), opens_gpu))
        })
        .collect();
    examples.sort();
    examples
}

/// The repository.
fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Where cargo builds: this program is `TARGET/debug/xtask`.
fn target() -> PathBuf {
    let built = env::current_exe().ok().and_then(|program| Some(program.parent()?.parent()?.to_path_buf()));
    built.unwrap_or_else(|| root().join("target"))
}

/// `cargo SUBCOMMAND` on the library and the command line, optimised. It runs where the caller stands.
fn cargo(subcommand: &str) -> Command {
    let mut command = cargo_of("", subcommand);
    command.arg("--release");
    command
}

/// `cargo SUBCOMMAND` on the crate in a folder of the repository.
fn cargo_of(folder: &str, subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([subcommand, "--manifest-path"]).arg(root().join(folder).join("Cargo.toml"));
    command
}

/// The program `ropewalk`, which `cargo build` makes first.
fn ropewalk() -> Command {
    Command::new(target().join("release").join("ropewalk").with_extension(env::consts::EXE_EXTENSION))
}

/// Runs a command with this terminal; what it was and how it ended, where it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status();
    success(command, status)
}

fn success(command: &Command, status: io::Result<ExitStatus>) -> Result<(), String> {
    let said = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words: Vec<_> = [program].into_iter().chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    Err(format!("{}: {said}", words.join(" ")))
}

fn outcome(result: Result<(), String>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(problem) => Outcome::Failed(problem),
    }
}
