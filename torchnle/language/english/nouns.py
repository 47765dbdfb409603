"""WordNet's nouns: look up the senses of phrases and class names, and more general nouns above a sense."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from torchnle.language.english.class_senses import choose_senses
from torchnle.language.english.head_nouns import head_senses
from torchnle.language.english.wordnet import NounTable


class Nouns(NounTable):
    """WordNet 3.0's nouns, with the look-up of phrases and class names; construct it by `load`.

    Example:
        >>> nouns = Nouns.load()
        >>> car, tree = nouns.of_phrase("a red car on a street"), nouns.of_phrase("two old trees")
        >>> nouns.common_name(car), nouns.common_name(tree), nouns.kinds(tree) > 500
        ('car', 'tree', True)
    """

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> Nouns:
        """Load the shipped table, once per process."""
        return cls()

    def of_phrase(self, phrase: str) -> int | None:
        """Find the most frequent sense of a phrase's head noun; None if WordNet has none.

        Example:
            >>> nouns = Nouns.load()
            >>> phrases = ("a glass of wine", "a bird of paradise", "a pair of scissors", "a qwert")
            >>> [noun if noun is None else nouns.words(noun)[0] for noun in map(nouns.of_phrase, phrases)]
            ['glass', 'bird of paradise', 'scissors', None]
        """
        found = head_senses(phrase, self.common_senses, self.is_physical)
        return found[0] if found else None

    def of_class_name(self, name: str, others: Sequence[str] = ()) -> int | None:
        """Find the sense of one class name, given the other classes; see `of_class_names`."""
        return choose_senses(self, [name, *others], first=1)[0]

    def of_class_names(self, names: Sequence[str]) -> tuple[int | None, ...]:
        """Find the sense of each of a classifier's class names; None if WordNet has none.

        A more general noun after the name or in brackets decides ("crane bird", "ram (male sheep)"); else the
        sense nearest to the other classes is chosen, the most frequent one of equals.

        Example:
            >>> nouns = Nouns.load()
            >>> birds = nouns.of_class_names(["crane", "kite", "heron"])
            >>> [nouns.words(noun)[-1] for noun in nouns.of_class_names(["crane", "forklift", "tractor"])]
            ['crane', 'forklift', 'tractor']
            >>> all(nouns.of_phrase("bird") in nouns.ancestors(noun) for noun in birds)
            True
        """
        return choose_senses(self, names)
