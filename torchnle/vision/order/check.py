"""Check that a layer's tokens are in the order of the image, by a change of one quarter of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchnle.vision.features import Features

#: Locations are in order if the best quarter holds hardly more of the change than the right one.
SCATTER = 0.5


@dataclass(frozen=True)
class Located:
    """The change over the grid between two images that differ in their top right quarter only.

    Args:
        right: The part of it that lies in the top right quarter of the grid; 0.25 if the grid has no meaning.
        best: The part that lies in the quarter of the locations that changes most.
    """

    right: float
    best: float

    @property
    def in_order(self) -> bool:
        """True if the locations that change are the right ones."""
        return self.best - self.right <= SCATTER


def seeded_pair(size: tuple[int, int]) -> Tensor:
    """Make two seeded images that differ in their top right quarter only: (2, 3, height, width).

    Example:
        >>> first, second = seeded_pair((4, 4))
        >>> (first != second)[0].int().tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    generator = torch.Generator().manual_seed(0)
    height, width = size
    first = torch.randn(3, height, width, generator=generator)
    second = first.clone()
    second[:, : height // 2, width // 2 :] = torch.randn(
        3, height // 2, width - width // 2, generator=generator
    )
    return torch.stack([first, second])


def locate(features: Features) -> Located:
    """Locate the change between the two images of `seeded_pair` on the grid of their features.

    Example:
        >>> tokens = torch.zeros(2, 4, 1)
        >>> tokens[1, 2] = 1.0  # the location at the bottom left changes
        >>> locate(Features(tokens, "layer", (2, 2)))
        Located(right=0.0, best=1.0)
    """
    rows, columns = features.grid or (1, 1)
    energy = (features.tokens[1] - features.tokens[0]).square().sum(-1).view(rows, columns)
    weight = (_first_half(rows)[:, None] * _first_half(columns).flip(0)[None]).to(energy)
    total = energy.sum().clamp(min=torch.finfo(energy.dtype).tiny)
    most = energy.flatten().sort(descending=True).values[: -(-energy.numel() // 4)]
    return Located(float((energy * weight).sum() / total), float(most.sum() / total))


def _first_half(count: int) -> Tensor:
    """Return the part of each of `count` equal cells that lies in the first half."""
    return (count / 2 - torch.arange(count)).clamp(0, 1)
