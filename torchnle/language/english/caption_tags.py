"""What each word of a caption is in its noun phrase: the tagger's answer, mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torchnle.language.english.caption_words import HELPERS, NO_THINGS, NUMBERS, POINTERS
from torchnle.language.english.nouns import Nouns
from torchnle.language.english.phrases import is_plural

Kind = Literal["article", "modifier", "noun", "list", "verb", "other"]


class Word(NamedTuple):
    """A word and what it is in a noun phrase."""

    text: str
    kind: str


def mended(tagged: Sequence[tuple[str, str]], nouns: Nouns) -> list[Word]:
    """Say of each word what it is in its noun phrase.

    Args:
        tagged: Words in lower case with their Penn tags.
        nouns: Knows what can be a noun.

    Returns:
        Words of the kinds "article", "modifier", "noun", "list" (commas and "and"), "verb" and "other".
    """
    words: list[Word] = []
    padded = [*tagged, ("", "."), ("", ".")]
    for index, (text, tag) in enumerate(tagged):
        before = words[-1] if words else Word("", "list")
        words.append(Word(text, _kind(text, tag, before, padded[index + 1 : index + 3], nouns)))
    return words


def _kind(text: str, tag: str, before: Word, coming: Sequence[tuple[str, str]], nouns: Nouns) -> Kind:
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
        return "noun" if opened and not follows and not blends and _is_noun(text, nouns) else "modifier"
    if tag.startswith("VB") or tag == "MD":
        return _of_verb(text, tag, before, after, nouns)
    if tag.startswith("RB"):
        return "modifier" if opened and after[1].startswith(("JJ", "VBN", "VBG")) else "other"
    return "other"


def _of_ing(text: str, tag: str, before: Word, after: tuple[str, str], nouns: Nouns) -> Kind:
    """Tell "riding" from "building" and "swimming pool"."""
    if _can_follow(after) and (before.kind in ("article", "modifier") or nouns.senses(f"{text} {after[0]}")):
        return "modifier"
    if tag.startswith("NN") or before.kind in ("article", "modifier"):
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


def _is_noun(text: str, nouns: Nouns) -> bool:
    """Whether what looks like an adjective is rather a noun: it is a thing, or WordNet does not know it."""
    return _is_thing(text, nouns) or not nouns.senses(text)


def _is_thing(text: str, nouns: Nouns) -> bool:
    senses = nouns.common_senses(text)
    return bool(senses) and nouns.is_thing(senses[0])


def _can_follow(after: tuple[str, str]) -> bool:
    """Whether a noun or its modifier follows."""
    text, tag = after
    return tag.startswith(("NN", "JJ")) and text not in NO_THINGS and text not in POINTERS


def _is_article(after: tuple[str, str]) -> bool:
    return after[0] in POINTERS or after[1] in ("DT", "PRP$", "CD")
