"""Ranking: which phrases of a bank say best what a feature holds, without saying it twice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

#: Two phrases whose texts have at least this cosine say the same.
SAME_MEANING = 0.6


@dataclass(frozen=True)
class Phrases:
    """Phrases with what is known of each.

    Args:
        texts: The phrases, all different.
        meanings: Their unit text vectors, (B, k).
        vectors: Their unit vectors in the classifier's space, (B, D).

    Example:
        >>> phrases = Phrases(("cat", "kitten", "sea"), torch.tensor([[1., 0], [1, 0], [0, 1]]), torch.eye(3))
        >>> phrases.best(torch.tensor([[0.8, 0.6, 0.1]]), count=3)
        [[('cat', 0.8...), ('sea', 0.1...)]]
    """

    texts: tuple[str, ...]
    meanings: Float[Tensor, "B k"]
    vectors: Float[Tensor, "B D"]

    def where(self, keep: Bool[Tensor, "B"]) -> Phrases:
        """Only the phrases that are marked."""
        texts = tuple(text for text, kept in zip(self.texts, keep.tolist(), strict=True) if kept)
        return Phrases(texts, self.meanings[keep], self.vectors[keep])

    def best(self, rows: Float[Tensor, "R D"], count: int) -> list[list[tuple[str, float]]]:
        """For every row the best-scoring phrases, best first, without those that repeat a better one.

        Args:
            rows: Unit rows.
            count: The most phrases a row; fewer where the others repeat.
        """
        scores, chosen = _choose(rows @ self.vectors.T, self.meanings, min(count, len(self.texts)))
        pairs = zip(scores.tolist(), chosen.tolist(), strict=True)
        return [
            [(self.texts[i], score) for score, i in zip(values, indices, strict=True) if score > -torch.inf]
            for values, indices in pairs
        ]


def _choose(
    scores: Float[Tensor, "R B"], meanings: Float[Tensor, "B k"], count: int
) -> tuple[Float[Tensor, "R count"], Int[Tensor, "R count"]]:
    """Take the best `count` times, each time striking out all phrases of its meaning."""
    left, values, indices = scores, [], []
    for _ in range(count):
        value, index = left.max(dim=1)
        same = meanings[index] @ meanings.T >= SAME_MEANING
        left = left.masked_fill(same, -torch.inf).scatter(1, index.unsqueeze(1), -torch.inf)
        values.append(value)
        indices.append(index)
    return torch.stack(values, dim=1), torch.stack(indices, dim=1)
