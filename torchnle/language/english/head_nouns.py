"""The noun that a phrase is about: its head, among words that a dictionary knows."""

from __future__ import annotations

import re
from collections.abc import Callable

from torchnle.language.english.phrases import DETERMINERS, HEAD_ENDS, PARTITIVES

_ASIDE = re.compile(r"\([^)]*\)|[\"\u201c\u201d]")
_LONGEST = 3


def phrase_words(phrase: str) -> list[str]:
    """Split a phrase into its words, without articles, numbers and asides.

    Example:
        >>> phrase_words("The two crème brûlées (a dessert)!")
        ['crème', 'brûlées']
    """
    words = [word.strip(".,;:!?") for word in _ASIDE.sub(" ", phrase).lower().split()]
    words = [word for word in words if word]
    while len(words) > 1 and words[0] in DETERMINERS:
        words = words[1:]
    return words


def head_senses(
    phrase: str, senses: Callable[[str], tuple[int, ...]], is_thing: Callable[[int], bool]
) -> tuple[int, ...]:
    """Look up the senses of the noun that a phrase is about.

    A whole that is a word of its own ("bird of paradise") comes before its head, unless it is a figure of
    speech ("cup of tea": what one likes) about a thing. The head ends before the first preposition or
    participle; "a slice of X" and "a pair of X" are about X.

    Args:
        phrase: Such as "a red car on a street".
        senses: Of a word or several, commonest first; () where it is unknown.
        is_thing: Whether a sense is something that has a place in the world.

    Returns:
        The senses of the longest known ending of up to three words; () where none is known.
    """
    words = phrase_words(phrase)
    ends = [i for i, word in enumerate(words) if i and word in HEAD_ENDS]
    head = _ending(words[: ends[0]] if ends else words, senses)
    for end in [len(words), *reversed(ends)] if ends else []:
        whole = senses(" ".join(words[:end]))
        if whole and end > ends[0] and (is_thing(whole[0]) or not (head and is_thing(head[0]))):
            return whole
    if ends and words[ends[0]] == "of" and words[ends[0] - 1] in PARTITIVES and words[ends[0] + 1 :]:
        return head_senses(" ".join(words[ends[0] + 1 :]), senses, is_thing) or head
    return head


def _ending(words: list[str], senses: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
    endings = (" ".join(words[-length:]) for length in range(min(_LONGEST, len(words)), 0, -1))
    return next((found for ending in endings if (found := senses(ending))), ())
