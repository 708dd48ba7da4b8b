"""Golden cases of FIRE (Li et al. 2024, arXiv 2310.04418, equation 20 and appendix), by numpy in float64, written from the paper.

python3 fire.py writes golden/10_other/fire_*.safetensors beside itself; it takes numpy and safetensors.
"""
import json
import pathlib

import numpy
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).parent / "golden" / "10_other"


def psi(x, c):
    return numpy.log(numpy.abs(c) * x + 1.0)


def attention(q, k, v, learned, eps, causal):
    (batch, heads, q_len, dim), kv_len = q.shape, k.shape[2]
    m = numpy.arange(kv_len - q_len, kv_len, dtype=numpy.float64)[:, None]
    n = numpy.arange(kv_len, dtype=numpy.float64)[None, :]
    scale = numpy.maximum(m, numpy.abs(learned["fire_l"][0]))
    c = learned["fire_c"][0]
    x = psi(numpy.abs(m - n), c) / (psi(scale, c) + eps)
    hidden = numpy.maximum(x[..., None] * learned["fire_w1"] + learned["fire_b1"], 0.0)
    bias = numpy.moveaxis(hidden @ learned["fire_w2"].T + learned["fire_b2"], 2, 0)
    scores = numpy.einsum("bhid,bhjd->bhij", q, k) / numpy.sqrt(dim) + bias
    if causal:
        scores = numpy.where(n <= m, scores, -numpy.inf)
    weights = numpy.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return scores, weights @ v


def case(name, seed, q_len, kv_len, hidden, c, least, eps, causal):
    heads, dim = 4, 32
    rng = numpy.random.default_rng(seed)
    draw = lambda *shape, size=1.0: (size * rng.standard_normal(shape)).astype(numpy.float32)
    tensors = {"q": draw(1, heads, q_len, dim), "k": draw(1, heads, kv_len, dim), "v": draw(1, heads, kv_len, dim)}
    learned = {
        "fire_c": numpy.array([c], numpy.float32),
        "fire_l": numpy.array([least], numpy.float32),
        "fire_w1": draw(hidden),
        "fire_b1": draw(hidden),
        "fire_w2": draw(heads, hidden, size=0.5),
        "fire_b2": draw(heads),
    }
    wide = {key: value.astype(numpy.float64) for key, value in {**tensors, **learned}.items()}
    scores, out = attention(wide["q"], wide["k"], wide["v"], wide, eps, causal)
    parameters = {"head_dim": dim, "heads": heads, "eps": eps, "causal": causal, "scale": dim**-0.5}
    metadata = {
        "format_version": "1",
        "system": "FIRE",
        "case": name,
        "source": "numpy in float64, tests/fire.py, from the paper",
        "precision": "float64, cast to float32 on save",
        "semantics": "bias = b2 + w2 relu(w1 x + b1), x = ln(1 + |c| |m - n|) / (ln(1 + |c| max(m, |L|)) + eps); positions from 0",
        "parameters": json.dumps(parameters),
    }
    listed = {"expected_scores": scores.astype(numpy.float32), "expected_out": out.astype(numpy.float32)}
    save_file({**tensors, **learned, **listed}, FOLDER / f"{name}.safetensors", metadata)


case("fire_causal", 1, 27, 27, 32, 0.1, 12.0, 1e-6, True)
case("fire_two_sided", 2, 19, 41, 24, -0.7, 0.5, 1e-3, False)
