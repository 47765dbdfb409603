"""Hashes of files, read in pieces."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE = 1 << 20


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, as 64 hexadecimal digits."""
    return _update(hashlib.sha256(), path)


def git_blob(path: Path) -> str:
    """Compute git's id of a file, by which the Hub names files outside LFS: 40 hexadecimal digits.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a").write_bytes(b"what is up, doc?")
        ...     git_blob(Path(folder, "a"))  # the example of the book Pro Git, section 10.2
        'bd9dbf5aae1a3862dd1526723246b20206e5fc37'
    """
    header = b"blob %d\0" % path.stat().st_size
    return _update(hashlib.sha1(header, usedforsecurity=False), path)


def _update(state: hashlib._Hash, path: Path) -> str:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            state.update(piece)
    return state.hexdigest()
