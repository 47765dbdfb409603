"""Tinting: cut-outs in another colour, and the colours of pixels in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from torchnle.data.palette import COLOURS

#: The weights of red, green and blue in how bright a pixel looks (ITU-R BT.601).
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])


def tinted(image: Image.Image, colour: str) -> Image.Image:
    """Give a cut-out one colour with its own light and shade.

    Args:
        image: RGBA, or RGB.
        colour: One of the palette's names.

    Raises:
        ValueError: If the palette has no such colour.

    Example:
        >>> tinted(Image.new("RGBA", (1, 1), (128, 128, 128, 255)), "red").getpixel((0, 0))
        (214, 39, 40, 255)
    """
    if colour not in COLOURS:
        raise ValueError(f"colour={colour!r}; pass one of {sorted(COLOURS)}.")
    pixels = np.asarray(image.convert("RGBA")).astype(float)
    light = pixels[..., :3] @ _BRIGHTNESS
    visible = pixels[..., 3] > 0
    middle = light[visible].mean() if visible.any() else 128.0
    pixels[..., :3] = shaded(np.array(COLOURS[colour], float), light / max(middle, 1.0))
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def shaded(colour: Float[np.ndarray, "3"], light: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Give every pixel one colour under its own light.

    Args:
        colour: Red, green and blue, 0 to 255.
        light: 1 where the colour is seen as it is; limited to 0.35 to 1.6.
    """
    relative = np.clip(light, 0.35, 1.6)[..., None]
    found: Float[np.ndarray, "h w 3"]
    found = np.where(relative < 1, colour * relative, 255 - (255 - colour) / np.maximum(relative, 1))
    return found


def colour_in(text: str) -> str | None:
    """Find the first colour of the palette that a text names.

    Example:
        >>> colour_in("a red car"), colour_in("a car")
        ('red', None)
    """
    return next((word for word in text.lower().split() if word in COLOURS), None)


def colour_shares(pixels: UInt8[np.ndarray, "n 3"], names: Sequence[str] | None = None) -> dict[str, float]:
    """Compute the share of pixels nearest to each colour of the palette, in hue, then in brightness.

    Args:
        pixels: RGB.
        names: The colours that are told apart; None = the whole palette.

    Example:
        >>> shares = colour_shares(np.array([[250, 10, 10], [200, 0, 0]], np.uint8))
        >>> shares["red"]
        1.0
    """
    chosen = list(COLOURS) if names is None else list(names)
    anchors = _chromatic(np.array([COLOURS[name] for name in chosen], float))
    distance = np.linalg.norm(_chromatic(pixels.astype(float))[:, None] - anchors, axis=2)
    counts = np.bincount(distance.argmin(axis=1), minlength=len(chosen))
    return {name: float(count) / max(1, len(pixels)) for name, count in zip(chosen, counts, strict=True)}


def _chromatic(pixels: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return coordinates in which hue counts more than shade: two of colour difference, one of brightness."""
    light = pixels @ _BRIGHTNESS
    scale = np.maximum(pixels.max(axis=1), 60.0)
    return np.stack([(pixels[:, 0] - light) / scale, (pixels[:, 2] - light) / scale, light / 255 / 2], axis=1)
