"""Journal: the results of a long measurement in a file, from which a killed run resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torchnle.hub.filelock import locked

Found = TypeVar("Found")
_WAY_OUT = "Remove the file to begin anew, or give another one."


class Journal:
    """Stores the parts of a measurement as they are computed, a line of JSON each.

    The first line holds the setting; a file with another setting is refused.

    Args:
        file: The file; None = nothing is stored.
        setting: Everything that the parts depend on, as JSON keeps it.

    Raises:
        ValueError: If the file holds the parts of a measurement with another setting, or is damaged.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "parts.jsonl"
        >>> Journal(file, {"seed": 0}).get("first", lambda: 1 + 1)
        2
        >>> Journal(file, {"seed": 0}).get("first", lambda: 1 / 0)  # found before
        2
    """

    def __init__(self, file: Path | None = None, setting: Mapping[str, Any] | None = None) -> None:
        self._file = file
        self._parts: dict[str, Any] = {}
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        given = json.loads(json.dumps(setting or {}))
        with file.open("a+", encoding="utf-8") as lines, locked(lines):
            found = _lines(file)
            if not found:
                lines.write(json.dumps(given) + "\n")
                return
        if found[0] != given:
            raise ValueError(
                f"{file} holds parts of another measurement: {found[0]}, not {given}. Give another folder, "
                "or remove the file."
            )
        self._parts = dict(_part(file, number, line) for number, line in enumerate(found[1:], 2))

    def __contains__(self, key: str) -> bool:
        return key in self._parts

    def get(self, key: str, make: Callable[[], Found]) -> Found:
        """Return a stored part, or compute and store it."""
        if key not in self._parts:
            self._parts[key] = make()
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as lines, locked(lines):
                    lines.write(json.dumps([key, self._parts[key]]) + "\n")
        found: Found = self._parts[key]
        return found


def _lines(file: Path) -> list[Any]:
    """Return the file's lines; a truncated last line is removed."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no journal: it is not UTF-8 text. {_WAY_OUT}") from error
    whole = text[: text.rfind("\n") + 1]
    if text and text[0] != "{":
        raise ValueError(f"{file} is no journal. {_WAY_OUT}")
    if whole != text:
        os.truncate(file, len(whole.encode()))  # a kill leaves one or the other
    return [_line(file, number, line) for number, line in enumerate(whole.split("\n")[:-1], 1)]


def _line(file: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"{file}, line {number}, is damaged: {error}. {_WAY_OUT}") from error


def _part(file: Path, number: int, line: Any) -> tuple[str, Any]:
    if isinstance(line, list) and len(line) == 2 and isinstance(line[0], str):
        return line[0], line[1]
    raise ValueError(f"{file}, line {number}, is no part of a measurement. {_WAY_OUT}")
