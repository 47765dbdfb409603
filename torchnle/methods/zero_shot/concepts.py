"""Zero-Shot Natural Language Explanations: a classifier's own weights teach what words mean in its space."""

from __future__ import annotations

from collections.abc import Sequence

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.translators.rows import Rows


def concepts(
    translator: MapTranslator, rows: Sequence[Rows], texts: Sequence[str], count: int = 15
) -> list[list[tuple[str, float]]]:
    """List the texts with the highest score on every row, best first (section 4.3; the paper takes 15).

    With the names of classes, new or known, it is the paper's zero-shot classification (section 4.1).

    Args:
        translator: A fitted translator.
        rows: The features that the head reads.
        texts: The concepts, or the names of classes.
        count: How many to list.

    Raises:
        ValueError: If `count` is not positive, or as `MapTranslator.score`.

    Example:
        >>> concepts(translator, rows, ["four legs", "wings"], count=1)  # doctest: +SKIP
        [[('wings', 2.1...)]]
    """
    if count < 1:
        raise ValueError(f"count={count}; pass a positive number of concepts to list.")
    scores, order = translator.score(rows, texts).topk(min(count, len(texts)), dim=1)
    listed = zip(scores.tolist(), order.tolist(), strict=True)
    return [[(texts[i], score) for score, i in zip(values, row, strict=True)] for values, row in listed]
