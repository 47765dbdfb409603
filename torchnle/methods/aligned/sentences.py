"""Sentences for whole pictures, kept only if they score at least as high as the best phrase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.probability.truth import probability_of, repeats
from torchnle.methods.aligned.text_choice import TextChoice
from torchnle.translators.rows import Rows

if TYPE_CHECKING:
    from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
    from torchnle.methods.aligned.translator import MapTranslator


class Sentences:
    """Decodes a sentence from phrases' probabilities, and keeps it only if the map scores it high enough.

    The decoder reads the mean of the phrases' embeddings, weighted by their probabilities (phrase memory;
    DeCap, Li et al., 2023, section 3.2), rescaled as in `recall`.

    Args:
        translator: Gives the vocabulary and the maps.
        decoder: The text decoder; None = the translator's own.
    """

    def __init__(self, translator: MapTranslator, decoder: TextDecoder | None = None) -> None:
        self.translator, self.decoder = translator, decoder or translator.decoder

    def improve(
        self, rows: Rows, posterior: Float[Tensor, "R P"], choices: list[TextChoice]
    ) -> list[TextChoice]:
        """Replace a phrase by a decoded sentence where the sentence's score is at least the best phrase's."""
        return self.judge(rows, posterior, choices, self.decode(posterior))

    def judge(
        self, rows: Rows, posterior: Float[Tensor, "R P"], choices: list[TextChoice], texts: list[str]
    ) -> list[TextChoice]:
        """Keep given sentences where their score is at least the best phrase's; else the phrases."""
        translator = self.translator
        sentences = translator._scores(
            rows, [text or each.text for text, each in zip(texts, choices, strict=True)]
        )
        best = translator._scores(rows, [translator.vocabulary.phrases[i] for i in posterior.argmax(dim=1)])
        return [
            TextChoice(text, self._probability(text, share, each))
            if text and text != each.text and score >= phrase and not repeats(text)
            else each
            for text, score, phrase, share, each in zip(
                texts, sentences.tolist(), best.tolist(), posterior, choices, strict=True
            )
        ]

    def decode(self, posterior: Float[Tensor, "R P"]) -> list[str]:
        """Decode a sentence from each row of probabilities."""
        if self.decoder is None:
            raise ValueError("this translator has no text decoder.")
        return list(self.decoder.decode(recall(posterior, self.translator.vectors.to(posterior))).texts)

    def _probability(self, text: str, share: Float[Tensor, "P"], phrase: TextChoice) -> float:
        """The probability of the phrases that the sentence's parts are about; of the phrase where none is."""
        found = probability_of(text, share, self.translator.vocabulary)
        return phrase.probability if found is None else found
