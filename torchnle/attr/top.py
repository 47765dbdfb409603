"""The best texts of every place, and the best places of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torchnle.description import Description
from torchnle.language.ranking import Ranking
from torchnle.types import ScoreKind
from torchnle.vision.features import Features


@dataclass(frozen=True)
class Top:
    """The best, and what it took to find them.

    Args:
        found: For texts what `describe` returns, each `Description` with its best text and the next best
            as its `phrases`; for places one `Description` a place, best first.
        extensions: How many beginnings of texts were read beyond their first token.
        exhaustive: How many scoring everything would have read; 0 where a translator reads none.

    Example:
        >>> Top([Description("a cat", -1.5, layer="layer4", location=(0, 3))], 2, 49).found[0].location
        (0, 3)
    """

    found: list[Any]
    extensions: int
    exhaustive: int


def describe_texts(
    ranking: Ranking,
    texts: Sequence[str],
    features: Sequence[Features],
    kind: ScoreKind,
    *,
    joint: bool,
) -> list[Description]:
    """One description a row: its best text, and the next best as phrases."""
    described = []
    for numbers, scores, (layer, image, location) in zip(
        ranking.indices.tolist(), ranking.scores.tolist(), _places(features, joint), strict=True
    ):
        phrases = [(texts[number], score) for number, score in zip(numbers, scores, strict=True)]
        (best, score), *others = phrases
        described.append(Description(best, score, kind, layer, image, location, tuple(others)))
    return described


def describe_places(
    ranking: Ranking,
    text: str,
    features: Sequence[Features],
    kind: ScoreKind,
    *,
    joint: bool,
) -> list[Description]:
    """One description a place, best first."""
    places = list(_places(features, joint))
    return [
        Description(text, score, kind, *places[row])
        for row, score in zip(ranking.indices.tolist(), ranking.scores.tolist(), strict=True)
    ]


def _places(features: Sequence[Features], joint: bool) -> Iterator[tuple[str, int, tuple[int, int] | None]]:
    """The layer, image and location of every row, in row order."""
    names = "+".join(each.layer for each in features)
    for each in features[:1] if joint else features:
        for image in range(each.batch_size):
            for location in each.locations:
                yield (names if joint else each.layer), image, location
