//! The table: for a kind of device, a family and a class of calls the numbers to take, each line with the device, the date and the
//! command that it came from. The first line that is about a call and suits it is taken, so the order of lines is the order of
//! families; the last lines take everything.
//!
//! Run-time checks (naga's bounds checks and loop guards) are a column. On GPUs lines drop them where the host bounds every index: there a
//! loop guard alone made a pipeline some 100 times slower (wgpu issue 7698). No GPU has measured these kernels yet; `ropewalk tune` tries
//! both. On software adapters they stay: without
//! them Mesa 22 and 25 unroll loops by themselves. Family `rows`, time with checks / without, and seconds of compilation with and without,
//! by `ropewalk tune --checks` on a machine that was not quiet (2026-11-22, 2 cores, best of an alternation):
//!
//! | | d1 | r1 (q) | p1 |
//! |---|---|---|---|
//! | Mesa 22.3 | 0.68, 3.6 and 34 s | 0.96, 0.6 and 5.7 s | 0.94, 0.8 and 10 s |
//! | Mesa 25.0 | 1.09, 5.0 and 147 s | 0.80, 0.1 and 27 s | 1.25, 7.5 and 36 s |
//! | Mesa 26.1 | 2.08, 1.1 and 2.2 s | 1.02, 0.2 and 0.3 s | 3.10, 1.0 and 2.0 s |
//! | SwiftShader | 0.88, 2.3 and 1.3 s | 1.14, 1.2 and 1.4 s | 1.27, 0.8 and 0.8 s |
//!
//! So on Mesa 26 `ropewalk tune --checks` is worth its time; a plan cannot tell one Mesa from another.

use crate::plan::call::Call;
use crate::plan::limits::Limits;
use crate::plan::tuning::bucket::Bucket;
use crate::plan::tuning::tuning::{Family, Tuning};
use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;

/// Where a plan's tuning comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// The caller asked for it.
    Asked,
    /// The winner of its bucket in [`Limits::tunings`].
    Stored,
    /// A line of the table.
    Table {
        /// The device that it was measured on; "none" where it was not.
        device: &'static str,
        /// When, as YYYY-MM-DD; empty where it was not.
        date: &'static str,
        /// By which command; empty where it was not.
        command: &'static str,
    },
    /// There is but one kernel.
    Only,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Asked => write!(f, "asked for"),
            Source::Stored => write!(f, "measured here by `ropewalk tune`"),
            Source::Table { date: "", .. } => write!(f, "the table, not measured on such a device"),
            Source::Table { device, date, command } => {
                write!(f, "the table, measured on {device}, {date}, `{command}`")
            }
            Source::Only => write!(f, "the only kernel"),
        }
    }
}

/// Kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    /// A software adapter.
    Cpu,
    /// Any other.
    Gpu,
    /// A GPU whose subgroups have one known size.
    #[allow(dead_code)] // for lines to come
    GpuSubgroups,
    /// A device with cooperative matrix multiplication, which the caller asked for and which passed its self-test.
    Matrix,
}

impl Device {
    fn is(self, limits: &Limits) -> bool {
        match self {
            Device::Cpu => limits.cpu,
            Device::Gpu => !limits.cpu,
            Device::GpuSubgroups => !limits.cpu && limits.subgroup_size > 0,
            Device::Matrix => limits.cooperative_matrix > 0,
        }
    }
}

/// What becomes of run-time checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    Kept,
    /// Dropped where the host bounds every index.
    Dropped,
    /// The line is about no call whose checks have to stay: compared with its end, each index of a private array is one that a compiler may not
    /// resolve, and blocks of registers go to memory.
    Without,
}

/// A line.
pub(crate) struct Line {
    device: Device,
    pub(crate) family: Family,
    /// Classes of calls, by the ends of [`Bucket`]'s classes.
    calls: Calls,
    /// tile_q, tile_k and splits; none: the family's own first guess for the call.
    numbers: Option<[u32; 3]>,
    checks: Checks,
    pub(crate) source: Source,
}

/// Ends of classes of a bucket.
struct Calls {
    head_dim: RangeInclusive<u32>,
    rows: RangeInclusive<u32>,
    keys: RangeInclusive<u32>,
}

const EVERY: Calls = Calls { head_dim: 0..=u32::MAX, rows: 0..=u32::MAX, keys: 0..=u32::MAX };

pub(crate) const NOT_MEASURED: Source = Source::Table { device: "none", date: "", command: "" };

pub(crate) static TABLE: &[Line] = &[
    Line {
        device: Device::Cpu,
        family: Family::Turns,
        calls: EVERY,
        numbers: None,
        checks: Checks::Kept,
        source: Source::Table {
            device: "llvmpipe (Mesa 22.3, 25.0, 26.1), 2 cores",
            date: "2026-11-22",
            command: "ropewalk tune r1",
        },
    },
    Line {
        device: Device::Gpu,
        family: Family::Turns,
        calls: EVERY,
        numbers: None,
        checks: Checks::Dropped,
        source: NOT_MEASURED,
    },
    // few rows over many keys; the number of splits is the family's guess
    Line {
        device: Device::Cpu,
        family: Family::Decode,
        calls: EVERY,
        numbers: None,
        checks: Checks::Kept,
        source: Source::Table {
            device: "llvmpipe (Mesa 22.3, 25.0, 26.1), 2 cores",
            date: "2026-11-22",
            command: "ropewalk bench d1 d2",
        },
    },
    Line {
        device: Device::Gpu,
        family: Family::Wide,
        calls: EVERY,
        numbers: None,
        checks: Checks::Dropped,
        source: NOT_MEASURED,
    },
    Line {
        device: Device::Gpu,
        family: Family::Decode,
        calls: EVERY,
        numbers: None,
        checks: Checks::Dropped,
        source: NOT_MEASURED,
    },
    // who asks for cooperative matrices gets them: no other device has them
    Line {
        device: Device::Matrix,
        family: Family::Coop,
        calls: EVERY,
        numbers: None,
        checks: Checks::Dropped,
        source: NOT_MEASURED,
    },
    Line {
        device: Device::Cpu,
        family: Family::Lanes,
        calls: EVERY,
        numbers: None,
        checks: Checks::Kept,
        source: Source::Table {
            device: "llvmpipe (Mesa 26.1), 2 cores",
            date: "2026-11-22",
            command: "ropewalk tune p1",
        },
    },
    Line {
        device: Device::Cpu,
        family: Family::Rows,
        calls: EVERY,
        numbers: None,
        checks: Checks::Kept,
        source: Source::Table {
            device: "llvmpipe (Mesa 22.3, 25.0, 26.1) and SwiftShader, 2 cores",
            date: "2026-11-22",
            command: "ropewalk tune --checks p1 d1 r1",
        },
    },
    // products in registers: three quarters of its instructions and more multiply
    Line {
        device: Device::Gpu,
        family: Family::Block,
        calls: EVERY,
        numbers: None,
        checks: Checks::Without,
        source: NOT_MEASURED,
    },
    // first of its kind on a GPU: staged once a tile for all rows, in register tiles
    Line {
        device: Device::Gpu,
        family: Family::Tile,
        calls: EVERY,
        numbers: None,
        checks: Checks::Dropped,
        source: NOT_MEASURED,
    },
    Line {
        device: Device::Gpu,
        family: Family::Rows,
        calls: EVERY,
        numbers: None,
        checks: Checks::Dropped,
        source: NOT_MEASURED,
    },
];

impl Line {
    /// What it gives a call.
    pub(crate) fn tuning(&self, call: &Call, bucket: &Bucket, all: &[Tuning]) -> Option<Tuning> {
        let Calls { head_dim, rows, keys } = &self.calls;
        let about = head_dim.contains(&bucket.head_dim) && rows.contains(&bucket.rows) && keys.contains(&bucket.keys);
        if !about || !self.device.is(call.limits) {
            return None;
        }
        let numbers = |t: &Tuning| self.numbers.is_none_or(|numbers| numbers == [t.tile_q, t.tile_k, t.splits]);
        let tuning = *all.iter().find(|t| t.family == self.family && numbers(t))?;
        let without = || Some(tuning.without_checks()).filter(|t| t.suits(call));
        match self.checks {
            Checks::Kept => Some(tuning),
            Checks::Dropped => without().or(Some(tuning)),
            Checks::Without => without(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tuning::tuning::Family;

    /// A family without a line is taken before all others: add its lines, those of what is measured faster above the others.
    #[test]
    fn every_family_has_lines_and_every_line_says_where_it_comes_from() {
        for family in Family::ALL {
            assert!(TABLE.iter().any(|line| line.family == family), "no line of {}", family.name());
        }
        for line in TABLE {
            let Source::Table { device, date, command } = line.source else { panic!("a line's source is the table") };
            match date {
                "" => assert_eq!((device, command), ("none", "")),
                _ => assert!(device.len() > 3 && command.contains("ropewalk ") && date.len() == 10, "{date} {command}"),
            }
        }
        let every = |device| TABLE.iter().any(|line| line.device == device && line.calls.rows == (0..=u32::MAX));
        assert!(every(Device::Cpu) && every(Device::Gpu));
    }
}
