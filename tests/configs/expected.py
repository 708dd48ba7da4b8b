"""Writes what transformers computes for the configurations of this folder.

    python3 -m venv env && env/bin/pip install torch transformers==5.23.0
    env/bin/python tests/configs/expected.py

For every NAME.json here (sources.json says where each was published) it writes

- v5/NAME.json: the same configuration as this version of transformers saves it, with its newer key names;
- expected/NAME.json: a list with one entry for each layer (stack, length) that differs:
  `heads`, `kv_heads`, `head_dim`, `v_head_dim`, `scale`, `norm`, `sinks`, `cap` and `temperature` from the attention
  module of that layer (built on the meta device, so without weights), `inv_freq` (float32), `attention_factor` and `streams` (the position row that turns
  each pair) from its rotary module, and `visible`: rows `[query, kv_len, first, end]`, the keys first..end that the
  query sees in the mask which the library builds for that layer.

variants.json holds `[base, changes]`: the same for a configuration with some keys replaced. NAMES on the command line
restrict the run to those configurations.
"""

import importlib
import json
import os
import sys
import tempfile

import torch
from transformers import CONFIG_MAPPING, masking_utils

HERE = os.path.dirname(os.path.abspath(__file__))

# Configurations of the library itself, where sources.json says that the class's defaults are the checkpoint.
DEFAULTS = {"ernie-4.5-vl-28b-a3b": "ernie4_5_vl_moe_text", "pix2struct-base": "pix2struct_text_model"}
# What this version of the library no longer has.
ABSENT = {"transfo-xl"}
# Lengths of the call that are tried besides none.
SEQ_LENS = {"phi-3.5-vision": [4096, 4097], "llama-2-7b--dynamic": [4096, 4097, 16384]}

# model_type: package, attention class, rotary class
CLASSES = {
    "llama": ("llama", "LlamaAttention", "LlamaRotaryEmbedding"),
    "mistral": ("mistral", "MistralAttention", "MistralRotaryEmbedding"),
    "mixtral": ("mixtral", "MixtralAttention", "MixtralRotaryEmbedding"),
    "qwen2": ("qwen2", "Qwen2Attention", "Qwen2RotaryEmbedding"),
    "qwen3": ("qwen3", "Qwen3Attention", "Qwen3RotaryEmbedding"),
    "qwen2_vl_text": ("qwen2_vl", "Qwen2VLAttention", "Qwen2VLRotaryEmbedding"),
    "qwen2_5_vl_text": ("qwen2_5_vl", "Qwen2_5_VLAttention", "Qwen2_5_VLRotaryEmbedding"),
    "qwen3_vl_text": ("qwen3_vl", "Qwen3VLTextAttention", "Qwen3VLTextRotaryEmbedding"),
    "ernie4_5_vl_moe_text": ("ernie4_5_vl_moe", "Ernie4_5_VLMoeTextAttention", "Ernie4_5_VLMoeTextRotaryEmbedding"),
    "gemma": ("gemma", "GemmaAttention", "GemmaRotaryEmbedding"),
    "gemma2": ("gemma2", "Gemma2Attention", "Gemma2RotaryEmbedding"),
    "gemma3_text": ("gemma3", "Gemma3Attention", "Gemma3RotaryEmbedding"),
    "gemma4_text": ("gemma4", "Gemma4TextAttention", "Gemma4TextRotaryEmbedding"),
    "gpt_neox": ("gpt_neox", "GPTNeoXAttention", "GPTNeoXRotaryEmbedding"),
    "gptj": ("gptj", "GPTJAttention", None),
    "gpt_oss": ("gpt_oss", "GptOssAttention", "GptOssRotaryEmbedding"),
    "phi": ("phi", "PhiAttention", "PhiRotaryEmbedding"),
    "phi3": ("phi3", "Phi3Attention", "Phi3RotaryEmbedding"),
    "stablelm": ("stablelm", "StableLmAttention", "StableLmRotaryEmbedding"),
    "cohere": ("cohere", "CohereAttention", "CohereRotaryEmbedding"),
    "cohere2": ("cohere2", "Cohere2Attention", "Cohere2RotaryEmbedding"),
    "glm": ("glm", "GlmAttention", "GlmRotaryEmbedding"),
    "deepseek_v2": ("deepseek_v2", "DeepseekV2Attention", "DeepseekV2RotaryEmbedding"),
    "deepseek_v3": ("deepseek_v3", "DeepseekV3Attention", "DeepseekV3RotaryEmbedding"),
    "llama4_text": ("llama4", "Llama4TextAttention", "Llama4TextRotaryEmbedding"),
    "falcon": ("falcon", "FalconAttention", "FalconRotaryEmbedding"),
    "roformer": ("roformer", "RoFormerSelfAttention", None),
    "bloom": ("bloom", "BloomAttention", None),
    "mpt": ("mpt", "MptAttention", None),
    "gpt2": ("gpt2", "GPT2Attention", None),
    "opt": ("opt", "OPTAttention", None),
    "bert": ("bert", "BertSelfAttention", None),
    "roberta": ("roberta", "RobertaSelfAttention", None),
    "t5": ("t5", "T5Attention", None),
    "mt5": ("mt5", "MT5Attention", None),
    "umt5": ("umt5", "UMT5Attention", None),
    "pix2struct_text_model": ("pix2struct", "Pix2StructTextAttention", None),
    "xlnet": ("xlnet", "XLNetRelativeAttention", None),
    "deberta": ("deberta", "DisentangledSelfAttention", None),
    "deberta-v2": ("deberta_v2", "DisentangledSelfAttention", None),
    "mpnet": ("mpnet", "MPNetSelfAttention", None),
    "swin": ("swin", "SwinAttention", None),
    "swinv2": ("swinv2", "Swinv2SelfAttention", None),
    "beit": ("beit", "BeitAttention", None),
}
ENCODERS = {"roformer", "bert", "roberta", "deberta", "deberta-v2", "mpnet", "swin", "swinv2", "beit", "xlnet"}
STACKS = {"t5": True, "mt5": True, "umt5": True}


class Seen:
    """A cache that holds every key before the one query of the call."""

    is_sliding = [False]

    def __init__(self, query):
        self.query = query

    def get_query_offset(self, _layer=None):
        return self.query

    def get_seq_length(self, _layer=None):
        return self.query

    def get_mask_sizes(self, q_length, _layer=None):
        return self.query + q_length, 0


def run(row):
    """Key indices of one mask row, which are always one run here."""
    seen = torch.nonzero(row).flatten().tolist()
    assert seen == list(range(seen[0], seen[-1] + 1))
    return seen[0], seen[-1] + 1


def visible(config, layer, causal):
    if not causal:
        # An encoder without a padding mask: the library builds none, or all zeros.
        return [[0, 40, 0, 40], [39, 40, 0, 40]]
    window = getattr(config, "sliding_window", None) or 0
    chunk = getattr(config, "attention_chunk_size", None) or 0
    queries = {0, 5, 9000}
    for edge in (window, chunk):
        queries |= {q for q in (edge - 2, edge - 1, edge, 2 * edge + 5) if edge and q >= 0}
    types = getattr(config, "layer_types", None)
    rows = []
    if config.model_type == "gemma3_text" and config.use_bidirectional_attention:
        # As Gemma3TextModel.forward asks for them.
        gemma3 = importlib.import_module("transformers.models.gemma3.modeling_gemma3")
        n = 3 * window
        args = (config, torch.zeros(1, n, 1), None, None)
        if types[layer] == "full_attention":
            mask = masking_utils.create_causal_mask(*args, or_mask_function=lambda *_: torch.tensor(True))
        else:
            overlay = gemma3._bidirectional_window_overlay(window)
            mask = masking_utils.create_sliding_window_causal_mask(*args, or_mask_function=overlay)
        return [[q, n, *run(mask[0, 0, q] == 0)] for q in (0, window // 2, window, n - 1)]
    for q in sorted(queries):
        x = torch.zeros(1, 1, 1)
        masks = masking_utils.create_masks_for_generate(config, x, None, Seen(q))
        mask = masks[types[layer]] if isinstance(masks, dict) else masks
        rows.append([q, q + 1, *run(mask[0, 0, 0] == 0)])
    return rows


def rotary(config, module, name, layer, seq_len):
    """inv_freq, attention factor and streams as the rotary module of the layer uses them."""
    if name is None:
        if config.model_type == "gptj":
            sincos = module.create_sinusoidal_positions(2, config.rotary_dim)[1]
        elif config.model_type == "roformer":
            head = config.hidden_size // config.num_attention_heads
            sincos = torch.tensor(module.RoFormerSinusoidalPositionalEmbedding(2, head).create_weight()[1])
        else:
            return None
        sin, cos = sincos.double().chunk(2)
        return torch.atan2(sin, cos), 1.0, [0] * len(sin)
    embedding = getattr(module, name)(config)
    kind = config.layer_types[layer] if hasattr(embedding, "full_attention_inv_freq") else None
    # At position 1 the angle of a pair is its frequency, and the length of (cos, sin) the attention factor.
    three = torch.eye(3, dtype=torch.long).view(3, 1, 3)
    positions = three if hasattr(embedding, "mrope_section") else torch.tensor([[1]])
    x = torch.zeros(1, 1, 1, dtype=torch.float32)
    if seq_len is not None:
        embedding(x, torch.tensor([[seq_len - 1]]))
        inv_freq = embedding.inv_freq
        return inv_freq.double(), embedding.attention_scaling, [0] * len(inv_freq)
    if config.model_type in ("deepseek_v2", "llama4_text"):  # complex numbers
        freqs = embedding(x, positions)
        cos, sin = freqs.real, freqs.imag
    else:
        cos, sin = embedding(x, positions, *([kind] if kind else []))
    angle, size = torch.atan2(sin.double(), cos.double()), torch.hypot(sin.double(), cos.double())
    angle, size = angle.view(-1, angle.shape[-1]), size.view(-1, size.shape[-1])
    if config.model_type in ("ernie4_5_vl_moe_text", "cohere", "cohere2"):  # every pair twice in a row
        angle, size = angle[:, ::2], size[:, ::2]
    elif cos.shape[-1] != getattr(embedding, "inv_freq", angle[0, : angle.shape[-1] // 2]).shape[-1]:
        angle, size = angle[:, : angle.shape[-1] // 2], size[:, : size.shape[-1] // 2]
    streams = angle.argmax(0).tolist() if len(angle) > 1 else [0] * angle.shape[-1]
    buffer = getattr(embedding, f"{kind}_inv_freq" if kind else "inv_freq").double()
    if config.model_type != "ernie4_5_vl_moe_text":
        assert torch.allclose(angle.max(0).values, buffer, rtol=1e-5, atol=1e-9)
    else:
        buffer = angle.max(0).values
    factor = getattr(embedding, f"{kind}_attention_scaling" if kind else "attention_scaling")
    assert abs(size.max().item() - factor) < 1e-6
    return buffer, factor, streams


def attention(config, module, name, layer):
    cls = getattr(module, name)
    with torch.device("meta"):
        if config.model_type in ("t5", "mt5", "umt5", "pix2struct_text_model"):
            return cls(config, has_relative_attention_bias=True)
        if config.model_type in ("swin", "swinv2"):
            stage = [s for s, depth in enumerate(config.depths) for _ in range(depth)][layer]
            return cls(config, config.embed_dim << stage, config.num_heads[stage], config.window_size)
        if config.model_type in ("bert", "roberta", "roformer", "deberta", "deberta-v2", "mpnet", "xlnet", "beit"):
            return cls(config)
        return cls(config, layer)


def scale(config, a):
    kind = config.model_type
    if kind == "gptj":
        return 1.0 / a.scale_attn
    if kind in ("bloom", "falcon"):
        return a.inv_norm_factor
    if kind == "mpt":
        return a.softmax_scale
    if kind == "xlnet":
        return a.scale
    if kind in ("deberta", "deberta-v2"):  # computed in forward: 1 / sqrt(head_dim * (1 + terms))
        terms = sum(term in a.pos_att_type for term in ("c2p", "p2c"))
        return (a.attention_head_size * (1 + terms)) ** -0.5
    if kind in ("roformer", "mpnet"):  # computed in forward
        return a.attention_head_size**-0.5
    if kind == "swinv2":  # cosine attention: per head, from logit_scale
        return 1.0
    return a.scaling


def entry(config, layer, stack, seq_len):
    package, name, rotary_name = CLASSES[config.model_type]
    module = importlib.import_module(f"transformers.models.{package}.modeling_{package}")
    decoder = stack != "encoder" and config.model_type not in ENCODERS
    a = attention(config, module, name, layer or 0)
    first = lambda *names: next(getattr(a, n) for n in names if hasattr(a, n))
    head_dim = first("qk_head_dim", "attention_head_size", "head_dim", "head_size", "d_head", "key_value_proj_dim")
    head_dim = int(head_dim)
    out = {"layer": layer, "stack": stack, "seq_len": seq_len}
    heads = kv_heads = None
    if hasattr(a, "q_proj") and hasattr(a, "k_proj"):
        heads, kv_heads = a.q_proj.out_features // head_dim, a.k_proj.out_features // head_dim
    elif config.model_type == "falcon":
        heads, kv_heads = a.num_heads, a.num_kv_heads if a.new_decoder_architecture or not a.multi_query else 1
    elif config.model_type == "phi3":
        heads, kv_heads = config.num_attention_heads, a.num_key_value_heads
    else:
        heads = kv_heads = first("num_attention_heads", "num_heads", "n_heads", "n_head") if any(
            hasattr(a, n) for n in ("num_attention_heads", "num_heads", "n_heads", "n_head")
        ) else config.num_attention_heads
    out |= {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "v_head_dim": getattr(a, "v_head_dim", head_dim)}
    out["scale"] = scale(config, a)
    norm = getattr(a, "qk_norm", None) or getattr(a, "q_norm", None)
    if norm is not None and not isinstance(norm, torch.nn.LayerNorm):
        eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
        out["norm"] = {"eps": eps, "weights": hasattr(norm, "weight"), "after_rotation": hasattr(a, "qk_norm")}
    out["sinks"] = hasattr(a, "sinks")
    out["cap"] = getattr(a, "attn_logit_softcapping", None)
    no_rope = config.model_type == "llama4_text" and not a.use_rope
    no_rope |= config.model_type == "cohere2" and a.sliding_window is None
    no_rope |= config.model_type == "falcon" and config.alibi
    if config.model_type == "llama4_text" and no_rope and a.attn_temperature_tuning:
        out["temperature"] = {"scale": a.attn_scale, "floor": a.floor_scale}
    turned = None if no_rope else rotary(config, module, rotary_name, layer or 0, seq_len)
    if turned is not None:
        inv_freq, factor, streams = turned
        out["inv_freq"] = [float(f"{x:.9g}") for x in inv_freq.tolist()]
        out["attention_factor"] = float(factor)
        out["streams"] = streams if any(streams) else []
    out["visible"] = visible(config, layer or 0, decoder)
    return out


def layers(config):
    if config.model_type in ("swin", "swinv2"):
        return [0, 1, 2, sum(config.depths) - 1]
    types = getattr(config, "layer_types", None)
    if types is None or len(set(types)) == 1:
        return [None]
    picked = {types.index(kind) for kind in set(types)}
    return sorted(picked | {max(picked) + 1, len(types) - 1} & set(range(len(types))))


def merged(into, changes):
    """Dictionaries within dictionaries are merged, everything else is replaced."""
    for key, value in changes.items():
        into[key] = merged(into[key], value) if isinstance(value, dict) and isinstance(into.get(key), dict) else value
    return into


def main(names):
    os.makedirs(f"{HERE}/expected", exist_ok=True)
    os.makedirs(f"{HERE}/v5", exist_ok=True)
    variants = json.load(open(f"{HERE}/variants.json"))
    for name in [*json.load(open(f"{HERE}/sources.json")), *variants]:
        if names and name not in names:
            continue
        if name in DEFAULTS:
            config = CONFIG_MAPPING[DEFAULTS[name]]()
        else:
            base, changes = variants.get(name, (name, {}))
            raw = merged(json.load(open(f"{HERE}/{base}.json")), changes)
            if raw["model_type"] in ABSENT:
                continue
            if raw["model_type"] == "llama4":  # published when the class took a number, which counts as true
                raw["text_config"]["attn_temperature_tuning"] = bool(raw["text_config"]["attn_temperature_tuning"])
            config = CONFIG_MAPPING[raw["model_type"]].from_dict(raw)
        with tempfile.TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            saved = json.load(open(f"{folder}/config.json"))
        saved.pop("vision_config", None)
        saved.pop("audio_config", None)
        for path in [] if name in variants else [f"{HERE}/v5/{name}.json"] + ([f"{HERE}/{name}.json"] if name in DEFAULTS else []):
            with open(path, "w") as file:
                file.write(json.dumps(saved, indent=2, sort_keys=True) + "\n")
        config = config.get_text_config()
        config._attn_implementation = "eager"
        entries = []
        for layer in layers(config):
            for stack in ["encoder", "decoder"] if config.model_type in STACKS else [None]:
                entries += [entry(config, layer, stack, n) for n in [None, *SEQ_LENS.get(name, [])]]
        with open(f"{HERE}/expected/{name}.json", "w") as file:
            lines = ",\n ".join(json.dumps(e) for e in entries)
            file.write(f"[{lines}]\n")
        print(name, [e["layer"] for e in entries])


if __name__ == "__main__":
    main(sys.argv[1:])
