//! After `bind` nothing of ours allocates: a step's words and its encoding, against a control of the same raw wgpu calls. The counter
//! counts this thread alone, so counts are exact.
#![cfg(feature = "wgpu")]

use crate::common;
#[path = "../benches/raw/mod.rs"]
mod raw;

use allocation_counter::{AllocationInfo, measure};
use common::{equipped, gpus};
use raw::Layers;
use ropewalk::{Dense, Family, Gpu, Kernel, Limits, Mask, Plan, Positions, Shape, Spec, Step, wgpu, workload};
use std::hint::black_box;

/// Allocations and bytes of a step.
fn counted(layers: &Layers, encode: impl FnOnce(&mut wgpu::ComputePass)) -> [u64; 2] {
    let AllocationInfo { count_total, bytes_total, .. } = measure(|| drop(layers.step(encode)));
    [count_total, bytes_total]
}

/// What of a step is ours, once wgpu's pools are as large as such a step needs.
fn compare(gpu: &Gpu, plans: &[Plan], about: &str) {
    let layers = Layers::new(gpu, plans, 3);
    for _ in 0..3 {
        counted(&layers, |pass| layers.encode_ours(pass));
        counted(&layers, |pass| layers.encode_raw(pass));
    }
    for round in 0..3 {
        let ours = counted(&layers, |pass| layers.encode_ours(pass));
        let control = counted(&layers, |pass| layers.encode_raw(pass));
        assert!(control[0] > 0, "{about}: the counter does not see wgpu");
        assert_eq!(ours, control, "{about}, round {round}: allocations and bytes of ours and of the control");
    }
    // the counter would see one
    let control = counted(&layers, |pass| layers.encode_raw(pass));
    let one_more = counted(&layers, |pass| {
        layers.encode_ours(pass);
        drop(black_box(Box::new(1u64)));
    });
    assert_eq!(one_more, [control[0] + 1, control[1] + 8], "{about}");
}

#[test]
fn encoding() {
    for gpu in gpus().into_iter().chain(equipped(|_| true)) {
        // split keys and their sum, which is another entry point; two plans in place
        for name in ["d1-f16", "r1-f16", "p1"] {
            let workload = workload::named(name).expect("a name of the list");
            let plans = workload.plans(gpu.limits()).expect("a plan");
            compare(&gpu, &plans, &format!("{name} on {}", gpu.describe()));
        }
        // many dispatches
        let workload = workload::named("p1").expect("a name of the list");
        let mut limits = common::with_family(Family::Rows, &workload.spec, gpu.limits());
        limits.max_flop_per_dispatch /= 16.0;
        let plans = workload.plans(&limits).expect("a plan");
        assert!(plans[0].chunks().len() > 16);
        compare(&gpu, &plans, &format!("p1 in {} dispatches on {}", plans[0].chunks().len(), gpu.describe()));
    }
}

#[test]
fn writing_a_step() {
    let mut plain = Spec::new(8, 2, 64);
    plain.mask = Mask::causal();
    let mut ids = plain.clone();
    ids.positions = Positions::Ids;
    let mut lengths = plain.clone();
    lengths.kv_lens = true;
    let mut masked = plain.clone();
    masked.mask.dense = true;
    let mut packed = plain.clone();
    packed.packed = true;
    let positions: Vec<i32> = (0..2 * 256).collect();
    let mask = Dense::new([1, 1, 1, 256], vec![true; 256]).expect("an element for each index");
    let step = Step { q_len: 256, kv_len: 256, ..Step::default() };
    for (about, spec, step) in [
        ("plain", &plain, step),
        ("position ids", &ids, Step { q_positions: &positions, k_positions: &positions, ..step }),
        ("lengths", &lengths, Step { kv_lens: &[200, 256], ..step }),
        ("mask", &masked, Step { mask: Some(&mask), ..step }),
        ("packed", &packed, Step { cu_seqlens_q: &[0, 100, 256], cu_seqlens_k: &[0, 100, 256], ..step }),
    ] {
        let mut shape = if spec.packed { Shape::packed(spec, 2, 256, 256) } else { Shape::new(spec, 2, 256, 256) };
        shape.mask = [1, 1, 1, 256];
        let plan = Plan::new(Kernel::Attention, spec, &shape, &Limits::default()).expect(about);
        let mut words = vec![0; plan.step_layout().words as usize];
        let info = measure(|| plan.step_layout().write(&step, black_box(&mut words)).expect(about));
        assert_eq!(info, AllocationInfo::default(), "{about}");
    }
}
