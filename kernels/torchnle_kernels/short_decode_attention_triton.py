"""`short_decode_attention` on a GPU: one program holds all keys and values of a row's key head.

With one query a row attention is bound by memory: every key and value is read once, for all query heads that
share it, and none beyond a row's length.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor


def forward(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, rows: Tensor | None) -> Tensor:
    """Launch the kernel; see `reference.short_decode_attention` for the definition."""
    batch, heads, width = q.shape
    key_heads, keys = k.shape[1:3]
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    if batch == 0:
        return out
    blocks = {"BLOCK_L": triton.next_power_of_2(keys), "BLOCK_D": triton.next_power_of_2(width)}
    _kernel[(batch, key_heads)](
        q, k, v, lengths, rows, out, width, math.log2(math.e) / math.sqrt(width),
        *q.stride()[:2], *k.stride()[:3], *v.stride()[:3],
        GROUP=heads // key_heads, HAS_ROWS=rows is not None, **blocks,
        num_warps=warps(**blocks), num_stages=1,
    )  # fmt: skip
    return out


def warps(BLOCK_L: int, BLOCK_D: int) -> int:
    """Return the number of warps with which a thread holds at most 32 numbers of keys and of values."""
    return min(max(BLOCK_L * BLOCK_D // 1024, 1), 8)


@triton.jit
def _kernel(
    q, k, v, lengths, rows, out, width, scale,
    stride_qb, stride_qh, stride_kn, stride_kh, stride_kl, stride_vn, stride_vh, stride_vl,
    GROUP: tl.constexpr, HAS_ROWS: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    source = tl.load(rows + row).to(tl.int64) if HAS_ROWS else row
    length = tl.load(lengths + row)
    key = tl.arange(0, BLOCK_L)
    step = tl.arange(0, BLOCK_D)
    seen = (key < length)[:, None] & (step < width)[None, :]
    k += source * stride_kn + head * stride_kh
    v += source * stride_vn + head * stride_vh
    keys = tl.load(k + key[:, None] * stride_kl + step[None, :], mask=seen, other=0.0).to(tl.float32)
    values = tl.load(v + key[:, None] * stride_vl + step[None, :], mask=seen, other=0.0).to(tl.float32)
    for member in tl.static_range(GROUP):
        query_head = head * GROUP + member
        query = tl.load(q + row * stride_qb + query_head * stride_qh + step, mask=step < width, other=0.0)
        scores = tl.sum(keys * (query.to(tl.float32) * scale)[None, :], 1)
        scores = tl.where(key < length, scores, float("-inf"))
        weights = tl.exp2(scores - tl.max(scores, 0))
        result = tl.sum(values * weights[:, None], 0) / tl.sum(weights, 0)
        where = (row * tl.num_programs(1) * GROUP + query_head) * width + step
        tl.store(out + where, result.to(out.dtype.element_ty), mask=step < width)
