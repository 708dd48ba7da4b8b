//! Issues that are known: which cases fail on which adapters, and where that is told.

use super::Record;
use crate::cases::Verdict;
use ropewalk::{Error, Result};
use serde::{Deserialize, Serialize};

/// A known issue. A file of them is a JSON list.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Words that an adapter's line (backend, name, driver) contains, all of them, in any case.
    pub adapter: String,
    /// Words that an address contains, all of them.
    pub address: String,
    /// Where the issue is told.
    pub link: String,
}

/// What known issues have to do with a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Review {
    /// Links, and how many runs failed by each.
    pub failures: Vec<(String, usize)>,
    /// Links of issues whose cases ran and all passed, on which adapter, and how many.
    pub unexpected_passes: Vec<(String, String, usize)>,
}

impl Known {
    /// A list that was read: what each entry lacks.
    pub fn check(all: Vec<Known>, name: &str) -> Result<Vec<Known>> {
        for (n, known) in all.iter().enumerate() {
            let fields = [("adapter", &known.adapter), ("address", &known.address), ("link", &known.link)];
            if let Some((field, _)) = fields.iter().find(|(_, text)| text.trim().is_empty()) {
                let help = "say words of the adapter, words of the address, and where the issue is told";
                return Err(Error::input(name, format!("entry {n}: {field} is empty"), help));
            }
        }
        Ok(all)
    }

    fn is_of(&self, adapter: &str, address: &str) -> bool {
        let adapter = adapter.to_lowercase();
        let named = self.adapter.split_whitespace().all(|word| adapter.contains(&word.to_lowercase()));
        named && self.address.split_whitespace().all(|word| address.contains(word))
    }
}

impl Record {
    /// Marks the failures that are known, and tells which issues are gone.
    pub fn review(&mut self, all: &[Known]) -> Review {
        let mut review = Review::default();
        for known in all {
            let mut failures = 0;
            for adapter in &mut self.adapters {
                let name = &adapter.name;
                let (mut failed, mut passed) = (0, 0);
                for entry in adapter.cases.iter_mut().filter(|entry| known.is_of(name, &entry.address)) {
                    match entry.verdict {
                        Verdict::Failed => {
                            entry.known.get_or_insert_with(|| known.link.clone());
                            failed += 1;
                        }
                        Verdict::Passed => passed += 1,
                        Verdict::Skipped => {}
                    }
                }
                failures += failed;
                if failed == 0 && passed > 0 {
                    review.unexpected_passes.push((known.link.clone(), name.clone(), passed));
                }
            }
            if failures > 0 {
                review.failures.push((known.link.clone(), failures));
            }
        }
        self.count();
        review
    }
}

impl Review {
    /// For people; empty where no issue has to do with the run.
    pub fn text(&self) -> String {
        let failures = self.failures.iter().map(|(link, n)| format!("known: {n} failed by {link}"));
        let passes = self.unexpected_passes.iter().map(|(link, adapter, n)| {
            format!("unexpected pass: {n} of {n} passed that {link} says fail [{adapter}]; take the issue off the list")
        });
        failures.chain(passes).collect::<Vec<_>>().join("\n")
    }
}
