"""The best texts of every location, and the best locations of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torchnle.attr.located import locations
from torchnle.description import Description
from torchnle.language.ranking import Ranking
from torchnle.types import ScoreKind
from torchnle.vision.features import Features

_Found = TypeVar("_Found", covariant=True)


@dataclass(frozen=True)
class Top(Generic[_Found]):
    """The best results, and the cost of finding them.

    Args:
        found: For texts the result of `describe`, each `Description` with its best text and the next best as
            its `phrases`; for locations one `Description` a location, best first.
        extensions: How many prefixes of texts were read beyond their first token.
        exhaustive: The same number for scoring all texts; 0 if the translator reads no prefixes.

    Example:
        >>> Top([Description("a cat", -1.5, layer="layer4", location=(0, 3))], 2, 49).found[0].location
        (0, 3)
    """

    found: list[_Found]
    extensions: int
    exhaustive: int


def best_texts(ranking: Ranking, texts: Sequence[str]) -> list[Description]:
    """Build one description a row: its best text, and the next best as phrases."""
    described = []
    for numbers, scores in zip(ranking.indices.tolist(), ranking.scores.tolist(), strict=True):
        phrases = [(texts[number], score) for number, score in zip(numbers, scores, strict=True)]
        (best, score), *others = phrases
        described.append(Description(best, score, phrases=tuple(others)))
    return described


def best_locations(
    ranking: Ranking, text: str, features: Sequence[Features], kind: ScoreKind, *, joint: bool
) -> list[Description]:
    """Build one description a location, best first."""
    places = list(locations(features, joint=joint))
    return [
        Description(text, score, kind, *places[row])
        for row, score in zip(ranking.indices.tolist(), ranking.scores.tolist(), strict=True)
    ]
