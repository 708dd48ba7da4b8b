//! Is what is timed right? The results of one run against the f64 reference and its bounds.

use ropewalk::workload::{Loaded, Workload};
use ropewalk::{Data, Error, Inputs, Kernel, Output, Plan, Positions, Result, Slot, Tensor, check};

/// Above so many operations of the reference a seeded sample of rows is compared.
const MAX_FLOP: f64 = 4e9;
/// Tokens of a rotation that are compared; an even stride over all of them, the last one included.
const TOKENS: u32 = 256;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub passed: bool,
    /// How much was compared.
    pub what: String,
    /// In a sentence, with the worst error.
    pub text: String,
}

/// The results of a run, to be compared bit by bit with those of another.
pub fn results(loaded: &Loaded, set: usize) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for (n, plan) in loaded.plans().iter().enumerate() {
        all.push(loaded.read(set, n, Slot::Out)?);
        if plan.kernel() == Kernel::Attention {
            all.push(lse(plan, &loaded.read(set, n, Slot::Work)?).to_vec());
        }
    }
    Ok(all)
}

/// lse within `work`, whose rest is scratch.
fn lse<'a>(plan: &Plan, work: &'a [u8]) -> &'a [u8] {
    let shape = plan.shape();
    let rows = shape.batch as usize * shape.q_len as usize * plan.spec().num_heads as usize;
    let start = 4 * plan.lse_offset() as usize;
    work.get(start..start + 4 * rows).unwrap_or_default()
}

/// Compares the results of a run.
pub fn compare(
    workload: &Workload,
    plans: &[Plan],
    inputs: &Inputs,
    results: &[Vec<u8>],
    progress: &(dyn Fn(f64) + Sync),
) -> Result<Checked> {
    let spec = &workload.spec;
    let mut results = results.iter();
    let mut next = |dtype| results.next().map(|bytes| Data::from_bytes(dtype, bytes).to_f32()).unwrap_or_default();
    let mut parts = Vec::new();
    for plan in plans {
        parts.push(match plan.kernel() {
            Kernel::Attention => {
                let out = next(spec.out_storage());
                // the device's sentinel of a row that saw no key
                let host = |x: f32| if x < -2e38 { f32::NEG_INFINITY } else { x };
                let lse = next(ropewalk::Dtype::F32).into_iter().map(host).collect();
                let output = Output { out_shape: [1, plan.shape().q_len, spec.num_heads, spec.v_head_dim], out, lse };
                let mut options = check::Options::default();
                options.max_flop = MAX_FLOP;
                let report = check::verify(spec, inputs, &output, &options, progress)?;
                let what = match report.sampled() {
                    true => format!("{} of {} rows", report.rows_checked, report.rows_total),
                    false => format!("all {} rows", report.rows_total),
                };
                Checked { passed: report.passed(), what, text: report.to_string() }
            }
            Kernel::RotateQ { .. } => rotation(workload, inputs, &next(spec.dtype), true)?,
            Kernel::RotateK { .. } => rotation(workload, inputs, &next(spec.dtype), false)?,
            other => {
                return Err(Error::input("workload", format!("{other:?} has no check here"), "check it by `validate`"));
            }
        });
    }
    let joined = |of: fn(&Checked) -> &str| {
        let mut texts: Vec<&str> = parts.iter().map(of).collect();
        texts.dedup();
        texts.join("; ")
    };
    Ok(Checked {
        passed: !parts.is_empty() && parts.iter().all(|p| p.passed),
        what: joined(|p| &p.what),
        text: joined(|p| &p.text),
    })
}

/// Tokens of a rotation, each with its position, which is all that it depends on.
fn rotation(workload: &Workload, inputs: &Inputs, rotated: &[f32], of_q: bool) -> Result<Checked> {
    let (source, name) = if of_q { (&inputs.q, "q") } else { (&inputs.k, "k") };
    let [_, len, heads, dim] = source.shape();
    let row = heads as usize * dim as usize;
    let wanted = len.min(TOKENS);
    let tokens: Vec<u32> =
        (0..wanted).map(|i| ((i as u64 + 1) * len as u64 / wanted as u64).saturating_sub(1) as u32).collect();
    let mut spec = workload.spec.clone();
    // as many heads of both: the reference rotates q and k in one call
    (spec.positions, spec.num_heads, spec.num_kv_heads) = (Positions::Ids, heads, heads);
    let mut picked = Vec::with_capacity(tokens.len() * row);
    let mut got = Vec::with_capacity(tokens.len() * row);
    for token in &tokens {
        let start = source.row_start(0, *token, 0);
        picked.extend((start..start + row).map(|i| source.data().get(i)));
        let start = *token as usize * row;
        got.extend(rotated.get(start..start + row).unwrap_or_default());
    }
    let tensor = || Tensor::bshd(Data::from_f32(spec.dtype, &picked), [1, wanted, heads, dim]);
    let mut sample = Inputs::new(tensor()?, tensor()?, tensor()?);
    let positions: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
    (sample.q_positions, sample.k_positions) = (Some(positions.clone()), Some(positions));
    let worst = check::rotate(&spec, &sample)?.0.worst(&got);
    let passed = worst.failures == 0 && worst.unbounded < worst.elements;
    let what = match wanted == len {
        true => format!("all {len} tokens"),
        false => format!("{wanted} of {len} tokens"),
    };
    let verdict = if passed { "right" } else { "WRONG" };
    let mut text = format!(
        "{verdict}: {what} of {name} checked; worst error {:.1e} is {:.3} of its bound {:.1e}",
        worst.error, worst.ratio, worst.bound
    );
    if worst.failures > 0 {
        text += &format!(", {} of {} elements above theirs", worst.failures, worst.elements);
    }
    Ok(Checked { passed, what, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ropewalk::{Limits, reference, workload};

    fn bytes(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect()
    }

    #[test]
    fn right_results_pass_and_wrong_ones_do_not() {
        // short forms of a rotation and of attention
        for name in ["r1", "b1"] {
            let mut workload = workload::named(name).expect("a workload");
            (workload.q_len, workload.kv_len) = (300, 300);
            let inputs = workload.inputs(1).expect("inputs");
            let plans = workload.plans(&Limits::default()).expect("plans");
            let mut results = match name {
                "r1" => {
                    let (q, k) = reference::rotate(&workload.spec, &inputs).expect("rotated");
                    vec![bytes(&q), bytes(&k)]
                }
                _ => {
                    let output = reference::attention(&workload.spec, &inputs).expect("attention");
                    vec![bytes(&output.out), bytes(&output.lse)]
                }
            };
            let compared =
                |results: &[Vec<u8>]| compare(&workload, &plans, &inputs, results, &|_| ()).expect("comparable");
            let checked = compared(&results);
            assert!(checked.passed && checked.text.contains("right"), "{name}: {}", checked.text);
            let last = results.last_mut().expect("a result");
            // the last token's: a sample holds it
            let at = last.len() - 4;
            let wrong = f32::from_le_bytes([last[at], last[at + 1], last[at + 2], last[at + 3]]) + 1e-3;
            last[at..].copy_from_slice(&wrong.to_le_bytes());
            let checked = compared(&results);
            assert!(!checked.passed && checked.text.contains("WRONG"), "{name}: {}", checked.text);
            results.pop();
            let missing = compare(&workload, &plans, &inputs, &results, &|_| ());
            assert!(missing.is_err() || !missing.expect("a comparison").passed, "{name}: a result is missing");
        }
    }
}
