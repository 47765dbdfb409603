"""PyTorch's default dtype and device: torchnle's own arithmetic uses its own, the user's model the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import local
from typing import Any, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])
_CPU = torch.device("cpu")
#: What the user had set where this thread entered torchnle.
_users = local()


def own_defaults(function: _Function) -> _Function:
    """Let a public function compute with float32 and the CPU as defaults, whatever the user has set.

    Devices and dtypes of answers follow the model and the inputs. Without a setting of the user's this costs
    a microsecond.

    Example:
        >>> @own_defaults
        ... def zeros():
        ...     return torch.zeros(1).device
        >>> with torch.device("meta"):
        ...     zeros()
        device(type='cpu')
    """

    @wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        dtype, device = torch.get_default_dtype(), torch.get_default_device()
        if dtype == torch.float32 and device == _CPU:
            return function(*args, **options)
        before = getattr(_users, "defaults", None)
        _users.defaults = (dtype, device)
        try:
            with _set(torch.float32, _CPU):
                return function(*args, **options)
        finally:
            _users.defaults = before

    return run  # type: ignore[return-value]


@contextmanager
def users_defaults() -> Iterator[None]:
    """Restore the user's defaults while the user's own code runs within torchnle.

    Example:
        >>> with users_defaults():
        ...     torch.zeros(1).dtype
        torch.float32
    """
    found = getattr(_users, "defaults", None)
    if found is None:
        yield
        return
    with _set(*found):
        yield


@contextmanager
def _set(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    before = torch.get_default_dtype()
    with device:
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
