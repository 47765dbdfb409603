"""Find rows that are equal, or nearly equal, so that one of them is decoded for all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: How many rows with another row as representative are decoded after all, to measure the disagreement.
#: With none of 60 disagreeing, fewer than 5 % of all do, at 95 % confidence (rule of three).
CHECKED = 60


@dataclass(frozen=True)
class Disagreement:
    """How often the text decoded for a near-duplicate's representative differs from the row's own text.

    Args:
        decoded: The number of representatives, which were decoded.
        checked: The number of other rows, drawn at random, that were decoded for comparison.
        different: The number of these with another text.
        log_prob_difference: The largest difference of their log-probabilities in nats, 0 if none.
    """

    decoded: int
    checked: int
    different: int
    log_prob_difference: float


def unique_rows(rows: Float[Tensor, "R *shape"]) -> tuple[Int[Tensor, "U"], Int[Tensor, "R"]]:
    """Find the distinct rows of a tensor, compared exactly.

    Returns:
        The index of the first of each set of equal rows, ascending, and for every row the position of its
        representative among these.

    Example:
        >>> first, index = unique_rows(torch.tensor([[2.0], [1.0], [2.0]]))
        >>> first.tolist(), index.tolist()
        ([0, 1], [0, 1, 0])
    """
    _, group = torch.unique(rows.flatten(1), dim=0, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    numbers = torch.arange(len(group), device=rows.device)
    first = numbers.new_full((count,), len(group)).scatter_reduce(0, group, numbers, "amin")
    order = first.argsort()
    return first[order], order.argsort()[group]


def near_rows(rows: Float[Tensor, "R *shape"], eps: float) -> tuple[Int[Tensor, "U"], Int[Tensor, "R"]]:
    """Find near-duplicates of earlier rows: within `eps` of one, relative to its Euclidean norm.

    Returns:
        As `unique_rows`.

    Raises:
        ValueError: If `eps` is negative or not a number.

    Example:
        >>> first, index = near_rows(torch.tensor([[1.0], [1.01], [2.0]]), eps=0.05)
        >>> first.tolist(), index.tolist()
        ([0, 2], [0, 0, 1])
    """
    if not eps >= 0:
        raise ValueError(f"dedupe={eps}; pass a distance relative to the norm, 0 or above, such as 0.01.")
    flat = rows.flatten(1).float()
    index = torch.full((len(flat),), -1, device=rows.device)
    first: list[int] = []
    while (free := (index < 0).nonzero()[:, 0]).numel():
        representative = flat[free[0]]
        near = (flat[free] - representative).norm(dim=1) <= eps * representative.norm()
        near[0] = True
        index[free[near]] = len(first)
        first.append(int(free[0]))
    return torch.tensor(first, dtype=torch.long, device=rows.device), index


def draw_to_check(first: Int[Tensor, "U"], rows: int) -> Int[Tensor, "C"]:
    """Draw a sample of the rows that have another representative, the same one in every run.

    Args:
        first: The representatives, from `near_rows`.
        rows: The number of all rows.

    Returns:
        Indices of at most `CHECKED` rows.
    """
    duplicate = torch.ones(rows, dtype=torch.bool)
    duplicate[first.cpu()] = False
    numbers = duplicate.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(0)
    return numbers[torch.randperm(len(numbers), generator=generator)[:CHECKED]].to(first.device)
