"""The texts of a text decoder: for training, held out, and to be reproduced exactly."""

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
    """The training texts, held-out texts and known phrases of a text decoder.

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
        """Generate the texts from WordNet's nouns, ImageNet's class names and the phrases of cut-outs.

        Args:
            wordnet: The folder of WordNet's index.noun and data.noun.
            stamps: The folder of captioned cut-outs (`load_cutouts`).
            count: The number of texts that the templates generate, duplicates included.
            seed: The seed of the templates.

        Raises:
            ValueError: If a folder does not hold WordNet or cut-outs.
        """
        names = imagenet_class_names()
        phrases = load_cutouts(stamps).phrases
        nouns = vocabulary(wordnet, class_names=names, phrases=phrases)
        made, unseen = decoder_texts(nouns, count, seed=seed)
        classes = tuple(with_article(name) for name in names)
        return cls(tuple(made), tuple(unseen), classes, tuple(phrases))

    @cached_property
    def known(self) -> list[str]:
        """The phrases to be reproduced exactly: class names and cut-outs, each once."""
        return list(dict.fromkeys([*self.classes, *self.phrases]))

    @cached_property
    def held(self) -> list[str]:
        """The held-out texts: none of them is a known phrase."""
        known = set(self.known)
        return [text for text in self.unseen if text not in known]

    def texts(self, most: int | None = None) -> list[str]:
        """Return the training texts: the first `most` generated ones (None = all), and every known phrase."""
        made = list(self.made[:most])
        return made + sorted(set(self.known) - set(made))
