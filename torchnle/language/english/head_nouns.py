"""Head nouns of noun phrases, among the words of a dictionary."""

from __future__ import annotations

import re
from collections.abc import Callable

from torchnle.language.english.phrases import DETERMINERS, HEAD_ENDS, PARTITIVES

_ASIDE = re.compile(r"\([^)]*\)|[\"\u201c\u201d]")
_LONGEST = 3


def phrase_words(phrase: str) -> list[str]:
    """Split a phrase into its words in lower case, without articles, numbers and text in brackets.

    Example:
        >>> phrase_words("The two crème brûlées (a dessert)!")
        ['crème', 'brûlées']
    """
    words = [word.strip(".,;:!?") for word in _ASIDE.sub(" ", phrase).lower().split()]
    words = [word for word in words if word]
    while len(words) > 1 and words[0] in DETERMINERS:
        words = words[1:]
    return words


def last_word(phrase: str) -> str:
    """Return the last word of a phrase in lower case, its noun in a plain one; "" if there is none.

    Example:
        >>> last_word("A hot-air balloon"), last_word("(a dessert)")
        ('balloon', '')
    """
    return (phrase_words(phrase) or [""])[-1]


def head_senses(
    phrase: str, senses: Callable[[str], tuple[int, ...]], is_physical: Callable[[int], bool]
) -> tuple[int, ...]:
    """Look up the dictionary senses of a phrase's head noun.

    The head is the part before the first preposition or participle; of "a slice of X" and "a pair of X" it is
    X. A phrase that is itself a dictionary word ("bird of paradise") is preferred to its head, except for a
    figure of speech ("cup of tea") whose head is a physical object.

    Args:
        phrase: A noun phrase: "a red car on a street".
        senses: Returns the senses of a word or compound, most frequent first; () if it is unknown.
        is_physical: Returns whether a sense is a physical entity.

    Returns:
        The senses of the head's longest known ending of up to three words; () if none is known.

    Example:
        >>> known = {"car": (1, 2), "street": (3,)}
        >>> head_senses("a red car on a street", lambda word: known.get(word, ()), lambda sense: True)
        (1, 2)
    """
    words = phrase_words(phrase)
    ends = [i for i, word in enumerate(words) if i and word in HEAD_ENDS]
    head = _ending(words[: ends[0]] if ends else words, senses)
    for end in [len(words), *reversed(ends)] if ends else []:
        whole = senses(" ".join(words[:end]))
        if whole and end > ends[0] and (is_physical(whole[0]) or not (head and is_physical(head[0]))):
            return whole
    if ends and words[ends[0]] == "of" and words[ends[0] - 1] in PARTITIVES and words[ends[0] + 1 :]:
        return head_senses(" ".join(words[ends[0] + 1 :]), senses, is_physical) or head
    return head


def _ending(words: list[str], senses: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
    endings = (" ".join(words[-length:]) for length in range(min(_LONGEST, len(words)), 0, -1))
    return next((found for ending in endings if (found := senses(ending))), ())
