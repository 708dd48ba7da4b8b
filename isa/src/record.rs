//! Budgets in `benches/isa/CARD-COMPILER.json`: what the default plans took when they were recorded.

use crate::Result;
use crate::compile::{Figures, Run};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub card: String,
    pub compiler: String,
    /// By the name of an entry point.
    pub budgets: BTreeMap<String, Budget>,
}

/// What an entry point may take, and the bytes that a lane must keep on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub registers: u32,
    pub spills: u32,
    pub scratch: u32,
    pub bytes_in_flight: u32,
}

impl Budget {
    fn of(figures: &Figures) -> Self {
        let Figures { registers, spills, scratch, bytes_in_flight, .. } = *figures;
        Budget { registers, spills, scratch, bytes_in_flight }
    }
    fn fields(&self) -> [(&'static str, u32, bool); 4] {
        [
            ("registers", self.registers, false),
            ("spills", self.spills, false),
            ("bytes of scratch", self.scratch, false),
            ("bytes in flight", self.bytes_in_flight, true),
        ]
    }
    /// What got worse, and what got better, a line each.
    fn against(&self, before: &Self) -> [Vec<String>; 2] {
        let pairs = before.fields().into_iter().zip(self.fields());
        let changed = pairs.filter(|((_, was, _), (_, is, _))| was != is);
        let mut lines = [vec![], vec![]];
        for ((name, was, more_is_better), (_, is, _)) in changed {
            lines[((is > was) == more_is_better) as usize].push(format!("{is} {name}, recorded {was}"));
        }
        lines
    }
}

/// What a comparison came to.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub worse: Vec<String>,
    pub better: Vec<String>,
}

impl Record {
    pub fn of(run: &Run) -> Self {
        let budgets = run.entries.iter().map(|entry| (entry.id(), Budget::of(&entry.figures))).collect();
        Record { card: run.card.clone(), compiler: run.compiler(), budgets }
    }
    fn path(folder: &Path, run: &Run) -> PathBuf {
        folder.join(format!("{}-{}.json", run.card, run.compiler()))
    }
    /// The record of a run's card and compiler; none where that compiler has none.
    pub fn read(folder: &Path, run: &Run) -> Result<Option<Self>> {
        let path = Self::path(folder, run);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path)?;
        Ok(Some(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?))
    }
    /// Writes a run's record; entry points of workloads that it left out stay as they were.
    pub fn write(folder: &Path, run: &Run) -> Result<PathBuf> {
        let mut record = Self::of(run);
        if let Some(before) = Self::read(folder, run)? {
            let ran = |id: &str| run.entries.iter().any(|entry| id.split('.').next() == Some(&entry.workload));
            record.budgets.extend(before.budgets.into_iter().filter(|(id, _)| !ran(id)));
        }
        std::fs::create_dir_all(folder)?;
        let path = Self::path(folder, run);
        std::fs::write(&path, record.text()?)?;
        Ok(path)
    }
    /// JSON with an entry point a line, so that a change shows in a diff.
    fn text(&self) -> Result<String> {
        let line = |(id, budget): (&String, &Budget)| {
            Ok(format!("    {}: {}", serde_json::to_string(id)?, serde_json::to_string(budget)?))
        };
        let lines = self.budgets.iter().map(line).collect::<Result<Vec<_>>>()?.join(",\n");
        let [card, compiler] = [&self.card, &self.compiler].map(serde_json::to_string);
        Ok(format!(
            "{{\n  \"card\": {},\n  \"compiler\": {},\n  \"budgets\": {{\n{lines}\n  }}\n}}\n",
            card?, compiler?
        ))
    }
    /// A run against this record. An entry point that it lacks is worse than none: it would go unseen.
    pub fn compare(&self, run: &Run) -> Verdict {
        let mut verdict = Verdict::default();
        for entry in &run.entries {
            let id = entry.id();
            let Some(before) = self.budgets.get(&id) else {
                verdict.worse.push(format!("{id}: not in the record"));
                continue;
            };
            let [worse, better] = Budget::of(&entry.figures).against(before);
            let named = |lines: Vec<String>| lines.into_iter().map(|line| format!("{id}: {line}")).collect::<Vec<_>>();
            verdict.worse.extend(named(worse));
            verdict.better.extend(named(better));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Entry;

    fn run(entries: &[(&str, Figures)]) -> Run {
        let entry = |(workload, figures): &(&str, Figures)| Entry {
            workload: workload.to_string(),
            kernel: "attention".into(),
            entry: "main".into(),
            tuning: "rows".into(),
            lanes: 64,
            dispatches: vec![],
            figures: figures.clone(),
        };
        Run {
            card: "navi21".into(),
            device: "x".into(),
            driver: "radv Mesa 22.3.6".into(),
            plans: vec![],
            entries: entries.iter().map(entry).collect(),
        }
    }
    fn figures(registers: u32, bytes_in_flight: u32) -> Figures {
        Figures { registers, bytes_in_flight, ..Figures::default() }
    }

    #[test]
    fn more_of_anything_but_flight_is_worse() {
        let of = |[registers, spills, scratch, bytes_in_flight]: [u32; 4]| Budget {
            registers,
            spills,
            scratch,
            bytes_in_flight,
        };
        let before = of([10, 2, 64, 16]);
        let counts = |now: [u32; 4]| of(now).against(&before).map(|lines| lines.len());
        assert_eq!(counts([10, 2, 64, 16]), [0, 0]);
        for worse in [[11, 2, 64, 16], [10, 3, 64, 16], [10, 2, 65, 16], [10, 2, 64, 15]] {
            assert_eq!(counts(worse), [1, 0], "{worse:?}");
        }
        for better in [[9, 2, 64, 16], [10, 1, 64, 16], [10, 2, 63, 16], [10, 2, 64, 17]] {
            assert_eq!(counts(better), [0, 1], "{better:?}");
        }
        assert_eq!(of([11, 2, 64, 16]).against(&before)[0], ["11 registers, recorded 10"]);
    }

    #[test]
    fn a_record_is_of_one_compiler() {
        let folder = tempfile::tempdir().unwrap();
        let first = run(&[("p1", figures(10, 16)), ("d1", figures(20, 16))]);
        assert_eq!(Record::read(folder.path(), &first).unwrap(), None);
        let path = Record::write(folder.path(), &first).unwrap();
        assert_eq!(path, folder.path().join("navi21-radv-22.3.6.json"));
        let record = Record::read(folder.path(), &first).unwrap().unwrap();
        assert_eq!((record.compare(&first), record.budgets.len()), (Verdict::default(), 2));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 8);

        let other = Run { driver: "radv Mesa 25.0.7".into(), ..run(&[]) };
        assert_eq!(Record::read(folder.path(), &other).unwrap(), None);

        let now = run(&[("p1", figures(11, 16)), ("d1", figures(20, 32)), ("d2", figures(1, 1))]);
        let verdict = record.compare(&now);
        assert_eq!(verdict.worse, ["p1.main: 11 registers, recorded 10", "d2.main: not in the record"]);
        assert_eq!(verdict.better, ["d1.main: 32 bytes in flight, recorded 16"]);

        Record::write(folder.path(), &run(&[("p1", figures(12, 16))])).unwrap();
        let record = Record::read(folder.path(), &first).unwrap().unwrap();
        let registers: Vec<_> = record.budgets.iter().map(|(id, budget)| (id.as_str(), budget.registers)).collect();
        assert_eq!(registers, [("d1.main", 20), ("p1.main", 12)]);
    }
}
