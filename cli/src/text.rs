//! Results as text: tables, pairs, units.

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use std::fmt::Display;

/// Names and values, one pair a line, the values aligned.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// A table; in a terminal it fits that.
pub fn table<C: Display>(header: &[&str], rows: impl IntoIterator<Item = Vec<C>>) -> Table {
    let mut table = Table::new();
    let style = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.iter().map(C::to_string).collect::<Vec<_>>());
    }
    table
}

/// A table in Markdown.
pub fn markdown<C: Display>(header: &[&str], rows: impl IntoIterator<Item = Vec<C>>) -> Table {
    let plain = rows
        .into_iter()
        .map(|row| row.iter().map(|cell| cell.to_string().replace('\n', " ").replace('|', "\\|")).collect());
    let mut table = table(header, plain.collect::<Vec<Vec<String>>>());
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Bytes in the largest binary unit that keeps the number at 1 or above.
pub fn bytes(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (n.max(1).ilog2() / 10).min(4);
    let value = n as f64 / (1u64 << (10 * power)) as f64;
    match units.get(power as usize) {
        Some(unit) if n.is_multiple_of(1 << (10 * power)) => format!("{value} {unit}"),
        Some(unit) => format!("{value:.1} {unit}"),
        None => format!("{n} B"),
    }
}

/// A number to three digits.
pub fn number(x: f64) -> String {
    let decimals = if x.is_normal() { (2.0 - x.abs().log10().floor()).clamp(0.0, 12.0) } else { 0.0 };
    format!("{x:.0$}", decimals as usize)
}

/// A duration to three digits.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{} s", number(s)),
        s if s >= 1e-3 => format!("{} ms", number(s * 1e3)),
        s => format!("{} us", number(s * 1e6)),
    }
}
