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


def large_cells(labels: Int[Tensor, "N"], attributes: Int[Tensor, "N"], least: int = 4) -> Int[Tensor, "N"]:
    """Number the combinations of class and attribute as `cells`, with those of few images joined.

    The small combinations of a class become one; where that too is small, it joins the class's largest. With
    many classes, words indicate nearly every class for some image of each.

    Args:
        labels: The classes.
        attributes: The true contexts, or the classes that context words indicate.
        least: A combination of fewer images is small.

    Raises:
        ValueError: As `cells`.

    Example:
        >>> labels = torch.zeros(9, dtype=torch.long)
        >>> large_cells(labels, torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])).tolist()
        [0, 0, 0, 0, 1, 1, 1, 1, 1]
        >>> large_cells(labels, torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])).tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    exact = cells(labels, attributes)
    found, joined = exact.clone(), int(exact.max()) + 1
    for label in torch.unique(labels).tolist():
        own = labels == label
        counts = torch.bincount(exact[own], minlength=joined)
        small = own & (counts[exact] < least)
        if small.any():
            found[small] = joined + label if int(small.sum()) >= least else counts.argmax()
    numbered: Tensor = torch.unique(found, return_inverse=True)[1]
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
