//! Published configurations give the spec that the published model computes. `tests/configs/sources.json` says where
//! each file of `tests/configs` was published and whether it is whole or holds the keys that bear on attention. Those of
//! `tests/configs/v5` are the same models as transformers 5.23.0 saves them, those of `tests/configs/expected` what it
//! computes for them: `tests/configs/expected.py` writes both.

use ropewalk::{
    AlibiForm, Bias, ConfigAttention, ConfigOptions, Dtype, Error, Frequencies, IndexMap, Mask, Norm, NormKind,
    Pairing, Positions, Relative, RelativeSide, Rotary, Sink, Spec, Stack, Temperature, config_parts, model_types,
};
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn path(name: &str) -> String {
    format!("{}/tests/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn config(name: &str) -> String {
    std::fs::read_to_string(path(&format!("configs/{name}.json"))).unwrap()
}

fn options(set: impl Fn(&mut ConfigOptions)) -> ConfigOptions {
    let mut options = ConfigOptions::default();
    set(&mut options);
    options
}

/// A layer of a model whose q and k are given normalised.
fn layer(layer: u32) -> ConfigOptions {
    options(|o| (o.layer, o.normalized) = (Some(layer), true))
}

/// The f64 frequencies of a golden case.
fn golden_inv_freq(case: &str) -> Vec<f64> {
    let bytes = std::fs::read(path(&format!("golden/08_rope_scaling/{case}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor("inv_freq").unwrap().data();
    data.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect()
}

fn assert_frequencies(rotary: &Rotary, case: &str, attention_factor: f64) {
    assert!(matches!(rotary.frequencies, Frequencies::InvFreq(_)), "{case}");
    let (got, want) = (rotary.inv_freq(), golden_inv_freq(case));
    assert_eq!(got.len(), want.len(), "{case}");
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() <= 1e-14 * want, "{case}: {got} for {want}");
    }
    assert!((rotary.attention_factor - attention_factor).abs() <= 1e-15 * attention_factor, "{case}");
}

/// A plain rotary decoder, as a user would have written it.
fn decoder(heads: u32, kv_heads: u32, head_dim: u32, pairing: Pairing, rotary_dim: u32, theta: f64) -> Spec {
    let mut spec = Spec::new(heads, kv_heads, head_dim);
    spec.rotary = Some(Rotary::new(pairing, rotary_dim, theta));
    spec.mask = Mask::causal();
    spec
}

fn windowed(mut spec: Spec, keys: u32) -> Spec {
    spec.mask.window_left = Some(keys - 1);
    spec
}

/// Every published model and the spec of its attention, layer by layer where layers differ.
fn published() -> Vec<(&'static str, ConfigOptions, Spec)> {
    use Pairing::{Half, Interleaved};
    let any = ConfigOptions::default;
    let mut t5 = Spec::new(12, 12, 64);
    t5.softmax_scale = Some(1.0);
    t5.bias.push(Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: true });
    let mut gemma2 = decoder(8, 4, 256, Half, 256, 1e4);
    (gemma2.softmax_scale, gemma2.logits_soft_cap) = (Some(0.0625), Some(50.0));
    let mut gemma3 = decoder(4, 1, 256, Half, 256, 1e6);
    gemma3.softmax_scale = Some(0.0625);
    let mut gemma3_local = decoder(4, 1, 256, Half, 256, 1e4);
    gemma3_local.softmax_scale = Some(0.0625);
    vec![
        ("llama-2-7b", any(), decoder(32, 32, 128, Half, 128, 1e4)),
        ("llama-3-8b", any(), decoder(32, 8, 128, Half, 128, 5e5)),
        ("mistral-7b-v0.1", any(), windowed(decoder(32, 8, 128, Half, 128, 1e4), 4096)),
        ("mistral-nemo-12b", any(), decoder(32, 8, 128, Half, 128, 1e6)),
        ("mixtral-8x7b-v0.1", any(), decoder(32, 8, 128, Half, 128, 1e6)),
        ("qwen2-7b", any(), decoder(28, 4, 128, Half, 128, 1e6)),
        ("qwen3-0.6b", options(|o| o.normalized = true), decoder(16, 8, 128, Half, 128, 1e6)),
        ("gpt-neox-20b", any(), decoder(64, 64, 96, Half, 24, 1e4)),
        ("gpt-j-6b", any(), decoder(16, 16, 256, Interleaved, 64, 1e4)),
        ("phi-2", any(), decoder(32, 32, 80, Half, 32, 1e4)),
        ("phi-3-mini-4k", any(), windowed(decoder(32, 32, 96, Half, 96, 1e4), 2047)),
        ("stablelm-3b-4e1t", any(), decoder(32, 32, 80, Half, 20, 1e4)),
        ("command-r-v01", any(), decoder(64, 64, 128, Interleaved, 128, 8e6)),
        ("glm-4-9b", any(), decoder(32, 2, 128, Interleaved, 64, 1e4)),
        ("t5-base", any(), t5),
        ("gemma-2-2b", layer(0), windowed(gemma2.clone(), 4096)),
        ("gemma-2-2b", layer(25), gemma2),
        ("gemma-3-1b", layer(4), windowed(gemma3_local.clone(), 512)),
        ("gemma-3-1b", layer(5), gemma3),
        ("gemma-3-1b", layer(6), windowed(gemma3_local, 512)),
    ]
}

#[test]
fn published_models_give_their_spec() {
    for (name, options, want) in published() {
        assert_eq!(Spec::from_hf_config_with(&config(name), &options).unwrap(), want, "{name}");
    }
}

#[test]
fn saved_again_by_transformers_5_they_give_the_same_spec() {
    let extended = ["llama-3.1-8b", "qwen2.5-7b-yarn"].map(|name| (name, ConfigOptions::default()));
    let all = published().into_iter().map(|(name, options, _)| (name, options)).chain(extended);
    for (name, options) in all {
        let read = |name: &str| Spec::from_hf_config_with(&config(name), &options).unwrap();
        assert_eq!(read(&format!("v5/{name}")), read(name), "{name}");
    }
}

/// Names of the JSON files of a folder, without their ending.
fn files(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap());
    let names = entries.filter_map(|e| e.file_name().into_string().unwrap().strip_suffix(".json").map(String::from));
    let mut names: Vec<String> = names.filter(|name| !["sources", "variants"].contains(&name.as_str())).collect();
    names.sort();
    names
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path(&format!("configs/{name}.json"))).unwrap()).unwrap()
}

/// What the installed library does not have any more.
const ABSENT: [&str; 1] = ["transfo-xl-wt103"];

#[test]
fn every_file_is_a_case_and_has_a_source() {
    let (sources, variants) = (json("sources"), json("variants"));
    let mut names: Vec<String> = sources.as_object().unwrap().keys().cloned().collect();
    assert_eq!(files("configs"), names);
    assert!(names.len() >= 30, "{}", names.len());
    for source in sources.as_object().unwrap().values() {
        assert!(source["published"].as_str().unwrap().ends_with("/config.json"), "{source}");
        assert!(["whole", "keys", "defaults"].contains(&source["holds"].as_str().unwrap()), "{source}");
    }
    names.retain(|name| !ABSENT.contains(&name.as_str()));
    assert_eq!(files("configs/v5"), names);
    names.extend(variants.as_object().unwrap().keys().cloned());
    names.sort();
    assert_eq!(files("configs/expected"), names);
}

/// `base` with the keys of `changes`, dictionaries within dictionaries key by key.
fn merge(base: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().unwrap() {
        match value.is_object() && base[key].is_object() {
            true => merge(&mut base[key], value),
            false => base[key] = value.clone(),
        }
    }
}

/// The keys first..end that query `at` of `kv_len` tokens sees, by the contract of [`Mask`].
fn seen(mask: Mask, at: u32, kv_len: u32) -> (u32, u32) {
    let sees = |j: &u32| {
        (!mask.causal || *j <= at)
            && mask.window_left.is_none_or(|left| *j + left >= at)
            && mask.window_right.is_none_or(|right| *j <= at + right)
            && mask.chunk.is_none_or(|chunk| *j / chunk == at / chunk)
    };
    let keys: Vec<u32> = (0..kv_len).filter(sees).collect();
    let (first, end) = (keys[0], keys[keys.len() - 1] + 1);
    assert_eq!(keys.len() as u32, end - first, "keys in one run");
    (first, end)
}

/// Heads, scale, norm, sinks, cap, temperature, frequencies, attention factor, streams and mask are those of transformers.
fn assert_computes(name: &str, spec: &Spec, want: &Value) {
    let number = |key: &str| want[key].as_f64().unwrap();
    let sizes = [spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.v_head_dim];
    let wanted = ["heads", "kv_heads", "head_dim", "v_head_dim"].map(|key| number(key) as u32);
    assert_eq!(sizes, wanted, "{name}");
    assert!((spec.scale() - number("scale")).abs() <= 1e-14 * number("scale"), "{name}: scale {}", spec.scale());
    let norm = want["norm"].as_object().map(|norm| {
        let flag = |key: &str| norm[key].as_bool().unwrap();
        rms(norm["eps"].as_f64().unwrap(), flag("weights"), flag("after_rotation")).unwrap()
    });
    assert_eq!(spec.norm.filter(|norm| norm.kind == NormKind::Rms), norm, "{name}");
    assert_eq!(spec.sink, want["sinks"].as_bool().unwrap().then_some(Sink::Learned), "{name}");
    assert_eq!(spec.logits_soft_cap, want["cap"].as_f64(), "{name}");
    let temperature = want["temperature"]
        .as_object()
        .map(|t| Temperature::new(t["scale"].as_f64().unwrap(), t["floor"].as_u64().unwrap() as u32));
    assert_eq!(spec.temperature, temperature, "{name}");
    match (&spec.rotary, want["inv_freq"].as_array()) {
        (None, None) => {}
        (Some(rotary), Some(inv_freq)) => {
            assert_eq!(rotary.inv_freq().len(), inv_freq.len(), "{name}");
            for (got, want) in rotary.inv_freq().iter().zip(inv_freq) {
                let want = want.as_f64().unwrap();
                // float32 frequencies
                assert!((got - want).abs() <= 6e-7 * want, "{name}: frequency {got} for {want}");
            }
            let factor = number("attention_factor");
            assert!((rotary.attention_factor - factor).abs() <= 1e-14 * factor, "{name}: {}", rotary.attention_factor);
            let streams: Vec<u8> = serde_json::from_value(want["streams"].clone()).unwrap();
            assert_eq!(rotary.streams, streams, "{name}");
            assert_eq!(spec.positions == Positions::Ids, !streams.is_empty(), "{name}");
        }
        (got, want) => panic!("{name}: {got:?} for {want:?}"),
    }
    for row in want["visible"].as_array().unwrap() {
        let [at, kv_len, first, end]: [u32; 4] = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(seen(spec.mask, at, kv_len), (first, end), "{name}: query {at} of {kv_len}");
    }
}

#[test]
fn every_model_computes_what_transformers_computes() {
    let variants = json("variants");
    let mut entries = 0;
    for name in files("configs/expected") {
        let spellings = match variants.get(&name) {
            Some(variant) => {
                let mut file = json(variant[0].as_str().unwrap());
                merge(&mut file, &variant[1]);
                vec![file]
            }
            None => vec![json(&name), json(&format!("v5/{name}"))],
        };
        for want in json(&format!("expected/{name}")).as_array().unwrap() {
            let number = |key: &str| want[key].as_u64().map(|n| n as u32);
            let options = options(|o| {
                o.layer = number("layer");
                o.seq_len = number("seq_len").or((name == "xlnet-base-cased").then_some(40));
                o.stack = match want["stack"].as_str() {
                    Some("decoder") => Some(Stack::Decoder),
                    _ => None,
                };
            });
            let specs = spellings.iter().map(|file| Spec::from_hf_config_with(&file.to_string(), &options));
            let specs: Vec<Result<Spec, Error>> = specs.collect();
            entries += 1;
            let label = format!("{name} {}", want["layer"]);
            let specs: Vec<Spec> = specs.into_iter().map(|s| s.unwrap_or_else(|e| panic!("{label}: {e}"))).collect();
            assert_computes(&label, &specs[0], want);
            assert!(specs.iter().all(|spec| *spec == specs[0]), "{label}: the newer spelling differs: {specs:?}");
            assert_eq!(Spec::from_json(&specs[0].to_json()).unwrap(), specs[0], "{label}");
        }
    }
    assert!(entries > 100, "{entries}");
}

#[test]
fn length_extensions_are_the_golden_ones() {
    let rotary = |name| Spec::from_hf_config(&config(name)).unwrap().rotary.unwrap();
    assert_frequencies(&rotary("llama-3.1-8b"), "llama3_1_8b", 1.0);
    // 0.1 ln 4 + 1
    assert_frequencies(&rotary("qwen2.5-7b-yarn"), "yarn_qwen2_5", 1.138629436111989);
    assert_eq!(Spec::from_hf_config(&config("llama-3.1-8b")).unwrap().mask, Mask::causal());
}

/// A config with keys replaced or added (`null` included).
fn with(base: &str, changes: Value) -> String {
    let mut file: Value = serde_json::from_str(&config(base)).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        file[key] = value.clone();
    }
    file.to_string()
}

fn without(base: &str, key: &str) -> String {
    let mut file: Value = serde_json::from_str(&config(base)).unwrap();
    assert!(file.as_object_mut().unwrap().remove(key).is_some(), "{base} has no {key}");
    file.to_string()
}

#[test]
fn scaling_that_depends_on_the_length_follows_the_option() {
    let bytes = std::fs::read(path("golden/08_rope_scaling/longrope_phi3_mini_like_seqnone.safetensors")).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let parameters = metadata.metadata().as_ref().unwrap().get("parameters").unwrap();
    let parameters: Value = serde_json::from_str(parameters).unwrap();
    let phi3 = |kind: &str| {
        let lists = &parameters["rope_parameters"];
        with(
            "phi-3-mini-4k",
            json!({
                "max_position_embeddings": 131072,
                "rope_scaling": {
                    "type": kind, "short_factor": lists["short_factor"], "long_factor": lists["long_factor"]
                },
            }),
        )
    };
    // sqrt(1 + ln 32 / ln 4096)
    let factor = 1.1902380714238083;
    for (seq_len, case) in [(None, "seqnone"), (Some(4096), "seq4096"), (Some(4097), "seq4097")] {
        for kind in ["longrope", "su"] {
            let spec = Spec::from_hf_config_with(&phi3(kind), &options(|o| o.seq_len = seq_len)).unwrap();
            assert_frequencies(&spec.rotary.unwrap(), &format!("longrope_phi3_mini_like_{case}"), factor);
        }
    }
    let dynamic = with("llama-2-7b", json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}));
    for (seq_len, case) in [(None, "seqnone"), (Some(4096), "seq4096"), (Some(16384), "seq16384")] {
        let spec = Spec::from_hf_config_with(&dynamic, &options(|o| o.seq_len = seq_len)).unwrap();
        assert_frequencies(&spec.rotary.unwrap(), &format!("dynamic_ntk_factor2_d128_{case}"), 1.0);
    }
}

#[test]
fn gemma_3_extends_its_global_layers_only() {
    let old = with("gemma-3-1b", json!({"rope_scaling": {"rope_type": "linear", "factor": 8.0}}));
    let mut new: Value = serde_json::from_str(&config("v5/gemma-3-1b")).unwrap();
    new["rope_parameters"]["full_attention"] = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6});
    for file in [old, new.to_string()] {
        let rotary = |at| Spec::from_hf_config_with(&file, &layer(at)).unwrap().rotary.unwrap();
        assert_frequencies(&rotary(5), "gemma3_global_linear8_d256", 1.0);
        assert_eq!(rotary(4), Rotary::new(Pairing::Half, 256, 1e4));
    }
}

#[test]
fn the_dictionary_holds_theta_and_the_share_that_rotates() {
    let llama = json!({
        "model_type": "llama", "hidden_size": 256, "num_attention_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 123.0},
    });
    let spec = Spec::from_hf_config(&llama.to_string()).unwrap();
    assert_eq!(spec, decoder(4, 4, 64, Pairing::Half, 64, 123.0));
    let glm = json!({
        "model_type": "glm", "head_dim": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5},
    });
    assert_eq!(Spec::from_hf_config(&glm.to_string()).unwrap(), decoder(4, 2, 48, Pairing::Interleaved, 24, 1e4));
    // The whole head is the window of proportional frequencies: pairs past the share stand still.
    let proportional = with(
        "llama-2-7b",
        json!({"head_dim": 256, "rope_parameters": {
            "rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25
        }}),
    );
    let rotary = Spec::from_hf_config(&proportional).unwrap().rotary.unwrap();
    assert_frequencies(&rotary, "proportional_quarter_d256", 1.0);
    assert_eq!(rotary.rotary_dim, 256);
}

#[test]
fn windows_belong_to_the_layers_that_have_one() {
    let left = |file: &str, at| Spec::from_hf_config_with(file, &layer(at)).unwrap().mask.window_left;
    let qwen = with("qwen2-7b", json!({"use_sliding_window": true, "max_window_layers": 21}));
    assert_eq!((left(&qwen, 20), left(&qwen, 21), left(&qwen, 27)), (None, Some(131071), Some(131071)));
    let all = with("qwen2-7b", json!({"use_sliding_window": true, "max_window_layers": 0}));
    assert_eq!(Spec::from_hf_config(&all).unwrap().mask.window_left, Some(131071));
    let listed: Vec<&str> = (0..26).map(|l| if l == 3 { "full_attention" } else { "sliding_attention" }).collect();
    let listed = with("gemma-2-2b", json!({ "layer_types": listed }));
    assert_eq!((left(&listed, 3), left(&listed, 1)), (None, Some(4095)));
    let none = with("mistral-7b-v0.1", json!({"sliding_window": null}));
    assert_eq!(Spec::from_hf_config(&none).unwrap().mask, Mask::causal());
    // Positions and alignment are the defaults of a cache.
    let spec = Spec::from_hf_config(&config("mistral-7b-v0.1")).unwrap();
    assert_eq!((spec.positions, spec.mask.alignment), (Positions::Index, Mask::none().alignment));
}

#[test]
fn t5_has_three_attentions() {
    let read = |stack| Spec::from_hf_config_with(&config("t5-base"), &options(|o| o.stack = Some(stack))).unwrap();
    assert_eq!(read(Stack::Encoder), Spec::from_hf_config(&config("t5-base")).unwrap());
    let decoder = read(Stack::Decoder);
    assert_eq!(decoder.bias, [Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: false }]);
    assert_eq!((decoder.mask, decoder.softmax_scale), (Mask::causal(), Some(1.0)));
    let cross = read(Stack::Cross);
    assert_eq!((cross.bias.len(), cross.mask, cross.softmax_scale), (0, Mask::none(), Some(1.0)));
    let mt5 = with("t5-base", json!({"model_type": "mt5", "relative_attention_max_distance": 64, "d_kv": 32}));
    let mt5 = Spec::from_hf_config(&mt5).unwrap();
    assert_eq!(mt5.bias, [Bias::T5 { num_buckets: 32, max_distance: 64, bidirectional: true }]);
    assert_eq!((mt5.head_dim, mt5.rotary), (32, None));
}

#[test]
fn roformer_is_an_encoder_unless_it_says_decoder() {
    let file = json!({"model_type": "roformer", "hidden_size": 768, "num_attention_heads": 12, "rotary_value": false});
    let mut want = decoder(12, 12, 64, Pairing::Interleaved, 64, 1e4);
    want.mask = Mask::none();
    assert_eq!(Spec::from_hf_config(&file.to_string()).unwrap(), want);
    let mut causal = file.clone();
    causal["is_decoder"] = json!(true);
    want.mask = Mask::causal();
    assert_eq!(Spec::from_hf_config(&causal.to_string()).unwrap(), want);
}

#[test]
fn the_storage_type_is_the_files_only_where_asked() {
    let asked = options(|o| o.config_dtype = true);
    for (name, dtype) in [
        ("llama-3-8b", Dtype::Bf16),
        ("v5/llama-3-8b", Dtype::Bf16),
        ("gpt-neox-20b", Dtype::F16),
        ("t5-base", Dtype::F32),
    ] {
        assert_eq!(Spec::from_hf_config_with(&config(name), &asked).unwrap().dtype, dtype, "{name}");
        assert_eq!(Spec::from_hf_config(&config(name)).unwrap().dtype, Dtype::F32, "{name}");
    }
    let odd = with("llama-3-8b", json!({"torch_dtype": "float8_e4m3fn"}));
    assert!(Spec::from_hf_config(&odd).is_ok(), "not asked, not read");
    assert_eq!(key(Spec::from_hf_config_with(&odd, &asked)), "torch_dtype");
}

#[test]
fn key_value_heads_may_be_null_or_those_of_the_class() {
    for base in ["llama-3-8b", "mistral-7b-v0.1", "qwen2-7b"] {
        let null = Spec::from_hf_config(&with(base, json!({"num_key_value_heads": null}))).unwrap();
        assert_eq!(null.num_kv_heads, null.num_heads, "{base}");
    }
    assert_eq!(Spec::from_hf_config(&without("llama-3-8b", "num_key_value_heads")).unwrap().num_kv_heads, 32);
    // The classes of Mistral and Qwen2 take 8 and 32, which is no divisor of 28.
    let mistral = Spec::from_hf_config(&without("mistral-7b-v0.1", "num_key_value_heads")).unwrap();
    assert_eq!((mistral.num_heads, mistral.num_kv_heads), (32, 8));
    let qwen = Spec::from_hf_config(&without("qwen2-7b", "num_key_value_heads"));
    assert!(matches!(&qwen, Err(Error::Spec { field, .. }) if field == "num_kv_heads"), "{qwen:?}");
    let agree =
        without("qwen2-7b", "num_key_value_heads").replace("\"num_attention_heads\":28", "\"num_attention_heads\":32");
    assert_eq!(Spec::from_hf_config(&agree).unwrap().num_kv_heads, 32);
}

/// The key that an error names.
fn key(result: Result<Spec, Error>) -> String {
    match result {
        Err(Error::Config { field, .. }) => field,
        other => panic!("no error of the configuration: {other:?}"),
    }
}

#[test]
fn what_is_unknown_or_missing_is_named() {
    let read = |file: String| key(Spec::from_hf_config(&file));
    let message = |file: String| Spec::from_hf_config(&file).unwrap_err().to_string();
    assert_eq!(read("".into()), "(file)");
    assert_eq!(read("[1]".into()), "(file)");
    assert_eq!(read("{}".into()), "model_type");
    assert_eq!(read(json!({"model_type": 7}).to_string()), "model_type");
    let unknown = message(with("llama-3-8b", json!({"model_type": "llamas"})));
    assert!(unknown.contains("\"llamas\"") && unknown.contains("among them llama"), "{unknown}");
    let state = message(with("llama-3-8b", json!({"model_type": "mamba"})));
    assert!(state.contains("has no attention"), "{state}");
    let composite = message(json!({"model_type": "gemma3", "text_config": {}}).to_string());
    assert!(composite.contains("text_config"), "{composite}");

    let rope = |dictionary: Value| with("llama-2-7b", json!({ "rope_scaling": dictionary }));
    let unknown = message(rope(json!({"rope_type": "spiral", "factor": 2.0})));
    assert!(unknown.contains("rope_scaling.rope_type") && unknown.contains("\"spiral\""), "{unknown}");
    let yarn = |key: &str, value: Value| {
        let mut dictionary = json!({"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096});
        dictionary[key] = value;
        rope(dictionary)
    };
    assert!(Spec::from_hf_config(&yarn("beta_fast", json!(32))).is_ok());
    // a note of how it was trained
    assert!(Spec::from_hf_config(&yarn("finetuned", json!(true))).is_ok());
    assert_eq!(read(yarn("low_freq_factor", json!(1.0))), "rope_scaling.low_freq_factor");
    assert_eq!(read(yarn("rope_type", json!("linear"))), "rope_scaling.type");
    assert_eq!(read(yarn("factor", Value::Bool(true))), "rope_scaling.factor");
    assert_eq!(read(rope(json!({"factor": 2.0}))), "rope_scaling.rope_type");
    assert_eq!(read(rope(json!({"type": "linear"}))), "rope_scaling.factor");
    assert_eq!(read(rope(json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}))), {
        "rope_scaling.high_freq_factor"
    });
    assert_eq!(read(rope(json!("linear"))), "rope_scaling");
    assert_eq!(
        read(rope(json!({"rope_type": "default", "mrope_section": [16, 24, 24]}))),
        "rope_scaling.mrope_section"
    );
    let nested = json!({"full_attention": {"rope_type": "default"}, "chunked_attention": {"rope_type": "default"}});
    assert_eq!(read(rope(nested)), "rope_scaling.chunked_attention");
    assert_eq!(read(rope(json!({"sliding_attention": {"rope_type": "default"}}))), "rope_scaling.full_attention");
    let flat = with("gemma-3-1b", json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}));
    assert_eq!(key(Spec::from_hf_config_with(&flat, &layer(5))), "rope_parameters");

    // null says that there is none, which not everything can be
    for (base, null) in [("llama-3-8b", "num_attention_heads"), ("llama-3-8b", "hidden_size"), ("t5-base", "num_heads")]
    {
        let mut file = json(base);
        file.as_object_mut().unwrap().remove("head_dim");
        file[null] = Value::Null;
        assert_eq!(read(file.to_string()), null, "{base}");
    }
}

#[test]
fn what_a_file_does_not_say_is_what_its_class_takes() {
    let class = |base: &str, missing: &str, at: u32| {
        let file = without(base, missing);
        Spec::from_hf_config_with(&file, &layer(at)).unwrap_or_else(|e| panic!("{base} without {missing}: {e}"))
    };
    assert_eq!(class("mistral-7b-v0.1", "sliding_window", 0).mask.window_left, Some(4095));
    assert_eq!(class("gpt-neox-20b", "rotary_pct", 0).rotary.unwrap().rotary_dim, 24);
    assert_eq!(class("gpt-j-6b", "rotary_dim", 0).rotary.unwrap().rotary_dim, 64);
    assert_eq!(class("phi-2", "partial_rotary_factor", 0).rotary.unwrap().rotary_dim, 40);
    assert_eq!(class("t5-base", "d_kv", 0).head_dim, 64);
    assert_eq!(class("glm-4-9b", "head_dim", 0).head_dim, 128);
    assert_eq!(class("gemma-2-2b", "attn_logit_softcapping", 0).logits_soft_cap, Some(50.0));
    assert_eq!(class("gemma-2-2b", "query_pre_attn_scalar", 0).scale(), 1.0 / 16.0);
    assert_eq!(class("gemma-2-2b", "sliding_window", 0).mask.window_left, Some(4095));
    // older names of a key are the key
    let bart = json!({"model_type": "bart", "d_model": 96, "encoder_attention_heads": 3}).to_string();
    assert_eq!(Spec::from_hf_config(&bart).unwrap(), Spec::new(3, 3, 32));
    let parts = config_parts(&without("glm-4-9b", "head_dim"), &ConfigOptions::default()).unwrap();
    assert!(parts[0].defaults.contains(&("head_dim".into(), json!(128))), "{:?}", parts[0].defaults);
}

#[test]
fn what_contradicts_itself_or_is_no_number_is_named() {
    let read = |base: &str, changes: Value| key(Spec::from_hf_config(&with(base, changes)));
    let dictionary = |theta: f64| json!({"rope_scaling": {"type": "linear", "factor": 2.0, "rope_theta": theta}});
    assert!(Spec::from_hf_config(&with("llama-3-8b", dictionary(5e5))).is_ok());
    assert_eq!(read("llama-3-8b", dictionary(1e4)), "rope_theta");
    assert_eq!(read("gpt-neox-20b", json!({"rope_theta": 500.0})), "rope_theta");
    assert_eq!(read("gpt-neox-20b", json!({"partial_rotary_factor": 0.5})), "partial_rotary_factor");
    let both = json!({
        "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"type": "linear", "factor": 4.0}
    });
    assert_eq!(read("llama-3-8b", both), "rope_scaling");
    let lengths = json!({
        "original_max_position_embeddings": 2048,
        "rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096},
    });
    assert_eq!(read("llama-2-7b", lengths), "rope_scaling.original_max_position_embeddings");

    // Numbers that the formula refuses keep the name of the file's own key.
    for bad in [0.0, -8.0] {
        let linear = json!({"rope_scaling": {"type": "linear", "factor": bad}});
        assert_eq!(read("llama-3-8b", linear), "rope_scaling.factor");
        assert_eq!(read("llama-3-8b", json!({"rope_theta": bad})), "rope_theta");
        assert_eq!(read("phi-2", json!({"partial_rotary_factor": bad})), "partial_rotary_factor");
    }
    let short = json!({"original_max_position_embeddings": 4096, "rope_scaling": {
        "type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [1.0, 1.0]
    }});
    assert_eq!(read("phi-3-mini-4k", short), "rope_scaling.short_factor");
    assert_eq!(read("phi-2", json!({"partial_rotary_factor": 0.01})), "rotary_dim");
    assert_eq!(read("phi-2", json!({"partial_rotary_factor": 1.5})), "partial_rotary_factor");
    assert_eq!(read("llama-3-8b", json!({"partial_rotary_factor": 0.5})), "partial_rotary_factor");
    assert!(Spec::from_hf_config(&with("llama-3-8b", json!({"partial_rotary_factor": 1.0}))).is_ok());
    for (changed, value) in [
        ("num_attention_heads", json!(-1)),
        ("num_attention_heads", json!("32")),
        ("num_attention_heads", json!(32.5)),
        ("num_attention_heads", json!(1u64 << 32)),
        ("num_key_value_heads", json!([8])),
        ("hidden_size", json!(4097)),
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(4_000_000_000u32)),
        ("rope_theta", json!("1e4")),
    ] {
        assert_eq!(read("llama-3-8b", json!({ changed: value })), changed, "{value}");
    }
    assert_eq!(read("llama-3-8b", json!({"num_attention_heads": 0})), "num_attention_heads");
    assert_eq!(read("mistral-7b-v0.1", json!({"sliding_window": 0})), "sliding_window");
    // What is readable and yet no attention is left to the spec's own check.
    for (changed, value, named) in [
        ("num_key_value_heads", 5, "num_kv_heads"),
        ("num_key_value_heads", 0, "num_kv_heads"),
        ("head_dim", 578, "head_dim"),
    ] {
        match Spec::from_hf_config(&with("llama-3-8b", json!({ changed: value }))) {
            Err(Error::Spec { field, .. }) => assert_eq!(field, named),
            other => panic!("{changed}: {other:?}"),
        }
    }
}

#[test]
fn what_a_spec_cannot_do_is_refused() {
    let read = |base: &str, changes: Value| key(Spec::from_hf_config(&with(base, changes)));
    assert_eq!(read("command-r-v01", json!({"use_qk_norm": true})), "use_qk_norm");
    assert_eq!(read("phi-2", json!({"qk_layernorm": true})), "qk_layernorm");
    let both = Spec::from_hf_config(&with("llama-3-8b", json!({"is_causal": false}))).unwrap();
    assert_eq!(both.mask, Mask::none());
    assert_eq!(read("mistral-7b-v0.1", json!({"is_causal": false})), "is_causal");
    let phi = with("phi-2", json!({"qk_layernorm": true}));
    let normalized = options(|o| o.normalized = true);
    assert_eq!(Spec::from_hf_config_with(&phi, &normalized).unwrap().norm, None);
    // A key of another family is not ignored, unless it is switched off.
    for (base, changes) in [
        ("llama-3-8b", json!({"sliding_window": 4096})),
        ("llama-3-8b", json!({"attn_logit_softcapping": 50.0})),
        ("llama-3-8b", json!({"query_pre_attn_scalar": 256})),
        ("qwen2-7b", json!({"use_qk_norm": true})),
        ("mistral-7b-v0.1", json!({"attention_chunk_size": 8192})),
        ("gpt-j-6b", json!({"rope_scaling": {"type": "linear", "factor": 2.0}})),
        ("t5-base", json!({"rope_theta": 10000.0})),
        ("gpt-neox-20b", json!({"num_key_value_heads": 8})),
    ] {
        let changed = changes.as_object().unwrap().keys().next().unwrap().clone();
        assert_eq!(read(base, changes), changed, "{base}");
        assert!(Spec::from_hf_config(&with(base, json!({ changed: null }))).is_ok(), "{base}");
    }
    let stack = |stack| key(Spec::from_hf_config_with(&config("llama-3-8b"), &options(|o| o.stack = Some(stack))));
    assert_eq!((stack(Stack::Encoder), stack(Stack::Cross)), ("model_type".into(), "model_type".into()));
}

#[test]
fn a_layer_is_asked_for_where_layers_differ() {
    for base in ["gemma-2-2b", "v5/gemma-2-2b"] {
        assert!(Spec::from_hf_config(&config(base)).unwrap_err().to_string().contains("0 to 25"), "{base}");
        assert_eq!(key(Spec::from_hf_config_with(&config(base), &layer(26))), "num_hidden_layers");
    }
    let qwen = with("qwen2-7b", json!({"use_sliding_window": true, "max_window_layers": 21}));
    assert_eq!(key(Spec::from_hf_config(&qwen)), "model_type");
    assert_eq!(key(Spec::from_hf_config_with(&config("t5-base"), &layer(12))), "num_layers");
    assert_eq!(key(Spec::from_hf_config_with(&config("gpt-j-6b"), &layer(28))), "n_layer");
    assert!(Spec::from_hf_config_with(&config("llama-3-8b"), &layer(31)).is_ok());

    let types = |base: &str, kind: &str, n: usize| with(base, json!({"layer_types": vec![kind; n]}));
    assert_eq!(key(Spec::from_hf_config(&types("qwen2-7b", "full_attention", 27))), "layer_types");
    assert_eq!(key(Spec::from_hf_config(&types("qwen2-7b", "chunked_attention", 28))), "layer_types");
    // A sliding layer of a model whose window is switched off.
    assert_eq!(key(Spec::from_hf_config(&types("qwen2-7b", "sliding_attention", 28))), "sliding_window");
    assert_eq!(key(Spec::from_hf_config(&types("mistral-7b-v0.1", "full_attention", 32))), "layer_types");
    assert!(Spec::from_hf_config(&types("mistral-7b-v0.1", "sliding_attention", 32)).is_ok());
}

#[test]
fn every_model_type_has_a_row_and_most_their_class_alone() {
    let (mut read, mut other) = (0, Vec::new());
    for name in model_types() {
        let file = json!({ "model_type": name }).to_string();
        // some tables have a row for every distance
        let parts = config_parts(&file, &options(|o| o.seq_len = Some(64))).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(parts[0].model_type, name);
        let unknown = |part: &ropewalk::ConfigPart| match &part.attention {
            ConfigAttention::Refused(error) => error.to_string().contains("is not supported; supported are"),
            _ => false,
        };
        match parts.iter().any(unknown) {
            true => other.push(name),
            false => read += 1,
        }
    }
    assert!(other.is_empty(), "parts without a row: {other:?}");
    assert!(read > 500, "{read}");
}

fn read(name: &str, set: impl Fn(&mut ConfigOptions)) -> Spec {
    Spec::from_hf_config_with(&config(name), &options(set)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn at(name: &str, layer: u32) -> Spec {
    read(name, |o| o.layer = Some(layer))
}

fn rms(eps: f64, weights: bool, after_rotation: bool) -> Option<Norm> {
    let mut norm = Norm::new(NormKind::Rms, eps);
    (norm.weights, norm.after_rotation) = (weights, after_rotation);
    Some(norm)
}

#[test]
fn decoders_have_their_norms_sinks_and_temperatures() {
    assert_eq!(read("qwen3-0.6b", |_| ()).norm, rms(1e-6, true, false));
    assert_eq!(read("qwen3-0.6b", |o| o.normalized = true).norm, None);
    assert_eq!(at("gemma-3-1b", 0).norm, rms(1e-6, true, false));
    // A file that leaves the class's eps out.
    assert_eq!(at("gemma-3-27b", 5).norm, rms(1e-6, true, false));
    assert_eq!(at("gemma-4-31b", 0).norm, rms(1e-6, true, false));
    for layer in [0, 1] {
        assert_eq!(at("gpt-oss-20b", layer).sink, Some(Sink::Learned));
        assert_eq!(at("gemma-3-1b", layer).sink, None);
    }
    let (turning, still) = (at("llama-4-scout", 0), at("llama-4-scout", 3));
    assert_eq!((turning.norm, turning.temperature, turning.mask.chunk), (rms(1e-5, false, true), None, Some(8192)));
    assert_eq!((still.norm, still.temperature), (None, Some(Temperature::new(0.1, 8192))));
    assert_eq!((still.rotary, still.mask), (None, Mask::causal()));
    let off = |value: Value| {
        let mut file = json("llama-4-scout");
        merge(&mut file, &json!({"text_config": {"attn_temperature_tuning": value, "use_qk_norm": false}}));
        let read = |at| Spec::from_hf_config_with(&file.to_string(), &layer(at)).unwrap();
        (read(0).norm, read(3).temperature)
    };
    assert_eq!(off(json!(false)), (None, None));
    assert_eq!(off(json!(0)), (None, None));
    assert_eq!(off(json!(true)), (None, Some(Temperature::new(0.1, 8192))));
    let roformer = with("roformer-chinese-base", json!({"rotary_value": true}));
    assert!(Spec::from_hf_config(&roformer).unwrap().rotary.unwrap().values);
    assert!(!read("roformer-chinese-base", |_| ()).rotary.unwrap().values);
}

#[test]
fn latent_attention_turns_the_end_of_a_head() {
    let v2 = read("deepseek-v2-lite", |_| ());
    let rotary = v2.rotary.unwrap();
    assert_eq!((rotary.pairing, rotary.offset, rotary.rotary_dim), (Pairing::Interleaved, 128, 64));
    let v3 = read("deepseek-v3", |_| ());
    assert_eq!(v3.rotary.as_ref().unwrap().pairing, Pairing::InterleavedInHalfOut);
    assert_frequencies(&v3.rotary.unwrap(), "yarn_deepseek_v3", 1.0);
    let half = Spec::from_hf_config(&with("deepseek-v3", json!({"rope_interleave": false}))).unwrap();
    assert_eq!(half.rotary.unwrap().pairing, Pairing::Half);
    let wrong = |changes: Value| key(Spec::from_hf_config(&with("deepseek-v2-lite", changes)));
    assert_eq!(wrong(json!({"rope_interleave": false})), "rope_interleave");
    assert_eq!(wrong(json!({"num_key_value_heads": 8})), "num_key_value_heads");
    assert_eq!(wrong(json!({"head_dim": 128})), "head_dim");
    assert_eq!(wrong(json!({"qk_rope_head_dim": null})), "qk_rope_head_dim");
    assert_eq!(wrong(json!({"v_head_dim": null})), "v_head_dim");
}

#[test]
fn absolute_positions_leave_attention_plain() {
    let plain = |heads, causal| {
        let mut spec = Spec::new(heads, heads, 64);
        spec.mask.causal = causal;
        spec
    };
    assert_eq!(read("bert-base-uncased", |_| ()), plain(12, false));
    assert_eq!(read("roberta-base", |_| ()), plain(12, false));
    assert_eq!(read("gpt2", |_| ()), plain(12, true));
    assert_eq!(read("opt-125m", |_| ()), plain(12, true));
    let decoder = with("bert-base-uncased", json!({"is_decoder": true, "add_cross_attention": true}));
    assert_eq!(Spec::from_hf_config(&decoder).unwrap(), plain(12, true));
    let cross = options(|o| o.stack = Some(Stack::Cross));
    assert_eq!(Spec::from_hf_config_with(&decoder, &cross).unwrap(), plain(12, false));
    assert_eq!(key(Spec::from_hf_config_with(&config("bert-base-uncased"), &cross)), "add_cross_attention");
    assert_eq!(key(Spec::from_hf_config_with(&config("gpt2"), &cross)), "add_cross_attention");
    let odd = with("bert-base-uncased", json!({"position_embedding_type": "rotary"}));
    assert_eq!(key(Spec::from_hf_config(&odd)), "position_embedding_type");

    let by_layer = with("gpt2", json!({"scale_attn_by_inverse_layer_idx": true}));
    assert_eq!(key(Spec::from_hf_config(&by_layer)), "scale_attn_by_inverse_layer_idx");
    assert_eq!(Spec::from_hf_config_with(&by_layer, &layer(3)).unwrap().softmax_scale, Some(0.125 / 4.0));
}

#[test]
fn relative_rows_are_those_of_the_models() {
    use RelativeSide::{Key, Query};
    let index = IndexMap::reversed(-511, 511);
    let key_rows = read("bert-relative-key", |_| ());
    assert_eq!(key_rows.relative, [Relative::new(Key, index)]);
    let both = read("bert-relative-key-query", |_| ());
    assert_eq!(both.relative, [Relative::new(Key, index), Relative::new(Query, index)]);
    assert_eq!((both.mask, both.softmax_scale), (Mask::none(), None));

    let per_head = |side, index| {
        let mut relative = Relative::new(side, index);
        relative.per_head = true;
        relative
    };
    let v1 = IndexMap::reversed(-512, 511);
    assert_eq!(read("deberta-base", |_| ()).relative, [per_head(Key, v1), per_head(Query, v1)]);
    let v3 = IndexMap::LogBucket { buckets: 256, max_position: 512 };
    let spec = read("deberta-v3-base", |_| ());
    assert_eq!(spec.relative, [per_head(Key, v3), per_head(Query, v3)]);
    let change = |changes| Spec::from_hf_config(&with("deberta-v3-base", changes));
    let one = change(json!({"pos_att_type": ["c2p"], "position_buckets": -1, "max_relative_positions": 100})).unwrap();
    assert_eq!(one.relative, [per_head(Key, IndexMap::reversed(-100, 99))]);
    assert_eq!(one.softmax_scale, Some(1.0 / 128f64.sqrt()));
    assert_eq!(change(json!({"relative_attention": false})).unwrap().relative, []);
    assert_eq!(key(change(json!({"pos_att_type": "c2p|p2p"}))), "pos_att_type");
    assert_eq!(key(change(json!({"pos_att_type": ["c2p", "c2p"]}))), "pos_att_type");
    assert_eq!(key(change(json!({"position_buckets": 2.5}))), "position_buckets");
    assert_eq!(key(Spec::from_hf_config(&with("deberta-base", json!({"talking_head": true})))), "talking_head");
}

#[test]
fn transformer_xl_and_xlnet_have_content_bias_and_distances() {
    let biased = |index| {
        let mut relative = Relative::new(RelativeSide::Key, index);
        (relative.per_head, relative.query_bias) = (true, true);
        relative
    };
    // Rows kv_len - distance, as many as queries and keys together.
    let xlnet = read("xlnet-base-cased", |o| o.seq_len = Some(512));
    let index = IndexMap::distance(-512, 511);
    assert_eq!((xlnet.relative.clone(), xlnet.content_bias, xlnet.mask), (vec![biased(index)], true, Mask::none()));
    let segments = read("xlnet-base-cased", |o| (o.seq_len, o.segments) = (Some(512), true));
    assert_eq!(segments.relative, [biased(index), biased(IndexMap::Segment)]);
    let change = |changes| with("xlnet-base-cased", changes);
    let long = options(|o| o.seq_len = Some(64));
    let uni = change(json!({"attn_type": "uni", "clamp_len": 100}));
    let uni = Spec::from_hf_config(&uni).unwrap();
    assert_eq!((uni.relative, uni.mask), (vec![biased(IndexMap::distance(-100, 100))], Mask::causal()));
    assert_eq!(key(Spec::from_hf_config(&config("xlnet-base-cased"))), "clamp_len");
    let wrong = |changes| key(Spec::from_hf_config_with(&change(changes), &long));
    assert_eq!(wrong(json!({"attn_type": "both"})), "attn_type");
    assert_eq!(wrong(json!({"attn_type": "uni", "same_length": true})), "same_length");
    assert_eq!(wrong(json!({"bi_data": true})), "bi_data");
    assert_eq!(wrong(json!({"d_head": 32})), "d_head");

    let xl = read("transfo-xl-wt103", |_| ());
    assert_eq!((xl.num_heads, xl.head_dim, xl.content_bias), (16, 64, true));
    assert_eq!(xl.relative, [biased(IndexMap::distance(-1000, 0))]);
    let mut window = Mask::causal();
    window.window_left = Some(1599);
    assert_eq!(xl.mask, window);
    let change = |changes| Spec::from_hf_config_with(&with("transfo-xl-wt103", changes), &long);
    let free = change(json!({"clamp_len": -1, "same_length": false})).unwrap();
    assert_eq!((free.relative, free.mask), (vec![biased(IndexMap::distance(-63, 0))], Mask::causal()));
    assert_eq!(key(change(json!({"attn_type": 2}))), "attn_type");
    assert_eq!(key(change(json!({"mem_len": 0}))), "mem_len");
    assert_eq!(key(change(json!({"same_length": null}))), "same_length");
}

#[test]
fn biases_are_those_of_the_models() {
    let alibi = |form, scale| [Bias::Alibi { form, slopes: None, scale }];
    assert_eq!(read("bloom-560m", |_| ()).bias, alibi(AlibiForm::KeyPosition, 1.0));
    assert_eq!(read("falcon-rw-1b", |_| ()).bias, alibi(AlibiForm::KeyPosition, 0.125));
    assert_eq!(read("falcon-7b", |_| ()).bias, []);
    assert_eq!(read("mpt-7b-instruct", |_| ()).bias, alibi(AlibiForm::KeyFromEnd, 1.0));
    let mpt = |heads: u32, changes: Value| {
        let mut file = json("mpt-7b-instruct");
        merge(&mut file, &json!({"n_heads": heads, "d_model": 64 * heads, "attn_config": changes}));
        Spec::from_hf_config(&file.to_string())
    };
    let slopes = |heads, most: f64| match &mpt(heads, json!({"alibi_bias_max": most})).unwrap().bias[..] {
        [Bias::Alibi { slopes: Some(slopes), .. }] => slopes.clone(),
        other => panic!("{other:?}"),
    };
    // Of 8 slopes 2^-i / 2 ... the odd ones after the even ones, as far as there are heads.
    assert_eq!(slopes(4, 4.0), [0.5, 0.25, 0.125, 0.0625]);
    assert_eq!(slopes(6, 4.0), [0.5, 0.25, 0.125, 0.0625, 0.70710677, 0.35355338]);
    for (changed, value) in [
        ("alibi", json!(false)),
        ("attn_type", json!("multiquery_attention")),
        ("prefix_lm", json!(true)),
        ("qk_ln", json!(true)),
        ("sliding_window_size", json!(128)),
    ] {
        assert_eq!(key(mpt(4, json!({ changed: value }))), format!("attn_config.{changed}"));
    }
    // the class has one key head and no ALiBi
    let plain = without("falcon-7b", "multi_query");
    assert_eq!(Spec::from_hf_config(&plain).unwrap(), read("falcon-7b", |_| ()));
    assert_eq!(read("mpnet-base", |_| ()).bias, [Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: true }]);
    let pix2struct = read("pix2struct-base", |_| ());
    assert_eq!(pix2struct.bias, [Bias::T5 { num_buckets: 32, max_distance: 128, bidirectional: false }]);
    assert_eq!((pix2struct.mask, pix2struct.softmax_scale), (Mask::causal(), Some(1.0)));
}

#[test]
fn images_have_grids() {
    let grid = |height, width, class| [Bias::Indexed { index: IndexMap::Grid { height, width, class } }];
    for (layer, heads, shifted) in [(0, 3, false), (1, 3, true), (2, 6, false), (7, 12, true), (11, 24, false)] {
        let spec = at("swin-tiny-224", layer);
        let with_shift = |mut bias: Vec<Bias>| {
            bias.extend(shifted.then_some(Bias::Indexed { index: IndexMap::Segment }));
            bias
        };
        assert_eq!((spec.num_heads, spec.head_dim, spec.segments()), (heads, 32, shifted), "layer {layer}");
        let wanted = with_shift(grid(7, 7, false).into());
        assert_eq!((spec.bias, spec.positions, spec.mask), (wanted, Positions::Ids, Mask::none()));
        assert_eq!((spec.norm, spec.head_scale), (None, false));
        // The last stage is one window, so nothing is shifted there.
        let v2 = at("swinv2-tiny-256", layer);
        let cpb = |pretrained| [Bias::LogCpb { height: 8, width: 8, pretrained, hidden: 512 }];
        assert_eq!((v2.num_heads, v2.bias), (heads, with_shift(cpb(None).into())));
        let trained = with("swinv2-tiny-256", json!({"pretrained_window_sizes": [12, 12, 12, 6]}));
        let trained = Spec::from_hf_config_with(&trained, &self::layer(layer)).unwrap();
        assert_eq!(trained.bias, with_shift(cpb(Some(if layer > 9 { [6, 6] } else { [12, 12] })).into()));
        assert_eq!((v2.norm, v2.head_scale), (Some(Norm::new(NormKind::L2, 1e-12)), true));
        assert_eq!(v2.softmax_scale, Some(1.0));
    }
    let stages = with("swinv2-tiny-256", json!({"pretrained_window_sizes": [0]}));
    assert_eq!(key(Spec::from_hf_config_with(&stages, &layer(0))), "pretrained_window_sizes");
    assert_eq!(key(Spec::from_hf_config(&config("swin-tiny-224"))), "depths");
    assert_eq!(key(Spec::from_hf_config_with(&config("swin-tiny-224"), &layer(12))), "depths");
    let change = |changes, at| Spec::from_hf_config_with(&with("swin-tiny-224", changes), &layer(at));
    assert_eq!(change(json!({"image_size": [448, 224]}), 0).unwrap().bias, grid(7, 7, false));
    assert_eq!(key(change(json!({"image_size": 112}), 11)), "window_size");
    assert_eq!(key(change(json!({"num_heads": [3, 6, 12]}), 0)), "num_heads");
    assert_eq!(key(change(json!({"num_heads": [5, 6, 12, 24]}), 0)), "embed_dim");
    assert_eq!(key(change(json!({"image_size": "224"}), 0)), "image_size");
    let beit = read("beit-base-224", |_| ());
    assert_eq!((beit.bias, beit.positions), (grid(14, 14, true).into(), Positions::Ids));
    let plain = with("beit-base-224", json!({"use_relative_position_bias": false}));
    assert_eq!(Spec::from_hf_config(&plain).unwrap(), Spec::new(12, 12, 64));
}

#[test]
fn a_composite_model_gives_its_text_model() {
    for name in ["gemma-3-27b", "llama-4-scout", "qwen3-vl-8b"] {
        let text = json(name)["text_config"].to_string();
        let options = layer(0);
        let whole = Spec::from_hf_config_with(&config(name), &options).unwrap();
        assert_eq!(Spec::from_hf_config_with(&text, &options).unwrap(), whole, "{name}");
    }
    let change = |changes: Value| {
        let mut file = json("gemma-3-27b");
        merge(&mut file, &changes);
        Spec::from_hf_config_with(&file.to_string(), &layer(0))
    };
    assert_eq!(key(change(json!({"text_config": {"num_attention_heads": null}}))), "text_config.num_attention_heads");
    let spiral = json!({"text_config": {"rope_scaling": {"rope_type": "spiral"}}});
    assert_eq!(
        key(Spec::from_hf_config_with(
            &{
                let mut file = json("gemma-3-27b");
                merge(&mut file, &spiral);
                file.to_string()
            },
            &layer(5)
        )),
        "text_config.rope_scaling.rope_type"
    );
    assert_eq!(key(change(json!({"text_config": {"model_type": "llama"}}))), "text_config.model_type");
    assert_eq!(key(change(json!({"text_config": 7}))), "text_config");
    assert_eq!(key(change(json!({"text_config": null}))), "text_config");
    // A key of the text model outside must say the same.
    assert_eq!(key(change(json!({"sliding_window": 512}))), "sliding_window");
    assert!(change(json!({"sliding_window": 1024})).is_ok());
    let asked = options(|o| (o.layer, o.config_dtype) = (Some(0), true));
    assert_eq!(Spec::from_hf_config_with(&config("gemma-3-27b"), &asked).unwrap().dtype, Dtype::Bf16);
}

#[test]
fn sections_and_layers_that_contradict_are_named() {
    let vl = |changes: Value| key(Spec::from_hf_config(&with("qwen2-vl-7b", json!({ "rope_scaling": changes }))));
    assert_eq!(vl(json!({"type": "mrope", "mrope_section": [16, 24]})), "rope_scaling.mrope_section");
    assert_eq!(vl(json!({"type": "mrope", "mrope_section": [16, 24, 25]})), "rope_scaling.mrope_section");
    assert_eq!(vl(json!({"type": "mrope", "mrope_section": [16.5, 23.5, 24]})), "rope_scaling.mrope_section");
    let turns = json!({"type": "mrope", "mrope_section": [16, 24, 24], "mrope_interleaved": true});
    assert_eq!(vl(turns), "rope_scaling.mrope_interleaved");
    assert_eq!(vl(json!({"type": "mrope", "factor": 2.0, "mrope_section": [16, 24, 24]})), "rope_scaling.factor");
    // The class takes 16, 24 and 24.
    for file in [json!({"type": "mrope"}), Value::Null] {
        let spec = Spec::from_hf_config(&with("qwen2-vl-7b", json!({ "rope_scaling": file }))).unwrap();
        assert_eq!(spec, read("qwen2-vl-7b", |_| ()));
    }
    // Only a model with streams reads the older name.
    let llama = with("llama-2-7b", json!({"rope_scaling": {"type": "mrope"}}));
    assert_eq!(key(Spec::from_hf_config(&llama)), "rope_scaling.rope_type");

    let change = |name: &str, changes: Value| {
        let mut file = json(name);
        merge(&mut file, &changes);
        key(Spec::from_hf_config_with(&file.to_string(), &layer(0)))
    };
    let scout = |changes: Value| change("llama-4-scout", json!({ "text_config": changes }));
    assert_eq!(scout(json!({"no_rope_layers": [1, 0]})), "text_config.no_rope_layers");
    assert_eq!(scout(json!({"no_rope_layers": vec![2; 48]})), "text_config.no_rope_layers");
    assert_eq!(scout(json!({"attention_chunk_size": 0})), "text_config.attention_chunk_size");
    assert_eq!(scout(json!({"use_qk_norm": null})), "text_config.use_qk_norm");
    assert_eq!(scout(json!({"layer_types": vec!["sliding_attention"; 48]})), "text_config.layer_types");
    assert_eq!(change("command-r7b", json!({"rotary_pct": 0.5})), "rotary_pct");
    assert_eq!(change("command-r7b", json!({"head_dim": 64})), "head_dim");
    assert_eq!(change("command-r7b", json!({"position_embedding_type": "alibi"})), "position_embedding_type");
    assert_eq!(change("phi-1", json!({"rotary_dim": 64})), "rotary_dim");
    let gemma4 = |changes: Value| change("gemma-4-31b", json!({ "text_config": changes }));
    assert_eq!(gemma4(json!({"use_bidirectional_attention": "some"})), "text_config.use_bidirectional_attention");
    assert_eq!(gemma4(json!({"layer_types": vec!["sliding_attention"; 60]})), "text_config.layer_types");
    // null is what the class takes; what is said of one layer is that layer's, and replaces what older keys say of some
    let at = |base: &str, changes: Value, n: u32| {
        let mut file = json(base);
        merge(&mut file, &changes);
        Spec::from_hf_config_with(&file.to_string(), &layer(n))
    };
    let text = |changes: Value| json!({ "text_config": changes });
    let chunk =
        |n: u32, size: Value| at("llama-4-scout", text(json!({"attention_chunk_size": size})), n).unwrap().mask.chunk;
    assert_eq!([chunk(0, json!(64)), chunk(0, Value::Null), chunk(3, json!(64))], [Some(64), None, None]);
    assert_eq!(at("gpt-oss-20b", json!({"rope_scaling": null}), 0), at("gpt-oss-20b", json!({}), 0));
    assert!(at("gpt-oss-20b", json!({}), 0).is_ok_and(|spec| spec.rotary.is_some_and(|r| r.attention_factor > 1.3)));
    let gemma = |changes: Value, n: u32| at("gemma-4-31b", text(changes), n);
    assert_eq!(gemma(json!({"rope_parameters": null}), 0), gemma(json!({}), 0));
    let own = |n: u32| gemma(json!({"per_layer_config": {"0": {"sliding_window": 3}}}), n).unwrap();
    assert_eq!([own(0), own(1)].map(|spec| spec.mask.window_left), [Some(2), Some(1023)]);
    assert_eq!((own(5).head_dim, own(5).mask.window_left), (256, None));
    assert_eq!(gemma(json!({}), 5).unwrap().head_dim, 512);
}

/// Every key of a dictionary and of those within it, as a path.
fn paths(value: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = [path, std::slice::from_ref(key)].concat();
        paths(value, &path, found);
        found.push(path);
    }
}

/// Half of the values of every key of a file, the other half of its neighbours, with either kind of options in turn.
#[test]
fn no_value_of_any_key_is_a_panic() {
    let odd = json!([null, -1, 0, 1, 3, 1e300, -0.5, 4294967295u32, "x", "", true, [], [0], [1, "x"], {}, {"x": 1}]);
    let of_layer = options(|o| (o.layer, o.seq_len) = (Some(1), Some(9)));
    let mut refused = 0;
    for name in files("configs") {
        let newer = if ABSENT.contains(&name.as_str()) { json(&name) } else { json(&format!("v5/{name}")) };
        for (version, file) in [json(&name), newer].into_iter().enumerate() {
            let mut keys = Vec::new();
            paths(&file, &[], &mut keys);
            for (k, path) in keys.iter().enumerate() {
                for (v, value) in odd.as_array().unwrap().iter().enumerate().filter(|(v, _)| (k + v + version) % 2 == 0)
                {
                    let mut changed = file.clone();
                    *path.iter().fold(&mut changed, |v, key| &mut v[key]) = value.clone();
                    let options = if (v / 2 + k / 2) % 2 == 0 { &of_layer } else { &ConfigOptions::default() };
                    match Spec::from_hf_config_with(&changed.to_string(), options) {
                        Ok(spec) => spec.validate().unwrap(),
                        Err(Error::Config { .. } | Error::Spec { .. }) => refused += 1,
                        Err(other) => panic!("{name} {path:?} {value}: {other}"),
                    }
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}
