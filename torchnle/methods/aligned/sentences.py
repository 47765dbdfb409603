"""Sentences of whole pictures, kept only where they fit the feature at least as the best phrase does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.saying import Said
from torchnle.translators.rows import Rows

if TYPE_CHECKING:
    from torchnle.methods.aligned.translator import MapTranslator

_PARTS = re.compile(r",| and | with | on | in front of ")


class Sentences:
    """Turns probabilities of phrases into a sentence by a text decoder, and judges it by the map.

    The decoder is given the mean of the phrases' embeddings, weighted by their probabilities (a memory of
    phrases; DeCap, Li et al., 2023, section 3.2), at the distance of a phrase from the mean of all.

    Args:
        translator: Whose decoder, vocabulary and maps are used.
    """

    def __init__(self, translator: MapTranslator) -> None:
        self.translator = translator
        vectors = translator.vectors
        self.center = vectors.mean(dim=0)
        self.spread = (vectors - self.center).norm(dim=1).mean()

    def improve(self, rows: Rows, posterior: Float[Tensor, "R P"], said: list[Said]) -> list[Said]:
        """Say a sentence in a phrase's stead where its score on the feature is at least the best phrase's."""
        translator = self.translator
        texts = self.decode(posterior)
        sentences = translator._scores(
            rows, [text or each.text for text, each in zip(texts, said, strict=True)]
        )
        best = translator._scores(rows, [translator.vocabulary.phrases[i] for i in posterior.argmax(dim=1)])
        return [
            Said(text, self._probability(text, share, each))
            if text and text != each.text and score >= phrase and not _repeats(text)
            else each
            for text, score, phrase, share, each in zip(
                texts, sentences.tolist(), best.tolist(), posterior, said, strict=True
            )
        ]

    def decode(self, posterior: Float[Tensor, "R P"]) -> list[str]:
        """Decode a sentence from each row of probabilities."""
        steps = self.translator.vectors.to(posterior) - self.center.to(posterior)
        mean = F.normalize(posterior @ steps, dim=1)
        decoder = self.translator.decoder
        if decoder is None:
            raise ValueError("this translator has no text decoder.")
        vectors = self.center.to(mean) + self.spread.to(mean) * mean
        return list(decoder.decode(vectors).texts)

    def _probability(self, text: str, share: Float[Tensor, "P"], phrase: Said) -> float:
        """The probability of the phrases that the sentence's parts are about; of the phrase where none is."""
        vocabulary = self.translator.vocabulary
        parts = {part.strip() for part in _PARTS.split(text)}
        known = torch.tensor([p in parts for p in vocabulary.phrases], device=share.device)
        return max(float(share[known].sum()), min(phrase.probability, 1.0) if not known.any() else 0.0)


def _repeats(text: str) -> bool:
    parts = [part.strip() for part in _PARTS.split(text) if part.strip()]
    return len(set(parts)) < len(parts)
