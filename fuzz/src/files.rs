//! Mutated files: each kind of file that the library or the program reads goes as far as it gets.

use crate::mutate::{self, Draw, Json};
use crate::{Outcome, Ran, small};
use ropewalk::case::{self, CaseId};
use ropewalk::{
    Bucket, ConfigOptions, Dtype, Embed, Inputs, Kernel, Limits, Plan, Problem, RopeParameters, Shape, Spec, Stack,
    Tuning, TuningCache, Winner, systems, wgpu, workload,
};
use ropewalk_cli::readers;
use safetensors::Dtype as Stored;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::LazyLock;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Spec,
    Linear,
    Embed,
    Config,
    Golden,
    Tensors,
    Winners,
    Pipelines,
    Results,
    ScoreMod,
    MaskMod,
    Address,
}

impl Format {
    pub const ALL: [Format; 12] = [
        Format::Spec,
        Format::Linear,
        Format::Embed,
        Format::Config,
        Format::Golden,
        Format::Tensors,
        Format::Winners,
        Format::Pipelines,
        Format::Results,
        Format::ScoreMod,
        Format::MaskMod,
        Format::Address,
    ];
    pub fn name(self) -> &'static str {
        match self {
            Format::Spec => "spec.json",
            Format::Linear => "spec.json of linear attention",
            Format::Embed => "embed.json",
            Format::Config => "config.json",
            Format::Golden => "golden case",
            Format::Tensors => "tensors of run",
            Format::Winners => "tuning cache",
            Format::Pipelines => "pipeline cache",
            Format::Results => "lines of bench",
            Format::ScoreMod => "score_mod",
            Format::MaskMod => "mask_mod",
            Format::Address => "address of validate",
        }
    }
    /// That of a case: they take turns.
    pub fn of(seed: u64) -> Self {
        Self::ALL[(seed % Self::ALL.len() as u64) as usize]
    }
}

/// One mutated file.
pub fn run(seed: u64) -> Outcome {
    let format = Format::of(seed);
    taken(seed);
    Ok(Ran::of(format as u64))
}

/// Whether a mutated file was taken for one.
fn taken(seed: u64) -> bool {
    let (format, draw) = (Format::of(seed), &mut Draw::new(seed));
    match format {
        Format::Spec => spec(draw, &SEEDS.specs),
        Format::Linear => spec(draw, &SEEDS.linear),
        Format::Embed => {
            let bytes = changed_json(draw, &SEEDS.embeds);
            let embed = text(&bytes).and_then(|text| Embed::from_json(text).ok());
            embed.is_some_and(|embed| {
                black_box(small::embeds(draw, &embed).is_ok());
                true
            })
        }
        Format::Config => config(draw),
        Format::Golden => golden(draw),
        Format::Tensors => tensors(draw),
        Format::Winners => winners(draw),
        Format::Pipelines => {
            let mut bytes = changed(draw, &SEEDS.pipelines);
            if draw.once_in(8) {
                // what has a checksum of its own is taken
                bytes = ropewalk::pipelines_file(&bytes, &adapter()).expect("Vulkan has keys");
            }
            ropewalk::saved_pipelines(bytes, &adapter()).is_ok()
        }
        Format::Results => {
            let bytes = match draw.once_in(3) {
                true => changed(draw, &SEEDS.results),
                false => changed_json(draw, &SEEDS.results),
            };
            text(&bytes).is_some_and(|text| readers::results("file", text).is_ok())
        }
        Format::ScoreMod => user(draw, &SEEDS.scores, |spec, text| spec.score_mod = Some(text)),
        Format::MaskMod => user(draw, &SEEDS.masks, |spec, text| spec.mask_mod = Some(text)),
        Format::Address => address(draw),
    }
}

/// A file of bytes that are no text is refused where it is read.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn changed(draw: &mut Draw, seeds: &[Vec<u8>]) -> Vec<u8> {
    let (mut bytes, other) = (draw.pick(seeds).clone(), draw.pick(seeds));
    mutate::bytes(draw, &mut bytes, other);
    bytes
}

fn changed_json(draw: &mut Draw, seeds: &[Vec<u8>]) -> Vec<u8> {
    if draw.once_in(16) {
        return changed(draw, seeds);
    }
    let parse = |bytes: &Vec<u8>| Json::parse(bytes).expect("seeds are JSON");
    let (mut value, other) = (parse(draw.pick(seeds)), parse(draw.pick(seeds)));
    mutate::json(draw, &mut value, &other);
    let mut bytes = value.bytes();
    if draw.once_in(24) {
        let other = draw.pick(seeds);
        mutate::bytes(draw, &mut bytes, other);
    }
    bytes
}

fn changed_text(draw: &mut Draw, seeds: &[String], words: &[&str]) -> String {
    let (text, other) = (draw.pick(seeds), draw.pick(seeds));
    if draw.once_in(8) {
        let mut bytes = text.clone().into_bytes();
        mutate::bytes(draw, &mut bytes, other.as_bytes());
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    mutate::words(draw, text, other, words)
}

fn spec(draw: &mut Draw, seeds: &[Vec<u8>]) -> bool {
    let bytes = changed_json(draw, seeds);
    let Some(text) = text(&bytes) else { return false };
    let read = readers::spec("file", text);
    assert_eq!(read.is_ok(), Spec::from_json(text).is_ok(), "the program and the library disagree");
    let Ok(spec) = read else { return false };
    assert_eq!(Spec::from_json(&spec.to_json()).ok().as_ref(), Some(&spec), "a spec's file is another spec");
    black_box(small::calls(draw, &spec).is_ok());
    true
}

fn config(draw: &mut Draw) -> bool {
    let bytes = changed_json(draw, &SEEDS.configs);
    let Some(text) = text(&bytes) else { return false };
    let mut options = ConfigOptions::default();
    options.layer = [None, Some(0), Some(1), Some(draw.u32())][draw.below(4)];
    options.seq_len = [None, Some(64), Some(draw.u32())][draw.below(3)];
    options.stack = [None, None, Some(Stack::Encoder), Some(Stack::Decoder), Some(Stack::Cross)][draw.below(5)];
    (options.normalized, options.config_dtype, options.segments) = (draw.once_in(2), draw.once_in(2), draw.once_in(4));
    if draw.once_in(8) {
        let lengths = [None, Some(draw.u32())];
        black_box(RopeParameters::from_json(text, *draw.pick(&lengths), *draw.pick(&lengths)).is_ok());
    }
    let Ok(spec) = readers::config("file", text, &options) else { return false };
    spec.validate().expect("a configuration's spec is a valid one");
    if draw.once_in(2) {
        black_box(small::calls(draw, &spec).is_ok());
    }
    true
}

fn golden(draw: &mut Draw) -> bool {
    let mut bytes = draw.pick(&SEEDS.golden).clone();
    changed_tensors(draw, &mut bytes, &SEEDS.golden);
    let Ok(golden) = readers::golden(Path::new("folder/case.safetensors"), &bytes) else { return false };
    let Ok(work) = readers::case(golden) else { return false };
    let tiny = |inputs: &Inputs| inputs.q.data().len() * inputs.k.shape()[1] as usize <= 1 << 13;
    for probe in work.probes.iter().filter(|probe| tiny(&probe.inputs)).take(1) {
        black_box(small::compute(draw, &probe.spec, &probe.inputs).is_ok());
    }
    for probe in work.embeds.iter().filter(|probe| probe.inputs.x.data().len() <= 1 << 12) {
        black_box(ropewalk::check::embed(&probe.embed, &probe.inputs).is_ok());
    }
    true
}

fn changed_tensors(draw: &mut Draw, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let other = draw.pick(seeds);
    match draw.once_in(8) {
        true => mutate::bytes(draw, bytes, other),
        false => mutate::tensors(draw, bytes, other),
    }
}

fn tensors(draw: &mut Draw) -> bool {
    let (spec, bytes) = draw.pick(&SEEDS.tensors);
    let (mut spec, mut bytes) = (spec.clone(), bytes.clone());
    let (_, other) = draw.pick(&SEEDS.tensors);
    match draw.once_in(8) {
        true => mutate::bytes(draw, &mut bytes, other),
        false => mutate::tensors(draw, &mut bytes, other),
    }
    if draw.once_in(8) {
        // the file of another spec
        spec = draw.pick(&SEEDS.tensors).0.clone();
    }
    let layout = *draw.pick(&[readers::Layout::Bshd, readers::Layout::Bshd, readers::Layout::Bhsd]);
    let Ok(file) = readers::TensorFile::parse("file", &bytes) else { return false };
    if draw.once_in(4) {
        if readers::adapt(&mut spec, &file, false).is_err() {
            return false;
        }
        black_box(readers::longest(&file, layout).is_ok());
    }
    let Ok(inputs) = readers::inputs(&file, &mut spec, layout) else { return false };
    if Problem::new(&spec, &inputs).is_err() {
        return false;
    }
    if inputs.q.data().len() * inputs.k.shape()[1] as usize <= 1 << 13 {
        black_box(small::compute(draw, &spec, &inputs).is_ok());
    }
    true
}

fn winners(draw: &mut Draw) -> bool {
    let bytes = match draw.once_in(3) {
        true => changed(draw, &SEEDS.winners),
        false => changed_json(draw, &SEEDS.winners),
    };
    let file = tempfile::NamedTempFile::new().expect("a file in the system's folder");
    std::fs::write(file.path(), &bytes).expect("written");
    let (cache, warnings) = TuningCache::load_from(file.path(), &adapter());
    let read = !cache.winners().is_empty();
    // a file may hold no winner, and serde reads the fields of a struct from an array too
    let none = |file: serde_json::Value| file["winners"].as_object().is_some_and(|w| w.is_empty()) || file.is_array();
    assert!(
        read || !warnings.is_empty() || serde_json::from_slice(&bytes).is_ok_and(none),
        "ignored without a warning"
    );
    // sets of winners are kept for the rest of the process
    if read && draw.once_in(64) {
        let mut limits = Limits::default();
        limits.tunings = cache.tunings();
        for (spec, shape) in [calls_of_winners(false), calls_of_winners(true)] {
            black_box(Plan::new(Kernel::Attention, &spec, &shape, &limits).is_ok());
        }
    }
    read
}

fn calls_of_winners(decode: bool) -> (Spec, Shape) {
    let spec = Spec::new(4, 2, 64);
    let shape = if decode { Shape::new(&spec, 1, 1, 4096) } else { Shape::new(&spec, 1, 64, 64) };
    (spec, shape)
}

fn user(draw: &mut Draw, seeds: &[String], set: fn(&mut Spec, String)) -> bool {
    let text = changed_text(draw, seeds, WGSL);
    let mut spec = Spec::new(2, 1, 8);
    set(&mut spec, text);
    let mut shape = Shape::new(&spec, 1, 3, 5);
    shape.user_words = 3;
    let kernel = if draw.once_in(4) { Kernel::Scores } else { Kernel::Attention };
    Plan::new(kernel, &spec, &shape, &Limits::default()).is_ok()
}

fn address(draw: &mut Draw) -> bool {
    let text = changed_text(draw, &SEEDS.addresses, WORDS);
    if draw.once_in(1024) {
        black_box(case::matching(&text).count());
    }
    let Ok(id) = text.parse::<CaseId>() else { return false };
    let again = id.to_string();
    assert_eq!(again.parse::<CaseId>().ok().as_ref(), Some(&id), "{again} is another case than {text}");
    let shape = again.split('/').nth(2).and_then(|shape| shape.strip_prefix('q')?.split_once('k'));
    let length = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    if shape.is_some_and(|(q, k)| length(q) <= 64 && length(k) <= 64)
        && let Ok(case) = id.build()
        && let Ok(plans) = case.plans(&Limits::default())
    {
        for plan in plans {
            black_box(id.kernels().tunings(&plan, &Limits::default()).is_ok());
        }
    }
    true
}

fn adapter() -> wgpu::AdapterInfo {
    let mut info = wgpu::AdapterInfo::new(wgpu::DeviceType::Cpu, wgpu::Backend::Vulkan);
    (info.name, info.driver, info.driver_info) = ("a card".into(), "a driver".into(), "1.2".into());
    info
}

/// The files that are changed.
struct Seeds {
    specs: Vec<Vec<u8>>,
    linear: Vec<Vec<u8>>,
    embeds: Vec<Vec<u8>>,
    configs: Vec<Vec<u8>>,
    golden: Vec<Vec<u8>>,
    tensors: Vec<(Spec, Vec<u8>)>,
    winners: Vec<Vec<u8>>,
    pipelines: Vec<Vec<u8>>,
    results: Vec<Vec<u8>>,
    scores: Vec<String>,
    masks: Vec<String>,
    addresses: Vec<String>,
}

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // every deviation of `validate`'s cases
    let names = || std::iter::once("control").chain(case::names());
    let small = |op: &str| -> Vec<case::Case> {
        let addresses = names().map(|name| format!("{op}/{name}/q3k5/f32/seed1"));
        addresses.filter_map(|text| text.parse::<CaseId>().ok()?.build().ok()).collect()
    };
    let cases = small("attention");
    let linear = small("linear");
    let json = |spec: &Spec| spec.to_json().into_bytes();
    let mut specs: Vec<_> = cases.iter().map(|case| json(&case.spec)).collect();
    specs.extend(systems::systems().iter().filter_map(|system| system.spec()).map(|spec| json(&spec)));
    specs.extend(workload::all().iter().map(|workload| json(&workload.spec)));
    specs.sort();
    specs.dedup();
    let embeds = small("embed").into_iter().filter_map(|case| case.embed).map(|(embed, _)| embed);
    let embeds = embeds.chain(systems::systems().iter().filter_map(|system| system.embed()));
    let embed_json = |embed: Embed| serde_json::to_vec(&embed).expect("an embedding is JSON");
    Seeds {
        linear: linear.iter().map(|case| json(&case.spec)).collect(),
        embeds: embeds.map(embed_json).collect(),
        configs: files(&root.join("tests/configs"), "json"),
        golden: files(&root.join("tests/golden"), "safetensors"),
        // of f32: what has another type is read by the same code
        tensors: cases
            .iter()
            .filter(|case| [&case.inputs.q, &case.inputs.k, &case.inputs.v].iter().all(|t| t.dtype() == Dtype::F32))
            .map(|case| (case.spec.clone(), stored(&case.spec, &case.inputs)))
            .collect(),
        winners: vec![winners_file()],
        pipelines: vec![pipelines_file()],
        results: results_files(),
        scores: SCORES
            .iter()
            .map(|text| text.to_string())
            .chain(cases.iter().filter_map(|c| c.spec.score_mod.clone()))
            .collect(),
        masks: MASKS
            .iter()
            .map(|text| text.to_string())
            .chain(cases.iter().filter_map(|c| c.spec.mask_mod.clone()))
            .collect(),
        addresses: case::all().map(|id| id.to_string()).collect(),
        specs,
    }
});

/// The files of a folder and below it, but for large ones.
fn files(folder: &Path, extension: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut found = vec![];
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(std::fs::read(path).expect("a file"));
        }
    }
    found.retain(|bytes| bytes.len() <= 40 << 10);
    found
}

/// Inputs as `run` reads them.
fn stored(spec: &Spec, inputs: &Inputs) -> Vec<u8> {
    let mut all: Vec<(String, Stored, Vec<usize>, Vec<u8>)> = vec![];
    let shape = |shape: &[u32]| shape.iter().map(|n| *n as usize).collect::<Vec<_>>();
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let integers = |values: &[i32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    for (name, tensor) in [("q", &inputs.q), ("k", &inputs.k), ("v", &inputs.v)] {
        let [batch, len, heads, _] = tensor.shape();
        let rows = (0..batch).flat_map(|b| (0..len).flat_map(move |i| (0..heads).map(move |h| (b, i, h))));
        let values: Vec<f32> = rows.flat_map(|(b, i, h)| tensor.row(b, i, h)).map(|x| x as f32).collect();
        assert_eq!(tensor.dtype(), Dtype::F32);
        all.push((name.into(), Stored::F32, shape(&tensor.shape()), floats(&values)));
    }
    let ([batch, q_len, ..], kv_len) = (inputs.q.shape(), inputs.k.shape()[1]);
    let streams = spec.position_streams();
    let ids = [
        ("q_positions", &inputs.q_positions, vec![streams, batch, q_len]),
        ("k_positions", &inputs.k_positions, vec![streams, batch, kv_len]),
        ("q_segments", &inputs.q_segments, vec![batch, q_len]),
        ("k_segments", &inputs.k_segments, vec![batch, kv_len]),
    ];
    for (name, values, sides) in ids {
        let sides = if sides.len() == 3 && streams == 1 { &sides[1..] } else { &sides[..] };
        all.extend(values.as_ref().map(|v| (name.into(), Stored::I32, shape(sides), integers(v))));
    }
    let counts =
        [("kv_lens", &inputs.kv_lens), ("cu_seqlens_q", &inputs.cu_seqlens_q), ("cu_seqlens_k", &inputs.cu_seqlens_k)];
    for (name, values) in counts {
        let bytes = |v: &Vec<u32>| v.iter().flat_map(|x| x.to_le_bytes()).collect();
        all.extend(values.as_ref().map(|v| (name.into(), Stored::I32, vec![v.len()], bytes(v))));
    }
    if let Some(n) = inputs.kv_len {
        all.push(("kv_len".into(), Stored::I32, vec![], n.to_le_bytes().to_vec()));
    }
    for p in spec.parameters() {
        all.extend(inputs.parameters.get(&p.name).map(|v| (p.name.clone(), Stored::F32, shape(&p.shape), floats(v))));
    }
    if let Some(gates) = &inputs.gates {
        let values: Vec<f32> = gates.iter().map(|x| *x as f32).collect();
        all.push(("gates".into(), Stored::F32, shape(&[batch, spec.num_heads, q_len]), floats(&values)));
    }
    all.extend(
        inputs.attn_bias.as_ref().map(|d| ("attn_bias".into(), Stored::F32, shape(&d.shape()), floats(d.data()))),
    );
    let bools = |d: &[bool]| d.iter().map(|b| *b as u8).collect();
    all.extend(inputs.mask.as_ref().map(|d| ("mask".into(), Stored::BOOL, shape(&d.shape()), bools(d.data()))));
    if let (Some(table), Some(rotary)) = (&inputs.angle_table, &spec.rotary) {
        let pairs = rotary.rotary_dim as usize / 2;
        for (name, values) in [("cos", &table.cos), ("sin", &table.sin)] {
            all.push((name.into(), Stored::F32, vec![values.len() / pairs, pairs], floats(values)));
        }
    }
    let views = all.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many bytes as the shape asks for"))
    });
    let metadata = HashMap::from([("made".to_string(), "by hand".to_string())]);
    safetensors::serialize(views, Some(metadata)).expect("a file")
}

fn winners_file() -> Vec<u8> {
    let mut cache = TuningCache::new(&adapter());
    for (spec, shape) in [calls_of_winners(false), calls_of_winners(true)] {
        let bucket = Bucket::new(Kernel::Attention, &spec, &shape).expect("a bucket");
        let all = Tuning::candidates(Kernel::Attention, &spec, &shape, &Limits::default()).expect("candidates");
        cache.insert(&bucket, Winner::new(all[all.len() - 1], "p1", 1.5, 2.0, "2026-01-01T00:00:00Z".into()));
    }
    let file = tempfile::NamedTempFile::new().expect("a file in the system's folder");
    cache.save_to(file.path()).expect("written");
    std::fs::read(file.path()).expect("read")
}

fn pipelines_file() -> Vec<u8> {
    let data: Vec<u8> = (0..600u32).map(|i| (i * 7) as u8).collect();
    let file = ropewalk::pipelines_file(&data, &adapter()).expect("Vulkan has keys");
    assert!(ropewalk::saved_pipelines(file.clone(), &adapter()).is_ok());
    file
}

fn results_files() -> Vec<Vec<u8>> {
    let line = r#"{"workload":"p1","adapter":"A","driver":"D","kernel":"attention","checked":true,"median_ms":20.0,"min_ms":18.0,"runs":15,"spread_percent":1.5,"wall":{"runs":3},"date":"2026-01-01T00:00:00Z"}"#;
    vec![line.into(), line.replace("20.0", "5e-3").replace(",\"date\":\"2026-01-01T00:00:00Z\"", "").into_bytes()]
}

/// Words of WGSL and of the user's functions.
const WGSL: &[&str] = &[
    "fn",
    "let",
    "var",
    "const",
    "if",
    "else",
    "for",
    "while",
    "loop",
    "continuing",
    "break",
    "continue",
    "return",
    "switch",
    "case",
    "default",
    "struct",
    "alias",
    "override",
    "discard",
    "true",
    "false",
    "i32",
    "u32",
    "f32",
    "f16",
    "bool",
    "vec2<f32>",
    "vec3<u32>",
    "vec4<i32>",
    "mat2x2<f32>",
    "mat4x4<f32>",
    "array<f32, 4>",
    "array<array<f32, 65535>, 65535>",
    "atomic<u32>",
    "ptr<function, f32>",
    "sampler",
    "texture_2d<f32>",
    "var<workgroup>",
    "var<private>",
    "var<storage>",
    "@group(0)",
    "@binding(0)",
    "@compute",
    "@must_use",
    "enable f16;",
    "requires x;",
    "diagnostic(off, a);",
    "const_assert",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    ",",
    ";",
    ":",
    ".",
    "->",
    "=",
    "==",
    "!=",
    "<=",
    "&&",
    "||",
    "+",
    "-",
    "*",
    "/",
    "%",
    "&",
    "|",
    "^",
    "~",
    "<<",
    ">>",
    "!",
    "++",
    "--",
    "+=",
    "_",
    "@",
    "//",
    "/*",
    "*/",
    "0",
    "1",
    "-1",
    "2147483648",
    "4294967295u",
    "4294967296u",
    "-2147483648",
    "1e38",
    "1e39f",
    "0x1p-149f",
    "0xffffffff",
    "1u",
    "2i",
    "3.0h",
    "score_mod",
    "mask_mod",
    "ScoreAt",
    "at",
    "s",
    "distance",
    "tanh_f32",
    "user_u32",
    "user_f32",
    "user_words",
    "max",
    "min",
    "abs",
    "clamp",
    "select",
    "exp2",
    "log2",
    "pow",
    "sqrt",
    "sin",
    "dot",
    "cross",
    "normalize",
    "bitcast<f32>",
    "bitcast<u32>",
    "pack2x16float",
    "extractBits",
    "insertBits",
    "countOneBits",
    "firstLeadingBit",
    "ldexp",
    "frexp",
    "modf",
    "arrayLength",
    "workgroupBarrier",
    "dpdx",
    "textureLoad",
    "atomicAdd",
    "subgroupAdd",
    "batch",
    "head",
    "i",
    "j",
    "q_index",
    "q_pos",
    "k_pos",
    "é",
    "\u{0}",
    "\u{1f980}",
    "\n",
];

/// Words of addresses.
const WORDS: &[&str] = &[
    "/",
    "+",
    "-",
    "attention",
    "scores",
    "rotate",
    "rotate-in-place",
    "linear",
    "embed",
    "control",
    "q",
    "k",
    "f32",
    "f16",
    "bf16",
    "f64",
    "seed",
    "families",
    "tunings",
    "rows",
    "tile",
    "tile-q64k32",
    "decode",
    "wide",
    "block",
    "lanes",
    "coop",
    "turns",
    "unchecked",
    "s",
    "q37k75",
    "q0k0",
    "q4294967295k4294967295",
    "q131072k42",
    "seed18446744073709551615",
    "seed18446744073709551616",
    "",
    " ",
    "é",
    "\u{0}",
];

const SCORES: &[&str] = &[
    "const my_cap = 30.0;\nfn score_mod(s: f32, at: ScoreAt) -> f32 { return my_cap * tanh_f32(s / my_cap); }",
    "const my_slopes = array<f32, 4>(0.25, 0.0625, 0.015625, 0.00390625);\n\
     fn score_mod(s: f32, at: ScoreAt) -> f32 { return s + my_slopes[at.head] * f32(distance(at)); }",
    "struct MyLine { a: f32, b: f32 }\nconst MY_N = 3;\nfn my_line(l: MyLine, x: f32) -> f32 { return l.a + l.b * x; }\n\
     fn score_mod(s: f32, at: ScoreAt) -> f32 {\n    var sum = s * user_f32(at.head);\n\
     for (var n = 0u; n < u32(MY_N); n++) { sum += user_f32(4u + n) * f32((at.i + n * at.j) % 7u); }\n\
     let line = MyLine(0.25, 0.125);\n    return sum + my_line(line, f32(at.batch)) + f32(at.q_index - i32(at.j)) * 0.0625;\n}",
    "alias MyV = vec4<f32>;\nfn my_switch(x: i32) -> f32 { switch x { case 0, 1: { return 0.5; } case 2: { return 1.0; } default: { return 2.0; } } }\n\
     fn score_mod(s: f32, at: ScoreAt) -> f32 {\n    let v = MyV(s, 1.0, 2.0, 3.0);\n    var m = mat2x2<f32>(v.x, v.y, v.z, v.w);\n\
     if (at.j > 3u) { m[0][1] = select(s, 1.0, at.head == 0u); } else { m[1] = vec2<f32>(s); }\n\
     return dot(m * v.xy, v.zw) + my_switch(distance(at)) + bitcast<f32>(user_u32(0u) & 0x7fffffu);\n}",
];

const MASKS: &[&str] = &[
    "const MY_DEPTH = 8;\nfn mask_mod(at: ScoreAt) -> bool {\n    let first = at.q_index - i32(at.i);\n    if (i32(at.j) < first) { return true; }\n\
     let key = at.j - u32(first);\n    var node = at.i;\n    for (var up = 0; up < MY_DEPTH; up++) {\n        if (node == key) { return true; }\n\
     node = user_u32(node);\n    }\n    return false;\n}",
    "fn mask_mod(at: ScoreAt) -> bool { return (at.i + 2u * at.j + at.head + 3u * at.batch) % 5u != 1u && (at.q_index != 7 || at.k_pos != at.q_pos); }",
    "fn my_inner(x: u32) -> u32 { var y = x; loop { y += 1u; if (y > 4u) { break; } continuing { y += 1u; } } return y; }\n\
     fn mask_mod(at: ScoreAt) -> bool {\n    var a = array<u32, 3>(1u, 2u, 3u);\n    for (var i = 0; i < 3; i += 1) { a[i] = a[i] + at.j; }\n\
     return a[at.i % 3u] != 2u;\n}",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations that no reader takes, or that none refuses, would show nothing.
    #[test]
    fn of_each_kind_of_file_some_are_taken_and_some_refused() {
        let mut seen: HashMap<Format, [usize; 2]> = HashMap::new();
        for seed in 0..200 * Format::ALL.len() as u64 {
            seen.entry(Format::of(seed)).or_default()[taken(seed) as usize] += 1;
        }
        for format in Format::ALL {
            let [refused, taken] = seen[&format];
            assert!(refused >= 10 && taken >= 4, "{format:?}: {taken} taken, {refused} refused");
        }
    }
}
