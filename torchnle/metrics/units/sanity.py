"""Sanity checks of measures: added or missing labels of a unit must lower its score.

Oikarinen et al., "Evaluating neuron explanations" (2025): the missing-labels and extra-labels tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: Maps presence and activations (N, U) to one score a unit, larger = better.
Measure = Callable[[Tensor, Tensor], Tensor]
#: The share of units in which a measure must detect the change to pass.
PASSES = 0.9


@dataclass(frozen=True)
class SanityCheck:
    """The rates at which a measure's score falls for corrupted labels.

    Args:
        missing: The share of units whose score falls when half of a label's images lose it.
        extra: The share of units whose score falls when as many further images get the label.
        units: The number of units.

    Example:
        >>> SanityCheck(0.95, 0.6, 100).passes
        False
    """

    missing: float
    extra: float
    units: int

    @property
    def passes(self) -> bool:
        """True if both are above 0.9."""
        return min(self.missing, self.extra) > PASSES


def sanity_checks(
    measure: Measure, presence: Float[Tensor, "N U"], activations: Float[Tensor, "N U"], *, seed: int = 0
) -> SanityCheck:
    """Corrupt true labels by removal and by addition, and count how often a measure's score falls.

    Args:
        measure: The measure to check.
        presence: Whether each unit's true label is present, 0 or 1.
        activations: Each unit's activation in each image.
        seed: The seed of the draws of images.

    Raises:
        ValueError: If no label is present in at least two images and absent in as many.

    Example:
        >>> from torchnle.metrics.units import correlation
        >>> draws = torch.Generator().manual_seed(0)
        >>> presence = (torch.rand(200, 5, generator=draws) < 0.2).float()
        >>> sanity_checks(correlation, presence, presence + 0.1 * torch.randn(200, 5, generator=draws)).passes
        True
    """
    present = presence >= 0.5
    count = present.sum(dim=0)
    usable = (count >= 2) & (2 * count <= len(presence))
    if not usable.any():
        raise ValueError(
            "no label is present in two images or more and absent in as many; pass other labels."
        )
    present, activations = present[:, usable], activations[:, usable]
    draws = torch.rand(present.shape, generator=torch.Generator().manual_seed(seed))
    less = present & ~_chosen(present, draws, count[usable] // 2)
    more = present | _chosen(~present, draws, count[usable])
    truth = measure(present.float(), activations)
    missing = (measure(less.float(), activations) < truth).float().mean()
    extra = (measure(more.float(), activations) < truth).float().mean()
    return SanityCheck(float(missing), float(extra), int(usable.sum()))


def _chosen(among: Tensor, draws: Tensor, counts: Tensor) -> Tensor:
    """Choose so many of the marked images for each unit, by their draws."""
    rank = draws.masked_fill(~among, 2.0).argsort(dim=0).argsort(dim=0)
    return (rank < counts) & among
