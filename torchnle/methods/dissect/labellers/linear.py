"""Linear explanations: a unit as a weighted sum of several words (LE; Oikarinen & Weng, 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: LE's code: so many words at most, each of which must raise the correlation on held-out images by this.
WORDS, GAIN = 10, 0.02
#: Every third image is held out to decide how many words are kept.
_HELD_OUT = 3


@dataclass(frozen=True)
class LinearLabel:
    """A unit as a weighted sum of words' scores.

    Args:
        words: The words, in the order in which they were added.
        weights: Their weights for standardised scores and activations.
        correlation: Of the sum with the activation, on the held-out images that chose how many words.

    Example:
        >>> print(LinearLabel(("a car", "red"), (0.6, 0.31), 0.7))
        0.60 a car + 0.31 red
    """

    words: tuple[str, ...]
    weights: tuple[float, ...]
    correlation: float

    def __str__(self) -> str:
        return " + ".join(f"{w:.2f} {word}" for word, w in zip(self.words, self.weights, strict=True))


def linear_labels(
    scores: Float[Tensor, "N T"],
    activations: Float[Tensor, "N U"],
    words: Sequence[str],
    *,
    most: int = WORDS,
    gain: float = GAIN,
) -> list[LinearLabel]:
    """Explain each unit by a weighted sum of words whose scores predict its activation.

    Words are added greedily, each time the one that correlates most with the residual of the activation
    (orthogonal matching pursuit), with positive weights, until the correlation on held-out images grows by
    less than `gain`.

    Args:
        scores: The score of each word on each image.
        activations: Each unit's activation in each image.
        words: One word per column of `scores`.
        most: The largest number of words per unit.
        gain: The least growth of the correlation per word; 0 = any growth.

    Raises:
        ValueError: If there are fewer than nine images, or not one word per column.

    Example:
        >>> draws = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
        >>> linear_labels(draws, draws[:, :1] + draws[:, 2:], ["a", "b", "c"])[0].words
        ('c', 'a')
    """
    count = len(scores)
    if count < 3 * _HELD_OUT or scores.shape[1] != len(words):
        raise ValueError(
            f"{count} images and {scores.shape[1]} columns came with {len(words)} words; pass nine images or "
            "more, and one word a column."
        )
    held = torch.arange(count) % _HELD_OUT == _HELD_OUT - 1
    train, test = _standard(scores.double(), held), _standard(activations.double(), held)
    return [
        _explain(train, test[:, unit], held, words, most=min(most, len(words)), gain=gain)
        for unit in range(activations.shape[1])
    ]


def _explain(
    scores: Float[Tensor, "N T"],
    wanted: Float[Tensor, "N"],
    held: Tensor,
    words: Sequence[str],
    *,
    most: int,
    gain: float,
) -> LinearLabel:
    fit, kept, best = scores[~held], list[int](), -1.0
    weights = torch.empty(0, dtype=torch.double)
    residual = wanted[~held]
    while len(kept) < most:
        products = fit.T @ residual
        products[kept] = -torch.inf
        candidate = [*kept, int(products.argmax())]
        solved = torch.linalg.lstsq(fit[:, candidate], wanted[~held][:, None]).solution[:, 0]
        reached = _correlation(scores[held][:, candidate] @ solved, wanted[held])
        if kept and (reached < best + gain or bool((solved <= 0).any())):
            break
        kept, weights, best = candidate, solved, reached
        residual = wanted[~held] - fit[:, kept] @ weights
    order = weights.abs().argsort(descending=True).tolist()
    return LinearLabel(tuple(words[kept[i]] for i in order), tuple(float(weights[i]) for i in order), best)


def _standard(values: Float[Tensor, "N W"], held: Tensor) -> Float[Tensor, "N W"]:
    """Standardised by the images that are fitted."""
    fit = values[~held]
    return (values - fit.mean(dim=0)) / fit.std(dim=0).clamp_min(1e-12)


def _correlation(first: Float[Tensor, "n"], second: Float[Tensor, "n"]) -> float:
    a, b = first - first.mean(), second - second.mean()
    return float(a @ b / (a.norm() * b.norm()).clamp_min(1e-12))
