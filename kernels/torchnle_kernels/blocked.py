"""The operators in plain PyTorch, in blocks that fit the cache: the general implementation.

A head's logits are never all in memory. Over the blocks of outputs, each row keeps its running maximum and
its sum of exp(logits - maximum) (online softmax: Milakov & Gimelshein, 2018), in float32 or float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from torchnle_kernels.reference import accumulator

#: Logits in memory at a time: 512 x 2048 float32 = 4 MiB.
_ROWS, _OUTPUTS = 512, 2048


def linear_lse(
    h: Tensor, weight: Tensor, bias: Tensor | None, need_argmax: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `reference.linear_lse` with 4 MiB of logits at a time."""
    lse = h.new_empty(h.shape[0], dtype=accumulator(h.dtype))
    top, index = torch.empty_like(lse), torch.full_like(lse, -1, dtype=torch.int64)
    for rows in _slices(h.shape[0], _ROWS):
        online = Online(h[rows], weight, need_argmax)
        for _ in online.blocks(bias):
            pass
        lse[rows], top[rows] = online.lse, online.top
        if need_argmax:
            index[rows] = online.index
    return lse, top, index


def linear_lse_mu(h: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Compute `reference.linear_lse_mu` in one pass, using each block's cached logits twice."""
    lse = h.new_empty(h.shape[0], dtype=accumulator(h.dtype))
    mu = h.new_zeros(h.shape, dtype=lse.dtype)
    for rows in _slices(h.shape[0], _ROWS):
        online = Online(h[rows], weight)
        for block, weights, factor in online.blocks(bias):
            mu[rows].mul_(factor[:, None]).add_(weights.to(block.dtype) @ block)
        lse[rows] = online.lse
        mu[rows] /= online.total[:, None]
    return lse, mu


def short_decode_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, rows: Tensor | None) -> Tensor:
    """Compute `reference.short_decode_attention` by two products for all query heads that share keys."""
    longest = int(lengths.max()) if lengths.numel() else 0
    taken = slice(None, q.shape[0]) if rows is None else rows
    dtype = accumulator(q.dtype)
    keys, values = k[taken, :, :longest].to(dtype), v[taken, :, :longest].to(dtype)
    grouped = q.to(dtype).reshape(q.shape[0], k.shape[1], q.shape[1] // k.shape[1], q.shape[2])
    scores = (grouped * q.shape[2] ** -0.5) @ keys.transpose(2, 3)
    unseen = torch.arange(longest, device=q.device) >= lengths[:, None]
    if unseen.any():  # zero times a value beyond a row's length could be NaN
        scores = scores.masked_fill(unseen[:, None, None], float("-inf"))
        values = values.masked_fill(unseen[:, None, :, None], 0.0)
    attended: Tensor = scores.softmax(dim=-1) @ values
    return attended.reshape(q.shape).to(q.dtype)


class Online:
    """The running statistics of a block of rows over the outputs.

    Args:
        h: The rows' hidden states, (rows, d).
        weight: The layer's weight, (outputs, d).
        need_argmax: Whether to keep the argmax.
    """

    def __init__(self, h: Tensor, weight: Tensor, need_argmax: bool = False) -> None:
        self.h, self.weight = h.to(accumulator(h.dtype)), weight
        self.need_argmax = need_argmax
        self.total = self.h.new_zeros(h.shape[0])
        self.top = torch.full_like(self.total, float("-inf"))
        self.index = torch.zeros_like(self.total, dtype=torch.int64)
        self._room = self.h.new_empty(h.shape[0] * min(_OUTPUTS, weight.shape[0]))

    @property
    def lse(self) -> Tensor:
        """Return log-sum-exp of the outputs seen so far."""
        return self.total.log().add_(self.top)

    def blocks(self, bias: Tensor | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (weight block, exp(logits - maximum so far), the factor that earlier sums are scaled by)."""
        for outputs in _slices(self.weight.shape[0], _OUTPUTS):
            block = self.weight[outputs].to(self.h.dtype)
            logits = self._room[: self.h.shape[0] * block.shape[0]].view(-1, block.shape[0])
            torch.mm(self.h, block.T, out=logits)
            if bias is not None:
                logits.add_(bias[outputs].to(logits.dtype))
            factor = self._follow(logits, outputs.start)
            weights = logits.sub_(self._reference()[:, None]).exp_()
            self.total.mul_(factor).add_(weights.sum(dim=1))
            yield block, weights, factor

    def _follow(self, logits: Tensor, start: int) -> Tensor:
        """Update the maximum; return the factor for earlier sums."""
        before = self._reference()
        if self.need_argmax:
            peak, place = logits.max(dim=1)
            self.index = torch.where(peak > self.top, place + start, self.index)
        else:
            peak = logits.amax(dim=1)
        self.top = torch.maximum(self.top, peak)
        return (before - self._reference()).exp_().masked_fill_(self.total == 0, 0.0)

    def _reference(self) -> Tensor:
        """The maximum so far; zero while all outputs are banned, whose logits are -inf."""
        return self.top.masked_fill(self.top == float("-inf"), 0.0)


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
