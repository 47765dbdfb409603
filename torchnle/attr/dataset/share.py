"""The share of one of several processes in a run: its batches, its journal, and the merging of journals."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchnle.journal import LineJournal

#: Seconds between two looks for the files of other processes.
_PAUSE = 0.2


@dataclass(frozen=True)
class Share:
    """The batches of one process in a run: every `processes`-th batch.

    Args:
        process: The index of the process.
        processes: The number of processes.

    Raises:
        ValueError: If the number is not below their count.

    Example:
        >>> list(Share(1, 3).of(8))
        [1, 4, 7]
    """

    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.process < self.processes:
            raise ValueError(
                f"process={self.process} of processes={self.processes}; pass a number from 0 up to one below "
                "the count (torchrun sets them as RANK and WORLD_SIZE)."
            )

    @classmethod
    def chosen(cls, process: int | None, processes: int | None) -> Share:
        """Return the share that was given, or torchrun's."""
        try:
            own = int(os.environ.get("RANK", 0)) if process is None else process
            count = int(os.environ.get("WORLD_SIZE", 1)) if processes is None else processes
        except ValueError as error:
            raise ValueError(f"RANK or WORLD_SIZE is no whole number: {error}.") from error
        return cls(own, count)

    def of(self, batches: int, first: int = 0) -> range:
        """Return the indices of this process's batches from `first` on."""
        return range(first + (self.process - first) % self.processes, batches, self.processes)

    def file(self, journal: Path) -> Path:
        """Name the file of this process's lines while it works."""
        return journal.with_name(f"{journal.name}.part-{self.process}-of-{self.processes}")

    def finished(self, journal: Path) -> Path:
        """Name the file of this process's lines once it has finished."""
        return journal.with_name(f"{journal.name}.done-{self.process}-of-{self.processes}")

    def all(self) -> list[Share]:
        """List all processes, this one among them."""
        return [Share(number, self.processes) for number in range(self.processes)]

    def check_leftovers(self, journal: Path) -> None:
        """Refuse a journal with parts of a run by another number of processes beside it.

        Raises:
            ValueError: If there are such parts.
        """
        pattern = re.compile(re.escape(journal.name) + r"\.(?:part|done)-\d+-of-(\d+)")
        found = [pattern.fullmatch(path.name) for path in sorted(journal.parent.glob("*-of-*"))]
        counts = {int(each[1]) for each in found if each} - {self.processes}
        if counts:
            raise ValueError(
                f"beside {journal} lie parts of a run on {min(counts)} process(es), and this is one on "
                f"{self.processes}. Go on with {min(counts)}, or remove {journal.name}.part-* and "
                f"{journal.name}.done-*."
            )


def await_all(share: Share, journal: Path, patience: float) -> None:
    """Wait until every process has finished its part.

    Raises:
        TimeoutError: If no part has grown for so many seconds.
    """
    until, before = time.monotonic() + patience, -1
    while missing := [each for each in share.all() if not each.finished(journal).exists()]:
        size = sum(each.file(journal).stat().st_size for each in missing if each.file(journal).exists())
        if size != before:
            until, before = time.monotonic() + patience, size
        if time.monotonic() > until:
            raise TimeoutError(
                f"process(es) {[each.process for each in missing]} wrote nothing for {patience:.0f} s. "
                "Run the same command again: what is done is kept."
            )
        time.sleep(_PAUSE)


def join(
    share: Share, line_journal: LineJournal, lines: int, setting: Mapping[str, Any], sizes: Sequence[int]
) -> None:
    """Merge the parts of all processes into the journal, which then equals that of a single process.

    Args:
        share: Of any of the processes; all have finished.
        line_journal: The journal.
        lines: How many of its lines are kept: whole batches.
        setting: Of the run; a part's is that with the process.
        sizes: The number of lines of each batch after these.
    """
    journal = line_journal.file
    if journal is None:
        return
    made = journal.with_name(f"{journal.name}.joining")
    parts = share.all()
    with ExitStack() as stack:
        held = [stack.enter_context(each.finished(journal).open("rb")) for each in parts]
        before = stack.enter_context(journal.open("rb"))
        out = stack.enter_context(made.open("wb"))
        for part in held:
            next(part)  # its setting
        out.writelines(line for line, _ in zip(before, range(1 + lines), strict=False))
        first = lines // int(setting["batch_size"])
        for batch, size in enumerate(sizes, first):
            out.writelines(next(held[batch % share.processes]) for _ in range(size))
    made.replace(journal)
    remove(share, journal)


def remove(share: Share, journal: Path) -> None:
    """Remove the parts of all processes."""
    for each in share.all():
        each.finished(journal).unlink(missing_ok=True)
        each.file(journal).unlink(missing_ok=True)
