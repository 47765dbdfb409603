"""Effects of photographs that composed scenes lack: uneven light, blur, few pixels, JPEG, occlusion."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image, ImageFilter

from torchnle import images

Mask = Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class PhotoEffects:
    """Effects that make a picture look photographed, each with a random occurrence and strength.

    None of them moves pixels, so boxes and locations stay right; occluded pixels are removed from the masks,
    and never more than half of an object is occluded.

    Args:
        chance: How often each effect is applied, 0 to 1.
        downscale: The smallest factor by which a side is reduced before it is enlarged again; 1 = never.
        blur: The largest radius of Gaussian blur, relative to the side; 0 = never.
        jpeg: The lowest JPEG quality, 1 to 95; 95 = almost lossless.
        lighting: The largest relative change of brightness, contrast, each channel's gain, and the light from
            one side to the other; 0 = never.
        occlusion: The largest side of an occluding rectangle, relative to the side; 0 = never.

    Raises:
        ValueError: If a strength is out of its range.

    Example:
        >>> hen = Image.new("RGB", (32, 32), "brown")
        >>> photo, masks = PhotoEffects()(np.random.default_rng(0), hen, [np.ones((32, 32), bool)])
        >>> photo.size, len(masks)
        ((32, 32), 1)
    """

    chance: float = 0.5
    downscale: float = 0.4
    blur: float = 0.008
    jpeg: int = 30
    lighting: float = 0.35
    occlusion: float = 0.4

    def __post_init__(self) -> None:
        wrong = {
            f"chance={self.chance}; pass 0 to 1": not 0 <= self.chance <= 1,
            f"downscale={self.downscale}; pass above 0 and up to 1": not 0 < self.downscale <= 1,
            f"blur={self.blur}; pass 0 to 0.2": not 0 <= self.blur <= 0.2,
            f"jpeg={self.jpeg}; pass 1 to 95": not 1 <= self.jpeg <= 95,
            f"lighting={self.lighting}; pass 0 to 0.9": not 0 <= self.lighting <= 0.9,
            f"occlusion={self.occlusion}; pass 0 to 0.9": not 0 <= self.occlusion <= 0.9,
        }
        for message, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(f"PhotoEffects({message}).")

    def __call__(
        self, draws: np.random.Generator, image: Image.Image, masks: Sequence[Mask]
    ) -> tuple[Image.Image, list[Mask]]:
        """Draw and apply the effects.

        Args:
            draws: The source of randomness.
            image: RGB.
            masks: The visible pixels of each object in it.

        Returns:
            The image, and the pixels of each object that are still visible.
        """
        visible = list(masks)
        if self._happens(draws, self.occlusion):
            image, visible = self._occlude(draws, image, visible)
        if self._happens(draws, self.lighting):
            image = self._light(draws, image)
        if self._happens(draws, 1 - self.downscale):
            image = _coarse(image, draws.uniform(self.downscale, 1))
        if self._happens(draws, self.blur):
            radius = draws.uniform(0, self.blur) * image.width
            image = image.filter(ImageFilter.GaussianBlur(radius))
        if self._happens(draws, 95 - self.jpeg):
            image = _compressed(image, int(draws.integers(self.jpeg, 95, endpoint=True)))
        return image, visible

    def _happens(self, draws: np.random.Generator, strength: float) -> bool:
        return strength > 0 and draws.random() < self.chance

    def _occlude(
        self, draws: np.random.Generator, image: Image.Image, masks: list[Mask]
    ) -> tuple[Image.Image, list[Mask]]:
        size = np.array([image.width, image.height])
        extent = np.maximum(1, (draws.uniform(0.1, self.occlusion + 0.1, 2) * size)).astype(int)
        left, top = draws.integers(0, size - np.minimum(extent, size - 1)).tolist()
        right, bottom = left + int(extent[0]), top + int(extent[1])
        colour = tuple(draws.integers(0, 256, 3).tolist())
        left_over = []
        for mask in masks:
            seen = mask.copy()
            seen[top:bottom, left:right] = False
            left_over.append(seen)
        if any(after.sum() < before.sum() / 2 for before, after in zip(masks, left_over, strict=True)):
            return image, masks
        covered = image.copy()
        covered.paste(colour, (left, top, right, bottom))
        return covered, left_over

    def _light(self, draws: np.random.Generator, image: Image.Image) -> Image.Image:
        """Change the contrast about the mean, each channel's gain, and the light along one direction."""
        pixels = np.asarray(image, np.float32)
        most = self.lighting
        contrast, brightness = draws.uniform(1 - most, 1 + most, 2)
        gains = brightness * draws.uniform(1 - most / 3, 1 + most / 3, 3)
        shade = 1 + draws.uniform(0, most) * _slope(image.size, draws.uniform(0, 2 * np.pi))
        lit = ((pixels - pixels.mean()) * contrast + pixels.mean()) * gains * shade[..., None]
        return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _slope(size: tuple[int, int], turn: float) -> Float[np.ndarray, "H W"]:
    """Return a ramp from -1 to 1 across the picture, in the direction `turn`."""
    x, y = (np.linspace(-1, 1, side, dtype=np.float32) for side in size)
    slope: Float[np.ndarray, "H W"] = (cos(turn) * x[None, :] + sin(turn) * y[:, None]) / (
        abs(cos(turn)) + abs(sin(turn))
    )
    return slope


def _coarse(image: Image.Image, share: float) -> Image.Image:
    small = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return images.read_image(buffer, "the compressed picture")
