//! The reference against a second computation of the equation, over random specs and shapes: see tests/twin/mod.rs.

#[path = "twin/mod.rs"]
mod twin;

use ropewalk::{Alignment, Angle, Bias, FeatureMap, IndexMap, Normalizer, Pairing, RelativeSide, Rotary, Spec};
use twin::compare;
use twin::draw::{BLOCK, Computed, case};

/// The seeds of the cases here: one or two of each spec.
fn seeds() -> impl Iterator<Item = u64> {
    (0..400).map(|n| 11_000 + n * BLOCK / 2)
}

#[test]
fn the_reference_is_its_twin() {
    let (mut compared, mut worst) = (0, 0.0f64);
    for seed in seeds() {
        let found = compare::case(&case(seed)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert!(found.wrong.is_empty(), "seed {seed}: {}", found.wrong.join("\n"));
        compared += found.compared;
        worst = worst.max(found.worst);
    }
    assert!(compared > 100_000, "{compared} numbers");
    println!("{compared} numbers, the worst at {worst:.3} of what is allowed");
}

/// What is changed in the twin's spec alone, and whether there was something to change.
type Mutation = (&'static str, fn(&mut Spec) -> bool);

fn rotary(spec: &mut Spec, change: impl FnOnce(&mut Rotary) -> bool) -> bool {
    spec.rotary.as_mut().is_some_and(change)
}

const MUTATIONS: [Mutation; 32] = [
    ("a pairing", |s| {
        rotary(s, |r| r.rotary_dim > 2 && std::mem::replace(&mut r.pairing, Pairing::Half) == Pairing::Interleaved)
    }),
    ("an offset", |s| rotary(s, |r| std::mem::take(&mut r.offset) > 0)),
    ("the attention factor", |s| rotary(s, |r| std::mem::replace(&mut r.attention_factor, 1.0) != 1.0)),
    ("float32 angles", |s| rotary(s, |r| std::mem::replace(&mut r.angle, Angle::Exact) == Angle::Float32)),
    ("streams", |s| rotary(s, |r| !std::mem::take(&mut r.streams).is_empty())),
    ("xPos", |s| rotary(s, |r| r.xpos.take().is_some())),
    ("the centre of xPos", |s| rotary(s, |r| r.xpos.as_mut().is_some_and(|x| std::mem::take(&mut x.centre) != 0))),
    ("rotated values", |s| rotary(s, |r| std::mem::take(&mut r.values))),
    ("rotated keys", |s| rotary(s, |r| std::mem::take(&mut r.keys_rotated))),
    ("alignment", |s| std::mem::take(&mut s.mask.alignment) == Alignment::TopLeft),
    ("a causal mask", |s| std::mem::take(&mut s.mask.causal)),
    ("a window by one key", |s| {
        s.mask.window_left.as_mut().is_some_and(|w| {
            *w < 5 && {
                *w += 1;
                true
            }
        })
    }),
    ("a chunk", |s| s.mask.chunk.take().is_some()),
    ("the cap", |s| s.logits_soft_cap.take().is_some()),
    ("the scale", |s| s.softmax_scale.take().is_some()),
    ("a norm's side of the rotation", |s| {
        s.rotary.is_some()
            && s.norm.as_mut().is_some_and(|n| {
                n.weights && {
                    n.after_rotation = !n.after_rotation;
                    true
                }
            })
    }),
    ("a norm's weights", |s| s.norm.as_mut().is_some_and(|n| std::mem::take(&mut n.weights))),
    ("the temperature", |s| s.temperature.take().is_some()),
    ("head_scale", |s| std::mem::take(&mut s.head_scale)),
    ("the content bias", |s| std::mem::take(&mut s.content_bias)),
    ("the sink", |s| s.sink.take().is_some()),
    ("T5's sides", |s| {
        s.bias.iter_mut().any(|b| match b {
            Bias::T5 { bidirectional: sides @ true, .. } => std::mem::take(sides),
            _ => false,
        })
    }),
    ("a bias", |s| s.bias.len() == 1 && s.bias.pop().is_some()),
    ("branches", |s| s.rotary.as_mut().is_some_and(|r| r.branches.take().is_some())),
    ("a reversed distance", |s| {
        s.relative.iter_mut().any(|r| match &mut r.index {
            IndexMap::Distance { reversed: reversed @ true, .. } => std::mem::take(reversed),
            _ => false,
        })
    }),
    ("a relative table", |s| s.relative.pop().is_some()),
    ("the scale of a table", |s| {
        s.relative.iter_mut().any(|r| r.side != RelativeSide::Value && r.scale.take().is_some())
    }),
    ("a query's bias", |s| s.relative.iter_mut().any(|r| std::mem::take(&mut r.query_bias))),
    ("a normalizer's eps", |s| {
        s.linear.as_mut().and_then(|l| l.normalizer.as_mut()).is_some_and(|n| {
            let was = n.eps;
            *n = Normalizer::new(0.0, n.eps_feature);
            was == 0.5
        })
    }),
    ("the delta rule", |s| s.linear.as_mut().is_some_and(|l| std::mem::take(&mut l.delta))),
    ("a decay", |s| s.linear.as_mut().is_some_and(|l| l.decay.take().is_some())),
    ("a feature map", |s| {
        s.linear.as_mut().is_some_and(|l| std::mem::replace(&mut l.features, FeatureMap::Identity) == FeatureMap::Elu)
    }),
];

#[test]
fn a_changed_term_is_noticed() {
    let mut noticed = [0; MUTATIONS.len()];
    for seed in seeds().chain((0..4_000).map(|n| 50_000 + n * BLOCK)) {
        if noticed.iter().all(|n| *n > 0) {
            break;
        }
        let Computed::Attention { spec, inputs, .. } = case(seed).computed else { continue };
        for ((_, change), noticed) in MUTATIONS.iter().zip(&mut noticed) {
            let mut changed = (*spec).clone();
            if *noticed == 0 && change(&mut changed) {
                let found = compare::computed(&spec, &inputs, &changed).expect("a drawn case");
                *noticed += usize::from(!found.wrong.is_empty());
            }
        }
    }
    let missed: Vec<_> = MUTATIONS.iter().zip(noticed).filter(|(_, n)| *n == 0).map(|((name, _), _)| name).collect();
    assert!(missed.is_empty(), "nobody notices a change of {missed:?}");
}

/// The angles' own reduction, where it is hardest: whole turns and far positions.
#[test]
fn the_twin_reduces_angles() {
    use dashu_float::{FBig, round::mode::HalfEven};
    type Big = FBig<HalfEven, 2>;
    let big = |x: f64| Big::try_from(x).expect("finite").with_precision(384).value();
    let two_pi = Big::pi(384) * Big::from(2);
    for f in [1.0, 65_536.0, std::f64::consts::TAU, std::f64::consts::PI, 0.1, 1e-9, -3.7, 65_535.999] {
        for m in [0, 1, -1, 3, 22, 355, 104_348, 1 << 20, i32::MAX, i32::MIN, i32::MAX - 12_345] {
            let turns = big(m as f64) * big(f) / &two_pi;
            let left = (turns.clone() - turns.round()).to_f64().value() * std::f64::consts::TAU;
            let [cos, sin] = twin::angle::cos_sin(m as f64, f);
            assert!((cos - left.cos()).abs() < 2e-15 && (sin - left.sin()).abs() < 2e-15, "{m} times {f}");
        }
    }
}
