//! Rows of results, as a table and as JSON.

use serde_json::{Value, json};

/// One system on one workload.
pub struct Row {
    pub who: String,
    pub outcome: Result<Times, String>,
    /// Whether its result is right, or how ours was checked.
    pub verdict: String,
    pub note: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    pub runs: usize,
    pub best: f64,
    pub median: f64,
}

impl Times {
    pub fn of(ms: &[f64]) -> Option<Times> {
        let taken: Vec<f64> = ms.iter().copied().filter(|ms| *ms > 0.0).collect();
        let best = taken.iter().copied().min_by(f64::total_cmp)?;
        Some(Times { runs: taken.len(), best, median: median(&taken)? })
    }
}

pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

/// The rows of one workload; ours is the first.
pub struct Group {
    pub workload: String,
    pub rows: Vec<Row>,
}

impl Group {
    fn ours(&self) -> Option<Times> {
        self.rows.first()?.outcome.as_ref().ok().copied()
    }

    /// Best and median, theirs / ours.
    fn ratios(&self, times: &Times) -> Option<(f64, f64)> {
        self.ours().map(|ours| (times.best / ours.best, times.median / ours.median))
    }
}

pub fn json(groups: &[Group]) -> Vec<Value> {
    let object = |group: &Group, row: &Row| {
        let mut object =
            json!({ "workload": group.workload, "who": row.who, "verdict": row.verdict, "note": row.note });
        match &row.outcome {
            Err(reason) => object["failed"] = json!(reason),
            Ok(times) => {
                object["runs"] = json!(times.runs);
                object["best_ms"] = json!(times.best);
                object["median_ms"] = json!(times.median);
                if let Some((best, median)) = group.ratios(times) {
                    object["ratio_best"] = json!(best);
                    object["ratio_median"] = json!(median);
                }
            }
        }
        object
    };
    groups.iter().flat_map(|group| group.rows.iter().map(move |row| object(group, row))).collect()
}

pub fn text(groups: &[Group]) -> String {
    let mut lines = vec![
        ["", "who", "best ms", "median ms", "best /ours", "median /ours", "runs", "result", "what"].map(str::to_string),
    ];
    for group in groups {
        for (index, row) in group.rows.iter().enumerate() {
            let workload = if index == 0 { group.workload.clone() } else { String::new() };
            let (mut cells, mut verdict) = ([const { String::new() }; 5], row.verdict.clone());
            match &row.outcome {
                Err(reason) => verdict = format!("failed: {reason}"),
                Ok(times) => {
                    let ratio =
                        |x: f64| if index == 0 { "1".into() } else { format!("{x:.0$}", if x < 0.1 { 3 } else { 2 }) };
                    let (best, median) =
                        group.ratios(times).map_or(("-".into(), "-".into()), |(b, m)| (ratio(b), ratio(m)));
                    cells =
                        [milliseconds(times.best), milliseconds(times.median), best, median, times.runs.to_string()];
                }
            }
            let [best, median, ratio_best, ratio_median, runs] = cells;
            lines.push([
                workload,
                row.who.clone(),
                best,
                median,
                ratio_best,
                ratio_median,
                runs,
                verdict,
                row.note.clone(),
            ]);
        }
    }
    // A reason may be long: it widens no column but ends its line.
    let failed = |cell: &str| cell.starts_with("failed: ");
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .filter(|cell| !failed(cell))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..9).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            match column {
                2..=6 => shown += &format!("{cell:>width$}  "),
                _ => shown += &format!("{cell:<width$}  "),
            }
        }
        text += shown.trim_end();
        text.push('\n');
    }
    text
}

/// Three digits that count.
fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms >= 100.0 => format!("{ms:.0}"),
        ms if ms >= 10.0 => format!("{ms:.1}"),
        _ => format!("{ms:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_even_odd_and_no_runs() {
        assert_eq!(Times::of(&[3.0, 1.0, 2.0]), Some(Times { runs: 3, best: 1.0, median: 2.0 }));
        assert_eq!(Times::of(&[4.0, 1.0, 2.0, 3.0]), Some(Times { runs: 4, best: 1.0, median: 2.5 }));
        assert_eq!(Times::of(&[f64::NAN, 0.0]), None);
        assert_eq!(Times::of(&[]), None);
    }

    #[test]
    fn ratios_are_theirs_by_ours_and_failures_are_rows() {
        let row = |who: &str, outcome| Row { who: who.into(), outcome, verdict: "right".into(), note: "n".into() };
        let (ours, theirs) = (Times::of(&[10.0, 20.0, 40.0]).unwrap(), Times::of(&[15.0, 60.0, 70.0]).unwrap());
        let rows = vec![row("ours", Ok(ours)), row("theirs", Ok(theirs)), row("other", Err("no pip".into()))];
        let mut groups = [Group { workload: "p1".into(), rows }];
        let objects = json(&groups);
        assert_eq!((&objects[1]["ratio_best"], &objects[1]["ratio_median"]), (&json!(1.5), &json!(3.0)));
        assert_eq!(objects[2]["failed"], "no pip");
        let shown = text(&groups);
        let line = |who: &str| shown.lines().find(|line| line.contains(who)).unwrap().to_string();
        assert!(line("theirs").contains("1.50") && line("theirs").contains("3.00"), "{shown}");
        assert!(line("other").contains("failed: no pip"), "{shown}");
        // Without a time of ours there is no ratio, but still every row.
        groups[0].rows[0].outcome = Err("no adapter".into());
        assert_eq!(json(&groups)[1].get("ratio_best"), None);
        assert_eq!(text(&groups).lines().count(), 4);
    }
}
