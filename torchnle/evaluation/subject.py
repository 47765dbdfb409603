"""Attach a translator to a model for a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.translators.base import Translator
from torchnle.vision.features import Features

#: The reference of a translator that is fitted to the classifier's own head and class names.
CLASS_NAMES = "class-names"


def attach(
    backbone: Backbone,
    translator: str | Translator = CLASS_NAMES,
    layers: Sequence[str] | str | None = (),
) -> LanguageAttribution[Any]:
    """Attach a translator to a backbone, on the backbone's device.

    Args:
        backbone: The model.
        translator: A translator or its reference; "class-names" = one fitted to the classifier's own
            head, or a CLIP's own text tower.
        layers: The layers; () = all that the translator names, None = the last of these. With class names,
            layers below the head's are read through the model's own upper part.

    Returns:
        The attribution.

    Raises:
        ValueError: If neither names the layers.
    """
    if translator == CLASS_NAMES:
        read: Any = layers or None
        return LanguageAttribution.from_backbone(backbone, read)
    loaded = Translator.from_pretrained(translator) if isinstance(translator, str) else translator
    chosen: Any = list(loaded.layers) if layers is not None and not layers else layers
    if not (chosen or loaded.layers):
        raise ValueError(f"translator '{loaded.name}' does not name its layers; pass layers=[...].")
    loaded.to(next((p.device for p in backbone.model.parameters()), torch.device("cpu")))
    return LanguageAttribution.from_backbone(backbone, chosen, loaded)


def whole(lang: LanguageAttribution, features: Sequence[Features]) -> list[Features]:
    """Pool each layer over the whole image, as its reading does."""
    return [lang.reading.pool(f, None) for f in features]


def all_locations(lang: LanguageAttribution, features: Sequence[Features]) -> list[Features]:
    """Return every location of each layer."""
    return [lang.reading.pool(f, "all") for f in features]


def at(features: Features, images: Sequence[int], locations: Sequence[tuple[int, int]]) -> Features:
    """Select single locations of images, each as an image of one token without a grid.

    Each is marked as a single location, but its position is dropped.

    Example:
        >>> features = Features(torch.arange(8.0).view(2, 4, 1), "layer", (2, 2))
        >>> at(features, [0, 1, 1], [(0, 1), (0, 0), (1, 1)]).rows.flatten().tolist()
        [1.0, 4.0, 7.0]
    """
    maps: Tensor = features.fold(features.tokens)
    rows, columns = torch.tensor(locations).T
    return Features(
        maps[torch.tensor(images), rows, columns].unsqueeze(1), features.layer, None, None, ((0, 0),)
    )
