"""What captioned pictures give, in one pass: each layer's prototypes, statistics and calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchnle.language.texts import shorten
from torchnle.methods.aligned.probability.calibration import calibrate_by_captions, choose_offset, marks
from torchnle.methods.aligned.reader import Reader, check_batch
from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.aligned.text_features.phrase_sums import PhraseSums
from torchnle.methods.aligned.text_features.statistics import DomainSums
from torchnle.methods.aligned.text_features.text_map import Classes, Encode, TextMap

#: After this many pictures every eighth is kept out of the fit, to calibrate on; fewer than 32 are too few.
_FIRST, _EIGHTH, _ENOUGH = 64, 8, 32
#: Finds the noun phrases of a caption.
Parse = Callable[[str], Sequence[str]]


class CaptionedSums:
    """The sums over captioned pictures for every layer that is read; memory does not grow with the data.

    Attributes:
        count: How many pictures were added.
        example: One of them, (1, C, H, W); None where there was none.
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
        """Read a batch of images, and add it with its captions' phrases.

        Raises:
            TypeError: If images are no tensor, or captions one string or no strings.
            ValueError: If there is not one caption an image.
        """
        _check_captions(check_batch(images), captions)
        phrases = [tuple(parse(caption)) for caption in captions]
        fitted = [index for index in range(len(phrases)) if not _kept_out(self.count + index)]
        for layer, (pooled, locations) in reader.rows(images).items():
            sums = self.sums.setdefault(layer, PhraseSums(pooled.shape[1]))
            sums.add(pooled[fitted], [phrases[index] for index in fitted])
            self.domains.setdefault(layer, DomainSums(pooled.shape[1])).add(pooled, locations)
        self.example = images[:1] if self.example is None else self.example
        self._named.update(enumerate(phrases, start=self.count))
        self.count += len(phrases)
        sampled = {number for domain in self.domains.values() for number in domain.sampled}
        self._named = {number: self._named[number] for number in sampled}

    def fit(
        self, layer: str, encode: Encode, classes: Classes | None, shrinkage: float
    ) -> tuple[TextMap, tuple[str, ...]]:
        """Fit a layer's map, and calibrate it; also give the phrases that it was fitted to.

        Raises:
            ValueError: If there are too few images or phrases, or features do not vary with them.
        """
        try:
            prototypes = self.sums[layer].solve()
        except ValueError as error:
            raise ValueError(f"layer '{layer}' cannot be mapped: {error}") from error
        fitted = TextMap.fit(encode, prototypes=prototypes, classes=classes, shrinkage=shrinkage)
        domain = self.domains[layer]
        fitted.read_in(domain.solve())
        kept_out = [slot for slot, number in enumerate(domain.sampled) if _kept_out(number)]
        slots = kept_out if len(kept_out) >= _ENOUGH else range(len(domain.sampled))
        marked = marks([self._named[domain.sampled[slot]] for slot in slots], prototypes.phrases)
        sample = torch.stack([domain.sample[slot] for slot in slots])
        calibrate_by_captions(fitted, sample, marked)
        if isinstance(fitted.regression, KernelRidge):
            left_out = fitted.regression.left_out()[: len(prototypes.phrases)]
            fitted.offset.fill_(choose_offset(fitted, left_out, sample, marked))
        return fitted, prototypes.phrases


def _kept_out(number: int) -> bool:
    return number >= _FIRST and number % _EIGHTH == _EIGHTH - 1


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
