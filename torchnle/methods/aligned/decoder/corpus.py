"""The texts of a text decoder: to train on, held out, and to be said word for word."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torchnle.backbones import imagenet_class_names
from torchnle.data.cutouts import load_cutouts
from torchnle.data.vocabulary import decoder_texts, vocabulary
from torchnle.language.english.phrases import with_article

#: Where Debian's packages put WordNet's database and Tux Paint's stamps.
WORDNET, STAMPS = Path("/usr/share/wordnet"), Path("/usr/share/tuxpaint/stamps")


@dataclass(frozen=True)
class Corpus:
    """The texts of a decoder.

    Args:
        made: Texts made by templates, in the order of a seeded shuffle, without the held-out ones.
        unseen: Texts made by templates and held out by their hash.
        classes: ImageNet's class names with their articles.
        phrases: The captions of the cut-outs, as noun phrases.

    Example:
        >>> corpus = Corpus(("a hen", "a cat on a mat"), ("a dog", "an ox"), ("a hen",), ("an ox",))
        >>> corpus.known, corpus.held, corpus.texts(1)
        (['a hen', 'an ox'], ['a dog'], ['a hen', 'an ox'])
    """

    made: tuple[str, ...]
    unseen: tuple[str, ...]
    classes: tuple[str, ...]
    phrases: tuple[str, ...]

    @classmethod
    def make(cls, wordnet: Path, stamps: Path, *, count: int = 180_000, seed: int = 0) -> Corpus:
        """Make the texts from WordNet's nouns, the class names and the phrases of cut-outs.

        Args:
            wordnet: Holds WordNet's index.noun and data.noun.
            stamps: Captioned cut-outs.
            count: How many texts the templates make, duplicates included.
            seed: Seeds the templates.

        Raises:
            ValueError: If WordNet or the cut-outs are not where they should be.
        """
        names = imagenet_class_names()
        phrases = load_cutouts(stamps).phrases
        nouns = vocabulary(wordnet, class_names=names, phrases=phrases)
        made, unseen = decoder_texts(nouns, count, seed=seed)
        classes = tuple(with_article(name) for name in names)
        return cls(tuple(made), tuple(unseen), classes, tuple(phrases))

    @cached_property
    def known(self) -> list[str]:
        """The phrases that are to be said word for word: class names and cut-outs, each once."""
        return list(dict.fromkeys([*self.classes, *self.phrases]))

    @cached_property
    def held(self) -> list[str]:
        """The held-out texts: none of them is a known phrase."""
        known = set(self.known)
        return [text for text in self.unseen if text not in known]

    def texts(self, most: int | None = None) -> list[str]:
        """Return the texts to train on: the first `most` made ones, or all, and every known phrase."""
        made = list(self.made[:most])
        return made + sorted(set(self.known) - set(made))
