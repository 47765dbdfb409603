"""Sums over captioned pictures, in one pass: each layer's prototypes, statistics and calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from torchnle.language.texts import shorten
from torchnle.methods.aligned.probability.calibration import calibrate_by_captions, choose_offset, marks
from torchnle.methods.aligned.reader import Reader, check_batch
from torchnle.methods.aligned.text_features.phrase_sums import PhraseSums
from torchnle.methods.aligned.text_features.statistics import DomainSums
from torchnle.methods.aligned.text_features.text_map import Classes, Encode, TextMap

#: Every eighth of the sampled pictures is calibrated on; fewer than 32 are too few, and all are taken.
_EIGHTH, _ENOUGH = 8, 32
#: Finds the noun phrases of a caption.
Parse = Callable[[str], Sequence[str]]
_Fit: TypeAlias = tuple[TextMap, tuple[str, ...]]


class CaptionedSums:
    """Accumulates the sums that fit a map for every layer; memory does not grow with the data.

    Attributes:
        count: The number of pictures added.
        example: One of them, (1, C, H, W); None if there was none.
        sums: Each layer's normal equations.
        domains: Each layer's statistics.
    """

    def __init__(self) -> None:
        self.count = 0
        self.example: Tensor | None = None
        self.sums: dict[str, PhraseSums] = {}
        self.domains: dict[str, DomainSums] = {}
        self._named: dict[int, Sequence[str]] = {}  # the phrases of the pictures that are sampled

    def add(self, reader: Reader, images: Tensor, captions: Sequence[str], parse: Parse) -> None:
        """Read the features of a batch of images, and add them with the phrases of its captions.

        Raises:
            TypeError: If `images` is no tensor, or `captions` is one string or holds other than strings.
            ValueError: If there is not one caption per image.
        """
        _check_captions(check_batch(images), captions)
        phrases = [tuple(parse(caption)) for caption in captions]
        for layer, (pooled, locations) in reader.rows(images).items():
            self.sums.setdefault(layer, PhraseSums(pooled.shape[1])).add(pooled, phrases)
            self.domains.setdefault(layer, DomainSums(pooled.shape[1])).add(pooled, locations)
        self.example = images[:1] if self.example is None else self.example
        self._named.update(enumerate(phrases, start=self.count))
        self.count += len(phrases)
        sampled = {number for domain in self.domains.values() for number in domain.sampled}
        self._named = {number: self._named[number] for number in sampled}

    def fit(self, layer: str, encode: Encode, classes: Classes | None, shrinkage: float) -> _Fit:
        """Fit and calibrate a layer's map; return it with the phrases that it was fitted to.

        Raises:
            ValueError: If there are too few images or phrases, or features do not vary with them.
        """

        def fit(sums: PhraseSums) -> _Fit:
            prototypes = sums.solve()
            fitted = TextMap.fit(encode, prototypes=prototypes, classes=classes, shrinkage=shrinkage)
            fitted.set_statistics(self.domains[layer].solve())
            return fitted, prototypes.phrases

        try:
            fitted, phrases = fit(self.sums[layer])
            self._calibrate(layer, fitted, phrases, fit)
        except ValueError as error:
            raise ValueError(f"layer '{layer}' cannot be mapped: {error}") from error
        return fitted, phrases

    def _calibrate(
        self, layer: str, fitted: TextMap, phrases: Sequence[str], fit: Callable[[PhraseSums], _Fit]
    ) -> None:
        """Choose a map's constants on pictures that a fit like its own did not see, if there are enough."""
        domain = self.domains[layer]
        apart = [slot for slot, number in enumerate(domain.sampled) if number % _EIGHTH == 0]
        slots = apart if len(apart) >= _ENOUGH else range(len(domain.sampled))
        sample = torch.stack([domain.sample[slot] for slot in slots])
        named = [self._named[domain.sampled[slot]] for slot in slots]
        like = fitted
        if len(apart) >= _ENOUGH:
            like, phrases = fit(self.sums[layer].without(sample, named))
        marked = marks(named, phrases)
        calibrate_by_captions(like, sample, marked)
        fitted.temperature.copy_(like.temperature)
        fitted.head_share.copy_(like.head_share)
        fitted.offset.fill_(choose_offset(like, sample, marked))
        like.adapt_shrinkage(sample)
        fitted.own_shrinkage = like.own_shrinkage


def _check_captions(images: Tensor, captions: object) -> None:
    if isinstance(captions, str | Tensor) or not isinstance(captions, Sequence):
        raise TypeError(
            f"the captions of a batch are a {type(captions).__name__}; pass a list, one string an image."
        )
    for index, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise TypeError(f"captions[{index}] is {shorten(repr(caption))}; every caption must be a string.")
    if len(images) != len(captions):
        raise ValueError(f"{len(captions)} captions came with {len(images)} images; pass one an image.")
