"""Probing sets: a folder or a data set as indexed images, with a fingerprint."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchnle import images

#: What a model's preprocessing is: an RGB image into (C, H, W).
Transform: TypeAlias = Callable[[Image.Image], Tensor]
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class ProbingSet:
    """Numbered images that a model is probed with.

    Args:
        source: A folder of image files (searched with its subfolders, in the order of their names); or a
            sequence of file paths, PIL images, tensors (C, H, W) as the model takes them, objects with an
            `image` (as `torchnle.data.Scenes` gives), dictionaries with one, or tuples that begin with one of
            these.
        transform: Turns an RGB image into the model's input; needed for everything but tensors.
        fingerprint: Names the content, for the hash under which results are kept; None = that of the
            source's `fingerprint`, or of names, sizes and times of files, or of all pixels.

    Raises:
        ValueError: If there is no image in it.

    Example:
        >>> probing = ProbingSet([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
        >>> len(probing), probing.tensor(1).shape
        (2, torch.Size([3, 4, 4]))
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Sequence[Any],
        transform: Transform | None = None,
        *,
        fingerprint: str | None = None,
    ) -> None:
        self.transform = transform
        self._files = isinstance(source, (str, os.PathLike))
        self._items: Sequence[Any] = (
            _files_of(Path(source)) if isinstance(source, (str, os.PathLike)) else source
        )
        self._fingerprint = fingerprint
        if not len(self._items):
            raise ValueError("the probing set is empty: there is no image in it. Pass at least one image.")

    def __len__(self) -> int:
        return len(self._items)

    def name(self, index: int) -> str:
        """Name an image for messages and reports: its file's name, or its number."""
        item = self._items[index]
        return str(item) if isinstance(item, (str, os.PathLike)) else f"image {index}"

    def tensor(self, index: int) -> Tensor:
        """Read one image as the model takes it, (C, H, W).

        Raises:
            ValueError: If the image cannot be read.
            TypeError: If there is no transform for what is no tensor.
        """
        item = _bare(self._items[index])
        if isinstance(item, Tensor):
            return item
        if self.transform is None:
            raise TypeError(
                f"{self.name(index)} is a {type(item).__name__}; pass transform=, which turns an RGB image "
                "into the model's input (C, H, W)."
            )
        return self.transform(self._opened(item))

    def picture(self, index: int) -> Image.Image:
        """Read one image for display, in RGB: the part that the model sees, where the transform says which.

        Raises:
            ValueError: If the image cannot be read.
        """
        item = _bare(self._items[index])
        if isinstance(item, Tensor):
            return _shown(item)
        view = getattr(self.transform, "view", None)
        opened = self._opened(item)
        return opened if view is None else view(opened)

    @property
    def fingerprint(self) -> str:
        """A hash of the images and of how they are transformed."""
        stated = self._fingerprint or getattr(self._items, "fingerprint", None)
        content = str(stated) if stated else self._content()
        transform = _ADDRESS.sub("", repr(self.transform))  # of a function: its name alone
        return hashlib.sha256(f"{content} {transform}".encode()).hexdigest()

    def _content(self) -> str:
        found = hashlib.sha256()
        for index, item in enumerate(self._items):
            bare = _bare(item)
            if isinstance(bare, (str, os.PathLike)):
                stat = os.stat(bare)
                found.update(f"{bare} {stat.st_size} {stat.st_mtime_ns}".encode())
            else:
                value = bare if isinstance(bare, Tensor) else np.asarray(self.picture(index))
                found.update(np.ascontiguousarray(value).tobytes())
        return found.hexdigest()

    @staticmethod
    def _opened(item: Any) -> Image.Image:
        return item.convert("RGB") if isinstance(item, Image.Image) else images.open_image(item)


def as_probing_set(source: Any, transform: Transform | None = None) -> ProbingSet:
    """Return the probing set itself, or one of the source.

    Example:
        >>> len(as_probing_set([torch.zeros(3, 2, 2)]))
        1
    """
    return source if isinstance(source, ProbingSet) else ProbingSet(source, transform)


def _files_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"'{folder}' is not a folder. Pass one that holds pictures.")
    return sorted(
        file for file in folder.rglob("*") if file.suffix.lower() in images.SUFFIXES and file.is_file()
    )


def _bare(item: Any) -> Any:
    """The image of an item of a data set: its first part, or its `image`."""
    while isinstance(item, (tuple, list, Mapping)) and item:
        item = item["image"] if isinstance(item, Mapping) else item[0]
    return item if isinstance(item, (Tensor, Image.Image)) else getattr(item, "image", item)


def _shown(tensor: Tensor) -> Image.Image:
    """A normalised input for display: from its least value to its largest."""
    values = tensor.detach().float().cpu()
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low).clamp_min(1e-12)
    pixels = (scaled * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3]).convert("RGB")
