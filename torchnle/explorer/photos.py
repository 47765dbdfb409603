"""Photographs of the explorer: opened by the reader of images, kept in memory, named by their content."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle import images
from torchnle.backbones import Backbone
from torchnle.language.texts import shorten, visible

#: The longest side of a photograph as it is shown, in pixels.
_SHOWN = 960
#: The most photographs that were dropped in and are still known; the oldest is forgotten first.
DROPPED = 24
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Photo:
    """A photograph as the model sees it.

    Args:
        key: What requests call it: the beginning of a hash of its pixels and name.
        name: The name of its file, without folders; it may hold anything.
        jpeg: What the model sees of it, to be shown.
        size: (width, height) of that.
        inputs: The model's input.
    """

    key: str
    name: str
    jpeg: bytes = field(repr=False)
    size: tuple[int, int]
    inputs: Float[Tensor, "1 C H W"] = field(repr=False)

    @classmethod
    def of(cls, image: Image.Image, name: str, backbone: Backbone) -> Photo:
        """Prepare an opened photograph.

        Example:
            >>> from torchnle.backbones import Preprocess
            >>> backbone = Backbone.of(model, Preprocess(8, 0.0, 255.0))
            >>> Photo.of(Image.new("RGB", (12, 8)), "a/b.png", backbone).size
            (8, 8)
        """
        view = backbone.view(image).convert("RGB")
        view.thumbnail((_SHOWN, _SHOWN))
        content = io.BytesIO()
        view.save(content, "JPEG", quality=88)
        shown = shorten(visible(Path(name.replace("\\", "/")).name), _LONGEST_NAME) or "photograph"
        digest = hashlib.sha256(image.tobytes() + shown.encode()).hexdigest()[:16]
        return cls(digest, shown, content.getvalue(), view.size, backbone.preprocess(image)[None])

    def to_dict(self) -> dict[str, Any]:
        """Return what a page needs to show it."""
        return {"key": self.key, "name": self.name, "width": self.size[0], "height": self.size[1]}


class Photos:
    """The photographs that requests may name; threads may share it.

    Args:
        backbone: The model that they are prepared for.
        files: The photographs that are always known.

    Raises:
        ValueError: If a file is no picture.
    """

    def __init__(self, backbone: Backbone, files: Sequence[Path] = ()) -> None:
        self._backbone, self._lock = backbone, Lock()
        opened = [Photo.of(images.open_image(file), file.name, backbone) for file in files]
        self.given = {photo.key: photo for photo in opened}
        self._dropped: OrderedDict[str, Photo] = OrderedDict()

    def add(self, content: bytes, name: str) -> Photo:
        """Open a photograph that was dropped in, and keep it.

        Raises:
            ValueError: If the bytes are no picture, or too large a one.
        """
        image = images.read_image(io.BytesIO(content), shorten(visible(name), _LONGEST_NAME))
        photo = Photo.of(image, name, self._backbone)
        with self._lock:
            if photo.key not in self.given:
                self._dropped[photo.key] = photo
                self._dropped.move_to_end(photo.key)
                while len(self._dropped) > DROPPED:
                    self._dropped.popitem(last=False)
        return photo

    def __getitem__(self, key: Any) -> Photo:
        with self._lock:
            found = self.given.get(key) or self._dropped.get(key) if isinstance(key, str) else None
        if found is None:
            raise KeyError("this photograph is not known here (any more); drop it in again.")
        return found

    def __len__(self) -> int:
        return len(self.given) + len(self._dropped)
