"""A small real translator for models with random weights, for which none can have been trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.description import Description
from torchnle.translators.base import Translator
from torchnle.vision.features import Features


class SeededTexts(Translator):
    """Gives every text a fixed random direction, in any width; the score is the cosine to the features.

    The words mean nothing. What is real is the way they go: rows, places, layers and scores.

    Args:
        vocabulary: What `describe` chooses from.

    Example:
        >>> texts = SeededTexts(["a dog", "grass"])
        >>> features = Features(texts.directions(["grass"], width=8)[None], layer="norm")
        >>> texts.describe(features)[0].text
        'grass'
    """

    score_kind = "cosine"

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)

    @property
    def config(self) -> dict[str, Any]:
        """The vocabulary."""
        return {"vocabulary": list(self.vocabulary)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SeededTexts:
        """Build it from its vocabulary."""
        return cls(**config)

    @staticmethod
    def directions(texts: Sequence[str], width: int) -> Float[Tensor, "T D"]:
        """One unit vector a text, always the same."""
        seeds = [torch.Generator().manual_seed(crc32(text.encode())) for text in texts]
        return F.normalize(torch.stack([torch.randn(width, generator=seed) for seed in seeds]), dim=-1)

    def score(
        self,
        features: Features | Sequence[Features],
        texts: Sequence[str],
        *,
        joint: bool = False,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Cosines, layer by layer; with `joint` their mean over layers."""
        listed = [features] if isinstance(features, Features) else list(features)
        cosines = [
            F.normalize(f.rows.float(), dim=-1) @ self.directions(texts, f.width).T.to(f.rows.device)
            for f in listed
        ]
        return torch.stack(cosines).mean(0) if joint else torch.cat(cosines)

    def describe(
        self,
        features: Features | Sequence[Features],
        *,
        joint: bool = False,
        internal_batch_size: int | None = None,
    ) -> list[Description]:
        """The text of the vocabulary that fits best, for every row."""
        listed = [features] if isinstance(features, Features) else list(features)
        best = self.score(listed, self.vocabulary, joint=joint).max(dim=1)
        name = "+".join(f.layer for f in listed)
        rows = [
            (name if joint else f.layer, image, location)
            for f in (listed[:1] if joint else listed)
            for image in range(f.batch_size)
            for location in f.locations
        ]
        return [
            Description(self.vocabulary[index], score, "cosine", *row)
            for row, score, index in zip(rows, best.values.tolist(), best.indices.tolist(), strict=True)
        ]
