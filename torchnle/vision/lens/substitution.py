"""Substitution: replace the output of a layer by another tensor within one block."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor, nn

from torchnle.types import Select
from torchnle.vision import taps
from torchnle.vision.running import of_this_thread
from torchnle.vision.taps import Tap


@contextmanager
def substituted(tap: Tap, activation: Tensor, select: Select | None = None) -> Iterator[None]:
    """Replace the tensor at a tap by another, and remove the hook at the end.

    Other outputs of the layer (attention weights, a size) are passed on unchanged.

    Args:
        tap: The layer, and the side of it.
        activation: The new tensor; its batch may be larger than the input's.
        select: As for `torchnle.vision.taps.record`: it must return one of the tensors it is given.

    Raises:
        ValueError: While the model runs, if `select` makes a new tensor, which cannot be put back.

    Example:
        >>> model = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> with substituted(Tap("0", model[0]), Tensor([[-1.0], [3.0]])):
        ...     model(Tensor([[5.0]]))
        tensor([[0.],
                [3.]])
    """

    def output_hook(_: nn.Module, __: Any, output: Any) -> Any:
        return exchange(output, picked(output, tap, select), activation)

    def input_hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        old = picked(taps.received(args, kwargs), tap, select)
        return exchange((args, kwargs), old, activation)

    if tap.at == "input":
        hook = tap.module.register_forward_pre_hook(of_this_thread(input_hook), with_kwargs=True)
    else:
        hook = tap.module.register_forward_hook(of_this_thread(output_hook))
    try:
        yield
    finally:
        hook.remove()


def picked(value: Any, tap: Tap, select: Select | None) -> Tensor:
    """Find the tensor that a tap reads in the output of its layer.

    Raises:
        ValueError: If `select` made a new one.
    """
    chosen = taps.pick(value, tap, select)
    if any(tensor is chosen for tensor in taps.tensors_in(value)):
        return chosen
    raise ValueError(
        f"layer '{tap.name}' is read with select=, which makes a new tensor, so the model cannot be "
        "continued from it. Pass a layer that gives the tensor itself, or a select= that only chooses among "
        "tensors."
    )


def exchange(value: Any, old: Tensor, new: Tensor) -> Any:
    """Copy a nest of tuples, lists, mappings and dataclasses with one tensor exchanged for another.

    Example:
        >>> old, other = Tensor([1]), Tensor([2])
        >>> exchange({"hidden": (old, other)}, old, Tensor([3]))
        {'hidden': (tensor([3.]), tensor([2.]))}
    """
    if value is old:
        return new
    if isinstance(value, Mapping):
        copied: Any = copy.copy(value)
        for key, part in value.items():
            copied[key] = exchange(part, old, new)
        return copied
    if isinstance(value, (tuple, list)):
        parts = [exchange(part, old, new) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: exchange(getattr(value, f.name), old, new) for f in fields(value)})
    return value
