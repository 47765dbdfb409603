"""Models of timm by name."""

from __future__ import annotations

from typing import Any

from torchnle.backbones.backbone import Backbone
from torchnle.backbones.default import names_for
from torchnle.backbones.names import check_name
from torchnle.backbones.preprocess import Fit, Preprocess
from torchnle.errors import MissingDependencyError


def load(name: str, *, fit: Fit = "crop", pretrained: bool = True, **options: Any) -> Backbone:
    """A model of timm, with the size, crop and normalisation of its own configuration.

    Args:
        name: As `timm.create_model` takes it ("resnet50", "resnet50.a1_in1k").
        fit: See `Preprocess`.
        pretrained: False = random weights.
        options: Passed to `timm.create_model`.

    Raises:
        MissingDependencyError: If timm is not installed.
        ValueError: If timm has no such model.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingDependencyError("timm", extra="timm", purpose="to build timm models") from error
    check_name(name.partition(".")[0], timm.list_models(), "timm")
    model = timm.create_model(name, pretrained=pretrained, **options).eval()
    config = timm.data.resolve_model_data_config(model)
    preprocess = Preprocess(
        size=config["input_size"][-1],
        mean=tuple(255 * value for value in config["mean"]),
        std=tuple(255 * value for value in config["std"]),
        fit=fit,
        share=min(config["crop_pct"], 1.0),
        interpolation=config["interpolation"],
    )
    return Backbone(model, preprocess, names_for(getattr(model, "num_classes", 0)), f"timm:{name}")
