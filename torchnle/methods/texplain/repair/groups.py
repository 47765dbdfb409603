"""Groups of images, and sample weights under which all groups weigh the same."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cells(labels: Int[Tensor, "N"], attributes: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """Number the combinations of class and attribute that occur, from 0.

    The attribute is the true context, or the class that an image's context words indicate (pseudo-groups).

    Raises:
        ValueError: If there are not as many of both.

    Example:
        >>> cells(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])).tolist()
        [0, 1, 2, 2]
    """
    if len(labels) != len(attributes):
        raise ValueError(f"{len(labels)} labels and {len(attributes)} attributes; pass one of each an image.")
    pairs = labels * (int(attributes.max()) + 1) + attributes
    numbered: Tensor = torch.unique(pairs, return_inverse=True)[1]
    return numbered


def balancing(groups: Int[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Compute sample weights, of mean 1, under which every group weighs the same.

    Example:
        >>> balancing(torch.tensor([0, 0, 0, 1])).tolist()
        [0.666..., 0.666..., 0.666..., 2.0]
    """
    counts = torch.bincount(groups).clamp_min(1)
    weights = 1 / counts[groups].float()
    return weights * len(groups) / weights.sum()


def shuffled(labels: Int[Tensor, "N"], attributes: Int[Tensor, "N"], seed: int) -> Int[Tensor, "N"]:
    """Permute the attributes within each class: random groups of the same sizes, as a control.

    Example:
        >>> shuffled(torch.tensor([0, 0, 1]), torch.tensor([1, 0, 1]), seed=0).sort().values.tolist()
        [0, 1, 1]
    """
    generator = torch.Generator().manual_seed(seed)
    dealt = attributes.clone()
    for label in torch.unique(labels):
        rows = (labels == label).nonzero()[:, 0]
        dealt[rows] = attributes[rows[torch.randperm(len(rows), generator=generator)]]
    return dealt
