"""Convert answers of language models to labels."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: A label of more words is an explanation.
MOST_WORDS = 8
_NUMBERED = re.compile(r"^\s*(?:\(?\d+[.):]|[-*\u2022])\s*")
_PREAMBLE = re.compile(
    r"^(?:sure|certainly|here (?:is|are)|the (?:label|answer|concept) is)\b[^:]*:?\s*", re.I
)
_REFUSAL = re.compile(r"\b(?:i'm sorry|i am sorry|i cannot|i can't|as an ai|unable to|no common)\b", re.I)
_QUOTES = "\"'\u2018\u2019\u201c\u201d`"
_BACKGROUNDS = ("design", "designs", "graphic", "graphics")


def clean_label(answer: str) -> str | None:
    """Extract the label from a language model's answer; None if there is none.

    The first line is used, or its part after a colon, without numbering, quotation marks, preamble and final
    full stop, in lower case except for abbreviations. Refusals, text without letters, a repeated word, and
    more than `MOST_WORDS` words are not labels.

    Example:
        >>> clean_label('1. "Red-themed scenes."'), clean_label("Concept label: TV screens")
        ('red-themed scenes', 'TV screens')
        >>> print(clean_label("I'm sorry, I cannot see."), clean_label("a a a a a"), clean_label("..."))
        None None None
    """
    line = next((line for line in answer.splitlines() if line.strip()), "")
    text = _PREAMBLE.sub("", _NUMBERED.sub("", line).strip())
    if ":" in text:
        text = text.split(":", 1)[1]
    text = " ".join(text.strip().strip(_QUOTES).strip(" .!;,").strip(_QUOTES).split())
    words = text.split()
    if not re.search(r"[^\W\d_]", text) or len(words) > MOST_WORDS or _REFUSAL.search(text):
        return None
    if len(words) > 2 and len({word.lower() for word in words}) <= len(words) / 2:
        return None
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)


def clean_labels(answers: Iterable[str]) -> list[str]:
    """Extract the labels from several answers, each once, in order.

    A label that ends in "designs" or "graphics" is returned a second time with "background" appended, as in
    the paper's code, since captioners describe patterns in this way.

    Example:
        >>> clean_labels(["Dogs.", "dogs", "striped designs", ""])
        ['dogs', 'striped designs', 'striped designs background']
    """
    found: dict[str, None] = {}
    for answer in answers:
        label = clean_label(answer)
        if label is None:
            continue
        found.setdefault(label)
        if label.split()[-1] in _BACKGROUNDS:
            found.setdefault(f"{label} background")
    return list(found)
