"""Measure how well a language model in a smaller dtype agrees with itself in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language import decoding, scoring
from torchnle.language.model import LanguageModel


@dataclass(frozen=True)
class Agreement:
    """The differences between two models that read the same rows.

    Args:
        rows: The number of rows.
        same_texts: The number of rows for which both models decode the same text.
        mean: The mean absolute difference of the given texts' log-probabilities, in nats.
        largest: The largest of these differences, in nats.
        same_best: The share of rows on which the same text is the most probable.
    """

    rows: int
    same_texts: int
    mean: float
    largest: float
    same_best: float

    def __str__(self) -> str:
        return (
            f"{self.same_texts} of {self.rows} rows have the same text; log-probabilities differ by "
            f"{self.mean:.2f} nats in the mean, {self.largest:.2f} at most; the most probable text is the "
            f"same on {self.same_best:.0%} of the rows"
        )


@torch.no_grad()
def agreement(
    lm: LanguageModel,
    exact: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    texts: Sequence[str],
    *,
    prompt: str = "",
    stop: str | None = None,
    max_new_tokens: int = 20,
) -> Agreement:
    """Compare two copies of a language model by the texts that they decode and score on the same rows.

    Args:
        lm: The model in a smaller type (`dtype="int8"`, torch.bfloat16).
        exact: The same in float32.
        prefixes: Soft prompts, at least one, of the kind that the model will read, (R, P, E).
        texts: The texts that both score on every row.
        prompt: As `decoding.greedy`.
        stop: As `decoding.greedy`.
        max_new_tokens: As `decoding.greedy`.

    Raises:
        ValueError: If there is no row, or the models cannot read them.

    Example:
        >>> print(Agreement(rows=2, same_texts=1, mean=0.25, largest=0.5, same_best=1.0))
        1 of 2 rows have the same text; log-probabilities differ by 0.25 nats in the mean, 0.50 at most; ...
    """
    if not len(prefixes):
        raise ValueError("agreement() got no rows; pass prefixes as a translator makes them, at least one.")
    decoded_texts, scores = [], []
    for each in (lm, exact):
        decoded = decoding.greedy(each, prefixes, prompt=prompt, stop=stop, max_new_tokens=max_new_tokens)
        decoded_texts.append(decoded.texts)
        scores.append(scoring.log_prob(each, prefixes, texts, prompt=prompt).float())
    difference = (scores[0] - scores[1]).abs()
    return Agreement(
        rows=len(prefixes),
        same_texts=sum(a == b for a, b in zip(*decoded_texts, strict=True)),
        mean=float(difference.mean()),
        largest=float(difference.max()),
        same_best=float((scores[0].argmax(1) == scores[1].argmax(1)).float().mean()),
    )
