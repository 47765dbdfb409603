"""The lens: reads a location of a layer through the model's own upper part, with nothing fitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.vision import taps
from torchnle.vision.lens.base import LayerLens
from torchnle.vision.lens.upper_part import UpperPart
from torchnle.vision.reading import Reading
from torchnle.vision.taps import LayerChoice


class Lens(LayerLens):
    """Maps a location's feature to a deeper layer by running the model's own layers between the two.

    The feature is put at every location of the layer, and the model continues from there: the deeper layer's
    output is that for an image with this feature everywhere. No data is needed. Class and register tokens are
    those of a blank image.

    A location costs one forward of the part above the layer (`cost`), all locations of a 14x14 grid 196 of
    them; a `FittedLens` costs one product.

    Args:
        forward_func: The model.
        layer: The layer to read: a module, a dotted name or a `Tap`.
        end: The deeper layer, such as the one that a classifier's head reads.
        example: A few images (N, C, H, W), of which size, dtype and device are used. Features of images of
            other sizes are mapped as if they were of this size.
        reading: Overrides for the layer, if its layout cannot be inferred.
        end_reading: How the deeper layer is read as one vector per image (a head's `reading`); None = the
            mean over its locations.
        smooth: Whether each location's feature is averaged with its neighbours' (`smoothed`): on grids of
            14x14 and 7x7 more locations are named right (`python -m measurements lens`).
        batch_size: The largest number of locations that run through the model at once.

    Attributes:
        summary: A sentence on what is read, its cost and its check.

    Raises:
        ValueError: If one of the layers is not found, none or several; if the layer has no locations; or if a
            part of the deeper layer's input bypasses it (inside a residual or dense block, a U-Net).

    Example:
        >>> lens = Lens(model, "act", "norm", example=images)
        >>> from torchnle.vision.reading import read
        >>> (features,) = read(model, taps.resolve(model, "act"), images)
        >>> lens.read(features, (0, 0)).tokens.shape
        torch.Size([2, 1, 6])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerChoice,
        end: LayerChoice,
        *,
        example: Float[Tensor, "N C H W"],
        reading: Reading | None = None,
        end_reading: Reading | None = None,
        smooth: bool = True,
        batch_size: int = 64,
    ) -> None:
        self.smooth = smooth
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; pass a positive number of locations.")
        self.batch_size = batch_size
        self.upper = UpperPart(
            forward_func,
            _only(forward_func, layer),
            _only(forward_func, end),
            example,
            reading,
            end_reading,
        )

    def rows(self, vectors: Float[Tensor, "M D"]) -> Float[Tensor, "M W"]:
        """Continue the model from layers filled with each vector; differentiable in the vectors.

        Raises:
            ValueError: If the vectors have not the layer's width.
        """
        filling, name = self.upper.filling, self.upper.tap.name
        if vectors.shape[1] != filling.width:
            raise ValueError(
                f"vectors of width {vectors.shape[1]} were given for layer '{name}' of width "
                f"{filling.width}. Pass features of this layer."
            )
        return torch.cat([self.upper(filling(part)) for part in torch.split(vectors, self.batch_size)])

    @property
    def cost(self) -> float:
        """The floating-point operations of one location, relative to a forward of one image."""
        return self.upper.cost

    @property
    def summary(self) -> str:
        """A sentence on what is read, its cost and its check."""
        grid, cost, upper = self.upper.filling.grid or (1, 1), self.cost, self.upper
        locations = grid[0] * grid[1]
        return (
            f"'{upper.tap.name}' is read through the model's own upper part, to '{upper.end.name}': a "
            f"location costs {cost:.2g} of a forward, all {locations} of an image {cost * locations:.2g}. "
            f"Checked on a blank image and noise: {upper.leak:.0e} of the result bypasses it."
        )


def _only(forward_func: Callable[..., Any], layer: LayerChoice) -> taps.Tap:
    found = taps.resolve(forward_func, layer)
    if len(found) > 1:
        raise ValueError(f"{layer!r} names {len(found)} layers; a lens reads one. Make one for each.")
    return found[0]
