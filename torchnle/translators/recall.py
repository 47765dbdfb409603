"""What a mapped vector reminds of: the step between a map with errors and a decoder that knows none."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def recall(
    vectors: Float[Tensor, "R k"],
    phrases: Float[Tensor, "T k"],
    center: Float[Tensor, "k"],
    *,
    spread: float,
    temperature: float,
    by: Literal["cosine", "projection"] = "cosine",
) -> Float[Tensor, "R k"]:
    """Replace vectors by the mean of the phrases they recall, each with the softmax of its likeness.

    A map's vector lies where no sentence does, and a decoder trained on sentences says odd things of it. The
    mean of a few phrases lies among sentences (DeCap, Li et al. 2023, section 3.2: projection on a memory of
    texts; here seen from the center, as everything in this space is). Phrases share a few directions (that
    it is an animal) which many of them have and which tell them apart badly; whitened by the phrases' own
    covariance, the others count as much.

    By cosines, what a vector recalls depends on its direction alone: every vector says something definite. By
    projections a vector near the center recalls many phrases a little, and one far from it few: the
    posterior of phrases that errors of one size blur.

    Args:
        vectors: What a map gave, (R, k).
        phrases: The memory: embedded phrases, (T, k).
        center: The mean that directions are seen from, (k,).
        spread: The distance from the center of what is returned.
        temperature: Of the softmax; towards 0 the nearest phrase alone is recalled.
        by: The likeness of a whitened vector to a whitened phrase: their cosine, or the projection on the
            phrase's direction in units of the phrases' mean length.

    Example:
        >>> phrases, center = torch.eye(2), torch.zeros(2)
        >>> recall(torch.tensor([[0.9, 0.1]]), phrases, center, spread=1.0, temperature=0.001)
        tensor([[1., 0.]])
    """
    steps = phrases.float() - center.float()
    metric = whitening(steps)
    asked, keys = (vectors - center).float() @ metric, steps @ metric
    length = asked.norm(dim=-1, keepdim=True) if by == "cosine" else keys.norm(dim=-1).mean()
    likeness = asked @ F.normalize(keys, dim=-1).T / length.clamp(min=torch.finfo(keys.dtype).eps)
    recalled = F.normalize((likeness / temperature).softmax(dim=-1) @ steps, dim=-1)
    found: Tensor = center + spread * recalled.to(vectors)
    return found


def whitening(steps: Float[Tensor, "T k"]) -> Float[Tensor, "k k"]:
    """What steps away from a mean are multiplied by to have much the same variance in every direction.

    Their mean variance is added to that of each direction, so that those in which they hardly differ are not
    blown up.

    Example:
        >>> wide = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> (wide @ whitening(wide)).abs().amax(dim=0)
        tensor([1.7928, 0.9129])
    """
    covariance = steps.T @ steps / len(steps)
    variance = covariance.diagonal().mean().clamp(min=torch.finfo(steps.dtype).tiny)
    values, directions = torch.linalg.eigh(covariance / variance)
    metric: Tensor = directions * (1 + values.clamp(min=0)).rsqrt() @ directions.T
    return metric


def cosines(
    vectors: Float[Tensor, "R k"], phrases: Float[Tensor, "T k"], center: Float[Tensor, "k"]
) -> Float[Tensor, "R T"]:
    """The cosines between directions from the center.

    Example:
        >>> cosines(torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, 1.0]]), torch.tensor([1.0, 1.0]))
        tensor([[1.]])
    """
    directions = F.normalize(phrases.to(vectors) - center, dim=-1)
    return F.normalize(vectors - center, dim=-1) @ directions.T
