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
    """Carries a location's feature into a deeper layer by the model itself.

    The feature is put at every location of the layer, and the model runs on from there: what the deeper
    layer gives is what it would give if the image looked like that location everywhere. No data is needed.
    Class and register tokens, which belong to no location, are those of a blank image.

    A location costs one forward of the part above the layer (`cost`), all locations of a 14x14 grid 196 of
    them; `FittedLens` costs one product instead.

    Args:
        forward_func: The model.
        layer: The layer to read: a module, a dotted name or a `Tap`.
        end: The deeper layer whose features are wanted, such as a classifier head's.
        example: A few images (N, C, H, W), of which size, dtype and device are used. Features of images of
            any size are carried as if they were of this size.
        reading: How to read the layer, if it does not speak for itself.
        end_reading: How the deeper layer is read as one vector an image (a head's `reading`); None = the mean
            over its locations.
        smooth: Whether each location's feature is averaged with its neighbours' (`smoothed`): at 14x14 and
            7x7 locations it is named right more often so (`python -m measurements lens`).
        batch_size: The most locations that run through the model at once.

    Attributes:
        summary: A sentence on what is read, what it costs and how it was checked.

    Raises:
        ValueError: If one of the layers is not found, none or several; if the layer gives no locations; or if
            a part of what the deeper layer sees passes round it (inside a residual or dense block, a U-Net).

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
        """Run the model on from layers full of each vector; differentiable in the vectors.

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
        """The floating-point operations of one location, as a share of a whole forward of one image."""
        return self.upper.cost

    @property
    def summary(self) -> str:
        """A sentence on what is read, what it costs and how it was checked."""
        grid, cost, upper = self.upper.filling.grid or (1, 1), self.cost, self.upper
        locations = grid[0] * grid[1]
        return (
            f"'{upper.tap.name}' is read through the model's own upper part, to '{upper.end.name}': a "
            f"location costs {cost:.2g} of a forward, all {locations} of an image {cost * locations:.2g}. "
            f"Checked on a blank image and noise: {upper.leak:.0e} of what is seen passes round it."
        )


def _only(forward_func: Callable[..., Any], layer: LayerChoice) -> taps.Tap:
    found = taps.resolve(forward_func, layer)
    if len(found) > 1:
        raise ValueError(f"{layer!r} names {len(found)} layers; a lens reads one. Make one for each.")
    return found[0]
