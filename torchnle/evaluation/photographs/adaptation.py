"""Adapt a translator to unlabelled pictures before it describes photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Preprocess
from torchnle.evaluation.photographs.truth import Photograph, picture_files
from torchnle.images import open_image

_BATCH = 16


@dataclass(frozen=True)
class Batches:
    """Preprocessed pictures in batches, iterable any number of times.

    Args:
        files: The picture files.
        preprocess: Converts a picture to the model's input (C, H, W).
    """

    files: tuple[Path, ...]
    preprocess: Preprocess

    def __iter__(self) -> Iterator[Float[Tensor, "B 3 H W"]]:
        """Read the next batch."""
        for start in range(0, len(self.files), _BATCH):
            yield torch.stack([self.preprocess(open_image(f)) for f in self.files[start : start + _BATCH]])


class Adaptation:
    """Adapts an attribution before it describes photographs, without using a photograph's own statistics.

    In `folds` folds, each fold's photographs (those whose index has the same remainder) are described with
    the statistics of the other folds. `lang.adapt` is called for each fold and replaces the earlier call.

    Args:
        lang: The attribution, adapted if it has `adapt`.
        preprocess: The backbone's own.
        folds: 1 = the photographs are not used to adapt.
        folder: Pictures to adapt to once, before the first photograph.

    Raises:
        ValueError: If `folds` is below 1, both are passed, the folder holds no picture, or there is a
            folder and `lang` has no `adapt`.
    """

    def __init__(
        self,
        lang: LanguageAttribution,
        preprocess: Preprocess,
        *,
        folds: int = 1,
        folder: Path | None = None,
    ) -> None:
        self._adapt: Any = getattr(lang, "adapt", None)
        if folds < 1:
            raise ValueError(f"folds={folds}; pass 1 (the photographs are not used to adapt) or more.")
        if folder is not None and folds > 1:
            raise ValueError(f"folds={folds} and the folder {folder} are both given; adapt to one of them.")
        if folder is not None and self._adapt is None:
            raise ValueError(f"the folder {folder} is given, but {type(lang).__name__} has no `adapt`.")
        self._preprocess = preprocess
        self._folds = folds
        self._files = () if folder is None else tuple(picture_files(folder))
        if folder is not None and not self._files:
            raise ValueError(f"the folder {folder} holds no pictures to adapt to.")

    @property
    def statistics(self) -> str:
        """A sentence on the pictures whose statistics are used."""
        if self._files:
            return f"of {len(self._files)} pictures of the folder {self._files[0].parent.name!r}"
        if self._folds == 1:
            return "the translator's own"
        if self._adapt is None:
            return f"the translator's own, in each of {self._folds} folds: it cannot be adapted"
        return f"of the photographs of the other folds, in each of {self._folds} folds by index"

    def folds(self, photographs: Sequence[Photograph]) -> Iterator[list[Photograph]]:
        """Yield the photographs of each fold, after adapting the attribution for them.

        Raises:
            ValueError: If there are more folds than photographs.
        """
        if self._folds > len(photographs):
            raise ValueError(f"folds={self._folds} of {len(photographs)} photographs; pass at most as many.")
        if self._files:
            self._adapt(Batches(self._files, self._preprocess))
        for fold in range(self._folds):
            others = [p.file for index, p in enumerate(photographs) if index % self._folds != fold]
            if others and self._adapt is not None:
                self._adapt(Batches(tuple(others), self._preprocess))
            yield list(photographs[fold :: self._folds])
