"""Rendered surfaces: blobs of one colour under uneven light, on a ground of another colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter

from torchnle.data.palette import COLOURS
from torchnle.data.tinting import shaded

#: The coarsest to the finest patches of light, as cells along a side.
_PATCHES = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Surface:
    """A picture of a surface.

    Args:
        image: RGB.
        colour: A name of the palette.
        mask: White where the surface is, RGB.
    """

    image: Image.Image
    colour: str
    mask: Image.Image


def rendered_surfaces(each: int = 24, *, size: int = 224, seed: int = 0) -> list[Surface]:
    """Render surfaces of every colour of the palette, of random outlines, light, grounds and shades.

    Args:
        each: How many of each colour.
        size: The side of a picture, in pixels.
        seed: Decides everything that is random.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> found = rendered_surfaces(1, size=32)
        >>> len(found), found[0].colour, found[0].image.size
        (11, 'red', (32, 32))
    """
    if each < 1 or size < 1:
        raise ValueError(f"each={each} and size={size}; pass positive numbers.")
    draw = np.random.default_rng(seed)
    return [_surface(name, size, draw) for name in COLOURS for _ in range(each)]


def _surface(name: str, size: int, draw: np.random.Generator) -> Surface:
    shade = np.clip(np.array(COLOURS[name]) + draw.normal(size=3) * 12, 0, 255)
    gray = draw.uniform(60, 230)
    ground = np.clip(gray + draw.normal(size=3) * 25, 0, 255)
    mask = _blob(size, draw)
    inside = np.asarray(mask, float)[..., None] / 255
    front = shaded(shade, 1 + draw.uniform(0.1, 0.35) * _light(size, draw))
    behind = shaded(ground, 1 + draw.uniform(0.05, 0.3) * _light(size, draw))
    pixels = (front * inside + behind * (1 - inside)).round().clip(0, 255).astype(np.uint8)
    return Surface(Image.fromarray(pixels), name, mask.convert("RGB"))


def _light(size: int, draw: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """Draw patches of light of several sizes, with mean 0 and standard deviation 1."""
    found = np.zeros((size, size))
    for cells in _PATCHES:
        patches = Image.fromarray(draw.normal(size=(cells, cells)).astype(np.float32))
        found += np.asarray(patches.resize((size, size), Image.Resampling.BICUBIC)) / np.sqrt(cells)
    found -= found.mean()
    found /= found.std() or 1.0  # one pixel has no spread
    return found


def _blob(size: int, draw: np.random.Generator) -> Image.Image:
    """Draw a random polygon about the middle, with a sharp or a soft edge."""
    turns = np.sort(draw.uniform(0, 2 * np.pi, int(draw.integers(5, 12))))
    radii = draw.uniform(0.45, 1, len(turns)) * size * 0.38
    x, y = size / 2 + draw.normal(size=2) * size / 15
    corners = list(zip(x + radii * np.cos(turns), y + radii * np.sin(turns), strict=True))
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(size * (0.01 if draw.random() < 0.5 else 0.035)))
