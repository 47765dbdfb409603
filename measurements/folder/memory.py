"""The memory of a process and of those it has started, while it works."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil


class MemoryWatch:
    """Samples the memory of this process and its children; pages that they share count once (PSS).

    Args:
        pause: Seconds between two samples.

    Attributes:
        samples: (seconds since the start, megabytes), in order.
    """

    def __init__(self, pause: float = 0.5) -> None:
        self.samples: list[tuple[float, float]] = []
        self._pause, self._done = pause, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._begun = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def flatness(self, since: float) -> dict[str, float]:
        """Return the least, the largest and their difference from a moment on, in megabytes."""
        values = [megabytes for second, megabytes in self.samples if second >= since] or [0.0]
        return {"least": min(values), "most": max(values), "range": max(values) - min(values)}

    def _watch(self) -> None:
        while not self._done.wait(self._pause):
            self.samples.append((time.perf_counter() - self._begun, _megabytes()))


def _megabytes() -> float:
    own = psutil.Process()
    return sum(map(_own_megabytes, [own, *own.children(recursive=True)]))


def _own_megabytes(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 1e6
    except psutil.Error:  # it has ended meanwhile
        return 0.0
