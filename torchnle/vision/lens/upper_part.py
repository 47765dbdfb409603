"""The upper part of a model: the outputs of a deeper layer for other activations of one layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.vision import taps
from torchnle.vision.features import Features
from torchnle.vision.layouts import Arrangement
from torchnle.vision.lens.checks import Evidence, check_alone, check_locations, same_on_one
from torchnle.vision.lens.filling import Filling
from torchnle.vision.lens.run_until import run_until
from torchnle.vision.lens.substitution import substituted
from torchnle.vision.reading import Reading, arrangements_of
from torchnle.vision.running import forward


class UpperPart:
    """Continues a model from one layer, and reads a deeper one.

    The model itself is run, from a blank image of the example's size, with a hook that replaces the layer's
    output, up to the deeper layer. It is checked that the deeper layer depends on the image through this
    layer alone (`check_alone`), and on its locations (`check_locations`).

    Args:
        forward_func: The model.
        tap: The layer.
        end: The deeper layer.
        example: A few images (N, C, H, W), of which size, dtype and device are used.
        reading: How the layer is read.
        end_reading: How the deeper layer is read, as one vector per image.

    Attributes:
        filling: Builds activations that hold one vector at every location.
        leak: The share of the deeper layer's spread that bypasses the layer, as measured.
        on_one: Whether the part below runs on one image for any number of activations above.

    Raises:
        ValueError: If a path bypasses the layer, the deeper layer does not depend on its locations, it has
            none, or one of the layers cannot be read.
    """

    @torch.no_grad()
    def __init__(
        self,
        forward_func: Callable[..., Any],
        tap: taps.Tap,
        end: taps.Tap,
        example: Float[Tensor, "N C H W"],
        reading: Reading | None = None,
        end_reading: Reading | None = None,
    ) -> None:
        self.forward_func, self.tap, self.end = forward_func, tap, end
        self.reading, self.end_reading = reading or Reading(), end_reading or Reading()
        images = blank_and_noise(example)
        self._blank, self.on_one = images[:1], False
        given, arrangement = self._recorded(images, tap, self.reading)
        last, self._end_arrangement = self._recorded(images, end, self.end_reading)
        self.filling = _filling(given, tap, arrangement)
        evidence = Evidence(given, self._vectors(last), tap.name, end.name)
        self.leak = check_alone(self.run_on, images, evidence)
        check_locations(self.run_on, self._blank, self.filling, evidence)
        self.on_one = same_on_one(self.run_on, self._blank, evidence)

    def __call__(self, activations: Tensor) -> Float[Tensor, "M W"]:
        """Continue from activations of the layer, (M, ...), to the deeper layer's vectors, in float32."""
        count = 1 if self.on_one else len(activations)
        return self.run_on(self._blank.expand(count, -1, -1, -1), activations)

    def run_on(self, images: Tensor, activations: Tensor) -> Float[Tensor, "M W"]:
        """Run images up to the layer and continue with other activations.

        Raises:
            ValueError: If the deeper layer gives another number of vectors than there are activations.
        """
        with substituted(self.tap, activations, self.reading.select):
            last = run_until(self.forward_func, self.end, images, self.end_reading.select)
        if len(last) != len(activations):
            raise ValueError(f"layer '{self.end.name}' gave {len(last)} images for {len(activations)}.")
        return self._vectors(last)

    @cached_property
    @torch.no_grad()
    def cost(self) -> float:
        """The operations of continuing from one activation, relative to a whole forward."""
        filled = self.filling(self.filling.template.new_zeros(3, self.filling.width))
        whole = _operations(lambda: forward(self.forward_func, self._blank))
        two_more = _operations(lambda: self(filled)) - _operations(lambda: self(filled[:1]))
        return two_more / 2 / max(whole, 1)

    def _recorded(self, images: Tensor, tap: taps.Tap, reading: Reading) -> tuple[Tensor, Arrangement]:
        """Return the output of a layer for images, and its reading."""
        (activation,) = taps.record(self.forward_func, [tap], images, select=reading.select)
        (found,) = arrangements_of(self.forward_func, [tap], [activation], images, None, reading)
        return activation, found

    def _vectors(self, activation: Tensor) -> Float[Tensor, "M W"]:
        features = Features.arranged(activation, self.end.name, self._end_arrangement)
        return self.end_reading.pool(features, None).rows.float()


def blank_and_noise(example: Float[Tensor, "N C H W"]) -> Float[Tensor, "2 C H W"]:
    """Make an image of zeros and one of seeded noise, of an example's size, dtype and device.

    Example:
        >>> blank_and_noise(torch.ones(1, 3, 2, 2)).flatten(1).abs().sum(1).gt(0).tolist()
        [False, True]
    """
    noise = torch.randn(example[:1].shape, generator=torch.Generator().manual_seed(0))
    return torch.cat([torch.zeros_like(noise), noise]).to(example)


def _filling(given: Tensor, tap: taps.Tap, arrangement: Arrangement) -> Filling:
    filling = Filling(given[:1], tap.name, arrangement)
    if filling.grid is None and filling.locations > 1:
        raise ValueError(
            f"layer '{tap.name}' gives {filling.locations} tokens without a grid, so a location of it cannot "
            "be put at every location. Pass a layer that has one, or Reading(grid=(rows, columns))."
        )
    return filling


def _operations(run: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode  # imports triton

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
