"""The abstract lens: maps features of one layer to features of a deeper layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.types import Where
from torchnle.vision.features import Features


class LayerLens(ABC):
    """Maps features of one layer to those of a deeper layer, for which there is a translator.

    `read` selects locations of a layer's features and maps them; pass it as `Reading(pool=...)`.

    Attributes:
        smooth: Whether each location's feature is averaged with its neighbours' before it is mapped
            (`smoothed`).
    """

    smooth: bool = True

    @property
    @abstractmethod
    def summary(self) -> str:
        """A sentence on what is read, its cost and its check."""

    @abstractmethod
    def rows(self, vectors: Float[Tensor, "M D"]) -> Float[Tensor, "M W"]:
        """Map feature vectors of the layer to vectors of the deeper layer."""

    def read(self, features: Features, where: Where = None) -> Features:
        """Map the features of the selected locations.

        Args:
            features: The layer's own features, of any number of images.
            where: As `Features.select`: None = the mean over all locations, "all" = each location,
                (row, column) = one, a mask = the mean weighted by it.

        Returns:
            Features of the deeper layer's width, with the layer's own name, grid and locations.
        """
        local = self.smooth and where is not None and not isinstance(where, Tensor)
        chosen = (smoothed(features) if local else features).select(where)
        images, locations = chosen.tokens.shape[:2]
        carried = self.rows(chosen.rows)
        return replace(chosen, tokens=carried.view(images, locations, -1), extra=None)


def smoothed(features: Features) -> Features:
    """Average each location's feature with its eight neighbours': weight 4, 2 at the sides, 1 at the corners.

    These are the binomial weights (1, 2, 1) along both axes. At the border they are renormalised over the
    neighbours that exist.

    Example:
        >>> row = Features(torch.tensor([[[0.0], [3.0], [6.0]]]), "layer", (1, 3))
        >>> smoothed(row).tokens.flatten().tolist()
        [1.0, 3.0, 5.0]
    """
    if features.grid is None:
        return features
    maps = features.fold(features.tokens).permute(0, 3, 1, 2)
    weights = torch.tensor([1.0, 2.0, 1.0], dtype=maps.dtype, device=maps.device)
    kernel = torch.outer(weights, weights)[None, None]
    total = F.conv2d(maps.flatten(0, 1)[:, None], kernel, padding=1).view_as(maps)
    means = total / F.conv2d(torch.ones_like(maps[:1, :1]), kernel, padding=1)
    return replace(features, tokens=means.flatten(2).transpose(1, 2))
