"""Vision models by name, each with its own preprocessing and the names of its classes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from torchnle.backbones import open_clip, timm, torchvision, transformers
from torchnle.backbones.backbone import Backbone
from torchnle.backbones.class_lists import CLASS_LISTS, remember, shipped_class_list, stated_names
from torchnle.backbones.default import LITE, class_synonyms, efficientnet_lite, imagenet_class_names
from torchnle.backbones.preprocess import Fit, Preprocess
from torchnle.hub import preserved_random_state
from torchnle.public_calls import own_defaults

__all__ = [
    "CLASS_LISTS",
    "LIBRARIES",
    "NAMES",
    "Backbone",
    "Fit",
    "Preprocess",
    "class_synonyms",
    "imagenet_class_names",
    "load",
    "shipped_class_list",
    "stated_names",
]

_LOADERS: dict[str, Callable[..., Backbone]] = {name: partial(efficientnet_lite, name) for name in LITE}
#: Libraries whose models `load` takes as "library:name".
LIBRARIES: dict[str, Callable[..., Backbone]] = {
    "timm": timm.load,
    "torchvision": torchvision.load,
    "open_clip": open_clip.load,
    "transformers": transformers.load,
}
#: The names that `load` takes besides those of the libraries.
NAMES = tuple(_LOADERS)


@own_defaults
def load(
    name: str = "efficientnet-lite0", *, fit: Fit = "crop", pretrained: bool = True, **options: Any
) -> Backbone:
    """Load a vision model by name with its weights, preprocessing and class names.

    Args:
        name: "efficientnet-lite0", an ImageNet classifier (4.7 million parameters; 224 x 224 pixels; a last
            map of 1,280 channels on 7 x 7 locations) whose weights come as a package; "efficientnet-lite1"
            and "efficientnet-lite2", its larger siblings (240 x 240 pixels and 8 x 8 locations, 260 x 260 and
            9 x 9); or "timm:NAME", "torchvision:NAME",
            "open_clip:NAME[@TAG]" (the image tower), or "transformers:" with a model id, a local folder, or
            (for random weights) a model type such as "dinov2"; of a vision-language model the image tower is
            taken.
        fit: How a photograph that is not square becomes square: see `Preprocess`.
        pretrained: False = random weights, with nothing downloaded.
        options: Passed to the library's own builder (`image_size=384` for torchvision's ViT).

    Raises:
        ValueError: If the name is not known; the message lists the nearest.
        MissingDependencyError: If a package that the model needs is not installed.

    Example:
        >>> load("resnet-9000")
        Traceback (most recent call last):
        ...
        ValueError: there is no backbone 'resnet-9000'. Known: efficientnet-lite0, efficientnet-lite1,
        efficientnet-lite2, timm:NAME, torchvision:NAME, open_clip:NAME, transformers:NAME.
    """
    with preserved_random_state() if pretrained else nullcontext():  # the caller seeds random weights
        backbone = _load(name, fit=fit, pretrained=pretrained, **options)
    remember(backbone.model, backbone.class_names)
    return backbone


def _load(name: str, *, fit: Fit, pretrained: bool, **options: Any) -> Backbone:
    library, _, member = name.partition(":")
    if member and library in LIBRARIES:
        return LIBRARIES[library](member, fit=fit, pretrained=pretrained, **options)
    if name not in _LOADERS:
        available = ", ".join((*_LOADERS, *(f"{library}:NAME" for library in LIBRARIES)))
        raise ValueError(f"there is no backbone {name!r}. Known: {available}.")
    return _LOADERS[name](fit, pretrained=pretrained, **options)
