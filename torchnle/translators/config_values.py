"""Checks of a configuration's values against the annotations of its builder's arguments.

Annotations may narrow a type: `Size` and `Count` for lengths of tensors, `Number` for other whole numbers,
`Positive` and `NotNegative`, and `Reference`.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from torchnle.errors import TranslatorMismatchError
from torchnle.language.texts import shorten
from torchnle.translators.configuration import check_keys


@dataclass(frozen=True)
class Within:
    """The allowed range of a number; `most` None = the longest side of the loaded tensors."""

    least: float
    most: float | None = None


_REFERENCE = "reference"
#: A size of a tensor, at least 1.
Size: TypeAlias = Annotated[int, Within(1)]
#: A size of a tensor that may be 0.
Count: TypeAlias = Annotated[int, Within(0)]
#: A whole number that is no tensor's size.
Number: TypeAlias = Annotated[int, Within(1, 100_000)]
#: A finite number above 0.
Positive: TypeAlias = Annotated[float, Within(math.ulp(0.0), math.inf)]
#: A finite number, 0 or more.
NotNegative: TypeAlias = Annotated[float, Within(0.0, math.inf)]
#: The reference of a frozen model to load; a path may not lead upwards.
Reference: TypeAlias = Annotated[str, _REFERENCE]

_longest_side: ContextVar[int] = ContextVar("longest_side", default=1_000_000)


@contextlib.contextmanager
def loading(file: Path, longest_side: int) -> Iterator[None]:
    """Name the file in errors, and limit every `Size` to the longest side of the loaded tensors.

    Raises:
        ValueError: If the block raises one, with the file's name; likewise TranslatorMismatchError.
    """
    before = _longest_side.set(longest_side)
    try:
        yield
    except ValueError as error:
        kind = TranslatorMismatchError if isinstance(error, TranslatorMismatchError) else ValueError
        raise kind(f"{file}: {error}") from error
    finally:
        _longest_side.reset(before)


def check_config(config: Mapping[str, Any], builder: Callable[..., Any], what: str) -> None:
    """Refuse a configuration whose keys or values do not fit the arguments of its builder.

    Args:
        config: Keyword arguments, plain values.
        builder: The class or function to be called with them; arguments without annotation, or with other
            than plain types, are not checked.
        what: The configuration's name in the message.

    Raises:
        ValueError: With the key, its value, and what is allowed; or as `check_keys`.

    Example:
        >>> def duck(wings: Size, name: str | None): ...
        >>> check_config({"wings": -2, "name": None}, duck, "the duck's configuration")
        Traceback (most recent call last):
        ...
        ValueError: the duck's configuration: 'wings' is -2; it must be a whole number from 1 to 1000000.
    """
    check_keys(config, builder, what)
    hints = _hints(builder)
    for key, value in config.items():
        for path, wrong, allowed in _problems(key, value, hints.get(key, Any)):
            raise ValueError(f"{what}: '{path}' is {_shown(wrong)}; it must be {allowed}.")


def _hints(builder: Callable[..., Any]) -> dict[str, Any]:
    called: Any = builder
    called = called.__init__ if isinstance(builder, type) else called
    try:
        return get_type_hints(called, include_extras=True)
    except NameError:  # names that only a type checker sees
        return {}


def _shown(value: Any) -> str:
    return shorten(repr(value))


_Problems: TypeAlias = Iterator[tuple[str, Any, str]]


def _problems(path: str, value: Any, hint: Any) -> _Problems:
    """Yield the problems of a value: where, the value there, and the allowed values."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        yield from _of_several(path, value, arguments)
    elif origin is Literal:
        if not any(value == each and type(value) is type(each) for each in arguments):
            yield path, value, "one of " + ", ".join(map(repr, arguments))
    elif origin in (Mapping, dict):
        yield from _of_mapping(path, value, arguments[1])
    elif origin in (Sequence, list):
        yield from _of_list(path, value, arguments[0])
    else:
        plain, mark = arguments[:2] if origin is Annotated else (hint, None)
        allowed = _allowed(value, plain, mark)
        if allowed is not None:
            yield path, value, allowed


def _of_several(path: str, value: Any, hints: Sequence[Any]) -> _Problems:
    several = [list(_problems(path, value, hint)) for hint in hints]
    if all(several):
        deeper = [found[0] for found in several if found[0][0] != path]
        yield deeper[0] if deeper else (path, value, " or ".join(found[0][2] for found in several))


def _of_mapping(path: str, value: Any, hint: Any) -> _Problems:
    if not isinstance(value, Mapping):
        yield path, value, "an object"
        return
    for key, entry in value.items():
        if not key:
            yield path, value, "an object with names that are not empty"
        yield from _problems(f"{path}.{key}", entry, hint)


def _of_list(path: str, value: Any, hint: Any) -> _Problems:
    if not isinstance(value, list | tuple):
        yield path, value, "a list"
        return
    for index, entry in enumerate(value):
        yield from _problems(f"{path}[{index}]", entry, hint)


def _allowed(value: Any, plain: Any, mark: Any) -> str | None:
    """Describe the allowed values of a single value; None if it is one."""
    if plain in (None, types.NoneType):
        return None if value is None else "null"
    if plain is bool:
        return None if isinstance(value, bool) else "true or false"
    if plain is str:
        return _allowed_text(value, mark)
    if plain in (int, float):
        return _allowed_number(value, plain, mark if mark is not None else Within(-math.inf, math.inf))
    return None


def _allowed_text(value: Any, mark: Any) -> str | None:
    if not isinstance(value, str):
        return "a string"
    if mark == _REFERENCE and (not value.strip() or ".." in PurePath(value).parts):
        return "a reference; if it is a path, one without '..'"
    return None


def _allowed_number(value: Any, plain: type, within: Within) -> str | None:
    most = _longest_side.get() if within.most is None else within.most
    kinds = (int,) if plain is int else (int, float)
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if right and within.least <= value <= most and abs(value) < 1e300:
        return None
    whole = "a whole number" if plain is int else "a finite number"
    if within.least == -math.inf:
        return whole
    return f"{whole} above 0" if most == math.inf else f"{whole} from {within.least} to {most}"
