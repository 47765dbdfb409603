"""Silence units of a model: set them to a constant while a block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from torchnle.types import Layer
from torchnle.vision import taps
from torchnle.vision.layouts import arrange, hints_for
from torchnle.vision.taps import Tap, first_tensor


@contextmanager
def silenced(
    model: Callable[..., Any],
    layer: Layer | Tap,
    units: Sequence[int],
    *,
    value: float | Tensor = 0.0,
    axis: int | None = None,
) -> Iterator[None]:
    """Set units of a layer to a constant while the block runs; no weight is touched.

    Args:
        model: The model.
        layer: The layer, whose output is changed ("name:input" is not supported).
        units: The channels' indices.
        value: The constant: 0, as in the paper, or one number per unit, such as their means.
        axis: The axis of the layer's output that holds the channels; None = found by the layer's layout.

    Raises:
        ValueError: If a unit is not in the layer, or several layers or an input are given.
        TypeError: If the layer returns no tensor.

    Example:
        >>> import torch
        >>> with silenced(model, "layer", [0, 3]):
        ...     changed = model(images)
        >>> torch.equal(changed, model(images))
        False
    """
    found = taps.resolve(model, layer)
    if len(found) != 1 or found[0].at == "input":
        raise ValueError(f"pass one layer's output, not {[tap.reference for tap in found]}.")
    (tap,) = found
    chosen = list(units)

    def silence(module: object, given: object, output: Any) -> Any:
        tensor = first_tensor(output)
        if tensor is None:
            raise TypeError(f"layer '{tap.name}' returned no tensor, so it has no units to silence.")
        changed = _without(tensor, _axis(tensor, tap) if axis is None else axis, chosen, value, tap.name)
        return changed if output is tensor else _replaced(output, tensor, changed)

    handle = tap.module.register_forward_hook(silence)
    try:
        yield
    finally:
        handle.remove()


def _axis(tensor: Tensor, tap: Tap) -> int:
    if tensor.ndim == 2:
        return 1
    layout = arrange(tuple(tensor.shape), tap.name, hints=hints_for(None, tap.module, tap.at)).layout
    return 1 if layout == "NCHW" else tensor.ndim - 1


def _without(tensor: Tensor, axis: int, units: list[int], value: float | Tensor, layer: str) -> Tensor:
    count = tensor.shape[axis]
    if any(not 0 <= unit < count for unit in units):
        raise ValueError(f"layer '{layer}' has {count} units; {units} are not all among them.")
    changed = tensor.clone().movedim(axis, -1)
    changed[..., units] = value.to(changed) if isinstance(value, Tensor) else value
    return changed.movedim(-1, axis)


def _replaced(output: Any, old: Tensor, new: Tensor) -> Any:
    """The output with one tensor exchanged, in tuples, lists and dictionaries."""
    if output is old:
        return new
    if isinstance(output, tuple):
        parts = [_replaced(part, old, new) for part in output]
        return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)
    if isinstance(output, list):
        return [_replaced(part, old, new) for part in output]
    if isinstance(output, dict):
        replaced = type(output)({key: _replaced(part, old, new) for key, part in output.items()})
        return replaced
    return output


def mean_values(activations: Tensor, units: Sequence[int]) -> Tensor:
    """Average units' activations over images, as the constant for `silenced` if zero is not neutral.

    Example:
        >>> import torch
        >>> mean_values(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), [1])
        tensor([3.])
    """
    return activations[:, list(units)].mean(dim=0)
