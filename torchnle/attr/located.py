"""Assign a translator's descriptions of rows to their layer, image and location."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from torchnle.description import Description, DescriptionGrid
from torchnle.types import ScoreKind
from torchnle.vision.features import Features

#: The descriptions of one layer: one `Description` an image, or one `DescriptionGrid` an image.
LayerDescriptions: TypeAlias = list[Description] | list[DescriptionGrid]


def locations(
    features: Sequence[Features], *, joint: bool
) -> Iterator[tuple[str, int, tuple[int, int] | None]]:
    """List the layer, image and location of every row, in the order of `rows_of`."""
    names = "+".join(each.layer for each in features)
    for each in features[:1] if joint else features:
        for image in range(each.batch_size):
            for location in each.locations:
                yield (names if joint else each.layer), image, location


def assign_locations(
    words: Sequence[Description], features: Sequence[Features], kind: ScoreKind, *, joint: bool
) -> list[LayerDescriptions]:
    """Fill in each row's layer, image and location, and group the descriptions by layer and image.

    Args:
        words: One description a row, in row order.
        features: The features that the rows were made from.
        kind: The kind of the descriptions' scores.
        joint: Whether the layers were read together.

    Returns:
        One list a layer; one in all with `joint`. For a layer with a grid, a `DescriptionGrid` an image.

    Raises:
        ValueError: If there is not one description a row.
    """
    places = list(locations(features, joint=joint))
    if len(words) != len(places):
        raise ValueError(f"the translator gave {len(words)} descriptions for {len(places)} rows.")
    placed = iter(
        replace(word, score_kind=kind, layer=layer, image=image, location=location)
        for word, (layer, image, location) in zip(words, places, strict=True)
    )
    return [_by_image(placed, each) for each in (features[:1] if joint else features)]


def _by_image(words: Iterator[Description], features: Features) -> LayerDescriptions:
    rows = [[next(words) for _ in features.locations] for _ in range(features.batch_size)]
    if features.grid is None:
        return [word for row in rows for word in row]
    grid = features.grid
    return [DescriptionGrid(row, grid) for row in rows]
