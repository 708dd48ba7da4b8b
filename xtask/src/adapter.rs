//! Is there a GPU adapter? Where Linux has no working Vulkan driver: install Mesa's software driver with the system's own
//! package manager, and ask again.

use std::env;
use std::process::{Command, Stdio};

use crate::{ropewalk, run};

/// `ropewalk devices` exits with this where there is no adapter.
const NO_ADAPTER: i32 = 3;

/// The steps that install the Vulkan loader and Mesa's software driver, for each package manager. The last step decides.
const RECIPES: [&[&str]; 5] = [
    &[
        "apt-get update -qq",
        "env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers libvulkan1",
    ],
    &["dnf install -y mesa-vulkan-drivers vulkan-loader"],
    &["pacman -S --needed --noconfirm vulkan-swrast vulkan-icd-loader"], // -Sy would leave the system half upgraded
    &["zypper --non-interactive install libvulkan_lvp libvulkan1"],
    &["apk add mesa-vulkan-swrast vulkan-loader"],
];

/// Whether there is an adapter, after trying to provide one. Needs the built program; never fails.
pub fn prepare() -> bool {
    if !cfg!(target_os = "linux") {
        return found(None);
    }
    // An OpenGL adapter is a last resort, so Vulkan is asked for alone, unless the user has chosen.
    let vulkan = env::var_os("WGPU_BACKEND").is_none().then_some("vulkan");
    if found(vulkan) {
        return true;
    }
    match ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().find(|name| env::var_os(name).is_some()) {
        Some(name) => {
            println!("no Vulkan driver works here: {name} is set and hides what is installed; unset or correct it")
        }
        None => install(),
    }
    found(None)
}

/// Asks the program itself, which is what has to find an adapter later.
fn found(backend: Option<&str>) -> bool {
    let mut devices = ropewalk();
    devices.args(["devices", "--json"]).envs(backend.map(|name| ("WGPU_BACKEND", name)));
    match devices.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) if output.status.code() == Some(NO_ADAPTER) => false,
        Ok(output) => {
            println!(
                "`ropewalk devices` failed, {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
            false
        }
        // what cannot be asked is no reason to install anything
        Err(error) => {
            println!("`ropewalk devices` did not start: {error}");
            true
        }
    }
}

fn install() {
    let Some(recipe) = RECIPES.into_iter().find(|recipe| on_path(program(recipe))) else {
        println!("no Vulkan driver works here: install Mesa's software driver (lavapipe) and the Vulkan loader");
        return;
    };
    let sudo = match (is_root(), on_path("sudo")) {
        (true, _) => "",
        (false, true) if quiet(&["sudo", "-n", "true"]) => "sudo -n ",
        _ => {
            let by_hand: Vec<String> = recipe.iter().map(|step| format!("sudo {step}")).collect();
            println!(
                "no Vulkan driver works here; to install Mesa's software driver, run:\n\n    {}\n",
                by_hand.join(" && ")
            );
            return;
        }
    };
    println!("no Vulkan driver works here: installing Mesa's software driver");
    let mut last = Ok(());
    for step in recipe {
        let line = format!("{sudo}{step}");
        println!("$ {line}");
        let mut words = line.split(' ');
        last = run(Command::new(words.next().unwrap_or_default()).args(words).stdin(Stdio::null()));
    }
    if let Err(problem) = last {
        println!("the installation failed: {problem}");
    }
}

/// The package manager of a recipe.
fn program(recipe: &[&'static str]) -> &'static str {
    recipe.first().and_then(|step| step.split(' ').next()).unwrap_or_default()
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Whether the command succeeds; what it prints is dropped.
fn quiet(words: &[&str]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
