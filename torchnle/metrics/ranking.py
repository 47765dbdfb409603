"""The area under the receiver operating characteristic, for many columns at once."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def auroc(values: Float[Tensor, "N W"], positive: Bool[Tensor, "N"]) -> Float[Tensor, "W"]:
    """Compute the area under the ROC curve of each column of scores; ties count half.

    Args:
        values: One column per score.
        positive: Whether each row is positive.

    Raises:
        ValueError: If there is no positive or no negative row.

    Example:
        >>> values = torch.tensor([[0.1], [0.4], [0.4], [0.9]])
        >>> auroc(values, torch.tensor([False, False, True, True])).tolist()
        [0.875]
    """
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        raise ValueError(f"{count} positive and {others} negative rows: pass at least one of each.")
    ranks = _mean_ranks(values.double())
    above = ranks[positive].sum(dim=0) - count * (count + 1) / 2
    return (above / (count * others)).to(values.dtype)


def auroc_error(area: Float[Tensor, "W"], positives: int, negatives: int) -> Float[Tensor, "W"]:
    """Compute the standard error of areas under the curve (Hanley and McNeil, 1982).

    Args:
        area: The areas.
        positives: The number of positive rows.
        negatives: The number of negative rows.

    Example:
        >>> round(auroc_error(torch.tensor([0.8]), 50, 50).item(), 3)
        0.045
    """
    a = area.double()
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    spread = a * (1 - a) + (positives - 1) * (q1 - a**2) + (negatives - 1) * (q2 - a**2)
    return (spread / (positives * negatives)).clamp_min(0).sqrt().to(area.dtype)


def _mean_ranks(values: Float[Tensor, "N W"]) -> Float[Tensor, "N W"]:
    """Return the rank of every value in its column, from 1; equal values share their mean rank."""
    columns = values.T.contiguous()
    ordered = columns.sort(dim=1).values
    below = torch.searchsorted(ordered, columns)
    up_to = torch.searchsorted(ordered, columns, right=True)
    return ((below + up_to + 1).double() / 2).T
