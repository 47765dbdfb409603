"""Remove unfinished files that killed processes left in a cache."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path

#: Begins the names of what is being written; an hour after the last change nobody writes any more.
PREFIX = ".unfinished-"
_SECONDS = 3600.0


def mine() -> str:
    """Return the first part of the names of unfinished files of this process on this machine."""
    return f"{PREFIX}{os.getpid()}-{_machine()}-"


def sweep(folder: Path, *, older_than: float = _SECONDS) -> list[Path]:
    """Remove unfinished files and folders whose processes have ended.

    Args:
        folder: The folder that holds them.
        older_than: The least number of seconds since the last change of anything in them.

    Returns:
        The removed paths.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".unfinished-1").mkdir()
        >>> [path.name for path in sweep(folder, older_than=-1)]
        ['.unfinished-1']
    """
    removed = []
    for path in folder.glob(f"{PREFIX}*"):
        if _is_dead(path, older_than):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _is_dead(path: Path, older_than: float) -> bool:
    owner, _, rest = path.name.removeprefix(PREFIX).partition("-")
    if owner.isdigit() and rest.startswith(f"{_machine()}-") and Path("/proc/self").exists():
        return not Path("/proc", owner).exists()
    try:
        times = [each.stat().st_mtime for each in (path, *path.rglob("*"))]
    except OSError:
        return False  # someone is at work there
    return time.time() - max(times) > older_than


def _machine() -> str:
    """A name for this machine: on another one a process of the same number may be at work."""
    return f"{uuid.getnode():x}"
