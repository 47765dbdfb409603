"""Resemblances: what an image shows at the locations that decide, beside its class."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.language.english.head_nouns import last_word
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.zero_shot.classes import class_directions
from torchnle.methods.zero_shot.concepts import BankDirections, best_texts
from torchnle.methods.zero_shot.sentences.beams import repeats
from torchnle.methods.zero_shot.sentences.words import is_unwanted

#: The share of features with shuffled channels that a phrase must fit less than the feature itself.
_LEVEL, _SHUFFLES = 0.95, 64
#: So many of the nearest phrases are considered.
_CONSIDERED = 20


def without_class(
    fitted: TextMap, white: Float[Tensor, "R D"], classes: Int[Tensor, "R"]
) -> Float[Tensor, "R D"]:
    """Take the component along a class's own direction out of unit features.

    What is left does not change the class's logit: it is what an image shows beside its class.

    Args:
        fitted: The map of the head's layer.
        white: Whitened features.
        classes: One class per row.
    """
    unit, own = F.normalize(white, dim=1), F.normalize(class_directions(fitted)[classes], dim=1)
    return unit - (unit * own).sum(dim=1, keepdim=True) * own


def resemblances(
    bank: BankDirections,
    left: Float[Tensor, "R D"],
    named: Sequence[str],
    unwanted: Collection[str] = (),
    count: int = 3,
) -> list[tuple[tuple[str, float], ...]]:
    """List the phrases that features resemble beside their class, with cosines, best first.

    A phrase is listed if its cosine exceeds the best of any phrase with the same feature under 95 % of 64
    random orders of its channels, and if its noun is not related to what is named already.

    Args:
        bank: The phrases.
        left: Features without their class (`without_class`).
        named: What is named already of each feature: its class and its sentence.
        unwanted: Words to exclude.
        count: The number of phrases at most.
    """
    nearest, found = best_texts(bank.texts, bank.cosines(left), _CONSIDERED), []
    draw = torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(left.shape[1], generator=draw) for _ in range(_SHUFFLES)])
    for vector, near, names in zip(left, nearest, named, strict=True):
        shuffled = bank.cosines(vector[orders.to(vector.device)])
        least, before = float(shuffled.amax(dim=1).quantile(_LEVEL)), names.lower().split()
        fresh = [
            (text, value)
            for text, value in near
            if value > least and not repeats(before, last_word(text)) and not is_unwanted(text, unwanted)
        ]
        found.append(tuple(fresh[:count]))
    return found
