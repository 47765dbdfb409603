"""Backbone: a vision model with its preprocessing and class names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import nn

from torchnle.backbones.preprocess import Preprocess


@dataclass(frozen=True)
class Backbone:
    """A vision model with its preprocessing and class names.

    Args:
        model: The classifier, in evaluation mode: (N, 3, H, W) -> (N, classes) logits; or an image encoder.
        preprocess: RGB image -> (3, H, W) float32.
        class_names: One a row of the classifier's head, all different; empty if they are not known.
        name: The name it was loaded by.
        clip: The whole CLIP, if `model` is its image tower.
        tokenizer: Returns that CLIP's tokenizer.
    """

    model: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    name: str
    clip: nn.Module | None = None
    tokenizer: Callable[[], Any] | None = None

    def view(self, image: Image.Image) -> Image.Image:
        """Return the part of the image that the model sees, at display resolution, to draw maps on."""
        return self.preprocess.view(image)
