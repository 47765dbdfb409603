"""Names of probing images in a report: files by their paths below the folder that all of them lie in."""

from __future__ import annotations

import os
from pathlib import Path

from torchnle.methods.dissect.labels import Dissection


class PictureNames:
    """Names the exemplars of a dissection: "cat/1.png" is another picture than "dog/1.png".

    Args:
        dissection: The labels; without a probing set every name is empty.

    Example:
        >>> PictureNames(Dissection("layer", []))(3)
        ''
    """

    def __init__(self, dissection: Dissection) -> None:
        images, numbers = dissection.images, {n for label in dissection for n in label.images}
        self._names = {} if images is None else {n: images.name(n) for n in sorted(numbers)}
        folders = [os.path.dirname(name) for name in self._names.values()]
        self._root = os.path.commonpath(folders) if folders and all(folders) else ""

    def __call__(self, number: int) -> str:
        """Return the name of an image, by its number in the probing set."""
        name = self._names.get(number, "")
        return Path(os.path.relpath(name, self._root)).as_posix() if name and self._root else name
