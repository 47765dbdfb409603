"""Localisation of saliency maps: pointing game, energy inside and best overlap, each for N maps at once.

Every measure gives one number from 0 to 1 per map, to be averaged by `mean_over_classes`. Its chance level is
the score of a constant map, in which ties are shared evenly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from math import ceil, isfinite, sqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor

#: The radius of TorchRay's disc, in pixels.
TORCHRAY_TOLERANCE = 15.0


def pointing_hits(
    maps: Tensor, masks: Tensor, *, tolerance: float = TORCHRAY_TOLERANCE
) -> Float[Tensor, " N"]:
    """Score the pointing game: 1 if the map's maximum is on its object, else 0.

    Zhang et al. 2018, section 4.2, as TorchRay counts it: a hit is a maximum less than `tolerance` pixels
    from the object. If several pixels share the maximum, the share of them that hits.

    Args:
        maps: Raw scores, (N, H, W), any floating dtype, at the resolution of the masks.
        masks: The objects, (N, H, W), bool; `box_masks` makes them from boxes.
        tolerance: In pixels; 0 = strict: the maximum lies on the object itself.

    Returns:
        (N,), float32.

    Raises:
        ValueError: If shapes differ, a mask is empty, a map is not finite or the tolerance is negative.

    Example:
        >>> maps = torch.tensor([[[0.0, 0.0, 3.0]]])
        >>> mask = torch.tensor([[[True, False, False]]])
        >>> [pointing_hits(maps, mask, tolerance=pixels).item() for pixels in (0, 2, 2.5)]
        [0.0, 0.0, 1.0]
    """
    _check(maps, masks)
    best = maps == maps.amax(dim=(1, 2), keepdim=True)
    return (best & _grown(masks, tolerance)).sum((1, 2)) / best.sum((1, 2))


def energy_inside(maps: Tensor, masks: Tensor) -> Float[Tensor, " N"]:
    """Compute the share of a map's energy on its object.

    Score-CAM's energy-based pointing game (Wang et al. 2020, section 4.2). The energy of a pixel is its value
    minus the map's minimum, so raw log-probabilities and cosines can be given. A constant map has the same
    energy everywhere.

    Args:
        maps: Raw scores, (N, H, W), any floating dtype.
        masks: The objects, (N, H, W), bool.

    Returns:
        (N,), float32.

    Raises:
        ValueError: If shapes differ, a mask is empty or a map is not finite.

    Example:
        >>> mask = torch.tensor([[[True, False]]])
        >>> energy_inside(torch.tensor([[[-1.0, -2.0]]]), mask), energy_inside(torch.ones(1, 1, 2), mask)
        (tensor([1.]), tensor([0.5000]))
    """
    _check(maps, masks)
    values = maps.flatten(1).double()
    energy = values - values.amin(dim=1, keepdim=True)
    energy = torch.where(energy.sum(1, keepdim=True) > 0, energy, torch.ones_like(energy))
    return ((energy * masks.flatten(1)).sum(1) / energy.sum(1)).float()


def best_iou(maps: Tensor, masks: Tensor) -> Float[Tensor, " N"]:
    """Compute the largest intersection over union of an object and a thresholded map.

    The maximum over all thresholds of the set of pixels with at least this value, computed by sorting.

    Args:
        maps: Raw scores, (N, H, W), any floating dtype.
        masks: The objects, (N, H, W), bool.

    Returns:
        (N,), float32.

    Raises:
        ValueError: If shapes differ, a mask is empty or a map is not finite.

    Example:
        >>> best_iou(torch.tensor([[[3.0, 2.0, 1.0]]]), torch.tensor([[[True, False, True]]]))
        tensor([0.6667])
    """
    _check(maps, masks)
    values, order = maps.flatten(1).sort(dim=1, descending=True)
    inside = masks.flatten(1).gather(1, order).cumsum(1)
    areas = torch.arange(1, values.shape[1] + 1, device=maps.device)
    iou = inside / (areas + inside[:, -1:] - inside)
    ends = torch.ones_like(values, dtype=torch.bool)
    ends[:, :-1] = values[:, :-1] != values[:, 1:]
    return iou.where(ends, torch.zeros_like(iou)).amax(dim=1)


def chance_level(masks: Tensor, *, tolerance: float = 0.0) -> Float[Tensor, " N"]:
    """Compute the score of a random point or a constant map: the object's share of the image.

    Args:
        masks: The objects, (N, H, W), bool.
        tolerance: The pointing game's, in pixels; 0 for strict pointing, energy and best overlap.

    Returns:
        (N,), float32.

    Example:
        >>> box = box_masks([(0, 0, 2, 2)], (4, 4))
        >>> chance_level(box), chance_level(box, tolerance=1.1)
        (tensor([0.2500]), tensor([0.5000]))
    """
    return pointing_hits(torch.zeros(masks.shape, device=masks.device), masks, tolerance=tolerance)


def box_masks(boxes: Sequence[Sequence[int]] | Tensor, size: tuple[int, int]) -> Bool[Tensor, "N H W"]:
    """Convert boxes to masks.

    Args:
        boxes: N times (left, top, right, bottom) in pixels, the last two exclusive.
        size: (height, width) of the image.

    Raises:
        ValueError: If a box is empty or not inside the image.

    Example:
        >>> box_masks([(1, 0, 3, 1)], (2, 3)).int().tolist()
        [[[0, 1, 1], [0, 0, 0]]]
    """
    corners = torch.as_tensor(boxes).reshape(-1, 4)
    height, width = size
    left, top, right, bottom = corners.T[..., None, None]
    wrong = ~(
        (left >= 0) & (left < right) & (right <= width) & (top >= 0) & (top < bottom) & (bottom <= height)
    )
    if wrong.any():
        first = int(wrong.flatten().nonzero()[0])
        raise ValueError(
            f"box {first} is {tuple(corners[first].tolist())}; pass (left, top, right, bottom) with at least "
            f"one pixel, inside an image {width} wide and {height} high."
        )
    rows = torch.arange(height, device=corners.device)[:, None]
    columns = torch.arange(width, device=corners.device)
    inside: Tensor = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    return inside


def mean_over_classes(values: Tensor, classes: Sequence[Hashable]) -> tuple[float, dict[Hashable, float]]:
    """Average each class, and then the classes, so that rare classes count as much as frequent ones.

    Args:
        values: One number a map, (N,).
        classes: The class of each map: a name, a phrase or a number.

    Returns:
        The mean over classes, and the mean of each class.

    Raises:
        ValueError: If the lengths differ or there is no value.

    Example:
        >>> mean_over_classes(torch.tensor([1.0, 1.0, 0.0]), ["hen", "hen", "owl"])
        (0.5, {'hen': 1.0, 'owl': 0.0})
    """
    if values.ndim != 1 or len(values) != len(classes) or not len(values):
        raise ValueError(
            f"values of shape {tuple(values.shape)} and {len(classes)} classes; pass one class for each "
            "value, and at least one."
        )
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for value, name in zip(values.tolist(), classes, strict=True):
        groups[name].append(value)
    means = {name: sum(group) / len(group) for name, group in groups.items()}
    return sum(means.values()) / len(means), means


def _check(maps: Tensor, masks: Tensor) -> None:
    if (
        maps.ndim != 3
        or maps.shape != masks.shape
        or masks.dtype != torch.bool
        or not maps.is_floating_point()
    ):
        raise ValueError(
            f"maps {tuple(maps.shape)} {maps.dtype} and masks {tuple(masks.shape)} {masks.dtype} do not fit; "
            "pass floating maps and bool masks of one shape (N, H, W). Enlarge maps with interpolate first."
        )
    for name, wrong in (
        ("map(s) {} hold NaN or infinite values", ~torch.isfinite(maps).flatten(1).all(1)),
        ("mask(s) {} are empty: there is nothing to point at", ~masks.flatten(1).any(1)),
    ):
        if wrong.any():
            raise ValueError(name.format(wrong.nonzero().flatten().tolist()[:8]) + ".")


def _grown(masks: Bool[Tensor, "N H W"], radius: float) -> Bool[Tensor, "N H W"]:
    """Dilate objects to all pixels less than the radius away, row by row of the disc."""
    if not (isfinite(radius) and radius >= 0):
        raise ValueError(f"tolerance={radius}; pass 0 for the strict game, or a radius in pixels.")
    height, width = masks.shape[1:]
    reach = ceil(radius)
    sums = masks.cumsum(2, dtype=torch.int32)
    sums = torch.cat(
        [sums.new_zeros(*sums.shape[:2], reach + 1), sums, sums[..., -1:].expand(-1, -1, reach)], 2
    )
    grown = masks.clone()
    for down in range(min(reach, height)):
        half = ceil(sqrt(radius**2 - down**2)) - 1
        left, right = sums[..., reach - half :], sums[..., reach + half + 1 :]
        row = right[..., :width] != left[..., :width]
        grown[:, down:] |= row[:, : height - down]
        grown[:, : height - down] |= row[:, down:]
    return grown
