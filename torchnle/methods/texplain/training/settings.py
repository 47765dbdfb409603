"""The tables of a recipe file that only TExplain has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Network:
    """The perceptron of TExplain and the kind of decoder that reads it; defaults are the paper's.

    Args:
        decoder: "prefix" = a causal language model reads the vectors before its text; "cross-attention" = a
            BERT decoder attends to them.
        pooled: Read the mean over the locations of the layer; False = every token of the image.
        mode: "per_token" = the same perceptron for every token; "flat" = all tokens together.
        prefix_length: The number of vectors with "flat".
        hidden: The width of the hidden layers; 0 = that of the layer.
        activation: What follows each batch normalisation: "none", "relu" or "gelu".
        dtype: What the weights are saved as.
    """

    decoder: Literal["prefix", "cross-attention"] = "prefix"
    pooled: bool = False
    mode: Literal["per_token", "flat"] = "per_token"
    prefix_length: int = 0
    hidden: int = 0
    activation: Literal["none", "relu", "gelu"] = "none"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
