//! Two builds of this program in alternation, so that whatever else the machine does strikes both alike.

use super::{Args, verdict};
use crate::progress::Bar;
use crate::report;
use crate::workloads::compare::{self, Earlier};
use ropewalk::workload::Workload;
use ropewalk::{Error, Result};
use serde::Serialize;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// One workload by both.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Pairs {
    workload: String,
    adapter: String,
    driver: String,
    /// By this program and by the other.
    kernel: String,
    other_kernel: String,
    /// The medians of its runs' medians.
    median_ms: f64,
    other_median_ms: f64,
    /// The other's median divided by this one's, of each pair; above 1: this one is faster.
    ratios: Vec<f64>,
    /// Their median.
    ratio: f64,
}

/// Runs each workload by both programs in turn: exit code 1 if a result is wrong, 4 if this one is too slow.
pub fn run(args: &Args, program: &Path, chosen: &[Workload], named: bool, json: bool) -> Result<ExitCode> {
    if args.adapter.as_deref() == Some("all") {
        return Err(Error::input("--adapter", "is all", "name one adapter, or the pairs are not of the same"));
    }
    let own = std::env::current_exe().map_err(|e| {
        Error::input("--against", format!("this program's own file is unknown: {e}"), "run it by its path")
    })?;
    let chosen: Vec<&Workload> = chosen.iter().filter(|workload| named || workload.name != "p3").collect();
    let bar = Bar::new("in alternation");
    let (mut all, mut wrong) = (Vec::new(), false);
    let steps = (chosen.len() * args.pairs as usize).max(1) as f64;
    for workload in &chosen {
        let mut both: [Vec<Earlier>; 2] = Default::default();
        for pair in 0..args.pairs {
            // results are compared with the reference once
            let checked = pair == 0 && !args.unchecked;
            for turn in [pair % 2, 1 - pair % 2] {
                let (path, runs) = if turn == 0 { (own.as_path(), &mut both[0]) } else { (program, &mut both[1]) };
                let (line, right) = one(path, &workload.name, args, checked)?;
                wrong |= !right;
                runs.push(line);
            }
            bar.set(((all.len() as f64) * args.pairs as f64 + pair as f64 + 1.0) / steps);
        }
        let pairs = Pairs::new(&both)?;
        if json {
            bar.say(&serde_json::to_string(&pairs).unwrap_or_default());
        }
        report::delivered()?;
        all.push(pairs);
    }
    drop(bar);
    if !json {
        report::say(&text(&all));
    }
    let slow: Vec<&Pairs> = all.iter().filter(|p| args.fail_above.is_some_and(|most| p.ratio * most < 1.0)).collect();
    for p in &slow {
        let times = 1.0 / p.ratio;
        report::complain(&format!("{} on {}: TOO SLOW: {times:.2} times the other's time", p.workload, p.adapter));
    }
    if wrong {
        report::complain("a result is WRONG: `ropewalk bench WORKLOAD` by that program says which");
    }
    verdict(wrong, !slow.is_empty())
}

/// A run of one workload by a program: its line, and whether it is right.
fn one(program: &Path, workload: &str, args: &Args, checked: bool) -> Result<(Earlier, bool)> {
    let bad = |problem: String| {
        let what = format!("--against: {}", program.display());
        Error::input(what, problem, "give a build of this program that knows the workload, and the same adapter")
    };
    let mut command = Command::new(program);
    command.args([
        "bench",
        workload,
        "--json",
        "--seconds",
        &args.seconds.to_string(),
        "--runs",
        &args.runs.to_string(),
    ]);
    command.args(args.sets.iter().flat_map(|sets| ["--sets".to_string(), sets.to_string()]));
    command.args(args.adapter.iter().flat_map(|adapter| ["--adapter", adapter.as_str()]));
    command.args(args.untuned.then_some("--untuned"));
    command.args((!checked).then_some("--unchecked"));
    let output = command.stdin(Stdio::null()).output().map_err(|e| bad(format!("cannot be run: {e}")))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    let right = match output.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => return Err(bad(format!("ended with {}: {}", output.status, said(&output.stderr)))),
    };
    let lines = compare::parse(&program.display().to_string(), &said(&output.stdout))?;
    match <[Earlier; 1]>::try_from(lines) {
        Ok([line]) => Ok((line, right)),
        Err(lines) => Err(bad(format!("printed {} results for one", lines.len()))),
    }
}

impl Pairs {
    fn new([own, other]: &[Vec<Earlier>; 2]) -> Result<Self> {
        let (Some(first), Some(of_other)) = (own.first(), other.first()) else {
            return Err(Error::input("--pairs", "nothing was run", "give one or more"));
        };
        if (&first.adapter, &first.driver) != (&of_other.adapter, &of_other.driver) {
            let problem = format!("ran on {} ({})", of_other.adapter, of_other.driver);
            let help =
                format!("--adapter names one that both see, such as this one's {} ({})", first.adapter, first.driver);
            return Err(Error::input("--against: the other program", problem, help));
        }
        let ratios: Vec<f64> = own.iter().zip(other).map(|(own, other)| other.median_ms / own.median_ms).collect();
        let of = |runs: &[Earlier]| median(runs.iter().map(|run| run.median_ms).collect());
        Ok(Pairs {
            workload: first.workload.clone(),
            adapter: first.adapter.clone(),
            driver: first.driver.clone(),
            kernel: first.kernel.clone(),
            other_kernel: of_other.kernel.clone(),
            median_ms: of(own),
            other_median_ms: of(other),
            ratio: median(ratios.clone()),
            ratios,
        })
    }
}

/// Of an even number the mean of the two in the middle; 0 of none.
fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    let at = |n: usize| all.get(n).copied().unwrap_or(0.0);
    (at(all.len().saturating_sub(1) / 2) + at(all.len() / 2)) / 2.0
}

fn text(all: &[Pairs]) -> String {
    let header = ["", "this", "other", "other / this", "of pairs", "kernel", "other's kernel"];
    let row = |p: &Pairs| {
        let least = p.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = p.ratios.iter().copied().fold(0.0, f64::max);
        let same = if p.kernel == p.other_kernel { "the same" } else { &p.other_kernel };
        vec![
            p.workload.clone(),
            report::time(1e-3 * p.median_ms),
            report::time(1e-3 * p.other_median_ms),
            format!("{:.3}", p.ratio),
            format!("{least:.3} to {most:.3}"),
            p.kernel.clone(),
            same.to_string(),
        ]
    };
    let mut said: Vec<String> = all.first().map(|p| format!("{}, {}", p.adapter, p.driver)).into_iter().collect();
    said.push(report::table(&header, all.iter().map(row)).to_string());
    let pairs = all.first().map_or(0, |p| p.ratios.len());
    said.push(format!(
        "Medians over {pairs} pairs of runs, the programs in turn; other / this above 1: this one is faster."
    ));
    said.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(adapter: &str, median_ms: f64) -> Earlier {
        let (workload, driver, kernel) = ("p1".into(), "D".into(), "k".into());
        Earlier { workload, adapter: adapter.into(), driver, kernel, median_ms, min_ms: median_ms, date: None }
    }

    #[test]
    fn the_ratio_is_the_median_of_pairs() {
        // a machine that grows slower strikes both: the ratio of medians of all runs would say 2
        let own = [10.0, 20.0, 40.0].map(|ms| run("A", ms)).to_vec();
        let other = [20.0, 40.0, 20.0].map(|ms| run("A", ms)).to_vec();
        let pairs = Pairs::new(&[own.clone(), other]).expect("pairs");
        assert_eq!((pairs.ratio, pairs.median_ms, pairs.other_median_ms), (2.0, 20.0, 20.0));
        assert_eq!(pairs.ratios, [2.0, 2.0, 0.5]);
        assert!(text(&[pairs]).contains("0.500 to 2.000"));
        assert!(Pairs::new(&[own, vec![run("B", 1.0)]]).is_err(), "another adapter");
    }
}
