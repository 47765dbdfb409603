"""Concept banks: files, class descriptions in Menon and Vondrick's form, and the shipped phrases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from torchnle.language.english.head_nouns import phrase_words
from torchnle.language.english.nouns import Nouns
from torchnle.language.text_encoder import TextEncoder
from torchnle.language.texts import check_texts, shorten
from torchnle.translators import concept_bank

#: Phrases, a file of them, descriptions by class name, or None for the shipped ones.
Bank: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]] | str | Path | None


def as_bank(bank: Bank) -> tuple[str, ...]:
    """Load a concept bank in any form, and return its phrases, each once.

    Args:
        bank: A list of phrases; a mapping from class name to descriptors; the path of a file (`read_bank`);
            or None, the shipped concept bank.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If it holds something else than strings.
        ValueError: If there is no phrase, or one is blank.

    Example:
        >>> as_bank({"hen": ["two legs", "a red comb"], "cat": ["whiskers", "two legs"]})
        ('two legs', 'a red comb', 'whiskers')
    """
    if bank is None:
        return concept_bank.phrases()
    if isinstance(bank, str | Path):
        return read_bank(Path(bank))
    if isinstance(bank, Mapping):
        return _of_classes(bank, "the bank")
    return tuple(dict.fromkeys(check_texts(bank)))


def read_bank(file: Path) -> tuple[str, ...]:
    """Read a concept bank from a text or JSON file.

    Args:
        file: A text file with a phrase per line ("#" begins a comment), or ``.json``: a list of phrases, or
            ``{class name: [descriptor, ...]}`` as "Visual classification via description from large language
            models" (Menon and Vondrick, 2023) publishes them.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If it holds something else than strings.
        ValueError: If it is no JSON, or holds no phrase.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no concept bank {str(file)!r}; pass a .txt or .json file.")
    text = file.read_text(encoding="utf-8")
    if file.suffix.lower() != ".json":
        lines = (line.strip() for line in text.splitlines())
        return tuple(dict.fromkeys(check_texts(line for line in lines if line and not line.startswith("#"))))
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON: {error}.") from error
    if isinstance(found, dict):
        return _of_classes(found, str(file))
    if not isinstance(found, list):
        raise TypeError(f"{file} holds a {type(found).__name__}; a bank is a list, or lists by class name.")
    return tuple(dict.fromkeys(check_texts(found)))


def _of_classes(found: Mapping[str, object], what: str) -> tuple[str, ...]:
    for name, listed in found.items():
        if isinstance(listed, str) or not isinstance(listed, Sequence):
            raise TypeError(
                f"{what} gives {shorten(name)!r} a {type(listed).__name__}; pass a list of descriptors a "
                "class."
            )
    every = [phrase for listed in found.values() for phrase in listed]  # type: ignore[attr-defined]
    return tuple(dict.fromkeys(check_texts(every)))


def general_words(encoder: TextEncoder, count: int = 4000) -> tuple[str, ...]:
    """List the most frequent nouns for visible objects, by the encoder's own vocabulary.

    WordPiece vocabularies are ordered by word frequency. General words explain a classifier better than class
    descriptors written by a language model (U-F2-CBM).

    Args:
        encoder: The sentence encoder; if it has no such vocabulary, the shipped bank is used.
        count: The largest number of words.
    """
    tokenizer, nouns = getattr(encoder, "tokenizer", None), Nouns.load()
    vocabulary = {} if tokenizer is None else tokenizer.get_vocab()
    words = sorted((w for w in vocabulary if w.isalpha() and len(w) > 2), key=vocabulary.__getitem__)
    seen = (w for w in words if any(nouns.is_physical(sense) for sense in nouns.common_senses(w)[:1]))
    found = tuple(word for word, _ in zip(seen, range(count), strict=False))
    return found or concept_bank.phrases()


def without_names(phrases: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """Remove phrases that equal a class's name up to articles, hyphens, case and number.

    Example:
        >>> without_names(["an owl", "wings", "Tree Frogs"], ["owl", "tree-frog (amphibian)"])
        ('wings',)
    """
    known = {_plain(name) for name in names}
    return tuple(phrase for phrase in phrases if _plain(phrase) not in known)


def _plain(text: str) -> str:
    words = phrase_words(text.replace("-", " "))
    return " ".join([*words[:-1], words[-1].removesuffix("s")]) if words else ""
