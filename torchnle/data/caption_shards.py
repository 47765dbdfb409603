"""Captions in tar shards as webdataset lays them out: 000.jpg and 000.txt side by side (CC3M's layout)."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from torchnle import images
from torchnle.data import shard_names
from torchnle.data.captions import CaptionedImage, digest
from torchnle.hub import web
from torchnle.hub.report import hide_secrets

_IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
_CAPTION = "txt"


@dataclass(frozen=True)
class _Member:
    """The byte range of a file in a shard."""

    shard: int
    offset: int
    size: int


class CaptionShards:
    """Pairs in webdataset's tar shards, read by number.

    The headers of all shards are read once; then each pair needs one seek, so that a resumed run reads no
    earlier pairs.

    Args:
        shards: Paths and plain http and https addresses in webdataset's notation
            ("cc3m-train-{0000..0575}.tar"), or a list of them. Addresses are downloaded once. Other inputs of
            webdataset ("pipe:", "gs:", standard input) are refused, since they start programs.
        cache: Where downloaded shards are kept.
        strict: Refuse images without caption and captions without image; otherwise leave them out.

    Raises:
        MissingDependencyError: If webdataset is not installed.
        OSError: If a shard is missing or cannot be downloaded.
        ValueError: If a shard is neither a local file nor such an address (then nothing is opened at all), is
            no tar file, holds no pair, or (strict) a pair is incomplete.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        *,
        cache: str | Path | None = None,
        strict: bool = True,
    ) -> None:
        self.shards = tuple(_local(shards, cache))
        self._names: list[str] = []
        self._members: list[tuple[_Member, _Member]] = []
        for number, shard in enumerate(self.shards):
            self._index(number, shard, strict)
        if not self._names:
            raise ValueError(
                f"there is no image with a caption in {', '.join(self.shards[:3]) or shards}: "
                "a shard holds 000.jpg and 000.txt side by side."
            )
        #: The pairs of one shard, which are read fast together.
        self.chunks = tuple(first.shard for first, _ in self._members)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> CaptionedImage:
        """Return one image, upright and RGB, and each line of its text as a caption."""
        image, caption = self._members[index]
        texts = self._read(caption).decode("utf-8", "replace").splitlines()
        captions = tuple(text.strip() for text in texts if text.strip())
        if not captions:
            raise ValueError(f"{self._names[index]} has a blank caption.")
        return CaptionedImage(self._open(image, self._names[index]), captions)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the shards' paths, sizes and modification times."""
        stats = [(shard, os.stat(shard)) for shard in self.shards]
        return digest(f"{shard}\0{stat.st_size}\0{stat.st_mtime_ns}" for shard, stat in stats)

    def _index(self, number: int, shard: str, strict: bool) -> None:
        found: dict[str, dict[str, _Member]] = {}
        for name, member in _members(number, shard):
            key, _, extension = _split(name)
            kind = "image" if extension in _IMAGES else extension
            if kind in ("image", _CAPTION):
                found.setdefault(key, {})[kind] = member
        for key, parts in found.items():
            if len(parts) == 2:
                self._names.append(f"{shard}/{key}")
                self._members.append((parts["image"], parts[_CAPTION]))
            elif strict:
                lacking = "caption (.txt)" if "image" in parts else f"image ({', '.join(sorted(_IMAGES))})"
                raise ValueError(f"{shard}: {key!r} has no {lacking}. Pass strict=False to leave it out.")

    def _read(self, member: _Member) -> bytes:
        with open(self.shards[member.shard], "rb") as file:
            file.seek(member.offset)
            return file.read(member.size)

    def _open(self, member: _Member, name: str) -> Image.Image:
        return images.read_image(io.BytesIO(self._read(member)), name)


def _local(shards: str | Path | Sequence[str | Path], cache: str | Path | None) -> Iterator[str]:
    """Yield local paths of the shards, after downloading addresses; all names are checked first."""
    folder = Path(cache or Path.home() / ".cache" / "torchnle" / "shards")
    for name in shard_names.expand(shards):
        yield _downloaded(name, folder) if shard_names.is_address(name) else _regular(name)


def _downloaded(address: str, folder: Path) -> str:
    path = web.fetch(address, folder)
    if not tarfile.is_tarfile(path):
        path.unlink()
        raise ValueError(f"the file at {hide_secrets(address)} is no tar file; it was not kept.")
    return str(path)


def _regular(path: str) -> str:
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"the shard {path!r} is a folder or a device. Pass the path of a tar file.")
    return path


def _members(number: int, shard: str) -> Iterator[tuple[str, _Member]]:
    try:
        with tarfile.open(shard, "r:") as tar:
            for entry in tar:
                if entry.isfile():
                    yield entry.name, _Member(number, entry.offset_data, entry.size)
    except tarfile.ReadError as error:
        raise ValueError(f"{shard} is not a whole, uncompressed tar file: {error}.") from error


def _split(name: str) -> tuple[str, str, str]:
    """Split a name into key, dot and extension as webdataset does, at the first dot of the file name."""
    folder, _, file = name.rpartition("/")
    key, dot, extension = file.partition(".")
    return f"{folder}/{key}" if folder else key, dot, extension.lower()
