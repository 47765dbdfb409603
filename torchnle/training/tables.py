"""The tables of a recipe file that every method's training has: models, validation, feature supply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from torchnle.backbones.preprocess import Fit
from torchnle.training.feature_cache import Stored

#: The dtypes of recipes by their names.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Vision:
    """The settings of the vision model.

    Args:
        model: A name for `backbones.load`.
        layers: Dotted names; with the suffix ":input", the module's input.
        fit: How a photograph becomes square (`Preprocess`); the paper crops the center.
        pretrained: False = random weights, for examples without downloads.
    """

    model: str
    layers: tuple[str, ...]
    fit: Fit = "crop"
    pretrained: bool = True


@dataclass(frozen=True)
class Language:
    """The settings of the frozen language model, its prompt and its limits.

    Args:
        model: A model reference.
        dtype: "auto", "float32", "bfloat16" or "float16".
        prompt: The text between the prefix and the description.
        stop: A string that ends a text, besides the end-of-sequence token.
        max_new_tokens: The largest number of tokens that a trained translator decodes.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    prompt: str = ""
    stop: str | None = None
    max_new_tokens: int = 50


@dataclass(frozen=True)
class Check:
    """The settings of the translator's validation.

    Args:
        metric: "loss", or "cider" of the descriptions.
        described: The number of images described for CIDEr.
    """

    metric: Literal["loss", "cider"] = "loss"
    described: int = 256


@dataclass(frozen=True)
class Feeding:
    """The settings of the supply of features: computed at every step, or cached on disk.

    Args:
        cache: The folder for a cache of features; "" = the vision model runs at every step.
        dtype: The dtype in the cache.
        workers: The number of processes that read images.
    """

    cache: str = ""
    dtype: Stored = "bfloat16"
    workers: int = 0
