"""The probability that a text is true, from the probabilities of the phrases that it entails."""

from __future__ import annotations

import re
from itertools import permutations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.language.english.head_nouns import phrase_words
from torchnle.language.english.nouns import Nouns
from torchnle.methods.aligned.probability.vocabulary import MOST_KINDS, Vocabulary

_ARTICLES = frozenset({"a", "an", "the"})
_PARTS = re.compile(r",|;| and | or | with | on | in front of | in ")


def parts(text: str) -> list[str]:
    """Split a text into the noun phrases that it lists.

    Example:
        >>> parts("a hen on grass and a red ball")
        ['a hen', 'grass', 'a red ball']
    """
    return [part.strip() for part in _PARTS.split(text.strip(" .")) if part.strip()]


def repeats(text: str) -> bool:
    """Return whether a text says something twice: a word within a phrase, or a phrase that another contains.

    Example:
        >>> [repeats(text) for text in ("a hen and a hen", "a wall wall", "a hen and a big hen")]
        [True, True, True]
        >>> [repeats(text) for text in ("a hen on grass", "a red hen and a blue hen")]
        [False, False]
    """
    listed = [[word for word in part.split() if word not in _ARTICLES] for part in parts(text.lower())]
    if any(len(set(words)) < len(words) for words in listed):
        return True
    alike = ((set(a), set(b)) for a, b in permutations(filter(None, listed), 2) if a[-1] == b[-1])
    return any(a <= b for a, b in alike)


def phrases_about(text: str, vocabulary: Vocabulary) -> Bool[Tensor, "P"]:
    """Mark the phrases of a vocabulary that make a part of a text true: the part itself, and its hyponyms.

    A part with modifiers that is in the vocabulary ("a red heart") marks itself only. A part that is not in
    the vocabulary marks all hyponyms of its head noun (`Nouns.of_phrase`), or, if there are none, the nearest
    more general phrases: "a standard poodle" marks "a poodle".

    Args:
        text: A description.
        vocabulary: The phrases.

    Example:
        >>> phrases_about("a dog", Vocabulary(["a tabby cat", "a poodle", "a beagle"])).tolist()
        [False, True, True]
    """
    nouns, found = Nouns.load(), torch.zeros(len(vocabulary), dtype=torch.bool)
    for part in [text] if vocabulary.columns(text) else parts(text):
        own = vocabulary.columns(part)
        found[own] = True
        meant = [vocabulary.synsets[i] for i in own] if own else [nouns.of_phrase(part)]
        alone = nouns.common_senses(" ".join(phrase_words(part)))
        for noun in {each for each in meant if each is not None and (not own or each in alone)}:
            found |= _kinds_of(noun, vocabulary)
    return found


def probability_of(text: str, shares: Float[Tensor, "P"], vocabulary: Vocabulary) -> float | None:
    """Sum the probabilities of the phrases that make a text true (`phrases_about`); None if there are none.

    Args:
        text: A description.
        shares: The probability of each phrase.
        vocabulary: The phrases.

    Example:
        >>> words = Vocabulary(["a tabby cat", "a poodle", "a beagle", "a red ball"])
        >>> shares = torch.tensor([0.1, 0.4, 0.3, 0.2])
        >>> [round(probability_of(t, shares, words), 1) for t in ("a dog", "a poodle and a red ball")]
        [0.7, 0.6]
        >>> probability_of("a house", shares, words) is None
        True
    """
    about = phrases_about(text, vocabulary).to(shares.device)
    return min(float(shares[about].sum()), 1.0) if about.any() else None


def _kinds_of(noun: int, vocabulary: Vocabulary) -> Bool[Tensor, "P"]:
    nouns = Nouns.load()
    below = [synset is not None and noun in nouns.ancestors(synset) for synset in vocabulary.synsets]
    if not any(below):
        above = nouns.ancestors(noun) & {s for s in vocabulary.synsets if s is not None}
        nearest = min((s for s in above if nouns.kinds(s) <= MOST_KINDS), key=nouns.kinds, default=None)
        below = [nearest is not None and synset == nearest for synset in vocabulary.synsets]
    return torch.tensor(below, dtype=torch.bool)
