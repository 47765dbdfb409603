"""Contrast images: images similar to a unit's exemplars that do not activate it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

#: Of the probing set, the share of images among which a unit counts as inactive.
INACTIVE = 0.5


def contrast_images(
    exemplars: Int[Tensor, "k"],
    vectors: Float[Tensor, "N E"],
    activations: Float[Tensor, "N"],
    count: int,
    *,
    inactive: float = INACTIVE,
) -> Int[Tensor, "c"]:
    """Choose the images nearest to a unit's exemplars among those in which it is inactive.

    A property that they share with the exemplars does not explain the unit: for a unit of red cars they are
    cars of other colours (as the counterfactual images of FALCON; Kalibhat et al., 2023).

    Args:
        exemplars: The exemplars' indices.
        vectors: A feature of every image, by which similarity is measured.
        activations: The unit's activation in every image.
        count: The largest number of images.
        inactive: The quantile of the activations below which images count as inactive.

    Returns:
        The images' indices, nearest first.

    Raises:
        ValueError: If `inactive` is not between 0 and 1.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> contrast_images(torch.tensor([0]), vectors, torch.tensor([5.0, 0.0, 0.0]), count=1)
        tensor([1])
    """
    if not 0 < inactive <= 1:
        raise ValueError(f"inactive={inactive}; pass a share above 0 and up to 1.")
    unit = F.normalize(vectors.float() - vectors.float().mean(dim=0), dim=1)
    nearness = (unit @ unit[exemplars].T).amax(dim=1)
    silent = activations <= activations.quantile(inactive)
    silent[exemplars] = False
    order = nearness.masked_fill(~silent, -torch.inf).argsort(descending=True, stable=True)
    return order[: min(count, int(silent.sum()))]
