//! Specs that between them use every shader file beside every other that it meets in a kernel.

use super::validate;
use ropewalk::{
    Absolute, AlibiForm, Alignment, Angle, Bias, Branches, Cache, Columns, Decay, Denominator, Dtype, Embed,
    EmbedShape, Error, Family, FeatureMap, Frequencies, IndexMap, Kernel, KerpleKind, Limits, Linear, Mask, MergePart,
    MergeShape, Norm, NormKind, Normalizer, Outside, Pairing, Plan, Positions, Relative, RelativeSide, Result, Rotary,
    Shape, Sink, Spec, Sums, Target, Temperature, Tuning, XPos,
};
use std::collections::HashMap;
use std::fs;
use std::path::Path;

const ATTENTION: Kernel = Kernel::Attention;
const SCORES: Kernel = Kernel::Scores;
const ROTATE: [Kernel; 2] = [Kernel::RotateQ { in_place: false }, Kernel::RotateK { in_place: false }];
const APPEND: Kernel = Kernel::Append { rows: Dtype::F32 };
const IN_PLACE: [Kernel; 2] = [Kernel::RotateQ { in_place: true }, Kernel::RotateK { in_place: true }];

/// One of the product.
#[derive(Clone)]
struct Variant {
    kernel: Kernel,
    spec: Spec,
    aligned: bool,
    rolled_loops: bool,
    /// Keys cut over dispatches, the state of a row carried between them.
    carry: bool,
}

/// The caches that a variant's keys may lie in.
fn caches(v: &Variant) -> Vec<Cache> {
    match v.spec.packed && !v.carry && matches!(v.kernel, ATTENTION | SCORES) {
        true => vec![Cache::Contiguous, Cache::Slots { rows: 99 }, Cache::Pages { pages: 9, page_size: 16 }],
        false => vec![Cache::Contiguous],
    }
}

/// Writes every distinct shader, validated, and tells how many there are.
pub fn write(folder: &Path, target: Target) -> Result<usize> {
    let bad = |path: &Path, e: std::io::Error| {
        Error::input(format!("--variants {}", path.display()), e.to_string(), "give a folder that can be written")
    };
    fs::create_dir_all(folder).map_err(|e| bad(folder, e))?;
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut texts = std::collections::HashSet::new();
    let mut plans = Vec::new();
    for (v, cache) in all().into_iter().flat_map(|v| caches(&v).into_iter().map(move |cache| (v.clone(), cache))) {
        let mut shape = match v.spec.packed {
            true => Shape::packed(&v.spec, 3, 40, 72),
            false => Shape::new(&v.spec, 2, 40, 72),
        };
        shape.cache = cache;
        (shape.aligned, shape.user_words) = (v.aligned, 8);
        let mut limits = Limits::default();
        limits.rolled_loops = v.rolled_loops;
        if v.carry {
            limits.max_loop_rounds = 1;
        }
        let positions = if v.spec.positions == Positions::Ids { ".ids" } else { "" };
        let loops = if v.rolled_loops { ".rolled" } else { "" };
        let carry = if v.carry { ".carry" } else { "" };
        // the best of every family, on software adapters those with subgroups too
        let mut equipped = limits;
        (equipped.cpu, equipped.subgroup_size) = (true, 8);
        let mut families = Vec::new();
        for limits in [Some(limits), v.rolled_loops.then_some(equipped)].into_iter().flatten() {
            for tuning in Tuning::candidates(v.kernel, &v.spec, &shape, &limits)? {
                if !families.contains(&tuning.family) {
                    families.push(tuning.family);
                    let plan = Plan::with_tuning(v.kernel, &v.spec, &shape, &limits, Some(tuning))?;
                    plans.push((plan, format!("{positions}{loops}{carry}")));
                }
            }
        }
    }
    plans.extend(subgroups()?.into_iter().map(|plan| (plan, String::new())));
    // Tint does not know their dialect
    if target == Target::Native {
        plans.extend(matrices()?.into_iter().map(|plan| (plan, String::new())));
    }
    // few rows over many keys, for devices of both kinds
    for v in all().into_iter().filter(|v| v.kernel == ATTENTION && !v.carry) {
        let mut shape = match v.spec.packed {
            true => Shape::packed(&v.spec, 3, 40, 300),
            false => Shape::new(&v.spec, 2, 3, 300),
        };
        (shape.aligned, shape.user_words, shape.max_seqlen_q) = (v.aligned, 8, 3);
        let mut limits = Limits::default();
        limits.rolled_loops = v.rolled_loops;
        if v.rolled_loops {
            (limits.cpu, limits.subgroup_size) = (true, 8);
        }
        let loops = if v.rolled_loops { ".rolled" } else { "" };
        plans.push((Plan::new(v.kernel, &v.spec, &shape, &limits)?, loops.to_string()));
    }
    plans.extend(merges()?.into_iter().map(|plan| (plan, String::new())));
    plans.extend(embeds()?.into_iter().map(|plan| (plan, String::new())));
    for (plan, suffix) in plans {
        if !texts.insert(plan.wgsl(target).to_string()) {
            continue;
        }
        validate(&plan)?;
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let mut name: String = format!("{}{suffix}", plan.label()).chars().map(safe).collect();
        let same = names.entry(name.clone()).or_default();
        *same += 1;
        if *same > 1 {
            name += &format!(".{same}");
        }
        let path = folder.join(name + ".wgsl");
        fs::write(&path, plan.wgsl(target)).map_err(|e| bad(&path, e))?;
    }
    Ok(texts.len())
}

fn all() -> Vec<Variant> {
    let mut all = storage();
    all.extend(rotations());
    all.extend(scores());
    all.extend(sizes());
    all.extend(packed());
    all.extend(linear());
    all.extend(relative());
    all.extend(own());
    all.extend(norms());
    all.extend(of_rows());
    all
}

/// Terms that `rows` alone computes, whole and with keys in parts.
fn of_rows() -> Vec<Variant> {
    let norm = |spec: &mut Spec, kind: NormKind, of_heads: bool, all_heads: bool| {
        let mut norm = Norm::new(kind, 1e-6);
        (norm.weights, norm.weights_of_heads, norm.all_heads) = (true, of_heads, all_heads);
        spec.norm = Some(norm);
    };
    let base = || {
        let mut spec = Spec::new(4, 2, 64);
        spec.rotary = Some(Rotary::new(Pairing::Half, 32, 10_000.0));
        spec
    };
    let mut specs = vec![base(), base(), base(), base(), base(), base(), base(), base(), base(), base(), base()];
    specs[0].rotary.iter_mut().for_each(|rotary| rotary.output = true);
    norm(&mut specs[1], NormKind::Layer, false, false);
    norm(&mut specs[2], NormKind::Layer, true, false);
    norm(&mut specs[3], NormKind::Rms, true, true);
    norm(&mut specs[8], NormKind::Layer, true, true);
    let branches = [Branches::Clipped { window: 9 }, Branches::Grouped { window: 9, group: 4 }];
    for (spec, branches) in specs[9..].iter_mut().zip(branches) {
        spec.rotary.iter_mut().for_each(|rotary| rotary.branches = Some(branches));
    }
    (specs[4].query_scales, specs[4].key_bias, specs[4].sink) = (true, true, Some(Sink::Query));
    let mut own = Relative::new(RelativeSide::Key, IndexMap::reversed(0, 9));
    own.own = Some(7);
    (specs[5].relative, specs[5].temperature) = (vec![own], Some(Temperature::log_n(8)));
    for spec in &mut specs[6..8] {
        (spec.logits_soft_cap, spec.soft_cap_last) = (Some(5.0), true);
    }
    specs[7].score_mod = Some("fn score_mod(s: f32, at: ScoreAt) -> f32 { return -s; }".into());
    let of = |spec: Spec| {
        let kernels = [ATTENTION, SCORES].into_iter().chain(ROTATE);
        let one =
            move |kernel, carry| Variant { kernel, spec: spec.clone(), aligned: true, rolled_loops: false, carry };
        kernels
            .flat_map(|kernel| [(kernel, false), (kernel, kernel == ATTENTION)])
            .map(|(kernel, carry)| one(kernel, carry))
            .collect::<Vec<_>>()
    };
    specs.into_iter().flat_map(of).collect()
}

/// Everything at once, as far as it goes together.
fn rich() -> Spec {
    let mut spec = Spec::new(4, 2, 64);
    spec.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
    spec.logits_soft_cap = Some(30.0);
    spec.bias = vec![Bias::Table { min: -8, max: 0 }, alibi(AlibiForm::Relative)];
    spec.mask = Mask::causal();
    spec
}

fn alibi(form: AlibiForm) -> Bias {
    Bias::Alibi { form, slopes: None, scale: 1.0 }
}

/// Storage types and alignments of every kernel, loops of both kinds, keys at once and in parts.
fn storage() -> Vec<Variant> {
    let mut all = Vec::new();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let append = [APPEND, Kernel::Append { rows: dtype }];
        for kernel in [ATTENTION, SCORES].into_iter().chain(ROTATE).chain(IN_PLACE).chain(append) {
            for (aligned, rolled_loops) in [(true, true), (true, false), (false, true), (false, false)] {
                let mut spec = rich();
                spec.dtype = dtype;
                for carry in [false, true] {
                    all.push(Variant { kernel, spec: spec.clone(), aligned, rolled_loops, carry });
                }
            }
        }
    }
    // keys and values in types of their own
    for (k, v, out) in [
        (Dtype::Q8_0, Dtype::Q4_0, Dtype::F32),
        (Dtype::Q4_1, Dtype::Q5_0, Dtype::F16),
        (Dtype::Q5_1, Dtype::Iq4Nl, Dtype::Bf16),
        (Dtype::Int8, Dtype::F8E4m3, Dtype::F32),
        (Dtype::F16, Dtype::Bf16, Dtype::F32),
    ] {
        for kernel in [ATTENTION, SCORES] {
            let mut spec = rich();
            (spec.k_dtype, spec.v_dtype, spec.out_dtype) = (Some(k), Some(v), Some(out));
            all.push(Variant { kernel, spec, aligned: true, rolled_loops: false, carry: false });
        }
        for (rotated, rolled_loops) in [(false, true), (true, false)] {
            if !k.in_blocks() {
                continue;
            }
            let mut spec = rich();
            spec.rotary.iter_mut().for_each(|rotary| rotary.keys_rotated = rotated);
            (spec.k_dtype, spec.v_dtype) = (Some(k), Some(if rotated { out } else { v }));
            all.push(Variant { kernel: APPEND, spec, aligned: true, rolled_loops, carry: false });
        }
    }
    all
}

/// Pairings, angles and positions of every kernel; rotations of a part of the head.
fn rotations() -> Vec<Variant> {
    let mut rotations = vec![None];
    for pairing in [Pairing::Half, Pairing::Interleaved, Pairing::InterleavedInHalfOut, Pairing::HalfOfHalves] {
        for angle in [Angle::Exact, Angle::Float32, Angle::Table] {
            let mut rotary = Rotary::new(pairing, 32, 10_000.0);
            (rotary.offset, rotary.angle) = (if angle == Angle::Table { 32 } else { 0 }, angle);
            rotations.push(Some(rotary.clone()));
            // what joins a rotation: streams, xPos, values
            rotary.streams = (0..16).map(|p| p % 3).collect();
            rotations.push(Some(rotary.clone()));
            rotary.values = true;
            rotary.xpos = Some(XPos::new(512.0, 7));
            rotations.push(Some(rotary.clone()));
            (rotary.streams, rotary.xpos) = (Vec::new(), (angle == Angle::Table).then_some(XPos::new(64.0, -7)));
            rotations.push(Some(rotary.clone()));
            (rotary.values, rotary.keys_rotated) = (false, true);
            rotations.push(Some(rotary));
        }
    }
    // pairs of any elements; sums of streams, of heads, of two angles
    let mut listed = Rotary::new(Pairing::Listed, 32, 10_000.0);
    listed.pairs = (0..16).map(|i| [i, 31 - i]).collect();
    rotations.push(Some(listed.clone()));
    listed.streams = (0..16).map(|p| p % 4).collect();
    rotations.push(Some(listed));
    for (heads, streams, two_angles) in [(1, 1, false), (1, 3, true), (2, 4, false)] {
        let angles = if two_angles { 2 } else { 1 };
        let mut sums = Sums::new(heads, streams, vec![0.25; (heads * 16 * streams as u32 * angles) as usize]);
        sums.two_angles = two_angles;
        let mut rotary = Rotary::new(Pairing::Half, 32, 10_000.0);
        (rotary.frequencies, rotary.values) = (Frequencies::Sums(sums), two_angles);
        rotations.push(Some(rotary));
    }
    let mut all = Vec::new();
    for rotary in rotations {
        for positions in [Positions::Index, Positions::Ids] {
            for kernel in [ATTENTION, SCORES, APPEND].into_iter().chain(ROTATE) {
                let mut spec = rich();
                (spec.rotary, spec.positions) = (rotary.clone(), positions);
                if spec.position_streams() > 1 && positions == Positions::Index {
                    continue;
                }
                all.push(Variant { kernel, spec, aligned: true, rolled_loops: true, carry: false });
            }
        }
    }
    all
}

/// Terms, masks, cap and lengths.
fn scores() -> Vec<Variant> {
    let forms = [AlibiForm::Relative, AlibiForm::Symmetric, AlibiForm::KeyPosition, AlibiForm::KeyFromEnd];
    let mut terms: Vec<(Vec<Bias>, bool)> = forms.into_iter().map(|form| (vec![alibi(form)], false)).collect();
    let t5 = Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: true };
    terms.push((Vec::new(), false));
    terms.push((Vec::new(), true));
    terms.push((vec![Bias::Table { min: i32::MIN, max: i32::MIN + 4 }], false));
    terms.push((vec![t5.clone(), Bias::Table { min: -3, max: 5 }, alibi(AlibiForm::Symmetric)], true));
    terms.push((vec![t5], false));

    terms.push((vec![Bias::Fire { hidden: 32, eps: 1e-6 }], false));
    terms.extend([KerpleKind::Log, KerpleKind::Power].map(|kind| (vec![Bias::Kerple { kind, eps: 0.01 }], false)));
    // gated: false above, true below
    let cpb = Bias::LogCpb { height: 4, width: 3, pretrained: None, hidden: 8 };
    let gated = terms.len();
    terms.push((vec![Bias::Table { min: -3, max: 5 }], false));
    terms.push((vec![cpb.clone(), Bias::Indexed { index: IndexMap::Segment }], false));
    terms.push((vec![alibi(AlibiForm::Symmetric), cpb], true));

    let mask = |causal: bool, left: Option<u32>, right: Option<u32>, dense: bool, alignment: Alignment| {
        let mut mask = Mask::none();
        (mask.causal, mask.window_left, mask.window_right) = (causal, left, right);
        (mask.dense, mask.alignment) = (dense, alignment);
        mask
    };
    let (top, bottom) = (Alignment::TopLeft, Alignment::BottomRight);
    let masks = [
        mask(false, None, None, false, bottom),
        mask(true, None, None, false, bottom),
        mask(true, None, None, false, top),
        mask(true, Some(7), None, true, bottom),
        mask(false, Some(7), Some(u32::MAX), false, top),
        mask(false, Some(0), None, false, bottom),
        mask(false, None, None, true, bottom),
    ];
    let mut all = Vec::new();
    for (i, (bias, dense_bias)) in terms.into_iter().enumerate() {
        for (j, mask) in masks.iter().enumerate() {
            for both in [false, true] {
                let mut spec = Spec::new(4, 2, 64);
                spec.rotary = Some(Rotary::new(Pairing::Half, 64, 10_000.0));
                (spec.bias, spec.dense_bias, spec.mask, spec.kv_lens) = (bias.clone(), dense_bias, *mask, both);
                spec.gated_bias = i >= gated;
                spec.positions = if spec.position_streams() > 1 { Positions::Ids } else { Positions::Index };
                // each of cap and kv_lens with and without the other
                spec.logits_soft_cap = (both == ((i + j) % 2 == 0)).then_some(30.0);
                let rolled_loops = j % 2 == 0;
                all.push(Variant { kernel: ATTENTION, spec: spec.clone(), aligned: true, rolled_loops, carry: false });
                if both {
                    all.push(Variant { kernel: SCORES, spec, aligned: true, rolled_loops, carry: false });
                }
            }
        }
    }
    all
}

/// Embeddings of relative positions: every side, index map and query bias.
fn relative() -> Vec<Variant> {
    let maps = [
        IndexMap::distance(-8, 8),
        IndexMap::Distance { min: i32::MIN, max: i32::MIN + 6, outside: Outside::Zero, stream: 2, reversed: true },
        IndexMap::LogBucket { buckets: 16, max_position: 64 },
        IndexMap::Grid { height: 4, width: 7, class: false },
        IndexMap::Grid { height: 4, width: 7, class: true },
        IndexMap::Segment,
    ];
    let term = |side, index, rest: bool| {
        let mut term = Relative::new(side, index);
        (term.per_head, term.query_bias) = (rest, rest && side == RelativeSide::Key);
        term
    };
    let sides = [RelativeSide::Key, RelativeSide::Query, RelativeSide::Value];
    let mut all = Vec::new();
    for (n, map) in maps.into_iter().enumerate() {
        let mut sets: Vec<Vec<Relative>> = sides.iter().map(|side| vec![term(*side, map, n % 2 == 0)]).collect();
        sets.push(sides.into_iter().flat_map(|side| [term(side, map, true), term(side, map, false)]).collect());
        for relative in sets {
            for (kernel, rolled_loops, aligned) in
                [(ATTENTION, true, true), (ATTENTION, false, false), (SCORES, true, false)]
            {
                let mut spec = rich();
                (spec.relative, spec.content_bias) = (relative.clone(), rolled_loops);
                spec.bias = vec![Bias::Indexed { index: map }];
                (spec.head_dim, spec.v_head_dim) = if aligned { (64, 64) } else { (64, 33) };
                spec.positions = if spec.position_streams() > 1 { Positions::Ids } else { Positions::Index };
                all.push(Variant { kernel, spec, aligned, rolled_loops, carry: false });
            }
        }
    }
    all
}

/// A user's functions, alone, together, with data and beside the terms that share their files.
fn own() -> Vec<Variant> {
    let score = [
        "fn score_mod(s: f32, at: ScoreAt) -> f32 { return s; }",
        "const my_n = 3u;\nfn score_mod(s: f32, at: ScoreAt) -> f32 {\n    var x = s;\n    \
         for (var i = 0u; i < my_n; i++) { x += user_f32(i) * f32(distance(at)); }\n    return tanh_f32(x);\n}",
    ];
    let mask =
        "fn mask_mod(at: ScoreAt) -> bool { return at.k_pos < at.q_pos || user_u32(user_words() - 1u) != at.j; }";
    let mut all = Vec::new();
    for (score_mod, mask_mod) in [(Some(0), false), (Some(1), false), (Some(1), true), (None, true)] {
        for (kernel, dense_bias) in [(ATTENTION, false), (ATTENTION, true), (SCORES, true)] {
            let mut spec = if dense_bias { rich() } else { Spec::new(4, 2, 64) };
            spec.score_mod = score_mod.map(|n: usize| score[n].to_string());
            (spec.mask_mod, spec.dense_bias) = (mask_mod.then(|| mask.to_string()), dense_bias);
            all.push(Variant { kernel, spec, aligned: true, rolled_loops: dense_bias, carry: false });
        }
    }
    all
}

/// Linear attention: feature maps, rotations, denominators, decays, states, storage.
fn linear() -> Vec<Variant> {
    let softmax = FeatureMap::Softmax { count: 37, eps: 1e-4 };
    let decays = [None, Some(Decay::Retention), Some(Decay::Token), Some(Decay::Feature)];
    let mut all = Vec::new();
    for features in [FeatureMap::Identity, FeatureMap::Elu, FeatureMap::Relu, softmax] {
        for rotate_features in [false, true] {
            for (i, decay) in decays.iter().enumerate() {
                for both in [false, true] {
                    let mut spec = Spec::new(4, 2, if both { 64 } else { 33 });
                    spec.dtype = [Dtype::F32, Dtype::F16, Dtype::Bf16][i % 3];
                    spec.rotary = Some(Rotary::new(Pairing::Half, 32, 10_000.0));
                    (spec.mask.causal, spec.kv_lens) = (both, i % 2 == 1);
                    let mut linear = Linear::new(features);
                    linear.rotate_features = rotate_features && features != softmax;
                    linear.normalizer = decay.is_none().then(|| Normalizer::new(1e-6, 1e-6));
                    (linear.decay, linear.initial_state) = (decay.clone(), both);
                    linear.delta = linear.normalizer.is_none() && rotate_features;
                    spec.linear = Some(linear);
                    let kernels = if i == 0 { &[Kernel::Linear, ROTATE[0], ROTATE[1]][..] } else { &[Kernel::Linear] };
                    for kernel in kernels {
                        for rolled_loops in [true, false] {
                            let (kernel, spec) = (*kernel, spec.clone());
                            all.push(Variant { kernel, spec, aligned: both, rolled_loops, carry: false });
                        }
                    }
                }
            }
        }
    }
    all
}

/// What takes subgroups of one size: every tile, and diagonals of terms.
fn subgroups() -> Result<Vec<Plan>> {
    let mut all = Vec::new();
    for size in [4, 8, 16, 32, 64] {
        for spec in [rich(), Spec::new(4, 2, 64)] {
            let mut limits = Limits::default();
            limits.subgroup_size = size;
            let shape = Shape::new(&spec, 2, 40, 72);
            let tunings = Tuning::candidates(ATTENTION, &spec, &shape, &limits)?;
            for tuning in tunings.into_iter().filter(|t| t.family == Family::Tile && t.checks) {
                all.push(Plan::with_tuning(ATTENTION, &spec, &shape, &limits, Some(tuning))?);
            }
        }
    }
    // a head that shares its keys with none, on a software adapter
    let mut limits = Limits::default().for_cpu();
    limits.subgroup_size = 8;
    for dtype in [Dtype::F32, Dtype::F16] {
        let mut spec = Spec::new(2, 2, 64);
        (spec.dtype, spec.bias) = (dtype, vec![Bias::Table { min: -9, max: 9 }]);
        all.push(Plan::new(ATTENTION, &spec, &Shape::new(&spec, 2, 40, 72), &limits)?);
    }
    // values of heads that stand far apart
    for rotary in [None, Some(Rotary::new(Pairing::Half, 64, 1e4))] {
        let mut spec = Spec::new(16, 8, 64);
        spec.rotary = rotary;
        all.push(Plan::new(ATTENTION, &spec, &Shape::new(&spec, 1, 100, 5000), &limits)?);
    }
    Ok(all)
}

/// Cooperative matrices of both sizes.
fn matrices() -> Result<Vec<Plan>> {
    let mut all = Vec::new();
    for (matrix, rolled_loops) in [(8, true), (8, false), (16, true), (16, false)] {
        for mut spec in [rich(), Spec::new(4, 2, 128)] {
            spec.dtype = Dtype::F16;
            let mut limits = Limits::default();
            (limits.cooperative_matrix, limits.f16, limits.rolled_loops) = (matrix, true, rolled_loops);
            (limits.max_workgroup_storage, limits.matrix_subgroup) = (49_152, if rolled_loops { 64 } else { 32 });
            let shape = Shape::new(&spec, 2, 40, 72);
            let tunings = Tuning::candidates(ATTENTION, &spec, &shape, &limits)?;
            for tuning in tunings.into_iter().filter(|t| t.family == Family::Coop && t.checks) {
                all.push(Plan::with_tuning(ATTENTION, &spec, &shape, &limits, Some(tuning))?);
            }
        }
    }
    Ok(all)
}

/// Every form of `merge`.
fn merges() -> Result<Vec<Plan>> {
    let of = |(dim, dtype)| {
        let mut spec = Spec::new(4, 2, dim);
        spec.dtype = dtype;
        let part =
            MergePart::of(&Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 2, 3, 40), &Limits::default())?);
        Plan::merge(&spec, &MergeShape::new(&spec, 2, 3, vec![part; 2]), &Limits::default())
    };
    [(64, Dtype::F32), (64, Dtype::Bf16), (7, Dtype::F32), (7, Dtype::F16)].into_iter().map(of).collect()
}

/// Every form of `embed`.
fn embeds() -> Result<Vec<Plan>> {
    let mut all = Vec::new();
    for (dim, dtype) in [(64, Dtype::F32), (64, Dtype::Bf16), (7, Dtype::F32), (7, Dtype::F16)] {
        let mut forms = vec![Embed::learned(dim, 40)];
        for columns in [Columns::Halves, Columns::Interleaved] {
            forms.push(Embed::sinusoidal(dim, columns, Denominator::Half));
            let mut padded = Embed::sinusoidal(dim, columns, Denominator::HalfLessOne);
            if let Absolute::Sinusoidal { padding_row, .. } = &mut padded.positions {
                *padding_row = Some(1);
            }
            forms.push(padded);
        }
        for mut embed in forms {
            embed.dtype = dtype;
            for in_place in [false, true] {
                all.push(Plan::embed(&embed, &EmbedShape::new(&embed, 2, 40), in_place, &Limits::default())?);
            }
        }
    }
    Ok(all)
}

/// Heads of every kind of size: the least, odd, the largest, v different from k.
fn sizes() -> Vec<Variant> {
    let mut all = Vec::new();
    for (head_dim, v_head_dim) in [(64, 33), (256, 256), (36, 80)] {
        for (dtype, rolled_loops) in [(Dtype::F32, true), (Dtype::F16, false)] {
            let mut spec = rich();
            (spec.head_dim, spec.v_head_dim, spec.dtype) = (head_dim, v_head_dim, dtype);
            let mut rotary = Rotary::new(Pairing::Interleaved, 20, 10_000.0);
            (rotary.offset, rotary.values) = (11, true);
            spec.rotary = Some(rotary);
            all.push(Variant { kernel: ATTENTION, spec, aligned: head_dim == 256, rolled_loops, carry: false });
        }
    }
    for (head_dim, v_head_dim) in [(1, 1), (33, 7), (80, 80), (256, 256), (192, 128), (4, 256)] {
        for dtype in [Dtype::F32, Dtype::F16] {
            for rolled_loops in [true, false] {
                let mut spec = rich();
                (spec.head_dim, spec.v_head_dim, spec.dtype) = (head_dim, v_head_dim, dtype);
                spec.rotary = (head_dim > 1).then(|| Rotary::new(Pairing::Half, head_dim / 2 * 2, 10_000.0));
                all.push(Variant { kernel: ATTENTION, spec, aligned: true, rolled_loops, carry: false });
            }
        }
    }
    all
}

/// Packed sequences in every kernel, with index and given positions, dense terms, keys at once and in parts.
fn packed() -> Vec<Variant> {
    let mut all = Vec::new();
    for kernel in [ATTENTION, SCORES].into_iter().chain(ROTATE).chain(IN_PLACE) {
        for positions in [Positions::Index, Positions::Ids] {
            for (dense, carry) in [(false, false), (true, false), (false, true)] {
                let mut spec = rich();
                (spec.packed, spec.positions, spec.dense_bias, spec.mask.dense) = (true, positions, dense, dense);
                spec.bias = vec![alibi(AlibiForm::KeyFromEnd)];
                all.push(Variant { kernel, spec, aligned: true, rolled_loops: !carry, carry });
            }
        }
    }
    all
}

/// Norms before and after the rotation, temperature and the heads' scales, sinks, chunks.
fn norms() -> Vec<Variant> {
    let mut all = Vec::new();
    for kind in [NormKind::Rms, NormKind::L2] {
        for (weights, after_rotation) in [(false, false), (true, false), (false, true), (true, true)] {
            for rolled_loops in [true, false] {
                for kernel in [ATTENTION, SCORES].into_iter().chain(ROTATE) {
                    let mut spec = rich();
                    let mut norm = Norm::new(kind, 1e-6);
                    (norm.weights, norm.after_rotation) = (weights, after_rotation);
                    spec.norm = Some(norm);
                    (spec.head_dim, spec.mask.chunk) = (if rolled_loops { 64 } else { 70 }, Some(16));
                    all.push(Variant { kernel, spec, aligned: rolled_loops, rolled_loops, carry: false });
                }
            }
        }
    }
    for sink in [None, Some(Sink::Zero), Some(Sink::Learned)] {
        for (temperature, head_scale) in [(false, false), (true, false), (false, true), (true, true)] {
            for carry in [false, true] {
                for kernel in [ATTENTION, SCORES] {
                    let mut spec = rich();
                    (spec.sink, spec.head_scale) = (sink, head_scale);
                    spec.temperature = temperature.then(|| match sink {
                        None => Temperature::new(0.1, 8192),
                        Some(Sink::Zero) => Temperature::log_n(512),
                        Some(_) => Temperature::of_heads(),
                    });
                    all.push(Variant { kernel, spec, aligned: true, rolled_loops: carry, carry });
                }
            }
        }
    }
    all
}
