//! Results as columns of text, for tables that programs read.

use super::{Bound, Line};
use serde::Serialize;

/// A column: its name and what it holds of a result; empty where there is nothing.
pub type Column = (&'static str, fn(&Line) -> String);

/// Every number of a result, as the fields of its JSON are called; those of fields within fields joined by `_`.
pub const COLUMNS: [Column; 34] = [
    ("workload", |l| l.workload.clone()),
    ("adapter", |l| l.adapter.clone()),
    ("driver", |l| l.driver.clone()),
    ("kernel", |l| l.kernel.clone()),
    ("tuning", |l| l.tuning.iter().map(word).collect::<Vec<_>>().join(" ")),
    ("checked", |l| l.checked.to_string()),
    ("check", |l| l.check.clone()),
    ("median_ms", |l| l.median_ms.to_string()),
    ("min_ms", |l| l.min_ms.to_string()),
    ("spread_percent", |l| l.spread_percent.to_string()),
    ("clock", |l| l.clock.to_string()),
    ("wall_median_ms", |l| given(l.wall.map(|wall| wall.median_ms))),
    ("wall_min_ms", |l| given(l.wall.map(|wall| wall.min_ms))),
    ("runs", |l| l.runs.to_string()),
    ("other_cores", |l| given(l.other_cores)),
    ("batch", |l| l.batch.to_string()),
    ("sets", |l| l.sets.to_string()),
    ("dispatches", |l| l.dispatches.to_string()),
    ("gflops", |l| l.gflops.to_string()),
    ("gbps", |l| l.gbps.to_string()),
    ("ceiling_percent", |l| l.ceiling_percent.to_string()),
    ("bound", |l| l.bound.map_or("", Bound::name).to_string()),
    ("ceilings_copy_gbps", |l| given(l.ceilings.map(|c| c.copy_gbps))),
    ("ceilings_fma_gflops", |l| given(l.ceilings.map(|c| c.fma_gflops))),
    ("flop", |l| l.flop.to_string()),
    ("bytes", |l| l.bytes.to_string()),
    ("peak_bytes", |l| l.peak_bytes.to_string()),
    ("compile_ms", |l| l.compile_ms.to_string()),
    ("version", |l| l.version.to_string()),
    ("date", |l| l.date.clone()),
    ("compare_median", |l| given(l.compare.as_ref().map(|r| r.median))),
    ("compare_min", |l| given(l.compare.as_ref().map(|r| r.min))),
    ("compare_before_median_ms", |l| given(l.compare.as_ref().map(|r| r.before_median_ms))),
    ("compare_before_min_ms", |l| given(l.compare.as_ref().map(|r| r.before_min_ms))),
];

fn given(number: Option<f64>) -> String {
    number.map_or(String::new(), |x| x.to_string())
}

/// A variant's name, as JSON has it.
fn word(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    let key = || json.as_object().and_then(|fields| fields.keys().next()).map(String::as_str);
    json.as_str().or_else(key).unwrap_or_default().to_string()
}
