"""Sentences of the explorer, written behind the phrases of a region."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torchnle.description import Description
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
from torchnle.methods.aligned.sentences import Sentences
from torchnle.methods.aligned.text_choice import TextChoice
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.translators.base import Translator
from torchnle.translators.rows import Rows


class SentenceWriter:
    """Writes sentences for rows that were already described by phrases.

    Args:
        translator: Of a map from text into features the decoder is taken away, so that phrases come first;
            other translators decode sentences themselves.
        decoder: The decoder, or its reference, loaded when it is first needed; None = the translator's own.
    """

    def __init__(self, translator: Translator, decoder: TextDecoder | str | None = None) -> None:
        self.translator = translator
        self._decoder = decoder
        if isinstance(translator, MapTranslator) and translator.decoder is not None:
            self._decoder = decoder or translator.decoder
            translator.decoder = None

    @property
    def offered(self) -> bool:
        """True if there are sentences besides phrases."""
        return isinstance(self.translator, MapTranslator) and self._decoder is not None

    def load(self) -> TextDecoder | None:
        """Load the decoder, so that the first sentence does not wait for it."""
        if isinstance(self._decoder, str):
            self._decoder = TextDecoder.from_pretrained(self._decoder)
        return self._decoder

    def __call__(
        self, rows: Rows, description: Description, alone: Callable[[], AbstractContextManager[Any]]
    ) -> dict[str, Any]:
        """Write a sentence; "text" is None where none fits at least as well as the best phrase.

        Args:
            rows: One row.
            description: Its description by a phrase.
            alone: Keeps other threads out of the translator; not held while the sentence is written.

        Raises:
            ValueError: If no sentences are offered.
        """
        if not isinstance(self.translator, MapTranslator) or self._decoder is None:
            raise ValueError("there is no text decoder here; descriptions are phrases only.")
        sentences = Sentences(self.translator, self.load())
        with alone():
            shares = self.translator.probabilities([rows])
        texts = sentences.decode(shares)
        phrase = TextChoice(description.text, description.probability or 0.0)
        with alone():
            named = rows.for_inputs(_widths(self.translator), self.translator.name)
            (found,) = sentences.judge(named, shares, [phrase], texts)
        accepted = found.text != description.text
        return {
            "text": found.text if accepted else None,
            "probability": found.probability if accepted else None,
            "unsure": accepted and found.probability < _sure_above(self.translator, rows),
        }


def _widths(translator: MapTranslator) -> dict[str, int]:
    return {layer: fitted.width for layer, fitted in translator.by_layer.items()}


def _sure_above(translator: MapTranslator, rows: Rows) -> float:
    return translator.sure_above if rows.pooled else translator.sure_above_at_location
