"""Correct the part-of-speech tags of captions, and classify each word by its part in a noun phrase."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Literal, NamedTuple

from torchnle.language.english.caption_words import HELPERS, NO_THINGS, NUMBERS, POINTERS
from torchnle.language.english.nouns import Nouns
from torchnle.language.english.phrases import is_plural

Kind = Literal["article", "modifier", "noun", "list", "verb", "other"]


class Word(NamedTuple):
    """A word with its part in a noun phrase, one of `Kind`."""

    text: str
    kind: str


def corrected(tagged: Sequence[tuple[str, str]], nouns: Nouns) -> list[Word]:
    """Classify each tagged word by its part in a noun phrase, correcting frequent errors of the tagger.

    Args:
        tagged: Words in lower case with their Penn tags.
        nouns: WordNet's nouns, which decide whether a word can be a noun.

    Returns:
        Words of the kinds "article", "modifier", "noun", "list" (commas and "and"), "verb" and "other".
    """
    words: list[Word] = []
    padded = [*tagged, ("", "."), ("", ".")]
    for index, (text, tag) in enumerate(tagged):
        words.append(Word(text, _kind(text, tag, words, padded[index + 1 : index + 3], nouns)))
    return words


def without_guesses(
    tagged: Sequence[tuple[str, str]], lexicon: Container[str], nouns: Nouns
) -> list[tuple[str, str]]:
    """Tag physical objects as nouns where the tagger guessed another tag, by the ending or as a foreign word.

    Args:
        tagged: Words in lower case with their Penn tags.
        lexicon: The words in the tagger's lexicon, whose tags are no guesses.
        nouns: WordNet's nouns, which decide whether a word names a physical object.

    Returns:
        The words with their tags, in order.

    Example:
        >>> without_guesses([("dragonfly", "RB"), ("daily", "RB")], lexicon={"daily"}, nouns=Nouns.load())
        [('dragonfly', 'NN'), ('daily', 'RB')]
    """
    return [
        (text, "NN" if _is_unsure(text, tag, lexicon) and _is_thing(text, nouns) else tag)
        for text, tag in tagged
    ]


def _is_unsure(text: str, tag: str, lexicon: Container[str]) -> bool:
    return tag == "FW" or (tag in ("JJ", "RB") and text not in lexicon)


def _kind(
    text: str, tag: str, words: Sequence[Word], coming: Sequence[tuple[str, str]], nouns: Nouns
) -> Kind:
    before = words[-1] if words else Word("", "list")
    after, then = coming
    opened = before.kind in ("article", "modifier")
    if text in (",", "and", "&", "or", ";"):
        blends = before.kind == "modifier" and text in ("and", "&") and after[1] == "JJ"  # blue and yellow
        return "modifier" if blends else "list"
    if text in HELPERS or (text == "that" and (after[0] in HELPERS or after[1].startswith("VB"))):
        return "verb"
    if text in POINTERS or text in NUMBERS or tag in ("CD", "PRP$", "DT"):
        return "article"
    if not text[0].isalnum() or text in NO_THINGS:
        return "noun" if text in NO_THINGS and (opened or before.kind == "noun") else "other"
    if before.kind == "noun" and nouns.senses(f"{before.text} {text}"):
        return "noun"
    if text.endswith(("'s", "s'")):
        return "modifier"
    if text.endswith("ing"):
        return _of_ing(text, tag, before, after, nouns)
    follows = _can_follow(after)
    if tag.startswith("NN"):
        acts = before.kind == "noun" and text.endswith("s") and (_is_article(after) or after[1] == "VBZ")
        return "verb" if acts else "noun"
    if tag.startswith("JJ"):
        blends = after[0] in ("and", "&") and then[1] == "JJ"
        goes_on = follows or blends or (_is_one(words) and _is_verb_before_noun(after, then))
        return "noun" if opened and not goes_on and _is_noun(text, nouns) else "modifier"
    if tag.startswith("VB") or tag == "MD":
        return _of_verb(text, tag, before, after, nouns)
    if tag.startswith("RB"):
        return _of_adverb(text, after, nouns) if opened else "other"
    return "other"


def _of_ing(text: str, tag: str, before: Word, after: tuple[str, str], nouns: Nouns) -> Kind:
    """Tell "riding" from "building" and "swimming pool"."""
    opened = before.kind in ("article", "modifier")
    if _can_follow(after) and (opened or nouns.senses(f"{text} {after[0]}")):
        return "modifier"
    if (
        opened
        and tag == "VBG"
        and after[1] == "RB"
        and not _is_thing(text, nouns)
        and _is_thing(after[0], nouns)
    ):
        return "modifier"  # a wishing well
    if tag.startswith("NN") or opened:
        return "noun" if before.kind != "noun" or _is_thing(text, nouns) else "other"
    return "other"


def _of_verb(text: str, tag: str, before: Word, after: tuple[str, str], nouns: Nouns) -> Kind:
    """Tell verbs from what looks like them: "a can", "a snow covered hill", "a bed, sink, and mirror"."""
    past = tag in ("VBN", "VBD")
    if past and _can_follow(after):
        return "modifier" if tag == "VBN" or before.kind != "noun" else "verb"
    if before.kind in ("article", "modifier"):
        clause = past and after[1] == "IN" and before.kind == "modifier"
        return "noun" if nouns.senses(text) and not clause else "modifier"
    if past or not _is_thing(text, nouns):
        return "verb"
    listed = before.kind == "list" and after[0] in (",", "and", "or", "", ".")
    after_singular = before.kind == "noun" and tag in ("VB", "VBP") and not is_plural(before.text)
    return "noun" if listed or after_singular or (before.kind == "verb" and tag == "VBZ") else "verb"


def _of_adverb(text: str, after: tuple[str, str], nouns: Nouns) -> Kind:
    """Tell, after an article, "a well" and "a daily newspaper" from "a well lit room"."""
    if after[1] in ("VBN", "VBD", "VBG") or _can_follow(after):
        return "modifier"
    return "noun" if _is_thing(text, nouns) else "other"


def _is_one(words: Sequence[Word]) -> bool:
    """Return whether the open noun phrase has begun with "a" or "an", which no plain verb follows."""
    begun = next((word for word in reversed(words) if word.kind != "modifier"), None)
    return begun is not None and begun.text in ("a", "an")


def _is_verb_before_noun(after: tuple[str, str], then: tuple[str, str]) -> bool:
    return after[1] in ("VB", "VBP") and after[0] not in HELPERS and _can_follow(then)


def _is_noun(text: str, nouns: Nouns) -> bool:
    """Return whether an apparent adjective is rather a noun: it is a thing, or WordNet does not know it."""
    return _is_thing(text, nouns) or not nouns.senses(text)


def _is_thing(text: str, nouns: Nouns) -> bool:
    senses = nouns.common_senses(text)
    return bool(senses) and nouns.is_physical(senses[0])


def _can_follow(after: tuple[str, str]) -> bool:
    """Return whether a noun or its modifier follows."""
    text, tag = after
    return tag.startswith(("NN", "JJ")) and text not in NO_THINGS and text not in POINTERS


def _is_article(after: tuple[str, str]) -> bool:
    return after[0] in POINTERS or after[1] in ("DT", "PRP$", "CD")
