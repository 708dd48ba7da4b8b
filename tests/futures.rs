//! The `_async` forms: they can be given to a runtime of several threads, and several may be under way at a time.
#![cfg(feature = "wgpu")]

use crate::common;

use common::{every_adapter, gpus, inputs};
use futures_util::future::{join, join3, join4};
use ropewalk::{
    Access, Buffers, Embed, EmbedInputs, Error, Gpu, GpuOptions, Inputs, Kernel, Mask, Output, Pairing, Pipeline,
    Pipelines, Plan, Rotary, Shape, Slot, Spec, Stats, Tensor, check, wgpu,
};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

fn spec() -> Spec {
    let mut spec = Spec::new(4, 2, 32);
    spec.rotary = Some(Rotary::new(Pairing::Half, 32, 10_000.0));
    spec.mask = Mask::causal();
    spec
}

fn assert_right(spec: &Spec, inputs: &Inputs, output: &Output<f32>, about: &str) {
    let report = check::verify(spec, inputs, output, &check::Options::default(), &|_| ()).expect("it checks");
    assert!(report.passed(), "{about}: {report}");
}

/// Inputs that the device refuses: keys with more behind them than a buffer of a device with default limits holds.
fn too_large(mut inputs: Inputs) -> Inputs {
    let (shape, strides) = (inputs.k.shape(), inputs.k.strides());
    let elements = wgpu::Limits::default().max_buffer_size as usize / 4 + 4;
    inputs.k = Tensor::strided(vec![0.0; elements], shape, strides, 0).expect("the rows lie in it");
    inputs
}

fn assert_refused(result: Result<(Output<f32>, Stats), Error>, about: &str) {
    let error = result.expect_err(about).to_string();
    assert!(error.starts_with("device, allocating buffers"), "{about}: {error}");
}

/// Compiles where each is [`Send`]; never runs.
#[allow(dead_code)]
fn every_async_form_is_send(
    (gpu, options, adapter): (&Gpu, &GpuOptions, &wgpu::Adapter),
    (spec, inputs, turned): (&Spec, &Inputs, &mut Inputs),
    (embed, rows, replaced): (&Embed, &EmbedInputs, &mut EmbedInputs),
    (plan, pipeline, pipelines, buffers): (&Plan, &Pipeline, &Pipelines, &Buffers),
) {
    fn send<T>(_: impl Future<Output = T> + Send) {}
    send(ropewalk::adapters());
    send(Gpu::open_async(options));
    send(Gpu::from_adapter(adapter, options));
    send(gpu.attention_async(spec, inputs, &|_| ()));
    send(gpu.linear_async(spec, inputs, &|_| ()));
    send(gpu.scores_async(spec, inputs));
    send(gpu.rotate_async(spec, inputs));
    send(gpu.rotate_in_place_async(spec, turned));
    send(gpu.embed_async(embed, rows));
    send(gpu.embed_in_place_async(embed, replaced));
    send(Pipeline::new_async(gpu.device(), plan));
    send(pipeline.bind_async(gpu.device(), buffers));
    send(pipeline.warm_async(gpu.device(), gpu.queue()));
    send(pipelines.get_async(plan));
}

#[test]
fn two_calls_of_one_thread_take_turns_and_are_both_right() {
    for gpu in every_adapter() {
        let spec = spec();
        let mut limits = *gpu.limits();
        limits.max_flop_per_dispatch = 1e5; // several dispatches to wait for
        let gpu = gpu.with_limits(limits);
        let both = [inputs(&spec, 2, 100, 100, 1), inputs(&spec, 1, 90, 130, 2)];
        let order = Mutex::new(Vec::new());
        let hear = |n: usize| order.lock().expect("nobody panics").push(n);
        let (first, second) = pollster::block_on(join(
            gpu.attention_async(&spec, &both[0], &|_| hear(0)),
            gpu.attention_async(&spec, &both[1], &|_| hear(1)),
        ));
        for (inputs, result) in both.iter().zip([first, second]) {
            let (output, stats) = result.expect("it runs");
            assert!(stats.dispatches > 3, "{}", stats.dispatches);
            assert_right(&spec, inputs, &output, &gpu.describe());
        }
        let order = order.into_inner().expect("nobody panics");
        let [first, last] = [order.iter().position(|n| *n == 1), order.iter().rposition(|n| *n == 0)];
        assert!(first < last, "the second waited for the first: {order:?}");
    }
}

#[test]
fn an_error_of_one_call_stays_out_of_the_others() {
    for gpu in every_adapter() {
        let (spec, about) = (spec(), gpu.describe());
        let inputs = inputs(&spec, 1, 70, 70, 3);
        let run = async |inputs: &Inputs| gpu.attention_async(&spec, inputs, &|_| ()).await;
        let refused = too_large(inputs.clone());
        let (a, b, c, d) = pollster::block_on(join4(run(&refused), run(&inputs), run(&refused), run(&inputs)));
        for result in [a, c] {
            assert_refused(result, &about);
        }
        for result in [b, d] {
            assert_right(&spec, &inputs, &result.expect("it runs").0, &about);
        }
        gpu.finish().expect("no error is left");
    }
}

#[test]
fn futures_run_on_threads_of_their_own() {
    for gpu in every_adapter() {
        let (about, gpu) = (gpu.describe(), Arc::new(gpu));
        let spawned: Vec<_> = (0..4)
            .map(|n| {
                let (spec, gpu) = (spec(), gpu.clone());
                let task = Box::pin(async move {
                    let inputs = inputs(&spec, 1, 50 + n, 80, n as u64);
                    let inputs = if n == 1 { too_large(inputs) } else { inputs };
                    let result = gpu.attention_async(&spec, &inputs, &|_| ()).await;
                    (spec, inputs, result)
                });
                std::thread::spawn(|| pollster::block_on(task))
            })
            .collect();
        for (n, thread) in spawned.into_iter().enumerate() {
            let (spec, inputs, result) = thread.join().expect("it does not panic");
            match n {
                1 => assert_refused(result, &about),
                _ => assert_right(&spec, &inputs, &result.expect("it runs").0, &about),
            }
        }
    }
}

#[test]
fn pipelines_are_compiled_and_bound_at_the_same_time() {
    for gpu in every_adapter() {
        let (spec, device) = (spec(), gpu.device());
        let _turn = ropewalk::turn(device);
        let plans = [1, 64].map(|q_len| {
            Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, q_len, 64), gpu.limits()).expect("a plan")
        });
        let (decode, prefill) =
            pollster::block_on(join(Pipeline::new_async(device, &plans[0]), Pipeline::new_async(device, &plans[1])));
        assert_eq!(prefill.expect("it compiles").plan().shape(), plans[1].shape());
        let decode = decode.expect("it compiles");
        let storage = decode.plan().bindings().iter().filter(|b| matches!(b.access, Access::Read | Access::ReadWrite));
        let buffers: Vec<_> = storage
            .map(|b| {
                let (usage, size) = (wgpu::BufferUsages::STORAGE, b.size);
                let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
                (b.slot, device.create_buffer(&descriptor))
            })
            .collect();
        let whole = buffers.iter().fold(Buffers::new(), |all, (slot, buffer)| all.with(*slot, buffer, 0));
        let small = whole.clone().with(Slot::Out, &buffers[0].1, 0);
        let (bound, refused, warm) = pollster::block_on(join3(
            decode.bind_async(device, &whole),
            decode.bind_async(device, &small),
            decode.warm_async(device, gpu.queue()),
        ));
        assert!(bound.is_ok() && warm.is_ok(), "{bound:?} {warm:?}");
        assert!(matches!(refused, Err(Error::Input { .. })), "{refused:?}");
    }
}

#[test]
fn forgotten_pipelines_are_compiled_anew() {
    for gpu in gpus() {
        let about = gpu.describe();
        let specs = [16, 32, 48].map(|dim| Spec::new(2, 1, dim));
        let run = |spec: &Spec| {
            let inputs = inputs(spec, 1, 3, 5, 4);
            assert_right(spec, &inputs, &gpu.attention(spec, &inputs).expect("it runs"), &about);
            (gpu.pipelines().len(), gpu.pipelines().compiled())
        };
        let [two, one] = [2, 1].map(|n| NonZeroUsize::new(n).expect("it is not 0"));
        gpu.pipelines().set_capacity(two);
        let [a, b, c] = &specs;
        assert_eq!([a, b, a, c].map(run), [(1, 1), (2, 2), (2, 2), (2, 3)], "{about}: b is the least recently used");
        assert_eq!([a, b].map(run), [(2, 3), (2, 4)], "{about}");
        gpu.pipelines().set_capacity(one);
        assert_eq!((gpu.pipelines().len(), run(b), run(a)), (1, (1, 4), (1, 5)), "{about}");
        gpu.pipelines().clear();
        assert!(gpu.pipelines().is_empty());
        assert_eq!(run(a), (1, 6), "{about}");
    }
}

/// What an engine holds stays whole when the set forgets it.
#[test]
fn a_pipeline_that_is_held_outlives_the_set() {
    for gpu in every_adapter() {
        let spec = spec();
        let plan = Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, 1, 64), gpu.limits()).expect("a plan");
        let pipelines = Pipelines::new(gpu.device().clone());
        let held = pipelines.get(&plan).expect("it compiles");
        pipelines.clear();
        drop(pipelines);
        held.warm(gpu.device(), gpu.queue()).expect("it runs");
    }
}
