//! Which kernel a plan takes: candidates, winners on disk and their files, run-time checks; pipelines made ahead. No time is asserted.

#[cfg(feature = "wgpu")]
use crate::common;

use ropewalk::*;

fn spec() -> Spec {
    let mut spec = Spec::new(8, 2, 64);
    (spec.rotary, spec.mask) = (Some(Rotary::new(Pairing::Half, 64, 1e4)), Mask::causal());
    spec
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// The family that takes everything.
fn rows() -> Tuning {
    let shape = Shape::new(&spec(), 1, 1, 1);
    let all = Tuning::candidates(Kernel::Scores, &spec(), &shape, &Limits::default()).unwrap();
    all.into_iter().find(|t| t.family == Family::Rows && t.checks).unwrap()
}

/// Limits of a software adapter and of others.
fn devices() -> [Limits; 3] {
    let large = limits(|l| l.max_binding_size = 2 << 30);
    let lanes = limits(|l| (l.max_binding_size, l.subgroup_size) = (2 << 30, 8));
    [large, large.for_cpu(), lanes.for_cpu()]
}

/// Shapes on both sides of every kind of class.
fn shapes(spec: &Spec) -> Vec<Shape> {
    [(1, 1, 1), (1, 1, 4096), (1, 1024, 1024), (3, 37, 75), (1, 5000, 9000), (70, 2, 256)]
        .map(|(batch, q_len, kv_len)| Shape::new(spec, batch, q_len, kv_len))
        .to_vec()
}

const KERNELS: [Kernel; 4] =
    [Kernel::Attention, Kernel::Scores, Kernel::RotateQ { in_place: false }, Kernel::RotateK { in_place: true }];

#[test]
fn every_candidate_plans_and_what_is_chosen_is_one() {
    for limits in devices() {
        for shape in shapes(&spec()) {
            for kernel in KERNELS {
                let all = Tuning::candidates(kernel, &spec(), &shape, &limits).unwrap();
                assert!(!all.is_empty());
                for tuning in &all {
                    let plan = Plan::with_tuning(kernel, &spec(), &shape, &limits, Some(*tuning)).unwrap();
                    assert_eq!((plan.tuning(), plan.tuning_source()), (tuning, Source::Asked));
                }
                let plan = Plan::new(kernel, &spec(), &shape, &limits).unwrap();
                assert!(all.contains(plan.tuning()), "{:?}", plan.tuning());
                assert!(matches!(plan.tuning_source(), Source::Table { .. }));
                // on software adapters checks stay unless someone asks
                assert!(all.iter().all(|t| t.checks) || !limits.cpu);
            }
        }
    }
}

#[test]
fn the_choice_depends_on_the_call_alone() {
    let calls: Vec<_> = devices()
        .into_iter()
        .flat_map(|limits| shapes(&spec()).into_iter().map(move |shape| (limits, shape)))
        .flat_map(|(limits, shape)| KERNELS.map(|kernel| (kernel, limits, shape)))
        .collect();
    let choose = |(kernel, limits, shape): &(Kernel, Limits, Shape)| {
        let plan = Plan::new(*kernel, &spec(), shape, limits).unwrap();
        (*plan.tuning(), plan.label().to_string())
    };
    let forwards: Vec<_> = calls.iter().map(choose).collect();
    let mut backwards: Vec<_> = calls.iter().rev().map(choose).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    // and not on what the environment says
    let one = &calls[0];
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn({
                let one = *one;
                move || choose_of(one)
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), forwards[0].0);
    }
    fn choose_of((kernel, limits, shape): (Kernel, Limits, Shape)) -> Tuning {
        *Plan::new(kernel, &spec(), &shape, &limits).unwrap().tuning()
    }
}

#[test]
fn buckets_hold_what_a_winner_is_taken_for() {
    let bucket = |change: &dyn Fn(&mut Spec), batch, q_len, kv_len| {
        let mut spec = spec();
        change(&mut spec);
        Bucket::new(Kernel::Attention, &spec, &Shape::new(&spec, batch, q_len, kv_len)).unwrap()
    };
    let same = |_: &mut Spec| ();
    let base = bucket(&same, 1, 200, 2000);
    assert_eq!(base.to_string(), "attention f32 d64 heads4 rows1024 keys4096 causal+rotary");
    // within the classes
    assert_eq!(base, bucket(&same, 2, 65, 1025));
    assert_eq!(
        base,
        bucket(&|s| (s.rotary, s.head_dim) = (Some(Rotary::new(Pairing::Interleaved, 32, 1e6)), 64), 1, 256, 4096)
    );
    // beyond them
    let others = [
        bucket(&same, 3, 200, 2000),
        bucket(&same, 1, 257, 2000),
        bucket(&same, 1, 64, 2000),
        bucket(&same, 1, 200, 1024),
        bucket(&same, 1, 200, 70_000),
        bucket(&|s| s.dtype = Dtype::F16, 1, 200, 2000),
        bucket(&|s| s.mask = Mask::none(), 1, 200, 2000),
        bucket(&|s| s.mask.window_left = Some(5), 1, 200, 2000),
        bucket(&|s| s.rotary = None, 1, 200, 2000),
        bucket(&|s| s.rotary.as_mut().unwrap().keys_rotated = true, 1, 200, 2000),
        bucket(&|s| s.logits_soft_cap = Some(30.0), 1, 200, 2000),
        bucket(&|s| s.bias = vec![Bias::T5 { num_buckets: 8, max_distance: 16, bidirectional: true }], 1, 200, 2000),
        bucket(&|s| s.dense_bias = true, 1, 200, 2000),
        bucket(&|s| (s.head_dim, s.v_head_dim) = (96, 96), 1, 200, 2000),
        bucket(&|s| s.v_head_dim = 62, 1, 200, 2000),
    ];
    let names: std::collections::BTreeSet<String> = others.iter().chain([&base]).map(|b| b.to_string()).collect();
    assert_eq!(names.len(), others.len() + 1, "{names:?}");
    assert!(others[4].to_string().contains("keys-more"));
    // rotations have no keys
    let shape = Shape::new(&spec(), 1, 200, 2000);
    let rotation = Bucket::new(Kernel::RotateK { in_place: true }, &spec(), &shape).unwrap();
    assert_eq!(rotation.to_string(), "rotate_k_in_place f32 d64 heads4 rows4096 rotary");
}

#[test]
fn winners_go_before_the_table_in_their_bucket_where_they_suit() {
    let shape = Shape::new(&spec(), 1, 200, 2000);
    let bucket = Bucket::new(Kernel::Attention, &spec(), &shape).unwrap().to_string();
    let usual = *Plan::new(Kernel::Attention, &spec(), &shape, &Limits::default()).unwrap().tuning();
    let winner = rows().without_checks();
    let with = |tunings: &[(&str, Tuning)]| {
        limits(|l| l.tunings = Tunings::new(tunings.iter().map(|(bucket, t)| (bucket.to_string(), *t))))
    };
    let plan = |limits: &Limits, shape: &Shape| Plan::new(Kernel::Attention, &spec(), shape, limits).unwrap();

    let limits = with(&[(&bucket, winner)]);
    let taken = plan(&limits, &shape);
    assert_eq!((*taken.tuning(), taken.tuning_source()), (winner, Source::Stored));
    // every shape of the bucket, none beside it
    let near = plan(&limits, &Shape::new(&spec(), 2, 65, 1025));
    assert_eq!((*near.tuning(), near.tuning_source()), (winner, Source::Stored));
    let far = plan(&limits, &Shape::new(&spec(), 1, 200, 1024));
    assert_eq!(*far.tuning(), usual);
    assert!(matches!(far.tuning_source(), Source::Table { .. }));

    // what suits nothing here is passed over: numbers of no family, another kind of device's
    let mut odd = usual;
    (odd.tile_q, odd.tile_k, odd.splits) = (u32::MAX, 7, u32::MAX);
    let mut lanes = usual;
    lanes.family = Family::Lanes;
    for unsuitable in [odd, odd.without_checks(), lanes] {
        let plan = plan(&with(&[(&bucket, unsuitable)]), &shape);
        assert_eq!(*plan.tuning(), usual, "{unsuitable:?}");
        assert!(matches!(plan.tuning_source(), Source::Table { .. }));
    }
    // a user's function keeps its checks, whatever won; naga validates one
    #[cfg(feature = "naga")]
    {
        let mut own = spec();
        own.mask_mod = Some("fn mask_mod(at: ScoreAt) -> bool { return at.j != 3u; }".into());
        let bucket = Bucket::new(Kernel::Attention, &own, &shape).unwrap().to_string();
        let plan = Plan::new(Kernel::Attention, &own, &shape, &with(&[(&bucket, winner)])).unwrap();
        assert!(plan.tuning().checks && matches!(plan.tuning_source(), Source::Table { .. }));
    }

    // a set is the same whatever order it came in, and kept once
    let (a, b) = (("a".to_string(), usual), ("b".to_string(), winner));
    let one = Tunings::new([a.clone(), b.clone()]);
    assert_eq!((one, one.len(), one.is_empty()), (Tunings::new([b, a]), 2, false));
    assert!(one.iter().map(|(name, _)| name).eq(["a", "b"]));
    assert!(std::ptr::eq(
        one.iter().next().unwrap().0,
        Tunings::new(one.iter().map(|(n, t)| (n.into(), t))).iter().next().unwrap().0
    ));
}

#[test]
fn a_forced_tuning_goes_before_winners_and_one_that_does_not_suit_is_refused() {
    let shape = Shape::new(&spec(), 1, 200, 2000);
    let bucket = Bucket::new(Kernel::Attention, &spec(), &shape).unwrap().to_string();
    let usual = *Plan::new(Kernel::Attention, &spec(), &shape, &Limits::default()).unwrap().tuning();
    let limits = limits(|l| {
        l.tunings = Tunings::new([(bucket, rows().without_checks())]);
        l.tuning = Some(usual);
    });
    let plan = Plan::new(Kernel::Attention, &spec(), &shape, &limits).unwrap();
    assert_eq!((*plan.tuning(), plan.tuning_source()), (usual, Source::Asked));
    let mut odd = usual;
    odd.tile_q = 3;
    let error = Plan::with_tuning(Kernel::Attention, &spec(), &shape, &Limits::default(), Some(odd)).unwrap_err();
    assert!(error.to_string().contains("does not suit") && error.to_string().contains("candidates"), "{error}");
}

/// What keeps its run-time checks, and the file that the error names.
#[test]
fn checks_stay_where_the_host_does_not_bound_every_index() {
    let plan = |spec: &Spec, kernel: Kernel, limits: &Limits| {
        let mut shape = if spec.packed { Shape::packed(spec, 2, 20, 30) } else { Shape::new(spec, 2, 20, 30) };
        (shape.angle_rows, shape.user_words) = (100, 4);
        Plan::with_tuning(kernel, spec, &shape, limits, Some(rows().without_checks()))
    };
    type Change = fn(&mut Spec);
    let dropped: [(&str, Change); 15] = [
        ("as it is", |_| ()),
        ("f16", |s| s.dtype = Dtype::F16),
        ("odd rows", |s| (s.head_dim, s.v_head_dim, s.rotary) = (33, 7, None)),
        ("lengths", |s| s.kv_lens = true),
        ("ids", |s| s.positions = Positions::Ids),
        ("windows", |s| (s.mask.window_left, s.mask.alignment) = (Some(4), Alignment::TopLeft)),
        ("chunks", |s| s.mask.chunk = Some(5)),
        ("mask", |s| s.mask.dense = true),
        ("dense", |s| s.dense_bias = true),
        ("t5", |s| s.bias = vec![Bias::T5 { num_buckets: 8, max_distance: 16, bidirectional: true }]),
        ("cap", |s| s.logits_soft_cap = Some(20.0)),
        ("packed", |s| s.packed = true),
        ("sinks", |s| s.sink = Some(Sink::Learned)),
        ("float32 angles", |s| s.rotary.as_mut().unwrap().angle = Angle::Float32),
        ("relative rows", |s| s.relative = vec![Relative::new(RelativeSide::Key, IndexMap::distance(-3, 3))]),
    ];
    let kept: [(&str, Change); 4] = [
        ("equation/angle_table.wgsl", |s| s.rotary.as_mut().unwrap().angle = Angle::Table),
        ("equation/score_mod_user.wgsl", |s| {
            s.score_mod = Some("fn score_mod(s: f32, at: ScoreAt) -> f32 { return 2.0 * s; }".into())
        }),
        ("equation/user_at.wgsl", |s| {
            s.mask_mod = Some("fn mask_mod(at: ScoreAt) -> bool { return at.j != 3u; }".into())
        }),
        ("equation/index_lookup.wgsl", |s| {
            let index = IndexMap::LogBucket { buckets: 8, max_position: 32 };
            s.relative = vec![Relative::new(RelativeSide::Key, index)];
        }),
    ];
    for limits in [Limits::default(), Limits::default().for_cpu()] {
        for (name, change) in dropped {
            let mut spec = spec();
            change(&mut spec);
            for kernel in KERNELS {
                if spec.rotary.is_none() && !matches!(kernel, Kernel::Attention | Kernel::Scores) {
                    continue;
                }
                let plan = plan(&spec, kernel, &limits).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert!(!plan.tuning().checks, "{name}");
            }
        }
        for (file, change) in kept {
            let mut spec = spec();
            change(&mut spec);
            // without naga a user's function is refused altogether
            if !cfg!(feature = "naga") && (spec.score_mod.is_some() || spec.mask_mod.is_some()) {
                continue;
            }
            let error = plan(&spec, Kernel::Attention, &limits).expect_err(file).to_string();
            assert!(
                error.contains(file) && error.contains("run-time checks") && error.contains("checks: true"),
                "{file}: {error}"
            );
            let shape = if spec.packed { Shape::packed(&spec, 2, 20, 30) } else { Shape::new(&spec, 2, 20, 30) };
            let mut shape = shape;
            (shape.angle_rows, shape.user_words) = (100, 4);
            let all = Tuning::candidates(Kernel::Attention, &spec, &shape, &limits).unwrap();
            assert!(all.iter().all(|t| t.checks || t.family != Family::Rows), "{file}");
        }
    }
    // its bytes have no index of 32 bits: f16 of 2^32 bytes
    let mut wide = Spec::new(128, 128, 256);
    (wide.dtype, wide.rotary) = (Dtype::F16, Some(Rotary::new(Pairing::Half, 64, 1e4)));
    let limits = limits(|l| l.max_binding_size = u64::MAX);
    for (len, checks) in [(1 << 10, false), (1 << 16, true)] {
        let (kernel, tuning) = (Kernel::RotateQ { in_place: false }, rows().without_checks());
        let plan = Plan::with_tuning(kernel, &wide, &Shape::new(&wide, 1, len, 1), &limits, Some(tuning)).unwrap();
        assert_eq!(plan.tuning().checks, checks, "{len}");
    }
}

/// On GPUs every kernel of these families comes without its checks too; on software adapters none does by itself.
#[test]
fn fast_families_may_drop_their_checks() {
    let shared = limits(|l| (l.subgroup_size, l.max_workgroup_storage) = (32, 49_152));
    for limits in [Limits::default(), shared, shared.for_cpu()] {
        for (kernel, q_len, family) in [
            (Kernel::Attention, 100, Family::Block),
            (Kernel::Attention, 100, Family::Tile),
            (Kernel::Attention, 1, Family::Decode),
            (Kernel::Attention, 1, Family::Wide),
            (Kernel::RotateQ { in_place: false }, 100, Family::Turns),
            (Kernel::RotateK { in_place: true }, 100, Family::Turns),
        ] {
            let all = Tuning::candidates(kernel, &spec(), &Shape::new(&spec(), 2, q_len, 300), &limits).unwrap();
            let some = |checks: bool| -> Vec<Tuning> {
                let some = all.iter().filter(|t| t.family == family && t.checks == checks);
                some.map(|t| t.without_checks()).collect()
            };
            assert!(!some(true).is_empty(), "{family:?}");
            assert_eq!(some(false), if limits.cpu { Vec::new() } else { some(true) }, "{family:?}");
        }
    }
}

#[cfg(feature = "wgpu")]
mod on_disk {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn info(name: &str) -> wgpu::AdapterInfo {
        let mut info = wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan);
        (info.name, info.driver, info.driver_info) = (name.into(), "a driver".into(), "1.2".into());
        info
    }
    fn cache() -> (Bucket, TuningCache) {
        let bucket = Bucket::new(Kernel::Attention, &spec(), &Shape::new(&spec(), 1, 200, 2000)).unwrap();
        let mut cache = TuningCache::new(&info("a card"));
        cache.insert(&bucket, Winner::new(rows().without_checks(), "p1", 1.5, 2.25, "2026-01-02T03:04:05Z".into()));
        (bucket, cache)
    }

    fn names(folder: &Path) -> Vec<String> {
        let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names = all.collect::<Vec<_>>();
        names.sort();
        names
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("winners.json");
        let (bucket, mut saved) = cache();
        saved.save_to(&path).unwrap();
        let (loaded, warnings) = TuningCache::load_from(&path, &info("a card"));
        assert_eq!((&loaded, warnings.len()), (&saved, 0));
        assert_eq!(loaded.tunings().get(&bucket), Some(rows().without_checks()));
        // written over, whole, and nothing else left behind
        let mut changed = loaded.clone();
        changed.remove(&bucket);
        changed.save_to(&path).unwrap();
        assert_eq!(TuningCache::load_from(&path, &info("a card")).0.winners().len(), 0);
        assert_eq!(names(&folder.path().join("new")), ["winners.json", "winners.json.lock"]);
        // none is no warning
        let (none, warnings) = TuningCache::load_from(&folder.path().join("none.json"), &info("a card"));
        assert_eq!((none.winners().len(), warnings.len()), (0, 0));
        // a folder that cannot be made
        let error = saved.save_to(&path.join("below a file").join("winners.json")).unwrap_err().to_string();
        assert!(error.contains("cannot be written") && error.contains("ROPEWALK_CACHE"), "{error}");
    }

    fn bucket(head_dim: u32, q_len: u32, kv_len: u32) -> Bucket {
        let spec = Spec::new(1, 1, head_dim);
        Bucket::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, q_len, kv_len)).unwrap()
    }
    fn winner() -> Winner {
        Winner::new(rows(), "p1", 1.5, 2.25, "2026-01-02T03:04:05Z".into())
    }

    #[test]
    fn what_others_saved_since_a_file_was_loaded_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("winners.json");
        let [a, b, c] = [32, 64, 96].map(|dim| bucket(dim, 1, 1));
        let mut first = TuningCache::new(&info("a card"));
        first.insert(&a, winner());
        first.save_to(&path).unwrap();
        // both load before either saves, as two runs of minutes do
        let [mut one, mut other] = [0, 1].map(|_| TuningCache::load_from(&path, &info("a card")).0);
        one.insert(&b, winner());
        one.remove(&a);
        other.insert(&c, winner());
        one.save_to(&path).unwrap();
        other.save_to(&path).unwrap();
        let kept = TuningCache::load_from(&path, &info("a card")).0;
        assert_eq!(kept.winners().keys().collect::<Vec<_>>(), [&b.to_string(), &c.to_string()]);
        // a change is written once: saved again, it does not undo what others made of it since
        let mut newer = kept;
        newer.remove(&b);
        newer.insert(&a, winner());
        newer.save_to(&path).unwrap();
        one.insert(&bucket(128, 1, 1), winner());
        one.save_to(&path).unwrap();
        let kept = TuningCache::load_from(&path, &info("a card")).0;
        let names = [&a, &c, &bucket(128, 1, 1)].map(|bucket| bucket.to_string());
        assert_eq!(kept.winners().keys().cloned().collect::<std::collections::BTreeSet<_>>(), names.into());
    }

    /// This test is the program too, which it starts twice.
    #[test]
    fn two_programs_that_save_at_once_lose_nothing() {
        const NAME: &str = "tuning::on_disk::two_programs_that_save_at_once_lose_nothing";
        const HERE: &str = "ROPEWALK_TEST_SAVES";
        let sizes = [1, 64, 256, 1024, 4096].into_iter().flat_map(|q| [1, 1024, 4096, 16_384].map(|kv| (q, kv)));
        if let Ok(told) = std::env::var(HERE) {
            let (dim, path) = told.split_once(' ').unwrap();
            for (q_len, kv_len) in sizes {
                let mut cache = TuningCache::new(&info("a card"));
                cache.insert(&bucket(dim.parse().unwrap(), q_len, kv_len), winner());
                cache.save_to(Path::new(path)).unwrap();
            }
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("winners.json");
        let start = |dim: u32| {
            let mut program = std::process::Command::new(std::env::current_exe().unwrap());
            program.args(["--exact", NAME]).env(HERE, format!("{dim} {}", path.display())).spawn().unwrap()
        };
        for mut program in [32, 64].map(start) {
            assert!(program.wait().unwrap().success());
        }
        let (kept, warnings) = TuningCache::load_from(&path, &info("a card"));
        assert_eq!((kept.winners().len(), warnings), (2 * sizes.count(), Vec::new()));
        assert_eq!(names(folder.path()), ["winners.json", "winners.json.lock"]);
    }

    /// Every way in which a file is not what it should be: nothing is taken from it, and the warning says which file and why.
    #[test]
    fn damaged_and_foreign_files_are_ignored_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("winners.json");
        cache().1.save_to(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let with = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1).into_bytes()
        };
        let version = format!("\"ropewalk\": \"{}\"", env!("CARGO_PKG_VERSION"));
        let deep = "[".repeat(100_000).into_bytes();
        let huge = [good.as_bytes(), &b" ".repeat(2 << 20)].concat();
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (Vec::new(), "is empty"),
            (b"\n".to_vec(), "no file of winners"),
            (good.as_bytes()[..good.len() / 2].to_vec(), "no file of winners"),
            (vec![0xff; 300], "no file of winners"),
            (deep, "no file of winners"),
            (huge, "is larger than 1048576 bytes"),
            (b"{}".to_vec(), "missing field `schema`"),
            (b"{\"schema\": 1}".to_vec(), "missing field"),
            (with("\"schema\": 1", "\"schema\": 2"), "has schema 2, this version reads 1"),
            (with("\"schema\": 1", "\"schema\": -1"), "no file of winners"),
            (with(&version, "\"ropewalk\": \"0.0.9\""), "is of ropewalk \"0.0.9\""),
            (with("a card", "another card"), "is of adapter \"Vulkan another card\", here is \"Vulkan a card\""),
            (with("1.2", "1.3"), "is of driver \"a driver 1.3\""),
            (with("\"family\": \"rows\"", "\"family\": \"unknown\""), "the winner of \"attention f32"),
            (with("\"tile_q\": 0", "\"tile_q\": 4294967296"), "the winner of \"attention f32"),
            (with("\"tile_q\": 0", "\"tile_q\": -1"), "the winner of \"attention f32"),
            (with("\"checks\": false", "\"checks\": 0"), "the winner of \"attention f32"),
            (with("\"ms\": 1.5", "\"ms\": \"fast\""), "the winner of \"attention f32"),
        ];
        for (bytes, why) in cases {
            fs::write(&path, &bytes).unwrap();
            let (loaded, warnings) = TuningCache::load_from(&path, &info("a card"));
            assert_eq!((loaded.winners().len(), warnings.len()), (0, 1), "{why}: {warnings:?}");
            let warning = &warnings[0];
            assert!(warning.contains(why) && warning.contains("winners.json"), "{why}: {warning}");
            assert!(warning.contains("ignored") && warning.contains("ropewalk tune"), "{warning}");
        }
        let (_, warnings) = TuningCache::load_from(folder.path(), &info("a card"));
        assert!(warnings[0].contains("is not a regular file"), "{warnings:?}");
        // one bad winner leaves the others
        let two = with("\"winners\": {", "\"winners\": { \"x\": 5,");
        fs::write(&path, two).unwrap();
        let (loaded, warnings) = TuningCache::load_from(&path, &info("a card"));
        assert_eq!((loaded.winners().len(), warnings.len()), (1, 1));
        assert!(warnings[0].contains("the winner of \"x\" is ignored"), "{warnings:?}");
    }

    #[test]
    fn adapters_and_drivers_have_files_of_their_own() {
        let paths = [info("a card"), info("a card!"), info("b/../card"), {
            let mut other = info("a card");
            other.driver_info = "1.3".into();
            other
        }]
        .map(|info| TuningCache::path(&info));
        let Some(first) = paths[0].clone() else { return };
        for (i, path) in paths.iter().enumerate() {
            let path = path.as_ref().unwrap();
            assert_eq!(path.parent(), first.parent(), "names stay within the folder");
            assert!(paths.iter().skip(i + 1).all(|other| other.as_ref() != Some(path)));
        }
    }

    mod pipelines {
        use super::*;

        #[test]
        fn pipelines_are_made_once_ahead_and_shared() {
            for gpu in common::gpus() {
                let plan = |kernel, q_len, kv_len| {
                    Plan::new(kernel, &spec(), &Shape::new(&spec(), 1, q_len, kv_len), gpu.limits()).unwrap()
                };
                let rotate = Kernel::RotateQ { in_place: false };
                let plans = [plan(rotate, 30, 50), plan(rotate, 50, 70), plan(Kernel::Scores, 3, 5)];
                let pipelines = Pipelines::new(gpu.device().clone());
                assert!(pipelines.is_empty());
                let time = pipelines.warm(gpu.queue(), &plans).unwrap();
                println!("{}: two pipelines warmed in {time:?}", gpu.describe());
                assert_eq!(pipelines.len(), 2, "plans of one text share a pipeline");
                assert!(time > std::time::Duration::ZERO);
                assert_eq!(pipelines.warm(gpu.queue(), &plans).unwrap(), std::time::Duration::ZERO);
                for plan in &plans {
                    let pipeline = pipelines.get(plan).unwrap();
                    assert_eq!(pipeline.plan().shape(), plan.shape());
                    assert!(pipeline.compile_time() > std::time::Duration::ZERO);
                }
                // one that keeps its checks is not one that drops them
                let shape = Shape::new(&spec(), 1, 3, 5);
                let made = [rows(), rows().without_checks()].map(|tuning| {
                    let plan = Plan::with_tuning(Kernel::Scores, &spec(), &shape, gpu.limits(), Some(tuning)).unwrap();
                    pipelines.get(&plan).unwrap()
                });
                assert!(made[0].for_plan(made[1].plan()).is_err());
                assert_eq!(pipelines.len(), 3);
            }
        }

        /// Results without run-time checks have the bits of those with them, past the ends of windows, keys and rows too.
        #[test]
        fn unchecked_shaders_give_the_same_bits() {
            let mut windowed = spec();
            (windowed.mask.window_left, windowed.mask.alignment) = (Some(3), Alignment::TopLeft);
            let mut lengths = spec();
            (lengths.kv_lens, lengths.mask.dense) = (true, false);
            for gpu in common::gpus() {
                for spec in [&spec(), &windowed, &lengths] {
                    for (q_len, kv_len) in [(37, 75), (75, 20)] {
                        let mut inputs = common::inputs(spec, 2, q_len, kv_len, 1);
                        inputs.kv_lens = spec.kv_lens.then(|| vec![kv_len, kv_len / 3]);
                        let run = |checks: bool| {
                            let mut limits = *gpu.limits();
                            let tuning = if checks { rows() } else { rows().without_checks() };
                            limits.tuning = Some(tuning);
                            let gpu = gpu.with_limits(limits);
                            let (output, stats) = gpu.attention_with(spec, &inputs, &|_| ()).unwrap();
                            assert_eq!(stats.tuning, Some(Source::Asked));
                            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                            (bits(&output.out), bits(&output.lse))
                        };
                        assert_eq!(run(true), run(false), "{spec:?} {q_len} {kv_len}");
                    }
                }
            }
        }

        /// A device whose pipelines are kept: what one run saves the next reads; a damaged file is ignored with a warning.
        #[test]
        fn pipelines_are_kept_on_disk() {
            use std::process::Command;
            // the folder is the environment's, which only a process of its own may set
            if std::env::var_os("ROPEWALK_TEST_KEEPS").is_none() {
                let folder = tempfile::tempdir().unwrap();
                let name = "tuning::on_disk::pipelines::pipelines_are_kept_on_disk";
                let mut command = Command::new(std::env::args_os().next().unwrap());
                command.args([name, "--exact", "--nocapture"]).env("ROPEWALK_CACHE", folder.path());
                let output = command.env("ROPEWALK_TEST_KEEPS", "1").output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "no test of the name {name}");
                return;
            }
            let mut options = GpuOptions::default();
            options.keep_pipelines = true;
            let Ok(gpu) = Gpu::open(&options) else { return drop(common::gpus()) };
            assert!(gpu.warnings().is_empty());
            let folder = std::env::var_os("ROPEWALK_CACHE").unwrap();
            let kept = Path::new(&folder).join("pipelines");
            gpu.save_pipelines().unwrap();
            assert!(!kept.exists(), "nothing was compiled");
            let inputs = common::inputs(&spec(), 1, 3, 5, 1);
            let first = gpu.rotate(&spec(), &inputs).unwrap();
            gpu.save_pipelines().unwrap();
            let has = gpu.device().features().contains(wgpu::Features::PIPELINE_CACHE);
            if !has || !kept.exists() {
                return common::left_out("the driver keeps no pipelines");
            }
            let file = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
            let again = Gpu::open(&options).unwrap();
            assert!(again.warnings().is_empty(), "{:?}", again.warnings());
            assert_eq!(again.rotate(&spec(), &inputs).unwrap(), first);
            let mut bytes = fs::read(&file).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(&file, &bytes).unwrap();
            let damaged = Gpu::open(&options).unwrap();
            assert!(matches!(damaged.warnings(), [w] if w.contains("is damaged")), "{:?}", damaged.warnings());
            assert_eq!(damaged.rotate(&spec(), &inputs).unwrap(), first);
            damaged.save_pipelines().unwrap();
            assert!(Gpu::open(&options).unwrap().warnings().is_empty());
        }
    }
}

#[test]
fn candidates_of_an_impossible_call_are_the_error_of_its_plan() {
    let plain = spec();
    let mut packed = plain.clone();
    packed.packed = true;
    type Change<T> = fn(&mut T, u32);
    let shapes: [Change<Shape>; 3] = [|s, n| s.batch = n, |s, n| s.q_len = n, |s, n| s.kv_len = n];
    let sequences: [Change<Shape>; 3] = [|s, n| s.sequences = n, |s, n| s.max_seqlen_q = n, |s, n| s.max_seqlen_k = n];
    let fields: [Change<Limits>; 4] = [
        |l, n| l.max_workgroups = n,
        |l, n| l.max_workgroup_storage = n,
        |l, n| l.max_invocations = n,
        |l, n| l.max_storage_buffers = n,
    ];
    let kernels =
        [Kernel::Attention, Kernel::Scores, Kernel::RotateQ { in_place: false }, Kernel::RotateK { in_place: true }];
    let mut refused = 0;
    for (kernel, limits) in kernels.into_iter().flat_map(|k| devices().map(|l| (k, l))) {
        let mut expect = |spec: &Spec, shape: &Shape, limits: &Limits| {
            let error = Tuning::candidates(kernel, spec, shape, limits).expect_err("impossible");
            let of_plan = Plan::new(kernel, spec, shape, limits).expect_err("impossible");
            assert_eq!(error.to_string(), of_plan.to_string());
            refused += 1;
        };
        for change in shapes {
            for n in [0, u32::MAX] {
                let mut shape = Shape::new(&plain, 2, 70, 70);
                change(&mut shape, n);
                // so many sequences are a question of their tensors' sizes, not of a division
                if shape.batch != u32::MAX {
                    expect(&plain, &shape, &limits);
                }
            }
        }
        for change in sequences {
            for n in [0, u32::MAX] {
                let mut shape = Shape::packed(&packed, 3, 70, 70);
                change(&mut shape, n);
                expect(&packed, &shape, &limits);
            }
        }
        for change in fields {
            let mut limits = limits;
            change(&mut limits, 0);
            expect(&plain, &Shape::new(&plain, 2, 70, 70), &limits);
        }
        // numbers that no device has, and that no candidate needs
        let odd: [fn(&mut Limits); 6] = [
            |l| l.max_binding_size = 0,
            |l| l.max_loop_rounds = 0,
            |l| l.max_flop_per_dispatch = f64::NAN,
            |l| l.subgroup_size = u32::MAX,
            |l| l.cooperative_matrix = u32::MAX,
            |l| l.max_invocations = u32::MAX,
        ];
        for change in odd {
            let mut limits = limits;
            change(&mut limits);
            Tuning::candidates(kernel, &plain, &Shape::new(&plain, 2, 70, 70), &limits).expect("a possible call");
        }
    }
    assert_eq!(refused, 4 * 3 * (5 + 6 + 4));
}

/// Numbers that no candidate has reach no arithmetic: they are refused, in debug builds too.
#[test]
fn a_tuning_of_impossible_numbers_is_refused() {
    let spec = Spec::new(4, 2, 64);
    let shape = Shape::new(&spec, 1, 64, 64);
    for family in ["block", "rows", "tile", "decode", "lanes", "turns", "wide"] {
        for n in [1, 3, 1 << 31, u32::MAX] {
            for checks in [true, false] {
                let mut tuning: Tuning = family.parse().unwrap();
                (tuning.tile_q, tuning.tile_k, tuning.splits, tuning.checks) = (n, n, n, checks);
                let limits = Limits::default();
                Plan::with_tuning(Kernel::Attention, &spec, &shape, &limits, Some(tuning)).expect_err("refused");
            }
        }
    }
}
