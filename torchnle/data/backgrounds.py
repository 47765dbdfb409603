"""Backgrounds for composed scenes, each with the phrase that captions use for it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from torchnle import images as image_files
from torchnle.data.palette import COLOURS, Colour
from torchnle.errors import optional_package
from torchnle.language.english.phrases import with_article

_log = logging.getLogger(__name__)

#: scikit-image's textures are gray: the words for each, its file's name, its darkest and lightest colour.
_TEXTURES = (
    ("on grass", "grass", (15, 45, 10), (170, 215, 110)),
    ("on dry grass", "grass", (70, 50, 20), (235, 215, 150)),
    ("on gravel", "gravel", (35, 33, 30), (225, 220, 212)),
    ("in front of a brick wall", "brick", (70, 25, 18), (235, 150, 115)),
    ("in front of a gray brick wall", "brick", (45, 45, 48), (225, 225, 228)),
)
#: The files that `load_photo_backgrounds` opens.
_PAIRS = ("blue white", "yellow orange", "green yellow", "pink purple", "black gray", "brown orange")


@dataclass(frozen=True)
class Background(ABC):
    """The base class of the backgrounds of composed scenes.

    Args:
        location: The phrase for it at the end of a caption ("on grass"), or "" for none.
    """

    location: str

    @property
    @abstractmethod
    def colours(self) -> tuple[Colour, ...]:
        """The main colours; scenes avoid objects of the same colours on it."""

    @abstractmethod
    def draw(self, draws: np.random.Generator, size: int) -> Image.Image:
        """Draw the background as an RGB image, `size` x `size` pixels, with random variation.

        Args:
            draws: The source of randomness.
            size: Width and height in pixels.
        """


@dataclass(frozen=True)
class Gradient(Background):
    """A gradient between two colours in a random direction; two equal colours give a plain background.

    Example:
        >>> plain = Gradient("on a white background", (248, 248, 248), (248, 248, 248))
        >>> plain.draw(np.random.default_rng(0), 4).size
        (4, 4)
    """

    start: Colour
    stop: Colour

    @property
    def colours(self) -> tuple[Colour, ...]:
        """The two end colours."""
        return (self.start, self.stop)

    def draw(self, draws: np.random.Generator, size: int) -> Image.Image:
        """Draw the gradient in a random direction; its colours vary by up to 12 of 255."""
        change = draws.integers(-12, 13, 3)
        ends = np.clip(np.array([self.start, self.stop]) + change, 0, 255).astype(np.float32)
        turn = draws.uniform(0, 2 * np.pi)
        ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
        way = np.clip(0.5 + cos(turn) * ramp[None, :] + sin(turn) * ramp[:, None], 0, 1)[..., None]
        return Image.fromarray((ends[0] + way * (ends[1] - ends[0])).astype(np.uint8))


@dataclass(frozen=True)
class Picture(Background):
    """A square crop of a larger picture, with random corner, size, brightness and mirroring.

    Example:
        >>> photo = Picture("in front of a house", Image.new("RGB", (32, 16), "gray"))
        >>> photo.draw(np.random.default_rng(0), 8).size
        (8, 8)
    """

    image: Image.Image

    @property
    def colours(self) -> tuple[Colour, ...]:
        """The mean colour."""
        red, green, blue = np.asarray(self.image.convert("RGB")).reshape(-1, 3).mean(0).astype(int).tolist()
        return ((red, green, blue),)

    def draw(self, draws: np.random.Generator, size: int) -> Image.Image:
        """Draw a crop of half to all of the shorter side, with brightness 75 to 115 %."""
        width, height = self.image.size
        side = draws.uniform(0.5, 1) * min(width, height)
        left, top = draws.uniform(0, width - side), draws.uniform(0, height - side)
        box = (left, top, left + side, top + side)
        square = self.image.convert("RGB").resize(
            (size, size), Image.Resampling.BILINEAR, box, reducing_gap=2.0
        )
        if draws.random() < 0.5:
            square = ImageOps.mirror(square)
        brightness = draws.uniform(0.75, 1.15)
        return square.point([min(255, int(level * brightness)) for level in range(256)] * 3)


def plain_backgrounds() -> tuple[Gradient, ...]:
    """Make a single-coloured background for each colour of the palette: "on a blue background".

    Example:
        >>> plain_backgrounds()[1].location
        'on an orange background'
    """
    return tuple(Gradient(f"on {with_article(name)} background", rgb, rgb) for name, rgb in COLOURS.items())


def gradient_backgrounds() -> tuple[Gradient, ...]:
    """Make two-coloured backgrounds: "on a blue and white background"."""
    pairs = [pair.split() for pair in _PAIRS]
    return tuple(
        Gradient(f"on {with_article(start)} and {stop} background", COLOURS[start], COLOURS[stop])
        for start, stop in pairs
    )


def texture_backgrounds() -> tuple[Picture, ...]:
    """Load grass, gravel and bricks, from the photographs that scikit-image ships, and colour them.

    Raises:
        MissingDependencyError: If scikit-image is not installed.

    Example:
        >>> texture_backgrounds()[0].location
        'on grass'
    """
    with optional_package("scikit-image", extra="data", purpose="for its textures"):
        from skimage import data
    grays = {name: Image.fromarray(getattr(data, name)()) for _, name, _, _ in _TEXTURES}
    return tuple(
        Picture(location, ImageOps.colorize(ImageOps.autocontrast(grays[name], cutoff=1), dark, light))
        for location, name, dark, light in _TEXTURES
    )


def photo_backgrounds(images: Sequence[Image.Image], location: str = "") -> tuple[Picture, ...]:
    """Make backgrounds from the caller's photographs.

    Args:
        images: Any mode and size; turned to RGB.
        location: The phrase for all of them in captions, or "" for none.

    Example:
        >>> photo_backgrounds([Image.new("L", (9, 9))], "on the moon")[0].location
        'on the moon'
    """
    return tuple(Picture(location, image.convert("RGB")) for image in images)


def load_photo_backgrounds(
    folder: str | Path, location: str = "", *, largest: int = 640
) -> tuple[Picture, ...]:
    """Load every photograph of a folder and its subfolders as a background; unreadable files are skipped.

    Args:
        folder: The folder of photographs.
        location: The phrase for all of them in captions, or "" for none.
        largest: Photographs are reduced to this length of the shorter side, in pixels.

    Raises:
        ValueError: If there is no readable photograph.
    """
    pictures = []
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() in image_files.SUFFIXES:
            try:
                photo = image_files.open_image(path)
            except ValueError as error:
                _log.warning("%s", error)
                continue
            share = min(1.0, largest / min(photo.size))
            pictures.append(photo.resize((round(photo.width * share), round(photo.height * share))))
    if not pictures:
        raise ValueError(
            f"{folder} holds no readable photograph ({', '.join(sorted(image_files.SUFFIXES))})."
        )
    return photo_backgrounds(pictures, location)
