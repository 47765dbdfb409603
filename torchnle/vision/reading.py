"""Read inputs as features of the chosen layers: the step that every attribution class shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch.nn.functional as F
from torch import Tensor, nn

from torchnle.types import Inputs, Layout, Select, Where
from torchnle.vision import taps
from torchnle.vision.arrangements import Stated, find_arrangements
from torchnle.vision.features import Features
from torchnle.vision.layouts import Arrangement
from torchnle.vision.padding import check_padding
from torchnle.vision.running import unwrap

#: The arrangements found, by module: a layer is examined once a model and size of the input.
_known: WeakKeyDictionary[nn.Module, dict[Any, Arrangement]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Reading:
    """Overrides for layers whose axis order, token grid or prefix tokens cannot be inferred.

    Set only the one that the error message names.

    Args:
        select: Picks the tensor from the layer's output (default: the first tensor).
        layout: The order of the axes, "NCHW", "NHWC", "NLD" or "ND" (default "auto": by evidence).
        grid: (rows, columns) of the tokens.
        num_prefix_tokens: How many class, distillation and register tokens precede the grid's. With `grid`,
            the tokens are taken row by row behind these; else their order is probed.
        pool: Selects and pools locations of a layer's features (default `Features.select`); a classifier's
            head may read them through a norm, or read its class token.
        layers: Readings of single layers by name, from `join_readings`.

    Example:
        >>> Reading(layout="NHWC").layout
        'NHWC'
    """

    select: Select | None = None
    layout: Layout = "auto"
    grid: tuple[int, int] | None = None
    num_prefix_tokens: int | None = None
    pool: Callable[[Features, Where], Features] = Features.select
    layers: Mapping[str, Reading] = field(default_factory=dict)

    def of(self, layer: str) -> Reading:
        """Return the reading of one layer: its own, or this one."""
        return self.layers.get(layer) or replace(self, layers={})

    @property
    def stated(self) -> Stated:
        """The overrides of a layer's arrangement."""
        return Stated(self.select, self.layout, self.grid, self.num_prefix_tokens)


def join_readings(layers: Mapping[str, Reading], others: Reading | None = None) -> Reading:
    """Join the readings of single layers into one that reads each layer by its own.

    Args:
        layers: Each layer's reading by the layer's name.
        others: The reading of other layers.

    Example:
        >>> joined = join_readings({"blocks.3": Reading(layout="NHWC")})
        >>> joined.of("blocks.3").layout, joined.of("norm").layout
        ('NHWC', 'auto')
    """
    rest = others or Reading()
    if not layers:
        return rest

    def pool(features: Features, where: Where) -> Features:
        return layers.get(features.layer, rest).pool(features, where)

    return replace(rest, pool=pool, layers=dict(layers))


def read(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    inputs: Inputs,
    additional_forward_args: Any = None,
    reading: Reading | None = None,
) -> list[Features]:
    """Run the model once and return the finite features of every tapped layer, in order.

    Gradients flow where the caller's grad mode lets them.

    Args:
        forward_func: The model.
        layers: The layers, from `taps.resolve`.
        inputs: One tensor or a tuple of tensors, batch first.
        additional_forward_args: Passed to the model after the inputs.
        reading: Overrides for layers whose layout cannot be inferred.

    Raises:
        ValueError: If an input is invalid, a layout stays ambiguous, or a feature is NaN or infinite.

    Example:
        >>> from torchnle.vision import taps
        >>> [features.grid for features in read(model, taps.resolve(model, ["act", "norm"]), images)]
        [(8, 8), (4, 4)]
    """
    return read_with_output(forward_func, layers, inputs, additional_forward_args, reading)[0]


def read_with_output(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    inputs: Inputs,
    additional_forward_args: Any = None,
    reading: Reading | None = None,
) -> tuple[list[Features], Any]:
    """Read features as `read` does, and return the model's output too.

    Raises:
        ValueError: As `read`.
    """
    reading = reading or Reading()
    activations, output = taps.record_with_output(
        forward_func,
        layers,
        inputs,
        additional_forward_args,
        select=[reading.of(tap.name).select for tap in layers],
    )
    run = (inputs, additional_forward_args)
    found = arrangements_of(forward_func, layers, activations, *run, reading)
    count = (inputs[0] if isinstance(inputs, tuple) else inputs).shape[0]
    features = [
        Features.arranged(activation, tap.name, arrangement, batch_size=count).check_finite()
        for tap, activation, arrangement in zip(layers, activations, found, strict=True)
    ]
    return features, output


def arrangements_of(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    activations: Sequence[Tensor],
    inputs: Inputs,
    additional_forward_args: Any,
    reading: Reading,
) -> list[Arrangement]:
    """Look up the meaning of the axes of each layer's output, found once per layer and input size.

    Args:
        forward_func: The model.
        layers: The layers.
        activations: Their outputs for the inputs, one each.
        inputs: The inputs.
        additional_forward_args: Passed to the model after the inputs.
        reading: The caller's overrides.

    Raises:
        TypeError: As `find_arrangements`.
        ValueError: As `find_arrangements`, and if a detector pads the images (`check_padding`).
    """
    image, root = inputs[0] if isinstance(inputs, tuple) else inputs, unwrap(forward_func)
    model, size = None if root is None else ref(root), (image.shape[1:], image.is_floating_point())
    stated = [reading.of(tap.name).stated for tap in layers]
    caches = [_known.setdefault(tap.module, {}) for tap in layers]
    keys = [
        (model, size, tap.at, activation.shape[1:], each)
        for tap, activation, each in zip(layers, activations, stated, strict=True)
    ]
    unknown = [i for i, key in enumerate(keys) if key not in caches[i]]
    if unknown:
        check_padding(forward_func, image)
    for each in {stated[i]: None for i in unknown}:
        chosen = [i for i in unknown if stated[i] == each]
        selected = ([layers[i] for i in chosen], [activations[i] for i in chosen])
        found = find_arrangements(forward_func, *selected, inputs, additional_forward_args, each)
        for i, arrangement in zip(chosen, found, strict=True):
            caches[i][keys[i]] = arrangement
    return [answers[key] for answers, key in zip(caches, keys, strict=True)]


def resize(features: Features, grid: tuple[int, int]) -> Features:
    """Interpolate the local features bilinearly to another grid, as DeViL does to read layers together."""
    if features.grid == grid:
        return features
    maps = features.fold(features.tokens).permute(0, 3, 1, 2)
    resized = F.interpolate(maps, size=grid, mode="bilinear")
    return Features(resized.flatten(2).transpose(1, 2), features.layer, grid, features.extra)


def select_together(
    features: Sequence[Features], where: Where, reading: Reading | None = None
) -> list[Features]:
    """Select the same locations in several layers, on the finest of their grids (DeViL, section 3.2).

    Raises:
        ValueError: If `where` names locations and a layer has none.
    """
    pool = (reading or Reading()).pool
    if where is None or isinstance(where, Tensor) or len(features) == 1:
        return [pool(f, where) for f in features]
    grids = [f.grid for f in features if f.grid is not None]
    if len(grids) < len(features):
        missing = [f.layer for f in features if f.grid is None]
        raise ValueError(f"layers {missing} have no spatial grid; read them together with where=None.")
    finest = max(grids, key=lambda grid: grid[0] * grid[1])
    return [pool(resize(f, finest), where) for f in features]
