"""Nouns: from phrases and class names to meanings, and from meanings up to more general ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from torchnle.language.english.class_senses import choose_senses
from torchnle.language.english.head_nouns import head_senses
from torchnle.language.english.wordnet import NounTable


class Nouns(NounTable):
    """WordNet 3.0's nouns, and the phrases and class names that mean them. Get it by `load`.

    Example:
        >>> nouns = Nouns.load()
        >>> car, tree = nouns.of_phrase("a red car on a street"), nouns.of_phrase("two old trees")
        >>> nouns.said(car), nouns.said(tree), nouns.kinds(tree) > 500
        ('car', 'tree', True)
    """

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> Nouns:
        """Read the shipped table, once a process."""
        return cls()

    def of_phrase(self, phrase: str) -> int | None:
        """Find the commonest sense of the noun that a phrase is about; None where WordNet knows none.

        Example:
            >>> nouns = Nouns.load()
            >>> phrases = ("a glass of wine", "a bird of paradise", "a pair of scissors", "a qwert")
            >>> [noun if noun is None else nouns.words(noun)[0] for noun in map(nouns.of_phrase, phrases)]
            ['glass', 'bird of paradise', 'scissors', None]
        """
        found = head_senses(phrase, self.common_senses, self.is_thing)
        return found[0] if found else None

    def of_class_name(self, name: str, others: Sequence[str] = ()) -> int | None:
        """Find what a class name means among the other classes; see `of_class_names`."""
        return choose_senses(self, [name, *others], first=1)[0]

    def of_class_names(self, names: Sequence[str]) -> tuple[int | None, ...]:
        """Find what each of a classifier's class names means; None where WordNet knows none.

        Of a name's senses the one nearest to the other classes is chosen, the commonest of equals; a word
        behind the name or in brackets that says what it is ("crane bird", "ram (male sheep)") comes first.

        Example:
            >>> nouns = Nouns.load()
            >>> birds = nouns.of_class_names(["crane", "kite", "heron"])
            >>> [nouns.words(noun)[-1] for noun in nouns.of_class_names(["crane", "forklift", "tractor"])]
            ['crane', 'forklift', 'tractor']
            >>> all(nouns.of_phrase("bird") in nouns.ancestors(noun) for noun in birds)
            True
        """
        return choose_senses(self, names)
