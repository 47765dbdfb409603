"""Backbone: a vision model with all that is needed to use it on photographs."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    model: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    name: str

    def view(self, image: Image.Image) -> Image.Image:
        """The part of the image that the model sees, at display resolution: lay maps over this."""
        return self.preprocess.view(image)
