"""The accuracy of a classifier per group, of the worst group, and on average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """The accuracies of a classifier by group.

    Args:
        by_group: The accuracy in each group that has images.
        worst: The smallest of them: the minimum of this run, and no mean of minima.
        average: Over all images as they are.
        adjusted: The groups weighted by their shares in training, as Waterbirds is reported (Sagawa et al.,
            2019); None where these are not known.
    """

    by_group: dict[int, float]
    worst: float
    average: float
    adjusted: float | None


def outcome(
    predicted: Int[Tensor, "N"],
    labels: Int[Tensor, "N"],
    groups: Int[Tensor, "N"],
    training_groups: Int[Tensor, "M"] | None = None,
) -> Outcome:
    """Compute a classifier's accuracy in every group, in the worst one, and on average.

    Args:
        predicted: The predictions.
        labels: The classes.
        groups: The groups of the images. A group without images has no accuracy, and is not the worst.
        training_groups: The groups of the training images, for the adjusted average.

    Raises:
        ValueError: If the numbers differ, there are no images, or training has a group that is not tested.

    Example:
        >>> tested = torch.tensor([0, 0, 1, 1])
        >>> answers, trained = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 1, 1])
        >>> found = outcome(answers, torch.tensor([0, 0, 1, 1]), tested, trained)
        >>> found.worst, found.average, found.adjusted
        (0.5, 0.75, 0.875)
    """
    if not len(predicted) == len(labels) == len(groups) or not len(labels):
        raise ValueError(
            f"{len(predicted)} answers, {len(labels)} labels, {len(groups)} groups; pass one of each an "
            f"image."
        )
    right = (predicted == labels).double()
    by_group = {int(group): float(right[groups == group].mean()) for group in torch.unique(groups)}
    adjusted = None
    if training_groups is not None:
        shares = torch.bincount(training_groups).double() / len(training_groups)
        trained = shares.nonzero()[:, 0].tolist()
        if missing := [group for group in trained if group not in by_group]:
            raise ValueError(
                f"the training groups {missing} have no test image; the adjusted average needs some."
            )
        adjusted = sum(float(shares[group]) * by_group[group] for group in trained)
    return Outcome(by_group, min(by_group.values()), float(right.mean()), adjusted)
