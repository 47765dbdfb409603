"""Captions in Hugging Face data sets, or any other sequence of dicts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from torchnle import images
from torchnle.data.captions import CaptionedImage, digest
from torchnle.language.texts import check_captions


class Records(Protocol):
    """A map-style data set of dicts."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


class CaptionDataset:
    """A Hugging Face data set with a column of images and one of captions.

    Args:
        dataset: Map-style: `datasets.load_dataset(...)` with a split and without streaming; or any
            sequence of dicts.
        image: The column of images: decoded, or bytes or a path as the library keeps them undecoded.
        caption: The column of captions: a text, or a list of texts.
        name: Its name in messages.

    Raises:
        TypeError: If the data set has no length (a streaming one).
        ValueError: If it is empty, or a column is not there.

    Example:
        >>> records = [{"image": Image.new("RGB", (4, 4)), "caption": "a black square"}]
        >>> CaptionDataset(records)[0].captions
        ('a black square',)
    """

    def __init__(
        self,
        dataset: Records,
        *,
        image: str = "image",
        caption: str = "caption",
        name: str = "the data set",
    ) -> None:
        if not hasattr(dataset, "__len__"):
            raise TypeError(
                f"{name} has no length, so no step's pairs could be found again after an interruption. "
                "Load it without streaming=True, and with a split."
            )
        if not len(dataset):
            raise ValueError(f"{name} is empty.")
        self.dataset, self.image, self.caption, self.name = dataset, image, caption, name
        self._rows = _undecoded(dataset, image)
        columns = list(getattr(dataset, "column_names", None) or dataset[0])
        for column in (image, caption):
            if column not in columns:
                near = get_close_matches(column, columns, cutoff=0.4) or columns
                raise ValueError(f"{name} has no column {column!r}. Nearest: {', '.join(near)}.")

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> CaptionedImage:
        """Return one image with its captions."""
        where = f"{self.name}, row {index}"
        try:
            record = self._rows[index]
        except images.FAILURES as error:  # the library may decode on indexing
            if isinstance(error, IndexError) and not -len(self) <= index < len(self):
                raise
            raise ValueError(f"{where} cannot be read as an image: {error}.") from error
        image = _image(record[self.image], where)
        return CaptionedImage(image, check_captions(record[self.caption], where))

    @property
    def fingerprint(self) -> str:
        """The library's own fingerprint, or that of every pixel and caption."""
        stated = getattr(self.dataset, "_fingerprint", None)
        if stated is not None:
            return digest((str(stated), self.image, self.caption))
        pairs = (self[index] for index in range(len(self)))
        return digest(part for pair in pairs for part in (repr(pair.captions), pair.image.tobytes()))


def _undecoded(dataset: Any, column: str) -> Records:
    """Return the rows with images as bytes or paths, so that `torchnle.images` decodes them.

    A data set with a transform or a format of the caller's is unchanged, since that decides its output.
    """
    feature: Any = (getattr(dataset, "features", None) or {}).get(column)
    formatted = (getattr(dataset, "format", None) or {}).get("type") is not None
    if formatted or not getattr(feature, "decode", False) or not hasattr(dataset, "cast_column"):
        rows: Records = dataset
        return rows
    cast: Records = dataset.cast_column(column, type(feature)(decode=False))
    return cast


def _image(value: object, where: str) -> Image.Image:
    if isinstance(value, Image.Image):
        return images.to_rgb(value, where)
    raw = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(raw, bytes):
        return images.read_image(io.BytesIO(raw), where)
    path = value.get("path") if isinstance(value, Mapping) else value
    if isinstance(path, (str, Path)):
        return images.open_image(path)
    raise ValueError(f"{where} holds no image but {type(value).__name__}; pass image=, the column of images.")
