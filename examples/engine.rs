//! Inside an engine: its device, buffers, encoder and pass. Layers share one compiled pipeline and one step buffer; k and v
//! are caches with room to grow, several layers run in one pass, and a step allocates nothing of ours.
use ropewalk::{
    Buffers, Gpu, Kernel, Mask, Pairing, Pipeline, Plan, Rotary, Shape, Slot, Spec, Step, Strides, check, wgpu,
};
use ropewalk::{Data, Dtype, Inputs, Output, Tensor};

const LAYERS: usize = 3;
const CAPACITY: u32 = 256; // tokens that a cache has room for
const HEADS: [u32; 2] = [8, 2];
const DIM: u32 = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // an engine has these already; any wgpu device with the default limits will do
    let gpu = Gpu::new()?;
    let (device, queue) = (gpu.device(), gpu.queue());

    // once for each model
    let mut spec = Spec::new(HEADS[0], HEADS[1], DIM);
    spec.dtype = Dtype::F16;
    spec.rotary = Some(Rotary::new(Pairing::Half, DIM, 500_000.0));
    spec.mask = Mask::causal();
    let mut shape = Shape::new(&spec, 1, 1, CAPACITY); // decode: one query a step
    let row = 2 * HEADS[1] * DIM; // a cache row holds k and v of one token side by side
    shape.k = Strides { batch: CAPACITY * row, token: row, head: DIM };
    shape.v = shape.k;
    let plan = Plan::new(Kernel::Attention, &spec, &shape, gpu.limits())?;
    let pipeline = Pipeline::new(device, &plan)?;

    // once for each layer
    use wgpu::BufferUsages as Use;
    let buffer = |size: u64, usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let q_bytes = (HEADS[0] * DIM * 2) as u64;
    let step_buffer = buffer(plan.step_layout().words as u64 * 4, Use::STORAGE | Use::COPY_DST);
    let mut layers = Vec::new();
    for _ in 0..LAYERS {
        let q = buffer(q_bytes, Use::STORAGE | Use::COPY_DST);
        let cache = buffer((CAPACITY * row * 2) as u64, Use::STORAGE | Use::COPY_DST);
        let out = buffer(q_bytes, Use::STORAGE | Use::COPY_SRC);
        let work = buffer(plan.workspace_size(), Use::STORAGE | Use::COPY_SRC);
        let v_offset = (HEADS[1] * DIM * 2) as u64;
        let buffers = Buffers::new()
            .with(Slot::Q, &q, 0)
            .with(Slot::K, &cache, 0)
            .with(Slot::V, &cache, v_offset)
            .with(Slot::Out, &out, 0)
            .with(Slot::Work, &work, 0)
            .with(Slot::Step, &step_buffer, 0);
        let dispatch = pipeline.bind(device, &buffers)?;
        layers.push((q, cache, out, work, dispatch));
    }

    // every step; the engine's own kernels would write q and the new cache rows, here the host does
    let mut step_words = vec![0; plan.step_layout().words as usize];
    let mut cached: Vec<Vec<half::f16>> = vec![Vec::new(); LAYERS];
    for token in 0..40u32 {
        let values = |n: u32, layer: usize| -> Vec<half::f16> {
            let seed = (token as f32 + 1.0) * (layer as f32 + 0.7);
            (0..n).map(|i| half::f16::from_f32((i as f32 * 0.37 * seed).sin())).collect()
        };
        let step = Step { q_len: 1, kv_len: token + 1, ..Step::default() };
        plan.step_layout().write(&step, &mut step_words)?;
        queue.write_buffer(&step_buffer, 0, bytemuck::cast_slice(&step_words));
        for (layer, (q, cache, ..)) in layers.iter().enumerate() {
            queue.write_buffer(q, 0, bytemuck::cast_slice(&values(HEADS[0] * DIM, layer)));
            let new = values(row, layer + 10);
            queue.write_buffer(cache, (token * row * 2) as u64, bytemuck::cast_slice(&new));
            cached[layer].extend(new);
        }
        let mut encoder = device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (.., dispatch) in &layers {
                dispatch.encode(&mut pass); // cannot fail, allocate, wait or submit
            }
        }
        queue.submit([encoder.finish()]);

        // not part of an engine: read back the last layer now and then, and check it
        if token % 13 == 12 {
            let (_, _, out, work, _) = &layers[LAYERS - 1];
            let len = token + 1;
            let strides = Strides { batch: len * row, token: row, head: DIM };
            let view = |offset| Tensor::strided(cached[LAYERS - 1].clone(), [1, len, HEADS[1], DIM], strides, offset);
            let inputs = Inputs::new(
                Tensor::bshd(values(HEADS[0] * DIM, LAYERS - 1), [1, 1, HEADS[0], DIM])?,
                view(0)?,
                view(HEADS[1] * DIM)?,
            );
            let lse = plan.lse_offset() as usize..(plan.lse_offset() + HEADS[0]) as usize;
            let output = Output {
                out_shape: [1, 1, HEADS[0], DIM],
                out: Data::from_bytes(Dtype::F16, &read(device, queue, out)?).to_f32(),
                lse: Data::from_bytes(Dtype::F32, &read(device, queue, work)?).to_f32()[lse.clone()].to_vec(),
            };
            let report = check::verify(&spec, &inputs, &output, &check::Options::default(), &|_| ())?;
            println!("step {token}, {len} keys: {report}");
            assert!(report.passed());
        }
    }
    Ok(())
}

fn read(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    buffer: &wgpu::Buffer,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |_| ());
    device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(staging.get_mapped_range(..)?.to_vec())
}
