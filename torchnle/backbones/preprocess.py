"""Preprocessing: an RGB image of any size into a model's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

Fit = Literal["crop", "squeeze"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


@dataclass(frozen=True)
class Preprocess:
    """Turns an RGB image of any size into a model's input.

    Args:
        size: The side of the model's square input, in pixels.
        mean: Subtracted from each channel, on the scale 0 to 255: one number, or one a channel.
        std: Divides each channel, on the scale 0 to 255.
        fit: "crop": a centred square, so that nothing is distorted; "squeeze": the whole image, whatever its
            shape.
        share: The side of that square over the image's shorter side: 1 = no margin is cut off, 0.875 = the
            usual evaluation crop.
        interpolation: How the image is resized.

    Raises:
        ValueError: If `fit` is neither.

    Example:
        >>> preprocess = Preprocess(size=2, mean=127.0, std=128.0)
        >>> photo = Image.new("RGB", (6, 4), (255, 127, 127))
        >>> preprocess(photo)[:, 0, 0].tolist(), preprocess.view(photo).size
        ([1.0, 0.0, 0.0], (4, 4))
    """

    size: int
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    fit: Fit = "crop"
    share: float = 1.0
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if self.fit not in ("crop", "squeeze"):
            raise ValueError(f"fit={self.fit!r}; pass 'crop' or 'squeeze'.")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share}; pass a number above 0 and up to 1.")

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 H W"]:
        """Crop, resize and normalise, to float32."""
        method = Image.Resampling[self.interpolation.upper()]
        resized = self.view(image).convert("RGB").resize((self.size, self.size), method)
        values = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8)
        pixels = values.view(self.size, self.size, 3).permute(2, 0, 1).float()
        return (pixels - _by_channel(self.mean)) / _by_channel(self.std)

    def view(self, image: Image.Image) -> Image.Image:
        """Return the part of the image that the model sees, at the image's own resolution."""
        if self.fit == "squeeze":
            return image.copy()
        side = max(1, round(self.share * min(image.size)))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.crop((left, top, left + side, top + side))


def _by_channel(values: float | tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
