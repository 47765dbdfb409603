"""Open pictures: any raster picture becomes upright RGB, anything else a clear error.

Only formats that Pillow decodes itself are read. Formats that start a program (PostScript) are refused,
whatever the file's name.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

#: The formats that are read, if Pillow has them.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
#: The errors of decoders on a damaged file.
FAILURES = (
    OSError, SyntaxError, EOFError, ValueError, RuntimeError, LookupError, TypeError, AttributeError,
    ArithmeticError, AssertionError, MemoryError, Warning, struct.error, zlib.error,
)  # fmt: skip
#: The endings of image files in a folder.
SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_SIXTEEN_BITS = 65535
_ORIENTATION = 0x0112  # the EXIF tag; 1 to 8
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image file as an upright RGB image.

    The EXIF rotation is applied; grey, palette, CMYK and 16-bit pictures are converted; transparent pixels
    are laid over white. Of an animation, the first frame is taken.

    Args:
        path: The file, in one of `FORMATS`.

    Raises:
        ValueError: If the file is missing, is not an image of these formats, is truncated or damaged, or has
            more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``; the message names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("LA", (4, 2), (0, 0)).save(Path(folder, "clear.png"))
        ...     image = open_image(Path(folder, "clear.png"))
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (4, 2), (255, 255, 255))
    """
    return _on_white(_read(_existing(path), str(path)))


def list_folder(folder: str | os.PathLike[str]) -> list[Path]:
    """List the picture files that lie in a folder, by name; other files are passed over.

    Raises:
        ValueError: If it is not a folder, or holds no file with the ending of a picture.

    Example:
        >>> list_folder("/nowhere")
        Traceback (most recent call last):
        ...
        ValueError: /nowhere is not a folder. Pass one that holds pictures.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder. Pass one that holds pictures.")
    files = sorted(file for file in root.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        below = next((file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES), None)
        pattern = "" if below is None else root / "**" / f"*{below.suffix}"
        hint = f" Pass a pattern for those in its folders: '{pattern}'." if pattern else ""
        raise ValueError(f"{root} holds no pictures with the endings {', '.join(sorted(SUFFIXES))}.{hint}")
    return files


def open_folder(folder: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Yield the pictures of a folder, by name; other files are skipped.

    Raises:
        ValueError: If there is no picture that can be opened; or as `open_image`, for a damaged one.

    Example:
        >>> next(open_folder("/nowhere"))
        Traceback (most recent call last):
        ...
        ValueError: /nowhere is not a folder. Pass one that holds pictures.
    """
    for file in list_folder(folder):
        yield open_image(file)


def open_transparent(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image as `open_image` does, as RGBA with its transparency.

    Raises:
        ValueError: As `open_image`.
    """
    return _read(_existing(path), str(path)).convert("RGBA")


def read_image(file: Path | IO[bytes], name: str) -> Image.Image:
    """Read an image as `open_image` does, from a file or from bytes in memory.

    Args:
        file: The file, opened or not.
        name: Its name in messages.

    Raises:
        ValueError: As `open_image`.
    """
    return _on_white(_read(file, name))


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert an image that Pillow has opened, as `open_image` does.

    Args:
        image: Any mode.
        name: Its name in messages.

    Raises:
        ValueError: As `open_image`.
    """
    waiting = isinstance(image, ImageFile.StubImageFile) or bool(getattr(image, "tile", ()))
    if waiting and image.format not in (*FORMATS, "MPO"):  # JPEG's opener returns this kind for some pictures
        raise ValueError(f"{name} is a picture of the format {image.format}. {_advice()}")
    with _failures_of(name):
        plain = _on_white(_plain(image))
        return plain.copy() if plain is image else plain


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    try:
        there, is_folder = file.is_file(), file.is_dir()  # refuses folders, pipes and devices
    except (OSError, ValueError):
        there = is_folder = False
    if is_folder:
        raise ValueError(
            f"{file} is not a file but a folder. Pass the path of a photograph, or a list of them; "
            "`describe_dataset` and the command line take folders."
        )
    if not there:
        raise ValueError(f"{file} is not a file. Pass the path of a photograph.")
    return file


def _read(file: Path | IO[bytes], name: str) -> Image.Image:
    with _failures_of(name), Image.open(file, formats=_known_formats()) as image:
        plain = _plain(image)
        return plain.copy() if plain.readonly else plain  # else its pixels would change with the mapped file


@contextmanager
def _failures_of(name: str) -> Iterator[None]:
    """Turn any error of a decoder into a ValueError that names the picture."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image that Pillow can read. {_advice()}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} is too large: {error} Make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS "
            "if you trust it."
        ) from error
    except FAILURES as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{name} cannot be read as an image: {reason}. It may be damaged.") from error


@cache
def _known_formats() -> tuple[str, ...]:
    """Return the formats that this Pillow can open."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in memory, upright, with 8 bits a channel; the image itself where it is so already."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:  # Pillow only warns up to twice its limit
        raise Image.DecompressionBombError(f"it has {image.width} x {image.height} pixels, more than {most}.")
    image.load()
    if image.mode == "F":
        raise ValueError("its floating-point pixels have no known white; save it with 8 or 16 bits")
    plain = _eight_bits(image) if image.mode.startswith("I") else image
    turn = _turn(image)
    return plain if turn is None else plain.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes a decoded image upright; none for damaged EXIF and for TIFF."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except FAILURES:
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # of RGB, convert would copy all pixels


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey of 16 bits to 8 bits; Pillow would clip it at 255."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _SIXTEEN_BITS:
        raise ValueError(f"grey values from {values.min()} to {values.max()} are not 16-bit")
    grey = Image.fromarray((values / _SIXTEEN_BITS * 255).round().astype(np.uint8))
    clear = image.info.get("transparency")  # the single transparent value
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _advice() -> str:
    return f"Save it as PNG or JPEG; read are {', '.join(_known_formats())}."
