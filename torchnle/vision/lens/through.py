"""Readings of layers without a translator, through lenses to a layer that has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from torchnle.vision import taps
from torchnle.vision.lens.base import LayerLens
from torchnle.vision.lens.fitted import FittedLens, fit_lens
from torchnle.vision.lens.lens import Lens
from torchnle.vision.reading import Reading, join_readings
from torchnle.vision.taps import LayerChoice


@dataclass(frozen=True)
class ThroughLenses:
    """Readings of several layers as one deeper layer.

    Args:
        taps: The layers, in the order in which they were passed.
        reading: Reads each of them; the deeper layer is read directly.
        lenses: The lens of each layer but the deeper one, by layer name.
    """

    taps: Sequence[taps.Tap]
    reading: Reading
    lenses: Mapping[str, LayerLens]

    @property
    def summary(self) -> str:
        """Sentences on what is read through a lens, its cost and its check."""
        return " ".join(lens.summary for lens in self.lenses.values())


def read_through(
    forward_func: Callable[..., Any],
    layers: LayerChoice,
    end: taps.Tap,
    *,
    example: Float[Tensor, "N C H W"],
    reading: Reading | None = None,
    end_reading: Reading | None = None,
    smooth: bool = True,
    images: Iterable[Tensor] | None = None,
) -> ThroughLenses:
    """Read layers as a deeper one, so that a translator of that layer reads them all.

    Args:
        forward_func: The model.
        layers: The layers, the deeper one among them or not.
        end: The deeper layer.
        example: A few images, of which size, dtype and device are used.
        reading: Overrides for a layer, if its layout cannot be inferred.
        end_reading: How the deeper layer is read.
        smooth: As for `Lens`.
        images: A few unlabelled images, batch by batch: each lens is replaced by a linear map fitted to its
            outputs on these, which costs one product per location. None = run the model's upper part.

    Raises:
        ValueError: As `Lens`.

    Example:
        >>> end = taps.resolve(model, "norm")[0]
        >>> through = read_through(model, ["act", "norm"], end, example=images)
        >>> [tap.name for tap in through.taps], list(through.lenses)
        (['act', 'norm'], ['act'])
    """
    found = taps.resolve(forward_func, layers)
    own, shown = reading or Reading(), None if images is None else list(images)
    lenses: dict[str, LayerLens] = {}
    for tap in found:
        if _is(tap, end):
            continue
        exact = Lens(
            forward_func,
            tap,
            end,
            example=example,
            reading=own,
            end_reading=end_reading,
            smooth=smooth,
        )
        lenses[tap.name] = exact if shown is None else fit_lens(exact, shown)
    return _joined(found, end, lenses, own, end_reading)


def read_through_fitted(
    forward_func: Callable[..., Any],
    layers: LayerChoice,
    end: taps.Tap,
    lenses: Mapping[str, FittedLens],
    *,
    reading: Reading | None = None,
    end_reading: Reading | None = None,
) -> ThroughLenses:
    """Read layers as a deeper one through lenses that were fitted before.

    Args:
        forward_func: The model.
        layers: The layers, the deeper one among them or not.
        end: The deeper layer.
        lenses: The lens of each layer but the deeper one, by the layer's reference (`Tap.reference`).
        reading: Overrides for a layer, if its layout cannot be inferred.
        end_reading: How the deeper layer is read.

    Raises:
        ValueError: If a layer has no lens.

    Example:
        >>> import torch
        >>> end, lens = taps.resolve(model, "norm")[0], FittedLens(torch.eye(6), torch.zeros(6))
        >>> list(read_through_fitted(model, ["act", "norm"], end, {"act": lens}).lenses)
        ['act']
    """
    found = taps.resolve(forward_func, layers)
    below = [tap for tap in found if not _is(tap, end)]
    missing = [tap.reference for tap in below if tap.reference not in lenses]
    if missing:
        raise ValueError(f"there is no lens of {missing}; there are lenses of {list(lenses)}.")
    named = {tap.name: lenses[tap.reference] for tap in below}
    return _joined(found, end, named, reading or Reading(), end_reading)


def _joined(
    found: Sequence[taps.Tap],
    end: taps.Tap,
    lenses: Mapping[str, LayerLens],
    own: Reading,
    end_reading: Reading | None,
) -> ThroughLenses:
    readings = {name: replace(own, pool=lens.read) for name, lens in lenses.items()}
    named = [end if _is(tap, end) else tap for tap in found]
    return ThroughLenses(named, join_readings(readings, end_reading), lenses)


def _is(tap: taps.Tap, other: taps.Tap) -> bool:
    return (tap.module, tap.at) == (other.module, other.at)
