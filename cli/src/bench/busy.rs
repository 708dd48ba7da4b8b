//! How much of the machine other processes took meanwhile: a benchmark beside them measures them too.

use std::fs;
use std::time::Instant;

/// Ticks of Linux' CPU accounting in a second, the same on every architecture that runs here.
const TICKS: f64 = 100.0;

/// The machine's and this process' CPU time at a moment.
pub struct Busy {
    start: Instant,
    machine: f64,
    own: f64,
}

impl Busy {
    /// None where the system does not say.
    pub fn now() -> Option<Self> {
        let machine = machine(&fs::read_to_string("/proc/stat").ok()?)?;
        let own = own(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Busy { start: Instant::now(), machine, own })
    }
    /// Cores that others kept busy since then, on average.
    pub fn others(&self) -> Option<f64> {
        let now = Busy::now()?;
        let seconds = self.start.elapsed().as_secs_f64();
        let cores = ((now.machine - self.machine) - (now.own - self.own)) / seconds;
        // accounting comes in ticks: of a short time it says little
        (seconds > 20.0 / TICKS).then_some(cores.max(0.0))
    }
}

/// Busy seconds of all cores: of the first line all but idle and waiting.
fn machine(stat: &str) -> Option<f64> {
    let fields: Option<Vec<f64>> =
        stat.lines().next()?.split_whitespace().skip(1).take(8).map(|f| f.parse().ok()).collect();
    let fields = fields?;
    let idle = fields.get(3)? + fields.get(4)?;
    Some((fields.iter().sum::<f64>() - idle) / TICKS)
}

/// Busy seconds of a process, its threads included. Its name may hold spaces and brackets.
fn own(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounting_is_read() {
        let stat = "cpu  100 20 300 5000 60 7 8 0 0 0\ncpu0 50 10 150 2500 30 3 4 0 0 0\n";
        assert_eq!(machine(stat), Some(4.35));
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(own(stat), Some(3.0));
        assert_eq!((machine("nothing"), own("42 (a) S 1"), machine("")), (None, None, None));
    }
}
