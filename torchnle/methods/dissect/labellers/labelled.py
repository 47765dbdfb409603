"""Labels of units by another labelling method than Describe-and-Dissect, in the same form."""

from __future__ import annotations

from collections.abc import Callable

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.labellers.rank_texts import Ranked, UnitReading, ranked
from torchnle.methods.dissect.labels import UnitLabel
from torchnle.methods.dissect.scores import text_correlations
from torchnle.types import Labeller


def labelled(labeller: Labeller, reading: UnitReading, reliable: Callable[[float], bool]) -> list[UnitLabel]:
    """Label the reading's units.

    Args:
        labeller: The method.
        reading: What it reads.
        reliable: Says of a label's correlation with the unit's activation whether it is reliable.
    """
    found = ranked(labeller, reading)
    fits = _correlations(reading, [texts[0][0] for texts in found])
    rows = zip(reading.units, found, fits, strict=True)
    return [_label(labeller, reading, unit, texts, fit, reliable(fit)) for unit, texts, fit in rows]


def _label(
    labeller: Labeller, reading: UnitReading, unit: int, texts: Ranked, fit: float, reliable: bool
) -> UnitLabel:
    record, linear = reading.record, labeller == "linear"
    images = tuple(record.images[unit][record.active[unit]].tolist())
    text = " + ".join(word for word, _ in texts) if linear else texts[0][0]
    labels = tuple(texts) if linear else tuple(texts[:1])
    return UnitLabel(unit, text, texts[0][1], labels, tuple(texts), fit, images=images, reliable=reliable)


def _correlations(reading: UnitReading, texts: list[str]) -> list[float]:
    """Correlate each unit with its own label; 1 where the translator's scores are not linear."""
    if not isinstance(reading.translator, MapTranslator):
        return [1.0] * len(texts)
    unique = list(dict.fromkeys(texts))
    scores = text_correlations(reading.map, reading.layer, reading.record, unique)
    if scores is None:
        return [1.0] * len(texts)
    pairs = zip(reading.units, texts, strict=True)
    return [float(scores[unit, unique.index(text)]) for unit, text in pairs]
