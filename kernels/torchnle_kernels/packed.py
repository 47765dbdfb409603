"""The head's operators through oneDNN, whose products end in an exponential: the fast path on a CPU.

exp is no function that a product of oneDNN can end in, the logistic function is: far below zero the two are
the same, ``sigmoid(x) = exp(x) (1 - exp(x) + ...)``. So each row's logits are moved by the row's reference, a
number near its largest logit, to about -60, inside the product's float32 accumulator; what comes back are
the softmax's terms times exp(-60), in the inputs' dtype, and no logit is ever rounded or read again.

The rows are the operand that oneDNN packs, since they are few; the head's weight is read where it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

#: Terms in memory at a time, and the most rows.
_TERMS, _ROWS = 2**20, 2048

#: Where the reference is moved to: a power of two, so that a term at the reference is exact in every dtype.
_SHIFT = 86 * math.log(2)

#: A term above this is too near to one for ``sigmoid = exp`` (here to 4e-8): its row needs a new reference.
_HIGHEST = math.exp(-17)

#: Outputs that the first reference is taken from.
_PROBE = 256

#: Outputs whose largest term is kept, to find the largest logit with.
_GROUP = 16

#: In bfloat16 groups whose largest term is within rounding of the largest of all may hold the largest logit;
#: so many of them are looked at.
_RIVAL, _RIVALS = 1 - 2**-6, 4

#: Rows whose likely logits are computed again at a time.
_ROWS_AGAIN = 64


def takes(h: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether this path can take the inputs: float32 or bfloat16 on a CPU that multiplies it, no bias."""
    if h.device.type != "cpu" or h.dtype != weight.dtype or bias is not None or h.numel() == 0:
        return False
    narrow = h.dtype == torch.bfloat16 and multiplies_bfloat16()
    return (h.dtype == torch.float32 or narrow) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 products; emulated ones are slower than float32."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # on Linux x86, in recent versions
    return any(getattr(torch.cpu, name, bool)() for name in names)


def linear_lse(h: Tensor, weight: Tensor, need_argmax: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `reference.linear_lse`."""
    found = []
    for rows in _chunks(h):
        terms = Terms(rows, weight, rivals=need_argmax and h.dtype != torch.float32)
        for _ in terms.blocks():
            pass
        found.append(terms.statistics())
    lse, top, index = (torch.cat(parts) for parts in zip(*found, strict=True))
    return lse, top, index if need_argmax else torch.full_like(index, -1)


def linear_lse_mu(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.linear_lse_mu`; a block's terms are multiplied with the weight while they are there."""
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
    """A block of rows' softmax terms, exp(logit - reference - shift), while the outputs pass.

    Args:
        h: The rows' hidden states, (rows, d).
        weight: The layer's weight, (outputs, d).
        rivals: Whether groups whose largest terms are equal but for rounding are to be told apart.
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
        """Yield outputs, their terms (outputs, rows), and the factor of all before where there is one."""
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
        """Log-sum-exp, maximum and argmax; the largest term, computed again, replaces its rounded self."""
        top, index = self._largest(self.h, self.group[:, None])
        rounded = self.highest
        if len(self.peaks):
            self._tell_apart(top, index)
            rounded = self.peaks.gather(0, index[None] // _GROUP)[0]
        largest = (top - self.reference - _SHIFT).exp()
        return (self.total - rounded + largest).log() + self.reference + _SHIFT, top, index

    def _keep(self, peaks: Tensor, start: int) -> None:
        """Keep the largest term of each row; the first of equal ones."""
        highest, group = peaks.max(dim=0)
        self.group = torch.where(highest > self.highest, group + start, self.group)
        self.highest = torch.maximum(self.highest, highest)
        if len(self.peaks):
            self.peaks[start:][: len(peaks)] = peaks

    def _tell_apart(self, top: Tensor, index: Tensor) -> None:
        """Look for the largest logit of each row in all groups that rounding lets hold it."""
        rivals = (self.peaks >= self.highest * _RIVAL).sum(dim=0) > 1
        groups = self.peaks[:, rivals].topk(min(_RIVALS, len(self.peaks)), dim=0).indices.T
        groups = torch.cat([self.group[rivals, None], groups], dim=1).sort(dim=1).values
        top[rivals], index[rivals] = self._largest(self.h[rivals], groups)

    def _largest(self, h: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """The largest logit of each row in its groups (rows, some, ascending), in float32, and its output."""
        ids = (groups[:, :, None] * _GROUP + torch.arange(_GROUP)).flatten(1).clamp_(max=len(self.weight) - 1)
        logits = [
            (self.weight[some].float() * rows[:, None].float()).sum(dim=2)
            for some, rows in zip(torch.split(ids, _ROWS_AGAIN), torch.split(h, _ROWS_AGAIN), strict=True)
        ]
        top, place = torch.cat(logits).max(dim=1)
        return top, ids.gather(1, place[:, None])[:, 0]

    def _sum(self, terms: Tensor) -> Tensor:
        """In float32; in room that is there, since new memory costs more than the sum."""
        wide = self.room[: terms.numel()].view_as(terms).copy_(terms) if len(self.room) else terms
        return wide.sum(dim=0)

    def _follow(self, terms: Tensor, rows: Tensor, outputs: slice) -> Tensor:
        """Give rows that rose a new reference, and their terms; returns the factor of all terms before."""
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
        """The largest of a block's logits; twice, since the first is rounded to the inputs' dtype."""
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
        """The largest of every 16 terms of a row, (groups, rows)."""
        missing = -len(terms) % _GROUP
        padded = F.pad(terms, (0, 0, 0, missing)) if missing else terms
        return padded.view(-1, _GROUP, terms.shape[1]).amax(dim=1)


def _chunks(h: Tensor) -> tuple[Tensor, ...]:
    return h.chunk(-(-len(h) // _ROWS))


def _product(block: Tensor, packed: Tensor, offset: Tensor, end: str) -> Tensor:
    """``end(block @ rows.T + offset)``, (outputs, rows), summed in float32."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(block.contiguous(), packed, offset, end, [], "")
    return product
