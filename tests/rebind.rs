//! A dispatch whose buffers are exchanged: results of each set, nothing of another's, and what is encoded already keeps its own.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{gpus, noise};
use ropewalk::*;

/// Where the tensors of a set start: at whole units of the offset alignment, at other places, at those again.
const SETS: [u64; 5] = [0, 48, 256, 304, 48];

fn plan(gpu: &Gpu) -> Plan {
    let mut spec = Spec::new(2, 1, 16);
    spec.rotary = Some(Rotary::new(Pairing::Half, 16, 1e4));
    spec.mask = Mask::causal();
    Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 5, 21), gpu.limits()).expect("a plan")
}

/// Buffers of every slot, each with what lies before it and its contents.
fn set(gpu: &Gpu, plan: &Plan, start: u64, seed: u64) -> Vec<(Slot, wgpu::Buffer, u64)> {
    let mut words = vec![0; plan.step_layout().words as usize];
    let step = Step { q_len: 5, kv_len: 17 + seed as u32, ..Step::default() };
    plan.step_layout().write(&step, &mut words).expect("a step");
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let storage = plan.bindings().iter().filter(|b| matches!(b.access, Access::Read | Access::ReadWrite));
    let made = storage.map(|b| {
        let at = if b.slot == Slot::Step { start / 256 * 256 } else { start };
        let size = (at + b.size).next_multiple_of(4);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = gpu.device().create_buffer(&descriptor);
        let values = noise(b.size as usize / 4, 7 * seed + b.binding as u64);
        match b.slot {
            Slot::Step => gpu.queue().write_buffer(&buffer, at, bytemuck::cast_slice(&words)),
            Slot::Out | Slot::Work => {}
            _ => gpu.queue().write_buffer(&buffer, at, bytemuck::cast_slice(&values)),
        }
        (b.slot, buffer, at)
    });
    made.collect()
}

fn bound(set: &[(Slot, wgpu::Buffer, u64)]) -> Buffers<'_> {
    set.iter().fold(Buffers::new(), |all, (slot, buffer, at)| all.with(*slot, buffer, *at))
}

/// The bytes of `out` of every set.
fn results(
    gpu: &Gpu,
    sets: &[Vec<(Slot, wgpu::Buffer, u64)>],
    encode: impl FnOnce(&mut wgpu::ComputePass),
) -> Vec<Vec<u8>> {
    let device = gpu.device();
    let mut encoder = device.create_command_encoder(&Default::default());
    encode(&mut encoder.begin_compute_pass(&Default::default()));
    let read = sets.iter().map(|set| {
        let (_, out, at) = set.iter().find(|(slot, ..)| *slot == Slot::Out).expect("a result");
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = out.size() - at;
        let staging =
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        encoder.copy_buffer_to_buffer(out, *at, &staging, 0, size);
        staging
    });
    let read: Vec<_> = read.collect();
    gpu.queue().submit([encoder.finish()]);
    read.iter().map(|staging| gpu.read_back(staging).expect("bytes")).collect()
}

#[test]
fn results_after_a_rebinding_are_those_of_a_binding() {
    for gpu in gpus() {
        let _turn = turn(gpu.device());
        let plan = plan(&gpu);
        let pipeline = Pipeline::new(gpu.device(), &plan).expect("a pipeline");
        let sets = || -> Vec<_> { (0u64..).zip(SETS).map(|(n, start)| set(&gpu, &plan, start, n)).collect() };
        let once = sets();
        let of_each: Vec<_> = once.iter().map(|set| pipeline.bind(gpu.device(), &bound(set)).expect("bound")).collect();
        let expected = results(&gpu, &once, |pass| of_each.iter().for_each(|dispatch| dispatch.encode(pass)));
        assert!((1..SETS.len()).all(|n| expected[n] != expected[0] && expected[n].iter().any(|byte| *byte != 0)));

        // all in one pass, so that no set's parameters may reach what was encoded before it
        let again = sets();
        let mut dispatch = pipeline.bind(gpu.device(), &bound(&once[0])).expect("bound");
        let first = dispatch.clone();
        let got = results(&gpu, &again, |pass| {
            for set in &again {
                dispatch.rebind(&bound(set)).expect("rebound");
                dispatch.encode(pass);
            }
        });
        assert_eq!(got, expected, "{}", gpu.describe());
        // a clone keeps the buffers that it had
        let got = results(&gpu, &once, |pass| first.encode(pass));
        assert_eq!(got[0], expected[0], "{}", gpu.describe());
    }
}

#[test]
fn a_rebinding_that_fails_names_what_is_wrong_and_changes_nothing() {
    for gpu in gpus() {
        let _turn = turn(gpu.device());
        let plan = plan(&gpu);
        let pipeline = Pipeline::new(gpu.device(), &plan).expect("a pipeline");
        let sets = [set(&gpu, &plan, 48, 1), set(&gpu, &plan, 16, 2)];
        let mut dispatch = pipeline.bind(gpu.device(), &bound(&sets[0])).expect("bound");
        let expected = results(&gpu, &sets[..1], |pass| dispatch.encode(pass));
        let buffer = |size, usage| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let small = buffer(64, wgpu::BufferUsages::STORAGE);
        let other_usage = buffer(4096, wgpu::BufferUsages::COPY_SRC);
        let destroyed = buffer(4096, wgpu::BufferUsages::STORAGE);
        destroyed.destroy();
        let q = sets[1].iter().find(|(slot, ..)| *slot == Slot::Q).map(|(_, buffer, _)| buffer).expect("q");
        let good = || bound(&sets[1]);
        let wrong: [(&str, Buffers, &str); 6] = [
            ("none", Buffers::new(), "q: is not bound"),
            ("small", good().with(Slot::V, &small, 0), "v: 64 bytes"),
            ("usage", good().with(Slot::K, &other_usage, 0), "k: its buffer lacks"),
            ("misaligned", good().with(Slot::Q, q, 4), "q: starts at byte 4"),
            (
                "shared",
                good().with(Slot::Out, q, 0),
                "out: is bound to bytes 0 to 640 of a buffer, q to bytes 0 to 656",
            ),
            ("destroyed", good().with(Slot::K, &destroyed, 0), "binding attention"),
        ];
        for (what, buffers, message) in wrong {
            let error = dispatch.rebind(&buffers).expect_err(what).to_string();
            assert!(error.contains(message), "{what}: {error}");
            assert_eq!(results(&gpu, &sets[..1], |pass| dispatch.encode(pass)), expected, "{what}");
        }
        dispatch.rebind(&good()).expect("rebound");
    }
}
