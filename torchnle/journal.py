"""Journals: results of a long run as lines of JSON in a file, from which a killed run resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torchnle.hub.filelock import locked

Found = TypeVar("Found")
_WAY_OUT = "Remove the file to begin anew, or give another one."


class LineJournal:
    """Appends lines of JSON to a file whose first line holds the setting of the run.

    Every read and write holds a lock on the file. What a killed run left of a line is removed.

    Args:
        file: The file; None = nothing is stored.
        setting: Everything that the lines depend on, as JSON keeps it.
        what: What the lines are, for messages: "descriptions".

    Attributes:
        lines: The lines that the file held, without the setting.

    Raises:
        ValueError: If the file holds lines of another setting, or one is damaged; with its number.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "lines.jsonl"
        >>> LineJournal(file, {"seed": 0}).append([1, 2])
        >>> LineJournal(file, {"seed": 0}).lines
        [1, 2]
    """

    def __init__(self, file: Path | None, setting: Mapping[str, Any], what: str = "a measurement") -> None:
        self.file, self.what = file, what
        self.lines: list[Any] = []
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        given = json.loads(json.dumps(setting))
        with file.open("a+", encoding="utf-8") as out, locked(out):
            found = _read(file)
            if not found:
                out.write(json.dumps(given) + "\n")
                return
        if found[0] != given:
            self.refuse(f"another setting: {found[0]}, not {given}")
        self.lines = found[1:]

    def append(self, values: Iterable[Any]) -> None:
        """Append lines in one write."""
        if self.file is not None:
            text = "".join(json.dumps(value) + "\n" for value in values)
            with self.file.open("a", encoding="utf-8") as out, locked(out):
                out.write(text)

    def keep(self, count: int) -> None:
        """Cut the file to its setting and the first lines.

        Raises:
            ValueError: If another run has appended lines meanwhile.
        """
        if self.file is None or count == len(self.lines):
            return
        with self.file.open("r+", encoding="utf-8") as held, locked(held):
            text = held.read()
            if text.count("\n") != 1 + len(self.lines):
                self.refuse("the lines of another run, which is at work on it")
            whole = "".join(line + "\n" for line in text.split("\n")[: 1 + count])
            os.truncate(self.file, len(whole.encode()))
        self.lines = self.lines[:count]

    def refuse(self, holds: str) -> None:
        """Raise a ValueError on a file that holds something else."""
        raise ValueError(f"{self.file} holds {self.what} of {holds}. {_WAY_OUT}")


class Journal:
    """Stores the parts of a measurement as they are computed, a line each.

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
        self._lines = LineJournal(file, setting or {}, "parts")
        self._parts = dict(_part(file, number, line) for number, line in enumerate(self._lines.lines, 2))

    def __contains__(self, key: str) -> bool:
        return key in self._parts

    def get(self, key: str, make: Callable[[], Found]) -> Found:
        """Return a stored part, or compute and store it."""
        if key not in self._parts:
            self._parts[key] = make()
            self._lines.append([[key, self._parts[key]]])
        found: Found = self._parts[key]
        return found


def _read(file: Path) -> list[Any]:
    """Return the file's lines; a truncated last line is removed."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no journal: it is not UTF-8 text. {_WAY_OUT}") from error
    if text and text[0] != "{":
        raise ValueError(f"{file} is no journal. {_WAY_OUT}")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        os.truncate(file, len(whole.encode()))  # a kill leaves one or the other
    return [_line(file, number, line) for number, line in enumerate(whole.split("\n")[:-1], 1)]


def _line(file: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"{file}, line {number}, is damaged: {error}. {_WAY_OUT}") from error


def _part(file: Path | None, number: int, line: Any) -> tuple[str, Any]:
    if isinstance(line, list) and len(line) == 2 and isinstance(line[0], str):
        return line[0], line[1]
    raise ValueError(f"{file}, line {number}, is no part of a measurement. {_WAY_OUT}")
