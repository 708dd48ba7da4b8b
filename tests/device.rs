//! What can become of a device: lost in every state of a call, another one's, shared by threads, slow.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{every_adapter, inputs, left_out};
use ropewalk::*;
use std::sync::atomic::{AtomicBool, Ordering};

fn spec() -> Spec {
    let mut spec = Spec::new(4, 2, 32);
    spec.mask = Mask::causal();
    spec.rotary = Some(Rotary::new(Pairing::Half, 32, 1e4));
    spec
}

fn plan(gpu: &Gpu) -> Plan {
    Plan::new(Kernel::Attention, &spec(), &Shape::new(&spec(), 1, 4, 64), gpu.limits()).unwrap()
}

/// As the plan wants them.
fn buffers(device: &wgpu::Device, plan: &Plan) -> Vec<(Slot, wgpu::Buffer)> {
    let stored = plan.bindings().iter().filter(|b| matches!(b.access, Access::Read | Access::ReadWrite));
    let make = |b: &Binding| (b.slot, buffer(device, b.size.next_multiple_of(4), wgpu::BufferUsages::STORAGE));
    stored.map(make).collect()
}

fn buffer(device: &wgpu::Device, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

fn bound(buffers: &[(Slot, wgpu::Buffer)]) -> Buffers<'_> {
    buffers.iter().fold(Buffers::new(), |all, (slot, buffer)| all.with(*slot, buffer, 0))
}

/// Around a device of the caller's own.
fn own(adapter: &wgpu::Adapter) -> Gpu {
    let descriptor = wgpu::DeviceDescriptor::default();
    let opened = {
        let _turn = turn_on(adapter.get_info().backend);
        adapter.request_device(&descriptor)
    };
    let (device, queue) = pollster::block_on(opened).unwrap();
    Gpu::from_device(adapter.get_info(), device, queue)
}

fn assert_lost<T>(what: &str, result: Result<T>, why: Option<&str>) {
    match (result, why) {
        (Err(Error::DeviceLost { .. }), None) => {}
        (Err(Error::DeviceLost { reason, .. }), Some(why)) => assert!(reason.contains(why), "{what}: {reason}"),
        (Err(e), _) => panic!("{what}: {e}"),
        (Ok(_), _) => panic!("{what}: no error"),
    }
}

#[test]
fn every_call_on_a_lost_device_says_that_it_is_lost() {
    let adapters = pollster::block_on(adapters());
    let theirs = adapters.iter().map(|adapter| (own(adapter), None));
    let ours = every_adapter().into_iter().map(|gpu| (gpu, Some("it was destroyed")));
    for (gpu, why) in ours.chain(theirs) {
        let heard = std::sync::Arc::new(AtomicBool::new(false));
        if why.is_none() {
            let heard = heard.clone();
            gpu.device().set_device_lost_callback(move |_, _| heard.store(true, Ordering::Relaxed));
        }
        let (device, plan) = (gpu.device(), plan(&gpu));
        let _turn = turn(device);
        let pipelines = Pipelines::new(device.clone());
        let pipeline = pipelines.get(&plan).unwrap();
        let given = buffers(device, &plan);
        let staging = buffer(device, 64, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let submission = gpu.queue().submit([]);
        let mut dispatch = pipeline.bind(device, &bound(&given)).unwrap();
        device.destroy();

        let (spec, mut inputs) = (spec(), inputs(&spec(), 1, 4, 64, 1));
        let mut linear = Spec::new(2, 2, 16);
        linear.linear = Some(Linear::new(FeatureMap::Elu));
        let embed = Embed::sinusoidal(16, Columns::Halves, Denominator::Half);
        let x = Tensor::bshd(vec![1.0; 16], [1, 1, 1, 16]).unwrap();
        let mut rows = EmbedInputs::new(x, vec![0]);
        assert_lost("attention", gpu.attention(&spec, &inputs), why);
        assert_lost("scores", gpu.scores(&spec, &inputs), why);
        assert_lost("rotate", gpu.rotate(&spec, &inputs), why);
        assert_lost("rotate_in_place", gpu.rotate_in_place(&spec, &mut inputs), why);
        assert_lost("linear", gpu.linear(&linear, &common::inputs(&linear, 1, 4, 4, 1)), why);
        assert_lost("embed", gpu.embed(&embed, &rows), why);
        assert_lost("embed_in_place", gpu.embed_in_place(&embed, &mut rows), why);
        assert_lost("finish", gpu.finish(), why);
        assert_lost("wait_for", gpu.wait_for(submission), why);
        assert_lost("read_back", gpu.read_back(&staging), why);
        assert_lost("Pipeline::new", Pipeline::new(device, &plan), None);
        assert_lost("Pipelines::get, known", pipelines.get(&plan), None);
        assert_lost("Pipelines::get, new", Pipelines::new(device.clone()).get(&plan), None);
        assert_lost("Pipelines::warm", Pipelines::new(device.clone()).warm(gpu.queue(), &[plan]), None);
        assert_lost("Pipeline::warm", pipeline.warm(device, gpu.queue()), None);
        assert_lost("bind", pipeline.bind(device, &bound(&given)), None);
        assert_lost("rebind", dispatch.rebind(&bound(&given)), None);
        assert_eq!(heard.load(Ordering::Relaxed), why.is_none(), "the caller's own callback");
    }
}

#[test]
fn a_device_that_is_lost_between_two_dispatches_gives_no_result_and_the_next_device_does() {
    let (spec, inputs) = (spec(), inputs(&spec(), 1, 64, 64, 2));
    let open = || every_adapter().into_iter().map(|gpu| (gpu, true));
    let theirs = || pollster::block_on(adapters()).iter().map(|adapter| (own(adapter), false)).collect::<Vec<_>>();
    for ((gpu, ours), (next, _)) in open().chain(theirs()).zip(open().chain(theirs())) {
        let mut limits = *gpu.limits();
        limits.max_flop_per_dispatch = 1.0;
        let cut = gpu.with_limits(limits);
        let dispatches = cut.attention_with(&spec, &inputs, &|_| ()).unwrap().1.dispatches;
        assert!(dispatches > 2, "{dispatches}");
        let expected = gpu.attention(&spec, &inputs).unwrap();
        let lost = cut.attention_with(&spec, &inputs, &|_| gpu.device().destroy());
        assert_lost("attention", lost, ours.then_some("it was destroyed"));
        assert_lost("finish", gpu.finish(), None);
        assert_eq!(next.attention(&spec, &inputs).unwrap(), expected, "{}", next.describe());
    }
}

#[test]
fn buffers_pipelines_and_devices_that_do_not_belong_together_are_named() {
    let all: Vec<Gpu> = every_adapter().into_iter().chain(every_adapter()).collect();
    for (i, gpu) in all.iter().enumerate() {
        let _turn = all.iter().map(|gpu| turn(gpu.device())).collect::<Vec<_>>();
        let plan = plan(gpu);
        let pipeline = Pipeline::new(gpu.device(), &plan).unwrap();
        let given = buffers(gpu.device(), &plan);
        for other in all.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other) {
            for n in 0..given.len() {
                let mut mixed = given.clone();
                mixed[n] = buffers(other.device(), &plan).swap_remove(n);
                let mut dispatch = pipeline.bind(gpu.device(), &bound(&given)).unwrap();
                for result in [pipeline.bind(gpu.device(), &bound(&mixed)).map(|_| ()), dispatch.rebind(&bound(&mixed))]
                {
                    match result {
                        Err(Error::Input { field, .. }) => assert_eq!(field, given[n].0.name()),
                        other => panic!("{other:?}"),
                    }
                }
            }
            let elsewhere = pipeline.bind(other.device(), &bound(&given)).map(|_| ());
            assert!(matches!(&elsewhere, Err(Error::Input { field, .. }) if field == "device"), "{elsewhere:?}");
            let elsewhere = pipeline.warm(other.device(), other.queue()).map(|_| ());
            assert!(matches!(&elsewhere, Err(Error::Input { field, .. }) if field == "device"), "{elsewhere:?}");
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let foreign = gpu.read_back(&buffer(other.device(), 64, usage));
            assert!(matches!(&foreign, Err(Error::Input { field, .. }) if field == "buffer"), "{foreign:?}");
            other.finish().unwrap();
        }
        pipeline.bind(gpu.device(), &bound(&given)).unwrap();
        gpu.finish().unwrap();
    }
}

#[test]
fn a_buffer_that_cannot_be_read_is_an_error() {
    for gpu in every_adapter() {
        let _turn = turn(gpu.device());
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let make = |usage| buffer(gpu.device(), 64, usage);
        let (gone, mapped) = (make(usage), make(usage));
        gone.destroy();
        mapped.map_async(wgpu::MapMode::Read, .., |_| ());
        for (what, buffer) in [("usage", make(wgpu::BufferUsages::COPY_DST)), ("destroyed", gone), ("mapped", mapped)] {
            let read = gpu.read_back(&buffer);
            assert!(matches!(&read, Err(Error::Input { .. } | Error::Device { .. })), "{what}: {read:?}");
        }
        assert_eq!(gpu.read_back(&make(usage)).unwrap(), [0; 64]);
        gpu.finish().unwrap();
    }
}

/// Two threads are served while a third one's long dispatch runs. Whether that is longer than wgpu's GL backend lets a thread wait for its
/// context, six seconds on EGL and one on WGL, depends on the machine.
#[test]
fn threads_share_a_device_of_gl() {
    let (large, small) = (Spec::new(8, 8, 128), spec());
    let (many, few) = (inputs(&large, 1, 700, 700, 3), inputs(&small, 1, 4, 64, 4));
    let gpus: Vec<_> = every_adapter().into_iter().filter(|gpu| gpu.info().backend == wgpu::Backend::Gl).collect();
    if gpus.is_empty() {
        left_out("no adapter of GL");
    }
    for gpu in gpus {
        let mut limits = *gpu.limits();
        limits.max_flop_per_dispatch = f64::MAX;
        let uncut = gpu.with_limits(limits);
        let expected = gpu.attention(&small, &few).unwrap();
        let running = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        while running.load(Ordering::Relaxed) {
                            assert_eq!(gpu.attention(&small, &few).unwrap(), expected);
                        }
                    })
                })
                .collect();
            let done = uncut.attention(&large, &many);
            running.store(false, Ordering::Relaxed);
            others.into_iter().for_each(|other| other.join().unwrap());
            done.unwrap();
        });
        let _turn = turn(gpu.device());
        assert_eq!(gpu.attention(&small, &few).unwrap(), expected, "in the caller's own turn");
    }
}

#[test]
fn a_call_that_may_not_wait_times_out_and_the_device_works_on() {
    let (spec, inputs) = (spec(), inputs(&spec(), 1, 256, 256, 5));
    // a submission on GL returns when it is done
    let Some(mut gpu) = every_adapter().into_iter().find(|gpu| gpu.info().backend != wgpu::Backend::Gl) else {
        return left_out("no adapter but GL's");
    };
    let expected = gpu.attention(&spec, &inputs).unwrap();
    gpu.set_timeout(Some(std::time::Duration::ZERO));
    // where another process held this thread up, the device was done
    let late = (0..1000).find_map(|_| gpu.attention(&spec, &inputs).err());
    assert!(matches!(late, Some(Error::Timeout { .. })), "{late:?}");
    gpu.set_timeout(None);
    assert_eq!(gpu.attention(&spec, &inputs).unwrap(), expected);
}

#[test]
fn a_buffer_whose_reading_timed_out_is_read_the_next_time() {
    // a submission on GL returns when it is done
    let Some(mut gpu) = every_adapter().into_iter().find(|gpu| gpu.info().backend != wgpu::Backend::Gl) else {
        return left_out("no adapter but GL's");
    };
    const SIZE: u64 = 1 << 26;
    let [from, to] =
        [wgpu::BufferUsages::COPY_SRC, wgpu::BufferUsages::COPY_DST].map(|usage| buffer(gpu.device(), SIZE, usage));
    let staging = buffer(gpu.device(), 64, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    gpu.set_timeout(Some(std::time::Duration::ZERO));
    // where another process held this thread up, the device was done
    let late = (0..100).find_map(|_| {
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        (0..8).for_each(|_| encoder.copy_buffer_to_buffer(&from, 0, &to, 0, SIZE));
        gpu.queue().submit([encoder.finish()]);
        gpu.read_back(&staging).err()
    });
    assert!(matches!(late, Some(Error::Timeout { .. })), "{late:?}");
    gpu.set_timeout(None);
    assert_eq!(gpu.read_back(&staging).unwrap(), [0; 64]);
}
