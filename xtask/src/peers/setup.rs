//! What a peer needs before it can start: a virtual environment of its own with the packages its requirements pin, or a
//! build of its cargo project.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use super::process::last_line;
use crate::{root, target};

/// Where everything of the peers lies: environments, builds, logs.
pub fn cache() -> PathBuf {
    target().join("peers")
}

pub fn sources() -> PathBuf {
    root().join("benches/peers")
}

/// The Python of an environment with what `requirements/NAME.txt` lists, made anew where that list has changed.
pub fn environment(name: &str) -> Result<PathBuf, String> {
    let list = sources().join("requirements").join(format!("{name}.txt"));
    let wanted = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let folder = cache().join(name);
    let installed = folder.join("installed.txt");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if fs::read_to_string(&installed).is_ok_and(|list| list == wanted) && python.is_file() {
        return Ok(python);
    }
    println!("installing {} into {}", wanted.split_whitespace().collect::<Vec<_>>().join(" "), folder.display());
    let log = cache().join(format!("{name}.install.log"));
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut venv = Command::new(system_python()?);
    logged(venv.args(["-m", "venv"]).arg(&folder), &log).map_err(|problem| {
        format!("{problem}; Python's venv and pip are needed (Debian, Ubuntu: apt-get install python3-venv)")
    })?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]).arg(&list);
    logged(&mut pip, &log).map_err(|problem| {
        format!("{problem}; its packages come from PyPI, which needs a network, and ggml a C compiler")
    })?;
    fs::write(&installed, wanted).map_err(|error| format!("{}: {error}", installed.display()))?;
    Ok(python)
}

fn system_python() -> Result<&'static str, String> {
    let new_enough = "import sys; sys.exit(sys.version_info < (3, 11))";
    let works = |name: &&str| {
        let mut command = Command::new(name);
        command.args(["-c", new_enough]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = ["python3", "python"].into_iter().find(works);
    found.ok_or_else(|| "no Python 3.11 or newer: install python3 with venv and pip".into())
}

/// The program of `burn/`.
pub fn burn() -> Result<PathBuf, String> {
    println!("building Burn, which takes minutes the first time");
    let folder = cache().join("burn");
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(sources().join("burn/Cargo.toml"));
    logged(build.arg("--target-dir").arg(&folder), &cache().join("burn.install.log"))?;
    Ok(folder.join("release").join(format!("ropewalk-peer-burn{}", env::consts::EXE_SUFFIX)))
}

/// Runs a command; where it fails, the last that it said.
fn logged(command: &mut Command, log: &Path) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let io = |error| format!("{}: {error}", log.display());
    fs::create_dir_all(cache()).map_err(io)?;
    let file = fs::File::create(log).map_err(io)?;
    let copy = file.try_clone().map_err(io)?;
    match command.stdin(Stdio::null()).stdout(file).stderr(copy).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}; {}", last_line(log))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
