//! The GPU side of a comparison: the same stages as the reference's, with the permitted error of every element.

use super::compare::Stages;
use super::work::Probe;
use ropewalk::{Error, Result};

/// An adapter under test.
pub struct Device {
    /// As the driver calls it.
    pub name: String,
}

/// The reference's results, the device's, and the largest permitted difference.
pub struct Run {
    pub value: Stages,
    pub bound: Stages,
    pub device: Stages,
}

impl Device {
    /// The best adapter, the one whose name holds the text, or (`all`) every one.
    pub fn open(_adapter: Option<&str>) -> Result<Vec<Device>> {
        let help = "use --reference".to_string();
        Err(Error::NoAdapter { problem: "this build has no GPU side".into(), help })
    }
    /// Runs the probe.
    pub fn run(&self, _probe: &Probe) -> Result<Run> {
        Err(Error::device("conform", "not built"))
    }
}
