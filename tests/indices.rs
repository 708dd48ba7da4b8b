//! The argument of `src/gpu/trusted.rs`, watched: modules that may drop their run-time checks run, with the checks, on buffers of exactly their
//! plans' sizes and on whatever an engine may write into `step` and the tensors; every index is compared with the length of what it indexes.
#![cfg(feature = "wgpu")]

use crate::common;
use common::{left_out, sampled};
use naga::proc::TypeResolution;
use naga::valid::{Capabilities, FunctionInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{ArraySize, Expression, Function, Module, TypeInner};
use rand::{RngExt, SeedableRng};
use ropewalk::case::{CaseId, Op};
use ropewalk::wgpu::util::DeviceExt;
use ropewalk::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Where the watch is bound, behind the bindings of all plans.
const WATCH: u32 = 14;
/// Of some index that was beyond its end: its site, itself and the length.
const WATCH_TEXT: &str = "
@group(0) @binding(14) var<storage, read_write> watch: vec4<u32>;
fn within(site: u32, index: u32, length: u32) -> u32 {
    if (index >= length) { watch = vec4<u32>(1u, site, index, length); }
    return index;
}
";

/// A module in which every index that is not a constant goes through `within`, and the byte of the text where each of them stands. naga says
/// where indices are and what they index: bound arrays, arrays of a workgroup and of an invocation, vectors, matrices.
fn watched(text: &str) -> (String, Vec<usize>) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    let mut sites = BTreeMap::new();
    for (handle, function) in module.functions.iter() {
        indices(text, &module, function, &info[handle], &mut sites);
    }
    for (n, entry) in module.entry_points.iter().enumerate() {
        indices(text, &module, &entry.function, info.get_entry_point(n), &mut sites);
    }
    // from the last byte to the first, so that places stay
    let mut pieces: Vec<_> = Vec::new();
    for (site, (range, length)) in sites.values().enumerate() {
        pieces.push((range.start, format!("within({site}u, u32(")));
        pieces.push((range.end, format!("), {length})")));
    }
    pieces.sort_by_key(|(at, _)| *at);
    let mut source = text.to_string();
    pieces.iter().rev().for_each(|(at, piece)| source.insert_str(*at, piece));
    (source + WATCH_TEXT, sites.into_keys().collect())
}

/// The indices of a function: the byte before each, where its text stands, and the length of what it indexes.
fn indices(
    text: &str,
    module: &Module,
    function: &Function,
    info: &FunctionInfo,
    sites: &mut BTreeMap<usize, (std::ops::Range<usize>, String)>,
) {
    let type_of = |handle: naga::Handle<Expression>| match &info[handle].ty {
        TypeResolution::Handle(ty) => &module.types[*ty].inner,
        TypeResolution::Value(inner) => inner,
    };
    for (handle, expression) in function.expressions.iter() {
        let (base, constant) = match *expression {
            Expression::Access { base, .. } => (base, false),
            Expression::AccessIndex { base, .. } => (base, true),
            _ => continue,
        };
        let inner = match type_of(base) {
            TypeInner::Pointer { base, .. } => &module.types[*base].inner,
            inner => inner,
        };
        let length = match inner {
            TypeInner::Array { size: ArraySize::Dynamic, .. } => match function.expressions[base] {
                Expression::GlobalVariable(global) => {
                    format!("arrayLength(&{})", module.global_variables[global].name.as_ref().expect("a name"))
                }
                _ => panic!("an array without an end that is not bound"),
            },
            // naga has compared constants with sizes
            _ if constant => continue,
            TypeInner::Array { size: ArraySize::Constant(n), .. } => format!("{n}u"),
            TypeInner::Vector { size, .. } | TypeInner::ValuePointer { size: Some(size), .. } => {
                format!("{}u", *size as u32)
            }
            TypeInner::Matrix { columns, .. } => format!("{}u", *columns as u32),
            other => panic!("an index into {other:?}"),
        };
        let end = function.expressions.get_span(handle).to_range().expect("a place in the text").end;
        let end = text[..end].trim_end().strip_suffix(']').expect("an index").len();
        let mut open = 1;
        let start = text[..end].rfind(|c| {
            open += (c == ']') as i32 - (c == '[') as i32;
            open == 0
        });
        let start = start.expect("brackets match") + 1;
        sites.insert(start, (start..end, length));
    }
}

/// Cases, and the family that takes each: both sides of edges of tiles, every kind of term, mask, layout and storage.
const CASES: &[(&str, Family)] = {
    use Family::{Block, Coop, Decode, Rows, Tile, Turns, Wide};
    &[
        ("attention/alibi-key-from-end/q33k65/f32/seed1", Tile),
        ("attention/gqa3+no-rotation+sink+no-mask+kerple-log/q22k64/f16/seed1", Tile),
        (
            "attention/heads7+d33+interleaved+window-two-sided+kv-lens+content-bias+l2-norm-after/q19k33/bf16/seed1",
            Tile,
        ),
        ("attention/d64v80+interleaved-in-half-out+alibi+chunk+cap/q17k129/f32/seed1", Tile),
        ("attention/shaw+dense+three-streams+float32/q40k70/f16/seed1", Tile),
        ("attention/mqa+d32+bert-key-query+one-sequence+xpos+gaps/q101k402/f32/seed1", Tile),
        ("attention/swin+rms-norm-weights+temperature-and-head-scale/q33k70/f32/seed1", Tile),
        ("attention/heads16+d80+alibi-key-position+window+rotated-keys/q1k300/f32/seed1", Decode),
        ("attention/gqa3+d33+sink-zero+cap+kv-lens+kerple-power/q2k67/f16/seed1", Decode),
        ("attention/gqa3+d32+interleaved+sink-zero+cap+kv-lens+kerple-power/q2k67/f16/seed1", Wide),
        ("attention/heads16+d80+alibi-key-position+rotated-keys/q1k1500/f32/seed1", Wide),
        ("attention/heads7+no-rotation+mask+ids-far/q2k130/bf16/seed1", Wide),
        ("attention/fire+no-rotation/q22k64/f32/seed1", Tile),
        ("attention/heads7+d80+alibi+chunk+sink/q40k130/f32/seed1", Block),
        ("attention/packed+interleaved+cap/q37k75/f16/seed1", Block),
        ("attention/no-rotation+mask+kv-lens/q40k70/bf16/seed1", Block),
        ("attention/rotated-keys+window/q70k200/f32/seed1", Block),
        ("attention/mqa+d32+bert-key-query+one-sequence+xpos+gaps/q101k402/f32/seed1", Block),
        ("attention/rms-norm-weights+temperature-log-n/q40k70/f32/seed1", Block),
        ("attention/heads7+ragged+pages7/q37k75/f16/seed1", Block),
        ("attention/interleaved+ragged+slots/q37k75/f32/seed1", Tile),
        ("attention/ragged-decode+pages16/q5k700/f32/seed1", Wide),
        ("attention/d33+ragged-decode+pages16+rotated-keys/q3k700/f32/seed1", Decode),
        ("attention/q8_0/q2k67/f32/seed1", Decode),
        ("attention/q4_1/q3k130/f16/seed1", Decode),
        ("attention/int8/q2k67/bf16/seed1", Decode),
        ("attention/q5_1/q2k130/f32/seed1", Decode),
        ("attention/q4_0/q40k70/f32/seed1", Tile),
        ("attention/e4m3/q40k70/f16/seed1", Tile),
        ("attention/q5_0/q40k70/f32/seed1", Block),
        ("attention/iq4_nl/q9k33/f32/seed1", Rows),
        ("attention/d32+gqa3+window+alibi-symmetric+kv-lens/q70k140/f16/seed1", Coop),
        ("attention/d32+no-rotation+mask+sink-zero+cap/q40k75/f16/seed1", Coop),
        ("attention/d32+rms-norm+rotated-keys/q37k75/f16/seed1", Coop),
        ("attention/gqa3+fire-and-t5/q2k67/f32/seed1", Decode),
        ("attention/heads7/q19k33/f32/seed1", Rows),
        ("attention/layer-norm/q40k70/f32/seed1", Rows),
        ("attention/shaw-values+rotated-values+sink-zero/q40k140/f16/seed1", Rows),
        ("scores/table+top-left+mask/q64k31/f32/seed1", Rows),
        ("scores/gated-alibi-and-grid/q37k75/f32/seed1", Rows),
        ("scores/columns-outside-zero/q37k75/f32/seed1", Rows),
        ("rotate/control/q65k64/f32/seed1", Turns),
        ("rotate/interleaved+three-streams/q9k7/f32/seed1", Turns),
        ("rotate/half-of-halves+xpos/q9k7/f16/seed1", Turns),
        ("rotate/interleaved-in-half-out/q9k65/bf16/seed1", Turns),
        ("rotate/d33+offset-in-half-out/q65k64/f32/seed1", Rows),
        ("rotate/d33+offset-half-of-halves/q7k9/f16/seed1", Rows),
    ]
};

/// Plans without run-time checks of a case, on a device of these limits: of a family the n-th of its tunings.
fn plans(limits: &Limits, family: Family, address: &str, n: usize) -> Vec<Plan> {
    let case = address.parse::<CaseId>().and_then(|id| id.build()).unwrap_or_else(|e| panic!("{address}: {e}"));
    let problem = Problem::new(&case.spec, &case.inputs).expect("a case is a problem");
    let kernels: &[Kernel] = match case.op {
        Op::Rotate => &[
            Kernel::RotateQ { in_place: false },
            Kernel::RotateQ { in_place: true },
            Kernel::RotateK { in_place: false },
            Kernel::RotateK { in_place: true },
        ],
        op => op.kernels(),
    };
    // as GPUs have it, in parts of a grid; as software adapters without subgroups have it; kernels in turn
    let (mut gpu_like, mut cpu_like) = (*limits, *limits);
    // matrix units are planned to do more in a dispatch
    (gpu_like.cpu, gpu_like.max_flop_per_dispatch) = (false, if family == Family::Coop { 2e4 } else { 4e5 });
    (cpu_like.cpu, cpu_like.subgroup_size) = (true, 0);
    let devices = [gpu_like, cpu_like].into_iter().cycle().skip(n);
    let mut plans = Vec::new();
    for (kernel, limits) in kernels.iter().zip(devices) {
        let shape = problem.shape();
        let all = Tuning::candidates(*kernel, &case.spec, &shape, &limits).expect("a valid spec");
        let all: Vec<_> = all.into_iter().filter(|t| t.family == family && t.checks).collect();
        let Some(tuning) = all.get(n % all.len().max(1)) else { continue };
        let tuning = tuning.without_checks();
        let mut limits = limits;
        limits.tuning = Some(tuning);
        let plan = Plan::for_problem(*kernel, &problem, &limits).expect("a plan");
        assert_eq!(*plan.tuning(), tuning, "{address}: it keeps its checks");
        plans.push(plan);
    }
    assert!(!plans.is_empty(), "{address}: {family:?} does not take it");
    plans
}

/// The plans of [`CASES`] of some families.
fn all_plans(limits: &Limits, families: &[Family]) -> Vec<(String, Plan)> {
    let mut all = Vec::new();
    for (n, (address, family)) in CASES.iter().enumerate().filter(|(_, (_, family))| families.contains(family)) {
        let plans = plans(limits, *family, address, n).into_iter();
        all.extend(plans.map(|plan| (format!("{address}, {}", plan.label()), plan)));
    }
    all
}

/// What engines may write into `step`, lengths first: as they should; nothing; too much; positions at the ends of i32; anything. Of packed sequences also
/// some that have all the tokens that there are, from the first on, whatever was planned for the longest; and starts that go up and down.
fn steps(plan: &Plan) -> Vec<Vec<u32>> {
    let words = plan.step_layout().words as usize;
    let [q, k] = [plan.shape().q_len, plan.shape().kv_len];
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let of = |lengths: [u32; 2], word: &mut dyn FnMut(usize) -> u32| {
        let mut step: Vec<u32> = (0..words).map(word).collect();
        step[..2].copy_from_slice(&lengths);
        step
    };
    let layout = plan.step_layout();
    let starts: Vec<(usize, u32)> = [(&layout.cu_seqlens_q, q), (&layout.cu_seqlens_k, k)]
        .into_iter()
        .filter_map(|(at, capacity)| Some((at.clone()?, capacity)))
        .flat_map(|(at, capacity)| at.map(move |at| (at as usize, capacity)))
        .collect();
    let of_starts = |start: &mut dyn FnMut(usize, u32) -> u32, other: &mut dyn FnMut(usize) -> u32| {
        let mut step = of([q, k], other);
        starts.iter().enumerate().for_each(|(n, (at, capacity))| step[*at] = start(n, *capacity));
        step
    };
    let mut packed = Vec::new();
    if !starts.is_empty() {
        for turn in [0, 1] {
            packed.push(of_starts(&mut |n, capacity| [0, capacity][(n + turn) % 2], &mut |at| at as u32));
            packed
                .push(of_starts(&mut |n, capacity| [1, u32::MAX][(n + turn) % 2].min(2 * capacity), &mut |_| u32::MAX));
        }
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(8);
        packed.push(of_starts(&mut |_, capacity| random.random_range(0..2 * capacity), &mut |at| 7 * at as u32));
    }
    let all = vec![
        of([q, k], &mut |at| at as u32),
        of([q, 0], &mut |_| 0),
        of([q / 2, k / 2], &mut |_| u32::MAX),
        of([u32::MAX; 2], &mut |at| [0x7fff_ffff, 0x8000_0000][at % 2]),
        of([q + 77, k + 177], &mut |_| random.random()),
    ];
    all.into_iter().chain(packed).collect()
}

/// A device, and the pipelines of texts that ran.
struct Watch {
    gpu: Gpu,
    made: HashMap<String, (wgpu::BindGroupLayout, BTreeMap<&'static str, wgpu::ComputePipeline>)>,
}

impl Watch {
    /// The first adapter that has a storage buffer more than plans take, with its subgroups.
    fn new() -> Option<Self> {
        let all = pollster::block_on(adapters());
        let Some(adapter) = all.iter().find(|a| a.limits().max_storage_buffers_per_shader_stage > 8) else {
            if !common::gpus().is_empty() {
                left_out("no adapter has nine storage buffers");
            }
            return None;
        };
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: adapter.limits(),
            required_features: adapter.features() & wgpu::Features::SUBGROUP,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("it opens");
        Some(Watch { gpu: Gpu::from_device(adapter.get_info(), device, queue), made: HashMap::new() })
    }

    /// A device with cooperative matrices, whose eight storage buffers leave one for the watch where a plan takes seven.
    fn with_matrices() -> Option<Self> {
        let mut options = GpuOptions::default();
        options.cooperative_matrix = true;
        let gpu = Gpu::all(&options).into_iter().flatten().find(|gpu| gpu.cooperative_matrix().is_ok());
        if gpu.is_none() {
            left_out("no adapter with cooperative matrices");
        }
        gpu.map(|gpu| Watch { gpu, made: HashMap::new() })
    }

    /// Runs a plan's text, or another for the same bindings, on some steps; the first index beyond its end.
    fn run(&mut self, plan: &Plan, text: &str, steps: &[Vec<u32>]) -> Option<String> {
        let device = self.gpu.device();
        let _turn = turn(device);
        let (source, sites) = watched(text);
        let (layout, pipelines) = &*self.made.entry(text.into()).or_insert_with(|| pipelines(device, plan, &source));
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = |words: &[u32], usage| {
            let contents = bytemuck::cast_slice(words);
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let watch = buffer(&[0; 4], storage);
        let bound: Vec<_> = plan
            .bindings()
            .iter()
            .map(|b| match plan.uniform(b.slot) {
                Some(bytes) => buffer(bytemuck::cast_slice(&bytes), wgpu::BufferUsages::UNIFORM),
                None => buffer(&(0..b.size.div_ceil(4)).map(|_| random.random()).collect::<Vec<u32>>(), storage),
            })
            .collect();
        let mut encoder = device.create_command_encoder(&Default::default());
        for step in steps {
            let step = buffer(step, storage);
            let resource = |b: &Binding, buffer| {
                let size = (b.slot == Slot::Chunk).then_some(CHUNK_STRIDE).and_then(wgpu::BufferSize::new);
                wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size })
            };
            let entries = plan.bindings().iter().zip(&bound).map(|(b, buffer)| wgpu::BindGroupEntry {
                binding: b.binding,
                resource: resource(b, if b.slot == Slot::Step { &step } else { buffer }),
            });
            let watch = wgpu::BindGroupEntry { binding: WATCH, resource: watch.as_entire_binding() };
            let entries: Vec<_> = entries.chain([watch]).collect();
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (n, chunk) in plan.chunks().iter().enumerate() {
                let [x, y, z] = chunk.workgroups;
                pass.set_pipeline(&pipelines[chunk.entry]);
                pass.set_bind_group(0, &group, &[n as u32 * CHUNK_STRIDE as u32]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let read =
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false });
        encoder.copy_buffer_to_buffer(&watch, 0, &read, 0, 16);
        self.gpu.queue().submit([encoder.finish()]);
        let bytes = self.gpu.read_back(&read).expect("the device works");
        let [beyond, site, index, length] = bytemuck::pod_read_unaligned::<[u32; 4]>(&bytes);
        (beyond > 0).then(|| {
            let line = text[..sites[site as usize]].lines().count();
            let what = text.lines().nth(line - 1).unwrap_or_default();
            format!("{:?}: `{}`: {index} of {length}", plan.locate(line), what.trim())
        })
    }
}

fn pipelines(
    device: &wgpu::Device,
    plan: &Plan,
    source: &str,
) -> (wgpu::BindGroupLayout, BTreeMap<&'static str, wgpu::ComputePipeline>) {
    let entry = |binding, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    };
    let entries = plan.bindings().iter().map(|b| {
        let ty = match b.access {
            Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
            Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
            _ => wgpu::BufferBindingType::Uniform,
        };
        entry(b.binding, ty, b.access == Access::UniformDynamic)
    });
    let watch = entry(WATCH, wgpu::BufferBindingType::Storage { read_only: false }, false);
    let entries: Vec<_> = entries.chain([watch]).collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let source = wgpu::ShaderSource::Wgsl(source.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let compile = |entry| {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        })
    };
    (layout, plan.entries().into_iter().map(|entry| (entry, compile(entry))).collect())
}

fn watch(families: &[Family]) {
    let Some(mut watch) = Watch::new() else { return };
    for (what, plan) in sampled(5, all_plans(&watch.gpu.limits().clone(), families)) {
        assert_eq!(watch.run(&plan, plan.wgsl(Target::Native), &steps(&plan)), None, "{what}");
    }
}

#[test]
fn indices_of_tile_are_within_their_ends() {
    watch(&[Family::Tile, Family::Block]);
}

#[test]
fn indices_of_decode_and_rotations_are_within_their_ends() {
    watch(&[Family::Decode, Family::Wide, Family::Turns]);
}

#[test]
fn indices_of_rows_are_within_their_ends() {
    watch(&[Family::Rows]);
}

#[test]
fn indices_of_coop_are_within_their_ends() {
    let Some(mut watch) = Watch::with_matrices() else { return };
    for (what, plan) in all_plans(&watch.gpu.limits().clone(), &[Family::Coop]) {
        assert_eq!(watch.run(&plan, plan.wgsl(Target::Native), &steps(&plan)), None, "{what}");
    }
}

/// Subgroups of another size than limits state: results are wrong, indices are not.
#[test]
fn subgroups_of_another_size_stay_within_their_ends() {
    let Some(mut watch) = Watch::new() else { return };
    let mut limits = *watch.gpu.limits();
    if !(4..=64).contains(&limits.subgroup_size) {
        return left_out("no subgroups of one size, or of the largest");
    }
    let clamp = "min(subgroupBroadcast(number, 0u) * SUBGROUP + invocation, LANES - 1u)";
    limits.subgroup_size *= 2;
    let plan = plans(&limits, Family::Tile, "attention/sink/q33k65/f32/seed1", 0).remove(0);
    let text = plan.wgsl(Target::Native);
    assert!(plan.label().contains(".sg"), "{}", plan.label());
    assert_eq!(watch.run(&plan, text, &steps(&plan)), None, "{}", plan.label());
    let broken = text.replace(clamp, "subgroupBroadcast(number, 0u) * SUBGROUP + invocation");
    assert!(broken != text && watch.run(&plan, &broken, &steps(&plan)).is_some(), "it needs no clamp");
}

/// A broken index is seen, of a tensor and of a row.
#[test]
fn broken_indices_are_seen() {
    let Some(mut watch) = Watch::new() else { return };
    let limits = *watch.gpu.limits();
    let plans = plans(&limits, Family::Rows, "rotate/d80/q65k70/f32/seed1", 0);
    let mut broken = |plan: &Plan, sound: &str, broken: &str| {
        let text = plan.wgsl(Target::Native);
        assert!(text.contains(sound), "{sound}");
        let mut step = vec![0; plan.step_layout().words as usize];
        step[..2].copy_from_slice(&[100, 100]);
        let seen = watch.run(plan, &text.replace(sound, broken), &[step]);
        assert!(seen.is_some(), "{broken}");
    };
    broken(&plans[0], "min(step[0], params.q_capacity)", "step[0]");
    broken(&plans[0], "array<vec4<f32>, HEAD_PADDED>", "array<vec4<f32>, HEAD_CHUNKS - 1u>");
    broken(&plans[3], "min(step[1], params.kv_capacity)", "step[1]");
}

/// No argued file is left out, and no family's parts of a grid.
#[test]
fn every_argued_file_is_watched() {
    let table = include_str!("../src/shader/files.rs").lines().filter_map(|line| line.trim().split_once(": InBounds("));
    let argued = table.map(|(path, _)| path.trim_matches('"')).filter(|path| path.ends_with(".wgsl"));
    // families/loops_constant.wgsl has the bounds of families/loops_rolled.wgsl, which software adapters, without the word that hides them, compile for minutes
    let argued = argued.filter(|name| *name != "families/loops_constant.wgsl");
    let mut limits = Limits::default();
    (limits.subgroup_size, limits.rolled_loops) = (32, true);
    (limits.cooperative_matrix, limits.matrix_subgroup, limits.f16) = (8, 8, true);
    let families =
        [Family::Block, Family::Coop, Family::Decode, Family::Wide, Family::Rows, Family::Tile, Family::Turns];
    let (mut watched, mut cut) = (BTreeSet::new(), BTreeSet::new());
    for (_, plan) in all_plans(&limits, &families) {
        watched.extend((1..=plan.wgsl(Target::Native).lines().count()).map(|line| plan.locate(line).0));
        if plan.chunks().iter().any(|c| c.first != [0; 3]) {
            cut.insert(plan.tuning().family.name());
        }
    }
    assert!(families.iter().all(|family| cut.contains(family.name())), "only {cut:?} in parts");
    let left: Vec<_> = argued.filter(|file| !watched.contains(file)).collect();
    assert!(left.is_empty() && watched.len() > 80, "{left:?}, {} watched", watched.len());
}
