"""Trace of one dry run: the inputs and outputs of a model's modules, each reduced to one vector per image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.heads.poolings import Reading, is_batch, readings_of
from torchnle.vision.outputs import Answer, answers
from torchnle.vision.random_draws import warn_of_draws, watching
from torchnle.vision.running import check_hookable, exclusive_use, forward, of_this_thread, unwrap
from torchnle.vision.taps import Tap, first_tensor

#: Modules that change nothing in evaluation, and are not traced.
_PASS_THROUGH = (nn.Identity, nn.modules.dropout._DropoutNd)
_COMPUTED = {torch.bfloat16, torch.float16, torch.float32, torch.float64}


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module that maps one vector per image to another.

    Args:
        name: The module's dotted name.
        module: The module.
        shape: The shape of one image's input.
        received: The input as (N, D), float32: flattened, or for a linear layer the mean over its locations.
        gave: The output in the same way.
        time: The trace's time when the module began.
        end: The trace's time when it ended.
        clipped: For a linear layer on locations, the mean of the positive part of its output.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    received: Tensor
    gave: Tensor
    time: int
    end: int
    clipped: Tensor | None = None

    @property
    def single(self) -> bool:
        """True if the input is one vector per image."""
        return self.received.shape[1] == prod(self.shape)


@dataclass(frozen=True, eq=False)
class Pool:
    """One call of a module with parameters that pools locations to one vector per image.

    Args:
        tap: The module's input.
        value: Its input.
        gave: The vectors, (N, D).
        end: As for `Call`.
    """

    tap: Tap
    value: Tensor
    gave: Tensor
    end: int


@dataclass
class Trace:
    """The calls and readings of one forward, in their order in time.

    Args:
        root: The model.
        images: The shape of the example.
        readings: The readings, with the times at which they were taken.
        calls: The calls of modules without children, and of linear layers.
        outer: The calls of other modules.
        pools: The calls that pooled the locations.
        ends: The modules that computed one vector from images: a tower in a larger model.
        runs: How often each module ran; only modules that ran once can be tapped.
        answer: The model's output, (N, classes) or (N, width).
        output: All that the model gave.
    """

    root: nn.Module
    images: torch.Size
    readings: list[tuple[int, Reading]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    outer: list[Call] = field(default_factory=list)
    pools: list[Pool] = field(default_factory=list)
    ends: list[Pool] = field(default_factory=list)
    runs: Counter[nn.Module] = field(default_factory=Counter)
    answer: Tensor = field(default_factory=lambda: torch.empty(0))
    output: Any = None

    @property
    def batch_size(self) -> int:
        """The number of images."""
        return self.images[0]

    @property
    def time(self) -> int:
        """The number of calls and readings recorded so far."""
        return len(self.readings) + len(self.calls) + len(self.outer) + len(self.pools) + len(self.ends)

    @cached_property
    def tolerance(self) -> float:
        """The largest relative difference of values that count as equal: the coarsest dtype's eps ** 0.75.

        That is of the model, or of these checks, which compute in float32.
        """
        held = {p.dtype for p in self.root.parameters()} & _COMPUTED
        return float(
            max(torch.finfo(dtype).eps for dtype in held | {self.answer.dtype, torch.float32}) ** 0.75
        )

    @cached_property
    def free_matrices(self) -> dict[str, Tensor]:
        """The matrices that no linear layer has used: the model may multiply by them itself."""
        parts = self.root.named_modules()
        used = {name for name, part in parts if isinstance(part, nn.Linear) and self.runs[part]}
        return {name: value for name, value in self.matrices.items() if name.rpartition(".")[0] not in used}

    @cached_property
    def matrices(self) -> dict[str, Tensor]:
        """Every matrix of the model, under its dotted name."""
        held = (*self.root.named_parameters(), *self.root.named_buffers())
        return {name: value for name, value in held if value.ndim == 2 and value.is_floating_point()}

    def keep(
        self,
        tap: Tap,
        value: Tensor,
        received: Tensor | None,
        gave: Tensor,
        time: int,
        clipped: Tensor | None,
    ) -> None:
        """Record one call whose output is a vector per image, by its kind of input."""
        leaf = is_linear(tap.module) or next(tap.module.children(), None) is None
        if received is not None:
            shape = tuple(value.shape[1:])
            call = Call(tap.name, tap.module, shape, received, gave, time, self.time, clipped)
            (self.calls if leaf else self.outer).append(call)
        elif value.shape == self.images:
            self.ends.append(Pool(tap, value, gave, self.time))
        elif is_batch(value, self.batch_size) and next(tap.module.parameters(), None) is not None:
            self.pools.append(Pool(tap, value.clone(), gave, self.time))

    def latest_reading(self, vector: Tensor, before: int) -> Reading | None:
        """Return the latest reading before a time that equals a vector, plain means and outputs first."""
        once = (r for time, r in self.readings if time < before and self.runs[r.tap.module] == 1)
        found = [reading for reading in once if self.close(reading.vector, vector)]
        if not found:
            return None
        ranks = [
            (r.pooling != "flat", r.pointwise is None, r.plain, r.tap.at == "output", i)
            for i, r in enumerate(found)
        ]
        best = found[ranks.index(max(ranks))]
        same = [r for r in found if r.tap == best.tap and r.pointwise == best.pointwise]
        return min(same, key=lambda r: difference(r.vector, vector))

    def producers(self, vector: Tensor, before: int) -> Iterator[Call]:
        """Yield calls before a time that computed a vector from another, latest first, containers last."""
        for calls in (self.calls, self.outer):
            for call in reversed(calls):
                made = call.end <= before and call.single and self.close(call.gave, vector)
                if made and not self.close(call.received, vector):
                    yield call

    def pools_of(self, vector: Tensor, before: int) -> Iterator[Pool]:
        """Yield the modules that pooled locations into a vector before a time, the innermost first."""
        for pool in self.pools:
            once = pool.end <= before and self.runs[pool.tap.module] == 1
            if once and self.close(pool.gave, vector):
                yield pool

    def giver(self, vector: Tensor) -> Tap | None:
        """Find the innermost module whose output equals a vector, up to its norm."""
        unit = F.normalize(vector, dim=1)
        taps = [(Tap(c.name, c.module), c.gave) for c in (*self.calls, *self.outer)]
        taps += [(Tap(p.tap.name, p.tap.module), p.gave) for p in (*self.pools, *self.ends)]
        same = (tap for tap, gave in taps if self.close(F.normalize(gave, dim=1), unit))
        return next((tap for tap in same if self.runs[tap.module] == 1), None)

    def close(self, value: Tensor, expected: Tensor) -> bool:
        """Return whether two tensors agree up to `tolerance`."""
        return value.shape == expected.shape and difference(value, expected) <= self.tolerance

    def vectors(self, before: int, width: int) -> tuple[list[int], Float[Tensor, "M N D"]]:
        """Return the M vectors of a width that existed before a time, latest first, and their times."""
        candidates = [(time + 1, r.vector) for time, r in self.readings if self.runs[r.tap.module] == 1]
        for calls in (self.calls, self.outer, self.pools, self.ends):
            candidates += [(call.end, call.gave) for call in calls]
        fit = [pair for pair in candidates if pair[0] <= before and pair[1].shape[1] == width]
        fit.sort(key=lambda pair: pair[0], reverse=True)
        stacked = (
            torch.stack([vector for _, vector in fit]) if fit else torch.empty(0, self.batch_size, width)
        )
        return [time for time, _ in fit], stacked


def trace(
    model: Callable[..., Any], example: Tensor, answer: Callable[[Any, str], Tensor] | None = None
) -> Trace:
    """Run a model once and keep the vectors that its head may have received.

    Args:
        model: The model, or a bound method of one.
        example: Images, (N, channels, height, width).
        answer: Selects the vectors in the model's output; None = its logits.

    Raises:
        TypeError: If the model is a plain function.
        ValueError: If the model gives no logits of shape (N, classes).
        RuntimeError: If hooks cannot work on the model.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
        >>> [call.name for call in trace(model, torch.ones(1, 3, 9, 9)).calls]
        ['2', '3']
    """
    root = unwrap(model)
    if root is None:
        raise TypeError("the layers of a plain function cannot be traced. Pass the nn.Module itself.")
    found = Trace(root, example.shape)
    check_hookable(root, root.modules())
    with exclusive_use(root), watching() as draws, ExitStack() as hooks, torch.no_grad():
        for name, module in root.named_modules():
            if name and not isinstance(module, _PASS_THROUGH):
                _watch(found, name, module, hooks)
        output = forward(model, example)
    if draws.found:
        warn_of_draws(model, lambda: forward(model, example), output)
    found.output = output
    found.answer = (answer or first_answer(output, type(root).__name__))(output, type(root).__name__)
    return found


def is_linear(module: nn.Module) -> bool:
    """Return whether a module can be a head: a linear layer or a 1x1 convolution.

    Example:
        >>> is_linear(nn.Linear(2, 2)), is_linear(nn.Conv2d(2, 2, 1)), is_linear(nn.Conv2d(2, 2, 3))
        (True, True, False)
    """
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def difference(value: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference, relative to the largest absolute value expected.

    Example:
        >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        0.5
    """
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((value - expected).abs().max() / scale)


def first_answer(output: Any, model_name: str) -> Answer:
    """Select the entry `logits` in a classifier's output, or its first tensor.

    Raises:
        ValueError: If that is not (N, classes) or (N, classes, H, W).

    Example:
        >>> first_answer({"logits": torch.ones(1, 5)}, "model").path
        ('logits',)
    """
    return answers(output, model_name)[0]


def _watch(found: Trace, name: str, module: nn.Module, hooks: ExitStack) -> None:
    """Record the inputs and outputs of a module for as long as `hooks` is open."""
    leaf = is_linear(module) or next(module.children(), None) is None
    waiting: list[tuple[Tensor | None, Tensor | None, int]] = []

    def note(value: Any, tap: Tap, plain: bool = True) -> None:
        readings = readings_of(value, tap, found.batch_size)
        found.readings += [(found.time, replace(reading, plain=plain)) for reading in readings]

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = first_tensor((*args, *kwargs.values()))
        if leaf:
            note(value, Tap(name, module, "input"))
        waiting.append((value, _as_vector(value, module, found.batch_size), found.time))

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        found.runs[module] += 1
        value, received, time = waiting.pop()
        first = first_tensor(output)
        gave = _as_vector(first, module, found.batch_size)
        if value is not None and gave is not None:
            found.keep(Tap(name, module, "input"), value, received, gave, time, _clipped(output, module))
        note(first, Tap(name, module), plain=first is output)

    hooks.callback(module.register_forward_pre_hook(of_this_thread(before), with_kwargs=True).remove)
    hooks.callback(module.register_forward_hook(of_this_thread(after)).remove)


def _as_vector(value: Any, module: nn.Module, batch_size: int) -> Tensor | None:
    return _vector_of(value, module) if is_batch(value, batch_size) else None


def _vector_of(value: Tensor, module: nn.Module) -> Tensor | None:
    if is_linear(module):
        return _over_locations(value.float(), module).mean(2) if value.ndim > 2 else value.float().clone()
    single = max(value.shape[1:]) == prod(value.shape[1:])
    return value.float().flatten(1).clone() if single else None


def _over_locations(value: Tensor, module: nn.Module) -> Tensor:
    """Reshape to (N, channels, locations)."""
    return value.movedim(1 if isinstance(module, nn.Conv2d) else -1, 1).flatten(2)


def _clipped(output: Any, module: nn.Module) -> Tensor | None:
    if not is_linear(module) or not isinstance(output, Tensor) or output.ndim < 3:
        return None
    return _over_locations(output.float(), module).relu().mean(2)
