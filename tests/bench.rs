//! What a workload must do and move, counted by hand.

use ropewalk::{
    Alignment, Bias, Columns, Denominator, Dtype, Embed, EmbedShape, IndexMap, Kernel, Limits, Mask, Pairing, Plan,
    Relative, RelativeSide, Rotary, Shape, Spec, workload,
};

fn plan(kernel: Kernel, spec: &Spec, shape: &Shape) -> Plan {
    Plan::new(kernel, spec, shape, &Limits::default()).expect("a valid spec")
}

/// The pairs that a mask leaves of one head, counted one by one.
fn seen(mask: &Mask, q_len: i64, kv_len: i64) -> u64 {
    let shift = if mask.alignment == Alignment::TopLeft { 0 } else { kv_len - q_len };
    let visible = |(i, j): &(i64, i64)| {
        let at = i + shift;
        let right = if mask.causal { Some(0) } else { mask.window_right };
        right.is_none_or(|r| *j <= at + r as i64)
            && mask.window_left.is_none_or(|l| at - l as i64 <= *j)
            && mask.chunk.is_none_or(|c| at.div_euclid(c as i64) == j / c as i64)
    };
    (0..q_len).flat_map(|i| (0..kv_len).map(move |j| (i, j))).filter(visible).count() as u64
}

#[test]
fn pairs_are_those_that_masks_leave() {
    let mut masks = vec![Mask::none(), Mask::causal()];
    for (left, right, chunk) in
        [(Some(3), None, None), (None, Some(2), None), (Some(1), Some(4), None), (None, None, Some(5))]
    {
        for causal in [false, true] {
            let mut mask = Mask::none();
            (mask.causal, mask.window_left, mask.window_right, mask.chunk) = (causal, left, right, chunk);
            masks.push(mask);
        }
    }
    for mut mask in masks {
        for alignment in [Alignment::BottomRight, Alignment::TopLeft] {
            for (q_len, kv_len) in [(1, 1), (7, 7), (3, 20), (20, 3), (1, 13)] {
                mask.alignment = alignment;
                let mut spec = Spec::new(6, 2, 8);
                spec.mask = mask;
                let plan = plan(Kernel::Attention, &spec, &Shape::new(&spec, 2, q_len, kv_len));
                let pairs = 2 * 6 * seen(&mask, q_len as i64, kv_len as i64);
                assert_eq!(plan.visible_pairs(), pairs, "{mask:?} {q_len} {kv_len}");
                assert_eq!(plan.flop(), (pairs * 2 * (8 + 8)) as f64);
            }
        }
    }
}

#[test]
fn packed_sequences_are_taken_as_equally_long() {
    let mut spec = Spec::new(4, 4, 16);
    (spec.packed, spec.mask) = (true, Mask::causal());
    let plan = plan(Kernel::Attention, &spec, &Shape::packed(&spec, 3, 10, 10));
    // 4, 3 and 3 tokens
    assert_eq!(plan.visible_pairs(), 4 * (10 + 6 + 6));
}

#[test]
fn operations_of_other_kernels() {
    let mut spec = Spec::new(4, 2, 32);
    (spec.v_head_dim, spec.rotary) = (16, Some(Rotary::new(Pairing::Half, 24, 10_000.0)));
    let shape = Shape::new(&spec, 3, 5, 7);
    assert_eq!(plan(Kernel::Scores, &spec, &shape).flop(), (3 * 4 * 5 * 7 * 2 * 32) as f64);
    for in_place in [false, true] {
        // 12 pairs a row, 6 operations each
        assert_eq!(plan(Kernel::RotateQ { in_place }, &spec, &shape).flop(), (3 * 5 * 4 * 12 * 6) as f64);
        assert_eq!(plan(Kernel::RotateK { in_place }, &spec, &shape).flop(), (3 * 7 * 2 * 12 * 6) as f64);
    }
    let embed = Embed::sinusoidal(64, Columns::Halves, Denominator::Half);
    let plan = Plan::embed(&embed, &EmbedShape::new(&embed, 2, 9), false, &Limits::default()).expect("a valid embed");
    assert_eq!(plan.flop(), (2 * 9 * 64 * 2) as f64);
}

#[test]
fn relative_products_are_made_as_rarely_as_they_can_be() {
    let flop = |side: RelativeSide, rows: i32, per_head: bool, q_len: u32, kv_len: u32| {
        let mut spec = Spec::new(6, 2, 8);
        spec.v_head_dim = 4;
        let index = IndexMap::distance(0, rows - 1);
        let mut relative = Relative::new(side, index);
        relative.per_head = per_head;
        let without = plan(Kernel::Attention, &spec, &Shape::new(&spec, 1, q_len, kv_len)).flop();
        spec.relative = vec![relative];
        plan(Kernel::Attention, &spec, &Shape::new(&spec, 1, q_len, kv_len)).flop() - without
    };
    // of 5 queries, 6 heads: with 3 rows each, or with the 9 keys that they see where there are 100
    assert_eq!(flop(RelativeSide::Key, 3, false, 5, 9), (6 * 5 * 3 * 2 * 8) as f64);
    assert_eq!(flop(RelativeSide::Key, 100, true, 5, 9), (6 * 5 * 9 * 2 * 8) as f64);
    // of 9 keys: once for the 2 kv heads, or for each of 6 heads
    assert_eq!(flop(RelativeSide::Query, 3, false, 5, 9), (2 * 9 * 3 * 2 * 8) as f64);
    assert_eq!(flop(RelativeSide::Query, 3, true, 5, 9), (6 * 9 * 3 * 2 * 8) as f64);
    assert_eq!(flop(RelativeSide::Value, 3, false, 5, 9), (6 * 5 * 3 * 2 * 4) as f64);
}

#[test]
fn bytes_are_inputs_read_once_and_results_written_once() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let mut spec = Spec::new(8, 2, 64);
        (spec.dtype, spec.v_head_dim, spec.mask) = (dtype, 32, Mask::causal());
        spec.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
        let element = dtype.size() as u64;
        let mut shape = Shape::new(&spec, 2, 3, 50);
        let step = |plan: &Plan| 4 * plan.step_layout().words as u64;
        let attention = plan(Kernel::Attention, &spec, &shape);
        let rows = 2 * 3 * 8;
        let tensors = rows * 64 + 2 * 50 * 2 * (64 + 32) + rows * 32;
        assert_eq!(attention.bytes(), tensors * element + 4 * rows + step(&attention));
        // gaps between the tokens of a cache are nobody's to read
        shape.k.token *= 3;
        shape.k.batch *= 3;
        assert_eq!(plan(Kernel::Attention, &spec, &shape).bytes(), attention.bytes());
        let scores = plan(Kernel::Scores, &spec, &shape);
        assert_eq!(scores.bytes(), (rows * 64 + 2 * 50 * 2 * 64) * element + 4 * rows * 50 + step(&scores));
        let shape = Shape::new(&spec, 2, 3, 50);
        for in_place in [false, true] {
            let q = plan(Kernel::RotateQ { in_place }, &spec, &shape);
            assert_eq!(q.bytes(), 2 * rows * 64 * element + step(&q));
            let k = plan(Kernel::RotateK { in_place }, &spec, &shape);
            assert_eq!(k.bytes(), 2 * (2 * 50 * 2) * 64 * element + step(&k));
        }
    }
    let mut spec = Spec::new(8, 8, 64);
    let without = plan(Kernel::Attention, &spec, &Shape::new(&spec, 1, 4, 4)).bytes();
    spec.bias = vec![Bias::Table { min: -2, max: 2 }];
    assert_eq!(plan(Kernel::Attention, &spec, &Shape::new(&spec, 1, 4, 4)).bytes() - without, 4 * 5 * 8);
}

#[test]
fn peak_memory_is_what_the_plan_binds() {
    let spec = Spec::new(8, 2, 64);
    let plan = plan(Kernel::Attention, &spec, &Shape::new(&spec, 1, 10, 20));
    let tensors = 4 * 64 * (10 * 8 + 2 * 20 * 2 + 10 * 8);
    let rest = plan.peak_bytes() - tensors;
    // lse, step, uniforms, rows that are prepared beforehand: whole tiles of 64 rows and 128 keys of two kv heads
    assert!(plan.peak_bytes() > tensors && (4 * 80..160_000).contains(&rest), "{rest}");
    assert_eq!(plan.peak_bytes(), plan.bindings().iter().map(|b| b.size).sum::<u64>());
}

#[test]
fn workloads_are_what_their_names_say() {
    let flop = |name: &str| {
        let plans = workload::named(name).and_then(|w| w.plans(&Limits::default())).expect("a workload");
        plans.iter().map(|p| p.flop()).sum::<f64>()
    };
    let causal = |n: f64| n * (n + 1.0) / 2.0;
    assert_eq!(flop("p1"), 8.0 * causal(1024.0) * 256.0);
    assert_eq!(flop("b1"), flop("p1"));
    // 64 rows for each query and each key, of each head
    assert_eq!(flop("b2") - flop("p1"), 2.0 * 8.0 * 1024.0 * 64.0 * 2.0 * 64.0);
    assert_eq!(flop("p2"), 32.0 * causal(2048.0) * 512.0);
    assert_eq!(flop("p3-f16"), 32.0 * causal(8192.0) * 512.0);
    assert_eq!(flop("d2"), 32.0 * 4096.0 * 512.0);
    assert_eq!(flop("r1-bf16"), 4096.0 * 40.0 * 64.0 * 6.0);
    let all = workload::all();
    assert_eq!(all.len(), 3 * workload::NAMES.len());
    for workload in &all {
        let again = workload::named(&workload.name).expect("its own name");
        assert_eq!((&again.name, &again.spec), (&workload.name, &workload.spec));
        assert!(workload.name.ends_with(workload.spec.dtype.name()) || workload.spec.dtype == Dtype::F32);
    }
    // ggml's shapes: every pair counts, as in its own table
    let shapes = workload::ggml();
    assert_eq!(shapes.len(), 36);
    for workload in &shapes {
        let again = workload::named(&workload.name).expect("its own name");
        assert_eq!((&again.spec, &again.about), (&workload.spec, &workload.about));
        let spec = &workload.spec;
        let pairs = spec.num_heads as f64 * workload.q_len as f64 * workload.kv_len as f64;
        assert_eq!(flop(&workload.name), 4.0 * pairs * spec.head_dim as f64, "{}", workload.name);
        assert_eq!((spec.dtype, spec.k_storage(), spec.v_storage()), (Dtype::F32, Dtype::F16, Dtype::F16));
        assert_eq!((spec.num_kv_heads, spec.out_storage()), (8, Dtype::F32));
    }
    let last = workload::named("g128r4k16b512-bf16").expect("a shape");
    assert_eq!((last.spec.num_heads, last.q_len, last.kv_len), (32, 512, 16_384));
    assert_eq!((last.spec.k_storage(), last.spec.v_storage()), (Dtype::Bf16, Dtype::Bf16));
    for name in
        ["", "p4", "p1-f64", "p1-f32", "p1-", "-f16", "P1", "g128r4k8", "g96r4k8b1", "g128r4k08b1", "g128r4k8b1-f64"]
    {
        let error = workload::named(name).expect_err(name).to_string();
        assert!(error.contains("name one of p1, p2"), "{error}");
    }
}

#[test]
fn inputs_depend_on_the_seed_alone() {
    let mut workload = workload::named("b2-f16").expect("a workload");
    (workload.q_len, workload.kv_len) = (40, 60);
    let [one, again, other] = [1, 1, 2].map(|seed| workload.inputs(seed).expect("inputs"));
    assert_eq!(one, again);
    assert_ne!(one.q, other.q);
    assert_ne!(one.k.data().to_f32()[..8], one.v.data().to_f32()[..8]);
    assert_eq!(one.parameters.len(), 2);
    let q = one.q.data().to_f32();
    let (mean, square) =
        (q.iter().sum::<f32>() / q.len() as f32, q.iter().map(|x| x * x).sum::<f32>() / q.len() as f32);
    assert!(mean.abs() < 0.05 && (square - 1.0).abs() < 0.05, "{mean} {square}");
}
