"""Exclusive locks on files and folders between processes; a lock ends with its process."""

from __future__ import annotations

import contextlib
import os
import time
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


def try_lock(folder: Path) -> int | None:
    """Lock a folder without waiting, while the returned descriptor is open here or in a child process.

    Returns:
        The descriptor; None if another process holds the lock, or folders cannot be locked on this system.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows opens no folders
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def is_free(folder: Path, patience: float) -> bool:
    """Return whether a folder's lock is free, or becomes free within `patience` seconds.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> held = try_lock(folder)
        >>> is_free(folder, 0.0)
        False
        >>> os.close(held)
        >>> is_free(folder, 0.0)
        True
    """
    ends = time.monotonic() + patience
    while _is_held(folder):
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


def _is_held(folder: Path) -> bool:
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a drive without locks
    finally:
        os.close(descriptor)
    return False


def _is_there(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
