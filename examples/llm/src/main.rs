//! `llm DIR`: a whole model of a folder with `config.json`, `model.safetensors` and `case.safetensors`, its attention on the GPU.
//! The last line says how far the worst logit is off and how many tokens are right; the exit status is 1 where one is not.

use clap::Parser;
use llm::attention::{Keys, Options, Place, Storage};
use llm::model::Model;
use llm::run::{Case, Settings, run, tolerance};
use ropewalk::Gpu;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs a language model: prefill, then greedy decoding.
#[derive(Parser)]
struct Args {
    /// Folder with config.json, model.safetensors and case.safetensors.
    folder: PathBuf,
    /// Where keys and values stand.
    #[arg(long, value_enum, default_value = "contiguous")]
    cache: Place,
    /// When keys are rotated.
    #[arg(long, value_enum, default_value = "unrotated")]
    keys: Keys,
    /// The type of keys and values; f32, f16 and bf16 are that of q and out too.
    #[arg(long, value_enum, default_value = "f32")]
    storage: Storage,
    /// Prompts at once, of different lengths: beginnings of the case's.
    #[arg(long, default_value_t = 1)]
    prompts: usize,
    /// Keys that every sequence forgets half-way, the others counting from 0 again: compared from there with attention in f64.
    #[arg(long)]
    shift: Option<usize>,
    /// Only the last line.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match all(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn all(args: &Args) -> llm::Result<bool> {
    let case = Case::read(&args.folder)?;
    let model = Model::read(&args.folder, case.tokens())?;
    let gpu = Gpu::new()?;
    let say = |line: String| {
        if !args.quiet {
            println!("{line}");
        }
    };
    say(gpu.describe());
    let options = Options { place: args.cache, keys: args.keys, storage: args.storage };
    let settings = Settings { options, prompts: args.prompts, shift: args.shift };
    let outcome = run(&gpu, &model, &case, &settings, &say)?;
    let (allowed, passed) = (tolerance(args.storage), outcome.passed(tolerance(args.storage)));
    println!(
        "{}: worst logit difference {:.2e} of {allowed:.2e} allowed, {} of {} tokens right, {} left open",
        if passed { "right" } else { "WRONG" },
        outcome.worst,
        outcome.right,
        outcome.tokens,
        outcome.open
    );
    Ok(passed)
}
