//! Results for people.

use super::compare::{Earlier, unmatched};
use super::{Bound, Ceilings, Line};
use crate::text;
use ropewalk::{Gpu, workload};

/// Cores of other processes that a time is not disturbed by.
const QUIET: f64 = 0.15;

/// What a table shows of each result.
fn cells(lines: &[Line]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let header = ["", "median", "best", "spread", "GFLOP/s", "GB/s", "of ceiling", "memory", "compile", "checked"];
    let mut header = header.to_vec();
    let compared = lines.iter().any(|line| line.compare.is_some());
    if compared {
        header.push("before / now");
    }
    let row = |line: &Line| {
        let ms = |ms: f64| text::time(1e-3 * ms);
        let mut row = vec![
            line.workload.clone(),
            ms(line.median_ms),
            ms(line.min_ms),
            format!("{:.0} %", line.spread_percent),
            text::number(line.gflops),
            text::number(line.gbps),
            format!("{:.0} % {}", line.ceiling_percent, line.bound.map_or("", Bound::name)),
            text::bytes(line.peak_bytes),
            ms(line.compile_ms),
            match line.wrong {
                true => format!("WRONG: {}", line.what),
                false => line.what.clone(),
            },
        ];
        if compared {
            let ratio = |r: &super::Ratio| format!("{:.2} (best {:.2})", r.median, r.min);
            row.push(line.compare.as_ref().map_or("-".into(), ratio));
        }
        row
    };
    (header, lines.iter().map(row).collect())
}

/// The results of all adapters as one table in Markdown.
pub fn markdown(lines: &[Line]) -> String {
    let (mut header, mut rows) = cells(lines);
    if let Some(first) = header.first_mut() {
        *first = "workload";
    }
    header.extend(["kernel", "adapter", "driver"]);
    for (row, line) in rows.iter_mut().zip(lines) {
        row.extend([line.kernel.clone(), line.adapter.clone(), line.driver.clone()]);
    }
    text::markdown(&header, rows).to_string()
}

/// The results of one adapter, below its ceilings.
pub fn text(gpu: &Gpu, ceilings: &Ceilings, lines: &[Line]) -> String {
    let mut said = vec![gpu.describe()];
    let matrix = ceilings.matrix_gflops.map_or(String::new(), |rate| format!(", {} on matrix units", rate_of(rate)));
    said.push(format!(
        "ceilings, measured now: {} GB/s copied by a kernel (read and written; {} by the driver's own copy), {} in f32 multiply-adds{matrix}",
        text::number(ceilings.copy_gbps),
        text::number(ceilings.transfer_gbps),
        rate_of(ceilings.fma_gflops)
    ));
    if lines.is_empty() {
        return said.join("\n");
    }
    let (header, rows) = cells(lines);
    said.push(text::table(&header, rows).to_string());
    let about = |line: &Line| {
        let base = line.workload.split('-').next().unwrap_or_default();
        let about = workload::named(base).map_or(String::new(), |w| w.about);
        let stored = line.tuning.contains(&ropewalk::Source::Stored);
        format!("{about}; {}{}", line.kernel, if stored { " (tuned)" } else { "" })
    };
    said.push(text::pairs(&lines.iter().map(|line| (line.workload.as_str(), about(line))).collect::<Vec<_>>()));
    let clock = match lines.iter().all(|l| l.clock == "wall") {
        true => "by the wall clock around runs that are waited for",
        false => "by the GPU's timestamps",
    };
    let runs = |most: bool| {
        let all = lines.iter().map(|l| l.runs);
        if most { all.max() } else { all.min() }.unwrap_or(0)
    };
    said.push(format!(
        "Times {clock}, over {} to {} runs; spread: 10th to 90th percentile. GFLOP/s: what must be computed (causal pairs",
        runs(false),
        runs(true)
    ));
    said.push("alone; products with keys, values and tables; of r1 the turns). GB/s: what must move (each input read once, each".into());
    said.push(
        "result written once). Of ceiling: the least time that the ceilings allow, as a share of the median.".into(),
    );
    if lines.iter().any(|l| l.tuning.contains(&ropewalk::Source::Stored)) {
        said.push("`tuned`: what `ropewalk tune` found fastest here; --untuned leaves that aside.".into());
    }
    // beside what others did
    let others = lines.iter().filter_map(|l| l.other_cores).fold(0.0, f64::max);
    if others > QUIET {
        said.push(format!(
            "Other processes kept up to {others:.1} cores busy meanwhile: read `best`, or run it again alone."
        ));
    }
    for line in lines.iter().filter(|line| line.wrong) {
        said.push(format!("{}: {}", line.workload, line.check));
    }
    said.join("\n")
}

fn rate_of(gflops: f64) -> String {
    match gflops {
        rate if rate >= 1e3 => format!("{} TFLOP/s", text::number(1e-3 * rate)),
        rate => format!("{} GFLOP/s", text::number(rate)),
    }
}

/// What has no partner in the other run, and where the driver changed.
pub fn partners(lines: &[Line], earlier: &[Earlier]) -> Vec<String> {
    let mut said = Vec::new();
    for line in lines {
        match &line.compare {
            None => {
                let Line { workload, adapter, .. } = line;
                said.push(format!("{workload} on {adapter}: not in the earlier run"));
            }
            Some(ratio) => {
                if let Some(driver) = &ratio.before_driver {
                    said.push(format!("{}: another driver then, {driver}", line.workload));
                }
            }
        }
    }
    for e in unmatched(lines, earlier) {
        said.push(format!("{} on {}: only in the earlier run", e.workload, e.adapter));
    }
    said
}
