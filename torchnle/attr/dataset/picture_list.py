"""PictureList: the pictures of files, folders, globs, lists and tar shards, numbered and opened on demand."""

from __future__ import annotations

import glob
import io
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from torchnle import images
from torchnle.language.texts import decode, lines

#: A file, folder, glob, list (.txt) or shard (.tar), or several of these.
Given: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
#: A picture's origin: its name; of one in a shard also the shard's number, the first byte and the length.
_Source: TypeAlias = tuple[str, int, int, int]
_LISTS = (".txt", ".lst")
_SHARD = ".tar"
_NO_SHARD = -1


class PictureList:
    """A list of pictures by name, each opened when it is read.

    Names are packed into one block of bytes: a million of them take some 100 MB less than as strings, and the
    block is shared with worker processes.

    Args:
        given: A file; a folder, whose pictures are taken by name; a glob, in which ``**`` enters folders; a
            list, ".txt" with a path a line, relative to the list; webdataset's tar shards, also in its
            notation "train-{000..099}.tar"; or several of these.

    Raises:
        ValueError: If a folder or glob holds no picture, or a list or shard cannot be read. Files that are
            not there are found out when they are opened.

    Example:
        >>> pictures = PictureList(["a.jpg", "b.jpg"])
        >>> len(pictures), pictures.name(1)
        (2, 'b.jpg')
    """

    def __init__(self, given: Given) -> None:
        self.shards: list[str] = []
        single = isinstance(given, (str, os.PathLike))
        several: Any = [_existing(given)] if single else given
        names, ends, sources = bytearray(), array("q", [0]), array("q")
        for each in several:
            for name, *source in self._sources(_path(each)):
                names += os.fsencode(name)
                ends.append(len(names))
                sources.extend(source)
        self._names, self._ends = np.frombuffer(names, np.uint8), np.frombuffer(ends, np.int64)
        self._at = np.frombuffer(sources, np.int64).reshape(-1, 3) if self.shards else None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def name(self, index: int) -> str:
        """Return the path of a picture, of one in a shard "SHARD/MEMBER"."""
        return os.fsdecode(self._names[self._ends[index] : self._ends[index + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return self.names()

    def names(self) -> Iterator[str]:
        """Yield all names, in order."""
        return (self.name(index) for index in range(len(self)))

    def open(self, index: int) -> Image.Image:
        """Open a picture as `images.open_image` does.

        Raises:
            ValueError: If it is missing, damaged or no picture; the message names it.
        """
        name = self.name(index)
        shard, offset, size = (_NO_SHARD, 0, 0) if self._at is None else map(int, self._at[index])
        if shard == _NO_SHARD:
            return images.open_image(name)
        try:
            with open(self.shards[shard], "rb") as file:
                file.seek(offset)
                return images.read_image(io.BytesIO(file.read(size)), name)
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error}.") from error

    def _sources(self, given: str) -> Iterator[_Source]:
        if given.lower().endswith(_SHARD):
            for shard in _local_shards(given):
                yield from self._in_shard(shard)
        else:
            yield from ((file, _NO_SHARD, 0, 0) for file in _files(given))

    def _in_shard(self, shard: str) -> Iterator[_Source]:
        from torchnle.data.readers.caption_shards import members  # imports all data sets

        number, found = len(self.shards), False
        self.shards.append(shard)
        for name, member in members(number, shard):
            if Path(name).suffix.lower() in images.SUFFIXES:
                found = True
                yield f"{shard}/{name}", number, member.offset, member.size
        if not found:
            raise ValueError(f"{shard} holds no pictures with the endings {_endings()}.")


def _path(given: Any) -> str:
    if not isinstance(given, (str, os.PathLike)) or not isinstance(os.fspath(given), str):
        raise TypeError(f"among the files is a {type(given).__name__}; pass the paths of files or folders.")
    return os.fspath(given)


def _existing(given: Any) -> Any:
    """Refuse a single path that leads nowhere; of several, one is told when it is opened."""
    path = _path(given)
    if not (os.path.exists(path) or glob.has_magic(path) or path.lower().endswith(_SHARD)):
        raise ValueError(
            f"{path} is not there. Pass a file, a folder, a pattern ('photos/**/*.jpg') or a list."
        )
    return given


def _local_shards(given: str) -> Sequence[str]:
    """Expand webdataset's notation or a glob to the shards on this machine."""
    from torchnle.data.readers.shard_names import expand, is_address

    named = not any(mark in given for mark in ("{", "::", "$", ":"))
    if glob.has_magic(given) and named and not os.path.isfile(given):
        return _globbed(given, _SHARD)
    shards = [given] if named else expand(given)
    if addresses := [shard for shard in shards if is_address(shard)]:
        raise ValueError(f"{addresses[0]} is an address; download the shard, and pass the path of the file.")
    return shards


def _files(given: str) -> Sequence[str]:
    if os.path.isdir(given):
        return [str(file) for file in images.list_folder(given)]
    if glob.has_magic(given) and not os.path.isfile(given):
        return _globbed(given, *images.SUFFIXES)
    return _listed(Path(given)) if given.lower().endswith(_LISTS) and os.path.isfile(given) else [given]


def _globbed(pattern: str, *endings: str) -> Sequence[str]:
    found = sorted(
        file for file in glob.glob(pattern, recursive=True) if Path(file).suffix.lower() in endings
    )
    if not found:
        raise ValueError(f"the pattern {pattern!r} matches no file with the endings {', '.join(endings)}.")
    return found


def _listed(file: Path) -> Sequence[str]:
    try:
        named = [line.strip() for line in lines(decode(file.read_bytes(), str(file))) if line.strip()]
    except OSError as error:
        raise ValueError(f"the list {file} cannot be read: {error}.") from error
    if not named:
        raise ValueError(f"the list {file} is empty; write the path of a picture on each line.")
    return [str(file.parent / name) for name in named]


def _endings() -> str:
    return ", ".join(sorted(images.SUFFIXES))
