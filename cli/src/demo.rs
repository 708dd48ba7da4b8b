//! `ropewalk demo`: the main job on real input, for somebody who sees the program for the first time.

use crate::figures::{self, Engine, Figures};
use crate::files::TensorFile;
use crate::progress::Bar;
use crate::report;
use crate::tensors::{self, Layout};
use ropewalk::{Bias, Data, Dtype, Inputs, Mask, Pairing, Positions, Result, Rotary, Spec, Tensor, check, reference};
use serde::Serialize;
use std::process::ExitCode;

/// Compute attention of four real models' test vectors and of one long layer, and check every number
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The adapter: part of its name, driver or backend [default: the best]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Compute on the CPU in f64 instead of on a GPU
    #[arg(long, conflicts_with = "adapter")]
    reference: bool,
    /// A shorter layer
    #[arg(long)]
    quick: bool,
}

/// A case file within the program: what a class of transformers got and gave.
struct Case {
    title: &'static str,
    bytes: &'static [u8],
    spec: fn() -> Spec,
}

const CASES: [Case; 4] = [
    Case {
        title: "Llama: 5 new tokens on a cache of 32",
        bytes: include_bytes!("demo/llama_gqa_causal_decode.safetensors"),
        spec: || rotary_decoder(8, 2, 32, Rotary::new(Pairing::Half, 32, 500_000.0)),
    },
    Case {
        title: "Qwen2: a prompt of 29 tokens",
        bytes: include_bytes!("demo/qwen2_gqa_causal.safetensors"),
        spec: || rotary_decoder(4, 2, 32, Rotary::new(Pairing::Half, 32, 1e6)),
    },
    Case {
        title: "GPT-J: half of each head rotates",
        bytes: include_bytes!("demo/gptj_partial_interleaved.safetensors"),
        spec: || rotary_decoder(4, 4, 64, Rotary::new(Pairing::Interleaved, 32, 10_000.0)),
    },
    Case {
        title: "T5 encoder: learned relative bias",
        bytes: include_bytes!("demo/t5_encoder_bidirectional.safetensors"),
        spec: t5_encoder,
    },
];

fn rotary_decoder(heads: u32, kv_heads: u32, head_dim: u32, rotary: Rotary) -> Spec {
    let mut spec = Spec::new(heads, kv_heads, head_dim);
    (spec.rotary, spec.positions, spec.mask) = (Some(rotary), Positions::Ids, Mask::causal());
    spec
}

fn t5_encoder() -> Spec {
    let mut spec = Spec::new(3, 3, 24);
    (spec.softmax_scale, spec.positions) = (Some(1.0), Positions::Ids);
    spec.bias = vec![Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: true }];
    // the padding of the shorter sequence
    spec.mask.dense = true;
    spec
}

/// What the reference may differ by from values that were computed in f64 and rounded to f32 once, times max(1, |x|).
const ROUNDING: f64 = 2e-7;

/// One line of the table, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Line {
    case: &'static str,
    terms: Vec<String>,
    /// The largest difference from the listed scores and out.
    scores_error: f64,
    out_error: f64,
    /// The largest difference from the listed values as a share of what is allowed.
    of_allowed: f64,
    /// The largest difference from the reference as a share of its bound; None where the reference computed.
    of_bound: Option<f64>,
    passed: bool,
}

/// Runs the command: exit code 1 if a number is off.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let (engine, why) = engine(args)?;
    if !json {
        report::say(
            "ropewalk computes attention with rotary or relative positions in one pass, on any GPU, and checks it.",
        );
        report::say(&format!("Here: {}.", engine.describe()));
        why.iter().for_each(|why| report::say(&format!("({why})")));
    }
    let bar = Bar::new("four models");
    let mut lines = Vec::new();
    for (n, case) in CASES.iter().enumerate() {
        bar.set(n as f64 / CASES.len() as f64);
        lines.push(line(case, &engine)?);
    }
    drop(bar);
    if !json {
        print(&lines);
    }
    let tokens = match (&engine, args.quick) {
        (Engine::Gpu(_), false) => 2048,
        _ => 512,
    };
    let layer = layer(&engine, tokens, json)?;
    let passed = lines.iter().all(|l| l.passed) && layer.passed != Some(false);
    match json {
        true => report::json(&serde_json::json!({ "cases": lines, "layer": layer, "passed": passed })),
        false => close(passed, matches!(engine, Engine::Gpu(_))),
    }
    crate::verdict(passed)
}

/// What computes, and why it is not a GPU if nobody asked for that.
fn engine(args: &Args) -> Result<(Engine, Option<String>)> {
    if args.reference {
        return Ok((Engine::Reference, None));
    }
    match Engine::gpu(args.adapter.as_deref(), false) {
        Ok(engine) => Ok((engine, None)),
        Err(e) if args.adapter.is_some() => Err(e),
        Err(e) => Ok((Engine::Reference, Some(e.to_string()))),
    }
}

/// Runs a case and compares it with what its model's class gave, and with the reference.
fn line(case: &Case, engine: &Engine) -> Result<Line> {
    let file = TensorFile::parse(case.title, case.bytes)?;
    let mut spec = (case.spec)();
    let inputs = tensors::read(&file, &mut spec, Layout::Bhsd)?;
    let listed = |name: &str| file.floats(name, "").map(|(_, data)| data.to_f32());
    let (listed_scores, listed_out) = (listed("expected_scores")?, listed("expected_out")?);
    let bounds = (check::scores(&spec, &inputs)?, check::attention(&spec, &inputs)?);
    let (of_scores, (of_out, of_lse)) = &bounds;
    let shape = [inputs.q.shape()[0], inputs.q.shape()[1], spec.num_heads, spec.v_head_dim];
    let like_listed = |out: &[f32]| tensors::arranged(out, shape, Layout::Bhsd).1;

    let (scores, out, of_bound) = match engine {
        Engine::Gpu(gpu) => {
            let (scores, result) = (gpu.scores(&spec, &inputs)?, gpu.attention(&spec, &inputs)?);
            let worst = [of_scores.worst(&scores), of_out.worst(&result.out), of_lse.worst(&result.lse)];
            (scores, result.out, Some(worst.iter().fold(0.0, |most: f64, w| most.max(w.ratio))))
        }
        Engine::Reference => {
            let narrow = |v: &[f64]| v.iter().map(|x| *x as f32).collect::<Vec<_>>();
            (narrow(&reference::scores(&spec, &inputs)?), narrow(&reference::attention(&spec, &inputs)?.out), None)
        }
    };
    let bound = |bound: &[f64]| match of_bound {
        Some(_) => bound.iter().map(|b| *b as f32).collect(),
        None => vec![0.0; bound.len()],
    };
    let scores = against(&scores, &listed_scores, &bound(&of_scores.bound));
    let out = against(&like_listed(&out), &listed_out, &like_listed(&bound(&of_out.bound)));
    let of_allowed = scores.1.max(out.1);
    Ok(Line {
        case: case.title,
        terms: spec.terms(),
        scores_error: scores.0,
        out_error: out.0,
        of_allowed,
        of_bound,
        passed: of_allowed <= 1.0 && of_bound.is_none_or(|ratio| ratio <= 1.0),
    })
}

/// The largest difference, and the largest as a share of what is allowed: the bound and the rounding of listed values.
fn against(got: &[f32], listed: &[f32], bound: &[f32]) -> (f64, f64) {
    if got.len() != listed.len() || bound.len() != listed.len() {
        return (f64::INFINITY, f64::INFINITY);
    }
    let differences = got.iter().zip(listed).zip(bound).filter(|((got, listed), _)| got != listed);
    differences.fold((0.0, 0.0), |(error, share), ((got, listed), bound)| {
        let (got, listed) = (*got as f64, *listed as f64);
        let off = if (got - listed).is_finite() { (got - listed).abs() } else { f64::INFINITY };
        let allowed = *bound as f64 + ROUNDING * listed.abs().max(1.0);
        (error.max(off), share.max(off / allowed))
    })
}

fn print(lines: &[Line]) {
    let title =
        "1. Four models: inputs and results of Hugging Face transformers' own classes, embedded in this program";
    report::say(&format!("\n{title}"));
    let rows = lines.iter().map(|l| {
        vec![
            l.case.to_string(),
            l.terms.join(" + "),
            format!("{:.1e}", l.scores_error),
            format!("{:.1e}", l.out_error),
            l.of_bound.map_or("-".into(), |ratio| format!("{ratio:.3}")),
            if l.passed { "right" } else { "WRONG" }.to_string(),
        ]
    });
    let header = ["case", "terms in the kernel", "scores differ by", "out differs by", "of our bound", "verdict"];
    report::say(&report::table(&header, rows).to_string());
    report::say("Terms: R rotary positions (pairing, how much of a head, angles), C relative bias, then masks.");
    report::say(
        "Differences are the largest from what transformers computed in f64. `of our bound`: the largest error",
    );
    report::say(
        "against our own f64 reference, as a share of the bound derived for that very number; above 1 is wrong.",
    );
}

/// A layer of Llama 3 8B on generated numbers.
fn layer(engine: &Engine, tokens: u32, json: bool) -> Result<Figures> {
    let mut spec = Spec::new(32, 8, 128);
    spec.dtype = Dtype::F16;
    (spec.rotary, spec.mask) = (Some(Rotary::new(Pairing::Half, 128, 500_000.0)), Mask::causal());
    let tensor = |heads: u32, seed: u64| {
        let values = noise((tokens * heads * spec.head_dim) as usize, seed);
        Tensor::bshd(Data::from_f32(spec.dtype, &values), [1, tokens, heads, spec.head_dim])
    };
    let inputs = Inputs::new(tensor(spec.num_heads, 1)?, tensor(spec.num_kv_heads, 2)?, tensor(spec.num_kv_heads, 3)?);
    if !json {
        report::say(&format!("\n2. One layer of Llama 3 8B over {tokens} tokens, causal, on generated numbers"));
    }
    let (_, figures) = figures::compute(engine, &spec, &inputs, true)?;
    if !json {
        let mut rows = figures.rows();
        rows.retain(|(name, _)| *name != "adapter");
        report::pairs(&rows);
        let matrix = 4 * spec.num_heads as u64 * (tokens as u64).pow(2);
        report::say(&format!("The matrix of scores would take {}; it never exists.", report::bytes(matrix)));
    }
    Ok(figures)
}

/// Seeded numbers of mean 0 and variance 1, from -3.5 to 3.5: four uniform ones added.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        // splitmix64 (Steele, Lea and Flood 2014)
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let quarter = |z: u64, i: u32| (z >> (16 * i) & 0xffff) as f32 / 65_536.0;
    let mut one = || {
        let z = next();
        ((0..4).map(|i| quarter(z, i)).sum::<f32>() - 2.0) * 3f32.sqrt()
    };
    (0..n).map(|_| one()).collect()
}

fn close(passed: bool, gpu: bool) {
    report::say(match (passed, gpu) {
        (true, true) => "\nEvery number is within its bound.",
        (true, false) => "\nThe reference agrees with transformers. It is what a GPU would be checked against here.",
        (false, _) => {
            "\nSOME NUMBERS ARE WRONG on this adapter. Please report it, with the output of `ropewalk devices`."
        }
    });
    report::say("Next:");
    let next = [
        ("ropewalk devices", "what this machine has"),
        ("ropewalk validate", "many small cases on this adapter, against the reference"),
        ("ropewalk run --help", "your own tensors, with a model's config.json or a spec file"),
        ("ropewalk wgsl --help", "the shader and its bindings, for an engine or a browser"),
    ];
    next.iter().for_each(|(command, what)| report::say(&format!("  {command:22} {what}")));
}
