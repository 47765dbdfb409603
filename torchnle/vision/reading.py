"""Read inputs as features of the chosen layers: the step that every attribution class shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchnle.types import Inputs, Layout, Select, Where
from torchnle.vision import taps
from torchnle.vision.features import Features
from torchnle.vision.inputs import spatial_size
from torchnle.vision.layouts import arrange, hints_for, prefix_hint, whole_patches
from torchnle.vision.order.map_locations import MapQuestion, check_map
from torchnle.vision.order.token_locations import Question, TokenOrder, find_token_orders
from torchnle.vision.padding import check_padding

#: So many grids of whole patches are tried if the number of tokens suggests no single one.
_CANDIDATES = 4


@dataclass(frozen=True)
class Reading:
    """Overrides for layers whose axis order, token grid or prefix tokens cannot be inferred.

    Args:
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

    Raises:
        ValueError: On invalid inputs, and on NaN or infinite features, by layer.
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
    image = inputs[0] if isinstance(inputs, tuple) and inputs else inputs
    if isinstance(image, torch.Tensor):
        check_padding(forward_func, image)
    activations, output = taps.record_with_output(
        forward_func,
        layers,
        inputs,
        additional_forward_args,
        select=[reading.of(tap.name).select for tap in layers],
    )
    given = find_layouts(forward_func, layers, activations, inputs, additional_forward_args, reading)
    features = [
        Features.from_activation(activation, tap.name, batch_size=image.shape[0], **options).check_finite()
        for tap, activation, options in zip(layers, activations, given, strict=True)
    ]
    return features, output


def find_layouts(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    activations: Sequence[Tensor],
    inputs: Inputs,
    additional_forward_args: Any = None,
    reading: Reading | None = None,
) -> list[dict[str, Any]]:
    """Find each layer's layout, as options of `Features.from_activation`.

    Args:
        forward_func: The model.
        layers: The layers.
        activations: Their outputs for the inputs, one each.
        inputs: The inputs.
        additional_forward_args: Passed to the model after the inputs.
        reading: The caller's overrides.

    Raises:
        ValueError: If a layout stays ambiguous; the message names the argument that decides.
    """
    reading = reading or Reading()
    image = inputs[0] if isinstance(inputs, tuple) else inputs
    if reading.layers:
        pairs = zip(layers, activations, strict=True)
        run = (inputs, additional_forward_args)
        return [
            options
            for tap, activation in pairs
            for options in find_layouts(forward_func, [tap], [activation], *run, reading.of(tap.name))
        ]
    given = _given(forward_func, layers, activations, image, reading)
    orders = _token_orders(forward_func, layers, activations, given, inputs, additional_forward_args, reading)
    for options, found in zip(given, orders, strict=True):
        if found is not None:
            options |= {"order": found.order, "grid": found.grid, "num_prefix_tokens": None}
    return given


def _given(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    activations: Sequence[Tensor],
    image: Tensor,
    reading: Reading,
) -> list[dict[str, Any]]:
    """Return what is known of every layer's layout before its shape, as `arrange` takes it."""
    tokens = any(activation.ndim == 3 for activation in activations)  # modules without prefix tokens
    stated = prefix_hint(forward_func) if tokens else None
    common = {
        "input_size": spatial_size(image),
        "layout": reading.layout,
        "grid": reading.grid,
        "num_prefix_tokens": reading.num_prefix_tokens,
    }
    hints = [replace(hints_for(None, tap.module, tap.at), num_prefix_tokens=stated) for tap in layers]
    return [{**common, "hints": hint} for hint in hints]


def _token_orders(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    activations: Sequence[Tensor],
    given: Sequence[dict[str, Any]],
    inputs: Inputs,
    additional_forward_args: Any,
    reading: Reading,
) -> list[TokenOrder | None]:
    """Find the order of each layer's tokens, unless the caller states it."""
    image = inputs[0] if isinstance(inputs, tuple) else inputs
    size, run = spatial_size(image), (inputs, additional_forward_args, reading.select)
    orders: list[TokenOrder | None] = [None] * len(layers)
    asked: dict[int, Question] = {}
    for i, (tap, activation, options) in enumerate(zip(layers, activations, given, strict=True)):
        shape, stated = tuple(activation.shape), None not in (reading.grid, reading.num_prefix_tokens)
        if shape[0] != image.shape[0] or len(shape) not in (3, 4) or stated:
            continue
        if size is None:
            _check_images(tap, shape, image, reading)
            orders[i] = TokenOrder(()) if reading.layout == "NLD" and reading.grid is None else None
        elif len(shape) == 3 and image.is_floating_point():
            question = _question(tap, shape, size, options, reading)
            asked |= {} if question is None else {i: question}
        elif reading.layout == "auto" and reading.grid is None and image.is_floating_point():
            found = arrange(shape, tap.name, **options)
            if max(found.grid or (1, 1)) > 1:
                check_map(forward_func, MapQuestion(tap, shape, found, options["hints"], size), *run)
    for i, order in zip(asked, find_token_orders(forward_func, list(asked.values()), *run), strict=True):
        orders[i] = order
    return orders


def _question(
    tap: taps.Tap, shape: tuple[int, ...], size: tuple[int, int], options: dict[str, Any], reading: Reading
) -> Question | None:
    """Build the question about a layer's tokens; None if they have no locations.

    If nothing is stated, grids of whole patches are candidates besides the one that their number suggests.
    """
    open_ = reading.grid is None and reading.num_prefix_tokens is None
    candidates = whole_patches(shape, size)[:_CANDIDATES] if open_ else []
    complaint = ""
    try:
        found = arrange(shape, tap.name, **options)
    except ValueError as error:
        if not candidates:
            raise
        found, complaint = candidates[0], str(error)
    if max(found.grid or (1, 1)) == 1:
        return None
    others = tuple(candidate for candidate in candidates if candidate != found)
    stated = (reading.grid is not None, reading.num_prefix_tokens is not None)
    return Question(tap, shape, found, options["hints"], *stated, reading.layout == "NLD", complaint, others)


def _check_images(tap: taps.Tap, shape: tuple[int, ...], image: Tensor, reading: Reading) -> None:
    """Refuse to fold tokens into a square grid unless the input is a batch of images."""
    unfolded = reading.layout == "auto" and (len(shape) == 3 or image.ndim > 4) and max(shape[1:-1]) > 1
    if reading.grid is None and unfolded:
        video = " (frames of a video have no common grid)" if image.ndim == 5 else ""
        raise ValueError(
            f"layer '{tap.name}' gave shape {shape} for an input of shape {tuple(image.shape)}, which is no "
            f"batch of images (N, C, H, W){video}, so its locations are not known. Pass Reading(grid=(rows, "
            "columns)), with select= for the tokens of one frame, or Reading(layout='NLD') to read them "
            "without locations."
        )


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
        ValueError: If locations are asked for and a layer has none.
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
