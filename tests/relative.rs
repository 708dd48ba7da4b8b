//! A, B, E_V, u and v: each mutation of them breaks a bound, and none of them stores a score matrix.
//!
//! A mutation is made in the arguments: the GPU computes the mutated problem, the check compares it with the right one.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, noise, sampled};
use ropewalk::*;
use std::collections::BTreeMap;

const Q_LEN: u32 = 13;
const KV_LEN: u32 = 70;

fn term(side: RelativeSide, index: IndexMap, per_head: bool) -> Relative {
    let mut term = Relative::new(side, index);
    term.per_head = per_head;
    term
}

/// Every parameter that the spec asks for, a table of each name always the same.
fn fill(spec: &Spec, inputs: &mut Inputs) {
    inputs.parameters = parameters(spec);
}
fn parameters(spec: &Spec) -> BTreeMap<String, Vec<f32>> {
    let seed = |name: &str| name.bytes().map(u64::from).sum();
    spec.parameters().into_iter().map(|p| (p.name.clone(), noise(p.len() as usize, seed(&p.name)))).collect()
}

fn shaw(side: RelativeSide) -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 32);
    spec.relative = vec![term(side, IndexMap::distance(-6, 6), false)];
    with(spec)
}
/// BERT's form spans every distance of the call, so that no row is clipped.
fn wide(side: RelativeSide) -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 32);
    spec.relative = vec![term(side, IndexMap::reversed(-80, 80), false)];
    with(spec)
}
fn deberta() -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 4, 32);
    let map = IndexMap::LogBucket { buckets: 8, max_position: 40 };
    spec.relative = vec![term(RelativeSide::Key, map, true), term(RelativeSide::Query, map, true)];
    spec.softmax_scale = Some(1.0 / (3.0f64 * 32.0).sqrt());
    with(spec)
}
fn xlnet() -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 4, 32);
    let map = IndexMap::distance(-(KV_LEN as i32), Q_LEN as i32 - 1);
    spec.relative = vec![term(RelativeSide::Key, map, true), term(RelativeSide::Key, IndexMap::Segment, true)];
    spec.relative.iter_mut().for_each(|r| r.query_bias = true);
    spec.content_bias = true;
    let (spec, mut inputs) = with(spec);
    inputs.q_segments = Some((0..Q_LEN as i32).map(|i| i / 5).collect());
    inputs.k_segments = Some((0..KV_LEN as i32).map(|j| j % 7 / 3).collect());
    (spec, inputs)
}
fn decomposed() -> (Spec, Inputs) {
    let mut spec = Spec::new(2, 2, 32);
    let map = |stream, n| IndexMap::Distance { min: 1 - n, max: n - 1, outside: Outside::Clip, stream, reversed: true };
    spec.relative = vec![term(RelativeSide::Key, map(0, 7), false), term(RelativeSide::Key, map(1, 10), false)];
    spec.relative.iter_mut().for_each(|r| r.scale = Some(1.0));
    spec.positions = Positions::Ids;
    let mut inputs = inputs(&spec, 1, KV_LEN, KV_LEN, 3);
    fill(&spec, &mut inputs);
    let ids: Vec<i32> = (0..70).map(|i| i / 10).chain((0..70).map(|i| i % 10)).collect();
    (inputs.q_positions, inputs.k_positions) = (Some(ids.clone()), Some(ids));
    (spec, inputs)
}
fn with(spec: Spec) -> (Spec, Inputs) {
    let mut inputs = inputs(&spec, 1, Q_LEN, KV_LEN, 3);
    fill(&spec, &mut inputs);
    (spec, inputs)
}

fn swap(inputs: &mut Inputs, a: &str, b: &str) {
    let (x, y) = (inputs.parameters[a].clone(), inputs.parameters[b].clone());
    inputs.parameters.insert(a.into(), y);
    inputs.parameters.insert(b.into(), x);
}
fn map_of(spec: &mut Spec, change: impl Fn(&mut i32, &mut i32, &mut bool, &mut Outside)) {
    if let IndexMap::Distance { min, max, reversed, outside, .. } = &mut spec.relative[0].index {
        change(min, max, reversed, outside);
    }
}

type Case = (&'static str, fn() -> (Spec, Inputs), fn(&mut Spec, &mut Inputs));

const MUTATIONS: [Case; 21] = [
    ("A: sign of the index", || shaw(RelativeSide::Key), |s, _| map_of(s, |_, _, reversed, _| *reversed = true)),
    ("B: sign of the index", || wide(RelativeSide::Query), |s, _| map_of(s, |_, _, reversed, _| *reversed = false)),
    ("E_V: sign of the index", || shaw(RelativeSide::Value), |s, _| map_of(s, |_, _, reversed, _| *reversed = true)),
    (
        "A: clip off by one",
        || shaw(RelativeSide::Key),
        |s, _| map_of(s, |min, max, _, _| (*min, *max) = (*min - 1, *max - 1)),
    ),
    (
        "E_V: clip off by one",
        || shaw(RelativeSide::Value),
        |s, _| map_of(s, |min, max, _, _| (*min, *max) = (*min + 1, *max + 1)),
    ),
    (
        "A: zero outside instead of clipped",
        || shaw(RelativeSide::Key),
        |s, _| map_of(s, |_, _, _, outside| *outside = Outside::Zero),
    ),
    (
        "E_V: zero outside instead of clipped",
        || shaw(RelativeSide::Value),
        |s, _| map_of(s, |_, _, _, outside| *outside = Outside::Zero),
    ),
    ("A instead of B", || wide(RelativeSide::Query), |s, _| s.relative[0].side = RelativeSide::Key),
    (
        "E_V left out",
        || shaw(RelativeSide::Value),
        |s, i| {
            s.relative.clear();
            i.parameters.clear();
        },
    ),
    ("scale of A left out", || shaw(RelativeSide::Key), |s, _| s.relative[0].scale = Some(1.0)),
    ("c2p and p2c exchanged", deberta, |_, i| swap(i, "relative_0", "relative_1")),
    ("c2p of the next head", deberta, |_, i| {
        i.parameters.entry("relative_0".into()).and_modify(|t| t.rotate_left(32));
    }),
    ("log buckets left out", deberta, |s, _| s.relative[0].index = IndexMap::reversed(-8, 7)),
    ("max_position of the buckets", deberta, |s, _| {
        s.relative[1].index = IndexMap::LogBucket { buckets: 8, max_position: 60 };
    }),
    ("u and v exchanged", xlnet, |_, i| swap(i, "content_bias", "relative_bias_0")),
    ("v of the segments and of the distances exchanged", xlnet, |_, i| swap(i, "relative_bias_0", "relative_bias_1")),
    ("u left out", xlnet, |s, i| {
        s.content_bias = false;
        i.parameters.remove("content_bias");
    }),
    ("row origin of Transformer-XL for XLNet", xlnet, |s, _| {
        map_of(s, |min, max, _, _| (*min, *max) = (*min + 1, *max + 1))
    }),
    ("segment of one key", xlnet, |_, i| i.k_segments.as_mut().unwrap()[KV_LEN as usize / 2] += 1),
    ("rows and columns exchanged", decomposed, |_, i| {
        i.q_positions.as_mut().unwrap().rotate_left(KV_LEN as usize);
        i.k_positions.as_mut().unwrap().rotate_left(KV_LEN as usize);
    }),
    ("scale of a decomposed term", decomposed, |s, _| s.relative[1].scale = None),
];

#[test]
fn every_mutation_breaks_a_bound() {
    let Some(gpu) = gpus().into_iter().next() else { return };
    for (name, right, mutate) in sampled(3, MUTATIONS) {
        let (spec, inputs) = right();
        let (out, lse) = check::attention(&spec, &inputs).unwrap();
        let failures = |spec: &Spec, inputs: &Inputs| {
            let got = gpu.attention(spec, inputs).unwrap();
            out.worst(&got.out).failures + lse.worst(&got.lse).failures
        };
        assert_eq!(failures(&spec, &inputs), 0, "{name}: the right problem");
        let (mut wrong_spec, mut wrong) = (spec.clone(), inputs.clone());
        mutate(&mut wrong_spec, &mut wrong);
        let broken = failures(&wrong_spec, &wrong);
        assert!(broken > 0, "{name}: {broken} elements above their bound");
    }
}

/// Products of every kind made beforehand: of queries with and without v, of keys for each query head of a kv head and for all.
fn gathered() -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 32);
    spec.relative = vec![
        term(RelativeSide::Key, IndexMap::distance(-6, 6), false),
        term(RelativeSide::Query, IndexMap::reversed(-9, 4), true),
        term(RelativeSide::Key, IndexMap::LogBucket { buckets: 8, max_position: 40 }, true),
        term(RelativeSide::Query, IndexMap::distance(-5, 8), false),
    ];
    spec.relative[2].query_bias = true;
    let mut inputs = inputs(&spec, 2, 75, 150, 5);
    fill(&spec, &mut inputs);
    (spec, inputs)
}

/// Keys, rows, heads and sequences cut over dispatches give the bits of an uncut run, which are within their bounds: relative rows
/// that are read in place, and products that are made beforehand for a part of the grid.
#[test]
fn rows_do_not_depend_on_the_cut() {
    for gpu in gpus() {
        for ((spec, inputs), beforehand) in [(xlnet(), true), (wide(RelativeSide::Query), false), (gathered(), true)] {
            let problem = Problem::new(&spec, &inputs).unwrap();
            let mut limits = *gpu.limits();
            limits.max_flop_per_dispatch = 1.0;
            let plan = |limits| Plan::for_problem(Kernel::Attention, &problem, limits).unwrap();
            let (one, several) = (plan(gpu.limits()), plan(&limits));
            assert_eq!([&one, &several].map(|p| p.label().ends_with(".gathered")), [beforehand; 2]);
            let mains = |plan: &Plan| plan.chunks().iter().filter(|c| c.entry == "main").count();
            let tiles = (inputs.q.shape()[1] * spec.group()).div_ceil(64) * spec.num_kv_heads * inputs.q.shape()[0];
            let cuts = inputs.k.shape()[1].div_ceil(one.tile()[1]);
            assert_eq!((mains(&one), mains(&several)), (1, (tiles * cuts) as usize));

            let whole = gpu.attention(&spec, &inputs).unwrap();
            let (out, lse) = check::attention(&spec, &inputs).unwrap();
            assert_eq!(out.worst(&whole.out).failures + lse.worst(&whole.lse).failures, 0, "{}", one.label());
            let scores = check::scores(&spec, &inputs).unwrap().worst(&gpu.scores(&spec, &inputs).unwrap());
            assert_eq!(scores.failures, 0, "{}", one.label());
            let cut = gpu.with_limits(limits).attention(&spec, &inputs).unwrap();
            assert_eq!((whole.out, whole.lse), (cut.out, cut.lse), "{}", gpu.describe());
        }
    }
}

/// What a plan allocates beyond inputs and outputs at 4 096 x 4 096, where one head's matrix alone would take 64 MiB.
#[test]
fn no_term_stores_a_matrix() {
    let n = 4096;
    let far = n as i32 - 1;
    let xlnet = |spec: &mut Spec| {
        let map = IndexMap::distance(-(n as i32), far);
        spec.relative = vec![term(RelativeSide::Key, map, true), term(RelativeSide::Key, IndexMap::Segment, true)];
        spec.relative.iter_mut().for_each(|r| r.query_bias = true);
        spec.content_bias = true;
    };
    let deberta = |spec: &mut Spec| {
        let map = IndexMap::LogBucket { buckets: 256, max_position: 512 };
        spec.relative = vec![term(RelativeSide::Key, map, true), term(RelativeSide::Query, map, true)];
    };
    let shaw = |spec: &mut Spec| {
        let map = IndexMap::distance(-16, 16);
        spec.relative = vec![term(RelativeSide::Key, map, false), term(RelativeSide::Value, map, false)];
    };
    let bert = |spec: &mut Spec| {
        let map = IndexMap::reversed(-far, far);
        spec.relative = vec![term(RelativeSide::Key, map, false), term(RelativeSide::Query, map, false)];
    };
    type Make<'a> = (&'a str, &'a dyn Fn(&mut Spec));
    let systems: [Make; 4] = [("Shaw", &shaw), ("BERT", &bert), ("DeBERTa", &deberta), ("XLNet", &xlnet)];
    for (name, make) in systems {
        let mut spec = Spec::new(12, 12, 64);
        make(&mut spec);
        for limits in [Limits::default(), Limits::default().for_cpu()] {
            let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, n, n), &limits).unwrap();
            let lse = 4 * 12 * n as u64;
            let uniforms = [Slot::Params, Slot::Chunk, Slot::Rotary, Slot::Heads];
            let uniforms: u64 = uniforms.iter().filter_map(|s| plan.binding(*s)).map(|b| b.size).sum();
            let beyond = plan.workspace_size() - lse + uniforms;
            println!(
                "{name}: {:.2} MiB beyond inputs and outputs, {} dispatches",
                beyond as f64 / 1048576.0,
                plan.chunks().len()
            );
            assert!(beyond <= 32 << 20, "{name}: {beyond} bytes");
        }
    }
}

/// Rows of every kind of map as devices read them: the bias is the number of the row, and there is no other score.
#[test]
fn devices_read_the_row_of_the_map_at_every_distance() {
    let distance = |min, max, outside, reversed| IndexMap::Distance { min, max, outside, stream: 0, reversed };
    let log = |buckets, max_position| IndexMap::LogBucket { buckets, max_position };
    let maps = [
        distance(-3, 5, Outside::Clip, false),
        distance(-3, 5, Outside::Zero, true),
        distance(i32::MIN, i32::MIN + 9, Outside::Zero, false),
        distance(i32::MAX - 9, i32::MAX, Outside::Clip, true),
        log(8, 7),
        log(3, 4),
        log(5, 10),
        log(7, 40),
        log(21, 36),
        log(255, 512),
        log(256, 512),
        log(5, 1 << 20),
        IndexMap::Grid { height: 3, width: 4, class: true },
        IndexMap::Grid { height: 2, width: 1, class: false },
    ];
    // of both sides distances near 0, near the ends of tables, and as far as positions go
    let near = |d: i32| [d - 1, d, d + 1];
    let ends = [6, 10, 36, 40, 140, 511, 513, 517, 9000, 1 << 20, i32::MAX - 9, i32::MAX - 1];
    let keys: Vec<i32> = (0..60).chain(ends.into_iter().flat_map(near)).flat_map(|d| [d, -d]).collect();
    let queries = [0, 1, -7, i32::MAX, i32::MIN];
    for gpu in gpus() {
        for index in maps {
            let mut spec = Spec::new(1, 1, 4);
            (spec.bias, spec.positions) = (vec![Bias::Indexed { index }], Positions::Ids);
            let streams = spec.position_streams() as usize;
            let zeros = |n: usize| Tensor::bshd(vec![0f32; 4 * n], [1, n as u32, 1, 4]).unwrap();
            let mut inputs = Inputs::new(zeros(queries.len()), zeros(keys.len()), zeros(keys.len()));
            // other streams hold the same distances in another order
            let of = |ids: &[i32]| {
                (0..streams)
                    .flat_map(|s| ids.iter().cycle().skip(s).take(ids.len()).copied().collect::<Vec<_>>())
                    .collect()
            };
            (inputs.q_positions, inputs.k_positions) = (Some(of(&queries)), Some(of(&keys)));
            let rows = (0..index.rows()).map(|row| row as f32 + 1.0).collect();
            inputs.parameters.insert("bias_table".into(), rows);
            let want = reference::scores(&spec, &inputs).unwrap();
            let got = gpu.scores(&spec, &inputs).unwrap();
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                let (m, n) = (queries[at / keys.len()], keys[at % keys.len()]);
                assert_eq!(*got as f64, *want, "{}: {index:?}, query at {m}, key at {n}", gpu.describe());
            }
        }
    }
}
