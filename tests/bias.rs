//! C beyond tables over one distance: windows, segments of shifted windows, gates, KERPLE. What the host makes of them, what they
//! refuse, and that every wrong index or number breaks a bound.

#![cfg(feature = "wgpu")]

use crate::common;
use common::{inputs, noise};
use ropewalk::*;

const WINDOW: [u32; 2] = [3, 5];

/// A spec over the tokens of `WINDOW`, with its bias and q, k, v; parameters are noise.
fn window(bias: &[Bias], class: bool, batch: u32) -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 8);
    (spec.bias, spec.positions) = (bias.to_vec(), Positions::Ids);
    let tokens = WINDOW[0] * WINDOW[1] + class as u32;
    let mut inputs = inputs(&spec, batch, tokens, tokens, 3);
    let positions = grid_positions(WINDOW[0], WINDOW[1], class, batch).unwrap();
    (inputs.q_positions, inputs.k_positions) = (Some(positions.clone()), Some(positions));
    for (i, p) in spec.parameters().into_iter().enumerate() {
        inputs.parameters.insert(p.name.clone(), noise(p.len() as usize, 50 + i as u64));
    }
    (spec, inputs)
}

fn grid(class: bool) -> Bias {
    Bias::Indexed { index: IndexMap::Grid { height: WINDOW[0], width: WINDOW[1], class } }
}

fn cpb(pretrained: Option<[u32; 2]>) -> Bias {
    serde_json::from_value(serde_json::json!({ "log_cpb": {
        "height": WINDOW[0], "width": WINDOW[1], "pretrained": pretrained, "hidden": 6
    }}))
    .unwrap()
}

fn kerple(kind: &str) -> Bias {
    serde_json::from_value(serde_json::json!({ "kerple": { "kind": kind } })).unwrap()
}

const SEGMENT: Bias = Bias::Indexed { index: IndexMap::Segment };

/// A shifted window of Swin: segments, a table of 0 and -1 (-100 would leave nothing of other segments to see).
fn shifted() -> (Spec, Inputs) {
    let segments = swin_segments([6, 10], WINDOW, [1, 2]).unwrap();
    let (spec, mut inputs) = window(&[grid(false), SEGMENT], false, 4);
    inputs.parameters.insert("bias_table_1".into(), [[0.0f32; 4], [-1.0; 4]].concat());
    (inputs.q_segments, inputs.k_segments) = (Some(segments.clone()), Some(segments));
    (spec, inputs)
}

fn gated() -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 8);
    spec.bias = vec![Bias::T5 { num_buckets: 8, max_distance: 20, bidirectional: true }];
    (spec.gated_bias, spec.dense_bias) = (true, true);
    let mut inputs = inputs(&spec, 2, 9, 30, 4);
    inputs.parameters.insert("bias_table".into(), noise(8 * 4, 5));
    inputs.attn_bias = Some(Dense::new([1, 4, 1, 30], noise(4 * 30, 6)).unwrap());
    inputs.gates = Some(noise(2 * 4 * 9, 7).into_iter().map(|x| 1.5 + x as f64).collect());
    (spec, inputs)
}

fn distances(kind: &str, q_len: u32, kv_len: u32) -> (Spec, Inputs) {
    let mut spec = Spec::new(4, 2, 8);
    spec.bias = vec![kerple(kind)];
    let mut inputs = inputs(&spec, 1, q_len, kv_len, 8);
    inputs.parameters.insert("kerple_p".into(), vec![0.7, 1.3, 0.4, 1.1]);
    inputs.parameters.insert("kerple_a".into(), vec![0.3, 0.05, 1.9, 0.02]);
    (spec, inputs)
}

#[test]
fn swin_segments_are_neighbourhoods() {
    for (grid, window, shift) in [
        ([8, 8], [4, 4], [2, 2]),
        ([6, 10], [3, 5], [1, 2]),
        ([4, 4], [4, 4], [1, 3]),
        ([6, 4], [2, 4], [0, 1]),
        ([4, 6], [2, 2], [0, 0]),
    ] {
        let segments = swin_segments(grid, window, shift).unwrap();
        assert_eq!(segments.len() as u32, grid[0] * grid[1]);
        let tokens: Vec<[u32; 2]> = (0..window[0]).flat_map(|y| (0..window[1]).map(move |x| [y, x])).collect();
        let columns = grid[1] / window[1];
        for (w, segments) in segments.chunks(tokens.len()).enumerate() {
            let corner = [w as u32 / columns * window[0], w as u32 % columns * window[1]];
            // where a token stood before the image was rolled by -shift
            let before = |t: [u32; 2], axis: usize| ((corner[axis] + t[axis] + shift[axis]) % grid[axis]) as i64;
            for (a, token_a) in tokens.iter().enumerate() {
                for (b, token_b) in tokens.iter().enumerate() {
                    let apart = |axis: usize| before(*token_a, axis) - before(*token_b, axis);
                    let stayed = (0..2).all(|axis| apart(axis) == token_a[axis] as i64 - token_b[axis] as i64);
                    assert_eq!(segments[a] == segments[b], stayed, "{grid:?} {window:?} {shift:?}: {a} {b}");
                }
            }
        }
    }
    for (grid, window, shift, field) in
        [([8, 7], [4, 4], [2, 2], "grid"), ([8, 8], [0, 4], [0, 0], "grid"), ([8, 8], [4, 4], [0, 4], "shift")]
    {
        assert!(swin_segments(grid, window, shift).unwrap_err().to_string().contains(field));
    }
}

#[test]
fn offsets_of_swin_v2() {
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-14, "{a} {b}");
    let offsets = log_cpb_offsets(3, 5, None);
    assert_eq!(offsets.len(), 5 * 9);
    assert_eq!(offsets[2 * 9 + 4], [0.0, 0.0]);
    let [y, x] = offsets[9]; // one row up, four columns left: 8 / 2 and 8 * 4 / 4
    close(y, -(5f64.log2() / 3.0));
    close(x, -(9f64.log2() / 3.0));
    let [y, x] = log_cpb_offsets(3, 5, Some([5, 9]))[9 + 8]; // 8 / 4 up, 8 * 4 / 8 right
    close(y, -(3f64.log2() / 3.0));
    close(x, 5f64.log2() / 3.0);
    assert_eq!(log_cpb_offsets(1, 1, None), [[0.0, 0.0]]);
}

#[test]
fn kerple_is_clamped_and_two_sided() {
    for (kind, value) in [
        ("log", (|p, a, d| -p * (1.0 + a * d).ln()) as fn(f64, f64, f64) -> f64),
        ("power", |p, a, d| -a * d.powf(p.min(2.0))),
    ] {
        let (mut spec, mut inputs) = distances(kind, 4, 9);
        spec.softmax_scale = Some(0.0);
        let (p, a) = (vec![-0.5, 0.25, 2.5, 1.5], vec![0.125, 0.0, -3.0, 0.5]);
        inputs.parameters.insert("kerple_p".into(), p.clone());
        inputs.parameters.insert("kerple_a".into(), a.clone());
        let scores = reference::scores(&spec, &inputs).unwrap();
        for (at, got) in scores.iter().enumerate() {
            let (h, i, j) = (at / 36, at / 9 % 4, at % 9);
            let d = (i as f64 + 5.0 - j as f64).abs();
            let want = value((p[h] as f64).max(0.01), (a[h] as f64).max(0.01), d);
            assert!((got - want).abs() <= 1e-14 * want.abs(), "{kind} {h} {i} {j}: {got} {want}");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let refused = |(spec, inputs): (Spec, Inputs), words: [&str; 2]| {
        let error = reference::attention(&spec, &inputs).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    };
    let of = |(mut spec, mut inputs): (Spec, Inputs), change: fn(&mut Spec, &mut Inputs)| {
        change(&mut spec, &mut inputs);
        (spec, inputs)
    };
    refused(of(gated(), |_, i| i.gates = None), ["gates", "is missing"]);
    refused(of(gated(), |_, i| i.gates = Some(vec![1.0; 71])), ["gates", "71 values"]);
    refused(of(gated(), |s, _| s.gated_bias = false), ["gates", "does not use it"]);
    refused(of(gated(), |s, i| (s.bias, i.parameters) = Default::default()), ["gated_bias", "without a bias"]);
    refused(of(shifted(), |_, i| i.q_segments = None), ["q_segments", "is missing"]);
    refused(of(shifted(), |s, _| s.positions = Positions::Index), ["positions", "2 streams"]);
    refused(window(&[cpb(Some([12, 1]))], false, 1), ["log_cpb.pretrained", "[12, 1]"]);
    refused(of(window(&[cpb(None)], false, 1), |_, i| drop(i.parameters.remove("cpb_b1"))), ["cpb_b1", "is missing"]);
    refused(
        of(distances("log", 3, 3), |_, i| i.parameters.get_mut("kerple_p").unwrap()[1] = f32::NAN),
        ["kerple_p", "NaN"],
    );
    refused(
        of(distances("log", 3, 3), |s, _| {
            s.bias = vec![serde_json::from_str(r#"{"kerple": {"kind": "log", "eps": 0}}"#).unwrap()]
        }),
        ["kerple.eps", "is 0"],
    );
    let spec = Spec::new(1, 1, 4).to_json().replace("\"gated_bias\": false,", "");
    assert!(!Spec::from_json(&spec).unwrap().gated_bias);
}

/// With the GPU: bounds, mutations, parts.
#[cfg(feature = "wgpu")]
mod device {
    use super::*;
    use common::gpus;

    type Problem = (Spec, Inputs);
    type Mutation = fn(&mut Spec, &mut Inputs);

    /// A table `[rows, heads]` with rows put elsewhere.
    fn rows(inputs: &mut Inputs, name: &str, from: impl Fn(usize) -> usize) {
        let table = inputs.parameters.get_mut(name).unwrap();
        let old = table.clone();
        for row in 0..old.len() / 4 {
            table[row * 4..row * 4 + 4].copy_from_slice(&old[from(row) * 4..from(row) * 4 + 4]);
        }
    }

    #[test]
    fn every_mutation_breaks_a_bound() {
        let plane = 5 * 9;
        let mutations: Vec<(&str, Problem, Mutation)> = vec![
            ("row and column exchanged", window(&[grid(false)], false, 1), |_, inputs| {
                let both = inputs.q_positions.clone().unwrap();
                let (y, x) = both.split_at(both.len() / 2);
                let swapped = [x, y].concat();
                (inputs.q_positions, inputs.k_positions) = (Some(swapped.clone()), Some(swapped));
            }),
            ("query and key exchanged", window(&[grid(false)], false, 1), |_, inputs| {
                rows(inputs, "bias_table", |row| 5 * 9 - 1 - row);
            }),
            ("width and height exchanged", window(&[grid(false)], false, 1), |spec, _| {
                spec.bias = vec![Bias::Indexed { index: IndexMap::Grid { height: 5, width: 3, class: false } }];
            }),
            ("class rows exchanged", window(&[grid(true)], true, 1), |_, inputs| {
                rows(inputs, "bias_table", |row| if row == 45 || row == 46 { 91 - row } else { row });
            }),
            ("class token inside the grid", window(&[grid(true)], true, 1), |_, inputs| {
                let inside =
                    |ids: &mut Option<Vec<i32>>| ids.as_mut().unwrap().iter_mut().for_each(|p| *p = (*p).max(0));
                inside(&mut inputs.q_positions);
                inside(&mut inputs.k_positions);
            }),
            ("segment ignored", shifted(), |_, inputs| {
                inputs.k_segments = inputs.q_segments.as_ref().map(|s| vec![0; s.len()])
            }),
            ("segments of the next window", shifted(), |_, inputs| {
                inputs.q_segments.as_mut().unwrap().rotate_left(15);
                inputs.k_segments = inputs.q_segments.clone();
            }),
            ("mask once instead of twice", shifted(), |_, inputs| {
                inputs.parameters.get_mut("bias_table_1").unwrap().iter_mut().for_each(|x| *x *= 0.5);
            }),
            ("pretrained window left out", window(&[cpb(Some([7, 9]))], false, 1), |spec, _| {
                spec.bias = vec![cpb(None)]
            }),
            ("bias of the hidden layer left out", window(&[cpb(None)], false, 1), |_, inputs| {
                inputs.parameters.get_mut("cpb_b1").unwrap().fill(0.0);
            }),
            ("gate of another row", gated(), |_, inputs| inputs.gates.as_mut().unwrap().rotate_left(1)),
            ("gate of another head", gated(), |_, inputs| inputs.gates.as_mut().unwrap().rotate_left(9)),
            ("gate left out", gated(), |_, inputs| inputs.gates.as_mut().unwrap().fill(1.0)),
            ("gate on the dense bias too", gated(), |_, inputs| {
                let gate = inputs.gates.clone().unwrap();
                let dense = inputs.attn_bias.clone().unwrap();
                let at = (0..2u32).flat_map(|b| (0..4u32).flat_map(move |h| (0..9u32).map(move |i| [b, h, i])));
                let row = |[b, h, i]: [u32; 3]| {
                    let g = gate[((b * 4 + h) * 9 + i) as usize] as f32;
                    (0..30u32).map(|j| g * dense.get([b, h, i, j])).collect::<Vec<_>>()
                };
                inputs.attn_bias = Some(Dense::new([2, 4, 9, 30], at.flat_map(row).collect()).unwrap());
            }),
            ("a and p exchanged (log)", distances("log", 20, 40), |_, inputs| exchange(inputs)),
            ("a and p exchanged (power)", distances("power", 20, 40), |_, inputs| exchange(inputs)),
            ("one kernel for the other", distances("log", 20, 40), |spec, _| spec.bias = vec![kerple("power")]),
            ("p of the next head", distances("power", 20, 40), |_, inputs| {
                inputs.parameters.get_mut("kerple_p").unwrap().rotate_left(1);
            }),
            ("distance off by one", distances("log", 20, 40), |spec, inputs| {
                spec.positions = Positions::Ids;
                (inputs.q_positions, inputs.k_positions) = (Some((21..41).collect()), Some((0..40).collect()));
            }),
            ("the distance itself, not on the query's scale", fire(20, 40), |_, inputs| {
                inputs.parameters.insert("fire_l".into(), vec![1e9]);
            }),
            ("no least scale", fire(20, 40), |_, inputs| drop(inputs.parameters.insert("fire_l".into(), vec![0.0]))),
            ("another c", fire(20, 40), |_, inputs| drop(inputs.parameters.insert("fire_c".into(), vec![0.1001]))),
            ("eps left out", fire(20, 40), |spec, _| spec.bias = vec![Bias::Fire { hidden: 24, eps: 1e-6 }]),
            ("w2 of the next head", fire(20, 40), |_, inputs| {
                inputs.parameters.get_mut("fire_w2").unwrap().rotate_left(24);
            }),
            ("b1 of the next unit", fire(20, 40), |_, inputs| {
                inputs.parameters.get_mut("fire_b1").unwrap().rotate_left(1);
            }),
            ("the last unit left out", fire(20, 40), |_, inputs| {
                inputs.parameters.get_mut("fire_w2").unwrap().chunks_exact_mut(24).for_each(|w| w[23] = 0.0);
            }),
        ];
        assert_eq!(plane, 45);
        for gpu in gpus() {
            for (name, (spec, inputs), mutate) in &mutations {
                let (out, lse) = check::attention(spec, inputs).unwrap();
                let scores = check::scores(spec, inputs).unwrap();
                let broken = |spec: &Spec, inputs: &Inputs| {
                    let got = gpu.attention(spec, inputs).unwrap();
                    let of_result = out.worst(&got.out).failures + lse.worst(&got.lse).failures;
                    [of_result, scores.worst(&gpu.scores(spec, inputs).unwrap()).failures]
                };
                assert_eq!(broken(spec, inputs), [0, 0], "{name}: {}", gpu.describe());
                let (mut wrong_spec, mut wrong) = (spec.clone(), inputs.clone());
                mutate(&mut wrong_spec, &mut wrong);
                assert!(broken(&wrong_spec, &wrong).iter().all(|n| *n > 0), "{name} is not caught");
            }
        }
    }

    /// FIRE with a least scale between the positions.
    fn fire(q_len: u32, kv_len: u32) -> (Spec, Inputs) {
        let (mut spec, mut inputs) = distances("log", q_len, kv_len);
        inputs.parameters.clear();
        spec.bias = vec![Bias::Fire { hidden: 24, eps: 1e-3 }];
        for (name, n) in [("fire_w1", 24), ("fire_b1", 24), ("fire_w2", 96), ("fire_b2", 4)] {
            inputs.parameters.insert(name.into(), noise(n, n as u64));
        }
        inputs.parameters.extend([("fire_c".into(), vec![0.1]), ("fire_l".into(), vec![30.0])]);
        (spec, inputs)
    }

    /// FIRE at distances and positions of every size: within the bound, and the bound is no more than a few roundings of its parts.
    #[test]
    fn fire_at_every_distance() {
        for gpu in gpus() {
            for far in [40, 5_000, 1 << 20, 1 << 30] {
                let (mut spec, mut inputs) = fire(20, 40);
                spec.positions = Positions::Ids;
                let spread = |n: i32| (0..n).map(|i| (i as i64 * far / n as i64) as i32).collect::<Vec<_>>();
                (inputs.q_positions, inputs.k_positions) = (Some(spread(20)), Some(spread(40)));
                let bounds = check::scores(&spec, &inputs).unwrap();
                let worst = bounds.worst(&gpu.scores(&spec, &inputs).unwrap());
                assert!(worst.failures == 0 && worst.unbounded == 0, "{}, {far}: {worst:?}", gpu.describe());
                let loosest = bounds.bound.iter().filter(|b| b.is_finite()).fold(0.0, |m: f64, b| m.max(*b));
                assert!(loosest < 1e-3, "{far}: {loosest:e}"); // of sums of some hundreds
            }
        }
    }

    /// The loops of a term are counted: on software adapters, some of which leave every loop without a word after 65 535 rounds, dispatches
    /// hold fewer keys for it, and what no dispatch can hold is refused.
    #[test]
    fn loops_of_terms_cut_dispatches() {
        let (mut spec, mut inputs) = fire(20, 700);
        spec.bias = vec![Bias::Fire { hidden: 256, eps: 1e-3 }];
        for (name, n) in [("fire_w1", 256), ("fire_b1", 256), ("fire_w2", 4 * 256)] {
            inputs.parameters.insert(name.into(), noise(n, n as u64));
        }
        let problem = ropewalk::Problem::new(&spec, &inputs).unwrap();
        let mut limits = Limits::default().for_cpu();
        limits.subgroup_size = 8;
        let all = Tuning::candidates(Kernel::Attention, &spec, &problem.shape(), &limits).unwrap();
        assert!(all.iter().any(|t| t.family == Family::Rows));
        for tuning in all.iter().filter(|t| t.family == Family::Rows) {
            limits.tuning = Some(*tuning);
            let plan = Plan::for_problem(Kernel::Attention, &problem, &limits).unwrap();
            for keys in plan.chunks().iter().map(|chunk| chunk.keys) {
                assert!((keys[1] - keys[0]) * 256 <= limits.max_loop_rounds, "{keys:?} of {}", plan.label());
            }
        }
        let many = |n: usize| {
            let mut many = spec.clone();
            many.bias = vec![Bias::Fire { hidden: 255, eps: 1e-3 }; n];
            many
        };
        let planned =
            |spec: &Spec| Plan::new(Kernel::Attention, spec, &Shape::new(spec, 1, 20, 700), &Limits::default());
        assert!(planned(&many(4)).is_ok());
        let refused = planned(&many(5)).unwrap_err().to_string();
        assert!(refused.contains("1280 rounds for each score") && refused.contains("at most 1024"), "{refused}");
        for gpu in gpus() {
            let got = gpu.attention(&spec, &inputs).unwrap();
            let report = check::verify(&spec, &inputs, &got, &check::Options::default(), &|_| ()).unwrap();
            assert!(report.passed(), "{}: {report}", gpu.describe());
        }
    }

    /// Where logarithms are as small as their errors and eps is no more: the bound says so.
    #[test]
    fn fire_of_a_small_scale() {
        for gpu in gpus() {
            for (c, eps) in [(5.9e-8, 1e-6), (1.2e-7, 1e-6), (1e-12, 1e-6), (0.0, 1e-6), (1e-4, 1e-5)] {
                let (mut spec, mut inputs) = fire(20, 1200);
                spec.bias = vec![Bias::Fire { hidden: 24, eps }];
                inputs.parameters.extend([("fire_c".into(), vec![c]), ("fire_l".into(), vec![0.0])]);
                spec.positions = Positions::Ids;
                (inputs.q_positions, inputs.k_positions) = (Some((0..20).collect()), Some((0..1200).collect()));
                let worst = check::scores(&spec, &inputs).unwrap().worst(&gpu.scores(&spec, &inputs).unwrap());
                assert!(worst.failures == 0 && worst.unbounded == 0, "{}, c {c}, eps {eps}: {worst:?}", gpu.describe());
            }
        }
    }

    fn exchange(inputs: &mut Inputs) {
        let p = inputs.parameters.remove("kerple_p").unwrap();
        let a = inputs.parameters.insert("kerple_a".into(), p).unwrap();
        inputs.parameters.insert("kerple_p".into(), a);
    }

    /// KERPLE alone, at distances of every size: within the bound, and the bound within 40 roundings of the value.
    #[test]
    fn kerple_at_every_distance() {
        let near = 1..200i64;
        let far = (7..31).flat_map(|e| [(1i64 << e) - 1, 1 << e, (1 << e) + 1, (1 << e) * 17 / 11]);
        let ids: Vec<i32> = near.chain(far).chain([i32::MAX as i64]).filter_map(|d| i32::try_from(d).ok()).collect();
        let n = ids.len() as u32;
        for gpu in gpus() {
            for kind in ["log", "power"] {
                for sign in [1, -1] {
                    let (mut spec, mut inputs) = distances(kind, 1, n);
                    (spec.softmax_scale, spec.positions) = (Some(0.0), Positions::Ids);
                    inputs.q_positions = Some(vec![0]);
                    inputs.k_positions = Some(ids.iter().map(|d| sign * d).collect());
                    inputs.parameters.insert("kerple_p".into(), vec![0.01, 0.51, 1.37, 2.0]);
                    inputs.parameters.insert("kerple_a".into(), vec![0.01, 1.0, 3.7, 250.0]);
                    let bounded = check::scores(&spec, &inputs).unwrap();
                    let worst = bounded.worst(&gpu.scores(&spec, &inputs).unwrap());
                    println!("{} {kind}: worst error is {:.2} of its bound", gpu.describe(), worst.ratio);
                    assert_eq!((worst.failures, worst.unbounded), (0, 0), "{kind}: {worst:?}");
                    for (at, (value, bound)) in bounded.value.iter().zip(&bounded.bound).enumerate() {
                        let p = [0.01, 0.51, 1.37, 2.0][at / n as usize];
                        let size = value.abs() + if kind == "log" { p } else { 0.0 };
                        assert!(*bound <= 40.0 * size * 2f64.powi(-24) + 1e-30, "{kind} {at}: {value} {bound}");
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_a_problem_take_their_gates_and_tables() {
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let (spec, inputs) = shifted();
        let (mut cpb_spec, mut cpb_inputs) = window(&[cpb(None), kerple("log")], false, 2);
        cpb_spec.gated_bias = true;
        cpb_inputs.gates = Some((0..2 * 4 * 15).map(|i| 0.1 * i as f64).collect());
        for gpu in gpus() {
            for (spec, inputs, limit) in
                [(&spec, &inputs, 1100), (&cpb_spec, &cpb_inputs, 1100), (&gated().0, &gated().1, 1100)]
            {
                let whole = gpu.attention(spec, inputs).unwrap();
                let mut limits = *gpu.limits();
                limits.max_binding_size = limit;
                let (cut, stats) = gpu.with_limits(limits).attention_with(spec, inputs, &|_| ()).unwrap();
                assert!(stats.parts > 1, "{} parts", stats.parts);
                assert_eq!(bits(&whole.out), bits(&cut.out));
                assert_eq!(bits(&whole.lse), bits(&cut.lse));
            }
        }
    }
}
