"""A user's own model from a checkpoint, an architecture's name and the names of its classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchnle.backbones import timm, torchvision
from torchnle.backbones.backbone import Backbone
from torchnle.backbones.fill import fill
from torchnle.hub.state_dict import load_state_dict

_LIBRARIES: dict[str, Any] = {"timm": timm.load, "torchvision": torchvision.load}


def load_checkpoint(
    file: str | Path,
    architecture: str,
    class_names: Sequence[str],
    *,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Backbone:
    """Build an architecture with one output per class and load a checkpoint file into it.

    Args:
        file: A state dict: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin`` (with ``weights_only=True``). A
            prefix that every name has ("module.") is taken off.
        architecture: "timm:NAME" or "torchvision:NAME".
        class_names: One per class, in the order of the outputs.
        size: The side of the input in pixels; None = the architecture's own.
        mean: The mean of each channel, on the scale 0 to 1; None = the architecture's own.
        std: The standard deviation of each channel, likewise.

    Raises:
        ValueError: If the architecture is not known, the file is damaged, or its names or shapes are not the
            model's; the message says how many classes the file is for, or which architectures it fits.

    Example:
        >>> backbone = load_checkpoint("own.pt", "timm:resnet18", names)  # doctest: +SKIP
    """
    library, _, name = architecture.partition(":")
    if library not in _LIBRARIES or not name:
        raise ValueError(f"architecture {architecture!r} is not known; pass timm:NAME or torchvision:NAME.")
    built: Backbone = _LIBRARIES[library](name, pretrained=False, num_classes=len(class_names))
    fill(built.model, load_state_dict(Path(file)), Path(file), architecture, len(class_names))
    changes: dict[str, Any] = {} if size is None else {"size": size}
    for key, values in (("mean", mean), ("std", std)):
        if values is not None:
            changes[key] = tuple(255 * value for value in values)
    preprocess = replace(built.preprocess, **changes)
    return Backbone(built.model.eval(), preprocess, tuple(class_names), str(file))


def read_class_names(file: str | Path) -> tuple[str, ...]:
    """Read class names from a file: one per line, or JSON: a list, or a mapping from index to name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not text, or holds no names.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path} of class names. Pass one with a name per line, or JSON: a list, or "
            "index -> name."
        )
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json":
        found = json.loads(text)
        if isinstance(found, dict):
            found = [found[key] for key in sorted(found, key=int)]
    else:
        found = [line.strip() for line in text.splitlines() if line.strip()]
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path} holds no class names: one a line, or JSON: a list, or index -> name.")
    return tuple(found)
