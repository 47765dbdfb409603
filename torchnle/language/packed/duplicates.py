"""Rows that are equal, or nearly so, and need to be decoded only once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: How many rows that were spoken for by a neighbour are decoded after all, to measure the disagreement.
#: With none of 60 disagreeing, fewer than 5 % of all do, at 95 % confidence (rule of three).
CHECKED = 60


@dataclass(frozen=True)
class Disagreement:
    """The count of rows whose own text is not the one of the row that spoke for it.

    Args:
        decoded: How many rows were decoded.
        checked: How many of the other rows, drawn at random, were decoded after all.
        different: How many of these had another text.
        log_prob_difference: The largest difference of their log-probabilities in nats, 0 if none.
    """

    decoded: int
    checked: int
    different: int
    log_prob_difference: float


def unique_rows(rows: Float[Tensor, "R *shape"]) -> tuple[Int[Tensor, "U"], Int[Tensor, "R"]]:
    """Find rows that are equal, number for number (padding, dead borders).

    Returns:
        The number of the first of each set of equal rows, ascending, and for every row the place of its
        representative among them.

    Example:
        >>> first, place = unique_rows(torch.tensor([[2.0], [1.0], [2.0]]))
        >>> first.tolist(), place.tolist()
        ([0, 1], [0, 1, 0])
    """
    _, group = torch.unique(rows.flatten(1), dim=0, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    numbers = torch.arange(len(group), device=rows.device)
    first = numbers.new_full((count,), len(group)).scatter_reduce(0, group, numbers, "amin")
    order = first.argsort()
    return first[order], order.argsort()[group]


def near_rows(rows: Float[Tensor, "R *shape"], eps: float) -> tuple[Int[Tensor, "U"], Int[Tensor, "R"]]:
    """Find rows for which an earlier row can speak: within `eps` of it, relative to its Euclidean norm.

    Returns:
        As `unique_rows`.

    Raises:
        ValueError: If `eps` is negative or not a number.

    Example:
        >>> first, place = near_rows(torch.tensor([[1.0], [1.01], [2.0]]), eps=0.05)
        >>> first.tolist(), place.tolist()
        ([0, 2], [0, 0, 1])
    """
    if not eps >= 0:
        raise ValueError(f"dedupe={eps}; pass a distance relative to the norm, 0 or above, such as 0.01.")
    flat = rows.flatten(1).float()
    place = torch.full((len(flat),), -1, device=rows.device)
    first: list[int] = []
    while (free := (place < 0).nonzero()[:, 0]).numel():
        speaker = flat[free[0]]
        near = (flat[free] - speaker).norm(dim=1) <= eps * speaker.norm()
        near[0] = True
        place[free[near]] = len(first)
        first.append(int(free[0]))
    return torch.tensor(first, dtype=torch.long, device=rows.device), place


def draw_to_check(first: Int[Tensor, "U"], rows: int) -> Int[Tensor, "C"]:
    """Draw rows that were spoken for, the same ones in every run."""
    spoken_for = torch.ones(rows, dtype=torch.bool)
    spoken_for[first.cpu()] = False
    numbers = spoken_for.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(0)
    return numbers[torch.randperm(len(numbers), generator=generator)[:CHECKED]].to(first.device)
