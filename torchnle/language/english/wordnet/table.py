"""The noun hierarchy of WordNet 3.0, read from one file of a megabyte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

#: Made by `python -m measurements.wordnet_nouns`, which describes its arrays.
FILE = Path(__file__).parent / "nouns.npz"
#: Plural ending and what stands in its place, as WordNet's Morphy has them.
_ENDINGS = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)


class NounTable:
    """The nouns of WordNet 3.0: lemmas, their senses, and the hierarchy above each sense.

    A sense is a synset, a set of words for one meaning, and is given by its index, 0 to 82,114.

    Example:
        >>> nouns = NounTable()
        >>> dog, cat = nouns.senses("dog")[0], nouns.senses("cats")[0]
        >>> nouns.words(dog)
        ('dog', 'domestic dog', 'Canis familiaris')
        >>> [nouns.words(synset)[0] for synset in nouns.most_special_common([dog, cat])]
        ['carnivore']
    """

    def __init__(self, file: Path = FILE) -> None:
        with np.load(file) as table:
            spellings: list[str] = bytes(table["spellings"]).decode().split("\n")
            plurals = [pair.partition(" ")[::2] for pair in bytes(table["plurals"]).decode().split("\n")]
            words, word_counts, parent_counts = (table[n] for n in ("words", "word_counts", "parent_counts"))
            ranks, steps = table["ranks"], table["parents"]
            self._offsets = table["offsets"].cumsum()
            self._kinds = table["kinds"]
            self._is_common = np.unpackbits(table["common"]).astype(bool)
            self._imagenet = tuple(table["imagenet_1k"].tolist())
        synsets = np.repeat(np.arange(len(word_counts)), word_counts)
        self._spellings = spellings
        self._words = np.where(words == 0, (words == 0).cumsum(), words)
        self._word_starts = _starts(word_counts)
        self._parents = np.repeat(np.arange(len(parent_counts)), parent_counts) - steps
        self._parent_starts = _starts(parent_counts)
        self._lemmas: dict[str, int] = {}
        lemma = np.array([self._lemmas.setdefault(word.lower(), len(self._lemmas)) for word in spellings])
        by_word = lemma[self._words]
        self._senses = synsets[np.lexsort((ranks, by_word))]
        self._sense_starts = _starts(np.bincount(by_word, minlength=len(self._lemmas)))
        self._singular: dict[str, str] = dict(plurals)
        self._ancestors: dict[int, frozenset[int]] = {}
        self._common: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._kinds)

    def senses(self, lemma: str) -> tuple[int, ...]:
        """Look up the synsets of a word, most frequent first; empty if WordNet does not list it.

        Args:
            lemma: A word or compound; case, and hyphens for spaces, do not matter. A plural is looked up as
                its singular, unless it is itself a lemma ("glasses").

        Example:
            >>> nouns = NounTable()
            >>> nouns.senses("Polar Bears") == nouns.senses("polar bear") != ()
            True
        """
        found = (self.exact_senses(form) for form in self._forms(_plain(lemma)))
        return next((senses for senses in found if senses), ())

    def lemma(self, word: str) -> str | None:
        """Look up the lemma of a noun, its singular; None if WordNet has none.

        Example:
            >>> nouns = NounTable()
            >>> [nouns.lemma(word) for word in ("leaves", "skies", "shelves", "glasses", "sheep", "qwert")]
            ['leaf', 'sky', 'shelf', 'glasses', 'sheep', None]
        """
        return next((form for form in self._forms(_plain(word)) if self.exact_senses(form)), None)

    def exact_senses(self, lemma: str) -> tuple[int, ...]:
        """Look up the synsets of a lemma in lower case, spelled exactly as in WordNet."""
        row = self._lemmas.get(lemma) if lemma else None
        if row is None:
            return ()
        start, end = self._sense_starts[row : row + 2]
        return tuple(dict.fromkeys(self._senses[start:end].tolist()))

    def common_senses(self, lemma: str) -> tuple[int, ...]:
        """Look up the synsets of a word, with those of persons and geographic names last.

        Example:
            >>> nouns = NounTable()
            >>> nouns.words(nouns.senses("crane")[0]), nouns.words(nouns.common_senses("crane")[0])
            (('Crane', 'Stephen Crane'), ('crane',))
        """
        if lemma in self._common:
            return self._common[lemma]
        senses = self.senses(lemma)
        if len(senses) > 1:
            forms = set(self._forms(_plain(lemma)))
            common = [sense for sense in senses if forms & set(self.words(sense))]
            senses = self._common[lemma] = tuple(dict.fromkeys([*common, *senses]))
        return senses

    def is_physical(self, synset: int) -> bool:
        """Return whether a synset is below WordNet's "physical entity"."""
        return self.senses("physical entity")[0] in self.ancestors(synset)

    def parents(self, synset: int) -> tuple[int, ...]:
        """Look up the direct hypernyms of a synset, those of which it is an instance included."""
        start, end = self._parent_starts[synset : synset + 2]
        return tuple(self._parents[start:end].tolist())

    def ancestors(self, synset: int) -> frozenset[int]:
        """Collect all hypernyms of a synset, itself included."""
        if synset not in self._ancestors:
            above = (self.ancestors(parent) for parent in self.parents(synset))
            self._ancestors[synset] = frozenset([synset]).union(*above)
        return self._ancestors[synset]

    def kinds(self, synset: int) -> int:
        """Count the synsets below one, itself included: 1 for a leaf, 82,115 for "entity"."""
        return int(self._kinds[synset])

    def words(self, synset: int) -> tuple[str, ...]:
        """List the words of a synset, in WordNet's order and spelling."""
        start, end = self._word_starts[synset : synset + 2]
        return tuple(self._spellings[row] for row in self._words[start:end])

    def common_name(self, synset: int) -> str | None:
        """Choose the everyday word for a synset: the first one whose most frequent sense it is, or None.

        Latin names of species, and words that are rare in WordNet's tagged texts ("even-toed ungulate"), are
        skipped.

        Example:
            >>> nouns = NounTable()
            >>> bird, machine = nouns.imagenet_1k()[134], nouns.imagenet_1k()[517]
            >>> nouns.words(bird), nouns.common_name(bird), nouns.common_name(machine)
            (('crane',), None, 'crane')
            >>> ungulate = nouns.senses("even-toed ungulate")[0]
            >>> nouns.common_name(ungulate), nouns.common_name(nouns.senses("hoofed mammal")[0])
            (None, 'hoofed mammal')
        """
        start, end = self._word_starts[synset : synset + 2]
        common = (self._spellings[row] for row in self._words[start:end] if self._is_common[row])
        words = (word for word in common if self.common_senses(word)[:1] == (synset,))
        return next((word for word in words if not self._is_latin(word)), None)

    def most_special_common(self, synsets: Sequence[int]) -> tuple[int, ...]:
        """Find the lowest common ancestors: common ancestors with no common ancestor below them.

        Raises:
            ValueError: If no synset is given.
        """
        if not synsets:
            raise ValueError("most_special_common() got no synsets. Pass at least one.")
        common = frozenset.intersection(*(self.ancestors(synset) for synset in synsets))
        above = {node for synset in common for node in self.ancestors(synset) - {synset}}
        return tuple(sorted(common - above))

    def closure(self, synsets: Sequence[int]) -> tuple[Int[Tensor, " nodes"], Bool[Tensor, "synsets nodes"]]:
        """Collect the ancestors of many synsets, and the matrix of which ancestor is above which synset.

        Args:
            synsets: Repeated ones give repeated rows.

        Returns:
            The ancestors in ascending order, themselves included, and the membership: for probabilities p of
            the synsets, ``p @ member.to(p.dtype)`` is the probability of each ancestor.
        """
        above = [self.ancestors(synset) for synset in synsets]
        nodes = sorted(frozenset().union(*above))
        column = {node: index for index, node in enumerate(nodes)}
        member = torch.zeros(len(synsets), len(nodes), dtype=torch.bool)
        for row, group in enumerate(above):
            member[row, [column[node] for node in group]] = True
        return torch.tensor(nodes, dtype=torch.long), member

    def imagenet_1k(self) -> tuple[int, ...]:
        """List the synsets of ImageNet's 1,000 classes, in the order of a classifier's head."""
        return self._imagenet

    def of_wnid(self, wnid: str) -> int:
        """Look up the synset of one of ImageNet's ids: "n" and an offset in WordNet 3.0.

        Raises:
            ValueError: If WordNet 3.0 has no noun there.

        Example:
            >>> nouns = NounTable()
            >>> nouns.words(nouns.of_wnid("n01440764"))[0]
            'tench'
        """
        offset = int(wnid[1:]) if wnid[:1] == "n" and wnid[1:].isdecimal() else -1
        index = int(np.searchsorted(self._offsets, offset))
        if index == len(self) or self._offsets[index] != offset:
            raise ValueError(f"{wnid!r} is no noun of WordNet 3.0. Give 'n' and eight digits: 'n02084071'.")
        return index

    def _is_latin(self, word: str) -> bool:
        """Return whether a word is a genus and a species ("Felis catus")."""
        genus, _, species = word.partition(" ")
        if not species or not genus[0].isupper() or not species.islower():
            return False
        (taxon,) = self.senses("taxonomic group")
        return any(taxon in self.ancestors(sense) for sense in self.senses(genus))

    def _forms(self, lemma: str) -> Iterator[str]:
        """The word as it is, with other hyphens, and its singulars, likeliest first."""
        written = [lemma, lemma.replace("-", " "), lemma.replace("-", "")]
        if "'" not in lemma:  # a cat's tail is no cat's-tail
            written.append(lemma.replace(" ", "-"))
        yield from dict.fromkeys(written)
        for form in dict.fromkeys(written):
            yield from self._singulars(form)

    def _singulars(self, lemma: str) -> Iterator[str]:
        first, space, last = lemma.rpartition(" ")
        if last in self._singular:
            yield first + space + self._singular[last]
        for ending, other in () if last.endswith("ss") else _ENDINGS:
            if len(last) > len(ending) + 1 and last.endswith(ending):
                yield lemma.removesuffix(ending) + other


def _plain(lemma: str) -> str:
    return " ".join(lemma.lower().replace("_", " ").split())


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
