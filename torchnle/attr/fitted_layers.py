"""Layers that are read, against those that a translator was fitted to."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torchnle.translators.base import Translator
from torchnle.vision import taps
from torchnle.vision.reading import Reading


def warn_of_other_layers(layers: Sequence[taps.Tap], translator: Translator, reading: Reading) -> None:
    """Warn of layers that the translator was not fitted to: any of the same width is accepted."""
    known = {name for layer in translator.layers for name in (layer, layer.partition(":")[0])}
    other = [
        tap.name
        for tap in layers
        if known and tap.name not in reading.layers and not any(_is_same(tap.name, name) for name in known)
    ]
    if other:
        warnings.warn(
            f"the translator '{translator.name}' was fitted to {list(translator.layers)}, not to {other}. "
            "Features of another layer have other meanings, even at the same width: its words are about "
            f"{list(translator.layers)} only. Read one of these, or fit a translator to {other}.",
            stacklevel=4,
        )


def _is_same(layer: str, known: str) -> bool:
    """Return whether a layer has a known name, or has it in a wrapped model ("backbone.layer4")."""
    one, other = layer.partition(":")[0], known.partition(":")[0]
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")
