//! The program: [`ropewalk_cli::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Mesa's device-selection layer asks Wayland, which then prints an "error:" of its own on machines without a
        // desktop. SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    ropewalk_cli::run()
}
