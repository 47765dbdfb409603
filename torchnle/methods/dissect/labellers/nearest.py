"""Nearest text: the text that fits the mean of a unit's exemplars best (SemanticLens; Dreyer et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from torchnle.methods.dissect.words import score_rows
from torchnle.translators.base import Translator


def nearest_text_scores(
    translator: Translator,
    layer: str,
    evidence: Float[Tensor, "U k E"],
    texts: Sequence[str],
    background: Float[Tensor, "E"] | None = None,
) -> Float[Tensor, "U T"]:
    """Score texts on the mean of each unit's exemplars.

    Args:
        translator: Scores texts on the evidence layer's features.
        layer: The evidence layer's name.
        evidence: The features of each unit's exemplars.
        texts: The texts.
        background: The mean feature of all images, whose scores are subtracted, as SemanticLens subtracts an
            empty template's; None = nothing is subtracted.

    Example:
        >>> import torch
        >>> nearest_text_scores(translator, "layer", torch.ones(2, 3, 6), ["a cat", "sky"]).shape
        torch.Size([2, 2])
    """
    scores = score_rows(translator, layer, evidence.mean(dim=1), texts).float().cpu()
    if background is None:
        return scores
    return scores - score_rows(translator, layer, background[None], texts).float().cpu()


def masked_mean(evidence: Float[Tensor, "U k E"]) -> Float[Tensor, "U E"]:
    """Average each unit's masked exemplars: what DeViL (section 4.2) describes a unit by.

    Example:
        >>> import torch
        >>> masked_mean(torch.ones(2, 3, 6)).shape
        torch.Size([2, 6])
    """
    return evidence.mean(dim=1)


def rank_by(scores: Float[Tensor, "U T"], texts: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
    """List each unit's k texts of the highest scores.

    Raises:
        ValueError: If `k` is not positive.

    Example:
        >>> import torch
        >>> rank_by(torch.tensor([[0.1, 0.9]]), ["a", "b"], 1)[0][0][0]
        'b'
    """
    if k < 1:
        raise ValueError(f"k={k}; pass a positive number of texts.")
    best = scores.topk(min(k, len(texts)), dim=1)
    return [
        [(texts[i], value) for i, value in zip(row, values, strict=True)]
        for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
