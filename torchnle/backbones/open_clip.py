"""The image towers of open_clip's models by name."""

from __future__ import annotations

from functools import partial
from typing import Any

from torchnle.backbones.backbone import Backbone
from torchnle.backbones.names import check_name
from torchnle.backbones.preprocess import Fit, Preprocess
from torchnle.errors import optional_package


def load(name: str, *, fit: Fit = "crop", pretrained: bool = True, **options: Any) -> Backbone:
    """Load the image tower of an open_clip model, with its own preprocessing.

    Args:
        name: "NAME" or "NAME@TAG" ("ViT-B-32@openai"); without a tag, the first that open_clip lists.
        fit: See `Preprocess`.
        pretrained: False = random weights.
        options: Passed to `open_clip.create_model`.

    Raises:
        MissingDependencyError: If open_clip_torch is not installed.
        ValueError: If open_clip has no such model, or no weights for it.
    """
    with optional_package("open_clip_torch", extra="clip", purpose="to build open_clip models"):
        import open_clip
    model_name, _, tag = name.partition("@")
    check_name(model_name, open_clip.list_models(), "open_clip")
    if pretrained:
        tags = open_clip.list_pretrained_tags_by_model(model_name)
        tag = tag or next(iter(tags), "")
        check_name(tag, tags, f"open_clip's {model_name} weights:")
    model = open_clip.create_model(model_name, pretrained=tag if pretrained else None, **options)
    config = open_clip.get_model_preprocess_cfg(model)
    size = config["size"]
    preprocess = Preprocess(
        size=size if isinstance(size, int) else size[0],
        mean=tuple(255 * value for value in config["mean"]),
        std=tuple(255 * value for value in config["std"]),
        fit=fit,
        interpolation=config.get("interpolation", "bicubic"),
    )
    tokenizer = partial(open_clip.get_tokenizer, model_name)
    return Backbone(model.eval().visual, preprocess, (), f"open_clip:{name}", model, tokenizer)
