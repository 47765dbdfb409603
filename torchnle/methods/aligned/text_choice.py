"""Choose the text of a description from the posterior: the most specific one that is probable enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.description import Description
from torchnle.methods.aligned.probability.vocabulary import Vocabulary

#: A phrase is chosen if it is likelier than not, else a noun that is likelier still; 0.5 to 0.7 name
#: as many of 53 photographs.
_PHRASE, _NOUN = 0.5, 0.6
#: What being right is worth beside what words say, in bits, where nothing is likely. 2 to 10 do as well.
_WORTH = 5.0
#: The least share of each of two phrases that are joined as "x or y".
_EITHER = 0.3
#: Below these probabilities a description is unsure: of pooled features, and of single locations, whose
#: probabilities spread over more phrases. Chosen on 53 photographs (docs/measurements.md).
SURE_ABOVE, SURE_ABOVE_AT_LOCATION = 0.34, 0.22
#: How many phrases a description lists.
_LISTED = 6


@dataclass(frozen=True)
class TextChoice:
    """A text with the estimated probability that it is true."""

    text: str
    probability: float


def choose_texts(posterior: Float[Tensor, "R P"], vocabulary: Vocabulary) -> list[TextChoice]:
    """Choose the text of every row from its phrases' probabilities.

    The first of these that is probable enough: one phrase; the most specific hypernym; two phrases together
    ("x or y"). Else the phrase or hypernym of the largest expected reward, its probability times its
    information content (Deng et al., 2012, "Hedging your bets").

    Args:
        posterior: The probability of each phrase.
        vocabulary: The phrases and their hypernyms.

    Returns:
        One text per row with its probability.

    Example:
        >>> words = Vocabulary(["a tabby cat", "a poodle", "a beagle"])
        >>> shares = torch.tensor([[0.9, 0.05, 0.05], [0.2, 0.4, 0.4]])
        >>> [choice.text for choice in choose_texts(shares, words)]
        ['a tabby cat', 'a dog']
    """
    shares = posterior.clamp(0, 1)
    mass = noun_mass(shares, vocabulary)
    return [_choose(p, m, vocabulary) for p, m in zip(shares.cpu(), mass.cpu(), strict=True)]


def noun_mass(posterior: Float[Tensor, "R P"], vocabulary: Vocabulary) -> Float[Tensor, "R nouns"]:
    """Sum the phrases' probabilities below each hypernym, on the device of `posterior`.

    Example:
        >>> words = Vocabulary(["a tabby cat", "a poodle", "a beagle"])
        >>> mass = noun_mass(torch.tensor([[0.1, 0.5, 0.4]]), words)
        >>> found = dict(zip(words.nouns, mass[0].tolist(), strict=True))
        >>> round(found["a dog"], 2), round(found["a domestic animal"], 2)
        (0.9, 1.0)
    """
    tree = vocabulary.tree
    ones, indices = posterior.new_ones(len(tree.phrase)), torch.stack([tree.noun, tree.phrase])
    size = (len(tree.words), posterior.shape[1])
    above = torch.sparse_coo_tensor(indices.to(posterior.device), ones, size, check_invariants=False)
    mass: Tensor = torch.sparse.mm(above, posterior.T).T
    return mass.clamp(max=1)


def _choose(p: Float[Tensor, "P"], mass: Float[Tensor, "nouns"], vocabulary: Vocabulary) -> TextChoice:
    best, index = p.max(dim=0)
    nouns, information = vocabulary.tree.words, vocabulary.tree.information
    if best >= _PHRASE:
        return TextChoice(vocabulary.phrases[index], float(best))
    likely = (mass >= _NOUN) & (information > 0)  # a noun above all phrases says nothing
    if likely.any():
        noun = _first_best((information + 1e-3 * mass).masked_fill(~likely, -torch.inf))
        return TextChoice(nouns[noun], float(mass[noun]))
    if len(p) > 1:
        two = p.topk(2)
        if two.values[1] >= _EITHER and two.values.sum() >= _NOUN:
            first, second = (vocabulary.phrases[i] for i in two.indices)
            return TextChoice(f"{first} or {second}", min(1.0, float(two.values.sum())))
    if len(mass):
        value = (mass * (information + _WORTH)).masked_fill(information <= 0, 0.0)
        noun = _first_best(value)
        if value[noun] > best * (math.log2(len(p)) + _WORTH):
            return TextChoice(nouns[noun], float(mass[noun]))
    return TextChoice(vocabulary.phrases[index], float(best))


def _first_best(values: Float[Tensor, "nouns"]) -> int:
    """The first of the largest, up to rounding: of nouns that say as much the one with fewer kinds."""
    return int((values >= values.max() - 1e-5).nonzero()[0])


def described(
    choices: Sequence[TextChoice],
    scores: Float[Tensor, "R"],
    shares: Float[Tensor, "R P"],
    phrases: Sequence[str],
    *,
    sure_above: float,
) -> list[Description]:
    """Build one description per row, with its most probable phrases and their probabilities.

    Args:
        choices: The text of each row, with its probability.
        scores: The raw score of each row's text.
        shares: The probability of each phrase on each row.
        phrases: The phrases.
        sure_above: Less probable texts are marked unsure.
    """
    best = shares.topk(min(_LISTED, shares.shape[1]), dim=1)
    listed = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        Description(
            each.text,
            score,
            phrases=tuple((phrases[i], p) for i, p in zip(indices, values, strict=True)),
            probability=each.probability,
            unsure=each.probability < sure_above,
        )
        for each, score, (indices, values) in zip(choices, scores.tolist(), listed, strict=True)
    ]
