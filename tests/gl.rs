//! OpenGL: the same devices by another road (naga's GLSL, the driver's own compiler, one context for all), so each family once, not
//! every test. `ropewalk validate --adapter gl` runs every case.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{every_adapter, inputs, left_out, sampled};
use ropewalk::case::CaseId;
use ropewalk::*;

fn adapters() -> Vec<Gpu> {
    let all: Vec<Gpu> = every_adapter().into_iter().filter(|gpu| gpu.info().backend == wgpu::Backend::Gl).collect();
    if all.is_empty() {
        left_out("no adapter of OpenGL");
    }
    all
}

/// Llama's layer, and one with most terms.
fn specs() -> [(&'static str, Spec); 2] {
    let mut llama = Spec::new(4, 2, 64);
    llama.rotary = Some(Rotary::new(Pairing::Half, 64, 5e5));
    llama.mask = Mask::causal();
    let mut terms = Spec::new(4, 2, 36);
    terms.dtype = Dtype::F16;
    terms.rotary = Some(Rotary::new(Pairing::Interleaved, 20, 1e4));
    terms.bias = vec![Bias::Alibi { form: AlibiForm::Relative, slopes: None, scale: 1.0 }];
    terms.logits_soft_cap = Some(20.0);
    terms.sink = Some(Sink::Zero);
    terms.mask = Mask::causal();
    terms.mask.window_left = Some(40);
    [("llama", llama), ("terms", terms)]
}

/// The best guess of every family that suits, every element against its bound.
#[test]
fn every_family_is_within_its_bound() {
    for gpu in adapters() {
        let few = [Family::Rows, Family::Decode].as_slice();
        let calls = specs().into_iter().zip([([70, 90], 3, &few[..1]), ([2, 300], 2, few)]);
        for ((name, spec), ([q_len, kv_len], least, certain)) in sampled(2, calls) {
            let inputs = inputs(&spec, 1, q_len, kv_len, 7);
            let problem = Problem::new(&spec, &inputs).expect("a valid problem");
            let all =
                Tuning::candidates(Kernel::Attention, &spec, &problem.shape(), gpu.limits()).expect("a valid spec");
            let mut families: Vec<Tuning> = Vec::new();
            for tuning in all.into_iter().filter(|t| t.checks) {
                if families.iter().all(|t| t.family != tuning.family) {
                    families.push(tuning);
                }
            }
            let names: Vec<Family> = families.iter().map(|tuning| tuning.family).collect();
            assert!(names.len() >= least && certain.iter().all(|family| names.contains(family)), "{name}: {names:?}");
            for tuning in families {
                let mut limits = *gpu.limits();
                limits.tuning = Some(tuning);
                let got = gpu.with_limits(limits).attention(&spec, &inputs).expect("it runs");
                let report = check::verify(&spec, &inputs, &got, &check::Options::default(), &|_| ()).expect("bounds");
                assert!(report.passed(), "{}, {name}, {q_len} x {kv_len}, {tuning}: {report}", gpu.describe());
            }
        }
    }
}

/// A NaN in a query and +inf in a key, bf16, packed sequences, positions and a mask of the caller's, a call in several dispatches, FIRE,
/// norms: each alone with what a family makes of it.
#[test]
fn rules_and_inputs_of_all_kinds() {
    let addresses = [
        "attention/nan-query/q9k40/f32/seed1",
        "attention/inf-key+unseen-nan/q70k90/f32/seed1",
        "attention/gqa3+partial/q37k75/bf16/seed2",
        "attention/packed+ids-far/q37k75/f16/seed3",
        "attention/mask-rows+kv-lens/q37k75/f32/seed4",
        "attention/fire+rms-norm-weights/q37k75/f32/seed5",
        "attention/shaw+dense-minus-infinity/q37k75/f32/seed6",
        "attention/own-score+own-mask/q37k75/f32/seed7",
    ];
    for address in sampled(2, addresses) {
        let case = address.parse::<CaseId>().and_then(|id| id.build()).expect(address);
        let (out, lse) = check::attention(&case.spec, &case.inputs).expect("bounds");
        for gpu in adapters() {
            let mut limits = *gpu.limits();
            limits.max_flop_per_dispatch = 1e5; // several dispatches
            let got = gpu.with_limits(limits).attention(&case.spec, &case.inputs).expect(address);
            for (name, worst) in [("out", out.worst(&got.out)), ("lse", lse.worst(&got.lse))] {
                assert!(worst.failures == 0 && worst.unbounded < worst.elements, "{address}, {name}: {worst:?}");
            }
        }
    }
}

/// Kernels that are not attention.
#[test]
fn scores_and_rotations_are_within_their_bounds() {
    for gpu in adapters() {
        for (name, spec) in sampled(2, specs()) {
            let inputs = inputs(&spec, 2, 9, 33, 3);
            let (q, k) = gpu.rotate(&spec, &inputs).expect("it runs");
            let (q_bounds, k_bounds) = check::rotate(&spec, &inputs).expect("bounds");
            let scores = gpu.scores(&spec, &inputs).expect("it runs");
            let bounds = check::scores(&spec, &inputs).expect("bounds");
            for (what, worst) in
                [("q", q_bounds.worst(&q)), ("k", k_bounds.worst(&k)), ("scores", bounds.worst(&scores))]
            {
                assert!(worst.failures == 0 && worst.unbounded == 0, "{}, {name}, {what}: {worst:?}", gpu.describe());
            }
        }
    }
}
