"""Rank each unit's candidate labels before any image is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.fits import fits, shown_probabilities
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.scores import text_correlations
from torchnle.translators.base import Translator


@dataclass(frozen=True)
class RankedCandidates:
    """A unit's candidate labels, ranked by their fit.

    Args:
        texts: With how well each fits, the best first.
        correlation: Of the best one's score with the unit's activation; 0 where unknown.
    """

    texts: list[tuple[str, float]] = field(default_factory=list)
    correlation: float = 0.0


def ranked_candidates(
    translator: Translator | None,
    layer: str | None,
    record: LayerRecord,
    units: Sequence[int],
    candidates: Mapping[int, Sequence[str]],
    *,
    more: int,
) -> dict[int, RankedCandidates]:
    """Rank each unit's candidates by `fits`; in their own order where nothing can score them.

    Args:
        translator: Scores texts; a map also gives candidates of its own.
        layer: The evidence layer's name.
        record: What probing found.
        units: Which units.
        candidates: Of each unit.
        more: Phrases of the map's vocabulary that are added a unit: so many by correlation alone, so many by
            both together.
    """
    phrases = translator.vocabulary.phrases if isinstance(translator, MapTranslator) else ()
    texts = list(dict.fromkeys([*phrases, *(text for labels in candidates.values() for text in labels)]))
    found = None
    if texts and translator is not None and layer is not None:
        found = text_correlations(translator, layer, record, texts)
    if found is None:
        orders = {unit: [(t, 1.0 / (1 + i)) for i, t in enumerate(candidates[unit])] for unit in units}
        return {unit: RankedCandidates(order) for unit, order in orders.items()}
    correlations = found[list(units)]
    fit = fits(correlations, _shown(translator, layer or "", record, units, texts))
    column = {text: i for i, text in enumerate(texts)}
    ranked = {}
    for row, unit in enumerate(units):
        added = [i for scores in (correlations, fit) for i in _best(scores[row, : len(phrases)], more)]
        listed = dict.fromkeys([*candidates[unit], *(texts[i] for i in added)])
        order = sorted(((text, float(fit[row, column[text]])) for text in listed), key=lambda pair: -pair[1])
        correlation = float(correlations[row, column[order[0][0]]]) if order else 0.0
        ranked[unit] = RankedCandidates(order, correlation)
    return ranked


def _shown(
    translator: Translator | None, layer: str, record: LayerRecord, units: Sequence[int], texts: Sequence[str]
) -> Tensor | None:
    """What exemplars show; None where units have no location, so that exemplars show all else, too."""
    if record.grid is None or not isinstance(translator, MapTranslator):
        return None
    return shown_probabilities(translator, layer, record, units, texts)


def _best(scores: Float[Tensor, "T"], count: int) -> list[int]:
    if not count or not len(scores):
        return []
    found: list[int] = scores.topk(min(count, len(scores))).indices.tolist()
    return found
