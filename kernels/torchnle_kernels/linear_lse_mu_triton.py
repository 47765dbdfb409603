"""`linear_lse_mu` on a GPU in one pass: log-sum-exp and its gradient from logits computed once.

Outputs are processed in chunks. For each, a kernel writes P = exp(logits - reference) in the inputs' dtype,
with row sums and row maxima, and one matrix product adds P @ weight to mu. The reference of a row follows its
running maximum with a lag: it moves only when a chunk exceeds it by more than `_LAG`, and then only these
rows are recomputed. Both launches are queued unconditionally, and the second returns at once if nothing
moved, so that no value is read back to the host (CUDA graphs capture it).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from torchnle_kernels.linear_lse_triton import TILES, finite, flags, tile_logits

#: Outputs a chunk. No row has a reference before the first chunk, which is computed twice and so is short.
_FIRST_CHUNK, _CHUNK = 1024, 8192

#: The largest excess of a maximum over its reference: exp of it must stay far below the dtype's largest
#: number.
_LAG = {torch.float16: 8.0, torch.bfloat16: 60.0, torch.float32: 60.0}


def forward(h: Tensor, weight: Tensor, bias: Tensor | None, *, chunk: int = _CHUNK) -> tuple[Tensor, Tensor]:
    """Launch the kernels; see `reference.linear_lse_mu` for the definition."""
    rows, outputs = h.shape[0], weight.shape[0]
    reference = h.new_full((rows,), float("-inf"), dtype=torch.float32)
    total = h.new_zeros(rows, dtype=torch.float32)
    mu = h.new_zeros(h.shape, dtype=torch.float32)
    if rows == 0:
        return total, mu
    workspace = h.new_empty(rows * min(max(chunk, _FIRST_CHUNK), outputs))
    start = 0
    while start < outputs:
        stop = min(start + (chunk if start else min(chunk, _FIRST_CHUNK)), outputs)
        part = None if bias is None else bias[start:stop]
        weights = workspace[: rows * (stop - start)].view(rows, -1)
        _exponentials(h, weight[start:stop], part, reference, total, mu, weights)
        _add_product(mu, weights, weight[start:stop])
        start = stop
    shift = reference.masked_fill(reference == float("-inf"), 0.0)
    return shift + total.log(), mu / total[:, None]


def _exponentials(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    reference: Tensor,
    total: Tensor,
    mu: Tensor,
    weights: Tensor,
) -> None:
    """Fill `weights` with a chunk's exponentials; update reference, total and mu."""
    rows, outputs = weights.shape
    tiles = TILES[h.dtype]
    blocks = triton.cdiv(outputs, tiles.outputs)
    tops, sums = (h.new_empty((rows, blocks), dtype=torch.float32) for _ in range(2))
    constants = {"LAG": _LAG[h.dtype], "BLOCK_B": triton.next_power_of_2(blocks)}
    for again in (False, True):
        _exp_kernel[(triton.cdiv(rows, tiles.rows), blocks)](
            h, weight, bias, reference, weights, tops, sums, rows, outputs,
            h.stride(0), weight.stride(0), weights.stride(0), blocks,
            HAS_BIAS=bias is not None, AGAIN=again, **constants, **tiles.constants, **flags(h),
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
    _fold_kernel[(rows,)](
        tops, sums, reference, total, mu, blocks, h.shape[1],
        BLOCK_D=triton.next_power_of_2(h.shape[1]), **constants, num_warps=4,
    )  # fmt: skip


def _add_product(mu: Tensor, weights: Tensor, weight: Tensor) -> None:
    """Add weights @ weight to mu, with sums in float32."""
    if weights.dtype == torch.float32:
        mu.addmm_(weights, weight)
    elif mu.is_cuda and hasattr(torch.ops.aten.mm, "dtype"):  # torch >= 2.8
        mu += torch.mm(weights, weight, out_dtype=torch.float32)
    else:
        mu.addmm_(weights.float(), weight.float())


@triton.jit
def _moved(tops, reference, row, blocks, LAG: tl.constexpr, BLOCK_B: tl.constexpr):
    """Return the references of some rows before and after a chunk whose block maxima are `tops`."""
    place = tl.arange(0, BLOCK_B)
    values = tl.load(
        tops + row[:, None] * blocks + place[None, :], mask=place[None, :] < blocks, other=float("-inf")
    )
    top = tl.max(values, 1)
    before = tl.load(reference + row)
    return before, tl.where(top > before + LAG, top, before)


@triton.jit
def _exp_kernel(
    h, weight, bias, reference, out, tops, sums, rows, outputs, stride_h, stride_w, stride_o, blocks,
    HAS_BIAS: tl.constexpr, AGAIN: tl.constexpr, LAG: tl.constexpr, BLOCK_B: tl.constexpr,
    WIDTH: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Compute exponentials of a tile; with AGAIN only of the rows whose reference this chunk moves."""
    first_row = tl.program_id(0).to(tl.int64) * BLOCK_R
    place = tl.arange(0, BLOCK_R)
    last_row = (rows - 1 - first_row).to(tl.int32)
    row = tl.minimum(place, last_row)
    keep = place <= last_row
    reference += first_row
    if AGAIN:
        before, shift = _moved(tops + first_row * blocks, reference, row, blocks, LAG, BLOCK_B)
        keep = keep & (shift > before)
        if tl.max(keep.to(tl.int32), 0) == 0:
            return
    else:
        shift = tl.load(reference + row)
    column = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    logits = tile_logits(
        h + first_row * stride_h, weight, bias, row, column, outputs, stride_h, stride_w,
        HAS_BIAS, WIDTH, UPCAST, BLOCK_D,
    )  # fmt: skip
    values = tl.exp(logits - finite(shift)[:, None])
    where = (first_row + row)[:, None] * stride_o + column[None, :]
    tl.store(out + where, values.to(out.dtype.element_ty), mask=keep[:, None] & (column[None, :] < outputs))
    block = (first_row + row) * blocks + tl.program_id(1)
    tl.store(sums + block, tl.sum(values, 1), mask=keep)
    if not AGAIN:
        tl.store(tops + block, tl.max(logits, 1), mask=keep)


@triton.jit
def _fold_kernel(
    tops, sums, reference, total, mu, blocks, width,
    LAG: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Rescale one row's total and mu to its new reference, and add the chunk's sums."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK_B)
    before, after = _moved(tops + row * blocks, reference + row, tl.arange(0, 1), blocks, LAG, BLOCK_B)
    factor = tl.max(tl.exp(before - finite(after)), 0)
    added = tl.sum(tl.load(sums + row * blocks + place, mask=place < blocks, other=0.0), 0)
    tl.store(total + row, tl.load(total + row) * factor + added)
    tl.store(reference + row + tl.arange(0, 1), after)
    if factor != 1.0:
        step = tl.arange(0, BLOCK_D)
        values = tl.load(mu + row * width + step, mask=step < width, other=0.0)
        tl.store(mu + row * width + step, values * factor, mask=step < width)
