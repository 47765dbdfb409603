"""A list of a cached folder's files with their sizes and hashes, checked whenever the folder is opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from torchnle.hub import digest, leftovers

#: The file in a folder that lists the others.
NAME = "manifest.json"


def write(folder: Path, files: Iterable[Path], file: Path | None = None) -> None:
    """Write a list of a folder's files with their sizes, modification times and hashes.

    Args:
        folder: The folder.
        files: The files to list.
        file: The file to write; None = a file in the folder.
    """
    target = file or folder / NAME
    entries = {path.relative_to(folder).as_posix(): _entry(path) for path in files}
    listed = {"files": entries, "sha256": _digest(entries)}
    with leftovers.replacing(target) as scratch:
        scratch.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def damaged(folder: Path, file: Path | None = None) -> list[str] | None:
    """Find the files of a folder that differ from its list; only files modified since are hashed again.

    Returns:
        The names of files that are missing or changed; None if the folder has no list.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.txt").write_text("whole")
        >>> write(folder, [folder / "a.txt"])
        >>> _ = (folder / "a.txt").write_text("torn!")
        >>> damaged(folder)
        ['a.txt']
    """
    try:
        listed = json.loads((file or folder / NAME).read_text(encoding="utf-8"))
        entries, stated = listed["files"], listed["sha256"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return [NAME]
    if _digest(entries) != stated:
        return [NAME]
    return [name for name, entry in entries.items() if not _same(folder / name, entry)]


def _digest(entries: object) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _entry(path: Path) -> list[object]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, digest.sha256(path)]


def _same(path: Path, entry: list[object]) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    if entry[:2] == [stat.st_size, stat.st_mtime_ns]:
        return True
    return entry[:1] == [stat.st_size] and entry[2:] == [digest.sha256(path)]
