"""Time the reading of a lower layer, one location and all, through the lens and through its linear fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from measurements.costs import Clock
from measurements.lens.subject import Subject
from torchnle.types import Where
from torchnle.vision.features import Features
from torchnle.vision.lens import LayerLens, Lens
from torchnle.vision.reading import read
from torchnle.vision.taps import Tap, resolve


@torch.no_grad()
def measure_costs(subject: Subject, image: Tensor, clock: Clock) -> dict[str, Any]:
    """Time a forward, and one and all locations of each lower layer.

    Args:
        subject: The classifier.
        image: One photograph as the model takes it, (1, 3, H, W).
        clock: Times each.

    Returns:
        By layer the seconds of "one" location and of "all", by the kind of lens, each including the forward
        of the image; and the lens's operations relative to a whole forward.
    """
    model = subject.backbone.model
    found: dict[str, Any] = {"forward": clock(lambda: model(image))[0]}
    for layer in subject.layers:
        taps = resolve(model, layer)
        (features,) = read(model, taps, image)
        rows, columns = features.grid or (1, 1)
        exact = subject.lens(layer, "lens")
        found[layer] = {
            "locations": rows * columns,
            "operations": exact.cost if isinstance(exact, Lens) else 0.0,
            "fit": clock(partial(_fit_again, subject, layer))[0],
        }
        for kind in ("lens", "fitted lens"):
            run = partial(_read, model, taps, image, subject.lens(layer, kind))
            middle = (rows // 2, columns // 2)
            found[layer][kind] = {"one": clock(partial(run, middle))[0], "all": clock(partial(run, "all"))[0]}
    return found


def _read(model: nn.Module, taps: Sequence[Tap], image: Tensor, lens: LayerLens, where: Where) -> Features:
    return lens.read(read(model, taps, image)[0], where)


def _fit_again(subject: Subject, layer: str) -> None:
    Subject(subject.backbone, [layer], subject.images).lens(layer, "fitted lens")
