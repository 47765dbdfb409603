"""The tables of a recipe file beside its data and its training: models, network, checks and feeding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchnle.backbones.preprocess import Fit
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
        prefix_length: The number of prefix vectors (of `aligned`'s text decoder, where one is given).
        width: The Transformer's width.
        depth: Its layers.
        heads: Its attention heads.
        feedforward: The width of its feed-forward layers.
        standardise: Standardise the features channel by channel.
        start: Words at whose embeddings the prefix starts.
        opening: Words whose embeddings stand before the prefix, trained too.
        aligned: A saved `AlignedTranslator` to start from: its prefix, to which the network adds.
        train_aligned: Go on training the text decoder's part of it.
        kept_change: The share of what the network learned to add that is kept in the end (as in WiSE-FT,
            Wortsman et al. 2022): less forgets less of what `aligned` says where training never looked.
        scoring_recall: How softly maps read places (`AlignedStart`), with `aligned` only.
        scoring_share: The share of what the network adds that it adds there.
        dtype: What the weights are saved as.

    Raises:
        ValueError: If `kept_change` is not between 0 and 1, or below 1 without `aligned`.
    """

    prefix_length: int = 10
    width: int = 768
    depth: int = 12
    heads: int = 12
    feedforward: int = 3072
    standardise: bool = False
    start: str = ""
    opening: str = ""
    aligned: str = ""
    train_aligned: bool = True
    kept_change: float = 1.0
    scoring_recall: float | None = None
    scoring_share: float = 1.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        if not 0 <= self.kept_change <= 1 or (self.kept_change < 1 and not self.aligned):
            raise ValueError(
                f"[network] kept_change = {self.kept_change}; pass a number from 0 to 1, and less than 1 "
                "only with aligned = '...', to which the network adds."
            )


@dataclass(frozen=True)
class Check:
    """How the translator is validated.

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
    """How features come to the network.

    Args:
        cache: The folder for a cache of features; "" = the vision model runs at every step.
        dtype: How the cache stores them.
        workers: Processes that read images.
    """

    cache: str = ""
    dtype: Stored = "bfloat16"
    workers: int = 0
