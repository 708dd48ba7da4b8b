//! Cases of linear attention: RoFormer's, plain, Performer, retention, and ONNX LinearAttention.

use super::model::{Sizes, heads_first, plain};
use super::operator::{need_slot, slot};
use super::rotation;
use super::work::{Build, Expect, Probe, Stage, Table, Tolerance, Work, finish, needs, swap_heads, values_of};
use crate::golden::{Entry, Golden, Parameters, Tensors};
use ropewalk::{
    Alignment, Decay, Error, FeatureMap, Inputs, Linear, Mask, Normalizer, Positions, Spec, Tensor, reference,
};

/// Whether a case is one of these: by its tensors and parameters, and by `system` where a convention is named nowhere else.
pub fn is_linear(golden: &Golden) -> bool {
    let system = golden.system.to_lowercase();
    ["phi_q", "phi_k", "projection", "initial_state", "expected_state"].iter().any(|name| golden.tensors.has(name))
        || ["feature_map", "features"].iter().any(|name| golden.parameters.set(name))
        || ["linear attention", "retention", "performer"].iter().any(|name| system.contains(name))
}

/// A model's linear attention, tensors `[batch, heads, len, dim]`.
pub fn attention(golden: Golden) -> Build<Work> {
    let system = golden.system.clone();
    let retention = system.to_lowercase().contains("retention") && !golden.parameters.set("feature_map");
    let (p, mut t) = (golden.parameters, golden.tensors);
    let ((q, q_shape), (k, k_shape)) = (heads_first(&mut t, "q")?, heads_first(&mut t, "k")?);
    let (v, v_shape) = heads_first(&mut t, "v")?;
    let (mut spec, mut inputs, sizes) = plain(q, k, v)?;
    let mut work = Work::default();
    let said = [
        ("head_dim", "q", spec.head_dim),
        ("v_head_dim", "v", spec.v_head_dim),
        ("heads", "q", spec.num_heads),
        ("kv_heads", "k", spec.num_kv_heads),
    ];
    if let Some((name, tensor, is)) = said.into_iter().find(|(name, _, is)| p.u32(name).is_some_and(|n| n != *is)) {
        return Err(
            Error::input(tensor, format!("holds {is}, not `{name}`"), "let tensors and parameters agree").into()
        );
    }
    spec.softmax_scale = Some(p.f64("scale").unwrap_or(1.0));
    spec.rotary = rotation::rotary(&system, &p, &mut t, spec.head_dim, sizes, &mut work.tables)?;
    if spec.rotary.is_none() && (p.set("rotary") || p.set("theta")) {
        return Err(Error::input("pairing", "is missing from a case that rotates", "say which elements pair").into());
    }

    // phi, and where R stands
    let mut linear = Linear::new(feature_map(&p, &mut t, &spec, &mut inputs)?);
    linear.rotate_features = match p.str("rotary") {
        Some(text) if text.contains("after") => true,
        Some(text) if text.contains("before") => false,
        Some(other) => return needs(format!("the rotation `{other}`")),
        None => spec.rotary.is_some() && matches!(linear.features, FeatureMap::Elu | FeatureMap::Relu),
    };
    linear.normalizer = normalizer(&p, linear.features);
    decay(&p, &mut t, &spec, &mut linear, retention, &mut work.tables)?;

    // causality, lengths, positions
    spec.mask = Mask::none();
    spec.mask.causal = p.bool("causal").unwrap_or(retention);
    inputs.kv_lens = t.take("kv_lengths").map(|e| e.u32s("kv_lengths")).transpose()?;
    spec.kv_lens = inputs.kv_lens.is_some();
    if sizes.q_len == sizes.kv_len {
        // the same tokens, whatever the lengths
        spec.mask.alignment = Alignment::TopLeft;
    }
    match rotation::positions(&p, &mut t, &spec, sizes)? {
        Some([q, k]) => {
            spec.positions = Positions::Ids;
            (inputs.q_positions, inputs.k_positions) = (Some(q), Some(k));
        }
        None => positions(&p, &mut t, &mut spec, &mut inputs, sizes)?,
    }
    if let Some(state) = t.take("initial_state") {
        let shape = [sizes.batch, spec.num_kv_heads, spec.features(), spec.v_head_dim];
        inputs.initial_state = Some(values_of("initial_state", &state, &shape)?.iter().map(|x| *x as f32).collect());
        linear.initial_state = true;
        if linear.normalizer.is_some() {
            // the packages' denominators count the new keys alone
            let z = sizes.batch as usize * (spec.num_kv_heads * spec.features()) as usize;
            let given = t.take("initial_normalizer").map(|z| z.f32s("initial_normalizer")).transpose()?;
            inputs.initial_normalizer = Some(given.unwrap_or_else(|| vec![0.0; z]));
        }
    }
    spec.linear = Some(linear);

    // what is listed
    let tolerance = Tolerance::DOUBLE;
    let mut expects = Vec::new();
    for (name, stage, shape) in [("expected_q_rot", Stage::QRot, q_shape), ("expected_k_rot", Stage::KRot, k_shape)] {
        if let Some(listed) = t.take(name) {
            expects.push(Expect::heads_first(name, stage, &listed, shape, tolerance)?);
        }
    }
    if let Some(listed) = t.take("expected_out") {
        let shape = [sizes.batch, sizes.heads, sizes.q_len, v_shape[3]];
        let stage = match p.str("output_norm") {
            None => Stage::Out,
            Some("rms of each head, no weights, eps 0") => Stage::OutNormed,
            Some(other) => return needs(format!("the norm `{other}` of the output")),
        };
        expects.push(Expect::heads_first("expected_out", stage, &listed, shape, tolerance)?);
    }
    let state = [sizes.batch, spec.num_kv_heads, spec.features(), spec.v_head_dim];
    for (name, stage, shape) in
        [("expected_state", Stage::State, &state[..]), ("expected_normalizer", Stage::Normalizer, &state[..3])]
    {
        if let Some(listed) = t.take(name) {
            expects.push(Expect::as_is(name, stage, &listed, shape, tolerance)?);
        }
    }
    if t.has("phi_q") || t.has("phi_k") {
        let (q, k) = reference::features(&spec, &inputs)?;
        for (name, computed, [batch, heads, len, _]) in [("phi_q", q, q_shape), ("phi_k", k, k_shape)] {
            let Some(listed) = t.take(name) else { continue };
            let shape = [batch, heads, len, spec.features()];
            let listed = swap_heads(&values_of(name, &listed, &shape)?, shape);
            work.tables.push(Table { name: name.into(), computed, listed, tolerance });
        }
    }
    sinusoid(&mut t, &spec, &inputs, sizes, &mut work.tables)?;
    let angles = rotation::angles(&p, &mut t, &spec, &inputs, sizes)?;
    work.probes.push(Probe { label: "", spec, inputs, expects, difference: None });
    work.probes.extend(angles);
    finish(&p, t, work)
}

fn feature_map(p: &Parameters, t: &mut Tensors, spec: &Spec, inputs: &mut Inputs) -> Build<FeatureMap> {
    if let Some(projection) = t.take("projection") {
        let count = projection.shape.first().copied().unwrap_or_default() as u32;
        if projection.shape != [count as usize, spec.head_dim as usize] || p.u32("features").is_some_and(|f| f != count)
        {
            return Err(projection.wrong("projection", "[features, head_dim]").into());
        }
        inputs.parameters.insert("projection".into(), projection.f32s("projection")?);
        // 1e-4 is the default of the original code, which no parameter names
        let eps = ["kernel_eps", "feature_eps"].iter().find_map(|name| p.f64(name)).unwrap_or(1e-4);
        return Ok(FeatureMap::Softmax { count, eps });
    }
    match p.str("feature_map").map(|s| s.to_lowercase().replace(' ', "")).as_deref() {
        None | Some("identity" | "none") => Ok(FeatureMap::Identity),
        Some("elu(x)+1" | "elu+1" | "elu" | "1+elu(x)") => Ok(FeatureMap::Elu),
        Some("relu" | "relu(x)") => Ok(FeatureMap::Relu),
        Some(other) => needs(format!("the feature map `{other}`")),
    }
}

fn normalizer(p: &Parameters, features: FeatureMap) -> Option<Normalizer> {
    let wanted = p.bool("normalize").unwrap_or(features != FeatureMap::Identity);
    let eps = p.f64("eps");
    wanted.then(|| match features {
        FeatureMap::Softmax { .. } => Normalizer::new(0.0, eps.unwrap_or(0.0)),
        FeatureMap::Identity => Normalizer::new(eps.unwrap_or(1e-10), 0.0),
        _ => Normalizer::new(eps.unwrap_or(0.0), 0.0),
    })
}

/// Retention's factors come from the heads; a listed tensor of them is compared, or read where no rule gives it.
fn decay(
    p: &Parameters,
    t: &mut Tensors,
    spec: &Spec,
    linear: &mut Linear,
    retention: bool,
    tables: &mut Vec<Table>,
) -> Build<()> {
    let heads = spec.num_kv_heads;
    let computed: Vec<f64> = (0..heads).map(|g| 1.0 - 2f64.powi(-5 - g as i32)).collect();
    let name = ["gamma", "gammas", "decay"].into_iter().find(|name| t.has(name) || !p.list(name).is_empty());
    if let Some(name) = name {
        let listed = match t.take(name) {
            Some(entry) => values_of(name, &entry, &[heads])?,
            None => p.list(name).iter().filter_map(serde_json::Value::as_f64).collect(),
        };
        match retention && listed.iter().zip(&computed).all(|(a, b)| (a - b).abs() < 1e-6) {
            true => tables.push(Table { name: name.into(), computed, listed, tolerance: Tolerance::DOUBLE }),
            false => linear.decay = Some(Decay::Heads(listed)),
        }
    }
    match p.str("decay").map(|text| text.replace(' ', "")).as_deref() {
        None | Some("1-2^(-5-h)") => {}
        Some(other) => return needs(format!("the decay `{other}`")),
    }
    if retention && linear.decay.is_none() {
        linear.decay = Some(Decay::Retention);
    }
    Ok(())
}

fn positions(p: &Parameters, t: &mut Tensors, spec: &mut Spec, inputs: &mut Inputs, sizes: Sizes) -> Build<()> {
    let listed = |names: [&str; 2], len: u32| -> Build<Option<Vec<i32>>> {
        for name in names {
            let Some(entry) = t.0.get(name).cloned() else { continue };
            let ids = entry.i32s(name)?;
            match entry.shape.as_slice() {
                [batch, n] if *n == len as usize && *batch == sizes.batch as usize => return Ok(Some(ids)),
                [1, n] | [n] if *n == len as usize => return Ok(Some(ids.repeat(sizes.batch as usize))),
                _ => return Err(entry.wrong(name, &format!("[batch, {len}]")).into()),
            }
        }
        Ok(None)
    };
    let q = listed(["q_positions", "positions"], sizes.q_len)?;
    let k = listed(["k_positions", "positions"], sizes.kv_len)?;
    ["q_positions", "k_positions", "positions"].iter().for_each(|name| drop(t.take(name)));
    let offset = p.i64("offset").or(p.i64("past")).and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
    if spec.rotary.is_none() {
        return Ok(());
    }
    let from = |len: u32| -> Vec<i32> {
        (0..sizes.batch).flat_map(|_| (0..len).map(|i| offset.saturating_add(i as i32))).collect()
    };
    match (q, k) {
        (Some(q), Some(k)) => (inputs.q_positions, inputs.k_positions) = (Some(q), Some(k)),
        (None, None) if offset != 0 && sizes.q_len == sizes.kv_len => {
            (inputs.q_positions, inputs.k_positions) = (Some(from(sizes.q_len)), Some(from(sizes.kv_len)));
        }
        (None, None) => return Ok(()),
        _ => return Err(Error::input("q_positions", "without k_positions", "give both or neither").into()),
    }
    spec.positions = Positions::Ids;
    Ok(())
}

/// Performer's sines and cosines, `[len, head_dim]` as sin | cos: a rotation of (0, 1) and (1, 0).
fn sinusoid(t: &mut Tensors, spec: &Spec, inputs: &Inputs, sizes: Sizes, tables: &mut Vec<Table>) -> Build<()> {
    let Some(listed) = t.take("sinusoid") else { return Ok(()) };
    let Some(rotary) = &spec.rotary else { return Err(listed.wrong("sinusoid", "a case that rotates").into()) };
    let (rows, dim) = (sizes.kv_len, rotary.rotary_dim as usize);
    let listed = values_of("sinusoid", &listed, &[rows, rotary.rotary_dim])?;
    let mut unit = Spec::new(1, 1, rotary.rotary_dim);
    let mut rotary = rotary.clone();
    (rotary.pairing, rotary.offset) = (ropewalk::Pairing::Half, 0);
    (unit.rotary, unit.positions) = (Some(rotary), Positions::Ids);
    let row = [vec![1f32; dim / 2], vec![0.0; dim / 2]].concat();
    let x = Tensor::bshd(row.repeat(rows as usize), [1, rows, 1, dim as u32])?;
    let mut of_unit = Inputs::new(x.clone(), x.clone(), x);
    let ids: Vec<i32> = match &inputs.k_positions {
        Some(ids) => ids.iter().copied().take(rows as usize).collect(),
        None => (0..rows as i32).collect(),
    };
    (of_unit.q_positions, of_unit.k_positions) = (Some(ids.clone()), Some(ids));
    let (turned, _) = reference::rotate(&unit, &of_unit)?;
    // cos | sin of every row, listed as sin | cos
    let swap = |row: &[f64]| row[dim / 2..].iter().chain(&row[..dim / 2]).copied().collect::<Vec<_>>();
    let computed = turned.chunks_exact(dim.max(1)).flat_map(swap).collect();
    tables.push(Table { name: "sinusoid".into(), computed, listed, tolerance: Tolerance::DOUBLE });
    Ok(())
}

/// ONNX LinearAttention (opset 27).
pub fn onnx(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let a = p.object("attributes").unwrap_or_default();
    let rule = a.str("update_rule").unwrap_or("gated_delta").to_string();
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return needs(format!("the update rule `{other}`")),
    };
    let heads = |name: &str| {
        let missing = || Error::input(name, "is missing from the attributes", "give a number of heads");
        a.u32(name).filter(|n| *n > 0).ok_or_else(missing)
    };
    let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    let split = |name: &str, entry: &Entry, heads: u32| -> Build<Tensor> {
        if entry.is_double() {
            return needs("f64 storage");
        }
        match (entry.shape.len(), entry.shape4(name)?) {
            (3, [_, batch, len, width]) if width % heads == 0 => {
                Ok(Tensor::bshd(entry.data(name)?.clone(), [batch, len, heads, width / heads])?)
            }
            _ => Err(entry.wrong(name, &format!("[batch, len, {heads} * dim]")).into()),
        }
    };
    let query = need_slot(&mut t, 0, "query")?;
    let q = split("query", &query, q_heads)?;
    let k = split("key", &need_slot(&mut t, 1, "key")?, kv_heads)?;
    let v = split("value", &need_slot(&mut t, 2, "value")?, kv_heads)?;
    let (mut spec, mut inputs, sizes) = plain(q, k, v)?;
    spec.softmax_scale = a.f64("scale").filter(|s| *s != 0.0);
    spec.mask = Mask::causal();
    let mut linear = Linear::new(FeatureMap::Identity);
    let state = [sizes.batch, kv_heads, spec.head_dim, spec.v_head_dim];
    let past = slot(&mut t, "input", 3);
    if let Some(past) = &past {
        let values = values_of("past_state", past, &state)?;
        inputs.initial_state = Some(values.iter().map(|x| *x as f32).collect());
        linear.initial_state = true;
    }
    let decay = slot(&mut t, "input", 4);
    match (&decay, gated) {
        (Some(g), true) => {
            let (per_head, per_key) = (kv_heads, kv_heads * spec.head_dim);
            let width = g.shape.last().copied().unwrap_or_default() as u32;
            linear.decay = Some(match width {
                w if w == per_head => Decay::Token,
                w if w == per_key => Decay::Feature,
                _ => return Err(g.wrong("decay", &format!("a last dimension of {per_head} or {per_key}")).into()),
            });
            let values = values_of("decay", g, &[sizes.batch, sizes.kv_len, width])?;
            inputs.decay = Some(values.iter().map(|x| *x as f32).collect());
        }
        (None, false) => {}
        (None, true) => return Err(Error::input("decay", "is missing", format!("the rule `{rule}` reads it")).into()),
        (Some(g), false) => return Err(g.wrong("decay", &format!("no tensor: the rule `{rule}` has no decay")).into()),
    }
    match (slot(&mut t, "input", 5), delta) {
        (Some(beta), true) => {
            // one for all heads, or one each
            let width = beta.shape.last().copied().unwrap_or_default() as u32;
            if width != 1 && width != kv_heads {
                return Err(beta.wrong("beta", &format!("a last dimension of 1 or {kv_heads}")).into());
            }
            let values = values_of("beta", &beta, &[sizes.batch, sizes.kv_len, width])?;
            let of_heads = values.iter().flat_map(|x| std::iter::repeat_n(*x as f32, (kv_heads / width) as usize));
            inputs.beta = Some(of_heads.collect());
            linear.delta = true;
        }
        (None, false) => {}
        (None, true) => return Err(Error::input("beta", "is missing", format!("the rule `{rule}` reads it")).into()),
        (Some(beta), false) => {
            return Err(beta.wrong("beta", &format!("no tensor: the rule `{rule}` has no beta")).into());
        }
    }
    spec.linear = Some(linear);
    let mut expects = Vec::new();
    if let Some(y) = slot(&mut t, "expected", 0) {
        let shape = [sizes.batch, sizes.q_len, sizes.heads * spec.v_head_dim];
        expects.push(Expect::as_is("output", Stage::Out, &y, &shape, Tolerance::of_output(&y))?);
    }
    if let Some(y) = slot(&mut t, "expected", 1) {
        expects.push(Expect::as_is("present_state", Stage::State, &y, &state, Tolerance::of_output(&y))?);
    }
    finish(
        &p,
        t,
        Work { probes: vec![Probe { label: "", spec, inputs, expects, difference: None }], ..Work::default() },
    )
}
