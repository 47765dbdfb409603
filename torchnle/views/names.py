"""Names of output files: one for each of several inputs, whatever these are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

#: The most characters of a name; endings are added, and file systems take 255 bytes.
_LONGEST = 60


def output_names(paths: Sequence[Path]) -> list[str]:
    """Name the outputs of input files: by stem, with folders before it where stems are shared, else numbered.

    No two names are equal, in upper or lower case.

    Args:
        paths: The inputs, in order; one may be given twice.

    Example:
        >>> output_names([Path("a/photo.jpg"), Path("b/photo.jpg"), Path("b/photo.png"), Path("cat.jpg")])
        ['a_photo', 'b_photo_jpg', 'b_photo_png', 'cat']
        >>> output_names([Path("/a/cat.jpg"), Path("/a/cat.jpg")])
        ['a_cat_jpg_1', 'a_cat_jpg_2']
    """
    names = [path.stem for path in paths]
    for make in (_in_folder, _with_ending, _whole):
        shared = _shared(names)
        names = [
            make(path) if name.lower() in shared else name for path, name in zip(paths, names, strict=True)
        ]
    return _numbered([name[-_LONGEST:] for name in names])


def _in_folder(path: Path) -> str:
    return f"{path.absolute().parent.name}_{path.stem}"


def _with_ending(path: Path) -> str:
    return f"{_in_folder(path)}_{path.suffix[1:]}"


def _whole(path: Path) -> str:
    return "_".join((*path.absolute().parts[1:-1], path.stem, path.suffix[1:]))


def _shared(names: Sequence[str]) -> set[str]:
    return {name for name, count in Counter(name.lower() for name in names).items() if count > 1}


def _numbered(names: Sequence[str]) -> list[str]:
    """Number the names that are still shared, past any that are taken."""
    shared, taken = _shared(names), {name.lower() for name in names}
    found, numbers = [], Counter[str]()
    for name in names:
        while name.lower() in shared:
            numbers[name.lower()] += 1
            tried = f"{name}_{numbers[name.lower()]}"
            if tried.lower() not in taken:
                name = tried
                taken.add(tried.lower())
        found.append(name)
    return found
