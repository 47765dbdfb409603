"""Sentences of whole pictures, kept only where they fit the feature at least as the best phrase does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.probability.truth import probability_of, repeats
from torchnle.methods.aligned.saying import Said
from torchnle.translators.rows import Rows

if TYPE_CHECKING:
    from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
    from torchnle.methods.aligned.translator import MapTranslator


class Sentences:
    """Turns probabilities of phrases into a sentence by a text decoder, and judges it by the map.

    The decoder is given the mean of the phrases' embeddings, weighted by their probabilities (a memory of
    phrases; DeCap, Li et al., 2023, section 3.2), at the distance of a phrase from the mean of all.

    Args:
        translator: Whose vocabulary and maps are used.
        decoder: Says the sentences; None = the translator's own.
    """

    def __init__(self, translator: MapTranslator, decoder: TextDecoder | None = None) -> None:
        self.translator, self.decoder = translator, decoder or translator.decoder

    def improve(self, rows: Rows, posterior: Float[Tensor, "R P"], said: list[Said]) -> list[Said]:
        """Say a sentence in a phrase's stead where its score on the feature is at least the best phrase's."""
        return self.judge(rows, posterior, said, self.decode(posterior))

    def judge(
        self, rows: Rows, posterior: Float[Tensor, "R P"], said: list[Said], texts: list[str]
    ) -> list[Said]:
        """Keep sentences that were decoded where their score is at least the best phrase's, as `improve`."""
        translator = self.translator
        sentences = translator._scores(
            rows, [text or each.text for text, each in zip(texts, said, strict=True)]
        )
        best = translator._scores(rows, [translator.vocabulary.phrases[i] for i in posterior.argmax(dim=1)])
        return [
            Said(text, self._probability(text, share, each))
            if text and text != each.text and score >= phrase and not repeats(text)
            else each
            for text, score, phrase, share, each in zip(
                texts, sentences.tolist(), best.tolist(), posterior, said, strict=True
            )
        ]

    def decode(self, posterior: Float[Tensor, "R P"]) -> list[str]:
        """Decode a sentence from each row of probabilities."""
        if self.decoder is None:
            raise ValueError("this translator has no text decoder.")
        return list(self.decoder.decode(recall(posterior, self.translator.vectors.to(posterior))).texts)

    def _probability(self, text: str, share: Float[Tensor, "P"], phrase: Said) -> float:
        """The probability of the phrases that the sentence's parts are about; of the phrase where none is."""
        found = probability_of(text, share, self.translator.vocabulary)
        return phrase.probability if found is None else found
