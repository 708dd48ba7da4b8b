//! Ratios against an earlier run's JSON: an object a line, or a list of them.

use super::Line;
use ropewalk::{Error, Result};
use serde::{Deserialize, Serialize};

/// What a line of an earlier run must hold; it may hold more.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Earlier {
    pub workload: String,
    pub adapter: String,
    pub driver: String,
    pub kernel: String,
    pub median_ms: f64,
    pub min_ms: f64,
    #[serde(default)]
    pub date: Option<String>,
}

/// How a result stands to an earlier one of the same workload and adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// The earlier median divided by this one: above 1 is faster now.
    pub median: f64,
    /// The same of the best runs.
    pub min: f64,
    pub before_median_ms: f64,
    pub before_min_ms: f64,
    pub before_kernel: String,
    /// The earlier driver, where it was another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_date: Option<String>,
}

/// The results in a text, one JSON object a line or a list of objects; an error names the line, or the place in the list.
pub fn parse(name: &str, text: &str) -> Result<Vec<Earlier>> {
    let help = "give what `ropewalk bench --json` or `--format json` printed";
    let bad = |place: String, problem: String| Error::input(format!("{name}, {place}"), problem, help);
    let all: Vec<(String, Earlier)> = if text.trim_start().starts_with('[') {
        let list: Vec<Earlier> = serde_json::from_str(text)
            .map_err(|e| bad(format!("line {}", e.line()), format!("cannot be read: {e}")))?;
        (1..).map(|n: usize| format!("entry {n}")).zip(list).collect()
    } else {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let read = |(n, line): (usize, &str)| match serde_json::from_str(line) {
            Ok(earlier) => Ok((format!("line {n}"), earlier)),
            Err(e) => Err(bad(format!("line {n}"), format!("cannot be read: {e}"))),
        };
        lines.map(read).collect::<Result<_>>()?
    };
    if let Some((place, e)) = all.iter().find(|(_, e)| !(e.median_ms > 0.0 && e.min_ms > 0.0)) {
        let problem = format!("median_ms {}, min_ms {}", e.median_ms, e.min_ms);
        return Err(Error::input(format!("{name}, {place}"), problem, "give times above 0"));
    }
    match all.is_empty() {
        true => Err(Error::input(name, "holds no result", help)),
        false => Ok(all.into_iter().map(|(_, earlier)| earlier).collect()),
    }
}

/// The last earlier line of the same workload and adapter: on the same driver, or else on another, which a ratio then names.
fn partner<'a>(line: &Line, earlier: &'a [Earlier]) -> Option<&'a Earlier> {
    let same = |e: &&Earlier| e.workload == line.workload && e.adapter == line.adapter;
    let of_driver = earlier.iter().rev().filter(same).find(|e| e.driver == line.driver);
    of_driver.or_else(|| earlier.iter().rev().find(same))
}

/// Whether a run knows a workload on an adapter.
pub fn knows(earlier: &[Earlier], workload: &str, adapter: &str) -> bool {
    earlier.iter().any(|e| e.workload == workload && e.adapter == adapter)
}

/// Why a result is too slow: its median takes more than `most` times the earlier one's. None: it is not.
pub fn slower(line: &Line, most: f64) -> Option<String> {
    let ratio = line.compare.as_ref()?;
    let times = line.median_ms / ratio.before_median_ms;
    (times > most).then(|| {
        format!(
            "{} on {}: TOO SLOW: {:.3} ms, {times:.2} times the earlier {:.3} ms, above {most}",
            line.workload, line.adapter, line.median_ms, ratio.before_median_ms
        )
    })
}

/// The ratio to an earlier line; None: there is none of this workload and adapter.
pub fn ratio(line: &Line, earlier: &[Earlier]) -> Option<Ratio> {
    let before = partner(line, earlier)?;
    Some(Ratio {
        median: before.median_ms / line.median_ms,
        min: before.min_ms / line.min_ms,
        before_median_ms: before.median_ms,
        before_min_ms: before.min_ms,
        before_kernel: before.kernel.clone(),
        before_driver: (before.driver != line.driver).then(|| before.driver.clone()),
        before_date: before.date.clone(),
    })
}

/// What the earlier run holds and this one did not measure.
pub fn unmatched<'a>(lines: &[Line], earlier: &'a [Earlier]) -> Vec<&'a Earlier> {
    let key = |e: &Earlier| (e.workload.clone(), e.adapter.clone(), e.driver.clone());
    let used: Vec<_> = lines.iter().filter_map(|l| partner(l, earlier)).map(key).collect();
    earlier.iter().filter(|e| !used.contains(&key(e))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"workload":"p1","adapter":"A","driver":"D","kernel":"k","median_ms":20.0,"min_ms":18.0}"#;

    #[test]
    fn the_last_partner_counts() {
        let text = format!("{}\n\n{LINE}\n{}\n", LINE.replace("20.0", "50.0"), LINE.replace("p1", "d2"));
        let earlier = parse("f", &text).expect("three lines");
        assert_eq!(earlier.len(), 3);
        let mut line = Line { workload: "p1".into(), adapter: "A".into(), driver: "E".into(), ..Line::default() };
        (line.median_ms, line.min_ms) = (10.0, 9.0);
        let ratio = ratio(&line, &earlier).expect("a partner");
        assert_eq!((ratio.median, ratio.min, ratio.before_driver.as_deref()), (2.0, 2.0, Some("D")));
        let left: Vec<_> =
            unmatched(std::slice::from_ref(&line), &earlier).iter().map(|e| e.workload.as_str()).collect();
        assert_eq!(left, ["d2"]);
        // two drivers may call their adapters alike
        let text = format!("{text}{}\n", LINE.replace("\"D\"", "\"E\"").replace("20.0", "30.0"));
        let earlier = parse("f", &text).expect("four lines");
        let ratio = super::ratio(&line, &earlier).expect("a partner");
        assert_eq!((ratio.median, ratio.before_driver), (3.0, None));
        assert_eq!(unmatched(std::slice::from_ref(&line), &earlier).len(), 3);
        line.adapter = "B".into();
        assert_eq!(super::ratio(&line, &earlier), None);
        assert!(knows(&earlier, "d2", "A") && !knows(&earlier, "d2", "B"));
        // the same as a list
        let list = format!("[\n{LINE},\n{LINE}]");
        assert_eq!(parse("f", &list).expect("a list"), [earlier[1].clone(), earlier[1].clone()]);
    }

    #[test]
    fn a_line_is_too_slow_beyond_the_ratio() {
        let earlier = parse("f", LINE).expect("a line");
        let mut line = Line { workload: "p1".into(), adapter: "A".into(), driver: "D".into(), ..Line::default() };
        (line.median_ms, line.min_ms) = (25.0, 18.0);
        assert_eq!(slower(&line, 1.01), None, "nothing to compare with");
        line.compare = ratio(&line, &earlier);
        assert_eq!(slower(&line, 1.25), None);
        let said = slower(&line, 1.2).expect("1.25 times as long");
        assert!(said.contains("p1 on A: TOO SLOW") && said.contains("1.25 times"), "{said}");
    }

    #[test]
    fn malformed_lines_are_named() {
        for (text, problem) in [
            (format!("{LINE}\nnot json\n"), "line 2: cannot be read"),
            (format!("{LINE}\n\n{}", LINE.replace("min_ms", "least")), "missing field `min_ms`"),
            (LINE.replace("18.0", "0.0"), "min_ms 0"),
            (LINE.replace("18.0", "\"x\""), "line 1: cannot be read"),
            ("\n \n".to_string(), "holds no result"),
            ("[]".to_string(), "holds no result"),
            (format!("[{LINE},\n{{}}]"), "line 2: cannot be read"),
            (format!("[{LINE}, {}]", LINE.replace("20.0", "-1.0")), "entry 2: median_ms -1"),
        ] {
            let error = parse("f", &text).expect_err(&text).to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
