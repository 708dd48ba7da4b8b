//! Every composed shader through Tint, the WGSL compiler of Chromium: naga does not check that control flow is uniform.

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use crate::{Outcome, outcome, root, ropewalk, run, target};

const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

/// Writes every composed shader and compiles them. Left out where Node.js or its package cannot be had, which is a failure
/// where the environment says `CI`.
pub fn check() -> Outcome {
    let folder = target().join("tint");
    if let Err(problem) = install(&folder) {
        let what = format!("shaders through Tint: {problem}");
        let ci = env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
        return if ci { Outcome::Failed(what) } else { Outcome::LeftOut(what) };
    }
    outcome(compile(&folder))
}

/// Lays `xtask/tint` out in the folder, with its npm package.
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

/// Copies the check's files, and whether the list of packages is another one now.
fn copy(folder: &Path) -> io::Result<bool> {
    fs::create_dir_all(folder)?;
    let source = root().join("xtask/tint");
    let lock = "package-lock.json";
    let changed = fs::read(source.join(lock))? != fs::read(folder.join(lock)).unwrap_or_default();
    for name in ["package.json", lock, "check.mjs"] {
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
    run(Command::new("node").arg(folder.join("check.mjs")).arg(&shaders))
}
