//! `ropewalk plot`: pictures of systems, where people would rather look than read.

use crate::pictures::data::{self, Kind, Options, Panel};
use crate::pictures::{Theme, format, picture};
use crate::systems::unknown;
use crate::{files, report};
use ropewalk::systems::{System, system, systems};
use ropewalk::{Error, Result};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Draw systems: encodings, similarities, biases, decay, the error of angles
///
/// Each system gets a panel; curves of several systems share one. With --json the numbers behind the picture are
/// printed, and --out may be left out.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Systems by name, as `ropewalk systems` lists them; `extensions` stands for RoPE and its length extensions
    #[arg(required = true, value_name = "SYSTEM")]
    systems: Vec<String>,
    /// The picture, .svg or .png
    #[arg(long, visible_alias = "output", value_name = "FILE")]
    out: Option<PathBuf>,
    /// What is drawn; each system has a kind of its own
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The background that it is for
    #[arg(long, value_enum, default_value = "light")]
    theme: Theme,
    /// Positions, or queries and keys [default: by kind]
    #[arg(long, value_name = "N")]
    positions: Option<u32>,
    /// Dimensions of the encoding, or elements that rotate [default: by kind]
    #[arg(long, value_name = "N")]
    dims: Option<u32>,
    /// The head whose bias is drawn
    #[arg(long, value_name = "H", default_value_t = 0)]
    head: u32,
    /// The base of the frequencies
    #[arg(long, value_name = "X", default_value_t = 10_000.0)]
    theta: f64,
    /// The length of training, in tokens
    #[arg(long, value_name = "N", default_value_t = 4096)]
    trained: u32,
    /// The extended length divided by the trained one
    #[arg(long, value_name = "X", default_value_t = 8.0)]
    factor: f64,
}

/// The name of RoPE and its length extensions together, drawn as their decay.
const EXTENSIONS: &str = "extensions";

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let format = args.out.as_ref().map(|out| format("--out", out)).transpose()?;
    if format.is_none() && !json {
        return Err(Error::input("--out", "is missing", "name a file that ends in .svg or .png, or ask for --json"));
    }
    let options = Options {
        positions: args.positions,
        dims: args.dims,
        head: args.head,
        theta: args.theta,
        trained: args.trained,
        factor: args.factor,
    };
    let kind = args.kind.or_else(|| args.systems.iter().any(|s| s == EXTENSIONS).then_some(Kind::Decay));
    let panels = data::panels(&chosen(&args.systems)?, kind, &options)?;
    if let (Some(out), Some(format)) = (&args.out, format) {
        let bytes = picture(&panels, args.theme, format)?;
        files::replace("--out", out, &bytes)?;
        if !json {
            let size = report::bytes(bytes.len() as u64);
            report::say(&format!("{}: {} ({size})", out.display(), titles(&panels).join("; ")));
        }
    }
    if json {
        report::json(&json!({ "panels": panels }));
    }
    crate::verdict(true)
}

fn titles(panels: &[Panel]) -> Vec<&str> {
    let titles = panels.iter().map(|panel| match panel {
        Panel::Heat(heat) => heat.title.as_str(),
        Panel::Curves(curves) => curves.title.as_str(),
    });
    titles.collect()
}

/// The systems of some names, each once.
fn chosen(names: &[String]) -> Result<Vec<&'static System>> {
    let mut chosen: Vec<&System> = Vec::new();
    for name in names {
        let found: Vec<&System> = match name.as_str() {
            EXTENSIONS => systems().iter().filter(|s| data::kinds(s).contains(&Kind::Decay)).collect(),
            name => vec![system(name).ok_or_else(|| unknown(name, data::drawable().into_iter()))?],
        };
        for system in found {
            if !chosen.iter().any(|c| c.name == system.name) {
                chosen.push(system);
            }
        }
    }
    Ok(chosen)
}
