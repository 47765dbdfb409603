"""CLIP-Dissect: soft-WPMI and WPMI between units and texts (Oikarinen & Weng, 2023)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: The constants of the authors' code: the softmax's scale, images a unit, the weight of the prior.
SOFT_SCALE, SOFT_IMAGES, SOFT_PRIOR = 10.0, 100, 1.0
HARD_SCALE, HARD_IMAGES, HARD_PRIOR = 2.0, 28, 0.6
_FIRST, _LAST, _LEAST = 0.998, 0.97, 1e-7


def soft_wpmi(
    images: Int[Tensor, "U k"],
    cosines: Float[Tensor, "N T"],
    *,
    scale: float = SOFT_SCALE,
    prior: float = SOFT_PRIOR,
) -> Float[Tensor, "U T"]:
    """Score texts on units by soft weighted pointwise mutual information.

    ``sum_j log(1 + p_j (s_jt - 1))`` over a unit's most active images, where s is the softmax over all texts
    and p_j, the probability that image j belongs to the unit, falls from .998 to .97; less `prior` times the
    log of its mean over the units that are given together.

    Args:
        images: Each unit's most active images, as rows of `cosines`, the most active first.
        cosines: Of every image with every text.
        scale: Of the softmax (the authors' a, for CLIP's cosines).
        prior: The weight of the prior (lambda).

    Example:
        >>> cosines = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.1, 0.2]])
        >>> soft_wpmi(torch.tensor([[0], [1]]), cosines).argmax(dim=1)
        tensor([0, 1])
    """
    shares = (scale * cosines.double()).softmax(dim=1)  # sums of near equals
    k = images.shape[1]
    belongs = _FIRST - torch.arange(k) / k * (_FIRST - _LAST)
    given = torch.stack(
        [(1 + belongs[:, None] * (shares[row] - 1) + _LEAST).log().sum(dim=0) for row in images]
    )
    return (given - prior * _log_mean(given)).float()


def wpmi(
    images: Int[Tensor, "U k"],
    cosines: Float[Tensor, "N T"],
    *,
    scale: float = HARD_SCALE,
    prior: float = HARD_PRIOR,
) -> Float[Tensor, "U T"]:
    """Score texts on units by weighted pointwise mutual information: every image belongs to its unit.

    Args:
        images: As `soft_wpmi`; the authors take 28.
        cosines: As `soft_wpmi`.
        scale: As `soft_wpmi`.
        prior: As `soft_wpmi`.

    Example:
        >>> wpmi(torch.tensor([[0], [1]]), torch.eye(2)).argmax(dim=1)
        tensor([0, 1])
    """
    shares = (scale * cosines.double()).softmax(dim=1)  # sums of near equals
    given = torch.stack([(shares[row] + _LEAST).log().sum(dim=0) for row in images])
    return (given - prior * _log_mean(given)).float()


def _log_mean(given: Float[Tensor, "U T"]) -> Float[Tensor, "T"]:
    """The log of the mean over units of what `given` is the log of."""
    return given.logsumexp(dim=0) - math.log(len(given))
