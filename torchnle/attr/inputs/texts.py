"""Captum's targets as texts."""

from __future__ import annotations

from typing import Any

from torchnle.language.texts import as_texts


def as_targets(target: Any, batch_size: int) -> list[str]:
    """Return Captum's `target` as texts: one text for all images, or one text per image.

    Raises:
        TypeError: If a target is a class index; use `TextScore` for those.
        ValueError: If the list is not as long as the batch.

    Example:
        >>> as_targets("a cat", batch_size=2)
        ['a cat', 'a cat']
    """
    if isinstance(target, str):
        return as_texts(target) * batch_size
    if not isinstance(target, (list, tuple)) or not all(isinstance(text, str) for text in target):
        raise TypeError(
            f"target={target!r} is not a text. Pass a text, a list of one text an image, or None to describe "
            "first. For targets by number, wrap the model: TextScore(model, layer, translator, texts)."
        )
    if len(target) != batch_size:
        raise ValueError(
            f"{len(target)} target texts were given for {batch_size} images; pass one text, or one an image. "
            "To score many texts on every image, use saliency(x, texts)."
        )
    return as_texts(target)
