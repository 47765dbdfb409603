"""What is measured: a model, and a translator attached to the layers that it was made for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.features import Features
from torchnle.translators.base import Translator

#: The references of translators that are fitted on the spot, from the classifier itself: phrases in its own
#: space, and sentences through its class names.
CLASS_SPACE, CLASS_NAMES = "class-space", "class-names"
_FITS: dict[str, Callable[[Backbone], LanguageAttribution]] = {
    CLASS_SPACE: lambda backbone: LanguageAttribution.from_classifier(backbone.model, backbone.class_names),
    CLASS_NAMES: lambda backbone: LanguageAttribution.fit(backbone.model, class_names=backbone.class_names),
}


def attach(
    backbone: Backbone, translator: str | Translator = CLASS_SPACE, layers: Sequence[str] = ()
) -> LanguageAttribution:
    """Attach a translator to a model, always to a list of layers.

    Args:
        backbone: The model.
        translator: A translator or its reference; "class-space" and "class-names" = one fitted to the
            classifier's own head.
        layers: The layers; () = those that the translator names.

    Raises:
        ValueError: If neither says which layers to read.
    """
    if isinstance(translator, str) and translator in _FITS:
        fitted = _FITS[translator](backbone)
        reading = fitted.by_layer.reading
        return LanguageAttribution(backbone.model, fitted.by_layer.taps, fitted.translator, reading=reading)
    loaded = Translator.from_pretrained(translator) if isinstance(translator, str) else translator
    chosen = list(layers or loaded.layers)
    if not chosen:
        raise ValueError(f"translator '{loaded.name}' does not name its layers; pass layers=[...].")
    return LanguageAttribution(backbone.model, chosen, loaded)


def whole(lang: LanguageAttribution, features: Sequence[Features]) -> list[Features]:
    """Each layer as a whole, as its reading pools it."""
    return [lang.by_layer.reading.pool(f, None) for f in features]


def places(lang: LanguageAttribution, features: Sequence[Features]) -> list[Features]:
    """Each layer place by place."""
    return [lang.by_layer.reading.pool(f, "all") for f in features]


def at(features: Features, images: Sequence[int], locations: Sequence[tuple[int, int]]) -> Features:
    """Chosen places of chosen images, each as an image of one token without a grid.

    Example:
        >>> features = Features(torch.arange(8.0).view(2, 4, 1), "layer", (2, 2))
        >>> at(features, [0, 1, 1], [(0, 1), (0, 0), (1, 1)]).rows.flatten().tolist()
        [1.0, 4.0, 7.0]
    """
    maps: Tensor = features.fold(features.tokens)
    rows, columns = torch.tensor(locations).T
    return Features(maps[torch.tensor(images), rows, columns].unsqueeze(1), features.layer)
