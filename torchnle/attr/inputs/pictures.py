"""Convert picture files and PIL images to the tensors that a backbone's model takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle import images
from torchnle.types import Inputs

#: One picture: an image, or the path of a file.
Picture: TypeAlias = Image.Image | str | os.PathLike[str]
#: The inputs of attributions that were made from a backbone: tensors, or one picture, or several.
Pictures: TypeAlias = Inputs | Picture | list[Picture]


def as_batch(given: Any, preprocess: Callable[[Image.Image], Tensor] | None) -> Float[Tensor, "N C H W"]:
    """Preprocess PIL images or picture files into one batch (N, C, H, W).

    Args:
        given: One picture or a list of pictures, each a PIL image or a path.
        preprocess: The backbone's preprocessing; None = pictures are refused.

    Raises:
        TypeError: If `given` is anything else, or there is no preprocessing.
        ValueError: If a file cannot be read as a picture, or the list is empty.

    Example:
        >>> picture = Image.new("RGB", (4, 2))
        >>> as_batch([picture, picture], lambda image: torch.ones(3, 2, 2)).shape
        torch.Size([2, 3, 2, 2])
    """
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    if not several:
        raise ValueError("there are no pictures; pass at least one.")
    pictures = [each for each in several if isinstance(each, (Image.Image, str, os.PathLike))]
    if len(pictures) < len(several):
        raise TypeError(_neither(given))
    if preprocess is None:
        raise TypeError(
            f"{_neither(given)} This attribution was made for a bare model, whose preprocessing it does not "
            "know: use LanguageAttribution.from_backbone(backbone) for pictures, or preprocess them yourself."
        )
    return torch.stack([preprocess(_opened(each)) for each in pictures])


def _opened(picture: Picture) -> Image.Image:
    return picture.convert("RGB") if isinstance(picture, Image.Image) else images.open_image(picture)


def _neither(given: Any) -> str:
    what = type(given).__name__
    if isinstance(given, (list, tuple)):
        what = f"{what} of {', '.join(sorted({type(each).__name__ for each in given}))}"
    return f"inputs are a {what}; pass a tensor (N, C, H, W), a tuple of tensors, or pictures."
