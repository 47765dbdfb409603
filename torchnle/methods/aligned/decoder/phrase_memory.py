"""A memory of phrases: probabilities of phrases become one sentence embedding, which a decoder can say."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def recall(posterior: Float[Tensor, "R P"], vectors: Float[Tensor, "P k"]) -> Float[Tensor, "R k"]:
    """Compute the mean of the phrases' embeddings, weighted by their probabilities, as far out as a phrase.

    DeCap (Li et al., 2023, section 3.2), seen from the mean of all phrases: the mean step away from it is
    brought to the phrases' mean distance, so that a decoder trained on sentences meets a vector like theirs.

    Args:
        posterior: The probability of each phrase; only the ratios within a row count.
        vectors: The phrases' sentence embeddings.

    Example:
        >>> import torch
        >>> recall(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0], [0.0]]))
        tensor([[0.]])
    """
    center = vectors.mean(dim=0)
    steps = vectors - center
    found: Tensor = center + steps.norm(dim=1).mean() * F.normalize(posterior @ steps, dim=1)
    return found
