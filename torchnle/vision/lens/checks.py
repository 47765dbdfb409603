"""Checks that a model can be continued from a layer: nothing bypasses it, and its locations matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.vision.lens.filling import Filling

#: Runs images up to the layer, continues with other activations, and returns the deeper layer's vectors.
RunOn: TypeAlias = Callable[[Tensor, Tensor], Tensor]
#: Two vectors agree up to this share of the deeper layer's spread, or this many roundings.
_SHARE, _ROUNDINGS = 1e-3, 16
#: The errors of a model that cannot continue with a larger batch than it started with.
_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)


@dataclass(frozen=True)
class Evidence:
    """The outputs of the layer and of the deeper one for a blank image and for noise.

    Args:
        given: The layer's activations, (2, ...).
        expected: The deeper layer's vectors.
        layer: The layer's name.
        end: The deeper layer's name.
    """

    given: Tensor
    expected: Float[Tensor, "2 W"]
    layer: str
    end: str

    @property
    def spread(self) -> float:
        """The distance of the two vectors."""
        return apart(self.expected[0], self.expected[1])

    @property
    def rounding(self) -> float:
        """The distance of vectors due to rounding alone."""
        return _ROUNDINGS * torch.finfo(self.given.dtype).eps * float(self.expected.abs().max())

    @property
    def tolerance(self) -> float:
        """The largest difference of vectors that agree."""
        return max(_SHARE * self.spread, self.rounding)


def check_alone(run_on: RunOn, images: Tensor, evidence: Evidence) -> float:
    """Exchange the layer's outputs of two images, and check that the deeper layer's vectors are exchanged.

    Returns:
        The share of their difference that is not exchanged.

    Raises:
        ValueError: If a part of it bypasses the layer, or the layer makes no difference.
    """
    layer, end, expected = evidence.layer, evidence.end, evidence.expected
    if evidence.spread <= evidence.rounding:
        raise ValueError(
            f"layer '{end}' gives the same for a blank image and for noise, so its dependence on '{layer}' "
            "cannot be tested. Check the model's weights."
        )
    found = run_on(images, evidence.given.flip(0))
    if apart(found, expected) <= evidence.tolerance:
        raise ValueError(
            f"layer '{end}' does not depend on layer '{layer}': other activations there make no difference. "
            f"Pass a layer that runs before '{end}'."
        )
    around = apart(found, expected.flip(0))
    if around > evidence.tolerance:
        raise ValueError(
            f"about {min(around / evidence.spread, 1):.0%} of the input of layer '{end}' bypasses layer "
            f"'{layer}' (a skip connection, a dense block, a U-Net), so the model cannot be continued from "
            "this layer alone. Pass a layer that all paths pass through, such as the end of a block: "
            "torchnle.suggest_layers(model, images) lists such layers."
        )
    return around / evidence.spread


def check_locations(run_on: RunOn, blank: Tensor, filling: Filling, evidence: Evidence) -> None:
    """Refuse a layer whose locations are unused, as after the last attention of a ViT.

    Raises:
        ValueError: If other features at the locations change nothing.
    """
    first, last = filling.vectors(evidence.given)
    found = run_on(blank.expand(3, -1, -1, -1), filling(torch.stack([first, last, first + last])))
    if apart(found, found[:1]) <= evidence.tolerance:
        raise ValueError(
            f"layer '{evidence.end}' does not depend on the locations of layer '{evidence.layer}', but on "
            "its class token alone. Pass an earlier layer."
        )


def same_on_one(run_on: RunOn, blank: Tensor, evidence: Evidence) -> bool:
    """Return whether one image below with several activations above gives the same as one image each."""
    try:
        found = run_on(blank, evidence.given)
    except _REFUSALS:
        return False
    return apart(found, evidence.expected) <= evidence.tolerance


def apart(first: Tensor, second: Tensor) -> float:
    """Return the largest difference between two tensors.

    Example:
        >>> apart(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        2.0
    """
    return float((first - second).abs().max())
