"""Checks of a saved configuration and of the reference that it is loaded by."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def check_keys(config: Mapping[str, Any], builder: Callable[..., Any], what: str) -> None:
    """Refuse a configuration whose keys are not the arguments of its builder.

    Args:
        config: Keyword arguments.
        builder: The class or function to be called with them.
        what: The configuration's name in the message.

    Raises:
        ValueError: With the names of unknown and missing keys.

    Example:
        >>> check_keys({"width": 3, "wings": 2}, lambda width: None, "the duck's configuration")
        Traceback (most recent call last):
        ...
        ValueError: the duck's configuration has the unknown key(s) ['wings']; known are ['width'].
    """
    parameters = inspect.signature(builder).parameters
    unknown = [key for key in config if key not in parameters]
    if unknown:
        raise ValueError(f"{what} has the unknown key(s) {unknown}; known are {list(parameters)}.")
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in config]
    if missing:
        raise ValueError(f"{what} lacks the key(s) {missing}.")


def pinned(reference: str, revision: str | None) -> str:
    """Join a reference and a revision to one string.

    Raises:
        ValueError: If both name a revision, or a local folder is given one.

    Example:
        >>> pinned("org/name", "v1")
        'org/name@v1'
    """
    if revision is None:
        return reference
    if "@" in reference or Path(reference).expanduser().exists():
        raise ValueError(
            f"revision={revision!r} does not go with {reference!r}: only a plain 'org/name' on the Hub takes "
            "a revision."
        )
    return f"{reference}@{revision}"


def absolute(reference: str) -> str:
    """Return a local folder by its full path, independent of the working directory.

    Example:
        >>> absolute("org/name")
        'org/name'
    """
    path = Path(reference).expanduser()
    return str(path.resolve()) if path.exists() else reference
