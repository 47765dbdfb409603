"""Exemplars: images with the location at which a unit is active in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from torchnle.methods.dissect.exemplars.crops import Box
from torchnle.methods.dissect.exemplars.masks import otsu
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.record import LayerRecord


@dataclass(frozen=True)
class Exemplar:
    """An image, or a crop of one, with a large activation of a unit.

    Args:
        image: The image's index in the probing set.
        activation: The unit's activation in it.
        picture: The image or the crop, in RGB.
        map: The unit's activation at the layer's locations; None for a layer without a grid, or a crop.
        evidence: The evidence layer's feature at the active locations; None without such a layer.
        box: The crop's box in the image; None for a whole image.
    """

    image: int
    activation: float
    picture: Image.Image
    map: Float[Tensor, "h w"] | None = None
    evidence: Float[Tensor, "E"] | None = None
    box: Box | None = None

    def mask(self, threshold: float | None = None) -> Bool[Tensor, "H W"]:
        """Mark the active pixels of the picture: the enlarged map above a threshold.

        Args:
            threshold: A unit's quantile over the probing set, as NetDissect takes; None = Otsu's.

        Returns:
            A mask of the picture's size; everything where there is no map.
        """
        size = (self.picture.height, self.picture.width)
        if self.map is None:
            return torch.ones(size, dtype=torch.bool)
        large = F.interpolate(self.map[None, None].float(), size=size, mode="bicubic")[0, 0]
        limit = float(otsu(large.flatten()[None])) if threshold is None else threshold
        return (large > limit) | (large == large.max())


def exemplars(record: LayerRecord, unit: int, images: ProbingSet, count: int | None = None) -> list[Exemplar]:
    """Load a unit's exemplars, most active first, without images in which it is inactive.

    Args:
        record: The layer's probing record.
        unit: The unit's index.
        images: The probing set.
        count: The largest number of exemplars; None = all in the record.

    Raises:
        ValueError: If the layer has no such unit.
    """
    if not 0 <= unit < record.units:
        raise ValueError(f"layer '{record.layer}' has {record.units} units; {unit} is none of them.")
    found = []
    for rank, number in enumerate(record.images[unit, :count].tolist()):
        if not record.active[unit, rank]:
            break
        shaped = None if record.grid is None else record.maps[unit, rank].view(record.grid)
        evidence = None if record.evidence is None else record.evidence[unit, rank]
        value = float(record.values[unit, rank])
        found.append(Exemplar(number, value, images.picture(number), shaped, evidence))
    return found
