"""One dry run of a classifier: what its modules received and gave, each reduced to a vector an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torchnle.running import check_hookable, forward, unwrap
from torchnle.taps import Tap, first_tensor

#: What models apply by function, without a module, between their last map and its mean.
_POINTWISE = (nn.ReLU, nn.SiLU)
#: Modules that change nothing in evaluation: no one looks for a layer there.
_PASS_THROUGH = (nn.Identity, nn.modules.dropout._DropoutNd)
#: The most tokens without place that may stand before the averaged ones.
_MOST_PREFIX = 16


@dataclass(frozen=True, eq=False)
class Reading:
    """One way to read an activation with places as one vector an image.

    Args:
        tap: Where the activation is read.
        places: Their number, as "7x7" or "196".
        layout: The order of the axes under this reading.
        pooling: "mean" = over the places; "token" = the first token.
        vector: The vectors, (N, D), float32.
        num_prefix_tokens: How many tokens the mean leaves out in front; None where it is not known.
        pointwise: The function applied before the mean, or None.
    """

    tap: Tap
    places: str
    layout: Literal["NCHW", "NHWC", "NLD"]
    pooling: Literal["mean", "token"]
    vector: Tensor
    num_prefix_tokens: int | None = None
    pointwise: type[nn.Module] | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module without children, of one vector an image to another.

    Args:
        name: The module's dotted name.
        module: The module.
        shape: The shape of one image's input.
        received: The input as (N, D), float32: flattened, or for a linear layer the mean over its places.
        gave: The output in the same way.
        readings: How many readings were taken before the module ran.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    received: Tensor
    gave: Tensor
    readings: int


@dataclass
class Trace:
    """The calls and readings of one forward, in the order in which they happened.

    Args:
        batch_size: The number of images.
        calls: The calls.
        readings: The readings.
        runs: How often each module ran; only what ran once can be tapped.
        logits: What the model returned, (N, classes).
    """

    batch_size: int
    calls: list[Call] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    runs: Counter[nn.Module] = field(default_factory=Counter)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))

    def latest_reading(self, vector: Tensor, before: Call) -> Reading | None:
        """The latest reading before a call that equals a vector; outputs and plain means go first."""
        once = (r for r in self.readings[: before.readings] if self.runs[r.tap.module] == 1)
        found = [reading for reading in once if self.close(reading.vector, vector)]
        if not found:
            return None
        ranks = [(r.pointwise is None, r.tap.at == "output", place) for place, r in enumerate(found)]
        best = found[ranks.index(max(ranks))]
        same = [r for r in found if r.tap == best.tap and r.pointwise == best.pointwise]
        return min(same, key=lambda r: difference(r.vector, vector))

    def producer(self, vector: Tensor, before: Call) -> Call | None:
        """The latest call before another that made a vector out of a different vector."""
        for call in reversed(self.calls[: self.calls.index(before)]):
            single = call.received.shape[1] == prod(call.shape)
            if single and self.close(call.gave, vector) and not self.close(call.received, vector):
                return call
        return None

    def close(self, value: Tensor, expected: Tensor) -> bool:
        """Whether two tensors agree to three quarters of the digits of the logits' dtype."""
        if value.shape != expected.shape:
            return False
        return difference(value, expected) <= float(torch.finfo(self.logits.dtype).eps ** 0.75)


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Run a classifier once and keep the vectors that its head may have received.

    Args:
        model: The classifier.
        example: Images, (N, channels, height, width).

    Raises:
        ValueError: If the model gives no logits of shape (N, classes).
        RuntimeError: If hooks cannot work on the model.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> [call.name for call in trace(model, torch.ones(1, 3, 9, 9)).calls]
        ['2', '3']
    """
    root, found = unwrap(model) or model, Trace(example.shape[0])
    check_hookable(root, root.modules())
    with ExitStack() as hooks, torch.no_grad():
        for name, module in root.named_modules():
            if name and not isinstance(module, _PASS_THROUGH):
                _watch(found, name, module, hooks)
        found.logits = _logits(forward(root, example), type(root).__name__)
    return found


def is_linear(module: nn.Module) -> bool:
    """Whether a module can be a head: a linear layer, or a 1x1 convolution.

    Example:
        >>> is_linear(nn.Linear(2, 2)), is_linear(nn.Conv2d(2, 2, 1)), is_linear(nn.Conv2d(2, 2, 3))
        (True, True, False)
    """
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def difference(value: Tensor, expected: Tensor) -> float:
    """The largest absolute difference, relative to the largest absolute value expected.

    Example:
        >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        0.5
    """
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((value - expected).abs().max() / scale)


def _logits(output: Any, model_name: str) -> Tensor:
    logits = first_tensor(getattr(output, "logits", output))
    if logits is None or logits.ndim != 2:
        given = type(output).__name__ if logits is None else f"shape {tuple(logits.shape)}"
        raise ValueError(f"{model_name} gave {given}; a classifier gives logits of shape (N, classes).")
    return logits


def _watch(found: Trace, name: str, module: nn.Module, hooks: ExitStack) -> None:
    """Note what a module receives and gives for as long as `hooks` is open."""
    leaf = is_linear(module) or next(module.children(), None) is None
    waiting: list[tuple[tuple[int, ...], Tensor | None, int]] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = first_tensor((*args, *kwargs.values()))
        shape = () if value is None else tuple(value.shape[1:])
        found.readings += _readings(value, Tap(name, module, "input"), found.batch_size)
        waiting.append((shape, _as_vector(value, module, found.batch_size), len(found.readings)))

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        found.runs[module] += 1
        if leaf:
            shape, received, count = waiting.pop()
            gave = _as_vector(output, module, found.batch_size)
            if received is not None and gave is not None:
                found.calls.append(Call(name, module, shape, received, gave, count))
        found.readings += _readings(output, Tap(name, module), found.batch_size)

    if leaf:
        hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
    hooks.callback(module.register_forward_hook(after).remove)


def _is_batch(value: Any, batch_size: int) -> bool:
    if not isinstance(value, Tensor) or value.ndim not in (2, 3, 4):
        return False
    return value.is_floating_point() and value.shape[0] == batch_size


def _as_vector(value: Any, module: nn.Module, batch_size: int) -> Tensor | None:
    return _vector_of(value, module) if _is_batch(value, batch_size) else None


def _vector_of(value: Tensor, module: nn.Module) -> Tensor | None:
    if is_linear(module):
        channels = 1 if isinstance(module, nn.Conv2d) else -1
        return (
            value.float().movedim(channels, 1).flatten(2).mean(2) if value.ndim > 2 else value.float().clone()
        )
    single = max(value.shape[1:]) == prod(value.shape[1:])
    return value.float().flatten(1).clone() if single else None


def _readings(value: Any, tap: Tap, batch_size: int) -> Iterator[Reading]:
    if not _is_batch(value, batch_size):
        return
    if value.ndim == 4:
        yield from _map_readings(value.float(), tap)
    elif value.ndim == 3 and value.shape[1] > 1:
        yield from _token_readings(value.float(), tap)


def _map_readings(value: Tensor, tap: Tap) -> Iterator[Reading]:
    _, first, middle, last = value.shape
    for pointwise in (None, *_POINTWISE):
        shown = value if pointwise is None else pointwise()(value)
        if middle * last > 1:
            yield Reading(tap, f"{middle}x{last}", "NCHW", "mean", shown.mean((2, 3)), 0, pointwise)
        if first * middle > 1:
            yield Reading(tap, f"{first}x{middle}", "NHWC", "mean", shown.mean((1, 2)), 0, pointwise)


def _token_readings(value: Tensor, tap: Tap) -> Iterator[Reading]:
    count = value.shape[1]
    yield Reading(tap, str(count), "NLD", "token", value[:, 0].clone())
    for prefix in range(min(_MOST_PREFIX, count - 2) + 1):
        yield Reading(tap, str(count - prefix), "NLD", "mean", value[:, prefix:].mean(1), prefix)
