//! Rotations: from a case's parameters to a `Rotary`, and the cosines and sines that a case lists.

use super::model::Sizes;
use super::work::{Build, Expect, Probe, Stage, Table, Tolerance, Work, finish, needs, values_of};
use crate::golden::{Golden, Parameters, Tensors};
use ropewalk::{
    Angle, Error, Frequencies, Inputs, MAX_HEAD_DIM, Pairing, Positions, RopeParameters, Rotary, Spec, Tensor,
};

/// The length extension that the parameters describe, with theta. `longest` is the longest sequence of the call.
fn scaled(p: &Parameters, pairing: Pairing, rotary_dim: u32, longest: Option<u32>) -> Build<Rotary> {
    // One dictionary for a model, or one for each kind of layer (Gemma 3).
    let rope = match p.object("rope_parameters").or_else(|| p.object("rope_scaling")) {
        Some(r) if !r.set("rope_type") && !r.set("type") => {
            r.object(if p.set("sliding_window") { "sliding_attention" } else { "full_attention" })
        }
        other => other,
    };
    let json = serde_json::Value::Object(rope.unwrap_or_default().0).to_string();
    let rope = match RopeParameters::from_json(&json, p.u32("max_position_embeddings"), longest) {
        Err(e @ Error::Config { .. }) => return needs(format!("a length extension: {e}")),
        other => other?,
    };
    let Some(theta) = rope.theta.or_else(|| p.f64("theta")) else {
        return Err(Error::input("theta", "is missing from `parameters`", "give the base of the frequencies").into());
    };
    Ok(Rotary::scaled(pairing, rotary_dim, theta, &rope.scaling)?)
}

/// R, if the case rotates; its listed frequencies join the tables.
pub fn rotary(p: &Parameters, t: &mut Tensors, head_dim: u32, tables: &mut Vec<Table>) -> Build<Option<Rotary>> {
    let pairing = match p.str("pairing") {
        None => return Ok(None),
        Some(_) if p.u32("rotary_dim") == Some(0) => return Ok(None),
        Some("half") => Pairing::Half,
        Some("interleaved") => Pairing::Interleaved,
        Some("interleaved_in_half_out") => Pairing::InterleavedInHalfOut,
        Some(other) => return needs(format!("pairing `{other}`")),
    };
    let rotary_dim = p.u32("rotary_dim").unwrap_or(head_dim);
    Ok(Some(build(p, t, pairing, rotary_dim, tables)?))
}

/// The rotation whose frequencies or angles a layer lists without using them (Llama 4's layers without positions).
pub fn unused(p: &Parameters, t: &mut Tensors, spec: &Spec, tables: &mut Vec<Table>) -> Build<Option<Rotary>> {
    let listed = ["inv_freq", "cos", "sin"].iter().any(|name| t.has(name));
    if spec.rotary.is_some() || p.u32("rotary_dim") != Some(0) || !listed || spec.head_dim % 2 == 1 {
        return Ok(None);
    }
    Ok(Some(build(p, t, Pairing::Interleaved, spec.head_dim, tables)?))
}

fn build(p: &Parameters, t: &mut Tensors, pairing: Pairing, dim: u32, tables: &mut Vec<Table>) -> Build<Rotary> {
    let last = |name: &str| t.0.get(name).and_then(|ids| ids.i32s(name).ok()?.into_iter().max());
    let end = last("q_positions").max(last("k_positions")).and_then(|n| u32::try_from(n.checked_add(1)?).ok());
    let longest = match p.0.contains_key("seq_len") {
        true => p.u32("seq_len"),
        false => p.u32("rope_seq_len").or(end),
    };
    let rotary = scaled(p, pairing, dim, longest)?;
    if let Some(listed) = t.take("inv_freq") {
        // Rounded to f32 once; the scaling cases keep f64.
        let tolerance = Tolerance::Relative(if listed.is_double() { 1e-12 } else { 2f64.powi(-23) });
        let listed = values_of("inv_freq", &listed, &[dim / 2])?;
        tables.push(Table { name: "inv_freq".into(), computed: rotary.inv_freq(), listed, tolerance });
    }
    if let Some(listed) = p.f64("attention_factor") {
        let (name, computed, tolerance) =
            ("attention_factor".into(), rotary.attention_factor, Tolerance::Relative(1e-12));
        tables.push(Table { name, computed: vec![computed], listed: vec![listed], tolerance });
    }
    Ok(rotary)
}

/// The rotation of a unit vector in every pair's plane gives cos and sin themselves.
fn unit_vectors(rotary: &Rotary, positions: Vec<i32>) -> Build<(Spec, Inputs)> {
    let (rows, dim) = (positions.len() as u32, rotary.rotary_dim);
    if dim > MAX_HEAD_DIM {
        return needs(format!("heads of more than {MAX_HEAD_DIM} elements"));
    }
    let mut spec = Spec::new(1, 1, dim);
    let mut rotary = rotary.clone();
    (rotary.pairing, rotary.offset) = (Pairing::Half, 0);
    spec.rotary = Some(rotary);
    spec.positions = Positions::Ids;
    let half = dim as usize / 2;
    let row = [vec![1.0f32; half], vec![0.0; half]].concat();
    let unit = Tensor::bshd(row.repeat(rows as usize), [1, rows, 1, dim])?;
    let mut inputs = Inputs::new(unit.clone(), unit.clone(), unit);
    (inputs.q_positions, inputs.k_positions) = (Some(positions.clone()), Some(positions));
    Ok((spec, inputs))
}

/// Listed cos and sin, `[rows, rotary_dim / 2]` each, as the rotated unit vectors.
fn expect_angles(name: &str, cos: &[f64], sin: &[f64], pairs: usize) -> Expect {
    let rows = cos.chunks(pairs.max(1)).zip(sin.chunks(pairs.max(1)));
    let listed = rows.flat_map(|(c, s)| c.iter().chain(s)).copied().map(Some).collect();
    Expect { name: name.into(), stage: Stage::QRot, listed, tolerance: Tolerance::DOUBLE }
}

/// The cos and sin that a model's rotation module returned, at the queries' positions or (where there are as many
/// rows) the keys': one entry a pair, or the full width with every entry twice.
pub fn angles(t: &mut Tensors, spec: &Spec, inputs: &Inputs, sizes: Sizes) -> Build<Option<Probe>> {
    let Some(rotary) = &spec.rotary else { return Ok(None) };
    let (Some(cos), Some(sin)) = (t.take("cos"), t.take("sin")) else { return Ok(None) };
    let index = |from: i64, len: u32| (0..len).map(|i| (from + i as i64) as i32).collect::<Vec<_>>();
    let q_ids = inputs.q_positions.clone().unwrap_or(index(sizes.kv_len as i64 - sizes.q_len as i64, sizes.q_len));
    let k_ids = inputs.k_positions.clone().unwrap_or(index(0, sizes.kv_len));
    let (pairs, width) = ((rotary.rotary_dim / 2) as usize, cos.shape.last().copied().unwrap_or(0));
    let rows = |len: u32| [sizes.batch, 1].map(|b| b as usize * len as usize * width);
    let (cos_values, sin_values) = (cos.f64s("cos")?, sin.f64s("sin")?);
    let ids = match cos_values.len() {
        n if rows(sizes.q_len).contains(&n) => q_ids,
        n if rows(sizes.kv_len).contains(&n) => k_ids,
        _ => return Err(cos.wrong("cos", "a row for every query or every key").into()),
    };
    if sin.shape != cos.shape || (width != pairs && width != 2 * pairs) {
        return Err(cos.wrong("cos", &format!("{pairs} or {} columns, like sin", 2 * pairs)).into());
    }
    let positions = ids.into_iter().take(cos_values.len() / width.max(1)).collect();
    let columns = |values: &[f64], column: fn(usize, usize) -> usize| -> Vec<f64> {
        values.chunks(width).flat_map(|row| (0..pairs).map(|p| row[column(p, pairs)]).collect::<Vec<_>>()).collect()
    };
    let views: Vec<fn(usize, usize) -> usize> = match width == pairs {
        true => vec![|p, _| p],
        false => full_width(&cos_values, &sin_values, pairs),
    };
    let expects = views
        .into_iter()
        .map(|view| expect_angles("cos/sin", &columns(&cos_values, view), &columns(&sin_values, view), pairs));
    let expects = expects.collect();
    let (spec, inputs) = unit_vectors(rotary, positions)?;
    Ok(Some(Probe { label: "angles", spec, inputs, expects }))
}

/// Where the two copies of pair p's entry stand in a row of full width: half a row apart, or side by side.
fn full_width(cos: &[f64], sin: &[f64], pairs: usize) -> Vec<fn(usize, usize) -> usize> {
    let differ = |one: fn(usize, usize) -> usize, other: fn(usize, usize) -> usize| -> usize {
        let rows = cos.chunks(2 * pairs).chain(sin.chunks(2 * pairs));
        rows.map(|row| (0..pairs).filter(|p| row[one(*p, pairs)] != row[other(*p, pairs)]).count()).sum()
    };
    let apart: [fn(usize, usize) -> usize; 2] = [|p, _| p, |p, pairs| p + pairs];
    let beside: [fn(usize, usize) -> usize; 2] = [|p, _| 2 * p, |p, _| 2 * p + 1];
    if differ(apart[0], apart[1]) <= differ(beside[0], beside[1]) { apart.to_vec() } else { beside.to_vec() }
}

/// A scaling function's frequencies, and cos and sin from them at far positions: exact angles from the f64
/// frequencies, exact angles from the f32 ones, and f32 angles.
pub fn scaling(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let positions = t.need("positions")?.i32s("positions")?;
    let Some(dim) = p.u32("rotary_dim").or_else(|| p.u32("head_dim")) else {
        return Err(Error::input("rotary_dim", "is missing from `parameters`", "give it").into());
    };
    let mut work = Work::default();
    let exact = build(&p, &mut t, Pairing::Half, dim, &mut work.tables)?;
    let mut probe = |label, rotary: &Rotary, t: &mut Tensors, [cos, sin]: [&str; 2]| -> Build<()> {
        let (Some(c), Some(s)) = (t.take(cos), t.take(sin)) else { return Ok(()) };
        let shape = [positions.len() as u32, dim / 2];
        let (c, s) = (values_of(cos, &c, &shape)?, values_of(sin, &s, &shape)?);
        let (spec, inputs) = unit_vectors(rotary, positions.clone())?;
        let expects = vec![expect_angles(&format!("{cos}/{sin}"), &c, &s, dim as usize / 2)];
        work.probes.push(Probe { label, spec, inputs, expects });
        Ok(())
    };
    probe("exact", &exact, &mut t, ["cos", "sin"])?;
    if let Some(shipped) = t.take("inv_freq_f32") {
        let inv_freq = values_of("inv_freq_f32", &shipped, &[dim / 2])?;
        let mut shipped = exact.clone();
        shipped.frequencies = Frequencies::InvFreq(inv_freq);
        probe("exact_f32_freq", &shipped, &mut t, ["cos_f64_from_inv_freq_f32", "sin_f64_from_inv_freq_f32"])?;
        shipped.angle = Angle::Float32;
        probe("float32", &shipped, &mut t, ["cos_hf_f32", "sin_hf_f32"])?;
    }
    finish(t, work)
}
