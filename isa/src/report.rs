//! The table.

use crate::compile::{Entry, Run};
use crate::listing::Counts;
use crate::model::Prediction;
use comfy_table::{ContentArrangement, LineStyle, Table, presets};

/// Loops of an entry point that the table has.
const LOOPS: usize = 3;

/// All entry points of a card.
pub fn table(run: &Run) -> Table {
    of(&HEADER, run.entries.iter().map(row))
}

/// Predicted times and shares.
pub fn predictions(all: &[Prediction]) -> Table {
    // what is far from being the limit has no figure
    let percent = |share: f64| if share < 10.0 { format!("{:.0} %", 100.0 * share) } else { "-".into() };
    let micros = |seconds: f64| format!("{:.1}", 1e6 * seconds);
    let row = |one: &Prediction| {
        let [issue, shared, bandwidth, latency] = one.bounds.map(percent);
        let share = format!("{} of {}", percent(one.share), one.of);
        let times = [one.seconds, one.others, one.dispatches].map(micros);
        let [all, others, dispatches] = times;
        vec![
            one.product.into(),
            one.workload.clone(),
            all,
            format!("{:.1}", one.tflops),
            share,
            issue,
            shared,
            bandwidth,
            latency,
            percent(one.schedule),
            others,
            dispatches,
        ]
    };
    of(&PREDICTED, all.iter().map(row))
}

const PREDICTED: [&str; 12] = [
    "card",
    "workload",
    "us",
    "TFLOP/s",
    "share",
    "issue",
    "shared",
    "bandwidth",
    "latency",
    "schedule",
    "of us: passes",
    "dispatches",
];

fn of(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    table
}

const HEADER: [&str; 12] = [
    "entry point",
    "plan",
    "reg",
    "spills",
    "scratch",
    "shared",
    "waves",
    "code",
    "ms",
    "in flight",
    "hot loops",
    "B/fma",
];

fn row(entry: &Entry) -> Vec<String> {
    let figures = &entry.figures;
    let hot = || figures.hot(LOOPS).into_iter();
    let waves = figures.waves.map_or("-".into(), |waves| waves.to_string());
    vec![
        entry.id(),
        entry.tuning.replace("-unchecked", ""),
        figures.registers.to_string(),
        figures.spills.to_string(),
        figures.scratch.to_string(),
        figures.shared.to_string(),
        format!("{waves} x{}", figures.subgroup),
        figures.code.to_string(),
        figures.compile_ms.to_string(),
        flight(figures.loads_in_flight, figures.bytes_in_flight),
        hot().map(line).collect::<Vec<_>>().join("\n"),
        hot().map(shared).collect::<Vec<_>>().join("\n"),
    ]
}

/// Loads and the bytes of each.
fn flight(loads: u32, bytes: u32) -> String {
    match loads {
        0 => "-".into(),
        _ => format!("{loads} x {} B", bytes / loads),
    }
}

fn shared(counts: &Counts) -> String {
    counts.shared_bytes_a_multiply_add().map_or("-".into(), |bytes| format!("{bytes:.2}"))
}

/// A loop: its own instructions by kind.
fn line(counts: &Counts) -> String {
    let other = counts.valu + counts.special;
    let kinds = [
        (counts.fma, "fma"),
        (counts.matrix, "matrix"),
        (other, "valu"),
        (counts.scalar, "scalar"),
        (counts.shared, "shared"),
        (counts.loads, "load"),
        (counts.stores, "store"),
        (counts.scratch, "scratch"),
        (counts.waits, "wait"),
        (counts.barriers, "barrier"),
        (counts.branches, "branch"),
    ];
    let kinds = kinds.into_iter().filter(|(n, _)| *n > 0).map(|(n, kind)| format!("{n} {kind}"));
    let mut line = format!("{} = {}", counts.instructions, kinds.collect::<Vec<_>>().join(" + "));
    if counts.loads > 0 {
        line += &format!(", {} in flight", flight(counts.loads_in_flight, counts.bytes_in_flight));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_in_a_line() {
        let counts = Counts {
            instructions: 13,
            fma: 8,
            multiply_adds: 16.0,
            valu: 1,
            special: 1,
            shared: 1,
            shared_bytes: 24,
            loads: 2,
            loads_in_flight: 2,
            bytes_in_flight: 32,
            ..Counts::default()
        };
        assert_eq!(line(&counts), "13 = 8 fma + 2 valu + 1 shared + 2 load, 2 x 16 B in flight");
        assert_eq!((shared(&counts), shared(&Counts::default())), ("1.50".into(), "-".into()));
        assert_eq!(flight(0, 0), "-");
    }
}
