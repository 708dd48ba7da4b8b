//! Rotation by several streams, xPos, rotated values, half of halves: kernels within their bounds, mutations beyond them.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, sampled};
use ropewalk::*;

/// A picture of 6 x 9 patches behind two tokens of text, positions `[3, 1, 56]`.
fn mrope(order: Sections, sections: [u32; 3]) -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 64);
    let rotary = Rotary::new(Pairing::Half, 64, 1e4).with_sections(order, sections).expect("32 pairs");
    (spec.rotary, spec.positions, spec.mask) = (Some(rotary), Positions::Ids, Mask::causal());
    let mut inputs = inputs(&spec, 1, 56, 56, 3);
    let patches = PatchPositions::grid([6, 9]).expect("a grid");
    let stream = |of: &dyn Fn(usize) -> i32| [0, 1].into_iter().chain((0..54).map(|i| 2 + of(i))).collect::<Vec<_>>();
    let ids = [stream(&|_| 0), stream(&|i| patches.rows[i]), stream(&|i| patches.columns[i])].concat();
    (inputs.q_positions, inputs.k_positions) = (Some(ids.clone()), Some(ids));
    (spec, inputs)
}

fn picture(rotary: Result<Rotary>, positions: Result<PatchPositions>) -> (Spec, Inputs) {
    let (rotary, positions) = (rotary.expect("a head of 64"), positions.expect("a grid"));
    let mut spec = Spec::new(2, 2, 64);
    (spec.rotary, spec.positions) = (Some(rotary), Positions::Ids);
    let mut inputs = inputs(&spec, 2, positions.rows.len() as u32, positions.rows.len() as u32, 4);
    (inputs.q_positions, inputs.k_positions) =
        (Some(positions.for_batch(2).unwrap()), Some(positions.for_batch(2).unwrap()));
    (spec, inputs)
}

fn xpos() -> (Spec, Inputs) {
    let mut spec = Spec::new(3, 1, 32);
    let mut rotary = Rotary::new(Pairing::Interleaved, 32, 1e4);
    rotary.xpos = Some(XPos::new(512.0, 60));
    (spec.rotary, spec.mask) = (Some(rotary), Mask::causal());
    let inputs = inputs(&spec, 2, 40, 120, 5);
    (spec, inputs)
}

fn values() -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 4, 64);
    let mut rotary = Rotary::new(Pairing::Interleaved, 64, 1e4);
    rotary.values = true;
    spec.rotary = Some(rotary);
    let inputs = inputs(&spec, 2, 40, 75, 6);
    (spec, inputs)
}

/// Positions on both sides of 0, keys on both sides of the window.
fn branches(branches: Branches) -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 64);
    let mut rotary = Rotary::new(Pairing::Half, 64, 1e4);
    rotary.branches = Some(branches);
    (spec.rotary, spec.positions, spec.mask) = (Some(rotary), Positions::Ids, Mask::causal());
    let mut inputs = inputs(&spec, 1, 56, 56, 7);
    let ids: Vec<i32> = (-26..30).collect();
    (inputs.q_positions, inputs.k_positions) = (Some(ids.clone()), Some(ids));
    (spec, inputs)
}

/// Every system, with mutations that leave its shapes alone.
type Mutation = (&'static str, fn(&mut Spec, &mut Inputs));
fn systems() -> Vec<(&'static str, (Spec, Inputs), Vec<Mutation>)> {
    fn rotary(spec: &mut Spec) -> &mut Rotary {
        spec.rotary.as_mut().expect("it rotates")
    }
    fn streams(inputs: &mut Inputs, order: &[usize]) {
        for ids in [&mut inputs.q_positions, &mut inputs.k_positions].into_iter().flatten() {
            let plane = ids.len() / order.len();
            *ids = order.iter().flat_map(|s| ids[s * plane..(s + 1) * plane].to_vec()).collect();
        }
    }
    let wrong_section: Mutation = ("one pair in the next section", |spec, _| {
        let streams = &mut rotary(spec).streams;
        let at = streams.windows(2).position(|w| w[0] == 1 && w[1] != 1).expect("height ends somewhere");
        streams[at] = 2;
    });
    let exchanged: Mutation = ("height and width exchanged", |_, inputs| streams(inputs, &[0, 2, 1]));
    let one_stream: Mutation = ("height by time", |spec, _| {
        rotary(spec).streams.iter_mut().filter(|s| **s == 1).for_each(|s| *s = 0);
    });
    let other_order: Mutation = ("sections in another order", |spec, _| {
        let plain = Rotary::new(Pairing::Half, 64, 1e4);
        let order = match rotary(spec).streams[1] {
            0 => Sections::Interleaved,
            _ => Sections::Contiguous,
        };
        rotary(spec).streams = plain.with_sections(order, [12, 10, 10]).expect("32 pairs").streams;
    });
    let rows_and_columns: Mutation = ("rows and columns exchanged", |_, inputs| streams(inputs, &[1, 0]));
    let off_by_one: Mutation = ("columns of keys off by one", |_, inputs| {
        let ids = inputs.k_positions.as_mut().expect("positions");
        let plane = ids.len() / 2;
        // the least step of EVA-02's positions is a fraction of a patch
        let step = ids[plane..].iter().copied().filter(|p| *p > 0).min().expect("columns");
        ids[plane..].iter_mut().for_each(|p| *p += step);
    });
    let mrope_mutations = vec![wrong_section, exchanged, one_stream, other_order];
    let picture_mutations = vec![rows_and_columns, off_by_one];
    vec![
        ("contiguous", mrope(Sections::Contiguous, [12, 10, 10]), mrope_mutations.clone()),
        ("interleaved", mrope(Sections::Interleaved, [12, 10, 10]), mrope_mutations.clone()),
        ("alternating", mrope(Sections::Alternating, [11, 11, 10]), mrope_mutations),
        ("pixtral", picture(Rotary::pixtral(64, 1e4), PatchPositions::grid([5, 7])), picture_mutations.clone()),
        (
            "qwen2_vl_vision",
            picture(Rotary::qwen2_vl_vision(64, 1e4), PatchPositions::merged([6, 8], 2)),
            picture_mutations.clone(),
        ),
        ("llama4_vision", picture(Rotary::llama4_vision(64, 1e4), PatchPositions::llama4([4, 6])), {
            let mut mutations = picture_mutations.clone();
            mutations.push(("the class token rotates", |_, inputs| {
                let ids = inputs.k_positions.as_mut().expect("positions");
                let last = ids.len() - 1;
                ids[last] = 1;
            }));
            mutations
        }),
        (
            "gemma4_vision",
            picture(Rotary::gemma4_vision(64, 100.0), PatchPositions::grid([4, 9])),
            [
                picture_mutations.clone(),
                vec![("half pairing of the whole head", |spec, _| {
                    rotary(spec).pairing = Pairing::Half;
                })],
            ]
            .concat(),
        ),
        (
            "dinov3",
            picture(Rotary::dinov3(64, 100.0, [4, 7]), PatchPositions::dinov3([4, 7]).and_then(|p| p.with_prefix(5))),
            picture_mutations.clone(),
        ),
        (
            "eva02",
            picture(Rotary::eva02(64, 1e4, Some([16, 16])), PatchPositions::eva02([5, 6], Some([16, 16]))),
            picture_mutations,
        ),
        (
            "xpos",
            xpos(),
            vec![
                ("sign exchanged", |spec, _| rotary(spec).xpos = Some(XPos::new(-512.0, 60))),
                ("left out", |spec, _| rotary(spec).xpos = None),
                ("another base", |spec, _| rotary(spec).xpos = Some(XPos::new(511.0, 60))),
            ],
        ),
        (
            "clipped",
            branches(Branches::Clipped { window: 9 }),
            vec![
                ("one branch", |spec, _| rotary(spec).branches = None),
                ("another window", |spec, _| rotary(spec).branches = Some(Branches::Clipped { window: 10 })),
            ],
        ),
        (
            "grouped",
            branches(Branches::Grouped { window: 9, group: 4 }),
            vec![
                ("one branch", |spec, _| rotary(spec).branches = None),
                ("another window", |spec, _| rotary(spec).branches = Some(Branches::Grouped { window: 10, group: 4 })),
                ("another group", |spec, _| rotary(spec).branches = Some(Branches::Grouped { window: 9, group: 5 })),
                ("groups that begin elsewhere", |_, inputs| {
                    for ids in [&mut inputs.q_positions, &mut inputs.k_positions].into_iter().flatten() {
                        ids.iter_mut().for_each(|id| *id += 1);
                    }
                }),
            ],
        ),
        (
            "rotated values",
            values(),
            vec![
                ("not rotated", |spec, _| rotary(spec).values = false),
                ("another pairing", |spec, _| rotary(spec).pairing = Pairing::Half),
                ("keys' positions off by one", |spec, inputs| {
                    // scores see differences alone, values see positions
                    spec.positions = Positions::Ids;
                    let ids = |from: i32, len: i32| Some((from..from + len).collect::<Vec<_>>().repeat(2));
                    (inputs.q_positions, inputs.k_positions) = (ids(36, 40), ids(1, 75));
                }),
            ],
        ),
    ]
}

#[test]
fn kernels_stay_within_bounds_and_mutations_do_not() {
    let Some(gpu) = gpus().into_iter().next() else { return };
    for (system, (spec, inputs), mutations) in sampled(3, systems()) {
        let (out, lse) = check::attention(&spec, &inputs).expect(system);
        let bounds = |got: &Output<f32>| [out.worst(&got.out), lse.worst(&got.lse)];
        for worst in bounds(&gpu.attention(&spec, &inputs).expect(system)) {
            assert_eq!((worst.failures, worst.unbounded), (0, 0), "{system}: {worst:?}");
        }
        let (q, k) = gpu.rotate(&spec, &inputs).expect(system);
        let (q_bounded, k_bounded) = check::rotate(&spec, &inputs).expect(system);
        for worst in [q_bounded.worst(&q), k_bounded.worst(&k)] {
            assert_eq!((worst.failures, worst.unbounded), (0, 0), "{system}, rotated: {worst:?}");
        }
        for (name, mutate) in mutations {
            let (mut wrong_spec, mut wrong) = (spec.clone(), inputs.clone());
            mutate(&mut wrong_spec, &mut wrong);
            assert_ne!((&wrong_spec, &wrong), (&spec, &inputs), "{system}: {name} changes nothing");
            let failures: u64 =
                bounds(&gpu.attention(&wrong_spec, &wrong).expect(name)).iter().map(|w| w.failures).sum();
            assert!(failures > 0, "{system}: {name} breaks no bound");
        }
    }
}

/// The power is the same on both sides of every whole number, at the centre, at the limit, and at the ends of i32.
#[test]
fn xpos_is_finite_everywhere() {
    for gpu in gpus() {
        let mut spec = Spec::new(1, 1, 16);
        let mut rotary = Rotary::new(Pairing::Half, 16, 1e4);
        rotary.xpos = Some(XPos::new(64.0, -5));
        (spec.rotary, spec.positions) = (Some(rotary), Positions::Ids);
        let near = (-4200..4200).step_by(7);
        let ends = [i32::MIN, i32::MIN + 1, -6, -5, -4, 0, i32::MAX - 5, i32::MAX];
        let ids: Vec<i32> = near.chain(ends).collect();
        let n = ids.len() as u32;
        let mut inputs = inputs(&spec, 1, n, n, 8);
        (inputs.q_positions, inputs.k_positions) = (Some(ids.clone()), Some(ids));
        let (q, k) = gpu.rotate(&spec, &inputs).expect("it rotates");
        assert!(q.iter().chain(&k).all(|x| x.is_finite()));
        let (q_bounded, k_bounded) = check::rotate(&spec, &inputs).expect("it is bounded");
        for worst in [q_bounded.worst(&q), k_bounded.worst(&k)] {
            assert_eq!((worst.failures, worst.unbounded), (0, 0), "{}: {worst:?}", gpu.describe());
        }
    }
}

/// Keys and values in f64: the reference takes them as they are, the bounds count what the kernel does not see.
#[test]
fn residuals_count() {
    let (spec, rounded) = values();
    let mut exact = rounded.clone();
    for t in [&mut exact.k, &mut exact.v] {
        let residual = t.data().to_f32().iter().map(|x| x * 2f32.powi(-12)).collect();
        *t = t.clone().with_residual(residual).expect("one for each");
    }
    let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (plain, meant) = (reference::attention(&spec, &rounded), reference::attention(&spec, &exact));
    assert!(difference(&plain.expect("it runs").out, &meant.expect("it runs").out) > 1e-4);
    for gpu in gpus() {
        let (out, lse) = check::attention(&spec, &exact).expect("it is bounded");
        let got = gpu.attention(&spec, &exact).expect("it runs");
        for worst in [out.worst(&got.out), lse.worst(&got.lse)] {
            assert_eq!((worst.failures, worst.unbounded), (0, 0), "{}: {worst:?}", gpu.describe());
        }
    }
    rounded.v.with_residual(vec![0.0; 3]).expect_err("too few");
}

#[test]
fn contradictions_are_refused() {
    let (spec, good) = mrope(Sections::Contiguous, [12, 10, 10]);
    let fails = |spec: &Spec, inputs: &Inputs, field: &str| {
        let error = reference::attention(spec, inputs).expect_err(field).to_string();
        assert!(error.contains(field), "{error}");
    };
    let mut index = spec.clone();
    index.positions = Positions::Index;
    fails(&index, &good, "positions");
    let shape = Shape::new(&index, 1, 56, 56);
    Plan::new(Kernel::Attention, &index, &shape, &Limits::default()).expect_err("streams have no indices");
    let mut one = good.clone();
    one.q_positions = Some(vec![0; 56]);
    fails(&spec, &one, "q_positions");
    let mut wrong = spec.clone();
    wrong.rotary.as_mut().expect("it rotates").streams[3] = 4;
    fails(&wrong, &good, "rotary.streams");
    let (mut narrow, inputs) = values();
    narrow.v_head_dim = 62;
    fails(&narrow, &inputs, "rotary.values");
    let (mut fast, inputs) = xpos();
    fast.rotary.as_mut().expect("it rotates").xpos = Some(XPos::new(1.5, 0));
    fails(&fast, &inputs, "rotary.xpos.scale_base");
    let mut odd = Spec::new(1, 1, 64);
    odd.rotary = Some(Rotary::new(Pairing::HalfOfHalves, 30, 1e4));
    odd.validate().expect_err("30 is no multiple of 4");
}
