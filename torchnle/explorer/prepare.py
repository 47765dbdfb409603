"""Attach a model for the explorer: which layers are read, and how those below the head are read quickly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.vision.lens.base import smoothed
from torchnle.vision.lens.fitted import FittedLens, RidgeSums
from torchnle.vision.lens.lens import Lens
from torchnle.vision.reading import join_readings, read
from torchnle.vision.suggest import suggest_layers

#: The number of layers that are read if none is named.
LAYERS = 4
#: So many locations are carried through the model's upper part, to fit a linear map that replaces it.
_FITTED_TO = 256


def attach(backbone: Backbone, layers: Sequence[str] = ()) -> LanguageAttribution[Any]:
    """Attach to a model; a classifier's layers are read by its class names, the head's and those below it.

    Args:
        backbone: The model.
        layers: The layers to read; none = of a classifier the suggested ones.

    Raises:
        ValueError: As `LanguageAttribution.from_backbone`.
    """
    if backbone.clip is not None:
        return LanguageAttribution.from_backbone(backbone)
    return LanguageAttribution.from_backbone(backbone, list(layers) or _suggested(backbone))


def _suggested(backbone: Backbone) -> list[str]:
    size = backbone.preprocess.size
    device = next(backbone.model.parameters()).device
    found = suggest_layers(backbone.model, torch.zeros(1, 3, size, size, device=device), count=LAYERS)
    return [layer.name for layer in found]


def exact_lenses(lang: LanguageAttribution[Any]) -> dict[str, Lens]:
    """Find the layers that are read through the model's upper part, a forward a location."""
    pools = {name: getattr(each.pool, "__self__", None) for name, each in lang.reading.layers.items()}
    return {name: lens for name, lens in pools.items() if isinstance(lens, Lens)}


@torch.no_grad()
def fit_lenses(lang: LanguageAttribution[Any], images: Float[Tensor, "N C H W"]) -> str:
    """Replace the lenses of an attribution by linear maps fitted to them, so that a map costs one product.

    Args:
        lang: The attribution; its reading is changed.
        images: A few images as the model takes them.

    Returns:
        Sentences on the fit; "" where there is no lens.
    """
    exact = exact_lenses(lang)
    if not exact:
        return ""
    fitted = {name: fit_to_lens(lens, images) for name, lens in exact.items()}
    readings = dict(lang.reading.layers)
    readings |= {name: replace(readings[name], pool=lens.read) for name, lens in fitted.items()}
    lang.reading = join_readings(readings, replace(lang.reading, layers={}))
    return " ".join(lens.summary for lens in fitted.values())


def fit_to_lens(exact: Lens, images: Float[Tensor, "N C H W"], *, locations: int = _FITTED_TO) -> FittedLens:
    """Fit a linear map to a lens's outputs at some locations of a few images, always the same ones.

    `torchnle.vision.lens.fitted.fit_lens` does without the lens's outputs, and needs hundreds of images.

    Args:
        exact: The lens.
        images: The images as the model takes them.
        locations: The largest number of locations, of all images together; each costs a forward of the upper
            part.
    """
    upper = exact.upper
    (features,) = read(upper.forward_func, [upper.tap], images, reading=upper.reading)
    rows = (smoothed(features) if exact.smooth else features).rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    rows = rows[order[:locations].to(rows.device)]
    wanted = exact.rows(rows)
    sums = RidgeSums(rows.shape[1], wanted.shape[1])
    sums.add(rows, wanted)
    weight, bias = (each.to(rows.device) for each in sums.solve())
    summary = (
        f"'{upper.tap.name}' is read by a linear map, fitted to the outputs of the model's own upper part at "
        f"{len(rows)} locations of {len(images)} photographs."
    )
    return FittedLens(weight, bias, smooth=exact.smooth, summary=summary)
