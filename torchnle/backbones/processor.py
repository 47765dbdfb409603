"""Preprocessing by an image processor of transformers, whose own steps are run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.backbones.preprocess import Preprocess

#: Borders of what is seen are known to so many of 255 levels.
_LEVELS = 1.5


@dataclass(frozen=True)
class ProcessorPreprocess(Preprocess):
    """Preprocesses an RGB image with an image processor of transformers, by running its own steps.

    Args:
        processor: An image processor of transformers.

    Example:
        >>> from transformers import ViTImageProcessor
        >>> size = {"height": 4, "width": 6}
        >>> own = ViTImageProcessor(size=size, do_normalize=False)
        >>> preprocess = ProcessorPreprocess(size=4, mean=0.0, std=1.0, processor=own)
        >>> preprocess(Image.new("RGB", (9, 9), (255, 0, 0))).shape
        torch.Size([3, 4, 6])
    """

    processor: Any = None

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 H W"]:
        """Let the processor make float32 of an image; with `fit` "squeeze" of the whole image."""
        return self._run(image.convert("RGB")).float()

    def view(self, image: Image.Image) -> Image.Image:
        """Crop the part of the image that the model sees, found by the processor's output for two ramps."""
        if self.fit == "squeeze":
            return image.copy()
        left, right = self._seen(image.size, axis=1)
        top, bottom = self._seen(image.size, axis=0)
        width, height = image.size
        box = (left * width, top * height, right * width, bottom * height)
        first, second, third, fourth = map(round, box)
        return image.crop((first, second, max(third, first + 1), max(fourth, second + 1)))

    def gives_pictures(self) -> bool:
        """Return whether the processor makes one tensor (3, H, W) of an image, and not tiles or patches."""
        try:
            found = self._run(Image.new("RGB", (self.size, self.size)))
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError):
            return False
        return found.ndim == 3 and len(found) == 3

    def _run(self, image: Image.Image, **options: Any) -> Tensor:
        if self.fit == "squeeze":
            method = Image.Resampling[self.interpolation.upper()]
            image = image.resize((self.size, self.size), method)
            options |= {"do_resize": False, "do_center_crop": False}
        found: Tensor = self.processor(images=image, return_tensors="pt", **options)["pixel_values"][0]
        return found

    def _seen(self, size: tuple[int, int], axis: int) -> tuple[float, float]:
        """Return the start and end of the visible part along an axis, as shares of the image."""
        ramp = torch.linspace(0, 255, size[1 - axis]).round().to(torch.uint8)
        plane = ramp.expand(size[1], size[0]) if axis else ramp[:, None].expand(size[1], size[0])
        picture = Image.frombytes("L", size, plane.contiguous().numpy().tobytes()).convert("RGB")
        raw = self._run(picture, do_normalize=False, do_rescale=False).float().mean(0)
        line = raw.mean(1 - axis) / 255
        half = float(line[-1] - line[0]) / max(1, len(line) - 1) / 2
        begin, end = float(line[0]) - half, float(line[-1]) + half
        near = _LEVELS / 255
        return (0.0 if begin < near else begin), (1.0 if end > 1 - near else min(end, 1.0))
