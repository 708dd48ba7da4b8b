//! Running a call and comparing what came out.

use super::work::{EmbedProbe, Expect, Probe, Stage, Tolerance};
use ropewalk::{Result, reference};
use std::collections::BTreeMap;

/// What a call computed, by stage.
pub type Stages = BTreeMap<Stage, Vec<f64>>;

/// The stages that a probe's expectations need.
pub fn stages(probe: &Probe) -> Vec<Stage> {
    let mut stages: Vec<Stage> = probe.expects.iter().map(|e| e.stage).collect();
    if stages.contains(&Stage::Probs) {
        stages.extend([Stage::Scores, Stage::Lse]);
    }
    if stages.iter().any(|s| *s >= Stage::Scores) {
        stages.extend([Stage::Out, Stage::Lse]);
    }
    stages.sort();
    stages.dedup();
    stages
}

/// The reference's results.
pub fn by_reference(probe: &Probe) -> Result<Stages> {
    let (wanted, mut found) = (stages(probe), Stages::new());
    if wanted.iter().any(|s| matches!(s, Stage::QRot | Stage::KRot)) {
        let (q, k) = reference::rotate(&probe.spec, &probe.inputs)?;
        found.extend([(Stage::QRot, q), (Stage::KRot, k)]);
    }
    if wanted.contains(&Stage::Scores) {
        found.insert(Stage::Scores, reference::scores(&probe.spec, &probe.inputs)?);
    }
    if probe.spec.linear.is_some() {
        let result = reference::linear(&probe.spec, &probe.inputs)?;
        found.extend([(Stage::Out, result.out), (Stage::State, result.state), (Stage::Normalizer, result.normalizer)]);
        add_normed(&wanted, &mut found, probe.spec.v_head_dim);
        return Ok(found);
    }
    if wanted.contains(&Stage::Out) {
        let result = reference::attention(&probe.spec, &probe.inputs)?;
        found.extend([(Stage::Out, result.out), (Stage::Lse, result.lse)]);
    }
    add_difference(probe, &mut found);
    add_probs(&wanted, &mut found);
    Ok(found)
}

/// The reference's result of `embed`.
pub fn embed_by_reference(probe: &EmbedProbe) -> Result<Stages> {
    Ok(Stages::from([(Stage::Embed, reference::embed(&probe.embed, &probe.inputs)?)]))
}

/// exp(scores - lse), where it is wanted.
pub fn add_probs(wanted: &[Stage], found: &mut Stages) {
    let (Some(scores), Some(lse)) = (found.get(&Stage::Scores), found.get(&Stage::Lse)) else { return };
    if wanted.contains(&Stage::Probs) && !lse.is_empty() {
        let rows = scores.chunks((scores.len() / lse.len()).max(1)).zip(lse);
        let row = |(s, lse): (&[f64], &f64)| s.iter().map(|s| probability(*s, *lse)).collect::<Vec<_>>();
        let probs = rows.flat_map(row).collect();
        found.insert(Stage::Probs, probs);
    }
}

/// Rows of out divided by their root mean square, where that is wanted; a row of zeros stays so.
pub fn add_normed(wanted: &[Stage], found: &mut Stages, width: u32) {
    let Some(out) = found.get(&Stage::Out).filter(|_| wanted.contains(&Stage::OutNormed)) else { return };
    let normed = |row: &[f64]| {
        let rms = root_mean_square(row);
        row.iter().map(|x| if rms == 0.0 { 0.0 } else { x / rms }).collect::<Vec<_>>()
    };
    let normed = out.chunks(width.max(1) as usize).flat_map(normed).collect();
    found.insert(Stage::OutNormed, normed);
}

/// Differences of two heads' out, where the probe has any.
pub fn add_difference(probe: &Probe, found: &mut Stages) {
    let (Some(of), Some(out)) = (probe.difference, found.get(&Stage::Out)) else { return };
    let scaled = pairs(probe, out).map(|(x, y)| (x - of.lambda * y) * of.scale).collect();
    found.insert(Stage::OutDifference, scaled);
}

/// Elements of heads h and h + num_heads / 2 of an out.
pub fn pairs<'a>(probe: &Probe, out: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + use<'a> {
    let half = (probe.spec.num_heads / 2 * probe.spec.v_head_dim).max(1) as usize;
    let tokens = out.chunks_exact(2 * half).map(move |token| token.split_at(half));
    tokens.flat_map(|(first, second)| first.iter().copied().zip(second.iter().copied()))
}

pub fn root_mean_square(row: &[f64]) -> f64 {
    (row.iter().map(|x| x * x).sum::<f64>() / row.len().max(1) as f64).sqrt()
}

fn probability(s: f64, lse: f64) -> f64 {
    if s == f64::NEG_INFINITY { 0.0 } else { (s - lse).exp() }
}

/// The largest error of a comparison as a fraction of what was allowed there, and where.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Worst {
    /// Above 1: wrong.
    pub ratio: f64,
    /// The element that it belongs to, when it is wrong.
    pub wrong: Option<String>,
}

impl Worst {
    /// The larger of the two.
    pub fn max(self, other: Worst) -> Worst {
        if other.ratio > self.ratio { other } else { self }
    }
    /// Compares element by element; `want` and `allowed` give the listed value and the permitted error of an index.
    pub fn of(what: &str, got: &[f64], want: impl Fn(usize) -> Option<f64>, allowed: impl Fn(usize) -> f64) -> Worst {
        let mut worst = Worst::default();
        for (i, got) in got.iter().enumerate() {
            let Some(want) = want(i) else { continue };
            let ratio = ratio(*got, want, allowed(i));
            if ratio > worst.ratio {
                let (off, allowed) = ((got - want).abs(), allowed(i));
                let wrong = || format!("{what}[{i}] is {got:e}, not {want:e}: off by {off:.1e}, allowed {allowed:.1e}");
                worst = Worst { ratio, wrong: (ratio > 1.0).then(wrong) };
            }
        }
        worst
    }
    /// Numbers of which there are not as many as there should be.
    pub fn missing(what: &str, got: usize, want: usize) -> Worst {
        Worst { ratio: f64::INFINITY, wrong: Some(format!("{what}: {got} values computed, {want} listed")) }
    }
}

/// |got - want| / allowed: 0 where both are the same infinity or both NaN, infinite where only one is. Whatever is
/// allowed to be infinitely far off is right.
fn ratio(got: f64, want: f64, allowed: f64) -> f64 {
    let off = (got - want).abs();
    match () {
        _ if got == want || (got.is_nan() && want.is_nan()) || allowed == f64::INFINITY => 0.0,
        _ if !off.is_finite() => f64::INFINITY,
        _ => off / allowed,
    }
}

/// The results of an engine against what the case lists; `bound` widens the tolerance (0 for the reference).
pub fn against_listed(engine: &str, probe: &Probe, found: &Stages, bound: impl Fn(Stage, usize) -> f64) -> Worst {
    expected(engine, &probe.expects, found, bound)
}

/// Any engine's results against what is listed; `bound` widens the tolerance.
pub fn expected(engine: &str, expects: &[Expect], found: &Stages, bound: impl Fn(Stage, usize) -> f64) -> Worst {
    expects.iter().fold(Worst::default(), |worst, expect| {
        let what = format!("{engine} {} of {}", expect.stage.name(), expect.name);
        let got = found.get(&expect.stage).map_or(&[][..], Vec::as_slice);
        if got.len() != expect.listed.len() {
            return worst.max(Worst::missing(&what, got.len(), expect.listed.len()));
        }
        // Where the bound says nothing (overflow on the way), the tolerance alone counts.
        let bound = |i| Some(bound(expect.stage, i)).filter(|b| b.is_finite()).unwrap_or(0.0);
        let allowed = |i: usize| expect.listed[i].map_or(0.0, |x| expect.tolerance.at(x)) + bound(i);
        worst.max(Worst::of(&what, got, |i| expect.listed[i], allowed))
    })
}

/// Values that the host computed against those that the case lists.
pub fn table(name: &str, computed: &[f64], listed: &[f64], tolerance: Tolerance) -> Worst {
    if computed.len() != listed.len() {
        return Worst::missing(name, computed.len(), listed.len());
    }
    Worst::of(name, computed, |i| Some(listed[i]), |i| tolerance.at(listed[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios() {
        let inf = f64::INFINITY;
        assert_eq!(ratio(1.5, 1.0, 0.25), 2.0);
        assert_eq!(ratio(-inf, -inf, 0.1), 0.0);
        assert_eq!(ratio(inf, -inf, 0.1), inf);
        assert_eq!(ratio(f64::NAN, f64::NAN, 0.1), 0.0);
        assert_eq!(ratio(f64::NAN, 1.0, 0.1), inf);
        assert_eq!(ratio(1.0, -inf, 0.1), inf);
        assert_eq!(ratio(1.0, 2.0, 0.0), inf);
        assert_eq!(ratio(2.0, 2.0, 0.0), 0.0);
        assert_eq!(ratio(f64::NAN, 2.0, inf), 0.0);
    }

    #[test]
    fn worst_names_the_element() {
        let worst = Worst::of("x", &[1.0, 2.0, 3.5], |i| (i != 0).then_some(i as f64 + 1.0), |_| 0.25);
        assert_eq!(worst.ratio, 2.0);
        assert!(worst.wrong.unwrap().starts_with("x[2] is 3.5e0, not 3e0"));
    }
}
