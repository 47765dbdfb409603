"""Masks of the locations of an activation map at which a unit is active."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def otsu(maps: Float[Tensor, "E L"]) -> Float[Tensor, "E"]:
    """Compute each map's threshold by Otsu's method (1979), on the values themselves instead of a histogram.

    The threshold is the largest value of the lower class, for the split of largest between-class variance;
    for a constant map it is minus infinity.

    Args:
        maps: The values of each map.

    Example:
        >>> otsu(torch.tensor([[0.0, 1.0, 9.0, 8.0], [2.0, 2.0, 2.0, 2.0]]))
        tensor([1., -inf])
    """
    values = maps.double().sort(dim=1).values
    count = values.shape[1]
    if count < 2:
        return maps.new_full((len(maps),), -torch.inf)
    below = torch.arange(1, count, dtype=torch.double, device=maps.device)
    sums = values.cumsum(dim=1)
    low = sums[:, :-1] / below
    high = (sums[:, -1:] - sums[:, :-1]) / (count - below)
    between = below * (count - below) * (high - low).square()
    split = values[:, 1:] > values[:, :-1]  # equal values belong to one class
    best = between.masked_fill(~split, -1.0).max(dim=1)
    found = values.gather(1, best.indices[:, None])[:, 0]
    return torch.where(best.values >= 0, found, -torch.inf).to(maps)


def active(maps: Float[Tensor, "E L"], threshold: Float[Tensor, "E"] | None = None) -> Bool[Tensor, "E L"]:
    """Mark the locations above a threshold, by default Otsu's; at least the largest one.

    Example:
        >>> active(torch.tensor([[0.0, 1.0, 9.0, 8.0]]))
        tensor([[False, False,  True,  True]])
    """
    limit = otsu(maps) if threshold is None else threshold
    return (maps > limit[:, None]) | (maps == maps.amax(dim=1, keepdim=True))


def resized(
    masks: Float[Tensor, "E L"], grid: tuple[int, int] | None, to: tuple[int, int] | None
) -> Float[Tensor, "E M"]:
    """Resize masks from one layer's grid to another's, as weights that sum to one.

    Args:
        masks: The masks, not negative.
        grid: Their (rows, columns); None = no grid, which gives equal weights.
        to: The other layer's grid; None = it has none.

    Example:
        >>> resized(torch.tensor([[1.0, 0.0]]), (1, 2), (1, 2))
        tensor([[1., 0.]])
    """
    if to is None:
        return masks.new_ones(len(masks), 1)
    if grid is None:
        return masks.new_full((len(masks), to[0] * to[1]), 1 / (to[0] * to[1]))
    maps = masks.view(-1, 1, *grid)
    if grid != to:
        maps = F.interpolate(maps, size=to, mode="bilinear", antialias=True)
    weights = maps.flatten(1)
    return weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)
