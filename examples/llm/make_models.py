#!/usr/bin/env python3
"""Makes tiny models with random weights and what transformers computes for them: make_models.py DIR [KIND | small:KIND ...]

Needs torch and transformers 5.24. One folder a kind: config.json and model.safetensors as transformers saves them, and case.safetensors with
prompt_ids, prompt_logits [prompt, vocabulary], greedy_ids and greedy_logits [new, vocabulary], in float64, without a cache. Its metadata says
how far apart the two best logits ever were; a seed is taken for which that is more than 1e-3.
"""
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

BASE = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, max_position_embeddings=512, initializer_range=0.05, tie_word_embeddings=False, bos_token_id=1, eos_token_id=None,
            pad_token_id=0)
MOE = dict(num_experts=8, num_local_experts=8, num_experts_per_tok=2, moe_intermediate_size=32)
# of the models that the tests of this example keep
SMALL = dict(vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2, moe_intermediate_size=16)
LATENT = dict(q_lora_rank=24, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, num_key_value_heads=4, head_dim=8)
DEEPSEEK = dict(MOE, **LATENT, n_routed_experts=8, n_shared_experts=1, first_k_dense_replace=1, norm_topk_prob=True)


def yarn(original, factor=4.0, **more):
    return dict(rope_type="yarn", factor=factor, original_max_position_embeddings=original, rope_theta=10000.0, **more)


def kinds():
    sliding = ["sliding_attention", "full_attention", "sliding_attention"]
    plain = [
        "arcee", "cohere", "cohere2", "cwm", "dots1", "ernie4_5", "exaone4", "flex_olmo", "gemma", "glm", "glm4", "helium",
        "hunyuan_v1_dense", "hyperclovax", "jais2", "ministral", "nanochat", "nemotron", "olmo", "olmo2", "phi", "persimmon",
        "qwen3", "seed_oss", "stablelm", "starcoder2", "vaultgemma",
    ]
    made = {name: {} for name in plain}
    made |= {
        "llama": dict(rope_parameters=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                           original_max_position_embeddings=32, rope_theta=10000.0)),
        "mistral": dict(sliding_window=12), "granite": dict(attention_multiplier=0.25),
        "ministral3": dict(rope_parameters=yarn(256, llama_4_scaling_beta=0.1)),
        "qwen2": dict(rope_parameters=yarn(32)),
        "gemma2": dict(sliding_window=12, layer_types=sliding, query_pre_attn_scalar=24),
        "gemma3_text": dict(sliding_window=12, layer_types=sliding, query_pre_attn_scalar=24),
        "phi3": dict(sliding_window=12),
        "phi3_longrope": dict(model_type="phi3", original_max_position_embeddings=64, max_position_embeddings=512, rope_parameters=dict(
            rope_type="longrope", rope_theta=10000.0, short_factor=[1.0] * 8, long_factor=[1.0 + 0.4 * i for i in range(8)],
            original_max_position_embeddings=64)),
        "llama_dynamic": dict(model_type="llama", max_position_embeddings=48, rope_parameters=dict(
            rope_type="dynamic", factor=2.0, rope_theta=10000.0)),
        "smollm3": dict(no_rope_layers=[1, 0, 1], no_rope_layer_interval=2),
        "olmo3": dict(sliding_window=12, layer_types=sliding),
        "gpt_neox": dict(rotary_pct=0.5),
        "gptj": dict(n_embd=64, n_layer=3, n_head=4, rotary_dim=8, n_inner=96, n_positions=512),
        "gpt_oss": dict(MOE, sliding_window=12, layer_types=sliding),
        "mixtral": dict(MOE), "qwen2_moe": dict(MOE, shared_expert_intermediate_size=48), "qwen3_moe": dict(MOE, norm_topk_prob=True),
        "olmoe": dict(MOE), "granitemoe": dict(MOE, attention_multiplier=0.25), "granitemoeshared": dict(MOE, attention_multiplier=0.25, shared_intermediate_size=32),
        "ernie4_5_moe": dict(MOE, moe_num_experts=8, moe_k=2, moe_num_shared_experts=1, moe_layer_start_index=1),
        "hunyuan_v1_moe": dict(MOE, moe_topk=2), "minimax_m2": dict(MOE, rotary_dim=8),
        "glm4_moe": dict(MOE, n_routed_experts=8, n_shared_experts=1, first_k_dense_replace=1, n_group=2, topk_group=1),
        "deepseek_v3": dict(DEEPSEEK, n_group=4, topk_group=2, rope_parameters=yarn(32, mscale=1.0, mscale_all_dim=1.0)),
        "deepseek_v2": dict(DEEPSEEK, n_group=1, topk_group=1, topk_method="greedy"),
        "glm4_moe_lite": dict(DEEPSEEK, n_group=1, topk_group=1),
        "minicpm3": dict(LATENT), "youtu": dict(LATENT),
    }
    return made


def make(name, folder, prompt_len=40, new=24):
    small, name = name.startswith("small:"), name.removeprefix("small:")
    own = dict(kinds()[name])
    kind = own.pop("model_type", name)
    keys = BASE | own | (SMALL if small else {})
    if "layer_types" in keys:
        keys["layer_types"] = keys["layer_types"][:keys["num_hidden_layers"]]
    if kind in ("gpt_neox", "gptj", "persimmon"):
        del keys["head_dim"]
    if name == "gptj":
        keys = {k: v for k, v in keys.items() if k not in ("hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")}
    config = AutoConfig.for_model(kind, **keys)
    config._attn_implementation = "eager"
    for seed in range(1, 60):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for key, values in list(model.named_parameters()) + list(model.named_buffers()):
                # norms, biases and sinks say something too
                if values.dim() == 1 and "inv_freq" not in key and values.is_floating_point():
                    values.add_(0.2 * torch.randn_like(values))
        model.save_pretrained(folder)
        wide = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        ids = torch.randint(3, keys["vocab_size"], (prompt_len,)).tolist()
        with torch.no_grad():
            prompt = wide(torch.tensor([ids]), use_cache=False).logits[0].double()
            chosen, logits, gap = [], [], float("inf")
            for _ in range(new):
                last = wide(torch.tensor([ids + chosen]), use_cache=False).logits[0, -1].double()
                two = last.topk(2).values
                gap = min(gap, float(two[0] - two[1]))
                logits.append(last)
                chosen.append(int(last.argmax()))
        if gap > 1e-3 and torch.isfinite(prompt).all():
            break
    else:
        raise SystemExit(f"{name}: no seed keeps the two best logits apart")
    metadata = dict(model_class=type(wide).__name__, transformers=transformers.__version__, dtype="float64", seed=str(seed),
                    smallest_top2_gap=str(gap))
    save_file(dict(prompt_ids=torch.tensor(ids, dtype=torch.int32), prompt_logits=prompt.float().contiguous(),
                   greedy_ids=torch.tensor(chosen, dtype=torch.int32), greedy_logits=torch.stack(logits).float().contiguous()),
              folder / "case.safetensors", metadata=metadata)
    (folder / "generation_config.json").unlink(missing_ok=True)
    print(name, metadata, flush=True)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for name in sys.argv[2:] or kinds():
        try:
            make(name, root / name.replace(":", "_"))
        except Exception as error:
            print(name, "is not made:", type(error).__name__, str(error)[:300], flush=True)
