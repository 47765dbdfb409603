"""Refuse unknown model names, with the nearest known ones."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def check_name(name: str, known: Iterable[str], library: str) -> None:
    """Refuse an unknown name.

    Raises:
        ValueError: If the name is not known.

    Example:
        >>> check_name("resnet5", ["resnet50", "vgg11"], "torchvision")
        Traceback (most recent call last):
        ...
        ValueError: torchvision has no model 'resnet5'. Nearest: resnet50.
    """
    names = list(known)
    if name in names:
        return
    near = get_close_matches(name, names, n=5, cutoff=0.5) or names[:5]
    raise ValueError(f"{library} has no model {name!r}. Nearest: {', '.join(near)}.")
