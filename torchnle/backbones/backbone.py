"""Backbone: a vision model with all that is needed to use it on photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import nn

from torchnle.backbones.preprocess import Preprocess


@dataclass(frozen=True)
class Backbone:
    """A vision model with all that is needed to use it on photographs.

    Args:
        model: The classifier, in evaluation mode: (N, 3, H, W) -> (N, classes) logits; or an image encoder.
        preprocess: RGB image -> (3, H, W) float32.
        class_names: One a row of the classifier's head, all different; none where they are not known.
        name: The name it was loaded by.
        clip: Where `model` is the image tower of a CLIP: the whole of it.
        tokenizer: Gets that CLIP's tokenizer.
    """

    model: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    name: str
    clip: nn.Module | None = None
    tokenizer: Callable[[], Any] | None = None

    def view(self, image: Image.Image) -> Image.Image:
        """The part of the image that the model sees, at display resolution: lay maps over this."""
        return self.preprocess.view(image)
