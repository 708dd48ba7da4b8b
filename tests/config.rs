//! Published configurations give the spec that the published model computes. The files of `tests/configs` are as their
//! authors wrote them; those of `tests/configs/v5` are the same models as transformers 5.23.0 saves them.

use ropewalk::{
    Bias, ConfigOptions, Dtype, Error, Frequencies, Mask, Pairing, Positions, Rotary, Spec, Stack, model_types,
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

#[test]
fn every_file_is_a_case() {
    let mut cases: Vec<String> = published().into_iter().map(|(name, ..)| format!("{name}.json")).collect();
    cases.extend(["llama-3.1-8b.json".into(), "qwen2.5-7b-yarn.json".into()]);
    cases.sort();
    cases.dedup();
    for folder in ["configs", "configs/v5"] {
        let entries = std::fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        files.retain(|name| name.ends_with(".json"));
        files.sort();
        assert_eq!(files, cases, "{folder}");
    }
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
fn key_value_heads_may_be_null_but_not_guessed() {
    for base in ["llama-3-8b", "mistral-7b-v0.1", "qwen2-7b"] {
        let null = Spec::from_hf_config(&with(base, json!({"num_key_value_heads": null}))).unwrap();
        assert_eq!(null.num_kv_heads, null.num_heads, "{base}");
    }
    assert_eq!(Spec::from_hf_config(&without("llama-3-8b", "num_key_value_heads")).unwrap().num_kv_heads, 32);
    // The classes of Mistral and Qwen2 would take 8 and 32.
    assert_eq!(key(Spec::from_hf_config(&without("mistral-7b-v0.1", "num_key_value_heads"))), "num_key_value_heads");
    assert_eq!(key(Spec::from_hf_config(&without("qwen2-7b", "num_key_value_heads"))), "num_key_value_heads");
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
    let unknown = message(with("llama-3-8b", json!({"model_type": "mamba"})));
    assert!(unknown.contains("\"mamba\"") && unknown.contains("llama, mistral"), "{unknown}");
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
    assert_eq!(read(yarn("finetuned", json!(true))), "rope_scaling.finetuned");
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

    for (base, missing) in [
        ("llama-3-8b", "num_attention_heads"),
        ("llama-3-8b", "hidden_size"),
        ("mistral-7b-v0.1", "sliding_window"),
        ("gpt-neox-20b", "rotary_pct"),
        ("gpt-j-6b", "rotary_dim"),
        ("gpt-j-6b", "n_head"),
        ("t5-base", "d_kv"),
        ("t5-base", "num_heads"),
        ("phi-2", "partial_rotary_factor"),
        ("command-r-v01", "rope_theta"),
        ("glm-4-9b", "head_dim"),
    ] {
        assert_eq!(read(without(base, missing)), missing, "{base}");
    }
    for missing in ["attn_logit_softcapping", "query_pre_attn_scalar", "sliding_window", "head_dim"] {
        assert_eq!(key(Spec::from_hf_config_with(&without("gemma-2-2b", missing), &layer(0))), missing);
    }
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
    assert_eq!(read("llama-3-8b", json!({"num_attention_heads": 0})), "hidden_size");
    assert_eq!(read("mistral-7b-v0.1", json!({"sliding_window": 0})), "sliding_window");
    // What is readable and yet no attention is left to the spec's own check.
    for (changed, value, named) in [
        ("num_key_value_heads", 5, "num_kv_heads"),
        ("num_key_value_heads", 0, "num_kv_heads"),
        ("head_dim", 258, "head_dim"),
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
    assert_eq!(read("qwen3-0.6b", json!({})), "model_type");
    assert_eq!(key(Spec::from_hf_config_with(&config("gemma-3-1b"), &options(|o| o.layer = Some(0)))), "model_type");
    assert_eq!(read("command-r-v01", json!({"use_qk_norm": true})), "use_qk_norm");
    assert_eq!(read("phi-2", json!({"qk_layernorm": true})), "qk_layernorm");
    let roformer = json!({"model_type": "roformer", "hidden_size": 64, "num_attention_heads": 2, "rotary_value": true});
    assert_eq!(key(Spec::from_hf_config(&roformer.to_string())), "rotary_value");
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
fn every_model_type_is_read() {
    // Enough keys for any family; what is left wrong, if anything, is never the model_type's name.
    for name in model_types() {
        let file = json!({
            "model_type": name, "num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 64, "head_dim": 16,
            "n_head": 4, "n_embd": 64, "num_heads": 4, "d_kv": 16,
        });
        let error = Spec::from_hf_config(&file.to_string()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(!error.contains("supported are"), "{name}: {error}");
    }
    assert_eq!(model_types().count(), 19);
}
