"""Classify words as naming a class, another class, or background, by WordNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

from torchnle.language.english.head_nouns import head_senses
from torchnle.language.english.nouns import Nouns
from torchnle.methods.aligned.probability.vocabulary import background_phrases

Kind = Literal["own", "other", "background", "unrelated"]

#: Everything below these is background too.
_BACKGROUND = ("body of water", "geological formation", "land", "atmosphere", "precipitation", "vegetation")


class ClassWords:
    """Classifies words by their relation to a classifier's classes in WordNet.

    A word names a class if one of its senses is the class, a hyponym of it ("drake" of "water bird") or a
    hypernym ("bird"). So "hen" names "land bird" and not "water bird".

    Args:
        class_names: The classes, in a classifier's order.
        also: Further words that name a class, by class name, for class names that WordNet does not list.
        background: Words for backgrounds besides the shipped list.

    Raises:
        ValueError: If there are no class names, or `also` names none of them.

    Example:
        >>> words = ClassWords(["land bird", "water bird"])
        >>> [words.kind(word, 1) for word in ("drake", "hen", "lake", "spoon")]
        ['own', 'other', 'background', 'unrelated']
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        also: Mapping[str, Sequence[str]] | None = None,
        background: Sequence[str] = (),
    ) -> None:
        self.class_names = tuple(class_names)
        if not self.class_names or (unknown := set(also or ()) - set(self.class_names)):
            raise ValueError(
                f"class_names={list(class_names)} with words for {sorted(unknown) if class_names else []}; "
                f"pass class "
                "names, and words for some of these."
            )
        self._also = {name: frozenset(words) for name, words in (also or {}).items()}
        self._background = frozenset(background)
        self._nouns = Nouns.load()
        self._known: dict[str, tuple[int, ...]] = {}

    def about(self, word: str) -> tuple[int, ...]:
        """List the classes that a word names, as indices."""
        if word not in self._known:
            senses = self._nouns.common_senses(word)
            self._known[word] = tuple(
                index for index in range(len(self.class_names)) if self._is_about(word, senses, index)
            )
        return self._known[word]

    def kind(self, word: str, label: int) -> Kind:
        """Return the relation of a word to a class: "own", "other", "background" or "unrelated".

        Args:
            word: The word.
            label: The class, as an index.
        """
        about = self.about(word)
        if label in about:
            return "own"
        if about:
            return "other"
        return "background" if self.is_background(word) else "unrelated"

    def is_background(self, word: str) -> bool:
        """Return whether a word names a background, by the lists or by its sense in WordNet."""
        senses = self._nouns.common_senses(word)[:1]
        above = self._nouns.ancestors(senses[0]) if senses else frozenset()
        return word in self._background or bool(above & self._background_senses)

    def _is_about(self, word: str, senses: Sequence[int], index: int) -> bool:
        if word in self._also.get(self.class_names[index], ()):
            return True
        wanted = self._meanings[index]
        return any(
            wanted in self._nouns.ancestors(sense) or sense in self._nouns.ancestors(wanted)
            for sense in senses
            if wanted is not None and (self._nouns.kinds(sense) <= _MOST_KINDS or sense == wanted)
        )

    @cached_property
    def _meanings(self) -> tuple[int | None, ...]:
        found = self._nouns.of_class_names(self.class_names)
        return tuple(
            self._nouns.of_phrase(name) if synset is None else synset
            for name, synset in zip(self.class_names, found, strict=True)
        )

    @cached_property
    def _background_senses(self) -> frozenset[int]:
        nouns = self._nouns
        listed = (head_senses(p, nouns.common_senses, nouns.is_physical) for p in background_phrases())
        roots = (nouns.common_senses(word) for word in _BACKGROUND)
        return frozenset(found[0] for found in (*listed, *roots) if found)


#: A noun with more kinds below it ("object", "animal") is about everything, and so about no class.
_MOST_KINDS = 4000
