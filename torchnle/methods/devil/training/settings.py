"""The tables of a recipe file that only DeViL has: network, start and pairs of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchnle.methods.aligned.decoder.text_decoder import DECODER


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
class Classes:
    """Pairs made from the classifier's weights: features of a class, and its name (`ClassFeatures`).

    Args:
        count: How many; 0 = none.
        seed: Seeds them.
    """

    count: int = 0
    seed: int = 0
