//! Cases of packed sequences: tensors `[total, heads, head_dim]`, `cu_seqlens_q` and `cu_seqlens_k`.

use super::model::{Sizes, place_mask, plain};
use super::rotation;
use super::work::{Build, Expect, Probe, Stage, Tolerance, Work, finish, needs, values_of};
use crate::golden::{Entry, Golden, Parameters, Tensors};
use ropewalk::{Error, Positions, Problem, Tensor};

/// Attention of every sequence within itself.
pub fn attention(golden: Golden) -> Build<Work> {
    let (p, mut t) = (golden.parameters, golden.tensors);
    let (mut spec, mut inputs, sizes) = plain(tokens(&mut t, "q")?, tokens(&mut t, "k")?, tokens(&mut t, "v")?)?;
    agree(&p, &[("head_dim", spec.head_dim), ("q_heads", spec.num_heads), ("kv_heads", spec.num_kv_heads)])?;
    spec.packed = true;
    inputs.cu_seqlens_q = Some(starts(&mut t, "cu_seqlens_q")?);
    inputs.cu_seqlens_k = Some(starts(&mut t, "cu_seqlens_k")?);
    (spec.softmax_scale, spec.logits_soft_cap) = (p.f64("scale"), p.f64("softcap"));
    let mut work = Work::default();
    spec.rotary = rotation::rotary(&golden.system, &p, &mut t, spec.head_dim, sizes, &mut work.tables)?;
    if spec.rotary.is_some() && (t.has("q_positions") || t.has("k_positions")) {
        let mut ids = |name: &str, len: u32| -> Build<Vec<i32>> {
            let entry = t.need(name)?;
            values_of(name, &entry, &[len])?;
            Ok(entry.i32s(name)?)
        };
        inputs.q_positions = Some(ids("q_positions", sizes.q_len)?);
        inputs.k_positions = Some(ids("k_positions", sizes.kv_len)?);
        spec.positions = Positions::Ids;
    }
    place_mask(&mut spec, &mut inputs, sizes, &p, None, None)?;

    let problem = Problem::new(&spec, &inputs)?;
    // rows that see nothing: what a package computes there means nothing
    let empty: Vec<bool> = (0..sizes.q_len).map(|i| !problem.keys(0, i).any(|j| problem.visible(0, 0, i, j))).collect();
    let token_of = |row: usize| empty.get(row).copied().unwrap_or(false);
    let mut expects = Vec::new();
    if let Some(listed) = t.take("expected_out") {
        let shape = [sizes.q_len, sizes.heads, spec.v_head_dim];
        let width = sizes.heads * spec.v_head_dim;
        let expect = Expect::as_is("expected_out", Stage::Out, &listed, &shape, Tolerance::DOUBLE)?;
        expects.push(expect.without(width, token_of));
    }
    if let Some(listed) = t.take("expected_lse") {
        let by_head = by_head(&listed, sizes)?;
        let expect =
            Expect::as_is("expected_lse", Stage::Lse, &by_head, &[sizes.heads, sizes.q_len], Tolerance::DOUBLE)?;
        expects.push(expect.without(1, |row| token_of(row % sizes.q_len as usize)));
    }
    work.probes.push(Probe { label: "", spec, inputs, expects, difference: None });
    finish(&p, t, work)
}

/// `[total, heads, dim]` as one batch entry.
fn tokens(t: &mut Tensors, name: &str) -> Build<Tensor> {
    let entry = t.need(name)?;
    if entry.is_double() {
        return needs("f64 storage");
    }
    if entry.shape.len() != 3 {
        return Err(entry.wrong(name, "[total, heads, dim]").into());
    }
    Ok(Tensor::bshd(entry.data(name)?.clone(), entry.shape4(name)?)?)
}

/// The starts of sequences, one axis of them.
fn starts(t: &mut Tensors, name: &str) -> Build<Vec<u32>> {
    let entry = t.need(name)?;
    match entry.shape.len() {
        1 => Ok(entry.u32s(name)?),
        _ => Err(entry.wrong(name, "[sequences + 1]").into()),
    }
}

/// `[total, heads]` in the order `[heads, total]`.
fn by_head(listed: &Entry, sizes: Sizes) -> Build<Entry> {
    let (heads, total) = (sizes.heads as usize, sizes.q_len as usize);
    let values = values_of("expected_lse", listed, &[sizes.q_len, sizes.heads])?;
    let turned = (0..heads).flat_map(|h| values.iter().copied().skip(h).step_by(heads)).collect();
    Ok(Entry { shape: vec![heads, total], values: crate::golden::Values::Double(turned) })
}

/// Parameters that repeat what the shapes say.
pub(super) fn agree(p: &Parameters, sizes: &[(&str, u32)]) -> Build<()> {
    match sizes.iter().find(|(name, n)| p.f64(name).is_some_and(|given| given != *n as f64)) {
        Some((name, n)) => {
            let problem = format!("is {}, but the tensors have {n}", p.f64(name).unwrap_or(0.0));
            Err(Error::input(*name, problem, "let the two agree").into())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Values;
    use ropewalk::Data;
    use std::collections::BTreeMap;

    fn case(change: impl Fn(&mut BTreeMap<String, Entry>, &mut serde_json::Value)) -> Build<Work> {
        let floats = |shape: &[usize]| {
            let n = shape.iter().product::<usize>();
            Entry { shape: shape.to_vec(), values: Values::Float(Data::F32(vec![0.5; n])) }
        };
        let list = |values: &[i64]| Entry { shape: vec![values.len()], values: Values::Int(values.to_vec()) };
        let mut tensors: BTreeMap<String, Entry> = [
            ("q", floats(&[5, 4, 8])),
            ("k", floats(&[9, 2, 8])),
            ("v", floats(&[9, 2, 8])),
            ("cu_seqlens_q", list(&[0, 0, 3, 5, 5])),
            ("cu_seqlens_k", list(&[0, 4, 9, 9, 9])),
            ("expected_out", floats(&[5, 4, 8])),
            ("expected_lse", floats(&[5, 4])),
        ]
        .map(|(name, entry)| (name.to_string(), entry))
        .into();
        let mut parameters = serde_json::json!({ "head_dim": 8, "causal": true, "sliding_window": 2 });
        change(&mut tensors, &mut parameters);
        let parameters = Parameters::from(parameters.as_object().cloned().unwrap_or_default());
        attention(Golden { name: String::new(), system: String::new(), parameters, tensors: Tensors(tensors) })
    }

    #[test]
    fn rows_of_a_sequence_without_keys_are_not_compared() {
        let work = case(|_, _| ()).unwrap();
        let probe = &work.probes[0];
        assert_eq!((probe.spec.packed, probe.spec.mask.causal, probe.spec.mask.window_left), (true, true, Some(1)));
        let listed = |stage| probe.expects.iter().find(|e| e.stage == stage).unwrap().listed.clone();
        let compared: Vec<bool> = listed(Stage::Out).chunks(32).map(|row| row[0].is_some()).collect();
        assert_eq!(compared, [true, true, true, false, false]);
        assert_eq!(listed(Stage::Lse).iter().filter(|x| x.is_some()).count(), 12);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        type Tensors = BTreeMap<String, Entry>;
        fn refused(change: impl Fn(&mut Tensors, &mut serde_json::Value), field: &str) {
            match case(change) {
                Err(super::super::work::Unfit::Bad(Error::Input { field: found, .. })) => assert_eq!(found, field),
                other => panic!("{field}: {other:?}"),
            }
        }
        let ints = |values: &[i64]| Entry { shape: vec![values.len()], values: Values::Int(values.to_vec()) };
        refused(|_, p| p["q_heads"] = 3.into(), "q_heads");
        refused(|t, _| drop(t.remove("cu_seqlens_k")), "cu_seqlens_k");
        refused(|t, _| drop(t.insert("cu_seqlens_q".into(), ints(&[0, 6]))), "cu_seqlens_q");
        refused(|t, _| drop(t.insert("cu_seqlens_q".into(), ints(&[0, -1, 5]))), "cu_seqlens_q");
        refused(|t, _| drop(t.insert("cu_seqlens_k".into(), ints(&[0, 9]))), "cu_seqlens_k");
        refused(|t, _| t.get_mut("expected_lse").unwrap().shape.reverse(), "expected_lse");
    }
}
