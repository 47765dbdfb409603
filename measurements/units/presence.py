"""Presence: in which scenes a label is true, by their phrases and WordNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from torchnle.backbones import Backbone
from torchnle.data import Scene
from torchnle.language.english.nouns import Nouns

#: The number of held-out scenes of a class that are needed to measure it.
LEAST = 5


def shown_classes(backbone: Backbone, scenes: Sequence[Scene]) -> list[int]:
    """The classes of which enough held-out scenes show a kind."""
    counts = presence(backbone.class_names, scenes).sum(dim=0)
    found: list[int] = (counts >= LEAST).nonzero().flatten().tolist()
    return found


def presence(labels: Sequence[str], scenes: Sequence[Scene]) -> Tensor:
    """Mark where each label is true: a scene shows what it names, or a kind of it by WordNet, (N, labels)."""
    nouns = Nouns.load()
    meant = [_classes(nouns).get(label, nouns.of_phrase(label) if label else None) for label in labels]
    rows = []
    for scene in scenes:
        phrases = {thing.phrase for thing in scene.objects} | {_bare(thing.phrase) for thing in scene.objects}
        above = {a for phrase in phrases for a in _above(nouns, phrase)}
        rows.append(
            [label in phrases or synset in above for label, synset in zip(labels, meant, strict=True)]
        )
    return torch.tensor(rows).float()


_known: dict[str, int] = {}


def _classes(nouns: Nouns) -> Mapping[str, int]:
    """Build ImageNet's class names, bare and with articles, as names of their own synsets."""
    if not _known:
        from torchnle.backbones import imagenet_class_names
        from torchnle.methods.aligned.fit import class_phrase

        for name, synset in zip(imagenet_class_names(), nouns.imagenet_1k(), strict=True):
            _known[name] = _known[class_phrase(name)] = synset
    return _known


def _bare(phrase: str) -> str:
    """A thing's phrase without its article, as class names are, whose sense may not be WordNet's first."""
    return phrase.removeprefix("a ").removeprefix("an ")


def _above(nouns: Nouns, phrase: str) -> frozenset[int]:
    synset = nouns.of_phrase(phrase)
    return frozenset() if synset is None else nouns.ancestors(synset)
