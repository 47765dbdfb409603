"""Regions: the locations of a layer's grid that somebody points at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from torchnle.types import Where


@dataclass(frozen=True)
class Region:
    """A rectangle of locations, borders included.

    Args:
        top: The first row.
        left: The first column.
        bottom: The last row.
        right: The last column.

    Example:
        >>> Region(1, 0, 2, 3).where((4, 4))
        tensor([[0., 0., 0., 0.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.],
                [0., 0., 0., 0.]])
        >>> Region(1, 2, 1, 2).where((4, 4))
        (1, 2)
    """

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(cls, given: Any) -> Region | None:
        """Check what a request names: four numbers, or None for the whole picture.

        Raises:
            ValueError: If it is anything else.

        Example:
            >>> Region.of([0, 1, 0, 1])
            Region(top=0, left=1, bottom=0, right=1)
        """
        if given is None:
            return None
        numbers = given if isinstance(given, list) and len(given) == 4 else []
        if not numbers or not all(type(each) is int and each >= 0 for each in numbers):
            raise ValueError("a region is four whole numbers: top, left, bottom, right; or null.")
        found = cls(*numbers)
        if found.bottom < found.top or found.right < found.left:
            raise ValueError(f"the region {numbers} ends before it begins.")
        return found

    def where(self, grid: tuple[int, int] | None) -> Where:
        """Express the rectangle as `describe` takes it: one location, or a mask of several.

        Raises:
            ValueError: If it does not lie on the grid.
        """
        if grid is None:
            raise ValueError("this layer has no locations; read it as a whole.")
        rows, columns = grid
        if self.bottom >= rows or self.right >= columns:
            raise ValueError(f"the region ends outside the {rows}x{columns} locations of the layer.")
        if (self.top, self.left) == (self.bottom, self.right):
            return self.top, self.left
        mask = torch.zeros(rows, columns)
        mask[self.top : self.bottom + 1, self.left : self.right + 1] = 1.0
        return mask
