"""The phrases that compete to be said, as one layer's map sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.methods.aligned.probability.vocabulary import held
from torchnle.methods.aligned.text_features.text_map import TextMap

if TYPE_CHECKING:
    from torchnle.methods.aligned.translator import MapTranslator


@dataclass(frozen=True)
class Candidates:
    """The phrases that a feature may show.

    Args:
        directions: The direction of each phrase in the map, (P, D).
        fitted: Which of them captions taught, (P,): these lie nearer to every feature than others.
        classes: Which phrase each class of the head is, (C,); empty without a head.
    """

    directions: Float[Tensor, "P D"]
    fitted: Bool[Tensor, "P"]
    classes: Int[Tensor, "C"]


def candidates(translator: MapTranslator, fitted: TextMap) -> Candidates:
    """Carry a translator's vocabulary into one of its maps."""
    phrases = translator.vocabulary.phrases
    column = {phrase: index for index, phrase in enumerate(phrases)}
    names = translator.class_texts if fitted.classes else ()
    classes = [column[name] for name in names]
    return _among(translator, fitted, phrases, fitted.directions(translator.vectors), classes)


def asked(translator: MapTranslator, layer: str, texts: Sequence[str]) -> Candidates:
    """Carry any texts into a layer's map; the head says nothing of them."""
    return _among(translator, translator.by_layer[layer], texts, translator.directions(layer, texts), [])


def _among(
    translator: MapTranslator,
    fitted: TextMap,
    texts: Sequence[str],
    directions: Float[Tensor, "P D"],
    classes: Sequence[int],
) -> Candidates:
    return Candidates(
        directions,
        held(texts, translator.phrases[: fitted.phrases]).to(directions.device),
        torch.tensor(classes, dtype=torch.long, device=directions.device),
    )


def check_texts_fit(
    maps: Mapping[str, TextMap],
    phrases: Sequence[str],
    class_names: Sequence[str],
    class_texts: Sequence[str],
) -> None:
    """Refuse texts that are not those that maps were fitted to.

    Raises:
        ValueError: If they are not.
    """
    if len(class_names) != len(class_texts):
        raise ValueError(f"{len(class_names)} class names came with {len(class_texts)} class texts.")
    for layer, fitted in maps.items():
        if fitted.classes not in (0, len(class_texts)) or fitted.phrases not in (0, len(phrases)):
            raise ValueError(
                f"the map of '{layer}' was fitted to {fitted.phrases} phrases and {fitted.classes} class "
                f"names; {len(phrases)} and {len(class_texts)} were given. Pass those of "
                "the fit, in its order."
            )
