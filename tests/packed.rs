//! Packed sequences: each attends within itself, whatever its neighbours hold; what does not add up is refused; mutations break bounds.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, noise};
use ropewalk::*;

/// Sequences of 5, 0, 70, 1, 3 and 0 queries over 9, 4, 75, 0, 130 and 0 keys: prompts, decode, no query, no key, neither.
const Q: [u32; 7] = [0, 5, 5, 75, 76, 79, 79];
const K: [u32; 7] = [0, 9, 13, 88, 88, 218, 218];

fn spec() -> Spec {
    let mut spec = Spec::new(4, 2, 20);
    spec.v_head_dim = 12;
    spec.rotary = Some(Rotary::new(Pairing::Half, 20, 1e4));
    spec.bias =
        vec![Bias::Table { min: -30, max: 5 }, Bias::Alibi { form: AlibiForm::KeyFromEnd, slopes: None, scale: 0.1 }];
    spec.mask = Mask::causal();
    spec.mask.window_left = Some(40);
    spec.packed = true;
    spec
}

fn problem(spec: &Spec, seed: u64) -> Inputs {
    let mut inputs = inputs(spec, 1, 79, 218, seed);
    (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = (Some(Q.to_vec()), Some(K.to_vec()));
    inputs.parameters.insert("bias_table".into(), noise(4 * 36, seed + 100));
    inputs
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Some tokens of a tensor.
fn tokens(t: &Tensor, span: std::ops::Range<u32>) -> Tensor {
    let [_, _, heads, dim] = t.shape();
    let row = |(j, h)| t.row(0, j, h).map(|x| x as f32).collect::<Vec<_>>();
    let values: Vec<f32> = span.clone().flat_map(|j| (0..heads).map(move |h| (j, h))).flat_map(row).collect();
    Tensor::bshd(Data::from_f32(t.dtype(), &values), [1, span.len() as u32, heads, dim]).unwrap()
}

/// out `[tokens, heads, dim]` and lse `[heads][tokens]` of each sequence by itself; of one without keys what the equation says.
fn one_by_one(spec: &Spec, inputs: &Inputs) -> (Vec<f64>, Vec<f64>) {
    let mut alone = spec.clone();
    alone.packed = false;
    let (mut out, mut lse) = (Vec::new(), vec![Vec::new(); spec.num_heads as usize]);
    for (q, k) in Q.windows(2).zip(K.windows(2)) {
        let n = q[1] - q[0];
        if n == 0 {
            continue;
        }
        if k[0] == k[1] {
            out.extend(vec![0.0; (n * spec.num_heads * spec.v_head_dim) as usize]);
            lse.iter_mut().for_each(|lse| lse.extend(vec![f64::NEG_INFINITY; n as usize]));
            continue;
        }
        let cut = |t: &Tensor, at: &[u32]| tokens(t, at[0]..at[1]);
        let mut part = Inputs::new(cut(&inputs.q, q), cut(&inputs.k, k), cut(&inputs.v, k));
        part.parameters = inputs.parameters.clone();
        let result = reference::attention(&alone, &part).unwrap();
        out.extend(result.out);
        lse.iter_mut().zip(result.lse.chunks(n as usize)).for_each(|(all, of)| all.extend(of));
    }
    (out, lse.concat())
}

#[test]
fn the_reference_is_every_sequence_by_itself() {
    for alignment in [Alignment::BottomRight, Alignment::TopLeft] {
        let mut spec = spec();
        spec.mask.alignment = alignment;
        let inputs = problem(&spec, 1);
        let got = reference::attention(&spec, &inputs).unwrap();
        let (out, lse) = one_by_one(&spec, &inputs);
        assert_eq!(got.out_shape, [1, 79, 4, 12]);
        assert_eq!(got.out, out);
        assert_eq!(got.lse, lse);
        // the query whose sequence has no key
        assert_eq!(got.lse[75], f64::NEG_INFINITY);
    }
}

#[test]
fn kernels_are_within_their_bounds() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let mut spec = spec();
        spec.dtype = dtype;
        let inputs = problem(&spec, 2);
        let (out, lse) = check::attention(&spec, &inputs).unwrap();
        let scores = check::scores(&spec, &inputs).unwrap();
        let (q, k) = check::rotate(&spec, &inputs).unwrap();
        for gpu in gpus() {
            let got = gpu.attention(&spec, &inputs).unwrap();
            let rotated = gpu.rotate(&spec, &inputs).unwrap();
            let all = [
                ("out", out.worst(&got.out)),
                ("lse", lse.worst(&got.lse)),
                ("scores", scores.worst(&gpu.scores(&spec, &inputs).unwrap())),
                ("q", q.worst(&rotated.0)),
                ("k", k.worst(&rotated.1)),
            ];
            for (name, worst) in all {
                assert!(worst.failures == 0 && worst.unbounded == 0, "{} {dtype:?} {name}: {worst:?}", gpu.describe());
            }
        }
    }
}

#[test]
fn scores_of_other_sequences_are_minus_infinity() {
    let mut spec = spec();
    spec.mask = Mask::none();
    let inputs = problem(&spec, 3);
    for gpu in gpus() {
        let scores = gpu.scores(&spec, &inputs).unwrap();
        let sequence = |starts: &[u32], token: usize| starts.iter().rposition(|s| *s <= token as u32);
        for (row, scores) in scores.chunks(218).enumerate() {
            for (j, s) in scores.iter().enumerate() {
                let same = sequence(&Q, row % 79) == sequence(&K, j);
                assert_eq!(s.is_finite(), same, "{} row {row} key {j}: {s}", gpu.describe());
            }
        }
    }
}

/// Every element of these tokens becomes NaN.
fn poison(t: &mut Tensor, span: std::ops::Range<u32>) {
    let [_, _, heads, dim] = t.shape();
    for start in
        span.flat_map(|j| (0..heads).map(move |h| (j, h))).map(|(j, h)| t.row_start(0, j, h)).collect::<Vec<_>>()
    {
        match t.data_mut() {
            Data::F32(v) => v[start..start + dim as usize].fill(f32::NAN),
            _ => panic!("f32 inputs"),
        }
    }
}

#[test]
fn nan_of_a_sequence_reaches_no_other() {
    let mut spec = spec();
    spec.dense_bias = true;
    spec.mask.dense = true;
    let mut clean = problem(&spec, 4);
    clean.attn_bias = Some(Dense::new([1, 4, 79, 218], noise(4 * 79 * 218, 5)).unwrap());
    clean.mask = Some(Dense::new([1, 1, 79, 218], (0..79 * 218).map(|i| i % 7 != 0).collect()).unwrap());
    for gpu in gpus() {
        let (want, want_scores) = (gpu.attention(&spec, &clean).unwrap(), gpu.scores(&spec, &clean).unwrap());
        for s in 0..6 {
            let mut wrong = clean.clone();
            poison(&mut wrong.q, Q[s]..Q[s + 1]);
            poison(&mut wrong.k, K[s]..K[s + 1]);
            poison(&mut wrong.v, K[s]..K[s + 1]);
            let (got, scores) = (gpu.attention(&spec, &wrong).unwrap(), gpu.scores(&spec, &wrong).unwrap());
            let exact = reference::attention(&spec, &wrong).unwrap();
            let mut reached = 0;
            for token in 0..79u32 {
                let own = (Q[s]..Q[s + 1]).contains(&token);
                let out = (token * 48) as usize..((token + 1) * 48) as usize;
                for h in 0..4 {
                    let at = (h * 79 + token) as usize;
                    reached += got.lse[at].is_nan() as u32;
                    assert_eq!(got.lse[at].is_nan(), exact.lse[at].is_nan());
                    if !own {
                        assert_eq!(want.lse[at].to_bits(), got.lse[at].to_bits(), "{} token {token}", gpu.describe());
                        let row = at * 218..(at + 1) * 218;
                        assert_eq!(bits(&want_scores[row.clone()]), bits(&scores[row]), "{}", gpu.describe());
                    }
                }
                if !own {
                    assert_eq!(bits(&want.out[out.clone()]), bits(&got.out[out.clone()]), "{}", gpu.describe());
                    assert!(exact.out[out].iter().all(|x| x.is_finite()));
                }
            }
            // a sequence with queries and keys suffers itself
            assert_eq!(reached > 0, Q[s] < Q[s + 1] && K[s] < K[s + 1], "{} sequence {s}", gpu.describe());
        }
    }
}

/// What ONNX calls nonpad_kv_seqlen: neither the keys beyond a sequence's length nor another batch entry reach a row.
#[test]
fn rows_do_not_leak_through_lengths_of_their_own() {
    let mut spec = spec();
    (spec.packed, spec.kv_lens) = (false, true);
    let mut clean = inputs(&spec, 3, 6, 70, 6);
    clean.parameters.insert("bias_table".into(), noise(4 * 36, 7));
    clean.kv_lens = Some(vec![70, 33, 4]);
    let batch_poison = |t: &mut Tensor, b: u32, span: std::ops::Range<u32>| {
        let [_, _, heads, dim] = t.shape();
        for (j, h) in span.flat_map(|j| (0..heads).map(move |h| (j, h))) {
            let start = t.row_start(b, j, h);
            let Data::F32(v) = t.data_mut() else { panic!("f32 inputs") };
            v[start..start + dim as usize].fill(f32::NAN);
        }
    };
    for gpu in gpus() {
        let want = gpu.attention(&spec, &clean).unwrap();
        let mut beyond = clean.clone();
        for (b, n) in [(1, 33), (2, 4)] {
            batch_poison(&mut beyond.k, b, n..70);
            batch_poison(&mut beyond.v, b, n..70);
        }
        let got = gpu.attention(&spec, &beyond).unwrap();
        assert_eq!((bits(&want.out), bits(&want.lse)), (bits(&got.out), bits(&got.lse)), "{}", gpu.describe());
        let exact = reference::attention(&spec, &beyond).unwrap();
        assert!(exact.out.iter().all(|x| x.is_finite()));
        for b in 0..3 {
            let mut wrong = clean.clone();
            batch_poison(&mut wrong.q, b, 0..6);
            batch_poison(&mut wrong.k, b, 0..70);
            batch_poison(&mut wrong.v, b, 0..70);
            let got = gpu.attention(&spec, &wrong).unwrap();
            for other in 0..3 {
                let (out, lse) = (other * 6 * 48..(other + 1) * 6 * 48, other * 24..(other + 1) * 24);
                let same = bits(&want.out[out.clone()]) == bits(&got.out[out]);
                let same = same && bits(&want.lse[lse.clone()]) == bits(&got.lse[lse]);
                assert_eq!(same, other != b as usize, "{} {b} reaches {other}", gpu.describe());
            }
        }
    }
}

#[test]
fn cuts_over_keys_and_kv_heads_give_the_same_bits() {
    let spec = spec();
    let inputs = problem(&spec, 8);
    for gpu in gpus() {
        let (whole, uncut) = gpu.attention_with(&spec, &inputs, &|_| ()).unwrap();
        let scores = gpu.scores(&spec, &inputs).unwrap();
        for change in [
            (|l: &mut Limits| l.max_loop_rounds = 1) as fn(&mut Limits),
            |l| l.max_workgroups = 1,
            |l| l.max_flop_per_dispatch = 1e5,
            |l| l.max_flop_per_dispatch = 3e6,
        ] {
            let mut limits = *gpu.limits();
            change(&mut limits);
            let gpu = gpu.with_limits(limits);
            let (cut, stats) = gpu.attention_with(&spec, &inputs, &|_| ()).unwrap();
            assert!(stats.dispatches > uncut.dispatches, "{stats:?}");
            assert_eq!(bits(&whole.out), bits(&cut.out), "{}", gpu.describe());
            assert_eq!(bits(&whole.lse), bits(&cut.lse), "{}", gpu.describe());
            assert_eq!(bits(&scores), bits(&gpu.scores(&spec, &inputs).unwrap()), "{}", gpu.describe());
        }
        // k takes 34 880 bytes, one of its two heads half of that; tokens are never cut
        let mut limits = *gpu.limits();
        limits.max_binding_size = 20_000;
        let (cut, stats) = gpu.with_limits(limits).attention_with(&spec, &inputs, &|_| ()).unwrap();
        assert_eq!(stats.parts, 2);
        assert_eq!((bits(&whole.out), bits(&whole.lse)), (bits(&cut.out), bits(&cut.lse)), "{}", gpu.describe());
        limits.max_binding_size = 17_000;
        let error = gpu.with_limits(limits).attention(&spec, &inputs).unwrap_err().to_string();
        assert!(error.contains("even one kv head of the packed sequences"), "{error}");
    }
}

#[test]
fn what_does_not_add_up_is_refused() {
    let spec = spec();
    let refused = |change: &dyn Fn(&mut Spec, &mut Inputs)| {
        let (mut spec, mut inputs) = (spec.clone(), problem(&spec, 9));
        change(&mut spec, &mut inputs);
        let error = reference::attention(&spec, &inputs).unwrap_err();
        for gpu in gpus() {
            assert_eq!(gpu.attention(&spec, &inputs).unwrap_err(), error);
        }
        error.to_string()
    };
    let q = |starts: &[u32]| {
        let starts = starts.to_vec();
        refused(&|_, inputs| inputs.cu_seqlens_q = Some(starts.clone()))
    };
    assert!(q(&[0, 5, 5, 4, 76, 79, 79]).contains("cu_seqlens_q: entry 3 is 4, below entry 2, 5"));
    assert!(q(&[0, 5, 5, 80, 76, 79, 79]).contains("cu_seqlens_q: entry 3 is 80, of 79 tokens"));
    assert!(q(&[1, 5, 5, 75, 76, 79, 79]).contains("cu_seqlens_q: entry 0 is 1"));
    assert!(q(&[0, 5, 5, 75, 76, 78, 78]).contains("cu_seqlens_q: the last entry, 6, is 78, of 79 tokens"));
    assert!(q(&[0, 79]).contains("cu_seqlens_k: 7 entries, but cu_seqlens_q has 2"));
    assert!(q(&[]).contains("cu_seqlens_q: 0 entries"));
    assert!(refused(&|_, inputs| inputs.cu_seqlens_k = None).contains("cu_seqlens_k: is missing"));
    assert!(refused(&|spec, _| spec.packed = false).contains("cu_seqlens_q: is given"));
    assert!(refused(&|_, inputs| inputs.kv_len = Some(3)).contains("kv_len: is given beside cu_seqlens_k"));
    assert!(refused(&|spec, _| spec.kv_lens = true).contains("spec.kv_lens: is set beside packed"));
    let two = |spec: &mut Spec, inputs: &mut Inputs| {
        let parameters = inputs.parameters.clone();
        let starts = (inputs.cu_seqlens_q.take(), inputs.cu_seqlens_k.take());
        *inputs = common::inputs(spec, 2, 79, 218, 1);
        (inputs.parameters, (inputs.cu_seqlens_q, inputs.cu_seqlens_k)) = (parameters, starts);
    };
    assert!(refused(&two).contains("q: has 2 batch entries"));
    // positions below 0 have no row in a table of angles: the sequence of one query and no key
    let table = |spec: &mut Spec, inputs: &mut Inputs| {
        spec.rotary.as_mut().unwrap().angle = Angle::Table;
        inputs.angle_table = Some(AngleTable { cos: noise(300 * 10, 1), sin: noise(300 * 10, 2) });
    };
    assert!(refused(&table).contains("1 queries over 0 keys stands before row 0"));
    let shape = |change: &dyn Fn(&mut Shape)| {
        let mut shape = Shape::packed(&spec, 6, 79, 218);
        change(&mut shape);
        Plan::new(Kernel::Attention, &spec, &shape, &Limits::default()).unwrap_err().to_string()
    };
    assert!(shape(&|s| s.batch = 2).contains("shape.batch: is 2"));
    assert!(shape(&|s| s.sequences = 0).contains("shape.sequences: is 0"));
    assert!(shape(&|s| s.max_seqlen_q = 80).contains("shape.max_seqlen_q: is 80; give 1 to 79"));
    assert!(shape(&|s| s.max_seqlen_k = 0).contains("shape.max_seqlen_k: is 0"));
}

/// A plan for many sequences serves a step of fewer; a hint that is too low is an error, never a lost row.
#[test]
fn a_step_is_checked_against_the_plan() {
    let spec = spec();
    let mut shape = Shape::packed(&spec, 8, 100, 300);
    (shape.max_seqlen_q, shape.max_seqlen_k) = (70, 130);
    let plan = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default()).unwrap();
    let main = plan.chunks().iter().find(|c| c.entry == "main").unwrap();
    assert_eq!(main.workgroups, [200 / plan.tile()[0] + 8, 2, 1]); // 200 rows, and a tile more for each sequence
    let layout = plan.step_layout();
    let step = Step { q_len: 79, kv_len: 218, cu_seqlens_q: &Q, cu_seqlens_k: &K, ..Step::default() };
    let mut words = vec![0xdead; layout.words as usize];
    layout.write(&step, &mut words).unwrap();
    let held = |range: &Option<std::ops::Range<u32>>| {
        let range = range.clone().unwrap();
        words[range.start as usize..range.end as usize].to_vec()
    };
    assert_eq!(held(&layout.cu_seqlens_q), [0, 5, 5, 75, 76, 79, 79, 79, 79]);
    assert_eq!(held(&layout.cu_seqlens_k), [0, 9, 13, 88, 88, 218, 218, 218, 218]);

    let wrong = |change: &dyn Fn(&mut Step)| {
        let mut step = step;
        change(&mut step);
        layout.write(&step, &mut vec![0; layout.words as usize]).unwrap_err().to_string()
    };
    let longer = wrong(&|s| (s.q_len, s.cu_seqlens_q) = (81, &[0, 5, 5, 76, 77, 80, 81]));
    assert!(
        longer.contains("cu_seqlens_q: sequence 2 has 71 tokens; plan for a larger shape.max_seqlen_q, which is 70")
    );
    assert!(
        wrong(&|s| s.cu_seqlens_k = &[0, 9, 9, 87, 87, 218, 218]).contains("cu_seqlens_k: sequence 4 has 131 tokens")
    );
    assert!(wrong(&|s| s.q_len = 80).contains("cu_seqlens_q: the last entry, 6, is 79, of 80 tokens"));
    assert!(wrong(&|s| s.cu_seqlens_k = &[]).contains("cu_seqlens_k: 0 entries"));
    const TEN: [u32; 10] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 60];
    let many = wrong(&|s| (s.q_len, s.kv_len, s.cu_seqlens_q, s.cu_seqlens_k) = (60, 60, &TEN, &TEN));
    assert!(many.contains("cu_seqlens_q: 9 sequences of 8"));
}

/// One long sequence among many short ones multiplies neither dispatches nor workgroups.
#[test]
fn dispatches_of_a_ragged_batch() {
    let mut spec = Spec::new(32, 8, 128);
    (spec.packed, spec.mask) = (true, Mask::causal());
    let mut shape = Shape::packed(&spec, 1000, 60_000, 60_000);
    (shape.max_seqlen_q, shape.max_seqlen_k) = (50_000, 50_000);
    let mut limits = Limits::default();
    limits.max_binding_size = 1 << 30;
    let plan = Plan::new(Kernel::Attention, &spec, &shape, &limits).unwrap();
    // a tile of rows for 64 of all of them, and one more for each sequence
    let tiles = 60_000 * 4 / plan.tuning().tile_q as usize + 1000;
    // each for half a second of a GPU that does not say what it is
    assert!(plan.chunks().len() <= 1500, "{}", plan.chunks().len());
    // every one for every head, once, over all keys
    let mut covered = vec![0u32; tiles * 8];
    for chunk in plan.chunks().iter().filter(|chunk| chunk.entry == "main") {
        let ([x, y, z], [nx, ny, nz]) = (chunk.first, chunk.workgroups);
        assert_eq!((z, nz, chunk.keys), (0, 1, [0, 60_000]));
        for (x, y) in (x..x + nx).flat_map(|x| (y..y + ny).map(move |y| (x, y))) {
            covered[(y as usize) * tiles + x as usize] += 1;
        }
    }
    assert!(covered.iter().all(|n| *n == 1));
}

#[test]
fn every_mutation_breaks_a_bound() {
    // no window and no closed form: only what the mutations are about
    let mut spec = spec();
    (spec.mask, spec.bias) = (Mask::causal(), Vec::new());
    let Some(gpu) = gpus().into_iter().next() else { return };
    for seed in 0..4 {
        let mut inputs = problem(&spec, 20 + seed);
        inputs.parameters.clear();
        let (out, lse) = check::attention(&spec, &inputs).unwrap();
        let failures = |got: &Output<f32>| (out.worst(&got.out).failures, lse.worst(&got.lse).failures);
        let right = gpu.attention(&spec, &inputs).unwrap();
        assert_eq!(failures(&right), (0, 0));

        for (name, entry, by) in [("in q", 3, -1), ("in q", 1, 1), ("in k", 2, 1), ("in k", 1, -1)] {
            let mut wrong = inputs.clone();
            let starts = if name == "in q" { &mut wrong.cu_seqlens_q } else { &mut wrong.cu_seqlens_k };
            let start = starts.as_mut().and_then(|s| s.get_mut(entry)).unwrap();
            *start = start.checked_add_signed(by).unwrap();
            if name == "in q" && entry == 1 {
                wrong.cu_seqlens_q.as_mut().unwrap()[2] += 1; // the next sequence has no query
            }
            let found = failures(&gpu.attention(&spec, &wrong).unwrap());
            assert!(found.0 > 0 && found.1 > 0, "a sequence's start off by {by} {name}: {found:?}");
        }

        // the causal offset m - n of the sequence before, as a mask
        let offset = |s: usize| (K[s + 1] - K[s]) as i64 - (Q[s + 1] - Q[s]) as i64;
        let holder = |starts: &[u32], token: u32| starts.iter().rposition(|s| *s <= token).unwrap();
        let seen = |token: u32, key: u32| {
            let (s, of_key) = (holder(&Q, token), holder(&K, key));
            let (i, j) = ((token - Q[s]) as i64, key as i64 - K[s] as i64);
            s == of_key && j <= i + offset(s.saturating_sub(1))
        };
        let (mut wrong_spec, mut wrong) = (spec.clone(), inputs.clone());
        (wrong_spec.mask.causal, wrong_spec.mask.dense) = (false, true);
        let all = (0..79).flat_map(|i| (0..218).map(move |j| (i, j)));
        wrong.mask = Some(Dense::new([1, 1, 79, 218], all.map(|(i, j)| seen(i, j)).collect()).unwrap());
        let found = failures(&gpu.attention(&wrong_spec, &wrong).unwrap());
        assert!(found.0 > 0 && found.1 > 0, "the neighbour's causal offset: {found:?}");

        // lse in the row of the next token, and of a sequence as if it were the first
        let mut shifted = right.clone();
        shifted.lse.rotate_right(1);
        assert!(failures(&shifted).1 > 0, "lse of the wrong token");
        let mut swapped = right;
        swapped.lse[..79].swap(0, 5);
        assert!(failures(&swapped).1 > 0, "lse of the wrong sequence");
    }
}

/// A sample of rows holds both sides of every sequence's start.
#[test]
fn a_sample_looks_at_the_edges_of_sequences() {
    let mut spec = Spec::new(2, 1, 8);
    (spec.packed, spec.mask) = (true, Mask::causal());
    let mut inputs = inputs(&spec, 1, 3000, 3000, 40);
    let starts = [0, 700, 1234, 1234, 3000];
    (inputs.cu_seqlens_q, inputs.cu_seqlens_k) = (Some(starts.to_vec()), Some(starts.to_vec()));
    let exact = reference::attention(&spec, &inputs).unwrap();
    let narrow = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<_>>();
    let right = Output { out_shape: exact.out_shape, out: narrow(&exact.out), lse: narrow(&exact.lse) };
    let mut options = check::Options::default();
    (options.max_flop, options.min_rows) = (1.0, 400);
    let report = |output: &Output<f32>| check::verify(&spec, &inputs, output, &options, &|_| ()).unwrap();
    assert!(report(&right).passed() && report(&right).sampled());
    for token in [0, 699, 700, 1233, 1234, 2999] {
        let mut wrong = right.clone();
        for h in 0..2 {
            wrong.lse[h * 3000 + token] += 0.01;
        }
        // the first and the last row are of one head
        assert!(!report(&wrong).passed(), "token {token}");
    }
}
