"""Phrase memory: probabilities of phrases become one sentence embedding, which a text decoder decodes."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def recall(posterior: Float[Tensor, "R P"], vectors: Float[Tensor, "P k"]) -> Float[Tensor, "R k"]:
    """Compute the mean of phrases' embeddings, weighted by their probabilities and rescaled to their spread.

    DeCap (Li et al., 2023, section 3.2), relative to the mean of all phrases: the weighted mean's difference
    from it is rescaled to the phrases' mean distance, so that the decoder receives a vector as long as those
    that it was trained on.

    Args:
        posterior: The probability of each phrase; only the ratios within a row matter.
        vectors: The phrases' sentence embeddings.

    Returns:
        One embedding per row, (R, k).

    Example:
        >>> import torch
        >>> recall(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0], [0.0]]))
        tensor([[0.]])
    """
    center = vectors.mean(dim=0)
    steps = vectors - center
    found: Tensor = center + steps.norm(dim=1).mean() * F.normalize(posterior @ steps, dim=1)
    return found
