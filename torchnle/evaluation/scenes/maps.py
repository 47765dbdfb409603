"""Localisation of the objects of scenes: saliency variants by the pointing game and related measures.

A constant over all locations does not move a map's maximum, so a text's prior and length have an effect only
together with a contrast.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.attr.inputs import input_maps
from torchnle.attr.score_maps import against
from torchnle.data import Scene
from torchnle.evaluation.subject import all_locations
from torchnle.metrics import best_iou, box_masks, chance_level, energy_inside, pointing_hits
from torchnle.translators.base import Translator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features

#: The name of the mean of all layers' maps.
MEAN = "mean of layers"


class Pointing:
    """Accumulates the localisation measures of maps, by layer and variant.

    Example:
        >>> pointing = Pointing()
        >>> maps = torch.zeros(1, 4, 4)
        >>> maps[0, 0, 0] = 1
        >>> pointing.add("layer", "raw", maps, box_masks([(0, 0, 2, 2)], (4, 4)))
        >>> pointing.means()["layer"]["raw"]["strict"]
        1.0
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )

    def add(self, layer: str, variant: str, maps: Tensor, masks: Tensor) -> None:
        """Measure maps (N, H, W) on boxes (N, H, W)."""
        measures = {
            "strict": pointing_hits(maps, masks, tolerance=0),
            "within_15": pointing_hits(maps, masks),
            "energy": energy_inside(maps, masks),
            "iou": best_iou(maps, masks),
        }
        for name, values in measures.items():
            self._values[layer][variant][name] += values.tolist()

    def means(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the means by layer, variant and measure, over all objects."""
        return {
            layer: {
                variant: {name: sum(values) / len(values) for name, values in measures.items()}
                for variant, measures in variants.items()
            }
            for layer, variants in self._values.items()
        }


@torch.no_grad()
def point(
    lang: LanguageAttribution,
    scenes: Sequence[Scene],
    features: Sequence[Features],
    rivals: Sequence[str],
    pointing: Pointing,
    *,
    internal_batch_size: int | None = None,
) -> None:
    """Measure the maps of every object's phrase in a batch of scenes against the object's box.

    Args:
        lang: The attached translator.
        scenes: The scenes.
        features: The features of each layer.
        rivals: The other texts of the contrast variants.
        pointing: Accumulates the measures.
        internal_batch_size: The largest number of rows in the language model at once.
    """
    located = all_locations(lang, features)
    for index, scene in enumerate(scenes):
        masks, size = masks_of(scene)
        queries = [item.phrase for item in scene.objects]
        total: dict[str, Tensor] = {}
        for f in located:
            one = f.images([index])
            found = variants(lang.translator, one, queries, rivals, internal_batch_size=internal_batch_size)
            for variant, scores in found.items():
                maps = enlarge(one, scores, size)
                pointing.add(f.layer, variant, maps, masks)
                total[variant] = total.get(variant, 0) + maps / len(located)
        for variant, maps in total.items() if len(located) > 1 else ():
            pointing.add(MEAN, variant, maps, masks)


def chance(scenes: Sequence[Scene]) -> dict[str, float]:
    """Compute the chance level of every measure, averaged over all objects."""
    masks = [masks_of(scene)[0] for scene in scenes]
    means = {
        name: torch.cat([chance_level(mask, tolerance=pixels) for mask in masks]).mean().item()
        for name, pixels in (("strict", 0.0), ("within_15", 15.0))
    }
    return {**means, "energy": means["strict"], "iou": means["strict"]}


def variants(
    translator: Translator,
    features: Features,
    queries: Sequence[str],
    rivals: Sequence[str],
    *,
    internal_batch_size: int | None = None,
) -> dict[str, Float[Tensor, "rows queries"]]:
    """Compute every variant of the texts' scores on rows, from one scoring."""
    every = [*queries, *(rival for rival in rivals if rival not in queries)]
    rows = rows_of(features)
    raw = translator.score(rows, every, internal_batch_size=internal_batch_size)
    count = len(queries)
    found = {"raw": raw[:, :count]}
    for name, offset, lengths in _forms(translator, features, every) if rivals else ():
        scores = (raw - offset) / lengths / translator.softmax_temperature(rows)
        found[name] = against(scores, range(count), range(count, len(every)))
    return found


def enlarge(
    features: Features, scores: Float[Tensor, "rows queries"], size: tuple[int, int]
) -> Float[Tensor, "queries H W"]:
    """Interpolate the maps of one image to the size of its picture."""
    maps = features.fold(scores).permute(0, 3, 1, 2)
    enlarged: Tensor = input_maps.enlarge(maps, size, "bicubic")[0]
    return enlarged


def masks_of(scene: Scene) -> tuple[Tensor, tuple[int, int]]:
    """Return the boxes of a scene's objects as masks, and the picture's (height, width)."""
    size = (scene.image.height, scene.image.width)
    return box_masks([item.box for item in scene.objects], size), size


def _forms(
    translator: Translator, features: Features, texts: Sequence[str]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the contrasts, each with the amount subtracted from a text's score and its divisor."""
    nothing, one = torch.zeros(len(texts)), torch.ones(len(texts))
    yield "contrast", nothing, one
    if translator.score_kind == "log_prob":
        row = rows_of(Features(features.tokens[:1, :1], features.layer))
        scores = translator.score(row, texts)[0]
        prior = scores - translator.score(row, texts, prior=True)[0]
        lengths = translator.text_lengths(texts)
        yield "contrast, less the prior", prior, one
        yield "contrast, by length", nothing, lengths
        yield "contrast, less the prior, by length", prior, lengths


def rivals_from(phrases: Sequence[str], count: int, seed: int) -> list[str]:
    """Draw the texts of the contrast variants: a sample of the phrases."""
    order = torch.randperm(len(phrases), generator=torch.Generator().manual_seed(seed))
    return [phrases[i] for i in order[:count].tolist()]
