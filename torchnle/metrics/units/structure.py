"""Measures of units without labels: clarity, redundancy and polysemanticity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def clarity(exemplars: Float[Tensor, "U k E"]) -> Float[Tensor, "U"]:
    """Measure the similarity of each unit's exemplars: the mean cosine of two of them (SemanticLens).

    Args:
        exemplars: Features of each unit's exemplars, minus the mean of all images, so that 0 is chance.

    Raises:
        ValueError: If there are fewer than two exemplars per unit.

    Example:
        >>> clarity(torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]))
        tensor([1., 0.])
    """
    count = exemplars.shape[1]
    if count < 2:
        raise ValueError(f"{count} exemplar(s) a unit; pass two or more.")
    unit = F.normalize(exemplars.float(), dim=2)
    total = unit.sum(dim=1).square().sum(dim=1)
    return (total - count) / (count * (count - 1))


def redundancy(exemplars: Float[Tensor, "U k E"]) -> Float[Tensor, "U"]:
    """Measure the similarity of each unit to its nearest other unit: the cosine of their exemplars' means.

    Args:
        exemplars: As `clarity`.

    Example:
        >>> redundancy(torch.tensor([[[1.0, 0.0]], [[2.0, 0.0]], [[0.0, 1.0]]]))
        tensor([1., 1., 0.])
    """
    means = F.normalize(exemplars.float().mean(dim=1), dim=1)
    cosines = means @ means.T
    cosines.fill_diagonal_(-torch.inf)
    return cosines.amax(dim=1)


def polysemanticity(
    exemplars: Float[Tensor, "U k E"], *, draws: int = 200, seed: int = 0
) -> tuple[Float[Tensor, "U"], Float[Tensor, "U"]]:
    """Test whether each unit's exemplars form two clusters, against a null distribution with one cluster.

    The exemplars are split in two along their main direction, as in 2-means; the measure is the share of
    their variance between the two groups. The null: as many points from one normal distribution with the
    exemplars' covariance, split in the same way.

    Args:
        exemplars: Features of each unit's exemplars.
        draws: The number of draws from the null distribution.
        seed: The seed of the draws.

    Returns:
        The shares, and their p-values: small = several meanings.

    Raises:
        ValueError: If there are fewer than four exemplars per unit.

    Example:
        >>> two = torch.cat([torch.zeros(1, 5, 2), torch.ones(1, 5, 2)], dim=1)
        >>> share, p = polysemanticity(two + 0.01 * torch.randn(1, 10, 2), draws=50)
        >>> bool(share > 0.99), bool(p < 0.05)
        (True, True)
    """
    count = exemplars.shape[1]
    if count < 4:
        raise ValueError(f"{count} exemplars a unit; pass four or more.")
    generator = torch.Generator().manual_seed(seed)
    shares, chances = [], []
    for points in exemplars.float():
        centred = points - points.mean(dim=0)
        left, spread, _ = torch.linalg.svd(centred, full_matrices=False)
        own = _between(left * spread)
        null = torch.stack([_between(_gaussian(count, spread, generator)) for _ in range(draws)])
        shares.append(own)
        chances.append((1 + (null >= own).sum()) / (1 + draws))
    return torch.stack(shares), torch.stack(chances)


def _gaussian(count: int, spread: Float[Tensor, "r"], generator: torch.Generator) -> Float[Tensor, "n r"]:
    drawn = torch.randn(count, len(spread), generator=generator) * spread
    return drawn - drawn.mean(dim=0)


def _between(points: Float[Tensor, "n r"]) -> Float[Tensor, ""]:
    """Return the largest share of variance between two groups, by the main direction, then 2-means."""
    _, _, axes = torch.linalg.svd(points, full_matrices=False)
    second = (points @ axes[0]) > 0
    for _ in range(10):
        if second.all() or not second.any():
            return points.new_zeros(())
        means = torch.stack([points[~second].mean(dim=0), points[second].mean(dim=0)])
        nearest = torch.cdist(points, means).argmin(dim=1).bool()
        if bool((nearest == second).all()):
            break
        second = nearest
    within = (points - means[second.long()]).square().sum()
    total: Tensor = 1 - within / points.square().sum().clamp_min(1e-12)
    return total
