"""PyTorch on the CPU, eager: rotation by the usual rotate-half, then scaled_dot_product_attention."""

import torch
from torch.nn.functional import scaled_dot_product_attention

import common

torch.set_num_threads(common.CORES)
torch.set_grad_enabled(False)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


def prepare(case):
    work = common.WORKLOADS[case]
    q, k, v = (torch.from_numpy(x)[None] for x in work.inputs())
    cos, sin = (torch.from_numpy(table).float().repeat(1, 2) for table in work.tables())
    first = work.keys - work.rows
    cos_q, sin_q = cos[first:], sin[first:]
    heads = {"enable_gqa": True} if work.heads != work.kv_heads else {}
    note = "rotation + scaled_dot_product_attention"
    if not work.attention:
        note = "rotation, not in place"
        step = lambda: torch.cat((rotate(q, cos, sin), rotate(k, cos, sin)), 1)[0]
        timed = lambda: (rotate(q, cos, sin), rotate(k, cos, sin))
        return timed, common.judge(step().numpy(), work.reference()), note
    if work.decode:
        new_k, new_v = k[:, :, first:].clone(), v[:, :, first:].clone()

        def step():
            k[:, :, first:] = rotate(new_k, cos_q, sin_q)
            v[:, :, first:] = new_v
            return scaled_dot_product_attention(rotate(q, cos_q, sin_q), k, v, **heads)

        note += ", cache in place"
    elif work.bias:
        hidden = torch.ones(work.rows, work.keys, dtype=torch.bool).triu(1)
        mask = torch.from_numpy(work.bias_table()).masked_fill(hidden, float("-inf"))[None]
        step = lambda: scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, attn_mask=mask, **heads
        )
        note += ", attn_mask"
    else:
        step = lambda: scaled_dot_product_attention(
            rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, **heads
        )
    return step, common.judge(step()[0].numpy(), work.reference()), note


if __name__ == "__main__":
    common.serve(torch.__version__, prepare)
