//! `ropewalk conform` from outside: the golden cases pass, whatever is wrong in one is noticed, and nothing that a
//! file holds makes it panic.

use crate::common;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");

fn conform(paths: &[&Path], options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ropewalk"));
    command.arg("conform").args(paths).args(options).output().expect("the command runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("the command ends by itself")
}

/// The JSON lines of a run: one for each case, by name, and the counts.
fn report(output: &Output) -> (BTreeMap<String, serde_json::Value>, [u64; 3]) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let counts = lines.pop().expect("a last line with the counts");
    let counts = ["passed", "failed", "skipped"].map(|k| counts[k].as_u64().unwrap());
    (lines.into_iter().map(|l| (l["name"].as_str().unwrap().to_string(), l)).collect(), counts)
}

/// Type, shape, bytes.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// A case to be changed and written elsewhere.
#[derive(Clone)]
struct Case {
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, Stored>,
}

impl Case {
    fn read(path: &Path) -> Case {
        let bytes = std::fs::read(path).unwrap();
        let metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |(name, t): (String, TensorView)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()));
        Case { metadata, tensors: file.tensors().into_iter().map(tensor).collect() }
    }
    fn write(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let views = self.tensors.iter().map(|(n, (d, s, b))| (n, TensorView::new(*d, s.clone(), b).unwrap()));
        std::fs::write(path, safetensors::serialize(views, Some(self.metadata.clone())).unwrap()).unwrap();
    }
    fn parameters(&self) -> serde_json::Value {
        serde_json::from_str(&self.metadata["parameters"]).unwrap()
    }
}

/// Every golden case: folder and file name, and what is in it.
fn cases() -> Vec<(String, Case)> {
    let mut cases = Vec::new();
    for folder in std::fs::read_dir(GOLDEN).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(GOLDEN).unwrap().with_extension("");
            cases.push((name.to_str().unwrap().replace('\\', "/"), Case::read(&path)));
        }
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

/// An empty folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn golden_cases_pass_by_the_reference() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let output = conform(&[GOLDEN.as_ref()], &["--reference", "--json"]);
    let (lines, counts) = report(&output);
    assert_eq!((counts, code(&output)), ([210, 0, 4], 0));
    assert_eq!(lines.len(), 214);
    for (name, line) in &lines {
        match line["status"].as_str().unwrap() {
            "passed" => assert_ne!(line["compared"].as_array().unwrap().len(), 0, "{name} compares nothing"),
            _ => assert!(line["reason"].as_str().unwrap().starts_with("not yet (needs "), "{name}: {line}"),
        }
    }
    // What the command promises to run, by system.
    for system in [
        "T5 relative bias: t5",
        "T5 relative bias: umt5",
        "T5 relative bias: pix2struct",
        "ALiBi: bloom",
        "ALiBi: falcon",
        "ALiBi: MPT",
        "ALiBi, two-sided",
        "RoPE: llama",
        "RoPE: mistral",
        "RoPE: qwen2",
        "RoPE: gpt_neox",
        "RoPE: gptj",
        "RoPE: roformer",
        "RoPE: phi",
        "RoPE: phi3",
        "RoPE: cohere",
        "RoPE: glm",
        "RoPE: gemma2",
        "RoPE: gemma3",
        "RoPE: gemma4",
        "ONNX operator RotaryEmbedding",
        "RoPE: com.microsoft.RotaryEmbedding",
        "GroupQueryAttention",
        "scaled dot product attention",
        "attention with softcap",
        "attention: ggml flash_attn_ext",
        "RoPE: ggml NEOX",
    ] {
        assert!(lines.values().any(|l| l["system"] == system && l["status"] == "passed"), "{system}");
    }
}

/// A few of every kind; code 3 says that there is no adapter.
#[test]
fn golden_cases_pass_on_the_gpu() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let cases = [
        "05_t5/t5_decoder_cache",
        "07_rope/llama_gqa_causal_decode",
        "07_rope/gptj_partial_interleaved",
        "07_rope/gemma2_softcap_global",
        "08_rope_scaling/llama3_1_8b",
        "09_alibi/bloom_6_heads_left_padding",
        "12_onnx/attention_4d_attn_mask_causal_bf16",
        "12_onnx/attention_4d_gqa_causal_nonpad_decode_fp16",
        "12_onnx/attention_4d_with_qk_matmul_softmax",
        "12_ort/gqa_decode_rotary_interleaved",
        "12_sdpa/sliding_window_causal",
        "15_language/diffllama",
        "18_ggml/rope_neox_q8_0_cache",
    ];
    let paths = cases.map(|name| Path::new(GOLDEN).join(format!("{name}.safetensors")));
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let output = conform(&paths, &["--json"]);
    if code(&output) == 3 {
        eprintln!("left out: no adapter");
        return;
    }
    let (lines, counts) = report(&output);
    assert_eq!((counts, code(&output)), ([cases.len() as u64, 0, 0], 0), "{lines:#?}");
    assert!(lines.values().all(|l| l["gpu"][0]["adapter"].is_string() && l["gpu"][0]["worst"].as_f64() <= Some(1.0)));
}

#[test]
fn text_ends_with_the_counts() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let output = conform(&[format!("{GOLDEN}/09_alibi").as_ref()], &["--reference"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().last(), Some("5 passed, 0 failed, 0 skipped"));
    assert!(
        text.contains("passed  09_alibi/falcon_4_heads | ALiBi: falcon | C(alibi key) + causal | scores out"),
        "{text}"
    );
    let graph = conform(&[format!("{GOLDEN}/12_onnx/flexattention_prob_mod.safetensors").as_ref()], &["--reference"]);
    let text = String::from_utf8(graph.stdout).unwrap();
    assert!(text.contains("skipped: not yet (needs the attribute prob_mod)\n0 passed, 0 failed, 1 skipped"), "{text}");
}

/// Whether a case lists the tensor for comparison.
fn is_listed(case: &Case, name: &str) -> bool {
    let of_model =
        ["alibi", "position_bias", "slopes", "buckets", "inv_freq", "relative_"].iter().any(|p| name.starts_with(p));
    let angles = (name.starts_with("cos") || name.starts_with("sin"))
        && (case.tensors.contains_key("inv_freq") || case.parameters()["model"].is_string());
    name.starts_with("expected") || of_model || angles
}

/// Ten times the tolerance that the case grants a listed value.
fn ten_tolerances(name: &str, tensor: &str, dtype: Dtype, x: f64) -> f64 {
    let unit = match dtype {
        Dtype::BF16 => 4.0 / 256.0,
        Dtype::F16 => 4.0 / 2048.0,
        _ if name.starts_with("12_onnx") || name.starts_with("12_ort") || tensor.ends_with("_flex") => 1e-6,
        _ => 2e-7,
    };
    10.0 * unit * x.abs().max(1.0)
}

/// Changes one finite element in the second half of a tensor by ten times its tolerance.
fn perturb(name: &str, tensor: &str, (dtype, _, data): &mut Stored) -> bool {
    let size = match dtype {
        Dtype::F64 | Dtype::I64 => 8,
        Dtype::F32 | Dtype::I32 => 4,
        Dtype::F16 | Dtype::BF16 => 2,
        _ => return false,
    };
    let n = data.len() / size;
    for i in (n / 2..n).chain(0..n / 2) {
        let at = &mut data[i * size..(i + 1) * size];
        let changed = |x: f64| x + ten_tolerances(name, tensor, *dtype, x);
        match dtype {
            Dtype::F64 => {
                let x = f64::from_le_bytes(at.try_into().unwrap());
                at.copy_from_slice(&changed(x).to_le_bytes());
            }
            Dtype::F32 => {
                let x = f32::from_le_bytes(at.try_into().unwrap());
                if !x.is_finite() {
                    continue;
                }
                at.copy_from_slice(&(changed(x as f64) as f32).to_le_bytes());
            }
            Dtype::F16 => {
                let x = half::f16::from_le_bytes(at.try_into().unwrap());
                at.copy_from_slice(&half::f16::from_f64(changed(x.to_f64())).to_le_bytes());
            }
            Dtype::BF16 => {
                let x = half::bf16::from_le_bytes(at.try_into().unwrap());
                at.copy_from_slice(&half::bf16::from_f64(changed(x.to_f64())).to_le_bytes());
            }
            _ => at[0] ^= 1,
        }
        return true;
    }
    false
}

#[test]
fn a_perturbed_element_fails_its_case_and_no_other() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let folder = scratch("one_perturbed");
    let (victim, tensor) = ("07_rope/llama_gqa_causal_decode", "expected_out");
    for (name, mut case) in cases() {
        if name == victim {
            assert!(perturb(&name, tensor, case.tensors.get_mut(tensor).unwrap()));
        }
        case.write(&folder.join(format!("{name}.safetensors")));
    }
    let output = conform(&[&folder], &["--reference", "--json"]);
    let (lines, counts) = report(&output);
    assert_eq!((counts, code(&output)), ([209, 1, 4], 1));
    let failed: Vec<&String> = lines.iter().filter(|(_, l)| l["status"] == "failed").map(|(name, _)| name).collect();
    assert_eq!(failed, [victim]);
    assert!(lines[victim]["reason"].as_str().unwrap().contains("expected_out"), "{}", lines[victim]);
}

#[test]
fn every_listed_tensor_is_compared() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let folder = scratch("all_perturbed");
    let (lines, _) = report(&conform(&[GOLDEN.as_ref()], &["--reference", "--json"]));
    let mut written = 0;
    for (name, case) in cases().into_iter().filter(|(name, _)| lines[name]["status"] == "passed") {
        for tensor in case.tensors.keys().filter(|t| is_listed(&case, t)) {
            let mut case = case.clone();
            if perturb(&name, tensor, case.tensors.get_mut(tensor).unwrap()) {
                case.write(&folder.join(format!("{name}.{tensor}.safetensors")));
                written += 1;
            }
        }
    }
    let (lines, counts) = report(&conform(&[&folder], &["--reference", "--json"]));
    let missed: Vec<&String> = lines.iter().filter(|(_, l)| l["status"] != "failed").map(|(name, _)| name).collect();
    assert_eq!(missed, Vec::<&String>::new());
    assert_eq!(counts, [0, written, 0]);
    assert!(written > 400, "{written}");
}

#[test]
fn names_of_files_decide_nothing() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let folder = scratch("renamed");
    for (i, (_, case)) in cases().iter().enumerate() {
        case.write(&folder.join(format!("x/{i}.safetensors")));
    }
    let (_, counts) = report(&conform(&[&folder], &["--reference", "--json"]));
    assert_eq!(counts, [210, 0, 4]);
}

#[test]
fn what_is_no_case_is_code_2() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let folder = scratch("no_case");
    let llama = Path::new(GOLDEN).join("07_rope/llama_mha_causal.safetensors");
    let whole = std::fs::read(&llama).unwrap();
    let mut overlong = whole.clone();
    overlong[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let bad: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "not a safetensors file"),
        ("text", b"these are no tensors at all".to_vec(), "not a safetensors file"),
        ("truncated", whole[..whole.len() / 2].to_vec(), "not a safetensors file"),
        ("overlong", overlong, "not a safetensors file"),
        ("plain", tensors_only(), "`parameters` is missing"),
        ("deep", deep(), "`parameters` that are not JSON: recursion limit"),
    ];
    for (name, bytes, want) in &bad {
        let path = folder.join(format!("{name}.safetensors"));
        std::fs::write(&path, bytes).unwrap();
        let output = conform(&[&path], &["--reference"]);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(code(&output), 2, "{name}: {complaint}");
        assert!(complaint.contains(want) && complaint.contains(name), "{name}: {complaint}");
    }
    for path in [folder.join("absent"), scratch("hollow")] {
        let output = conform(&[&path], &["--reference"]);
        assert_eq!(code(&output), 2, "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(code(&conform(&[], &["--reference"])), 2, "no path at all");

    // One such file does not keep the others from being run.
    std::fs::copy(&llama, folder.join("whole.safetensors")).unwrap();
    let output = conform(&[&folder], &["--reference", "--json"]);
    assert_eq!((report(&output).1, code(&output)), ([1, 0, 0], 2));
}

/// Of every case that passes: with one more parameter, or one more tensor, it is skipped for want of that, whatever its system is.
#[test]
fn what_nobody_reads_is_named_and_skips_its_case() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let folder = scratch("unread");
    let passing = report(&conform(&[GOLDEN.as_ref()], &["--reference", "--json"])).0;
    let mut wanted = BTreeMap::new();
    for (name, case) in cases().into_iter().filter(|(name, _)| passing[name]["status"] == "passed") {
        let mut write = |what: &str, case: &Case, reason: String| {
            case.write(&folder.join(format!("{name}.{what}.safetensors")));
            wanted.insert(format!("{name}.{what}"), reason);
        };
        let values = [serde_json::json!(true), false.into(), 0.into(), 2.5.into(), "x".into(), serde_json::json!([1])];
        let places = ["", "/attributes", "/rope_parameters", "/rope_scaling", "/tables/0"];
        for (place, value) in places.into_iter().flat_map(|place| values.iter().map(move |value| (place, value))) {
            let mut parameters = case.parameters();
            let Some(object) = parameters.pointer_mut(place).and_then(serde_json::Value::as_object_mut) else {
                continue;
            };
            object.insert("new_term".into(), value.clone());
            let mut changed = case.clone();
            changed.metadata.insert("parameters".into(), parameters.to_string());
            let what = format!("{}-{}", place.replace('/', "_"), value.to_string().replace(['"', '[', ']'], "_"));
            write(&what, &changed, "new_term".into());
        }
        // what means something beside another parameter alone
        for (term, beside, value) in [
            ("attn_scale", "attn_temperature_tuning", serde_json::json!(0.1)),
            ("interleaved", "pairing", true.into()),
            ("interleaved", "pairing", false.into()),
        ] {
            let mut parameters = case.parameters();
            if [term, beside].iter().any(|name| parameters.get(name).is_some()) {
                continue;
            }
            parameters[term] = value.clone();
            let mut changed = case.clone();
            changed.metadata.insert("parameters".into(), parameters.to_string());
            write(&format!("{term}-{value}"), &changed, term.into());
        }
        let mut more = case.clone();
        more.tensors.insert("new_tensor".into(), (Dtype::F32, vec![1], vec![0; 4]));
        write("tensor", &more, "the tensor `new_tensor`".into());
    }
    let output = conform(&[&folder], &["--reference", "--json"]);
    let (lines, counts) = report(&output);
    assert_eq!((counts, code(&output)), ([0, 0, wanted.len() as u64], 0));
    for (name, reason) in wanted {
        let said = lines[&name]["reason"].as_str().unwrap();
        assert!(said.starts_with("not yet (needs ") && said.contains(&reason), "{name}: {said}");
    }
    std::fs::remove_dir_all(&folder).ok();
}

fn tensors_only() -> Vec<u8> {
    let view = TensorView::new(Dtype::U8, vec![1], &[7]).unwrap();
    safetensors::serialize([("x", view)], None).unwrap()
}

fn deep() -> Vec<u8> {
    let view = TensorView::new(Dtype::U8, vec![1], &[7]).unwrap();
    let metadata = [("system", "x".to_string()), ("parameters", "{\"x\":".repeat(100_000))];
    let metadata = HashMap::from(metadata.map(|(key, text)| (key.to_string(), text)));
    safetensors::serialize([("x", view)], Some(metadata)).unwrap()
}

/// Every case with every tensor gone, flattened, of another type, or empty, and with every parameter gone or absurd:
/// whatever is said about it, it is said in words.
#[test]
fn damaged_cases_do_not_panic() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let folder = scratch("damaged");
    let mut seen = BTreeSet::new();
    for (name, case) in cases() {
        // One case a system is enough.
        let size: usize = case.tensors.values().map(|t| t.2.len()).sum();
        if size > 100_000 || !seen.insert(case.metadata["system"].clone()) {
            continue;
        }
        let write = |what: String, case: &Case| case.write(&folder.join(format!("{name}.{what}.safetensors")));
        for tensor in case.tensors.keys() {
            let change = |what: &str, f: &dyn Fn(&mut Stored)| {
                let mut case = case.clone();
                f(case.tensors.get_mut(tensor).unwrap());
                write(format!("{tensor}.{what}"), &case);
            };
            let mut gone = case.clone();
            gone.tensors.remove(tensor);
            write(format!("{tensor}.gone"), &gone);
            change("flat", &|(_, shape, _)| *shape = vec![shape.iter().product()]);
            change("bytes", &|(dtype, shape, data)| (*dtype, *shape) = (Dtype::U8, vec![data.len()]));
            change("empty", &|(_, shape, data)| {
                shape.insert(0, 0);
                data.clear();
            });
            change("ones", &|(_, _, data)| data.fill(0xff));
            change("reversed", &|(_, shape, _)| shape.reverse());
            change("short", &|(dtype, shape, data)| {
                if let [first, ..] = shape.as_mut_slice()
                    && *first > 1
                    && *dtype != Dtype::BOOL
                {
                    data.truncate(data.len() / *first);
                    *first = 1;
                }
            });
        }
        let parameters = case.parameters();
        for key in parameters.as_object().unwrap().keys() {
            for (i, value) in
                [serde_json::json!(null), serde_json::json!(0), serde_json::json!(-1), serde_json::json!(1e300)]
                    .into_iter()
                    .chain([
                        serde_json::json!("x"),
                        serde_json::json!([]),
                        serde_json::json!({}),
                        serde_json::json!(4294967295u32),
                    ])
                    .enumerate()
            {
                let mut parameters = parameters.clone();
                parameters[key] = value;
                let mut case = case.clone();
                case.metadata.insert("parameters".into(), parameters.to_string());
                write(format!("{key}.{i}"), &case);
            }
        }
    }
    let output = conform(&[&folder], &["--reference", "--json"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!complaint.contains("panicked"), "{complaint}");
    assert_eq!(code(&output), 2);
    let (lines, _) = report(&output);
    assert!(lines.len() > 1000, "{}", lines.len());
    std::fs::remove_dir_all(&folder).ok();
}

#[test]
fn dump_holds_what_was_computed() {
    if common::repository("tests/golden").is_none() {
        return;
    }
    let folder = scratch("dump");
    let case = Path::new(GOLDEN).join("12_sdpa/value_dim_differs.safetensors");
    let output = conform(&[&case], &["--reference", "--dump", folder.to_str().unwrap()]);
    assert_eq!(code(&output), 0);
    let dumped = Case::read_plain(&folder.join("12_sdpa/value_dim_differs.safetensors"));
    let listed = Case::read(&case);
    let f64s = |b: &[u8]| b.chunks(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect::<Vec<_>>();
    let f32s = |b: &[u8]| b.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()) as f64).collect::<Vec<_>>();
    for (ours, theirs) in [("reference.scores", "expected_scores"), ("reference.lse", "expected_lse")] {
        let ((dtype, shape, ours), (_, listed_shape, theirs)) = (&dumped[ours], &listed.tensors[theirs]);
        assert_eq!((dtype, shape), (&Dtype::F64, listed_shape));
        let worst =
            f64s(ours).iter().zip(f32s(theirs)).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max);
        assert!(worst < 2e-7, "{worst}");
    }
    assert_eq!(dumped["reference.out"].1, [1, 27, 4, 80]);

    let file = folder.join("a_file");
    std::fs::write(&file, "in the way").unwrap();
    let output = conform(&[&case], &["--reference", "--dump", file.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--dump"));
}

impl Case {
    /// The tensors of a file without metadata.
    fn read_plain(path: &Path) -> BTreeMap<String, Stored> {
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter();
        tensors.map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect()
    }
}
