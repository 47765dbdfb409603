"""Tokenization of texts as they are tokenized inside a longer text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchnle.vision.running import exclusive_use

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: What may stand before a text. The first after which a tokenizer's pieces of the text stand apart is taken.
_ANCHORS = ("a", ".", "0", "x")
_PROBES = (" a", " the cat", " A", " 3", " .", " xyzzy")


class Spelling:
    """Tokenizes texts as continuations of another text.

    Some tokenizers (of Llama 2, Mistral, TinyLlama, T5) add a marker before every input, so that the tokens
    of a part are not those of the whole. Whether a tokenizer does so is tested at construction.

    Args:
        tokenizer: A tokenizer of transformers.

    Example:
        >>> from tokenizers import Tokenizer, models, normalizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> bpe = Tokenizer(models.BPE({"_": 0, "a": 1, "_a": 2}, [("_", "a")]))
        >>> bpe.normalizer = normalizers.Sequence([normalizers.Prepend("_"), normalizers.Replace(" ", "_")])
        >>> spelling = Spelling(PreTrainedTokenizerFast(tokenizer_object=bpe))
        >>> spelling.rows(["a", " a"]), spelling.rows([" a a"], "a")
        ([[2], [2]], [[2, 2]])
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._apart = all(self._stand_apart(anchor) for anchor in _ANCHORS[:2])

    def prompt(self, text: str) -> list[int]:
        """Tokenize a prompt without the blanks at its end: they belong to the word that follows."""
        stripped = text.rstrip(" ")
        return self._ids([stripped])[0] if stripped else []

    def rows(self, texts: Sequence[str], prompt: str = "") -> list[list[int]]:
        """Tokenize texts that follow a prompt, or begin a sequence if there is none.

        A text that begins with a blank is tokenized as a continuation in any case.
        """
        stripped = prompt.rstrip(" ")
        parts = [prompt[len(stripped) :] + text for text in texts]
        return [
            ids if self._is_whole(part, stripped) else self._continued(stripped, part) or ids
            for part, ids in zip(parts, self._ids(parts), strict=True)
        ]

    def _is_whole(self, text: str, prompt: str) -> bool:
        """Return whether a text's own tokens are those that it has in the whole."""
        spaced = text[:1] == " "
        return (self._apart and spaced) or not (prompt or spaced)

    def _continued(self, prompt: str, text: str) -> list[int] | None:
        """The tokens of a text after the prompt, or else after any word; None where they run together."""
        for anchor in (prompt, *_ANCHORS) if text[:1] == " " else (prompt,):
            front, whole = self._ids([anchor, anchor + text]) if anchor else ([], [])
            if front and whole[: len(front)] == front and len(whole) > len(front):
                return whole[len(front) :]
        return None

    def _stand_apart(self, anchor: str) -> bool:
        front, *wholes = self._ids([anchor, *(anchor + probe for probe in _PROBES)])
        return wholes == [front + part for part in self._ids(_PROBES)]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        with exclusive_use(self._tokenizer):
            encoded = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [list(ids) for ids in encoded]
