"""Backbone: a vision model with its preprocessing and class names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from torchnle.backbones.preprocess import Preprocess, Transform


@dataclass(frozen=True)
class Backbone:
    """A vision model with its preprocessing and class names.

    Args:
        model: The classifier, in evaluation mode: (N, 3, H, W) -> (N, classes) logits; or an image encoder.
        preprocess: RGB image -> (3, H, W) float32.
        class_names: One per row of the classifier's head, all different; empty if they are not known.
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

    @classmethod
    def of(
        cls,
        model: nn.Module,
        transform: Callable[[Image.Image], Tensor],
        class_names: Iterable[str] = (),
        *,
        name: str = "",
    ) -> Backbone:
        """Build a backbone from your own model and its preprocessing.

        Args:
            model: The classifier; it is put into evaluation mode.
            transform: An RGB image -> (3, H, W): a `Preprocess`, or a transform of torchvision or timm.
            class_names: One per row of the classifier's head; none = those that the model states.
            name: What messages and saved translators call it.

        Raises:
            TypeError: If the transform cannot be called, or gives no (3, H, W) tensor.

        Example:
            >>> photo = Image.new("RGB", (6, 4), (255, 0, 0))
            >>> own = Backbone.of(nn.Identity(), Preprocess(size=2, mean=0.0, std=255.0), ["cat", "dog"])
            >>> own.preprocess(photo).shape, own.view(photo).size
            (torch.Size([3, 2, 2]), (4, 4))
        """
        preprocess = transform if isinstance(transform, Preprocess) else Transform.of(transform)
        return cls(model.eval(), preprocess, tuple(class_names), name or type(model).__name__)

    def example(self) -> Float[Tensor, "2 C H W"]:
        """Make two inputs of noise, of the size that the preprocessing gives, on the model's device.

        Example:
            >>> Backbone.of(nn.Identity(), Preprocess(size=8, mean=0.0, std=255.0)).example().shape
            torch.Size([2, 3, 8, 8])
        """
        shape = self.preprocess(Image.new("RGB", (64, 48))).shape
        noise = torch.randn(2, *shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        return noise.to(next(self.model.parameters(), noise))

    def view(self, image: Image.Image) -> Image.Image:
        """Return the part of the image that the model sees, at display resolution, to draw maps on."""
        return self.preprocess.view(image)
