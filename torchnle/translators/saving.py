"""Replace a folder atomically: a killed save leaves the old folder or the new one, never a part.

The new folder is written into a hidden scratch folder in the same parent, and renamed. Between the two
renames the target is absent; the next load or save there completes the operation. Saves into one parent
folder wait for one another, so that any scratch folder found there was left by a killed save.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

from torchnle.hub.naming import naming

_MARK = ".torchnle-saving-"
_NEW, _OLD, _TRASH = "new", "old", "trash"


def replace_folder(target: Path, check: Callable[[], None], fill: Callable[[Path], None]) -> None:
    """Write a folder, and replace the existing one by it.

    Args:
        target: The folder; its parents are created.
        check: Raises if the existing folder must not be replaced.
        fill: Writes the files into an empty folder that it is given.

    Raises:
        OSError: If a folder cannot be written, with its name; the old folder stays.
    """
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent) as alone:
        if alone:
            sweep(target.parent)
        check()
        with naming(target):
            scratch = Path(mkdtemp(dir=target.parent, prefix=f".{target.name}{_MARK}"))
        try:
            (scratch / _NEW).mkdir()
            fill(scratch / _NEW)
            with naming(target):
                _swap(target, scratch)
        finally:
            _settle(target, scratch)


def recover(target: Path) -> None:
    """Complete a save that was killed between removing the old folder and renaming the new one.

    Nothing is done if the folder exists or no save was started.
    """
    path = target.expanduser().resolve()
    if not path.exists() and path.parent.is_dir() and _scratches(path.parent, path.name):
        with _locked(path.parent), naming(path):
            for scratch in _scratches(path.parent, path.name):
                _settle(path, scratch)


def sweep(parent: Path) -> None:
    """Complete or remove the remains of killed saves into a folder; nobody else may be saving into it."""
    for scratch in _scratches(parent):
        _settle(parent / scratch.name[1:].rpartition(_MARK)[0], scratch)


def _swap(target: Path, scratch: Path) -> None:
    if target.exists():
        target.rename(scratch / _OLD)
    (scratch / _NEW).rename(target)


def _settle(target: Path, scratch: Path) -> None:
    """Rename the new folder if the old one was removed, else restore the old one; and clean up."""
    new, old = scratch / _NEW, scratch / _OLD
    if old.exists() and not target.exists():
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
    if old.exists():
        old.rename(scratch / _TRASH)  # a half-removed folder must not be taken for the old one
    shutil.rmtree(scratch, ignore_errors=True)


def _scratches(parent: Path, name: str | None = None) -> list[Path]:
    """Return the scratch folders of a folder of this name, or of any."""
    stem = ".+" if name is None else re.escape(name)
    pattern = re.compile(rf"\.{stem}{re.escape(_MARK)}\w+")
    try:
        return [path for path in parent.iterdir() if pattern.fullmatch(path.name) and path.is_dir()]
    except PermissionError:
        return []


@contextlib.contextmanager
def _locked(parent: Path) -> Iterator[bool]:
    """Lock a folder for this process; False if it cannot be locked (Windows, some network drives)."""
    try:
        import fcntl

        descriptor = os.open(parent, os.O_RDONLY)
    except (ImportError, PermissionError):
        yield False
        return
    try:
        yield _flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)  # closing unlocks it, as does the end of the process


def _flock(descriptor: int, how: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True
