"""The best of some texts or rows."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Ranking:
    """The best of some texts or rows.

    Args:
        indices: Their numbers, best first: (R, k) texts of each row, or (k,) rows.
        scores: Their scores, of the same shape.
        extensions: How many beginnings of texts were read after a row's prefix.
        exhaustive: How many there are: what scoring everything would have read.
    """

    indices: Int[Tensor, "*shape"]
    scores: Float[Tensor, "*shape"]
    extensions: int = 0
    exhaustive: int = 0

    @classmethod
    def of(cls, scores: Float[Tensor, "*rows n"], k: int) -> Ranking:
        """Rank scores that are all known: the k largest, or all if there are fewer; equals by number.

        Example:
            >>> import torch
            >>> Ranking.of(torch.tensor([[0.1, 0.9, 0.9]]), 2).indices.tolist()
            [[1, 2]]
        """
        ranked, order = scores.sort(dim=-1, descending=True, stable=True)
        return cls(order[..., :k], ranked[..., :k])


def check_k(k: int) -> None:
    """Raise if it is no number of results.

    Raises:
        ValueError: If it is not positive.
    """
    if k < 1:
        raise ValueError(f"k={k}; pass how many to find, 1 or more.")
