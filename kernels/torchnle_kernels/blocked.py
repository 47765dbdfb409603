"""The operators in plain PyTorch, in blocks small enough for the cache: what runs on a CPU.

A head's logits are never all in memory. While its outputs pass in blocks, each row keeps a reference near
its running maximum and its sum of exp(logits - reference) (online softmax: Milakov & Gimelshein, 2018).
The reference is subtracted inside the matrix product, as the initial value of its accumulator. So even
where products come back in bfloat16, logits near the maximum, which are near zero then, keep their digits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from torchnle_kernels.reference import accumulator

#: Logits in memory at a time: 512 x 2048 float32 = 4 MiB.
_ROWS, _OUTPUTS = 512, 2048

#: How far, in nats, bfloat16 logits may lie above their reference: rounding moves them by 2^-9 of that.
_MARGIN = 0.125


def linear_lse(
    h: Tensor, weight: Tensor, bias: Tensor | None, need_argmax: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `reference.linear_lse`; 4 MiB of logits at a time."""
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
    """See `reference.linear_lse_mu`; one pass, each block's logits used twice while they are in the cache."""
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
    """See `reference.short_decode_attention`; PyTorch's own attention over the keys that some row sees."""
    longest = int(lengths.max()) if lengths.numel() else 0
    taken = slice(None, q.shape[0]) if rows is None else rows
    keys, values = k[taken, :, :longest], v[taken, :, :longest]
    seen = torch.arange(longest, device=q.device) < lengths[:, None]
    mask = None
    if not seen.all():  # zero times what lies beyond a row's length could be NaN
        values = values.masked_fill(~seen[:, None, :, None], 0.0)
        keys = keys.masked_fill(~seen[:, None, :, None], 0.0)
        mask = seen[:, None, None, :]
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q[:, :, None], keys, values, mask, enable_gqa=grouped).squeeze(2)


class Online:
    """The statistics of a block of rows while the outputs pass.

    Args:
        h: The rows' hidden states, (rows, d).
        weight: The layer's weight, (outputs, d).
        need_argmax: Whether to keep the argmax.
    """

    def __init__(self, h: Tensor, weight: Tensor, need_argmax: bool = False) -> None:
        self.dtype = accumulator(h.dtype)
        self.narrow = h.dtype == weight.dtype == torch.bfloat16 and multiplies_bfloat16(h.device)
        self.h = h if self.narrow else h.to(self.dtype)
        self.weight = weight
        self.need_argmax = need_argmax
        self.reference, self.total = (h.new_zeros(h.shape[0], dtype=self.dtype) for _ in range(2))
        self.top = torch.full_like(self.total, float("-inf"))
        self.index = torch.zeros_like(self.total, dtype=torch.int64)
        self._room = self._buffers(h.shape[0] * min(_OUTPUTS, weight.shape[0]))

    @property
    def lse(self) -> Tensor:
        """Log-sum-exp of the outputs seen so far."""
        return self.reference + self.total.log()

    def blocks(self, bias: Tensor | None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (weight block, exp(logits - reference), the factor that earlier sums were scaled by)."""
        for outputs in _slices(self.weight.shape[0], _OUTPUTS):
            block = self.weight[outputs].to(self.h.dtype)
            part = None if bias is None else bias[outputs].to(self.dtype)
            logits = self._logits(slice(None), block, part, self._room)
            factor = self._follow(logits, block, part, outputs.start)
            weights = logits.exp_()
            self.total.mul_(factor).add_(weights.sum(dim=1))
            yield block, weights, factor

    def _buffers(self, size: int) -> tuple[Tensor, Tensor]:
        """Room for matrix products in the dtype of h, and for logits: the same where the dtypes are."""
        logits = self.reference.new_empty(size)
        return (self.h.new_empty(size) if self.narrow else logits), logits

    def _logits(
        self, rows: slice | Tensor, block: Tensor, bias: Tensor | None, room: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Logits of some rows, summed in float32; bfloat16 ones less their reference, then rounded."""
        h = self.h[rows]
        shape = (h.shape[0], block.shape[0])
        products, logits = (buffer[: shape[0] * shape[1]].view(shape) for buffer in room)
        if self.narrow:
            reference = self.reference[rows, None]
            coarse = reference.to(h.dtype)
            products.copy_(-coarse.expand(shape)).addmm_(h, block.T)
            torch.sub(products, reference - coarse, out=logits)
        else:
            torch.mm(h, block.T, out=logits)
        return logits if bias is None else logits.add_(bias)

    def _follow(self, logits: Tensor, block: Tensor, bias: Tensor | None, start: int) -> Tensor:
        """Move the references of rows that this block exceeds; leave `logits` less their references."""
        before, first = self.reference, self.total == 0
        peak, place = self._highest(logits)
        if self.narrow:
            peak += before
        moves = peak.isfinite() & (first | (peak > before + (_MARGIN if self.narrow else 0.0)))
        self.reference = torch.where(moves, peak, before)
        if self.narrow:  # once more where the distance was long: now it is short
            rows = moves.nonzero().flatten()
            again = self._logits(rows, block, bias, self._buffers(rows.numel() * block.shape[0]))
            rise, place[rows] = self._highest(again)
            logits[rows] = again.sub_(rise[:, None])
            peak[rows] += rise
            self.reference[rows] += rise
        else:
            logits.sub_(self.reference[:, None])
        self.index = torch.where(peak > self.top, place + start, self.index)
        self.top = torch.maximum(self.top, peak)
        return (before - self.reference).exp_().masked_fill_(first, 0.0)

    def _highest(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self.need_argmax:
            return torch.max(logits, dim=1)[:2]
        return logits.amax(dim=1), logits.new_zeros(logits.shape[0], dtype=torch.int64)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the processor has instructions for bfloat16 products; emulated ones are slower than float32."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # on Linux x86, in recent versions
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
