"""Compare the word frequencies of two groups of rows, with intervals and p-values."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchnle.methods.texplain.words.table import WordTable

#: A shift is sure if chance alone makes one as large among all words less often than this (Bonferroni).
_LEVEL = 0.05
_Z = 1.96


@dataclass(frozen=True)
class Shift:
    """The difference of a word's frequency between two groups, with its interval and p-value.

    Args:
        text: The lemma.
        difference: Mean frequency in the first group minus that in the second.
        low: Lower end of its 95 % interval (Welch's).
        high: Upper end.
        p_value: The two-sided probability of such a difference by chance, for this word alone.
        sure: Whether it holds for all words of the table at once, at 5 %.
    """

    text: str
    difference: float
    low: float
    high: float
    p_value: float
    sure: bool


def compare(first: WordTable, second: WordTable, k: int | None = 10) -> list[Shift]:
    """Find the words that differ most between two groups of rows of one table, by their standard error.

    Training against test images of a class shows what its training images had beside it (section 4.4).

    Args:
        first: Some rows.
        second: Other rows of the same table.
        k: How many words; None = all.

    Raises:
        ValueError: If the tables have other words, or a group has fewer than two rows, whose spread is
            unknown.

    Example:
        >>> from torchnle.methods.texplain.words.sentences import Sentences
        >>> texts = ("a hen", "a lake")
        >>> rows = [Sentences(texts, torch.tensor([1 - p, p]), torch.zeros(2)) for p in (0.1, 0.2, 0.8, 0.9)]
        >>> table = WordTable.of(rows)
        >>> shift = compare(table[2:], table[:2])[0]
        >>> shift.text, round(shift.difference, 2), shift.sure
        ('hen', -0.7, True)
    """
    if first.words != second.words:
        raise ValueError(
            "the two tables have other words; compare rows of one table: table[rows], table[others]."
        )
    if min(len(first), len(second)) < 2:
        raise ValueError(
            f"groups of {len(first)} and {len(second)} rows: the spread of a single row is unknown. Pass "
            f"two images "
            "or more of each."
        )
    a, b = first.frequencies.double(), second.frequencies.double()
    difference = a.mean(dim=0) - b.mean(dim=0)
    error = (a.var(dim=0) / len(a) + b.var(dim=0) / len(b)).sqrt().clamp_min(1e-12)
    z = difference / error
    p = torch.special.erfc(z.abs() / 2**0.5)
    order = z.abs().argsort(descending=True, stable=True)[:k].tolist()
    return [
        Shift(
            first.words[i],
            float(difference[i]),
            float(difference[i] - _Z * error[i]),
            float(difference[i] + _Z * error[i]),
            float(p[i]),
            bool(p[i] * len(first.words) < _LEVEL),
        )
        for i in order
    ]


def agreement(first: WordTable, second: WordTable) -> float:
    """Compute the cosine between the mean word frequencies of two tables, which may have other words.

    Of words of features and words of captions of the same pictures (section 4.3): 1 = the same words as
    often, 0 = no word in common.

    Example:
        >>> from torchnle.methods.texplain.words.sentences import Sentences
        >>> features = WordTable.of([Sentences(("a hen on grass",), torch.ones(1), torch.zeros(1))])
        >>> captions = WordTable.of([Sentences(("a hen",), torch.ones(1), torch.zeros(1))])
        >>> round(agreement(features, captions), 3)
        0.707
    """
    words = dict.fromkeys([*first.words, *second.words])
    means = [
        dict(zip(table.words, table.frequencies.mean(dim=0).tolist(), strict=True))
        for table in (first, second)
    ]
    a, b = (torch.tensor([mean.get(word, 0.0) for word in words]) for mean in means)
    return float(torch.cosine_similarity(a, b, dim=0))
