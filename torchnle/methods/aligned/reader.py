"""Read features for fitting: pooled ones, and those of all locations, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torchnle.vision import reading as readers
from torchnle.vision import taps
from torchnle.vision.reading import Reading


@dataclass
class Reader:
    """Reads chosen layers of one model.

    Args:
        model: The vision model.
        taps: The layers.
        reading: How they are read.
    """

    model: Callable[..., Any]
    taps: Sequence[taps.Tap]
    reading: Reading = field(default_factory=Reading)

    @torch.no_grad()
    def rows(self, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Read a batch: each layer's pooled features (N, D), and those of all its locations (R, D).

        Raises:
            TypeError: If the batch is not a tensor.
        """
        features = readers.read(self.model, self.taps, check_batch(images), reading=self.reading)
        pool = self.reading.pool
        return {f.layer: (pool(f, None).rows, pool(f, "all" if f.grid else None).rows) for f in features}


def check_batch(images: object) -> Tensor:
    """Check that a batch of images is a tensor, and return it.

    Raises:
        TypeError: If it is not.

    Example:
        >>> check_batch("photo.jpg")
        Traceback (most recent call last):
        ...
        TypeError: a batch of images is a str; pass tensors as the model takes them, (N, C, H, W).
    """
    if isinstance(images, Tensor):
        return images
    hint = ""
    if isinstance(images, list | tuple) and images and isinstance(images[0], Tensor):
        hint = " Of a loader that gives (images, labels), pass (images for images, _ in loader)."
    raise TypeError(
        f"a batch of images is a {type(images).__name__}; pass tensors as the model takes them, "
        f"(N, C, H, W).{hint}"
    )
