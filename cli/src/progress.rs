//! Progress on stderr.

use crate::report::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

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
