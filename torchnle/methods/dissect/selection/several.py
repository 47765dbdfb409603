"""Several labels per unit, with different meanings (A.7)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

#: Two labels of at least this cosine say the same (the paper's, with CLIP's text encoder).
SAME = 0.81


def distinct(
    scores: Float[Tensor, "C"],
    vectors: Float[Tensor, "C k"],
    most: int,
    *,
    same: float = SAME,
    share: float = 0.5,
) -> list[int]:
    """Choose the labels of highest score whose embeddings are dissimilar (A.7).

    Args:
        scores: The score of each candidate label.
        vectors: The candidates' embeddings, of unit length.
        most: The largest number of labels.
        same: The cosine with a chosen label above which a candidate counts as a synonym and is skipped.
        share: The least score of a further label, relative to the first one's score if that is positive.

    Returns:
        The indices of the chosen candidates, best first.

    Raises:
        ValueError: If there is no candidate, or `most` is not positive.

    Example:
        >>> import torch
        >>> distinct(torch.tensor([0.5, 0.9, 0.8]), torch.tensor([[1.0, 0], [0, 1.0], [0, 1.0]]), most=2)
        [1, 0]
    """
    if most < 1 or not len(scores):
        raise ValueError(f"most={most} labels of {len(scores)} candidates; pass at least one of each.")
    kept: list[int] = []
    order = scores.argsort(descending=True, stable=True).tolist()
    for number in order:
        weak = bool(kept) and float(scores[number]) < share * max(0.0, float(scores[kept[0]]))
        if len(kept) == most or weak:
            break
        if all(float(vectors[number] @ vectors[other]) <= same for other in kept):
            kept.append(number)
    return kept
