"""Captions in tar shards as webdataset lays them out: 000.jpg and 000.txt side by side (CC3M's layout)."""

from __future__ import annotations

import io
import logging
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from torchnle import images
from torchnle.data.captions import CaptionedImage, digest
from torchnle.data.readers import shard_names
from torchnle.hub import web
from torchnle.hub.report import hide_secrets
from torchnle.language.texts import check_captions, decode, lines

_IMAGES = frozenset(suffix.removeprefix(".") for suffix in images.SUFFIXES)
_CAPTION = "txt"
_logger = logging.getLogger("torchnle")


@dataclass(frozen=True)
class Member:
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
            no tar file, holds no pair, or (strict) a pair is not whole or is there twice.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        *,
        cache: str | Path | None = None,
        strict: bool = True,
    ) -> None:
        self.shards = tuple(_local(shards, cache))
        #: What was left out, and why; nothing is where `strict`.
        self.skipped: dict[str, str] = {}
        self._names: list[str] = []
        self._members: list[tuple[Member, Member]] = []
        for number, shard in enumerate(self.shards):
            self._index(number, shard, strict)
        if not self._names:
            raise ValueError(
                f"there is no image with a caption in {', '.join(self.shards[:3]) or shards}: "
                "a shard holds 000.jpg and 000.txt side by side."
            )
        if self.skipped:
            _logger.warning("%d left out: %s", len(self.skipped), "; ".join(list(self.skipped.values())[:5]))
        #: The pairs of one shard, which are read fast together.
        self.chunks = tuple(first.shard for first, _ in self._members)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> CaptionedImage:
        """Return one image, upright and RGB, and each line of its text as a caption."""
        image, caption = self._members[index]
        name = self._names[index]
        texts = [text for text in lines(decode(self._read(caption), name)) if text.strip()]
        if not texts:
            raise ValueError(f"{name} has a blank caption.")
        return CaptionedImage(self._open(image, name), check_captions(texts, name))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the shards' paths, sizes and modification times."""
        stats = [(shard, os.stat(shard)) for shard in self.shards]
        return digest(f"{shard}\0{stat.st_size}\0{stat.st_mtime_ns}" for shard, stat in stats)

    def _index(self, number: int, shard: str, strict: bool) -> None:
        found: dict[str, dict[str, Member]] = {}
        for name, member in members(number, shard):
            key, kind = _split(name)
            if kind is None:
                continue
            if kind in found.setdefault(key, {}):
                self._leave_out(strict, f"{shard}/{name}", f"{shard}: {key!r} has a second {kind}, {name!r}")
            else:
                found[key][kind] = member
        for key, parts in found.items():
            if len(parts) == 2:
                self._names.append(f"{shard}/{key}")
                self._members.append((parts["image"], parts[_CAPTION]))
            elif not _belongs(key, parts, found):
                lacking = "caption (.txt)" if "image" in parts else f"image ({', '.join(sorted(_IMAGES))})"
                self._leave_out(strict, f"{shard}/{key}", f"{shard}: {key!r} has no {lacking}")

    def _leave_out(self, strict: bool, name: str, why: str) -> None:
        if strict:
            raise ValueError(f"{why}. Pass strict=False to leave it out.")
        self.skipped[name] = why

    def _read(self, member: Member) -> bytes:
        with open(self.shards[member.shard], "rb") as file:
            file.seek(member.offset)
            return file.read(member.size)

    def _open(self, member: Member, name: str) -> Image.Image:
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


def members(number: int, shard: str) -> Iterator[tuple[str, Member]]:
    """Yield the name and byte range of every file in a shard, by its headers alone.

    Args:
        number: Of the shard.
        shard: Its path.

    Raises:
        OSError: If it is not there.
        ValueError: If it is no whole, uncompressed tar file.
    """
    size = os.path.getsize(shard) if os.path.exists(shard) else 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for entry in tar:
                if entry.offset_data + (entry.size if entry.isfile() else 0) > size:
                    raise ValueError(f"{shard} ends in the middle of {entry.name!r}. Download it again.")
                if entry.isfile():
                    yield entry.name, Member(number, entry.offset_data, entry.size)
    except tarfile.ReadError as error:
        raise ValueError(f"{shard} is not a whole, uncompressed tar file: {error}.") from error


def _split(name: str) -> tuple[str, str | None]:
    """The key of a file of an example, and whether it is the image or the caption; None = neither.

    The key ends at the last dot: names have dots of their own ("22.05.png").
    """
    key, _, extension = name.rpartition(".")
    kind = extension.lower()
    return key, "image" if kind in _IMAGES else _CAPTION if kind == _CAPTION else None


def _belongs(key: str, parts: Mapping[str, Member], found: Mapping[str, Mapping[str, Member]]) -> bool:
    """Return whether a lone image belongs to a complete example, as "000.seg.png" to 000.jpg and 000.txt."""
    folder, _, file = key.rpartition("/")
    first = f"{folder}/{file.partition('.')[0]}" if folder else file.partition(".")[0]
    return "image" in parts and first != key and len(found.get(first, ())) == 2
