//! A decoder by its configuration and the names of its tensors.

use crate::layers::{Act, Experts, Gate, Linear, Mlp, Norm, Router, Scores};
use crate::tensors::{Tensors, Values};
use crate::{Attention, Part, Result};
use ropewalk::{ConfigOptions, Spec};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A `config.json`: its text, and the dictionary of the text model within it.
pub struct Config {
    text: String,
    keys: Value,
}

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file: Value =
            serde_json::from_str(&ropewalk::finite(&text)).map_err(|e| format!("{}: {e}", path.display()))?;
        let keys = file.get("text_config").cloned().unwrap_or(file);
        Ok(Config { text, keys })
    }
    /// The spec of a layer for sequences of so many tokens, and whether q and k carry the model's norm already.
    pub fn spec(&self, layer: usize, tokens: usize) -> Result<(Spec, bool)> {
        let mut options = ConfigOptions::default();
        (options.layer, options.seq_len) = (Some(layer as u32), Some(tokens as u32));
        match Spec::from_hf_config_with(&self.text, &options) {
            Ok(spec) => Ok((spec, false)),
            Err(error) => {
                options.normalized = true;
                Ok((Spec::from_hf_config_with(&self.text, &options).map_err(|_| error)?, true))
            }
        }
    }
    fn kind(&self) -> &str {
        self.keys["model_type"].as_str().unwrap_or_default()
    }
    fn find(&self, keys: &[&str]) -> Option<f64> {
        keys.iter().find_map(|key| self.keys[*key].as_f64())
    }
    fn count(&self, keys: &[&str]) -> Result<usize> {
        let found = keys.iter().find_map(|key| self.keys[*key].as_u64());
        found.map(|n| n as usize).ok_or_else(|| format!("config {keys:?}: none is there").into())
    }
    fn flag(&self, key: &str) -> Option<bool> {
        self.keys[key].as_bool()
    }
}

/// The specs of all layers at the length of now.
pub struct Specs<'a> {
    config: &'a Config,
    /// Those of now.
    pub now: Vec<Spec>,
    /// Whether they depend on the length at all.
    pub vary: bool,
}

impl<'a> Specs<'a> {
    /// Of so many layers and sequences of up to so many tokens.
    pub fn new(config: &'a Config, layers: usize, tokens: usize) -> Result<Self> {
        let all = |tokens| (0..layers).map(|n| Ok(config.spec(n, tokens)?.0)).collect::<Result<Vec<_>>>();
        let now = all(tokens)?;
        let vary = all(1)? != now;
        Ok(Specs { config, now, vary })
    }
    /// Takes those of sequences of these lengths; says whether others were there before.
    pub fn of(&mut self, mut lens: impl Iterator<Item = usize>) -> Result<bool> {
        if !self.vary {
            return Ok(false);
        }
        let at = |len| (0..self.now.len()).map(|n| Ok(self.config.spec(n, len)?.0)).collect::<Result<Vec<_>>>();
        let wanted = at(lens.next().ok_or("a step: has no tokens")?)?;
        for len in lens {
            if at(len)? != wanted {
                return Err("this model's frequencies change with the length: sequences of different lengths need a step each; give --prompts 1".into());
            }
        }
        let other = wanted != self.now;
        self.now = wanted;
        Ok(other)
    }
}

enum Projections {
    /// Maps to q, k and v; a norm of q and of k that no spec has.
    Each { q: Linear, k: Linear, v: Linear, norms: Option<[Norm; 2]> },
    /// Latent attention: k and v from a short row, of which the last elements are every head's, and turn.
    Latent { q: Vec<(Linear, Option<Norm>)>, down: Linear, norm: Norm, up: Linear, rank: usize, factors: [f64; 2] },
}

struct Layer {
    before: Option<Norm>,
    attention: Projections,
    out: Linear,
    after: Option<Norm>,
    before_mlp: Option<Norm>,
    mlp: Mlp,
    after_mlp: Option<Norm>,
}

/// A whole model.
pub struct Model {
    /// The configuration.
    pub config: Config,
    /// The specs of its layers, for the length that it was read for.
    pub specs: Vec<Spec>,
    /// What a layer has learned for terms of its spec.
    pub parameters: Vec<BTreeMap<String, Vec<f32>>>,
    layers: Vec<Layer>,
    embeddings: Values,
    first: Option<Norm>,
    last: Norm,
    head: Linear,
    width: usize,
    /// Attention and perceptron of the same x.
    parallel: bool,
    residual: f64,
    logits: f64,
    cap: Option<f64>,
}

/// The kinds whose norms take the mean away.
const CENTRED: &[&str] = &[
    "cohere",
    "cohere2",
    "gpt_neox",
    "gptj",
    "jais2",
    "nemotron",
    "olmo",
    "persimmon",
    "phi",
    "phimoe",
    "stablelm",
    "starcoder2",
];
/// The kinds that keep the weights of norms less 1.
const LESS_ONE: &[&str] = &["gemma", "gemma2", "gemma3_text", "nemotron", "vaultgemma"];
/// The kinds whose layers are known here: `make_models.py` makes one of each to compare with transformers (Kimi K2 has the layers of DeepSeek-V3).
const KINDS: &[&str] = &[
    "arcee",
    "cohere",
    "cohere2",
    "cwm",
    "deepseek_v2",
    "deepseek_v3",
    "dots1",
    "ernie4_5",
    "ernie4_5_moe",
    "exaone4",
    "flex_olmo",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "granite",
    "granitemoe",
    "granitemoeshared",
    "helium",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "hyperclovax",
    "jais2",
    "kimi_k2",
    "llama",
    "minicpm3",
    "minimax_m2",
    "ministral",
    "ministral3",
    "mistral",
    "mixtral",
    "nanochat",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "persimmon",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "vaultgemma",
    "youtu",
];

impl Model {
    /// Reads `config.json` and `model.safetensors` of a folder, for sequences of up to so many tokens.
    pub fn read(folder: &Path, tokens: usize) -> Result<Self> {
        let config = Config::read(&folder.join("config.json"))?;
        let mut tensors = Tensors::read(&folder.join("model.safetensors"))?;
        let kind = config.kind().to_string();
        if !KINDS.contains(&kind.as_str()) {
            return Err(format!("config model_type: is {kind:?}; this example has {KINDS:?}").into());
        }
        let width = config.count(&["hidden_size", "n_embd"])?;
        let count = config.count(&["num_hidden_layers", "n_layer"])?;
        let prefix = {
            let found = tensors.names().find_map(|name| {
                Some(name[..name.find("0.")?].to_string()).filter(|p| p.ends_with("layers.") || p.ends_with(".h."))
            });
            found.ok_or("model.safetensors: has no tensor of a layer 0")?
        };
        let root = prefix.trim_end_matches("layers.").trim_end_matches("h.").to_string();
        let mut specs = Vec::new();
        let mut parameters = Vec::new();
        let mut layers = Vec::new();
        for layer in 0..count {
            let (spec, normalized) = config.spec(layer, tokens)?;
            let mut reader =
                Reader { config: &config, tensors: &mut tensors, at: format!("{prefix}{layer}."), width, kind: &kind };
            let read = reader.layer(&spec, normalized).and_then(|read| Ok((read, reader.parameters(&spec)?)));
            let (read, own) = read.map_err(|e| format!("layer {layer}: {e}"))?;
            layers.push(read);
            parameters.push(own);
            specs.push(spec);
        }
        let mut reader = Reader { config: &config, tensors: &mut tensors, at: root.clone(), width, kind: &kind };
        let bare = matches!(kind.as_str(), "olmo" | "nanochat");
        let last = if bare {
            reader.bare()
        } else {
            reader.first_norm(&["norm", "final_layernorm", "final_layer_norm", "ln_f"])?
        };
        let first = (kind == "nanochat").then(|| reader.bare());
        let mut embeddings =
            tensors.first(&["embed_tokens", "embed_in", "wte"].map(|name| format!("{root}{name}.weight")))?;
        let tied = !["lm_head", "embed_out"].iter().any(|name| tensors.has(&format!("{name}.weight")));
        let head = match tied {
            true => Linear::new("the embeddings", embeddings.data.clone(), width, None)?,
            false if tensors.has("lm_head.weight") => Linear::read(&mut tensors, "lm_head")?,
            false => Linear::read(&mut tensors, "embed_out")?,
        };
        head.expect("the head", width, head.outputs())?;
        if embeddings.shape.len() != 2 || embeddings.shape[1] != width {
            return Err(
                format!("the embeddings: have shape {:?}; [tokens, {width}] is needed", embeddings.shape).into()
            );
        }
        let scale = match kind.as_str() {
            "gemma" | "gemma2" | "gemma3_text" | "vaultgemma" => (width as f64).sqrt(),
            "minicpm3" => config.find(&["scale_emb"]).unwrap_or(1.0),
            _ => config.find(&["embedding_multiplier"]).unwrap_or(1.0),
        };
        embeddings.data.iter_mut().for_each(|x| *x *= scale);
        let residual = match kind.as_str() {
            "minicpm3" => config.find(&["scale_depth"]).unwrap_or(1.0) / (count as f64).sqrt(),
            _ => config.find(&["residual_multiplier"]).unwrap_or(1.0),
        };
        let logits = match kind.as_str() {
            "minicpm3" => {
                1.0 / config
                    .find(&["logits_scaling"])
                    .unwrap_or(width as f64 / config.find(&["dim_model_base"]).unwrap_or(width as f64))
            }
            "hyperclovax" => config.find(&["logits_scaling"]).unwrap_or(1.0),
            _ => config.find(&["logit_scale"]).unwrap_or(1.0) / config.find(&["logits_scaling"]).unwrap_or(1.0),
        };
        let parallel = match kind.as_str() {
            "phi" | "gptj" | "cohere" | "cohere2" => true,
            "gpt_neox" | "stablelm" => config.flag("use_parallel_residual").unwrap_or(kind == "gpt_neox"),
            _ => false,
        };
        let left: Vec<&str> = tensors
            .left()
            .into_iter()
            .filter(|name| {
                !name.ends_with("inv_freq") && !name.ends_with(".attention.bias") && !name.ends_with("masked_bias")
            })
            .collect();
        if !left.is_empty() {
            return Err(
                format!("model.safetensors: {} tensors have no use here, {:?} the first", left.len(), left[0]).into()
            );
        }
        let cap = config.find(&["final_logit_softcapping"]);
        Ok(Model {
            config,
            specs,
            parameters,
            layers,
            embeddings,
            first,
            last,
            head,
            width,
            parallel,
            residual,
            logits,
            cap,
        })
    }

    /// Tokens that there are.
    pub fn vocabulary(&self) -> usize {
        self.head.outputs()
    }

    /// Logits `[tokens, vocabulary]` of a step's new tokens, those of every part in turn.
    pub fn forward(&self, parts: &[Part], ids: &[u32], attention: &mut dyn Attention) -> Result<Vec<f64>> {
        let width = self.width;
        let mut x = Vec::with_capacity(ids.len() * width);
        for id in ids {
            let row = self.embeddings.data.get(*id as usize * width..(*id as usize + 1) * width);
            x.extend_from_slice(row.ok_or_else(|| format!("token {id}: the vocabulary ends before it"))?);
        }
        if let Some(norm) = &self.first {
            x = norm.apply(&x, width);
        }
        attention.begin(parts)?;
        let add = |x: &mut Vec<f64>, y: &[f64]| x.iter_mut().zip(y).for_each(|(x, y)| *x += self.residual * y);
        let normed =
            |norm: &Option<Norm>, x: &[f64]| norm.as_ref().map_or_else(|| x.to_vec(), |norm| norm.apply(x, width));
        for (n, layer) in self.layers.iter().enumerate() {
            let input = normed(&layer.before, &x);
            let [q, k, v] = layer.attention.apply(&self.specs[n], &input);
            let out = layer.out.apply(&attention.attend(n, &q, &k, &v)?);
            let out = normed(&layer.after, &out);
            let inner = match (self.parallel, &layer.before_mlp) {
                (true, None) => input,
                (true, norm) => normed(norm, &x),
                (false, norm) => {
                    add(&mut x, &out);
                    normed(norm, &x)
                }
            };
            let mlp = normed(&layer.after_mlp, &layer.mlp.apply(&inner, width));
            if self.parallel {
                add(&mut x, &out);
            }
            add(&mut x, &mlp);
        }
        let mut logits = self.head.apply(&self.last.apply(&x, width));
        logits.iter_mut().for_each(|x| {
            *x *= self.logits;
            if let Some(cap) = self.cap {
                *x = cap * (*x / cap).tanh();
            }
        });
        Ok(logits)
    }
}

impl Projections {
    /// q, k and v of every row: `[rows, heads, dim]`.
    fn apply(&self, spec: &Spec, x: &[f64]) -> [Vec<f64>; 3] {
        let (dim, v_dim) = (spec.head_dim as usize, spec.v_head_dim as usize);
        match self {
            Projections::Each { q, k, v, norms } => {
                let [mut q, mut k, v] = [q, k, v].map(|map| map.apply(x));
                if let Some([of_q, of_k]) = norms {
                    // over a head, over all heads, or over each head with weights of its own
                    let heads = [spec.num_heads, spec.num_kv_heads].map(|n| n as usize);
                    for ((values, norm), heads) in [(&mut q, of_q), (&mut k, of_k)].into_iter().zip(heads) {
                        let whole = !norm.centred && norm.weight.as_ref().is_some_and(|w| w.len() == heads * dim);
                        *values = norm.apply(values, if whole { heads * dim } else { dim });
                    }
                }
                [q, k, v]
            }
            Projections::Latent { q, down, norm, up, rank, factors } => {
                let mut queries = x.to_vec();
                for (map, norm) in q {
                    queries = map.apply(&queries);
                    if let Some(norm) = norm {
                        queries = norm.apply(&queries, map.outputs());
                        queries.iter_mut().for_each(|x| *x *= factors[0]);
                    }
                }
                let heads = spec.num_heads as usize;
                let rows = down.apply(x);
                let turning = down.outputs() - rank;
                let still = dim - turning;
                let (mut k, mut v) = (Vec::new(), Vec::new());
                for row in rows.chunks_exact(rank + turning) {
                    let mut short = norm.apply(&row[..*rank], *rank);
                    short.iter_mut().for_each(|x| *x *= factors[1]);
                    let long = up.apply(&short);
                    for head in long.chunks_exact(still + v_dim).take(heads) {
                        k.extend_from_slice(&head[..still]);
                        k.extend_from_slice(&row[*rank..]);
                        v.extend_from_slice(&head[still..]);
                    }
                }
                [queries, k, v]
            }
        }
    }
}

/// Reads tensors whose names begin alike.
struct Reader<'a> {
    config: &'a Config,
    tensors: &'a mut Tensors,
    at: String,
    width: usize,
    kind: &'a str,
}

impl Reader<'_> {
    fn eps(&self) -> f64 {
        let keys =
            ["rms_norm_eps", "layer_norm_eps", "norm_epsilon", "layer_norm_epsilon", "norm_eps", "layernorm_epsilon"];
        self.config.find(&keys).unwrap_or(1e-5)
    }
    fn bare(&self) -> Norm {
        Norm { centred: CENTRED.contains(&self.kind), eps: self.eps(), weight: None, bias: None }
    }
    fn has(&self, name: &str) -> bool {
        self.tensors.has(&format!("{}{name}.weight", self.at))
    }
    fn norm(&mut self, name: &str) -> Result<Norm> {
        let mut weight = self.tensors.get(&format!("{}{name}.weight", self.at))?.data;
        let bias = self.tensors.find(&format!("{}{name}.bias", self.at)).map(|b| b.data);
        if weight.is_empty() || bias.as_ref().is_some_and(|b| b.is_empty()) {
            return Err(format!("{}{name}: has no weights", self.at).into());
        }
        if LESS_ONE.contains(&self.kind) {
            weight.iter_mut().for_each(|w| *w += 1.0);
        }
        Ok(Norm { weight: Some(weight), bias, ..self.bare() })
    }
    fn first_norm(&mut self, names: &[&str]) -> Result<Norm> {
        match names.iter().find(|name| self.has(name)) {
            Some(name) => self.norm(name),
            None => Err(format!("{}{names:?}: none is in the file", self.at).into()),
        }
    }
    fn linear(&mut self, name: &str) -> Result<Linear> {
        Linear::read(self.tensors, &format!("{}{name}", self.at))
    }
    fn first_linear(&mut self, names: &[&str]) -> Result<Linear> {
        match names.iter().find(|name| self.has(name)) {
            Some(name) => self.linear(name),
            None => Err(format!("{}{names:?}: none is in the file", self.at).into()),
        }
    }

    fn layer(&mut self, spec: &Spec, normalized: bool) -> Result<Layer> {
        let attention = match self.has("self_attn.kv_a_proj_with_mqa") {
            true => self.latent(spec)?,
            false => self.projections(spec, normalized)?,
        };
        let names = ["self_attn.o_proj", "self_attn.dense", "attention.dense", "attn.out_proj"];
        let out = self.first_linear(&names)?;
        out.expect("the map from attention", (spec.num_heads * spec.v_head_dim) as usize, self.width)?;
        let mlp = self.mlp()?;
        mlp.expect("the perceptron", self.width)?;
        if matches!(self.kind, "olmo" | "nanochat") {
            let (before, before_mlp) = (Some(self.bare()), Some(self.bare()));
            return Ok(Layer { before, attention, out, after: None, before_mlp, mlp, after_mlp: None });
        }
        let mut take = |names: &[&str]| {
            let found = names.iter().find(|name| self.has(name));
            found.map(|name| self.norm(name)).transpose()
        };
        let before = take(&["input_layernorm", "ln_1"])?;
        // "post_attention" is before the perceptron where nothing else is
        let (after, before_mlp, after_mlp) = if let Some(pre) = take(&["pre_feedforward_layernorm"])? {
            let after = take(&["post_attention_layernorm"])?;
            (after, Some(pre), take(&["post_feedforward_layernorm"])?)
        } else if let Some(after) = take(&["post_self_attn_layernorm"])? {
            (Some(after), take(&["post_attention_layernorm"])?, take(&["post_mlp_layernorm"])?)
        } else if before.is_none() {
            (take(&["post_attention_layernorm"])?, None, take(&["post_feedforward_layernorm"])?)
        } else {
            (None, take(&["post_attention_layernorm"])?, None)
        };
        Ok(Layer { before, attention, out, after, before_mlp, mlp, after_mlp })
    }

    fn projections(&mut self, spec: &Spec, normalized: bool) -> Result<Projections> {
        let (heads, groups) = (spec.num_heads as usize, spec.num_kv_heads as usize);
        let (dim, v_dim) = (spec.head_dim as usize, spec.v_head_dim as usize);
        let fused = ["attention.query_key_value", "self_attn.query_key_value", "self_attn.qkv_proj"];
        let [q, k, v] = match fused.iter().find(|name| self.has(name)) {
            // behind each other
            Some(name) if name.ends_with("qkv_proj") => {
                let all = self.linear(name)?;
                let (q, k) = (heads * dim, groups * dim);
                let rows = |range| all.rows(name, range);
                [rows(0..q)?, rows(q..q + k)?, rows(q + k..q + k + groups * v_dim)?]
            }
            // q, k and v of a head behind each other
            Some(name) => {
                let all = self.linear(name)?;
                let rows =
                    |n| all.rows(name, (0..heads).flat_map(move |h| (0..dim).map(move |d| (3 * h + n) * dim + d)));
                [rows(0)?, rows(1)?, rows(2)?]
            }
            None => {
                let mut of = |name: &str| self.first_linear(&[&format!("self_attn.{name}"), &format!("attn.{name}")]);
                [of("q_proj")?, of("k_proj")?, of("v_proj")?]
            }
        };
        for (map, name, wanted) in [(&q, "q", heads * dim), (&k, "k", groups * dim), (&v, "v", groups * v_dim)] {
            map.expect(name, self.width, wanted)?;
        }
        let norms = if normalized { Some([self.head_norm("q", heads)?, self.head_norm("k", groups)?]) } else { None };
        Ok(Projections::Each { q, k, v, norms })
    }

    /// A norm of q or k that no spec has.
    fn head_norm(&mut self, of: &str, heads: usize) -> Result<Norm> {
        let listed = format!("self_attn.{of}_layernorm.norms.");
        if self.has(&format!("{listed}0")) {
            let mut weights = Vec::new();
            for head in 0..heads {
                weights.extend(self.norm(&format!("{listed}{head}"))?.weight.unwrap_or_default());
            }
            return Ok(Norm { weight: Some(weights), ..self.bare() });
        }
        self.first_norm(&[&format!("self_attn.{of}_norm"), &format!("self_attn.{of}_layernorm")])
    }

    fn latent(&mut self, spec: &Spec) -> Result<Projections> {
        let q = match self.has("self_attn.q_a_proj") {
            true => vec![
                (self.linear("self_attn.q_a_proj")?, Some(self.latent_norm("self_attn.q_a_layernorm")?)),
                (self.linear("self_attn.q_b_proj")?, None),
            ],
            false => vec![(self.linear("self_attn.q_proj")?, None)],
        };
        let [heads, dim, v_dim] = [spec.num_heads, spec.head_dim, spec.v_head_dim].map(|n| n as usize);
        let mut width = self.width;
        for (n, (map, _)) in q.iter().enumerate() {
            map.expect("q", width, if n + 1 == q.len() { heads * dim } else { map.outputs() })?;
            width = map.outputs();
        }
        let rank = self.config.count(&["kv_lora_rank"])?;
        let [down, up] = ["kv_a_proj_with_mqa", "kv_b_proj"].map(|name| self.linear(&format!("self_attn.{name}")));
        let (down, up) = (down?, up?);
        let turning = down.outputs().checked_sub(rank).filter(|turning| *turning <= dim);
        let turning = turning.ok_or_else(|| format!("config kv_lora_rank: is {rank}, of {} rows", down.outputs()))?;
        down.expect("kv_a_proj_with_mqa", self.width, rank + turning)?;
        up.expect("kv_b_proj", rank, heads * (dim - turning + v_dim))?;
        Ok(Projections::Latent {
            q,
            down,
            norm: self.latent_norm("self_attn.kv_a_layernorm")?,
            up,
            rank,
            factors: [1.0; 2],
        })
    }
    /// DeepSeek's latent norms do not take the eps of the configuration.
    fn latent_norm(&mut self, name: &str) -> Result<Norm> {
        Ok(Norm { eps: 1e-6, ..self.norm(name)? })
    }

    /// The tensors that a layer's spec asks for.
    fn parameters(&mut self, spec: &Spec) -> Result<BTreeMap<String, Vec<f32>>> {
        let mut all = BTreeMap::new();
        for parameter in spec.parameters() {
            let at = &self.at;
            let names: Vec<String> = match parameter.name.as_str() {
                "q_norm" => ["q_norm", "query_layernorm"].map(|n| format!("{at}self_attn.{n}.weight")).to_vec(),
                "k_norm" => ["k_norm", "key_layernorm"].map(|n| format!("{at}self_attn.{n}.weight")).to_vec(),
                "sinks" => ["sinks", "sink"].map(|n| format!("{at}self_attn.{n}")).to_vec(),
                other => return Err(format!("parameter {other}: this example has no tensor for it").into()),
            };
            let mut values = self.tensors.first(&names)?.data;
            if parameter.name.ends_with("_norm") && LESS_ONE.contains(&self.kind) {
                values.iter_mut().for_each(|w| *w += 1.0);
            }
            all.insert(parameter.name, values.iter().map(|w| *w as f32).collect());
        }
        Ok(all)
    }

    fn act(&self) -> Result<Act> {
        let name = ["hidden_activation", "hidden_act", "activation_function"]
            .iter()
            .find_map(|key| self.config.keys[*key].as_str());
        Act::named(name.unwrap_or("silu"))
    }

    fn mlp(&mut self) -> Result<Mlp> {
        let own = ["block_sparse_moe.", "mlp.", "feed_forward."];
        let at = own.iter().find(|at| self.tensors.names().any(|name| name.starts_with(&format!("{}{at}", self.at))));
        let at = at.ok_or_else(|| format!("{}mlp: is not in the file", self.at))?;
        let routers = ["gate", "router", "router.layer", "gate.wg"];
        match routers.iter().find(|name| self.has(&format!("{at}{name}"))) {
            Some(router) => self.experts(at, router),
            None => self.perceptron(at),
        }
    }

    fn perceptron(&mut self, at: &str) -> Result<Mlp> {
        let act = self.act()?;
        if self.has(&format!("{at}gate_proj")) {
            let mut of = |name: &str| self.linear(&format!("{at}{name}"));
            let (gate, up, down) = (of("gate_proj")?, of("up_proj")?, of("down_proj")?);
            return Ok(Mlp::Gated { gate, up, down, form: Gate::Plain(act) });
        }
        for (both, down) in [("gate_up_proj", "down_proj"), ("input_linear", "output_linear")] {
            if self.has(&format!("{at}{both}")) {
                let all = self.linear(&format!("{at}{both}"))?;
                let half = all.outputs() / 2;
                let (gate, up) = (all.rows(both, 0..half)?, all.rows(both, half..2 * half)?);
                return Ok(Mlp::Gated { gate, up, down: self.linear(&format!("{at}{down}"))?, form: Gate::Plain(act) });
            }
        }
        let mut first = |names: [&str; 5]| {
            let names = names.map(|name| format!("{at}{name}"));
            self.first_linear(&names.each_ref().map(String::as_str))
        };
        let up = first(["up_proj", "fc1", "c_fc", "dense_h_to_4h", "fc_in"])?;
        let down = first(["down_proj", "fc2", "c_proj", "dense_4h_to_h", "fc_out"])?;
        Ok(Mlp::Two { up, down, act })
    }

    fn experts(&mut self, at: &str, router: &str) -> Result<Mlp> {
        let kind = self.kind;
        let map = self.linear(&format!("{at}{router}"))?;
        let count = map.outputs();
        let mut bias = None;
        for name in [
            "gate.e_score_correction_bias",
            "e_score_correction_bias",
            "moe_statics.e_score_correction_bias",
            "gate.moe_statics.e_score_correction_bias",
        ] {
            bias = bias.or(self.tensors.find(&format!("{}{at}{name}", self.at)).map(|b| b.data));
        }
        let scores = match kind {
            "gpt_oss" | "granitemoe" | "granitemoeshared" => Scores::SoftmaxOfChosen,
            "deepseek_v3" | "kimi_k2" | "glm4_moe" | "glm4_moe_lite" | "dots1" | "minimax_m2" => Scores::Sigmoid,
            _ => Scores::Softmax,
        };
        let top_k = self.config.count(&["num_experts_per_tok", "moe_topk", "moe_k"])?;
        let normalized = match kind {
            "mixtral" | "minimax_m2" | "ernie4_5_moe" | "hunyuan_v1_moe" => true,
            "deepseek_v2" => false,
            _ => self.config.flag("norm_topk_prob").unwrap_or(false),
        };
        let factor = self.config.find(&["routed_scaling_factor"]).unwrap_or(1.0);
        let grouped = match kind {
            "deepseek_v2" => self.config.keys["topk_method"].as_str() == Some("group_limited_greedy"),
            _ => true,
        };
        let counted = if kind == "deepseek_v2" { 1 } else { 2 };
        let groups = self.config.find(&["n_group"]).filter(|n| grouped && *n > 1.0);
        let kept = self.config.find(&["topk_group"]);
        let groups = groups.zip(kept).map(|(n, kept)| [n as usize, kept as usize, counted]);
        let router = Router { map, scores, bias, top_k, groups, normalized, factor };
        let experts = self.all_experts(at, count)?;
        let shared = ["shared_experts.", "shared_expert.", "shared_mlp."]
            .map(|name| format!("{at}{name}"))
            .into_iter()
            .chain(["shared_mlp.".to_string()])
            .find(|at| {
                ["gate_proj", "input_linear", "gate_up_proj"].iter().any(|name| self.has(&format!("{at}{name}")))
            });
        let shared = shared.map(|at| self.perceptron(&at)).transpose()?;
        let gate = format!("{at}shared_expert_gate");
        let shared_gate = if self.has(&gate) { Some(self.linear(&gate)?) } else { None };
        Ok(Mlp::Experts(Box::new(Experts { router, experts, shared, shared_gate })))
    }

    fn all_experts(&mut self, at: &str, count: usize) -> Result<Vec<Mlp>> {
        let form = Gate::Plain(self.act()?);
        let mut all = Vec::new();
        // one matrix each
        for [gate, up, down] in [["gate_proj", "up_proj", "down_proj"], ["w1", "w3", "w2"]] {
            if self.has(&format!("{at}experts.0.{gate}")) {
                for e in 0..count {
                    let mut of = |name: &str| self.linear(&format!("{at}experts.{e}.{name}"));
                    all.push(Mlp::Gated { gate: of(gate)?, up: of(up)?, down: of(down)?, form });
                }
                return Ok(all);
            }
        }
        // all in one tensor: [experts, out, in], GPT-OSS' [experts, in, out] with gate and up in turns
        let here = format!("{}{at}", self.at);
        let names = |a: &str, b: &str| {
            [format!("{here}experts.{a}"), format!("{here}experts.{a}.weight"), format!("{here}{b}.weight")]
        };
        let both = self.tensors.first(&names("gate_up_proj", "input_linear"))?;
        let down = self.tensors.first(&names("down_proj", "output_linear"))?;
        let biases = ["gate_up_proj", "down_proj"].map(|name| self.tensors.find(&format!("{here}experts.{name}_bias")));
        let turned = self.kind == "gpt_oss";
        let matrices = |values: &Values, biases: &Option<Values>, e: usize| {
            let [_, rows, columns] =
                values.shape[..].try_into().map_err(|_| format!("{here}experts: {:?}", values.shape))?;
            if values.shape[0] != count {
                return Err(format!("{here}experts: are {} for a router of {count}", values.shape[0]).into());
            }
            let own = &values.data[e * rows * columns..(e + 1) * rows * columns];
            let bias = biases.as_ref().map(|b| {
                let n = b.data.len() / count;
                b.data[e * n..(e + 1) * n].to_vec()
            });
            match turned {
                true => {
                    let weight = (0..columns).flat_map(|c| (0..rows).map(move |r| own[r * columns + c])).collect();
                    Linear::new(&here, weight, rows, bias)
                }
                false => Linear::new(&here, own.to_vec(), columns, bias),
            }
        };
        for e in 0..count {
            let (both, down) = (matrices(&both, &biases[0], e)?, matrices(&down, &biases[1], e)?);
            let half = both.outputs() / 2;
            all.push(match turned {
                true => {
                    let alpha = self.config.find(&["swiglu_alpha"]).unwrap_or(1.702);
                    let limit = self.config.find(&["swiglu_limit"]).unwrap_or(7.0);
                    let form = Gate::Clamped { alpha, limit };
                    Mlp::Gated {
                        gate: both.rows(&here, (0..half).map(|i| 2 * i))?,
                        up: both.rows(&here, (0..half).map(|i| 2 * i + 1))?,
                        down,
                        form,
                    }
                }
                false => {
                    let (gate, up) = (both.rows(&here, 0..half)?, both.rows(&here, half..2 * half)?);
                    Mlp::Gated { gate, up, down, form }
                }
            });
        }
        Ok(all)
    }
}
