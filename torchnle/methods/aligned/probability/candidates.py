"""The candidate phrases of a posterior, as directions in one layer's map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.methods.aligned.probability.vocabulary import mark_fitted
from torchnle.methods.aligned.text_features.text_map import TextMap

if TYPE_CHECKING:
    from torchnle.methods.aligned.translator import MapTranslator


@dataclass(frozen=True)
class Candidates:
    """The candidate phrases of a posterior, as directions in one layer's map.

    Args:
        directions: The direction of each phrase in the map, (P, D).
        classes: The phrase of each class of the head, as an index, (C,); empty without a head.
        fitted: Which of them were fitted to captions, (P,): these are nearer to every feature, and the map's
            offset is subtracted from their cosines. None = nothing is subtracted.
    """

    directions: Float[Tensor, "P D"]
    classes: Int[Tensor, "C"]
    fitted: Bool[Tensor, "P"] | None = None


def candidates(translator: MapTranslator, fitted: TextMap) -> Candidates:
    """Build the candidates of a translator's vocabulary in one of its maps."""
    phrases = translator.vocabulary.phrases
    column = {phrase: index for index, phrase in enumerate(phrases)}
    classes = [column[name] for name in translator.class_texts] if fitted.classes else []
    directions = fitted.directions(translator.vectors)
    return Candidates(directions, torch.tensor(classes, dtype=torch.long, device=directions.device))


def candidates_of(translator: MapTranslator, layer: str, texts: Sequence[str]) -> Candidates:
    """Build candidates of any texts in a layer's map, without the head's probabilities.

    Texts that were not fitted are a priori as likely as those that were (`choose_offset`).
    """
    fitted, directions = translator.by_layer[layer], translator.directions(layer, texts)
    is_fitted = mark_fitted(texts, translator.phrases[: fitted.phrases]).to(directions.device)
    return Candidates(directions, torch.empty(0, dtype=torch.long, device=directions.device), is_fitted)


def check_texts_fit(
    maps: Mapping[str, TextMap],
    phrases: Sequence[str],
    class_names: Sequence[str],
    class_texts: Sequence[str],
) -> None:
    """Refuse texts that are not the ones that saved maps were fitted to.

    Raises:
        ValueError: If their number differs from that of a map.
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
