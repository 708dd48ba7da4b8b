//! `ropewalk wgsl`: the composed shader and its binding table, for engines that are not Rust, naga, and browsers.

mod variants;

use crate::report;
use crate::source::Source;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use ropewalk::{
    Access, CHUNK_STRIDE, Dtype, Error, Family, Kernel, Limits, Plan, Result, Shape, Slot, Strides, Target,
};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print the composed shader of a spec with its binding table
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Write every distinct shader of a product of specs to DIR instead, one file each
    #[arg(long, value_name = "DIR", group = "source")]
    variants: Option<PathBuf>,
    /// Words of user_data, for a spec whose score_mod or mask_mod reads them
    #[arg(long, value_name = "N", default_value_t = 1)]
    user_words: u32,
    /// What the shader computes
    #[arg(long, value_enum, default_value = "attention")]
    kernel: KernelName,
    /// Sequences; with spec.packed, --q-len and --kv-len count the tokens of all of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: u32,
    /// Query tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    q_len: u32,
    /// The capacity of k and v in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    kv_len: u32,
    /// Who compiles it: naga, or a browser
    #[arg(long, value_enum, default_value = "native")]
    target: TargetName,
    /// For a software adapter: loops with run-time bounds, fewer keys in a dispatch
    #[arg(long)]
    software: bool,
    /// Print the binding table alone
    #[arg(long)]
    bindings: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum KernelName {
    Attention,
    Scores,
    Linear,
    RotateQ,
    RotateK,
    RotateQInPlace,
    RotateKInPlace,
    /// New rows in f32 into caches of the spec's type.
    Append,
}

impl From<KernelName> for Kernel {
    fn from(name: KernelName) -> Kernel {
        match name {
            KernelName::Attention => Kernel::Attention,
            KernelName::Scores => Kernel::Scores,
            KernelName::Linear => Kernel::Linear,
            KernelName::RotateQ => Kernel::RotateQ { in_place: false },
            KernelName::RotateK => Kernel::RotateK { in_place: false },
            KernelName::RotateQInPlace => Kernel::RotateQ { in_place: true },
            KernelName::RotateKInPlace => Kernel::RotateK { in_place: true },
            KernelName::Append => Kernel::Append { rows: Dtype::F32 },
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TargetName {
    Native,
    Web,
}

impl From<TargetName> for Target {
    fn from(name: TargetName) -> Target {
        match name {
            TargetName::Native => Target::Native,
            TargetName::Web => Target::Web,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, json: bool) -> Result<ExitCode> {
    let target = args.target.into();
    if let Some(folder) = &args.variants {
        let written = variants::write(folder, target)?;
        match json {
            true => report::json(
                &json!({ "shaders": written, "folder": folder.display().to_string(), "validated_by": "naga" }),
            ),
            false => report::say(&format!("{written} shaders in {}, validated by naga", folder.display())),
        }
        return crate::verdict(true);
    }
    let spec = args.source.read(Some(args.kv_len))?;
    let mut shape = match spec.packed {
        true => Shape::packed(&spec, args.batch, args.q_len, args.kv_len),
        false => Shape::new(&spec, args.batch, args.q_len, args.kv_len),
    };
    (shape.dense, shape.mask) = ([1, 1, args.q_len, args.kv_len], [1, 1, args.q_len, args.kv_len]);
    shape.user_words = args.user_words;
    shape.out = match args.kernel.into() {
        Kernel::RotateQ { .. } => Strides::bshd(args.q_len, spec.num_heads, spec.head_dim),
        Kernel::RotateK { .. } => Strides::bshd(args.kv_len, spec.num_kv_heads, spec.head_dim),
        _ => shape.out,
    };
    let limits = if args.software { Limits::default().for_cpu() } else { Limits::default() };
    let plan = Plan::new(args.kernel.into(), &spec, &shape, &limits)?;
    validate(&plan)?;
    match (json, args.bindings) {
        (true, _) => report::json(&as_json(&plan, target)),
        (false, true) => report::say(&header(&plan, target)),
        (false, false) => report::say(&format!("{}\n{}", header(&plan, target), plan.wgsl(target))),
    }
    crate::verdict(true)
}

/// Parses and validates with what every WebGPU device can do, which unpacking binary16 is part of; an error names the
/// shader file and the line.
///
/// naga reads the native text: it refuses the `enable` lines that browsers demand.
fn validate(plan: &Plan) -> Result<()> {
    let text = plan.wgsl(Target::Native);
    let error = |line: Option<u32>, message: String| {
        let (file, line) = plan.locate(line.unwrap_or(1) as usize);
        Error::device(format!("naga, {} at {file}:{line}", plan.label()), message)
    };
    let module = naga::front::wgsl::parse_str(text)
        .map_err(|e| error(e.location(text).map(|l| l.line_number), e.emit_to_string(text)))?;
    let subgroups = plan.wgsl(Target::Web).starts_with("enable subgroups");
    let more = if subgroups { Capabilities::SUBGROUP } else { Capabilities::empty() };
    let matrices = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP;
    let more = if plan.tuning().family == Family::Coop { matrices } else { more };
    Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16_IN_FLOAT32 | more)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|e| error(e.location(text).map(|l| l.line_number), e.emit_to_string(text)))?;
    Ok(())
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Read => "storage, read",
        Access::ReadWrite => "storage, read_write",
        Access::Uniform => "uniform",
        Access::UniformDynamic => "uniform, dynamic offset",
        _ => "another",
    }
}

/// What an engine needs beside the text, as comments.
fn header(plan: &Plan, target: Target) -> String {
    let mut text = format!("// ropewalk {}: {}\n", env!("CARGO_PKG_VERSION"), plan.label());
    let _ = writeln!(text, "// validated by naga; target {target:?}; entry points {}\n//", plan.entries().join(", "));
    for b in plan.bindings() {
        let _ = writeln!(
            text,
            "// @group(0) @binding({:>2})  {:8} {:24} {:24} {} bytes",
            b.binding,
            b.name,
            access(b.access),
            b.wgsl_type,
            b.size
        );
    }
    let step = plan.step_layout();
    let _ = writeln!(text, "//\n// step, in u32 words ({} in all): 0 q_len, 1 kv_len", step.words);
    let fields = [
        ("q_positions [batch, q_len] i32", &step.q_positions),
        ("k_positions [batch, kv_len] i32", &step.k_positions),
        ("kv_lens [batch]", &step.kv_lens),
        ("cu_seqlens_q [sequences + 1]", &step.cu_seqlens_q),
        ("cu_seqlens_k [sequences + 1]", &step.cu_seqlens_k),
        ("mask bits [batch or 1, heads or 1, q_len or 1, ceil(kv_len / 32)]", &step.mask),
    ];
    for (name, range) in fields.iter().filter_map(|(name, range)| Some((name, range.as_ref()?))) {
        let _ = writeln!(text, "//   {}..{} {name}", range.start, range.end);
    }
    if plan.workspace_size() > 0 {
        let _ = writeln!(text, "// work: lse [batch, heads, q_len] f32 from element {}", plan.lse_offset());
    }
    let chunks = plan.chunks();
    let _ = writeln!(text, "//\n// dispatches ({}), the n-th with dynamic offset {CHUNK_STRIDE} n:", chunks.len());
    const SHOWN: usize = 8;
    for c in chunks.iter().take(SHOWN) {
        let ([x, y, z], [fx, fy, fz], [from, to]) = (c.workgroups, c.first, c.keys);
        let _ =
            writeln!(text, "//   {}: {x} x {y} x {z} workgroups from ({fx}, {fy}, {fz}), keys {from}..{to}", c.entry);
    }
    if chunks.len() > SHOWN {
        let _ = writeln!(text, "//   and {} more (--json has all)", chunks.len() - SHOWN);
    }
    text + "// The contents of the uniforms are in --json."
}

/// Everything that an engine needs: the text, what to bind, what to write, what to dispatch.
fn as_json(plan: &Plan, target: Target) -> serde_json::Value {
    let words = |slot: Slot| -> Option<Vec<u32>> {
        let bytes = plan.uniform(slot)?;
        Some(bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
    };
    let uniforms: serde_json::Map<_, _> = [Slot::Params, Slot::Chunk, Slot::Rotary, Slot::Heads]
        .into_iter()
        .filter_map(|slot| Some((slot.name().to_string(), json!(words(slot)?))))
        .collect();
    let dispatches: Vec<_> = plan
        .chunks()
        .iter()
        .map(|c| json!({ "entry_point": c.entry, "first": c.first, "keys": c.keys, "workgroups": c.workgroups }))
        .collect();
    json!({
        "label": plan.label(),
        "target": format!("{target:?}").to_lowercase(),
        "validated_by": "naga",
        "entry_points": plan.entries(),
        "wgsl": plan.wgsl(target),
        "bindings": plan.bindings(),
        "step": plan.step_layout(),
        "workspace_bytes": plan.workspace_size(),
        "lse_offset": plan.lse_offset(),
        "tile": plan.tile(),
        "chunk_stride": CHUNK_STRIDE,
        "dispatches": dispatches,
        "uniforms_u32": uniforms,
    })
}
