"""The tables of a recipe file that every method's training has: models, checks and feeding."""

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
    """The vision model that is described.

    Args:
        model: A name for `backbones.load`.
        layers: Dotted names; with ":input" behind it, what that module receives.
        fit: How a photograph becomes square; the paper squeezes nothing and crops the middle.
        pretrained: False = random weights, for examples that download nothing.
    """

    model: str
    layers: tuple[str, ...]
    fit: Fit = "crop"
    pretrained: bool = True


@dataclass(frozen=True)
class Language:
    """The frozen language model and how it is addressed.

    Args:
        model: A model reference.
        dtype: "auto", "float32", "bfloat16" or "float16".
        prompt: What stands between the prefix and the words.
        stop: What ends a text beside the end-of-sequence token.
        max_new_tokens: The most tokens that a trained translator writes.
    """

    model: str
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    prompt: str = ""
    stop: str | None = None
    max_new_tokens: int = 50


@dataclass(frozen=True)
class Check:
    """Settings of the translator's validation.

    Args:
        metric: "loss", or "cider" on what is said.
        described: How many images are described for CIDEr.
    """

    metric: Literal["loss", "cider"] = "loss"
    described: int = 256


@dataclass(frozen=True)
class Feeding:
    """Settings of how features come to the network.

    Args:
        cache: The folder for a cache of features; "" = the vision model runs at every step.
        dtype: How the cache stores them.
        workers: Processes that read images.
    """

    cache: str = ""
    dtype: Stored = "bfloat16"
    workers: int = 0
