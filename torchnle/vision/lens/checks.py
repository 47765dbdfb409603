"""Checks by numbers that a model can be run on from a layer: nothing passes round it, its locations count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.vision.lens.filling import Filling

#: Runs images up to the layer, goes on with other activations, and gives the deeper layer's vectors.
RunOn: TypeAlias = Callable[[Tensor, Tensor], Tensor]
#: Up to this share of what the deeper layer tells apart, or so many roundings, two vectors are the same.
_SHARE, _ROUNDINGS = 1e-3, 16
#: What a model may raise that cannot go on with a larger batch than it began with.
_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)


@dataclass(frozen=True)
class Evidence:
    """What the layer and the deeper one give for a blank image and for noise.

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
        """How far the two vectors are apart."""
        return apart(self.expected[0], self.expected[1])

    @property
    def rounding(self) -> float:
        """How far vectors may be apart by rounding alone."""
        return _ROUNDINGS * torch.finfo(self.given.dtype).eps * float(self.expected.abs().max())

    @property
    def tolerance(self) -> float:
        """Up to what difference vectors count as the same."""
        return max(_SHARE * self.spread, self.rounding)


def check_alone(run_on: RunOn, images: Tensor, evidence: Evidence) -> float:
    """Exchange what the layer gives for two images: the deeper layer's vectors must be exchanged with it.

    Returns:
        The share of their difference that is not.

    Raises:
        ValueError: If a part of it passes round the layer, or the layer makes no difference.
    """
    layer, end, expected = evidence.layer, evidence.end, evidence.expected
    if evidence.spread <= evidence.rounding:
        raise ValueError(
            f"layer '{end}' gives the same for a blank image and for noise, so it cannot be seen whether it "
            f"depends on '{layer}' alone. Check the model's weights."
        )
    found = run_on(images, evidence.given.flip(0))
    if apart(found, expected) <= evidence.tolerance:
        raise ValueError(
            f"layer '{end}' does not depend on layer '{layer}': what the model goes on with there makes no "
            f"difference. Pass a layer that runs before '{end}'."
        )
    around = apart(found, expected.flip(0))
    if around > evidence.tolerance:
        raise ValueError(
            f"about {min(around / evidence.spread, 1):.0%} of what layer '{end}' sees passes round layer "
            f"'{layer}' (a skip connection, a dense block, a U-Net), so the model cannot run on from this "
            "layer alone. Pass a layer that everything passes through, such as the end of a block: "
            "torchnle.suggest_layers(model, images) lists such layers."
        )
    return around / evidence.spread


def check_locations(run_on: RunOn, blank: Tensor, filling: Filling, evidence: Evidence) -> None:
    """Refuse a layer of which the class token alone is used, as behind the last attention of a ViT.

    Raises:
        ValueError: If the same comes out whatever stands at the locations.
    """
    first, last = filling.vectors(evidence.given)
    found = run_on(blank.expand(3, -1, -1, -1), filling(torch.stack([first, last, first + last])))
    if apart(found, found[:1]) <= evidence.tolerance:
        raise ValueError(
            f"layer '{evidence.end}' does not depend on the locations of layer '{evidence.layer}', but on "
            "its class token alone. Pass an earlier layer."
        )


def same_on_one(run_on: RunOn, blank: Tensor, evidence: Evidence) -> bool:
    """Whether one image below and several activations above give the same as one image each."""
    try:
        found = run_on(blank, evidence.given)
    except _REFUSALS:
        return False
    return apart(found, evidence.expected) <= evidence.tolerance


def apart(first: Tensor, second: Tensor) -> float:
    """The largest difference between two tensors.

    Example:
        >>> apart(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
        2.0
    """
    return float((first - second).abs().max())
