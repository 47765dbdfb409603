"""Score candidate labels of units by all images and by the exemplars together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.words import phrase_probabilities

#: The weight of the exemplars' log-probability beside the log-correlation. From .25 to 1 the same planted
#: units are right (`dissect-units planted`, chosen on seed 100, of weights from 0.25 to 1).
EXEMPLARS = 0.5
#: Units whose exemplars are read at once, and the least probability.
_UNITS, _LEAST = 64, 1e-6


def fits(
    correlations: Float[Tensor, "U T"], shown: Float[Tensor, "U T"] | None, weight: float = EXEMPLARS
) -> Float[Tensor, "U T"]:
    """Combine each text's correlation with a unit and its probability on the unit's exemplars.

    ``correlation * probability ** weight``: a text must explain the activation over all images, and be true
    of the exemplars where the unit is active. Negative correlations stay as they are.

    Args:
        correlations: The correlation of each unit's activation with each text's score.
        shown: The geometric mean of each text's probability over the unit's exemplars; None = unknown.
        weight: The exponent of the probability.

    Example:
        >>> fits(torch.tensor([[0.5, 0.6, -0.1]]), torch.tensor([[0.64, 0.04, 0.9]])).round(decimals=3)
        tensor([[ 0.4000,  0.1200, -0.1000]])
    """
    if shown is None:
        return correlations
    return torch.where(correlations > 0, correlations * shown**weight, correlations)


def shown_probabilities(
    translator: MapTranslator, layer: str, record: LayerRecord, units: Sequence[int], texts: Sequence[str]
) -> Float[Tensor, "U T"] | None:
    """Estimate the geometric mean of each text's probability over each unit's exemplars.

    Args:
        translator: The map.
        layer: The evidence layer's name.
        record: What probing found.
        units: Which units.
        texts: The texts; those outside the map's vocabulary compete with all others.

    Returns:
        None where no evidence was kept.
    """
    if record.evidence is None or not len(units):
        return None
    phrase_column = {phrase: i for i, phrase in enumerate(translator.vocabulary.phrases)}
    new = [text for text in dict.fromkeys(texts) if text not in phrase_column]
    column = phrase_column | {text: len(phrase_column) + i for i, text in enumerate(new)}
    chosen = [column[text] for text in texts]
    parts = []
    for start in range(0, len(units), _UNITS):
        part = list(units[start : start + _UNITS])
        found = _probabilities(translator, layer, record.evidence[part].flatten(0, 1), new)
        logs = found[:, chosen].clamp_min(_LEAST).log().view(len(part), -1, len(chosen))
        active = record.active[part].float()[..., None]
        parts.append(((logs * active).sum(dim=1) / active.sum(dim=1).clamp_min(1)).exp())
    return torch.cat(parts)


def _probabilities(
    translator: MapTranslator, layer: str, rows: Float[Tensor, "R E"], new: Sequence[str]
) -> Float[Tensor, "R T"]:
    """The vocabulary's probabilities, and behind them those of new texts beside all others."""
    own = phrase_probabilities(translator, layer, rows).cpu()
    if not new:
        return own
    phrases = translator.vocabulary.phrases
    return torch.cat(
        [own, phrase_probabilities(translator, layer, rows, [*phrases, *new]).cpu()[:, len(phrases) :]], 1
    )
