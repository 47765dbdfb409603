"""Label units in processes that are killed at random moments, and in two at once: the same bits."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measurements.units.cost import pictures


def measure(
    stamps: Path, folder: Path, *, count: int, units: int, kills: int, seed: int = 0
) -> dict[str, Any]:
    """Compare the labels of undisturbed, killed and divided runs, byte for byte.

    Args:
        stamps: The cut-outs that the images are made of.
        folder: Where images and states are kept; the states are emptied first.
        count: Images.
        units: Units, whose captions the embedded language model summarises.
        kills: How often a run is killed before it may end.
        seed: Of the moments.
    """
    shown = pictures(stamps, folder, count)
    work = folder / "interrupted"
    for old in work.glob("*/*"):
        old.unlink()
    began = time.monotonic()
    whole = _Run(work / "whole", shown, units)
    whole.finish()
    seconds = time.monotonic() - began
    killed = _Run(work / "killed", shown, units)
    draws = random.Random(seed)
    moments = [round(draws.uniform(0.2, 1.0) * seconds, 2) for _ in range(kills)]
    died = [killed.kill(after) for after in moments]
    killed.finish()
    two = [_Run(work / "two", shown, units, process=i, processes=2) for i in range(2)]
    for process in [run.start() for run in two]:
        if process.wait():
            raise ValueError("one of two processes failed; see its messages above.")
    return {
        "images": count,
        "units": units,
        "seconds_undisturbed": seconds,
        "killed_after": moments,
        "killed": sum(died),
        "killed_run_is_the_same": killed.digest == whole.digest,
        "two_processes_are_the_same": [run.digest == whole.digest for run in two],
        "labels": whole.digest,
    }


class _Run:
    """A run in a process of its own, with a state that outlives it."""

    def __init__(self, folder: Path, shown: Path, units: int, process: int = 0, processes: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / f"labels.{process}.json"
        self.command = [sys.executable, "-m", "measurements.units.worker", str(shown), str(folder)]
        self.command += [str(self.output), str(units)]
        self.environment = os.environ | {"RANK": str(process), "WORLD_SIZE": str(processes)}

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, env=self.environment)

    def finish(self) -> None:
        if code := self.start().wait():
            raise ValueError(f"the run ended with {code}; see its messages above.")

    def kill(self, after: float) -> bool:
        """Kill the run after some seconds; False if it had ended before."""
        process = self.start()
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
        return False

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.output.read_bytes()).hexdigest()
