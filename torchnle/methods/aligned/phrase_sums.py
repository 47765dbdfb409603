"""One prototype a phrase: pooled features regressed on the phrases that captions name, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: The most phrases that are kept. Where twice as many have come, the rarer half is dropped.
CAPACITY = 4096
#: Added to each phrase's count: a phrase seen once moves half as far from the mean as its one picture.
_PRIOR_COUNT = 0.5


@dataclass(frozen=True)
class Prototypes:
    """The solution of the regression of pooled features on phrases.

    Args:
        phrases: The phrases, commonest first.
        counts: How many captions named each, (P,).
        vectors: By how much each phrase's presence moves the pooled feature, (P, D).
        center: The mean pooled feature, (D,).
        within: The covariance of pooled features that is left when their phrases are accounted for, (D, D).
    """

    phrases: tuple[str, ...]
    counts: Float[Tensor, "P"]
    vectors: Float[Tensor, "P D"]
    center: Float[Tensor, "D"]
    within: Float[Tensor, "D D"]


class PhraseSums:
    """The normal equations of that regression, added up batch by batch; memory does not grow with the data.

    Args:
        width: The width D of the features.
        capacity: The most phrases that `solve` returns.

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
        self._together = torch.zeros(0, 0, dtype=torch.float64)
        self._by_phrase = torch.zeros(0, width, dtype=torch.float64)
        self._total = torch.zeros(width, dtype=torch.float64)
        self._products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, pooled: Float[Tensor, "N D"], phrases: Sequence[Sequence[str]]) -> None:
        """Add images: their pooled features, and which phrases each one's caption names."""
        rows = pooled.detach().double().cpu()
        named = [list(dict.fromkeys(listed)) for listed in phrases]
        self._make_room({phrase for listed in named for phrase in listed})
        which = torch.zeros(len(rows), len(self.columns), dtype=torch.float64)
        for image, listed in enumerate(named):
            which[image, [self.columns[phrase] for phrase in listed]] = 1
        self.count += len(rows)
        self._total += rows.sum(dim=0)
        self._products += rows.T @ rows
        self._together += which.T @ which
        self._by_phrase += which.T @ rows

    def solve(self) -> Prototypes:
        """Solve for the prototypes, in float64.

        Raises:
            ValueError: If fewer than two images were added, or no phrase.
        """
        if self.count < 2 or not self.columns:
            raise ValueError(
                f"{self.count} captioned images with {len(self.columns)} different phrases were given; a fit "
                "needs at least two images and one noun phrase among their captions."
            )
        self._keep(self._commonest(self.capacity))
        counts = self._together.diagonal().clone()
        center = self._total / self.count
        gram = self._together - torch.outer(counts, counts) / self.count
        moved = self._by_phrase - torch.outer(counts, center)
        vectors = torch.linalg.solve(gram + _PRIOR_COUNT * torch.eye(len(gram)).to(gram), moved)
        spread = self._products - self.count * torch.outer(center, center)
        explained = vectors.T @ moved
        within = (spread - explained - explained.T + vectors.T @ gram @ vectors) / self.count
        return Prototypes(
            tuple(self.columns), counts.float(), vectors.float(), center.float(), within.float()
        )

    def _make_room(self, phrases: set[str]) -> None:
        new = sorted(phrases - self.columns.keys())
        if new and len(self.columns) + len(new) > 2 * self.capacity:
            self._keep(self._commonest(self.capacity))
        for phrase in new:
            self.columns[phrase] = len(self.columns)
        size = len(self.columns)
        if size > len(self._together):
            grown = torch.zeros(size, size, dtype=torch.float64)
            grown[: len(self._together), : len(self._together)] = self._together
            rows = torch.zeros(size, self._by_phrase.shape[1], dtype=torch.float64)
            rows[: len(self._by_phrase)] = self._by_phrase
            self._together, self._by_phrase = grown, rows

    def _commonest(self, count: int) -> list[str]:
        counts = Counter(dict(zip(self.columns, self._together.diagonal().tolist(), strict=True)))
        return [phrase for phrase, _ in counts.most_common(count)]

    def _keep(self, phrases: Sequence[str]) -> None:
        rows = torch.tensor([self.columns[phrase] for phrase in phrases], dtype=torch.long)
        self._together, self._by_phrase = self._together[rows][:, rows], self._by_phrase[rows]
        self.columns = {phrase: index for index, phrase in enumerate(phrases)}
