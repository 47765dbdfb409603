"""An audit: the words of a classifier's images, their relation to its classes, and its shortcuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.english.content_words import content_words
from torchnle.methods.aligned.probability.vocabulary import background_phrases
from torchnle.methods.texplain.audit.class_words import ClassWords
from torchnle.methods.texplain.audit.contexts import (
    check_contexts,
    context_nouns,
    usable_contexts,
    warn_of_few_texts,
)
from torchnle.methods.texplain.audit.shortcuts import ShortcutReport, find_shortcuts
from torchnle.methods.texplain.words.sentences import Sampling
from torchnle.methods.texplain.words.table import Word, WordTable
from torchnle.methods.texplain.words.word_counts import words_of
from torchnle.translators.base import Translator
from torchnle.translators.rows import Rows


@dataclass(frozen=True)
class Audit:
    """The result of an audit: the words of every image, and the shortcuts of every class.

    Args:
        class_words: The classes, and which words name them.
        words: The words of every image.
        labels: The classes of the images.
        predicted: The model's predictions.
        shortcuts: The shortcuts of every class.
    """

    class_words: ClassWords
    words: WordTable
    labels: Int[Tensor, "N"]
    predicted: Int[Tensor, "N"]
    shortcuts: ShortcutReport

    @property
    def first_words(self) -> list[tuple[str, str]]:
        """The dominant word of every image, and its relation to the image's class.

        The paper's problematic samples (section 4.4) are those whose dominant word does not name their class.
        """
        kind = self.class_words.kind
        return [
            (word, kind(word, c)) for word, c in zip(self.words.first(), self.labels.tolist(), strict=True)
        ]

    def of_class(self, label: int, k: int = 10) -> list[Word]:
        """List the dominant words of a class.

        Raises:
            ValueError: If the class has no image.
        """
        return self.words[self.labels == label].top(k)

    def __str__(self) -> str:
        return str(self.shortcuts)


def audit_features(
    translator: Translator,
    rows: Rows,
    labels: Int[Tensor, "N"],
    logits: Float[Tensor, "M C"],
    class_names: Sequence[str],
    *,
    contexts: Sequence[str] | None = None,
    also: Mapping[str, Sequence[str]] | None = None,
    sampling: Sampling | None = None,
    k: int = 10,
) -> Audit:
    """Find the shortcuts of a classifier from its images' features and logits.

    Args:
        translator: Describes the features.
        rows: One row per image, of one layer.
        labels: The class of each image.
        logits: The classifier's logits, one row per image.
        class_names: The classes in plain words ("land bird"); WordNet decides which words name them.
        contexts: Phrases for the surroundings of objects, compared as they are ("a yellow corner"); with
            `sampling` by their nouns. None = the shipped list (sky, water, grass, ...).
        also: Further words that name a class, besides WordNet's, by class name.
        sampling: How to draw sentences; None = use a map's phrases by their probabilities.
        k: The number of words per class.

    Returns:
        The audit.

    Raises:
        TypeError: As `words_of`, or if `contexts` are one string.
        ValueError: As `find_shortcuts`, or if no context is left that names no class.
    """
    phrases = background_phrases() if contexts is None else check_contexts(contexts)
    own = () if contexts is None else phrases
    if sampling is not None:
        class_words = ClassWords(class_names, also=also, background=context_nouns(own) if own else ())
        table = around = words_of(translator, rows, sampling)
    else:
        warn_of_few_texts(translator, phrases)
        class_words = ClassWords(class_names, also=also, background=own)
        table = words_of(translator, rows)
        phrases = usable_contexts(phrases, class_words) if own else phrases
        split = _whole if own else content_words
        around = words_of(translator, rows, phrases=phrases, split=split)
    report = find_shortcuts(around, labels, logits, class_words, k=k)
    return Audit(class_words, table, labels, logits.argmax(dim=1), report)


def _whole(phrase: str) -> tuple[str, ...]:
    """Return a phrase as its only word: contexts that a user names are compared as they are."""
    return (phrase,)
