"""Judge a description of a photograph by its head nouns and WordNet's hierarchy around the true ones."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from torchnle.language.english.nouns import Nouns

#: A noun with more kinds below it (animal, structure, device, plant) is too general.
MOST_KINDS = 1000
_SENSES = 3
_PARTS = re.compile(r"[,;]| or | and ")


@dataclass(frozen=True)
class Verdict:
    """The shares of a text's parts that are right and useful.

    Args:
        right: The share of its parts that are right.
        useful: The share of its parts that are right and not too general.
    """

    right: float
    useful: float

    @property
    def is_right(self) -> bool:
        """True if more than half of the parts are right."""
        return self.right > 0.5


class Judge:
    """Judges descriptions by their head nouns in WordNet.

    A text is split at "," ";" "or" and "and", and scores the share of its parts that are right, so that
    alternatives cost. A part is judged by its head noun only, its longest ending of up to three words that
    WordNet lists. It is right if the head noun is one of the true words or, in one of its first three senses,
    a hypernym or hyponym of an exact one.

    Example:
        >>> judge = Judge()
        >>> judge("a llama or a bus", ["alpaca", "llama"]), judge("an animal", ["llama"])
        (Verdict(right=0.5, useful=0.5), Verdict(right=1.0, useful=0.0))
    """

    def __init__(self, nouns: Nouns | None = None) -> None:
        self.nouns = nouns or Nouns.load()
        self._around = lru_cache(maxsize=None)(self._exact)

    def __call__(self, text: str, exact: Collection[str], general: Collection[str] = ()) -> Verdict:
        """Judge a text.

        Args:
            text: The text.
            exact: Nouns that name the object.
            general: More general nouns that are right as well.
        """
        parts = [part for part in _PARTS.split(text) if part.strip()] or [""]
        judged = [self._part(part, frozenset(exact), frozenset(general)) for part in parts]
        right = sum(is_right for is_right, _ in judged)
        useful = sum(is_right and not too_general for is_right, too_general in judged)
        return Verdict(right / len(judged), useful / len(judged))

    def _part(self, text: str, exact: frozenset[str], general: frozenset[str]) -> tuple[bool, bool]:
        """Return whether a part is right, and whether its noun is too general."""
        head, senses = self._head(text)
        own, above = self._around(exact)
        listed = head in exact | general or bool(set(head.split()) & exact)
        related = any(sense in above or self.nouns.ancestors(sense) & own for sense in senses)
        too_general = bool(senses) and min(map(self.nouns.kinds, senses)) > MOST_KINDS
        return listed or related, too_general

    def _head(self, text: str) -> tuple[str, tuple[int, ...]]:
        words = re.findall(r"[a-z]+", text.lower())
        for length in (3, 2, 1):
            phrase = " ".join(words[-length:])
            for form in (phrase, phrase.removesuffix("s"), phrase.removesuffix("es")):
                if senses := self.nouns.exact_senses(form):
                    return form, senses[:_SENSES]
        return " ".join(words[-1:]), ()

    def _exact(self, words: frozenset[str]) -> tuple[frozenset[int], frozenset[int]]:
        """Return the first senses of the exact words, and all that lie above them."""
        forms = {form.lower() for word in words for form in (word, word.removesuffix("s"), word + "s")}
        own = frozenset(sense for form in forms for sense in self.nouns.exact_senses(form)[:_SENSES])
        return own, frozenset().union(*map(self.nouns.ancestors, own))
