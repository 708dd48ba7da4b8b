"""ONNX Runtime: `python ort.py webgpu|cpu`. Attention is the operator GroupQueryAttention, rotation included."""

import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import common

WEBGPU = sys.argv[1:] == ["webgpu"]
PROVIDER = "WebGpuExecutionProvider" if WEBGPU else "CPUExecutionProvider"
ELEMENTS = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
}
# What the operator reads on the host; everything else lies on the device before the clock starts.
HOST = ("last", "total")


class Graph:
    """A graph under construction: nodes, and the tensors they read."""

    def __init__(self):
        self.nodes, self.tensors = [], {}

    def node(self, op, inputs, outputs, **attributes):
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"n{len(self.nodes)}", **attributes))

    def session(self, outputs, constants):
        """`constants` are named tensors kept in the session; the others are inputs."""
        info = lambda name, x: helper.make_tensor_value_info(name, ELEMENTS[x.dtype], x.shape)
        graph = helper.make_graph(
            self.nodes,
            "peer",
            [info(name, x) for name, x in self.tensors.items() if name not in constants],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [onnx.numpy_helper.from_array(self.tensors[name], name) for name in constants],
        )
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = common.CORES
        options.log_severity_level = 3
        # Constants stand for resident inputs: nothing may be computed from them beforehand.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=[PROVIDER])
        if PROVIDER not in session.get_providers():
            raise RuntimeError("no WebGPU adapter that it supports (of Mesa's software drivers it needs 25 or newer)")
        return session


def tokens_first(x):
    """[heads, tokens, dim] as [1, tokens, heads * dim]."""
    return np.ascontiguousarray(x.transpose(1, 0, 2)).reshape(1, x.shape[1], -1)


def heads_first(x, heads):
    return x.reshape(x.shape[1], heads, -1).transpose(1, 0, 2)


def build(work):
    """The graph, its results with their numbers of heads, and which output may share the memory of which input."""
    graph = Graph()
    q, k, v = work.inputs()
    cos, sin = (table.astype(np.float32) for table in work.tables())
    first = work.keys - work.rows
    graph.tensors.update(q=tokens_first(q), k=tokens_first(k[:, first:]), cos=cos, sin=sin)
    if not work.attention:
        graph.tensors["positions"] = np.arange(work.rows, dtype=np.int64)[None]
        for name, heads in ("q", work.heads), ("k", work.kv_heads):
            graph.node(
                "RotaryEmbedding",
                [name, "positions", "cos", "sin"],
                [name + "_out"],
                domain="com.microsoft",
                num_heads=heads,
            )
        return graph, {"q_out": work.heads, "k_out": work.kv_heads}, {}
    graph.tensors.update(
        v=tokens_first(v[:, first:]), last=np.array([work.keys - 1], np.int32), total=np.array(work.keys, np.int32)
    )
    inputs, shared = ["q", "k", "v", "", "", "last", "total", "cos", "sin"], {}
    if work.decode:
        inputs[3:5], shared = ["past_k", "past_v"], {"present_k": "past_k", "present_v": "past_v"}
        graph.tensors.update(past_k=k[None].copy(), past_v=v[None].copy())
    if work.bias:
        inputs += ["", "bias"]
        graph.tensors["bias"] = work.bias_table()[None]
    outputs = ["out", "present_k", "present_v"]
    heads = {"num_heads": work.heads, "kv_num_heads": work.kv_heads}
    graph.node("GroupQueryAttention", inputs, outputs, domain="com.microsoft", do_rotary=1, **heads)
    return graph, {"out": work.heads}, shared


def prepare(case):
    work = common.WORKLOADS[case]
    graph, results, shared = build(work)
    constants = [name for name in graph.tensors if name not in HOST] if WEBGPU else []
    feeds = {name: x for name, x in graph.tensors.items() if name not in constants}
    answers = graph.session(results, constants).run(None, feeds)
    result = np.concatenate([heads_first(x, heads) for x, heads in zip(answers, results.values())])
    verdict = common.judge(result, work.reference())
    operator = "GroupQueryAttention, rotary" if work.attention else "RotaryEmbedding"
    note = operator + (", attention_bias" if work.bias else "")
    if WEBGPU:
        return on_device(graph, results, constants, feeds), verdict, note + (", copies the cache" if shared else "")
    return on_host(graph, results, feeds, shared), verdict, note + (", cache in place" if shared else "")


def on_device(graph, results, constants, feeds):
    """Inputs are resident; one number of each result comes back, which waits for the device."""
    bounds = {"starts": [0, 0], "ends": [1, 1], "axes": [1, 2]}
    graph.tensors.update((name, np.array(values, np.int64)) for name, values in bounds.items())
    for name in results:
        graph.node("Slice", [name, *bounds], [name + "_corner"])
    session = graph.session([name + "_corner" for name in results], [*constants, *bounds])
    return lambda: session.run(None, feeds)


def on_host(graph, results, feeds, shared):
    """Inputs and results are bound to memory of their own; a cache is written in place."""
    outputs = [*results, *shared]
    session = graph.session(outputs, [])
    binding = session.io_binding()
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(x) for name, x in feeds.items()}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in outputs:
        if name in shared:
            binding.bind_ortvalue_output(name, values[shared[name]])
        else:
            binding.bind_output(name)
    return lambda: session.run_with_iobinding(binding)


if __name__ == "__main__":
    common.serve(onnxruntime.__version__, prepare)
