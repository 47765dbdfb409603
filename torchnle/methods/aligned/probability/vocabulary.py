"""The vocabulary of descriptions: phrases, their WordNet senses, and the more general nouns above them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.errors import MissingDependencyError
from torchnle.language.english.captions import phrases_of
from torchnle.language.english.head_nouns import phrase_words
from torchnle.language.english.nouns import Nouns
from torchnle.language.english.phrases import with_article
from torchnle.translators import concept_bank

#: A noun with more kinds below it in WordNet says too little: animal, structure, device.
MOST_KINDS = 1000
#: The categories of the concept bank that name no things.
_NO_THINGS = frozenset({"attributes", "colours"})


@dataclass(frozen=True)
class NounTree:
    """The hypernyms of phrases, as edges from each phrase to each noun above it.

    Args:
        words: The nouns, with their articles; those with the fewest hyponyms first.
        phrase: The index of each edge's phrase.
        noun: The index of each edge's noun.
        information: Each noun's information content, in bits (`Vocabulary.information`).
    """

    words: tuple[str, ...]
    phrase: Int[Tensor, "E"]
    noun: Int[Tensor, "E"]
    information: Float[Tensor, "nouns"]


class Vocabulary:
    """Phrases and their WordNet hypernyms, whose probabilities are the sums over the phrases below them.

    Args:
        phrases: The phrases; duplicates are dropped.
        class_names: A classifier's class names as it states them, in the order of `class_texts`; their senses
            are chosen jointly.
        class_texts: The same names as noun phrases, which come first in the vocabulary.

    Example:
        >>> words = Vocabulary(["a tabby cat", "a poodle", "a beagle"])
        >>> "a dog" in words.nouns
        True
    """

    def __init__(
        self,
        phrases: Sequence[str] = (),
        *,
        class_names: Sequence[str] = (),
        class_texts: Sequence[str] = (),
    ) -> None:
        self.phrases = tuple(dict.fromkeys([*class_texts, *phrases]))
        self._class_names, self._class_texts = tuple(class_names), tuple(class_texts)

    def __len__(self) -> int:
        return len(self.phrases)

    @cached_property
    def synsets(self) -> tuple[int | None, ...]:
        """The synset of each phrase's head noun; None if WordNet has none."""
        nouns = Nouns.load()
        found: dict[str, int | None] = {}
        for text, synset in zip(self._class_texts, meanings(self._class_names), strict=True):
            found[text] = _common(nouns, found[text], synset) if text in found else synset
        return tuple(found[p] if p in found else nouns.of_phrase(p) for p in self.phrases)

    def columns(self, text: str) -> list[int]:
        """Find the indices of the phrases that equal a text up to articles, hyphens and case.

        Example:
            >>> Vocabulary(["a hot-air balloon", "a balloon", "hot air balloon"]).columns("a hot air balloon")
            [0, 2]
        """
        return self._by_words.get(_plain(text), [])

    @cached_property
    def _by_words(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index, phrase in enumerate(self.phrases):
            found.setdefault(_plain(phrase), []).append(index)
        return found

    @property
    def nouns(self) -> tuple[str, ...]:
        """The hypernyms that may replace a phrase, with articles; those with the fewest hyponyms first."""
        return self.tree.words

    @property
    def information(self) -> Float[Tensor, "nouns"]:
        """Each noun's information content, in bits: minus log2 of the share of classes below it; on the CPU.

        Without classes, the share of phrases.
        """
        return self.tree.information

    @cached_property
    def tree(self) -> NounTree:
        """The hypernyms of the phrases as edges."""
        nouns = Nouns.load()
        linked = [(i, synset) for i, synset in enumerate(self.synsets) if synset is not None]
        above = [(i, node) for i, synset in linked for node in sorted(nouns.ancestors(synset))]
        nodes = sorted({node for _, node in above}, key=lambda node: (nouns.kinds(node), node))
        names = {
            n: nouns.common_name(n) for n in nodes if nouns.kinds(n) <= MOST_KINDS and nouns.is_physical(n)
        }
        columns = {node: c for c, node in enumerate(n for n, word in names.items() if word is not None)}
        edges = [(i, columns[node]) for i, node in above if node in columns]
        phrase, noun = (torch.tensor([e[k] for e in edges], dtype=torch.long) for k in (0, 1))
        counted = len(set(self._class_texts)) or len(self)  # class texts come first
        below = torch.bincount(noun[phrase < counted], minlength=len(columns)).float().clamp(min=1)
        words = tuple(with_article(str(names[node])) for node in columns)
        total = sum(index < counted for index, _ in linked)
        return NounTree(words, phrase, noun, torch.log2(max(1, total) / below))


def _plain(text: str) -> str:
    return " ".join(phrase_words(text.replace("-", " ")))


def meanings(class_names: Sequence[str]) -> tuple[int | None, ...]:
    """Find the synset of every class name; for ImageNet's names, by the published WordNet identifiers."""
    from torchnle.backbones import imagenet_class_names

    nouns = Nouns.load()
    try:
        if tuple(class_names) == imagenet_class_names():
            return nouns.imagenet_1k()
    except MissingDependencyError:
        pass
    return nouns.of_class_names(class_names) if class_names else ()


def _common(nouns: Nouns, first: int | None, second: int | None) -> int | None:
    """The most special meaning that both of two classes of one name have."""
    if first is None or second is None:
        return None
    return min(nouns.ancestors(first) & nouns.ancestors(second), key=nouns.kinds, default=None)


def shipped_phrases() -> tuple[str, ...]:
    """List the noun phrases of the shipped concept bank, with their articles."""
    nouns = Nouns.load()
    kinds = [phrases for name, phrases in concept_bank.categories().items() if name not in _NO_THINGS]
    found = {phrase: nouns.of_phrase(phrase) for listed in kinds for phrase in listed}
    named = (p for p, noun in found.items() if noun is not None and nouns.kinds(noun) <= MOST_KINDS)
    return tuple(dict.fromkeys(with_article(phrase) for phrase in named))


@lru_cache(maxsize=1)
def background_phrases() -> tuple[str, ...]:
    """List the shipped phrases for backgrounds: "the sky", "grass", "water", "a wall".

    Example:
        >>> "the sky" in background_phrases()
        True
    """
    text = resources.files(__package__).joinpath("background_words.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def mark_fitted(texts: Sequence[str], phrases: Sequence[str]) -> Bool[Tensor, "T"]:
    """Mark the texts that were fitted to captions: a phrase of these, or several such phrases.

    "a castle in ruins" is fitted if "a castle" and "ruins" are. Without textblob, which splits texts into
    noun phrases, only whole phrases are found. Articles, case and hyphens are ignored.

    Args:
        texts: The texts to mark.
        phrases: The phrases of the captions.

    Example:
        >>> phrases = ["a uk post box", "a castle", "ruins"]
        >>> mark_fitted(["the UK post box", "a castle in ruins", "a hen"], phrases)
        tensor([ True,  True, False])
    """
    plain_phrases = {_plain(phrase) for phrase in phrases}
    return torch.tensor([_is_fitted(text, plain_phrases) for text in texts], dtype=torch.bool)


def _is_fitted(text: str, plain_phrases: Container[str]) -> bool:
    if not plain_phrases or _plain(text) in plain_phrases:
        return bool(plain_phrases)
    try:
        cut = phrases_of(text)
    except MissingDependencyError:
        return False
    return bool(cut) and all(_plain(phrase) in plain_phrases for phrase in cut)
