"""The result of a search for the best texts or rows."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Ranking:
    """The best texts of each row, or the best rows of a text, with their scores.

    Args:
        indices: Their indices, best first: (R, k) texts of each row, or (k,) rows.
        scores: Their scores, of the same shape.
        extensions: The number of partial texts that were read.
        exhaustive: The number that scoring everything would have read.
    """

    indices: Int[Tensor, "*shape"]
    scores: Float[Tensor, "*shape"]
    extensions: int = 0
    exhaustive: int = 0

    @classmethod
    def of(cls, scores: Float[Tensor, "*rows n"], k: int) -> Ranking:
        """Rank given scores: the k largest, or all if there are fewer; equal scores by index.

        Example:
            >>> import torch
            >>> Ranking.of(torch.tensor([[0.1, 0.9, 0.9]]), 2).indices.tolist()
            [[1, 2]]
        """
        ranked, order = scores.sort(dim=-1, descending=True, stable=True)
        return cls(order[..., :k], ranked[..., :k])


def check_k(k: int) -> None:
    """Refuse a number of results that is not positive.

    Raises:
        ValueError: If it is not positive.
    """
    if k < 1:
        raise ValueError(f"k={k}; pass how many to find, 1 or more.")
