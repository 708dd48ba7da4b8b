//! Public pure functions with numbers that no model has. Results are compared with arithmetic that cannot overflow, so that a wrap is found
//! in builds without overflow checks too.

use ropewalk::*;

const COUNTS: [u32; 12] = [0, 1, 2, 3, 5, 64, 1 << 15, 3253, 1 << 30, i32::MAX as u32, 1 << 31, u32::MAX];

#[test]
fn buckets_of_any_distance_are_buckets() {
    for (buckets, max) in COUNTS.into_iter().flat_map(|b| COUNTS.map(|m| (b, m))) {
        for d in [0, 1, -1, 7, -64, 1_134_026_869, i32::MAX, i32::MIN + 1, i32::MIN] {
            for bidirectional in [false, true] {
                let bucket = t5_bucket(d, buckets, max, bidirectional);
                assert!(bucket < buckets.max(1), "{bucket} of {buckets}, {max}, distance {d}");
            }
        }
        let mid = (buckets / 2) as i128;
        let far = |d: i64| log_bucket(d, buckets, max) as i128;
        for d in [0, 1, 2, mid as i64, mid as i64 + 1, 1 << 20, u32::MAX as i64, i64::MAX] {
            assert_eq!(far(d), -far(-d), "{buckets} buckets, {max}, distance {d}");
        }
        // the last two distances share a bucket, but for those that have one each
        match mid {
            0 => assert_eq!(far(i64::MIN), i64::MIN as i128),
            _ => assert_eq!(far(i64::MIN), far(i64::MIN + 1), "{buckets} buckets, {max}"),
        }
    }
}

#[test]
fn slopes_and_offsets_are_as_many_as_there_are_heads_and_distances() {
    for n in COUNTS {
        let slopes = alibi_slopes(n);
        assert_eq!(slopes.len() as u32, if n <= MAX_HEADS { n } else { 0 });
        let side = |n: u32| if n <= 2048 { (2 * n as usize).saturating_sub(1) } else { 0 };
        assert_eq!(log_cpb_offsets(n, 3, Some([n, 0])).len(), 5 * side(n));
        assert_eq!(log_cpb_offsets(3, n, None).len(), 5 * side(n));
        assert_eq!(log_cpb_offsets(n, 1, Some([0, n])).len(), side(n));
    }
}

#[test]
fn tables_of_any_size_are_counted_and_refused() {
    let most = |n: u128| n.min(u64::MAX as u128) as u64;
    for (height, width) in COUNTS.into_iter().flat_map(|h| COUNTS.map(|w| (h, w))) {
        for class in [false, true] {
            let side = |n: u32| (2 * n as u128).saturating_sub(1);
            let rows = side(height) * side(width) + if class { 3 } else { 0 };
            let index = IndexMap::Grid { height, width, class };
            assert_eq!(index.rows(), most(rows));
            for heads in [1, u32::MAX] {
                let mut spec = Spec::new(heads, heads, u32::MAX);
                spec.bias =
                    vec![Bias::Indexed { index }, Bias::LogCpb { height, width, pretrained: None, hidden: width }];
                spec.relative = vec![Relative::new(RelativeSide::Key, index)];
                spec.relative[0].per_head = true;
                for p in spec.parameters() {
                    assert_eq!(p.len(), most(p.shape.iter().map(|n| *n as u128).fold(1, |a, n| a.saturating_mul(n))));
                }
                let _ = (spec.terms(), spec.position_streams(), spec.group(), spec.scale(), spec.features());
                spec.validate().expect_err("a head of 2^32 - 1");
            }
        }
        let mut spec = Spec::new(2, 2, 8);
        spec.bias = vec![Bias::LogCpb { height, width, pretrained: None, hidden: u32::MAX }];
        (spec.positions, spec.schema) = (Positions::Ids, SCHEMA);
        let error = Spec::from_json(&spec.to_json()).expect_err("a layer of 2^32 - 1").to_string();
        assert!(
            error.contains(if height.max(width) > 2048 || height.min(width) == 0 { "window" } else { "hidden" }),
            "{error}"
        );
    }
    for (min, max) in [(i32::MIN, i32::MAX), (i32::MAX, i32::MIN), (0, -1), (i32::MIN, i32::MIN)] {
        let mut spec = Spec::new(2, 2, 8);
        spec.bias = vec![Bias::Table { min, max }];
        assert_eq!(IndexMap::distance(min, max).rows(), (max as i64 - min as i64 + 1).max(0) as u64);
        assert_eq!(spec.validate().is_ok(), min == max);
        let rows = (max as i64 - min as i64 + 1).clamp(0, u32::MAX as i64);
        assert_eq!(spec.parameters()[0].len(), 2 * rows as u64);
    }
}

#[test]
fn rotations_of_any_width_are_refused_at_once() {
    for dim in COUNTS {
        let all = [
            Rotary::pixtral(dim, 1e4),
            Rotary::qwen2_vl_vision(dim, 1e4),
            Rotary::gemma4_vision(dim, 1e4),
            Rotary::llama4_vision(dim, 1e4),
            Rotary::dinov3(dim, 1e4, [dim.max(1), 1]),
            Rotary::eva02(dim, 1e4, Some([1, dim.clamp(1, 1 << 20)])),
        ];
        assert!(all.iter().all(|r| r.is_ok() == (dim == 64)), "{dim}");
        let plain = Rotary::new(Pairing::Half, dim, 1e4);
        assert_eq!(plain.inv_freq().len() as u32, dim.min(1 << 16) / 2);
        for order in [Sections::Contiguous, Sections::Interleaved, Sections::Alternating] {
            let sections = plain.clone().with_sections(order, [dim / 2, 0, 0]);
            assert!(sections.is_err() || dim <= MAX_HEAD_DIM, "{dim}");
            plain.clone().with_sections(order, [dim, u32::MAX, u32::MAX]).expect_err("too many");
        }
        let whole = (2..=1 << 16).contains(&dim) && dim.is_multiple_of(2);
        assert_eq!(RopeScaling::Default.inv_freq(1e4, dim).is_ok(), whole, "{dim}");
        let mut spec = Spec::new(1, 1, 64);
        spec.rotary = Some(plain);
        spec.rotary.iter_mut().for_each(|r| r.offset = dim | 64);
        spec.validate().expect_err("leaves the head");
    }
    for f in [0.0, -0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::INFINITY, f64::NAN, -65536.0] {
        for position in [0, 1, -1, i32::MAX, i32::MIN] {
            let _ = phase::phase(position, phase::increment(f));
        }
    }
    for floor in COUNTS {
        for position in [i32::MIN, -1, 0, i32::MAX] {
            assert!(Temperature::new(0.1, floor).tau(position) >= 1.0);
        }
    }
}

#[test]
fn positions_of_more_tokens_than_a_call_takes_are_none() {
    for n in COUNTS.into_iter().filter(|n| *n <= 3253 || *n > 1 << 30) {
        let few = n <= 3253;
        let grid = PatchPositions::grid([2, 3]).unwrap();
        assert_eq!(grid.for_batch(n).map_or(0, |p| p.len()), if few { 12 * n as usize } else { 0 });
        assert_eq!(grid.clone().with_prefix(n).map_or(0, |p| p.rows.len()), if few { 6 + n as usize } else { 0 });
        assert_eq!(grid_positions(1, n, false, 2).map_or(0, |p| p.len()), if few { 4 * n as usize } else { 0 });
        assert_eq!(grid_positions(2, 1, true, n).map_or(0, |p| p.len()), if few { 6 * n as usize } else { 0 });
        let windows = grid_positions(n, n, false, n.max(1 << 10)).map_or(0, |p| p.len());
        assert_eq!(windows, if n <= 64 { 2 * (n * n) as usize * 1024 } else { 0 });
        let square = PatchPositions::grid([n, n.max(1 << 10)]);
        assert_eq!(square.is_ok(), (1..=3253).contains(&n), "{n}");
    }
}
