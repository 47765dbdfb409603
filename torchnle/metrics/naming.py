"""Local naming: whether the sentence for an object's location names the object, against controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from torchnle.metrics.captions import words


def says_nouns(texts: Sequence[str], nouns: Sequence[str]) -> Bool[Tensor, "texts nouns"]:
    """Return a mask of which texts contain which nouns as whole words.

    Args:
        texts: Sentences.
        nouns: The head nouns of the possible phrases, from `torchnle.data.head_noun`; "bins" does not
            contain "bin".

    Raises:
        ValueError: If there is no text or no noun.

    Example:
        >>> says_nouns(["a red hen on grass"], ["hen", "grass", "owl"])
        tensor([[ True,  True, False]])
    """
    _check(texts, nouns)
    if blank := [noun for noun in nouns if not words(noun)]:
        raise ValueError(f"nouns {blank[:8]} hold no word, which every text would say; leave them out.")
    text_words = [set(words(text)) for text in texts]
    heads = [set(words(noun)) for noun in nouns]
    return torch.tensor([[head <= text for head in heads] for text in text_words])


def nearest_phrases(
    texts: Sequence[str], phrases: Sequence[str], encode: Callable[[list[str]], Tensor]
) -> Bool[Tensor, "texts phrases"]:
    """Return a mask of the phrase whose sentence embedding is nearest to each text's, by cosine.

    Args:
        texts: Sentences; a blank one has no nearest phrase.
        phrases: The possible phrases, each once.
        encode: Texts -> unit vectors (`TextEncoder.encode`).

    Raises:
        ValueError: If there is no text or no phrase, or a phrase comes twice.

    Example:
        >>> encode = lambda texts: torch.tensor([[1.0, 0.0] if "hen" in t else [0.0, 1.0] for t in texts])
        >>> nearest_phrases(["the hen", ""], ["a hen", "an owl"], encode)
        tensor([[ True, False], [False, False]])
    """
    _check(texts, phrases)
    if len(set(phrases)) < len(phrases):
        raise ValueError("phrases holds duplicates, of which only one could be nearest; pass each once.")
    nearest = torch.zeros(len(texts), len(phrases), dtype=torch.bool)
    if distinct := sorted({text for text in texts if text.strip()}):
        best = (encode(distinct) @ encode(list(phrases)).T).argmax(dim=1).tolist()
        column = dict(zip(distinct, best, strict=True))
        for row, text in enumerate(texts):
            if text in column:
                nearest[row, column[text]] = True
    return nearest


def naming_rates(
    named: Bool[Tensor, "texts phrases"], truth: Sequence[int], scenes: Sequence[int]
) -> dict[str, float]:
    """Compute the rate at which sentences name the object at their location, and that of two controls.

    Args:
        named: The phrases that each object's sentence names, from `says_nouns` or `nearest_phrases`.
        truth: The phrase of each object, as a column of `named`.
        scenes: The scene of each object.

    Returns:
        "local", the share of objects named at their location; "elsewhere", the share named by the sentence at
        another object of their scene (NaN if every scene has one object); "shuffled", the share named by
        a sentence drawn from any other scene: the mean over all of these, so that no seed decides.

    Raises:
        ValueError: If the lengths differ or there is only one scene.

    Example:
        >>> named = torch.tensor([[True, False], [False, True], [True, False], [True, False]])
        >>> naming_rates(named, truth=[0, 1, 0, 1], scenes=[0, 0, 1, 1])
        {'local': 0.75, 'elsewhere': 0.25, 'shuffled': 0.5}
    """
    if len(named) != len(truth) or len(named) != len(scenes) or len(set(scenes)) < 2:
        raise ValueError(
            f"{len(named)} sentences, {len(truth)} phrases and {len(scenes)} scenes of objects, "
            f"{len(set(scenes))} different; pass one of each an object, from two scenes or more."
        )
    hits = named[:, torch.tensor(truth)].double()  # sentence i against the phrase of object j
    scene = torch.tensor(scenes)
    same = scene[:, None] == scene
    own = torch.eye(len(scene), dtype=torch.bool)
    return {
        "local": hits.diagonal().mean().item(),
        "elsewhere": hits[same & ~own].mean().item(),
        "shuffled": hits[~same].mean().item(),
    }


def _check(texts: Sequence[str], phrases: Sequence[str]) -> None:
    if isinstance(texts, str) or isinstance(phrases, str):
        raise TypeError("pass lists of texts and of phrases, not single strings.")
    if not texts or not phrases:
        raise ValueError(f"{len(texts)} texts and {len(phrases)} phrases; pass at least one of each.")
