"""The linear layers that make a classifier's logits, found among the calls of one run by numbers alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.translators.head_trace import Call, Trace, is_linear

#: Averaged heads are the last linear layers of a model, and as few.
_MOST_HEADS = 4


@dataclass(frozen=True, eq=False)
class LinearPart:
    """A linear layer, as it stands in the logits: these are the sum of all parts.

    Args:
        name: The dotted name of the layer, or of the matrix where the model multiplies by function.
        weight: (C, D), with its share of the sum, detached.
        bias: (C,), with its share, or None.
        received: What it multiplied, (N, D), float32.
        time: When it began, in the trace's time.
        module: The layer; None where the model multiplies by function.
        clipped: Whether it is applied at every place, its negative scores are set to zero, and the mean over
            places follows (SqueezeNet).
    """

    name: str
    weight: Tensor
    bias: Tensor | None
    received: Tensor
    time: int
    module: nn.Module | None = None
    clipped: bool = False


def find_linear(run: Trace) -> list[LinearPart]:
    """The linear parts whose sum is the logits.

    Tried in this order: the last layer that gives them; the same with negative scores cut off; a weighted sum
    of the last few layers of their size (heads that are averaged or scaled); a matrix that the model holds,
    times a vector of the run, either or both of unit length (a text-made head of CLIP).

    Raises:
        ValueError: If none of these gives the logits.
    """
    linear = [call for call in run.calls if is_linear(call.module)]
    found = _by_itself(run, linear) or _weighted(run, linear) or _by_function(run)
    if found:
        return _merged(run, found)
    names = [call.name for call in linear if call.gave.shape == run.answer.shape][-3:]
    model, count = type(run.root).__name__, run.answer.shape[1]
    raise ValueError(
        f"no linear layer of {model} gives its {count} logits, by itself, clipped or averaged with others "
        f"(layers of that size: {', '.join(names) or 'none'}): they may be computed by another function. "
        "Pass the class weights and the layer yourself."
    )


def _by_itself(run: Trace, linear: list[Call]) -> list[LinearPart]:
    logits = run.answer.float()
    for call in reversed(linear):
        if run.close(call.gave, logits):
            return [_part(call, 1.0)]
    for call in reversed(linear):
        if call.clipped is not None and run.close(call.clipped, logits):
            return [replace(_part(call, 1.0), clipped=True)]
    return []


def _weighted(run: Trace, linear: list[Call]) -> list[LinearPart]:
    """The last few layers of the logits' size, if some weighted sum of theirs is the logits."""
    logits = run.answer.float()
    alike = [call for call in linear if call.gave.shape == logits.shape]
    for count in range(1, min(_MOST_HEADS, len(alike)) + 1):
        if 2 * count > logits.numel():  # a few numbers are the weighted sum of anything
            break
        chosen = alike[-count:]
        columns = torch.stack([call.gave.flatten() for call in chosen], dim=1).double()
        shares = torch.linalg.lstsq(columns, logits.double().flatten()[:, None]).solution[:, 0]
        given = (columns @ shares).view_as(logits).float()
        if torch.isfinite(shares).all() and run.close(given, logits):
            return [_part(call, share) for call, share in zip(chosen, shares.tolist(), strict=True)]
    return []


def _part(call: Call, share: float) -> LinearPart:
    weight, bias = _weight_of(call.module)
    if share != 1.0:
        weight, bias = share * weight, None if bias is None else share * bias
    return LinearPart(call.name, weight, bias, call.received, call.time, call.module)


def _weight_of(module: Any) -> tuple[Tensor, Tensor | None]:
    bias = None if module.bias is None else module.bias.detach()
    return module.weight.detach().flatten(1), bias


def _by_function(run: Trace) -> list[LinearPart]:
    logits = run.answer.float()
    if logits.numel() < 4:  # any vector would do, with the right factor
        return []
    for name, held in run.free_matrices.items():
        for weight in _oriented(held.detach(), logits.shape[1]):
            times, vectors = run.vectors(run.time, weight.shape[1])
            if not times:
                continue
            for rows in (vectors, F.normalize(vectors, dim=2)):
                for bias in (None, *_biases(run.root, name, logits.shape[1])):
                    found = _scaled(run, rows, weight, bias)
                    if found is not None:
                        index, scale = found
                        return [LinearPart(name, scale * weight, bias, rows[index], times[index])]
    return []


def _oriented(matrix: Tensor, classes: int) -> Iterator[Tensor]:
    """A matrix as class weights, (classes, width): as it is and with rows of unit length."""
    for candidate in (matrix, matrix.T):
        if candidate.shape[0] == classes:
            yield from (candidate, F.normalize(candidate, dim=1))


def _scaled(
    run: Trace,
    rows: Float[Tensor, "M N D"],
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, "C"] | None,
) -> tuple[int, float] | None:
    """Which of M vectors gives the logits by its product with the weights and a factor, and the factor."""
    logits = run.answer.float()
    wanted = logits if bias is None else logits - bias.float()
    products = rows @ weight.float().T
    tiny = torch.finfo(logits.dtype).tiny
    squares = products.square().sum((1, 2)).clamp_min(tiny)
    scales = (products * wanted).sum((1, 2)) / squares
    given = scales[:, None, None] * products + (0.0 if bias is None else bias.float())
    errors = (given - logits).abs().amax((1, 2)) / logits.abs().max().clamp_min(tiny)
    best = int(errors.argmin())
    return (best, float(scales[best])) if run.close(given[best], logits) else None


def _biases(root: nn.Module, matrix: str, classes: int) -> list[Tensor]:
    """What may be added to a matrix's product: what its own module holds beside it."""
    owner = root.get_submodule(matrix.rpartition(".")[0])
    held = (*owner.parameters(recurse=False), *owner.buffers(recurse=False))
    return [value.detach() for value in held if tuple(value.shape) == (classes,)]


def _merged(run: Trace, parts: list[LinearPart]) -> list[LinearPart]:
    """One part where all multiply the same vector (EfficientFormer's two heads)."""
    first, *others = parts
    if not others or not all(run.close(part.received, first.received) for part in others):
        return parts
    biases = [part.bias for part in parts if part.bias is not None]
    weight = torch.stack([part.weight for part in parts]).sum(0)
    name = " + ".join(part.name for part in parts)
    return [replace(first, name=name, weight=weight, bias=torch.stack(biases).sum(0) if biases else None)]
