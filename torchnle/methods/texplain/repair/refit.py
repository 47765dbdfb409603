"""Refit a classifier's last layer with all groups weighing the same; the worst group selects the penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.methods.texplain.repair.groups import balancing
from torchnle.methods.texplain.repair.linear import Linear, deal, fit_linear

#: Penalties that are tried.
PENALTIES = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0)
_FOLDS = 4


@dataclass(frozen=True)
class Refit:
    """A last layer, and how it was chosen.

    Args:
        layer: The last layer.
        penalty: The penalty that was chosen.
        validation: What it was chosen by: the accuracy of the worst group, or of all images, out of fold.
    """

    layer: Linear
    penalty: float
    validation: float


def refit_last_layer(
    features: Float[Tensor, "N D"],
    labels: Int[Tensor, "N"],
    classes: int,
    *,
    groups: Int[Tensor, "N"] | None = None,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
) -> Refit:
    """Fit a last layer on fixed features, with every group weighing the same if groups are given.

    The penalty is chosen by cross-validation on the same images: by the accuracy of the worst of the groups
    given (pseudo-groups where no group is known), or by that of all images without groups. Of equals the
    largest is taken.

    Args:
        features: What the last layer reads, one row per image.
        labels: The classes.
        classes: How many there are.
        groups: The group of each image, from 0; None = plain training.
        penalties: Those to choose from.
        seed: Of the folds.

    Raises:
        ValueError: As `fit_linear`; if a class or group has fewer images than there are folds of validation.

    Example:
        >>> x = torch.cat([torch.randn(20, 3) - 3, torch.randn(20, 3) + 3])
        >>> refit_last_layer(x, torch.arange(40) // 20, 2).validation
        1.0
    """
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"{len(groups)} groups for {len(labels)} images; pass one an image.")
    parts = labels if groups is None else groups
    folds = _folds(parts, seed)
    found = []
    for penalty in penalties:
        right = _out_of_fold(features, labels, classes, groups, penalty, folds)
        accuracy = right.mean() if groups is None else _by_group(right, groups).min()
        found.append((float(accuracy), penalty))
    validation, penalty = max(found)
    weights = None if groups is None else balancing(groups)
    return Refit(fit_linear(features, labels, classes, weights=weights, penalty=penalty), penalty, validation)


def _out_of_fold(
    features: Tensor, labels: Tensor, classes: int, groups: Tensor | None, penalty: float, folds: Tensor
) -> Float[Tensor, "N"]:
    right = torch.zeros(len(labels))
    for fold in range(_FOLDS):
        held, kept = folds == fold, folds != fold
        weights = None if groups is None else balancing(groups[kept])
        layer = fit_linear(features[kept], labels[kept], classes, weights=weights, penalty=penalty)
        right[held] = (layer(features[held]).argmax(dim=1) == labels[held]).float()
    return right


def _by_group(right: Float[Tensor, "N"], groups: Int[Tensor, "N"]) -> Float[Tensor, "G"]:
    return torch.stack([right[groups == group].mean() for group in torch.unique(groups)])


def _folds(parts: Int[Tensor, "N"], seed: int) -> Int[Tensor, "N"]:
    """A fold for every image, dealt within each part."""
    for part, count in zip(*(each.tolist() for each in torch.unique(parts, return_counts=True)), strict=True):
        if count < _FOLDS:
            raise ValueError(
                f"group {part} has {count} images; a group is a class, or those of its images whose "
                f"context indicates one class. The penalty is chosen in {_FOLDS} folds and needs {_FOLDS} of "
                "every group or more. Pass more images, or fewer contexts."
            )
    return deal(parts, _FOLDS, seed)
