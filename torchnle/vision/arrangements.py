"""Find the meaning of the axes of layers' outputs: by what is stated, by their shape, and by probing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from torchnle.types import Inputs, Layout, Select
from torchnle.vision import taps
from torchnle.vision.features import check_activation
from torchnle.vision.inputs import spatial_size
from torchnle.vision.layouts import Arrangement, arrange, hints_for, prefix_hint, whole_patches
from torchnle.vision.order.map_locations import MapQuestion, check_map
from torchnle.vision.order.token_locations import Question, TokenOrder, find_token_orders

#: So many grids of whole patches are tried if the number of tokens suggests no single one.
_CANDIDATES = 4


@dataclass(frozen=True)
class Stated:
    """What the caller states of a layer's output; the fields are those of `torchnle.Reading`."""

    select: Select | None = None
    layout: Layout = "auto"
    grid: tuple[int, int] | None = None
    num_prefix_tokens: int | None = None


def find_arrangements(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    activations: Sequence[Tensor],
    inputs: Inputs,
    additional_forward_args: Any,
    stated: Stated,
) -> list[Arrangement]:
    """Find the arrangement of each layer's output.

    Args:
        forward_func: The model.
        layers: The layers.
        activations: Their outputs for the inputs, one each.
        inputs: The inputs.
        additional_forward_args: Passed to the model after the inputs.
        stated: The caller's overrides, of all layers alike.

    Raises:
        TypeError: If an output is not floating.
        ValueError: If an output has another batch than the inputs, or its layout stays ambiguous; the message
            names the argument that decides.
    """
    image = inputs[0] if isinstance(inputs, tuple) else inputs
    for tap, activation in zip(layers, activations, strict=True):
        check_activation(activation, tap.name, image.shape[0])
    given = _given(forward_func, layers, activations, image, stated)
    orders = _token_orders(forward_func, layers, activations, given, inputs, additional_forward_args, stated)
    return [_arranged(*each) for each in zip(layers, activations, given, orders, strict=True)]


def _arranged(
    tap: taps.Tap, activation: Tensor, options: dict[str, Any], found: TokenOrder | None
) -> Arrangement:
    if found is None:
        return arrange(activation.shape, tap.name, **options)
    if not found.order:
        return Arrangement("NLD", order=())
    located = arrange(
        activation.shape, tap.name, **{**options, "grid": found.grid, "num_prefix_tokens": None}
    )
    return replace(located, order=found.order)


def _given(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    activations: Sequence[Tensor],
    image: Tensor,
    stated: Stated,
) -> list[dict[str, Any]]:
    """Return what is known of every layer's layout before its shape, as `arrange` takes it."""
    tokens = any(activation.ndim == 3 for activation in activations)  # modules without prefix tokens
    prefix = prefix_hint(forward_func) if tokens else None
    common = {
        "input_size": spatial_size(image),
        "layout": stated.layout,
        "grid": stated.grid,
        "num_prefix_tokens": stated.num_prefix_tokens,
    }
    hints = [replace(hints_for(None, tap.module, tap.at), num_prefix_tokens=prefix) for tap in layers]
    return [{**common, "hints": hint} for hint in hints]


def _token_orders(
    forward_func: Callable[..., Any],
    layers: Sequence[taps.Tap],
    activations: Sequence[Tensor],
    given: Sequence[dict[str, Any]],
    inputs: Inputs,
    additional_forward_args: Any,
    stated: Stated,
) -> list[TokenOrder | None]:
    """Find the order of each layer's tokens, unless the caller states it."""
    image = inputs[0] if isinstance(inputs, tuple) else inputs
    size, run = spatial_size(image), (inputs, additional_forward_args, stated.select)
    orders: list[TokenOrder | None] = [None] * len(layers)
    questions: dict[int, Question] = {}
    for i, (tap, activation, options) in enumerate(zip(layers, activations, given, strict=True)):
        shape, both = tuple(activation.shape), None not in (stated.grid, stated.num_prefix_tokens)
        if len(shape) not in (3, 4) or both:
            continue
        if size is None:
            _check_images(tap, shape, image, stated)
            orders[i] = TokenOrder(()) if stated.layout == "NLD" and stated.grid is None else None
        elif len(shape) == 3 and image.is_floating_point():
            question = _question(tap, shape, size, options, stated)
            questions |= {} if question is None else {i: question}
        elif stated.layout == "auto" and stated.grid is None and image.is_floating_point():
            found = arrange(shape, tap.name, **options)
            if max(found.grid or (1, 1)) > 1:
                check_map(forward_func, MapQuestion(tap, shape, found, options["hints"], size), *run)
    for i, order in zip(
        questions, find_token_orders(forward_func, list(questions.values()), *run), strict=True
    ):
        orders[i] = order
    return orders


def _question(
    tap: taps.Tap, shape: tuple[int, ...], size: tuple[int, int], options: dict[str, Any], stated: Stated
) -> Question | None:
    """Build the question about a layer's tokens; None if they have no locations.

    If nothing is stated, grids of whole patches are candidates besides the one that their number suggests.
    """
    open_ = stated.grid is None and stated.num_prefix_tokens is None
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
    both = (stated.grid is not None, stated.num_prefix_tokens is not None)
    return Question(tap, shape, found, options["hints"], *both, stated.layout == "NLD", complaint, others)


def _check_images(tap: taps.Tap, shape: tuple[int, ...], image: Tensor, stated: Stated) -> None:
    """Refuse to fold tokens into a square grid unless the input is a batch of images."""
    unfolded = stated.layout == "auto" and (len(shape) == 3 or image.ndim > 4) and max(shape[1:-1]) > 1
    if stated.grid is None and unfolded:
        video = " (frames of a video have no common grid)" if image.ndim == 5 else ""
        raise ValueError(
            f"layer '{tap.name}' gave shape {shape} for an input of shape {tuple(image.shape)}, which is no "
            f"batch of images (N, C, H, W){video}, so its locations are not known. Pass Reading(grid=(rows, "
            "columns)), with select= for the tokens of one frame, or Reading(layout='NLD') to read them "
            "without locations."
        )
