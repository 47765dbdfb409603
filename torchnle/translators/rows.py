"""Rows: which rows some features make, and which input of a translator each layer fills."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.errors import TranslatorMismatchError
from torchnle.vision.features import Features


@dataclass(frozen=True)
class Rows:
    """Rows that are read with the same inputs of a translator.

    Args:
        tokens: For each input of the translator its tokens, (rows R, tokens S, width D).
        layer: The name of the layer that was read; several joined by "+".
        places: The (image, location) of each row.

    Example:
        >>> rows = Rows({"layer4": torch.zeros(3, 1, 8)}, "layer4", ((0, None), (1, None), (2, None)))
        >>> len(rows[1:]), rows[1:].places
        (2, ((1, None), (2, None)))
    """

    tokens: Mapping[str, Float[Tensor, "R S D"]]
    layer: str
    places: tuple[tuple[int, tuple[int, int] | None], ...]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, part: slice) -> Rows:
        return Rows({slot: t[part] for slot, t in self.tokens.items()}, self.layer, self.places[part])


def as_list(features: Features | Sequence[Features]) -> list[Features]:
    """One layer's features, or those of several, as a list."""
    return [features] if isinstance(features, Features) else list(features)


def find_slot(features: Features, widths: Mapping[str, int], translator: str) -> str:
    """The input that a layer fills: the one of its name, else the only one of its width.

    Args:
        features: The features of one layer.
        widths: The translator's inputs: layer name -> width D.
        translator: The translator's name, for the message.

    Raises:
        TranslatorMismatchError: If the width is not the input's, or no input or several fit.

    Example:
        >>> find_slot(Features(torch.zeros(1, 1, 8), "backbone.layer4"), {"layer3": 4, "layer4": 8}, "x")
        'layer4'
    """
    if widths.get(features.layer) == features.width:
        return features.layer
    fitting = [slot for slot, width in widths.items() if width == features.width]
    if len(fitting) == 1 and features.layer not in widths:
        return fitting[0]
    raise TranslatorMismatchError(_mismatch(features, widths, translator, fitting))


def _mismatch(features: Features, widths: Mapping[str, int], translator: str, fitting: list[str]) -> str:
    layer, names = features.layer, list(widths)
    if len(fitting) > 1 and layer not in widths:
        return (
            f"translator '{translator}' has {len(fitting)} layers of width {features.width} ({fitting}), and "
            f"none is called '{layer}'. Name the layer as it was called when the translator was trained."
        )
    known = layer in widths
    expected = sorted({widths[layer]} if known else set(widths.values()))
    word = "width" if len(expected) == 1 else "widths"
    source = f"'{layer}'" if known else f"{len(names)} layer{'s' if len(names) > 1 else ''}"
    return (
        f"translator '{translator}' expects {word} {', '.join(map(str, expected))} from {source}; '{layer}' "
        f"gives {features.width}. Pass layers={names[0] if len(names) == 1 else names!r}, "
        f"or a translator trained for {layer}."
    )


def gather(
    features: Sequence[Features],
    widths: Mapping[str, int],
    *,
    joint: bool,
    tokens_per_row: int,
    translator: str,
) -> list[Rows]:
    """Turn features into rows, one group a layer, or one group in all when they are read together.

    Args:
        features: The features of each layer.
        widths: The translator's inputs: layer name -> width D.
        joint: Whether one row holds every layer's token of one location.
        tokens_per_row: 1 = every token is a row; more = every image is one row of that many tokens, its
            class and register tokens first.
        translator: The translator's name, for messages.

    Raises:
        TranslatorMismatchError: If a layer fits no input, or its number of tokens is not the row's.
        ValueError: If there are no rows, a feature is NaN or infinite, or layers read together disagree
            in batch size or locations or fill the same input.
    """
    if not features or any(each.tokens.shape[:2].numel() == 0 for each in features):
        raise ValueError("there are no features to read: pass at least one image and one location.")
    groups = []
    for each in features:
        slot = find_slot(each.check_finite(), widths, translator)
        groups.append(_rows_of(each, slot, tokens_per_row, translator))
    return [_joined(groups)] if joint and len(groups) > 1 else groups


def _rows_of(features: Features, slot: str, tokens_per_row: int, translator: str) -> Rows:
    images = range(features.batch_size)
    if tokens_per_row == 1:
        places = tuple((image, place) for image in images for place in features.locations)
        return Rows({slot: features.rows.unsqueeze(1)}, features.layer, places)
    tokens = features.tokens
    if features.extra is not None:
        tokens = torch.cat([features.extra, tokens], dim=1)
    if tokens.shape[1] != tokens_per_row:
        raise TranslatorMismatchError(
            f"translator '{translator}' reads all {tokens_per_row} tokens of an image at once; layer "
            f"'{features.layer}' gives {tokens.shape[1]}. Pass the features of every location with the "
            "class and register tokens, at the image size of training."
        )
    return Rows({slot: tokens}, features.layer, tuple((image, None) for image in images))


def _joined(groups: Sequence[Rows]) -> Rows:
    """One group whose rows hold all layers' tokens of one location."""
    first = groups[0]
    for other in groups[1:]:
        if other.places != first.places:
            raise ValueError(
                f"layers read with joint=True must have the same images and locations; '{first.layer}' has "
                f"{len(first)} rows and '{other.layer}' {len(other)}, or at other places. Pool them "
                "(where=None), or bring them to one grid first."
            )
    tokens = {slot: t for group in groups for slot, t in group.tokens.items()}
    if len(tokens) < len(groups):
        raise ValueError(
            f"layers {[g.layer for g in groups]} fill only the inputs {list(tokens)}: with joint=True "
            "every layer needs an input of its own. Leave the doubles out, or read without joint."
        )
    return Rows(tokens, "+".join(group.layer for group in groups), first.places)


def batches(groups: Sequence[Rows], size: int | None) -> Iterator[list[Rows]]:
    """Cut groups, in order, into lists that hold at most `size` rows together; None = all at once.

    Raises:
        ValueError: If `size` is not positive.

    Example:
        >>> group = Rows({"a": torch.zeros(5, 1, 2)}, "a", ((0, None),) * 5)
        >>> [[len(part) for part in batch] for batch in batches([group, group], 4)]
        [[4], [1, 3], [2]]
    """
    if size is not None and size < 1:
        raise ValueError(f"internal_batch_size={size}; pass a positive number of rows, or None for all.")
    room = total = sum(map(len, groups)) if size is None else size
    batch: list[Rows] = []
    for group in groups:
        rest = group
        while len(rest):
            part, rest = rest[:room], rest[room:]
            batch.append(part)
            room -= len(part)
            if room == 0:
                yield batch
                batch, room = [], total
    if batch:
        yield batch
