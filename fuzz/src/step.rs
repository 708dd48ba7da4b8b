//! Garbage in `step`: a bound dispatch ends, the device lives, and no byte around a binding changes, with the plan's run-time checks and
//! without them where it may drop them.

use crate::twin::draw::{self, BLOCK, Computed, Draw};
use crate::{Outcome, Ran};
use ropewalk::wgpu::{self, BufferUsages};
use ropewalk::{Access, Buffers, Gpu, Kernel, Pipeline, Plan, Problem, Shape, Slot, Spec};
use std::cell::RefCell;

/// Bytes around a binding, a multiple of every device's alignment.
const AROUND: u64 = 1024;
const MARK: u32 = 0x5a5a_a5a5;

pub fn run(seed: u64, gpus: &[Gpu]) -> Outcome {
    let block = seed / BLOCK;
    let shared = &mut Draw::new(block ^ 0x57e9 << 40);
    let gpu = shared.pick(&Vec::from_iter(gpus));
    let unchecked = shared.chance(0.5);
    let Computed::Attention { spec, inputs, .. } = draw::case(block * BLOCK).computed else {
        return Ok(Ran { left_out: Some("embed reads positions alone".into()), ..Ran::of(block) });
    };
    let draw = &mut Draw::new(seed ^ 0x57e9 << 40);
    let shape = Problem::new(&spec, &inputs).map_err(|e| e.to_string())?.shape();
    let kernel = match &spec.linear {
        Some(_) => Kernel::Linear,
        None => {
            shared.pick(&[Kernel::Attention, Kernel::Attention, Kernel::Scores, Kernel::RotateK { in_place: false }])
        }
    };
    let plan = plan(kernel, &spec, &shape, gpu, unchecked).map_err(|e| e.to_string())?;
    let label = plan.label().to_string();
    garbage(gpu, block, &plan, draw).map_err(|problem| format!("{label} on {}: {problem}", gpu.describe()))?;
    Ok(Ran::of(block))
}

fn plan(kernel: Kernel, spec: &Spec, shape: &Shape, gpu: &Gpu, unchecked: bool) -> ropewalk::Result<Plan> {
    let plan = Plan::new(kernel, spec, shape, gpu.limits())?;
    if unchecked {
        let tuning = plan.tuning().without_checks();
        if let Ok(bare) = Plan::with_tuning(kernel, spec, shape, gpu.limits(), Some(tuning)) {
            return Ok(bare);
        }
    }
    Ok(plan)
}

fn garbage(gpu: &Gpu, block: u64, plan: &Plan, draw: &mut Draw) -> Result<(), String> {
    let (device, queue) = (gpu.device(), gpu.queue());
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let make = |size, usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    let mut made = vec![];
    for binding in plan.bindings() {
        let outer = 2 * AROUND + binding.size.next_multiple_of(4);
        match binding.access {
            Access::Read | Access::ReadWrite => {}
            _ => continue,
        }
        let mut words = vec![MARK; (outer / 4) as usize];
        let inner = (AROUND / 4) as usize..((AROUND + binding.size.next_multiple_of(4)) / 4) as usize;
        for word in &mut words[inner] {
            *word = match binding.slot {
                Slot::Step => odd_word(draw),
                _ => (draw.real(-2.0, 2.0) as f32).to_bits(),
            };
        }
        let buffer = make(outer, usage);
        queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        made.push((binding, buffer, words));
    }
    let pipeline = compiled(device, block, plan)?;
    let mut buffers = Buffers::new();
    for (binding, buffer, _) in &made {
        let size = std::num::NonZeroU64::new(binding.size.next_multiple_of(4));
        buffers = buffers.with_binding(binding.slot, wgpu::BufferBinding { buffer, offset: AROUND, size });
    }
    let dispatch = pipeline.bind(device, &buffers).map_err(|e| e.to_string())?;
    let mut encoder = device.create_command_encoder(&Default::default());
    dispatch.encode(&mut encoder.begin_compute_pass(&Default::default()));
    let mut copies = vec![];
    for (_, buffer, words) in &made {
        let copy = make(4 * words.len() as u64, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        encoder.copy_buffer_to_buffer(buffer, 0, &copy, 0, copy.size());
        copies.push(copy);
    }
    queue.submit([encoder.finish()]);
    for ((binding, _, words), copy) in made.iter().zip(&copies) {
        let bytes = gpu.read_back(copy).map_err(|e| e.to_string())?;
        let after: &[u32] = bytemuck::cast_slice(&bytes);
        let inner = (AROUND / 4) as usize..(AROUND as usize + binding.size as usize).div_ceil(4);
        let may = |i: usize| binding.access == Access::ReadWrite && inner.contains(&i);
        if let Some(i) = (0..words.len()).find(|i| after[*i] != words[*i] && !may(*i)) {
            let at = 4 * i as i64 - AROUND as i64;
            return Err(format!("byte {at} of {} ({} bytes) became {:#x}", binding.name, binding.size, after[i]));
        }
    }
    gpu.finish().map_err(|e| e.to_string())
}

/// The last pipeline is kept: a block, which stays on one device, has one text.
fn compiled(device: &wgpu::Device, block: u64, plan: &Plan) -> Result<Pipeline, String> {
    thread_local! {
        static LAST: RefCell<Option<(u64, Pipeline)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((of, pipeline)) if *of == block => Ok(pipeline.clone()),
        _ => {
            let pipeline = Pipeline::new(device, plan).map_err(|e| e.to_string())?;
            *last = Some((block, pipeline.clone()));
            Ok(pipeline)
        }
    })
}

/// Lengths and positions as no one should write them.
fn odd_word(draw: &mut Draw) -> u32 {
    match draw.int(0..=5) {
        0 => u32::MAX,
        1 => 1 << draw.int(0..=31),
        2 => (1u32 << draw.int(0..=31)).wrapping_sub(1),
        3 => draw.int(0..=300),
        4 => 0u32.wrapping_sub(draw.int(0..=300)),
        _ => draw.word(),
    }
}
