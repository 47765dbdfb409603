"""What a mapped vector reminds of: the step between a map with errors and a decoder that knows none."""

from __future__ import annotations

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
) -> Float[Tensor, "R k"]:
    """Replace vectors by the mean of the phrases they recall, each with the softmax of its cosine.

    A map's vector lies where no sentence does, and a decoder trained on sentences says odd things of it. The
    mean of a few phrases lies among sentences (DeCap, Li et al. 2023, section 3.2: projection on a memory of
    texts; here seen from the center, as everything in this space is).

    Args:
        vectors: What a map gave, (R, k).
        phrases: The memory: embedded phrases, (T, k).
        center: The mean that directions are seen from, (k,).
        spread: The distance from the center of what is returned.
        temperature: Of the softmax; towards 0 the nearest phrase alone is recalled.

    Example:
        >>> import torch
        >>> phrases, center = torch.eye(2), torch.zeros(2)
        >>> recall(torch.tensor([[0.9, 0.1]]), phrases, center, spread=1.0, temperature=0.001)
        tensor([[1., 0.]])
    """
    weights = (cosines(vectors, phrases, center) / temperature).softmax(dim=-1)
    return center + spread * F.normalize(weights @ (phrases.to(vectors) - center), dim=-1)


def cosines(
    vectors: Float[Tensor, "R k"], phrases: Float[Tensor, "T k"], center: Float[Tensor, "k"]
) -> Float[Tensor, "R T"]:
    """The cosines between directions from the center.

    Example:
        >>> import torch
        >>> cosines(torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, 1.0]]), torch.tensor([1.0, 1.0]))
        tensor([[1.]])
    """
    directions = F.normalize(phrases.to(vectors) - center, dim=-1)
    return F.normalize(vectors - center, dim=-1) @ directions.T
