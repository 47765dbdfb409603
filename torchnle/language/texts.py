"""Checks of texts and captions that a caller gives, and reading of text files."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Control characters but line breaks and tabs; what turns the direction of writing; halves of characters.
_HIDDEN = re.compile("\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: A text of more characters than this is a mistake (a file's contents, a whole page).
MAX_CHARACTERS = 10_000
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LINES = re.compile("\r\n|\r|\n")
_SURROGATES = re.compile("[\ud800-\udfff]")
#: What stands before or after a caption without being seen: byte order marks and spaces of no width.
_UNSEEN = "\ufeff\u200b\u200e\u200f\x00"


def check_texts(texts: Iterable[object]) -> list[str]:
    """Check texts given by a caller and return them as a list.

    Raises:
        TypeError: If `texts` is one string instead of a list of them, or holds something else.
        ValueError: If there is no text, or one is blank, no Unicode, or has more than 10,000 characters.

    Example:
        >>> check_texts(("a cat", "grass"))
        ['a cat', 'grass']
    """
    if isinstance(texts, str):
        raise TypeError(f"texts is one string, {shorten(texts)!r}; pass a list: [{shorten(texts)!r}].")
    if isinstance(texts, (bytes, dict)) or not isinstance(texts, Iterable):
        raise TypeError(
            f"texts is {shorten(repr(texts))} of type {type(texts).__name__}; pass a list of strings."
        )
    checked = [_check_text(index, text) for index, text in enumerate(texts)]
    if not checked:
        raise ValueError("texts is empty; pass at least one text.")
    return checked


def as_texts(texts: str | Sequence[str]) -> list[str]:
    """Check one text or several and return them as a list; duplicates are kept.

    Raises:
        TypeError: If a text is not a string.
        ValueError: If there is no text, or one is blank or has more than 10,000 characters.

    Example:
        >>> as_texts("a cat")
        ['a cat']
    """
    return check_texts([texts] if isinstance(texts, str) else texts)


def shorten(text: str, length: int = 40) -> str:
    """Truncate a text for an error message.

    Example:
        >>> shorten("a" * 100, length=5)
        'aaaaa...'
    """
    return text if len(text) <= length else text[:length] + "..."


def visible(text: str) -> str:
    r"""Escape every character of a text that could control a terminal or hide other characters.

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
    if _SURROGATES.search(text):
        raise ValueError(f"texts[{index}] is {shorten(text)!r}, which holds half a character. Write it anew.")
    return text


def decode(raw: bytes, where: str) -> str:
    r"""Decode the bytes of a text file: UTF-8, or the encoding of its byte order mark.

    Args:
        raw: The bytes.
        where: Their source, for the message.

    Returns:
        The text, without the mark.

    Raises:
        ValueError: If the bytes are not valid in that encoding.

    Example:
        >>> decode(b"\xef\xbb\xbfa hen", "a.txt"), decode("a hen".encode("utf-16"), "a.txt")
        ('a hen', 'a hen')
    """
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8-sig")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def read_text(file: Path) -> str:
    """Read a text file in UTF-8 or the encoding of its byte order mark; see `decode`."""
    return decode(file.read_bytes(), str(file))


def lines(text: str) -> list[str]:
    r"""Split a text at line breaks only, since captions may hold the other separators of `str.splitlines`.

    Example:
        >>> lines("a hen\u2028on grass\r\nan owl")
        ['a hen\u2028on grass', 'an owl']
    """
    return _LINES.split(text)


def check_caption(text: object, where: str) -> str:
    r"""Check a caption and return it without surrounding blanks.

    Args:
        text: The value to check.
        where: Its source, for the message.

    Raises:
        ValueError: If it is not a string, is blank, has more than 10,000 characters, or holds unpaired
            surrogates, which no tokenizer reads.

    Example:
        >>> check_caption(" a hen\n", "line 3")
        'a hen'
    """
    caption = text.strip().strip(_UNSEEN).strip() if isinstance(text, str) else ""
    if not caption:
        raise ValueError(f"{where}: a caption must be a text that is not blank, not {shorten(repr(text))}.")
    if len(caption) > MAX_CHARACTERS:
        raise ValueError(
            f"{where}: a caption has {len(caption)} characters ({shorten(caption)!r}); at most "
            f"{MAX_CHARACTERS} are allowed."
        )
    if _SURROGATES.search(caption):
        raise ValueError(
            f"{where}: the caption {shorten(ascii(caption))} holds half a character. Write it anew."
        )
    return caption


def check_captions(value: object, where: str) -> tuple[str, ...]:
    """Check one caption or a list of captions, and return a tuple; see `check_caption`."""
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    if not given:
        raise ValueError(f"{where}: a caption must be a text that is not blank, not [].")
    return tuple(check_caption(text, where) for text in given)
