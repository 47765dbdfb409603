"""Models of timm by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchnle.backbones.backbone import Backbone
from torchnle.backbones.default import has_imagenet_names, imagenet_class_names, known_names
from torchnle.backbones.names import check_name
from torchnle.backbones.preprocess import Fit, Preprocess
from torchnle.errors import optional_package

#: The last data set in timm's tag of pretrained weights.
_IMAGENET_TAG = "in1k"
#: Options that change a model's classes or weights.
_OWN = ("num_classes", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")


def load(name: str, *, fit: Fit = "crop", pretrained: bool = True, **options: Any) -> Backbone:
    """Load a timm model with the size, crop and normalisation of its own configuration.

    Args:
        name: As `timm.create_model` takes it ("resnet50", "resnet50.a1_in1k"), or with timm's own source
            before it: "local-dir:FOLDER" is a model that `timm.models.save_for_hf` saved.
        fit: See `Preprocess`.
        pretrained: False = random weights.
        options: Passed to `timm.create_model`.

    Raises:
        MissingDependencyError: If timm is not installed.
        ValueError: If timm has no such model.
    """
    with optional_package("timm", extra="timm", purpose="to build timm models"):
        import timm
    if ":" not in name:  # the prefix is timm's name of another source
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
    return Backbone(model, preprocess, _class_names(model, name, options), f"timm:{name}")


def _class_names(model: Any, name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return those saved with the model, one per class; else ImageNet's, if timm's own weights state them."""
    count, saved = getattr(model, "num_classes", 0), getattr(model, "pretrained_cfg", None) or {}
    labels, described = saved.get("label_names") or (), saved.get("label_descriptions") or {}
    if labels:
        names = known_names([described.get(label, label) for label in labels])
        return names if len(names) == count else ()
    source, _, member = name.rpartition(":")
    timms = not source or (source == "hf-hub" and member.startswith("timm/"))
    own = not timms or any(options.get(option) is not None for option in _OWN)
    imagenet = _IMAGENET_TAG in (saved.get("tag") or "") and count == saved.get("num_classes") == 1000
    return imagenet_class_names() if imagenet and not own and has_imagenet_names() else ()


def stated_names(model: Any) -> tuple[str, ...]:
    """Find the class names that a model's configuration states, as `load` does; empty if it is not timm's.

    ImageNet's are assumed if the configuration says that the weights were trained last on it and the model
    has as many classes: a head replaced by another of 1,000 classes is not noticed.
    """
    if type(model).__module__.partition(".")[0] != "timm" and not getattr(model, "pretrained_cfg", None):
        return ()
    return _class_names(model, "", {})
