"""Find texts whose words a tokenizer does not know, such as texts in another script."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: A foreign word is unknown if it is cut into this many pieces a letter: spelt, not read.
_PIECES_A_LETTER = 0.75
#: Shorter words may well be a few pieces.
_FEWEST_LETTERS = 3


def unknown_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], encoded: Sequence[Sequence[int]]
) -> list[str]:
    """List the texts with an unknown token, or with a word of another script that is split into letters.

    English tokenizers know single letters of many scripts and split "\u043a\u043e\u0448\u043a\u0430" into
    letters; a tokenizer trained on Russian gives one or two tokens.

    Args:
        tokenizer: The encoder's tokenizer.
        texts: The texts.
        encoded: Their token ids.
    """
    unknown = _unknown_id(tokenizer)
    return [
        text
        for text, ids in zip(texts, encoded, strict=True)
        if (unknown is not None and unknown in ids)
        or (not text.isascii() and any(_is_spelt(tokenizer, word) for word in text.split()))
    ]


def _unknown_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token of unknown words, also where only the model behind a fast tokenizer knows it."""
    if tokenizer.unk_token_id is not None:
        return int(tokenizer.unk_token_id)
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    token = getattr(model, "unk_token", None)
    return tokenizer.backend_tokenizer.token_to_id(token) if isinstance(token, str) else None


def _is_spelt(tokenizer: PreTrainedTokenizerBase, word: str) -> bool:
    letters = [letter for letter in word if letter.isalpha()]
    if len(letters) < _FEWEST_LETTERS or not all(map(_is_foreign, letters)):
        return False
    return len(tokenizer.tokenize(word)) >= _PIECES_A_LETTER * len(letters)


def _is_foreign(letter: str) -> bool:
    """Return whether a letter is of an alphabet other than the Latin one; of Chinese each sign is a word."""
    return not unicodedata.name(letter, "").startswith(("LATIN", "CJK"))
