"""Phrase prototypes: pooled features regressed on the phrases of captions, in one pass."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: The most phrases that are kept. Where twice as many have come, the rarer half is dropped.
CAPACITY = 4096
#: Added to each phrase's count: a phrase seen once moves half as far from the mean as its one picture.
_PRIOR_COUNT = 0.5
#: Features that vary less than this, relative to their size, are the same up to rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Prototypes:
    """The solution of the regression of pooled features on phrases.

    Args:
        phrases: The phrases, most frequent first.
        counts: The number of captions with each, (P,).
        vectors: The regression coefficients: how much each phrase's presence changes the pooled feature, (P,
            D).
        center: The mean pooled feature, (D,).
        within: The covariance of the regression's residuals, (D, D).
    """

    phrases: tuple[str, ...]
    counts: Float[Tensor, "P"]
    vectors: Float[Tensor, "P D"]
    center: Float[Tensor, "D"]
    within: Float[Tensor, "D D"]


class PhraseSums:
    """Accumulates the normal equations of pooled features on phrases; memory does not grow with the data.

    Args:
        width: The width D of the features.
        capacity: The largest number of phrases that `solve` returns.

    Example:
        >>> sums = PhraseSums(2)
        >>> sums.add(torch.tensor([[4.0, 0.0], [0.0, 4.0]] * 50), [["a cat"], ["a dog"]] * 50)
        >>> found = sums.solve()
        >>> [phrase for phrase, vector in zip(found.phrases, found.vectors) if vector[0] > vector[1]]
        ['a cat']
    """

    def __init__(self, width: int, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.count = 0
        self.columns: dict[str, int] = {}
        self._together = torch.zeros(0, 0)  # how often two phrases are named together: exact up to 2**24
        self._by_phrase = torch.zeros(0, width, dtype=torch.float64)
        self._total = torch.zeros(width, dtype=torch.float64)
        self._products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, pooled: Float[Tensor, "N D"], phrases: Sequence[Sequence[str]]) -> None:
        """Add images: their pooled features, and which phrases each one's caption names."""
        self._make_room(sorted({phrase for listed in phrases for phrase in listed}))
        self._sum(pooled, phrases, 1)

    def without(self, pooled: Float[Tensor, "N D"], phrases: Sequence[Sequence[str]]) -> PhraseSums:
        """Return the sums with some images subtracted.

        Args:
            pooled: Pooled features of images that were added.
            phrases: The phrases of their captions.

        Example:
            >>> sums, cats, dogs = PhraseSums(1), torch.tensor([[1.0], [3.0]]), torch.tensor([[7.0]])
            >>> sums.add(torch.cat([cats, dogs]), [["a cat"], ["a cat"], ["a dog"]])
            >>> sums.without(dogs, [["a dog"]]).columns
            {'a cat': 0}
        """
        left = copy.deepcopy(self)
        left._sum(pooled, [[phrase for phrase in listed if phrase in self.columns] for listed in phrases], -1)
        counts = left._together.diagonal().tolist()
        left._keep([phrase for phrase, column in self.columns.items() if counts[column] > 0])
        return left

    def _sum(self, pooled: Float[Tensor, "N D"], phrases: Sequence[Sequence[str]], sign: int) -> None:
        rows = pooled.detach().double().cpu()
        present = sorted({phrase for listed in phrases for phrase in listed})
        column = {phrase: index for index, phrase in enumerate(present)}
        which = torch.zeros(len(rows), len(present), dtype=torch.float64)
        for image, listed in enumerate(phrases):
            which[image, [column[phrase] for phrase in listed]] = 1
        columns = torch.tensor([self.columns[phrase] for phrase in present], dtype=torch.long)
        self.count += sign * len(rows)
        self._total += sign * rows.sum(dim=0)
        self._products += sign * rows.T @ rows
        self._together[columns[:, None], columns] += sign * (which.T @ which).float()
        self._by_phrase[columns] += sign * which.T @ rows

    def solve(self) -> Prototypes:
        """Solve for the prototypes, in float64.

        Raises:
            ValueError: If fewer than two images or no phrase were added, or features do not vary with the
                phrases.
        """
        if self.count < 2 or not self.columns:
            raise ValueError(
                f"{self.count} captioned images with {len(self.columns)} different phrases were given; a fit "
                "needs at least two images and one noun phrase among their captions."
            )
        self._keep(self._commonest(self.capacity))
        together = self._together.double()
        counts = together.diagonal()
        center = self._total / self.count
        gram = together - torch.outer(counts, counts) / self.count
        moved = self._by_phrase - torch.outer(counts, center)
        vectors = torch.linalg.solve(gram + _PRIOR_COUNT * torch.eye(len(gram)).to(gram), moved)
        if not vectors.norm(dim=1).max() > _ROUNDING * (self._products.trace() / self.count).sqrt():
            raise ValueError(
                f"the features of {self.count} captioned images do not vary with the {len(counts)} phrase(s) "
                "of their captions; pass images that differ, whose captions do not all name the same."
            )
        spread = self._products - self.count * torch.outer(center, center)
        explained = vectors.T @ moved
        within = (spread - explained - explained.T + vectors.T @ gram @ vectors) / self.count
        return Prototypes(
            tuple(self.columns), counts.float(), vectors.float(), center.float(), within.float()
        )

    def _make_room(self, present: Sequence[str]) -> None:
        """Give every phrase a column; where there are too many, the rarer of the old ones lose theirs."""
        if len(self.columns.keys() | present) > 2 * self.capacity:
            self._keep(self._commonest(self.capacity))
        for phrase in present:
            self.columns.setdefault(phrase, len(self.columns))
        old, width = self._by_phrase.shape
        if len(self.columns) > old:
            size = max(len(self.columns), min(2 * old, 2 * self.capacity))
            together, by_phrase = torch.zeros(size, size), self._by_phrase.new_zeros(size, width)
            together[:old, :old], by_phrase[:old] = self._together, self._by_phrase
            self._together, self._by_phrase = together, by_phrase

    def _commonest(self, count: int) -> list[str]:
        """List the commonest phrases, of equally common ones the first in the alphabet."""
        counts = dict(zip(self.columns, self._together.diagonal().tolist(), strict=False))
        return sorted(counts, key=lambda phrase: (-counts[phrase], phrase))[:count]

    def _keep(self, phrases: Sequence[str]) -> None:
        rows = torch.tensor([self.columns[phrase] for phrase in phrases], dtype=torch.long)
        self._together, self._by_phrase = self._together[rows][:, rows], self._by_phrase[rows]
        self.columns = {phrase: index for index, phrase in enumerate(phrases)}
