"""The head's operators by oneDNN products fused with a logistic function: the fast path on a CPU.

oneDNN cannot fuse exp with a product, but the logistic function, and far below zero the two are equal:
``sigmoid(x) = exp(x) (1 - exp(x) + ...)``. So each row's logits are shifted by the row's reference, a number
near its largest logit, to about -60, inside the product's float32 accumulator. The result is the softmax's
terms times exp(-60), in the inputs' dtype, and no logit is rounded or read again.

The rows are the operand that oneDNN packs, since they are few; the head's weight is read without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

#: Terms in memory at a time, and the largest number of rows.
_TERMS, _ROWS = 2**20, 2048

#: The target of the shift: a power of two, so that a term at the reference is exact in every dtype.
_SHIFT = 86 * math.log(2)

#: A term above this is too large for ``sigmoid = exp`` (here to 4e-8): its row needs a new reference.
_HIGHEST = math.exp(-17)

#: The number of outputs for the first reference.
_PROBE = 256

#: Outputs per group, whose largest term is kept to find the largest logit.
_GROUP = 16

#: In bfloat16, groups whose largest term is within rounding of the overall largest may hold the largest
#: logit; so many of them are checked.
_RIVAL, _RIVALS = 1 - 2**-6, 4

#: Rows whose candidate logits are recomputed at a time.
_ROWS_AGAIN = 64


def takes(h: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Return whether this path takes the inputs: float32 or bfloat16 on a CPU that multiplies it, no bias."""
    if h.device.type != "cpu" or h.dtype != weight.dtype or bias is not None or h.numel() == 0:
        return False
    narrow = h.dtype == torch.bfloat16 and multiplies_bfloat16()
    return (h.dtype == torch.float32 or narrow) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def multiplies_bfloat16() -> bool:
    """Return whether the processor has bfloat16 instructions; emulated ones are slower than float32."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # on Linux x86, in recent versions
    return any(getattr(torch.cpu, name, bool)() for name in names)


def linear_lse(h: Tensor, weight: Tensor, need_argmax: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `reference.linear_lse`."""
    found = []
    for rows in _chunks(h):
        terms = Terms(rows, weight, rivals=need_argmax and h.dtype != torch.float32)
        for _ in terms.blocks():
            pass
        found.append(terms.statistics())
    lse, top, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return lse, top, index if need_argmax else torch.full_like(index, -1)


def linear_lse_mu(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `reference.linear_lse_mu`; each block's terms are multiplied with the weight at once."""
    lses, mus = [], []
    for rows in _chunks(h):
        terms, mu = Terms(rows, weight), torch.zeros_like(rows, dtype=torch.float32)
        for outputs, block, factor in terms.blocks():
            if factor is not None:
                mu.mul_(factor[:, None])
            if h.dtype == torch.float32:
                mu.addmm_(block.T, weight[outputs])
            else:
                mu.add_(block.T @ weight[outputs])
        lses.append(terms.statistics()[0])
        mus.append(mu.div_(terms.total[:, None]))
    return torch.cat(lses), torch.cat(mus)


class Terms:
    """The softmax terms of a block of rows, exp(logit - reference - shift), over the outputs.

    Args:
        h: The rows' hidden states, (rows, d).
        weight: The layer's weight, (outputs, d).
        rivals: Whether to find the true maximum among groups whose largest terms are equal up to rounding.
    """

    def __init__(self, h: Tensor, weight: Tensor, *, rivals: bool = False) -> None:
        self.h, self.weight = h, weight
        self.step = max(_GROUP, _TERMS // len(h) // _GROUP * _GROUP)
        self.packed = self._pack(h)
        self.reference = self._highest(self.packed, weight[:_PROBE], len(h))
        self.total = torch.zeros_like(self.reference)
        self.room = torch.empty(self.step * len(h) if h.dtype != torch.float32 else 0)
        self.highest = torch.zeros_like(self.total)  # the largest term so far, and its group
        self.group = torch.zeros(len(h), dtype=torch.int64)
        self.peaks = torch.empty(-(-len(weight) // _GROUP) if rivals else 0, len(h))  # of every group

    def blocks(self) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Yield outputs, their terms (outputs, rows), and the factor for all earlier terms, or None."""
        for start in range(0, len(self.weight), self.step):
            outputs = slice(start, min(start + self.step, len(self.weight)))
            terms = self._terms(self.packed, self.weight[outputs], self.reference)
            peaks = self._peaks(terms)
            factor = None
            if bool((peaks > _HIGHEST).any()):
                factor = self._follow(terms, peaks.amax(dim=0) > _HIGHEST, outputs)
                peaks = self._peaks(terms)
            self._keep(peaks, start // _GROUP)
            self.total += self._sum(terms)
            yield outputs, terms, factor

    def statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-sum-exp, maximum and argmax; the largest term is recomputed without rounding."""
        top, index = self._largest(self.h, self.group[:, None])
        rounded = self.highest
        if len(self.peaks):
            self._tell_apart(top, index)
            rounded = self.peaks.gather(0, index[None] // _GROUP)[0]
        largest = (top - self.reference - _SHIFT).exp()
        return (self.total - rounded + largest).log() + self.reference + _SHIFT, top, index

    def _keep(self, peaks: Tensor, start: int) -> None:
        """Keep the largest term of each row, the first of equal ones."""
        highest, group = peaks.max(dim=0)
        self.group = torch.where(highest > self.highest, group + start, self.group)
        self.highest = torch.maximum(self.highest, highest)
        if len(self.peaks):
            self.peaks[start:][: len(peaks)] = peaks

    def _tell_apart(self, top: Tensor, index: Tensor) -> None:
        """Find the largest logit of each row among all groups that may hold it up to rounding."""
        rivals = (self.peaks >= self.highest * _RIVAL).sum(dim=0) > 1
        groups = self.peaks[:, rivals].topk(min(_RIVALS, len(self.peaks)), dim=0).indices.T
        groups = torch.cat([self.group[rivals, None], groups], dim=1).sort(dim=1).values
        top[rivals], index[rivals] = self._largest(self.h[rivals], groups)

    def _largest(self, h: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Return each row's largest logit in its groups (rows, some, ascending) in float32, and its id."""
        ids = (groups[:, :, None] * _GROUP + torch.arange(_GROUP)).flatten(1).clamp_(max=len(self.weight) - 1)
        logits = [
            (self.weight[some].float() * rows[:, None].float()).sum(dim=2)
            for some, rows in zip(torch.split(ids, _ROWS_AGAIN), torch.split(h, _ROWS_AGAIN), strict=True)
        ]
        top, place = torch.cat(logits).max(dim=1)
        return top, ids.gather(1, place[:, None])[:, 0]

    def _sum(self, terms: Tensor) -> Tensor:
        """Sum in float32 into existing memory, since allocation costs more than the sum."""
        wide = self.room[: terms.numel()].view_as(terms).copy_(terms) if len(self.room) else terms
        return wide.sum(dim=0)

    def _follow(self, terms: Tensor, rows: Tensor, outputs: slice) -> Tensor:
        """Update reference and terms of rows with a larger maximum; return the factor for earlier terms."""
        packed, block = self._pack(self.h[rows]), self.weight[outputs]
        before = self.reference.clone()
        self.reference[rows] = self._highest(packed, block, int(rows.sum()))
        terms[:, rows] = self._terms(packed, block, self.reference[rows])
        factor = (before - self.reference).exp_()
        self.total *= factor
        self.highest *= factor
        self.peaks[: outputs.start // _GROUP] *= factor
        return factor

    def _highest(self, packed: Tensor, block: Tensor, rows: int) -> Tensor:
        """Return the largest of a block's logits, computed again because the first is rounded."""
        highest = torch.zeros(rows)
        for _ in range(2):
            highest += _product(block, packed, -highest, "none").amax(dim=0)
        return highest

    def _terms(self, packed: Tensor, block: Tensor, reference: Tensor) -> Tensor:
        return _product(block, packed, -(reference + _SHIFT), "sigmoid")

    def _pack(self, rows: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(rows.contiguous(), self.step)
        return packed

    def _peaks(self, terms: Tensor) -> Tensor:
        """Return the largest of every 16 terms of a row, (groups, rows)."""
        missing = -len(terms) % _GROUP
        padded = F.pad(terms, (0, 0, 0, missing)) if missing else terms
        return padded.view(-1, _GROUP, terms.shape[1]).amax(dim=1)


def _chunks(h: Tensor) -> tuple[Tensor, ...]:
    return h.chunk(-(-len(h) // _ROWS))


def _product(block: Tensor, packed: Tensor, offset: Tensor, end: str) -> Tensor:
    """Compute ``end(block @ rows.T + offset)``, (outputs, rows), summed in float32."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(block.contiguous(), packed, offset, end, [], "")
    return product
