"""Named colours, shared by shapes and backgrounds."""

from __future__ import annotations

from typing import TypeAlias

#: Red, green and blue, 0 to 255.
Colour: TypeAlias = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 39, 40),
    "orange": (255, 140, 0),
    "yellow": (250, 218, 40),
    "green": (44, 150, 60),
    "blue": (35, 80, 200),
    "purple": (128, 50, 160),
    "pink": (250, 145, 190),
    "brown": (125, 75, 35),
    "black": (20, 20, 20),
    "gray": (128, 128, 128),
    "white": (248, 248, 248),
}
