//! The families `tile` and `block`, forced where a device would not choose it: every tile against the bounds, at both sides of its edges; every slot that
//! it serves; the rules for NaN; the same bits every time; texts for devices that are not here.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, inputs, opened};
use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use ropewalk::case::CaseId;
use ropewalk::*;

/// Adapters with WebGPU's default limits, and with all of their limits and features.
fn devices() -> Vec<Gpu> {
    let mut all = gpus();
    if !all.is_empty() {
        all.extend(opened(&GpuOptions::default()));
    }
    all
}

/// The tiles that suit; none where the family leaves the call to another.
fn tiles(spec: &Spec, shape: &Shape, limits: &Limits) -> Vec<Tuning> {
    let all = Tuning::candidates(Kernel::Attention, spec, shape, limits).expect("a valid spec");
    all.into_iter().filter(|t| matches!(t.family, Family::Tile | Family::Block)).collect()
}

/// The result of a tile.
fn run(gpu: &Gpu, tuning: Tuning, spec: &Spec, inputs: &Inputs) -> Output<f32> {
    let mut limits = *gpu.limits();
    limits.tuning = Some(tuning);
    let (out, stats) = gpu.with_limits(limits).attention_with(spec, inputs, &|_| ()).expect("it runs");
    let tile = format!("q{}k{}", tuning.tile_q, tuning.tile_k);
    let family = format!(".{}", tuning.family.name());
    assert!(stats.kernel.contains(&family) && stats.kernel.contains(&tile), "{} is not {tuning:?}", stats.kernel);
    out
}

fn check(gpu: &Gpu, tuning: Tuning, spec: &Spec, inputs: &Inputs, what: &str) {
    let got = run(gpu, tuning, spec, inputs);
    let (out, lse) = check::attention(spec, inputs).expect("bounds");
    for (name, worst) in [("out", out.worst(&got.out)), ("lse", lse.worst(&got.lse))] {
        assert!(worst.failures == 0 && worst.unbounded < worst.elements, "{what}, {name}, {tuning:?}: {worst:?}");
    }
}

fn rotated(heads: u32, kv_heads: u32, dim: u32, v_dim: u32) -> Spec {
    let mut spec = Spec::new(heads, kv_heads, dim);
    (spec.v_head_dim, spec.mask) = (v_dim, Mask::causal());
    spec.rotary = Some(Rotary::new(Pairing::Half, dim / 2 * 2, 10_000.0));
    spec
}

/// Heads of every size and every number of rows that share a key, at both sides of the edges of tiles of rows and keys.
#[test]
fn tiles_within_their_bounds() {
    for gpu in devices() {
        // head_dim, v_head_dim, heads, kv heads, storage
        let specs = [
            (8, 8, 3, 3, Dtype::F32),
            (33, 33, 3, 1, Dtype::F16),
            (64, 64, 4, 2, Dtype::F32),
            (64, 96, 8, 2, Dtype::Bf16),
            (80, 80, 7, 1, Dtype::F32),
            (96, 40, 8, 1, Dtype::F16),
            (128, 128, 4, 1, Dtype::F32),
            (192, 128, 2, 2, Dtype::F32),
            (256, 256, 2, 1, Dtype::F32),
        ];
        // what a device has beyond the defaults changes tiles and reductions alone
        let step = if gpu.limits().max_workgroup_storage > 16_384 { 3 } else { 1 };
        for (n, (dim, v_dim, heads, kv_heads, dtype)) in specs.into_iter().enumerate().step_by(step) {
            let mut spec = rotated(heads, kv_heads, dim, v_dim);
            spec.dtype = dtype;
            let all = tiles(&spec, &Shape::new(&spec, 1, 70, 140), gpu.limits());
            assert!(!all.is_empty(), "no tile for {dim}");
            // another family and tile for every spec
            let group = heads / kv_heads;
            let families: Vec<_> = all.chunk_by(|a, b| a.family == b.family).collect();
            let all = families[n % families.len()];
            for tuning in [all[n / families.len() % all.len()]] {
                let (rows, keys) = (tuning.tile_q.div_ceil(group), tuning.tile_k);
                for (q_len, kv_len) in
                    [(1, 1), (rows - 1, keys - 1), (rows, keys), (rows + 1, keys + 1), (5, 2 * keys + 3)]
                {
                    let q_len = q_len.max(1);
                    let inputs = inputs(&spec, 1, q_len, kv_len, 3 + n as u64);
                    check(&gpu, tuning, &spec, &inputs, &format!("d {dim}, q {q_len}, k {kv_len}"));
                }
            }
        }
    }
}

/// Masks, terms, norms, positions, layouts, sinks, packed sequences, the user's functions: cases of `validate`, every tile in turn.
#[test]
fn slots_within_their_bounds() {
    let cases = [
        "attention/no-mask/q37k75/f32/seed1",
        "attention/top-left/q75k37/f32/seed1",
        "attention/window-two-sided/q75k75/f32/seed1",
        "attention/chunk-two-sided/q75k75/f32/seed1",
        "attention/mask-empty-rows/q37k75/f32/seed1",
        "attention/unseen-nan/q37k75/f16/seed1",
        "attention/dense-minus-infinity+cap/q37k75/f32/seed1",
        "attention/two-tables+kv-lens/q37k75/bf16/seed1",
        "attention/wavlm/q37k75/f32/seed1",
        "attention/deberta/q75k130/f32/seed1",
        "attention/rms-norm-weights/q37k75/f32/seed1",
        "attention/rotated-keys+interleaved/q37k75/f32/seed1",
        "attention/xpos+gaps/q37k75/f16/seed1",
        "attention/three-streams/q37k75/f32/seed1",
        "attention/temperature-and-head-scale+sink/q37k75/f32/seed1",
        "attention/ragged/q75k130/f32/seed1",
        "attention/own-score+own-mask/q37k75/f32/seed1",
        "attention/nan-query/q37k75/f32/seed1",
    ];
    for gpu in gpus() {
        for (n, address) in cases.into_iter().enumerate() {
            let case = address.parse::<CaseId>().and_then(|id| id.build()).unwrap_or_else(|e| panic!("{address}: {e}"));
            let shape = Problem::new(&case.spec, &case.inputs).expect("a case is a problem").shape();
            let all = tiles(&case.spec, &shape, gpu.limits());
            assert!(!all.is_empty(), "no tile for {address}");
            // families and tiles in turn: a driver compiles each for seconds
            let families: Vec<_> = all.chunk_by(|a, b| a.family == b.family).collect();
            let all = families[n % families.len()];
            check(&gpu, all[n / families.len() % all.len()], &case.spec, &case.inputs, address);
        }
    }
}

/// What the family leaves to others.
#[test]
fn others_take_the_rest() {
    let limits = Limits::default();
    let mut values = rotated(4, 2, 64, 64);
    values.rotary.as_mut().expect("it has one").values = true;
    let mut wide = rotated(4, 2, 64, 64);
    wide.relative = vec![Relative::new(RelativeSide::Key, IndexMap::distance(-200, 200))];
    for spec in [values, wide] {
        let shape = Shape::new(&spec, 1, 40, 40);
        assert_eq!(tiles(&spec, &shape, &limits), []);
        assert!(Plan::new(Kernel::Attention, &spec, &shape, &limits).is_ok());
    }
    // a device takes it, a software adapter does not by itself
    let spec = rotated(4, 2, 64, 64);
    let shape = Shape::new(&spec, 1, 40, 40);
    let family = |limits: &Limits| Plan::new(Kernel::Attention, &spec, &shape, limits).map(|p| p.tuning().family);
    assert_eq!(family(&limits).ok(), Some(Family::Block));
    assert!(!matches!(family(&limits.for_cpu()).ok(), Some(Family::Tile | Family::Block)));
}

/// A key that a row does not see has no influence on it, whatever stands in its k and v; one that it sees has, whatever its weight.
#[test]
fn values_that_are_not_finite() {
    for gpu in gpus() {
        let mut spec = rotated(2, 1, 64, 64);
        spec.mask.window_left = Some(100);
        for tuning in tiles(&spec, &Shape::new(&spec, 1, 80, 140), gpu.limits()) {
            let clean = inputs(&spec, 1, 80, 140, 9);
            // row i sees keys to i + 60: both in tiles that all rows of a workgroup see and in others
            let [at_k, at_v] = [133u32, 97];
            let mut k = clean.k.data().to_f32();
            let mut v = clean.v.data().to_f32();
            k[at_k as usize * 64 + 5] = f32::NAN;
            v[at_v as usize * 64 + 7] = f32::INFINITY;
            v[at_k as usize * 64 + 9] = f32::NAN;
            let tensor = |x: Vec<f32>| Tensor::bshd(x, [1, 140, 1, 64]).expect("one element an index");
            let mut dirty = clean.clone();
            (dirty.k, dirty.v) = (tensor(k), tensor(v));
            let [want, got] = [&clean, &dirty].map(|inputs| run(&gpu, tuning, &spec, inputs));
            for (at, (x, y)) in want.out.iter().zip(&got.out).enumerate() {
                let (i, c) = ((at / 128) as u32, at % 64);
                let sees = |j: u32| j <= i + 60 && j + 100 >= i + 60;
                match (sees(at_k), sees(at_v) && c == 7) {
                    (true, _) => assert!(y.is_nan(), "row {i} sees a NaN key: {y}"),
                    (false, true) => assert_eq!(*y, f32::INFINITY, "row {i} sees an infinite value"),
                    (false, false) => assert_eq!(x.to_bits(), y.to_bits(), "row {i}, column {c}"),
                }
            }
        }
    }
}

#[test]
fn the_same_bits_every_time() {
    for gpu in devices() {
        let spec = rotated(7, 1, 64, 64);
        for tuning in tiles(&spec, &Shape::new(&spec, 2, 33, 130), gpu.limits()) {
            let inputs = inputs(&spec, 2, 33, 130, 4);
            let first = run(&gpu, tuning, &spec, &inputs);
            for _ in 0..3 {
                assert_eq!(first, run(&gpu, tuning, &spec, &inputs), "{tuning:?}");
            }
        }
    }
}

/// Tiles for more workgroup memory and subgroups of every size, on devices that need not be here: naga takes their text, and it keeps to the
/// device's memory.
#[test]
fn texts_for_other_devices() {
    let mut shapes = std::collections::BTreeSet::new();
    for size in [0, 4, 8, 16, 32, 64, 128] {
        for storage in [16_384, 32_768, 49_152] {
            let mut limits = Limits::default();
            (limits.subgroup_size, limits.max_workgroup_storage) = (size, storage);
            for dim in [64, 128, 256] {
                let mut spec = rotated(4, 2, dim, dim);
                spec.bias = vec![Bias::Table { min: -8, max: 0 }];
                let shape = Shape::new(&spec, 1, 300, 300);
                for tuning in tiles(&spec, &shape, &limits) {
                    let plan =
                        Plan::with_tuning(Kernel::Attention, &spec, &shape, &limits, Some(tuning)).expect("a plan");
                    let text = plan.wgsl(Target::Native);
                    let module =
                        naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
                    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP);
                    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
                    validator
                        .validate(&module)
                        .unwrap_or_else(|e| panic!("{}: {}", plan.label(), e.emit_to_string(text)));
                    let mut layouter = naga::proc::Layouter::default();
                    layouter.update(module.to_ctx()).expect("types have layouts");
                    let shared =
                        module.global_variables.iter().filter(|(_, g)| g.space == naga::AddressSpace::WorkGroup);
                    let bytes: u32 = shared.map(|(_, g)| layouter[g.ty].size.next_multiple_of(16)).sum();
                    assert!(bytes <= storage, "{}: {bytes} of {storage} bytes", plan.label());
                    shapes.insert((tuning.tile_q, tuning.tile_k, plan.label().contains(".sg")));
                }
            }
        }
    }
    assert!(shapes.len() >= 12, "{shapes:?}");
}
