//! Where a plan's tensors lie in the caller's buffers: byte offsets become what a binding can express and elements in `params`, and
//! bindings that may not lie in one buffer are named.

use crate::error::{Error, Result};
use crate::gpu::dispatch::Buffers;
use crate::gpu::pipeline::{filled, scoped};
use crate::gpu::trusted;
use crate::gpu::turn::{Held, is_lost, owns};
use crate::plan::kernel::Kernel;
use crate::plan::plan::Plan;
use crate::plan::storage::storage_of;
use crate::shader::layout::{Access, Binding, CHUNK_STRIDE, Params, Slot};

/// What a bind group has beside the caller's buffers.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    layout: wgpu::BindGroupLayout,
    /// What the uniform of the parameters holds.
    params: Params,
    /// By the number of the binding.
    uniforms: Vec<(u32, wgpu::Buffer)>,
}

impl Frame {
    pub(crate) fn layout(&self) -> &wgpu::BindGroupLayout {
        &self.layout
    }
}

/// A bind group of the caller's buffers. The uniforms are those of `known` where there is one; the parameters count the elements before each
/// tensor's first, and have another buffer where these differ, since work that is not submitted yet may read the known one.
///
/// # Errors
/// As of [`place`] and [`check_aliasing`]; a buffer of another device, by its name; the device's.
pub(crate) async fn bind(
    device: &wgpu::Device,
    plan: &Plan,
    layout: &wgpu::BindGroupLayout,
    buffers: &Buffers<'_>,
    known: Option<&Frame>,
) -> Result<(Held<wgpu::BindGroup>, Held<Frame>)> {
    let Placed { params, bound } = place(plan, &device.limits(), buffers)?;
    let foreign = |name: &str| Error::input(name, "is of another device, or destroyed", "bind buffers of the device");
    let on_gl = device.adapter_info().backend == wgpu::Backend::Gl;
    let context = format!("binding {}", plan.label());
    if let Some(b) = bound.iter().find(|b| trusted::is_on_gl(&b.buffer) != on_gl) {
        // numbered by another instance; or destroyed with its device
        return match is_lost(device).await {
            true => Err(Error::device_lost(context, None)),
            false => Err(foreign(b.name)),
        };
    }
    check_aliasing(plan, &bound)?;

    let label = plan.label();
    let made = scoped(device, &context, || {
        let uniforms = plan.bindings().iter().filter(|b| !b.slot.is_storage()).map(|b| {
            let same = known.filter(|known| b.slot != Slot::Params || known.params == params);
            if let Some((_, buffer)) = same.and_then(|known| known.uniforms.iter().find(|(n, _)| *n == b.binding)) {
                return Some((b.binding, buffer.clone()));
            }
            let contents = match b.slot {
                Slot::Params => bytemuck::bytes_of(&params).to_vec(),
                slot => plan.uniform(slot)?,
            };
            Some((b.binding, filled(device, label, wgpu::BufferUsages::UNIFORM, &contents)?))
        });
        let uniforms: Vec<_> = uniforms.collect::<Option<_>>()?;
        let entry = |binding, buffer, offset, size| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset,
                size: wgpu::BufferSize::new(size),
            }),
        };
        let of_uniform = |(number, buffer): &(u32, wgpu::Buffer)| {
            let b = plan.bindings().iter().find(|b| b.binding == *number);
            b.map_or(0, |b| if b.slot == Slot::Chunk { CHUNK_STRIDE } else { b.size }).min(buffer.size())
        };
        let ours = uniforms.iter().map(|uniform| entry(uniform.0, &uniform.1, 0, of_uniform(uniform)));
        let theirs = bound.iter().map(|b| entry(b.number, &b.buffer, b.offset, b.size));
        let entries: Vec<_> = ours.chain(theirs).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries };
        Some((device.create_bind_group(&descriptor), uniforms))
    });
    match made.await {
        Ok(Some((group, uniforms))) => {
            let frame = Frame { layout: layout.clone(), params, uniforms };
            Ok((Held::new(device, group), Held::new(device, frame)))
        }
        Ok(None) => Err(Error::device(context, "a uniform buffer could not be mapped")),
        Err(e @ Error::Device { .. }) => {
            for b in &bound {
                if !owns(device, &b.buffer).await {
                    return Err(foreign(b.name));
                }
            }
            Err(e)
        }
        Err(e) => Err(e),
    }
}

/// A storage binding: bytes from `offset`, a multiple of the device's offset alignment.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) slot: Slot,
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    access: Access,
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// Every storage binding of a plan, and its parameters with the elements before each tensor's first.
pub(crate) struct Placed {
    pub(crate) params: Params,
    pub(crate) bound: Vec<Bound>,
}

/// # Errors
/// The first tensor that is missing, too small, of the wrong usage or at an offset that no shader can reach.
pub(crate) fn place(plan: &Plan, limits: &wgpu::Limits, buffers: &Buffers) -> Result<Placed> {
    let alignment = limits.min_storage_buffer_offset_alignment as u64;
    let mut params = plan.params;
    let mut bound = Vec::with_capacity(8);
    for binding in plan.bindings() {
        if matches!(binding.access, Access::Uniform | Access::UniformDynamic) {
            continue;
        }
        let Some(given) = buffers.get(binding.slot) else {
            return Err(Error::input(binding.name, "is not bound", format!("bind {} bytes of it", binding.size)));
        };
        check_size(binding, given)?;
        let (offset, size) = place_one(plan, &mut params, binding, given, alignment)?;
        let most = limits.max_storage_buffer_binding_size;
        if size > most {
            let help = format!("start it at a multiple of {alignment} bytes, or call for less at a time");
            let problem = format!("{} takes {size} of {most} bytes with what lies before it", binding.name);
            return Err(Error::limit("max_storage_buffer_binding_size", problem, help));
        }
        let Binding { slot, binding: number, name, access, .. } = *binding;
        bound.push(Bound { slot, number, name, access, buffer: given.buffer.clone(), offset, size });
    }
    Ok(Placed { params, bound })
}

fn check_size(binding: &Binding, given: &wgpu::BufferBinding) -> Result<()> {
    let room = given.buffer.size().saturating_sub(given.offset);
    let room = given.size.map_or(room, |s| room.min(s.get()));
    if room < binding.size {
        return Err(Error::input(
            binding.name,
            format!("{room} bytes from offset {}", given.offset),
            format!("the plan takes {} bytes", binding.size),
        ));
    }
    if !given.buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        return Err(Error::input(
            binding.name,
            "its buffer lacks BufferUsages::STORAGE",
            "create the buffer with that usage",
        ));
    }
    Ok(())
}

/// The same of k and v in blocks: the binding starts whole blocks before the tensor, a multiple of `by`.
fn place_blocks(
    params: &mut Params,
    binding: &Binding,
    offset: u64,
    alignment: u64,
    [elements, bytes]: [u32; 2],
    by: usize,
) -> Result<(u64, u64)> {
    let (bytes, name) = (bytes as u64, binding.name);
    // the alignment is a power of two: after so many blocks the rest comes again
    let fits = |n: &u64| offset.checked_sub(n * bytes).is_some_and(|at| at.is_multiple_of(alignment));
    let Some(before) = (0..alignment).step_by(by).find(fits) else {
        let blocks = if by == 1 { "whole blocks" } else { "an even number of blocks" };
        let help = format!("start it at a multiple of {alignment} bytes, or at {blocks} of {bytes} bytes behind one");
        return Err(Error::input(name, format!("starts at byte {offset}"), help));
    };
    let first = before * elements as u64;
    if (binding.size / bytes).saturating_mul(elements as u64).saturating_add(first) > u32::MAX as u64 {
        let help = format!("start it at a multiple of {alignment} bytes, or call for less at a time");
        let problem = format!("{name} takes {} bytes from byte {offset}", binding.size);
        return Err(Error::limit("max_storage_buffer_binding_size", problem, help));
    }
    match binding.slot {
        Slot::V => params.v_offset += first as u32,
        _ => params.k_offset += first as u32,
    }
    Ok((offset - before * bytes, (binding.size + before * bytes).next_multiple_of(4)))
}

/// Splits a byte offset into what a binding can express and elements in the parameters.
fn place_one(
    plan: &Plan,
    params: &mut Params,
    binding: &Binding,
    given: &wgpu::BufferBinding,
    alignment: u64,
) -> Result<(u64, u64)> {
    let slot = binding.slot;
    let rest = given.offset % alignment;
    let words = slot == Slot::Out && plan.kernel() == Kernel::Scores; // scores are 4 bytes whatever the storage
    let new = matches!(slot, Slot::NewK | Slot::NewV);
    let tensor = new || matches!(slot, Slot::Q | Slot::K | Slot::V | Slot::Out) && !words;
    let (spec, dtype) = (plan.spec(), storage_of(plan.spec(), plan.kernel(), slot));
    if let Some(dtype) = dtype.filter(|dtype| dtype.in_blocks()) {
        let dim = if slot == Slot::V { spec.v_head_dim } else { spec.head_dim };
        // what is written begins at whole words: see `kernel/append_blocks`
        let by = if plan.kernel().writes(slot) && dtype.begins_at_half_words() { 2 } else { 1 };
        return place_blocks(params, binding, given.offset, alignment, dtype.block(dim), by);
    }
    let element = dtype.filter(|_| tensor).map_or(4, |dtype| dtype.size() as u64);
    let unit = match slot {
        _ if tensor && plan.aligned() => 4 * element,
        _ if tensor || words => element,
        Slot::Dense | Slot::Work => element,
        _ => alignment,
    };
    if !rest.is_multiple_of(unit) {
        return Err(Error::input(
            slot.name(),
            format!("starts at byte {}", given.offset),
            match tensor && plan.aligned() {
                true => format!("start at a multiple of {unit} bytes, or plan with shape.aligned = false"),
                false => format!("start at a multiple of {unit} bytes"),
            },
        ));
    }
    let elements = (rest / element) as u32;
    if (binding.size + rest).div_ceil(element) > u32::MAX as u64 {
        let help = format!("start it at a multiple of {alignment} bytes, or call for less at a time");
        let problem = format!("{} takes {} bytes from byte {}", slot.name(), binding.size, given.offset);
        return Err(Error::limit("max_storage_buffer_binding_size", problem, help));
    }
    match slot {
        Slot::Q => params.q_offset += elements,
        Slot::K => params.k_offset += elements,
        Slot::V => params.v_offset += elements,
        Slot::NewK => params.new_k_offset += elements,
        Slot::NewV => params.new_v_offset += elements,
        Slot::Out => {
            params.out_offset += elements;
            if plan.kernel().in_place() {
                params.q_offset += elements; // the source is `out` too
            }
        }
        Slot::Dense => {
            params.dense_offset += elements;
            params.gate_offset += elements;
        }
        Slot::Work => {
            params.lse_offset += elements;
            params.state_offset += elements;
            // scratch is read by vectors too
            let vectors = elements.next_multiple_of(4);
            params.query_products += vectors;
            params.key_products += vectors;
            params.prepared_q += vectors;
            params.prepared_k += vectors;
            params.partials += vectors;
        }
        _ => {}
    }
    let size = (binding.size + rest).next_multiple_of(4);
    Ok((given.offset - rest, size.min(given.buffer.size() - (given.offset - rest))))
}

/// Of bindings of one buffer: what is written lies apart from everything else, and all are declared alike, since WebGPU lets no dispatch
/// use a buffer as read-only and as read-write storage. What lies apart is judged by the bytes that are bound, from a multiple of the
/// alignment on. Browsers want all that is declared read-write apart, written or not.
pub(crate) fn check_aliasing(plan: &Plan, bound: &[Bound]) -> Result<()> {
    let writable = |b: &Bound| b.access == Access::ReadWrite;
    let written = |b: &Bound| plan.kernel().writes(b.slot);
    let pairs = bound.iter().enumerate().flat_map(|(n, a)| bound[..n].iter().map(move |b| (a, b)));
    for (a, b) in pairs.filter(|(a, b)| a.buffer == b.buffer) {
        // the one that is written comes first
        let (a, b) = if written(b) && !written(a) { (b, a) } else { (a, b) };
        let overlap = a.offset < b.offset + b.size && b.offset < a.offset + a.size;
        let apart = written(a) || cfg!(target_arch = "wasm32") && writable(a) && writable(b);
        let moves = matches!(plan.kernel(), Kernel::RotateQ { .. } | Kernel::RotateK { .. } | Kernel::Embed { .. });
        if overlap && apart {
            let range = |b: &Bound| format!("{} to {}", b.offset, b.offset + b.size);
            let problem = format!("is bound to bytes {} of a buffer, {} to bytes {} of it", range(a), b.name, range(b));
            let help = match moves {
                true => "plan with in_place: true, or let them lie apart",
                false => {
                    "let them lie apart; a binding starts at a multiple of the device's min_storage_buffer_offset_alignment"
                }
            };
            return Err(Error::input(a.name, problem, help));
        }
        if writable(a) != writable(b) {
            let read = if writable(a) { b.name } else { a.name };
            let (a, b) = if writable(a) { (a, b) } else { (b, a) };
            let problem = format!("is in the buffer of {}, which is read-write, and is declared as read alone", a.name);
            let help = format!("plan with Plan::share, naming {read}, or use another buffer");
            return Err(Error::input(b.name, problem, help));
        }
    }
    Ok(())
}
