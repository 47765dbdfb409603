"""Find the linear layers that compute a classifier's logits, among the calls of one run, by numbers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.heads.neck import Neck, attempt
from torchnle.heads.trace import Call, Trace, difference, is_linear

#: The largest number of averaged heads, all among the last linear layers of a model.
_MOST_HEADS = 4
#: The widest input of a module that is probed with unit vectors.
_WIDEST = 8192
#: The functions that turn logits into probabilities.
_SQUASHES: dict[str, nn.Module] = {
    "log_softmax": nn.LogSoftmax(1),
    "softmax": nn.Softmax(1),
    "sigmoid": nn.Sigmoid(),
}
#: A layer whose output differs from input x weight + bias by more is reported with that error.
_WORTH_SAYING = 1e-2


@dataclass(frozen=True, eq=False)
class LinearPart:
    """A linear layer that contributes to the logits; the logits are the sum of all parts.

    Args:
        name: The dotted name of the layer, or of the matrix if the model multiplies without a module.
        weight: (C, D), times its factor in the sum, detached.
        bias: (C,), times its factor, or None.
        received: Its input, (N, D), float32.
        time: The trace's time at which it began.
        module: The layer; None if the model multiplies without a module.
        clipped: Whether it is applied at every location, its negative scores are set to zero, and the mean
            over locations follows (SqueezeNet).
    """

    name: str
    weight: Tensor
    bias: Tensor | None
    received: Tensor
    time: int
    module: nn.Module | None = None
    clipped: bool = False


def find_linear(run: Trace) -> list[LinearPart]:
    """Find the linear layers whose sum is a classifier's logits.

    A layer is accepted if its output is its input times its weight plus its bias; a subclass of Linear may
    compute something else. Tried in this order: the last layer that gives the logits; the same with negative
    scores cut off; a module around it that is linear as a whole (adapters, a temperature); a weighted sum of
    the last few layers of that size (averaged or scaled heads); such a layer followed by a scale and shift
    per class; a matrix of the model times a vector of the run, either or both of unit length (CLIP's head of
    text embeddings, a cosine head).

    Args:
        run: The trace of one run of the classifier.

    Returns:
        The parts of the sum.

    Raises:
        ValueError: If none of these gives the logits.
    """
    alike = [call for call in run.calls if is_linear(call.module)]
    linear = [call for call in alike if _error_of(call) <= run.tolerance]
    found = (
        _by_itself(run, linear)
        or _by_wrapper(run)
        or _weighted(run, linear)
        or _rescaled(run, linear)
        or _by_function(run)
    )
    if found:
        return _merged(run, found)
    _check_squashed(run, linear)
    named = [_judged(call) for call in alike if call.gave.shape == run.answer.shape][-3:]
    model, count = type(run.root).__name__, run.answer.shape[1]
    raise ValueError(
        f"no linear layer of {model} gives its {count} logits, by itself, clipped or averaged with others "
        f"(layers of that size: {', '.join(named) or 'none'}): they may be computed by another function. "
        "Pass the class weights and the layer yourself."
    )


def _check_squashed(run: Trace, linear: Sequence[Call]) -> None:
    """Refuse probabilities, and name the layer that gives their logits."""
    for call in reversed(linear):
        for name, squash in _SQUASHES.items():
            if run.close(squash(call.gave), run.answer.float()):
                model = type(run.root).__name__
                raise ValueError(
                    f"the output of {model} is the {name} of what '{call.name}' gives, and no logits. Pass a "
                    f"model that ends with '{call.name}' (model[:-1] of an nn.Sequential), or the class "
                    "weights and the layer yourself."
                )
    _check_sums(run)


def _check_sums(run: Trace) -> None:
    """Refuse rows that are positive and add up to one, or logarithms of such, whatever they come of."""
    given = run.answer.double()
    kinds = {"probabilities": given, "logarithms of probabilities": given.exp()}
    for kind, values in kinds.items():
        sums = values.sum(dim=1)
        if (
            given.shape[1] > 1
            and values.min() >= 0
            and difference(sums, torch.ones_like(sums)) <= run.tolerance
        ):
            raise ValueError(
                f"the outputs of {type(run.root).__name__} are {kind} (their sum is one), and no logits. "
                "Pass a model without its last function, or the class weights and the layer yourself."
            )


def _error_of(call: Call) -> float:
    """Return the relative error of a layer's output against input x weight + bias.

    Layers that are not exactly PyTorch's classes are also run on vectors of noise.
    """
    weight, bias = _weight_of(call.module)
    if weight.shape != (call.gave.shape[1], call.received.shape[1]):
        return float("inf")
    affine = (weight.float(), weight.new_zeros(len(weight)).float() if bias is None else bias.float())
    error = difference(F.linear(call.received, *affine), call.gave)
    plain = type(call.module) in (nn.Linear, nn.Conv2d) or not call.single
    return error if plain else max(error, _error_on_noise(call, *affine))


def _error_on_noise(call: Call, weight: Tensor, bias: Tensor) -> float:
    """Return the relative error of x @ weight + bias against a module's output for large noise."""
    scale = 3 * call.received.square().mean().sqrt()
    noise = scale * torch.randn(4, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(scale)
    given = attempt(Neck([call.module], [call.shape]), noise)
    same = given is not None and given.shape == (4, len(weight))
    return difference(F.linear(noise, weight, bias), given) if same else 0.0  # type: ignore[arg-type]


def _judged(call: Call) -> str:
    """Describe a layer by its name and the error of its weight and bias."""
    error = _error_of(call)
    off = f" ({type(call.module).__name__}: input x weight + bias differs from its output by {error:.0%})"
    return call.name + (off if error > _WORTH_SAYING else "")


def _by_itself(run: Trace, linear: list[Call]) -> list[LinearPart]:
    logits = run.answer.float()
    for call in reversed(linear):
        if run.close(call.gave, logits):
            return [_part(call, 1.0)]
    for call in reversed(linear):
        if call.clipped is not None and run.close(call.clipped, logits):
            return [replace(_part(call, 1.0), clipped=True)]
    return []


def _by_wrapper(run: Trace) -> list[LinearPart]:
    """Find the innermost module that computes the logits from a vector by a linear map."""
    for call in (*reversed(run.calls), *run.outer):
        features = call.received.shape != call.gave.shape or is_linear(call.module)
        if call.single and features and run.close(call.gave, run.answer.float()):
            affine = _affine(run, call)
            if affine is not None:
                return [LinearPart(call.name, *affine, call.received, call.time, call.module)]
    return []


def _affine(run: Trace, call: Call) -> tuple[Tensor, Tensor] | None:
    """Return the matrix and the vector of the affine map that a module applies; None if it is not affine."""
    width = call.received.shape[1]
    if width > _WIDEST:
        return None
    probes = torch.cat([torch.zeros(1, width), torch.eye(width)]).to(call.received)
    given = attempt(Neck([call.module], [call.shape]), probes)
    if given is None or given.shape != (1 + width, call.gave.shape[1]):
        return None
    weight, bias = (given[1:] - given[0]).T.contiguous(), given[0]
    same = run.close(F.linear(call.received, weight, bias), call.gave)
    return (weight, bias) if same and _error_on_noise(call, weight, bias) <= run.tolerance else None


def _rescaled(run: Trace, linear: list[Call]) -> list[LinearPart]:
    """Combine a linear layer with an affine module per class behind it (a scale and a shift)."""
    for call in reversed(run.calls):
        if call.received.shape == call.gave.shape and run.close(call.gave, run.answer.float()):
            before = [c for c in linear if c.end <= call.time + 1 and run.close(c.gave, call.received)]
            affine = _affine(run, call) if before else None
            if affine is not None:
                part = _part(before[-1], 1.0)
                weight, bias = affine[0] @ part.weight.float(), affine[1]
                if part.bias is not None:
                    bias = bias + affine[0] @ part.bias.float()
                return [replace(part, weight=weight, bias=bias)]
    return []


def _weighted(run: Trace, linear: list[Call]) -> list[LinearPart]:
    """Find a weighted sum of the last few layers of the logits' size that equals the logits."""
    logits = run.answer.float()
    alike = [call for call in linear if call.gave.shape == logits.shape]
    for count in range(1, min(_MOST_HEADS, len(alike)) + 1):
        if 2 * count > logits.numel():  # a weighted sum of vectors can reproduce a few numbers by chance
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
    """Find the matrix whose product with a vector of the run is nearest to the logits."""
    if run.answer.numel() < 4:  # with a free factor, any vector would fit
        return []
    for held in (run.free_matrices, run.matrices):
        found = [part for name, matrix in held.items() for part in _products(run, name, matrix.detach())]
        if found:
            return [min(found, key=lambda pair: pair[0])[1]]
    return []


def _products(run: Trace, name: str, matrix: Tensor) -> Iterator[tuple[float, LinearPart]]:
    """Yield the products of a matrix with vectors of the run that give the logits, with their errors."""
    for weight in _oriented(matrix, run.answer.shape[1]):
        times, vectors = run.vectors(run.time, weight.shape[1])
        if not times:
            continue
        for rows in (vectors, F.normalize(vectors, dim=2)):
            for bias in (None, *_biases(run.root, name, run.answer.shape[1])):
                index, scale, error = _scaled(run, rows, weight, bias)
                if error <= run.tolerance:
                    yield error, LinearPart(name, scale * weight, bias, rows[index], times[index])


def _oriented(matrix: Tensor, classes: int) -> Iterator[Tensor]:
    """Yield a matrix as class weights (classes, width): as it is, and with rows of unit length."""
    for candidate in (matrix, matrix.T):
        if candidate.shape[0] == classes:
            yield from (candidate, F.normalize(candidate, dim=1))


def _scaled(
    run: Trace,
    rows: Float[Tensor, "M N D"],
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, "C"] | None,
) -> tuple[int, float, float]:
    """Find which of M vectors, times the weights and a factor, is nearest to the logits.

    Returns:
        Its index, the factor, and the error of the product.
    """
    logits = run.answer.float()
    wanted = logits if bias is None else logits - bias.float()
    products = rows @ weight.float().T
    tiny = torch.finfo(logits.dtype).tiny
    squares = products.square().sum((1, 2)).clamp_min(tiny)
    scales = (products * wanted).sum((1, 2)) / squares
    given = scales[:, None, None] * products + (0.0 if bias is None else bias.float())
    errors = (given - logits).abs().amax((1, 2)) / logits.abs().max().clamp_min(tiny)
    best = int(errors.argmin())
    return best, float(scales[best]), float(errors[best])


def _biases(root: nn.Module, matrix: str, classes: int) -> list[Tensor]:
    """Return the candidate biases of a matrix: the vectors that its own module holds."""
    owner = root.get_submodule(matrix.rpartition(".")[0])
    held = (*owner.parameters(recurse=False), *owner.buffers(recurse=False))
    return [value.detach() for value in held if tuple(value.shape) == (classes,)]


def _merged(run: Trace, parts: list[LinearPart]) -> list[LinearPart]:
    """Merge parts that multiply the same vector into one (EfficientFormer's two heads)."""
    first, *others = parts
    if not others or not all(run.close(part.received, first.received) for part in others):
        return parts
    biases = [part.bias for part in parts if part.bias is not None]
    weight = torch.stack([part.weight for part in parts]).sum(0)
    name = " + ".join(part.name for part in parts)
    return [replace(first, name=name, weight=weight, bias=torch.stack(biases).sum(0) if biases else None)]
