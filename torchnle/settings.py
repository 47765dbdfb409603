"""Convert TOML tables to dataclasses, with errors that name the nearest key or the expected type."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torchnle.errors import optional_package

_Settings = TypeVar("_Settings")

#: The recipes that ship with torchnle.
RECIPES = Path(__file__).parent / "recipes"


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: A file, or the name of a recipe that ships with torchnle, such as ``shapes.toml``.

    Raises:
        FileNotFoundError: If there is no such file.
        MissingDependencyError: If Python is 3.10 and tomli is not installed.
        ValueError: If it is not TOML.
    """
    shipped = RECIPES / path
    if not path.is_file() and path.name == str(path) and shipped.is_file():
        path = shipped
    if not path.is_file():
        recipes = ", ".join(sorted(file.name for file in RECIPES.glob("*.toml")))
        raise FileNotFoundError(
            f"{path} is not a file; pass one, or the name of a shipped recipe: {recipes}."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    return parse_toml(text, str(path))


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parse TOML text to a dict.

    Args:
        text: The TOML.
        name: Its name in messages.

    Raises:
        MissingDependencyError: If Python is 3.10 and tomli is not installed.
        ValueError: If it is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        with optional_package("tomli", extra="train", purpose="to read recipes"):
            import tomli as tomllib
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{name} is not TOML: {error}") from error


def override(table: dict[str, Any], settings: Sequence[str]) -> None:
    """Change values of a recipe in place by settings "table.key=value".

    The value is read as TOML, or as text if it is a plain word. In a list of tables the key is set in each.

    Args:
        table: The recipe, changed in place.
        settings: The settings.

    Raises:
        ValueError: If a setting has no "=".

    Example:
        >>> recipe = {"training": {"steps": 9}, "data": [{"kind": "shapes"}]}
        >>> override(recipe, ["training.steps=3", "data.folder=stamps"])
        >>> recipe
        {'training': {'steps': 3}, 'data': [{'kind': 'shapes', 'folder': 'stamps'}]}
    """
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} sets nothing; write it as training.steps=100.")
        *path, key = name.strip().split(".")
        for each in _reach(table, path):
            each[key] = _value(value.strip())


def build(cls: type[_Settings], table: Mapping[str, Any], where: str) -> _Settings:
    """Convert a table to a dataclass.

    Args:
        cls: A dataclass.
        table: Its values; lists become tuples.
        where: The table's name, for messages.

    Raises:
        ValueError: If a key is unknown or missing, or a value is of another type; the message names the
            nearest key.

    Example:
        >>> from torchnle.training.recipe import Recipe
        >>> build(Recipe, {"step": 9}, "training")
        Traceback (most recent call last):
        ...
        ValueError: [training] has no key 'step'. Nearest: steps, word_steps, seed.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"[{where}] is {table!r}; a table is needed: [{where}] with key = value below it.")
    hints = get_type_hints(cls)
    by_name = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    given = {}
    for key, value in table.items():
        if key not in by_name:
            near = get_close_matches(key, by_name, n=3, cutoff=0.5) or list(by_name)
            raise ValueError(f"[{where}] has no key {key!r}. Nearest: {', '.join(near)}.")
        given[key] = tuple(value) if isinstance(value, list) else value
        if not _fits(given[key], hints[key]):
            raise ValueError(f"[{where}] {key} = {value!r}: it should be {by_name[key].type}.")
    missing = [
        name
        for name, field in by_name.items()
        if name not in given and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise ValueError(f"[{where}] lacks {', '.join(missing)}.")
    return cls(**given)


def _reach(table: dict[str, Any], path: Sequence[str]) -> list[dict[str, Any]]:
    reached = [table]
    for name in path:
        below = [each.setdefault(name, {}) for each in reached]
        reached = [t for each in below for t in (each if isinstance(each, list) else [each])]
    return reached


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}", text)["value"]
    except ValueError:
        return text


def _fits(value: object, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)
