"""Re-ranking of labels by their pointwise mutual information with a unit (MILAN; Hernandez et al., 2022)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

#: MILAN's weight of the prior.
PRIOR = 0.2


def milan_scores(
    given: Float[Tensor, "U T"], prior: Float[Tensor, "T"], weight: float = PRIOR
) -> Float[Tensor, "U T"]:
    """Score texts by ``log p(text | unit) - weight * log p(text)``.

    Args:
        given: log p(text | unit), such as a translator's log-probabilities for the unit's evidence.
        prior: log p(text), such as a language model's, or the log of the mean over units.
        weight: The weight of the prior; MILAN's is 0.2.

    Raises:
        ValueError: If a log-probability is positive or NaN.

    Example:
        >>> import torch
        >>> given = torch.tensor([[0.4, 0.6]]).log()
        >>> milan_scores(given, torch.tensor([0.1, 0.9]).log(), weight=1.0).argmax(dim=1)
        tensor([0])
    """
    if not bool((given <= 1e-4).all()) or not bool((prior <= 1e-4).all()):
        raise ValueError("log-probabilities are not above 0; pass log p(text | unit) and log p(text).")
    return given - weight * prior


def mean_log_probability(probabilities: Float[Tensor, "U k T"]) -> Float[Tensor, "U T"]:
    """Average phrase probabilities over each unit's exemplars, as logs.

    Example:
        >>> import torch
        >>> mean_log_probability(torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])).exp()
        tensor([[0.2500, 0.7500]])
    """
    return probabilities.mean(dim=1).clamp(1e-12, 1).log()
