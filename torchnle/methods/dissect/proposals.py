"""A log on disk of every unit's candidate labels, from which a stopped run resumes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from torchnle.methods.dissect.candidates.proposers import Proposal

_log = logging.getLogger(__name__)


class ProposalLog:
    """Stores each unit's proposal as soon as it is made, one line of JSON each.

    Args:
        file: The file; None = nothing is stored.

    Example:
        >>> log = ProposalLog(None)
        >>> log.get(0, lambda: Proposal(("a hen",))).labels
        ('a hen',)
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._found = {} if file is None else _read(file)

    def get(self, unit: int, make: Callable[[], Proposal]) -> Proposal:
        """Return a unit's stored proposal, or make and store it."""
        if unit not in self._found:
            self._found[unit] = make()
            self._write(unit)
        return self._found[unit]

    def _write(self, unit: int) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps([unit, asdict(self._found[unit])]) + "\n")
        except OSError as error:
            _log.warning("the candidates of unit %d were not kept (%s).", unit, error)
            self._file = None


def _read(file: Path) -> dict[int, Proposal]:
    """The proposals of whole lines; one that was cut off is removed, a damaged one left out."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return {}
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole, encoding="utf-8")
    found = {}
    for line in whole.splitlines():
        try:
            unit, parts = json.loads(line)
            found[int(unit)] = Proposal(tuple(parts["labels"]), tuple(parts["captions"]), parts["note"])
        except (ValueError, KeyError, TypeError):  # noqa: PERF203
            _log.warning("a line of '%s' is damaged; its unit is proposed again.", file)
    return found
