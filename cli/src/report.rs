//! Printing that the subcommands share: lines, tables, units, progress.

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use ropewalk::{Error, Result};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

/// Why stdout does not hold everything that was said: the first failure.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// A line on stdout, through which everything goes that is printed there. Whether it arrived is asked by [`delivered`].
pub fn say(line: &str) {
    let mut out = io::stdout();
    note(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// What became of something that was to be printed on stdout.
pub fn note(printed: io::Result<()>) {
    if let Err(e) = printed {
        FAILED.set(e).ok();
    }
}

/// Whether everything that was said has arrived: asked at the end, and by long work before its next step.
pub fn delivered() -> Result<()> {
    match FAILED.get() {
        Some(e) => Err(Error::input("stdout", format!("cannot be written: {e}"), "is the disk full?")),
        None => Ok(()),
    }
}

/// Whether the reader of stdout has gone (`| head`), which is no failure to speak of.
pub fn closed() -> bool {
    FAILED.get().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// A line on stderr.
pub fn complain(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

/// A value as JSON on stdout; numbers that JSON lacks (infinity) become null.
pub fn json(value: &impl Serialize) {
    say_made(serde_json::to_string_pretty(value));
}

/// A value as JSON on one line of stdout.
pub fn json_line(value: &impl Serialize) {
    say_made(serde_json::to_string(value));
}

fn say_made(json: serde_json::Result<String>) {
    match json {
        Ok(text) => say(&text),
        Err(e) => note(Err(io::Error::other(e))),
    }
}

/// Names and values, one pair a line, the values aligned.
pub fn pairs(rows: &[(&str, String)]) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().for_each(|(name, value)| say(&format!("{name:width$}  {value}")));
}

/// A table that fits the terminal.
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

/// A progress bar on stderr, drawn only where stderr is a terminal, gone when it is dropped.
pub struct Bar(ProgressBar);

const STEPS: f64 = 1000.0;

impl Bar {
    /// For work that tells how much of it is done.
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(STEPS as u64).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:40} {percent:>3} %  {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar(bar)
    }
    /// For work that does not.
    pub fn spinner(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar(bar)
    }
    /// The finished share, 0 to 1.
    pub fn set(&self, share: f64) {
        self.0.set_position((share * STEPS) as u64);
    }
    /// A line on stdout, above the bar.
    pub fn say(&self, line: &str) {
        self.0.suspend(|| say(line));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
