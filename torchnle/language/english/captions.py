"""Noun phrases of captions, in a normal form in which different captions can share them."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from functools import cache

from torchnle.errors import optional_package
from torchnle.language.english.caption_tags import Word, corrected, without_guesses
from torchnle.language.english.caption_words import (
    FRAMES,
    NO_THINGS,
    NUMBERS,
    POINTERS,
    RELATIONS,
    UNIQUE,
    VESSELS,
)
from torchnle.language.english.nouns import Nouns
from torchnle.language.english.phrases import PARTITIVES, is_plural, with_article

_DIGITS = {str(number): word for number, word in enumerate(NUMBERS, start=2)}
_TOKEN = re.compile(r"[^\W_]+(?:['.&-]+[^\W_]+)*|[,;:!?()/.&]")


def phrases_of(caption: str) -> tuple[str, ...]:
    """Find the noun phrases of a caption, in order, each once.

    Words are tagged by TextBlob's pattern tagger, which needs no download; its most frequent errors are
    corrected by WordNet's nouns. "the", "his" and "some" become the article that the noun takes ("a dog",
    "dogs", "grass"), so that captions share their phrases. Numbers are kept, since two dogs do not look like
    one; `Nouns.of_phrase` ignores them. "X of Y" is one phrase if X measures or contains Y ("a glass of
    wine"), and else two. Words about the picture itself ("a photo of", "in front of") are left out.

    Args:
        caption: One or more sentences, in English.

    Returns:
        The phrases; empty if there is none.

    Raises:
        MissingDependencyError: If textblob is not installed.

    Example:
        >>> phrases_of("A red car and a dog in front of a beach")
        ('a red car', 'a dog', 'a beach')
        >>> phrases_of("Two giraffes standing next to each other in the tall grass.")
        ('two giraffes', 'tall grass')
        >>> phrases_of("Running fast!")
        ()
    """
    return tuple(dict.fromkeys(_joined(list(_chunks(tagged_words(caption))))))


def tagged_words(caption: str) -> list[Word]:
    """Classify the words of a caption by their part in its noun phrases.

    Args:
        caption: One or more sentences, in English; words about the picture itself ("a photo of") are left
            out.

    Returns:
        The words with their kinds, in order.

    Raises:
        MissingDependencyError: If textblob is not installed.

    Example:
        >>> [tuple(word) for word in tagged_words("A photo of a red car")]
        [(';', 'list'), ('a', 'article'), ('red', 'modifier'), ('car', 'noun')]
    """
    text = caption.lower().replace("\u2019", "'")
    tokens = [
        _DIGITS.get(token, token) for token in _TOKEN.findall(RELATIONS.sub(" ; ", FRAMES.sub(" ; ", text)))
    ]
    if not tokens:
        return []
    tag, lexicon = _tagger()
    tagged = without_guesses(tag(" ".join(tokens), tokenize=False), lexicon, Nouns.load())
    return corrected(tagged, Nouns.load())


@dataclass
class _Chunk:
    """A noun phrase, and whether "of" and the next one follow it."""

    words: list[str] = field(default_factory=list)
    of: bool = False


def _chunks(words: list[Word]) -> Iterator[_Chunk]:
    """Cut tagged words into articles, modifiers and nouns."""
    chunk = _Chunk()
    nouns = 0  # the words of the chunk up to its last noun
    for word in [*words, Word("", "end")]:
        begins = word.kind == "article" and bool(nouns)
        if begins or word.kind not in ("article", "modifier", "noun"):
            if nouns and chunk.words[nouns - 1] not in NO_THINGS:
                yield _Chunk(chunk.words[:nouns], of=word.text == "of")
            chunk, nouns = _Chunk(), 0
        if word.kind in ("article", "modifier", "noun"):
            chunk.words.append(word.text)
            nouns = len(chunk.words) if word.kind == "noun" else nouns


def _joined(chunks: list[_Chunk]) -> Iterator[str]:
    """Each chunk as a phrase; one that measures the next one together with it."""
    index = 0
    while index < len(chunks):
        first, of = chunks[index], chunks[index].of
        if of and index + 1 < len(chunks) and _measures(first.words, chunks[index + 1].words):
            index += 1
            yield f"{_phrase(first.words, counts=True)} of {_bare(chunks[index].words)}"
        else:
            yield _phrase(first.words)
        index += 1


def _measures(first: list[str], second: list[str]) -> bool:
    whole = f"{first[-1]} of {' '.join(second)}"
    return first[-1] in PARTITIVES | VESSELS or bool(Nouns.load().senses(whole))


def _bare(words: list[str]) -> str:
    return " ".join(word for word in words if word not in POINTERS) or words[-1]


def _phrase(words: list[str], *, counts: bool = False) -> str:
    """The words with the article that the noun takes.

    Args:
        words: With or without articles.
        counts: Whether it is one measure of something: "a glass", not "glass".
    """
    rest = _bare(words)
    if rest in UNIQUE:
        return f"the {rest}"
    if rest.split()[0] in NUMBERS or (len(rest.split()) == len(words) and _is_place_name(rest)):
        return rest
    single = words[0] in ("a", "an", "another", "one", "each") or (counts and not is_plural(rest))
    return with_article(f"a {rest}" if single else rest)


def _is_place_name(words: str) -> bool:
    """Return whether words name one place ("germany"), which takes no article."""
    nouns = Nouns.load()
    senses = nouns.common_senses(words)
    spelled = nouns.words(senses[0]) if senses else ()
    return any(word.istitle() for word in spelled if word.lower() == words) and (
        nouns.senses("location")[0] in nouns.ancestors(senses[0])
    )


@cache
def _tagger() -> tuple[Callable[..., list[tuple[str, str]]], Container[str]]:
    """Return the tagger and its lexicon, the words whose tags it does not guess."""
    with optional_package("textblob", extra="train", purpose="to find the noun phrases of captions"):
        from textblob.en import parser, tag
    return tag, parser.lexicon
