"""Random layouts: boxes inside a square that overlap little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

#: Left, top, right and bottom in pixels; right and bottom are the first column and row outside, as in Pillow.
Box: TypeAlias = tuple[int, int, int, int]

_TRIES = 30


def overlap(first: Box, second: Box) -> float:
    """Return the part of the smaller box that the other covers.

    Example:
        >>> overlap((0, 0, 4, 4), (2, 2, 12, 12))
        0.25
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(0, width) * max(0, height) / min(areas)


def place_boxes(
    draws: np.random.Generator, sizes: Sequence[tuple[int, int]], side: int, max_overlap: float
) -> list[Box] | None:
    """Draw a box of each size inside the square, uniformly; None if one fits nowhere in 30 tries.

    Args:
        draws: The source of randomness.
        sizes: (width, height) of each box, in pixels.
        side: The square's side.
        max_overlap: The largest part of a box that another may cover, as `overlap` computes it.

    Example:
        >>> place_boxes(np.random.default_rng(0), [(8, 8)], side=8, max_overlap=0)
        [(0, 0, 8, 8)]
    """
    boxes: list[Box] = []
    for width, height in sizes:
        if width > side or height > side:
            return None
        for _ in range(_TRIES):
            left, top = draws.integers(0, (side - width + 1, side - height + 1)).tolist()
            box = (left, top, left + width, top + height)
            if all(overlap(box, other) <= max_overlap for other in boxes):
                boxes.append(box)
                break
        else:
            return None
    return boxes
