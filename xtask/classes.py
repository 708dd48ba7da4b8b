#!/usr/bin/env python3
"""Writes src/hf/classes.jsonl: what the configuration classes of transformers take where a file says nothing.

    python3 -m venv venv && venv/bin/pip install transformers==5.24.0 && venv/bin/python xtask/classes.py

One line a model type: `names`, the class's own names of common keys; `keys`, its defaults of the keys that speak of
attention, as the fields have them (what depends on other keys is null); `parts`, the configurations within it, with what
differs from their own class. No model and no torch is needed.
"""
import dataclasses, importlib, json, os, pkgutil, re, sys
import transformers
from transformers.configuration_utils import PretrainedConfig

transformers.logging.set_verbosity_error()
# A key that speaks of attention, or of a size that attention takes. src/hf/keys.rs has the same words.
WORDS = re.compile(
    "attention|attn|head|rope|rotary|mask|window|chunk|alibi|position|causal|direction|sliding|^qk|_qk|kv|theta|relative|"
    "layer_types|layers_block|block_types|pattern|softcap|logit_cap|sink|multiplier|swa_|nope|interval|mscale|talking|"
    "query|pos_emb|^pos_|partial|temperature|log_scaling|clamp"
)
SIZES = re.compile(
    "^(hidden_sizes?|d_model|n_embd|n_embed|n_ctx|d_kv|(embed|emb|inner|hidden|attention)_dim|dim|width|hidden_dim|embedding_size|embedding_dim|"
    "(n|num|num_hidden|encoder|decoder|num_encoder|num_decoder)_?layers?|layers|depths?|image_size|patch_size|num_blocks|"
    "block_size|bi_data|clamp_len|mem_len|same_length|is_decoder|layer_norm_eps|rms_norm_eps|norm_eps|is_encoder_decoder|"
    "rms_norm_eps|.*hidden_size|.*_dim|.*_layers|.*_depth|.*_width|.*depths|scale_.*|.*norm_eps|.*_stage|spatial_merge_size|layer_norm_epsilon|epsilon|d_head|out_features)$"
)
IGNORE = re.compile("dropout|^mask_(time|feature)|token|_idx$|loss|classifier|conv_|mlp|ffn|expert|intermediate|mamba|ssm|linear_|projector|final_logit|chunk_size_feed|head_dropout|output_attentions")


def kept(key):
    return (WORDS.search(key) or SIZES.match(key)) and not IGNORE.search(key)


def plain(value):
    """As JSON has it, or nothing."""
    if isinstance(value, tuple): value = list(value)
    if value is None or isinstance(value, (bool, int, float, str)): return value
    if isinstance(value, list) and all(isinstance(x, (bool, int, float, str)) for x in value): return value
    if isinstance(value, dict) and all(isinstance(k, str) for k in value): return {k: plain(v) for k, v in value.items()}
    return None


def fields(cls):
    """The defaults of the fields, before what depends on other keys is filled in."""
    found = {}
    for f in dataclasses.fields(cls):
        if f.default is not dataclasses.MISSING: value = f.default
        elif f.default_factory is not dataclasses.MISSING: value = f.default_factory()
        else: value = None
        if not isinstance(value, PretrainedConfig): found[f.name] = plain(value)
    return found


def classes():
    """Every configuration class by its model type."""
    found = {}
    import transformers.models as models
    for package in pkgutil.iter_modules(models.__path__):
        folder = os.path.join(models.__path__[0], package.name)
        for file in sorted(os.listdir(folder)):
            if not (file.startswith("configuration_") and file.endswith(".py")): continue
            module = importlib.import_module(f"transformers.models.{package.name}.{file[:-3]}")
            for cls in vars(module).values():
                if isinstance(cls, type) and issubclass(cls, PretrainedConfig) and cls.__module__ == module.__name__:
                    if vars(cls).get("model_type"): found.setdefault(cls.model_type, cls)
    return found


def whole(cls):
    try: return cls()
    except Exception: return None


def entry(cls, known):
    keys = {k: v for k, v in fields(cls).items() if kept(k)}
    made = whole(cls)
    rope = getattr(made, "rope_parameters", None)
    if rope: keys["rope_parameters"] = plain(rope)
    elif getattr(made, "rope_theta", None) is not None: keys["rope_theta"] = made.rope_theta
    parts = {}
    for key, spec in (cls.sub_configs or {}).items():
        part = getattr(made, key, None)
        kind = getattr(spec, "model_type", "") or ""
        own = {}
        if isinstance(part, PretrainedConfig):
            kind = part.model_type
            sub = known.get(kind)
            plainest = whole(sub) if sub else None
            if plainest is not None:
                there, here = plainest.to_dict(), part.to_dict()
                own = {k: plain(v) for k, v in here.items() if kept(k) and there.get(k) != v and k not in (sub.sub_configs or {})}
        parts[key] = {"model_type": kind, **own} if part is not None else {"model_type": kind, "absent": True}
        if spec.__name__ == "AutoConfig": parts[key]["any"] = True
    out = {}
    names = {new: old for new, old in cls.attribute_map.items() if kept(new) and kept(old)}
    if names: out["names"] = names
    if keys: out["keys"] = keys
    if parts: out["parts"] = parts
    return out


def main():
    known = classes()
    # sorted, since some defaults are made from sets: the file is the same whoever writes it
    text = lambda one: json.dumps(one, separators=(",", ":"), sort_keys=True)
    rest = lambda one: "," + text(one)[1:] if one else "}"
    lines = ['{"type":' + text(t) + rest(entry(cls, known)) for t, cls in sorted(known.items())]
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src/hf/classes.jsonl")
    open(path, "w").write("\n".join(lines) + "\n")
    print(f"{len(lines)} model types of transformers {transformers.__version__}", file=sys.stderr)


main()
