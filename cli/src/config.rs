//! `ropewalk config`: what a model's configuration says of attention, part by part and layer by layer.

use crate::files::{self, Kind};
use crate::report;
use ropewalk::{ConfigAttention, ConfigOptions, ConfigPart, Frequencies, Result, Spec, Stack, config_parts};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::process::ExitCode;

/// Show what a model's config.json says of attention: every part, stack and layer
///
/// Layers that are alike share a line. `defaults` are keys that the file does not have and what the model's class takes for them, as
/// transformers 5.24 has it. Exit code 1 if some attention of the file is not read.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A Hugging Face model's config.json
    file: PathBuf,
    /// The longest sequence in tokens, for length extensions and tables that depend on it
    #[arg(long, value_name = "N")]
    seq_len: Option<u32>,
}

/// Layers that are alike, as `--json` prints them.
#[derive(Serialize)]
struct Layers {
    stack: Stack,
    first: usize,
    last: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<Spec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    terms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One configuration of the file.
#[derive(Serialize)]
struct Part {
    part: String,
    model_type: String,
    /// Whether the file has it; else it is what the class around it takes.
    stated: bool,
    /// `read`, `without` or `refused`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// q and k must carry a norm that is not read.
    normalized: bool,
    layers: Vec<Layers>,
    defaults: Map<String, Value>,
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let (name, text) = (args.file.display().to_string(), files::text(&args.file, Kind::Config)?);
    files::json::<Value>(&name, &ropewalk::finite(&text))?;
    let mut options = ConfigOptions::default();
    options.seq_len = args.seq_len;
    let parts: Vec<Part> = config_parts(&text, &options)?.into_iter().map(part).collect();
    if json {
        report::json(&parts);
    } else {
        print(&parts);
    }
    crate::verdict(parts.iter().all(|part| part.verdict != "refused"))
}

fn part(part: ConfigPart) -> Part {
    let (mut verdict, mut why, mut layers) = ("without", None, Vec::new());
    match part.attention {
        ConfigAttention::Without(what) => why = Some(what.to_string()),
        ConfigAttention::Refused(error) => (verdict, why) = ("refused", Some(error.to_string())),
        ConfigAttention::Stacks(stacks) => {
            for (stack, list) in stacks {
                layers.extend(alike(stack, list));
            }
            if layers.iter().any(|l| l.spec.is_some()) {
                verdict = "read";
            }
            if let Some(error) = layers.iter().find_map(|l| l.error.clone()) {
                (verdict, why) = ("refused", Some(error));
            }
        }
        _ => {}
    }
    let defaults = part.defaults.into_iter().collect();
    Part {
        part: part.path,
        model_type: part.model_type,
        stated: part.stated,
        verdict,
        why,
        normalized: part.normalized,
        layers,
        defaults,
    }
}

/// Neighbouring layers that are alike, as one.
fn alike(stack: Stack, list: Vec<Result<Option<Spec>>>) -> Vec<Layers> {
    let mut found: Vec<Layers> = Vec::new();
    for (at, layer) in list.into_iter().enumerate() {
        let (spec, error) = match layer {
            Ok(spec) => (spec, None),
            Err(error) => (None, Some(error.to_string())),
        };
        match found.last_mut() {
            Some(last) if last.spec == spec && last.error == error => last.last = at,
            _ => {
                let terms = spec.as_ref().map(Spec::terms).unwrap_or_default();
                found.push(Layers { stack, first: at, last: at, spec, terms, error });
            }
        }
    }
    found
}

fn print(parts: &[Part]) {
    for part in parts {
        let whole = if part.part.is_empty() { "(file)" } else { &part.part };
        let origin = if part.stated { "" } else { ", by its class: not in the file" };
        let norm = if part.normalized { "; q and k must carry the model's norm (--normalized)" } else { "" };
        let why = part.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        report::say(&format!("{whole}  {}{origin}  {}{why}{norm}", part.model_type, part.verdict));
        let rows: Vec<Vec<String>> = part.layers.iter().map(row).collect();
        if !rows.is_empty() {
            let header = ["stack", "layers", "heads", "head", "scale", "rotation", "mask", "terms"];
            report::say(&report::table(&header, rows).to_string());
        }
        if !part.defaults.is_empty() {
            let list: Vec<String> = part.defaults.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            report::say(&format!("defaults: {}", list.join(", ")));
        }
        report::say("");
    }
}

fn row(layers: &Layers) -> Vec<String> {
    let stack = format!("{:?}", layers.stack).to_lowercase();
    let range = match layers.first == layers.last {
        true => layers.first.to_string(),
        false => format!("{}-{}", layers.first, layers.last),
    };
    let Some(spec) = &layers.spec else {
        let none = layers.error.clone().unwrap_or_else(|| "no attention".into());
        return [stack, range].into_iter().chain(vec![String::new(); 5]).chain([none]).collect();
    };
    let head = match spec.head_dim == spec.v_head_dim {
        true => spec.head_dim.to_string(),
        false => format!("{}, v {}", spec.head_dim, spec.v_head_dim),
    };
    let rotation = spec.rotary.as_ref().map_or("none".into(), |r| {
        let f = r.inv_freq();
        let (first, last) = (f.first().copied().unwrap_or(0.0), f.last().copied().unwrap_or(0.0));
        let theta = match r.frequencies {
            Frequencies::Theta(theta) => format!("theta {theta}"),
            _ => format!("f {first:.3e} to {last:.3e}"),
        };
        format!("{} of {} from {}, {theta}", r.rotary_dim, spec.head_dim, r.offset)
    });
    let mask = &spec.mask;
    let shown = [
        mask.causal.then(|| "causal".to_string()),
        mask.window_left.map(|n| format!("{n} left")),
        mask.window_right.filter(|_| !mask.causal).map(|n| format!("{n} right")),
        mask.chunk.map(|n| format!("chunks of {n}")),
        mask.dense.then(|| "the caller's".to_string()),
    ];
    let shown: Vec<String> = shown.into_iter().flatten().collect();
    let mask = if shown.is_empty() { "none".into() } else { shown.join(", ") };
    let heads = format!("{}/{}", spec.num_heads, spec.num_kv_heads);
    vec![stack, range, heads, head, report::number(spec.scale()), rotation, mask, layers.terms.join(" ")]
}
