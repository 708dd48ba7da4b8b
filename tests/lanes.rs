//! The family `lanes`: what it serves, and that it is right, on both sides of every tile edge.
#![cfg(feature = "wgpu")]

use crate::common::{self, sampled};
use ropewalk::case::{CaseId, Op};
use ropewalk::*;

/// A case through `lanes` on every adapter that it suits: within its bounds, the same bits when run again.
fn right(address: &str) {
    for gpu in common::equipped(|limits| limits.cpu && limits.subgroup_size >= 8) {
        let case = address.parse::<CaseId>().and_then(|id| id.build()).expect("an address");
        assert_eq!(case.op, Op::Attention);
        let problem = Problem::new(&case.spec, &case.inputs).expect("a valid case");
        let plan = Plan::for_problem(Kernel::Attention, &problem, gpu.limits()).expect("a plan");
        assert_eq!(plan.tuning().family, Family::Lanes, "{address}: {}", plan.label());
        let got = gpu.attention(&case.spec, &case.inputs).expect("it runs");
        let (out, lse) = check::attention(&case.spec, &case.inputs).expect("bounds");
        for (name, worst) in [("out", out.worst(&got.out)), ("lse", lse.worst(&got.lse))] {
            assert_eq!(worst.failures, 0, "{address} on {}: {name}: {worst:?}", gpu.describe());
        }
        let again = gpu.attention(&case.spec, &case.inputs).expect("it runs again");
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!([bits(&got.out), bits(&got.lse)], [bits(&again.out), bits(&again.lse)], "{address}");
    }
}

#[test]
fn tile_edges() {
    // 32 rows and 32 keys a tile, with subgroups of 8
    for [q, k] in sampled(3, [[31, 31], [32, 32], [33, 33], [20, 64], [31, 65], [64, 63], [75, 96], [75, 97], [97, 33]])
    {
        right(&format!("attention/mha/q{q}k{k}/f32/seed1"));
    }
}

#[test]
fn heads_that_share_keys() {
    for heads in sampled(2, ["mqa", "gqa3", "mqa70", "one-head"]) {
        right(&format!("attention/{heads}/q37k75/f32/seed2"));
    }
}

#[test]
fn rows_of_every_width_and_layout() {
    for dims in
        sampled(4, ["d1", "d3", "d33", "d80", "d64v7", "d64v80", "d3v64", "packed", "cache", "gaps", "start3", "bhsd"])
    {
        right(&format!("attention/{dims}/q37k75/f32/seed3"));
    }
    right("attention/d33/q37k75/f16/seed3");
    right("attention/gaps/q37k75/bf16/seed3");
}

#[test]
fn rotations_and_norms() {
    for names in sampled(
        4,
        ["interleaved", "partial", "partial-odd", "offset", "half-of-halves", "interleaved-in-half-out", "float32"],
    ) {
        right(&format!("attention/{names}/q37k75/f32/seed4"));
    }
    for names in sampled(
        4,
        ["angle-table", "ids-far", "three-streams", "xpos", "rotated-keys", "no-rotation", "qwen3", "llama4"],
    ) {
        right(&format!("attention/{names}/q37k75/f32/seed4"));
    }
}

#[test]
fn terms_and_caps() {
    for names in sampled(
        4,
        [
            "cap",
            "t5+mha",
            "t5",
            "alibi+mha",
            "alibi-key-from-end",
            "kerple-log+mha",
            "wavlm",
            "dense",
            "dense-minus-infinity",
        ],
    ) {
        right(&format!("attention/{names}/q37k75/f32/seed5"));
    }
    right("attention/cap+t5+mha/q37k75/f32/seed5");
    right("attention/own-score+own-mask/q37k75/f32/seed5");
    right("attention/deberta+mha/q70k150/f32/seed5");
    right("attention/two-tables+mha/q70k70/f16/seed5");
}

#[test]
fn masks() {
    for names in sampled(
        4,
        ["no-mask", "top-left", "window", "window-two-sided", "chunk", "mask", "mask-rows", "kv-len", "kv-lens"],
    ) {
        right(&format!("attention/{names}/q37k75/f32/seed6"));
    }
    right("attention/window+mha/q200k300/f32/seed6");
}

/// Rows that see nothing, NaN that nobody sees in keys and values, NaN and infinity that some do, sinks.
#[test]
fn rules() {
    for names in sampled(
        4,
        ["unseen-nan", "unseen-nan+gaps", "nan-query", "tiny", "peaked", "sink", "sink-zero", "top-left+mask-rows"],
    ) {
        right(&format!("attention/{names}/q37k75/f32/seed7"));
    }
}

/// A causal mask with a value that is not finite: rows before it are as without it, rows behind it are not finite.
#[test]
fn values_that_are_not_finite_reach_who_sees_them() {
    for gpu in common::equipped(|limits| limits.cpu && limits.subgroup_size >= 8) {
        let mut spec = Spec::new(2, 1, 16);
        spec.mask = Mask::causal();
        let clean = common::inputs(&spec, 1, 80, 80, 9);
        let want = gpu.attention(&spec, &clean).expect("it runs").out;
        for stray in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = clean.v.data().to_f32();
            values[40 * 16 + 3] = stray;
            let v = Tensor::bshd(Data::from_f32(Dtype::F32, &values), [1, 80, 1, 16]).expect("a tensor");
            let inputs = Inputs::new(clean.q.clone(), clean.k.clone(), v);
            let got = gpu.attention(&spec, &inputs).expect("it runs").out;
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                let (token, element) = (at / 32, at % 16);
                match token >= 40 && element == 3 {
                    true => assert!(!got.is_finite(), "{stray}: token {token}"),
                    false => assert_eq!(got.to_bits(), want.to_bits(), "{stray}: token {token}, element {element}"),
                }
            }
        }
    }
}

/// What it leaves to others: GPUs, adapters without subgroups, packed sequences, wide values, rows longer than loops may be.
#[test]
fn what_it_serves() {
    let mut equipped = Limits::default().for_cpu();
    equipped.subgroup_size = 8;
    let family = |spec: &Spec, kv_len: u32, limits: &Limits| {
        let shape = if spec.packed { Shape::packed(spec, 2, 64, kv_len) } else { Shape::new(spec, 1, 64, kv_len) };
        Plan::new(Kernel::Attention, spec, &shape, limits).expect("a plan").tuning().family
    };
    let spec = Spec::new(2, 2, 64);
    assert_eq!(family(&spec, 64, &equipped), Family::Lanes);
    assert_ne!(family(&spec, 1 << 16, &equipped), Family::Lanes);
    assert_ne!(family(&spec, 64, &Limits::default().for_cpu()), Family::Lanes);
    let mut gpu = equipped;
    gpu.cpu = false;
    assert_ne!(family(&spec, 64, &gpu), Family::Lanes);
    for change in [(|s| s.packed = true) as fn(&mut Spec), |s| (s.head_dim, s.v_head_dim) = (256, 256)] {
        let mut spec = spec.clone();
        change(&mut spec);
        assert_ne!(family(&spec, 64, &equipped), Family::Lanes);
    }
}

/// Tiles that every row sees whole skip masks: a causal mask and a wide window, with their edges on either side of a tile's.
#[test]
fn edges_of_whole_tiles() {
    for gpu in common::equipped(|limits| limits.cpu && limits.subgroup_size >= 8) {
        for left in sampled(3, [None, Some(70), Some(94), Some(95), Some(96)]) {
            let mut spec = Spec::new(1, 1, 16);
            spec.mask = Mask::causal();
            spec.mask.window_left = left;
            for kv_len in 158..=164 {
                let inputs = common::inputs(&spec, 1, 64, kv_len, kv_len as u64);
                let got = gpu.attention(&spec, &inputs).expect("it runs");
                let (out, lse) = check::attention(&spec, &inputs).expect("bounds");
                let failures = out.worst(&got.out).failures + lse.worst(&got.lse).failures;
                assert_eq!(failures, 0, "window {left:?}, {kv_len} keys on {}", gpu.describe());
            }
        }
    }
}

/// Keys and values of heads that stand far apart are copied first: rotated, rotated before, or never; parts of heads and of rows.
#[test]
fn scattered_heads() {
    for gpu in common::equipped(|limits| limits.cpu && limits.subgroup_size >= 8) {
        // the last has room for the keys and values of some heads, not of all
        let whole = gpu.limits().max_binding_size;
        let cases = [(true, false, whole), (true, true, whole), (false, false, whole), (true, false, 24 << 20)];
        for (rotated, keys_rotated, room) in sampled(2, cases) {
            let mut spec = Spec::new(16, 8, 64);
            spec.v_head_dim = 72;
            spec.mask = Mask::causal();
            spec.rotary = rotated.then(|| Rotary::new(Pairing::Half, 64, 1e4));
            spec.rotary.iter_mut().for_each(|rotary| rotary.keys_rotated = keys_rotated);
            let inputs = common::inputs(&spec, 1, 69, 4101, 5);
            let mut limits = *gpu.limits();
            limits.max_binding_size = room;
            let (got, stats) = gpu.with_limits(limits).attention_with(&spec, &inputs, &|_| ()).expect("it runs");
            assert!(stats.kernel.contains(".lanes.keys-values-first"), "{}", stats.kernel);
            if room < whole {
                let shape = Shape::new(&spec, 1, 69, 4101);
                let plan = Plan::new(Kernel::Attention, &spec, &shape, &limits).expect("a plan");
                assert!(plan.chunks().iter().filter(|c| c.entry == "prepare_v").count() > 1);
            }
            let (out, lse) = check::attention(&spec, &inputs).expect("bounds");
            let failures = out.worst(&got.out).failures + lse.worst(&got.lse).failures;
            assert_eq!(failures, 0, "{} on {}", stats.kernel, gpu.describe());
        }
    }
}

/// Rows of a head that are cut into several dispatches share what was made of its keys: rotated ones, and their products with a table.
#[test]
fn parts_of_rows() {
    for gpu in common::equipped(|limits| limits.cpu && limits.subgroup_size >= 8) {
        let id: CaseId = "attention/bert-key-query+mha+one-sequence/q900k450/f32/seed8".parse().expect("an address");
        let case = id.build().expect("a case");
        let problem = Problem::new(&case.spec, &case.inputs).expect("a valid case");
        let mut limits = *gpu.limits();
        limits.max_binding_size = 2 << 20;
        let plan = Plan::for_problem(Kernel::Attention, &problem, &limits).expect("a plan");
        let count = |entry: &str| plan.chunks().iter().filter(|c| c.entry == entry).count();
        assert_eq!(plan.tuning().family, Family::Lanes);
        let [keys, rows] = ["relative_keys", "main"].map(count);
        assert!(keys > 1 && rows > keys, "{keys} {rows}");
        let (got, stats) = gpu.with_limits(limits).attention_with(&case.spec, &case.inputs, &|_| ()).expect("it runs");
        assert_eq!(stats.kernel, plan.label());
        let (out, lse) = check::attention(&case.spec, &case.inputs).expect("bounds");
        assert_eq!(out.worst(&got.out).failures + lse.worst(&got.lse).failures, 0, "{}", gpu.describe());
    }
}
