"""Journal: the results of a long measurement in a file, from which a killed run resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")


class Journal:
    """Stores the parts of a measurement as they are computed, a line of JSON each.

    The first line holds the setting; a file with another setting is refused.

    Args:
        file: The file; None = nothing is stored.
        setting: Everything that the parts depend on, as JSON keeps it.

    Raises:
        ValueError: If the file holds the parts of a measurement with another setting.

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
        found = _lines(file)
        given = json.loads(json.dumps(setting or {}))
        if not found:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(given) + "\n", encoding="utf-8")
            return
        if found[0] != given:
            raise ValueError(
                f"{file} holds parts of another measurement: {found[0]}, not {given}. Give another folder, "
                "or remove the file."
            )
        self._parts = dict(found[1:])

    def get(self, key: str, make: Callable[[], Found]) -> Found:
        """Return a stored part, or compute and store it."""
        if key not in self._parts:
            self._parts[key] = make()
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps([key, self._parts[key]]) + "\n")
        found: Found = self._parts[key]
        return found


def _lines(file: Path) -> list[Any]:
    """Return the file's lines; a truncated last line is removed."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]
