//! Composed modules against the host's own account of them, by reflection: bindings, uniforms, workgroup memory, lines.

use naga::valid::{Capabilities, GlobalUse, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Module, ScalarKind, StorageAccess, TypeInner};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rayon::prelude::*;
use ropewalk::*;
use std::collections::{BTreeMap, BTreeSet};

/// What WebGPU's core has. To naga, `unpack2x16float` is a capability that devices below WebGPU may lack.
const CORE: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// A plan to look at, as one choice on every axis.
type Change = fn(&mut Spec, &mut Shape, &mut Limits);

/// One value of every axis is chosen; the first of each is the control.
fn axes() -> Vec<Vec<Change>> {
    fn rotary(spec: &mut Spec, pairing: Pairing, angle: Angle) {
        let rotary_dim = (spec.head_dim / 2 * 2).min(32);
        let mut rotary = Rotary::new(pairing, rotary_dim.max(2), 1e4);
        (rotary.angle, rotary.offset) = (angle, spec.head_dim - rotary_dim.max(2));
        spec.rotary = Some(rotary);
    }
    fn relative(spec: &mut Spec, sides: &[RelativeSide], index: IndexMap) {
        spec.relative.extend(sides.iter().map(|side| Relative::new(*side, index)));
    }
    /// A change of the rotation, where the spec has one whose window fits.
    fn turned(spec: &mut Spec, change: fn(&mut Rotary)) {
        if spec.head_dim < 4 || spec.v_head_dim < spec.head_dim {
            return;
        }
        let rotary = spec.rotary.get_or_insert_with(|| Rotary::new(Pairing::Half, 4, 1e4));
        if rotary.angle == Angle::Exact {
            change(rotary);
            spec.positions = if spec.position_streams() > 1 { Positions::Ids } else { spec.positions };
        }
    }
    fn norm(spec: &mut Spec, kind: NormKind, weights: bool, after_rotation: bool) {
        let mut norm = Norm::new(kind, 1e-6);
        (norm.weights, norm.after_rotation) = (weights, after_rotation);
        spec.norm = Some(norm);
    }
    fn alibi(spec: &mut Spec, form: AlibiForm) {
        spec.bias.push(Bias::Alibi { form, slopes: None, scale: 1.0 });
    }
    vec![
        vec![|_, _, _| (), |s, _, _| s.dtype = Dtype::F16, |s, _, _| s.dtype = Dtype::Bf16],
        vec![
            |_, _, _| (),
            |s, _, _| (s.head_dim, s.v_head_dim) = (33, 64),
            |s, _, _| (s.head_dim, s.v_head_dim) = (64, 7),
            |s, _, _| (s.head_dim, s.v_head_dim) = (256, 256),
            |s, _, _| (s.head_dim, s.v_head_dim) = (255, 1),
            |s, _, _| (s.head_dim, s.v_head_dim) = (2, 4),
        ],
        vec![|_, _, _| (), |s, _, _| s.num_kv_heads = s.num_heads, |s, _, _| s.num_kv_heads = 1],
        vec![|_, s, _| s.aligned = true, |_, s, _| s.aligned = false, |_, s, _| {
            (s.k.batch, s.k.token) = (s.k.batch + 80, s.k.token + 1)
        }],
        vec![|_, _, l| l.rolled_loops = false, |_, _, l| l.rolled_loops = true],
        // keys cut over several dispatches
        vec![|_, _, _| (), |_, _, l| l.max_loop_rounds = 1],
        vec![
            |_, _, _| (),
            |s, _, _| rotary(s, Pairing::Half, Angle::Exact),
            |s, _, _| rotary(s, Pairing::Half, Angle::Float32),
            |s, _, _| rotary(s, Pairing::Half, Angle::Table),
            |s, _, _| rotary(s, Pairing::Interleaved, Angle::Exact),
            |s, _, _| rotary(s, Pairing::Interleaved, Angle::Float32),
            |s, _, _| rotary(s, Pairing::InterleavedInHalfOut, Angle::Exact),
            |s, _, _| rotary(s, Pairing::InterleavedInHalfOut, Angle::Table),
        ],
        vec![|_, _, _| (), |s, _, _| s.positions = Positions::Ids],
        vec![|_, _, _| (), |s, _, _| s.logits_soft_cap = Some(30.0)],
        vec![
            |_, _, _| (),
            |s, _, _| s.bias.push(Bias::Table { min: -10, max: 20 }),
            |s, _, _| s.bias.push(Bias::Table { min: i32::MIN, max: i32::MIN + 5 }),
            |s, _, _| s.bias.push(Bias::Fire { hidden: 32, eps: 1e-6 }),
            |s, _, _| s.bias.push(Bias::Kerple { kind: KerpleKind::Log, eps: 0.01 }),
            |s, _, _| s.bias.push(Bias::Kerple { kind: KerpleKind::Power, eps: 0.01 }),
            |s, _, _| {
                s.bias.push(Bias::LogCpb { height: 3, width: 2, pretrained: None, hidden: 5 });
                s.positions = Positions::Ids;
            },
            |s, _, _| s.bias.push(Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: true }),
            |s, _, _| {
                s.bias.push(Bias::T5 { num_buckets: 8, max_distance: 20, bidirectional: false });
                s.bias.push(Bias::Table { min: i32::MAX - 3, max: i32::MAX });
            },
        ],
        vec![
            |_, _, _| (),
            |s, _, _| alibi(s, AlibiForm::Relative),
            |s, _, _| alibi(s, AlibiForm::Symmetric),
            |s, _, _| alibi(s, AlibiForm::KeyPosition),
            |s, _, _| alibi(s, AlibiForm::KeyFromEnd),
        ],
        vec![
            |_, _, _| (),
            |s, _, _| s.dense_bias = true,
            |s, _, _| (s.gated_bias, s.dense_bias) = (!s.bias.is_empty(), true),
            |s, _, _| s.gated_bias = !s.bias.is_empty(),
        ],
        vec![
            |_, _, _| (),
            |s, _, _| s.mask.causal = true,
            |s, _, _| (s.mask.causal, s.mask.alignment) = (true, Alignment::TopLeft),
            |s, _, _| (s.mask.window_left, s.mask.window_right) = (Some(5), Some(u32::MAX)),
            |s, _, _| (s.mask.window_left, s.mask.causal) = (Some(u32::MAX), true),
        ],
        vec![|_, _, _| (), |s, _, _| s.mask.dense = true],
        vec![
            |_, _, _| (),
            |s, _, _| s.kv_lens = true,
            |s, _, _| s.packed = true,
            |s, shape, _| (s.packed, shape.cache) = (true, Cache::Slots { rows: 90 }),
            |s, shape, _| (s.packed, shape.cache) = (true, Cache::Pages { pages: 9, page_size: 8 }),
        ],
        vec![
            |_, _, _| (),
            |s, _, _| turned(s, |r| r.streams = (0..r.rotary_dim / 2).map(|p| (p % 3) as u8).collect()),
            |s, _, _| turned(s, |r| r.xpos = Some(XPos::new(512.0, 3))),
            |s, _, _| turned(s, |r| r.values = true),
            |s, _, _| turned(s, |r| (r.pairing, r.rotary_dim, r.offset) = (Pairing::HalfOfHalves, 4, 0)),
        ],
        vec![
            |_, _, _| (),
            |s, _, _| norm(s, NormKind::Rms, true, false),
            |s, _, _| norm(s, NormKind::Rms, false, true),
            |s, _, _| norm(s, NormKind::L2, false, false),
            |s, _, _| norm(s, NormKind::L2, true, true),
        ],
        vec![|_, _, _| (), |s, _, _| s.temperature = Some(Temperature::new(0.1, 8192)), |s, _, _| s.head_scale = true],
        vec![|_, _, _| (), |s, _, _| s.sink = Some(Sink::Zero), |s, _, _| s.sink = Some(Sink::Learned)],
        vec![|_, _, _| (), |s, _, _| s.mask.chunk = Some(7)],
        vec![|_, _, _| (), |s, _, _| s.content_bias = true],
        vec![
            |_, _, _| (),
            |s, _, _| relative(s, &[RelativeSide::Key], IndexMap::distance(-7, 7)),
            |s, _, _| relative(s, &[RelativeSide::Query], IndexMap::LogBucket { buckets: 8, max_position: 20 }),
            |s, _, _| relative(s, &[RelativeSide::Value], IndexMap::reversed(-3, 2)),
            |s, _, _| relative(s, &[RelativeSide::Key, RelativeSide::Value], IndexMap::Segment),
            |s, _, _| {
                let grid = IndexMap::Grid { height: 3, width: 5, class: true };
                relative(s, &[RelativeSide::Key, RelativeSide::Query], grid);
                (s.relative[0].query_bias, s.positions) = (true, Positions::Ids);
            },
        ],
        vec![|_, _, _| (), |s, _, _| s.bias.push(Bias::Indexed { index: IndexMap::Segment }), |s, _, _| {
            s.bias.push(Bias::Indexed { index: IndexMap::Grid { height: 4, width: 4, class: false } });
            s.positions = Positions::Ids;
        }],
        vec![
            |_, _, _| (),
            |s, _, _| s.score_mod = Some("\nfn score_mod(s: f32, at: ScoreAt) -> f32 {\n    return -s;\n}".into()),
            |spec, shape, _| {
                let value = "tanh_f32(s) + user_f32(at.j) * f32(distance(at))";
                spec.score_mod = Some(format!("fn score_mod(s: f32, at: ScoreAt) -> f32 {{ return {value}; }}"));
                shape.user_words = 3;
            },
        ],
        vec![|_, _, _| (), |s, _, _| {
            s.mask_mod = Some("fn mask_mod(at: ScoreAt) -> bool {\n    return at.k_pos > 3;\n}\n".into())
        }],
        vec![|_, _, _| (), |s, _, _| {
            if s.relative.iter().all(|r| r.side != RelativeSide::Query) {
                turned(s, |r| r.keys_rotated = true);
            }
        }],
    ]
}

const KERNELS: [Kernel; 6] = [
    Kernel::Attention,
    Kernel::Scores,
    Kernel::RotateQ { in_place: false },
    Kernel::RotateQ { in_place: true },
    Kernel::RotateK { in_place: false },
    Kernel::RotateK { in_place: true },
];

fn plan(kernel: Kernel, changes: &[Change]) -> Plan {
    let (mut spec, mut limits) = (Spec::new(4, 2, 64), Limits::default());
    let mut shape = Shape::new(&spec, 2, 5, 70);
    // changes of the spec come first on every axis, so that the shape follows
    changes.iter().for_each(|change| change(&mut spec, &mut shape, &mut limits));
    shape = if spec.packed { Shape::packed(&spec, 3, 5, 70) } else { Shape::new(&spec, 2, 5, 70) };
    changes.iter().for_each(|change| change(&mut spec.clone(), &mut shape, &mut limits));
    if matches!(kernel, Kernel::RotateK { .. }) {
        shape.cache = Cache::Contiguous;
    }
    if kernel == (Kernel::RotateQ { in_place: false }) || kernel == (Kernel::RotateK { in_place: false }) {
        shape.out = Strides::bshd(70, 4, spec.head_dim);
    }
    Plan::new(kernel, &spec, &shape, &limits).unwrap_or_else(|e| panic!("{kernel:?} of {spec:?}: {e}"))
}

/// Linear attention in its variants, and the rotation of its features.
fn linear() -> Vec<Plan> {
    let softmax = FeatureMap::Softmax { count: 24, eps: 1e-4 };
    let decays = [None, Some(Decay::Retention), Some(Decay::Token), Some(Decay::Feature)];
    let mut all = Vec::new();
    for features in [FeatureMap::Identity, FeatureMap::Elu, FeatureMap::Relu, softmax] {
        for decay in &decays {
            for both in [false, true] {
                let mut spec = Spec::new(4, 2, if both { 64 } else { 33 });
                spec.rotary = Some(Rotary::new(Pairing::Half, 32, 1e4));
                spec.mask.causal = both;
                let mut linear = Linear::new(features);
                linear.rotate_features = both && features != softmax;
                linear.normalizer = decay.is_none().then(|| Normalizer::new(1e-6, 1e-6));
                (linear.decay, linear.initial_state) = (decay.clone(), both);
                linear.delta = linear.normalizer.is_none() && features == FeatureMap::Identity;
                spec.linear = Some(linear);
                let limits = if both { Limits::default().for_cpu() } else { Limits::default() };
                let shape = Shape::new(&spec, 2, 5, 70);
                for kernel in [Kernel::Linear, Kernel::RotateK { in_place: true }] {
                    if kernel == Kernel::Linear || decay.is_none() {
                        all.push(Plan::new(kernel, &spec, &shape, &limits).expect("a plan of linear attention"));
                    }
                }
            }
        }
    }
    all
}

/// Keys and values in blocks, of every kind.
fn of_blocks() -> Vec<Plan> {
    let plan = |dtype: &Dtype| {
        let mut spec = Spec::new(4, 2, 64);
        (spec.k_dtype, spec.v_dtype) = (Some(*dtype), Some(*dtype));
        Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 5, 70), &Limits::default()).expect("a plan")
    };
    Dtype::ALL.iter().filter(|dtype| dtype.in_blocks()).map(plan).collect()
}

/// Terms that `rows` alone computes, whole and with keys cut over dispatches.
fn of_rows() -> Vec<Plan> {
    fn norm(spec: &mut Spec, kind: NormKind, of_heads: bool, all_heads: bool) {
        let mut norm = Norm::new(kind, 1e-6);
        (norm.weights, norm.weights_of_heads, norm.all_heads) = (true, of_heads, all_heads);
        spec.norm = Some(norm);
    }
    let changes: Vec<fn(&mut Spec)> = vec![
        |s| {
            s.rotary
                .iter_mut()
                .for_each(|r| (r.pairing, r.pairs) = (Pairing::Listed, (0..16).map(|p| [p, 31 - p]).collect()))
        },
        |s| s.rotary.iter_mut().for_each(|r| r.frequencies = Frequencies::Sums(Sums::new(2, 1, vec![0.5; 32]))),
        |s| s.rotary.iter_mut().for_each(|r| r.output = true),
        |s| s.rotary.iter_mut().for_each(|r| r.branches = Some(Branches::Clipped { window: 9 })),
        |s| s.rotary.iter_mut().for_each(|r| r.branches = Some(Branches::Grouped { window: 9, group: 4 })),
        |s| norm(s, NormKind::Layer, false, false),
        |s| norm(s, NormKind::Layer, true, false),
        |s| norm(s, NormKind::Rms, true, true),
        |s| norm(s, NormKind::Layer, true, true),
        |s| (s.query_scales, s.key_bias, s.sink) = (true, true, Some(Sink::Query)),
        |s| {
            let mut own = Relative::new(RelativeSide::Key, IndexMap::reversed(0, 9));
            own.own = Some(7);
            (s.relative, s.temperature) = (vec![own], Some(Temperature::log_n(8)));
        },
        |s| (s.logits_soft_cap, s.soft_cap_last) = (Some(5.0), true),
        |s| {
            (s.logits_soft_cap, s.soft_cap_last) = (Some(5.0), true);
            s.score_mod = Some("fn score_mod(s: f32, at: ScoreAt) -> f32 { return -s; }".into());
        },
    ];
    let mut all = Vec::new();
    for change in changes {
        for cut in [false, true] {
            let (mut spec, mut limits) = (Spec::new(4, 2, 64), Limits::default());
            spec.rotary = Some(Rotary::new(Pairing::Half, 32, 1e4));
            change(&mut spec);
            if cut {
                limits.max_loop_rounds = 1;
            }
            for kernel in [Kernel::Attention, Kernel::RotateQ { in_place: false }, Kernel::RotateK { in_place: false }]
            {
                let mut shape = Shape::new(&spec, 2, 5, 70);
                if kernel != Kernel::Attention {
                    shape.out = Strides::bshd(70, 4, 64);
                }
                all.push(Plan::new(kernel, &spec, &shape, &limits).expect("a plan"));
            }
        }
    }
    all
}

/// Types of k and v that `append` quantises.
const BLOCKS: [(Dtype, Dtype); 6] = [
    (Dtype::Q8_0, Dtype::F32),
    (Dtype::Q4_0, Dtype::F16),
    (Dtype::Bf16, Dtype::Q4_1),
    (Dtype::Q5_0, Dtype::Q5_1),
    (Dtype::Iq4Nl, Dtype::Iq4Nl),
    (Dtype::Int8, Dtype::F8E4m3),
];

/// New rows of each type into caches of each, prepared or as they come.
fn append() -> Vec<Plan> {
    let types = [Dtype::F32, Dtype::F16, Dtype::Bf16].map(|dtype| [(Dtype::F32, dtype), (dtype, dtype)]);
    let mut all = Vec::new();
    for (rows, dtype) in types.into_iter().flatten() {
        for (dims, keys_rotated) in [([64, 64], false), ([64, 64], true), ([33, 7], false), ([33, 7], true)] {
            let mut spec = Spec::new(4, 2, dims[0]);
            (spec.v_head_dim, spec.dtype) = (dims[1], dtype);
            let mut rotary = Rotary::new(Pairing::Half, 32, 1e4);
            rotary.keys_rotated = keys_rotated;
            spec.rotary = Some(rotary);
            for packed in [false, true] {
                spec.packed = packed;
                let shape = if packed { Shape::packed(&spec, 3, 5, 70) } else { Shape::new(&spec, 2, 5, 70) };
                let limits = if packed { Limits::default().for_cpu() } else { Limits::default() };
                all.push(Plan::new(Kernel::Append { rows }, &spec, &shape, &limits).expect("a plan of append"));
                // quantised ones: every type, floats beside it
                let blocks =
                    if (rows, spec.dtype, dims[0]) == (Dtype::F32, Dtype::F32, 64) { &BLOCKS[..] } else { &[] };
                for (k, v) in blocks {
                    let mut spec = spec.clone();
                    (spec.k_dtype, spec.v_dtype) = (Some(*k), Some(*v));
                    all.push(Plan::new(Kernel::Append { rows }, &spec, &shape, &limits).expect("a plan of append"));
                }
            }
        }
    }
    all
}

/// Absolute systems in their variants.
fn embed() -> Vec<Plan> {
    let forms = [
        Embed::learned(64, 40),
        Embed::sinusoidal(64, Columns::Halves, Denominator::Half),
        Embed::sinusoidal(7, Columns::Interleaved, Denominator::HalfLessOne),
    ];
    let both = forms.iter().flat_map(|embed| [false, true].map(|in_place| (embed, in_place)));
    let plan = |(embed, in_place): (&Embed, bool)| {
        Plan::embed(embed, &EmbedShape::new(embed, 2, 40), in_place, &Limits::default()).expect("a plan of embed")
    };
    both.map(plan).collect()
}

/// Merges of aligned rows and of others.
fn merges() -> Vec<Plan> {
    let of = |(dim, dtype)| {
        let mut spec = Spec::new(4, 2, dim);
        spec.dtype = dtype;
        let shape = Shape::new(&spec, 2, 3, 40);
        let attention = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default()).expect("a plan of a part");
        let parts = vec![MergePart::of(&attention); 2];
        Plan::merge(&spec, &MergeShape::new(&spec, 2, 3, parts), &Limits::default()).expect("a plan of merge")
    };
    [(64, Dtype::F32), (64, Dtype::F16), (7, Dtype::F32), (7, Dtype::Bf16)].map(of).into()
}

/// A control, every deviation from it, and a seeded sample of everything else; each for every kernel.
fn plans() -> Vec<Plan> {
    let axes = axes();
    let control: Vec<usize> = vec![0; axes.len()];
    let mut choices = vec![control.clone()];
    for (axis, values) in axes.iter().enumerate() {
        for value in 1..values.len() {
            let mut choice = control.clone();
            choice[axis] = value;
            choices.push(choice);
        }
    }
    let mut rng = StdRng::seed_from_u64(0);
    choices.extend((0..300).map(|_| axes.iter().map(|values| rng.random_range(0..values.len())).collect()));
    let all = choices.iter().flat_map(|choice| {
        let changes: Vec<Change> = axes.iter().zip(choice).map(|(values, value)| values[*value]).collect();
        KERNELS.map(|kernel| plan(kernel, &changes))
    });
    let mut texts = BTreeSet::new();
    all.chain(linear())
        .chain(append())
        .chain(embed())
        .chain(merges())
        .filter(|plan| texts.insert(plan.wgsl(Target::Native).to_string()))
        .collect()
}

/// A plan for cooperative matrices, which WebGPU's core does not know.
fn matrices() -> Plan {
    let mut spec = Spec::new(4, 2, 64);
    spec.dtype = Dtype::F16;
    let mut limits = Limits::default();
    (limits.cooperative_matrix, limits.matrix_subgroup, limits.f16) = (16, 32, true);
    limits.max_workgroup_storage = 49_152;
    let shape = Shape::new(&spec, 1, 16, 32);
    let plan = Plan::new(Kernel::Attention, &spec, &shape, &limits).expect("the family takes it");
    assert_eq!(plan.tuning().family, Family::Coop);
    plan
}

/// Parsed and valid with WebGPU's core alone: no f16, no subgroups. `used`: what the entry point uses of every variable.
fn reflect(plan: &Plan) -> (Module, Vec<GlobalUse>) {
    let source = plan.wgsl(Target::Native);
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| {
        let at = e.location(source).map(|l| plan.locate(l.line_number as usize));
        panic!("{}: {at:?}: {}", plan.label(), e.emit_to_string(source))
    });
    let mut validator = Validator::new(ValidationFlags::all(), CORE);
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}: {}", plan.label(), e.emit_to_string(source)));
    let entries = 0..module.entry_points.len();
    let of =
        |handle| entries.clone().fold(GlobalUse::empty(), |used, entry| used | info.get_entry_point(entry)[handle]);
    let used = module.global_variables.iter().map(|(handle, _)| of(handle)).collect();
    (module, used)
}

fn bytes(module: &Module, variable: &GlobalVariable) -> u32 {
    module.types[variable.ty].inner.size(module.to_ctx())
}

#[test]
fn modules_are_valid_and_bind_what_the_plan_says() {
    let plans = plans();
    println!("{} modules", plans.len());
    assert!(plans.len() > 1000);
    plans.par_iter().for_each(|plan| {
        let label = plan.label();
        let (module, used) = reflect(plan);
        let names: BTreeSet<&str> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        assert!(plan.entries().iter().all(|e| names.contains(e)) && plan.entries().contains(&"main"), "{label}");
        let entry = module.entry_points.iter().find(|e| e.name == "main").expect("main");
        let [x, y, z] = entry.workgroup_size;
        let [rows, keys] = plan.tile();
        let in_blocks = [plan.spec().k_storage(), plan.spec().v_storage()].iter().any(|dtype| dtype.in_blocks());
        let lanes = match plan.tuning().family {
            Family::Rows if in_blocks && matches!(plan.kernel(), Kernel::Append { .. }) => 64,
            Family::Tile => rows * keys / 32,
            Family::Rows | Family::Turns => rows,
            _ => x,
        };
        assert!(entry.name == "main" && x * y * z <= 256 && x == lanes, "{label}");

        let mut found = BTreeMap::new();
        for ((_, variable), used) in module.global_variables.iter().zip(&used) {
            let Some(binding) = &variable.binding else { continue };
            assert_eq!(binding.group, 0, "{label}");
            let access = match variable.space {
                AddressSpace::Uniform => Access::Uniform,
                AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Access::ReadWrite,
                AddressSpace::Storage { .. } => Access::Read,
                other => panic!("{label}: {other:?}"),
            };
            let name = variable.name.clone().unwrap_or_default();
            assert!(!used.is_empty(), "{label}: {name} is bound, but not used");
            if access == Access::ReadWrite {
                assert!(used.contains(GlobalUse::WRITE) || used.contains(GlobalUse::ATOMIC), "{label}: {name}");
            }
            if name == "work4" {
                // `work` by vectors: naga refuses an entry point that uses both
                assert_eq!(found.get(&binding.binding), Some(&("work".to_string(), access)), "{label}");
                continue;
            }
            assert!(found.insert(binding.binding, (name, access)).is_none(), "{label}: a number twice");
        }
        let uniform = |a: Access| if a == Access::UniformDynamic { Access::Uniform } else { a };
        let told: BTreeMap<_, _> =
            plan.bindings().iter().map(|b| (b.binding, (b.name.to_string(), uniform(b.access)))).collect();
        assert_eq!(found, told, "{label}");
        assert_eq!(plan.bindings().iter().filter(|b| b.access == Access::UniformDynamic).count(), 1, "{label}");

        let storage = found.values().filter(|(_, access)| *access != Access::Uniform).count();
        assert!(storage <= 8 && found.len() - storage <= 12, "{label}: {storage} storage buffers of {}", found.len());

        let shared = |v: &&GlobalVariable| v.space == AddressSpace::WorkGroup;
        let variables = module.global_variables.iter().map(|(_, v)| v);
        let workgroup: u32 = variables.filter(shared).map(|v| bytes(&module, v)).sum();
        assert!(workgroup <= 16_384, "{label}: {workgroup} bytes of workgroup memory");
    });
}

/// The fields of a Rust struct in src/shader/layout.rs, name and type; an array is as many fields. All padding has one name.
fn rust_fields(name: &str) -> Vec<(String, String)> {
    let source = include_str!("../src/shader/layout.rs");
    let body = source.split(&format!("struct {name} {{")).nth(1).and_then(|s| s.split('}').next()).expect("the struct");
    let fields = body.lines().filter_map(|line| line.trim().strip_prefix("pub(crate) ")?.split_once(": "));
    let expand = |(name, ty): (&str, &str)| {
        let ty = ty.trim_end_matches(',');
        let (ty, n) = match ty.trim_matches(['[', ']']).split_once("; ") {
            Some((ty, n)) => (ty, n.parse().expect("a length")),
            None => (ty, 1),
        };
        vec![(padding(name), ty.to_string()); n]
    };
    fields.flat_map(expand).collect()
}

fn padding(name: &str) -> String {
    if name.starts_with("unused") { "unused".into() } else { name.into() }
}

#[test]
fn uniforms_are_laid_out_as_the_host_writes_them() {
    let fields = rust_fields("Params");
    for plan in plans().iter().step_by(7) {
        let label = plan.label();
        let (module, _) = reflect(plan);
        for (_, variable) in module.global_variables.iter() {
            if variable.space != AddressSpace::Uniform {
                continue;
            }
            let name = variable.name.as_deref().unwrap_or_default();
            let binding = plan.bindings().iter().find(|b| b.name == name).expect("told");
            let contents = plan.uniform(binding.slot).expect("a uniform has contents");
            assert_eq!(binding.size, contents.len() as u64, "{label}: {name}");
            let size = bytes(&module, variable) as usize;
            assert!(size <= 65_536, "{label}: {name}");
            match binding.access {
                Access::UniformDynamic => {
                    assert!(size <= CHUNK_STRIDE as usize);
                    assert_eq!(contents.len(), plan.chunks().len() * CHUNK_STRIDE as usize, "{label}: {name}");
                }
                _ => assert_eq!(size, contents.len(), "{label}: {name}"),
            }
            let TypeInner::Struct { members, .. } = &module.types[variable.ty].inner else { continue };
            let members: Vec<_> = members
                .iter()
                .map(|m| {
                    let scalar = module.types[m.ty].inner.scalar().expect("scalars only");
                    assert_eq!(scalar.width, 4);
                    let ty = match scalar.kind {
                        ScalarKind::Float => "f32",
                        ScalarKind::Uint => "u32",
                        other => panic!("{label}: {other:?}"),
                    };
                    (m.offset, (padding(m.name.as_deref().unwrap_or_default()), ty.to_string()))
                })
                .collect();
            match binding.slot {
                Slot::Params => {
                    let host: Vec<_> = (0..).step_by(4).zip(fields.iter().cloned()).collect();
                    assert_eq!(members, host, "{label}");
                    assert_eq!(4 * fields.len(), contents.len());
                }
                Slot::Chunk => {
                    let names: Vec<_> = members.iter().map(|(at, (name, _))| (*at, name.as_str())).collect();
                    let told = ["tile", "kv_head", "batch", "first_key", "end_key", "tiles", "kv_heads"];
                    assert_eq!(names, (0..).step_by(4).zip(told).collect::<Vec<_>>(), "{label}");
                    for (entry, chunk) in contents.chunks_exact(CHUNK_STRIDE as usize).zip(plan.chunks()) {
                        let words = [chunk.first.as_slice(), &chunk.keys].concat();
                        assert_eq!(entry[..20], *bytemuck::cast_slice::<u32, u8>(&words), "{label}");
                    }
                }
                other => panic!("{label}: a struct in {other:?}"),
            }
        }
    }
}

/// What a name in the `params` uniform holds, read as the shader reads it.
#[test]
fn params_hold_the_shape() {
    let mut spec = Spec::new(6, 2, 8);
    spec.v_head_dim = 4;
    spec.softmax_scale = Some(0.75);
    spec.dense_bias = true;
    let mut shape = Shape::new(&spec, 3, 5, 70);
    shape.dense = [3, 1, 5, 70];
    let plan = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default()).expect("a plan");
    let contents = plan.uniform(Slot::Params).expect("params");
    let fields = rust_fields("Params");
    let word = |name: &str| {
        let at = 4 * fields.iter().position(|(n, _)| n == name).unwrap_or_else(|| panic!("no field {name}"));
        u32::from_ne_bytes([contents[at], contents[at + 1], contents[at + 2], contents[at + 3]])
    };
    for (name, value) in [
        ("q_capacity", 5),
        ("kv_capacity", 70),
        ("num_heads", 6),
        ("group", 3),
        ("q_batch", 5 * 6 * 8),
        ("q_token", 6 * 8),
        ("q_head", 8),
        ("k_batch", 70 * 2 * 8),
        ("v_token", 2 * 4),
        ("out_token", 6 * 4),
        ("dense_batch", 5 * 70),
        ("dense_head", 0),
        ("dense_row", 70),
        ("dense_key", 1),
        ("softmax_scale", 0.75f32.to_bits()),
    ] {
        assert_eq!(word(name), value, "{name}");
    }
}

/// What takes a device with subgroups, which naga's core does not know.
fn of_subgroups() -> Vec<Plan> {
    let rotated = |pairing| {
        let mut spec = Spec::new(2, 2, 64);
        spec.rotary = Some(Rotary::new(pairing, 64, 1e4));
        spec
    };
    let changed = |change: fn(&mut Spec)| {
        let mut spec = Spec::new(2, 2, 64);
        change(&mut spec);
        spec
    };
    let map = IndexMap::LogBucket { buckets: 8, max_position: 20 };
    let specs =
        [Pairing::Half, Pairing::Interleaved, Pairing::InterleavedInHalfOut, Pairing::HalfOfHalves].map(rotated);
    let terms = [
        changed(|_| ()),
        changed(|s| s.logits_soft_cap = Some(30.0)),
        changed(|s| s.bias = vec![Bias::Table { min: -10, max: 20 }]),
        changed(|s| s.dense_bias = true),
    ];
    let mut gathered = Spec::new(2, 2, 64);
    gathered.relative = vec![Relative::new(RelativeSide::Key, map), Relative::new(RelativeSide::Query, map)];
    let all = specs.into_iter().chain(terms).chain([gathered]);
    let both = all.flat_map(|spec| [false, true].map(|cpu| (spec.clone(), cpu)));
    let plan = |(spec, cpu): (Spec, bool)| {
        let mut limits = if cpu { Limits::default().for_cpu() } else { Limits::default() };
        limits.subgroup_size = if cpu { 8 } else { 16 };
        Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 40, 70), &limits).expect("a plan")
    };
    let few_rows = |(rotates, cpu): (bool, bool)| {
        let mut limits = if cpu { Limits::default().for_cpu() } else { Limits::default() };
        limits.subgroup_size = 8;
        let spec = if rotates { rotated(Pairing::Half) } else { Spec::new(2, 2, 64) };
        Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 1, 300), &limits).expect("a plan")
    };
    let four = [(false, false), (false, true), (true, false), (true, true)];
    // keys and values of heads that stand far apart
    let mut software = Limits::default().for_cpu();
    software.subgroup_size = 8;
    let far = Spec::new(8, 8, 64);
    let scattered = Plan::new(Kernel::Attention, &far, &Shape::new(&far, 1, 200, 5000), &software).expect("a plan");
    both.map(plan).chain(four.map(few_rows)).chain([scattered]).collect()
}

/// Every line of a composed module is the line of the author's file that `locate` names, and the plans of this test use
/// every file.
#[test]
fn lines_map_back_to_files() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders"));
    let mut read = BTreeMap::new();
    for plan in plans().into_iter().chain(of_subgroups()).chain(of_rows()).chain(of_blocks()).chain([matrices()]) {
        for (n, line) in plan.wgsl(Target::Native).lines().enumerate() {
            let (file, at) = plan.locate(n + 1);
            // the separators between files belong to nobody
            if file == "(preamble)" || line.is_empty() || line.starts_with("// ---- ") {
                continue;
            }
            let own = match file {
                "score_mod" => plan.spec().score_mod.as_deref(),
                "mask_mod" => plan.spec().mask_mod.as_deref(),
                _ => None,
            };
            if let Some(own) = own {
                assert_eq!(own.lines().nth(at - 1), Some(line), "{}: line {at} of {file}", plan.label());
                continue;
            }
            let text = read.entry(file).or_insert_with(|| std::fs::read_to_string(folder.join(file)).expect("a file"));
            assert_eq!(text.lines().nth(at - 1), Some(line), "{}: line {} of {file}", plan.label(), at);
        }
    }
    let mut files = BTreeSet::new();
    for slot in std::fs::read_dir(folder).expect("shaders/").filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir())
    {
        let shaders = std::fs::read_dir(&slot).expect("a slot").map(|e| e.expect("a file").path());
        files.extend(shaders.map(|p| p.strip_prefix(folder).expect("below").to_string_lossy().into_owned()));
    }
    let used: BTreeSet<_> = read.keys().map(|f| f.to_string()).collect();
    let apart: Vec<_> = used.symmetric_difference(&files).collect();
    assert!(apart.is_empty(), "files that no plan of this test uses, or the reverse: {apart:?}");
}

/// A compiler's complaint about a composed module leads to the author's file and line, whichever file is broken.
#[test]
fn a_compile_error_leads_to_its_file() {
    let mut spec = Spec::new(2, 1, 64);
    spec.rotary = Some(Rotary::new(Pairing::Half, 64, 1e4));
    spec.logits_soft_cap = Some(30.0);
    let shape = Shape::new(&spec, 1, 5, 70);
    let plan = Plan::new(Kernel::Attention, &spec, &shape, &Limits::default()).expect("a plan");
    let lines: Vec<&str> = plan.wgsl(Target::Native).lines().collect();
    let mut broken_files = BTreeSet::new();
    for (n, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("fn ")) {
        let (file, at) = plan.locate(n + 1);
        if file == "(preamble)" || !broken_files.insert(file) {
            continue;
        }
        let broken = format!(") {line}");
        let broken = [&lines[..n], &[broken.as_str()], &lines[n + 1..]].concat().join("\n");
        let error = naga::front::wgsl::parse_str(&broken).expect_err(file);
        let found = error.location(&broken).map(|l| plan.locate(l.line_number as usize));
        assert_eq!(found, Some((file, at)), "{}", error.emit_to_string(&broken));
    }
    assert!(broken_files.len() > 10, "{broken_files:?}");
}
