"""ggml on the CPU by ggml-python: ggml_rope_ext, then ggml_flash_attn_ext. Keys, values and cache are float32."""

import ctypes

import common
import ggml
import numpy as np

NEOX = 2  # half-split pairs
TENSORS = 64


def checked(value, what):
    if not value:
        raise RuntimeError(f"{what} failed")
    return value


BACKEND = checked(ggml.ggml_backend_cpu_init(), "ggml_backend_cpu_init")
ggml.ggml_backend_cpu_set_n_threads(BACKEND, common.CORES)
POOL_PARAMS = ggml.ggml_threadpool_params_default(common.CORES)
POOL = checked(ggml.ggml_threadpool_new(ctypes.byref(POOL_PARAMS)), "ggml_threadpool_new")
ggml.ggml_backend_cpu_set_threadpool(BACKEND, POOL)


class Graph:
    """Tensors and operations of one workload; memory follows once all are known."""

    def __init__(self):
        room = TENSORS * ggml.ggml_tensor_overhead() + ggml.ggml_graph_overhead()
        params = ggml.ggml_init_params(mem_size=room, mem_buffer=None, no_alloc=True)
        self.context = checked(ggml.ggml_init(params), "ggml_init")
        self.graph = ggml.ggml_new_graph(self.context)
        self.inputs = []

    def input(self, x):
        """A tensor with the values of an array, whose last axis is the tensor's first."""
        kind = {"float32": ggml.GGML_TYPE_F32, "float16": ggml.GGML_TYPE_F16, "int32": ggml.GGML_TYPE_I32}[x.dtype.name]
        shape = (ctypes.c_int64 * x.ndim)(*reversed(x.shape))
        tensor = ggml.ggml_new_tensor(self.context, kind, x.ndim, shape)
        self.inputs.append((tensor, np.ascontiguousarray(x)))
        return tensor

    def rotate(self, x, positions, dim):
        return ggml.ggml_rope_ext(self.context, x, positions, None, dim, NEOX, 0, common.BASE, 1.0, 0.0, 1.0, 0.0, 0.0)

    def wanted(self, tensor):
        ggml.ggml_build_forward_expand(self.graph, tensor)

    def allocate(self):
        checked(ggml.ggml_backend_alloc_ctx_tensors(self.context, BACKEND), "ggml_backend_alloc_ctx_tensors")
        for tensor, x in self.inputs:
            ggml.ggml_backend_tensor_set(tensor, x.ctypes.data_as(ctypes.c_void_p), 0, x.nbytes)

    def compute(self):
        if ggml.ggml_backend_graph_compute(BACKEND, self.graph) != 0:
            raise RuntimeError("ggml_backend_graph_compute failed")


def read(tensor, shape):
    out = np.empty(shape, np.float32)
    ggml.ggml_backend_tensor_get(tensor, out.ctypes.data_as(ctypes.c_void_p), 0, out.nbytes)
    return out.transpose(1, 0, 2)  # [tokens, heads, dim] to heads first


def prepare(case):
    work = common.WORKLOADS[case]
    graph = Graph()
    ctx = graph.context
    q, k, v = (x.transpose(1, 0, 2) for x in work.inputs())
    first = work.keys - work.rows
    positions = graph.input(np.arange(first, work.keys, dtype=np.int32))
    q_rotated = graph.rotate(graph.input(q), positions, work.dim)
    k_rotated = graph.rotate(graph.input(k[first:]), positions, work.dim)
    if not work.attention:
        graph.wanted(q_rotated)
        graph.wanted(k_rotated)
        graph.allocate()
        graph.compute()
        result = np.concatenate([read(q_rotated, q.shape), read(k_rotated, k.shape)])
        return graph.compute, common.judge(result, work.reference()), "rope, not in place"
    note, keys, values = "rope + flash_attn_ext", k_rotated, graph.input(v)
    if work.decode:
        keys, row = graph.input(k), work.kv_heads * work.dim
        new_v = graph.input(v[first:])
        for new, cache in (k_rotated, keys), (new_v, values):
            place = ggml.ggml_view_3d(
                ctx, cache, work.dim, work.kv_heads, work.rows, work.dim * 4, row * 4, first * row * 4
            )
            graph.wanted(ggml.ggml_cpy(ctx, new, place))
        note += ", cache in place"
    mask = None
    if not work.decode:
        hidden = np.triu(np.ones((work.rows, work.keys), bool), 1)
        bias = work.bias_table() if work.bias else np.zeros((1, work.rows, work.keys), np.float32)
        mask = graph.input(np.where(hidden, -np.inf, bias).astype(np.float16))
        note += ", mask of every head" if work.bias else ""
    swapped = [ggml.ggml_permute(ctx, x, 0, 2, 1, 3) for x in (q_rotated, keys, values)]
    out = ggml.ggml_flash_attn_ext(ctx, *swapped, mask, 1 / np.sqrt(work.dim), 0.0, 0.0)
    ggml.ggml_flash_attn_ext_set_prec(out, ggml.GGML_PREC_F32)
    graph.wanted(out)
    graph.allocate()
    graph.compute()
    return graph.compute, common.judge(read(out, q.shape), work.reference()), note


if __name__ == "__main__":
    version = ggml.ggml_version().decode() if hasattr(ggml, "ggml_version") else "unknown"
    common.serve(f"{version} (ggml-python {ggml.__version__})", prepare)
