"""Three ways to fit an aligned translator, each one pass over its data and one linear solve a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle import reading as readers
from torchnle import taps
from torchnle.features import Features
from torchnle.language.phrases import with_article
from torchnle.language.text_encoder import TextEncoder
from torchnle.reading import Reading
from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.class_mixture import ClassMixture
from torchnle.translators.class_weights import check_classifier, class_vectors
from torchnle.translators.ridge import RidgeSums
from torchnle.translators.rows import Rows
from torchnle.translators.text_decoder import TextDecoder

#: How sharply a vector of a map from captions recalls phrases before it is spoken. Of 0.02, 0.05 and 0.1 the
#: first named most objects of 75 composed scenes (0.83 by their head noun; 0.49 without recalling).
RECALL = 0.02


def fit_captions(
    model: Callable[..., Any],
    layers: taps.LayerChoice,
    batches: Iterable[tuple[Tensor, Sequence[str]]],
    encoder: TextEncoder | None = None,
    *,
    decoder: TextDecoder | None = None,
    phrases: Sequence[str] = (),
    subsets: int = 1,
    keep: float = 0.25,
    recall: float | None = RECALL,
    reading: Reading | None = None,
    seed: int = 0,
) -> AlignedTranslator:
    """Map each layer into text space from images and captions, as DeViL learns from them (section 3.2).

    Beside the mean over all places, the means over random subsets of places are mapped to the caption too,
    so that the map meets features that look more like a place's (DeViL's feature dropout, section 3.3).

    Args:
        model: The vision model.
        layers: The layers to map.
        batches: (images, captions): images as the model takes them, one caption an image.
        encoder: The sentence encoder; None = the embedded default.
        decoder: Speaks the encoder's space, if it is to.
        phrases: What the translator can offer beside, or instead of, spoken sentences.
        subsets: How many random subsets of places are added for each image and layer.
        keep: The share of places in a subset.
        recall: How sharply phrases, where there are some, are recalled before a vector is spoken
            (`AlignedTranslator`); None = not at all.
        reading: How to read a layer whose layout is ambiguous.
        seed: Seeds the subsets.

    Raises:
        ValueError: If there are fewer than two images, or a batch has not one caption an image.
    """
    encoder = TextEncoder.from_pretrained() if encoder is None else encoder
    sums = _Sums(encoder.width)
    generator = torch.Generator().manual_seed(seed)
    chosen = taps.resolve(model, layers)
    for images, captions in batches:
        if len(images) != len(captions):
            raise ValueError(f"{len(captions)} captions came with {len(images)} images; pass one an image.")
        targets = encoder.encode(captions)
        with torch.no_grad():
            features = readers.read(model, chosen, images, reading=reading)
        for f in features:
            sums.add(f.layer, f.select(None).rows, targets)
            for _ in range(subsets if f.grid is not None else 0):
                sums.add(f.layer, _subset_mean(f, keep, generator), targets)
    return sums.solve(encoder, decoder, phrases, source="captions", recall=recall if phrases else None)


def fit_class_names(
    weight: Float[Tensor, "C D"],
    class_names: Sequence[str],
    encoder: TextEncoder | None = None,
    *,
    layer: str,
    bias: Float[Tensor, "C"] | None = None,
    method: Literal["mixture", "ridge"] = "mixture",
    decoder: TextDecoder | None = None,
    phrases: Sequence[str] = (),
    recall: float | None = RECALL,
) -> AlignedTranslator:
    """Map what a classifier's head reads into text space from the head and the class names, with no image.

    Args:
        weight: The head's matrix, (classes C, width D).
        class_names: One a row; each is read with its article, without what stands in brackets.
        encoder: The sentence encoder; None = the embedded default.
        layer: The name of the layer that the head reads.
        bias: The head's bias, (C,); None = zeros.
        method: "mixture" = the names' embeddings, averaged with the head's probabilities (`ClassMixture`);
            "ridge" = a linear map fitted to the pairs of class vector and name. Features of photographs are
            no class vectors, and the linear map takes what classes share for what they mean.
        decoder: Speaks the encoder's space, if it is to.
        phrases: What the translator can offer beside spoken sentences; () = the class names.
        recall: How sharply they are recalled before a vector is spoken (`AlignedTranslator`); None = not.

    Raises:
        ValueError: If weights and names do not fit.
    """
    names = [class_phrase(name) for name in check_classifier(weight, class_names)]
    encoder = TextEncoder.from_pretrained() if encoder is None else encoder
    targets = encoder.encode(names)
    sums = _Sums(encoder.width)
    sums.add(layer, class_vectors(weight), targets)
    if method == "ridge":
        return sums.solve(encoder, decoder, phrases or names, source="class names", recall=recall)
    mixture = ClassMixture.of(weight, bias, targets)
    spread = sums.by_layer[layer].target_spread
    translator = AlignedTranslator(
        {layer: mixture}, encoder, decoder, phrases=phrases or names, spread=spread, recall=recall
    )
    translator.card = {"fitted on": "class names"}
    return translator.eval()


def fit_lens(
    model: Callable[..., Any],
    layers: taps.LayerChoice,
    batches: Iterable[Tensor],
    through: AlignedTranslator,
    through_layer: taps.LayerChoice,
    through_reading: Reading | None = None,
    *,
    reading: Reading | None = None,
) -> AlignedTranslator:
    """Map further layers into text space through a layer that is mapped already, on unlabelled images.

    At every place of the mapped layer's grid, the further layer's features, averaged onto that grid, are
    mapped to what the mapped layer says there.

    Args:
        model: The vision model.
        layers: The layers to map.
        batches: Images as the model takes them.
        through: An aligned translator of another layer.
        through_layer: That layer.
        through_reading: How it is read.
        reading: How to read a layer whose layout is ambiguous.

    Raises:
        ValueError: If a layer has no grid, or there are fewer than two places in all.
    """
    known, chosen = taps.resolve(model, through_layer)[0], taps.resolve(model, layers)
    pool = (through_reading or Reading()).pool
    sums = _Sums(through.encoder.width)
    for images in batches:
        with torch.no_grad():
            (target,) = readers.read(model, [known], images, reading=through_reading)
            features = readers.read(model, chosen, images, reading=reading)
            said = through.embed(_rows(through.layers[0], pool(target, "all")))
        for f in features:
            sums.add(f.layer, _onto(f, target), said)
    return sums.solve(
        through.encoder, through.decoder, through.phrases, source="a lens", recall=through.recall
    )


def class_phrase(name: str) -> str:
    """A class name as a text says it: with its article, without what stands in brackets.

    Example:
        >>> class_phrase("crane (machine)")
        'a crane'
    """
    bare = name.split(" (")[0]
    return with_article(bare) if bare.strip() else name


class _Sums:
    """The ridge sums of several layers that share one text space."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.by_layer: dict[str, RidgeSums] = {}

    def add(self, layer: str, rows: Float[Tensor, "n d"], targets: Float[Tensor, "n k"]) -> None:
        if layer not in self.by_layer:
            self.by_layer[layer] = RidgeSums(rows.shape[1], self.width)
        self.by_layer[layer].add(rows, targets)

    def solve(
        self,
        encoder: TextEncoder,
        decoder: TextDecoder | None,
        phrases: Sequence[str],
        *,
        source: str,
        recall: float | None = None,
    ) -> AlignedTranslator:
        if not self.by_layer:
            raise ValueError("there were no images to fit on.")
        solved = {layer: sums.solve() for layer, sums in self.by_layer.items()}
        spread = min(sums.target_spread for sums in self.by_layer.values())
        maps = {layer: fitted for layer, (fitted, _) in solved.items()}
        translator = AlignedTranslator(maps, encoder, decoder, phrases=phrases, spread=spread, recall=recall)
        translator.card = {
            "fitted on": source,
            "maps": {layer: report for layer, (_, report) in solved.items()},
        }
        return translator.eval()


def _subset_mean(features: Features, keep: float, generator: torch.Generator) -> Float[Tensor, "N D"]:
    """The mean over a random subset of places, drawn for each image; never empty."""
    images, places = features.tokens.shape[:2]
    draws = torch.rand(images, places, generator=generator)
    kept = (draws < keep) | (draws == draws.min(dim=1, keepdim=True).values)
    weights = (kept / kept.sum(dim=1, keepdim=True)).to(features.tokens)
    return torch.einsum("nl,nld->nd", weights, features.tokens)


def _rows(slot: str, features: Features) -> Rows:
    places = tuple((image, place) for image in range(features.batch_size) for place in features.locations)
    return Rows({slot: features.rows[:, None]}, features.layer, places)


def _onto(features: Features, target: Features) -> Float[Tensor, "R D"]:
    """Features averaged onto another layer's grid, as rows."""
    if target.grid is None:
        raise ValueError(f"layer '{target.layer}' has no grid of places to look through.")
    maps = features.fold(features.tokens).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(maps, target.grid).flatten(2).transpose(1, 2).reshape(-1, features.width)
