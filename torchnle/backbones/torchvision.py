"""Models of torchvision by name."""

from __future__ import annotations

from inspect import signature
from typing import Any

from torchnle.backbones.backbone import Backbone
from torchnle.backbones.default import known_names
from torchnle.backbones.names import check_name
from torchnle.backbones.preprocess import Fit, Preprocess
from torchnle.errors import optional_package

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(name: str, *, fit: Fit = "crop", pretrained: bool = True, **options: Any) -> Backbone:
    """Load a torchvision model with the preprocessing of its best weights.

    Args:
        name: As `torchvision.models.get_model` takes it ("resnet50").
        fit: See `Preprocess`.
        pretrained: False = random weights, also for backbones inside the model.
        options: Passed to the model's builder.

    Raises:
        MissingDependencyError: If torchvision is not installed.
        ValueError: If torchvision has no such model.
    """
    with optional_package("torchvision", extra="timm", purpose="to build torchvision models"):
        from torchvision import models
    check_name(name, models.list_models(), "torchvision")
    weights = models.get_model_weights(name).DEFAULT
    if not pretrained and "weights_backbone" in signature(models.get_model_builder(name)).parameters:
        options = {"weights_backbone": None, **options}
    model = models.get_model(name, weights=weights if pretrained else None, **options).eval()
    preprocess = _preprocess(weights.transforms(), fit, options.get("image_size"))
    categories = () if "num_classes" in options else weights.meta.get("categories", ())
    names = known_names(categories) if getattr(weights.transforms(), "crop_size", None) else ()
    return Backbone(model, preprocess, names, f"torchvision:{name}")


def _preprocess(transforms: Any, fit: Fit, image_size: int | None) -> Preprocess:
    """Read the numbers off torchvision's own transform; detection has none, and segmentation no crop."""
    (shorter,) = getattr(transforms, "resize_size", None) or (224,)
    (size,) = getattr(transforms, "crop_size", None) or (shorter,)
    method: Any = getattr(getattr(transforms, "interpolation", None), "value", "bilinear")
    return Preprocess(
        size=image_size or size,
        mean=tuple(255 * value for value in getattr(transforms, "mean", _MEAN)),
        std=tuple(255 * value for value in getattr(transforms, "std", _STD)),
        fit=fit,
        share=min(size / shorter, 1.0),
        interpolation=method,
    )
