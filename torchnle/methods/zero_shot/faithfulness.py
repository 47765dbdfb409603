"""Measures of a sentence's faithfulness: percentile, slope of the logit, agreement between runs."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from importlib import resources

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.zero_shot.classes import class_directions
from torchnle.methods.zero_shot.prefix_tuning.tuning import Tuning
from torchnle.methods.zero_shot.sentences.beams import Search

#: The text before the sentence in the second run of a search, which draws nothing.
SECOND_PROMPT = "It was recognized as {}, since it is a picture of"


@lru_cache(maxsize=1)
def reference_sentences() -> tuple[str, ...]:
    """Load the shipped reference sentences, which describe other pictures.

    Composed by ``python -m measurements.zero_shot.references``: one for each of ImageNet's classes, with a
    part or a scene of the concept bank.

    Example:
        >>> len(reference_sentences()) > 500
        True
    """
    text = resources.files(__package__).joinpath("reference_sentences.txt").read_text(encoding="utf-8")
    return tuple(dict.fromkeys(line for line in text.splitlines() if line and not line.startswith("#")))


def percentile(score: Float[Tensor, "R"], others: Float[Tensor, "R T"]) -> Float[Tensor, "R"]:
    """Compute the percentage of other sentences with a lower score; ties count half.

    Args:
        score: The score of each row's sentence.
        others: The scores of the other sentences on the same row.

    Example:
        >>> import torch
        >>> percentile(torch.tensor([0.5]), torch.tensor([[0.1, 0.5, 0.9, 0.2]])).tolist()
        [62.5]
    """
    below = (others < score[:, None]).float() + 0.5 * (others == score[:, None]).float()
    return 100 * below.mean(dim=1)


def slopes(
    fitted: TextMap, classes: Int[Tensor, "R"], directions: Float[Tensor, "T D"]
) -> Float[Tensor, "R T"]:
    """Compute the derivative of a class's logit along each text's direction (as FaithTrace does).

    Relative to the derivative along the class's own weight row, the largest of any unit direction; for a
    linear head this is the cosine of the two.

    Args:
        fitted: The map of the head's layer.
        classes: One class per row.
        directions: Unit directions of texts.
    """
    return F.normalize(class_directions(fitted)[classes], dim=1) @ directions.T


def second_run(search: Search | Tuning) -> Search | Tuning:
    """Change the settings to those of a second run, whose sentence `agreement` compares with the first.

    Args:
        search: A search gets another prompt, since it has no seed; prefix tuning the next seed, which
            draws its prefixes and prompts.

    Example:
        >>> second_run(Tuning(seed=3)).seed
        4
    """
    if isinstance(search, Tuning):
        return replace(search, seed=search.seed + 1)
    return replace(search, prompt=SECOND_PROMPT)


def agreement(encoder: TextEncoder, first: list[str], second: list[str]) -> Float[Tensor, "R"]:
    """Compute the cosine of the sentence embeddings of two explanations of the same images.

    Args:
        encoder: The sentence encoder.
        first: One sentence per image.
        second: The same, written from another seed or prompt.

    Raises:
        ValueError: If the numbers of sentences differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} sentences were given with {len(second)} others; pass pairs.")
    return (encoder.encode(first) * encoder.encode(second)).sum(dim=1)
