"""Exclusive locks on files and folders between processes; a lock ends with its process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def locked(file: IO[Any] | int) -> Iterator[bool]:
    """Hold an exclusive lock on an open file while the block runs; wait while another process holds it.

    Args:
        file: An open file, or its descriptor.

    Yields:
        True if the file is locked; False where locks are not supported (Windows, some network drives).
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        if not isinstance(file, int):
            file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def alone_in_folder(folder: Path) -> Iterator[None]:
    """Create a folder and hold an exclusive lock on it while the block runs.

    If another process renames or removes the folder meanwhile, it is created again, so that the locked folder
    is the one at this path.

    Args:
        folder: The folder; its parents are created too.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        except PermissionError:  # Windows opens no folders
            yield
            return
        try:
            with locked(descriptor):
                if _is_there(folder, descriptor):
                    yield
                    return
        finally:
            os.close(descriptor)


def _is_there(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
