"""Counts the operations of the kernels, without importing PyTorch's counter before anybody asks for it.

`torch.utils.flop_counter` imports triton, which takes a third of a second; a program that counts nothing
should not wait for it. The formulas are registered at once if the counter is loaded, else when it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

_COUNTER = "torch.utils.flop_counter"


def register() -> None:
    """Register the formulas of all operators with PyTorch's counter, now or when it is imported.

    Example:
        >>> import torchnle_kernels.operators
        >>> from torch.utils.flop_counter import FlopCounterMode
        >>> with FlopCounterMode(display=False) as counter:
        ...     _ = torch.ops.torchnle.linear_lse(torch.ones(2, 3), torch.ones(5, 3), None, False, "torch")
        >>> counter.get_total_flops()
        60
    """
    if _COUNTER in sys.modules:
        _add_to(sys.modules[_COUNTER])
    else:
        sys.meta_path.insert(0, _AtImport())


class _AtImport(MetaPathFinder):
    """Waits for the counter's import, lets it happen, and adds the formulas."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _followed(spec.loader.exec_module)  # type: ignore[method-assign,assignment]
        return spec


def _followed(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def run(module: ModuleType) -> None:
        execute(module)
        _add_to(module)

    return run


def _add_to(counter: ModuleType) -> None:
    operators = torch.ops.torchnle
    for operator, formula in (
        (operators.linear_lse, _linear_lse),
        (operators.linear_lse_mu, _linear_lse_mu),
        (operators.short_decode_attention, _attention),
    ):
        counter.register_flop_formula(operator)(formula)


def _linear_lse(h: Any, weight: Any, *_: Any, **__: Any) -> int:
    return int(2 * h[0] * h[1] * weight[0])


def _linear_lse_mu(h: Any, weight: Any, *_: Any, **__: Any) -> int:
    return int(4 * h[0] * h[1] * weight[0])


def _attention(q: Any, k: Any, *_: Any, **__: Any) -> int:
    return int(4 * q[0] * q[1] * q[2] * k[2])
