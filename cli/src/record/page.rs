//! A record as one HTML page that needs nothing else.

use super::{Adapter, Entry, Record};
use crate::cases::Verdict;
use crate::pictures::data::{Axis, Curves, Line, Mark, Panel};
use crate::pictures::{Format, Theme, picture};
use crate::text;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ropewalk::Result;
use std::collections::BTreeMap;

/// The cases nearest to their bound that are shown beside all of them.
const NEAREST: usize = 20;
/// Left end of the axis of a picture: errors further from their bound are drawn there.
const LEAST: f64 = 1e-3;

const STYLE: &str = "
:root { color-scheme: light dark; --text: light-dark(#1b1f24, #e6e8eb); --dim: light-dark(#57606a, #9aa4af);
  --page: light-dark(#ffffff, #0d1117); --line: light-dark(#d0d7de, #343a41); --good: light-dark(#116329, #56d364);
  --bad: light-dark(#b3121d, #ff7b72); --odd: light-dark(#7a4f01, #e3b341); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); margin: 2rem auto; max-width: 1150px;
  padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
table { border-collapse: collapse; margin: .7rem 0; } th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); } td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; } .wide { overflow-x: auto; } .dim { color: var(--dim); }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: 600; } .skipped, .known { color: var(--odd); }
.bar text { font-size: 11px; fill: var(--dim); font-weight: 400; } .bar line { stroke: var(--line); } .bar .bound { stroke: var(--bad); }
.bar .thin { stroke: var(--dim); stroke-width: 2; } .bar .thick { stroke: var(--good); stroke-width: 8; } .bar .over { stroke: var(--bad); }
summary { cursor: pointer; } svg { max-width: 100%; height: auto; }
.dark { display: none; } @media (prefers-color-scheme: dark) { .dark { display: block; } .light { display: none; } }
";

/// The page: what passed, where the worst is, how far from their bounds each family's errors lie.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn page(record: &Record) -> Result<String> {
    let pictures: Result<Vec<Markup>> = record.adapters.iter().map(plot).collect();
    let title = format!("ropewalk validate: {} passed, {} failed", record.passed, record.failed);
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "ropewalk validate" }
                p {
                    span.passed { (record.passed) " passed" } ", "
                    span.(if record.failed > 0 { "failed" } else { "dim" }) { (record.failed) " failed" } ", "
                    @if record.known > 0 { span.known { (record.known) " failed as known" } ", " }
                    span.(if record.skipped > 0 { "skipped" } else { "dim" }) { (record.skipped) " skipped" }
                    span.dim { " · ropewalk " (record.ropewalk) " · " (record.os) " · " time { (record.date) } }
                }
                p.dim {
                    "Each result is compared with a reference in f64. A case passes if the error of every element is within the bound that is "
                    "derived for it; “error / bound” is that of the worst element, above 1 a failure. Each is computed again, after others and in an "
                    "order of seed " (record.seed) @if record.shuffled { ", which the first order is drawn from too," }
                    ", and must have the same bits then. "
                    code { "ropewalk validate ADDRESS" } " computes a case again."
                }
                @for (adapter, picture) in record.adapters.iter().zip(pictures?) { (section(adapter, &picture)) }
            }
        }
    };
    Ok(body.into_string())
}

fn section(adapter: &Adapter, picture: &Markup) -> Markup {
    let of = |verdict: Verdict| adapter.cases.iter().filter(|e| e.verdict == verdict).collect::<Vec<_>>();
    let (failed, skipped) = (of(Verdict::Failed), of(Verdict::Skipped));
    let mut nearest: Vec<&Entry> = of(Verdict::Passed).into_iter().filter(|e| e.worst().is_some()).collect();
    nearest.sort_by(|a, b| b.worst().unwrap_or(0.0).total_cmp(&a.worst().unwrap_or(0.0)));
    nearest.truncate(NEAREST);
    html! {
        h2 { (adapter.name) }
        p.dim { (adapter.kind) ", " (adapter.backend) ", driver " (adapter.driver) " " (adapter.driver_info)
            @if let Some(bits) = &adapter.rotation_bits { ", bits of cos and sin " code { (bits) } }
        }
        @if !failed.is_empty() { h3.failed { (failed.len()) " failed" } (table(&failed)) }
        h3 { "By family" }
        (families(adapter))
        p.dim { "Error / bound of a family’s cases: thin from the least to the median, thick from there to the worst." }
        (picture)
        @if !nearest.is_empty() { h3 { "Nearest to their bound" } (table(&nearest)) }
        @if !skipped.is_empty() { details { summary { (skipped.len()) " skipped" } (table(&skipped)) } }
        details { summary { "All " (adapter.cases.len()) " runs" } (table(&adapter.cases.iter().collect::<Vec<_>>())) }
        details { summary { "Limits" }
            table { @for (name, value) in &adapter.limits { tr { td { code { (name) } } td.n { (value) } } } }
        }
    }
}

fn by_family(adapter: &Adapter) -> BTreeMap<&str, Vec<&Entry>> {
    let mut all: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for (family, entry) in adapter.cases.iter().flat_map(|e| e.families.iter().map(move |family| (family.as_str(), e)))
    {
        all.entry(family).or_default().push(entry);
    }
    all
}

fn families(adapter: &Adapter) -> Markup {
    html! {
        div.wide { table {
            tr { th { "family" } th.n { "runs" } th.n { "failed" } th { (axis()) } th.n { "median" } th.n { "worst" } th { "in" } }
            @for (family, entries) in by_family(adapter) {
                @let ratios = sorted(&entries);
                @let worst = entries.iter().max_by(|a, b| a.worst().unwrap_or(0.0).total_cmp(&b.worst().unwrap_or(0.0)));
                tr {
                    td { (family) }
                    td.n { (entries.len()) }
                    td.n { (entries.iter().filter(|e| e.verdict == Verdict::Failed).count()) }
                    td { (bar(&ratios)) }
                    td.n { (ratios.get(ratios.len() / 2).map_or("-".into(), |r| ratio(*r))) }
                    td.n { (ratios.last().map_or("-".into(), |r| ratio(*r))) }
                    td { code { (worst.map_or("", |e| e.address.as_str())) } }
                }
            }
        } }
    }
}

/// Width and height of a bar of a family, and the powers of ten at its ends.
const BAR: (f64, f64) = (240.0, 18.0);
const POWERS: (i32, i32) = (-4, 1);

/// Where a ratio stands on a bar.
fn along(ratio: f64) -> f64 {
    let (low, high) = (POWERS.0 as f64, POWERS.1 as f64);
    BAR.0 * (ratio.max(f64::MIN_POSITIVE).log10().clamp(low, high) - low) / (high - low)
}

/// The powers of ten above the bars; the bound is 1.
fn axis() -> Markup {
    html! {
        svg.bar viewBox=(format!("0 0 {} {}", BAR.0, BAR.1)) width=(BAR.0) height=(BAR.1) role="img" aria-label="error / bound" {
            @for power in POWERS.0 + 1..POWERS.1 {
                text x=(along(10f64.powi(power))) y="13" text-anchor="middle" {
                    @if power == 0 { "bound" } @else { (10f64.powi(power)) }
                }
            }
        }
    }
}

/// From the least to the worst error / bound of a family's cases, thick from the median on.
fn bar(ratios: &[f64]) -> Markup {
    let at = |n: usize| ratios.get(n).map_or(0.0, |r| along(*r));
    let (least, median, worst) = (at(0), at(ratios.len() / 2), at(ratios.len().saturating_sub(1)));
    let middle = BAR.1 / 2.0;
    let failed = ratios.last().is_some_and(|worst| *worst > 1.0);
    html! {
        svg.bar viewBox=(format!("0 0 {} {}", BAR.0, BAR.1)) width=(BAR.0) height=(BAR.1) aria-hidden="true" {
            @for power in POWERS.0 + 1..POWERS.1 {
                @let x = along(10f64.powi(power));
                line.(if power == 0 { "bound" } else { "tick" }) x1=(x) x2=(x) y1="0" y2=(BAR.1) {}
            }
            @if !ratios.is_empty() {
                line.thin x1=(least) x2=(median) y1=(middle) y2=(middle) {}
                line.(if failed { "thick over" } else { "thick" }) x1=(median) x2=(worst.max(median + 1.0)) y1=(middle) y2=(middle) {}
            }
        }
    }
}

fn table(entries: &[&Entry]) -> Markup {
    html! {
        div.wide { table {
            tr { th { "verdict" } th { "case" } th.n { "error / bound" } th { "kernel" } th.n { "time" } }
            @for entry in entries {
                tr {
                    td {
                        span.(entry.verdict.to_string()) { (entry.verdict) }
                        @if let Some(link) = &entry.known { " " span.known { "known: " (told(link)) } }
                    }
                    td { code { (entry.address) } @if let Some(reason) = &entry.reason { br; span.dim { (reason) } } }
                    td.n { @for (name, m) in &entry.tensors {
                        (name) " " (ratio(m.ratio.unwrap_or(f64::INFINITY)))
                        @if m.failures > 0 { " (" (m.failures) " of " (m.elements) ", at " (m.index) ")" }
                        br;
                    } }
                    td { code { (entry.kernel) } }
                    td.n { (text::time(entry.seconds)) }
                }
            }
        } }
    }
}

/// A link where it is one.
fn told(link: &str) -> Markup {
    match link.starts_with("https://") || link.starts_with("http://") {
        true => html! { a href=(link) { (link) } },
        false => html! { (link) },
    }
}

fn ratio(x: f64) -> String {
    if x.is_finite() { format!("{x:.3}") } else { "infinite".into() }
}

fn sorted(entries: &[&Entry]) -> Vec<f64> {
    let mut ratios: Vec<f64> = entries.iter().filter_map(|e| e.worst()).collect();
    ratios.sort_by(f64::total_cmp);
    ratios
}

/// The share of cases whose worst error / bound is at most x, a line for each family; light and dark.
fn plot(adapter: &Adapter) -> Result<Markup> {
    let lines: Vec<Line> = by_family(adapter)
        .into_iter()
        .map(|(family, entries)| {
            let ratios = sorted(&entries);
            let n = ratios.len().max(1) as f64;
            let points = ratios.iter().enumerate().map(|(at, x)| (x.clamp(LEAST, 10.0), 100.0 * (at + 1) as f64 / n));
            Line { label: format!("{family} ({})", ratios.len()), points: points.collect() }
        })
        .filter(|line| line.points.len() > 1)
        .collect();
    if lines.is_empty() {
        return Ok(html! {});
    }
    let curves = Curves {
        title: "How near to their bounds the worst elements come".into(),
        x: Axis { label: "worst error / bound of a case".into(), log: true },
        y: Axis { label: "% of cases at most there".into(), log: false },
        lines,
        marks: vec![Mark { label: "bound".into(), x: Some(1.0), y: None }],
        dots: Vec::new(),
    };
    let panels = [Panel::Curves(curves)];
    let draw = |theme| picture(&panels, theme, Format::Svg).map(|svg| String::from_utf8_lossy(&svg).into_owned());
    let [light, dark] = [draw(Theme::Light)?, draw(Theme::Dark)?];
    Ok(html! { div.light { (PreEscaped(light)) } div.dark { (PreEscaped(dark)) } })
}
