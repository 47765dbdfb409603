"""Content words of a sentence, as lemmas."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from torchnle.language.english.caption_words import NO_THINGS
from torchnle.language.english.captions import tagged_words
from torchnle.language.english.nouns import Nouns


@lru_cache(maxsize=200_000)
def content_words(text: str, kinds: tuple[str, ...] = ("noun",)) -> tuple[str, ...]:
    """Find the lemmas of a sentence's content words, each once, in order.

    Words are classified by TextBlob's tagger and WordNet (`tagged_words`); nouns are returned in the
    singular, as WordNet lists them. Words about the picture itself ("photo", "background") and pronouns
    ("one") are left out.

    Args:
        text: One or more sentences, in English.
        kinds: Any of "noun", "modifier" (adjectives, and nouns before nouns) and "verb".

    Raises:
        MissingDependencyError: If textblob is not installed.
        ValueError: If a kind is none of these.

    Example:
        >>> content_words("A photo of two red buses and a hen under the shelves.")
        ('bus', 'hen', 'shelf')
        >>> content_words("a red bus", ("noun", "modifier"))
        ('red', 'bus')
    """
    if unknown := set(kinds) - {"noun", "modifier", "verb"}:
        raise ValueError(f"kinds={kinds} holds {sorted(unknown)}; pass some of 'noun', 'modifier', 'verb'.")
    nouns = Nouns.load()
    found = [
        (nouns.lemma(word.text) or word.text) if word.kind == "noun" else word.text
        for word in tagged_words(text)
        if word.kind in kinds and word.text not in NO_THINGS
    ]
    return tuple(dict.fromkeys(found))


#: A noun with more kinds below it ("object", "animal") is true of almost every picture.
_MOST_KINDS = 2000


@lru_cache(maxsize=200_000)
def words_and_kinds(text: str) -> tuple[str, ...]:
    """Find the nouns of a sentence and their everyday hypernyms, as lemmas.

    If the sentences of a feature contain "robin" or "sparrow", its dominant word is "bird", which none of
    them contains. Pass this as ``split=`` to count such words too. Hypernyms of almost all nouns, and terms
    of several words, are left out.

    Args:
        text: One or more sentences, in English.

    Raises:
        MissingDependencyError: If textblob is not installed.

    Example:
        >>> words_and_kinds("a robin on a sofa")
        ('robin', 'sofa', 'bird', 'furniture')
    """
    found, nouns = list(content_words(text)), Nouns.load()
    for word in content_words(text):
        senses = nouns.common_senses(word)[:1]
        above = nouns.ancestors(senses[0]) if senses and nouns.is_physical(senses[0]) else frozenset()
        found += [
            noun
            for each in sorted(above, key=nouns.kinds)
            if nouns.kinds(each) <= _MOST_KINDS
            and (noun := nouns.common_name(each)) is not None
            and " " not in noun
        ]
    return tuple(dict.fromkeys(found))


def is_english(words: Sequence[str]) -> bool:
    """Return whether at least half of the given nouns are in WordNet; True for no nouns.

    Example:
        >>> is_english(["hen", "water", "qwert"]), is_english(["huhn", "wiese", "kuh"])
        (True, False)
    """
    nouns = Nouns.load()
    return 2 * sum(nouns.lemma(word) is not None for word in words) >= len(words)
