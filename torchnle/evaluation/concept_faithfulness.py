"""The paper's faithfulness test of concepts (Zero-shot NLE, section 4.3), with the controls that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

#: Texts -> unit vectors.
Encode: TypeAlias = Callable[[Sequence[str]], Tensor]
#: The concepts of each image.
Listed: TypeAlias = Sequence[Sequence[str]]

PROMPT = "an image of a {}"


def concept_agreement(
    regression: nn.Module,
    encode: Encode,
    white: Float[Tensor, "N D"],
    classes: Int[Tensor, "N"],
    names: Sequence[str],
    concepts: Listed,
) -> float:
    """Measure how often class vectors regressed from names and an image's concepts predict the model's class.

    Every class is described by its name and each of the image's concepts ("an image of a hen, a red comb");
    the sentence embeddings are averaged and mapped into feature space. Concepts that are present in the
    feature bring the right class vector nearer to it. Without concepts the names alone are used.

    Args:
        regression: Maps sentence embeddings to class vectors; preferably fitted to other classes.
        encode: Encodes texts.
        white: The centered features.
        classes: The model's predictions, as indices of `names`.
        names: The class names.
        concepts: The concepts of each image, possibly none.

    Returns:
        The share of images.

    Raises:
        ValueError: If there is not one list of concepts and one class per image.

    Example:
        >>> encode = lambda texts: torch.tensor([[float("cat" in t), float("dog" in t)] for t in texts])
        >>> features, classes = torch.tensor([[2.0, 0.1], [0.1, 2.0]]), torch.tensor([0, 1])
        >>> concept_agreement(nn.Identity(), encode, features, classes, ["cat", "dog"], [("fur",), ()])
        1.0
    """
    if not len(white) == len(classes) == len(concepts):
        raise ValueError(
            f"{len(white)} features were given with {len(classes)} classes and {len(concepts)} lists of "
            "concepts; pass one of each an image."
        )
    vectors = _embedded(encode, names, concepts)
    hits = 0
    for row, own, listed in zip(white, classes.tolist(), concepts, strict=True):
        texts = [[_text(name, concept) for concept in listed or ("",)] for name in names]
        means = torch.stack([torch.stack([vectors[t] for t in each]).mean(dim=0) for each in texts])
        directions = F.normalize(regression(F.normalize(means, dim=1)), dim=1)
        hits += int((directions @ row.to(directions)).argmax()) == own
    return hits / max(1, len(white))


def decision_lost(
    white: Float[Tensor, "N D"], along: Float[Tensor, "N D"], concepts: Float[Tensor, "N B D"]
) -> Float[Tensor, "N"]:
    """Compute the share of each logit's decision that is lost if concepts are projected out of the feature.

    The component orthogonal to all of the image's concepts is kept. For a linear head this is exact, without
    changing a picture.

    Args:
        white: The centered features.
        along: The directions along which the logits of the decided classes grow.
        concepts: The directions of each image's concepts, at most D.

    Example:
        >>> feature = torch.tensor([[3.0, 1.0]])
        >>> decision_lost(feature, torch.tensor([[1.0, 1.0]]), torch.tensor([[[1.0, 0.0]]])).tolist()
        [0.75]
    """
    basis = torch.linalg.qr(concepts.transpose(1, 2).double()).Q
    parts = torch.einsum("ndb,nd->nb", basis, white.double())
    removed = torch.einsum("ndb,nb->nd", basis, parts)
    whole = (white.double() * along.double()).sum(dim=1)
    return ((removed * along.double()).sum(dim=1) / whole).to(white)


def control_concepts(
    concepts: Listed, classes: Sequence[int], bank: Sequence[str], *, seed: int = 0
) -> dict[str, list[tuple[str, ...]]]:
    """Draw control concepts for each image, as many as its own: random, of its class, of another class.

    Args:
        concepts: The concepts of each image.
        classes: The class of each image.
        bank: The phrases that they were chosen from.
        seed: The seed of the draws.

    Returns:
        "random": drawn from the bank; "same class": those of another image of the class, the image's own
        where there is none; "wrong image": those of an image of another class.

    Raises:
        ValueError: If all images are of one class.

    Example:
        >>> found = control_concepts([("fur",), ("wings",), ("a beak",)], [0, 1, 1], ["a wheel"])
        >>> found["same class"], found["random"][0]
        ([('fur',), ('a beak',), ('wings',)], ('a wheel',))
    """
    if len(set(classes)) < 2:
        raise ValueError("all images are of one class; pass images of at least two classes.")
    draw, count = Random(seed), range(len(concepts))
    same = [[j for j in count if j != i and classes[j] == classes[i]] or [i] for i in count]
    other = [[j for j in count if classes[j] != classes[i]] for i in count]
    return {
        "random": [tuple(draw.sample(list(bank), min(len(each), len(bank)))) for each in concepts],
        "same class": [tuple(concepts[draw.choice(each)]) for each in same],
        "wrong image": [tuple(concepts[draw.choice(each)]) for each in other],
    }


def _embedded(encode: Encode, names: Sequence[str], concepts: Listed) -> dict[str, Tensor]:
    distinct = dict.fromkeys(concept for listed in concepts for concept in listed or ("",))
    texts = [_text(name, concept) for concept in distinct for name in names]
    return dict(zip(texts, encode(texts), strict=True))


def _text(name: str, concept: str) -> str:
    return PROMPT.replace("{}", f"{name}, {concept}" if concept else name)
