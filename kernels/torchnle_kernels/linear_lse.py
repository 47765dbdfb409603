"""`linear_lse` and `linear_lse_mu` in blocks of rows and outputs: the logits are never all in memory.

Online softmax (Milakov & Gimelshein, 2018): while the blocks of outputs pass, each row keeps its running
maximum and its sum of exponentials, rescaled whenever the maximum moves. Registered as opaque operators,
so that torch.compile and torch.export keep them whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from torchnle_kernels.reference import accumulator

#: Logits in memory at a time: 512 x 2048 float32 = 4 MiB, which stays in the cache.
_ROWS, _OUTPUTS = 512, 2048

_library = torch.library.Library("torchnle", "DEF")
_library.define(
    "linear_lse(Tensor h, Tensor weight, Tensor? bias, bool need_argmax) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    "linear_lse_mu(Tensor h, Tensor weight, Tensor? bias) -> (Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)


class _Online:
    """The running maximum and sum of exponentials of a block of rows."""

    def __init__(self, rows: int, like: Tensor) -> None:
        dtype = accumulator(like.dtype)
        self.max = torch.full((rows,), float("-inf"), dtype=dtype, device=like.device)
        self.shift = torch.zeros_like(self.max)
        self.sum = torch.zeros_like(self.max)

    def update(self, logits: Tensor) -> Tensor:
        """Take a block of logits in (overwritten by its exponentials); return the factor of older sums."""
        self.max = torch.maximum(self.max, logits.amax(dim=1))
        shift = self.max.masked_fill(self.max.isinf(), 0.0)  # so that banned outputs add exp(-inf) = 0
        factor = (self.shift - shift).exp_()
        self.sum.mul_(factor).add_(logits.sub_(shift[:, None]).exp_().sum(dim=1))
        self.shift = shift
        return factor

    @property
    def lse(self) -> Tensor:
        return self.shift + self.sum.log()


def _forward(
    h: Tensor, weight: Tensor, bias: Tensor | None, need_argmax: bool
) -> tuple[Tensor, Tensor, Tensor]:
    lse, top, index = _empty(h)
    for rows in _slices(h.shape[0], _ROWS):
        online = _Online(rows.stop - rows.start, h)
        best = index[rows].fill_(-1)
        for start, _, logits in _logit_blocks(h[rows], weight, bias):
            if need_argmax:
                value, place = logits.max(dim=1)
                torch.where(value > online.max, place + start, best, out=best)
            online.update(logits)
        lse[rows], top[rows] = online.lse, online.max
        if need_argmax:
            best.clamp_(min=0)  # a row of nothing but -inf or NaN: the lowest id
    return lse, top, index


def _forward_mu(h: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    lse = h.new_empty(h.shape[0], dtype=accumulator(h.dtype))
    mu = h.new_zeros(h.shape, dtype=lse.dtype)
    for rows in _slices(h.shape[0], _ROWS):
        online = _Online(rows.stop - rows.start, h)
        for _, block, logits in _logit_blocks(h[rows], weight, bias):
            factor = online.update(logits)
            mu[rows].mul_(factor[:, None]).addmm_(logits, block)
        lse[rows] = online.lse
        mu[rows] /= online.sum[:, None]
    return lse, mu


def _logit_blocks(h: Tensor, weight: Tensor, bias: Tensor | None) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (first output, weight block, logits of the block), all in the accumulator's type."""
    dtype = accumulator(h.dtype)
    h = h.to(dtype)
    buffer = h.new_empty(h.shape[0] * min(_OUTPUTS, weight.shape[0]))
    for outputs in _slices(weight.shape[0], _OUTPUTS):
        block = weight[outputs].to(dtype)
        logits = buffer[: h.shape[0] * block.shape[0]].view(h.shape[0], -1)
        torch.mm(h, block.T, out=logits)
        if bias is not None:
            logits += bias[outputs].to(dtype)
        yield outputs.start, block, logits


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _empty(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    lse = h.new_empty(h.shape[0], dtype=accumulator(h.dtype))
    return lse, torch.empty_like(lse), torch.empty_like(lse, dtype=torch.int64)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad_lse: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    _, mu = torch.ops.torchnle.linear_lse_mu(*ctx.saved_tensors)
    return (grad_lse[:, None] * mu).to(ctx.saved_tensors[0].dtype), None, None, None


def _save_mu(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.dtype = inputs[0].dtype
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _backward_mu(ctx: Any, grad_lse: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    (mu,) = ctx.saved_tensors
    return (grad_lse[:, None] * mu).to(ctx.dtype), None, None


def _without_autocast(function: Any) -> Any:
    """Autocast would round the products to its own type inside the operator."""

    def run(h: Tensor, *rest: Any) -> Any:
        with torch.autocast(h.device.type, enabled=False):
            return function(h, *rest)

    return run


_library.impl("linear_lse", _without_autocast(_forward), "CompositeExplicitAutograd")
_library.impl("linear_lse_mu", _without_autocast(_forward_mu), "CompositeExplicitAutograd")
torch.library.register_fake(
    "torchnle::linear_lse", lambda h, weight, bias, need_argmax: _empty(h), lib=_library
)
torch.library.register_fake(
    "torchnle::linear_lse_mu",
    lambda h, weight, bias: (_empty(h)[0], h.new_empty(h.shape, dtype=accumulator(h.dtype))),
    lib=_library,
)
torch.library.register_autograd("torchnle::linear_lse", _backward, setup_context=_save_inputs, lib=_library)
torch.library.register_autograd("torchnle::linear_lse_mu", _backward_mu, setup_context=_save_mu, lib=_library)
