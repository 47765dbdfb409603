"""The content of photographs, recorded before any measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from torchnle.images import SUFFIXES, open_image

#: The grid of `place` and of the keys of `elsewhere`.
_SIDE = 7


@dataclass(frozen=True)
class Photograph:
    """A photograph with its recorded content.

    Points and boxes are fractions of its width and height.

    Args:
        name: The name of its file without the ending.
        file: The picture.
        query: A text that describes the main object.
        exact: Nouns that name the main object.
        general: More general nouns.
        point: (x, y) on the main object.
        box: (x0, y0, x1, y1) of the main object.
        pointing: Whether the box is small enough for the pointing game.
        elsewhere: Other points, with the nouns that are right there.
    """

    name: str
    file: Path
    query: str
    exact: tuple[str, ...]
    general: tuple[str, ...]
    point: tuple[float, float]
    box: tuple[float, float, float, float]
    pointing: bool
    elsewhere: tuple[tuple[tuple[float, float], tuple[str, ...]], ...] = ()

    def open(self) -> Image.Image:
        """Open the picture."""
        return open_image(self.file)


def read_photographs(folder: Path, truth: Path) -> list[Photograph]:
    """Load the photographs of a folder with their recorded content.

    Args:
        folder: Holds pictures called NAME with any ending of `torchnle.images.SUFFIXES`.
        truth: JSON: by name `query`, `exact`, `general`, `box`, `pointing`, `elsewhere`, and `place` (row
            and column on a 7x7 grid) or `point` (x and y, as parts of the picture). The keys of `elsewhere`
            are rows and columns, "0,6", or points, "0.9,0.1".

    Raises:
        FileNotFoundError: If none of the photographs is there.
        ValueError: If an entry of a photograph is missing.
    """
    facts: dict[str, Any] = json.loads(truth.read_text(encoding="utf-8"))
    pictures = picture_files(folder)
    files = {file.stem: file for file in pictures}
    twice = sorted({file.name for file in pictures if files[file.stem] != file and file.stem in facts})
    if twice:
        raise ValueError(
            f"{folder} has two photographs of one name: {', '.join(twice[:5])} beside others. The truth says "
            "names without endings; leave one of each."
        )
    found = [_photograph(name, files[name], fact) for name, fact in facts.items() if name in files]
    if not found:
        raise FileNotFoundError(f"{folder} holds none of the {len(facts)} photographs of {truth}.")
    return found


def picture_files(folder: Path) -> list[Path]:
    """List the pictures of a folder (`torchnle.images.SUFFIXES`), in order of their names."""
    return [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]


def location(point: tuple[float, float], grid: tuple[int, int]) -> tuple[int, int]:
    """Find the (row, column) of a grid over the whole picture that holds a point (x, y).

    Example:
        >>> location((0.95, 0.1), (7, 7)), location((1.0, 1.0), (14, 14))
        ((0, 6), (13, 13))
    """
    x, y = point
    rows, columns = grid
    return min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)


def _photograph(name: str, file: Path, fact: Mapping[str, Any]) -> Photograph:
    missing = [key for key in ("query", "exact", "box") if key not in fact]
    if not {"place", "point"} & fact.keys():
        missing.append("place or point")
    if missing:
        raise ValueError(f"the truth of '{name}' lacks {', '.join(missing)}.")
    x0, y0, x1, y1 = map(float, fact["box"])
    return Photograph(
        name,
        file,
        fact["query"],
        tuple(fact["exact"]),
        tuple(fact.get("general", ())),
        _point(fact["point"], parts=True) if "point" in fact else _point(fact["place"], parts=False),
        (x0, y0, x1, y1),
        bool(fact.get("pointing", True)),
        tuple(
            (_point(key.split(","), parts="." in key), tuple(words))
            for key, words in fact.get("elsewhere", {}).items()
        ),
    )


def _point(numbers: Any, *, parts: bool) -> tuple[float, float]:
    """Return (x, y) from x and y, or the middle of a row and column."""
    first, second = map(float, numbers)
    return (first, second) if parts else ((second + 0.5) / _SIDE, (first + 0.5) / _SIDE)
