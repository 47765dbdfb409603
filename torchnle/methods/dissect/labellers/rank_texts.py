"""Rank texts for each unit by any labelling method, on one probing record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.labellers.clip_dissect import HARD_IMAGES, soft_wpmi, wpmi
from torchnle.methods.dissect.labellers.linear import LinearLabel, linear_labels
from torchnle.methods.dissect.labellers.nearest import masked_mean, nearest_text_scores, rank_by
from torchnle.methods.dissect.labellers.reranking import mean_log_probability, milan_scores
from torchnle.methods.dissect.probing.record import LayerRecord
from torchnle.methods.dissect.scores import text_correlations
from torchnle.methods.dissect.selection.expected import ExpectedActivations
from torchnle.methods.dissect.words import describe_rows, phrase_probabilities, score_rows
from torchnle.translators.base import Translator
from torchnle.types import Labeller

#: So many texts a unit are listed.
LISTED = 10
#: Texts with their scores, the best first.
Ranked = list[tuple[str, float]]


@dataclass(frozen=True)
class UnitReading:
    """What labellers read: a record, and a translator of its evidence layer.

    Args:
        record: What probing found, with its table.
        translator: Reads the evidence layer; all labellers but "masked exemplars" need a map from text into
            features.
        layer: The evidence layer's name.
        units: The units to label, none of them dead.
    """

    record: LayerRecord
    translator: Translator
    layer: str
    units: Sequence[int]

    @property
    def map(self) -> MapTranslator:
        """The translator as a map.

        Raises:
            ValueError: If it is none.
        """
        if not isinstance(self.translator, MapTranslator):
            raise ValueError(
                f"'{self.translator.name}' is no map from text into features, which this labeller ranks "
                "texts by; pass a map, or labeller='masked exemplars'."
            )
        return self.translator

    @property
    def texts(self) -> list[str]:
        """The texts that are ranked: the map's vocabulary."""
        return list(self.map.vocabulary.phrases)

    @property
    def evidence(self) -> Float[Tensor, "U k E"]:
        """The features of each unit's exemplars.

        Raises:
            ValueError: If no evidence layer was read while probing.
        """
        if self.record.evidence is None:
            raise ValueError("the record has no evidence; probe with evidence=EvidenceLayer(...).")
        return self.record.evidence[list(self.units)]

    def most_active(self, count: int | None = None) -> Tensor:
        """Return each unit's most active images as rows of the table, (U, w)."""
        row_of = {number: i for i, number in enumerate(self.record.read.tolist())}
        listed = self.record.more_images[list(self.units), :count]
        complete = listed[:, : int((listed >= 0).sum(dim=1).min())]
        return torch.tensor([[row_of[i] for i in row] for row in complete.tolist()])

    def cosines(self) -> Float[Tensor, "N T"]:
        """Compute the cosine of every image's whitened feature with every text's direction."""
        vectors = self.record.vectors
        norms = self.map.map_for(self.layer, vectors.shape[1]).whiten(vectors).norm(dim=1, keepdim=True)
        found: Tensor = (score_rows(self.map, self.layer, vectors, self.texts) / norms).cpu()
        return found


def text_scores(labeller: Labeller, reading: UnitReading) -> Float[Tensor, "U T"]:
    """Score the map's whole vocabulary on each unit.

    Args:
        labeller: Any but "linear" and "masked exemplars", which choose no single text of a list.
        reading: What it reads.

    Raises:
        ValueError: If the labeller ranks no texts, or the translator is no map.
    """
    if labeller not in _SCORES:
        raise ValueError(f"labeller={labeller!r} ranks no texts; pass one of {sorted(_SCORES)}.")
    return _SCORES[labeller](reading)


def ranked(labeller: Labeller, reading: UnitReading) -> list[Ranked]:
    """Rank texts for each unit, the best first; a linear combination's words come with their weights.

    Raises:
        ValueError: If the labeller lacks what it reads.

    Example:
        >>> ranked("correlation", UnitReading(record, translator, "layer", [0]))  # doctest: +SKIP
        [[('a car', 0.61), ('a bus', 0.4)]]
    """
    if labeller == "masked exemplars":
        pairs = describe_rows(reading.translator, reading.layer, masked_mean(reading.evidence))
        return [[pair] for pair in pairs]
    if labeller == "linear":
        return [list(zip(each.words, each.weights, strict=True)) for each in combinations(reading)]
    return rank_by(text_scores(labeller, reading), reading.texts, LISTED)


def combinations(reading: UnitReading, *, most: int = LISTED, gain: float = 0.0) -> list[LinearLabel]:
    """Explain each unit by a weighted sum of words (LE; see `linear_labels`).

    Args:
        reading: What it reads; the record needs its table.
        most: The largest number of words.
        gain: The least growth of the held-out correlation with a further word.
    """
    scores = score_rows(reading.map, reading.layer, reading.record.vectors, reading.texts).cpu()
    activations = reading.record.activations[:, list(reading.units)]
    return linear_labels(scores, activations, reading.texts, most=most, gain=gain)


def _expected(reading: UnitReading) -> Tensor:
    expected = ExpectedActivations.fitted(reading.map, reading.layer, reading.record)
    return expected(reading.texts)[:, list(reading.units)].T


def _correlated(reading: UnitReading) -> Tensor:
    found = text_correlations(reading.map, reading.layer, reading.record, reading.texts)
    if found is None:
        raise ValueError("no table was kept while probing; pass ProbeSettings(table=True).")
    return found[list(reading.units)]


def _nearest(reading: UnitReading) -> Tensor:
    given = (reading.evidence, reading.texts, reading.record.mean_feature)
    return nearest_text_scores(reading.map, reading.layer, *given)


def _reranked(reading: UnitReading) -> Tensor:
    evidence = reading.evidence
    found = phrase_probabilities(reading.map, reading.layer, evidence.flatten(0, 1))
    given = mean_log_probability(found.view(*evidence.shape[:2], -1).cpu())
    return milan_scores(given, given.exp().mean(dim=0).clamp_min(1e-12).log())


_SCORES: dict[str, Callable[[UnitReading], Tensor]] = {
    "soft WPMI": lambda reading: soft_wpmi(reading.most_active(), reading.cosines()),
    "WPMI": lambda reading: wpmi(reading.most_active(HARD_IMAGES), reading.cosines()),
    "nearest text": _nearest,
    "re-ranking": _reranked,
    "expected activation": _expected,
    "correlation": _correlated,
}
