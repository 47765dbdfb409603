"""Count the words of rows in one call: sentences, those without an image, and their table."""

from __future__ import annotations

from collections.abc import Sequence

from torchnle.language.english.content_words import content_words
from torchnle.methods.texplain.words.sentences import Sampling, sentences_of, sentences_without_image
from torchnle.methods.texplain.words.table import Split, WordTable
from torchnle.translators.base import Translator
from torchnle.translators.rows import Rows


def words_of(
    translator: Translator,
    rows: Rows,
    sampling: Sampling | None = None,
    *,
    split: Split = content_words,
    without_image: bool = True,
    phrases: Sequence[str] | None = None,
) -> WordTable:
    """Count the words of a translator's descriptions of every row.

    Args:
        translator: The translator.
        rows: Of one layer.
        sampling: How to draw sentences; None = a map's phrases by their probabilities.
        split: Finds the words of a sentence.
        without_image: Subtract the frequencies that words have without any image.
        phrases: Without sampling: let only these compete.

    Raises:
        TypeError: If the translator can neither write nor give probabilities of phrases.
        ValueError: As `WordTable.of`.
    """
    sentences = sentences_of(translator, rows, sampling, phrases=phrases)
    prior = sentences_without_image(translator, sampling) if without_image and phrases is None else None
    return WordTable.of(sentences, prior, split=split, seed=None if sampling is None else sampling.seed)
