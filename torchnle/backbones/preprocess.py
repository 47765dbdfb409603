"""Preprocessing: an RGB image of any size into a model's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
        mean: Subtracted from each channel, on the scale 0 to 255: one number, or one per channel.
        std: Divides each channel, on the scale 0 to 255.
        fit: "crop": a centred square, so that nothing is distorted; "squeeze": the whole image, whatever its
            shape.
        share: The side of that square over the image's shorter side: 1 = no margin is cut off, 0.875 = the
            usual evaluation crop.
        interpolation: How the image is resized.

    Raises:
        ValueError: If `fit` is neither "crop" nor "squeeze".

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
        seen = self.view(image)
        rgb = seen if seen.mode == "RGB" else seen.convert("RGB")  # of RGB, convert would copy all pixels
        resized = rgb.resize((self.size, self.size), method)
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


@dataclass(frozen=True)
class Transform(Preprocess):
    """A user-defined preprocessing: any function from an RGB image to a tensor (3, H, W).

    `view` shows the function's output, rescaled to the range of pixels, since the part of the image that an
    unknown function crops cannot be inferred.

    Args:
        transform: The function.
    """

    transform: Callable[[Image.Image], Tensor] = field(kw_only=True)

    @classmethod
    def of(cls, transform: Callable[[Image.Image], Tensor]) -> Transform:
        """Wrap a function as a preprocessing, after checking its output for a blank image.

        Raises:
            TypeError: If it cannot be called, or gives no (3, H, W) tensor.

        Example:
            >>> Transform.of(lambda image: torch.zeros(3, 8, 8)).size
            8
        """
        if not callable(transform):
            raise TypeError(f"transform is a {type(transform).__name__}; pass a function: image -> tensor.")
        given = transform(Image.new("RGB", (64, 48)))
        if not isinstance(given, Tensor) or given.ndim != 3:
            shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise TypeError(f"the transform gave {shape} for an image; it must give one tensor (3, H, W).")
        return cls(size=given.shape[-1], mean=0.0, std=1.0, transform=transform)

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 H W"]:
        """Apply the function, to float32."""
        return self.transform(image.convert("RGB")).float()

    def view(self, image: Image.Image) -> Image.Image:
        """Return the function's output for an image, rescaled to the range of pixels."""
        x = self(image)
        low, high = x.amin(), x.amax()
        pixels = ((x - low) / (high - low).clamp(min=1e-6) * 255).round().byte()
        return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def _by_channel(values: float | tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
