"""Trace a vector of a model back to a layer with locations, by numbers from one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchnle.heads.neck import Filled, Neck, Product, Unit, attempt
from torchnle.heads.poolings import Reading
from torchnle.heads.readout import Branch, Pooling, View
from torchnle.heads.trace import Pool, Trace
from torchnle.types import Layout
from torchnle.vision.taps import Tap

#: The largest number of steps between pooling and head.
_LONGEST = 24
#: How many of the nearest vectors are tried as the input of a step.
_NEAREST = 8


@dataclass(frozen=True, eq=False)
class Path:
    """The operations from one layer with locations to a vector.

    Args:
        tap: The layer.
        branch: The operations.
        pooling: The first of them.
        layout: The order of the layer's axes.
        num_prefix_tokens: Prefix tokens that a mean leaves out; None if that is not known.
        start: The first operation in words: "the mean over the 7x7 locations of the output of 'layer4'".
        given: The result for the run's images, (N, D).
    """

    tap: Tap
    branch: Branch
    pooling: Pooling
    layout: Layout
    num_prefix_tokens: int | None
    start: str
    given: Tensor


@dataclass(frozen=True, eq=False)
class _Step:
    module: nn.Module
    shape: tuple[int, ...] | None


def find_path(run: Trace, vector: Tensor, before: int) -> Path | None:
    """Trace a vector of a model back to a layer with locations; None if no path reproduces it.

    Tried at every step, in this order: a reading that equals the vector, or two readings of one layer
    concatenated; a module, a matrix or a normalisation that computed it from another vector; a module that
    pooled with its own parameters (attention).

    Args:
        run: The run.
        vector: The vector to reproduce, (N, D), float32.
        before: The trace's time at which it existed.
    """
    steps: list[_Step] = []
    wanted = vector
    for _ in range(_LONGEST):
        readings = _readings(run, wanted, before)
        if readings:
            return _checked(run, _from_readings(readings, steps), vector)
        found = _one_back(run, wanted, before)
        if found is None:
            return _from_pools(run, wanted, before, steps, vector)
        step, wanted, before = found
        steps.insert(0, step)
    return None


def _checked(run: Trace, path: Path | None, vector: Tensor) -> Path | None:
    return path if path is not None and run.close(path.given, vector) else None


def _readings(run: Trace, vector: Tensor, before: int) -> list[Reading]:
    """Return the reading that equals a vector, or the two of one layer that are its halves."""
    whole = run.latest_reading(vector, before)
    if whole is not None:
        return [whole]
    width = vector.shape[1] // 2
    if 2 * width != vector.shape[1]:
        return []
    halves = [run.latest_reading(half, before) for half in (vector[:, :width], vector[:, width:])]
    found = [half for half in halves if half is not None and half.pooling != "flat"]
    return found if len(found) == 2 and found[0].tap == found[1].tap else []


def _one_back(run: Trace, vector: Tensor, before: int) -> tuple[_Step, Tensor, int] | None:
    """Find the step that computed a vector from another; return it with that vector and its time."""
    for call in run.producers(vector, before):
        step = _Step(call.module, call.shape)
        again = attempt(_neck([step]), call.received)
        if again is not None and run.close(again, vector):
            return step, call.received, call.time
    for module, width in _by_function(run, vector.shape[1]):
        times, vectors = run.vectors(before, width)
        if not times:
            continue
        given = module(vectors.flatten(0, 1)).view(len(times), *vector.shape)
        errors, moved = (given - vector).abs().amax((1, 2)), (vectors.shape != given.shape)
        for index in errors.argsort(stable=True).tolist()[:_NEAREST]:
            same = not moved and run.close(vectors[index], vector)
            if run.close(given[index], vector) and not same:
                return _Step(module, (width,)), vectors[index], times[index]
    return None


def _by_function(run: Trace, width: int) -> Iterator[tuple[Unit | Product, int]]:
    """Yield module-free steps (normalisation, product with a stored matrix) to a vector of this width."""
    yield Unit(), width
    for name, held in run.free_matrices.items():
        for matrix in (held.detach().float(), held.detach().float().T):
            if matrix.shape[1] == width:
                yield Product(matrix, name), matrix.shape[0]


def _neck(steps: Sequence[_Step]) -> Neck | None:
    return Neck([step.module for step in steps], [step.shape for step in steps]) if steps else None


def _from_readings(readings: Sequence[Reading], steps: Sequence[_Step]) -> Path | None:
    first = readings[0]
    if first.pooling == "flat":
        return _from_flat(first, steps)
    neck = _neck(steps)
    views = [View(r.pooling, r.token, r.pointwise and r.pointwise()) for r in readings]  # type: ignore[arg-type]
    rows = torch.cat([reading.vector for reading in readings], dim=1)
    prefixes = [r.num_prefix_tokens for r in readings if r.num_prefix_tokens is not None]
    start = " and ".join(map(_what, readings)) + _where(first)
    given = attempt(neck, rows)
    if given is None:
        return None
    pooling: Pooling = first.pooling if len(readings) == 1 else "tokens"
    return Path(
        first.tap,
        Branch(views, neck),
        pooling,
        first.layout,
        prefixes[0] if prefixes else None,
        start,
        given,
    )


def _from_flat(reading: Reading, steps: Sequence[_Step]) -> Path | None:
    rows, columns = reading.grid or (1, 1)
    tokens = reading.vector.view(len(reading.vector), -1, rows * columns).transpose(1, 2)
    filled = Filled(None, "NCHW", tokens.shape[2], reading.grid)
    start = f"all {reading.locations} locations{_where(reading)}, flattened"
    return _filling(reading.tap, filled, tokens, tokens.shape[1], start, steps)


def _from_pools(
    run: Trace, wanted: Tensor, before: int, steps: Sequence[_Step], vector: Tensor
) -> Path | None:
    """Return the path from the innermost module that pools with its first argument alone."""
    for pool in run.pools_of(wanted, before):
        path = _checked(run, _from_pool(run, pool, steps), vector)
        if path is not None:
            return path
    return None


def _from_pool(run: Trace, pool: Pool, steps: Sequence[_Step]) -> Path | None:
    grid = (pool.value.shape[2], pool.value.shape[3]) if pool.value.ndim == 4 else None
    tokens = pool.value.flatten(2).transpose(1, 2) if grid else pool.value
    filled = Filled(pool.tap.module, "NCHW" if grid else "NLD", tokens.shape[2], grid)
    start = (
        f"the output of '{pool.tap.name}' ({type(pool.tap.module).__name__}) for {tokens.shape[1]} locations"
    )
    return _filling(pool.tap, filled, tokens, _count(run, filled, tokens), start, steps)


def _filling(
    tap: Tap, filled: Filled, tokens: Tensor, count: int, start: str, steps: Sequence[_Step]
) -> Path | None:
    neck = _neck([_Step(filled, None), *steps])
    given = attempt(neck, tokens.flatten(1))
    if given is None or neck is None:
        return None
    branch = Branch([View("all", count=count)], neck)
    return Path(tap, branch, "all", filled.layout, None, start, given)


def _count(run: Trace, filled: Filled, tokens: Tensor) -> int:
    """Return how many copies of a token the pool needs: 1 if one gives the same result as all."""
    neck, count = Neck([filled], [None]), tokens.shape[1]
    one, many = attempt(neck, tokens[:, -1]), attempt(neck, tokens[:, -1].repeat(1, count))
    return 1 if one is not None and many is not None and run.close(one, many) else count


def _what(reading: Reading) -> str:
    if reading.pooling == "mean":
        return "the mean"
    return f"the {('first', 'second', 'last')[reading.token]}"


def _where(reading: Reading) -> str:
    over = (
        f"of the {reading.locations} tokens"
        if reading.layout == "NLD"
        else f"over the {reading.locations} locations"
    )
    via = "" if reading.pointwise is None else f", after {reading.pointwise.__name__}"
    return f" {over} of the {reading.tap.at} of '{reading.tap.name}'{via}"
