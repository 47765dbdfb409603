"""The ridge probe, a baseline: regress phrases on pooled features, and apply it to locations."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from torchnle.attr import LanguageAttribution
from torchnle.data import Scene
from torchnle.evaluation.scenes.maps import Pointing, enlarge, masks_of
from torchnle.evaluation.scenes.ridge import RidgeMap, RidgeSums
from torchnle.evaluation.subject import all_locations, at, whole
from torchnle.vision.features import Features


class Probe:
    """Ridge regressions from each layer's pooled, standardised features to the phrases of a scene.

    It is fitted to whole images only, as a translator is, and applied to single locations: a baseline on the
    same features.

    Args:
        phrases: All phrases.
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        self.phrases = list(phrases)
        self._maps: dict[str, RidgeMap] = {}
        self._named: dict[str, list[bool]] = {}
        self._pointing = Pointing()

    def fit(
        self, lang: LanguageAttribution, batches: Iterable[tuple[Sequence[Scene], Sequence[Features]]]
    ) -> None:
        """Fit the regressions to scenes and the features of their layers."""
        sums: dict[str, RidgeSums] = {}
        for scenes, features in batches:
            labels = torch.zeros(len(scenes), len(self.phrases))
            for i, scene in enumerate(scenes):
                labels[i, [self.phrases.index(item.phrase) for item in scene.objects]] = 1.0
            for f in whole(lang, features):
                layer = sums.setdefault(f.layer, RidgeSums(f.width, len(self.phrases)))
                layer.add(f.rows, labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few scenes for many channels: the penalty is chosen accordingly
            self._maps = {layer: layer_sums.solve()[0] for layer, layer_sums in sums.items()}

    @torch.no_grad()
    def add(self, lang: LanguageAttribution, scenes: Sequence[Scene], features: Sequence[Features]) -> None:
        """Name and locate the objects of unseen scenes at single locations."""
        for f in all_locations(lang, features):
            scores = self._maps[f.layer]
            for index, scene in enumerate(scenes):
                one = f.images([index])
                truth = [self.phrases.index(item.phrase) for item in scene.objects]
                spots = [item.location(one.grid or (1, 1)) for item in scene.objects]
                guesses = scores(at(one, [0] * len(spots), spots).rows).argmax(dim=1).tolist()
                named = self._named.setdefault(f.layer, [])
                named += [guess == phrase for guess, phrase in zip(guesses, truth, strict=True)]
                masks, size = masks_of(scene)
                self._pointing.add(f.layer, "raw", enlarge(one, scores(one.rows)[:, truth], size), masks)

    def results(self) -> Mapping[str, Any]:
        """Return, by layer, the share of objects "named" at their location and the measures of the maps."""
        found = self._pointing.means()
        return {
            layer: {"named": sum(named) / len(named), **found[layer]["raw"]}
            for layer, named in self._named.items()
        }
