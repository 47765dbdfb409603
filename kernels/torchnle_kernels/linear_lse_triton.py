"""`linear_lse` on a GPU: one program reads a slice of the outputs and writes three numbers a row.

Every program keeps the online softmax statistics (Milakov & Gimelshein, 2018) of `BLOCK_R` rows over
`tiles_per_slice` tiles of outputs in registers; a second kernel merges the slices of a row in a fixed
order. Slices depend on the number of outputs alone, so a row's result is bitwise independent of the other
rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True)
class Tiles:
    """The tile sizes of a matrix product: rows x outputs x width, warps a program, stages in flight."""

    rows: int = 128
    outputs: int = 128
    width: int = 64
    warps: int = 8
    stages: int = 3

    @property
    def constants(self) -> dict[str, int]:
        """The sizes as the kernels' compile-time arguments."""
        return {"BLOCK_R": self.rows, "BLOCK_V": self.outputs, "BLOCK_D": self.width}


#: One table for every GPU from compute capability 8.0 on; float32 takes twice the shared memory.
TILES = {
    torch.float16: Tiles(),
    torch.bfloat16: Tiles(),
    torch.float32: Tiles(rows=64, outputs=128, width=32),
}

#: Three tiles of 128 outputs a program: about one program an SM for 50,000 outputs and up to 128 rows.
_TILES_PER_SLICE = 3


def forward(
    h: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    need_argmax: bool = False,
    *,
    tiles_per_slice: int = _TILES_PER_SLICE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the kernels; see `reference.linear_lse` for the definition."""
    rows, outputs = h.shape[0], weight.shape[0]
    tiles = TILES[h.dtype]
    slices = triton.cdiv(outputs, tiles.outputs * tiles_per_slice)
    top, total = (h.new_empty((rows, slices), dtype=torch.float32) for _ in range(2))
    index = h.new_empty((rows, slices) if need_argmax else (0, 0), dtype=torch.int32)
    result = (h.new_empty(rows, dtype=torch.float32), h.new_empty(rows, dtype=torch.float32))
    token = h.new_full((rows,), -1, dtype=torch.int64)
    if rows == 0:
        return *result, token
    _slice_kernel[(triton.cdiv(rows, tiles.rows), slices)](
        h, weight, bias, top, total, index, rows, outputs, h.stride(0), weight.stride(0), slices,
        HAS_BIAS=bias is not None, NEED_ARGMAX=need_argmax, TILES_PER_SLICE=tiles_per_slice,
        **tiles.constants, **flags(h), num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    _merge_kernel[(rows,)](
        top, total, index, *result, token, slices,
        NEED_ARGMAX=need_argmax, BLOCK_S=triton.next_power_of_2(slices), num_warps=1,
    )  # fmt: skip
    return *result, token


def flags(h: Tensor) -> dict[str, int]:
    """Return the width, and whether to widen tiles first (the interpreter computes bfloat16 wrongly)."""
    return {"WIDTH": h.shape[1], "UPCAST": h.dtype == torch.bfloat16 and not h.is_cuda}


@triton.jit
def tile_logits(
    h, weight, bias, row, column, outputs, stride_h, stride_w,
    HAS_BIAS: tl.constexpr, WIDTH: tl.constexpr, UPCAST: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Compute the logits of rows x columns in float32; -inf beyond the last output."""
    step = tl.arange(0, BLOCK_D)
    inside = tl.minimum(column, outputs - 1)
    h_tile = h + row[:, None] * stride_h + step[None, :]
    w_tile = weight + inside[None, :] * stride_w + step[:, None]
    logits = tl.zeros((row.shape[0], column.shape[0]), dtype=tl.float32)
    for start in range(0, WIDTH, BLOCK_D):
        if WIDTH % BLOCK_D == 0:
            a = tl.load(h_tile)
            b = tl.load(w_tile)
        else:
            a = tl.load(h_tile, mask=step[None, :] < WIDTH - start, other=0.0)
            b = tl.load(w_tile, mask=step[:, None] < WIDTH - start, other=0.0)
        if UPCAST:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        logits = tl.dot(a, b, logits, input_precision="tf32x3")
        h_tile += BLOCK_D
        w_tile += BLOCK_D
    if HAS_BIAS:
        logits += tl.load(bias + inside).to(tl.float32)[None, :]
    return tl.where(column[None, :] < outputs, logits, float("-inf"))


@triton.jit
def finite(top):
    """Return a row's maximum as the shift of its exponentials: 0 if it is infinite, for exp(-inf) = 0."""
    return tl.where(tl.abs(top) == float("inf"), 0.0, top)


@triton.jit
def _slice_kernel(
    h, weight, bias, top_out, total_out, index_out, rows, outputs, stride_h, stride_w, slices,
    HAS_BIAS: tl.constexpr, NEED_ARGMAX: tl.constexpr, TILES_PER_SLICE: tl.constexpr, WIDTH: tl.constexpr,
    UPCAST: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    first_row = tl.program_id(0).to(tl.int64) * BLOCK_R
    first = tl.program_id(1) * (TILES_PER_SLICE * BLOCK_V)
    place = tl.arange(0, BLOCK_R)
    last_row = (rows - 1 - first_row).to(tl.int32)
    row = tl.minimum(place, last_row)  # rows beyond the last one repeat it and are not stored
    h += first_row * stride_h
    weight += first.to(tl.int64) * stride_w
    if HAS_BIAS:
        bias += first
    top = tl.full((BLOCK_R,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_R,), tl.float32)
    index = tl.zeros((BLOCK_R,), tl.int32)
    for tile in range(TILES_PER_SLICE):
        column = tile * BLOCK_V + tl.arange(0, BLOCK_V)
        logits = tile_logits(
            h, weight, bias, row, column, outputs - first, stride_h, stride_w,
            HAS_BIAS, WIDTH, UPCAST, BLOCK_D,
        )  # fmt: skip
        tile_top = tl.max(logits, 1)
        if NEED_ARGMAX:
            found = tl.min(tl.where(logits == tile_top[:, None], column[None, :], 2147483647), 1)
            index = tl.where(tile_top > top, found, index)
        new_top = tl.maximum(top, tile_top)
        shift = finite(new_top)
        total = total * tl.exp(top - shift) + tl.sum(tl.exp(logits - shift[:, None]), 1)
        top = new_top
    where = (first_row + place) * slices + tl.program_id(1)
    tl.store(top_out + where, top, mask=place <= last_row)
    tl.store(total_out + where, total, mask=place <= last_row)
    if NEED_ARGMAX:
        tl.store(index_out + where, first + index, mask=place <= last_row)


@triton.jit
def _merge_kernel(
    top_in, total_in, index_in, lse_out, top_out, index_out, slices,
    NEED_ARGMAX: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK_S)
    tops = tl.load(top_in + row * slices + place, mask=place < slices, other=float("-inf"))
    totals = tl.load(total_in + row * slices + place, mask=place < slices, other=0.0)
    top = tl.max(tops, 0)
    shift = finite(top)
    lse = shift + tl.log(tl.sum(totals * tl.exp(tops - shift), 0))
    tl.store(lse_out + row, lse)
    tl.store(top_out + row, tl.where(lse != lse, lse, top))  # the hardware's maximum skips NaN
    if NEED_ARGMAX:
        first = tl.min(tl.where(tops == top, place, slices - 1), 0)
        first = tl.where(top == float("-inf"), 0, first)
        tl.store(index_out + row, tl.load(index_in + row * slices + first).to(tl.int64))
