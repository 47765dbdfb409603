"""The classes of a fitted head: their directions, and the conversion of a caller's targets to indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.texts import shorten
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.vision.features import Features

#: A class by index or name, one for all images or one an image; None = the class that the model predicts.
Target: TypeAlias = int | str | Sequence[int] | Sequence[str] | Tensor | None


def class_map(translator: object, layers: Sequence[str]) -> tuple[MapTranslator, str]:
    """Find the layer whose map was fitted to a classifier's head.

    Args:
        translator: As `LanguageAttribution` holds it.
        layers: The layers that are read.

    Raises:
        TypeError: If the translator is no map from text into features.
        ValueError: If no layer that is read was fitted to class names.

    Example:
        >>> class_map(object(), ["layer4"])
        Traceback (most recent call last):
        ...
        TypeError: a object holds no classifier; sentences that justify a prediction need its class names:
        LanguageAttribution.from_classifier(model, class_names).
    """
    advice = "sentences that justify a prediction need its class names: "
    advice += "LanguageAttribution.from_classifier(model, class_names)."
    if not isinstance(translator, MapTranslator):
        raise TypeError(f"a {type(translator).__name__} holds no classifier; {advice}")
    fitted = [layer for layer in layers if translator.by_layer.get(layer) is not None]
    fitted = [layer for layer in fitted if translator.by_layer[layer].classes]
    if not fitted:
        raise ValueError(f"no map of the layers {list(layers)} was fitted to class names; {advice}")
    return translator, fitted[-1]


def class_directions(fitted: TextMap) -> Float[Tensor, "C D"]:
    """Compute each class's weight row, minus the mean row, as a direction of the whitened features.

    Its product with a whitened feature is the class's logit, up to the bias and a constant per row.
    """
    return fitted.targets[fitted.phrases :] * fitted.class_norms[:, None]


def predicted(fitted: TextMap, rows: Float[Tensor, "R D"]) -> Int[Tensor, "R"]:
    """Find the class of the largest logit on each row."""
    return fitted.head_logits(fitted.whiten(rows)).argmax(dim=1)


def as_classes(
    target: Target, translator: MapTranslator, fitted: TextMap, pooled: Features
) -> Int[Tensor, "N"]:
    """Convert a caller's target, by name or index, to one class index per image.

    Args:
        target: See `Target`.
        translator: Knows the class names.
        fitted: Its map of the head's layer.
        pooled: What the head reads, one row per image.

    Raises:
        TypeError: If a target is neither an index nor a name.
        ValueError: If a name is no class, an index is out of range, or there is not one target per image.
    """
    if target is None:
        return predicted(fitted, pooled.rows)
    count = pooled.batch_size
    listed = target.flatten().tolist() if isinstance(target, Tensor) else target
    each = [listed] * count if isinstance(listed, int | str) else list(listed)
    if len(each) == 1:
        each = each * count
    if len(each) != count:
        raise ValueError(f"{len(each)} targets were given for {count} images; pass one, or one an image.")
    return torch.tensor([_index(one, translator) for one in each], device=pooled.tokens.device)


def _index(target: object, translator: MapTranslator) -> int:
    names = translator.class_names
    if isinstance(target, str):
        found = [
            i for i, both in enumerate(zip(names, translator.class_texts, strict=True)) if target in both
        ]
        if not found:
            near = [name for name in names if target.lower() in name.lower()][:3]
            hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
            raise ValueError(f"{shorten(target)!r} is none of the {len(names)} class names.{hint}")
        return found[0]
    if not isinstance(target, int) or isinstance(target, bool):
        raise TypeError(
            f"a target is {target!r} of type {type(target).__name__}; pass a class name, its index, or None "
            "for the predicted class."
        )
    if not -len(names) <= target < len(names):
        raise ValueError(f"target={target} lies outside the {len(names)} classes.")
    return target % len(names)
