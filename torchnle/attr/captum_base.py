"""Captum's base classes and usage log, typed, and the method of its interface that is not implemented."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from captum.log import log_usage

if TYPE_CHECKING:
    from torch import nn

    class Attribution:
        """Captum's base, as far as it is part of this library's answers."""

        forward_func: Callable[..., Any]

        def __init__(self, forward_func: Callable[..., Any]) -> None: ...
        def get_name(self) -> str:
            """Return the name of the class, in words."""

        def has_convergence_delta(self) -> bool:
            """Return whether there is a convergence delta: no."""

    class LayerAttribution(Attribution):
        """Captum's base of attributions to a layer."""

        def __init__(
            self, forward_func: Callable[..., Any], layer: Any, device_ids: list[int] | None = None
        ) -> None: ...

    class NeuronAttribution(Attribution):
        """Captum's base of attributions to a unit."""

        def __init__(
            self, forward_func: Callable[..., Any], layer: nn.Module, device_ids: list[int] | None = None
        ) -> None: ...
else:
    from captum.attr import Attribution, LayerAttribution, NeuronAttribution

__all__ = ["Attribution", "LayerAttribution", "NeuronAttribution", "WithoutFuture", "logged"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def logged(function: _Function) -> _Function:
    """Report calls of a function to Captum's usage log, as Captum's own methods do.

    Example:
        >>> logged(len)([1, 2])
        2
    """
    return cast(_Function, log_usage()(function))


class WithoutFuture:
    """A mixin for attribution classes without Captum's asynchronous `attribute_future`.

    Example:
        >>> WithoutFuture().attribute_future()
        Traceback (most recent call last):
        ...
        NotImplementedError: attribute_future is not implemented for WithoutFuture
    """

    def attribute_future(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotImplementedError with Captum's own message."""
        raise NotImplementedError(f"attribute_future is not implemented for {type(self).__name__}")
