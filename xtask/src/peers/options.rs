//! The options of `cargo xtask peers`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{PEERS, WORKLOADS};

pub const USAGE: &str = "usage: cargo xtask peers [OPTIONS]

Runs the workloads of `ropewalk bench` in other systems on this machine, in alternation with ours, and prints one table:
the peer's time / ours, of the best runs and of the medians. Packages are installed under target/peers, which takes
minutes and about 7 GB the first time. benches/peers/README.md says what each peer runs.

  --peers LIST      of ort-webgpu, ort-cpu, torch, ggml, burn [default: all but burn]
  --burn            adds Burn's wgpu backend, which compiles for minutes
  --workloads LIST  of p1, b1, p2, d1, r1 [default: all]
  --rounds N        turns of each [default: 5]
  --runs N          runs in each turn, at least [default: 4]
  --seconds S       seconds that a turn times, at least [default: 1]
  --adapter NAME    the adapter of ours, as in `ropewalk bench --adapter`; peers take the first that the system offers
  --json FILE       writes the rows as JSON, one object a line
  --runner COMMAND  a command before each program that opens the GPU, to run it under a driver of its own
  --ours PROGRAM    another build of ropewalk instead of this source

The status is 1 where ours was not checked, or failed, in any turn; a peer that fails is a row of the table.";

#[derive(Debug, PartialEq)]
pub struct Options {
    pub peers: Vec<String>,
    pub workloads: Vec<String>,
    pub rounds: usize,
    pub runs: usize,
    pub seconds: f64,
    pub adapter: Option<String>,
    pub json: Option<PathBuf>,
    pub runner: Vec<String>,
    pub ours: Option<PathBuf>,
}

impl Options {
    /// None where help is asked for.
    pub fn parse(arguments: Vec<OsString>) -> Result<Option<Options>, String> {
        let mut options = Options {
            peers: PEERS.iter().filter(|peer| peer.name != "burn").map(|peer| peer.name.to_string()).collect(),
            workloads: WORKLOADS.iter().map(|(name, _)| name.to_string()).collect(),
            rounds: 5,
            runs: 4,
            seconds: 1.0,
            adapter: None,
            json: None,
            runner: vec![],
            ours: None,
        };
        let mut burn = false;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = text(argument)?;
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (argument.as_str(), None),
            };
            match (name, &inline) {
                ("--help" | "-h", None) => return Ok(None),
                ("--burn", None) => {
                    burn = true;
                    continue;
                }
                _ if !KNOWN.contains(&name) => return Err(format!("{argument}: no such option")),
                _ => {}
            }
            let value = inline.or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value"))?;
            match name {
                "--json" => options.json = Some(value.into()),
                "--ours" => options.ours = Some(value.into()),
                "--adapter" => options.adapter = Some(text(value)?),
                "--runner" => options.runner = text(value)?.split_whitespace().map(str::to_string).collect(),
                "--rounds" => options.rounds = count(name, &text(value)?)?,
                "--runs" => options.runs = count(name, &text(value)?)?,
                "--seconds" => options.seconds = seconds(&text(value)?)?,
                "--peers" => options.peers = list(name, &text(value)?, PEERS.iter().map(|peer| peer.name))?,
                _ => options.workloads = list(name, &text(value)?, WORKLOADS.iter().map(|(name, _)| *name))?,
            }
        }
        if burn && !options.peers.iter().any(|name| name == "burn") {
            options.peers.push("burn".into());
        }
        Ok(Some(options))
    }
}

const KNOWN: [&str; 9] =
    ["--peers", "--workloads", "--rounds", "--runs", "--seconds", "--adapter", "--json", "--runner", "--ours"];

fn text(argument: OsString) -> Result<String, String> {
    argument.into_string().map_err(|argument| format!("{}: not Unicode", argument.display()))
}

fn count(name: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(count @ 1..=1000) => Ok(count),
        _ => Err(format!("{name} {value}: a number from 1 to 1000 is wanted")),
    }
}

fn seconds(value: &str) -> Result<f64, String> {
    let number = value.parse().ok().filter(|seconds| (0.01..=60.0).contains(seconds));
    number.ok_or_else(|| format!("--seconds {value}: a number from 0.01 to 60 is wanted"))
}

fn list<'a>(option: &str, value: &str, known: impl Iterator<Item = &'a str>) -> Result<Vec<String>, String> {
    let known: Vec<&str> = known.collect();
    let mut names: Vec<String> = vec![];
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !known.contains(&name) {
            return Err(format!("{option}: {name} is none of {}", known.join(", ")));
        }
        if !names.iter().any(|already| already == name) {
            names.push(name.to_string());
        }
    }
    if names.is_empty() { Err(format!("{option} needs at least one of {}", known.join(", "))) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn lists_counts_and_flags() {
        let options = parse("--peers torch,torch --burn --workloads=d1 --rounds 3 --runner").unwrap_err();
        assert_eq!(options, "--runner needs a value");
        let options = parse("--peers torch,torch --burn --workloads=d1 --rounds 3").unwrap().unwrap();
        assert_eq!((options.peers, options.workloads), (vec!["torch".into(), "burn".into()], vec!["d1".to_string()]));
        assert_eq!((options.rounds, options.runs, options.seconds), (3, 4, 1.0));
        assert_eq!(parse("--rounds 2 --help"), Ok(None));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, said) in [
            ("--peers", "--peers needs a value"),
            ("--peers numpy", "--peers: numpy is none of ort-webgpu"),
            ("--workloads ,", "--workloads needs at least one of p1"),
            ("--rounds 0", "--rounds 0: a number from 1"),
            ("--seconds NaN", "--seconds NaN: a number from 0.01"),
            ("--fast", "--fast: no such option"),
            ("p1", "p1: no such option"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.starts_with(said), "{line}: {error}");
        }
    }
}
