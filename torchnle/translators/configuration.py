"""What a saved configuration may name, and the checks that it names nothing else."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torchnle.version import __version__

_Class = TypeVar("_Class")


def check_keys(config: Mapping[str, Any], builder: Callable[..., Any], what: str) -> None:
    """Refuse a configuration whose keys are not the arguments of what it builds.

    Args:
        config: Keyword arguments.
        builder: The class or function that is to be called with them.
        what: What the configuration is called in the message.

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


def class_path(cls: type) -> str:
    """The dotted path under which `find_class` finds a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def find_class(path: str, base: type[_Class]) -> type[_Class]:
    """The class that a configuration names: a subclass of `base`, and torchnle's own or `base` itself.

    Nothing outside torchnle is ever imported because a file says so.

    Raises:
        ValueError: If it lies elsewhere, does not exist, or is no (concrete) subclass of `base`.
    """
    found = base if path == class_path(base) else _import(path, base.__name__)
    if not issubclass(found, base) or inspect.isabstract(found):
        raise ValueError(f"the configuration names {path!r}, which is no {base.__name__} that can be built.")
    return found


def pinned(reference: str, revision: str | None) -> str:
    """A reference and a revision as one string.

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


def _import(path: str, asked: str) -> type:
    if not re.fullmatch(r"torchnle(\.[A-Za-z]\w*)+", path):
        raise ValueError(
            f"the configuration names the class {path!r}, which is not one of torchnle's; nothing else is "
            f"imported. Call from_pretrained on that class itself (here it was {asked})."
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        found = None
    if not isinstance(found, type):
        raise ValueError(f"torchnle {__version__} has no class {path!r}. Is a newer version needed?")
    return found
