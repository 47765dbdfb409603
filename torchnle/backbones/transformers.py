"""Image models of transformers by model id, folder or model type."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from torchnle import hub
from torchnle.backbones.backbone import Backbone
from torchnle.backbones.default import known_names
from torchnle.backbones.preprocess import Fit, Preprocess
from torchnle.backbones.processor import ProcessorPreprocess

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Parts that no layer of a classifier or encoder depends on, and that some checkpoints leave out.
_UNREAD = ("pooler.", "mask_token", "embeddings.mask_token")
#: The numbers that transformers uses for Pillow's resampling methods.
_METHODS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def load(name: str, *, fit: Fit = "crop", pretrained: bool = True, **options: Any) -> Backbone:
    """Load an image classifier or encoder of transformers, with the preprocessing in its folder.

    Args:
        name: A model id, a local folder, or, with ``pretrained=False``, also a model type ("dinov2"), which
            is then built as its configuration class has it.
        fit: See `Preprocess`.
        pretrained: False = random weights.
        options: Entries of the configuration to change.

    The model is built as the class that it was saved as (`architectures`), and images go through the image
    processor saved beside it.

    Raises:
        FileNotFoundError: If there is no such folder or type.
        ValueError: If weights are missing or unused, or it needs code of its own, which is never run.
    """
    from transformers import AutoConfig, AutoTokenizer
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if not pretrained and name in CONFIG_MAPPING_NAMES:
        folder, config = None, AutoConfig.for_model(name, **options)
    else:
        folder = hub.resolve(name)
        config = hub.load_pretrained(AutoConfig, folder, **options)
    whole = _build(config, folder if pretrained else None).eval()
    model = whole if type(whole).__name__ in _classifiers() else image_tower(whole)
    preprocess = _preprocess(folder, _image_size(model), fit)
    if folder is None or not hasattr(whole, "get_text_features"):
        return Backbone(model, preprocess, stated_names(model), f"transformers:{name}")
    tokenizer = partial(hub.load_tokenizer, AutoTokenizer, folder)
    return Backbone(model, preprocess, (), f"transformers:{name}", whole, tokenizer)


def image_tower(model: nn.Module) -> nn.Module:
    """Return the image tower of a vision-language model: the module with its `vision_config`.

    Example:
        >>> plain = nn.Linear(2, 2)
        >>> image_tower(plain) is plain
        True
    """
    stated = getattr(getattr(model, "config", None), "vision_config", None)
    if stated is None:
        return model
    return next((part for part in model.modules() if getattr(part, "config", None) is stated), model)


def _build(config: Any, folder: Path | None) -> nn.Module:
    from transformers import AutoModel, AutoModelForImageClassification
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        MODEL_MAPPING_NAMES,
    )

    classifies = type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING and not hasattr(
        config, "vision_config"
    )
    kind = AutoModelForImageClassification if classifies else AutoModel
    config.architectures = config.architectures or []  # transformers loops over it, but defaults it to None
    if folder is None:
        model: nn.Module = hub.build_from_config(kind, config)
    else:
        names = set(_flat(MODEL_MAPPING_NAMES.values()))
        stated = hub.stated_class(folder, names | _classifiers())
        model = hub.load_weights(stated or kind, folder, optional=_UNREAD, config=config)
    return model


def _classifiers() -> set[str]:
    """The names of transformers' classes of image classifiers."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    return set(_flat(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values()))


def _flat(names: Iterable[Any]) -> Iterator[str]:
    for each in names:
        yield from (each,) if isinstance(each, str) else each


def _image_size(model: nn.Module) -> int:
    size = getattr(getattr(model, "config", None), "image_size", 224)
    return size if isinstance(size, int) else size[0]


def stated_names(model: nn.Module) -> tuple[str, ...]:
    """Find the class names in a model's own configuration; empty if they are generated (LABEL_0)."""
    labels = getattr(getattr(model, "config", None), "id2label", None) or {}
    return known_names([labels[index] for index in sorted(labels)])


def _preprocess(folder: Path | None, image_size: int, fit: Fit) -> Preprocess:
    """The saved image processor where it gives one picture an image; else what its numbers say."""
    path = None if folder is None else folder / "preprocessor_config.json"
    saved = json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else {}
    stated = _by_numbers(saved, image_size, fit)
    if folder is None or not (saved.get("image_processor_type") or saved.get("feature_extractor_type")):
        return stated
    from transformers import AutoImageProcessor

    processor = hub.load_pretrained(AutoImageProcessor, folder)
    found = ProcessorPreprocess(**vars(stated), processor=processor)
    return found if found.gives_pictures() else stated


def _by_numbers(saved: dict[str, Any], image_size: int, fit: Fit) -> Preprocess:
    shorter = _side(saved.get("size")) or image_size
    size = (_side(saved.get("crop_size")) if saved.get("do_center_crop") else None) or shorter
    scale = 1 / (saved.get("rescale_factor") or 1 / 255)
    return Preprocess(
        size=size,
        mean=tuple(scale * value for value in saved.get("image_mean") or _MEAN),
        std=tuple(scale * value for value in saved.get("image_std") or _STD),
        fit=fit,
        share=min(min(size / shorter, 1.0) * (saved.get("crop_pct") or 1.0), 1.0),
        interpolation=_METHODS[saved.get("resample") or 3],  # type: ignore[arg-type]
    )


def _side(size: Any) -> int | None:
    if isinstance(size, dict):
        return next((size[key] for key in ("shortest_edge", "height") if key in size), None)
    return size if isinstance(size, int) else None
