"""Photographs from files: any kind of picture becomes upright RGB, anything else a clear error."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_SIXTEEN_BITS = 65535
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image file as an upright RGB image.

    The EXIF rotation is applied; grey, palette, CMYK and 16-bit pictures are converted; transparent pixels
    are laid over white. Of an animation, the first frame is taken.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is missing, is not an image, is truncated, or has more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS``; the message names the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("LA", (4, 2), (0, 0)).save(Path(folder, "clear.png"))
        ...     image = open_image(Path(folder, "clear.png"))
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (4, 2), (255, 255, 255))
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{file} is not a file. Pass the path of a photograph.")
    return read_image(file, str(file))


def read_image(file: Path | IO[bytes], name: str) -> Image.Image:
    """As `open_image`, from a file or from bytes that are in memory.

    Args:
        file: The file, opened or not.
        name: What messages call it.

    Raises:
        ValueError: As `open_image`.
    """
    try:
        return _to_rgb(ImageOps.exif_transpose(_decode(file)))
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image that Pillow can read. Save it as PNG or JPEG.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} is too large: {error} Make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS "
            "if you trust it."
        ) from error
    except (OSError, SyntaxError, EOFError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as an image: {error}. It may be damaged.") from error


def _decode(file: Path | IO[bytes]) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file) as image:
            image.load()
            return image.copy()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("its floating-point pixels have no known white; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, which Pillow would clip at 255 rather than scale."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _SIXTEEN_BITS:
        raise ValueError(f"grey values from {values.min()} to {values.max()} are not 16-bit")
    return Image.fromarray((values / _SIXTEEN_BITS * 255).round().astype(np.uint8))
