"""Convert features of the head's layer to the inputs of `Explainer` and of concept lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.zero_shot.classes import Target, as_classes, predicted
from torchnle.methods.zero_shot.concepts import BankDirections, Concepts, class_concepts, concepts
from torchnle.methods.zero_shot.explain import ExplanationInput
from torchnle.types import Where
from torchnle.vision.features import Features

#: Picks locations out of a layer's features, as `Reading.pool`.
Pool = Callable[[Features, Where], Features]


def ask(
    translator: MapTranslator,
    layer: str,
    features: Features,
    pool: Pool,
    *,
    target: Target = None,
    against: Target = None,
    truth: Target = None,
) -> ExplanationInput:
    """Build the input of `Explainer`: what the head reads, the classes, and the locations.

    Args:
        translator: Fitted to the classifier.
        layer: The layer that the head reads.
        features: Of that layer.
        pool: Pools them to what the head reads.
        target: The class to explain.
        against: The class that it is contrasted with.
        truth: The true class; a wrong prediction is contrasted with it.

    Raises:
        TypeError: If a target is neither an index nor a name.
        ValueError: If a target is no class, both `against` and `truth` are given, or a class is contrasted
            with itself.
    """
    if against is not None and truth is not None:
        raise ValueError("rather_than and truth are both given; pass one of them.")
    fitted, pooled = translator.by_layer[layer], pool(features.check_finite(), None)
    classes = as_classes(target, translator, fitted, pooled)
    inputs = ExplanationInput(pooled.rows, classes)
    if features.grid is not None:
        inputs = replace(inputs, locations=pool(features, "all").tokens, grid=features.grid)
    if against is not None:
        return replace(inputs, rather_than=_others(as_classes(against, translator, fitted, pooled), classes))
    if truth is None:
        return inputs
    true = as_classes(truth, translator, fitted, pooled)
    return replace(inputs, rather_than=torch.where(true == classes, -1, true), wrong=True)


def _others(against: Int[Tensor, "N"], classes: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    same = (against == classes).nonzero().flatten().tolist()
    if same:
        raise ValueError(
            f"image(s) {same[:5]} are predicted as the class that they are set against; pass another "
            "rather_than, or target."
        )
    return against


def concepts_of_images(
    translator: MapTranslator,
    layer: str,
    features: Features,
    pool: Pool,
    phrases: Sequence[str],
    *,
    target: Target = None,
    against: Target = None,
    where: Where = None,
    count: int = 15,
) -> list[Concepts] | list[list[Concepts]]:
    """List the concepts of images or of their locations; see `LanguageAttribution.concepts`.

    Raises:
        TypeError: If a target is neither an index nor a name.
        ValueError: If a target is no class, a location lies outside, or `count` is not positive.
    """
    fitted = translator.by_layer[layer]
    whole, chosen = pool(features.check_finite(), None), pool(features, where)
    local = chosen.locations != (None,)
    rows = fitted.scaled(chosen.rows) if local else chosen.rows
    each = len(chosen.locations)
    if target is None and local:
        classes = predicted(fitted, rows)
    else:
        classes = as_classes(target, translator, fitted, whole).repeat_interleave(each)
    others = None
    if against is not None:
        others = as_classes(against, translator, fitted, whole).repeat_interleave(each)
    spots = [(image, location) for image in range(chosen.batch_size) for location in chosen.locations]
    bank = BankDirections.of(translator, fitted, phrases)
    parts = pool(features, "all").tokens if features.grid is not None and not local else None
    found = concepts(
        fitted,
        bank,
        translator.class_names,
        rows,
        classes,
        spots,
        rather_than=others,
        locations=parts,
        whole=local and target is None and against is None,
        count=count,
    )
    if isinstance(where, str):
        return [found[start : start + each] for start in range(0, len(found), each)]
    return found


def concepts_of_classes(
    translator: MapTranslator, layer: str, phrases: Sequence[str], target: Target, count: int
) -> list[Concepts]:
    """List the concepts of classes by their weights, without an image.

    Args:
        translator: Fitted to the classifier.
        layer: The layer that the head reads.
        phrases: The bank.
        target: Which classes; None = all.
        count: How many concepts to list.

    Raises:
        TypeError: If a target is neither an index nor a name.
        ValueError: If a target is no class, or `count` is not positive.
    """
    fitted = translator.by_layer[layer]
    wanted = list(range(fitted.classes)) if target is None else target
    listed = [wanted] if isinstance(wanted, int | str) else list(wanted)
    nothing = Features(torch.zeros(len(listed), 1, fitted.width, device=fitted.center.device), layer)
    classes = as_classes(listed, translator, fitted, nothing)  # type: ignore[arg-type]
    bank = BankDirections.of(translator, fitted, phrases)
    return class_concepts(fitted, bank, translator.class_names, classes, count)
