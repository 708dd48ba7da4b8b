#!/usr/bin/env python3
"""Writes classes.json: heads, elements of a head and scales of the attention modules of each model class, built without memory
(torch's meta device) from its default configuration. Needs transformers==5.24.0 and torch.

    venv/bin/python tests/coverage/classes.py < tests/coverage/types.json > tests/coverage/classes.json
"""
import importlib, json, os, re, sys, warnings
import torch, transformers
from transformers.configuration_utils import PretrainedConfig

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
ROOT = os.path.join(os.path.dirname(transformers.__file__), "models")
HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads", "n_head")
DIMS = ("head_dim", "attention_head_size", "head_size", "key_value_proj_dim")


def modules(folder, prefix):
    for file in sorted(os.listdir(os.path.join(ROOT, folder))):
        if file.startswith(prefix) and file.endswith(".py"):
            yield importlib.import_module(f"transformers.models.{folder}.{file[:-3]}")


def classes():
    for folder in sorted(os.listdir(ROOT)):
        if not os.path.isdir(os.path.join(ROOT, folder)) or folder.startswith("_"): continue
        for module in modules(folder, "configuration_"):
            for cls in vars(module).values():
                if isinstance(cls, type) and issubclass(cls, PretrainedConfig) and cls.__module__ == module.__name__ and vars(cls).get("model_type"):
                    yield cls.model_type, cls, folder


def built(cls, folder):
    models = [v for m in modules(folder, "modeling_") for v in vars(m).values()
              if isinstance(v, type) and issubclass(v, transformers.PreTrainedModel) and getattr(v, "config_class", None) is cls
              and v.__module__ == m.__name__ and not v.__name__.endswith("PreTrainedModel")]
    first = [v for v in models if re.search("(Model|Transformer|Encoder|Tower|Decoder)$", v.__name__)]
    for model in first + models:
        try:
            with torch.device("meta"): return model(cls())
        except Exception: continue


def facts(model):
    found = {"heads": set(), "head_dim": set(), "scale": set()}
    for module in model.modules():
        if "ttention" not in type(module).__name__: continue
        for kind, names in (("heads", HEADS), ("head_dim", DIMS), ("scale", ("scaling", "scale"))):
            for name in names:
                value = getattr(module, name, None)
                if isinstance(value, (int, float)) and not isinstance(value, bool): found[kind].add(round(value, 6))
    return {kind: sorted(values) for kind, values in found.items() if values}


def main():
    wanted = {name for names in json.load(sys.stdin).values() for name in names}
    out = {}
    for name, cls, folder in classes():
        if name not in wanted or name in out: continue
        try: model = built(cls, folder)
        except Exception: model = None
        if model is not None and (found := facts(model)): out[name] = found
    lines = [f"{json.dumps(name)}:{json.dumps(out[name], separators=(',', ':'))}" for name in sorted(out)]
    print("{\n" + ",\n".join(lines) + "\n}")


main()
