"""Sources of captioned images by index: training data from files, folders, lists and mixtures.

Everything here is read by index, so that a training run can read the pairs of any step in any process, and
the same ones after an interruption.
"""

from __future__ import annotations

import hashlib
import logging
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path, PurePath
from typing import Protocol

from PIL import Image

from torchnle import images
from torchnle.data.readers.caption_files import read_captions
from torchnle.language.texts import shorten

#: The endings of images in a folder.
_SHOWN = 5
_logger = logging.getLogger("torchnle")


class Captioned(Protocol):
    """An image and its captions; a `Scene` is one too."""

    @property
    def image(self) -> Image.Image:
        """The image, of any size and mode."""

    @property
    def captions(self) -> tuple[str, ...]:
        """One or more captions."""


class CaptionSource(Protocol):
    """Captioned images by index; `Scenes` is one too."""

    @property
    def fingerprint(self) -> str:
        """A hash that changes if an image or a caption may have changed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Captioned:
        """Return one pair.

        Raises:
            ValueError: If the image cannot be read; the message names it.
        """


@dataclass(frozen=True)
class CaptionedImage:
    """An image and its captions.

    Args:
        image: Any size, any mode.
        captions: One or more.

    Example:
        >>> CaptionedImage(Image.new("RGB", (4, 4)), ("a black square",)).captions
        ('a black square',)
    """

    image: Image.Image
    captions: tuple[str, ...]


class CaptionFile:
    """Image files and one file of captions: JSON lines, CSV, or COCO's JSON.

    Several lines on one image are several captions of it.

    Args:
        file: ``.jsonl``, ``.csv`` or ``.json``.
        images: The folder that the names in the file are relative to; None = the file's own.
        image_key: The field or column that names the image; None = "image", "file_name" or another usual one.
        caption_key: The field or column of the caption; None = "caption", "text" or another usual one.
        strict: Refuse captions whose image is missing and images that no caption names; otherwise leave
            them out.

    Raises:
        ValueError: If there are no captions, the file is not of the format that its name states, it names an
            image outside the folder, or (strict) an image or a caption is missing.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (4, 4)).save(folder / "0.png")
        >>> _ = (folder / "captions.jsonl").write_text('{"image": "0.png", "caption": "a black square"}')
        >>> CaptionFile(folder / "captions.jsonl")[0].captions
        ('a black square',)
    """

    def __init__(
        self,
        file: str | Path,
        images: str | Path | None = None,
        *,
        image_key: str | None = None,
        caption_key: str | None = None,
        strict: bool = True,
    ) -> None:
        self.file = Path(file)
        self.folder = self.file.parent if images is None else Path(images)
        #: What was left out, and why; nothing is where `strict`.
        self.skipped: dict[str, str] = {}
        captions = read_captions(self.file, image_key, caption_key, skipped=None if strict else self.skipped)
        for name in captions:
            _check_inside(self.folder, name, self.file)
        there = {name: texts for name, texts in captions.items() if (self.folder / name).is_file()}
        if strict:
            self._check(captions, there)
        self.skipped |= {name: f"{self.folder / name} is no file" for name in captions if name not in there}
        if self.skipped:
            _logger.warning("%s: %d left out: %s", self.file, len(self.skipped), _some(self.skipped))
        if not there:
            raise ValueError(
                f"none of the {len(captions)} images that {self.file} names is in {self.folder}: "
                f"{_some(captions)}. Pass images=, the folder that the names are relative to."
            )
        self._names = tuple(there)
        self._captions = tuple(map(tuple, there.values()))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> CaptionedImage:
        """Return one image, upright and RGB, with its captions."""
        return CaptionedImage(images.open_image(self.folder / self._names[index]), self._captions[index])

    @property
    def fingerprint(self) -> str:
        """The fingerprint of names, captions, file sizes and modification times."""
        stats = [(self.folder / name).stat() for name in self._names]
        return digest(
            f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0{captions}"
            for name, captions, stat in zip(self._names, self._captions, stats, strict=True)
        )

    def _check(self, captions: dict[str, list[str]], there: dict[str, list[str]]) -> None:
        lost = [name for name in captions if name not in there]
        if lost:
            raise ValueError(
                f"{len(lost)} of {len(captions)} images that {self.file} has captions for are not in "
                f"{self.folder}: {_some(lost)}. Pass images=, or strict=False to leave them out."
            )
        named = {(self.folder / name).resolve() for name in captions}
        mute = [
            path.relative_to(self.folder).as_posix()
            for path in sorted(self.folder.rglob("*"))
            if path.suffix.lower() in images.SUFFIXES and path.resolve() not in named
        ]
        if mute:
            raise ValueError(
                f"{len(mute)} images in {self.folder} have no caption in {self.file}: {_some(mute)}. "
                "Pass strict=False to leave them out."
            )


class Mixture:
    """Several sources, concatenated.

    Args:
        sources: The sources, in order.

    Example:
        >>> square = [CaptionedImage(Image.new("RGB", (4, 4)), ("a square",))]
        >>> both = Mixture([CaptionList(square), CaptionList(2 * square)])
        >>> len(both), both.ranges
        (3, (range(0, 1), range(1, 3)))
    """

    def __init__(self, sources: Sequence[CaptionSource]) -> None:
        self.sources = tuple(sources)
        ends = list(accumulate(map(len, self.sources), initial=0))
        #: The range of indices of each source.
        self.ranges = tuple(range(a, b) for a, b in pairwise(ends))

    def __len__(self) -> int:
        return self.ranges[-1].stop if self.ranges else 0

    def __getitem__(self, index: int) -> Captioned:
        """Return the pair of an index, counted through all sources."""
        which = bisect_right([part.stop for part in self.ranges], index)
        return self.sources[which][index - self.ranges[which].start]

    @property
    def chunks(self) -> list[int] | None:
        """The shard of each pair; None if no source has shards."""
        if not any(hasattr(source, "chunks") for source in self.sources):
            return None
        found: list[int] = []
        for source in self.sources:
            own = getattr(source, "chunks", range(len(source)))
            first = max(found, default=-1) + 1
            found += [first + chunk for chunk in own]
        return found

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all sources, in order."""
        return digest(source.fingerprint for source in self.sources)


class CaptionList:
    """Captioned images in memory.

    Example:
        >>> len(CaptionList([CaptionedImage(Image.new("RGB", (4, 4)), ("a black square",))]))
        1
    """

    def __init__(self, pairs: Sequence[Captioned]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Captioned:
        """Return one pair."""
        return self._pairs[index]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of every pixel and caption."""
        return digest(part for pair in self._pairs for part in (repr(pair.captions), pair.image.tobytes()))


def digest(parts: Iterable[str | bytes]) -> str:
    """Hash a sequence of strings or bytes; moving a boundary between two parts changes the hash.

    Returns:
        Hexadecimal digits.

    Example:
        >>> digest(["ab", "c"]) == digest(["a", "bc"])
        False
    """
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        total.update(len(raw).to_bytes(8, "big") + raw)
    return total.hexdigest()


def _check_inside(folder: Path, name: str, file: Path) -> None:
    """Refuse names outside the folder, also through links; links inside the folder are allowed."""
    path = PurePath(name)
    if not path.drive and not path.is_absolute() and ".." not in path.parts:
        return
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{file} names the image {shorten(name)!r}, which lies outside {folder}. Pass images=, "
            "the folder that holds them all."
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
