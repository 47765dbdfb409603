"""Rows: the input of a translator. One row is one location of a layer, or one pooled feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from torchnle.errors import TranslatorMismatchError
from torchnle.types import Where
from torchnle.vision.features import Features


@dataclass(frozen=True)
class Rows:
    """A group of rows from the same layers, the input of a translator.

    Args:
        tokens: Each layer's tokens, (rows R, tokens S, width D) by the layer's name. Several layers: each row
            holds all layers' tokens of one location.
        pooled: Whether rows are features pooled over an image or a part of it, rather than single locations.

    Example:
        >>> import torch
        >>> rows = Rows({"layer4": torch.zeros(3, 1, 8)})
        >>> len(rows[1:]), rows.layer
        (2, 'layer4')
    """

    tokens: Mapping[str, Float[Tensor, "R S D"]]
    pooled: bool = True

    def __len__(self) -> int:
        return len(next(iter(self.tokens.values())))

    def __getitem__(self, part: slice) -> Rows:
        return replace(self, tokens={layer: x[part] for layer, x in self.tokens.items()})

    @property
    def layer(self) -> str:
        """The layers' names, joined by "+"."""
        return "+".join(self.tokens)

    def for_inputs(self, widths: Mapping[str, int], translator: str) -> Rows:
        """Rename the layers of the tokens to the translator's matching inputs.

        Args:
            widths: The translator's inputs: layer name -> width D.
            translator: The translator's name, for messages.

        Raises:
            TranslatorMismatchError: If a layer fits no input.
            ValueError: If two layers fill the same input.
        """
        slots = {find_slot(layer, x.shape[2], widths, translator): x for layer, x in self.tokens.items()}
        if len(slots) < len(self.tokens):
            raise ValueError(
                f"layers {list(self.tokens)} fill only the inputs {list(slots)}: with joint=True every layer "
                "needs an input of its own. Remove the duplicates, or read without joint."
            )
        return replace(self, tokens=slots)


def find_slot(layer: str, width: int, widths: Mapping[str, int], translator: str) -> str:
    """Find the input that a layer matches: the one of its name, else the only one of its width.

    Args:
        layer: The layer's name.
        width: The width D of its tokens.
        widths: The translator's inputs: layer name -> width D.
        translator: The translator's name, for the message.

    Raises:
        TranslatorMismatchError: If the width is not the input's, or no input or several fit.

    Example:
        >>> find_slot("backbone.layer4", 8, {"layer3": 4, "layer4": 8}, "x")
        'layer4'
    """
    if widths.get(layer) == width:
        return layer
    fitting = [slot for slot, expected in widths.items() if expected == width]
    if len(fitting) == 1 and layer not in widths:
        return fitting[0]
    raise TranslatorMismatchError(_mismatch(layer, width, widths, translator, fitting))


def _mismatch(layer: str, width: int, widths: Mapping[str, int], translator: str, fitting: list[str]) -> str:
    names = list(widths)
    if len(fitting) > 1 and layer not in widths:
        return (
            f"translator '{translator}' has {len(fitting)} layers of width {width} ({fitting}), and none is "
            f"called '{layer}'. Use the layer's name from training."
        )
    has_width = layer in widths
    expected = sorted({widths[layer]} if has_width else set(widths.values()))
    word = "width" if len(expected) == 1 else "widths"
    source = f"'{layer}'" if has_width else f"{len(names)} layer{'s' if len(names) > 1 else ''}"
    return (
        f"translator '{translator}' expects {word} {', '.join(map(str, expected))} from {source}; '{layer}' "
        f"gives {width}. Pass layers={names[0] if len(names) == 1 else names!r}, "
        f"or a translator trained for {layer}."
    )


def check_whole(where: Where, tokens_per_row: int) -> None:
    """Refuse locations for a translator that reads all tokens of an image at once.

    Raises:
        ValueError: If it does, and `where` is not None.
    """
    if tokens_per_row > 1 and where is not None:
        raise ValueError(
            f"where={where!r}: this translator reads all {tokens_per_row} tokens of an image at once, so it "
            "can describe and score whole images only. Pass where=None."
        )


def rows_of(
    features: Features | Sequence[Features], *, joint: bool = False, tokens_per_row: int = 1
) -> list[Rows]:
    """Turn features into rows, image by image and location by location.

    Args:
        features: The features of one layer or of several.
        joint: Whether one row holds every layer's token of one location.
        tokens_per_row: 1 = every token is a row; more = every image is one row of that many tokens, its
            class and register tokens first (`Translator.tokens_per_row`).

    Returns:
        One `Rows` a layer; one in all with `joint`.

    Raises:
        TranslatorMismatchError: If an image has another number of tokens than a row.
        ValueError: If there are no rows, a feature is NaN or infinite, or layers read together disagree in
            batch size or locations.
    """
    given = [features] if isinstance(features, Features) else list(features)
    if not given or any(each.tokens.shape[:2].numel() == 0 for each in given):
        raise ValueError("there are no features to read: pass at least one image and one location.")
    groups = [_rows_of(each.check_finite(), tokens_per_row) for each in given]
    return [_joined(groups, given)] if joint and len(groups) > 1 else groups


def _rows_of(features: Features, tokens_per_row: int) -> Rows:
    if tokens_per_row == 1:
        return Rows({features.layer: features.rows.unsqueeze(1)}, pooled=None in features.locations)
    tokens = features.every_token
    if tokens.shape[1] != tokens_per_row:
        raise TranslatorMismatchError(
            f"the translator reads all {tokens_per_row} tokens of an image at once; layer "
            f"'{features.layer}' gives {tokens.shape[1]}. Pass the features of every location with the "
            "class and register tokens, at the image size of training."
        )
    return Rows({features.layer: tokens})


def _joined(groups: Sequence[Rows], features: Sequence[Features]) -> Rows:
    """Join features into one group whose rows hold all layers' tokens of one location."""
    first = features[0]
    for other in features[1:]:
        if (other.batch_size, other.locations) != (first.batch_size, first.locations):
            raise ValueError(
                "layers read with joint=True must have the same images and locations; "
                f"'{first.layer}' has {first.batch_size} images and {len(first.locations)} locations, "
                f"'{other.layer}' {other.batch_size} and {len(other.locations)}, or at other locations. Pool "
                "them (where=None), or bring them to one grid first."
            )
    names = [each.layer for each in features]
    if len(set(names)) < len(names):
        raise ValueError(f"with joint=True every layer is read once; {names} names one twice.")
    tokens = {layer: x for group in groups for layer, x in group.tokens.items()}
    return Rows(tokens, groups[0].pooled)


def batches(groups: Sequence[Rows], size: int | None) -> Iterator[list[Rows]]:
    """Split groups, in order, into lists with at most `size` rows together; None = all at once.

    Raises:
        ValueError: If `size` is not positive.

    Example:
        >>> import torch
        >>> group = Rows({"a": torch.zeros(5, 1, 2)})
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
