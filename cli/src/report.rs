//! Printing that the subcommands share, beside the text of results.

pub use crate::text::{bytes, number, table, time};
use ropewalk::{Error, Result};
use serde::Serialize;
use std::io::{self, Write};
use std::sync::OnceLock;

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
    if !rows.is_empty() {
        say(&crate::text::pairs(rows));
    }
}
