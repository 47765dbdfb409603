"""Scores of candidate labels before any image is made of them: what the whole probing set says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.words import score_rows, score_weights
from torchnle.translators.base import Translator

#: Texts that are scored at once.
_BLOCK = 2048


def text_correlations(
    translator: Translator, layer: str, record: LayerRecord, texts: Sequence[str]
) -> Float[Tensor, "U T"] | None:
    """Correlate every unit's activation with every text's score, over the whole probing set.

    Args:
        translator: Scores texts on the evidence layer.
        layer: The evidence layer's name.
        record: The probing record.
        texts: The texts.

    Returns:
        Pearson's correlations; None where the translator's scores are not linear in the features and no table
        was kept while probing.
    """
    blocks = [list(texts[start : start + _BLOCK]) for start in range(0, len(texts), _BLOCK)]
    if isinstance(translator, MapTranslator):
        weights = [score_weights(translator, layer, block) for block in blocks]
        return torch.cat([record.linear_correlations(each) for each in weights], dim=1)
    if not record.streams.table:
        return None
    scores = torch.cat(
        [score_rows(translator, layer, record.vectors, block).cpu() for block in blocks], dim=1
    )
    return correlations(record.activations, scores)


def correlations(first: Float[Tensor, "N U"], second: Float[Tensor, "N T"]) -> Float[Tensor, "U T"]:
    """Correlate every column of one table with every column of another; 0 for constant ones.

    Example:
        >>> correlations(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0, 1.0], [4.0, 0.0]]))
        tensor([[ 1., -1.]])
    """
    a, b = (x.double() - x.double().mean(dim=0) for x in (first, second))
    scale = torch.outer(a.norm(dim=0), b.norm(dim=0))
    return torch.where(scale > 1e-12, a.T @ b / scale.clamp_min(1e-12), 0.0).float()
