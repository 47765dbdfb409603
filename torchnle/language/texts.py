"""What counts as a text, decided in one place."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Control characters but line breaks and tabs; what turns the direction of writing; halves of characters.
_HIDDEN = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: A text of more characters than this is a mistake (a file's contents, a whole page).
MAX_CHARACTERS = 10_000


def check_texts(texts: Iterable[object]) -> list[str]:
    """Return the texts as a list, or raise.

    Raises:
        TypeError: If `texts` is one string instead of a list of them, or holds something else.
        ValueError: If there is no text, or one is empty, blank or absurdly long.

    Example:
        >>> check_texts(("a cat", "grass"))
        ['a cat', 'grass']
    """
    if isinstance(texts, str):
        raise TypeError(f"texts is one string, {shorten(texts)!r}; pass a list: [{shorten(texts)!r}].")
    checked = [_check_text(index, text) for index, text in enumerate(texts)]
    if not checked:
        raise ValueError("texts is empty; pass at least one text.")
    return checked


def shorten(text: str, length: int = 40) -> str:
    """Cut a text for an error message.

    Example:
        >>> shorten("a" * 100, length=5)
        'aaaaa...'
    """
    return text if len(text) <= length else text[:length] + "..."


def visible(text: str) -> str:
    r"""Write out every character by which a text could steer a terminal or hide what it says.

    Example:
        >>> print(visible("a cat\x1b[2J"))
        a cat\x1b[2J
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _check_text(index: int, text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(
            f"texts[{index}] is {text!r} of type {type(text).__name__}; every text must be a string."
        )
    if not text.strip():
        raise ValueError(f"texts[{index}] is {text!r}, which is blank; every text must hold a word.")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"texts[{index}] has {len(text)} characters ({shorten(text)!r}); at most {MAX_CHARACTERS} are "
            "allowed."
        )
    return text
