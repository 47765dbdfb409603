"""The tables of a recipe file beside its data and its training: models, network, checks and feeding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchnle.backbones.preprocess import Fit
from torchnle.methods.aligned.decoder.text_decoder import DECODER
from torchnle.training.feature_cache import Stored


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
class Network:
    """The translation network; defaults are the paper's.

    Args:
        prefix_length: The number of prefix vectors; with a [map] it is the text decoder's.
        width: The Transformer's width.
        depth: Its layers.
        heads: Its attention heads.
        feedforward: The width of its feed-forward layers.
        standardise: Standardise the features channel by channel.
        start: Words at whose embeddings the prefix starts.
        opening: Words whose embeddings stand before the prefix, trained too.
        dtype: What the weights are saved as.
    """

    prefix_length: int = 10
    width: int = 768
    depth: int = 12
    heads: int = 12
    feedforward: int = 3072
    standardise: bool = False
    start: str = ""
    opening: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True)
class Map:
    """The map from text into features that training starts from (`MapStart`).

    Args:
        reference: A saved `MapTranslator`; "" = one is fitted to the recipe's data and kept in the output.
        decoder: The text decoder that makes the prefix, where a map is fitted.
        images: The most images, spread over the data, that it is fitted to.
        classes: Fit it to the classifier's class names too, in the layer that its head reads.
    """

    reference: str = ""
    decoder: str = DECODER
    images: int = 8_000
    classes: bool = True


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
class Classes:
    """Pairs made from the classifier's weights: features of a class, and its name (`ClassFeatures`).

    Args:
        count: How many; 0 = none.
        seed: Seeds them.
    """

    count: int = 0
    seed: int = 0


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
