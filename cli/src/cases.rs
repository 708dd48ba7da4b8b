//! Seeded cases of our own: chosen by their addresses, run on devices, judged by the reference, told.

use crate::record::{Difference, Review};
use crate::text;
use ropewalk::case::{self, Case, CaseId, Kernels, Op};
use ropewalk::{Error, Gpu, Inputs, Limits, Result, Tensor, Tuning, check};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How far the random tail is searched for cases that match a query.
const SEARCHED: usize = 1_000_000;

/// The cases whose addresses contain the words of a query, at most `limit`; or so many random ones.
pub fn select(query: &str, random: Option<usize>, limit: Option<usize>) -> Result<Vec<CaseId>> {
    let cases: Vec<CaseId> = match random {
        Some(n) => case::random().take(SEARCHED).filter(|id| id.matches(query)).take(n).collect(),
        None => case::matching(query).take(limit.unwrap_or(usize::MAX)).collect(),
    };
    match (cases.is_empty(), query.contains('/')) {
        (false, _) => Ok(cases),
        // an address says what is wrong with it
        (true, true) => query.parse().map(|id| vec![id]),
        (true, false) => Err(Error::input(
            "QUERY",
            format!("no case matches {query:?}"),
            "give words that addresses contain; `ropewalk validate --list` prints the addresses",
        )),
    }
}

/// Cases that fill a large device - some 2 000 workgroups, 8 000 rows of decode - by every family of kernels: few of one workgroup meet faults of
/// many that share a core.
pub fn filling() -> Result<Vec<CaseId>> {
    let all = [
        "attention/heads257/q256k256/f32/seed1/families",
        "attention/heads257/q1k1024/f32/seed1/families",
        "scores/heads257/q256k256/f32/seed1/families",
        "rotate/heads257/q256k1024/f32/seed1",
        "linear/heads257/q256k256/f32/seed1",
        "embed/width1030/q16384k33/f32/seed1",
    ];
    all.into_iter().map(str::parse).collect()
}

/// Names and values of what a case computes.
pub fn expected(case: &Case) -> Result<Vec<(&'static str, check::Bounded)>> {
    let (spec, inputs) = (&case.spec, &case.inputs);
    // bits that may change
    let none = |changes: Vec<f32>| check::Bounded { value: vec![0.0; changes.len()], bound: vec![0.0; changes.len()] };
    if let Some((embed, inputs)) = &case.embed {
        let out = check::embed(embed, inputs)?;
        let around = none(changes(&inputs.x, &inputs.x, &|_| u32::MAX));
        return Ok(vec![("out", out.clone()), ("in place", out), ("bits around x", around)]);
    }
    Ok(match case.op {
        Op::Scores => vec![("scores", check::scores(spec, inputs)?)],
        Op::Rotate => {
            let (q, k) = check::rotate(spec, inputs)?;
            vec![("q", q), ("k", k)]
        }
        Op::RotateInPlace => {
            let (q, k) = check::rotate(spec, inputs)?;
            let [around_q, around_k] = around(inputs, inputs).map(none);
            vec![("q", q), ("k", k), ("bits around q", around_q), ("bits around k", around_k)]
        }
        Op::Linear => {
            let all = check::linear(spec, inputs)?;
            vec![("out", all.out), ("state", all.state), ("normalizer", all.normalizer)]
        }
        _ => {
            let (out, lse) = check::attention(spec, inputs)?;
            vec![("out", out), ("lse", lse)]
        }
    })
}

/// The rows of a tensor, one after the other.
fn rows(t: &Tensor) -> Vec<f32> {
    let [batch, len, heads, dim] = t.shape();
    let starts = (0..batch).flat_map(|b| (0..len).flat_map(move |j| (0..heads).map(move |h| t.row_start(b, j, h))));
    starts.flat_map(|start| (start..start + dim as usize).map(|i| t.data().get(i))).collect()
}

/// How many bits differ in each element of the data that lies outside the rows of the `used(b)` first tokens of sequence b.
fn changes(before: &Tensor, after: &Tensor, used: &dyn Fn(u32) -> u32) -> Vec<f32> {
    let [batch, len, heads, dim] = before.shape();
    let mut outside = vec![true; before.data().len()];
    for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
        for j in 0..used(b).min(len) {
            outside.iter_mut().skip(before.row_start(b, j, h)).take(dim as usize).for_each(|x| *x = false);
        }
    }
    let size = before.dtype().size();
    let elements = before.data().bytes().chunks(size).zip(after.data().bytes().chunks(size));
    let differ = |(a, b): (&[u8], &[u8])| a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() as f32;
    elements.map(differ).zip(outside).filter(|(_, outside)| *outside).map(|(bits, _)| bits).collect()
}

/// The same of q and of k, whose keys beyond kv_len nobody rotates.
fn around(before: &Inputs, after: &Inputs) -> [Vec<f32>; 2] {
    let used = |b: u32| match &before.kv_lens {
        Some(lens) => lens.get(b as usize).copied().unwrap_or(0),
        None => before.kv_len.unwrap_or(u32::MAX),
    };
    [changes(&before.q, &after.q, &|_| u32::MAX), changes(&before.k, &after.k, &used)]
}

/// A case by one choice of kernels.
#[derive(Clone)]
struct Run {
    /// Names the kernels too, where they are not the planner's choice.
    address: String,
    /// None: they do not suit.
    limits: Result<Limits>,
    planned: bool,
    /// Of the plans.
    labels: Vec<String>,
    families: Vec<&'static str>,
}

/// What a case is computed by on a device of these limits; nothing, where it does not suit the family that the caller asked for.
fn runs(limits: &Limits, id: &CaseId, case: &Case, asked: Option<Kernels>) -> Result<Vec<Run>> {
    let plain = id.clone().with_kernels(Kernels::Planned);
    let run = |tuning: Option<Tuning>| {
        let mut limits = *limits;
        limits.tuning = tuning;
        // what a limit forbids as a whole is computed in parts
        let plans = case.plans(&limits).unwrap_or_default();
        Run {
            address: plain.clone().with_kernels(tuning.map_or(Kernels::Planned, Kernels::Only)).to_string(),
            limits: Ok(limits),
            planned: tuning.is_none(),
            labels: plans.iter().map(|plan| plan.label().to_string()).collect(),
            families: plans.iter().map(|plan| plan.tuning().family.name()).collect(),
        }
    };
    let nothing = |e: Error| {
        let (labels, families) = (Vec::new(), Vec::new());
        vec![Run { address: id.to_string(), limits: Err(e), planned: false, labels, families }]
    };
    let kernels = asked.unwrap_or(id.kernels());
    let whole = match (case.plans(limits), kernels) {
        (Ok(plans), _) => plans,
        // in parts the planner chooses, for each
        (Err(e), Kernels::Only(_)) => return Ok(nothing(e)),
        (Err(_), _) => Vec::new(),
    };
    let mut tunings: Vec<Option<Tuning>> = Vec::new();
    let mut unsuited = None;
    for plan in whole {
        match kernels.tunings(&plan, limits) {
            Ok(more) => tunings.extend(more.into_iter().filter(|t| !tunings.contains(t)).collect::<Vec<_>>()),
            Err(e) => unsuited = Some(e),
        }
    }
    Ok(match (tunings.is_empty(), unsuited, asked) {
        (false, ..) => tunings.into_iter().map(run).collect(),
        (true, Some(_), Some(_)) => Vec::new(),
        (true, Some(e), None) => nothing(e),
        (true, None, _) => vec![run(None)],
    })
}

/// What a GPU computes of it. `labels` are those of the plans that should compute it, none where the device cuts the problem.
async fn computed(gpu: &Gpu, case: &Case, labels: &[String]) -> Result<Vec<Vec<f32>>> {
    let (spec, inputs) = (&case.spec, &case.inputs);
    if let Some((embed, inputs)) = &case.embed {
        let (out, mut after) = (gpu.embed_async(embed, inputs).await?.0, inputs.clone());
        return match gpu.embed_in_place_async(embed, &mut after).await {
            Ok(()) => Ok(vec![out, rows(&after.x), changes(&inputs.x, &after.x, &|_| u32::MAX)]),
            // what is computed in parts is not in place
            Err(Error::Limit { .. }) => Ok(vec![out]),
            Err(e) => Err(e),
        };
    }
    Ok(match case.op {
        Op::Scores => vec![gpu.scores_async(spec, inputs).await?],
        Op::RotateInPlace => {
            let mut after = inputs.clone();
            gpu.rotate_in_place_async(spec, &mut after).await?;
            let [around_q, around_k] = around(inputs, &after);
            vec![rows(&after.q), rows(&after.k), around_q, around_k]
        }
        Op::Rotate => {
            let (q, k) = gpu.rotate_async(spec, inputs).await?;
            vec![q, k]
        }
        Op::Linear => {
            let result = gpu.linear_async(spec, inputs, &|_| ()).await?.0;
            vec![result.out, result.state, result.normalizer]
        }
        _ => {
            let (result, stats) = gpu.attention_async(spec, inputs, &|_| ()).await?;
            if let Some(label) = labels.first().filter(|label| stats.parts == 1 && **label != stats.kernel) {
                return Err(Error::input("tuning", format!("{label} became {}", stats.kernel), "report it"));
            }
            vec![result.out, result.lse]
        }
    })
}

/// Compares; an error is a failure, unless the adapter's limits forbid the case.
fn judge(
    address: String,
    wanted: &[(&'static str, check::Bounded)],
    computed: &Result<Vec<Vec<f32>>>,
    labels: &[String],
) -> Outcome {
    let kernel = labels.join(" + ");
    let (families, tensors) = (Vec::new(), Vec::new());
    let mut outcome = Outcome {
        address,
        verdict: Verdict::Passed,
        kernel,
        families,
        tensors,
        reason: None,
        seconds: 0.0,
        computed: 0,
    };
    match computed {
        Ok(values) => {
            let compared = wanted.iter().zip(values).map(|((name, bounded), got)| (*name, bounded.worst(got)));
            outcome.tensors = compared.collect();
            if outcome.tensors.iter().any(|(_, worst)| worst.failures > 0) {
                outcome.verdict = Verdict::Failed;
            }
        }
        Err(e) => {
            outcome.verdict = if matches!(e, Error::Limit { .. }) { Verdict::Skipped } else { Verdict::Failed };
            outcome.reason = Some(e.to_string());
        }
    }
    outcome
}

/// What a run computed first, to be compared with what it computes again.
pub struct Kept {
    /// Of the tally.
    outcome: usize,
    run: Run,
    values: Vec<Vec<f32>>,
}

impl Kept {
    /// Values that are kept.
    pub fn len(&self) -> usize {
        self.values.iter().map(Vec::len).sum()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where results differ in a bit; NaN are alike. None: nowhere.
fn other_bits(names: &[&str], before: &[Vec<f32>], after: &[Vec<f32>]) -> Option<String> {
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let of = |(n, (a, b)): (usize, (&Vec<f32>, &Vec<f32>))| {
        let name = names.get(n).copied().unwrap_or("a result");
        if a.len() != b.len() {
            return Some(format!("{} elements of {name}, not {}", b.len(), a.len()));
        }
        let mut differ = a.iter().zip(b).enumerate().filter(|(_, (a, b))| !same(**a, **b));
        let (first, (x, y)) = differ.next()?;
        let count = 1 + differ.count();
        Some(format!(
            "{count} of {} elements of {name} have other bits, the first at {first}: {x:e} became {y:e}",
            a.len()
        ))
    };
    let found: Vec<String> = before.iter().zip(after).enumerate().filter_map(of).collect();
    (!found.is_empty()).then(|| format!("computed again: {}", found.join("; ")))
}

/// A hash of cos and sin, which rows of 1 and 0 turn into; none: another case.
fn rotation_bits(id: &CaseId, computed: &Result<Vec<Vec<f32>>>) -> Option<u64> {
    let values = computed.as_ref().ok().filter(|_| id.op() == Op::Rotate && id.names().any(|name| name == "unit"))?;
    // zeros are alike, whatever their sign
    Some(hash(values.iter().flatten().map(|x| (x + 0.0).to_bits())))
}

/// FNV-1a.
fn hash(words: impl Iterator<Item = u32>) -> u64 {
    let bytes = words.flat_map(u32::to_le_bytes);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3))
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Failed,
    /// The adapter's limits do not allow it.
    Skipped,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        })
    }
}

/// A case on an adapter.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub address: String,
    pub verdict: Verdict,
    /// The labels of its plans; empty where the device cuts the problem.
    pub kernel: String,
    /// Of the kernels, where they are planned as a whole.
    #[serde(skip)]
    pub families: Vec<&'static str>,
    #[serde(serialize_with = "as_map")]
    pub tensors: Vec<(&'static str, check::Worst)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of computing it first, with all that this took.
    #[serde(skip)]
    pub seconds: f64,
    /// How often it was computed.
    #[serde(skip)]
    pub computed: u32,
}

fn as_map<S: serde::Serializer>(pairs: &[(&'static str, check::Worst)], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().copied())
}

impl Outcome {
    /// For people, in one line.
    pub fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Passed => "passed ",
            Verdict::Failed => "FAILED ",
            Verdict::Skipped => "skipped",
        };
        let tensors = self.tensors.iter().map(|(name, w)| match w.failures {
            0 => format!("{name} {:.3}", w.ratio),
            n => format!(
                "{name}: {n} of {} elements above their bound; worst error {:.1e}, {:.1} times its bound {:.1e}, at {}",
                w.elements, w.error, w.ratio, w.bound, w.index
            ),
        });
        let kernel = Some(&self.kernel).filter(|kernel| !kernel.is_empty()).map(|kernel| format!("by {kernel}"));
        let parts: Vec<String> = tensors.chain(self.reason.clone()).chain(kernel).collect();
        format!("{verdict} {}  {}", self.address, parts.join("  "))
    }
}

/// What an adapter did.
pub struct Tally {
    pub adapter: String,
    /// Seconds since some moment.
    clock: fn() -> f64,
    cases: usize,
    pub outcomes: Vec<Outcome>,
    /// How many cases each family computed.
    families: BTreeMap<&'static str, usize>,
    /// Fingerprints of cos and sin, by case.
    rotations: Vec<(String, u64)>,
    /// Addresses of runs that gave other bits when they were computed again.
    other_bits: Vec<String>,
}

impl Tally {
    /// `clock`: seconds since some moment.
    pub fn new(adapter: String, clock: fn() -> f64) -> Self {
        let (outcomes, families, rotations, other_bits) = Default::default();
        Tally { adapter, clock, cases: 0, outcomes, families, rotations, other_bits }
    }

    /// Runs a case on the adapter by every choice of kernels that is asked for, and judges each; `told` hears what became of it. What was
    /// computed is for [`Tally::again`].
    pub async fn run(
        &mut self,
        gpu: &Gpu,
        id: &CaseId,
        case: &Case,
        wanted: &[(&'static str, check::Bounded)],
        asked: Option<Kernels>,
        told: &mut dyn FnMut(&Outcome) -> Result<()>,
    ) -> Result<Vec<Kept>> {
        let (mut families, mut kept) = (BTreeSet::new(), Vec::new());
        let runs = runs(gpu.limits(), id, case, asked)?;
        self.cases += !runs.is_empty() as usize;
        for run in runs {
            let start = (self.clock)();
            let computed = match &run.limits {
                Ok(limits) => computed(&gpu.with_limits(*limits), case, &run.labels).await,
                Err(e) => Err(e.clone()),
            };
            let seconds = (self.clock)() - start;
            if run.planned {
                self.rotations.extend(rotation_bits(id, &computed).map(|bits| (run.address.clone(), bits)));
            }
            let mut outcome = judge(run.address.clone(), wanted, &computed, &run.labels);
            (outcome.seconds, outcome.families) = (seconds, run.families.clone());
            if outcome.verdict != Verdict::Skipped {
                families.extend(run.families.iter().copied());
            }
            told(&outcome)?;
            if let Ok(values) = computed {
                outcome.computed = 1;
                kept.push(Kept { outcome: self.outcomes.len(), run, values });
            }
            self.outcomes.push(outcome);
        }
        families.into_iter().for_each(|family| *self.families.entry(family).or_default() += 1);
        Ok(kept)
    }

    /// Computes a run again, after others: the same plan on the same adapter gives the same bits. One that does not has failed.
    pub async fn again(
        &mut self,
        gpu: &Gpu,
        case: &Case,
        kept: &Kept,
        told: &mut dyn FnMut(&Outcome) -> Result<()>,
    ) -> Result<()> {
        let Kept { outcome, run, values } = kept;
        let computed = match &run.limits {
            Ok(limits) => computed(&gpu.with_limits(*limits), case, &run.labels).await,
            Err(e) => Err(e.clone()),
        };
        let Some(outcome) = self.outcomes.get_mut(*outcome) else { return Ok(()) };
        let names: Vec<&str> = outcome.tensors.iter().map(|(name, _)| *name).collect();
        let why = match &computed {
            Ok(again) => other_bits(&names, values, again),
            Err(e) => Some(format!("computed again: {e}")),
        };
        outcome.computed += 1;
        if let Some(why) = why {
            outcome.verdict = Verdict::Failed;
            outcome.reason =
                Some(outcome.reason.iter().map(String::as_str).chain([why.as_str()]).collect::<Vec<_>>().join("; "));
            if !self.other_bits.contains(&outcome.address) {
                self.other_bits.push(outcome.address.clone());
            }
            told(outcome)?;
        }
        Ok(())
    }

    /// What something else than a case found on the adapter.
    pub fn add(&mut self, outcome: Outcome) {
        self.cases += 1;
        self.outcomes.push(outcome);
    }

    /// A hash of all bits of cos and sin; none: no such case was run.
    pub fn rotation_bits(&self) -> Option<String> {
        let hashes = self.rotations.iter().flat_map(|(_, hash)| [*hash as u32, (hash >> 32) as u32]);
        (!self.rotations.is_empty()).then(|| format!("{:016x}", hash(hashes)))
    }
}

/// One adapter in the report.
#[derive(Debug, Serialize)]
pub struct Line {
    adapter: String,
    cases: usize,
    /// Cases times the kernels that computed each: what passed, failed or was skipped.
    runs: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    /// How many cases each family computed, beside others or alone.
    families: BTreeMap<&'static str, usize>,
    /// Elements compared.
    elements: u64,
    /// Of them, those of which the bound says nothing.
    unbounded: u64,
    /// The largest error / bound.
    worst: f64,
    worst_case: String,
    /// A hash of all bits of cos and sin, to compare between machines; none: no such case was run.
    rotation_bits: Option<String>,
    /// Cases of cos and sin whose bits differ from the first adapter's.
    rotation_bits_differ: Vec<String>,
    /// Runs that were computed again, and the addresses of those that then gave other bits: they failed.
    computed_again: usize,
    other_bits: Vec<String>,
    /// Failures and skipped cases; all with --verbose.
    outcomes: Vec<Outcome>,
}

/// What all adapters did.
#[derive(Debug, Serialize)]
pub struct Report {
    adapters: Vec<Line>,
    passed: usize,
    /// Those that are known too.
    failed: usize,
    skipped: usize,
    /// The order in which runs were computed again is drawn from it, and with --shuffle that of all.
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<Review>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Vec<Difference>>,
}

impl Report {
    /// `verbose`: with every outcome, not only failures and skipped cases. `seed`: of the order.
    pub fn new(tallies: Vec<Tally>, verbose: bool, seed: u64) -> Self {
        let first = tallies.first().map(|t| t.rotations.clone()).unwrap_or_default();
        let line = |tally: Tally| {
            let count = |verdict: Verdict| tally.outcomes.iter().filter(|o| o.verdict == verdict).count();
            let worsts = || tally.outcomes.iter().flat_map(|o| o.tensors.iter().map(move |(_, w)| (o, w)));
            let worst = worsts().max_by(|a, b| a.1.ratio.total_cmp(&b.1.ratio));
            let differ = tally
                .rotations
                .iter()
                .filter(|(address, bits)| first.iter().any(|(of_first, other)| of_first == address && other != bits));
            Line {
                cases: tally.cases,
                runs: tally.outcomes.len(),
                passed: count(Verdict::Passed),
                failed: count(Verdict::Failed),
                skipped: count(Verdict::Skipped),
                elements: worsts().map(|(_, w)| w.elements).sum(),
                unbounded: worsts().map(|(_, w)| w.unbounded).sum(),
                worst: worst.map_or(0.0, |(_, w)| w.ratio),
                worst_case: worst.map_or(String::new(), |(o, _)| o.address.clone()),
                rotation_bits: tally.rotation_bits(),
                computed_again: tally.outcomes.iter().filter(|o| o.computed > 1).count(),
                other_bits: tally.other_bits,
                rotation_bits_differ: differ.map(|(address, _)| address.clone()).collect(),
                families: tally.families,
                adapter: tally.adapter,
                outcomes: tally.outcomes.into_iter().filter(|o| verbose || o.verdict != Verdict::Passed).collect(),
            }
        };
        let adapters: Vec<Line> = tallies.into_iter().map(line).collect();
        let sum = |of: fn(&Line) -> usize| adapters.iter().map(of).sum();
        let [passed, failed, skipped] = [sum(|l| l.passed), sum(|l| l.failed), sum(|l| l.skipped)];
        Report { passed, failed, skipped, seed, adapters, known: None, since: None }
    }

    /// With what known issues have to do with it, and what has changed since an earlier run.
    pub fn with(mut self, known: Review, since: Option<Vec<Difference>>) -> Self {
        self.known = Some(known).filter(|review| *review != Review::default());
        self.since = since;
        self
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut said = Vec::new();
        let header =
            ["adapter", "cases", "runs", "failed", "skipped", "elements", "worst error / bound", "cos and sin bits"];
        let rows = self.adapters.iter().enumerate().map(|(n, line)| {
            let bits = match (&line.rotation_bits, line.rotation_bits_differ.len()) {
                (None, _) => "-".into(),
                (Some(bits), 0) if n > 0 => format!("{bits}, equal"),
                (Some(bits), 0) => bits.clone(),
                (Some(bits), n) => format!("{bits}, differ in {n} cases"),
            };
            let unbounded = if line.unbounded > 0 { format!(" ({} unbounded)", line.unbounded) } else { String::new() };
            vec![
                line.adapter.clone(),
                line.cases.to_string(),
                line.runs.to_string(),
                line.failed.to_string(),
                line.skipped.to_string(),
                format!("{}{unbounded}", line.elements),
                format!("{:.3} in {}", line.worst, line.worst_case),
                bits,
            ]
        });
        said.push(text::table(&header, rows.collect::<Vec<_>>()).to_string());
        for line in &self.adapters {
            let families: Vec<String> = line.families.iter().map(|(name, n)| format!("{name} {n}")).collect();
            if !families.is_empty() {
                said.push(format!("cases by family: {} [{}]", families.join(", "), line.adapter));
            }
            for outcome in line.outcomes.iter().filter(|o| o.verdict == Verdict::Skipped) {
                said.push(format!("{} [{}]", outcome.line(), line.adapter));
            }
            if line.computed_again > 0 {
                let found = match line.other_bits.len() {
                    0 => "the same bits each time".to_string(),
                    n => format!("{n} of them with OTHER BITS"),
                };
                let n = line.computed_again;
                said.push(format!(
                    "{n} runs computed again, in an order of seed {}: {found} [{}]",
                    self.seed, line.adapter
                ));
            }
            for address in &line.rotation_bits_differ {
                said.push(format!("other bits of cos and sin: {address} [{}]", line.adapter));
            }
        }
        if self.adapters.iter().any(|line| line.unbounded > 0) {
            said.push(
                "unbounded: nothing can be said of rotated keys from kv_len on, and of numbers near the end of f32"
                    .into(),
            );
        }
        said.extend(self.since.iter().flatten().map(Difference::text));
        said.extend(self.known.as_ref().map(Review::text));
        said.push(format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped));
        said.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ropewalk::Strides;

    fn tally(adapter: &str, got: f32, bits: u64) -> Tally {
        let wanted = [("lse", check::Bounded { value: vec![1.0, 2.0], bound: vec![1e-6, 1e-6] })];
        let mut tally = Tally::new(adapter.into(), || 0.0);
        tally.outcomes.push(judge("a".into(), &wanted, &Ok(vec![vec![1.0, got]]), &["attention.tile".into()]));
        tally.outcomes.push(judge("b".into(), &wanted, &Err(Error::limit("buffers", "too few", "use more")), &[]));
        tally.rotations.push(("r".into(), bits));
        tally
    }

    /// A bit outside the rows is a failure, one within them is for their bounds to judge.
    #[test]
    fn changes_around_rows_are_failures() {
        let data = |at: usize, x: f32| {
            let mut data = vec![f32::NAN; 12];
            data[at] = x;
            // two tokens of two elements, a gap of one
            Tensor::strided(data, [1, 2, 1, 2], Strides { batch: 5, token: 3, head: 2 }, 1).expect("a tensor")
        };
        let before = data(0, 1.0);
        let failures = |after: &Tensor, used: u32| {
            let wanted = changes(&before, &before, &|_| used).len();
            let wanted = [("around", check::Bounded { value: vec![0.0; wanted], bound: vec![0.0; wanted] })];
            let got = changes(&before, after, &|_| used);
            judge("a".into(), &wanted, &Ok(vec![got]), &[]).tensors[0].1
        };
        let same = failures(&before, 2);
        assert_eq!((same.elements, same.failures), (8, 0));
        // both differ where one is 1 and the other NaN: element 0, which is outside, and the one asked for
        for (at, used, failed) in [(1, 2, 1), (4, 2, 1), (4, 1, 2), (3, 2, 2), (11, 2, 2)] {
            assert_eq!(failures(&data(at, 1.0), used).failures, failed, "element {at}, {used} tokens");
        }
        // another NaN
        let other = data(0, 1.0);
        let mut words = other.data().to_f32();
        words[3] = f32::from_bits(0x7fc0_0001);
        let other = Tensor::strided(words, other.shape(), other.strides(), 1).expect("a tensor");
        assert_eq!(failures(&other, 2).failures, 1);
    }

    #[test]
    fn failures_are_counted_and_told() {
        let report =
            Report::new(vec![tally("one", 2.0, 7), tally("two", 2.1, 7), tally("three", f32::NAN, 8)], false, 1);
        assert_eq!((report.passed, report.failed, report.skipped), (1, 2, 3));
        let [one, two, three] = &report.adapters[..] else { panic!("three adapters") };
        assert_eq!((one.failed, two.failed, three.failed), (0, 1, 1));
        assert!(two.worst > 9e4 && three.worst == f64::INFINITY);
        let line = two.outcomes[0].line();
        assert!(line.starts_with("FAILED  a  lse: 1 of 2 elements above their bound"), "{line}");
        assert!(line.ends_with("  by attention.tile"), "{line}");
        let line = two.outcomes[1].line();
        assert!(line.starts_with("skipped b  limit buffers: too few"), "{line}");
        assert!(two.rotation_bits_differ.is_empty() && three.rotation_bits_differ == ["r"]);
        assert_eq!(one.rotation_bits, two.rotation_bits);
        assert_ne!(one.rotation_bits, three.rotation_bits);
    }

    /// A driver whose second result differs in one bit, however far within its bound.
    #[test]
    fn other_bits_are_found() {
        let (names, before) = (["out", "lse"], [vec![1.0, f32::NAN, 0.0], vec![2.0]]);
        assert_eq!(other_bits(&names, &before, &before.clone()), None);
        let mut after = before.clone();
        after[0][1] = f32::from_bits(0xffc0_0001);
        assert_eq!(other_bits(&names, &before, &after), None, "NaN are alike");
        after[0][2] = -0.0;
        after[1][0] = f32::from_bits(2f32.to_bits() + 1);
        let said = other_bits(&names, &before, &after).expect("two bits");
        assert!(said.contains("1 of 3 elements of out") && said.contains("the first at 2: 0e0 became -0e0"), "{said}");
        assert!(said.contains("1 of 1 elements of lse"), "{said}");
        assert!(
            other_bits(&names, &before, &[vec![1.0], vec![2.0]])
                .is_some_and(|said| said.contains("1 elements of out, not 3"))
        );
    }
}
