"""The abstract lens: carries features of one layer into the features of a deeper layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.types import Where
from torchnle.vision.features import Features


class LayerLens(ABC):
    """Carries features of one layer into those of a deeper one, for which there is a translator.

    `read` picks locations out of a layer's features and carries them; it is what `Reading(pool=...)` takes.

    Attributes:
        neighbourhood: The side of the square of locations around each one whose features are averaged before
            they are carried, an odd number; 1 = the location's own feature.
    """

    neighbourhood: int = 1

    @abstractmethod
    def rows(self, vectors: Float[Tensor, "M D"]) -> Float[Tensor, "M W"]:
        """Carry feature vectors of the layer into vectors of the deeper layer."""

    def read(self, features: Features, where: Where = None) -> Features:
        """Carry the features of the locations asked for, and no others.

        Args:
            features: The layer's own features, of any number of images.
            where: As `Features.select`: None = the mean over all locations, "all" = each location,
                (row, column) = one, a mask = the mean weighted by it.

        Returns:
            Features of the deeper layer's width, with the layer's own name, grid and locations.
        """
        plain = where is None or isinstance(where, Tensor)
        chosen = (features if plain else smoothed(features, self.neighbourhood)).select(where)
        images, locations = chosen.tokens.shape[:2]
        carried = self.rows(chosen.rows)
        return replace(chosen, tokens=carried.view(images, locations, -1), extra=None)


def smoothed(features: Features, side: int) -> Features:
    """Replace each location's feature by the mean over the square of `side` locations around it.

    At the border the mean is over those that exist.

    Example:
        >>> import torch
        >>> smoothed(Features(torch.arange(3.0).view(1, 3, 1), "layer", (1, 3)), 3).tokens.flatten().tolist()
        [0.5, 1.0, 1.5]
    """
    if side == 1 or features.grid is None:
        return features
    maps = features.fold(features.tokens).permute(0, 3, 1, 2)
    means = F.avg_pool2d(maps, side, stride=1, padding=side // 2, count_include_pad=False)
    return replace(features, tokens=means.flatten(2).transpose(1, 2))


def check_neighbourhood(side: int) -> int:
    """Return the side of a neighbourhood, or raise where it has no middle.

    Example:
        >>> check_neighbourhood(2)
        Traceback (most recent call last):
        ...
        ValueError: neighbourhood=2; pass an odd number: 1 for the location alone, 3 for its 3x3 mean.
    """
    if side < 1 or side % 2 == 0:
        raise ValueError(
            f"neighbourhood={side}; pass an odd number: 1 for the location alone, 3 for its 3x3 mean."
        )
    return side
