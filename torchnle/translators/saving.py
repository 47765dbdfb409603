"""Replace a folder as a whole: killed at any moment, a save leaves the old folder or the new one, never none.

The new folder is written into a hidden one beside its place, the scratch folder, and renamed. Between the two
renames that this takes nothing is in the place; whoever looks there next, to load or to save, finishes what
was begun. Saves into one parent folder wait for one another, so that a scratch folder that is found there was
left by a save that died.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

from safetensors import SafetensorError

_MARK = ".torchnle-saving-"
_NEW, _OLD, _TRASH = "new", "old", "trash"


def replace_folder(target: Path, check: Callable[[], None], fill: Callable[[Path], None]) -> None:
    """Write a folder, and put it in the place of the one that is there.

    Args:
        target: Where; its parents are created.
        check: Refuses to replace what is there, by raising.
        fill: Writes the files into an empty folder that it is given.

    Raises:
        OSError: If a folder cannot be written, with its name; what was there stays.
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
    """Finish a save that was killed between taking the old folder away and putting the new one there.

    Where the folder exists, or no save was begun, nothing is done.
    """
    place = target.expanduser().resolve()
    if not place.exists() and place.parent.is_dir() and _scratches(place.parent, place.name):
        with _locked(place.parent), naming(place):
            for scratch in _scratches(place.parent, place.name):
                _settle(place, scratch)


def sweep(parent: Path) -> None:
    """Finish or remove what killed saves into a folder left behind; nobody else may be saving into it."""
    for scratch in _scratches(parent):
        _settle(parent / scratch.name[1:].rpartition(_MARK)[0], scratch)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise failures to write with the name of what could not be written.

    Raises:
        OSError: Of the kind that was raised: PermissionError, ...
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        stated = re.search(r"os error (\d+)", str(error))
        number = int(stated[1]) if stated else getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error)
        said = f"could not be saved: {reason}. Free space there, or save into a folder that you may write to"
        raise (OSError(number, said, str(path)) if number else OSError(f"{path} {said}.")) from error


def _swap(target: Path, scratch: Path) -> None:
    if target.exists():
        target.rename(scratch / _OLD)
    (scratch / _NEW).rename(target)


def _settle(target: Path, scratch: Path) -> None:
    """Put the new folder in its place if the old one was taken away, else the old one back; and tidy up."""
    new, old = scratch / _NEW, scratch / _OLD
    if old.exists() and not target.exists():
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
    if old.exists():
        old.rename(scratch / _TRASH)  # half-removed, it must not be taken for what was there
    shutil.rmtree(scratch, ignore_errors=True)


def _scratches(parent: Path, name: str | None = None) -> list[Path]:
    """The scratch folders beside a folder of this name, or beside any."""
    stem = ".+" if name is None else re.escape(name)
    pattern = re.compile(rf"\.{stem}{re.escape(_MARK)}\w+")
    try:
        return [path for path in parent.iterdir() if pattern.fullmatch(path.name) and path.is_dir()]
    except PermissionError:
        return []


@contextlib.contextmanager
def _locked(parent: Path) -> Iterator[bool]:
    """Lock a folder for this process, or say that it cannot be (Windows, some network drives)."""
    try:
        import fcntl

        descriptor = os.open(parent, os.O_RDONLY)
    except (ImportError, PermissionError):
        yield False
        return
    try:
        yield _flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)  # which unlocks it, as death does


def _flock(descriptor: int, how: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True
