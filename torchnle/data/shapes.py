"""Coloured shapes made in code: cut-outs for tests and examples that need no file."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from typing import TypeAlias

from PIL import Image, ImageDraw

from torchnle.data.cutouts import Cutout, Cutouts
from torchnle.data.palette import COLOURS
from torchnle.language.english.phrases import with_article

_Outline: TypeAlias = list[tuple[float, float]]
_SMOOTH = 4  # drawn this many times larger, then reduced, for soft edges


def _arc(
    radius: float, start: float, stop: float, *, x: float = 0.5, y: float = 0.5, points: int = 60
) -> _Outline:
    """Return points on a circle; angles in turns from the top, clockwise."""
    angles = [2 * pi * (start + (stop - start) * i / points) for i in range(points + 1)]
    return [(x + radius * sin(angle), y - radius * cos(angle)) for angle in angles]


def _polygon(corners: int) -> _Outline:
    return _arc(0.5, 0, 1, points=corners)[:-1]


def _star() -> _Outline:
    outer, inner = _arc(0.5, 0, 1, points=5), _arc(0.2, 0.1, 1.1, points=5)
    return [point for pair in zip(outer[:-1], inner[:-1], strict=True) for point in pair]


def _cross() -> _Outline:
    a, b = 0.33, 0.67
    return [(a, 0), (b, 0), (b, a), (1, a), (1, b), (b, b), (b, 1), (a, 1), (a, b), (0, b), (0, a), (a, a)]


def _heart() -> _Outline:
    angles = [2 * pi * i / 80 for i in range(80)]
    x = [16 * sin(t) ** 3 for t in angles]
    y = [13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t) for t in angles]
    return [(0.5 + a / 34, 0.45 - b / 34) for a, b in zip(x, y, strict=True)]


#: Outlines in the unit square, x to the right and y down.
SHAPES: dict[str, _Outline] = {
    "circle": _polygon(80),
    "square": [(0.05, 0.05), (0.95, 0.05), (0.95, 0.95), (0.05, 0.95)],
    "triangle": [(0.5, 0.05), (1, 0.92), (0, 0.92)],
    "diamond": [(0.5, 0), (0.85, 0.5), (0.5, 1), (0.15, 0.5)],
    "hexagon": _polygon(6),
    "star": _star(),
    "heart": _heart(),
    "cross": _cross(),
    "ring": _arc(0.5, 0, 1) + _arc(0.28, 1, 0),
    "crescent": _arc(0.5, 0.139, -0.639) + _arc(0.38, -0.59, 0.09, x=0.68),
    "arrow": [(0, 0.35), (0.55, 0.35), (0.55, 0.1), (1, 0.5), (0.55, 0.9), (0.55, 0.65), (0, 0.65)],
}


def shapes(
    *, names: Sequence[str] = tuple(SHAPES), colours: Sequence[str] = tuple(COLOURS), size: int = 128
) -> Cutouts:
    """Draw every shape in every colour, with soft edges.

    Args:
        names: Names from `SHAPES`.
        colours: Names from `COLOURS`.
        size: The side of each picture, in pixels.

    Raises:
        ValueError: If a shape or a colour is not known, or the size is not positive.

    Example:
        >>> [cutout.phrase for cutout in shapes(names=["star"], colours=["red", "orange"])]
        ['a red star', 'an orange star']
    """
    for given, known, kind in ((names, SHAPES, "shapes"), (colours, COLOURS, "colours")):
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"unknown {kind} {unknown}; there are {', '.join(known)}.")
    if size < 1:
        raise ValueError(f"size={size}; pass a number of pixels above 0.")
    return Cutouts(
        [
            Cutout(with_article(f"{colour} {name}"), _draw(SHAPES[name], colour, size), f"{colour} {name}")
            for name in names
            for colour in colours
        ]
    )


def _draw(outline: _Outline, colour: str, size: int) -> Image.Image:
    large = size * _SMOOTH
    mask = Image.new("L", (large, large))
    ImageDraw.Draw(mask).polygon([(x * (large - 1), y * (large - 1)) for x, y in outline], fill=255)
    image = Image.new("RGBA", (size, size), COLOURS[colour])
    image.putalpha(mask.reduce(_SMOOTH))
    return image.crop(image.getbbox(alpha_only=True))
