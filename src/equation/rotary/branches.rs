//! R in two branches of the distance: far keys turn by other positions than near ones.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// By which positions rows turn where m - n reaches a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Branches {
    /// The distance stays at the window: `<R(window) q, R(0) k>` (ReRoPE, Su 2023, kexue.fm/archives/9708).
    Clipped {
        /// The distance from which on it stays, 1 or more.
        window: u32,
    },
    /// Groups of positions count as one: `<R(floor(m / group) + window - floor(window / group)) q, R(floor(n / group)) k>` (Self-Extend, Jin
    /// et al. 2024).
    Grouped {
        /// The distance from which on positions are grouped, 1 or more.
        window: u32,
        /// Positions of a group, 2 or more.
        group: u32,
    },
}

impl Branches {
    /// Words for labels and reports.
    pub(crate) fn label(&self) -> String {
        match *self {
            Branches::Clipped { window } => format!("clipped({window})"),
            Branches::Grouped { window, group } => format!("grouped({window}/{group})"),
        }
    }
    /// The distance from which on keys are far.
    pub fn window(&self) -> u32 {
        match *self {
            Branches::Clipped { window } | Branches::Grouped { window, .. } => window,
        }
    }
    /// Whether a key at n is far from a query at m.
    pub(crate) fn far(&self, m: i32, n: i32) -> bool {
        m as i64 - n as i64 >= self.window() as i64
    }
    /// What queries at m turn by for far keys.
    pub(crate) fn query(&self, m: i32) -> i32 {
        match *self {
            Branches::Clipped { window } => window as i32,
            Branches::Grouped { window, group } => m.div_euclid(group as i32) + (window - window / group) as i32,
        }
    }
    /// What far keys at n turn by.
    pub(crate) fn key(&self, n: i32) -> i32 {
        match *self {
            Branches::Clipped { .. } => 0,
            Branches::Grouped { group, .. } => n.div_euclid(group as i32),
        }
    }
    /// The file of `shaders/`, and its constants.
    pub(crate) fn text(&self) -> (&'static str, Vec<(&'static str, u32)>) {
        match *self {
            Branches::Clipped { window } => ("equation/branch_clipped.wgsl", vec![("BRANCH_WINDOW", window)]),
            Branches::Grouped { window, group } => {
                ("equation/branch_grouped.wgsl", vec![("BRANCH_WINDOW", window), ("BRANCH_GROUP", group)])
            }
        }
    }
    pub(crate) fn validate(&self) -> Result<()> {
        let most = 1 << 29;
        if !(1..=most).contains(&self.window()) {
            let problem = format!("has a window of {}", self.window());
            return Err(Error::spec("rotary.branches", problem, format!("give 1 to {most} positions")));
        }
        match *self {
            Branches::Grouped { group, .. } if !(2..=most).contains(&group) => {
                let problem = format!("has groups of {group}");
                Err(Error::spec("rotary.branches", problem, format!("give 2 to {most} positions, or leave it out")))
            }
            _ => Ok(()),
        }
    }
}
