//! When the last workgroup of a dispatch ends.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// A workgroup, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// What it takes of a core's throughput.
    pub takes: f64,
    /// How long it lasts at least, on a core of its own.
    pub alone: f64,
}

/// A core and what runs on it: shares of jobs that are left.
#[derive(Default)]
struct Running {
    jobs: Vec<(Job, f64)>,
    at: f64,
    /// How often its jobs changed: what was foretold before is void.
    version: u64,
}

impl Running {
    /// Shares a second: all divide the core, none is faster than alone.
    fn speed(job: &Job, many: usize) -> f64 {
        1.0 / (many as f64 * job.takes).max(job.alone).max(1e-12)
    }
    fn advance(&mut self, at: f64) {
        let many = self.jobs.len();
        for (job, left) in &mut self.jobs {
            *left -= (at - self.at) * Self::speed(job, many);
        }
        self.at = at;
    }
    fn next(&self) -> Option<f64> {
        let many = self.jobs.len();
        let ends = self.jobs.iter().map(|(job, left)| self.at + left.max(0.0) / Self::speed(job, many));
        ends.min_by(f64::total_cmp)
    }
}

/// Jobs start in order, each on the core that has the fewest, where one has room.
pub fn time(jobs: &[Job], cores: usize, resident: usize) -> f64 {
    let mut running: Vec<Running> = (0..cores).map(|_| Running::default()).collect();
    let mut room: BTreeSet<(usize, usize)> = (0..cores).map(|core| (0, core)).collect();
    // times are not negative, so their bits are in their order
    let mut ends: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let (mut now, mut waiting) = (0.0, jobs.iter());
    loop {
        while let Some((many, core)) = room.first().copied().filter(|(many, _)| *many < resident) {
            let Some(job) = waiting.next() else { break };
            room.remove(&(many, core));
            room.insert((many + 1, core));
            running[core].advance(now);
            running[core].jobs.push((*job, 1.0));
            foretell(&mut running, core, &mut ends);
        }
        let Some(Reverse((at, core, version))) = ends.pop() else { return now };
        if running[core].version != version {
            continue;
        }
        now = f64::from_bits(at);
        running[core].advance(now);
        let many = running[core].jobs.len();
        running[core].jobs.retain(|(_, left)| *left > 1e-9);
        room.remove(&(many, core));
        room.insert((running[core].jobs.len(), core));
        foretell(&mut running, core, &mut ends);
    }
}

fn foretell(running: &mut [Running], core: usize, ends: &mut BinaryHeap<Reverse<(u64, usize, u64)>>) {
    let own = &mut running[core];
    own.version += 1;
    ends.extend(own.next().map(|at| Reverse((at.to_bits(), core, own.version))));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(takes: f64, alone: f64) -> Job {
        Job { takes, alone }
    }
    #[track_caller]
    fn near(time: f64, wanted: f64) {
        assert!((time - wanted).abs() < 1e-6, "{time}, not {wanted}");
    }

    #[test]
    fn jobs_that_wait_share_a_core_for_nothing() {
        near(time(&[of(1.0, 4.0); 4], 1, 4), 4.0);
        near(time(&[of(1.0, 4.0); 4], 1, 2), 8.0);
        near(time(&[of(1.0, 4.0); 8], 1, 8), 8.0);
        near(time(&[of(1.0, 4.0); 5], 2, 2), 8.0);
    }

    #[test]
    fn jobs_that_fill_a_core_divide_it() {
        near(time(&[of(1.0, 1.0); 2], 1, 2), 2.0);
        near(time(&[of(1.0, 1.0); 2], 2, 2), 1.0);
        near(time(&[of(1.0, 1.0); 3], 2, 2), 2.0);
        // the longer one is alone after two seconds
        near(time(&[of(1.0, 1.0), of(3.0, 3.0)], 1, 2), 4.0);
    }

    #[test]
    fn long_ones_last_are_late() {
        let (short, long) = (of(0.1, 1.0), of(0.1, 4.0));
        near(time(&[short, short, long], 2, 1), 5.0);
        near(time(&[long, short, short], 2, 1), 4.0);
        near(time(&[], 2, 1), 0.0);
    }
}
