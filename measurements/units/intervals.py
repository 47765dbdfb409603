"""Bootstrap intervals over units: of a mean, of a difference, and of a ratio of means."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_RESAMPLES = 1000


def interval(values: Float[Tensor, "U"]) -> list[float]:
    """Return the mean over units, and its 95 % bootstrap interval.

    Example:
        >>> interval(torch.ones(5))
        [1.0, 1.0, 1.0]
    """
    return _bootstrapped(lambda rows: values[rows].mean(dim=-1), len(values))


def difference(first: Float[Tensor, "U"], second: Float[Tensor, "U"]) -> list[float]:
    """Return the mean difference of the same units' values, and its interval.

    Example:
        >>> difference(torch.ones(5), torch.zeros(5))
        [1.0, 1.0, 1.0]
    """
    return interval(first - second)


def ratio(first: Float[Tensor, "U"], second: Float[Tensor, "U"]) -> list[float]:
    """Return the ratio of the means of the same units' values, and its interval.

    Example:
        >>> ratio(torch.full((5,), 3.0), torch.full((5,), 2.0))
        [1.5, 1.5, 1.5]
    """
    return _bootstrapped(lambda rows: first[rows].mean(dim=-1) / second[rows].mean(dim=-1), len(first))


def _bootstrapped(statistic: Callable[[Tensor], Tensor], units: int) -> list[float]:
    draws = torch.randint(units, (_RESAMPLES, units), generator=torch.Generator().manual_seed(0))
    found = statistic(draws)
    low, high = found.quantile(0.025), found.quantile(0.975)
    return [round(float(x), 4) for x in (statistic(torch.arange(units)), low, high)]
