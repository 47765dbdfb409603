"""What Captum's methods say of the part of its contract that they do not offer."""

from __future__ import annotations

from typing import Any, NoReturn


class Synchronous:
    """A method without Captum's asynchronous `attribute_future`.

    Example:
        >>> Synchronous().attribute_future()
        Traceback (most recent call last):
        ...
        NotImplementedError: attribute_future is not implemented for Synchronous
    """

    def attribute_future(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse, in Captum's own words."""
        raise NotImplementedError(f"attribute_future is not implemented for {type(self).__name__}")
