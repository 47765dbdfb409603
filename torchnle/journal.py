"""Journals: results of a long run as lines of JSON in a file, from which a killed run resumes."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
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

    The lines are read from the file whenever they are needed, so that a long file takes no memory.

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
        self._ends = array("q", [0])  # of the setting and of each line, in bytes
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        given = json.loads(json.dumps(setting))
        with file.open("a+", encoding="utf-8") as out, locked(out):
            found, self._ends = _read(file)
            if found is None:
                out.write(json.dumps(given) + "\n")
                self._ends = array("q", [len(json.dumps(given)) + 1])
                return
        if found != given:
            self.refuse(f"another setting: {found}, not {given}")

    def __len__(self) -> int:
        """Count the lines that the file held, without the setting."""
        return len(self._ends) - 1

    @property
    def lines(self) -> list[Any]:
        """The lines that the file held, without the setting."""
        return list(self.values())

    def values(self, start: int = 0) -> Iterator[Any]:
        """Yield the lines that the file held, from a line on, one at a time."""
        if self.file is None or start >= len(self):
            return
        with self.file.open("rb") as held:
            held.seek(self._ends[start])
            for line in islice(held, len(self) - start):
                yield json.loads(line)

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
        if self.file is None or count == len(self):
            return
        with self.file.open("r+b") as held, locked(held):
            if held.seek(0, os.SEEK_END) != self._ends[-1]:
                self.refuse("the lines of another run, which is at work on it")
            os.truncate(self.file, self._ends[count])
        self._ends = self._ends[: count + 1]

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


def read_lines(file: Path) -> Iterator[Any]:
    """Yield the lines of a journal, whatever its setting, one at a time.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "lines.jsonl"
        >>> LineJournal(file, {"seed": 0}).append([1, 2])
        >>> list(read_lines(file))
        [1, 2]
    """
    with file.open("rb") as held:
        for number, line in enumerate(held, 1):
            if number > 1:
                yield _line(file, number, line)


def _read(file: Path) -> tuple[Any, array[int]]:
    """Return the setting, None if there is none, and the ends of all lines; a truncated one is removed."""
    setting, ends = None, array("q")
    with file.open("rb") as held:
        for number, line in enumerate(held, 1):
            if number == 1 and not line.startswith(b"{"):
                _line(file, number, line)
                raise ValueError(f"{file} is no journal. {_WAY_OUT}")
            if not line.endswith(b"\n"):
                os.truncate(file, ends[-1] if ends else 0)  # a kill leaves one or the other
                break
            found = _line(file, number, line)
            setting = found if number == 1 else setting
            ends.append((ends[-1] if ends else 0) + len(line))
    return setting, ends


def _line(file: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no journal: line {number} is not UTF-8 text. {_WAY_OUT}") from error
    except ValueError as error:
        raise ValueError(f"{file}, line {number}, is damaged: {error}. {_WAY_OUT}") from error


def _part(file: Path | None, number: int, line: Any) -> tuple[str, Any]:
    if isinstance(line, list) and len(line) == 2 and isinstance(line[0], str):
        return line[0], line[1]
    raise ValueError(f"{file}, line {number}, is no part of a measurement. {_WAY_OUT}")
