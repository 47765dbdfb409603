"""The tables of a recipe file that only DeViL has: network, start at a map, synthetic pairs of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchnle.methods.aligned.decoder.text_decoder import DECODER


@dataclass(frozen=True)
class Network:
    """The settings of the translation network; defaults are the paper's.

    Args:
        prefix_length: The number of prefix vectors; with a [map] it is the text decoder's.
        width: The Transformer's width.
        depth: The number of its layers.
        heads: The number of its attention heads.
        feedforward: The width of its feed-forward layers.
        standardise: Standardise the features channel by channel.
        start: Words at whose embeddings the prefix is initialised.
        opening: Words at which the trained vectors before the prefix are initialised.
        dtype: The dtype of the saved weights.
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
    """The settings of the map from text into features at which training starts (`MapStart`).

    Args:
        reference: A saved `MapTranslator`; "" = fit one to the recipe's data and save it in the output
            folder.
        decoder: The text decoder that computes the prefix, if a map is fitted.
        images: The largest number of images, spread over the data, to which it is fitted.
        classes: Fit it to the classifier's class names too, in the layer that its head reads.
    """

    reference: str = ""
    decoder: str = DECODER
    images: int = 8_000
    classes: bool = True


@dataclass(frozen=True)
class Classes:
    """The settings of synthetic pairs from the classifier's weights (`ClassFeatures`).

    Args:
        count: The number of pairs; 0 = none.
        seed: Their seed.
    """

    count: int = 0
    seed: int = 0
