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
    """Where the bytes of a file lie within a shard."""

    shard: int
    offset: int
    size: int


class CaptionShards:
    """Pairs in webdataset's tar shards, read by number.

    The shards are gone through once, reading headers only; then every pair is one seek away, so that a run
    that goes on needs not read what came before.

    Args:
        shards: Paths and plain http and https addresses in webdataset's notation
            ("cc3m-train-{0000..0575}.tar"), or a list of them. Addresses are downloaded once. Of what else
            webdataset opens ("pipe:", "gs:", standard input) nothing is read, for it starts programs.
        cache: Where downloaded shards are kept.
        strict: Refuse images without caption and captions without image; otherwise leave them out.

    Raises:
        MissingDependencyError: If webdataset is not installed.
        OSError: If a shard is missing or cannot be downloaded.
        ValueError: If a shard is neither a local file nor such an address (then nothing is opened at all), is
            no tar file, holds no pair, or (strict) a pair is not whole.
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
        #: Which pairs lie in the same shard: read near one another, they are read fast.
        self.chunks = tuple(first.shard for first, _ in self._members)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> CaptionedImage:
        """One image, upright and RGB, and each line of its text as a caption."""
        image, caption = self._members[index]
        texts = self._read(caption).decode("utf-8", "replace").splitlines()
        captions = tuple(text.strip() for text in texts if text.strip())
        if not captions:
            raise ValueError(f"{self._names[index]} has a blank caption.")
        return CaptionedImage(self._open(image, self._names[index]), captions)

    @property
    def fingerprint(self) -> str:
        """Of the shards' paths, sizes and times of change."""
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
    """Paths of the shards, downloaded where they are addresses; all names are checked before the first."""
    folder = Path(cache or Path.home() / ".cache" / "torchnle" / "shards")
    for name in shard_names.expand(shards):
        yield _downloaded(name, folder) if shard_names.is_address(name) else _regular(name)


def _downloaded(address: str, folder: Path) -> str:
    path = web.fetch(address, folder)
    if not tarfile.is_tarfile(path):
        path.unlink()
        raise ValueError(f"what {hide_secrets(address)} gives is no tar file; it was not kept.")
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
    """Key, dot and extension as webdataset has them: the key ends at the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    key, dot, extension = file.partition(".")
    return f"{folder}/{key}" if folder else key, dot, extension.lower()
