"""Refuse `attribute_future`, the part of Captum's contract that these methods do not have."""

from __future__ import annotations

from typing import Any, NoReturn


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
