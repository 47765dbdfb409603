"""Choose the intended sense of a class name: the sense nearest to the other classes of the classifier."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.language.english.head_nouns import head_senses, phrase_words
from torchnle.language.english.wordnet import NounTable

#: Over how many of the nearest other classes nearness is averaged, and how many bits nearer a sense must lie
#: to come before the next commoner one. `tests/language/test_nouns.py` counts what they name rightly.
_NEAREST, _RANK_BITS = 20, 0.5
_BRACKETS = re.compile(r"\(([^)]*)\)")
_EITHER = re.compile(r"\s+or\s+|/")


def choose_senses(
    nouns: NounTable, names: Sequence[str], *, first: int | None = None
) -> tuple[int | None, ...]:
    """Choose one WordNet sense for each of a classifier's class names.

    The similarity of two senses is the information content, in bits, of their lowest common ancestor: log2 of
    the number of all synsets over the number below it. The sense of a class is the one most similar to the 20
    most similar other classes.

    Args:
        nouns: WordNet's noun hierarchy.
        names: The class names.
        first: Return senses for this many names only; None = for all.

    Returns:
        One synset per name; None if WordNet has none.
    """
    possible = [_possible(nouns, name) for name in names]
    wanted = possible[:first]
    if all(len(senses) < 2 for senses in wanted):
        return tuple(senses[0] if senses else None for senses in wanted)
    flat = [sense for senses in possible for sense in senses]
    owner = torch.tensor([index for index, senses in enumerate(possible) for _ in senses])
    nodes, above = nouns.closure(flat)
    kinds = torch.tensor([nouns.kinds(node) for node in nodes.tolist()])
    bits = (len(nouns) / kinds).log2()
    chosen: list[int | None] = []
    start = 0
    for index, senses in enumerate(wanted):
        own = slice(start, start := start + len(senses))
        near = _nearness(above[own], above, bits, owner, index, len(names))
        chosen.append(senses[int(near.argmax())] if senses else None)
    return tuple(chosen)


def _nearness(
    senses: Bool[Tensor, "S nodes"],
    all_senses: Bool[Tensor, "A nodes"],
    bits: Float[Tensor, " nodes"],
    owner: Int[Tensor, " A"],
    own: int,
    classes: int,
) -> Float[Tensor, " S"]:
    """Compute each sense's nearness to the nearest other classes, less a little for rarer senses."""
    near = torch.zeros(len(senses))
    for row, sense in enumerate(senses if len(senses) > 1 else ()):
        shared = (all_senses[:, sense] * bits[sense]).amax(dim=1)
        by_class = torch.zeros(classes).scatter_reduce(0, owner, shared, "amax")
        others = torch.cat([by_class[:own], by_class[own + 1 :]])
        near[row] = others.topk(min(_NEAREST, len(others))).values.mean() if len(others) else 0.0
    return near - _RANK_BITS * torch.arange(len(senses))


def _possible(nouns: NounTable, name: str) -> tuple[int, ...]:
    """The senses that a class name can have by itself, likeliest first."""
    plain = _EITHER.split(_BRACKETS.sub(" ", name))[0].strip()
    senses = _head(nouns, plain)
    for aside in _BRACKETS.findall(name):
        of_that_kind = _below(nouns, senses, _head(nouns, aside))
        senses = of_that_kind or senses
    words = phrase_words(plain)
    if len(words) > 1 and not nouns.senses(" ".join(words)):
        kind = nouns.common_senses(words[-1])
        for length in range(min(3, len(words) - 1), 0, -1):
            named = nouns.common_senses(" ".join(words[-1 - length : -1]))
            if found := _below(nouns, named, kind):
                return found
    return senses


def _head(nouns: NounTable, phrase: str) -> tuple[int, ...]:
    return head_senses(phrase, nouns.common_senses, nouns.is_physical)


def _below(nouns: NounTable, senses: Sequence[int], kinds: Sequence[int]) -> tuple[int, ...]:
    above = frozenset(kinds)
    return tuple(sense for sense in senses if sense not in above and above & nouns.ancestors(sense))
