//! How a card's compiler is started: in a process of its own, since shims are loaded before it and drivers read the environment once.

use crate::card::Card;
use crate::compile::{Options, Run};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why there is nothing to show.
#[derive(Debug, PartialEq)]
pub enum Problem {
    /// No compiler for the card is on this machine: [`WAYS_OUT`].
    Missing(String),
    /// It was there, and failed.
    Failed(String),
}

/// The argument that makes a process the compiling one.
pub const COMPILE: &str = "--compile-to";

/// Compiles workloads for a card in another process.
pub fn compile(
    card: &Card,
    shims: Option<&Path>,
    workloads: &[String],
    options: Options,
    keep: Option<&Path>,
) -> Result<Run, Problem> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Problem::Failed(format!("{}: {what}: {e}", card.name));
    if shims.is_none() && !card.null_device {
        return Err(Problem::Missing(format!("{}: no driver compiles for it without a shim", card.name)));
    }
    let folder = tempfile::tempdir().map_err(|e| failed("a temporary folder", &e))?;
    let out = folder.path().join("run.json");
    let own = env::current_exe().map_err(|e| failed("this program", &e))?;
    let mut command = match shims {
        Some(shims) => with_shims(card, shims, folder.path(), &own)?,
        None => with_null_device(card, &own)?,
    };
    command.envs(card.environment(shims.is_some())).env("MESA_SHADER_CACHE_DISABLE", "true");
    command.args(["--card", card.name, COMPILE]).arg(&out).args(workloads);
    if options.plain {
        command.arg("--plain");
    }
    if options.matrix {
        command.arg("--matrix");
    }
    if let Some(keep) = keep {
        command.arg("--keep").arg(keep);
    }
    let done = command.output().map_err(|e| failed("starting the compiler", &e))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        let last: Vec<&str> = said.lines().rev().take(4).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        return Err(failed(&format!("the compiler ended with {}", done.status), &last.join("\n    ")));
    }
    let text = std::fs::read_to_string(&out).map_err(|e| failed("its figures", &e))?;
    let run: Option<Run> = serde_json::from_str(&text).map_err(|e| failed("its figures", &e))?;
    run.ok_or_else(|| match shims {
        None => Problem::Missing(format!(
            "{}: the driver has no such device; RADV of Mesa 26 has no null device any more",
            card.name
        )),
        Some(_) => Problem::Missing(format!("{}: the driver takes no device from the shim", card.name)),
    })
}

/// What helps where a card has no compiler.
pub const WAYS_OUT: &str = "Two ways out:
  - RADV of Mesa 22 to 25, for navi21 and vega10: Debian 12 and 13 and Ubuntu 24.04 have it in mesa-vulkan-drivers; one that was unpacked
    elsewhere is named by VK_DRIVER_FILES=FOLDER/radeon_icd.x86_64.json (and LD_LIBRARY_PATH for its libraries)
  - Mesa's shims, for any card: build Mesa with -Dtools=drm-shim and name the folder of its libraries with --shims FOLDER (docs/isa.md)";

const NO_DRIVER: &str = "no Vulkan driver for it is installed";

fn with_null_device(card: &Card, own: &Path) -> Result<Command, Problem> {
    let mut command = Command::new(own);
    if env::var_os("VK_DRIVER_FILES").is_none() {
        let missing = || Problem::Missing(format!("{}: {NO_DRIVER}", card.name));
        let driver = installed(card.maker.driver(), &FOLDERS.map(PathBuf::from)).ok_or_else(missing)?;
        drivers(&mut command, &driver);
    }
    Ok(command)
}

fn with_shims(card: &Card, shims: &Path, folder: &Path, own: &Path) -> Result<Command, Problem> {
    let missing = |what: String| Problem::Missing(format!("{}: {what}", card.name));
    let shims = shims.canonicalize().map_err(|e| missing(format!("{}: {e}", shims.display())))?;
    let shim = shims.join(card.maker.shim());
    if !shim.exists() {
        return Err(missing(format!("{} is not there", shim.display())));
    }
    // the libraries of another system take that system's loader
    let loader = shims.join("ld-linux-x86-64.so.2");
    let mut command;
    if loader.exists() {
        command = Command::new(loader);
        command.arg("--preload").arg(&shim).arg("--library-path").arg(&shims).arg(own);
    } else {
        command = Command::new(own);
        let mut path = OsString::from(&shims);
        if let Some(more) = env::var_os("LD_LIBRARY_PATH") {
            path.push(":");
            path.push(more);
        }
        command.env("LD_PRELOAD", &shim).env("LD_LIBRARY_PATH", path);
    }
    let library = shims.join(format!("libvulkan_{}.so", card.maker.driver()));
    let driver = if library.exists() {
        let file = folder.join("icd.json");
        let icd = serde_json::json!({ "api_version": "1.3.0", "library_path": library });
        let text = serde_json::json!({ "file_format_version": "1.0.0", "ICD": icd }).to_string();
        std::fs::write(&file, text).map_err(|e| missing(format!("{}: {e}", file.display())))?;
        file
    } else {
        installed(card.maker.driver(), &FOLDERS.map(PathBuf::from)).ok_or_else(|| missing(NO_DRIVER.into()))?
    };
    drivers(&mut command, &driver);
    Ok(command)
}

/// The one driver that the Vulkan loader looks at, in both names that loaders know.
fn drivers(command: &mut Command, file: &Path) {
    command.env("VK_DRIVER_FILES", file).env("VK_ICD_FILENAMES", file);
}

/// Where systems describe Vulkan drivers.
const FOLDERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// The description of a driver, for this machine's words of 64 bits where there are several.
fn installed(driver: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let files = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten().map(|file| file.path());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut files: Vec<_> = files.filter(|path| name(path).starts_with(&format!("{driver}_icd."))).collect();
    files.sort_by_key(|path| !name(path).contains(env::consts::ARCH));
    files.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let folders = [at("absent"), folder.path().to_path_buf()];
        assert_eq!(installed("radeon", &folders), None);
        let own = format!("radeon_icd.{}.json", env::consts::ARCH);
        for name in ["lvp_icd.json", "radeon_icd.armv7l.json", &own] {
            std::fs::write(at(name), "").unwrap();
        }
        assert_eq!(installed("radeon", &folders), Some(at(&own)));
        assert_eq!(installed("intel", &folders), None);
    }

    #[test]
    fn a_card_without_a_compiler_says_what_helps() {
        let missing = |card: &str, shims: Option<&Path>| match compile(
            &Card::named(card).unwrap(),
            shims,
            &[],
            Options::default(),
            None,
        ) {
            Err(Problem::Missing(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(missing("h100", None).contains("without a shim"));
        let empty = tempfile::tempdir().unwrap();
        assert!(missing("navi21", Some(empty.path())).contains("libamdgpu_noop_drm_shim.so is not there"));
        assert!(missing("navi21", Some(&empty.path().join("x"))).contains("No such file"));
    }
}
