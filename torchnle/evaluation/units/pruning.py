"""Prune units by their labels, against as many random ones (Describe-and-Dissect, sections 5.2, A.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.methods.dissect.silencing import silenced
from torchnle.types import Layer

#: The penalty of the refitted head, relative to the features' mean variance.
_PENALTY = 0.1


@dataclass(frozen=True)
class Pruned:
    """Accuracies without some units.

    Args:
        units: How many were pruned.
        before: With all units.
        after: Without them.
        random: Without as many random ones, one accuracy per draw.

    Example:
        >>> Pruned(3, 0.9, 0.85, (0.6, 0.7)).above_random
        0.2
    """

    units: int
    before: float
    after: float
    random: tuple[float, ...]

    @property
    def above_random(self) -> float:
        """The mean accuracy after pruning these units minus that after pruning random ones."""
        return round(self.after - sum(self.random) / len(self.random), 12)


def prune(
    model: Callable[..., Any],
    layer: Layer,
    units: Sequence[int],
    width: int,
    images: Float[Tensor, "N C H W"],
    truth: Int[Tensor, "N"],
    *,
    draws: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> Pruned:
    """Measure a classifier's accuracy without some units, with its head unchanged (A.5).

    Args:
        model: The classifier, images to logits.
        layer: The units' layer.
        units: The units to set to zero.
        width: The number of units of the layer.
        images: As the model takes them.
        truth: Their classes.
        draws: Of random units, as many as `units`.
        batch_size: Images at once.
        seed: Of the draws.

    Raises:
        ValueError: If there are no units, or as many as the layer has or more.

    Example:
        >>> prune(model, "layer", [0], 6, images, torch.tensor([0, 1]), draws=2).units
        1
    """
    _check(units, width)

    def accuracy(chosen: Sequence[int]) -> float:
        hits = 0
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            with torch.no_grad(), silenced(model, layer, chosen):
                hits += int((model(images[part]).argmax(dim=1) == truth[part]).sum())
        return hits / len(images)

    return _compared(accuracy, units, width, draws, seed)


def prune_and_refit(
    features: Float[Tensor, "N D"],
    truth: Int[Tensor, "N"],
    test_features: Float[Tensor, "M D"],
    test_truth: Int[Tensor, "M"],
    units: Sequence[int],
    *,
    draws: int = 5,
    seed: int = 0,
) -> Pruned:
    """Measure a linear head that is refitted to the remaining units (5.2; ridge regression on classes).

    Args:
        features: Pooled features that the head is fitted to.
        truth: Their classes.
        test_features: Those that it is measured on.
        test_truth: Their classes.
        units: The columns that are set to zero.
        draws: Of random units, as many as `units`.
        seed: Of the draws.

    Raises:
        ValueError: As `prune`.

    Example:
        >>> x, y = torch.eye(4).repeat(3, 1), torch.arange(4).repeat(3)
        >>> prune_and_refit(x, y, x, y, [0], draws=2).before
        1.0
    """
    _check(units, features.shape[1])

    def accuracy(chosen: Sequence[int]) -> float:
        mask = torch.ones(features.shape[1])
        mask[list(chosen)] = 0.0
        weight, bias = _ridge_head(features * mask, truth)
        logits = (test_features * mask) @ weight + bias
        return float((logits.argmax(dim=1) == test_truth).float().mean())

    return _compared(accuracy, units, features.shape[1], draws, seed)


def _compared(
    accuracy: Callable[[Sequence[int]], float], units: Sequence[int], width: int, draws: int, seed: int
) -> Pruned:
    generator = torch.Generator().manual_seed(seed)
    random = [torch.randperm(width, generator=generator)[: len(units)].tolist() for _ in range(draws)]
    return Pruned(len(units), accuracy([]), accuracy(units), tuple(accuracy(drawn) for drawn in random))


def _ridge_head(
    features: Float[Tensor, "N D"], truth: Int[Tensor, "N"]
) -> tuple[Float[Tensor, "D K"], Float[Tensor, "K"]]:
    wanted = torch.nn.functional.one_hot(truth).float()
    centre, mean = features.mean(dim=0), wanted.mean(dim=0)
    x, y = (features - centre).double(), (wanted - mean).double()
    penalty = _PENALTY * x.square().sum() / x.shape[1]
    gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=torch.double)
    weight = torch.linalg.solve(gram, x.T @ y).float()
    return weight, mean - centre @ weight


def _check(units: Sequence[int], width: int) -> None:
    if not 0 < len(units) < width:
        raise ValueError(f"{len(units)} of {width} units; pass at least one and fewer than all.")
