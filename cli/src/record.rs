//! What `validate` did, as a record that others can read and compare: every case with its worst error, on which adapter, driver and limits.

mod known;
mod page;

pub use known::{Known, Review};
pub use page::page;

use crate::cases::{Outcome, Tally, Verdict};
use crate::text;
use ropewalk::{Error, Gpu, Limits, Result, check};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The form of the record that this version writes and reads.
pub const SCHEMA: u32 = 1;

/// A run of `validate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of the crate.
    pub ropewalk: String,
    /// When it ended, as RFC 3339 has it.
    pub date: String,
    /// Operating system and architecture.
    pub os: String,
    /// The order in which runs were computed again is drawn from it, and with `shuffled` that of all.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub shuffled: bool,
    /// Runs that passed, on all adapters.
    pub passed: usize,
    /// Runs that failed, beside the known ones.
    pub failed: usize,
    /// Runs that failed as a file of known issues says.
    pub known: usize,
    /// Runs that an adapter's limits do not allow.
    pub skipped: usize,
    pub adapters: Vec<Adapter>,
}

/// What an adapter did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// Backend, name and driver, in one line.
    pub name: String,
    pub backend: String,
    pub device: String,
    /// Discrete GPU, CPU, ...
    pub kind: String,
    /// PCI numbers, 0 where there are none.
    pub vendor_id: u32,
    pub device_id: u32,
    pub driver: String,
    pub driver_info: String,
    /// Those that plans heed; bytes where they are sizes.
    pub limits: BTreeMap<String, u64>,
    /// A hash of all bits of cos and sin; none: no such case was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_bits: Option<String>,
    pub cases: Vec<Entry>,
}

/// A case by one choice of kernels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `ropewalk validate ADDRESS` computes it again, anywhere.
    pub address: String,
    pub verdict: Verdict,
    /// Where the known issue is told that it failed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// The labels of its plans; empty where the device cuts the problem.
    pub kernel: String,
    pub families: Vec<String>,
    /// The worst element of each result.
    pub tensors: BTreeMap<String, Measured>,
    /// Why it was skipped, or the error that it failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of uploading, computing and reading back, with whatever had to be compiled, the first time.
    pub seconds: f64,
    /// How often it was computed; it passes if its bits were the same each time.
    #[serde(default)]
    pub computed: u32,
}

/// The worst element of a result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its error divided by its bound; none: infinite.
    pub ratio: Option<f64>,
    pub error: Option<f64>,
    pub bound: Option<f64>,
    /// Its index in the row-major tensor.
    pub index: usize,
    /// Elements above their bound.
    pub failures: u64,
    pub elements: u64,
    /// Elements of which the bound says nothing.
    pub unbounded: u64,
}

impl Measured {
    fn new(worst: &check::Worst) -> Self {
        let finite = |x: f64| x.is_finite().then_some(x);
        Measured {
            ratio: finite(worst.ratio),
            error: finite(worst.error),
            bound: finite(worst.bound),
            index: worst.index,
            failures: worst.failures,
            elements: worst.elements,
            unbounded: worst.unbounded,
        }
    }
}

impl Entry {
    fn new(outcome: &Outcome) -> Self {
        Entry {
            address: outcome.address.clone(),
            verdict: outcome.verdict,
            known: None,
            kernel: outcome.kernel.clone(),
            families: outcome.families.iter().map(|family| family.to_string()).collect(),
            tensors: outcome.tensors.iter().map(|(name, worst)| (name.to_string(), Measured::new(worst))).collect(),
            reason: outcome.reason.clone(),
            seconds: outcome.seconds,
            computed: outcome.computed,
        }
    }

    /// The largest error / bound of its results; none where nothing was computed.
    pub fn worst(&self) -> Option<f64> {
        self.tensors.values().map(|m| m.ratio.unwrap_or(f64::INFINITY)).max_by(f64::total_cmp)
    }
}

impl Adapter {
    pub fn new(gpu: &Gpu, tally: &Tally) -> Self {
        let info = gpu.info();
        Adapter {
            name: tally.adapter.clone(),
            backend: format!("{:?}", info.backend),
            device: info.name.clone(),
            kind: format!("{:?}", info.device_type),
            vendor_id: info.vendor,
            device_id: info.device,
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            limits: limits(gpu.limits()),
            rotation_bits: tally.rotation_bits(),
            cases: tally.outcomes.iter().map(Entry::new).collect(),
        }
    }
}

fn limits(limits: &Limits) -> BTreeMap<String, u64> {
    let all = [
        ("max_binding_size", limits.max_binding_size),
        ("max_storage_buffers", limits.max_storage_buffers.into()),
        ("max_workgroups", limits.max_workgroups.into()),
        ("max_workgroup_storage", limits.max_workgroup_storage.into()),
        ("max_invocations", limits.max_invocations.into()),
        ("max_scratch_bytes", limits.max_scratch_bytes),
        ("max_loop_rounds", limits.max_loop_rounds.into()),
        ("subgroup_size", limits.subgroup_size.into()),
        ("f16", limits.f16.into()),
        ("cooperative_matrix", limits.cooperative_matrix.into()),
    ];
    all.map(|(name, value)| (name.to_string(), value)).into()
}

impl Record {
    /// `date`: now, as RFC 3339 has it. `seed`: of the order; `shuffled`: also of the order of what was computed first.
    pub fn new(adapters: Vec<Adapter>, date: String, seed: u64, shuffled: bool) -> Self {
        let os = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        let ropewalk = env!("CARGO_PKG_VERSION").into();
        let mut record = Record {
            schema: SCHEMA,
            ropewalk,
            date,
            os,
            seed,
            shuffled,
            passed: 0,
            failed: 0,
            known: 0,
            skipped: 0,
            adapters,
        };
        record.count();
        record
    }

    fn count(&mut self) {
        let count = |of: &dyn Fn(&Entry) -> bool| self.entries().filter(|(_, e)| of(e)).count();
        let failed = |e: &Entry, known: bool| e.verdict == Verdict::Failed && e.known.is_some() == known;
        let passed = count(&|e| e.verdict == Verdict::Passed);
        let (unknown, known) = (count(&|e| failed(e, false)), count(&|e| failed(e, true)));
        let skipped = count(&|e| e.verdict == Verdict::Skipped);
        (self.passed, self.failed, self.known, self.skipped) = (passed, unknown, known, skipped);
    }

    fn entries(&self) -> impl Iterator<Item = (&Adapter, &Entry)> {
        self.adapters.iter().flat_map(|adapter| adapter.cases.iter().map(move |entry| (adapter, entry)))
    }

    /// A record of this form, from its JSON, or why not.
    pub fn read(name: &str, json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Form {
            schema: u32,
        }
        let help = format!("give one of form {SCHEMA}, as this version of `ropewalk validate --report` writes it");
        let bad = |e: serde_json::Error| Error::input(name, format!("is no record: {e}"), help.clone());
        match serde_json::from_str::<Form>(json).map_err(bad)?.schema {
            SCHEMA => serde_json::from_str(json).map_err(bad),
            other => Err(Error::input(name, format!("is a record of form {other}"), help)),
        }
    }

    /// What differs from an earlier record: of the adapter of the same name, or of the only one where either has one alone.
    pub fn since(&self, earlier: &Record) -> Vec<Difference> {
        let only = |record: &Record| record.adapters.len() == 1;
        let differences = self.adapters.iter().map(|adapter| {
            let same = earlier.adapters.iter().find(|other| other.name == adapter.name);
            let other = same.or_else(|| earlier.adapters.first().filter(|_| only(self) && only(earlier)));
            Difference::new(adapter, other)
        });
        differences.collect()
    }
}

/// How an adapter's cases differ from those of an earlier record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub adapter: String,
    /// None: the earlier record has no such adapter, and nothing was compared.
    pub earlier: Option<String>,
    /// Cases that both have.
    pub compared: usize,
    /// Addresses, with what they were and are.
    pub verdicts: Vec<(String, Verdict, Verdict)>,
    /// Of those that passed before and now: more than twice as far towards their bound, and beyond a tenth of it.
    pub worse: Vec<(String, f64, f64)>,
    /// Likewise, by less than half.
    pub better: usize,
    /// Families whose median error has more than doubled, each storage type by itself, however far within bounds: what a driver that loses
    /// bits shows in every case, and a single case by chance.
    pub drifts: Vec<Drift>,
    /// Addresses that the earlier record lacks, and that it has alone.
    pub added: usize,
    pub missing: usize,
    /// Cases that other kernels computed.
    pub other_kernels: usize,
}

/// The median of worst error / bound over the cases of a family and a storage type that passed before and now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    pub family: String,
    pub storage: String,
    pub cases: usize,
    pub before: f64,
    pub now: f64,
}

/// Of fewer cases a median says little.
const DRIFTING: usize = 5;

impl Drift {
    /// Those of pairs of entries, the earlier first, that have drifted.
    fn of(pairs: &[(&Entry, &Entry)]) -> Vec<Drift> {
        let mut all: BTreeMap<(&str, &str), [Vec<f64>; 2]> = BTreeMap::new();
        for (a, b) in pairs.iter().filter(|(a, b)| [a, b].iter().all(|e| e.verdict == Verdict::Passed)) {
            let storage = b.address.split('/').nth(3).unwrap_or_default();
            for family in b.families.iter().collect::<BTreeSet<_>>() {
                if let (Some(before), Some(now), true) = (a.worst(), b.worst(), a.families.contains(family)) {
                    let [befores, nows] = all.entry((family.as_str(), storage)).or_default();
                    befores.push(before);
                    nows.push(now);
                }
            }
        }
        let median = |mut ratios: Vec<f64>| {
            ratios.sort_by(f64::total_cmp);
            ratios.get(ratios.len() / 2).copied().unwrap_or(0.0)
        };
        let drift = |((family, storage), [before, now]): ((&str, &str), [Vec<f64>; 2])| Drift {
            family: family.into(),
            storage: storage.into(),
            cases: now.len(),
            before: median(before),
            now: median(now),
        };
        all.into_iter().map(drift).filter(|d| d.cases >= DRIFTING && d.now > 2.0 * d.before).collect()
    }
}

impl Difference {
    fn new(now: &Adapter, earlier: Option<&Adapter>) -> Self {
        let before: BTreeMap<&str, &Entry> =
            earlier.map(|a| a.cases.iter().map(|e| (e.address.as_str(), e)).collect()).unwrap_or_default();
        let pairs: Vec<(&Entry, &Entry)> =
            now.cases.iter().filter_map(|e| Some((*before.get(e.address.as_str())?, e))).collect();
        let ratios = |(a, b): &(&Entry, &Entry)| {
            let passed = a.verdict == Verdict::Passed && b.verdict == Verdict::Passed;
            Some((b.address.clone(), a.worst()?, b.worst()?)).filter(|_| passed)
        };
        let changed = pairs.iter().filter(|(a, b)| a.verdict != b.verdict);
        Difference {
            adapter: now.name.clone(),
            earlier: earlier.map(|a| a.name.clone()),
            compared: pairs.len(),
            verdicts: changed.map(|(a, b)| (b.address.clone(), a.verdict, b.verdict)).collect(),
            worse: pairs.iter().filter_map(ratios).filter(|(_, a, b)| *b > 0.1 && *b > 2.0 * a).collect(),
            better: pairs.iter().filter_map(ratios).filter(|(_, a, b)| *a > 0.1 && *a > 2.0 * b).count(),
            drifts: Drift::of(&pairs),
            added: now.cases.len() - pairs.len(),
            missing: before.len().saturating_sub(pairs.len()),
            other_kernels: pairs.iter().filter(|(a, b)| a.kernel != b.kernel).count(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let Some(earlier) = &self.earlier else {
            return format!("since the baseline: it has no adapter {}, so nothing was compared", self.adapter);
        };
        let mut said = vec![format!(
            "since the baseline [{}]: {} cases compared, {} with another verdict, {} worse, {} better, {} by other kernels, \
             {} new, {} missing",
            self.adapter,
            self.compared,
            self.verdicts.len(),
            self.worse.len(),
            self.better,
            self.other_kernels,
            self.added,
            self.missing
        )];
        if *earlier != self.adapter {
            said.push(format!("  the baseline's adapter is {earlier}"));
        }
        said.extend(
            self.verdicts.iter().map(|(address, before, now)| format!("  {before} before, {now} now: {address}")),
        );
        let ratio = |x: &f64| text::number(*x);
        said.extend(self.worse.iter().map(|(address, before, now)| {
            format!("  worst error / bound {} before, {} now: {address}", ratio(before), ratio(now))
        }));
        said.extend(self.drifts.iter().map(|d| {
            let (before, now) = (ratio(&d.before), ratio(&d.now));
            format!(
                "  DRIFT of {} in {}: median error / bound {before} before, {now} now, over {} cases",
                d.family, d.storage, d.cases
            )
        }));
        said.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: &str, verdict: Verdict, ratio: f64, kernel: &str) -> Entry {
        let worst = check::Worst { ratio, elements: 8, ..Default::default() };
        Entry {
            address: address.into(),
            verdict,
            known: None,
            kernel: kernel.into(),
            families: vec!["tile".into()],
            tensors: [("out".to_string(), Measured::new(&worst))].into(),
            reason: None,
            seconds: 0.5,
            computed: 2,
        }
    }

    fn record(adapters: &[(&str, Vec<Entry>)]) -> Record {
        let adapter = |(name, cases): &(&str, Vec<Entry>)| Adapter {
            name: name.to_string(),
            backend: "Vulkan".into(),
            device: "<one>".into(),
            kind: "Cpu".into(),
            vendor_id: 0,
            device_id: 0,
            driver: "llvmpipe".into(),
            driver_info: "Mesa".into(),
            limits: limits(&Limits::default()),
            rotation_bits: None,
            cases: cases.clone(),
        };
        Record::new(adapters.iter().map(adapter).collect(), "2026-11-30T00:00:00Z".into(), 1, false)
    }

    use Verdict::{Failed, Passed, Skipped};

    #[test]
    fn what_is_read_is_what_was_written() {
        let cases = vec![entry("a/b/f32", Passed, 0.25, "k"), entry("a/c/f32", Failed, f64::INFINITY, "k")];
        let written = record(&[("one", cases)]);
        let read = Record::read("FILE", &serde_json::to_string(&written).unwrap()).unwrap();
        assert_eq!(read, written);
        assert_eq!((read.passed, read.failed, read.known, read.skipped), (1, 1, 0, 0));
        assert_eq!(read.adapters[0].cases[1].worst(), Some(f64::INFINITY));
        // whatever else the next form has
        assert!(Record::read("FILE", "{\"schema\": 2}").unwrap_err().to_string().contains("form 2"));
    }

    #[test]
    fn differences_are_told_by_address() {
        let before = record(&[(
            "one",
            vec![
                entry("passes", Passed, 0.5, "k"),
                entry("breaks", Passed, 0.5, "k"),
                entry("drifts", Passed, 0.2, "k"),
                entry("drifts a little", Passed, 0.01, "k"),
                entry("better", Passed, 0.5, "k"),
                entry("gone", Passed, 0.5, "k"),
            ],
        )]);
        let cases = vec![
            entry("passes", Passed, 0.6, "other"),
            entry("breaks", Failed, 7.0, "k"),
            entry("drifts", Passed, 0.9, "k"),
            entry("drifts a little", Passed, 0.09, "k"),
            entry("better", Passed, 0.1, "k"),
            entry("new", Skipped, 0.0, "k"),
        ];
        let now = record(&[("one", cases.clone())]);
        let [difference] = &now.since(&before)[..] else { panic!("one adapter") };
        assert_eq!(difference.verdicts, [("breaks".to_string(), Passed, Failed)]);
        assert_eq!(difference.worse, [("drifts".to_string(), 0.2, 0.9)]);
        let counts = (difference.compared, difference.better, difference.added, difference.missing);
        assert_eq!((counts, difference.other_kernels), ((5, 1, 1, 1), 1));
        // the same adapter after an update of its driver; another among several
        let [renamed] = &record(&[("two", cases.clone())]).since(&before)[..] else { panic!("one adapter") };
        assert_eq!((renamed.compared, renamed.earlier.as_deref()), (5, Some("one")));
        let several = record(&[("two", cases.clone()), ("three", cases)]).since(&before);
        assert!(several.iter().all(|d| d.earlier.is_none() && d.text().contains("nothing was compared")));
    }

    /// A driver that loses some bits stays within f32's wide bounds everywhere; by its median it is seen, and one odd case is not.
    #[test]
    fn a_family_that_drifts_is_told() {
        let cases = |ratio: &dyn Fn(usize) -> f64| -> Vec<Entry> {
            (0..9).map(|n| entry(&format!("attention/c{n}/q1k1/f32/seed1"), Passed, ratio(n), "k")).collect()
        };
        let before = record(&[("one", cases(&|n| 0.002 + 1e-4 * n as f64))]);
        let drifts = |now: &dyn Fn(usize) -> f64| record(&[("one", cases(now))]).since(&before)[0].clone();
        let lost = drifts(&|n| 0.02 + 1e-3 * n as f64);
        let [drift] = &lost.drifts[..] else { panic!("{lost:?}") };
        assert_eq!((drift.family.as_str(), drift.storage.as_str(), drift.cases), ("tile", "f32", 9));
        assert!(
            drift.now > 9.0 * drift.before && lost.worse.is_empty() && lost.text().contains("DRIFT of tile in f32")
        );
        assert!(drifts(&|n| if n < 2 { 0.09 } else { 0.003 }).drifts.is_empty(), "chance");
    }

    #[test]
    fn known_failures_are_no_failures_and_their_passes_are_told() {
        let known = |adapter: &str, address: &str, link: &str| Known {
            adapter: adapter.into(),
            address: address.into(),
            link: link.into(),
        };
        let cases = vec![
            entry("attention/x/f16", Failed, 3.0, "k"),
            entry("attention/y/f32", Failed, 3.0, "k"),
            entry("rotate/z/f32", Passed, 0.5, "k"),
        ];
        let mut all = record(&[("Vulkan One (Mesa 1)", cases)]);
        let list = [
            known("one MESA", "attention f16", "https://a"),
            known("vulkan", "rotate", "https://b"),
            known("two", "rotate", "https://c"),
        ];
        let review = all.review(&list);
        assert_eq!(review.failures, [("https://a".to_string(), 1)]);
        assert_eq!(review.unexpected_passes, [("https://b".into(), "Vulkan One (Mesa 1)".into(), 1)]);
        assert_eq!((all.passed, all.failed, all.known), (1, 1, 1));
        assert_eq!(all.adapters[0].cases[0].known.as_deref(), Some("https://a"));
        assert!(Known::check(vec![known("", "x", "y")], "FILE").unwrap_err().to_string().contains("adapter is empty"));
    }

    #[test]
    fn the_page_names_what_failed_and_escapes_what_it_is_told() {
        let cases = vec![
            entry("attention/x/f32", Failed, 3.0, "a<b"),
            entry("attention/y/f32", Passed, 0.25, "k"),
            entry("attention/z/f32", Passed, 0.5, "k"),
        ];
        let page = page(&record(&[("<one>", cases)])).unwrap();
        for part in ["2 passed", "1 failed", "attention/x/f32", "a&lt;b", "&lt;one&gt;", "tile (3)"] {
            assert!(page.contains(part), "{part}");
        }
        // the picture twice, for light and dark; the axis of the bars, and a family's
        assert!(!page.contains("<one>") && page.matches("<svg").count() == 4);
    }
}
