"""Whitening by the residual covariance: directions that vary independently of the phrases count less."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

#: How much of the mean variance is added to every direction's. On composed scenes 0.3 to 1 name and point
#: best (`measurements.map_on_scenes`).
SHRINKAGE = 1.0
#: What `likeliest_shrinkage` chooses from.
_CHOICES = tuple(10 ** (step / 4) for step in range(-8, 13))  # 0.01 to 1000


def whitening(
    within: Float[Tensor, "D D"], shrinkage: float = SHRINKAGE
) -> tuple[Float[Tensor, "D D"], Float[Tensor, "D D"]]:
    """Compute the symmetric whitening matrix of a shrunk covariance, and its inverse.

    The covariance is taken in units of its mean variance, so that features keep their scale.

    Args:
        within: A covariance; one of zeros gives the identity.
        shrinkage: Added to each of its eigenvalues, in units of the mean variance.

    Returns:
        The matrix and its inverse.

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


def within_spectrum(
    matrix: Float[Tensor, "D D"], shrinkage: float
) -> tuple[Float[Tensor, "D"], Float[Tensor, "D D"]]:
    """Recover the eigenvalues and eigenvectors of the covariance from which `whitening` computed a matrix.

    Args:
        matrix: The whitening matrix.
        shrinkage: Its shrinkage.

    Returns:
        The eigenvalues, in units of the mean variance, and the eigenvectors as columns.

    Example:
        >>> matrix, _ = whitening(torch.diag(torch.tensor([1.5, 0.5])), shrinkage=0.5)
        >>> within_spectrum(matrix, 0.5)[0].round(decimals=4).tolist()
        [1.5, 0.5]
    """
    roots, vectors = torch.linalg.eigh(matrix.double())
    return (roots.square().reciprocal() - shrinkage).clamp_min(0), vectors


def likeliest_shrinkage(
    rows: Float[Tensor, "R D"], values: Float[Tensor, "D"], vectors: Float[Tensor, "D D"]
) -> float:
    """Choose the shrinkage of a covariance by the maximum likelihood of other features.

    The likelihood is that of a normal distribution whose covariance is the shrunk one times any factor. The
    less the features' covariance resembles the given one, the larger the shrinkage.

    Args:
        rows: Features, at least two.
        values: The covariance's eigenvalues, in units of the mean variance.
        vectors: Its eigenvectors, as columns.

    Example:
        >>> values, vectors = torch.tensor([1.9, 0.1]), torch.eye(2)
        >>> alike, other = torch.diag(values.sqrt()), torch.diag(values.flip(0).sqrt())
        >>> likeliest_shrinkage(alike, values, vectors), likeliest_shrinkage(other, values, vectors)
        (0.01, 1000.0)
    """
    moved = (rows.double() - rows.double().mean(dim=0)) @ vectors.double()
    spread = moved.square().mean(dim=0)

    def likelihood(shrinkage: float) -> float:
        shrunk = values + shrinkage
        return float(-shrunk.log().mean() - (spread / shrunk).mean().log())

    return max(_CHOICES, key=likelihood)
