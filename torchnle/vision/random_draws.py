"""Detect models that draw at random in evaluation, by the generators' states, and warn once a model."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from torchnle.vision.running import of_this_thread, unwrap

#: Models that were checked.
_seen: WeakSet[nn.Module] = WeakSet()


@dataclass
class Draws:
    """The result of `watching`: whether a block of code drew at random.

    Args:
        found: Set at the end of the block.
    """

    found: bool = False
    _before: list[Any] = field(default_factory=list)


@contextmanager
def watching() -> Iterator[Draws]:
    """Detect whether a block draws random numbers from the global generators of PyTorch or NumPy.

    Example:
        >>> with watching() as draws:
        ...     _ = torch.rand(1)
        >>> draws.found
        True
    """
    draws, before = Draws(), _states()
    yield draws
    draws.found = _states() != before


@torch.no_grad()
def warn_of_draws(forward_func: Callable[..., Any], run: Callable[[], Any], output: Any) -> None:
    """Run a model once more, and warn if its output differs, with the modules that drew; once a model.

    Args:
        forward_func: The model, which drew at random in a first run; a plain function gives no warning.
        run: Runs it again on the same inputs.
        output: Its first output.

    Example:
        >>> model = nn.Sequential(nn.Dropout())
        >>> images = torch.ones(4, 4)
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warn_of_draws(model, lambda: model(images), model(images))
        >>> "'0' (Dropout)" in str(caught[0].message)
        True
    """
    model = unwrap(forward_func)
    if model is None or model in _seen:
        return
    _seen.add(model)
    names: list[str] = []
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                _watch(names, name, module, hooks)
        again = run()
    if _same(output, again):
        return
    where = f" in {', '.join(names[:3])}" if names else ""
    warnings.warn(
        f"{type(model).__name__} draws at random in evaluation{where}: the same images give other answers in "
        "every call, and so do their explanations. Turn the randomness off in the model, or call "
        "torch.manual_seed before every call.",
        stacklevel=2,
    )


def _watch(names: list[str], name: str, module: nn.Module, hooks: ExitStack) -> None:
    """Add a module's name if it draws, and no module within it does."""
    waiting: list[tuple[list[Any], int]] = []

    def before(*_: Any) -> None:
        waiting.append((_states(), len(names)))

    def after(*_: Any) -> None:
        states, count = waiting.pop()
        if len(names) == count and _states() != states:
            names.append(f"'{name}' ({type(module).__name__})")

    hooks.callback(module.register_forward_pre_hook(of_this_thread(before)).remove)
    hooks.callback(module.register_forward_hook(of_this_thread(after)).remove)


def _states() -> list[Any]:
    """Return the states of all global generators, such that equal states compare as equal."""
    states: list[Any] = [torch.get_rng_state().numpy().tobytes()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        _, keys, *rest = numpy.random.get_state()
        states += [keys.tobytes(), rest]
    return states


def _same(first: Any, second: Any) -> bool:
    """Return whether two outputs are equal wherever they are tensors."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and torch.allclose(first, second, equal_nan=True)
    if isinstance(first, dict) and isinstance(second, dict):
        first, second = list(first.values()), list(second.values())
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    return True
