"""Descriptions out of what is said of rows, and how probable each phrase is there."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from torchnle.description import Description
from torchnle.methods.aligned.saying import Said

#: How many phrases a description lists.
_LISTED = 6


def described(
    said: Sequence[Said],
    scores: Float[Tensor, "R"],
    shares: Float[Tensor, "R P"],
    phrases: Sequence[str],
    *,
    sure_above: float,
) -> list[Description]:
    """Make one description a row, with its likeliest phrases and their probabilities.

    Args:
        said: The words of each row, and their probability.
        scores: The raw score of each row's words.
        shares: The probability of each phrase on each row.
        phrases: The phrases.
        sure_above: Less probable words are unsure.
    """
    best = shares.topk(min(_LISTED, shares.shape[1]), dim=1)
    listed = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        Description(
            each.text,
            score,
            phrases=tuple((phrases[i], p) for i, p in zip(indices, values, strict=True)),
            probability=each.probability,
            unsure=each.probability < sure_above,
        )
        for each, score, (indices, values) in zip(said, scores.tolist(), listed, strict=True)
    ]
