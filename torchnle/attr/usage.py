"""Captum's usage log, with the types of the wrapped functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from captum.log import log_usage

_Function = TypeVar("_Function", bound=Callable[..., Any])


def logged(function: _Function) -> _Function:
    """Report calls of a function to Captum's usage log, as Captum's own methods do.

    Example:
        >>> logged(len)([1, 2])
        2
    """
    return cast(_Function, log_usage()(function))
