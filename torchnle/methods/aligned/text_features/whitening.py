"""Whitening: a metric in which what varies while the phrases stay the same counts little."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

#: How much of the mean variance is added to every direction's. On composed scenes 0.3 to 1 name and point
#: best (`measurements.map_on_scenes`); on photographs 1 to 30 do alike.
SHRINKAGE = 1.0


def whitening(
    within: Float[Tensor, "D D"], shrinkage: float = SHRINKAGE
) -> tuple[Float[Tensor, "D D"], Float[Tensor, "D D"]]:
    """Compute the symmetric whitening matrix of a shrunk covariance, and its inverse.

    The covariance is taken in units of its mean variance, so that features keep their scale.

    Args:
        within: A covariance; one of zeros gives the identity.
        shrinkage: What is added to each of its eigenvalues, in units of the mean variance.

    Example:
        >>> matrix, inverse = whitening(torch.diag(torch.tensor([1.5, 0.5])), shrinkage=0.5)
        >>> matrix.diagonal().square()
        tensor([0.5000, 1.0000])
        >>> torch.allclose(matrix @ inverse, torch.eye(2), atol=1e-6)
        True
    """
    variance = within.diagonal().mean()
    if not variance > 0:
        return torch.eye(len(within)), torch.eye(len(within))
    values, vectors = torch.linalg.eigh((within / variance).double())
    root = (values.clamp_min(0) + shrinkage).sqrt()
    return ((vectors / root) @ vectors.T).float(), ((vectors * root) @ vectors.T).float()
