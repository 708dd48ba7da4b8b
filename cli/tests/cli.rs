//! The built program: exit codes, messages, files. Bad input ends with code 2, names the field, and leaves no file.

use crate::common;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A fresh folder for a test.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("target can be written");
    path
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn ropewalk(args: &[&str]) -> Ran {
    ropewalk_with(args, &[])
}

fn ropewalk_with(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let program = env!("CARGO_BIN_EXE_ropewalk");
    // not the user's own winners
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut command = Command::new(program);
    command.args(args).env("ROPEWALK_CACHE", cache).envs(env.iter().copied());
    let output = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!stderr.contains("panicked"), "{args:?} panicked: {stderr}");
    Ran { code: output.status.code().expect("the program exits by itself"), stdout, stderr }
}

/// No backend of this name exists outside browsers.
const NO_ADAPTER: [(&str, &str); 1] = [("WGPU_BACKEND", "webgpu")];

/// Whether `run` can run on a GPU here; if not, says what is left out, unless the environment promises an adapter.
fn has_adapter(what: &str) -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| ropewalk(&["devices"]).code == 0);
    if !found {
        assert!(std::env::var_os("ROPEWALK_REQUIRE_ADAPTER").is_none(), "an adapter was promised, none opens");
        println!("LEFT OUT: {what}, no adapter");
    }
    found
}

/// A tensor as it goes to a file.
#[derive(Clone)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn stored(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Stored {
    Stored { dtype, shape: shape.to_vec(), bytes }
}

/// Numbers between -1 and 1 that differ from each other.
fn floats(shape: &[usize]) -> Stored {
    let n: usize = shape.iter().product();
    let bytes = (0..n).flat_map(|i| ((i as f32 * 12.9898).sin()).to_le_bytes()).collect();
    stored(Dtype::F32, shape, bytes)
}

fn i32s(shape: &[usize], values: impl IntoIterator<Item = i32>) -> Stored {
    stored(Dtype::I32, shape, values.into_iter().flat_map(i32::to_le_bytes).collect())
}

fn i64s(shape: &[usize], values: impl IntoIterator<Item = i64>) -> Stored {
    stored(Dtype::I64, shape, values.into_iter().flat_map(i64::to_le_bytes).collect())
}

type Tensors = BTreeMap<&'static str, Stored>;

/// 4 query heads on 2 kv heads of 8, 3 queries on 5 keys.
fn tensors() -> Tensors {
    let (q, kv) = (floats(&[1, 4, 3, 8]), floats(&[1, 2, 5, 8]));
    BTreeMap::from([("q", q), ("k", kv.clone()), ("v", kv)])
}

fn with(name: &'static str, tensor: Stored) -> Tensors {
    let mut all = tensors();
    all.insert(name, tensor);
    all
}

/// The spec for [`tensors`].
fn spec() -> Value {
    json!({
        "schema": 1, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "v_head_dim": 8,
        "rotary": { "pairing": "half", "rotary_dim": 8, "frequencies": { "theta": 10000.0 } },
        "mask": { "causal": true },
    })
}

/// The spec with one value changed, by its JSON pointer.
fn changed(pointer: &str, value: Value) -> Value {
    let mut spec = spec();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer starts with /");
    let parent = spec.pointer_mut(parent).and_then(Value::as_object_mut).expect("the spec has such an object");
    parent.insert(name.into(), value);
    spec
}

fn bytes(tensors: &Tensors) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, t)| (*name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).expect("bytes fit the shape")));
    safetensors::serialize(views, None).expect("tensors can be written")
}

/// A safetensors file of a header and data, whatever they say.
fn raw(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

/// Runs `run --reference` on files of these contents.
fn run_on(folder: &Path, source: &str, text: &str, input: &[u8], more: &[&str]) -> Ran {
    let (input_path, source_path, output) =
        (folder.join("in.safetensors"), folder.join("source.json"), folder.join("out.safetensors"));
    fs::write(&input_path, input).expect("target can be written");
    fs::write(&source_path, text).expect("target can be written");
    let path = |p: &Path| p.to_str().expect("target has a UTF-8 path").to_string();
    let (input, source_path, output) = (path(&input_path), path(&source_path), path(&output));
    let mut args = vec!["run", "--reference", "--input", &input, source, &source_path, "--output", &output];
    args.extend(more);
    ropewalk(&args)
}

/// Code 2, an error with all of the words, and no file beside the two that the test wrote.
fn assert_refused(folder: &Path, ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, 2, "stdout: {}\nstderr: {}", ran.stdout, ran.stderr);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "`{word}` is missing from: {}", ran.stderr);
    }
    let mut left: Vec<_> =
        fs::read_dir(folder).expect("the folder is there").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["in.safetensors", "source.json"], "no other file may be left");
}

fn refused(name: &str, spec: &Value, tensors: &Tensors, words: &[&str]) {
    let folder = folder(name);
    assert_refused(&folder, &run_on(&folder, "--spec", &spec.to_string(), &bytes(tensors), &[]), words);
}

fn refused_text(name: &str, text: &str, words: &[&str]) {
    let folder = folder(name);
    assert_refused(&folder, &run_on(&folder, "--spec", text, &bytes(&tensors()), &[]), words);
}

fn refused_file(name: &str, input: &[u8], words: &[&str]) {
    let folder = folder(name);
    assert_refused(&folder, &run_on(&folder, "--spec", &spec().to_string(), input, &[]), words);
}

fn refused_config(name: &str, config: &Value, words: &[&str]) {
    let folder = folder(name);
    assert_refused(&folder, &run_on(&folder, "--config", &config.to_string(), &bytes(&tensors()), &[]), words);
}

/// Two sequences in one batch entry, by a spec and by a model's configuration, which the tensors turn into a packed call.
#[test]
fn packed_sequences_run() {
    let mut all = with("cu_seqlens_q", i32s(&[3], [0, 1, 3]));
    all.insert("cu_seqlens_k", i32s(&[3], [0, 3, 5]));
    let config = json!({
        "model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 10000.0,
        "max_position_embeddings": 64,
    });
    let mut spec = spec();
    spec["packed"] = json!(true);
    let out = |name: &str, source: &str, text: &Value| {
        let folder = folder(name);
        let ran = run_on(&folder, source, &text.to_string(), &bytes(&all), &[]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("2 packed sequences"), "{}", ran.stdout);
        assert!(!ran.stdout.contains("not read"), "{}", ran.stdout);
        let written = fs::read(folder.join("out.safetensors")).expect("out was written");
        SafeTensors::deserialize(&written).expect("out is whole").tensor("out").expect("out").data().to_vec()
    };
    assert_eq!(out("packed_spec", "--spec", &spec), out("packed_config", "--config", &config));
}

/// What every refusal differs from.
#[test]
fn the_base_runs() {
    let folder = folder("base");
    let ran = run_on(&folder, "--spec", &spec().to_string(), &bytes(&with("spare", floats(&[2]))), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("reference, not a GPU"), "{}", ran.stdout);
    assert!(ran.stdout.contains("not read") && ran.stdout.contains("spare"), "{}", ran.stdout);
    let written = fs::read(folder.join("out.safetensors")).expect("out was written");
    let written = SafeTensors::deserialize(&written).expect("out is whole");
    let shape = |name: &str| written.tensor(name).expect("it is there").shape().to_vec();
    assert_eq!((shape("out"), shape("lse")), (vec![1, 4, 3, 8], vec![1, 4, 3]));
}

/// Each of q, k and v has a storage type of its own.
#[test]
fn a_cache_of_another_storage_type_runs() {
    let folder = folder("dtypes");
    let half = stored(Dtype::F16, &[1, 2, 5, 8], vec![0; 2 * 80]);
    let ran = run_on(&folder, "--spec", &spec().to_string(), &bytes(&with("k", half)), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let written = fs::read(folder.join("out.safetensors")).expect("out was written");
    let out = SafeTensors::deserialize(&written).expect("out is whole").tensor("out").expect("it is there").dtype();
    assert_eq!(out, Dtype::F32);
}

#[test]
fn tensors_that_do_not_fit() {
    let mut missing = tensors();
    missing.remove("v");
    refused("missing", &spec(), &missing, &["input v", "missing", "holds: k, q"]);
    refused("rank", &spec(), &with("q", floats(&[4, 3, 8])), &["input q", "rank 3", "[batch, heads, tokens, dim]"]);
    let wide = stored(Dtype::F64, &[1, 4, 3, 8], vec![0; 8 * 96]);
    refused("dtype", &spec(), &with("q", wide), &["input q", "F64", "F32, F16 or BF16"]);
    refused("heads", &spec(), &with("k", floats(&[1, 3, 5, 8])), &["input k", "3"]);
    refused("lengths", &spec(), &with("v", floats(&[1, 2, 6, 8])), &["input v", "6"]);
    refused("no_queries", &spec(), &with("q", floats(&[1, 4, 0, 8])), &["input q", "empty"]);
    refused("no_keys", &spec(), &with("k", floats(&[1, 2, 0, 8])), &["input k", "empty"]);
    refused("no_dim", &spec(), &with("v", floats(&[1, 2, 5, 0])), &["input v", "empty"]);
    refused("layout", &spec(), &with("q", floats(&[1, 3, 4, 8])), &["input q", "[1, 4, 3, 8]"]);
}

#[test]
fn specs_that_contradict_themselves() {
    let refuse = |name: &str, pointer: &str, value: Value, words: &[&str]| {
        refused(name, &changed(pointer, value), &tensors(), words);
    };
    refuse("kv_heads", "/num_kv_heads", json!(3), &["spec.num_kv_heads", "divide"]);
    refuse("head_dim_0", "/head_dim", json!(0), &["spec.head_dim", "is 0"]);
    refuse("head_dim_577", "/head_dim", json!(577), &["spec.head_dim", "is 577", "576"]);
    refuse("v_head_dim_513", "/v_head_dim", json!(513), &["spec.v_head_dim", "is 513"]);
    refuse("rotary_dim", "/rotary/rotary_dim", json!(5), &["spec.rotary.rotary_dim", "is 5", "even"]);
    refuse("rotary_wide", "/rotary/rotary_dim", json!(10), &["spec.rotary.rotary_dim", "10"]);
    refuse(
        "huge_freq",
        "/rotary/frequencies",
        json!({ "inv_freq": [1.0, 1e300, 0.1, 0.01] }),
        &["inv_freq", "entry 1"],
    );
    refuse("few_freq", "/rotary/frequencies", json!({ "inv_freq": [1.0] }), &["inv_freq", "rotary_dim / 2 = 4"]);
    refuse("schema", "/schema", json!(2), &["spec.schema", "is 2"]);
    refuse("unknown", "/flavour", json!("mint"), &["flavour"]);
    refuse("unknown_inside", "/rotary/base", json!(1), &["base"]);
    refuse("kind", "/num_heads", json!("four"), &["num_heads", "four"]);
}

#[test]
fn numbers_that_json_lacks() {
    for number in ["NaN", "Infinity", "-inf", "1e999", "null"] {
        let text = format!(
            "{{\"schema\": 1, \"num_heads\": 4, \"num_kv_heads\": 2, \"head_dim\": 8, \"v_head_dim\": 8,\n \
             \"rotary\": {{\"pairing\": \"half\", \"rotary_dim\": 8,\n \
             \"frequencies\": {{\"inv_freq\": [1.0, 0.1, {number}, 0.001]}}}}}}"
        );
        refused_text("numbers", &text, &["source.json", "inv_freq", "line 3"]);
    }
    refused_text("not_json", "num_heads: 4", &["source.json", "line 1"]);
    refused_text("empty_spec", "", &["source.json"]);
}

#[test]
fn positions_lengths_masks_tables() {
    let ids = changed("/positions", json!("ids"));
    let with_q = |k: Stored| {
        let mut all = with("q_positions", i32s(&[1, 3], [2, 3, 4]));
        all.insert("k_positions", k);
        all
    };
    refused("no_ids", &ids, &tensors(), &["q_positions", "missing"]);
    refused("no_k_ids", &ids, &with("q_positions", i32s(&[1, 3], [0, 1, 2])), &["k_positions", "missing"]);
    let far = with_q(i64s(&[1, 5], [0, 1, 2, 3, 1 << 31]));
    refused("far_ids", &ids, &far, &["k_positions", "2147483648", "2147483647"]);
    refused("id_type", &ids, &with_q(floats(&[1, 5])), &["k_positions", "F32", "I32 or I64"]);
    refused("id_count", &ids, &with_q(i32s(&[1, 4], 0..4)), &["k_positions", "[1, 4]"]);
    refused("long_ids", &ids, &with("position_ids", i32s(&[7], 0..7)), &["position_ids", "[7]"]);

    refused("kv_len", &spec(), &with("kv_len", i32s(&[1], [6])), &["kv_len", "6"]);
    refused("kv_len_below_0", &spec(), &with("kv_len", i32s(&[], [-1])), &["kv_len", "-1"]);
    let lens = changed("/kv_lens", json!(true));
    refused("no_kv_lens", &lens, &tensors(), &["kv_lens", "missing"]);
    refused("kv_lens", &lens, &with("kv_lens", i32s(&[2], [1, 2])), &["kv_lens"]);

    let packed = changed("/packed", json!(true));
    let starts = |q: &[i32], k: &[i32]| {
        let mut all = with("cu_seqlens_q", i32s(&[q.len()], q.to_vec()));
        all.insert("cu_seqlens_k", i64s(&[k.len()], k.iter().map(|n| *n as i64)));
        all
    };
    refused("no_cu_seqlens", &packed, &tensors(), &["cu_seqlens_q", "missing"]);
    refused("cu_seqlens_down", &packed, &starts(&[0, 2, 1, 3], &[0, 1, 2, 5]), &["cu_seqlens_q", "entry 2 is 1"]);
    refused("cu_seqlens_far", &packed, &starts(&[0, 1, 3], &[0, 6, 5]), &["cu_seqlens_k", "entry 1 is 6"]);
    refused("cu_seqlens_below_0", &packed, &starts(&[0, -1, 3], &[0, 1, 5]), &["cu_seqlens_q", "entry 1 is -1"]);
    refused("cu_seqlens_count", &packed, &starts(&[0, 3], &[0, 1, 5]), &["cu_seqlens_k", "3 entries"]);
    refused("cu_seqlens_rank", &packed, &with("cu_seqlens_q", i32s(&[1, 2], [0, 3])), &["cu_seqlens_q", "rank 2"]);

    let masked = changed("/mask/dense", json!(true));
    refused("no_mask", &masked, &tensors(), &["mask", "missing"]);
    refused("mask_type", &masked, &with("mask", floats(&[3, 5])), &["mask", "F32", "BOOL or U8"]);
    refused("mask_byte", &masked, &with("mask", stored(Dtype::U8, &[3, 5], vec![7; 15])), &["mask", "7"]);
    refused("mask_shape", &masked, &with("mask", stored(Dtype::U8, &[3, 4], vec![1; 12])), &["mask", "[1, 1, 3, 4]"]);
    refused("mask_rank", &masked, &with("mask", stored(Dtype::U8, &[5], vec![1; 5])), &["mask", "rank 1"]);
    let biased = changed("/dense_bias", json!(true));
    refused("no_bias", &biased, &tensors(), &["attn_bias", "missing"]);
    let rank5 = floats(&[1, 1, 1, 3, 5]);
    refused("bias_rank", &biased, &with("attn_bias", rank5), &["attn_bias", "rank 5"]);

    let t5 = json!([{ "t5": { "num_buckets": 4, "max_distance": 8, "bidirectional": false } }]);
    let t5 = changed("/bias", t5);
    refused("no_table", &t5, &tensors(), &["bias_table", "missing"]);
    refused("table_turned", &t5, &with("bias_table", floats(&[2, 8])), &["bias_table", "[2, 8]", "[4, 4]"]);
    let table = changed("/rotary/angle", json!("table"));
    refused("no_cos", &table, &tensors(), &["cos", "missing"]);
    refused("cos_width", &table, &with("cos", floats(&[5, 8])), &["cos", "[5, 8]", "rotary_dim / 2 = 4"]);
}

#[test]
fn hostile_files() {
    let whole = bytes(&tensors());
    for length in [0, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        refused_file("cut", &whole[..length], &["in.safetensors"]);
    }
    refused_file("longer", &[&whole[..], &[0]].concat(), &["in.safetensors", "bytes of tensors"]);
    for header in [u64::MAX, 1 << 62, 100_000_001, whole.len() as u64 - 7] {
        let mut file = whole.clone();
        file[..8].copy_from_slice(&header.to_le_bytes());
        refused_file("header", &file, &["in.safetensors", "header"]);
    }
    let q = r#""q":{"dtype":"F32","shape":[1,1,1,4],"data_offsets":"#;
    let k = r#""k":{"dtype":"F32","shape":[1,1,1,4],"data_offsets":"#;
    for (offsets, data) in [
        ("[0,16]}", "[8,24]}"),                                      // overlapping
        ("[0,16]}", "[0,16]}"),                                      // the same
        ("[0,16]}", "[20,36]}"),                                     // a gap
        ("[16,0]}", "[16,32]}"),                                     // backwards
        ("[0,8]}", "[8,24]}"),                                       // too small for the shape
        ("[0,18446744073709551615]}", "[18446744073709551615,16]}"), // far outside
        ("[-16,0]}", "[0,16]}"),                                     // below 0
    ] {
        let header = format!("{{{q}{offsets},{k}{data}}}");
        refused_file("offsets", &raw(&header, 32), &["in.safetensors", "header"]);
    }
    let overflow = r#"{"q":{"dtype":"F32","shape":[4294967296,4294967296,4,1],"data_offsets":[0,0]}}"#;
    refused_file("overflow", &raw(overflow, 0), &["in.safetensors", "header"]);
    let unknown = r#"{"q":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#;
    refused_file("unknown_type", &raw(unknown, 4), &["in.safetensors", "header"]);
    for header in ["", "{", "[]", "nothing", "\u{0}\u{0}"] {
        refused_file("no_header", &raw(header, 16), &["in.safetensors", "header"]);
    }
    refused_file("no_tensors", &raw("{}", 0), &["input q", "missing"]);
    refused_file("text", "not a tensor in sight, only prose".as_bytes(), &["in.safetensors", "header"]);
}

fn llama() -> Value {
    json!({ "model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2 })
}

#[test]
fn configurations() {
    let folder = folder("config");
    let ran = run_on(&folder, "--config", &llama().to_string(), &bytes(&tensors()), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let but = |key: &str, value: Value| {
        let mut config = llama();
        config[key] = value;
        config
    };
    let rope = json!({ "rope_type": "spiral", "factor": 2.0 });
    refused_config("rope_type", &but("rope_scaling", rope), &["rope_type", "spiral"]);
    refused_config("model_type", &but("model_type", json!("perceptron")), &["model_type", "perceptron"]);
    refused_config("divide", &but("num_key_value_heads", json!(3)), &["3"]);
    refused_config("theta", &but("rope_theta", json!(-1.0)), &["theta", "-1"]);
    refused_config("no_heads", &but("num_attention_heads", Value::Null), &["num_attention_heads"]);
    // numbers that JSON lacks, where nobody reads them
    let text = but("time_step_limit", json!([0.0, "@"])).to_string().replace("\"@\"", "Infinity");
    assert_eq!(run_on(&folder, "--config", &text, &bytes(&tensors()), &[]).code, 0);
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = folder("output");
    let (input, source) = (folder.join("in.safetensors"), folder.join("source.json"));
    let contents = bytes(&tensors());
    fs::write(&input, &contents).expect("target can be written");
    fs::write(&source, spec().to_string()).expect("target can be written");
    let path = |p: &Path| p.to_str().expect("target has a UTF-8 path").to_string();
    let (input, source) = (path(&input), path(&source));
    let below_a_file = path(&folder.join("in.safetensors").join("out"));
    for (output, word) in [
        (path(&folder), "is a folder"),
        (path(&folder.join("no/such/folder/out.safetensors")), "cannot be written"),
        (below_a_file, "cannot be written"),
        (input.clone(), "is the input file"),
        (String::new(), "--output"),
    ] {
        let ran = ropewalk(&["run", "--reference", "--input", &input, "--spec", &source, "--output", &output]);
        assert_refused(&folder, &ran, &["--output", word]);
    }
    assert_eq!(fs::read(&input).ok(), Some(contents), "the input is untouched");
    let ran = ropewalk(&["run", "--reference", "--input", "no-such-file", "--spec", &source, "--output", "out"]);
    assert_refused(&folder, &ran, &["no-such-file"]);
}

#[test]
fn usage() {
    for args in [
        &["run"][..],
        &["run", "--input", "a", "--output", "b"],
        &["run", "--input", "a", "--output", "b", "--spec", "c", "--config", "d"],
        &["run", "--input", "a", "--output", "b", "--spec", "c", "--layout", "sbhd"],
        &["run", "--input", "a", "--output", "b", "--spec", "c", "--layer", "1"],
        &["wgsl"],
        &["wgsl", "--spec", "a", "--kernel", "magic"],
        &["wgsl", "--spec", "a", "--q-len", "-1"],
        &["spin"],
        &[],
    ] {
        assert_eq!(ropewalk(args).code, 2, "{args:?}");
    }
    assert_eq!(ropewalk(&["--version"]).code, 0);
    let help = ropewalk(&["run", "--help"]).stdout;
    for name in ["position_ids", "attn_bias", "kv_lens", "bias_table", "cos"] {
        assert!(help.contains(name), "`run --help` does not list {name}");
    }
}

/// The tensors of a file that `run` wrote.
fn output(folder: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(folder.join("out.safetensors")).expect("there is an output");
    let file = SafeTensors::deserialize(&bytes).expect("the output is whole");
    file.tensors().into_iter().map(|(n, t)| (n, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect()
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Golden cases with the configuration of their model, from the shell: the listed output, by reference and by GPU.
#[test]
fn models() {
    let heads = |model: &str, hidden: u32, heads: u32, kv: u32, theta: f64| {
        json!({
            "model_type": model, "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv,
            "num_hidden_layers": 2, "rope_theta": theta,
        })
    };
    let t5 = json!({
        "model_type": "t5", "num_heads": 3, "d_kv": 24, "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
    });
    let gptj = json!({ "model_type": "gptj", "n_embd": 256, "n_head": 4, "rotary_dim": 32 });
    let gpu = has_adapter("models on a GPU");
    for (case, config) in [
        ("llama_gqa_causal_decode", heads("llama", 256, 8, 2, 500_000.0)),
        ("qwen2_gqa_causal", heads("qwen2", 128, 4, 2, 1e6)),
        ("gptj_partial_interleaved", gptj),
        ("t5_encoder_bidirectional", t5),
    ] {
        let folder = folder(case);
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo").join(case);
        let input = golden.with_extension("safetensors");
        let (source, out) = (folder.join("config.json"), folder.join("out.safetensors"));
        fs::write(&source, config.to_string()).expect("target can be written");
        let path = |p: &Path| p.to_str().expect("a UTF-8 path").to_string();
        let (input, source, out) = (path(&input), path(&source), path(&out));
        let golden = fs::read(&input).expect("the case is there");
        let listed = SafeTensors::deserialize(&golden).expect("the case is whole");
        let listed = f32s(listed.tensor("expected_out").expect("it lists an output").data());
        for (more, tolerance) in [(&["--reference"][..], 2e-7), (&[], 1e-5)] {
            if more.is_empty() && !gpu {
                continue;
            }
            let args =
                [&["run", "--json", "--input", &input, "--config", &source, "--output", &out][..], more].concat();
            let ran = ropewalk(&args);
            assert_eq!(ran.code, 0, "{case}: {}", ran.stderr);
            let report: Value = serde_json::from_str(&ran.stdout).expect("--json prints JSON");
            assert_eq!(report["passed"], if more.is_empty() { json!(true) } else { Value::Null }, "{case}");
            assert!(report["ignored_tensors"].to_string().contains("expected_out"), "{case}");
            let got = f32s(&output(&folder)["out"].2);
            assert_eq!(got.len(), listed.len(), "{case}");
            for (i, (got, listed)) in got.iter().zip(&listed).enumerate() {
                let error = (got - listed).abs() as f64;
                assert!(error <= tolerance * listed.abs().max(1.0) as f64, "{case}: element {i}, {got} for {listed}");
            }
        }
    }
}

/// bshd in and out is bhsd with the dimensions swapped, to the bit.
#[test]
fn layouts() {
    let swap = |t: &Stored| {
        let (heads, len, row) = (t.shape[1], t.shape[2], 4 * t.shape[3]);
        let order = (0..len).flat_map(|i| (0..heads).map(move |h| (h * len + i) * row));
        stored(t.dtype, &[1, len, heads, t.shape[3]], order.flat_map(|at| t.bytes[at..at + row].to_vec()).collect())
    };
    let folder = folder("layouts");
    let by_heads = run_on(&folder, "--spec", &spec().to_string(), &bytes(&tensors()), &[]);
    assert_eq!(by_heads.code, 0, "{}", by_heads.stderr);
    let want = output(&folder);
    let swapped = tensors().iter().map(|(n, t)| (*n, swap(t))).collect();
    let by_tokens = run_on(&folder, "--spec", &spec().to_string(), &bytes(&swapped), &["--layout", "bshd"]);
    assert_eq!(by_tokens.code, 0, "{}", by_tokens.stderr);
    let got = output(&folder);
    let (dtype, shape, data) = want["out"].clone();
    let want_out = swap(&Stored { dtype, shape, bytes: data });
    assert_eq!((&got["out"].1, &got["out"].2), (&want_out.shape, &want_out.bytes));
    assert_eq!(got["lse"], want["lse"]);
}

/// Positions by any of their names give the same bits; other positions give others.
#[test]
fn position_names() {
    let folder = folder("position_names");
    let ids = changed("/positions", json!("ids"));
    let out = |tensors: Tensors| {
        let ran = run_on(&folder, "--spec", &ids.to_string(), &bytes(&tensors), &[]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        output(&folder)["out"].2.clone()
    };
    let k = [7, 9, 11, 14, 20];
    let mut apart = with("q_positions", i32s(&[1, 3], [11, 14, 20]));
    apart.insert("k_positions", i64s(&[5], k.map(i64::from)));
    let want = out(apart);
    assert_eq!(out(with("position_ids", i32s(&[1, 5], k))), want);
    let mut both = with("position_ids", i32s(&[3], [11, 14, 20]));
    both.insert("k_positions", i32s(&[1, 5], k));
    assert_eq!(out(both), want);
    assert_ne!(out(with("position_ids", i32s(&[1, 5], [7, 9, 11, 15, 20]))), want);
}

/// A model's spec takes the padding from a mask in the file; a spec file takes what it asks for.
#[test]
fn masks_of_configurations() {
    let folder = folder("config_mask");
    let lse = |source: &str, text: &Value, tensors: &Tensors| {
        let ran = run_on(&folder, source, &text.to_string(), &bytes(tensors), &[]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        f32s(&output(&folder)["lse"].2)
    };
    let plain = lse("--config", &llama(), &tensors());
    // no query sees key 0
    let hidden = stored(Dtype::BOOL, &[1, 5], vec![0, 1, 1, 1, 1]);
    let masked = lse("--config", &llama(), &with("mask", hidden.clone()));
    assert!(plain.iter().zip(&masked).all(|(all, fewer)| fewer < all), "{plain:?} {masked:?}");
    refused("mask_unread", &spec(), &with("mask", hidden.clone()), &["mask", "--ignore"]);
    let ran = run_on(&folder, "--spec", &spec().to_string(), &bytes(&with("mask", hidden)), &["--ignore", "mask"]);
    assert_eq!((ran.code, f32s(&output(&folder)["lse"].2)), (0, plain.clone()));
    let nothing = stored(Dtype::U8, &[3, 5], vec![0; 15]);
    assert_eq!(lse("--config", &llama(), &with("mask", nothing)), [f32::NEG_INFINITY; 12]);
}

/// The mask of transformers is the same in every type and shape that has one reading; another is refused.
#[test]
fn masks_by_the_names_of_transformers() {
    let folder = folder("attention_mask");
    let run =
        |tensors: &Tensors, more: &[&str]| run_on(&folder, "--config", &llama().to_string(), &bytes(tensors), more);
    let lse = |tensors: &Tensors, more: &[&str]| {
        let ran = run(tensors, more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        f32s(&output(&folder)["lse"].2)
    };
    let want = lse(&with("mask", stored(Dtype::BOOL, &[1, 5], vec![0, 1, 1, 1, 1])), &[]);
    for mask in [
        i64s(&[1, 5], [0, 1, 1, 1, 1]),
        i32s(&[1, 5], [0, 1, 1, 1, 1]),
        stored(Dtype::BOOL, &[1, 5], vec![0, 1, 1, 1, 1]),
        i64s(&[1, 1, 1, 5], [0, 1, 1, 1, 1]),
    ] {
        assert_eq!(lse(&with("attention_mask", mask), &[]), want);
    }
    let seen = stored(Dtype::BOOL, &[1, 1, 3, 5], [[0, 1, 1, 1, 1]; 3].concat());
    let whole = lse(&with("mask", seen), &["--mask", "replaces"]);
    assert!(whole.iter().zip(&want).any(|(all, causal)| all > causal), "{whole:?} {want:?}");
    for (tensor, value, words) in [
        ("attention_mask", i64s(&[1, 5], [0, 1, 1, 1, 2]), ["attention_mask", "2"]),
        ("attention_mask", i64s(&[1, 4], [0, 1, 1, 1]), ["attention_mask", "[1, 4]"]),
        ("position_bias", floats(&[5]), ["position_bias", "--ignore"]),
        ("position_ids", i32s(&[1, 5], [3, 4, 3, 4, 5]), ["position_ids", "cu_seqlens"]),
    ] {
        let ran = run(&with(tensor, value), &[]);
        assert_eq!(ran.code, 2, "{tensor}: {}", ran.stdout);
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{tensor}: {}", ran.stderr);
    }
    // documents side by side: the last one's queries see its own keys alone
    let apart = lse(&with("position_ids", i32s(&[1, 5], [0, 1, 0, 1, 2])), &[]);
    assert!(apart.iter().zip(&want).all(|(own, more)| own < more), "{apart:?} {want:?}");
    // a ring of cells: what a query sees goes by position
    let turned = |name, at: [i32; 5]| with(name, i32s(&[1, 5], at));
    let ring = run(&turned("position_ids", [5, 6, 2, 3, 4]), &[]);
    assert_eq!(ring.code, 0, "{}", ring.stderr);
}

/// What a configuration says, part by part.
#[test]
fn configurations_are_shown() {
    let folder = folder("show_config");
    let path = folder.join("config.json");
    fs::write(&path, json!({"model_type": "gemma2", "num_hidden_layers": 4}).to_string())
        .expect("target can be written");
    let ran = ropewalk(&["--json", "config", path.to_str().expect("target has a UTF-8 path")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let parts: Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!((&parts[0]["verdict"], &parts[0]["layers"][1]["first"]), (&json!("read"), &json!(1)));
    assert_eq!(parts[0]["layers"][0]["spec"]["mask"]["window_left"], 4095);
    assert_eq!(parts[0]["defaults"]["head_dim"], 256);
    fs::write(&path, json!({"model_type": "longformer"}).to_string()).expect("target can be written");
    let ran = ropewalk(&["config", path.to_str().expect("target has a UTF-8 path")]);
    assert!(ran.code == 1 && ran.stdout.contains("global tokens"), "{} {}", ran.code, ran.stdout);
}

/// out has the storage type of q, k and v, whatever the spec file says.
#[test]
fn storage_types() {
    let folder = folder("storage");
    for (dtype, size) in [(Dtype::F16, 2), (Dtype::BF16, 2)] {
        let narrow: Tensors = tensors()
            .into_iter()
            .map(|(name, t)| {
                let n = t.shape.iter().product::<usize>();
                // 1.0 and 2.0 of binary16 and bfloat16
                let words: [u16; 2] = if dtype == Dtype::F16 { [0x3c00, 0x4000] } else { [0x3f80, 0x4000] };
                (name, stored(dtype, &t.shape, (0..n).flat_map(|i| words[i % 2].to_le_bytes()).collect()))
            })
            .collect();
        let ran = run_on(&folder, "--spec", &spec().to_string(), &bytes(&narrow), &[]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let (got, shape, data) = output(&folder)["out"].clone();
        assert_eq!((got, shape, data.len()), (dtype, vec![1, 4, 3, 8], 96 * size));
        assert_eq!(&data[..2 * size], &narrow["v"].bytes[..2 * size], "every value is the same: so is their mean");
    }
}

#[test]
fn without_an_adapter() {
    assert_eq!(ropewalk_with(&["devices"], &NO_ADAPTER).code, 3);
    let folder = folder("no_adapter");
    let (input, source, out) = (folder.join("in"), folder.join("spec"), folder.join("out"));
    fs::write(&input, bytes(&tensors())).expect("target can be written");
    fs::write(&source, spec().to_string()).expect("target can be written");
    let [input, source, out_text] = [&input, &source, &out].map(|p| p.to_str().expect("a UTF-8 path"));
    let ran = ropewalk_with(&["run", "--input", input, "--spec", source, "--output", out_text], &NO_ADAPTER);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("no adapter") && !out.exists(), "{}", ran.stderr);
    assert_eq!(ropewalk_with(&["demo", "--adapter", "abacus"], &NO_ADAPTER).code, 3);
    let demo = ropewalk_with(&["demo", "--quick", "--json"], &NO_ADAPTER);
    assert_eq!(demo.code, 0, "{}", demo.stderr);
    let demo: Value = serde_json::from_str(&demo.stdout).expect("--json prints JSON");
    assert_eq!(demo["passed"], true);
    assert!(demo["layer"]["adapter"].to_string().contains("reference"), "{demo}");
}

#[test]
fn with_an_adapter() {
    if !has_adapter("run and demo on a GPU") {
        return;
    }
    let devices: Value = serde_json::from_str(&ropewalk(&["devices", "--json"]).stdout).expect("--json prints JSON");
    let kernel = devices.as_array().and_then(|all| all.iter().find_map(|d| d["kernel"].as_str()));
    assert!(kernel.is_some_and(|label| label.starts_with("attention.f16.d128")), "{devices}");

    let folder = folder("adapter");
    let (input, source, out) = (folder.join("in"), folder.join("spec"), folder.join("out"));
    fs::write(&input, bytes(&tensors())).expect("target can be written");
    fs::write(&source, spec().to_string()).expect("target can be written");
    let [input, source, out] = [&input, &source, &out].map(|p| p.to_str().expect("a UTF-8 path"));
    let args = ["run", "--input", input, "--spec", source, "--output", out];
    let checked = ropewalk(&args);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stdout.contains("right: 12 of 12 rows checked"), "{}", checked.stdout);
    // 4 heads, rows 2, 3 and 4 of a causal 5 x 5
    assert!(checked.stdout.contains(" 48 visible pairs"), "{}", checked.stdout);
    let unchecked = ropewalk(&[&args[..], &["--no-check"]].concat());
    assert_eq!(unchecked.code, 0, "{}", unchecked.stderr);
    assert!(unchecked.stdout.contains("NOT CHECKED"), "{}", unchecked.stdout);
    let named = ropewalk(&[&args[..], &["--adapter", "abacus"]].concat());
    assert_eq!(named.code, 3);
    assert!(named.stderr.contains("abacus"), "{}", named.stderr);
}

#[test]
fn shaders() {
    let folder = folder("shaders");
    let source = folder.join("spec.json");
    fs::write(&source, spec().to_string()).expect("target can be written");
    let source = source.to_str().expect("a UTF-8 path");
    let text = ropewalk(&["wgsl", "--spec", source, "--kernel", "scores", "--target", "web"]).stdout;
    for word in ["validated by naga", "@group(0) @binding( 0)  q", "fn main(", "---- kernel/scores.wgsl"] {
        assert!(text.contains(word), "`{word}` is missing from:\n{text}");
    }
    let table = ropewalk(&["wgsl", "--spec", source, "--bindings"]).stdout;
    assert!(table.contains("lse [batch, heads, q_len]") && !table.contains("fn main("), "{table}");
    let keys = ropewalk(&["wgsl", "--json", "--spec", source, "--kernel", "rotate-k", "--kv-len", "100"]).stdout;
    let keys: Value = serde_json::from_str(&keys).expect("--json prints JSON");
    let out = keys["bindings"].as_array().and_then(|all| all.iter().find(|b| b["name"] == "out"));
    assert_eq!(out.map(|b| &b["size"]), Some(&json!(100 * 2 * 8 * 4)), "a rotated k is as large as k");
    let json = ropewalk(&["wgsl", "--json", "--spec", source, "--q-len", "100000", "--kv-len", "100000"]).stdout;
    let json: Value = serde_json::from_str(&json).expect("--json prints JSON");
    let dispatches = json["dispatches"].as_array().map_or(0, Vec::len);
    assert!(dispatches > 1, "so much work is split");
    // 256 bytes of the chunk uniform for each
    assert_eq!(json["uniforms_u32"]["chunk"].as_array().map(Vec::len), Some(64 * dispatches));
    let long = ropewalk(&["wgsl", "--spec", source, "--kv-len", "100000000"]);
    assert_eq!(long.code, 2);
    assert!(long.stderr.contains("max_storage_buffer_binding_size"), "{}", long.stderr);
}

/// What matrix units alone take.
const OF_MATRICES: [&str; 4] =
    ["common/lse_halves.wgsl", "common/prepared_halves.wgsl", "kernel/coop.wgsl", "prepare/values_columns.wgsl"];

/// The written variants hold every file below shaders/, but for what no browser compiler knows.
#[test]
fn variants_cover_every_shader_file() {
    let folder = folder("variants");
    let path = folder.to_str().expect("a UTF-8 path");
    let ran = ropewalk(&["wgsl", "--variants", path, "--target", "web"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let texts: Vec<String> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|e| fs::read_to_string(e.expect("a file").path()).expect("a shader"))
        .collect();
    assert!(ran.stdout.starts_with(&format!("{} shaders", texts.len())), "{}", ran.stdout);
    let Some(root) = common::repository("shaders") else { return };
    let mut files = 0;
    for slot in fs::read_dir(&root).expect("shaders can be read").flatten().filter(|e| e.path().is_dir()) {
        for file in fs::read_dir(slot.path()).expect("a slot can be read").flatten() {
            let slot = slot.file_name().to_string_lossy().into_owned();
            let marker = format!("// ---- {slot}/{}\n", file.file_name().to_string_lossy());
            let native = OF_MATRICES.iter().any(|file| marker.contains(file));
            assert!(texts.iter().any(|t| t.contains(&marker)) != native, "variants and {marker}");
            files += 1;
        }
    }
    assert!(files > 40, "only {files} shader files were found");
}

/// Everything that is printed without a device.
#[cfg(unix)]
fn printing(folder: &Path) -> Vec<Vec<std::ffi::OsString>> {
    let path = |name: &str| folder.join(name).into_os_string();
    let words = |line: &str| line.split(' ').map(Into::into).collect::<Vec<std::ffi::OsString>>();
    fs::write(path("in.safetensors"), bytes(&tensors())).expect("target can be written");
    fs::write(path("spec.json"), spec().to_string()).expect("target can be written");
    let mut lines: Vec<_> = [
        "--help",
        "run --help",
        "--version",
        "systems",
        "systems --json",
        "systems rope",
        "systems --markdown table",
        "validate --list",
        "validate --list --json",
        "plot rope --json",
    ]
    .map(words)
    .into();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo");
    for json in [false, true] {
        let mut conform = words("conform --reference");
        conform.push(golden.into());
        let mut wgsl = words("wgsl --spec");
        wgsl.push(path("spec.json"));
        let mut run = words("run --reference --spec");
        run.extend([
            path("spec.json"),
            "--input".into(),
            path("in.safetensors"),
            "--output".into(),
            path("out.safetensors"),
        ]);
        lines.extend([conform, wgsl, run].map(|mut line| {
            line.extend(json.then(|| "--json".into()));
            line
        }));
    }
    lines
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error_of_every_command() {
    for args in printing(&folder("full")) {
        let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = Command::new(env!("CARGO_BIN_EXE_ropewalk")).args(&args).stdout(full).output().expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains("stdout: cannot be written"), "{args:?}: {stderr}");
        assert_eq!(stderr.matches("error:").count(), 1, "{args:?}: {stderr}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_gone_ends_every_command_quietly() {
    for args in printing(&folder("gone")) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output =
            Command::new(env!("CARGO_BIN_EXE_ropewalk")).args(&args).stdout(writer).output().expect("it starts");
        assert_eq!(output.status.code(), Some(141), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn json_names_a_path_that_is_no_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder("no_utf_8");
    let odd = std::ffi::OsStr::from_bytes(b"o\xff.safetensors");
    for mut args in
        printing(&folder).into_iter().filter(|args| args[0] == "run" && args.last().is_some_and(|a| a == "--json"))
    {
        let output = args.iter().position(|arg| arg == "--output").expect("it writes a file") + 1;
        args[output] = folder.join(odd).into_os_string();
        let output = Command::new(env!("CARGO_BIN_EXE_ropewalk")).args(&args).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(json["output"].as_str().expect("a path").ends_with("o\u{fffd}.safetensors"), "{json}");
    }
    let shaders = folder.join(std::ffi::OsStr::from_bytes(b"s\xff"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ropewalk"));
    let output = command.args(["wgsl", "--json", "--variants"]).arg(shaders).output().expect("it starts");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(json["folder"].as_str().expect("a path").ends_with("s\u{fffd}"), "{json}");
}

#[cfg(target_os = "linux")]
#[test]
fn files_without_an_end_are_refused_by_the_limit_of_their_kind() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo");
    for (args, why) in [
        (&["wgsl", "--spec", "/dev/zero"][..], "is larger than 8 MiB, the limit of a spec file"),
        (&["wgsl", "--config", "/dev/zero"], "is larger than 8 MiB, the limit of a config.json"),
        (&["bench", "p1", "--compare", "/dev/zero"], "is larger than 64 MiB, the limit of a file of results"),
        (&["systems", "--markdown", "table", "--into", "/dev/zero"], "is larger than 8 MiB, the limit of a page"),
        (&["conform", "--reference", golden, "/dev/zero"], "/dev/zero: is not a regular file"),
        (
            &["run", "--reference", "--spec", "/dev/zero", "--input", "/dev/zero", "--output", "/tmp/none"],
            "/dev/zero: is not a regular file",
        ),
    ] {
        let ran = ropewalk(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
        for text in [open.repeat(100_000), format!("{}0{}", open.repeat(100_000), close.repeat(100_000))] {
            refused_text("deep_spec", &text, &["source.json"]);
            let folder = folder("deep_config");
            let ran = run_on(&folder, "--config", &text, &bytes(&tensors()), &[]);
            assert_refused(&folder, &ran, &["source.json", "recursion limit"]);
            refused_file("deep_header", &raw(&text, 0), &["in.safetensors", "header"]);
        }
    }
}

/// A file with a hole for a tensor that no memory holds.
#[cfg(target_os = "linux")]
#[test]
fn a_tensor_beyond_memory_is_an_error_that_names_it() {
    let folder = folder("beyond_memory");
    let size = 1u64 << 43;
    let header =
        format!("{{\"q\":{{\"dtype\":\"F32\",\"shape\":[1,4,{},8],\"data_offsets\":[0,{size}]}}}}", size / 128);
    let (input, spec_file, output) =
        (folder.join("in.safetensors"), folder.join("s.json"), folder.join("out.safetensors"));
    fs::write(&input, raw(&header, 0)).expect("target can be written");
    fs::write(&spec_file, spec().to_string()).expect("target can be written");
    let file = fs::File::options().write(true).open(&input).expect("it is there");
    let promises = fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "1");
    if promises || file.set_len(8 + header.len() as u64 + size).is_err() {
        return println!("LEFT OUT: no files of 8 TiB, or memory is promised without end");
    }
    let [input, spec_file, output] = [&input, &spec_file, &output].map(|path| path.to_str().expect("UTF-8"));
    let ran = ropewalk(&["run", "--reference", "--input", input, "--spec", spec_file, "--output", output]);
    fs::remove_file(input).expect("nobody has it open");
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("input q: holds 8 TiB, more than memory has room for"), "{}", ran.stderr);
}
