//! Plans are pure: everything here runs without a GPU.

use ropewalk::*;

fn spec() -> Spec {
    let mut spec = Spec::new(8, 2, 64);
    spec.rotary = Some(Rotary::new(Pairing::Half, 64, 1e4));
    spec.mask = Mask::causal();
    spec
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[test]
fn dispatches_cover_the_grid_exactly_once_within_every_limit() {
    let (batch, q_len, kv_len) = (3, 1000, 4096);
    let shape = Shape::new(&spec(), batch, q_len, kv_len);
    let tiles = (q_len * 4).div_ceil(64); // the four heads of a group are packed
    for flop in [1.0, 1e8, 1e9, 1e12] {
        for (groups, rounds) in [(1, u32::MAX), (7, 60_000), (65_535, 5_000)] {
            let limits = limits(|l| {
                (l.max_flop_per_dispatch, l.max_workgroups, l.max_loop_rounds) = (flop, groups, rounds);
            });
            let plan = Plan::new(Kernel::Attention, &spec(), &shape, &limits).unwrap();
            // of every tile the keys that were covered so far: they come in order and without a gap
            let mut covered = vec![0; (tiles * 2 * batch) as usize];
            for chunk in plan.chunks() {
                let ([x, y, z], [nx, ny, nz], [k0, k1]) = (chunk.first, chunk.workgroups, chunk.keys);
                assert!(nx.max(ny).max(nz) <= groups);
                let work = (nx * ny * nz * (k1 - k0)) as f64 * 64.0 * 2.0 * 128.0;
                assert!(work <= flop.max(32.0 * 64.0 * 256.0), "{work} above {flop}");
                // rounds of the score and value loops alone
                assert!(k1 - k0 == 32 || (k1 - k0).saturating_mul(8) < rounds, "{k0}..{k1} in {rounds}");
                for (z, y) in (z..z + nz).flat_map(|z| (y..y + ny).map(move |y| (z, y))) {
                    for x in x..x + nx {
                        let at = &mut covered[((z * 2 + y) * tiles + x) as usize];
                        assert_eq!(*at, k0);
                        *at = k1;
                    }
                }
            }
            assert!(covered.iter().all(|n| *n == kv_len), "flop {flop}, groups {groups}");
            let carried = plan.workspace_size() > 4 * 3 * 8 * 1000;
            assert_eq!(carried, plan.chunks().iter().any(|c| c.keys[1] < kv_len));
        }
    }
}

#[test]
fn four_at_a_time_only_where_everything_is_a_multiple_of_four() {
    let aligned = |change: &dyn Fn(&mut Spec, &mut Shape)| {
        let mut spec = spec();
        let mut shape = Shape::new(&spec, 1, 8, 8);
        change(&mut spec, &mut shape);
        Plan::new(Kernel::Attention, &spec, &shape, &Limits::default()).unwrap().aligned()
    };
    assert!(aligned(&|_, _| ()));
    assert!(!aligned(&|spec, _| spec.v_head_dim = 62));
    assert!(!aligned(&|spec, _| (spec.head_dim, spec.rotary) = (63, None)));
    assert!(!aligned(&|_, shape| shape.k.token += 2));
    assert!(!aligned(&|_, shape| shape.out.head += 1));
    assert!(!aligned(&|_, shape| shape.q.batch += 3));
    assert!(!aligned(&|_, shape| shape.aligned = false));
}

#[test]
fn the_step_buffer_holds_what_its_layout_says() {
    let mut spec = spec();
    spec.positions = Positions::Ids;
    spec.kv_lens = true;
    spec.mask.dense = true;
    let mut shape = Shape::new(&spec, 2, 3, 40);
    shape.mask = [2, 1, 1, 40];
    let plan = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default()).unwrap();
    let layout = plan.step_layout();
    let mask = Dense::new([2, 1, 1, 40], (0..80).map(|i| i % 3 == 0).collect()).unwrap();
    let step = Step {
        q_len: 2,
        kv_len: 37,
        kv_lens: &[37, 12],
        q_positions: &[-5, 6, 7, 8],
        k_positions: &(0..80).collect::<Vec<_>>(),
        mask: Some(&mask),
        ..Step::default()
    };
    let mut words = vec![0xdead; layout.words as usize];
    layout.write(&step, &mut words).unwrap();
    assert_eq!(words[..2], [2, 37]);
    let q = layout.q_positions.clone().unwrap().start as usize;
    // rows stand a capacity apart
    assert_eq!([words[q] as i32, words[q + 1] as i32, words[q + 3] as i32, words[q + 4] as i32], [-5, 6, 7, 8]);
    let k = layout.k_positions.clone().unwrap().start as usize;
    assert_eq!(words[k + 79], 79);
    let lens = layout.kv_lens.clone().unwrap().start as usize;
    assert_eq!(words[lens..lens + 2], [37, 12]);
    let bits = layout.mask.clone().unwrap();
    assert_eq!(bits.len(), 4); // two rows of two words
    for i in 0..80u32 {
        let word = words[(bits.start + i / 40 * 2 + i % 40 / 32) as usize];
        assert_eq!(word >> (i % 40 % 32) & 1 == 1, i % 3 == 0, "bit {i}");
    }

    let wrong = |change: &dyn Fn(&mut Step)| {
        let mut step = step;
        change(&mut step);
        layout.write(&step, &mut vec![0; layout.words as usize]).unwrap_err().to_string()
    };
    assert!(wrong(&|s| s.q_len = 4).contains("q_len: 4 of 3"));
    assert!(wrong(&|s| s.kv_len = 41).contains("kv_len: 41 of 40"));
    assert!(wrong(&|s| s.kv_lens = &[38, 1]).contains("kv_lens"));
    assert!(wrong(&|s| s.kv_lens = &[3]).contains("kv_lens"));
    assert!(wrong(&|s| s.q_positions = &[1, 2]).contains("q_positions"));
    assert!(wrong(&|s| s.k_positions = &[1; 20]).contains("k_positions"));
    assert!(wrong(&|s| s.mask = None).contains("mask"));
    assert!(layout.write(&step, &mut [0; 3]).unwrap_err().to_string().contains("step"));
}

/// As the one-call form: what was given and not used is no silence.
#[test]
fn a_step_that_gives_what_the_spec_does_not_use_is_refused() {
    let plan = Plan::new(Kernel::Attention, &spec(), &Shape::new(&spec(), 1, 2, 8), &Limits::default()).unwrap();
    let mask = Dense::new([1, 1, 1, 8], vec![true; 8]).unwrap();
    let given = Step { q_len: 2, kv_len: 8, ..Step::default() };
    for (name, step) in [
        ("kv_lens", Step { kv_lens: &[8], ..given }),
        ("q_positions", Step { q_positions: &[0, 1], ..given }),
        ("k_positions", Step { k_positions: &[0; 8], ..given }),
        ("q_segments", Step { q_segments: &[0, 1], ..given }),
        ("k_segments", Step { k_segments: &[0; 8], ..given }),
        ("cu_seqlens_q", Step { cu_seqlens_q: &[0, 2], ..given }),
        ("cu_seqlens_k", Step { cu_seqlens_k: &[0, 8], ..given }),
        ("mask", Step { mask: Some(&mask), ..given }),
    ] {
        let mut words = vec![7; plan.step_layout().words as usize];
        let error = plan.step_layout().write(&step, &mut words).expect_err(name);
        assert!(matches!(&error, Error::Input { field, .. } if field == name), "{error}");
        assert!(words.iter().all(|word| *word == 7), "{name}: nothing was written");
        plan.step_layout().write(&given, &mut words).expect(name);
    }
    let embed = Embed::learned(4, 9);
    let plan = Plan::embed(&embed, &EmbedShape::new(&embed, 1, 2), false, &Limits::default()).unwrap();
    let step = Step { q_len: 2, q_positions: &[0, 1], kv_lens: &[1], ..Step::default() };
    let error = plan.step_layout().write(&step, &mut [0; 10]).unwrap_err().to_string();
    assert!(error.contains("kv_lens: 1 values given"), "{error}");
}

#[test]
fn tables_are_expanded_over_distances() {
    let mut spec = Spec::new(2, 1, 8);
    spec.bias =
        vec![Bias::T5 { num_buckets: 4, max_distance: 3, bidirectional: false }, Bias::Table { min: -1, max: 1 }];
    let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 4, 4), &Limits::default()).unwrap();
    let buckets = vec![0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0]; // [num_buckets, num_heads]
    let table = vec![20.0, 21.0, 22.0, 30.0, 31.0, 32.0]; // [num_heads, distances]
    let named = |a: &[f32], b: &[f32]| {
        [("bias_table".to_string(), a.to_vec()), ("bias_table_1".to_string(), b.to_vec())].into()
    };
    let packed = plan.pack_tables(&named(&buckets, &table), None).unwrap();
    // distances -3, -2, -1, 0 fall into buckets 3, 2, 1, 0
    assert_eq!(packed, [3.0, 2.0, 1.0, 0.0, 13.0, 12.0, 11.0, 10.0, 20.0, 21.0, 22.0, 30.0, 31.0, 32.0]);
    assert!(plan.wgsl(Target::Native).contains("term_table(at, 0u, -3, 0) + term_table(at, 8u, -1, 1)"));
    assert!(plan.pack_tables(&named(&table, &buckets), None).unwrap_err().to_string().contains("bias_table"));
}

#[test]
fn what_no_device_can_do_is_an_error_that_names_it() {
    let error = |spec: &Spec, shape: &Shape, limits: &Limits| {
        Plan::new(Kernel::Attention, spec, shape, limits).unwrap_err().to_string()
    };
    let shape = Shape::new(&spec(), 1, 8, 8);
    let small = limits(|l| l.max_binding_size = 4095);
    assert!(error(&spec(), &shape, &small).contains("max_storage_buffer_binding_size: q takes 16384 bytes"));
    assert!(error(&spec(), &shape, &limits(|l| l.max_invocations = 32)).contains("default limits"));
    assert!(error(&spec(), &shape, &limits(|l| l.max_storage_buffers = 4)).contains("max_storage_buffers_per"));
    let endless = Shape::new(&spec(), 1, 1 << 22, 1 << 30);
    let refused = Plan::new(Kernel::Attention, &spec(), &endless, &limits(|l| l.max_binding_size = u64::MAX));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("dispatches"), "{refused}");
    let mut empty = shape;
    empty.q_len = 0;
    assert!(error(&spec(), &empty, &Limits::default()).contains("q_len 0"));
    let mut odd = shape;
    odd.mask = [1, 3, 1, 8];
    assert!(error(&spec(), &odd, &Limits::default()).contains("shape.mask"));
}

#[test]
fn specs_refuse_what_they_cannot_mean() {
    type Change = dyn Fn(&mut Spec);
    let wrong: [(&str, &Change); 17] = [
        ("schema", &|s| s.schema = 2),
        ("num_heads", &|s| s.num_heads = 0),
        ("num_heads", &|s| s.num_heads = 4096),
        ("num_kv_heads", &|s| s.num_kv_heads = 3),
        ("head_dim", &|s| s.head_dim = 577),
        ("v_head_dim", &|s| s.v_head_dim = 0),
        ("rotary.rotary_dim", &|s| s.rotary.as_mut().unwrap().rotary_dim = 7),
        ("rotary.rotary_dim", &|s| s.rotary.as_mut().unwrap().offset = 2),
        ("rotary.frequencies", &|s| s.rotary = Some(Rotary::new(Pairing::Half, 64, f64::NAN))),
        ("inv_freq: entry 1", &|s| s.rotary = Some(Rotary::with_inv_freq(Pairing::Half, vec![1.0, f64::INFINITY]))),
        ("rotary.attention_factor", &|s| s.rotary.as_mut().unwrap().attention_factor = 1e39),
        ("rotary.frequencies.theta", &|s| s.rotary = Some(Rotary::new(Pairing::Half, 64, 1e-60))),
        ("softmax_scale", &|s| s.softmax_scale = Some(f64::NAN)),
        ("logits_soft_cap", &|s| s.logits_soft_cap = Some(0.0)),
        ("bias[0].t5.num_buckets", &|s| {
            s.bias = vec![Bias::T5 { num_buckets: 3, max_distance: 128, bidirectional: true }]
        }),
        ("bias[0].table", &|s| s.bias = vec![Bias::Table { min: 1, max: 0 }]),
        ("bias[0].alibi.slopes", &|s| {
            s.bias = vec![Bias::Alibi { form: AlibiForm::Relative, slopes: Some(vec![1.0]), scale: 1.0 }]
        }),
    ];
    for (field, change) in wrong {
        let mut spec = spec();
        change(&mut spec);
        let error = spec.validate().expect_err(field).to_string();
        assert!(error.starts_with("spec.") && error.contains(field), "{field}: {error}");
    }
    let unknown = spec().to_json().replacen("\"schema\"", "\"softmax_scael\": 1, \"schema\"", 1);
    assert!(Spec::from_json(&unknown).unwrap_err().to_string().contains("softmax_scael"));
}

/// Cards by their limits: binding, workgroup memory, rate, registers.
fn cards() -> [(&'static str, Limits); 5] {
    let card = |binding: u64, storage: u32, rate: f64, registers: u32| {
        limits(|l| {
            (l.max_binding_size, l.max_workgroup_storage, l.registers) = (binding, storage, registers);
            l.max_flop_per_dispatch *= rate;
            l.max_invocations = 1024;
        })
    };
    [
        ("a card of NVIDIA's", card((1 << 32) - 4, 49_152, 4.0, 256)),
        ("a card of AMD's", card((1 << 32) - 4, 65_536, 4.0, 256)),
        ("a card of Intel's", card((1 << 32) - 4, 65_536, 4.0, 128)),
        ("an unknown one", card((1 << 32) - 4, 32_768, 1.0, 256)),
        ("an unknown one of WebGPU's storage", card((1 << 32) - 4, 16_384, 1.0, 256)),
    ]
}

/// What a GPU is given of the named workloads and of an engine's calls: few dispatches, and no family dropped for the length of its keys.
#[test]
fn gpus_get_few_dispatches_whatever_the_length() {
    let mut layer = Spec::new(32, 8, 128);
    layer.rotary = Some(Rotary::new(Pairing::Half, 128, 5e5));
    layer.mask = Mask::causal();
    let mut rotated = layer.clone();
    rotated.rotary.as_mut().unwrap().keys_rotated = true;
    for (card, limits) in cards() {
        let plan = |spec: &Spec, q_len: u32, kv_len: u32| {
            Plan::new(Kernel::Attention, spec, &Shape::new(spec, 1, q_len, kv_len), &limits)
                .unwrap_or_else(|e| panic!("{card}: {q_len} x {kv_len}: {e}"))
        };
        let few = |spec: &Spec, q_len: u32, kv_len: u32, most: usize, family: Family| {
            let plan = plan(spec, q_len, kv_len);
            let (n, found) = (plan.chunks().len(), plan.tuning().family);
            assert!(n <= most && found == family, "{card}: {q_len} x {kv_len}: {n} dispatches of {found:?}");
        };
        for spec in [&layer, &rotated] {
            // prepare_k, prepare_q, main, store_lse
            few(spec, 2048, 2048, 4, Family::Block);
            // the keys' rows, 128 MiB, and half a second of work where nothing is known of the card
            few(spec, 512, 32_768, if card.starts_with("an unknown") { 8 } else { 4 }, Family::Block);
            for keys in [1024, 4096, 32_768, 131_072, 1 << 19] {
                few(spec, 1, keys, 2, Family::Wide);
            }
        }
        // the longest prompt: cut by work alone, by rows of whole tiles
        let mut half = layer.clone();
        half.dtype = Dtype::F16;
        assert_eq!(plan(&half, 1 << 18, 1 << 18).tuning().family, Family::Block, "{card}");
    }
}

/// A pool of 512 Ki rows for one sequence or for many, and packed prompts: append and decode in three dispatches, what docs/engines.md says.
#[test]
fn pools_and_packed_sequences_take_few_dispatches() {
    const ROWS: u32 = 1 << 19;
    let mut layer = Spec::new(32, 8, 128);
    layer.rotary = Some(Rotary::new(Pairing::Half, 128, 5e5));
    (layer.mask, layer.dtype, layer.packed) = (Mask::causal(), Dtype::F16, true);
    let caches = [Cache::Contiguous, Cache::Slots { rows: ROWS }, Cache::Pages { pages: ROWS / 16, page_size: 16 }];
    for (card, limits) in cards() {
        for cache in caches {
            let plan = |kernel, sequences: u32, tokens: [u32; 2], longest: [u32; 2]| {
                let mut shape = Shape::packed(&layer, sequences, tokens[0], tokens[1]);
                ([shape.max_seqlen_q, shape.max_seqlen_k], shape.cache) = (longest, cache);
                Plan::new(kernel, &layer, &shape, &limits).unwrap_or_else(|e| panic!("{card}, {cache:?}: {e}"))
            };
            for (sequences, longest) in [(1, 4096), (1, ROWS), (8, ROWS / 8), (64, 8192), (64, ROWS / 8)] {
                let (tokens, longest) = ([sequences, ROWS], [1, longest]);
                let append = plan(Kernel::Append { rows: Dtype::F16 }, sequences, tokens, longest);
                let decode = plan(Kernel::Attention, sequences, tokens, longest);
                let about = format!("{card}, {cache:?}, {sequences} x {longest:?}: {}", decode.label());
                assert_eq!((append.chunks().len(), decode.chunks().len()), (1, 2), "{about}");
                assert_eq!(decode.tuning().family, Family::Wide, "{about}");
            }
            let prompts = plan(Kernel::Attention, 8, [2048, 2048], [512, 512]);
            assert_eq!((prompts.chunks().len(), prompts.tuning().family), (4, Family::Block), "{card}, {cache:?}");
        }
    }
}
