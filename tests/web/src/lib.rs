//! What `xtask/dawn/web.mjs` runs: each function is a test, which panics or is fulfilled.

use futures_util::future::{join, join_all, join3};
use ropewalk::{
    Access, Buffers, Error, Gpu, GpuOptions, Inputs, Kernel, Mask, Output, Pairing, Pipeline, Plan, Rotary, Shape,
    Spec, Tensor, check, wgpu,
};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

async fn open() -> Gpu {
    console_error_panic_hook::set_once();
    let mut options = GpuOptions::default();
    options.default_limits = true;
    Gpu::open_async(&options).await.expect("Dawn has an adapter")
}

fn spec() -> Spec {
    let mut spec = Spec::new(2, 1, 16);
    spec.rotary = Some(Rotary::new(Pairing::Half, 16, 10_000.0));
    spec.mask = Mask::causal();
    spec
}

fn inputs(spec: &Spec, q_len: u32, kv_len: u32) -> Inputs {
    let tensor = |len: u32, heads: u32, frequency: f32| {
        let values = (0..len * heads * spec.head_dim).map(|i| (i as f32 * frequency).sin()).collect::<Vec<f32>>();
        Tensor::bshd(values, [1, len, heads, spec.head_dim]).expect("one element an index")
    };
    Inputs::new(
        tensor(q_len, spec.num_heads, 0.7),
        tensor(kv_len, spec.num_kv_heads, 0.3),
        tensor(kv_len, spec.num_kv_heads, 0.2),
    )
}

fn assert_right(spec: &Spec, inputs: &Inputs, output: &Output<f32>) {
    let report = check::verify(spec, inputs, output, &check::Options::default(), &|_| ()).expect("it checks");
    assert!(report.passed(), "{report}");
}

#[wasm_bindgen]
pub async fn two_attentions_at_once_are_both_right() {
    let (gpu, spec) = (open().await, spec());
    let mut limits = *gpu.limits();
    limits.max_flop_per_dispatch = 1.0; // several dispatches to wait for
    let gpu = gpu.with_limits(limits);
    let both = [inputs(&spec, 150, 150), inputs(&spec, 140, 160)];
    let order = RefCell::new(Vec::new());
    let (first, second) = join(
        gpu.attention_async(&spec, &both[0], &|_| order.borrow_mut().push(0)),
        gpu.attention_async(&spec, &both[1], &|_| order.borrow_mut().push(1)),
    )
    .await;
    for (inputs, result) in both.iter().zip([first, second]) {
        let (output, stats) = result.expect("it runs");
        assert!(stats.dispatches > 3, "{}", stats.dispatches);
        assert_right(&spec, inputs, &output);
    }
    let order = order.into_inner();
    let [first, last] = [order.iter().position(|n| *n == 1), order.iter().rposition(|n| *n == 0)];
    assert!(first < last, "the second waited for the first: {order:?}");
}

#[wasm_bindgen]
pub async fn an_error_of_one_call_stays_out_of_the_other() {
    let (gpu, spec) = (open().await, spec());
    let inputs = inputs(&spec, 3, 5);
    // a buffer that no device with default limits takes, asked for within a scope of the caller's own
    let size = gpu.device().limits().max_buffer_size + 4;
    let usage = wgpu::BufferUsages::STORAGE;
    let refused = async || {
        let scope = gpu.device().push_error_scope(wgpu::ErrorFilter::Validation);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let _buffer = gpu.device().create_buffer(&descriptor);
        let error = scope.pop();
        error.await
    };
    let call = || gpu.attention_async(&spec, &inputs, &|_| ());
    let (first, right, second) = join3(refused(), call(), refused()).await;
    assert!(first.is_some() && second.is_some(), "{first:?} {second:?}");
    assert_right(&spec, &inputs, &right.expect("it runs").0);
}

#[wasm_bindgen]
pub async fn a_call_on_a_lost_device_says_that_it_is_lost() {
    let (gpu, spec) = (open().await, spec());
    gpu.device().destroy();
    let lost = gpu.attention_async(&spec, &inputs(&spec, 3, 5), &|_| ()).await;
    let error = lost.expect_err("no device computes it");
    assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
}

#[wasm_bindgen]
pub async fn pipelines_are_compiled_and_bound_at_the_same_time() {
    let (gpu, spec) = (open().await, spec());
    let device = gpu.device();
    let plan = |q_len| Plan::new(Kernel::Attention, &spec, &Shape::new(&spec, 1, q_len, 64), gpu.limits());
    let plans = [plan(1).expect("a plan"), plan(64).expect("a plan")];
    let compiled = join_all(plans.iter().map(|plan| Pipeline::new_async(device, plan))).await;
    for pipeline in compiled {
        let pipeline = pipeline.expect("it compiles");
        let storage = pipeline.plan().bindings().iter();
        let buffers: Vec<_> = storage
            .filter(|b| matches!(b.access, Access::Read | Access::ReadWrite))
            .map(|b| {
                let (usage, size) = (wgpu::BufferUsages::STORAGE, b.size);
                let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
                (b.slot, device.create_buffer(&descriptor))
            })
            .collect();
        let bound = buffers.iter().fold(Buffers::new(), |all, (slot, buffer)| all.with(*slot, buffer, 0));
        let (bound, warm) = join(
            join_all((0..4).map(|_| pipeline.bind_async(device, &bound))),
            pipeline.warm_async(device, gpu.queue()),
        )
        .await;
        warm.expect("it runs");
        assert!(bound.iter().all(Result::is_ok), "{bound:?}");
    }
}
