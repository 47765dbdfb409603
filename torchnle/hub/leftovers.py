"""Files and folders while they are written, and removal of what a killed process left of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from torchnle.hub import filelock
from torchnle.hub.naming import naming

#: Begins the names of what is being written; an hour after the last change nobody writes any more.
PREFIX = ".unfinished-"
_SECONDS = 3600.0
#: A child of a dead process ends within a moment; so long the sweep waits for it.
_PATIENCE = 10.0
_NAME = re.compile(rf"{re.escape(PREFIX)}(?P<owner>\d+)-(?P<began>\d+)-(?P<machine>[0-9a-f]+)-.*", re.DOTALL)


def mine() -> str:
    """Return the first part of the names of unfinished files of this process: its start and its machine."""
    return f"{PREFIX}{os.getpid()}-{_began(os.getpid())}-{_machine()}-"


@contextlib.contextmanager
def unfinished_folder(parent: Path) -> Iterator[tuple[Path, int | None]]:
    """Create a scratch folder that is removed at the end, or by the next `sweep` if this process is killed.

    Yields:
        The folder, and the descriptor that locks it. A child process that inherits the descriptor keeps the
        folder from being swept while it lives; None where folders cannot be locked.
    """
    with tempfile.TemporaryDirectory(dir=parent, prefix=mine()) as name:
        descriptor = filelock.try_lock(Path(name))
        try:
            yield Path(name), descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a scratch path that atomically replaces a file at the end, and is removed after an error.

    Leftovers of killed processes beside the file are removed too.

    Raises:
        OSError: If it cannot be written, with the name of the file.

    Example:
        >>> file = Path(tempfile.mkdtemp()) / "new" / "a.txt"
        >>> with replacing(file) as scratch:
        ...     _ = scratch.write_text("whole")
        >>> file.read_text(), len(list(file.parent.iterdir()))
        ('whole', 1)
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _sweep(file.parent, _NAME, _SECONDS)
    scratch = file.with_name(f"{mine()}{uuid.uuid4().hex[:8]}{file.suffix}")
    try:
        with naming(file):
            yield scratch
            os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)


def sweep(folder: Path, *, older_than: float = _SECONDS) -> list[Path]:
    """Remove unfinished files and folders whose processes have ended.

    Args:
        folder: The cache that holds them, where nobody but torchnle has files of such names.
        older_than: The least number of seconds since the last change of anything in those whose process is
            unknown.

    Returns:
        The removed paths.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".unfinished-1").mkdir()
        >>> [path.name for path in sweep(folder, older_than=-1)]
        ['.unfinished-1']
    """
    return _sweep(folder, re.compile(f"{re.escape(PREFIX)}.*", re.DOTALL), older_than)


def _sweep(folder: Path, names: re.Pattern[str], older_than: float) -> list[Path]:
    removed = []
    for path in folder.glob(f"{PREFIX}*"):
        if names.fullmatch(path.name) and _is_dead(path, older_than):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _is_dead(path: Path, older_than: float) -> bool:
    """Return whether nobody writes any more: the owner is gone, and no child of it holds the folder."""
    stated = _NAME.fullmatch(path.name)
    if stated and stated["machine"] == _machine() and Path("/proc/self").exists():
        return _began(int(stated["owner"])) != int(stated["began"]) and filelock.is_free(path, _PATIENCE)
    try:
        times = [each.stat().st_mtime for each in (path, *path.rglob("*"))]
    except OSError:
        return False  # someone is at work there
    return time.time() - max(times) > older_than and filelock.is_free(path, 0.0)


def _began(process: int) -> int:
    """Read when a process began, in ticks since the machine's start; 0 = there is none, or no /proc."""
    try:
        stated = Path("/proc", str(process), "stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = stated.rpartition(")")[2].split()
        return 0 if state in "ZX" else int(fields[18])  # a killed process that nobody has waited for
    except (OSError, ValueError, IndexError):
        return 0


@cache
def _machine() -> str:
    """Name the machine, its last start and its numbering of processes; elsewhere a number is another one."""
    facts = [f"{uuid.getnode():x}"]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        facts.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(facts).encode()):08x}"
