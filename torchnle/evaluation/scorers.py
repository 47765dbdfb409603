"""Scorers: cosines of pictures and texts, for CLIPScore and for crops (DeViL, figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.errors import optional_package
from torchnle.evaluation.subject import CLASS_NAMES, attach, whole
from torchnle.metrics import TextImageScorer
from torchnle.translators.rows import rows_of


def scorer_for(reference: str, backbone: Backbone) -> TextImageScorer:
    """Build the scorer that a reference names.

    Args:
        reference: "class-names" = the map of the model's own class names, which is not independent;
            "open_clip:NAME[@TAG]" = a model of open_clip.
        backbone: The model that is explained.

    Raises:
        ValueError: If the reference is neither.
        MissingDependencyError: If open_clip is not installed.

    Example:
        >>> scorer_for("vgg", None)
        Traceback (most recent call last):
        ...
        ValueError: scorer 'vgg'; pass 'class-names' or 'open_clip:NAME[@TAG]'.
    """
    library, _, name = reference.partition(":")
    if reference == CLASS_NAMES:
        return translator_scorer(backbone, attach(backbone))
    if library == "open_clip" and name:
        return open_clip_scorer(name)
    raise ValueError(f"scorer {reference!r}; pass 'class-names' or 'open_clip:NAME[@TAG]'.")


def translator_scorer(backbone: Backbone, lang: LanguageAttribution) -> TextImageScorer:
    """Build a scorer from the scores of a translator's last layer on whole pictures."""
    preprocess = replace(backbone.preprocess, share=1.0)

    @torch.no_grad()
    def score(images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        features = lang.read(torch.stack([preprocess(image) for image in images]))
        return lang.translator.score(rows_of(whole(lang, features)[-1:]), list(texts))

    return score


def open_clip_scorer(name: str, **options: Any) -> TextImageScorer:
    """Build a scorer from both towers of an open_clip model.

    Args:
        name: "NAME" (random weights) or "NAME@TAG" ("ViT-B-32@openai", that of the CLIPScore paper).
        options: Passed to `open_clip.create_model_and_transforms`.

    Raises:
        MissingDependencyError: If open_clip_torch is not installed.
    """
    with optional_package("open_clip_torch", extra="clip", purpose="to compare with texts"):
        import open_clip
    architecture, _, tag = name.partition("@")
    model, _, preprocess = open_clip.create_model_and_transforms(
        architecture, pretrained=tag or None, **options
    )
    tokenize = open_clip.get_tokenizer(architecture)
    model.eval()

    @torch.no_grad()
    def score(images: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        pictures = model.encode_image(torch.stack([preprocess(image) for image in images]))
        words = model.encode_text(tokenize(list(texts)))
        return F.normalize(pictures, dim=1) @ F.normalize(words, dim=1).T

    return score
