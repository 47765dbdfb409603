"""CIDEr-D: similarity of captions by n-grams weighted by rarity (Vedantam et al. 2015, section 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import exp, log, sqrt
from typing import TypeAlias

_LONGEST = 4  # n-grams of 1 to 4 words
_SIGMA = 6.0  # the standard deviation of caption lengths, in words
_SCALE = 10.0

_Grams: TypeAlias = Counter[tuple[str, ...]]


def cider_scores(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """Compute the CIDEr-D score of each caption.

    A caption is a vector over n-grams, of their counts times their log inverse frequency among the images'
    references. For each n from 1 to 4 the score is the cosine with a reference's vector, the caption's counts
    clipped to it, times a Gaussian of the difference in length; it is averaged over n and references, times
    10.

    Args:
        candidates: Each caption's words.
        references: The words of each of its references.

    Returns:
        One score per caption, from 0 to 10.

    Example:
        >>> references = [[["a", "hen"]], [["an", "owl"]]]
        >>> [round(score, 3) for score in cider_scores([["a", "hen"], ["a", "hen"]], references)]
        [5.0, 0.0]
    """
    seen_in = Counter(
        gram for texts in references for gram in {gram for text in texts for gram in _grams(text)}
    )
    rarity = {gram: log(len(references)) - log(count) for gram, count in seen_in.items()}
    unseen = log(len(references))
    return [
        _SCALE * sum(_similarity(candidate, text, rarity, unseen) for text in texts) / len(texts)
        for candidate, texts in zip(candidates, references, strict=True)
    ]


def _similarity(
    candidate: Sequence[str],
    reference: Sequence[str],
    rarity: Mapping[tuple[str, ...], float],
    unseen: float,
) -> float:
    ours, theirs = _grams(candidate), _grams(reference)
    total = 0.0
    for length in range(1, _LONGEST + 1):
        mine = dict(_weighted(ours, length, rarity, unseen))
        other = dict(_weighted(theirs, length, rarity, unseen))
        norms = _norm(mine) * _norm(other)
        if norms:
            total += (
                sum(min(value, other.get(gram, 0.0)) * other.get(gram, 0.0) for gram, value in mine.items())
                / norms
            )
    return total / _LONGEST * exp(-((len(candidate) - len(reference)) ** 2) / (2 * _SIGMA**2))


def _grams(text: Sequence[str]) -> _Grams:
    return Counter(
        tuple(text[start : start + length])
        for length in range(1, _LONGEST + 1)
        for start in range(len(text) - length + 1)
    )


def _weighted(
    grams: _Grams, length: int, rarity: Mapping[tuple[str, ...], float], unseen: float
) -> Iterator[tuple[tuple[str, ...], float]]:
    return ((gram, n * rarity.get(gram, unseen)) for gram, n in grams.items() if len(gram) == length)


def _norm(vector: Mapping[tuple[str, ...], float]) -> float:
    return sqrt(sum(value * value for value in vector.values()))
