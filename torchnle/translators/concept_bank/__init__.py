"""The concept bank: everyday phrases by category, one text file each, written for torchnle."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def categories() -> dict[str, tuple[str, ...]]:
    """Return the shipped phrases by category, in the order of the files' names.

    A line is a phrase; a line that begins with "#" is a comment.

    Example:
        >>> sorted(categories())[:3]
        ['attributes', 'colours', 'everyday']
        >>> "whiskers" in categories()["parts"]
        True
    """
    folder = resources.files(__name__)
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".txt")), key=lambda file: file.name)
    return {f.name.removesuffix(".txt"): _phrases(f.read_text(encoding="utf-8")) for f in files}


def phrases() -> tuple[str, ...]:
    """Return all shipped phrases, each once.

    Example:
        >>> len(phrases()) > 500
        True
    """
    return tuple(dict.fromkeys(phrase for part in categories().values() for phrase in part))


def _phrases(text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
