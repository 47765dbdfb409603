"""Candidate poolings: ways to read an activation with locations as one vector per image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from torchnle.vision.taps import Tap

#: The functions that models apply without a module between their last map and its mean.
_POINTWISE = (nn.ReLU, nn.SiLU)
#: The largest number of tokens without location before the averaged ones.
_MOST_PREFIX = 16
#: The largest number before them if tokens without location also follow them.
_MOST_FRONT = 1
#: Heads read the class token, a distillation token behind it, or the last token.
_HEAD_TOKENS = 2
#: Flattened maps with more numbers an image are not taken for inputs of a linear layer.
_MOST_FLAT = 65_536


@dataclass(frozen=True, eq=False)
class Reading:
    """An activation with locations, read as one vector per image.

    Args:
        tap: Where the activation is read.
        locations: Their number, as "7x7" or "196".
        layout: The order of the axes under this reading.
        pooling: "mean" = over the locations; "token" = one of the first tokens; "flat" = all locations
            concatenated.
        vector: The vectors, (N, D), float32.
        num_prefix_tokens: How many prefix tokens the mean leaves out; None if that is not known, or other
            tokens are left out.
        pointwise: The function applied before the mean, or None.
        token: Which token is read.
        grid: (rows, columns) of a map.
        plain: Whether the module returned this tensor alone.
    """

    tap: Tap
    locations: str
    layout: Literal["NCHW", "NHWC", "NLD"]
    pooling: Literal["mean", "token", "flat"]
    vector: Tensor
    num_prefix_tokens: int | None = None
    pointwise: type[nn.Module] | None = None
    token: int = 0
    grid: tuple[int, int] | None = None
    plain: bool = True


def is_batch(value: Any, batch_size: int) -> bool:
    """Return whether a value is a floating tensor of vectors, tokens or maps for this many images.

    Example:
        >>> import torch
        >>> is_batch(torch.ones(2, 3), 2), is_batch(torch.ones(3, 3), 2), is_batch("text", 2)
        (True, False, False)
    """
    if not isinstance(value, Tensor) or value.ndim not in (2, 3, 4):
        return False
    return value.is_floating_point() and value.shape[0] == batch_size


def readings_of(value: Any, tap: Tap, batch_size: int) -> Iterator[Reading]:
    """Yield all readings of the value at a tap; none if it has no locations.

    Example:
        >>> import torch
        >>> found = readings_of(torch.ones(1, 5, 2), Tap("norm", nn.Identity()), 1)
        >>> [(r.pooling, r.token, r.num_prefix_tokens) for r in found][:4]
        [('token', 0, None), ('token', 1, None), ('token', -1, None), ('mean', 0, 0)]
    """
    if not is_batch(value, batch_size):
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
    if middle * last > 1 and value[0].numel() <= _MOST_FLAT:
        grid = (middle, last)
        yield Reading(tap, f"{middle}x{last}", "NCHW", "flat", value.flatten(1).clone(), 0, grid=grid)


def _token_readings(value: Tensor, tap: Tap) -> Iterator[Reading]:
    count = value.shape[1]
    for token in (*range(min(_HEAD_TOKENS, count)), *((-1,) if count > _HEAD_TOKENS else ())):
        yield Reading(tap, str(count), "NLD", "token", value[:, token].clone(), token=token)
    for others in range(min(_MOST_PREFIX, count - 2) + 1):
        yield Reading(tap, str(count - others), "NLD", "mean", value[:, others:].mean(1), others)
        for front in range(min(_MOST_FRONT, others - 1) + 1) if others else ():
            patches = value[:, front : count - others + front]
            yield Reading(tap, str(count - others), "NLD", "mean", patches.mean(1))
