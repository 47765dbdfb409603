"""A small translator for models with random weights, for which none can be trained."""

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
from torchnle.translators.rows import Rows


class SeededTexts(Translator):
    """Gives every text a fixed random direction, in any width; the score is the cosine to the features.

    The words have no meaning; rows, locations, layers and scores are processed as usual.

    Args:
        vocabulary: The texts that `describe` chooses from.

    Example:
        >>> from torchnle.vision.features import Features
        >>> from torchnle.translators.rows import rows_of
        >>> texts = SeededTexts(["a dog", "grass"])
        >>> features = Features(texts.directions(["grass"], width=8)[None], layer="norm")
        >>> texts.describe(rows_of([features]))[0].text
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
        """Build the translator from its vocabulary."""
        return cls(**config)

    @staticmethod
    def directions(texts: Sequence[str], width: int) -> Float[Tensor, "T D"]:
        """Return one unit vector a text, always the same."""
        seeds = [torch.Generator().manual_seed(crc32(text.encode())) for text in texts]
        return F.normalize(torch.stack([torch.randn(width, generator=seed) for seed in seeds]), dim=-1)

    def score(
        self,
        rows: Sequence[Rows],
        texts: Sequence[str],
        *,
        prior: bool = False,
        internal_batch_size: int | None = None,
    ) -> Float[Tensor, "rows texts"]:
        """Compute cosines, of layers that are read together their mean."""
        parts = []
        for group in rows:
            units = [F.normalize(x.flatten(0, 1).float(), dim=-1) for x in group.tokens.values()]
            cosines = [unit @ self.directions(texts, unit.shape[1]).T.to(unit) for unit in units]
            parts.append(torch.stack(cosines).mean(dim=0))
        return torch.cat(parts)

    def describe(self, rows: Sequence[Rows], *, internal_batch_size: int | None = None) -> list[Description]:
        """Choose the text of the vocabulary with the highest score, for every row."""
        best = self.score(rows, self.vocabulary).max(dim=1)
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [Description(self.vocabulary[index], score) for score, index in pairs]
