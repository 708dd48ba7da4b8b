//! In Node.js, on Dawn, the WebGPU of Chromium: every composed shader through its compiler, Tint (naga does not check that control flow
//! is uniform), and the library as WebAssembly.

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use crate::{Outcome, cargo_of, outcome, root, ropewalk, run, success, target};

const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };
const WASM: &str = "wasm32-unknown-unknown";
/// `web.mjs` exits with this where Dawn has no adapter.
const NO_ADAPTER: i32 = 3;
/// The software driver in Debian's Chromium, for where Dawn finds the system's too old (Mesa 22).
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

/// Writes every composed shader and compiles them.
pub fn shaders() -> Outcome {
    let folder = target().join("dawn");
    match install(&folder) {
        Ok(()) => outcome(compile(&folder)),
        Err(problem) => without("shaders through Tint", &problem),
    }
}

/// Runs the tests of `tests/web`.
pub fn web() -> Outcome {
    let folder = target().join("dawn");
    match standard_library().and_then(|()| install(&folder)) {
        Ok(()) => web_tests(&folder),
        Err(problem) => without("WebAssembly on Dawn", &problem),
    }
}

/// Left out where something cannot be had, which is a failure where the environment says `CI`.
fn without(what: &str, problem: &str) -> Outcome {
    let what = format!("{what}: {problem}");
    if ci() { Outcome::Failed(what) } else { Outcome::LeftOut(what) }
}

fn ci() -> bool {
    env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false")
}

/// Lays `xtask/dawn` out in the folder, with its npm package.
fn install(folder: &Path) -> Result<(), String> {
    for tool in ["node", NPM] {
        let version = Command::new(tool).arg("--version").output();
        version.map_err(|error| format!("{tool} does not start ({error}); install Node.js with npm"))?;
    }
    let changed = copy(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    if !changed && folder.join("node_modules/.package-lock.json").is_file() {
        return Ok(());
    }
    let quick = ["--prefer-offline", "--fetch-retries=1", "--no-audit", "--no-fund", "--loglevel=error"];
    run(Command::new(NPM).current_dir(folder).args(["ci", "--ignore-scripts"]).args(quick))
}

/// Copies the files, and whether the list of packages is another one now.
fn copy(folder: &Path) -> io::Result<bool> {
    fs::create_dir_all(folder)?;
    let source = root().join("xtask/dawn");
    let lock = "package-lock.json";
    let changed = fs::read(source.join(lock))? != fs::read(folder.join(lock)).unwrap_or_default();
    for name in ["package.json", lock, "tint.mjs", "web.mjs"] {
        fs::copy(source.join(name), folder.join(name))?;
    }
    Ok(changed)
}

fn compile(folder: &Path) -> Result<(), String> {
    let shaders = folder.join("wgsl");
    if shaders.exists() {
        fs::remove_dir_all(&shaders).map_err(|error| format!("{}: {error}", shaders.display()))?;
    }
    fs::create_dir_all(&shaders).map_err(|error| format!("{}: {error}", shaders.display()))?;
    run(ropewalk().arg("wgsl").arg("--variants").arg(&shaders).args(["--target", "web"]))?;
    run(Command::new("node").arg(folder.join("tint.mjs")).arg(&shaders))
}

/// Whether the toolchain has Rust's standard library for WebAssembly.
fn standard_library() -> Result<(), String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder = Command::new(rustc).args(["--print", "target-libdir", "--target", WASM]).output();
    let folder = folder.map_err(|error| format!("rustc does not start: {error}"))?;
    match Path::new(String::from_utf8_lossy(&folder.stdout).trim()).is_dir() {
        true => Ok(()),
        false => Err(format!("the toolchain lacks it; `rustup target add {WASM}`")),
    }
}

fn web_tests(folder: &Path) -> Outcome {
    let (built, package) = (target().join("web"), folder.join("web"));
    let cargo = |subcommand: &str| {
        let mut command = cargo_of("tests/web", subcommand);
        command.args(["--quiet", "--locked", "--target-dir"]).arg(&built);
        command
    };
    let wasm = built.join(WASM).join("release/web.wasm");
    let mut build = cargo("build");
    build.args(["--release", "--lib", "--target", WASM]);
    if ci() {
        build.env("RUSTFLAGS", "--deny warnings"); // nothing else builds what stands behind `cfg(target_arch = "wasm32")`
    }
    let made =
        run(&mut build).and_then(|()| run(cargo("run").args(["--package", "bindgen", "--"]).arg(wasm).arg(&package)));
    if let Err(problem) = made {
        return Outcome::Failed(problem);
    }
    let chromium = Path::new(SWIFTSHADER).is_file().then_some(SWIFTSHADER);
    for driver in [None].into_iter().chain(chromium.map(Some)) {
        let mut node = Command::new("node");
        node.arg(folder.join("web.mjs")).arg(package.join("web.js")).envs(driver.map(|file| ("VK_DRIVER_FILES", file)));
        match node.status() {
            Ok(status) if status.code() == Some(NO_ADAPTER) => {}
            status => return outcome(success(&node, status)),
        }
    }
    without(
        "WebAssembly on Dawn",
        "it has no adapter; install a newer Mesa, or Debian's chromium for its software driver",
    )
}
