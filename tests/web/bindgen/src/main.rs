//! `bindgen FILE.wasm FOLDER` writes what Node.js loads: the program of `wasm-bindgen-cli` without its downloads.

use std::env;
use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let [_, wasm, folder] = env::args().collect::<Vec<_>>().try_into().expect("two arguments");
    let made = Bindgen::new().input_path(wasm).nodejs_module(true).and_then(|bindgen| bindgen.generate(folder));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
